/* SPDX-License-Identifier: Apache-2.0 */
/* status_text.c - the few fixed lines that one reads at 3 am. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "status_facts.h"

const struct mfs_engine_version *
mfs_facts_active(const struct mfs_facts_model *m)
{
	for (size_t i = 0; i < m->m.n; i++)
		if (m->m.versions[i].active)
			return &m->m.versions[i];
	return NULL;
}

const struct mfs_engine_version *
mfs_facts_previous(const struct mfs_facts_model *m)
{
	for (size_t i = 0; i < m->m.n; i++)
		if (m->m.versions[i].previous)
			return &m->m.versions[i];
	return NULL;
}

const char *
mfs_tier_name(enum mfs_tier t)
{
	return t == MFS_TIER_RESIDENT ? "resident" : "paged";
}

const char *
mfs_time_text(char out[40], int64_t seconds, bool people)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (seconds == 0 || gmtime_r(&t, &tm) == NULL ||
		strftime(out, 40, people ? "%Y-%m-%d %H:%M:%S UTC" : "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		out[0] = '\0';
	return out;
}

static bool
by_hand(const struct mfs_facts_model *m)
{
	return m->conf->repo < 0;
}

enum mfs_step
mfs_facts_step(const struct mfs_facts_model *m)
{
	if (m->m.update.step != MFS_STEP_IDLE)
		return m->m.update.step;
	return mfs_sha256_is_zero(&m->m.update.observation.v.manifest) ? MFS_STEP_IDLE : MFS_STEP_OBSERVE;
}

/* Why no newer version comes; `first` goes before it. Empty when there is nothing to say. */
static const char *
waiting(const struct mfs_facts_model *m, const char *first, char out[512])
{
	const struct mfs_engine_update *u = &m->m.update;
	const char *sep = first != NULL ? "; " : "";

	out[0] = '\0';
	if (first == NULL)
		first = "";
	if (by_hand(m))
		(void)snprintf(out, 512, "%s%s", first, first[0] != '\0' ? "; run 'modelfs install BUNDLE'" : "");
	else if (u->step != MFS_STEP_IDLE && u->why != MFS_OK)
		(void)snprintf(out, 512, "%s%s%s of %s waits: %s: %s", first, sep, mfs_step_name(u->step), u->v.version,
			mfs_code_name(u->why), u->detail);
	else if (u->step != MFS_STEP_IDLE)
		(void)snprintf(out, 512, "%s", first);
	else if (m->repo.why != MFS_OK)
		(void)snprintf(out, 512, "%s%sthe last check failed: %s: %s", first, sep, mfs_code_name(m->repo.why),
			m->repo.detail);
	else if (m->updates.offered && m->updates.offer != MFS_OK && m->updates.offer != MFS_NOT_SELECTED)
		(void)snprintf(out, 512, "%s%snot taken: %s: %s", first, sep, mfs_code_name(m->updates.offer),
			m->updates.offer_detail);
	else if (u->why != MFS_OK && u->v.version[0] != '\0' && u->why != MFS_NOT_SELECTED)
		(void)snprintf(out, 512, "%s%s%s was not taken: %s: %s", first, sep, u->v.version, mfs_code_name(u->why),
			u->detail);
	else if (m->updates.offered && !m->updates.current && m->updates.offer != MFS_OK)
		(void)snprintf(out, 512, "%s%s%s", first, sep, m->updates.offer_detail);
	else
		(void)snprintf(out, 512, "%s", first);
	return out;
}

const char *
mfs_facts_idle(const struct mfs_facts_host *h, const struct mfs_facts_model *m, char out[512])
{
	const struct mfs_engine_version *a = mfs_facts_active(m);

	out[0] = '\0';
	if (h->protection == NULL)
		(void)snprintf(out, 512, "nothing was ever installed here; run 'modelfs %s'", by_hand(m) ? "install BUNDLE" : "update");
	else if (a == NULL && m->m.absent != MFS_OK)
		(void)snprintf(out, 512, "%s: %s", mfs_code_name(m->m.absent), m->m.absent_detail);
	else if (a == NULL)
		waiting(m, "no version is installed", out);
	else if (a->v->key_code != MFS_OK)
		(void)snprintf(out, 512, "%s: its content cannot be opened: %s; see 'modelfs explain %s'", mfs_code_name(a->v->key_code),
			a->v->key_why != NULL ? a->v->key_why : "no content key", m->conf->id);
	else if (m->m.held)
		(void)snprintf(out, 512, "held by a rollback; run 'modelfs unpin %s' to let it go on", m->conf->id);
	else if (m->m.update.pin[0] != '\0')
		(void)snprintf(out, 512, "pinned to %s; run 'modelfs unpin %s' to let it go on", m->m.update.pin, m->conf->id);
	else if (waiting(m, NULL, out)[0] != '\0')
		return out;
	else if (m->has_residency && m->residency.code != MFS_OK)
		(void)snprintf(out, 512, "paged, because: %s", m->residency.why);
	return out;
}

