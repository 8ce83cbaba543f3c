/* SPDX-License-Identifier: Apache-2.0 */
/* config_show.c - the effective configuration as YAML that parses to itself. No secrets: it holds none. */
#include "mfs_config.h"

#include <inttypes.h>
#include <stdio.h>

/* Double-quoted, so that no text can become a number, a key or a second line. */
static void
put_text(FILE *f, const char *text)
{
	(void)fputc('"', f);
	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			(void)fputc('\\', f);
		(void)fputc(*p, f);
	}
	(void)fputc('"', f);
}

static void
put_entry(FILE *f, const char *key, const char *text)
{
	if (text == NULL)
		return;
	(void)fprintf(f, "%s: ", key);
	put_text(f, text);
	(void)fputc('\n', f);
}

static void
put_share(FILE *f, const char *key, uint64_t v)
{
	(void)fprintf(f, "%s: %" PRIu64 "%s\n", key, v, v <= 100 ? "%" : "B");
}

/* In the largest unit that says it exactly; 0 is "0s". */
static void
put_time(FILE *f, const char *key, int64_t ms)
{
	static const struct { int64_t ms; const char *name; } units[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" },
		{ 1000, "s" }, { 1, "ms" } };
	size_t i = ms == 0 ? 3 : 0;

	while (ms % units[i].ms != 0)
		i++;
	(void)fprintf(f, "%s: %" PRId64 "%s\n", key, ms / units[i].ms, units[i].name);
}

static void
put_ranges(FILE *f, const char *key, const struct mfs_range *list, size_t n)
{
	if (n == 0)
		return;
	(void)fprintf(f, "  %s:\n", key);
	for (size_t i = 0; i < n; i++) {
		(void)fprintf(f, "    ");
		put_text(f, list[i].name);
		(void)fprintf(f, ": ");
		put_text(f, list[i].min);
		(void)fputc('\n', f);
	}
}

static void
put_origin(FILE *f, const struct mfs_config_origin *o)
{
	put_entry(f, "    url", o->url);
	if (o->token_file != NULL) {
		(void)fprintf(f, "    auth:\n");
		put_entry(f, "      token_file", o->token_file);
	}
	if (o->tls_ca != NULL || o->tls_cert != NULL || o->tls_pin != NULL) {
		(void)fprintf(f, "    tls:\n");
		put_entry(f, "      ca", o->tls_ca);
		put_entry(f, "      cert", o->tls_cert);
		put_entry(f, "      key", o->tls_key);
		put_entry(f, "      pin", o->tls_pin);
	}
	put_entry(f, "    proxy", o->proxy);
}

static void
put_repositories(FILE *f, const struct mfs_config *c)
{
	if (c->n_repos > 0)
		(void)fprintf(f, "repositories:\n");
	for (size_t i = 0; i < c->n_repos; i++) {
		const struct mfs_config_repository *r = &c->repos[i];

		(void)fprintf(f, "  ");
		put_text(f, r->name);
		(void)fprintf(f, ":\n");
		put_origin(f, &r->origin);
		put_entry(f, "    root", r->root);
		for (size_t j = 0; j < r->n_mirrors; j++) {
			(void)fprintf(f, j == 0 ? "    mirrors:\n      - url: " : "      - url: ");
			put_text(f, r->mirrors[j].url);
			(void)fprintf(f, "\n        only: %s\n", r->mirrors[j].only ? "true" : "false");
		}
	}
}

static void
put_telemetry(FILE *f, const struct mfs_config *c)
{
	if (c->telemetry.url == NULL)
		return;
	(void)fprintf(f, "telemetry:\n");
	put_origin(f, &c->telemetry);
	(void)fprintf(f, "    sample: %u.%06u\n", c->telemetry_sample / 1000000, c->telemetry_sample % 1000000);
}

