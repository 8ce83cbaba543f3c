/* SPDX-License-Identifier: Apache-2.0 */
/* Does a device fit a match, which bucket is it in, which step is in effect: modelfs-policy(5), ROLLOUTS. */
#include "internal.h"

#include "mfs_policy.h"

/* ---- match ---------------------------------------------------------------------------------------- */

static const char *
value_of(const struct mfs_range *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return list[i].min;
	return NULL;
}

const char *
mfs_match_fact(const struct mfs_policy_device *d, const char *key, bool *version)
{
	const char *name = strncmp(key, "device_", 7) == 0 ? key + 7 : key;
	const char *have = NULL;

	*version = false;
	if (strcmp(name, "id") == 0)
		have = d->id;
	else if (strcmp(name, "class") == 0)
		have = d->class;
	else if (strcmp(name, "region") == 0)
		have = d->region;
	else if (strcmp(name, "channel") == 0)
		have = d->channel;
	else if (strncmp(key, "app.", 4) == 0 && (have = value_of(d->apps, d->n_apps, key + 4)) != NULL)
		*version = true;
	return have != NULL ? have : value_of(d->labels, d->n_labels, key);
}

/* One comparison of n bytes (">=3.2.0") with a version that is a valid one. */
static bool
comparison_holds(const char *s, size_t n, const char *have)
{
	char version[MFS_VERSION_MAX + 1];
	size_t op = strspn(s, "<>=");
	int c;

	if (op > n || n - op > MFS_VERSION_MAX || !mfs_version_ok(s + op, n - op))
		return false;
	memcpy(version, s + op, n - op);
	version[n - op] = '\0';
	c = mfs_version_compare(have, version);
	if (op == 2)
		return s[1] == '=' && ((s[0] == '>' && c >= 0) || (s[0] == '<' && c <= 0));
	if (op == 1)
		return s[0] == '>' ? c > 0 : s[0] == '<' ? c < 0 : c == 0;
	return op == 0 && c == 0;
}

/* A version, or comparisons with spaces between them, which must all hold. */
static bool
version_holds(const char *wanted, const char *have)
{
	if (strcmp(wanted, have) == 0)
		return true;
	if (!mfs_version_ok(have, strlen(have)))
		return false;
	for (;;) {
		const char *end = strchr(wanted, ' ');
		const size_t n = end != NULL ? (size_t)(end - wanted) : strlen(wanted);

		if (!comparison_holds(wanted, n, have))
			return false;
		if (end == NULL)
			return true;
		wanted = end + 1;
	}
}

bool
mfs_match_key_holds(const struct mfs_label *l, const struct mfs_policy_device *d)
{
	bool version;
	const char *have = mfs_match_fact(d, l->name, &version);

	for (size_t i = 0; have != NULL && l->values[i] != NULL; i++)
		if (version ? version_holds(l->values[i], have) : strcmp(l->values[i], have) == 0)
			return true;
	return false;
}

bool
mfs_match_holds(const struct mfs_match *m, const struct mfs_policy_device *d)
{
	for (size_t i = 0; i < m->n_keys; i++)
		if (!mfs_match_key_holds(&m->keys[i], d))
			return false;
	return true;
}

/* ---- buckets and steps -------------------------------------------------------------------------------- */

enum mfs_code
mfs_policy_bucket(const char *salt, const char *id, unsigned *bucket, struct mfs_err *err)
{
	char stack[1024];
	mfs_autofree char *heap = NULL;
	const size_t ns = strlen(salt), ni = strlen(id);
	struct mfs_sha256 h;
	enum mfs_code code;
	uint64_t hi = 0, lo = 0;
	char *text = stack;

	*bucket = 0;
	if (ns + 1 + ni > sizeof(stack) && (text = heap = malloc(ns + 1 + ni)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "device id: %zu bytes", ni);
	memcpy(text, salt, ns + 1); /* its NUL is the separator */
	memcpy(text + ns + 1, id, ni);
	if ((code = mfs_sha256(MFS_SPAN(text, ns + 1 + ni), &h, err)) != MFS_OK)
		return code;
	for (int i = 0; i < 4; i++) {
		hi = hi << 8 | h.b[i];
		lo = lo << 8 | h.b[4 + i];
	}
	/* floor(x * 10000 / 2^64) in 64 bits: the low half's product gives only its carry. */
	*bucket = (unsigned)((hi * MFS_FRACTION_ALL + (lo * MFS_FRACTION_ALL >> 32)) >> 32);
	return MFS_OK;
}

bool
mfs_policy_step_waits(const struct mfs_policy_rollout *r, size_t i, int64_t now)
{
	return now < r->steps[i].after || (r->steps[i].confirm && r->confirmed < (int64_t)i + 1);
}

size_t
mfs_policy_step_now(const struct mfs_policy_rollout *r, int64_t now, unsigned *fraction)
{
	size_t n = 0;

	while (n < r->n_steps && !mfs_policy_step_waits(r, n, now))
		n++;
	*fraction = n > 0 ? (unsigned)r->steps[n - 1].fraction : 0;
	return n;
}

int64_t
mfs_policy_next_change(const struct mfs_policy *p, int64_t now)
{
	int64_t next = INT64_MAX;

	for (size_t i = 0; i < p->n_rollouts; i++) {
		const struct mfs_policy_rollout *r = &p->rollouts[i];
		unsigned fraction;
		const size_t n = mfs_policy_step_now(r, now, &fraction);

		if (n < r->n_steps && r->steps[n].after > now && r->steps[n].after < next &&
			!mfs_policy_step_waits(r, n, r->steps[n].after))
			next = r->steps[n].after;
	}
	return next;
}

/* ---- the manifest that an entry led to ------------------------------------------------------------------ */

enum mfs_code
mfs_policy_entry_check(const struct mfs_policy_entry *e, const char *model_id, const struct mfs_manifest *m,
	struct mfs_err *err)
{
	if (!mfs_sha256_equal(&e->manifest, &m->id))
		return mfs_fail(err, MFS_HASH_MISMATCH, "manifest.json: SHA-256 %s, but the policy wants %s", MFS_HEX(&m->id),
			MFS_HEX(&e->manifest));
	if (strcmp(model_id, m->model_id) != 0)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: model_id: '%s', but the policy is for '%s'", m->model_id,
			MFS_ESC(model_id));
	if (strcmp(e->version, m->version) != 0)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: version: '%s', but the policy says '%s'", m->version, e->version);
	if (strcmp(e->variant, m->variant) != 0)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: variant: '%s', but the policy says '%s'", m->variant, e->variant);
	if (e->release != m->release)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: release: %lld, but the policy says %lld", (long long)m->release,
			(long long)e->release);
	return MFS_OK;
}
