/* SPDX-License-Identifier: Apache-2.0 */
/* check_sandbox.c - each profile in a child: what is allowed works, what is forbidden ends it or fails. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "sandbox.h"

#define KILLED  1000 /* by SIGSYS */
#define REFUSED 99   /* exit status: the sandbox could not be applied */

struct place { /* one writable folder, one read-only, one outside */
	int rw, ro, outside;
	char path[64];
};

static struct place
place_make(void)
{
	struct place p = { .path = "/tmp/check_sandbox.XXXXXX" };
	const char *const names[] = { "rw", "ro", "outside" };
	int *fds[] = { &p.rw, &p.ro, &p.outside };

	cr_assert_not_null(mkdtemp(p.path));
	cr_assert_eq(chmod(p.path, 0755), 0);
	for (int i = 0; i < 3; i++) {
		char sub[128];
		int f;

		(void)snprintf(sub, sizeof(sub), "%s/%s", p.path, names[i]);
		cr_assert_eq(mkdir(sub, 0777), 0);
		cr_assert_eq(chmod(sub, 0777), 0);
		*fds[i] = open(sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		f = openat(*fds[i], "file", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		cr_assert(f >= 0 && fchmod(f, 0666) == 0 && write(f, "x", 1) == 1);
		close(f);
	}
	return p;
}

static void
place_remove(struct place *p)
{
	char cmd[128];

	close(p->rw);
	close(p->ro);
	close(p->outside);
	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", p->path);
	cr_assert_eq(system(cmd), 0);
}

/* Exit status of fn in a sandboxed child, KILLED, or -1. */
static int
in_sandbox(enum mfs_sandbox_profile profile, struct place *p, bool allow_unix, int (*fn)(struct place *))
{
	pid_t parent = getpid(), pid = fork();
	int status;

	cr_assert(pid >= 0);
	if (pid == 0) {
		struct mfs_sandbox_dir dirs[2] = { { p != NULL ? p->rw : -1, true }, { p != NULL ? p->ro : -1, false } };
		struct mfs_sandbox s = { .profile = profile, .uid = geteuid() == 0 ? 61180 : (uid_t)-1, .gid = 61180,
			.dirs = dirs, .n_dirs = p != NULL ? 2 : 0, .allow_unix = allow_unix, .parent = parent };
		struct mfs_sandbox_report report;
		struct mfs_err err = MFS_ERR_INIT;

		(void)umask(0);
		if (mfs_sandbox_apply(&s, &report, &err) != MFS_OK || !report.seccomp || !report.no_new_privs) {
			(void)!write(2, err.msg, strlen(err.msg));
			_exit(REFUSED);
		}
		_exit(fn(p));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : -1;
	return WEXITSTATUS(status);
}

static bool
landlock_here(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 2;
}

/* ---- what serve needs works ------------------------------------------------------------------- */

static void *
thread_run(void *arg)
{
	*(int *)arg = 7;
	return arg;
}

static int
fn_threads(struct place *p)
{
	pthread_t t;
	int v = 0;

	(void)p;
	if (pthread_create(&t, NULL, thread_run, &v) != 0 || pthread_join(t, NULL) != 0)
		return 1;
	return v == 7 ? 0 : 2;
}

static int
fn_store(struct place *p)
{
	char buf[2] = { 0 };
	int f;

	/* What the store does: temporary, sync, rename across folders, unlink. */
	if (mkdirat(p->rw, "staging", 0700) != 0 || mkdirat(p->rw, "blobs", 0700) != 0)
		return 1;
	f = openat(p->rw, "staging/t", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f < 0 || write(f, "ab", 2) != 2 || ftruncate(f, 1) != 0 || fsync(f) != 0)
		return 2;
	if (renameat(p->rw, "staging/t", p->rw, "blobs/t") != 0)
		return 3;
	if (pread(f, buf, 2, 0) != 1 || buf[0] != 'a' || close(f) != 0)
		return 4;
	if (unlinkat(p->rw, "blobs/t", 0) != 0 || unlinkat(p->rw, "blobs", AT_REMOVEDIR) != 0)
		return 5;
	f = openat(p->ro, "file", O_RDONLY | O_CLOEXEC);
	return f >= 0 && read(f, buf, 1) == 1 ? 0 : 6;
}

static int
fn_memory(struct place *p)
{
	void *m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)p;
	if (m == MAP_FAILED || madvise(m, 1 << 20, MADV_DONTDUMP) != 0 || mlock(m, 4096) != 0)
		return 1;
	return munmap(m, 1 << 20) == 0 ? 0 : 2;
}

Test(sandbox, threads_run)
{
	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, false, fn_threads), 0);
	cr_assert_eq(in_sandbox(MFS_SANDBOX_INSTALL, NULL, false, fn_threads), 0);
	cr_assert_eq(in_sandbox(MFS_SANDBOX_FETCH, NULL, false, fn_threads), 0);
}

Test(sandbox, memory_works)
{
	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, false, fn_memory), 0);
}

Test(sandbox, named_folders_are_reachable)
{
	struct place p = place_make();

	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, &p, false, fn_store), 0);
	place_remove(&p);
}

/* ---- what is outside is not ------------------------------------------------------------------- */

