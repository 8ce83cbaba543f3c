/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c - serve's end of /dev/fuse.
 *
 * A request is read straight into a slot of memory that outlives this process. The slot is free
 * again when its reply was written (hdr.len is 0) and the operation that was given pointers into
 * it has returned (local flags). A READ that must wait until a thread may be slow is copied to the
 * parked ones, which outlive this process too, and its slot is free at once: else 256 slow reads
 * would keep every statfs waiting. A successor answers what still stands in either.
 *
 * Lock order: lock alone; never held across a read, a write or an operation.
 */
#include "session_int.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>

#include "log.h"
#include "session_init.h"

#define WAKE_SIGNAL      SIGUSR2      /* makes a thread return from read() */
#define UNIQUE_RESEND    (1ull << 63) /* set by the kernel on a request sent again (Linux 6.9) */
#define NOTIFY_RESEND    7
#define NOTIFY_INC_EPOCH 8
#define ATTEMPTS_MAX     3u           /* serves that died on a request before it gets EIO */

static struct mfs_session *session_global; /* libfuse's hooks get no other pointer to it */
static _Thread_local uint64_t current_unique;
static _Thread_local int current_place = -1; /* of the request that this thread works on */

static bool
opcode_has_no_reply(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT ||
	       opcode == FUSE_NOTIFY_REPLY;
}

/* ---- replies ---------------------------------------------------------------------------------- */

static int
reply_error(int dev, uint64_t unique, int error)
{
	struct fuse_out_header out = { .len = sizeof(out), .error = -error, .unique = unique };

	return write(dev, &out, sizeof(out)) < 0 ? -1 : 0;
}

static ssize_t
conn_writev(int fd, struct iovec *iov, int n, void *user)
{
	struct mfs_session *s = session_global;
	struct fuse_out_header out;
	ssize_t wrote;
	int e;

	(void)user;
	if (s->capturing) {
		size_t len = 0;

		for (int i = 0; i < n; i++) {
			if (len + iov[i].iov_len <= sizeof(s->captured))
				memcpy(s->captured + len, iov[i].iov_base, iov[i].iov_len);
			len += iov[i].iov_len;
		}
		s->captured_len = len;
		return (ssize_t)len;
	}
	memcpy(&out, iov[0].iov_base, sizeof(out));
	do
		wrote = writev(fd, iov, n);
	while (wrote < 0 && errno == EINTR);
	e = errno;
	/*
	 * ENOENT: interrupted, or answered before. ENODEV: unmounted. Anything else and the request
	 * still waits in the kernel: the caller must not hang on it.
	 */
	if (wrote < 0 && e != ENOENT && e != ENODEV && out.unique != 0) {
		mfs_log(MFS_LOG_ERR, "a reply was refused by the kernel: %s", strerror(e));
		(void)reply_error(fd, out.unique, EIO);
	}
	mfs_slot_answered(s, out.unique, current_place);
	errno = e;
	return wrote;
}

static ssize_t
conn_read(int fd, void *buf, size_t len, void *user)
{
	(void)user;
	return read(fd, buf, len); /* libfuse asks for one; this loop reads by itself */
}

/* ---- slow work -------------------------------------------------------------------------------- */

bool
mfs_session_slow_begin(struct mfs_session *s, void (*fn)(void *arg), void *arg)
{
	struct deferred *d;

	pthread_mutex_lock(&s->lock);
	if (s->slow + 1 < s->n_threads || (*s->last = d = malloc(sizeof(*d))) == NULL) {
		s->slow++; /* also without memory to wait with: metadata waits instead */
		pthread_mutex_unlock(&s->lock);
		return true;
	}
	*d = (struct deferred){ .fn = fn, .arg = arg, .place = -1 };
	s->last = &d->next;
	if (current_place >= 0) {
		d->place = (int)mfs_slot_park(s, (unsigned)current_place);
		(void)atomic_fetch_sub(mfs_slot_attempts(s, (unsigned)d->place), 1); /* not begun after all */
	}
	pthread_mutex_unlock(&s->lock);
	return false;
}

void
mfs_session_slow_end(struct mfs_session *s)
{
	pthread_mutex_lock(&s->lock);
	s->slow--;
	if (s->first != NULL)
		pthread_cond_broadcast(&s->cond); /* a thread that waits for a slot may take it */
	pthread_mutex_unlock(&s->lock);
}

int
mfs_session_park(struct mfs_session *s)
{
	int place = current_place;

	if (place < 0)
		return place;
	pthread_mutex_lock(&s->lock);
	place = (int)mfs_slot_park(s, (unsigned)place);
	pthread_mutex_unlock(&s->lock);
	return place;
}

