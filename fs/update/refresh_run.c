/* SPDX-License-Identifier: Apache-2.0 */
/* One TUF run over the network: fetch what the client wants, keep what it verified. */
#include <stdio.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "refresh_int.h"

#define DEADLINE_MS 300000u /* of one file: 5 MiB at 140 kbit/s */

/* ---- fetching ----------------------------------------------------------------------------------------------- */

static enum mfs_code
fetch(struct mfs_refresh_run *x, enum mfs_remote_kind kind, const char *path, size_t cap, const char *etag,
	uint8_t **out, size_t *len, struct mfs_remote_result *res, struct mfs_err *err)
{
	const struct mfs_refresh_args *a = &x->r->args;
	struct mfs_remote_request q = { .repo = x->via ? 0 : x->repo, .mirror = -1, .kind = kind, .path = path,
		.cap = cap, .deadline_ms = DEADLINE_MS, .etag = etag, .cancel = x->cancel };
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	*res = (struct mfs_remote_result){ 0 };
	if (x->remote != NULL)
		code = mfs_remote_read(x->remote, &q, out, len, res, err);
	else if (a->get != NULL)
		code = a->get(a->get_user, &q, out, len, res, err);
	else
		return mfs_fail(err, MFS_CONDITION_UNMET, "repository %s: nothing can be fetched here", a->config->repos[x->repo].name);
	x->res.requests++;
	x->res.received += res->received;
	if (res->retry_after_s > x->res.retry_after_s)
		x->res.retry_after_s = res->retry_after_s;
	if (code == MFS_OK)
		return MFS_OK;
	if (code == MFS_NET_TLS)
		(void)mfs_err_hint(err, x->via ? "; --cacert names the CA of a server that is not configured"
			: "; 'tls' of the repository says which CA, key and certificate count");
	return mfs_err_context(err, "repository %s: %s/%s: ", a->config->repos[x->repo].name,
		kind == MFS_REMOTE_METADATA ? "metadata" : "targets", MFS_ESC(path));
}

/* Of a repository that nothing was ever accepted from: the mistake is rather in the configuration. */
static void
first_hint(const struct mfs_refresh_run *x, const struct mfs_tuf_want *want, enum mfs_code code, struct mfs_err *err)
{
	const struct mfs_config_repository *repo = &x->r->args.config->repos[x->repo];

	if (code == MFS_NET_HTTP && strcmp(want->role, "timestamp") == 0)
		(void)mfs_err_hint(err, "; does a repository lie at %s?", x->via ? "the place that --from names" : MFS_ESC(repo->origin.url));
	else if (code == MFS_METADATA_SIGNATURE_INVALID && x->known.timestamp_version == 0)
		(void)mfs_err_hint(err, "; nothing of it was accepted here before: is %s the root of this repository?",
			MFS_ESC(repo->root));
}

static void
timestamp_came(struct mfs_refresh_run *x, struct mfs_span bytes, const char *etag)
{
	x->came_etag[0] = '\0';
	if (mfs_sha256(bytes, &x->came, NULL) != MFS_OK)
		x->came = (struct mfs_sha256){ { 0 } };
	/* The cycle document holds nothing else. */
	else if (strlen(etag) < sizeof(x->came_etag) && etag[strcspn(etag, " \t")] == '\0')
		(void)snprintf(x->came_etag, sizeof(x->came_etag), "%s", etag);
}

/*
 * An ETag stands for the timestamp that is stored, and for no other: with that of one that was refused (a replay, or
 * expired by a clock that was wrong) the next answer, "not modified", would speak for the stored one.
 */
static void
etag_settle(struct mfs_refresh_run *x)
{
	const char *etag = "";
	struct mfs_tuf_role role;

	if (mfs_tuf_role_find(x->t, "timestamp", &role) && !role.drop) {
		if (mfs_sha256_equal(&role.sha256, &x->came))
			etag = x->came_etag;
		else if (!role.changed && role.version == x->known.timestamp_version)
			etag = x->known.etag;
	}
	(void)snprintf(x->etag, sizeof(x->etag), "%s", etag);
}

static enum mfs_code
answer(struct mfs_refresh_run *x, const struct mfs_tuf_want *want, struct mfs_err *err)
{
	struct mfs_tuf_role stored = { 0 };
	/* The ETag is that of the version in the cycle document. Another one is stored: a copy of either was put back. */
	const bool conditional = want->not_modified_ok && !x->via && x->known.etag[0] != '\0' &&
		mfs_tuf_role_find(x->t, "timestamp", &stored) && stored.version == x->known.timestamp_version;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_remote_result res;
	enum mfs_code code;
	size_t len;

	if ((code = fetch(x, MFS_REMOTE_METADATA, want->name, want->cap, conditional ? x->known.etag : NULL, &bytes, &len, &res,
		     err)) != MFS_OK)
		return code;
	if (strcmp(want->role, "timestamp") == 0 && !x->via && !res.not_modified && !res.not_found)
		timestamp_came(x, MFS_SPAN(bytes, len), res.etag);
	if (res.not_modified && !conditional)
		return mfs_fail(err, MFS_NET_PROTOCOL, "repository %s: metadata/%s: not modified, but nobody asked whether it was",
			x->r->args.config->repos[x->repo].name, MFS_ESC(want->name));
	code = mfs_tuf_feed(x->t, res.not_modified ? MFS_TUF_NOT_MODIFIED : res.not_found ? MFS_TUF_NOT_FOUND : MFS_TUF_BYTES,
		MFS_SPAN(bytes, len), err);
	if (code == MFS_OK)
		return code;
	first_hint(x, want, code, err);
	return mfs_err_context(err, "repository %s: ", x->r->args.config->repos[x->repo].name);
}

