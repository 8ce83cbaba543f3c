/* SPDX-License-Identifier: Apache-2.0 */
#include "keys.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"
#include "mfs_policy.h"

#define TRUST_KEY_BYTES_MAX (16u << 10) /* one PEM public key */
#define MODEL_KEY_BYTES_MAX 256u        /* 32 raw bytes, or 64 hex digits and a newline */
#define HEAP_BYTES          (64u << 10) /* within the smallest usual RLIMIT_MEMLOCK */

/* ---- secret memory ------------------------------------------------------------------------------ */

static pthread_once_t heap_once = PTHREAD_ONCE_INIT;
static int heap_state; /* of CRYPTO_secure_malloc_init: 1 locked, 2 partly, 0 none */

static void
heap_init(void)
{
	heap_state = CRYPTO_secure_malloc_init(HEAP_BYTES, 64);
}

enum mfs_secret_memory
mfs_secret_memory(void)
{
	(void)pthread_once(&heap_once, heap_init);
	return heap_state == 1 ? MFS_SECRET_LOCKED : heap_state == 2 ? MFS_SECRET_GUARDED : MFS_SECRET_PLAIN;
}

void *
mfs_secret_alloc(size_t n)
{
	void *p;

	(void)mfs_secret_memory();
	/* A full secure heap is no reason to lose a model: plain memory is wiped as well. */
	if (CRYPTO_secure_malloc_initialized() && (p = OPENSSL_secure_zalloc(n)) != NULL)
		return p;
	return OPENSSL_zalloc(n);
}

void
mfs_secret_free(void *p, size_t n)
{
	OPENSSL_secure_clear_free(p, n);
}

/* ---- descriptors ---------------------------------------------------------------------------------- */

static int
open_regular(int dirfd, const char *path, struct stat *st)
{
	mfs_autoclose int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 || fstat(fd, st) != 0)
		return -1;
	if (!S_ISREG(st->st_mode)) {
		errno = S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
		return -1;
	}
	return mfs_steal_fd(&fd);
}

/* A reason in words, kept for model i; the model is KEY_UNAVAILABLE, the others are served. */
static void
keep_reason(struct mfs_key_fds *k, size_t i, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void
keep_reason(struct mfs_key_fds *k, size_t i, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&k->reason[i], fmt, ap) < 0)
		k->reason[i] = NULL;
	va_end(ap);
}

static void
open_model(const struct mfs_config_model *m, struct mfs_key_fds *k, size_t i)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	mfs_autofree char *path = NULL;
	mfs_autoclose int fd = -1;
	struct stat st;
	int n;

	if (m->model_key == NULL)
		return;
	if (strncmp(m->model_key, "credential:", 11) == 0) {
		if (folder == NULL || folder[0] != '/') {
			keep_reason(k, i, "model_key %s: CREDENTIALS_DIRECTORY is not set; use LoadCredential= in the unit",
				MFS_ESC(m->model_key));
			return;
		}
		n = asprintf(&path, "%s/%s", folder, m->model_key + 11);
	} else {
		n = asprintf(&path, "%s", m->model_key + 5);
	}
	if (n < 0) {
		path = NULL;
		keep_reason(k, i, "model_key: no memory");
		return;
	}
	if ((fd = open_regular(AT_FDCWD, path, &st)) < 0) {
		keep_reason(k, i, "model key %s: %s", MFS_ESC(path), strerror(errno));
		return;
	}
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		keep_reason(k, i, "model key %s: mode %04o lets others replace it; run: chmod 0600 %s", MFS_ESC(path),
			(unsigned)(st.st_mode & 07777), MFS_ESC(path));
		return;
	}
	/* Only secrecy towards this host's own users is weaker: said here and by doctor, and the model is served. */
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		mfs_log(MFS_LOG_WARN, "model key %s: mode %04o lets others read it; run: chmod 0600 %s", MFS_ESC(path),
			(unsigned)(st.st_mode & 07777), MFS_ESC(path));
	if (st.st_size > MODEL_KEY_BYTES_MAX) {
		keep_reason(k, i, "model key %s: %lld bytes, a key file has 32 (or 64 hex digits)", MFS_ESC(path),
			(long long)st.st_size);
		return;
	}
	k->model[i] = mfs_steal_fd(&fd);
}

