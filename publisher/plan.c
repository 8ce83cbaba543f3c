/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan is made of: policies and manifests out of a repository; and how it is printed. */
#include "plan.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "offer.h"
#include "publish.h"

static void
model_clear(struct mfs_plan_model *m)
{
	for (size_t i = 0; i < m->n_variants; i++)
		mfs_manifest_free(m->manifests[i]);
	mfs_policy_free(m->policy);
	free(m->manifests);
	free(m->first);
	free(m->taken);
	free(m->refused);
	*m = (struct mfs_plan_model){ 0 };
}

void
mfs_plan_free(struct mfs_plan *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n_models; i++)
		model_clear(&p->models[i]);
	free(p->models);
	free(p);
}

/* ---- loading -------------------------------------------------------------------------------------- */

/* The manifest that a policy's entry names; *out stays NULL when the repository does not have it. */
static enum mfs_code
manifest_load(struct mfs_repo *r, const char *model_id, const struct mfs_policy_entry *e, struct mfs_manifest **out,
	struct mfs_err *err)
{
	char role[MFS_ROLE_ROOM], path[MFS_ID_MAX + MFS_VERSION_MAX + MFS_VARIANT_MAX + 32];
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_repo_role *by;
	enum mfs_code code;
	size_t len;

	(void)snprintf(path, sizeof(path), "%s/%s/%s/manifest.json", model_id, e->version, e->variant);
	if (r == NULL || !mfs_repo_delegates(r, mfs_role_release(role, model_id)))
		return MFS_OK;
	if ((code = mfs_repo_role(r, role, &by, err)) != MFS_OK)
		return code;
	if (mfs_repo_target(by, path) == NULL)
		return MFS_OK;
	if ((code = mfs_repo_target_read(r, role, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_manifest_parse(MFS_SPAN(bytes, len), &m, err)) != MFS_OK ||
		(code = mfs_policy_entry_check(e, model_id, m, err)) != MFS_OK)
		return mfs_err_context(err, "%s: ", path);
	*out = mfs_steal(&m);
	return MFS_OK;
}

static enum mfs_code
model_fill(struct mfs_plan_model *m, struct mfs_repo *r, struct mfs_policy *policy, struct mfs_err *err)
{
	size_t n = 0;

	m->policy = policy;
	for (size_t i = 0; i < policy->n_rollouts; i++)
		n += policy->rollouts[i].n_variants;
	m->manifests = calloc(n + 1, sizeof(struct mfs_manifest *)); /* a list of pointers */
	m->first = calloc(policy->n_rollouts + 1, sizeof(*m->first));
	m->taken = calloc(n + 1, sizeof(*m->taken));
	m->refused = calloc(n + 1, sizeof(*m->refused));
	if (m->manifests == NULL || m->first == NULL || m->taken == NULL || m->refused == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "plan");
	for (size_t i = 0; i < policy->n_rollouts; i++) {
		m->first[i] = m->n_variants;
		for (size_t k = 0; k < policy->rollouts[i].n_variants; k++) {
			enum mfs_code code = manifest_load(r, policy->model_id, &policy->rollouts[i].variants[k].entry,
				&m->manifests[m->n_variants++], err);

			if (code != MFS_OK)
				return code;
		}
	}
	return MFS_OK;
}

enum mfs_code
mfs_plan_add(struct mfs_plan *p, struct mfs_repo *r, struct mfs_policy *policy, struct mfs_err *err)
{
	struct mfs_plan_model *list;

	for (size_t i = 0; i < p->n_models; i++)
		if (strcmp(p->models[i].policy->model_id, policy->model_id) == 0) {
			model_clear(&p->models[i]);
			return model_fill(&p->models[i], r, policy, err);
		}
	if ((list = reallocarray(p->models, p->n_models + 1, sizeof(*list))) == NULL) {
		mfs_policy_free(policy);
		return mfs_fail(err, MFS_NO_MEMORY, "plan");
	}
	p->models = list;
	list[p->n_models] = (struct mfs_plan_model){ 0 };
	return model_fill(&list[p->n_models++], r, policy, err);
}

static int
model_order(const void *a, const void *b)
{
	return strcmp(((const struct mfs_plan_model *)a)->policy->model_id, ((const struct mfs_plan_model *)b)->policy->model_id);
}

enum mfs_code
mfs_plan_new(struct mfs_repo *r, const char *model_id, struct mfs_plan **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_plan) struct mfs_plan *p = calloc(1, sizeof(*p));
	json_t *roles = json_object_get(json_object_get(mfs_md_signed(r->targets.doc), "delegations"), "roles");
	enum mfs_code code;

