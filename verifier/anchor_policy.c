/* SPDX-License-Identifier: Apache-2.0 */
/* The anchor's parts that come from a repository: policy per model, TUF versions. modelfs-state(5), ANCHOR. */
#include "internal.h"

#include "mfs_policy.h"

#define DOC "anchor"

/* ---- the policy part of a model ------------------------------------------------------------------- */

void
mfs_anchor_high_raise(struct mfs_anchor_model *m, int64_t epoch, int64_t release)
{
	if (epoch == 0 && release == 0)
		return;
	if (epoch == 0)
		epoch = 1; /* the first epoch there is */
	if (mfs_release_compare(epoch, release, m->high_epoch, m->high_release) > 0) {
		m->high_epoch = epoch;
		m->high_release = release;
	}
}

static bool
listed(const struct mfs_anchor_model *m, const struct mfs_sha256 *manifest)
{
	for (size_t i = 0; i < m->n_revoked; i++)
		if (mfs_sha256_equal(&m->revoked[i].manifest, manifest))
			return true;
	return false;
}

/*
 * `revoked` beside the policy part: manifests alone, the form of minor version 0. What only it
 * names stays revoked: a version that may be running is stopped, not taken away.
 */
static enum mfs_code
revoked_parse(const json_t *o, const struct mfs_at *at, struct mfs_anchor_model *m, struct mfs_err *err)
{
	mfs_autofree struct mfs_sha256 *plain = NULL;
	struct mfs_revocation *p;
	enum mfs_code code;
	size_t n;

	if ((code = mfs_field_sha256_list(o, at, "revoked", MFS_REQUIRED, 0, MFS_REVOKED_MAX, &plain, &n, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < n; i++) {
		if (listed(m, &plain[i]))
			continue;
		if (m->n_revoked == MFS_REVOKED_MAX)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": %srevoked: more than %u entries", at->path,
				MFS_REVOKED_MAX);
		if ((p = reallocarray(m->revoked, m->n_revoked + 1, sizeof(*p))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, DOC);
		m->revoked = p;
		p[m->n_revoked++] = (struct mfs_revocation){ .manifest = plain[i], .action = MFS_ACTION_STOP,
			.reason = "revoked" };
	}
	return MFS_OK;
}

static enum mfs_code
high_parse(const json_t *policy, const struct mfs_at *at, struct mfs_anchor_model *m, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "highest_minimum");
	enum mfs_code code;
	json_t *o;

	if ((code = mfs_field_object(policy, at, "highest_minimum", MFS_OPTIONAL, &o, err)) != MFS_OK || o == NULL)
		return code;
	if ((code = mfs_field_int(o, &sub, "key_epoch", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &m->high_epoch, err)) != MFS_OK)
		return code;
	return mfs_field_int(o, &sub, "release", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &m->high_release, err);
}

static enum mfs_code
policy_parse(const json_t *o, const struct mfs_at *model, struct mfs_anchor_model *m, struct mfs_err *err)
{
	static const char *const keys[] = { "sequence", "sha256", "issued", "enforce", "revoked", "highest_minimum", NULL };
	const struct mfs_at at = mfs_at_object(model, "policy");
	enum mfs_code code;
	const char *s;
	json_t *p;

	if ((code = mfs_field_object(o, model, "policy", MFS_OPTIONAL, &p, err)) != MFS_OK || p == NULL)
		return code;
	if ((code = mfs_field_int(p, &at, "sequence", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &m->policy_sequence, err)) !=
			MFS_OK ||
		(code = mfs_field_hex(p, &at, "sha256", MFS_REQUIRED, m->policy_sha256.b, MFS_SHA256_LEN, err)) != MFS_OK ||
		(code = mfs_field_int(p, &at, "issued", MFS_REQUIRED, 0, MFS_BUILD_TIME_MAX, &m->policy_issued, err)) !=
			MFS_OK ||
		(code = mfs_field_string(p, &at, "enforce", MFS_REQUIRED, 16, &s, err)) != MFS_OK)
		return code;
	m->withdraw_below = strcmp(s, "withdraw") == 0;
	if (!m->withdraw_below && strcmp(s, "keep") != 0)
		return mfs_field_bad(&at, "enforce", err, "'%s' is neither \"keep\" nor \"withdraw\"", MFS_ESC(s));
	if ((code = high_parse(p, &at, m, err)) != MFS_OK ||
		(code = mfs_revocations_parse(p, &at, "revoked", MFS_REQUIRED, &m->revoked, &m->n_revoked, err)) != MFS_OK)
		return code;
	return mfs_extra_take(p, keys, &m->policy_extra_json, err);
}

enum mfs_code
mfs_anchor_policy_parse(const json_t *o, const struct mfs_at *at, struct mfs_anchor_model *m, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_field_int(o, at, "min_release", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &m->min_release, err)) !=
			MFS_OK ||
		(code = mfs_field_int(o, at, "min_key_epoch", MFS_REQUIRED, 0, MFS_JSON_INT_MAX, &m->min_key_epoch, err)) !=
			MFS_OK ||
		(code = policy_parse(o, at, m, err)) != MFS_OK || (code = revoked_parse(o, at, m, err)) != MFS_OK)
		return code;
	mfs_anchor_high_raise(m, m->min_key_epoch, m->min_release);
	return MFS_OK;
}

