/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jsonline.h - one JSON value read in place, for inventories of millions of lines: strings are
 * unescaped where they lie, nothing is allocated, what nobody asks for is skipped (and checked).
 * RFC 8259; strings without U+0000; numbers that are asked for are integers of 63 bits.
 *
 * A reader stands on a value or after one. The first mistake is kept in `bad`, with its place;
 * every function is false from then on.
 */
#ifndef MFS_PUB_JSONLINE_H
#define MFS_PUB_JSONLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MFS_JSONLINE_DEPTH 16u

struct mfs_jsonline {
	char *text, *p, *end;
	const char *bad; /* why it is not JSON; NULL: nothing wrong so far */
	size_t bad_at;   /* byte, from 1 */
};

/* text is changed while it is read, and borrowed as long as its strings are used. */
void mfs_jsonline_init(struct mfs_jsonline *j, char *text, size_t len);

/* Kind of the value it stands on: one of { [ " 0 (a number) t f n, or 0 at anything else. */
char mfs_jsonline_kind(struct mfs_jsonline *j);

/*
 * Members of the object, items of the array it stands on. *first is true before the first call:
 *
 *	for (bool first = true; mfs_jsonline_member(j, &first, &key);) ... read or skip the value
 *
 * false after the last one, and when something is wrong: look at `bad`.
 */
bool mfs_jsonline_member(struct mfs_jsonline *j, bool *first, char **key);
bool mfs_jsonline_item(struct mfs_jsonline *j, bool *first);

bool mfs_jsonline_string(struct mfs_jsonline *j, char **out);
bool mfs_jsonline_integer(struct mfs_jsonline *j, int64_t *out);
bool mfs_jsonline_skip(struct mfs_jsonline *j);

/* Nothing but white space is left. */
bool mfs_jsonline_end(struct mfs_jsonline *j);

#endif
