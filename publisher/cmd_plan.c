/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub plan: who would get what, before anything is published. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"
#include "md.h"
#include "plan.h"

#define THREADS_MAX 64

static const char help_text[] =
	"usage: modelpub plan REPO --devices FILE [options]\n"
	"\n"
	"Say which devices of an inventory would get which version. Needs no keys and changes nothing.\n"
	"\n"
	"  --devices FILE       one device per line, as 'modelfs device --json' prints it; - is standard input\n"
	"  --policy FILE        a policy.json that is not published yet, in place of its model's (repeatable);\n"
	"                       'modelpub publish --out DIR' leaves it in DIR/2-targets/targets/ID/\n"
	"  --model ID           this model alone\n"
	"  --time TIME          at this time, as 2026-11-21T03:04:05Z (default: now)\n"
	"  --list               each device: id, model, version, variant, release, rollout, bucket; or id, model, -, why;\n"
	"                       separated by tabs, before the summary\n"
	"  --quiet              no summary: with --list\n"
	"  --threads N          default: one for each processor\n"
	"  --root FILE          root.json to trust\n"
	"  --help               this text\n";

enum { OPT_DEVICES = MFS_OPT_OTHER, OPT_POLICY, OPT_MODEL, OPT_TIME, OPT_LIST, OPT_QUIET, OPT_THREADS, OPT_ROOT };

static const struct option options[] = { { "devices", required_argument, NULL, OPT_DEVICES },
	{ "policy", required_argument, NULL, OPT_POLICY }, { "model", required_argument, NULL, OPT_MODEL },
	{ "time", required_argument, NULL, OPT_TIME }, { "list", no_argument, NULL, OPT_LIST },
	{ "quiet", no_argument, NULL, OPT_QUIET }, { "threads", required_argument, NULL, OPT_THREADS },
	{ "root", required_argument, NULL, OPT_ROOT }, { "help", no_argument, NULL, MFS_OPT_HELP }, { NULL, 0, NULL, 0 } };

struct request {
	const char *devices, *model, *root;
	struct mfs_args policies;
	int64_t at; /* 0: now */
	unsigned threads;
	bool list, quiet;
};

static enum mfs_code
plan(const struct request *r, const char *path, struct mfs_plan **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_inventory) struct mfs_inventory *v = NULL;
	MFS_CLEANUP(mfs_cleanup_plan) struct mfs_plan *p = NULL;
	mfs_autorepo struct mfs_repo *repo = NULL;
	enum mfs_code code;

	if ((code = mfs_repo_open(path, false, r->root, &repo, err)) != MFS_OK ||
		(code = mfs_plan_new(repo, r->model, &p, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < r->policies.n; i++)
		if ((code = mfs_plan_draft(p, repo, r->policies.v[i], err)) != MFS_OK)
			return code;
	if ((code = mfs_inventory_open(r->devices, &v, err)) != MFS_OK ||
		(code = mfs_plan_run(p, v, r->at != 0 ? r->at : repo->now, r->threads, r->list ? stdout : NULL, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&p);
	return MFS_OK;
}

static int
run(const struct request *r, const char *path)
{
	MFS_CLEANUP(mfs_cleanup_plan) struct mfs_plan *p = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	if (plan(r, path, &p, &err) != MFS_OK)
		return mfs_report("plan", NULL, &err);
	if (r->list && !r->quiet)
		(void)printf("\n");
	if (!r->quiet)
		mfs_plan_print(p, stdout);
	if (p->twice > 0)
		(void)fprintf(stderr, "modelpub plan: %s: %llu device ids occur more than once\n", MFS_ESC(r->devices),
			(unsigned long long)p->twice);
	if (p->devices == 0)
		(void)fprintf(stderr, "modelpub plan: %s: no devices\n", MFS_ESC(r->devices));
	return mfs_finish("plan");
}

/* MFS_EXIT_DONE, or the exit code: the message has been printed. */
static int
option_take(struct request *r, int c, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	int64_t n;

	switch (c) {
	case OPT_DEVICES:
		r->devices = arg;
		break;
	case OPT_POLICY:
		if (mfs_args_add(&r->policies, arg, &err) != MFS_OK)
			return mfs_report("plan", NULL, &err);
		break;
	case OPT_MODEL:
		r->model = arg;
		break;
	case OPT_TIME:
		if (!mfs_md_time_parse(arg, &r->at))
			return mfs_usage("plan", "--time %s: want a time in UTC, as 2026-11-21T03:04:05Z", MFS_ESC(arg));
		break;
	case OPT_LIST:
		r->list = true;
		break;
	case OPT_QUIET:
		r->quiet = true;
		break;
	case OPT_THREADS:
		if (!mfs_parse_int(arg, 1, THREADS_MAX, &n))
			return mfs_usage("plan", "--threads %s: want 1 to %d", MFS_ESC(arg), THREADS_MAX);
		r->threads = (unsigned)n;
		break;
	case OPT_ROOT:
		r->root = arg;
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

static unsigned
processors(void)
{
	const long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
}

int
mfs_cmd_plan(int argc, char **argv)
{
	struct request r = { .threads = processors() };
	int c, exit_code = MFS_EXIT_DONE;

	while (exit_code == MFS_EXIT_DONE && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == MFS_OPT_HELP) {
			mfs_args_free(&r.policies);
			(void)fputs(help_text, stdout);
			return mfs_finish("plan");
		}
		exit_code = option_take(&r, c, optarg);
	}
	if (exit_code == MFS_EXIT_DONE && optind + 1 != argc)
		exit_code = mfs_usage("plan", "want one REPO");
	else if (exit_code == MFS_EXIT_DONE && r.devices == NULL)
		exit_code = mfs_usage("plan", "--devices is missing: an inventory of devices");
	if (exit_code == MFS_EXIT_DONE)
		exit_code = run(&r, argv[optind]);
	mfs_args_free(&r.policies);
	return exit_code;
}
