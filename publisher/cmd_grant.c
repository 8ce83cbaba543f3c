/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub grant: the content key of what is packed already, for a further model key. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bundledir.h"
#include "cmd_repo.h"
#include "gate.h"
#include "io.h"
#include "repo_internal.h"
#include "walk.h"

static const char help_text[] =
	"usage: modelpub grant REPO ID [VERSION] --model-key FILE --for FILE [options]\n"
	"       modelpub grant BUNDLE --model-key FILE --for FILE\n"
	"\n"
	"Wrap the content key of versions that are packed already for a further model key: of another group of\n"
	"devices, or one that takes the place of an old key. Small files in grants/ of the repository or bundle,\n"
	"unsigned: no signing key is needed. Nothing to add: exit 2.\n"
	"\n"
	"  --model-key FILE     model key that opens the content key now (repeatable: whichever fits)\n"
	"  --for FILE           model key of the devices that are to open it too (repeatable)\n"
	"  --root FILE          root.json to trust\n"
	"  --out DIR            leave the repository as it is, write an upload folder\n" MFS_REPO_HELP_REST;

enum { OPT_MODEL_KEY = MFS_OPT_OTHER, OPT_FOR };

static const struct option options[] = { { "model-key", required_argument, NULL, OPT_MODEL_KEY },
	{ "for", required_argument, NULL, OPT_FOR }, { "root", required_argument, NULL, MFS_OPT_ROOT },
	{ "out", required_argument, NULL, MFS_OPT_OUT }, { "reuse", required_argument, NULL, MFS_OPT_REUSE },
	{ "quiet", no_argument, NULL, MFS_OPT_QUIET }, { "help", no_argument, NULL, MFS_OPT_HELP }, { NULL, 0, NULL, 0 } };

struct keyset {
	struct mfs_args files;
	struct mfs_key keys[MFS_WRAPS_MAX];
	struct mfs_sha256 ids[MFS_WRAPS_MAX];
};

struct request {
	struct mfs_repocmd c;
	const char *path, *id, *version; /* of a bundle: path alone */
	struct keyset old, new;
	int bundle, blobs; /* descriptors */
	size_t seen, opened, added;
	struct mfs_err why; /* of the first that does not open */
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->old.files);
	mfs_args_free(&r->new.files);
	for (size_t i = 0; i < MFS_WRAPS_MAX; i++) {
		mfs_key_wipe(&r->old.keys[i]);
		mfs_key_wipe(&r->new.keys[i]);
	}
	mfs_cleanup_close(&r->bundle);
	mfs_cleanup_close(&r->blobs);
	mfs_repocmd_clear(&r->c);
}

static enum mfs_code
keys_read(struct keyset *k, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	for (size_t i = 0; i < k->files.n && code == MFS_OK; i++)
		if ((code = mfs_model_key_file(k->files.v[i], &k->keys[i], err)) == MFS_OK)
			code = mfs_model_key_id(&k->keys[i], &k->ids[i], err);
	return code;
}

static void
grant_path(char out[160], const struct mfs_sha256 *model_key, const struct mfs_sha256 *content_key)
{
	(void)snprintf(out, 160, "grants/%s/%s.kwp", MFS_HEX(model_key), MFS_HEX(content_key));
}

