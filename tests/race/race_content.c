/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of all kinds on two contents that share one small cache, with evictions, fills, a blob
 * that is damaged and repaired, and contents that come and go. Meant for a build with
 * --enable-sanitizers=thread; prints one line and exits 1 on a wrong byte.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "contentfix.h"

#define CHUNK  (64u << 10)
#define CHUNKS 40u
#define TURNS  600

static struct fix f;
static _Atomic int wrong;
static _Atomic int failed;

static void
read_and_compare(struct mfs_content *c, uint8_t *buf, uint64_t off, size_t len)
{
	struct mfs_err err = MFS_ERR_INIT;
	size_t got;
	enum mfs_code code = mfs_content_read(c, buf, len, off, &got, &err);

	if (code == MFS_OK) {
		if (memcmp(buf, f.plain + off, got) != 0)
			atomic_fetch_add(&wrong, 1);
	} else if (code == MFS_HASH_MISMATCH) {
		atomic_fetch_add(&failed, 1); /* the damaged chunk, while it is damaged */
	} else {
		fprintf(stderr, "%s\n", err.msg);
		atomic_fetch_add(&wrong, 1);
	}
}

static void *
reader(void *arg)
{
	uint64_t x = 88172645463325252ull + (uintptr_t)arg;
	uint8_t *buf = malloc(CHUNKS * CHUNK);

	for (int i = 0; buf != NULL && i < TURNS; i++) {
		uint64_t off;
		size_t len;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		off = x % f.file.size;
		len = i % 3 == 0 ? 5 * CHUNK : 4096;
		if (i % 2 == 0)
			off -= off % CHUNK;
		if (i % 50 == 7) { /* the ways of a content: made, read, gone */
			struct mfs_content *own = fix_content(&f, &f.key);

			read_and_compare(own, buf, off, len);
			mfs_content_free(own);
		} else {
			read_and_compare(f.c, buf, off, len);
		}
	}
	free(buf);
	return NULL;
}

static void *
filler(void *arg)
{
	(void)arg;
	for (int i = 0; i < 6; i++) {
		int fd = memfd_create("fill", MFD_CLOEXEC);
		enum mfs_code code = fd < 0 ? MFS_IO : mfs_content_fill(f.c, fd, 2, NULL, NULL, NULL);

		if (code != MFS_OK && code != MFS_HASH_MISMATCH)
			atomic_fetch_add(&wrong, 1);
		(void)close(fd);
	}
	return NULL;
}

static void *
vandal(void *arg)
{
	struct mfs_cache_stats s;
	char path[256];
	uint8_t *good;
	size_t len;

	(void)arg;
	fix_path(&f, &f.file.sha256, path);
	good = fix_load(path, &len);
	for (int i = 0; i < 3; i++) {
		fix_flip(&f, &f.file.sha256, 7 * CHUNK + 1);
		for (int j = 0; j < 200; j++)
			mfs_cache_stats(f.cache, &s);
		fix_store(path, good, len);
	}
	free(good);
	return NULL;
}

struct own { /* a content that lives until nobody holds it */
	struct mfs_content *c;
	_Atomic int refs;
};

static void
own_get(void *object)
{
	struct own *o = object;

	(void)atomic_fetch_add(&o->refs, 1);
}

static void
own_put(void *object)
{
	struct own *o = object;

	if (atomic_fetch_sub(&o->refs, 1) == 1) {
		mfs_content_free(o->c);
		free(o);
	}
}

/* Streams over contents that go away while their next stretch is being opened. */
static void *
streamer(void *arg)
{
	const size_t step = 512u << 10;
	uint8_t *buf = malloc(step);

	(void)arg;
	for (int i = 0; buf != NULL && i < TURNS / 4; i++) {
		struct own *o = calloc(1, sizeof(*o));
		struct mfs_hold hold = { o, own_get, own_put };

		if (o == NULL)
			break;
		o->c = fix_content(&f, &f.key);
		o->refs = 1;
		for (uint64_t off = 0; off < f.file.size; off += step) {
			struct mfs_err err = MFS_ERR_INIT;
			struct mfs_stretch s;
			enum mfs_code code = mfs_content_stream(o->c, &hold, buf, step, off, &s, &err);

			if (code == MFS_OK) {
				if (memcmp(s.data, f.plain + off, s.len) != 0)
					atomic_fetch_add(&wrong, 1);
				mfs_stretch_done(o->c, &s);
			} else if (code == MFS_HASH_MISMATCH) {
				atomic_fetch_add(&failed, 1);
			} else {
				fprintf(stderr, "%s\n", err.msg);
				atomic_fetch_add(&wrong, 1);
			}
		}
		own_put(o);
	}
	free(buf);
	return NULL;
}

static bool
run(void *(*const kinds[])(void *), size_t n)
{
	pthread_t t[8];

	for (size_t i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, kinds[i], (void *)i) != 0)
			return false;
	for (size_t i = 0; i < n; i++)
		(void)pthread_join(t[i], NULL);
	return true;
}

int
main(void)
{
	static void *(*const mixed[])(void *) = { reader, reader, reader, streamer, filler, vandal, streamer };
	/* More streams than stretches: each takes the room of another's that was opened and not yet read. */
	static void *(*const streams[])(void *) = { streamer, streamer, streamer, streamer, streamer, streamer, streamer };

	fix_make(&f, CHUNKS * CHUNK - 77, CHUNK, MFS_CIPHER_AES_256_GCM, 4u << 20);
	if (!run(mixed, 7) || !run(streams, 7))
		return 1;
	printf("race_content: %d wrong, %d reads of the damaged chunk refused\n", atomic_load(&wrong),
		atomic_load(&failed));
	fix_free(&f);
	return atomic_load(&wrong) != 0;
}
