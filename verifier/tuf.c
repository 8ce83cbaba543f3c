/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the TUF client: root chain, timestamp, snapshot, targets, in this order (section 5 of the
 * specification). Each state first looks at the stored file, then wants the newer one; a file becomes
 * trusted only when everything about it holds.
 */
#include "tuf_internal.h"

/* ---- life ----------------------------------------------------------------------------------------------- */

static enum mfs_code
options_check(const struct mfs_tuf_options *o, struct mfs_err *err)
{
	if (o->now < 0 || o->now_rotated < 0 || o->expired_grace < 0 || o->expired_grace > MFS_TUF_GRACE_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, "TUF: time %lld, grace %lld s: out of range", (long long)o->now,
			(long long)o->expired_grace);
	if (o->floor_root < 0 || o->floor_timestamp < 0 || o->floor_snapshot < 0 || o->floor_targets < 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "TUF: a negative version as the least one");
	return MFS_OK;
}

enum mfs_code
mfs_tuf_new(struct mfs_span root, const struct mfs_tuf_options *opt, struct mfs_tuf **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_tuf) struct mfs_tuf *t = calloc(1, sizeof(*t));
	struct mfs_tuf_signers own;
	struct mfs_tuf_doc *d;
	enum mfs_code code;

	*out = NULL;
	if (t == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "TUF client");
	if ((code = options_check(opt, err)) != MFS_OK ||
		(code = mfs_tuf_doc_parse("trusted root", MFS_TUF_ROOT, root, &t->role[MFS_TUF_ROOT], err)) != MFS_OK)
		return code;
	d = t->role[MFS_TUF_ROOT];
	own = mfs_tuf_root_signers(d, MFS_TUF_ROOT);
	if ((code = mfs_tuf_doc_verify(d, "trusted root", &own, err)) != MFS_OK)
		return code;
	if (d->version < opt->floor_root)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "trusted root: version %lld, but %lld was trusted before",
			(long long)d->version, (long long)opt->floor_root);
	t->opt = *opt;
	*out = mfs_steal(&t);
	return MFS_OK;
}

void
mfs_tuf_free(struct mfs_tuf *t)
{
	if (t == NULL)
		return;
	mfs_tuf_search_clear(t);
	mfs_tuf_delegated_clear(t);
	mfs_tuf_local_clear(t);
	for (int i = 0; i < 4; i++)
		mfs_tuf_doc_free(t->role[i]);
	free(t);
}

/* ---- stored files ------------------------------------------------------------------------------------------ */

