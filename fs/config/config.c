/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - the files of the configuration, the snapshot that serve starts from, lookups. */
#include "mfs_config.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>

#include "config_walk.h"
#include "io.h"

#define SNAPSHOT_MAGIC     "MFCONF1"
#define SNAPSHOT_BYTES_MAX (64u << 20)
#define SOURCES_MAX        8192u
#define DEFAULT_UID        61180u /* of serve, when there is no user "modelfs" */

static const char *const search_path[] = { "/usr/lib/modelfs", "/etc/modelfs", "/run/modelfs" };

/* ---- snapshot --------------------------------------------------------------------------------- */

void
mfs_config_snapshot_free(struct mfs_config_snapshot *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n; i++) {
		free(s->sources[i].path);
		free(s->sources[i].text);
	}
	free(s->sources);
	free(s);
}

/* text is copied; NUL-terminated behind len. */
static enum mfs_code
add_source(struct mfs_config_snapshot *s, const char *path, size_t path_len, const char *text, size_t len, bool fact,
	struct mfs_err *err)
{
	struct mfs_config_source *sources, *src;

	if (s->n >= SOURCES_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, "configuration: more than %u files and facts", SOURCES_MAX);
	if ((sources = reallocarray(s->sources, s->n + 1, sizeof(*sources))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	s->sources = sources;
	src = &sources[s->n];
	*src = (struct mfs_config_source){ .path = strndup(path, path_len), .text = malloc(len + 1), .len = len,
		.fact = fact };
	if (src->path == NULL || src->text == NULL) {
		free(src->path);
		free(src->text);
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	}
	if (len > 0)
		memcpy(src->text, text, len);
	src->text[len] = '\0';
	s->n++;
	return MFS_OK;
}

static enum mfs_code
new_snapshot(struct mfs_config_snapshot **out, struct mfs_err *err)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
}

enum mfs_code
mfs_config_text(const char *path, const char *text, size_t len, struct mfs_config_snapshot **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_snapshot) struct mfs_config_snapshot *s = NULL;
	enum mfs_code code;

	*out = NULL;
	if ((code = new_snapshot(&s, err)) != MFS_OK ||
		(code = add_source(s, path, strlen(path), text, len, false, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&s);
	return MFS_OK;
}

enum mfs_code
mfs_config_snapshot_write(const struct mfs_config_snapshot *s, int fd, struct mfs_err *err)
{
	uint8_t head[16] = SNAPSHOT_MAGIC;
	off_t off = sizeof(head);

	mfs_put_u64le(head + 8, s->n);
	if (mfs_pwrite_full(fd, head, sizeof(head), 0) != 0)
		return mfs_fail_sys(err, MFS_IO, "configuration snapshot: write");
	for (size_t i = 0; i < s->n; i++) {
		const struct mfs_config_source *src = &s->sources[i];
		size_t path_len = strlen(src->path);
		uint8_t h[24];

		mfs_put_u64le(h, src->fact ? 1 : 0);
		mfs_put_u64le(h + 8, path_len);
		mfs_put_u64le(h + 16, src->len);
		if (mfs_pwrite_full(fd, h, sizeof(h), off) != 0 ||
			mfs_pwrite_full(fd, src->path, path_len, off + (off_t)sizeof(h)) != 0 ||
			mfs_pwrite_full(fd, src->text, src->len, off + (off_t)(sizeof(h) + path_len)) != 0)
			return mfs_fail_sys(err, MFS_IO, "configuration snapshot: write");
		off += (off_t)(sizeof(h) + path_len + src->len);
	}
	return MFS_OK;
}

enum mfs_code
mfs_config_snapshot_load(int fd, struct mfs_config_snapshot **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_snapshot) struct mfs_config_snapshot *s = NULL;
	mfs_autofree uint8_t *buf = NULL;
	struct mfs_span in, magic;
	enum mfs_code code;
	uint64_t n;

	*out = NULL;
	if ((code = mfs_fd_read(fd, "configuration snapshot", SNAPSHOT_BYTES_MAX, &buf, &in.len, err)) != MFS_OK)
		return code;
	in.p = buf;
	if (!mfs_span_take(&in, 8, &magic) || memcmp(magic.p, SNAPSHOT_MAGIC, 8) != 0 || !mfs_span_u64le(&in, &n) ||
		n > SOURCES_MAX)
		return mfs_fail(err, MFS_INTERNAL, "configuration snapshot: not one");
	if ((code = new_snapshot(&s, err)) != MFS_OK)
		return code;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t fact, path_len, len;
		struct mfs_span path, text;

		if (!mfs_span_u64le(&in, &fact) || !mfs_span_u64le(&in, &path_len) || !mfs_span_u64le(&in, &len) ||
			path_len > in.len || len > in.len || !mfs_span_take(&in, (size_t)path_len, &path) ||
			!mfs_span_take(&in, (size_t)len, &text))
			return mfs_fail(err, MFS_INTERNAL, "configuration snapshot: ends early");
		if ((code = add_source(s, (const char *)path.p, path.len, (const char *)text.p, text.len, fact == 1,
			     err)) != MFS_OK)
			return code;
	}
	if (in.len != 0)
		return mfs_fail(err, MFS_INTERNAL, "configuration snapshot: %zu bytes left over", in.len);
	*out = mfs_steal(&s);
	return MFS_OK;
}

