/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h - what the holder of a folder of keys saw last of a repository.
 *
 * A backup that was restored over a repository, or a copy that went the wrong way, verifies: it is only older. What is
 * signed upon it uses version numbers again that devices know with other content. So KEYDIR/seen.<ID>.json, ID being the
 * start of the SHA-256 of 1.root.json, has the versions that were there when a command ended, and every command that
 * gets KEYDIR compares, and warns. Format: modelfs-repository(5), CHANGES.
 *
 * One thread; the repository is locked by the caller.
 */
#ifndef MFS_PUB_RECORD_H
#define MFS_PUB_RECORD_H

#include "keyring.h"
#include "repo.h"

/*
 * Compare a repository that was just opened with the record in keys (a folder, which may be absent, and may have none).
 *
 * restored  it may be older: r->record is set then, for mfs_record_resume()
 * errors    ROLLBACK_ATTEMPT (older, or another copy of the same versions), IO, LIMIT_EXCEEDED, MALFORMED
 */
enum mfs_code mfs_record_check(struct mfs_repo *r, const char *keys, bool restored, struct mfs_err *err);

/*
 * Go on from the older state: edit every role that the record has in another version, so that it is signed above that;
 * a model that the older state does not have is delegated again, without a version. A policy's sequence goes above any
 * that devices can have. Nothing without r->record.
 *
 * errors  ROLLBACK_ATTEMPT (the root is older: it must be brought back), KEY_UNAVAILABLE, those of mfs_repo_edit()
 */
enum mfs_code mfs_record_resume(struct mfs_repo *r, struct mfs_keyring *ring, struct mfs_err *err);

/* The version that the record has of a role; 0 without r->record. */
int64_t mfs_record_version(const struct mfs_repo *r, const char *role);

/*
 * Write what r holds, as it was read or as mfs_repo_commit() wrote it into the repository, unless the record says so
 * already. IO, INSUFFICIENT_STORAGE, NO_MEMORY
 */
enum mfs_code mfs_record_write(const struct mfs_repo *r, const char *keys, struct mfs_err *err);

#endif
