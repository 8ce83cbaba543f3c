/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_telemetry.c - what leaves the device, byte for byte; how much of it; and that a collector that
 * is dead, slow or hostile is in nobody's way.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "mockfetch.h"
#include "remote_int.h"
#include "scratch.h"
#include "telemetry.h"

#define TIME 1795235606 /* 2026-11-21 04:33:26 UTC */
#define HOUR "1795233600000000000"

struct collector {
	unsigned posts;
	unsigned http; /* what it answers: 0 nothing at all */
	char body[200000];
};

static bool
collect(struct mock *k, const union mfs_wire *m, int fd)
{
	struct collector *c = k->user;
	ssize_t n;

	if (m->head.type != MFS_W_POST)
		return true;
	c->posts++;
	n = pread(fd, c->body, sizeof(c->body) - 1, 0);
	c->body[n > 0 ? n : 0] = '\0';
	cr_assert_eq((uint64_t)n, m->post.size);
	if (c->http == 0)
		mock_done(k, m->head.id, MFS_NET_TIMEOUT, 0, 0);
	else
		mock_done(k, m->head.id, c->http == 200 ? MFS_OK : MFS_NET_HTTP, c->http, 0);
	return true;
}

struct fix {
	struct collector c;
	struct mock k;
	struct mfs_config config;
	struct mfs_remote *r;
	struct mfs_telemetry *t;
	char path[256];
	int dir;
	int64_t now; /* ms */
};

static void
fix_open(struct fix *f)
{
	static char url[] = "https://collector.example/v1/logs", class[] = "jetson-orin";

	f->k = (struct mock){ .on = collect, .user = &f->c };
	f->config = (struct mfs_config){ .telemetry = { .url = url }, .telemetry_sample = 1000000, .device_class = class };
	f->now = 1;
	f->dir = scratch_make(f->path, "telemetry");
	cr_assert_eq(mfs_remote_new(mock_start, &f->k, &f->r, NULL), MFS_OK);
	cr_assert_eq(mfs_telemetry_new(&f->config, f->dir, f->r, &f->t, NULL), MFS_OK);
	cr_assert_not_null(f->t);
}

static void
fix_close(struct fix *f)
{
	mfs_telemetry_free(f->t);
	mfs_remote_free(f->r);
	mock_join(&f->k);
	close(f->dir);
	scratch_remove(f->path);
}

/* Let the time pass until the thread would have nothing to do for longer than `ms`. */
static void
pass(struct fix *f, int64_t ms)
{
	const int64_t until = f->now + ms;

	while (f->now <= until) {
		int64_t wait = mfs_telemetry_turn(f->t, f->now);

		f->now += wait > 0 ? wait : 1;
	}
}

static struct mfs_telemetry_counts
counts(struct fix *f)
{
	struct mfs_telemetry_counts c;

	mfs_telemetry_counts(f->t, &c);
	return c;
}

#define RECORD(severity, number, what, outcome, class, version)                                                      \
	"{\"timeUnixNano\":\"" HOUR "\",\"severityNumber\":" number ",\"severityText\":\"" severity "\",\"body\":"    \
	"{\"stringValue\":\"" what "\"},\"attributes\":["                                                             \
	"{\"key\":\"modelfs.transition\",\"value\":{\"stringValue\":\"" what "\"}},"                                  \
	"{\"key\":\"modelfs.outcome\",\"value\":{\"stringValue\":\"" outcome "\"}},"                                  \
	"{\"key\":\"modelfs.class\",\"value\":{\"stringValue\":\"" class "\"}}" version "]}"
#define OF_VERSION(v) ",{\"key\":\"modelfs.version\",\"value\":{\"stringValue\":\"" v "\"}}"

