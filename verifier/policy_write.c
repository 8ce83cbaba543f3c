/* SPDX-License-Identifier: Apache-2.0 */
/* Making and changing a policy: the publisher's side of modelfs-policy(5). */
#include "internal.h"

#include "mfs_policy.h"

#define DOC "policy.json"

/* Room for one more element of `size` bytes at *list; the element is zero. */
static enum mfs_code
grow(void *list, size_t n, size_t size, struct mfs_err *err)
{
	void *old, *p;

	memcpy(&old, list, sizeof(old));
	if ((p = reallocarray(old, n + 1, size)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	memset((uint8_t *)p + n * size, 0, size);
	memcpy(list, &p, sizeof(p));
	return MFS_OK;
}

static enum mfs_code
text_copy(const char *what, const char *s, char *out, struct mfs_err *err)
{
	if (s[0] == '\0' || strlen(s) > MFS_POLICY_TEXT_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, DOC ": %s: %zu bytes; 1 to %u are allowed", what, strlen(s),
			MFS_POLICY_TEXT_MAX);
	memcpy(out, s, strlen(s) + 1);
	return MFS_OK;
}

enum mfs_code
mfs_policy_new(const char *model_id, struct mfs_policy **out, struct mfs_err *err)
{
	struct mfs_policy *p;

	*out = NULL;
	if (!mfs_model_id_ok(model_id, strlen(model_id)))
		return mfs_fail(err, MFS_CONFIG_INVALID, DOC ": '%s' is not a model id", MFS_ESC(model_id));
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	memcpy(p->model_id, model_id, strlen(model_id) + 1);
	*out = p;
	return MFS_OK;
}

/* ---- rollouts ------------------------------------------------------------------------------------- */

struct mfs_policy_rollout *
mfs_policy_rollout_find(const struct mfs_policy *p, const char *id)
{
	for (size_t i = 0; i < p->n_rollouts; i++)
		if (strcmp(p->rollouts[i].id, id) == 0)
			return &p->rollouts[i];
	return NULL;
}

enum mfs_code
mfs_policy_rollout_add(struct mfs_policy *p, size_t at, const char *id, const char *salt,
	struct mfs_policy_rollout **out, struct mfs_err *err)
{
	struct mfs_policy_rollout r = { 0 };
	enum mfs_code code;

	*out = NULL;
	if (!mfs_variant_ok(id, strlen(id)))
		return mfs_fail(err, MFS_CONFIG_INVALID, "rollout '%s': not a name of the form [A-Za-z0-9][A-Za-z0-9._-]*",
			MFS_ESC(id));
	if (mfs_policy_rollout_find(p, id) != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "rollout '%s' exists already", id);
	if (p->n_rollouts == MFS_ROLLOUTS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": more than %u rollouts: remove old ones", MFS_ROLLOUTS_MAX);
	memcpy(r.id, id, strlen(id) + 1);
	if ((code = text_copy("salt", salt, r.salt, err)) != MFS_OK ||
		(code = grow(&p->rollouts, p->n_rollouts, sizeof(r), err)) != MFS_OK)
		return code;
	if (at > p->n_rollouts)
		at = p->n_rollouts;
	memmove(&p->rollouts[at + 1], &p->rollouts[at], (p->n_rollouts - at) * sizeof(r));
	p->rollouts[at] = r;
	p->n_rollouts++;
	*out = &p->rollouts[at];
	return MFS_OK;
}

void
mfs_policy_rollout_remove(struct mfs_policy *p, const struct mfs_policy_rollout *r)
{
	const size_t at = (size_t)(r - p->rollouts);

	mfs_policy_rollout_clear(&p->rollouts[at]);
	memmove(&p->rollouts[at], &p->rollouts[at + 1], (p->n_rollouts - at - 1) * sizeof(*r));
	p->n_rollouts--;
}

enum mfs_code
mfs_policy_variant_add(struct mfs_policy_rollout *r, const struct mfs_policy_entry *e, struct mfs_policy_variant **out,
	struct mfs_err *err)
{
	enum mfs_code code;

	*out = NULL;
	if (r->n_variants == MFS_ROLLOUT_VARIANTS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "rollout '%s': more than %u variants", r->id, MFS_ROLLOUT_VARIANTS_MAX);
	if ((code = grow(&r->variants, r->n_variants, sizeof(**out), err)) != MFS_OK)
		return code;
	*out = &r->variants[r->n_variants++];
	(*out)->entry = *e;
	return MFS_OK;
}

enum mfs_code
mfs_policy_step_add(struct mfs_policy_rollout *r, int64_t fraction, int64_t after, bool confirm, struct mfs_err *err)
{
	enum mfs_code code;

	if (r->n_steps == MFS_STEPS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "rollout '%s': more than %u steps", r->id, MFS_STEPS_MAX);
	if ((code = grow(&r->steps, r->n_steps, sizeof(*r->steps), err)) != MFS_OK)
		return code;
	r->steps[r->n_steps++] = (struct mfs_policy_step){ fraction, after, confirm };
	return MFS_OK;
}

void
mfs_policy_steps_clear(struct mfs_policy_rollout *r)
{
	r->n_steps = 0;
	r->confirmed = 0;
}

/* ---- match ------------------------------------------------------------------------------------------- */

static enum mfs_code
match_key(struct mfs_match *m, const char *key, struct mfs_label **out, struct mfs_err *err)
{
	enum mfs_code code;
	char *name;

	for (size_t i = 0; i < m->n_keys; i++)
		if (strcmp(m->keys[i].name, key) == 0) {
			*out = &m->keys[i];
			return MFS_OK;
		}
	if (m->n_keys == MFS_MATCH_KEYS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "match: more than %u keys", MFS_MATCH_KEYS_MAX);
	if ((code = grow(&m->keys, m->n_keys, sizeof(**out), err)) != MFS_OK || (code = mfs_strdup(key, &name, err)) != MFS_OK)
		return code;
	*out = &m->keys[m->n_keys++];
	(*out)->name = name;
	return MFS_OK;
}

enum mfs_code
mfs_match_add(struct mfs_match *m, const char *key, const char *value, struct mfs_err *err)
{
	char text[MFS_POLICY_TEXT_MAX + 1];
	struct mfs_label *l = NULL;
	enum mfs_code code;
	char **p, *copy;
	size_t n = 0;

	if ((code = text_copy("match: key", key, text, err)) != MFS_OK ||
		(code = text_copy("match: value", value, text, err)) != MFS_OK || (code = match_key(m, key, &l, err)) != MFS_OK)
		return code;
	for (; l->values != NULL && l->values[n] != NULL; n++)
		if (strcmp(l->values[n], value) == 0)
			return MFS_OK;
	if (n == MFS_MATCH_VALUES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "match: key '%s': more than %u values", MFS_ESC(key), MFS_MATCH_VALUES_MAX);
	if ((code = mfs_strdup(value, &copy, err)) != MFS_OK)
		return code;
	if ((p = reallocarray(l->values, n + 2, sizeof(*p))) == NULL) {
		free(copy);
		return mfs_fail(err, MFS_NO_MEMORY, "match");
	}
	p[n] = copy;
	p[n + 1] = NULL;
	l->values = p;
	return MFS_OK;
}

/* ---- revocations -------------------------------------------------------------------------------------- */

enum mfs_code
mfs_policy_revoke(struct mfs_policy *p, const struct mfs_revocation *r, struct mfs_err *err)
{
	enum mfs_code code;

	if (mfs_sha256_is_zero(&r->manifest) == (r->version[0] == '\0'))
		return mfs_fail(err, MFS_INTERNAL, "revocation: by manifest or by version: exactly one of them");
	for (size_t i = 0; i < p->n_revoked; i++)
		if (mfs_revocation_same(&p->revoked[i], r)) {
			p->revoked[i] = *r;
			return MFS_OK;
		}
	if (p->n_revoked == MFS_REVOKED_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED,
			DOC ": more than %u revocations: raise min_release above what is long gone, and lift theirs", MFS_REVOKED_MAX);
	if ((code = grow(&p->revoked, p->n_revoked, sizeof(*r), err)) != MFS_OK)
		return code;
	p->revoked[p->n_revoked++] = *r;
	return MFS_OK;
}

size_t
mfs_policy_unrevoke(struct mfs_policy *p, const struct mfs_sha256 *manifest, const char *version)
{
	size_t kept = 0, before = p->n_revoked;

	for (size_t i = 0; i < before; i++) {
		const struct mfs_revocation *r = &p->revoked[i];

		if ((manifest != NULL && !mfs_sha256_is_zero(&r->manifest) && mfs_sha256_equal(&r->manifest, manifest)) ||
			(version != NULL && r->version[0] != '\0' && strcmp(r->version, version) == 0))
			continue;
		p->revoked[kept++] = p->revoked[i];
	}
	p->n_revoked = kept;
	return before - kept;
}

/* ---- JSON ------------------------------------------------------------------------------------------------ */

static json_t *
match_json(const struct mfs_match *m)
{
	mfs_autojson json_t *o = json_object();

	for (size_t i = 0; o != NULL && i < m->n_keys; i++) {
		mfs_autojson json_t *a = json_array();

		for (size_t k = 0; a != NULL && m->keys[i].values[k] != NULL; k++)
			if (json_array_append_new(a, json_string(m->keys[i].values[k])) != 0)
				return NULL;
		if (a == NULL || json_object_set(o, m->keys[i].name, a) != 0)
			return NULL;
	}
	return mfs_steal(&o);
}

static json_t *
variants_json(const struct mfs_policy_rollout *r)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < r->n_variants; i++) {
		mfs_autojson json_t *o = mfs_policy_entry_json(&r->variants[i].entry);

		if (o == NULL || !mfs_json_set(o, "match", match_json(&r->variants[i].match)) || json_array_append(a, o) != 0)
			return NULL;
	}
	return mfs_steal(&a);
}

