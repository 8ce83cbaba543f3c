/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.c - the loop: one thread, poll, deadlines. It supervises serve and never waits for its own
 * mount: whatever might touch it runs in a child.
 */
#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "log.h"

#define PING_MS      1000
#define SILENT_MS    5000  /* without a pong: serve hangs */
#define REAP_MS      200   /* after SIGKILL: the successor does not wait longer */
#define READY_MS     10000 /* without a serve that is ready: the connection is given up */
#define END_MS       10000 /* a lazy unmount goes on serving that long */
#define STOP_MS      5000  /* for MFS_K_STOP */
#define QUICK_MS     1000  /* a life this short counts as a quick death */
#define STEADY_MS    60000 /* a life this long forgives an earlier remount */
#define BACKOFF_MAX  2000
#define END_POLL_MS  20
#define UNMOUNT_MS   2000

/* ---- serve: start, stop, death ---------------------------------------------------------------- */

static void
link_close(struct mfs_keeper *k)
{
	mfs_cleanup_close(&k->serve.sock);
}

static void
serve_kill(struct mfs_keeper *k, const char *why)
{
	if (k->serve.pid == 0 || k->serve.killed != 0)
		return;
	mfs_log(MFS_LOG_WARN, "serve %d: %s; killing it", (int)k->serve.pid, why);
	(void)kill(k->serve.pid, SIGKILL);
	k->serve.killed = mfs_clock_mono_ms();
	link_close(k);
}

static void
serve_start(struct mfs_keeper *k, int64_t now)
{
	struct mfs_err err = MFS_ERR_INIT;

	k->spawn_at = 0;
	k->failed = (struct mfs_err)MFS_ERR_INIT;
	if (k->models_changed) { /* not while the serve before may still write there */
		memset(k->shm->models, 0, sizeof(k->shm->models));
		memset(&k->shm->pins, 0, sizeof(k->shm->pins));
		k->models_changed = false;
	}
	if (mfs_kserve_spawn(k, &err) != MFS_OK) {
		mfs_log_err("serve", &err);
		k->spawn_at = now + BACKOFF_MAX;
		return;
	}
	if (k->was_ready && !k->replaced)
		atomic_fetch_add(&k->shm->serve_restarts, 1);
	k->replaced = false;
	if (k->ready_by == 0)
		k->ready_by = now + READY_MS;
	k->ping_at = now + PING_MS;
}

static int64_t
backoff_ms(unsigned deaths)
{
	int64_t ms = deaths == 0 ? 0 : (int64_t)(deaths - 1) * 50;

	return ms < BACKOFF_MAX ? ms : BACKOFF_MAX;
}

static void
death_log(const struct mfs_keeper *k, int status)
{
	if (status < 0)
		mfs_log(MFS_LOG_WARN, "serve %d does not die; its successor starts", (int)k->serve.pid);
	else if (WIFSIGNALED(status))
		mfs_log(MFS_LOG_WARN, "serve %d was killed by signal %d (%s)", (int)k->serve.pid, WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		mfs_log(MFS_LOG_WARN, "serve %d exited with %d%s%s", (int)k->serve.pid, WEXITSTATUS(status),
			k->failed.code != MFS_OK ? ": " : "", k->failed.msg);
}

static void
give_up(struct mfs_keeper *k, const struct mfs_err *err)
{
	k->result = *err;
	k->state = MFS_KEEPER_DONE;
}

/* serve is gone, or (status -1) must be counted as gone. */
static void
serve_gone(struct mfs_keeper *k, int status, int64_t now)
{
	bool quick = now - k->serve.started < QUICK_MS || !k->serve.ready;
	bool asked = k->serve.stop_sent;

	death_log(k, status);
	k->replaced = asked && status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	link_close(k);
	k->serve = (struct mfs_kserve){ .sock = -1 };
	atomic_store(&k->shm->serve_pid, 0);
	if (k->state == MFS_KEEPER_DONE)
		return;
	if (mfs_kmount_dead(&k->mount)) {
		k->state = MFS_KEEPER_DONE; /* unmounted: nothing is left to serve */
		return;
	}
	if (k->state == MFS_KEEPER_STARTING && !k->was_ready && k->failed.code != MFS_OK) {
		give_up(k, &k->failed);
		return;
	}
	if (k->ready_by == 0)
		k->ready_by = now + READY_MS;
	k->quick_deaths = asked || !quick ? 0 : k->quick_deaths + 1;
	k->spawn_at = now + backoff_ms(k->quick_deaths);
}

static void
children_reap(struct mfs_keeper *k, int64_t now)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->serve.pid) {
			serve_gone(k, status, now);
		} else if (pid == k->toucher) {
			if (status != 0)
				mfs_log(MFS_LOG_WARN, "`generation` could not be touched");
			mfs_keeper_touch_done(k);
		} else if (pid == k->probe) {
			k->probe = 0;
			if (status == 0)
				mfs_notify("WATCHDOG=1");
		} else if (pid == k->fetch) {
			k->fetch = 0; /* serve asks for another one when it needs it */
			if (WIFSIGNALED(status))
				mfs_log(MFS_LOG_WARN, "fetch %d was killed by signal %d (%s)", (int)pid, WTERMSIG(status),
					strsignal(WTERMSIG(status)));
			else if (WEXITSTATUS(status) != 0)
				mfs_log(MFS_LOG_WARN, "fetch %d exited with %d", (int)pid, WEXITSTATUS(status));
		} else if (pid == k->unmounter) {
			k->unmounter = 0;
		} else {
			(void)mfs_kjobs_reaped(k, pid, status, now);
		}
	}
}

