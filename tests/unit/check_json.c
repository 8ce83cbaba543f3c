/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>

#include "verify_help.h"

static enum mfs_code
parse(const char *text, size_t len, bool canonical, struct mfs_err *err)
{
	/* A copy of exactly this length, so that a sanitizer sees a read past its end. */
	char *copy = malloc(len > 0 ? len : 1);
	json_t *v = NULL;
	enum mfs_code code;

	cr_assert_not_null(copy);
	memcpy(copy, text, len);
	code = canonical ? mfs_json_parse_canonical("doc", MFS_SPAN(copy, len), 1 << 20, &v, err)
			 : mfs_json_parse("doc", MFS_SPAN(copy, len), 1 << 20, &v, err);
	cr_assert((code == MFS_OK) == (v != NULL));
	json_decref(v);
	free(copy);
	return code;
}

struct refusal {
	const char *text;
	const char *says;
};

Test(json, refused_in_both_forms)
{
	static const struct refusal t[] = {
		{ "", "offset 0" },
		{ "[]", "not a JSON object" },
		{ "7", "not JSON" },
		{ "{", "not JSON" },
		{ "{}x", "not JSON" },
		{ "{}{}", "not JSON" },
		{ "{\"a\":1,\"a\":2}", "duplicate" },
		{ "{\"a\":1.0}", "offset 5: a number that is not an integer" },
		{ "{\"a\":1e3}", "not an integer" },
		{ "{\"a\":1E3}", "not an integer" },
		{ "{\"a\":-1.5}", "not an integer" },
		{ "{\"a\":9007199254740992}", "offset 5: a number beyond 2^53-1" },
		{ "{\"a\":-9007199254740992}", "2^53-1" },
		{ "{\"a\":123456789012345678901234567890}", "2^53-1" },
		{ "{\"a\":01}", "not JSON" },
		{ "{\"a\":-}", "not JSON" },
		{ "{\"a\":NaN}", "not JSON" },
		{ "{\"a\":\"\x01\"}", "offset 6: a control character" },
		{ "{\"a\":\"\x7f\"}", "offset 6: a control character" },
		{ "{\"a\":\"x\ny\"}", "offset 7: a control character" },
		{ "{\"a\":\"\\n\"}", "offset 6: an escaped control character" },
		{ "{\"a\":\"\\u0000\"}", "escaped control character" },
		{ "{\"a\":\"\\u001f\"}", "escaped control character" },
		{ "{\"a\":\"\\u007F\"}", "escaped control character" },
		{ "{\"a\":\"\\u12\"}", "incomplete" },
		{ "{\"a\":\"\\ud800\"}", "not JSON" },
		{ "{\"a\":\"\\x41\"}", "unknown escape" },
		{ "{\"a\":\"\\", "ends inside a string" },
		{ "{\"a\":\"abc", "does not end" },
		{ "{\"\xc3\xa4\":1}", "offset 1: a key that is not ASCII" },
		{ "{\"\\u00e4\" :1}", "offset 1: a key that is not ASCII" },
		{ "{\"a\":\"\xff\"}", "not JSON" },
		{ "{\"a\":\"\xc0\x80\"}", "not JSON" },
		{ "{\"a\":\"\xed\xa0\x80\"}", "not JSON" },
		{ "{\"a\":\"\xf4\x90\x80\x80\"}", "not JSON" },
		{ "{\"a\":[1,]}", "not JSON" },
		{ "{\"a\":tru}", "not JSON" },
		{ "\xef\xbb\xbf{}", "not JSON" },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		expect_says(MFS_MALFORMED, t[i].says, parse(t[i].text, strlen(t[i].text), true, err));
		expect_says(MFS_MALFORMED, t[i].says, parse(t[i].text, strlen(t[i].text), false, err));
	}
	expect(MFS_MALFORMED, parse("{\"a\":\"x\0y\"}", 11, false, err));
	expect(MFS_MALFORMED, parse("{}\0", 3, false, err));
}

Test(json, only_one_form_is_canonical)
{
	static const struct refusal t[] = {
		{ "{ }", "offset 1" },
		{ "{}\n", "offset 2" },
		{ " {}", "offset 0" },
		{ "{\"b\":1,\"a\":2}", "offset 2" },
		{ "{\"a\":\"\\u0041\"}", "offset 6" },
		{ "{\"a\":\"\\/\"}", "offset 6" },
		{ "{\"a\":-0}", "offset 5" },
		{ "{\"a\":[1, 2]}", "offset 8" },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		expect(MFS_OK, parse(t[i].text, strlen(t[i].text), false, err));
		expect_says(MFS_MALFORMED, t[i].says, parse(t[i].text, strlen(t[i].text), true, err));
		expect_says(MFS_MALFORMED, "not canonical", parse(t[i].text, strlen(t[i].text), true, err));
	}
}