static enum mfs_code
open_all(const struct mfs_config *c, int state_dirfd, struct mfs_key_fds *k, struct mfs_err *err)
{
	struct stat st;

	for (size_t i = 0; i < c->n_keys; i++) {
		const struct mfs_config_key *key = &c->keys[i];

		k->trust[i] = open_regular(AT_FDCWD, key->file, &st);
		if (k->trust[i] < 0 && errno == EINVAL)
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%u:%u: trust.keys: %s: not a regular file",
				MFS_ESC(key->source), key->line, key->column, MFS_ESC(key->file));
		if (k->trust[i] < 0)
			return mfs_fail_sys(err, MFS_CONFIG_INVALID, "%s:%u:%u: trust.keys: %s", MFS_ESC(key->source),
				key->line, key->column, MFS_ESC(key->file));
		if (st.st_size > TRUST_KEY_BYTES_MAX)
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s:%u:%u: trust.keys: %s: %lld bytes is no public key",
				MFS_ESC(key->source), key->line, key->column, MFS_ESC(key->file), (long long)st.st_size);
	}
	for (size_t i = 0; i < c->n_models; i++)
		open_model(&c->models[i], k, i);
	for (size_t i = 0; i < c->n_repos; i++)
		k->root[i] = open_regular(AT_FDCWD, c->repos[i].root, &st); /* without it, one that is in the state is used */
	if (state_dirfd >= 0 && (k->state = open_regular(state_dirfd, "key", &st)) < 0) {
		(void)mfs_fail_sys(err, MFS_KEY_UNAVAILABLE, "state key %s/key", MFS_ESC(c->state));
		return mfs_err_hint(err, "; without it the state cannot be read, see 'modelfs recover'");
	}
	return MFS_OK;
}

enum mfs_code
mfs_key_fds_open(const struct mfs_config *c, int state_dirfd, struct mfs_key_fds *out, struct mfs_err *err)
{
	enum mfs_code code;

	*out = (struct mfs_key_fds){ .state = -1 };
	out->trust = calloc(c->n_keys + 1, sizeof(*out->trust));
	out->model = calloc(c->n_models + 1, sizeof(*out->model));
	out->reason = calloc(c->n_models + 1, sizeof(*out->reason));
	out->root = calloc(c->n_repos + 1, sizeof(*out->root));
	for (size_t i = 0; out->trust != NULL && i < c->n_keys; i++)
		out->trust[i] = -1;
	for (size_t i = 0; out->model != NULL && i < c->n_models; i++)
		out->model[i] = -1;
	for (size_t i = 0; out->root != NULL && i < c->n_repos; i++)
		out->root[i] = -1;
	if (out->trust == NULL || out->model == NULL || out->reason == NULL || out->root == NULL)
		code = mfs_fail(err, MFS_NO_MEMORY, "keys: no memory");
	else
		code = open_all(c, state_dirfd, out, err);
	if (code != MFS_OK)
		mfs_key_fds_close(c, out);
	return code;
}

void
mfs_key_fds_close(const struct mfs_config *c, struct mfs_key_fds *k)
{
	for (size_t i = 0; k->trust != NULL && i < c->n_keys; i++)
		mfs_cleanup_close(&k->trust[i]);
	for (size_t i = 0; k->model != NULL && i < c->n_models; i++)
		mfs_cleanup_close(&k->model[i]);
	for (size_t i = 0; k->reason != NULL && i < c->n_models; i++)
		free(k->reason[i]);
	for (size_t i = 0; k->root != NULL && i < c->n_repos; i++)
		mfs_cleanup_close(&k->root[i]);
	mfs_cleanup_close(&k->state);
	free(k->trust);
	free(k->model);
	free(k->reason);
	free(k->root);
	*k = (struct mfs_key_fds){ .state = -1 };
}

