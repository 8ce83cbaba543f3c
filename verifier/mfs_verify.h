/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mfs_verify.h - the verifier: the only header of this folder that others include.
 *
 * Pure: bytes, time and prior state in; verdict and new state out. No files, sockets, clock,
 * globals or logging. Nothing decrypts without verifying. Every function is safe to call from
 * any thread on distinct objects; objects documented as immutable may be shared.
 *
 * Source of the formats: modelfs-bundle(5), modelfs-state(5).
 */
#ifndef MFS_VERIFY_H
#define MFS_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"
#include "memo.h"
#include "mfs_limits.h"
#include "span.h"

#define MFS_SHA256_LEN 32
#define MFS_KEY_LEN    32

struct mfs_sha256 {
	uint8_t b[MFS_SHA256_LEN];
};

static inline bool
mfs_sha256_equal(const struct mfs_sha256 *a, const struct mfs_sha256 *b)
{
	return memcmp(a->b, b->b, MFS_SHA256_LEN) == 0;
}

static inline bool
mfs_sha256_is_zero(const struct mfs_sha256 *a)
{
	for (int i = 0; i < MFS_SHA256_LEN; i++)
		if (a->b[i] != 0)
			return false;
	return true;
}

/* Hex of a digest as a short-lived string of 64 digits. */
#define MFS_HEX(d) mfs_sha256_hex((char[65]){ 0 }, (d))
static inline const char *
mfs_sha256_hex(char out[65], const struct mfs_sha256 *d)
{
	mfs_hex_encode(out, d->b, MFS_SHA256_LEN);
	return out;
}

/* ---- hash -------------------------------------------------------------------------------- */

/* One-shot SHA-256. Fails only on MFS_INTERNAL / NO_MEMORY of OpenSSL. */
enum mfs_code mfs_sha256(struct mfs_span in, struct mfs_sha256 *out, struct mfs_err *err);

struct mfs_hash; /* incremental SHA-256, one thread at a time */
enum mfs_code mfs_hash_new(struct mfs_hash **out, struct mfs_err *err);
enum mfs_code mfs_hash_update(struct mfs_hash *h, const void *p, size_t n, struct mfs_err *err);
enum mfs_code mfs_hash_final(struct mfs_hash *h, struct mfs_sha256 *out, struct mfs_err *err); /* and restarts it */
void mfs_hash_free(struct mfs_hash *h);
MFS_DEFINE_CLEANUP(hash, struct mfs_hash, mfs_hash_free)

/* ---- names (formats 2) -------------------------------------------------------------------- */

/*
 * s need not end with a NUL. File names: control characters are U+0000-001F and U+007F-009F; UTF-8 is
 * that of RFC 3629 (no overlong forms, no surrogates).
 */
bool mfs_model_id_ok(const char *s, size_t len);
bool mfs_variant_ok(const char *s, size_t len);
bool mfs_version_ok(const char *s, size_t len);   /* SemVer 2.0 without build metadata, <= 64 bytes */
bool mfs_file_name_ok(const char *s, size_t len); /* one name alone; uniqueness is the manifest's */
int mfs_version_compare(const char *a, const char *b); /* SemVer precedence: <0, 0, >0; both must be ok */

/* ---- signed JSON (formats 1) --------------------------------------------------------------- */

/*
 * jansson seeds its hash tables from /dev/urandom at the first object of a process: a process with
 * a sandbox calls json_object_seed(0) before it.
 */
typedef struct json_t json_t; /* jansson */

/*
 * Strict parse of signed JSON: caps, no duplicate keys, integers of at most 2^53-1, depth 16,
 * ASCII keys, no control characters, canonical form equal to the received bytes.
 *
 * what    name of the document for messages ("manifest.json")
 * cap     bytes; also bounds the number of values to 1024 + cap / 16, since a tree of tiny ones
 *         takes a hundred times their size in memory
 * out     a jansson object, release with json_decref(); NULL on failure
 * errors  LIMIT_EXCEEDED (larger than cap, too many values), MALFORMED (says offset), NO_MEMORY
 * threads any
 * source  modelfs-bundle(5), CANONICAL JSON
 */
