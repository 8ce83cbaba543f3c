/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memo.h - texts made from records, kept while the records stay the same, so that a document of
 * thousands of records costs what changed in it. And struct mfs_text, bytes that grow.
 *
 *	mfs_memo_begin(memo);
 *	for (each record, sorted by id) {
 *		mfs_memo_add(memo, record fields);                 everything that the text depends on
 *		if ((p = mfs_memo_find(memo, id, &n)) == NULL)
 *			p = mfs_memo_keep(memo, id, text, len);    made anew
 *	}
 *
 * What was kept is compared byte for byte with what is added now: nobody has to remember to say that a
 * record changed. One thread at a time.
 */
#ifndef MFS_MEMO_H
#define MFS_MEMO_H

#include <stdbool.h>
#include <stddef.h>

#include "cleanup.h"

struct mfs_text {
	char *p;        /* malloc'd, NUL after len bytes once something was added; free(p) */
	size_t len, cap;
};
/* false: no memory, and what was there stays. n may be 0. */
bool mfs_text_add(struct mfs_text *t, const void *p, size_t n);

struct mfs_memo;

struct mfs_memo *mfs_memo_new(void); /* NULL: no memory */
void mfs_memo_free(struct mfs_memo *m);
MFS_DEFINE_CLEANUP(memo, struct mfs_memo, mfs_memo_free)

/* A walk over all records begins. What it does not come by is forgotten as it passes. */
void mfs_memo_begin(struct mfs_memo *m);
/* A part of the present record. A failure is found by mfs_memo_find(), which then finds nothing. */
void mfs_memo_add(struct mfs_memo *m, const void *p, size_t n);
/* A string with its length, NULL told from empty. */
void mfs_memo_add_string(struct mfs_memo *m, const char *s);

/*
 * The text that was kept for `id` if everything added since the last _find is the same as then; else NULL.
 * Ids must come in the order of strcmp(), each once. The text is borrowed until the next _keep.
 */
const char *mfs_memo_find(struct mfs_memo *m, const char *id, size_t *len);
/* Right after a _find without a text. Takes text (malloc'd) over, also on failure. NULL: no memory. */
const char *mfs_memo_keep(struct mfs_memo *m, const char *id, char *text, size_t len);

#endif
