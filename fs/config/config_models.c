/* SPDX-License-Identifier: Apache-2.0 */
/* config_models.c - the mapping `models` of modelfs.yaml(5). */
#include <stdio.h>
#include <strings.h>

#include "config_walk.h"

#define AT(type, member) offsetof(struct type, member)

#define COMMAND_MS     60000
#define COMMAND_MS_MAX (24 * 3600 * (int64_t)1000)
#define MEMORY_MIN     (16u << 20) /* less than a shell and its libraries */

/* A time that something may take or wait: never none, never for ever. */
static enum mfs_code
read_patience(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code;
	int64_t ms;

	if ((code = mfs_read_duration(w, y, key, f, &ms)) != MFS_OK)
		return code;
	if (ms < 100 || ms > COMMAND_MS_MAX)
		return mfs_yaml_fail(y, key, w->err, "must be from 100ms to 1d");
	*(int64_t *)dst = ms;
	return MFS_OK;
}

static enum mfs_code
read_health_user(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config_health *h = dst;
	enum mfs_code code;
	uint32_t uid = 0;

	if ((code = mfs_read_principal(w, y, key, "user", &uid)) != MFS_OK)
		return code;
	if (uid == 0)
		return mfs_yaml_fail(y, key, w->err, "must not be root; name a user without rights, or remove the key");
	h->uid = uid;
	return mfs_read_text(w, y, key, f, &h->user);
}

static enum mfs_code
read_memory(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code;
	uint64_t bytes;

	if ((code = mfs_read_size(w, y, key, f, &bytes)) != MFS_OK)
		return code;
	if (bytes < MEMORY_MIN)
		return mfs_yaml_fail(y, key, w->err, "must be at least 16MiB: a smaller one starts no program");
	*(uint64_t *)dst = bytes;
	return MFS_OK;
}

static const struct mfs_field health_fields[] = {
	{ "command", mfs_read_command, AT(mfs_config_health, command), NULL },
	{ "timeout", read_patience, AT(mfs_config_health, timeout_ms), NULL },
	{ "interval", read_patience, AT(mfs_config_health, interval_ms), NULL },
	{ "network", mfs_read_choice, AT(mfs_config_health, network), (const char *const[]){ "none", "loopback", NULL } },
	{ "devices", mfs_read_paths, AT(mfs_config_health, devices), NULL },
	{ "user", read_health_user, 0, NULL },
	{ "memory", read_memory, AT(mfs_config_health, memory), NULL },
	{ NULL, NULL, 0, NULL },
};

static enum mfs_code
read_model_key(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code;

	if ((code = mfs_read_text(w, y, key, f, NULL)) != MFS_OK)
		return code;
	if (strncmp(y->text, "credential:", 11) == 0) {
		const char *name = y->text + 11;

		if (!mfs_model_id_ok(name, strlen(name)))
			return mfs_yaml_fail(y, key, w->err, "not the name of a credential (letters, digits, '.', '_', '-')");
		return mfs_read_text(w, y, key, f, dst);
	}
	if (strncmp(y->text, "file:", 5) != 0)
		return mfs_yaml_fail(y, key, w->err, "must be \"file:PATH\" or \"credential:NAME\"");
	return mfs_read_file_uri(w, y, key, f, dst);
}

/* A user or group: a number, or a name that was looked up when the configuration was read. */
enum mfs_code
mfs_read_principal(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const char *kind, uint32_t *out)
{
	const struct mfs_config_source *fact;
	struct mfs_field none = { 0 };
	const char *digits;
	char name[300], *end;
	unsigned long long v;
	enum mfs_code code;

	if ((code = mfs_read_text(w, y, key, &none, NULL)) != MFS_OK)
		return code;
	digits = y->text;
	if (strspn(digits, "0123456789") != strlen(digits)) {
		if (strlen(y->text) > 255)
			return mfs_yaml_fail(y, key, w->err, "longer than 255 bytes");
		(void)snprintf(name, sizeof(name), "%s:%s", kind, y->text);
		if ((code = mfs_walk_fact(w, name, &fact)) != MFS_OK)
			return code;
		if (fact == NULL)
			return mfs_yaml_fail(y, key, w->err, "no %s '%s' on this host; create it or write a number", kind,
				MFS_ESC(y->text));
		digits = fact->text;
	}
	errno = 0;
	v = strtoull(digits, &end, 10);
	if (errno != 0 || end == digits || *end != '\0' || v >= UINT32_MAX)
		return mfs_yaml_fail(y, key, w->err, "not the number of a %s", kind);
	*out = (uint32_t)v;
	return MFS_OK;
}

static enum mfs_code
read_owner(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	return mfs_read_principal(w, y, key, "user", dst);
}

static enum mfs_code
read_group(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config_model *m = dst;

	(void)f;
	m->has_group = true;
	return mfs_read_principal(w, y, key, "group", &m->gid);
}

static enum mfs_code
read_mode(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config_model *m = dst;
	unsigned long v;

	(void)f;
	if (y->kind != MFS_YAML_SCALAR || strlen(y->text) < 3 || strlen(y->text) > 4 ||
		strspn(y->text, "01234567") != strlen(y->text) || (v = strtoul(y->text, NULL, 8)) == 0 || (v & ~0444ul) != 0)
		return mfs_yaml_fail(y, key, w->err, "must be who may read, in octal, such as 0440; nothing else can be allowed");
	m->has_mode = true;
	m->file_mode = (mode_t)v;
	m->dir_mode = (mode_t)(v | v >> 2);
	return MFS_OK;
}

