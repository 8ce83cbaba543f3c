/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub rollout and advance: who gets what, step by step. */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd_repo.h"
#include "offer.h"
#include "publish.h"

static const char rollout_help[] =
	"usage: modelpub rollout REPO ID\n"
	"       modelpub rollout REPO ID --version X.Y.Z [--percent N | --steps LIST] [--match KEY=VALUE ...] --keys KEYDIR\n"
	"       modelpub rollout REPO ID --rollout ID {--percent N | --steps LIST | --remove} --keys KEYDIR\n"
	"       modelpub rollout REPO ID {--min-release N | --min-key-epoch N | --enforce keep|withdraw} --keys KEYDIR\n"
	"\n"
	"Show the rollouts of a model; offer a published version; change or remove a rollout; set minima. Keys\n"
	"needed for a change: policy, snapshot, timestamp. Less percent stops a rollout; only revoke moves\n"
	"devices back. A device stays in or out of a rollout as long as it lives.\n"
	"\n"
	"  --version X.Y.Z      a published version to offer, before all other rollouts\n"
	"  --variant NAME       its variant\n"
	"  --rollout ID         the rollout to change; with --version its name (default: the version)\n"
	"  --percent N          to N % of the devices now, to all once 'modelpub advance' confirms\n"
	"  --steps LIST         PERCENT@TIME,..., for example 1,10@1d,100@3d\n"
	"  --auto               steps of --steps take effect without a confirmation\n"
	"  --match KEY=VALUE    with --version: only devices like this (repeatable)\n"
	"  --remove             remove the rollout\n"
	"  --min-release N      devices take no release below N\n"
	"  --min-key-epoch N    nor any key epoch below N\n"
	"  --enforce WHAT       an active version below a minimum: keep it, or withdraw it\n" MFS_REPO_HELP;

static const char advance_help[] =
	"usage: modelpub advance REPO ID [--rollout ID] [--if CMD] --keys KEYDIR [options]\n"
	"\n"
	"Confirm the next step of a rollout: the first that waits for one. Exit 2 when none waits, 4 when CMD\n"
	"does not end with 0. Keys needed: policy, snapshot, timestamp.\n"
	"\n"
	"  --rollout ID         which one (default: the first with a step that waits)\n"
	"  --if CMD             only if this shell command ends with 0; it gets MODELFS_MODEL, MODELFS_VERSION,\n"
	"                       MODELFS_RELEASE, MODELFS_ROLLOUT, MODELFS_STEP, MODELFS_FRACTION (of 10000)\n" MFS_REPO_HELP;

enum { OPT_VERSION = MFS_OPT_OTHER, OPT_VARIANT, OPT_ROLLOUT, OPT_REMOVE, OPT_MIN_RELEASE, OPT_MIN_EPOCH, OPT_ENFORCE,
	OPT_IF };

static const struct option rollout_options[] = { { "version", required_argument, NULL, OPT_VERSION },
	{ "variant", required_argument, NULL, OPT_VARIANT }, { "rollout", required_argument, NULL, OPT_ROLLOUT },
	MFS_OFFER_OPTIONS, { "auto", no_argument, NULL, MFS_OPT_AUTO },
	{ "remove", no_argument, NULL, OPT_REMOVE }, { "min-release", required_argument, NULL, OPT_MIN_RELEASE },
	{ "min-key-epoch", required_argument, NULL, OPT_MIN_EPOCH }, { "enforce", required_argument, NULL, OPT_ENFORCE },
	MFS_REPO_OPTIONS };

static const struct option advance_options[] = { { "rollout", required_argument, NULL, OPT_ROLLOUT },
	{ "if", required_argument, NULL, OPT_IF }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	const char *model_id, *version, *variant, *rollout, *condition;
	struct mfs_offer offer;
	struct mfs_args match;
	bool remove, has_enforce, withdraw;
	int64_t min_release, min_epoch; /* -1: not given */
	struct mfs_policy *p;
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->match);
	mfs_policy_free(r->p);
	mfs_repocmd_clear(&r->c);
}

static bool
is_change(const struct request *r)
{
	return r->version != NULL || r->offer.n_steps > 0 || r->remove || r->has_enforce || r->min_release >= 0 ||
		r->min_epoch >= 0;
}

