/* SPDX-License-Identifier: Apache-2.0 */
#include "offer.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SALT_BYTES 16

bool
mfs_offer_percent(const char *s, unsigned *fraction)
{
	unsigned whole = 0, part = 0, digits = 0;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9' && whole <= 100; s++)
		whole = whole * 10 + (unsigned)(*s - '0');
	if (*s == '.') {
		for (s++; *s >= '0' && *s <= '9' && digits < 3; s++, digits++)
			part = part * 10 + (unsigned)(*s - '0');
		if (digits == 0 || digits > 2)
			return false;
	}
	if (*s == '%')
		s++;
	*fraction = whole * 100 + (digits == 1 ? part * 10 : part);
	return *s == '\0' && *fraction <= MFS_FRACTION_ALL;
}

enum mfs_code
mfs_offer_percent_set(struct mfs_offer *o, const char *arg, struct mfs_err *err)
{
	unsigned fraction;

	if (!mfs_offer_percent(arg, &fraction))
		return mfs_fail(err, MFS_CONFIG_INVALID, "--percent %s: want 0 to 100, for example 5 or 0.5", MFS_ESC(arg));
	o->n_steps = 0;
	o->steps[o->n_steps++] = (struct mfs_offer_step){ fraction, 0 };
	if (fraction < MFS_FRACTION_ALL)
		o->steps[o->n_steps++] = (struct mfs_offer_step){ MFS_FRACTION_ALL, 0 };
	return MFS_OK;
}

/* "PERCENT" or "PERCENT@TIME"; TIME is 2d, 12h or 30m. */
static bool
step_parse(char *text, struct mfs_offer_step *out)
{
	char *at = strchr(text, '@'), *end;
	long long n;

	out->delay_s = 0;
	if (at != NULL) {
		*at++ = '\0';
		errno = 0;
		n = strtoll(at, &end, 10);
		if (errno != 0 || *at < '0' || *at > '9' || n > 10000 || end[0] == '\0' || end[1] != '\0')
			return false;
		out->delay_s = n * (*end == 'd' ? MFS_MD_DAY : *end == 'h' ? 3600 : *end == 'm' ? 60 : 0);
		if (out->delay_s == 0 && n != 0)
			return false;
	}
	return mfs_offer_percent(text, &out->fraction);
}

