/* SPDX-License-Identifier: Apache-2.0 */
/* tuf_internal.h - shared between the files of the TUF client. Everybody else includes mfs_tuf.h. */
#ifndef MFS_TUF_INTERNAL_H
#define MFS_TUF_INTERNAL_H

#include "internal.h"
#include "mfs_tuf.h"

enum mfs_tuf_type { MFS_TUF_ROOT, MFS_TUF_TIMESTAMP, MFS_TUF_SNAPSHOT, MFS_TUF_TARGETS };

/* ---- tuf_json.c: the signed form ------------------------------------------------------------- */

/* OLPC canonical JSON of a parsed value; malloc'd, NUL after *len bytes. */
enum mfs_code mfs_tuf_encode(const json_t *v, char **out, size_t *len, struct mfs_err *err);

/* ---- tuf_key.c: who signed ---------------------------------------------------------------------- */

/* A role as its delegator describes it. Everything borrowed from the delegator's document. */
struct mfs_tuf_signers {
	const json_t *keys;   /* {key id: key} */
	const json_t *keyids; /* [key id], distinct, at most MFS_TUF_KEYS_MAX */
	unsigned threshold;   /* >= 1 */
};

/* Distinct public keys of s that have signed `bytes`. A key or signature that cannot be used does not count. */
enum mfs_code mfs_tuf_signers_count(const struct mfs_tuf_signers *s, const json_t *signatures, struct mfs_span bytes,
	unsigned *valid, struct mfs_err *err);

/* Has `now` at least one public key of `before` less? */
enum mfs_code mfs_tuf_signers_lost(const struct mfs_tuf_signers *before, const struct mfs_tuf_signers *now, bool *lost,
	struct mfs_err *err);

/* ---- tuf_doc.c: one metadata file ---------------------------------------------------------------- */

struct mfs_tuf_delegation { /* one entry of delegations.roles; borrowed from the document */
	const char *name;
	struct mfs_tuf_signers signers;
	const json_t *paths;    /* [pattern], or NULL */
	const json_t *prefixes; /* [hex], or NULL */
	bool terminating;
};

/*
 * A metadata file, every field that this client knows checked. Immutable after parsing. Not verified
 * by anybody until mfs_tuf_doc_verify() said so.
 */
struct mfs_tuf_doc {
	enum mfs_tuf_type type;
	uint8_t *bytes; /* as received */
	size_t len;
	struct mfs_sha256 sha256;
	json_t *json;     /* owns all text below */
	const json_t *body; /* its `signed` */
	int64_t version, expires;
	bool consistent; /* root */
	const json_t *keys; /* root; targets with delegations */
	const json_t *meta; /* timestamp, snapshot: {"NAME.json": {version, length, hashes}} */
	const json_t *targets; /* targets: {path: {length, hashes}} */
	struct mfs_tuf_delegation *delegations; size_t n_delegations;
	bool succinct; /* delegations by hash bins instead */
	struct mfs_tuf_signers bin_signers;
	unsigned bin_bits;
	const char *bin_prefix;
};

/* what    for messages: the file's name, already escaped. bytes are copied. LIMIT_EXCEEDED, MALFORMED. */
enum mfs_code mfs_tuf_doc_parse(const char *what, enum mfs_tuf_type type, struct mfs_span bytes, struct mfs_tuf_doc **out,
	struct mfs_err *err);
void mfs_tuf_doc_free(struct mfs_tuf_doc *d);
MFS_DEFINE_CLEANUP(tuf_doc, struct mfs_tuf_doc, mfs_tuf_doc_free)
#define mfs_autotufdoc MFS_CLEANUP(mfs_cleanup_tuf_doc)

size_t mfs_tuf_type_cap(enum mfs_tuf_type type);
const char *mfs_tuf_type_name(enum mfs_tuf_type type);

/* METADATA_SIGNATURE_INVALID when fewer than the threshold of distinct keys have signed. */
enum mfs_code mfs_tuf_doc_verify(const struct mfs_tuf_doc *d, const char *what, const struct mfs_tuf_signers *signers,
	struct mfs_err *err);

/* The four roles of a root. */
struct mfs_tuf_signers mfs_tuf_root_signers(const struct mfs_tuf_doc *root, enum mfs_tuf_type role);

/* Length and hashes as they stand in snapshot, timestamp or targets. */
struct mfs_tuf_fileinfo {
	int64_t version; /* of metadata */
	bool has_length, has_sha256, has_sha512;
	int64_t length;
	struct mfs_sha256 sha256;
	uint8_t sha512[64];
};

/* An entry of doc->meta ("snapshot.json"); false when there is none. */
bool mfs_tuf_meta(const struct mfs_tuf_doc *d, const char *file, struct mfs_tuf_fileinfo *out);
bool mfs_tuf_target(const struct mfs_tuf_doc *d, const char *path, struct mfs_tuf_fileinfo *out);

/* Are these the bytes? HASH_MISMATCH. */
enum mfs_code mfs_tuf_fileinfo_check(const struct mfs_tuf_fileinfo *f, const char *what, struct mfs_span bytes,
	struct mfs_err *err);

