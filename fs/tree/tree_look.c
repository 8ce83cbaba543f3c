/* SPDX-License-Identifier: Apache-2.0 */
/* Names, attributes and link targets of the published tree. The caller holds the tree's lock. */
#include <unistd.h>

#include "tree_int.h"

/* ---- what a node belongs to ------------------------------------------------------------------------- */

static struct mfs_view *
view_of(struct mfs_tree *t, size_t model)
{
	return model < t->n_models ? t->models[model].view : NULL;
}

static struct mfs_exp *
active_of(struct mfs_tree *t, size_t model)
{
	struct mfs_view *v = view_of(t, model);

	return v != NULL ? v->active : NULL;
}

static bool
is_folder(const struct mfs_node *n)
{
	return n->kind == MFS_NODE_PAYLOAD && (n->index & MFS_FOLDER) != 0;
}

static struct mfs_node *
exp_root(struct mfs_exp *e)
{
	return &e->nodes[e->mver->v->m->n_files];
}

static struct mfs_node *
exp_node(struct mfs_exp *e, uint32_t index)
{
	if (index & MFS_FOLDER)
		return &e->nodes[e->mver->v->m->n_files + (index & ~MFS_FOLDER)];
	return &e->nodes[index];
}

bool
mfs_look_is_dir(const struct mfs_node *n)
{
	switch (n->kind) {
	case MFS_NODE_ROOT:
	case MFS_NODE_DOT_ACTIVE:
	case MFS_NODE_DOT_RELEASE:
	case MFS_NODE_DOT_MODELFS:
	case MFS_NODE_MODEL:
	case MFS_NODE_VERSIONS:
	case MFS_NODE_MANIFESTS:
	case MFS_NODE_RELEASE_DIR:
		return true;
	default:
		return is_folder(n);
	}
}

static bool
is_link(const struct mfs_node *n)
{
	return n->kind == MFS_NODE_ACTIVE || n->kind == MFS_NODE_PREVIOUS || n->kind == MFS_NODE_CANDIDATE ||
		n->kind == MFS_NODE_ACTIVE_LINK || n->kind == MFS_NODE_RELEASE_LINK;
}

const char *
mfs_look_name(const struct mfs_exp *e)
{
	return e->alias[0] != '\0' ? e->alias : e->mver->v->m->version;
}

struct mfs_exp *
mfs_look_shown(struct mfs_tree *t, size_t i, const struct mfs_sha256 *manifest)
{
	struct mfs_view *v = view_of(t, i);

	for (size_t k = 0; v != NULL && k < v->n; k++)
		if (mfs_sha256_equal(&v->shown[k]->mver->v->m->id, manifest))
			return v->shown[k];
	return NULL;
}

/* A release is listed for the active version, and answered while a process still loads by its name. */
static bool
release_present(struct mfs_tree *t, const struct mfs_mver *m)
{
	const struct mfs_exp *active = active_of(t, m->model);

	if (active == NULL || !m->shown)
		return false;
	return active->mver == m || mfs_pins_loading(t->pins, m->model, &m->v->m->id);
}

bool
mfs_look_present(struct mfs_tree *t, const struct mfs_node *n)
{
	switch (n->kind) {
	case MFS_NODE_ACTIVE:
	case MFS_NODE_ACTIVE_LINK:
		return active_of(t, n->model) != NULL;
	case MFS_NODE_PREVIOUS:
		return view_of(t, n->model) != NULL && view_of(t, n->model)->previous != NULL;
	case MFS_NODE_CANDIDATE:
		return view_of(t, n->model) != NULL && view_of(t, n->model)->candidate != NULL;
	case MFS_NODE_RELEASE_LINK:
		return release_present(t, n->of.mver);
	case MFS_NODE_MANIFEST_JSON:
	case MFS_NODE_MANIFEST_SIG:
		return n->of.mver->shown;
	default:
		return true;
	}
}

/* ---- lookup --------------------------------------------------------------------------------------------- */

static struct mfs_node *
by_version(struct mfs_view *v, const char *name, size_t len, struct mfs_exp **out)
{
	for (size_t k = 0; v != NULL && k < v->n; k++) {
		const char *shown = mfs_look_name(v->shown[k]);

		if (strlen(shown) == len && memcmp(shown, name, len) == 0) {
			*out = v->shown[k];
			return exp_root(v->shown[k]);
		}
	}
	return NULL;
}

