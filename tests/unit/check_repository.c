/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a repository's publisher: keys and their files, metadata, percents and steps, blobs. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blobs.h"
#include "io.h"
#include "keyring.h"
#include "md.h"
#include "offer.h"
#include "repo.h"

static char work[] = "/tmp/check-repository.XXXXXX";

static void
setup(void)
{
	cr_assert_not_null(mkdtemp(work));
	cr_assert_eq(chdir(work), 0);
}

static void
teardown(void)
{
	mfs_autoclose int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)mfs_remove_all(tmp, strrchr(work, '/') + 1);
}

TestSuite(repository, .init = setup, .fini = teardown);

static void
put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	cr_assert_not_null(f, "%s", path);
	cr_assert_geq(fputs(text, f), 0);
	cr_assert_eq(fclose(f), 0);
}

Test(repository, times_go_there_and_back_and_nothing_else_is_one)
{
	static const char *const bad[] = { "", "2026-11-21", "2026-11-21T03:04:05", "2026-11-21T03:04:05z", "2026-02-30T00:00:00Z",
		"2026-11-21T24:00:00Z", "2026-11-21 03:04:05Z", "2026-11-21T03:04:05Z ", "+026-11-21T03:04:05Z" };
	char text[MFS_MD_TIME_LEN];
	int64_t t;

	cr_assert_str_eq(mfs_md_time(text, 1795230245), "2026-11-21T03:04:05Z");
	cr_assert(mfs_md_time_parse("2026-11-21T03:04:05Z", &t));
	cr_assert_eq(t, 1795230245);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(!mfs_md_time_parse(bad[i], &t), "%s", bad[i]);
}

/* A root document that lists one key for every role. */
static json_t *
root_with(const struct mfs_signer *s)
{
	json_t *root = mfs_md_new("root"), *key, *roles = json_object();
	static const char *const names[] = { "root", "targets", "snapshot", "timestamp" };
	struct mfs_err err = MFS_ERR_INIT;
	char id[65];

	cr_assert_eq(mfs_md_key(s, &key, id, &err), MFS_OK, "%s", err.msg);
	for (size_t i = 0; i < 4; i++)
		cr_assert_eq(json_object_set_new(roles, names[i], json_pack("{s:[s], s:i}", "keyids", id, "threshold", 1)), 0);
	cr_assert_eq(json_object_set_new(mfs_md_signed(root), "keys", json_pack("{s:o}", id, key)), 0);
	cr_assert_eq(json_object_set_new(mfs_md_signed(root), "roles", roles), 0);
	cr_assert_eq(json_object_set_new(mfs_md_signed(root), "consistent_snapshot", json_true()), 0);
	cr_assert_eq(mfs_md_stamp(root, 1, 4102444800, &err), MFS_OK);
	return root;
}

static unsigned
signatures(const json_t *root)
{
	struct mfs_err err = MFS_ERR_INIT;
	unsigned valid, threshold;
	uint8_t *bytes;
	size_t len;

	cr_assert_eq(mfs_md_bytes(root, &bytes, &len, &err), MFS_OK);
	cr_assert_eq(mfs_tuf_count(MFS_SPAN(bytes, len), "root", MFS_SPAN(bytes, len), &valid, &threshold, &err), MFS_OK, "%s",
		err.msg);
	cr_assert_eq(threshold, 1);
	free(bytes);
	return valid;
}

static void
sign_and_count(enum mfs_signer_type type)
{
	struct mfs_signer *s, *other;
	struct mfs_err err = MFS_ERR_INIT;
	json_t *root;

	cr_assert_eq(mfs_signer_generate(type, "a", &s, &err), MFS_OK);
	cr_assert_eq(mfs_signer_generate(type, "b", &other, &err), MFS_OK);
	root = root_with(s);
	cr_assert_eq(signatures(root), 0);
	cr_assert_eq(mfs_md_sign(root, other, &err), MFS_OK);
	cr_assert_eq(signatures(root), 0, "a key that the role does not list");
	cr_assert_eq(mfs_md_sign(root, s, &err), MFS_OK);
	cr_assert_eq(mfs_md_sign(root, s, &err), MFS_OK);
	cr_assert_eq(signatures(root), 1);
	cr_assert_eq(json_array_size(json_object_get(root, "signatures")), 2, "a key signs in the place of its old signature");
	cr_assert_eq(json_object_set_new(mfs_md_signed(root), "version", json_integer(2)), 0);
	cr_assert_eq(signatures(root), 0, "a changed document");
	cr_assert_eq(mfs_md_stamp(root, 3, 4102444800, &err), MFS_OK);
	cr_assert_eq(json_array_size(json_object_get(root, "signatures")), 0, "a stamp takes signatures away");
	json_decref(root);
	mfs_signer_free(s);
	mfs_signer_free(other);
}