/* ---- facts -------------------------------------------------------------------------------------- */

/* The number of a user or group by name, as text; empty when there is none. */
static void
find_number(const char *kind, const char *name, char *out, size_t cap)
{
	out[0] = '\0';
	if (strcmp(kind, "user") == 0) {
		const struct passwd *p = getpwnam(name);

		if (p != NULL)
			(void)snprintf(out, cap, "%u", p->pw_uid);
	} else {
		const struct group *g = getgrnam(name);

		if (g != NULL)
			(void)snprintf(out, cap, "%u", g->gr_gid);
	}
}

/* What the parser asks for while the configuration is read; kept in the snapshot. */
static enum mfs_code
look_up(struct mfs_walk *w, const char *name)
{
	struct mfs_config_snapshot *s = w->user;
	mfs_autofree uint8_t *text = NULL;
	char number[32];
	size_t len = 0;

	if (strncmp(name, "user:", 5) == 0 || strncmp(name, "group:", 6) == 0) {
		const char *colon = strchr(name, ':');

		find_number(name[0] == 'u' ? "user" : "group", colon + 1, number, sizeof(number));
		return add_source(s, name, strlen(name), number, strlen(number), true, w->err);
	}
	if (strcmp(name, "machine-id") == 0)
		(void)mfs_file_read(AT_FDCWD, "/etc/machine-id", 256, &text, &len, NULL);
	else if (strncmp(name, "file:", 5) == 0)
		(void)mfs_file_read(AT_FDCWD, name + 5, 4096, &text, &len, NULL);
	len = text != NULL ? strnlen((const char *)text, len) : 0;
	if (len > 0)
		len = strcspn((const char *)text, "\r\n");
	return add_source(s, name, strlen(name), (const char *)text, len, true, w->err);
}

/* ---- files -------------------------------------------------------------------------------------- */

/* absent: an absent file is passed over. */
static enum mfs_code
read_source(struct mfs_config_snapshot *s, const char *path, bool absent, struct mfs_err *err)
{
	mfs_autofree uint8_t *text = NULL;
	struct mfs_err e = MFS_ERR_INIT;
	size_t len;

	if (mfs_file_read(AT_FDCWD, path, MFS_CONFIG_BYTES_MAX, &text, &len, &e) != MFS_OK) {
		if (absent && e.sys_errno == ENOENT)
			return MFS_OK;
		if (e.code == MFS_NO_MEMORY)
			return mfs_fail(err, MFS_NO_MEMORY, "%s", e.msg);
		return mfs_fail(err, MFS_CONFIG_INVALID, "configuration: %s", e.msg);
	}
	return add_source(s, path, strlen(path), (const char *)text, len, false, err);
}