static void
serving_line(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	const struct mfs_engine_version *a = mfs_facts_active(m);
	char since[40];

	if (a == NULL) {
		fprintf(f, "nothing");
		return;
	}
	fprintf(f, "%s (release %" PRId64 ", %s)", a->v->m->version, a->v->m->release, a->v->m->variant);
	if (m->m.active_since != 0)
		fprintf(f, " since %s", mfs_time_text(since, m->m.active_since, true));
	if (h->mounted)
		fprintf(f, ", %s", mfs_tier_name(m->tier));
	if (m->has_residency && m->residency.filling && m->residency.total > 0)
		fprintf(f, " (filling memory: %" PRIu64 " %%)", m->residency.done * 100 / m->residency.total);
}

static void
last_line(FILE *f, const struct mfs_facts_model *m)
{
	char when[40];

	if (m->m.last_outcome_time == 0) {
		fprintf(f, "nothing happened yet");
		return;
	}
	fprintf(f, "%s at %s", mfs_code_name(m->m.last_outcome), mfs_time_text(when, m->m.last_outcome_time, true));
	if (m->m.last_detail[0] != '\0')
		fprintf(f, ": %s", m->m.last_detail);
}

/* Next version and how far. */
static void
next_line(FILE *f, const struct mfs_facts_model *m)
{
	const struct mfs_engine_update *u = &m->m.update;
	const struct mfs_cycle_observation *o = &u->observation;

	if (u->step != MFS_STEP_IDLE) {
		fprintf(f, "%s, %s", u->v.version, mfs_step_name(u->step));
		if (m->updates.total > 0)
			fprintf(f, " %.0f %%", (double)m->updates.done * 100 / (double)m->updates.total);
		if (m->updates.rate > 0)
			fprintf(f, ", %.1f MiB/s", (double)m->updates.rate / (1 << 20));
		if (m->updates.wait_s > 0)
			fprintf(f, ", tried again in %" PRId64 " s", m->updates.wait_s);
		return;
	}
	if (!mfs_sha256_is_zero(&o->v.manifest))
		fprintf(f, "%s is observed: %" PRId64 " of %" PRId64 " s", o->v.version, o->seconds, o->total);
	else
		fprintf(f, "none known");
}

static void
updates_line(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	char when[40];

	if (by_hand(m)) {
		fprintf(f, "by hand (no repository configured)");
		return;
	}
	fprintf(f, "from %s", h->config->repos[m->conf->repo].name);
	if (m->repo.last_success == 0)
		fprintf(f, ", never checked %s", m->repo.last_check == 0 ? "yet" : "with success");
	else
		fprintf(f, ", checked %s", mfs_time_text(when, m->repo.last_success, true));
	if (!h->mounted)
		fprintf(f, ", next when mounted");
	else if (m->repo.next_check > h->now)
		fprintf(f, ", next %s", mfs_time_text(when, m->repo.next_check, true));
	else
		fprintf(f, ", next now");
	if (m->expired)
		fprintf(f, "; metadata expired %s: nothing new is activated", mfs_time_text(when, m->repo.fresh_until, true));
}

bool
mfs_facts_expired(const struct mfs_engine_repo *repo, int64_t now)
{
	return repo->fresh_until != 0 && repo->fresh_until <= now;
}

/* What was installed by hand may be signed and old: only fresh metadata says that nothing newer forbids it. */
static const char *
unproven(const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	if (h->protection == NULL || mfs_facts_active(m) == NULL)
		return "";
	if (m->conf->repo < 0)
		return "; freshness unproven: no repository";
	/* Nor does metadata that was fresh once, when the network then falls silent. */
	return m->repo.last_success == 0 || m->repo.why == MFS_METADATA_EXPIRED || m->expired ?
		"; freshness unproven: no fresh metadata of its repository" : "";
}

/* The note of a model that waits for nothing. */
static const char *
at_ease(const struct mfs_facts_model *m)
{
	switch (mfs_facts_step(m)) {
	case MFS_STEP_IDLE: return "nothing to do";
	case MFS_STEP_OBSERVE: return "committed when its observation is over";
	default: return "its update is under way";
	}
}

/* Who keeps two versions has to know when it is one. */
static void
gone_text(FILE *f, const char *before, const struct mfs_engine_gone *g)
{
	if (g->version[0] != '\0')
		fprintf(f, "%s%s is %s: %s: %s", before, g->version, mfs_kept_lost(g->why) ? "gone" : "refused", mfs_code_name(g->why), g->detail);
}

