/* SPDX-License-Identifier: Apache-2.0 */
/* contentread.h - reads of a fixture's file, compared with its plaintext. */
#ifndef CONTENTREAD_H
#define CONTENTREAD_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include "contentfix.h"

#define CHUNK (64u << 10)
#define CACHE (1u << 20)

static inline enum mfs_code
read_at(struct mfs_content *c, void *buf, size_t len, uint64_t off, size_t *got)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_content_read(c, buf, len, off, got, &err);

	cr_assert_eq(code == MFS_OK, err.msg[0] == '\0', "a failure says why, a success nothing: %s", err.msg);
	return code;
}

static inline void
expect_same(struct fix *f, uint64_t off, size_t len)
{
	uint8_t *buf = malloc(len + 1);
	size_t want = off >= f->file.size ? 0 : f->file.size - off < len ? f->file.size - off : len, got = 99;

	cr_assert_not_null(buf);
	cr_assert_eq(read_at(f->c, buf, len, off, &got), MFS_OK);
	cr_assert_eq(got, want, "%zu at %lu: got %zu", len, (unsigned long)off, got);
	cr_assert_arr_eq(buf, f->plain + (off > f->file.size ? f->file.size : off), want);
	free(buf);
}

#endif
