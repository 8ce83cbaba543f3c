/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub rotate: a new key for a role, in the place of an old one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_repo.h"

static const char help_text[] =
	"usage: modelpub rotate REPO ROLE --keys KEYDIR [options]\n"
	"\n"
	"Give ROLE (root, targets, snapshot, timestamp; release, policy, or release.ID, policy.ID of one model)\n"
	"a new key in the place of its old one. The new key is made in KEYDIR beside the old one, which may\n"
	"be destroyed afterwards. Keys needed: root for root, targets, snapshot and timestamp; targets for release\n"
	"and policy; snapshot and timestamp.\n"
	"While the old key is in KEYDIR too, it signs along, so that no device sees a moment without valid metadata.\n"
	"\n"
	"  --pub FILE           the new key's public part, when another holds it (with --stage)\n"
	"  --old KEY_ID         the key to replace, of several: at least 8 first digits of its id\n"
	"  --type TYPE          of the new key: ed25519 (default) or ecdsa-p256\n" MFS_REPO_HELP;

enum { OPT_PUB = MFS_OPT_OTHER, OPT_OLD, OPT_TYPE };

static const struct option options[] = { { "pub", required_argument, NULL, OPT_PUB },
	{ "old", required_argument, NULL, OPT_OLD }, { "type", required_argument, NULL, OPT_TYPE }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	const char *role, *pub, *old;
	enum mfs_signer_type type;
	struct mfs_signer *public; /* --pub */
	const struct mfs_signer *key; /* the new one, wherever it came from */
};

static bool
top_level(const char *role)
{
	return strcmp(role, "root") == 0 || strcmp(role, "targets") == 0 || strcmp(role, "snapshot") == 0 ||
		strcmp(role, "timestamp") == 0;
}