	*out = NULL;
	if (p == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "plan");
	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(roles, i), "name"));
		struct mfs_policy *policy = NULL;

		if (name == NULL || strncmp(name, "policy.", 7) != 0 || (model_id != NULL && strcmp(name + 7, model_id) != 0))
			continue;
		if ((code = mfs_offer_load(r, name + 7, &policy, err)) != MFS_OK || (code = mfs_plan_add(p, r, policy, err)) != MFS_OK)
			return code;
	}
	if (model_id != NULL && p->n_models == 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "%s: has no model %s", MFS_ESC(r->path), MFS_ESC(model_id));
	if (p->n_models > 1)
		qsort(p->models, p->n_models, sizeof(*p->models), model_order);
	*out = mfs_steal(&p);
	return MFS_OK;
}

enum mfs_code
mfs_plan_draft(struct mfs_plan *p, struct mfs_repo *r, const char *path, struct mfs_err *err)
{
	struct mfs_policy *policy = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_file_read(AT_FDCWD, path, MFS_POLICY_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_policy_parse(MFS_SPAN(bytes, len), NULL, &policy, err)) != MFS_OK)
		return mfs_err_context(err, "--policy: ");
	return mfs_plan_add(p, r, policy, err);
}

/* ---- printing ---------------------------------------------------------------------------------------- */

static void
share_print(FILE *f, uint64_t n, uint64_t of)
{
	const uint64_t share = of == 0 ? 0 : n * 10000 / of;

	(void)fprintf(f, "%12llu %6llu.%02llu %%  ", (unsigned long long)n, (unsigned long long)(share / 100),
		(unsigned long long)(share % 100));
}

static void
variant_print(FILE *f, const struct mfs_plan_model *m, const struct mfs_policy_rollout *r, size_t rollout, size_t k)
{
	const size_t at = m->first[rollout] + k;
	const struct mfs_policy_entry *e = &r->variants[k].entry;

	share_print(f, m->taken[at], m->devices);
	(void)fprintf(f, "%s (%s), release %lld: rollout %s%s\n", e->version, e->variant, (long long)e->release, r->id,
		m->manifests[at] == NULL ? "; not in the repository, so compatibility was not looked at" : "");
	if (m->refused[at] == 0)
		return;
	share_print(f, m->refused[at], m->devices);
	(void)fprintf(f, "nothing: %s (%s) does not fit: platform, labels, apps or a minimum\n", e->version, e->variant);
}

static void
model_print(FILE *f, const struct mfs_plan_model *m)
{
	const struct mfs_policy *p = m->policy;

	if (p->sequence == 0) {
		(void)fprintf(f, "%s: no policy\n", p->model_id);
		return;
	}
	(void)fprintf(f, "%s: policy %lld, %llu devices\n", p->model_id, (long long)p->sequence,
		(unsigned long long)m->devices);
	for (size_t i = 0; i < p->n_rollouts; i++)
		for (size_t k = 0; k < p->rollouts[i].n_variants; k++)
			variant_print(f, m, &p->rollouts[i], i, k);
	for (size_t i = 0; i <= MFS_WHY_MINIMUM; i++) {
		if (m->none[i] == 0)
			continue;
		share_print(f, m->none[i], m->devices);
		(void)fprintf(f, "nothing: %s\n", p->n_rollouts == 0 ? "no rollouts" : mfs_policy_why_text((enum mfs_policy_why)i));
	}
	for (size_t i = 0; i < p->n_revoked; i++)
		(void)fprintf(f, "%26s%s is revoked where it runs: %s\n", "",
			p->revoked[i].version[0] != '\0' ? p->revoked[i].version : MFS_HEX(&p->revoked[i].manifest),
			mfs_action_name(p->revoked[i].action));
	if (p->min_release > 0 || p->min_key_epoch > 0)
		(void)fprintf(f, "%26sbelow release %lld, key epoch %lld: %s where it runs\n", "", (long long)p->min_release,
			(long long)p->min_key_epoch, p->withdraw_below ? "withdrawn" : "kept");
}

void
mfs_plan_print(const struct mfs_plan *p, FILE *f)
{
	for (size_t i = 0; i < p->n_models; i++)
		model_print(f, &p->models[i]);
	if (p->n_models == 0)
		(void)fprintf(f, "no models\n");
}
