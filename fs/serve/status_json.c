/* SPDX-License-Identifier: Apache-2.0 */
/* status_json.c - status.json: fields are only added. See modelfs(8), STATUS. */
#include "status_facts.h"

/* Every value goes through here: NULL (no memory, bad UTF-8) makes the whole object NULL in the end. */
static void
put(json_t **o, const char *name, json_t *v)
{
	if (*o != NULL && json_object_set_new(*o, name, v) == 0)
		return;
	if (*o == NULL)
		json_decref(v);
	json_decref(*o);
	*o = NULL;
}

static json_t *
text(const char *s)
{
	char escaped[600];
	json_t *v;

	if (s == NULL)
		return json_null();
	if ((v = json_string(s)) == NULL)
		v = json_string(mfs_escape(escaped, sizeof(escaped), s, mfs_esc_len(s)));
	return v;
}

static json_t *
when(int64_t seconds)
{
	char out[40];

	return seconds == 0 ? json_null() : text(mfs_time_text(out, seconds, false));
}

static json_t *
json_outcome(enum mfs_code code, int64_t at, const char *detail)
{
	json_t *o = json_object();

	put(&o, "outcome", text(mfs_code_name(code)));
	put(&o, "code", json_integer((json_int_t)code));
	put(&o, "class", text(mfs_class_name(mfs_code_class(code))));
	if (at >= 0)
		put(&o, "time", when(at));
	put(&o, "detail", text(detail));
	return o;
}

static json_t *
json_version(const struct mfs_engine_version *ev)
{
	const struct mfs_manifest *m = ev->v->m;
	json_t *o = json_object();

	put(&o, "version", text(m->version));
	put(&o, "variant", text(m->variant));
	put(&o, "release", json_integer(m->release));
	put(&o, "key_epoch", json_integer(m->key_epoch));
	put(&o, "manifest", text(MFS_HEX(&m->id)));
	put(&o, "key_id", text(MFS_HEX(&ev->v->key_id)));
	put(&o, "encrypted", json_boolean(m->cipher != MFS_CIPHER_NONE));
	put(&o, "files", json_integer((json_int_t)m->n_files));
	put(&o, "size", json_integer((json_int_t)m->total_size));
	if (ev->v->key_code != MFS_OK) {
		put(&o, "unreadable", text(mfs_code_name(ev->v->key_code)));
		put(&o, "unreadable_why", text(ev->v->key_why));
	}
	return o;
}

static json_t *
json_versions(const struct mfs_facts_model *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < m->m.n && a != NULL; i++) {
		json_t *o = json_version(&m->m.versions[i]);

		put(&o, "active", json_boolean(m->m.versions[i].active));
		put(&o, "previous", json_boolean(m->m.versions[i].previous));
		if (json_array_append_new(a, o) != 0) {
			json_decref(a);
			a = NULL;
		}
	}
	return a;
}

static json_t *
json_residency(const struct mfs_facts_model *m)
{
	static const char *const wants[] = { [MFS_SERVE_AUTO] = "auto", [MFS_SERVE_RESIDENT] = "resident",
		[MFS_SERVE_PAGED] = "paged" };
	json_t *o = json_object();

	put(&o, "wanted", text(wants[m->conf->serve]));
	if (!m->has_residency)
		return o;
	put(&o, "filling", json_boolean(m->residency.filling));
	put(&o, "done", json_integer((json_int_t)m->residency.done));
	put(&o, "total", json_integer((json_int_t)m->residency.total));
	put(&o, "outcome", text(mfs_code_name(m->residency.code)));
	put(&o, "why", m->residency.why[0] != '\0' ? text(m->residency.why) : json_null());
	return o;
}

static json_t *
json_about(const struct mfs_cycle_version *v)
{
	json_t *o = json_object();

	put(&o, "version", text(v->version));
	put(&o, "variant", text(v->variant));
	put(&o, "release", json_integer(v->release));
	put(&o, "manifest", text(MFS_HEX(&v->manifest)));
	return o;
}