/* The policy of the model, and with a change the keys for it. */
static enum mfs_code
policy_open(struct request *r, const char *repo, bool change, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_repocmd_open_model(&r->c, repo, r->model_id, change ? MFS_NEED_POLICY : 0, err)) != MFS_OK)
		return code;
	return mfs_offer_load(r->c.repo, r->model_id, &r->p, err);
}

static enum mfs_code
rollout_get(const struct request *r, struct mfs_policy_rollout **out, struct mfs_err *err)
{
	if (r->rollout == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "which rollout? --rollout ID; 'modelpub rollout REPO %s' lists them",
			MFS_ESC(r->model_id));
	if ((*out = mfs_policy_rollout_find(r->p, r->rollout)) == NULL)
		return mfs_fail(err, MFS_NOT_SELECTED, "%s has no rollout %s", MFS_ESC(r->model_id), MFS_ESC(r->rollout));
	return MFS_OK;
}

static enum mfs_code
minima_set(struct request *r, struct mfs_err *err)
{
	if ((r->min_release >= 0 && r->min_release < r->p->min_release && r->min_epoch < 0) ||
		(r->min_epoch >= 0 && r->min_epoch < r->p->min_key_epoch))
		return mfs_fail(err, MFS_POLICY_REJECTED, "a minimum only rises (now release %lld, key epoch %lld): devices never go "
			"below the highest they have seen", (long long)r->p->min_release, (long long)r->p->min_key_epoch);
	if (r->min_release >= 0)
		r->p->min_release = r->min_release;
	if (r->min_epoch >= 0)
		r->p->min_key_epoch = r->min_epoch;
	if (r->has_enforce)
		r->p->withdraw_below = r->withdraw;
	return MFS_OK;
}

static enum mfs_code
rollout_change(struct request *r, struct mfs_err *err)
{
	struct mfs_policy_rollout *rollout = NULL;
	struct mfs_policy_entry e;
	enum mfs_code code;

	if ((code = minima_set(r, err)) != MFS_OK)
		return code;
	r->offer.id = r->rollout;
	if (r->version != NULL) {
		if ((code = mfs_offer_entry(r->c.repo, r->model_id, r->version, r->variant, &e, err)) != MFS_OK)
			return code;
		return mfs_offer_add(r->p, &r->offer, &e, r->c.repo->now, &rollout, err);
	}
	if (!r->remove && r->offer.n_steps == 0)
		return MFS_OK;
	if ((code = rollout_get(r, &rollout, err)) != MFS_OK)
		return code;
	if (r->remove) {
		mfs_policy_rollout_remove(r->p, rollout);
		return MFS_OK;
	}
	return mfs_offer_steps(rollout, &r->offer, r->c.repo->now, err);
}

static void
policy_print(const struct request *r)
{
	const struct mfs_policy *p = r->p;

	(void)printf("%s: policy %lld of %s", MFS_ESC(p->model_id), (long long)p->sequence, MFS_TIME(p->issued));
	if (p->min_release > 0 || p->min_key_epoch > 0)
		(void)printf(", at least release %lld, key epoch %lld (%s below)", (long long)p->min_release,
			(long long)p->min_key_epoch, p->withdraw_below ? "withdraw" : "keep");
	(void)printf("\n");
	for (size_t i = 0; i < p->n_revoked; i++) {
		const struct mfs_revocation *v = &p->revoked[i];

		(void)printf("%s %s: revoked, %s", MFS_ESC(p->model_id),
			v->version[0] != '\0' ? v->version : MFS_HEX(&v->manifest), mfs_action_name(v->action));
		if (!mfs_sha256_is_zero(&v->rollback_to.manifest))
			(void)printf(" to %s", v->rollback_to.version);
		(void)printf(": %s\n", MFS_ESC(v->reason));
	}
	for (size_t i = 0; i < p->n_rollouts; i++)
		mfs_offer_print(p->model_id, &p->rollouts[i], r->c.repo->now);
	if (p->n_rollouts == 0)
		(void)printf("%s: no rollout: devices are offered nothing new\n", MFS_ESC(p->model_id));
}

