/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub init: an empty repository, and the role keys that are missing. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd_repo.h"
#include "io.h"
#include "trustfile.h"

static const char help_text[] =
	"usage: modelpub init REPO --keys KEYDIR [--trust FILE.pub.pem ...] [options]\n"
	"\n"
	"Make an empty repository in the folder REPO and, in KEYDIR, each role key that is missing. Keys that\n"
	"are there are used; nothing is ever overwritten. KEYDIR/root.json is what devices trust.\n"
	"\n"
	"  --trust FILE         a public key that may sign models, for trust.json (repeatable; default: KEYDIR's\n"
	"                       *.pub.pem that are named after no role, unless --root-pub is given; 'modelpub trust'\n"
	"                       adds more later)\n"
	"  --root-pub FILE      public root key of another holder (repeatable; then --stage, and each holder signs)\n"
	"  --root-threshold N   so many root keys must sign (default 1)\n"
	"  --type TYPE          of new keys: ed25519 (default) or ecdsa-p256\n" MFS_REPO_HELP_KEYS
	"  --stage DIR          write DIR for 'modelpub metadata sign|commit', which make REPO\n" MFS_REPO_HELP_REST;

enum { OPT_TRUST = MFS_OPT_OTHER, OPT_ROOT_PUB, OPT_THRESHOLD, OPT_TYPE };

static const struct option options[] = { { "trust", required_argument, NULL, OPT_TRUST },
	{ "root-pub", required_argument, NULL, OPT_ROOT_PUB }, { "root-threshold", required_argument, NULL, OPT_THRESHOLD },
	{ "type", required_argument, NULL, OPT_TYPE }, MFS_REPO_OPTIONS };

struct request {
	struct mfs_repocmd c;
	struct mfs_args trust, root_pubs;
	int64_t threshold;
	enum mfs_signer_type type;
};

static void
request_clear(struct request *r)
{
	mfs_args_free(&r->trust);
	mfs_args_free(&r->root_pubs);
	mfs_repocmd_clear(&r->c);
}

/* The newest key of a role, made when there is none. */
static enum mfs_code
role_key(struct request *r, const char *role, struct mfs_signer **out, struct mfs_err *err)
{
	struct mfs_signer *const *keys;
	enum mfs_code code;
	size_t n;

	if ((code = mfs_keyring_find(r->c.ring, role, &keys, &n, err)) != MFS_OK)
		return code;
	if (n > 0) {
		*out = keys[0];
		return MFS_OK;
	}
	if ((code = mfs_keyring_make(r->c.ring, role, r->type, out, err)) == MFS_OK)
		(void)printf("new key: %s\n", MFS_ESC(mfs_signer_name(*out)));
	return code;
}

static enum mfs_code
root_keys(struct request *r, struct mfs_err *err)
{
	json_t *keys, *slot = mfs_repo_slot(r->c.repo, "root", &keys);
	struct mfs_signer *s;
	enum mfs_code code;
	size_t have;

	for (size_t i = 0; i < r->root_pubs.n; i++) {
		MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *public = NULL;

		if ((code = mfs_signer_load_public(r->root_pubs.v[i], &public, err)) != MFS_OK ||
			(code = mfs_repo_key_add(r->c.repo, "root", public, err)) != MFS_OK)
			return code;
	}
	/* With holders named, the root key of this folder counts only if it is one of them. */
	if (r->root_pubs.n == 0 && ((code = role_key(r, "root", &s, err)) != MFS_OK ||
					   (code = mfs_repo_key_add(r->c.repo, "root", s, err)) != MFS_OK))
		return code;
	have = json_array_size(json_object_get(slot, "keyids"));
	if ((uint64_t)r->threshold > have)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--root-threshold %lld with %zu root keys", (long long)r->threshold, have);
	if (json_object_set_new(slot, "threshold", json_integer(r->threshold)) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "root");
	return MFS_OK;
}

