/* SPDX-License-Identifier: Apache-2.0 */
/* config_update.c - the mapping `update` of modelfs.yaml(5). */
#include <stdio.h>

#include "config_walk.h"

#define GRACE_MAX_MS (MFS_TUF_GRACE_MAX * 1000)

#define AT(member) offsetof(struct mfs_config, member)

static const unsigned range_percent[2] = { 0, 100 };
static const unsigned range_retain[2] = { 1, 16 };

/* "HH:MM", exactly; minutes of the day. */
static bool
take_time(const char *p, unsigned *out)
{
	for (size_t i = 0; i < 5; i++)
		if (i == 2 ? p[i] != ':' : p[i] < '0' || p[i] > '9')
			return false;
	unsigned h = (unsigned)(p[0] - '0') * 10 + (unsigned)(p[1] - '0');
	unsigned m = (unsigned)(p[3] - '0') * 10 + (unsigned)(p[4] - '0');

	*out = h * 60 + m;
	return h < 24 && m < 60;
}

static enum mfs_code
read_window(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config_update *u = dst;

	(void)f;
	if (y->kind != MFS_YAML_SCALAR || strlen(y->text) != 11 || y->text[5] != '-' ||
		!take_time(y->text, &u->window_from) || !take_time(y->text + 6, &u->window_to))
		return mfs_yaml_fail(y, key, w->err, "must be a time of day from-to, such as \"01:00-05:00\"");
	if (u->window_from == u->window_to)
		return mfs_yaml_fail(y, key, w->err, "is empty; remove it for no window");
	u->has_window = true;
	return MFS_OK;
}

static enum mfs_code
read_metered(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	bool allowed = false;
	enum mfs_code code = mfs_read_bool(w, y, key, f, &allowed);

	*(bool *)dst = !allowed;
	return code;
}

static enum mfs_code
read_power(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	int v = 0;
	enum mfs_code code = mfs_read_choice(w, y, key, f, &v);

	*(bool *)dst = v == 1;
	return code;
}

/* Names of network interfaces as the kernel allows them; a final '*' stands for the rest. */
static enum mfs_code
read_interfaces(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	char ***list = dst;

	(void)f;
	if (y->kind != MFS_YAML_SEQUENCE || y->n == 0 || y->n > 64)
		return mfs_yaml_fail(y, key, w->err, "must be a list of 1 to 64 interfaces, such as [eth0, \"wlan*\"]");
	if ((*list = calloc(y->n + 1, sizeof(**list))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; i < y->n; i++) {
		const struct mfs_yaml *k = y->kids[i];

		if (k->kind != MFS_YAML_SCALAR || k->text[0] == '\0' || strlen(k->text) > 15 ||
			strcspn(k->text, "/: *") < strlen(k->text) - (k->text[strlen(k->text) - 1] == '*' ? 1u : 0u))
			return mfs_yaml_fail(k, key, w->err, "not the name of an interface, such as eth0 or \"wlan*\"");
		if (((*list)[i] = strdup(k->text)) == NULL)
			return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	}
	return MFS_OK;
}

static const struct mfs_field conditions_fields[] = {
	{ "power", read_power, AT(update.conditions.power_ac), (const char *const[]){ "any", "ac", NULL } },
	{ "battery_min", mfs_read_unsigned, AT(update.conditions.battery_min), range_percent },
	{ "metered", read_metered, AT(update.conditions.unmetered), NULL },
	{ "interfaces", read_interfaces, AT(update.conditions.interfaces), NULL },
	{ "hold_file", mfs_read_path, AT(update.conditions.hold_file), NULL },
	{ NULL, NULL, 0, NULL },
};

static const struct mfs_field update_fields[] = {
	{ "interval", mfs_read_duration, AT(update.interval_ms), NULL },
	{ "max_interval", mfs_read_duration, AT(update.max_interval_ms), NULL },
	{ "retain", mfs_read_unsigned, AT(retain), range_retain },
	{ "probation", mfs_read_duration, AT(update.probation_ms), NULL },
	{ "bandwidth", mfs_read_rate, AT(update.bandwidth), NULL },
	{ "daily_bytes", mfs_read_size, AT(update.daily_bytes), NULL },
	{ "window", read_window, AT(update), NULL },
	{ "conditions", mfs_read_mapping, 0, conditions_fields },
	{ "expired_grace", mfs_read_duration, AT(update.expired_grace_ms), NULL },
	{ "stale", mfs_read_choice, AT(update.stale), (const char *const[]){ "serve", "stop", NULL } },
	{ "offline_install", mfs_read_choice, AT(update.offline_install), (const char *const[]){ "signed", "fresh", NULL } },
	{ "min_free", mfs_read_share, AT(min_free), NULL },
	{ NULL, NULL, 0, NULL },
};

enum mfs_code
mfs_read_update(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config_update *u = &w->c->update;
	enum mfs_code code;

	(void)f;
	if ((code = mfs_walk_mapping(w, y, key, update_fields, dst)) != MFS_OK)
		return code;
	if (u->expired_grace_ms > GRACE_MAX_MS)
		return mfs_yaml_fail(y, "update.expired_grace", w->err, "is more than 3650d");
	if (u->interval_ms < 1000)
		return mfs_yaml_fail(y, "update.interval", w->err, "is less than 1s");
	if (u->max_interval_ms < u->interval_ms) {
		for (size_t i = 0; i + 1 < y->n; i += 2)
			if (strcmp(y->kids[i]->text, "max_interval") == 0)
				return mfs_yaml_fail(y->kids[i + 1], "update.max_interval", w->err, "is less than update.interval");
		u->max_interval_ms = u->interval_ms;
	}
	return MFS_OK;
}
