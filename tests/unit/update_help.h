/* SPDX-License-Identifier: Apache-2.0 */
/* update_help.h - a device whose clock, network, checks and conditions are faked, for the tests of the cycle. */
#ifndef UPDATE_HELP_H
#define UPDATE_HELP_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "update.h"

static struct device d;

/* ---- the parts -------------------------------------------------------------------------------------------- */

static struct fake {
	int64_t now;
	uint32_t random;
	/* target */
	enum mfs_code target_code;
	bool none, rollback;
	const char *bundle;         /* name below the device's folder; NULL: nothing is offered */
	struct mfs_sha256 offered;
	char version[MFS_VERSION_MAX + 1];
	int64_t release;
	/* what the others answer, and how often they were asked */
	enum mfs_code fresh, download, health, probation;
	int64_t retry_after;
	unsigned downloads, drops, healths, changes, rejections, collections, targets, refreshes;
	enum mfs_code rejected;
	enum mfs_job_reason reason;
	struct mfs_cycle_facts facts;
	uint64_t free_bytes;
	_Atomic int *set_cancel; /* set during the download: superseded under way */
	void (*meanwhile)(void);  /* called during the download */
	void (*asking)(void);     /* called while it is asked what a model should run */
	void (*looking)(void);    /* called during a look of a probation */
	void (*refusing)(void);   /* called while a refusal is told: the attempt is over, the step is not */
	struct mfs_remote *via;   /* of the last download */
	enum mfs_code refresh;
	int64_t boot_ms;
} f;

static inline struct mfs_signed
signed_of(const char *bundle)
{
	static const char *const names[] = { "manifest.json", "signature.sig" };
	struct mfs_signed s = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s/%s", d.root, bundle, names[0]);
	cr_assert_eq(mfs_file_read(AT_FDCWD, path, 1u << 20, &s.manifest, &s.manifest_len, &err), MFS_OK, "%s", err.msg);
	(void)snprintf(path, sizeof(path), "%s/%s/%s", d.root, bundle, names[1]);
	cr_assert_eq(mfs_file_read(AT_FDCWD, path, 1u << 20, &s.sig, &s.sig_len, &err), MFS_OK, "%s", err.msg);
	return s;
}

static inline int64_t fake_now(void *user) { (void)user; return f.now; }
static inline uint32_t fake_random(void *user) { (void)user; return f.random; }

static inline enum mfs_code
fake_target(void *user, size_t i, struct mfs_remote *via, const _Atomic int *cancel, struct mfs_cycle_offer *out,
	struct mfs_err *err)
{
	(void)user, (void)via, (void)cancel;
	f.targets++;
	if (f.asking != NULL)
		f.asking();
	if (i != 0 || (f.target_code == MFS_OK && !f.none && f.bundle == NULL))
		return mfs_fail(err, MFS_NOT_SELECTED, "no rollout includes this device");
	out->v.manifest = f.offered;
	memcpy(out->v.version, f.version, sizeof(f.version));
	(void)snprintf(out->v.variant, sizeof(out->v.variant), "default");
	out->v.release = f.release;
	out->v.key_epoch = 1;
	out->rollback = f.rollback;
	out->none = f.none;
	if (f.target_code != MFS_OK)
		return mfs_fail(err, f.target_code, "the fake says %s", mfs_code_name(f.target_code));
	if (f.none)
		return MFS_OK;
	out->bytes = signed_of(f.bundle);
	return mfs_manifest_parse(MFS_SPAN(out->bytes.manifest, out->bytes.manifest_len), &out->m, err);
}

static inline enum mfs_code
fake_fresh(void *user, size_t i, struct mfs_err *err)
{
	(void)user, (void)i;
	return f.fresh == MFS_OK ? MFS_OK : mfs_fail(err, f.fresh, "metadata is not fresh");
}

static inline enum mfs_code
fake_download(void *user, size_t i, struct mfs_version *v, struct mfs_remote *via, const _Atomic int *cancel,
	int64_t *retry_after_s, struct mfs_err *err)
{
	struct mfs_sha256 id;

	(void)user, (void)i, (void)cancel;
	f.downloads++;
	f.via = via;
	if (f.set_cancel != NULL)
		atomic_store(f.set_cancel, 1);
	if (f.meanwhile != NULL)
		f.meanwhile();
	*retry_after_s = f.retry_after;
	if (f.download != MFS_OK)
		return mfs_fail(err, f.download, "the fake download says %s", mfs_code_name(f.download));
	cr_assert(mfs_sha256_equal(&v->m->id, &f.offered));
	return device_copy(&d, f.bundle, &id, err);
}

static inline void fake_drop(void *user, size_t i) { (void)user, (void)i; f.drops++; }

