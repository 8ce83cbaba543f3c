/* SPDX-License-Identifier: Apache-2.0 */
/* trust.json and the policies of a repository: looked at, accepted, written down, and acted on. */
#include <stdio.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "refresh_int.h"

#define BATCH_BYTES (8u << 20) /* of policies that wait for one write of the anchor */
#define BATCH_COUNT 256u

struct news { /* an accepted policy */
	size_t model;
	struct mfs_policy *p;
};

struct batch {
	struct mfs_refresh_run *x;
	struct news list[BATCH_COUNT];
	size_t n, bytes;
	bool roles;      /* the roles of the run are not in the anchor yet */
	bool again;      /* what came for a model was not what is signed: the next run looks again */
	uint8_t *trust;  /* an accepted trust.json; NULL: the one of the anchor stays */
	size_t trust_len;
	int64_t issued;  /* greatest of the accepted policies */
};

static void
batch_clear(struct batch *b)
{
	for (size_t k = 0; k < b->n; k++)
		mfs_policy_free(b->list[k].p);
	free(b->trust);
	b->trust = NULL;
	b->n = b->bytes = 0;
}

/* ---- the anchor --------------------------------------------------------------------------------------- */

static bool
role_take(const struct mfs_tuf *t, const char *name, struct mfs_anchor_role *to)
{
	struct mfs_tuf_role role;
	struct mfs_anchor_role now = { 0 };

	if (!mfs_tuf_role_find(t, name, &role))
		return false;
	if (!role.drop)
		now = (struct mfs_anchor_role){ role.version, role.sha256 };
	if (now.version == to->version && mfs_sha256_equal(&now.sha256, &to->sha256))
		return false;
	*to = now;
	return true;
}

static enum mfs_code
model_write(const struct batch *b, const struct news *news, struct mfs_anchor *a, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &b->x->r->args.config->models[news->model];
	struct mfs_anchor_model *st = mfs_anchor_find(a, cfg->id);
	enum mfs_code code;

	if (st == NULL && (code = mfs_anchor_add(a, cfg->id, cfg->model_id, &st, err)) != MFS_OK)
		return code;
	return mfs_anchor_policy_set(st, news->p, err);
}

static enum mfs_code
anchor_write(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err)
{
	struct batch *b = user;
	const char *name = b->x->r->args.config->repos[b->x->repo].name;
	struct mfs_anchor_repo *repo;
	enum mfs_code code;

	if ((code = mfs_anchor_repo_add(a, name, &repo, err)) != MFS_OK)
		return code;
	if (b->roles) {
		*write = role_take(b->x->t, "root", &repo->root) || *write;
		*write = role_take(b->x->t, "snapshot", &repo->snapshot) || *write;
		*write = role_take(b->x->t, "targets", &repo->targets) || *write;
	}
	if (b->trust != NULL) {
		free(repo->trust_json);
		repo->trust_json = strndup((const char *)b->trust, b->trust_len);
		if (repo->trust_json == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "repository %s", name);
		*write = true;
	}
	for (size_t k = 0; k < b->n; k++) {
		if ((code = model_write(b, &b->list[k], a, err)) != MFS_OK)
			return code;
		*write = true;
	}
	return MFS_OK;
}

/* ---- acting --------------------------------------------------------------------------------------------- */

static void
enforce(struct mfs_refresh_run *x, size_t i)
{
	struct mfs_err err = MFS_ERR_INIT;
	bool changed;

	if (mfs_engine_enforce(x->r->args.engine, i, &changed, NULL, &err) != MFS_OK)
		mfs_log_err(x->r->args.config->models[i].id, &err);
	x->changed[i] = x->changed[i] || changed;
}

static void
trust_act(struct batch *b)
{
	const struct mfs_refresh_args *a = &b->x->r->args;
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_keys_trust_set(a->keys, b->x->repo, MFS_SPAN(b->trust, b->trust_len), &err) != MFS_OK) {
		mfs_log_err(a->config->repos[b->x->repo].name, &err);
		return;
	}
	for (size_t i = 0; i < a->config->n_models; i++) {
		bool changed = false;

		if (a->config->models[i].repo != (ssize_t)b->x->repo)
			continue;
		if (mfs_engine_recheck(a->engine, i, &changed, &err) != MFS_OK)
			mfs_log_err(a->config->models[i].id, &err);
		b->x->changed[i] = b->x->changed[i] || changed;
	}
}

