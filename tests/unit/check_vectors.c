/* SPDX-License-Identifier: Apache-2.0 */
/* Test vectors: the document, and what a health command printed for it. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mfs_vectors.h"

static const char document[] = "{\"vectors\":["
	"{\"name\":\"a\",\"input\":{\"x\":[1,\"0.5\"]},\"output\":{\"score\":{\"value\":\"0.93\",\"tolerance\":\"0.01\"},"
	"\"label\":{\"equals\":\"cat\"}}},"
	"{\"name\":\"b\",\"output\":{\"logits\":{\"value\":[[1,\"-2.5e-1\"],[3,4]],\"relative\":\"0.1\"},"
	"\"ms\":{\"min\":0,\"max\":\"10.5\"},\"flags\":{\"equals\":[true,1]}}}]}";
#define A "{\"name\": \"a\", \"output\": {\"score\": 0.9301, \"label\": \"cat\"}}\n"
#define B "{\"name\": \"b\", \"output\": {\"logits\": [[1.0, -0.26], [3, 4.3]], \"ms\": [0, 10.5], \"flags\": [true, 1], \"more\": null}}\n"

static struct mfs_vectors *
parse(const char *text)
{
	struct mfs_vectors *v;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_vectors_parse("v.json", MFS_SPAN(text, strlen(text)), &v, &err), MFS_OK, "%s", err.msg);
	return v;
}

static void
refused(const char *text, const char *words)
{
	struct mfs_vectors *v;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_vectors_parse("v.json", MFS_SPAN(text, strlen(text)), &v, &err), MFS_MALFORMED, "%s", text);
	cr_assert_null(v);
	cr_assert_not_null(strstr(err.msg, words), "wanted '%s', got '%s'", words, err.msg);
}

static void
says(const char *output, enum mfs_code want, const char *words)
{
	struct mfs_vectors *v = parse(document);
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_vectors_check(v, MFS_SPAN(output, strlen(output)), &err), want, "%s", err.msg);
	if (want != MFS_OK)
		cr_assert_not_null(strstr(err.msg, words), "wanted '%s', got '%s'", words, err.msg);
	mfs_vectors_free(v);
}

Test(vectors, a_document_is_read)
{
	struct mfs_vectors *v = parse(document);

	cr_assert_eq(mfs_vectors_count(v), 2);
	cr_assert_null(mfs_vectors_file(v));
	mfs_vectors_free(v);
	v = parse("{\"file\":\"health/vectors.json\"}");
	cr_assert_str_eq(mfs_vectors_file(v), "health/vectors.json");
	cr_assert_eq(mfs_vectors_count(v), 0);
	mfs_vectors_free(v);
}

#define ONE(expectation) "{\"vectors\":[{\"name\":\"a\",\"output\":{\"s\":" expectation "}}]}"
Test(vectors, a_wrong_document_is_refused)
{
	refused("{}", "either vectors or file");
	refused("{\"file\":\"x\",\"vectors\":[]}", "either vectors or file");
	refused("{\"file\":\"../x\"}", "file: not the name");
	refused("{\"file\":7}", "file: not the name");
	refused("{\"vectors\":[]}", "list of 1 to");
	refused("{\"vectors\":{}}", "list of 1 to");
	refused("{\"vectors\":[1]}", "vectors[0].name");
	refused("{\"vectors\":[{\"name\":\"a\"}]}", "vectors[0].output");
	refused("{\"vectors\":[{\"name\":\"a\",\"output\":{}}]}", "vectors[0].output");
	refused("{\"vectors\":[{\"name\":\"a\",\"output\":{\"s\":{\"value\":1}}},{\"name\":\"a\",\"output\":{\"s\":{\"value\":1}}}]}",
		"vectors[1].name: 'a' is the name of vectors[0]");
	refused(ONE("1"), "vectors[0].output.s: want one of");
	refused(ONE("{}"), "want one of");
	refused(ONE("{\"value\":1,\"max\":2}"), "want one of");
	refused(ONE("{\"value\":\"x\"}"), "s.value");
	refused(ONE("{\"value\":\"1.\"}"), "s.value");
	refused(ONE("{\"value\":\"0x10\"}"), "s.value");
	refused(ONE("{\"value\":\"nan\"}"), "s.value");
	refused(ONE("{\"value\":\"1e999\"}"), "s.value");
	refused(ONE("{\"value\":[1,[\"inf\"]]}"), "s.value");
	refused(ONE("{\"value\":1,\"tolerance\":\"-1\"}"), "s.tolerance");
	refused(ONE("{\"min\":true}"), "s.min");
	refused(ONE("{\"equals\":null}"), "s.equals");
	refused(ONE("{\"value\":0.5}"), "not an integer");
}

Test(vectors, outputs_are_compared)
{
	says(A B, MFS_OK, "");
	says("loading...\n{\"log\": 1}\n" B "{\"name\": \"other\", \"output\": {}}\n" A "{broken", MFS_OK, "");
	says(A, MFS_HEALTH_CHECK_FAILED, "'b': the health command printed no line");
	says("", MFS_HEALTH_CHECK_FAILED, "'a': the health command printed no line");
	says(A B A, MFS_HEALTH_CHECK_FAILED, "'a' was printed twice");
	says("{\"name\":\"a\",\"output\":{\"score\":0.941,\"label\":\"cat\"}}\n" B, MFS_HEALTH_CHECK_FAILED, "0.941, expected 0.93");
	says("{\"name\":\"a\",\"output\":{\"score\":\"0.93\",\"label\":\"cat\"}}\n" B, MFS_HEALTH_CHECK_FAILED, "another shape or type");
	says("{\"name\":\"a\",\"output\":{\"score\":[0.93],\"label\":\"cat\"}}\n" B, MFS_HEALTH_CHECK_FAILED, "another shape or type");
	says("{\"name\":\"a\",\"output\":{\"score\":0.93,\"label\":\"dog\"}}\n" B, MFS_HEALTH_CHECK_FAILED, "'label' is not what is expected");
	says("{\"name\":\"a\",\"output\":{\"score\":0.93}}\n" B, MFS_HEALTH_CHECK_FAILED, "no output 'label'");
	says("{\"name\":\"a\",\"output\":{\"score\":NaN,\"label\":\"cat\"}}\n" B, MFS_HEALTH_CHECK_FAILED, "no line");
	says("{\"name\":\"a\",\"output\":{\"score\":0.93,\"score\":1,\"label\":\"cat\"}}\n" B, MFS_HEALTH_CHECK_FAILED, "no line");
	says(A "{\"name\":\"b\",\"output\":{\"logits\":[[1,-0.25],[3,4.5]],\"ms\":1,\"flags\":[true,1]}}", MFS_HEALTH_CHECK_FAILED,
		"4.5, expected 4");
	says(A "{\"name\":\"b\",\"output\":{\"logits\":[[1,-0.25],[3]],\"ms\":1,\"flags\":[true,1]}}", MFS_HEALTH_CHECK_FAILED, "another shape");
	says(A "{\"name\":\"b\",\"output\":{\"logits\":[[1,-0.25],[3,4]],\"ms\":10.6,\"flags\":[true,1]}}", MFS_HEALTH_CHECK_FAILED,
		"at most 10.5");
	says(A "{\"name\":\"b\",\"output\":{\"logits\":[[1,-0.25],[3,4]],\"ms\":[],\"flags\":[true,1]}}", MFS_HEALTH_CHECK_FAILED,
		"another shape");
	says(A "{\"name\":\"b\",\"output\":{\"logits\":[[1,-0.25],[3,4]],\"ms\":-1,\"flags\":[true,1]}}", MFS_HEALTH_CHECK_FAILED,
		"at least 0");
	says(A "{\"name\":\"b\",\"output\":{\"logits\":[[1,-0.25],[3,4]],\"ms\":1,\"flags\":[true,2]}}", MFS_HEALTH_CHECK_FAILED,
		"not what is expected");
}

Test(vectors, hostile_output_is_bounded)
{
	char *deep = malloc(70000);

	(void)snprintf(deep, 70000, "%s%s", A, "{\"name\":\"b\",\"output\":");
	memset(deep + strlen(deep), '[', 65000 - strlen(deep));
	deep[65000] = '\0';
	says(deep, MFS_HEALTH_CHECK_FAILED, "'b': the health command printed no line");
	free(deep);
	says("{\"name\":\"a\\u001b[2J\",\"output\":{}}\n", MFS_HEALTH_CHECK_FAILED, "no line");
}