static int
rollout_run(struct request *r, const char *repo)
{
	const bool change = is_change(r);
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];

	if (policy_open(r, repo, change, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	if (change && (rollout_change(r, &err) != MFS_OK || mfs_offer_store(r->c.repo, r->p, &err) != MFS_OK ||
			      mfs_repocmd_commit(&r->c, &err) != MFS_OK))
		return mfs_repocmd_fail(&r->c, &err);
	policy_print(r);
	if (change)
		(void)printf("changed: %s\n", mfs_repocmd_where(&r->c, where));
	return mfs_finish(r->c.name);
}

/* ---- advance --------------------------------------------------------------------------------- */

/* The step of a rollout that waits for a confirmation, from 1; 0: none. */
static size_t
waiting(const struct mfs_policy_rollout *r)
{
	for (size_t i = (size_t)r->confirmed; i < r->n_steps; i++)
		if (r->steps[i].confirm)
			return i + 1;
	return 0;
}

static struct mfs_policy_rollout *
waiting_find(const struct request *r)
{
	for (size_t i = 0; i < r->p->n_rollouts; i++)
		if ((r->rollout == NULL || strcmp(r->p->rollouts[i].id, r->rollout) == 0) && waiting(&r->p->rollouts[i]) > 0)
			return &r->p->rollouts[i];
	return NULL;
}

static void
env_number(const char *name, long long v)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lld", v);
	(void)setenv(name, text, 1);
}