static struct mfs_node *
manifest_by_name(struct mfs_view *v, const char *name)
{
	size_t len = strlen(name);
	struct mfs_exp *e;

	if (len > 5 && strcmp(name + len - 5, ".json") == 0 && by_version(v, name, len - 5, &e) != NULL)
		return &e->mver->nodes[1];
	if (len > 4 && strcmp(name + len - 4, ".sig") == 0 && by_version(v, name, len - 4, &e) != NULL)
		return &e->mver->nodes[2];
	return NULL;
}

static struct mfs_node *
release_by_name(struct mfs_tree *t, size_t model, const char *name)
{
	struct mfs_view *v = view_of(t, model);
	struct mfs_node *found = NULL;
	char text[24];

	for (size_t k = 0; v != NULL && k < v->n; k++) {
		(void)snprintf(text, sizeof(text), "%lld", (long long)v->shown[k]->mver->v->m->release);
		if (strcmp(text, name) != 0 || !release_present(t, v->shown[k]->mver))
			continue;
		found = &v->shown[k]->mver->nodes[0];
		if (v->shown[k] == v->active) /* variants share a release */
			break;
	}
	return found;
}

static struct mfs_node *
payload_child(struct mfs_node *dir, const char *name)
{
	struct mfs_exp *e = dir->of.exp;
	ssize_t at = mfs_shape_find(e->mver->shape, dir->index & ~MFS_FOLDER, name);

	return at >= 0 ? exp_node(e, e->mver->shape->entries[at].index) : NULL;
}

static struct mfs_node *
model_child(struct mfs_tree *t, size_t model, const char *name)
{
	for (size_t k = 0; k < MFS_FIXED_MODEL; k++)
		if (strcmp(name, mfs_fixed_model[k].name) == 0)
			return mfs_node_model_child(t, model, k);
	return NULL;
}

struct mfs_node *
mfs_look_child(struct mfs_tree *t, struct mfs_node *dir, const char *name)
{
	struct mfs_node *n = NULL;
	struct mfs_exp *e;
	ssize_t i;

	switch (dir->kind) {
	case MFS_NODE_ROOT:
		for (size_t k = 0; k < MFS_FIXED_ROOT; k++)
			if (strcmp(name, mfs_fixed_root[k].name) == 0)
				return mfs_node_top(t, k);
		return (i = mfs_config_find(t->config, name)) >= 0 ? mfs_node_model(t, (size_t)i) : NULL;
	case MFS_NODE_DOT_MODELFS:
		for (size_t k = 0; k < MFS_FIXED_MODELFS; k++)
			if (strcmp(name, mfs_fixed_modelfs[k].name) == 0)
				return mfs_node_modelfs(t, k);
		return NULL;
	case MFS_NODE_DOT_ACTIVE:
		n = (i = mfs_config_find(t->config, name)) >= 0 ? mfs_node_active_link(t, (size_t)i) : NULL;
		break;
	case MFS_NODE_DOT_RELEASE:
		return (i = mfs_config_find(t->config, name)) >= 0 ? mfs_node_release_dir(t, (size_t)i) : NULL;
	case MFS_NODE_MODEL:
		n = model_child(t, dir->model, name);
		break;
	case MFS_NODE_VERSIONS:
		return by_version(view_of(t, dir->model), name, strlen(name), &e);
	case MFS_NODE_MANIFESTS:
		return manifest_by_name(view_of(t, dir->model), name);
	case MFS_NODE_RELEASE_DIR:
		return release_by_name(t, dir->model, name);
	case MFS_NODE_PAYLOAD:
		return payload_child(dir, name);
	default:
		return NULL;
	}
	return n != NULL && mfs_look_present(t, n) ? n : NULL;
}

struct mfs_node *
mfs_look_parent(struct mfs_tree *t, const struct mfs_node *dir)
{
	switch (dir->kind) {
	case MFS_NODE_VERSIONS:
	case MFS_NODE_MANIFESTS:
		return mfs_node_model(t, dir->model);
	case MFS_NODE_RELEASE_DIR:
		return mfs_node_top(t, 1);
	case MFS_NODE_PAYLOAD:
		if (dir->index == MFS_FOLDER)
			return mfs_node_model_child(t, dir->model, 2);
		return exp_node(dir->of.exp,
			MFS_FOLDER | dir->of.exp->mver->shape->dirs[dir->index & ~MFS_FOLDER].parent);
	default:
		return mfs_node_root(t);
	}
}

