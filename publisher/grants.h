/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grants.h - wrapped keys, from a bundle or a repository into a repository. They are outside TUF and unsigned: a
 * device believes one only when what it unwraps has the right hash, so a forged one is no more than useless.
 *
 *	grants/MODEL_KEY_ID/DEVICE_KEY_ID.hpke     a model key for one device
 *	grants/MODEL_KEY_ID/CONTENT_KEY_ID.kwp     a content key under a further model key
 */
#ifndef MFS_PUB_GRANTS_H
#define MFS_PUB_GRANTS_H

#include "bundledir.h"
#include "mfs_verify.h"
#include "outdir.h"
#include "repo.h"

#define MFS_GRANT_BYTES_MAX 4096u /* an HPKE grant has 80 or 113, a wrap 40 */

struct mfs_grants {
	int from;               /* a folder with grants/, not believed: no link is followed */
	struct mfs_repo *to;
	struct mfs_outdir *out; /* NULL, or the upload that gets what the repository lacks, beside its blobs */
	const struct mfs_manifest *only; /* NULL: every grant; else those for the keys of this manifest */
	bool look;              /* write nothing: only what would be an error */
	bool replace;           /* one of the same name with other bytes; else it is kept, and named */
	/* What is left out, and why. path is untrusted. NULL: nobody is told */
	void (*note)(void *arg, const char *path, const char *why);
	void *arg;
	size_t added;           /* result */
};

/*
 * Copy. A folder without grants/ has none.
 * errors  MALFORMED (a link or special file), LIMIT_EXCEEDED (a file above MFS_GRANT_BYTES_MAX), IO, NO_MEMORY
 */
enum mfs_code mfs_grants_copy(struct mfs_grants *g, struct mfs_err *err);

#endif