enum mfs_code mfs_json_parse_canonical(const char *what, struct mfs_span in, size_t cap, json_t **out,
	struct mfs_err *err);

/* The same without the demand that the bytes be canonical (control messages, cycle documents). */
enum mfs_code mfs_json_parse(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err);

/* Canonical bytes of a value. *out is malloc'd, NUL after *len bytes. MALFORMED if not representable. */
enum mfs_code mfs_json_canonical(const json_t *v, char **out, size_t *len, struct mfs_err *err);
/* The same for a value that stands `depth` levels deep in its document: the limit of levels counts from the top. */
enum mfs_code mfs_json_canonical_at(const json_t *v, unsigned depth, char **out, size_t *len, struct mfs_err *err);
/*
 * Canonical bytes of o with one more member, whose value is canonical text already and is taken as it stands.
 *
 * key     a name that needs no escapes and is not in o: INTERNAL if it is
 * errors  as mfs_json_canonical()
 */
enum mfs_code mfs_json_canonical_with(json_t *o, const char *key, struct mfs_span value, char **out, size_t *len,
	struct mfs_err *err);

/* ---- manifest (formats 3) ------------------------------------------------------------------ */

enum mfs_cipher { MFS_CIPHER_NONE, MFS_CIPHER_AES_256_GCM, MFS_CIPHER_CHACHA20_POLY1305 };
enum mfs_media { MFS_MEDIA_OTHER, MFS_MEDIA_GGUF, MFS_MEDIA_ONNX, MFS_MEDIA_SAFETENSORS, MFS_MEDIA_TFLITE,
	MFS_MEDIA_TEXT };

const char *mfs_cipher_name(enum mfs_cipher c); /* "AES-256-GCM"; NULL for NONE */
const char *mfs_media_name(enum mfs_media m);
bool mfs_media_from_name(const char *s, enum mfs_media *out);

struct mfs_file {
	char *name;        /* relative path, valid by mfs_file_name_ok */
	uint64_t size;     /* bytes, plain and stored alike */
	struct mfs_sha256 sha256; /* of the payload as stored */
	uint32_t chunk_size;      /* bytes */
	uint64_t chunks;          /* ceil(size / chunk_size); 0 for an empty file */
	struct mfs_sha256 chunks_sha256; /* of the chunk table; only if chunks > 1 */
	uint8_t tag[MFS_TAG_LEN]; /* only if chunks == 1: AEAD tag, zero when plain */
	struct mfs_sha256 salt;   /* zero when plain */
	enum mfs_media media;
	bool executable;
};

struct mfs_range { /* [{name, min, max}]; NULL where absent */
	char *name, *min, *max;
};

struct mfs_depend {
	char *model_id;
	int64_t min_release, max_release; /* -1 where absent */
};

struct mfs_label {
	char *name;
	char **values; /* NULL-terminated */
};

struct mfs_compat {
	char **platforms; /* NULL-terminated or NULL; "linux/amd64", "linux/arm64", "linux/arm" */
	struct mfs_label *labels; size_t n_labels;
	struct mfs_range *apps; size_t n_apps;
	struct mfs_range *runtimes; size_t n_runtimes; /* one suffices */
	uint64_t memory;     /* bytes, 0 where absent */
	uint64_t page_size;  /* bytes, 0 where absent: the host's page size must not be larger */
	struct mfs_depend *depends; size_t n_depends;
	struct mfs_sha256 input_schema, output_schema, preprocess; /* zero where absent */
};

#define MFS_WRAP_LEN 40u /* AES-256-KWP of 32 bytes */

struct mfs_wrap {
	struct mfs_sha256 model_key_id;
	uint8_t wrapped[MFS_WRAP_LEN];
};