/* ---- links ------------------------------------------------------------------------------------------------ */

bool
mfs_look_target(struct mfs_tree *t, const struct mfs_node *link, const struct mfs_sha256 *pinned, char *out,
	size_t cap)
{
	const char *id = link->model < t->n_models ? t->config->models[link->model].id : "";
	const struct mfs_view *v = view_of(t, link->model);
	const struct mfs_exp *e = NULL;

	if (v == NULL || !mfs_look_present(t, link))
		return false;
	switch (link->kind) {
	case MFS_NODE_ACTIVE:
	case MFS_NODE_PREVIOUS:
	case MFS_NODE_CANDIDATE:
		e = link->kind == MFS_NODE_ACTIVE ? v->active : link->kind == MFS_NODE_PREVIOUS ? v->previous : v->candidate;
		if (link->kind == MFS_NODE_ACTIVE && e != NULL && pinned != NULL &&
			mfs_look_shown(t, link->model, pinned) != NULL)
			e = mfs_look_shown(t, link->model, pinned);
		if (e == NULL)
			return false;
		(void)snprintf(out, cap, "versions/%s", mfs_look_name(e));
		return true;
	case MFS_NODE_ACTIVE_LINK:
		(void)snprintf(out, cap, "../%s/active", id);
		return true;
	case MFS_NODE_RELEASE_LINK:
		(void)snprintf(out, cap, "../../%s/versions/%s", id, link->of.mver->v->m->version);
		return true;
	default:
		return false;
	}
}

/* ---- attributes --------------------------------------------------------------------------------------------- */

double
mfs_look_attr_timeout(const struct mfs_node *n)
{
	if (n->kind == MFS_NODE_STATUS || is_link(n))
		return 0;
	if (n->kind == MFS_NODE_PAYLOAD && n->of.exp->checked)
		return 0; /* owner and mode are others as soon as it is active */
	if (n->kind == MFS_NODE_PAYLOAD && !is_folder(n))
		return MFS_ATTR_FOREVER;
	if (n->kind == MFS_NODE_MANIFEST_JSON || n->kind == MFS_NODE_MANIFEST_SIG)
		return MFS_ATTR_FOREVER;
	return MFS_ATTR_SHORT; /* folders: ctime and nlink may change */
}

double
mfs_look_entry_timeout(const struct mfs_node *n)
{
	if (n->kind == MFS_NODE_PAYLOAD && n->index != MFS_FOLDER)
		return MFS_ATTR_FOREVER;
	return MFS_ATTR_SHORT;
}