static inline enum mfs_code
fake_health(void *user, size_t i, struct mfs_version *v, bool probation, const _Atomic int *cancel, struct mfs_err *err)
{
	enum mfs_code code = probation ? f.probation : f.health;

	(void)user, (void)i, (void)v, (void)cancel;
	f.healths++;
	if (probation && f.looking != NULL)
		f.looking();
	return code == MFS_OK ? MFS_OK : mfs_fail(err, code, "the fake check says %s", mfs_code_name(code));
}

static inline void fake_facts(void *user, const _Atomic int *cancel, struct mfs_cycle_facts *out) { (void)user, (void)cancel; *out = f.facts; }
static inline uint64_t fake_free(void *user) { (void)user; return f.free_bytes; }

static inline void
fake_changed(void *user, size_t i, enum mfs_job_reason reason, enum mfs_code outcome)
{
	(void)user, (void)i, (void)outcome;
	f.changes++;
	f.reason = reason;
}

static inline void
fake_rejected(void *user, size_t i, const struct mfs_cycle_version *v, enum mfs_code why)
{
	(void)user, (void)i, (void)v;
	f.rejections++;
	f.rejected = why;
	if (f.refusing != NULL)
		f.refusing();
}

static inline void fake_collect(void *user, size_t i) { (void)user, (void)i; f.collections++; }

static const struct mfs_cycle_parts parts = { .now = fake_now, .random = fake_random, .target = fake_target,
	.fresh = fake_fresh, .download = fake_download, .drop = fake_drop, .health = fake_health,
	.facts = fake_facts, .free_bytes = fake_free, .changed = fake_changed,
	.rejected = fake_rejected, .collect = fake_collect };
static struct mfs_cycle_run r;

/* ---- the fixture ------------------------------------------------------------------------------------------ */

#define START INT64_C(1800000000)

static inline void
setup_with(const char *more)
{
	device_make(&d, more);
	f = (struct fake){ .now = START, .facts = { .budget_left = UINT64_MAX }, .boot_ms = 1000000 };
	device_open(&d);
	r = (struct mfs_cycle_run){ .config = d.config, .engine = d.engine, .parts = &parts };
}

static inline void
setup(void)
{
	setup_with("repositories: {default: {url: \"file:///nowhere\", root: root.json}}\n");
}

static inline void
teardown(void)
{
	device_free(&d);
}

/* serve dies; the next one reads what is on disk. */
static inline void
crash(void)
{
	device_close(&d);
	device_open(&d);
	r.engine = d.engine;
}

static inline void
bundle(int64_t release, const char *name, struct mfs_sha256 *id)
{
	char version[32];
	struct mk_file file = { "model.bin", 100000, (unsigned)release };
	struct mk_bundle b = { .version = version, .release = release, .files = &file, .n_files = 1,
		.model_key = &d.model_key };

	(void)snprintf(version, sizeof(version), "1.%d.0", (int)release);
	device_bundle(&d, &b, name, id);
}

static inline void
installed(int64_t release)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;

	bundle(release, "by-hand", &id);
	cr_assert_eq(device_copy(&d, "by-hand", &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	device_unbundle(&d, "by-hand");
}

/* The repository offers release n from now on. */
static inline void
publish(int64_t release, const char *name)
{
	bundle(release, name, &f.offered);
	f.bundle = name;
	f.release = release;
	(void)snprintf(f.version, sizeof(f.version), "1.%d.0", (int)release);
}

static inline enum mfs_code
offer(bool by_hand)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_cycle_news news;

	return mfs_cycle_offer(&r, 0, NULL, by_hand, NULL, &news, &err);
}

static inline struct mfs_engine_update
state(void)
{
	struct mfs_engine_update up;

	mfs_engine_update_get(d.engine, 0, &up);
	return up;
}

static inline bool
observed(void)
{
	struct mfs_engine_update up = state();

	return !mfs_sha256_is_zero(&up.observation.v.manifest);
}

static inline int64_t step(void) { return mfs_cycle_step(&r, 0, NULL, NULL); }

/* Steps until it waits or is idle; what the last one returned. */
static inline int64_t
run_steps(void)
{
	int64_t pause = 0;

	for (int k = 0; k < 20 && pause == 0; k++)
		pause = step();
	cr_assert_neq(pause, 0, "it never comes to rest");
	return pause;
}

static inline void
active_is(const char *version, int64_t floor)
{
	struct mfs_engine_model m;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_engine_model_get(d.engine, 0, &m, &err), MFS_OK);
	if (version == NULL)
		cr_assert(m.n == 0 || !m.versions[0].active);
	else
		cr_assert(m.n > 0 && m.versions[0].active && strcmp(m.versions[0].v->m->version, version) == 0,
			"wanted %s, active is %s", version, m.n > 0 ? m.versions[0].v->m->version : "none");
	cr_assert_eq(m.floor_release, floor, "floor %lld, not %lld", (long long)m.floor_release, (long long)floor);
	mfs_engine_model_free(&m);
}

#endif