Test(repository, what_is_signed_here_counts_for_the_verifier_ed25519)
{
	sign_and_count(MFS_SIGNER_ED25519);
}

Test(repository, what_is_signed_here_counts_for_the_verifier_p256)
{
	sign_and_count(MFS_SIGNER_P256);
}

Test(repository, no_envelope_is_refused_by_its_shape)
{
	static const char *const bad[] = { "", "[]", "{}", "{\"signatures\":[],\"signed\":[]}", "{\"signed\":{},\"signatures\":{}}",
		"{\"signatures\":[],\"signed\":{\"_type\":\"root\",\"expires\":\"2026-11-21T03:04:05Z\",\"version\":0}}",
		"{\"signatures\":[],\"signed\":{\"_type\":\"root\",\"expires\":\"later\",\"version\":1}}",
		"{\"signatures\":[],\"signed\":{\"_type\":7,\"expires\":\"2026-11-21T03:04:05Z\",\"version\":1}}",
		"{\"signatures\":[],\"signatures\":[],\"signed\":{\"_type\":\"root\",\"expires\":\"2026-11-21T03:04:05Z\",\"version\":1}}" };
	struct mfs_err err = MFS_ERR_INIT;
	json_t *doc;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(mfs_md_parse("x.json", MFS_SPAN(bad[i], strlen(bad[i])), 4096, &doc, &err), MFS_MALFORMED, "%s", bad[i]);
		cr_assert_null(doc);
	}
	cr_assert_eq(mfs_md_parse("x.json", MFS_SPAN(bad[2], 2), 1, &doc, &err), MFS_LIMIT_EXCEEDED);
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static struct mfs_sha256
key_make(const char *path)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_signer *s;
	struct mfs_sha256 id;
	char *pem;
	size_t len;

	cr_assert_eq(mfs_signer_generate(MFS_SIGNER_ED25519, path, &s, &err), MFS_OK);
	cr_assert_eq(mfs_signer_private_pem(s, NULL, &pem, &len, &err), MFS_OK);
	cr_assert_eq(mfs_file_create(path, pem, len, 0600, &err), MFS_OK, "%s", err.msg);
	id = *mfs_signer_key_id(s);
	mfs_secret_free(pem, len);
	mfs_signer_free(s);
	return id;
}

Test(repository, keys_of_a_role_are_found_newest_first_and_no_others)
{
	struct mfs_signer *const *list;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_keyring *r;
	struct mfs_sha256 first, second, tenth, own, away;
	char uri[300];
	size_t n;

	cr_assert_eq(mkdir("K", 0700), 0);
	first = key_make("K/release.pem");
	second = key_make("K/release-2.pem");
	tenth = key_make("K/release-10.pem");
	own = key_make("K/release.det.pem");
	away = key_make("away.pem");
	(void)key_make("K/release-1.pem");     /* no number that is ever made */
	(void)key_make("K/release-x.pem");
	(void)key_make("K/releases.pem");
	(void)key_make("K/release.other.pem");
	put("K/release.pub.pem", "not looked at\n");
	(void)snprintf(uri, sizeof(uri), "file:%s/away.pem\nmore\n", work);
	put("K/release-11.uri", uri);
	cr_assert_eq(mfs_keyring_new("K", NULL, &r, &err), MFS_OK);
	cr_assert_eq(mfs_keyring_find(r, "release", &list, &n, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(n, 4);
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(list[0]), &away));
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(list[1]), &tenth));
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(list[2]), &second));
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(list[3]), &first));
	cr_assert_eq(mfs_keyring_find(r, "release.det", &list, &n, &err), MFS_OK);
	cr_assert_eq(n, 5);
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(list[0]), &own), "a model's own key comes first");
	cr_assert_eq(mfs_keyring_find(r, "timestamp", &list, &n, &err), MFS_OK);
	cr_assert_eq(n, 0);
	mfs_keyring_free(r);
}

