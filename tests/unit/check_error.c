/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: what they are prefixed with is said once, and nothing is lost at the end of the line. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

Test(error, a_context_is_not_said_twice)
{
	struct mfs_err err = MFS_ERR_INIT;

	errno = ENOENT;
	(void)mfs_fail_sys(&err, MFS_IO, "%s", "root.json");
	cr_assert_eq(mfs_err_context(&err, "%s: ", "root.json"), MFS_IO);
	cr_assert_str_eq(err.msg, "root.json: No such file or directory");
	cr_assert_eq(err.sys_errno, ENOENT);
	(void)mfs_err_context(&err, "%s: ", "root");
	cr_assert_str_eq(err.msg, "root: root.json: No such file or directory", "another name that begins alike");
	(void)mfs_err_context(&err, "repository %s: ", "a");
	(void)mfs_err_context(&err, "repository %s: ", "b");
	cr_assert_str_eq(err.msg, "repository b: repository a: root: root.json: No such file or directory");
}

Test(error, a_context_longer_than_a_message_stays_within_it)
{
	struct mfs_err err = MFS_ERR_INIT;
	char name[2 * sizeof(err.msg)];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	(void)mfs_fail(&err, MFS_MALFORMED, "%s: short", name);
	cr_assert_eq(mfs_err_context(&err, "%s: ", name), MFS_MALFORMED);
	cr_assert_eq(strlen(err.msg), sizeof(err.msg) - 1);
	cr_assert_eq(mfs_err_context(NULL, "x"), MFS_INTERNAL);
}

/* The table of modelfs(8): number, name, class and the exit code of a command that ends so. */
Test(error, the_manual_has_every_outcome_as_it_is)
{
	FILE *f = fopen(MANUAL, "r");
	char line[200], want[200];
	unsigned n = 0;

	cr_assert_not_null(f, "%s", MANUAL);
	while (fgets(line, sizeof(line), f) != NULL) {
		enum mfs_code code = (enum mfs_code)strtoul(line + strcspn(line, "0123456789"), NULL, 10);

		if (strncmp(line, ".It ", 4) != 0 || strstr(line, " Ta ") == NULL || line[4] < '0' || line[4] > '9')
			continue;
		(void)snprintf(want, sizeof(want), ".It %d Ta %s Ta %s Ta %d\n", (int)code, mfs_code_name(code),
			mfs_class_name(mfs_code_class(code)), (int)mfs_code_exit(code));
		cr_assert_str_eq(line, want);
		n++;
	}
	(void)fclose(f);
	cr_assert_geq(n, 37);
}
