/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cutat - run a mount and end a part of it just before serve's Nth call that changes a disk.
 *
 *	cutat N PART FOLDER LOG modelfs mount -f ...
 *
 * N       0 ends nothing; else the call to end at, counted over all threads of all serves, from 1
 * PART    serve, fetch: all processes of that kind; keeper: what was started here; all: everything; power:
 *         everything, and what was written to files but not synced is zeros or was never appended (that
 *         a rename is undone is the unit tests' business)
 * FOLDER  only calls on files below it are counted
 * LOG     one line per counted call, "N process call path", then "cut PART PROCESSES" at the one where it ended
 *
 * SIGUSR1: nothing is ended any more; "disarmed" in LOG when that counts. Exits when everything is gone, with the
 * command's exit code (128 + signal). A filter of system calls that asks the tracer stops only what is looked
 * for, so the rest runs at its own speed; the processes' own filters take precedence over it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>

#define OPTIONS                                                                                             \
	(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |           \
		PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

#define TRACEES_MAX 512

enum where { ON_FD, IN_DIR, IN_CWD };

/* What is looked at, and which argument says where. */
static const struct {
	const char *name;
	long nr;
	enum where where;
} calls[] = {
	{ "write", SYS_write, ON_FD }, { "pwrite", SYS_pwrite64, ON_FD }, { "writev", SYS_writev, ON_FD },
	{ "pwritev", SYS_pwritev, ON_FD }, { "pwritev2", SYS_pwritev2, ON_FD }, { "fsync", SYS_fsync, ON_FD },
	{ "fdatasync", SYS_fdatasync, ON_FD }, { "syncfs", SYS_syncfs, ON_FD },
	{ "sync_file_range", SYS_sync_file_range, ON_FD }, { "ftruncate", SYS_ftruncate, ON_FD },
	{ "fallocate", SYS_fallocate, ON_FD }, { "openat", SYS_openat, IN_DIR }, { "openat2", SYS_openat2, IN_DIR },
	{ "mkdirat", SYS_mkdirat, IN_DIR }, { "renameat2", SYS_renameat2, IN_DIR }, { "unlinkat", SYS_unlinkat, IN_DIR },
	{ "linkat", SYS_linkat, IN_DIR }, { "symlinkat", SYS_symlinkat, IN_DIR },
#ifdef SYS_renameat
	{ "renameat", SYS_renameat, IN_DIR },
#endif
#ifdef SYS_rename
	{ "rename", SYS_rename, IN_CWD }, { "unlink", SYS_unlink, IN_CWD }, { "mkdir", SYS_mkdir, IN_CWD },
	{ "link", SYS_link, IN_CWD }, { "rmdir", SYS_rmdir, IN_CWD }, { "creat", SYS_creat, IN_CWD },
#endif
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

struct tracee {
	pid_t tid;
	pid_t tgid; /* 0: not known yet */
};

/* What was written since the file was synced: from `off` to `end`; `size` is what it had before. */
struct unsynced {
	char path[256];
	off_t off, end, size;
};

#define UNSYNCED_MAX 4096

static struct unsynced unsynced[UNSYNCED_MAX];
static size_t n_unsynced;
static struct tracee tracees[TRACEES_MAX];
static size_t n_tracees;
static const char *folder;
static FILE *out;
static unsigned long cut, counted;
static pid_t keeper;
static volatile sig_atomic_t disarmed;

static void
on_disarm(int sig)
{
	(void)sig;
	disarmed = 1;
}

static void
die(const char *what)
{
	perror(what);
	exit(125);
}

/* In the child: everything it becomes asks the tracer before such a call. */
static void
filter_set(void)
{
	struct sock_filter code[2 * CALLS + 2];
	struct sock_fprog prog = { .filter = code };

	code[prog.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < CALLS; i++) {
		code[prog.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].nr, 0, 1);
		code[prog.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | (uint32_t)i);
	}
	code[prog.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) != 0)
		die("seccomp (root only)");
}

/* ---- who -------------------------------------------------------------------------------------------------- */

static pid_t
tgid_of(pid_t tid)
{
	char path[64], line[128];
	pid_t tgid = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	if ((f = fopen(path, "re")) == NULL)
		return 0;
	while (tgid == 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "Tgid:", 5) == 0)
			tgid = (pid_t)strtol(line + 5, NULL, 10);
	(void)fclose(f);
	return tgid;
}

static struct tracee *
tracee(pid_t tid)
{
	for (size_t i = 0; i < n_tracees; i++)
		if (tracees[i].tid == tid)
			return &tracees[i];
	if (n_tracees == TRACEES_MAX)
		die("too many processes");
	tracees[n_tracees] = (struct tracee){ .tid = tid };
	return &tracees[n_tracees++];
}

static void
tracee_gone(pid_t tid)
{
	for (size_t i = 0; i < n_tracees; i++)
		if (tracees[i].tid == tid) {
			tracees[i] = tracees[--n_tracees];
			return;
		}
}

