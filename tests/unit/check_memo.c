/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "memo.h"

/* A walk over records "a", "b", ...: which of them had to be made anew. '-' in keys: no such record. */
static void
walk(struct mfs_memo *m, const char *keys, const char *anew)
{
	mfs_memo_begin(m);
	for (size_t i = 0; keys[i] != '\0'; i++) {
		char id[2] = { (char)('a' + i), '\0' };
		const char *text;
		size_t len;

		if (keys[i] == '-')
			continue;
		mfs_memo_add(m, &keys[i], 1);
		text = mfs_memo_find(m, id, &len);
		cr_assert_eq(text == NULL, strchr(anew, id[0]) != NULL, "%s: %s", keys, id);
		if (text == NULL)
			text = mfs_memo_keep(m, id, strndup(&keys[i], 1), len = 1);
		cr_assert_eq(len, 1);
		cr_assert_eq(text[0], keys[i], "%s: %s has the text of another time", keys, id);
	}
}

Test(memo, only_what_changed_is_made_anew)
{
	struct mfs_memo *m = mfs_memo_new();

	walk(m, "111", "abc");
	walk(m, "111", "");
	walk(m, "121", "b");
	walk(m, "111", "b");
	walk(m, "1111", "d");
	walk(m, "1-11", ""); /* forgotten as it is passed by */
	walk(m, "1111", "b");
	walk(m, "--11", "");
	walk(m, "3111", "ab");
	walk(m, "", "");
	walk(m, "3112", "d");
	mfs_memo_free(m);
}

Test(memo, parts_of_a_record_do_not_run_together)
{
	struct mfs_memo *m = mfs_memo_new();
	static const char *const two[][2] = { { "ab", "c" }, { "a", "bc" }, { NULL, "abc" }, { "", "abc" }, { "abc", "" },
		{ "abc", NULL } };
	size_t len;

	for (size_t i = 0; i < sizeof(two) / sizeof(two[0]); i++) {
		mfs_memo_begin(m);
		mfs_memo_add_string(m, two[i][0]);
		mfs_memo_add_string(m, two[i][1]);
		cr_assert_null(mfs_memo_find(m, "x", &len), "%zu is taken for the one before", i);
		cr_assert_not_null(mfs_memo_keep(m, "x", strdup("t"), 1));
	}
	mfs_memo_free(m);
	mfs_memo_free(NULL);
}

/* A walk that ended in the middle of a record leaves nothing of it in the next one. */
Test(memo, a_walk_that_was_broken_off_spoils_no_other)
{
	struct mfs_memo *m = mfs_memo_new();
	size_t len;

	walk(m, "11", "ab");
	mfs_memo_begin(m);
	mfs_memo_add(m, "half", 4);
	walk(m, "11", "");
	mfs_memo_begin(m);
	mfs_memo_add(m, "2", 1);
	cr_assert_null(mfs_memo_find(m, "a", &len)); /* and it is not kept */
	walk(m, "11", "a");
	mfs_memo_free(m);
}

Test(memo, a_text_grows_and_ends_with_nul)
{
	struct mfs_text t = { 0 };

	cr_assert(mfs_text_add(&t, NULL, 0));
	cr_assert_str_eq(t.p, "");
	for (int i = 0; i < 5000; i++)
		cr_assert(mfs_text_add(&t, "0123456789", 10));
	cr_assert_eq(t.len, 50000);
	cr_assert_eq(strlen(t.p), 50000);
	cr_assert_eq(memcmp(t.p + 49990, "0123456789", 11), 0);
	cr_assert_not(mfs_text_add(&t, "x", SIZE_MAX - 3), "more than there can be");
	cr_assert_eq(t.len, 50000);
	free(t.p);
}
