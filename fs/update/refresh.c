/* SPDX-License-Identifier: Apache-2.0 */
/* The object of refresh: time, freshness, what status sees, and a run from its beginning to its record. */
#include "refresh.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "io.h"
#include "log.h"
#include "refresh_int.h"

#define TICK_MAX_S  60
#define TICK_FULL_S 5 /* the state waits to be written */

static const char *const role_names[MFS_ROLES] = { "root", "timestamp", "snapshot", "targets" };

/* ---- time ----------------------------------------------------------------------------------------------- */

int64_t
mfs_refresh_boot_s(void)
{
	return mfs_clock_boot_ms() / 1000;
}

/* The latest floor of all but the repository `but` and what no repository has; SIZE_MAX: of all. */
static int64_t
floor_but(struct mfs_refresh *r, size_t but)
{
	const int64_t boot = mfs_refresh_boot_s();
	int64_t latest = MFS_BUILD_TIME, at;

	(void)pthread_mutex_lock(&r->lock);
	for (size_t k = 0; k < r->args.config->n_repos; k++)
		if (k != but && (at = mfs_cycle_floor_at(r->repos[k].floor, boot)) > latest)
			latest = at;
	if ((at = mfs_cycle_floor_at(r->others, boot)) > latest)
		latest = at;
	if (but == SIZE_MAX && (at = mfs_cycle_floor_at(r->rest, boot)) > latest)
		latest = at;
	(void)pthread_mutex_unlock(&r->lock);
	return latest;
}

int64_t
mfs_refresh_floor(struct mfs_refresh *r)
{
	return floor_but(r, SIZE_MAX);
}

int64_t
mfs_refresh_now_without(struct mfs_refresh *r, size_t repo)
{
	int64_t wall = r->args.clock != NULL ? r->args.clock(r->args.get_user) : mfs_clock_wall();
	int64_t floor = floor_but(r, repo);

	return wall > floor ? wall : floor;
}

/* What the cycle document says, into memory. */
static void
floors_take(struct mfs_refresh *r, const struct mfs_cycle *c)
{
	(void)pthread_mutex_lock(&r->lock);
	r->rest = mfs_cycle_floor_rest(c);
	r->others = (struct mfs_cycle_floor){ 0 };
	for (size_t i = 0; i < c->n_repos; i++) {
		const ssize_t k = mfs_config_find_repo(r->args.config, c->repos[i].name);
		const struct mfs_cycle_floor f = c->repos[i].floor;

		if (k >= 0)
			r->repos[k].floor = f;
		else if (mfs_cycle_floor_at(f, mfs_refresh_boot_s()) > mfs_cycle_floor_at(r->others, mfs_refresh_boot_s()))
			r->others = f;
	}
	(void)pthread_mutex_unlock(&r->lock);
}

struct floor_write {
	struct mfs_refresh *r;
	size_t repo;
	int64_t time;
	bool anew;
};

static bool
floor_write(void *user, struct mfs_cycle *c)
{
	const struct floor_write *f = user;
	const char *name = f->r->args.config->repos[f->repo].name;
	const struct mfs_cycle_repo *repo = mfs_cycle_repo(c, name);
	const int64_t boot = mfs_refresh_boot_s();
	bool write = false;

	if (repo != NULL && (f->anew || f->time > mfs_cycle_floor_at(repo->floor, boot)))
		write = mfs_cycle_floor_set(c, name, f->time, boot, f->anew);
	floors_take(f->r, c);
	return write;
}

enum mfs_code
mfs_refresh_floor_set(struct mfs_refresh *r, size_t repo, int64_t time, bool anew, struct mfs_err *err)
{
	struct floor_write f = { .r = r, .repo = repo, .time = time, .anew = anew };

	if (time <= 0 && !anew)
		return MFS_OK;
	return mfs_engine_cycle_update(r->args.engine, floor_write, &f, err);
}

int64_t
mfs_refresh_now(struct mfs_refresh *r)
{
	int64_t wall = r->args.clock != NULL ? r->args.clock(r->args.get_user) : mfs_clock_wall();
	int64_t floor = mfs_refresh_floor(r);

	return wall > floor ? wall : floor;
}

