/* SPDX-License-Identifier: Apache-2.0 */
/* Writing trusted state: the commit protocol of the anchor, and the cycle. Loading: trusted_load.c. */
#include "trusted.h"

#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "trusted_io.h"

void
mfs_trusted_close(struct mfs_trusted *t)
{
	if (t == NULL)
		return;
	mfs_anchor_free(t->anchor);
	mfs_anchor_free(t->written);
	mfs_cycle_free(t->cycle);
	mfs_memo_free(t->anchor_memo);
	mfs_memo_free(t->cycle_memo);
	if (t->state_dirfd >= 0)
		(void)close(t->state_dirfd);
	if (t->store_dirfd >= 0)
		(void)close(t->store_dirfd);
	mfs_key_wipe(&t->key);
	free(t);
}

const struct mfs_anchor *
mfs_trusted_anchor(const struct mfs_trusted *t)
{
	return t->anchor;
}

struct mfs_cycle *
mfs_trusted_cycle(struct mfs_trusted *t)
{
	return t->cycle;
}

bool
mfs_trusted_cycle_lost(const struct mfs_trusted *t)
{
	return t->cycle_lost;
}

const char *
mfs_trusted_found(const struct mfs_trusted *t)
{
	return t->found;
}

const char *
mfs_trusted_protection(const struct mfs_trusted *t)
{
	return t->protection;
}

/*
 * The store's mark: a digest of the state key, so that neither the key nor anything else secret
 * leaves the state folder. Any mark at all makes a lost state a refusal.
 */
static enum mfs_code
mark_text(const struct mfs_key *key, char out[66], struct mfs_err *err)
{
	static const char label[] = "modelfs state id";
	uint8_t buf[sizeof(label) - 1 + MFS_KEY_LEN];
	struct mfs_sha256 id;
	enum mfs_code code;

	memcpy(buf, label, sizeof(label) - 1);
	memcpy(buf + sizeof(label) - 1, key->b, MFS_KEY_LEN);
	code = mfs_sha256(MFS_SPAN(buf, sizeof(buf)), &id, err);
	OPENSSL_cleanse(buf, sizeof(buf));
	if (code != MFS_OK)
		return code;
	mfs_hex_encode(out, id.b, MFS_SHA256_LEN);
	out[64] = '\n';
	out[65] = '\0';
	return MFS_OK;
}

/* Write the mark where it is missing or another state's; a store that takes none is no failure. */
void
mfs_state_mark_write(struct mfs_trusted *t)
{
	mfs_autofree uint8_t *have = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	char want[66];
	size_t len;

	if (t->store_dirfd < 0)
		return;
	if (mark_text(&t->key, want, &err) == MFS_OK) {
		if (mfs_file_read(t->store_dirfd, MFS_STATE_MARK, 256, &have, &len, &err) == MFS_OK && len == 65 &&
			memcmp(have, want, 65) == 0)
			return;
		if (mfs_file_replace(t->store_dirfd, MFS_STATE_MARK, want, 65, 0640, &err) == MFS_OK)
			return;
	}
	mfs_log_err("store/" MFS_STATE_MARK, &err);
}

static enum mfs_code
anchor_seal(const struct mfs_trusted *t, const struct mfs_anchor *a, uint64_t generation, uint8_t **out, size_t *len,
	struct mfs_err *err)
{
	mfs_autofree char *json = NULL;
	size_t json_len;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_anchor_json_memo(a, t->anchor_memo, &json, &json_len, err)) != MFS_OK)
		return code;
	return mfs_state_seal(MFS_STATE_ANCHOR, generation, MFS_SPAN(json, json_len), &t->key, out, len, err);
}

/* One step of the protocol: `a` as generation value + 1. */
static enum mfs_code
commit_one(struct mfs_trusted *t, const struct mfs_anchor *a, struct mfs_err *err)
{
	mfs_autofree uint8_t *doc = NULL;
	struct mfs_err mirror = MFS_ERR_INIT;
	int target = t->current == 0 ? 1 : 0;
	size_t len;
	enum mfs_code code;

	if ((code = anchor_seal(t, a, t->value + 1, &doc, &len, err)) != MFS_OK)
		return code;
	/* From here until the increment returned, a restart may find either anchor in force. */
	t->burn = true;
	if ((code = mfs_reserve_replace(t->reserve, t->state_dirfd, mfs_anchor_names[target], doc, len, 0600, err)) != MFS_OK) {
		(void)mfs_err_context(err, "state: ");
		return code;
	}
	t->uncertain = true;
	if ((code = t->counter->increment(t->counter, err)) != MFS_OK)
		return code;
	t->uncertain = false;
	t->value++;
	t->current = target;
	if (mfs_reserve_replace(t->reserve, t->state_dirfd, mfs_anchor_names[1 - target], doc, len, 0600, &mirror) != MFS_OK)
		mfs_log_err("state: second copy of the anchor", &mirror);
	return MFS_OK;
}

