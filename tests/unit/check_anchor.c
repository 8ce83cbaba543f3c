/* SPDX-License-Identifier: Apache-2.0 */
#include "verify_help.h"

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B64 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define VREF(h, v, r) "{\"key_epoch\":1,\"manifest\":\"" h "\",\"release\":" r ",\"variant\":\"default\",\"version\":\"" v "\"}"

static const char full[] =
	"{\"format\":\"modelfs-anchor/1.3\",\"later\":{\"x\":[1,2]},\"models\":{"
	"\"det\":{\"active\":" VREF(A64, "1.1.0", "2") ",\"bad\":[{\"manifest\":\"" B64 "\",\"why\":\"health_check_failed\"}],"
	"\"floor\":{\"key_epoch\":1,\"manifest\":\"" A64 "\",\"release\":2},\"known\":[" VREF(A64, "1.1.0", "2") ","
	VREF(B64, "1.0.0", "1") "],\"min_key_epoch\":0,\"min_release\":1,\"model_id\":\"det\",\"policy\":{\"enforce\":\"withdraw\",\"highest_minimum\":{\"key_epoch\":1,\"release\":3},"
	"\"issued\":1700000000,\"later\":1,\"revoked\":["
	"{\"action\":\"rollback\",\"manifest_sha256\":\"" B64 "\",\"otherwise\":\"keep\",\"reason\":\"drifts\","
	"\"rollback_to\":{\"manifest_sha256\":\"" A64 "\",\"release\":2,\"variant\":\"default\",\"version\":\"1.1.0\"}},"
	"{\"action\":\"withdraw\",\"reason\":\"leaks\",\"version\":\"1.0.1\"}],\"sequence\":7,\"sha256\":\"" A64 "\"},"
	"\"previous\":" VREF(B64, "1.0.0", "1") ",\"retained\":[" VREF(B64, "1.0.0", "1") "],\"revoked\":[\"" B64 "\"],"
	"\"soon\":true},"
	"\"det-beta\":{\"bad\":[],\"known\":[],\"min_key_epoch\":0,\"min_release\":0,\"model_id\":\"det\",\"retained\":[],"
	"\"revoked\":[]}},\"repositories\":{\"default\":{\"root\":{\"sha256\":\"" A64 "\",\"version\":3},"
	"\"snapshot\":{\"sha256\":\"" B64 "\",\"version\":41},\"soon\":1,\"targets\":{\"sha256\":\"" A64 "\",\"version\":5},"
	"\"trust\":[]},\"mirror\":{}}}";

Test(anchor, every_field_survives_a_round_trip)
{
	struct mfs_anchor *a, *b;
	const struct mfs_anchor_model *m;
	char *out;
	size_t len;

	expect(MFS_OK, mfs_anchor_parse(TEXT(full), &a, err));
	expect(MFS_OK, mfs_anchor_copy(a, &b, err));
	mfs_anchor_free(a);
	expect(MFS_OK, mfs_anchor_json(b, &out, &len, err));
	cr_assert_str_eq(out, full);
	cr_assert_eq(len, strlen(full));
	m = mfs_anchor_find(b, "det");
	cr_assert_not_null(m);
	cr_assert_str_eq(m->active.version, "1.1.0");
	cr_assert_eq(m->floor_release, 2);
	cr_assert_eq(m->n_known, 2);
	cr_assert_eq(m->bad[0].why, MFS_HEALTH_CHECK_FAILED);
	cr_assert_eq(m->n_revoked, 2);
	cr_assert_eq(m->policy_sequence, 7);
	cr_assert_eq(m->policy_issued, 1700000000);
	cr_assert(m->withdraw_below);
	cr_assert_eq(m->high_epoch, 1);
	cr_assert_eq(m->high_release, 3);
	cr_assert_str_eq(m->policy_extra_json, "{\"later\":1}");
	cr_assert_eq(b->n_repos, 2);
	cr_assert_eq(mfs_anchor_repo_find(b, "default")->snapshot.version, 41);
	cr_assert_str_eq(mfs_anchor_repo_find(b, "default")->trust_json, "[]");
	cr_assert_eq(mfs_anchor_repo_find(b, "mirror")->root.version, 0);
	cr_assert_null(mfs_anchor_repo_find(b, "none"));
	cr_assert_str_eq(m->extra_json, "{\"soon\":true}");
	cr_assert_str_eq(b->extra_json, "{\"later\":{\"x\":[1,2]}}");
	cr_assert_null(mfs_anchor_find(b, "none"));
	free(out);
	mfs_anchor_free(b);
}

