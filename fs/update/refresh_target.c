/* SPDX-License-Identifier: Apache-2.0 */
/* What a model should run now: the policy's choice, and the signed manifest behind it. */
#include <stdio.h>
#include <string.h>

#include "io.h"
#include "refresh_int.h"

void
mfs_refresh_target_clear(struct mfs_refresh_target *t)
{
	mfs_signed_free(&t->bytes);
	mfs_manifest_free(t->m);
	*t = (struct mfs_refresh_target){ 0 };
}

void
mfs_refresh_device(const struct mfs_config *c, size_t i, struct mfs_policy_device *out)
{
	*out = (struct mfs_policy_device){ .id = c->device_id, .class = c->device_class, .region = c->device_region,
		.channel = i < c->n_models ? c->models[i].channel : c->device_channel,
		.labels = c->labels, .n_labels = c->n_labels, .apps = c->apps, .n_apps = c->n_apps };
}

/* ---- the policy in force ---------------------------------------------------------------------------------- */

struct force {
	struct mfs_refresh *r;
	size_t i;
	bool any;
	struct mfs_sha256 sha256;
	struct mfs_sha256 active;      /* zero: none */
	struct mfs_policy_entry fetch; /* a rollback_to that is wanted; zero: none */
};

static void
force_read(void *user, const struct mfs_anchor *a)
{
	struct force *f = user;
	const struct mfs_config_model *cfg = &f->r->args.config->models[f->i];
	const struct mfs_anchor_model *st = mfs_anchor_find(a, cfg->id);
	struct mfs_enforcement x;

	if (st == NULL)
		return;
	f->any = st->policy_sequence != 0;
	f->sha256 = st->policy_sha256;
	f->active = st->active.manifest;
	mfs_decide_enforce(st, &cfg->minimum, &x);
	if (x.fetch != NULL)
		f->fetch = *x.fetch;
}

static enum mfs_code
policy_load(const struct force *f, struct mfs_policy **out, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &f->r->args.config->models[f->i];
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if (cfg->repo < 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: follows no repository", cfg->id);
	if (!f->any)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: no policy of the id %s came from repository %s yet: nothing says what "
			"to run; is this its id there?", cfg->id, cfg->model_id, f->r->args.config->repos[cfg->repo].name);
	if ((code = mfs_refresh_policy_load(f->r, f->i, &f->sha256, &bytes, &len, err)) != MFS_OK)
		return code;
	return mfs_policy_parse(MFS_SPAN(bytes, len), cfg->model_id, out, err);
}

enum mfs_code
mfs_refresh_policy(struct mfs_refresh *r, size_t i, struct mfs_policy **out, struct mfs_err *err)
{
	struct force f = { .r = r, .i = i };

	*out = NULL;
	if (i >= r->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "refresh: no model %zu", i);
	mfs_engine_anchor_read(r->args.engine, force_read, &f);
	return policy_load(&f, out, err);
}

/* ---- selection --------------------------------------------------------------------------------------------- */

static void
version_of(const struct mfs_policy_entry *e, struct mfs_vref *out)
{
	*out = (struct mfs_vref){ .manifest = e->manifest, .release = e->release };
	memcpy(out->version, e->version, sizeof(out->version));
	memcpy(out->variant, e->variant, sizeof(out->variant));
}

/* Is this version shown as the active one, and open? A withdrawn one is not. */
static bool
is_shown(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *id)
{
	struct mfs_engine_model m;
	bool shown;

	if (mfs_engine_model_get(r->args.engine, i, &m, NULL) != MFS_OK)
		return false;
	shown = m.n > 0 && m.versions[0].active && mfs_sha256_equal(&m.versions[0].v->m->id, id) &&
		m.versions[0].v->key_code != MFS_KEY_UNAVAILABLE;
	mfs_engine_model_free(&m);
	return shown;
}

/* What is wanted, into out and *entry; a rollback that a revocation asks for goes before every rollout. */
static enum mfs_code
choose(struct mfs_refresh *r, size_t i, struct mfs_policy_entry *entry, struct mfs_refresh_target *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	struct force f = { .r = r, .i = i };
	struct mfs_policy_device device;
	struct mfs_policy_choice c;
	enum mfs_code code;

	mfs_engine_anchor_read(r->args.engine, force_read, &f);
	if (!mfs_sha256_is_zero(&f.fetch.manifest)) {
		*entry = f.fetch;
		out->want = MFS_REFRESH_ROLLBACK;
		version_of(entry, &out->version);
		return MFS_OK;
	}
	mfs_refresh_device(r->args.config, i, &device);
	if ((code = policy_load(&f, &p, err)) != MFS_OK ||
		(code = mfs_policy_select(p, &device, mfs_refresh_now(r), &c, NULL, err)) != MFS_OK)
		return code;
	*entry = c.variant->entry;
	out->want = is_shown(r, i, &entry->manifest) ? MFS_REFRESH_NOTHING : MFS_REFRESH_INSTALL;
	version_of(entry, &out->version);
	memcpy(out->rollout, c.rollout->id, sizeof(out->rollout));
	out->bucket = c.bucket;
	out->fraction = c.fraction;
	out->step = c.step;
	if (c.passed != NULL)
		(void)snprintf(out->passed, sizeof(out->passed), "rollout %s: %s", c.passed->id, mfs_policy_why_text(c.passed_why));
	return MFS_OK;
}

