/* SPDX-License-Identifier: Apache-2.0 */
/* Refresh of a thousand models: memory, writes, requests. */
#include "refresh_help.h"

TestSuite(refresh_many_models, .init = setup, .fini = teardown);

/* ---- many models ------------------------------------------------------------------------------------------------------ */

#define MANY 1000
/* Of memory; a sanitizer keeps what was freed and pads what was not. */
#if defined(__SANITIZE_ADDRESS__)
#define MANY_KIB (400 * 1024)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MANY_KIB (400 * 1024)
#endif
#endif
#ifndef MANY_KIB
#define MANY_KIB (100 * 1024)
#endif

static long
status_kib(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long v = -1;

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			v = strtol(line + strlen(field), NULL, 10);
	(void)fclose(f);
	return v;
}

static void
setup_many(void)
{
	struct mfs_span root;

	now = NOW;
	repo = mk_repo_new(NOW);
	for (unsigned i = 0; i < MANY; i++) {
		char id[16], path[32], *json;
		struct mfs_policy *p;
		size_t len, at;

		(void)snprintf(id, sizeof(id), "m%04u", i);
		at = mk_repo_model(repo, id);
		cr_assert_eq(mfs_policy_new(id, &p, NULL), MFS_OK);
		p->sequence = 1;
		p->issued = NOW;
		cr_assert_eq(mfs_policy_json(p, &json, &len, NULL), MFS_OK);
		(void)snprintf(path, sizeof(path), "%s/policy.json", id);
		mk_repo_target(repo, at + 1, path, json, len);
		free(json);
		mfs_policy_free(p);
	}
	repo->roles[MK_ROOT].changed = true;
	mk_repo_commit(repo);
	device_make(&d, "repositories: {default: {url: \"file:///r\", root: root.json}}\ndevice: {id: dev-1}\n");
	/* The fixture's two models, and a thousand more. */
	d.config->models = reallocarray(d.config->models, d.config->n_models + MANY, sizeof(*d.config->models));
	cr_assert_not_null(d.config->models);
	for (unsigned i = 0; i < MANY; i++) {
		struct mfs_config_model *m = &d.config->models[d.config->n_models++];

		*m = (struct mfs_config_model){ .repo = 0, .file_mode = 0444, .dir_mode = 0555 };
		cr_assert(asprintf(&m->id, "m%04u", i) > 0);
		m->model_id = strdup(m->id);
	}
	d.config->models[0].repo = d.config->models[1].repo = -1;
	cr_assert(mk_repo_file(repo, "metadata/1.root.json", &root));
	scratch_write(d.root_fd, "root.json", root.p, root.len);
	keys_load();
	start();
}

static void
teardown_many(void)
{
	stop();
	mk_repo_free(repo);
	device_free(&d);
}

Test(refresh_many, a_thousand_models_are_refreshed_in_little_memory_and_few_writes, .init = setup_many, .fini = teardown_many)
{
	struct mfs_refresh_result res;
	char detail[256];
	long before, threads = status_kib("Threads:");
	FILE *f;

	f = fopen("/proc/self/clear_refs", "w"); /* the high-water mark starts anew */
	cr_assert(f != NULL && fputs("5", f) >= 0 && fclose(f) == 0);
	before = status_kib("VmRSS:");
	res = run();
	cr_assert_gt(res.requests, 2 * MANY);
	for (size_t i = 2; i < d.config->n_models; i++)
		cr_assert_eq(mfs_refresh_policy_state(refresh, i, detail), MFS_OK, "%s", detail);
	cr_assert_lt(status_kib("VmHWM:") - before, MANY_KIB);
	res = run();
	cr_assert_eq(res.requests, 2);
	/* A new process looks at all of them again, from what is stored. */
	restart();
	res = run();
	cr_assert_eq(res.requests, 2);
	cr_assert_eq(res.received, 0);
	cr_assert_lt(status_kib("VmHWM:") - before, MANY_KIB, "%ld KiB", status_kib("VmHWM:") - before);
	cr_assert_eq(status_kib("Threads:"), threads, "no thread for a model");
}
