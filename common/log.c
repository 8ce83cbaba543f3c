/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *log_process = "modelfs";
static enum mfs_level log_max = MFS_LOG_INFO;
static bool log_levels; /* "<4>" before a line, for the journal: not by a command, which talks to a person */

void
mfs_log_open(const char *process, enum mfs_level max)
{
	log_process = process;
	log_max = max;
	log_levels = !isatty(STDERR_FILENO);
}

void
mfs_log(enum mfs_level level, const char *fmt, ...)
{
	char line[1024];
	size_t used = 0;
	va_list ap;
	int n;

	if (level > log_max)
		return;
	if (log_levels)
		used = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	used += (size_t)snprintf(line + used, sizeof(line) - used, "%s: ", log_process);
	va_start(ap, fmt);
	n = vsnprintf(line + used, sizeof(line) - used - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	used += (size_t)n < sizeof(line) - used - 2 ? (size_t)n : sizeof(line) - used - 2;
	for (size_t i = 0; i < used; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[used++] = '\n';
	/* One write per line, so that lines of several processes never mix. */
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

void
mfs_log_err(const char *what, const struct mfs_err *err)
{
	enum mfs_level level = MFS_LOG_WARN;

	switch (mfs_code_class(err->code)) {
	case MFS_CLASS_TRUST:
	case MFS_CLASS_BUG:
		level = MFS_LOG_ERR;
		break;
	case MFS_CLASS_POLICY:
	case MFS_CLASS_NONE:
		level = MFS_LOG_NOTICE;
		break;
	default:
		break;
	}
	mfs_log(level, "%s%s%s: %s", what, what[0] != '\0' ? ": " : "", mfs_code_name(err->code), err->msg);
}
