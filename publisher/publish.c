/* SPDX-License-Identifier: Apache-2.0 */
#include "publish.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blobs.h"
#include "io.h"

#define RETIRED_FIELD "x-modelfs-retired" /* of release.ID: {"version": release}; other TUF tools keep it and ignore it */
#define TARGET_ROOM (MFS_ID_MAX + MFS_VERSION_MAX + MFS_VARIANT_MAX + 128)

const char *
mfs_role_release(char out[MFS_ROLE_ROOM], const char *model_id)
{
	(void)snprintf(out, MFS_ROLE_ROOM, "release.%s", model_id);
	return out;
}

const char *
mfs_role_policy(char out[MFS_ROLE_ROOM], const char *model_id)
{
	(void)snprintf(out, MFS_ROLE_ROOM, "policy.%s", model_id);
	return out;
}

/* ---- names and releases -------------------------------------------------------------------------- */

struct line { /* the newest of what is published */
	int64_t epoch, release;
	char version[MFS_VERSION_MAX + 1];
};

static bool
ends_with(const char *s, const char *tail)
{
	const size_t n = strlen(s), k = strlen(tail);

	return n >= k && strcmp(s + n - k, tail) == 0;
}

/* epoch and release of a published manifest: as its target says, else from the file. */
static enum mfs_code
line_read(struct mfs_repo *r, const char *role, const char *path, const json_t *target, struct line *out,
	struct mfs_err *err)
{
	const json_t *custom = json_object_get(target, "custom");
	const char *version = json_string_value(json_object_get(custom, "version"));
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	out->epoch = json_integer_value(json_object_get(custom, "key_epoch"));
	out->release = json_integer_value(json_object_get(custom, "release"));
	if (out->epoch > 0 && out->release > 0 && version != NULL) {
		(void)snprintf(out->version, sizeof(out->version), "%s", version);
		return MFS_OK;
	}
	if ((code = mfs_repo_target_read(r, role, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_manifest_parse(MFS_SPAN(bytes, len), &m, err)) != MFS_OK)
		return code;
	out->epoch = m->key_epoch;
	out->release = m->release;
	(void)snprintf(out->version, sizeof(out->version), "%s", m->version);
	return MFS_OK;
}

static int
compare(const struct line *a, const struct line *b)
{
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	return a->release < b->release ? -1 : a->release > b->release;
}

/* One published manifest against the new one. */
static enum mfs_code
line_check(const struct line *old, const struct mfs_manifest *m, struct mfs_err *err)
{
	const struct line new = { .epoch = m->key_epoch, .release = m->release };
	const int order = compare(&new, old);
	const bool same_version = strcmp(old->version, m->version) == 0;

	if (same_version && order != 0)
		return mfs_fail(err, MFS_POLICY_REJECTED,
			"%s %s is published as release %lld: all variants of a version share it, this bundle has %lld",
			MFS_ESC(m->model_id), MFS_ESC(m->version), (long long)old->release, (long long)m->release);
	if (!same_version && order == 0)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT, "release %lld is %s already; pack with a higher --release",
			(long long)m->release, MFS_ESC(old->version));
	if (!same_version && order < 0)
		return mfs_fail(err, MFS_ROLLBACK_ATTEMPT,
			"release %lld (key epoch %lld) is not above release %lld (key epoch %lld) of %s, which is published; pack with "
			"a higher --release", (long long)m->release, (long long)m->key_epoch, (long long)old->release,
			(long long)old->epoch, MFS_ESC(old->version));
	return MFS_OK;
}

static enum mfs_code
lines_check(struct mfs_repo *r, const char *role, const struct mfs_repo_role *by, const struct mfs_manifest *m,
	struct mfs_err *err)
{
	json_t *targets = json_object_get(mfs_md_signed(by->doc), "targets"), *target;
	struct line highest = { 0 }, one;
	const char *path;
	enum mfs_code code;

	json_object_foreach(targets, path, target) {
		if (!ends_with(path, "/manifest.json"))
			continue;
		if ((code = line_read(r, role, path, target, &one, err)) != MFS_OK || (code = line_check(&one, m, err)) != MFS_OK)
			return code;
		if (compare(&one, &highest) > 0)
			highest = one;
	}
	if (highest.epoch == m->key_epoch && m->release - highest.release > MFS_RELEASE_JUMP_MAX)
		return mfs_fail(err, MFS_POLICY_REJECTED,
			"release %lld is more than %d above release %lld of %s: is it a slip of the finger? Every later release must be "
			"higher still", (long long)m->release, MFS_RELEASE_JUMP_MAX, (long long)highest.release,
			MFS_ESC(highest.version));
	return MFS_OK;
}