/* What the process was executed as. */
static const char *
part_of(pid_t tgid)
{
	char path[64], text[512] = "";
	const char *base;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)tgid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return "gone";
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return "gone";
	text[n] = '\0';
	if (strcmp(text, "modelfs:") == 0 && n > 9 && strcmp(text + 9, "serve") == 0)
		return "serve";
	base = strrchr(text, '/');
	base = base != NULL ? base + 1 : text;
	return strcmp(base, "modelfs-fetch") == 0 ? "fetch" : tgid == keeper ? "keeper" : "other";
}

/* ---- what ------------------------------------------------------------------------------------------------- */

static bool
text_read(pid_t pid, uint64_t at, char *to, size_t cap)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
		n = pread(fd, to, cap - 1, (off_t)at);
		(void)close(fd);
	}
	to[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The file or folder that the call is about, as far as it is below `folder`. */
static bool
path_of(pid_t pid, const struct ptrace_syscall_info *i, enum where where, char *path, size_t cap)
{
	char link[64], name[512] = "";
	ssize_t n = 0;

	path[0] = '\0';
	if (where != IN_CWD && (int)i->seccomp.args[0] != AT_FDCWD) {
		(void)snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, (int)i->seccomp.args[0]);
		if ((n = readlink(link, path, cap - 1)) < 0)
			return false;
		path[n] = '\0';
	}
	if (where != ON_FD) {
		(void)text_read(pid, i->seccomp.args[where == IN_CWD ? 0 : 1], name, sizeof(name));
		if (name[0] == '/')
			n = 0;
		(void)snprintf(path + n, cap - (size_t)n, "%s%s", n > 0 ? "/" : "", name);
	}
	return strncmp(path, folder, strlen(folder)) == 0;
}

static bool
creates(pid_t pid, long nr, const struct ptrace_syscall_info *i)
{
	struct open_how how = { .flags = 0 };
	long word;

	if (nr == SYS_openat)
		return (i->seccomp.args[2] & (O_CREAT | O_TRUNC)) != 0;
	if (nr != SYS_openat2)
		return true;
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)i->seccomp.args[2], NULL);
	if (errno != 0)
		return false;
	how.flags = (uint64_t)word; /* its first field */
	return (how.flags & (O_CREAT | O_TRUNC)) != 0;
}

/* ---- what a power cut takes ----------------------------------------------------------------------------------- */

static void
written(const char *path, off_t off, off_t n)
{
	struct stat st = { .st_size = 0 };

	if (n_unsynced == UNSYNCED_MAX || strlen(path) >= sizeof(unsynced[0].path))
		die("too much that is not synced");
	(void)stat(path, &st);
	(void)snprintf(unsynced[n_unsynced].path, sizeof(unsynced[0].path), "%s", path);
	unsynced[n_unsynced].off = off;
	unsynced[n_unsynced].end = off + n;
	unsynced[n_unsynced++].size = st.st_size;
}

/* The file is synced, or gone (to NULL), or has another name. */
static void
settled(const char *path, const char *to)
{
	size_t kept = 0;

	for (size_t i = 0; i < n_unsynced; i++) {
		bool same = strcmp(unsynced[i].path, path) == 0;

		if (same && to == NULL)
			continue;
		if (to != NULL && !same && strcmp(unsynced[i].path, to) == 0)
			continue; /* replaced */
		unsynced[kept] = unsynced[i];
		if (same)
			(void)snprintf(unsynced[kept].path, sizeof(unsynced[kept].path), "%s", to);
		kept++;
	}
	n_unsynced = kept;
}

static off_t
fd_position(pid_t pid, int fd, const char *path)
{
	char name[64], line[128];
	long long pos = 0;
	unsigned flags = 0;
	struct stat st;
	FILE *f;

	(void)snprintf(name, sizeof(name), "/proc/%d/fdinfo/%d", (int)pid, fd);
	if ((f = fopen(name, "re")) == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		(void)sscanf(line, "pos: %lld", &pos);
		(void)sscanf(line, "flags: %o", &flags);
	}
	(void)fclose(f);
	return (flags & O_APPEND) != 0 && stat(path, &st) == 0 ? st.st_size : (off_t)pos;
}

/* Keep up with a call that is about to happen. */
static void
follow(pid_t pid, long nr, const struct ptrace_syscall_info *i, const char *path)
{
	char to[1024], dir[64], name[512];
	ssize_t n;

	if (nr == SYS_write) {
		written(path, fd_position(pid, (int)i->seccomp.args[0], path), (off_t)i->seccomp.args[2]);
	} else if (nr == SYS_pwrite64) {
		written(path, (off_t)i->seccomp.args[3], (off_t)i->seccomp.args[2]);
	} else if (nr == SYS_fsync || nr == SYS_fdatasync || nr == SYS_unlinkat) {
		settled(path, NULL);
	} else if (nr == SYS_syncfs) {
		n_unsynced = 0;
	} else if (nr == SYS_renameat2) {
		(void)snprintf(dir, sizeof(dir), "/proc/%d/fd/%d", (int)pid, (int)i->seccomp.args[2]);
		if ((n = readlink(dir, to, sizeof(to) - 1)) < 0 || !text_read(pid, i->seccomp.args[3], name, sizeof(name)))
			return;
		(void)snprintf(to + n, sizeof(to) - (size_t)n, "/%s", name);
		settled(path, to);
	}
}