enum mfs_code
mfs_offer_steps_set(struct mfs_offer *o, const char *arg, struct mfs_err *err)
{
	mfs_autofree char *copy = strdup(arg);
	char *save = NULL;

	if (copy == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "--steps");
	o->n_steps = 0;
	for (char *s = strtok_r(copy, ",", &save); s != NULL; s = strtok_r(NULL, ",", &save)) {
		struct mfs_offer_step step;

		if (o->n_steps == MFS_STEPS_MAX)
			return mfs_fail(err, MFS_CONFIG_INVALID, "--steps: more than %u", MFS_STEPS_MAX);
		if (!step_parse(s, &step))
			return mfs_fail(err, MFS_CONFIG_INVALID, "--steps %s: want PERCENT@TIME,..., for example 1,10@1d,100@3d",
				MFS_ESC(arg));
		if (o->n_steps > 0 && (step.fraction < o->steps[o->n_steps - 1].fraction ||
					      step.delay_s < o->steps[o->n_steps - 1].delay_s))
			return mfs_fail(err, MFS_CONFIG_INVALID, "--steps %s: percents and times only rise", MFS_ESC(arg));
		o->steps[o->n_steps++] = step;
	}
	if (o->n_steps == 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--steps: empty");
	return MFS_OK;
}

enum mfs_code
mfs_offer_load(struct mfs_repo *r, const char *model_id, struct mfs_policy **out, struct mfs_err *err)
{
	char role[MFS_ID_MAX + 16], path[MFS_ID_MAX + 16];
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_repo_role *by;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	(void)snprintf(role, sizeof(role), "policy.%s", model_id);
	(void)snprintf(path, sizeof(path), "%s/policy.json", model_id);
	if ((code = mfs_repo_role(r, role, &by, err)) != MFS_OK)
		return code;
	if (mfs_repo_target(by, path) == NULL)
		return mfs_policy_new(model_id, out, err);
	if ((code = mfs_repo_target_read(r, role, path, MFS_POLICY_BYTES_MAX, &bytes, &len, err)) != MFS_OK)
		return code;
	return mfs_policy_parse(MFS_SPAN(bytes, len), model_id, out, err);
}

enum mfs_code
mfs_offer_store(struct mfs_repo *r, struct mfs_policy *p, struct mfs_err *err)
{
	char role[MFS_ID_MAX + 16], path[MFS_ID_MAX + 16];
	mfs_autofree char *bytes = NULL;
	enum mfs_code code;
	size_t len;

	p->sequence++;
	if (p->issued < r->now)
		p->issued = r->now;
	(void)snprintf(role, sizeof(role), "policy.%s", p->model_id);
	(void)snprintf(path, sizeof(path), "%s/policy.json", p->model_id);
	if ((code = mfs_policy_json(p, &bytes, &len, err)) != MFS_OK)
		return code;
	return mfs_repo_target_put(r, role, path, MFS_SPAN(bytes, len), err);
}

/* ---- rollouts ---------------------------------------------------------------------------------- */

enum mfs_code
mfs_offer_steps(struct mfs_policy_rollout *r, const struct mfs_offer *o, int64_t now, struct mfs_err *err)
{
	enum mfs_code code;

	mfs_policy_steps_clear(r);
	r->confirmed = 0;
	if (o->n_steps == 0)
		return mfs_policy_step_add(r, MFS_FRACTION_ALL, now, false, err);
	for (size_t i = 0; i < o->n_steps; i++) {
		code = mfs_policy_step_add(r, o->steps[i].fraction, now + o->steps[i].delay_s, i > 0 && !o->automatic, err);
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static enum mfs_code
salt_make(char out[2 * SALT_BYTES + 1], struct mfs_err *err)
{
	uint8_t raw[SALT_BYTES];

	if (RAND_bytes(raw, sizeof(raw)) != 1)
		return mfs_fail(err, MFS_INTERNAL, "no random bytes");
	mfs_hex_encode(out, raw, sizeof(raw));
	return MFS_OK;
}

/* A name that the policy does not use yet: the version, else with a number. */
static void
rollout_name(const struct mfs_policy *p, const char *version, char out[MFS_VARIANT_MAX + 1])
{
	(void)snprintf(out, MFS_VARIANT_MAX + 1, "%s", version);
	for (unsigned n = 2; mfs_policy_rollout_find(p, out) != NULL; n++)
		(void)snprintf(out, MFS_VARIANT_MAX + 1, "%.*s-%u", (int)MFS_VARIANT_MAX - 6, version, n);
}

/* Does every device, whatever it is, get something from this rollout now? */
static bool
takes_all(const struct mfs_policy_rollout *r, int64_t now)
{
	unsigned fraction;

	if (r->match.n_keys > 0 || mfs_policy_step_now(r, now, &fraction) == 0 || fraction < MFS_FRACTION_ALL)
		return false;
	for (size_t i = 0; i < r->n_variants; i++)
		if (r->variants[i].match.n_keys == 0)
			return true;
	return false;
}

static void
unreachable_drop(struct mfs_policy *p, int64_t now)
{
	size_t all = 0, keep = 0;

	while (keep < p->n_rollouts && all < 2)
		all += takes_all(&p->rollouts[keep++], now);
	while (p->n_rollouts > keep)
		mfs_policy_rollout_remove(p, &p->rollouts[p->n_rollouts - 1]);
}

static enum mfs_code
match_fill(struct mfs_match *m, const struct mfs_offer *o, struct mfs_err *err)
{
	for (size_t i = 0; i < o->n_match; i++) {
		const char *equals = strchr(o->match[i], '=');
		mfs_autofree char *key = NULL;
		enum mfs_code code;

		if (equals == NULL || equals == o->match[i] || equals[1] == '\0')
			return mfs_fail(err, MFS_CONFIG_INVALID, "--match %s: want KEY=VALUE, for example class=x",
				MFS_ESC(o->match[i]));
		if ((key = strndup(o->match[i], (size_t)(equals - o->match[i]))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "--match");
		if ((code = mfs_match_add(m, key, equals + 1, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

enum mfs_code
mfs_offer_add(struct mfs_policy *p, const struct mfs_offer *o, const struct mfs_policy_entry *e, int64_t now,
	struct mfs_policy_rollout **out, struct mfs_err *err)
{
	char salt[2 * SALT_BYTES + 1], id[MFS_VARIANT_MAX + 1];
	struct mfs_policy_variant *v;
	enum mfs_code code;

	if (o->id != NULL && mfs_policy_rollout_find(p, o->id) != NULL)
		return mfs_fail(err, MFS_POLICY_REJECTED, "there is a rollout %s already; change it with 'modelpub rollout'",
			MFS_ESC(o->id));
	if (o->id != NULL && !mfs_variant_ok(o->id, strlen(o->id)))
		return mfs_fail(err, MFS_CONFIG_INVALID, "--rollout %s: want a letter or digit, then letters, digits or ._- (at "
			"most %u)", MFS_ESC(o->id), MFS_VARIANT_MAX);
	if (o->id != NULL)
		(void)snprintf(id, sizeof(id), "%s", o->id);
	else
		rollout_name(p, e->version, id);
	if ((code = salt_make(salt, err)) != MFS_OK || (code = mfs_policy_rollout_add(p, 0, id, salt, out, err)) != MFS_OK ||
		(code = mfs_policy_variant_add(*out, e, &v, err)) != MFS_OK ||
		(code = match_fill(&(*out)->match, o, err)) != MFS_OK || (code = mfs_offer_steps(*out, o, now, err)) != MFS_OK)
		return code;
	unreachable_drop(p, now);
	*out = &p->rollouts[0];
	return MFS_OK;
}

static void
entry_fill(struct mfs_policy_entry *out, const struct mfs_manifest *m)
{
	out->manifest = m->id;
	out->release = m->release;
	(void)snprintf(out->version, sizeof(out->version), "%s", m->version);
	(void)snprintf(out->variant, sizeof(out->variant), "%s", m->variant);
}

enum mfs_code
mfs_offer_manifest(struct mfs_repo *r, struct mfs_policy *p, const struct mfs_offer *o, const struct mfs_manifest *m,
	const struct mfs_policy_rollout **out, struct mfs_err *err)
{
	struct mfs_policy_entry e = { .release = 0 };
	struct mfs_policy_rollout *rollout;
	enum mfs_code code;

	entry_fill(&e, m);
	if ((code = mfs_offer_add(p, o, &e, r->now, &rollout, err)) != MFS_OK || (code = mfs_offer_store(r, p, err)) != MFS_OK)
		return code;
	*out = rollout;
	return MFS_OK;
}

/* ---- what is published ----------------------------------------------------------------------------- */

static enum mfs_code
entry_read(struct mfs_repo *r, const char *role, const char *path, struct mfs_policy_entry *out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_repo_target_read(r, role, path, MFS_MANIFEST_BYTES_MAX, &bytes, &len, err)) != MFS_OK ||
		(code = mfs_manifest_parse(MFS_SPAN(bytes, len), &m, err)) != MFS_OK)
		return code;
	entry_fill(out, m);
	return MFS_OK;
}

/* "det/1.1.0/int8/manifest.json": is it this version, and which variant? */
static bool
path_variant(const char *path, const char *model_id, const char *version, char variant[MFS_VARIANT_MAX + 1])
{
	char prefix[MFS_ID_MAX + MFS_VERSION_MAX + 4];
	const int n = snprintf(prefix, sizeof(prefix), "%s/%s/", model_id, version);
	const char *slash;

	if (n <= 0 || strncmp(path, prefix, (size_t)n) != 0 || (slash = strchr(path + n, '/')) == NULL ||
		strcmp(slash, "/manifest.json") != 0 || slash - (path + n) > (ptrdiff_t)MFS_VARIANT_MAX)
		return false;
	(void)snprintf(variant, MFS_VARIANT_MAX + 1, "%.*s", (int)(slash - (path + n)), path + n);
	return true;
}

enum mfs_code
mfs_offer_entry(struct mfs_repo *r, const char *model_id, const char *version, const char *variant,
	struct mfs_policy_entry *out, struct mfs_err *err)
{
	char role[MFS_ID_MAX + 16], found[MFS_VARIANT_MAX + 1] = "", path[MFS_ID_MAX + MFS_VERSION_MAX + MFS_VARIANT_MAX + 32];
	struct mfs_repo_role *by;
	const char *key;
	enum mfs_code code;
	json_t *targets, *value;
	size_t n = 0;

	(void)snprintf(role, sizeof(role), "release.%s", model_id);
	if ((code = mfs_repo_role(r, role, &by, err)) != MFS_OK)
		return code;
	targets = json_object_get(mfs_md_signed(by->doc), "targets");
	json_object_foreach(targets, key, value) {
		char v[MFS_VARIANT_MAX + 1];

		if (!path_variant(key, model_id, version, v) || (variant != NULL && strcmp(v, variant) != 0))
			continue;
		n++;
		if (n == 1 || strcmp(v, "default") == 0)
			(void)snprintf(found, sizeof(found), "%s", v);
	}
	if (n == 0)
		return mfs_fail(err, MFS_NOT_SELECTED, "%s %s%s%s: not published in %s", MFS_ESC(model_id), MFS_ESC(version),
			variant != NULL ? " " : "", variant != NULL ? MFS_ESC(variant) : "", MFS_ESC(r->path));
	if (n > 1 && strcmp(found, "default") != 0)
		return mfs_fail(err, MFS_POLICY_REJECTED, "%s %s: has %zu variants; name one with --variant", MFS_ESC(model_id),
			MFS_ESC(version), n);
	(void)snprintf(path, sizeof(path), "%s/%s/%s/manifest.json", model_id, version, found);
	return entry_read(r, role, path, out, err);
}

void
mfs_offer_print(const char *model_id, const struct mfs_policy_rollout *r, int64_t now)
{
	unsigned fraction;
	const size_t step = mfs_policy_step_now(r, now, &fraction);

	for (size_t i = 0; i < r->n_variants; i++)
		(void)printf("%s %s (%s), release %lld: ", model_id, r->variants[i].entry.version, r->variants[i].entry.variant,
			(long long)r->variants[i].entry.release);
	(void)printf("rollout %s to %u.%02u %%", r->id, fraction / 100, fraction % 100);
	for (size_t i = 0; i < r->match.n_keys; i++) {
		(void)printf("%s%s=", i == 0 ? " of " : ", ", MFS_ESC(r->match.keys[i].name));
		for (size_t k = 0; r->match.keys[i].values[k] != NULL; k++)
			(void)printf("%s%s", k == 0 ? "" : "|", MFS_ESC(r->match.keys[i].values[k]));
	}
	(void)printf(", step %zu of %zu", step, r->n_steps);
	if (step < r->n_steps) {
		const struct mfs_policy_step *next = &r->steps[step];

		(void)printf("; next %lld.%02lld %%", (long long)next->fraction / 100, (long long)next->fraction % 100);
		if (next->after > now)
			(void)printf(" after %s", MFS_TIME(next->after));
		if (next->confirm && r->confirmed <= (int64_t)step)
			(void)printf(" once confirmed ('modelpub advance')");
	}
	(void)printf("\n");
}