static void
link_read(struct mfs_keeper *k)
{
	struct mfs_kmsg m;
	int fd, r = 1;

	/* A few at a time: serve must not keep keeper from its other work. */
	for (int i = 0; i < 32 && k->serve.sock >= 0 && r > 0; i++) {
		r = mfs_kmsg_recv(k->serve.sock, &m, &fd);
		if (r < 0 && errno == EAGAIN)
			return;
		mfs_cleanup_close(&fd); /* no verb brings one */
		if (r > 0 && !mfs_keeper_verb(k, &m))
			r = -1;
		if (r < 0)
			serve_kill(k, "malformed frame");
	}
	if (r == 0)
		link_close(k); /* dead or about to be; pings and SIGCHLD tell */
}

/* ---- ready, reload, end ----------------------------------------------------------------------- */

static void
report(struct mfs_keeper *k, const struct mfs_err *err)
{
	if (k->report_fd < 0)
		return;
	if (write(k->report_fd, err, sizeof(*err)) < 0)
		mfs_log(MFS_LOG_DEBUG, "nobody waits for the mount");
	mfs_cleanup_close(&k->report_fd);
}

void
mfs_keeper_ready(struct mfs_keeper *k)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (k->serve.ready)
		return;
	k->serve.ready = true;
	k->ready_by = 0;
	if (k->reloading)
		mfs_notify("READY=1");
	k->reloading = false;
	if (k->state != MFS_KEEPER_STARTING) {
		mfs_log(MFS_LOG_INFO, "serve %d took over", (int)k->serve.pid);
		return;
	}
	if (mfs_kmount_attach(&k->mount, &err) != MFS_OK) {
		give_up(k, &err);
		return;
	}
	k->state = MFS_KEEPER_RUNNING;
	k->was_ready = true;
	mfs_log(MFS_LOG_NOTICE, "%s is served by %d", MFS_ESC(k->mount.path), (int)k->serve.pid);
	mfs_notify("READY=1\nMAINPID=%d", (int)getpid());
	mfs_kadopt_store(k);
	report(k, &err);
}

void
mfs_keeper_reload_start(struct mfs_keeper *k, struct mfs_err *err)
{
	struct mfs_kmsg stop = { .verb = MFS_K_STOP };
	char text[96];

	if (k->state != MFS_KEEPER_RUNNING) {
		(void)mfs_fail(err, MFS_CONDITION_UNMET, "not now: modelfs is starting or ending");
		return;
	}
	if (mfs_keeper_reload(k, err) != MFS_OK) {
		mfs_log_err("reload refused, the old configuration stays", err);
		return;
	}
	if (k->later == 0)
		mfs_log(MFS_LOG_NOTICE, "configuration reloaded");
	else
		mfs_log(MFS_LOG_NOTICE, "configuration reloaded; the new %s takes effect only after 'modelfs unmount' and "
			"'modelfs mount'", mfs_reload_later_text(k->later, text));
	mfs_notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)mfs_clock_mono_ms() * 1000);
	k->reloading = true;
	if (k->serve.pid != 0 && k->serve.sock >= 0 && !k->serve.stop_sent && mfs_kmsg_send(k->serve.sock, &stop, -1) == 0) {
		k->serve.stop_sent = true;
		k->serve.killed = 0;
		k->serve.last_pong = mfs_clock_mono_ms(); /* STOP_MS from here */
	}
}

