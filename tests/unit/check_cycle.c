/* SPDX-License-Identifier: Apache-2.0 */
/* The cycle document: round trips, strictness, and what its loss costs. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "scratch.h"
#include "trusted.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MODEL                                                                                  \
	"{\"activations\":[{\"manifest\":\"" HEX64 "\",\"time_ns\":\"1700000000000000001\"}]," \
	"\"active_since\":1,\"exposure_next\":7,\"generation\":3,\"held\":true,\"id\":\"det\",\"last_activation_ns\":\"1700000000000000001\"," \
	"\"last_detail\":\"x\",\"last_outcome\":\"held\",\"last_outcome_time\":5}"
#define DOC(models) "{\"event_seq\":9,\"format\":\"modelfs-cycle/1.1\",\"models\":[" models "],\"time_floor\":4}"

static enum mfs_code
parse(const char *text, struct mfs_cycle **c)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_cycle_parse(MFS_SPAN(text, strlen(text)), c, &err);

	cr_assert(code == MFS_OK || (*c == NULL && err.msg[0] != '\0'), "%s", text);
	return code;
}

Test(cycle, what_is_written_is_read_back)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle *c, *d;
	struct mfs_cycle_model *m;
	char *text;
	size_t len;

	cr_assert_eq(parse(DOC(MODEL), &c), MFS_OK);
	m = mfs_cycle_find(c, "det");
	cr_assert_not_null(m);
	cr_assert_eq(m->exposure_next, 7);
	cr_assert_eq(m->generation, 3);
	cr_assert(m->held);
	cr_assert_eq(m->last_activation_ns, INT64_C(1700000000000000001));
	cr_assert_eq(m->n_activations, 1);
	cr_assert_eq(m->activations[0].time_ns, INT64_C(1700000000000000001));
	cr_assert_eq(m->last_outcome, MFS_HELD);
	cr_assert_eq(c->event_seq, 9);
	cr_assert_eq(c->floor.time, 4);
	cr_assert_eq(mfs_cycle_json(c, &text, &len, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(text, DOC(MODEL));
	cr_assert_eq(mfs_cycle_parse(MFS_SPAN(text, len), &d, &err), MFS_OK, "%s", err.msg);
	cr_assert_null(mfs_cycle_find(d, "other"));
	free(text);
	mfs_cycle_free(c);
	mfs_cycle_free(d);
}

Test(cycle, fields_of_a_newer_minor_version_are_kept)
{
	static const char text[] = "{\"event_seq\":0,\"format\":\"modelfs-cycle/1.7\",\"models\":[{\"active_since\":0,"
		"\"activations\":[],\"deadline\":[1,2],\"exposure_next\":0,\"generation\":0,\"held\":false,\"id\":\"a\","
		"\"last_activation_ns\":\"0\",\"last_detail\":\"\",\"last_outcome\":\"ok\",\"last_outcome_time\":0}],"
		"\"queue\":{\"at\":3},\"time_floor\":0}";
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle *c;
	char *out;
	size_t len;

	cr_assert_eq(parse(text, &c), MFS_OK);
	cr_assert_eq(mfs_cycle_json(c, &out, &len, &err), MFS_OK);
	cr_assert_not_null(strstr(out, "\"deadline\":[1,2]"), "%s", out);
	cr_assert_not_null(strstr(out, "\"queue\":{\"at\":3}"), "%s", out);
	free(out);
	mfs_cycle_free(c);
}

Test(cycle, models_are_sorted_and_unique)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle *c;
	struct mfs_cycle_model *m;

	cr_assert_eq(parse(DOC(""), &c), MFS_OK);
	cr_assert_eq(mfs_cycle_add(c, "b", &m, &err), MFS_OK);
	cr_assert_eq(mfs_cycle_add(c, "c", &m, &err), MFS_OK);
	cr_assert_eq(mfs_cycle_add(c, "a", &m, &err), MFS_OK);
	cr_assert_eq(mfs_cycle_add(c, "b", &m, &err), MFS_MALFORMED);
	cr_assert_eq(mfs_cycle_add(c, "../x", &m, &err), MFS_MALFORMED);
	cr_assert_eq(c->n_models, 3);
	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(c->models[i].id[0], "abc"[i]);
	mfs_cycle_free(c);
}

Test(cycle, whatever_is_wrong_is_refused)
{
	static const char *const bad[] = {
		"", "{}", "[]", "null", "{\"format\":\"modelfs-cycle/1.0\"}",
		"{\"event_seq\":9,\"format\":\"modelfs-cycle/2.0\",\"models\":[],\"time_floor\":4}",
		"{\"event_seq\":9,\"format\":\"modelfs-cycle/1.\",\"models\":[],\"time_floor\":4}",
		"{\"event_seq\":9,\"format\":\"modelfs-cycle/1.0x\",\"models\":[],\"time_floor\":4}",
		"{\"event_seq\":-1,\"format\":\"modelfs-cycle/1.0\",\"models\":[],\"time_floor\":4}",
		"{\"event_seq\":1.5,\"format\":\"modelfs-cycle/1.0\",\"models\":[],\"time_floor\":4}",
		"{\"event_seq\":9,\"format\":\"modelfs-cycle/1.0\",\"models\":{},\"time_floor\":4}",
		"{\"event_seq\":9,\"event_seq\":9,\"format\":\"modelfs-cycle/1.0\",\"models\":[],\"time_floor\":4}",
		DOC("1"), DOC("{}"), DOC("null"), DOC(MODEL "," MODEL), DOC(MODEL) "x",
		"{\"event_seq\":99999999999999999999,\"format\":\"modelfs-cycle/1.0\",\"models\":[],\"time_floor\":4}",
	};
	static const struct {
		const char *from, *to;
	} swaps[] = {
		{ "\"held\":true", "\"held\":1" },
		{ "\"1700000000000000001\"}]", "1700}]" },
		{ "\"1700000000000000001\"}]", "\"01\"}]" },
		{ "\"1700000000000000001\"}]", "\"-1\"}]" },
		{ "\"1700000000000000001\"}]", "\"9223372036854775808\"}]" },
		{ HEX64, "0123" },
		{ "\"id\":\"det\"", "\"id\":\"../det\"" },
		{ "\"id\":\"det\"", "\"id\":\"\"" },
		{ "\"exposure_next\":7", "\"exposure_next\":-7" },
		{ "\"generation\":3", "\"generation\":\"3\"" },
		{ "\"last_detail\":\"x\"", "\"last_detail\":7" },
		{ "\"last_outcome\":\"held\"", "\"last_outcome\":7" },
	};
	struct mfs_cycle *c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_neq(parse(bad[i], &c), MFS_OK, "%s", bad[i]);
	for (size_t i = 0; i < sizeof(swaps) / sizeof(swaps[0]); i++) {
		char text[1024];
		const char *doc = DOC(MODEL), *at = strstr(doc, swaps[i].from);

		cr_assert_not_null(at, "%s", swaps[i].from);
		(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - doc), doc, swaps[i].to,
			at + strlen(swaps[i].from));
		cr_assert_neq(parse(text, &c), MFS_OK, "%s", text);
	}
}

/* ---- on disk ------------------------------------------------------------------------------------------- */

