/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub verify: a release gate with public keys alone. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "gate.h"
#include "io.h"

static const char help_text[] =
	"usage: modelpub verify --pub FILE.pub.pem [--pub ...] [--threshold N] [--key-epoch N] [--quiet] BUNDLE\n"
	"\n"
	"Check signatures, manifest, every byte of payloads and chunk tables, sizes and surplus files.\n"
	"Exit 0 only if all of it holds, 3 if the bundle is refused.\n"
	"\n"
	"  --pub FILE       a public key that may have signed (repeatable)\n"
	"  --threshold N    so many of these keys must have signed (default 1)\n"
	"  --key-epoch N    epoch of these keys (default 1)\n"
	"  --quiet          no progress bar\n"
	"  --help           this text\n";

enum { OPT_PUB = MFS_OPT_OTHER, OPT_THRESHOLD, OPT_EPOCH, OPT_QUIET };

static const struct option options[] = {
	{ "pub", required_argument, NULL, OPT_PUB },
	{ "threshold", required_argument, NULL, OPT_THRESHOLD },
	{ "key-epoch", required_argument, NULL, OPT_EPOCH },
	{ "quiet", no_argument, NULL, OPT_QUIET },
	{ "help", no_argument, NULL, MFS_OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static void
note_other(void *arg, const char *name)
{
	(void)fprintf(stderr, "modelpub verify: %s: ignored, not part of the bundle: %s\n", MFS_ESC((const char *)arg),
		MFS_ESC(name));
}

static enum mfs_code
trust_fill(struct mfs_trust *trust, const struct mfs_args *pubs, int64_t epoch, struct mfs_err *err)
{
	for (size_t i = 0; i < pubs->n; i++) {
		mfs_autofree uint8_t *pem = NULL;
		enum mfs_code code;
		size_t len;

		if ((code = mfs_file_read(AT_FDCWD, pubs->v[i], 64u << 10, &pem, &len, err)) != MFS_OK ||
			(code = mfs_trust_add_pem(trust, pubs->v[i], MFS_SPAN(pem, len), epoch, NULL, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static int
verify(char *bundle, const struct mfs_args *pubs, int64_t threshold, int64_t epoch, bool quiet)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 key_id;
	char suffix[128];

	if (mfs_trust_new(&trust, &err) != MFS_OK || trust_fill(trust, pubs, epoch, &err) != MFS_OK)
		return mfs_report("verify", NULL, &err);
	if (mfs_gate_verify(bundle, trust, (unsigned)threshold, quiet, note_other, bundle, &m, &key_id, &err) != MFS_OK)
		return mfs_report("verify", bundle, &err);
	(void)snprintf(suffix, sizeof(suffix), ", signed by %s", MFS_HEX(&key_id));
	mfs_print_summary(m, "verified: ", suffix);
	return mfs_finish("verify");
}

int
mfs_cmd_verify(int argc, char **argv)
{
	mfs_autoargs struct mfs_args pubs = { 0 };
	int64_t threshold = 1, epoch = 1;
	struct mfs_err err = MFS_ERR_INIT;
	bool quiet = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case OPT_PUB:
			if (mfs_args_add(&pubs, optarg, &err) != MFS_OK)
				return mfs_report("verify", NULL, &err);
			break;
		case OPT_THRESHOLD:
			if (!mfs_parse_int(optarg, 1, MFS_KEY_IDS_MAX, &threshold))
				return mfs_usage("verify", "--threshold %s: want 1 to %u", MFS_ESC(optarg), MFS_KEY_IDS_MAX);
			break;
		case OPT_EPOCH:
			if (!mfs_parse_int(optarg, 1, MFS_JSON_INT_MAX, &epoch))
				return mfs_usage("verify", "--key-epoch %s: want 1 or more", MFS_ESC(optarg));
			break;
		case OPT_QUIET:
			quiet = true;
			break;
		case MFS_OPT_HELP:
			(void)fputs(help_text, stdout);
			return mfs_finish("verify");
		default:
			return MFS_EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return mfs_usage("verify", "want exactly one BUNDLE");
	if (pubs.n == 0)
		return mfs_usage("verify", "--pub is missing: without a public key nothing can be verified");
	if ((uint64_t)threshold > pubs.n)
		return mfs_usage("verify", "--threshold %lld with %zu keys", (long long)threshold, pubs.n);
	return verify(argv[optind], &pubs, threshold, epoch, quiet);
}
