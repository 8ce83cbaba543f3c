/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages: what is refused, and that both ends understand each other. */
#include <criterion/criterion.h>
#include <string.h>

#include "ctlmsg.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static enum mfs_code
parse(const char *text, struct mfs_ctl_request *r, struct mfs_err *err)
{
	*err = (struct mfs_err)MFS_ERR_INIT;
	return mfs_ctl_request_parse((struct mfs_span){ (const uint8_t *)text, strlen(text) }, r, err);
}

Test(ctlmsg, refuses_what_is_not_a_request)
{
	static const struct { const char *text, *names; } bad[] = {
		{ "", "request" },
		{ "x", "request" },
		{ "[]", "object" },
		{ "null", "request" },
		{ "{}", "format" },
		{ "{\"format\":\"modelfs-control/1\"}", "command" },
		{ "{\"format\":\"modelfs-control/2\",\"command\":\"status\"}", "format" },
		{ "{\"format\":1,\"command\":\"status\"}", "format" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"launch\"}", "launch" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"command\":\"gc\"}", "request" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"status\"}{}", "request" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":\"../x\"}", "model" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":7}", "model" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":\"a\\u0000b\"}", "" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"json\":1}", "json" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"rollback\"}", "model" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"wait\",\"model\":\"det\",\"version\":\"one\"}", "version" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"wait\",\"model\":\"det\",\"timeout_ms\":-1}", "timeout_ms" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"wait\",\"model\":\"det\",\"timeout_ms\":1.5}", "" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"wait\",\"model\":\"det\",\"timeout_ms\":1e99}", "" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"events\",\"after\":-5}", "after" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"activate\",\"model\":\"det\"}", "manifest" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"activate\",\"model\":\"det\",\"manifest\":\"00\"}", "manifest" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"decide\",\"model\":\"det\",\"manifest\":\"" HASH "\"}", "model_id" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"note\",\"outcome\":\"ok\",\"detail\":\"x\"}", "outcome" },
		{ "{\"format\":\"modelfs-control/1\",\"command\":\"note\",\"outcome\":\"fine\",\"detail\":\"x\"}", "outcome" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct mfs_ctl_request r;
		struct mfs_err err;

		cr_assert_neq(parse(bad[i].text, &r, &err), MFS_OK, "accepted: %s", bad[i].text);
		cr_assert(err.code == MFS_MALFORMED || err.code == MFS_LIMIT_EXCEEDED, "%s: %s", bad[i].text, err.msg);
		cr_assert_not_null(strstr(err.msg, bad[i].names), "%s: '%s' does not name '%s'", bad[i].text, err.msg, bad[i].names);
	}
}

Test(ctlmsg, a_request_too_long_is_refused)
{
	char *text = malloc(MFS_CTL_REQUEST_MAX + 2);
	struct mfs_ctl_request r;
	struct mfs_err err = MFS_ERR_INIT;

	memset(text, ' ', MFS_CTL_REQUEST_MAX + 1);
	memcpy(text, "{", 1);
	cr_assert_eq(mfs_ctl_request_parse((struct mfs_span){ (const uint8_t *)text, MFS_CTL_REQUEST_MAX + 1 }, &r, &err),
		MFS_LIMIT_EXCEEDED);
	free(text);
}

Test(ctlmsg, unknown_fields_are_ignored)
{
	struct mfs_ctl_request r;
	struct mfs_err err;

	cr_assert_eq(parse("{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"future\":[1,{\"a\":null}]}", &r, &err),
		MFS_OK, "%s", err.msg);
	cr_assert_eq(r.command, MFS_CTL_STATUS);
	cr_assert_str_empty(r.model);
}

Test(ctlmsg, what_one_end_writes_the_other_reads)
{
	for (enum mfs_ctl_command c = 0; c < MFS_CTL_COMMANDS; c++) {
		struct mfs_ctl_request r = { .command = c, .model = "det", .json = true, .follow = true, .after = 7,
			.timeout_ms = 1500, .manifest = { { 1, 2, 3 } }, .version = "1.2.3-rc.1", .variant = "int8",
			.model_id = "detector", .release = 12, .key_epoch = 2, .outcome = MFS_HASH_MISMATCH, .detail = "a \"b\"" };
		struct mfs_ctl_request back;
		struct mfs_err err = MFS_ERR_INIT;
		char *line;
		size_t len;

		cr_assert_eq(mfs_ctl_request_line(&r, &line, &len, &err), MFS_OK);
		cr_assert_eq(line[len - 1], '\n');
		cr_assert_null(memchr(line, '\n', len - 1), "a newline inside the line");
		cr_assert_eq(mfs_ctl_request_parse((struct mfs_span){ (uint8_t *)line, len - 1 }, &back, &err), MFS_OK, "%s",
			err.msg);
		cr_assert_eq(back.command, c);
		cr_assert_str_eq(back.model, "det");
		cr_assert_str_eq(back.version, "1.2.3-rc.1");
		cr_assert_str_eq(back.variant, "int8");
		cr_assert_str_eq(back.model_id, "detector");
		cr_assert(mfs_sha256_equal(&back.manifest, &r.manifest));
		cr_assert(back.json && back.follow && back.after == 7 && back.timeout_ms == 1500);
		cr_assert(back.release == 12 && back.key_epoch == 2);
		free(line);
	}
}

Test(ctlmsg, reading_needs_no_right_and_changing_does)
{
	cr_assert(!mfs_ctl_changes(MFS_CTL_STATUS) && !mfs_ctl_changes(MFS_CTL_EVENTS) && !mfs_ctl_changes(MFS_CTL_WAIT));
	for (enum mfs_ctl_command c = MFS_CTL_DECIDE; c < MFS_CTL_COMMANDS; c++)
		cr_assert(mfs_ctl_changes(c), "%s", mfs_ctl_command_name(c));
}

static enum mfs_code
reply(const char *text, struct mfs_ctl_reply *out)
{
	return mfs_ctl_reply_parse((struct mfs_span){ (const uint8_t *)text, strlen(text) }, out, NULL);
}

Test(ctlmsg, a_reply_that_makes_no_sense_is_refused)
{
	static const char *const bad[] = {
		"", "x", "[]", "{}", "{\"format\":\"other\"}",
		"{\"format\":\"modelfs-control/1\",\"outcome\":\"good\",\"exit\":0,\"detail\":\"\"}",
		"{\"format\":\"modelfs-control/1\",\"outcome\":\"ok\",\"exit\":-1,\"detail\":\"\"}",
		"{\"format\":\"modelfs-control/1\",\"outcome\":\"ok\",\"exit\":65,\"detail\":\"\"}",
		"{\"format\":\"modelfs-control/1\",\"outcome\":\"ok\",\"exit\":\"0\",\"detail\":\"\"}",
		"{\"format\":\"modelfs-control/1\",\"outcome\":\"ok\",\"exit\":0}",
		"{\"format\":\"modelfs-control/1\",\"outcome\":\"ok\",\"outcome\":\"io\",\"exit\":0,\"detail\":\"\"}",
	};
	struct mfs_ctl_reply r;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_neq(reply(bad[i], &r), MFS_OK, "accepted: %s", bad[i]);
		cr_assert_null(r.body);
	}
}

