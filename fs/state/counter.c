/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file counter: state/counter holds two slots, each in a block of its own, so that a torn
 * write damages at most the slot that was being written. The highest valid one counts.
 *
 *	offset 0 and 4096: magic "MFCOUNT1", u64le value, XXH3-128 of these 16 bytes (canonical form)
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "io.h"
#include "trusted.h"

#define COUNTER_NAME  "counter"
#define COUNTER_MAGIC "MFCOUNT1"
#define COUNTER_BLOCK 4096
#define COUNTER_SLOT  32

struct file_counter {
	struct mfs_counter base;
	int dirfd;
};

static struct file_counter *
file_counter(struct mfs_counter *c)
{
	return (struct file_counter *)(void *)c;
}

static void
slot_encode(uint8_t out[COUNTER_SLOT], uint64_t value)
{
	XXH128_canonical_t sum;

	memcpy(out, COUNTER_MAGIC, 8);
	mfs_put_u64le(out + 8, value);
	XXH128_canonicalFromHash(&sum, XXH3_128bits(out, 16));
	memcpy(out + 16, sum.digest, 16);
}

static bool
slot_decode(const uint8_t in[COUNTER_SLOT], uint64_t *value)
{
	uint8_t want[COUNTER_SLOT];
	struct mfs_span s = MFS_SPAN(in + 8, 8);

	(void)mfs_span_u64le(&s, value);
	slot_encode(want, *value);
	return memcmp(in, want, COUNTER_SLOT) == 0;
}

/* Both slots; valid[] says which count. errors IO, COUNTER_UNAVAILABLE (neither is valid) */
static enum mfs_code
slots_read(const struct file_counter *f, uint64_t value[2], bool valid[2], bool *absent, struct mfs_err *err)
{
	mfs_autoclose int fd = openat(f->dirfd, COUNTER_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	*absent = false;
	if (fd < 0 && errno == ENOENT) {
		*absent = true;
		return MFS_OK;
	}
	if (fd < 0 || fstat(fd, &st) != 0) {
		(void)mfs_fail_sys(err, MFS_COUNTER_UNAVAILABLE, "state/counter: open");
		/* A state that was copied back by root. Nothing is lost, and 'recover' would be the wrong step. */
		return errno == EACCES ? mfs_err_hint(err, "; everything in the state must belong to uid %u: 'chown -R' gives it back",
			(unsigned)geteuid()) : MFS_COUNTER_UNAVAILABLE;
	}
	if (!S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_COUNTER_UNAVAILABLE, "state/counter: not a regular file: remove it and run "
			"'modelfs recover'");
	for (int i = 0; i < 2; i++) {
		uint8_t slot[COUNTER_SLOT];

		value[i] = 0;
		valid[i] = mfs_pread_full(fd, slot, sizeof(slot), (off_t)i * COUNTER_BLOCK) == 0 &&
			slot_decode(slot, &value[i]);
	}
	if (!valid[0] && !valid[1])
		return mfs_fail(err, MFS_COUNTER_UNAVAILABLE,
			"state/counter: neither of its two copies is readable: run 'modelfs recover'");
	return MFS_OK;
}

static enum mfs_code
file_read(struct mfs_counter *c, uint64_t *value, bool *absent, struct mfs_err *err)
{
	uint64_t v[2] = { 0, 0 };
	bool ok[2] = { false, false };
	enum mfs_code code;

	*value = 0;
	*absent = false;
	code = slots_read(file_counter(c), v, ok, absent, err);
	if (code != MFS_OK || *absent)
		return code;
	*value = ok[0] && (!ok[1] || v[0] > v[1]) ? v[0] : v[1];
	return MFS_OK;
}

/* A whole new file, atomically: creation, and a jump upwards by `recover`. */
static enum mfs_code
file_rewrite(struct file_counter *f, uint64_t value, struct mfs_err *err)
{
	uint8_t image[COUNTER_BLOCK + COUNTER_SLOT] = { 0 };
	enum mfs_code code;

	slot_encode(image, value);
	slot_encode(image + COUNTER_BLOCK, value);
	code = mfs_file_replace(f->dirfd, COUNTER_NAME, image, sizeof(image), 0600, err);
	return code == MFS_OK ? code : mfs_err_context(err, "state/counter: ");
}

static enum mfs_code
file_create(struct mfs_counter *c, struct mfs_err *err)
{
	return file_rewrite(file_counter(c), 0, err);
}

static enum mfs_code
file_raise(struct mfs_counter *c, uint64_t at_least, struct mfs_err *err)
{
	uint64_t value;
	bool absent;

	/* An unreadable file is replaced: only `recover` calls this. */
	if (file_read(c, &value, &absent, err) == MFS_OK && !absent && value >= at_least)
		return MFS_OK;
	return file_rewrite(file_counter(c), at_least, err);
}

static enum mfs_code
file_increment(struct mfs_counter *c, struct mfs_err *err)
{
	struct file_counter *f = file_counter(c);
	mfs_autoclose int fd = -1;
	uint64_t v[2] = { 0, 0 };
	bool ok[2] = { false, false }, absent;
	uint8_t slot[COUNTER_SLOT];
	enum mfs_code code = slots_read(f, v, ok, &absent, err);
	int newest;

	if (code != MFS_OK)
		return code;
	if (absent)
		return mfs_fail(err, MFS_COUNTER_UNAVAILABLE, "state/counter: it vanished: run 'modelfs recover'");
	newest = ok[0] && (!ok[1] || v[0] > v[1]) ? 0 : 1;
	if (v[newest] == UINT64_MAX)
		return mfs_fail(err, MFS_COUNTER_UNAVAILABLE, "state/counter: at its end");
	slot_encode(slot, v[newest] + 1);
	fd = openat(f->dirfd, COUNTER_NAME, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || mfs_pwrite_full(fd, slot, sizeof(slot), (off_t)(1 - newest) * COUNTER_BLOCK) != 0 ||
		fsync(fd) != 0)
		return mfs_fail_sys(err, MFS_COUNTER_UNAVAILABLE, "state/counter: write");
	return MFS_OK;
}

static void
file_free(struct mfs_counter *c)
{
	struct file_counter *f = file_counter(c);

	(void)close(f->dirfd);
	free(f);
}

enum mfs_code
mfs_counter_open(const char *spec, int state_dirfd, struct mfs_counter **out, struct mfs_err *err)
{
	struct file_counter *f;

	*out = NULL;
	if (spec != NULL && strcmp(spec, "file") != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "counter: '%s' is not supported by this build: write "
			"'counter: file'", MFS_ESC(spec));
	if ((f = calloc(1, sizeof(*f))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "counter");
	f->base = (struct mfs_counter){
		.kind = "file",
		.read = file_read,
		.create = file_create,
		.raise = file_raise,
		.increment = file_increment,
		.free = file_free,
	};
	f->dirfd = fcntl(state_dirfd, F_DUPFD_CLOEXEC, 3);
	if (f->dirfd < 0) {
		enum mfs_code code = mfs_fail_sys(err, MFS_COUNTER_UNAVAILABLE, "counter: the state folder");

		free(f);
		return code;
	}
	*out = &f->base;
	return MFS_OK;
}

void
mfs_counter_free(struct mfs_counter *c)
{
	if (c != NULL)
		c->free(c);
}
