/* SPDX-License-Identifier: Apache-2.0 */
/* Status documents: what people and programs read, from facts made by hand. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>

#include "io.h"
#include "shm.h"
#include "status_facts.h"

static struct mfs_config_model conf = { .id = (char *)"det", .model_id = (char *)"detector", .serve = MFS_SERVE_AUTO,
	.repo = -1 };
static struct mfs_config config = { .path = (char *)"/etc/modelfs.yaml", .mount = (char *)"/models", .counter = (char *)"file",
	.models = &conf, .n_models = 1 };
static struct mfs_manifest manifests[2];
static struct mfs_version versions[2];
static struct mfs_engine_version shown[2];
static struct mfs_facts_model model;
static struct mfs_facts_host host;

static void
set_up(void)
{
	manifests[0] = (struct mfs_manifest){ .id = { { 0xab } }, .model_id = (char *)"detector", .variant = (char *)"int8",
		.version = (char *)"1.1.0", .release = 2, .key_epoch = 1, .n_files = 3, .total_size = 5000000000 };
	manifests[1] = manifests[0];
	manifests[1].version = (char *)"1.0.0";
	manifests[1].release = 1;
	versions[0] = (struct mfs_version){ .m = &manifests[0] };
	versions[1] = (struct mfs_version){ .m = &manifests[1] };
	shown[0] = (struct mfs_engine_version){ .v = &versions[0], .active = true };
	shown[1] = (struct mfs_engine_version){ .v = &versions[1], .previous = true };
	model = (struct mfs_facts_model){ .conf = &conf, .tier = MFS_TIER_RESIDENT, .has_residency = true };
	model.m = (struct mfs_engine_model){ .versions = shown, .n = 2, .generation = 9, .active_since = 1763685600,
		.last_outcome = MFS_HASH_MISMATCH, .last_outcome_time = 1763689200, .floor_epoch = 1, .floor_release = 2 };
	(void)snprintf(model.m.last_detail, sizeof(model.m.last_detail), "b: payload/x: chunk 3");
	host = (struct mfs_facts_host){ .config = &config, .protection = "file counter: proves nothing", .kind = "file",
		.mounted = true, .mounted_at = 1763685500, .now = 1763690000, .serve_pid = 42, .keeper_pid = 41, .restarts = 2,
		.passthrough = true, .read_ahead_kb = 1024, .store_bytes = 123, .has_store_bytes = true, .resident_bytes = 77,
		.sandbox = { true, true, true, true, 4 }, .state = { true, false, 262144, 262144, "" } };
}

TestSuite(status, .init = set_up);

static char *
document(bool one, bool json, size_t cap)
{
	struct mfs_err err = MFS_ERR_INIT;
	char *out = NULL;
	size_t len = 0;

	cr_assert_eq(mfs_facts_document(&host, &model, 1, one, json, cap, &out, &len, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(strlen(out), len);
	cr_assert_eq(out[len - 1], '\n');
	return out;
}

static json_t *
parsed(bool one, size_t cap)
{
	char *text = document(one, true, cap);
	json_error_t why;
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &why);

	cr_assert_not_null(o, "%s", why.text);
	free(text);
	return o;
}

static void
has(const char *text, const char *part)
{
	cr_assert_not_null(strstr(text, part), "no '%s' in:\n%s", part, text);
}

Test(status, text_answers_the_questions_of_3_am)
{
	char *text = document(true, false, MFS_SNAP_BYTES);

	has(text, "serving:    1.1.0 (release 2, int8) since 2025-11-21 00:40:00 UTC, resident\n");
	has(text, "next:       none known\n");
	has(text, "updates:    by hand (no repository configured)\n");
	has(text, "last:       hash_mismatch at 2025-11-21 01:40:00 UTC: b: payload/x: chunk 3\n");
	has(text, "note:       nothing to do\n");
	has(text, "rollback:   to 1.0.0\n");
	has(text, "protection: file counter: proves nothing; freshness unproven: no repository\n");
	free(text);
}

Test(status, text_says_why_nothing_is_served)
{
	char *text;

	model.m.n = 0;
	model.m.absent = MFS_KEY_UNTRUSTED;
	(void)snprintf(model.m.absent_detail, sizeof(model.m.absent_detail), "its key was removed");
	text = document(true, false, MFS_SNAP_BYTES);
	has(text, "serving:    nothing\n");
	has(text, "note:       key_untrusted: its key was removed\n");
	has(text, "rollback:   nothing to go back to\n");
	free(text);
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "det: serving nothing\n");
	has(text, "det: key_untrusted: its key was removed\n");
	free(text);
	model.m.absent = MFS_OK;
	host.protection = NULL;
	host.mounted = false;
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "not mounted\n");
	has(text, "nothing was ever installed here");
	free(text);
}

Test(status, text_says_that_a_model_is_held_or_not_resident)
{
	char *text;

	model.m.held = true;
	text = document(true, false, MFS_SNAP_BYTES);
	has(text, "run 'modelfs unpin det'");
	free(text);
	model.m.held = false;
	model.tier = MFS_TIER_PAGED;
	model.residency.code = MFS_NO_MEMORY;
	(void)snprintf(model.residency.why, sizeof(model.residency.why), "does not fit 25 %%");
	text = document(true, false, MFS_SNAP_BYTES);
	has(text, ", paged\n");
	has(text, "note:       paged, because: does not fit 25 %\n");
	free(text);
	versions[0].key_code = MFS_KEY_UNAVAILABLE;
	text = document(true, false, MFS_SNAP_BYTES);
	has(text, "note:       key_unavailable");
	free(text);
}

Test(status, a_weak_sandbox_and_refused_chunks_are_never_silent)
{
	char *text;

	host.sandbox.landlock = false;
	host.chunk_failures = 3;
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "sandbox: of serve weaker than it should be: without Landlock;");
	has(text, "3 chunks did not verify");
	cr_assert(strstr(text, "of fetch") == NULL, "nothing is known of a fetch that never ran");
	free(text);
	host.has_fetch_sandbox = true;
	host.fetch_sandbox = (struct mfs_sandbox_report){ .no_new_privs = true };
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "sandbox: of fetch weaker than it should be: without uid seccomp Landlock;");
	free(text);
}

Test(status, what_nobody_can_go_back_to_is_not_promised)
{
	char *text = document(true, false, MFS_SNAP_BYTES);
	const json_t *gone;
	json_t *o;

	has(text, "rollback:   to 1.0.0\n");
	free(text);
	o = parsed(true, MFS_SNAP_BYTES);
	cr_assert(json_is_null(json_object_get(o, "gone")));
	json_decref(o);
	model.m.n = 1;
	model.m.gone = (struct mfs_engine_gone){ .version = "1.0.0", .previous = true, .why = MFS_IO, .detail = "state/manifests/ab: absent" };
	text = document(true, false, MFS_SNAP_BYTES);
	has(text, "rollback:   nothing to go back to; 1.0.0 is gone: io: state/manifests/ab: absent\n");
	free(text);
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, ": rollback: 1.0.0 is gone: io: state/manifests/ab: absent\n");
	free(text);
	o = parsed(true, MFS_SNAP_BYTES);
	gone = json_object_get(o, "gone");
	cr_assert_str_eq(json_string_value(json_object_get(gone, "version")), "1.0.0");
	cr_assert_str_eq(json_string_value(json_object_get(gone, "outcome")), "io");
	cr_assert(json_is_true(json_object_get(gone, "previous")));
	json_decref(o);
	model.m.gone.why = MFS_REVOKED;
	text = document(true, false, MFS_SNAP_BYTES);
	has(text, "; 1.0.0 is refused: revoked: ");
	free(text);
}

Test(status, a_collector_that_takes_nothing_is_said_once)
{
	const json_t *t;
	char *text;
	json_t *o;

	o = parsed(false, MFS_SNAP_BYTES);
	cr_assert(json_is_null(json_object_get(o, "telemetry")), "it is off");
	json_decref(o);
	host.has_telemetry = true;
	host.telemetry = (struct mfs_telemetry_counts){ .queued = 3, .sent = 5 };
	text = document(false, false, MFS_SNAP_BYTES);
	cr_assert_null(strstr(text, "telemetry"), "%s", text);
	free(text);
	host.telemetry = (struct mfs_telemetry_counts){ .queued = 3, .sent = 5, .failing_since = 1763685600, .why = MFS_NET_TIMEOUT };
	(void)snprintf(host.telemetry.detail, sizeof(host.telemetry.detail), "no answer");
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "telemetry: nothing is delivered since 2025-11-21 00:40:00 UTC, 3 records wait: net_timeout: no answer\n");
	free(text);
	text = document(true, false, MFS_SNAP_BYTES);
	cr_assert_null(strstr(text, "telemetry"), "of the host, not of each model: %s", text);
	free(text);
	o = parsed(true, MFS_SNAP_BYTES);
	t = json_object_get(o, "telemetry");
	cr_assert_eq(json_integer_value(json_object_get(t, "queued")), 3);
	cr_assert_eq(json_integer_value(json_object_get(t, "sent")), 5);
	cr_assert_str_eq(json_string_value(json_object_get(t, "failing_since")), "2025-11-21T00:40:00Z");
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(t, "last"), "outcome")), "net_timeout");
	json_decref(o);
	host.telemetry.why = MFS_OK; /* serve was restarted, and was not refused anew yet */
	host.telemetry.queued = 1;
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "UTC, 1 record waits\n");
	free(text);
}

