/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mfs_policy.h - policy.json and trust.json: what a publisher wants run where, and which keys may
 * sign models. Pure like mfs_verify.h: bytes, time and prior state in; verdict and new state out.
 *
 * The way of a policy on a device:
 *
 *	bytes from TUF -> mfs_policy_parse -> mfs_policy_accept (against the anchor: new, same, rollback)
 *	-> mfs_anchor_policy_set, anchor written -> mfs_decide_enforce (the active version: keep, switch,
 *	withdraw, fetch) -> pin and hold -> mfs_policy_select (a variant of a rollout, or why none)
 *	-> manifest fetched -> mfs_policy_entry_check -> mfs_decide_install or mfs_decide_rollback_to
 *
 * The structs are public and mutable, so that a publisher's tool can edit a policy: parse or
 * mfs_policy_new, change fields, add and remove with the helpers, mfs_policy_json. A struct is for
 * one thread while it changes, for any number after that.
 *
 * Source of the formats: modelfs-policy(5).
 */
#ifndef MFS_POLICY_H
#define MFS_POLICY_H

#include "mfs_verify.h"

/* ---- the document ------------------------------------------------------------------------------ */

#define MFS_FRACTION_ALL 10000u /* a step's fraction for every device; 1 is 0.01 % */

/*
 * Conditions on a device: every key must hold, each by one of its values. Keys are id, class,
 * region, channel (device_id, device_class, device_region and device_channel say the same),
 * app.NAME, else a label. A value of app.NAME is a version, or comparisons that must all hold
 * (">=3.2.0 <4.0.0"). What the device does not know matches nothing and never invalidates.
 */
struct mfs_match {
	struct mfs_label *keys; size_t n_keys; /* none: every device */
};

struct mfs_policy_variant {
	struct mfs_policy_entry entry; /* the manifest and the names that it must carry */
	struct mfs_match match;        /* of several that match the first that is not revoked is meant */
};

struct mfs_policy_step { /* steps count from 1 */
	int64_t fraction; /* 0 to MFS_FRACTION_ALL; never less than the step's before it */
	int64_t after;    /* seconds since the epoch; not earlier than the step's before it */
	bool confirm;     /* takes effect only once mfs_policy_rollout.confirmed has reached it */
};

struct mfs_policy_rollout {
	char id[MFS_VARIANT_MAX + 1];      /* like a variant's name; unique in the policy */
	char salt[MFS_POLICY_TEXT_MAX + 1]; /* of the buckets; stays for the life of the rollout */
	struct mfs_match match;
	struct mfs_policy_variant *variants; size_t n_variants; /* at least 1 */
	struct mfs_policy_step *steps; size_t n_steps;          /* at least 1 */
	int64_t confirmed; /* steps confirmed so far, 0 to n_steps */
};

struct mfs_policy {
	struct mfs_sha256 sha256; /* of the bytes it was parsed from; zero for a new one */
	char model_id[MFS_ID_MAX + 1];
	int64_t sequence; /* 1 to 2^53-1; every change takes a higher one */
	int64_t issued;   /* seconds since the epoch */
	int64_t min_release, min_key_epoch; /* 0 without */
	bool withdraw_below; /* enforce is "withdraw": an active version below a minimum is withdrawn */
	struct mfs_revocation *revoked; size_t n_revoked;
	struct mfs_policy_rollout *rollouts; size_t n_rollouts; /* in order of precedence */
	char *extra_json; /* members at the top that this reader does not know, kept for the writer; NULL without */
};

/*
 * Parse and check a policy. The caller has verified the TUF hash over the same bytes first.
 *
 * in        untrusted bytes, borrowed
 * model_id  that the policy must carry: of the TUF path and the configuration; NULL takes any
 * out       NULL on failure; release with mfs_policy_free()
 * fields    every one is required but revoked[].rollback_to (only with action "rollback"),
 *           revoked[].otherwise (required there, refused elsewhere), steps[].confirm (true) and
 *           critical; unknown ones are ignored unless critical names them
 * errors    LIMIT_EXCEEDED, MALFORMED (names the field: "rollouts[2].steps[0].fraction"), NO_MEMORY
 * threads   any
 * source    modelfs-policy(5), POLICY
 */
enum mfs_code mfs_policy_parse(struct mfs_span in, const char *model_id, struct mfs_policy **out,
	struct mfs_err *err);
void mfs_policy_free(struct mfs_policy *p);
MFS_DEFINE_CLEANUP(policy, struct mfs_policy, mfs_policy_free)

/* ---- trusted state -------------------------------------------------------------------------------- */

enum mfs_policy_news { MFS_POLICY_NEW, MFS_POLICY_SAME /* the bytes that are in force already */ };