struct device {
	char root[256];
	int state;
	struct mfs_counter *counter;
	struct mfs_trusted *t;
};

static const struct mfs_key key = { { 1 } };

static void
device_open(struct device *d)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_counter_open("file", d->state, &d->counter, &err), MFS_OK);
	cr_assert_eq(mfs_trusted_open(d->state, -1, &key, d->counter, 0, &d->t, &err), MFS_OK, "%s", err.msg);
}

static void
device_close(struct device *d)
{
	mfs_trusted_close(d->t);
	mfs_counter_free(d->counter);
}

static void
device_make(struct device *d)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle_model *m;
	struct mfs_anchor_model *am;
	struct mfs_anchor *a;

	mfs_log_open("check", MFS_LOG_ERR);
	d->state = scratch_make(d->root, "check-cycle");
	device_open(d);
	cr_assert(!mfs_trusted_cycle_lost(d->t));
	cr_assert_eq(mfs_anchor_copy(mfs_trusted_anchor(d->t), &a, &err), MFS_OK);
	cr_assert_eq(mfs_anchor_add(a, "det", "det", &am, &err), MFS_OK);
	cr_assert_eq(mfs_trusted_commit(d->t, a, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_cycle_add(mfs_trusted_cycle(d->t), "det", &m, &err), MFS_OK);
	for (m->generation = 1; m->generation <= 3; m->generation++)
		cr_assert_eq(mfs_trusted_cycle_save(d->t, &err), MFS_OK, "%s", err.msg);
	device_close(d);
}

