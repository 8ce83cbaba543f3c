/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_args.c - usage, options, errors and output of the commands. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd_common.h"
#include "io.h"

static const struct mfs_cmd *current; /* set once by main, before the command runs */

void
mfs_cmd_enter(const struct mfs_cmd *cmd)
{
	current = cmd;
}

int
mfs_cmd_usage(const struct mfs_cmd *cmd)
{
	if (cmd == NULL)
		cmd = current;
	if (cmd != NULL)
		fprintf(stderr, "usage: modelfs %s %s\n", cmd->name, cmd->args);
	return MFS_EXIT_USAGE;
}

int
mfs_cmd_fail(const char *command, const struct mfs_err *err)
{
	fprintf(stderr, "modelfs: %s: %s: %s\n", command, mfs_code_name(err->code), err->msg);
	return (int)mfs_code_exit(err->code);
}

bool
mfs_duration_parse(const char *s, int64_t *ms)
{
	static const struct { const char *unit; int64_t factor; } units[] = {
		{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 },
	};
	int64_t n = 0;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (n > 100000000)
			return false;
		n = n * 10 + (*p - '0');
	}
	if (p == s)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(p, units[i].unit) == 0) {
			*ms = n * units[i].factor;
			return true;
		}
	return false;
}

static bool
usage_error(const char *fmt, const char *what, int *exit_code)
{
	fprintf(stderr, "modelfs: %s: ", current != NULL ? current->name : "command");
	fprintf(stderr, "%s '%s'\n", fmt, MFS_ESC(what));
	*exit_code = mfs_cmd_usage(NULL);
	return false;
}

bool
mfs_args_parse(int argc, char **argv, unsigned accept, int min_pos, int max_pos, struct mfs_args *out, int *exit_code)
{
	static const struct option all[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "follow", no_argument, NULL, 'f' },
		{ "version", required_argument, NULL, 'V' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "from", required_argument, NULL, 'F' },
		{ "cacert", required_argument, NULL, 'A' },
		{ "output", required_argument, NULL, 'o' },
		{ "repository", required_argument, NULL, 'R' },
		{ "root", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	*out = (struct mfs_args){ .timeout_ms = -1 };
	optind = 0; /* anew, also after an earlier parse of other arguments */
	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":c:hfo:", all, NULL)) != -1) {
		const char *given = optind > 0 && optind <= argc ? argv[optind - 1] : "";
		unsigned need = opt == 'j' ? MFS_ARG_JSON
			: opt == 'f'       ? MFS_ARG_FOLLOW
			: opt == 'V'       ? MFS_ARG_VERSION
			: opt == 'T'       ? MFS_ARG_TIMEOUT
			: opt == 'F' || opt == 'A' ? MFS_ARG_FROM
			: opt == 'o'       ? MFS_ARG_OUTPUT
			: opt == 'R' || opt == 'r' ? MFS_ARG_REPOSITORY
					   : 0;

		if (opt == ':')
			return usage_error("this option wants a value:", given, exit_code);
		if (opt == '?' || (accept & need) != need)
			return usage_error("no such option:", given, exit_code);
		switch (opt) {
		case 'h':
			printf("usage: modelfs %s %s\n\n%s\n", current->name, current->args, current->help);
			*exit_code = MFS_EXIT_DONE;
			return false;
		case 'c': out->config = optarg; break;
		case 'j': out->json = true; break;
		case 'f': out->follow = true; break;
		case 'V': out->version = optarg; break;
		case 'F': out->from = optarg; break;
		case 'A': out->cacert = optarg; break;
		case 'o': out->output = optarg; break;
		case 'R': out->repository = optarg; break;
		case 'r': out->root = optarg; break;
		default:
			if (!mfs_duration_parse(optarg, &out->timeout_ms))
				return usage_error("not a duration (30s, 15m, 2h):", optarg, exit_code);
		}
	}
	out->pos = argv + optind;
	out->n_pos = argc - optind;
	if (out->n_pos < min_pos) {
		fprintf(stderr, "modelfs: %s: an argument is missing\n", argv[0]);
		*exit_code = mfs_cmd_usage(NULL);
		return false;
	}
	if (max_pos >= 0 && out->n_pos > max_pos)
		return usage_error("one argument too many:", out->pos[max_pos], exit_code);
	return true;
}

void
mfs_cmd_print(FILE *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		(void)putc(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f) ? c : '?', out);
	}
}

void
mfs_cmd_printable(char *out, size_t cap, const char *text)
{
	size_t n = 0;

	for (; text[n] != '\0' && n + 1 < cap; n++)
		out[n] = text[n] >= 0x20 && text[n] <= 0x7e ? text[n] : '?';
	out[n] = '\0';
}

#define PROGRESS_BAR_MS  100
#define PROGRESS_LINE_MS 10000

/* "3 s", "12 min", "5 h": how long at this rate; nothing when it cannot be told. */
static const char *
time_left(char out[32], uint64_t left, uint64_t rate)
{
	uint64_t s = rate > 0 ? left / rate : 0;

	out[0] = '\0';
	if (rate == 0 || left == 0)
		return out;
	(void)snprintf(out, 32, ", %" PRIu64 " %s left", s < 100 ? s : s < 6000 ? s / 60 : s / 3600,
		s < 100 ? "s" : s < 6000 ? "min" : "h");
	return out;
}

void
mfs_progress_rate(struct mfs_progress *p, uint64_t done, uint64_t total, uint64_t rate)
{
	static const char bar[] = "##############################";
	bool terminal = isatty(STDERR_FILENO) == 1;
	int64_t now = mfs_clock_mono_ms();
	char left[32];
	unsigned percent;

	if (p->started_ms == 0)
		p->started_ms = p->last_ms = now;
	if (total == 0 || (now - p->last_ms < (terminal ? PROGRESS_BAR_MS : PROGRESS_LINE_MS) && done < total))
		return;
	p->last_ms = now;
	percent = done >= total ? 100 : (unsigned)((double)done * 100 / (double)total);
	if (rate == 0 && now > p->started_ms)
		rate = (uint64_t)((double)done * 1000 / (double)(now - p->started_ms));
	(void)time_left(left, total > done ? total - done : 0, rate);
	if (terminal) {
		fprintf(stderr, "\r\033[K%s [%-30.*s] %3u %%  %.1f MiB/s%s ", p->what, (int)(percent * 30 / 100), bar, percent,
			(double)rate / (1 << 20), left);
		p->shown = true;
	} else if (done < total) {
		fprintf(stderr, "%s: %u %%, %.1f MiB/s%s\n", p->what, percent, (double)rate / (1 << 20), left);
	}
}

void
mfs_progress_show(struct mfs_progress *p, uint64_t done, uint64_t total)
{
	mfs_progress_rate(p, done, total, 0);
}

void
mfs_progress_end(struct mfs_progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r\033[K");
	p->shown = false;
}