enum mfs_code
mfs_publish_retire(json_t *body, const char *version, int64_t release, struct mfs_err *err)
{
	json_t *retired = json_object_get(body, RETIRED_FIELD);

	if (retired == NULL && json_object_set_new(body, RETIRED_FIELD, retired = json_object()) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(version));
	if (json_object_set_new(retired, version, json_integer((json_int_t)release)) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(version));
	return MFS_OK;
}

bool
mfs_publish_retired(const struct mfs_repo_role *by, const char *version)
{
	return json_object_get(json_object_get(mfs_md_signed(by->doc), RETIRED_FIELD), version) != NULL;
}

/* Was there a version of this name, before gc? */
static enum mfs_code
retired_check(const struct mfs_repo *r, const struct mfs_repo_role *by, const struct mfs_manifest *m, struct mfs_err *err)
{
	const json_t *retired = json_object_get(mfs_md_signed(by->doc), RETIRED_FIELD), *release;

	if (retired == NULL)
		return MFS_OK;
	if (!json_is_object(retired))
		return mfs_fail(err, MFS_MALFORMED, "%s: %s: " RETIRED_FIELD ": not an object; another tool has changed it",
			MFS_ESC(r->path), MFS_ESC(by->name));
	if ((release = json_object_get(retired, m->version)) == NULL)
		return MFS_OK;
	return mfs_fail(err, MFS_POLICY_REJECTED,
		"%s %s: was published as release %lld, and 'modelpub gc --keep' dropped it: devices that know it would refuse another "
		"one of its name; pack with a new --version", MFS_ESC(m->model_id), MFS_ESC(m->version),
		(long long)json_integer_value(release));
}

static enum mfs_code
policy_check(const struct mfs_manifest *m, const struct mfs_policy *p, struct mfs_err *err)
{
	struct mfs_verdict v;

	mfs_revocation_find(p->revoked, p->n_revoked, &m->id, m->version, &v);
	if (v.action != MFS_ACTION_NONE)
		return mfs_fail(err, MFS_REVOKED, "%s %s: the policy revokes it (%s): no device would take it",
			MFS_ESC(m->model_id), MFS_ESC(m->version), v.reason != NULL ? MFS_ESC(v.reason) : "");
	if (m->release < p->min_release || m->key_epoch < p->min_key_epoch)
		return mfs_fail(err, MFS_POLICY_REJECTED, "%s %s: below the policy's minimum (release %lld, key epoch %lld)",
			MFS_ESC(m->model_id), MFS_ESC(m->version), (long long)p->min_release, (long long)p->min_key_epoch);
	return MFS_OK;
}

enum mfs_code
mfs_publish_check(struct mfs_repo *r, const struct mfs_manifest *m, const struct mfs_policy *p,
	enum mfs_published *state, struct mfs_err *err)
{
	char role[MFS_ROLE_ROOM], path[TARGET_ROOM];
	struct mfs_repo_role *by;
	const json_t *target;
	const char *hash;
	enum mfs_code code;

