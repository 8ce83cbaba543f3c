/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health.h - is this version fit to be served? Built-in checks of the formats, then the configured
 * command, then the test vectors of the manifest. modelfs(8), HEALTH CHECKS.
 */
#ifndef MFS_HEALTH_H
#define MFS_HEALTH_H

#include "jobs.h"
#include "version.h"

struct mfs_serve;

/*
 * The whole check of one version of model i, as cycle and commands want it: built-in checks; with a
 * configured command the version is shown as `candidate` (mfs_view_candidate_set) for as long as the
 * command runs, unless it is shown already; its output is compared with the test vectors.
 *
 * reason  CANDIDATE or PROBATION
 * cancel  may be NULL; polled
 * returns OK
 * errors  HEALTH_CHECK_FAILED: the verdict about these bytes; it condemns the manifest, and the message
 *         says file and offset, or what the command said.
 *         CONDITION_UNMET: the command asked to try later (exit 75), or cancelled: no blame.
 *         Everything else (IO, KEY_UNAVAILABLE, HASH_MISMATCH, NO_MEMORY, CONFIG_INVALID, ...) is
 *         trouble of this host: repair and repeat, never condemn.
 * threads the cycle's worker; one at a time per model. Holds no lock while it waits.
 */
enum mfs_code mfs_health_check(struct mfs_serve *s, size_t i, struct mfs_version *v, enum mfs_job_reason reason,
	const _Atomic int *cancel, struct mfs_err *err);

/*
 * Only the built-in checks: every file whose `media` is gguf, onnx, safetensors or tflite parses and lies
 * within its file, and its float tensors hold no NaN or infinity. Reads through mfs_content.
 *
 * errors  HEALTH_CHECK_FAILED with file and offset; IO, HASH_MISMATCH, DECRYPT_FAILED, KEY_UNAVAILABLE,
 *         NO_MEMORY: no verdict; CONDITION_UNMET when cancelled
 * threads any
 */
enum mfs_code mfs_health_builtin(struct mfs_version *v, const _Atomic int *cancel, struct mfs_err *err);

#endif