/* full with one part replaced */
static enum mfs_code
with(const char *from, const char *to, struct mfs_err *err)
{
	const char *at = strstr(full, from);
	char text[4096];
	struct mfs_anchor *a;
	enum mfs_code code;

	cr_assert_not_null(at, "%s", from);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - full), full, to, at + strlen(from));
	code = mfs_anchor_parse(TEXT(text), &a, err);
	cr_assert((code == MFS_OK) == (a != NULL));
	mfs_anchor_free(a);
	return code;
}

Test(anchor, refusals)
{
	expect_says(MFS_MALFORMED, "another major version", with("anchor/1.3", "anchor/2.0", err));
	expect(MFS_MALFORMED, with("anchor/1.3", "anchor/1.", err));
	expect(MFS_MALFORMED, with("anchor/1.3", "anchor/1.03", err));
	expect(MFS_MALFORMED, with("anchor/1.3", "anchor/1.3x", err));
	expect_says(MFS_MALFORMED, "models.det.min_release: missing", with("\"min_release\":1,", "", err));
	expect_says(MFS_MALFORMED, "models.det.active.release", with("\"release\":2", "\"release\":0", err));
	expect_says(MFS_MALFORMED, "models.det.floor.key_epoch", with("\"floor\":{\"key_epoch\":1", "\"floor\":{\"key_epoch\":-1", err));
	expect_says(MFS_MALFORMED, "models.det.bad[0].why: missing", with(",\"why\":\"health_check_failed\"", "", err));
	expect_says(MFS_MALFORMED, "models.det.known[1].manifest: the same", with(VREF(B64, "1.0.0", "1") "],\"min", VREF(A64, "1.0.0", "1") "],\"min", err));
	expect_says(MFS_MALFORMED, "models.det.model_id", with("\"model_id\":\"det\"", "\"model_id\":\"../x\"", err));
	expect_says(MFS_MALFORMED, "not a model's name", with("\"det-beta\"", "\"det/beta\"", err));
	expect_says(MFS_MALFORMED, "not canonical", with("{\"format\"", "{ \"format\"", err));
	expect_says(MFS_MALFORMED, "models: not an object", with("\"models\":{", "\"models\":1,\"models2\":{", err));
	expect(MFS_OK, with("health_check_failed", "an_outcome_of_the_future", err));
}

Test(anchor, truncated_anywhere)
{
	for (size_t n = 0; n < strlen(full); n++) {
		struct mfs_anchor *a;

		expect(MFS_MALFORMED, mfs_anchor_parse(MFS_SPAN(full, n), &a, err));
		cr_assert_null(a);
	}
}

Test(anchor, what_could_not_be_read_again_is_not_written)
{
	struct mfs_revocation *many = calloc(MFS_REVOKED_MAX + 1, sizeof(*many));
	struct mfs_anchor_model m = { .id = "det", .model_id = "det", .revoked = many, .n_revoked = MFS_REVOKED_MAX };
	struct mfs_anchor a = { .models = &m, .n_models = 1 }, *back;
	char *out;
	size_t len;

	for (unsigned i = 0; i <= MFS_REVOKED_MAX; i++) {
		many[i] = (struct mfs_revocation){ .action = MFS_ACTION_WITHDRAW, .reason = "r" };
		mfs_put_u32le(many[i].manifest.b, i + 1);
	}
	expect(MFS_OK, mfs_anchor_copy(&a, &back, err));
	cr_assert_eq(back->models[0].n_revoked, MFS_REVOKED_MAX);
	mfs_anchor_free(back);
	m.n_revoked++;
	expect_says(MFS_LIMIT_EXCEEDED, "4097 revoked", mfs_anchor_json(&a, &out, &len, err));
	cr_assert_null(out);
	free(many);
}

Test(anchor, add_keeps_the_order)
{
	static const char *const ids[] = { "m", "a", "z", "b", "M" };
	struct mfs_anchor_model *m;
	struct mfs_anchor *a;

	expect(MFS_OK, mfs_anchor_parse(TEXT("{\"format\":\"modelfs-anchor/1.0\",\"models\":{}}"), &a, err));
	for (size_t i = 0; i < 5; i++) {
		expect(MFS_OK, mfs_anchor_add(a, ids[i], "det", &m, err));
		cr_assert_str_eq(m->id, ids[i]);
	}
	for (size_t i = 1; i < a->n_models; i++)
		cr_assert_lt(strcmp(a->models[i - 1].id, a->models[i].id), 0);
	expect(MFS_INTERNAL, mfs_anchor_add(a, "m", "det", &m, err));
	expect(MFS_INTERNAL, mfs_anchor_add(a, "../m", "det", &m, err));
	cr_assert_eq(a->n_models, 5);
	mfs_anchor_free(a);
}

