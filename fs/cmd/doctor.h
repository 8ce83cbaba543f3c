/* SPDX-License-Identifier: Apache-2.0 */
/* doctor.h - shared by cmd_doctor.c, doctor_host.c and doctor_modelfs.c. */
#ifndef MFS_DOCTOR_H
#define MFS_DOCTOR_H

#include "cmd_common.h"

enum mfs_finding { MFS_FINE, MFS_WEAK, MFS_BROKEN };

struct mfs_doctor {
	json_t *checks;   /* [{level, what, why, fix}] */
	unsigned counts[3];
	bool root;
	bool mounted;
	json_t *status;   /* status.json of serve; NULL when not mounted */
};

/* why: what was found and what it costs; fix: what to do, NULL when all is well. */
void mfs_doctor_say(struct mfs_doctor *d, enum mfs_finding level, const char *what, const char *fix, const char *why, ...)
	__attribute__((format(printf, 5, 6)));

/* The machine: kernel, memory, clock, confinement. release: of uname(2) ("6.1.0-18-amd64"). */
void mfs_doctor_kernel(struct mfs_doctor *d, const char *release);
void mfs_doctor_host(struct mfs_doctor *d);
/* This instance: folders, keys, socket, mountpoint. */
void mfs_doctor_instance(struct mfs_doctor *d, struct mfs_cmd_env *env);

/* The user of fetch: what it costs if the host has no name for it. Pure. */
void mfs_doctor_fetch_user(struct mfs_doctor *d, const struct mfs_config *c, uid_t uid, bool named);
/* What the running serve says of itself: d->status. Pure. */
void mfs_doctor_served(struct mfs_doctor *d, const struct mfs_config *c);

/* One line a finding, or one JSON document; returns the exit code (1 when something is broken). Pure. */
int mfs_doctor_print(const struct mfs_doctor *d, bool json, FILE *out);

#endif