/* Why policies could not be renewed, into the cycle document: a restart must not let in what they may forbid. */
static bool
states_write(void *user, struct mfs_cycle *c)
{
	const struct batch *b = user;
	struct mfs_refresh *r = b->x->r;
	const struct mfs_config *config = r->args.config;
	bool write = false;

	(void)pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < config->n_models; i++) {
		const struct mfs_refresh_model *m = &r->models[i];
		/* Without any policy there is nothing that could be activated. */
		const enum mfs_code why = m->code == MFS_NOT_SELECTED ? MFS_OK : m->code;
		struct mfs_cycle_model *to;

		if (config->models[i].repo != (ssize_t)b->x->repo)
			continue;
		to = mfs_cycle_find(c, config->models[i].id);
		if (to == NULL ? why == MFS_OK || mfs_cycle_add(c, config->models[i].id, &to, NULL) != MFS_OK : to->policy_why == why)
			continue;
		to->policy_why = why;
		free(to->policy_detail);
		to->policy_detail = why == MFS_OK ? NULL : mfs_engine_text(m->detail);
		write = true;
	}
	(void)pthread_mutex_unlock(&r->lock);
	return write;
}

/* It is written down as far as that goes; in force it is in any case. A key that comes waits, one that was taken away goes. */
static enum mfs_code
tighten(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err)
{
	const struct batch *b = user;
	struct mfs_anchor_repo *repo = mfs_anchor_repo_find(a, b->x->r->args.config->repos[b->x->repo].name);

	if (repo != NULL && b->trust != NULL) {
		enum mfs_code code = mfs_anchor_trust_cut(repo, MFS_SPAN(b->trust, b->trust_len), write, err);

		if (code != MFS_OK)
			return code;
	}
	for (size_t k = 0; k < b->n; k++) {
		struct mfs_anchor_model *st = mfs_anchor_find(a, b->x->r->args.config->models[b->list[k].model].id);
		enum mfs_code code;

		if (st == NULL) /* nothing was ever here that it could forbid */
			continue;
		if ((code = mfs_anchor_policy_tighten(st, b->list[k].p, err)) != MFS_OK)
			return code;
		*write = true;
	}
	return MFS_OK;
}

/* Metadata, policies and what they say of each other, in the order of a power cut. */
static enum mfs_code
flush_write(struct batch *b, struct mfs_err *err)
{
	struct mfs_refresh *r = b->x->r;
	enum mfs_code code;

	/* Before the anchor names the metadata that speaks of them. */
	if ((code = mfs_engine_cycle_update(r->args.engine, states_write, b, err)) != MFS_OK)
		return code;
	return mfs_engine_anchor_update(r->args.engine, anchor_write, b, err);
}

/*
 * Written down first, then acted on: what a power cut leaves acts at the next start. What cannot be written down
 * acts too; then the anchor knows neither the metadata nor the policies of the run, which are new again next time.
 */
static enum mfs_code
flush(struct batch *b, struct mfs_err *err)
{
	struct mfs_refresh_run *x = b->x;
	struct mfs_refresh *r = x->r;
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	if (x->unwritten.code == MFS_OK && flush_write(b, &why) != MFS_OK)
		mfs_refresh_unwritten(x, &why);
	if (x->unwritten.code != MFS_OK && (b->n > 0 || b->trust != NULL) &&
		(code = mfs_engine_anchor_hold(r->args.engine, tighten, b, err)) != MFS_OK)
		return code;
	if (x->unwritten.code == MFS_OK && b->roles) {
		mfs_refresh_tuf_settle(r, x->repo);
		b->roles = false;
	}
	if (b->trust != NULL)
		trust_act(b);
	for (size_t k = 0; k < b->n; k++) {
		if (x->unwritten.code == MFS_OK)
			mfs_refresh_policy_settle(r, b->list[k].model);
		enforce(x, b->list[k].model);
		if (b->list[k].p->issued > b->issued)
			b->issued = b->list[k].p->issued;
	}
	x->res.news = x->res.news || b->trust != NULL || b->n > 0;
	batch_clear(b);
	return MFS_OK;
}