struct mfs_manifest { /* immutable once parsed; may be shared between threads */
	struct mfs_sha256 id; /* SHA-256 of the manifest's bytes: the version's identity */
	char *model_id, *variant, *version;
	int64_t release, build_time /* seconds since the epoch */, key_epoch;
	struct mfs_sha256 key_ids[MFS_KEY_IDS_MAX]; size_t n_key_ids;
	struct mfs_compat compat;
	struct mfs_file *files; size_t n_files; /* sorted by name, bytewise */
	enum mfs_cipher cipher;
	struct mfs_sha256 content_key_id; /* zero when plain */
	struct mfs_wrap *wraps; size_t n_wraps;
	struct mfs_sha256 *delta_bases; size_t n_delta_bases;
	char *health_json, *preprocess_json, *quantization_json; /* as signed; NULL where absent */
	uint64_t total_size; /* bytes of all files */
};

/*
 * Parse and check a manifest. The caller has verified its signature first wherever it could
 * (mfs_bundle_verify does both in the right order).
 *
 * in      untrusted bytes, borrowed
 * out     NULL on failure; release with mfs_manifest_free()
 * fields  tag, salt and wrapped are lower-case hex; compat, encryption, preprocess, quantization,
 *         delta_bases, health, critical, files[].media and files[].executable may be absent,
 *         every other field is required; the order of files in the document is free
 * errors  LIMIT_EXCEEDED, MALFORMED (names the field: "files[3].size"), NO_MEMORY
 * threads any
 * source  modelfs-bundle(5), MANIFEST
 */
enum mfs_code mfs_manifest_parse(struct mfs_span in, struct mfs_manifest **out, struct mfs_err *err);
void mfs_manifest_free(struct mfs_manifest *m);
MFS_DEFINE_CLEANUP(manifest, struct mfs_manifest, mfs_manifest_free)

/* Index of a file by name, or -1. */
ssize_t mfs_manifest_find(const struct mfs_manifest *m, const char *name);

/* Length of a chunk table in bytes: 0 for chunks <= 1. */
uint64_t mfs_table_length(uint64_t chunks);

/* ---- trust and signatures ------------------------------------------------------------------- */

/*
 * The trust list: keys with epoch and scope. Immutable after filling, and counted then: _ref for
 * another holder, _free gives one up.
 */
struct mfs_trust;
enum mfs_code mfs_trust_new(struct mfs_trust **out, struct mfs_err *err);
struct mfs_trust *mfs_trust_ref(struct mfs_trust *t);
void mfs_trust_free(struct mfs_trust *t);
MFS_DEFINE_CLEANUP(trust, struct mfs_trust, mfs_trust_free)

/*
 * Add a public key (PEM SubjectPublicKeyInfo, Ed25519 or P-256 with a named curve and an
 * uncompressed point: one encoding per key, so that it has one id and counts once).
 *
 * what    name of the source for messages (a path)
 * epoch   >= 1; signatures of a manifest whose key_epoch differs are KEY_UNTRUSTED
 * models  NULL-terminated list of model_ids, or NULL for every model; copied
 * errors  CONFIG_INVALID (not a key, wrong type, twice), LIMIT_EXCEEDED, NO_MEMORY
 */
enum mfs_code mfs_trust_add_pem(struct mfs_trust *t, const char *what, struct mfs_span pem, int64_t epoch,
	const char *const *models, struct mfs_err *err);
size_t mfs_trust_count(const struct mfs_trust *t);
const struct mfs_sha256 *mfs_trust_key_id(const struct mfs_trust *t, size_t i);
int64_t mfs_trust_epoch(const struct mfs_trust *t, size_t i);

/* key id of a PEM public key: SHA-256 of its DER SubjectPublicKeyInfo. */
enum mfs_code mfs_key_id_pem(struct mfs_span pem, struct mfs_sha256 *out, struct mfs_err *err);

struct mfs_signature {
	struct mfs_sha256 key_id; /* for signature.sig: key_ids[0], filled by the callee when zero */
	struct mfs_span bytes;
};

