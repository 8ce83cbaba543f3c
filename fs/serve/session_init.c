/* SPDX-License-Identifier: Apache-2.0 */
/* session_init.c - one answer to FUSE_INIT, computed twice. */
#include "session_init.h"

#include <linux/fuse.h>
#include <string.h>

/* Bits 32 and up of the 64 flags lie in flags2; from newer headers than the oldest supported system ships. */
#define FLAGS2_PASSTHROUGH (1u << (37 - 32))
#define FLAGS2_HAS_RESEND  (1u << (39 - 32))

/*
 * Reply of protocol 7.38 as bytes on the wire, 64 of them, whatever the headers of the build call
 * the last fields.
 */
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};
_Static_assert(sizeof(struct init_out) == sizeof(struct fuse_init_out), "INIT reply of 64 bytes");

/*
 * Never: CACHE_SYMLINKS (the swap is a link), AUTO_INVAL_DATA and writeback (content never
 * changes), HANDLE_KILLPRIV, ATOMIC_O_TRUNC (nothing is written), NO_OPEN (handles are counted).
 */
static const uint32_t flags_wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
				     FUSE_INIT_EXT | FUSE_EXPLICIT_INVAL_DATA;

enum mfs_code
mfs_init_answer(const uint8_t *in, size_t in_len, bool passthrough, struct mfs_init_offer *offer, uint8_t *out,
	uint32_t *out_len, struct mfs_err *err)
{
	struct fuse_in_header h;
	struct { /* the first fields; flags2 since 7.36 */
		uint32_t major, minor, max_readahead, flags, flags2;
	} req = { 0 };
	struct init_out rep = { .major = 7, .minor = 38 };
	struct fuse_out_header oh = { .len = sizeof(oh) + sizeof(rep) };

	if (in_len < sizeof(h) + 16)
		return mfs_fail(err, MFS_MALFORMED, "INIT request of %zu bytes", in_len);
	memcpy(&h, in, sizeof(h));
	memcpy(&req, in + sizeof(h), in_len - sizeof(h) < sizeof(req) ? in_len - sizeof(h) : sizeof(req));
	if (h.opcode != FUSE_INIT || req.major != 7 || req.minor < 31)
		return mfs_fail(err, MFS_MALFORMED, "first request is operation %u, protocol %u.%u; needs Linux 5.4 or newer",
			h.opcode, req.major, req.minor);
	if ((req.flags & FUSE_INIT_EXT) == 0)
		req.flags2 = 0;
	offer->minor = req.minor;
	offer->passthrough = (req.flags2 & FLAGS2_PASSTHROUGH) != 0;
	offer->resend = (req.flags2 & FLAGS2_HAS_RESEND) != 0;

	rep.max_readahead = req.max_readahead < MFS_FUSE_READAHEAD ? req.max_readahead : MFS_FUSE_READAHEAD;
	rep.flags = (req.flags & flags_wanted) | FUSE_BIG_WRITES;
	rep.max_background = MFS_FUSE_BACKGROUND;
	rep.congestion_threshold = MFS_FUSE_CONGESTION;
	rep.max_write = MFS_FUSE_MAX_WRITE;
	rep.time_gran = 1;
	rep.max_pages = MFS_FUSE_MAX_PAGES;
	if (passthrough && offer->passthrough) {
		rep.flags2 = FLAGS2_PASSTHROUGH;
		rep.max_stack_depth = 1;
	}
	oh.unique = h.unique;
	memcpy(out, &oh, sizeof(oh));
	memcpy(out + sizeof(oh), &rep, sizeof(rep));
	*out_len = oh.len;
	return MFS_OK;
}

void
mfs_init_choose(void *user, struct fuse_conn_info *conn)
{
	const unsigned want = (unsigned)(FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPLICIT_INVAL_DATA);

	(void)user;
	conn->want = conn->capable & want; /* nothing of libfuse's defaults */
	if (conn->max_readahead > MFS_FUSE_READAHEAD) /* the kernel's, so far */
		conn->max_readahead = MFS_FUSE_READAHEAD;
	conn->max_background = MFS_FUSE_BACKGROUND;
	conn->congestion_threshold = MFS_FUSE_CONGESTION;
	conn->max_write = MFS_FUSE_MAX_WRITE;
	conn->time_gran = 1;
}

enum mfs_code
mfs_init_compare(const uint8_t *libfuse, size_t libfuse_len, const uint8_t *keeper, size_t keeper_len,
	struct mfs_err *err)
{
	struct fuse_out_header lh, kh;
	struct init_out l, k;

	if (libfuse_len != sizeof(lh) + sizeof(l) || keeper_len != sizeof(kh) + sizeof(k))
		return mfs_fail(err, MFS_INTERNAL, "INIT: libfuse answers %zu bytes, keeper %zu", libfuse_len, keeper_len);
	memcpy(&lh, libfuse, sizeof(lh));
	memcpy(&l, libfuse + sizeof(lh), sizeof(l));
	memcpy(&kh, keeper, sizeof(kh));
	memcpy(&k, keeper + sizeof(kh), sizeof(k));
	if (lh.error != 0)
		return mfs_fail(err, MFS_INTERNAL, "INIT: libfuse refuses with error %d", -lh.error);
	/*
	 * What libfuse 3.14 cannot say, and does not act on: the extension of the flags, parallel
	 * folder operations (it forgets to pass them on), passthrough and its stack depth (its OPEN
	 * reply is sent whole by this code), max_pages (libfuse computes it from max_write, which
	 * bounds only writes). Taken from keeper's answer before comparing.
	 */
	l.flags |= k.flags & (FUSE_INIT_EXT | FUSE_PARALLEL_DIROPS);
	l.flags2 = k.flags2;
	l.max_stack_depth = k.max_stack_depth;
	l.max_pages = k.max_pages;
	/*
	 * minor is the version of each one's headers. The kernel tells only those below 31 apart from
	 * here on; libfuse goes by the kernel's, not by its own. The unused words say nothing.
	 */
	if (lh.unique != kh.unique || l.major != k.major || l.minor < 31 || k.minor < 31)
		return mfs_fail(err, MFS_INTERNAL, "INIT: libfuse speaks %u.%u, keeper %u.%u", l.major, l.minor, k.major,
			k.minor);
	if (l.flags != k.flags)
		return mfs_fail(err, MFS_INTERNAL, "INIT: libfuse wants flags %#x, keeper agreed on %#x", l.flags, k.flags);
#define SAME(field)                                                                                                    \
	do                                                                                                             \
		if (l.field != k.field)                                                                                \
			return mfs_fail(err, MFS_INTERNAL, "INIT: libfuse wants " #field " %u, keeper agreed on %u",   \
				(unsigned)l.field, (unsigned)k.field);                                                 \
	while (0)
	SAME(max_readahead);
	SAME(max_background);
	SAME(congestion_threshold);
	SAME(max_write);
	SAME(time_gran);
	SAME(map_alignment);
#undef SAME
	return MFS_OK;
}