Test(json, canonical_forms_are_taken)
{
	static const char *const t[] = { "{}", "{\"a\":\"\xc3\xa4\xf0\x9f\x98\x80\"}", "{\"A\":1,\"a\":2,\"aa\":3}",
		"{\"a\":9007199254740991,\"b\":-9007199254740991,\"c\":0}", "{\"a\":\"\\\"\\\\/\"}",
		"{\"a\":[true,false,null,{}]}" };

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		expect(MFS_OK, parse(t[i], strlen(t[i]), true, err));
}

Test(json, depth_16_and_not_17)
{
	char text[256] = "{\"a\":";
	size_t n = strlen(text);

	for (int depth = 15; depth <= 16; depth++) {
		char *p = text + n;

		memset(p, '[', (size_t)depth);
		memset(p + depth, ']', (size_t)depth);
		p[2 * depth] = '}';
		p[2 * depth + 1] = '\0';
		if (depth == 15)
			expect(MFS_OK, parse(text, strlen(text), true, err));
		else
			expect_says(MFS_MALFORMED, "deeper than 16", parse(text, strlen(text), true, err));
	}
}

Test(json, caps)
{
	static char big[2 << 20];
	json_t *v;

	expect_says(MFS_LIMIT_EXCEEDED, "3 bytes, limit 2", mfs_json_parse("doc", TEXT("{ }"), 2, &v, err));
	cr_assert_null(v);
	/* Many tiny values would need a hundred times their size in memory. */
	memset(big, ' ', sizeof(big));
	memcpy(big, "{\"a\":[", 6);
	for (size_t i = 6; i + 3 < sizeof(big) - 2; i += 3)
		memcpy(big + i, "[],", 3);
	expect_says(MFS_LIMIT_EXCEEDED, "values", mfs_json_parse("doc", BYTES(big), sizeof(big), &v, err));
	cr_assert_null(v);
}

static enum mfs_code
write_json(json_t *v, char **out, struct mfs_err *err)
{
	enum mfs_code code;
	size_t len;

	code = mfs_json_canonical(v, out, &len, err);
	if (code == MFS_OK)
		cr_assert_eq(strlen(*out), len);
	else
		cr_assert_null(*out);
	json_decref(v);
	return code;
}

Test(json, writer_refuses_what_the_reader_would)
{
	json_t *deep = json_array();
	char *out;

	expect(MFS_OK, write_json(json_pack("{s:i,s:[s,b]}", "b", 1, "a", "x/y", 1), &out, err));
	cr_assert_str_eq(out, "{\"a\":[\"x/y\",true],\"b\":1}");
	free(out);
	expect(MFS_MALFORMED, write_json(json_pack("{s:f}", "a", 1.5), &out, err));
	expect(MFS_MALFORMED, write_json(json_pack("{s:I}", "a", (json_int_t)9007199254740992), &out, err));
	expect(MFS_MALFORMED, write_json(json_pack("{s:s}", "a", "x\ty"), &out, err));
	expect(MFS_MALFORMED, write_json(json_pack("{s:i}", "\xc3\xa4", 1), &out, err));
	for (int i = 0; i < 16; i++) {
		json_t *outer = json_array();

		json_array_append_new(outer, deep);
		deep = outer;
	}
	expect(MFS_MALFORMED, write_json(deep, &out, err));
}

Test(json, large_documents_keep_every_byte)
{
	json_t *a = json_array();
	json_t *back;
	char *out;
	size_t len;

	for (int i = 0; i < 20000; i++)
		json_array_append_new(a, json_integer(i));
	back = json_pack("{s:o}", "a", a);
	expect(MFS_OK, mfs_json_canonical(back, &out, &len, err));
	json_decref(back);
	expect(MFS_OK, mfs_json_parse_canonical("doc", MFS_SPAN(out, len), 1 << 20, &back, err));
	cr_assert_eq(json_array_size(json_object_get(back, "a")), 20000);
	json_decref(back);
	free(out);
}
