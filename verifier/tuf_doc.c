/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file of TUF metadata: cap, parse within bounds, check every field that this client knows, keep
 * the others for the signed form. Nothing here is trusted before mfs_tuf_doc_verify().
 */
#include "tuf_internal.h"

static const struct {
	const char *name;
	size_t cap;
} types[] = {
	[MFS_TUF_ROOT] = { "root", MFS_TUF_ROOT_MAX },
	[MFS_TUF_TIMESTAMP] = { "timestamp", MFS_TUF_TIMESTAMP_MAX },
	[MFS_TUF_SNAPSHOT] = { "snapshot", MFS_TUF_SNAPSHOT_MAX },
	[MFS_TUF_TARGETS] = { "targets", MFS_TUF_TARGETS_MAX },
};

size_t
mfs_tuf_type_cap(enum mfs_tuf_type type)
{
	return types[type].cap;
}

const char *
mfs_tuf_type_name(enum mfs_tuf_type type)
{
	return types[type].name;
}

/* ---- parts that several roles have -------------------------------------------------------------------- */

/* {"sha256": hex, "sha512": hex, …}: at least one that this client can compute; others are not looked at. */
static enum mfs_code
check_hashes(const json_t *o, const struct mfs_at *at, enum mfs_need need, struct mfs_err *err)
{
	struct mfs_at sub = mfs_at_object(at, "hashes");
	struct mfs_sha256 sha256;
	uint8_t sha512[64];
	enum mfs_code code;
	json_t *h;

	if ((code = mfs_field_object(o, at, "hashes", need, &h, err)) != MFS_OK || h == NULL)
		return code;
	if (json_object_get(h, "sha256") == NULL && json_object_get(h, "sha512") == NULL)
		return mfs_field_bad(at, "hashes", err, "neither sha256 nor sha512");
	if ((code = mfs_field_hex(h, &sub, "sha256", MFS_OPTIONAL, sha256.b, sizeof(sha256.b), err)) != MFS_OK)
		return code;
	return mfs_field_hex(h, &sub, "sha512", MFS_OPTIONAL, sha512, sizeof(sha512), err);
}

