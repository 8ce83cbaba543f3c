/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_doctor.c - `modelfs doctor [--json]`: what on this host is missing or weaker than it should
 * be, what it costs, and how to fix it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "doctor.h"

static const char *const levels[] = { "ok", "warn", "fail" };

void
mfs_doctor_say(struct mfs_doctor *d, enum mfs_finding level, const char *what, const char *fix, const char *why, ...)
{
	char raw[768], text[768];
	json_t *one;
	va_list ap;

	va_start(ap, why);
	(void)vsnprintf(raw, sizeof(raw), why, ap);
	va_end(ap);
	mfs_cmd_printable(text, sizeof(text), raw);
	one = json_pack("{s:s, s:s, s:s, s:s?}", "level", levels[level], "what", what, "why", text, "fix", fix);
	if (one == NULL || json_array_append_new(d->checks, one) != 0)
		fprintf(stderr, "modelfs: doctor: %s: no memory\n", what);
	d->counts[level]++;
}

int
mfs_doctor_print(const struct mfs_doctor *d, bool json, FILE *out)
{
	mfs_autofree char *text = NULL;
	json_t *all;
	const json_t *one;
	size_t i;

	if (json) {
		all = json_pack("{s:s, s:O, s:i, s:i, s:i}", "format", "modelfs-doctor/1", "checks", d->checks, "ok",
			(int)d->counts[MFS_FINE], "warn", (int)d->counts[MFS_WEAK], "fail", (int)d->counts[MFS_BROKEN]);
		if (all != NULL && (text = json_dumps(all, JSON_INDENT(1) | JSON_ENSURE_ASCII)) != NULL)
			fprintf(out, "%s\n", text);
		json_decref(all);
		return text == NULL || d->counts[MFS_BROKEN] > 0 ? MFS_EXIT_FAILED : MFS_EXIT_DONE;
	}
	json_array_foreach(d->checks, i, one) {
		const char *fix = json_string_value(json_object_get(one, "fix"));

		fprintf(out, "%-4s  %s: %s%s%s\n", json_string_value(json_object_get(one, "level")),
			json_string_value(json_object_get(one, "what")), json_string_value(json_object_get(one, "why")),
			fix != NULL ? ": " : "", fix != NULL ? fix : "");
	}
	return d->counts[MFS_BROKEN] > 0 ? MFS_EXIT_FAILED : MFS_EXIT_DONE;
}

static void
configuration(struct mfs_doctor *d, struct mfs_cmd_env *env, const char *path)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_cmd_env_running(env, path, false, &err) != MFS_OK || mfs_cmd_env_broken(env, &err) != MFS_OK) {
		mfs_doctor_say(d, MFS_BROKEN, "configuration", "correct it; 'modelfs config check' tells when it is right",
			"%s%s", err.msg + (strncmp(err.msg, "configuration: ", 15) == 0 ? 15 : 0),
			env->broken.code != MFS_OK ? "; what is mounted runs with the configuration before it, and is looked at by that" : "");
		return;
	}
	for (size_t i = 0; i < env->config->n_notes; i++)
		mfs_doctor_say(d, MFS_WEAK, "configuration", "correct what it names", "%s",
			env->config->notes[i]);
	mfs_doctor_say(d, MFS_FINE, "configuration", NULL, "%s, %zu models, %zu trust keys", env->config->path,
		env->config->n_models, env->config->n_keys);
}

static int
state_fine(const struct mfs_cmd_env *env, const struct mfs_offline *o, void *arg)
{
	(void)env;
	*(bool *)arg = o == NULL;
	return MFS_EXIT_DONE;
}

/* Could it be mounted? Looked at as `status` does while nothing is; the reason why not is printed there. */
static void
trusted_state(struct mfs_doctor *d, const char *path)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_err err = MFS_ERR_INIT;
	bool none = false;

	(void)fflush(stdout);
	if (mfs_cmd_env_config(&env, path, &err) != MFS_OK)
		return; /* said already */
	if (mfs_cmd_look("doctor", &env, state_fine, &none) != MFS_EXIT_DONE)
		mfs_doctor_say(d, MFS_BROKEN, "trusted state", "do what the error above says",
			"%s or the store cannot be used: nothing will be mounted or installed", env.config->state);
	else
		mfs_doctor_say(d, MFS_FINE, "trusted state", NULL, none ? "none yet" : "authentic, and as new as its counter");
}

int
mfs_cmd_doctor(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_doctor d = { .checks = json_array(), .root = geteuid() == 0 };
	struct utsname host;
	struct mfs_args args;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_JSON, 0, 0, &args, &code)) {
		json_decref(d.checks);
		return code;
	}
	if (!d.root)
		mfs_doctor_say(&d, MFS_WEAK, "doctor", "run it as root", "without root some things cannot be looked at");
	configuration(&d, &env, args.config);
	if (uname(&host) == 0)
		mfs_doctor_kernel(&d, host.release);
	mfs_doctor_host(&d);
	if (env.config != NULL)
		mfs_doctor_instance(&d, &env);
	if (env.config != NULL && d.root && !d.mounted)
		trusted_state(&d, args.config);
	code = mfs_doctor_print(&d, args.json, stdout);
	json_decref(d.status);
	json_decref(d.checks);
	return code;
}