/* The stored file of a top-level role, if it verifies under the present root; else NULL. */
static enum mfs_code
local_doc(struct mfs_tuf *t, enum mfs_tuf_type type, int64_t floor, struct mfs_tuf_doc **out, struct mfs_err *err)
{
	const struct mfs_tuf_signers s = mfs_tuf_root_signers(t->role[MFS_TUF_ROOT], type);
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	char file[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;
	size_t len = 0;

	*out = NULL;
	if ((code = mfs_tuf_file_name(mfs_tuf_type_name(type), 0, file, err)) != MFS_OK)
		return code;
	if (!mfs_tuf_local_take(t, file, &bytes, &len))
		return MFS_OK;
	if ((code = mfs_tuf_doc_parse(file, type, MFS_SPAN(bytes, len), &d, err)) != MFS_OK ||
		(code = mfs_tuf_doc_verify(d, file, &s, err)) != MFS_OK)
		return code == MFS_NO_MEMORY ? code : MFS_OK;
	if (d->version >= floor)
		*out = mfs_steal(&d);
	return MFS_OK;
}

/* ---- the steps ----------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_tuf_want_name(struct mfs_tuf *t, const char *role, int64_t version, struct mfs_err *err)
{
	const bool numbered = t->role[MFS_TUF_ROOT]->consistent;

	return mfs_tuf_file_name(role, numbered ? version : 0, t->want, err);
}

enum mfs_code
mfs_tuf_fresh(const struct mfs_tuf *t, const struct mfs_tuf_doc *d, const char *what, int64_t grace, struct mfs_err *err)
{
	const bool rotated = t->lost[MFS_TUF_TIMESTAMP] && t->opt.now_rotated != 0;
	const int64_t late = (rotated ? t->opt.now_rotated : t->opt.now) - d->expires;

	if (late < 0 || late < grace)
		return MFS_OK;
	return mfs_fail(err, MFS_METADATA_EXPIRED,
		"%s: version %lld expired %lld s ago: the repository, its mirror or the clock is behind", what,
		(long long)d->version, (long long)late);
}

/* The least version that counts; nothing does after a recovery from fast-forward. */
static int64_t
floor_of(const struct mfs_tuf *t, enum mfs_tuf_type type)
{
	if (mfs_tuf_lost_online_key(t))
		return 0;
	return type == MFS_TUF_TIMESTAMP ? t->opt.floor_timestamp
		: type == MFS_TUF_SNAPSHOT ? t->opt.floor_snapshot
					   : t->opt.floor_targets;
}

static void
trust(struct mfs_tuf *t, struct mfs_tuf_doc **d, bool changed)
{
	const enum mfs_tuf_type type = (*d)->type;

	mfs_tuf_doc_free(t->role[type]);
	t->role[type] = mfs_steal(d);
	t->changed[type] = changed;
}

static void
enter(struct mfs_tuf *t, enum mfs_tuf_state state)
{
	t->state = state;
	t->entered = false;
}

static enum mfs_code
below(const char *what, int64_t version, int64_t trusted, struct mfs_err *err)
{
	return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "%s: version %lld is older than %lld, which was trusted before", what,
		(long long)version, (long long)trusted);
}

static enum mfs_code
root_feed(struct mfs_tuf *t, struct mfs_span bytes, struct mfs_err *err)
{
	struct mfs_tuf_doc *old = t->role[MFS_TUF_ROOT];
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	struct mfs_tuf_signers by_old, by_new;
	bool lost[4] = { false };
	enum mfs_code code;

	if ((code = mfs_tuf_doc_parse("root.json", MFS_TUF_ROOT, bytes, &d, err)) != MFS_OK)
		return code;
	by_old = mfs_tuf_root_signers(old, MFS_TUF_ROOT);
	by_new = mfs_tuf_root_signers(d, MFS_TUF_ROOT);
	if ((code = mfs_tuf_doc_verify(d, "root.json (by the keys of the root before)", &by_old, err)) != MFS_OK ||
		(code = mfs_tuf_doc_verify(d, "root.json (by its own keys)", &by_new, err)) != MFS_OK)
		return code;
	if (d->version != old->version + 1)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "root.json: version %lld where %lld belongs", (long long)d->version,
			(long long)old->version + 1);
	for (enum mfs_tuf_type i = MFS_TUF_TIMESTAMP; i <= MFS_TUF_TARGETS; i++) {
		by_old = mfs_tuf_root_signers(old, i);
		by_new = mfs_tuf_root_signers(d, i);
		if ((code = mfs_tuf_signers_lost(&by_old, &by_new, &lost[i], err)) != MFS_OK)
			return code;
	}
	for (int i = 0; i < 4; i++)
		t->lost[i] |= lost[i];
	trust(t, &d, true);
	t->root_steps++;
	t->entered = false;
	return MFS_OK;
}

/* The chain ends: only now does expiry count. */
static enum mfs_code
root_end(struct mfs_tuf *t, struct mfs_err *err)
{
	enum mfs_code code = mfs_tuf_fresh(t, t->role[MFS_TUF_ROOT], "root.json", 0, err);

	if (code == MFS_OK)
		enter(t, MFS_TUF_AT_TIMESTAMP);
	return code;
}

