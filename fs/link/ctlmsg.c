/* SPDX-License-Identifier: Apache-2.0 */
/* ctlmsg.c - control messages: bytes to struct and back. */
#include <stdlib.h>
#include <string.h>

#include "ctlmsg.h"

static const char *const names[MFS_CTL_COMMANDS] = {
	[MFS_CTL_STATUS] = "status", [MFS_CTL_EVENTS] = "events", [MFS_CTL_WAIT] = "wait",
	[MFS_CTL_DECIDE] = "decide", [MFS_CTL_ACTIVATE] = "activate", [MFS_CTL_ROLLBACK] = "rollback",
	[MFS_CTL_UNPIN] = "unpin", [MFS_CTL_VERIFY] = "verify", [MFS_CTL_GC] = "gc", [MFS_CTL_RELOAD] = "reload",
	[MFS_CTL_NOTE] = "note", [MFS_CTL_CHECK] = "check", [MFS_CTL_UPDATE] = "update", [MFS_CTL_EXPLAIN] = "explain",
	[MFS_CTL_PIN] = "pin", [MFS_CTL_MARK] = "mark",
};

const char *
mfs_ctl_command_name(enum mfs_ctl_command c)
{
	return c < MFS_CTL_COMMANDS ? names[c] : "unknown";
}

static void
cleanup_json(json_t **j)
{
	json_decref(*j);
	*j = NULL;
}
#define mfs_autojson MFS_CLEANUP(cleanup_json)

/* A text field; absent is fine unless it is needed. `ok` may be NULL. */
static enum mfs_code
text_get(const json_t *o, const char *name, bool needed, bool (*ok)(const char *, size_t), char *out, size_t cap,
	struct mfs_err *err)
{
	const json_t *v = json_object_get(o, name);
	const char *s;
	size_t len;

	out[0] = '\0';
	if (v == NULL && !needed)
		return MFS_OK;
	if (v == NULL)
		return mfs_fail(err, MFS_MALFORMED, "request: %s: missing", name);
	if ((s = json_string_value(v)) == NULL)
		return mfs_fail(err, MFS_MALFORMED, "request: %s: not a string", name);
	len = json_string_length(v);
	if (len >= cap || memchr(s, '\0', len) != NULL || (ok != NULL && !ok(s, len)))
		return mfs_fail(err, MFS_MALFORMED, "request: %s: '%s' is not valid here", name, MFS_ESC(s));
	memcpy(out, s, len + 1);
	return MFS_OK;
}

static enum mfs_code
int_get(const json_t *o, const char *name, bool needed, int64_t min, int64_t otherwise, int64_t *out,
	struct mfs_err *err)
{
	const json_t *v = json_object_get(o, name);

	*out = otherwise;
	if (v == NULL && !needed)
		return MFS_OK;
	if (v == NULL)
		return mfs_fail(err, MFS_MALFORMED, "request: %s: missing", name);
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > MFS_JSON_INT_MAX)
		return mfs_fail(err, MFS_MALFORMED, "request: %s: not an integer from %lld to 2^53-1", name,
			(long long)min);
	*out = json_integer_value(v);
	return MFS_OK;
}

static enum mfs_code
bool_get(const json_t *o, const char *name, bool *out, struct mfs_err *err)
{
	const json_t *v = json_object_get(o, name);

	if (v != NULL && !json_is_boolean(v))
		return mfs_fail(err, MFS_MALFORMED, "request: %s: not true or false", name);
	*out = json_is_true(v);
	return MFS_OK;
}

static enum mfs_code
hash_get(const json_t *o, const char *name, bool needed, struct mfs_sha256 *out, struct mfs_err *err)
{
	char hex[65];

	if (text_get(o, name, needed, NULL, hex, sizeof(hex), err) != MFS_OK)
		return err->code;
	if (hex[0] == '\0' && !needed)
		return MFS_OK;
	if (!mfs_hex_decode(out->b, MFS_SHA256_LEN, hex, 64))
		return mfs_fail(err, MFS_MALFORMED, "request: %s: not 64 lower-case hex digits", name);
	return MFS_OK;
}

static enum mfs_code
command_get(const json_t *o, enum mfs_ctl_command *out, struct mfs_err *err)
{
	char text[MFS_CTL_FIELD_MAX];

	if (text_get(o, "format", true, NULL, text, sizeof(text), err) != MFS_OK)
		return err->code;
	if (strcmp(text, MFS_CTL_FORMAT) != 0)
		return mfs_fail(err, MFS_MALFORMED, "request: format: '%s', this modelfs speaks " MFS_CTL_FORMAT,
			MFS_ESC(text));
	if (text_get(o, "command", true, NULL, text, sizeof(text), err) != MFS_OK)
		return err->code;
	for (enum mfs_ctl_command c = 0; c < MFS_CTL_COMMANDS; c++)
		if (strcmp(text, names[c]) == 0) {
			*out = c;
			return MFS_OK;
		}
	return mfs_fail(err, MFS_MALFORMED, "request: command: '%s' is not known to this modelfs", MFS_ESC(text));
}