/*
 * May this policy take the place of the one in force?
 *
 * st      the model's record; NULL on first contact
 * p       as parsed now; NULL when the repository has none
 * errors  ROLLBACK_ATTEMPT (a lower sequence, or the same with other bytes), POLICY_REJECTED (p NULL
 *         although one is in force: it vanished), CONFIG_INVALID (another model_id than the record's).
 *         Whatever the error, as with one that does not parse: the last one stays in force and
 *         nothing new may be activated until a good one is back.
 * source  modelfs-policy(5), SEQUENCE
 */
enum mfs_code mfs_policy_accept(const struct mfs_anchor_model *st, const struct mfs_policy *p,
	enum mfs_policy_news *news, struct mfs_err *err);

/*
 * Make an accepted policy the one in force in st: sequence, hash, issued, enforce, minima,
 * revocations; raises the highest minimum seen. On failure (NO_MEMORY) st is as it was.
 */
enum mfs_code mfs_anchor_policy_set(struct mfs_anchor_model *st, const struct mfs_policy *p, struct mfs_err *err);

/*
 * What an accepted policy forbids, added to what st forbids already, for when the policy itself cannot be written
 * down: its revocations join those in force (of two that name the same the severer one), its minimum counts
 * where it withdraws or is the higher one, the highest minimum seen rises. Nothing is lifted, and sequence, hash and
 * issued stay those of the policy that is written down, so that the same policy is news again. On failure
 * (NO_MEMORY) st is as it was.
 */
enum mfs_code mfs_anchor_policy_tighten(struct mfs_anchor_model *st, const struct mfs_policy *p, struct mfs_err *err);

/* ---- verdicts over what a device has ---------------------------------------------------------------- */

struct mfs_verdict {
	enum mfs_action action; /* NONE: nothing against it */
	enum mfs_code why;      /* MFS_OK, MFS_REVOKED, or MFS_POLICY_REJECTED for one below a minimum */
	const char *reason;     /* of the revocation, untrusted text; NULL without. Borrowed, as the next */
	const struct mfs_policy_entry *rollback_to; /* action ROLLBACK only; NULL without */
	bool otherwise_withdraw; /* action ROLLBACK with nothing to go back to: withdraw, else keep */
};

/*
 * What a list of revocations (of a policy or of the anchor) says of one manifest. The severest of
 * all entries that name it: withdraw before rollback before stop; among equals the one that names
 * the manifest, then the first.
 */
void mfs_revocation_find(const struct mfs_revocation *list, size_t n, const struct mfs_sha256 *manifest,
	const char *version, struct mfs_verdict *out);

/*
 * The same of a version that this host knows, with the minima of the policy in force: below one,
 * action is WITHDRAW if the policy says so, else STOP. Nothing is ever condemned by this.
 */
void mfs_policy_verdict(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_verdict *out);

enum mfs_enforce {
	MFS_ENFORCE_KEEP,     /* nothing to change; also action STOP where active */
	MFS_ENFORCE_SWITCH,   /* go to *to, which is kept on this host */
	MFS_ENFORCE_WITHDRAW, /* no active version */
};

struct mfs_enforcement {
	enum mfs_enforce now;
	const struct mfs_vref *to;            /* for SWITCH; borrowed from st */
	const struct mfs_policy_entry *fetch; /* a rollback_to that is wanted and not here: fetch it, then ask
					       * mfs_decide_rollback_to; NULL without. Borrowed from st */
	struct mfs_verdict verdict;           /* over the active version */
};

/*
 * The kill switch: what the policy in force demands of the active version; asked at refresh,
 * activation, mount and reload, for every exposed model, pinned or held or not. `now` is done at
 * once; `fetch` replaces the stand-in when it has been fetched, verified and checked.
 *
 * min     the configuration's own minimum, for the version to go to; NULL without
 * source  modelfs-policy(5), REVOCATION
 */
void mfs_decide_enforce(const struct mfs_anchor_model *st, const struct mfs_minimum *min,
	struct mfs_enforcement *out);

/*
 * Do what mfs_decide_enforce() found: SWITCH makes *to active, WITHDRAW leaves no active version; the
 * old one joins the retained ones, where it waits in case the revocation is lifted; `previous` becomes
 * where a rollback may go now; the floor stays. KEEP changes nothing. e is void afterwards.
 * On failure (NO_MEMORY) st is as it was.
 */
enum mfs_code mfs_anchor_enforce(struct mfs_anchor_model *st, const struct mfs_enforcement *e,
	const struct mfs_minimum *min, struct mfs_err *err);

/*
 * May this verified manifest become active because a revocation's rollback_to names it? It may lie
 * below the floor and the active version, never below a minimum or the highest minimum ever seen,
 * and only where the revoked version was: it is known here, not older than the floor, and nothing
 * newer than it is active and allowed.
 *
 * errors  as mfs_decide_install(); ROLLBACK_ATTEMPT when no revocation asks for it here
 */
