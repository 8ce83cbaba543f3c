/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - shared inside the verifier. Everybody else includes mfs_verify.h. */
#ifndef MFS_IN_VERIFIER
#error "internal.h belongs to the verifier: include mfs_verify.h instead"
#endif
#ifndef MFS_VERIFIER_INTERNAL_H
#define MFS_VERIFIER_INTERNAL_H

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "mfs_verify.h"

MFS_DEFINE_CLEANUP(json, json_t, json_decref)
#define mfs_autojson MFS_CLEANUP(mfs_cleanup_json)

/* ---- sha256_pair.c ------------------------------------------------------------------------------- */

/*
 * SHA-256 of two messages of n bytes each, side by side. False: this processor cannot, nothing was done and OpenSSL
 * is to be asked for each.
 */
bool mfs_sha256_pair(const uint8_t *a, const uint8_t *b, size_t n, uint8_t out_a[MFS_SHA256_LEN], uint8_t out_b[MFS_SHA256_LEN]);

/* ---- json.c ------------------------------------------------------------------------------------ */

/* mfs_json_parse() for documents of other tools: keys and strings may hold whatever JSON allows but NUL. */
enum mfs_code mfs_json_parse_any_text(const char *what, struct mfs_span in, size_t cap, json_t **out,
	struct mfs_err *err);

/* ---- fields.c: one field of a JSON object at a time, with its path in every message ---------- */

/*
 * Where a field is: the document, and the path of the object that holds it ("files[3].", "" at
 * the top). Every reader below takes the object, its place and a key; a required field that is
 * absent, and a present one of the wrong type or range, are MALFORMED.
 */
struct mfs_at {
	const char *doc; /* "manifest.json" */
	char path[192];  /* with a trailing dot, or empty; untrusted parts escaped */
};

enum mfs_need { MFS_OPTIONAL, MFS_REQUIRED };

struct mfs_at mfs_at_top(const char *doc);
/* The place of an object below: at_object(at, "compat"), at_item(at, "files", 3). */
struct mfs_at mfs_at_object(const struct mfs_at *at, const char *key);
struct mfs_at mfs_at_item(const struct mfs_at *at, const char *key, size_t i);

