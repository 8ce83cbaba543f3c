/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readbench - time one way of reading a file, print one number.
 *
 *	readbench read FILE          sequential read(2) of 1 MiB blocks, GB/s
 *	readbench cold FILE          the same, after its cached pages were dropped
 *	readbench mmap FILE          sequential sum over a fresh mapping, GB/s
 *	readbench fault FILE [N]     first touch of N random pages of fresh mappings, median in ns
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096u
#define BLOCK ((size_t)1 << 20)

static _Noreturn void
die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void
bench_read(int fd, uint64_t size)
{
	uint8_t *buf = NULL;
	uint64_t start, done = 0;
	ssize_t n;

	if (posix_memalign((void **)&buf, PAGE, BLOCK) != 0)
		die("memory");
	memset(buf, 1, BLOCK);
	start = now_ns();
	while ((n = read(fd, buf, BLOCK)) > 0)
		done += (uint64_t)n;
	if (n < 0 || done != size)
		die("read");
	printf("%.3f\n", (double)size / (double)(now_ns() - start));
	free(buf);
}

static void
bench_mmap(int fd, uint64_t size)
{
	uint64_t start = now_ns(), sum = 0;
	const uint64_t *m = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	volatile uint64_t sink;

	if (m == MAP_FAILED)
		die("mmap");
	for (uint64_t i = 0; i < size / sizeof(*m); i += 8)
		sum += m[i];
	sink = sum;
	(void)sink;
	printf("%.3f\n", (double)size / (double)(now_ns() - start));
	(void)munmap((void *)(uintptr_t)m, (size_t)size);
}

static int
by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void
bench_fault(int fd, uint64_t size, size_t n)
{
	const size_t per_map = 256;
	uint64_t *t = calloc(n, sizeof(*t)), seed = 42;
	volatile uint8_t sink;

	if (t == NULL || n == 0)
		die("memory");
	for (size_t i = 0; i < n;) {
		const uint8_t *m = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);

		if (m == MAP_FAILED)
			die("mmap");
		(void)madvise((void *)(uintptr_t)m, (size_t)size, MADV_RANDOM);
		for (size_t k = 0; k < per_map && i < n; k++, i++) {
			uint64_t start, page;

			seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			page = (seed >> 20) % (size / PAGE);
			start = now_ns();
			sink = m[page * PAGE];
			t[i] = now_ns() - start;
		}
		(void)munmap((void *)(uintptr_t)m, (size_t)size);
	}
	(void)sink;
	qsort(t, n, sizeof(*t), by_value);
	printf("%llu\n", (unsigned long long)t[n / 2]);
	free(t);
}

int
main(int argc, char **argv)
{
	struct stat st;
	int fd;

	if (argc < 3 || (fd = open(argv[2], O_RDONLY | O_CLOEXEC)) < 0 || fstat(fd, &st) != 0 || st.st_size < PAGE) {
		fprintf(stderr, "usage: readbench read|cold|mmap|fault FILE [N]: %s\n", strerror(errno));
		return 64;
	}
	if (strcmp(argv[1], "cold") == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
		die("fadvise");
	if (strcmp(argv[1], "read") == 0 || strcmp(argv[1], "cold") == 0)
		bench_read(fd, (uint64_t)st.st_size);
	else if (strcmp(argv[1], "mmap") == 0)
		bench_mmap(fd, (uint64_t)st.st_size);
	else if (strcmp(argv[1], "fault") == 0)
		bench_fault(fd, (uint64_t)st.st_size, argc > 3 ? (size_t)strtoull(argv[3], NULL, 10) : 4096);
	else
		return 64;
	return 0;
}