void
mfs_session_answer(struct mfs_session *s, int place, void (*fn)(void *arg), void *arg)
{
	int before = current_place;

	(void)s;
	current_place = place;
	fn(arg);
	current_place = before;
}

/* With the lock: take queued work if one more thread may be slow. */
static struct deferred *
deferred_take(struct mfs_session *s)
{
	struct deferred *d = s->first;

	if (d == NULL || s->slow + 1 >= s->n_threads)
		return NULL;
	s->first = d->next;
	if (s->first == NULL)
		s->last = &s->first;
	s->slow++;
	return d;
}

static void
deferred_run(struct mfs_session *s, struct deferred *d)
{
	if (d->place >= 0)
		(void)atomic_fetch_add(mfs_slot_attempts(s, (unsigned)d->place), 1);
	current_place = d->place;
	d->fn(d->arg);
	current_place = -1;
	free(d);
	mfs_session_slow_end(s);
}

/* ---- requests --------------------------------------------------------------------------------- */

/* Hand slot i to libfuse. True: the slot is free again and this thread's. */
static bool
request_run(struct mfs_session *s, unsigned i, size_t len)
{
	struct fuse_in_header *h = mfs_slot_header(s, i);
	struct fuse_buf buf = { .mem = h, .size = len };
	uint64_t unique = h->unique;
	bool silent = opcode_has_no_reply(h->opcode);

	atomic_store(&s->flags[i], silent ? SLOT_RUNNING : SLOT_RUNNING | SLOT_WAITING);
	atomic_store(&s->unique[i], silent ? 0 : unique);
	(void)atomic_fetch_add(mfs_slot_attempts(s, i), 1);
	current_unique = unique & ~UNIQUE_RESEND;
	current_place = (int)i;
	fuse_session_process_buf(s->fuse, &buf);
	current_place = -1;
	current_unique = 0;
	if (silent)
		mfs_slot_empty(s, i);
	return mfs_slot_flag_clear(s, i, SLOT_RUNNING);
}

/* A slot to read into; -1 when there is other work or the session stops. */
static int
slot_take(struct mfs_session *s)
{
	int i = -1;

	pthread_mutex_lock(&s->lock);
	while (s->n_free == 0 && !s->stopping && !(s->first != NULL && s->slow + 1 < s->n_threads))
		pthread_cond_wait(&s->cond, &s->lock);
	if (s->n_free > 0 && !s->stopping)
		i = (int)s->free_slots[--s->n_free];
	pthread_mutex_unlock(&s->lock);
	return i;
}

static void
session_ended(struct mfs_session *s)
{
	bool first;

	pthread_mutex_lock(&s->lock);
	first = !s->ended;
	s->ended = true;
	s->stopping = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	if (first && s->on_end != NULL)
		s->on_end(s->end_user);
}

/* Read one request into slot i. Its length, 0 for none now, -1 when the connection has ended. */
static ssize_t
request_read(struct mfs_session *s, unsigned i)
{
	ssize_t n;

	mfs_slot_empty(s, i);
	atomic_store(&s->shm->slots[i].attempts, 0);
	n = read(s->dev, s->shm->slots[i].buf, MFS_SLOT_BYTES);
	if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
		if ((mfs_slot_header(s, i)->unique & UNIQUE_RESEND) != 0)
			atomic_fetch_add(&s->shm->taken_over, 1);
		return n;
	}
	mfs_slot_empty(s, i);
	if (n == 0 || (n < 0 && (errno == ENODEV || errno == ECONNABORTED || errno == EBADF)))
		return -1;
	/* ENOENT: the request was interrupted before it was read. EINTR: asked to stop. */
	if (n < 0 && errno != ENOENT && errno != EINTR && errno != EAGAIN)
		mfs_log(MFS_LOG_WARN, "read of a request: %s", strerror(errno));
	return 0;
}

static void
receive_loop(struct mfs_session *s)
{
	int i = -1;

	for (;;) {
		struct deferred *d;
		ssize_t n;

		pthread_mutex_lock(&s->lock);
		d = deferred_take(s);
		pthread_mutex_unlock(&s->lock);
		if (d != NULL) {
			deferred_run(s, d);
			continue;
		}
		if (s->stopping)
			break;
		if (i < 0 && (i = slot_take(s)) < 0)
			continue;
		n = request_read(s, (unsigned)i);
		if (n < 0) {
			session_ended(s);
			break;
		}
		if (n > 0 && !request_run(s, (unsigned)i, (size_t)n))
			i = -1; /* its reply comes from elsewhere, which frees it */
	}
	if (i >= 0)
		mfs_slot_free(s, (unsigned)i);
}

/* ---- taking over ------------------------------------------------------------------------------ */

