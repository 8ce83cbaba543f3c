/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fileprobe - do to a file what inference runtimes do, and compare every byte with a reference.
 *
 *	fileprobe all FILE REFERENCE          every check of the table below, one line each
 *	fileprobe CHECK FILE REFERENCE        one of them
 *	fileprobe damaged FILE REFERENCE OFFSET LENGTH
 *	                                      EIO inside [OFFSET, OFFSET + LENGTH), right bytes or EIO
 *	                                      around it, by read and by mmap; never a wrong byte
 *	fileprobe drop FILE                   forget the cached pages of FILE
 *
 * Files above WHOLE are compared in windows around each GiB and at both ends. Exits 0 or 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    4096u
#define WHOLE   (UINT64_C(256) << 20)
#define WINDOW  (UINT64_C(4) << 20)
#define BLOCK   ((size_t)1 << 20)
#define THREADS 4

struct pair {
	const char *path;
	int fd;             /* the file under test */
	const uint8_t *ref; /* the reference, mapped */
	uint64_t size;
};

struct range {
	uint64_t off, len;
};

struct check {
	const char *name;
	bool (*run)(struct pair *);
};

static bool
bad(const char *what, uint64_t off)
{
	fprintf(stderr, "fileprobe: %s at offset %llu: %s\n", what, (unsigned long long)off,
		errno != 0 ? strerror(errno) : "differs from the reference");
	return false;
}

/* The i-th range to compare; false after the last. */
static bool
range_get(const struct pair *p, unsigned i, struct range *r)
{
	const uint64_t gib = UINT64_C(1) << 30;
	uint64_t mid;

	if (p->size <= WHOLE) {
		*r = (struct range){ 0, p->size };
		return i == 0 && p->size > 0;
	}
	mid = i * gib;
	if (mid > p->size + gib)
		return false;
	if (mid > p->size)
		mid = p->size;
	r->off = mid > WINDOW ? (mid - WINDOW) & ~(uint64_t)(PAGE - 1) : 0;
	r->len = p->size - r->off < 2 * WINDOW ? p->size - r->off : 2 * WINDOW;
	return true;
}

static bool
read_range(const struct pair *p, int fd, struct range r, size_t align)
{
	uint8_t *buf = NULL;
	bool ok = true;

	if (posix_memalign((void **)&buf, PAGE, BLOCK) != 0)
		return bad("memory", 0);
	for (uint64_t off = r.off; ok && off < r.off + r.len;) {
		size_t want = r.off + r.len - off < BLOCK ? (size_t)(r.off + r.len - off) : BLOCK;
		ssize_t n;

		if (align > 1)
			want = (want + align - 1) / align * align;
		errno = 0;
		n = pread(fd, buf, want, (off_t)off);
		if (n <= 0 || off + (uint64_t)n > p->size) {
			ok = bad("pread", off);
			break;
		}
		errno = 0;
		if (memcmp(buf, p->ref + off, (size_t)n) != 0)
			ok = bad("pread", off);
		off += (uint64_t)n;
	}
	free(buf);
	return ok;
}

static bool
check_pread(struct pair *p)
{
	struct range r;
	char c;

	for (unsigned i = 0; range_get(p, i, &r); i++)
		if (!read_range(p, p->fd, r, 1))
			return false;
	errno = 0;
	if (pread(p->fd, &c, 1, (off_t)p->size) != 0)
		return bad("end of file", p->size);
	return true;
}

static bool
compare_mapping(struct pair *p, int prot, int flags, int advice, bool lock)
{
	struct range r;
	bool ok = true;

	for (unsigned i = 0; ok && range_get(p, i, &r); i++) {
		uint8_t *m = mmap(NULL, (size_t)r.len, prot, flags, p->fd, (off_t)r.off);

		if (m == MAP_FAILED)
			return bad("mmap", r.off);
		if (advice >= 0 && madvise(m, (size_t)r.len, advice) != 0)
			ok = bad("madvise", r.off);
		if (lock && mlock(m, (size_t)r.len) != 0)
			ok = bad("mlock", r.off);
		errno = 0;
		if (ok && memcmp(m, p->ref + r.off, (size_t)r.len) != 0)
			ok = bad("mmap", r.off);
		(void)munmap(m, (size_t)r.len);
	}
	return ok;
}

static bool
check_shared(struct pair *p)
{
	return compare_mapping(p, PROT_READ, MAP_SHARED, -1, false);
}