Test(status, a_full_disk_of_the_state_is_said_and_nothing_while_there_is_room)
{
	char *text = document(false, false, MFS_SNAP_BYTES);
	const json_t *state;
	json_t *o;

	cr_assert_null(strstr(text, "state: "), "%s", text);
	free(text);
	o = parsed(false, MFS_SNAP_BYTES);
	state = json_object_get(o, "state");
	cr_assert(json_is_false(json_object_get(state, "full")) && json_is_null(json_object_get(state, "unwritten")));
	cr_assert_eq(json_integer_value(json_object_get(state, "reserve")), 262144);
	json_decref(o);
	host.state = (struct mfs_engine_state){ true, true, 65536, 262144, "state: anchor.0: No space left on device" };
	text = document(false, false, MFS_SNAP_BYTES);
	has(text, "state: a revocation acts from memory alone: state: anchor.0: No space left on device\n");
	has(text, " is full: 64 of 256 KiB of the reserve are left; nothing new is activated; make room there\n");
	free(text);
	o = parsed(true, MFS_SNAP_BYTES);
	state = json_object_get(o, "state");
	cr_assert(json_is_true(json_object_get(state, "full")));
	cr_assert_eq(json_integer_value(json_object_get(state, "reserve_wanted")), 262144);
	cr_assert_str_eq(json_string_value(json_object_get(state, "unwritten")), "state: anchor.0: No space left on device");
	json_decref(o);
}

