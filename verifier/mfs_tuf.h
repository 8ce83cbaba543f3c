/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mfs_tuf.h - a client of a TUF 1.0 repository: what does it offer now, and who says so?
 *
 * Pure, like the whole folder: the caller reads files and fetches, this decides. One object is one
 * run with one fixed time:
 *
 *	mfs_tuf_new(root, &options, &t, err);        the newest trusted root that is stored
 *	mfs_tuf_local(t, "timestamp.json", bytes);   whatever else is stored, in any order
 *	for (;;) {
 *		mfs_tuf_next(t, &want, err);         fails: the run is over, see below
 *		if (want.name == NULL) break;        done
 *		... fetch metadata/<want.name>, at most want.cap bytes ...
 *		mfs_tuf_feed(t, answer, bytes, err);
 *	}
 *	... store what mfs_tuf_role() says, after a failure too ...
 *
 * and then, for each path of interest, mfs_tuf_find(t, path, err), the same loop (it walks the
 * delegations), and mfs_tuf_found(t, &target).
 *
 * Nothing that the repository sends is trusted for coming in over this interface: every byte is
 * capped, parsed within bounds, and verified before it changes anything. A failure never takes
 * back what was verified before it, so that a new root survives a bad timestamp.
 *
 * An object is for one thread at a time. Sources: TUF specification 1.0; modelfs-repository(5), READING.
 */
#ifndef MFS_TUF_H
#define MFS_TUF_H

#include "mfs_verify.h"

struct mfs_tuf;

struct mfs_tuf_options {
	int64_t now; /* seconds since the epoch; the fixed start time of this run: what expires at or before it has expired */
	/*
	 * What counts instead once a new root took a key of timestamp away: the time without what the holder of that key
	 * may have pushed, or an expiry beyond all that is signed would keep out the very root that ends it. 0: `now` counts
	 */
	int64_t now_rotated;
	int64_t expired_grace; /* seconds that timestamp and snapshot may be expired; never root or targets. 0..MFS_TUF_GRACE_MAX */
	/*
	 * The least versions that may be accepted, from authenticated state, for the case that the files
	 * are lost; 0 without. Like the stored files they do not count any more once a new root took a
	 * key of timestamp or snapshot away.
	 */
	int64_t floor_root, floor_timestamp, floor_snapshot, floor_targets;
};

/*
 * Begin a run with a trusted root: the configuration's on first contact, else the stored one (of
 * two, the one with the higher version). It must be signed by a threshold of its own keys; that it
 * has expired does not matter while a newer one can be had.
 *
 * root    bytes of a root.json, copied
 * errors  LIMIT_EXCEEDED, MALFORMED (names the field), METADATA_SIGNATURE_INVALID (not signed by its
 *         own threshold), ROLLBACK_ATTEMPT (below floor_root), CONFIG_INVALID (options), NO_MEMORY
 */
enum mfs_code mfs_tuf_new(struct mfs_span root, const struct mfs_tuf_options *opt, struct mfs_tuf **out,
	struct mfs_err *err);
void mfs_tuf_free(struct mfs_tuf *t);
MFS_DEFINE_CLEANUP(tuf, struct mfs_tuf, mfs_tuf_free)

/*
 * What is stored of an earlier run, verbatim. Verified when its turn comes, like anything that was
 * fetched (but never against its expiry: an old file is good for comparing versions); what does not
 * verify or does not fit is as if absent, and fetched. To be called before the first mfs_tuf_next(),
 * roles of delegations also later, before the mfs_tuf_find() that needs them. root.json is ignored.
 *
 * file    as struct mfs_tuf_role.file said ("timestamp.json", "release.det.json")
 * bytes   copied
 * errors  CONFIG_INVALID (no such name is possible), LIMIT_EXCEEDED, NO_MEMORY, INTERNAL (too late)
 */
enum mfs_code mfs_tuf_local(struct mfs_tuf *t, const char *file, struct mfs_span bytes, struct mfs_err *err);

