/* SPDX-License-Identifier: Apache-2.0 */
/* What the update cycle needs of the engine: records, staging, commit, repositories, the byte budget. */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"
#include "io.h"
#include "mfs_policy.h"

/* ---- records ------------------------------------------------------------------------------------------- */

/* State documents hold no control characters and valid UTF-8 only. */
char *
mfs_engine_text(const char *text)
{
	char *out = text != NULL ? strdup(text) : NULL;

	for (char *p = out; p != NULL && *p != '\0'; p++)
		if (*p < 0x20 || *p >= 0x7f)
			*p = '?';
	return out;
}

void
mfs_engine_observing(struct mfs_engine *e, size_t i, struct mfs_cycle_observation *out)
{
	const struct mfs_anchor_model *st = mfs_engine_record(e, i);
	const struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);

	*out = (struct mfs_cycle_observation){ 0 };
	if (st == NULL || !mfs_anchor_uncommitted(st) || mfs_engine_active_check(e, i, st, NULL) != MFS_OK)
		return; /* what is withdrawn is not watched */
	if (cm != NULL && mfs_sha256_equal(&cm->observation.v.manifest, &st->active.manifest)) {
		*out = cm->observation;
		return;
	}
	/* The anchor says that it was not committed; what was watched is lost and starts anew. */
	out->total = e->args.config->update.probation_ms / 1000;
	out->v = (struct mfs_cycle_version){ .manifest = st->active.manifest, .release = st->active.release,
		.key_epoch = st->active.key_epoch };
	memcpy(out->v.version, st->active.version, sizeof(out->v.version));
	memcpy(out->v.variant, st->active.variant, sizeof(out->v.variant));
}

/* Hold lock, or be opening: the record is read here. */
void
mfs_engine_update_copy(struct mfs_engine *e, size_t i, struct mfs_engine_update *out)
{
	const struct mfs_cycle_model *cm = mfs_engine_cycle(e, i);
	const struct mfs_cycle_attempt *a;

	*out = (struct mfs_engine_update){ 0 };
	mfs_engine_observing(e, i, &out->observation);
	if (cm == NULL)
		return;
	a = &cm->attempt;
	out->step = a->step;
	out->v = a->v;
	out->since = a->since;
	out->deadline = a->deadline;
	out->not_before = a->not_before;
	out->starts = a->starts;
	out->failures = a->failures;
	out->why = a->why;
	out->free_bytes = a->free_bytes;
	out->by_hand = a->by_hand;
	out->rollback = a->rollback;
	out->refusal = cm->refusal;
	out->refusal.detail = NULL;
	memcpy(out->pin, cm->pin, sizeof(out->pin));
	(void)snprintf(out->detail, sizeof(out->detail), "%s", a->detail != NULL ? a->detail : "");
	out->offer = cm->offer_why;
	(void)snprintf(out->offer_detail, sizeof(out->offer_detail), "%s", cm->offer_detail != NULL ? cm->offer_detail : "");
	(void)snprintf(out->refusal_detail, sizeof(out->refusal_detail), "%s",
		cm->refusal.detail != NULL ? cm->refusal.detail : "");
}

static enum mfs_code
model_check(const struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	return i < e->args.config->n_models ? MFS_OK : mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
}

void
mfs_engine_model_key(const struct mfs_engine *e, size_t i, struct mfs_sha256 *out)
{
	mfs_keys_model_id(e->args.keys, i, out);
}

void
mfs_engine_update_get(struct mfs_engine *e, size_t i, struct mfs_engine_update *out)
{
	*out = (struct mfs_engine_update){ 0 };
	if (i >= e->args.config->n_models)
		return;
	(void)pthread_mutex_lock(&e->view_lock);
	*out = e->view[i].update;
	(void)pthread_mutex_unlock(&e->view_lock);
}

enum mfs_code
mfs_engine_attempt(struct mfs_engine *e, size_t i, const struct mfs_cycle_attempt *a,
	const struct mfs_engine_expect *expect, struct mfs_err *err)
{
	struct mfs_cycle_attempt next = *a, old;
	struct mfs_cycle_model *cm;
	enum mfs_code code;

	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	next.detail = mfs_engine_text(a->detail);
	(void)pthread_mutex_lock(&e->lock);
	if ((cm = mfs_engine_cycle(e, i)) == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "cycle");
	} else if (expect != NULL && (!mfs_sha256_equal(&cm->attempt.v.manifest, &expect->manifest) ||
			   cm->attempt.step != expect->step)) {
		code = mfs_fail(err, MFS_CONDITION_UNMET, "superseded by version %s (%s)",
			cm->attempt.v.version[0] != '\0' ? cm->attempt.v.version : "none", mfs_step_name(cm->attempt.step));
	} else {
		old = cm->attempt;
		cm->attempt = next;
		if ((code = mfs_trusted_cycle_save(e->trusted, err)) != MFS_OK)
			cm->attempt = old;
		else
			next = old;
		if (mfs_sha256_equal(&e->bringing[i], &cm->attempt.v.manifest)) /* which keeps it from now on */
			e->bringing[i] = (struct mfs_sha256){ { 0 } };
		mfs_engine_view_status(e, i);
	}
	(void)pthread_mutex_unlock(&e->lock);
	free(next.detail);
	return code;
}

