/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: findings, their order of gravity, and what it prints; folders and locks of setup.c. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>

#include "doctor.h"
#include "scratch.h"

static struct mfs_doctor
doctor(void)
{
	return (struct mfs_doctor){ .checks = json_array(), .root = true };
}

static const char *
level_of(const struct mfs_doctor *d, size_t i)
{
	return json_string_value(json_object_get(json_array_get(d->checks, i), "level"));
}

Test(doctor, knows_what_each_kernel_lacks)
{
	static const struct { const char *release, *level, *why; } kernels[] = {
		{ "4.19.0-1-amd64", "fail", "does not run" },
		{ "5.10.0-30-amd64", "warn", "inotify" },
		{ "5.15.0", "warn", "5.16" },
		{ "6.1.0-18-amd64", "warn", "never swapped" },
		{ "6.8.12", "warn", "passthrough" },
		{ "6.12.1", "ok", "6.12.1" },
		{ "6.18.44", "ok", "6.18.44" },
		{ "7.0-rc1", "ok", "7.0-rc1" },
		{ "odd", "warn", "not understood" },
	};

	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		struct mfs_doctor d = doctor();
		const char *why;

		mfs_doctor_kernel(&d, kernels[i].release);
		cr_assert_eq(json_array_size(d.checks), 1);
		cr_assert_str_eq(level_of(&d, 0), kernels[i].level, "%s", kernels[i].release);
		why = json_string_value(json_object_get(json_array_get(d.checks, 0), "why"));
		cr_assert_not_null(strstr(why, kernels[i].why), "%s: %s", kernels[i].release, why);
		json_decref(d.checks);
	}
}

Test(doctor, a_full_disk_of_the_state_is_broken)
{
	static const struct { bool full; const char *unwritten; unsigned broken; } cases[] = {
		{ false, NULL, 0 }, { true, NULL, 1 }, { true, "No space left on device", 2 }, { false, "Input/output error", 1 },
	};
	struct mfs_config c = { .read_ahead_kb = 1024, .state = (char *)"/s" };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mfs_doctor d = doctor();
		unsigned broken = 0;
		const json_t *v;
		size_t k;

		d.status = json_pack("{s:{s:b, s:i, s:i, s:s?}}", "state", "full", cases[i].full, "reserve", 65536, "reserve_wanted",
			262144, "unwritten", cases[i].unwritten);
		cr_assert_not_null(d.status);
		mfs_doctor_served(&d, &c);
		json_array_foreach(d.checks, k, v)
			broken += strcmp(json_string_value(json_object_get(v, "what")), "state") == 0 && strcmp(level_of(&d, k), "fail") == 0;
		cr_assert_eq(broken, cases[i].broken, "case %zu: %u", i, broken);
		json_decref(d.status);
		json_decref(d.checks);
	}
}

Test(doctor, says_since_when_telemetry_is_not_delivered)
{
	static const struct { const char *status, *level, *why; } cases[] = {
		{ "null", NULL, NULL },
		{ "{\"queued\":2,\"sent\":7,\"failing_since\":null,\"last\":null}", "ok", "7 records delivered, 2 wait" },
		{ "{\"queued\":2,\"sent\":7,\"failing_since\":\"2026-11-21T00:40:00Z\",\"last\":{\"detail\":\"no answer\"}}", "warn",
			"since 2026-11-21T00:40:00Z, and 2 records wait: no answer" },
	};
	struct mfs_config c = { .read_ahead_kb = 1024, .state = (char *)"/s" };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mfs_doctor d = doctor();
		const json_t *v;
		size_t k, said = 0;

		d.status = json_pack("{s:o}", "telemetry", json_loads(cases[i].status, JSON_DECODE_ANY, NULL));
		mfs_doctor_served(&d, &c);
		json_array_foreach(d.checks, k, v) {
			if (strcmp(json_string_value(json_object_get(v, "what")), "telemetry") != 0)
				continue;
			said++;
			cr_assert_not_null(cases[i].level, "it is off");
			cr_assert_str_eq(level_of(&d, k), cases[i].level);
			cr_assert_not_null(strstr(json_string_value(json_object_get(v, "why")), cases[i].why));
		}
		cr_assert_eq(said, cases[i].level != NULL);
		json_decref(d.status);
		json_decref(d.checks);
	}
}