static void
power_cut(void)
{
	for (size_t i = n_unsynced; i-- > 0;) {
		const struct unsynced *u = &unsynced[i];
		off_t end = u->end < u->size ? u->end : u->size;
		static const char zeros[65536];
		struct stat st;
		int fd = open(u->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			continue;
		for (off_t at = u->off; at < end;) {
			size_t n = (size_t)(end - at) < sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);

			if (pwrite(fd, zeros, n, at) <= 0)
				die(u->path);
			at += (off_t)n;
		}
		if (fstat(fd, &st) == 0 && st.st_size > u->size && ftruncate(fd, u->size) != 0)
			die(u->path);
		(void)close(fd);
		(void)fprintf(out, "lost %s\n", u->path);
	}
}

static void
end_part(const char *part)
{
	bool everything = strcmp(part, "all") == 0 || strcmp(part, "power") == 0;
	unsigned ended = 0;

	for (size_t i = 0; i < n_tracees; i++) {
		pid_t tgid = tgid_of(tracees[i].tid);

		if (tgid == 0 || (!everything && strcmp(part_of(tgid), part) != 0))
			continue;
		ended += tgid == tracees[i].tid && kill(tgid, SIGKILL) == 0;
	}
	if (strcmp(part, "power") == 0) {
		while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
			;
		power_cut();
	}
	(void)fprintf(out, "cut %s %u\n", part, ended);
	(void)fflush(out);
	if (strcmp(part, "power") == 0)
		exit(137);
}

/* A call that the filter asks about. */
static void
asked(pid_t tid, const char *part)
{
	struct ptrace_syscall_info info;
	struct tracee *t = tracee(tid);
	unsigned long which = 0;
	char path[1024];

	if (ptrace(PTRACE_GETEVENTMSG, tid, NULL, &which) != 0 || which >= CALLS ||
		ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info) <= 0 ||
		info.op != PTRACE_SYSCALL_INFO_SECCOMP)
		return;
	if (t->tgid == 0)
		t->tgid = tgid_of(tid);
	if (!creates(tid, calls[which].nr, &info) || !path_of(tid, &info, calls[which].where, path, sizeof(path)) ||
		strcmp(part_of(t->tgid), "serve") != 0)
		return;
	counted++;
	(void)fprintf(out, "%lu %d %s %s\n", counted, (int)t->tgid, calls[which].name, path);
	(void)fflush(out);
	if (counted == cut && !disarmed)
		end_part(part);
	follow(tid, calls[which].nr, &info, path);
}

/* One stop of a tracee; the signal to deliver. */
static int
stopped(pid_t tid, int status, const char *part)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (event == PTRACE_EVENT_EXEC)
		tracee(tid)->tgid = 0;
	if (event == PTRACE_EVENT_SECCOMP)
		asked(tid, part);
	if (event != 0 || sig == SIGSTOP)
		return 0;
	return sig;
}

int
main(int argc, char **argv)
{
	const struct sigaction disarm = { .sa_handler = on_disarm };
	int status, code = 125;
	bool told = false;
	char *end;
	pid_t pid;

	if (argc < 6 || (cut = strtoul(argv[1], &end, 10), *end != '\0')) {
		(void)fprintf(stderr, "usage: cutat N PART FOLDER LOG COMMAND...\n");
		return 125;
	}
	folder = argv[3];
	(void)sigaction(SIGUSR1, &disarm, NULL); /* interrupts the wait */
	if ((out = fopen(argv[4], "we")) == NULL)
		die(argv[4]);
	if ((keeper = fork()) < 0)
		die("fork");
	if (keeper == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
			die("ptrace");
		filter_set();
		(void)execvp(argv[5], argv + 5);
		die(argv[5]);
	}
	if (waitpid(keeper, &status, 0) != keeper || !WIFSTOPPED(status) ||
		ptrace(PTRACE_SETOPTIONS, keeper, NULL, (void *)OPTIONS) != 0 || ptrace(PTRACE_CONT, keeper, NULL, NULL) != 0)
		die("ptrace");
	(void)tracee(keeper);
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (disarmed && !told) {
			told = true;
			(void)fprintf(out, "disarmed\n");
			(void)fflush(out);
		}
		if (pid <= 0)
			continue;
		(void)tracee(pid);
		if (WIFSTOPPED(status)) {
			(void)ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)stopped(pid, status, argv[2]));
			continue;
		}
		tracee_gone(pid);
		if (pid == keeper)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	(void)fclose(out);
	return code;
}
