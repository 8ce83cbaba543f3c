/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cycle document says of updates: attempt, observation, refusal, repositories, budget.
 * modelfs-state(5), CYCLE. Every field may be absent: a document of minor version 0 has none.
 */
#include <stdio.h>
#include <string.h>

#include "cycle_doc.h"

static const char *const steps[MFS_STEPS] = { "idle", "download", "verify", "stage", "health", "activate", "observe",
	"commit" };

const char *
mfs_step_name(enum mfs_step s)
{
	return s < MFS_STEPS ? steps[s] : "unknown";
}

/* ---- records in memory -------------------------------------------------------------------------- */

void
mfs_cycle_attempt_clear(struct mfs_cycle_attempt *a)
{
	free(a->detail);
	*a = (struct mfs_cycle_attempt){ 0 };
}

enum mfs_code
mfs_cycle_attempt_copy(struct mfs_cycle_attempt *to, const struct mfs_cycle_attempt *from, struct mfs_err *err)
{
	char *detail = NULL;

	if (from->detail != NULL && (detail = strdup(from->detail)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle");
	free(to->detail);
	*to = *from;
	to->detail = detail;
	return MFS_OK;
}

struct mfs_cycle_repo *
mfs_cycle_repo(struct mfs_cycle *c, const char *name)
{
	struct mfs_cycle_repo *grown;
	size_t at = 0;

	while (at < c->n_repos && strcmp(c->repos[at].name, name) < 0)
		at++;
	if (at < c->n_repos && strcmp(c->repos[at].name, name) == 0)
		return &c->repos[at];
	if (!mfs_model_id_ok(name, strlen(name)) || c->n_repos >= MFS_CYCLE_REPOS_MAX ||
		(grown = realloc(c->repos, (c->n_repos + 1) * sizeof(*grown))) == NULL)
		return NULL;
	c->repos = grown;
	memmove(&grown[at + 1], &grown[at], (c->n_repos - at) * sizeof(*grown));
	c->n_repos++;
	grown[at] = (struct mfs_cycle_repo){ 0 };
	memcpy(grown[at].name, name, strlen(name) + 1);
	return &grown[at];
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* A field that may be absent: 0 then. */
static enum mfs_code
may_int(json_t *o, const char *where, const char *key, int64_t *out, struct mfs_err *err)
{
	*out = 0;
	return json_object_get(o, key) == NULL ? MFS_OK : mfs_cycle_take_int(o, where, key, 0, out, err);
}

static enum mfs_code
may_unsigned(json_t *o, const char *where, const char *key, unsigned *out, struct mfs_err *err)
{
	int64_t v;
	enum mfs_code code = may_int(o, where, key, &v, err);

	if (code == MFS_OK && v > 1000000000)
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: out of range", where, key);
	*out = (unsigned)v;
	return code;
}

static enum mfs_code
may_bytes(json_t *o, const char *where, const char *key, uint64_t *out, struct mfs_err *err)
{
	int64_t v;
	enum mfs_code code = may_int(o, where, key, &v, err);

	*out = (uint64_t)v;
	return code;
}

static enum mfs_code
may_bool(json_t *o, const char *where, const char *key, bool *out, struct mfs_err *err)
{
	json_t *v = json_object_get(o, key);

	if (v != NULL && !json_is_boolean(v))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: not true or false", where, key);
	*out = json_is_true(v);
	(void)json_object_del(o, key);
	return MFS_OK;
}

/* ok decides what is valid; an absent field is the empty string. */
static enum mfs_code
may_name(json_t *o, const char *where, const char *key, bool (*ok)(const char *, size_t), char *out, size_t cap,
	struct mfs_err *err)
{
	json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);

	out[0] = '\0';
	if (v == NULL)
		return MFS_OK;
	if (s == NULL || json_string_length(v) >= cap || !ok(s, json_string_length(v)))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: not valid", where, key);
	memcpy(out, s, json_string_length(v) + 1);
	(void)json_object_del(o, key);
	return MFS_OK;
}

static enum mfs_code
may_hash(json_t *o, const char *where, const char *key, struct mfs_sha256 *out, struct mfs_err *err)
{
	json_t *v = json_object_get(o, key);
	const char *hex = json_string_value(v);

	if (v == NULL)
		return MFS_OK;
	if (hex == NULL || !mfs_hex_decode(out->b, MFS_SHA256_LEN, hex, strlen(hex)))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: not 64 hex digits", where, key);
	(void)json_object_del(o, key);
	return MFS_OK;
}

/* An outcome with its detail; one that a later version added is shown as internal. */
static enum mfs_code
may_outcome(json_t *o, const char *where, enum mfs_code *why, char **detail, struct mfs_err *err)
{
	json_t *name = json_object_get(o, "outcome"), *text = json_object_get(o, "detail");

	*why = MFS_OK;
	if ((name != NULL && !json_is_string(name)) || (text != NULL && !json_is_string(text)))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %soutcome, detail: not strings", where);
	if (name != NULL && !mfs_code_from_name(json_string_value(name), why))
		*why = MFS_INTERNAL;
	if (text != NULL && (*detail = strdup(json_string_value(text))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "cycle");
	(void)json_object_del(o, "outcome");
	(void)json_object_del(o, "detail");
	return MFS_OK;
}

static enum mfs_code
take_version(json_t *o, const char *where, struct mfs_cycle_version *v, struct mfs_err *err)
{
	if (may_hash(o, where, "manifest", &v->manifest, err) != MFS_OK ||
		may_name(o, where, "version", mfs_version_ok, v->version, sizeof(v->version), err) != MFS_OK ||
		may_name(o, where, "variant", mfs_variant_ok, v->variant, sizeof(v->variant), err) != MFS_OK ||
		may_int(o, where, "release", &v->release, err) != MFS_OK ||
		may_int(o, where, "key_epoch", &v->key_epoch, err) != MFS_OK)
		return err->code;
	if (mfs_sha256_is_zero(&v->manifest) != (v->version[0] == '\0'))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %smanifest, version: one without the other", where);
	return MFS_OK;
}

/* An object that may be absent: NULL then. */
static enum mfs_code
may_object(json_t *o, const char *where, const char *key, json_t **out, struct mfs_err *err)
{
	*out = json_object_get(o, key);
	if (*out != NULL && !json_is_object(*out))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %s%s: not an object", where, key);
	return MFS_OK;
}

static enum mfs_code
take_attempt(json_t *o, const char *where, struct mfs_cycle_attempt *a, struct mfs_err *err)
{
	const char *name = json_string_value(json_object_get(o, "step"));

	while (a->step < MFS_STEPS && (name == NULL || strcmp(name, steps[a->step]) != 0))
		a->step++;
	if (a->step > MFS_STEP_ACTIVATE) {
		a->step = MFS_STEP_IDLE;
		return mfs_fail(err, MFS_MALFORMED, "cycle: %sstep: not one from idle to activate", where);
	}
	if (take_version(o, where, &a->v, err) != MFS_OK || may_int(o, where, "since", &a->since, err) != MFS_OK ||
		may_int(o, where, "deadline", &a->deadline, err) != MFS_OK ||
		may_int(o, where, "not_before", &a->not_before, err) != MFS_OK ||
		may_unsigned(o, where, "starts", &a->starts, err) != MFS_OK ||
		may_unsigned(o, where, "failures", &a->failures, err) != MFS_OK ||
		may_bytes(o, where, "free_bytes", &a->free_bytes, err) != MFS_OK ||
		may_bool(o, where, "by_hand", &a->by_hand, err) != MFS_OK ||
		may_bool(o, where, "rollback", &a->rollback, err) != MFS_OK ||
		may_outcome(o, where, &a->why, &a->detail, err) != MFS_OK)
		return err->code;
	if (a->step != MFS_STEP_IDLE && mfs_sha256_is_zero(&a->v.manifest))
		return mfs_fail(err, MFS_MALFORMED, "cycle: %smanifest: missing", where);
	return MFS_OK;
}

static enum mfs_code
take_observation(json_t *o, const char *where, struct mfs_cycle_observation *b, struct mfs_err *err)
{
	if (take_version(o, where, &b->v, err) != MFS_OK || may_int(o, where, "seconds", &b->seconds, err) != MFS_OK ||
		may_int(o, where, "total", &b->total, err) != MFS_OK ||
		may_unsigned(o, where, "checks", &b->checks, err) != MFS_OK ||
		may_unsigned(o, where, "undecided", &b->undecided, err) != MFS_OK ||
		may_bool(o, where, "by_hand", &b->by_hand, err) != MFS_OK)
		return err->code;
	return MFS_OK;
}

static enum mfs_code
take_refusal(json_t *o, const char *where, struct mfs_cycle_refusal *r, struct mfs_err *err)
{
	if (take_version(o, where, &r->v, err) != MFS_OK || may_int(o, where, "time", &r->time, err) != MFS_OK ||
		may_hash(o, where, "model_key_id", &r->key, err) != MFS_OK ||
		may_outcome(o, where, &r->why, &r->detail, err) != MFS_OK)
		return err->code;
	return MFS_OK;
}

enum mfs_code
mfs_cycle_take_update(json_t *o, const char *where, struct mfs_cycle_model *m, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	json_t *a, *b, *r, *p, *f;
	char in[80];

	err = err != NULL ? err : &own;
	if (may_name(o, where, "pin", mfs_version_ok, m->pin, sizeof(m->pin), err) != MFS_OK ||
		may_object(o, where, "attempt", &a, err) != MFS_OK ||
		may_object(o, where, "observation", &b, err) != MFS_OK || may_object(o, where, "refusal", &r, err) != MFS_OK ||
		may_object(o, where, "policy", &p, err) != MFS_OK || may_object(o, where, "offer", &f, err) != MFS_OK)
		return err->code;
	(void)snprintf(in, sizeof(in), "%sattempt.", where);
	if (a != NULL && take_attempt(a, in, &m->attempt, err) != MFS_OK)
		return err->code;
	(void)snprintf(in, sizeof(in), "%sobservation.", where);
	if (b != NULL && take_observation(b, in, &m->observation, err) != MFS_OK)
		return err->code;
	(void)snprintf(in, sizeof(in), "%srefusal.", where);
	if (r != NULL && take_refusal(r, in, &m->refusal, err) != MFS_OK)
		return err->code;
	(void)snprintf(in, sizeof(in), "%spolicy.", where);
	if (p != NULL && may_outcome(p, in, &m->policy_why, &m->policy_detail, err) != MFS_OK)
		return err->code;
	(void)snprintf(in, sizeof(in), "%soffer.", where);
	if (f != NULL && may_outcome(f, in, &m->offer_why, &m->offer_detail, err) != MFS_OK)
		return err->code;
	(void)json_object_del(o, "offer");
	(void)json_object_del(o, "attempt");
	(void)json_object_del(o, "observation");
	(void)json_object_del(o, "refusal");
	(void)json_object_del(o, "policy");
	return MFS_OK;
}

static bool
etag_ok(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] < '!' || s[i] > '~')
			return false;
	return true;
}

static const char *const roles[MFS_CYCLE_ROLES] = { "root", "timestamp", "snapshot", "targets" };

static enum mfs_code
take_expires(json_t *o, const char *where, struct mfs_cycle_repo *r, struct mfs_err *err)
{
	json_t *x;
	char in[80];

	if (may_object(o, where, "expires", &x, err) != MFS_OK)
		return err->code;
	(void)snprintf(in, sizeof(in), "%sexpires.", where);
	for (size_t i = 0; x != NULL && i < MFS_CYCLE_ROLES; i++)
		if (may_int(x, in, roles[i], &r->expires[i], err) != MFS_OK)
			return err->code;
	(void)json_object_del(o, "expires");
	return MFS_OK;
}

static enum mfs_code
take_repo(json_t *o, size_t i, struct mfs_cycle *c, struct mfs_err *err)
{
	const char *name = json_string_value(json_object_get(o, "name"));
	size_t before = c->n_repos;
	struct mfs_cycle_repo *r;
	char where[48];

	(void)snprintf(where, sizeof(where), "repositories[%zu].", i);
	if (name == NULL || (r = mfs_cycle_repo(c, name)) == NULL || c->n_repos == before)
		return mfs_fail(err, MFS_MALFORMED, "cycle: %sname: missing, not valid, or twice", where);
	(void)json_object_del(o, "name");
	if (may_int(o, where, "timestamp_version", &r->timestamp_version, err) != MFS_OK ||
		may_name(o, where, "etag", etag_ok, r->etag, sizeof(r->etag), err) != MFS_OK ||
		take_expires(o, where, r, err) != MFS_OK ||
		may_int(o, where, "last_check", &r->last_check, err) != MFS_OK ||
		may_int(o, where, "last_success", &r->last_success, err) != MFS_OK ||
		may_int(o, where, "next_check", &r->next_check, err) != MFS_OK ||
		may_int(o, where, "time_floor", &r->floor.time, err) != MFS_OK ||
		may_int(o, where, "time_floor_boot", &r->floor.boot, err) != MFS_OK ||
		may_unsigned(o, where, "failures", &r->failures, err) != MFS_OK ||
		may_outcome(o, where, &r->why, &r->detail, err) != MFS_OK)
		return err->code;
	return mfs_cycle_take_rest(o, &r->extra_json, err);
}

enum mfs_code
mfs_cycle_take_host(json_t *root, struct mfs_cycle *c, struct mfs_err *err)
{
	json_t *list = json_object_get(root, "repositories"), *budget;
	struct mfs_err own = MFS_ERR_INIT;

	err = err != NULL ? err : &own;
	if (list != NULL && !json_is_array(list))
		return mfs_fail(err, MFS_MALFORMED, "cycle: repositories: not a list");
	if (json_array_size(list) > MFS_CYCLE_REPOS_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "cycle: repositories: %zu, limit %u", json_array_size(list),
			MFS_CYCLE_REPOS_MAX);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (take_repo(json_array_get(list, i), i, c, err) != MFS_OK)
			return err->code;
	if (may_int(root, "", "time_floor_boot", &c->floor.boot, err) != MFS_OK ||
		may_object(root, "", "budget", &budget, err) != MFS_OK)
		return err->code;
	if (budget != NULL && (may_int(budget, "budget.", "day", &c->budget_day, err) != MFS_OK ||
		may_bytes(budget, "budget.", "bytes", &c->budget_bytes, err) != MFS_OK))
		return err->code;
	(void)json_object_del(root, "repositories");
	(void)json_object_del(root, "budget");
	return MFS_OK;
}

/* ---- writing: what is zero is left out ------------------------------------------------------------ */

static int
put_int(json_t *o, const char *key, int64_t v)
{
	return v == 0 ? 0 : json_object_set_new(o, key, json_integer(v));
}

static int
put_bytes(json_t *o, const char *key, uint64_t v)
{
	return put_int(o, key, v > (uint64_t)MFS_JSON_INT_MAX ? MFS_JSON_INT_MAX : (int64_t)v);
}

static int
put_bool(json_t *o, const char *key, bool v)
{
	return v ? json_object_set_new(o, key, json_true()) : 0;
}

static int
put_outcome(json_t *o, enum mfs_code why, const char *detail)
{
	int bad = why == MFS_OK ? 0 : json_object_set_new(o, "outcome", json_string(mfs_code_name(why)));

	return detail == NULL ? bad : bad | json_object_set_new(o, "detail", json_string(detail));
}

static int
put_version(json_t *o, const struct mfs_cycle_version *v)
{
	int bad = 0;

	if (mfs_sha256_is_zero(&v->manifest))
		return 0;
	bad |= json_object_set_new(o, "manifest", json_string(MFS_HEX(&v->manifest)));
	bad |= json_object_set_new(o, "version", json_string(v->version));
	if (v->variant[0] != '\0')
		bad |= json_object_set_new(o, "variant", json_string(v->variant));
	return bad | put_int(o, "release", v->release) | put_int(o, "key_epoch", v->key_epoch);
}

static json_t *
attempt_json(const struct mfs_cycle_attempt *a, int *bad)
{
	json_t *o = json_object();

	*bad |= json_object_set_new(o, "step", json_string(mfs_step_name(a->step))) | put_version(o, &a->v) |
		put_int(o, "since", a->since) | put_int(o, "deadline", a->deadline) |
		put_int(o, "not_before", a->not_before) | put_int(o, "starts", a->starts) |
		put_int(o, "failures", a->failures) | put_bytes(o, "free_bytes", a->free_bytes) |
		put_bool(o, "by_hand", a->by_hand) | put_bool(o, "rollback", a->rollback) |
		put_outcome(o, a->why, a->detail);
	return o;
}

static json_t *
observation_json(const struct mfs_cycle_observation *b, int *bad)
{
	json_t *o = json_object();

	*bad |= put_version(o, &b->v) | put_int(o, "seconds", b->seconds) | put_int(o, "total", b->total) |
		put_int(o, "checks", b->checks) | put_int(o, "undecided", b->undecided) |
		put_bool(o, "by_hand", b->by_hand);
	return o;
}

static json_t *
outcome_json(enum mfs_code why, const char *detail, int *bad)
{
	json_t *o = json_object();

	*bad |= put_outcome(o, why, detail);
	return o;
}

static json_t *
refusal_json(const struct mfs_cycle_refusal *r, int *bad)
{
	json_t *o = json_object();

	*bad |= put_version(o, &r->v) | put_int(o, "time", r->time) | put_outcome(o, r->why, r->detail);
	if (!mfs_sha256_is_zero(&r->key))
		*bad |= json_object_set_new(o, "model_key_id", json_string(MFS_HEX(&r->key)));
	return o;
}

/* The value was made before, with failures of its own in *bad. */
static void
put_object(json_t *o, const char *key, json_t *v, int *bad)
{
	*bad |= json_object_set_new(o, key, v);
}

static void
put_item(json_t *list, json_t *v, int *bad)
{
	*bad |= json_array_append_new(list, v);
}

int
mfs_cycle_put_update(json_t *o, const struct mfs_cycle_model *m)
{
	int bad = 0;

	if (m->pin[0] != '\0')
		bad |= json_object_set_new(o, "pin", json_string(m->pin));
	if (m->attempt.step != MFS_STEP_IDLE || m->attempt.why != MFS_OK || !mfs_sha256_is_zero(&m->attempt.v.manifest))
		put_object(o, "attempt", attempt_json(&m->attempt, &bad), &bad);
	if (!mfs_sha256_is_zero(&m->observation.v.manifest))
		put_object(o, "observation", observation_json(&m->observation, &bad), &bad);
	if (!mfs_sha256_is_zero(&m->refusal.v.manifest))
		put_object(o, "refusal", refusal_json(&m->refusal, &bad), &bad);
	if (m->policy_why != MFS_OK)
		put_object(o, "policy", outcome_json(m->policy_why, m->policy_detail, &bad), &bad);
	if (m->offer_why != MFS_OK)
		put_object(o, "offer", outcome_json(m->offer_why, m->offer_detail, &bad), &bad);
	return bad;
}

static json_t *
repo_json(const struct mfs_cycle_repo *r, int *bad)
{
	json_t *o = mfs_cycle_rest_json(r->extra_json);

	*bad |= json_object_set_new(o, "name", json_string(r->name)) |
		put_int(o, "timestamp_version", r->timestamp_version) | put_int(o, "last_check", r->last_check) |
		put_int(o, "last_success", r->last_success) | put_int(o, "next_check", r->next_check) |
		put_int(o, "time_floor", r->floor.time) | put_int(o, "time_floor_boot", r->floor.boot) |
		put_int(o, "failures", r->failures) | put_outcome(o, r->why, r->detail);
	if (r->etag[0] != '\0')
		*bad |= json_object_set_new(o, "etag", json_string(r->etag));
	if (r->expires[0] != 0) {
		json_t *x = json_object();

		for (size_t i = 0; i < MFS_CYCLE_ROLES; i++)
			*bad |= put_int(x, roles[i], r->expires[i]);
		*bad |= json_object_set_new(o, "expires", x);
	}
	return o;
}

int
mfs_cycle_put_host(json_t *root, const struct mfs_cycle *c)
{
	json_t *list, *budget;
	int bad = 0;

	if (c->n_repos > 0) {
		list = json_array();
		for (size_t i = 0; i < c->n_repos; i++)
			put_item(list, repo_json(&c->repos[i], &bad), &bad);
		bad |= json_object_set_new(root, "repositories", list);
	}
	bad |= put_int(root, "time_floor_boot", c->floor.boot);
	if (c->budget_day != 0) {
		budget = json_object();
		bad |= put_int(budget, "day", c->budget_day) | put_bytes(budget, "bytes", c->budget_bytes);
		bad |= json_object_set_new(root, "budget", budget);
	}
	return bad;
}
