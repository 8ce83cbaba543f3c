/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shm.h - memory that keeper creates (a memfd) and every serve maps: what must survive a crash
 * of serve. keeper reads from it only what is marked so and treats it as untrusted; serve owns
 * the rest. Layout changes bump MFS_SHM_LAYOUT: a keeper never hands it to another layout.
 *
 * Cleared to zero at creation; zero means free everywhere.
 */
#ifndef MFS_SHM_H
#define MFS_SHM_H

#include <stdatomic.h>
#include <stdint.h>

#include "mfs_verify.h"

#define MFS_SHM_MAGIC   0x4d465348u /* "MFSH" */
#define MFS_SHM_LAYOUT  3u
#define MFS_SLOTS       256u      /* requests in flight; more wait in the kernel */
#define MFS_SLOT_BYTES  8192u     /* FUSE_MIN_READ_BUFFER; max_write is 4096 */
#define MFS_PARKED      8192u     /* reads that wait for a thread, out of the slots */
#define MFS_PARKED_BYTES 128u     /* a READ has 80 */
#define MFS_HANDLES     32768u    /* open files; beyond: ENFILE */
#define MFS_EXPOSURES   4096u     /* live (version, exposure, tier) */
#define MFS_RESIDENTS   4096u     /* resident files */
#define MFS_SNAPS       64u       /* open snapshots of status files */
#define MFS_SNAP_BYTES  (1u << 20)
#define MFS_SHM_MODELS  1024u     /* configured models */
#define MFS_LOADS       1024u     /* processes loading something at one time */
#define MFS_LOAD_SEEN   (MFS_FILES_MAX / 8) /* one bit a file */
#define MFS_SWAPS       8u        /* versions of one model that left `active` within 60 s */

/*
 * A request slot. buf is read straight from /dev/fuse: `in` fuse_in_header first. Before the
 * read hdr.len is set to 0, after the reply was written it is set to 0 again: nonzero means a
 * request that still wants an answer. attempts counts the serves that began to work on it.
 */
struct mfs_shm_slot {
	_Atomic uint32_t attempts;
	uint32_t pad[15]; /* own cache line */
	uint8_t buf[MFS_SLOT_BYTES] __attribute__((aligned(64)));
};

/*
 * A READ that waits until a thread may be slow. Moved here so that any number of slow reads leaves
 * slots free for metadata; otherwise as a slot: nonzero hdr.len wants an answer.
 */
struct mfs_shm_parked {
	uint8_t buf[MFS_PARKED_BYTES] __attribute__((aligned(64)));
	_Atomic uint32_t attempts;
};

/* fh = (low 32 bits of the OPEN's unique) << 32 | index; written before the reply, 0 when free. */
struct mfs_shm_handle {
	_Atomic uint64_t fh;
	uint64_t node;
	uint64_t owner;    /* of pins.h: the load that opened it, 0 none */
	uint32_t exposure; /* index + 1, or 0: not a payload file */
	uint32_t snap;     /* index + 1, or 0 */
	uint32_t uid;      /* who opened it: nobody may take all */
	uint32_t pad;
};

enum mfs_exposure_state { MFS_EXPOSURE_FREE, MFS_EXPOSURE_LIVE, MFS_EXPOSURE_CLAIMED /* being filled in */ };

/* One exposure of one version: the node ids of its files follow from it. */
struct mfs_shm_exposure {
	_Atomic uint32_t state;
	uint32_t tier;  /* enum mfs_tier */
	uint64_t exposure;
	struct mfs_sha256 manifest;
	char model[MFS_ID_MAX + 1]; /* local id */
};

enum mfs_resident_state { MFS_RESIDENT_FREE, MFS_RESIDENT_FILLING, MFS_RESIDENT_READY };

/* A resident file: `slot` of the verbs of klink.h is the index. */
struct mfs_shm_resident {
	_Atomic uint32_t state;
	uint32_t exposure; /* index + 1 */
	uint32_t file;     /* index in the manifest */
	int32_t backing_id; /* valid when READY */
	uint64_t size;
};