static json_t *
revoked_json(const struct mfs_anchor_model *m)
{
	mfs_autojson json_t *a = json_array();

	for (size_t i = 0; a != NULL && i < m->n_revoked; i++)
		if (!mfs_sha256_is_zero(&m->revoked[i].manifest) &&
			json_array_append_new(a, json_string(MFS_HEX(&m->revoked[i].manifest))) != 0)
			return NULL;
	return mfs_steal(&a);
}

static bool
policy_set(json_t *p, const struct mfs_anchor_model *m)
{
	mfs_autojson json_t *high = json_object();

	return high != NULL && mfs_json_set(p, "sequence", json_integer(m->policy_sequence)) &&
		mfs_json_set(p, "sha256", json_string(MFS_HEX(&m->policy_sha256))) &&
		mfs_json_set(p, "issued", json_integer(m->policy_issued)) &&
		mfs_json_set(p, "enforce", json_string(m->withdraw_below ? "withdraw" : "keep")) &&
		mfs_json_set(p, "revoked", mfs_revocations_json(m->revoked, m->n_revoked)) &&
		(m->high_epoch == 0 || (mfs_json_set(high, "key_epoch", json_integer(m->high_epoch)) &&
					       mfs_json_set(high, "release", json_integer(m->high_release)) &&
					       json_object_set(p, "highest_minimum", high) == 0));
}

/* A model that never had a policy keeps the form of minor version 0. */
static bool
has_policy(const struct mfs_anchor_model *m)
{
	return m->policy_sequence != 0 || m->n_revoked != 0 || m->high_epoch != 0 || m->withdraw_below ||
		m->policy_extra_json != NULL;
}

enum mfs_code
mfs_anchor_policy_json(const struct mfs_anchor_model *m, json_t *o, struct mfs_err *err)
{
	mfs_autojson json_t *p = NULL;
	enum mfs_code code;

	for (size_t i = 0; i < m->n_revoked; i++) {
		const struct mfs_revocation *r = &m->revoked[i];

		if (r->action == MFS_ACTION_NONE || r->reason[0] == '\0' ||
			mfs_sha256_is_zero(&r->manifest) == (r->version[0] == '\0'))
			return mfs_fail(err, MFS_INTERNAL, DOC ": model %s: revocation %zu is incomplete", m->id, i);
	}
	if ((code = mfs_text_json(DOC ": policy", m->policy_extra_json, &p, err)) != MFS_OK)
		return code;
	if (!mfs_json_set(o, "min_release", json_integer(m->min_release)) ||
		!mfs_json_set(o, "min_key_epoch", json_integer(m->min_key_epoch)) ||
		!mfs_json_set(o, "revoked", revoked_json(m)) ||
		(has_policy(m) && (!policy_set(p, m) || json_object_set(o, "policy", p) != 0)))
		return mfs_fail(err, MFS_NO_MEMORY, DOC ": model %s", m->id);
	return MFS_OK;
}

