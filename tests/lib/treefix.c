/* SPDX-License-Identifier: Apache-2.0 */
#include "treefix.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct fix *fix_global;

static pthread_mutex_t fix_lock = PTHREAD_MUTEX_INITIALIZER;

struct mfs_content { /* in place of the real one */
	const struct mfs_manifest *m;
	size_t file;
};

static void
die(const char *what)
{
	fprintf(stderr, "treefix: %s\n", what);
	abort();
}

/* ---- versions ------------------------------------------------------------------------------------ */

uint8_t
fix_byte(uint8_t id, size_t file, uint64_t off)
{
	return (uint8_t)(id + file + off);
}

static void
add_file(struct mfs_version *v, const char *word, size_t len)
{
	struct mfs_manifest *m = v->m;
	struct mfs_file *f;
	char text[1200];
	char *eq;

	m->files = realloc(m->files, (m->n_files + 1) * sizeof(*m->files));
	v->files = realloc(v->files, (m->n_files + 1) * sizeof(struct mfs_content *));
	(void)snprintf(text, sizeof(text), "%.*s", (int)len, word);
	eq = strrchr(text, '=');
	*eq++ = '\0';
	f = &m->files[m->n_files];
	*f = (struct mfs_file){ .name = strdup(text), .size = strtoull(eq, NULL, 10), .chunk_size = 65536 };
	f->executable = eq[strlen(eq) - 1] == '*';
	memset(f->sha256.b, (int)(m->n_files + 0x10), sizeof(f->sha256.b));
	v->files[m->n_files] = calloc(1, sizeof(struct mfs_content));
	*v->files[m->n_files] = (struct mfs_content){ m, m->n_files };
	m->n_files++;
}

struct mfs_version *
fix_version(uint8_t id, const char *version, int64_t release, const char *files)
{
	struct mfs_version *v = calloc(1, sizeof(*v));

	v->refs = 1;
	v->m = calloc(1, sizeof(*v->m));
	memset(v->m->id.b, id, sizeof(v->m->id.b));
	v->m->model_id = strdup("det");
	v->m->variant = strdup("default");
	v->m->version = strdup(version);
	v->m->release = release;
	v->m->build_time = 1700000000;
	memset(v->key_id.b, 0xee, sizeof(v->key_id.b));
	v->signed_bytes.manifest = (uint8_t *)strdup("{\"signed\":1}");
	v->signed_bytes.manifest_len = 12;
	v->signed_bytes.sig = (uint8_t *)strdup("sig");
	v->signed_bytes.sig_len = 3;
	for (const char *p = files; *p != '\0';) {
		size_t len = strcspn(p, " ");

		add_file(v, p, len);
		p += len + (p[len] == ' ');
	}
	return v;
}

struct mfs_version *
mfs_version_ref(struct mfs_version *v)
{
	(void)atomic_fetch_add(&v->refs, 1);
	return v;
}

