/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When trusted state cannot be written: what takes trust away is done all the same, what brings something new
 * waits. The reserve comes first; what does not even fit there is in force in memory until it can be written.
 */
#include <stdio.h>
#include <string.h>

#include "engine_io.h"

/* ---- what may use the reserve ---------------------------------------------------------------------------- */

struct mfs_reserve *
mfs_engine_urgent(struct mfs_engine *e)
{
	return mfs_trusted_reserve(e->trusted, e->reserve);
}

void
mfs_engine_urgent_over(struct mfs_engine *e, struct mfs_reserve *before)
{
	(void)mfs_trusted_reserve(e->trusted, before);
}

struct mfs_reserve *
mfs_engine_reserve(struct mfs_engine *e)
{
	return e->reserve;
}

static void
happened(struct mfs_engine *e, enum mfs_code code, const char *detail)
{
	mfs_event(e->args.events, &(struct mfs_event){ .code = code, .source = "state", .detail = detail });
}

/* Said once when the disk is full, and once when there is room again. Hold lock. */
static void
full_tell(struct mfs_engine *e, const struct mfs_reserve_facts *f)
{
	char detail[512];

	if (e->full_told == f->full)
		return;
	e->full_told = f->full;
	if (!f->full)
		(void)snprintf(detail, sizeof(detail), "state: there is room again, and the reserve of %llu KiB is whole",
			(unsigned long long)f->want >> 10);
	else
		(void)snprintf(detail, sizeof(detail), "state: the disk that holds %.300s is full: %llu of the %llu KiB kept in reserve are "
			"left; revocations act, nothing new is activated: make room there", MFS_ESC(e->args.config->state),
			(unsigned long long)f->bytes >> 10, (unsigned long long)f->want >> 10);
	happened(e, !f->full ? MFS_OK : MFS_INSUFFICIENT_STORAGE, detail);
}

static bool
fill(struct mfs_engine *e, bool create)
{
	struct mfs_reserve_facts f;
	bool room;

	/* That it was used, also when it is whole at once. */
	mfs_reserve_facts(e->reserve, &f);
	if (f.full)
		full_tell(e, &f);
	room = mfs_reserve_fill(e->reserve, create);
	mfs_reserve_facts(e->reserve, &f);
	full_tell(e, &f);
	return room;
}

bool
mfs_engine_reserve_fill(struct mfs_engine *e, bool create)
{
	bool room = true;

	(void)pthread_mutex_lock(&e->lock);
	if (e->reserve != NULL)
		room = fill(e, create);
	(void)pthread_mutex_unlock(&e->lock);
	return room;
}

/* ---- in memory ----------------------------------------------------------------------------------------------- */

/* Why the anchor in force is not on the disk; NULL: it is. */
static void
unwritten_set(struct mfs_engine *e, const struct mfs_err *why)
{
	e->unwritten = why != NULL ? *why : (struct mfs_err)MFS_ERR_INIT;
	if (why != NULL && mfs_trusted_unkept(e->trusted)[0] != '\0')
		(void)mfs_err_hint(&e->unwritten, "; nor is it kept for the next serve: %s", mfs_trusted_unkept(e->trusted));
	(void)pthread_mutex_lock(&e->view_lock);
	(void)snprintf(e->unwritten_text, sizeof(e->unwritten_text), "%.255s", e->unwritten.msg);
	(void)pthread_mutex_unlock(&e->view_lock);
}

/* Hold lock. After a commit: is it still ahead? */
void
mfs_engine_unwritten_settle(struct mfs_engine *e)
{
	if (e->unwritten.code == MFS_OK || mfs_trusted_ahead(e->trusted))
		return;
	unwritten_set(e, NULL);
	happened(e, MFS_OK, "state: what was in force from memory alone is on the disk");
}

enum mfs_code
mfs_engine_commit_or_hold(struct mfs_engine *e, struct mfs_anchor *a)
{
	struct mfs_reserve *before = mfs_engine_urgent(e);
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_trusted_commit(e->trusted, a, &err);
	char detail[sizeof(err.msg) + 160];

	mfs_engine_urgent_over(e, before);
	if (code == MFS_OK)
		return code;
	if (!mfs_trusted_ahead(e->trusted)) {
		(void)snprintf(detail, sizeof(detail), "%s; a revocation acts from memory alone, and is not yet on the disk that holds %s",
			err.msg, MFS_ESC(e->args.config->state));
		happened(e, code, detail);
	}
	mfs_trusted_hold(e->trusted, a);
	unwritten_set(e, &err);
	return MFS_OK;
}

