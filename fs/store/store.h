/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the store: content-addressed blobs and a second copy of manifests.
 *
 *	blobs/sha256/ab/<hash>             payloads and chunk tables as stored (ciphertext or plain)
 *	manifests/<hash>/manifest.json, signature.sig, signature.<key_id>.sig
 *	grants/<model_key_id>/<content_key_id>.kwp   wrapped content keys that came beside their manifest, unsigned
 *	staging/                           temporaries: emptied at open by whoever holds the lock
 *	staging/dl-<id>/                   a download under way: kept, see the update cycle; of a repair: by payload
 *	install.lock                       held by who adds blobs; gc takes it too
 *
 * May be deleted at any time: blobs are fetched or installed again. Nothing here is trusted:
 * every byte is verified after its last read. Threads any; the folder is owned by serve's uid.
 */
#ifndef MFS_STORE_H
#define MFS_STORE_H

#include "mfs_verify.h"

struct mfs_store;

/*
 * dirfd    the store's folder, already open (before the sandbox); duplicated
 * seeds    read-only folders of the same layout, or bundles, or folders of bundles; consulted after the store
 * errors   IO
 */
enum mfs_code mfs_store_open(int dirfd, const int *seeds, size_t n_seeds, struct mfs_store **out,
	struct mfs_err *err);
void mfs_store_close(struct mfs_store *s);
MFS_DEFINE_CLEANUP(store, struct mfs_store, mfs_store_close)

/*
 * Take install.lock without waiting.
 *
 * fd      set to a descriptor that holds the lock until it is closed, -1 on failure
 * errors  CONDITION_UNMET (somebody else adds or collects blobs), IO
 */
enum mfs_code mfs_store_lock(struct mfs_store *s, int *fd, struct mfs_err *err);

/*
 * May `need` bytes be added while `min_free` (bytes, or percent of the filesystem if <= 100) stays
 * free? 5 % are added to need. errors INSUFFICIENT_STORAGE (names the figures), IO
 */
enum mfs_code mfs_store_room(struct mfs_store *s, uint64_t need, uint64_t min_free, struct mfs_err *err);

/*
 * Remove what an interrupted installation left in staging/; downloads under way stay. Only for the holder of
 * install.lock.
 */
enum mfs_code mfs_store_clean(struct mfs_store *s, struct mfs_err *err);

/* A blob's descriptor with extra open flags (O_DIRECT); -1 with errno. Regular files only. */
int mfs_store_blob_open(struct mfs_store *s, const struct mfs_sha256 *hash, int flags);
bool mfs_store_blob_has(struct mfs_store *s, const struct mfs_sha256 *hash, uint64_t size);

/* Take a blob away again that an installation brought and then failed; absent is fine. Holder of install.lock. */
void mfs_store_blob_drop(struct mfs_store *s, const struct mfs_sha256 *hash);

/*
 * Add a blob. Bytes are written to a temporary in staging/, hashed as they come; commit compares
 * the whole hash and size, fsyncs, renames into place and fsyncs the folder. A put that is not
 * committed leaves nothing. One thread per put.
 *
 * errors  INSUFFICIENT_STORAGE, HASH_MISMATCH, IO
 */
struct mfs_put;
enum mfs_code mfs_put_begin(struct mfs_store *s, const struct mfs_sha256 *hash, uint64_t size, struct mfs_put **out,
	struct mfs_err *err);
enum mfs_code mfs_put_write(struct mfs_put *p, const void *buf, size_t n, struct mfs_err *err); /* zero blocks become holes */
enum mfs_code mfs_put_commit(struct mfs_put *p, struct mfs_err *err); /* p stays to be freed */
void mfs_put_free(struct mfs_put *p);
MFS_DEFINE_CLEANUP(put, struct mfs_put, mfs_put_free)

/*
 * Downloads (fs/update): staging/dl-<id>/, by local model id. Whoever downloads for a model is alone with its folder;
 * install.lock is needed only for _place. Names in it are "<hash>.data" and "<hash>.journal".
 *
 * _open   makes the folder; *dirfd is the caller's. errors IO
 * _find   the folder if it is there; -1 with errno
 * _trim   remove all but what these hashes name
 * _drop   the folder and all in it; _collect: those of models that are not among ids; _filter: those that keep() does
 *         not want to keep
 * _place  a file of dirfd, verified and on disk, becomes the blob; sync: and its folder is synced. errors IO
 */
