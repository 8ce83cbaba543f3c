/* SPDX-License-Identifier: Apache-2.0 */
/* When: backoff, jitter, windows, conditions, deadlines. */
#include <stdio.h>
#include <string.h>

#include "mfs_config.h"
#include "schedule.h"

int64_t
mfs_backoff(unsigned failures, int64_t longest, int64_t retry_after_s, uint32_t random)
{
	int64_t most = MFS_BACKOFF_BASE_S, pause;

	for (unsigned i = 1; i < failures && most < longest; i++)
		most *= 2;
	if (most > longest)
		most = longest;
	if (retry_after_s > longest)
		retry_after_s = longest;
	pause = 1 + (int64_t)(random % (uint64_t)(most > 0 ? most : 1));
	return pause < retry_after_s ? retry_after_s : pause;
}

int64_t
mfs_next_check(int64_t interval, uint32_t random)
{
	int64_t spread = interval / 5, next = interval - interval / 10;

	next += spread > 0 ? (int64_t)(random % (uint64_t)(spread + 1)) : 0;
	return next > 0 ? next : 1;
}

int64_t
mfs_time_clamp(int64_t t, int64_t now, int64_t longest)
{
	return t > now + longest ? now + longest : t;
}

int64_t
mfs_step_limit(enum mfs_step s, const struct mfs_config *c, size_t model)
{
	(void)model;
	switch (s) {
	case MFS_STEP_DOWNLOAD: return INT64_C(7) * 86400; /* poor links: chunks that arrived stay */
	case MFS_STEP_VERIFY:
	case MFS_STEP_STAGE: return INT64_C(6) * 3600;
	case MFS_STEP_HEALTH: return INT64_C(24) * 3600; /* "try later" included */
	case MFS_STEP_ACTIVATE: return INT64_C(24) * 3600;
	case MFS_STEP_OBSERVE: return 2 * (c->update.probation_ms / 1000) + 60;
	default: return 3600;
	}
}

bool
mfs_window_open(const struct mfs_config *c, unsigned minute)
{
	const unsigned from = c->update.window_from, to = c->update.window_to;

	if (!c->update.has_window)
		return true;
	return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

bool
mfs_conditions_ask(const struct mfs_config *c)
{
	const struct mfs_config_conditions *w = &c->update.conditions;

	return w->power_ac || w->battery_min > 0 || w->unmetered || w->interfaces != NULL;
}

static bool
interface_ok(const struct mfs_config_conditions *w, const char *name)
{
	for (char **p = w->interfaces; *p != NULL; p++) {
		size_t n = strlen(*p);

		if (n > 0 && (*p)[n - 1] == '*' ? strncmp(*p, name, n - 1) == 0 : strcmp(*p, name) == 0)
			return true;
	}
	return false;
}

static enum mfs_code
power_check(const struct mfs_config_conditions *w, const struct mfs_wire_facts *f, struct mfs_err *err)
{
	if (w->power_ac && f->on_ac != 1)
		return mfs_fail(err, MFS_CONDITION_UNMET, "power: external power is wanted, this host is %s",
			f->on_ac == 0 ? "on battery" : "not able to tell");
	if (w->battery_min > 0 && f->battery >= 0 && (unsigned)f->battery < w->battery_min)
		return mfs_fail(err, MFS_CONDITION_UNMET, "battery_min: %u %% is wanted, the battery has %d %%", w->battery_min,
			(int)f->battery);
	return MFS_OK;
}

static enum mfs_code
network_check(const struct mfs_config_conditions *w, const struct mfs_wire_facts *f, struct mfs_err *err)
{
	bool ok = w->interfaces == NULL;

	if (w->unmetered && f->metered != MFS_METERED_NO)
		return mfs_fail(err, MFS_CONDITION_UNMET, "metered: an unmetered network is wanted, this one is %s",
			f->metered == MFS_METERED_YES ? "metered" : "not known to be unmetered");
	for (uint32_t i = 0; i < f->n_nets && i < MFS_WIRE_NETS && !ok; i++)
		ok = interface_ok(w, f->nets[i]);
	if (!ok)
		return mfs_fail(err, MFS_CONDITION_UNMET, "interfaces: none of those configured is up (the first is %s)",
			MFS_ESC(w->interfaces[0]));
	return MFS_OK;
}

enum mfs_code
mfs_conditions_check(const struct mfs_config *c, const struct mfs_cycle_facts *f, enum mfs_step step,
	struct mfs_err *err)
{
	const struct mfs_config_conditions *w = &c->update.conditions;

	if (f->hold)
		return mfs_fail(err, MFS_HELD, "held by the file %s: remove it to go on", MFS_ESC(w->hold_file));
	if (!mfs_window_open(c, f->minute))
		return mfs_fail(err, MFS_CONDITION_UNMET, "window: %02u:%02u-%02u:%02u, it is %02u:%02u here",
			c->update.window_from / 60, c->update.window_from % 60, c->update.window_to / 60,
			c->update.window_to % 60, f->minute / 60, f->minute % 60);
	if (mfs_conditions_ask(c) && !f->known)
		return mfs_fail(err, MFS_CONDITION_UNMET, "conditions: power and network of this host cannot be asked for");
	if (mfs_conditions_ask(c) && power_check(w, &f->wire, err) != MFS_OK)
		return err != NULL ? err->code : MFS_CONDITION_UNMET;
	/* What is here already needs no network. */
	if (mfs_conditions_ask(c) && step == MFS_STEP_DOWNLOAD && network_check(w, &f->wire, err) != MFS_OK)
		return err != NULL ? err->code : MFS_CONDITION_UNMET;
	if (step == MFS_STEP_DOWNLOAD && f->budget_left == 0)
		return mfs_fail(err, MFS_RATE_LIMITED, "daily_bytes: today's byte budget is used up");
	return MFS_OK;
}
