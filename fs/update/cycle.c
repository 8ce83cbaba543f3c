/* SPDX-License-Identifier: Apache-2.0 */
/* The steps from download to commit. What begins an attempt: cycle_offer.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cycle_io.h"
#include "log.h"

/* ---- the attempt ----------------------------------------------------------------------------------------- */

void
mfs_at_read(const struct mfs_cycle_run *r, size_t i, struct mfs_at *at)
{
	struct mfs_engine_update *u = &at->up;

	at->r = r;
	at->i = i;
	at->now = r->parts->now(r->parts->user);
	mfs_engine_update_get(r->engine, i, u);
	at->expect = (struct mfs_engine_expect){ .manifest = u->v.manifest, .step = u->step };
	at->a = (struct mfs_cycle_attempt){ .step = u->step, .v = u->v, .since = u->since, .deadline = u->deadline,
		.not_before = u->not_before, .starts = u->starts, .failures = u->failures, .why = u->why,
		.detail = u->detail[0] != '\0' ? u->detail : NULL, .free_bytes = u->free_bytes, .by_hand = u->by_hand,
		.rollback = u->rollback };
}

/* It stands still because the state cannot be written: said once, and where it can be said. */
static void
unwritten(const struct mfs_at *at, const struct mfs_err *err)
{
	struct mfs_engine_model m;
	bool told;

	mfs_log_err(at->r->config->models[at->i].id, err);
	if (mfs_engine_model_get(at->r->engine, at->i, &m, NULL) != MFS_OK)
		return;
	told = m.last_outcome == err->code;
	mfs_engine_model_free(&m);
	if (!told)
		mfs_engine_happened(at->r->engine, at->i, NULL, at->a.v.version, err->code, err->msg);
}

bool
mfs_at_save(struct mfs_at *at)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_engine_attempt(at->r->engine, at->i, &at->a, &at->expect, &err) == MFS_OK) {
		at->expect = (struct mfs_engine_expect){ .manifest = at->a.v.manifest, .step = at->a.step };
		return true;
	}
	if (err.code != MFS_CONDITION_UNMET)
		unwritten(at, &err);
	return false;
}

int64_t
mfs_at_enter(struct mfs_at *at, enum mfs_step s)
{
	at->a.step = s;
	at->a.since = at->now;
	at->a.deadline = at->now + mfs_step_limit(s, at->r->config, at->i);
	at->a.not_before = 0;
	at->a.starts = 0; /* failures stay: what a later step sends back to be fetched again costs a longer pause each time */
	at->a.why = MFS_OK;
	at->a.detail = NULL;
	at->a.free_bytes = 0;
	return mfs_at_save(at) ? 0 : MFS_WAIT_S;
}

static int64_t
longest(const struct mfs_at *at)
{
	return at->r->config->update.max_interval_ms / 1000;
}

static int64_t
done(struct mfs_at *at)
{
	at->a = (struct mfs_cycle_attempt){ 0 };
	(void)mfs_at_save(at);
	return MFS_CYCLE_IDLE;
}

bool
mfs_is_refusal(enum mfs_code code)
{
	enum mfs_class c = mfs_code_class(code);

	if (code == MFS_PINNED || code == MFS_HELD || code == MFS_NOT_SELECTED)
		return false;
	/* A mismatch of received or stored bytes belongs to its source, never to the version. */
	return (c == MFS_CLASS_TRUST && code != MFS_HASH_MISMATCH && code != MFS_STATE_REPLAYED) || c == MFS_CLASS_POLICY;
}

int64_t
mfs_at_refuse(struct mfs_at *at, const struct mfs_err *why, const struct mfs_sha256 *key)
{
	const struct mfs_cycle_parts *p = at->r->parts;
	struct mfs_cycle_refusal refusal = { .v = at->a.v, .why = why->code, .time = at->now,
		.detail = (char *)why->msg };
	struct mfs_err err = MFS_ERR_INIT;
	bool known;

	if (key != NULL)
		refusal.key = *key;
	if (mfs_engine_refuse(at->r->engine, at->i, &refusal, &known, &err) != MFS_OK)
		mfs_log_err(at->r->config->models[at->i].id, &err);
	if (!known)
		p->rejected(p->user, at->i, &refusal.v, why->code);
	p->drop(p->user, at->i);
	return MFS_CYCLE_IDLE;
}

