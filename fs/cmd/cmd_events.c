/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_events.c - `modelfs events [-f] [ID] [--json]`: what happened, and what happens. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd_common.h"
#include "log.h"
#include "shm.h"

struct show {
	bool json;
	uint64_t after;
};

static const char *
field(const json_t *event, const char *name)
{
	const char *s = json_string_value(json_object_get(event, name));

	return s != NULL ? s : "";
}

/* One event: its JSON line, or a line for people. */
static void
event_print(struct show *s, const json_t *event)
{
	mfs_autofree char *text = NULL;
	const char *from = field(event, "from"), *to = field(event, "to");
	char line[2048], plain[2048];

	s->after = (uint64_t)json_integer_value(json_object_get(event, "seq"));
	if (s->json) {
		if ((text = json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII)) != NULL)
			printf("%s\n", text);
		return;
	}
	(void)snprintf(line, sizeof(line), "%s %s%s%s %s: %s%s%s%s%s", field(event, "time"), field(event, "model"),
		field(event, "model")[0] != '\0' ? " " : "", field(event, "source"), field(event, "outcome"), from,
		from[0] != '\0' && to[0] != '\0' ? " -> " : "", to, from[0] != '\0' || to[0] != '\0' ? ": " : "",
		field(event, "detail"));
	mfs_cmd_printable(plain, sizeof(plain), line);
	printf("%s\n", plain);
}

static bool
event_line(void *user, const json_t *body)
{
	const json_t *event = json_object_get(body, "event");

	if (json_is_object(event))
		event_print(user, event);
	return fflush(stdout) == 0;
}

struct offline {
	struct show show;
	const char *model;
};

static int
offline_main(struct mfs_cmd_env *env, int link, void *arg)
{
	struct offline *q = arg;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_events *e = NULL;
	mfs_autofree char *text = NULL;
	size_t len = 0;
	char *end;

	(void)link;
	mfs_log_open("events", (enum mfs_level)0);
	if (mfs_events_open(env->folders.state, true, &e, &err) != MFS_OK ||
		mfs_events_render(e, q->model, MFS_SNAP_BYTES, &text, &len, &err) != MFS_OK) {
		mfs_events_close(e);
		return mfs_cmd_fail("events", &err);
	}
	for (char *line = text; (end = memchr(line, '\n', len - (size_t)(line - text))) != NULL; line = end + 1) {
		json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);

		if (event != NULL)
			event_print(&q->show, event);
		json_decref(event);
	}
	mfs_events_close(e);
	return MFS_EXIT_DONE;
}

static int
events_offline(struct mfs_cmd_env *env, struct offline *q)
{
	struct mfs_err err = MFS_ERR_INIT;
	pid_t pid;
	int status;

	if (mfs_setup_folders(env->config, false, &env->folders, &err) != MFS_OK) {
		if (err.sys_errno == ENOENT)
			return MFS_EXIT_DONE; /* nothing ever happened here */
		return mfs_cmd_fail("events", &err);
	}
	if (mfs_cmd_confined("events", env, -1, offline_main, q, NULL, &pid, &err) != MFS_OK ||
		(status = mfs_cmd_reap(pid, "events", &err)) < 0)
		return mfs_cmd_fail("events", &err);
	return status;
}

int
mfs_cmd_events(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_ctl_request r = { .command = MFS_CTL_EVENTS, .timeout_ms = -1 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_reply reply;
	struct offline q = { 0 };
	struct mfs_args args;
	bool connected = false;
	ssize_t i = -1;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_JSON | MFS_ARG_FOLLOW, 0, 1, &args, &code))
		return code;
	if (mfs_cmd_env_ask(&env, "events", args.config, &err) != MFS_OK ||
		(args.n_pos == 1 && (i = mfs_cmd_model(env.config, args.pos[0], &err)) < 0))
		return mfs_cmd_fail("events", &err);
	if (i >= 0) {
		(void)snprintf(r.model, sizeof(r.model), "%s", env.config->models[i].id);
		q.model = env.config->models[i].id;
	}
	q.show.json = args.json;
	r.follow = args.follow;
	for (;;) {
		r.after = q.show.after;
		err = (struct mfs_err)MFS_ERR_INIT;
		if (mfs_client_ask(env.config, &r, args.follow ? -1 : 10000, event_line, &q.show, &reply, &err) == MFS_OK) {
			/* following ends only with the mount: a serve that restarts is asked again */
			if (!args.follow || reply.code != MFS_CONDITION_UNMET)
				return mfs_client_finish("events", &reply);
			json_decref(reply.body);
		} else if (err.sys_errno != 0) {
			break;
		} else if (!args.follow || ferror(stdout)) {
			return mfs_cmd_fail("events", &err);
		}
		connected = true;
		(void)nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	}
	if (err.code != MFS_CONDITION_UNMET)
		return mfs_cmd_fail("events", &err);
	if (connected) {
		fprintf(stderr, "modelfs: events: modelfs was unmounted\n");
		return MFS_EXIT_DONE;
	}
	if (args.follow) {
		(void)mfs_err_hint(&err, "; 'events -f' follows a mounted modelfs");
		return mfs_cmd_fail("events", &err);
	}
	if (mfs_cmd_env_broken(&env, &err) != MFS_OK)
		return mfs_cmd_fail("events", &err);
	return events_offline(&env, &q);
}