/* Answer slot i if a predecessor left a request in it. */
static void
slot_replay(struct mfs_session *s, unsigned i)
{
	struct fuse_in_header *h = mfs_slot_header(s, i);
	uint32_t len = __atomic_load_n(&h->len, __ATOMIC_SEQ_CST);

	if (len >= sizeof(*h) && len <= (i >= MFS_SLOTS ? MFS_PARKED_BYTES : MFS_SLOT_BYTES) &&
		!opcode_has_no_reply(h->opcode)) {
		atomic_fetch_add(&s->shm->taken_over, 1);
		if (atomic_load(mfs_slot_attempts(s, i)) >= ATTEMPTS_MAX) {
			mfs_log(MFS_LOG_ERR, "a request (operation %u) that %u processes died on is answered with EIO",
				h->opcode, ATTEMPTS_MAX);
			(void)reply_error(s->dev, h->unique, EIO);
		} else if (!request_run(s, i, len)) {
			return;
		}
	}
	mfs_slot_empty(s, i);
	mfs_slot_free(s, i);
}

static void
resend(struct mfs_session *s)
{
	struct fuse_out_header out = { .len = sizeof(out), .error = NOTIFY_RESEND };

	if (s->shm->kernel_resend != 0 && write(s->dev, &out, sizeof(out)) < 0 && errno != ENODEV)
		mfs_log(MFS_LOG_WARN, "the kernel refused to send requests again: %s", strerror(errno));
}

/*
 * All threads share the slots that a predecessor left. Nobody receives before the last of them is
 * answered and RESEND was written, so that the kernel sends again what the dead one had taken and
 * nothing that this process has.
 */