/*
 * Verify a manifest end to end: caps, signatures over the received bytes, parse, key scope.
 * The key_ids are read from the bytes only to select keys, by a scan that allocates nothing; no
 * parser sees a byte before a threshold of distinct trusted keys has verified. Signatures by keys
 * that key_ids does not list are not looked at.
 *
 * sigs       signature.sig first (key_id all zero), then signature.<key_id>.sig
 * threshold  >= 1 distinct keys of the list that must verify, in scope and epoch
 * key_id_out may be NULL: the first key that verified
 * errors     SIGNATURE_INVALID (no signature, or a trusted key's signature is wrong),
 *            KEY_UNTRUSTED (unknown key, wrong epoch or scope, threshold), MALFORMED, LIMIT_EXCEEDED
 *            (manifest, signature, MFS_SIGNATURES_MAX), CONFIG_INVALID (threshold)
 * source     modelfs-bundle(5), SIGNATURES
 */
enum mfs_code mfs_bundle_verify(struct mfs_span manifest, const struct mfs_signature *sigs, size_t n_sigs,
	const struct mfs_trust *trust, unsigned threshold, struct mfs_manifest **out,
	struct mfs_sha256 *key_id_out, struct mfs_err *err);

/* ---- keys (formats 4) ------------------------------------------------------------------------ */

struct mfs_key { /* 32 secret bytes; wipe with mfs_key_wipe */
	uint8_t b[MFS_KEY_LEN];
};
void mfs_key_wipe(struct mfs_key *k);

enum mfs_code mfs_content_key_id(const struct mfs_key *k, struct mfs_sha256 *out, struct mfs_err *err);
enum mfs_code mfs_model_key_id(const struct mfs_key *k, struct mfs_sha256 *out, struct mfs_err *err);

/* A model key file: exactly 32 raw bytes, or 64 hex digits and an optional newline. CONFIG_INVALID. */
enum mfs_code mfs_model_key_parse(const char *what, struct mfs_span in, struct mfs_key *out, struct mfs_err *err);

enum mfs_code mfs_kwp_wrap(const struct mfs_key *model_key, const struct mfs_key *content_key, uint8_t out[40],
	struct mfs_err *err);

/*
 * The content key of a manifest by one model key.
 * errors  KEY_UNAVAILABLE (no wrap for this model key), DECRYPT_FAILED (the wrap does not open,
 *         or the key is not the one that content_key_id names)
 */
enum mfs_code mfs_content_key_unwrap(const struct mfs_manifest *m, const struct mfs_key *model_key,
	struct mfs_key *out, struct mfs_err *err);

/*
 * The same by a wrap that came beside the manifest, unsigned (grants/<model_key_id>/<content_key_id>.kwp): whatever it
 * is, what comes out is the key that content_key_id names, or none.
 *
 * wrap    untrusted, of any length
 * out     wiped on failure
 * errors  KEY_UNAVAILABLE (another length, it does not open, or to another key: its source's fault, never the version's)
 * source  modelfs-bundle(5), ENCRYPTION
 */
enum mfs_code mfs_content_key_unwrap_grant(const struct mfs_manifest *m, const struct mfs_key *model_key,
	struct mfs_span wrap, struct mfs_key *out, struct mfs_err *err);

/* salt = HMAC(HKDF(content key, "modelfs/1 salt"), info || SHA-256(plaintext)) */
enum mfs_code mfs_file_salt(const struct mfs_key *content_key, enum mfs_cipher cipher, const char *model_id,
	const char *name, uint32_t chunk_size, const struct mfs_sha256 *plaintext_sha256, struct mfs_sha256 *salt,
	struct mfs_err *err);

enum mfs_code mfs_file_key(const struct mfs_key *content_key, const struct mfs_sha256 *salt, enum mfs_cipher cipher,
	const char *model_id, const char *name, uint32_t chunk_size, struct mfs_key *out, struct mfs_err *err);

/* ---- chunks ------------------------------------------------------------------------------------ */

/*
 * A chunk table, verified against the manifest. Keeps a malloc'd copy of its bytes (48 per
 * chunk), or a synthetic single entry made from the manifest for files of one chunk. Immutable.
 */
struct mfs_table {
	const struct mfs_file *file; /* borrowed */
	uint64_t chunks;
	uint8_t *entries; /* chunks * 48 */
};

/*
 * in      the table's bytes (empty for a file of at most one chunk)
 * errors  HASH_MISMATCH (differs from chunks_sha256, truncated included: the copy is damaged),
 *         MALFORMED (the signed table itself is wrong; a surplus one), NO_MEMORY
 * source  modelfs-bundle(5), CHUNK TABLE
 */