Test(status, json_has_the_fields_that_programs_read)
{
	json_t *o = parsed(true, MFS_SNAP_BYTES), *all = parsed(false, MFS_SNAP_BYTES);
	const json_t *active = json_object_get(o, "active");

	cr_assert_str_eq(json_string_value(json_object_get(o, "format")), "modelfs-status/1");
	cr_assert_str_eq(json_string_value(json_object_get(o, "id")), "det");
	cr_assert_str_eq(json_string_value(json_object_get(o, "model_id")), "detector");
	cr_assert_str_eq(json_string_value(json_object_get(active, "version")), "1.1.0");
	cr_assert_str_eq(json_string_value(json_object_get(active, "tier")), "resident");
	cr_assert_str_eq(json_string_value(json_object_get(active, "since")), "2025-11-21T00:40:00Z");
	cr_assert_eq(json_integer_value(json_object_get(active, "size")), 5000000000);
	cr_assert_eq(strlen(json_string_value(json_object_get(active, "manifest"))), 64);
	cr_assert_eq(json_array_size(json_object_get(o, "versions")), 2);
	cr_assert_str_eq(json_string_value(json_object_get(o, "previous")), "1.0.0");
	cr_assert_eq(json_integer_value(json_object_get(json_object_get(o, "floor"), "release")), 2);
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(o, "last"), "class")), "trust");
	cr_assert_eq(json_integer_value(json_object_get(o, "serve_pid")), 42);
	cr_assert_eq(json_integer_value(json_object_get(o, "keeper_pid")), 41);
	cr_assert_eq(json_integer_value(json_object_get(o, "restarts")), 2);
	cr_assert(json_is_true(json_object_get(o, "passthrough")));
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(o, "mounted"), "path")), "/models");
	cr_assert_eq(json_integer_value(json_object_get(json_object_get(o, "sandbox"), "landlock_abi")), 4);
	cr_assert_eq(json_array_size(json_object_get(all, "models")), 1);
	cr_assert(json_is_null(json_object_get(o, "fetch_sandbox")));
	json_decref(o);
	host.has_fetch_sandbox = true;
	host.fetch_sandbox = (struct mfs_sandbox_report){ .uid = true, .no_new_privs = true, .seccomp = true };
	o = parsed(true, MFS_SNAP_BYTES);
	cr_assert(json_is_true(json_object_get(json_object_get(o, "fetch_sandbox"), "uid")));
	cr_assert(json_is_false(json_object_get(json_object_get(o, "fetch_sandbox"), "landlock")));
	json_decref(o);
	json_decref(all);
}