static bool
version_or_active(const char *s, size_t len)
{
	return (len == 6 && memcmp(s, "active", 6) == 0) || mfs_version_ok(s, len);
}

static enum mfs_code
fields_get(const json_t *o, struct mfs_ctl_request *r, struct mfs_err *err)
{
	enum mfs_ctl_command c = r->command;
	bool decide = c == MFS_CTL_DECIDE;
	bool model = decide || c == MFS_CTL_ACTIVATE || c == MFS_CTL_ROLLBACK || c == MFS_CTL_UNPIN || c == MFS_CTL_WAIT ||
		c == MFS_CTL_EXPLAIN || c == MFS_CTL_PIN || c == MFS_CTL_MARK;
	bool note = c == MFS_CTL_NOTE, version = decide || c == MFS_CTL_PIN || c == MFS_CTL_MARK;
	char outcome[MFS_CTL_FIELD_MAX];
	int64_t after;

	if (text_get(o, "outcome", note, NULL, outcome, sizeof(outcome), err) != MFS_OK ||
		text_get(o, "detail", note, NULL, r->detail, sizeof(r->detail), err) != MFS_OK)
		return err->code;
	if (note && (!mfs_code_from_name(outcome, &r->outcome) || r->outcome == MFS_OK))
		return mfs_fail(err, MFS_MALFORMED, "request: outcome: '%s' is no failure", MFS_ESC(outcome));
	if (text_get(o, "model", model, mfs_model_id_ok, r->model, sizeof(r->model), err) != MFS_OK ||
		text_get(o, "model_id", decide, mfs_model_id_ok, r->model_id, sizeof(r->model_id), err) != MFS_OK ||
		text_get(o, "version", version, c == MFS_CTL_MARK ? version_or_active : mfs_version_ok, r->version, sizeof(r->version), err) != MFS_OK ||
		text_get(o, "variant", decide, mfs_variant_ok, r->variant, sizeof(r->variant), err) != MFS_OK ||
		hash_get(o, "manifest", decide || c == MFS_CTL_ACTIVATE, &r->manifest, err) != MFS_OK ||
		int_get(o, "release", decide, 1, 0, &r->release, err) != MFS_OK ||
		int_get(o, "key_epoch", decide, 1, 0, &r->key_epoch, err) != MFS_OK ||
		int_get(o, "after", false, 0, 0, &after, err) != MFS_OK ||
		int_get(o, "timeout_ms", false, 0, -1, &r->timeout_ms, err) != MFS_OK ||
		bool_get(o, "json", &r->json, err) != MFS_OK || bool_get(o, "follow", &r->follow, err) != MFS_OK ||
		bool_get(o, "good", &r->good, err) != MFS_OK || bool_get(o, "from", &r->from, err) != MFS_OK)
		return err->code;
	r->after = (uint64_t)after;
	return MFS_OK;
}

enum mfs_code
mfs_ctl_request_parse(struct mfs_span line, struct mfs_ctl_request *out, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	mfs_autojson json_t *o = NULL;
	struct mfs_ctl_request r = { .timeout_ms = -1 };

	err = err != NULL ? err : &own;
	*out = (struct mfs_ctl_request){ .timeout_ms = -1 };
	if (mfs_json_parse("request", line, MFS_CTL_REQUEST_MAX, &o, err) != MFS_OK)
		return err->code;
	if (!json_is_object(o))
		return mfs_fail(err, MFS_MALFORMED, "request: not a JSON object");
	if (command_get(o, &r.command, err) != MFS_OK || fields_get(o, &r, err) != MFS_OK)
		return err->code;
	*out = r;
	return MFS_OK;
}

static char *
line_take(json_t *o, size_t *len)
{
	char *text = o != NULL ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	char *line = NULL;

	json_decref(o);
	if (text == NULL)
		return NULL;
	*len = strlen(text) + 1;
	if ((line = realloc(text, *len + 1)) == NULL) {
		free(text);
		return NULL;
	}
	line[*len - 1] = '\n';
	line[*len] = '\0';
	return line;
}