static enum mfs_code
read_model_id(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	if (y->kind != MFS_YAML_SCALAR || !mfs_model_id_ok(y->text, strlen(y->text)))
		return mfs_yaml_fail(y, key, w->err, "not a model id ([A-Za-z0-9][A-Za-z0-9._-]*, at most %u bytes)", MFS_ID_MAX);
	return mfs_read_text(w, y, key, f, dst);
}

static const char *const serve_names[] = { "auto", "resident", "paged", NULL };
static const char *const pin_names[] = { "process", "cgroup", "off", NULL };

static const struct mfs_field model_fields[] = {
	{ "serve", mfs_read_choice, AT(mfs_config_model, serve), serve_names },
	{ "model_key", read_model_key, AT(mfs_config_model, model_key), NULL },
	{ "model_id", read_model_id, AT(mfs_config_model, model_id), NULL },
	{ "group", read_group, 0, NULL },
	{ "owner", read_owner, AT(mfs_config_model, uid), NULL },
	{ "mode", read_mode, 0, NULL },
	{ "pin", mfs_read_choice, AT(mfs_config_model, pin), pin_names },
	{ "pin_window", mfs_read_duration, AT(mfs_config_model, pin_window_ms), NULL },
	{ "min_release", mfs_read_release, AT(mfs_config_model, minimum.min_release), NULL },
	{ "min_key_epoch", mfs_read_release, AT(mfs_config_model, minimum.min_key_epoch), NULL },
	{ "input_schema_sha256", mfs_read_sha256, AT(mfs_config_model, input_schema), NULL },
	{ "output_schema_sha256", mfs_read_sha256, AT(mfs_config_model, output_schema), NULL },
	{ "preprocess_sha256", mfs_read_sha256, AT(mfs_config_model, preprocess), NULL },
	{ "health", mfs_read_mapping, AT(mfs_config_model, health), health_fields },
	{ "on_change", mfs_read_command, AT(mfs_config_model, on_change), NULL },
	{ "on_reject", mfs_read_command, AT(mfs_config_model, on_reject), NULL },
	{ "repository", mfs_read_text, AT(mfs_config_model, repository), NULL },
	{ "channel", mfs_read_text, AT(mfs_config_model, channel), NULL },
	{ NULL, NULL, 0, NULL },
};

static enum mfs_code
read_model(struct mfs_walk *w, const struct mfs_yaml *name, const struct mfs_yaml *y, const char *key,
	struct mfs_config_model *m)
{
	enum mfs_code code;

	m->pin_window_ms = 10000;
	m->health.timeout_ms = m->health.interval_ms = COMMAND_MS;
	m->repo = -1;
	if ((m->id = strdup(name->text)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	if (!mfs_yaml_is_null(y) && (code = mfs_walk_mapping(w, y, key, model_fields, m)) != MFS_OK)
		return code;
	if (m->model_id == NULL && (m->model_id = strdup(m->id)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	if (!m->has_mode) {
		bool narrow = m->has_group && m->model_key != NULL;

		m->file_mode = narrow ? 0440 : 0444;
		m->dir_mode = narrow ? 0550 : 0555;
	}
	return MFS_OK;
}

static int
compare_models(const void *a, const void *b)
{
	return strcmp(((const struct mfs_config_model *)a)->id, ((const struct mfs_config_model *)b)->id);
}

enum mfs_code
mfs_read_models(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config *c = dst;

	(void)f;
	if (y->kind != MFS_YAML_MAPPING)
		return mfs_yaml_fail(y, key, w->err, "must be a mapping of model ids, such as {det: {serve: auto}}");
	if ((c->models = calloc(y->n / 2 + 1, sizeof(*c->models))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; i + 1 < y->n; i += 2) {
		const struct mfs_yaml *name = y->kids[i];
		char buf[MFS_KEY_MAX];
		enum mfs_code code;

		(void)mfs_walk_key(buf, key, name->text);
		if (!mfs_model_id_ok(name->text, strlen(name->text)))
			return mfs_yaml_fail(name, buf, w->err, "not a model id ([A-Za-z0-9][A-Za-z0-9._-]*, at most %u bytes)",
				MFS_ID_MAX);
		for (size_t j = 0; j < c->n_models; j++)
			if (c->models[j].id != NULL && strcasecmp(c->models[j].id, name->text) == 0)
				return mfs_yaml_fail(name, buf, w->err, "differs from '%s' only in case; rename one",
					c->models[j].id);
		if ((code = read_model(w, name, y->kids[i + 1], buf, &c->models[c->n_models++])) != MFS_OK)
			return code;
	}
	qsort(c->models, c->n_models, sizeof(*c->models), compare_models);
	for (size_t i = 0; i < c->n_models; i++)
		if (c->models[i].health.user == NULL)
			c->models[i].health.uid = (uid_t)(MFS_HEALTH_UID_FIRST + i % MFS_HEALTH_UIDS);
	return MFS_OK;
}