static void
replay_loop(struct mfs_session *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->replay_over) {
		struct deferred *d = deferred_take(s);

		if (d != NULL) {
			pthread_mutex_unlock(&s->lock);
			deferred_run(s, d);
			pthread_mutex_lock(&s->lock);
		} else if (s->replay_next < MFS_SLOTS + s->parked_before) {
			unsigned i = s->replay_next++;

			s->replay_running++;
			pthread_mutex_unlock(&s->lock);
			slot_replay(s, i);
			pthread_mutex_lock(&s->lock);
			s->replay_running--;
			pthread_cond_broadcast(&s->cond);
		} else if (s->replay_running == 0 && s->first == NULL) {
			resend(s); /* takes no lock that a request could hold */
			s->replay_over = true;
			pthread_cond_broadcast(&s->cond);
		} else {
			pthread_cond_wait(&s->cond, &s->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
}

/* ---- threads ---------------------------------------------------------------------------------- */

static void *
thread_run(void *arg)
{
	struct mfs_session *s = arg;

	replay_loop(s);
	receive_loop(s);
	pthread_mutex_lock(&s->lock);
	s->alive--;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void
wake_handler(int sig)
{
	(void)sig;
}

/* A page that is not there when the kernel copies a request into it may fail the request. */
static void
slots_populate(struct mfs_shm *shm)
{
	if (madvise(shm->slots, sizeof(shm->slots), 23 /* MADV_POPULATE_WRITE, Linux 5.14 */) != 0)
		for (unsigned i = 0; i < MFS_SLOTS; i++)
			for (size_t off = 0; off < MFS_SLOT_BYTES; off += 4096)
				(void)__atomic_fetch_add(shm->slots[i].buf + off, 0, __ATOMIC_RELAXED);
	(void)mlock(shm->slots, sizeof(shm->slots));
}

enum mfs_code
mfs_session_start(struct mfs_session *s, unsigned threads, struct mfs_err *err)
{
	struct sigaction wake = { .sa_handler = wake_handler }; /* without SA_RESTART */

	if (threads < 2)
		threads = 2;
	if (sigaction(WAKE_SIGNAL, &wake, NULL) != 0)
		return mfs_fail_sys(err, MFS_IO, "session: signal");
	slots_populate(s->shm);
	s->threads = calloc(threads, sizeof(*s->threads));
	if (s->threads == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "session: %u threads", threads);
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < threads; i++) {
		int e = pthread_create(&s->threads[i], NULL, thread_run, s);

		if (e == 0) {
			s->n_threads = s->alive = i + 1;
			continue;
		}
		if (i >= 2)
			break; /* fewer will do */
		s->stopping = s->replay_over = true;
		pthread_mutex_unlock(&s->lock);
		errno = e;
		return mfs_fail_sys(err, MFS_IO, "session: thread");
	}
	pthread_mutex_unlock(&s->lock);
	return MFS_OK;
}

void
mfs_session_stop(struct mfs_session *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_broadcast(&s->cond);
	while (s->alive > 0) {
		struct timespec until;

		/* Again and again: a signal that comes just before the read is lost. */
		for (unsigned i = 0; i < s->n_threads; i++)
			(void)pthread_kill(s->threads[i], WAKE_SIGNAL);
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 2000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		(void)pthread_cond_timedwait(&s->cond, &s->lock, &until);
	}
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->n_threads; i++)
		pthread_join(s->threads[i], NULL);
	s->n_threads = 0;
}

/* ---- making one ------------------------------------------------------------------------------- */

static void libfuse_log(enum fuse_log_level level, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void
libfuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[256];

	(void)level;
	if (vsnprintf(line, sizeof(line), fmt, ap) > 0)
		mfs_log(MFS_LOG_WARN, "libfuse: %s", MFS_ESC(line));
}

/* Replay the INIT request and compare what libfuse would have answered with what keeper did. */
static enum mfs_code
init_replay(struct mfs_session *s, struct mfs_err *err)
{
	uint8_t in[sizeof(s->shm->init_in)];
	struct fuse_buf buf = { .mem = in, .size = s->shm->init_in_len };

	if (s->shm->init_in_len > sizeof(in) || s->shm->init_out_len > sizeof(s->shm->init_out))
		return mfs_fail(err, MFS_INTERNAL, "session: the saved INIT is malformed");
	memcpy(in, s->shm->init_in, sizeof(in));
	s->capturing = true;
	fuse_session_process_buf(s->fuse, &buf);
	s->capturing = false;
	return mfs_init_compare(s->captured, s->captured_len, s->shm->init_out, s->shm->init_out_len, err);
}

/* The places that were never used are free; the others are once the replay has looked at them. */
static void
parked_prepare(struct mfs_session *s)
{
	s->parked_before = atomic_load(&s->shm->parked_used);
	if (s->parked_before > MFS_PARKED)
		s->parked_before = MFS_PARKED;
	for (unsigned i = MFS_PARKED; i > s->parked_before; i--) /* the first on top */
		s->free_parked[s->n_parked++] = MFS_SLOTS + i - 1;
}

enum mfs_code
mfs_session_new(int dev, struct mfs_shm *shm, const struct fuse_lowlevel_ops *ops, void *user,
	struct mfs_session **out, struct mfs_err *err)
{
	const struct fuse_custom_io io = { .writev = conn_writev, .read = conn_read };
	struct fuse_lowlevel_ops own = *ops;
	char *argv[] = { (char[]){ "modelfs" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct mfs_session *s;
	pthread_condattr_t attr;

	*out = NULL;
	if (shm->magic != MFS_SHM_MAGIC || shm->layout != MFS_SHM_LAYOUT || shm->total != sizeof(*shm))
		return mfs_fail(err, MFS_INTERNAL, "session: shared memory of another layout");
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "session");
	s->shm = shm;
	s->last = &s->first;
	parked_prepare(s);
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->cond, &attr);
	pthread_condattr_destroy(&attr);
	session_global = s;
	fuse_set_log_func(libfuse_log);
	own.init = mfs_init_choose;
	s->dev = fcntl(dev, F_DUPFD_CLOEXEC, 3); /* libfuse closes its own in the end */
	s->fuse = fuse_session_new(&args, &own, sizeof(own), user);
	fuse_opt_free_args(&args);
	if (s->dev < 0 || s->fuse == NULL || fuse_session_custom_io(s->fuse, &io, s->dev) != 0) {
		if (s->dev >= 0)
			(void)close(s->dev);
		(void)mfs_fail(err, MFS_NO_MEMORY, "session: libfuse");
		goto fail;
	}
	if (init_replay(s, err) != MFS_OK)
		goto fail;
	*out = s;
	return MFS_OK;
fail:
	if (s->fuse != NULL)
		fuse_session_destroy(s->fuse);
	session_global = NULL;
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return err != NULL ? err->code : MFS_INTERNAL;
}

void
mfs_session_on_end(struct mfs_session *s, void (*fn)(void *user), void *user)
{
	s->on_end = fn;
	s->end_user = user;
}

void
mfs_session_free(struct mfs_session *s)
{
	if (s == NULL)
		return;
	mfs_session_stop(s);
	fuse_session_destroy(s->fuse);
	session_global = NULL;
	while (s->first != NULL) {
		struct deferred *d = s->first;

		s->first = d->next;
		free(d);
	}
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s->threads);
	free(s);
}

uint64_t
mfs_session_current_unique(void)
{
	return current_unique;
}

void
mfs_session_epoch(struct mfs_session *s)
{
	static _Atomic bool unknown;
	struct fuse_out_header out = { .len = sizeof(out), .error = NOTIFY_INC_EPOCH };

	if (s == NULL || unknown)
		return;
	if (write(s->dev, &out, sizeof(out)) < 0 && errno == EINVAL)
		unknown = true;
}
