/* SPDX-License-Identifier: Apache-2.0 */
/* Loading trusted state: which copy the counter accepts, and when nothing may be accepted. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "trusted_io.h"

const char *const mfs_anchor_names[2] = { "anchor.0", "anchor.1" };
const char *const mfs_cycle_names[2] = { "cycle.0", "cycle.1" };

void
mfs_state_copy_clear(struct mfs_state_copy *c)
{
	mfs_anchor_free(c->anchor);
	mfs_cycle_free(c->cycle);
	*c = (struct mfs_state_copy){ 0 };
}

void
mfs_state_copy_read(int dirfd, enum mfs_state_kind kind, int i, const struct mfs_key *key, struct mfs_state_copy *c)
{
	const char *name = (kind == MFS_STATE_ANCHOR ? mfs_anchor_names : mfs_cycle_names)[i];
	mfs_autoclose int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	mfs_autofree uint8_t *doc = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_span json;
	size_t len;

	*c = (struct mfs_state_copy){ .present = true };
	if (fd < 0 && errno == ENOENT) {
		c->present = false;
		c->code = MFS_IO;
		(void)snprintf(c->why, sizeof(c->why), "missing");
		return;
	}
	if (fd < 0)
		c->code = mfs_fail_sys(&err, MFS_IO, "open");
	else if ((c->code = mfs_fd_read(fd, name, MFS_STATE_BYTES_MAX, &doc, &len, &err)) == MFS_OK &&
		(c->code = mfs_state_open(kind, MFS_SPAN(doc, len), key, &c->generation, &json, &err)) == MFS_OK)
		c->code = kind == MFS_STATE_ANCHOR ? mfs_anchor_parse(json, &c->anchor, &err) :
						     mfs_cycle_parse(json, &c->cycle, &err);
	if (c->code != MFS_OK)
		(void)snprintf(c->why, sizeof(c->why), "%.190s", err.msg);
}

void
mfs_state_copies_describe(const struct mfs_state_copy copies[2], const char *const names[2], char *out, size_t cap)
{
	size_t used = 0;

	out[0] = '\0';
	for (int i = 0; i < 2 && used < cap; i++) {
		const char *sep = i == 0 ? "" : "; ";
		int n = copies[i].code == MFS_OK ?
			snprintf(out + used, cap - used, "%s%s: generation %" PRIu64, sep, names[i], copies[i].generation) :
			snprintf(out + used, cap - used, "%s%s: %.120s", sep, names[i], copies[i].why);

		if (n < 0)
			return;
		used += (size_t)n;
	}
}

/*
 * The copy that counter value c accepts: c + 1 before c; -1 without. An authentic copy beyond c + 1
 * says that the counter was set back: then none is, however well the other one fits.
 */
static int
acceptable(const struct mfs_state_copy copies[2], uint64_t c)
{
	int best = -1;

	for (int i = 0; i < 2; i++) {
		if (copies[i].code != MFS_OK || copies[i].generation < c)
			continue;
		if (copies[i].generation - c > 1)
			return -1;
		if (best < 0 || copies[i].generation > copies[best].generation)
			best = i;
	}
	return best;
}

