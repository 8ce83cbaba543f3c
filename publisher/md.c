/* SPDX-License-Identifier: Apache-2.0 */
#include "md.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *
mfs_md_time(char out[MFS_MD_TIME_LEN], int64_t t)
{
	const time_t when = (time_t)t;
	struct tm tm;

	if (gmtime_r(&when, &tm) == NULL || strftime(out, MFS_MD_TIME_LEN, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		out[0] = '\0';
	return out;
}

bool
mfs_md_time_parse(const char *s, int64_t *out)
{
	struct tm tm = { 0 };
	const char *end;
	char again[MFS_MD_TIME_LEN];

	if (strlen(s) != MFS_MD_TIME_LEN - 1 || (end = strptime(s, "%Y-%m-%dT%H:%M:%SZ", &tm)) == NULL || *end != '\0')
		return false;
	*out = (int64_t)timegm(&tm);
	return strcmp(mfs_md_time(again, *out), s) == 0; /* no 31st of February */
}

json_t *
mfs_md_signed(const json_t *doc)
{
	return json_object_get(doc, "signed");
}

int64_t
mfs_md_version(const json_t *doc)
{
	return json_integer_value(json_object_get(mfs_md_signed(doc), "version"));
}

int64_t
mfs_md_expires(const json_t *doc)
{
	const char *s = json_string_value(json_object_get(mfs_md_signed(doc), "expires"));
	int64_t t;

	return s != NULL && mfs_md_time_parse(s, &t) ? t : 0;
}

json_t *
mfs_md_new(const char *type)
{
	return json_pack("{s:[], s:{s:s, s:s, s:s, s:i}}", "signatures", "signed", "_type", type, "expires", "", "spec_version",
		MFS_MD_SPEC, "version", 0);
}

enum mfs_code
mfs_md_parse(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err)
{
	mfs_autojson json_t *doc = NULL;
	const json_t *body;
	json_error_t je;

	*out = NULL;
	if (in.len > cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu bytes, limit %zu", MFS_ESC(what), in.len, cap);
	doc = json_loadb((const char *)in.p, in.len, JSON_REJECT_DUPLICATES, &je);
	if (doc == NULL && json_error_code(&je) == json_error_out_of_memory)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(what));
	if (doc == NULL)
		return mfs_fail(err, MFS_MALFORMED, "%s: line %d, column %d: %s", MFS_ESC(what), je.line, je.column,
			MFS_ESC(je.text));
	body = mfs_md_signed(doc);
	if (!json_is_object(body) || !json_is_array(json_object_get(doc, "signatures")))
		return mfs_fail(err, MFS_MALFORMED, "%s: no TUF metadata: 'signed' and 'signatures' are missing", MFS_ESC(what));
	if (!json_is_string(json_object_get(body, "_type")) || mfs_md_version(doc) < 1 ||
		mfs_md_version(doc) >= MFS_JSON_INT_MAX || mfs_md_expires(doc) == 0)
		return mfs_fail(err, MFS_MALFORMED, "%s: no TUF metadata: _type, version or expires is missing or wrong",
			MFS_ESC(what));
	*out = mfs_steal(&doc);
	return MFS_OK;
}

enum mfs_code
mfs_md_stamp(json_t *doc, int64_t version, int64_t expires, struct mfs_err *err)
{
	json_t *body = mfs_md_signed(doc);

	if (version >= MFS_JSON_INT_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "version %lld: no higher one is left", (long long)version);
	if (json_object_set_new(body, "version", json_integer(version)) != 0 ||
		json_object_set_new(body, "expires", json_string(MFS_TIME(expires))) != 0 ||
		json_object_set_new(body, "spec_version", json_string(MFS_MD_SPEC)) != 0 ||
		json_object_set_new(doc, "signatures", json_array()) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "metadata");
	return MFS_OK;
}

enum mfs_code
mfs_md_bytes(const json_t *doc, uint8_t **out, size_t *len, struct mfs_err *err)
{
	char *text = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS);

	*out = (uint8_t *)text;
	*len = text != NULL ? strlen(text) : 0;
	return text != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "metadata");
}

/* The canonical form of a value. */
static enum mfs_code
canonical(const json_t *v, char **out, size_t *len, struct mfs_err *err)
{
	mfs_autofree char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);

	if (text == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "metadata");
	return mfs_tuf_canonical(MFS_SPAN(text, strlen(text)), out, len, err);
}

enum mfs_code
mfs_md_key(const struct mfs_signer *s, json_t **out, char id[65], struct mfs_err *err)
{
	mfs_autojson json_t *key = NULL;
	mfs_autofree char *text = NULL;
	struct mfs_sha256 digest;
	enum mfs_code code;
	size_t len;

	if (mfs_signer_type(s) == MFS_SIGNER_ED25519) {
		uint8_t raw[32];
		char hex[65];

		if ((code = mfs_signer_public_raw(s, raw, err)) != MFS_OK)
			return code;
		mfs_hex_encode(hex, raw, sizeof(raw));
		key = json_pack("{s:s, s:s, s:{s:s}}", "keytype", "ed25519", "scheme", "ed25519", "keyval", "public", hex);
	} else {
		const struct mfs_span pem = mfs_signer_public_pem(s);

		key = json_pack("{s:s, s:s, s:{s:s%}}", "keytype", "ecdsa", "scheme", "ecdsa-sha2-nistp256", "keyval",
			"public", (const char *)pem.p, pem.len);
	}
	if (key == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(mfs_signer_name(s)));
	if ((code = canonical(key, &text, &len, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(text, len), &digest, err)) != MFS_OK)
		return code;
	(void)mfs_sha256_hex(id, &digest);
	if (out != NULL)
		*out = mfs_steal(&key);
	return MFS_OK;
}

enum mfs_code
mfs_md_sign(json_t *doc, const struct mfs_signer *s, struct mfs_err *err)
{
	json_t *sigs = json_object_get(doc, "signatures"), *entry;
	uint8_t sig[MFS_SIGNATURE_ROOM];
	char hex[2 * MFS_SIGNATURE_ROOM + 1], id[65];
	mfs_autofree char *text = NULL;
	enum mfs_code code;
	size_t len, sig_len;

	if ((code = mfs_md_key(s, NULL, id, err)) != MFS_OK ||
		(code = canonical(mfs_md_signed(doc), &text, &len, err)) != MFS_OK ||
		(code = mfs_signer_sign(s, MFS_SPAN(text, len), sig, &sig_len, err)) != MFS_OK)
		return code;
	mfs_hex_encode(hex, sig, sig_len);
	for (size_t i = json_array_size(sigs); i-- > 0;) {
		const char *by = json_string_value(json_object_get(json_array_get(sigs, i), "keyid"));

		if (by != NULL && strcmp(by, id) == 0)
			(void)json_array_remove(sigs, i);
	}
	entry = json_pack("{s:s, s:s}", "keyid", id, "sig", hex);
	if (entry == NULL || json_array_append_new(sigs, entry) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "signature");
	return MFS_OK;
}