enum mfs_code mfs_decide_rollback_to(const struct mfs_anchor_model *st, const char *model_id,
	const struct mfs_manifest *m, const struct mfs_minimum *min, enum mfs_install *how, struct mfs_err *err);

/*
 * Is what a rollout offers older than the active version, and may that one stay? Then there is nothing to
 * do: a lowered fraction, or an older rollout that comes first now, moves no device back; only a revocation
 * does. (mfs_decide_install() would say ROLLBACK_ATTEMPT, which is for bundles that nobody fresh vouches for.)
 */
bool mfs_policy_behind(const struct mfs_anchor_model *st, const struct mfs_manifest *m, const struct mfs_minimum *min);

/* ---- rollouts ------------------------------------------------------------------------------------------ */

struct mfs_policy_device { /* strings borrowed; NULL where the device does not say */
	const char *id, *class, *region, *channel; /* id is required: it makes the bucket */
	const struct mfs_range *labels; size_t n_labels; /* name, value in min */
	const struct mfs_range *apps; size_t n_apps;     /* name, version in min */
};

enum mfs_policy_why {
	MFS_WHY_SELECTED,
	MFS_WHY_LATER,   /* would include the device, but an earlier rollout did */
	MFS_WHY_MATCH,   /* a key of the rollout's match does not hold */
	MFS_WHY_STEP,    /* no step has taken effect yet */
	MFS_WHY_BUCKET,  /* the bucket is not below the fraction */
	MFS_WHY_VARIANT, /* no variant's match holds */
	MFS_WHY_REVOKED, /* the variant is revoked */
	MFS_WHY_MINIMUM, /* the variant is below min_release */
};

struct mfs_policy_choice { /* borrowed from the policy */
	const struct mfs_policy_rollout *rollout; /* NULL: nothing was selected */
	const struct mfs_policy_variant *variant; /* NULL then */
	unsigned bucket;   /* 0 to 9999 */
	unsigned fraction; /* of the step in effect */
	size_t step;       /* 1 to rollout->n_steps */
	enum mfs_policy_why why; /* SELECTED; else of the rollout that came nearest, MATCH without any */
	const struct mfs_policy_rollout *passed; /* of those before it, which pass this device over, the nearest; NULL: none */
	enum mfs_policy_why passed_why;          /* why that one does */
};

/* One rollout's part of an explanation. */
struct mfs_policy_reason {
	const struct mfs_policy_rollout *rollout; /* borrowed from the policy */
	enum mfs_policy_why why;
	unsigned bucket, fraction;
	size_t step;       /* in effect; 0: none */
	char **lines;      /* what was looked at, one fact each, escaped: ready to print. NULL-terminated */
};

struct mfs_policy_explanation {
	struct mfs_policy_reason *reasons; size_t n_reasons; /* one for each rollout, in order */
};
void mfs_policy_explanation_clear(struct mfs_policy_explanation *x);

const char *mfs_policy_why_text(enum mfs_policy_why why); /* "not in the fraction" */

/*
 * Which variant does the policy offer this device now? The first rollout wins whose match holds, whose
 * step in effect includes the device's bucket, and one of whose variants matches and is neither revoked
 * nor below min_release. Whether it may be installed is mfs_decide_install's to say.
 *
 * now      seconds since the epoch, not behind the time floor
 * out      zero but for `why` unless MFS_OK
 * explain  NULL, or filled in both cases; release with mfs_policy_explanation_clear()
 * errors   NOT_SELECTED (the message says why, by the rollout that came nearest), NO_MEMORY, INTERNAL
 * source   modelfs-policy(5), ROLLOUTS
 */
enum mfs_code mfs_policy_select(const struct mfs_policy *p, const struct mfs_policy_device *d, int64_t now,
	struct mfs_policy_choice *out, struct mfs_policy_explanation *explain, struct mfs_err *err);

/* floor(x * 10000 / 2^64), x the first 8 bytes, big-endian, of SHA-256(salt, 0x00, id). */
enum mfs_code mfs_policy_bucket(const char *salt, const char *id, unsigned *bucket, struct mfs_err *err);

/* The step in effect, 1 to n_steps, or 0; steps take effect one after the other. *fraction 0 with 0. */
size_t mfs_policy_step_now(const struct mfs_policy_rollout *r, int64_t now, unsigned *fraction);

/* The next time at which a step takes effect by itself; INT64_MAX: none. For schedulers. */
int64_t mfs_policy_next_change(const struct mfs_policy *p, int64_t now);

bool mfs_match_holds(const struct mfs_match *m, const struct mfs_policy_device *d);

/*
 * Does this manifest carry the names of the policy's entry that led to it? SHA-256, version,
 * variant, release, and the policy's model_id.
 * errors  MALFORMED (names the field and both values), HASH_MISMATCH (another manifest)
 */
