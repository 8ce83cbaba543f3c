/* SPDX-License-Identifier: Apache-2.0 */
/* klink.c - frames between keeper and serve, and serve's end of the link. */
#include "klink.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "cleanup.h"
#include "fdmsg.h"

#define KLINK_CALL_S 30

static bool
verb_known(uint16_t verb)
{
	return (verb >= MFS_K_HELLO && verb <= MFS_K_FETCH) || verb == MFS_K_JOB || verb == MFS_K_JOB_STOP || verb == MFS_K_HOLD ||
		(verb >= MFS_K_PING && verb <= MFS_K_REPLY) || verb == MFS_K_JOB_DONE;
}

int
mfs_kmsg_send(int sock, const struct mfs_kmsg *m, int fd)
{
	struct mfs_kmsg out = *m;

	out.version = MFS_KLINK_VERSION;
	return mfs_fdmsg_send(sock, &out, sizeof(out), fd, 0) < 0 ? -1 : 0;
}

int
mfs_kmsg_recv(int sock, struct mfs_kmsg *m, int *fd)
{
	struct mfs_fdmsg beside;
	size_t came;
	ssize_t n;

	*m = (struct mfs_kmsg){ 0 };
	n = mfs_fdmsg_recv(sock, m, sizeof(*m), 0, &beside);
	*fd = mfs_fdmsg_one(&beside, &came);
	if (n < 0)
		return -1;
	if (n == 0 && came == 0)
		return 0;
	if (came > 1 || beside.cut || n != (ssize_t)sizeof(*m) || m->version != MFS_KLINK_VERSION || !verb_known(m->verb) ||
		memchr(m->text, '\0', sizeof(m->text)) == NULL) {
		mfs_cleanup_close(fd);
		errno = EPROTO;
		return -1;
	}
	return 1;
}

/* ---- serve's end ------------------------------------------------------------------------------ */

struct call { /* on the stack of the waiting thread; listed under the lock */
	struct call *next;
	uint32_t seq;
	bool done;
	int fd;
	struct mfs_kmsg reply;
};

struct mfs_klink {
	int sock;
	void (*on_stop)(void *user, bool gone);
	void *user;
	pthread_t thread;
	pthread_mutex_t lock; /* below */
	pthread_cond_t cond;  /* a call is done, or the link is gone */
	struct call *calls;
	uint32_t seq;
	bool gone;
	mfs_klink_job_fn *on_job;
	void *job_user;
	pthread_mutex_t job_lock; /* on_job, job_user; held while it is called */
};

static void
reply_deliver(struct mfs_klink *k, const struct mfs_kmsg *m, int fd)
{
	struct call *c;

	pthread_mutex_lock(&k->lock);
	for (c = k->calls; c != NULL && c->seq != m->seq; c = c->next)
		;
	if (c != NULL && !c->done) {
		c->reply = *m;
		c->fd = fd;
		c->done = true;
		fd = -1;
		pthread_cond_broadcast(&k->cond);
	}
	pthread_mutex_unlock(&k->lock);
	if (fd >= 0) /* nobody waits any longer */
		(void)close(fd);
}

static void
job_deliver(struct mfs_klink *k, const struct mfs_kmsg *m, int fd)
{
	(void)pthread_mutex_lock(&k->job_lock);
	if (k->on_job != NULL)
		k->on_job(k->job_user, m, fd);
	else if (fd >= 0)
		(void)close(fd);
	(void)pthread_mutex_unlock(&k->job_lock);
}

static void *
klink_run(void *arg)
{
	struct mfs_klink *k = arg;
	bool stopped = false;
	struct mfs_kmsg m;
	int fd;

	while (mfs_kmsg_recv(k->sock, &m, &fd) > 0) {
		struct mfs_kmsg pong = { .verb = MFS_K_PONG, .seq = m.seq };

		if (m.verb == MFS_K_REPLY) {
			reply_deliver(k, &m, fd);
			continue;
		}
		if (m.verb == MFS_K_JOB_DONE) {
			job_deliver(k, &m, fd);
			continue;
		}
		if (fd >= 0)
			(void)close(fd);
		if (m.verb == MFS_K_PING) {
			if (mfs_kmsg_send(k->sock, &pong, -1) != 0)
				break;
		} else if (m.verb == MFS_K_STOP) {
			if (!stopped)
				k->on_stop(k->user, false);
			stopped = true;
		} else {
			break; /* a verb of the other direction */
		}
	}
	pthread_mutex_lock(&k->lock);
	k->gone = true;
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->lock);
	if (!stopped)
		k->on_stop(k->user, true);
	return NULL;
}

enum mfs_code
mfs_klink_start(int sock, void (*on_stop)(void *user, bool gone), void *user, struct mfs_klink **out,
	struct mfs_err *err)
{
	struct mfs_kmsg hello = { .verb = MFS_K_HELLO };
	struct mfs_klink *k = calloc(1, sizeof(*k));
	pthread_condattr_t attr;
	int e;

	*out = NULL;
	if (k == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "link to keeper");
	k->sock = sock;
	k->on_stop = on_stop;
	k->user = user;
	pthread_mutex_init(&k->lock, NULL);
	pthread_mutex_init(&k->job_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->cond, &attr);
	pthread_condattr_destroy(&attr);
	if (mfs_kmsg_send(sock, &hello, -1) != 0) {
		(void)mfs_fail_sys(err, MFS_IO, "link to keeper");
		free(k);
		return err != NULL ? err->code : MFS_IO;
	}
	e = pthread_create(&k->thread, NULL, klink_run, k);
	if (e != 0) {
		free(k);
		errno = e;
		return mfs_fail_sys(err, MFS_IO, "link to keeper: thread");
	}
	*out = k;
	return MFS_OK;
}

