/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/types.h>

#include "shape.h"

struct build {
	struct mfs_shape *s;
	struct mfs_shape_entry *raw; /* in order of discovery */
	uint32_t *dir_of;            /* folder of raw[i] */
	size_t n, cap, dirs_cap;
};

/* Order by components: '/' sorts before every other byte. */
static int
compare_names(const void *a, const void *b, void *user)
{
	const struct mfs_manifest *m = user;
	const uint8_t *x = (const uint8_t *)m->files[*(const uint32_t *)a].name;
	const uint8_t *y = (const uint8_t *)m->files[*(const uint32_t *)b].name;

	while (*x != 0 && *x == *y) {
		x++;
		y++;
	}
	return (*x == '/' ? 0 : *x) - (*y == '/' ? 0 : *y);
}

static bool
grow(void *pp, size_t *cap, size_t need, size_t size)
{
	void **p = pp, *q;
	size_t n = *cap < 64 ? 64 : *cap * 2;

	if (need <= *cap)
		return true;
	if (n < need)
		n = need;
	if ((q = reallocarray(*p, n, size)) == NULL)
		return false;
	*p = q;
	*cap = n;
	return true;
}

static bool
add_entry(struct build *b, uint32_t dir, const char *name, size_t len, uint32_t index)
{
	size_t cap = b->cap;

	if (!grow(&b->raw, &b->cap, b->n + 1, sizeof(*b->raw)))
		return false;
	if (!grow(&b->dir_of, &cap, b->n + 1, sizeof(*b->dir_of)))
		return false;
	b->raw[b->n] = (struct mfs_shape_entry){ name, index, (uint32_t)len };
	b->dir_of[b->n++] = dir;
	b->s->dirs[dir].n++;
	return true;
}

static bool
add_dir(struct build *b, uint32_t parent, const char *name, size_t len, uint32_t *out)
{
	if (!grow(&b->s->dirs, &b->dirs_cap, b->s->n_dirs + 1, sizeof(*b->s->dirs)))
		return false;
	*out = (uint32_t)b->s->n_dirs;
	b->s->dirs[b->s->n_dirs++] = (struct mfs_shape_dir){ .parent = parent };
	if (name == NULL)
		return true;
	b->s->dirs[parent].subdirs++;
	return add_entry(b, parent, name, len, MFS_FOLDER | *out);
}

/* Walk the sorted names with the folders of the name before at hand. */
static bool
add_files(struct build *b, const struct mfs_manifest *m, const uint32_t *order)
{
	struct { const char *name; size_t len; uint32_t dir; } open[MFS_COMPONENTS_MAX + 1];
	size_t depth = 0;

	for (size_t i = 0; i < m->n_files; i++) {
		const char *p = m->files[order[i]].name, *slash;
		uint32_t dir = 0;
		size_t level = 0;

		for (; (slash = strchr(p, '/')) != NULL && level < MFS_COMPONENTS_MAX; p = slash + 1, level++) {
			size_t len = (size_t)(slash - p);

			if (level < depth && open[level].len == len && memcmp(open[level].name, p, len) == 0) {
				dir = open[level].dir;
				continue;
			}
			if (!add_dir(b, dir, p, len, &dir))
				return false;
			open[level].name = p;
			open[level].len = len;
			open[level].dir = dir;
			depth = level + 1;
		}
		depth = level;
		if (!add_entry(b, dir, p, strlen(p), order[i]))
			return false;
	}
	return true;
}

/* Bring the entries of each folder together; their order within a folder is kept. */
static bool
collect(struct build *b)
{
	struct mfs_shape *s = b->s;
	uint32_t at = 0;

	if ((s->entries = calloc(b->n > 0 ? b->n : 1, sizeof(*s->entries))) == NULL)
		return false;
	for (size_t d = 0; d < s->n_dirs; d++) {
		s->dirs[d].first = at;
		at += s->dirs[d].n;
		s->dirs[d].n = 0;
	}
	for (size_t i = 0; i < b->n; i++) {
		struct mfs_shape_dir *d = &s->dirs[b->dir_of[i]];

		s->entries[d->first + d->n++] = b->raw[i];
	}
	s->n_entries = b->n;
	return true;
}

enum mfs_code
mfs_shape_new(const struct mfs_manifest *m, struct mfs_shape **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_shape) struct mfs_shape *s = calloc(1, sizeof(*s));
	mfs_autofree uint32_t *order = calloc(m->n_files > 0 ? m->n_files : 1, sizeof(*order));
	struct build b = { .s = s };
	uint32_t root;
	bool ok;

	*out = NULL;
	if (s == NULL || order == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "folders of %zu files", m->n_files);
	for (size_t i = 0; i < m->n_files; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, m->n_files, sizeof(*order), compare_names, (void *)(uintptr_t)m);
	ok = add_dir(&b, 0, NULL, 0, &root) && add_files(&b, m, order) && collect(&b);
	free(b.raw);
	free(b.dir_of);
	if (!ok)
		return mfs_fail(err, MFS_NO_MEMORY, "folders of %zu files", m->n_files);
	*out = mfs_steal(&s);
	return MFS_OK;
}

void
mfs_shape_free(struct mfs_shape *s)
{
	if (s == NULL)
		return;
	free(s->dirs);
	free(s->entries);
	free(s);
}

ssize_t
mfs_shape_find(const struct mfs_shape *s, uint32_t dir, const char *name)
{
	const struct mfs_shape_dir *d = &s->dirs[dir];
	size_t lo = d->first, hi = d->first + d->n, len = strlen(name);

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct mfs_shape_entry *e = &s->entries[mid];
		int c = memcmp(name, e->name, len < e->len ? len : e->len);

		if (c == 0)
			c = len < e->len ? -1 : len > e->len;
		if (c == 0)
			return (ssize_t)mid;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return -1;
}
