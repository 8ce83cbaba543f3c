/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bundledir.h - a bundle's folder, opened as the untrusted thing it is.
 *
 * Files and names only: no keys, no JSON, no trust. Everything is reached from one folder
 * descriptor with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS), so no
 * link leads anywhere; only regular files are opened (a device or FIFO is looked at through
 * O_PATH first, so that opening it has no effect). `modelpub verify` and `modelfs install` use
 * the same code. Layout: modelfs-bundle(5), FOLDER.
 *
 * No function keeps state; any thread, also several on one descriptor.
 */
#ifndef MFS_BUNDLEDIR_H
#define MFS_BUNDLEDIR_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "cleanup.h"
#include "error.h"

#define MFS_BUNDLE_KEY_HEX 64 /* digits of a key id in "signature.<key_id>.sig" */

struct mfs_bundle_sig {
	char key_id[MFS_BUNDLE_KEY_HEX + 1]; /* lower-case hex; empty for signature.sig */
	uint8_t *bytes;
	size_t len;
};

struct mfs_bundle_docs { /* the small files on the top level */
	uint8_t *manifest; /* NUL after manifest_len bytes */
	size_t manifest_len;
	struct mfs_bundle_sig *sigs; /* signature.sig first when it exists, then by key id */
	size_t n_sigs;
};

struct mfs_bundle_caps { /* the caller's limits (verifier/mfs_limits.h) */
	size_t manifest_bytes;
	size_t signature_bytes;
	size_t signatures;
};

/*
 * Open a bundle's folder by path (the path itself may go through links: the operator named it).
 *
 * fd      set to a descriptor to be closed by the caller, -1 on failure
 * errors  IO (errno kept; ENOTDIR when it is a file)
 */
enum mfs_code mfs_bundledir_open(const char *path, int *fd, struct mfs_err *err);

/*
 * Read manifest.json and every signature file.
 *
 * out     zeroed on failure; release with mfs_bundle_docs_free()
 * errors  MALFORMED (no manifest.json; a link or special file), LIMIT_EXCEEDED (sizes, number of
 *         signatures), IO, NO_MEMORY. No signature at all is not an error here: the verifier refuses it
 */
enum mfs_code mfs_bundledir_docs(int dirfd, const struct mfs_bundle_caps *caps, struct mfs_bundle_docs *out,
	struct mfs_err *err);
void mfs_bundle_docs_free(struct mfs_bundle_docs *d);

/*
 * Open part/name ("payload", "chunks", "index") for reading; name is one that the manifest has
 * vouched for.
 *
 * size    exact length in bytes that the file must have
 * fd      set to a descriptor to be closed by the caller, -1 on failure
 * errors  HASH_MISMATCH (missing, shorter or longer: the copy is damaged, not the manifest),
 *         MALFORMED (a link or special file), IO
 */
enum mfs_code mfs_bundledir_file(int dirfd, const char *part, const char *name, uint64_t size, int *fd,
	struct mfs_err *err);

/*
 * Refuse whatever stands in folder `part` beyond the expected names: a surplus file, a folder
 * that leads to none of them, a link, a special file. The folder may be absent. Missing files
 * are not reported: mfs_bundledir_file() does.
 *
 * names   n names relative to the folder, sorted by strcmp (a manifest's files are)
 * errors  MALFORMED (names the file), IO, NO_MEMORY
 */
enum mfs_code mfs_bundledir_surplus(int dirfd, const char *part, const char *const *names, size_t n,
	struct mfs_err *err);

/*
 * Call fn for every entry on the top level that is not part of a bundle (such entries are
 * ignored, and named to the user). name is untrusted: print it with MFS_ESC.
 */
enum mfs_code mfs_bundledir_others(int dirfd, void (*fn)(void *arg, const char *name), void *arg,
	struct mfs_err *err);

#define mfs_autobundledocs MFS_CLEANUP(mfs_bundle_docs_free)

#endif