void
mfs_keeper_end(struct mfs_keeper *k, const char *why)
{
	if (k->state == MFS_KEEPER_STARTING) {
		(void)mfs_fail(&k->result, MFS_CONDITION_UNMET, "ended before it was ready: %s", why);
		k->state = MFS_KEEPER_DONE;
		return;
	}
	if (k->state != MFS_KEEPER_RUNNING)
		return;
	mfs_log(MFS_LOG_NOTICE, "unmounting %s: %s", MFS_ESC(k->mount.path), why);
	mfs_notify("STOPPING=1");
	mfs_kjobs_end(k); /* they hold files of the mount open */
	k->state = MFS_KEEPER_ENDING;
	k->end_by = mfs_clock_mono_ms() + END_MS;
	k->unmounter = mfs_kmount_remove(&k->mount, false);
}

/* The new mount goes where the old one was. The only wait of this process, and a short one. */
static void
helper_wait(pid_t *pid, int64_t ms)
{
	int64_t until = mfs_clock_mono_ms() + ms;

	while (*pid > 0 && mfs_clock_mono_ms() < until) {
		if (waitpid(*pid, NULL, WNOHANG) != 0)
			*pid = 0;
		else
			(void)poll(NULL, 0, 2);
	}
}

/* No serve came up: whoever waits gets ENOTCONN instead of waiting for ever. */
static void
connection_abort(struct mfs_keeper *k, int64_t now)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (k->failed.code != MFS_OK)
		err = k->failed;
	else
		(void)mfs_fail(&err, MFS_INTERNAL, "serve did not come up within %d s; see the log", READY_MS / 1000);
	mfs_log_err("giving up the connection", &err);
	serve_kill(k, "not ready in time");
	k->serve = (struct mfs_kserve){ .sock = -1 };
	k->unmounter = mfs_kmount_remove(&k->mount, true);
	mfs_kadopt_forget(true);
	if (k->state == MFS_KEEPER_STARTING || k->remounts > 0) {
		give_up(k, &err);
		return;
	}
	k->remounts++;
	helper_wait(&k->unmounter, UNMOUNT_MS);
	if (mfs_keeper_connect(k, &err) != MFS_OK) {
		give_up(k, &err);
		return;
	}
	k->state = MFS_KEEPER_STARTING;
	k->ready_by = 0;
	k->quick_deaths = 0;
	serve_start(k, now);
}

/* ---- the watchdog's probe --------------------------------------------------------------------- */

