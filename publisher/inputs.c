/* SPDX-License-Identifier: Apache-2.0 */
#include "inputs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "mfs_verify.h"

struct walk {
	struct mfs_inputs in;
	void (*note)(void *arg, const char *text);
	void *arg;
};

__attribute__((format(printf, 2, 3))) static void
walk_note(const struct walk *w, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (w->note == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	w->note(w->arg, text);
}

void
mfs_inputs_free(struct mfs_inputs *in)
{
	if (in == NULL)
		return;
	for (size_t i = 0; i < in->n; i++) {
		free(in->v[i].name);
		free(in->v[i].path);
	}
	free(in->v);
	*in = (struct mfs_inputs){ 0 };
}

static enum mfs_code
input_add(struct walk *w, const char *name, const char *path, const struct stat *st, struct mfs_err *err)
{
	struct mfs_inputs *in = &w->in;
	struct mfs_input *e;

	if (!mfs_file_name_ok(name, strlen(name)))
		return mfs_fail(err, MFS_MALFORMED, "%s: cannot be named '%s' in a bundle (UTF-8 without control "
			"characters, at most %u components of %u bytes, %u in all); rename it", MFS_ESC(path), MFS_ESC(name),
			MFS_COMPONENTS_MAX, MFS_COMPONENT_MAX, MFS_NAME_MAX);
	if (in->n == MFS_FILES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %u files in one bundle", MFS_ESC(path),
			MFS_FILES_MAX);
	if ((uint64_t)st->st_size > MFS_FILE_SIZE_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %lld bytes, limit %llu", MFS_ESC(path),
			(long long)st->st_size, MFS_FILE_SIZE_MAX);
	if (in->n == in->cap) {
		size_t cap = in->cap == 0 ? 64 : in->cap * 2;
		struct mfs_input *v = reallocarray(in->v, cap, sizeof(*v));

		if (v == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "%zu files", cap);
		in->v = v;
		in->cap = cap;
	}
	e = &in->v[in->n];
	*e = (struct mfs_input){ strdup(name), strdup(path), (uint64_t)st->st_size };
	if (e->name == NULL || e->path == NULL) {
		free(e->name);
		free(e->path);
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	}
	in->n++;
	return MFS_OK;
}

static bool
name_skipped(const char *name)
{
	return strncmp(name, ".git", 4) == 0 || strcmp(name, ".cache") == 0;
}

static enum mfs_code walk_folder(struct walk *w, const char *prefix, const char *path, unsigned depth,
	struct mfs_err *err);

/* One entry of a walked folder. */
static enum mfs_code
walk_entry(struct walk *w, const char *name, const char *path, unsigned depth, struct mfs_err *err)
{
	struct stat st, target;

	if (lstat(path, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if (S_ISDIR(st.st_mode))
		return walk_folder(w, name, path, depth + 1, err);
	if (S_ISREG(st.st_mode))
		return input_add(w, name, path, &st, err);
	if (!S_ISLNK(st.st_mode))
		return mfs_fail(err, MFS_MALFORMED, "%s: a special file; a bundle holds only files and folders, so remove it",
			MFS_ESC(path));
	if (stat(path, &target) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: a link that leads nowhere", MFS_ESC(path));
	if (!S_ISREG(target.st_mode))
		return mfs_fail(err, MFS_MALFORMED, "%s: a link to %s; only links to files are followed, so name the "
			"target on the command line or copy it", MFS_ESC(path),
			S_ISDIR(target.st_mode) ? "a folder" : "a special file");
	return input_add(w, name, path, &target, err);
}

static enum mfs_code
walk_folder(struct walk *w, const char *prefix, const char *path, unsigned depth, struct mfs_err *err)
{
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;
	size_t entries = 0;

	if (depth > MFS_COMPONENTS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: deeper than %u folders", MFS_ESC(path), MFS_COMPONENTS_MAX);
	if ((d = opendir(path)) == NULL)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
		mfs_autofree char *name = NULL, *sub = NULL;
		enum mfs_code code;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (asprintf(&name, "%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", e->d_name) < 0) {
			name = NULL;
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
		}
		if (asprintf(&sub, "%s/%s", path, e->d_name) < 0) {
			sub = NULL;
			return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
		}
		entries++;
		if (name_skipped(e->d_name)) {
			walk_note(w, "left out: %s", MFS_ESC(sub));
			continue;
		}
		if ((code = walk_entry(w, name, sub, depth, err)) != MFS_OK)
			return code;
	}
	if (errno != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: read", MFS_ESC(path));
	if (entries == 0)
		walk_note(w, "left out: %s (an empty folder)", MFS_ESC(path));
	return MFS_OK;
}

/* An argument of the command line: links are followed, the user named it. */
static enum mfs_code
walk_argument(struct walk *w, const char *arg, struct mfs_err *err)
{
	mfs_autofree char *path = strdup(arg);
	const char *base;
	size_t len;
	struct stat st;

	if (path == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(arg));
	if (stat(path, &st) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(path));
	if (S_ISDIR(st.st_mode)) {
		for (len = strlen(path); len > 1 && path[len - 1] == '/'; len--)
			path[len - 1] = '\0';
		return walk_folder(w, "", path, 1, err);
	}
	if (!S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_MALFORMED, "%s: a special file; a bundle holds only files and folders",
			MFS_ESC(path));
	base = strrchr(path, '/');
	return input_add(w, base != NULL ? base + 1 : path, path, &st, err);
}

static int
input_compare(const void *a, const void *b)
{
	const struct mfs_input *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int
input_compare_folded(const void *a, const void *b)
{
	const struct mfs_input *const *x = a, *const *y = b;

	return strcasecmp((*x)->name, (*y)->name);
}

/* The manifest's own parser refuses collisions too; here both sources can still be named. */
static enum mfs_code
inputs_check_unique(const struct mfs_inputs *in, struct mfs_err *err)
{
	mfs_autofree const struct mfs_input **v = calloc(in->n, sizeof(*v));

	if (v == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%zu files", in->n);
	for (size_t i = 0; i < in->n; i++)
		v[i] = &in->v[i];
	qsort(v, in->n, sizeof(*v), input_compare_folded);
	for (size_t i = 1; i < in->n; i++)
		if (strcasecmp(v[i - 1]->name, v[i]->name) == 0)
			return mfs_fail(err, MFS_MALFORMED, "%s and %s: both would be '%s' in the bundle%s; rename one",
				MFS_ESC(v[i - 1]->path), MFS_ESC(v[i]->path), MFS_ESC(v[i]->name),
				strcmp(v[i - 1]->name, v[i]->name) == 0 ? "" : " where case is ignored");
	return MFS_OK;
}

enum mfs_code
mfs_inputs_gather(char *const *args, size_t n, void (*note)(void *arg, const char *text), void *arg,
	struct mfs_inputs *out, struct mfs_err *err)
{
	struct walk w = { .note = note, .arg = arg };
	enum mfs_code code = MFS_OK;

	*out = (struct mfs_inputs){ 0 };
	for (size_t i = 0; i < n && code == MFS_OK; i++)
		code = walk_argument(&w, args[i], err);
	if (code == MFS_OK && w.in.n == 0)
		code = mfs_fail(err, MFS_MALFORMED, "%s: no files to pack", n > 0 ? MFS_ESC(args[0]) : "nothing named");
	if (code == MFS_OK && w.in.n > 0) {
		qsort(w.in.v, w.in.n, sizeof(*w.in.v), input_compare);
		code = inputs_check_unique(&w.in, err);
	}
	if (code != MFS_OK) {
		mfs_inputs_free(&w.in);
		return code;
	}
	for (size_t i = 0; i < w.in.n; i++)
		w.in.total += w.in.v[i].size;
	*out = w.in;
	return MFS_OK;
}
