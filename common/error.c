/* SPDX-License-Identifier: Apache-2.0 */
#define MFS_ERROR_IMPLEMENTATION
#include "error.h"

#include <stdio.h>
#include <string.h>

struct outcome {
	enum mfs_code code;
	const char *name;
	enum mfs_class cls;
	int err;
};

static const struct outcome outcomes[] = {
#define ROW(sym, num, nm, c, e) { MFS_##sym, nm, MFS_CLASS_##c, e },
	MFS_OUTCOMES(ROW)
#undef ROW
};

static const struct outcome *
outcome_find(enum mfs_code code)
{
	const size_t n = sizeof(outcomes) / sizeof(outcomes[0]);

	for (size_t i = 0; i < n; i++)
		if (outcomes[i].code == code)
			return &outcomes[i];
	return &outcomes[n - 1]; /* internal */
}

const char *
mfs_code_name(enum mfs_code code)
{
	return outcome_find(code)->name;
}

enum mfs_class
mfs_code_class(enum mfs_code code)
{
	return outcome_find(code)->cls;
}

const char *
mfs_class_name(enum mfs_class cls)
{
	static const char *const names[] = { "none", "trust", "policy", "stale", "local", "network", "bug" };

	return (unsigned)cls < sizeof(names) / sizeof(names[0]) ? names[cls] : "bug";
}

int
mfs_code_errno(enum mfs_code code)
{
	return outcome_find(code)->err;
}

enum mfs_exit
mfs_code_exit(enum mfs_code code)
{
	if (code == MFS_OK)
		return MFS_EXIT_DONE;
	if (code == MFS_INSUFFICIENT_STORAGE)
		return MFS_EXIT_NO_SPACE;
	if (code == MFS_CONFIG_INVALID)
		return MFS_EXIT_FAILED;
	switch (mfs_code_class(code)) {
	case MFS_CLASS_TRUST:
	case MFS_CLASS_POLICY:
		return MFS_EXIT_REFUSED;
	case MFS_CLASS_STALE:
	case MFS_CLASS_NETWORK:
		return MFS_EXIT_RETRY;
	case MFS_CLASS_LOCAL:
		switch (code) {
		case MFS_NO_MEMORY:
		case MFS_KEY_UNAVAILABLE:
		case MFS_CONDITION_UNMET:
		case MFS_RATE_LIMITED:
		case MFS_COUNTER_UNAVAILABLE:
			return MFS_EXIT_RETRY;
		default:
			return MFS_EXIT_FAILED;
		}
	case MFS_CLASS_NONE:
	case MFS_CLASS_BUG:
		break;
	}
	return MFS_EXIT_FAILED;
}

bool
mfs_code_from_name(const char *name, enum mfs_code *out)
{
	for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
		if (strcmp(outcomes[i].name, name) == 0) {
			*out = outcomes[i].code;
			return true;
		}
	return false;
}

__attribute__((format(printf, 4, 0))) static void
err_set(struct mfs_err *err, enum mfs_code code, int sys_errno, const char *fmt, va_list ap)
{
	if (err == NULL)
		return;
	err->code = code;
	err->sys_errno = sys_errno;
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) < 0)
		err->msg[0] = '\0';
}

__attribute__((format(printf, 2, 3))) static void
err_append(struct mfs_err *err, const char *fmt, ...)
{
	size_t used = strlen(err->msg);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err->msg + used, sizeof(err->msg) - used, fmt, ap);
	va_end(ap);
}

enum mfs_code
mfs_fail(struct mfs_err *err, enum mfs_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_set(err, code, 0, fmt, ap);
	va_end(ap);
	return code;
}

enum mfs_code
mfs_fail_sys(struct mfs_err *err, enum mfs_code code, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (code == MFS_IO && (saved == ENOSPC || saved == EDQUOT))
		code = MFS_INSUFFICIENT_STORAGE;
	if (code == MFS_IO && saved == ENOMEM)
		code = MFS_NO_MEMORY;
	va_start(ap, fmt);
	err_set(err, code, saved, fmt, ap);
	va_end(ap);
	if (err != NULL) {
		char text[128];

		err_append(err, ": %s", strerror_r(saved, text, sizeof(text)));
	}
	errno = saved;
	return code;
}

enum mfs_code
mfs_err_context(struct mfs_err *err, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;

	if (err == NULL)
		return MFS_INTERNAL;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) < 0)
		err->msg[0] = '\0';
	va_end(ap);
	/* "b.yaml: b.yaml: No such file": what names it already is not named again. */
	if (strncmp(old, err->msg, strlen(err->msg)) == 0)
		err->msg[0] = '\0';
	err_append(err, "%s", old);
	return err->code;
}

enum mfs_code
mfs_err_hint(struct mfs_err *err, const char *fmt, ...)
{
	size_t used;
	va_list ap;

	if (err == NULL)
		return MFS_INTERNAL;
	used = strlen(err->msg);
	va_start(ap, fmt);
	(void)vsnprintf(err->msg + used, sizeof(err->msg) - used, fmt, ap);
	va_end(ap);
	return err->code;
}

const char *
mfs_escape(char *out, size_t cap, const char *in, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	size_t o = 0;

	if (cap == 0)
		return out;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)in[i];
		bool plain = c >= 0x20 && c < 0x7f && c != '\\' && c != '"' && c != '\'';

		if (o + (plain ? 1 : 4) + 4 > cap) {
			if (cap >= 4) {
				memcpy(out + (o < cap - 4 ? o : cap - 4), "...", 3);
				o = (o < cap - 4 ? o : cap - 4) + 3;
			}
			break;
		}
		if (plain) {
			out[o++] = (char)c;
		} else {
			out[o++] = '\\';
			out[o++] = 'x';
			out[o++] = hex[c >> 4];
			out[o++] = hex[c & 15];
		}
	}
	out[o] = '\0';
	return out;
}