Test(status, json_of_what_is_absent_is_null_and_stays_valid)
{
	json_t *o;

	model.m.n = 0;
	model.m.last_outcome_time = 0;
	host.mounted = false;
	host.protection = NULL;
	o = parsed(true, MFS_SNAP_BYTES);
	cr_assert(json_is_null(json_object_get(o, "active")));
	cr_assert(json_is_null(json_object_get(o, "last")));
	cr_assert(json_is_null(json_object_get(o, "mounted")));
	cr_assert(json_is_null(json_object_get(o, "rollback_protection")));
	json_decref(o);
}

Test(status, a_document_that_grows_too_long_loses_its_lists_first)
{
	json_t *o = parsed(false, 600);
	const json_t *m = json_array_get(json_object_get(o, "models"), 0);

	cr_assert_null(json_object_get(m, "versions"));
	cr_assert_not_null(json_object_get(m, "active"));
	json_decref(o);
}

Test(status, bytes_that_are_no_text_do_not_break_json)
{
	json_t *o;

	(void)snprintf(model.m.last_detail, sizeof(model.m.last_detail), "\xff\xfe");
	o = parsed(true, MFS_SNAP_BYTES);
	cr_assert_not_null(json_string_value(json_object_get(json_object_get(o, "last"), "detail")));
	json_decref(o);
}

/* name{labels} value, HELP and TYPE before, each family once: what a scraper checks. */
static void
metrics_valid(char *text)
{
	char family[128] = "", *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
		bool quoted = false;
		const char *p;

		if (strncmp(line, "# HELP ", 7) == 0) {
			cr_assert_neq(sscanf(line + 7, "%127[a-z_]", family), 0);
			continue;
		}
		if (strncmp(line, "# TYPE ", 7) == 0) {
			cr_assert_eq(strncmp(line + 7, family, strlen(family)), 0, "%s", line);
			continue;
		}
		cr_assert(name == strlen(family) && strncmp(line, family, name) == 0, "outside its family: %s", line);
		for (p = line + name; *p != '\0' && (quoted || *p != ' '); p++) {
			if (*p == '\\' && quoted)
				cr_assert_not_null(strchr("\\\"n", *++p), "escape in %s", line);
			else if (*p == '"')
				quoted = !quoted;
		}
		cr_assert(!quoted && *p == ' ', "%s", line);
		cr_assert_eq(strspn(p + 1, "0123456789"), strlen(p + 1), "value of %s", line);
	}
}

