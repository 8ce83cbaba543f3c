/* SPDX-License-Identifier: Apache-2.0 */
/* Events: appended, found again after a restart, rotated, never blocked by damage. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "events.h"
#include "log.h"
#include "scratch.h"

static char root[256];
static int dir = -1;

static void
setup(void)
{
	mfs_log_open("check", (enum mfs_level)0);
	dir = scratch_make(root, "check-events");
}

static void
teardown(void)
{
	(void)close(dir);
	scratch_remove(root);
}

TestSuite(events, .init = setup, .fini = teardown);

static struct mfs_events *
events_open(bool read_only)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_events *e;

	cr_assert_eq(mfs_events_open(dir, read_only, &e, &err), MFS_OK, "%s", err.msg);
	return e;
}

static void
say(struct mfs_events *e, const char *model, enum mfs_code code, const char *detail)
{
	mfs_event(e, &(struct mfs_event){ .model = model, .version = "1.1.0", .from = "1.0.0", .to = "1.1.0", .code = code,
		.source = "install", .detail = detail });
}

/* The rendered lines, each a JSON object; *n counts them. */
static char *
render(struct mfs_events *e, const char *model, size_t cap, size_t *n)
{
	struct mfs_err err = MFS_ERR_INIT;
	char *text;
	size_t len;

	cr_assert_eq(mfs_events_render(e, model, cap, &text, &len, &err), MFS_OK, "%s", err.msg);
	cr_assert(len <= cap);
	cr_assert_eq(strlen(text), len);
	*n = 0;
	for (char *p = text; *p != '\0';) {
		char *nl = strchr(p, '\n');
		json_t *o;

		cr_assert_not_null(nl);
		o = json_loadb(p, (size_t)(nl - p), 0, NULL);
		cr_assert_not_null(o, "%s", p);
		json_decref(o);
		(*n)++;
		p = nl + 1;
	}
	return text;
}

Test(events, every_field_is_there)
{
	static const char *const fields[] = { "seq", "time", "boot", "model", "version", "from", "to", "code", "outcome",
		"class", "source", "detail", "cycle" };
	struct mfs_events *e = events_open(false);
	char *text;
	json_t *o;
	size_t n;

	say(e, "det", MFS_HASH_MISMATCH, "payload/a: chunk 3");
	text = render(e, "det", 4096, &n);
	cr_assert_eq(n, 1);
	o = json_loads(text, 0, NULL);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		cr_assert_not_null(json_object_get(o, fields[i]), "%s", fields[i]);
	cr_assert_eq(json_object_size(o), sizeof(fields) / sizeof(fields[0]));
	cr_assert_eq(json_integer_value(json_object_get(o, "code")), 12);
	cr_assert_str_eq(json_string_value(json_object_get(o, "outcome")), "hash_mismatch");
	cr_assert_str_eq(json_string_value(json_object_get(o, "class")), "trust");
	json_decref(o);
	free(text);
	mfs_events_close(e);
}

Test(events, hostile_text_stays_one_line)
{
	struct mfs_events *e = events_open(false);
	char *text;
	size_t n;

	say(e, "det", MFS_IO, "a\nb\"c\\d\x1b[31m");
	say(e, "det", MFS_IO, "bad \xff\xfe utf-8");
	text = render(e, "det", 8192, &n);
	cr_assert_eq(n, 2);
	cr_assert_null(strchr(text, '\x1b'));
	free(text);
	mfs_events_close(e);
}

Test(events, models_are_told_apart_and_the_newest_kept)
{
	struct mfs_events *e = events_open(false);
	char *text, detail[32];
	size_t n;

	for (int i = 0; i < 20; i++) {
		(void)snprintf(detail, sizeof(detail), "number %d.", i);
		say(e, i % 2 == 0 ? "det" : "seg", MFS_OK, detail);
	}
	free(render(e, NULL, 1 << 20, &n));
	cr_assert_eq(n, 20);
	free(render(e, "seg", 1 << 20, &n));
	cr_assert_eq(n, 10);
	free(render(e, "none", 1 << 20, &n));
	cr_assert_eq(n, 0);
	text = render(e, "det", 700, &n);
	cr_assert(n >= 1 && n < 10);
	cr_assert_not_null(strstr(text, "number 18."));
	cr_assert_null(strstr(text, "number 0."));
	free(text);
	mfs_events_close(e);
}

