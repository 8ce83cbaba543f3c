/* SPDX-License-Identifier: Apache-2.0 */
#include "keyring.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"

#define KEY_FILES_MAX 64u /* key files of one role */
#define KEY_NUMBER_MAX 9999u

struct entry { /* the keys of one role, once they have been looked for */
	char *role;
	struct mfs_signer *keys[KEY_FILES_MAX];
	size_t n;
};

struct mfs_keyring {
	const char *dir, *passin;
	const char **args; /* "ROLE=URI" */
	size_t n_args;
	struct entry **entries;
	size_t n_entries;
};

struct candidate {
	char *name;
	unsigned number; /* 1 for R.pem */
	bool uri;
};

static void
entry_free(struct entry *e)
{
	if (e == NULL)
		return;
	for (size_t i = 0; i < e->n; i++)
		mfs_signer_free(e->keys[i]);
	free(e->role);
	free(e);
}
MFS_DEFINE_CLEANUP(entry, struct entry, entry_free)

enum mfs_code
mfs_keyring_new(const char *dir, const char *passin, struct mfs_keyring **out, struct mfs_err *err)
{
	if ((*out = calloc(1, sizeof(**out))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys");
	(*out)->dir = dir;
	(*out)->passin = passin;
	return MFS_OK;
}

void
mfs_keyring_free(struct mfs_keyring *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_entries; i++)
		entry_free(r->entries[i]);
	free(r->entries);
	free(r->args);
	free(r);
}

const char *
mfs_keyring_dir(const struct mfs_keyring *r)
{
	return r->dir;
}

enum mfs_code
mfs_keyring_add(struct mfs_keyring *r, const char *arg, struct mfs_err *err)
{
	static const char *const roles[] = { "root", "targets", "snapshot", "timestamp", "release", "policy" };
	const char *equals = strchr(arg, '=');
	const char **args;
	bool known = false;

	if (equals == NULL || equals == arg || equals[1] == '\0')
		return mfs_fail(err, MFS_CONFIG_INVALID, "--key %s: want ROLE=URI, for example timestamp=pkcs11:object=ts",
			MFS_ESC(arg));
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]) && !known; i++)
		known = strlen(roles[i]) == (size_t)(equals - arg) && strncmp(arg, roles[i], (size_t)(equals - arg)) == 0;
	if (!known && memchr(arg, '.', (size_t)(equals - arg)) == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--key %s: want root, targets, snapshot, timestamp, release, policy, release.ID "
			"or policy.ID before '='", MFS_ESC(arg));
	if ((args = reallocarray(r->args, r->n_args + 1, sizeof(*args))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys");
	r->args = args;
	r->args[r->n_args++] = arg;
	return MFS_OK;
}

/* "timestamp-2.pem" is a key file of "timestamp", with number 2; "release.pub.pem" is none. */
static bool
file_matches(const char *file, const char *role, struct candidate *c)
{
	const size_t len = strlen(role);
	const char *rest = file + len;
	unsigned n = 1;

	if (strncmp(file, role, len) != 0)
		return false;
	if (rest[0] == '-') {
		n = 0;
		for (rest++; *rest >= '0' && *rest <= '9' && n <= KEY_NUMBER_MAX; rest++)
			n = n * 10 + (unsigned)(*rest - '0');
		if (n < 2 || n > KEY_NUMBER_MAX)
			return false;
	}
	c->number = n;
	c->uri = strcmp(rest, ".uri") == 0;
	return c->uri || strcmp(rest, ".pem") == 0;
}

static int
candidate_order(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->number != y->number ? (x->number < y->number ? 1 : -1) : strcmp(x->name, y->name);
}

static void
candidates_free(struct candidate *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].name);
}

/* The role's files in the folder, newest first. An absent folder holds none. */
static enum mfs_code
candidates_list(const struct mfs_keyring *r, const char *role, struct candidate list[KEY_FILES_MAX], size_t *n,
	struct mfs_err *err)
{
	mfs_autodir DIR *d = NULL;
	const struct dirent *e;

	*n = 0;
	if (r->dir == NULL)
		return MFS_OK;
	if ((d = opendir(r->dir)) == NULL)
		return errno == ENOENT ? MFS_OK : mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(r->dir));
	while ((e = readdir(d)) != NULL) {
		struct candidate c;

		if (!file_matches(e->d_name, role, &c))
			continue;
		if (*n == KEY_FILES_MAX)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %u keys of %s", MFS_ESC(r->dir), KEY_FILES_MAX,
				MFS_ESC(role));
		if (asprintf(&c.name, "%s/%s", r->dir, e->d_name) < 0)
			return mfs_fail(err, MFS_NO_MEMORY, "keys");
		list[(*n)++] = c;
	}
	qsort(list, *n, sizeof(list[0]), candidate_order);
	return MFS_OK;
}

/* The first line of FILE.uri. */
static enum mfs_code
uri_load(const char *path, const char *passin, struct mfs_signer **out, struct mfs_err *err)
{
	mfs_autofree uint8_t *text = NULL;
	enum mfs_code code;
	size_t len;

	*out = NULL;
	if ((code = mfs_file_read(AT_FDCWD, path, 4096, &text, &len, err)) != MFS_OK)
		return code;
	text[strcspn((char *)text, "\r\n")] = '\0';
	if (text[0] == '\0')
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: empty; want an OpenSSL store URI", MFS_ESC(path));
	if ((code = mfs_signer_load((const char *)text, passin, out, err)) != MFS_OK)
		(void)mfs_err_context(err, "%s: ", MFS_ESC(path));
	return code;
}