static enum mfs_code
keys_fill(struct request *r, struct mfs_err *err)
{
	static const char *const online[] = { "targets", "snapshot", "timestamp" }, *const later[] = { "release", "policy" };
	struct mfs_signer *s;
	enum mfs_code code;

	if ((code = root_keys(r, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < sizeof(online) / sizeof(online[0]); i++)
		if ((code = role_key(r, online[i], &s, err)) != MFS_OK ||
			(code = mfs_repo_key_add(r->c.repo, online[i], s, err)) != MFS_OK)
			return code;
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		if ((code = role_key(r, later[i], &s, err)) != MFS_OK)
			return code;
	return MFS_OK;
}

/* trust.json from --trust, else from what lies in KEYDIR. */
static enum mfs_code
trust_fill(struct request *r, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	enum mfs_code code;

	if ((code = mfs_trustlist_new(&list, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < r->trust.n; i++)
		if ((code = mfs_trustfile_add(list, r->trust.v[i], 1, NULL, err)) != MFS_OK)
			return code;
	/* With holders named, public keys in the folder may be theirs. */
	if (r->trust.n == 0 && r->root_pubs.n == 0 && (code = mfs_trustfile_folder(list, r->c.keys, err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < list->n_keys; i++)
		(void)printf("trusted to sign models: %s\n", MFS_HEX(&list->keys[i].key_id));
	if (list->n_keys == 0)
		mfs_repocmd_note(&r->c, "trust.json lists no key that signs models yet: devices go by their own "
			"configuration; 'modelpub trust REPO FILE.pub.pem' adds one");
	return mfs_trustfile_store(r->c.repo, list, err);
}

/* KEYDIR/root.json */
static enum mfs_code
pin_path(const struct request *r, char **out, struct mfs_err *err)
{
	if (asprintf(out, "%s/root.json", r->c.keys) >= 0)
		return MFS_OK;
	*out = NULL;
	return mfs_fail(err, MFS_NO_MEMORY, "root.json");
}

/* A root.json of a repository with other root keys would make this one unreadable with this folder. */
static enum mfs_code
pin_check(const struct request *r, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autofree char *path = NULL;
	mfs_autojson json_t *doc = NULL;
	enum mfs_code code;
	json_t *keys;
	size_t len;

	if ((code = pin_path(r, &path, err)) != MFS_OK)
		return code;
	if ((code = mfs_file_read(AT_FDCWD, path, MFS_TUF_ROOT_MAX, &bytes, &len, err)) != MFS_OK)
		return err->sys_errno == ENOENT ? MFS_OK : code;
	if ((code = mfs_md_parse(path, MFS_SPAN(bytes, len), MFS_TUF_ROOT_MAX, &doc, err)) != MFS_OK)
		return code;
	if (mfs_md_version(doc) != 1 || !json_equal(json_object_get(json_object_get(mfs_md_signed(doc), "roles"), "root"),
						mfs_repo_slot(r->c.repo, "root", &keys)))
		return mfs_fail(err, MFS_IO, "%s: belongs to a repository with other root keys; use one folder of keys for each, "
			"or move it away", MFS_ESC(path));
	return MFS_OK;
}

/* What devices start from, beside the keys, never overwritten. */
static enum mfs_code
root_copy(const struct request *r, struct mfs_err *err)
{
	mfs_autofree uint8_t *bytes = NULL;
	mfs_autofree char *path = NULL;
	enum mfs_code code;
	size_t len;

	if (r->c.out != NULL || r->c.stage != NULL)
		return MFS_OK;
	if ((code = pin_path(r, &path, err)) != MFS_OK ||
		(code = mfs_file_read(r->c.repo->fd, "metadata/1.root.json", MFS_TUF_ROOT_MAX, &bytes, &len, err)) != MFS_OK)
		return code;
	if (access(path, F_OK) != 0 && (code = mfs_file_create(path, bytes, len, 0644, err)) != MFS_OK)
		return code;
	(void)printf("for devices: trust: {root: %s}\n", MFS_ESC(path));
	return MFS_OK;
}

static int
run(struct request *r, const char *repo)
{
	struct mfs_err err = MFS_ERR_INIT;
	char where[512];

	if (mfs_repocmd_open(&r->c, repo, true, &err) != MFS_OK || keys_fill(r, &err) != MFS_OK ||
		pin_check(r, &err) != MFS_OK || trust_fill(r, &err) != MFS_OK ||
		mfs_lifetimes_keep(r->c.repo, &r->c.life, &err) != MFS_OK || mfs_repocmd_commit(&r->c, &err) != MFS_OK ||
		root_copy(r, &err) != MFS_OK)
		return mfs_repocmd_fail(&r->c, &err);
	(void)printf("initialised: %s\n", mfs_repocmd_where(&r->c, where));
	return mfs_finish("init");
}

static int
option_take(void *user, int opt, const char *arg)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct request *r = user;

	switch (opt) {
	case OPT_TRUST:
	case OPT_ROOT_PUB:
		if (mfs_args_add(opt == OPT_TRUST ? &r->trust : &r->root_pubs, arg, &err) != MFS_OK)
			return mfs_repocmd_fail(&r->c, &err);
		break;
	case OPT_THRESHOLD:
		if (!mfs_parse_int(arg, 1, MFS_TUF_KEYS_MAX, &r->threshold))
			return mfs_usage("init", "--root-threshold %s: want 1 to %u", MFS_ESC(arg), MFS_TUF_KEYS_MAX);
		break;
	case OPT_TYPE:
		if (!mfs_signer_type_from_name(arg, &r->type))
			return mfs_usage("init", "--type %s: want ed25519 or ecdsa-p256", MFS_ESC(arg));
		break;
	default:
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

int
mfs_cmd_init(int argc, char **argv)
{
	MFS_CLEANUP(request_clear) struct request r = { .threshold = 1, .type = MFS_SIGNER_ED25519 };
	int done;

	mfs_repocmd_init(&r.c, "init", argc, argv);
	if ((done = mfs_repocmd_parse(&r.c, options, help_text, option_take, &r)) != MFS_PARSED)
		return done;
	if (optind + 1 != argc)
		return mfs_usage("init", "want exactly one REPO");
	if (r.c.out != NULL)
		return mfs_usage("init", "--out is for changes: upload the whole folder of a new repository");
	if (r.c.keys == NULL)
		return mfs_usage("init", "--keys is missing: where role keys lie, or are made");
	return run(&r, argv[optind]);
}
