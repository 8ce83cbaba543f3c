/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - outcomes and the error object.
 *
 * One append-only table gives every outcome its number, name, class and errno. Logs,
 * status, events, telemetry and commands all speak of outcomes by these; numbers are
 * never changed or reused. See modelfs(8), OUTCOMES.
 */
#ifndef MFS_ERROR_H
#define MFS_ERROR_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum mfs_class {
	MFS_CLASS_NONE,    /* no failure */
	MFS_CLASS_TRUST,   /* refuse, alert: an attack or a broken publisher */
	MFS_CLASS_POLICY,  /* refuse, keep current */
	MFS_CLASS_STALE,   /* no new activation, retry */
	MFS_CLASS_LOCAL,   /* keep current, retry */
	MFS_CLASS_NETWORK, /* back off, never seen by a read */
	MFS_CLASS_BUG,
};

/* X(symbol, number, name, class, errno given to a reader or caller of the mount) */
#define MFS_OUTCOMES(X)                                                                      \
	X(OK, 0, "ok", NONE, 0)                                                              \
	X(METADATA_SIGNATURE_INVALID, 10, "metadata_signature_invalid", TRUST, EBADMSG)      \
	X(SIGNATURE_INVALID, 11, "signature_invalid", TRUST, EBADMSG)                        \
	X(HASH_MISMATCH, 12, "hash_mismatch", TRUST, EIO)                                    \
	X(DECRYPT_FAILED, 13, "decrypt_failed", TRUST, EIO)                                  \
	X(MALFORMED, 14, "malformed", TRUST, EBADMSG)                                        \
	X(LIMIT_EXCEEDED, 15, "limit_exceeded", TRUST, EBADMSG)                              \
	X(ROLLBACK_ATTEMPT, 16, "rollback_attempt", TRUST, EBADMSG)                          \
	X(METADATA_EXPIRED, 17, "metadata_expired", STALE, ESTALE)                           \
	X(KEY_UNTRUSTED, 18, "key_untrusted", TRUST, EBADMSG)                                \
	X(STATE_REPLAYED, 19, "state_replayed", TRUST, EBADMSG)                              \
	X(INCOMPATIBLE_SCHEMA, 20, "incompatible_schema", POLICY, EPERM)                     \
	X(INCOMPATIBLE_RUNTIME, 21, "incompatible_runtime", POLICY, EPERM)                   \
	X(POLICY_REJECTED, 22, "policy_rejected", POLICY, EPERM)                             \
	X(REVOKED, 23, "revoked", POLICY, ESTALE)                                            \
	X(KNOWN_BAD, 24, "known_bad", POLICY, EPERM)                                         \
	X(NOT_SELECTED, 25, "not_selected", POLICY, EPERM)                                   \
	X(PINNED, 26, "pinned", POLICY, EPERM)                                               \
	X(HELD, 27, "held", POLICY, EPERM)                                                   \
	X(INSUFFICIENT_STORAGE, 30, "insufficient_storage", LOCAL, ENOSPC)                   \
	X(NO_MEMORY, 31, "no_memory", LOCAL, ENOMEM)                                         \
	X(IO, 32, "io", LOCAL, EIO)                                                          \
	X(HEALTH_CHECK_FAILED, 33, "health_check_failed", LOCAL, EPERM)                      \
	X(ROLLBACK_TRIGGERED, 34, "rollback_triggered", LOCAL, ESTALE)                       \
	X(KEY_UNAVAILABLE, 35, "key_unavailable", LOCAL, EACCES)                             \
	X(CONDITION_UNMET, 36, "condition_unmet", LOCAL, EAGAIN)                             \
	X(RATE_LIMITED, 37, "rate_limited", LOCAL, EAGAIN)                                   \
	X(CONFIG_INVALID, 38, "config_invalid", LOCAL, EINVAL)                               \
	X(CLOCK_UNSET, 39, "clock_unset", STALE, EAGAIN)                                     \
	X(NET_RESOLVE, 40, "net_resolve", NETWORK, EIO)                                      \
	X(NET_TLS, 41, "net_tls", NETWORK, EIO)                                              \
	X(NET_HTTP, 42, "net_http", NETWORK, EIO)                                            \
	X(NET_TIMEOUT, 43, "net_timeout", NETWORK, ETIMEDOUT)                                \
	X(NET_PROTOCOL, 44, "net_protocol", NETWORK, EPROTO)                                 \
	X(NET_PORTAL, 45, "net_portal", NETWORK, EIO)                                        \
	X(COUNTER_UNAVAILABLE, 46, "counter_unavailable", LOCAL, EIO)                        \
	X(INTERNAL, 90, "internal", BUG, EIO)