/* ---- repositories ------------------------------------------------------------------------------------ */

void
mfs_anchor_repo_clear(struct mfs_anchor_repo *r)
{
	free(r->trust_json);
	free(r->extra_json);
	*r = (struct mfs_anchor_repo){ 0 };
}

static enum mfs_code
role_parse(const json_t *o, const struct mfs_at *at, const char *key, struct mfs_anchor_role *role, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, key);
	enum mfs_code code;
	json_t *r;

	if ((code = mfs_field_object(o, at, key, MFS_OPTIONAL, &r, err)) != MFS_OK || r == NULL)
		return code;
	if ((code = mfs_field_int(r, &sub, "version", MFS_REQUIRED, 1, MFS_JSON_INT_MAX, &role->version, err)) != MFS_OK)
		return code;
	return mfs_field_hex(r, &sub, "sha256", MFS_REQUIRED, role->sha256.b, MFS_SHA256_LEN, err);
}

static enum mfs_code
repo_parse(const char *name, const json_t *o, const struct mfs_at *at, struct mfs_anchor_repo *r, struct mfs_err *err)
{
	static const char *const keys[] = { "root", "snapshot", "targets", "trust", NULL };
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *trust = NULL;
	enum mfs_code code;
	json_t *list;

	if (!mfs_model_id_ok(name, strlen(name)))
		return mfs_field_bad(at, "", err, "not a repository's name");
	if (!json_is_object(o))
		return mfs_field_bad(at, "", err, "not an object");
	memcpy(r->name, name, strlen(name) + 1);
	if ((code = role_parse(o, at, "root", &r->root, err)) != MFS_OK ||
		(code = role_parse(o, at, "snapshot", &r->snapshot, err)) != MFS_OK ||
		(code = role_parse(o, at, "targets", &r->targets, err)) != MFS_OK ||
		(code = mfs_field_array(o, at, "trust", MFS_OPTIONAL, 0, MFS_TRUST_KEYS_MAX, &list, err)) != MFS_OK ||
		(code = mfs_field_text(o, at, "trust", &r->trust_json, err)) != MFS_OK)
		return code;
	if (r->trust_json != NULL && (code = mfs_trustlist_parse(MFS_SPAN(r->trust_json, strlen(r->trust_json)), &trust,
					      err)) != MFS_OK)
		return mfs_err_context(err, DOC ": %s", at->path);
	return mfs_extra_take(o, keys, &r->extra_json, err);
}

static int
repo_order(const void *a, const void *b)
{
	return strcmp(((const struct mfs_anchor_repo *)a)->name, ((const struct mfs_anchor_repo *)b)->name);
}

