/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offer.h - policy.json of one model in a repository: read, changed, written; and what the command
 * line says of a rollout. Source: modelfs-policy(5).
 */
#ifndef MFS_PUB_OFFER_H
#define MFS_PUB_OFFER_H

#include "mfs_policy.h"
#include "repo.h"

struct mfs_offer_step {
	unsigned fraction;
	int64_t delay_s; /* after the first step */
};

struct mfs_offer { /* a rollout as asked for */
	const char *id;  /* NULL: made from the version */
	struct mfs_offer_step steps[MFS_STEPS_MAX];
	size_t n_steps;  /* 0: everybody at once */
	bool automatic;  /* steps take effect by time alone, without a confirmation */
	const char *const *match; /* "key=value", n_match of them; values of one key are alternatives */
	size_t n_match;
};

/* "10", "0.5", "100": percent to a fraction of 10000. false for anything else, and beyond 0.01 steps. */
bool mfs_offer_percent(const char *s, unsigned *fraction);

/* --percent N: N now, everybody once confirmed. --steps "1,10@1d,100@3d". CONFIG_INVALID */
enum mfs_code mfs_offer_percent_set(struct mfs_offer *o, const char *arg, struct mfs_err *err);
enum mfs_code mfs_offer_steps_set(struct mfs_offer *o, const char *arg, struct mfs_err *err);

/* The model's policy, or a new one. out: release with mfs_policy_free() */
enum mfs_code mfs_offer_load(struct mfs_repo *r, const char *model_id, struct mfs_policy **out, struct mfs_err *err);

/* sequence + 1, issued now (never back), and into the repository. Its commit writes it. */
enum mfs_code mfs_offer_store(struct mfs_repo *r, struct mfs_policy *p, struct mfs_err *err);

/*
 * Put a rollout of one manifest before all others. Rollouts that no device can reach any more are
 * dropped, but the last one that everybody was offered stays below as what a revocation falls back to.
 */
enum mfs_code mfs_offer_add(struct mfs_policy *p, const struct mfs_offer *o, const struct mfs_policy_entry *e, int64_t now,
	struct mfs_policy_rollout **out, struct mfs_err *err);

/*
 * The same for a manifest that is being published, and into the repository. out: may be printed once it is
 * committed; valid until the policy changes
 */
enum mfs_code mfs_offer_manifest(struct mfs_repo *r, struct mfs_policy *p, const struct mfs_offer *o,
	const struct mfs_manifest *m, const struct mfs_policy_rollout **out, struct mfs_err *err);

/* Give a rollout these steps; its salt, so its order of devices, stays. */
enum mfs_code mfs_offer_steps(struct mfs_policy_rollout *r, const struct mfs_offer *o, int64_t now, struct mfs_err *err);

/*
 * A published version as the release role has it. variant NULL: the only one, else "default".
 * errors  NOT_SELECTED (not published; names what is), POLICY_REJECTED (several variants, none named)
 */
enum mfs_code mfs_offer_entry(struct mfs_repo *r, const char *model_id, const char *version, const char *variant,
	struct mfs_policy_entry *out, struct mfs_err *err);

/* "det 1.1.0: rollout 1.1.0 to 10 % of class=x, step 1 of 2" */
void mfs_offer_print(const char *model_id, const struct mfs_policy_rollout *r, int64_t now);

#endif