static uint64_t
generation(struct device *d)
{
	const struct mfs_cycle_model *m = mfs_cycle_find(mfs_trusted_cycle(d->t), "det");

	return m != NULL ? m->generation : 0;
}

Test(cycle, the_newest_copy_counts_and_a_damaged_one_does_not)
{
	struct device d;

	device_make(&d);
	device_open(&d);
	cr_assert_eq(generation(&d), 3);
	device_close(&d);
	/* Three saves: copies 0, 1, 0. The newest damaged: the one before it counts. */
	scratch_write(d.state, "cycle.0", "torn", 4);
	device_open(&d);
	cr_assert_eq(generation(&d), 2);
	cr_assert(!mfs_trusted_cycle_lost(d.t));
	device_close(&d);
	(void)close(d.state);
	scratch_remove(d.root);
}

Test(cycle, a_lost_cycle_is_said_and_takes_nothing_away)
{
	struct device d;

	device_make(&d);
	scratch_write(d.state, "cycle.0", "torn", 4);
	scratch_write(d.state, "cycle.1", "torn", 4);
	device_open(&d);
	cr_assert(mfs_trusted_cycle_lost(d.t));
	cr_assert_eq(mfs_trusted_cycle(d.t)->n_models, 0);
	cr_assert_not_null(mfs_anchor_find(mfs_trusted_anchor(d.t), "det"));
	device_close(&d);
	cr_assert_eq(unlinkat(d.state, "cycle.0", 0), 0);
	cr_assert_eq(unlinkat(d.state, "cycle.1", 0), 0);
	device_open(&d);
	cr_assert(mfs_trusted_cycle_lost(d.t), "deleted beside an anchor");
	device_close(&d);
	(void)close(d.state);
	scratch_remove(d.root);
}

/* ---- updates (minor version 1) ----------------------------------------------------------------------- */

#define ATTEMPT                                                                                                    \
	"{\"by_hand\":true,\"deadline\":90,\"detail\":\"why\",\"failures\":3,\"free_bytes\":7,\"key_epoch\":1," \
	"\"manifest\":\"" HEX64 "\",\"not_before\":80,\"outcome\":\"net_timeout\",\"release\":2,\"since\":70," \
	"\"starts\":4,\"step\":\"download\",\"variant\":\"default\",\"version\":\"1.2.0\"}"
#define UPDATED(id, attempt)                                                                                      \
	"{\"activations\":[],\"active_since\":1,\"attempt\":" attempt ",\"exposure_next\":7,\"generation\":3," \
	"\"held\":false,\"id\":\"" id "\",\"last_activation_ns\":\"0\",\"last_detail\":\"x\",\"last_outcome\":\"ok\"," \
	"\"last_outcome_time\":5,\"observation\":{\"by_hand\":true,\"checks\":2,\"key_epoch\":1,"    \
	"\"manifest\":\"" HEX64 "\",\"release\":2,\"seconds\":30,\"total\":600,\"undecided\":1,\"variant\":\"default\",\"version\":\"1.2.0\"},\"offer\":{\"detail\":\"passed over\",\"outcome\":\"not_selected\"},\"pin\":\"1.2.0\",\"policy\":{\"detail\":\"spoilt\",\"outcome\":\"hash_mismatch\"},\"refusal\":{\"detail\":\"no\","       \
	"\"key_epoch\":1,\"manifest\":\"" HEX64 "\",\"model_key_id\":\"" HEX64                                   \
	"\",\"outcome\":\"decrypt_failed\",\"release\":2,\"time\":6,\"variant\":\"default\",\"version\":\"1.2.0\"}}"
#define OFFERED(offer)                                                                                            \
	"{\"activations\":[],\"active_since\":1,\"exposure_next\":7,\"generation\":3,\"held\":false,\"id\":\"det\","       \
	"\"last_activation_ns\":\"0\",\"last_detail\":\"x\",\"last_outcome\":\"ok\",\"last_outcome_time\":5,\"offer\":" offer "}"
#define HOST(models, repos)                                                                                      \
	"{\"budget\":{\"bytes\":5,\"day\":20000},\"event_seq\":9,\"format\":\"modelfs-cycle/1.1\",\"models\":["   \
	models "],\"repositories\":[" repos "],\"time_floor\":4}"
#define REPO(name)                                                                                              \
	"{\"detail\":\"x\",\"failures\":2,\"last_check\":3,\"last_success\":2,\"name\":\"" name                     \
	"\",\"new\":[1],\"next_check\":9,\"outcome\":\"net_http\",\"time_floor\":6,\"time_floor_boot\":1," \
	"\"timestamp_version\":8}"

