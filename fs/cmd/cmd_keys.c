/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_keys.c - `modelfs keys init|show|retrust`. */
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd_common.h"
#include "device_key.h"
#include "io.h"
#include "trusted.h"

#define KEY_FILE_MAX 65536

/* ---- show ------------------------------------------------------------------------------------------------ */

static enum mfs_code
model_key_id(const struct mfs_cmd_env *env, size_t i, struct mfs_sha256 *id, struct mfs_err *err)
{
	uint8_t *bytes = NULL;
	size_t len = 0;
	struct mfs_key key = { { 0 } };
	enum mfs_code code = MFS_OK;

	if (env->keys.model[i] < 0)
		return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s",
			env->keys.reason[i] != NULL ? env->keys.reason[i] : "it cannot be opened");
	if ((code = mfs_fd_read(env->keys.model[i], "model key", KEY_FILE_MAX, &bytes, &len, err)) == MFS_OK &&
		(code = mfs_model_key_parse(env->config->models[i].model_key, MFS_SPAN(bytes, len), &key, err)) == MFS_OK)
		code = mfs_model_key_id(&key, id, err);
	mfs_key_wipe(&key);
	if (bytes != NULL)
		OPENSSL_cleanse(bytes, len);
	free(bytes);
	return code;
}

static json_t *
trust_json(const struct mfs_cmd_env *env, size_t i, struct mfs_err *err)
{
	const struct mfs_config_key *k = &env->config->keys[i];
	mfs_autofree uint8_t *pem = NULL;
	struct mfs_sha256 id = { { 0 } };
	json_t *models = k->models != NULL ? json_array() : json_null();
	size_t len;

	if (mfs_fd_read(env->keys.trust[i], k->file, KEY_FILE_MAX, &pem, &len, err) != MFS_OK ||
		mfs_key_id_pem(MFS_SPAN(pem, len), &id, err) != MFS_OK) {
		(void)mfs_err_context(err, "%s: ", MFS_ESC(k->file));
		json_decref(models);
		return NULL;
	}
	for (char **m = k->models; m != NULL && *m != NULL; m++)
		(void)json_array_append_new(models, json_string(*m));
	return json_pack("{s:s, s:s, s:I, s:o}", "key_id", MFS_HEX(&id), "file", k->file, "epoch", (json_int_t)k->epoch,
		"models", models);
}

static json_t *
model_json(const struct mfs_cmd_env *env, size_t i)
{
	const struct mfs_config_model *m = &env->config->models[i];
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id = { { 0 } };

	if (m->model_key == NULL)
		return json_pack("{s:s, s:n, s:n, s:b}", "model", m->id, "source", "model_key_id", "available", 0);
	if (model_key_id(env, i, &id, &err) == MFS_OK)
		return json_pack("{s:s, s:s, s:s, s:b}", "model", m->id, "source", m->model_key, "model_key_id", MFS_HEX(&id),
			"available", 1);
	return json_pack("{s:s, s:s, s:n, s:b, s:s, s:s}", "model", m->id, "source", m->model_key, "model_key_id",
		"available", 0, "outcome", mfs_code_name(err.code), "why", err.msg);
}

static void
show_text(const json_t *all)
{
	const json_t *v, *m;
	size_t i, k;

	json_array_foreach(json_object_get(all, "trust"), i, v) {
		printf("trust  %s  epoch %lld  %s", json_string_value(json_object_get(v, "key_id")),
			(long long)json_integer_value(json_object_get(v, "epoch")), MFS_ESC(json_string_value(json_object_get(v, "file"))));
		if (json_is_null(json_object_get(v, "models")))
			printf("  every model");
		json_array_foreach(json_object_get(v, "models"), k, m)
			printf("%s%s", k == 0 ? "  " : ", ", json_string_value(m));
		printf("\n");
	}
	json_array_foreach(json_object_get(all, "models"), i, v) {
		const char *id = json_string_value(json_object_get(v, "model_key_id"));
		const char *source = json_string_value(json_object_get(v, "source"));
		const char *why = json_string_value(json_object_get(v, "why"));

		if (source == NULL)
			printf("model  %s: no model key is configured; only plain versions can be read\n",
				json_string_value(json_object_get(v, "model")));
		else
			printf("model  %s: %s  %s%s\n", json_string_value(json_object_get(v, "model")),
				id != NULL ? id : "unavailable:", id != NULL ? MFS_ESC(source) : "", why != NULL ? why : "");
	}
}

