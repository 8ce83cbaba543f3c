/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contentbench: the read path without FUSE. Not a test: it prints figures.
 *
 *	contentbench [MIB [CHUNK_KIB [THREADS]]]
 *
 * The store lies in TMPDIR; "warm" has its blobs in the page cache, "cold" has not. Some disks and
 * virtual machines cache below the page cache: compare ratios within one run.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "contentfix.h"

#define REQUEST (1u << 20)

static struct fix f;
static _Atomic uint64_t next_off;

static double
seconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* CPU time of the process: what a figure costs when the machine has other work too. */
static double
busy(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
print_rate(const char *what, unsigned threads, double elapsed, double cpu)
{
	double gb = (double)f.file.size / 1e9;

	printf("%-28s %u threads  %6.2f GB/s, %5.2f GB per CPU second\n", what, threads, gb / elapsed, gb / cpu);
}

static void *
sequential(void *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	void *buf = aligned_alloc(4096, REQUEST);

	(void)arg;
	for (;;) {
		uint64_t off = atomic_fetch_add(&next_off, REQUEST);
		size_t got;

		if (buf == NULL || off >= f.file.size)
			break;
		if (mfs_content_read(f.c, buf, REQUEST, off, &got, &err) != MFS_OK ||
			memcmp(buf, f.plain + off, 64) != 0) {
			fprintf(stderr, "%s\n", err.msg);
			abort();
		}
	}
	free(buf);
	return NULL;
}

static void
drop(const struct mfs_sha256 *hash)
{
	char path[256];
	int fd;

	fix_path(&f, hash, path);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		abort();
	(void)fdatasync(fd);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)close(fd);
}

static void
warm(const struct mfs_sha256 *hash)
{
	char path[256];
	size_t len;

	fix_path(&f, hash, path);
	free(fix_load(path, &len));
}

static void
measure(const char *what, unsigned threads)
{
	pthread_t t[64];
	double start = seconds(), cpu = busy();

	atomic_store(&next_off, 0);
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, sequential, NULL) != 0)
			abort();
	for (unsigned i = 0; i < threads; i++)
		(void)pthread_join(t[i], NULL);
	print_rate(what, threads, seconds() - start, busy() - cpu);
}

static void
small(const char *what)
{
	double start, cpu;
	uint64_t x = 88172645463325252ull;
	char buf[4096];
	size_t got;
	int n = 2000;

	start = seconds();
	cpu = busy();
	for (int i = 0; i < n; i++) {
		uint64_t off;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		off = (x % (f.file.size / 4096)) * 4096;
		if (mfs_content_read(f.c, buf, sizeof(buf), off, &got, NULL) != MFS_OK)
			abort();
	}
	printf("%-28s 1 thread   %6.1f us each, %.1f us CPU\n", what, (seconds() - start) / n * 1e6, (busy() - cpu) / n * 1e6);
}

static void
fill(unsigned threads)
{
	int fd = memfd_create("fill", MFD_CLOEXEC);
	struct mfs_err err = MFS_ERR_INIT;
	double start, cpu;

	if (fd < 0 || ftruncate(fd, (off_t)f.file.size) != 0)
		abort();
	start = seconds();
	cpu = busy();
	if (mfs_content_fill(f.c, fd, threads, NULL, NULL, &err) != MFS_OK) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	print_rate("fill, warm", threads, seconds() - start, busy() - cpu);
	(void)close(fd);
}

int
main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 512;
	uint32_t chunk = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) << 10 : MFS_CHUNK_DEFAULT;
	unsigned threads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 2;

	if (threads > 64)
		threads = 64;
	fix_make(&f, mib << 20, chunk, MFS_CIPHER_AES_256_GCM, 16u << 20);
	warm(&f.file.sha256);
	measure("sequential 1 MiB, warm", 1);
	measure("sequential 1 MiB, warm", threads);
	fill(threads);
	small("random 4 KiB, warm");
	drop(&f.file.sha256);
	measure("sequential 1 MiB, cold", 1);
	drop(&f.file.sha256);
	measure("sequential 1 MiB, cold", threads);
	drop(&f.file.sha256);
	small("random 4 KiB, cold");
	fix_free(&f);
	return 0;
}
