/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub publish: a bundle into a repository, and to whom. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_repo.h"
#include "gate.h"
#include "grants.h"
#include "io.h"
#include "offer.h"
#include "publish.h"
#include "trustfile.h"

static const char help_text[] =
	"usage: modelpub publish REPO BUNDLE --keys KEYDIR [--percent N] [--match KEY=VALUE ...] [options]\n"
	"\n"
	"Verify BUNDLE, copy it into the repository and offer it to devices. Keys needed: release, policy,\n"
	"snapshot, timestamp; targets too for the first bundle of a model. The same bundle again: exit 2.\n"
	"\n"
	"  --percent N          to N % of the devices now, to all once 'modelpub advance' confirms\n"
	"  --steps LIST         PERCENT@TIME,..., for example 1,10@1d,100@3d: each once its time has come and\n"
	"                       'modelpub advance' confirms\n"
	"  --auto               steps of --steps take effect without a confirmation\n"
	"  --match KEY=VALUE    only devices like this: class, region, id, channel, app.NAME, or a label (repeatable;\n"
	"                       several values of one key are alternatives)\n"
	"  --rollout ID         name of the rollout (default: the version)\n"
	"  --no-offer           publish only; 'modelpub rollout' offers it later\n"
	"  --pub FILE           public key that signed the bundle, while trust.json lists none (repeatable)\n"
	"  --threshold N        so many trusted keys must have signed (default 1)\n"
	"  --link               hard-link payloads of one part instead of copying them\n" MFS_REPO_HELP;

enum { OPT_ROLLOUT = MFS_OPT_OTHER, OPT_NO_OFFER, OPT_PUB, OPT_THRESHOLD, OPT_LINK };

static const struct option options[] = { MFS_OFFER_OPTIONS, { "auto", no_argument, NULL, MFS_OPT_AUTO },
	{ "rollout", required_argument, NULL, OPT_ROLLOUT },
	{ "no-offer", no_argument, NULL, OPT_NO_OFFER }, { "pub", required_argument, NULL, OPT_PUB },
	{ "threshold", required_argument, NULL, OPT_THRESHOLD }, { "link", no_argument, NULL, OPT_LINK }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	const char *bundle;
	struct mfs_offer offer;
	struct mfs_args match, pubs;
	int64_t threshold;
	bool no_offer, link;
	struct mfs_bundle_docs docs;
	struct mfs_manifest *m;
	struct mfs_policy *policy;
	const struct mfs_policy_rollout *rollout; /* what was offered, if anything */
	int dirfd;
	int blobs;     /* the lock of blobs/ */
	size_t grants; /* added */
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->match);
	mfs_args_free(&r->pubs);
	mfs_bundle_docs_free(&r->docs);
	mfs_manifest_free(r->m);
	mfs_policy_free(r->policy);
	mfs_cleanup_close(&r->dirfd);
	mfs_cleanup_close(&r->blobs);
	mfs_repocmd_clear(&r->c);
}

/* Every key that this command will need, before anything long begins. */
static enum mfs_code
keys_check(struct request *r, struct mfs_err *err)
{
	char release[MFS_ROLE_ROOM], policy[MFS_ROLE_ROOM];
	const char *known[] = { mfs_role_release(release, r->m->model_id), mfs_role_policy(policy, r->m->model_id), "snapshot",
		"timestamp", NULL };
	const char *const new[] = { "targets", "snapshot", "timestamp", NULL };
	enum mfs_code code;

	if (!mfs_repo_delegates(r->c.repo, release)) {
		if ((code = mfs_repocmd_need(&r->c, new, err)) != MFS_OK)
			return mfs_err_context(err, "the first bundle of %s is a new delegation: ", MFS_ESC(r->m->model_id));
		return mfs_repo_delegate(r->c.repo, r->c.ring, r->m->model_id, err);
	}
	if (r->no_offer) /* release, snapshot, timestamp */
		memmove(known + 1, known + 2, 3 * sizeof(known[0]));
	return mfs_repocmd_need(&r->c, known, err);
}

/* ---- the release gate -------------------------------------------------------------------------- */

