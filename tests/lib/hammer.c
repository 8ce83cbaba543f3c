/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hammer - several processes read a file in every way until told to stop, and no read may fail
 * and no byte may differ. Used while the server is killed.
 *
 *	hammer FILE REFERENCE STOPFILE [PROCESSES]
 *
 * Each process takes one way by its number: pread, mmap, or open-read-close; pages are dropped
 * from the cache after each pass, so that the server is asked again. It ends when STOPFILE
 * exists and a pass is done (exit 0, prints the passes), or at the first error or wrong byte (exit 1).
 */
#include <errno.h>
#include <fcntl.h>
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

#define BLOCK   ((size_t)256 << 10)
#define MAX_PROCS 32

struct job {
	const char *file, *stop;
	const uint8_t *ref;
	size_t size;
	unsigned long passes;
};

static bool
stopped(const struct job *j)
{
	return access(j->stop, F_OK) == 0;
}

static bool
fail(const char *what, size_t off)
{
	fprintf(stderr, "hammer: %s at offset %zu: %s\n", what, off, errno != 0 ? strerror(errno) : "WRONG BYTE");
	return false;
}

static bool
pass_pread(const struct job *j, int fd)
{
	static uint8_t buf[BLOCK];

	for (size_t off = 0; off < j->size;) {
		ssize_t n;

		errno = 0;
		n = pread(fd, buf, BLOCK, (off_t)off);
		if (n <= 0)
			return fail("pread", off);
		errno = 0;
		if (memcmp(buf, j->ref + off, (size_t)n) != 0)
			return fail("pread", off);
		off += (size_t)n;
	}
	return true;
}

static bool
loop_pread(struct job *j)
{
	int fd = open(j->file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail("open", 0);
	for (; j->passes == 0 || !stopped(j); j->passes++) {
		if (!pass_pread(j, fd))
			return false;
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return close(fd) == 0 || fail("close", 0);
}

static bool
loop_mmap(struct job *j)
{
	int fd = open(j->file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail("open", 0);
	for (; j->passes == 0 || !stopped(j); j->passes++) {
		uint8_t *m = mmap(NULL, j->size, PROT_READ, MAP_SHARED, fd, 0);

		if (m == MAP_FAILED)
			return fail("mmap", 0);
		errno = 0;
		/* A failed page is SIGBUS: the process dies of it, and the parent says so. */
		for (size_t off = 0; off < j->size; off += BLOCK)
			if (memcmp(m + off, j->ref + off, j->size - off < BLOCK ? j->size - off : BLOCK) != 0)
				return fail("mmap", off);
		(void)munmap(m, j->size);
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return close(fd) == 0 || fail("close", 0);
}

static bool
loop_open(struct job *j)
{
	uint8_t buf[4096];
	struct stat st;

	for (; j->passes == 0 || !stopped(j); j->passes++) {
		size_t off = (j->passes * 7919 * sizeof(buf)) % j->size;
		int fd;
		ssize_t n;

		errno = 0;
		if (stat(j->file, &st) != 0 || (size_t)st.st_size != j->size)
			return fail("stat", 0);
		if ((fd = open(j->file, O_RDONLY | O_CLOEXEC)) < 0)
			return fail("open", 0);
		if ((n = pread(fd, buf, sizeof(buf), (off_t)off)) <= 0)
			return fail("pread after open", off);
		errno = 0;
		if (memcmp(buf, j->ref + off, (size_t)n) != 0)
			return fail("pread after open", off);
		if (close(fd) != 0)
			return fail("close", 0);
	}
	return true;
}

static bool
run_one(struct job *j, int index)
{
	static const char *const names[] = { "pread", "mmap", "open" };
	bool ok = index % 3 == 0 ? loop_pread(j) : index % 3 == 1 ? loop_mmap(j) : loop_open(j);

	if (ok)
		printf("%s: %lu passes\n", names[index % 3], j->passes);
	fflush(stdout);
	return ok;
}

int
main(int argc, char **argv)
{
	struct job j = { 0 };
	struct stat st;
	long procs = argc > 4 ? strtol(argv[4], NULL, 10) : 6;
	pid_t pid[MAX_PROCS];
	bool ok = true;
	int fd;

	if (argc < 4 || procs < 1 || procs > MAX_PROCS) {
		fprintf(stderr, "usage: hammer FILE REFERENCE STOPFILE [PROCESSES]\n");
		return 64;
	}
	j.file = argv[1];
	j.stop = argv[3];
	if ((fd = open(argv[2], O_RDONLY | O_CLOEXEC)) < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
		return fail(argv[2], 0) ? 0 : 1;
	j.size = (size_t)st.st_size;
	if ((j.ref = mmap(NULL, j.size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
		return fail("reference", 0) ? 0 : 1;
	for (int i = 0; i < procs; i++) {
		if ((pid[i] = fork()) < 0)
			return fail("fork", 0) ? 0 : 1;
		if (pid[i] == 0)
			_exit(run_one(&j, i) ? 0 : 1);
	}
	for (int i = 0; i < procs; i++) {
		int status = 0;

		if (waitpid(pid[i], &status, 0) != pid[i] || status != 0) {
			if (WIFSIGNALED(status))
				fprintf(stderr, "hammer: process %d died of signal %d (SIGBUS: a page failed)\n", i,
					WTERMSIG(status));
			ok = false;
		}
	}
	return ok ? 0 : 1;
}