enum mfs_code
mfs_engine_observation(struct mfs_engine *e, size_t i, const struct mfs_cycle_observation *o, struct mfs_err *err)
{
	struct mfs_cycle_observation old, now;
	struct mfs_cycle_model *cm;
	enum mfs_code code;

	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&e->lock);
	mfs_engine_observing(e, i, &now);
	if ((cm = mfs_engine_cycle(e, i)) == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "cycle");
	} else if (!mfs_sha256_is_zero(&o->v.manifest) && !mfs_sha256_equal(&o->v.manifest, &now.v.manifest)) {
		code = mfs_fail(err, MFS_CONDITION_UNMET, "the observation of %s ended meanwhile", o->v.version);
	} else {
		old = cm->observation;
		cm->observation = *o;
		if ((code = mfs_trusted_cycle_save(e->trusted, err)) != MFS_OK)
			cm->observation = old;
		mfs_engine_view_status(e, i);
	}
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

static bool
refusal_known(const struct mfs_cycle_refusal *a, const struct mfs_cycle_refusal *b)
{
	return a->why == b->why && mfs_sha256_equal(&a->v.manifest, &b->v.manifest) && mfs_sha256_equal(&a->key, &b->key);
}

enum mfs_code
mfs_engine_refuse(struct mfs_engine *e, size_t i, const struct mfs_cycle_refusal *r, bool *known, struct mfs_err *err)
{
	struct mfs_cycle_model *cm;
	enum mfs_code code;

	*known = false;
	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&e->lock);
	if ((cm = mfs_engine_cycle(e, i)) == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "cycle");
		goto out;
	}
	*known = refusal_known(&cm->refusal, r);
	if (*known && cm->attempt.step == MFS_STEP_IDLE && cm->attempt.why == r->why)
		goto out;
	if (!*known) {
		free(cm->refusal.detail);
		cm->refusal = *r;
		cm->refusal.detail = mfs_engine_text(r->detail);
		mfs_engine_outcome(e, i, "cycle", NULL, r->v.version[0] != '\0' ? r->v.version : NULL, r->why,
			r->detail != NULL ? r->detail : "");
	}
	if (cm->attempt.step == MFS_STEP_IDLE || mfs_sha256_equal(&cm->attempt.v.manifest, &r->v.manifest)) {
		mfs_cycle_attempt_clear(&cm->attempt);
		cm->attempt.v = r->v;
		cm->attempt.why = r->why;
		cm->attempt.detail = mfs_engine_text(r->detail);
	}
	code = mfs_trusted_cycle_save(e->trusted, err);
	mfs_engine_view_status(e, i);
out:
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

void
mfs_engine_happened(struct mfs_engine *e, size_t i, const char *from, const char *to, enum mfs_code code,
	const char *detail)
{
	if (model_check(e, i, NULL) != MFS_OK)
		return;
	(void)pthread_mutex_lock(&e->lock);
	mfs_engine_outcome(e, i, "cycle", from, to, code, detail);
	(void)pthread_mutex_unlock(&e->lock);
}

void
mfs_engine_offer(struct mfs_engine *e, size_t i, enum mfs_code code, const char *detail)
{
	struct mfs_cycle_model *cm;

	if (model_check(e, i, NULL) != MFS_OK)
		return;
	(void)pthread_mutex_lock(&e->lock);
	if ((cm = mfs_engine_cycle(e, i)) != NULL) {
		free(cm->offer_detail);
		cm->offer_detail = code != MFS_OK ? mfs_engine_text(detail) : NULL;
		cm->offer_why = code;
		mfs_engine_view_status(e, i);
	}
	(void)pthread_mutex_unlock(&e->lock);
}

/* ---- before activation ------------------------------------------------------------------------------------ */

enum mfs_code
mfs_engine_eligible(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how,
	struct mfs_err *err)
{
	enum mfs_code code;

	*how = MFS_INSTALL_NEW;
	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&e->lock);
	code = mfs_engine_decide_locked(e, i, m, how, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code == MFS_OK ? mfs_engine_compat_check(e->args.config, i, m, err) : code;
}