Test(telemetry, this_and_nothing_else_leaves_the_device)
{
	static const char want[] =
		"{\"resourceLogs\":[{\"resource\":{\"attributes\":["
		"{\"key\":\"service.name\",\"value\":{\"stringValue\":\"modelfs\"}},"
		"{\"key\":\"modelfs.device.class\",\"value\":{\"stringValue\":\"jetson-orin\"}}]},"
		"\"scopeLogs\":[{\"scope\":{\"name\":\"modelfs.update\"},\"logRecords\":["
		RECORD("INFO", "9", "downloaded", "ok", "none", OF_VERSION("1.1.0")) ","
		RECORD("INFO", "9", "activated", "ok", "none", OF_VERSION("1.1.0")) ","
		RECORD("WARN", "13", "checked", "health_check_failed", "local", OF_VERSION("1.1.0-rc.1")) ","
		RECORD("WARN", "13", "rolled_back", "rollback_triggered", "local", OF_VERSION("1.0.0")) ","
		RECORD("WARN", "13", "withdrawn", "revoked", "policy", "") ","
		RECORD("WARN", "13", "rejected", "hash_mismatch", "trust", "") "]}]}]}";
	struct fix f = { .c = { .http = 200 } };

	fix_open(&f);
	mfs_telemetry_note(f.t, MFS_TRANSITION_DOWNLOADED, "1.1.0", MFS_OK, TIME);
	mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.1.0", MFS_OK, TIME);
	mfs_telemetry_note(f.t, MFS_TRANSITION_CHECKED, "1.1.0-rc.1", MFS_HEALTH_CHECK_FAILED, TIME + 60);
	mfs_telemetry_note(f.t, MFS_TRANSITION_ROLLED_BACK, "1.0.0", MFS_ROLLBACK_TRIGGERED, TIME + 600);
	mfs_telemetry_note(f.t, MFS_TRANSITION_WITHDRAWN, NULL, MFS_REVOKED, TIME);
	mfs_telemetry_note(f.t, MFS_TRANSITION_REJECTED, "../../etc/passwd", MFS_HASH_MISMATCH, TIME); /* no version */
	pass(&f, 20000);
	cr_assert_eq(f.c.posts, 1, "one batch, not %u", f.c.posts);
	cr_assert_str_eq(f.c.body, want);
	cr_assert(counts(&f).sent == 6 && counts(&f).queued == 0);
	pass(&f, 3600 * 1000);
	cr_assert_eq(f.c.posts, 1, "nothing new, nothing sent");
	fix_close(&f);
}

Test(telemetry, off_is_off)
{
	struct mfs_config config = { .telemetry_sample = 1000000 };
	struct mfs_telemetry *t = (struct mfs_telemetry *)1;
	struct mfs_telemetry_counts c;

	cr_assert_eq(mfs_telemetry_new(&config, -1, NULL, &t, NULL), MFS_OK);
	cr_assert_null(t);
	mfs_telemetry_note(t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	cr_assert_eq(mfs_telemetry_start(t, NULL), MFS_OK);
	mfs_telemetry_counts(t, &c);
	cr_assert_eq(c.queued, 0);
	mfs_telemetry_stop(t);
	mfs_telemetry_free(t);
}

Test(telemetry, sampled_at_random)
{
	struct fix f = { .c = { .http = 200 } };
	unsigned kept = 0;

	fix_open(&f);
	mfs_telemetry_free(f.t);
	f.config.telemetry_sample = 100000; /* a tenth */
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	for (unsigned i = 0; i < 4000; i++) {
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
		if (i % 100 == 99)
			pass(&f, 20000);
	}
	pass(&f, 20000);
	kept = (unsigned)(counts(&f).sent + counts(&f).queued);
	cr_assert(kept > 250 && kept < 550, "%u of 4000 at a tenth (six standard deviations are 114)", kept);
	mfs_telemetry_free(f.t);
	f.config.telemetry_sample = 0;
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	for (unsigned i = 0; i < 1000; i++)
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	cr_assert_eq(counts(&f).queued, 0);
	fix_close(&f);
}

Test(telemetry, bounded_in_memory_and_on_disk_and_the_oldest_go_first)
{
	struct fix f = { .c = { .http = 0 } };
	struct stat st;
	char version[80];

	fix_open(&f);
	for (unsigned i = 0; i < 3 * MFS_TELEMETRY_MAX; i++) {
		(void)snprintf(version, sizeof(version), "1.0.%u-%050u", i, i);
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, version, MFS_OK, TIME);
	}
	pass(&f, 20000);
	cr_assert(counts(&f).queued == MFS_TELEMETRY_MAX && counts(&f).dropped == 2 * MFS_TELEMETRY_MAX);
	cr_assert_eq(fstatat(f.dir, "telemetry", &st, 0), 0);
	cr_assert_leq(st.st_size, 64 << 10);
	cr_assert_eq(st.st_mode & 0777, 0600);
	(void)snprintf(version, sizeof(version), "1.0.%u-", 2 * MFS_TELEMETRY_MAX);
	cr_assert_not_null(strstr(f.c.body, version), "the oldest that is left is sent first");
	fix_close(&f);
}