/* ---- tuf_names.c: paths, patterns, file names -------------------------------------------------- */

/* Does a path pattern cover a path? Component by component; '*' and '?' do not cross '/'. */
bool mfs_tuf_pattern_match(const char *pattern, const char *path);
/* Does the delegation cover the path, whose SHA-256 is hash? */
bool mfs_tuf_delegation_covers(const struct mfs_tuf_delegation *d, const char *path, const struct mfs_sha256 *hash);
/* Name of the bin of a path; malloc'd. */
enum mfs_code mfs_tuf_bin_name(const struct mfs_tuf_doc *d, const struct mfs_sha256 *hash, char **out,
	struct mfs_err *err);
/* Where a target lies below targets/; malloc'd. hash NULL without consistent snapshots. */
enum mfs_code mfs_tuf_target_name(const char *path, const char *hash, char **out, struct mfs_err *err);
/* "YYYY-MM-DDTHH:MM:SSZ" to seconds since the epoch. */
bool mfs_tuf_time(const char *s, int64_t *out);
/* A delegated role may not be called root, timestamp, snapshot or targets, and its file name must be possible. */
bool mfs_tuf_role_name_ok(const char *name);

/* ---- tuf.c, tuf_roles.c, tuf_find.c: one run ------------------------------------------------------------------- */

struct mfs_tuf_local { /* what is stored; taken out when its turn comes */
	char *file;
	uint8_t *bytes;
	size_t len;
	struct mfs_tuf_local *next;
};

struct mfs_tuf_delegated { /* a role of a delegation that was verified in this run */
	char *name;
	char *file;
	struct mfs_tuf_doc *doc;
	bool changed;
	char **via; size_t n_via; /* names of the delegators whose keys it was verified with */
	uint64_t used; /* number of the last search that visited it */
	struct mfs_tuf_delegated *next;
};

struct mfs_tuf_visit { /* a role that the search has still to visit */
	char *name;
	const struct mfs_tuf_doc *delegator;
	char *delegator_name;
	struct mfs_tuf_signers signers; /* borrowed from delegator */
};

#define MFS_TUF_STACK_MAX (MFS_TUF_VISITED_MAX * (2 * MFS_TUF_VISITED_MAX + 1))

struct mfs_tuf_search {
	char *path; /* NULL: no search */
	struct mfs_sha256 hash;
	struct mfs_tuf_visit *stack; size_t n_stack; /* the next one last */
	char *visited[MFS_TUF_VISITED_MAX]; size_t n_visited;
	size_t bytes; /* of them */
	bool waiting; /* for the bytes of the last one of the stack */
	bool done, found;
	struct mfs_tuf_target target;
	char *target_name, *target_role;
};

enum mfs_tuf_state { MFS_TUF_AT_ROOT, MFS_TUF_AT_TIMESTAMP, MFS_TUF_AT_SNAPSHOT, MFS_TUF_AT_TARGETS, MFS_TUF_READY,
	MFS_TUF_FAILED };

struct mfs_tuf {
	struct mfs_tuf_options opt;
	enum mfs_tuf_state state;
	bool entered;       /* the stored file of this state has been looked at */
	struct mfs_err why; /* of MFS_TUF_FAILED */
	unsigned root_steps;
	struct mfs_tuf_doc *role[4]; /* by enum mfs_tuf_type; trusted */
	bool changed[4];
	bool lost[4];       /* a new root took a key of the role away */
	bool had_local[4];  /* a stored file was given: to be dropped if lost */
	struct mfs_tuf_local *local;
	struct mfs_tuf_delegated *delegated;
	size_t kept;        /* bytes of them */
	uint64_t searches;
	struct mfs_tuf_search search;
	char want[MFS_TUF_FILE_MAX + 1];
};

/* Has a new root taken a key of timestamp or snapshot away? Then nothing older than it counts. */
bool mfs_tuf_lost_online_key(const struct mfs_tuf *t);
void mfs_tuf_local_clear(struct mfs_tuf *t);
/* Take a stored file out of the list; false when there is none. The caller frees *bytes. */
bool mfs_tuf_local_take(struct mfs_tuf *t, const char *file, uint8_t **bytes, size_t *len);
/* The name to fetch a role under, into t->want. */
enum mfs_code mfs_tuf_want_name(struct mfs_tuf *t, const char *role, int64_t version, struct mfs_err *err);
/* METADATA_EXPIRED; grace in seconds. */
enum mfs_code mfs_tuf_fresh(const struct mfs_tuf *t, const struct mfs_tuf_doc *d, const char *what, int64_t grace,
	struct mfs_err *err);

enum mfs_code mfs_tuf_search_next(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err);
enum mfs_code mfs_tuf_search_feed(struct mfs_tuf *t, enum mfs_tuf_answer answer, struct mfs_span bytes,
	struct mfs_err *err);
void mfs_tuf_search_clear(struct mfs_tuf *t);
void mfs_tuf_delegated_clear(struct mfs_tuf *t);

#endif
