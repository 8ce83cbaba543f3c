/* SPDX-License-Identifier: Apache-2.0 */
/* The search of the TUF client: delegations, their order, their limits, and who may speak for a path. */
#include "tuf_repo.h"

TestSuite(tuf_find, .init = tuf_start, .fini = tuf_stop);

/* What the search asked for after the four top-level files of a device that has nothing. */
static const char *
asked(void)
{
	const char *p = r->log;

	for (int i = 0; i < 4 && p != NULL; i++) {
		p = strchr(p, ' ');
		p = p != NULL ? p + 1 : NULL;
	}
	return p != NULL ? p : "";
}

static void
publish_everything(void)
{
	for (size_t i = 4; i < r->n_roles; i++)
		publish(r, r->roles[i].name);
	publish_all(r, "targets snapshot timestamp");
}

static void
expect_order(const char *path, bool want, const char *order)
{
	bool found;

	expect(MFS_OK, search(r, path, &found, err));
	cr_assert_eq(found, want, "%s: found %d", path, found);
	cr_assert_str_eq(asked(), order);
}

/* ---- finding ---------------------------------------------------------------------------------------------------- */

Test(tuf_find, a_target_of_the_top_level_role)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	target_add(r, "targets", "dir/trust.json", "hello");
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "dir/trust.json", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	cr_assert_str_eq(target.path, "dir/trust.json");
	cr_assert_str_eq(target.role, "targets");
	cr_assert_str_eq(target.name, "dir/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824.trust.json");
	cr_assert(target.length == 5 && target.has_sha256 && !target.has_sha512);
	expect(MFS_OK, mfs_tuf_target_check(&target, TEXT("hello"), err));
	expect(MFS_HASH_MISMATCH, mfs_tuf_target_check(&target, TEXT("hellO"), err));
	expect(MFS_HASH_MISMATCH, mfs_tuf_target_check(&target, TEXT("hell"), err));
	expect(MFS_LIMIT_EXCEEDED, mfs_tuf_target_check(&target, TEXT("hello!"), err));
	expect(MFS_OK, mfs_tuf_find(t, "dir/other", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert_not(mfs_tuf_found(t, &target));
	mfs_tuf_free(t);
}

Test(tuf_find, without_consistent_snapshots_a_target_has_its_plain_name)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	json_object_set_new(role_of(r, "root")->body, "consistent_snapshot", json_false());
	publish(r, "root");
	target_add(r, "targets", "dir/a b%?#.bin", "hello");
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "dir/a b%?#.bin", err));
	cr_assert(mfs_tuf_found(t, &target));
	cr_assert_str_eq(target.name, "dir/a%20b%25%3F%23.bin");
	mfs_tuf_free(t);
}

Test(tuf_find, a_target_with_sha512_alone)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;
	char hex[129];

	memset(hex, 'a', 128);
	hex[128] = '\0';
	json_object_set_new(json_object_get(role_of(r, "targets")->body, "targets"), "x",
		json_pack("{s:i,s:{s:s,s:s}}", "length", 0, "hashes", "sha512", hex, "blake2b-256", "00"));
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "x", err));
	cr_assert(mfs_tuf_found(t, &target) && !target.has_sha256 && target.has_sha512);
	expect(MFS_HASH_MISMATCH, mfs_tuf_target_check(&target, TEXT(""), err));
	mfs_tuf_free(t);
}

Test(tuf_find, a_target_without_a_known_hash_is_refused)
{
	json_object_set_new(json_object_get(role_of(r, "targets")->body, "targets"), "x",
		json_pack("{s:i,s:{s:s}}", "length", 0, "hashes", "md5", "d41d8cd98f00b204e9800998ecf8427e"));
	publish_everything();
	expect_says(MFS_MALFORMED, "neither sha256 nor sha512", refresh(r, err));
}