Test(doctor, names_what_each_sandbox_lacks)
{
	static const char all[] = "{\"uid\":true,\"no_new_privs\":true,\"seccomp\":true,\"landlock\":true}",
		some[] = "{\"uid\":true,\"no_new_privs\":true,\"seccomp\":false,\"landlock\":false}";
	static const struct { const char *serve, *fetch, *serve_level, *fetch_level; } cases[] = {
		{ all, "null", "ok", NULL }, { some, all, "warn", "ok" }, { all, some, "ok", "warn" },
	};
	struct mfs_config c = { .read_ahead_kb = 1024 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mfs_doctor d = doctor();
		const char *found[2] = { NULL, NULL };
		const json_t *v;
		size_t k;

		d.status = json_pack("{s:o, s:o}", "sandbox", json_loads(cases[i].serve, 0, NULL), "fetch_sandbox",
			json_loads(cases[i].fetch, JSON_DECODE_ANY, NULL));
		mfs_doctor_served(&d, &c);
		json_array_foreach(d.checks, k, v) {
			const char *what = json_string_value(json_object_get(v, "what")), *level = json_string_value(json_object_get(v, "level"));

			if (strcmp(what, "sandbox") == 0 || strcmp(what, "fetch sandbox") == 0)
				found[what[0] == 'f'] = level;
			if (strstr(what, "sandbox") != NULL && strcmp(level, "warn") == 0)
				cr_assert_not_null(strstr(json_string_value(json_object_get(v, "why")), "without seccomp landlock"));
		}
		cr_assert_str_eq(found[0], cases[i].serve_level);
		cr_assert(cases[i].fetch_level == NULL ? found[1] == NULL : strcmp(found[1], cases[i].fetch_level) == 0, "case %zu", i);
		json_decref(d.status);
		json_decref(d.checks);
	}
}

