/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/reject/policy/<code>/<name>.json and tests/reject/trust/<code>/<name>.json: one rule each; the
 * folder is the expected outcome. Beside each file that is refused may lie <name>.says: what the
 * message must contain.
 */
#include <dirent.h>

#include "verify_help.h"

#include "mfs_policy.h"

static struct mfs_span
slurp(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *buf;
	long size;

	if (f == NULL)
		return MFS_SPAN(NULL, 0);
	cr_assert(fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0, "%s", path);
	buf = malloc((size_t)size > 0 ? (size_t)size : 1); /* exact, for the sanitizers */
	cr_assert_not_null(buf);
	cr_assert_eq(fread(buf, 1, (size_t)size, f), (size_t)size, "%s", path);
	fclose(f);
	return MFS_SPAN(buf, (size_t)size);
}

static enum mfs_code
policy(struct mfs_span in, struct mfs_err *err)
{
	struct mfs_policy *p;
	enum mfs_code code = mfs_policy_parse(in, "det", &p, err);

	cr_assert((p != NULL) == (code == MFS_OK));
	mfs_policy_free(p);
	return code;
}

static enum mfs_code
trust(struct mfs_span in, struct mfs_err *err)
{
	struct mfs_trustlist *l;
	enum mfs_code code = mfs_trustlist_parse(in, &l, err);

	cr_assert((l != NULL) == (code == MFS_OK));
	mfs_trustlist_free(l);
	return code;
}

static void
replay(const char *folder, const char *name, enum mfs_code want, enum mfs_code (*parse)(struct mfs_span, struct mfs_err *))
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_span in, says;
	enum mfs_code code;
	char path[1200];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	in = slurp(path);
	cr_assert_not_null(in.p, "%s", path);
	code = parse(in, &err);
	cr_assert_eq(code, want, "%s: %s, not %s: %s", path, mfs_code_name(code), mfs_code_name(want), err.msg);
	free((void *)(uintptr_t)in.p);
	snprintf(path + strlen(path) - strlen(".json"), 8, ".says");
	says = slurp(path);
	cr_assert((says.p == NULL) == (want == MFS_OK), "%s", path);
	if (says.p != NULL)
		cr_assert_not_null(memmem(err.msg, strlen(err.msg), says.p, says.len), "%s: '%.*s' is not in: %s", path,
			(int)says.len, (const char *)says.p, err.msg);
	free((void *)(uintptr_t)says.p);
}

static void
replay_folder(const char *kind, const char *code_name, size_t at_least,
	enum mfs_code (*parse)(struct mfs_span, struct mfs_err *))
{
	enum mfs_code want;
	char folder[900];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	cr_assert(mfs_code_from_name(code_name, &want));
	snprintf(folder, sizeof(folder), "%s/%s/%s", REJECT_DIR, kind, code_name);
	d = opendir(folder);
	cr_assert_not_null(d, "%s", folder);
	while ((e = readdir(d)) != NULL) {
		const char *dot = strrchr(e->d_name, '.');

		if (dot == NULL || strcmp(dot, ".json") != 0)
			continue;
		replay(folder, e->d_name, want, parse);
		n++;
	}
	closedir(d);
	cr_assert_geq(n, at_least, "%s: only %zu inputs", folder, n);
}

Test(policy_reject, policies)
{
	replay_folder("policy", "malformed", 120, policy);
	replay_folder("policy", "limit_exceeded", 2, policy);
	replay_folder("policy", "ok", 4, policy);
}

Test(policy_reject, trust_lists)
{
	replay_folder("trust", "malformed", 25, trust);
	replay_folder("trust", "limit_exceeded", 1, trust);
	replay_folder("trust", "ok", 3, trust);
}