/* ---- the manifest -------------------------------------------------------------------------------------------- */

static enum mfs_code
part_get(struct mfs_refresh_run *x, const char *folder, const char *name, size_t cap, bool *found, struct mfs_sha256 *sha256,
	uint8_t **out, size_t *len, struct mfs_err *err)
{
	char path[MFS_ID_MAX + MFS_VERSION_MAX + MFS_VARIANT_MAX + 96];
	struct mfs_tuf_target target;
	enum mfs_code code;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	*out = NULL;
	if ((code = mfs_refresh_target_find(x, path, found, &target, err)) != MFS_OK || !*found)
		return code;
	if ((code = mfs_refresh_target_get(x, &target, cap, out, len, err)) != MFS_OK)
		return code;
	return sha256 != NULL ? mfs_sha256(MFS_SPAN(*out, *len), sha256, err) : MFS_OK;
}

/* Signatures by further keys; the manifest is the one that TUF vouches for, so its list may be read. */
static enum mfs_code
extra_get(struct mfs_refresh_run *x, const char *folder, struct mfs_signed *s, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	enum mfs_code code;

	/* One that does not parse is judged by who verifies it. */
	if (mfs_manifest_parse(MFS_SPAN(s->manifest, s->manifest_len), &m, NULL) != MFS_OK || m->n_key_ids < 2)
		return MFS_OK;
	if ((s->extra = calloc(m->n_key_ids, sizeof(*s->extra))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "signatures");
	for (size_t k = 1; k < m->n_key_ids; k++) {
		struct mfs_signed_extra *e = &s->extra[s->n_extra];
		char name[96];
		bool found;

		(void)snprintf(name, sizeof(name), "signature.%s.sig", MFS_HEX(&m->key_ids[k]));
		if ((code = part_get(x, folder, name, MFS_SIGNATURE_BYTES_MAX, &found, NULL, &e->bytes, &e->len, err)) != MFS_OK)
			return code;
		if (!found)
			continue;
		e->key_id = m->key_ids[k];
		s->n_extra++;
	}
	return MFS_OK;
}

/* who names it: "the policy", "the state" */
static enum mfs_code
manifest_get(struct mfs_refresh_run *x, size_t i, const struct mfs_policy_entry *e, const char *who,
	struct mfs_refresh_target *out, struct mfs_err *err)
{
	const struct mfs_config *c = x->r->args.config;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = mfs_keys_trust(x->r->args.keys, i);
	char folder[MFS_ID_MAX + MFS_VERSION_MAX + MFS_VARIANT_MAX + 4];
	struct mfs_sha256 is = { { 0 } };
	enum mfs_code code;
	bool found;

	(void)snprintf(folder, sizeof(folder), "%s/%s/%s", c->models[i].model_id, e->version, e->variant);
	if ((code = part_get(x, folder, "manifest.json", MFS_MANIFEST_BYTES_MAX, &found, &is, &out->bytes.manifest,
		     &out->bytes.manifest_len, err)) != MFS_OK)
		return code;
	if (!found)
		return mfs_fail(err, MFS_NET_HTTP, "repository %s: %s names %s, but no release role offers it",
			c->repos[x->repo].name, who, folder);
	if (!mfs_sha256_equal(&is, &e->manifest))
		return mfs_fail(err, MFS_HASH_MISMATCH, "repository %s: %s: manifest %s, but %s names %s", c->repos[x->repo].name,
			folder, MFS_HEX(&is), who, MFS_HEX(&e->manifest));
	if ((code = part_get(x, folder, "signature.sig", MFS_SIGNATURE_BYTES_MAX, &found, NULL, &out->bytes.sig,
		     &out->bytes.sig_len, err)) != MFS_OK || (code = extra_get(x, folder, &out->bytes, err)) != MFS_OK)
		return code;
	out->judged = true; /* these are the bytes that the metadata names: what is wrong now is wrong with them */
	if ((code = mfs_signed_verify(&out->bytes, trust, c->threshold, &out->m, NULL, err)) != MFS_OK)
		return code;
	return mfs_policy_entry_check(e, c->models[i].model_id, out->m, err);
}

/*
 * The policy again, in the very run that vouches for the manifest: still there, not expired, and the one in
 * force. A run looks at policies only when the snapshot is new, and time passes without one.
 */
static enum mfs_code
policy_again(struct mfs_refresh_run *x, size_t i, struct mfs_err *err)
{
	const struct mfs_config_model *cfg = &x->r->args.config->models[i];
	struct force f = { .r = x->r, .i = i };
	struct mfs_tuf_target target;
	char path[MFS_ID_MAX + 16];
	enum mfs_code code;
	bool found;

	(void)snprintf(path, sizeof(path), "%s/policy.json", cfg->model_id);
	if ((code = mfs_refresh_target_find(x, path, &found, &target, err)) != MFS_OK)
		return code;
	mfs_engine_anchor_read(x->r->args.engine, force_read, &f);
	if (!found || (target.has_sha256 && !mfs_sha256_equal(&target.sha256, &f.sha256)))
		return mfs_fail(err, MFS_POLICY_REJECTED, "model %s: the policy in force is not the one that the repository offers",
			cfg->id);
	return MFS_OK;
}

/*
 * What stands where manifest and signatures belong is not what is signed, or not there: nobody's fault but the
 * source's, and an event once. What was judged is an event of the version.
 */
static void
manifest_tell(struct mfs_refresh_run *x, size_t i, const struct mfs_refresh_target *t, const struct mfs_err *why)
{
	const enum mfs_class class = mfs_code_class(why->code);
	struct mfs_refresh_model *m = &x->r->models[i];
	bool told;

	(void)pthread_mutex_lock(&x->r->lock);
	told = m->manifest == why->code;
	m->manifest = why->code;
	(void)pthread_mutex_unlock(&x->r->lock);
	if (!told && !t->judged && (class == MFS_CLASS_TRUST || class == MFS_CLASS_NETWORK))
		mfs_engine_happened(x->r->args.engine, i, NULL, t->version.version, why->code, why->msg);
}

static enum mfs_code
resolve(struct mfs_refresh_run *x, size_t i, struct mfs_refresh_target *out, struct mfs_err *err)
{
	struct mfs_policy_entry entry;
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	if (!mfs_refresh_run_resume(x) && (code = mfs_refresh_run_locked(x, err)) != MFS_OK)
		return code;
	if ((code = mfs_refresh_fresh(x->r, i, err)) != MFS_OK)
		return code;
	/* The run may have brought another policy. */
	if ((code = choose(x->r, i, &entry, out, err)) != MFS_OK || out->want == MFS_REFRESH_NOTHING)
		return code;
	x->unstored = true;
	if ((code = policy_again(x, i, &why)) == MFS_OK)
		code = manifest_get(x, i, &entry, "the policy", out, &why);
	if (code == MFS_OK)
		why = (struct mfs_err)MFS_ERR_INIT; /* a stored file that did not fit may have left words */
	manifest_tell(x, i, out, &why);
	if (code != MFS_OK && err != NULL)
		*err = why;
	return code;
}

enum mfs_code
mfs_refresh_target(struct mfs_refresh *r, size_t i, const struct mfs_refresh_via *via, const _Atomic int *cancel,
	struct mfs_refresh_target *out, struct mfs_err *err)
{
	struct mfs_refresh_run x = { .r = r, .remote = r->args.remote, .cancel = cancel };
	struct mfs_refresh_target local = { 0 };
	mfs_autofree bool *changed = NULL;
	struct mfs_policy_entry entry;
	enum mfs_code code;

	*out = local;
	if (i >= r->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "refresh: no model %zu", i);
	if (r->args.config->models[i].repo < 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "model %s: it has no repository: versions are installed by hand",
			r->args.config->models[i].id);
	/* Most of the time this is all: the policy is at hand, and its choice is active. */
	if ((code = choose(r, i, &entry, &local, err)) == MFS_OK && local.want == MFS_REFRESH_NOTHING) {
		char detail[256];

		/* Unless another policy is there, and could not be taken: nobody knows what that one offers. */
		if ((code = mfs_refresh_policy_state(r, i, detail)) != MFS_OK && code != MFS_NOT_SELECTED)
			return mfs_fail(err, code, "%s", detail);
		if ((code = mfs_engine_unwritten_check(r->args.engine, i, err)) != MFS_OK)
			return code;
		*out = local;
		return MFS_OK;
	}
	if (code != MFS_OK && code != MFS_IO) {
		struct mfs_err why = MFS_ERR_INIT;

		/* What is wrong with the policy says more than what the last good one has to offer. */
		if (code == MFS_NOT_SELECTED && mfs_refresh_fresh(r, i, &why) != MFS_OK && why.code != MFS_NOT_SELECTED) {
			if (err != NULL)
				*err = why;
			return why.code;
		}
		return code;
	}
	/* A run by itself would say no more than the one before, for each model. */
	if ((code = mfs_engine_room(r->args.engine, i, err)) != MFS_OK)
		return code;
	if (err != NULL)
		*err = (struct mfs_err)MFS_ERR_INIT;
	x.repo = (size_t)r->args.config->models[i].repo;
	if (via != NULL && via->remote != NULL) {
		x.remote = via->remote;
		x.via = true;
	}
	(void)pthread_mutex_lock(&r->repos[x.repo].run);
	code = resolve(&x, i, &local, err);
	changed = mfs_steal(&x.changed);
	mfs_refresh_run_share(&x, code == MFS_OK);
	(void)pthread_mutex_unlock(&r->repos[x.repo].run);
	if (changed != NULL) /* a run of its own */
		mfs_refresh_tell(r, x.repo, changed);
	if (code != MFS_OK) {
		const bool judged = local.judged;
		struct mfs_vref version = judged ? local.version : (struct mfs_vref){ 0 };

		/* Whatever came over the network, whoever sent it, concerns no version before it was judged. */
		mfs_refresh_target_clear(&local);
		local.version = version;
		local.judged = judged;
	}
	*out = local;
	return code;
}

/* ---- what this host has lost ---------------------------------------------------------------------------------------- */

enum mfs_code
mfs_refresh_signed(struct mfs_refresh *r, size_t i, const struct mfs_vref *v, const _Atomic int *cancel, struct mfs_signed *out,
	struct mfs_err *err)
{
	struct mfs_refresh_run x = { .r = r, .remote = r->args.remote, .cancel = cancel };
	struct mfs_policy_entry entry = { .manifest = v->manifest, .release = v->release };
	struct mfs_refresh_target t = { 0 };
	mfs_autofree bool *changed = NULL;
	enum mfs_code code = MFS_OK;

	*out = (struct mfs_signed){ 0 };
	if (i >= r->args.config->n_models || r->args.config->models[i].repo < 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "it is fetched from no repository: install its bundle again");
	memcpy(entry.version, v->version, sizeof(entry.version));
	memcpy(entry.variant, v->variant, sizeof(entry.variant));
	x.repo = (size_t)r->args.config->models[i].repo;
	(void)pthread_mutex_lock(&r->repos[x.repo].run);
	if (!mfs_refresh_run_resume(&x))
		code = mfs_refresh_run_locked(&x, err);
	if (code == MFS_OK) {
		x.unstored = true;
		code = manifest_get(&x, i, &entry, "the state", &t, err);
	}
	changed = mfs_steal(&x.changed);
	mfs_refresh_run_share(&x, code == MFS_OK);
	(void)pthread_mutex_unlock(&r->repos[x.repo].run);
	if (changed != NULL)
		mfs_refresh_tell(r, x.repo, changed);
	if (code == MFS_OK) {
		*out = t.bytes;
		t.bytes = (struct mfs_signed){ 0 };
	}
	mfs_refresh_target_clear(&t);
	return code;
}

/* ---- by hand ---------------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_refresh_install_check(struct mfs_refresh *r, size_t i, const struct mfs_sha256 *manifest, struct mfs_err *err)
{
	const struct mfs_config *c = r->args.config;
	struct mfs_refresh_target t = { 0 };
	struct mfs_policy_entry entry;
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	if (i >= c->n_models || c->models[i].repo < 0 || c->update.offline_install != MFS_OFFLINE_FRESH)
		return MFS_OK;
	if ((code = mfs_refresh_fresh(r, i, &why)) == MFS_OK && (code = choose(r, i, &entry, &t, &why)) == MFS_OK &&
		mfs_sha256_equal(&entry.manifest, manifest))
		return MFS_OK;
	if (code == MFS_OK)
		return mfs_fail(err, MFS_POLICY_REJECTED, "model %s: offline_install is fresh, and the policy offers %s here: 'modelfs update "
			"--from' installs from a stick with its own metadata", c->models[i].id, entry.version);
	return mfs_fail(err, code == MFS_NOT_SELECTED ? MFS_POLICY_REJECTED : code, "model %s: offline_install is fresh: %s",
		c->models[i].id, why.msg);
}