enum mfs_code
mfs_refresh_roles_write(struct mfs_refresh_run *x, struct mfs_err *err)
{
	mfs_autofree struct batch *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "refresh");
	*b = (struct batch){ .x = x, .roles = true };
	return flush(b, err);
}

/* ---- trust.json -------------------------------------------------------------------------------------------- */

static enum mfs_code
trust_look(struct batch *b, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	struct mfs_refresh_run *x = b->x;
	const char *repo = x->r->args.config->repos[x->repo].name;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_tuf_target target;
	struct mfs_sha256 is;
	enum mfs_code code;
	bool found;
	size_t len;

	if ((code = mfs_refresh_target_find(x, "trust.json", &found, &target, err)) != MFS_OK)
		return code;
	if (!found && !mfs_sha256_is_zero(&x->known.trust))
		return mfs_fail(err, MFS_POLICY_REJECTED, "repository %s: trust.json is gone: the keys that it named stay trusted, and "
			"nothing new is activated until it is back", repo);
	if (!found || (target.has_sha256 && mfs_sha256_equal(&target.sha256, &x->known.trust)))
		return MFS_OK;
	if ((code = mfs_refresh_target_get(x, &target, MFS_TRUSTLIST_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(bytes, len), &is, err)) != MFS_OK)
		return code;
	if (mfs_sha256_equal(&is, &x->known.trust))
		return MFS_OK;
	if ((code = mfs_trustlist_parse(MFS_SPAN(bytes, len), &list, err)) != MFS_OK)
		return mfs_err_context(err, "repository %s: ", repo);
	b->trust = mfs_steal(&bytes);
	b->trust_len = len;
	return MFS_OK;
}

/* ---- policies ------------------------------------------------------------------------------------------------ */

struct in_force {
	const char *id;
	const struct mfs_policy *p; /* to be compared; NULL: the repository has none */
	struct mfs_sha256 sha256;   /* of the policy in force; zero: none */
	enum mfs_policy_news news;
	enum mfs_code code;
	struct mfs_err err;
};

static void
ask_sha256(void *user, const struct mfs_anchor *a)
{
	struct in_force *f = user;
	const struct mfs_anchor_model *st = mfs_anchor_find(a, f->id);

	if (st != NULL && st->policy_sequence != 0)
		f->sha256 = st->policy_sha256;
}

static void
ask_accept(void *user, const struct mfs_anchor *a)
{
	struct in_force *f = user;

	f->code = mfs_policy_accept(mfs_anchor_find(a, f->id), f->p, &f->news, &f->err);
}

void
mfs_refresh_sweep(struct mfs_refresh_run *x)
{
	const struct mfs_config *c = x->r->args.config;

	if (x->r->repos[x->repo].swept)
		return;
	x->r->repos[x->repo].swept = true;
	mfs_refresh_tuf_sweep(x->r, x->repo, &x->known);
	for (size_t i = 0; i < c->n_models; i++) {
		struct in_force f = { .id = c->models[i].id, .err = MFS_ERR_INIT };

		if (c->models[i].repo != (ssize_t)x->repo)
			continue;
		mfs_engine_anchor_read(x->r->args.engine, ask_sha256, &f);
		mfs_refresh_policy_sweep(x->r, i, &f.sha256);
	}
}

static bool
stored(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *want)
{
	mfs_autofree uint8_t *bytes = NULL;
	size_t len;

	return mfs_refresh_policy_load(r, i, want, &bytes, &len, NULL) == MFS_OK;
}

/* The trouble of one model alone: not the network's, not this host's. */
static bool
is_verdict(enum mfs_code code)
{
	enum mfs_class class = mfs_code_class(code);

	return code != MFS_OK && (class == MFS_CLASS_TRUST || class == MFS_CLASS_POLICY || code == MFS_CONFIG_INVALID);
}