/* The file of a device that failed first at `since`, as it stands otherwise. */
static void
rewritten(struct fix *f, int64_t since)
{
	mfs_autofree uint8_t *text = NULL;
	char anew[1000];
	size_t len;
	int n;

	cr_assert_eq(mfs_file_read(f->dir, "telemetry", sizeof(anew), &text, &len, NULL), MFS_OK);
	cr_assert_eq(strncmp((const char *)text, "failing ", 8), 0, "%s", (const char *)text);
	n = snprintf(anew, sizeof(anew), "failing %lld%s", (long long)since, strchr((const char *)text, '\n'));
	cr_assert_eq(mfs_file_replace(f->dir, "telemetry", anew, (size_t)n, 0600, NULL), MFS_OK);
}

Test(telemetry, a_dead_collector_is_asked_less_and_less_and_gets_all_of_it_later)
{
	struct fix f = { .c = { .http = 0 } };
	const int64_t began = mfs_clock_wall();
	int64_t since;

	fix_open(&f);
	mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	cr_assert_eq(counts(&f).failing_since, 0);
	pass(&f, 24 * 3600 * 1000);
	cr_assert(f.c.posts > 3 && f.c.posts < 16, "%u tries in a day", f.c.posts);
	cr_assert_eq(counts(&f).queued, 1);
	/* Said, with since when and why: but nobody waits for it. */
	cr_assert_geq(counts(&f).failing_since, began);
	cr_assert_eq(counts(&f).why, MFS_NET_TIMEOUT);
	cr_assert_neq(counts(&f).detail[0], '\0');
	f.c.http = 503;
	pass(&f, 24 * 3600 * 1000);
	cr_assert_eq(counts(&f).queued, 1, "503 is worth another try");
	cr_assert_eq(counts(&f).why, MFS_NET_HTTP);
	since = counts(&f).failing_since;
	/* A restart does not begin the count anew. */
	mfs_telemetry_free(f.t);
	rewritten(&f, since -= 100000);
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	cr_assert_eq(counts(&f).failing_since, since);
	pass(&f, 20000);
	cr_assert_eq(counts(&f).failing_since, since, "the first failure counts");
	f.c.http = 200;
	pass(&f, 7 * 3600 * 1000);
	cr_assert(counts(&f).queued == 0 && counts(&f).sent == 1);
	cr_assert(counts(&f).failing_since == 0 && counts(&f).why == MFS_OK);
	mfs_telemetry_free(f.t);
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	cr_assert_eq(counts(&f).failing_since, 0);
	fix_close(&f);
}

