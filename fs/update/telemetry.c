/* SPDX-License-Identifier: Apache-2.0 */
/* telemetry.c - a bounded queue, its copy on disk, and who empties it. */
#include "telemetry.h"

#include <inttypes.h>
#include <jansson.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"

#define NAME       "telemetry"
#define FAILING    "failing" /* a line of its own: since when */
#define FILE_MAX   (64u << 10)
#define HOUR       3600
#define WINDOW_MS  15000               /* transitions of one update go together */
#define RETRY_MS   60000               /* after the first failure; doubles */
#define RETRY_MAX  (6ll * 3600 * 1000)
#define POST_MS    30000u
#define VERSION_MAX 64u

struct record {
	int64_t hour; /* seconds since the epoch, a multiple of HOUR */
	enum mfs_transition what;
	enum mfs_code code;
	char version[VERSION_MAX + 1];
};

struct mfs_telemetry {
	int dirfd;
	unsigned sample; /* of a million */
	char *device_class;
	struct mfs_remote *remote;
	pthread_t thread;
	bool started;
	_Atomic int stop;

	pthread_mutex_t lock; /* below */
	pthread_cond_t cond;
	struct record q[MFS_TELEMETRY_MAX]; /* oldest first */
	size_t n;
	bool unsaved;
	uint64_t shifted; /* records that left the front since ever */
	struct mfs_telemetry_counts counts; /* but for queued: that is n */

	int64_t due_ms; /* of the thread alone: when to send; 0 nothing is waiting */
	unsigned failures;
};

const char *
mfs_transition_name(enum mfs_transition t)
{
	static const char *const names[MFS_TRANSITIONS] = { "downloaded", "checked", "activated", "rolled_back", "withdrawn",
		"rejected" };

	return (unsigned)t < MFS_TRANSITIONS ? names[t] : "unknown";
}

/* ---- the queue ------------------------------------------------------------------------------------------ */

/* Under the lock. */
static void
front_remove(struct mfs_telemetry *t, size_t n)
{
	memmove(t->q, t->q + n, (t->n - n) * sizeof(t->q[0]));
	t->n -= n;
	t->shifted += n;
	t->unsaved = true;
}

/* A version is SemVer: anything else is not passed on. */
static bool
version_ok(const char *s)
{
	return strlen(s) <= VERSION_MAX &&
		strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-+") == strlen(s);
}

static bool
sampled(const struct mfs_telemetry *t)
{
	uint32_t x;

	if (t->sample >= 1000000)
		return true;
	if (RAND_bytes((unsigned char *)&x, (int)sizeof(x)) != 1)
		return false;
	return (uint64_t)x * 1000000 >> 32 < t->sample;
}

void
mfs_telemetry_note(struct mfs_telemetry *t, enum mfs_transition what, const char *version, enum mfs_code code, int64_t now)
{
	struct record r = { .hour = now / HOUR * HOUR, .what = what, .code = code };

	if (t == NULL || !sampled(t))
		return;
	if (version != NULL && version_ok(version))
		(void)snprintf(r.version, sizeof(r.version), "%s", version);
	pthread_mutex_lock(&t->lock);
	if (t->n == MFS_TELEMETRY_MAX) {
		front_remove(t, 1);
		t->counts.dropped++;
	}
	t->q[t->n++] = r;
	t->unsaved = true;
	pthread_cond_signal(&t->cond);
	pthread_mutex_unlock(&t->lock);
}

