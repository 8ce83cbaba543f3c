/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_install.c - `modelfs install BUNDLE [ID]`.
 *
 * This process (root) opens the bundle's folder, the configuration, keys and folders, and reads
 * nothing of the bundle. A confined child with serve's uid verifies and copies, and speaks to it
 * in frames of one size. Mounted: serve is asked before the copying and does the activation.
 * Not mounted: the child does both, under state/lock.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bundledir.h"
#include "cmd_common.h"
#include "cycle.h"
#include "health.h"
#include "io.h"
#include "log.h"
#include "refresh.h"

#define ACTIVATE_IDLE_MS 150000 /* serve waits up to 60 s for processes that load the old version */
#define COLLECT_IDLE_MS  60000
#define CHECK_CACHE      (16u << 20)
#define ASK_AGAIN_MS     45000  /* serve may be restarted under us, and again */

enum verb { F_DECIDE = 1, F_VERDICT, F_PROGRESS, F_NOTE, F_COPIED, F_DONE, F_FAILED };

struct frame { /* both directions; strings end with NUL */
	uint32_t verb, code;
	int32_t sys_errno, exit_code;
	uint32_t model, same;
	uint64_t done, total, files;
	int64_t release, key_epoch;
	struct mfs_sha256 id;
	char model_id[MFS_ID_MAX + 1], version[MFS_VERSION_MAX + 1], variant[MFS_VARIANT_MAX + 1];
	char text[sizeof(((struct mfs_err *)NULL)->msg)];
};

static bool
frame_send(int link, const struct frame *f)
{
	return send(link, f, sizeof(*f), MSG_NOSIGNAL) == (ssize_t)sizeof(*f);
}

/* 1 a frame, 0 the other end is gone, -1 malformed. */
static int
frame_recv(int link, struct frame *f)
{
	ssize_t n;

	while ((n = recv(link, f, sizeof(*f), MSG_TRUNC)) < 0 && errno == EINTR)
		;
	if (n <= 0)
		return 0;
	if (n != (ssize_t)sizeof(*f))
		return -1;
	f->model_id[sizeof(f->model_id) - 1] = f->version[sizeof(f->version) - 1] = '\0';
	f->variant[sizeof(f->variant) - 1] = f->text[sizeof(f->text) - 1] = '\0';
	return 1;
}

/* ---- the child ---------------------------------------------------------------------------------------- */

struct child {
	int link, bundle;
	const char *name;
	ssize_t wanted; /* the model asked for, -1: the one that the manifest is for */
	bool offline;
	const struct mfs_config *config;
	int state; /* its folder */
	struct mfs_offline o; /* offline: all of it; mounted: keys and store alone */
	size_t model;
};

/* `offline_install: fresh`, by the metadata that is stored. */
static enum mfs_code
fresh_check(struct child *c, size_t model, const struct mfs_manifest *m, struct mfs_err *err)
{
	struct mfs_refresh_args args = { .config = c->config, .engine = c->o.engine, .keys = c->o.keys, .events = c->o.events,
		.state_dirfd = c->state };
	MFS_CLEANUP(mfs_cleanup_refresh) struct mfs_refresh *r = NULL;
	enum mfs_code code = mfs_refresh_new(&args, &r, err);

	return code != MFS_OK ? code : mfs_refresh_install_check(r, model, &m->id, err);
}

static enum mfs_code
child_decide(void *user, size_t model, const struct mfs_manifest *m, struct mfs_err *err)
{
	struct child *c = user;
	char now[MFS_VERSION_MAX + 1];
	enum mfs_install how;
	struct frame f = { .verb = F_DECIDE, .model = (uint32_t)model, .id = m->id, .release = m->release,
		.key_epoch = m->key_epoch, .total = m->total_size, .files = m->n_files };

	c->model = model;
	(void)snprintf(f.model_id, sizeof(f.model_id), "%s", m->model_id);
	(void)snprintf(f.version, sizeof(f.version), "%s", m->version);
	(void)snprintf(f.variant, sizeof(f.variant), "%s", m->variant);
	if (c->offline && (mfs_engine_decide(c->o.engine, model, m, &how, now, err) != MFS_OK ||
		(how == MFS_INSTALL_NEW && fresh_check(c, model, m, err) != MFS_OK)))
		return err->code;
	if (!frame_send(c->link, &f) || frame_recv(c->link, &f) != 1)
		return mfs_fail(err, MFS_INTERNAL, "the command that started this installation is gone");
	return f.code == MFS_OK ? MFS_OK : mfs_fail(err, (enum mfs_code)f.code, "%s", f.text);
}