enum mfs_code mfs_table_load(const struct mfs_file *f, struct mfs_span in, struct mfs_table **out,
	struct mfs_err *err);
void mfs_table_free(struct mfs_table *t);
MFS_DEFINE_CLEANUP(table, struct mfs_table, mfs_table_free)

/* Bytes of chunk i: chunk_size, or the rest for the last one. */
uint32_t mfs_chunk_length(const struct mfs_file *f, uint64_t i);

/*
 * What one thread needs to open chunks of one file: contexts, and the file key when encrypted.
 * One thread at a time. Cheap to keep, some 2 us to make.
 */
struct mfs_opener;
enum mfs_code mfs_opener_new(enum mfs_cipher cipher, const struct mfs_key *file_key, struct mfs_opener **out,
	struct mfs_err *err);
/* Change to another file (same thread). file_key NULL for a plain file. */
enum mfs_code mfs_opener_rekey(struct mfs_opener *o, enum mfs_cipher cipher, const struct mfs_key *file_key,
	struct mfs_err *err);
void mfs_opener_free(struct mfs_opener *o);
MFS_DEFINE_CLEANUP(opener, struct mfs_opener, mfs_opener_free)

/*
 * Verify one stored chunk against the table and open it. The only way to plaintext.
 *
 * stored     exactly mfs_chunk_length() bytes as read from disk, in memory nobody else can write
 * plaintext  room for as many bytes; may equal stored.p (in place). For a plain file the bytes
 *            are copied unless it is the same buffer. Wiped on failure.
 * errors     HASH_MISMATCH (says the chunk; also when stored has another length), DECRYPT_FAILED,
 *            INTERNAL (no such chunk)
 */
enum mfs_code mfs_chunk_open(struct mfs_opener *o, const struct mfs_table *t, uint64_t i, struct mfs_span stored,
	uint8_t *plaintext, struct mfs_err *err);

/* Only the hash, without a key: what a store, a repair or `verify` without keys asks. */
enum mfs_code mfs_chunk_verify(struct mfs_opener *o, const struct mfs_table *t, uint64_t i, struct mfs_span stored,
	struct mfs_err *err);

/* One chunk of several that are opened by one call. */
struct mfs_chunk_io {
	struct mfs_span stored; /* in: as for mfs_chunk_open() */
	uint8_t *plaintext;     /* in: the same; NULL: the hash alone, as mfs_chunk_verify() */
	enum mfs_code code;     /* out: what became of it */
	struct mfs_err err;     /* out: why, unless code is MFS_OK */
};

/*
 * As mfs_chunk_open() for chunks first to first + n - 1, each with an outcome of its own. Quicker than one after the
 * other where the processor hashes two at once. No plaintext overlaps another chunk's stored bytes.
 */
void mfs_chunks_open(struct mfs_opener *o, const struct mfs_table *t, uint64_t first, struct mfs_chunk_io *io, size_t n);

/*
 * The publisher's side: encrypt (or copy) one chunk and make its table entry.
 * entry receives SHA-256 of the stored chunk and the tag (zero when plain).
 */
enum mfs_code mfs_chunk_seal(struct mfs_opener *o, uint64_t i, struct mfs_span plaintext, uint8_t *stored,
	uint8_t entry[MFS_TABLE_ENTRY], struct mfs_err *err);

/* Header of a chunk table. */
void mfs_table_header(uint8_t out[MFS_TABLE_HEADER], uint32_t chunk_size, uint64_t size, uint64_t chunks);

/* ---- compatibility ------------------------------------------------------------------------------- */

struct mfs_device { /* what the host says of itself; strings borrowed, may be NULL */
	const char *platform;  /* "linux/amd64" */
	uint64_t memory;       /* bytes */
	uint64_t page_size;    /* bytes */
	const struct mfs_range *labels; size_t n_labels;     /* name, value in min */
	const struct mfs_range *apps; size_t n_apps;         /* name, version in min */
	const struct mfs_range *runtimes; size_t n_runtimes; /* name, version in min */
	struct mfs_sha256 input_schema, output_schema, preprocess; /* what the application expects; zero = any */
};