void
mfs_telemetry_counts(struct mfs_telemetry *t, struct mfs_telemetry_counts *out)
{
	*out = (struct mfs_telemetry_counts){ 0 };
	if (t == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	*out = t->counts;
	out->queued = t->n;
	pthread_mutex_unlock(&t->lock);
}

/* ---- on disk: a line per record, "HOUR TRANSITION CODE VERSION" ------------------------------------------- */

static bool
line_parse(char *line, struct record *r)
{
	unsigned what, code;
	int at = 0;

	if (sscanf(line, "%15" SCNd64 " %2u %3u %n", &r->hour, &what, &code, &at) != 3 || at == 0 || r->hour < 0 ||
		what >= MFS_TRANSITIONS || !version_ok(line + at))
		return false;
	r->hour = r->hour / HOUR * HOUR;
	r->what = (enum mfs_transition)what;
	r->code = (enum mfs_code)code;
	if (code != MFS_INTERNAL && strcmp(mfs_code_name(r->code), mfs_code_name(MFS_INTERNAL)) == 0)
		return false;
	memcpy(r->version, line + at, strlen(line + at) + 1);
	return true;
}

static void
queue_load(struct mfs_telemetry *t)
{
	mfs_autofree uint8_t *text = NULL;
	char *save = NULL;
	int64_t since = 0, at;
	size_t len;

	if (mfs_file_read(t->dirfd, NAME, FILE_MAX, &text, &len, NULL) != MFS_OK)
		return;
	for (char *line = strtok_r((char *)text, "\n", &save); line != NULL && t->n < MFS_TELEMETRY_MAX;
		line = strtok_r(NULL, "\n", &save))
		if (line_parse(line, &t->q[t->n]))
			t->n++;
		else if (sscanf(line, FAILING " %15" SCNd64, &at) == 1 && at > 0)
			since = at;
	/* Of what does not wait any more nobody has to know. */
	t->counts.failing_since = t->n > 0 ? since : 0;
}

/* What cannot be written is only in memory: no failure of anything. */
static void
queue_save(struct mfs_telemetry *t)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	pthread_mutex_lock(&t->lock);
	if (t->unsaved && (f = open_memstream(&text, &len)) != NULL) {
		if (t->counts.failing_since != 0)
			fprintf(f, FAILING " %" PRId64 "\n", t->counts.failing_since);
		for (size_t i = 0; i < t->n; i++)
			fprintf(f, "%" PRId64 " %u %u %s\n", t->q[i].hour, (unsigned)t->q[i].what, (unsigned)t->q[i].code,
				t->q[i].version);
		t->unsaved = false;
	}
	pthread_mutex_unlock(&t->lock);
	if (f == NULL)
		return;
	if (fclose(f) == 0 && len <= FILE_MAX && mfs_file_replace(t->dirfd, NAME, text, len, 0600, &err) != MFS_OK)
		mfs_log(MFS_LOG_DEBUG, "telemetry: %s", err.msg);
	free(text);
}

/* ---- OTLP -------------------------------------------------------------------------------------------------- */

static json_t *
attribute(const char *key, const char *value)
{
	return json_pack("{s:s, s:{s:s}}", "key", key, "value", "stringValue", value);
}

static json_t *
record_json(const struct record *r)
{
	const bool ok = r->code == MFS_OK;
	char nanos[32];
	json_t *attributes = json_array();
	int bad;

	(void)snprintf(nanos, sizeof(nanos), "%" PRId64 "000000000", r->hour);
	bad = json_array_append_new(attributes, attribute("modelfs.transition", mfs_transition_name(r->what)));
	bad |= json_array_append_new(attributes, attribute("modelfs.outcome", mfs_code_name(r->code)));
	bad |= json_array_append_new(attributes, attribute("modelfs.class", mfs_class_name(mfs_code_class(r->code))));
	if (r->version[0] != '\0')
		bad |= json_array_append_new(attributes, attribute("modelfs.version", r->version));
	if (bad != 0) {
		json_decref(attributes);
		return NULL;
	}
	return json_pack("{s:s, s:i, s:s, s:{s:s}, s:o}", "timeUnixNano", nanos, "severityNumber", ok ? 9 : 13, "severityText",
		ok ? "INFO" : "WARN", "body", "stringValue", mfs_transition_name(r->what), "attributes", attributes);
}

