/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cycle document: positions and counters that are authenticated but not bound to the
 * monotonic counter. modelfs-state(5), CYCLE.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cycle_doc.h"

#define CYCLE_MODELS_MAX      4096u
#define CYCLE_ACTIVATIONS_MAX 256u

#define MODEL_STRINGS 6

/* All that a record points to but its activations: freed here, and told to the memo by what it says, not where. */
static void
model_strings(struct mfs_cycle_model *m, char **out[MODEL_STRINGS])
{
	out[0] = &m->attempt.detail;
	out[1] = &m->refusal.detail;
	out[2] = &m->policy_detail;
	out[3] = &m->last_detail;
	out[4] = &m->offer_detail;
	out[5] = &m->extra_json;
}

static void
cycle_model_clear(struct mfs_cycle_model *m)
{
	char **strings[MODEL_STRINGS];

	model_strings(m, strings);
	for (size_t i = 0; i < MODEL_STRINGS; i++)
		free(*strings[i]);
	free(m->activations);
}

void
mfs_cycle_free(struct mfs_cycle *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->n_models; i++)
		cycle_model_clear(&c->models[i]);
	for (size_t i = 0; i < c->n_repos; i++) {
		free(c->repos[i].detail);
		free(c->repos[i].extra_json);
	}
	free(c->models);
	free(c->repos);
	free(c->extra_json);
	free(c);
}

struct mfs_cycle_model *
mfs_cycle_find(struct mfs_cycle *c, const char *id)
{
	for (size_t i = 0; i < c->n_models; i++)
		if (strcmp(c->models[i].id, id) == 0)
			return &c->models[i];
	return NULL;
}

enum mfs_code
mfs_cycle_add(struct mfs_cycle *c, const char *id, struct mfs_cycle_model **out, struct mfs_err *err)
{
	struct mfs_cycle_model *grown;
	size_t at = 0;

	*out = NULL;
	if (!mfs_model_id_ok(id, strlen(id)))
		return mfs_fail(err, MFS_MALFORMED, "cycle: model id '%s'", MFS_ESC(id));
	if (c->n_models >= CYCLE_MODELS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "cycle: more than %u models", CYCLE_MODELS_MAX);
	while (at < c->n_models && strcmp(c->models[at].id, id) < 0)
		at++;
	if (at < c->n_models && strcmp(c->models[at].id, id) == 0)
		return mfs_fail(err, MFS_MALFORMED, "cycle: model '%s' twice", MFS_ESC(id));
	if ((grown = realloc(c->models, (c->n_models + 1) * sizeof(*grown))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle: %zu models", c->n_models + 1);
	c->models = grown;
	memmove(&grown[at + 1], &grown[at], (c->n_models - at) * sizeof(*grown));
	c->n_models++;
	grown[at] = (struct mfs_cycle_model){ 0 };
	memcpy(grown[at].id, id, strlen(id) + 1);
	*out = &grown[at];
	return MFS_OK;
}

/* ---- reading: every getter names the field it refuses and removes what it consumed ------------- */

enum mfs_code
mfs_cycle_take_int(json_t *o, const char *where, const char *key, int64_t min, int64_t *out, struct mfs_err *err)
{
	json_t *v = json_object_get(o, key);

	if (v == NULL || !json_is_integer(v))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: %s", where, key, v == NULL ? "missing" : "not a number");
	*out = json_integer_value(v);
	if (*out < min || *out > MFS_JSON_INT_MAX)
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: out of range", where, key);
	(void)json_object_del(o, key);
	return MFS_OK;
}

enum mfs_code
mfs_cycle_take_counter(json_t *o, const char *where, const char *key, uint64_t *out, struct mfs_err *err)
{
	int64_t v = 0;
	enum mfs_code code = mfs_cycle_take_int(o, where, key, 0, &v, err);

	*out = (uint64_t)v;
	return code;
}

/* Nanoseconds do not fit the integers of JSON: a decimal string without sign or leading zeros. */
static enum mfs_code
take_ns(json_t *o, const char *where, const char *key, int64_t *out, struct mfs_err *err)
{
	json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);
	int64_t ns = 0;

	if (s == NULL || s[0] == '\0' || (s[0] == '0' && s[1] != '\0'))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: not a decimal string", where, key);
	for (const char *p = s; *p != '\0'; p++)
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(ns, 10, &ns) ||
			__builtin_add_overflow(ns, *p - '0', &ns))
			return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: not a decimal string of 63 bits", where, key);
	*out = ns;
	(void)json_object_del(o, key);
	return MFS_OK;
}

