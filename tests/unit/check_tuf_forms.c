/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of TUF metadata: canonical JSON, patterns, times, file names, bounds of the parser. */
#define MFS_IN_VERIFIER
#include "tuf_internal.h"

#include "verify_help.h"

static void
canonical(const char *in, const char *want)
{
	char *out;
	size_t len;

	expect(MFS_OK, mfs_tuf_canonical(TEXT(in), &out, &len, err));
	cr_assert_eq(len, strlen(want), "%s: %s", in, out);
	cr_assert_str_eq(out, want);
	free(out);
}

Test(tuf_forms, canonical_json)
{
	/* as another implementation (securesystemslib 1.2, encode_canonical) writes them */
	canonical("{}", "{}");
	canonical(" { \"b\" : 1 , \"a\" : [ true , false , null , -5 , \"x\" ] } ", "{\"a\":[true,false,null,-5,\"x\"],\"b\":1}");
	canonical("{\"s\":\"a\\\"b\\\\c\\/d\"}", "{\"s\":\"a\\\"b\\\\c/d\"}");
	canonical("{\"s\":\"line\\nbreak\\ttab\\u0001\\u007f\"}", "{\"s\":\"line\nbreak\ttab\x01\x7f\"}");
	canonical("{\"\\u00e4\":1,\"z\":2,\"Z\":3,\"\":4}", "{\"\":4,\"Z\":3,\"z\":2,\"\xc3\xa4\":1}");
	canonical("{\"e\":\"\\ud83d\\ude00\\u20ac\"}", "{\"e\":\"\xf0\x9f\x98\x80\xe2\x82\xac\"}");
	canonical("{\"n\":-0,\"m\":9007199254740991}", "{\"m\":9007199254740991,\"n\":0}");
}

Test(tuf_forms, what_has_no_canonical_form_is_refused)
{
	static const char *const bad[] = { "", "1", "[]", "{\"a\":1.5}", "{\"a\":1e3}", "{\"a\":9007199254740992}",
		"{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"b\":1}}", "{\"a\":\"\\u0000\"}", "{\"a\\u0000\":1}", "{\"a\":\"\\ud800\"}",
		"{\"a\":\"\x80\"}", "{\"a\":\"\n\"}", "{\"a\":1}x", "{\"a\":1,}", "{a:1}", "\xef\xbb\xbf{}", "{\"a\":01}",
		"{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", "{\"a\":\"\\x\"}", "{\"a\":NaN}" };
	char *out;
	size_t len;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect(MFS_MALFORMED, mfs_tuf_canonical(TEXT(bad[i]), &out, &len, err));
	expect(MFS_MALFORMED, mfs_tuf_signed(TEXT("{\"a\":1}"), &out, &len, err));
	expect(MFS_OK, mfs_tuf_signed(TEXT("{\"signatures\":[],\"signed\":{\"b\":1,\"a\":2}}"), &out, &len, err));
	cr_assert_str_eq(out, "{\"a\":2,\"b\":1}");
	free(out);
}

Test(tuf_forms, values_are_bounded_before_they_take_memory)
{
	const size_t n = 400000;
	char *text = malloc(2 * n + 16);
	size_t at = 0, len;
	char *out;

	at += (size_t)sprintf(text, "{\"a\":[0");
	for (size_t i = 0; i < n; i++) {
		text[at++] = ',';
		text[at++] = '0';
	}
	text[at++] = ']';
	text[at++] = '}';
	expect_says(MFS_LIMIT_EXCEEDED, "values", mfs_tuf_canonical(MFS_SPAN(text, at), &out, &len, err));
	free(text);
}

