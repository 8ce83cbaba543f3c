/* SPDX-License-Identifier: Apache-2.0 */
#include "memo.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool
mfs_text_add(struct mfs_text *t, const void *p, size_t n)
{
	size_t cap = t->cap > 0 ? t->cap : 256;
	char *grown;

	if (n >= SIZE_MAX / 2 - t->len)
		return false;
	while (cap <= t->len + n)
		cap *= 2;
	if (cap != t->cap) {
		if ((grown = realloc(t->p, cap)) == NULL)
			return false;
		t->p = grown;
		t->cap = cap;
	}
	if (n > 0)
		memcpy(t->p + t->len, p, n);
	t->len += n;
	t->p[t->len] = '\0';
	return true;
}

struct entry {
	char *id;
	char *key; size_t key_len;
	char *text; size_t len;
};

struct mfs_memo {
	struct entry *list; size_t n, cap; /* sorted by id */
	size_t at;           /* of the walk: everything before it was come by */
	struct mfs_text key; /* of the present record */
	bool failed;         /* its key lacks something */
};

static void
entry_clear(struct entry *e)
{
	free(e->id);
	free(e->key);
	free(e->text);
	*e = (struct entry){ 0 };
}

struct mfs_memo *
mfs_memo_new(void)
{
	return calloc(1, sizeof(struct mfs_memo));
}

void
mfs_memo_free(struct mfs_memo *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n; i++)
		entry_clear(&m->list[i]);
	free(m->list);
	free(m->key.p);
	free(m);
}

void
mfs_memo_begin(struct mfs_memo *m)
{
	m->at = 0;
	m->key.len = 0;
	m->failed = false;
}

void
mfs_memo_add(struct mfs_memo *m, const void *p, size_t n)
{
	if (!mfs_text_add(&m->key, p, n))
		m->failed = true;
}

void
mfs_memo_add_string(struct mfs_memo *m, const char *s)
{
	const size_t n = s != NULL ? strlen(s) : SIZE_MAX;

	mfs_memo_add(m, &n, sizeof(n));
	if (s != NULL)
		mfs_memo_add(m, s, n);
}

static void
entries_remove(struct mfs_memo *m, size_t from, size_t to)
{
	if (from == to)
		return;
	for (size_t i = from; i < to; i++)
		entry_clear(&m->list[i]);
	memmove(&m->list[from], &m->list[to], (m->n - to) * sizeof(*m->list));
	m->n -= to - from;
}

const char *
mfs_memo_find(struct mfs_memo *m, const char *id, size_t *len)
{
	struct entry *e;
	size_t to = m->at;

	*len = 0;
	while (to < m->n && strcmp(m->list[to].id, id) < 0)
		to++;
	entries_remove(m, m->at, to);
	if (m->at == m->n || strcmp(m->list[m->at].id, id) != 0)
		return NULL; /* the key stays for _keep */
	e = &m->list[m->at];
	if (m->failed || e->key_len != m->key.len || memcmp(e->key, m->key.p, e->key_len) != 0) {
		entries_remove(m, m->at, m->at + 1);
		return NULL;
	}
	m->at++;
	m->key.len = 0;
	*len = e->len;
	return e->text;
}

const char *
mfs_memo_keep(struct mfs_memo *m, const char *id, char *text, size_t len)
{
	struct entry e = { .id = strdup(id), .text = text, .len = len }, *grown;

	if (m->n == m->cap && (grown = reallocarray(m->list, m->cap * 2 + 16, sizeof(*grown))) != NULL) {
		m->list = grown;
		m->cap = m->cap * 2 + 16;
	}
	e.key = malloc(m->key.len + 1);
	if (m->failed || m->n == m->cap || e.id == NULL || e.key == NULL) {
		entry_clear(&e);
		return NULL;
	}
	e.key_len = m->key.len;
	if (e.key_len > 0)
		memcpy(e.key, m->key.p, e.key_len);
	memmove(&m->list[m->at + 1], &m->list[m->at], (m->n - m->at) * sizeof(*m->list));
	m->n++;
	m->list[m->at++] = e;
	m->key.len = 0;
	return e.text;
}
