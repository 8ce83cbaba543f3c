/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_device.c - `modelfs device --json`: one line about this host for the inventory that `modelpub plan` and
 * grants are made from. Only what the configuration says and the public half of the device's key, which is made here
 * if it is a file that is not there yet; nothing that identifies the machine beside device.id and that key.
 */
#include <stdio.h>
#include <string.h>

#include "cmd_common.h"
#include "device_key.h"

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

/*
 * The key that grants are addressed to; made where it is missing and we may. Absent from the line when it cannot be had:
 * what went wrong is in *err then.
 */
static void
key_put(json_t *o, const struct mfs_config *c, struct mfs_err *err)
{
	char hex[2 * MFS_DEVICE_SPKI_MAX + 1];
	struct mfs_device_key key;
	bool made = false;

	if (mfs_device_key_load(c->device_key, &key, err) != MFS_OK && err->sys_errno == ENOENT) {
		*err = (struct mfs_err)MFS_ERR_INIT;
		if (mfs_device_key_create(c->device_key, &made, err) == MFS_OK)
			(void)mfs_device_key_load(c->device_key, &key, err);
		else if (err->sys_errno == ENOENT)
			(void)mfs_err_hint(err, "; 'modelfs keys init' makes it");
	}
	if (err->code != MFS_OK)
		return;
	if (made)
		fprintf(stderr, "modelfs: device: made the device key %s\n", MFS_ESC(c->device_key + 5));
	for (size_t i = 0; i < key.spki_len; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", key.spki[i]);
	text_put(o, "device_key_id", MFS_HEX(&key.id));
	text_put(o, "device_key_type", key.type);
	text_put(o, "public_key", hex);
}

static json_t *
inventory(const struct mfs_config *c, struct mfs_err *err)
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
	key_put(o, c, err);
	return o;
}

static int
people(const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)o, key, v) {
		mfs_autofree char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENSURE_ASCII);

		printf("%-16s%s\n", key, json_is_string(v) ? MFS_ESC(json_string_value(v)) : text != NULL ? text : "");
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
	if (mfs_libraries_load(&err) != MFS_OK)
		return mfs_cmd_fail("device", &err);
	o = inventory(env.config, &err);
	if (!args.json)
		code = people(o);
	else if ((text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_SORT_KEYS)) != NULL)
		code = printf("%s\n", text) < 0 ? MFS_EXIT_FAILED : MFS_EXIT_DONE;
	else
		code = MFS_EXIT_FAILED;
	json_decref(o);
	/* The line is right as far as it goes, but a grant cannot be made from it. */
	return err.code == MFS_OK ? code : mfs_cmd_fail("device", &err);
}