static struct timespec
timespec_of(int64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

static void
set_times(struct stat *st, int64_t m_ns, int64_t c_ns)
{
	st->st_mtim = st->st_atim = timespec_of(m_ns);
	st->st_ctim = timespec_of(c_ns);
}

static void
set_size(struct stat *st, uint64_t size)
{
	st->st_size = (off_t)size;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
}

/* Of a candidate: nobody's but the health check's, never decided by who asks (dentries are shared). */
static void
make_private(struct mfs_tree *t, const struct mfs_node *n, struct stat *st)
{
	const struct mfs_config_model *c = &t->config->models[n->model];

	st->st_uid = t->shm->rootless ? geteuid() : c->health.uid;
	st->st_gid = t->shm->rootless ? getegid() : 0;
	st->st_mode = is_folder(n) ? S_IFDIR | 0500 : S_IFREG | ((st->st_mode & 0111) != 0 ? 0500 : 0400);
}

static void
stat_payload(struct mfs_tree *t, const struct mfs_node *n, struct stat *st)
{
	const struct mfs_config_model *c = &t->config->models[n->model];
	const struct mfs_exp *e = n->of.exp;
	const struct mfs_manifest *m = e->mver->v->m;
	int64_t built = m->build_time * 1000000000;

	st->st_uid = c->uid;
	st->st_gid = c->gid;
	if (is_folder(n)) {
		st->st_mode = S_IFDIR | c->dir_mode;
		st->st_nlink = 2 + e->mver->shape->dirs[n->index & ~MFS_FOLDER].subdirs;
		set_times(st, built, e->activated_ns > 0 ? e->activated_ns : built);
	} else {
		st->st_mode = S_IFREG | c->file_mode;
		if (m->files[n->index].executable)
			st->st_mode |= (c->dir_mode & 0444) >> 2;
		set_size(st, m->files[n->index].size);
		set_times(st, built, built);
	}
	if (e->checked)
		make_private(t, n, st);
}

static nlink_t
folder_links(struct mfs_tree *t, const struct mfs_node *n)
{
	const struct mfs_view *v = view_of(t, n->model);

	switch (n->kind) {
	case MFS_NODE_ROOT:
		return (nlink_t)(2 + MFS_FIXED_ROOT + t->n_models);
	case MFS_NODE_DOT_RELEASE:
		return (nlink_t)(2 + t->n_models);
	case MFS_NODE_MODEL:
		return 2 + 2; /* versions, manifests */
	case MFS_NODE_VERSIONS:
		return (nlink_t)(2 + (v != NULL ? v->n : 0));
	default:
		return 2;
	}
}

/* mtime of what no single model owns: the latest change of any. */
static int64_t
latest_change(struct mfs_tree *t)
{
	int64_t ns = t->shm->mounted_at * 1000000000;

	for (size_t i = 0; i < t->n_models; i++)
		if (t->models[i].changed_ns > ns)
			ns = t->models[i].changed_ns;
	return ns;
}

void
mfs_look_stat(struct mfs_tree *t, const struct mfs_node *n, struct stat *st)
{
	bool of_model = n->model < t->n_models;
	int64_t changed = of_model && t->models[n->model].changed_ns > 0 ? t->models[n->model].changed_ns :
		n->kind == MFS_NODE_DOT_MODELFS ? t->shm->mounted_at * 1000000000 : latest_change(t);
	char target[2 * MFS_ID_MAX + MFS_VERSION_MAX];

	*st = (struct stat){ .st_ino = n->ino, .st_blksize = 4096, .st_nlink = 1 };
	if (n->kind == MFS_NODE_PAYLOAD) {
		stat_payload(t, n, st);
		return;
	}
	if (of_model) {
		st->st_uid = t->config->models[n->model].uid;
		st->st_gid = t->config->models[n->model].gid;
	}
	set_times(st, changed, changed);
	if (mfs_look_is_dir(n)) {
		st->st_mode = S_IFDIR | 0555;
		st->st_nlink = folder_links(t, n);
	} else if (is_link(n)) {
		st->st_mode = S_IFLNK | 0777;
		if (mfs_look_target(t, n, NULL, target, sizeof(target)))
			set_size(st, strlen(target));
		st->st_blocks = 0;
	} else {
		st->st_mode = S_IFREG | 0444;
		if (n->kind == MFS_NODE_MANIFEST_JSON || n->kind == MFS_NODE_MANIFEST_SIG) {
			const struct mfs_signed *s = &n->of.mver->v->signed_bytes;
			int64_t built = n->of.mver->v->m->build_time * 1000000000;

			set_size(st, n->kind == MFS_NODE_MANIFEST_JSON ? s->manifest_len : s->sig_len);
			set_times(st, built, built);
		} else if (n->status == MFS_STATUS_MODEL_GENERATION && of_model) {
			set_size(st, strlen(t->models[n->model].announced));
			set_times(st, t->models[n->model].announced_ns, t->models[n->model].announced_ns);
		}
	}
}

/* ---- listing ---------------------------------------------------------------------------------------------------- */

static bool
next_fixed(struct mfs_entry *out, uint64_t off, const struct mfs_fixed *f, size_t n, struct mfs_node *first,
	struct mfs_tree *t)
{
	for (size_t k = off < 3 ? 0 : (size_t)(off - 2); k < n; k++) {
		if (!mfs_look_present(t, first + k))
			continue;
		out->name = f[k].name;
		out->node = first + k;
		out->off = 3 + k;
		return true;
	}
	return false;
}

/* One entry per model, after `before` fixed ones. */
static bool
next_model(struct mfs_tree *t, struct mfs_entry *out, uint64_t off, size_t before,
	struct mfs_node *(*node)(struct mfs_tree *t, size_t i))
{
	for (size_t i = off < 3 + before ? 0 : (size_t)(off - 2 - before); i < t->n_models; i++) {
		if (!mfs_look_present(t, node(t, i)))
			continue;
		out->name = t->config->models[i].id;
		out->node = node(t, i);
		out->off = 3 + before + i;
		return true;
	}
	return false;
}

static bool
next_version(struct mfs_view *v, struct mfs_entry *out, uint64_t off, bool manifests)
{
	for (size_t k = 0; v != NULL && k < v->n; k++) {
		struct mfs_mver *m = v->shown[k]->mver;
		uint64_t at = manifests ? 2 * (uint64_t)m->key : m->key;

		if (!manifests) {
			if (at <= off)
				continue;
			out->name = mfs_look_name(v->shown[k]);
			out->node = exp_root(v->shown[k]);
			out->off = at;
			return true;
		}
		for (unsigned sig = 0; sig < 2; sig++) {
			if (at + sig <= off)
				continue;
			(void)snprintf(out->text, sizeof(out->text), "%s%s", mfs_look_name(v->shown[k]), sig ? ".sig" : ".json");
			out->name = NULL;
			out->node = &m->nodes[1 + sig];
			out->off = at + sig;
			return true;
		}
	}
	return false;
}

static bool
next_release(struct mfs_tree *t, size_t model, struct mfs_entry *out, uint64_t off, const struct mfs_sha256 *pinned)
{
	struct mfs_exp *e = active_of(t, model);

	if (e != NULL && pinned != NULL && mfs_look_shown(t, model, pinned) != NULL)
		e = mfs_look_shown(t, model, pinned);
	if (e == NULL || e->mver->key <= off)
		return false;
	(void)snprintf(out->text, sizeof(out->text), "%lld", (long long)e->mver->v->m->release);
	out->name = NULL;
	out->node = &e->mver->nodes[0];
	out->off = e->mver->key;
	return true;
}

static bool
next_payload(struct mfs_node *dir, struct mfs_entry *out, uint64_t off)
{
	const struct mfs_shape *s = dir->of.exp->mver->shape;
	const struct mfs_shape_dir *d = &s->dirs[dir->index & ~MFS_FOLDER];
	uint64_t k = off < 3 ? 0 : off - 2;

	if (k >= d->n)
		return false;
	out->name = s->entries[d->first + k].name; /* not terminated: len tells */
	out->len = s->entries[d->first + k].len;
	out->node = exp_node(dir->of.exp, s->entries[d->first + k].index);
	out->off = 3 + k;
	return true;
}

bool
mfs_look_next(struct mfs_tree *t, struct mfs_node *dir, uint64_t off, const struct mfs_sha256 *pinned,
	struct mfs_entry *out)
{
	*out = (struct mfs_entry){ .name = NULL };
	if (off > UINT32_MAX) /* none of ours */
		return false;
	if (off < 2) {
		out->name = off == 0 ? "." : "..";
		out->node = off == 0 ? dir : mfs_look_parent(t, dir);
		out->off = off + 1;
		return true;
	}
	switch (dir->kind) {
	case MFS_NODE_ROOT:
		return next_fixed(out, off, mfs_fixed_root, MFS_FIXED_ROOT, mfs_node_top(t, 0), t) ||
			next_model(t, out, off, MFS_FIXED_ROOT, mfs_node_model);
	case MFS_NODE_DOT_MODELFS:
		return next_fixed(out, off, mfs_fixed_modelfs, MFS_FIXED_MODELFS, mfs_node_modelfs(t, 0), t);
	case MFS_NODE_DOT_ACTIVE:
		return next_model(t, out, off, 0, mfs_node_active_link);
	case MFS_NODE_DOT_RELEASE:
		return next_model(t, out, off, 0, mfs_node_release_dir);
	case MFS_NODE_MODEL:
		return next_fixed(out, off, mfs_fixed_model, MFS_FIXED_MODEL, mfs_node_model_child(t, dir->model, 0), t);
	case MFS_NODE_VERSIONS:
	case MFS_NODE_MANIFESTS:
		return next_version(view_of(t, dir->model), out, off, dir->kind == MFS_NODE_MANIFESTS);
	case MFS_NODE_RELEASE_DIR:
		return next_release(t, dir->model, out, off, pinned);
	case MFS_NODE_PAYLOAD:
		return next_payload(dir, out, off);
	default:
		return false;
	}
}
