/* SPDX-License-Identifier: Apache-2.0 */
/* policy.json: modelfs-policy(5), POLICY. Every field is checked before any is used. */
#include "internal.h"

#include "mfs_policy.h"

#define DOC    "policy.json"
#define FORMAT "modelfs-policy/1"

/* ---- memory ------------------------------------------------------------------------------------- */

void
mfs_match_clear(struct mfs_match *m)
{
	for (size_t i = 0; i < m->n_keys; i++) {
		for (size_t k = 0; m->keys[i].values != NULL && m->keys[i].values[k] != NULL; k++)
			free(m->keys[i].values[k]);
		free(m->keys[i].values);
		free(m->keys[i].name);
	}
	free(m->keys);
	*m = (struct mfs_match){ 0 };
}

void
mfs_policy_rollout_clear(struct mfs_policy_rollout *r)
{
	for (size_t i = 0; i < r->n_variants; i++)
		mfs_match_clear(&r->variants[i].match);
	mfs_match_clear(&r->match);
	free(r->variants);
	free(r->steps);
	*r = (struct mfs_policy_rollout){ 0 };
}

void
mfs_policy_free(struct mfs_policy *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n_rollouts; i++)
		mfs_policy_rollout_clear(&p->rollouts[i]);
	free(p->rollouts);
	free(p->revoked);
	free(p->extra_json);
	free(p);
}

/* ---- match ---------------------------------------------------------------------------------------- */

