/* SPDX-License-Identifier: Apache-2.0 */
/* Events: a ring in memory, an append-only file beside it. See events.h and modelfs(8), EVENTS. */
#include "events.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io.h"
#include "log.h"

#define EVENTS_NAME      "events.jsonl"
#define EVENTS_OLD       "events.1.jsonl"
#define EVENTS_FILE_MAX  (1u << 20)  /* bytes; then the file is rotated once */
#define EVENTS_RING      1024u       /* lines kept in memory */
#define EVENTS_LINE_MAX  32768u      /* bytes of one line; longer ones in a file are damage */
#define EVENTS_TOTALS    1024u       /* rows of the table of totals */

struct event_line {
	char *text; /* with its newline */
	char model[MFS_ID_MAX + 1];
};

struct event_total {
	char model[MFS_ID_MAX + 1];
	char source[32];
	enum mfs_code code;
	uint64_t n;
};

struct mfs_events {
	pthread_mutex_t disk_lock; /* one writer; taken before lock: who reads never waits for a disk */
	pthread_mutex_t lock; /* ring, seq, totals */
	pthread_cond_t added;
	int dirfd, fd;
	bool read_only;
	bool half;        /* the file ends within a line */
	uint64_t size;    /* bytes of the file */
	uint64_t seq;     /* of the newest event */
	uint64_t dropped; /* events that could not be written */
	char boot[40];
	struct event_line ring[EVENTS_RING];
	size_t first, n;
	struct event_total *totals;
	size_t n_totals;
};

static void
ring_add(struct mfs_events *e, char *text, const char *model)
{
	struct event_line *l;

	if (e->n == EVENTS_RING) {
		free(e->ring[e->first].text);
		e->ring[e->first].text = NULL;
		e->first = (e->first + 1) % EVENTS_RING;
		e->n--;
	}
	l = &e->ring[(e->first + e->n++) % EVENTS_RING];
	l->text = text;
	(void)snprintf(l->model, sizeof(l->model), "%s", model != NULL ? model : "");
}

/* Take one line of the file into the ring; damaged lines (a torn write) are passed over. */
static void
line_load(struct mfs_events *e, const char *line, size_t len)
{
	json_t *o;
	json_int_t seq;
	char *text;

	if (len == 0 || len >= EVENTS_LINE_MAX || (o = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL)) == NULL)
		return;
	seq = json_integer_value(json_object_get(o, "seq"));
	if (seq > 0 && (text = malloc(len + 2)) != NULL) {
		memcpy(text, line, len);
		text[len] = '\n';
		text[len + 1] = '\0';
		ring_add(e, text, json_string_value(json_object_get(o, "model")));
		if ((uint64_t)seq > e->seq)
			e->seq = (uint64_t)seq;
	}
	json_decref(o);
}

