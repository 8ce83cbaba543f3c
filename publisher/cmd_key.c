/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub key: a signing key pair, or a model key. */
#include <getopt.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "signer.h"

static const char help_text[] =
	"usage: modelpub key --out FILE.pem [--type ed25519|ecdsa-p256] [--passout file:PATH|env:NAME]\n"
	"       modelpub key --model-key --out FILE.bin\n"
	"\n"
	"Make a release signing key (FILE.pem, mode 0600, and FILE.pub.pem for devices) and print its\n"
	"key id; or a model key, 32 random bytes that devices need to decrypt (mode 0600), and print its id.\n"
	"Nothing is ever overwritten.\n"
	"\n"
	"  --out FILE         where to write\n"
	"  --type TYPE        ed25519 (default) or ecdsa-p256\n"
	"  --passout SOURCE   encrypt FILE.pem with a pass phrase\n"
	"  --model-key        make a model key\n"
	"  --help             this text\n";

enum { OPT_OUT = MFS_OPT_OTHER, OPT_TYPE, OPT_PASSOUT, OPT_MODEL_KEY };

static const struct option options[] = {
	{ "out", required_argument, NULL, OPT_OUT },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "passout", required_argument, NULL, OPT_PASSOUT },
	{ "model-key", no_argument, NULL, OPT_MODEL_KEY },
	{ "help", no_argument, NULL, MFS_OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static enum mfs_code
model_key_make(const char *out, struct mfs_err *err)
{
	struct mfs_sha256 id = { { 0 } };
	struct mfs_key key;
	enum mfs_code code = MFS_OK;

	if (RAND_priv_bytes(key.b, MFS_KEY_LEN) != 1)
		return mfs_fail(err, MFS_INTERNAL, "no random bytes");
	if ((code = mfs_model_key_id(&key, &id, err)) == MFS_OK)
		code = mfs_file_create(out, key.b, MFS_KEY_LEN, 0600, err);
	mfs_key_wipe(&key);
	if (code == MFS_OK)
		(void)printf("%s\n", MFS_HEX(&id));
	return code;
}

/* "release.pem" -> "release.pub.pem", "release" -> "release.pub.pem" */
static char *
public_name(const char *out)
{
	size_t len = strlen(out);
	char *name;

	if (len > 4 && strcmp(out + len - 4, ".pem") == 0)
		len -= 4;
	return asprintf(&name, "%.*s.pub.pem", (int)len, out) < 0 ? NULL : name;
}

static enum mfs_code
signing_key_make(const char *out, enum mfs_signer_type type, const char *passout, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *s = NULL;
	mfs_autofree char *public = public_name(out);
	char *pem = NULL, pass[1024] = { 0 };
	struct mfs_span pub;
	enum mfs_code code;
	size_t len = 0;

	if (public == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(out));
	if (access(public, F_OK) == 0) {
		errno = EEXIST;
		(void)mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(public));
		return mfs_err_hint(err, "; it is never overwritten, choose another name");
	}
	if (passout != NULL && (code = mfs_passin_read(passout, pass, sizeof(pass), err)) != MFS_OK)
		return code;
	if (passout != NULL && pass[0] == '\0')
		return mfs_fail(err, MFS_CONFIG_INVALID, "--passout %s: empty", MFS_ESC(passout));
	if ((code = mfs_signer_generate(type, out, &s, err)) == MFS_OK &&
		(code = mfs_signer_private_pem(s, passout != NULL ? pass : NULL, &pem, &len, err)) == MFS_OK)
		code = mfs_file_create(out, pem, len, 0600, err);
	explicit_bzero(pass, sizeof(pass));
	mfs_secret_free(pem, len);
	if (code != MFS_OK)
		return code;
	pub = mfs_signer_public_pem(s);
	if ((code = mfs_file_create(public, pub.p, pub.len, 0644, err)) != MFS_OK) {
		(void)unlink(out);
		return code;
	}
	(void)printf("%s\n", MFS_HEX(mfs_signer_key_id(s)));
	return MFS_OK;
}

int
mfs_cmd_key(int argc, char **argv)
{
	const char *out = NULL, *passout = NULL, *type_name = NULL;
	enum mfs_signer_type type = MFS_SIGNER_ED25519;
	struct mfs_err err = MFS_ERR_INIT;
	bool model_key = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case OPT_OUT:
			out = optarg;
			break;
		case OPT_TYPE:
			type_name = optarg;
			break;
		case OPT_PASSOUT:
			passout = optarg;
			break;
		case OPT_MODEL_KEY:
			model_key = true;
			break;
		case MFS_OPT_HELP:
			(void)fputs(help_text, stdout);
			return mfs_finish("key");
		default:
			return MFS_EXIT_USAGE;
		}
	}
	if (type_name != NULL && !mfs_signer_type_from_name(type_name, &type))
		return mfs_usage("key", "--type %s: want ed25519 or ecdsa-p256", MFS_ESC(type_name));
	if (optind < argc)
		return mfs_usage("key", "'%s' is not expected", MFS_ESC(argv[optind]));
	if (out == NULL || out[0] == '\0')
		return mfs_usage("key", "--out is missing");
	if (model_key && (type_name != NULL || passout != NULL))
		return mfs_usage("key", "--model-key takes neither --type nor --passout");
	if ((model_key ? model_key_make(out, &err) : signing_key_make(out, type, passout, &err)) != MFS_OK)
		return mfs_report("key", NULL, &err);
	return mfs_finish("key");
}