static bool
mark_present(int store_dirfd)
{
	struct stat st;

	if (store_dirfd < 0)
		return false;
	return fstatat(store_dirfd, MFS_STATE_MARK, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/*
 * Neither copy exists: a first start only if nothing says that there was a state. A counter at 0
 * is one whose first anchor was never written (a first start that was cut off).
 */
static enum mfs_code
load_first(struct mfs_trusted *t, bool counter_absent, struct mfs_err *err)
{
	if (!counter_absent && t->value > 0)
		return mfs_fail(err, MFS_STATE_REPLAYED,
			"state: anchor.0 and anchor.1 are missing, but the counter stands at %" PRIu64
			": restore them or run 'modelfs recover'", t->value);
	if (mark_present(t->store_dirfd))
		return mfs_fail(err, MFS_STATE_REPLAYED,
			"state: anchor.0, anchor.1 and the counter are missing, but store/" MFS_STATE_MARK
			" says that there was a state: restore it or run 'modelfs recover'");
	t->anchor = calloc(1, sizeof(*t->anchor));
	return t->anchor != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "state");
}

/* No copy is acceptable: say which kind of failure it is. */
static enum mfs_code
refuse(const struct mfs_state_copy copies[2], uint64_t value, struct mfs_err *err)
{
	char found[360];
	bool authentic = copies[0].code == MFS_OK || copies[1].code == MFS_OK;
	enum mfs_code code = MFS_STATE_REPLAYED;

	mfs_state_copies_describe(copies, mfs_anchor_names, found, sizeof(found));
	if (!authentic)
		code = copies[0].present && copies[0].code != MFS_IO ? copies[0].code : copies[1].code;
	return mfs_fail(err, code, "state: %s; %s the counter stands at %" PRIu64 ": run 'modelfs recover'", found,
		authentic ? "not the state that belongs to this device's counter:" : "unreadable;", value);
}

static enum mfs_code
load_anchor(struct mfs_trusted *t, struct mfs_state_copy copies[2], struct mfs_err *err)
{
	bool absent;
	enum mfs_code code = t->counter->read(t->counter, &t->value, &absent, err);
	int i;

	if (code != MFS_OK)
		return code;
	t->burn = true;
	if (!copies[0].present && !copies[1].present)
		return load_first(t, absent, err);
	if (absent) {
		char found[360];

		mfs_state_copies_describe(copies, mfs_anchor_names, found, sizeof(found));
		return mfs_fail(err, MFS_STATE_REPLAYED,
			"state/counter: missing, but there is a state (%s): restore it or run 'modelfs recover'", found);
	}
	if ((i = acceptable(copies, t->value)) < 0)
		return refuse(copies, t->value, err);
	if (copies[1 - i].code != MFS_OK && copies[1 - i].present)
		mfs_log(MFS_LOG_WARN, "state/%s: damaged (%s): the other copy is used, this one is rewritten at the "
			"next change", mfs_anchor_names[1 - i], copies[1 - i].why);
	if (copies[i].generation == t->value + 1 && (t->flags & MFS_TRUSTED_READ) == 0) {
		if ((code = t->counter->increment(t->counter, err)) != MFS_OK)
			return code;
		t->value++;
	}
	t->current = i;
	t->anchor = mfs_steal(&copies[i].anchor);
	return MFS_OK;
}

/* `recover`: join what is authentic, and set the counter's target above every generation seen. */
static enum mfs_code
load_recover(struct mfs_trusted *t, struct mfs_state_copy copies[2], struct mfs_err *err)
{
	struct mfs_err ignored = MFS_ERR_INIT;
	int newer = copies[0].code == MFS_OK && (copies[1].code != MFS_OK ||
			copies[0].generation >= copies[1].generation) ? 0 : 1;
	bool absent;
	int n;

	n = snprintf(t->found, sizeof(t->found), "counter: ");
	if (t->counter->read(t->counter, &t->value, &absent, &ignored) != MFS_OK) {
		t->value = 0;
		n += snprintf(t->found + n, sizeof(t->found) - (size_t)n, "unreadable; ");
	} else if (absent) {
		n += snprintf(t->found + n, sizeof(t->found) - (size_t)n, "missing; ");
	} else {
		n += snprintf(t->found + n, sizeof(t->found) - (size_t)n, "%" PRIu64 "; ", t->value);
	}
	mfs_state_copies_describe(copies, mfs_anchor_names, t->found + n, sizeof(t->found) - (size_t)n);
	/* Above both, so that no copy that exists anywhere fits the counter afterwards. */
	for (int i = 0; i < 2; i++)
		if (copies[i].code == MFS_OK && copies[i].generation >= t->value)
			t->value = copies[i].generation + 1;
	t->value++;
	return mfs_anchor_join(copies[newer].anchor, copies[1 - newer].anchor, &t->anchor, err);
}

static enum mfs_code
load_cycle(struct mfs_trusted *t, struct mfs_err *err)
{
	struct mfs_state_copy copies[2];
	int best = -1;

	for (int i = 0; i < 2; i++) {
		mfs_state_copy_read(t->state_dirfd, MFS_STATE_CYCLE, i, &t->key, &copies[i]);
		if (copies[i].present && copies[i].code != MFS_OK)
			mfs_log(MFS_LOG_WARN, "state/%s: damaged (%s)", mfs_cycle_names[i], copies[i].why);
		if (copies[i].code == MFS_OK && (best < 0 || copies[i].generation > copies[best].generation))
			best = i;
	}
	if (best >= 0) {
		t->cycle = mfs_steal(&copies[best].cycle);
		t->cycle_generation = copies[best].generation;
		t->cycle_current = best;
	} else {
		/* A lost cycle takes no model away: only its counters must not repeat. */
		t->cycle = calloc(1, sizeof(*t->cycle));
		t->cycle_lost = copies[0].present || copies[1].present || t->anchor->n_models > 0;
		if (t->cycle_lost)
			mfs_log(MFS_LOG_WARN, "state: the cycle is lost: counters start anew from unused values");
	}
	for (int i = 0; i < 2; i++)
		mfs_state_copy_clear(&copies[i]);
	return t->cycle != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "state");
}

