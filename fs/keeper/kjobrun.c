/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kjobrun.c - the init of a job, forked from keeper into a pid namespace of its own: it becomes the
 * job's user, starts the command, keeps the head of its output, and takes everything with it when it
 * ends. Everything here may block or fail: keeper has a time limit on it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "keeper.h"
#include "kfetch.h"
#include "log.h"

#define GROUPS_MAX   128
#define PROCS_MAX    512        /* processes and threads of a user of ours */
#define PROCS_MORE   1024       /* of a configured user: beyond those that he has */
#define DRAIN_MAX    (1u << 20) /* after the command's end */
#define ENV_MAX      20
#define NICE_HEALTH  10
#define BADNESS_HEALTH "500\n"  /* a check is killed before what it checks for */
#define BADNESS_HOOK   "0\n"

enum { FD_NULL, FD_OUTPUT = 3, FD_CGROUP, FD_KEEPER, FD_FIRST_FREE }; /* 0 to 2 are /dev/null */

struct who {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	int n;
};

static __attribute__((noreturn, format(printf, 2, 3))) void
give_up(struct mfs_kjob_note *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(n->text, sizeof(n->text), fmt, ap);
	va_end(ap);
	n->stage = MFS_KJOB_FAILED;
	_exit(1);
}

int
mfs_kjob_clone_flags(const struct mfs_kjob_ask *ask)
{
	if (geteuid() == 0)
		return CLONE_NEWPID;
	return CLONE_NEWUSER | CLONE_NEWPID | (ask->kind == MFS_JOB_HEALTH ? CLONE_NEWNET | CLONE_NEWIPC : 0);
}

static void
signals_reset(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
descriptors_end(void)
{
	if (syscall(SYS_close_range, (unsigned)FD_FIRST_FREE, ~0u, 0) != 0)
		for (int fd = FD_FIRST_FREE; fd < 65536; fd++)
			(void)close(fd);
}

/* Bring what this process needs to its numbers; everything else is gone, /dev/fuse first of all. */
static void
descriptors_keep(const struct mfs_kjob_run *r)
{
	const int wanted[] = { r->output, r->cgroup, r->keeper_fd };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fds[3];

	if (null < 0)
		give_up(r->note, "/dev/null: %s", strerror(errno));
	for (int i = 0; i < 3; i++)
		if ((fds[i] = fcntl(wanted[i] >= 0 ? wanted[i] : null, F_DUPFD_CLOEXEC, 64)) < 0)
			give_up(r->note, "descriptors: %s", strerror(errno));
	for (int i = 0; i < 3; i++)
		if (dup2(null, i) < 0 || dup3(fds[i], FD_OUTPUT + i, O_CLOEXEC) < 0)
			give_up(r->note, "descriptors: %s", strerror(errno));
	descriptors_end();
}

/* ---- who it is ---------------------------------------------------------------------------------- */

static void
group_add(struct who *w, gid_t g)
{
	for (int i = 0; i < w->n; i++)
		if (w->groups[i] == g)
			return;
	if (w->n < GROUPS_MAX)
		w->groups[w->n++] = g;
}

/* A listed device file is opened by its group: never root's, never a disk's. */
static void
device_allow(const struct mfs_kjob_run *r, const char *path, struct who *w)
{
	struct stat st;

	if (stat(path, &st) != 0)
		give_up(r->note, "health.devices: %s: %s", path, strerror(errno));
	if (!S_ISCHR(st.st_mode))
		give_up(r->note, "health.devices: %s is no character device", path);
	if ((st.st_mode & 0006) == 0006)
		return;
	if ((st.st_mode & 0060) != 0060 || st.st_gid == 0)
		give_up(r->note, "health.devices: %s: mode %04o, group %u: give it a group of its own that may read and write it",
			path, (unsigned)st.st_mode & 07777, st.st_gid);
	group_add(w, st.st_gid);
}

/* The user's own groups, the model's (to read it once it is active), and those of its devices. */
static void
who_find(const struct mfs_kjob_run *r, struct who *w)
{
	const struct mfs_config_model *m = r->model;
	struct mfs_err err = MFS_ERR_INIT;
	const struct passwd *p = getpwuid(m->health.uid);
	uid_t other;
	gid_t ignored;

	*w = (struct who){ .uid = m->health.uid, .gid = p != NULL ? p->pw_gid : (gid_t)m->health.uid };
	if (p != NULL) {
		w->n = GROUPS_MAX;
		if (getgrouplist(p->pw_name, w->gid, w->groups, &w->n) < 0)
			w->n = GROUPS_MAX;
	}
	group_add(w, w->gid);
	if (m->has_group)
		group_add(w, m->gid);
	for (size_t i = 0; r->ask->kind == MFS_JOB_HEALTH && m->health.devices != NULL && m->health.devices[i] != NULL; i++)
		device_allow(r, m->health.devices[i], w);
	if (w->uid == 0 || w->gid == 0)
		give_up(r->note, "health.user: user %u is root or in its group; name another", w->uid);
	if ((mfs_config_user(r->config, &other, &ignored, &err) == MFS_OK && other == w->uid) ||
		(mfs_fetch_user(r->config, &other, &ignored, &err) == MFS_OK && other == w->uid))
		give_up(r->note, "health.user: user %u is that of modelfs itself; name another", w->uid);
}

static void
file_write(const char *path, const char *text)
{
	mfs_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return; /* a container may not */
}

/* Without root: the user that runs modelfs, in a user namespace. */
static void
who_map(struct mfs_kjob_note *n, uid_t uid, gid_t gid)
{
	char line[64];

	file_write("/proc/self/setgroups", "deny");
	(void)snprintf(line, sizeof(line), "%u %u 1\n", uid, uid);
	file_write("/proc/self/uid_map", line);
	(void)snprintf(line, sizeof(line), "%u %u 1\n", gid, gid);
	file_write("/proc/self/gid_map", line);
	if (geteuid() != uid)
		give_up(n, "user namespace: %s", strerror(errno));
}

/* ---- what it may ----------------------------------------------------------------------------------- */

static void
loopback_up(struct mfs_kjob_note *n)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP };
	mfs_autoclose int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(ifr.ifr_name, "lo", 3);
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) != 0)
		give_up(n, "loopback: %s", strerror(errno));
}