/* Add the key unless the entry holds it: one key may lie under two names. */
static void
entry_put(struct entry *e, struct mfs_signer *s)
{
	for (size_t i = 0; i < e->n; i++)
		if (mfs_sha256_equal(mfs_signer_key_id(e->keys[i]), mfs_signer_key_id(s))) {
			mfs_signer_free(s);
			return;
		}
	e->keys[e->n++] = s;
}

/* Keys of exactly this name: options first, then the folder. */
static enum mfs_code
entry_fill(const struct mfs_keyring *r, struct entry *e, const char *role, struct mfs_err *err)
{
	struct candidate list[KEY_FILES_MAX];
	const size_t len = strlen(role);
	struct mfs_signer *s = NULL;
	enum mfs_code code;
	size_t n = 0;

	for (size_t i = 0; i < r->n_args; i++) {
		if (strncmp(r->args[i], role, len) != 0 || r->args[i][len] != '=' || e->n == KEY_FILES_MAX)
			continue;
		if ((code = mfs_signer_load(r->args[i] + len + 1, r->passin, &s, err)) != MFS_OK)
			return code;
		entry_put(e, s);
	}
	code = candidates_list(r, role, list, &n, err);
	for (size_t i = 0; i < n && code == MFS_OK && e->n < KEY_FILES_MAX; i++) {
		code = list[i].uri ? uri_load(list[i].name, r->passin, &s, err) :
				     mfs_signer_load(list[i].name, r->passin, &s, err);
		if (code == MFS_OK)
			entry_put(e, s);
	}
	candidates_free(list, n);
	return code;
}

static enum mfs_code
entry_get(struct mfs_keyring *r, const char *role, struct entry **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_entry) struct entry *e = NULL;
	const char *dot = strchr(role, '.');
	mfs_autofree char *general = NULL;
	struct entry **entries;
	enum mfs_code code;

	for (size_t i = 0; i < r->n_entries; i++)
		if (strcmp(r->entries[i]->role, role) == 0) {
			*out = r->entries[i];
			return MFS_OK;
		}
	if ((e = calloc(1, sizeof(*e))) == NULL || (e->role = strdup(role)) == NULL ||
		(entries = reallocarray(r->entries, r->n_entries + 1, sizeof(struct entry *))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys");
	r->entries = entries;
	if ((code = entry_fill(r, e, role, err)) != MFS_OK)
		return code;
	if (dot != NULL) {
		if ((general = strndup(role, (size_t)(dot - role))) == NULL)
			return mfs_fail(err, MFS_NO_MEMORY, "keys");
		if ((code = entry_fill(r, e, general, err)) != MFS_OK)
			return code;
	}
	*out = e;
	r->entries[r->n_entries++] = mfs_steal(&e);
	return MFS_OK;
}

enum mfs_code
mfs_keyring_find(struct mfs_keyring *r, const char *role, struct mfs_signer *const **list, size_t *n,
	struct mfs_err *err)
{
	struct entry *e = NULL;
	enum mfs_code code = entry_get(r, role, &e, err);

	*list = NULL;
	*n = 0;
	if (code != MFS_OK)
		return code;
	*list = e->n > 0 ? e->keys : NULL;
	*n = e->n;
	return MFS_OK;
}

enum mfs_code
mfs_keyring_make(struct mfs_keyring *r, const char *role, enum mfs_signer_type type, struct mfs_signer **out,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_signer) struct mfs_signer *s = NULL;
	struct candidate list[KEY_FILES_MAX];
	mfs_autofree char *path = NULL;
	char *pem = NULL, number[16] = "";
	struct entry *e = NULL;
	enum mfs_code code;
	size_t len = 0, n = 0;

	*out = NULL;
	if (r->dir == NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "a new %s key needs a folder: --keys KEYDIR", MFS_ESC(role));
	if ((code = entry_get(r, role, &e, err)) != MFS_OK)
		return code;
	if (e->n == KEY_FILES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %u keys of %s", MFS_ESC(r->dir), KEY_FILES_MAX, MFS_ESC(role));
	/* The numbers of this very name: those of "release" do not count for "release.det". */
	code = candidates_list(r, role, list, &n, err);
	if (code == MFS_OK && n > 0)
		(void)snprintf(number, sizeof(number), "-%u", list[0].number + 1);
	candidates_free(list, n);
	if (code != MFS_OK)
		return code;
	if (asprintf(&path, "%s/%s%s.pem", r->dir, role, number) < 0) {
		path = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "keys");
	}
	if ((code = mfs_mkdirs(AT_FDCWD, r->dir, 0700, err)) != MFS_OK ||
		(code = mfs_signer_generate(type, path, &s, err)) != MFS_OK ||
		(code = mfs_signer_private_pem(s, NULL, &pem, &len, err)) != MFS_OK)
		return code;
	code = mfs_file_create(path, pem, len, 0600, err);
	mfs_secret_free(pem, len);
	if (code != MFS_OK || (code = mfs_dir_sync(AT_FDCWD, r->dir, err)) != MFS_OK)
		return code;
	memmove(e->keys + 1, e->keys, e->n * sizeof(e->keys[0]));
	e->keys[0] = s;
	e->n++;
	*out = mfs_steal(&s);
	return MFS_OK;
}
