/* SPDX-License-Identifier: Apache-2.0 */
/* The TUF client: the chain of roots, thresholds, and what a new root does to older metadata. */
#include "tuf_repo.h"

TestSuite(tuf_root, .init = tuf_start, .fini = tuf_stop);

/* ---- root ---------------------------------------------------------------------------------------------------- */

Test(tuf_root, root_chain_is_followed_through_a_rotation)
{
	struct trole *root = role_of(r, "root");
	struct tkey *old = root->signer[0];

	key_rotate(r, "root");
	root->signer[root->n_signers++] = old;
	publish(r, "root");
	root->n_signers = 1;
	publish(r, "root");
	expect(MFS_OK, refresh(r, err));
	cr_assert_str_eq(r->log, "2.root.json 3.root.json 4.root.json timestamp.json 1.snapshot.json 1.targets.json");
	versions(3, 1, 1, 1);
}

Test(tuf_root, root_without_the_old_keys_is_refused)
{
	key_rotate(r, "root");
	publish(r, "root");
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "root before", refresh(r, err));
	versions(1, 0, 0, 0);
}

Test(tuf_root, root_without_its_own_keys_is_refused)
{
	struct trole *root = role_of(r, "root");
	struct tkey *old = root->signer[0];

	key_rotate(r, "root");
	root->signer[0] = old;
	publish(r, "root");
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "own keys", refresh(r, err));
	versions(1, 0, 0, 0);
}

Test(tuf_root, old_root_served_as_the_next_is_refused)
{
	const struct tfile *one = file_of(r, "1.root.json");

	file_put(r->files, &r->n_files, 800, "2.root.json", one->p, one->len);
	expect(MFS_ROLLBACK_ATTEMPT, refresh(r, err));
	versions(1, 0, 0, 0);
}

Test(tuf_root, root_that_skips_a_version_is_refused)
{
	const struct tfile *three;

	publish_all(r, "root root");
	three = file_of(r, "3.root.json");
	file_put(r->files, &r->n_files, 800, "2.root.json", three->p, three->len);
	expect(MFS_ROLLBACK_ATTEMPT, refresh(r, err));
	versions(1, 0, 0, 0);
}

Test(tuf_root, unsigned_trusted_root_is_refused_before_anything_is_asked)
{
	struct tfile *f = stored_of(r, "root.json");
	struct mfs_tuf *t;
	char *sig = memmem(f->p, f->len, "\"sig\": \"", 8);

	sig[8] = sig[8] == '0' ? '1' : '0';
	expect(MFS_METADATA_SIGNATURE_INVALID, mfs_tuf_new(MFS_SPAN(f->p, f->len), &r->opt, &t, err));
	cr_assert_null(t);
}

Test(tuf_root, a_new_root_survives_a_bad_timestamp)
{
	publish(r, "root");
	file_put(r->files, &r->n_files, 800, "timestamp.json", "[]", 2);
	expect(MFS_MALFORMED, refresh(r, err));
	versions(2, 0, 0, 0);
}

Test(tuf_root, root_steps_are_bounded_and_the_next_run_goes_on)
{
	for (unsigned i = 0; i < MFS_TUF_ROOT_STEPS_MAX + 10; i++)
		publish(r, "root");
	expect(MFS_OK, refresh(r, err));
	versions(1 + MFS_TUF_ROOT_STEPS_MAX, 1, 1, 1);
	expect(MFS_OK, refresh(r, err));
	versions(11 + MFS_TUF_ROOT_STEPS_MAX, 1, 1, 1);
}

Test(tuf_root, a_root_below_the_floor_is_refused)
{
	const struct tfile *f = stored_of(r, "root.json");
	struct mfs_tuf *t;

	r->opt.floor_root = 2;
	expect(MFS_ROLLBACK_ATTEMPT, mfs_tuf_new(MFS_SPAN(f->p, f->len), &r->opt, &t, err));
}

Test(tuf_root, options_out_of_range_are_refused)
{
	const struct tfile *f = stored_of(r, "root.json");
	const struct mfs_tuf_options bad[] = { { .now = -1 }, { .expired_grace = -1 },
		{ .expired_grace = MFS_TUF_GRACE_MAX + 1 }, { .floor_snapshot = -1 } };
	struct mfs_tuf *t;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect(MFS_CONFIG_INVALID, mfs_tuf_new(MFS_SPAN(f->p, f->len), &bad[i], &t, err));
}