static void
put_conditions(FILE *f, const struct mfs_config_conditions *n)
{
	(void)fprintf(f, "  conditions:\n    power: %s\n    battery_min: %u\n    metered: %s\n", n->power_ac ? "ac" : "any",
		n->battery_min, n->unmetered ? "false" : "true");
	if (n->interfaces != NULL) {
		(void)fprintf(f, "    interfaces: [");
		for (size_t i = 0; n->interfaces[i] != NULL; i++) {
			(void)fprintf(f, "%s", i > 0 ? ", " : "");
			put_text(f, n->interfaces[i]);
		}
		(void)fprintf(f, "]\n");
	}
	put_entry(f, "    hold_file", n->hold_file);
}

static void
put_update(FILE *f, const struct mfs_config *c)
{
	static const char *const stale[] = { "serve", "stop" }, *const offline[] = { "signed", "fresh" };
	const struct mfs_config_update *u = &c->update;

	(void)fprintf(f, "update:\n");
	put_time(f, "  interval", u->interval_ms);
	put_time(f, "  max_interval", u->max_interval_ms);
	(void)fprintf(f, "  retain: %u\n", c->retain);
	put_time(f, "  probation", u->probation_ms);
	if (u->bandwidth > 0)
		(void)fprintf(f, "  bandwidth: %" PRIu64 "B/s\n", u->bandwidth);
	if (u->daily_bytes > 0)
		(void)fprintf(f, "  daily_bytes: %" PRIu64 "B\n", u->daily_bytes);
	if (u->has_window)
		(void)fprintf(f, "  window: \"%02u:%02u-%02u:%02u\"\n", u->window_from / 60, u->window_from % 60,
			u->window_to / 60, u->window_to % 60);
	put_conditions(f, &u->conditions);
	put_time(f, "  expired_grace", u->expired_grace_ms);
	(void)fprintf(f, "  stale: %s\n  offline_install: %s\n", stale[u->stale], offline[u->offline_install]);
}

static void
put_trust(FILE *f, const struct mfs_config *c)
{
	(void)fprintf(f, "trust:\n  threshold: %u\n", c->threshold);
	put_entry(f, "  root", c->trust_root);
	if (c->n_keys > 0)
		(void)fprintf(f, "  keys:\n");
	for (size_t i = 0; i < c->n_keys; i++) {
		const struct mfs_config_key *k = &c->keys[i];

		(void)fprintf(f, "    - file: ");
		put_text(f, k->file);
		(void)fprintf(f, "\n      epoch: %" PRId64 "\n", k->epoch);
		if (k->models == NULL)
			continue;
		(void)fprintf(f, "      models: [");
		for (size_t j = 0; k->models[j] != NULL; j++) {
			(void)fprintf(f, "%s", j > 0 ? ", " : "");
			put_text(f, k->models[j]);
		}
		(void)fprintf(f, "]\n");
	}
}

static void
put_device(FILE *f, const struct mfs_config *c)
{
	(void)fprintf(f, "device:\n");
	put_entry(f, "  id", c->device_id);
	put_entry(f, "  class", c->device_class);
	put_entry(f, "  region", c->device_region);
	put_entry(f, "  channel", c->device_channel);
	put_ranges(f, "labels", c->labels, c->n_labels);
	put_ranges(f, "apps", c->apps, c->n_apps);
	put_ranges(f, "runtimes", c->runtimes, c->n_runtimes);
	put_entry(f, "  key", c->device_key);
}

static void
put_digest(FILE *f, const char *key, const struct mfs_sha256 *d)
{
	if (!mfs_sha256_is_zero(d))
		(void)fprintf(f, "    %s: \"%s\"\n", key, MFS_HEX(d));
}

static void
put_list(FILE *f, const char *key, char *const *list)
{
	if (list == NULL)
		return;
	(void)fprintf(f, "%s: [", key);
	for (size_t i = 0; list[i] != NULL; i++) {
		(void)fprintf(f, "%s", i > 0 ? ", " : "");
		put_text(f, list[i]);
	}
	(void)fprintf(f, "]\n");
}