enum mfs_code
mfs_ctl_request_line(const struct mfs_ctl_request *r, char **out, size_t *len, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	json_t *o = json_pack("{s:s, s:s}", "format", MFS_CTL_FORMAT, "command", mfs_ctl_command_name(r->command));
	int bad = o == NULL ? -1 : 0;

	err = err != NULL ? err : &own;
	if (r->model[0] != '\0')
		bad |= json_object_set_new(o, "model", json_string(r->model));
	if (r->model_id[0] != '\0')
		bad |= json_object_set_new(o, "model_id", json_string(r->model_id));
	if (r->version[0] != '\0')
		bad |= json_object_set_new(o, "version", json_string(r->version));
	if (r->variant[0] != '\0')
		bad |= json_object_set_new(o, "variant", json_string(r->variant));
	if (!mfs_sha256_is_zero(&r->manifest))
		bad |= json_object_set_new(o, "manifest", json_string(MFS_HEX(&r->manifest)));
	if (r->release != 0)
		bad |= json_object_set_new(o, "release", json_integer(r->release));
	if (r->key_epoch != 0)
		bad |= json_object_set_new(o, "key_epoch", json_integer(r->key_epoch));
	if (r->after != 0)
		bad |= json_object_set_new(o, "after", json_integer((json_int_t)r->after));
	if (r->timeout_ms >= 0)
		bad |= json_object_set_new(o, "timeout_ms", json_integer(r->timeout_ms));
	if (r->outcome != MFS_OK) {
		bad |= json_object_set_new(o, "outcome", json_string(mfs_code_name(r->outcome)));
		bad |= json_object_set_new(o, "detail", json_string(r->detail));
	}
	if (r->json)
		bad |= json_object_set_new(o, "json", json_true());
	if (r->follow)
		bad |= json_object_set_new(o, "follow", json_true());
	if (r->good)
		bad |= json_object_set_new(o, "good", json_true());
	if (r->from)
		bad |= json_object_set_new(o, "from", json_true());
	if (bad != 0) {
		json_decref(o);
		return mfs_fail(err, MFS_NO_MEMORY, "request: no memory");
	}
	if ((*out = line_take(o, len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "request: no memory");
	return MFS_OK;
}

char *
mfs_ctl_final_line(enum mfs_code code, int exit_code, const char *detail, json_t *body, size_t *len)
{
	json_t *o = body != NULL ? body : json_object();
	char plain[512];

	/* detail may hold bytes of a file name: never let one odd byte cost the whole reply */
	if (json_object_set_new(o, "format", json_string(MFS_CTL_FORMAT)) != 0 ||
		json_object_set_new(o, "outcome", json_string(mfs_code_name(code))) != 0 ||
		json_object_set_new(o, "exit", json_integer(exit_code)) != 0 ||
		(json_object_set_new(o, "detail", json_string(detail)) != 0 &&
			json_object_set_new(o, "detail",
				json_string(mfs_escape(plain, sizeof(plain), detail, strlen(detail)))) != 0)) {
		json_decref(o);
		return NULL;
	}
	return line_take(o, len);
}

char *
mfs_ctl_line(const char *name, json_t *value, size_t *len)
{
	return line_take(json_pack("{s:s, s:o}", "format", MFS_CTL_FORMAT, name, value), len);
}

char *
mfs_ctl_progress_line(uint64_t done, uint64_t total, size_t *len)
{
	return mfs_ctl_line("progress", json_pack("{s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total),
		len);
}

char *
mfs_ctl_update_line(uint64_t done, uint64_t total, uint64_t rate, const char *step, const char *model, size_t *len)
{
	return mfs_ctl_line("progress", json_pack("{s:I, s:I, s:I, s:s*, s:s*}", "done", (json_int_t)done, "total",
		(json_int_t)total, "rate", (json_int_t)rate, "step", step, "model", model), len);
}

/* The text was escaped where it was made; what still is no printable ASCII does not reach a terminal. */
static void
printable_copy(char *out, size_t cap, const char *in)
{
	size_t n = 0;

	for (; in[n] != '\0' && n + 1 < cap; n++)
		out[n] = in[n] >= 0x20 && in[n] <= 0x7e ? in[n] : '?';
	out[n] = '\0';
}

enum mfs_code
mfs_ctl_reply_parse(struct mfs_span line, struct mfs_ctl_reply *out, struct mfs_err *err)
{
	mfs_autojson json_t *o = NULL;
	const json_t *exit_code, *detail;
	const char *format, *outcome;
	json_error_t why;

	*out = (struct mfs_ctl_reply){ 0 };
	if (line.len > MFS_CTL_REPLY_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "reply: %zu bytes, limit %u", line.len, MFS_CTL_REPLY_MAX);
	if ((o = json_loadb((const char *)line.p, line.len, JSON_REJECT_DUPLICATES, &why)) == NULL)
		return mfs_fail(err, MFS_MALFORMED, "reply: offset %d: %s", why.position, MFS_ESC(why.text));
	format = json_string_value(json_object_get(o, "format"));
	if (format == NULL || strcmp(format, MFS_CTL_FORMAT) != 0)
		return mfs_fail(err, MFS_MALFORMED, "reply: format: not " MFS_CTL_FORMAT);
	if (json_object_get(o, "outcome") != NULL) {
		outcome = json_string_value(json_object_get(o, "outcome"));
		exit_code = json_object_get(o, "exit");
		detail = json_object_get(o, "detail");
		if (outcome == NULL || !mfs_code_from_name(outcome, &out->code))
			return mfs_fail(err, MFS_MALFORMED, "reply: outcome: not one this modelfs knows");
		if (!json_is_integer(exit_code) || json_integer_value(exit_code) < 0 || json_integer_value(exit_code) > 64)
			return mfs_fail(err, MFS_MALFORMED, "reply: exit: not an exit code");
		if (!json_is_string(detail))
			return mfs_fail(err, MFS_MALFORMED, "reply: detail: not a string");
		printable_copy(out->detail, sizeof(out->detail), json_string_value(detail));
		out->exit_code = (int)json_integer_value(exit_code);
		out->final = true;
	}
	out->body = mfs_steal(&o);
	return MFS_OK;
}