Test(tuf_forms, path_patterns)
{
	static const struct {
		const char *pattern, *path;
		bool match;
	} cases[] = {
		{ "det/*", "det/x", true }, { "det/*", "det/x/y", false }, { "det/*", "det/", true }, { "det/*", "det", false },
		{ "*", "x", true }, { "*", "x/y", false }, { "*", "", true }, { "*/*", "a/b", true }, { "**", "a/b", false },
		{ "det/*/*/*", "det/1.0.0/default/manifest.json", true }, { "det/*/*/*", "det/1.0.0/manifest.json", false },
		{ "*.zip", "a.zip", true }, { "*.zip", "a.zipx", false }, { "a*b*c", "aXbYbZc", true }, { "a*b*c", "aXbY", false },
		{ "a?c", "abc", true }, { "a?c", "a/c", false }, { "a?c", "ac", false }, { "?", "\xc3\xa4", true },
		{ "[ab]x", "ax", true }, { "[!ab]x", "ax", false }, { "[!ab]x", "cx", true }, { "[a-c]x", "bx", true },
		{ "[a-c]x", "dx", false }, { "[]]x", "]x", true }, { "[ab", "[ab", true }, { "[ab", "a", false },
		{ "[a/b]", "a", false }, { "[a/b]", "[a/b]", true }, { "", "", true }, { "", "a", false }, { "a", "", false },
		{ "a/", "a", false }, { "a//b", "a//b", true }, { "*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
		{ "A", "a", false }, { "[\xc3\xa0-\xc3\xa5]", "\xc3\xa4", true }, { "\\*", "*", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(mfs_tuf_pattern_match(cases[i].pattern, cases[i].path), cases[i].match, "'%s' against '%s'",
			cases[i].pattern, cases[i].path);
}

Test(tuf_forms, times)
{
	static const struct {
		const char *s;
		int64_t t;
	} good[] = { { "1970-01-01T00:00:00Z", 0 }, { "2027-01-15T08:00:00Z", 1800000000 }, { "2000-02-29T23:59:59Z", 951868799 },
		{ "2038-01-19T03:14:08Z", 2147483648 }, { "9999-12-31T23:59:59Z", 253402300799 }, { "0001-01-01T00:00:00Z", -62135596800 },
		{ "2100-03-01T00:00:00Z", 4107542400 } };
	static const char *const bad[] = { "", "2027-01-15", "2027-01-15T08:00:00", "2027-01-15T08:00:00z", "2027-01-15 08:00:00Z",
		"2027-13-15T08:00:00Z", "2027-00-15T08:00:00Z", "2027-01-32T08:00:00Z", "2027-02-29T08:00:00Z", "2100-02-29T00:00:00Z",
		"2027-01-00T08:00:00Z", "2027-01-15T24:00:00Z", "2027-01-15T08:60:00Z", "2027-01-15T08:00:60Z", "+027-01-15T08:00:00Z",
		"2027-01-15T08:00:00Z ", "2027-01-15T08:00:00.0Z", "0000-01-01T00:00:00Z", "2027-1--15T08:00:00Z" };
	int64_t t;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert(mfs_tuf_time(good[i].s, &t) && t == good[i].t, "%s: %lld", good[i].s, (long long)t);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(mfs_tuf_time(bad[i], &t), "%s", bad[i]);
}

Test(tuf_forms, file_names)
{
	char name[MFS_TUF_FILE_MAX + 1], role[300];

	expect(MFS_OK, mfs_tuf_file_name("release.det", 12, name, err));
	cr_assert_str_eq(name, "12.release.det.json");
	expect(MFS_OK, mfs_tuf_file_name("a-b_c~d.E9", 0, name, err));
	cr_assert_str_eq(name, "a-b_c~d.E9.json");
	expect(MFS_OK, mfs_tuf_file_name("/ \xff%", 0, name, err));
	cr_assert_str_eq(name, "%2F%20%FF%25.json");
	expect(MFS_CONFIG_INVALID, mfs_tuf_file_name("", 0, name, err));
	memset(role, 'r', sizeof(role));
	role[250] = '\0';
	expect(MFS_OK, mfs_tuf_file_name(role, 0, name, err));
	cr_assert_eq(strlen(name), 255);
	expect(MFS_CONFIG_INVALID, mfs_tuf_file_name(role, 1, name, err));
	role[249] = '/';
	expect(MFS_CONFIG_INVALID, mfs_tuf_file_name(role, 0, name, err));
	cr_assert(mfs_tuf_role_name_ok("release.det") && !mfs_tuf_role_name_ok("root") && !mfs_tuf_role_name_ok("") &&
		!mfs_tuf_role_name_ok(role));
}

Test(tuf_forms, names_of_hash_bins)
{
	static const struct {
		unsigned bits;
		const char *name;
	} cases[] = { { 1, "p-1" }, { 4, "p-e" }, { 5, "p-1d" }, { 8, "p-ee" }, { 9, "p-1dd" }, { 16, "p-eedd" }, { 32, "p-eeddccbb" } };
	const struct mfs_sha256 hash = { { 0xee, 0xdd, 0xcc, 0xbb, 0xaa } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct mfs_tuf_doc d = { .bin_bits = cases[i].bits, .bin_prefix = "p" };
		char *name;

		expect(MFS_OK, mfs_tuf_bin_name(&d, &hash, &name, err));
		cr_assert_str_eq(name, cases[i].name);
		free(name);
	}
}

Test(tuf_forms, stored_names_that_cannot_be_are_refused)
{
	static const char *const bad[] = { "", ".json", "a", "a/b.json", "a.jso" };
	struct mfs_tuf t = { .state = MFS_TUF_READY };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect(MFS_CONFIG_INVALID, mfs_tuf_local(&t, bad[i], TEXT("{}"), err));
	expect(MFS_INTERNAL, mfs_tuf_local(&t, "timestamp.json", TEXT("{}"), err));
	expect(MFS_OK, mfs_tuf_local(&t, "root.json", TEXT("{}"), err));
	cr_assert_null(t.local);
}
