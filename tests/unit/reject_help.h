/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reject_help.h - folders of inputs below REJECT_DIR, one rule each. Beside each <name>.json that is refused
 * lies <name>.says: what the message must contain.
 */
#ifndef REJECT_HELP_H
#define REJECT_HELP_H

#include <dirent.h>

#include "verify_help.h"

/* Parse an input and let it go; user is the caller's. */
typedef enum mfs_code reject_fn(void *user, struct mfs_span in, struct mfs_err *err);

/* Exactly as large as the file, for the sanitizers; p NULL when there is none. */
static inline struct mfs_span
reject_read(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *buf;
	long size;

	if (f == NULL)
		return MFS_SPAN(NULL, 0);
	cr_assert(fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0, "%s", path);
	buf = malloc(size > 0 ? (size_t)size : 1);
	cr_assert(buf != NULL && fread(buf, 1, (size_t)size, f) == (size_t)size, "%s", path);
	(void)fclose(f);
	return MFS_SPAN(buf, (size_t)size);
}

static inline void
reject_one(const char *folder, const char *name, enum mfs_code want, reject_fn *parse, void *user)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_span in, says;
	enum mfs_code code;
	char path[1200];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	in = reject_read(path);
	cr_assert_not_null(in.p, "%s", path);
	code = parse(user, in, &err);
	cr_assert_eq(code, want, "%s: %s, not %s: %s", path, mfs_code_name(code), mfs_code_name(want), err.msg);
	free((void *)(uintptr_t)in.p);
	(void)snprintf(path + strlen(path) - strlen(".json"), 8, ".says");
	says = reject_read(path);
	cr_assert_eq(says.p == NULL, want == MFS_OK, "%s", path);
	if (says.p != NULL)
		cr_assert_not_null(memmem(err.msg, strlen(err.msg), says.p, says.len), "%s: '%.*s' is not in: %s", path,
			(int)says.len, (const char *)says.p, err.msg);
	free((void *)(uintptr_t)says.p);
}

/* Every input of a folder below REJECT_DIR has this outcome, but ok-*.json, which is good; at_least so many lie there. */
static inline void
reject_folder(const char *below, enum mfs_code want, size_t at_least, reject_fn *parse, void *user)
{
	char folder[900];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	(void)snprintf(folder, sizeof(folder), "%s/%s", REJECT_DIR, below);
	d = opendir(folder);
	cr_assert_not_null(d, "%s", folder);
	while ((e = readdir(d)) != NULL) {
		const char *dot = strrchr(e->d_name, '.');

		if (dot == NULL || strcmp(dot, ".json") != 0)
			continue;
		reject_one(folder, e->d_name, strncmp(e->d_name, "ok-", 3) == 0 ? MFS_OK : want, parse, user);
		n++;
	}
	(void)closedir(d);
	cr_assert_geq(n, at_least, "%s: only %zu inputs", folder, n);
}

#endif