/* systemd asked to hear from us: a child asks the mount, and only its answer is passed on. */
static void
probe_next(struct mfs_keeper *k, int64_t now)
{
	if (k->watchdog_ms == 0 || k->state != MFS_KEEPER_RUNNING)
		return;
	if (k->probe != 0 && now >= k->probe_by) {
		mfs_log(MFS_LOG_WARN, "the mount does not answer a statfs");
		(void)kill(k->probe, SIGKILL);
		k->probe = 0;
	}
	if (k->probe != 0 || now < k->probe_at)
		return;
	k->probe_at = now + k->watchdog_ms / 3;
	k->probe_by = now + k->watchdog_ms / 3;
	k->probe = mfs_keeper_fork(k);
	if (k->probe == 0) {
		struct statfs st;

		_exit(statfs(k->mount.path, &st) != 0);
	}
	if (k->probe < 0)
		k->probe = 0;
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void
signal_read(struct mfs_keeper *k, int64_t now)
{
	struct signalfd_siginfo si;

	while (read(k->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		struct mfs_err err = MFS_ERR_INIT;

		switch ((int)si.ssi_signo) {
		case SIGCHLD:
			children_reap(k, now);
			break;
		case SIGHUP:
			mfs_keeper_reload_start(k, &err);
			break;
		default:
			if (k->state == MFS_KEEPER_ENDING)
				k->end_by = now; /* asked twice */
			mfs_keeper_end(k, si.ssi_signo == SIGINT ? "interrupted" : "terminated");
			break;
		}
	}
}

static void
serve_watch(struct mfs_keeper *k, int64_t now)
{
	struct mfs_kmsg ping = { .verb = MFS_K_PING };

	if (k->serve.pid == 0) {
		if (k->spawn_at != 0 && now >= k->spawn_at)
			serve_start(k, now);
		return;
	}
	if (k->serve.killed != 0) {
		if (now - k->serve.killed >= REAP_MS)
			serve_gone(k, -1, now);
		return;
	}
	if (now - k->serve.last_pong >= (k->serve.stop_sent ? STOP_MS : SILENT_MS)) {
		serve_kill(k, k->serve.stop_sent ? "does not stop" : "silent for 5 s");
		return;
	}
	if (now >= k->ping_at && !k->serve.stop_sent && k->serve.sock >= 0) {
		k->ping_at = now + PING_MS;
		(void)mfs_kmsg_send(k->serve.sock, &ping, -1);
	}
	if (k->remounts > 0 && k->serve.ready && now - k->serve.started >= STEADY_MS)
		k->remounts = 0;
}

static void
ending_watch(struct mfs_keeper *k, int64_t now)
{
	if (k->serve.pid == 0 && mfs_kmount_dead(&k->mount))
		k->state = MFS_KEEPER_DONE;
	else if (now >= k->end_by) {
		mfs_log(MFS_LOG_WARN, "still in use; ending anyway");
		k->state = MFS_KEEPER_DONE;
	}
}

static int
poll_timeout(const struct mfs_keeper *k, int64_t now)
{
	int64_t next = now + PING_MS;
	const int64_t times[] = { k->spawn_at, k->ready_by, k->serve.killed != 0 ? k->serve.killed + REAP_MS : 0,
		k->serve.pid != 0 ? k->ping_at : 0, k->toucher != 0 ? k->touch_by : 0, k->probe != 0 ? k->probe_by : 0,
		k->watchdog_ms != 0 && k->probe == 0 ? k->probe_at : 0, mfs_kjobs_next(k),
		k->state == MFS_KEEPER_ENDING ? now + END_POLL_MS : 0 };

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (times[i] != 0 && times[i] < next)
			next = times[i];
	return next > now ? (int)(next - now) : 0;
}

void
mfs_keeper_run(struct mfs_keeper *k)
{
	serve_start(k, mfs_clock_mono_ms());
	while (k->state != MFS_KEEPER_DONE) {
		struct pollfd p[4] = {
			{ .fd = k->signal_fd, .events = POLLIN }, { .fd = k->serve.sock, .events = POLLIN },
			{ .fd = k->mountinfo_fd, .events = POLLPRI }, { .fd = k->report_fd, .events = 0 },
		};
		int64_t now = mfs_clock_mono_ms();

		if (poll(p, 4, poll_timeout(k, now)) < 0 && errno != EINTR) {
			(void)mfs_fail_sys(&k->result, MFS_IO, "poll");
			break;
		}
		now = mfs_clock_mono_ms();
		if (p[1].revents != 0)
			link_read(k);
		if (p[0].revents != 0)
			signal_read(k, now);
		if ((p[2].revents & (POLLPRI | POLLERR)) != 0 && k->state == MFS_KEEPER_RUNNING && !mfs_kmount_listed(&k->mount))
			mfs_keeper_end(k, "unmounted by somebody");
		if ((p[3].revents & (POLLERR | POLLHUP)) != 0 && k->report_fd >= 0 && k->state == MFS_KEEPER_STARTING)
			mfs_keeper_end(k, "the command that waited was interrupted");
		if (k->state == MFS_KEEPER_DONE)
			break;
		serve_watch(k, now);
		if (k->state == MFS_KEEPER_ENDING)
			ending_watch(k, now);
		else if (k->ready_by != 0 && now >= k->ready_by)
			connection_abort(k, now);
		if (k->state == MFS_KEEPER_DONE)
			break;
		mfs_keeper_touch_next(k, now);
		mfs_kjobs_tick(k, now);
		probe_next(k, now);
	}
	mfs_kjobs_end(k);
	serve_kill(k, "modelfs ends");
	if (k->fetch > 0)
		(void)kill(k->fetch, SIGKILL);
}
