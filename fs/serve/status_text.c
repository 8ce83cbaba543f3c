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

const char *
mfs_facts_idle(const struct mfs_facts_host *h, const struct mfs_facts_model *m, char out[512])
{
	const struct mfs_engine_version *a = mfs_facts_active(m);

	out[0] = '\0';
	if (h->protection == NULL)
		(void)snprintf(out, 512, "nothing was ever installed here; run 'modelfs install BUNDLE'");
	else if (a == NULL && m->m.absent != MFS_OK)
		(void)snprintf(out, 512, "%s: %s", mfs_code_name(m->m.absent), m->m.absent_detail);
	else if (a == NULL)
		(void)snprintf(out, 512, "no version is installed; run 'modelfs install BUNDLE'");
	else if (a->v->key_code != MFS_OK)
		(void)snprintf(out, 512, "%s: its content cannot be opened; see 'modelfs keys show'",
			mfs_code_name(a->v->key_code));
	else if (m->m.held)
		(void)snprintf(out, 512, "held by a rollback or pin; run 'modelfs unpin %s' to let it go on", m->conf->id);
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

void
mfs_text_model(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	const struct mfs_engine_version *p = mfs_facts_previous(m);
	char idle[512];

	fprintf(f, "model:      %s%s\n", m->conf->id, h->mounted ? "" : " (not mounted)");
	fprintf(f, "serving:    ");
	serving_line(f, h, m);
	fprintf(f, "\nnext:       none known\n");
	fprintf(f, "updates:    by hand (no repository configured)\n");
	fprintf(f, "last:       ");
	last_line(f, m);
	(void)mfs_facts_idle(h, m, idle);
	fprintf(f, "\nnote:       %s\n", idle[0] != '\0' ? idle : "nothing to do");
	fprintf(f, "rollback:   %s%s\n", p != NULL ? "to " : "nothing to go back to", p != NULL ? p->v->m->version : "");
	fprintf(f, "protection: %s\n", h->protection != NULL ? h->protection : "no state yet");
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
	if (h->mounted && !(h->sandbox.uid && h->sandbox.no_new_privs && h->sandbox.seccomp && h->sandbox.landlock))
		fprintf(f, "sandbox: weaker than it should be:%s%s%s%s; see 'modelfs doctor'\n", h->sandbox.uid ? "" : " uid",
			h->sandbox.no_new_privs ? "" : " no_new_privs", h->sandbox.seccomp ? "" : " seccomp",
			h->sandbox.landlock ? "" : " Landlock");
	if (h->chunk_failures != 0)
		fprintf(f, "store: %" PRIu64 " chunks did not verify and were refused; run 'modelfs verify'\n",
			h->chunk_failures);
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "%s: serving ", m[i].conf->id);
		serving_line(f, h, &m[i]);
		fprintf(f, "\n%s: last ", m[i].conf->id);
		last_line(f, &m[i]);
		if (mfs_facts_idle(h, &m[i], idle)[0] != '\0')
			fprintf(f, "\n%s: %s", m[i].conf->id, idle);
		fprintf(f, "\n");
	}
	if (n == 0)
		fprintf(f, "no model is configured\n");
	fprintf(f, "updates: by hand (no repository configured)\n");
	fprintf(f, "protection: %s\n", h->protection != NULL ? h->protection : "no state yet");
}
