/* SPDX-License-Identifier: Apache-2.0 */
#include "tuf_help.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

/* ---- keys --------------------------------------------------------------------------------------------------- */

static char *
public_pem(EVP_PKEY *pkey)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text, *p;
	long n;

	cr_assert(PEM_write_bio_PUBKEY(bio, pkey) == 1);
	n = BIO_get_mem_data(bio, &p);
	text = strndup(p, (size_t)n);
	BIO_free(bio);
	return text;
}

static void
key_id(struct tkey *k)
{
	char *plain = json_dumps(k->json, 0), *canonical;
	struct mfs_sha256 d;
	size_t len;

	expect(MFS_OK, mfs_tuf_canonical(TEXT(plain), &canonical, &len, err));
	expect(MFS_OK, mfs_sha256(MFS_SPAN(canonical, len), &d, err));
	mfs_sha256_hex(k->id, &d);
	free(plain);
	free(canonical);
}

struct tkey *
key_new(struct trepo *r, const char *type)
{
	struct tkey *k = calloc(1, sizeof(*k));
	char *public, hex[65];
	const char *scheme;

	cr_assert(k != NULL && r->n_keys < 64);
	if (strcmp(type, "ed25519") == 0) {
		uint8_t raw[32];
		size_t n = sizeof(raw);

		k->pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		cr_assert(EVP_PKEY_get_raw_public_key(k->pkey, raw, &n) == 1);
		mfs_hex_encode(hex, raw, sizeof(raw));
		public = strdup(hex);
		scheme = "ed25519";
	} else if (strcmp(type, "rsa") == 0) {
		k->pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
		k->rsa = true;
		public = public_pem(k->pkey);
		scheme = "rsassa-pss-sha256";
	} else {
		k->pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
		public = public_pem(k->pkey);
		scheme = "ecdsa-sha2-nistp256";
	}
	k->json = json_pack("{s:s,s:s,s:{s:s}}", "keytype", type, "scheme", scheme, "keyval", "public", public);
	key_id(k);
	free(public);
	r->keys[r->n_keys++] = k;
	return k;
}

static json_t *
sign(const struct tkey *k, const char *bytes, size_t len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	const bool ed = EVP_PKEY_get_base_id(k->pkey) == EVP_PKEY_ED25519;
	uint8_t sig[1024];
	char hex[2049];
	size_t n = sizeof(sig);

	cr_assert(EVP_DigestSignInit(ctx, &pctx, ed ? NULL : EVP_sha256(), NULL, k->pkey) == 1);
	if (k->rsa)
		cr_assert(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
			EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, 32) == 1);
	cr_assert(EVP_DigestSign(ctx, sig, &n, (const uint8_t *)bytes, len) == 1);
	EVP_MD_CTX_free(ctx);
	mfs_hex_encode(hex, sig, n);
	return json_pack("{s:s,s:s}", "keyid", k->id, "sig", hex);
}

/* ---- roles --------------------------------------------------------------------------------------------------- */

struct trole *
role_of(struct trepo *r, const char *name)
{
	for (size_t i = 0; i < r->n_roles; i++)
		if (strcmp(r->roles[i].name, name) == 0)
			return &r->roles[i];
	return NULL;
}

static struct trole *
role_new(struct trepo *r, const char *name, const char *type, json_t *rest)
{
	struct trole *role = &r->roles[r->n_roles++];

	cr_assert(r->n_roles <= 64);
	(void)snprintf(role->name, sizeof(role->name), "%s", name);
	role->body = json_pack("{s:s,s:s,s:i,s:s}", "_type", type, "spec_version", "1.0.31", "version", 1, "expires", LATER);
	cr_assert(json_object_update(role->body, rest) == 0);
	json_decref(rest);
	return role;
}