Test(status, metrics_are_what_a_scraper_accepts)
{
	char *text = NULL, *copy;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	manifests[0].variant = (char *)"a\"b\\c\nd"; /* never a valid variant: the writer escapes all the same */
	mfs_metrics_models(f, &model, 1);
	mfs_metrics_host(f, &host);
	cr_assert_eq(fclose(f), 0);
	has(text, "modelfs_model_info{model=\"det\",version=\"1.1.0\",release=\"2\",variant=\"a\\\"b\\\\c\\nd\",tier=\"resident\"} 1\n");
	has(text, "modelfs_serve_restarts_total 2\n");
	has(text, "modelfs_store_bytes 123\n");
	has(text, "modelfs_resident_bytes 77\n");
	has(text, "modelfs_rollback_protection{kind=\"file\"} 1\n");
	copy = strdup(text);
	metrics_valid(copy);
	free(copy);
	free(text);
}

/* ---- the manual says what the table says ------------------------------------------------------------ */

static const struct { const char *name; enum mfs_code code; } outcomes[] = {
#define ROW(sym, num, name, cls, err) { name, MFS_##sym },
	MFS_OUTCOMES(ROW)
#undef ROW
};

Test(status, manual_lists_every_outcome_with_number_class_and_exit_code)
{
	uint8_t *page;
	size_t len, rows = 0;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_file_read(AT_FDCWD, MAN_PAGE, 1 << 20, &page, &len, &err), MFS_OK, "%s", err.msg);
	for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
		char row[256];

		(void)snprintf(row, sizeof(row), "\n.It %d Ta %s Ta %s Ta %d\n", (int)outcomes[i].code, outcomes[i].name,
			mfs_class_name(mfs_code_class(outcomes[i].code)), (int)mfs_code_exit(outcomes[i].code));
		has((const char *)page, row);
	}
	for (const char *p = (const char *)page; (p = strstr(p, "\n.It ")) != NULL; p += 5) {
		int number, end = 0;

		if (sscanf(p, "\n.It %d Ta %*[a-z_] Ta %*[a-z] Ta %*d%n", &number, &end) == 1 && end > 0)
			rows++;
	}
	cr_assert_eq(rows, sizeof(outcomes) / sizeof(outcomes[0]), "the manual has rows that the table has not");
	free(page);
}

/* ---- updates ---------------------------------------------------------------------------------------------- */

static struct mfs_config_repository repository = { .name = (char *)"default" };

static void
followed(void)
{
	conf.repo = 0;
	config.repos = &repository;
	config.n_repos = 1;
	model.has_updates = true;
	model.repo = (struct mfs_engine_repo){ .last_check = 1763689000, .last_success = 1763689000, .next_check = 1763690400 };
}

Test(status, text_says_how_far_the_next_version_is_and_why_it_waits)
{
	struct mfs_engine_update *u = &model.m.update;
	char *text;

	followed();
	text = document(true, false, SIZE_MAX);
	has(text, "next:       none known\n");
	has(text, "updates:    from default, checked 2025-11-21 01:36:40 UTC, next 2025-11-21 02:00:00 UTC\n");
	free(text);
	/* Metadata was fresh once, and now nobody answers. */
	model.repo.why = MFS_NET_TIMEOUT;
	model.repo.fresh_until = 1763689600;
	model.expired = mfs_facts_expired(&model.repo, 1763689599);
	text = document(true, false, SIZE_MAX);
	cr_assert_null(strstr(text, "expired"), "%s", text);
	cr_assert_null(strstr(text, "unproven"), "%s", text);
	free(text);
	model.expired = mfs_facts_expired(&model.repo, 1763689600);
	text = document(true, false, SIZE_MAX);
	has(text, "; metadata expired 2025-11-21 01:46:40 UTC: nothing new is activated\n");
	has(text, "; freshness unproven: no fresh metadata of its repository\n");
	free(text);
	model.expired = false;
	model.repo.why = MFS_OK;
	u->step = MFS_STEP_DOWNLOAD;
	(void)snprintf(u->v.version, sizeof(u->v.version), "1.2.0");
	model.updates = (struct mfs_update_facts){ .done = 250, .total = 1000, .rate = 3 << 20 };
	text = document(true, false, SIZE_MAX);
	has(text, "next:       1.2.0, download 25 %, 3.0 MiB/s\n");
	free(text);
	u->why = MFS_CONDITION_UNMET;
	(void)snprintf(u->detail, sizeof(u->detail), "window: 01:00-05:00, it is 12:00 here");
	text = document(true, false, SIZE_MAX);
	has(text, "note:       download of 1.2.0 waits: condition_unmet: window: 01:00-05:00, it is 12:00 here\n");
	free(text);
	u->step = MFS_STEP_IDLE;
	u->why = MFS_OK;
	u->observation.v.manifest.b[0] = 1;
	(void)snprintf(u->observation.v.version, sizeof(u->observation.v.version), "1.1.0");
	u->observation.seconds = 30;
	u->observation.total = 600;
	text = document(true, false, SIZE_MAX);
	has(text, "next:       1.1.0 is observed: 30 of 600 s\n");
	free(text);
	model.repo.why = MFS_NET_TIMEOUT;
	(void)snprintf(model.repo.detail, sizeof(model.repo.detail), "no answer");
	text = document(true, false, SIZE_MAX);
	has(text, "note:       the last check failed: net_timeout: no answer\n");
	free(text);
}