struct mfs_shm_snap {
	_Atomic uint32_t used; /* 1 while a handle refers to it */
	uint32_t len;
};

struct mfs_shm_model { /* by index in the configuration */
	_Atomic uint32_t fill_deaths; /* serves that died while filling it */
	_Atomic uint32_t filling;     /* set during a fill */
	/* Which of the two is valid: 1 or 2, 0 none. The other one is being written. */
	_Atomic uint32_t shown_at, announced_at, candidate_at;
	struct mfs_sha256 candidate[2]; /* what is being checked: a successor shows it again; a new mount does not */
	struct mfs_sha256 shown[2]; /* what `active` led to last */
	struct {
		int64_t ns;
		char line[256];
	} announced[2]; /* what `generation` said last */
};

/* pins.h: who is loading what; a crash of serve must not let a loader mix two versions. */
struct mfs_shm_load {
	_Atomic int64_t last_ms; /* 0: free. CLOCK_BOOTTIME; written last, cleared first */
	uint64_t serial;         /* high bits of an owner: an owner of an earlier load does nothing */
	uint64_t process;        /* as struct mfs_process */
	int32_t tgid;
	uint32_t by_proc;
	uint32_t uid, model;
	uint32_t n_files, opened;
	struct mfs_sha256 manifest;
};

struct mfs_shm_swap {
	struct mfs_sha256 manifest;
	_Atomic int64_t at_ms; /* 0: free; written last */
};

struct mfs_shm_pins { /* by index in the configuration: keeper clears it when that changes */
	_Atomic uint64_t serial;
	_Atomic int64_t last_swap_ms[MFS_SHM_MODELS]; /* 0: none, or every load was ended */
	struct mfs_shm_swap swaps[MFS_SHM_MODELS][MFS_SWAPS];
	struct mfs_shm_load loads[MFS_LOADS];
	uint8_t seen[MFS_LOADS][MFS_LOAD_SEEN];
};

struct mfs_shm {
	uint32_t magic, layout;
	uint64_t total; /* bytes of the whole mapping */

	/* keeper writes, serve reads */
	uint32_t init_in_len, init_out_len;
	uint8_t init_in[512];   /* the INIT request as read */
	uint8_t init_out[256];  /* keeper's reply, header included */
	uint32_t passthrough;   /* kernel and tmpfs allow the resident tier */
	uint32_t noswap;
	uint32_t kernel_resend; /* NOTIFY_RESEND exists and is not disabled by a test */
	uint64_t tmpfs_size;    /* bytes: size= of the resident tmpfs */
	uint32_t read_ahead_kb; /* in effect; 0 could not be set */
	uint32_t rootless;
	int64_t mounted_at;     /* seconds since the epoch */
	_Atomic uint32_t serve_pid;
	_Atomic uint32_t serve_restarts;
	_Atomic uint32_t toucher; /* pid allowed to write `generation`; 0 none */

	/* serve writes */
	_Atomic uint64_t taken_over; /* requests answered by a successor */
	_Atomic uint64_t chunk_failures;
	struct mfs_shm_model models[MFS_SHM_MODELS];
	struct mfs_shm_exposure exposures[MFS_EXPOSURES];
	struct mfs_shm_resident residents[MFS_RESIDENTS];
	struct mfs_shm_handle handles[MFS_HANDLES];
	struct mfs_shm_snap snaps[MFS_SNAPS];
	struct mfs_shm_slot slots[MFS_SLOTS];
	_Atomic uint32_t parked_used; /* places below were in use at some time; memory of the others is not touched */
	struct mfs_shm_parked parked[MFS_PARKED];
	struct mfs_shm_pins pins;
	uint8_t snap_bytes[MFS_SNAPS][MFS_SNAP_BYTES] __attribute__((aligned(4096)));
};

#endif
