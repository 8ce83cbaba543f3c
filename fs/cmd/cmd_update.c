/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_update.c - `modelfs check [ID]` and `modelfs update [ID] [--from URL|DIR]`.
 *
 * Mounted: serve does it, and this process shows how far it is. --from starts a fetch that knows that origin
 * alone and passes its socket to serve. Not mounted: a confined child does it (update_offline.c).
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "kfetch.h"
#include "update_offline.h"

#define UPDATE_IDLE_MS 60000 /* serve says something every 10 s */
#define ASK_AGAIN_MS   45000 /* serve may be restarted under us, and again */

struct show {
	struct mfs_progress progress;
	char what[MFS_ID_MAX + 24], said[MFS_ID_MAX + 24];
	bool began; /* an update was under way */
};

/* One line of serve: {"progress": {done, total, rate, step, model}}. */
static bool
line(void *user, const json_t *body)
{
	const json_t *p = json_object_get(body, "progress");
	const char *step = json_string_value(json_object_get(p, "step")), *model;
	struct show *s = user;

	if (p == NULL || step == NULL)
		return true;
	model = json_string_value(json_object_get(p, "model"));
	s->began = s->began || model != NULL;
	(void)snprintf(s->what, sizeof(s->what), "%.*s%s%.20s", MFS_ID_MAX, model != NULL ? model : "", model != NULL ? ": " : "",
		step);
	mfs_cmd_printable(s->what, sizeof(s->what), s->what);
	if (strcmp(s->what, s->said) != 0) {
		mfs_progress_end(&s->progress);
		s->progress = (struct mfs_progress){ .what = s->what };
		if (isatty(STDERR_FILENO) != 1)
			fprintf(stderr, "%s\n", s->what);
		memcpy(s->said, s->what, sizeof(s->said));
	}
	mfs_progress_rate(&s->progress, (uint64_t)json_integer_value(json_object_get(p, "done")),
		(uint64_t)json_integer_value(json_object_get(p, "total")),
		(uint64_t)json_integer_value(json_object_get(p, "rate")));
	return true;
}

/* A fetch for the command; -1 in *sock when none is wanted. */
static enum mfs_code
fetch_start(const struct mfs_config *c, const struct mfs_args *a, int *sock, pid_t *pid, struct mfs_err *err)
{
	struct mfs_fetch_args args = { .config = c, .from = a->from, .cacert = a->cacert, .parent = getpid() };

	return mfs_fetch_spawn(&args, sock, pid, err);
}