int64_t
mfs_at_condemn(struct mfs_at *at, const struct mfs_err *why)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	const struct mfs_cycle_parts *p = at->r->parts;
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	if (mfs_engine_condemn(at->r->engine, at->i, &at->a.v.manifest, 1, why->code, why->msg, false, &moved, from, to,
		&err) != MFS_OK)
		mfs_log_err(at->r->config->models[at->i].id, &err);
	else if (moved) /* it became active by other ways meanwhile */
		p->changed(p->user, at->i, MFS_REASON_ROLLBACK, MFS_ROLLBACK_TRIGGERED);
	return mfs_at_refuse(at, why, NULL);
}

void
mfs_at_why(struct mfs_at *at, const struct mfs_err *why)
{
	(void)snprintf(at->text, sizeof(at->text), "%s", why->msg);
	at->a.why = why->code;
	at->a.detail = at->text;
}

/* The outcome of a try goes into the events when it is another one than last time. */
static void
say(struct mfs_at *at, const struct mfs_err *why)
{
	if (at->a.why != why->code)
		mfs_engine_happened(at->r->engine, at->i, NULL, at->a.v.version, why->code, why->msg);
}

/* Is it what the attempt waited for before? What a message names first, "window" or "power"; its figures may differ. */
static bool
waits_for(const struct mfs_at *at, const struct mfs_err *why)
{
	const size_t n = strcspn(why->msg, ":");

	return at->a.why == why->code && at->a.detail != NULL && strncmp(at->a.detail, why->msg, n) == 0 &&
		(at->a.detail[n] == ':' || at->a.detail[n] == '\0');
}

int64_t
mfs_at_wait(struct mfs_at *at, const struct mfs_err *why)
{
	bool same = waits_for(at, why) && at->a.starts == 0 && at->a.failures == 0;

	say(at, why);
	at->a.starts = at->a.failures = 0;
	mfs_at_why(at, why);
	at->a.not_before = 0;
	at->a.deadline = at->now + mfs_step_limit(at->a.step, at->r->config, at->i);
	if (!same)
		(void)mfs_at_save(at);
	return MFS_WAIT_S;
}

int64_t
mfs_at_failed(struct mfs_at *at, const struct mfs_err *why, int64_t retry_after_s)
{
	const struct mfs_cycle_parts *p = at->r->parts;

	say(at, why);
	at->a.starts = 0;
	at->a.failures++;
	mfs_at_why(at, why);
	at->now = p->now(p->user); /* the try took its time */
	at->a.not_before = at->now + mfs_backoff(at->a.failures, longest(at), retry_after_s, p->random(p->user));
	if (why->code == MFS_INSUFFICIENT_STORAGE) {
		at->a.free_bytes = p->free_bytes(p->user);
		at->a.not_before = 0; /* not time helps, but space */
	}
	(void)mfs_at_save(at);
	return at->a.not_before > at->now ? at->a.not_before - at->now : MFS_WAIT_S;
}

/* The step's deadline passed, or serve dies in it: the attempt ends; the same version is tried again after the longest pause. */
static int64_t
give_up(struct mfs_at *at, enum mfs_code code, const char *what)
{
	struct mfs_err err = MFS_ERR_INIT;

	(void)mfs_fail(&err, code, "%s given up: %s%s%s", mfs_step_name(at->a.step), what,
		at->a.detail != NULL ? "; last: " : "", at->a.detail != NULL ? at->a.detail : "");
	mfs_engine_happened(at->r->engine, at->i, NULL, at->a.v.version, err.code, err.msg);
	at->a = (struct mfs_cycle_attempt){ .v = at->a.v, .since = at->now, .not_before = at->now + longest(at) };
	mfs_at_why(at, &err);
	(void)mfs_at_save(at);
	return MFS_CYCLE_IDLE;
}

/* ---- the steps: what each returns is as mfs_cycle_step() ------------------------------------------------------- */

/* What came from the publisher is bad in itself. */
static bool
bytes_are_wrong(enum mfs_code code)
{
	return code == MFS_MALFORMED || code == MFS_SIGNATURE_INVALID;
}