void
mfs_version_unref(struct mfs_version *v)
{
	if (v == NULL || atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	for (size_t i = 0; i < v->m->n_files; i++) {
		free(v->m->files[i].name);
		if (v->files != NULL)
			free(v->files[i]);
	}
	free(v->files);
	free(v->m->files);
	free(v->m->model_id);
	free(v->m->variant);
	free(v->m->version);
	free(v->m);
	free(v->signed_bytes.manifest);
	free(v->signed_bytes.sig);
	free(v);
}

enum mfs_code
mfs_version_load(int state_dirfd, struct mfs_store *s, struct mfs_cache *cache, const struct mfs_config *c,
	const struct mfs_keys *keys, size_t model, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err)
{
	(void)state_dirfd, (void)s, (void)cache, (void)c, (void)keys, (void)model;
	*out = NULL;
	if (id->b[0] == 0x77) { /* a collected version whose blobs still stand there */
		*out = fix_version(0x77, "0.7.0", 7, "a=10 b=10");
		return MFS_OK;
	}
	return mfs_fail(err, MFS_IO, "version is gone");
}

/* ---- contents -------------------------------------------------------------------------------------- */

enum mfs_code
mfs_content_read(struct mfs_content *c, void *buf, size_t len, uint64_t off, size_t *got, struct mfs_err *err)
{
	uint64_t size = c->m->files[c->file].size;

	*got = 0;
	if (fix_global->read_code != MFS_OK)
		return mfs_fail(err, fix_global->read_code, "as the test wants");
	for (; *got < len && off + *got < size; ++*got)
		((uint8_t *)buf)[*got] = fix_byte(c->m->id.b[0], c->file, off + *got);
	return MFS_OK;
}

enum mfs_code
mfs_content_stream(struct mfs_content *c, const struct mfs_hold *hold, void *buf, size_t len, uint64_t off,
	struct mfs_stretch *out, struct mfs_err *err)
{
	hold->get(hold->object);
	hold->put(hold->object);
	*out = (struct mfs_stretch){ .data = buf };
	return mfs_content_read(c, buf, len, off, &out->len, err);
}

void
mfs_stretch_done(struct mfs_content *c, struct mfs_stretch *s)
{
	(void)c, (void)s;
}

const struct mfs_manifest *
mfs_content_manifest(const struct mfs_content *c)
{
	return c->m;
}

size_t
mfs_content_file(const struct mfs_content *c)
{
	return c->file;
}

bool
mfs_repair_park(struct mfs_repairs *r, struct mfs_repair_read *w, const struct mfs_err *why)
{
	(void)r;
	(void)w;
	(void)why;
	return false;
}

void
mfs_cache_on_failure(struct mfs_cache *c, mfs_content_failed_fn *fn, void *user)
{
	(void)c;
	fix_global->failed = fn;
	fix_global->failed_user = user;
}

/* ---- engine ------------------------------------------------------------------------------------------ */

enum mfs_code
mfs_engine_model_get(struct mfs_engine *e, size_t i, struct mfs_engine_model *out, struct mfs_err *err)
{
	const struct fix_model *m = &fix_global->engine[i];
	bool shown = false;

	(void)e;
	(void)pthread_mutex_lock(&fix_lock);
	*out = (struct mfs_engine_model){ .n = m->n, .generation = m->generation };
	if ((out->versions = calloc(m->n + 2, sizeof(*out->versions))) == NULL) {
		(void)pthread_mutex_unlock(&fix_lock);
		return mfs_fail(err, MFS_NO_MEMORY, "engine");
	}
	for (size_t k = 0; k < m->n; k++) {
		out->versions[k] = m->versions[k];
		(void)mfs_version_ref(out->versions[k].v);
		if (m->candidate && mfs_sha256_equal(&m->staged->m->id, &m->versions[k].v->m->id))
			shown = out->versions[k].candidate = out->versions[k].retained = true;
	}
	if (m->candidate && !shown)
		out->versions[out->n++] = (struct mfs_engine_version){ .v = mfs_version_ref(m->staged), .candidate = true };
	(void)pthread_mutex_unlock(&fix_lock);
	return MFS_OK;
}

void
mfs_engine_model_free(struct mfs_engine_model *m)
{
	for (size_t k = 0; k < m->n; k++)
		mfs_version_unref(m->versions[k].v);
	free(m->versions);
	*m = (struct mfs_engine_model){ .n = 0 };
}

enum mfs_code
mfs_engine_exposures(struct mfs_engine *e, size_t i, unsigned n, uint64_t *first, struct mfs_err *err)
{
	(void)e;
	if (fix_global->exposures_code != MFS_OK)
		return mfs_fail(err, fix_global->exposures_code, "as the test wants");
	(void)pthread_mutex_lock(&fix_lock);
	*first = fix_global->engine[i].exposure_next;
	fix_global->engine[i].exposure_next += n;
	(void)pthread_mutex_unlock(&fix_lock);
	return MFS_OK;
}

enum mfs_code
mfs_engine_candidate_set(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err)
{
	struct fix_model *m = &fix_global->engine[i];

	(void)e;
	if (m->staged == NULL || !mfs_sha256_equal(&m->staged->m->id, id))
		return mfs_fail(err, MFS_IO, "not in the store");
	m->candidate = true;
	return MFS_OK;
}

enum mfs_code
mfs_engine_candidate_clear(struct mfs_engine *e, size_t i, struct mfs_err *err)
{
	(void)e, (void)err;
	fix_global->engine[i].candidate = false;
	return MFS_OK;
}

void
fix_show(struct fix *f, size_t i, struct mfs_version *active, struct mfs_version *previous)
{
	struct fix_model *m = &f->engine[i];
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_engine_version old[FIX_VERSIONS];
	static _Atomic int64_t activation = 1700000001000000000;
	size_t n_old;

	(void)pthread_mutex_lock(&fix_lock);
	memcpy(old, m->versions, sizeof(old));
	n_old = m->n;
	m->n = 0;
	m->generation++;
	if (active != NULL)
		m->versions[m->n++] = (struct mfs_engine_version){ .v = active, .active = true,
			.activated_ns = atomic_fetch_add(&activation, 1000) };
	if (previous != NULL)
		m->versions[m->n++] = (struct mfs_engine_version){ .v = previous, .previous = true,
			.activated_ns = atomic_load(&activation) - 5000 };
	(void)pthread_mutex_unlock(&fix_lock);
	if (mfs_view_refresh(&f->serve, i, &err) != MFS_OK)
		die(err.msg);
	for (size_t k = 0; k < n_old; k++)
		mfs_version_unref(old[k].v);
}

/* ---- status, keeper, session ----------------------------------------------------------------------------- */

enum mfs_code
mfs_status_render(struct mfs_serve *s, enum mfs_status_kind kind, size_t model, char **out, size_t *len,
	struct mfs_err *err)
{
	(void)s, (void)model, (void)err;
	(void)atomic_fetch_add(&fix_global->renders, 1);
	if ((*out = malloc(strlen(fix_global->status) + 32)) == NULL)
		die("memory");
	*len = (size_t)sprintf(*out, "%u %s\n", (unsigned)kind, fix_global->status);
	return MFS_OK;
}

enum mfs_code
mfs_klink_notify(struct mfs_klink *k, enum mfs_kverb verb, uint32_t model, const char *text, struct mfs_err *err)
{
	(void)k, (void)text, (void)err;
	if (verb == MFS_K_TOUCH)
		fix_global->touched[model]++;
	return MFS_OK;
}

void
mfs_job_hook(struct mfs_jobs *j, const struct mfs_job_request *q)
{
	(void)j;
	fix_global->hooks++;
	fix_global->hook = *q;
	(void)snprintf(fix_global->hook_version, 80, "%s", q->version != NULL ? q->version : "-");
	(void)snprintf(fix_global->hook_previous, 80, "%s", q->previous != NULL ? q->previous : "-");
}

void
mfs_event(struct mfs_events *e, const struct mfs_event *ev)
{
	(void)e;
	fix_global->events++;
	(void)snprintf(fix_global->event_model, sizeof(fix_global->event_model), "%s", ev->model);
	(void)snprintf(fix_global->event_detail, sizeof(fix_global->event_detail), "%s", ev->detail);
}

bool
mfs_session_slow_begin(struct mfs_session *s, void (*fn)(void *arg), void *arg)
{
	(void)s;
	if (!fix_global->defer)
		return true;
	fix_global->deferred = fn;
	fix_global->deferred_arg = arg;
	return false;
}

void
mfs_session_slow_end(struct mfs_session *s)
{
	(void)s;
}

void
mfs_session_epoch(struct mfs_session *s)
{
	(void)s;
	(void)atomic_fetch_add(&fix_global->epochs, 1);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

static void
start(struct fix *f)
{
	struct mfs_err err = MFS_ERR_INIT;

	f->serve = (struct mfs_serve){ .config = &f->config, .shm = f->shm, .state_dirfd = -1,
		.klink = (struct mfs_klink *)(void *)f, .cache = (struct mfs_cache *)(void *)f,
		.events = (struct mfs_events *)(void *)f, .jobs = (struct mfs_jobs *)(void *)f };
	if (mfs_tree_new(&f->serve, &f->serve.tree, &err) != MFS_OK)
		die(err.msg);
	wire_open(&f->wire, &mfs_tree_ops, &f->serve);
}

void
fix_open(struct fix *f)
{
	static char det[] = "det", other[] = "other", file[] = "file";

	*f = (struct fix){ .status = "fine" };
	fix_global = f;
	f->models[0] = (struct mfs_config_model){ .id = det, .model_id = det, .uid = 11, .gid = 22,
		.file_mode = 0440, .dir_mode = 0550, .pin_window_ms = 10000 };
	f->models[1] = (struct mfs_config_model){ .id = other, .model_id = det, .file_mode = 0444,
		.dir_mode = 0555, .pin_window_ms = 10000 };
	f->models[0].health.uid = 501;
	f->models[1].health.uid = 502;
	f->config = (struct mfs_config){ .models = f->models, .n_models = 2, .counter = file };
	f->engine[0].exposure_next = f->engine[1].exposure_next = 1;
	f->shm = mmap(NULL, sizeof(*f->shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->shm == MAP_FAILED)
		die("shm");
	f->shm->magic = MFS_SHM_MAGIC;
	f->shm->layout = MFS_SHM_LAYOUT;
	f->shm->mounted_at = 1600000000;
	f->shm->passthrough = 1;
	start(f);
}

void
fix_restart(struct fix *f)
{
	wire_close(&f->wire);
	mfs_tree_free(f->serve.tree);
	start(f);
	for (size_t i = 0; i < 2; i++) {
		struct mfs_err err = MFS_ERR_INIT;

		f->engine[i].candidate = false; /* an engine remembers none */
		mfs_view_candidate_restore(&f->serve, i);
		if (mfs_view_refresh(&f->serve, i, &err) != MFS_OK)
			die(err.msg);
	}
}

void
fix_close(struct fix *f)
{
	wire_close(&f->wire);
	mfs_tree_free(f->serve.tree);
	for (size_t i = 0; i < 2; i++)
		mfs_version_unref(f->engine[i].staged);
	for (size_t i = 0; i < 2; i++)
		for (size_t k = 0; k < f->engine[i].n; k++)
			mfs_version_unref(f->engine[i].versions[k].v);
	(void)munmap(f->shm, sizeof(*f->shm));
}