static enum mfs_code
values_parse(const json_t *o, const struct mfs_at *at, const char *key, struct mfs_label *l, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(o, at, key, MFS_REQUIRED, 1, MFS_MATCH_VALUES_MAX, &a, err)) != MFS_OK)
		return code;
	if ((l->values = calloc(json_array_size(a) + 1, sizeof(*l->values))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < json_array_size(a); i++) {
		const struct mfs_at item = mfs_at_item(at, key, i);
		const json_t *v = json_array_get(a, i);

		if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > MFS_POLICY_TEXT_MAX)
			return mfs_field_bad(&item, "", err, "not a string of 1 to %u bytes", MFS_POLICY_TEXT_MAX);
		if ((code = mfs_strdup(json_string_value(v), &l->values[i], err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
match_parse(const json_t *o, const struct mfs_at *at, struct mfs_match *m, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "match");
	enum mfs_code code;
	json_t *keys;

	if ((code = mfs_field_object(o, at, "match", MFS_REQUIRED, &keys, err)) != MFS_OK)
		return code;
	if (json_object_size(keys) > MFS_MATCH_KEYS_MAX)
		return mfs_field_bad(at, "match", err, "%zu keys, limit %u", json_object_size(keys), MFS_MATCH_KEYS_MAX);
	if (json_object_size(keys) == 0)
		return MFS_OK;
	if ((m->keys = calloc(json_object_size(keys), sizeof(*m->keys))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (void *it = json_object_iter(keys); it != NULL; it = json_object_iter_next(keys, it)) {
		const char *name = json_object_iter_key(it);
		struct mfs_label *l = &m->keys[m->n_keys++];

		if (name[0] == '\0' || strlen(name) > MFS_POLICY_TEXT_MAX)
			return mfs_field_bad(&sub, name, err, "a key has 1 to %u bytes", MFS_POLICY_TEXT_MAX);
		if ((code = mfs_strdup(name, &l->name, err)) != MFS_OK ||
			(code = values_parse(keys, &sub, name, l, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- rollouts --------------------------------------------------------------------------------------- */

static enum mfs_code
variants_parse(const json_t *o, const struct mfs_at *at, struct mfs_policy_rollout *r, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(o, at, "variants", MFS_REQUIRED, 1, MFS_ROLLOUT_VARIANTS_MAX, &a, err)) != MFS_OK)
		return code;
	if ((r->variants = calloc(json_array_size(a), sizeof(*r->variants))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < json_array_size(a); i++) {
		const struct mfs_at item = mfs_at_item(at, "variants", i);
		const json_t *v = json_array_get(a, i);

		r->n_variants++;
		if ((code = mfs_policy_entry_parse(v, &item, &r->variants[i].entry, err)) != MFS_OK ||
			(code = match_parse(v, &item, &r->variants[i].match, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
step_parse(const json_t *o, const struct mfs_at *at, struct mfs_policy_step *s, struct mfs_err *err)
{
	enum mfs_code code;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	s->confirm = true; /* the one default of this document, and the careful one */
	if ((code = mfs_field_int(o, at, "fraction", MFS_REQUIRED, 0, MFS_FRACTION_ALL, &s->fraction, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "after", MFS_REQUIRED, 0, MFS_BUILD_TIME_MAX, &s->after, err)) != MFS_OK)
		return code;
	return mfs_field_bool(o, at, "confirm", MFS_OPTIONAL, &s->confirm, err);
}

static enum mfs_code
steps_parse(const json_t *o, const struct mfs_at *at, struct mfs_policy_rollout *r, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;

	if ((code = mfs_field_array(o, at, "steps", MFS_REQUIRED, 1, MFS_STEPS_MAX, &a, err)) != MFS_OK)
		return code;
	if ((r->steps = calloc(json_array_size(a), sizeof(*r->steps))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	r->n_steps = json_array_size(a);
	for (size_t i = 0; i < r->n_steps; i++) {
		const struct mfs_at item = mfs_at_item(at, "steps", i);

		if ((code = step_parse(json_array_get(a, i), &item, &r->steps[i], err)) != MFS_OK)
			return code;
		if (i > 0 && r->steps[i].fraction < r->steps[i - 1].fraction)
			return mfs_field_bad(&item, "fraction", err, "below that of the step before it");
		if (i > 0 && r->steps[i].after < r->steps[i - 1].after)
			return mfs_field_bad(&item, "after", err, "earlier than that of the step before it");
	}
	return mfs_field_int(o, at, "confirmed", MFS_REQUIRED, 0, (int64_t)r->n_steps, &r->confirmed, err);
}

static enum mfs_code
rollout_parse(const json_t *o, const struct mfs_at *at, struct mfs_policy_rollout *r, struct mfs_err *err)
{
	enum mfs_code code;
	const char *s;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_string(o, at, "id", MFS_REQUIRED, MFS_VARIANT_MAX, &s, err)) != MFS_OK)
		return code;
	if (!mfs_variant_ok(s, strlen(s)))
		return mfs_field_bad(at, "id", err, "'%s' is not [A-Za-z0-9][A-Za-z0-9._-]*", MFS_ESC(s));
	memcpy(r->id, s, strlen(s) + 1);
	if ((code = mfs_field_string(o, at, "salt", MFS_REQUIRED, MFS_POLICY_TEXT_MAX, &s, err)) != MFS_OK)
		return code;
	memcpy(r->salt, s, strlen(s) + 1);
	if ((code = match_parse(o, at, &r->match, err)) != MFS_OK || (code = variants_parse(o, at, r, err)) != MFS_OK)
		return code;
	return steps_parse(o, at, r, err);
}

static enum mfs_code
rollouts_parse(const json_t *root, const struct mfs_at *at, struct mfs_policy *p, struct mfs_err *err)
{
	enum mfs_code code;
	json_t *a;
	size_t n;

	if ((code = mfs_field_array(root, at, "rollouts", MFS_REQUIRED, 0, SIZE_MAX, &a, err)) != MFS_OK)
		return code;
	if ((n = json_array_size(a)) > MFS_ROLLOUTS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": rollouts: %zu entries, limit %u", n, MFS_ROLLOUTS_MAX);
	if (n > 0 && (p->rollouts = calloc(n, sizeof(*p->rollouts))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < n; i++) {
		const struct mfs_at item = mfs_at_item(at, "rollouts", i);

		p->n_rollouts++;
		if ((code = rollout_parse(json_array_get(a, i), &item, &p->rollouts[i], err)) != MFS_OK)
			return code;
		for (size_t k = 0; k < i; k++)
			if (strcmp(p->rollouts[k].id, p->rollouts[i].id) == 0)
				return mfs_field_bad(&item, "id", err, "the same as in rollouts[%zu]", k);
	}
	return MFS_OK;
}

/* ---- the document -------------------------------------------------------------------------------------- */

static const char *const known_keys[] = { "format", "model_id", "sequence", "issued", "min_release", "min_key_epoch",
	"enforce", "revoked", "rollouts", "critical", NULL };
/* The struct holds these; the rest, `critical` too, is kept as it was. */
static const char *const held_keys[] = { "format", "model_id", "sequence", "issued", "min_release", "min_key_epoch",
	"enforce", "revoked", "rollouts", NULL };

static enum mfs_code
head_parse(const json_t *root, const struct mfs_at *at, const char *model_id, struct mfs_policy *p, struct mfs_err *err)
{
	enum mfs_code code;
	const char *s;

	if ((code = mfs_field_string(root, at, "format", MFS_REQUIRED, 64, &s, err)) != MFS_OK)
		return code;
	if (strcmp(s, FORMAT) != 0)
		return mfs_field_bad(at, "format", err, "'%s' is not \"" FORMAT "\"", MFS_ESC(s));
	if ((code = mfs_field_string(root, at, "model_id", MFS_REQUIRED, MFS_ID_MAX, &s, err)) != MFS_OK)
		return code;
	if (!mfs_model_id_ok(s, strlen(s)))
		return mfs_field_bad(at, "model_id", err, "'%s' is not [A-Za-z0-9][A-Za-z0-9._-]*", MFS_ESC(s));
	if (model_id != NULL && strcmp(s, model_id) != 0)
		return mfs_field_bad(at, "model_id", err, "'%s', but '%s' is wanted here", MFS_ESC(s), MFS_ESC(model_id));
	memcpy(p->model_id, s, strlen(s) + 1);
	if ((code = mfs_field_int(root, at, "sequence", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &p->sequence, err)) != MFS_OK ||
		(code = mfs_field_int(root, at, "issued", MFS_REQUIRED, 0, MFS_BUILD_TIME_MAX, &p->issued, err)) != MFS_OK ||
		(code = mfs_field_int(root, at, "min_release", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &p->min_release, err)) !=
			MFS_OK ||
		(code = mfs_field_int(root, at, "min_key_epoch", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &p->min_key_epoch, err)) !=
			MFS_OK ||
		(code = mfs_field_string(root, at, "enforce", MFS_REQUIRED, 16, &s, err)) != MFS_OK)
		return code;
	p->withdraw_below = strcmp(s, "withdraw") == 0;
	if (!p->withdraw_below && strcmp(s, "keep") != 0)
		return mfs_field_bad(at, "enforce", err, "'%s' is neither \"keep\" nor \"withdraw\"", MFS_ESC(s));
	return MFS_OK;
}

enum mfs_code
mfs_policy_parse(struct mfs_span in, const char *model_id, struct mfs_policy **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	const struct mfs_at at = mfs_at_top(DOC);
	mfs_autojson json_t *root = NULL;
	enum mfs_code code;

	*out = NULL;
	if ((code = mfs_json_parse_canonical(DOC, in, MFS_POLICY_BYTES_MAX, &root, err)) != MFS_OK)
		return code;
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	if ((code = mfs_sha256(in, &p->sha256, err)) != MFS_OK ||
		(code = mfs_critical_check(root, &at, known_keys, err)) != MFS_OK ||
		(code = head_parse(root, &at, model_id, p, err)) != MFS_OK ||
		(code = mfs_revocations_parse(root, &at, "revoked", MFS_REQUIRED, &p->revoked, &p->n_revoked, err)) != MFS_OK ||
		(code = rollouts_parse(root, &at, p, err)) != MFS_OK)
		return code;
	if ((code = mfs_extra_take(root, held_keys, &p->extra_json, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&p);
	return MFS_OK;
}