static void
memo_says_the_same(const struct mfs_anchor *a, struct mfs_memo *memo, const char *what, bool differs)
{
	static char before[16384];
	struct mfs_anchor *copy;
	char *fresh, *kept, *copied;
	size_t n, k;

	expect(MFS_OK, mfs_anchor_json(a, &fresh, &n, err));
	expect(MFS_OK, mfs_anchor_json_memo(a, memo, &kept, &k, err));
	cr_assert_eq(k, n, "%s", what);
	cr_assert_str_eq(kept, fresh, "%s", what);
	cr_assert_eq(differs, strcmp(before, fresh) != 0, "%s", what);
	expect(MFS_OK, mfs_anchor_copy(a, &copy, err));
	expect(MFS_OK, mfs_anchor_json_memo(copy, memo, &copied, &k, err));
	cr_assert_str_eq(copied, fresh, "%s: the copy lacks something", what);
	cr_assert_lt(n, sizeof(before));
	memcpy(before, fresh, n + 1);
	mfs_anchor_free(copy);
	free(fresh);
	free(kept);
	free(copied);
}

/* What is written never depends on what was written before: every field of a record counts. */
Test(anchor, a_changed_record_is_never_written_as_it_was)
{
	struct mfs_memo *memo = mfs_memo_new();
	struct mfs_anchor_model *m, *added;
	struct mfs_anchor *a;

	expect(MFS_OK, mfs_anchor_parse(TEXT(full), &a, err));
	m = mfs_anchor_find(a, "det");
	memo_says_the_same(a, memo, "first", true);
	memo_says_the_same(a, memo, "again", false);
#define CHANGE(what) do { what; memo_says_the_same(a, memo, #what, true); } while (0)
	CHANGE(m->model_id[0] = 'D');
	CHANGE(m->floor_epoch++);
	CHANGE(m->floor_release++);
	CHANGE(m->floor_manifest.b[3]++);
	CHANGE(m->active.manifest.b[31]++);
	CHANGE(m->active.version[0] = '2');
	CHANGE(m->active.variant[0] = 'D');
	CHANGE(m->active.release++);
	CHANGE(m->active.key_epoch++);
	CHANGE(m->previous.release++);
	CHANGE(m->retained[0].release++);
	CHANGE(m->known[1].manifest.b[1]++);
	CHANGE(m->n_known--);
	CHANGE(m->bad[0].manifest.b[1]++);
	CHANGE(m->bad[0].why = MFS_KNOWN_BAD);
	CHANGE(m->min_key_epoch = 1);
	CHANGE((m->high_release = 9));
	CHANGE(m->min_release++);
	CHANGE(m->withdraw_below = false);
	CHANGE(m->revoked[0].reason[0] = 'D');
	CHANGE(m->revoked[0].otherwise_withdraw = true);
	CHANGE(m->revoked[0].rollback_to.release++);
	CHANGE(m->revoked[1].version[0] = '3');
	CHANGE(m->revoked[1].action = MFS_ACTION_STOP);
	CHANGE(m->policy_sequence++);
	CHANGE(m->policy_sha256.b[0]++);
	CHANGE(m->policy_issued++);
	CHANGE(m->policy_extra_json[9] = '2');
	CHANGE((free(m->extra_json), m->extra_json = strdup("{\"soon\":1}")));
	CHANGE(mfs_anchor_repo_find(a, "default")->snapshot.version++);
	CHANGE(m->n_retained = 0);
	CHANGE(expect(MFS_OK, mfs_anchor_add(a, "det-alpha", "det", &added, err))); /* moves the records */
	CHANGE(mfs_anchor_find(a, "det-beta")->model_id[0] = 's');
	memo_says_the_same(a, memo, "and nothing more", false);
	mfs_memo_free(memo);
	mfs_anchor_free(a);
}

Test(anchor, records_out_of_order_are_not_written)
{
	struct mfs_anchor_model m[2] = { { .id = "b", .model_id = "det" }, { .id = "a", .model_id = "det" } };
	struct mfs_anchor a = { .models = m, .n_models = 2 };
	char *out;
	size_t len;

	expect(MFS_INTERNAL, mfs_anchor_json(&a, &out, &len, err));
	cr_assert_null(out);
}