static int
fn_outside(struct place *p)
{
	if (openat(p->outside, "file", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
		return 1;
	if (openat(p->ro, "file", O_RDWR | O_CLOEXEC) >= 0 || errno != EACCES)
		return 2;
	if (openat(p->ro, "new", O_RDWR | O_CREAT | O_CLOEXEC, 0600) >= 0 || errno != EACCES)
		return 3;
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
		return 4;
	if (linkat(p->outside, "file", p->rw, "stolen", 0) == 0)
		return 5;
	return 0;
}

static int
fn_identity(struct place *p)
{
	struct rlimit core;

	(void)p;
	if (getuid() == 0 || geteuid() == 0 || getegid() == 0 || getgroups(0, NULL) != 0)
		return 1;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 2;
	return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 ? 0 : 3;
}

Test(sandbox, other_files_are_refused)
{
	struct place p = place_make();

	if (!landlock_here())
		cr_skip_test("no Landlock in this kernel");
	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, &p, false, fn_outside), 0);
	place_remove(&p);
}

Test(sandbox, privileges_are_gone)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, false, fn_identity), 0);
}

/* ---- forbidden calls end the process ---------------------------------------------------------- */

static int
fn_exec(struct place *p)
{
	(void)p;
	execl("/bin/true", "true", (char *)NULL);
	return 1;
}

static int
fn_execveat(struct place *p)
{
	(void)p;
	return syscall(SYS_execveat, -1, "/bin/true", NULL, NULL, 0) == 0;
}

static int
fn_socket_inet(struct place *p)
{
	(void)p;
	return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}

static int
fn_socket_unix(struct place *p)
{
	(void)p;
	return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ? 0 : 1;
}

static int
fn_socket_packet(struct place *p)
{
	(void)p;
	return socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == ENOSYS ? 0 : 1;
}

static int
fn_connect(struct place *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/run/x" };

	(void)p;
	return connect(0, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static int
fn_ptrace(struct place *p)
{
	(void)p;
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static int
fn_mount(struct place *p)
{
	(void)p;
	return mount("none", "/mnt", "tmpfs", 0, NULL) == 0;
}

static int
fn_bpf(struct place *p)
{
	(void)p;
	return syscall(SYS_bpf, 0, NULL, 0) == 0;
}

static int
fn_vm_read(struct place *p)
{
	(void)p;
	return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0) == 0;
}

static int
fn_keyctl(struct place *p)
{
	(void)p;
	return syscall(SYS_keyctl, 0, 0, 0, 0, 0) == 0;
}

static int
fn_setuid(struct place *p)
{
	(void)p;
	return syscall(SYS_setresuid, 0, 0, 0) == 0;
}

Test(sandbox, forbidden_calls_kill)
{
	int (*const calls[])(struct place *) = { fn_exec, fn_execveat, fn_socket_inet, fn_socket_unix, fn_connect,
		fn_ptrace, fn_mount, fn_bpf, fn_vm_read, fn_keyctl, fn_setuid };
	const enum mfs_sandbox_profile profiles[] = { MFS_SANDBOX_SERVE, MFS_SANDBOX_INSTALL };

	for (size_t k = 0; k < sizeof(profiles) / sizeof(profiles[0]); k++)
		for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
			cr_expect_eq(in_sandbox(profiles[k], NULL, false, calls[i]), KILLED, "profile %zu, call %zu", k, i);
}

Test(sandbox, fetch_has_the_network_but_no_exec)
{
	int (*const calls[])(struct place *) = { fn_exec, fn_execveat, fn_ptrace, fn_mount, fn_bpf, fn_vm_read };

	cr_expect_eq(in_sandbox(MFS_SANDBOX_FETCH, NULL, false, fn_socket_inet), 0);
	cr_expect_eq(in_sandbox(MFS_SANDBOX_FETCH, NULL, false, fn_socket_unix), 0);
	cr_expect_eq(in_sandbox(MFS_SANDBOX_FETCH, NULL, false, fn_socket_packet), 0);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		cr_expect_eq(in_sandbox(MFS_SANDBOX_FETCH, NULL, false, calls[i]), KILLED, "call %zu", i);
}

Test(sandbox, unix_sockets_only_when_a_key_needs_them)
{
	cr_expect_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, true, fn_socket_unix), 0);
	cr_expect_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, true, fn_socket_packet), 0);
}

/* ---- unknown calls fail softly ---------------------------------------------------------------- */

static int
fn_unknown(struct place *p)
{
	(void)p;
	if (syscall(SYS_clone3, NULL, 0) == 0 || errno != ENOSYS)
		return 1;
	if (syscall(SYS_io_uring_setup, 1, NULL) == 0 || errno != ENOSYS)
		return 2;
	if (syscall(4000) == 0 || errno != ENOSYS)
		return 3;
	return fork() < 0 && errno == ENOSYS ? 0 : 4;
}

static int
fn_exec_memory(struct place *p)
{
	void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)p;
	return m == MAP_FAILED ? 0 : 1;
}

Test(sandbox, unknown_calls_get_enosys)
{
	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, false, fn_unknown), 0);
}

Test(sandbox, memory_is_never_executable)
{
#ifdef MFS_SANITIZERS
	cr_skip_test("sanitizer builds need it");
#endif
	cr_assert_eq(in_sandbox(MFS_SANDBOX_SERVE, NULL, false, fn_exec_memory), 0);
}

/* ---- a child does not outlive its parent ------------------------------------------------------ */

Test(sandbox, dead_parent_is_a_refusal)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct mfs_sandbox s = { .uid = (uid_t)-1, .parent = 1 << 22 };
		struct mfs_sandbox_report report;
		struct mfs_err err = MFS_ERR_INIT;

		_exit(mfs_sandbox_apply(&s, &report, &err) == MFS_INTERNAL ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
