/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - which devices of an inventory would get what from a repository's policies: the very
 * function that devices ask, over as many of them as there are, on several threads.
 */
#ifndef MFS_PUB_PLAN_H
#define MFS_PUB_PLAN_H

#include <stdio.h>

#include "inventory.h"
#include "repo.h"

struct mfs_plan_model {
	struct mfs_policy *policy;
	struct mfs_manifest **manifests; /* of each variant, rollout by rollout; NULL: not in the repository */
	size_t *first;                   /* of each rollout's variants in manifests */
	size_t n_variants;
	/* Counted by mfs_plan_run(): */
	uint64_t devices;
	uint64_t *taken, *refused;        /* devices by variant; refused: compatibility or a minimum forbids it */
	uint64_t none[MFS_WHY_MINIMUM + 1]; /* devices that no rollout includes, by enum mfs_policy_why */
};

struct mfs_plan {
	struct mfs_plan_model *models;
	size_t n_models;
	uint64_t devices, twice; /* lines; ids that occur more than once */
};

/* Policies of a repository, of one model if model_id is not NULL. errors those of mfs_repo_target_read(), NOT_SELECTED */
enum mfs_code mfs_plan_new(struct mfs_repo *r, const char *model_id, struct mfs_plan **out, struct mfs_err *err);
/*
 * A policy that is not published yet (policy.json in a file) in place of the repository's.
 * errors  those of mfs_policy_parse(), IO
 */
enum mfs_code mfs_plan_draft(struct mfs_plan *p, struct mfs_repo *r, const char *path, struct mfs_err *err);
/* A policy, which the plan owns then, in place of one for the same model. r NULL: its manifests are not looked at. */
enum mfs_code mfs_plan_add(struct mfs_plan *p, struct mfs_repo *r, struct mfs_policy *policy, struct mfs_err *err);
void mfs_plan_free(struct mfs_plan *p);
MFS_DEFINE_CLEANUP(plan, struct mfs_plan, mfs_plan_free)

/*
 * Ask every policy for every device.
 *
 * now      seconds since the epoch
 * threads  1 or more
 * list     NULL, or gets a line for each device and model, in the inventory's order: id, model, version,
 *          variant, release, rollout, bucket; or id, model, "-", why; with tabs
 * errors   those of the inventory; the message names the line
 */
enum mfs_code mfs_plan_run(struct mfs_plan *p, struct mfs_inventory *v, int64_t now, unsigned threads, FILE *list,
	struct mfs_err *err);

/* Counts and shares, model by model. */
void mfs_plan_print(const struct mfs_plan *p, FILE *f);

#endif