enum mfs_code
mfs_engine_anchor_hold(struct mfs_engine *e, enum mfs_code (*fn)(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err),
	void *user, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	bool write = false;
	enum mfs_code code;

	(void)pthread_mutex_lock(&e->lock);
	if ((code = mfs_anchor_copy(mfs_trusted_anchor(e->trusted), &a, err)) == MFS_OK &&
		(code = fn(user, a, &write, err)) == MFS_OK && write)
		code = mfs_engine_commit_or_hold(e, mfs_steal(&a));
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

void
mfs_engine_unwritten(struct mfs_engine *e, size_t i, const struct mfs_err *why)
{
	if (i >= e->args.config->n_models)
		return;
	(void)pthread_mutex_lock(&e->lock);
	e->waits[i].code = why->code;
	(void)snprintf(e->waits[i].detail, sizeof(e->waits[i].detail), "%.*s", (int)sizeof(e->waits[i].detail) - 1, why->msg);
	(void)pthread_mutex_unlock(&e->lock);
}

enum mfs_code
mfs_engine_unwritten_check(struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	if ((code = e->waits[i].code) != MFS_OK)
		(void)mfs_fail(err, code, "%s", e->waits[i].detail);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

bool
mfs_engine_written(struct mfs_engine *e)
{
	struct mfs_reserve *before;
	struct mfs_err err = MFS_ERR_INIT;
	bool room, ahead;

	if ((e->args.flags & MFS_TRUSTED_READ) != 0)
		return true;
	(void)pthread_mutex_lock(&e->lock);
	if (mfs_trusted_ahead(e->trusted)) {
		before = mfs_engine_urgent(e);
		if (mfs_trusted_flush(e->trusted, &err) != MFS_OK)
			unwritten_set(e, &err);
		else if (mfs_trusted_cycle_save(e->trusted, &err) != MFS_OK) /* what it says of the same */
			mfs_log_err("state: cycle", &err);
		mfs_engine_urgent_over(e, before);
	}
	mfs_engine_unwritten_settle(e);
	ahead = mfs_trusted_ahead(e->trusted);
	room = fill(e, false);
	(void)pthread_mutex_unlock(&e->lock);
	return room && !ahead;
}

/* ---- from one serve to the next -------------------------------------------------------------------------------- */

enum mfs_code
mfs_engine_take_over(struct mfs_engine *e, struct mfs_err *err)
{
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	if (e->args.held == NULL || (e->args.flags & (MFS_TRUSTED_READ | MFS_TRUSTED_RECOVER)) != 0)
		return MFS_OK;
	if ((code = mfs_trusted_take_over(e->trusted, e->args.held, err)) != MFS_OK || !mfs_trusted_ahead(e->trusted))
		return code;
	e->took_over = true;
	(void)mfs_fail(&why, MFS_INSUFFICIENT_STORAGE, "state: in force from memory alone since the serve before this one");
	happened(e, why.code, why.msg);
	unwritten_set(e, &why);
	return MFS_OK;
}

bool
mfs_engine_took_over(struct mfs_engine *e)
{
	return e->took_over;
}

static void
lost_say(void *user, const char *what, const char *lacks)
{
	(void)user;
	mfs_log(MFS_LOG_ERR, "%s: %s could not be written and ends with this mount: the next check brings it again", what, lacks);
}

void
mfs_engine_last_write(struct mfs_engine *e, bool over)
{
	bool ahead;

	if (e == NULL)
		return;
	(void)pthread_mutex_lock(&e->lock);
	ahead = mfs_trusted_ahead(e->trusted);
	(void)pthread_mutex_unlock(&e->lock);
	if (!ahead)
		return;
	(void)mfs_engine_written(e);
	(void)pthread_mutex_lock(&e->lock);
	if (over)
		mfs_trusted_lacks(e->trusted, lost_say, NULL);
	(void)pthread_mutex_unlock(&e->lock);
}

/* ---- what was signed ----------------------------------------------------------------------------------------- */

/* A disk that is full is named, and what it takes. */
static enum mfs_code
full_hint(const char *what, const char *path, enum mfs_code code, struct mfs_err *err)
{
	if (code == MFS_OK || err == NULL)
		return code;
	(void)mfs_err_context(err, "%s: ", what);
	if (code == MFS_INSUFFICIENT_STORAGE)
		(void)mfs_err_hint(err, ": make room on the disk that holds %s", MFS_ESC(path));
	return code;
}

enum mfs_code
mfs_engine_signed_put(struct mfs_engine *e, const struct mfs_sha256 *id, const struct mfs_signed *s, struct mfs_err *err)
{
	enum mfs_code code = mfs_signed_put(e->args.state_dirfd, id, s, err);

	if (code != MFS_OK)
		return full_hint("state", e->args.config->state, code, err);
	code = mfs_signed_put(mfs_store_dirfd(e->args.store), id, s, err);
	return full_hint("store", e->args.config->store, code, err);
}

/* ---- what waits -------------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_engine_room_locked(struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	struct mfs_reserve_facts f;

	if (e->waits[i].code != MFS_OK)
		return mfs_fail(err, e->waits[i].code, "%s", e->waits[i].detail);
	mfs_engine_unwritten_settle(e);
	if (mfs_trusted_ahead(e->trusted))
		return mfs_fail(err, e->unwritten.code, "%s; nothing new is activated before what is in force is on the disk",
			e->unwritten.msg);
	mfs_reserve_facts(e->reserve, &f);
	if (!f.full || fill(e, false))
		return MFS_OK;
	return mfs_fail(err, MFS_INSUFFICIENT_STORAGE, "state: the disk that holds %s is full: nothing new is activated before there "
		"is room beside the %llu KiB kept in reserve: make room there", MFS_ESC(e->args.config->state),
		(unsigned long long)f.want >> 10);
}

enum mfs_code
mfs_engine_room(struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	enum mfs_code code;

	if (i >= e->args.config->n_models)
		return mfs_fail(err, MFS_INTERNAL, "engine: no model %zu", i);
	(void)pthread_mutex_lock(&e->lock);
	code = mfs_engine_room_locked(e, i, err);
	(void)pthread_mutex_unlock(&e->lock);
	return code;
}

void
mfs_engine_state_facts(struct mfs_engine *e, struct mfs_engine_state *out)
{
	struct mfs_reserve_facts f;

	mfs_reserve_facts(e->reserve, &f);
	*out = (struct mfs_engine_state){ .kept = f.kept, .full = f.full, .reserve = f.bytes, .want = f.want };
	(void)pthread_mutex_lock(&e->view_lock);
	(void)snprintf(out->unwritten, sizeof(out->unwritten), "%s", e->unwritten_text);
	(void)pthread_mutex_unlock(&e->view_lock);
}
