/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed nodes by place, and the map of all nodes by id and by inode number. */
#include "tree_int.h"

const struct mfs_fixed mfs_fixed_root[MFS_FIXED_ROOT] = {
	{ ".active", MFS_NODE_DOT_ACTIVE, 0 },
	{ ".release", MFS_NODE_DOT_RELEASE, 0 },
	{ ".modelfs", MFS_NODE_DOT_MODELFS, 0 },
};

const struct mfs_fixed mfs_fixed_modelfs[MFS_FIXED_MODELFS] = {
	{ "status", MFS_NODE_STATUS, MFS_STATUS_ALL_TEXT },
	{ "status.json", MFS_NODE_STATUS, MFS_STATUS_ALL_JSON },
	{ "metrics.prom", MFS_NODE_STATUS, MFS_STATUS_METRICS },
	{ "version", MFS_NODE_STATUS, MFS_STATUS_VERSION },
	{ "config", MFS_NODE_STATUS, MFS_STATUS_CONFIG },
};

const struct mfs_fixed mfs_fixed_model[MFS_FIXED_MODEL] = {
	{ "active", MFS_NODE_ACTIVE, 0 },
	{ "previous", MFS_NODE_PREVIOUS, 0 },
	{ "versions", MFS_NODE_VERSIONS, 0 },
	{ "manifests", MFS_NODE_MANIFESTS, 0 },
	{ "status", MFS_NODE_STATUS, MFS_STATUS_MODEL_TEXT },
	{ "status.json", MFS_NODE_STATUS, MFS_STATUS_MODEL_JSON },
	{ "events", MFS_NODE_STATUS, MFS_STATUS_MODEL_EVENTS },
	{ "generation", MFS_NODE_STATUS, MFS_STATUS_MODEL_GENERATION },
	{ "candidate", MFS_NODE_CANDIDATE, 0 },
};

#define FIXED_GLOBAL (1 + MFS_FIXED_ROOT + MFS_FIXED_MODELFS)

struct mfs_node *
mfs_node_root(struct mfs_tree *t)
{
	return &t->fixed[0];
}

struct mfs_node *
mfs_node_top(struct mfs_tree *t, size_t child)
{
	return &t->fixed[1 + child];
}

struct mfs_node *
mfs_node_modelfs(struct mfs_tree *t, size_t child)
{
	return &t->fixed[1 + MFS_FIXED_ROOT + child];
}

struct mfs_node *
mfs_node_model(struct mfs_tree *t, size_t i)
{
	return &t->fixed[FIXED_GLOBAL + i * MFS_FIXED_PER_MODEL];
}

struct mfs_node *
mfs_node_model_child(struct mfs_tree *t, size_t i, size_t child)
{
	return mfs_node_model(t, i) + 1 + child;
}

struct mfs_node *
mfs_node_active_link(struct mfs_tree *t, size_t i)
{
	return mfs_node_model(t, i) + 1 + MFS_FIXED_MODEL;
}

struct mfs_node *
mfs_node_release_dir(struct mfs_tree *t, size_t i)
{
	return mfs_node_model(t, i) + 2 + MFS_FIXED_MODEL;
}

/* ---- the map of nodes ------------------------------------------------------------------------ */

struct mfs_node *
mfs_node_find(struct mfs_tree *t, uint64_t id)
{
	struct mfs_node *n = t->by_id[id & (t->buckets - 1)];

	while (n != NULL && n->id != id)
		n = n->next;
	return n;
}

static bool
ino_taken(const struct mfs_tree *t, uint32_t ino)
{
	const struct mfs_node *n;

	if (ino <= 1 || ino == UINT32_MAX)
		return true;
	for (n = t->by_ino[ino & (t->buckets - 1)]; n != NULL; n = n->ino_next)
		if (n->ino == ino)
			return true;
	return false;
}

bool
mfs_map_insert(struct mfs_tree *t, struct mfs_node *n)
{
	size_t b = (size_t)(n->id & (t->buckets - 1));

	if (mfs_node_find(t, n->id) != NULL)
		return false;
	n->next = t->by_id[b];
	t->by_id[b] = n;
	if (n->ino == 0) {
		n->ino = (uint32_t)n->id;
		while (ino_taken(t, n->ino))
			n->ino++;
	}
	b = n->ino & (t->buckets - 1);
	n->ino_next = t->by_ino[b];
	t->by_ino[b] = n;
	t->n_nodes++;
	return true;
}

void
mfs_map_remove(struct mfs_tree *t, struct mfs_node *n)
{
	struct mfs_node **p = &t->by_id[n->id & (t->buckets - 1)];

	while (*p != NULL && *p != n)
		p = &(*p)->next;
	if (*p == NULL)
		return;
	*p = n->next;
	p = &t->by_ino[n->ino & (t->buckets - 1)];
	while (*p != NULL && *p != n)
		p = &(*p)->ino_next;
	if (*p != NULL)
		*p = n->ino_next;
	t->n_nodes--;
}

enum mfs_code
mfs_map_reserve(struct mfs_tree *t, size_t more, struct mfs_err *err)
{
	struct mfs_node **old = t->by_id, **by_id, **by_ino;
	size_t was = t->buckets, want = was > 0 ? was : 256;

	while (want < t->n_nodes + more)
		want *= 2;
	if (want == was)
		return MFS_OK;
	by_id = calloc(want, sizeof(struct mfs_node *));
	by_ino = calloc(want, sizeof(struct mfs_node *));
	if (by_id == NULL || by_ino == NULL) {
		free(by_id);
		free(by_ino);
		return mfs_fail(err, MFS_NO_MEMORY, "tree of %zu nodes", t->n_nodes + more);
	}
	free(t->by_ino);
	t->by_id = by_id;
	t->by_ino = by_ino;
	t->buckets = want;
	t->n_nodes = 0;
	for (size_t b = 0; b < was; b++)
		for (struct mfs_node *n = old[b], *next; n != NULL; n = next) {
			next = n->next;
			(void)mfs_map_insert(t, n);
		}
	free(old);
	return MFS_OK;
}