Test(telemetry, what_the_collector_refuses_for_good_is_not_sent_again)
{
	struct fix f = { .c = { .http = 400 } };
	/* What OTLP/HTTP lets a client send again, and what it forbids. */
	static const struct { unsigned http; bool again; } answers[] = { { 429, true }, { 502, true }, { 503, true }, { 504, true },
		{ 401, false }, { 404, false }, { 408, false }, { 413, false }, { 500, false }, { 501, false } };

	fix_open(&f);
	for (unsigned i = 0; i < MFS_TELEMETRY_BATCH + 1; i++)
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	pass(&f, 3600 * 1000);
	cr_assert(f.c.posts == 2 && counts(&f).queued == 0 && counts(&f).dropped == MFS_TELEMETRY_BATCH + 1);
	cr_assert(counts(&f).failing_since > 0 && counts(&f).why == MFS_NET_HTTP, "nothing is delivered");
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		f.c.http = answers[i].http;
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
		pass(&f, 20000);
		cr_assert_eq(counts(&f).queued, answers[i].again ? 1 : 0, "status %u", answers[i].http);
		f.c.http = 200;
		pass(&f, 7 * 3600 * 1000);
		cr_assert_eq(counts(&f).queued, 0);
	}
	fix_close(&f);
}

Test(telemetry, it_survives_a_restart_and_a_damaged_file)
{
	struct fix f = { .c = { .http = 0 } };
	static const char bad[] = "1795233600 2 0 1.0.0\nx\n-5 2 0 1.0.0\n1795233600 99 0 1.0.0\n1795233600 2 77 1.0.0\n"
		"1795233600 2 0 a b\n1795233600 5 12 \n99999999999999999999 2 0 1\n1795235606 0 43 2.0.0";

	fix_open(&f);
	mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	pass(&f, 20000);
	mfs_telemetry_free(f.t);
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	cr_assert_eq(counts(&f).queued, 1);
	mfs_telemetry_free(f.t);
	cr_assert_eq(mfs_file_replace(f.dir, "telemetry", bad, sizeof(bad) - 1, 0600, NULL), MFS_OK);
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	cr_assert_eq(counts(&f).queued, 3, "the good lines of it: %llu", (unsigned long long)counts(&f).queued);
	f.c.http = 200;
	pass(&f, 20000);
	cr_assert_not_null(strstr(f.c.body, "\"timeUnixNano\":\"" HOUR "\""));
	cr_assert_null(strstr(f.c.body, "1795235606"), "an exact time");
	fix_close(&f);
}

Test(telemetry, a_disk_that_takes_nothing_is_no_failure)
{
	struct fix f = { .c = { .http = 200 } };
	int dir;

	fix_open(&f);
	dir = f.dir;
	mfs_telemetry_free(f.t);
	f.dir = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(mfs_telemetry_new(&f.config, f.dir, f.r, &f.t, NULL), MFS_OK);
	mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	pass(&f, 20000);
	cr_assert_eq(counts(&f).sent, 1);
	close(f.dir);
	f.dir = dir;
	fix_close(&f);
}

/* The collector never answers: whoever notes, and whoever stops, does not wait for it. */
static bool
silent(struct mock *k, const union mfs_wire *m, int fd)
{
	(void)k;
	(void)m;
	(void)fd;
	return true;
}

Test(telemetry, nobody_waits_for_a_collector_that_never_answers, .timeout = 20)
{
	struct fix f = { .c = { .http = 200 } };

	fix_open(&f);
	f.k.on = silent;
	for (unsigned i = 0; i < MFS_TELEMETRY_BATCH; i++)
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	cr_assert_eq(mfs_telemetry_start(f.t, NULL), MFS_OK);
	while (f.k.starts == 0)
		(void)usleep(1000);
	for (unsigned i = 0; i < 10000; i++)
		mfs_telemetry_note(f.t, MFS_TRANSITION_ACTIVATED, "1.0.0", MFS_OK, TIME);
	mfs_telemetry_stop(f.t);
	cr_assert_eq(counts(&f).queued, MFS_TELEMETRY_MAX);
	fix_close(&f);
}