/* A version that others get, or a repository that never answered, is no "nothing to do". */
Test(status, text_says_why_nothing_happens)
{
	struct mfs_engine_update *u = &model.m.update;
	char *text;

	followed();
	model.has_updates = true;
	model.updates = (struct mfs_update_facts){ .offered = true, .offer = MFS_NOT_SELECTED, .current = true,
		.offer_detail = "1.1.0 is active: nothing newer is offered" };
	text = document(true, false, SIZE_MAX);
	has(text, "note:       nothing to do\n");
	free(text);
	model.updates = (struct mfs_update_facts){ .offered = true, .offer = MFS_NOT_SELECTED,
		.offer_detail = "1.1.0 is what this host is offered; rollout canary: not in the fraction" };
	text = document(true, false, SIZE_MAX);
	has(text, "note:       1.1.0 is what this host is offered; rollout canary: not in the fraction\n");
	free(text);
	u->step = MFS_STEP_DOWNLOAD;
	text = document(true, false, SIZE_MAX);
	has(text, "note:       its update is under way\n");
	free(text);
	u->step = MFS_STEP_IDLE;
	model.updates = (struct mfs_update_facts){ 0 };
	u->observation.v.manifest.b[0] = 1;
	text = document(true, false, SIZE_MAX);
	has(text, "note:       committed when its observation is over\n");
	free(text);
	model.repo.last_success = 0;
	text = document(true, false, SIZE_MAX);
	has(text, "updates:    from default, never checked with success, ");
	free(text);
	model.repo.last_check = 0;
	text = document(true, false, SIZE_MAX);
	has(text, "updates:    from default, never checked yet, ");
	free(text);
}

Test(status, json_and_metrics_have_the_cycle)
{
	char *text = NULL;
	size_t len;
	json_t *o, *c;
	FILE *f;

	followed();
	model.m.update.step = MFS_STEP_HEALTH;
	(void)snprintf(model.m.update.v.version, MFS_VERSION_MAX, "1.2.0");
	o = parsed(true, SIZE_MAX);
	c = json_object_get(o, "cycle");
	cr_assert_str_eq(json_string_value(json_object_get(c, "state")), "health");
	cr_assert_str_eq(json_string_value(json_object_get(c, "repository")), "default");
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(c, "next"), "version")), "1.2.0");
	cr_assert(json_is_null(json_object_get(c, "observation")));
	json_decref(o);
	cr_assert_not_null(f = open_memstream(&text, &len));
	mfs_metrics_updates(f, &host, &model, 1);
	(void)fclose(f);
	has(text, "modelfs_cycle_state{model=\"det\",state=\"health\"} 1\n");
	has(text, "modelfs_last_check_success_timestamp_seconds{model=\"det\"} 1763689000\n");
	free(text);
}