static void
child_progress(void *user, uint64_t done, uint64_t total)
{
	struct child *c = user;
	static int64_t last; /* one installation in this process */
	int64_t now = mfs_clock_mono_ms();

	if (done < total && now - last < 100)
		return;
	last = now;
	(void)frame_send(c->link, &(struct frame){ .verb = F_PROGRESS, .done = done, .total = total });
}

#define IGNORED_NAMED 8 /* more than that would only fill the screen */

struct ignored {
	int link;
	unsigned n;
};

/* Entries of the folder that are not part of a bundle are ignored and named. */
static void
child_ignored(void *arg, const char *name)
{
	struct ignored *g = arg;
	struct frame f = { .verb = F_NOTE };

	if (++g->n > IGNORED_NAMED)
		return;
	(void)snprintf(f.text, sizeof(f.text), "ignored, not part of the bundle: %s", MFS_ESC(name));
	(void)frame_send(g->link, &f);
}

static void
child_name_ignored(const struct child *c)
{
	struct ignored g = { .link = c->link };
	struct frame f = { .verb = F_NOTE };

	if (mfs_bundledir_others(c->bundle, child_ignored, &g, NULL) != MFS_OK || g.n <= IGNORED_NAMED)
		return;
	(void)snprintf(f.text, sizeof(f.text), "%u more were ignored", g.n - IGNORED_NAMED);
	(void)frame_send(c->link, &f);
}

static enum mfs_code
child_open(struct mfs_cmd_env *env, struct child *c, struct mfs_err *err)
{
	struct mfs_engine_args args = { .config = env->config, .state_dirfd = env->folders.state };
	struct mfs_err peek = MFS_ERR_INIT;

	if (c->offline)
		return mfs_offline_open(env, 0, &c->o, err);
	mfs_log_open("install", (enum mfs_level)0);
	if (mfs_keys_load(env->config, &env->keys, &c->o.keys, err) != MFS_OK)
		return err->code;
	args.keys = c->o.keys;
	if (mfs_engine_trust_peek(&args, &peek) != MFS_OK)
		mfs_log_err("install: keys of trust.json", &peek);
	return mfs_store_open(env->folders.store, env->seeds, env->n_seeds, &c->o.store, err);
}

/* ---- the rules of an update, without a mount: the built-in checks; the health command runs when it is mounted - */

struct offline_check {
	struct mfs_cmd_env *env;
	struct child *c;
};

static enum mfs_code
part_health(void *user, size_t i, struct mfs_version *v, bool probation, const _Atomic int *cancel, struct mfs_err *err)
{
	struct offline_check *o = user;
	struct mfs_version *whole = NULL;
	struct mfs_cache *cache = NULL;
	enum mfs_code code = mfs_cache_new(CHECK_CACHE, -1, &cache, err);

	(void)probation;
	/* The engine of a command opens no contents: here they are read once. */
	if (code == MFS_OK)
		code = mfs_version_load(o->env->folders.state, o->c->o.store, cache, o->env->config, o->c->o.keys, i, &v->m->id,
			&whole, err);
	if (code == MFS_OK && whole->key_code == MFS_OK)
		code = mfs_health_builtin(whole, cancel, err);
	mfs_version_unref(whole);
	mfs_cache_free(cache);
	return code;
}

static void
part_rejected(void *user, size_t i, const struct mfs_cycle_version *v, enum mfs_code why)
{
	(void)user, (void)i, (void)v, (void)why; /* hooks are keeper's */
}

static int64_t
part_now(void *user)
{
	(void)user;
	return mfs_clock_wall();
}

static enum mfs_code
child_activate(struct mfs_cmd_env *env, struct child *c, const struct mfs_sha256 *id, struct frame *f,
	struct mfs_err *err)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	const char *name = env->config->models[c->model].id;
	struct offline_check o = { env, c };
	const struct mfs_cycle_parts parts = { .user = &o, .now = part_now, .health = part_health, .rejected = part_rejected };
	const struct mfs_cycle_run run = { .config = env->config, .engine = c->o.engine, .parts = &parts };
	bool same = false;

	if (mfs_cycle_install(&run, c->model, id, NULL, &same, from, to, err) != MFS_OK)
		return err->code;
	f->exit_code = same ? MFS_EXIT_NOTHING : MFS_EXIT_DONE;
	(void)snprintf(f->text, sizeof(f->text), same ? "%s %s is active already: nothing to do"
			: from[0] != '\0' && strcmp(from, to) != 0 ? "%s %s is active (was %s)"
								  : "%s %s is active", name, to, from);
	return MFS_OK;
}

