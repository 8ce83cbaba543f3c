/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - serve's end of the control socket: connections.
 *
 * Everything a peer can do wrong ends that peer: a frame that is too long, malformed or slow, a
 * reader that does not read. One thread polls and never waits for disk; commands that do run in
 * a worker: changes in one, checks (minutes long) in another.
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
#include "log.h"

static void
conn_close(struct conn *k)
{
	mfs_cleanup_close(&k->fd);
	mfs_cleanup_close(&k->passed);
	if (k->ticket != 0)
		mfs_update_forget(k->updates, k->ticket);
	free(k->in);
	free(k->out);
	*k = (struct conn){ .fd = -1, .passed = -1 };
}

/* Queue bytes for the peer; takes over `line`. A peer that does not read is ended. */
static void
conn_send(struct conn *k, char *line, size_t len)
{
	mfs_autofree char *mine = line;
	char *bigger;

	if (k->state == CONN_FREE || k->fd < 0)
		return;
	if (mine == NULL || k->out_len + len > CONTROL_OUT_MAX || (bigger = realloc(k->out, k->out_len + len)) == NULL) {
		conn_close(k);
		return;
	}
	k->out = bigger;
	memcpy(k->out + k->out_len, mine, len);
	k->out_len += len;
	if (k->deadline == 0)
		k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
}

/* The final line: the connection may send its next request. */
static void
conn_finish(struct conn *k, enum mfs_code code, int exit_code, const char *detail, json_t *body)
{
	size_t len = 0;
	char *line = mfs_ctl_final_line(code, exit_code, detail, body, &len);

	k->state = CONN_READING;
	k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
	conn_send(k, line, len);
}

static void
conn_refuse(struct conn *k, const struct mfs_err *err)
{
	conn_finish(k, err->code, (int)mfs_code_exit(err->code), err->msg, NULL);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static bool
is_verify(const struct job *j)
{
	return j->req.command == MFS_CTL_VERIFY;
}

/* A way back must not wait for an installation that waits for loaders, or for its health check. */
static void
hurry(struct mfs_control *c, const struct conn *k)
{
	bool unpin = false;

	if (k->req.command != MFS_CTL_ROLLBACK && !(k->req.command == MFS_CTL_MARK && !k->req.good))
		return;
	(void)pthread_mutex_lock(&c->lock);
	for (size_t i = WORKER_CHANGE; i < WORKERS; i++)
		if (c->workers[i].running.serial != 0 && c->workers[i].running.model == k->model) {
			atomic_store(&c->workers[i].cancel, 1);
			unpin = true;
		}
	(void)pthread_mutex_unlock(&c->lock);
	if (unpin && c->s->tree != NULL)
		mfs_tree_unpin(c->s->tree, k->model);
}

static void
job_queue(struct mfs_control *c, struct conn *k)
{
	struct job j = { .req = k->req, .model = k->model, .serial = k->serial };
	size_t alike = 0;
	bool full;

	(void)pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->n_queue; i++)
		alike += is_verify(&c->queue[i]) == is_verify(&j);
	full = alike >= CONTROL_JOBS;
	if (!full)
		c->queue[c->n_queue++] = j;
	(void)pthread_cond_broadcast(&c->added);
	(void)pthread_mutex_unlock(&c->lock);
	hurry(c, k);
	if (full) {
		conn_finish(k, MFS_RATE_LIMITED, MFS_EXIT_RETRY, "too many commands are waiting; try again later", NULL);
		return;
	}
	k->state = CONN_WORKING;
	k->deadline = 0;
	k->said = mfs_clock_mono_ms();
}

/* ---- checks and updates: no worker waits for them, they are looked at -------------------------------- */