static bool
check_populate(struct pair *p)
{
	return compare_mapping(p, PROT_READ, MAP_PRIVATE | MAP_POPULATE, -1, false) &&
		compare_mapping(p, PROT_READ, MAP_SHARED | MAP_POPULATE, -1, false);
}

static bool
check_mlock(struct pair *p)
{
	return compare_mapping(p, PROT_READ, MAP_SHARED, -1, true);
}

static bool
check_random(struct pair *p)
{
	return compare_mapping(p, PROT_READ, MAP_SHARED, MADV_RANDOM, false);
}

static bool
check_willneed(struct pair *p)
{
	return compare_mapping(p, PROT_READ, MAP_PRIVATE, MADV_WILLNEED, false);
}

/* What is written to a private mapping stays private. */
static bool
check_private_write(struct pair *p)
{
	struct range r;

	for (unsigned i = 0; range_get(p, i, &r); i++) {
		uint8_t *m = mmap(NULL, (size_t)r.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, p->fd, (off_t)r.off);

		if (m == MAP_FAILED)
			return bad("mmap", r.off);
		for (uint64_t k = 0; k < r.len; k += PAGE) {
			errno = 0;
			if (m[k] != p->ref[r.off + k])
				return bad("private mapping", r.off + k);
			m[k] = (uint8_t)~m[k];
		}
		(void)munmap(m, (size_t)r.len);
		if (!read_range(p, p->fd, r, 1))
			return false;
	}
	return true;
}

static bool
check_direct(struct pair *p)
{
	struct range r;
	int fd = open(p->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	bool ok = true;

	if (fd < 0)
		return bad("open O_DIRECT", 0);
	for (unsigned i = 0; ok && range_get(p, i, &r); i++)
		ok = read_range(p, fd, r, PAGE);
	(void)close(fd);
	return ok;
}

struct worker {
	struct pair *p;
	unsigned index;
	bool ok;
};

static void *
parallel_worker(void *arg)
{
	struct worker *w = arg;
	struct range r;

	w->ok = true;
	for (unsigned i = 0; w->ok && range_get(w->p, i, &r); i++) {
		uint64_t stride = (r.len / THREADS / PAGE + 1) * PAGE, at = stride * w->index;

		if (at < r.len)
			w->ok = read_range(w->p, w->p->fd,
				(struct range){ r.off + at, r.len - at < stride ? r.len - at : stride }, 1);
	}
	return NULL;
}

static bool
check_parallel(struct pair *p)
{
	pthread_t t[THREADS];
	struct worker w[THREADS];
	bool ok = true;

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ p, i, false };
		if ((errno = pthread_create(&t[i], NULL, parallel_worker, &w[i])) != 0)
			return bad("thread", i);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		(void)pthread_join(t[i], NULL);
		ok = ok && w[i].ok;
	}
	return ok;
}

/* The resolved name leads to the same bytes and keeps doing so. */
static bool
check_realpath(struct pair *p)
{
	struct pair q = *p;
	char real[PATH_MAX];
	struct stat a, b;
	bool ok;

	if (realpath(p->path, real) == NULL)
		return bad("realpath", 0);
	if ((q.fd = open(real, O_RDONLY | O_CLOEXEC)) < 0)
		return bad("open of the real path", 0);
	ok = fstat(p->fd, &a) == 0 && fstat(q.fd, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
	errno = 0;
	if (!ok)
		(void)bad("inode of the real path", 0);
	ok = ok && check_pread(&q);
	(void)close(q.fd);
	return ok;
}

/* A child reads through the descriptor it inherited while the parent reads too. */
static bool
check_fork(struct pair *p)
{
	int status;
	bool ok;
	pid_t pid = fork();

	if (pid < 0)
		return bad("fork", 0);
	if (pid == 0)
		_exit(check_pread(p) && check_shared(p) ? 0 : 1);
	ok = check_pread(p);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return bad("child", 0);
	return ok;
}

static const struct check checks[] = {
	{ "pread", check_pread },
	{ "direct", check_direct },
	{ "parallel", check_parallel },
	{ "shared", check_shared },
	{ "private-write", check_private_write },
	{ "populate", check_populate },
	{ "mlock", check_mlock },
	{ "random", check_random },
	{ "willneed", check_willneed },
	{ "realpath", check_realpath },
	{ "fork", check_fork },
};

/* ---- damage ---- */

static sigjmp_buf bus_env;

static void
on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus_env, 1);
}

