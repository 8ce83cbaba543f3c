/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swapload - readers that load a model again and again while it is swapped.
 *
 *	swapload PROCESSES SECONDS FOLDER FILE1 FILE2
 *
 * Each process opens, reads and closes both files of FOLDER, one after the other, until SIGTERM or
 * until the time is over. Both start with the same 8 bytes in one version, with others in the next: two
 * versions in one load, or any error, is a failure (exit 1, said on standard error). Prints the number of loads and of
 * versions seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct count {
	_Atomic uint64_t loads, changes;
};

static volatile sig_atomic_t ended;

static void
on_term(int sig)
{
	(void)sig;
	ended = 1;
}

static int64_t
now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The first 8 bytes of a file that is read whole; 0, or -1 with a message. */
static int
load(const char *folder, const char *file, uint64_t *stamp)
{
	static char buf[1 << 16];
	char path[4096];
	ssize_t n;
	size_t got = 0;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, file);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
		perror(path);
		return -1;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (got == 0 && n >= (ssize_t)sizeof(*stamp))
			memcpy(stamp, buf, sizeof(*stamp));
		got += (size_t)n;
	}
	if (n < 0)
		perror(path);
	(void)close(fd);
	return n < 0 || got < sizeof(*stamp) ? -1 : 0;
}

static int
reader(char **argv, int64_t until, struct count *c)
{
	uint64_t last = 0;

	while (!ended && now_ms() < until) {
		uint64_t a, b;

		if (load(argv[3], argv[4], &a) != 0 || load(argv[3], argv[5], &b) != 0)
			return 1;
		if (a != b) {
			fprintf(stderr, "two versions in one load: %016llx, %016llx\n", (unsigned long long)a, (unsigned long long)b);
			return 1;
		}
		c->loads++;
		c->changes += a != last;
		last = a;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	int n = argc == 6 ? atoi(argv[1]) : 0, bad = 0, status;
	int64_t until = now_ms() + (argc == 6 ? atoi(argv[2]) : 0) * 1000;
	struct count *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[64];

	if (n < 1 || n > 64 || c == MAP_FAILED) {
		fprintf(stderr, "usage: swapload PROCESSES SECONDS FOLDER FILE1 FILE2\n");
		return 64;
	}
	(void)sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_term }, NULL); /* wait() ends with it */
	for (int i = 0; i < n; i++)
		if ((pids[i] = fork()) == 0)
			_exit(reader(argv, until, c));
	for (int left = n; left > 0;) {
		if (wait(&status) < 0) {
			if (errno != EINTR)
				break;
			for (int i = 0; i < n && ended; i++)
				(void)kill(pids[i], SIGTERM);
			continue;
		}
		left--;
		bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	}
	printf("%llu loads, %llu versions seen\n", (unsigned long long)c->loads, (unsigned long long)c->changes);
	return bad;
}
