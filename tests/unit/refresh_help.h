/* SPDX-License-Identifier: Apache-2.0 */
/* refresh_help.h - a device and a repository of its model, for the tests of refresh. */
#ifndef REFRESH_HELP_H
#define REFRESH_HELP_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bundledir.h"
#include "cut.h"
#include "device.h"
#include "io.h"
#include "mfs_policy.h"
#include "mkrepo.h"
#include "refresh.h"

#define NOW 1800000000 /* after the build date */
#define DAY 86400

static struct device d;
static struct mk_repo *repo;
static struct mfs_refresh *refresh;
static size_t release; /* role of det; policy is the next */
static int64_t now;
static unsigned told; /* models that changed */
static struct mfs_policy *policy;
static const char *more_config = "";

static inline int64_t
clock_of(void *user)
{
	(void)user;
	return now;
}

static inline void
on_changed(void *user, size_t i)
{
	(void)user;
	cr_assert_eq(i, 0);
	told++;
}

static inline void
keys_load(void)
{
	struct mfs_key_fds fds;
	struct mfs_err err = MFS_ERR_INIT;

	mfs_keys_free(d.keys);
	cr_assert_eq(mfs_key_fds_open(d.config, d.state_fd, &fds, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_keys_load(d.config, &fds, &d.keys, &err), MFS_OK, "%s", err.msg);
	mfs_key_fds_close(d.config, &fds);
}

static inline void
start(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_args args = { .config = d.config, .keys = d.keys, .events = d.events, .state_dirfd = d.state_fd,
		.get = mk_repo_get, .get_user = repo, .clock = clock_of, .changed = on_changed };

	device_open(&d);
	args.engine = d.engine;
	cr_assert_eq(mfs_refresh_new(&args, &refresh, &err), MFS_OK, "%s", err.msg);
}

static inline void
stop(void)
{
	mfs_refresh_free(refresh);
	refresh = NULL;
	device_close(&d);
}

static inline void
restart(void)
{
	stop();
	start();
}

/* The policy as it stands, with a higher sequence, into the repository. */
static inline void
policy_publish(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	char *json;
	size_t len;

	policy->sequence++;
	policy->issued = repo->now;
	cr_assert_eq(mfs_policy_json(policy, &json, &len, &err), MFS_OK, "%s", err.msg);
	mk_repo_target(repo, release + 1, "det/policy.json", json, len);
	free(json);
}

static inline void
setup_with(const char *more)
{
	struct mfs_span root;
	char text[1024];

	now = NOW;
	told = 0;
	repo = mk_repo_new(NOW);
	release = mk_repo_model(repo, "det");
	cr_assert_eq(mfs_policy_new("det", &policy, NULL), MFS_OK);
	policy_publish();
	repo->roles[MK_ROOT].changed = true;
	mk_repo_commit(repo);
	(void)snprintf(text, sizeof(text), "repositories: {default: {url: \"file:///r\", root: root.json}}\ndevice: {id: dev-1}\n%s", more);
	device_make(&d, text);
	cr_assert(mk_repo_file(repo, "metadata/1.root.json", &root));
	scratch_write(d.root_fd, "root.json", root.p, root.len);
	keys_load();
	start();
}

static inline void
setup(void)
{
	setup_with(more_config);
}

static inline void
teardown(void)
{
	stop();
	mfs_policy_free(policy);
	mk_repo_free(repo);
	device_free(&d);
}

static inline struct mfs_refresh_result
run_is(enum mfs_code want, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_result res;
	enum mfs_code code = mfs_refresh_run(refresh, 0, NULL, NULL, &res, &err);

	cr_assert_eq(code, want, "%s: %s", mfs_code_name(code), err.msg);
	if (word != NULL)
		cr_assert_not_null(strstr(err.msg, word), "'%s' not in: %s", word, err.msg);
	return res;
}

static inline struct mfs_refresh_result
run(void)
{
	return run_is(MFS_OK, NULL);
}

/* A bundle of det at this release, in the repository: its manifest and signature as targets, and a rollout to all. */
static inline struct mfs_sha256
publish(int64_t number)
{
	static const char *const parts[] = { "manifest.json", "signature.sig" };
	const struct mk_file file = { "model.bin", 100000, (unsigned)number };
	char version[32], path[64], name[96];
	struct mk_bundle b = { .version = version, .release = number, .files = &file, .n_files = 1 };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;
	struct mfs_policy_entry e = { .release = number };
	struct mfs_sha256 id;

	(void)snprintf(version, sizeof(version), "1.%d.0", (int)number);
	device_bundle(&d, &b, "published", &id);
	for (size_t k = 0; k < 2; k++) {
		mfs_autofree uint8_t *bytes = NULL;
		size_t len;

		(void)snprintf(path, sizeof(path), "published/%s", parts[k]);
		(void)snprintf(name, sizeof(name), "det/%s/default/%s", version, parts[k]);
		cr_assert_eq(mfs_file_read(d.root_fd, path, 1 << 20, &bytes, &len, NULL), MFS_OK);
		mk_repo_target(repo, release, name, bytes, len);
	}
	e.manifest = id;
	(void)snprintf(e.version, sizeof(e.version), "%s", version);
	(void)snprintf(e.variant, sizeof(e.variant), "default");
	cr_assert_eq(mfs_policy_rollout_add(policy, 0, version, version, &r, NULL), MFS_OK);
	cr_assert_eq(mfs_policy_variant_add(r, &e, &v, NULL), MFS_OK);
	cr_assert_eq(mfs_policy_step_add(r, MFS_FRACTION_ALL, 0, false, NULL), MFS_OK);
	return id;
}

/* Brought by hand what a download would bring, and activated. */
static inline void
install_published(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	cr_assert_eq(device_copy(&d, "published", &id, &err), MFS_OK, "%s", err.msg);
	device_unbundle(&d, "published");
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
}

static inline void
revoked(const char *version, enum mfs_action action)
{
	struct mfs_revocation r = { .reason = "leaks", .action = action };

	(void)snprintf(r.version, sizeof(r.version), "%s", version);
	cr_assert_eq(mfs_policy_revoke(policy, &r, NULL), MFS_OK);
	policy_publish();
	mk_repo_commit(repo);
}

static inline void
active_is(const char *version)
{
	struct mfs_engine_model m;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, NULL), MFS_OK);
	cr_assert_str_eq(m.n > 0 && m.versions[0].active ? m.versions[0].v->m->version : "", version, "%s", m.absent_detail);
	mfs_engine_model_free(&m);
}

static inline void
target_is(enum mfs_code want, const char *word)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_refresh_target t;
	enum mfs_code code = mfs_refresh_target(refresh, 0, NULL, NULL, &t, &err);

	cr_assert_eq(code, want, "%s: %s", mfs_code_name(code), err.msg);
	if (word != NULL)
		cr_assert_not_null(strstr(code == MFS_OK ? t.version.version : err.msg, word), "'%s' not in: %s", word, err.msg);
	mfs_refresh_target_clear(&t);
}

/* May a version that is on its way become active? Nothing is fetched for the answer. */
static inline void
fresh_is(enum mfs_code want)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code = mfs_refresh_fresh(refresh, 0, &err);

	cr_assert_eq(code, want, "%s: %s", mfs_code_name(code), err.msg);
}

#endif