static enum mfs_code
take_activations(json_t *o, const char *where, struct mfs_cycle_model *m, struct mfs_err *err)
{
	json_t *list = json_object_get(o, "activations");
	size_t n = json_array_size(list);
	enum mfs_code code;

	if (!json_is_array(list))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %sactivations: not a list", where);
	if (n > CYCLE_ACTIVATIONS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "cycle: %sactivations: %zu, limit %u", where, n,
			CYCLE_ACTIVATIONS_MAX);
	if (n > 0 && (m->activations = calloc(n, sizeof(*m->activations))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle: %zu activations", n);
	for (size_t i = 0; i < n; i++) {
		json_t *e = json_array_get(list, i);
		const char *hex = json_string_value(json_object_get(e, "manifest"));

		if (hex == NULL || !mfs_hex_decode(m->activations[i].manifest.b, MFS_SHA256_LEN, hex, strlen(hex)))
			return mfs_fail(err, MFS_MALFORMED, "cycle: %sactivations[%zu].manifest: not 64 hex digits",
				where, i);
		if ((code = take_ns(e, where, "time_ns", &m->activations[i].time_ns, err)) != MFS_OK)
			return code;
	}
	m->n_activations = n;
	(void)json_object_del(o, "activations");
	return MFS_OK;
}

/* What is left in o after the known fields were taken, as text; NULL when nothing is. */
enum mfs_code
mfs_cycle_take_rest(json_t *o, char **out, struct mfs_err *err)
{
	size_t len;

	*out = NULL;
	if (json_object_size(o) == 0)
		return MFS_OK;
	return mfs_json_canonical(o, out, &len, err);
}

static enum mfs_code
take_outcome(json_t *o, const char *where, struct mfs_cycle_model *m, struct mfs_err *err)
{
	const char *name = json_string_value(json_object_get(o, "last_outcome"));
	json_t *detail = json_object_get(o, "last_detail");
	enum mfs_code code;

	if (name == NULL)
		return mfs_fail(err, MFS_MALFORMED, "cycle: %slast_outcome: not a string", where);
	/* An outcome that a later version added is shown as internal; the number of outcomes only grows. */
	if (!mfs_code_from_name(name, &m->last_outcome))
		m->last_outcome = MFS_INTERNAL;
	if (!json_is_string(detail))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %slast_detail: not a string", where);
	if (json_string_length(detail) > 0 && (m->last_detail = strdup(json_string_value(detail))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle");
	if ((code = mfs_cycle_take_int(o, where, "last_outcome_time", 0, &m->last_outcome_time, err)) != MFS_OK)
		return code;
	(void)json_object_del(o, "last_outcome");
	(void)json_object_del(o, "last_detail");
	return MFS_OK;
}

static enum mfs_code
take_model(json_t *o, size_t i, struct mfs_cycle *c, struct mfs_err *err)
{
	const char *id = json_string_value(json_object_get(o, "id"));
	json_t *held = json_object_get(o, "held");
	struct mfs_cycle_model *m;
	enum mfs_code code;
	char where[48];

	(void)snprintf(where, sizeof(where), "models[%zu].", i);
	if (id == NULL)
		return mfs_fail(err, MFS_MALFORMED, "cycle: %sid: not a string", where);
	code = mfs_cycle_add(c, id, &m, err);
	if (m == NULL)
		return code;
	if (!json_is_boolean(held))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %sheld: not true or false", where);
	m->held = json_is_true(held);
	(void)json_object_del(o, "id");
	(void)json_object_del(o, "held");
	if ((code = mfs_cycle_take_counter(o, where, "exposure_next", &m->exposure_next, err)) != MFS_OK ||
		(code = mfs_cycle_take_counter(o, where, "generation", &m->generation, err)) != MFS_OK ||
		(code = mfs_cycle_take_int(o, where, "active_since", 0, &m->active_since, err)) != MFS_OK ||
		(code = take_ns(o, where, "last_activation_ns", &m->last_activation_ns, err)) != MFS_OK ||
		(code = take_activations(o, where, m, err)) != MFS_OK ||
		(code = take_outcome(o, where, m, err)) != MFS_OK ||
		(code = mfs_cycle_take_update(o, where, m, err)) != MFS_OK)
		return code;
	return mfs_cycle_take_rest(o, &m->extra_json, err);
}

static bool
format_ok(const char *s)
{
	static const char prefix[] = "modelfs-cycle/1.";
	size_t n = sizeof(prefix) - 1;

	if (s == NULL || strncmp(s, prefix, n) != 0 || s[n] == '\0')
		return false;
	return strspn(s + n, "0123456789") == strlen(s + n);
}

static void
json_cleanup(json_t **v)
{
	json_decref(*v);
}

enum mfs_code
mfs_cycle_parse(struct mfs_span in, struct mfs_cycle **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_cycle) struct mfs_cycle *c = NULL;
	MFS_CLEANUP(json_cleanup) json_t *root = NULL;
	json_t *models;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_json_parse("cycle", in, MFS_STATE_BYTES_MAX, &root, err)) != MFS_OK)
		return code;
	if (!json_is_object(root))
		return mfs_fail(err, MFS_MALFORMED, "cycle: not an object");
	if (!format_ok(json_string_value(json_object_get(root, "format"))))
		return mfs_fail(err, MFS_MALFORMED, "cycle: format: not modelfs-cycle/1.x");
	(void)json_object_del(root, "format");
	models = json_object_get(root, "models");
	if (!json_is_array(models))
		return mfs_fail(err, MFS_MALFORMED, "cycle: models: not a list");
	if ((c = calloc(1, sizeof(*c))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle");
	for (size_t i = 0; i < json_array_size(models); i++)
		if ((code = take_model(json_array_get(models, i), i, c, err)) != MFS_OK)
			return code;
	(void)json_object_del(root, "models");
	if ((code = mfs_cycle_take_int(root, "", "time_floor", 0, &c->floor.time, err)) != MFS_OK ||
		(code = mfs_cycle_take_counter(root, "", "event_seq", &c->event_seq, err)) != MFS_OK ||
		(code = mfs_cycle_take_host(root, c, err)) != MFS_OK ||
		(code = mfs_cycle_take_rest(root, &c->extra_json, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&c);
	return MFS_OK;
}

/* ---- writing ------------------------------------------------------------------------------------- */

static json_t *
ns_json(int64_t ns)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRId64, ns);
	return json_string(text);
}

json_t *
mfs_cycle_rest_json(const char *extra)
{
	json_t *o = extra != NULL ? json_loads(extra, JSON_REJECT_DUPLICATES, NULL) : NULL;

	return o != NULL ? o : json_object();
}

/* json_object_set_new() takes the value also when it fails, and fails for NULL: failures add up. */
static json_t *
model_json(const struct mfs_cycle_model *m)
{
	json_t *o = mfs_cycle_rest_json(m->extra_json), *list = json_array();
	int bad = 0;

	for (size_t i = 0; i < m->n_activations; i++) {
		json_t *e = json_object();

		bad |= json_object_set_new(e, "manifest", json_string(MFS_HEX(&m->activations[i].manifest)));
		bad |= json_object_set_new(e, "time_ns", ns_json(m->activations[i].time_ns));
		bad |= json_array_append_new(list, e);
	}
	bad |= json_object_set_new(o, "id", json_string(m->id));
	bad |= json_object_set_new(o, "held", json_boolean(m->held));
	bad |= json_object_set_new(o, "exposure_next", json_integer((json_int_t)m->exposure_next));
	bad |= json_object_set_new(o, "generation", json_integer((json_int_t)m->generation));
	bad |= json_object_set_new(o, "active_since", json_integer(m->active_since));
	bad |= json_object_set_new(o, "last_activation_ns", ns_json(m->last_activation_ns));
	bad |= json_object_set_new(o, "activations", list);
	bad |= json_object_set_new(o, "last_outcome", json_string(mfs_code_name(m->last_outcome)));
	bad |= json_object_set_new(o, "last_detail", json_string(m->last_detail != NULL ? m->last_detail : ""));
	bad |= json_object_set_new(o, "last_outcome_time", json_integer(m->last_outcome_time));
	bad |= mfs_cycle_put_update(o, m);
	if (bad != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* Everything that the text of m depends on. Padding at worst makes a text anew. */
static void
model_memo(const struct mfs_cycle_model *m, struct mfs_memo *memo)
{
	struct mfs_cycle_model plain = *m;
	char **strings[MODEL_STRINGS];

	plain.activations = NULL;
	model_strings(&plain, strings);
	for (size_t i = 0; i < MODEL_STRINGS; i++) {
		mfs_memo_add_string(memo, *strings[i]);
		*strings[i] = NULL;
	}
	mfs_memo_add(memo, &plain, sizeof(plain));
	if (m->n_activations > 0)
		mfs_memo_add(memo, m->activations, m->n_activations * sizeof(*m->activations));
}

/* The text of one model: what memo has of it, or anew. *own is to be freed; NULL when memo keeps it. */
static enum mfs_code
model_text(const struct mfs_cycle_model *m, struct mfs_memo *memo, char **own, struct mfs_span *out, struct mfs_err *err)
{
	MFS_CLEANUP(json_cleanup) json_t *o = NULL;
	const char *text = NULL;
	enum mfs_code code;
	size_t len = 0;

	*own = NULL;
	if (memo != NULL) {
		model_memo(m, memo);
		text = mfs_memo_find(memo, m->id, &len);
	}
	if (text == NULL) {
		if ((o = model_json(m)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "cycle: model %s", m->id);
		if ((code = mfs_json_canonical_at(o, 2, own, &len, err)) != MFS_OK)
			return code;
		text = memo != NULL ? mfs_memo_keep(memo, m->id, mfs_steal(own), len) : *own;
		if (text == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "cycle: model %s", m->id);
	}
	*out = MFS_SPAN(text, len);
	return MFS_OK;
}

static enum mfs_code
models_text(const struct mfs_cycle *c, struct mfs_memo *memo, struct mfs_text *t, struct mfs_err *err)
{
	bool ok = mfs_text_add(t, "[", 1);

	if (memo != NULL)
		mfs_memo_begin(memo);
	for (size_t i = 0; ok && i < c->n_models; i++) {
		mfs_autofree char *own = NULL;
		struct mfs_span text = MFS_SPAN(NULL, 0);
		enum mfs_code code;

		if ((code = model_text(&c->models[i], memo, &own, &text, err)) != MFS_OK)
			return code;
		ok = mfs_text_add(t, ",", i > 0 ? 1 : 0) && mfs_text_add(t, text.p, text.len);
	}
	return ok && mfs_text_add(t, "]", 1) ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "cycle: %zu models", c->n_models);
}

enum mfs_code
mfs_cycle_json_memo(const struct mfs_cycle *c, struct mfs_memo *memo, char **out, size_t *len, struct mfs_err *err)
{
	MFS_CLEANUP(json_cleanup) json_t *root = mfs_cycle_rest_json(c->extra_json);
	struct mfs_text models = { 0 };
	enum mfs_code code;
	int bad = 0;

	*out = NULL;
	*len = 0;
	bad |= json_object_set_new(root, "format", json_string("modelfs-cycle/1.1"));
	bad |= json_object_set_new(root, "time_floor", json_integer(c->floor.time));
	bad |= json_object_set_new(root, "event_seq", json_integer((json_int_t)c->event_seq));
	bad |= mfs_cycle_put_host(root, c);
	if (bad != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle");
	if ((code = models_text(c, memo, &models, err)) == MFS_OK)
		code = mfs_json_canonical_with(root, "models", MFS_SPAN(models.p, models.len), out, len, err);
	free(models.p);
	return code;
}

enum mfs_code
mfs_cycle_json(const struct mfs_cycle *c, char **out, size_t *len, struct mfs_err *err)
{
	return mfs_cycle_json_memo(c, NULL, out, len, err);
}
