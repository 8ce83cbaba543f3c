/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_conn.c - one connection of the control socket: bytes in, lines out. Everything a peer can do
 * wrong ends that peer: a frame that is too long, malformed or slow, a reader that does not read.
 */
#include "control_io.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fdmsg.h"
#include "io.h"

void
mfs_conn_close(struct conn *k)
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
void
mfs_conn_send(struct conn *k, char *line, size_t len)
{
	mfs_autofree char *mine = line;
	char *bigger;

	if (k->state == CONN_FREE || k->fd < 0)
		return;
	if (mine == NULL || k->out_len + len > CONTROL_OUT_MAX || (bigger = realloc(k->out, k->out_len + len)) == NULL) {
		mfs_conn_close(k);
		return;
	}
	k->out = bigger;
	memcpy(k->out + k->out_len, mine, len);
	k->out_len += len;
	if (k->deadline == 0)
		k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
}

/* The final line: the connection may send its next request. */
void
mfs_conn_finish(struct conn *k, enum mfs_code code, int exit_code, const char *detail, json_t *body)
{
	size_t len = 0;
	char *line = mfs_ctl_final_line(code, exit_code, detail, body, &len);

	k->state = CONN_READING;
	k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
	mfs_conn_send(k, line, len);
}

void
mfs_conn_refuse(struct conn *k, const struct mfs_err *err)
{
	mfs_conn_finish(k, err->code, (int)mfs_code_exit(err->code), err->msg, NULL);
}

/* The next request that stands whole in the buffer: one a turn, and after its reply was taken, so that all get theirs. */
void
mfs_conn_lines(struct mfs_control *c, struct conn *k)
{
	struct mfs_err err = MFS_ERR_INIT;
	char *nl;

	if (k->state == CONN_READING && !k->closing && k->in_len > 0 && k->out_len == k->out_at &&
		(nl = memchr(k->in, '\n', k->in_len)) != NULL) {
		size_t used = (size_t)(nl - k->in) + 1;

		mfs_conn_request(c, k, k->in, used - 1);
		if (k->state == CONN_FREE)
			return;
		memmove(k->in, k->in + used, k->in_len - used);
		k->in_len -= used;
	}
	if (k->state == CONN_READING && k->in_len == MFS_CTL_REQUEST_MAX && !k->closing && memchr(k->in, '\n', k->in_len) == NULL) {
		(void)mfs_fail(&err, MFS_MALFORMED, "request: no end within %u bytes", MFS_CTL_REQUEST_MAX);
		mfs_conn_refuse(k, &err);
		k->closing = true;
	}
	if (k->state == CONN_READING && k->eof && memchr(k->in, '\n', k->in_len) == NULL)
		k->closing = true;
	if (k->state == CONN_READING && k->closing && k->out_len == k->out_at)
		mfs_conn_close(k);
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
	mfs_conn_close(k);
}

/* Bytes of requests, and the descriptor that may come beside one: only of who may change things, the last one counts. */
static ssize_t
bytes_read(struct conn *k)
{
	struct mfs_fdmsg beside;
	ssize_t n = mfs_fdmsg_recv(k->fd, k->in + k->in_len, MFS_CTL_REQUEST_MAX - k->in_len, 0, &beside);

	for (size_t i = 0; i < beside.n; i++) {
		if (k->may_change) {
			mfs_cleanup_close(&k->passed);
			k->passed = mfs_steal_fd(&beside.fds[i]);
		}
		mfs_cleanup_close(&beside.fds[i]);
	}
	return n;
}

void
mfs_conn_read(struct mfs_control *c, struct conn *k, short revents)
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
	mfs_conn_lines(c, k);
}

void
mfs_conn_write(struct conn *k)
{
	ssize_t n = send(k->fd, k->out + k->out_at, k->out_len - k->out_at, MSG_NOSIGNAL);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		mfs_conn_close(k);
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
		mfs_conn_close(k);
}