static void
update_begin(struct mfs_control *c, struct conn *k)
{
	struct mfs_update *u = mfs_updates_threads(c->s->updates);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_remote *via = NULL;

	if (u == NULL)
		(void)mfs_fail(&err, MFS_CONFIG_INVALID, "updates are not to be had here");
	else if (k->req.from && k->passed < 0)
		(void)mfs_fail(&err, MFS_MALFORMED, "request: from: no descriptor came with it");
	else if (k->req.from)
		(void)mfs_remote_adopt(mfs_steal_fd(&k->passed), &via, &err);
	if (err.code == MFS_OK)
		(void)mfs_update_ask(u, k->model, k->req.command == MFS_CTL_UPDATE, via, &k->ticket, &err);
	if (err.code != MFS_OK) {
		k->ticket = 0;
		conn_refuse(k, &err);
		return;
	}
	k->updates = u;
	k->state = CONN_UPDATING;
	k->deadline = 0;
	k->said = mfs_clock_mono_ms();
	k->progress = 0;
}

static void
update_tick(struct mfs_control *c, struct conn *k, int64_t now)
{
	struct mfs_update_answer a;
	uint64_t mark;
	size_t len = 0;
	char *line;

	mfs_update_poll(k->updates, k->ticket, &a);
	if (a.final) {
		mfs_update_forget(k->updates, k->ticket);
		k->ticket = 0;
		conn_finish(k, a.exit_code == MFS_EXIT_NOTHING ? MFS_OK : a.code, a.exit_code, a.detail, NULL);
		return;
	}
	mark = a.done + ((uint64_t)a.step << 56) + a.model;
	if (mark == k->progress && now - k->said < CONTROL_ALIVE_MS)
		return;
	k->progress = mark;
	k->said = now;
	line = mfs_ctl_update_line(a.done, a.total, a.rate, a.model < c->s->config->n_models ? mfs_step_name(a.step) : "check",
		a.model < c->s->config->n_models ? c->s->config->models[a.model].id : NULL, &len);
	conn_send(k, line, len);
}

static void
request_run(struct mfs_control *c, struct conn *k)
{
	char *line;
	size_t len = 0;

	switch (k->req.command) {
	case MFS_CTL_STATUS:
		line = mfs_control_status(c, k, &len);
		k->state = CONN_READING;
		k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
		conn_send(k, line, len);
		break;
	case MFS_CTL_EVENTS:
		k->after = k->req.after;
		k->state = CONN_FOLLOWING;
		k->deadline = 0;
		if ((line = mfs_control_events(c, k, &len)) != NULL)
			conn_send(k, line, len);
		if (!k->req.follow && k->state == CONN_FOLLOWING)
			conn_finish(k, MFS_OK, MFS_EXIT_DONE, "", NULL);
		break;
	case MFS_CTL_WAIT:
		k->state = CONN_WAITING;
		k->deadline = 0;
		k->wait_until = k->req.timeout_ms < 0 ? -1 : mfs_clock_mono_ms() + k->req.timeout_ms;
		break;
	case MFS_CTL_CHECK:
	case MFS_CTL_UPDATE:
		update_begin(c, k);
		break;
	default:
		job_queue(c, k);
	}
	mfs_cleanup_close(&k->passed);
}

static void
request_take(struct mfs_control *c, struct conn *k, const char *line, size_t len)
{
	const struct mfs_config *conf = c->s->config;
	struct mfs_err err = MFS_ERR_INIT;
	ssize_t i;

	if (mfs_ctl_request_parse((struct mfs_span){ (const uint8_t *)line, len }, &k->req, &err) != MFS_OK) {
		conn_refuse(k, &err);
		k->closing = true;
		return;
	}
	if (mfs_ctl_changes(k->req.command) && !k->may_change) {
		(void)mfs_fail(&err, MFS_POLICY_REJECTED, "%s: only root%s%s may do this", mfs_ctl_command_name(k->req.command),
			conf->control_group != NULL ? " and group " : "", conf->control_group != NULL ? conf->control_group : "");
		conn_refuse(k, &err);
		return;
	}
	k->model = conf->n_models;
	if (k->req.model[0] != '\0') {
		if ((i = mfs_config_find(conf, k->req.model)) < 0) {
			(void)mfs_fail(&err, MFS_CONFIG_INVALID, "no model '%s' in the configuration that is served",
				k->req.model);
			conn_refuse(k, &err);
			return;
		}
		k->model = (size_t)i;
	}
	request_run(c, k);
}

