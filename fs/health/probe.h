/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - what the parsers of model formats share (inside fs/health): bounded reads of one file through
 * a callback, budgets, and the search for NaN and infinity.
 *
 * A file is untrusted (its publisher may be wrong): every length is 64 bits and checked before it is
 * used, nothing is recursive without a bound, memory does not grow with the file, and work is bounded by
 * the file's size. A verdict about the bytes is HEALTH_CHECK_FAILED; whatever the callback returns
 * is passed on as it is. One thread at a time.
 */
#ifndef MFS_PROBE_H
#define MFS_PROBE_H

#include <stdatomic.h>

#include "mfs_verify.h"

#define MFS_PROBE_WINDOW (64u << 10) /* bytes kept for structures */
#define MFS_PROBE_BUFFER (1u << 20)  /* bytes read at once in search of NaN */
#define MFS_PROBE_STEPS  (50u << 20) /* items of a structure that are looked at */
#define MFS_PROBE_DEPTH  64u         /* nested structures */
#define MFS_PROBE_SCANS  4u          /* times the bundle's bytes that may be searched: tensors may share some */

struct mfs_probe {
	/* Exactly len bytes of a file at off, which lie within it. */
	enum mfs_code (*read)(void *user, size_t file, void *buf, size_t len, uint64_t off, struct mfs_err *err);
	/* Another file of the same bundle by name; false: there is none. NULL: never. */
	bool (*find)(void *user, const char *name, size_t *file, uint64_t *size);
	void *user;
	const _Atomic int *cancel; /* may be NULL */
	uint64_t total; /* bytes of all files that may be searched: the bundle's */

	/* private, zero before the first use; mfs_probe_end() frees */
	size_t file;
	const char *name;
	uint64_t size;
	uint8_t *window, *buffer;
	uint64_t window_at;
	size_t window_len;
	uint64_t steps, scanned;
	struct mfs_err *err;
};

/*
 * Check one file against its media. Media without a check (text, other) are OK.
 *
 * errors  HEALTH_CHECK_FAILED "FILE: offset N: what", CONDITION_UNMET (cancelled), NO_MEMORY, what read returned
 */
enum mfs_code mfs_probe_file(struct mfs_probe *p, enum mfs_media media, size_t file, const char *name, uint64_t size,
	struct mfs_err *err);
void mfs_probe_end(struct mfs_probe *p);

/* ---- for the parsers ---------------------------------------------------------------------------- */

/* The verdict: this file is bad at this offset. */
enum mfs_code mfs_probe_bad(struct mfs_probe *p, uint64_t off, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Before each item of a structure: the budget, and whether to go on. */
enum mfs_code mfs_probe_step(struct mfs_probe *p, uint64_t off);

/* len bytes at off; beyond the end is bad. `what` is for the message. */
enum mfs_code mfs_probe_get(struct mfs_probe *p, uint64_t off, void *out, size_t len, const char *what);
enum mfs_code mfs_probe_u8(struct mfs_probe *p, uint64_t off, uint8_t *out, const char *what);
enum mfs_code mfs_probe_u16(struct mfs_probe *p, uint64_t off, uint16_t *out, const char *what);
enum mfs_code mfs_probe_u32(struct mfs_probe *p, uint64_t off, uint32_t *out, const char *what);
enum mfs_code mfs_probe_u64(struct mfs_probe *p, uint64_t off, uint64_t *out, const char *what);

/* off + len lies within the file. */
enum mfs_code mfs_probe_within(struct mfs_probe *p, uint64_t off, uint64_t len, const char *what);

enum mfs_float { MFS_FLOAT_NONE, MFS_FLOAT_F16, MFS_FLOAT_BF16, MFS_FLOAT_F32, MFS_FLOAT_F64 };

/*
 * The floats in len bytes at off: no NaN, and no infinity, but for a mask: a tensor of zeros and infinities of one sign
 * (an additive attention mask, the value that a Where or a reduction begins with). In weights infinity is what is left of
 * a value that did not fit, and other values stand beside it. `tensor` is for the message, unescaped. The _in variant
 * looks into another file of the bundle, the _part variant at one of several parts of a tensor.
 */
enum mfs_code mfs_probe_floats(struct mfs_probe *p, uint64_t off, uint64_t len, enum mfs_float kind, const char *tensor);
enum mfs_code mfs_probe_floats_in(struct mfs_probe *p, size_t file, const char *name, uint64_t size, uint64_t off,
	uint64_t len, enum mfs_float kind, const char *tensor);

/* What is known of one tensor that is looked at in parts; zero to begin with. */
struct mfs_probe_mask {
	bool infinite; /* result of the first look: look again at all of it, from the beginning */
	bool again;    /* set by the caller for the second look */
	bool negative; /* the infinity */
	uint64_t at;   /* offset of the first */
};
enum mfs_code mfs_probe_floats_part(struct mfs_probe *p, uint64_t off, uint64_t len, enum mfs_float kind, const char *tensor,
	struct mfs_probe_mask *m);
/* One element; off and name are for the message. */
enum mfs_code mfs_probe_element(struct mfs_probe *p, const char *name, uint64_t off, enum mfs_float kind, uint64_t bits,
	const char *tensor, struct mfs_probe_mask *m);
unsigned mfs_probe_float_bytes(enum mfs_float kind);

/* The formats. p->file is set. */
enum mfs_code mfs_probe_gguf(struct mfs_probe *p);
enum mfs_code mfs_probe_safetensors(struct mfs_probe *p);
enum mfs_code mfs_probe_onnx(struct mfs_probe *p);
enum mfs_code mfs_probe_tflite(struct mfs_probe *p);

#endif
