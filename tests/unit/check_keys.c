/* SPDX-License-Identifier: Apache-2.0 */
/* check_keys.c - the keys that a configuration names: opened by keeper, loaded by serve, trusted for one repository. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "configfix.h"
#include "keys.h"
#include "mfs_policy.h"

static const char public_key[] = "-----BEGIN PUBLIC KEY-----\n"
	"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
	"-----END PUBLIC KEY-----\n";

struct keyring {
	char dir[256];
	struct mfs_config *c;
	struct mfs_key_fds fds;
	struct mfs_err err;
};

static enum mfs_code
open_keys(struct keyring *k, const char *models)
{
	struct mfs_config_snapshot *s = NULL;
	char text[512];
	enum mfs_code code;
	int state;

	(void)snprintf(text, sizeof(text), "trust: {keys: [r.pem]}\nmodels: {%s}\n", models);
	write_text("m.yaml", text, 0644);
	k->err = (struct mfs_err)MFS_ERR_INIT;
	cr_assert_eq(mfs_config_read("m.yaml", &s, &k->err), MFS_OK, "%s", k->err.msg);
	cr_assert_eq(mfs_config_parse(s, &k->c, &k->err), MFS_OK, "%s", k->err.msg);
	mfs_config_snapshot_free(s);
	cr_assert_geq(state = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0);
	code = mfs_key_fds_open(k->c, state, &k->fds, &k->err);
	(void)close(state);
	return code;
}

static void
close_keys(struct keyring *k)
{
	mfs_key_fds_close(k->c, &k->fds);
	mfs_config_free(k->c);
}

Test(keys, a_missing_trust_key_names_file_and_line)
{
	struct keyring k;

	enter_folder(k.dir);
	cr_assert_eq(open_keys(&k, ""), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(k.err.msg, "m.yaml:1:16: trust.keys: "), "%s", k.err.msg);
	cr_assert_not_null(strstr(k.err.msg, "r.pem: No such file"), "%s", k.err.msg);
	close_keys(&k);
	leave_folder(k.dir);
}

Test(keys, a_trust_key_that_is_none_is_refused)
{
	struct mfs_keys *keys = NULL;
	struct keyring k;

	enter_folder(k.dir);
	write_text("r.pem", "no key\n", 0644);
	write_text("key", "0123456789abcdef0123456789abcdef", 0600);
	cr_assert_eq(open_keys(&k, ""), MFS_OK);
	cr_assert_eq(mfs_keys_load(k.c, &k.fds, &keys, &k.err), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(k.err.msg, "m.yaml:1:16: trust.keys: "), "%s", k.err.msg);
	close_keys(&k);
	leave_folder(k.dir);
}

Test(keys, a_missing_state_key_is_key_unavailable)
{
	struct keyring k;

	enter_folder(k.dir);
	write_text("r.pem", public_key, 0644);
	cr_assert_eq(open_keys(&k, ""), MFS_KEY_UNAVAILABLE);
	cr_assert_not_null(strstr(k.err.msg, "recover"), "%s", k.err.msg);
	close_keys(&k);
	leave_folder(k.dir);
}

Test(keys, a_bad_model_key_costs_its_model_alone_and_says_why)
{
	struct mfs_manifest m = { .cipher = MFS_CIPHER_AES_256_GCM };
	struct mfs_wrap wrap = { 0 };
	struct mfs_keys *keys = NULL;
	struct mfs_key content, got;
	struct mfs_key model = { "0123456789abcdef0123456789abcdef" };
	static const struct { const char *model, *why; } want[] = {
		{ "absent", "No such file" }, { "open", "chmod 0600" }, { "long", "a key file has 32" },
		{ "short", "model key" }, { "plain", "has no model_key" },
		{ "cred", "CREDENTIALS_DIRECTORY" },
	};
	struct mfs_trust *trust;
	struct keyring k;

	enter_folder(k.dir);
	(void)unsetenv("CREDENTIALS_DIRECTORY");
	write_text("r.pem", public_key, 0644);
	write_text("key", "0123456789abcdef0123456789abcdef", 0600);
	write_text("good", "0123456789abcdef0123456789abcdef", 0600);
	write_text("seen", "0123456789abcdef0123456789abcdef", 0644);
	write_text("open", "0123456789abcdef0123456789abcdef", 0620);
	write_text("short", "0123456789abcdef", 0600);
	cr_assert_eq(truncate("key", 32), 0);
	write_text("long", "x", 0600);
	cr_assert_eq(truncate("long", 1000), 0);
	cr_assert_eq(open_keys(&k, "good: {model_key: \"file:good\"}, absent: {model_key: \"file:absent\"}, "
		"seen: {model_key: \"file:seen\"}, open: {model_key: \"file:open\"}, long: {model_key: \"file:long\"}, short: {model_key: \"file:short\"}, "
		"plain: {}, cred: {model_key: \"credential:x\"}"), MFS_OK, "%s", k.err.msg);
	cr_assert_eq(mfs_keys_load(k.c, &k.fds, &keys, &k.err), MFS_OK, "%s", k.err.msg);
	trust = mfs_keys_trust(keys, 0);
	cr_assert_eq(mfs_trust_count(trust), 1);
	mfs_trust_free(trust);
	cr_assert_eq(memcmp(mfs_keys_state(keys)->b, model.b, MFS_KEY_LEN), 0);

	memset(&content, 7, sizeof(content));
	cr_assert_eq(mfs_content_key_id(&content, &m.content_key_id, NULL), MFS_OK);
	cr_assert_eq(mfs_model_key_id(&model, &wrap.model_key_id, NULL), MFS_OK);
	cr_assert_eq(mfs_kwp_wrap(&model, &content, wrap.wrapped, NULL), MFS_OK);
	m.wraps = &wrap;
	m.n_wraps = 1;
	cr_assert_eq(mfs_keys_content(keys, (size_t)mfs_config_find(k.c, "good"), &m, &got, &k.err), MFS_OK, "%s",
		k.err.msg);
	cr_assert_eq(memcmp(got.b, content.b, MFS_KEY_LEN), 0);
	cr_assert_eq(mfs_keys_content(keys, (size_t)mfs_config_find(k.c, "seen"), &m, &got, &k.err), MFS_OK,
		"one that others can read is weaker, not useless: %s", k.err.msg);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		size_t at = (size_t)mfs_config_find(k.c, want[i].model);

		cr_assert_eq(mfs_keys_content(keys, at, &m, &got, &k.err), MFS_KEY_UNAVAILABLE);
		cr_assert_not_null(strstr(k.err.msg, want[i].why), "%s: %s", want[i].model, k.err.msg);
	}
	wrap.wrapped[3] ^= 1;
	cr_assert_eq(mfs_keys_content(keys, (size_t)mfs_config_find(k.c, "good"), &m, &got, &k.err), MFS_DECRYPT_FAILED);
	mfs_keys_free(keys);
	close_keys(&k);
	leave_folder(k.dir);
}

Test(keys, a_credential_is_found_by_its_name)
{
	struct mfs_keys *keys = NULL;
	struct keyring k;

	enter_folder(k.dir);
	cr_assert_eq(setenv("CREDENTIALS_DIRECTORY", k.dir, 1), 0);
	write_text("r.pem", public_key, 0644);
	write_text("key", "0123456789abcdef0123456789abcdef", 0600);
	write_text("mk", "0123456789abcdef0123456789abcdef", 0400);
	cr_assert_eq(open_keys(&k, "det: {model_key: \"credential:mk\"}"), MFS_OK, "%s", k.err.msg);
	cr_assert_geq(k.fds.model[0], 0);
	cr_assert_eq(mfs_keys_load(k.c, &k.fds, &keys, &k.err), MFS_OK, "%s", k.err.msg);
	mfs_keys_free(keys);
	close_keys(&k);
	leave_folder(k.dir);
}

static const char other_key[] = "-----BEGIN PUBLIC KEY-----\n"
	"MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
	"-----END PUBLIC KEY-----\n";

/* Keys of model i's trust list, and whether `id` is among them. */
static size_t
trusts(const struct mfs_keys *keys, size_t i, const struct mfs_sha256 *id, bool *has)
{
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *t = mfs_keys_trust(keys, i);
	size_t n = mfs_trust_count(t);

	*has = false;
	for (size_t k = 0; k < n; k++)
		*has = *has || mfs_sha256_equal(mfs_trust_key_id(t, k), id);
	return n;
}

