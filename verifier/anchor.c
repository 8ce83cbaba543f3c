/* SPDX-License-Identifier: Apache-2.0 */
/* The anchor document: JSON to struct and back. modelfs-state(5), ANCHOR. */
#include "internal.h"

#include "memo.h"

#define DOC           "anchor"
#define FORMAT_PREFIX "modelfs-anchor/1."
#define MINOR         1u /* 1: policy, repositories */

static void
model_clear(struct mfs_anchor_model *m)
{
	free(m->retained);
	free(m->known);
	free(m->bad);
	free(m->revoked);
	free(m->policy_extra_json);
	free(m->extra_json);
}

void
mfs_anchor_free(struct mfs_anchor *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->n_models; i++)
		model_clear(&a->models[i]);
	free(a->models);
	for (size_t i = 0; i < a->n_repos; i++)
		mfs_anchor_repo_clear(&a->repos[i]);
	free(a->repos);
	free(a->extra_json);
	free(a);
}

/* ---- reading ------------------------------------------------------------------------------------ */

static enum mfs_code
vref_parse(const json_t *o, const struct mfs_at *at, struct mfs_vref *v, struct mfs_err *err)
{
	const char *version, *variant;
	enum mfs_code code;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_hex(o, at, "manifest", MFS_REQUIRED, v->manifest.b, MFS_SHA256_LEN, err)) != MFS_OK ||
		(code = mfs_field_string(o, at, "version", MFS_REQUIRED, MFS_VERSION_MAX, &version, err)) != MFS_OK ||
		(code = mfs_field_string(o, at, "variant", MFS_REQUIRED, MFS_VARIANT_MAX, &variant, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "release", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &v->release, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "key_epoch", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &v->key_epoch, err)) != MFS_OK)
		return code;
	if (mfs_sha256_is_zero(&v->manifest))
		return mfs_field_bad(at, "manifest", err, "all zero");
	if (!mfs_version_ok(version, strlen(version)))
		return mfs_field_bad(at, "version", err, "'%s' is not a version", MFS_ESC(version));
	if (!mfs_variant_ok(variant, strlen(variant)))
		return mfs_field_bad(at, "variant", err, "'%s' is not a variant", MFS_ESC(variant));
	memcpy(v->version, version, strlen(version) + 1);
	memcpy(v->variant, variant, strlen(variant) + 1);
	return MFS_OK;
}

static enum mfs_code
vref_field(const json_t *o, const struct mfs_at *at, const char *key, struct mfs_vref *v, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, key);
	const json_t *item = json_object_get(o, key);

	return item == NULL ? MFS_OK : vref_parse(item, &sub, v, err);
}