/* Its bytes under the new name. Those that wait for the anchor take room that settling them gives back. false: not kept */
static bool
policy_keep(struct batch *b, size_t i, struct mfs_span bytes)
{
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code = mfs_refresh_policy_put(b->x->r, i, bytes, &why);

	if (code == MFS_INSUFFICIENT_STORAGE && b->n > 0 && b->x->unwritten.code == MFS_OK && flush(b, &why) == MFS_OK)
		code = mfs_refresh_policy_put(b->x->r, i, bytes, &why);
	if (code != MFS_OK)
		mfs_refresh_unwritten(b->x, &why);
	return code == MFS_OK;
}

/* One policy as the repository has it now. A refusal is the model's; *err and the result are for the others. */
static enum mfs_code
policy_look(struct batch *b, size_t i, struct mfs_err *err)
{
	struct mfs_refresh_run *x = b->x;
	const struct mfs_config_model *cfg = &x->r->args.config->models[i];
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	struct in_force f = { .id = cfg->id, .err = MFS_ERR_INIT };
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_tuf_target target;
	char path[MFS_ID_MAX + 16];
	enum mfs_code code;
	bool found, kept;
	size_t len = 0;

	mfs_engine_anchor_read(x->r->args.engine, ask_sha256, &f);
	(void)snprintf(path, sizeof(path), "%s/policy.json", cfg->model_id);
	if ((code = mfs_refresh_target_find(x, path, &found, &target, err)) != MFS_OK)
		return code;
	if (found && target.has_sha256 && mfs_sha256_equal(&target.sha256, &f.sha256) && stored(x->r, i, &f.sha256))
		return MFS_OK;
	if (found && ((code = mfs_refresh_target_get(x, &target, MFS_POLICY_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_policy_parse(MFS_SPAN(bytes, len), cfg->model_id, &p, err)) != MFS_OK))
		return code;
	f.p = p;
	mfs_engine_anchor_read(x->r->args.engine, ask_accept, &f);
	if (f.code != MFS_OK)
		return mfs_fail(err, f.code, "%s", f.err.msg);
	kept = policy_keep(b, i, MFS_SPAN(bytes, len));
	if (f.news == MFS_POLICY_SAME) {
		if (kept)
			mfs_refresh_policy_settle(x->r, i);
		return MFS_OK;
	}
	b->list[b->n++] = (struct news){ i, mfs_steal(&p) };
	b->bytes += len;
	return MFS_OK;
}

/* A refusal is told once; that of all models of a repository as the repository's. */
static void
policy_state_set(struct mfs_refresh *r, size_t i, const struct mfs_err *why, bool tell)
{
	struct mfs_refresh_model *m = &r->models[i];
	bool told;

	(void)pthread_mutex_lock(&r->lock);
	told = m->code == why->code && strncmp(m->detail, why->msg, sizeof(m->detail) - 1) == 0;
	m->code = why->code;
	(void)snprintf(m->detail, sizeof(m->detail), "%.*s", (int)sizeof(m->detail) - 1, why->msg);
	(void)pthread_mutex_unlock(&r->lock);
	if (tell && !told && why->code != MFS_OK && why->code != MFS_NOT_SELECTED)
		mfs_engine_happened(r->args.engine, i, NULL, NULL, why->code, why->msg);
}

/*
 * One model's file that a server does not have must not keep the others from their revocations. Nor must a
 * list of keys that could not be taken; but while nobody knows which keys count, nothing new is activated.
 */
static enum mfs_code
models_look(struct batch *b, const struct mfs_err *trust, struct mfs_err *err)
{
	const struct mfs_config *c = b->x->r->args.config;
	struct mfs_err missing = MFS_ERR_INIT;
	enum mfs_code code;

	for (size_t i = 0; i < c->n_models; i++) {
		struct mfs_err why = MFS_ERR_INIT;

		if (c->models[i].repo != (ssize_t)b->x->repo)
			continue;
		code = policy_look(b, i, &why);
		if (code == MFS_NET_HTTP && missing.code == MFS_OK)
			missing = why;
		if (code != MFS_OK && code != MFS_NET_HTTP && code != MFS_METADATA_EXPIRED && !is_verdict(code)) {
			struct mfs_err late = MFS_ERR_INIT;

			/* The rest would fail too; what came before acts now. The next run looks at all of them again. */
			if ((b->n > 0 || b->trust != NULL) && flush(b, &late) != MFS_OK)
				mfs_log_err(c->repos[b->x->repo].name, &late);
			if (err != NULL)
				*err = why;
			return code;
		}
		/* Whoever spoilt it must not hide a revocation until the next snapshot. */
		b->again = b->again || mfs_code_class(code) == MFS_CLASS_TRUST;
		policy_state_set(b->x->r, i, code == MFS_OK ? trust : &why, code != MFS_OK);
		if ((b->n == BATCH_COUNT || b->bytes >= BATCH_BYTES) && (code = flush(b, err)) != MFS_OK)
			return code;
	}
	if ((code = flush(b, err)) == MFS_OK && missing.code != MFS_OK) {
		if (err != NULL)
			*err = missing;
		return missing.code;
	}
	return code;
}

/* ---- the time floor ---------------------------------------------------------------------------------------- */

/*
 * No policy can push the clock further than the timestamp of its own set lives: whoever holds the key of
 * a policy alone cannot make every later timestamp look expired for long. A new timestamp key starts anew, for
 * what came from this repository.
 */
static void
floor_raise(struct mfs_refresh_run *x, int64_t issued)
{
	struct mfs_tuf_role timestamp;
	struct mfs_err why = MFS_ERR_INIT;

	if (!mfs_tuf_role_find(x->t, "timestamp", &timestamp) || timestamp.drop)
		issued = 0;
	else if (issued > timestamp.expires)
		issued = timestamp.expires;
	/* It never falls for a root that could not be written. */
	if (mfs_refresh_floor_set(x->r, x->repo, issued, mfs_tuf_rotated(x->t, "timestamp") && x->unwritten.code == MFS_OK, &why) !=
		MFS_OK)
		mfs_refresh_unwritten(x, &why);
}

/* ---- all of it ----------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_refresh_policies(struct mfs_refresh_run *x, struct mfs_err *err)
{
	struct mfs_refresh_repo *repo = &x->r->repos[x->repo];
	mfs_autofree struct batch *b = calloc(1, sizeof(*b));
	struct mfs_err trust = MFS_ERR_INIT;
	struct mfs_tuf_role snapshot;
	enum mfs_code code;

	if (b == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "refresh");
	if (!mfs_tuf_role_find(x->t, "snapshot", &snapshot))
		return mfs_fail(err, MFS_INTERNAL, "refresh: complete without a snapshot");
	*b = (struct batch){ .x = x, .roles = true };
	x->res.news = x->res.news || !mfs_sha256_equal(&snapshot.sha256, &x->known.snapshot.sha256);
	if (mfs_sha256_equal(&repo->complete, &snapshot.sha256)) {
		code = flush(b, err);
		batch_clear(b);
		if (code == MFS_OK)
			floor_raise(x, b->issued);
		return code;
	}
	/* Keys first: what they say counts for every version that a policy then leads to. */
	code = trust_look(b, &trust);
	if (code != MFS_OK && !is_verdict(code)) {
		if (err != NULL)
			*err = trust;
	} else {
		if (code == MFS_OK)
			trust = (struct mfs_err)MFS_ERR_INIT;
		code = models_look(b, &trust, err);
	}
	batch_clear(b);
	mfs_refresh_tuf_store_delegated(x->r, x->repo, x->t);
	if (code == MFS_OK)
		floor_raise(x, b->issued);
	if (code == MFS_OK && trust.code != MFS_OK) {
		if (err != NULL)
			*err = trust;
		return trust.code;
	}
	if (code == MFS_OK && !b->again && x->unwritten.code == MFS_OK)
		repo->complete = snapshot.sha256;
	return code;
}
