/* SPDX-License-Identifier: Apache-2.0 */
/* Targets from anywhere, as if they were trusted: a search through them ends and stays within its limits. */
#include "tuf_fuzz.h"

static const char root_text[] = "{\"signatures\":[],\"signed\":{\"_type\":\"root\",\"spec_version\":\"1.0\",\"version\":1,"
	"\"expires\":\"2030-01-01T00:00:00Z\",\"consistent_snapshot\":true,\"keys\":{},\"roles\":{"
	"\"root\":{\"keyids\":[],\"threshold\":1},\"timestamp\":{\"keyids\":[],\"threshold\":1},"
	"\"snapshot\":{\"keyids\":[],\"threshold\":1},\"targets\":{\"keyids\":[],\"threshold\":1}}}}";
static const char snapshot_text[] = "{\"signatures\":[],\"signed\":{\"_type\":\"snapshot\",\"spec_version\":\"1.0\",\"version\":1,"
	"\"expires\":\"2030-01-01T00:00:00Z\",\"meta\":{\"targets.json\":{\"version\":1},\"release.det.json\":{\"version\":1},"
	"\"bin-05a.json\":{\"version\":1}}}}";

/* The search, with the input itself as whatever it asks for. */
static void
look(struct mfs_tuf *t, const char *path, const uint8_t *data, size_t size)
{
	struct mfs_tuf_target target;
	struct mfs_tuf_want want;

	if (mfs_tuf_find(t, path, NULL) != MFS_OK)
		return;
	for (unsigned i = 0; i <= MFS_TUF_VISITED_MAX; i++) {
		if (mfs_tuf_next(t, &want, NULL) != MFS_OK)
			return;
		if (want.name == NULL) {
			if (mfs_tuf_found(t, &target) && (target.name[0] == '\0' || (!target.has_sha256 && !target.has_sha512)))
				abort();
			return;
		}
		if (want.cap > MFS_TUF_TARGETS_MAX || strchr(want.name, '/') != NULL)
			abort();
		if (mfs_tuf_feed(t, MFS_TUF_BYTES, MFS_SPAN(data, size), NULL) != MFS_OK)
			return;
	}
	abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const paths[] = { "x", "det/policy.json", "det/b/c", "no/such" };
	struct mfs_tuf_doc *d = fuzz_doc(MFS_TUF_TARGETS, data, size);
	struct mfs_tuf *t;

	if (d == NULL || (t = calloc(1, sizeof(*t))) == NULL) {
		mfs_tuf_doc_free(d);
		return 0;
	}
	for (size_t i = 0; i < d->n_delegations; i++)
		fuzz_signers(d, &d->delegations[i].signers);
	t->opt.now = 1800000000;
	t->state = MFS_TUF_READY;
	t->role[MFS_TUF_TARGETS] = d;
	if (mfs_tuf_doc_parse("root", MFS_TUF_ROOT, MFS_SPAN(root_text, sizeof(root_text) - 1), &t->role[MFS_TUF_ROOT], NULL) !=
			MFS_OK ||
		mfs_tuf_doc_parse("snapshot", MFS_TUF_SNAPSHOT, MFS_SPAN(snapshot_text, sizeof(snapshot_text) - 1),
			&t->role[MFS_TUF_SNAPSHOT], NULL) != MFS_OK)
		abort();
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		look(t, paths[i], data, size);
	mfs_tuf_free(t);
	return 0;
}