static int64_t
ended(struct mfs_at *at, const struct mfs_err *err, int64_t retry_after_s, const _Atomic int *cancel)
{
	struct mfs_sha256 key;

	if (cancel != NULL && atomic_load(cancel) != 0) {
		at->a.starts = at->a.starts > 0 ? at->a.starts - 1 : 0;
		(void)mfs_at_save(at);
		return 0;
	}
	if (err->code == MFS_PINNED || err->code == MFS_HELD || err->code == MFS_RATE_LIMITED ||
		mfs_code_class(err->code) == MFS_CLASS_STALE)
		return mfs_at_wait(at, err);
	if (err->code == MFS_DECRYPT_FAILED) {
		mfs_engine_model_key(at->r->engine, at->i, &key);
		return mfs_at_refuse(at, err, &key);
	}
	if (mfs_is_refusal(err->code))
		return mfs_at_refuse(at, err, NULL);
	return mfs_at_failed(at, err, retry_after_s);
}

static enum mfs_code
eligible(struct mfs_at *at, const struct mfs_manifest *m, struct mfs_err *err)
{
	enum mfs_install how;

	if (at->a.rollback) /* below the floor by its publisher's word: mfs_engine_rollback_to() decides */
		return MFS_OK;
	return mfs_engine_eligible(at->r->engine, at->i, m, &how, err);
}

/* Its content key, before a byte of it is fetched: without one it could not be served. */
static enum mfs_code
key_get(struct mfs_at *at, const struct mfs_version *v, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	const struct mfs_cycle_parts *p = at->r->parts;

	if (v->key_code == MFS_DECRYPT_FAILED)
		return mfs_fail(err, MFS_DECRYPT_FAILED, "%s %s: its content key does not open with this host's model key",
			v->m->model_id, v->m->version);
	if (v->key_code != MFS_KEY_UNAVAILABLE)
		return MFS_OK;
	if (p->wrap == NULL)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s", v->key_why != NULL ? v->key_why : "no content key");
	return p->wrap(p->user, at->i, v->m, via, cancel, retry_after_s, err);
}

static int64_t
download(struct mfs_at *at, struct mfs_remote *via, const _Atomic int *cancel)
{
	const struct mfs_cycle_parts *p = at->r->parts;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_version *v = NULL;
	int64_t retry_after = 0;
	enum mfs_code code;

	if ((code = mfs_engine_version(at->r->engine, at->i, &at->a.v.manifest, &v, &err)) != MFS_OK) {
		/* What was kept of it is lost: the next check brings it again. */
		return mfs_kept_lost(code) ? done(at) : ended(at, &err, 0, cancel);
	}
	if ((code = eligible(at, v->m, &err)) == MFS_OK &&
		(code = key_get(at, v, via, cancel, &retry_after, &err)) == MFS_OK) {
		code = p->download(p->user, at->i, v, via, cancel, &retry_after, &err);
		if (bytes_are_wrong(code)) {
			mfs_version_unref(v);
			return mfs_at_condemn(at, &err);
		}
	}
	mfs_version_unref(v);
	at->now = p->now(p->user);
	return code == MFS_OK ? mfs_at_enter(at, MFS_STEP_VERIFY) : ended(at, &err, retry_after, cancel);
}

/* What a step needs is not here any more; a wrap that came beside its manifest may be lost like a blob. */
static bool
lost_here(enum mfs_code code)
{
	return mfs_kept_lost(code) || code == MFS_KEY_UNAVAILABLE;
}

/* A stored byte is wrong or gone: fetched again, with a pause that grows. */
static int64_t
repair(struct mfs_at *at, const struct mfs_err *err)
{
	struct mfs_err why = *err;

	/* The signature was good when it was kept. */
	if (err->code == MFS_SIGNATURE_INVALID)
		(void)mfs_fail(&why, MFS_IO, "what was kept of %s changed on disk: %s", at->a.v.version, err->msg);
	at->a.step = MFS_STEP_DOWNLOAD;
	at->a.since = at->now;
	return mfs_at_failed(at, &why, 0);
}

static int64_t
verify(struct mfs_at *at, const _Atomic int *cancel)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_engine_stage(at->r->engine, at->i, &at->a.v.manifest, &err);

	at->now = at->r->parts->now(at->r->parts->user);
	if (code == MFS_OK)
		return mfs_at_enter(at, MFS_STEP_STAGE);
	if (lost_here(code))
		return repair(at, &err);
	return ended(at, &err, 0, cancel);
}