/* ---- thresholds --------------------------------------------------------------------------------------------- */

Test(tuf_root, one_key_under_two_ids_counts_once)
{
	struct trole *targets = role_of(r, "targets");
	json_t *root = role_of(r, "root")->body;
	struct tkey *same = calloc(1, sizeof(*same));

	*same = *targets->signer[0];
	same->json = json_deep_copy(same->json);
	json_object_set_new(same->json, "x-name", json_string("another object, another id"));
	memset(same->id, 'a', 64);
	json_object_set(json_object_get(root, "keys"), same->id, same->json);
	json_array_append_new(json_object_get(json_object_get(json_object_get(root, "roles"), "targets"), "keyids"),
		json_string(same->id));
	threshold_set(r, "targets", 2);
	targets->signer[targets->n_signers++] = same;
	publish_all(r, "root targets snapshot timestamp");
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "1 of the 2", refresh(r, err));
	versions(2, 2, 2, 0);
	json_decref(same->json);
	free(same);
}

Test(tuf_root, the_same_signature_twice_is_refused)
{
	struct trole *snapshot = role_of(r, "snapshot");

	snapshot->signer[snapshot->n_signers++] = snapshot->signer[0];
	publish_all(r, "snapshot timestamp");
	expect_says(MFS_MALFORMED, "twice", refresh(r, err));
	versions(1, 2, 0, 0);
}

Test(tuf_root, threshold_not_met_is_refused)
{
	key_add(r, "root", "snapshot", key_new(r, "ed25519"));
	threshold_set(r, "snapshot", 2);
	publish_all(r, "root snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	role_of(r, "snapshot")->n_signers = 1;
	publish_all(r, "snapshot timestamp");
	expect(MFS_METADATA_SIGNATURE_INVALID, refresh(r, err));
	versions(2, 3, 2, 1);
}

Test(tuf_root, more_keys_wanted_than_there_are_is_never_met)
{
	threshold_set(r, "snapshot", 2);
	publish_all(r, "root snapshot timestamp");
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "1 of the 2", refresh(r, err));
	threshold_set(r, "snapshot", 1000000);
	publish_all(r, "root snapshot timestamp");
	expect(MFS_METADATA_SIGNATURE_INVALID, refresh(r, err));
	versions(3, 3, 0, 0);
}

Test(tuf_root, threshold_zero_is_refused)
{
	threshold_set(r, "targets", 0);
	publish(r, "root");
	expect_says(MFS_MALFORMED, "threshold", refresh(r, err));
	versions(1, 0, 0, 0);
}

Test(tuf_root, wrong_and_empty_signatures_beside_good_ones_do_no_harm)
{
	struct trole *timestamp = role_of(r, "timestamp");
	struct tkey *two = key_new(r, "ed25519"), *three = key_new(r, "ecdsa");
	struct tfile *f;
	char *sig;

	key_add(r, "root", "timestamp", two);
	key_add(r, "root", "timestamp", three);
	publish_all(r, "root timestamp");
	f = file_of(r, "timestamp.json");
	sig = memmem(f->p, f->len, two->id, 64);
	sig = strstr(sig, "\"sig\": \"") + 8;
	memset(sig, '0', 64);
	sig = memmem(f->p, f->len, three->id, 64);
	sig = strstr(sig, "\"sig\": \"") + 8;
	memset(sig, 'z', 8);
	cr_assert_eq(timestamp->n_signers, 3);
	expect(MFS_OK, refresh(r, err));
	versions(2, 2, 1, 1);
}

Test(tuf_root, keys_of_unknown_types_do_not_count)
{
	struct tkey *odd = key_new(r, "ed25519");

	json_object_set_new(odd->json, "keytype", json_string("post-quantum"));
	key_add(r, "root", "timestamp", odd);
	threshold_set(r, "timestamp", 2);
	publish_all(r, "root timestamp");
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "1 of the 2", refresh(r, err));
	threshold_set(r, "timestamp", 1);
	publish_all(r, "root timestamp");
	expect(MFS_OK, refresh(r, err));
}

