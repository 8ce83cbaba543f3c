/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - runs a fuzz target over corpus files and folders given in argv, without libFuzzer.
 * Prints how many inputs ran; none at all is an error, so that a lost corpus is noticed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path)
{
	mfs_autofclose FILE *f = fopen(path, "rb");
	mfs_autofree uint8_t *buf = NULL;
	long size;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) != 0) {
		perror(path);
		return -1;
	}
	/* Exactly as large as the input, so that a sanitizer sees a read past its end. */
	buf = malloc(size > 0 ? (size_t)size : 1);
	if (buf == NULL || fread(buf, 1, (size_t)size, f) != (size_t)size) {
		perror(path);
		return -1;
	}
	(void)LLVMFuzzerTestOneInput(buf, (size_t)size);
	return 1;
}

static int
replay(const char *path)
{
	mfs_autodir DIR *d = NULL;
	struct dirent *e;
	struct stat st;
	int n = 0;

	if (stat(path, &st) != 0) {
		perror(path);
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path);
	if ((d = opendir(path)) == NULL) {
		perror(path);
		return -1;
	}
	while ((e = readdir(d)) != NULL) {
		char child[4096];
		int r;

		if (e->d_name[0] == '.')
			continue;
		if (snprintf(child, sizeof(child), "%s/%s", path, e->d_name) >= (int)sizeof(child))
			return -1;
		if ((r = replay(child)) < 0)
			return -1;
		n += r;
	}
	return n;
}

int
main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int r = replay(argv[i]);

		if (r < 0)
			return 1;
		total += r;
	}
	printf("%d inputs replayed\n", total);
	return total > 0 ? 0 : 1;
}
