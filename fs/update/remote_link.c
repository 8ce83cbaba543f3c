/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote_link.c - the connection to fetch: started when needed, read by a thread of its own, ended
 * when idle, dropped at the first frame that cannot be. One lock, never held while a fetch is
 * started or a pipe is read.
 */
#include "remote_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"

#define TICK_MS      200
#define PAUSE_MAX_MS 60000
#define PAUSE_WAIT   2000  /* a pause no longer than this is waited for */
#define START_MS     150   /* between two starts: keeper refuses more than one in 100 ms */
#define REFUSED_MAX  10u
#define GHOST_MS     30000 /* a cancelled request is answered within it */
#define SLOW_BYTES   500u  /* a second, half of what fetch demands of a server; and twice its time */
#define SLOW_MS      60000

/* ---- the reading thread ----------------------------------------------------------------------- */

/* Under the lock. An id that nobody waits for: false if it was never ours, or is done already. */
static bool
ghost_meet(struct mfs_remote *r, uint64_t id, bool done)
{
	for (size_t i = 0; i < REMOTE_GHOSTS; i++)
		if (r->ghosts[i] == id) {
			if (done) {
				r->ghosts[i] = 0;
				r->ghost_since = mfs_clock_mono_ms(); /* it ends them: the next one has its own time */
			}
			return true;
		}
	return false;
}

static bool
ghosts_left(const struct mfs_remote *r)
{
	for (size_t i = 0; i < REMOTE_GHOSTS; i++)
		if (r->ghosts[i] != 0)
			return true;
	return false;
}

/* Under the lock. NULL: taken; else why it cannot be. */
static const char *
frame_deliver(struct mfs_remote *r, const union mfs_wire *m)
{
	struct mfs_pending *p = r->list;

	if (m->head.type == MFS_W_HELLO) {
		if (r->hello)
			return "a second HELLO";
		r->hello = true;
		/* Once, not at each start: status goes on saying it. */
		if (atomic_exchange(&r->weakened, (int)m->hello.weakened) != (int)m->hello.weakened && m->hello.weakened != 0)
			mfs_log(MFS_LOG_WARN, "fetch runs with a weaker sandbox:%s%s%s%s", (m->hello.weakened & MFS_WIRE_NO_UID) != 0 ? " no uid of its own" : "",
				(m->hello.weakened & MFS_WIRE_NO_LANDLOCK) != 0 ? " no Landlock" : "", (m->hello.weakened & MFS_WIRE_NO_SECCOMP) != 0 ? " no seccomp" : "",
				(m->hello.weakened & MFS_WIRE_NO_NEW_PRIVS) != 0 ? " no no_new_privs" : "");
		return NULL;
	}
	if (!r->hello)
		return "no HELLO";
	if (m->head.type == MFS_W_PONG) {
		if (r->pinged == 0 || m->head.id != r->ping_id)
			return "a PONG without a PING";
		r->pinged = 0;
		return NULL;
	}
	while (p != NULL && p->id != m->head.id)
		p = p->next;
	if (p == NULL)
		return ghost_meet(r, m->head.id, m->head.type != MFS_W_HEADERS) ? NULL : "an answer to no request";
	if (p->done || p->facts)
		return "a second answer";
	switch (m->head.type) {
	case MFS_W_HEADERS:
		if (p->headers || p->post || p->conditions)
			return "headers that nobody asked for";
		p->h = m->headers;
		p->headers = true;
		return NULL;
	case MFS_W_DONE:
		if (p->conditions || (m->done.code == MFS_OK && !p->headers && !p->post))
			return "an end without a beginning";
		p->d = m->done;
		p->done = true;
		return NULL;
	default:
		if (!p->conditions)
			return "conditions that nobody asked for";
		p->f = m->facts;
		p->facts = true;
		return NULL;
	}
}

/* Under the lock. NULL, or why the connection ends; *quiet: in order. */
static const char *
clock_tick(struct mfs_remote *r, int64_t now, bool *quiet)
{
	union mfs_wire ping = { 0 };

	*quiet = r->ending;
	if (r->ending)
		return "the end";
	if (r->drop)
		return r->why;
	if (r->waiting == 0 && !ghosts_left(r) && now - r->idle_since >= (int64_t)r->timing.idle_ms && !r->adopted) {
		*quiet = true;
		return "idle";
	}
	if (r->pinged != 0 && now - r->pinged >= (int64_t)r->timing.silent_ms)
		return "it does not answer";
	if (ghosts_left(r) && now - r->ghost_since >= GHOST_MS)
		return "it does not end a cancelled request";
	if (r->pinged == 0 && (r->waiting > 0 || !r->hello) && now - r->ponged >= (int64_t)r->timing.ping_ms) {
		r->ping_id = ++r->next_id;
		r->pinged = r->ponged = now;
		if (mfs_wire_send(r->sock, &ping, MFS_W_PING, r->ping_id, -1) != 0 && errno != EPIPE)
			return "it does not read";
	}
	return NULL;
}