Test(cycle, where_an_update_stands_is_written_and_read_back)
{
	const char *text = HOST(UPDATED("det", ATTEMPT), REPO("default") "," REPO("second"));
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle_model *m;
	struct mfs_cycle *c;
	char *out;
	size_t len;

	cr_assert_eq(parse(text, &c), MFS_OK);
	m = mfs_cycle_find(c, "det");
	cr_assert_eq(m->attempt.step, MFS_STEP_DOWNLOAD);
	cr_assert_str_eq(m->attempt.v.version, "1.2.0");
	cr_assert_eq(m->attempt.why, MFS_NET_TIMEOUT);
	cr_assert_eq(m->attempt.starts, 4);
	cr_assert_eq(m->attempt.not_before, 80);
	cr_assert(m->attempt.by_hand);
	cr_assert_eq(m->observation.seconds, 30);
	cr_assert_eq(m->refusal.why, MFS_DECRYPT_FAILED);
	cr_assert_not(mfs_sha256_is_zero(&m->refusal.key));
	cr_assert_str_eq(m->pin, "1.2.0");
	cr_assert_eq(m->policy_why, MFS_HASH_MISMATCH);
	cr_assert_str_eq(m->policy_detail, "spoilt");
	cr_assert_eq(m->offer_why, MFS_NOT_SELECTED);
	cr_assert_str_eq(m->offer_detail, "passed over");
	cr_assert_eq(c->budget_bytes, 5);
	cr_assert_eq(c->n_repos, 2);
	cr_assert_eq(mfs_cycle_repo(c, "second")->timestamp_version, 8);
	cr_assert_eq(mfs_cycle_repo(c, "second")->floor.time, 6);
	cr_assert_eq(mfs_cycle_repo(c, "second")->floor.boot, 1);
	cr_assert_eq(mfs_cycle_json(c, &out, &len, &err), MFS_OK, "%s", err.msg);
	for (size_t k = 0; k <= len; k++)
		cr_assert_eq(out[k], text[k], "at %zu: %.60s, not %.60s", k, out + k, text + k);
	free(out);
	mfs_cycle_free(c);
}

Test(cycle, the_floor_of_the_host_is_the_latest_of_its_repositories)
{
	/* As an earlier version wrote it: the floor is nobody's. */
	const char *text = "{\"event_seq\":9,\"format\":\"modelfs-cycle/1.1\",\"models\":[],\"repositories\":[{\"name\":\"a\"},"
		"{\"name\":\"b\"}],\"time_floor\":1000,\"time_floor_boot\":50}";
	struct mfs_cycle *c;

	cr_assert_eq(parse(text, &c), MFS_OK);
	cr_assert_eq(mfs_cycle_floor_rest(c).time, 1000);
	cr_assert_eq(mfs_cycle_floor_at(c->floor, 60), 1010);
	cr_assert_eq(mfs_cycle_floor_at(c->floor, 7), 1007, "after another boot");
	cr_assert(mfs_cycle_floor_set(c, "a", 1005, 60, false));
	cr_assert_eq(c->floor.time, 1000, "1010 by now");
	cr_assert(mfs_cycle_floor_set(c, "b", 2000, 70, false));
	cr_assert_eq(c->floor.time, 2000);
	cr_assert_eq(mfs_cycle_floor_rest(c).time, 0);
	cr_assert_not(mfs_cycle_floor_set(c, "b", 2000, 70, false));
	cr_assert(mfs_cycle_floor_set(c, "b", 0, 5000, true));
	cr_assert(c->floor.time == 1005 && c->floor.boot == 60, "what the other one raised stays");
	cr_assert(mfs_cycle_floor_set(c, "a", 0, 5000, true));
	cr_assert(c->floor.time == 0 && c->floor.boot == 0);
	cr_assert_not(mfs_cycle_floor_set(c, "a", 0, 5000, true));
	mfs_cycle_free(c);
	/* Nobody's goes with whatever is taken back: it may be what is to be taken back. */
	cr_assert_eq(parse(text, &c), MFS_OK);
	cr_assert(mfs_cycle_floor_set(c, "a", 900, 60, false));
	cr_assert(mfs_cycle_floor_set(c, "b", 0, 60, true));
	cr_assert_eq(c->floor.time, 900);
	mfs_cycle_free(c);
}