	*state = MFS_PUBLISHED_NOT;
	if ((code = mfs_repo_role(r, mfs_role_release(role, m->model_id), &by, err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "%s/%s/%s/manifest.json", m->model_id, m->version, m->variant);
	target = mfs_repo_target(by, path);
	hash = json_string_value(json_object_get(json_object_get(target, "hashes"), "sha256"));
	if (hash != NULL && strcmp(hash, MFS_HEX(&m->id)) == 0) {
		*state = MFS_PUBLISHED_SAME;
		return MFS_OK;
	}
	if (target != NULL)
		return mfs_fail(err, MFS_POLICY_REJECTED,
			"%s %s (%s) is published with manifest %.16s..., this one is %.16s...: a version never names two; pack with a "
			"new --version", MFS_ESC(m->model_id), MFS_ESC(m->version), MFS_ESC(m->variant), hash != NULL ? hash : "?",
			MFS_HEX(&m->id));
	if ((code = retired_check(r, by, m, err)) != MFS_OK || (code = lines_check(r, role, by, m, err)) != MFS_OK)
		return code;
	return policy_check(m, p, err);
}

/* ---- blobs ---------------------------------------------------------------------------------------- */

struct work {
	struct mfs_repo *r;
	int to;     /* folder that gets blobs/ */
	bool upload; /* to is not the repository: what it holds already is not sent again */
	int reuse;  /* folder with blobs/ of an earlier upload, or -1 */
	int bundle;
	bool link;
	struct mfs_progress *progress;
	uint64_t bytes;
};

static void
work_clear(struct work *w)
{
	mfs_progress_end(w->progress);
	mfs_cleanup_close(&w->reuse);
	if (w->upload)
		mfs_cleanup_close(&w->to);
}

static enum mfs_code
file_add(struct work *w, const char *part, const char *name, const struct mfs_sha256 *hash, uint64_t size,
	struct mfs_err *err)
{
	mfs_autoclose int fd = -1;
	enum mfs_code code;
	bool added;
	char what[160];

	if (w->upload && mfs_blob_look(w->r->fd, hash, size) == MFS_BLOB_THERE)
		return MFS_OK;
	if (w->reuse >= 0 && mfs_blob_look(w->reuse, hash, size) == MFS_BLOB_THERE)
		return mfs_blob_copy(w->reuse, w->to, hash, size, true, w->progress, NULL, err);
	if ((code = mfs_bundledir_file(w->bundle, part, name, size, &fd, err)) != MFS_OK)
		return code;
	(void)snprintf(what, sizeof(what), "%s/%.140s", part, name);
	if ((code = mfs_blob_add(w->to, fd, what, hash, size, w->link, w->progress, &added, err)) == MFS_OK && added)
		w->bytes += size;
	return code;
}

enum mfs_code
mfs_publish_blobs(struct mfs_repo *r, struct mfs_outdir *out, const char *reuse, int bundle,
	const struct mfs_manifest *m, bool link, bool quiet, uint64_t *bytes, struct mfs_err *err)
{
	MFS_CLEANUP(work_clear) struct work w = { .r = r, .to = r->fd, .reuse = -1, .bundle = bundle, .link = link };
	enum mfs_code code;

	*bytes = 0;
	if (out != NULL) {
		if ((code = mfs_mkdirs(out->fd, mfs_step_names[MFS_STEP_BLOBS], 0777, err)) != MFS_OK)
			return code;
		w.to = openat(out->fd, mfs_step_names[MFS_STEP_BLOBS], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (w.to < 0)
			return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(out->path));
		w.upload = true;
	}
	if (reuse != NULL)
		w.reuse = open(reuse, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* none: nothing to use again */
	w.progress = mfs_progress_new("copying", m->total_size, quiet);
	for (size_t i = 0; i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];

		if ((code = file_add(&w, "payload", f->name, &f->sha256, f->size, err)) != MFS_OK ||
			(f->chunks > 1 && (code = file_add(&w, "chunks", f->name, &f->chunks_sha256, mfs_table_length(f->chunks),
						   err)) != MFS_OK))
			return mfs_err_context(err, "into %s: ", MFS_ESC(out != NULL ? out->path : r->path));
	}
	*bytes = w.bytes;
	return MFS_OK;
}

/* ---- documents --------------------------------------------------------------------------------------- */

enum mfs_code
mfs_publish_docs(struct mfs_repo *r, const struct mfs_manifest *m, const struct mfs_bundle_docs *docs, struct mfs_err *err)
{
	char role[MFS_ROLE_ROOM], path[TARGET_ROOM];
	struct mfs_repo_role *by;
	json_t *custom;
	enum mfs_code code;
	int n;

	(void)mfs_role_release(role, m->model_id);
	n = snprintf(path, sizeof(path), "%s/%s/%s/", m->model_id, m->version, m->variant);
	(void)snprintf(path + n, sizeof(path) - (size_t)n, "manifest.json");
	if ((code = mfs_repo_target_put(r, role, path, MFS_SPAN(docs->manifest, docs->manifest_len), err)) != MFS_OK ||
		(code = mfs_repo_role(r, role, &by, err)) != MFS_OK)
		return code;
	custom = json_pack("{s:I, s:I, s:s}", "key_epoch", (json_int_t)m->key_epoch, "release", (json_int_t)m->release, "version",
		m->version);
	if (custom == NULL ||
		json_object_set_new((json_t *)(uintptr_t)mfs_repo_target(by, path), "custom", custom) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", path);
	for (size_t i = 0; i < docs->n_sigs; i++) {
		const struct mfs_bundle_sig *s = &docs->sigs[i];

		if (s->key_id[0] != '\0')
			(void)snprintf(path + n, sizeof(path) - (size_t)n, "signature.%s.sig", s->key_id);
		else
			(void)snprintf(path + n, sizeof(path) - (size_t)n, "signature.sig");
		if ((code = mfs_repo_target_put(r, role, path, MFS_SPAN(s->bytes, s->len), err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}