static enum mfs_code
timestamp_enter(struct mfs_tuf *t, struct mfs_err *err)
{
	struct mfs_tuf_doc *d = NULL;
	enum mfs_code code;

	t->entered = true;
	if (mfs_tuf_lost_online_key(t))
		return MFS_OK;
	if ((code = local_doc(t, MFS_TUF_TIMESTAMP, floor_of(t, MFS_TUF_TIMESTAMP), &d, err)) != MFS_OK)
		return code;
	if (d != NULL)
		trust(t, &d, false);
	return MFS_OK;
}

/* A timestamp that came, against the trusted one: is it newer? */
static enum mfs_code
timestamp_compare(const struct mfs_tuf *t, const struct mfs_tuf_doc *d, bool *newer, struct mfs_err *err)
{
	const struct mfs_tuf_doc *old = t->role[MFS_TUF_TIMESTAMP];
	struct mfs_tuf_fileinfo now, before = { 0 };

	*newer = true;
	if (d->version < floor_of(t, MFS_TUF_TIMESTAMP))
		return below("timestamp.json", d->version, floor_of(t, MFS_TUF_TIMESTAMP), err);
	if (old != NULL && d->version < old->version)
		return below("timestamp.json", d->version, old->version, err);
	if (old != NULL && d->version == old->version) {
		*newer = false; /* whatever else it says: a version names one content */
		return MFS_OK;
	}
	(void)mfs_tuf_meta(d, "snapshot.json", &now);
	if (old != NULL)
		(void)mfs_tuf_meta(old, "snapshot.json", &before);
	if (before.version < floor_of(t, MFS_TUF_SNAPSHOT))
		before.version = floor_of(t, MFS_TUF_SNAPSHOT);
	if (now.version < before.version)
		return below("timestamp.json: meta.snapshot.json", now.version, before.version, err);
	return MFS_OK;
}

static enum mfs_code
timestamp_feed(struct mfs_tuf *t, enum mfs_tuf_answer answer, struct mfs_span bytes, struct mfs_err *err)
{
	const struct mfs_tuf_signers s = mfs_tuf_root_signers(t->role[MFS_TUF_ROOT], MFS_TUF_TIMESTAMP);
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	bool newer = false;
	enum mfs_code code;

	if (answer != MFS_TUF_NOT_MODIFIED) {
		if ((code = mfs_tuf_doc_parse("timestamp.json", MFS_TUF_TIMESTAMP, bytes, &d, err)) != MFS_OK ||
			(code = mfs_tuf_doc_verify(d, "timestamp.json", &s, err)) != MFS_OK ||
			(code = timestamp_compare(t, d, &newer, err)) != MFS_OK)
			return code;
	}
	code = mfs_tuf_fresh(t, newer ? d : t->role[MFS_TUF_TIMESTAMP], "timestamp.json", t->opt.expired_grace, err);
	if (code != MFS_OK)
		return code;
	if (newer)
		trust(t, &d, true);
	enter(t, MFS_TUF_AT_SNAPSHOT);
	return MFS_OK;
}

/* Is a verified snapshot the one that the timestamp names? */
static enum mfs_code
snapshot_fits(const struct mfs_tuf *t, const struct mfs_tuf_doc *d, struct mfs_err *err)
{
	struct mfs_tuf_fileinfo want = { 0 }, targets = { 0 };
	enum mfs_code code;

	if (d->version < floor_of(t, MFS_TUF_SNAPSHOT))
		return below("snapshot.json", d->version, floor_of(t, MFS_TUF_SNAPSHOT), err);
	(void)mfs_tuf_meta(d, "targets.json", &targets);
	if (targets.version < floor_of(t, MFS_TUF_TARGETS))
		return below("snapshot.json: targets.json", targets.version, floor_of(t, MFS_TUF_TARGETS), err);
	(void)mfs_tuf_meta(t->role[MFS_TUF_TIMESTAMP], "snapshot.json", &want);
	if ((code = mfs_tuf_fileinfo_check(&want, "snapshot.json", MFS_SPAN(d->bytes, d->len), err)) != MFS_OK)
		return code;
	if (d->version != want.version)
		return mfs_fail(err, d->version < want.version ? MFS_ROLLBACK_ATTEMPT : MFS_HASH_MISMATCH,
			"snapshot.json: version %lld, but the timestamp names %lld", (long long)d->version, (long long)want.version);
	return mfs_tuf_fresh(t, d, "snapshot.json", t->opt.expired_grace, err);
}

