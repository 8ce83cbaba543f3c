/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_recover.c - `modelfs recover`: a new trusted state in the place of one that was lost,
 * damaged or replayed. Only root, only while nothing is mounted; everything done is an event.
 * Then the repositories are asked: their policies know minima and revocations that this host forgot.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd_common.h"
#include "kfetch.h"
#include "log.h"
#include "refresh.h"
#include "shm.h"
#include "trusted.h"

/* What recovery wrote to the events, for the one who called it. */
static void
report(struct mfs_events *e, uint64_t after)
{
	mfs_autofree char *text = NULL;
	size_t len = 0;
	char *end;

	if (mfs_events_render(e, NULL, MFS_SNAP_BYTES, &text, &len, NULL) != MFS_OK)
		return;
	for (char *line = text; (end = memchr(line, '\n', len - (size_t)(line - text))) != NULL; line = end + 1) {
		json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);
		const char *model = json_string_value(json_object_get(event, "model"));
		const char *version = json_string_value(json_object_get(event, "version"));
		const char *detail = json_string_value(json_object_get(event, "detail"));
		char plain[1024];

		if ((uint64_t)json_integer_value(json_object_get(event, "seq")) > after && detail != NULL) {
			mfs_cmd_printable(plain, sizeof(plain), detail);
			printf("%s%s%s%s%s\n", model != NULL ? model : "state", version != NULL ? " " : "",
				version != NULL ? version : "", ": ", plain);
		}
		json_decref(event);
	}
}

/* What the repositories say, into the new state. The first failure is the one returned. */
static enum mfs_code
ask_repositories(const struct mfs_engine_args *engine_args, struct mfs_offline *o, int sock, struct mfs_err *err)
{
	struct mfs_refresh_args args = { .config = engine_args->config, .keys = o->keys, .events = o->events,
		.state_dirfd = engine_args->state_dirfd };
	MFS_CLEANUP(mfs_cleanup_refresh) struct mfs_refresh *r = NULL;
	struct mfs_remote *remote = NULL;
	enum mfs_code code, first = MFS_OK;

	if ((code = mfs_engine_open(engine_args, &o->engine, err)) != MFS_OK ||
		(code = mfs_remote_adopt(sock, &remote, err)) != MFS_OK)
		return code;
	mfs_remote_bandwidth(remote, args.config->update.bandwidth);
	args.engine = o->engine;
	args.remote = remote;
	if ((code = mfs_refresh_new(&args, &r, err)) != MFS_OK)
		first = code;
	for (size_t k = 0; r != NULL && k < args.config->n_repos; k++) {
		struct mfs_err own = MFS_ERR_INIT;

		if ((code = mfs_refresh_run(r, k, NULL, NULL, NULL, &own)) == MFS_OK) {
			printf("repository %s: minima and revocations are those of its policies\n", args.config->repos[k].name);
			continue;
		}
		if (first == MFS_OK) {
			first = code;
			*err = own;
		}
	}
	mfs_remote_free(remote);
	return first;
}

static int
recover_main(struct mfs_cmd_env *env, int link, void *arg)
{
	const int *sock = arg;
	struct mfs_engine_args args = { .config = env->config, .state_dirfd = env->folders.state };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_offline o = { 0 };
	uint64_t after;
	int status = MFS_EXIT_DONE;

	(void)link;
	mfs_log_open("recover", (enum mfs_level)0);
	if (mfs_keys_load(env->config, &env->keys, &o.keys, &err) != MFS_OK ||
		mfs_store_open(env->folders.store, env->seeds, env->n_seeds, &o.store, &err) != MFS_OK ||
		mfs_events_open(env->folders.state, false, &o.events, &err) != MFS_OK)
		return mfs_cmd_fail("recover", &err);
	args.keys = o.keys;
	args.store = o.store;
	args.events = o.events;
	after = mfs_events_wait(o.events, 0, 0);
	if (mfs_engine_recover(&args, &err) != MFS_OK)
		status = mfs_cmd_fail("recover", &err);
	report(o.events, after);
	if (status == MFS_EXIT_DONE && *sock >= 0 && ask_repositories(&args, &o, *sock, &err) != MFS_OK) {
		(void)mfs_err_hint(&err, "; the new state stands, but what a policy forbids is not known until 'modelfs check' succeeds");
		status = mfs_cmd_fail("recover", &err);
	}
	mfs_offline_close(&o);
	return status;
}

static enum mfs_code
folders_prepare(struct mfs_cmd_env *env, struct mfs_err *err)
{
	enum mfs_code code = mfs_cmd_env_open(env, true, err);

	if (code != MFS_STATE_REPLAYED)
		return code;
	/* The state key is gone beside a state: nothing of it can be read any more, so a new key. */
	*err = (struct mfs_err)MFS_ERR_INIT;
	if (mfs_setup_folders(env->config, false, &env->folders, err) != MFS_OK ||
		mfs_state_key_renew(env->folders.state, err) != MFS_OK)
		return err->code;
	printf("state: the state key was missing; a new one was made, what the old one protected is not readable\n");
	(void)fflush(stdout);
	mfs_folders_close(&env->folders);
	return mfs_cmd_env_open(env, false, err);
}

int
mfs_cmd_recover(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	bool mounted = false;
	pid_t pid, fetch = 0;
	int code, status, sock = -1;

	if (!mfs_args_parse(argc, argv, 0, 0, 0, &args, &code))
		return code;
	if (mfs_cmd_env_config(&env, args.config, &err) != MFS_OK || folders_prepare(&env, &err) != MFS_OK ||
		mfs_cmd_side(&env, &mounted, &err) != MFS_OK)
		return mfs_cmd_fail("recover", &err);
	if (mounted) {
		(void)mfs_fail(&err, MFS_CONDITION_UNMET,
			"%s is mounted, so its state is in use and readable; run 'modelfs unmount' first if it must be made anew",
			MFS_ESC(env.config->mount));
		return mfs_cmd_fail("recover", &err);
	}
	printf("making a new trusted state from what still verifies; floors only rise, no older version becomes active\n");
	if (env.config->n_repos > 0 &&
		mfs_fetch_spawn(&(struct mfs_fetch_args){ .config = env.config, .parent = getpid() }, &sock, &fetch, &err) != MFS_OK)
		return mfs_cmd_fail("recover", &err);
	if (mfs_cmd_confined("recover", &env, -1, recover_main, &sock, NULL, &pid, &err) != MFS_OK ||
		(status = mfs_cmd_reap(pid, "recover", &err)) < 0)
		status = mfs_cmd_fail("recover", &err);
	mfs_cleanup_close(&sock);
	if (fetch > 0) {
		(void)kill(fetch, SIGKILL);
		while (waitpid(fetch, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return status;
}
