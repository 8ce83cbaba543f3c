/* SPDX-License-Identifier: Apache-2.0 */
/* Revocations: one form in policy.json and in the anchor. modelfs-policy(5), REVOCATION. */
#include "internal.h"

static const char *const actions[] = { "none", "stop", "rollback", "withdraw" };
#define N_ACTIONS (sizeof(actions) / sizeof(actions[0]))

const char *
mfs_action_name(enum mfs_action a)
{
	return (unsigned)a < N_ACTIONS ? actions[a] : actions[0];
}

bool
mfs_action_from_name(const char *s, enum mfs_action *out)
{
	for (unsigned i = MFS_ACTION_STOP; i < N_ACTIONS; i++)
		if (strcmp(s, actions[i]) == 0) {
			*out = (enum mfs_action)i;
			return true;
		}
	return false;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static enum mfs_code
version_text(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	char out[MFS_VERSION_MAX + 1], struct mfs_err *err)
{
	enum mfs_code code;
	const char *s;

	if ((code = mfs_field_string(o, at, key, need, MFS_VERSION_MAX, &s, err)) != MFS_OK || s == NULL)
		return code;
	if (!mfs_version_ok(s, strlen(s)))
		return mfs_field_bad(at, key, err, "'%s' is not a semantic version without build metadata", MFS_ESC(s));
	memcpy(out, s, strlen(s) + 1);
	return MFS_OK;
}

enum mfs_code
mfs_policy_entry_parse(const json_t *o, const struct mfs_at *at, struct mfs_policy_entry *e, struct mfs_err *err)
{
	enum mfs_code code;
	const char *variant;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = mfs_field_hex(o, at, "manifest_sha256", MFS_REQUIRED, e->manifest.b, MFS_SHA256_LEN, err)) != MFS_OK ||
		(code = version_text(o, at, "version", MFS_REQUIRED, e->version, err)) != MFS_OK ||
		(code = mfs_field_string(o, at, "variant", MFS_REQUIRED, MFS_VARIANT_MAX, &variant, err)) != MFS_OK ||
		(code = mfs_field_int(o, at, "release", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &e->release, err)) != MFS_OK)
		return code;
	if (mfs_sha256_is_zero(&e->manifest))
		return mfs_field_bad(at, "manifest_sha256", err, "all zero");
	if (!mfs_variant_ok(variant, strlen(variant)))
		return mfs_field_bad(at, "variant", err, "'%s' is not [A-Za-z0-9][A-Za-z0-9._-]*", MFS_ESC(variant));
	memcpy(e->variant, variant, strlen(variant) + 1);
	return MFS_OK;
}

/* Exactly one of manifest_sha256 and version. */
static enum mfs_code
subject_parse(const json_t *o, const struct mfs_at *at, struct mfs_revocation *r, struct mfs_err *err)
{
	const bool by_manifest = json_object_get(o, "manifest_sha256") != NULL;
	enum mfs_code code;

	if (by_manifest == (json_object_get(o, "version") != NULL))
		return mfs_field_bad(at, "", err, "names %s manifest_sha256 %s version: one of them is wanted",
			by_manifest ? "both" : "neither", by_manifest ? "and" : "nor");
	if (!by_manifest)
		return version_text(o, at, "version", MFS_REQUIRED, r->version, err);
	if ((code = mfs_field_hex(o, at, "manifest_sha256", MFS_REQUIRED, r->manifest.b, MFS_SHA256_LEN, err)) != MFS_OK)
		return code;
	return mfs_sha256_is_zero(&r->manifest) ? mfs_field_bad(at, "manifest_sha256", err, "all zero") : MFS_OK;
}

/* rollback_to and otherwise, which belong to action "rollback" alone. */
static enum mfs_code
rollback_parse(const json_t *o, const struct mfs_at *at, struct mfs_revocation *r, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "rollback_to");
	const json_t *to = json_object_get(o, "rollback_to");
	enum mfs_code code;
	const char *s;

	if (r->action != MFS_ACTION_ROLLBACK) {
		if (to != NULL || json_object_get(o, "otherwise") != NULL)
			return mfs_field_bad(at, to != NULL ? "rollback_to" : "otherwise", err,
				"surplus: only action \"rollback\" has one");
		return MFS_OK;
	}
	if ((code = mfs_field_string(o, at, "otherwise", MFS_REQUIRED, 16, &s, err)) != MFS_OK)
		return code;
	r->otherwise_withdraw = strcmp(s, "withdraw") == 0;
	if (!r->otherwise_withdraw && strcmp(s, "keep") != 0)
		return mfs_field_bad(at, "otherwise", err, "'%s' is neither \"keep\" nor \"withdraw\"", MFS_ESC(s));
	if (to == NULL)
		return MFS_OK;
	if ((code = mfs_policy_entry_parse(to, &sub, &r->rollback_to, err)) != MFS_OK)
		return code;
	if (mfs_sha256_equal(&r->rollback_to.manifest, &r->manifest) ||
		strcmp(r->rollback_to.version, r->version) == 0)
		return mfs_field_bad(at, "rollback_to", err, "the very version that is revoked");
	return MFS_OK;
}