static enum mfs_code
snapshot_enter(struct mfs_tuf *t, struct mfs_err *err)
{
	struct mfs_tuf_doc *d = NULL;
	enum mfs_code code;

	t->entered = true;
	if (mfs_tuf_lost_online_key(t))
		return MFS_OK;
	if ((code = local_doc(t, MFS_TUF_SNAPSHOT, floor_of(t, MFS_TUF_SNAPSHOT), &d, err)) != MFS_OK || d == NULL)
		return code;
	trust(t, &d, false); /* for comparison, even when it is not the newest */
	if (snapshot_fits(t, t->role[MFS_TUF_SNAPSHOT], NULL) == MFS_OK)
		enter(t, MFS_TUF_AT_TARGETS);
	return MFS_OK;
}

/* No role may vanish from a snapshot, and none may go back. */
static enum mfs_code
snapshot_compare(const struct mfs_tuf *t, const struct mfs_tuf_doc *d, struct mfs_err *err)
{
	const struct mfs_tuf_doc *old = t->role[MFS_TUF_SNAPSHOT];
	struct mfs_tuf_fileinfo now, before;
	json_t *meta = old != NULL ? (json_t *)(uintptr_t)old->meta : NULL;

	for (void *it = json_object_iter(meta); it != NULL; it = json_object_iter_next(meta, it)) {
		const char *file = json_object_iter_key(it);

		(void)mfs_tuf_meta(old, file, &before);
		if (!mfs_tuf_meta(d, file, &now))
			return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "snapshot.json: version %lld no longer names %s",
				(long long)d->version, MFS_ESC(file));
		if (now.version < before.version)
			return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
				"snapshot.json: %s: version %lld is older than %lld, which was trusted before", MFS_ESC(file),
				(long long)now.version, (long long)before.version);
	}
	return MFS_OK;
}

static enum mfs_code
snapshot_feed(struct mfs_tuf *t, struct mfs_span bytes, struct mfs_err *err)
{
	const struct mfs_tuf_signers s = mfs_tuf_root_signers(t->role[MFS_TUF_ROOT], MFS_TUF_SNAPSHOT);
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	struct mfs_tuf_fileinfo want = { 0 };
	enum mfs_code code;

	(void)mfs_tuf_meta(t->role[MFS_TUF_TIMESTAMP], "snapshot.json", &want);
	if ((code = mfs_tuf_fileinfo_check(&want, "snapshot.json", bytes, err)) != MFS_OK ||
		(code = mfs_tuf_doc_parse("snapshot.json", MFS_TUF_SNAPSHOT, bytes, &d, err)) != MFS_OK ||
		(code = mfs_tuf_doc_verify(d, "snapshot.json", &s, err)) != MFS_OK ||
		(code = snapshot_compare(t, d, err)) != MFS_OK || (code = snapshot_fits(t, d, err)) != MFS_OK)
		return code;
	trust(t, &d, true);
	enter(t, MFS_TUF_AT_TARGETS);
	return MFS_OK;
}

static enum mfs_code
targets_fit(const struct mfs_tuf *t, const struct mfs_tuf_doc *d, struct mfs_err *err)
{
	struct mfs_tuf_fileinfo want = { 0 };
	enum mfs_code code;

	(void)mfs_tuf_meta(t->role[MFS_TUF_SNAPSHOT], "targets.json", &want);
	if ((code = mfs_tuf_fileinfo_check(&want, "targets.json", MFS_SPAN(d->bytes, d->len), err)) != MFS_OK)
		return code;
	if (d->version != want.version)
		return mfs_fail(err, d->version < want.version ? MFS_ROLLBACK_ATTEMPT : MFS_HASH_MISMATCH,
			"targets.json: version %lld, but the snapshot names %lld", (long long)d->version, (long long)want.version);
	return mfs_tuf_fresh(t, d, "targets.json", 0, err);
}

