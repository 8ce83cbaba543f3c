/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mount.c - `modelfs mount`: becomes keeper, and returns to the caller when the tree is served. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "cmd_common.h"
#include "held.h"
#include "io.h"
#include "keeper.h"
#include "log.h"

#define PID_FILE   "pid"
#define LOG_FILE   "log"

/* ---- the run folder --------------------------------------------------------------------------- */

static enum mfs_code
run_write(struct mfs_keeper *k, const char *name, const char *text, struct mfs_err *err)
{
	mfs_autoclose int fd = -1;

	(void)unlinkat(k->folders.run, name, 0);
	fd = openat(k->folders.run, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) != 0 || mfs_write_full(fd, text, strlen(text)) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s", MFS_ESC(k->config->run), name);
	return MFS_OK;
}

/* /run/modelfs/control leads to the first instance's socket, for commands without a configuration. */
static void
control_link(const struct mfs_keeper *k, bool remove)
{
	const char *run = k->config->run;
	size_t n = strlen(MFS_CONTROL_ANY);
	char link[128], target[300], now[300];
	ssize_t len;

	if (strncmp(run, MFS_CONTROL_ANY "/", n + 1) != 0 || strchr(run + n + 1, '/') != NULL)
		return;
	(void)snprintf(link, sizeof(link), "%s/%s", MFS_CONTROL_ANY, MFS_CONTROL_SOCKET);
	if (snprintf(target, sizeof(target), "%s/%s", run + n + 1, MFS_CONTROL_SOCKET) >= (int)sizeof(target))
		return;
	len = readlink(link, now, sizeof(now) - 1);
	now[len > 0 ? len : 0] = '\0';
	if (remove) {
		if (strcmp(now, target) == 0)
			(void)unlink(link);
		return;
	}
	if (len > 0 && access(link, F_OK) != 0)
		(void)unlink(link); /* dangling */
	(void)!symlink(target, link);
}