static int
child_main(struct mfs_cmd_env *env, int link, void *arg)
{
	struct child *c = arg;
	struct mfs_install_args args = { .config = env->config, .bundle_fd = c->bundle, .bundle_name = c->name,
		.model = c->wanted, .decide = child_decide, .progress = child_progress, .user = c };
	struct mfs_err err = MFS_ERR_INIT;
	struct frame f = { .verb = c->offline ? F_DONE : F_COPIED };
	enum mfs_code code;

	c->link = link;
	c->config = env->config;
	c->state = env->folders.state;
	c->model = env->config->n_models;
	if ((code = child_open(env, c, &err)) == MFS_OK) {
		args.keys = c->o.keys;
		args.store = c->o.store;
		code = mfs_install_bundle(&args, &f.id, &err);
	}
	if (code == MFS_OK)
		child_name_ignored(c);
	f.model = (uint32_t)c->model;
	if (code == MFS_OK && c->offline)
		code = child_activate(env, c, &f.id, &f, &err);
	else if (code != MFS_OK && c->o.engine != NULL && c->model < env->config->n_models)
		mfs_engine_refused(c->o.engine, c->model, NULL, code, err.msg);
	else if (code != MFS_OK && c->o.events != NULL)
		mfs_event(c->o.events, &(struct mfs_event){ .code = code, .source = "install", .detail = err.msg });
	if (code != MFS_OK) {
		f.verb = F_FAILED;
		f.code = code;
		f.sys_errno = err.sys_errno;
		(void)snprintf(f.text, sizeof(f.text), "%s", err.msg);
	}
	(void)frame_send(link, &f);
	mfs_offline_close(&c->o);
	return 0;
}

/* A child that died left its temporary: another one removes it. */
static int
clean_main(struct mfs_cmd_env *env, int link, void *arg)
{
	struct mfs_store *store = NULL;

	(void)link, (void)arg;
	if (mfs_store_open(env->folders.store, NULL, 0, &store, NULL) != MFS_OK)
		return MFS_EXIT_FAILED;
	return mfs_store_clean(store, NULL) == MFS_OK ? MFS_EXIT_DONE : MFS_EXIT_FAILED;
}

/* ---- the command ----------------------------------------------------------------------------------------- */

struct parent {
	struct mfs_cmd_env *env;
	bool mounted;
	int link;
	struct mfs_progress progress;
	char what[MFS_ID_MAX + MFS_VERSION_MAX + 16];
	struct mfs_ctl_request facts; /* of the manifest, for serve */
};

/* Ask serve; a serve that is being restarted is asked again. */
static enum mfs_code
ask(struct parent *p, const struct mfs_ctl_request *r, int idle_ms, struct mfs_ctl_reply *reply, bool *again,
	struct mfs_err *err)
{
	const int64_t until = mfs_clock_mono_ms() + ASK_AGAIN_MS;

	*again = false;
	for (;;) {
		bool late = mfs_clock_mono_ms() >= until;

		if (mfs_client_ask(p->env->config, r, idle_ms, NULL, NULL, reply, err) == MFS_OK &&
			!(reply->code == MFS_CONDITION_UNMET && !late))
			return MFS_OK;
		if (late || (err->code != MFS_OK && err->code != MFS_CONDITION_UNMET && err->code != MFS_IO))
			return err->code;
		json_decref(reply->body);
		reply->body = NULL;
		*err = (struct mfs_err)MFS_ERR_INIT;
		*again = true;
		(void)nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	}
}

static enum mfs_code
on_decide(struct parent *p, const struct frame *f, struct mfs_err *err)
{
	const struct mfs_config *c = p->env->config;
	struct frame verdict = { .verb = F_VERDICT };
	struct mfs_ctl_request r = { .command = MFS_CTL_DECIDE, .timeout_ms = -1, .manifest = f->id,
		.release = f->release, .key_epoch = f->key_epoch };
	struct mfs_ctl_reply reply = { 0 };
	bool again;

	if (f->model >= c->n_models || !mfs_model_id_ok(f->model_id, strlen(f->model_id)) ||
		!mfs_version_ok(f->version, strlen(f->version)) || !mfs_variant_ok(f->variant, strlen(f->variant)))
		return mfs_fail(err, MFS_INTERNAL, "install: a malformed frame from the confined process");
	memcpy(r.model_id, f->model_id, sizeof(r.model_id));
	memcpy(r.version, f->version, sizeof(r.version));
	memcpy(r.variant, f->variant, sizeof(r.variant));
	(void)snprintf(r.model, sizeof(r.model), "%s", c->models[f->model].id);
	if (p->mounted) {
		if (ask(p, &r, 30000, &reply, &again, err) != MFS_OK)
			return err->code;
		verdict.code = reply.code;
		(void)snprintf(verdict.text, sizeof(verdict.text), "%s", reply.detail);
		json_decref(reply.body);
	}
	p->facts = r;
	if (verdict.code == MFS_OK) {
		(void)snprintf(p->what, sizeof(p->what), "%s %s", r.model, r.version);
		printf("%s: release %lld, %llu file%s, %.1f MiB\n", p->what, (long long)f->release,
			(unsigned long long)f->files, f->files == 1 ? "" : "s", (double)f->total / (1 << 20));
		(void)fflush(stdout);
		p->progress.what = p->what;
	}
	if (!frame_send(p->link, &verdict))
		return mfs_fail(err, MFS_INTERNAL, "install: the confined process is gone");
	return MFS_OK;
}