/* The next request that stands whole in the buffer: one a turn, and after its reply was taken, so that all get theirs. */
static void
conn_lines(struct mfs_control *c, struct conn *k)
{
	struct mfs_err err = MFS_ERR_INIT;
	char *nl;

	if (k->state == CONN_READING && !k->closing && k->in_len > 0 && k->out_len == k->out_at &&
		(nl = memchr(k->in, '\n', k->in_len)) != NULL) {
		size_t used = (size_t)(nl - k->in) + 1;

		request_take(c, k, k->in, used - 1);
		if (k->state == CONN_FREE)
			return;
		memmove(k->in, k->in + used, k->in_len - used);
		k->in_len -= used;
	}
	if (k->state == CONN_READING && k->in_len == MFS_CTL_REQUEST_MAX && !k->closing && memchr(k->in, '\n', k->in_len) == NULL) {
		(void)mfs_fail(&err, MFS_MALFORMED, "request: no end within %u bytes", MFS_CTL_REQUEST_MAX);
		conn_refuse(k, &err);
		k->closing = true;
	}
	if (k->state == CONN_READING && k->eof && memchr(k->in, '\n', k->in_len) == NULL)
		k->closing = true;
	if (k->state == CONN_READING && k->closing && k->out_len == k->out_at)
		conn_close(k);
}

/* The peer is gone. A command that runs goes on; a check is for the one who asked. */
static void
conn_gone(struct mfs_control *c, struct conn *k)
{
	if (k->state == CONN_WORKING && k->req.command == MFS_CTL_VERIFY) {
		(void)pthread_mutex_lock(&c->lock);
		if (c->workers[WORKER_VERIFY].running.serial == k->serial)
			atomic_store(&c->workers[WORKER_VERIFY].cancel, 1);
		(void)pthread_mutex_unlock(&c->lock);
	}
	conn_close(k);
}

/* Bytes of requests, and the descriptor that may come beside one: only of who may change things, the last one counts. */
static ssize_t
bytes_read(struct conn *k)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = k->in + k->in_len, .iov_len = MFS_CTL_REQUEST_MAX - k->in_len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	ssize_t n = recvmsg(k->fd, &m, MSG_CMSG_CLOEXEC);

	for (struct cmsghdr *h = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; h != NULL; h = CMSG_NXTHDR(&m, h)) {
		size_t count = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS
			? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			mfs_cleanup_close(&k->passed);
			k->passed = fd;
			if (!k->may_change)
				mfs_cleanup_close(&k->passed);
		}
	}
	return n;
}

static void
conn_read(struct mfs_control *c, struct conn *k, short revents)
{
	ssize_t n = 0;

	if (k->in_len < MFS_CTL_REQUEST_MAX) {
		n = bytes_read(k);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			n = 0;
		else if (n == 0)
			k->eof = true;
		else if (n < 0)
			revents = POLLHUP;
	}
	if (n <= 0 && (revents & (POLLHUP | POLLERR)) != 0) {
		conn_gone(c, k);
		return;
	}
	k->in_len += n > 0 ? (size_t)n : 0;
	conn_lines(c, k);
}

static void
conn_write(struct conn *k)
{
	ssize_t n = send(k->fd, k->out + k->out_at, k->out_len - k->out_at, MSG_NOSIGNAL);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		conn_close(k);
		return;
	}
	k->out_at += (size_t)n;
	k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
	if (k->out_at < k->out_len)
		return;
	k->out_at = k->out_len = 0;
	if (k->state != CONN_READING)
		k->deadline = 0;
	if (k->closing)
		conn_close(k);
}

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
			conn_finish(k, j->err.code, j->exit_code, j->detail, j->body);
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
		conn_finish(k, MFS_OK, MFS_EXIT_DONE, detail, NULL);
	} else if (k->wait_until >= 0 && now >= k->wait_until) {
		(void)snprintf(detail, sizeof(detail), "%s: waited %lld ms for %s%s, active is %s", k->req.model,
			(long long)k->req.timeout_ms, k->req.version[0] != '\0' ? "version " : "a version", k->req.version,
			version[0] != '\0' ? version : "none");
		conn_finish(k, MFS_CONDITION_UNMET, MFS_EXIT_RETRY, detail, NULL);
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
	conn_send(k, line, len);
}

