/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `modelfs recover`: a new state in the place of one that was lost, damaged or replayed. Floors
 * come from whatever can still be verified and only rise.
 */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"

struct found {
	struct mfs_manifest *m; /* the highest (key_epoch, release) */
	struct mfs_signed bytes;
};

static bool
higher(const struct mfs_manifest *a, int64_t epoch, int64_t release)
{
	return a->key_epoch > epoch || (a->key_epoch == epoch && a->release > release);
}

/* Every manifest below dirfd with valid signatures that belongs to model i; the highest stays in f. */
static enum mfs_code
scan(const struct mfs_engine_args *args, int dirfd, size_t i, struct found *f, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &args->config->models[i];
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = mfs_keys_trust(args->keys, i);
	mfs_autofree struct mfs_sha256 *list = NULL;
	size_t n;
	enum mfs_code code = mfs_signed_list(dirfd, &list, &n, err);

	for (size_t k = 0; code == MFS_OK && k < n; k++) {
		MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
		struct mfs_signed s;

		if (mfs_signed_get(dirfd, &list[k], &s, NULL) != MFS_OK)
			continue;
		if (mfs_signed_verify(&s, trust, args->config->threshold, &m, NULL, NULL) == MFS_OK &&
			strcmp(m->model_id, cfg->model_id) == 0 &&
			(f->m == NULL || higher(m, f->m->key_epoch, f->m->release))) {
			mfs_manifest_free(f->m);
			mfs_signed_free(&f->bytes);
			f->m = mfs_steal(&m);
			f->bytes = s;
		} else {
			mfs_signed_free(&s);
		}
	}
	return code;
}

/*
 * Model i's record from the highest verified manifest: the floor rises to it; it becomes active
 * if nothing forbids it, it is not below the floor, and its blobs are there. Else nothing is
 * active: never an older one.
 */
static enum mfs_code
model_recover(const struct mfs_engine_args *args, size_t i, struct mfs_anchor *a, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &args->config->models[i];
	const int dirs[2] = { args->state_dirfd, mfs_store_dirfd(args->store) };
	struct mfs_anchor_model *st = mfs_anchor_find(a, cfg->id);
	struct found f = { 0 };
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code = MFS_OK;
	char detail[256];

	for (int d = 0; d < 2 && code == MFS_OK; d++)
		code = scan(args, dirs[d], i, &f, err);
	if (code == MFS_OK && f.m != NULL && st == NULL)
		code = mfs_anchor_add(a, cfg->id, cfg->model_id, &st, err);
	if (code != MFS_OK || f.m == NULL || strcmp(st->model_id, cfg->model_id) != 0) {
		/*
		 * Nothing to verify: what the readable copies say of floors stays, but nothing is active. A record
		 * of another model_id is not this model's: it stays as it is, for when the configuration is right again.
		 */
		if (code == MFS_OK && st != NULL && f.m == NULL && strcmp(st->model_id, cfg->model_id) == 0)
			st->active = st->previous = (struct mfs_vref){ 0 };
		goto out;
	}
	if (higher(f.m, st->floor_epoch, st->floor_release)) {
		st->floor_epoch = f.m->key_epoch;
		st->floor_release = f.m->release;
		st->floor_manifest = f.m->id;
	}
	if (f.m->key_epoch != st->floor_epoch || f.m->release != st->floor_release)
		(void)mfs_fail(&why, MFS_ROLLBACK_ATTEMPT, "release %lld is below the floor", (long long)f.m->release);
	else if (mfs_engine_blobs_check(args->store, f.m, &why) == MFS_OK &&
		(code = mfs_anchor_activate(st, f.m, args->config->retain, true, err)) == MFS_OK)
		(void)mfs_decide_retained(st, &st->active, &cfg->minimum, &why);
	if (code == MFS_OK && why.code != MFS_OK)
		st->active = (struct mfs_vref){ 0 };
	else if (code == MFS_OK && (code = mfs_signed_put(dirs[0], &f.m->id, &f.bytes, err)) == MFS_OK)
		code = mfs_signed_put(dirs[1], &f.m->id, &f.bytes, err);
	if (code == MFS_OK) {
		(void)snprintf(detail, sizeof(detail), "floor %lld (key epoch %lld); %.180s", (long long)st->floor_release,
			(long long)st->floor_epoch, why.code == MFS_OK ? "active again" : why.msg);
		mfs_event(args->events, &(struct mfs_event){ .model = cfg->id, .code = why.code, .source = "recover",
			.version = f.m->version, .to = why.code == MFS_OK ? f.m->version : NULL, .detail = detail });
	}
out:
	mfs_manifest_free(f.m);
	mfs_signed_free(&f.bytes);
	return code;
}

/* Records of the cycle for what is active now: counters never go back, the swap has a time of its own. */
static enum mfs_code
cycle_recover(const struct mfs_config *c, struct mfs_trusted *t, struct mfs_err *err)
{
	struct mfs_cycle *cycle = mfs_trusted_cycle(t);
	enum mfs_code code;

	for (size_t i = 0; i < c->n_models; i++) {
		const struct mfs_anchor_model *st = mfs_anchor_find(mfs_trusted_anchor(t), c->models[i].id);
		struct mfs_cycle_model *cm = mfs_cycle_find(cycle, c->models[i].id);
		bool current = false;

		if (cm == NULL) {
			if ((code = mfs_cycle_add(cycle, c->models[i].id, &cm, err)) != MFS_OK)
				return code;
			mfs_cycle_renew(cm);
		}
		if (st == NULL || mfs_sha256_is_zero(&st->active.manifest))
			continue;
		for (size_t k = 0; k < cm->n_activations; k++)
			current = current || (cm->activations[k].time_ns == cm->last_activation_ns &&
				mfs_sha256_equal(&cm->activations[k].manifest, &st->active.manifest));
		if (!current)
			mfs_cycle_activated(cm, st, 0);
	}
	return mfs_trusted_cycle_save(t, err);
}

enum mfs_code
mfs_engine_recover(const struct mfs_engine_args *args, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trusted) struct mfs_trusted *t = NULL;
	MFS_CLEANUP(mfs_cleanup_counter) struct mfs_counter *counter = NULL;
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	enum mfs_code code;

	if (mfs_keys_state(args->keys) == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "recover: no state key");
	if ((code = mfs_counter_open(args->config->counter, args->state_dirfd, &counter, err)) != MFS_OK ||
		(code = mfs_trusted_open(args->state_dirfd, mfs_store_dirfd(args->store), mfs_keys_state(args->keys), counter,
			 MFS_TRUSTED_RECOVER, &t, err)) != MFS_OK)
		return code;
	mfs_event(args->events, &(struct mfs_event){ .code = MFS_OK, .source = "recover", .detail = mfs_trusted_found(t) });
	if ((code = mfs_anchor_copy(mfs_trusted_anchor(t), &a, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < args->config->n_models; i++)
		if ((code = model_recover(args, i, a, err)) != MFS_OK)
			return mfs_err_context(err, "recover: model %s: ", args->config->models[i].id);
	if ((code = mfs_trusted_commit(t, a, err)) != MFS_OK)
		return code;
	(void)mfs_steal(&a);
	return cycle_recover(args->config, t, err);
}