Test(cycle, a_bad_record_of_an_update_is_refused)
{
	static const char *const bad[] = {
		HOST(UPDATED("det", "[]"), ""), HOST(UPDATED("det", "{}"), ""), HOST(UPDATED("det", "{\"step\":\"observe\"}"), ""),
		HOST(UPDATED("det", "{\"step\":\"commit\"}"), ""), HOST(UPDATED("det", "{\"step\":7}"), ""),
		HOST(UPDATED("det", "{\"step\":\"download\"}"), ""), /* of what? */
		HOST(UPDATED("det", "{\"step\":\"idle\",\"version\":\"1.0.0\"}"), ""),
		HOST(UPDATED("det", "{\"manifest\":\"" HEX64 "\",\"step\":\"idle\",\"version\":\"no\"}"), ""),
		HOST(UPDATED("det", "{\"starts\":-1,\"step\":\"idle\"}"), ""),
		HOST(UPDATED("det", "{\"starts\":4294967297,\"step\":\"idle\"}"), ""),
		HOST(UPDATED("det", "{\"by_hand\":1,\"step\":\"idle\"}"), ""),
		HOST(UPDATED("det", "{\"outcome\":1,\"step\":\"idle\"}"), ""), HOST(OFFERED("[]"), ""),
		HOST(OFFERED("{\"detail\":7,\"outcome\":\"revoked\"}"), ""), HOST(OFFERED("{\"outcome\":{}}"), ""),
		HOST("", REPO("default") "," REPO("default")), HOST("", REPO("../x")), HOST("", "{}"), HOST("", "[]"),
		"{\"budget\":[],\"event_seq\":9,\"format\":\"modelfs-cycle/1.1\",\"models\":[],\"time_floor\":4}",
	};
	struct mfs_cycle *c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(parse(bad[i], &c), MFS_MALFORMED, "%s", bad[i]);
}

Test(cycle, an_attempt_is_copied_with_its_words)
{
	struct mfs_cycle_attempt a = { .step = MFS_STEP_HEALTH, .starts = 2, .detail = strdup("why") }, b = { 0 };

	cr_assert_eq(mfs_cycle_attempt_copy(&b, &a, NULL), MFS_OK);
	cr_assert_str_eq(b.detail, "why");
	cr_assert_neq(b.detail, a.detail);
	mfs_cycle_attempt_clear(&a);
	cr_assert_eq(mfs_cycle_attempt_copy(&b, &a, NULL), MFS_OK);
	cr_assert_null(b.detail);
	mfs_cycle_attempt_clear(&b);
}

/* ---- documents of many models ------------------------------------------------------------------------ */

static void
memo_says_the_same(const struct mfs_cycle *c, struct mfs_memo *memo, const char *what, bool differs)
{
	static char before[16384];
	struct mfs_err err = MFS_ERR_INIT;
	char *fresh, *kept;
	size_t n, k;

	cr_assert_eq(mfs_cycle_json(c, &fresh, &n, &err), MFS_OK, "%s: %s", what, err.msg);
	cr_assert_eq(mfs_cycle_json_memo(c, memo, &kept, &k, &err), MFS_OK, "%s: %s", what, err.msg);
	cr_assert_eq(k, n, "%s", what);
	cr_assert_str_eq(kept, fresh, "%s", what);
	cr_assert_eq(differs, strcmp(before, fresh) != 0, "%s", what);
	cr_assert_lt(n, sizeof(before));
	memcpy(before, fresh, n + 1);
	free(fresh);
	free(kept);
}