Test(tuf_find, models_are_delegated_by_path)
{
	(void)delegate(r, "targets", "policy.det", "det/policy.json", true, NULL);
	(void)delegate(r, "targets", "release.det", "det/*/*/*", true, NULL);
	target_add(r, "policy.det", "det/policy.json", "{}");
	target_add(r, "release.det", "det/1.0.0/default/manifest.json", "{}");
	publish_everything();
	expect_order("det/policy.json", true, "1.policy.det.json");
	expect(MFS_OK, run(r, "det/1.0.0/default/manifest.json", err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 1.release.det.json");
	expect(MFS_OK, run(r, "det/1.0.0/default/manifest.json", err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
}

Test(tuf_find, a_role_cannot_speak_for_what_is_not_delegated_to_it)
{
	(void)delegate(r, "targets", "release.det", "det/*", true, NULL);
	(void)delegate(r, "targets", "release.seg", "seg/*", true, NULL);
	target_add(r, "release.det", "seg/model", "evil");
	target_add(r, "release.det", "det/sub/model", "evil too: '*' does not cross '/'");
	publish_everything();
	expect_order("seg/model", false, "1.release.seg.json");
	expect(MFS_OK, run(r, "det/sub/model", err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
}

Test(tuf_find, order_is_depth_first_in_order_of_appearance)
{
	(void)delegate(r, "targets", "A", "*", false, NULL);
	(void)delegate(r, "targets", "B", "*", false, NULL);
	(void)delegate(r, "A", "C", "*", false, NULL);
	(void)delegate(r, "C", "D", "*", false, NULL);
	(void)delegate(r, "A", "E", "*.py", false, NULL);
	publish_everything();
	expect_order("missing", false, "1.A.json 1.C.json 1.D.json 1.B.json");
}

Test(tuf_find, a_terminating_delegation_ends_the_search_behind_it)
{
	(void)delegate(r, "targets", "A", "*", false, NULL);
	(void)delegate(r, "targets", "B", "*", false, NULL);
	(void)delegate(r, "A", "C", "*", true, NULL);
	(void)delegate(r, "A", "D", "*", false, NULL);
	(void)delegate(r, "C", "E", "*", false, NULL);
	target_add(r, "B", "x", "never reached");
	publish_everything();
	expect_order("x", false, "1.A.json 1.C.json 1.E.json");
}

Test(tuf_find, the_first_role_that_names_the_path_wins)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	(void)delegate(r, "targets", "A", "*", false, NULL);
	(void)delegate(r, "targets", "B", "*", false, NULL);
	target_add(r, "A", "x", "of A");
	target_add(r, "B", "x", "of B");
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "x", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	expect(MFS_OK, mfs_tuf_target_check(&target, TEXT("of A"), err));
	mfs_tuf_free(t);
}

Test(tuf_find, a_cycle_ends)
{
	(void)delegate(r, "targets", "A", "*", false, NULL);
	(void)delegate(r, "A", "B", "*", false, NULL);
	(void)delegate(r, "B", "A", "*", false, NULL);
	(void)delegate(r, "B", "B", "*", false, NULL);
	publish_everything();
	expect_order("x", false, "1.A.json 1.B.json");
}

static void
chain(unsigned n)
{
	char name[16], above[16] = "targets";

	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(name, sizeof(name), "r%u", i);
		(void)delegate(r, above, name, "*", false, NULL);
		(void)snprintf(above, sizeof(above), "%s", name);
	}
	target_add(r, above, "x", "deep");
	publish_everything();
}

Test(tuf_find, thirty_two_roles_may_be_visited)
{
	bool found;

	chain(MFS_TUF_VISITED_MAX);
	expect(MFS_OK, search(r, "x", &found, err));
	cr_assert(found);
}

Test(tuf_find, the_thirty_third_role_is_not_visited)
{
	chain(MFS_TUF_VISITED_MAX + 1);
	expect_says(MFS_LIMIT_EXCEEDED, "32", run(r, "x", err));
	cr_assert_null(strstr(r->log, "r32"));
}

/* A role of 4 MiB. */
static void
fatten(const char *name)
{
	const size_t n = 4u << 20;
	mfs_autofree char *text = malloc(n);

	memset(text, 'x', n);
	cr_assert_eq(json_object_set_new(role_of(r, name)->body, "x", json_stringn(text, n)), 0);
}

Test(tuf_find, roles_of_hostile_size_end_a_search_before_memory_does)
{
	struct mfs_tuf *t;

	for (unsigned i = 0; i < 10; i++) {
		char name[16], above[16];

		(void)snprintf(name, sizeof(name), "r%u", i);
		(void)snprintf(above, sizeof(above), "r%u", i - 1);
		(void)delegate(r, i == 0 ? "targets" : above, name, "*", false, NULL);
		fatten(name);
	}
	target_add(r, "r9", "x", "deep");
	target_add(r, "targets", "y", "other");
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "x", err));
	expect_says(MFS_LIMIT_EXCEEDED, "bytes of roles", drive(r, t, err));
	cr_assert_null(strstr(r->log, "r9"));
	/* It concerns that path alone. */
	expect(MFS_OK, mfs_tuf_find(t, "y", err));
	expect(MFS_OK, drive(r, t, err));
	mfs_tuf_free(t);
}

static size_t
kept_bytes(const struct mfs_tuf *t)
{
	struct mfs_tuf_role role;
	size_t n = 0;

	for (size_t i = 0; mfs_tuf_role(t, i, &role); i++)
		n += role.name[0] == 'm' ? role.bytes.len : 0;
	return n;
}

Test(tuf_find, what_a_run_keeps_of_many_roles_is_bounded)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;
	char name[16], path[32];

	for (unsigned i = 0; i < 6; i++) {
		(void)snprintf(name, sizeof(name), "m%u", i);
		(void)snprintf(path, sizeof(path), "m%u/*", i);
		(void)delegate(r, "targets", name, path, true, NULL);
		fatten(name);
		(void)snprintf(path, sizeof(path), "m%u/x", i);
		target_add(r, name, path, "a");
	}
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	for (unsigned i = 0; i < 8; i++) { /* the first two again in the end */
		(void)snprintf(path, sizeof(path), "m%u/x", i % 6);
		expect(MFS_OK, mfs_tuf_find(t, path, err));
		expect(MFS_OK, drive(r, t, err));
		cr_assert(mfs_tuf_found(t, &target));
		cr_assert_leq(kept_bytes(t), MFS_TUF_KEPT_MAX + (5u << 20));
	}
	/* What was used last is still there. */
	r->log[0] = '\0';
	expect(MFS_OK, mfs_tuf_find(t, "m1/x", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert_str_eq(r->log, "");
	mfs_tuf_free(t);
}

/* ---- one role, two delegators ------------------------------------------------------------------------------------- */

static void
diamond(bool both)
{
	(void)delegate(r, "targets", "A", "a/*", false, NULL);
	(void)delegate(r, "targets", "B", "b/*", false, NULL);
	(void)delegate(r, "A", "C", "a/*", false, NULL);
	(void)delegate(r, "B", "C", "b/*", false, NULL);
	if (!both)
		role_of(r, "C")->n_signers = 1;
	target_add(r, "C", "a/x", "a");
	target_add(r, "C", "b/x", "b");
	publish_everything();
}

Test(tuf_find, a_role_is_verified_against_the_delegator_that_leads_to_it_now)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	diamond(false);
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "a/x", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	expect(MFS_OK, mfs_tuf_find(t, "b/x", err));
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "role 'C' as 'B' delegates it", drive(r, t, err));
	cr_assert_not(mfs_tuf_found(t, &target));
	expect(MFS_OK, mfs_tuf_find(t, "a/x", err)); /* and the first is as good as before */
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	keep(r, t);
	mfs_tuf_free(t);
	expect(MFS_METADATA_SIGNATURE_INVALID, run(r, "b/x", err)); /* nor from what is stored */
	cr_assert_str_eq(stored_of(r, "C.json") != NULL ? "kept" : "lost", "kept");
}

Test(tuf_find, two_delegators_with_different_keys_are_no_matter_of_order)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	diamond(false);
	(void)delegate(r, "targets", "D", "b/*", false, NULL); /* would have it, behind B */
	target_add(r, "D", "b/x", "b");
	publish_everything();
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "b/x", err)); /* the other delegator first */
	expect(MFS_METADATA_SIGNATURE_INVALID, drive(r, t, err));
	cr_assert_not(mfs_tuf_found(t, &target));
	expect(MFS_OK, mfs_tuf_find(t, "a/x", err)); /* it spoils nothing for the one that signed */
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	expect(MFS_OK, mfs_tuf_find(t, "b/x", err));
	expect(MFS_METADATA_SIGNATURE_INVALID, drive(r, t, err));
	mfs_tuf_free(t);
}