bool
mfs_engine_behind(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, char active[MFS_VERSION_MAX + 1])
{
	const struct mfs_anchor_model *st;
	bool behind = false;

	active[0] = '\0';
	if (i >= e->args.config->n_models)
		return false;
	(void)pthread_mutex_lock(&e->lock);
	if ((st = mfs_engine_record(e, i)) != NULL) {
		mfs_engine_version_copy(active, &st->active);
		behind = mfs_policy_behind(st, m, &e->args.config->models[i].minimum);
	}
	(void)pthread_mutex_unlock(&e->lock);
	return behind;
}

enum mfs_code
mfs_engine_keep_signed(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, const struct mfs_signed *s,
	struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	/* Under the lock: another model's change may be collecting just now what the anchor does not name. */
	(void)pthread_mutex_lock(&e->lock);
	e->bringing[i] = *id;
	code = mfs_engine_signed_put(e, id, s, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

enum mfs_code
mfs_engine_version(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err)
{
	enum mfs_code code;

	*out = NULL;
	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	return mfs_version_load_repair(e->args.state_dirfd, e->args.store, e->args.cache, e->args.config, e->args.keys, i,
		id, (e->args.flags & MFS_TRUSTED_READ) == 0, out, err);
}

/* A wrong key, or a table that does not fit its payload, is found before anybody looks at the version. */
static enum mfs_code
first_chunks(struct mfs_version *v, struct mfs_err *err)
{
	mfs_autofree uint8_t *chunk = NULL;

	for (size_t k = 0; k < v->m->n_files; k++) {
		const struct mfs_file *f = &v->m->files[k];
		enum mfs_code code;
		size_t got;

		if (f->chunks == 0)
			continue;
		free(chunk);
		if ((chunk = malloc(mfs_chunk_length(f, 0))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->name));
		code = mfs_content_read(v->files[k], chunk, mfs_chunk_length(f, 0), 0, &got, err);
		if (code != MFS_OK)
			return mfs_err_context(err, "%s %s: %s: ", v->m->model_id, v->m->version, MFS_ESC(f->name));
	}
	return MFS_OK;
}

enum mfs_code
mfs_engine_stage(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err)
{
	struct mfs_version *v = NULL;
	enum mfs_code code;

	if ((code = model_check(e, i, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&e->lock);
	code = mfs_engine_candidate(e, i, id, &v, err);
	(void)pthread_mutex_unlock(&e->lock);
	if (code == MFS_OK && v->files != NULL)
		code = first_chunks(v, err);
	mfs_version_unref(v);
	return code;
}

/* ---- repositories ------------------------------------------------------------------------------------------ */

static int64_t
fresh_until(const struct mfs_engine *e, const struct mfs_cycle_repo *r)
{
	const int64_t grace = e->args.config->update.expired_grace_ms / 1000;
	int64_t until = 0;

	for (size_t k = 0; k < MFS_CYCLE_ROLES; k++) {
		int64_t expires = r->expires[k];

		if (expires == 0)
			return 0;
		if (k == 1 || k == 2) /* timestamp, snapshot */
			expires += grace;
		if (until == 0 || expires < until)
			until = expires;
	}
	return until;
}

static void
repo_view(struct mfs_engine *e, size_t repo, const struct mfs_cycle_repo *r)
{
	struct mfs_engine_repo out = { .timestamp_version = r->timestamp_version, .last_check = r->last_check,
		.last_success = r->last_success, .next_check = r->next_check, .fresh_until = fresh_until(e, r),
		.failures = r->failures, .why = r->why };

	(void)snprintf(out.detail, sizeof(out.detail), "%s", r->detail != NULL ? r->detail : "");
	(void)pthread_mutex_lock(&e->view_lock);
	e->repos[repo] = out;
	(void)pthread_mutex_unlock(&e->view_lock);
}

void
mfs_engine_repos_load(struct mfs_engine *e)
{
	for (size_t k = 0; k < e->args.config->n_repos; k++) {
		const struct mfs_cycle_repo *r = mfs_cycle_repo(mfs_trusted_cycle(e->trusted), e->args.config->repos[k].name);

		if (r != NULL)
			repo_view(e, k, r);
	}
}

void
mfs_engine_repo_get(struct mfs_engine *e, size_t repo, struct mfs_engine_repo *out)
{
	*out = (struct mfs_engine_repo){ 0 };
	if (repo >= e->args.config->n_repos)
		return;
	(void)pthread_mutex_lock(&e->view_lock);
	*out = e->repos[repo];
	(void)pthread_mutex_unlock(&e->view_lock);
}

enum mfs_code
mfs_engine_repo_set(struct mfs_engine *e, size_t repo, const struct mfs_engine_repo *in, struct mfs_err *err)
{
	struct mfs_cycle_repo *r, old;
	enum mfs_code code;

	if (repo >= e->args.config->n_repos)
		return mfs_fail(err, MFS_INTERNAL, "engine: no repository %zu", repo);
	(void)pthread_mutex_lock(&e->lock);
	r = mfs_cycle_repo(mfs_trusted_cycle(e->trusted), e->args.config->repos[repo].name);
	if (r == NULL) {
		code = mfs_fail(err, MFS_NO_MEMORY, "cycle: repository %s", e->args.config->repos[repo].name);
	} else {
		old = *r;
		r->last_check = in->last_check;
		r->last_success = in->last_success;
		r->next_check = in->next_check;
		r->failures = in->failures;
		r->why = in->why;
		r->detail = in->detail[0] != '\0' ? mfs_engine_text(in->detail) : NULL;
		if ((code = mfs_trusted_cycle_save(e->trusted, err)) == MFS_OK) {
			free(old.detail);
			repo_view(e, repo, r);
		} else {
			free(r->detail);
			*r = old;
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

/* ---- the byte budget ------------------------------------------------------------------------------------------ */

#define BUDGET_BLOCK (UINT64_C(64) << 20) /* written ahead: at most so much of a day is lost with a crash */

/* Hold budget_lock. The first question of this run, and every new day. */
static void
budget_turn(struct mfs_engine *e, int64_t day)
{
	struct mfs_cycle *c;

	if (e->budget_day == 0) {
		(void)pthread_mutex_lock(&e->lock);
		c = mfs_trusted_cycle(e->trusted);
		e->budget_day = c->budget_day;
		e->budget_used = c->budget_bytes;
		(void)pthread_mutex_unlock(&e->lock);
	}
	if (day > e->budget_day) {
		e->budget_day = day;
		e->budget_used = 0;
	} else if (day + 1 < e->budget_day) {
		/* The clock was ahead once: what was used counts for today, not until that day comes. */
		struct mfs_err err = MFS_ERR_INIT;

		e->budget_day = day;
		(void)pthread_mutex_lock(&e->lock);
		c = mfs_trusted_cycle(e->trusted);
		c->budget_day = day;
		if ((e->args.flags & MFS_TRUSTED_READ) == 0 && mfs_trusted_cycle_save(e->trusted, &err) != MFS_OK)
			mfs_log_err("state: byte budget", &err);
		(void)pthread_mutex_unlock(&e->lock);
	}
}

/* Hold budget_lock. Make the document say at least `used` bytes of today. */
static bool
budget_write(struct mfs_engine *e, uint64_t used)
{
	uint64_t daily = e->args.config->update.daily_bytes, ahead = used + BUDGET_BLOCK;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle *c;
	bool ok = true;

	if (ahead > daily)
		ahead = daily;
	(void)pthread_mutex_lock(&e->lock);
	c = mfs_trusted_cycle(e->trusted);
	if (c->budget_day != e->budget_day || c->budget_bytes < used) {
		int64_t day = c->budget_day;
		uint64_t bytes = c->budget_bytes;

		c->budget_day = e->budget_day;
		c->budget_bytes = ahead;
		if (mfs_trusted_cycle_save(e->trusted, &err) != MFS_OK) {
			mfs_log_err("state: byte budget", &err);
			c->budget_day = day;
			c->budget_bytes = bytes;
			ok = false;
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	return ok;
}

uint64_t
mfs_engine_budget_take(struct mfs_engine *e, int64_t day, uint64_t want)
{
	uint64_t daily = e->args.config->update.daily_bytes, may;

	if (daily == 0)
		return want;
	(void)pthread_mutex_lock(&e->budget_lock);
	budget_turn(e, day);
	may = e->budget_used >= daily ? 0 : daily - e->budget_used;
	if (may > want)
		may = want;
	if (may > 0 && !budget_write(e, e->budget_used + may))
		may = 0;
	e->budget_used += may;
	(void)pthread_mutex_unlock(&e->budget_lock);
	return may;
}

void
mfs_engine_budget_give(struct mfs_engine *e, uint64_t unused)
{
	if (e->args.config->update.daily_bytes == 0)
		return;
	(void)pthread_mutex_lock(&e->budget_lock);
	e->budget_used -= unused < e->budget_used ? unused : e->budget_used;
	(void)pthread_mutex_unlock(&e->budget_lock);
}

uint64_t
mfs_engine_budget_left(struct mfs_engine *e, int64_t day)
{
	uint64_t daily = e->args.config->update.daily_bytes, left;

	if (daily == 0)
		return UINT64_MAX;
	(void)pthread_mutex_lock(&e->budget_lock);
	budget_turn(e, day);
	left = e->budget_used >= daily ? 0 : daily - e->budget_used;
	(void)pthread_mutex_unlock(&e->budget_lock);
	return left;
}