/* Run the operator's own command line; MFS_OK when it ended with 0. What it is about is in the environment. */
static enum mfs_code
condition_run(const char *command, struct mfs_err *err)
{
	const char *const argv[] = { "sh", "-c", command, NULL };
	int status, rc;
	pid_t pid;

	(void)fflush(stdout);
	if ((rc = posix_spawn(&pid, "/bin/sh", NULL, NULL, (char *const *)(uintptr_t)argv, environ)) != 0) {
		errno = rc;
		return mfs_fail_sys(err, MFS_IO, "--if: cannot be run");
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return mfs_fail_sys(err, MFS_IO, "--if: cannot be waited for");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return MFS_OK;
	return mfs_fail(err, MFS_CONDITION_UNMET, "--if %s: ended with %s %d: the rollout stays at its step", MFS_ESC(command),
		WIFEXITED(status) ? "exit code" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void
environment_set(const struct request *r, const struct mfs_policy_rollout *rollout)
{
	const size_t step = waiting(rollout);

	(void)setenv("MODELFS_MODEL", r->model_id, 1);
	(void)setenv("MODELFS_VERSION", rollout->variants[0].entry.version, 1);
	(void)setenv("MODELFS_ROLLOUT", rollout->id, 1);
	env_number("MODELFS_RELEASE", rollout->variants[0].entry.release);
	env_number("MODELFS_STEP", (long long)step);
	env_number("MODELFS_FRACTION", rollout->steps[step - 1].fraction);
}

static void
closed(struct request *r)
{
	mfs_policy_free(r->p);
	r->p = NULL;
	mfs_repocmd_close(&r->c);
}

/* Ask the command with the repository closed: it may take hours, and may use modelpub itself. */
static enum mfs_code
condition_ask(struct request *r, const char *repo, struct mfs_policy_rollout **rollout, struct mfs_err *err)
{
	const int64_t sequence = r->p->sequence;
	char id[MFS_VARIANT_MAX + 1];
	enum mfs_code code;

	(void)snprintf(id, sizeof(id), "%s", (*rollout)->id);
	environment_set(r, *rollout);
	closed(r);
	if ((code = condition_run(r->condition, err)) != MFS_OK || (code = policy_open(r, repo, true, err)) != MFS_OK)
		return code;
	*rollout = mfs_policy_rollout_find(r->p, id);
	if (r->p->sequence != sequence || *rollout == NULL || waiting(*rollout) == 0)
		return mfs_fail(err, MFS_CONDITION_UNMET, "%s: the policy changed while --if ran; look at it and run advance again",
			MFS_ESC(r->model_id));
	return MFS_OK;
}

static enum mfs_code
advance(struct request *r, const char *repo, bool *changed, struct mfs_err *err)
{
	struct mfs_policy_rollout *rollout;
	enum mfs_code code;

	*changed = false;
	if ((code = policy_open(r, repo, true, err)) != MFS_OK)
		return code;
	if (r->rollout != NULL && (code = rollout_get(r, &rollout, err)) != MFS_OK)
		return code;
	if ((rollout = waiting_find(r)) == NULL)
		return MFS_OK;
	if (r->condition != NULL && (code = condition_ask(r, repo, &rollout, err)) != MFS_OK)
		return code;
	rollout->confirmed = (int64_t)waiting(rollout);
	*changed = true;
	if ((code = mfs_offer_store(r->c.repo, r->p, err)) != MFS_OK || (code = mfs_repocmd_commit(&r->c, err)) != MFS_OK)
		return code;
	mfs_offer_print(r->model_id, rollout, r->c.repo->now);
	return MFS_OK;
}

static int
advance_run(struct request *r, const char *repo)
{
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];
	bool changed;

	if (advance(r, repo, &changed, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	if (changed)
		(void)printf("advanced: %s\n", mfs_repocmd_where(&r->c, where));
	else
		(void)printf("%s: no step waits for a confirmation\n", MFS_ESC(r->model_id));
	return mfs_repocmd_end(&r->c, changed);
}

/* ---- options ----------------------------------------------------------------------------------- */

static int
option_take(void *user, int opt, const char *arg)
{
	struct request *r = user;

	switch (opt) {
	case OPT_VERSION:
		r->version = arg;
		break;
	case OPT_VARIANT:
		r->variant = arg;
		break;
	case OPT_ROLLOUT:
		r->rollout = arg;
		break;
	case OPT_REMOVE:
		r->remove = true;
		break;
	case OPT_MIN_RELEASE:
	case OPT_MIN_EPOCH:
		if (!mfs_parse_int(arg, 0, MFS_JSON_INT_MAX, opt == OPT_MIN_RELEASE ? &r->min_release : &r->min_epoch))
			return mfs_usage(r->c.name, "%s: want 0 or more", MFS_ESC(arg));
		break;
	case OPT_ENFORCE:
		r->has_enforce = true;
		r->withdraw = strcmp(arg, "withdraw") == 0;
		if (!r->withdraw && strcmp(arg, "keep") != 0)
			return mfs_usage(r->c.name, "--enforce %s: want keep or withdraw", MFS_ESC(arg));
		break;
	case OPT_IF:
		r->condition = arg;
		break;
	default:
		return mfs_repocmd_offer(&r->c, &r->offer, &r->match, opt, arg);
	}
	return MFS_EXIT_DONE;
}

static int
parse(struct request *r, int argc, char **argv, const struct option *options, const char *help)
{
	int done;

	if ((done = mfs_repocmd_parse(&r->c, options, help, option_take, r)) != MFS_PARSED)
		return done;
	if (optind + 2 != argc)
		return mfs_usage(r->c.name, "want REPO and ID");
	r->model_id = argv[optind + 1];
	if (!mfs_model_id_ok(r->model_id, strlen(r->model_id)))
		return mfs_usage(r->c.name, "'%s' is no model id", MFS_ESC(r->model_id));
	return MFS_PARSED;
}

int
mfs_cmd_rollout(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .min_release = -1, .min_epoch = -1 };
	int done;

	mfs_repocmd_init(&r.c, "rollout", argc, argv);
	if ((done = parse(&r, argc, argv, rollout_options, rollout_help)) != MFS_PARSED)
		return done;
	if (r.match.n > 0 && r.version == NULL)
		return mfs_usage("rollout", "--match goes with --version: a rollout keeps its devices for life");
	if (r.variant != NULL && r.version == NULL)
		return mfs_usage("rollout", "--variant goes with --version");
	if (r.offer.automatic && r.offer.n_steps == 0)
		return mfs_usage("rollout", "--auto goes with --steps");
	if (r.remove && (r.offer.n_steps > 0 || r.version != NULL))
		return mfs_usage("rollout", "--remove goes with --rollout alone");
	return rollout_run(&r, argv[optind]);
}

int
mfs_cmd_advance(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .min_release = -1, .min_epoch = -1 };
	int done;

	mfs_repocmd_init(&r.c, "advance", argc, argv);
	done = parse(&r, argc, argv, advance_options, advance_help);
	return done == MFS_PARSED ? advance_run(&r, argv[optind]) : done;
}
