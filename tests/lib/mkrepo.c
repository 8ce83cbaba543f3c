/* SPDX-License-Identifier: Apache-2.0 */
#include "mkrepo.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mfs_tuf.h"

#define MUST(x)                                                                     \
	do                                                                          \
		if (!(x)) {                                                         \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);     \
			abort();                                                    \
		}                                                                   \
	while (0)

struct mk_tuf_key {
	EVP_PKEY *pkey;
	char public[65], id[65];
};

/* ---- keys and signatures ------------------------------------------------------------------------------ */

static json_t *
key_json(const struct mk_tuf_key *k)
{
	return json_pack("{s:s, s:s, s:{s:s}}", "keytype", "ed25519", "scheme", "ed25519", "keyval", "public", k->public);
}

static struct mk_tuf_key *
key_new(void)
{
	struct mk_tuf_key *k = calloc(1, sizeof(*k));
	struct mfs_sha256 id;
	uint8_t raw[32];
	size_t n = sizeof(raw);
	char *text;
	json_t *j;

	MUST(k != NULL);
	MUST((k->pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")) != NULL);
	MUST(EVP_PKEY_get_raw_public_key(k->pkey, raw, &n) == 1 && n == 32);
	mfs_hex_encode(k->public, raw, 32);
	k->public[64] = '\0';
	j = key_json(k);
	MUST((text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS)) != NULL);
	MUST(mfs_sha256(MFS_SPAN(text, strlen(text)), &id, NULL) == MFS_OK);
	(void)mfs_sha256_hex(k->id, &id);
	free(text);
	json_decref(j);
	return k;
}

static char *
sign(const struct mk_tuf_key *k, json_t *signed_part)
{
	char *text = json_dumps(signed_part, JSON_COMPACT | JSON_SORT_KEYS), *canonical, hex[129], *out;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t sig[64];
	size_t n = sizeof(sig), len;
	json_t *doc;

	MUST(text != NULL && md != NULL);
	MUST(mfs_tuf_canonical(MFS_SPAN(text, strlen(text)), &canonical, &len, NULL) == MFS_OK);
	MUST(EVP_DigestSignInit(md, NULL, NULL, NULL, k->pkey) == 1);
	MUST(EVP_DigestSign(md, sig, &n, (const uint8_t *)canonical, len) == 1);
	mfs_hex_encode(hex, sig, n);
	hex[128] = '\0';
	doc = json_pack("{s:[{s:s, s:s}], s:O}", "signatures", "keyid", k->id, "sig", hex, "signed", signed_part);
	MUST((out = json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS)) != NULL);
	json_decref(doc);
	EVP_MD_CTX_free(md);
	free(canonical);
	free(text);
	return out;
}

/* ---- files ------------------------------------------------------------------------------------------------ */

bool
mk_repo_file(const struct mk_repo *r, const char *path, struct mfs_span *out)
{
	for (size_t i = 0; i < r->n_files; i++)
		if (strcmp(r->files[i].path, path) == 0) {
			*out = MFS_SPAN(r->files[i].bytes, r->files[i].len);
			return true;
		}
	return false;
}

void
mk_repo_put(struct mk_repo *r, const char *path, const void *bytes, size_t len)
{
	struct mk_file_entry *f = NULL;

	for (size_t i = 0; i < r->n_files; i++)
		if (strcmp(r->files[i].path, path) == 0)
			f = &r->files[i];
	if (bytes == NULL) {
		if (f == NULL)
			return;
		free(f->path);
		free(f->bytes);
		*f = r->files[--r->n_files];
		return;
	}
	if (f == NULL) {
		MUST((r->files = reallocarray(r->files, r->n_files + 1, sizeof(*r->files))) != NULL);
		f = &r->files[r->n_files++];
		*f = (struct mk_file_entry){ .path = strdup(path) };
	}
	free(f->bytes);
	MUST(f->path != NULL && (f->bytes = malloc(len + 1)) != NULL);
	memcpy(f->bytes, bytes, len);
	f->len = len;
}

