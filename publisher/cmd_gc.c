/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub gc: remove what nothing refers to any more. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobs.h"
#include "cmd_repo.h"
#include "io.h"
#include "offer.h"
#include "publish.h"
#include "repo_internal.h"
#include "walk.h"

static const char help_text[] =
	"usage: modelpub gc REPO [--dry-run] [--grace TIME]\n"
	"       modelpub gc REPO --keep N [--model ID ...] --keys KEYDIR [options]\n"
	"\n"
	"Remove blobs, target files and metadata that the repository does not refer to any more, and what an\n"
	"interrupted command left behind. No key is needed. With --keep drop old versions first: all but the N\n"
	"newest releases of a model and those that its policy names (keys: release, snapshot, timestamp).\n"
	"\n"
	"  --keep N             keep the N newest releases of each model\n"
	"  --model ID           with --keep: of this model alone (repeatable)\n"
	"  --grace TIME         keep files younger than this: clients may be reading (default 1d; 2h, 30m, 0m)\n"
	"  --dry-run            say what would be removed\n" MFS_REPO_HELP_KEYS MFS_REPO_HELP_REST;

enum { OPT_KEEP = MFS_OPT_OTHER, OPT_MODEL, OPT_GRACE, OPT_DRY };

static const struct option options[] = { { "keep", required_argument, NULL, OPT_KEEP },
	{ "model", required_argument, NULL, OPT_MODEL }, { "grace", required_argument, NULL, OPT_GRACE },
	{ "dry-run", no_argument, NULL, OPT_DRY }, MFS_REPO_OPTIONS };

struct set { /* strings, sorted when complete */
	char **v;
	size_t n, room;
};

struct version { /* one manifest of a model */
	char *path;
	char version[MFS_VERSION_MAX + 1];
	int64_t epoch, release;
	struct mfs_sha256 id;
};

struct gc {
	struct mfs_repocmd c;
	struct mfs_args models;
	int64_t keep; /* 0: all */
	int64_t grace_s;
	bool dry;
	int blobs; /* the lock of blobs/ */
	struct set files; /* what must stay, below the repository */
	struct version *versions;
	size_t n_versions;
	size_t removed, dropped;
	uint64_t bytes;
};

static void
versions_clear(struct gc *g)
{
	for (size_t i = 0; i < g->n_versions; i++)
		free(g->versions[i].path);
	free(g->versions);
	g->versions = NULL;
	g->n_versions = 0;
}

static void
gc_clear(struct gc *g)
{
	mfs_args_free(&g->models);
	for (size_t i = 0; i < g->files.n; i++)
		free(g->files.v[i]);
	free(g->files.v);
	versions_clear(g);
	mfs_cleanup_close(&g->blobs);
	mfs_repocmd_clear(&g->c);
}

