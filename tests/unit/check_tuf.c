/* SPDX-License-Identifier: Apache-2.0 */
/* The refresh of the TUF client: root, timestamp, snapshot, targets; each test is an attack or a duty. */
#include "tuf_repo.h"

TestSuite(tuf, .init = tuf_start, .fini = tuf_stop);

/* ---- what it asks for and keeps ----------------------------------------------------------------------------- */

Test(tuf, first_refresh_asks_in_order)
{
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, TUF_FIRST);
	versions(1, 1, 1, 1);
}

Test(tuf, nothing_new_costs_two_requests)
{
	expect(MFS_OK, refresh(r, err));
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
}

Test(tuf, not_modified_keeps_what_is_stored)
{
	struct mfs_tuf_want want;
	struct mfs_tuf *t;

	expect(MFS_OK, refresh(r, err));
	t = client(r);
	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	cr_assert(want.not_found_ok && !want.not_modified_ok);
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_NOT_FOUND, MFS_SPAN(NULL, 0), err));
	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	cr_assert_str_eq(want.name, "timestamp.json");
	cr_assert(want.not_modified_ok && !want.not_found_ok);
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_NOT_MODIFIED, MFS_SPAN(NULL, 0), err));
	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	cr_assert_null(want.name);
	mfs_tuf_free(t);
}

Test(tuf, not_modified_without_a_stored_timestamp_is_no_answer)
{
	struct mfs_tuf *t = client(r);
	struct mfs_tuf_want want;

	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_NOT_FOUND, MFS_SPAN(NULL, 0), err));
	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	cr_assert_not(want.not_modified_ok);
	expect(MFS_INTERNAL, mfs_tuf_feed(t, MFS_TUF_NOT_MODIFIED, MFS_SPAN(NULL, 0), err));
	mfs_tuf_free(t);
}

Test(tuf, received_bytes_are_kept_verbatim)
{
	struct tfile *f = file_of(r, "timestamp.json");
	char *longer = malloc(f->len + 3);

	memcpy(longer, f->p, f->len);
	memcpy(longer + f->len, " \n ", 3);
	file_put(r->files, &r->n_files, 800, "timestamp.json", longer, f->len + 3);
	expect(MFS_OK, refresh(r, err));
	f = stored_of(r, "timestamp.json");
	cr_assert(memcmp(f->p, longer, f->len) == 0 && f->p[f->len - 1] == ' ');
	free(longer);
}

Test(tuf, non_consistent_repository_has_no_numbers)
{
	json_object_set_new(role_of(r, "root")->body, "consistent_snapshot", json_false());
	publish_all(r, "root targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json 3.root.json timestamp.json snapshot.json targets.json");
}

Test(tuf, unknown_fields_are_part_of_what_is_signed)
{
	struct trole *root = role_of(r, "root");
	struct tkey *key = key_new(r, "ecdsa");

	json_object_set_new(key->json, "x-owner", json_pack("{s:i,s:[s]}", "n", 1, "l", "a\"b\\c\n\xc3\xa4"));
	json_object_set_new(root->body, "x-custom", json_string("line\nbreak\tand \"quotes\""));
	json_object_set_new(json_object_get(json_object_get(root->body, "roles"), "root"), "x-role", json_null());
	key_add(r, "root", "root", key);
	threshold_set(r, "root", 2);
	publish(r, "root");
	expect(MFS_OK, refresh(r, err));
	versions(2, 1, 1, 1);
	json_object_set_new(root->body, "x-custom", json_string("changed later"));
	publish(r, "root");
	root->n_signers = 0;
	expect(MFS_OK, refresh(r, err));
	versions(3, 1, 1, 1);
}

Test(tuf, snapshot_missing_is_a_failure_but_the_timestamp_stays)
{
	expect(MFS_OK, refresh(r, err));
	json_object_set_new(json_object_get(json_object_get(role_of(r, "timestamp")->body, "meta"), "snapshot.json"), "version",
		json_integer(2));
	publish(r, "timestamp");
	expect(MFS_NET_HTTP, refresh(r, err));
	versions(1, 2, 1, 1);
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 2.snapshot.json");
}