/* Keys of --pub and KEYDIR, while trust.json lists none. */
static enum mfs_code
trust_local(struct request *r, struct mfs_trustlist *list, struct mfs_err *err)
{
	enum mfs_code code;

	for (size_t i = 0; i < r->pubs.n; i++)
		if ((code = mfs_trustfile_add(list, r->pubs.v[i], r->m->key_epoch, NULL, err)) != MFS_OK)
			return code;
	if (r->pubs.n > 0)
		return MFS_OK;
	if ((code = mfs_trustfile_folder(list, r->c.keys, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < list->n_keys; i++)
		list->keys[i].epoch = r->m->key_epoch;
	return MFS_OK;
}

static bool
signed_by_any(const struct mfs_manifest *m, const struct mfs_trustlist *list)
{
	for (size_t i = 0; i < m->n_key_ids; i++)
		for (size_t k = 0; k < list->n_keys; k++)
			if (mfs_sha256_equal(&m->key_ids[i], &list->keys[k].key_id))
				return true;
	return false;
}

static void
note_other(void *arg, const char *name)
{
	const struct request *r = arg;

	mfs_repocmd_note(&r->c, "%s: ignored, not part of the bundle: %s", MFS_ESC(r->bundle), MFS_ESC(name));
}

/* bytes: the whole bundle; else its signatures alone, by the keys that count now. */
static enum mfs_code
gate(struct request *r, bool bytes, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	struct mfs_sha256 key_id;
	bool published;
	enum mfs_code code;

	if ((code = mfs_trustfile_load(r->c.repo, &list, err)) != MFS_OK)
		return code;
	published = list->n_keys > 0;
	if (published && r->pubs.n > 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--pub is for a repository whose trust.json lists no key; this one's keys "
			"decide ('modelpub trust')");
	if (!published && (code = trust_local(r, list, err)) != MFS_OK)
		return code;
	if (published && !signed_by_any(r->m, list))
		return mfs_fail(err, MFS_KEY_UNTRUSTED,
			"%s: signed by key %s, which trust.json does not list: no device would take it; 'modelpub trust %s KEY.pub.pem "
			"--keys KEYDIR' adds the key", MFS_ESC(r->bundle), MFS_HEX(&r->m->key_ids[0]), MFS_ESC(r->c.repo->path));
	if (published || r->pubs.n > 0 || signed_by_any(r->m, list)) {
		if ((code = mfs_trust_new(&trust, err)) != MFS_OK || (code = mfs_trustlist_apply(list, trust, err)) != MFS_OK)
			return code;
	} else if (bytes) {
		mfs_repocmd_note(&r->c, "trust.json lists no key and key %s is not in KEYDIR: the signature is NOT checked here, only "
			"that there is one; devices check it with the keys of their configuration ('modelpub trust' or --pub FILE "
			"has it checked here too)", MFS_HEX(&r->m->key_ids[0]));
	}
	if (!bytes && trust == NULL)
		return MFS_OK;
	code = !bytes ? mfs_gate_signatures(&r->docs, trust, (unsigned)r->threshold, &m, &key_id, err) :
			mfs_gate_verify(r->bundle, trust, (unsigned)r->threshold, r->c.quiet, note_other, r, &m, &key_id, err);
	if (code == MFS_OK && !mfs_sha256_equal(&m->id, &r->m->id))
		code = mfs_fail(err, MFS_HASH_MISMATCH, "manifest.json: changed while it was read");
	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s: ", MFS_ESC(r->bundle));
}

/* ---- the change ------------------------------------------------------------------------------------ */

/* Signatures that the published manifest does not have yet: a further key signed it since. */
static bool
signatures_new(struct request *r)
{
	char role[MFS_ROLE_ROOM], path[MFS_TUF_PATH_MAX];
	struct mfs_repo_role *by;

	if (mfs_repo_role(r->c.repo, mfs_role_release(role, r->m->model_id), &by, NULL) != MFS_OK)
		return false;
	for (size_t i = 0; i < r->docs.n_sigs; i++) {
		const char *id = r->docs.sigs[i].key_id;

		(void)snprintf(path, sizeof(path), "%s/%s/%s/signature.%s%ssig", r->m->model_id, r->m->version, r->m->variant, id,
			id[0] != '\0' ? "." : "");
		if (mfs_repo_target(by, path) == NULL)
			return true;
	}
	return false;
}

static void
note_grant(void *arg, const char *path, const char *why)
{
	const struct request *r = arg;

	mfs_repocmd_note(&r->c, "%s: not copied: %s", MFS_ESC(path), why);
}

/* Wrapped keys of the bundle: outside of what is signed, so also for a bundle that is published already. */
static enum mfs_code
grants_copy(struct request *r, struct mfs_err *err)
{
	struct mfs_grants g = { .from = r->dirfd, .to = r->c.repo, .out = r->c.outdir, .only = r->m, .note = note_grant, .arg = r };
	struct mfs_grants look = { .from = r->dirfd, .to = r->c.repo, .look = true };
	enum mfs_code code = mfs_grants_copy(&look, err); /* before the first is written */

	if (code == MFS_OK)
		code = mfs_grants_copy(&g, err);
	r->grants = g.added;
	return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s: ", MFS_ESC(r->bundle));
}

/* The bundle is published, and nothing is to be signed. */
static enum mfs_code
grants_only(struct request *r, struct mfs_err *err)
{
	enum mfs_code code;

	if (r->c.stage != NULL)
		return MFS_OK;
	if ((r->c.outdir == NULL && (code = mfs_repo_lock_blobs(r->c.repo, &r->blobs, err)) != MFS_OK) ||
		(code = grants_copy(r, err)) != MFS_OK || r->grants == 0 || r->c.outdir == NULL)
		return code;
	return mfs_repocmd_out(&r->c, err);
}

/* What the repository says to it, under its lock: at first, so that nothing long is begun in vain, and when it is done. */
static enum mfs_code
repo_check(struct request *r, enum mfs_published *state, struct mfs_err *err)
{
	enum mfs_code code;

	mfs_policy_free(r->policy);
	r->policy = NULL;
	if ((code = keys_check(r, err)) != MFS_OK ||
		(code = mfs_offer_load(r->c.repo, r->m->model_id, &r->policy, err)) != MFS_OK)
		return code;
	return mfs_publish_check(r->c.repo, r->m, r->policy, state, err);
}

/* Every byte of the bundle is read, twice: others may change the repository meanwhile, above all revoke. */
static enum mfs_code
bundle_bring(struct request *r, struct mfs_err *err)
{
	struct mfs_repo *repo = r->c.repo;
	uint64_t bytes;
	enum mfs_code code;

	if (r->c.outdir == NULL && (code = mfs_repo_lock_blobs(repo, &r->blobs, err)) != MFS_OK)
		return code;
	mfs_repo_unlock(repo);
	if ((code = gate(r, true, err)) != MFS_OK || (code = grants_copy(r, err)) != MFS_OK ||
		(code = mfs_publish_blobs(repo, r->c.outdir, r->c.reuse, r->dirfd, r->m, r->link, r->c.quiet, &bytes, err)) != MFS_OK)
		return code;
	return mfs_repocmd_again(&r->c, err);
}

static enum mfs_code
change(struct request *r, enum mfs_published *state, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = repo_check(r, state, err)) != MFS_OK || (code = mfs_bundledir_open(r->bundle, &r->dirfd, err)) != MFS_OK)
		return code;
	if (*state == MFS_PUBLISHED_SAME && !signatures_new(r))
		return grants_only(r, err);
	/* Names, policy and trusted keys may be others by now; the bundle is the same. */
	if ((code = bundle_bring(r, err)) != MFS_OK || (code = repo_check(r, state, err)) != MFS_OK)
		return code;
	if (*state == MFS_PUBLISHED_SAME && !signatures_new(r)) /* by somebody else, meanwhile */
		return MFS_OK;
	if ((code = gate(r, false, err)) != MFS_OK || (code = mfs_publish_docs(r->c.repo, r->m, &r->docs, err)) != MFS_OK)
		return code;
	if (*state == MFS_PUBLISHED_NOT && !r->no_offer &&
		(code = mfs_offer_manifest(r->c.repo, r->policy, &r->offer, r->m, &r->rollout, err)) != MFS_OK)
		return code;
	*state = MFS_PUBLISHED_NOT;
	return mfs_repocmd_commit(&r->c, err);
}