enum mfs_code mfs_stage_open(struct mfs_store *s, const char *id, int *dirfd, struct mfs_err *err);
int mfs_stage_find(struct mfs_store *s, const char *id);
void mfs_stage_trim(int dirfd, const struct mfs_sha256 *keep, size_t n_keep);
void mfs_stage_drop(struct mfs_store *s, const char *id);
void mfs_stage_collect(struct mfs_store *s, const char *const *ids, size_t n);
void mfs_stage_filter(struct mfs_store *s, bool (*keep)(void *user, const char *id), void *user);
enum mfs_code mfs_stage_place(struct mfs_store *s, int dirfd, const char *name, const struct mfs_sha256 *hash,
	bool sync, struct mfs_err *err);

/*
 * Write to a blob of which nothing was written at this place yet (fresh) leaves zero blocks as holes; otherwise all
 * of it. 0, or -1 with errno.
 */
int mfs_blob_write(int fd, const void *buf, size_t n, uint64_t off, bool fresh);

struct mfs_signed { /* a manifest and its signatures as received; malloc'd */
	uint8_t *manifest; size_t manifest_len;
	uint8_t *sig; size_t sig_len; /* signature.sig */
	struct mfs_signed_extra { struct mfs_sha256 key_id; uint8_t *bytes; size_t len; } *extra; size_t n_extra;
};
void mfs_signed_free(struct mfs_signed *s); /* the contents; s itself is the caller's */

bool mfs_signed_equal(const struct mfs_signed *a, const struct mfs_signed *b); /* the same bytes and keys */

/* Both copies (state and store) of what was signed, by folder descriptor: `manifests/<hash>/` below it. */
enum mfs_code mfs_signed_put(int dirfd, const struct mfs_sha256 *id, const struct mfs_signed *s, struct mfs_err *err);
enum mfs_code mfs_signed_get(int dirfd, const struct mfs_sha256 *id, struct mfs_signed *out, struct mfs_err *err);
enum mfs_code mfs_signed_remove(int dirfd, const struct mfs_sha256 *id, struct mfs_err *err);
/* Every manifest hash below dirfd (malloc'd array). */
enum mfs_code mfs_signed_list(int dirfd, struct mfs_sha256 **out, size_t *n, struct mfs_err *err);

/*
 * Wrapped content keys that no manifest has, by the names they have in bundles and repositories. Untrusted like all
 * that is here: mfs_content_key_unwrap_grant() decides.
 *
 * _next  the next place that has one, from *place on (0 first): the store, then seeds and their bundles. A file of
 *        another length, a link or anything but a regular file is none. false: no further place
 * _put   replaces what stands there. errors IO, INSUFFICIENT_STORAGE
 * _gc    remove what is for none of these content keys (sorted), and whatever else lies there. Holder of install.lock
 */
#define MFS_WRAP_PATH 136 /* bytes of "<64 digits>/<64 digits>.kwp" with its end */
void mfs_wrap_path(char out[MFS_WRAP_PATH], const struct mfs_sha256 *model_key, const struct mfs_sha256 *content_key);
bool mfs_store_wrap_next(struct mfs_store *s, const struct mfs_sha256 *model_key, const struct mfs_sha256 *content_key,
	size_t *place, uint8_t out[MFS_WRAP_LEN]);
enum mfs_code mfs_store_wrap_put(struct mfs_store *s, const struct mfs_sha256 *model_key,
	const struct mfs_sha256 *content_key, const uint8_t wrapped[MFS_WRAP_LEN], struct mfs_err *err);
void mfs_store_wrap_gc(struct mfs_store *s, const struct mfs_sha256 *keep, size_t n_keep);

int mfs_store_dirfd(const struct mfs_store *s);

/* Remove blobs that `keep` (sorted) does not name and that are older than the start of the scan. */
enum mfs_code mfs_store_gc(struct mfs_store *s, const struct mfs_sha256 *keep, size_t n_keep, uint64_t *freed,
	size_t *removed, struct mfs_err *err);

/* Bytes held by blobs (allocated size). */
enum mfs_code mfs_store_usage(struct mfs_store *s, uint64_t *bytes, struct mfs_err *err);

#endif