/*
 * errors INCOMPATIBLE_RUNTIME, INCOMPATIBLE_SCHEMA; the message names the field, wanted and found.
 * What the device does not say (platform NULL, memory 0, a label or version that is absent or no
 * semantic version) does not satisfy a demand. compat.depends is mfs_decide_depends()'s.
 */
enum mfs_code mfs_compat_check(const struct mfs_manifest *m, const struct mfs_device *d, struct mfs_err *err);

/* ---- trusted state: documents (formats 8; modelfs-state(5)) --------------------------------------- */

/*
 * Frame around a state document: magic, kind, generation, length, XXH3-128 over all of it (torn
 * writes), HMAC-SHA256 under the state key (attackers). Kinds: "anchor", "cycle", and "held": an anchor that is in force
 * and not on the disk, so that neither can ever stand in the other's place.
 */
enum mfs_state_kind { MFS_STATE_ANCHOR = 1, MFS_STATE_CYCLE = 2, MFS_STATE_HELD = 3 };

enum mfs_code mfs_state_seal(enum mfs_state_kind kind, uint64_t generation, struct mfs_span json,
	const struct mfs_key *state_key, uint8_t **out, size_t *len, struct mfs_err *err);

/*
 * errors  MALFORMED (torn, short, surplus, wrong kind), STATE_REPLAYED is the caller's to say,
 *         SIGNATURE_INVALID (HMAC), LIMIT_EXCEEDED
 */
enum mfs_code mfs_state_open(enum mfs_state_kind kind, struct mfs_span in, const struct mfs_key *state_key,
	uint64_t *generation, struct mfs_span *json, struct mfs_err *err);

struct mfs_vref { /* one version as the anchor knows it */
	struct mfs_sha256 manifest;
	char version[MFS_VERSION_MAX + 1];
	char variant[MFS_VARIANT_MAX + 1];
	int64_t release, key_epoch;
};

struct mfs_bad {
	struct mfs_sha256 manifest;
	enum mfs_code why;
};

/* What a revocation does to a version (modelfs-policy(5)); in order of severity. */
enum mfs_action { MFS_ACTION_NONE, MFS_ACTION_STOP, MFS_ACTION_ROLLBACK, MFS_ACTION_WITHDRAW };
const char *mfs_action_name(enum mfs_action a); /* "stop"; "none" for NONE */
bool mfs_action_from_name(const char *s, enum mfs_action *out); /* false for "none" */

struct mfs_policy_entry { /* one manifest and the names that it must carry */
	struct mfs_sha256 manifest; /* zero: none */
	char version[MFS_VERSION_MAX + 1];
	char variant[MFS_VARIANT_MAX + 1];
	int64_t release;
};

struct mfs_revocation { /* by manifest or by version: exactly one of them */
	struct mfs_sha256 manifest;        /* zero: by version */
	char version[MFS_VERSION_MAX + 1]; /* empty: by manifest */
	char reason[MFS_POLICY_TEXT_MAX + 1];
	enum mfs_action action;
	struct mfs_policy_entry rollback_to; /* action ROLLBACK only; manifest zero: none */
	bool otherwise_withdraw;             /* action ROLLBACK only: "withdraw", else "keep" */
};

struct mfs_anchor_model {
	char id[MFS_ID_MAX + 1];       /* local name: the folder in the mount */
	char model_id[MFS_ID_MAX + 1]; /* of the manifests */
	int64_t floor_epoch, floor_release;  /* committed floor; 0, 0 before the first */
	struct mfs_sha256 floor_manifest;
	struct mfs_vref active;   /* manifest zero: none */
	struct mfs_vref previous; /* manifest zero: none */
	struct mfs_vref *retained; size_t n_retained; /* newest first; includes previous, not active */
	struct mfs_vref *known; size_t n_known; /* every (version, variant) seen here, newest first, at most 256 */
	struct mfs_bad *bad; size_t n_bad; /* condemned, oldest first */
	int64_t min_release, min_key_epoch; /* of the policy in force; 0 without */
	bool withdraw_below; /* enforce of the policy in force is "withdraw" */
	struct mfs_revocation *revoked; size_t n_revoked; /* of the policy in force */
	int64_t policy_sequence; /* of the policy in force; 0: there was none yet */
	struct mfs_sha256 policy_sha256;
	int64_t policy_issued;
	/* The highest (min_key_epoch, min_release) ever accepted, an epoch of 0 counting as 1; 0, 0 without. */
	int64_t high_epoch, high_release;
	char *policy_extra_json; /* fields of the policy part of a newer minor version, verbatim; NULL without */
	char *extra_json;        /* fields of a newer minor version, kept verbatim; NULL without */
};