Test(ctlmsg, replies_carry_outcome_exit_and_detail)
{
	struct mfs_ctl_reply r;
	size_t len;
	char *line = mfs_ctl_final_line(MFS_HELD, 3, "model det: 'unpin' it", json_pack("{s:i}", "extra", 5), &len);

	cr_assert_not_null(line);
	line[len - 1] = '\0';
	cr_assert_eq(reply(line, &r), MFS_OK);
	cr_assert(r.final && r.code == MFS_HELD && r.exit_code == 3);
	cr_assert_str_eq(r.detail, "model det: 'unpin' it");
	cr_assert_eq(json_integer_value(json_object_get(r.body, "extra")), 5);
	json_decref(r.body);
	free(line);

	line = mfs_ctl_progress_line(5, 10, &len);
	line[len - 1] = '\0';
	cr_assert_eq(reply(line, &r), MFS_OK);
	cr_assert(!r.final);
	cr_assert_eq(json_integer_value(json_object_get(json_object_get(r.body, "progress"), "total")), 10);
	json_decref(r.body);
	free(line);
}

Test(ctlmsg, bytes_that_are_no_text_do_not_cost_the_reply_and_do_not_reach_a_terminal)
{
	struct mfs_ctl_reply r;
	size_t len;
	char *line = mfs_ctl_final_line(MFS_IO, 1, "file \xff\xfe", NULL, &len);

	cr_assert_not_null(line);
	line[len - 1] = '\0';
	cr_assert_eq(reply(line, &r), MFS_OK);
	cr_assert_eq(r.code, MFS_IO);
	json_decref(r.body);
	free(line);
	cr_assert_eq(reply("{\"format\":\"modelfs-control/1\",\"outcome\":\"io\",\"exit\":1,\"detail\":\"a\\u001b[2Jb\"}", &r),
		MFS_OK);
	cr_assert_str_eq(r.detail, "a?[2Jb");
	json_decref(r.body);
}