static enum mfs_code
vrefs_field(const json_t *o, const struct mfs_at *at, const char *key, size_t max, struct mfs_vref **out, size_t *n,
	struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(o, at, key, MFS_REQUIRED, 0, max, &a, err)) != MFS_OK || json_array_size(a) == 0)
		return code;
	if ((*out = calloc(json_array_size(a), sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	*n = json_array_size(a);
	for (size_t i = 0; i < *n; i++) {
		const struct mfs_at item = mfs_at_item(at, key, i);

		if ((code = vref_parse(json_array_get(a, i), &item, &(*out)[i], err)) != MFS_OK)
			return code;
		for (size_t k = 0; k < i; k++)
			if (mfs_sha256_equal(&(*out)[k].manifest, &(*out)[i].manifest))
				return mfs_field_bad(&item, "manifest", err, "the same as in %s[%zu]", key, k);
	}
	return MFS_OK;
}

static enum mfs_code
floor_field(const json_t *o, const struct mfs_at *at, struct mfs_anchor_model *m, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "floor");
	enum mfs_code code;
	json_t *f;

	if ((code = mfs_field_object(o, at, "floor", MFS_OPTIONAL, &f, err)) != MFS_OK || f == NULL)
		return code;
	if ((code = mfs_field_int(f, &sub, "key_epoch", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &m->floor_epoch, err)) !=
			MFS_OK ||
		(code = mfs_field_int(f, &sub, "release", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &m->floor_release, err)) !=
			MFS_OK)
		return code;
	return mfs_field_hex(f, &sub, "manifest", MFS_REQUIRED, m->floor_manifest.b, MFS_SHA256_LEN, err);
}

static enum mfs_code
bad_field(const json_t *o, const struct mfs_at *at, struct mfs_anchor_model *m, struct mfs_err *err)
{
	enum mfs_code code;
	const char *why;
	json_t *a;

	if ((code = mfs_field_array(o, at, "bad", MFS_REQUIRED, 0, MFS_BAD_MAX, &a, err)) != MFS_OK ||
		json_array_size(a) == 0)
		return code;
	if ((m->bad = calloc(json_array_size(a), sizeof(*m->bad))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	m->n_bad = json_array_size(a);
	for (size_t i = 0; i < m->n_bad; i++) {
		const struct mfs_at item = mfs_at_item(at, "bad", i);
		const json_t *b = json_array_get(a, i);

		if (!json_is_object(b))
			return mfs_field_bad(&item, "", err, "not an object");
		if ((code = mfs_field_hex(b, &item, "manifest", MFS_REQUIRED, m->bad[i].manifest.b, MFS_SHA256_LEN, err)) !=
				MFS_OK ||
			(code = mfs_field_string(b, &item, "why", MFS_REQUIRED, 64, &why, err)) != MFS_OK)
			return code;
		if (!mfs_code_from_name(why, &m->bad[i].why) || m->bad[i].why == MFS_OK)
			m->bad[i].why = MFS_KNOWN_BAD; /* an outcome of a newer modelfs: condemned all the same */
	}
	return MFS_OK;
}

static const char *const model_keys[] = { "model_id", "floor", "active", "previous", "retained", "known", "bad",
	"min_release", "min_key_epoch", "revoked", "policy", NULL };

static enum mfs_code
model_parse(const char *id, const json_t *o, const struct mfs_at *at, struct mfs_anchor_model *m, struct mfs_err *err)
{
	enum mfs_code code;
	const char *model_id;

	if (!mfs_model_id_ok(id, strlen(id)))
		return mfs_field_bad(at, "", err, "not a model's name");
	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_string(o, at, "model_id", MFS_REQUIRED, MFS_ID_MAX, &model_id, err)) != MFS_OK)
		return code;
	if (!mfs_model_id_ok(model_id, strlen(model_id)))
		return mfs_field_bad(at, "model_id", err, "'%s' is not a model id", MFS_ESC(model_id));
	memcpy(m->id, id, strlen(id) + 1);
	memcpy(m->model_id, model_id, strlen(model_id) + 1);
	if ((code = floor_field(o, at, m, err)) != MFS_OK || (code = vref_field(o, at, "active", &m->active, err)) != MFS_OK ||
		(code = vref_field(o, at, "previous", &m->previous, err)) != MFS_OK ||
		(code = vrefs_field(o, at, "retained", MFS_RETAINED_MAX, &m->retained, &m->n_retained, err)) != MFS_OK ||
		(code = vrefs_field(o, at, "known", MFS_KNOWN_MAX, &m->known, &m->n_known, err)) != MFS_OK ||
		(code = bad_field(o, at, m, err)) != MFS_OK ||
		(code = mfs_anchor_policy_parse(o, at, m, err)) != MFS_OK)
		return code;
	return mfs_extra_take(o, model_keys, &m->extra_json, err);
}

static int
model_order(const void *a, const void *b)
{
	return strcmp(((const struct mfs_anchor_model *)a)->id, ((const struct mfs_anchor_model *)b)->id);
}

/* "modelfs-anchor/1.MINOR" */
static enum mfs_code
format_parse(const json_t *root, const struct mfs_at *at, unsigned *minor, struct mfs_err *err)
{
	const size_t n = sizeof(FORMAT_PREFIX) - 1;
	enum mfs_code code;
	const char *s;
	size_t digits;

	if ((code = mfs_field_string(root, at, "format", MFS_REQUIRED, 64, &s, err)) != MFS_OK)
		return code;
	if (strncmp(s, FORMAT_PREFIX, n) != 0)
		return mfs_field_bad(at, "format", err,
			"'%s' is not \"" FORMAT_PREFIX "0\": written by another major version of modelfs", MFS_ESC(s));
	digits = strspn(s + n, "0123456789");
	if (digits == 0 || digits > 4 || s[n + digits] != '\0' || (digits > 1 && s[n] == '0'))
		return mfs_field_bad(at, "format", err, "'%s' has no minor version", MFS_ESC(s));
	*minor = (unsigned)strtoul(s + n, NULL, 10);
	return MFS_OK;
}

static enum mfs_code
anchor_fields(const json_t *root, struct mfs_anchor *a, struct mfs_err *err)
{
	static const char *const keys[] = { "format", "models", "repositories", NULL };
	const struct mfs_at at = mfs_at_top(DOC);
	const struct mfs_at sub = mfs_at_object(&at, "models");
	enum mfs_code code;
	json_t *models;

	if ((code = format_parse(root, &at, &a->minor, err)) != MFS_OK ||
		(code = mfs_anchor_repos_parse(root, &at, a, err)) != MFS_OK ||
		(code = mfs_field_object(root, &at, "models", MFS_REQUIRED, &models, err)) != MFS_OK)
		return code;
	if (json_object_size(models) > MFS_MODELS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": models: %zu, limit %u", json_object_size(models),
			MFS_MODELS_MAX);
	if (json_object_size(models) == 0)
		return mfs_extra_take(root, keys, &a->extra_json, err);
	if ((a->models = calloc(json_object_size(models), sizeof(*a->models))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (void *it = json_object_iter(models); it != NULL; it = json_object_iter_next(models, it)) {
		const char *id = json_object_iter_key(it);
		const struct mfs_at place = mfs_at_object(&sub, id);

		if ((code = model_parse(id, json_object_iter_value(it), &place, &a->models[a->n_models++], err)) != MFS_OK)
			return code;
	}
	qsort(a->models, a->n_models, sizeof(*a->models), model_order);
	return mfs_extra_take(root, keys, &a->extra_json, err);
}

enum mfs_code
mfs_anchor_parse(struct mfs_span json, struct mfs_anchor **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	mfs_autojson json_t *root = NULL;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_json_parse_canonical(DOC, json, MFS_STATE_BYTES_MAX, &root, err)) != MFS_OK)
		return code;
	if ((a = calloc(1, sizeof(*a))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	if ((code = anchor_fields(root, a, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&a);
	return MFS_OK;
}

/* ---- writing -------------------------------------------------------------------------------------- */

static json_t *
hex_json(const struct mfs_sha256 *d)
{
	return json_string(MFS_HEX(d));
}

static json_t *
vref_json(const struct mfs_vref *v)
{
	mfs_autojson json_t *o = json_object();

	if (o == NULL || !mfs_json_set(o, "manifest", hex_json(&v->manifest)) || !mfs_json_set(o, "version", json_string(v->version)) ||
		!mfs_json_set(o, "variant", json_string(v->variant)) || !mfs_json_set(o, "release", json_integer(v->release)) ||
		!mfs_json_set(o, "key_epoch", json_integer(v->key_epoch)))
		return NULL;
	return mfs_steal(&o);
}

static json_t *
vrefs_json(const struct mfs_vref *v, size_t n)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < n; i++)
		if (json_array_append_new(a, vref_json(&v[i])) != 0)
			return NULL;
	return mfs_steal(&a);
}

static json_t *
bad_json(const struct mfs_anchor_model *m)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < m->n_bad; i++) {
		mfs_autojson json_t *o = json_object();

		if (o == NULL || !mfs_json_set(o, "manifest", hex_json(&m->bad[i].manifest)) ||
			!mfs_json_set(o, "why", json_string(mfs_code_name(m->bad[i].why))) ||
			json_array_append(a, o) != 0)
			return NULL;
	}
	return mfs_steal(&a);
}

static json_t *
floor_json(const struct mfs_anchor_model *m)
{
	mfs_autojson json_t *o = json_object();

	if (o == NULL || !mfs_json_set(o, "key_epoch", json_integer(m->floor_epoch)) ||
		!mfs_json_set(o, "release", json_integer(m->floor_release)) || !mfs_json_set(o, "manifest", hex_json(&m->floor_manifest)))
		return NULL;
	return mfs_steal(&o);
}

static enum mfs_code
model_json(const struct mfs_anchor_model *m, json_t **out, struct mfs_err *err)
{
	mfs_autojson json_t *o = NULL;
	enum mfs_code code;

	/* What the reader would refuse must not be written: the state would be lost with it. */
	if (m->n_retained > MFS_RETAINED_MAX || m->n_known > MFS_KNOWN_MAX || m->n_bad > MFS_BAD_MAX ||
		m->n_revoked > MFS_REVOKED_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": model %s: %zu retained, %zu known, %zu bad, %zu revoked",
			m->id, m->n_retained, m->n_known, m->n_bad, m->n_revoked);
	if ((code = mfs_text_json(DOC ": unknown fields", m->extra_json, &o, err)) != MFS_OK ||
		(code = mfs_anchor_policy_json(m, o, err)) != MFS_OK)
		return code;
	if (!mfs_json_set(o, "model_id", json_string(m->model_id)) ||
		(m->floor_epoch != 0 && !mfs_json_set(o, "floor", floor_json(m))) ||
		(!mfs_sha256_is_zero(&m->active.manifest) && !mfs_json_set(o, "active", vref_json(&m->active))) ||
		(!mfs_sha256_is_zero(&m->previous.manifest) && !mfs_json_set(o, "previous", vref_json(&m->previous))) ||
		!mfs_json_set(o, "retained", vrefs_json(m->retained, m->n_retained)) ||
		!mfs_json_set(o, "known", vrefs_json(m->known, m->n_known)) || !mfs_json_set(o, "bad", bad_json(m)))
		return mfs_fail(err, MFS_NO_MEMORY, DOC ": model %s", m->id);
	*out = mfs_steal(&o);
	return MFS_OK;
}

/* The text of one model: what memo has of it, or anew. *own is to be freed; NULL when memo keeps it. */
static enum mfs_code
model_text(const struct mfs_anchor_model *m, struct mfs_memo *memo, char **own, struct mfs_span *out, struct mfs_err *err)
{
	mfs_autojson json_t *o = NULL;
	const char *text = NULL;
	enum mfs_code code;
	size_t len = 0;

	*own = NULL;
	if (memo != NULL) {
		mfs_anchor_model_memo(m, memo);
		text = mfs_memo_find(memo, m->id, &len);
	}
	if (text == NULL) {
		if ((code = model_json(m, &o, err)) != MFS_OK || (code = mfs_json_canonical_at(o, 2, own, &len, err)) != MFS_OK)
			return code;
		text = memo != NULL ? mfs_memo_keep(memo, m->id, mfs_steal(own), len) : *own;
		if (text == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, DOC ": model %s", m->id);
	}
	*out = MFS_SPAN(text, len);
	return MFS_OK;
}

/* The object `models`, sorted as canonical JSON is: by the bytes of the ids, which need no escapes. */
static enum mfs_code
models_text(const struct mfs_anchor *a, struct mfs_memo *memo, struct mfs_text *t, struct mfs_err *err)
{
	bool ok = mfs_text_add(t, "{", 1);

	if (memo != NULL)
		mfs_memo_begin(memo);
	for (size_t i = 0; ok && i < a->n_models; i++) {
		const struct mfs_anchor_model *m = &a->models[i];
		mfs_autofree char *own = NULL;
		struct mfs_span text = MFS_SPAN(NULL, 0);
		enum mfs_code code;

		if (!mfs_model_id_ok(m->id, strlen(m->id)) || (i > 0 && strcmp(a->models[i - 1].id, m->id) >= 0))
			return mfs_fail(err, MFS_INTERNAL, DOC ": model '%s' is out of order", MFS_ESC(m->id));
		if ((code = model_text(m, memo, &own, &text, err)) != MFS_OK)
			return code;
		ok = mfs_text_add(t, i > 0 ? ",\"" : "\"", i > 0 ? 2 : 1) && mfs_text_add(t, m->id, strlen(m->id)) &&
			mfs_text_add(t, "\":", 2) && mfs_text_add(t, text.p, text.len);
	}
	return ok && mfs_text_add(t, "}", 1) ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, DOC ": %zu models", a->n_models);
}