/* What stands there under this name; false: no wrap. */
static bool
grant_read(int dirfd, const char *path, uint8_t out[MFS_WRAP_LEN])
{
	mfs_autoclose int fd = mfs_open_beneath(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == MFS_WRAP_LEN &&
		mfs_pread_full(fd, out, MFS_WRAP_LEN, 0) == 0;
}

/* By a wrap of the manifest, or by one that was made for one of these keys later. */
static enum mfs_code
content_key(const struct request *r, int dirfd, const struct mfs_manifest *m, struct mfs_key *out, struct mfs_err *err)
{
	enum mfs_code code = MFS_KEY_UNAVAILABLE;
	char path[160];

	for (size_t i = 0; i < r->old.files.n && code == MFS_KEY_UNAVAILABLE; i++) {
		struct mfs_err own = MFS_ERR_INIT;
		uint8_t wrapped[MFS_WRAP_LEN];

		code = mfs_content_key_unwrap(m, &r->old.keys[i], out, &own);
		grant_path(path, &r->old.ids[i], &m->content_key_id);
		if (code == MFS_KEY_UNAVAILABLE && grant_read(dirfd, path, wrapped))
			code = mfs_content_key_unwrap_grant(m, &r->old.keys[i], MFS_SPAN(wrapped, sizeof(wrapped)), out, NULL);
		if (code != MFS_OK)
			*err = own;
	}
	return code;
}

/* grants/<id>/ of a bundle, as a real folder: a bundle comes from anywhere. */
static enum mfs_code
bundle_write(struct request *r, const char *path, const uint8_t wrapped[MFS_WRAP_LEN], struct mfs_err *err)
{
	mfs_autoclose int grants = -1, folder = -1;
	const char *first = strchr(path, '/') + 1, *name = strchr(first, '/') + 1;
	char sub[2 * MFS_SHA256_LEN + 1];

	(void)snprintf(sub, sizeof(sub), "%.*s", (int)(name - first - 1), first);
	if ((mkdirat(r->bundle, "grants", 0777) != 0 && errno != EEXIST) ||
		(grants = mfs_open_beneath(r->bundle, "grants", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "grants");
	if ((mkdirat(grants, sub, 0777) != 0 && errno != EEXIST) ||
		(folder = mfs_open_beneath(grants, sub, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "grants/%s", sub);
	return mfs_file_replace(folder, name, wrapped, MFS_WRAP_LEN, 0644, err);
}

static enum mfs_code
grant_write(struct request *r, const char *path, const uint8_t wrapped[MFS_WRAP_LEN], struct mfs_err *err)
{
	char name[192];

	if (r->bundle >= 0)
		return bundle_write(r, path, wrapped, err);
	if (r->c.outdir == NULL)
		return mfs_repo_write(r->c.repo, path, MFS_SPAN(wrapped, MFS_WRAP_LEN), err);
	(void)snprintf(name, sizeof(name), "%s/%s", mfs_step_names[MFS_STEP_BLOBS], path);
	return mfs_outdir_write(r->c.outdir, name, wrapped, MFS_WRAP_LEN, err);
}

static bool
in_manifest(const struct mfs_manifest *m, const struct mfs_sha256 *id)
{
	for (size_t i = 0; i < m->n_wraps; i++)
		if (mfs_sha256_equal(&m->wraps[i].model_key_id, id))
			return true;
	return false;
}

/* A wrap of one content key for each new model key. What stands there and is the same, or is in the manifest, stays. */
static enum mfs_code
wraps_make(struct request *r, int dirfd, const struct mfs_manifest *m, const struct mfs_key *key, struct mfs_err *err)
{
	for (size_t i = 0; i < r->new.files.n; i++) {
		uint8_t wrapped[MFS_WRAP_LEN], have[MFS_WRAP_LEN];
		char path[160];
		enum mfs_code code;

		if (in_manifest(m, &r->new.ids[i]))
			continue;
		if ((code = mfs_kwp_wrap(&r->new.keys[i], key, wrapped, err)) != MFS_OK)
			return code;
		grant_path(path, &r->new.ids[i], &m->content_key_id);
		/* One that is not these bytes does not open: there is but one wrap of a key by a key. */
		if (grant_read(r->c.outdir != NULL ? r->c.outdir->fd : dirfd, path, have) &&
			memcmp(have, wrapped, sizeof(have)) == 0)
			continue;
		if (r->c.outdir != NULL && grant_read(dirfd, path, have) && memcmp(have, wrapped, sizeof(have)) == 0)
			continue;
		if ((code = grant_write(r, path, wrapped, err)) != MFS_OK)
			return code;
		(void)printf("%s %s (%s): %s\n", m->model_id, m->version, m->variant, path);
		r->added++;
	}
	return MFS_OK;
}

static enum mfs_code
manifest_grant(struct request *r, int dirfd, const struct mfs_manifest *m, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_key key = { { 0 } };
	enum mfs_code code;

	r->seen++;
	if (m->cipher == MFS_CIPHER_NONE)
		code = mfs_fail(&own, MFS_NOT_SELECTED, "%s %s (%s): not encrypted: it needs no key", m->model_id, m->version, m->variant);
	else
		code = content_key(r, dirfd, m, &key, &own);
	if (code == MFS_OK) {
		r->opened++;
		code = wraps_make(r, dirfd, m, &key, err);
		mfs_key_wipe(&key);
		return code;
	}
	if (code != MFS_KEY_UNAVAILABLE && code != MFS_NOT_SELECTED && code != MFS_DECRYPT_FAILED) {
		*err = own;
		return code;
	}
	if (r->why.code == MFS_OK)
		r->why = own;
	if (r->id != NULL && r->version == NULL) /* of many */
		mfs_repocmd_note(&r->c, "left out: %s", own.msg);
	return MFS_OK;
}

static enum mfs_code
published(void *arg, const struct mfs_repo_role *role, const char *path, const struct mfs_manifest *m, struct mfs_err *err)
{
	struct request *r = arg;

	(void)role, (void)path;
	if (strcmp(m->model_id, r->id) != 0 || (r->version != NULL && strcmp(m->version, r->version) != 0))
		return MFS_OK;
	return manifest_grant(r, r->c.repo->fd, m, err);
}

static enum mfs_code
repo_grant(struct request *r, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_repocmd_open_model(&r->c, r->path, r->id, 0, err)) != MFS_OK ||
		(r->c.outdir == NULL && (code = mfs_repo_lock_blobs(r->c.repo, &r->blobs, err)) != MFS_OK) ||
		(code = mfs_walk_manifests(r->c.repo, published, r, err)) != MFS_OK)
		return code;
	if (r->seen == 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "%s: has no version %s of %s", MFS_ESC(r->path),
			MFS_ESC(r->version != NULL ? r->version : ""), MFS_ESC(r->id));
	return r->added > 0 && r->c.outdir != NULL ? mfs_repocmd_out(&r->c, err) : MFS_OK;
}

/* The manifest is not verified: what it names is opened by a key at hand, or nothing is made. */
static enum mfs_code
bundle_grant(struct request *r, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };
	enum mfs_code code;

	if ((code = mfs_gate_read(r->path, &docs, &m, err)) != MFS_OK ||
		(code = mfs_bundledir_open(r->path, &r->bundle, err)) != MFS_OK)
		return code;
	return manifest_grant(r, r->bundle, m, err);
}

static int
run(struct request *r)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;

	if ((code = keys_read(&r->old, &err)) == MFS_OK && (code = keys_read(&r->new, &err)) == MFS_OK)
		code = r->id != NULL ? repo_grant(r, &err) : bundle_grant(r, &err);
	if (code == MFS_OK && r->opened == 0)
		return mfs_report("grant", r->path, &r->why);
	if (code != MFS_OK)
		return mfs_report("grant", r->path, &err);
	if (r->added > 0) {
		char where[512];

		(void)printf("%zu grant%s added: %s\n", r->added, r->added == 1 ? "" : "s",
			r->id != NULL ? mfs_repocmd_where(&r->c, where) : MFS_ESC(r->path));
	} else {
		(void)printf("nothing to add: every version has its wraps\n");
	}
	return mfs_repocmd_end(&r->c, r->added > 0);
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct request *r = user;
	struct keyset *k = opt == OPT_MODEL_KEY ? &r->old : opt == OPT_FOR ? &r->new : NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (k == NULL)
		return MFS_EXIT_USAGE;
	if (k->files.n == MFS_WRAPS_MAX)
		return mfs_usage("grant", "more than %u keys", MFS_WRAPS_MAX);
	return mfs_args_add(&k->files, arg, &err) == MFS_OK ? MFS_EXIT_DONE : mfs_repocmd_fail(&r->c, &err);
}

int
mfs_cmd_grant(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .bundle = -1, .blobs = -1, .why = MFS_ERR_INIT };
	int done;

	mfs_repocmd_init(&r.c, "grant", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind >= argc || optind + 3 < argc)
		return mfs_usage("grant", "want REPO ID [VERSION], or BUNDLE");
	if (r.old.files.n == 0 || r.new.files.n == 0)
		return mfs_usage("grant", "want --model-key, which opens it now, and --for, the key of the others");
	r.path = argv[optind];
	r.id = argv[optind + 1]; /* NULL: the end of argv */
	r.version = r.id != NULL ? argv[optind + 2] : NULL;
	if (r.id == NULL && (r.c.out != NULL || r.c.root != NULL))
		return mfs_usage("grant", "--out and --root are for a repository: say of which model, REPO ID");
	return run(&r);
}