/* Frames of the child up to its last one. */
static enum mfs_code
child_follow(struct parent *p, struct frame *f, struct mfs_err *err)
{
	for (;;) {
		int got = frame_recv(p->link, f);

		if (got == 0) {
			mfs_progress_end(&p->progress);
			return mfs_fail(err, MFS_INTERNAL, "install: the confined process ended before it was done");
		}
		if (got < 0 || f->verb == F_VERDICT || f->verb < F_DECIDE || f->verb > F_FAILED)
			return mfs_fail(err, MFS_INTERNAL, "install: a malformed frame from the confined process");
		if (f->verb == F_DECIDE) {
			if (on_decide(p, f, err) != MFS_OK)
				return err->code;
		} else if (f->verb == F_PROGRESS) {
			if (p->progress.what != NULL)
				mfs_progress_show(&p->progress, f->done, f->total);
		} else if (f->verb == F_NOTE) {
			mfs_progress_end(&p->progress);
			mfs_cmd_print(stdout, f->text, strlen(f->text));
			printf("\n");
			(void)fflush(stdout);
		} else {
			mfs_progress_end(&p->progress);
			return MFS_OK;
		}
	}
}

/* What the health check said names no way out by itself. */
#define CONDEMNED "; this version is condemned here, which only 'modelfs mark good' takes back"

static int
failed(struct parent *p, const struct frame *f)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_request note = p->facts;
	struct mfs_ctl_reply reply = { 0 };

	/* The name of a number that is none is "internal". */
	if (!mfs_code_from_name(mfs_code_name((enum mfs_code)f->code), &err.code) || err.code == MFS_OK)
		err.code = MFS_INTERNAL;
	mfs_cmd_printable(err.msg, sizeof(err.msg), f->text);
	if (p->mounted) { /* a refusal shows in events and status */
		note.command = MFS_CTL_NOTE;
		note.outcome = err.code;
		(void)snprintf(note.detail, sizeof(note.detail), "%.250s", err.msg);
		if (f->model < p->env->config->n_models)
			(void)snprintf(note.model, sizeof(note.model), "%s", p->env->config->models[f->model].id);
		if (mfs_client_ask(p->env->config, &note, 10000, NULL, NULL, &reply, NULL) == MFS_OK)
			json_decref(reply.body);
	}
	if (err.code == MFS_HEALTH_CHECK_FAILED)
		(void)mfs_err_hint(&err, CONDEMNED);
	return mfs_cmd_fail("install", &err);
}

static int
activate(struct parent *p, const struct frame *f)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_ACTIVATE, .timeout_ms = -1, .manifest = f->id };
	struct mfs_ctl_reply reply = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	bool again;

	memcpy(r.model, p->facts.model, sizeof(r.model));
	if (ask(p, &r, ACTIVATE_IDLE_MS, &reply, &again, &err) != MFS_OK) {
		(void)mfs_err_hint(&err, "; the bundle is in the store, 'modelfs install' again activates it");
		return mfs_cmd_fail("install", &err);
	}
	if (again && reply.code == MFS_OK && reply.exit_code == MFS_EXIT_NOTHING) {
		/* the first answer was lost with a serve that died: it was us who activated it */
		printf("%s is active\n", p->what);
		json_decref(reply.body);
		return MFS_EXIT_DONE;
	}
	if (reply.code == MFS_HEALTH_CHECK_FAILED)
		(void)snprintf(reply.detail + strlen(reply.detail), sizeof(reply.detail) - strlen(reply.detail), CONDEMNED);
	return mfs_client_finish("install", &reply);
}