enum mfs_code
mfs_anchor_json_memo(const struct mfs_anchor *a, struct mfs_memo *memo, char **out, size_t *len, struct mfs_err *err)
{
	mfs_autojson json_t *root = NULL;
	char format[sizeof(FORMAT_PREFIX) + 12];
	struct mfs_text models = { 0 };
	enum mfs_code code;

	*out = NULL;
	*len = 0;
	if ((code = mfs_text_json(DOC ": unknown fields", a->extra_json, &root, err)) != MFS_OK ||
		(code = mfs_anchor_repos_json(a, root, err)) != MFS_OK)
		return code;
	(void)snprintf(format, sizeof(format), FORMAT_PREFIX "%u", a->minor > MINOR ? a->minor : MINOR);
	if (!mfs_json_set(root, "format", json_string(format)))
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	if ((code = models_text(a, memo, &models, err)) == MFS_OK)
		code = mfs_json_canonical_with(root, "models", MFS_SPAN(models.p, models.len), out, len, err);
	free(models.p);
	return code;
}

enum mfs_code
mfs_anchor_json(const struct mfs_anchor *a, char **out, size_t *len, struct mfs_err *err)
{
	return mfs_anchor_json_memo(a, NULL, out, len, err);
}

/* ---- models ------------------------------------------------------------------------------------------ */