static enum mfs_code
targets_enter(struct mfs_tuf *t, struct mfs_err *err)
{
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	enum mfs_code code;

	t->entered = true;
	if ((code = local_doc(t, MFS_TUF_TARGETS, 0, &d, err)) != MFS_OK || d == NULL)
		return code;
	if (targets_fit(t, d, NULL) == MFS_OK)
		enter(t, MFS_TUF_READY);
	else if (mfs_tuf_lost_online_key(t))
		return MFS_OK; /* its version may be a thief's: to be dropped */
	trust(t, &d, false); /* what is stored stays trusted for what it is: the last one that was in force */
	return MFS_OK;
}

static enum mfs_code
targets_feed(struct mfs_tuf *t, struct mfs_span bytes, struct mfs_err *err)
{
	const struct mfs_tuf_signers s = mfs_tuf_root_signers(t->role[MFS_TUF_ROOT], MFS_TUF_TARGETS);
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	struct mfs_tuf_fileinfo want = { 0 };
	enum mfs_code code;

	(void)mfs_tuf_meta(t->role[MFS_TUF_SNAPSHOT], "targets.json", &want);
	if ((code = mfs_tuf_fileinfo_check(&want, "targets.json", bytes, err)) != MFS_OK ||
		(code = mfs_tuf_doc_parse("targets.json", MFS_TUF_TARGETS, bytes, &d, err)) != MFS_OK ||
		(code = mfs_tuf_doc_verify(d, "targets.json", &s, err)) != MFS_OK ||
		(code = targets_fit(t, d, err)) != MFS_OK)
		return code;
	trust(t, &d, true);
	enter(t, MFS_TUF_READY);
	return MFS_OK;
}

/* ---- the loop ------------------------------------------------------------------------------------------------- */

static enum mfs_code
failed(struct mfs_tuf *t, enum mfs_code code, struct mfs_err *err)
{
	if (code == MFS_OK)
		return MFS_OK;
	if (err != &t->why)
		t->why = *err;
	t->why.code = code;
	t->state = MFS_TUF_FAILED;
	return code;
}

/* How many bytes a file that snapshot or timestamp names may have. */
static size_t
cap_of(const struct mfs_tuf_fileinfo *f, enum mfs_tuf_type type)
{
	const size_t cap = mfs_tuf_type_cap(type);

	return f->has_length && (uint64_t)f->length < cap ? (size_t)f->length : cap;
}

static enum mfs_code
want_role(struct mfs_tuf *t, enum mfs_tuf_type type, struct mfs_tuf_want *want, struct mfs_err *err)
{
	const enum mfs_tuf_type by = type == MFS_TUF_TARGETS ? MFS_TUF_SNAPSHOT : MFS_TUF_TIMESTAMP;
	char file[MFS_TUF_FILE_MAX + 1];
	struct mfs_tuf_fileinfo f = { 0 };
	enum mfs_code code;

	if ((code = mfs_tuf_file_name(mfs_tuf_type_name(type), 0, file, err)) != MFS_OK)
		return code;
	(void)mfs_tuf_meta(t->role[by], file, &f);
	if ((code = mfs_tuf_want_name(t, mfs_tuf_type_name(type), f.version, err)) != MFS_OK)
		return code;
	*want = (struct mfs_tuf_want){ .name = t->want, .role = mfs_tuf_type_name(type), .cap = cap_of(&f, type) };
	return MFS_OK;
}

static enum mfs_code
want_root(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err)
{
	*want = (struct mfs_tuf_want){ .name = t->want, .role = "root", .cap = MFS_TUF_ROOT_MAX, .not_found_ok = true };
	t->entered = true;
	return mfs_tuf_file_name("root", t->role[MFS_TUF_ROOT]->version + 1, t->want, err);
}