static enum mfs_code
drive(struct mfs_refresh_run *x, struct mfs_err *err)
{
	struct mfs_tuf_want want;
	enum mfs_code code;

	for (;;) {
		if ((code = mfs_tuf_next(x->t, &want, err)) != MFS_OK)
			return mfs_err_context(err, "repository %s: ", x->r->args.config->repos[x->repo].name);
		if (want.name == NULL)
			return MFS_OK;
		if ((code = answer(x, &want, err)) != MFS_OK)
			return code;
	}
}

/* ---- beginning ------------------------------------------------------------------------------------------------ */

static struct mfs_tuf_options
options(const struct mfs_refresh_run *x)
{
	int64_t grace = x->r->args.config->update.expired_grace_ms / 1000;

	return (struct mfs_tuf_options){
		.now = x->now,
		.now_rotated = mfs_refresh_now_without(x->r, x->repo),
		.expired_grace = grace < MFS_TUF_GRACE_MAX ? grace : MFS_TUF_GRACE_MAX,
		.floor_root = x->known.root.version,
		.floor_timestamp = x->known.timestamp_version,
		.floor_snapshot = x->known.snapshot.version,
		.floor_targets = x->known.targets.version,
	};
}

/*
 * The stored root was lost: the chain is walked again from the configured one up to the very root that the
 * anchor names. Only then do its floors count as they should: a key that was taken away on the way there
 * was taken away long ago.
 */
static enum mfs_code
root_again(struct mfs_refresh_run *x, struct mfs_span first, struct mfs_tuf **out, struct mfs_err *err)
{
	const char *name = x->r->args.config->repos[x->repo].name;
	struct mfs_tuf_options o = { .now = x->now, .now_rotated = mfs_refresh_now_without(x->r, x->repo) };
	struct mfs_tuf_options full = options(x);
	struct mfs_tuf_want want;
	struct mfs_tuf_role root;
	enum mfs_code code;

	if ((code = mfs_tuf_new(first, &o, &x->t, err)) != MFS_OK)
		return code;
	for (;;) {
		if (!mfs_tuf_role_find(x->t, "root", &root))
			return mfs_fail(err, MFS_INTERNAL, "repository %s: no root", name);
		if (mfs_sha256_equal(&root.sha256, &x->known.root.sha256))
			return mfs_tuf_new(root.bytes, &full, out, err);
		if ((code = mfs_tuf_next(x->t, &want, err)) != MFS_OK)
			return code;
		if (want.name == NULL || strcmp(want.role, "root") != 0)
			break;
		mfs_log(MFS_LOG_NOTICE, "repository %s: the stored root is lost: following the chain again", name);
		if ((code = answer(x, &want, err)) != MFS_OK)
			return code;
	}
	return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "repository %s: root version %lld was trusted before, and the repository does "
		"not lead there from the configured root any more", name, (long long)x->known.root.version);
}

static enum mfs_code
tuf_begin(struct mfs_refresh_run *x, struct mfs_err *err)
{
	const struct mfs_config_repository *repo = &x->r->args.config->repos[x->repo];
	struct mfs_span first = mfs_keys_root(x->r->args.keys, x->repo);
	struct mfs_tuf_options o = options(x);
	mfs_autofree uint8_t *stored = NULL;
	struct mfs_tuf *t = NULL;
	enum mfs_code code;
	size_t len;

	x->root_lacks = x->known.root.version == 0 ||
		mfs_refresh_root_load(x->r, x->repo, &x->known, &stored, &len, NULL) != MFS_OK;
	if (!x->root_lacks)
		code = mfs_tuf_new(MFS_SPAN(stored, len), &o, &t, err);
	else if (first.len == 0)
		code = mfs_fail(err, MFS_CONFIG_INVALID, "repository %s: root %s cannot be read, and none is in the state: nothing "
			"that it offers can be trusted; name its root.json in 'trust'", repo->name, MFS_ESC(repo->root));
	else if (x->known.root.version > 0)
		code = root_again(x, first, &t, err);
	else
		code = mfs_tuf_new(first, &o, &t, err);
	mfs_tuf_free(x->t);
	x->t = t;
	if (code != MFS_OK)
		return code;
	x->timestamp = mfs_refresh_tuf_local(x->r, x->repo, &x->known, x->t);
	return MFS_OK;
}