static json_t *
json_attempt(const struct mfs_facts_model *m)
{
	const struct mfs_engine_update *u = &m->m.update;
	json_t *o;

	if (u->step == MFS_STEP_IDLE)
		return json_null();
	o = json_about(&u->v);
	put(&o, "step", text(mfs_step_name(u->step)));
	put(&o, "since", when(u->since));
	put(&o, "deadline", when(u->deadline));
	put(&o, "next_try", when(u->not_before));
	put(&o, "failures", json_integer(u->failures));
	put(&o, "why", u->why != MFS_OK ? json_outcome(u->why, -1, u->detail) : json_null());
	put(&o, "done", json_integer((json_int_t)m->updates.done));
	put(&o, "total", json_integer((json_int_t)m->updates.total));
	put(&o, "rate", json_integer((json_int_t)m->updates.rate));
	return o;
}

/* What the update cycle knows of a model. */
static json_t *
json_cycle(const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	const struct mfs_engine_update *u = &m->m.update;
	json_t *o = json_object(), *part;

	put(&o, "state", text(mfs_step_name(mfs_facts_step(m))));
	put(&o, "repository", m->conf->repo < 0 ? json_null() : text(h->config->repos[m->conf->repo].name));
	put(&o, "last_check", when(m->repo.last_check));
	put(&o, "last_success", when(m->repo.last_success));
	put(&o, "next_check", when(m->repo.next_check));
	put(&o, "fresh_until", when(m->repo.fresh_until));
	put(&o, "check", m->repo.last_check == 0 ? json_null() : json_outcome(m->repo.why, m->repo.last_check, m->repo.detail));
	put(&o, "next", json_attempt(m));
	if (mfs_sha256_is_zero(&u->observation.v.manifest)) {
		put(&o, "observation", json_null());
	} else {
		part = json_about(&u->observation.v);
		put(&part, "seconds", json_integer(u->observation.seconds));
		put(&part, "total", json_integer(u->observation.total));
		put(&part, "checks", json_integer(u->observation.checks));
		put(&o, "observation", part);
	}
	if (mfs_sha256_is_zero(&u->refusal.v.manifest)) {
		put(&o, "refused", json_null());
	} else {
		part = json_about(&u->refusal.v);
		put(&part, "why", json_outcome(u->refusal.why, u->refusal.time, u->refusal_detail));
		put(&o, "refused", part);
	}
	put(&o, "offer", m->updates.offered && m->updates.offer != MFS_OK ? json_outcome(m->updates.offer, -1,
		m->updates.offer_detail) : json_null());
	return o;
}

static json_t *
json_gone(const struct mfs_engine_gone *g)
{
	json_t *o = json_outcome(g->why, -1, g->detail);

	put(&o, "version", text(g->version));
	put(&o, "previous", json_boolean(g->previous));
	return o;
}

json_t *
mfs_json_model(const struct mfs_facts_host *h, const struct mfs_facts_model *m, bool versions)
{
	const struct mfs_engine_version *a = mfs_facts_active(m), *p = mfs_facts_previous(m);
	json_t *o = json_object(), *active, *floor;
	char idle[512];

	put(&o, "format", text("modelfs-status/1"));
	put(&o, "id", text(m->conf->id));
	put(&o, "model_id", text(m->conf->model_id));
	if (a != NULL) {
		active = json_version(a);
		put(&active, "since", when(m->m.active_since));
		put(&active, "tier", h->mounted ? text(mfs_tier_name(m->tier)) : json_null());
		put(&o, "active", active);
	} else {
		put(&o, "active", json_null());
	}
	put(&o, "absent", m->m.absent != MFS_OK ? json_outcome(m->m.absent, -1, m->m.absent_detail) : json_null());
	put(&o, "previous", p != NULL ? text(p->v->m->version) : json_null());
	put(&o, "gone", m->m.gone.version[0] != '\0' ? json_gone(&m->m.gone) : json_null());
	if (versions)
		put(&o, "versions", json_versions(m));
	floor = json_object();
	put(&floor, "key_epoch", json_integer(m->m.floor_epoch));
	put(&floor, "release", json_integer(m->m.floor_release));
	put(&o, "floor", floor);
	put(&o, "held", json_boolean(m->m.held));
	put(&o, "generation", json_integer((json_int_t)m->m.generation));
	put(&o, "last", m->m.last_outcome_time != 0
			? json_outcome(m->m.last_outcome, m->m.last_outcome_time, m->m.last_detail)
			: json_null());
	put(&o, "residency", json_residency(m));
	put(&o, "pin", m->m.update.pin[0] != '\0' ? text(m->m.update.pin) : json_null());
	put(&o, "cycle", json_cycle(h, m));
	put(&o, "updates", text(m->conf->repo < 0 ? "by hand" : h->config->repos[m->conf->repo].name));
	put(&o, "note", mfs_facts_idle(h, m, idle)[0] != '\0' ? text(idle) : json_null());
	return o;
}