static enum mfs_code
load(struct mfs_trusted *t, struct mfs_err *err)
{
	struct mfs_state_copy copies[2];
	enum mfs_code code;

	for (int i = 0; i < 2; i++)
		mfs_state_copy_read(t->state_dirfd, MFS_STATE_ANCHOR, i, &t->key, &copies[i]);
	code = (t->flags & MFS_TRUSTED_RECOVER) != 0 ? load_recover(t, copies, err) : load_anchor(t, copies, err);
	for (int i = 0; i < 2; i++)
		mfs_state_copy_clear(&copies[i]);
	return code == MFS_OK ? load_cycle(t, err) : code;
}

enum mfs_code
mfs_trusted_open(int state_dirfd, int store_dirfd, const struct mfs_key *state_key, struct mfs_counter *counter,
	unsigned flags, struct mfs_trusted **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trusted) struct mfs_trusted *t = calloc(1, sizeof(*t));
	enum mfs_code code;

	*out = NULL;
	if (t == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "state");
	t->counter = counter;
	t->flags = flags;
	t->key = *state_key;
	t->current = t->cycle_current = -1;
	t->store_dirfd = -1;
	if ((flags & MFS_TRUSTED_READ) == 0) {
		t->anchor_memo = mfs_memo_new();
		t->cycle_memo = mfs_memo_new();
	}
	t->state_dirfd = fcntl(state_dirfd, F_DUPFD_CLOEXEC, 3);
	if (t->state_dirfd >= 0 && store_dirfd >= 0)
		t->store_dirfd = fcntl(store_dirfd, F_DUPFD_CLOEXEC, 3);
	if (t->state_dirfd < 0 || (store_dirfd >= 0 && t->store_dirfd < 0))
		return mfs_fail_sys(err, MFS_IO, "state: folder");
	(void)snprintf(t->protection, sizeof(t->protection), "%s",
		strcmp(counter->kind, "file") == 0 ?
			"file counter: protects against old signed models and a replayed state, not against a copied disk" :
			"TPM counter");
	if ((code = load(t, err)) != MFS_OK)
		return code;
	/* A store that was deleted, or belonged to another state, gets this state's mark. */
	if (t->current >= 0 && (flags & MFS_TRUSTED_READ) == 0)
		mfs_state_mark_write(t);
	*out = mfs_steal(&t);
	return MFS_OK;
}