Test(tuf_find, a_role_that_both_delegators_keys_signed_is_good_for_both)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	diamond(true);
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "a/x", err));
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "b/x", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 2.snapshot.json 2.targets.json 1.A.json 1.C.json 1.B.json");
	mfs_tuf_free(t);
}

Test(tuf_find, a_stored_role_is_not_trusted_after_its_key_was_taken_away)
{
	json_t *entry;

	(void)delegate(r, "targets", "D", "*", true, NULL);
	target_add(r, "D", "x", "of the thief");
	publish_everything();
	expect(MFS_OK, run(r, "x", err));
	entry = json_array_get(json_object_get(json_object_get(role_of(r, "targets")->body, "delegations"), "roles"), 0);
	json_array_clear(json_object_get(entry, "keyids"));
	key_add(r, "targets", "D", key_new(r, "ed25519"));
	role_of(r, "D")->n_signers = 1; /* the old one */
	publish_all(r, "targets snapshot timestamp");
	expect(MFS_METADATA_SIGNATURE_INVALID, run(r, "x", err));
}

/* ---- roles that are not what they should be ----------------------------------------------------------------------- */

Test(tuf_find, a_role_that_the_snapshot_does_not_name_is_refused)
{
	(void)delegate(r, "targets", "A", "*", false, NULL);
	publish(r, "A");
	json_object_del(json_object_get(role_of(r, "snapshot")->body, "meta"), "A.json");
	publish_all(r, "targets snapshot timestamp");
	expect_says(MFS_HASH_MISMATCH, "snapshot does not name it", run(r, "x", err));
	cr_assert_str_eq(asked(), "");
}

