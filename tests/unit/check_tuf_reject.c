/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/reject/tuf/<role>/<name>.json: one rule each. ok-*.json is accepted, everything else is
 * malformed, and the message contains what <name>.says says.
 */
#define MFS_IN_VERIFIER
#include <dirent.h>

#include "tuf_internal.h"
#include "verify_help.h"

/* Exactly as large as the file, for the sanitizers. */
static uint8_t *
slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *p;
	long size;

	cr_assert_not_null(f, "%s", path);
	cr_assert(fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0, "%s", path);
	p = malloc(size > 0 ? (size_t)size : 1);
	cr_assert(p != NULL && fread(p, 1, (size_t)size, f) == (size_t)size, "%s", path);
	(void)fclose(f);
	*len = (size_t)size;
	return p;
}

static void
replay(enum mfs_tuf_type type, const char *folder, const char *name)
{
	const enum mfs_code want = strncmp(name, "ok-", 3) == 0 ? MFS_OK : MFS_MALFORMED;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_tuf_doc *d;
	enum mfs_code code;
	char path[1200];
	uint8_t *p, *says;
	size_t len;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	p = slurp(path, &len);
	code = mfs_tuf_doc_parse("file", type, MFS_SPAN(p, len), &d, &err);
	cr_assert_eq(code, want, "%s: %s: %s", path, mfs_code_name(code), err.msg);
	cr_assert_eq(d != NULL, code == MFS_OK, "%s", path);
	mfs_tuf_doc_free(d);
	free(p);
	if (want == MFS_OK)
		return;
	(void)snprintf(path + strlen(path) - strlen(".json"), 8, ".says");
	says = slurp(path, &len);
	cr_assert_not_null(memmem(err.msg, strlen(err.msg), says, len), "%s: '%.*s' is not in: %s", path, (int)len,
		(const char *)says, err.msg);
	free(says);
}

static void
replay_role(enum mfs_tuf_type type, size_t at_least)
{
	char folder[900];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	(void)snprintf(folder, sizeof(folder), "%s/%s", REJECT_DIR, mfs_tuf_type_name(type));
	d = opendir(folder);
	cr_assert_not_null(d, "%s", folder);
	while ((e = readdir(d)) != NULL) {
		const char *dot = strrchr(e->d_name, '.');

		if (dot == NULL || strcmp(dot, ".json") != 0)
			continue;
		replay(type, folder, e->d_name);
		n++;
	}
	(void)closedir(d);
	cr_assert_geq(n, at_least, "%s: only %zu inputs", folder, n);
}

Test(tuf_reject, root)
{
	replay_role(MFS_TUF_ROOT, 65);
}

Test(tuf_reject, timestamp)
{
	replay_role(MFS_TUF_TIMESTAMP, 60);
}

Test(tuf_reject, snapshot)
{
	replay_role(MFS_TUF_SNAPSHOT, 60);
}

Test(tuf_reject, targets)
{
	replay_role(MFS_TUF_TARGETS, 100);
}
