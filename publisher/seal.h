/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h - one input file into payload/<name> and chunks/<name>, streaming.
 *
 * Encrypting takes two passes: the key depends on the plaintext's SHA-256 (modelfs-bundle(5),
 * ENCRYPTION). The second pass hashes the plaintext again; if it differs, the file was written to
 * between them, other bytes went under that key and its nonces, and everything is thrown away.
 */
#ifndef MFS_PUB_SEAL_H
#define MFS_PUB_SEAL_H

#include <stdint.h>

#include "mfs_verify.h"
#include "outdir.h"
#include "progress.h"

struct mfs_sealer; /* workers' buffers, some 2 MiB per worker; one file at a time */
enum mfs_code mfs_sealer_new(struct mfs_sealer **out, struct mfs_err *err);
void mfs_sealer_free(struct mfs_sealer *s); /* wipes the plaintext */
MFS_DEFINE_CLEANUP(sealer, struct mfs_sealer, mfs_sealer_free)

struct mfs_seal_job {
	const char *path;     /* to read */
	const char *name;     /* in the bundle */
	const char *model_id;
	uint64_t size;        /* bytes that it must still have */
	uint32_t chunk_size;  /* bytes */
	enum mfs_cipher cipher;
	const struct mfs_key *content_key; /* NULL for plain */
	struct mfs_outdir *out;
	struct mfs_progress *progress; /* may be NULL; counts every pass */
	void (*between)(void *arg, const char *path); /* tests: called between the passes; else NULL */
	void *arg;
};

/*
 * out     size, sha256 (as stored), chunk_size, chunks, chunks_sha256 or tag, salt; name, media and
 *         executable are left to the caller
 * errors  IO (also: the file changed while it was packed), INSUFFICIENT_STORAGE, NO_MEMORY, INTERNAL.
 *         What was written so far stays in job->out, which the caller must not commit
 */
enum mfs_code mfs_seal_file(struct mfs_sealer *s, const struct mfs_seal_job *job, struct mfs_file *out,
	struct mfs_err *err);

#endif