static const char *
time_text(int64_t t, char out[32])
{
	time_t v = (time_t)t;
	struct tm tm;

	if (gmtime_r(&v, &tm) == NULL || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(out, 32, "%" PRId64, t);
	return out;
}

enum mfs_code
mfs_refresh_clock(struct mfs_refresh *r, struct mfs_err *err)
{
	int64_t wall = r->args.clock != NULL ? r->args.clock(r->args.get_user) : mfs_clock_wall();
	int64_t floor = mfs_refresh_floor(r);
	char a[32], b[32];

	if (wall + MFS_CLOCK_SLACK_S >= floor)
		return MFS_OK;
	return mfs_fail(err, MFS_CLOCK_UNSET, "the clock says %s, but it is %s at least: nothing new is activated until it is set",
		time_text(wall, a), time_text(floor, b));
}

/* ---- freshness -------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_refresh_expired(struct mfs_refresh *r, size_t repo, struct mfs_err *err)
{
	const struct mfs_config *c = r->args.config;
	int64_t now = mfs_refresh_now(r), grace = c->update.expired_grace_ms / 1000;
	struct mfs_refresh_status s;
	char text[32];

	(void)pthread_mutex_lock(&r->lock);
	s = r->repos[repo].status;
	(void)pthread_mutex_unlock(&r->lock);
	for (int k = 0; k < MFS_ROLES; k++) {
		int64_t until = s.roles[k].expires;

		if (until == 0)
			return mfs_fail(err, MFS_METADATA_EXPIRED, "repository %s: its metadata was never fetched", c->repos[repo].name);
		if (k == MFS_ROLE_TIMESTAMP || k == MFS_ROLE_SNAPSHOT)
			until += grace;
		if (until <= now)
			return mfs_fail(err, MFS_METADATA_EXPIRED, "repository %s: %s has expired at %s", c->repos[repo].name,
				role_names[k], time_text(until, text));
	}
	return MFS_OK;
}

void
mfs_refresh_changed(struct mfs_refresh *r, size_t i)
{
	if (r->args.changed != NULL)
		r->args.changed(r->args.user, i);
}

void
mfs_refresh_stale_apply(struct mfs_refresh *r, size_t repo)
{
	const struct mfs_config *c = r->args.config;
	struct mfs_err why = MFS_ERR_INIT, err = MFS_ERR_INIT;

	if (c->update.stale != MFS_STALE_STOP)
		return;
	(void)mfs_refresh_expired(r, repo, &why);
	for (size_t i = 0; i < c->n_models; i++) {
		bool changed = false;

		if (c->models[i].repo != (ssize_t)repo)
			continue;
		if (mfs_engine_stop(r->args.engine, i, why.code, why.msg, &changed, &err) != MFS_OK)
			mfs_log_err(c->models[i].id, &err);
		if (changed)
			mfs_refresh_changed(r, i);
	}
}

enum mfs_code
mfs_refresh_fresh(struct mfs_refresh *r, size_t i, struct mfs_err *err)
{
	const struct mfs_config *c = r->args.config;
	struct mfs_refresh_model m;
	enum mfs_code code;

	if (i >= c->n_models || c->models[i].repo < 0)
		return MFS_OK;
	if ((code = mfs_refresh_clock(r, err)) != MFS_OK ||
		(code = mfs_refresh_expired(r, (size_t)c->models[i].repo, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&r->lock);
	m = r->models[i];
	(void)pthread_mutex_unlock(&r->lock);
	return m.code == MFS_OK ? MFS_OK : mfs_fail(err, m.code, "%s", m.detail);
}

int64_t
mfs_refresh_tick(struct mfs_refresh *r)
{
	for (size_t k = 0; k < r->args.config->n_repos; k++)
		mfs_refresh_stale_apply(r, k);
	/* A kill switch that could not be written down when it came is not given up. */
	for (size_t i = 0; i < r->args.config->n_models; i++) {
		struct mfs_err err = MFS_ERR_INIT;
		bool changed;

		if (mfs_engine_enforce_again(r->args.engine, i, &changed, &err) != MFS_OK)
			mfs_log_err(r->args.config->models[i].id, &err);
		if (changed)
			mfs_refresh_changed(r, i);
	}
	return mfs_engine_written(r->args.engine) ? TICK_MAX_S : TICK_FULL_S;
}

/* ---- a run and its record ----------------------------------------------------------------------------------- */

struct record {
	struct mfs_refresh_run *x;
	struct mfs_refresh_status *status;
	const struct mfs_err *why;
	bool told; /* the outcome is the one before */
};

