/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <time.h>

#include "io.h"
#include "log.h"
#include "tree_int.h"

/* ---- versions and exposures -------------------------------------------------------------------- */

void
mfs_mver_unref(struct mfs_mver *m)
{
	if (m == NULL || atomic_fetch_sub(&m->refs, 1) != 1)
		return;
	mfs_shape_free(m->shape);
	mfs_version_unref(m->v);
	free(m);
}
MFS_DEFINE_CLEANUP(mver, struct mfs_mver, mfs_mver_unref)

void
mfs_exp_unref(struct mfs_exp *e)
{
	if (e == NULL || atomic_fetch_sub(&e->refs, 1) != 1)
		return;
	mfs_mver_unref(e->mver);
	free(e->resident);
	free(e);
}

static enum mfs_code
mver_new(struct mfs_tree *t, size_t i, struct mfs_version *v, struct mfs_mver **out, struct mfs_err *err)
{
	static const struct { enum mfs_node_kind kind; const char *label; } made[] = {
		{ MFS_NODE_RELEASE_LINK, "release" },
		{ MFS_NODE_MANIFEST_JSON, "manifest" },
		{ MFS_NODE_MANIFEST_SIG, "signature" },
	};
	MFS_CLEANUP(mfs_cleanup_mver) struct mfs_mver *m = calloc(1, sizeof(*m));
	uint64_t key;
	enum mfs_code code;

	*out = NULL;
	if (m == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "version %s", v->m->version);
	m->refs = 1;
	m->model = i;
	m->v = mfs_version_ref(v);
	if ((code = mfs_shape_new(v->m, &m->shape, err)) != MFS_OK)
		return code;
	for (size_t k = 0; k < 3; k++) {
		m->nodes[k] = (struct mfs_node){ .of.mver = m, .model = (uint16_t)i, .kind = (uint8_t)made[k].kind };
		code = mfs_nodeid_named(made[k].label, t->config->models[i].id, &v->m->id, &m->nodes[k].id, err);
		if (code != MFS_OK)
			return code;
	}
	/* The offset of a name in its folder must not move when others come and go. */
	if ((code = mfs_nodeid_named("offset", v->m->version, NULL, &key, err)) != MFS_OK)
		return code;
	m->key = (uint32_t)(key & 0x1fffffff) + 3;
	*out = mfs_steal(&m);
	return MFS_OK;
}