static void
limit(int what, uint64_t value)
{
	struct rlimit r = { (rlim_t)value, (rlim_t)value };

	(void)setrlimit((__rlimit_resource_t)what, &r);
}

/* The number behind a name in the text of /proc/PID/status; 0 without it. */
static unsigned long
status_number(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	return line != NULL ? strtoul(line + strlen(name), NULL, 10) : 0;
}

/* How many processes and threads a user has, by /proc. What is not told counts as none. */
static uint64_t
tasks_of(uid_t uid)
{
	uint64_t n = 0;
	DIR *d = opendir("/proc");

	for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		mfs_autofree uint8_t *text = NULL;
		char path[300];
		size_t len;

		(void)snprintf(path, sizeof(path), "%s/status", e->d_name);
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || mfs_file_read(dirfd(d), path, 16384, &text, &len, NULL) != MFS_OK ||
			len == 0)
			continue;
		text[len - 1] = '\0'; /* its last byte ends a line */
		if (strstr((char *)text, "\nUid:") != NULL && status_number((char *)text, "\nUid:") == uid)
			n += status_number((char *)text, "\nThreads:");
	}
	if (d != NULL)
		(void)closedir(d);
	return n;
}

static void
limits_set(const struct mfs_kjob_run *r, uid_t uid)
{
	const struct mfs_config_health *h = &r->model->health;
	uint64_t memory = h->memory;
	struct sysinfo si;

	if (memory == 0 && sysinfo(&si) == 0)
		memory = (uint64_t)si.totalram * si.mem_unit / 2;
	limit(RLIMIT_CORE, 0); /* it holds plaintext */
	limit(RLIMIT_NOFILE, 4096);
	/* One of ours: nobody else's processes count. Another one may have a server running, which counts too. */
	limit(RLIMIT_NPROC, h->user == NULL ? PROCS_MAX : tasks_of(uid) + PROCS_MORE);
	/* Last: the count above takes memory. Never RLIMIT_AS: that would forbid mapping a large model. */
	if (r->cgroup < 0 && memory > 0)
		limit(RLIMIT_DATA, memory);
}

