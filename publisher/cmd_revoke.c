/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub revoke: the kill switch, with the policy key alone of those that say what may run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_repo.h"
#include "offer.h"
#include "publish.h"

static const char help_text[] =
	"usage: modelpub revoke REPO ID VERSION --keys KEYDIR --action stop|rollback|withdraw [options]\n"
	"\n"
	"Revoke a version of a model. Keys needed: policy, snapshot, timestamp.\n"
	"\n"
	"  --action stop        may not become active any more; where it is active it stays\n"
	"  --action rollback    devices go back: to --to if given, else to the newest good version they kept\n"
	"  --action withdraw    devices that run it are left without an active version\n"
	"  --to VERSION         with rollback: the published version to go back to (fetched if need be)\n"
	"  --to-variant NAME    its variant (default: the only one, or 'default')\n"
	"  --otherwise WHAT     with rollback: keep (default) or withdraw, where there is nothing to go back to\n"
	"  --manifest SHA256    revoke this manifest alone, not every variant of VERSION\n"
	"  --reason TEXT        shown to operators\n"
	"  --lift               take the revocation back\n" MFS_REPO_HELP;

enum { OPT_ACTION = MFS_OPT_OTHER, OPT_TO, OPT_TO_VARIANT, OPT_OTHERWISE, OPT_MANIFEST, OPT_REASON, OPT_LIFT };

static const struct option options[] = { { "action", required_argument, NULL, OPT_ACTION },
	{ "to", required_argument, NULL, OPT_TO }, { "to-variant", required_argument, NULL, OPT_TO_VARIANT },
	{ "otherwise", required_argument, NULL, OPT_OTHERWISE }, { "manifest", required_argument, NULL, OPT_MANIFEST },
	{ "reason", required_argument, NULL, OPT_REASON }, { "lift", no_argument, NULL, OPT_LIFT }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	const char *model_id, *version, *to, *to_variant, *reason;
	enum mfs_action action;
	bool withdraw, lift, has_otherwise;
	bool by_manifest;
	struct mfs_sha256 manifest;
};

static bool
same_revocation(const struct mfs_revocation *a, const struct mfs_revocation *b)
{
	return mfs_sha256_equal(&a->manifest, &b->manifest) && strcmp(a->version, b->version) == 0 &&
		strcmp(a->reason, b->reason) == 0 && a->action == b->action &&
		mfs_sha256_equal(&a->rollback_to.manifest, &b->rollback_to.manifest) &&
		a->otherwise_withdraw == b->otherwise_withdraw;
}