static json_t *
json_mounted(const struct mfs_facts_host *h)
{
	json_t *o = json_object();

	put(&o, "path", text(h->config->mount));
	put(&o, "since", when(h->mounted_at));
	put(&o, "noswap", json_boolean(h->noswap));
	put(&o, "resend", json_boolean(h->resend));
	put(&o, "rootless", json_boolean(h->rootless));
	return o;
}

static json_t *
json_sandbox(const struct mfs_sandbox_report *r)
{
	json_t *o = json_object();

	put(&o, "uid", json_boolean(r->uid));
	put(&o, "no_new_privs", json_boolean(r->no_new_privs));
	put(&o, "landlock", json_boolean(r->landlock));
	put(&o, "seccomp", json_boolean(r->seccomp));
	return o;
}

static json_t *
json_state(const struct mfs_engine_state *s)
{
	json_t *o = json_object();

	put(&o, "full", json_boolean(s->full));
	put(&o, "reserve", json_integer((json_int_t)s->reserve));
	put(&o, "reserve_wanted", json_integer((json_int_t)s->want));
	put(&o, "unwritten", s->unwritten[0] != '\0' ? text(s->unwritten) : json_null());
	return o;
}

static json_t *
json_telemetry(const struct mfs_telemetry_counts *t)
{
	json_t *o = json_object();

	put(&o, "queued", json_integer((json_int_t)t->queued));
	put(&o, "sent", json_integer((json_int_t)t->sent));
	put(&o, "dropped", json_integer((json_int_t)t->dropped));
	put(&o, "failing_since", t->failing_since != 0 ? when(t->failing_since) : json_null());
	put(&o, "last", t->why != MFS_OK ? json_outcome(t->why, -1, t->detail) : json_null());
	return o;
}

json_t *
mfs_json_host(const struct mfs_facts_host *h)
{
	json_t *o = json_object(), *sandbox;

	put(&o, "format", text("modelfs-status/1"));
	put(&o, "modelfs", text(PACKAGE_VERSION));
	put(&o, "time", when(h->now));
	put(&o, "mounted", h->mounted ? json_mounted(h) : json_null());
	put(&o, "rollback_protection", h->protection != NULL ? text(h->protection) : json_null());
	put(&o, "counter", text(h->kind));
	put(&o, "updates", text(h->config->n_repos == 0 ? "by hand" : "repository"));
	if (!h->mounted)
		return o;
	put(&o, "serve_pid", json_integer(h->serve_pid));
	put(&o, "keeper_pid", json_integer(h->keeper_pid));
	put(&o, "restarts", json_integer(h->restarts));
	put(&o, "taken_over", json_integer((json_int_t)h->taken_over));
	put(&o, "chunk_failures", json_integer((json_int_t)h->chunk_failures));
	sandbox = json_sandbox(&h->sandbox);
	put(&sandbox, "landlock_abi", json_integer(h->sandbox.landlock_abi));
	put(&o, "sandbox", sandbox);
	put(&o, "fetch_sandbox", h->has_fetch_sandbox ? json_sandbox(&h->fetch_sandbox) : json_null());
	put(&o, "state", json_state(&h->state));
	put(&o, "telemetry", h->has_telemetry ? json_telemetry(&h->telemetry) : json_null());
	put(&o, "read_ahead_kb", json_integer(h->read_ahead_kb));
	put(&o, "passthrough", json_boolean(h->passthrough));
	put(&o, "resident_bytes", json_integer((json_int_t)h->resident_bytes));
	put(&o, "store_bytes", h->has_store_bytes ? json_integer((json_int_t)h->store_bytes) : json_null());
	return o;
}