Test(events, numbers_go_on_after_a_restart_and_a_torn_line)
{
	struct mfs_events *e = events_open(false);
	uint8_t *file;
	char *text;
	size_t n;

	say(e, "det", MFS_OK, "one");
	say(e, "det", MFS_OK, "two");
	mfs_events_close(e);
	file = scratch_read(dir, "events.jsonl", &n);
	scratch_write(dir, "events.jsonl", file, n - 10);
	free(file);
	e = events_open(false);
	say(e, "det", MFS_OK, "three");
	mfs_events_close(e);
	e = events_open(false);
	text = render(e, NULL, 1 << 20, &n);
	cr_assert_eq(n, 2, "the torn line is gone, the next one is whole: %s", text);
	cr_assert_not_null(strstr(text, "\"three\""));
	cr_assert_eq(mfs_events_wait(e, 0, 0), 2);
	free(text);
	mfs_events_close(e);
}

Test(events, a_line_that_a_full_disk_cut_off_swallows_no_other)
{
	static const char zeros[512];
	struct mfs_events *e;
	char path[300], *text;
	size_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/small", root);
	cr_assert_eq(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", 0, "size=64k") != 0)
		cr_skip("mounting a tmpfs needs root: a full disk cannot be made");
	(void)close(dir);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	e = events_open(false);
	say(e, "det", MFS_OK, "one");
	fd = openat(dir, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	cr_assert_eq(errno, ENOSPC);
	for (int i = 0; i < 40; i++) /* what is left of the file's last block ends within one */
		say(e, "det", MFS_OK, "before the end");
	cr_assert_eq(ftruncate(fd, 0), 0);
	say(e, "det", MFS_OK, "room again");
	free(render(e, NULL, 1 << 20, &n));
	cr_expect_eq(n, 42, "in memory all are there: %zu", n);
	mfs_events_close(e);
	e = events_open(true);
	text = render(e, NULL, 1 << 20, &n);
	cr_expect(n > 2 && n < 42, "%zu", n);
	cr_expect_not_null(strstr(text, "room again"));
	free(text);
	mfs_events_close(e);
	(void)close(fd);
	cr_expect_eq(umount2(path, MNT_DETACH), 0);
}

Test(events, the_file_is_rotated_and_bounded)
{
	struct mfs_events *e = events_open(false);
	struct stat st;
	char detail[800];

	memset(detail, 'x', sizeof(detail) - 1);
	detail[sizeof(detail) - 1] = '\0';
	for (int i = 0; i < 3000; i++)
		say(e, "det", MFS_OK, detail);
	mfs_events_close(e);
	cr_assert_eq(fstatat(dir, "events.jsonl", &st, 0), 0);
	cr_assert(st.st_size <= 1 << 20);
	cr_assert_eq(fstatat(dir, "events.1.jsonl", &st, 0), 0);
	cr_assert(st.st_size <= 1 << 20);
	cr_assert_eq(scratch_count(dir, "."), 2);
	e = events_open(true);
	cr_assert_eq(mfs_events_wait(e, 0, 0), 3000);
	mfs_events_close(e);
}

Test(events, read_only_writes_nothing)
{
	struct mfs_events *e = events_open(true);
	size_t n;

	say(e, "det", MFS_OK, "seen, not kept");
	free(render(e, NULL, 4096, &n));
	cr_assert_eq(n, 1);
	mfs_events_close(e);
	cr_assert_eq(scratch_count(dir, "."), 0);
}

Test(events, a_folder_in_the_place_of_the_file_loses_no_event_in_memory)
{
	struct mfs_events *e;
	size_t n;

	cr_assert_eq(mkdirat(dir, "events.jsonl", 0700), 0);
	e = events_open(false);
	say(e, "det", MFS_OK, "kept");
	free(render(e, NULL, 4096, &n));
	cr_assert_eq(n, 1);
	mfs_events_close(e);
}

static void
total_sum(void *user, const char *model, enum mfs_code code, const char *source, uint64_t n)
{
	uint64_t *sums = user;

	cr_assert_str_eq(source, "install");
	cr_assert_str_eq(model, "det");
	sums[code == MFS_OK] += n;
}

Test(events, totals_count)
{
	struct mfs_events *e = events_open(false);
	uint64_t sums[2] = { 0, 0 };

	say(e, "det", MFS_OK, NULL);
	say(e, "det", MFS_IO, NULL);
	say(e, "det", MFS_IO, NULL);
	mfs_events_totals(e, total_sum, sums);
	cr_assert_eq(sums[1], 1);
	cr_assert_eq(sums[0], 2);
	mfs_events_close(e);
}

static void *
say_one(void *arg)
{
	say(arg, "det", MFS_OK, "from another thread");
	return NULL;
}

Test(events, waiting_ends_with_the_next_event)
{
	struct mfs_events *e = events_open(false);
	pthread_t t;

	cr_assert_eq(mfs_events_wait(e, 0, 1), 0);
	cr_assert_eq(pthread_create(&t, NULL, say_one, e), 0);
	cr_assert_eq(mfs_events_wait(e, 0, 60000), 1);
	(void)pthread_join(t, NULL);
	mfs_events_close(e);
}
