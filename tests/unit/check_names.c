/* SPDX-License-Identifier: Apache-2.0 */
#include "verify_help.h"

static bool
file_ok(const char *s)
{
	return mfs_file_name_ok(s, strlen(s));
}

static bool
version_ok(const char *s)
{
	return mfs_version_ok(s, strlen(s));
}

Test(names, model_ids_and_variants)
{
	char long_id[129];

	memset(long_id, 'a', sizeof(long_id));
	cr_assert(mfs_model_id_ok("a", 1));
	cr_assert(mfs_model_id_ok("Det-1.2_x", 9));
	cr_assert(mfs_model_id_ok(long_id, 127));
	cr_assert_not(mfs_model_id_ok(long_id, 128));
	cr_assert_not(mfs_model_id_ok("", 0));
	cr_assert_not(mfs_model_id_ok(".a", 2));
	cr_assert_not(mfs_model_id_ok("-a", 2));
	cr_assert_not(mfs_model_id_ok("a/b", 3));
	cr_assert_not(mfs_model_id_ok("a b", 3));
	cr_assert_not(mfs_model_id_ok("a\0b", 3));
	cr_assert_not(mfs_model_id_ok("\xc3\xa4", 2));
	cr_assert(mfs_variant_ok(long_id, 64));
	cr_assert_not(mfs_variant_ok(long_id, 65));
}

Test(names, versions)
{
	static const char *const good[] = { "0.0.0", "1.2.3", "10.20.30", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-0.3.7",
		"1.0.0-x-y-z.--", "1.0.0--", "99999999999999999999.0.0", "1.0.0-0a" };
	static const char *const bad[] = { "", "1", "1.2", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "1.2.3-", "1.2.3-a..b",
		"1.2.3-01", "1.2.3+build", "v1.2.3", "1.2.x", "1.2.-3", "1..3", ".1.2.3", "1.2.3.", "1.2.3-a.", "1.2.3-a_b",
		" 1.2.3", "1.2.3 ", "1.2.3\n" };
	char longest[66] = "1.0.0-";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert(version_ok(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(version_ok(bad[i]), "%s", bad[i]);
	memset(longest + 6, 'a', 59);
	cr_assert(mfs_version_ok(longest, 64));
	cr_assert_not(mfs_version_ok(longest, 65));
}

Test(names, version_precedence)
{
	static const char *const rising[] = { "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
		"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
		"18446744073709551616.0.0", "18446744073709551617.0.0" };
	const int n = sizeof(rising) / sizeof(rising[0]);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < n; k++)
			cr_assert_eq(mfs_version_compare(rising[i], rising[k]), (i > k) - (i < k), "%s %s", rising[i],
				rising[k]);
}

Test(names, files)
{
	static const char *const good[] = { "a", "model.onnx", "a/b/c", ".hidden", "...", "..a", "a..", "sp ace", "a\\b",
		"\xc3\xa4.bin", "\xf0\x9f\x98\x80", "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", "\xc2\xa0" };
	static const char *const bad[] = { "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "./a", "a/.",
		"a\n", "\x01", "a\x7f", "\xc2\x80", "\xc2\x9f", "\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
		"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\x80",
		"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17" };
	char name[1300];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert(file_ok(good[i]), "good %zu", i);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(file_ok(bad[i]), "bad %zu", i);
	cr_assert_not(mfs_file_name_ok("a\0b", 3));
	memset(name, 'a', sizeof(name));
	cr_assert(mfs_file_name_ok(name, 255));
	cr_assert_not(mfs_file_name_ok(name, 256));
	for (size_t i = 255; i < sizeof(name); i += 256)
		name[i] = '/';
	cr_assert(mfs_file_name_ok(name, 1023));
	name[1023] = 'a';
	name[1000] = '/';
	cr_assert(mfs_file_name_ok(name, 1024));
	cr_assert_not(mfs_file_name_ok(name, 1025));
}