enum mfs_code
mfs_refresh_run_begin(struct mfs_refresh_run *x, struct mfs_err *err)
{
	struct mfs_err store = MFS_ERR_INIT;
	enum mfs_code code;

	if ((code = mfs_refresh_known_get(x->r, x->repo, &x->known, err)) != MFS_OK)
		return code;
	mfs_refresh_sweep(x);
	if ((code = tuf_begin(x, err)) != MFS_OK)
		return code;
	if (!x->timestamp)
		x->known.etag[0] = '\0';
	code = drive(x, err);
	etag_settle(x);
	/* A new root survives a bad timestamp. */
	if (mfs_refresh_tuf_store(x->r, x->repo, x->t, x->root_lacks, &store) != MFS_OK)
		mfs_refresh_unwritten(x, &store);
	return code;
}

void
mfs_refresh_unwritten(struct mfs_refresh_run *x, const struct mfs_err *why)
{
	if (x->unwritten.code == MFS_OK)
		x->unwritten = *why;
}

void
mfs_refresh_run_end(struct mfs_refresh_run *x)
{
	mfs_tuf_free(x->t);
	free(x->changed);
	x->t = NULL;
	x->changed = NULL;
}

static void
shared_close(struct mfs_refresh *r, size_t repo)
{
	struct mfs_refresh_run *x = r->repos[repo].shared;

	r->repos[repo].shared = NULL;
	if (x == NULL)
		return;
	if (x->unstored)
		mfs_refresh_tuf_store_delegated(r, repo, x->t);
	mfs_refresh_run_end(x);
	free(x);
}

void
mfs_refresh_run_share(struct mfs_refresh_run *x, bool good)
{
	struct mfs_refresh_repo *repo = &x->r->repos[x->repo];

	shared_close(x->r, x->repo);
	if (good && repo->pass && (repo->shared = malloc(sizeof(*x))) != NULL) {
		*repo->shared = *x;
		repo->shared->changed = NULL;
		x->t = NULL;
	} else if (x->unstored) {
		mfs_refresh_tuf_store_delegated(x->r, x->repo, x->t);
	}
	mfs_refresh_run_end(x);
}

bool
mfs_refresh_run_resume(struct mfs_refresh_run *x)
{
	struct mfs_refresh_run *kept = x->r->repos[x->repo].shared;
	const _Atomic int *cancel = x->cancel;

	if (kept == NULL || kept->remote != x->remote || kept->via != x->via ||
		mfs_clock_boot_ms() - kept->begun_ms > MFS_REFRESH_SHARED_S * 1000)
		return false;
	x->r->repos[x->repo].shared = NULL;
	*x = *kept;
	x->cancel = cancel;
	free(kept);
	return true;
}

void
mfs_refresh_pass(struct mfs_refresh *r, size_t repo, bool begin)
{
	if (repo >= r->args.config->n_repos)
		return;
	(void)pthread_mutex_lock(&r->repos[repo].run);
	r->repos[repo].pass = begin;
	shared_close(r, repo);
	(void)pthread_mutex_unlock(&r->repos[repo].run);
}

/* ---- targets -------------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_refresh_target_find(struct mfs_refresh_run *x, const char *path, bool *found, struct mfs_tuf_target *target,
	struct mfs_err *err)
{
	enum mfs_code code;

	*found = false;
	if (!x->delegated)
		mfs_refresh_tuf_local_delegated(x->r, x->repo, x->t);
	x->delegated = true;
	if ((code = mfs_tuf_find(x->t, path, err)) != MFS_OK || (code = drive(x, err)) != MFS_OK)
		return code;
	*found = mfs_tuf_found(x->t, target);
	return MFS_OK;
}

enum mfs_code
mfs_refresh_target_get(struct mfs_refresh_run *x, const struct mfs_tuf_target *target, size_t cap, uint8_t **out,
	size_t *len, struct mfs_err *err)
{
	const char *repo = x->r->args.config->repos[x->repo].name;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_remote_result res;
	enum mfs_code code;

	*out = NULL;
	if (target->length > cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "repository %s: %s: %llu bytes, limit %zu", repo, MFS_ESC(target->path),
			(unsigned long long)target->length, cap);
	if ((code = fetch(x, MFS_REMOTE_TARGET, target->name, target->length > 0 ? (size_t)target->length : 1, NULL, &bytes, len,
		     &res, err)) != MFS_OK)
		return code;
	if (res.not_found || res.not_modified)
		return mfs_fail(err, MFS_NET_HTTP, "repository %s: targets/%s: not found, though the metadata names it", repo,
			MFS_ESC(target->name));
	if ((code = mfs_tuf_target_check(target, MFS_SPAN(bytes, *len), err)) != MFS_OK)
		return mfs_err_context(err, "repository %s: ", repo);
	*out = mfs_steal(&bytes);
	return MFS_OK;
}