static bool
record_cycle(void *user, struct mfs_cycle *c)
{
	const struct record *rec = user;
	struct mfs_refresh_run *x = rec->x;
	struct mfs_cycle_repo *repo = mfs_cycle_repo(c, x->r->args.config->repos[x->repo].name);
	bool write = !rec->told || x->res.news;

	if (repo == NULL)
		return false;
	repo->last_check = rec->status->last_check;
	repo->last_success = rec->status->last_success;
	repo->why = rec->why->code;
	free(repo->detail);
	repo->detail = rec->why->code == MFS_OK ? NULL : mfs_engine_text(rec->status->detail);
	if (x->t == NULL)
		return write;
	for (int k = 0; k < MFS_ROLES; k++) {
		write = write || repo->expires[k] != rec->status->roles[k].expires;
		repo->expires[k] = rec->status->roles[k].expires;
	}
	/* Lower only beside a new root. */
	if (x->unwritten.code == MFS_OK || rec->status->roles[MFS_ROLE_TIMESTAMP].version > repo->timestamp_version) {
		write = write || repo->timestamp_version != rec->status->roles[MFS_ROLE_TIMESTAMP].version;
		repo->timestamp_version = rec->status->roles[MFS_ROLE_TIMESTAMP].version;
	}
	write = write || strcmp(repo->etag, x->etag) != 0;
	memcpy(repo->etag, x->etag, sizeof(repo->etag));
	return write;
}

static void
roles_take(const struct mfs_tuf *t, struct mfs_refresh_status *s)
{
	for (int k = 0; k < MFS_ROLES; k++) {
		struct mfs_tuf_role role;

		if (!mfs_tuf_role_find(t, role_names[k], &role))
			continue;
		s->roles[k].version = role.drop ? 0 : role.version;
		s->roles[k].expires = role.drop ? 0 : role.expires;
	}
}

/* In memory, in the cycle document, and once as an event. */
static void
record_run(struct mfs_refresh_run *x, const struct mfs_err *why)
{
	struct mfs_refresh *r = x->r;
	struct mfs_refresh_status *s = &r->repos[x->repo].status, copy;
	struct record rec = { .x = x, .status = &copy, .why = why };
	struct mfs_err err = MFS_ERR_INIT;
	char detail[sizeof(why->msg) + 96];
	const char *said;

	(void)pthread_mutex_lock(&r->lock);
	rec.told = s->last_check != 0 && s->outcome == why->code;
	s->last_check = mfs_clock_wall();
	s->outcome = why->code;
	(void)snprintf(s->detail, sizeof(s->detail), "%.*s", (int)sizeof(s->detail) - 1, why->msg);
	if (why->code == MFS_OK)
		s->last_success = s->last_check;
	if (x->t != NULL)
		roles_take(x->t, s);
	copy = *s;
	(void)pthread_mutex_unlock(&r->lock);
	if (mfs_engine_cycle_update(r->args.engine, record_cycle, &rec, &err) != MFS_OK)
		mfs_log_err("state: cycle", &err);
	if (rec.told || (why->code == MFS_OK && copy.last_success == copy.last_check && !x->had_failed))
		return;
	(void)snprintf(detail, sizeof(detail), "repository %s: ", r->args.config->repos[x->repo].name);
	said = why->code == MFS_OK ? "reached again" : why->msg;
	if (strncmp(said, detail, strlen(detail)) == 0) /* most of what goes wrong says so itself */
		said += strlen(detail);
	(void)snprintf(detail + strlen(detail), sizeof(detail) - strlen(detail), "%s", said);
	mfs_event(r->args.events, &(struct mfs_event){ .code = why->code, .source = "refresh", .detail = detail });
}

static bool
forget_timestamp(void *user, struct mfs_cycle *c)
{
	const struct mfs_refresh_run *x = user;
	struct mfs_cycle_repo *repo = mfs_cycle_repo(c, x->r->args.config->repos[x->repo].name);

	if (repo == NULL || (repo->timestamp_version == 0 && repo->etag[0] == '\0'))
		return false;
	repo->timestamp_version = 0;
	repo->etag[0] = '\0';
	return true;
}

/*
 * A new root took a key of timestamp or snapshot away: the recorded version of the timestamp does not count
 * any more. Written down before the anchor names the new root: a power cut between the two would leave
 * this root with that version, which may be a thief's, and no later timestamp would ever be good. Likewise the time
 * floor of this repository, that this key capped: whatever becomes of the rest of this run, no later one has a new root.
 * But when the new root could not be stored: the anchor stays with the one before, and the next run brings it again.
 */