/* Under the lock: all that wait are told, and the next start is set. */
static void
link_end(struct mfs_remote *r, int sock, const char *why, bool quiet)
{
	const int64_t now = mfs_clock_mono_ms();
	int64_t pause = 0;

	r->sock = -1;
	(void)close(sock);
	for (struct mfs_pending *p = r->list; p != NULL; p = p->next)
		p->lost = true;
	if (why != r->why)
		(void)snprintf(r->why, sizeof(r->why), "%s", why);
	r->not_before = now + START_MS;
	if (!quiet) {
		r->drops++;
		for (unsigned i = 1; i <= r->failures && pause < PAUSE_MAX_MS; i++)
			pause = i == 1 ? (int64_t)r->timing.pause_ms : pause * 2;
		r->failures++;
		if (pause > START_MS)
			r->not_before = now + (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
		mfs_log(MFS_LOG_WARN, "fetch was dropped: %s", r->why);
	}
}

static void *
link_run(void *arg)
{
	struct mfs_remote *r = arg;
	const char *why = NULL;
	bool quiet = false;
	int sock;

	pthread_mutex_lock(&r->lock);
	sock = r->sock;
	while (why == NULL) {
		struct mfs_err err = MFS_ERR_INIT;
		struct pollfd p = { .fd = sock, .events = POLLIN };
		union mfs_wire m;
		int fd = -1, got = 0, ready;

		pthread_mutex_unlock(&r->lock);
		ready = poll(&p, 1, TICK_MS);
		if (ready > 0)
			got = mfs_wire_recv(sock, true, &m, &fd, &err);
		mfs_cleanup_close(&fd);
		pthread_mutex_lock(&r->lock);
		if (r->ending || r->drop) {
			why = clock_tick(r, mfs_clock_mono_ms(), &quiet);
		} else if (ready > 0 && got == 0) {
			why = r->hello ? "it died" : "it could not start";
		} else if (ready > 0 && got < 0 && errno != EAGAIN) {
			(void)snprintf(r->why, sizeof(r->why), "%s", errno == EPROTO ? err.msg : "it died");
			why = r->why;
		} else if (ready > 0 && got > 0) {
			why = frame_deliver(r, &m);
			pthread_cond_broadcast(&r->cond);
		}
		if (why == NULL)
			why = clock_tick(r, mfs_clock_mono_ms(), &quiet);
	}
	link_end(r, sock, why, quiet);
	r->threads--;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- start ------------------------------------------------------------------------------------ */

/* Under the lock. The socket becomes the connection. */
static enum mfs_code
link_use(struct mfs_remote *r, int sock, struct mfs_err *err)
{
	pthread_attr_t attr;
	pthread_t thread;
	int e;

	(void)fcntl(sock, F_SETFL, O_NONBLOCK);
	(void)fcntl(sock, F_SETFD, FD_CLOEXEC);
	r->sock = sock;
	r->hello = r->drop = false;
	memset(r->ghosts, 0, sizeof(r->ghosts));
	r->pinged = 0;
	r->ponged = r->idle_since = mfs_clock_mono_ms();
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	r->threads++;
	e = pthread_create(&thread, &attr, link_run, r);
	pthread_attr_destroy(&attr);
	if (e != 0) {
		r->threads--;
		r->sock = -1;
		(void)close(sock);
		errno = e;
		return mfs_fail_sys(err, MFS_IO, "fetch: thread");
	}
	r->starts++;
	return MFS_OK;
}

/* A moment under the lock; the clock of the condition is the monotonic one. */
static void
moment(struct mfs_remote *r, unsigned ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	(void)pthread_cond_timedwait(&r->cond, &r->lock, &until);
}

/* Under the lock. */
static enum mfs_code
link_lost(const struct mfs_remote *r, struct mfs_err *err)
{
	return mfs_fail(err, MFS_NET_PROTOCOL, "the fetch process was dropped: %s", r->why);
}

enum mfs_code
mfs_remote_lost(struct mfs_remote *r, struct mfs_err *err)
{
	enum mfs_code code;

	pthread_mutex_lock(&r->lock);
	code = link_lost(r, err);
	pthread_mutex_unlock(&r->lock);
	return code;
}

/* Under the lock: there is a connection, or why not. */
static enum mfs_code
link_need(struct mfs_remote *r, const _Atomic int *cancel, struct mfs_err *err)
{
	unsigned refused = 0;

	while (r->sock < 0 || r->starting || r->drop) {
		int64_t left = r->not_before - mfs_clock_mono_ms();
		enum mfs_code code;
		int sock = -1;

		if (r->ending || (cancel != NULL && *cancel != 0))
			return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
		if (r->starting || r->sock >= 0) {
			moment(r, TICK_MS);
			continue;
		}
		if (r->adopted)
			return link_lost(r, err);
		if (left > PAUSE_WAIT)
			return mfs_fail(err, MFS_NET_PROTOCOL, "the fetch process failed %u times (%s); next start in %lld s",
				r->failures, r->why, (long long)(left + 999) / 1000);
		if (left > 0) {
			moment(r, left < TICK_MS ? (unsigned)left : TICK_MS);
			continue;
		}
		r->starting = true;
		pthread_mutex_unlock(&r->lock);
		code = r->start(r->user, &sock, err);
		pthread_mutex_lock(&r->lock);
		r->starting = false;
		if (code == MFS_OK)
			code = link_use(r, sock, err);
		pthread_cond_broadcast(&r->cond);
		if (code == MFS_CONDITION_UNMET && ++refused < REFUSED_MAX) { /* keeper started one a moment ago, for a serve before */
			r->not_before = mfs_clock_mono_ms() + START_MS;
			continue;
		}
		if (code == MFS_CONDITION_UNMET) /* to the caller that means that it cancelled */
			code = mfs_fail(err, MFS_NET_PROTOCOL, "keeper starts no fetch");
		if (code != MFS_OK) {
			r->failures++;
			r->not_before = mfs_clock_mono_ms() + r->timing.pause_ms;
			(void)snprintf(r->why, sizeof(r->why), "it could not be started");
			return code;
		}
	}
	return MFS_OK;
}

/* ---- requests --------------------------------------------------------------------------------- */

enum mfs_code
mfs_remote_begin(struct mfs_remote *r, struct mfs_pending *p, union mfs_wire *m, enum mfs_wire_type type, int fd,
	const _Atomic int *cancel, struct mfs_err *err)
{
	enum mfs_code code = MFS_OK;

	pthread_mutex_lock(&r->lock);
	while (r->waiting >= MFS_WIRE_REQUESTS && !r->ending && (cancel == NULL || *cancel == 0))
		moment(r, TICK_MS);
	if (r->waiting >= MFS_WIRE_REQUESTS || (cancel != NULL && *cancel != 0)) { /* one more than that ends fetch */
		pthread_mutex_unlock(&r->lock);
		return mfs_fail(err, MFS_CONDITION_UNMET, "cancelled");
	}
	r->waiting++;
	code = link_need(r, cancel, err);
	if (code == MFS_OK) {
		p->id = ++r->next_id;
		p->next = r->list;
		r->list = p;
		if (r->waiting == 1) /* it was idle: pings start from here */
			r->ponged = mfs_clock_mono_ms();
		if (mfs_wire_send(r->sock, m, type, p->id, fd) != 0) {
			(void)snprintf(r->why, sizeof(r->why), "%s", errno == EAGAIN ? "it does not read" : "it died");
			r->drop = true;
			r->list = p->next;
			code = link_lost(r, err);
		}
	}
	if (code != MFS_OK) {
		r->waiting--;
		r->idle_since = mfs_clock_mono_ms();
		pthread_cond_broadcast(&r->cond);
	}
	pthread_mutex_unlock(&r->lock);
	return code;
}

/* Under the lock. */
static void
ghost_make(struct mfs_remote *r, uint64_t id)
{
	union mfs_wire cancel = { 0 };
	size_t i = 0;

	if (!ghosts_left(r))
		r->ghost_since = mfs_clock_mono_ms();
	while (i < REMOTE_GHOSTS && r->ghosts[i] != 0)
		i++;
	if (i == REMOTE_GHOSTS || mfs_wire_send(r->sock, &cancel, MFS_W_CANCEL, id, -1) != 0) {
		(void)snprintf(r->why, sizeof(r->why), "it does not end what is cancelled");
		r->drop = true;
		return;
	}
	r->ghosts[i] = id;
}

void
mfs_remote_end(struct mfs_remote *r, struct mfs_pending *p, bool success)
{
	pthread_mutex_lock(&r->lock);
	for (struct mfs_pending **at = &r->list; *at != NULL; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	if (!p->done && !p->facts && !p->lost && r->sock >= 0 && !r->drop)
		ghost_make(r, p->id);
	if (success)
		r->failures = 0;
	r->waiting--;
	r->idle_since = mfs_clock_mono_ms();
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

void
mfs_remote_drop(struct mfs_remote *r, const struct mfs_pending *p, const char *why)
{
	pthread_mutex_lock(&r->lock);
	/* What a fetch left in its pipe that is gone already says nothing of the one that is there now. */
	if (r->sock >= 0 && !r->drop && !p->lost) {
		(void)snprintf(r->why, sizeof(r->why), "%s", why);
		r->drop = true;
		(void)shutdown(r->sock, SHUT_RD); /* wakes the reading thread */
	}
	pthread_mutex_unlock(&r->lock);
}

void
mfs_remote_wait(struct mfs_remote *r, const struct mfs_pending *p, unsigned ms, struct mfs_pending *now)
{
	pthread_mutex_lock(&r->lock);
	if (ms > 0)
		moment(r, ms);
	*now = *p;
	pthread_mutex_unlock(&r->lock);
}

/* ---- life ------------------------------------------------------------------------------------- */

static struct mfs_remote *
remote_alloc(void)
{
	struct mfs_remote *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;

	if (r == NULL)
		return NULL;
	r->sock = -1;
	atomic_init(&r->weakened, -1);
	r->timing = (struct mfs_remote_timing){ .ping_ms = 5000, .silent_ms = 15000, .stall_ms = 180000, .idle_ms = 30000,
		.pause_ms = 250, .slow_bytes = SLOW_BYTES, .slow_ms = SLOW_MS };
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->cond, &attr);
	pthread_condattr_destroy(&attr);
	return r;
}

enum mfs_code
mfs_remote_new(enum mfs_code (*start)(void *user, int *sock, struct mfs_err *err), void *user, struct mfs_remote **out,
	struct mfs_err *err)
{
	*out = remote_alloc();
	if (*out == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "fetch");
	(*out)->start = start;
	(*out)->user = user;
	return MFS_OK;
}

enum mfs_code
mfs_remote_adopt(int sock, struct mfs_remote **out, struct mfs_err *err)
{
	struct mfs_remote *r = remote_alloc();
	enum mfs_code code;

	*out = NULL;
	if (r == NULL) {
		(void)close(sock);
		return mfs_fail(err, MFS_NO_MEMORY, "fetch");
	}
	r->adopted = true;
	pthread_mutex_lock(&r->lock);
	code = link_use(r, sock, err);
	pthread_mutex_unlock(&r->lock);
	if (code != MFS_OK) {
		mfs_remote_free(r);
		return code;
	}
	*out = r;
	return MFS_OK;
}

void
mfs_remote_free(struct mfs_remote *r)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	r->ending = true;
	if (r->sock >= 0)
		(void)shutdown(r->sock, SHUT_RD);
	pthread_cond_broadcast(&r->cond);
	while (r->threads > 0 || r->waiting > 0)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void
mfs_remote_timing_set(struct mfs_remote *r, const struct mfs_remote_timing *t)
{
	r->timing = *t;
}

void
mfs_remote_bandwidth(struct mfs_remote *r, uint64_t bytes_per_s)
{
	/* Requests that share it may each be given as little as their part, and less for a while. */
	const uint64_t part = bytes_per_s / MFS_WIRE_REQUESTS / 2;

	if (bytes_per_s > 0 && part < r->timing.slow_bytes)
		r->timing.slow_bytes = (unsigned)part;
}

bool
mfs_remote_weakened(const struct mfs_remote *r, unsigned *bits)
{
	const int said = atomic_load(&r->weakened);

	*bits = said >= 0 ? (unsigned)said : 0;
	return said >= 0;
}

void
mfs_remote_counts(struct mfs_remote *r, uint64_t *starts, uint64_t *drops)
{
	pthread_mutex_lock(&r->lock);
	*starts = r->starts;
	*drops = r->drops;
	pthread_mutex_unlock(&r->lock);
}

enum mfs_code
mfs_remote_start_klink(void *klink, int *sock, struct mfs_err *err)
{
	if (mfs_klink_call(klink, MFS_K_FETCH, 0, 0, sock, NULL, err) != MFS_OK)
		return err != NULL ? err->code : MFS_IO;
	if (*sock < 0)
		return mfs_fail(err, MFS_INTERNAL, "keeper gave no socket of fetch");
	return MFS_OK;
}
