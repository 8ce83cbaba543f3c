/* SPDX-License-Identifier: Apache-2.0 */
/* Which rollout includes a device, and for each one that does not: why. modelfs-policy(5), ROLLOUTS. */
#include "internal.h"

#include "mfs_policy.h"

struct look { /* at one rollout */
	const struct mfs_policy *p;
	const struct mfs_policy_rollout *r;
	const struct mfs_policy_device *d;
	int64_t now;
	struct mfs_policy_reason *x; /* NULL: nobody wants lines */
	size_t n_lines;
	enum mfs_policy_why why;
	unsigned bucket, fraction;
	size_t step;
	const struct mfs_policy_variant *variant; /* the one meant, also when it is refused */
	struct mfs_err *err;
};

const char *
mfs_policy_why_text(enum mfs_policy_why why)
{
	static const char *const texts[] = { "selected", "an earlier rollout includes this device", "match does not hold",
		"no step has taken effect yet", "not in the fraction", "no variant matches this device",
		"its version is revoked", "its version is below min_release" };

	return (unsigned)why < sizeof(texts) / sizeof(texts[0]) ? texts[why] : "";
}

void
mfs_policy_explanation_clear(struct mfs_policy_explanation *x)
{
	for (size_t i = 0; i < x->n_reasons; i++) {
		for (size_t k = 0; x->reasons[i].lines != NULL && x->reasons[i].lines[k] != NULL; k++)
			free(x->reasons[i].lines[k]);
		free(x->reasons[i].lines);
	}
	free(x->reasons);
	*x = (struct mfs_policy_explanation){ 0 };
}

/* ---- lines -------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static enum mfs_code
line(struct look *k, const char *fmt, ...)
{
	char text[512], **p;
	enum mfs_code code;
	va_list ap;

	if (k->x == NULL)
		return MFS_OK;
	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	if ((p = reallocarray(k->x->lines, k->n_lines + 2, sizeof(*p))) == NULL)
		return mfs_fail(k->err, MFS_NO_MEMORY, "explanation");
	k->x->lines = p;
	p[k->n_lines] = p[k->n_lines + 1] = NULL;
	if ((code = mfs_strdup(text, &p[k->n_lines], k->err)) == MFS_OK)
		k->n_lines++;
	return code;
}

/* "2026-11-21 03:00:00 UTC" of seconds since the epoch; days to a date by H. Hinnant's civil_from_days. */
static const char *
time_text(char out[40], int64_t t)
{
	const int64_t days = t / 86400, secs = t % 86400, z = days + 719468, era = z / 146097;
	const int64_t doe = z - era * 146097, yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	const int64_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);

	(void)snprintf(out, 40, "%04d-%02d-%02d %02d:%02d:%02d UTC", (int)year, (int)month, (int)(doy - (153 * mp + 2) / 5 + 1),
		(int)(secs / 3600), (int)(secs / 60 % 60), (int)(secs % 60));
	return out;
}
#define TIME(t) time_text((char[40]){ 0 }, (t))

static enum mfs_code
match_lines(struct look *k, const char *what, const struct mfs_match *m)
{
	enum mfs_code code = MFS_OK;

	for (size_t i = 0; k->x != NULL && code == MFS_OK && i < m->n_keys; i++) {
		const struct mfs_label *l = &m->keys[i];
		const bool more = l->values[0] != NULL && l->values[1] != NULL;
		bool version;
		const char *have = mfs_match_fact(k->d, l->name, &version);

		if (have == NULL)
			code = line(k, "%s %s: '%s'%s wanted, this device does not say: no", what, MFS_ESC(l->name),
				MFS_ESC(l->values[0]), more ? " or others" : "");
		else
			code = line(k, "%s %s: '%s'%s wanted, this device has '%s': %s", what, MFS_ESC(l->name),
				MFS_ESC(l->values[0]), more ? " or others" : "", MFS_ESC(have),
				mfs_match_key_holds(l, k->d) ? "yes" : "no");
	}
	return code;
}

static enum mfs_code
step_lines(struct look *k)
{
	const struct mfs_policy_rollout *r = k->r;
	const struct mfs_policy_step *next = k->step < r->n_steps ? &r->steps[k->step] : NULL;
	enum mfs_code code;

	if (k->x == NULL)
		return MFS_OK;
	code = line(k, "step %zu of %zu in effect: %u.%02u %%", k->step, r->n_steps, k->fraction / 100, k->fraction % 100);
	if (code == MFS_OK && next != NULL) {
		const bool late = k->now < next->after, confirm = next->confirm && r->confirmed < (int64_t)k->step + 1;

		code = line(k, "step %zu: %u.%02u %%%s%s%s", k->step + 1, (unsigned)(next->fraction / 100),
			(unsigned)(next->fraction % 100), late ? " after " : "", late ? TIME(next->after) : "",
			confirm ? ", once its publisher confirms it" : "");
	}
	if (code == MFS_OK)
		code = line(k, "bucket %u: %s %u", k->bucket, k->bucket < k->fraction ? "below" : "not below", k->fraction);
	return code;
}

/* ---- looking ------------------------------------------------------------------------------------------- */

/* A variant that matches: may it run? */
static enum mfs_code
variant_look(struct look *k, const struct mfs_policy_entry *e, enum mfs_policy_why *why)
{
	struct mfs_verdict verdict;

	*why = MFS_WHY_SELECTED;
	mfs_revocation_find(k->p->revoked, k->p->n_revoked, &e->manifest, e->version, &verdict);
	if (verdict.action != MFS_ACTION_NONE) {
		*why = MFS_WHY_REVOKED;
		return line(k, "variant %s of %s: revoked: %s", e->variant, e->version, MFS_ESC(verdict.reason));
	}
	if (k->p->min_key_epoch == 0 && e->release < k->p->min_release) { /* with an epoch only the manifest can say */
		*why = MFS_WHY_MINIMUM;
		return line(k, "variant %s of %s: release %lld is below min_release %lld", e->variant, e->version,
			(long long)e->release, (long long)k->p->min_release);
	}
	return line(k, "variant %s of %s, release %lld: yes", e->variant, e->version, (long long)e->release);
}

