/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_facts.h - what status documents are made from. Gathering (status.c) and rendering
 * (status_text.c, status_json.c, metrics.c) are apart: rendering is pure.
 */
#ifndef MFS_STATUS_FACTS_H
#define MFS_STATUS_FACTS_H

#include <jansson.h>
#include <stdio.h>

#include "engine.h"
#include "residency.h"
#include "sandbox.h"
#include "telemetry.h"
#include "update.h"

struct mfs_facts_model {
	const struct mfs_config_model *conf;
	struct mfs_engine_model m; /* zero when there is no state yet */
	enum mfs_tier tier;        /* of the active version */
	bool has_residency;
	struct mfs_residency_facts residency;
	bool has_updates;          /* the update threads run here */
	struct mfs_update_facts updates; /* also what a check before the last start found (mfs_update_recalled) */
	struct mfs_engine_repo repo; /* of conf->repo, as its last check left it; zero without */
	bool expired;              /* what is stored of its metadata has expired by now, whoever was asked since */
};

struct mfs_facts_host {
	const struct mfs_config *config;
	const char *protection; /* of the trusted state; NULL: no state yet */
	const char *kind;       /* "file", "tpm" */
	bool mounted;
	int64_t mounted_at;     /* seconds since the epoch */
	int64_t now;
	int serve_pid, keeper_pid;
	unsigned restarts;
	uint64_t taken_over, chunk_failures, chunk_repairs;
	bool passthrough, noswap, resend, rootless;
	unsigned read_ahead_kb;
	struct mfs_sandbox_report sandbox;
	struct mfs_sandbox_report fetch_sandbox; /* without landlock_abi */
	bool has_fetch_sandbox; /* a fetch has come up */
	uint64_t store_bytes, resident_bytes;
	bool has_store_bytes;
	struct mfs_engine_state state; /* room for trusted state; zero when not mounted */
	bool has_telemetry;
	struct mfs_telemetry_counts telemetry;
};

/* Rendering. model NULL and n 0 are fine. The JSON object is a new reference, NULL without memory. */
void mfs_text_model(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m);
void mfs_text_all(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n);
json_t *mfs_json_model(const struct mfs_facts_host *h, const struct mfs_facts_model *m, bool versions);
json_t *mfs_json_host(const struct mfs_facts_host *h);
void mfs_metrics_updates(FILE *f, const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n);
void mfs_metrics_models(FILE *f, const struct mfs_facts_model *m, size_t n);
void mfs_metrics_host(FILE *f, const struct mfs_facts_host *h);
void mfs_metrics_outcomes(FILE *f, struct mfs_events *e);

/*
 * A document of kind *_TEXT or *_JSON from facts: of m[0] alone for the MODEL kinds, of all n for
 * the ALL kinds. Lists of versions are left out where the document would exceed cap bytes.
 */
enum mfs_code mfs_facts_document(const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n,
	bool one, bool json, size_t cap, char **out, size_t *len, struct mfs_err *err);

/* The active version of a model; NULL without. */
const struct mfs_engine_version *mfs_facts_active(const struct mfs_facts_model *m);
const struct mfs_engine_version *mfs_facts_previous(const struct mfs_facts_model *m);
const char *mfs_tier_name(enum mfs_tier t); /* "paged", "resident" */
/* RFC 3339 in UTC, "2026-11-21T00:41:07Z"; "" for 0. people: "2026-11-21 00:41:07 UTC". */
const char *mfs_time_text(char out[40], int64_t seconds, bool people);
/* Has what is stored of the repository's metadata expired at `now`? false also when nothing is known of it. */
bool mfs_facts_expired(const struct mfs_engine_repo *repo, int64_t now);
/* Where its update stands: "download 1.1.0"; the step of the cycle for metrics, observation included. */
enum mfs_step mfs_facts_step(const struct mfs_facts_model *m);
/* Why a model serves nothing, or does nothing; "" when there is nothing to say. */
const char *mfs_facts_idle(const struct mfs_facts_host *h, const struct mfs_facts_model *m, char out[512]);

#endif
