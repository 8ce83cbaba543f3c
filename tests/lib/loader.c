/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader - what a program does that opens the files of a model one after the other, in a fresh
 * process each time, until told to stop.
 *
 *	loader FOLDER STOPFILE FLOORFILE SEED FILE...
 *
 * Every byte of a version's files is the version's number. A load opens and reads
 * each FILE through FOLDER (.../active) with pauses in between; all must be of one version, and not
 * of one below the number that FLOORFILE holds when the load begins. Prints "N loads"; exit 1 at the
 * first that was not so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_US 30000

static int
fail(const char *what, const char *file)
{
	fprintf(stderr, "loader: %s: %s: %s\n", file, what, errno != 0 ? strerror(errno) : "wrong");
	return 1;
}

static int
file_version(const char *folder, const char *file, int *version)
{
	static unsigned char buf[65536];
	char path[4096];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, file);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return fail("open", file);
	*version = -1;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (*version < 0)
				*version = buf[i];
			errno = 0;
			if (buf[i] != *version)
				return fail("two versions in one file", file);
		}
	if (n < 0 || *version < 0)
		return fail("read", file);
	return close(fd) == 0 ? 0 : fail("close", file);
}

static int
floor_read(const char *path)
{
	char text[16] = "";
	FILE *f = fopen(path, "re");
	int floor = f != NULL && fgets(text, sizeof(text), f) != NULL ? atoi(text) : 0;

	if (f != NULL)
		(void)fclose(f);
	return floor;
}

static int
load(const char *folder, int floor, unsigned seed, char **files)
{
	int first = -1;

	for (; *files != NULL; files++) {
		int version;

		if (file_version(folder, *files, &version) != 0)
			return 1;
		if (first < 0)
			first = version;
		if (version != first) {
			fprintf(stderr, "loader: MIXED: %s is of version %d, the files before of %d\n", *files, version, first);
			return 1;
		}
		(void)usleep((useconds_t)(rand_r(&seed) % PAUSE_US));
	}
	if (first < floor) {
		fprintf(stderr, "loader: STALE: version %d after %d was announced\n", first, floor);
		return 1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	unsigned loads = 0, seed;

	if (argc < 6) {
		fprintf(stderr, "usage: loader FOLDER STOPFILE FLOORFILE SEED FILE...\n");
		return 64;
	}
	seed = (unsigned)atoi(argv[4]) * 1000000;
	while (access(argv[2], F_OK) != 0) {
		int floor = floor_read(argv[3]), status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(load(argv[1], floor, seed + loads, argv + 5));
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			return 1;
		loads++;
	}
	printf("%u loads\n", loads);
	return 0;
}
