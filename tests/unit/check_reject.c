/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/reject/<code>/<name>.json: one rule each; the folder is the expected outcome. Beside each
 * file that is refused may lie <name>.says: what the message must contain.
 */
#include <dirent.h>

#include "verify_help.h"

static struct mfs_span
slurp(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *buf;
	long size;

	if (f == NULL)
		return MFS_SPAN(NULL, 0);
	cr_assert(fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0, "%s", path);
	buf = malloc((size_t)size + 1);
	cr_assert_not_null(buf);
	cr_assert_eq(fread(buf, 1, (size_t)size, f), (size_t)size, "%s", path);
	fclose(f);
	buf = realloc(buf, (size_t)size > 0 ? (size_t)size : 1); /* exact, for the sanitizers */
	return MFS_SPAN(buf, (size_t)size);
}

static void
replay(const char *folder, const char *name, enum mfs_code want)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_manifest *m;
	struct mfs_span in, says;
	enum mfs_code code;
	char path[1200];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	in = slurp(path);
	cr_assert_not_null(in.p, "%s", path);
	code = mfs_manifest_parse(in, &m, &err);
	cr_assert_eq(code, want, "%s: %s, not %s: %s", path, mfs_code_name(code), mfs_code_name(want), err.msg);
	cr_assert((m != NULL) == (code == MFS_OK), "%s", path);
	mfs_manifest_free(m);
	free((void *)(uintptr_t)in.p);
	snprintf(path + strlen(path) - strlen(".json"), 8, ".says");
	says = slurp(path);
	if (says.p != NULL)
		cr_assert_not_null(memmem(err.msg, strlen(err.msg), says.p, says.len), "%s: '%.*s' is not in: %s", path,
			(int)says.len, (const char *)says.p, err.msg);
	free((void *)(uintptr_t)says.p);
}

static void
replay_folder(const char *code_name, size_t at_least)
{
	enum mfs_code want;
	char folder[900];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	cr_assert(mfs_code_from_name(code_name, &want));
	snprintf(folder, sizeof(folder), "%s/%s", REJECT_DIR, code_name);
	d = opendir(folder);
	cr_assert_not_null(d, "%s", folder);
	while ((e = readdir(d)) != NULL) {
		const char *dot = strrchr(e->d_name, '.');

		if (dot == NULL || strcmp(dot, ".json") != 0)
			continue;
		replay(folder, e->d_name, want);
		n++;
	}
	closedir(d);
	cr_assert_geq(n, at_least, "%s: only %zu inputs", folder, n);
}

Test(reject, malformed)
{
	replay_folder("malformed", 110);
}

Test(reject, the_manifests_that_these_were_made_from_are_good)
{
	replay_folder("ok", 4);
}
