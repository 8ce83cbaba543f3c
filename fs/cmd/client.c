/* SPDX-License-Identifier: Apache-2.0 */
/* client.c - a command's end of the control socket. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "fdmsg.h"
#include "io.h"

enum mfs_code
mfs_client_connect(const struct mfs_config *c, int *fd, struct mfs_err *err)
{
	const char *run = c != NULL ? c->run : MFS_CONTROL_ANY;
	mfs_autoclose int dir = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
	mfs_autoclose int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	*fd = -1;
	if (s < 0)
		return mfs_fail_sys(err, MFS_IO, "cannot make a socket");
	/* By descriptor: a run folder's path may be longer than a socket address. */
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" MFS_CONTROL_SOCKET, dir);
	if (dir < 0 || connect(s, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		bool nobody = errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR;

		return mfs_fail_sys(err, nobody ? MFS_CONDITION_UNMET : MFS_IO, "%s/" MFS_CONTROL_SOCKET "%s", MFS_ESC(run),
			nobody ? ": modelfs is not mounted here" : "");
	}
	*fd = mfs_steal_fd(&s);
	return MFS_OK;
}

static enum mfs_code
request_send(int fd, const struct mfs_ctl_request *r, int pass, struct mfs_err *err)
{
	mfs_autofree char *line = NULL;
	size_t len, done = 0;

	if (mfs_ctl_request_line(r, &line, &len, err) != MFS_OK)
		return err->code;
	while (done < len) {
		ssize_t n = mfs_fdmsg_send(fd, line + done, len - done, done == 0 ? pass : -1, 0);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			break; /* turned away: the reply says why */
		if (n < 0)
			return mfs_fail_sys(err, MFS_IO, "control socket: send");
		done += (size_t)n;
	}
	return MFS_OK;
}

/* More bytes into the buffer; errors when the other end is silent or gone. */
static enum mfs_code
more_read(int fd, int idle_ms, char **buf, size_t *len, size_t *cap, struct mfs_err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;
	int ready;

	if (*len == *cap) {
		size_t want = *cap == 0 ? 16384 : *cap * 2;
		char *bigger;

		if (*cap > MFS_CTL_REPLY_MAX)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "control socket: a line of more than %u bytes", MFS_CTL_REPLY_MAX);
		if ((bigger = realloc(*buf, want)) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "control socket: no memory for %zu bytes", want);
		*buf = bigger;
		*cap = want;
	}
	while ((ready = poll(&p, 1, idle_ms)) < 0 && errno == EINTR)
		;
	if (ready == 0)
		return mfs_fail(err, MFS_CONDITION_UNMET, "control socket: no answer within %d s; see 'modelfs doctor'",
			idle_ms / 1000);
	if (ready < 0 || ((n = recv(fd, *buf + *len, *cap - *len, 0)) < 0 && errno != EINTR))
		return mfs_fail_sys(err, MFS_IO, "control socket: receive");
	if (n == 0)
		return mfs_fail(err, MFS_CONDITION_UNMET,
			"control socket: closed before the answer; modelfs was restarted or unmounted, try again");
	*len += n > 0 ? (size_t)n : 0;
	return MFS_OK;
}

static enum mfs_code
call(int fd, const struct mfs_ctl_request *r, int pass, int idle_ms, bool (*line)(void *user, const json_t *body),
	void *user, struct mfs_ctl_reply *out, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	mfs_autofree char *buf = NULL;
	size_t len = 0, cap = 0, seen = 0;

	err = err != NULL ? err : &own;
	*out = (struct mfs_ctl_reply){ 0 };
	if (request_send(fd, r, pass, err) != MFS_OK)
		return err->code;
	for (;;) {
		char *nl = len > seen ? memchr(buf + seen, '\n', len - seen) : NULL;
		size_t used;

		if (nl == NULL) {
			seen = len;
			if (more_read(fd, idle_ms, &buf, &len, &cap, err) != MFS_OK)
				return err->code;
			continue;
		}
		used = (size_t)(nl - buf) + 1;
		if (mfs_ctl_reply_parse((struct mfs_span){ (const uint8_t *)buf, used - 1 }, out, err) != MFS_OK)
			return err->code;
		if (out->final)
			return MFS_OK;
		if (line != NULL && !line(user, out->body)) {
			json_decref(out->body);
			out->body = NULL;
			return mfs_fail(err, MFS_CONDITION_UNMET, "interrupted");
		}
		json_decref(out->body);
		out->body = NULL;
		memmove(buf, buf + used, len - used);
		len -= used;
		seen = 0;
	}
}

enum mfs_code
mfs_client_call(int fd, const struct mfs_ctl_request *r, int idle_ms, bool (*line)(void *user, const json_t *body),
	void *user, struct mfs_ctl_reply *out, struct mfs_err *err)
{
	return call(fd, r, -1, idle_ms, line, user, out, err);
}

enum mfs_code
mfs_client_ask(const struct mfs_config *c, const struct mfs_ctl_request *r, int idle_ms,
	bool (*line)(void *user, const json_t *body), void *user, struct mfs_ctl_reply *out, struct mfs_err *err)
{
	return mfs_client_ask_with(c, r, -1, idle_ms, line, user, out, err);
}

enum mfs_code
mfs_client_ask_with(const struct mfs_config *c, const struct mfs_ctl_request *r, int pass, int idle_ms,
	bool (*line)(void *user, const json_t *body), void *user, struct mfs_ctl_reply *out, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;

	err = err != NULL ? err : &own;
	*out = (struct mfs_ctl_reply){ 0 };
	if (mfs_client_connect(c, &fd, err) != MFS_OK)
		return err->code;
	return call(fd, r, pass, idle_ms, line, user, out, err);
}

int
mfs_client_finish(const char *command, struct mfs_ctl_reply *out)
{
	struct mfs_err err = { .code = out->code };

	json_decref(out->body);
	out->body = NULL;
	if (out->code == MFS_OK) {
		if (out->detail[0] != '\0')
			printf("%s\n", out->detail);
		return out->exit_code;
	}
	(void)snprintf(err.msg, sizeof(err.msg), "%s", out->detail);
	(void)mfs_cmd_fail(command, &err);
	return out->exit_code;
}
