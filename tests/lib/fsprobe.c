/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsprobe - questions to a mounted tree that a shell cannot ask exactly.
 *
 *	fsprobe readonly DIR FILE LINK   every mutation of a folder, a file and a link in it is EROFS
 *	fsprobe watch FILE CMD...        run CMD; MODIFY, CLOSE_WRITE and ATTRIB must reach an inotify
 *	                                 watch on FILE within 20 s
 *	fsprobe hold FILE CMD...         open FILE, run CMD, read FILE to the end, print its bytes
 *	fsprobe statfs PATH              prints f_bsize f_blocks f_bavail f_files
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static bool
want_erofs(const char *what, long rc, int err)
{
	if (rc < 0 && err == EROFS)
		return true;
	fprintf(stderr, "fsprobe: %s: %s, wanted EROFS\n", what, rc < 0 ? strerror(err) : "it worked");
	return false;
}

#define TRY(call)                                                                            \
	do {                                                                                 \
		long rc_ = (long)(call);                                                     \
		ok = want_erofs(#call, rc_, errno) && ok;                                    \
	} while (0)

static int
run_readonly(const char *dir, const char *file, const char *lnk)
{
	const struct timespec now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
	char n[PATH_MAX], m[PATH_MAX], parent[PATH_MAX];
	bool ok = true;

	snprintf(n, sizeof(n), "%s/new", dir);
	snprintf(m, sizeof(m), "%s/new2", dir);
	snprintf(parent, sizeof(parent), "%s", file);
	*strrchr(parent, '/') = '\0';
	TRY(open(file, O_WRONLY));
	TRY(open(file, O_RDWR));
	TRY(open(file, O_RDONLY | O_TRUNC));
	TRY(open(file, O_WRONLY | O_APPEND));
	TRY(open(n, O_WRONLY | O_CREAT, 0644));
	TRY(open(dir, O_TMPFILE | O_WRONLY, 0644));
	TRY(truncate(file, 0));
	TRY(unlink(file));
	TRY(unlink(lnk));
	TRY(rename(file, n));
	TRY(rename(lnk, n));
	TRY(link(file, n));
	TRY(symlink("x", n));
	TRY(mkdir(n, 0755));
	TRY(rmdir(parent)); /* not dir, which may be the mountpoint: EBUSY */
	TRY(mknod(n, S_IFREG | 0644, 0));
	TRY(mkfifo(m, 0644));
	TRY(chmod(file, 0666));
	TRY(chown(file, 1, 1));
	TRY(lchown(lnk, 1, 1));
	TRY(utimensat(AT_FDCWD, file, now, 0));
	TRY(setxattr(file, "user.x", "y", 1, 0));
	TRY(removexattr(file, "user.x"));
	return ok ? 0 : 1;
}

static int
run_command(char **argv)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int
run_watch(const char *file, char **argv)
{
	const uint32_t want = IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB;
	uint32_t seen = 0;
	int in = inotify_init1(IN_CLOEXEC), rc;

	if (in < 0 || inotify_add_watch(in, file, want) < 0) {
		perror(file);
		return 1;
	}
	if ((rc = run_command(argv)) != 0) {
		fprintf(stderr, "fsprobe: command exited %d\n", rc);
		return 1;
	}
	for (time_t end = time(NULL) + 20; (seen & want) != want && time(NULL) < end;) {
		_Alignas(struct inotify_event) char buf[4096];
		struct pollfd p = { in, POLLIN, 0 };
		ssize_t n;

		if (poll(&p, 1, 500) <= 0 || (n = read(in, buf, sizeof(buf))) <= 0)
			continue;
		for (char *e = buf; e < buf + n;) {
			struct inotify_event ev;

			memcpy(&ev, e, sizeof(ev));
			seen |= ev.mask;
			e += sizeof(ev) + ev.len;
		}
	}
	printf("modify %d close_write %d attrib %d\n", (seen & IN_MODIFY) != 0, (seen & IN_CLOSE_WRITE) != 0,
		(seen & IN_ATTRIB) != 0);
	return (seen & want) == want ? 0 : 1;
}

static int
run_hold(const char *file, char **argv)
{
	static char buf[1 << 16];
	int fd = open(file, O_RDONLY | O_CLOEXEC), rc;
	ssize_t n;

	if (fd < 0) {
		perror(file);
		return 1;
	}
	if ((rc = run_command(argv)) != 0) {
		fprintf(stderr, "fsprobe: command exited %d\n", rc);
		return 1;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return 1;
	if (n < 0)
		perror("read of the held file");
	return n == 0 && fflush(stdout) == 0 ? 0 : 1;
}

static int
run_statfs(const char *path)
{
	struct statvfs v;

	if (statvfs(path, &v) != 0) {
		perror(path);
		return 1;
	}
	printf("%lu %llu %llu %llu\n", v.f_bsize, (unsigned long long)v.f_blocks, (unsigned long long)v.f_bavail,
		(unsigned long long)v.f_files);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "readonly") == 0)
		return run_readonly(argv[2], argv[3], argv[4]);
	if (argc > 3 && strcmp(argv[1], "watch") == 0)
		return run_watch(argv[2], argv + 3);
	if (argc > 3 && strcmp(argv[1], "hold") == 0)
		return run_hold(argv[2], argv + 3);
	if (argc == 3 && strcmp(argv[1], "statfs") == 0)
		return run_statfs(argv[2]);
	fprintf(stderr, "usage: fsprobe readonly|watch|hold|statfs ...\n");
	return 64;
}
