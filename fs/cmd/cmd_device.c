/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_device.c - `modelfs device --json`: one line about this host for the inventory that `modelpub plan` and
 * grants are made from. Only what the configuration says; nothing that identifies the machine beside device.id.
 */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"

static json_t *
pairs(const struct mfs_range *list, size_t n)
{
	json_t *o = json_object();

	for (size_t i = 0; i < n; i++)
		(void)json_object_set_new(o, list[i].name, json_string(list[i].min != NULL ? list[i].min : ""));
	return o;
}

static void
text_put(json_t *o, const char *name, const char *value)
{
	if (value != NULL)
		(void)json_object_set_new(o, name, json_string(value));
}

/* The channel of each model that has one of its own. */
static json_t *
channels(const struct mfs_config *c)
{
	json_t *o = json_object();

	for (size_t i = 0; i < c->n_models; i++)
		if (c->models[i].channel != NULL && (c->device_channel == NULL ||
			strcmp(c->models[i].channel, c->device_channel) != 0))
			(void)json_object_set_new(o, c->models[i].id, json_string(c->models[i].channel));
	return o;
}

static json_t *
inventory(const struct mfs_config *c)
{
	json_t *o = json_object(), *own = channels(c);

	text_put(o, "format", "modelfs-device/1");
	text_put(o, "id", c->device_id);
	text_put(o, "class", c->device_class);
	text_put(o, "region", c->device_region);
	text_put(o, "channel", c->device_channel);
	(void)json_object_set_new(o, "labels", pairs(c->labels, c->n_labels));
	(void)json_object_set_new(o, "apps", pairs(c->apps, c->n_apps));
	if (json_object_size(own) > 0)
		(void)json_object_set(o, "channels", own);
	json_decref(own);
	return o;
}

static int
people(const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)o, key, v) {
		mfs_autofree char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENSURE_ASCII);

		printf("%-9s %s\n", key, json_is_string(v) ? MFS_ESC(json_string_value(v)) : text != NULL ? text : "");
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_device(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autofree char *text = NULL;
	struct mfs_args args;
	json_t *o;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_JSON, 0, 0, &args, &code))
		return code;
	if (mfs_cmd_env_config(&env, args.config, &err) != MFS_OK)
		return mfs_cmd_fail("device", &err);
	o = inventory(env.config);
	if (!args.json)
		code = people(o);
	else if ((text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_SORT_KEYS)) != NULL)
		code = printf("%s\n", text) < 0 ? MFS_EXIT_FAILED : MFS_EXIT_DONE;
	else
		code = MFS_EXIT_FAILED;
	json_decref(o);
	return code;
}