static int
run(struct request *r, const char *path)
{
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_published state;
	char where[512];

	if (mfs_gate_read(r->bundle, &r->docs, &r->m, &err) != MFS_OK)
		return mfs_report("publish", r->bundle, &err);
	if (mfs_repocmd_open(&r->c, path, false, &err) != MFS_OK || change(r, &state, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	if (r->grants > 0)
		(void)printf("%zu grant%s added%s%s\n", r->grants, r->grants == 1 ? "" : "s", r->c.out != NULL ? " to the upload " : "",
			r->c.out != NULL ? MFS_ESC(r->c.out) : "");
	if (state == MFS_PUBLISHED_SAME) {
		mfs_print_summary(r->m, "already published: ", "");
		return mfs_repocmd_end(&r->c, r->grants > 0);
	}
	if (r->rollout != NULL)
		mfs_offer_print(r->m->model_id, r->rollout, r->c.repo->now);
	mfs_print_summary(r->m, "published: ", "");
	(void)printf("in %s\n", mfs_repocmd_where(&r->c, where));
	return mfs_finish("publish");
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct request *r = user;

	switch (opt) {
	case OPT_ROLLOUT:
		r->offer.id = arg;
		break;
	case OPT_NO_OFFER:
		r->no_offer = true;
		break;
	case OPT_PUB:
		if (mfs_args_add(&r->pubs, arg, &err) != MFS_OK)
			return mfs_repocmd_fail(&r->c, &err);
		break;
	case OPT_THRESHOLD:
		if (!mfs_parse_int(arg, 1, MFS_KEY_IDS_MAX, &r->threshold))
			return mfs_usage("publish", "--threshold %s: want 1 to %u", MFS_ESC(arg), MFS_KEY_IDS_MAX);
		break;
	case OPT_LINK:
		r->link = true;
		break;
	default:
		return mfs_repocmd_offer(&r->c, &r->offer, &r->match, opt, arg);
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_publish(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .threshold = 1, .dirfd = -1, .blobs = -1 };
	int done;

	mfs_repocmd_init(&r.c, "publish", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind + 2 != argc)
		return mfs_usage("publish", "want REPO and BUNDLE");
	if (r.offer.automatic && r.offer.n_steps == 0)
		return mfs_usage("publish", "--auto goes with --steps");
	if (r.no_offer && (r.offer.n_steps > 0 || r.match.n > 0 || r.offer.id != NULL))
		return mfs_usage("publish", "--no-offer offers it to nobody: --percent, --steps, --match and --rollout go without it");
	r.bundle = argv[optind + 1];
	return run(&r, argv[optind]);
}