static enum mfs_code
rotation_note(struct mfs_refresh_run *x, struct mfs_err *err)
{
	enum mfs_code code;

	if (x->t == NULL || x->unwritten.code != MFS_OK ||
		(!mfs_tuf_rotated(x->t, "timestamp") && !mfs_tuf_rotated(x->t, "snapshot")))
		return MFS_OK;
	if ((code = mfs_engine_cycle_update(x->r->args.engine, forget_timestamp, x, err)) == MFS_OK &&
		mfs_tuf_rotated(x->t, "timestamp"))
		code = mfs_refresh_floor_set(x->r, x->repo, 0, true, err);
	return code;
}

/* What the run verified and could not write: it acted all the same, and nothing new comes before it is written. */
static enum mfs_code
unwritten_tell(struct mfs_refresh_run *x, struct mfs_err *err)
{
	const struct mfs_config *c = x->r->args.config;
	struct mfs_err why = x->unwritten;

	if (why.code != MFS_OK)
		(void)mfs_err_hint(&why, "; revocations act all the same, nothing new is activated%s%s",
			why.code == MFS_INSUFFICIENT_STORAGE ? ": make room on the disk that holds " : "",
			why.code == MFS_INSUFFICIENT_STORAGE ? MFS_ESC(c->state) : "");
	for (size_t i = 0; i < c->n_models; i++)
		if (c->models[i].repo == (ssize_t)x->repo)
			mfs_engine_unwritten(x->r->args.engine, i, &why);
	if (why.code != MFS_OK)
		*err = why;
	return why.code;
}