Test(tuf_find, an_old_delegated_role_is_refused)
{
	struct tfile *f;

	(void)delegate(r, "targets", "A", "*", false, NULL);
	publish(r, "A");
	publish_everything();
	f = file_of(r, "1.A.json");
	file_put(r->files, &r->n_files, 800, "2.A.json", f->p, f->len);
	expect(MFS_ROLLBACK_ATTEMPT, run(r, "x", err));
	cr_assert_null(stored_of(r, "A.json"));
}

Test(tuf_find, an_expired_delegated_role_is_refused_and_not_kept)
{
	(void)delegate(r, "targets", "A", "*", false, NULL);
	json_object_set_new(role_of(r, "A")->body, "expires", json_string(EARLIER));
	publish_everything();
	r->opt.expired_grace = 3600;
	expect(MFS_METADATA_EXPIRED, run(r, "x", err));
	cr_assert_null(stored_of(r, "A.json"));
}

Test(tuf_find, a_stored_delegated_role_that_expired_is_fetched_anew)
{
	(void)delegate(r, "targets", "A", "*", false, NULL);
	json_object_set_new(role_of(r, "A")->body, "expires", json_string("2027-01-16T00:00:00Z"));
	target_add(r, "A", "x", "1");
	publish_everything();
	expect(MFS_OK, run(r, "x", err));
	r->opt.now = NOW + 86400;
	expect(MFS_METADATA_EXPIRED, run(r, "x", err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 1.A.json");
	json_object_set_new(role_of(r, "A")->body, "expires", json_string(LATER));
	publish_all(r, "A snapshot timestamp");
	expect(MFS_OK, run(r, "x", err));
	cr_assert_eq(stored_version(r, "A.json"), 2);
}

Test(tuf_find, a_delegated_role_with_other_bytes_than_the_snapshot_says_is_refused)
{
	r->hashes = true;
	(void)delegate(r, "targets", "A", "*", false, NULL);
	publish_everything();
	file_of(r, "1.A.json")->p[1] = ' ';
	expect(MFS_HASH_MISMATCH, run(r, "x", err));
}

Test(tuf_find, a_missing_role_concerns_its_paths_alone)
{
	struct mfs_tuf_target target;
	struct mfs_tuf *t;

	(void)delegate(r, "targets", "release.det", "det/*", true, NULL);
	(void)delegate(r, "targets", "release.seg", "seg/*", true, NULL);
	target_add(r, "release.seg", "seg/x", "s");
	publish_everything();
	file_of(r, "1.release.det.json")->name[0] = '9';
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "det/x", err));
	expect(MFS_NET_HTTP, drive(r, t, err));
	expect(MFS_OK, mfs_tuf_find(t, "seg/x", err));
	expect(MFS_OK, drive(r, t, err));
	cr_assert(mfs_tuf_found(t, &target));
	mfs_tuf_free(t);
}

