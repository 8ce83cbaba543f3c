/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swapseen - how soon after a swap a process that has just begun sees the new version.
 *
 *	swapseen LINK SWAPS    (ends by itself after that many changes, or on SIGTERM)
 *
 * Processes are forked one after the other; each reads the link and the ctime of the folder that it
 * names, which is when the version was activated: before the anchor was on disk and before the view
 * was swapped, so the figure is an upper bound. Prints "N swaps, p50 US us, p99 US us".
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct seen {
	char target[256];
	int64_t at, since; /* ns */
};

static volatile sig_atomic_t stop;

static void
on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static int
by_value(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* In a fresh process. */
static void
look(const char *link, int out)
{
	struct seen s = { .since = 0 };
	struct timespec now;
	struct stat st;
	ssize_t n = readlink(link, s.target, sizeof(s.target) - 1);

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (n <= 0 || stat(link, &st) != 0)
		_exit(2); /* none is active: nothing to say */
	s.at = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	s.since = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
	_exit(write(out, &s, sizeof(s)) == (ssize_t)sizeof(s) ? 0 : 1);
}

int
main(int argc, char **argv)
{
	size_t max = argc == 3 ? strtoul(argv[2], NULL, 10) : 0, n = 0;
	int64_t *us = calloc(max + 1, sizeof(*us)), last = 0;
	int p[2];

	if (max == 0 || us == NULL || pipe(p) != 0) {
		fprintf(stderr, "usage: swapseen LINK SWAPS\n");
		return 64;
	}
	(void)signal(SIGTERM, on_term);
	while (!stop && n < max) {
		pid_t child = fork();
		struct seen s;
		int status;

		if (child == 0)
			look(argv[1], p[1]);
		if (child < 0 || waitpid(child, &status, 0) != child)
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
			continue;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			return 1;
		if (read(p[0], &s, sizeof(s)) != (ssize_t)sizeof(s))
			return 1;
		if (last != 0 && s.since != last)
			us[n++] = (s.at - s.since) / 1000;
		last = s.since;
	}
	if (n == 0)
		return 1;
	qsort(us, n, sizeof(*us), by_value);
	printf("%zu swaps, p50 %lld us, p99 %lld us\n", n, (long long)us[n / 2], (long long)us[n * 99 / 100]);
	free(us);
	return 0;
}
