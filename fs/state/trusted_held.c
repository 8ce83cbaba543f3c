/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in force and not on the disk: held here and, for the serve after this one, in keeper's memory (held.h).
 * A start joins that with what the disk has so that it only ever takes trust away.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mfs_policy.h"
#include "trusted_io.h"

#define BASE_LEN 8u /* before the anchor: generation on the disk that it was made from */

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

static bool
same_models(char *const *a, char *const *b)
{
	size_t i = 0;

	if (a == NULL || b == NULL)
		return a == b;
	for (; a[i] != NULL && b[i] != NULL; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return a[i] == b[i];
}

static bool
has_entry(const struct mfs_trustlist *l, const struct mfs_trust_entry *e)
{
	for (size_t i = 0; i < l->n_keys; i++)
		if (mfs_sha256_equal(&l->keys[i].key_id, &e->key_id))
			return l->keys[i].epoch == e->epoch && same_models(l->keys[i].models, e->models);
	return false;
}

enum mfs_code
mfs_anchor_trust_cut(struct mfs_anchor_repo *r, struct mfs_span by, bool *cut, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *have = NULL, *keep = NULL;
	mfs_autofree char *json = NULL;
	enum mfs_code code;
	size_t i = 0, before, len;

	*cut = false;
	if (r->trust_json == NULL) /* the keys of the configuration are nobody's to take */
		return MFS_OK;
	if ((code = mfs_trustlist_parse(MFS_SPAN(r->trust_json, strlen(r->trust_json)), &have, err)) != MFS_OK ||
		(code = mfs_trustlist_parse(by, &keep, err)) != MFS_OK)
		return code;
	before = have->n_keys;
	while (i < have->n_keys) {
		const struct mfs_sha256 id = have->keys[i].key_id;

		if (has_entry(keep, &have->keys[i]) || !mfs_trustlist_remove(have, &id))
			i++;
	}
	if (have->n_keys == before)
		return MFS_OK;
	if ((code = mfs_trustlist_json(have, &json, &len, err)) != MFS_OK)
		return code;
	free(r->trust_json);
	r->trust_json = mfs_steal(&json);
	*cut = true;
	return MFS_OK;
}

/* ---- joining -------------------------------------------------------------------------------------------------------- */

/* Does the record of the disk know this version as one that it shows, or may go back to? */
static bool
is_listed(const struct mfs_anchor_model *m, const struct mfs_vref *v)
{
	bool found = mfs_sha256_is_zero(&v->manifest) || mfs_sha256_equal(&m->active.manifest, &v->manifest) ||
		mfs_sha256_equal(&m->previous.manifest, &v->manifest);

	for (size_t i = 0; i < m->n_retained && !found; i++)
		found = mfs_sha256_equal(&m->retained[i].manifest, &v->manifest);
	return found;
}

/* Where the held record went back to, if that is a version that the disk lists too. */
static enum mfs_code
model_go(struct mfs_anchor_model *to, const struct mfs_anchor_model *held, struct mfs_err *err)
{
	bool listed = is_listed(to, &held->active) && is_listed(to, &held->previous);
	struct mfs_vref *list = NULL;

	for (size_t i = 0; i < held->n_retained && listed; i++)
		listed = is_listed(to, &held->retained[i]);
	if (!listed || mfs_sha256_equal(&to->active.manifest, &held->active.manifest))
		return MFS_OK;
	if (held->n_retained > 0) {
		if ((list = calloc(held->n_retained, sizeof(*list))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "model %s", to->id);
		memcpy(list, held->retained, held->n_retained * sizeof(*list));
	}
	free(to->retained);
	to->retained = list;
	to->n_retained = held->n_retained;
	to->active = held->active;
	to->previous = held->previous;
	return MFS_OK;
}

/*
 * current  the held record was made from what the disk has, not from something older. An older one is still asked
 *          what it forbids, unless the disk knows a later policy: that has the last word.
 */
static enum mfs_code
model_join(struct mfs_anchor_model *to, const struct mfs_anchor_model *held, bool current, struct mfs_err *err)
{
	const struct mfs_policy p = { .revoked = held->revoked, .n_revoked = held->n_revoked, .min_release = held->min_release,
		.min_key_epoch = held->min_key_epoch, .withdraw_below = held->withdraw_below };
	enum mfs_code code;

	if (strcmp(to->model_id, held->model_id) != 0 || to->policy_sequence > held->policy_sequence)
		return MFS_OK;
	if ((code = mfs_anchor_policy_tighten(to, &p, err)) != MFS_OK || !current)
		return code;
	return model_go(to, held, err);
}

static enum mfs_code
join(const struct mfs_anchor *disk, const struct mfs_anchor *held, bool current, struct mfs_anchor **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *a = NULL;
	enum mfs_code code = mfs_anchor_copy(disk, &a, err);

	*out = NULL;
	for (size_t i = 0; code == MFS_OK && i < held->n_models; i++) {
		struct mfs_anchor_model *to = mfs_anchor_find(a, held->models[i].id);

		if (to != NULL) /* else nothing of it was ever written, and nothing can be shown */
			code = model_join(to, &held->models[i], current, err);
	}
	for (size_t i = 0; code == MFS_OK && current && i < held->n_repos; i++) {
		const struct mfs_anchor_repo *from = &held->repos[i];
		struct mfs_anchor_repo *to = NULL;
		bool cut;

		for (size_t k = 0; k < a->n_repos && to == NULL; k++)
			to = strcmp(a->repos[k].name, from->name) == 0 ? &a->repos[k] : NULL;
		if (to != NULL && from->trust_json != NULL && to->targets.version <= from->targets.version)
			code = mfs_anchor_trust_cut(to, MFS_SPAN(from->trust_json, strlen(from->trust_json)), &cut, err);
	}
	if (code == MFS_OK)
		*out = mfs_steal(&a);
	return code;
}

static enum mfs_code
same_anchor(const struct mfs_anchor *a, const struct mfs_anchor *b, bool *same, struct mfs_err *err)
{
	mfs_autofree char *one = NULL, *other = NULL;
	size_t n, m;
	enum mfs_code code;

	if ((code = mfs_anchor_json(a, &one, &n, err)) != MFS_OK || (code = mfs_anchor_json(b, &other, &m, err)) != MFS_OK)
		return code;
	*same = n == m && memcmp(one, other, n) == 0;
	return MFS_OK;
}

/* ---- taking over ----------------------------------------------------------------------------------------------------- */

static enum mfs_code
anchor_take_over(struct mfs_trusted *t, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *held = NULL, *joined = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_err why = MFS_ERR_INIT;
	struct mfs_span doc = { NULL, 0 };
	uint64_t sequence = 0, base = 0;
	enum mfs_code code;
	bool same;

	if ((code = mfs_held_get(t->held, MFS_STATE_HELD, &t->key, &bytes, &doc, &sequence, err)) != MFS_OK || bytes == NULL)
		return code;
	t->held_sequence = sequence;
	if (!mfs_span_u64le(&doc, &base))
		code = mfs_fail(&why, MFS_MALFORMED, "shorter than %u bytes", BASE_LEN);
	else
		code = mfs_anchor_parse(doc, &held, &why);
	if (code == MFS_NO_MEMORY)
		return mfs_fail(err, code, "state held in memory: %s", why.msg);
	if (code != MFS_OK) { /* authentic, and yet unreadable: of another version of this program */
		mfs_log_err("state held in memory: not used", &why);
		return MFS_OK;
	}
	if ((code = join(t->anchor, held, base >= t->value, &joined, err)) != MFS_OK ||
		(code = same_anchor(t->anchor, joined, &same, err)) != MFS_OK)
		return code;
	if (same) { /* all of it is on the disk: serve died before it could say so */
		mfs_held_drop(t->held, MFS_STATE_HELD);
		return MFS_OK;
	}
	t->written = t->anchor;
	t->anchor = mfs_steal(&joined);
	t->ahead = true;
	mfs_log(MFS_LOG_NOTICE, "state: what a serve before this one could not write is in force again");
	return MFS_OK;
}

/* The cycle goes with it: that the two speak of the same. Of all copies the latest one counts, as on the disk. */
static enum mfs_code
cycle_take_over(struct mfs_trusted *t, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_err why = MFS_ERR_INIT;
	struct mfs_cycle *cycle = NULL;
	struct mfs_span doc = { NULL, 0 };
	uint64_t generation = 0;
	enum mfs_code code;

	if ((code = mfs_held_get(t->held, MFS_STATE_CYCLE, &t->key, &bytes, &doc, &generation, err)) != MFS_OK || bytes == NULL)
		return code;
	if (generation <= t->cycle_generation) {
		mfs_held_drop(t->held, MFS_STATE_CYCLE);
		return MFS_OK;
	}
	if ((code = mfs_cycle_parse(doc, &cycle, &why)) == MFS_NO_MEMORY)
		return mfs_fail(err, code, "state held in memory: %s", why.msg);
	if (code != MFS_OK) {
		mfs_log_err("state held in memory: not used", &why);
		return MFS_OK;
	}
	mfs_cycle_free(t->cycle);
	t->cycle = cycle;
	t->cycle_generation = generation;
	t->cycle_lost = false;
	return MFS_OK;
}

enum mfs_code
mfs_trusted_take_over(struct mfs_trusted *t, struct mfs_held *h, struct mfs_err *err)
{
	enum mfs_code code;

	if ((t->flags & (MFS_TRUSTED_READ | MFS_TRUSTED_RECOVER)) != 0)
		return mfs_fail(err, MFS_INTERNAL, "state: opened for reading only");
	t->held = h;
	if ((code = anchor_take_over(t, err)) != MFS_OK)
		return code;
	return cycle_take_over(t, err);
}

/* ---- holding ----------------------------------------------------------------------------------------------------------- */

static enum mfs_code
keep(struct mfs_trusted *t, struct mfs_err *err)
{
	mfs_autofree uint8_t *doc = NULL;
	mfs_autofree char *json = NULL;
	enum mfs_code code;
	size_t len;

	if ((code = mfs_anchor_json_memo(t->anchor, t->anchor_memo, &json, &len, err)) != MFS_OK)
		return code;
	if ((doc = malloc(BASE_LEN + len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "anchor: %zu bytes", len);
	/* An increment that was reported as failed may have happened: then the disk stands one above. */
	mfs_put_u64le(doc, t->value + (t->uncertain ? 1 : 0));
	memcpy(doc + BASE_LEN, json, len);
	if ((code = mfs_held_put(t->held, MFS_STATE_HELD, t->held_sequence + 1, MFS_SPAN(doc, BASE_LEN + len), &t->key, err)) ==
		MFS_OK)
		t->held_sequence++;
	return code;
}

void
mfs_trusted_hold(struct mfs_trusted *t, struct mfs_anchor *a)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (t->ahead)
		mfs_anchor_free(t->anchor);
	else
		t->written = t->anchor;
	t->anchor = a;
	t->ahead = true;
	t->unkept[0] = '\0';
	/* Before anybody acts on it: a serve that dies from here on leaves it to the next. */
	if (t->held != NULL && keep(t, &err) != MFS_OK) {
		(void)snprintf(t->unkept, sizeof(t->unkept), "%.150s", err.msg);
		mfs_log_err("state held in memory: a crash of serve forgets it until the next check", &err);
	}
}

const char *
mfs_trusted_unkept(const struct mfs_trusted *t)
{
	return t->unkept;
}

bool
mfs_trusted_ahead(const struct mfs_trusted *t)
{
	return t->ahead;
}

void
mfs_trusted_cycle_hold(struct mfs_trusted *t, struct mfs_span json)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (t->held == NULL || !t->ahead)
		return;
	if (mfs_held_put(t->held, MFS_STATE_CYCLE, t->cycle_generation + 1, json, &t->key, &err) == MFS_OK)
		t->cycle_generation++;
	else
		mfs_log_err("state held in memory: cycle", &err);
}

void
mfs_trusted_settled(struct mfs_trusted *t)
{
	t->ahead = false;
	t->unkept[0] = '\0';
	mfs_anchor_free(t->written);
	t->written = NULL;
	mfs_held_drop(t->held, MFS_STATE_HELD);
}

/* ---- what of it the disk lacks --------------------------------------------------------------------------------------------- */

static bool
has_revocation(const struct mfs_anchor_model *m, const struct mfs_revocation *r)
{
	bool found = false;

	for (size_t i = 0; m != NULL && i < m->n_revoked && !found; i++)
		found = m->revoked[i].action >= r->action && mfs_sha256_equal(&m->revoked[i].manifest, &r->manifest) &&
			strcmp(m->revoked[i].version, r->version) == 0;
	return found;
}

static void
model_lacks(const struct mfs_anchor_model *was, const struct mfs_anchor_model *m,
	void (*say)(void *user, const char *model, const char *what), void *user)
{
	char text[2 * MFS_VERSION_MAX + 160];

	for (size_t i = 0; i < m->n_revoked; i++) {
		const struct mfs_revocation *r = &m->revoked[i];

		if (has_revocation(was, r))
			continue;
		(void)snprintf(text, sizeof(text), "the revocation of %s %s (%s)", r->version[0] != '\0' ? "version" : "manifest",
			r->version[0] != '\0' ? r->version : MFS_HEX(&r->manifest), mfs_action_name(r->action));
		say(user, m->id, text);
	}
	if (was == NULL || was->min_release != m->min_release || was->min_key_epoch != m->min_key_epoch ||
		was->withdraw_below != m->withdraw_below) {
		(void)snprintf(text, sizeof(text), "the minimum of release %" PRId64 ", key epoch %" PRId64, m->min_release,
			m->min_key_epoch);
		say(user, m->id, text);
	}
	if (was != NULL && !mfs_sha256_equal(&was->active.manifest, &m->active.manifest)) {
		(void)snprintf(text, sizeof(text), "that it went back from %s to %s", was->active.version, m->active.version);
		say(user, m->id, text);
	}
}

void
mfs_trusted_lacks(const struct mfs_trusted *t, void (*say)(void *user, const char *what, const char *lacks), void *user)
{
	if (!t->ahead || t->written == NULL)
		return;
	for (size_t i = 0; i < t->anchor->n_models; i++)
		model_lacks(mfs_anchor_find(t->written, t->anchor->models[i].id), &t->anchor->models[i], say, user);
	for (size_t i = 0; i < t->anchor->n_repos; i++) {
		const struct mfs_anchor_repo *r = &t->anchor->repos[i], *was = mfs_anchor_repo_find(t->written, r->name);

		if (was != NULL && was->trust_json != NULL && r->trust_json != NULL && strcmp(was->trust_json, r->trust_json) != 0)
			say(user, r->name, "that it took keys away");
	}
}