static json_t *
steps_json(const struct mfs_policy_rollout *r)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < r->n_steps; i++) {
		mfs_autojson json_t *o = json_object();

		if (o == NULL || !mfs_json_set(o, "fraction", json_integer(r->steps[i].fraction)) ||
			!mfs_json_set(o, "after", json_integer(r->steps[i].after)) ||
			!mfs_json_set(o, "confirm", json_boolean(r->steps[i].confirm)) || json_array_append(a, o) != 0)
			return NULL;
	}
	return mfs_steal(&a);
}

static json_t *
rollouts_json(const struct mfs_policy *p)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < p->n_rollouts; i++) {
		const struct mfs_policy_rollout *r = &p->rollouts[i];
		mfs_autojson json_t *o = json_object();

		if (o == NULL || !mfs_json_set(o, "id", json_string(r->id)) ||
			!mfs_json_set(o, "salt", json_string(r->salt)) || !mfs_json_set(o, "match", match_json(&r->match)) ||
			!mfs_json_set(o, "variants", variants_json(r)) || !mfs_json_set(o, "steps", steps_json(r)) ||
			!mfs_json_set(o, "confirmed", json_integer(r->confirmed)) || json_array_append(a, o) != 0)
			return NULL;
	}
	return mfs_steal(&a);
}