void
mfs_klink_stop(struct mfs_klink *k)
{
	if (k == NULL)
		return;
	(void)shutdown(k->sock, SHUT_RDWR);
	pthread_join(k->thread, NULL);
	(void)close(k->sock);
	pthread_cond_destroy(&k->cond);
	pthread_mutex_destroy(&k->lock);
	pthread_mutex_destroy(&k->job_lock);
	free(k);
}

enum mfs_code
mfs_klink_notify(struct mfs_klink *k, enum mfs_kverb verb, uint32_t model, const char *text, struct mfs_err *err)
{
	struct mfs_kmsg m = { .verb = (uint16_t)verb, .model = model };

	if (text != NULL)
		(void)snprintf(m.text, sizeof(m.text), "%s", text);
	if (mfs_kmsg_send(k->sock, &m, -1) != 0)
		return mfs_fail_sys(err, MFS_IO, "link to keeper");
	return MFS_OK;
}

void
mfs_klink_failed(int sock, const struct mfs_err *why)
{
	struct mfs_kmsg m = { .verb = MFS_K_FAILED, .result = (uint32_t)why->code };

	(void)snprintf(m.text, sizeof(m.text), "%s", why->msg);
	(void)mfs_kmsg_send(sock, &m, -1);
}

static void
call_forget(struct mfs_klink *k, const struct call *c)
{
	for (struct call **p = &k->calls; *p != NULL; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			return;
		}
}

/* One call; its reply lies in c afterwards. */
static enum mfs_code
call_do(struct mfs_klink *k, const struct mfs_kmsg *what, struct call *c, struct mfs_err *err)
{
	struct mfs_kmsg m = *what;
	struct timespec until;
	bool done;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += KLINK_CALL_S;

	pthread_mutex_lock(&k->lock);
	if (++k->seq == 0) /* means that no reply is wanted */
		k->seq = 1;
	m.seq = c->seq = k->seq;
	c->next = k->calls;
	k->calls = c; /* call_forget takes it out before this returns */
	pthread_mutex_unlock(&k->lock);

	done = mfs_kmsg_send(k->sock, &m, -1) == 0;
	pthread_mutex_lock(&k->lock);
	while (done && !c->done && !k->gone)
		if (pthread_cond_timedwait(&k->cond, &k->lock, &until) == ETIMEDOUT)
			break;
	done = c->done;
	call_forget(k, c);
	pthread_mutex_unlock(&k->lock);
	return done ? MFS_OK : mfs_fail(err, MFS_IO, "keeper did not answer");
}

enum mfs_code
mfs_klink_call(struct mfs_klink *k, enum mfs_kverb verb, uint32_t slot, uint64_t size, int *fd, int64_t *value,
	struct mfs_err *err)
{
	struct mfs_kmsg m = { .verb = (uint16_t)verb, .slot = slot, .size = size };
	struct call c = { .fd = -1 };

	if (fd != NULL)
		*fd = -1;
	if (call_do(k, &m, &c, err) != MFS_OK)
		return MFS_IO;
	if (fd != NULL)
		*fd = c.fd;
	else if (c.fd >= 0)
		(void)close(c.fd);
	if (value != NULL)
		*value = c.reply.value;
	if (c.reply.result != MFS_OK)
		return mfs_fail(err, (enum mfs_code)c.reply.result, "%s", c.reply.text);
	return MFS_OK;
}

enum mfs_code
mfs_klink_ask(struct mfs_klink *k, const struct mfs_kmsg *m, struct mfs_kmsg *reply, struct mfs_err *err)
{
	struct call c = { .fd = -1 };

	if (call_do(k, m, &c, err) != MFS_OK)
		return MFS_IO;
	if (c.fd >= 0)
		(void)close(c.fd);
	*reply = c.reply;
	if (c.reply.result != MFS_OK)
		return mfs_fail(err, (enum mfs_code)c.reply.result, "%s", c.reply.text);
	return MFS_OK;
}

enum mfs_code
mfs_klink_tell(struct mfs_klink *k, const struct mfs_kmsg *m, struct mfs_err *err)
{
	if (mfs_kmsg_send(k->sock, m, -1) != 0)
		return mfs_fail_sys(err, MFS_IO, "link to keeper");
	return MFS_OK;
}

void
mfs_klink_on_job(struct mfs_klink *k, mfs_klink_job_fn *fn, void *user)
{
	(void)pthread_mutex_lock(&k->job_lock);
	k->on_job = fn;
	k->job_user = user;
	(void)pthread_mutex_unlock(&k->job_lock);
}

bool
mfs_klink_gone(struct mfs_klink *k)
{
	bool gone;

	pthread_mutex_lock(&k->lock);
	gone = k->gone;
	pthread_mutex_unlock(&k->lock);
	return gone;
}

const char *
mfs_reload_later_text(int64_t bits, char out[96])
{
	static const char *const keys[] = { "memory_budget", "read_ahead_kb", "xattrs", "exec", "selinux_context" };
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if ((bits & (INT64_C(1) << i)) != 0)
			n += (size_t)snprintf(out + n, 96 - n, "%s%s", n > 0 ? ", " : "", keys[i]);
	return out;
}