/* The id of the key to replace, copied: the role's only one, or the one that --old names. */
static enum mfs_code
old_find(const struct request *r, const char *role, char out[65], struct mfs_err *err)
{
	unsigned threshold;
	const json_t *ids = mfs_repo_keyids(r->c.repo, role, &threshold);
	size_t found = 0;

	for (size_t i = 0; i < json_array_size(ids); i++) {
		const char *id = json_string_value(json_array_get(ids, i));

		if (r->old != NULL && (strlen(r->old) < 8 || strncmp(id, r->old, strlen(r->old)) != 0))
			continue;
		found++;
		(void)snprintf(out, 65, "%s", id);
	}
	if (found == 1)
		return MFS_OK;
	if (r->old != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--old %s: %zu keys of %s begin so", MFS_ESC(r->old), found, MFS_ESC(role));
	return mfs_fail(err, MFS_CONFIG_INVALID, "%s has %zu keys: name the one to replace with --old, or use 'modelpub metadata "
		"stage'", MFS_ESC(role), json_array_size(ids));
}

static enum mfs_code
replace(struct request *r, const char *role, struct mfs_err *err)
{
	char old[65], new[65];
	json_t *body;
	enum mfs_code code;

	if ((code = old_find(r, role, old, err)) != MFS_OK || (code = mfs_md_key(r->key, NULL, new, err)) != MFS_OK)
		return code;
	if (strcmp(old, new) == 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: the new key is the old one", MFS_ESC(role));
	if ((code = mfs_repo_edit(r->c.repo, top_level(role) ? "root" : "targets", &body, err)) != MFS_OK ||
		(code = mfs_repo_key_add(r->c.repo, role, r->key, err)) != MFS_OK ||
		(code = mfs_repo_key_remove(r->c.repo, role, old, err)) != MFS_OK)
		return code;
	(void)printf("%s: key %.16s... in the place of %.16s...\n", MFS_ESC(role), new, old);
	/* What the new key has to sign: timestamp is signed anyway. */
	return mfs_repo_touch(r->c.repo, role, err);
}

/* "release": of every model. */
static enum mfs_code
replace_all(struct request *r, struct mfs_err *err)
{
	const json_t *roles = json_object_get(json_object_get(mfs_md_signed(r->c.repo->targets.doc), "delegations"), "roles");
	const size_t len = strlen(r->role);
	enum mfs_code code;
	size_t n = 0;

	if (top_level(r->role) || mfs_repo_delegates(r->c.repo, r->role))
		return replace(r, r->role, err);
	for (size_t i = 0; i < json_array_size(roles); i++) {
		const char *name = json_string_value(json_object_get(json_array_get(roles, i), "name"));

		if (name == NULL || strncmp(name, r->role, len) != 0 || name[len] != '.')
			continue;
		if ((code = replace(r, name, err)) != MFS_OK)
			return code;
		n++;
	}
	return n > 0 ? MFS_OK : mfs_fail(err, MFS_CONFIG_INVALID, "%s: the repository has no such role", MFS_ESC(r->role));
}

/* Keys of the others are at hand before a new one is made. */
static enum mfs_code
others_check(struct request *r, struct mfs_err *err)
{
	const char *need[4];
	size_t n = 0;

	need[n++] = top_level(r->role) ? "root" : "targets";
	if (strcmp(r->role, "timestamp") != 0 && strcmp(r->role, "snapshot") != 0 && strcmp(r->role, "root") != 0)
		need[n++] = "snapshot";
	if (strcmp(r->role, "timestamp") != 0)
		need[n++] = "timestamp";
	need[n] = NULL;
	return mfs_repocmd_need(&r->c, need, err);
}

static enum mfs_code
key_get(struct request *r, struct mfs_err *err)
{
	struct mfs_signer *made;
	enum mfs_code code;

	if (r->pub != NULL) {
		if ((code = mfs_signer_load_public(r->pub, &r->public, err)) == MFS_OK)
			r->key = r->public;
		return code;
	}
	if ((code = mfs_keyring_make(r->c.ring, r->role, r->type, &made, err)) == MFS_OK)
		r->key = made;
	return code;
}

static enum mfs_code
rotate(struct request *r, const char *repo, struct mfs_err *err)
{
	enum mfs_code code;

	if ((code = mfs_repocmd_open(&r->c, repo, false, err)) != MFS_OK || (code = others_check(r, err)) != MFS_OK ||
		(code = key_get(r, err)) != MFS_OK)
		return code;
	if ((code = replace_all(r, err)) == MFS_OK)
		code = mfs_repocmd_commit(&r->c, err);
	/* A key that nothing was signed with yet: a repository may list it only if commit got to its end. */
	if (code != MFS_OK && r->public == NULL && code != MFS_IO && code != MFS_INSUFFICIENT_STORAGE)
		(void)unlink(mfs_signer_name(r->key));
	return code;
}

static int
run(struct request *r, const char *repo)
{
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];

	if (rotate(r, repo, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	if (r->public == NULL)
		(void)printf("new key: %s\n", MFS_ESC(mfs_signer_name(r->key)));
	(void)printf("rotated: %s, in %s\n", MFS_ESC(r->role), mfs_repocmd_where(&r->c, where));
	return mfs_finish("rotate");
}

static void
request_clear(struct request *r)
{
	mfs_signer_free(r->public);
	mfs_repocmd_clear(&r->c);
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct request *r = user;

	switch (opt) {
	case OPT_PUB:
		r->pub = arg;
		break;
	case OPT_OLD:
		r->old = arg;
		break;
	case OPT_TYPE:
		if (!mfs_signer_type_from_name(arg, &r->type))
			return mfs_usage("rotate", "--type %s: want ed25519 or ecdsa-p256", MFS_ESC(arg));
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_rotate(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .type = MFS_SIGNER_ED25519 };
	int done;

	mfs_repocmd_init(&r.c, "rotate", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind + 2 != argc)
		return mfs_usage("rotate", "want REPO and ROLE");
	r.role = argv[optind + 1];
	if (mfs_life_of(r.role) == MFS_LIFE_RELEASE && strncmp(r.role, "release", 7) != 0)
		return mfs_usage("rotate", "'%s' is no role: want root, targets, snapshot, timestamp, release or policy",
			MFS_ESC(r.role));
	return run(&r, argv[optind]);
}