/* malloc'd, or NULL. */
static char *
batch_json(const struct mfs_telemetry *t, const struct record *r, size_t n)
{
	json_t *records = json_array(), *resource = json_array(), *all = NULL;
	int bad = json_array_append_new(resource, attribute("service.name", "modelfs"));
	char *text = NULL;

	if (t->device_class != NULL)
		bad |= json_array_append_new(resource, attribute("modelfs.device.class", t->device_class));
	for (size_t i = 0; i < n; i++)
		bad |= json_array_append_new(records, record_json(&r[i]));
	if (bad == 0)
		all = json_pack("{s:[{s:{s:O}, s:[{s:{s:s}, s:O}]}]}", "resourceLogs", "resource", "attributes", resource,
			"scopeLogs", "scope", "name", "modelfs.update", "logRecords", records);
	if (all != NULL)
		text = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	json_decref(records);
	json_decref(resource);
	return text;
}

/* ---- sending ------------------------------------------------------------------------------------------------ */

/* What the collector's answer means: OTLP/HTTP says what is worth another try. */
static bool
worth_retrying(enum mfs_code code, unsigned http)
{
	return code != MFS_NET_HTTP || http == 429 || http == 502 || http == 503 || http == 504;
}

/* Under the lock. What the last post came to; true: the log has not said it yet. */
static bool
outcome_note(struct mfs_telemetry *t, const struct mfs_err *err)
{
	struct mfs_telemetry_counts *c = &t->counts;
	const bool failing = c->failing_since != 0, other = c->why != err->code;

	c->why = err->code;
	(void)snprintf(c->detail, sizeof(c->detail), "%.199s", err->msg);
	if (err->code == MFS_OK)
		c->failing_since = 0;
	else if (!failing)
		c->failing_since = mfs_clock_wall();
	t->unsaved = t->unsaved || failing != (c->failing_since != 0);
	return err->code == MFS_OK ? failing : other;
}

static void
outcome_log(const struct mfs_err *err, bool new)
{
	if (err->code != MFS_OK)
		mfs_log(new ? MFS_LOG_WARN : MFS_LOG_DEBUG, "telemetry: not delivered: %s", err->msg);
	else if (new)
		mfs_log(MFS_LOG_INFO, "telemetry: delivered again");
}

static void
batch_send(struct mfs_telemetry *t, int64_t now_ms)
{
	struct record batch[MFS_TELEMETRY_BATCH];
	mfs_autofree char *text = NULL;
	struct mfs_remote_result res = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;
	uint64_t at;
	size_t n;
	bool new;

	pthread_mutex_lock(&t->lock);
	n = t->n < MFS_TELEMETRY_BATCH ? t->n : MFS_TELEMETRY_BATCH;
	memcpy(batch, t->q, n * sizeof(batch[0]));
	at = t->shifted;
	pthread_mutex_unlock(&t->lock);
	text = batch_json(t, batch, n);
	if (text == NULL)
		code = mfs_fail(&err, MFS_NO_MEMORY, "telemetry");
	else
		code = mfs_remote_post(t->remote, text, strlen(text), POST_MS, &t->stop, &res, &err);
	if (code == MFS_CONDITION_UNMET)
		return; /* the end */
	if (code != MFS_OK && worth_retrying(code, res.http)) {
		int64_t pause = RETRY_MS;

		for (unsigned i = 0; i < t->failures && pause < RETRY_MAX; i++)
			pause *= 2;
		if (pause < res.retry_after_s * 1000)
			pause = res.retry_after_s * 1000;
		t->failures++;
		t->due_ms = now_ms + (pause < RETRY_MAX ? pause : RETRY_MAX);
		pthread_mutex_lock(&t->lock);
		new = outcome_note(t, &err);
		pthread_mutex_unlock(&t->lock);
		outcome_log(&err, new);
		return;
	}
	t->failures = 0;
	pthread_mutex_lock(&t->lock);
	new = outcome_note(t, &err);
	at = t->shifted - at; /* so many of the batch made room meanwhile */
	if (at < n) {
		front_remove(t, n - (size_t)at);
		*(code == MFS_OK ? &t->counts.sent : &t->counts.dropped) += n - at;
	}
	t->due_ms = t->n > 0 ? now_ms : 0;
	pthread_mutex_unlock(&t->lock);
	outcome_log(&err, new);
}