/* ---- keys ------------------------------------------------------------------------------------------ */

struct mfs_keys {
	const struct mfs_config *config;
	/* config->n_keys public keys, for lists made later, then config->n_repos roots: len 0 could not be read */
	struct key_file { uint8_t *p; size_t len; } *files;
	struct lists {
		pthread_mutex_t lock;     /* trust; never held across work */
		struct mfs_trust **trust; /* [0] the configuration's, [1 + r] with what repository r adds */
	} *lists;
	struct mfs_key *secret; /* [0] the state key, [1 + i] model i; secret memory */
	size_t n_models;
	bool has_state;
	struct model_slot {
		bool present;
		enum mfs_code code; /* why it is not */
		char *reason;
	} *models;
};

/* A small file straight into secret memory: no copy of a key stays on the heap. */
static enum mfs_code
read_secret(int fd, const char *what, struct mfs_key *out, struct mfs_err *err)
{
	size_t cap = MODEL_KEY_BYTES_MAX + 1, len = 0;
	char *buf = mfs_secret_alloc(cap);
	enum mfs_code code = MFS_OK;

	if (buf == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s: no memory", what);
	while (len < cap) {
		ssize_t r = pread(fd, buf + len, cap - len, (off_t)len);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			code = mfs_fail_sys(err, MFS_KEY_UNAVAILABLE, "%s: read", what);
		if (r <= 0)
			break;
		len += (size_t)r;
	}
	if (code == MFS_OK && len > MODEL_KEY_BYTES_MAX)
		code = mfs_fail(err, MFS_CONFIG_INVALID, "%s: longer than a key file", what);
	if (code == MFS_OK)
		code = mfs_model_key_parse(what, MFS_SPAN(buf, len), out, err);
	mfs_secret_free(buf, cap);
	return code;
}

static enum mfs_code
load_pems(const struct mfs_config *c, const struct mfs_key_fds *fds, struct mfs_keys *k, struct mfs_err *err)
{
	enum mfs_code code;

	for (size_t i = 0; i < c->n_keys; i++) {
		const struct mfs_config_key *key = &c->keys[i];

		code = mfs_fd_read(fds->trust[i], key->file, TRUST_KEY_BYTES_MAX, &k->files[i].p, &k->files[i].len, err);
		if (code != MFS_OK)
			return mfs_err_context(err, "%s:%u:%u: trust.keys: ", MFS_ESC(key->source), key->line, key->column);
	}
	return MFS_OK;
}

/* The configuration's keys, and those of a trust.json unless it is empty. */
static enum mfs_code
make_trust(const struct mfs_keys *k, struct mfs_span json, struct mfs_trust **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_trust) struct mfs_trust *t = NULL;
	MFS_CLEANUP(mfs_cleanup_trustlist) struct mfs_trustlist *l = NULL;
	enum mfs_code code = mfs_trust_new(&t, err);

	*out = NULL;
	for (size_t i = 0; code == MFS_OK && i < k->config->n_keys; i++) {
		const struct mfs_config_key *key = &k->config->keys[i];

		code = mfs_trust_add_pem(t, key->file, MFS_SPAN(k->files[i].p, k->files[i].len), key->epoch,
			(const char *const *)key->models, err);
		if (code != MFS_OK)
			(void)mfs_err_context(err, "%s:%u:%u: trust.keys: ", MFS_ESC(key->source), key->line, key->column);
	}
	if (code == MFS_OK && json.len > 0 && (code = mfs_trustlist_parse(json, &l, err)) == MFS_OK)
		code = mfs_trustlist_apply(l, t, err);
	if (code == MFS_OK)
		*out = mfs_steal(&t);
	return code;
}