enum mfs_code
mfs_refresh_run_locked(struct mfs_refresh_run *x, struct mfs_err *err)
{
	struct mfs_refresh *r = x->r;
	struct mfs_err own = MFS_ERR_INIT, late = MFS_ERR_INIT;
	enum mfs_code code;

	x->now = mfs_refresh_now(r);
	x->begun_ms = mfs_clock_boot_ms();
	x->had_failed = r->repos[x->repo].status.outcome != MFS_OK;
	if ((x->changed = calloc(r->args.config->n_models + 1, sizeof(*x->changed))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "refresh");
	code = mfs_refresh_run_begin(x, &own);
	if (rotation_note(x, &late) != MFS_OK)
		mfs_refresh_unwritten(x, &late); /* and the anchor stays with the root before */
	late = (struct mfs_err)MFS_ERR_INIT;
	if (code == MFS_OK)
		code = mfs_refresh_policies(x, &own);
	else if (x->t != NULL && mfs_refresh_roles_write(x, &late) != MFS_OK)
		mfs_log_err(r->args.config->repos[x->repo].name, &late);
	if (code == MFS_OK) {
		own = (struct mfs_err)MFS_ERR_INIT;
		code = unwritten_tell(x, &own);
	}
	if (code == MFS_OK)
		code = mfs_refresh_clock(r, &own);
	(void)mfs_engine_written(r->args.engine);
	/* Stopped by a command, or by the end of this process: says nothing about the repository. */
	if (code != MFS_CONDITION_UNMET)
		record_run(x, &own);
	if (code != MFS_OK && err != NULL)
		*err = own;
	return code;
}

void
mfs_refresh_tell(struct mfs_refresh *r, size_t repo, const bool *changed)
{
	for (size_t i = 0; changed != NULL && i < r->args.config->n_models; i++)
		if (changed[i])
			mfs_refresh_changed(r, i);
	mfs_refresh_stale_apply(r, repo);
}

enum mfs_code
mfs_refresh_run(struct mfs_refresh *r, size_t repo, const struct mfs_refresh_via *via, const _Atomic int *cancel,
	struct mfs_refresh_result *res, struct mfs_err *err)
{
	struct mfs_refresh_run x = { .r = r, .repo = repo, .remote = r->args.remote, .cancel = cancel };
	mfs_autofree bool *changed = NULL;
	enum mfs_code code;

	if (res != NULL)
		*res = (struct mfs_refresh_result){ 0 };
	if (repo >= r->args.config->n_repos)
		return mfs_fail(err, MFS_INTERNAL, "refresh: no repository %zu", repo);
	if (via != NULL && via->remote != NULL) {
		x.remote = via->remote;
		x.via = true;
	}
	(void)pthread_mutex_lock(&r->repos[repo].run);
	code = mfs_refresh_run_locked(&x, err);
	changed = mfs_steal(&x.changed);
	mfs_refresh_run_share(&x, code == MFS_OK);
	(void)pthread_mutex_unlock(&r->repos[repo].run);
	mfs_refresh_tell(r, repo, changed);
	if (res != NULL)
		*res = x.res;
	return code;
}

/* ---- status --------------------------------------------------------------------------------------------------- */

void
mfs_refresh_status(struct mfs_refresh *r, size_t repo, struct mfs_refresh_status *out)
{
	*out = (struct mfs_refresh_status){ 0 };
	if (repo >= r->args.config->n_repos)
		return;
	(void)pthread_mutex_lock(&r->lock);
	*out = r->repos[repo].status;
	(void)pthread_mutex_unlock(&r->lock);
	out->expired = mfs_refresh_expired(r, repo, NULL) != MFS_OK;
	out->behind = mfs_refresh_clock(r, NULL) != MFS_OK;
}

enum mfs_code
mfs_refresh_policy_state(struct mfs_refresh *r, size_t i, char detail[256])
{
	struct mfs_refresh_model m = { 0 };

	if (i < r->args.config->n_models) {
		(void)pthread_mutex_lock(&r->lock);
		m = r->models[i];
		(void)pthread_mutex_unlock(&r->lock);
	}
	memcpy(detail, m.detail, sizeof(m.detail));
	return m.code;
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

void
mfs_refresh_free(struct mfs_refresh *r)
{
	if (r == NULL)
		return;
	for (size_t k = 0; r->repos != NULL && k < r->args.config->n_repos; k++) {
		mfs_refresh_pass(r, k, false);
		(void)pthread_mutex_destroy(&r->repos[k].run);
	}
	(void)pthread_mutex_destroy(&r->lock);
	free(r->repos);
	free(r->models);
	free(r);
}

static void
load_anchor(void *user, const struct mfs_anchor *a)
{
	struct mfs_refresh *r = user;

	for (size_t k = 0; k < r->args.config->n_repos; k++) {
		const struct mfs_anchor_repo *repo = mfs_anchor_repo_find(a, r->args.config->repos[k].name);
		struct mfs_refresh_status *s = &r->repos[k].status;

		if (repo == NULL)
			continue;
		s->roles[MFS_ROLE_ROOT].version = repo->root.version;
		s->roles[MFS_ROLE_SNAPSHOT].version = repo->snapshot.version;
		s->roles[MFS_ROLE_TARGETS].version = repo->targets.version;
	}
}

static bool
load_cycle(void *user, struct mfs_cycle *c)
{
	struct mfs_refresh *r = user;

	floors_take(r, c);
	for (size_t k = 0; k < r->args.config->n_repos; k++)
		for (size_t i = 0; i < c->n_repos; i++) {
			struct mfs_refresh_status *s = &r->repos[k].status;
			const struct mfs_cycle_repo *repo = &c->repos[i];

			if (strcmp(repo->name, r->args.config->repos[k].name) != 0)
				continue;
			s->outcome = repo->why;
			s->last_check = repo->last_check;
			s->last_success = repo->last_success;
			s->roles[MFS_ROLE_TIMESTAMP].version = repo->timestamp_version;
			for (int role = 0; role < MFS_ROLES; role++)
				s->roles[role].expires = repo->expires[role];
			(void)snprintf(s->detail, sizeof(s->detail), "%s", repo->detail != NULL ? repo->detail : "");
		}
	for (size_t i = 0; i < r->args.config->n_models; i++) {
		const struct mfs_cycle_model *m = mfs_cycle_find(c, r->args.config->models[i].id);

		if (m == NULL)
			continue;
		r->models[i].code = m->policy_why;
		(void)snprintf(r->models[i].detail, sizeof(r->models[i].detail), "%s", m->policy_detail != NULL ? m->policy_detail : "");
	}
	return false;
}

enum mfs_code
mfs_refresh_new(const struct mfs_refresh_args *args, struct mfs_refresh **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_refresh) struct mfs_refresh *r = calloc(1, sizeof(*r));
	enum mfs_code code;

	*out = NULL;
	if (r == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "refresh");
	r->args = *args;
	(void)pthread_mutex_init(&r->lock, NULL);
	r->models = calloc(args->config->n_models + 1, sizeof(*r->models));
	if (r->models == NULL || (r->repos = calloc(args->config->n_repos + 1, sizeof(*r->repos))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "refresh: %zu models", args->config->n_models);
	for (size_t k = 0; k < args->config->n_repos; k++)
		(void)pthread_mutex_init(&r->repos[k].run, NULL);
	mfs_engine_anchor_read(args->engine, load_anchor, r);
	if ((code = mfs_engine_cycle_update(args->engine, load_cycle, r, err)) != MFS_OK)
		return code;
	for (size_t k = 0; k < args->config->n_repos; k++)
		mfs_refresh_stale_apply(r, k);
	*out = mfs_steal(&r);
	return MFS_OK;
}