Test(keys, keys_of_one_repository_do_not_sign_for_another)
{
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *list = NULL;
	mfs_autofree char *json = NULL;
	struct mfs_config_snapshot *s = NULL;
	struct mfs_keys *keys = NULL;
	struct mfs_trust *before;
	struct mfs_sha256 id;
	struct keyring k = { .err = MFS_ERR_INIT };
	size_t len;
	bool has;

	enter_folder(k.dir);
	write_text("m.yaml", "trust: {keys: [r.pem], root: root.json}\n"
		"repositories: {one: {url: \"file:///1\"}, two: {url: \"file:///2\", root: none.json}}\n"
		"models: {a: {repository: one}, b: {repository: two}}\n", 0644);
	write_text("r.pem", public_key, 0644);
	write_text("root.json", "{root}", 0644);
	cr_assert_eq(mfs_config_read("m.yaml", &s, &k.err), MFS_OK, "%s", k.err.msg);
	cr_assert_eq(mfs_config_parse(s, &k.c, &k.err), MFS_OK, "%s", k.err.msg);
	mfs_config_snapshot_free(s);
	cr_assert_eq(mfs_key_fds_open(k.c, -1, &k.fds, &k.err), MFS_OK, "%s", k.err.msg);
	cr_assert_eq(mfs_keys_load(k.c, &k.fds, &keys, &k.err), MFS_OK, "%s", k.err.msg);
	cr_assert(mfs_span_equal(mfs_keys_root(keys, 0), MFS_SPAN("{root}", 6)));
	cr_assert_eq(mfs_keys_root(keys, 1).len, 0, "an absent root leaves the models served");
	cr_assert_eq(mfs_key_id_pem(MFS_SPAN(other_key, strlen(other_key)), &id, NULL), MFS_OK);
	cr_assert_eq(mfs_trustlist_new(&list, NULL), MFS_OK);
	cr_assert_eq(mfs_trustlist_add_pem(list, "other", MFS_SPAN(other_key, strlen(other_key)), 1, NULL, &k.err), MFS_OK,
		"%s", k.err.msg);
	cr_assert_eq(mfs_trustlist_json(list, &json, &len, NULL), MFS_OK);

	before = mfs_keys_trust(keys, 0);
	cr_assert_eq(mfs_keys_trust_set(keys, 0, MFS_SPAN(json, len), &k.err), MFS_OK, "%s", k.err.msg);
	cr_assert_eq(mfs_trust_count(before), 1, "a list in use stays as it was");
	mfs_trust_free(before);
	cr_assert_eq(trusts(keys, 0, &id, &has), 2);
	cr_assert(has);
	cr_assert_eq(trusts(keys, 1, &id, &has), 1);
	cr_assert(!has, "the other repository's list");
	cr_assert_eq(trusts(keys, 2, &id, &has), 1);
	cr_assert(!has, "no model: the configuration's alone");
	cr_assert_eq(mfs_keys_trust_set(keys, 0, MFS_SPAN("{}", 2), &k.err), MFS_MALFORMED);
	cr_assert_eq(trusts(keys, 0, &id, &has), 2, "nothing changes then");
	cr_assert_eq(mfs_keys_trust_set(keys, 0, (struct mfs_span){ NULL, 0 }, NULL), MFS_OK);
	cr_assert_eq(trusts(keys, 0, &id, &has), 1);
	cr_assert(!has, "gone from trust.json");
	mfs_keys_free(keys);
	close_keys(&k);
	leave_folder(k.dir);
}
