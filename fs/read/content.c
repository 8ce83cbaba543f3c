/* SPDX-License-Identifier: Apache-2.0 */
#include "content_internal.h"

#include <stdatomic.h>
#include <string.h>

#include "io.h"

enum mfs_code
mfs_content_new(struct mfs_store *s, struct mfs_cache *cache, const struct mfs_manifest *m, size_t file,
	const struct mfs_key *content_key, struct mfs_content **out, struct mfs_err *err)
{
	mfs_autofree struct mfs_content *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (file >= m->n_files)
		return mfs_fail(err, MFS_INTERNAL, "content: no file %zu", file);
	if (c == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "content: no memory");
	c->store = s;
	c->cache = cache;
	c->m = m;
	c->file = &m->files[file];
	if (m->cipher != MFS_CIPHER_NONE && content_key != NULL &&
		(c->key = mfs_cache_key_get(cache, content_key)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "content: no memory for a key");
	(void)pthread_mutex_lock(&cache->lock);
	c->serial = cache->next_serial++;
	(void)pthread_mutex_unlock(&cache->lock);
	*out = mfs_steal(&c);
	return MFS_OK;
}

const struct mfs_manifest *
mfs_content_manifest(const struct mfs_content *c)
{
	return c->m;
}

size_t
mfs_content_file(const struct mfs_content *c)
{
	return (size_t)(c->file - c->m->files);
}

/* ---- open state ------------------------------------------------------------------------------------ */

static void
free_open(struct mfs_open *o)
{
	if (o == NULL)
		return;
	for (unsigned i = 0; i < o->n_stale; i++)
		mfs_blob_close(o->stale[i]);
	mfs_blob_close(o->blob);
	mfs_table_free(o->table);
	free(o);
}
MFS_DEFINE_CLEANUP(open, struct mfs_open, free_open)

static enum mfs_code
load_table(const struct mfs_content *c, struct mfs_table **out, struct mfs_err *err)
{
	uint64_t want = mfs_table_length(c->file->chunks);
	mfs_autofree uint8_t *buf = NULL;
	mfs_autoclose int fd = -1;
	size_t len = 0;
	enum mfs_code code;

	if (want == 0)
		return mfs_table_load(c->file, MFS_SPAN(NULL, 0), out, err);
	if (want > SIZE_MAX / 2)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "chunk table of %llu bytes: too large for this machine",
			(unsigned long long)want);
	if ((fd = mfs_store_blob_open(c->store, &c->file->chunks_sha256, 0)) < 0)
		return mfs_fail_sys(err, MFS_IO, "store: chunk table %s", MFS_HEX(&c->file->chunks_sha256));
	code = mfs_fd_read(fd, "chunk table", (size_t)want, &buf, &len, err);
	if (code == MFS_LIMIT_EXCEEDED)
		return mfs_fail(err, MFS_HASH_MISMATCH, "store: chunk table %s: longer than the signed %llu bytes",
			MFS_HEX(&c->file->chunks_sha256), (unsigned long long)want);
	if (code != MFS_OK)
		return code;
	return mfs_table_load(c->file, MFS_SPAN(buf, len), out, err);
}