struct mfs_tuf_want {
	const char *name;  /* below metadata/, percent-encoded ("3.root.json"); valid until the next call. NULL: done */
	const char *role;  /* "root", "timestamp", "release.det" as it is: untrusted text */
	size_t cap;        /* bytes at most: the role's limit, or the exact length that is signed for it */
	bool not_found_ok; /* MFS_TUF_NOT_FOUND is an ordinary answer (the root after the newest) */
	bool not_modified_ok; /* MFS_TUF_NOT_MODIFIED too (the timestamp, when a stored one is valid) */
};

/*
 * What is needed next. Asked again before the answer, it says the same.
 *
 * want    name NULL: the refresh, or the search that mfs_tuf_find() began, is complete
 * errors  METADATA_EXPIRED (root, timestamp, snapshot, targets as far as verified), and whatever the
 *         last mfs_tuf_feed() said. A refresh that failed stays failed: every later call says the
 *         same. A search that failed concerns its path alone: another one may begin.
 */
enum mfs_code mfs_tuf_next(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err);

enum mfs_tuf_answer {
	MFS_TUF_BYTES,
	MFS_TUF_NOT_FOUND,    /* 404, 403, no such file: bytes are not looked at */
	MFS_TUF_NOT_MODIFIED, /* 304 for the ETag of the stored timestamp */
};

/*
 * The answer to what mfs_tuf_next() wanted. Network trouble is no answer: end the run, and nothing
 * but time is lost.
 *
 * bytes   as received, copied; at most want.cap
 * errors  LIMIT_EXCEEDED (size, number of values), MALFORMED (names the field; too many keys or signatures),
 *         HASH_MISMATCH (mix-and-match: not the bytes that snapshot or timestamp names),
 *         METADATA_SIGNATURE_INVALID (threshold of distinct keys not met), ROLLBACK_ATTEMPT (version of
 *         a role, or one named in timestamp or snapshot, below what was trusted; names both),
 *         METADATA_EXPIRED, NET_HTTP (not found, where it must be), NO_MEMORY, INTERNAL (nothing was
 *         wanted)
 */
enum mfs_code mfs_tuf_feed(struct mfs_tuf *t, enum mfs_tuf_answer answer, struct mfs_span bytes, struct mfs_err *err);

/*
 * Begin to look for a target path; the refresh must be complete. An unfinished search is dropped.
 * Then mfs_tuf_next() until it is done. A role that was verified for an earlier path is not wanted
 * again, unless it had to make room for others (MFS_TUF_KEPT_MAX).
 *
 * path    as in the metadata ("det/policy.json"), not percent-encoded
 * errors  CONFIG_INVALID (empty, longer than MFS_TUF_PATH_MAX, begins with '/'), NO_MEMORY,
 *         INTERNAL (the refresh is not complete)
 */
enum mfs_code mfs_tuf_find(struct mfs_tuf *t, const char *path, struct mfs_err *err);

struct mfs_tuf_target {
	const char *path; /* what was looked for */
	const char *name; /* where it lies below targets/: with its hash when snapshots are consistent, percent-encoded */
	const char *role; /* the role that vouches for it: untrusted text */
	uint64_t length;  /* bytes, exactly */
	bool has_sha256, has_sha512; /* one at least */
	struct mfs_sha256 sha256;
	uint8_t sha512[64];
};

/* The result of a complete search; false: no role that may speak for the path names it. Borrowed until the next find. */
bool mfs_tuf_found(const struct mfs_tuf *t, struct mfs_tuf_target *out);

/* Are these the bytes of the target? LIMIT_EXCEEDED (longer), HASH_MISMATCH (shorter, other bytes), NO_MEMORY. */
enum mfs_code mfs_tuf_target_check(const struct mfs_tuf_target *target, struct mfs_span bytes, struct mfs_err *err);