static int64_t
stage(struct mfs_at *at, const _Atomic int *cancel)
{
	enum mfs_install how = MFS_INSTALL_NEW;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_version *v = NULL;
	enum mfs_code code = mfs_engine_version(at->r->engine, at->i, &at->a.v.manifest, &v, &err);

	if (code == MFS_OK)
		code = mfs_engine_keep_signed(at->r->engine, at->i, &at->a.v.manifest, &v->signed_bytes, &err);
	/* What is active had its check then; it was lost on this host's disk, which says nothing about it. */
	if (code == MFS_OK && !at->a.rollback)
		(void)mfs_engine_eligible(at->r->engine, at->i, v->m, &how, NULL);
	mfs_version_unref(v);
	if (mfs_kept_lost(code))
		return repair(at, &err);
	return code == MFS_OK ? mfs_at_enter(at, how == MFS_INSTALL_SAME ? MFS_STEP_ACTIVATE : MFS_STEP_HEALTH)
			      : ended(at, &err, 0, cancel);
}

static int64_t
health(struct mfs_at *at, const _Atomic int *cancel)
{
	const struct mfs_cycle_parts *p = at->r->parts;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_version *v = NULL;
	enum mfs_code code = mfs_engine_version(at->r->engine, at->i, &at->a.v.manifest, &v, &err);

	if (code == MFS_OK)
		code = p->health(p->user, at->i, v, false, cancel, &err);
	mfs_version_unref(v);
	at->now = p->now(p->user);
	if (code == MFS_OK)
		return mfs_at_enter(at, MFS_STEP_ACTIVATE);
	if (code == MFS_HEALTH_CHECK_FAILED)
		return mfs_at_condemn(at, &err);
	if (lost_here(code) && (cancel == NULL || atomic_load(cancel) == 0))
		return repair(at, &err);
	return ended(at, &err, 0, cancel);
}

static bool
is_active(const struct mfs_at *at)
{
	struct mfs_engine_model m;
	bool active;

	if (mfs_engine_model_get(at->r->engine, at->i, &m, NULL) != MFS_OK)
		return false;
	active = m.n > 0 && m.versions[0].active && mfs_sha256_equal(&m.versions[0].v->m->id, &at->a.v.manifest);
	mfs_engine_model_free(&m);
	return active;
}

static int64_t
activate(struct mfs_at *at, const _Atomic int *cancel)
{
	const struct mfs_cycle_parts *p = at->r->parts;
	const int64_t observe_s = at->r->config->update.probation_ms / 1000;
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;
	bool same = false;

	/* Whatever they say: newer metadata cures it, or room on the state's disk. */
	if ((code = p->fresh(p->user, at->i, &err)) != MFS_OK || (code = mfs_engine_room(at->r->engine, at->i, &err)) != MFS_OK)
		return mfs_at_wait(at, &err);
	if (at->a.rollback && (same = is_active(at)))
		code = MFS_OK; /* serve died after the anchor was written */
	else if (at->a.rollback)
		code = mfs_engine_rollback_to(at->r->engine, at->i, &at->a.v.manifest, from, to, &err);
	else
		code = mfs_engine_activate_observed(at->r->engine, at->i, &at->a.v.manifest, false, observe_s, &same, from,
			to, &err);
	if (lost_here(code))
		return repair(at, &err);
	if (code != MFS_OK)
		return ended(at, &err, 0, cancel);
	if (!same)
		p->changed(p->user, at->i, at->a.rollback ? MFS_REASON_ROLLBACK : MFS_REASON_SWAP, MFS_OK);
	if (observe_s == 0)
		p->collect(p->user, at->i);
	/* Last: a command that waits for it is told when whoever reacts opens the new version. */
	(void)done(at);
	return MFS_CYCLE_IDLE;
}

/* Conditions gate what costs: bytes, disk, a swap. Checks, and looking at what is here, go on. */
static bool
gated(enum mfs_step s)
{
	return s == MFS_STEP_DOWNLOAD || s == MFS_STEP_STAGE || s == MFS_STEP_ACTIVATE;
}

static enum mfs_code
conditions(struct mfs_at *at, const _Atomic int *cancel, struct mfs_err *err)
{
	const struct mfs_cycle_parts *p = at->r->parts;
	struct mfs_cycle_facts facts = { .budget_left = UINT64_MAX };
	uint64_t free_bytes;

	p->facts(p->user, cancel, &facts);
	if (cancel != NULL && atomic_load(cancel) != 0) /* what is not known now is no reason to wait */
		return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
	if (mfs_conditions_check(at->r->config, &facts, at->a.step, err) != MFS_OK)
		return err->code;
	if (at->a.step != MFS_STEP_DOWNLOAD || at->a.why != MFS_INSUFFICIENT_STORAGE || at->a.by_hand)
		return MFS_OK;
	free_bytes = p->free_bytes(p->user);
	return free_bytes > at->a.free_bytes ? MFS_OK : mfs_fail(err, MFS_INSUFFICIENT_STORAGE, "%s",
		at->a.detail != NULL ? at->a.detail : "waits for space");
}