static enum mfs_code
load_trust(struct mfs_keys *k, const struct mfs_key_fds *fds, struct mfs_err *err)
{
	const struct mfs_config *c = k->config;
	const struct mfs_span none = { NULL, 0 };
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code;

	if ((k->lists = calloc(1, sizeof(*k->lists))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys: no memory");
	(void)pthread_mutex_init(&k->lists->lock, NULL);
	if ((k->lists->trust = calloc(c->n_repos + 1, sizeof(*k->lists->trust))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys: no memory");
	if ((k->files = calloc(c->n_keys + c->n_repos + 1, sizeof(*k->files))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys: no memory");
	if ((code = load_pems(c, fds, k, err)) != MFS_OK || (code = make_trust(k, none, &k->lists->trust[0], err)) != MFS_OK)
		return code;
	for (size_t i = 0; i < c->n_repos; i++) {
		k->lists->trust[1 + i] = mfs_trust_ref(k->lists->trust[0]);
		if (fds->root == NULL || fds->root[i] < 0)
			continue;
		if (mfs_fd_read(fds->root[i], c->repos[i].root, MFS_TUF_ROOT_MAX, &k->files[c->n_keys + i].p,
				&k->files[c->n_keys + i].len, &why) != MFS_OK)
			mfs_log_err(c->repos[i].name, &why);
	}
	return MFS_OK;
}

static void
load_model(const struct mfs_config_model *m, int fd, const char *reason, struct model_slot *slot, struct mfs_key *out)
{
	struct mfs_err err = MFS_ERR_INIT;
	char what[200];

	slot->code = MFS_KEY_UNAVAILABLE;
	if (m->model_key == NULL) {
		(void)mfs_fail(&err, MFS_KEY_UNAVAILABLE, "models.%s has no model_key", m->id);
	} else if (fd < 0) {
		(void)mfs_fail(&err, MFS_KEY_UNAVAILABLE, "%s",
			reason != NULL ? reason : "the model key could not be opened; the log of the start says why");
	} else {
		(void)snprintf(what, sizeof(what), "model key %s", MFS_ESC(strchr(m->model_key, ':') + 1));
		if (read_secret(fd, what, out, &err) == MFS_OK) {
			slot->present = true;
			slot->code = MFS_OK;
			return;
		}
	}
	slot->reason = strdup(err.msg);
}

enum mfs_code
mfs_keys_load(const struct mfs_config *c, const struct mfs_key_fds *fds, struct mfs_keys **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_keys) struct mfs_keys *k = calloc(1, sizeof(*k));
	enum mfs_code code;

	*out = NULL;
	if (k != NULL)
		k->config = c;
	if (k == NULL || (k->models = calloc(c->n_models + 1, sizeof(*k->models))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys: no memory");
	k->n_models = c->n_models;
	if ((k->secret = mfs_secret_alloc((c->n_models + 1) * sizeof(*k->secret))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "keys: no memory");
	if ((code = load_trust(k, fds, err)) != MFS_OK)
		return code;
	if (fds->state >= 0) {
		struct mfs_err why = MFS_ERR_INIT;

		if (read_secret(fds->state, "state key", &k->secret[0], &why) != MFS_OK)
			return mfs_fail(err, MFS_KEY_UNAVAILABLE, "%s", why.msg);
		k->has_state = true;
	}
	for (size_t i = 0; i < c->n_models; i++)
		load_model(&c->models[i], fds->model[i], fds->reason != NULL ? fds->reason[i] : NULL, &k->models[i],
			&k->secret[1 + i]);
	*out = mfs_steal(&k);
	return MFS_OK;
}

static void
files_free(struct key_file *files, size_t n)
{
	while (files != NULL && n > 0)
		free(files[--n].p);
	free(files);
}

void
mfs_keys_free(struct mfs_keys *k)
{
	if (k == NULL)
		return;
	for (size_t i = 0; k->lists != NULL && k->lists->trust != NULL && i <= k->config->n_repos; i++)
		mfs_trust_free(k->lists->trust[i]);
	if (k->lists != NULL) {
		(void)pthread_mutex_destroy(&k->lists->lock);
		free(k->lists->trust);
	}
	free(k->lists);
	files_free(k->files, k->config->n_keys + k->config->n_repos);
	mfs_secret_free(k->secret, (k->n_models + 1) * sizeof(*k->secret));
	for (size_t i = 0; k->models != NULL && i < k->n_models; i++)
		free(k->models[i].reason);
	free(k->models);
	free(k);
}

struct mfs_trust *
mfs_keys_trust(const struct mfs_keys *k, size_t i)
{
	size_t at = i < k->n_models && k->config->models[i].repo >= 0 ? (size_t)k->config->models[i].repo + 1 : 0;
	struct mfs_trust *t;

	(void)pthread_mutex_lock(&k->lists->lock);
	t = mfs_trust_ref(k->lists->trust[at]);
	(void)pthread_mutex_unlock(&k->lists->lock);
	return t;
}

enum mfs_code
mfs_keys_trust_set(const struct mfs_keys *k, size_t repo, struct mfs_span json, struct mfs_err *err)
{
	struct mfs_trust *t, *old;
	enum mfs_code code;

	if (repo >= k->config->n_repos)
		return mfs_fail(err, MFS_INTERNAL, "keys: no repository %zu", repo);
	if ((code = make_trust(k, json, &t, err)) != MFS_OK)
		return code;
	(void)pthread_mutex_lock(&k->lists->lock);
	old = k->lists->trust[1 + repo];
	k->lists->trust[1 + repo] = t;
	(void)pthread_mutex_unlock(&k->lists->lock);
	mfs_trust_free(old);
	return MFS_OK;
}

struct mfs_span
mfs_keys_root(const struct mfs_keys *k, size_t repo)
{
	const struct key_file *f = &k->files[k->config->n_keys + repo];

	return repo < k->config->n_repos ? MFS_SPAN(f->p, f->len) : (struct mfs_span){ NULL, 0 };
}

const struct mfs_key *
mfs_keys_state(const struct mfs_keys *k)
{
	return k->has_state ? &k->secret[0] : NULL;
}

void
mfs_keys_model_id(const struct mfs_keys *k, size_t model, struct mfs_sha256 *out)
{
	*out = (struct mfs_sha256){ { 0 } };
	if (model < k->n_models && k->models[model].present && mfs_model_key_id(&k->secret[1 + model], out, NULL) != MFS_OK)
		*out = (struct mfs_sha256){ { 0 } };
}

static enum mfs_code
model_key(const struct mfs_keys *k, size_t model, const struct mfs_key **out, struct mfs_err *err)
{
	*out = NULL;
	if (model >= k->n_models)
		return mfs_fail(err, MFS_INTERNAL, "keys: no model %zu", model);
	if (!k->models[model].present)
		return mfs_fail(err, k->models[model].code, "%s",
			k->models[model].reason != NULL ? k->models[model].reason : "no model key");
	*out = &k->secret[1 + model];
	return MFS_OK;
}

enum mfs_code
mfs_keys_content(const struct mfs_keys *k, size_t model, const struct mfs_manifest *m, struct mfs_key *out,
	struct mfs_err *err)
{
	const struct mfs_key *key;
	enum mfs_code code = model_key(k, model, &key, err);

	return code == MFS_OK ? mfs_content_key_unwrap(m, key, out, err) : code;
}

enum mfs_code
mfs_keys_content_grant(const struct mfs_keys *k, size_t model, const struct mfs_manifest *m, struct mfs_span wrap,
	struct mfs_key *out, struct mfs_err *err)
{
	const struct mfs_key *key;
	enum mfs_code code = model_key(k, model, &key, err);

	return code == MFS_OK ? mfs_content_key_unwrap_grant(m, key, wrap, out, err) : code;
}