static int
install(struct mfs_cmd_env *env, const char *bundle, int bundle_fd, ssize_t model, bool mounted)
{
	struct parent p = { .env = env, .mounted = mounted, .link = -1 };
	struct child c = { .bundle = bundle_fd, .name = bundle, .wanted = model, .offline = !mounted };
	struct mfs_err err = MFS_ERR_INIT, why = MFS_ERR_INIT;
	struct frame f = { 0 };
	enum mfs_code code;
	pid_t pid, cleaner;
	int status;

	if (mfs_cmd_confined("install", env, bundle_fd, child_main, &c, &p.link, &pid, &err) != MFS_OK)
		return mfs_cmd_fail("install", &err);
	code = child_follow(&p, &f, &err);
	if (code != MFS_OK)
		(void)kill(pid, SIGKILL);
	mfs_cleanup_close(&p.link);
	status = mfs_cmd_reap(pid, "install", &why);
	if (code != MFS_OK) {
		/* The sandbox was refused: the child said so itself. */
		if (status > 0)
			return status;
		if (mfs_cmd_confined("install", env, -1, clean_main, NULL, NULL, &cleaner, &why) == MFS_OK)
			(void)mfs_cmd_reap(cleaner, "install", &why);
		(void)mfs_err_hint(&err, "; nothing was installed");
		return mfs_cmd_fail("install", &err);
	}
	if (f.verb == F_FAILED)
		return failed(&p, &f);
	if (f.verb == F_COPIED)
		return activate(&p, &f);
	mfs_cmd_print(stdout, f.text, strlen(f.text));
	printf("\n");
	return f.exit_code == MFS_EXIT_NOTHING ? MFS_EXIT_NOTHING : MFS_EXIT_DONE;
}

/* ---- afterwards: what fell out of `retain` ---------------------------------------------------------------- */

static int
collect_main(struct mfs_cmd_env *env, int link, void *arg)
{
	struct mfs_err ignored = MFS_ERR_INIT;
	struct mfs_offline o = { 0 };
	enum mfs_code code;
	uint64_t freed;
	size_t removed;

	(void)link, (void)arg;
	if ((code = mfs_offline_open(env, 0, &o, &ignored)) == MFS_OK)
		code = mfs_engine_gc(o.engine, NULL, NULL, &freed, &removed, &ignored);
	mfs_offline_close(&o);
	return (int)mfs_code_exit(code);
}

/*
 * Versions beyond `retain` are collected, so that a store does not grow with every update. The
 * installation has succeeded whatever comes of this: `modelfs gc` says what stands in its way.
 */
static void
collect(struct mfs_cmd_env *env, bool mounted)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_GC, .timeout_ms = -1 };
	struct mfs_ctl_reply reply = { 0 };
	struct mfs_err ignored = MFS_ERR_INIT;
	pid_t pid;

	if (mounted) {
		if (mfs_client_ask(env->config, &r, COLLECT_IDLE_MS, NULL, NULL, &reply, &ignored) == MFS_OK)
			json_decref(reply.body);
	} else if (mfs_cmd_confined("install", env, -1, collect_main, NULL, NULL, &pid, &ignored) == MFS_OK) {
		(void)mfs_cmd_reap(pid, "install", &ignored);
	}
}

int
mfs_cmd_install(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	mfs_autoclose int bundle = -1, lock = -1;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	ssize_t model = -1;
	bool mounted;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 1, 2, &args, &code))
		return code;
	if (mfs_cmd_env_config(&env, args.config, &err) != MFS_OK ||
		(args.n_pos == 2 && (model = mfs_cmd_model(env.config, args.pos[1], &err)) < 0) ||
		mfs_bundledir_open(args.pos[0], &bundle, &err) != MFS_OK || mfs_cmd_env_open(&env, true, &err) != MFS_OK ||
		mfs_cmd_side(&env, &mounted, &err) != MFS_OK)
		return mfs_cmd_fail("install", &err);
	/* Held until the version is active: gc takes it too. */
	if (mfs_lock_take(env.folders.store, MFS_INSTALL_LOCK, false, &lock, &err) == MFS_CONDITION_UNMET) {
		printf("waiting for another installation to end\n");
		(void)fflush(stdout);
		err = (struct mfs_err)MFS_ERR_INIT;
		(void)mfs_lock_take(env.folders.store, MFS_INSTALL_LOCK, true, &lock, &err);
	}
	if (lock < 0)
		return mfs_cmd_fail("install", &err);
	code = install(&env, args.pos[0], bundle, model, mounted);
	mfs_cleanup_close(&lock); /* gc takes it */
	if (code == MFS_EXIT_DONE)
		collect(&env, mounted);
	return code;
}