static void
become(const struct mfs_kjob_run *r, const struct who *w)
{
	bool health = r->ask->kind == MFS_JOB_HEALTH;

	file_write("/proc/self/oom_score_adj", health ? BADNESS_HEALTH : BADNESS_HOOK);
	if (health)
		(void)setpriority(PRIO_PROCESS, 0, NICE_HEALTH);
	limits_set(r, w->uid);
	if (setgroups((size_t)w->n, w->groups) != 0 || setresgid(w->gid, w->gid, w->gid) != 0 ||
		setresuid(w->uid, w->uid, w->uid) != 0)
		give_up(r->note, "user %u: %s", w->uid, strerror(errno));
}

/* ---- the command -------------------------------------------------------------------------------------- */

static void
env_add(struct mfs_kjob_note *n, char **env, size_t *at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void
env_add(struct mfs_kjob_note *n, char **env, size_t *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (*at + 1 >= ENV_MAX || vasprintf(&env[*at], fmt, ap) < 0)
		give_up(n, "no memory");
	va_end(ap);
	(*at)++;
}

static void
env_make(const struct mfs_kjob_run *r, char **env)
{
	const struct mfs_kjob_ask *a = r->ask;
	const char *id = r->model->id;
	struct mfs_kjob_note *n = r->note;
	size_t at = 0;

	env_add(n, env, &at, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	env_add(n, env, &at, "LANG=C.UTF-8");
	env_add(n, env, &at, "HOME=/");
	env_add(n, env, &at, "MODELFS_MODEL=%s", id);
	env_add(n, env, &at, "MODELFS_VERSION=%.*s", (int)strcspn(a->version, "+"), a->version);
	env_add(n, env, &at, "MODELFS_RELEASE=%" PRId64, a->release);
	env_add(n, env, &at, "MODELFS_REASON=%s", mfs_job_reason_name(a->reason));
	env_add(n, env, &at, "MODELFS_OUTCOME=%s", mfs_code_name(a->outcome));
	if (a->version[0] != '\0' && a->kind != MFS_JOB_ON_REJECT) /* what was refused is not shown */
		env_add(n, env, &at, "MODELFS_DIR=%s/%s/versions/%s", r->mount, id, a->version);
	else
		env_add(n, env, &at, "MODELFS_DIR=");
	if (a->previous[0] != '\0')
		env_add(n, env, &at, "MODELFS_PREVIOUS_DIR=%s/%s/versions/%s", r->mount, id, a->previous);
	else
		env_add(n, env, &at, "MODELFS_PREVIOUS_DIR=");
	if (a->kind == MFS_JOB_HEALTH && a->vectors[0] != '\0')
		env_add(n, env, &at, "MODELFS_VECTORS=%s/%s/versions/%s/%s", r->mount, id, a->version, a->vectors);
	else if (a->kind == MFS_JOB_HEALTH)
		env_add(n, env, &at, "MODELFS_VECTORS=%s/%s/manifests/%s.json", r->mount, id, a->version);
	env[at] = NULL;
}

static __attribute__((noreturn)) void
command_exec(const struct mfs_kjob_run *r, int out)
{
	char *const *argv = r->ask->kind == MFS_JOB_HEALTH ? r->model->health.command :
		r->ask->kind == MFS_JOB_ON_CHANGE ? r->model->on_change : r->model->on_reject;
	char *env[ENV_MAX];
	int e;

	env_make(r, env);
	(void)setsid();
	(void)umask(077);
	if (chdir("/") != 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
		give_up(r->note, "descriptors: %s", strerror(errno));
	(void)execve(argv[0], argv, env);
	e = errno;
	give_up(r->note, "cannot run %s: %s", argv[0], strerror(e));
}

struct output {
	int pipe;
	struct mfs_kjob_note *note;
	uint64_t total;
	size_t kept;
};

/* Keep the head, drop the rest. False: nothing there, or all ends closed. */
static bool
output_take(struct output *o)
{
	char buf[16384];
	ssize_t n = read(o->pipe, buf, sizeof(buf));
	size_t keep;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	keep = MFS_JOB_OUTPUT_MAX - o->kept;
	if (keep > (size_t)n)
		keep = (size_t)n;
	if (keep > 0 && mfs_write_full(FD_OUTPUT, buf, keep) == 0)
		o->kept += keep;
	o->total += (uint64_t)n;
	o->note->total = o->total; /* now: this process may be killed at any moment */
	return true;
}

/* Until the command itself has ended; what it left running goes with this process. keeper: its pidfd, or -1. */
static int
command_wait(struct output *o, pid_t pid, int keeper)
{
	struct pollfd p[3] = { { .fd = o->pipe, .events = POLLIN }, { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN },
		{ .fd = keeper, .events = POLLIN } };
	int status = 0, other;

	while (poll(p, 3, p[1].fd < 0 ? 50 : 1000) >= 0 || errno == EINTR) {
		pid_t done;

		if ((p[2].revents & POLLIN) != 0)
			_exit(1); /* keeper is gone */
		if ((p[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !output_take(o))
			p[0].fd = -1;
		while ((done = waitpid(-1, &other, WNOHANG)) > 0 && done != pid)
			;
		if (done == pid) {
			status = other;
			break;
		}
		if (done < 0 && errno == ECHILD)
			break;
	}
	for (uint64_t end = o->total + DRAIN_MAX; p[0].fd >= 0 && o->total < end && output_take(o);)
		;
	return status;
}

static void
isolate(const struct mfs_kjob_run *r, bool root)
{
	if (r->ask->kind != MFS_JOB_HEALTH)
		return;
	if (root && unshare(CLONE_NEWNET | CLONE_NEWIPC) != 0)
		give_up(r->note, "network namespace: %s", strerror(errno));
	if (r->model->health.network == MFS_NETWORK_LOOPBACK)
		loopback_up(r->note);
}

void
mfs_kjob_init(const struct mfs_kjob_run *r)
{
	bool root = r->uid == 0;
	struct pollfd keeper = { .fd = FD_KEEPER, .events = POLLIN };
	struct mfs_kjob_note *n = r->note;
	struct output o = { .pipe = -1, .note = r->note };
	int pair[2];
	struct who w;
	pid_t pid;

	(void)prctl(PR_SET_NAME, "modelfs: job", 0, 0, 0);
	signals_reset();
	/*
	 * First: to ask who a user is may take its time, and keeper may die meanwhile. Whoever still held /dev/fuse then would
	 * keep the dead mount's readers waiting. Until the change of user, which clears it, this process goes with keeper.
	 */
	descriptors_keep(r);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (r->keeper_fd >= 0 && poll(&keeper, 1, 0) == 1)
		_exit(1);
	if (root)
		who_find(r, &w);
	else
		who_map(n, r->uid, r->gid);
	descriptors_end(); /* what the user database left open is root's */
	if (r->cgroup >= 0) {
		mfs_autoclose int procs = openat(FD_CGROUP, "cgroup.procs", O_WRONLY | O_CLOEXEC);

		if (procs < 0 || write(procs, "0", 1) != 1)
			give_up(n, "cgroup: %s", strerror(errno));
	}
	isolate(r, root);
	if (root)
		become(r, &w);
	else
		limits_set(r, getuid());
	/* After the change of user, which clears it; and a keeper that died before sends nothing. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (r->keeper_fd >= 0 && poll(&keeper, 1, 0) == 1)
		_exit(1);
	if (r->ask->kind == MFS_JOB_HEALTH && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		give_up(n, "no_new_privs: %s", strerror(errno));
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) != 0)
		give_up(n, "pipe: %s", strerror(errno));
	(void)fcntl(pair[1], F_SETFL, 0); /* the command's end blocks */
	n->stage = MFS_KJOB_RUNNING;
	if ((pid = fork()) == 0)
		command_exec(r, pair[1]);
	if (pid < 0)
		give_up(n, "fork: %s", strerror(errno));
	(void)close(pair[1]);
	o.pipe = pair[0];
	n->wait_status = command_wait(&o, pid, r->keeper_fd >= 0 ? FD_KEEPER : -1);
	if (n->stage != MFS_KJOB_FAILED) /* by the child: the program could not be run */
		n->stage = MFS_KJOB_OVER;
	_exit(0);
}