struct fragment {
	char name[256];
	size_t folder;
};

static int
compare_fragments(const void *a, const void *b)
{
	const struct fragment *x = a, *y = b;
	int d = strcmp(x->name, y->name);

	return d != 0 ? d : (x->folder > y->folder) - (x->folder < y->folder);
}

/* modelfs.d of every folder, sorted by name; of equal names the last folder's. */
static enum mfs_code
read_fragments(struct mfs_config_snapshot *s, struct mfs_err *err)
{
	mfs_autofree struct fragment *list = NULL;
	char path[PATH_MAX];
	enum mfs_code code;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(search_path) / sizeof(search_path[0]); i++) {
		mfs_autodir DIR *d = NULL;
		const struct dirent *e;

		(void)snprintf(path, sizeof(path), "%s/modelfs.d", search_path[i]);
		if ((d = opendir(path)) == NULL)
			continue;
		while ((e = readdir(d)) != NULL) {
			size_t len = strlen(e->d_name);
			struct fragment *grown;

			if (e->d_name[0] == '.' || len < 6 || strcmp(e->d_name + len - 5, ".yaml") != 0)
				continue;
			if (n >= 1024)
				return mfs_fail(err, MFS_CONFIG_INVALID, "%s: more than 1024 files", path);
			if ((grown = reallocarray(list, n + 1, sizeof(*grown))) == NULL)
				return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
			list = grown;
			memcpy(list[n].name, e->d_name, len + 1);
			list[n++].folder = i;
		}
	}
	if (n > 1)
		qsort(list, n, sizeof(*list), compare_fragments);
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && strcmp(list[i].name, list[i + 1].name) == 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/modelfs.d/%s", search_path[list[i].folder], list[i].name);
		if ((code = read_source(s, path, false, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
read_search_path(struct mfs_config_snapshot *s, struct mfs_err *err)
{
	enum mfs_code code;

	for (size_t i = sizeof(search_path) / sizeof(search_path[0]); i > 0 && s->n == 0; i--) {
		char path[PATH_MAX];

		(void)snprintf(path, sizeof(path), "%s/modelfs.yaml", search_path[i - 1]);
		if ((code = read_source(s, path, true, err)) != MFS_OK)
			return code;
	}
	if ((code = read_fragments(s, err)) != MFS_OK)
		return code;
	if (s->n == 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "no configuration in %s, %s or %s; write %s/modelfs.yaml or use -c FILE",
			search_path[0], search_path[1], search_path[2], search_path[1]);
	return MFS_OK;
}

/* A relative path by the working folder, so that errors and the files it names keep their meaning. */
static enum mfs_code
read_one(struct mfs_config_snapshot *s, const char *path, struct mfs_err *err)
{
	char folder[PATH_MAX], full[PATH_MAX];
	int n;

	if (path[0] == '/')
		return read_source(s, path, false, err);
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	if (getcwd(folder, sizeof(folder)) == NULL)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "%s: working folder", MFS_ESC(path));
	n = snprintf(full, sizeof(full), "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path);
	if (n < 0 || (size_t)n >= sizeof(full))
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: path too long", MFS_ESC(path));
	return read_source(s, full, false, err);
}

enum mfs_code
mfs_config_read(const char *path, struct mfs_config_snapshot **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_snapshot) struct mfs_config_snapshot *s = NULL;
	MFS_CLEANUP(mfs_cleanup_config) struct mfs_config *c = NULL;
	struct mfs_err ignored = MFS_ERR_INIT;
	struct mfs_walk w;
	enum mfs_code code;

	*out = NULL;
	if ((code = new_snapshot(&s, err)) != MFS_OK)
		return code;
	if ((code = path != NULL ? read_one(s, path, err) : read_search_path(s, err)) != MFS_OK)
		return code;
	/* One pass for the facts. Its errors are found again by whoever parses the snapshot. */
	if ((c = calloc(1, sizeof(*c))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	w = (struct mfs_walk){ .c = c, .s = s, .lookup = look_up, .user = s, .err = &ignored };
	if (mfs_config_walk(&w) == MFS_NO_MEMORY)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	*out = mfs_steal(&s);
	return MFS_OK;
}

/* ---- parsed --------------------------------------------------------------------------------------- */

enum mfs_code
mfs_config_parse(const struct mfs_config_snapshot *s, struct mfs_config **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_config) struct mfs_config *c = calloc(1, sizeof(*c));
	struct mfs_walk w = { .c = c, .s = s, .err = err };
	enum mfs_code code;

	*out = NULL;
	if (c == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	if ((code = mfs_config_walk(&w)) != MFS_OK)
		return code;
	*out = mfs_steal(&c);
	return MFS_OK;
}

static void
free_texts(char **list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

static void
free_ranges(struct mfs_range *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(list[i].name);
		free(list[i].min);
		free(list[i].max);
	}
	free(list);
}

void
mfs_config_free(struct mfs_config *c)
{
	if (c == NULL)
		return;
	free(c->path);
	free(c->mount);
	free(c->state);
	free(c->store);
	free(c->run);
	for (size_t i = 0; i < c->n_seed; i++)
		free(c->seed[i]);
	free(c->seed);
	free(c->counter);
	for (size_t i = 0; i < c->n_keys; i++) {
		free(c->keys[i].file);
		free(c->keys[i].source);
		free_texts(c->keys[i].models);
	}
	free(c->keys);
	free(c->device_id);
	free(c->device_key);
	free(c->device_class);
	free(c->device_region);
	free_ranges(c->labels, c->n_labels);
	free_ranges(c->apps, c->n_apps);
	free_ranges(c->runtimes, c->n_runtimes);
	free(c->user);
	free(c->selinux_context);
	free(c->control_group);
	for (size_t i = 0; i < c->n_models; i++) {
		free(c->models[i].id);
		free(c->models[i].model_id);
		free(c->models[i].model_key);
		free(c->models[i].repository);
		free(c->models[i].channel);
		free(c->models[i].health.user);
		free_texts(c->models[i].health.command);
		free_texts(c->models[i].health.devices);
		free_texts(c->models[i].on_change);
		free_texts(c->models[i].on_reject);
	}
	free(c->models);
	mfs_config_free_repositories(c);
	for (size_t i = 0; i < c->n_notes; i++)
		free(c->notes[i]);
	free(c->notes);
	free(c);
}

ssize_t
mfs_config_find(const struct mfs_config *c, const char *id)
{
	size_t low = 0, high = c->n_models;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int d = strcmp(c->models[mid].id, id);

		if (d == 0)
			return (ssize_t)mid;
		if (d < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -1;
}

enum mfs_code
mfs_config_user(const struct mfs_config *c, uid_t *uid, gid_t *gid, struct mfs_err *err)
{
	const char *name = c->user != NULL ? c->user : "modelfs";
	const struct passwd *p;

	if (strspn(name, "0123456789") == strlen(name)) {
		unsigned long long v = strtoull(name, NULL, 10);

		if (strlen(name) > 10 || v >= UINT32_MAX)
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s: user: %s is not the number of a user",
				MFS_ESC(c->path), MFS_ESC(name));
		p = getpwuid((uid_t)v);
		*uid = (uid_t)v;
		*gid = p != NULL ? p->pw_gid : (gid_t)v;
		return MFS_OK;
	}
	if ((p = getpwnam(name)) != NULL) {
		*uid = p->pw_uid;
		*gid = p->pw_gid;
		return MFS_OK;
	}
	if (c->user != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID,
			"%s: user: no user '%s' on this host; create it (useradd -r) or write a number", MFS_ESC(c->path),
			MFS_ESC(name));
	*uid = DEFAULT_UID;
	*gid = DEFAULT_UID;
	return MFS_OK;
}