/* The listening socket is keeper's: serve may not make one. */
static enum mfs_code
control_listen(struct mfs_keeper *k, struct mfs_err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	/* Through the folder's descriptor: a path may be longer than an address. */
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", k->folders.run, MFS_CONTROL_SOCKET);
	(void)unlinkat(k->folders.run, MFS_CONTROL_SOCKET, 0);
	k->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (k->control_fd < 0 || bind(k->control_fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
		fchmodat(k->folders.run, MFS_CONTROL_SOCKET, 0666, 0) != 0 || listen(k->control_fd, 64) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s", MFS_ESC(k->config->run), MFS_CONTROL_SOCKET);
	control_link(k, false);
	return MFS_OK;
}

static void
run_clean(struct mfs_keeper *k)
{
	if (k->folders.run < 0 || k->lock_fd < 0 || k->config == NULL)
		return; /* somebody else's, or nothing was made yet */
	control_link(k, true);
	mfs_running_forget(k->folders.run, k->config->run, &k->names);
	if (k->config_path == NULL)
		mfs_mount_implied_forget();
	(void)unlinkat(k->folders.run, MFS_CONTROL_SOCKET, 0);
	(void)unlinkat(k->folders.run, MFS_MOUNT_NOTE, 0);
	(void)unlinkat(k->folders.run, PID_FILE, 0);
}

/* A daemon's output: nowhere, and its log. */
static enum mfs_code
output_redirect(struct mfs_keeper *k, struct mfs_err *err)
{
	mfs_autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	mfs_autoclose int log = openat(k->folders.run, LOG_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
		0640);

	if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s/%s", MFS_ESC(k->config->run), LOG_FILE);
	k->own_log = true;
	return MFS_OK;
}

/* ---- keeper ----------------------------------------------------------------------------------- */

static enum mfs_code
signals_open(struct mfs_keeper *k, struct mfs_err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_SETMASK, &set, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
		(k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return mfs_fail_sys(err, MFS_IO, "signals");
	return MFS_OK;
}

/* Who holds the lock; the number is a hint for people only. */
static enum mfs_code
locked_by(const struct mfs_keeper *k, struct mfs_err *err)
{
	mfs_autofree uint8_t *text = NULL, *where = NULL;
	size_t len;
	long pid = 0;

	if (k->folders.run >= 0 && mfs_file_read(k->folders.run, PID_FILE, 32, &text, &len, NULL) == MFS_OK)
		pid = strtol((const char *)text, NULL, 10);
	if (pid > 0 && kill((pid_t)pid, 0) == 0) {
		bool known = mfs_file_read(k->folders.run, MFS_MOUNT_NOTE, PATH_MAX, &where, &len, NULL) == MFS_OK;

		return mfs_fail(err, MFS_CONDITION_UNMET, "%s: already mounted by pid %ld; 'modelfs unmount' ends that",
			MFS_ESC(known ? (const char *)where : k->config->mount), pid);
	}
	return mfs_fail(err, MFS_CONDITION_UNMET, "the state is in use by another command; try again");
}

static enum mfs_code
keeper_prepare(struct mfs_keeper *k, struct mfs_err *err)
{
	char text[32];

	if (mfs_keeper_configure(k, err) != MFS_OK)
		return err->code == MFS_CONDITION_UNMET && k->lock_fd < 0 ? locked_by(k, err) : err->code;
	if (!k->foreground && output_redirect(k, err) != MFS_OK)
		return err->code;
	(void)snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (run_write(k, PID_FILE, text, err) != MFS_OK || signals_open(k, err) != MFS_OK ||
		mfs_keeper_connect(k, err) != MFS_OK || run_write(k, MFS_MOUNT_NOTE, k->mount.path, err) != MFS_OK ||
		control_listen(k, err) != MFS_OK)
		return err->code;
	mfs_keeper_note(k, true);
	k->mountinfo_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (k->mountinfo_fd < 0)
		return mfs_fail_sys(err, MFS_IO, "/proc/self/mountinfo");
	return MFS_OK;
}

static void
watchdog_read(struct mfs_keeper *k)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (usec != NULL && (pid == NULL || atol(pid) == (long)getpid()))
		k->watchdog_ms = atoll(usec) / 1000;
}

/* The whole life of keeper; its outcome. */
static enum mfs_code
keeper_main(struct mfs_keeper *k)
{
	mfs_autoclose int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	(void)prctl(PR_SET_NAME, "modelfs: keeper", 0, 0, 0);
	if (oom >= 0 && write(oom, "-900", 4) < 0)
		mfs_log(MFS_LOG_DEBUG, "oom_score_adj cannot be set");
	(void)umask(022);
	watchdog_read(k);
	if (keeper_prepare(k, &k->result) == MFS_OK && chdir("/") == 0)
		mfs_keeper_run(k);
	/* Said once: by the command as long as it shares our stderr, else by the log of the service. */
	if (k->result.code != MFS_OK && (k->foreground || k->own_log))
		mfs_log_err("", &k->result);
	mfs_notify("STOPPING=1");
	if (!mfs_held_empty(k->held_fd))
		mfs_log(MFS_LOG_WARN, "what acted from memory alone is not on the disk that holds %s: it ends with this mount, and the next "
			"check brings it again", k->config != NULL ? MFS_ESC(k->config->state) : "the state");
	mfs_kadopt_forget(!mfs_held_empty(k->held_fd));
	run_clean(k);
	/* Without root it was mounted before it was ready: a start that failed must not leave it. */
	if (geteuid() != 0 && k->mount.id != 0 && mfs_kmount_listed(&k->mount))
		(void)mfs_krootless_unmount(k->mount.path, true);
	mfs_keeper_disconnect(k); /* the connection ends here at the latest */
	if (k->report_fd >= 0 && write(k->report_fd, &k->result, sizeof(k->result)) < 0)
		return k->result.code;
	mfs_cleanup_close(&k->report_fd);
	return k->result.code;
}

/* ---- the command ------------------------------------------------------------------------------ */

static int
background(struct mfs_keeper *k)
{
	struct mfs_err err = MFS_ERR_INIT;
	int pipefd[2], status;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		(void)mfs_fail_sys(&err, MFS_IO, "cannot start");
		return mfs_cmd_fail("mount", &err);
	}
	if (pid == 0) {
		(void)close(pipefd[0]);
		(void)setsid();
		k->report_fd = pipefd[1];
		_exit((int)mfs_code_exit(keeper_main(k)));
	}
	(void)close(pipefd[1]);
	if (mfs_read_full(pipefd[0], &err, sizeof(err)) != 0) {
		if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
			(void)mfs_fail(&err, MFS_INTERNAL, "keeper was killed by signal %d before it was ready", WTERMSIG(status));
		else
			(void)mfs_fail(&err, MFS_INTERNAL, "keeper ended before it was ready; see the log in the run folder");
	}
	return err.code == MFS_OK ? MFS_EXIT_DONE : mfs_cmd_fail("mount", &err);
}

int
mfs_cmd_mount(int argc, char **argv)
{
	struct mfs_keeper k = {
		.config_fd = -1, .folders = MFS_FOLDERS_INIT, .keys = { .state = -1 }, .lock_fd = -1, .held_fd = -1, .control_fd = -1,
		.signal_fd = -1, .mountinfo_fd = -1, .shm_fd = -1, .report_fd = -1, .mount = MFS_KMOUNT_INIT,
		.resident = { .dir = -1, .table_fd = -1 }, .serve = { .sock = -1 },
	};
	mfs_autofree char *config = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	int code, null;

	if (!mfs_args_parse(argc, argv, MFS_ARG_FOLLOW | MFS_ARG_REPOSITORY, 0, 1, &args, &code))
		return code;
	if ((args.repository != NULL) != (args.root != NULL) || (args.repository != NULL && args.config != NULL)) {
		fprintf(stderr, "modelfs: mount: --repository DIR and --root FILE go together, in the place of -c\n");
		return mfs_cmd_usage(NULL);
	}
	/* Numbers 0 to 2 are taken before anything else could get them. */
	do
		null = open("/dev/null", O_RDWR);
	while (null >= 0 && null <= 2);
	mfs_cleanup_close(&null);
	/* Absolute, so that SIGHUP reads the same file again. */
	if (args.config != NULL && (config = realpath(args.config, NULL)) == NULL) {
		(void)mfs_fail_sys(&err, MFS_CONFIG_INVALID, "%s", MFS_ESC(args.config));
		return mfs_cmd_fail("mount", &err);
	}
	if (args.repository == NULL && args.config == NULL)
		mfs_mount_implied_stale();
	if (args.repository != NULL && mfs_mount_implied(args.repository, args.root, &err) != MFS_OK)
		return mfs_cmd_fail("mount", &err);
	k.config_path = config;
	mfs_running_names(args.config, &k.names);
	k.mount_arg = args.n_pos > 0 ? args.pos[0] : NULL;
	k.foreground = args.follow;
	k.resend = getenv("MODELFS_TEST_NO_RESEND") == NULL; /* tests: as on a kernel before 6.9 */
	mfs_log_open("modelfs[keeper]", MFS_LOG_INFO);
	code = k.foreground ? (int)mfs_code_exit(keeper_main(&k)) : background(&k);
	if (args.repository != NULL && code != MFS_EXIT_DONE)
		mfs_mount_implied_forget();
	return code;
}