enum mfs_code mfs_policy_entry_check(const struct mfs_policy_entry *e, const char *model_id,
	const struct mfs_manifest *m, struct mfs_err *err);

/* ---- writing ---------------------------------------------------------------------------------------------- */

/* A policy without rollouts, sequence 0 and issued 0: the caller sets both before it writes. */
enum mfs_code mfs_policy_new(const char *model_id, struct mfs_policy **out, struct mfs_err *err);

/*
 * Canonical bytes, malloc'd; the caller has raised sequence and set issued. What mfs_policy_parse would
 * refuse is refused here with the same message, so nothing unreadable is ever signed.
 */
enum mfs_code mfs_policy_json(const struct mfs_policy *p, char **out, size_t *len, struct mfs_err *err);

/*
 * Helpers that own the memory. _rollout_add inserts an empty one before index `at` (n_rollouts: last) and
 * may move all rollouts, as _rollout_remove does: pointers into the list are void then. The salt comes
 * from the caller's random numbers and is new for each rollout.
 */
enum mfs_code mfs_policy_rollout_add(struct mfs_policy *p, size_t at, const char *id, const char *salt,
	struct mfs_policy_rollout **out, struct mfs_err *err);
struct mfs_policy_rollout *mfs_policy_rollout_find(const struct mfs_policy *p, const char *id);
void mfs_policy_rollout_remove(struct mfs_policy *p, const struct mfs_policy_rollout *r);
enum mfs_code mfs_policy_variant_add(struct mfs_policy_rollout *r, const struct mfs_policy_entry *e,
	struct mfs_policy_variant **out, struct mfs_err *err);
enum mfs_code mfs_policy_step_add(struct mfs_policy_rollout *r, int64_t fraction, int64_t after, bool confirm,
	struct mfs_err *err);
void mfs_policy_steps_clear(struct mfs_policy_rollout *r);
/* One more value for a key, the key too when it is new. */
enum mfs_code mfs_match_add(struct mfs_match *m, const char *key, const char *value, struct mfs_err *err);
void mfs_match_clear(struct mfs_match *m);
/* Add a revocation, in place of one that names the same manifest or version. */
enum mfs_code mfs_policy_revoke(struct mfs_policy *p, const struct mfs_revocation *r, struct mfs_err *err);
/* Lift revocations of a manifest (NULL: none) and of a version (NULL: none); number removed. */
size_t mfs_policy_unrevoke(struct mfs_policy *p, const struct mfs_sha256 *manifest, const char *version);

/* ---- trust.json ----------------------------------------------------------------------------------------------- */

struct mfs_trust_entry {
	struct mfs_sha256 key_id; /* SHA-256 of spki */
	uint8_t spki[MFS_SPKI_MAX]; size_t spki_len; /* SubjectPublicKeyInfo, DER: Ed25519 or P-256 */
	int64_t epoch;  /* >= 1 */
	char **models;  /* NULL-terminated; NULL: every model ("*" in the document) */
};

struct mfs_trustlist {
	struct mfs_trust_entry *keys; size_t n_keys;
};

/*
 * trust.json: a canonical JSON array of {key_id, public_key (hex of the DER), epoch, models}.
 * The caller has verified the TUF hash over the same bytes first.
 *
 * errors  LIMIT_EXCEEDED, MALFORMED (names the field; key_id that is not the key's; a key twice), NO_MEMORY
 * source  modelfs-policy(5), TRUST LIST
 */
enum mfs_code mfs_trustlist_parse(struct mfs_span in, struct mfs_trustlist **out, struct mfs_err *err);
void mfs_trustlist_free(struct mfs_trustlist *l);
MFS_DEFINE_CLEANUP(trustlist, struct mfs_trustlist, mfs_trustlist_free)

/*
 * Add the list's keys to a trust list that holds the configuration's already; a key that is there
 * keeps the epoch and models of the configuration.
 * errors  LIMIT_EXCEEDED (MFS_TRUST_KEYS_MAX in all), NO_MEMORY
 */
enum mfs_code mfs_trustlist_apply(const struct mfs_trustlist *l, struct mfs_trust *t, struct mfs_err *err);

/* Writing: an empty list, a key from PEM (in place of the same key), one removed, canonical bytes. */
enum mfs_code mfs_trustlist_new(struct mfs_trustlist **out, struct mfs_err *err);
enum mfs_code mfs_trustlist_add_pem(struct mfs_trustlist *l, const char *what, struct mfs_span pem, int64_t epoch,
	const char *const *models, struct mfs_err *err);
bool mfs_trustlist_remove(struct mfs_trustlist *l, const struct mfs_sha256 *key_id);
enum mfs_code mfs_trustlist_json(const struct mfs_trustlist *l, char **out, size_t *len, struct mfs_err *err);

#endif
