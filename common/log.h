/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one event per line on stderr: "<N>modelfs[serve]: text". The "<N>" priority prefix is
 * written when stderr is not a terminal (journald and the run folder's log understand it).
 * Processes log; the verifier and libraries do not. Never payload, keys or query strings;
 * untrusted text goes through MFS_ESC.
 */
#ifndef MFS_LOG_H
#define MFS_LOG_H

#include "error.h"

enum mfs_level { MFS_LOG_ERR = 3, MFS_LOG_WARN = 4, MFS_LOG_NOTICE = 5, MFS_LOG_INFO = 6, MFS_LOG_DEBUG = 7 };

/* name of this process in the lines ("keeper", "serve"); borrowed. */
void mfs_log_open(const char *process, enum mfs_level max);
void mfs_log(enum mfs_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "what: outcome: message" at the level of the outcome's class. */
void mfs_log_err(const char *what, const struct mfs_err *err);

#endif