/* "DOC: PATHKEY: reason" */
enum mfs_code mfs_field_bad(const struct mfs_at *at, const char *key, struct mfs_err *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Absent optional fields leave *out as it was and *present (may be NULL) false. */
enum mfs_code mfs_field_int(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	int64_t min, int64_t max, int64_t *out, struct mfs_err *err);
enum mfs_code mfs_field_bool(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, bool *out,
	struct mfs_err *err);
/* *out is borrowed from o and 1..max bytes long. NULL when absent. */
enum mfs_code mfs_field_string(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	size_t max, const char **out, struct mfs_err *err);
/* Exactly n bytes as lower-case hex. */
enum mfs_code mfs_field_hex(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, uint8_t *out,
	size_t n, struct mfs_err *err);
enum mfs_code mfs_field_array(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need, size_t min,
	size_t max, json_t **out, struct mfs_err *err);
enum mfs_code mfs_field_object(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	json_t **out, struct mfs_err *err);
/* A list of distinct SHA-256 values; *out is malloc'd. */
enum mfs_code mfs_field_sha256_list(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	size_t min, size_t max, struct mfs_sha256 **out, size_t *n, struct mfs_err *err);
/* The value as canonical text, malloc'd; NULL when absent. */
enum mfs_code mfs_field_text(const json_t *o, const struct mfs_at *at, const char *key, char **out,
	struct mfs_err *err);

/* `critical` names fields that a reader must understand: one that is not in known[] is a refusal. */
enum mfs_code mfs_critical_check(const json_t *root, const struct mfs_at *at, const char *const *known,
	struct mfs_err *err);

enum mfs_code mfs_strdup(const char *s, char **out, struct mfs_err *err);

/* ---- json.c, canon.c: trees --------------------------------------------------------------------- */

/* Like mfs_json_parse_canonical, for a document that is an array (trust.json). */
enum mfs_code mfs_json_parse_array(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err);

/* Set a member, stealing v; false without memory, so that a chain of && reports once. */
bool mfs_json_set(json_t *o, const char *key, json_t *v);
/* What is left of o once the known keys (NULL-terminated) are taken out, as text; NULL when nothing is. */
enum mfs_code mfs_extra_take(const json_t *o, const char *const *known, char **out, struct mfs_err *err);
/* The object in a text that was kept verbatim; NULL text gives an empty one. */
enum mfs_code mfs_text_json(const char *what, const char *text, json_t **out, struct mfs_err *err);

/* ---- revocation.c -------------------------------------------------------------------------------- */

enum mfs_code mfs_policy_entry_parse(const json_t *o, const struct mfs_at *at, struct mfs_policy_entry *e,
	struct mfs_err *err);
json_t *mfs_policy_entry_json(const struct mfs_policy_entry *e); /* NULL without memory, as the next */
enum mfs_code mfs_revocations_parse(const json_t *o, const struct mfs_at *at, const char *key, enum mfs_need need,
	struct mfs_revocation **out, size_t *n, struct mfs_err *err);
json_t *mfs_revocations_json(const struct mfs_revocation *list, size_t n);
bool mfs_revocation_same(const struct mfs_revocation *a, const struct mfs_revocation *b); /* what it names */

/* ---- anchor_copy.c -------------------------------------------------------------------------------- */

/* Adds everything that the text of m depends on. */
void mfs_anchor_model_memo(const struct mfs_anchor_model *m, struct mfs_memo *memo);

/* ---- anchor_policy.c ------------------------------------------------------------------------------ */

enum mfs_code mfs_anchor_policy_parse(const json_t *o, const struct mfs_at *at, struct mfs_anchor_model *m,
	struct mfs_err *err);
enum mfs_code mfs_anchor_policy_json(const struct mfs_anchor_model *m, json_t *o, struct mfs_err *err);
void mfs_anchor_high_raise(struct mfs_anchor_model *m, int64_t epoch, int64_t release);
enum mfs_code mfs_anchor_repos_parse(const json_t *root, const struct mfs_at *at, struct mfs_anchor *a,
	struct mfs_err *err);
enum mfs_code mfs_anchor_repos_json(const struct mfs_anchor *a, json_t *root, struct mfs_err *err);
void mfs_anchor_repo_clear(struct mfs_anchor_repo *r);

/* ---- policy.c ------------------------------------------------------------------------------------ */

struct mfs_policy_rollout;
struct mfs_policy_device;
void mfs_policy_rollout_clear(struct mfs_policy_rollout *r);

/* ---- policy_match.c -------------------------------------------------------------------------------- */

/* What the device says of a key, or NULL; *version: its values are versions and comparisons. */
const char *mfs_match_fact(const struct mfs_policy_device *d, const char *key, bool *version);
bool mfs_match_key_holds(const struct mfs_label *l, const struct mfs_policy_device *d);
/* Has step i (from 0) not taken effect, the ones before it aside? */
bool mfs_policy_step_waits(const struct mfs_policy_rollout *r, size_t i, int64_t now);

/* ---- manifest_compat.c ------------------------------------------------------------------------ */

enum mfs_code mfs_compat_parse(const json_t *root, const struct mfs_at *at, struct mfs_manifest *m,
	struct mfs_err *err);
void mfs_compat_clear(struct mfs_compat *c);

/* ---- trust.c ----------------------------------------------------------------------------------- */

enum mfs_key_type { MFS_KEY_ED25519, MFS_KEY_P256 };

struct mfs_trust_key {
	struct mfs_sha256 id;
	EVP_PKEY *pkey;
	enum mfs_key_type type;
	int64_t epoch;
	char **models; /* NULL-terminated; NULL: every model */
};

struct mfs_trust {
	_Atomic unsigned more; /* references beyond the first */
	size_t n;
	struct mfs_trust_key keys[MFS_TRUST_KEYS_MAX];
};

/* The key of a DER SubjectPublicKeyInfo: fills id, pkey and type. CONFIG_INVALID. */
enum mfs_code mfs_trust_key_der(const char *what, struct mfs_span der, struct mfs_trust_key *k, struct mfs_err *err);
void mfs_trust_key_clear(struct mfs_trust_key *k);
/* DER of the one public key in a PEM text. CONFIG_INVALID. */
enum mfs_code mfs_pem_spki(const char *what, struct mfs_span pem, uint8_t out[MFS_SPKI_MAX], size_t *len,
	struct mfs_err *err);
/* A copy of a NULL-terminated list of model ids; NULL for NULL. *out is released also on failure. */
enum mfs_code mfs_models_copy(const char *what, const char *const *models, char ***out, struct mfs_err *err);
/*
 * The one PUBLIC KEY block of a PEM text, as DER; no passphrase is ever asked for. CONFIG_INVALID.
 * mfs_spki_type() knows the one accepted encoding of each type, so that a key has one id.
 */
enum mfs_code mfs_pem_public(const char *what, struct mfs_span pem, uint8_t **der, size_t *der_len,
	struct mfs_err *err);
bool mfs_spki_type(struct mfs_span der, enum mfs_key_type *type);

bool mfs_trust_key_covers(const struct mfs_trust_key *k, const char *model_id);

/* ---- keys.c -------------------------------------------------------------------------------------- */

/* HKDF-SHA256 (RFC 5869). out_len at most 255 * 32. */
enum mfs_code mfs_hkdf(struct mfs_span key, struct mfs_span salt, struct mfs_span info, uint8_t *out, size_t out_len,
	struct mfs_err *err);
enum mfs_code mfs_hmac(const struct mfs_key *key, struct mfs_span in, struct mfs_sha256 *out, struct mfs_err *err);
enum mfs_code mfs_kwp_unwrap(const struct mfs_key *kek, const uint8_t wrapped[40], struct mfs_key *out,
	struct mfs_err *err);

/* ---- decide.c, anchor.c ------------------------------------------------------------------------- */

/* (key_epoch, release), lexicographic: <0, 0, >0. A new epoch starts a new release line. */
int mfs_release_compare(int64_t epoch_a, int64_t release_a, int64_t epoch_b, int64_t release_b);
const struct mfs_vref *mfs_vref_find(const struct mfs_vref *list, size_t n, const struct mfs_sha256 *manifest);
struct mfs_vref mfs_vref_of(const struct mfs_manifest *m);

/* The rules that mfs_decide_install() and mfs_decide_rollback_to() share; see the former. */
enum mfs_code mfs_model_check(const struct mfs_anchor_model *st, const char *model_id, const struct mfs_manifest *m,
	struct mfs_err *err);
enum mfs_code mfs_condemned_check(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_err *err);
enum mfs_code mfs_minimum_check(const char *who, int64_t min_epoch, int64_t min_release, const struct mfs_vref *v,
	struct mfs_err *err);
enum mfs_code mfs_minima_check(const struct mfs_anchor_model *st, const struct mfs_minimum *min, const struct mfs_vref *v,
	struct mfs_err *err);
enum mfs_code mfs_names_check(const struct mfs_anchor_model *st, const struct mfs_vref *list, size_t n,
	const struct mfs_vref *v, struct mfs_err *err);
enum mfs_code mfs_release_check(const struct mfs_anchor_model *st, const struct mfs_vref *v, struct mfs_err *err);

/* Make *to active (manifest zero: none); the old active version joins the retained ones. NO_MEMORY. */
enum mfs_code mfs_anchor_go(struct mfs_anchor_model *st, const struct mfs_vref *to, const struct mfs_minimum *min,
	struct mfs_err *err);

#endif