static enum mfs_code
set_add(struct set *s, const char *text, struct mfs_err *err)
{
	if (s->n == s->room) {
		const size_t room = s->room > 0 ? s->room * 2 : 1024;
		char **v = reallocarray(s->v, room, sizeof(*v));

		if (v == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "file names");
		s->v = v;
		s->room = room;
	}
	if ((s->v[s->n] = strdup(text)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "file names");
	s->n++;
	return MFS_OK;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
set_has(const struct set *s, const char *text)
{
	return s->n > 0 && bsearch(&text, s->v, s->n, sizeof(s->v[0]), by_text) != NULL;
}

/* ---- what must stay ------------------------------------------------------------------------------ */

static enum mfs_code
keep_blob(void *arg, const struct mfs_sha256 *hash, uint64_t size, struct mfs_err *err)
{
	char path[MFS_BLOB_PATH];

	(void)size;
	return set_add(&((struct gc *)arg)->files, mfs_blob_path(path, hash), err);
}

static enum mfs_code
keep_manifest(void *arg, const struct mfs_repo_role *role, const char *path, const struct mfs_manifest *m,
	struct mfs_err *err)
{
	(void)role;
	(void)path;
	return mfs_walk_blobs(m, keep_blob, arg, err);
}

static enum mfs_code
keep_target(void *arg, const struct mfs_repo_role *role, const char *path, const char *file, size_t len,
	struct mfs_err *err)
{
	(void)role;
	(void)path;
	(void)len;
	return set_add(&((struct gc *)arg)->files, file, err);
}

static enum mfs_code
keep_role(void *arg, struct mfs_repo_role *role, struct mfs_err *err)
{
	char name[MFS_TUF_FILE_MAX + 1], path[MFS_TUF_FILE_MAX + 16];
	enum mfs_code code;

	if ((code = mfs_tuf_file_name(role->name, role->version, name, err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "metadata/%s", name);
	return set_add(&((struct gc *)arg)->files, path, err);
}

static enum mfs_code
keep_all(struct gc *g, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_walk_manifests(g->c.repo, keep_manifest, g, err)) != MFS_OK ||
		(code = mfs_walk_targets(g->c.repo, keep_target, g, err)) != MFS_OK ||
		(code = mfs_walk_roles(g->c.repo, keep_role, g, err)) != MFS_OK ||
		(code = set_add(&g->files, "metadata/timestamp.json", err)) != MFS_OK)
		return code;
	qsort(g->files.v, g->files.n, sizeof(g->files.v[0]), by_text);
	return MFS_OK;
}

/* ---- what may go ------------------------------------------------------------------------------------ */

static bool
is_root(const char *name)
{
	char *end;

	return name[0] >= '1' && name[0] <= '9' && strtoll(name, &end, 10) > 0 && strcmp(end, ".root.json") == 0;
}

/* ".NAME.new" of an interrupted write: nobody reads it, and the lock says that nobody writes it. */
static bool
is_leftover(const char *name)
{
	const size_t n = strlen(name);

	return name[0] == '.' && n > 5 && strcmp(name + n - 4, ".new") == 0;
}

enum kind { KIND_BLOBS, KIND_TARGETS, KIND_METADATA };

/* Names that modelpub makes in a folder of this kind; anything else there is somebody's own. */
static bool
is_ours(enum kind kind, const char *name, mode_t mode)
{
	const char *dot = strchr(name, '.');
	const size_t n = strlen(name);
	struct mfs_sha256 hash;

	switch (kind) {
	case KIND_BLOBS:
		return S_ISDIR(mode) && mfs_hex_decode(hash.b, MFS_SHA256_LEN, name, n);
	case KIND_TARGETS:
		return S_ISREG(mode) && dot != NULL && mfs_hex_decode(hash.b, MFS_SHA256_LEN, name, (size_t)(dot - name));
	case KIND_METADATA:
		return S_ISREG(mode) && name[0] >= '1' && name[0] <= '9' && dot != NULL &&
			strspn(name, "0123456789") == (size_t)(dot - name) && strcmp(name + n - 5, ".json") == 0 && !is_root(name);
	}
	return false;
}

static uint64_t
size_of(int at, const char *name)
{
	mfs_autodir DIR *d = NULL;
	uint64_t total = 0;
	struct stat st;
	int fd;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	if (!S_ISDIR(st.st_mode))
		return (uint64_t)st.st_size;
	if ((fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)) < 0 || (d = fdopendir(fd)) == NULL) {
		mfs_cleanup_close(&fd);
		return 0;
	}
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			total += (uint64_t)st.st_size;
	return total;
}

static enum mfs_code
remove_one(struct gc *g, int at, const char *path, const char *name, struct mfs_err *err)
{
	const uint64_t size = size_of(at, name);

	if (!g->dry && mfs_remove_all(at, name) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s/%s: remove", MFS_ESC(g->c.repo->path), MFS_ESC(path), MFS_ESC(name));
	if (g->dry || !g->c.quiet)
		(void)printf("%s: %s/%s\n", g->dry ? "would remove" : "removed", MFS_ESC(path), MFS_ESC(name));
	g->removed++;
	g->bytes += size;
	return MFS_OK;
}

/* May this entry go? path is its folder. */
static bool
may_go(const struct gc *g, enum kind kind, const char *path, const char *name, const struct stat *st)
{
	mfs_autofree char *full = NULL;

	if (is_leftover(name) && (S_ISREG(st->st_mode) || (kind == KIND_BLOBS && S_ISDIR(st->st_mode))))
		return true;
	if (!is_ours(kind, name, st->st_mode) || asprintf(&full, "%s/%s", path, name) < 0 || set_has(&g->files, full))
		return false;
	/*
	 * Since it was written, or since the change that let it go (mfs_repo_let_go), which may be this one's: later than
	 * the time at which it began, by which without a grace a slow one would keep what it drops.
	 */
	return g->grace_s == 0 || (st->st_ctime > st->st_mtime ? st->st_ctime : st->st_mtime) + g->grace_s <= g->c.repo->now;
}

static enum mfs_code sweep(struct gc *g, enum kind kind, const char *path, unsigned depth, struct mfs_err *err);

static enum mfs_code
sweep_entry(struct gc *g, enum kind kind, int at, const char *path, const char *name, unsigned depth,
	struct mfs_err *err)
{
	mfs_autofree char *below = NULL;
	struct stat st;
	enum mfs_code code;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return MFS_OK;
	if (may_go(g, kind, path, name, &st))
		return remove_one(g, at, path, name, err);
	if (!S_ISDIR(st.st_mode) || depth == 0)
		return MFS_OK;
	if (asprintf(&below, "%s/%s", path, name) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	if ((code = sweep(g, kind, below, depth - 1, err)) != MFS_OK)
		return code;
	if (!g->dry)
		(void)unlinkat(at, name, AT_REMOVEDIR); /* only when nothing is left in it */
	return MFS_OK;
}

static enum mfs_code
sweep(struct gc *g, enum kind kind, const char *path, unsigned depth, struct mfs_err *err)
{
	int fd = openat(g->c.repo->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	mfs_autodir DIR *d = NULL;
	enum mfs_code code = MFS_OK;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s",
											MFS_ESC(path));
	if ((d = fdopendir(fd)) == NULL) {
		(void)close(fd);
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	}
	for (const struct dirent *e; code == MFS_OK && (e = readdir(d)) != NULL;)
		code = sweep_entry(g, kind, dirfd(d), path, e->d_name, depth, err);
	return code;
}

/* ---- old versions ------------------------------------------------------------------------------------ */

static int
newest_first(const void *a, const void *b)
{
	const struct version *x = a, *y = b;

	if (x->epoch != y->epoch)
		return x->epoch < y->epoch ? 1 : -1;
	return x->release < y->release ? 1 : x->release > y->release ? -1 : 0;
}

static enum mfs_code
version_add(void *arg, const struct mfs_repo_role *role, const char *path, const struct mfs_manifest *m,
	struct mfs_err *err)
{
	struct gc *g = arg;
	struct version *v = reallocarray(g->versions, g->n_versions + 1, sizeof(*v));

	(void)role;
	if (v == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "versions");
	g->versions = v;
	v += g->n_versions;
	*v = (struct version){ .epoch = m->key_epoch, .release = m->release, .id = m->id, .path = strdup(path) };
	if (v->path == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "versions");
	(void)snprintf(v->version, sizeof(v->version), "%s", m->version);
	g->n_versions++;
	return MFS_OK;
}

/* Does the policy lead a device to it? */
static bool
policy_names(const struct mfs_policy *p, const struct mfs_sha256 *id)
{
	for (size_t i = 0; i < p->n_rollouts; i++)
		for (size_t k = 0; k < p->rollouts[i].n_variants; k++)
			if (mfs_sha256_equal(&p->rollouts[i].variants[k].entry.manifest, id))
				return true;
	for (size_t i = 0; i < p->n_revoked; i++)
		if (mfs_sha256_equal(&p->revoked[i].rollback_to.manifest, id))
			return true;
	return false;
}

static enum mfs_code
blob_let_go(void *arg, const struct mfs_sha256 *hash, uint64_t size, struct mfs_err *err)
{
	char path[MFS_BLOB_PATH];

	(void)size;
	(void)err;
	mfs_repo_let_go(arg, mfs_blob_path(path, hash));
	return MFS_OK;
}

/* A device may be in the middle of them: their grace begins now. */
static enum mfs_code
blobs_let_go(struct gc *g, const char *role, const struct version *v, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_repo_target_read(g->c.repo, role, v->path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_manifest_parse(MFS_SPAN(bytes, len), &m, err)) != MFS_OK)
		return code;
	return mfs_walk_blobs(m, blob_let_go, g->c.repo, err);
}

/* Take a version's targets out of its release role. */
static enum mfs_code
version_drop(struct gc *g, const char *role, const struct version *v, struct mfs_err *err)
{
	const size_t folder = strlen(v->path) - strlen("manifest.json");
	json_t *body, *targets, *value;
	const char *path;
	enum mfs_code code;
	void *next;

	if (g->dry) {
		(void)printf("would drop: %.*s\n", (int)folder - 1, v->path);
		g->dropped++;
		return MFS_OK;
	}
	if ((code = blobs_let_go(g, role, v, err)) != MFS_OK || (code = mfs_repo_edit(g->c.repo, role, &body, err)) != MFS_OK)
		return code;
	targets = json_object_get(body, "targets");
	json_object_foreach_safe(targets, next, path, value) {
		if (strncmp(path, v->path, folder) != 0)
			continue;
		if ((code = mfs_repo_target_gone(g->c.repo, value, path, err)) != MFS_OK)
			return code;
		(void)json_object_del(targets, path);
	}
	if ((code = mfs_publish_retire(body, v->version, v->release, err)) != MFS_OK)
		return code;
	(void)printf("dropped: %.*s\n", (int)folder - 1, v->path);
	g->dropped++;
	return MFS_OK;
}

static enum mfs_code
model_trim(struct gc *g, const char *model_id, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	const size_t len = strlen(model_id);
	char role[MFS_ROLE_ROOM];
	int64_t seen = 0;
	enum mfs_code code;
	const struct version *last = NULL;

	(void)mfs_role_release(role, model_id);
	if ((code = mfs_offer_load(g->c.repo, model_id, &p, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < g->n_versions; i++) {
		const struct version *v = &g->versions[i];

		if (strncmp(v->path, model_id, len) != 0 || v->path[len] != '/')
			continue;
		if (last == NULL || newest_first(last, v) != 0)
			seen++; /* variants of a version count once */
		last = v;
		if (seen > g->keep && !policy_names(p, &v->id) && (code = version_drop(g, role, v, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static bool
wanted(const struct gc *g, const char *model_id)
{
	for (size_t i = 0; i < g->models.n; i++)
		if (strcmp(g->models.v[i], model_id) == 0)
			return true;
	return g->models.n == 0;
}

static enum mfs_code
trim(struct gc *g, struct mfs_err *err)
{
	const json_t *roles = json_object_get(json_object_get(mfs_md_signed(g->c.repo->targets.doc), "delegations"), "roles");
	enum mfs_code code;

	for (size_t i = 0; i < g->models.n; i++) {
		mfs_autofree char *name = NULL;

		if (asprintf(&name, "release.%s", g->models.v[i]) < 0) {
			name = NULL;
			return mfs_fail(err, MFS_NO_MEMORY, "models");
		}
		if (!mfs_repo_delegates(g->c.repo, name))
			return mfs_fail(err, MFS_NOT_SELECTED, "%s: has no model %s", MFS_ESC(g->c.repo->path), MFS_ESC(g->models.v[i]));
	}
	if ((code = mfs_walk_manifests(g->c.repo, version_add, g, err)) != MFS_OK)
		return code;
	if (g->n_versions > 0)
		qsort(g->versions, g->n_versions, sizeof(g->versions[0]), newest_first);
	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(roles, i), "name"));

		if (name != NULL && strncmp(name, "release.", 8) == 0 && wanted(g, name + 8) &&
			(code = model_trim(g, name + 8, err)) != MFS_OK)
			return code;
	}
	return g->dropped > 0 && !g->dry ? mfs_repocmd_commit(&g->c, err) : MFS_OK;
}

static enum mfs_code
gc_run(struct gc *g, const char *repo, struct mfs_err *err)
{
	enum mfs_code code;

	/* A bundle that is on its way in is not named yet. */
	if ((code = mfs_repocmd_open(&g->c, repo, false, err)) != MFS_OK ||
		(code = mfs_repo_lock_blobs(g->c.repo, &g->blobs, err)) != MFS_OK)
		return code;
	if (g->keep > 0) {
		if ((code = trim(g, err)) != MFS_OK)
			return code;
		if (g->dropped > 0 && !g->dry) { /* read again what is in force now */
			mfs_repocmd_close(&g->c);
			if ((code = mfs_repocmd_open(&g->c, repo, false, err)) != MFS_OK)
				return code;
		}
	}
	if ((code = keep_all(g, err)) != MFS_OK)
		return code;
	/* blobs/sha256/ab, targets/ID/VERSION/VARIANT, metadata */
	if ((code = sweep(g, KIND_BLOBS, "blobs/sha256", 1, err)) != MFS_OK || (code = sweep(g, KIND_TARGETS, "targets", 3, err)) != MFS_OK)
		return code;
	return sweep(g, KIND_METADATA, "metadata", 0, err);
}

static int
run(struct gc *g, const char *repo)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (gc_run(g, repo, &err) != MFS_OK)
		return mfs_repocmd_fail(&g->c, &err);
	(void)printf("%s: %s: %zu file%s and blobs, %s\n", g->dry ? "would remove" : "collected", MFS_ESC(repo), g->removed,
		g->removed == 1 ? "" : "s", MFS_SIZE(g->bytes));
	return mfs_repocmd_end(&g->c, g->removed + g->dropped > 0);
}

static bool
time_parse(const char *s, int64_t *out)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(s, &end, 10);
	if (errno != 0 || *s < '0' || *s > '9' || n > 100000 || end[0] == '\0' || end[1] != '\0')
		return false;
	*out = n * (*end == 'd' ? MFS_MD_DAY : *end == 'h' ? 3600 : 60);
	return *end == 'd' || *end == 'h' || *end == 'm';
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct gc *g = user;

	switch (opt) {
	case OPT_KEEP:
		if (!mfs_parse_int(arg, 1, MFS_KNOWN_MAX, &g->keep))
			return mfs_usage("gc", "--keep %s: want 1 to %u", MFS_ESC(arg), MFS_KNOWN_MAX);
		break;
	case OPT_MODEL:
		if (mfs_args_add(&g->models, arg, &err) != MFS_OK)
			return mfs_repocmd_fail(&g->c, &err);
		break;
	case OPT_GRACE:
		if (!time_parse(arg, &g->grace_s))
			return mfs_usage("gc", "--grace %s: want a time, for example 1d, 2h or 0m", MFS_ESC(arg));
		break;
	case OPT_DRY:
		g->dry = true;
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_gc(int argc, char **argv)
{
	MFS_CLEANUP(gc_clear) struct gc g = { .grace_s = MFS_MD_DAY, .blobs = -1 };
	int done;

	mfs_repocmd_init(&g.c, "gc", argc, argv);
	if ((done = mfs_repocmd_parse(&g.c, options, help_text, option_take, &g)) != MFS_PARSED)
		return done;
	if (optind + 1 != argc)
		return mfs_usage("gc", "want exactly one REPO");
	if (g.c.out != NULL || g.c.stage != NULL)
		return mfs_usage("gc", "--out and --stage do not go with gc");
	if (g.models.n > 0 && g.keep == 0)
		return mfs_usage("gc", "--model goes with --keep");
	return run(&g, argv[optind]);
}