enum mfs_code
mfs_anchor_repos_parse(const json_t *root, const struct mfs_at *at, struct mfs_anchor *a, struct mfs_err *err)
{
	const struct mfs_at sub = mfs_at_object(at, "repositories");
	enum mfs_code code;
	json_t *repos;

	if ((code = mfs_field_object(root, at, "repositories", MFS_OPTIONAL, &repos, err)) != MFS_OK || repos == NULL)
		return code;
	if (json_object_size(repos) > MFS_REPOS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": repositories: %zu, limit %u", json_object_size(repos),
			MFS_REPOS_MAX);
	if (json_object_size(repos) == 0)
		return MFS_OK;
	if ((a->repos = calloc(json_object_size(repos), sizeof(*a->repos))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (void *it = json_object_iter(repos); it != NULL; it = json_object_iter_next(repos, it)) {
		const char *name = json_object_iter_key(it);
		const struct mfs_at place = mfs_at_object(&sub, name);

		if ((code = repo_parse(name, json_object_iter_value(it), &place, &a->repos[a->n_repos++], err)) != MFS_OK)
			return code;
	}
	qsort(a->repos, a->n_repos, sizeof(*a->repos), repo_order);
	return MFS_OK;
}

static bool
role_set(json_t *o, const char *key, const struct mfs_anchor_role *role)
{
	mfs_autojson json_t *r = NULL;

	if (role->version == 0)
		return true;
	r = json_object();
	return r != NULL && mfs_json_set(r, "version", json_integer(role->version)) &&
		mfs_json_set(r, "sha256", json_string(MFS_HEX(&role->sha256))) && json_object_set(o, key, r) == 0;
}

static enum mfs_code
repo_json(const struct mfs_anchor_repo *r, json_t **out, struct mfs_err *err)
{
	mfs_autojson json_t *o = NULL;
	json_t *trust = NULL;
	enum mfs_code code;

	if ((code = mfs_text_json(DOC ": unknown fields", r->extra_json, &o, err)) != MFS_OK)
		return code;
	if (r->trust_json != NULL &&
		(code = mfs_json_parse_array("trust.json", MFS_SPAN(r->trust_json, strlen(r->trust_json)),
			 MFS_TRUSTLIST_BYTES_MAX, &trust, err)) != MFS_OK)
		return mfs_err_context(err, DOC ": repository %s: ", r->name);
	if ((trust != NULL && !mfs_json_set(o, "trust", trust)) || !role_set(o, "root", &r->root) ||
		!role_set(o, "snapshot", &r->snapshot) || !role_set(o, "targets", &r->targets))
		return mfs_fail(err, MFS_NO_MEMORY, DOC ": repository %s", r->name);
	*out = mfs_steal(&o);
	return MFS_OK;
}

enum mfs_code
mfs_anchor_repos_json(const struct mfs_anchor *a, json_t *root, struct mfs_err *err)
{
	mfs_autojson json_t *repos = NULL;
	enum mfs_code code;

	if (a->n_repos == 0)
		return MFS_OK;
	if (a->n_repos > MFS_REPOS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": %zu repositories, limit %u", a->n_repos, MFS_REPOS_MAX);
	if ((repos = json_object()) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	for (size_t i = 0; i < a->n_repos; i++) {
		json_t *o = NULL;

		if ((code = repo_json(&a->repos[i], &o, err)) != MFS_OK)
			return code;
		if (!mfs_json_set(repos, a->repos[i].name, o))
			return mfs_fail(err, MFS_NO_MEMORY, DOC);
	}
	return json_object_set(root, "repositories", repos) == 0 ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, DOC);
}

struct mfs_anchor_repo *
mfs_anchor_repo_find(const struct mfs_anchor *a, const char *name)
{
	for (size_t i = 0; i < a->n_repos; i++)
		if (strcmp(a->repos[i].name, name) == 0)
			return &a->repos[i];
	return NULL;
}

enum mfs_code
mfs_anchor_repo_add(struct mfs_anchor *a, const char *name, struct mfs_anchor_repo **out, struct mfs_err *err)
{
	struct mfs_anchor_repo *p;
	size_t at = 0;

	if ((*out = mfs_anchor_repo_find(a, name)) != NULL)
		return MFS_OK;
	if (!mfs_model_id_ok(name, strlen(name)))
		return mfs_fail(err, MFS_INTERNAL, DOC ": '%s' is not a repository's name", MFS_ESC(name));
	if (a->n_repos == MFS_REPOS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, DOC ": more than %u repositories", MFS_REPOS_MAX);
	if ((p = reallocarray(a->repos, a->n_repos + 1, sizeof(*p))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, DOC);
	a->repos = p;
	while (at < a->n_repos && strcmp(p[at].name, name) < 0)
		at++;
	memmove(&p[at + 1], &p[at], (a->n_repos - at) * sizeof(*p));
	p[at] = (struct mfs_anchor_repo){ 0 };
	memcpy(p[at].name, name, strlen(name) + 1);
	a->n_repos++;
	*out = &p[at];
	return MFS_OK;
}