/* The counter must stand where this process left it: nobody else writes while we hold the lock. */
static enum mfs_code
counter_check(struct mfs_trusted *t, struct mfs_err *err)
{
	uint64_t now;
	bool absent;
	enum mfs_code code;

	if (t->current < 0 && !t->uncertain && (t->flags & MFS_TRUSTED_RECOVER) != 0) {
		if ((code = t->counter->raise(t->counter, t->value, err)) != MFS_OK)
			return code;
		return t->counter->read(t->counter, &t->value, &absent, err);
	}
	if ((code = t->counter->read(t->counter, &now, &absent, err)) != MFS_OK)
		return code;
	/* First start: the counter comes first, so that an anchor never stands without one. */
	if (absent && t->current < 0 && t->value == 0)
		return t->counter->create(t->counter, err);
	if (!absent && now == t->value)
		return MFS_OK;
	if (!absent && t->uncertain && now == t->value + 1) {
		/* The increment that was reported as failed had happened: the written copy is the accepted one. */
		t->value = now;
		t->current = t->current == 0 ? 1 : 0;
		t->uncertain = false;
		return MFS_OK;
	}
	return mfs_fail(err, MFS_STATE_REPLAYED,
		"state: the counter was changed by somebody else (%" PRIu64 ", expected %" PRIu64 "): stop modelfs and "
		"run 'modelfs recover'", now, t->value);
}

enum mfs_code
mfs_trusted_commit(struct mfs_trusted *t, struct mfs_anchor *a, struct mfs_err *err)
{
	enum mfs_code code;

	if ((t->flags & MFS_TRUSTED_READ) != 0)
		return mfs_fail(err, MFS_INTERNAL, "state: opened for reading only");
	if ((code = counter_check(t, err)) != MFS_OK)
		return code;
	if (t->burn && t->current >= 0 && (code = commit_one(t, t->anchor, err)) != MFS_OK)
		return code;
	if ((code = commit_one(t, a, err)) != MFS_OK)
		return code;
	t->burn = false;
	t->flags &= ~(unsigned)MFS_TRUSTED_RECOVER;
	mfs_anchor_free(t->anchor);
	t->anchor = a;
	mfs_trusted_settled(t);
	mfs_state_mark_write(t);
	return MFS_OK;
}

struct mfs_reserve *
mfs_trusted_reserve(struct mfs_trusted *t, struct mfs_reserve *r)
{
	struct mfs_reserve *before = t->reserve;

	t->reserve = r;
	return before;
}

enum mfs_code
mfs_trusted_flush(struct mfs_trusted *t, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	enum mfs_code code;

	if (!t->ahead)
		return MFS_OK;
	if ((code = mfs_anchor_copy(t->anchor, &a, err)) != MFS_OK || (code = mfs_trusted_commit(t, a, err)) != MFS_OK)
		return code;
	(void)mfs_steal(&a);
	return MFS_OK;
}

enum mfs_code
mfs_trusted_cycle_save(struct mfs_trusted *t, struct mfs_err *err)
{
	mfs_autofree uint8_t *doc = NULL;
	mfs_autofree char *json = NULL;
	int target = t->cycle_current == 0 ? 1 : 0;
	size_t len, json_len;
	enum mfs_code code;

	if ((t->flags & MFS_TRUSTED_READ) != 0)
		return mfs_fail(err, MFS_INTERNAL, "state: opened for reading only");
	if ((code = mfs_cycle_json_memo(t->cycle, t->cycle_memo, &json, &json_len, err)) != MFS_OK ||
		(code = mfs_state_seal(MFS_STATE_CYCLE, t->cycle_generation + 1, MFS_SPAN(json, json_len), &t->key, &doc,
			&len, err)) != MFS_OK)
		return code;
	if ((code = mfs_reserve_replace(t->reserve, t->state_dirfd, mfs_cycle_names[target], doc, len, 0600, err)) != MFS_OK) {
		(void)mfs_err_context(err, "state: ");
		mfs_trusted_cycle_hold(t, MFS_SPAN(json, json_len));
		return code;
	}
	t->cycle_generation++;
	t->cycle_current = target;
	mfs_held_drop(t->held, MFS_STATE_CYCLE);
	return MFS_OK;
}

static bool
exists(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static enum mfs_code
key_write(int state_dirfd, struct mfs_err *err)
{
	struct mfs_key k;
	enum mfs_code code = MFS_OK;

	if (RAND_priv_bytes(k.b, (int)sizeof(k.b)) != 1)
		code = mfs_fail(err, MFS_INTERNAL, "state/key: no random bytes");
	if (code == MFS_OK && (code = mfs_file_replace(state_dirfd, "key", k.b, sizeof(k.b), 0600, err)) != MFS_OK)
		(void)mfs_err_context(err, "state/key: ");
	mfs_key_wipe(&k);
	return code;
}

enum mfs_code
mfs_state_key_create(int state_dirfd, struct mfs_err *err)
{
	static const char *const parts[] = { "anchor.0", "anchor.1", "cycle.0", "cycle.1", "counter" };

	if (exists(state_dirfd, "key"))
		return MFS_OK;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (exists(state_dirfd, parts[i]))
			return mfs_fail(err, MFS_STATE_REPLAYED,
				"state/key: missing, but state/%s is there: restore the key or run 'modelfs recover'",
				parts[i]);
	return key_write(state_dirfd, err);
}

enum mfs_code
mfs_state_key_renew(int state_dirfd, struct mfs_err *err)
{
	return exists(state_dirfd, "key") ? MFS_OK : key_write(state_dirfd, err);
}