static int64_t
run(struct mfs_at *at, struct mfs_remote *via, const _Atomic int *cancel)
{
	switch (at->a.step) {
	case MFS_STEP_DOWNLOAD: return download(at, via, cancel);
	case MFS_STEP_VERIFY: return verify(at, cancel);
	case MFS_STEP_STAGE: return stage(at, cancel);
	case MFS_STEP_HEALTH: return health(at, cancel);
	case MFS_STEP_ACTIVATE: return activate(at, cancel);
	default: return MFS_CYCLE_IDLE;
	}
}

int64_t
mfs_cycle_step(const struct mfs_cycle_run *r, size_t i, struct mfs_remote *via, const _Atomic int *cancel)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_at at;
	int64_t limit;

	mfs_at_read(r, i, &at);
	if (at.a.step == MFS_STEP_IDLE)
		return MFS_CYCLE_IDLE;
	limit = mfs_step_limit(at.a.step, r->config, i);
	at.a.not_before = mfs_time_clamp(at.a.not_before, at.now, longest(&at));
	at.a.deadline = mfs_time_clamp(at.a.deadline, at.now, limit);
	if (at.a.not_before > at.now)
		return at.a.not_before - at.now;
	if (gated(at.a.step) && conditions(&at, cancel, &err) != MFS_OK)
		return cancel != NULL && atomic_load(cancel) != 0 ? 0 : err.code == MFS_INSUFFICIENT_STORAGE ? MFS_WAIT_S : mfs_at_wait(&at, &err);
	if (at.a.starts >= MFS_STARTS_MAX)
		return give_up(&at, MFS_INTERNAL, "the serving process died in it too often");
	/* A pause for a condition, which counts no failure, ended: the step has all its time. */
	if (at.a.why != MFS_OK && at.a.failures == 0)
		at.a.deadline = at.now + limit;
	if (at.now >= at.a.deadline)
		return give_up(&at, at.a.why != MFS_OK ? at.a.why : MFS_NET_TIMEOUT, "its time is over");
	at.a.starts++;
	if (!mfs_at_save(&at))
		return MFS_WAIT_S;
	return run(&at, via, cancel);
}

/* ---- observation -------------------------------------------------------------------------------------------------- */

static int64_t
condemn_active(const struct mfs_cycle_run *r, size_t i, const struct mfs_cycle_version *v, const struct mfs_err *why)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_err err = MFS_ERR_INIT;
	bool moved;

	if (mfs_engine_condemn_observed(r->engine, i, &v->manifest, why->code, why->msg, &moved, from, to, &err) != MFS_OK) {
		mfs_log_err(r->config->models[i].id, &err);
		return err.code == MFS_CONDITION_UNMET ? 1 : MFS_WAIT_S;
	}
	if (moved)
		r->parts->changed(r->parts->user, i, MFS_REASON_ROLLBACK, MFS_ROLLBACK_TRIGGERED);
	r->parts->rejected(r->parts->user, i, v, why->code);
	return MFS_CYCLE_IDLE;
}

static int64_t
commit(const struct mfs_cycle_run *r, size_t i, const struct mfs_cycle_version *v)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_engine_commit(r->engine, i, &v->manifest, &err) != MFS_OK) {
		if (err.code != MFS_NOT_SELECTED)
			mfs_log_err(r->config->models[i].id, &err);
		return err.code == MFS_NOT_SELECTED ? MFS_CYCLE_IDLE : MFS_WAIT_S;
	}
	r->parts->collect(r->parts->user, i);
	return MFS_CYCLE_IDLE;
}

/* One health check of what is observed; *good tells a verdict from none. */
static enum mfs_code
look_again(const struct mfs_cycle_run *r, size_t i, struct mfs_cycle_observation *o, const _Atomic int *cancel,
	struct mfs_err *err)
{
	struct mfs_version *v = NULL;
	enum mfs_code code;