enum mfs_code {
#define MFS_OUTCOME_ENUM(sym, num, name, cls, err) MFS_##sym = num,
	MFS_OUTCOMES(MFS_OUTCOME_ENUM)
#undef MFS_OUTCOME_ENUM
};

/* Exit codes of every command (interface: never 0 unless it happened). */
enum mfs_exit {
	MFS_EXIT_DONE = 0,
	MFS_EXIT_FAILED = 1,
	MFS_EXIT_NOTHING = 2, /* nothing to do */
	MFS_EXIT_REFUSED = 3, /* by trust or policy: do not retry */
	MFS_EXIT_RETRY = 4,   /* retry later */
	MFS_EXIT_NO_SPACE = 5,
	MFS_EXIT_USAGE = 64,
};

/* Lives on the caller's stack, so that reporting "no memory" needs none. */
struct mfs_err {
	enum mfs_code code;
	int sys_errno; /* 0 unless a system call failed */
	char msg[512]; /* one line: what, where, what to do; untrusted text escaped */
};

#define MFS_ERR_INIT { MFS_OK, 0, { 0 } }

/* Fill *err (may be NULL) and return code, so that `return mfs_fail(...)` reads as one step. */
enum mfs_code mfs_fail(struct mfs_err *err, enum mfs_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same for a failed system call: keeps errno and appends its text. ENOSPC and EDQUOT turn
 * code MFS_IO into MFS_INSUFFICIENT_STORAGE, ENOMEM into MFS_NO_MEMORY.
 */
enum mfs_code mfs_fail_sys(struct mfs_err *err, enum mfs_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Prefix the message with a context ("model det: "), unless it begins with that; returns err->code. */
enum mfs_code mfs_err_context(struct mfs_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Append a next step ("; run 'modelfs recover'"); returns err->code. */
enum mfs_code mfs_err_hint(struct mfs_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* What an analyzer cannot see from a declaration: these never return MFS_OK. */
#if defined(__clang_analyzer__) && !defined(MFS_ERROR_IMPLEMENTATION)
#define MFS_NOT_OK(call)                                                                     \
	__extension__({                                                                      \
		enum mfs_code not_ok_ = (call);                                              \
		if (not_ok_ == MFS_OK)                                                       \
			__builtin_unreachable();                                             \
		not_ok_;                                                                     \
	})
#define mfs_fail(...)        MFS_NOT_OK(mfs_fail(__VA_ARGS__))
#define mfs_fail_sys(...)    MFS_NOT_OK(mfs_fail_sys(__VA_ARGS__))
#define mfs_err_context(...) MFS_NOT_OK(mfs_err_context(__VA_ARGS__))
#define mfs_err_hint(...)    MFS_NOT_OK(mfs_err_hint(__VA_ARGS__))
#endif

const char *mfs_code_name(enum mfs_code code);  /* "hash_mismatch"; "internal" if unknown */
enum mfs_class mfs_code_class(enum mfs_code code);
const char *mfs_class_name(enum mfs_class cls); /* "trust" */
int mfs_code_errno(enum mfs_code code);         /* positive errno, 0 for MFS_OK */
enum mfs_exit mfs_code_exit(enum mfs_code code);
bool mfs_code_from_name(const char *name, enum mfs_code *out);

/*
 * Copy untrusted text into out for printing: bytes outside 0x20..0x7e, backslash and quotes
 * become \xNN; cut with "..." when it does not fit. Always terminates. Returns out.
 */
const char *mfs_escape(char *out, size_t cap, const char *in, size_t len);

static inline size_t
mfs_esc_len(const char *s)
{
	return s != NULL ? __builtin_strlen(s) : 0;
}

/* printf("%s", MFS_ESC(name)): a short-lived escaped copy valid until the end of the block. */
#define MFS_ESC(s) mfs_escape((char[160]){ 0 }, 160, (s), mfs_esc_len(s))

#endif