Test(tuf_find, names_of_roles_are_data_not_paths)
{
	static const char *const names[][2] = { { "../../etc/passwd", "1...%2F..%2Fetc%2Fpasswd.json" },
		{ "/abs", "1.%2Fabs.json" }, { "?", "1.%3F.json" }, { "#", "1.%23.json" }, { ".", "1...json" },
		{ "\xc3\xa4 b", "1.%C3%A4%20b.json" } };
	char order[400] = "";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)delegate(r, "targets", names[i][0], "*", false, NULL);
		(void)snprintf(order + strlen(order), sizeof(order) - strlen(order), "%s%s", i > 0 ? " " : "", names[i][1]);
	}
	publish_everything();
	expect_order("x", false, order);
	cr_assert_not_null(stored_of(r, "..%2F..%2Fetc%2Fpasswd.json"));
	expect(MFS_OK, run(r, "x", err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
}

Test(tuf_find, a_delegated_role_may_not_be_called_like_a_top_level_one)
{
	static const char *const names[] = { "root", "timestamp", "snapshot", "targets", "" };
	json_t *body = role_of(r, "targets")->body, *entry;

	(void)delegate(r, "targets", "x", "*", false, NULL);
	entry = json_array_get(json_object_get(json_object_get(body, "delegations"), "roles"), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_object_set_new(entry, "name", json_string(names[i]));
		publish_all(r, "targets snapshot timestamp");
		expect_says(MFS_MALFORMED, "name", refresh(r, err));
	}
}

Test(tuf_find, paths_that_cannot_be_targets_are_refused)
{
	char *longest = malloc(MFS_TUF_PATH_MAX + 2);
	struct mfs_tuf *t = client(r);

	expect(MFS_OK, drive(r, t, err));
	expect(MFS_CONFIG_INVALID, mfs_tuf_find(t, "", err));
	expect(MFS_CONFIG_INVALID, mfs_tuf_find(t, "/x", err));
	memset(longest, 'a', MFS_TUF_PATH_MAX + 1);
	longest[MFS_TUF_PATH_MAX + 1] = '\0';
	expect(MFS_CONFIG_INVALID, mfs_tuf_find(t, longest, err));
	expect(MFS_OK, mfs_tuf_find(t, longest + 1, err));
	mfs_tuf_free(t);
	free(longest);
}

/* ---- hash prefixes and bins ----------------------------------------------------------------------------------------- */

Test(tuf_find, delegation_by_hash_prefix)
{
	/* SHA-256("x") begins with 2d711642, that of "y" with a1fce436 */
	(void)delegate(r, "targets", "A", NULL, false, "{\"path_hash_prefixes\": [\"2d7\", \"ff\"]}");
	(void)delegate(r, "targets", "B", NULL, false, "{\"path_hash_prefixes\": [\"a\"]}");
	target_add(r, "B", "x", "not B's to say");
	target_add(r, "B", "y", "B's");
	publish_everything();
	expect_order("x", false, "1.A.json");
	expect(MFS_OK, run(r, "y", err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 1.B.json");
}

Test(tuf_find, hash_bins)
{
	json_t *body = role_of(r, "targets")->body;
	struct tkey *key = key_new(r, "ed25519");
	bool found;

	/* 5 bits: 2d711642 is bin 05, two digits */
	(void)delegate(r, "targets", "bin-05", "*", false, NULL);
	json_object_set_new(body, "delegations", json_pack("{s:{},s:{s:[],s:i,s:i,s:s}}", "keys", "succinct_roles", "keyids",
		"threshold", 1, "bit_length", 5, "name_prefix", "bin"));
	role_of(r, "bin-05")->n_signers = 0;
	key_add(r, "targets", "bin-05", key);
	target_add(r, "bin-05", "x", "in its bin");
	target_add(r, "bin-05", "y", "in another's");
	publish_everything();
	expect(MFS_OK, search(r, "x", &found, err));
	cr_assert(found);
	cr_assert_not_null(strstr(r->log, " 1.bin-05.json"));
	expect_says(MFS_HASH_MISMATCH, "bin-14", run(r, "y", err));
}

Test(tuf_find, a_repository_with_both_kinds_of_delegation_is_refused)
{
	(void)delegate(r, "targets", "A", "*", false, "{\"path_hash_prefixes\": [\"\"]}");
	publish_everything();
	expect_says(MFS_MALFORMED, "not both", refresh(r, err));
}

/* ---- how far is it signed? ------------------------------------------------------------------------------------------- */

Test(tuf_find, signatures_are_counted_for_holders_of_a_shared_root)
{
	struct trole *root = role_of(r, "root");
	struct tfile *one, *two, *targets, *d;
	unsigned valid, threshold;

	key_add(r, "root", "root", key_new(r, "ed25519"));
	key_add(r, "root", "root", key_new(r, "ecdsa"));
	threshold_set(r, "root", 3);
	root->n_signers = 2;
	publish(r, "root");
	one = file_of(r, "1.root.json");
	two = file_of(r, "2.root.json");
	expect(MFS_OK, mfs_tuf_count(MFS_SPAN(one->p, one->len), "root", MFS_SPAN(two->p, two->len), &valid, &threshold, err));
	cr_assert(valid == 1 && threshold == 1);
	expect(MFS_OK, mfs_tuf_count(MFS_SPAN(two->p, two->len), "root", MFS_SPAN(two->p, two->len), &valid, &threshold, err));
	cr_assert(valid == 2 && threshold == 3);
	(void)delegate(r, "targets", "D", "*", false, NULL);
	publish_everything();
	targets = file_of(r, "2.targets.json");
	d = file_of(r, "1.D.json");
	expect(MFS_OK,
		mfs_tuf_count(MFS_SPAN(targets->p, targets->len), "D", MFS_SPAN(d->p, d->len), &valid, &threshold, err));
	cr_assert(valid == 1 && threshold == 1);
	expect(MFS_KEY_UNTRUSTED,
		mfs_tuf_count(MFS_SPAN(targets->p, targets->len), "E", MFS_SPAN(d->p, d->len), &valid, &threshold, err));
	expect(MFS_MALFORMED, mfs_tuf_count(MFS_SPAN(one->p, one->len), "timestamp", MFS_SPAN(d->p, d->len), &valid, &threshold,
		err));
	expect(MFS_MALFORMED, mfs_tuf_count(TEXT("{}"), "root", MFS_SPAN(one->p, one->len), &valid, &threshold, err));
}