Test(tuf, a_missing_timestamp_is_a_failure_that_names_it)
{
	file_of(r, "timestamp.json")->name[0] = 'T';
	expect_says(MFS_NET_HTTP, "timestamp.json", refresh(r, err));
	versions(1, 0, 0, 0);
}

Test(tuf, a_failed_refresh_stays_failed_and_wants_nothing)
{
	struct mfs_tuf_want want;
	struct mfs_tuf *t;

	file_put(r->files, &r->n_files, 800, "timestamp.json", "{}", 2);
	t = client(r);
	expect(MFS_MALFORMED, drive(r, t, err));
	expect(MFS_MALFORMED, mfs_tuf_next(t, &want, err));
	cr_assert_null(want.name);
	expect(MFS_INTERNAL, mfs_tuf_feed(t, MFS_TUF_BYTES, TEXT("{}"), err));
	expect(MFS_INTERNAL, mfs_tuf_find(t, "x", err));
	mfs_tuf_free(t);
}

/* ---- rollback ------------------------------------------------------------------------------------------------ */

static void
set_version(const char *role, int64_t version)
{
	json_object_set_new(role_of(r, role)->body, "version", json_integer(version));
	role_of(r, role)->published = false;
}

Test(tuf, rollback_of_the_timestamp)
{
	publish(r, "timestamp");
	expect(MFS_OK, refresh(r, err));
	set_version("timestamp", 1);
	publish(r, "timestamp");
	expect_says(MFS_ROLLBACK_ATTEMPT, "timestamp.json: version 1 is older than 2", refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
	versions(1, 2, 1, 1);
}

Test(tuf, same_timestamp_version_with_other_content_is_ignored)
{
	expect(MFS_OK, refresh(r, err));
	json_object_set_new(json_object_get(json_object_get(role_of(r, "timestamp")->body, "meta"), "snapshot.json"), "version",
		json_integer(100));
	set_version("timestamp", 1);
	publish(r, "timestamp");
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
}

static void
snapshot_rollback(bool hashes)
{
	r->hashes = hashes;
	publish_all(r, "snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	set_version("snapshot", 1);
	publish_all(r, "snapshot timestamp");
	expect_says(MFS_ROLLBACK_ATTEMPT, "meta.snapshot.json", refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json");
	versions(1, 2, 2, 1);
}

Test(tuf, rollback_of_the_snapshot)
{
	snapshot_rollback(false);
}

Test(tuf, rollback_of_the_snapshot_with_hashes)
{
	snapshot_rollback(true);
}

static void
targets_rollback(bool hashes)
{
	r->hashes = hashes;
	publish_all(r, "targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	set_version("targets", 1);
	publish_all(r, "targets snapshot timestamp");
	expect_says(MFS_ROLLBACK_ATTEMPT, "targets.json: version 1", refresh(r, err));
	versions(1, 3, 2, 2);
}

Test(tuf, rollback_of_targets)
{
	targets_rollback(false);
}

Test(tuf, rollback_of_targets_with_hashes)
{
	targets_rollback(true);
}

Test(tuf, a_role_may_not_vanish_from_the_snapshot)
{
	(void)delegate(r, "targets", "release.det", "det/*", true, NULL);
	publish_all(r, "release.det targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	json_object_del(json_object_get(role_of(r, "snapshot")->body, "meta"), "release.det.json");
	publish_all(r, "snapshot timestamp");
	expect_says(MFS_ROLLBACK_ATTEMPT, "no longer names release.det.json", refresh(r, err));
}

Test(tuf, floors_hold_when_the_stored_files_are_lost)
{
	publish_all(r, "targets snapshot timestamp");
	r->opt.floor_timestamp = 3;
	expect_says(MFS_ROLLBACK_ATTEMPT, "timestamp.json", refresh(r, err));
	r->opt = (struct mfs_tuf_options){ .now = NOW, .floor_snapshot = 3 };
	expect_says(MFS_ROLLBACK_ATTEMPT, "snapshot.json", refresh(r, err));
	r->opt = (struct mfs_tuf_options){ .now = NOW, .floor_targets = 3 };
	expect_says(MFS_ROLLBACK_ATTEMPT, "targets.json", refresh(r, err));
	r->opt = (struct mfs_tuf_options){ .now = NOW, .floor_root = 1, .floor_timestamp = 2, .floor_snapshot = 2, .floor_targets = 2 };
	expect(MFS_OK, refresh(r, err));
}

Test(tuf, a_stored_timestamp_below_the_floor_is_as_absent)
{
	struct mfs_tuf_want want;
	struct mfs_tuf *t;

	expect(MFS_OK, refresh(r, err));
	r->opt.floor_timestamp = 2; /* somebody put an old copy of the file back */
	t = client(r);
	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_NOT_FOUND, MFS_SPAN(NULL, 0), err));
	expect(MFS_OK, mfs_tuf_next(t, &want, err));
	cr_assert_not(want.not_modified_ok);
	expect(MFS_INTERNAL, mfs_tuf_feed(t, MFS_TUF_NOT_MODIFIED, MFS_SPAN(NULL, 0), err));
	mfs_tuf_free(t);
}

Test(tuf, a_stored_snapshot_below_the_floor_is_as_absent)
{
	expect(MFS_OK, refresh(r, err));
	r->opt.floor_targets = 2;
	expect_says(MFS_ROLLBACK_ATTEMPT, "targets.json", refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 1.snapshot.json");
	r->opt.floor_targets = 0;
	r->opt.floor_snapshot = 2;
	/* even where the timestamp is the stored one, and names it */
	expect_says(MFS_ROLLBACK_ATTEMPT, "snapshot.json: version 1", refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 1.snapshot.json");
}

Test(tuf, stored_files_that_were_tampered_with_are_as_absent)
{
	expect(MFS_OK, refresh(r, err));
	for (size_t i = 0; i < r->n_stored; i++)
		if (strcmp(r->stored[i].name, "root.json") != 0)
			r->stored[i].p[r->stored[i].len / 2] ^= 1;
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, TUF_FIRST);
	file_put(r->stored, &r->n_stored, 64, "snapshot.json", "", 0);
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json timestamp.json 1.snapshot.json");
}

/* ---- freeze ---------------------------------------------------------------------------------------------------- */

static void
expires(const char *role, const char *when)
{
	json_object_set_new(role_of(r, role)->body, "expires", json_string(when));
}

Test(tuf, expired_root_is_kept_but_ends_the_run)
{
	expires("root", EARLIER);
	publish(r, "root");
	expect_says(MFS_METADATA_EXPIRED, "root.json", refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json 3.root.json");
	versions(2, 0, 0, 0);
}

Test(tuf, freeze_by_an_expired_timestamp)
{
	expires("timestamp", EARLIER);
	publish(r, "timestamp");
	expect_says(MFS_METADATA_EXPIRED, "timestamp.json: version 2 expired 60 s ago", refresh(r, err));
	versions(1, 0, 0, 0);
	r->opt.expired_grace = 60;
	expect(MFS_METADATA_EXPIRED, refresh(r, err));
	r->opt.expired_grace = 61;
	expect(MFS_OK, refresh(r, err));
}

Test(tuf, freeze_by_an_old_timestamp_served_for_ever)
{
	expires("timestamp", "2027-01-15T08:00:01Z");
	publish(r, "timestamp");
	expect(MFS_OK, refresh(r, err));
	r->opt.now = NOW + 1;
	expect(MFS_METADATA_EXPIRED, refresh(r, err));
	versions(1, 2, 1, 1);
}

Test(tuf, freeze_by_an_expired_snapshot)
{
	expires("snapshot", EARLIER);
	publish_all(r, "snapshot timestamp");
	expect_says(MFS_METADATA_EXPIRED, "snapshot.json", refresh(r, err));
	versions(1, 2, 0, 0);
	r->opt.expired_grace = 3600;
	expect(MFS_OK, refresh(r, err));
}

Test(tuf, freeze_by_expired_targets_whatever_the_grace)
{
	expires("targets", EARLIER);
	publish_all(r, "targets snapshot timestamp");
	r->opt.expired_grace = 3600;
	expect_says(MFS_METADATA_EXPIRED, "targets.json", refresh(r, err));
	versions(1, 2, 2, 0);
}

Test(tuf, no_grace_for_an_expired_root)
{
	expires("root", EARLIER);
	publish(r, "root");
	r->opt.expired_grace = MFS_TUF_GRACE_MAX;
	expect(MFS_METADATA_EXPIRED, refresh(r, err));
}

Test(tuf, expired_stored_metadata_never_blocks_fetching_newer)
{
	expires("root", "2027-01-16T00:00:00Z");
	expires("timestamp", "2027-01-16T00:00:00Z");
	expires("snapshot", "2027-01-16T00:00:00Z");
	expires("targets", "2027-01-16T00:00:00Z");
	publish_all(r, "root targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	expires("root", LATER);
	expires("timestamp", LATER);
	expires("snapshot", LATER);
	expires("targets", LATER);
	publish_all(r, "root targets snapshot timestamp");
	r->opt.now = NOW + 30 * 86400;
	expect(MFS_OK, refresh(r, err));
	versions(3, 3, 3, 3);
}

Test(tuf, expired_stored_snapshot_still_shows_a_rollback)
{
	expires("snapshot", "2027-01-16T00:00:00Z");
	publish_all(r, "targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	expires("snapshot", LATER);
	set_version("targets", 1);
	publish_all(r, "targets snapshot timestamp");
	r->opt.now = NOW + 30 * 86400;
	expect(MFS_ROLLBACK_ATTEMPT, refresh(r, err));
}

/* ---- mix-and-match, wrong types, endless data ------------------------------------------------------------------ */

Test(tuf, mix_and_match_of_snapshot_versions)
{
	const struct tfile *one = file_of(r, "1.snapshot.json");

	publish_all(r, "snapshot timestamp");
	file_put(r->files, &r->n_files, 800, "2.snapshot.json", one->p, one->len);
	expect_says(MFS_ROLLBACK_ATTEMPT, "the timestamp names 2", refresh(r, err));
	publish(r, "snapshot");
	file_put(r->files, &r->n_files, 800, "2.snapshot.json", file_of(r, "3.snapshot.json")->p,
		file_of(r, "3.snapshot.json")->len);
	expect_says(MFS_HASH_MISMATCH, "the timestamp names 2", refresh(r, err));
	versions(1, 2, 0, 0);
}

Test(tuf, mix_and_match_of_hashes)
{
	struct tfile *f;

	r->hashes = true;
	publish_all(r, "targets snapshot timestamp");
	f = file_of(r, "2.targets.json");
	f->p[f->len - 1] = ' '; /* still the same JSON, still well signed */
	f->p[f->len - 2] = '}';
	expect(MFS_HASH_MISMATCH, refresh(r, err));
	versions(1, 2, 2, 0);
	f = file_of(r, "2.snapshot.json");
	file_put(r->stored, &r->n_stored, 64, "snapshot.json", "", 0);
	f->len--;
	expect_says(MFS_HASH_MISMATCH, "bytes, not the", refresh(r, err));
}

Test(tuf, mix_and_match_of_targets_versions)
{
	const struct tfile *one = file_of(r, "1.targets.json");

	publish_all(r, "targets snapshot timestamp");
	file_put(r->files, &r->n_files, 800, "2.targets.json", one->p, one->len);
	expect(MFS_ROLLBACK_ATTEMPT, refresh(r, err));
	versions(1, 2, 2, 0);
}

Test(tuf, a_snapshot_does_not_pass_for_a_timestamp)
{
	struct tfile *f;

	key_add(r, "root", "snapshot", role_of(r, "timestamp")->signer[0]);
	json_object_set_new(json_object_get(role_of(r, "snapshot")->body, "meta"), "snapshot.json",
		json_pack("{s:i}", "version", 1));
	publish_all(r, "root snapshot");
	f = file_of(r, "2.snapshot.json");
	file_put(r->files, &r->n_files, 800, "timestamp.json", f->p, f->len);
	expect_says(MFS_MALFORMED, "_type", refresh(r, err));
	versions(2, 0, 0, 0);
}

Test(tuf, endless_data_is_capped_at_what_is_signed_or_allowed)
{
	static const struct {
		const char *name;
		size_t cap;
	} want[] = { { "2.root.json", MFS_TUF_ROOT_MAX }, { "timestamp.json", MFS_TUF_TIMESTAMP_MAX } };
	struct mfs_tuf_want w;
	struct mfs_tuf *t;
	uint8_t *big = malloc(MFS_TUF_TIMESTAMP_MAX + 1);

	r->hashes = true;
	publish_all(r, "targets snapshot timestamp");
	t = client(r);
	expect(MFS_OK, mfs_tuf_next(t, &w, err));
	cr_assert(strcmp(w.name, want[0].name) == 0 && w.cap == want[0].cap);
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_NOT_FOUND, MFS_SPAN(NULL, 0), err));
	expect(MFS_OK, mfs_tuf_next(t, &w, err));
	cr_assert(strcmp(w.name, want[1].name) == 0 && w.cap == want[1].cap);
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_BYTES, MFS_SPAN(file_of(r, w.name)->p, file_of(r, w.name)->len), err));
	expect(MFS_OK, mfs_tuf_next(t, &w, err));
	cr_assert_eq(w.cap, file_of(r, "2.snapshot.json")->len);
	mfs_tuf_free(t);
	memset(big, ' ', MFS_TUF_TIMESTAMP_MAX + 1);
	t = client(r);
	expect(MFS_OK, mfs_tuf_next(t, &w, err));
	expect(MFS_OK, mfs_tuf_feed(t, MFS_TUF_NOT_FOUND, MFS_SPAN(NULL, 0), err));
	expect(MFS_OK, mfs_tuf_next(t, &w, err));
	expect(MFS_LIMIT_EXCEEDED, mfs_tuf_feed(t, MFS_TUF_BYTES, MFS_SPAN(big, MFS_TUF_TIMESTAMP_MAX + 1), err));
	mfs_tuf_free(t);
	free(big);
}

Test(tuf, a_signed_length_beyond_the_limit_is_never_fetched_whole)
{
	struct mfs_tuf_want w;
	struct mfs_tuf *t;

	json_object_set_new(json_object_get(json_object_get(role_of(r, "timestamp")->body, "meta"), "snapshot.json"), "length",
		json_integer(1LL << 40));
	publish(r, "timestamp");
	t = client(r);
	for (int i = 0; i < 2; i++) {
		const struct tfile *f;

		expect(MFS_OK, mfs_tuf_next(t, &w, err));
		f = file_of(r, w.name);
		expect(MFS_OK, mfs_tuf_feed(t, f != NULL ? MFS_TUF_BYTES : MFS_TUF_NOT_FOUND,
			f != NULL ? MFS_SPAN(f->p, f->len) : MFS_SPAN(NULL, 0), err));
	}
	expect(MFS_OK, mfs_tuf_next(t, &w, err));
	cr_assert_eq(w.cap, MFS_TUF_SNAPSHOT_MAX);
	mfs_tuf_free(t);
}