struct mfs_anchor_model *
mfs_anchor_find(const struct mfs_anchor *a, const char *id)
{
	for (size_t i = 0; i < a->n_models; i++)
		if (strcmp(a->models[i].id, id) == 0)
			return &a->models[i];
	return NULL;
}

enum mfs_code
mfs_anchor_add(struct mfs_anchor *a, const char *id, const char *model_id, struct mfs_anchor_model **out,
	struct mfs_err *err)
{
	struct mfs_anchor_model *p;
	size_t at = 0;

	*out = NULL;
	if (!mfs_model_id_ok(id, strlen(id)) || !mfs_model_id_ok(model_id, strlen(model_id)) ||
		mfs_anchor_find(a, id) != NULL)
		return mfs_fail(err, MFS_INTERNAL, DOC ": model '%s' cannot be added", MFS_ESC(id));
	if (a->n_models == MFS_MODELS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": more than %u models", MFS_MODELS_MAX);
	if ((p = realloc(a->models, (a->n_models + 1) * sizeof(*p))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	a->models = p;
	while (at < a->n_models && strcmp(p[at].id, id) < 0)
		at++;
	memmove(&p[at + 1], &p[at], (a->n_models - at) * sizeof(*p));
	p[at] = (struct mfs_anchor_model){ 0 };
	memcpy(p[at].id, id, strlen(id) + 1);
	memcpy(p[at].model_id, model_id, strlen(model_id) + 1);
	a->n_models++;
	*out = &p[at];
	return MFS_OK;
}