/* ---- what to store and what to show ------------------------------------------------------------ */

/*
 * A role as it is trusted now. Store bytes under `file` when `changed`; remove `file`, and forget the
 * least version that was recorded, when `drop`: before the new root is in force, or else one that a thief
 * published locks the device out for ever. The same is due after a whole run when mfs_tuf_rotated().
 * Order that a power cut cannot hurt: removals first, then root, then the others (a file that is
 * missing is fetched again; the floors of struct mfs_tuf_options hold meanwhile, unless `drop`).
 * Expired metadata that was fetched is not among them, but an expired root is.
 */
struct mfs_tuf_role {
	const char *name;     /* "root", "timestamp", "snapshot", "targets", "release.det": untrusted text */
	const char *file;     /* name with what is not a letter, digit or one of -._~ percent-encoded, and ".json" */
	struct mfs_span bytes; /* as received; empty when `drop` */
	int64_t version;      /* 0 when `drop` */
	int64_t expires;      /* seconds since the epoch */
	struct mfs_sha256 sha256; /* of bytes */
	bool changed;         /* not what mfs_tuf_local() or mfs_tuf_new() brought */
	bool drop;            /* not root: a new root took a key of timestamp or snapshot away, and nothing newer is trusted yet */
};

/* The i-th one: root, timestamp, snapshot, targets as far as trusted or to be dropped, then delegated ones. Borrowed. */
bool mfs_tuf_role(const struct mfs_tuf *t, size_t i, struct mfs_tuf_role *out);
/* By role name; false when it is neither trusted nor to be dropped. */
bool mfs_tuf_role_find(const struct mfs_tuf *t, const char *name, struct mfs_tuf_role *out);

/*
 * Has a root that came in this run taken a key of the role ("timestamp", "snapshot", "targets")
 * away? Of timestamp or snapshot: both were dropped, versions start anew (recovery from a
 * fast-forward attack), and a time floor that came from them no longer binds.
 */
bool mfs_tuf_rotated(const struct mfs_tuf *t, const char *name);

/* ---- for those who make metadata ----------------------------------------------------------------- */

/*
 * The form that TUF signs: OLPC canonical JSON (sorted keys, no white space, only '"' and '\'
 * escaped, every other byte raw, so that the newlines of a PEM key are newlines).
 *
 * in      one JSON value, within the bounds of metadata (cap MFS_TUF_TARGETS_MAX)
 * out     malloc'd, NUL after *len bytes
 * errors  LIMIT_EXCEEDED, MALFORMED (offset), NO_MEMORY
 */
enum mfs_code mfs_tuf_canonical(struct mfs_span in, char **out, size_t *len, struct mfs_err *err);

/* The canonical form of the `signed` member of a metadata file: what signatures are over. */
enum mfs_code mfs_tuf_signed(struct mfs_span metadata, char **out, size_t *len, struct mfs_err *err);

/*
 * How far is a file signed? For a root that several holders sign, and for `check`.
 *
 * delegator  a root or targets file whose keys count (not itself verified here)
 * role       "root", "targets", "release.det" as the delegator names it
 * metadata   the file; its _type must fit the role
 * valid      distinct public keys of the role that have signed
 * threshold  as many are needed
 * errors     MALFORMED, LIMIT_EXCEEDED, KEY_UNTRUSTED (the delegator has no such role), NO_MEMORY
 */
enum mfs_code mfs_tuf_count(struct mfs_span delegator, const char *role, struct mfs_span metadata, unsigned *valid,
	unsigned *threshold, struct mfs_err *err);

/*
 * File name of a role: percent-encoded, with ".json"; with "VERSION." before it unless version is 0.
 * CONFIG_INVALID when it would not fit MFS_TUF_FILE_MAX bytes or is empty.
 */
enum mfs_code mfs_tuf_file_name(const char *role, int64_t version, char out[MFS_TUF_FILE_MAX + 1], struct mfs_err *err);

#endif
