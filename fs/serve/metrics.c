/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - /models/.modelfs/metrics.prom in the Prometheus text format. */
#include <inttypes.h>

#include "status_facts.h"

static void
head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped as the format asks. */
static void
label(FILE *f, const char *name, const char *value, bool first)
{
	fprintf(f, "%s%s=\"", first ? "" : ",", name);
	for (const char *p = value; *p != '\0'; p++)
		if (*p == '\n')
			fputs("\\n", f);
		else if (*p == '\\' || *p == '"')
			fprintf(f, "\\%c", *p);
		else
			fputc(*p, f);
	fputc('"', f);
}

void
mfs_metrics_models(FILE *f, const struct mfs_facts_model *m, size_t n)
{
	head(f, "modelfs_model_info", "gauge", "The version of each model that is served.");
	for (size_t i = 0; i < n; i++) {
		const struct mfs_engine_version *a = mfs_facts_active(&m[i]);
		char release[24];

		if (a == NULL)
			continue;
		(void)snprintf(release, sizeof(release), "%" PRId64, a->v->m->release);
		fputs("modelfs_model_info{", f);
		label(f, "model", m[i].conf->id, true);
		label(f, "version", a->v->m->version, false);
		label(f, "release", release, false);
		label(f, "variant", a->v->m->variant, false);
		label(f, "tier", mfs_tier_name(m[i].tier), false);
		fputs("} 1\n", f);
	}
}

void
mfs_metrics_updates(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n)
{
	head(f, "modelfs_cycle_state", "gauge", "1 for where the update of each model stands.");
	for (size_t i = 0; i < n; i++) {
		fputs("modelfs_cycle_state{", f);
		label(f, "model", m[i].conf->id, true);
		label(f, "state", mfs_step_name(mfs_facts_step(&m[i])), false);
		fputs("} 1\n", f);
	}
	if (h->config->n_repos == 0)
		return;
	head(f, "modelfs_last_check_success_timestamp_seconds", "gauge", "When the repository of each model was last checked.");
	for (size_t i = 0; i < n; i++) {
		if (m[i].conf->repo < 0)
			continue;
		fputs("modelfs_last_check_success_timestamp_seconds{", f);
		label(f, "model", m[i].conf->id, true);
		fprintf(f, "} %" PRId64 "\n", m[i].repo.last_success);
	}
	head(f, "modelfs_cycle_failures", "gauge", "Failures in a row of the update under way.");
	for (size_t i = 0; i < n; i++) {
		fputs("modelfs_cycle_failures{", f);
		label(f, "model", m[i].conf->id, true);
		fprintf(f, "} %u\n", m[i].m.update.failures);
	}
}

void
mfs_metrics_host(FILE *f, const struct mfs_facts_host *h)
{
	head(f, "modelfs_serve_restarts_total", "counter", "Times the serving process was started anew after it died.");
	fprintf(f, "modelfs_serve_restarts_total %u\n", h->restarts);
	head(f, "modelfs_chunk_repairs_total", "counter", "Damaged chunks that were fetched again and written back.");
	fprintf(f, "modelfs_chunk_repairs_total %" PRIu64 "\n", h->chunk_repairs);
	if (h->has_store_bytes) {
		head(f, "modelfs_store_bytes", "gauge", "Bytes that blobs take on disk.");
		fprintf(f, "modelfs_store_bytes %" PRIu64 "\n", h->store_bytes);
	}
	head(f, "modelfs_resident_bytes", "gauge", "Bytes of decrypted models held in memory.");
	fprintf(f, "modelfs_resident_bytes %" PRIu64 "\n", h->resident_bytes);
	head(f, "modelfs_rollback_protection", "gauge", "1 for the kind of counter that the trusted state is bound to.");
	fputs("modelfs_rollback_protection{", f);
	label(f, "kind", h->kind, true);
	fputs("} 1\n", f);
}

static void
outcome(void *user, const char *model, enum mfs_code code, const char *source, uint64_t n)
{
	FILE *f = user;

	fputs("modelfs_outcomes_total{", f);
	label(f, "model", model, true);
	label(f, "outcome", mfs_code_name(code), false);
	label(f, "class", mfs_class_name(mfs_code_class(code)), false);
	label(f, "source", source, false);
	fprintf(f, "} %" PRIu64 "\n", n);
}

void
mfs_metrics_outcomes(FILE *f, struct mfs_events *e)
{
	head(f, "modelfs_outcomes_total", "counter", "What happened since the serving process started.");
	mfs_events_totals(e, outcome, f);
}