static enum mfs_code
check_meta(const json_t *meta, const struct mfs_at *at, struct mfs_err *err)
{
	json_t *mutable_meta = (json_t *)(uintptr_t)meta;
	enum mfs_code code;
	int64_t n;

	for (void *it = json_object_iter(mutable_meta); it != NULL; it = json_object_iter_next(mutable_meta, it)) {
		const json_t *o = json_object_iter_value(it);
		struct mfs_at sub = mfs_at_object(at, json_object_iter_key(it));

		if (!json_is_object(o))
			return mfs_field_bad(&sub, "", err, "not an object");
		if ((code = mfs_field_int(o, &sub, "version", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &n, err)) != MFS_OK ||
			(code = mfs_field_int(o, &sub, "length", MFS_OPTIONAL, 1, MFS_JSON_INT_MAX, &n, err)) != MFS_OK ||
			(code = check_hashes(o, &sub, MFS_OPTIONAL, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* keyids and threshold of a role. Key ids that `keys` does not have are allowed: they never count. */
static enum mfs_code
check_signers(const json_t *o, const struct mfs_at *at, const json_t *keys, struct mfs_tuf_signers *out,
	struct mfs_err *err)
{
	enum mfs_code code;
	json_t *ids = NULL;
	int64_t threshold = 0;

	if ((code = mfs_field_array(o, at, "keyids", MFS_REQUIRED, 0, MFS_TUF_KEYS_MAX, &ids, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < json_array_size(ids); i++) {
		const char *id = json_string_value(json_array_get(ids, i));

		if (id == NULL)
			return mfs_field_bad(at, "keyids", err, "item %zu is not a string", i);
		for (size_t j = 0; j < i; j++)
			if (strcmp(json_string_value(json_array_get(ids, j)), id) == 0)
				return mfs_field_bad(at, "keyids", err, "'%s' stands there twice", MFS_ESC(id));
	}
	if ((code = mfs_field_int(o, at, "threshold", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &threshold, err)) != MFS_OK)
		return code;
	*out = (struct mfs_tuf_signers){ .keys = keys, .keyids = ids,
		.threshold = threshold > MFS_TUF_KEYS_MAX ? MFS_TUF_KEYS_MAX + 1 : (unsigned)threshold };
	return MFS_OK;
}

static enum mfs_code
check_keys(const json_t *keys, const struct mfs_at *at, struct mfs_err *err)
{
	json_t *mutable_keys = (json_t *)(uintptr_t)keys;

	for (void *it = json_object_iter(mutable_keys); it != NULL; it = json_object_iter_next(mutable_keys, it)) {
		const json_t *o = json_object_iter_value(it);
		struct mfs_at sub = mfs_at_object(at, json_object_iter_key(it));

		if (!json_is_object(o))
			return mfs_field_bad(&sub, "", err, "not an object");
		if (!json_is_string(json_object_get(o, "keytype")) || !json_is_string(json_object_get(o, "scheme")) ||
			!json_is_object(json_object_get(o, "keyval")))
			return mfs_field_bad(&sub, "", err, "a key has keytype, scheme and keyval");
	}
	return MFS_OK;
}

/* ---- root ------------------------------------------------------------------------------------------------ */

struct mfs_tuf_signers
mfs_tuf_root_signers(const struct mfs_tuf_doc *root, enum mfs_tuf_type role)
{
	const json_t *o = json_object_get(json_object_get(root->body, "roles"), mfs_tuf_type_name(role));
	const struct mfs_at at = mfs_at_top("root");
	struct mfs_tuf_signers s = { .threshold = MFS_TUF_KEYS_MAX + 1 }; /* cannot be met */

	(void)check_signers(o, &at, root->keys, &s, NULL); /* was checked when parsed */
	return s;
}

static enum mfs_code
check_root(struct mfs_tuf_doc *d, const struct mfs_at *at, struct mfs_err *err)
{
	struct mfs_at keys_at = mfs_at_object(at, "keys"), roles_at = mfs_at_object(at, "roles");
	json_t *keys = NULL, *roles = NULL;
	struct mfs_tuf_signers s;
	enum mfs_code code;

	if ((code = mfs_field_bool(d->body, at, "consistent_snapshot", MFS_OPTIONAL, &d->consistent, err)) != MFS_OK ||
		(code = mfs_field_object(d->body, at, "keys", MFS_REQUIRED, &keys, err)) != MFS_OK ||
		(code = check_keys(keys, &keys_at, err)) != MFS_OK ||
		(code = mfs_field_object(d->body, at, "roles", MFS_REQUIRED, &roles, err)) != MFS_OK)
		return code;
	d->keys = keys;
	for (enum mfs_tuf_type i = MFS_TUF_ROOT; i <= MFS_TUF_TARGETS; i++) {
		struct mfs_at role_at = mfs_at_object(&roles_at, mfs_tuf_type_name(i));
		json_t *role = NULL;

		if ((code = mfs_field_object(roles, &roles_at, mfs_tuf_type_name(i), MFS_REQUIRED, &role, err)) != MFS_OK ||
			(code = check_signers(role, &role_at, keys, &s, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- timestamp, snapshot ----------------------------------------------------------------------------- */

static enum mfs_code
check_names(struct mfs_tuf_doc *d, const struct mfs_at *at, struct mfs_err *err)
{
	const char *needed = d->type == MFS_TUF_TIMESTAMP ? "snapshot.json" : "targets.json";
	struct mfs_at meta_at = mfs_at_object(at, "meta");
	enum mfs_code code;
	json_t *meta = NULL;

	if ((code = mfs_field_object(d->body, at, "meta", MFS_REQUIRED, &meta, err)) != MFS_OK ||
		(code = check_meta(meta, &meta_at, err)) != MFS_OK)
		return code;
	if (json_object_get(meta, needed) == NULL)
		return mfs_field_bad(at, "meta", err, "does not name %s", needed);
	d->meta = meta;
	return MFS_OK;
}

/* ---- targets ------------------------------------------------------------------------------------------------ */

static enum mfs_code
check_texts(const json_t *o, const struct mfs_at *at, const char *key, bool hex, const json_t **out, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *list = NULL;

	*out = NULL;
	if ((code = mfs_field_array(o, at, key, MFS_OPTIONAL, 0, MFS_TUF_TARGETS_MAX, &list, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (s == NULL)
			return mfs_field_bad(at, key, err, "item %zu is not a string", i);
		if (hex && (strlen(s) > 64 || strspn(s, "0123456789abcdef") != strlen(s)))
			return mfs_field_bad(at, key, err, "item %zu is not the start of a SHA-256 in hex", i);
	}
	*out = list;
	return MFS_OK;
}

static enum mfs_code
check_delegation(const json_t *o, const struct mfs_at *at, const json_t *keys, struct mfs_tuf_delegation *out,
	struct mfs_err *err)
{
	enum mfs_code code;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_string(o, at, "name", MFS_REQUIRED, MFS_TUF_FILE_MAX, &out->name, err)) != MFS_OK ||
		(code = check_signers(o, at, keys, &out->signers, err)) != MFS_OK ||
		(code = mfs_field_bool(o, at, "terminating", MFS_REQUIRED, &out->terminating, err)) != MFS_OK ||
		(code = check_texts(o, at, "paths", false, &out->paths, err)) != MFS_OK ||
		(code = check_texts(o, at, "path_hash_prefixes", true, &out->prefixes, err)) != MFS_OK)
		return code;
	if (!mfs_tuf_role_name_ok(out->name))
		return mfs_field_bad(at, "name", err, "'%s' cannot be the name of a delegated role", MFS_ESC(out->name));
	if ((out->paths == NULL) == (out->prefixes == NULL))
		return mfs_field_bad(at, "paths", err, "one of paths and path_hash_prefixes, not both");
	return MFS_OK;
}

static enum mfs_code
check_delegations(struct mfs_tuf_doc *d, const struct mfs_at *at, const json_t *roles, struct mfs_err *err)
{
	const size_t n = json_array_size(roles);
	mfs_autojson json_t *names = json_object();
	enum mfs_code code;

	d->delegations = calloc(n + 1, sizeof(*d->delegations));
	if (names == NULL || d->delegations == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu delegations", at->doc, n);
	for (size_t i = 0; i < n; i++) {
		struct mfs_at sub = mfs_at_item(at, "roles", i);

		code = check_delegation(json_array_get(roles, i), &sub, d->keys, &d->delegations[i], err);
		if (code != MFS_OK)
			return code;
		if (json_object_get(names, d->delegations[i].name) != NULL)
			return mfs_field_bad(&sub, "name", err, "'%s' stands there twice", MFS_ESC(d->delegations[i].name));
		if (json_object_set_new(names, d->delegations[i].name, json_integer(1)) != 0)
			return mfs_fail(err, MFS_NO_MEMORY, "%s: names of delegations", at->doc);
	}
	d->n_delegations = n;
	return MFS_OK;
}

static enum mfs_code
check_bins(struct mfs_tuf_doc *d, const struct mfs_at *at, const json_t *bins, struct mfs_err *err)
{
	struct mfs_at sub = mfs_at_object(at, "succinct_roles");
	enum mfs_code code;
	char name[MFS_TUF_FILE_MAX + 16];
	int64_t bits = 0;

	if ((code = check_signers(bins, &sub, d->keys, &d->bin_signers, err)) != MFS_OK ||
		(code = mfs_field_int(bins, &sub, "bit_length", MFS_REQUIRED, 1, 32, &bits, err)) != MFS_OK ||
		(code = mfs_field_string(bins, &sub, "name_prefix", MFS_REQUIRED, MFS_TUF_FILE_MAX, &d->bin_prefix, err)) !=
			MFS_OK)
		return code;
	(void)snprintf(name, sizeof(name), "%s-00000000", d->bin_prefix);
	if (!mfs_tuf_role_name_ok(name))
		return mfs_field_bad(&sub, "name_prefix", err, "'%s' is too long", MFS_ESC(d->bin_prefix));
	d->succinct = true;
	d->bin_bits = (unsigned)bits;
	return MFS_OK;
}

static enum mfs_code
check_target_files(const json_t *targets, const struct mfs_at *at, struct mfs_err *err)
{
	json_t *mutable_targets = (json_t *)(uintptr_t)targets;
	enum mfs_code code;
	int64_t n;

	for (void *it = json_object_iter(mutable_targets); it != NULL; it = json_object_iter_next(mutable_targets, it)) {
		const json_t *o = json_object_iter_value(it);
		struct mfs_at sub = mfs_at_object(at, json_object_iter_key(it));

		if (!json_is_object(o))
			return mfs_field_bad(&sub, "", err, "not an object");
		if ((code = mfs_field_int(o, &sub, "length", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &n, err)) != MFS_OK ||
			(code = check_hashes(o, &sub, MFS_REQUIRED, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
check_targets(struct mfs_tuf_doc *d, const struct mfs_at *at, struct mfs_err *err)
{
	struct mfs_at targets_at = mfs_at_object(at, "targets"), sub = mfs_at_object(at, "delegations");
	struct mfs_at keys_at = mfs_at_object(&sub, "keys");
	json_t *targets = NULL, *del = NULL, *keys = NULL, *roles = NULL, *bins = NULL;
	enum mfs_code code;

	if ((code = mfs_field_object(d->body, at, "targets", MFS_REQUIRED, &targets, err)) != MFS_OK ||
		(code = check_target_files(targets, &targets_at, err)) != MFS_OK)
		return code;
	d->targets = targets;
	if ((code = mfs_field_object(d->body, at, "delegations", MFS_OPTIONAL, &del, err)) != MFS_OK || del == NULL)
		return code;
	if ((code = mfs_field_object(del, &sub, "keys", MFS_REQUIRED, &keys, err)) != MFS_OK ||
		(code = check_keys(keys, &keys_at, err)) != MFS_OK ||
		(code = mfs_field_array(del, &sub, "roles", MFS_OPTIONAL, 0, MFS_TUF_TARGETS_MAX, &roles, err)) != MFS_OK ||
		(code = mfs_field_object(del, &sub, "succinct_roles", MFS_OPTIONAL, &bins, err)) != MFS_OK)
		return code;
	if ((roles == NULL) == (bins == NULL))
		return mfs_field_bad(&sub, "roles", err, "one of roles and succinct_roles, not both");
	d->keys = keys;
	return roles != NULL ? check_delegations(d, &sub, roles, err) : check_bins(d, &sub, bins, err);
}

/* ---- all ------------------------------------------------------------------------------------------------------- */

/* "1.N" or "1.N.N" */
static bool
spec_version_ok(const char *s)
{
	const char *p = s + 2;
	size_t n = strspn(p, "0123456789");

	if (strncmp(s, "1.", 2) != 0 || n == 0)
		return false;
	if (p[n] == '\0')
		return true;
	if (p[n] != '.')
		return false;
	p += n + 1;
	n = strspn(p, "0123456789");
	return n > 0 && p[n] == '\0';
}

static enum mfs_code
check_common(struct mfs_tuf_doc *d, const struct mfs_at *at, struct mfs_err *err)
{
	const char *type = NULL, *spec = NULL, *expires = NULL;
	enum mfs_code code;

	if ((code = mfs_field_string(d->body, at, "_type", MFS_REQUIRED, 32, &type, err)) != MFS_OK)
		return code;
	if (strcmp(type, mfs_tuf_type_name(d->type)) != 0)
		return mfs_field_bad(at, "_type", err, "'%s' where %s belongs", MFS_ESC(type), mfs_tuf_type_name(d->type));
	if ((code = mfs_field_string(d->body, at, "spec_version", MFS_REQUIRED, 32, &spec, err)) != MFS_OK ||
		(code = mfs_field_int(d->body, at, "version", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &d->version, err)) != MFS_OK ||
		(code = mfs_field_string(d->body, at, "expires", MFS_REQUIRED, 32, &expires, err)) != MFS_OK)
		return code;
	if (!spec_version_ok(spec))
		return mfs_field_bad(at, "spec_version", err, "'%s': this client reads 1.x", MFS_ESC(spec));
	if (!mfs_tuf_time(expires, &d->expires))
		return mfs_field_bad(at, "expires", err, "'%s' is not YYYY-MM-DDTHH:MM:SSZ", MFS_ESC(expires));
	return MFS_OK;
}

/* [{keyid, sig}], each key id once. */
static enum mfs_code
check_signatures(const json_t *root, const char *what, struct mfs_err *err)
{
	struct mfs_at at = mfs_at_top(what);
	enum mfs_code code;
	json_t *list = NULL;

	if ((code = mfs_field_array(root, &at, "signatures", MFS_REQUIRED, 0, MFS_TUF_SIGNATURES_MAX, &list, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *s = json_array_get(list, i);
		const char *id = json_string_value(json_object_get(s, "keyid"));
		struct mfs_at sub = mfs_at_item(&at, "signatures", i);

		if (id == NULL || !json_is_string(json_object_get(s, "sig")))
			return mfs_field_bad(&sub, "", err, "a signature has keyid and sig");
		for (size_t j = 0; j < i; j++)
			if (strcmp(json_string_value(json_object_get(json_array_get(list, j), "keyid")), id) == 0)
				return mfs_field_bad(&sub, "keyid", err, "'%s' stands there twice", MFS_ESC(id));
	}
	return MFS_OK;
}

static enum mfs_code
doc_check(struct mfs_tuf_doc *d, const char *what, struct mfs_err *err)
{
	struct mfs_at at = mfs_at_top(what);
	struct mfs_at body_at = mfs_at_object(&at, "signed");
	enum mfs_code code;
	json_t *body = NULL;

	if ((code = check_signatures(d->json, what, err)) != MFS_OK ||
		(code = mfs_field_object(d->json, &at, "signed", MFS_REQUIRED, &body, err)) != MFS_OK)
		return code;
	d->body = body;
	if ((code = check_common(d, &body_at, err)) != MFS_OK)
		return code;
	switch (d->type) {
	case MFS_TUF_ROOT:
		return check_root(d, &body_at, err);
	case MFS_TUF_TIMESTAMP:
	case MFS_TUF_SNAPSHOT:
		return check_names(d, &body_at, err);
	case MFS_TUF_TARGETS:
		return check_targets(d, &body_at, err);
	}
	return mfs_fail(err, MFS_INTERNAL, "%s: no such type", what);
}

enum mfs_code
mfs_tuf_doc_parse(const char *what, enum mfs_tuf_type type, struct mfs_span bytes, struct mfs_tuf_doc **out,
	struct mfs_err *err)
{
	mfs_autotufdoc struct mfs_tuf_doc *d = calloc(1, sizeof(*d));
	enum mfs_code code;

	*out = NULL;
	if (d == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	d->type = type;
	if ((code = mfs_json_parse_any_text(what, bytes, mfs_tuf_type_cap(type), &d->json, err)) != MFS_OK ||
		(code = doc_check(d, what, err)) != MFS_OK || (code = mfs_sha256(bytes, &d->sha256, err)) != MFS_OK)
		return code;
	if ((d->bytes = malloc(bytes.len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu bytes", what, bytes.len);
	memcpy(d->bytes, bytes.p, bytes.len);
	d->len = bytes.len;
	*out = mfs_steal(&d);
	return MFS_OK;
}

void
mfs_tuf_doc_free(struct mfs_tuf_doc *d)
{
	if (d == NULL)
		return;
	json_decref(d->json);
	free(d->delegations);
	free(d->bytes);
	free(d);
}

enum mfs_code
mfs_tuf_doc_verify(const struct mfs_tuf_doc *d, const char *what, const struct mfs_tuf_signers *signers,
	struct mfs_err *err)
{
	mfs_autofree char *body = NULL;
	unsigned valid = 0;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_tuf_encode(d->body, &body, &len, err)) != MFS_OK ||
		(code = mfs_tuf_signers_count(signers, json_object_get(d->json, "signatures"), MFS_SPAN(body, len), &valid,
			 err)) != MFS_OK)
		return code;
	if (valid < signers->threshold)
		return mfs_fail(err, MFS_METADATA_SIGNATURE_INVALID,
			"%s: version %lld: signed by %u of the %u keys that are needed", what, (long long)d->version, valid,
			signers->threshold);
	return MFS_OK;
}

/* ---- length and hashes ------------------------------------------------------------------------------------------ */

static void
fileinfo(const json_t *o, struct mfs_tuf_fileinfo *out)
{
	const json_t *hashes = json_object_get(o, "hashes"), *length = json_object_get(o, "length");
	const char *sha256 = json_string_value(json_object_get(hashes, "sha256"));
	const char *sha512 = json_string_value(json_object_get(hashes, "sha512"));

	*out = (struct mfs_tuf_fileinfo){ .version = json_integer_value(json_object_get(o, "version")),
		.has_length = length != NULL, .length = json_integer_value(length) };
	out->has_sha256 = sha256 != NULL && mfs_hex_decode(out->sha256.b, sizeof(out->sha256.b), sha256, strlen(sha256));
	out->has_sha512 = sha512 != NULL && mfs_hex_decode(out->sha512, sizeof(out->sha512), sha512, strlen(sha512));
}

bool
mfs_tuf_meta(const struct mfs_tuf_doc *d, const char *file, struct mfs_tuf_fileinfo *out)
{
	const json_t *o = json_object_get(d->meta, file);

	if (o != NULL)
		fileinfo(o, out);
	return o != NULL;
}

bool
mfs_tuf_target(const struct mfs_tuf_doc *d, const char *path, struct mfs_tuf_fileinfo *out)
{
	const json_t *o = json_object_get(d->targets, path);

	if (o != NULL)
		fileinfo(o, out);
	return o != NULL;
}

enum mfs_code
mfs_tuf_fileinfo_check(const struct mfs_tuf_fileinfo *f, const char *what, struct mfs_span bytes, struct mfs_err *err)
{
	struct mfs_sha256 sha256;
	uint8_t sha512[64];
	enum mfs_code code;

	if (f->has_length && (uint64_t)f->length != bytes.len)
		return mfs_fail(err, (uint64_t)f->length < bytes.len ? MFS_LIMIT_EXCEEDED : MFS_HASH_MISMATCH,
			"%s: %zu bytes, not the %lld that are signed for it", what, bytes.len, (long long)f->length);
	if (f->has_sha256) {
		if ((code = mfs_sha256(bytes, &sha256, err)) != MFS_OK)
			return code;
		if (!mfs_sha256_equal(&sha256, &f->sha256))
			return mfs_fail(err, MFS_HASH_MISMATCH, "%s: SHA-256 %s, not the signed %s", what, MFS_HEX(&sha256),
				MFS_HEX(&f->sha256));
	}
	if (f->has_sha512) {
		if (EVP_Digest(bytes.p, bytes.len, sha512, NULL, EVP_sha512(), NULL) != 1)
			return mfs_fail(err, MFS_INTERNAL, "SHA-512 failed");
		if (memcmp(sha512, f->sha512, sizeof(sha512)) != 0)
			return mfs_fail(err, MFS_HASH_MISMATCH, "%s: its SHA-512 is not the signed one", what);
	}
	return MFS_OK;
}