struct mk_repo_copy {
	struct mk_file_entry *files;
	size_t n;
};

struct mk_repo_copy *
mk_repo_keep(const struct mk_repo *r)
{
	struct mk_repo_copy *c = calloc(1, sizeof(*c));

	MUST(c != NULL && (c->files = calloc(r->n_files + 1, sizeof(*c->files))) != NULL);
	for (; c->n < r->n_files; c->n++) {
		const struct mk_file_entry *f = &r->files[c->n];

		c->files[c->n] = (struct mk_file_entry){ strdup(f->path), malloc(f->len + 1), f->len };
		MUST(c->files[c->n].path != NULL && c->files[c->n].bytes != NULL);
		memcpy(c->files[c->n].bytes, f->bytes, f->len);
	}
	return c;
}

void
mk_repo_put_back(struct mk_repo *r, struct mk_repo_copy *c, const char *below)
{
	for (size_t i = 0; i < c->n; i++)
		if (strncmp(c->files[i].path, below, strlen(below)) == 0)
			mk_repo_put(r, c->files[i].path, c->files[i].bytes, c->files[i].len);
}

void
mk_repo_copy_free(struct mk_repo_copy *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->files[i].path);
		free(c->files[i].bytes);
	}
	free(c->files);
	free(c);
}

/* ---- roles ------------------------------------------------------------------------------------------------- */

