/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shiftclock.c - modelfs and modelpub with a wall clock of their own.
 *
 * Linked into copies of both programs with --wrap=time --wrap=clock_gettime: their wall clock is the host's plus
 * the seconds (64 bits, little-endian) in the file that is called like the program with ".clock" at its end. The
 * file is mapped before anything is confined, so that writing to it sets the clock of what runs already, as who
 * holds a host's clock can. CLOCK_BOOTTIME and CLOCK_MONOTONIC are the host's. Used by tests/lib/clock.sh.
 */
#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int __real_clock_gettime(clockid_t which, struct timespec *out);
int __wrap_clock_gettime(clockid_t which, struct timespec *out);
time_t __wrap_time(time_t *out);

static const volatile uint64_t *shift;

static __attribute__((constructor)) void
shift_map(void)
{
	char path[PATH_MAX + 8];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
	void *p = MAP_FAILED;

	if (n > 0) {
		int fd;

		(void)snprintf(path + n, sizeof(path) - (size_t)n, ".clock");
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
			p = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
			(void)close(fd);
		}
	}
	if (p == MAP_FAILED) {
		perror("the file of the clock");
		_exit(125);
	}
	shift = p;
}

int
__wrap_clock_gettime(clockid_t which, struct timespec *out)
{
	int rc = __real_clock_gettime(which, out);

	if (rc == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
		out->tv_sec += (time_t)(int64_t)le64toh(*shift);
	return rc;
}

time_t
__wrap_time(time_t *out)
{
	struct timespec now = { 0 };

	(void)__wrap_clock_gettime(CLOCK_REALTIME, &now);
	if (out != NULL)
		*out = now.tv_sec;
	return now.tv_sec;
}
