/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_parse.c - the keys of modelfs.yaml(5): one table per mapping, then checks across keys. Others: config_models.c,
 * config_repos.c, config_update.c.
 */
#include "mfs_config.h"

#include <stdio.h>

#include "config_walk.h"

#define AT(type, member) offsetof(struct type, member)

/* ---- lists of the top level ---------------------------------------------------------------------- */

static enum mfs_code
read_seed(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config *c = dst;
	enum mfs_code code;

	if (y->kind != MFS_YAML_SEQUENCE || y->n > 16)
		return mfs_yaml_fail(y, key, w->err, "must be a list of at most 16 folders");
	if ((c->seed = calloc(y->n + 1, sizeof(*c->seed))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (; c->n_seed < y->n; c->n_seed++)
		if ((code = mfs_read_path(w, y->kids[c->n_seed], key, f, &c->seed[c->n_seed])) != MFS_OK)
			return code;
	return MFS_OK;
}

static enum mfs_code
read_counter(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	if (y->kind == MFS_YAML_SCALAR && strncmp(y->text, "tpm:", 4) == 0)
		return mfs_yaml_fail(y, key, w->err, "this version has no TPM counter; write 'file'");
	if (y->kind != MFS_YAML_SCALAR || strcmp(y->text, "file") != 0)
		return mfs_yaml_fail(y, key, w->err, "must be 'file'");
	return mfs_read_text(w, y, key, f, dst);
}

/* ---- trust ----------------------------------------------------------------------------------------- */

static enum mfs_code
read_key_models(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	char ***models = dst;

	(void)f;
	if (y->kind != MFS_YAML_SEQUENCE || y->n == 0 || y->n > MFS_YAML_KEYS_MAX)
		return mfs_yaml_fail(y, key, w->err, "must be a list of model ids; leave it out for every model");
	if ((*models = calloc(y->n + 1, sizeof(**models))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; i < y->n; i++) {
		const struct mfs_yaml *k = y->kids[i];

		if (k->kind != MFS_YAML_SCALAR || !mfs_model_id_ok(k->text, strlen(k->text)))
			return mfs_yaml_fail(k, key, w->err, "not a model id");
		if (((*models)[i] = strdup(k->text)) == NULL)
			return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	}
	return MFS_OK;
}

static const struct mfs_field key_fields[] = {
	{ "file", mfs_read_path, AT(mfs_config_key, file), NULL },
	{ "epoch", mfs_read_release, AT(mfs_config_key, epoch), NULL },
	{ "models", read_key_models, AT(mfs_config_key, models), NULL },
	{ NULL, NULL, 0, NULL },
};

static enum mfs_code
read_keys(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config *c = dst;

	if (y->kind != MFS_YAML_SEQUENCE || y->n == 0 || y->n > MFS_TRUST_KEYS_MAX)
		return mfs_yaml_fail(y, key, w->err, "must be a list of 1 to %u public key files", MFS_TRUST_KEYS_MAX);
	if ((c->keys = calloc(y->n, sizeof(*c->keys))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; i < y->n; i++) {
		struct mfs_config_key *k = &c->keys[c->n_keys++];
		const struct mfs_yaml *e = y->kids[i];
		enum mfs_code code;
		char buf[MFS_KEY_MAX], index[24];

		k->epoch = 1;
		k->line = e->line;
		k->column = e->column;
		(void)snprintf(index, sizeof(index), "%zu", i + 1);
		(void)mfs_walk_key(buf, key, index);
		if (e->kind == MFS_YAML_MAPPING)
			code = mfs_walk_mapping(w, e, buf, key_fields, k);
		else
			code = mfs_read_path(w, e, buf, f, &k->file);
		if (code == MFS_OK && (k->source = strdup(e->file)) == NULL)
			code = mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
		if (code == MFS_OK && k->file == NULL)
			code = mfs_yaml_fail(e, buf, w->err, "has no 'file'");
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static const unsigned range_threshold[2] = { 1, MFS_KEY_IDS_MAX };

static const struct mfs_field trust_fields[] = {
	{ "keys", read_keys, 0, NULL },
	{ "threshold", mfs_read_unsigned, AT(mfs_config, threshold), range_threshold },
	{ "root", mfs_read_path, AT(mfs_config, trust_root), NULL },
	{ NULL, NULL, 0, NULL },
};

/* ---- device ------------------------------------------------------------------------------------------ */

struct pairs {
	struct mfs_range **list;
	size_t *n;
};

/* First line of a fact, without a "+build" suffix. */
static char *
fact_version(const struct mfs_config_source *s)
{
	size_t n = strcspn(s->text, "\r\n+ \t");

	return strndup(s->text, n < s->len ? n : s->len);
}

static enum mfs_code
read_version(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, char **out)
{
	const struct mfs_config_source *fact = NULL;
	struct mfs_field path = { 0 };
	mfs_autofree char *file = NULL, *name = NULL;
	enum mfs_code code;

	if (strncmp(y->text, "file:", 5) != 0) {
		if (!mfs_version_ok(y->text, strlen(y->text)))
			return mfs_yaml_fail(y, key, w->err, "must be a version of three numbers, such as 3.2.0");
		return mfs_read_text(w, y, key, &path, out);
	}
	struct mfs_yaml rest = { .kind = MFS_YAML_SCALAR, .file = y->file, .line = y->line, .column = y->column,
		.text = y->text + 5 };
	if ((code = mfs_read_path(w, &rest, key, &path, &file)) != MFS_OK)
		return code;
	if (asprintf(&name, "file:%s", file) < 0)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	if ((code = mfs_walk_fact(w, name, &fact)) != MFS_OK)
		return code;
	if (fact != NULL && (*out = fact_version(fact)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	if (*out == NULL || !mfs_version_ok(*out, strlen(*out))) {
		free(*out);
		*out = NULL;
		return mfs_walk_note(w, y, key, "the file cannot be read or holds no version such as 1.16.3: not known here");
	}
	return MFS_OK;
}

/* Names with a text or version each, into an array of mfs_range. */
static enum mfs_code
read_pairs(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, bool version, struct pairs into)
{
	enum mfs_code code;

	if (y->kind != MFS_YAML_MAPPING)
		return mfs_yaml_fail(y, key, w->err, "must be a mapping of names to values");
	if ((*into.list = calloc(y->n / 2 + 1, sizeof(**into.list))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; i + 1 < y->n; i += 2) {
		struct mfs_range *r = &(*into.list)[*into.n];
		struct mfs_field none = { 0 };
		char buf[MFS_KEY_MAX];

		(void)mfs_walk_key(buf, key, y->kids[i]->text);
		if ((code = mfs_read_text(w, y->kids[i], buf, &none, NULL)) != MFS_OK ||
			(code = mfs_read_text(w, y->kids[i + 1], buf, &none, NULL)) != MFS_OK)
			return code;
		code = version ? read_version(w, y->kids[i + 1], buf, &r->min) :
			mfs_read_text(w, y->kids[i + 1], buf, &none, &r->min);
		if (code != MFS_OK)
			return code;
		if (r->min == NULL)
			continue;
		++*into.n;
		if ((r->name = strdup(y->kids[i]->text)) == NULL)
			return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	}
	return MFS_OK;
}

static enum mfs_code
read_labels(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	(void)dst;
	return read_pairs(w, y, key, false, (struct pairs){ &w->c->labels, &w->c->n_labels });
}

static enum mfs_code
read_apps(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	(void)dst;
	return read_pairs(w, y, key, true, (struct pairs){ &w->c->apps, &w->c->n_apps });
}

static enum mfs_code
read_runtimes(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	(void)dst;
	return read_pairs(w, y, key, true, (struct pairs){ &w->c->runtimes, &w->c->n_runtimes });
}

/* A file below the configuration's folder, or a URI that OpenSSL opens; a PIN does not belong into a configuration. */
static enum mfs_code
read_device_key(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789+.-";
	enum mfs_code code;

	if ((code = mfs_read_text(w, y, key, f, NULL)) != MFS_OK)
		return code;
	if (y->text[0] < 'a' || y->text[0] > 'z' || y->text[strspn(y->text, letters)] != ':')
		return mfs_yaml_fail(y, key, w->err, "must be \"file:PATH\" or another URI, such as \"handle:0x81000001\"");
	if (strstr(y->text, "pin-value=") != NULL)
		return mfs_yaml_fail(y, key, w->err, "holds a PIN, which everybody can read here; write pin-source=file:PATH");
	if (strncmp(y->text, "file:", 5) != 0)
		return mfs_read_text(w, y, key, f, dst);
	return mfs_read_file_uri(w, y, key, f, dst);
}

static const struct mfs_field device_fields[] = {
	{ "id", mfs_read_text, AT(mfs_config, device_id), NULL },
	{ "class", mfs_read_text, AT(mfs_config, device_class), NULL },
	{ "region", mfs_read_text, AT(mfs_config, device_region), NULL },
	{ "labels", read_labels, 0, NULL },
	{ "apps", read_apps, 0, NULL },
	{ "runtimes", read_runtimes, 0, NULL },
	{ "channel", mfs_read_text, AT(mfs_config, device_channel), NULL },
	{ "key", read_device_key, AT(mfs_config, device_key), NULL },
	{ NULL, NULL, 0, NULL },
};

/* ---- the whole ---------------------------------------------------------------------------------------- */

static enum mfs_code
read_control_group(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config *c = dst;
	enum mfs_code code = mfs_read_text(w, y, key, f, &c->control_group);

	return code != MFS_OK ? code : mfs_read_principal(w, y, key, "group", &c->control_gid);
}

static enum mfs_code
read_sandbox(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	int v = 0;
	enum mfs_code code = mfs_read_choice(w, y, key, f, &v);

	*(bool *)dst = v == 1;
	return code;
}

static const unsigned range_read_ahead[2] = { 4, 16384 };

static const struct mfs_field top_fields[] = {
	{ "mount", mfs_read_path, AT(mfs_config, mount), NULL },
	{ "state", mfs_read_path, AT(mfs_config, state), NULL },
	{ "store", mfs_read_path, AT(mfs_config, store), NULL },
	{ "run", mfs_read_path, AT(mfs_config, run), NULL },
	{ "seed", read_seed, 0, NULL },
	{ "counter", read_counter, AT(mfs_config, counter), NULL },
	{ "trust", mfs_read_mapping, 0, trust_fields },
	{ "device", mfs_read_mapping, 0, device_fields },
	{ "update", mfs_read_update, 0, NULL },
	{ "models", mfs_read_models, 0, NULL },
	{ "memory_budget", mfs_read_share, AT(mfs_config, memory_budget), NULL },
	{ "min_free", mfs_read_share, AT(mfs_config, min_free), NULL },
	{ "user", mfs_read_text, AT(mfs_config, user), NULL },
	{ "sandbox", read_sandbox, AT(mfs_config, sandbox_optional), (const char *const[]){ "required", "optional", NULL } },
	{ "xattrs", mfs_read_bool, AT(mfs_config, xattrs), NULL },
	{ "exec", mfs_read_bool, AT(mfs_config, exec), NULL },
	{ "selinux_context", mfs_read_text, AT(mfs_config, selinux_context), NULL },
	{ "read_ahead_kb", mfs_read_unsigned, AT(mfs_config, read_ahead_kb), range_read_ahead },
	{ "control_group", read_control_group, 0, NULL },
	{ "repository", mfs_read_repository, 0, NULL },
	{ "repositories", mfs_read_repositories, 0, NULL },
	{ "telemetry", mfs_read_telemetry, 0, NULL },
	{ NULL, NULL, 0, NULL },
};

/* The value of a key of the root, or the root itself: where an error across keys is shown. */
static const struct mfs_yaml *
find(const struct mfs_yaml *root, const char *key)
{
	for (size_t i = 0; i + 1 < root->n; i += 2)
		if (strcmp(root->kids[i]->text, key) == 0)
			return root->kids[i + 1];
	return root;
}

static enum mfs_code
set_default(struct mfs_walk *w, char **field, const char *value)
{
	if (*field == NULL && (*field = strdup(value)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	return MFS_OK;
}

static enum mfs_code
set_run(struct mfs_walk *w)
{
	struct mfs_sha256 d;
	char hex[65], path[64];
	enum mfs_code code;

	if (w->c->run != NULL)
		return MFS_OK;
	if ((code = mfs_sha256(MFS_SPAN(w->c->state, strlen(w->c->state)), &d, w->err)) != MFS_OK)
		return code;
	(void)snprintf(path, sizeof(path), "/run/modelfs/%.16s", mfs_sha256_hex(hex, &d));
	return set_default(w, &w->c->run, path);
}

/* Not the machine id itself: that is meant to stay on the host. */
static enum mfs_code
set_device_id(struct mfs_walk *w)
{
	const struct mfs_config_source *fact;
	char text[128], hex[65];
	struct mfs_sha256 d;
	enum mfs_code code;
	int n;

	if (w->c->device_id != NULL)
		return MFS_OK;
	if ((code = mfs_walk_fact(w, "machine-id", &fact)) != MFS_OK || fact == NULL)
		return code;
	n = snprintf(text, sizeof(text), "modelfs device %.64s", fact->text);
	if ((code = mfs_sha256(MFS_SPAN(text, (size_t)n), &d, w->err)) != MFS_OK)
		return code;
	(void)mfs_sha256_hex(hex, &d);
	hex[32] = '\0';
	return set_default(w, &w->c->device_id, hex);
}

static enum mfs_code
set_device_key(struct mfs_walk *w)
{
	if (w->c->device_key == NULL && asprintf(&w->c->device_key, "file:%s/device-key", w->c->state) < 0) {
		w->c->device_key = NULL;
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	}
	return MFS_OK;
}

/* true: path is base or lies below it. */
static bool
below(const char *path, const char *base)
{
	size_t n = strlen(base);

	if (strcmp(base, "/") == 0)
		return true;
	return strncmp(path, base, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static enum mfs_code
check_folders(struct mfs_walk *w, const struct mfs_yaml *root)
{
	const struct mfs_config *c = w->c;
	const struct { const char *key, *path; } below_mount[] = { { "state", c->state }, { "store", c->store },
		{ "run", c->run } };

	for (size_t i = 0; i < sizeof(below_mount) / sizeof(below_mount[0]); i++)
		if (below(below_mount[i].path, c->mount))
			return mfs_yaml_fail(find(root, below_mount[i].key), below_mount[i].key, w->err,
				"lies below the mount %s, which would hide it", MFS_ESC(c->mount));
	if (below(c->state, c->store))
		return mfs_yaml_fail(find(root, "state"), "state", w->err,
			"lies in the store %s, which may be deleted; give it a folder of its own", MFS_ESC(c->store));
	for (size_t i = 0; i < c->n_seed; i++)
		if (below(c->seed[i], c->mount) || below(c->store, c->seed[i]) || below(c->seed[i], c->store))
			return mfs_yaml_fail(find(root, "seed"), "seed", w->err, "%s overlaps the mount or the store",
				MFS_ESC(c->seed[i]));
	return MFS_OK;
}

static enum mfs_code
check_whole(struct mfs_walk *w, const struct mfs_yaml *root)
{
	struct mfs_config *c = w->c;
	const struct mfs_yaml *update = find(root, "update");
	enum mfs_code code;

	if (find(root, "min_free") != root && update != root && find(update, "min_free") != update)
		return mfs_yaml_fail(find(root, "min_free"), "min_free", w->err, "also given as update.min_free; remove one");
	if ((code = mfs_config_join_repositories(w, find(root, find(root, "repositories") != root ? "repositories" :
		"repository"), find(root, "models"))) != MFS_OK)
		return code;
	if (c->n_keys == 0 && c->n_repos == 0)
		return mfs_yaml_fail(find(root, "trust"), "trust.keys", w->err,
			"is missing: without a public key nothing can be trusted; write 'trust: {keys: [release.pub.pem]}'");
	if (c->threshold > c->n_keys && c->n_repos == 0)
		return mfs_yaml_fail(find(root, "trust"), "trust.threshold", w->err, "is %u, but there %s only %zu key%s",
			c->threshold, c->n_keys == 1 ? "is" : "are", c->n_keys, c->n_keys == 1 ? "" : "s");
	if ((code = set_default(w, &c->mount, "/models")) != MFS_OK ||
		(code = set_default(w, &c->state, "/var/lib/modelfs/state")) != MFS_OK ||
		(code = set_default(w, &c->store, "/var/lib/modelfs/store")) != MFS_OK ||
		(code = set_default(w, &c->counter, "file")) != MFS_OK || (code = set_run(w)) != MFS_OK ||
		(code = set_device_id(w)) != MFS_OK || (code = set_device_key(w)) != MFS_OK)
		return code;
	return check_folders(w, root);
}

enum mfs_code
mfs_config_walk(struct mfs_walk *w)
{
	MFS_CLEANUP(mfs_cleanup_yaml) struct mfs_yaml *root = NULL;
	struct mfs_config *c = w->c;
	enum mfs_code code;

	for (size_t i = 0; i < w->s->n; i++) {
		const struct mfs_config_source *s = &w->s->sources[i];
		MFS_CLEANUP(mfs_cleanup_yaml) struct mfs_yaml *y = NULL;

		if (s->fact)
			continue;
		if ((code = mfs_yaml_compose(s->path, s->text, s->len, &y, w->err)) != MFS_OK)
			return code;
		if (root == NULL)
			root = mfs_steal(&y);
		else if ((code = mfs_yaml_merge(root, y, w->err)) != MFS_OK)
			return code;
		if (c->path == NULL && (code = set_default(w, &c->path, s->path)) != MFS_OK)
			return code;
	}
	if (root == NULL)
		return mfs_fail(w->err, MFS_CONFIG_INVALID, "no configuration file");
	c->threshold = 1;
	c->retain = 2;
	c->memory_budget = 25;
	c->min_free = 5;
	c->read_ahead_kb = 1024;
	c->telemetry_sample = 1000000;
	c->update.interval_ms = 15 * 60000;
	c->update.max_interval_ms = 24 * 3600000;
	c->update.probation_ms = 10 * 60000;
	if ((code = mfs_walk_mapping(w, root, "", top_fields, c)) != MFS_OK)
		return code;
	return check_whole(w, root);
}
