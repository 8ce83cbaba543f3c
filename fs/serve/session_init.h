/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_init.h - FUSE_INIT: the answer of keeper, and the same from libfuse.
 *
 * keeper answers the kernel's INIT by itself, before any serve exists. Each serve replays the saved
 * request to its libfuse, which must come to the same answer: libfuse behaves by what it believes
 * was agreed.
 */
#ifndef MFS_SESSION_INIT_H
#define MFS_SESSION_INIT_H

#include <fuse_lowlevel.h>

#include "mfs_verify.h"

#define MFS_FUSE_READAHEAD  (1u << 20)
#define MFS_FUSE_BACKGROUND 64u
#define MFS_FUSE_CONGESTION 48u
#define MFS_FUSE_MAX_WRITE  4096u
#define MFS_FUSE_MAX_PAGES  256u /* 1 MiB reads */

/* What the kernel offers in its INIT request. */
struct mfs_init_offer {
	bool passthrough; /* Linux 6.9 */
	bool resend;      /* Linux 6.9 */
	uint32_t minor;
};

/*
 * keeper's reply, header included, to an INIT request as read from /dev/fuse.
 *
 * passthrough  ask for it (a noswap tmpfs exists); *offer says whether the kernel has it
 * out          at least 80 bytes; *out_len their number
 * errors       MALFORMED (not an INIT request of protocol 7)
 */
enum mfs_code mfs_init_answer(const uint8_t *in, size_t in_len, bool passthrough, struct mfs_init_offer *offer,
	uint8_t *out, uint32_t *out_len, struct mfs_err *err);

/* libfuse's init operation: choose exactly what keeper chose. */
void mfs_init_choose(void *user, struct fuse_conn_info *conn);

/*
 * Compare libfuse's reply with keeper's, both with their headers. errors INTERNAL: names the field.
 */
enum mfs_code mfs_init_compare(const uint8_t *libfuse, size_t libfuse_len, const uint8_t *keeper, size_t keeper_len,
	struct mfs_err *err);

#endif