static enum mfs_code
revocation_parse(const json_t *o, const struct mfs_at *at, struct mfs_revocation *r, struct mfs_err *err)
{
	enum mfs_code code;
	const char *s;

	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	if ((code = subject_parse(o, at, r, err)) != MFS_OK ||
		(code = mfs_field_string(o, at, "reason", MFS_REQUIRED, MFS_POLICY_TEXT_MAX, &s, err)) != MFS_OK)
		return code;
	memcpy(r->reason, s, strlen(s) + 1);
	if ((code = mfs_field_string(o, at, "action", MFS_REQUIRED, 16, &s, err)) != MFS_OK)
		return code;
	if (!mfs_action_from_name(s, &r->action))
		return mfs_field_bad(at, "action", err, "'%s' is none of stop, rollback, withdraw", MFS_ESC(s));
	return rollback_parse(o, at, r, err);
}

bool
mfs_revocation_same(const struct mfs_revocation *a, const struct mfs_revocation *b)
{
	return mfs_sha256_equal(&a->manifest, &b->manifest) && strcmp(a->version, b->version) == 0;
}

enum mfs_code
mfs_revocations_parse(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	struct mfs_revocation **out, size_t *n, struct mfs_err *err)
{
	mfs_autofree struct mfs_revocation *list = NULL;
	enum mfs_code code;
	size_t count;
	json_t *a;

	*out = NULL;
	*n = 0;
	if ((code = mfs_field_array(o, at, key, need, 0, SIZE_MAX, &a, err)) != MFS_OK || a == NULL)
		return code;
	if ((count = json_array_size(a)) == 0)
		return MFS_OK;
	if (count > MFS_REVOKED_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %s%s: %zu entries, limit %u", at->doc, at->path, key, count,
			MFS_REVOKED_MAX);
	if ((list = calloc(count, sizeof(*list))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: %zu revocations", at->doc, count);
	for (size_t i = 0; i < count; i++) {
		const struct mfs_at item = mfs_at_item(at, key, i);

		if ((code = revocation_parse(json_array_get(a, i), &item, &list[i], err)) != MFS_OK)
			return code;
		for (size_t k = 0; k < i; k++)
			if (mfs_revocation_same(&list[k], &list[i]))
				return mfs_field_bad(&item, "", err, "names the same as %s[%zu]", key, k);
	}
	*out = mfs_steal(&list);
	*n = count;
	return MFS_OK;
}

/* ---- writing --------------------------------------------------------------------------------------- */

json_t *
mfs_policy_entry_json(const struct mfs_policy_entry *e)
{
	mfs_autojson json_t *o = json_object();

	if (o == NULL || !mfs_json_set(o, "manifest_sha256", json_string(MFS_HEX(&e->manifest))) ||
		!mfs_json_set(o, "version", json_string(e->version)) ||
		!mfs_json_set(o, "variant", json_string(e->variant)) ||
		!mfs_json_set(o, "release", json_integer(e->release)))
		return NULL;
	return mfs_steal(&o);
}

static json_t *
revocation_json(const struct mfs_revocation *r)
{
	mfs_autojson json_t *o = json_object();

	if (o == NULL || !mfs_json_set(o, "action", json_string(mfs_action_name(r->action))) ||
		!mfs_json_set(o, "reason", json_string(r->reason)) ||
		(!mfs_sha256_is_zero(&r->manifest) &&
			!mfs_json_set(o, "manifest_sha256", json_string(MFS_HEX(&r->manifest)))) ||
		(r->version[0] != '\0' && !mfs_json_set(o, "version", json_string(r->version))))
		return NULL;
	if (r->action == MFS_ACTION_ROLLBACK &&
		(!mfs_json_set(o, "otherwise", json_string(r->otherwise_withdraw ? "withdraw" : "keep")) ||
			(!mfs_sha256_is_zero(&r->rollback_to.manifest) &&
				!mfs_json_set(o, "rollback_to", mfs_policy_entry_json(&r->rollback_to)))))
		return NULL;
	return mfs_steal(&o);
}

json_t *
mfs_revocations_json(const struct mfs_revocation *list, size_t n)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < n; i++)
		if (json_array_append_new(a, revocation_json(&list[i])) != 0)
			return NULL;
	return mfs_steal(&a);
}