struct mfs_anchor_role { /* of TUF metadata that was accepted */
	int64_t version; /* 0: none yet */
	struct mfs_sha256 sha256;
};

struct mfs_anchor_repo {
	char name[MFS_ID_MAX + 1]; /* of the configuration: "default" */
	struct mfs_anchor_role root, snapshot, targets;
	char *trust_json; /* trust.json as accepted, for mfs_trustlist_parse(); NULL without */
	char *extra_json; /* fields of a newer minor version, kept verbatim; NULL without */
};

struct mfs_anchor {
	struct mfs_anchor_model *models; size_t n_models; /* sorted by id */
	struct mfs_anchor_repo *repos; size_t n_repos;    /* sorted by name */
	char *extra_json; /* unknown minor fields, kept verbatim; NULL without */
	unsigned minor;   /* of "modelfs-anchor/1.MINOR" as read; 0 for a new one */
};

/*
 * json    canonical JSON out of a frame that mfs_state_open() accepted
 * errors  MALFORMED (names the field), LIMIT_EXCEEDED, NO_MEMORY
 * source  modelfs-state(5), ANCHOR
 */
enum mfs_code mfs_anchor_parse(struct mfs_span json, struct mfs_anchor **out, struct mfs_err *err);
/* Canonical JSON, malloc'd. LIMIT_EXCEEDED when a list is longer than the reader takes; NO_MEMORY. */
enum mfs_code mfs_anchor_json(const struct mfs_anchor *a, char **out, size_t *len, struct mfs_err *err);
/* The same; what memo has of models that did not change is not made again. memo: of anchors alone. */
enum mfs_code mfs_anchor_json_memo(const struct mfs_anchor *a, struct mfs_memo *memo, char **out, size_t *len,
	struct mfs_err *err);
/* A copy that shares nothing. NO_MEMORY */
enum mfs_code mfs_anchor_copy(const struct mfs_anchor *a, struct mfs_anchor **out, struct mfs_err *err);
void mfs_anchor_free(struct mfs_anchor *a);
MFS_DEFINE_CLEANUP(anchor, struct mfs_anchor, mfs_anchor_free)

/*
 * The model's record, or NULL. _add creates an empty one (id, model_id), keeping the order; it may
 * move all records, so pointers from _find are void then. INTERNAL when the id exists or is no id.
 */
struct mfs_anchor_model *mfs_anchor_find(const struct mfs_anchor *a, const char *id);
enum mfs_code mfs_anchor_add(struct mfs_anchor *a, const char *id, const char *model_id,
	struct mfs_anchor_model **out, struct mfs_err *err);

/*
 * The repository's record, or NULL; _repo_add returns the one that is there or an empty one. It may
 * move all records, so pointers from _repo_find are void then. INTERNAL when name is no id,
 * LIMIT_EXCEEDED, NO_MEMORY.
 */
struct mfs_anchor_repo *mfs_anchor_repo_find(const struct mfs_anchor *a, const char *name);
enum mfs_code mfs_anchor_repo_add(struct mfs_anchor *a, const char *name, struct mfs_anchor_repo **out,
	struct mfs_err *err);

/* ---- decisions (design 5) ---------------------------------------------------------------------------- */

struct mfs_minimum { /* the configuration's own minimum; 0 without */
	int64_t min_release, min_key_epoch;
};

enum mfs_install { MFS_INSTALL_NEW, MFS_INSTALL_SAME /* already active: repair its blobs at most */ };

