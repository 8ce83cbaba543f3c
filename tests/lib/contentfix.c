/* SPDX-License-Identifier: Apache-2.0 */
#include "contentfix.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"

#define MUST(call)                                                                                  \
	do {                                                                                        \
		struct mfs_err *err_ = &must_err;                                                   \
		if ((call) != MFS_OK) {                                                             \
			fprintf(stderr, "fixture: %s: %s\n", #call, err_->msg);                     \
			abort();                                                                    \
		}                                                                                   \
	} while (0)
#define REQUIRE(condition)                                                                          \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			perror("fixture: " #condition);                                             \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

static struct mfs_err must_err;
#define ERR (&must_err)

static void
fill_plain(uint8_t *p, size_t n)
{
	uint64_t x = 0x9e3779b97f4a7c15ull;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 32);
	}
}

static void
put_blob(struct fix *f, const void *buf, size_t n, struct mfs_sha256 *hash)
{
	struct mfs_put *p = NULL;

	MUST(mfs_sha256(MFS_SPAN(buf, n), hash, ERR));
	MUST(mfs_put_begin(f->store, hash, n, &p, ERR));
	MUST(mfs_put_write(p, buf, n, ERR));
	MUST(mfs_put_commit(p, ERR));
	mfs_put_free(p);
}

static void
seal(struct fix *f)
{
	struct mfs_file *file = &f->file;
	uint8_t *stored = malloc(file->size + 1), *table = calloc(1, MFS_TABLE_HEADER + file->chunks * MFS_TABLE_ENTRY);
	bool encrypted = f->m.cipher != MFS_CIPHER_NONE;
	struct mfs_opener *o = NULL;
	struct mfs_sha256 digest;
	struct mfs_key k;

	REQUIRE(stored != NULL && table != NULL);
	if (encrypted) {
		MUST(mfs_sha256(MFS_SPAN(f->plain, file->size), &digest, ERR));
		MUST(mfs_file_salt(&f->key, f->m.cipher, f->m.model_id, file->name, file->chunk_size, &digest, &file->salt,
			ERR));
		MUST(mfs_file_key(&f->key, &file->salt, f->m.cipher, f->m.model_id, file->name, file->chunk_size, &k,
			ERR));
	}
	MUST(mfs_opener_new(f->m.cipher, encrypted ? &k : NULL, &o, ERR));
	mfs_table_header(table, file->chunk_size, file->size, file->chunks);
	for (uint64_t i = 0; i < file->chunks; i++) {
		uint64_t off = i * file->chunk_size;

		MUST(mfs_chunk_seal(o, i, MFS_SPAN(f->plain + off, mfs_chunk_length(file, i)), stored + off,
			table + MFS_TABLE_HEADER + i * MFS_TABLE_ENTRY, ERR));
	}
	put_blob(f, stored, file->size, &file->sha256);
	if (file->chunks > 1)
		put_blob(f, table, MFS_TABLE_HEADER + file->chunks * MFS_TABLE_ENTRY, &file->chunks_sha256);
	else if (file->chunks == 1)
		memcpy(file->tag, table + MFS_TABLE_HEADER + MFS_SHA256_LEN, MFS_TAG_LEN);
	mfs_opener_free(o);
	free(stored);
	free(table);
}

void
fix_make(struct fix *f, uint64_t size, uint32_t chunk, enum mfs_cipher cipher, size_t cache_bytes)
{
	const char *tmp = getenv("TMPDIR");
	static char model[] = "det", version[] = "1.0.0", variant[] = "default", name[] = "weights/model.bin";

	memset(f, 0, sizeof(*f));
	(void)snprintf(f->dir, sizeof(f->dir), "%.40s/content.XXXXXX", tmp != NULL ? tmp : "/tmp");
	REQUIRE(mkdtemp(f->dir) != NULL);
	REQUIRE((f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	MUST(mfs_store_open(f->dirfd, NULL, 0, &f->store, ERR));
	MUST(mfs_cache_new(cache_bytes, -1, &f->cache, ERR));
	for (size_t i = 0; i < MFS_KEY_LEN; i++)
		f->key.b[i] = (uint8_t)(i * 7 + 1);
	f->m = (struct mfs_manifest){ .model_id = model, .version = version, .variant = variant, .release = 1,
		.key_epoch = 1, .files = &f->file, .n_files = 1, .cipher = cipher, .total_size = size };
	f->file = (struct mfs_file){ .name = name, .size = size, .chunk_size = chunk,
		.chunks = (size + chunk - 1) / chunk };
	REQUIRE((f->plain = malloc(size + 1)) != NULL);
	fill_plain(f->plain, size);
	seal(f);
	f->c = fix_content(f, cipher == MFS_CIPHER_NONE ? NULL : &f->key);
}

struct mfs_content *
fix_content(struct fix *f, const struct mfs_key *key)
{
	struct mfs_content *c = NULL;

	MUST(mfs_content_new(f->store, f->cache, &f->m, 0, key, &c, ERR));
	return c;
}

void
fix_free(struct fix *f)
{
	char command[128];

	mfs_content_free(f->c);
	mfs_cache_free(f->cache);
	mfs_store_close(f->store);
	(void)close(f->dirfd);
	free(f->plain);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
	REQUIRE(system(command) == 0);
}

void
fix_path(const struct fix *f, const struct mfs_sha256 *hash, char out[256])
{
	const char *hex = MFS_HEX(hash);

	(void)snprintf(out, 256, "%s/blobs/sha256/%.2s/%s", f->dir, hex, hex);
}

void
fix_flip(const struct fix *f, const struct mfs_sha256 *hash, uint64_t off)
{
	char path[256];
	uint8_t b;
	int fd;

	fix_path(f, hash, path);
	(void)chmod(path, 0600);
	REQUIRE((fd = open(path, O_RDWR | O_CLOEXEC)) >= 0);
	REQUIRE(pread(fd, &b, 1, (off_t)off) == 1);
	b ^= 1;
	REQUIRE(pwrite(fd, &b, 1, (off_t)off) == 1);
	(void)close(fd);
}

uint8_t *
fix_load(const char *path, size_t *len)
{
	uint8_t *buf = NULL;

	MUST(mfs_file_read(AT_FDCWD, path, SIZE_MAX / 4, &buf, len, ERR));
	return buf;
}

void
fix_store(const char *path, const void *buf, size_t len)
{
	char fresh[300];
	int fd;

	(void)snprintf(fresh, sizeof(fresh), "%s.new", path);
	REQUIRE((fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) >= 0);
	REQUIRE(mfs_write_full(fd, buf, len) == 0);
	(void)close(fd);
	REQUIRE(rename(fresh, path) == 0);
}
