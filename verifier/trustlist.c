/* SPDX-License-Identifier: Apache-2.0 */
/* trust.json, the repository's list of model-signing keys: modelfs-policy(5), TRUST LIST. */
#include "internal.h"

#include "mfs_policy.h"

#define DOC "trust.json"

static void
entry_clear(struct mfs_trust_entry *e)
{
	for (size_t i = 0; e->models != NULL && e->models[i] != NULL; i++)
		free(e->models[i]);
	free(e->models);
	*e = (struct mfs_trust_entry){ 0 };
}

void
mfs_trustlist_free(struct mfs_trustlist *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->n_keys; i++)
		entry_clear(&l->keys[i]);
	free(l->keys);
	free(l);
}

enum mfs_code
mfs_trustlist_new(struct mfs_trustlist **out, struct mfs_err *err)
{
	if ((*out = calloc(1, sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	return MFS_OK;
}

/* ---- reading --------------------------------------------------------------------------------------- */

/* ["*"], or distinct model ids. */
static enum mfs_code
models_parse(const json_t *o, const struct mfs_at *at, struct mfs_trust_entry *e, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;
	size_t n;

	if ((code = mfs_field_array(o, at, "models", MFS_REQUIRED, 1, MFS_TRUST_MODELS_MAX, &a, err)) != MFS_OK)
		return code;
	n = json_array_size(a);
	if (n == 1 && json_is_string(json_array_get(a, 0)) && strcmp(json_string_value(json_array_get(a, 0)), "*") == 0)
		return MFS_OK;
	if ((e->models = calloc(n + 1, sizeof(*e->models))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < n; i++) {
		const struct mfs_at item = mfs_at_item(at, "models", i);
		const char *s = json_string_value(json_array_get(a, i));

		if (s == NULL || !mfs_model_id_ok(s, strlen(s)))
			return mfs_field_bad(&item, "", err, "'%s' is not a model id ([\"*\"] alone: every model)",
				s != NULL ? MFS_ESC(s) : "");
		if ((code = mfs_strdup(s, &e->models[i], err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
entry_parse(const json_t *o, const struct mfs_at *at, struct mfs_trust_entry *e, struct mfs_err *err)
{
	struct mfs_err why = MFS_ERR_INIT;
	struct mfs_trust_key k = { 0 };
	struct mfs_sha256 id;
	enum mfs_code code;
	const char *hex;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_hex(o, at, "key_id", MFS_REQUIRED, e->key_id.b, MFS_SHA256_LEN, err)) != MFS_OK ||
		(code = mfs_field_string(o, at, "public_key", MFS_REQUIRED, 2 * MFS_SPKI_MAX, &hex, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "epoch", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &e->epoch, err)) != MFS_OK)
		return code;
	e->spki_len = strlen(hex) / 2;
	if (!mfs_hex_decode(e->spki, e->spki_len, hex, strlen(hex)))
		return mfs_field_bad(at, "public_key", err, "not lower-case hex digits of a DER public key");
	code = mfs_trust_key_der(DOC, MFS_SPAN(e->spki, e->spki_len), &k, &why);
	id = k.id;
	mfs_trust_key_clear(&k);
	if (code == MFS_NO_MEMORY || code == MFS_INTERNAL)
		return mfs_fail(err, code, "%s", why.msg);
	if (code != MFS_OK)
		return mfs_field_bad(at, "public_key", err,
			"not the DER of an Ed25519 or a P-256 public key (named curve, uncompressed)");
	if (!mfs_sha256_equal(&id, &e->key_id))
		return mfs_field_bad(at, "key_id", err, "not the SHA-256 of public_key, which is %s", MFS_HEX(&id));
	return models_parse(o, at, e, err);
}

enum mfs_code
mfs_trustlist_parse(struct mfs_span in, struct mfs_trustlist **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *l = NULL;
	const struct mfs_at at = mfs_at_top(DOC);
	mfs_autojson json_t *root = NULL;
	enum mfs_code code;
	size_t n;

	*out = NULL;
	if ((code = mfs_json_parse_array(DOC, in, MFS_TRUSTLIST_BYTES_MAX, &root, err)) != MFS_OK ||
		(code = mfs_trustlist_new(&l, err)) != MFS_OK)
		return code;
	if ((n = json_array_size(root)) > MFS_TRUST_KEYS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": %zu keys, limit %u", n, MFS_TRUST_KEYS_MAX);
	if (n > 0 && (l->keys = calloc(n, sizeof(*l->keys))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < n; i++) {
		const struct mfs_at item = mfs_at_item(&at, "", i);

		l->n_keys++;
		if ((code = entry_parse(json_array_get(root, i), &item, &l->keys[i], err)) != MFS_OK)
			return code;
		for (size_t k = 0; k < i; k++)
			if (mfs_sha256_equal(&l->keys[k].key_id, &l->keys[i].key_id))
				return mfs_field_bad(&item, "key_id", err, "the same as in [%zu]", k);
	}
	*out = mfs_steal(&l);
	return MFS_OK;
}

/* ---- use --------------------------------------------------------------------------------------------- */

static bool
trust_has(const struct mfs_trust *t, const struct mfs_sha256 *id)
{
	for (size_t i = 0; i < t->n; i++)
		if (mfs_sha256_equal(&t->keys[i].id, id))
			return true;
	return false;
}

enum mfs_code
mfs_trustlist_apply(const struct mfs_trustlist *l, struct mfs_trust *t, struct mfs_err *err)
{
	for (size_t i = 0; i < l->n_keys; i++) {
		const struct mfs_trust_entry *e = &l->keys[i];
		struct mfs_trust_key *k = &t->keys[t->n];
		enum mfs_code code;

		if (trust_has(t, &e->key_id))
			continue;
		if (t->n == MFS_TRUST_KEYS_MAX)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": more than %u trusted keys with those of the configuration",
				MFS_TRUST_KEYS_MAX);
		k->epoch = e->epoch; /* counts once everything is right */
		if ((code = mfs_trust_key_der(DOC, MFS_SPAN(e->spki, e->spki_len), k, err)) != MFS_OK ||
			(code = mfs_models_copy(DOC, (const char *const *)e->models, &k->models, err)) != MFS_OK) {
			mfs_trust_key_clear(k);
			return code;
		}
		t->n++;
	}
	return MFS_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_trustlist_add_pem(struct mfs_trustlist *l, const char *what, struct mfs_span pem, int64_t epoch,
	const char *const *models, struct mfs_err *err)
{
	struct mfs_trust_entry e = { .epoch = epoch }, *p;
	enum mfs_code code;
	size_t at = 0;

	if (epoch < 1 || epoch > MFS_JSON_INT_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: epoch %lld is not 1 or more", what, (long long)epoch);
	if (models != NULL && models[0] == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: a key for no model at all", what);
	if ((code = mfs_pem_spki(what, pem, e.spki, &e.spki_len, err)) != MFS_OK ||
		(code = mfs_sha256(MFS_SPAN(e.spki, e.spki_len), &e.key_id, err)) != MFS_OK)
		return code;
	while (at < l->n_keys && !mfs_sha256_equal(&l->keys[at].key_id, &e.key_id))
		at++;
	if (at == MFS_TRUST_KEYS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": more than %u keys", MFS_TRUST_KEYS_MAX);
	if ((code = mfs_models_copy(what, models, &e.models, err)) != MFS_OK) {
		entry_clear(&e);
		return code;
	}
	if (at == l->n_keys) {
		if ((p = reallocarray(l->keys, at + 1, sizeof(*p))) == NULL) {
			entry_clear(&e);
			return mfs_fail(err, MFS_NO_MEMORY, DOC);
		}
		l->keys = p;
		l->n_keys++;
	} else {
		entry_clear(&l->keys[at]);
	}
	l->keys[at] = e;
	return MFS_OK;
}

bool
mfs_trustlist_remove(struct mfs_trustlist *l, const struct mfs_sha256 *key_id)
{
	for (size_t i = 0; i < l->n_keys; i++) {
		if (!mfs_sha256_equal(&l->keys[i].key_id, key_id))
			continue;
		entry_clear(&l->keys[i]);
		memmove(&l->keys[i], &l->keys[i + 1], (l->n_keys - i - 1) * sizeof(*l->keys));
		l->n_keys--;
		return true;
	}
	return false;
}

static json_t *
models_json(char **models)
{
	mfs_autojson json_t *a = json_array();

	if (a != NULL && models == NULL && json_array_append_new(a, json_string("*")) != 0)
		return NULL;
	for (size_t i = 0; a != NULL && models != NULL && models[i] != NULL; i++)
		if (json_array_append_new(a, json_string(models[i])) != 0)
			return NULL;
	return mfs_steal(&a);
}

enum mfs_code
mfs_trustlist_json(const struct mfs_trustlist *l, char **out, size_t *len, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *again = NULL;
	mfs_autojson json_t *a = json_array();
	mfs_autofree char *text = NULL;
	char hex[2 * MFS_SPKI_MAX + 1];
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if (a == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < l->n_keys; i++) {
		const struct mfs_trust_entry *e = &l->keys[i];
		mfs_autojson json_t *o = json_object();

		mfs_hex_encode(hex, e->spki, e->spki_len);
		if (o == NULL || !mfs_json_set(o, "key_id", json_string(MFS_HEX(&e->key_id))) ||
			!mfs_json_set(o, "public_key", json_string(hex)) ||
			!mfs_json_set(o, "epoch", json_integer(e->epoch)) ||
			!mfs_json_set(o, "models", models_json(e->models)) || json_array_append(a, o) != 0)
			return mfs_fail(err, MFS_NO_MEMORY, DOC);
	}
	if ((code = mfs_json_canonical(a, &text, len, err)) != MFS_OK ||
		(code = mfs_trustlist_parse(MFS_SPAN(text, *len), &again, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&text);
	return MFS_OK;
}
