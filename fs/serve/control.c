/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - serve's end of the control socket: who is let in, and the thread that polls. It never waits
 * for disk; commands that do run in a worker (control_work.c).
 */
#include "control_io.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

/* ---- accepting ----------------------------------------------------------------------------------- */

static bool
peer_may_change(struct mfs_control *c, int fd, uid_t *uid)
{
	const struct mfs_config *conf = c->s->config;
	struct ucred cred;
	gid_t groups[256];
	socklen_t len = sizeof(cred);

	*uid = (uid_t)-1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 || len != sizeof(cred))
		return false;
	*uid = cred.uid;
	if (cred.uid == 0 || (c->s->shm->rootless != 0 && cred.uid == geteuid()))
		return true;
	if (conf->control_group == NULL)
		return false;
	if (cred.gid == conf->control_gid)
		return true;
	len = sizeof(groups);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == conf->control_gid)
			return true;
	return false;
}

/* One line, without waiting for it to be taken. */
static void
turn_away(int fd)
{
	size_t len = 0;
	mfs_autofree char *line = mfs_ctl_final_line(MFS_RATE_LIMITED, MFS_EXIT_RETRY,
		"too many connections; try again later", NULL, &len);

	if (line != NULL)
		(void)send(fd, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
conn_accept(struct mfs_control *c)
{
	mfs_autoclose int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct conn *k = NULL;
	size_t n_free = 0, own = 0;
	bool may_change;
	uid_t uid;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			c->accept_after = mfs_clock_mono_ms() + CONTROL_TICK_MS;
		return;
	}
	may_change = peer_may_change(c, fd, &uid);
	for (size_t i = 0; i < CONTROL_CONNS; i++)
		if (c->conns[i].state == CONN_FREE) {
			k = &c->conns[i];
			n_free++;
		} else if (!c->conns[i].may_change) {
			own += c->conns[i].uid == uid;
		}
	if (k == NULL || (!may_change && (n_free <= CONTROL_CONNS_ROOT || own >= CONTROL_CONNS_USER))) {
		turn_away(fd);
		return;
	}
	*k = (struct conn){ .state = CONN_READING, .fd = -1, .passed = -1, .may_change = may_change, .uid = uid, .serial = ++c->serial };
	if ((k->in = malloc(MFS_CTL_REQUEST_MAX)) == NULL) {
		*k = (struct conn){ .fd = -1, .passed = -1 };
		return;
	}
	k->fd = mfs_steal_fd(&fd);
	k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
}

/* ---- what time and workers bring ------------------------------------------------------------------ */

static void
results_take(struct mfs_control *c)
{
	struct job done[sizeof(c->results) / sizeof(c->results[0])];
	size_t n;

	(void)pthread_mutex_lock(&c->lock);
	n = c->n_results;
	memcpy(done, c->results, n * sizeof(done[0]));
	c->n_results = 0;
	(void)pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < n; i++) {
		struct job *j = &done[i];
		struct conn *k = NULL;

		for (size_t x = 0; x < CONTROL_CONNS; x++)
			if (c->conns[x].state == CONN_WORKING && c->conns[x].serial == j->serial)
				k = &c->conns[x];
		if (k != NULL)
			mfs_conn_finish(k, j->err.code, j->exit_code, j->detail, j->body);
		else
			json_decref(j->body);
	}
}

static void
wait_tick(struct mfs_control *c, struct conn *k, int64_t now)
{
	char version[MFS_VERSION_MAX + 1], detail[512];

	if (mfs_control_reached(c, k, version)) {
		(void)snprintf(detail, sizeof(detail), "%s %s is active", k->req.model, version);
		mfs_conn_finish(k, MFS_OK, MFS_EXIT_DONE, detail, NULL);
	} else if (k->wait_until >= 0 && now >= k->wait_until) {
		(void)snprintf(detail, sizeof(detail), "%s: waited %lld ms for %s%s, active is %s", k->req.model,
			(long long)k->req.timeout_ms, k->req.version[0] != '\0' ? "version " : "a version", k->req.version,
			version[0] != '\0' ? version : "none");
		mfs_conn_finish(k, MFS_CONDITION_UNMET, MFS_EXIT_RETRY, detail, NULL);
	}
}