Test(repository, a_key_of_the_command_line_stands_before_the_folder)
{
	struct mfs_signer *const *list;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_keyring *r;
	struct mfs_sha256 given;
	size_t n;

	cr_assert_eq(mkdir("K", 0700), 0);
	(void)key_make("K/timestamp.pem");
	given = key_make("given.pem");
	cr_assert_eq(mfs_keyring_new("K", NULL, &r, &err), MFS_OK);
	cr_assert_eq(mfs_keyring_add(r, "timestamp=given.pem", &err), MFS_OK);
	cr_assert_eq(mfs_keyring_add(r, "timestamp", &err), MFS_CONFIG_INVALID);
	cr_assert_eq(mfs_keyring_add(r, "=x", &err), MFS_CONFIG_INVALID);
	cr_assert_eq(mfs_keyring_find(r, "timestamp", &list, &n, &err), MFS_OK);
	cr_assert_eq(n, 2);
	cr_assert(mfs_sha256_equal(mfs_signer_key_id(list[0]), &given));
	mfs_keyring_free(r);
}

Test(repository, a_new_key_takes_the_next_number_and_is_the_newest)
{
	struct mfs_signer *const *list;
	struct mfs_signer *made;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_keyring *r;
	struct stat st;
	size_t n;

	cr_assert_eq(mfs_keyring_new("K/new", NULL, &r, &err), MFS_OK);
	cr_assert_eq(mfs_keyring_make(r, "policy", MFS_SIGNER_P256, &made, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(stat("K/new/policy.pem", &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	cr_assert_eq(mfs_keyring_make(r, "policy", MFS_SIGNER_ED25519, &made, &err), MFS_OK);
	cr_assert_eq(access("K/new/policy-2.pem", F_OK), 0);
	cr_assert_eq(mfs_keyring_find(r, "policy", &list, &n, &err), MFS_OK);
	cr_assert_eq(n, 2);
	cr_assert_eq(list[0], made);
	mfs_keyring_free(r);
	cr_assert_eq(mfs_keyring_new(NULL, NULL, &r, &err), MFS_OK);
	cr_assert_eq(mfs_keyring_make(r, "policy", MFS_SIGNER_ED25519, &made, &err), MFS_CONFIG_INVALID);
	mfs_keyring_free(r);
}

Test(repository, a_key_file_appears_whole_and_once)
{
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autofree uint8_t *got = NULL;
	size_t len;

	cr_assert_eq(mfs_file_create("a", "one", 3, 0600, &err), MFS_OK);
	cr_assert_eq(mfs_file_create("a", "two", 3, 0600, &err), MFS_IO);
	cr_assert_not_null(strstr(err.msg, "never overwritten"));
	cr_assert_eq(symlink("nowhere", "b"), 0);
	cr_assert_eq(mfs_file_create("b", "two", 3, 0600, &err), MFS_IO);
	cr_assert_eq(mfs_file_read(AT_FDCWD, "a", 10, &got, &len, &err), MFS_OK);
	cr_assert_eq(len, 3);
	cr_assert_eq(memcmp(got, "one", 3), 0);
}

/* ---- words of the command line ------------------------------------------------------------------------- */

Test(repository, percents_are_exact)
{
	static const struct {
		const char *text;
		unsigned fraction;
	} good[] = { { "0", 0 }, { "100", 10000 }, { "100%", 10000 }, { "10", 1000 }, { "0.5", 50 }, { "0.01", 1 }, { "99.99", 9999 },
		{ "7.3", 730 }, { "100.00", 10000 } };
	static const char *const bad[] = { "", "-1", "101", "100.01", "0.001", "1.", ".5", "1e1", " 1", "1 ", "10%%", "99999999999" };
	unsigned f;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert(mfs_offer_percent(good[i].text, &f), "%s", good[i].text);
		cr_assert_eq(f, good[i].fraction, "%s", good[i].text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(!mfs_offer_percent(bad[i], &f), "%s", bad[i]);
}

Test(repository, steps_only_rise)
{
	static const char *const bad[] = { "", "x", "10@", "10@1", "10@1w", "10@-1d", "20,10", "1@2d,2@1d", "10,20@@1d", "10;20" };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_offer o = { 0 };

	cr_assert_eq(mfs_offer_steps_set(&o, "1,10@12h,10@1d,100@3d", &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(o.n_steps, 4);
	cr_assert_eq(o.steps[1].fraction, 1000);
	cr_assert_eq(o.steps[1].delay_s, 12 * 3600);
	cr_assert_eq(o.steps[3].delay_s, 3 * 86400);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(mfs_offer_steps_set(&o, bad[i], &err), MFS_CONFIG_INVALID, "%s", bad[i]);
}

Test(repository, lifetimes_name_a_role_and_a_time)
{
	static const char *const bad[] = { "", "timestamp", "timestamp=", "timestamp=1", "timestamp=0d", "timestamp=-1d", "nobody=1d",
		"timestamp=1dd", "timestamp=99999999999999999999d", "release.det=1d", "timestamp=40000d" };
	struct mfs_lifetimes l = mfs_lifetimes_default;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_lifetimes_set(&l, "timestamp=36h", &err), MFS_OK);
	cr_assert_eq(l.s[MFS_LIFE_TIMESTAMP], 36 * 3600);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(mfs_lifetimes_set(&l, bad[i], &err), MFS_CONFIG_INVALID, "%s", bad[i]);
	cr_assert_eq(mfs_life_of("policy.det"), MFS_LIFE_POLICY);
	cr_assert_eq(mfs_life_of("release.policy"), MFS_LIFE_RELEASE);
	cr_assert_eq(mfs_life_of("snapshot"), MFS_LIFE_SNAPSHOT);
}

static struct mfs_policy_entry
entry(const char *version, int64_t release)
{
	struct mfs_policy_entry e = { .release = release, .variant = "default" };

	e.manifest.b[0] = (uint8_t)release;
	(void)snprintf(e.version, sizeof(e.version), "%s", version);
	return e;
}

Test(repository, what_no_device_can_reach_is_dropped_but_the_last_offer_to_all)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_policy_rollout *r;
	struct mfs_offer all = { 0 }, tenth = { 0 };
	struct mfs_policy *p;
	char version[16];

	cr_assert_eq(mfs_policy_new("det", &p, &err), MFS_OK);
	cr_assert_eq(mfs_offer_percent_set(&tenth, "10", &err), MFS_OK);
	for (int i = 1; i <= 5; i++) {
		struct mfs_policy_entry e;

		(void)snprintf(version, sizeof(version), "1.%d.0", i);
		e = entry(version, i);
		cr_assert_eq(mfs_offer_add(p, &all, &e, 1000, &r, &err), MFS_OK, "%s", err.msg);
	}
	cr_assert_eq(p->n_rollouts, 2, "the newest, and what it replaced");
	cr_assert_str_eq(p->rollouts[0].id, "1.5.0");
	cr_assert_str_eq(p->rollouts[1].id, "1.4.0");
	for (int i = 6; i <= 8; i++) {
		struct mfs_policy_entry e;

		(void)snprintf(version, sizeof(version), "1.%d.0", i);
		e = entry(version, i);
		cr_assert_eq(mfs_offer_add(p, &tenth, &e, 1000, &r, &err), MFS_OK);
	}
	cr_assert_eq(p->n_rollouts, 5, "rollouts to some hide nothing");
	cr_assert_str_neq(p->rollouts[0].salt, p->rollouts[1].salt, "the same devices are not always first");
	mfs_policy_free(p);
}

Test(repository, other_steps_keep_the_salt)
{
	struct mfs_policy_entry e = entry("1.0.0", 1);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_offer o = { 0 };
	struct mfs_policy_rollout *r;
	struct mfs_policy *p;
	char salt[MFS_POLICY_TEXT_MAX + 1];
	unsigned fraction;

	cr_assert_eq(mfs_policy_new("det", &p, &err), MFS_OK);
	cr_assert_eq(mfs_offer_percent_set(&o, "10", &err), MFS_OK);
	cr_assert_eq(mfs_offer_add(p, &o, &e, 1000, &r, &err), MFS_OK);
	(void)snprintf(salt, sizeof(salt), "%s", r->salt);
	cr_assert_eq(mfs_policy_step_now(r, 1000, &fraction), 1);
	cr_assert_eq(fraction, 1000);
	cr_assert_eq(mfs_policy_step_now(r, 999999, &fraction), 1, "nothing climbs unconfirmed");
	r->confirmed = 2;
	cr_assert_eq(mfs_policy_step_now(r, 1000, &fraction), 2);
	cr_assert_eq(mfs_offer_percent_set(&o, "5", &err), MFS_OK);
	cr_assert_eq(mfs_offer_steps(r, &o, 2000, &err), MFS_OK);
	cr_assert_eq(mfs_policy_step_now(r, 2000, &fraction), 1);
	cr_assert_eq(fraction, 500);
	cr_assert_str_eq(r->salt, salt);
	mfs_policy_free(p);
}

/* ---- blobs ----------------------------------------------------------------------------------------------- */

static struct mfs_sha256
sha256_of(const char *text)
{
	struct mfs_sha256 h;

	cr_assert_eq(mfs_sha256(MFS_SPAN(text, strlen(text)), &h, NULL), MFS_OK);
	return h;
}

Test(repository, a_blob_that_is_not_what_was_signed_never_appears)
{
	struct mfs_sha256 hash = sha256_of("good");
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), src = -1;
	char path[MFS_BLOB_PATH];
	bool added;

	put("src", "evil");
	src = open("src", O_RDONLY | O_CLOEXEC);
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, false, NULL, &added, &err), MFS_HASH_MISMATCH);
	cr_assert(!added);
	cr_assert_eq(access(mfs_blob_path(path, &hash), F_OK), -1);
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, true, NULL, &added, &err), MFS_HASH_MISMATCH, "nor as a link");
	cr_assert_eq(mfs_blob_look(dir, &hash, 4), MFS_BLOB_ABSENT);
	put("src", "good");
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 5, false, NULL, &added, &err), MFS_IO, "shorter than said");
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, false, NULL, &added, &err), MFS_OK, "%s", err.msg);
	cr_assert(added);
	cr_assert_eq(mfs_blob_look(dir, &hash, 4), MFS_BLOB_THERE);
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, false, NULL, &added, &err), MFS_OK);
	cr_assert(!added);
}