/* The entry of a role in its delegator, and where the delegator's keys are. */
static json_t *
entry_of(struct trepo *r, const char *delegator, const char *name, json_t **keys)
{
	json_t *body = role_of(r, delegator)->body, *del = json_object_get(body, "delegations"), *e;
	size_t i;

	if (strcmp(delegator, "root") == 0) {
		*keys = json_object_get(body, "keys");
		return json_object_get(json_object_get(body, "roles"), name);
	}
	*keys = json_object_get(del, "keys");
	json_array_foreach(json_object_get(del, "roles"), i, e)
		if (strcmp(json_string_value(json_object_get(e, "name")), name) == 0)
			return e;
	return json_object_get(del, "succinct_roles");
}

void
key_add(struct trepo *r, const char *delegator, const char *name, struct tkey *key)
{
	struct trole *role = role_of(r, name);
	json_t *keys, *entry = entry_of(r, delegator, name, &keys);

	cr_assert(json_object_set(keys, key->id, key->json) == 0);
	cr_assert(json_array_append_new(json_object_get(entry, "keyids"), json_string(key->id)) == 0);
	if (role != NULL)
		role->signer[role->n_signers++] = key;
}

void
key_rotate(struct trepo *r, const char *name)
{
	json_t *keys, *entry = entry_of(r, "root", name, &keys);

	json_array_clear(json_object_get(entry, "keyids"));
	role_of(r, name)->n_signers = 0;
	key_add(r, "root", name, key_new(r, "ed25519"));
}

void
threshold_set(struct trepo *r, const char *name, int threshold)
{
	json_t *keys, *entry = entry_of(r, "root", name, &keys);

	json_object_set_new(entry, "threshold", json_integer(threshold));
}

struct trole *
delegate(struct trepo *r, const char *delegator, const char *name, const char *paths, bool terminating,
	const char *more)
{
	json_t *body = role_of(r, delegator)->body, *del = json_object_get(body, "delegations");
	json_t *entry = json_pack("{s:s,s:[],s:i,s:b}", "name", name, "keyids", "threshold", 1, "terminating", terminating);
	struct trole *role = role_of(r, name);

	if (del == NULL) {
		del = json_pack("{s:{},s:[]}", "keys", "roles");
		json_object_set_new(body, "delegations", del);
	}
	if (paths != NULL)
		json_object_set_new(entry, "paths", json_pack("[s]", paths));
	if (more != NULL) {
		json_t *extra = json_loads(more, 0, NULL);

		cr_assert(extra != NULL && json_object_update(entry, extra) == 0);
		json_decref(extra);
	}
	json_array_append_new(json_object_get(del, "roles"), entry);
	if (role == NULL)
		role = role_new(r, name, "targets", json_pack("{s:{}}", "targets"));
	key_add(r, delegator, name, key_new(r, "ed25519"));
	return role;
}