static void
progress_tick(struct mfs_control *c, struct conn *k)
{
	struct worker *w = &c->workers[WORKER_VERIFY];
	uint64_t done = atomic_load(&w->done), total = atomic_load(&w->total);
	size_t len = 0;
	char *line;
	bool mine;

	(void)pthread_mutex_lock(&c->lock);
	mine = w->running.serial == k->serial;
	(void)pthread_mutex_unlock(&c->lock);
	if (!mine || total == 0 || done == k->progress)
		return;
	k->progress = done;
	line = mfs_ctl_progress_line(done, total, &len);
	mfs_conn_send(k, line, len);
}

/* It takes its time (loaders, a health check), and is not forgotten. */
static void
alive_tick(struct conn *k, int64_t now)
{
	size_t len = 0;
	char *line;

	k->said = now;
	line = mfs_ctl_progress_line(0, 0, &len);
	mfs_conn_send(k, line, len);
}

static void
conn_tick(struct mfs_control *c, struct conn *k, int64_t now)
{
	size_t len = 0;
	char *line;

	mfs_conn_lines(c, k);
	if (k->state == CONN_FOLLOWING && (line = mfs_control_events(c, k, &len)) != NULL)
		mfs_conn_send(k, line, len);
	else if (k->state == CONN_WAITING)
		wait_tick(c, k, now);
	else if (k->state == CONN_UPDATING)
		mfs_conn_update_tick(c, k, now);
	else if (k->state == CONN_WORKING && k->req.command == MFS_CTL_VERIFY)
		progress_tick(c, k);
	else if (k->state == CONN_WORKING && now - k->said >= CONTROL_ALIVE_MS)
		alive_tick(k, now);
	if (k->state != CONN_FREE && k->deadline != 0 && now >= k->deadline)
		mfs_conn_close(k);
}

/* ---- threads --------------------------------------------------------------------------------------- */

static size_t
poll_fill(struct mfs_control *c, struct pollfd *p, struct conn **who, bool *tick)
{
	size_t n = 2;

	p[0] = (struct pollfd){ .fd = c->wake, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = mfs_clock_mono_ms() < c->accept_after ? -1 : c->listen_fd, .events = POLLIN };
	*tick = p[1].fd < 0;
	for (size_t i = 0; i < CONTROL_CONNS; i++) {
		struct conn *k = &c->conns[i];
		bool reads = !k->closing && !k->eof && k->in_len < MFS_CTL_REQUEST_MAX;

		if (k->state == CONN_FREE)
			continue;
		*tick = true;
		p[n] = (struct pollfd){ .fd = k->fd,
			.events = (short)((reads ? POLLIN : 0) | (k->out_len > k->out_at ? POLLOUT : 0)) };
		who[n++] = k;
	}
	return n;
}

/* At the end: nobody is left without an answer, and nobody is waited for long. */
static void
conns_end(struct mfs_control *c)
{
	int64_t until = mfs_clock_mono_ms() + 500;

	for (size_t i = 0; i < CONTROL_CONNS; i++) {
		struct conn *k = &c->conns[i];

		if (k->state == CONN_WORKING || k->state == CONN_WAITING || k->state == CONN_FOLLOWING ||
			k->state == CONN_UPDATING)
			mfs_conn_finish(k, MFS_CONDITION_UNMET, MFS_EXIT_RETRY, "modelfs is stopping or restarting; try again",
				json_pack("{s:b}", "stopping", 1));
		while (k->state != CONN_FREE && k->out_len > k->out_at && mfs_clock_mono_ms() < until) {
			struct pollfd p = { .fd = k->fd, .events = POLLOUT };

			if (poll(&p, 1, 50) > 0)
				mfs_conn_write(k);
		}
		mfs_conn_close(k);
	}
}

