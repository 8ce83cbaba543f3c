/* SPDX-License-Identifier: Apache-2.0 */
/* verify_help.h - what the verifier's unit tests share. */
#ifndef VERIFY_HELP_H
#define VERIFY_HELP_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mfs_verify.h"

#define BYTES(a) MFS_SPAN((a), sizeof(a))
#define TEXT(s)  MFS_SPAN((s), strlen(s))

/* The call must end with this outcome; its message is shown when it does not. */
#define expect(want, call)                                                                   \
	do {                                                                                 \
		struct mfs_err err_ = MFS_ERR_INIT, *err = &err_;                            \
		enum mfs_code got_ = (call);                                                 \
		cr_assert_eq(got_, (want), "%s: %s, not %s: %s", #call, mfs_code_name(got_), \
			mfs_code_name(want), err_.msg);                                      \
	} while (0)

/* The same, and the message must say `text`. */
#define expect_says(want, text, call)                                                        \
	do {                                                                                 \
		struct mfs_err err_ = MFS_ERR_INIT, *err = &err_;                            \
		enum mfs_code got_ = (call);                                                 \
		cr_assert_eq(got_, (want), "%s: %s, not %s: %s", #call, mfs_code_name(got_), \
			mfs_code_name(want), err_.msg);                                      \
		cr_assert_not_null(strstr(err_.msg, (text)), "'%s' is not in: %s", (text), err_.msg); \
	} while (0)

#endif