Test(tuf_root, a_scheme_that_does_not_belong_to_the_key_does_not_count)
{
	struct tkey *k = key_new(r, "rsa");

	json_object_set_new(k->json, "scheme", json_string("rsa-pkcs1v15-sha256"));
	role_of(r, "targets")->n_signers = 0;
	json_array_clear(json_object_get(json_object_get(json_object_get(role_of(r, "root")->body, "roles"), "targets"),
		"keyids"));
	key_add(r, "root", "targets", k);
	publish_all(r, "root targets snapshot timestamp");
	expect_says(MFS_METADATA_SIGNATURE_INVALID, "0 of the 1", refresh(r, err));
}

Test(tuf_root, a_flood_of_signatures_is_cut_off)
{
	struct tfile *f = file_of(r, "1.snapshot.json");
	json_t *doc = json_loadb((const char *)f->p, f->len, 0, NULL), *sigs = json_object_get(doc, "signatures");
	char id[65], *text;

	for (unsigned i = 0; i < MFS_TUF_SIGNATURES_MAX; i++) {
		(void)snprintf(id, sizeof(id), "%064x", i);
		json_array_append_new(sigs, json_pack("{s:s,s:s}", "keyid", id, "sig", "00"));
	}
	text = json_dumps(doc, 0);
	file_put(r->files, &r->n_files, 800, "1.snapshot.json", text, strlen(text));
	expect_says(MFS_MALFORMED, "signatures", refresh(r, err));
	free(text);
	json_decref(doc);
}