static void *
poll_main(void *arg)
{
	struct mfs_control *c = arg;
	struct pollfd p[CONTROL_CONNS + 2];
	struct conn *who[CONTROL_CONNS + 2];

	while (!atomic_load(&c->quit)) {
		bool tick;
		size_t n = poll_fill(c, p, who, &tick);
		eventfd_t woken;
		int64_t now;

		if (poll(p, n, tick ? CONTROL_TICK_MS : -1) < 0 && errno != EINTR)
			break;
		if ((p[0].revents & POLLIN) != 0)
			(void)eventfd_read(c->wake, &woken);
		results_take(c);
		for (size_t i = 2; i < n; i++) {
			if (who[i]->state != CONN_FREE && (p[i].revents & POLLOUT) != 0)
				mfs_conn_write(who[i]);
			if (who[i]->state != CONN_FREE && (p[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
				mfs_conn_read(c, who[i], p[i].revents);
		}
		now = mfs_clock_mono_ms();
		for (size_t i = 0; i < CONTROL_CONNS; i++)
			conn_tick(c, &c->conns[i], now);
		if ((p[1].revents & POLLIN) != 0)
			conn_accept(c);
	}
	results_take(c);
	conns_end(c);
	return NULL;
}

enum mfs_code
mfs_control_start(struct mfs_serve *s, int listen_fd, struct mfs_control **out, struct mfs_err *err)
{
	struct mfs_control *c = calloc(1, sizeof(*c));
	int flags = fcntl(listen_fd, F_GETFL);

	*out = NULL;
	if (c == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "control: no memory");
	c->s = s;
	c->listen_fd = listen_fd;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->added, NULL);
	for (size_t i = 0; i < CONTROL_CONNS; i++)
		c->conns[i].fd = c->conns[i].passed = -1;
	if ((c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 || flags < 0 ||
		fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) != 0) {
		(void)mfs_fail_sys(err, MFS_IO, "control: cannot listen");
		mfs_control_stop(c);
		return err->code;
	}
	if (!mfs_control_workers_start(c) || !(c->started = pthread_create(&c->thread, NULL, poll_main, c) == 0)) {
		(void)mfs_fail(err, MFS_NO_MEMORY, "control: cannot start a thread");
		mfs_control_stop(c);
		return err->code;
	}
	*out = c;
	return MFS_OK;
}

void
mfs_control_stop(struct mfs_control *c)
{
	size_t waits[WORKERS];

	if (c == NULL)
		return;
	(void)pthread_mutex_lock(&c->lock);
	atomic_store(&c->stop, true);
	for (size_t i = 0; i < WORKERS; i++) {
		waits[i] = c->workers[i].running.serial != 0 ? c->workers[i].running.model : SIZE_MAX;
		atomic_store(&c->workers[i].cancel, 1);
	}
	(void)pthread_cond_broadcast(&c->added);
	(void)pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < WORKERS; i++)
		if (waits[i] < c->s->config->n_models && c->s->tree != NULL)
			mfs_tree_unpin(c->s->tree, waits[i]); /* a change that waits for loads waits no longer */
	for (size_t i = 0; i < WORKERS; i++)
		if (c->workers[i].started)
			(void)pthread_join(c->workers[i].thread, NULL);
	atomic_store(&c->quit, true);
	if (c->wake >= 0)
		(void)eventfd_write(c->wake, 1);
	if (c->started)
		(void)pthread_join(c->thread, NULL);
	for (size_t i = 0; i < c->n_results; i++)
		json_decref(c->results[i].body);
	if (c->wake >= 0)
		(void)close(c->wake);
	(void)pthread_cond_destroy(&c->added);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

bool
mfs_control_store_bytes(struct mfs_control *c, uint64_t *bytes)
{
	uint64_t v = atomic_load(&c->store_bytes);

	*bytes = v == 0 ? 0 : v - 1;
	return v != 0;
}