static json_t *
head(const struct mk_role *role, const char *type)
{
	time_t t = (time_t)role->expires;
	char text[32];
	struct tm tm;

	MUST(gmtime_r(&t, &tm) != NULL && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
	return json_pack("{s:s, s:s, s:I, s:s}", "_type", type, "spec_version", "1.0.31", "version",
		(json_int_t)role->version, "expires", text);
}

static json_t *
root_json(const struct mk_repo *r)
{
	static const char *const names[] = { "root", "timestamp", "snapshot", "targets" };
	json_t *o = head(&r->roles[MK_ROOT], "root"), *keys = json_object(), *roles = json_object();

	for (size_t i = 0; i < 4; i++) {
		(void)json_object_set_new(keys, r->roles[i].key->id, key_json(r->roles[i].key));
		(void)json_object_set_new(roles, names[i], json_pack("{s:[s], s:i}", "keyids", r->roles[i].key->id, "threshold", 1));
	}
	(void)json_object_set_new(o, "keys", keys);
	(void)json_object_set_new(o, "roles", roles);
	(void)json_object_set_new(o, "consistent_snapshot", json_true());
	return o;
}

static json_t *
meta(const char *json, int64_t version)
{
	struct mfs_sha256 h;

	MUST(mfs_sha256(MFS_SPAN(json, strlen(json)), &h, NULL) == MFS_OK);
	return json_pack("{s:I, s:I, s:{s:s}}", "version", (json_int_t)version, "length", (json_int_t)strlen(json), "hashes",
		"sha256", MFS_HEX(&h));
}

static json_t *
snapshot_json(const struct mk_repo *r)
{
	json_t *o = head(&r->roles[MK_SNAPSHOT], "snapshot"), *m = json_object();

	for (size_t i = MK_TARGETS; i < r->n_roles; i++) {
		char file[200];

		(void)snprintf(file, sizeof(file), "%s.json", r->roles[i].name);
		(void)json_object_set_new(m, file, meta(r->roles[i].json, r->roles[i].version));
	}
	(void)json_object_set_new(o, "meta", m);
	return o;
}

static json_t *
targets_json(const struct mk_repo *r, size_t role)
{
	json_t *o = head(&r->roles[role], "targets"), *t = json_object(), *keys, *list;

	for (size_t i = 0; i < r->roles[role].n_targets; i++) {
		const struct mk_target *f = &r->roles[role].targets[i];
		struct mfs_sha256 h;

		MUST(mfs_sha256(MFS_SPAN(f->bytes, f->len), &h, NULL) == MFS_OK);
		(void)json_object_set_new(t, f->path,
			json_pack("{s:I, s:{s:s}}", "length", (json_int_t)f->len, "hashes", "sha256", MFS_HEX(&h)));
	}
	(void)json_object_set_new(o, "targets", t);
	if (role != MK_TARGETS || r->n_roles == MK_DELEGATED)
		return o;
	keys = json_object();
	list = json_array();
	for (size_t i = MK_DELEGATED; i < r->n_roles; i++) {
		const struct mk_role *d = &r->roles[i];
		const char *id = strchr(d->name, '.') + 1;
		char path[200];

		(void)snprintf(path, sizeof(path), d->name[0] == 'p' ? "%s/policy.json" : "%s/*/*/*", id);
		(void)json_object_set_new(keys, d->key->id, key_json(d->key));
		(void)json_array_append_new(list, json_pack("{s:s, s:[s], s:i, s:b, s:[s]}", "name", d->name, "keyids", d->key->id,
			"threshold", 1, "terminating", 1, "paths", path));
	}
	(void)json_object_set_new(o, "delegations", json_pack("{s:o, s:o}", "keys", keys, "roles", list));
	return o;
}

void
mk_repo_sign(struct mk_repo *r, size_t role)
{
	struct mk_role *m = &r->roles[role];
	json_t *o, *ts;
	char path[256];

	if (role == MK_ROOT) {
		o = root_json(r);
	} else if (role == MK_TIMESTAMP) {
		o = head(m, "timestamp");
		ts = meta(r->roles[MK_SNAPSHOT].json, r->roles[MK_SNAPSHOT].version);
		(void)json_object_set_new(o, "meta", json_pack("{s:o}", "snapshot.json", ts));
	} else {
		o = role == MK_SNAPSHOT ? snapshot_json(r) : targets_json(r, role);
	}
	free(m->json);
	m->json = sign(m->key, o);
	json_decref(o);
	if (role == MK_TIMESTAMP)
		(void)snprintf(path, sizeof(path), "metadata/timestamp.json");
	else
		(void)snprintf(path, sizeof(path), "metadata/%lld.%s.json", (long long)m->version, m->name);
	mk_repo_put(r, path, m->json, strlen(m->json));
	m->changed = false;
}

static size_t
role_add(struct mk_repo *r, const char *name)
{
	MUST((r->roles = reallocarray(r->roles, r->n_roles + 1, sizeof(*r->roles))) != NULL);
	r->roles[r->n_roles] = (struct mk_role){ .key = key_new(), .changed = true };
	(void)snprintf(r->roles[r->n_roles].name, sizeof(r->roles[r->n_roles].name), "%s", name);
	return r->n_roles++;
}

static void
renew(struct mk_repo *r, size_t role)
{
	r->roles[role].version++;
	r->roles[role].expires = r->now + r->lifetime * (role == MK_TIMESTAMP || role == MK_SNAPSHOT ? 1 : 365);
	mk_repo_sign(r, role);
}

void
mk_repo_commit(struct mk_repo *r)
{
	for (size_t i = r->n_roles; i-- > MK_TARGETS;)
		if (r->roles[i].changed)
			renew(r, i);
	if (r->roles[MK_ROOT].changed)
		renew(r, MK_ROOT);
	renew(r, MK_SNAPSHOT);
	renew(r, MK_TIMESTAMP);
}

struct mk_repo *
mk_repo_new(int64_t now)
{
	struct mk_repo *r = calloc(1, sizeof(*r));

	MUST(r != NULL);
	r->now = now;
	r->lifetime = 86400;
	(void)role_add(r, "root");
	(void)role_add(r, "timestamp");
	(void)role_add(r, "snapshot");
	(void)role_add(r, "targets");
	return r;
}

size_t
mk_repo_model(struct mk_repo *r, const char *id)
{
	char name[160];
	size_t at;

	(void)snprintf(name, sizeof(name), "release.%s", id);
	at = role_add(r, name);
	(void)snprintf(name, sizeof(name), "policy.%s", id);
	(void)role_add(r, name);
	r->roles[MK_TARGETS].changed = true;
	return at;
}

void
mk_repo_target(struct mk_repo *r, size_t role, const char *path, const void *bytes, size_t len)
{
	struct mk_role *m = &r->roles[role];
	const char *base = strrchr(path, '/');
	struct mfs_sha256 h;
	char file[600];
	size_t i = 0;

	m->changed = true;
	while (i < m->n_targets && strcmp(m->targets[i].path, path) != 0)
		i++;
	if (i < m->n_targets) {
		free(m->targets[i].path);
		free(m->targets[i].bytes);
		m->targets[i] = m->targets[--m->n_targets];
	}
	if (bytes == NULL)
		return;
	MUST((m->targets = reallocarray(m->targets, m->n_targets + 1, sizeof(*m->targets))) != NULL);
	m->targets[m->n_targets] = (struct mk_target){ strdup(path), malloc(len + 1), len };
	memcpy(m->targets[m->n_targets++].bytes, bytes, len);
	MUST(mfs_sha256(MFS_SPAN(bytes, len), &h, NULL) == MFS_OK);
	base = base != NULL ? base + 1 : path;
	(void)snprintf(file, sizeof(file), "targets/%.*s%s.%s", (int)(base - path), path, MFS_HEX(&h), base);
	mk_repo_put(r, file, bytes, len);
}

void
mk_repo_rotate(struct mk_repo *r, size_t role)
{
	struct mk_tuf_key *old = r->roles[role].key;

	MUST(role != MK_ROOT); /* one key, threshold 1: the old one would have to sign as well */
	r->roles[role].key = key_new();
	EVP_PKEY_free(old->pkey);
	free(old);
	renew(r, MK_ROOT);
	r->roles[role].changed = true;
}

void
mk_repo_free(struct mk_repo *r)
{
	for (size_t i = 0; i < r->n_roles; i++) {
		for (size_t k = 0; k < r->roles[i].n_targets; k++) {
			free(r->roles[i].targets[k].path);
			free(r->roles[i].targets[k].bytes);
		}
		free(r->roles[i].targets);
		free(r->roles[i].json);
		EVP_PKEY_free(r->roles[i].key->pkey);
		free(r->roles[i].key);
	}
	for (size_t i = 0; i < r->n_files; i++) {
		free(r->files[i].path);
		free(r->files[i].bytes);
	}
	free(r->files);
	free(r->roles);
	free(r);
}

/* ---- a server ------------------------------------------------------------------------------------------------ */

enum mfs_code
mk_repo_get(void *user, const struct mfs_remote_request *q, uint8_t **out, size_t *len, struct mfs_remote_result *res,
	struct mfs_err *err)
{
	struct mk_repo *r = user;
	struct mfs_sha256 h;
	struct mfs_span file;
	char path[700];

	r->requests++;
	*res = (struct mfs_remote_result){ .total = UINT64_MAX };
	if (r->offline)
		return mfs_fail(err, MFS_NET_RESOLVE, "no such host");
	(void)snprintf(path, sizeof(path), "%s/%s", q->kind == MFS_REMOTE_METADATA ? "metadata" : "targets", q->path);
	if (r->refuse != NULL && strstr(path, r->refuse) != NULL)
		return mfs_fail(err, MFS_NET_TIMEOUT, "%s: silent", path);
	if (!mk_repo_file(r, path, &file)) {
		res->http = 404;
		res->not_found = true;
		return MFS_OK;
	}
	if (file.len > q->cap)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %llu bytes", path, (unsigned long long)q->cap);
	MUST(mfs_sha256(file, &h, NULL) == MFS_OK);
	if (!r->no_etags)
		(void)snprintf(res->etag, sizeof(res->etag), "\"%.32s\"", MFS_HEX(&h));
	res->http = 200;
	if (q->etag != NULL && strcmp(q->etag, res->etag) == 0) {
		res->http = 304;
		res->not_modified = true;
		r->not_modified++;
		return MFS_OK;
	}
	MUST((*out = malloc(file.len + 1)) != NULL);
	memcpy(*out, file.p, file.len);
	*len = file.len;
	res->received = file.len;
	return MFS_OK;
}
