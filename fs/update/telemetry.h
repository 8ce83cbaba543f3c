/* SPDX-License-Identifier: Apache-2.0 */
/*
 * telemetry.h - opt-in reports of how updates go (`telemetry` of modelfs.yaml(5)), for any OpenTelemetry
 * collector: OTLP/HTTP JSON logs.
 *
 * A record says which version made which transition, with which outcome and class of outcome, in which
 * hour, and all records together the configured device class. Nothing else leaves: no device or model id,
 * no path, message, input, output or content of a file, no exact time. Records are sampled at random,
 * sent in batches on a connection of their own without client certificate, and kept, at most
 * MFS_TELEMETRY_MAX of them, in state/telemetry until the collector took them; the oldest go first.
 *
 * Noting one takes a lock and no longer: disk and network belong to a thread of its own, which there is
 * only with telemetry configured. A dead collector is asked less and less often, and since when it is dead is kept.
 */
#ifndef MFS_TELEMETRY_H
#define MFS_TELEMETRY_H

#include "mfs_config.h"
#include "remote.h"

#define MFS_TELEMETRY_MAX   512u
#define MFS_TELEMETRY_BATCH 64u

enum mfs_transition {
	MFS_TRANSITION_DOWNLOADED,  /* or not: the outcome says why */
	MFS_TRANSITION_CHECKED,     /* health check, before activation or in probation */
	MFS_TRANSITION_ACTIVATED,
	MFS_TRANSITION_ROLLED_BACK, /* to this version */
	MFS_TRANSITION_WITHDRAWN,
	MFS_TRANSITION_REJECTED,
	MFS_TRANSITIONS,
};
const char *mfs_transition_name(enum mfs_transition t); /* "downloaded", ... */

struct mfs_telemetry;

/*
 * remote  borrowed; outlives it
 * out     NULL when telemetry is off: every call below takes that
 * errors  NO_MEMORY. A file of earlier records that cannot be read is none.
 */
enum mfs_code mfs_telemetry_new(const struct mfs_config *c, int state_dirfd, struct mfs_remote *remote,
	struct mfs_telemetry **out, struct mfs_err *err);
enum mfs_code mfs_telemetry_start(struct mfs_telemetry *t, struct mfs_err *err); /* the thread */
/* What is being sent ends; what was not is on disk. */
void mfs_telemetry_stop(struct mfs_telemetry *t);
void mfs_telemetry_free(struct mfs_telemetry *t);

/*
 * A transition happened. Threads any; never waits for anything.
 *
 * version  SemVer of a manifest, or NULL
 * now      seconds since the epoch; only its hour is kept
 */
void mfs_telemetry_note(struct mfs_telemetry *t, enum mfs_transition what, const char *version, enum mfs_code code,
	int64_t now);

/*
 * The body of the thread, once: write down what is new, send what is due. Returns ms until it wants to be
 * called again. For tests: `now_ms` is any monotonic clock.
 */
int64_t mfs_telemetry_turn(struct mfs_telemetry *t, int64_t now_ms);

struct mfs_telemetry_counts {
	uint64_t queued, sent, dropped; /* dropped: to make room, or refused by the collector */
	int64_t failing_since;          /* seconds since the epoch: the first failure after the last success; 0 none */
	enum mfs_code why;              /* of the last failure; OK: none since this start */
	char detail[200];
};
void mfs_telemetry_counts(struct mfs_telemetry *t, struct mfs_telemetry_counts *out);

#endif
