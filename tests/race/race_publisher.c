/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pack and verify on several threads; for the thread sanitizer, which does not start under
 * Criterion. Exits 1 when something fails; the sanitizer reports races.
 */
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gate.h"
#include "io.h"
#include "lanes.h"
#include "pack.h"

#define BATCHES 12

static int
die(const char *what, const struct mfs_err *err)
{
	(void)fprintf(stderr, "race_publisher: %s: %s\n", what, err->msg);
	return 1;
}

static int
input_make(void)
{
	mfs_autofree uint8_t *buf = malloc(MFS_LANE_BATCH);
	mfs_autoclose int fd = open("f", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (buf == NULL || fd < 0)
		return -1;
	for (unsigned i = 0; i < BATCHES; i++) {
		for (size_t k = 0; k < MFS_LANE_BATCH; k++)
			buf[k] = (uint8_t)(k * 31 + i);
		if (i != 5 && mfs_pwrite_full(fd, buf, MFS_LANE_BATCH, (off_t)i * MFS_LANE_BATCH) != 0) /* 5: a hole */
			return -1;
	}
	return 0;
}

static int
pack_and_verify(const struct mfs_inputs *in, struct mfs_signer *signer, const struct mfs_key *model_key, const char *out)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL, *verified = NULL;
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *trust = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_signer *const keys[] = { signer };
	const struct mfs_pack p = {
		.model_id = "m", .version = "1.0.0", .variant = "default", .release = 1, .key_epoch = 1, .keys = keys,
		.n_keys = 1, .sign = true, .model_keys = model_key, .n_model_keys = model_key != NULL ? 1 : 0,
		.inputs = in, .out = out,
	};
	struct mfs_sha256 id;
	int fd;

	if (mfs_pack(&p, &m, &err) != MFS_OK || mfs_trust_new(&trust, &err) != MFS_OK ||
		mfs_trust_add_pem(trust, "key", mfs_signer_public_pem(signer), 1, NULL, &err) != MFS_OK ||
		mfs_gate_verify(out, trust, 1, true, NULL, NULL, &verified, &id, &err) != MFS_OK)
		return die(out, &err);
	mfs_cleanup_manifest(&verified);
	/* A failure in the middle: the workers stop one another. */
	if (chdir(out) != 0 || (fd = open("payload/f", O_WRONLY | O_CLOEXEC)) < 0)
		return 1;
	if (mfs_pwrite_full(fd, "\xff", 1, 7 * MFS_LANE_BATCH + 12345) != 0 || close(fd) != 0 || chdir("..") != 0)
		return 1;
	if (mfs_gate_verify(out, trust, 1, true, NULL, NULL, &verified, &id, &err) != MFS_HASH_MISMATCH)
		return die("a changed byte was not refused", &err);
	return 0;
}

static void
tree_remove(char *path)
{
	char *const roots[] = { path, NULL };
	FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	const FTSENT *e;

	while (f != NULL && (e = fts_read(f)) != NULL)
		if (e->fts_info != FTS_D)
			(void)remove(e->fts_accpath);
	if (f != NULL)
		(void)fts_close(f);
}

int
main(void)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *signer = NULL;
	mfs_autoinputs struct mfs_inputs in = { 0 };
	const struct mfs_key model_key = { { 42 } };
	struct mfs_err err = MFS_ERR_INIT;
	const char *tmp = getenv("TMPDIR");
	char root[256], *args[] = { (char[]){ "f" } };
	int rc = 1;

	if (snprintf(root, sizeof(root), "%s/race-publisher-XXXXXX", tmp != NULL ? tmp : "/tmp") >= (int)sizeof(root) ||
		mkdtemp(root) == NULL || chdir(root) != 0)
		return 1;
	if (input_make() != 0 || mfs_inputs_gather(args, 1, NULL, NULL, &in, &err) != MFS_OK ||
		mfs_signer_generate(MFS_SIGNER_ED25519, "test key", &signer, &err) != MFS_OK)
		(void)die("setup", &err);
	else
		rc = pack_and_verify(&in, signer, &model_key, "encrypted") | pack_and_verify(&in, signer, NULL, "plain");
	tree_remove(root);
	return rc;
}