/* One step; *want stays empty when the state has changed. */
static enum mfs_code
next(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err)
{
	const enum mfs_tuf_state before = t->state;
	enum mfs_code code = MFS_OK;

	switch (before) {
	case MFS_TUF_AT_ROOT:
		if (t->root_steps < MFS_TUF_ROOT_STEPS_MAX && t->role[MFS_TUF_ROOT]->version < MFS_JSON_INT_MAX)
			return want_root(t, want, err);
		return root_end(t, err);
	case MFS_TUF_AT_TIMESTAMP:
		if (!t->entered && (code = timestamp_enter(t, err)) != MFS_OK)
			return code;
		*want = (struct mfs_tuf_want){ .name = t->want, .role = "timestamp", .cap = MFS_TUF_TIMESTAMP_MAX,
			.not_modified_ok = t->role[MFS_TUF_TIMESTAMP] != NULL };
		return mfs_tuf_file_name("timestamp", 0, t->want, err);
	case MFS_TUF_AT_SNAPSHOT:
		if (!t->entered && ((code = snapshot_enter(t, err)) != MFS_OK || t->state != before))
			return code;
		return want_role(t, MFS_TUF_SNAPSHOT, want, err);
	case MFS_TUF_AT_TARGETS:
		if (!t->entered && ((code = targets_enter(t, err)) != MFS_OK || t->state != before))
			return code;
		return want_role(t, MFS_TUF_TARGETS, want, err);
	case MFS_TUF_READY:
	case MFS_TUF_FAILED:
		break;
	}
	return mfs_fail(err, MFS_INTERNAL, "TUF: no such state");
}

enum mfs_code
mfs_tuf_next(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT, *e = err != NULL ? err : &own;
	enum mfs_code code;

	*want = (struct mfs_tuf_want){ .name = NULL };
	while (t->state != MFS_TUF_READY && t->state != MFS_TUF_FAILED && want->name == NULL)
		if ((code = next(t, want, e)) != MFS_OK) {
			*want = (struct mfs_tuf_want){ .name = NULL };
			return failed(t, code, e);
		}
	if (t->state == MFS_TUF_FAILED) {
		*e = t->why;
		return t->why.code;
	}
	return t->state == MFS_TUF_READY ? mfs_tuf_search_next(t, want, e) : MFS_OK;
}

enum mfs_code
mfs_tuf_feed(struct mfs_tuf *t, enum mfs_tuf_answer answer, struct mfs_span bytes, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT, *e = err != NULL ? err : &own;
	const bool ends_chain = t->state == MFS_TUF_AT_ROOT && answer == MFS_TUF_NOT_FOUND;
	const bool same = t->state == MFS_TUF_AT_TIMESTAMP && answer == MFS_TUF_NOT_MODIFIED;

	if (t->state == MFS_TUF_FAILED || (t->state != MFS_TUF_READY && !t->entered) ||
		(same && t->role[MFS_TUF_TIMESTAMP] == NULL))
		return mfs_fail(err, MFS_INTERNAL, "TUF: an answer that nobody asked for");
	if (t->state == MFS_TUF_READY)
		return mfs_tuf_search_feed(t, answer, bytes, err);
	if (answer != MFS_TUF_BYTES && !ends_chain && !same)
		return failed(t, mfs_fail(e, MFS_NET_HTTP, "%s: not in the repository", MFS_ESC(t->want)), e);
	switch (t->state) {
	case MFS_TUF_AT_ROOT:
		return failed(t, ends_chain ? root_end(t, e) : root_feed(t, bytes, e), e);
	case MFS_TUF_AT_TIMESTAMP:
		return failed(t, timestamp_feed(t, answer, bytes, e), e);
	case MFS_TUF_AT_SNAPSHOT:
		return failed(t, snapshot_feed(t, bytes, e), e);
	case MFS_TUF_AT_TARGETS:
		return failed(t, targets_feed(t, bytes, e), e);
	case MFS_TUF_READY:
	case MFS_TUF_FAILED:
		break;
	}
	return mfs_fail(err, MFS_INTERNAL, "TUF: no such state");
}