static int
keys_show(struct mfs_cmd_env *env, bool json)
{
	json_t *all = json_pack("{s:s, s:I, s:[], s:[]}", "format", "modelfs-keys/1", "threshold",
		(json_int_t)env->config->threshold, "trust", "models");
	mfs_autofree char *text = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (all == NULL || mfs_key_fds_open(env->config, -1, &env->keys, &err) != MFS_OK) {
		json_decref(all);
		return mfs_cmd_fail("keys", &err);
	}
	env->has_keys = true;
	for (size_t i = 0; i < env->config->n_keys; i++)
		if (json_array_append_new(json_object_get(all, "trust"), trust_json(env, i, &err)) != 0) {
			json_decref(all);
			return mfs_cmd_fail("keys", &err);
		}
	for (size_t i = 0; i < env->config->n_models; i++)
		(void)json_array_append_new(json_object_get(all, "models"), model_json(env, i));
	if (!json)
		show_text(all);
	else if ((text = json_dumps(all, JSON_INDENT(1) | JSON_ENSURE_ASCII)) != NULL)
		printf("%s\n", text);
	json_decref(all);
	return MFS_EXIT_DONE;
}

/* ---- init and retrust --------------------------------------------------------------------------------------- */

static int
keys_init(struct mfs_cmd_env *env)
{
	struct mfs_folders before;
	struct mfs_err err = MFS_ERR_INIT;
	bool there = false, made = false;

	if (mfs_setup_folders(env->config, false, &before, NULL) == MFS_OK) {
		there = faccessat(before.state, "key", F_OK, AT_SYMLINK_NOFOLLOW) == 0 && before.run >= 0;
		mfs_folders_close(&before);
	}
	if (mfs_setup_folders(env->config, true, &env->folders, &err) != MFS_OK)
		return mfs_cmd_fail("keys", &err);
	/* A key of another store is made with the tools of that store. */
	if (strncmp(env->config->device_key, "file:", 5) == 0 && (mfs_libraries_load(&err) != MFS_OK ||
		mfs_device_key_create(env->config->device_key, &made, &err) != MFS_OK))
		return mfs_cmd_fail("keys", &err);
	if (made)
		printf("made the device key %s\n", MFS_ESC(env->config->device_key + 5));
	if (there && !made) {
		printf("keys and folders are there: nothing to do\n");
		return MFS_EXIT_NOTHING;
	}
	if (!there)
		printf("made the state key %s/key; state and store belong to uid %u\n", MFS_ESC(env->config->state),
			(unsigned)env->folders.uid);
	return MFS_EXIT_DONE;
}

static int
keys_retrust(struct mfs_cmd_env *env)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_RELOAD, .timeout_ms = -1 };
	struct mfs_ctl_reply reply;
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_client_ask(env->config, &r, 60000, NULL, NULL, &reply, &err) == MFS_OK)
		return mfs_client_finish("keys", &reply);
	if (err.code == MFS_CONDITION_UNMET && err.sys_errno != 0) {
		printf("not mounted: keys are read at the next mount\n");
		return MFS_EXIT_NOTHING;
	}
	return mfs_cmd_fail("keys", &err);
}

int
mfs_cmd_keys(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_args args;
	const char *what;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_JSON, 1, 1, &args, &code))
		return code;
	what = args.pos[0];
	if (strcmp(what, "init") != 0 && strcmp(what, "show") != 0 && strcmp(what, "retrust") != 0) {
		fprintf(stderr, "modelfs: keys: '%s' is none of init, show, retrust\n", MFS_ESC(what));
		return mfs_cmd_usage(NULL);
	}
	if (mfs_cmd_env_config(&env, args.config, &err) != MFS_OK)
		return mfs_cmd_fail("keys", &err);
	if (what[0] == 's')
		return keys_show(&env, args.json);
	return what[0] == 'i' ? keys_init(&env) : keys_retrust(&env);
}