enum mfs_code
mfs_policy_json(const struct mfs_policy *p, char **out, size_t *len, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *again = NULL;
	mfs_autojson json_t *o = NULL;
	mfs_autofree char *text = NULL;
	enum mfs_code code;
	size_t n;

	*out = NULL;
	*len = 0;
	if ((code = mfs_text_json(DOC ": unknown fields", p->extra_json, &o, err)) != MFS_OK)
		return code;
	if (!mfs_json_set(o, "format", json_string("modelfs-policy/1")) ||
		!mfs_json_set(o, "model_id", json_string(p->model_id)) ||
		!mfs_json_set(o, "sequence", json_integer(p->sequence)) ||
		!mfs_json_set(o, "issued", json_integer(p->issued)) ||
		!mfs_json_set(o, "min_release", json_integer(p->min_release)) ||
		!mfs_json_set(o, "min_key_epoch", json_integer(p->min_key_epoch)) ||
		!mfs_json_set(o, "enforce", json_string(p->withdraw_below ? "withdraw" : "keep")) ||
		!mfs_json_set(o, "revoked", mfs_revocations_json(p->revoked, p->n_revoked)) ||
		!mfs_json_set(o, "rollouts", rollouts_json(p)))
		return mfs_fail(err, MFS_NO_MEMORY, DOC ": or text that is not UTF-8");
	if ((code = mfs_json_canonical(o, &text, &n, err)) != MFS_OK ||
		(code = mfs_policy_parse(MFS_SPAN(text, n), p->model_id, &again, err)) != MFS_OK)
		return code;
	*len = n;
	*out = mfs_steal(&text);
	return MFS_OK;
}