int64_t
mfs_telemetry_turn(struct mfs_telemetry *t, int64_t now_ms)
{
	size_t n;

	queue_save(t);
	pthread_mutex_lock(&t->lock);
	n = t->n;
	pthread_mutex_unlock(&t->lock);
	if (n == 0) {
		t->due_ms = 0;
		return WINDOW_MS;
	}
	if (t->due_ms == 0)
		t->due_ms = now_ms + (n >= MFS_TELEMETRY_BATCH ? 0 : WINDOW_MS);
	if (now_ms >= t->due_ms) {
		batch_send(t, now_ms);
		queue_save(t);
	}
	return t->due_ms > now_ms ? t->due_ms - now_ms : t->due_ms == 0 ? WINDOW_MS : 0;
}

static void *
telemetry_run(void *arg)
{
	struct mfs_telemetry *t = arg;

	while (t->stop == 0) {
		int64_t wait = mfs_telemetry_turn(t, mfs_clock_boot_ms());
		struct timespec until;

		if (wait > WINDOW_MS)
			wait = WINDOW_MS;
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += wait / 1000 + 1;
		pthread_mutex_lock(&t->lock);
		if (t->stop == 0 && !t->unsaved)
			(void)pthread_cond_timedwait(&t->cond, &t->lock, &until);
		pthread_mutex_unlock(&t->lock);
	}
	queue_save(t);
	return NULL;
}

/* ---- life --------------------------------------------------------------------------------------------------- */

enum mfs_code
mfs_telemetry_new(const struct mfs_config *c, int state_dirfd, struct mfs_remote *remote, struct mfs_telemetry **out,
	struct mfs_err *err)
{
	struct mfs_telemetry *t;
	pthread_condattr_t attr;

	*out = NULL;
	if (c->telemetry.url == NULL)
		return MFS_OK;
	t = calloc(1, sizeof(*t));
	if (t == NULL || (c->device_class != NULL && (t->device_class = strdup(c->device_class)) == NULL)) {
		free(t);
		return mfs_fail(err, MFS_NO_MEMORY, "telemetry");
	}
	t->dirfd = state_dirfd;
	t->sample = c->telemetry_sample;
	t->remote = remote;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->cond, &attr);
	pthread_condattr_destroy(&attr);
	queue_load(t);
	*out = t;
	return MFS_OK;
}

enum mfs_code
mfs_telemetry_start(struct mfs_telemetry *t, struct mfs_err *err)
{
	pthread_attr_t attr;
	int e;

	if (t == NULL)
		return MFS_OK;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	e = pthread_create(&t->thread, &attr, telemetry_run, t);
	pthread_attr_destroy(&attr);
	if (e != 0) {
		errno = e;
		return mfs_fail_sys(err, MFS_IO, "telemetry: thread");
	}
	t->started = true;
	return MFS_OK;
}

void
mfs_telemetry_stop(struct mfs_telemetry *t)
{
	if (t == NULL || !t->started)
		return;
	t->stop = 1;
	pthread_mutex_lock(&t->lock);
	pthread_cond_signal(&t->cond);
	pthread_mutex_unlock(&t->lock);
	(void)pthread_join(t->thread, NULL);
	t->started = false;
}

void
mfs_telemetry_free(struct mfs_telemetry *t)
{
	if (t == NULL)
		return;
	mfs_telemetry_stop(t);
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->lock);
	free(t->device_class);
	free(t);
}