Test(repository, a_damaged_blob_is_replaced)
{
	struct mfs_sha256 hash = sha256_of("good");
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), src = -1;
	char path[MFS_BLOB_PATH], part[MFS_BLOB_PATH + 16];
	bool added;

	put("src", "good");
	src = open("src", O_RDONLY | O_CLOEXEC);
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, false, NULL, &added, &err), MFS_OK);
	(void)snprintf(part, sizeof(part), "%s/00000", mfs_blob_path(path, &hash));
	cr_assert_eq(truncate(part, 3), 0);
	cr_assert_eq(mfs_blob_look(dir, &hash, 4), MFS_BLOB_DAMAGED);
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, false, NULL, &added, &err), MFS_OK, "%s", err.msg);
	cr_assert(added);
	cr_assert_eq(mfs_blob_verify(dir, &hash, 4, NULL, &err), MFS_OK);
	(void)snprintf(part, sizeof(part), "%s/00001", path);
	put(part, "surplus");
	cr_assert_eq(mfs_blob_look(dir, &hash, 4), MFS_BLOB_DAMAGED);
	cr_assert_eq(mfs_blob_add(dir, src, "src", &hash, 4, false, NULL, &added, &err), MFS_OK);
	cr_assert_eq(access(part, F_OK), -1);
	(void)snprintf(part, sizeof(part), "%s/00000", path);
	put(part, "evil");
	cr_assert_eq(mfs_blob_look(dir, &hash, 4), MFS_BLOB_THERE, "by names and sizes");
	cr_assert_eq(mfs_blob_verify(dir, &hash, 4, NULL, &err), MFS_HASH_MISMATCH, "by bytes");
	cr_assert_eq(mkdir("to", 0777), 0);
	{
		mfs_autoclose int to = open("to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		cr_assert_eq(mfs_blob_copy(dir, to, &hash, 4, false, NULL, &added, &err), MFS_HASH_MISMATCH);
		cr_assert_eq(mfs_blob_look(to, &hash, 4), MFS_BLOB_ABSENT, "damage is not passed on");
	}
}

Test(repository, parts_are_counted)
{
	cr_assert_eq(mfs_blob_parts(0), 0);
	cr_assert_eq(mfs_blob_parts(1), 1);
	cr_assert_eq(mfs_blob_parts(MFS_BLOB_PART), 1);
	cr_assert_eq(mfs_blob_parts(MFS_BLOB_PART + 1), 2);
	cr_assert_eq(mfs_blob_parts(1ull << 46), 262144);
}

Test(repository, a_target_is_named_by_its_hash)
{
	const struct mfs_sha256 h = sha256_of("");
	mfs_autofree char *deep = mfs_repo_target_path("det/1.0.0/default/manifest.json", &h);
	mfs_autofree char *top = mfs_repo_target_path("trust.json", &h);

	cr_assert_str_eq(deep, "targets/det/1.0.0/default/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.manifest.json");
	cr_assert_str_eq(top, "targets/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.trust.json");
}
