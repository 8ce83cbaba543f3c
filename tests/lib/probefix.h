/* SPDX-License-Identifier: Apache-2.0 */
/* probefix.h - a model file in memory, made byte by byte, and what the checks of its format say. */
#ifndef PROBEFIX_H
#define PROBEFIX_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"

#define CAP (1u << 20)

static uint8_t model[CAP], weights[CAP];
static size_t model_len, weights_len;
static enum mfs_code read_code;

static inline enum mfs_code
mem_read(void *user, size_t file, void *buf, size_t len, uint64_t off, struct mfs_err *err)
{
	const uint8_t *from = file == 0 ? model : weights;
	size_t size = file == 0 ? model_len : weights_len;

	(void)user;
	cr_assert(off <= size && len <= size - off, "read of %zu at %llu in %zu", len, (unsigned long long)off, size);
	if (read_code != MFS_OK)
		return mfs_fail(err, read_code, "as the test wants");
	memcpy(buf, from + off, len);
	return MFS_OK;
}

static inline bool
mem_find(void *user, const char *name, size_t *file, uint64_t *size)
{
	(void)user;
	*file = 1;
	*size = weights_len;
	return strcmp(name, "dir/w.data") == 0;
}

static inline enum mfs_code
probe(enum mfs_media media, struct mfs_err *err)
{
	struct mfs_probe p = { .read = mem_read, .find = mem_find, .total = model_len + weights_len };
	enum mfs_code code;

	*err = (struct mfs_err)MFS_ERR_INIT;
	code = mfs_probe_file(&p, media, 0, "dir/model", model_len, err);
	mfs_probe_end(&p);
	cr_assert_eq(code, err->code);
	return code;
}

static inline void
good(enum mfs_media media)
{
	struct mfs_err err;

	cr_assert_eq(probe(media, &err), MFS_OK, "%s", err.msg);
}

static inline void
bad(enum mfs_media media, const char *words)
{
	struct mfs_err err;

	cr_assert_eq(probe(media, &err), MFS_HEALTH_CHECK_FAILED, "%s: %s", words, err.msg);
	cr_assert_not_null(strstr(err.msg, words), "wanted '%s', got '%s'", words, err.msg);
	cr_assert(strncmp(err.msg, "dir/model: offset ", 18) == 0 || strncmp(err.msg, "dir/w.data: offset ", 19) == 0, "%s", err.msg);
}

/* Every prefix, and every byte inverted, is a verdict or passes: never a crash, never another code. */
static inline void
survives_damage(enum mfs_media media)
{
	size_t whole = model_len;
	struct mfs_err err;

	for (model_len = 0; model_len < whole; model_len++)
		cr_assert_eq(probe(media, &err), MFS_HEALTH_CHECK_FAILED, "cut at %zu of %zu passes", model_len, whole);
	for (size_t i = 0; i < whole; i++) {
		enum mfs_code code;

		model[i] ^= 0xff;
		code = probe(media, &err);
		cr_assert(code == MFS_OK || code == MFS_HEALTH_CHECK_FAILED, "byte %zu: %s", i, err.msg);
		model[i] ^= 0xff;
	}
	good(media);
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

static inline void
put(const void *p, size_t n)
{
	cr_assert_leq(model_len + n, CAP);
	memcpy(model + model_len, p, n);
	model_len += n;
}

static inline void
le(uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++, v >>= 8)
		put(&(uint8_t){ (uint8_t)v }, 1);
}

static inline void
pad(size_t to)
{
	while (model_len % to != 0)
		le(0, 1);
}

static inline void
f32(float v)
{
	uint32_t bits;

	memcpy(&bits, &v, 4);
	le(bits, 4);
}

static const uint8_t one[4] = { 0, 0, 0x80, 0x3f }, nan_[4] = { 0, 0, 0xc0, 0x7f };

static inline void
safetensors(const char *header, size_t data)
{
	model_len = weights_len = 0;
	le(strlen(header), 8);
	put(header, strlen(header));
	for (size_t i = 0; i < data / 4; i++)
		f32(1.5f);
}

#endif
