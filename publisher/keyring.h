/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyring.h - the role keys that are at hand: a folder of them, and options.
 *
 * Of a role R (root, targets, snapshot, timestamp, release, policy) the folder holds R.pem, or R.uri
 * whose first line is an OpenSSL store URI, and after rotations R-2.pem and so on. A key of one
 * model alone is release.ID.pem or policy.ID.pem. `--key R=URI` stands before the folder. A key is
 * loaded (and its pass phrase asked for) only when a command needs its role. Which of them count is
 * decided by the metadata, which lists key ids.
 */
#ifndef MFS_PUB_KEYRING_H
#define MFS_PUB_KEYRING_H

#include "signer.h"

struct mfs_keyring; /* one thread at a time */

/*
 * dir     folder, or NULL for none; need not exist until a key is looked for
 * passin  as mfs_signer_load(); borrowed, as is dir
 */
enum mfs_code mfs_keyring_new(const char *dir, const char *passin, struct mfs_keyring **out, struct mfs_err *err);
void mfs_keyring_free(struct mfs_keyring *r);
MFS_DEFINE_CLEANUP(keyring, struct mfs_keyring, mfs_keyring_free)
const char *mfs_keyring_dir(const struct mfs_keyring *r); /* NULL without */

/* "ROLE=URI", borrowed. CONFIG_INVALID */
enum mfs_code mfs_keyring_add(struct mfs_keyring *r, const char *arg, struct mfs_err *err);

/*
 * Every key at hand for a role ("timestamp", "release.det"), newest first: those of --key, then the
 * highest number in a file name. For a role of one model its own keys come first, then those of
 * "release" or "policy".
 *
 * list    borrowed from the ring; NULL when n is 0, which is no error
 */
enum mfs_code mfs_keyring_find(struct mfs_keyring *r, const char *role, struct mfs_signer *const **list, size_t *n,
	struct mfs_err *err);

/* A new key, as the next file of its role (R.pem, R-2.pem), mode 0600; never overwrites. Borrowed from the ring. */
enum mfs_code mfs_keyring_make(struct mfs_keyring *r, const char *role, enum mfs_signer_type type,
	struct mfs_signer **out, struct mfs_err *err);

#endif