static void
put_health(FILE *f, const struct mfs_config_health *h)
{
	static const char *const network[] = { "none", "loopback" };

	(void)fprintf(f, "    health:\n");
	put_list(f, "      command", h->command);
	put_time(f, "      timeout", h->timeout_ms);
	put_time(f, "      interval", h->interval_ms);
	(void)fprintf(f, "      network: %s\n", network[h->network]);
	put_list(f, "      devices", h->devices);
	(void)fprintf(f, "      user: %u\n", h->uid);
	if (h->memory > 0)
		(void)fprintf(f, "      memory: %" PRIu64 "B\n", h->memory);
}

static void
put_model(FILE *f, const struct mfs_config *c, const struct mfs_config_model *m)
{
	static const char *const serve[] = { "auto", "resident", "paged" };
	static const char *const pin[] = { "process", "cgroup", "off" };

	(void)fprintf(f, "  ");
	put_text(f, m->id);
	(void)fprintf(f, ":\n");
	put_entry(f, "    model_id", m->model_id);
	(void)fprintf(f, "    serve: %s\n", serve[m->serve]);
	put_entry(f, "    model_key", m->model_key);
	if (m->repo >= 0)
		put_entry(f, "    repository", c->repos[m->repo].name);
	put_entry(f, "    channel", m->channel);
	(void)fprintf(f, "    owner: %u\n", m->uid);
	if (m->has_group)
		(void)fprintf(f, "    group: %u\n", m->gid);
	(void)fprintf(f, "    mode: \"%04o\"\n", (unsigned)m->file_mode);
	(void)fprintf(f, "    pin: %s\n", pin[m->pin]);
	put_time(f, "    pin_window", m->pin_window_ms);
	if (m->minimum.min_release > 0)
		(void)fprintf(f, "    min_release: %" PRId64 "\n", m->minimum.min_release);
	if (m->minimum.min_key_epoch > 0)
		(void)fprintf(f, "    min_key_epoch: %" PRId64 "\n", m->minimum.min_key_epoch);
	put_digest(f, "input_schema_sha256", &m->input_schema);
	put_digest(f, "output_schema_sha256", &m->output_schema);
	put_digest(f, "preprocess_sha256", &m->preprocess);
	put_health(f, &m->health);
	put_list(f, "    on_change", m->on_change);
	put_list(f, "    on_reject", m->on_reject);
}

enum mfs_code
mfs_config_show(const struct mfs_config *c, char **out, size_t *len, struct mfs_err *err)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);
	bool failed;

	*out = NULL;
	if (f == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	put_entry(f, "mount", c->mount);
	put_entry(f, "state", c->state);
	put_entry(f, "store", c->store);
	put_entry(f, "run", c->run);
	for (size_t i = 0; i < c->n_seed; i++) {
		(void)fprintf(f, i == 0 ? "seed:\n  - " : "  - ");
		put_text(f, c->seed[i]);
		(void)fputc('\n', f);
	}
	put_entry(f, "counter", c->counter);
	put_trust(f, c);
	put_device(f, c);
	put_repositories(f, c);
	put_telemetry(f, c);
	put_update(f, c);
	put_share(f, "min_free", c->min_free);
	put_share(f, "memory_budget", c->memory_budget);
	put_entry(f, "user", c->user);
	(void)fprintf(f, "sandbox: %s\nxattrs: %s\nexec: %s\n", c->sandbox_optional ? "optional" : "required",
		c->xattrs ? "true" : "false", c->exec ? "true" : "false");
	put_entry(f, "selinux_context", c->selinux_context);
	(void)fprintf(f, "read_ahead_kb: %u\n", c->read_ahead_kb);
	put_entry(f, "control_group", c->control_group);
	(void)fprintf(f, c->n_models > 0 ? "models:\n" : "models: {}\n");
	for (size_t i = 0; i < c->n_models; i++)
		put_model(f, c, &c->models[i]);
	failed = ferror(f) != 0;
	if (fclose(f) != 0 || failed) {
		free(text);
		return mfs_fail(err, MFS_NO_MEMORY, "configuration: no memory");
	}
	*out = text;
	return MFS_OK;
}