	if (r->config->models[i].health.command == NULL)
		return MFS_OK;
	if ((code = mfs_engine_version(r->engine, i, &o->v.manifest, &v, err)) == MFS_OK)
		code = r->parts->health(r->parts->user, i, v, true, cancel, err);
	mfs_version_unref(v);
	if (code == MFS_OK) {
		o->checks++;
		o->undecided = 0;
	} else if (code != MFS_HEALTH_CHECK_FAILED) {
		o->undecided++;
	}
	return code;
}

int64_t
mfs_cycle_observe(const struct mfs_cycle_run *r, size_t i, int64_t elapsed, const _Atomic int *cancel)
{
	const int64_t every = r->config->models[i].health.command != NULL && r->config->models[i].health.interval_ms >= 1000
		? r->config->models[i].health.interval_ms / 1000 : MFS_WAIT_S;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle_observation o;
	struct mfs_engine_update up;
	int64_t left;

	mfs_engine_update_get(r->engine, i, &up);
	o = up.observation;
	if (mfs_sha256_is_zero(&o.v.manifest))
		return MFS_CYCLE_IDLE;
	o.seconds += elapsed;
	if (o.total > 0 && look_again(r, i, &o, cancel, &err) == MFS_HEALTH_CHECK_FAILED)
		return condemn_active(r, i, &o.v, &err);
	if (cancel != NULL && atomic_load(cancel) != 0)
		return 1;
	/* Without a verdict at the end it is watched for as long again: then it served without a failure. */
	left = (o.undecided > 0 ? 2 * o.total : o.total) - o.seconds;
	if (left <= 0)
		return commit(r, i, &o.v);
	if (mfs_engine_observation(r->engine, i, &o, &err) == MFS_CONDITION_UNMET)
		return 1; /* it was committed, or another version became active, during the look */
	if (err.code != MFS_OK)
		mfs_log_err(r->config->models[i].id, &err);
	return left < every ? left : every;
}

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

/* The verdict on what an operator brings is remembered as in a cycle. */
static void
install_condemned(const struct mfs_cycle_run *r, size_t i, const struct mfs_manifest *m, const struct mfs_err *why)
{
	char from[MFS_VERSION_MAX + 1], to[MFS_VERSION_MAX + 1];
	struct mfs_cycle_refusal refusal = { .v = { .manifest = m->id, .release = m->release,
		.key_epoch = m->key_epoch }, .why = why->code, .time = r->parts->now(r->parts->user),
		.detail = (char *)why->msg };
	struct mfs_err err = MFS_ERR_INIT;
	bool ignored;

	(void)snprintf(refusal.v.version, sizeof(refusal.v.version), "%s", m->version);
	(void)snprintf(refusal.v.variant, sizeof(refusal.v.variant), "%s", m->variant);
	if (mfs_engine_condemn(r->engine, i, &m->id, 1, why->code, why->msg, false, &ignored, from, to, &err) != MFS_OK ||
		mfs_engine_refuse(r->engine, i, &refusal, &ignored, &err) != MFS_OK)
		mfs_log_err(r->config->models[i].id, &err);
	r->parts->rejected(r->parts->user, i, &refusal.v, why->code);
}

enum mfs_code
mfs_cycle_install(const struct mfs_cycle_run *r, size_t i, const struct mfs_sha256 *id, const _Atomic int *cancel,
	bool *same, char *from, char *to, struct mfs_err *err)
{
	const int64_t observe_s = r->config->models[i].health.command != NULL ? r->config->update.probation_ms / 1000 : 0;
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_version *v = NULL;
	enum mfs_install how;
	enum mfs_code code = MFS_OK;

	*same = false;
	from[0] = to[0] = '\0';
	/* What is refused before the check, is refused by the engine below, which writes it down. */
	if (mfs_engine_version(r->engine, i, id, &v, &own) == MFS_OK &&
		mfs_engine_eligible(r->engine, i, v->m, &how, &own) == MFS_OK && how == MFS_INSTALL_NEW &&
		(code = r->parts->health(r->parts->user, i, v, false, cancel, &own)) != MFS_OK) {
		if (code == MFS_HEALTH_CHECK_FAILED)
			install_condemned(r, i, v->m, &own);
		else
			mfs_engine_refused(r->engine, i, v->m->version, code, own.msg);
		(void)snprintf(to, MFS_VERSION_MAX + 1, "%s", v->m->version);
		if (err != NULL)
			*err = own;
	}
	mfs_version_unref(v);
	return code != MFS_OK ? code
		: mfs_engine_activate_observed(r->engine, i, id, true, observe_s, same, from, to, err);
}