/* What is written never depends on what was written before: every field of a record counts. */
Test(cycle, a_changed_record_is_never_written_as_it_was)
{
	const char *text = HOST(UPDATED("det", ATTEMPT) "," UPDATED("seg", ATTEMPT), REPO("default"));
	struct mfs_memo *memo = mfs_memo_new();
	struct mfs_cycle_model *m, *added;
	struct mfs_cycle *c;

	cr_assert_eq(parse(text, &c), MFS_OK);
	m = mfs_cycle_find(c, "det");
	memo_says_the_same(c, memo, "first", true);
	memo_says_the_same(c, memo, "again", false);
#define CHANGE(what) do { what; memo_says_the_same(c, memo, #what, true); } while (0)
	CHANGE(m->exposure_next++);
	CHANGE(m->generation++);
	CHANGE(m->held = !m->held);
	CHANGE(m->active_since++);
	CHANGE(m->last_activation_ns++);
	CHANGE(m->last_outcome = MFS_REVOKED);
	CHANGE(m->last_outcome_time++);
	CHANGE(m->last_detail[0] = 'y');
	CHANGE(m->pin[0] = '2');
	CHANGE(m->pin[0] = '\0');
	CHANGE(m->attempt.step = MFS_STEP_HEALTH);
	CHANGE(m->attempt.v.manifest.b[31]++);
	CHANGE(m->attempt.v.version[0] = '2');
	CHANGE(m->attempt.v.variant[0] = 'D');
	CHANGE(m->attempt.v.release++);
	CHANGE(m->attempt.v.key_epoch++);
	CHANGE(m->attempt.since++);
	CHANGE(m->attempt.deadline++);
	CHANGE(m->attempt.not_before++);
	CHANGE(m->attempt.starts++);
	CHANGE(m->attempt.failures++);
	CHANGE(m->attempt.why = MFS_IO);
	CHANGE(m->attempt.detail[2] = 'o');
	CHANGE(m->attempt.free_bytes++);
	CHANGE(m->attempt.by_hand = false);
	CHANGE(m->attempt.rollback = true);
	CHANGE(m->observation.v.manifest.b[0]++);
	CHANGE(m->observation.seconds++);
	CHANGE(m->observation.total++);
	CHANGE(m->observation.checks++);
	CHANGE(m->observation.undecided++);
	CHANGE(m->observation.by_hand = false);
	CHANGE(m->refusal.v.version[2] = '9');
	CHANGE(m->refusal.why = MFS_MALFORMED);
	CHANGE(m->refusal.time++);
	CHANGE(m->refusal.detail[0] = 'N');
	CHANGE(m->refusal.key.b[5]++);
	CHANGE((free(m->policy_detail), m->policy_why = MFS_MALFORMED, m->policy_detail = strdup("vanished")));
	CHANGE(m->policy_detail[0] = 'S');
	CHANGE(mfs_cycle_attempt_clear(&m->attempt));
	CHANGE(m->extra_json = strdup("{\"soon\":1}"));
	CHANGE(m->offer_why = MFS_REVOKED);
	CHANGE(m->offer_detail[0] = 'P');
	CHANGE(m->extra_json[8] = '2');
	CHANGE((m->activations = calloc(2, sizeof(*m->activations)), m->n_activations = 1, m->activations[0].time_ns = 1));
	CHANGE(m->activations[0].time_ns++);
	CHANGE(m->activations[0].manifest.b[9]++);
	CHANGE(m->n_activations = 2);
	CHANGE(c->event_seq++);
	CHANGE(c->floor.time++);
	CHANGE(c->repos[0].failures++);
	CHANGE(cr_assert_eq(mfs_cycle_add(c, "next", &added, NULL), MFS_OK)); /* moves the records */
	CHANGE(mfs_cycle_find(c, "seg")->generation++);
	CHANGE(cr_assert_eq(mfs_cycle_add(c, "a", &added, NULL), MFS_OK));
	memo_says_the_same(c, memo, "and nothing more", false);
	mfs_memo_free(memo);
	mfs_cycle_free(c);
}

/* Levels count from the top of the document, as its reader counts them: what it would refuse is not written. */
Test(cycle, a_field_too_deep_to_be_read_back_is_not_written)
{
	for (size_t levels = 11; levels <= 14; levels++) {
		char extra[64] = "{\"x\":";
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_cycle *c, *back = NULL;
		char *text = NULL;
		size_t len;
		enum mfs_code code;

		for (size_t k = 0; k < levels; k++)
			strcat(extra, "[");
		for (size_t k = 0; k < levels; k++)
			strcat(extra, "]");
		strcat(extra, "}");
		cr_assert_eq(parse(DOC(MODEL), &c), MFS_OK);
		c->models[0].extra_json = strdup(extra);
		code = mfs_cycle_json(c, &text, &len, &err);
		cr_assert_eq(code, levels <= 13 ? MFS_OK : MFS_MALFORMED, "%zu: %s", levels, err.msg);
		if (code == MFS_OK)
			cr_assert_eq(mfs_cycle_parse(MFS_SPAN(text, len), &back, &err), MFS_OK, "%zu: %s", levels, err.msg);
		free(text);
		mfs_cycle_free(back);
		mfs_cycle_free(c);
	}
}