/* Of the variants that match, the first that may run; else why the first that matches may not. */
static enum mfs_code
variants_look(struct look *k)
{
	enum mfs_code code;

	k->why = MFS_WHY_VARIANT;
	for (size_t i = 0; i < k->r->n_variants && k->why != MFS_WHY_SELECTED; i++) {
		const struct mfs_policy_variant *v = &k->r->variants[i];
		enum mfs_policy_why why;

		if ((code = match_lines(k, "variant", &v->match)) != MFS_OK)
			return code;
		if (!mfs_match_holds(&v->match, k->d)) {
			if ((code = line(k, "variant %s of %s: match does not hold", v->entry.variant, v->entry.version)) != MFS_OK)
				return code;
			continue;
		}
		if ((code = variant_look(k, &v->entry, &why)) != MFS_OK)
			return code;
		if (k->variant == NULL || why == MFS_WHY_SELECTED) {
			k->why = why;
			k->variant = v;
		}
	}
	return MFS_OK;
}

static enum mfs_code
rollout_look(struct look *k)
{
	enum mfs_code code;

	if ((code = match_lines(k, "match", &k->r->match)) != MFS_OK)
		return code;
	k->why = MFS_WHY_MATCH;
	if (!mfs_match_holds(&k->r->match, k->d) && k->x == NULL)
		return MFS_OK;
	k->step = mfs_policy_step_now(k->r, k->now, &k->fraction);
	if ((code = mfs_policy_bucket(k->r->salt, k->d->id, &k->bucket, k->err)) != MFS_OK || (code = step_lines(k)) != MFS_OK)
		return code;
	if (!mfs_match_holds(&k->r->match, k->d))
		return MFS_OK;
	k->why = k->step == 0 ? MFS_WHY_STEP : MFS_WHY_BUCKET;
	if (k->bucket >= k->fraction)
		return MFS_OK;
	return variants_look(k);
}

/* The message of NOT_SELECTED: of the rollout that came nearest. */
static enum mfs_code
none_fail(const struct look *k, struct mfs_err *err)
{
	if (k->r == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "the policy has no rollouts");
	if (k->why == MFS_WHY_BUCKET)
		return mfs_fail(err, MFS_NOT_SELECTED, "rollout '%s': %s: bucket %u, fraction %u", k->r->id,
			mfs_policy_why_text(k->why), k->bucket, k->fraction);
	if (k->variant != NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "rollout '%s': %s: %s (%s)", k->r->id, mfs_policy_why_text(k->why),
			k->variant->entry.version, k->variant->entry.variant);
	return mfs_fail(err, MFS_NOT_SELECTED, "rollout '%s': %s", k->r->id, mfs_policy_why_text(k->why));
}

static void
reason_fill(struct mfs_policy_reason *x, const struct look *k)
{
	x->rollout = k->r;
	x->why = k->why;
	x->bucket = k->bucket;
	x->fraction = k->fraction;
	x->step = k->step;
}

static enum mfs_code
rollouts_look(const struct mfs_policy *p, const struct mfs_policy_device *d, int64_t now, struct mfs_policy_choice *out,
	struct mfs_policy_explanation *explain, struct mfs_err *err)
{
	struct look nearest = { 0 };
	enum mfs_code code;

	for (size_t i = 0; i < p->n_rollouts; i++) {
		struct look k = { .p = p, .r = &p->rollouts[i], .d = d, .now = now, .err = err };

		if (explain != NULL)
			k.x = &explain->reasons[explain->n_reasons++];
		if ((code = rollout_look(&k)) != MFS_OK)
			return code;
		if (k.why == MFS_WHY_SELECTED && out->rollout != NULL)
			k.why = MFS_WHY_LATER;
		if (k.x != NULL)
			reason_fill(k.x, &k);
		if (k.why == MFS_WHY_SELECTED)
			*out = (struct mfs_policy_choice){ k.r, k.variant, k.bucket, k.fraction, k.step, k.why, nearest.r, nearest.why };
		if (out->rollout != NULL && explain == NULL)
			return MFS_OK;
		if (nearest.r == NULL || k.why > nearest.why)
			nearest = k;
	}
	if (out->rollout != NULL)
		return MFS_OK;
	out->why = nearest.r != NULL ? nearest.why : MFS_WHY_MATCH;
	return none_fail(&nearest, err);
}

enum mfs_code
mfs_policy_select(const struct mfs_policy *p, const struct mfs_policy_device *d, int64_t now,
	struct mfs_policy_choice *out, struct mfs_policy_explanation *explain, struct mfs_err *err)
{
	struct mfs_policy_choice choice = { 0 };
	enum mfs_code code;

	choice.why = MFS_WHY_MATCH;
	*out = choice;
	if (explain != NULL)
		*explain = (struct mfs_policy_explanation){ 0 };
	if (d->id == NULL || d->id[0] == '\0')
		return mfs_fail(err, MFS_INTERNAL, "policy of '%s': the device has no id", p->model_id);
	if (explain != NULL && p->n_rollouts > 0 &&
		(explain->reasons = calloc(p->n_rollouts, sizeof(*explain->reasons))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "explanation");
	code = rollouts_look(p, d, now, &choice, explain, err);
	if (code == MFS_OK || code == MFS_NOT_SELECTED)
		*out = choice;
	return code;
}