/* Devices that obey would have nothing to run if the target were revoked as well. */
static enum mfs_code
target_find(struct request *r, const struct mfs_policy *p, struct mfs_policy_entry *out, struct mfs_err *err)
{
	struct mfs_verdict v;
	enum mfs_code code;

	if (strcmp(r->to, r->version) == 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--to %s: is the version to revoke", MFS_ESC(r->to));
	if ((code = mfs_offer_entry(r->c.repo, r->model_id, r->to, r->to_variant, out, err)) != MFS_OK)
		return mfs_err_context(err, "--to: ");
	mfs_revocation_find(p->revoked, p->n_revoked, &out->manifest, out->version, &v);
	if (v.action != MFS_ACTION_NONE)
		return mfs_fail(err, MFS_REVOKED, "--to %s: is revoked itself", MFS_ESC(r->to));
	return MFS_OK;
}

/*
 * Is the version published at all? A slip of the finger at 3 am must not look like success. But what gc dropped may
 * still run on devices, and who names a manifest knows which one it is.
 */
static enum mfs_code
version_check(struct request *r, struct mfs_err *err)
{
	char role[MFS_ROLE_ROOM];
	struct mfs_policy_entry e;
	struct mfs_repo_role *by;
	enum mfs_code code = mfs_offer_entry(r->c.repo, r->model_id, r->version, NULL, &e, err);

	if (code == MFS_OK || code == MFS_POLICY_REJECTED) /* several variants: all of them are meant */
		return MFS_OK;
	if (code == MFS_NOT_SELECTED && (r->by_manifest ||
		(mfs_repo_role(r->c.repo, mfs_role_release(role, r->model_id), &by, NULL) == MFS_OK &&
			mfs_publish_retired(by, r->version))))
		return MFS_OK;
	return code == MFS_NOT_SELECTED ? mfs_err_hint(err, "; if it was dropped by an older 'modelpub gc', name it with --manifest") :
					  code;
}

static enum mfs_code
revocation_make(struct request *r, struct mfs_policy *p, bool *changed, struct mfs_err *err)
{
	struct mfs_revocation v = { .action = r->action, .otherwise_withdraw = r->withdraw };
	enum mfs_code code;

	if (r->by_manifest)
		v.manifest = r->manifest;
	else
		(void)snprintf(v.version, sizeof(v.version), "%s", r->version);
	if (r->lift) {
		*changed = mfs_policy_unrevoke(p, r->by_manifest ? &r->manifest : NULL, r->by_manifest ? NULL : r->version) > 0;
		return MFS_OK;
	}
	if (snprintf(v.reason, sizeof(v.reason), "%s", r->reason != NULL ? r->reason : "revoked by the publisher") >=
		(int)sizeof(v.reason))
		return mfs_fail(err, MFS_CONFIG_INVALID, "--reason: longer than %u bytes", MFS_POLICY_TEXT_MAX);
	for (const char *s = v.reason; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return mfs_fail(err, MFS_CONFIG_INVALID, "--reason %s: one line, without control characters", MFS_ESC(v.reason));
	if ((code = version_check(r, err)) != MFS_OK ||
		(r->to != NULL && (code = target_find(r, p, &v.rollback_to, err)) != MFS_OK))
		return code;
	for (size_t i = 0; i < p->n_revoked; i++)
		if (same_revocation(&p->revoked[i], &v)) {
			*changed = false;
			return MFS_OK;
		}
	*changed = true;
	return mfs_policy_revoke(p, &v, err);
}

static enum mfs_code
revocation_run(struct request *r, const char *repo, bool *changed, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_policy) struct mfs_policy *p = NULL;
	enum mfs_code code;

	if ((code = mfs_repocmd_open_model(&r->c, repo, r->model_id, MFS_NEED_POLICY, err)) != MFS_OK ||
		(code = mfs_offer_load(r->c.repo, r->model_id, &p, err)) != MFS_OK ||
		(code = revocation_make(r, p, changed, err)) != MFS_OK || !*changed)
		return code;
	if ((code = mfs_offer_store(r->c.repo, p, err)) != MFS_OK)
		return code;
	return mfs_repocmd_commit(&r->c, err);
}

static int
run(struct request *r, const char *repo)
{
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];
	bool changed;

	if (revocation_run(r, repo, &changed, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	(void)printf("%s%s: %s %s%s%s, in %s\n", changed ? "" : "already ", r->lift ? (changed ? "lifted" : "not revoked") : "revoked",
		MFS_ESC(r->model_id), MFS_ESC(r->version), r->lift ? "" : ": ", r->lift ? "" : mfs_action_name(r->action),
		changed ? mfs_repocmd_where(&r->c, where) : MFS_ESC(repo));
	return mfs_repocmd_end(&r->c, changed);
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct request *r = user;

	switch (opt) {
	case OPT_ACTION:
		if (!mfs_action_from_name(arg, &r->action))
			return mfs_usage("revoke", "--action %s: want stop, rollback or withdraw", MFS_ESC(arg));
		break;
	case OPT_TO:
		r->to = arg;
		break;
	case OPT_TO_VARIANT:
		r->to_variant = arg;
		break;
	case OPT_OTHERWISE:
		r->withdraw = strcmp(arg, "withdraw") == 0;
		r->has_otherwise = true;
		if (!r->withdraw && strcmp(arg, "keep") != 0)
			return mfs_usage("revoke", "--otherwise %s: want keep or withdraw", MFS_ESC(arg));
		break;
	case OPT_MANIFEST:
		r->by_manifest = true;
		if (!mfs_hex_decode(r->manifest.b, MFS_SHA256_LEN, arg, strlen(arg)))
			return mfs_usage("revoke", "--manifest %s: want 64 lower-case hex digits", MFS_ESC(arg));
		break;
	case OPT_REASON:
		r->reason = arg;
		break;
	case OPT_LIFT:
		r->lift = true;
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

static void
request_clear(struct request *r)
{
	mfs_repocmd_clear(&r->c);
}

int
mfs_cmd_revoke(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { 0 };
	int done;

	mfs_repocmd_init(&r.c, "revoke", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind + 3 != argc)
		return mfs_usage("revoke", "want REPO, ID and VERSION");
	if (r.action == MFS_ACTION_NONE && !r.lift)
		return mfs_usage("revoke", "--action is missing: stop, rollback or withdraw");
	if ((r.to != NULL || r.has_otherwise) && r.action != MFS_ACTION_ROLLBACK)
		return mfs_usage("revoke", "--to and --otherwise go with --action rollback");
	r.model_id = argv[optind + 1];
	r.version = argv[optind + 2];
	if (!mfs_model_id_ok(r.model_id, strlen(r.model_id)) || !mfs_version_ok(r.version, strlen(r.version)))
		return mfs_usage("revoke", "'%s' '%s': want a model id and a version", MFS_ESC(r.model_id), MFS_ESC(r.version));
	return run(&r, argv[optind]);
}