/* It takes its time (loaders, a health check), and is not forgotten. */
static void
alive_tick(struct conn *k, int64_t now)
{
	size_t len = 0;
	char *line;

	k->said = now;
	line = mfs_ctl_progress_line(0, 0, &len);
	conn_send(k, line, len);
}

static void
conn_tick(struct mfs_control *c, struct conn *k, int64_t now)
{
	size_t len = 0;
	char *line;

	conn_lines(c, k);
	if (k->state == CONN_FOLLOWING && (line = mfs_control_events(c, k, &len)) != NULL)
		conn_send(k, line, len);
	else if (k->state == CONN_WAITING)
		wait_tick(c, k, now);
	else if (k->state == CONN_UPDATING)
		update_tick(c, k, now);
	else if (k->state == CONN_WORKING && k->req.command == MFS_CTL_VERIFY)
		progress_tick(c, k);
	else if (k->state == CONN_WORKING && now - k->said >= CONTROL_ALIVE_MS)
		alive_tick(k, now);
	if (k->state != CONN_FREE && k->deadline != 0 && now >= k->deadline)
		conn_close(k);
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
			conn_finish(k, MFS_CONDITION_UNMET, MFS_EXIT_RETRY, "modelfs is stopping or restarting; try again",
				json_pack("{s:b}", "stopping", 1));
		while (k->state != CONN_FREE && k->out_len > k->out_at && mfs_clock_mono_ms() < until) {
			struct pollfd p = { .fd = k->fd, .events = POLLOUT };

			if (poll(&p, 1, 50) > 0)
				conn_write(k);
		}
		conn_close(k);
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
				conn_write(who[i]);
			if (who[i]->state != CONN_FREE && (p[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
				conn_read(c, who[i], p[i].revents);
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

/* Hold lock. The first job that this worker may take now: never two changes of one model at a time. */
static bool
job_take(struct worker *w)
{
	struct mfs_control *c = w->c;

	for (size_t i = 0; i < c->n_queue; i++) {
		bool busy = is_verify(&c->queue[i]) != (w == &c->workers[WORKER_VERIFY]);

		for (size_t k = WORKER_CHANGE; k < WORKERS && !busy && !is_verify(&c->queue[i]); k++)
			busy = c->workers[k].running.serial != 0 && c->workers[k].running.model == c->queue[i].model;
		if (busy)
			continue;
		w->running = c->queue[i];
		memmove(&c->queue[i], &c->queue[i + 1], (--c->n_queue - i) * sizeof(c->queue[0]));
		return true;
	}
	return false;
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct mfs_control *c = w->c;

	if (w == &c->workers[WORKER_CHANGE])
		mfs_control_recount(c);
	(void)pthread_mutex_lock(&c->lock);
	for (;;) {
		struct job j;

		while (!atomic_load(&c->stop) && !job_take(w))
			(void)pthread_cond_wait(&c->added, &c->lock);
		if (atomic_load(&c->stop))
			break;
		j = w->running;
		atomic_store(&w->cancel, 0);
		(void)pthread_mutex_unlock(&c->lock);
		mfs_control_run(w, &j);
		(void)pthread_mutex_lock(&c->lock);
		w->running.serial = 0;
		/* What waited for this model may be taken by a worker that sleeps. */
		(void)pthread_cond_broadcast(&c->added);
		if (c->n_results < sizeof(c->results) / sizeof(c->results[0]))
			c->results[c->n_results++] = j;
		else
			json_decref(j.body);
		(void)eventfd_write(c->wake, 1);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

static bool
workers_start(struct mfs_control *c)
{
	bool ok = true;

	for (size_t i = 0; i < WORKERS; i++) {
		c->workers[i].c = c;
		c->workers[i].started = pthread_create(&c->workers[i].thread, NULL, worker_main, &c->workers[i]) == 0;
		ok = ok && c->workers[i].started;
	}
	return ok;
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
	if (!workers_start(c) || !(c->started = pthread_create(&c->thread, NULL, poll_main, c) == 0)) {
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