/*
 * May this verified manifest become active by installation? In this order: its model_id; already
 * active (SAME); condemned; revoked; minima; a second manifest for a known (version, variant) or
 * another release for a known version; not forward of the active version and the floor, where
 * (key_epoch, release) equal is allowed for another variant of the same version, and a retained
 * version may come again when it is newer than the active one (after a rollback), or when neither
 * the active version nor the floor's may be served any more (after a revocation); a release that is
 * known under another version. min_release counts within min_key_epoch, in every epoch when that is 0.
 *
 * st      the model's record; NULL on first contact
 * min     NULL without
 * errors  ROLLBACK_ATTEMPT (at or below the floor or the active version; names both and points to
 *         `modelfs rollback`), POLICY_REJECTED (names both manifests; below a minimum), REVOKED,
 *         KNOWN_BAD, MALFORMED (model_id differs), CONFIG_INVALID (the state's model_id differs from
 *         the configuration's)
 * source  modelfs-state(5), INSTALL RULE
 */
enum mfs_code mfs_decide_install(const struct mfs_anchor_model *st, const char *model_id,
	const struct mfs_manifest *m, const struct mfs_minimum *min, enum mfs_install *how, struct mfs_err *err);

/*
 * Do the other models of this host satisfy compat.depends? Wanted is an active version of the
 * model_id within the releases. INCOMPATIBLE_RUNTIME.
 */
enum mfs_code mfs_decide_depends(const struct mfs_manifest *m, const struct mfs_anchor *a, struct mfs_err *err);

/*
 * May this version, which the anchor lists, be served or gone back to (rollback, start)? Same errors.
 * Of the active version: may it stay, with all that the policy in force says of it? What a
 * revocation only stops, or a minimum without enforcement, may stay where it is active.
 */
enum mfs_code mfs_decide_retained(const struct mfs_anchor_model *st, const struct mfs_vref *v,
	const struct mfs_minimum *min, struct mfs_err *err);

/*
 * Record an activation in st: previous = old active, retained list and floor updated (the floor only
 * ever rises, and only with commit), at most `retain` previous versions kept, `previous` first of
 * all. The active manifest again changes nothing but the floor (commit) and the trim. On failure st
 * is as it was.
 *
 * errors  POLICY_REJECTED (mfs_decide_install() would have refused the name), INTERNAL, NO_MEMORY
 */
enum mfs_code mfs_anchor_activate(struct mfs_anchor_model *st, const struct mfs_manifest *m, unsigned retain,
	bool commit, struct mfs_err *err);

/*
 * Go back to `previous`, or to the newest retained version older than the active one that
 * mfs_decide_retained allows. The old active version joins the retained ones, so that one can go
 * forward again; `previous` becomes where the next rollback would go; the floor stays.
 *
 * errors  NOT_SELECTED (nothing to go back to; says why), NO_MEMORY. st is as it was then
 */
enum mfs_code mfs_anchor_rollback(struct mfs_anchor_model *st, const struct mfs_minimum *min, struct mfs_err *err);

/*
 * Make a retained version the active one (`pin`), forwards or backwards; the rest as _rollback. The active
 * one itself is no change.
 *
 * errors  NOT_SELECTED (not retained), those of mfs_decide_retained, NO_MEMORY
 */
enum mfs_code mfs_anchor_goto(struct mfs_anchor_model *st, const struct mfs_sha256 *manifest,
	const struct mfs_minimum *min, struct mfs_err *err);

/* Is the active version above the floor: activated, and not committed yet? And commit it. */
bool mfs_anchor_uncommitted(const struct mfs_anchor_model *st);
void mfs_anchor_commit(struct mfs_anchor_model *st, unsigned retain);

/* Condemn a manifest, or lift that. At most MFS_BAD_MAX are remembered, then the oldest is forgotten. */
enum mfs_code mfs_anchor_mark_bad(struct mfs_anchor_model *st, const struct mfs_sha256 *manifest, enum mfs_code why,
	struct mfs_err *err);
void mfs_anchor_mark_good(struct mfs_anchor_model *st, const struct mfs_sha256 *manifest);

#endif