Test(doctor, a_metered_condition_needs_a_user_that_the_bus_knows)
{
	static const struct { bool named, unmetered; const char *level, *why; } cases[] = {
		{ true, true, "ok", "61181" }, { false, true, "fail", "nothing is ever downloaded" }, { false, false, "warn", "no name" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mfs_config c = { .update.conditions.unmetered = cases[i].unmetered };
		struct mfs_doctor d = doctor();

		mfs_doctor_fetch_user(&d, &c, 61181, cases[i].named);
		cr_assert_str_eq(level_of(&d, 0), cases[i].level, "case %zu", i);
		cr_assert_not_null(strstr(json_string_value(json_object_get(json_array_get(d.checks, 0), "why")), cases[i].why));
		cr_assert_eq(!json_is_string(json_object_get(json_array_get(d.checks, 0), "fix")), cases[i].named);
		json_decref(d.checks);
	}
}

Test(doctor, exit_code_says_whether_something_is_broken)
{
	struct mfs_doctor d = doctor();
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	json_t *o;

	mfs_doctor_say(&d, MFS_FINE, "clock", NULL, "is set");
	mfs_doctor_say(&d, MFS_WEAK, "swap", "encrypt it", "on disk \x1b[2J");
	cr_assert_eq(mfs_doctor_print(&d, false, f), 0);
	mfs_doctor_say(&d, MFS_BROKEN, "/dev/fuse", "modprobe fuse", "absent");
	cr_assert_eq(mfs_doctor_print(&d, true, f), 1);
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(strncmp(text, "ok    clock: is set\nwarn  swap: on disk ?[2J: encrypt it\n{", 58), 0, "%s", text);
	o = json_loads(strchr(text, '{'), 0, NULL);
	cr_assert_eq(json_integer_value(json_object_get(o, "fail")), 1);
	cr_assert_eq(json_array_size(json_object_get(o, "checks")), 3);
	cr_assert(json_is_null(json_object_get(json_array_get(json_object_get(o, "checks"), 0), "fix")));
	json_decref(o);
	json_decref(d.checks);
	free(text);
}

Test(doctor, every_finding_that_is_not_ok_says_what_to_do)
{
	struct mfs_doctor d = doctor();

	d.root = geteuid() == 0;
	mfs_doctor_host(&d);
	cr_assert_gt(json_array_size(d.checks), 5);
	for (size_t i = 0; i < json_array_size(d.checks); i++)
		if (strcmp(level_of(&d, i), "ok") != 0)
			cr_assert_not_null(json_string_value(json_object_get(json_array_get(d.checks, i), "fix")));
	json_decref(d.checks);
}

/* ---- folders and locks ---------------------------------------------------------------------------------- */

static char root[256];
static int root_fd;
static char state[300], store[300], run[300];
static struct mfs_config config;

static void
set_up(void)
{
	root_fd = scratch_make(root, "setup");
	cr_assert_eq(fchmod(root_fd, 0755), 0);
	(void)snprintf(state, sizeof(state), "%s/a/state", root);
	(void)snprintf(store, sizeof(store), "%s/store", root);
	(void)snprintf(run, sizeof(run), "%s/run", root);
	config = (struct mfs_config){ .state = state, .store = store, .run = run, .user = (char *)"12345" };
}

static void
tear_down(void)
{
	(void)close(root_fd);
	scratch_remove(root);
}

TestSuite(setup, .init = set_up, .fini = tear_down);

Test(setup, makes_folders_that_only_serve_can_read)
{
	struct mfs_folders f, again;
	struct mfs_err err = MFS_ERR_INIT;
	struct stat st;

	cr_assert_neq(mfs_setup_folders(&config, false, &f, &err), MFS_OK, "made without being asked");
	cr_assert_eq(err.sys_errno, ENOENT);
	cr_assert_eq(f.state, -1);
	cr_assert_eq(mfs_setup_folders(&config, true, &f, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(fstat(f.state, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	cr_assert_eq(st.st_uid, geteuid() == 0 ? 12345 : geteuid());
	cr_assert_eq(fstat(f.store, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	cr_assert_eq(fstatat(f.state, "key", &st, AT_SYMLINK_NOFOLLOW), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_uid, geteuid(), "the state key is not serve's file");
	cr_assert_eq(mfs_setup_folders(&config, true, &again, &err), MFS_OK, "%s", err.msg);
	mfs_folders_close(&again);
	mfs_folders_close(&f);
	cr_assert_eq(f.store, -1);
}

Test(setup, a_folder_of_somebody_else_is_refused)
{
	struct mfs_folders f;
	struct mfs_err err = MFS_ERR_INIT;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(mkdir(store, 0755), 0);
	cr_assert_eq(chown(store, 54321, 54321), 0);
	cr_assert_eq(mfs_setup_folders(&config, true, &f, &err), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(err.msg, "54321"), "%s", err.msg);
}

Test(setup, a_lock_keeps_others_out_and_goes_with_its_descriptor)
{
	struct mfs_err err = MFS_ERR_INIT;
	int a, b;

	cr_assert_eq(mfs_lock_take(root_fd, "lock", false, &a, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_lock_take(root_fd, "lock", false, &b, &err), MFS_CONDITION_UNMET);
	cr_assert_eq(b, -1);
	(void)close(a);
	cr_assert_eq(mfs_lock_take(root_fd, "lock", false, &b, &err), MFS_OK);
	(void)close(b);
}

Test(setup, a_lock_that_is_a_link_or_no_file_is_refused)
{
	struct mfs_err err = MFS_ERR_INIT;
	int fd;

	scratch_write(root_fd, "victim", "keep", 4);
	cr_assert_eq(symlinkat("victim", root_fd, "lock"), 0);
	cr_assert_neq(mfs_lock_take(root_fd, "lock", false, &fd, &err), MFS_OK);
	cr_assert_eq(symlinkat("nowhere", root_fd, "lock2"), 0);
	cr_assert_neq(mfs_lock_take(root_fd, "lock2", false, &fd, &err), MFS_OK);
	cr_assert_neq(faccessat(root_fd, "nowhere", F_OK, 0), 0, "made a file through a link");
	cr_assert_eq(mkfifoat(root_fd, "lock3", 0600), 0);
	cr_assert_neq(mfs_lock_take(root_fd, "lock3", false, &fd, &err), MFS_OK);
}

/* ---- options --------------------------------------------------------------------------------------------- */

Test(options, durations)
{
	int64_t ms;

	cr_assert(mfs_duration_parse("90", &ms) && ms == 90000);
	cr_assert(mfs_duration_parse("1500ms", &ms) && ms == 1500);
	cr_assert(mfs_duration_parse("15m", &ms) && ms == 900000);
	cr_assert(mfs_duration_parse("2h", &ms) && ms == 7200000);
	cr_assert(!mfs_duration_parse("", &ms) && !mfs_duration_parse("s", &ms) && !mfs_duration_parse("1d", &ms));
	cr_assert(!mfs_duration_parse("-1s", &ms) && !mfs_duration_parse("99999999999s", &ms));
}

Test(options, before_and_after_positional_arguments)
{
	char *before[] = { (char *)"status", (char *)"-c", (char *)"f.yaml", (char *)"--json", (char *)"det", NULL };
	char *after[] = { (char *)"status", (char *)"det", (char *)"--json", (char *)"-cf.yaml", NULL };
	char *command[] = { (char *)"exec", (char *)"det", (char *)"--", (char *)"ls", (char *)"-l", NULL };
	struct mfs_args a;
	int code;

	cr_assert(mfs_args_parse(5, before, MFS_ARG_JSON, 0, 1, &a, &code));
	cr_assert(a.json && a.n_pos == 1);
	cr_assert_str_eq(a.pos[0], "det");
	cr_assert_str_eq(a.config, "f.yaml");
	cr_assert(mfs_args_parse(4, after, MFS_ARG_JSON, 0, 1, &a, &code));
	cr_assert(a.json && a.n_pos == 1);
	cr_assert_str_eq(a.config, "f.yaml");
	cr_assert(mfs_args_parse(5, command, 0, 2, -1, &a, &code));
	cr_assert_eq(a.n_pos, 3);
	cr_assert_str_eq(a.pos[2], "-l");
}

Test(options, usage_errors_exit_64)
{
	char *unknown[] = { (char *)"status", (char *)"--jsonn", NULL };
	char *foreign[] = { (char *)"install", (char *)"--json", (char *)"b", NULL };
	char *many[] = { (char *)"status", (char *)"a", (char *)"b", NULL };
	char *few[] = { (char *)"install", NULL };
	char *bare[] = { (char *)"status", (char *)"-c", NULL };
	char *when[] = { (char *)"wait", (char *)"det", (char *)"--timeout", (char *)"soon", NULL };
	struct mfs_args a;
	int code = 0;

	cr_assert(!mfs_args_parse(2, unknown, MFS_ARG_JSON, 0, 1, &a, &code) && code == 64);
	cr_assert(!mfs_args_parse(3, foreign, 0, 1, 1, &a, &code) && code == 64);
	cr_assert(!mfs_args_parse(3, many, 0, 0, 1, &a, &code) && code == 64);
	cr_assert(!mfs_args_parse(1, few, 0, 1, 1, &a, &code) && code == 64);
	cr_assert(!mfs_args_parse(2, bare, 0, 0, 1, &a, &code) && code == 64);
	cr_assert(!mfs_args_parse(4, when, MFS_ARG_TIMEOUT, 1, 1, &a, &code) && code == 64);
}