static enum mfs_code
make_open(const struct mfs_content *c, struct mfs_open **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_open) struct mfs_open *o = calloc(1, sizeof(*o));
	enum mfs_code code;

	*out = NULL;
	if (o == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "read: no memory");
	if ((code = load_table(c, &o->table, err)) != MFS_OK ||
		(code = mfs_blob_open(c->store, &c->file->sha256, c->file->size, &o->blob, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&o);
	return MFS_OK;
}

static void
unlink_open(struct mfs_cache *k, struct mfs_content *c)
{
	*(c->newer != NULL ? &c->newer->older : &k->open_newest) = c->older;
	*(c->older != NULL ? &c->older->newer : &k->open_oldest) = c->newer;
	c->newer = c->older = NULL;
	k->n_open--;
}

static void
link_open(struct mfs_cache *k, struct mfs_content *c)
{
	c->older = k->open_newest;
	c->newer = NULL;
	*(k->open_newest != NULL ? &k->open_newest->newer : &k->open_oldest) = c;
	k->open_newest = c;
	k->n_open++;
}

/* Too many open: detach the one unused for longest. It is the caller's to free, without the lock. */
static struct mfs_open *
detach_oldest(struct mfs_cache *k)
{
	struct mfs_content *c = k->open_oldest;
	struct mfs_open *o;

	if (k->n_open <= MFS_CACHE_OPEN)
		return NULL;
	while (c != NULL && c->open->refs > 1)
		c = c->newer;
	if (c == NULL)
		return NULL;
	unlink_open(k, c);
	o = c->open;
	c->open = NULL;
	return o;
}

enum mfs_code
mfs_content_open(struct mfs_content *c, struct mfs_open **out, struct mfs_err *err)
{
	struct mfs_cache *k = c->cache;
	struct mfs_open *o = NULL, *surplus = NULL;
	enum mfs_code code;

	(void)pthread_mutex_lock(&k->lock);
	while (c->open == NULL && c->opening)
		(void)pthread_cond_wait(&k->changed, &k->lock);
	if ((o = c->open) != NULL) {
		o->refs++;
		if (k->open_newest != c) {
			unlink_open(k, c);
			link_open(k, c);
		}
		(void)pthread_mutex_unlock(&k->lock);
		*out = o;
		return MFS_OK;
	}
	c->opening = true;
	(void)pthread_mutex_unlock(&k->lock);

	code = make_open(c, &o, err);

	(void)pthread_mutex_lock(&k->lock);
	c->opening = false;
	if (code == MFS_OK) {
		o->refs = 2; /* the content's and the caller's */
		c->open = o;
		link_open(k, c);
		surplus = detach_oldest(k);
	}
	(void)pthread_cond_broadcast(&k->changed);
	(void)pthread_mutex_unlock(&k->lock);
	free_open(surplus);
	*out = o;
	return code;
}

void
mfs_content_close(struct mfs_content *c, struct mfs_open *o)
{
	bool last;

	(void)pthread_mutex_lock(&c->cache->lock);
	last = --o->refs == 0;
	(void)pthread_mutex_unlock(&c->cache->lock);
	if (last)
		free_open(o);
}

void
mfs_content_free(struct mfs_content *c)
{
	if (c == NULL)
		return;
	mfs_cache_forget(c->cache, c);
	mfs_ahead_forget(c->cache, c->serial);
	(void)pthread_mutex_lock(&c->cache->lock);
	if (c->open != NULL)
		unlink_open(c->cache, c);
	(void)pthread_mutex_unlock(&c->cache->lock);
	if (c->open != NULL)
		mfs_content_close(c, c->open);
	mfs_cache_key_put(c->cache, c->key);
	free(c);
}

struct mfs_blob *
mfs_content_blob(struct mfs_content *c, struct mfs_open *o)
{
	struct mfs_blob *b;

	(void)pthread_mutex_lock(&c->cache->lock);
	b = o->blob;
	(void)pthread_mutex_unlock(&c->cache->lock);
	return b;
}

/* `failed` did not verify: did somebody put another file in its place? Then it is worth another try. */
static bool
replaced(struct mfs_content *c, struct mfs_open *o, const struct mfs_blob *failed)
{
	struct mfs_blob *fresh = NULL;
	bool again, other;

	if (mfs_blob_open(c->store, &c->file->sha256, c->file->size, &fresh, NULL) != MFS_OK)
		return false;
	(void)pthread_mutex_lock(&c->cache->lock);
	again = o->blob != failed; /* another reader was here first */
	other = !again && (fresh->dev != failed->dev || fresh->ino != failed->ino);
	if (other && o->n_stale < sizeof(o->stale) / sizeof(o->stale[0])) {
		o->stale[o->n_stale++] = o->blob;
		o->blob = mfs_steal(&fresh);
		again = true;
	} else if (other && c->open == o) { /* no place for more: whoever asks next opens it anew */
		unlink_open(c->cache, c);
		c->open = NULL;
		o->refs--; /* the content's; the caller has its own */
	}
	(void)pthread_mutex_unlock(&c->cache->lock);
	mfs_blob_close(fresh);
	return again;
}

/* ---- chunks ------------------------------------------------------------------------------------------ */

enum mfs_code
mfs_content_rekey(struct mfs_content *c, struct mfs_reader *r, struct mfs_err *err)
{
	const struct mfs_manifest *m = c->m;
	struct mfs_key k;
	enum mfs_code code;

	if (r->keyed_for == c->serial)
		return MFS_OK;
	r->keyed_for = 0;
	if (m->cipher == MFS_CIPHER_NONE) {
		code = mfs_opener_rekey(r->opener, MFS_CIPHER_NONE, NULL, err);
	} else if (c->key == NULL) {
		code = mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s: encrypted, and there is no key for it",
			MFS_ESC(c->file->name));
	} else {
		code = mfs_file_key(&c->key->key, &c->file->salt, m->cipher, m->model_id, c->file->name,
			c->file->chunk_size, &k, err);
		if (code == MFS_OK)
			code = mfs_opener_rekey(r->opener, m->cipher, &k, err);
		mfs_key_wipe(&k);
	}
	if (code == MFS_OK)
		r->keyed_for = c->serial;
	return code;
}

enum mfs_code
mfs_content_chunk(struct mfs_content *c, struct mfs_open *o, struct mfs_reader *r, uint64_t chunk, uint8_t *stored,
	uint8_t *plain, struct mfs_err *err)
{
	uint32_t len = mfs_chunk_length(c->file, chunk);
	uint64_t off = chunk * c->file->chunk_size;
	enum mfs_code code;

	for (int attempt = 0;; attempt++) {
		struct mfs_blob *b = mfs_content_blob(c, o);

		code = mfs_blob_read(b, stored, len, off, r->bounce_cap >= len ? r->bounce : NULL, err);
		if (code == MFS_OK)
			code = plain != NULL ? mfs_chunk_open(r->opener, o->table, chunk, MFS_SPAN(stored, len), plain, err) :
				mfs_chunk_verify(r->opener, o->table, chunk, MFS_SPAN(stored, len), err);
		if (attempt > 0 || (code != MFS_HASH_MISMATCH && code != MFS_IO) || !replaced(c, o, b))
			return code;
	}
}