void
target_add(struct trepo *r, const char *name, const char *path, const char *content)
{
	struct mfs_sha256 d;

	expect(MFS_OK, mfs_sha256(TEXT(content), &d, err));
	json_object_set_new(json_object_get(role_of(r, name)->body, "targets"), path,
		json_pack("{s:i,s:{s:s}}", "length", (int)strlen(content), "hashes", "sha256", MFS_HEX(&d)));
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static struct tfile *
find(struct tfile *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

void
file_put(struct tfile *list, size_t *n, size_t max, const char *name, const void *p, size_t len)
{
	struct tfile *f = find(list, *n, name);

	if (f == NULL) {
		cr_assert(*n < max);
		f = &list[(*n)++];
		(void)snprintf(f->name, sizeof(f->name), "%s", name);
	}
	free(f->p);
	f->p = malloc(len + 1);
	cr_assert_not_null(f->p);
	if (len > 0)
		memcpy(f->p, p, len);
	f->len = len;
}

struct tfile *
file_of(struct trepo *r, const char *name)
{
	return find(r->files, r->n_files, name);
}

struct tfile *
stored_of(struct trepo *r, const char *name)
{
	return find(r->stored, r->n_stored, name);
}

int64_t
stored_version(struct trepo *r, const char *name)
{
	const struct tfile *f = stored_of(r, name);
	json_t *v = f != NULL ? json_loadb((const char *)f->p, f->len, 0, NULL) : NULL;
	int64_t version = json_integer_value(json_object_get(json_object_get(v, "signed"), "version"));

	json_decref(v);
	return version;
}

/* What stands above this role about it: timestamp of snapshot, snapshot of every targets role. */
static void
mention(struct trepo *r, const struct trole *role, const uint8_t *p, size_t len)
{
	const bool snapshot = strcmp(role->name, "snapshot") == 0;
	const json_t *meta = json_object_get(role_of(r, snapshot ? "timestamp" : "snapshot")->body, "meta");
	json_t *info = json_pack("{s:I}", "version", json_integer_value(json_object_get(role->body, "version")));
	struct mfs_sha256 d;
	char key[160];

	if (r->hashes) {
		expect(MFS_OK, mfs_sha256(MFS_SPAN(p, len), &d, err));
		json_object_set_new(info, "length", json_integer((json_int_t)len));
		json_object_set_new(info, "hashes", json_pack("{s:s}", "sha256", MFS_HEX(&d)));
	}
	(void)snprintf(key, sizeof(key), "%s.json", role->name);
	json_object_set_new((json_t *)(uintptr_t)meta, key, info);
}

void
publish(struct trepo *r, const char *name)
{
	struct trole *role = role_of(r, name);
	const bool numbered = json_is_true(json_object_get(role_of(r, "root")->body, "consistent_snapshot"));
	const bool top = strcmp(name, "root") == 0 || strcmp(name, "timestamp") == 0;
	json_int_t version = json_integer_value(json_object_get(role->body, "version"));
	json_t *doc = json_object(), *sigs = json_array();
	char *plain, *canonical, *text, file[MFS_TUF_FILE_MAX + 1];
	size_t len;

	if (role->published)
		json_object_set_new(role->body, "version", json_integer(++version));
	role->published = true;
	plain = json_dumps(role->body, 0);
	expect(MFS_OK, mfs_tuf_canonical(TEXT(plain), &canonical, &len, err));
	for (size_t i = 0; i < role->n_signers; i++)
		json_array_append_new(sigs, sign(role->signer[i], canonical, len));
	json_object_set_new(doc, "signatures", sigs);
	json_object_set(doc, "signed", role->body);
	text = json_dumps(doc, JSON_INDENT(1));
	expect(MFS_OK, mfs_tuf_file_name(name, (numbered || strcmp(name, "root") == 0) && strcmp(name, "timestamp") != 0 ?
		version : 0, file, err));
	file_put(r->files, &r->n_files, 800, file, text, strlen(text));
	if (!top)
		mention(r, role, (const uint8_t *)text, strlen(text));
	free(plain);
	free(canonical);
	free(text);
	json_decref(doc);
}

void
publish_all(struct trepo *r, const char *names)
{
	char copy[512], *save = NULL;

	(void)snprintf(copy, sizeof(copy), "%s", names);
	for (char *name = strtok_r(copy, " ", &save); name != NULL; name = strtok_r(NULL, " ", &save))
		publish(r, name);
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

struct trepo *
repo_new(void)
{
	static const char *const names[] = { "root", "timestamp", "snapshot", "targets" };
	struct trepo *r = calloc(1, sizeof(*r));
	const struct tfile *root;
	json_t *roles = json_object();

	cr_assert_not_null(r);
	for (size_t i = 0; i < 4; i++)
		json_object_set_new(roles, names[i], json_pack("{s:[],s:i}", "keyids", "threshold", 1));
	(void)role_new(r, "root", "root", json_pack("{s:b,s:{},s:o}", "consistent_snapshot", 1, "keys", "roles", roles));
	(void)role_new(r, "timestamp", "timestamp", json_pack("{s:{}}", "meta"));
	(void)role_new(r, "snapshot", "snapshot", json_pack("{s:{}}", "meta"));
	(void)role_new(r, "targets", "targets", json_pack("{s:{}}", "targets"));
	for (size_t i = 0; i < 4; i++)
		key_add(r, "root", names[i], key_new(r, "ed25519"));
	publish_all(r, "targets snapshot timestamp root");
	root = file_of(r, "1.root.json");
	file_put(r->stored, &r->n_stored, 64, "root.json", root->p, root->len);
	r->opt.now = NOW;
	return r;
}

void
repo_free(struct trepo *r)
{
	for (size_t i = 0; i < r->n_roles; i++)
		json_decref(r->roles[i].body);
	for (size_t i = 0; i < r->n_keys; i++) {
		EVP_PKEY_free(r->keys[i]->pkey);
		json_decref(r->keys[i]->json);
		free(r->keys[i]);
	}
	for (size_t i = 0; i < r->n_files; i++)
		free(r->files[i].p);
	for (size_t i = 0; i < r->n_stored; i++)
		free(r->stored[i].p);
	free(r);
}

/* ---- the device ----------------------------------------------------------------------------------------------------- */

struct mfs_tuf *
client(struct trepo *r)
{
	const struct tfile *root = stored_of(r, "root.json");
	struct mfs_tuf *t;

	expect(MFS_OK, mfs_tuf_new(MFS_SPAN(root->p, root->len), &r->opt, &t, err));
	for (size_t i = 0; i < r->n_stored; i++)
		expect(MFS_OK, mfs_tuf_local(t, r->stored[i].name, MFS_SPAN(r->stored[i].p, r->stored[i].len), err));
	r->log[0] = '\0';
	return t;
}

enum mfs_code
drive(struct trepo *r, struct mfs_tuf *t, struct mfs_err *err)
{
	for (;;) {
		struct mfs_tuf_want want;
		const struct tfile *f;
		enum mfs_code code;
		size_t n = strlen(r->log);

		if ((code = mfs_tuf_next(t, &want, err)) != MFS_OK || want.name == NULL)
			return code;
		(void)snprintf(r->log + n, sizeof(r->log) - n, "%s%s", n > 0 ? " " : "", want.name);
		f = file_of(r, want.name);
		if (f != NULL && f->len > want.cap)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "the device does not read more than %zu bytes", want.cap);
		code = mfs_tuf_feed(t, f != NULL ? MFS_TUF_BYTES : MFS_TUF_NOT_FOUND,
			f != NULL ? MFS_SPAN(f->p, f->len) : MFS_SPAN(NULL, 0), err);
		if (code != MFS_OK)
			return code;
	}
}

void
keep(struct trepo *r, const struct mfs_tuf *t)
{
	struct mfs_tuf_role role;

	for (size_t i = 0; mfs_tuf_role(t, i, &role); i++) {
		struct tfile *f = stored_of(r, role.file);

		if (role.drop && f != NULL) {
			free(f->p);
			*f = r->stored[--r->n_stored];
			r->stored[r->n_stored].p = NULL;
		} else if (role.changed) {
			file_put(r->stored, &r->n_stored, 64, role.file, role.bytes.p, role.bytes.len);
		}
	}
}

enum mfs_code
search(struct trepo *r, const char *path, bool *found, struct mfs_err *err)
{
	struct mfs_tuf *t = client(r);
	enum mfs_code code = drive(r, t, err);
	struct mfs_tuf_target target;

	*found = false;
	if (code == MFS_OK && path != NULL && (code = mfs_tuf_find(t, path, err)) == MFS_OK)
		code = drive(r, t, err);
	if (code == MFS_OK && path != NULL)
		*found = mfs_tuf_found(t, &target);
	keep(r, t);
	mfs_tuf_free(t);
	return code;
}

enum mfs_code
run(struct trepo *r, const char *path, struct mfs_err *err)
{
	bool found;

	return search(r, path, &found, err);
}

enum mfs_code
refresh(struct trepo *r, struct mfs_err *err)
{
	return run(r, NULL, err);
}