Test(tuf_root, ecdsa_and_rsa_keys_sign_every_role)
{
	static const char *const types[] = { "ecdsa", "ecdsa-sha2-nistp256", "rsa" };
	struct tkey *old = role_of(r, "root")->signer[0];

	for (size_t i = 0; i < 3; i++) {
		key_rotate(r, i == 0 ? "root" : i == 1 ? "timestamp" : "targets");
		key_add(r, "root", i == 0 ? "root" : i == 1 ? "timestamp" : "targets", key_new(r, types[i]));
		threshold_set(r, i == 0 ? "root" : i == 1 ? "timestamp" : "targets", 2);
	}
	role_of(r, "root")->signer[2] = old;
	role_of(r, "root")->n_signers = 3;
	publish_all(r, "root targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	versions(2, 2, 2, 2);
}

static void
set_version(const char *role, int64_t version)
{
	json_object_set_new(role_of(r, role)->body, "version", json_integer(version));
	role_of(r, role)->published = false;
}

/* ---- recovery from fast-forward ------------------------------------------------------------------------------ */

Test(tuf_root, fast_forward_of_the_timestamp_is_recovered_by_a_new_key)
{
	set_version("timestamp", 9999);
	publish(r, "timestamp");
	expect(MFS_OK, refresh(r, err));
	key_rotate(r, "timestamp");
	set_version("timestamp", 2);
	publish_all(r, "root timestamp");
	r->opt.floor_timestamp = 9999;
	expect(MFS_OK, refresh(r, err));
	versions(2, 2, 1, 1);
}

Test(tuf_root, fast_forward_of_the_snapshot_is_recovered_by_its_key_alone)
{
	set_version("snapshot", 9999);
	publish_all(r, "snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	key_rotate(r, "snapshot");
	set_version("snapshot", 2);
	publish_all(r, "root snapshot timestamp");
	r->opt.floor_snapshot = 9999;
	expect(MFS_OK, refresh(r, err));
	versions(2, 3, 2, 1);
}

Test(tuf_root, fast_forward_of_targets_is_recovered_by_a_new_snapshot_key)
{
	set_version("targets", 9999);
	publish_all(r, "targets snapshot timestamp");
	expect(MFS_OK, refresh(r, err));
	key_rotate(r, "snapshot");
	set_version("targets", 2);
	publish_all(r, "root targets snapshot timestamp");
	r->opt.floor_targets = 9999;
	expect(MFS_OK, refresh(r, err));
	versions(2, 3, 3, 2);
}

Test(tuf_root, what_a_rotation_drops_is_dropped_even_when_the_run_fails_then)
{
	struct mfs_tuf_role role;
	struct mfs_tuf *t;

	expect(MFS_OK, refresh(r, err));
	key_rotate(r, "snapshot");
	publish(r, "root");
	file_put(r->files, &r->n_files, 800, "timestamp.json", "x", 1);
	t = client(r);
	expect(MFS_MALFORMED, drive(r, t, err));
	cr_assert(mfs_tuf_rotated(t, "snapshot") && !mfs_tuf_rotated(t, "timestamp") && !mfs_tuf_rotated(t, "targets"));
	cr_assert(mfs_tuf_role_find(t, "timestamp", &role) && role.drop && role.bytes.len == 0);
	cr_assert(mfs_tuf_role_find(t, "snapshot", &role) && role.drop);
	cr_assert(mfs_tuf_role_find(t, "targets", &role) && role.drop);
	cr_assert(mfs_tuf_role_find(t, "root", &role) && role.changed && role.version == 2 && !role.drop);
	keep(r, t);
	versions(2, 0, 0, 0);
	mfs_tuf_free(t);
}

/* What a careful caller records of a run: the least versions of the next one. */
static void
record(const struct mfs_tuf *t)
{
	struct mfs_tuf_role role;

	if (mfs_tuf_role_find(t, "timestamp", &role))
		r->opt.floor_timestamp = role.version;
	if (mfs_tuf_role_find(t, "snapshot", &role))
		r->opt.floor_snapshot = role.version;
	if (mfs_tuf_role_find(t, "targets", &role))
		r->opt.floor_targets = role.version;
}

/* A thief drove everything forward; the recovery breaks off at each of its files, with the files stored or lost. */
static void
recovery_broken_off(const char *at, bool lost)
{
	struct tfile *f;
	struct mfs_tuf *t;

	set_version("targets", 9999);
	set_version("snapshot", 9999);
	set_version("timestamp", 9999);
	publish_all(r, "targets snapshot timestamp");
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	keep(r, t);
	record(t);
	mfs_tuf_free(t);
	cr_assert_eq(r->opt.floor_targets, 9999);
	key_rotate(r, "timestamp");
	key_rotate(r, "snapshot");
	set_version("targets", 2);
	set_version("snapshot", 2);
	set_version("timestamp", 2);
	publish_all(r, "root targets snapshot timestamp");
	f = file_of(r, at);
	f->name[0] = 'X';
	while (lost && r->n_stored > 1) { /* all but root.json */
		r->n_stored--;
		free(r->stored[r->n_stored].p);
		r->stored[r->n_stored].p = NULL;
	}
	t = client(r);
	expect(MFS_NET_HTTP, drive(r, t, err));
	keep(r, t);
	record(t);
	mfs_tuf_free(t);
	f->name[0] = at[0];
	t = client(r);
	expect(MFS_OK, drive(r, t, err));
	keep(r, t);
	mfs_tuf_free(t);
	versions(2, 2, 2, 2);
}

Test(tuf_root, a_recovery_that_breaks_off_at_the_timestamp_locks_nobody_out)
{
	recovery_broken_off("timestamp.json", false);
}

Test(tuf_root, a_recovery_that_breaks_off_at_the_snapshot_locks_nobody_out)
{
	recovery_broken_off("2.snapshot.json", false);
}

Test(tuf_root, a_recovery_that_breaks_off_at_the_targets_locks_nobody_out)
{
	recovery_broken_off("2.targets.json", false);
}

Test(tuf_root, a_recovery_that_breaks_off_with_stored_files_lost_locks_nobody_out)
{
	recovery_broken_off("timestamp.json", true);
}

Test(tuf_root, a_key_more_or_another_threshold_drops_nothing)
{
	publish(r, "timestamp");
	expect(MFS_OK, refresh(r, err));
	key_add(r, "root", "timestamp", key_new(r, "ed25519"));
	key_add(r, "root", "snapshot", key_new(r, "ed25519"));
	set_version("timestamp", 1);
	publish_all(r, "root timestamp");
	expect(MFS_ROLLBACK_ATTEMPT, refresh(r, err));
	versions(2, 2, 1, 1);
}