struct tally {
	uint64_t good, failed;
};

/* false: a wrong byte. A page that cannot be had (SIGBUS) is no wrong byte. */
static bool
mapped_page_right(const uint8_t *map, const uint8_t *ref, size_t len)
{
	if (sigsetjmp(bus_env, 1) != 0)
		return true;
	return memcmp(map, ref, len) == 0;
}

/* One page: right bytes, or EIO (SIGBUS in a mapping). Anything else is false. */
static bool
damaged_page(struct pair *p, const uint8_t *map, uint64_t off, struct tally *t)
{
	uint8_t buf[PAGE];
	size_t want = p->size - off < PAGE ? (size_t)(p->size - off) : PAGE;
	ssize_t n;

	errno = 0;
	n = pread(p->fd, buf, want, (off_t)off);
	if (n < 0 && errno != EIO)
		return bad("pread of a damaged file", off);
	if (n == 0)
		return bad("early end of a damaged file", off);
	errno = 0;
	if (n > 0 && memcmp(buf, p->ref + off, (size_t)n) != 0)
		return bad("WRONG BYTE by read", off);
	if (n < 0)
		t->failed++;
	else
		t->good++;
	if (!mapped_page_right(map + off, p->ref + off, want))
		return bad("WRONG BYTE by mmap", off);
	return true;
}

static int
run_damaged(struct pair *p, uint64_t off, uint64_t len)
{
	struct sigaction sa = { .sa_handler = on_bus };
	struct tally inside = { 0 }, outside = { 0 };
	const uint8_t *map = mmap(NULL, (size_t)p->size, PROT_READ, MAP_SHARED, p->fd, 0);

	if (map == MAP_FAILED || sigaction(SIGBUS, &sa, NULL) != 0)
		return bad("mmap", 0) ? 0 : 1;
	for (uint64_t o = 0; o < p->size; o += PAGE)
		if (!damaged_page(p, map, o, o >= off && o < off + len ? &inside : &outside))
			return 1;
	printf("inside: %llu right, %llu EIO; outside: %llu right, %llu EIO\n", (unsigned long long)inside.good,
		(unsigned long long)inside.failed, (unsigned long long)outside.good,
		(unsigned long long)outside.failed);
	if (inside.failed == 0 || inside.good != 0) {
		fprintf(stderr, "fileprobe: a page of the damaged range was served\n");
		return 1;
	}
	if (outside.good == 0 || outside.failed != 0) {
		fprintf(stderr, "fileprobe: pages outside the damaged range failed\n");
		return 1;
	}
	return 0;
}

static int
run_drop(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		return bad(path, 0) ? 0 : 1;
	(void)close(fd);
	return 0;
}

static bool
pair_open(struct pair *p, const char *path, const char *ref)
{
	struct stat a, b;
	int fd = open(ref, O_RDONLY | O_CLOEXEC);

	p->path = path;
	if (fd < 0 || fstat(fd, &b) != 0)
		return bad(ref, 0);
	if ((p->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 || fstat(p->fd, &a) != 0)
		return bad(path, 0);
	errno = 0;
	if (a.st_size != b.st_size)
		return bad("size", (uint64_t)a.st_size);
	p->size = (uint64_t)b.st_size;
	if (p->size > 0 && (p->ref = mmap(NULL, (size_t)p->size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
		return bad(ref, 0);
	(void)close(fd);
	return true;
}

int
main(int argc, char **argv)
{
	struct pair p = { 0 };
	bool found = false, ok = true;

	if (argc == 3 && strcmp(argv[1], "drop") == 0)
		return run_drop(argv[2]);
	if (argc < 4) {
		fprintf(stderr, "usage: fileprobe all|drop|damaged|CHECK FILE REFERENCE [OFFSET LENGTH]\n");
		return 64;
	}
	if (!pair_open(&p, argv[2], argv[3]))
		return 1;
	if (argc == 6 && strcmp(argv[1], "damaged") == 0)
		return run_damaged(&p, strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		bool r;

		if (strcmp(argv[1], "all") != 0 && strcmp(argv[1], checks[i].name) != 0)
			continue;
		found = true;
		r = checks[i].run(&p);
		printf("%s %s\n", r ? "ok" : "FAILED", checks[i].name);
		fflush(stdout);
		ok = ok && r;
	}
	if (!found)
		fprintf(stderr, "fileprobe: %s: no such check\n", argv[1]);
	return found && ok ? 0 : 1;
}