static enum mfs_code
resident_index(struct mfs_tree *t, struct mfs_exp *e, size_t n_files, struct mfs_err *err)
{
	if ((e->resident = malloc((n_files > 0 ? n_files : 1) * sizeof(*e->resident))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "resident files of an exposure");
	for (size_t f = 0; f < n_files; f++)
		e->resident[f] = UINT32_MAX;
	for (uint32_t r = 0; r < MFS_RESIDENTS; r++) {
		const struct mfs_shm_resident *s = &t->shm->residents[r];

		if (atomic_load(&s->state) == MFS_RESIDENT_READY && s->exposure == e->index + 1 && s->file < n_files)
			e->resident[s->file] = r;
	}
	return MFS_OK;
}

static enum mfs_code
exp_new(struct mfs_tree *t, struct mfs_mver *m, uint32_t index, struct mfs_exp **out, struct mfs_err *err)
{
	const struct mfs_shm_exposure *x = &t->shm->exposures[index];
	size_t n_files = m->v->m->n_files, n = n_files + m->shape->n_dirs;
	MFS_CLEANUP(mfs_cleanup_exp) struct mfs_exp *e = calloc(1, sizeof(*e) + n * sizeof(e->nodes[0]));
	enum mfs_code code;

	*out = NULL;
	if (e == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "tree of version %s", m->v->m->version);
	e->refs = 1;
	e->mver = m;
	(void)atomic_fetch_add(&m->refs, 1);
	e->index = index;
	e->exposure = x->exposure;
	e->tier = x->tier == MFS_TIER_RESIDENT ? MFS_TIER_RESIDENT : MFS_TIER_PAGED;
	e->n_nodes = n;
	if (e->tier == MFS_TIER_RESIDENT && (code = resident_index(t, e, n_files, err)) != MFS_OK)
		return code;
	for (size_t k = 0; k < n; k++) {
		uint32_t at = k < n_files ? (uint32_t)k : MFS_FOLDER | (uint32_t)(k - n_files);

		e->nodes[k] = (struct mfs_node){ .of.exp = e, .index = at, .model = (uint16_t)m->model,
			.kind = MFS_NODE_PAYLOAD };
		code = mfs_nodeid_payload(&m->v->m->id, e->exposure, at, t->config->models[m->model].id,
			&e->nodes[k].id, err);
		if (code != MFS_OK)
			return code;
	}
	*out = mfs_steal(&e);
	return MFS_OK;
}

/* Hold view_lock. The record of a version, new ones in the list (not yet in the map). */
static enum mfs_code
mver_get(struct mfs_tree *t, size_t i, struct mfs_version *v, struct mfs_mver **out, struct mfs_err *err)
{
	struct mfs_model *model = &t->models[i];
	enum mfs_code code;

	for (struct mfs_mver *m = model->mvers; m != NULL; m = m->next)
		if (mfs_sha256_equal(&m->v->m->id, &v->m->id)) {
			*out = m;
			return MFS_OK;
		}
	if ((code = mver_new(t, i, v, out, err)) != MFS_OK)
		return code;
	(*out)->next = model->mvers;
	model->mvers = *out;
	return MFS_OK;
}

/*
 * Hold view_lock. The record of an exposure, linked into the map when it is new. A record that was
 * closed is not shown again: its number is spent.
 */
static enum mfs_code
exp_get(struct mfs_tree *t, size_t i, const struct mfs_exposed *x, struct mfs_exp **out, struct mfs_err *err)
{
	struct mfs_model *model = &t->models[i];
	MFS_CLEANUP(mfs_cleanup_exp) struct mfs_exp *e = NULL;
	struct mfs_mver *m;
	enum mfs_code code;
	bool ok = true;

	*out = NULL;
	if (x->exposure_index >= MFS_EXPOSURES)
		return mfs_fail(err, MFS_INTERNAL, "exposure record %u", x->exposure_index);
	for (struct mfs_exp *k = model->exps; k != NULL; k = k->next)
		if (k->index == x->exposure_index) {
			*out = k;
			return MFS_OK;
		}
	if ((code = mver_get(t, i, x->v, &m, err)) != MFS_OK || (code = exp_new(t, m, x->exposure_index, &e, err)) != MFS_OK)
		return code;
	e->activated_ns = x->activated_ns;
	e->hidden_ms = mfs_clock_boot_ms();
	(void)pthread_rwlock_wrlock(&t->lock);
	code = mfs_map_reserve(t, e->n_nodes + 3, err);
	for (size_t k = 0; code == MFS_OK && !m->linked && k < 3; k++)
		ok = mfs_map_insert(t, &m->nodes[k]) && ok;
	m->linked = m->linked || code == MFS_OK;
	for (size_t k = 0; code == MFS_OK && k < e->n_nodes; k++)
		ok = mfs_map_insert(t, &e->nodes[k]) && ok;
	if (code == MFS_OK && !ok) { /* 2^-64, or a number that was used twice: show nothing rather than a mix */
		for (size_t k = 0; k < e->n_nodes; k++)
			if (mfs_node_find(t, e->nodes[k].id) == &e->nodes[k])
				mfs_map_remove(t, &e->nodes[k]);
		code = mfs_fail(err, MFS_INTERNAL, "model %s: version %s: a node id is taken",
			t->config->models[i].id, x->v->m->version);
	}
	(void)pthread_rwlock_unlock(&t->lock);
	if (code != MFS_OK)
		return code;
	e->next = model->exps;
	model->exps = e;
	*out = mfs_steal(&e);
	return MFS_OK;
}

/* ---- publishing ---------------------------------------------------------------------------------- */

static int
compare_keys(const void *a, const void *b)
{
	const struct mfs_mver *x = (*(struct mfs_exp *const *)a)->mver, *y = (*(struct mfs_exp *const *)b)->mver;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return strcmp(x->v->m->version, y->v->m->version);
}

static void
view_free(struct mfs_view *v)
{
	if (v == NULL)
		return;
	free(v->shown);
	free(v);
}
MFS_DEFINE_CLEANUP(view, struct mfs_view, view_free)

/*
 * One variant of a version is shown: the active one, else the first named. What is being checked, and
 * nothing else, has another name then.
 */
static bool
collides(const struct mfs_exposed *versions, size_t n, size_t k)
{
	if (versions[k].checked)
		return false;
	for (size_t j = 0; j < n; j++)
		if (j != k && !versions[j].checked && strcmp(versions[j].v->m->version, versions[k].v->m->version) == 0 &&
			!versions[k].active && (versions[j].active || j < k))
			return true;
	return false;
}

static enum mfs_code
view_new(struct mfs_tree *t, size_t i, const struct mfs_exposed *versions, size_t n, struct mfs_view **out,
	struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_view) struct mfs_view *v = calloc(1, sizeof(*v));
	enum mfs_code code;

	*out = NULL;
	if (v == NULL || (v->shown = calloc(n > 0 ? n : 1, sizeof(struct mfs_exp *))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "view of model %s", t->config->models[i].id);
	for (size_t k = 0; k < n; k++) {
		struct mfs_exp *e;

		if (collides(versions, n, k))
			continue;
		if ((code = exp_get(t, i, &versions[k], &e, err)) != MFS_OK)
			return code;
		if (e->closed)
			return mfs_fail(err, MFS_INTERNAL, "model %s: exposure %llu was closed", t->config->models[i].id,
				(unsigned long long)e->exposure);
		v->shown[v->n++] = e;
		if (versions[k].active)
			v->active = e;
		if (versions[k].previous)
			v->previous = e;
		if (versions[k].candidate)
			v->candidate = e;
	}
	qsort(v->shown, v->n, sizeof(struct mfs_exp *), compare_keys);
	*out = mfs_steal(&v);
	return MFS_OK;
}

/* Hold lock for writing. The name of a candidate, which its version may be taken from. */
static void
candidate_name(struct mfs_view *v)
{
	const struct mfs_manifest *m = v->candidate != NULL && v->candidate->checked ? v->candidate->mver->v->m : NULL;

	for (size_t k = 0; k < v->n; k++)
		v->shown[k]->alias[0] = '\0';
	for (size_t k = 0; m != NULL && k < v->n; k++)
		if (v->shown[k] != v->candidate && strcmp(v->shown[k]->mver->v->m->version, m->version) == 0)
			(void)snprintf(v->candidate->alias, sizeof(v->candidate->alias), "%s+%s", m->version, m->variant);
}

static void
sentence(const struct mfs_view *v, char *out, size_t cap)
{
	const struct mfs_manifest *m = v != NULL && v->active != NULL ? v->active->mver->v->m : NULL;
	unsigned long long generation = v != NULL ? v->generation : 0;

	if (m == NULL)
		(void)snprintf(out, cap, "%llu - 0 -\n", generation);
	else
		(void)snprintf(out, cap, "%llu %s %lld %s\n", generation, m->version, (long long)m->release,
			MFS_HEX(&m->id));
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* What `active` led to before: of this serve's view, or of a predecessor's that died after the anchor was written. */
static const struct mfs_sha256 *
shown_before(struct mfs_tree *t, size_t i)
{
	const struct mfs_view *old = t->models[i].view;
	const struct mfs_shm_model *m = &t->shm->models[i];
	uint32_t at = atomic_load(&m->shown_at);

	if (old != NULL)
		return old->active != NULL ? &old->active->mver->v->m->id : NULL;
	return at == 1 || at == 2 ? &m->shown[at - 1] : NULL;
}

static void
shown_note(struct mfs_tree *t, size_t i, const struct mfs_exp *active)
{
	struct mfs_shm_model *m = &t->shm->models[i];
	uint32_t next = atomic_load(&m->shown_at) == 1 ? 2 : 1;

	if (active != NULL)
		m->shown[next - 1] = active->mver->v->m->id;
	atomic_store(&m->shown_at, active != NULL ? next : 0);
}

/* Hold lock for writing. The line of `generation` is what the view says, here and for a successor. */
static void
announce(struct mfs_tree *t, size_t i, int64_t ns)
{
	struct mfs_model *model = &t->models[i];
	struct mfs_shm_model *m = &t->shm->models[i];
	uint32_t next = atomic_load(&m->announced_at) == 1 ? 2 : 1;

	sentence(model->view, model->announced, sizeof(model->announced));
	model->announced_ns = ns;
	model->unannounced = false;
	memcpy(m->announced[next - 1].line, model->announced, sizeof(model->announced));
	m->announced[next - 1].ns = ns;
	atomic_store(&m->announced_at, next);
}

/* Hold lock for writing. A new serve: `generation` says what it said, until what is shown was announced. */
static void
announced_take_over(struct mfs_tree *t, size_t i)
{
	struct mfs_model *model = &t->models[i];
	const struct mfs_shm_model *m = &t->shm->models[i];
	uint32_t at = atomic_load(&m->announced_at);
	char now[sizeof(model->announced)];

	if (at != 1 && at != 2) { /* the first serve of this mount */
		announce(t, i, model->changed_ns);
		return;
	}
	memcpy(model->announced, m->announced[at - 1].line, sizeof(model->announced));
	model->announced[sizeof(model->announced) - 1] = '\0';
	model->announced_ns = m->announced[at - 1].ns;
	sentence(model->view, now, sizeof(now));
	if (strcmp(now, model->announced) == 0)
		return;
	model->unannounced = true;
	atomic_store(&t->pending, true);
}

/* Hold lock for writing: what the old view showed is hidden unless the new one shows it. */
static void
view_swap(struct mfs_tree *t, size_t i, struct mfs_view *v, const struct mfs_exposed *versions, size_t n)
{
	struct mfs_model *model = &t->models[i];
	struct mfs_view *old = model->view;
	const struct mfs_sha256 *before = shown_before(t, i);
	int64_t now = mfs_clock_boot_ms();

	if (before != NULL && v->active != NULL && !mfs_sha256_equal(before, &v->active->mver->v->m->id))
		mfs_pins_swapped(t->pins, i, before);
	model->swaps++;
	shown_note(t, i, v->active);
	for (size_t k = 0; old != NULL && k < old->n; k++) {
		old->shown[k]->shown = false;
		old->shown[k]->mver->shown = false;
		old->shown[k]->hidden_ms = now;
	}
	for (size_t k = 1; k < v->n; k++) /* offsets are unique; equal hashes move by one */
		if (v->shown[k]->mver->key <= v->shown[k - 1]->mver->key)
			v->shown[k]->mver->key = v->shown[k - 1]->mver->key + 1;
	assert(t->shm != NULL); /* set before the tree is */
	model->changed_ns = t->shm->mounted_at * 1000000000;
	for (size_t k = 0; k < v->n; k++) {
		v->shown[k]->shown = true;
		v->shown[k]->mver->shown = true;
		for (size_t j = 0; j < n; j++)
			if (versions[j].exposure_index == v->shown[k]->index) {
				v->shown[k]->activated_ns = versions[j].activated_ns;
				v->shown[k]->checked = versions[j].checked;
			}
		if (v->shown[k]->activated_ns > model->changed_ns)
			model->changed_ns = v->shown[k]->activated_ns;
	}
	candidate_name(v);
	model->view = v;
	if (old == NULL)
		announced_take_over(t, i);
}

enum mfs_code
mfs_tree_publish_locked(struct mfs_tree *t, size_t i, const struct mfs_exposed *versions, size_t n,
	uint64_t generation, struct mfs_err *err)
{
	struct mfs_view *v, *old = t->models[i].view;
	enum mfs_code code;

	if ((code = view_new(t, i, versions, n, &v, err)) != MFS_OK)
		return code;
	v->generation = generation;
	(void)pthread_rwlock_wrlock(&t->lock);
	view_swap(t, i, v, versions, n);
	(void)pthread_rwlock_unlock(&t->lock);
	view_free(old);
	return MFS_OK;
}

enum mfs_code
mfs_tree_publish(struct mfs_tree *t, size_t i, const struct mfs_exposed *versions, size_t n, uint64_t generation,
	struct mfs_err *err)
{
	enum mfs_code code;

	(void)pthread_mutex_lock(&t->view_lock);
	code = mfs_tree_publish_locked(t, i, versions, n, generation, err);
	(void)pthread_mutex_unlock(&t->view_lock);
	if (code == MFS_OK) {
		mfs_session_epoch(t->s->session);
		mfs_tree_sweep(t, false);
	}
	return code;
}

enum mfs_code
mfs_tree_keep_locked(struct mfs_tree *t, size_t i, const struct mfs_exposed *version, struct mfs_err *err)
{
	struct mfs_exp *e;

	return exp_get(t, i, version, &e, err);
}

enum mfs_code
mfs_tree_keep(struct mfs_tree *t, size_t i, const struct mfs_exposed *version, struct mfs_err *err)
{
	enum mfs_code code;

	(void)pthread_mutex_lock(&t->view_lock);
	code = mfs_tree_keep_locked(t, i, version, err);
	(void)pthread_mutex_unlock(&t->view_lock);
	return code;
}

void
mfs_tree_sentences(struct mfs_tree *t, size_t i, char said[256], char now[256])
{
	(void)pthread_rwlock_rdlock(&t->lock);
	memcpy(said, t->models[i].announced, sizeof(t->models[i].announced));
	sentence(t->models[i].view, now, 256);
	(void)pthread_rwlock_unlock(&t->lock);
}

void
mfs_tree_announce(struct mfs_tree *t, size_t i)
{
	(void)pthread_rwlock_wrlock(&t->lock);
	announce(t, i, now_ns());
	(void)pthread_rwlock_unlock(&t->lock);
}

size_t
mfs_tree_generation(struct mfs_tree *t, size_t i, char *out, size_t cap)
{
	size_t n;

	if (cap == 0)
		return 0;
	(void)pthread_rwlock_rdlock(&t->lock);
	n = strnlen(t->models[i].announced, sizeof(t->models[i].announced));
	if (n >= cap)
		n = cap - 1;
	memcpy(out, t->models[i].announced, n);
	(void)pthread_rwlock_unlock(&t->lock);
	out[n] = '\0';
	return n;
}

enum mfs_tier
mfs_tree_tier(struct mfs_tree *t, size_t i, const struct mfs_sha256 *manifest)
{
	enum mfs_tier tier = MFS_TIER_PAGED;
	const struct mfs_exp *e;

	(void)pthread_rwlock_rdlock(&t->lock);
	if ((e = mfs_look_shown(t, i, manifest)) != NULL)
		tier = e->tier;
	(void)pthread_rwlock_unlock(&t->lock);
	return tier;
}

unsigned
mfs_tree_handles(struct mfs_tree *t, uint32_t exposure_index)
{
	return mfs_handles_count(t->handles, exposure_index);
}

void
mfs_tree_wait_loads(struct mfs_tree *t, size_t i)
{
	mfs_pins_wait(t->pins, i);
}

void
mfs_tree_unpin(struct mfs_tree *t, size_t i)
{
	mfs_pins_end(t->pins, i);
}

/* ---- sweeping -------------------------------------------------------------------------------------- */

/* Hold both locks. May this exposure go? A resident one only after residency closed it. */
static bool
exp_is_over(struct mfs_tree *t, const struct mfs_exp *e, unsigned handles, bool pressure, int64_t now)
{
	if (e->shown || handles > 0 || mfs_pins_loading(t->pins, e->mver->model, &e->mver->v->m->id))
		return false;
	if (e->tier == MFS_TIER_RESIDENT && atomic_load(&t->shm->exposures[e->index].state) == MFS_EXPOSURE_LIVE &&
		t->shm->exposures[e->index].exposure == e->exposure)
		return false; /* residency still has its files */
	return pressure || !e->mver->shown || now - e->hidden_ms > MFS_HIDDEN_MS;
}

void
mfs_tree_unlink(struct mfs_tree *t, struct mfs_exp **p)
{
	struct mfs_exp *e = *p;

	*p = e->next;
	for (size_t k = 0; k < e->n_nodes; k++)
		mfs_map_remove(t, &e->nodes[k]);
	mfs_exp_unref(e);
}

static void
sweep_exps(struct mfs_tree *t, struct mfs_model *model, const uint32_t *counts, bool pressure)
{
	int64_t now = mfs_clock_boot_ms();
	struct mfs_exp **p = &model->exps, *e;

	while ((e = *p) != NULL) {
		if (!exp_is_over(t, e, counts[e->index], pressure, now)) {
			p = &e->next;
			continue;
		}
		if (e->tier == MFS_TIER_PAGED && t->shm->exposures[e->index].exposure == e->exposure)
			atomic_store(&t->shm->exposures[e->index].state, MFS_EXPOSURE_FREE);
		mfs_tree_unlink(t, p);
	}
}

static void
sweep_mvers(struct mfs_tree *t, struct mfs_model *model)
{
	struct mfs_mver **p = &model->mvers, *m;

	while ((m = *p) != NULL) {
		bool used = m->shown;

		for (struct mfs_exp *e = model->exps; e != NULL && !used; e = e->next)
			used = e->mver == m;
		if (used) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		for (size_t k = 0; m->linked && k < 3; k++)
			mfs_map_remove(t, &m->nodes[k]);
		mfs_mver_unref(m);
	}
}

void
mfs_tree_sweep(struct mfs_tree *t, bool pressure)
{
	mfs_autofree uint32_t *counts = calloc(MFS_EXPOSURES, sizeof(*counts));

	if (counts == NULL)
		return;
	(void)pthread_mutex_lock(&t->view_lock);
	(void)pthread_rwlock_wrlock(&t->lock);
	mfs_handles_counts(t->handles, counts);
	for (size_t i = 0; i < t->n_models; i++) {
		sweep_exps(t, &t->models[i], counts, pressure);
		sweep_mvers(t, &t->models[i]);
	}
	(void)pthread_rwlock_unlock(&t->lock);
	(void)pthread_mutex_unlock(&t->view_lock);
}

/* ---- life ------------------------------------------------------------------------------------------ */

enum mfs_code
mfs_tree_link_fixed(struct mfs_tree *t, struct mfs_err *err)
{
	enum mfs_code code = mfs_map_reserve(t, t->n_fixed, err);

	for (size_t k = 0; code == MFS_OK && k < t->n_fixed; k++)
		if (!mfs_map_insert(t, &t->fixed[k]))
			code = mfs_fail(err, MFS_INTERNAL, "a fixed node id is taken");
	return code;
}

void
mfs_tree_model_free(struct mfs_model *m)
{
	for (struct mfs_exp *e = m->exps, *next; e != NULL; e = next) {
		next = e->next;
		mfs_exp_unref(e);
	}
	for (struct mfs_mver *v = m->mvers, *next; v != NULL; v = next) {
		next = v->next;
		mfs_mver_unref(v);
	}
	view_free(m->view);
	*m = (struct mfs_model){ .view = NULL };
}