static void
fetch_end(int *sock, pid_t pid)
{
	mfs_cleanup_close(sock);
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

static int
offline(struct mfs_cmd_env *env, const char *command, size_t model, const struct mfs_args *args)
{
	struct mfs_update_offline o = { .model = model, .update = strcmp(command, "update") == 0, .via = args->from != NULL,
		.sock = -1 };
	const char *hold = env->config->update.conditions.hold_file;
	struct mfs_err err = MFS_ERR_INIT;
	pid_t fetch = 0, pid;
	int status;

	o.hold = hold != NULL && (faccessat(AT_FDCWD, hold, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT);
	if (fetch_start(env->config, args, &o.sock, &fetch, &err) != MFS_OK ||
		mfs_cmd_confined(command, env, -1, mfs_update_offline, &o, NULL, &pid, &err) != MFS_OK) {
		fetch_end(&o.sock, fetch);
		return mfs_cmd_fail(command, &err);
	}
	mfs_cleanup_close(&o.sock);
	status = mfs_cmd_reap(pid, command, &err);
	fetch_end(&o.sock, fetch);
	return status < 0 ? mfs_cmd_fail(command, &err) : status;
}

/* One conversation; *again: serve ended under it. */
static int
ask(const struct mfs_config *c, const struct mfs_ctl_request *r, const struct mfs_args *args, struct show *s, bool *again)
{
	const char *command = mfs_ctl_command_name(r->command);
	struct mfs_ctl_reply reply = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	int sock = -1, status;
	pid_t fetch = 0;
	enum mfs_code code;

	if (args->from != NULL && fetch_start(c, args, &sock, &fetch, &err) != MFS_OK)
		return mfs_cmd_fail(command, &err);
	code = mfs_client_ask_with(c, r, sock, UPDATE_IDLE_MS, line, s, &reply, &err);
	fetch_end(&sock, fetch);
	mfs_progress_end(&s->progress);
	/* Closed, being restarted, or told so: the same question again has the same answer. */
	if (*again && ((code == MFS_CONDITION_UNMET && err.sys_errno == 0) || (code == MFS_OK && reply.code == MFS_CONDITION_UNMET &&
		json_object_get(reply.body, "stopping") != NULL))) {
		json_decref(reply.body);
		return MFS_EXIT_RETRY;
	}
	*again = false;
	if (code != MFS_OK)
		return mfs_cmd_fail(command, &err);
	status = mfs_client_finish(command, &reply);
	/* The first answer was lost with a serve that died: it was this command that brought it. */
	return status == MFS_EXIT_NOTHING && s->began ? MFS_EXIT_DONE : status;
}

static int
mounted(const struct mfs_config *c, const struct mfs_ctl_request *r, const struct mfs_args *args, bool *nobody)
{
	const int64_t until = mfs_clock_mono_ms() + ASK_AGAIN_MS;
	struct show s = { .progress = { 0 } };
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int probe = -1;
	int status;
	bool again;

	/* No fetch before it is known who listens: none is needed for an error. */
	*nobody = mfs_client_connect(c, &probe, &err) == MFS_CONDITION_UNMET && err.sys_errno != 0;
	if (*nobody)
		return MFS_EXIT_FAILED;
	if (err.code != MFS_OK)
		return mfs_cmd_fail(mfs_ctl_command_name(r->command), &err);
	mfs_cleanup_close(&probe);
	for (;;) {
		again = mfs_clock_mono_ms() < until;
		status = ask(c, r, args, &s, &again);
		if (!again)
			return status;
		(void)nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	}
}

static int
run(int argc, char **argv, enum mfs_ctl_command command)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_ctl_request r = { .command = command, .timeout_ms = -1 };
	const char *name = mfs_ctl_command_name(command);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	bool nobody, up = false;
	ssize_t i = -1;
	int code;

	if (!mfs_args_parse(argc, argv, command == MFS_CTL_UPDATE ? MFS_ARG_FROM : 0, 0, 1, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, name, args.config, &err) != MFS_OK ||
		(args.n_pos == 1 && (i = mfs_cmd_model(env.config, args.pos[0], &err)) < 0))
		return mfs_cmd_fail(name, &err);
	if (i >= 0)
		(void)snprintf(r.model, sizeof(r.model), "%s", env.config->models[i].id);
	if (args.from == NULL && args.cacert != NULL) {
		fprintf(stderr, "modelfs: %s: --cacert is of --from URL; a configured repository has tls: {ca: FILE}\n", name);
		return mfs_cmd_usage(NULL);
	}
	if (args.from != NULL && mfs_fetch_from_check(&(struct mfs_fetch_args){ .config = env.config, .from = args.from,
			.cacert = args.cacert }, &err) != MFS_OK)
		return mfs_cmd_fail(name, &err);
	r.from = args.from != NULL;
	code = mounted(env.config, &r, &args, &nobody);
	if (!nobody)
		return code;
	if (mfs_cmd_env_broken(&env, &err) != MFS_OK || mfs_cmd_env_open(&env, true, &err) != MFS_OK ||
		mfs_cmd_side(&env, &up, &err) != MFS_OK)
		return mfs_cmd_fail(name, &err);
	if (up) /* it was mounted meanwhile */
		return mounted(env.config, &r, &args, &nobody);
	return offline(&env, name, i >= 0 ? (size_t)i : env.config->n_models, &args);
}

int
mfs_cmd_check(int argc, char **argv)
{
	return run(argc, argv, MFS_CTL_CHECK);
}

int
mfs_cmd_update(int argc, char **argv)
{
	return run(argc, argv, MFS_CTL_UPDATE);
}