void
mfs_text_model(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	const struct mfs_engine_version *p = mfs_facts_previous(m);
	char idle[512];

	fprintf(f, "model:      %s%s\n", m->conf->id, h->mounted ? "" : " (not mounted)");
	fprintf(f, "serving:    ");
	serving_line(f, h, m);
	fprintf(f, "\nnext:       ");
	next_line(f, m);
	fprintf(f, "\nupdates:    ");
	updates_line(f, h, m);
	fprintf(f, "\nlast:       ");
	last_line(f, m);
	(void)mfs_facts_idle(h, m, idle);
	fprintf(f, "\nnote:       %s\n", idle[0] != '\0' ? idle : at_ease(m));
	fprintf(f, "rollback:   %s%s", p != NULL ? "to " : "nothing to go back to", p != NULL ? p->v->m->version : "");
	gone_text(f, "; ", &m->m.gone);
	fprintf(f, "\n");
	fprintf(f, "protection: %s%s\n", h->protection != NULL ? h->protection : "no state yet", unproven(h, m));
}

/* Once for each repository, by the first model that follows it. */
static void
repo_line(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n, size_t repo)
{
	for (size_t i = 0; i < n; i++)
		if (m[i].conf->repo == (ssize_t)repo) {
			fprintf(f, "updates: ");
			updates_line(f, h, &m[i]);
			if (m[i].repo.why != MFS_OK)
				fprintf(f, "; last: %s: %s", mfs_code_name(m[i].repo.why), m[i].repo.detail);
			fprintf(f, "\n");
			return;
		}
}

static void
sandbox_line(FILE *f, const char *who, const struct mfs_sandbox_report *r)
{
	if (r->uid && r->no_new_privs && r->seccomp && r->landlock)
		return;
	fprintf(f, "sandbox: of %s weaker than it should be: without%s%s%s%s; see 'modelfs doctor'\n", who,
		r->uid ? "" : " uid", r->no_new_privs ? "" : " no_new_privs", r->seccomp ? "" : " seccomp",
		r->landlock ? "" : " Landlock");
}

/* Nothing while all is well. */
static void
state_line(FILE *f, const struct mfs_facts_host *h)
{
	const struct mfs_engine_state *s = &h->state;

	if (s->unwritten[0] != '\0')
		fprintf(f, "state: a revocation acts from memory alone: %s\n", s->unwritten);
	if (s->full)
		fprintf(f, "state: the disk that holds %s is full: %" PRIu64 " of %" PRIu64 " KiB of the reserve are left; nothing new is "
			"activated; make room there\n", MFS_ESC(h->config->state), s->reserve >> 10, s->want >> 10);
}

/* The same. */
static void
telemetry_line(FILE *f, const struct mfs_facts_host *h)
{
	const struct mfs_telemetry_counts *t = &h->telemetry;
	char when[40];

	if (t->failing_since == 0)
		return;
	fprintf(f, "telemetry: nothing is delivered since %s, %" PRIu64 " record%s wait%s", mfs_time_text(when, t->failing_since, true),
		t->queued, t->queued == 1 ? "" : "s", t->queued == 1 ? "s" : "");
	if (t->why != MFS_OK)
		fprintf(f, ": %s: %s", mfs_code_name(t->why), t->detail);
	fprintf(f, "\n");
}

void
mfs_text_all(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n)
{
	char when[40], idle[512];

	fprintf(f, "modelfs %s: ", PACKAGE_VERSION);
	if (h->mounted)
		fprintf(f, "%s mounted since %s, serve is %d, restarted %u times\n", h->config->mount,
			mfs_time_text(when, h->mounted_at, true), h->serve_pid, h->restarts);
	else
		fprintf(f, "not mounted\n");
	if (h->mounted)
		sandbox_line(f, "serve", &h->sandbox);
	if (h->mounted && h->has_fetch_sandbox)
		sandbox_line(f, "fetch", &h->fetch_sandbox);
	if (h->mounted)
		state_line(f, h);
	telemetry_line(f, h);
	if (h->chunk_failures != 0)
		fprintf(f, "store: %" PRIu64 " chunks did not verify and were refused; run 'modelfs verify'\n",
			h->chunk_failures);
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "%s: serving ", m[i].conf->id);
		serving_line(f, h, &m[i]);
		fprintf(f, "\n%s: last ", m[i].conf->id);
		last_line(f, &m[i]);
		if (mfs_facts_step(&m[i]) != MFS_STEP_IDLE) {
			fprintf(f, "\n%s: next ", m[i].conf->id);
			next_line(f, &m[i]);
		}
		if (mfs_facts_idle(h, &m[i], idle)[0] != '\0')
			fprintf(f, "\n%s: %s", m[i].conf->id, idle);
		if (m[i].m.gone.version[0] != '\0') {
			fprintf(f, "\n%s: rollback: ", m[i].conf->id);
			gone_text(f, "", &m[i].m.gone);
		}
		fprintf(f, "\n");
	}
	if (n == 0)
		fprintf(f, "no model is configured\n");
	if (h->config->n_repos == 0)
		fprintf(f, "updates: by hand (no repository configured)\n");
	for (size_t r = 0; r < h->config->n_repos; r++)
		repo_line(f, h, m, n, r);
	fprintf(f, "protection: %s\n", h->protection != NULL ? h->protection : "no state yet");
}