static void
file_load(struct mfs_events *e, const char *name, bool *ends_open)
{
	mfs_autofree uint8_t *buf = NULL;
	mfs_autoclose int fd = mfs_open_beneath(e->dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	size_t len, at = 0;

	*ends_open = false;
	if (fd < 0 || mfs_fd_read(fd, name, 2 * EVENTS_FILE_MAX, &buf, &len, NULL) != MFS_OK)
		return;
	while (at < len) {
		const uint8_t *nl = memchr(buf + at, '\n', len - at);
		size_t n = nl != NULL ? (size_t)(nl - (buf + at)) : len - at;

		line_load(e, (const char *)buf + at, n);
		*ends_open = nl == NULL;
		at += n + 1;
	}
}

static void
file_open(struct mfs_events *e, bool ends_open)
{
	struct stat st;

	e->fd = mfs_open_beneath(e->dirfd, EVENTS_NAME, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0640);
	if (e->fd >= 0 && (fstat(e->fd, &st) != 0 || !S_ISREG(st.st_mode))) {
		(void)close(e->fd);
		e->fd = -1;
	}
	e->size = e->fd >= 0 ? (uint64_t)st.st_size : 0;
	/* A line that a power cut left open must not swallow the next one. */
	if (e->fd >= 0 && ends_open && mfs_write_full(e->fd, "\n", 1) == 0)
		e->size++;
}

static pthread_once_t boot_once = PTHREAD_ONCE_INIT;
static char boot_id[40]; /* written once */

static void
boot_load(void)
{
	/* A file of /proc has size 0: read it as a stream. */
	mfs_autofclose FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	boot_id[f != NULL ? fread(boot_id, 1, 36, f) : 0] = '\0';
}

void
mfs_events_boot(void)
{
	(void)pthread_once(&boot_once, boot_load);
}

enum mfs_code
mfs_events_open(int state_dirfd, bool read_only, struct mfs_events **out, struct mfs_err *err)
{
	struct mfs_events *e = calloc(1, sizeof(*e));
	pthread_condattr_t attr;
	bool ends_open;

	*out = NULL;
	if (e == NULL || (e->totals = calloc(EVENTS_TOTALS, sizeof(*e->totals))) == NULL) {
		free(e);
		return mfs_fail(err, MFS_NO_MEMORY, "events");
	}
	e->fd = -1;
	e->read_only = read_only;
	if ((e->dirfd = fcntl(state_dirfd, F_DUPFD_CLOEXEC, 3)) < 0) {
		free(e->totals);
		free(e);
		return mfs_fail_sys(err, MFS_IO, "events: the state folder");
	}
	(void)pthread_mutex_init(&e->disk_lock, NULL);
	(void)pthread_mutex_init(&e->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&e->added, &attr);
	(void)pthread_condattr_destroy(&attr);
	mfs_events_boot();
	(void)snprintf(e->boot, sizeof(e->boot), "%s", boot_id);
	file_load(e, EVENTS_OLD, &ends_open);
	file_load(e, EVENTS_NAME, &ends_open);
	if (!read_only)
		file_open(e, ends_open);
	*out = e;
	return MFS_OK;
}

void
mfs_events_close(struct mfs_events *e)
{
	if (e == NULL)
		return;
	for (size_t i = 0; i < EVENTS_RING; i++)
		free(e->ring[i].text);
	if (e->fd >= 0)
		(void)close(e->fd);
	(void)close(e->dirfd);
	(void)pthread_cond_destroy(&e->added);
	(void)pthread_mutex_destroy(&e->lock);
	(void)pthread_mutex_destroy(&e->disk_lock);
	free(e->totals);
	free(e);
}

/* Text that is not valid UTF-8 is escaped, never dropped. */
static json_t *
text_json(const char *s)
{
	char escaped[1024];
	json_t *v;

	if (s == NULL)
		return json_null();
	if ((v = json_stringn(s, strnlen(s, 900))) == NULL)
		v = json_string(mfs_escape(escaped, sizeof(escaped), s, strlen(s)));
	return v;
}

static char *
line_make(const struct mfs_events *e, const struct mfs_event *ev, uint64_t seq)
{
	char stamp[32] = "";
	time_t now = (time_t)mfs_clock_wall();
	json_t *o = json_object();
	char *text = NULL, *line = NULL;
	struct tm tm;
	int bad = 0;

	if (gmtime_r(&now, &tm) != NULL)
		(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
	bad |= json_object_set_new(o, "seq", json_integer((json_int_t)seq));
	bad |= json_object_set_new(o, "time", json_string(stamp));
	bad |= json_object_set_new(o, "boot", json_string(e->boot));
	bad |= json_object_set_new(o, "model", text_json(ev->model));
	bad |= json_object_set_new(o, "version", text_json(ev->version));
	bad |= json_object_set_new(o, "from", text_json(ev->from));
	bad |= json_object_set_new(o, "to", text_json(ev->to));
	bad |= json_object_set_new(o, "code", json_integer((json_int_t)ev->code));
	bad |= json_object_set_new(o, "outcome", json_string(mfs_code_name(ev->code)));
	bad |= json_object_set_new(o, "class", json_string(mfs_class_name(mfs_code_class(ev->code))));
	bad |= json_object_set_new(o, "source", text_json(ev->source));
	bad |= json_object_set_new(o, "detail", text_json(ev->detail));
	bad |= json_object_set_new(o, "cycle", json_null());
	if (bad == 0 && (text = json_dumps(o, JSON_COMPACT)) != NULL && (line = malloc(strlen(text) + 2)) != NULL) {
		size_t n = strlen(text);

		memcpy(line, text, n);
		line[n] = '\n';
		line[n + 1] = '\0';
	}
	free(text);
	json_decref(o);
	return line;
}

static void
total_add(struct mfs_events *e, const struct mfs_event *ev)
{
	const char *model = ev->model != NULL ? ev->model : "", *source = ev->source != NULL ? ev->source : "";
	struct event_total *t;

	for (size_t i = 0; i < e->n_totals; i++) {
		t = &e->totals[i];
		if (t->code == ev->code && strcmp(t->model, model) == 0 &&
			strncmp(t->source, source, sizeof(t->source) - 1) == 0) {
			t->n++;
			return;
		}
	}
	if (e->n_totals == EVENTS_TOTALS)
		return;
	t = &e->totals[e->n_totals++];
	(void)snprintf(t->model, sizeof(t->model), "%s", model);
	(void)snprintf(t->source, sizeof(t->source), "%s", source);
	t->code = ev->code;
	t->n = 1;
}

static void
line_store(struct mfs_events *e, const char *line)
{
	size_t len = strlen(line);

	if (e->read_only)
		return;
	if (e->fd >= 0 && e->size + len > EVENTS_FILE_MAX) {
		(void)close(e->fd);
		e->fd = -1;
		if (renameat(e->dirfd, EVENTS_NAME, e->dirfd, EVENTS_OLD) != 0)
			e->dropped++;
		file_open(e, false);
	}
	if (e->fd < 0) {
		file_open(e, e->half);
		e->half = e->half && e->fd < 0;
	}
	if (e->fd < 0 || e->size + len > 2 * EVENTS_FILE_MAX) {
		e->dropped++;
	} else if (mfs_write_full(e->fd, line, len) != 0) {
		e->dropped++;
		if (ftruncate(e->fd, (off_t)e->size) != 0) { /* half a line would swallow the next one */
			(void)close(e->fd);
			e->fd = -1;
			e->half = true;
		}
	} else {
		e->size += len;
	}
}

static void
event_log(const struct mfs_event *ev)
{
	struct mfs_err err = { .code = ev->code };
	char what[2 * MFS_ID_MAX];

	(void)snprintf(what, sizeof(what), "%s%s%s", ev->model != NULL ? ev->model : "",
		ev->model != NULL && ev->source != NULL ? ": " : "", ev->source != NULL ? ev->source : "");
	(void)snprintf(err.msg, sizeof(err.msg), "%s%s%s%s%s", ev->from != NULL ? ev->from : "",
		ev->to != NULL ? " -> " : "", ev->to != NULL ? ev->to : "",
		(ev->from != NULL || ev->to != NULL) && ev->detail != NULL ? ": " : "",
		ev->detail != NULL ? ev->detail : "");
	mfs_log_err(what, &err);
}

void
mfs_event(struct mfs_events *e, const struct mfs_event *ev)
{
	char *line;

	event_log(ev);
	if (e == NULL)
		return;
	(void)pthread_mutex_lock(&e->disk_lock);
	if ((line = line_make(e, ev, e->seq + 1)) == NULL)
		e->dropped++;
	else
		line_store(e, line);
	(void)pthread_mutex_lock(&e->lock);
	total_add(e, ev);
	if (line != NULL) {
		e->seq++;
		ring_add(e, line, ev->model);
		(void)pthread_cond_broadcast(&e->added);
	}
	(void)pthread_mutex_unlock(&e->lock);
	(void)pthread_mutex_unlock(&e->disk_lock);
}

enum mfs_code
mfs_events_render(struct mfs_events *e, const char *model, size_t cap, char **out, size_t *len, struct mfs_err *err)
{
	size_t total = 0, from;
	char *text;

	*out = NULL;
	*len = 0;
	(void)pthread_mutex_lock(&e->lock);
	/* Backwards until the cap is reached, so that the newest lines are the ones kept. */
	for (from = e->n; from > 0; from--) {
		const struct event_line *l = &e->ring[(e->first + from - 1) % EVENTS_RING];
		size_t n = model == NULL || strcmp(l->model, model) == 0 ? strlen(l->text) : 0;

		if (total + n > cap)
			break;
		total += n;
	}
	if ((text = malloc(total + 1)) == NULL) {
		(void)pthread_mutex_unlock(&e->lock);
		return mfs_fail(err, MFS_NO_MEMORY, "events: %zu bytes", total);
	}
	for (size_t i = from; i < e->n; i++) {
		const struct event_line *l = &e->ring[(e->first + i) % EVENTS_RING];

		if (model == NULL || strcmp(l->model, model) == 0) {
			memcpy(text + *len, l->text, strlen(l->text));
			*len += strlen(l->text);
		}
	}
	text[*len] = '\0';
	(void)pthread_mutex_unlock(&e->lock);
	*out = text;
	return MFS_OK;
}

uint64_t
mfs_events_wait(struct mfs_events *e, uint64_t after, int timeout_ms)
{
	struct timespec until;
	uint64_t seq;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	(void)pthread_mutex_lock(&e->lock);
	while (e->seq <= after)
		if (pthread_cond_timedwait(&e->added, &e->lock, &until) != 0)
			break;
	seq = e->seq;
	(void)pthread_mutex_unlock(&e->lock);
	return seq;
}

void
mfs_events_totals(struct mfs_events *e,
	void (*fn)(void *user, const char *model, enum mfs_code code, const char *source, uint64_t n), void *user)
{
	mfs_autofree struct event_total *copy = calloc(EVENTS_TOTALS, sizeof(*copy));
	size_t n = 0;

	(void)pthread_mutex_lock(&e->lock);
	if (copy != NULL) {
		n = e->n_totals;
		memcpy(copy, e->totals, n * sizeof(*copy));
	}
	(void)pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < n; i++)
		fn(user, copy[i].model, copy[i].code, copy[i].source, copy[i].n);
}
