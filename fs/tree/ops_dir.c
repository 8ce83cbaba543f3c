/* SPDX-License-Identifier: Apache-2.0 */
/* FUSE requests on folders. Offsets are stable: a position that was given out stays where it was. */
#include "tree_int.h"

/* A folder of a version is held open like a file: its version stays (gc) while it is read. */
void
mfs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct mfs_tree *t = mfs_req_tree(req);
	uint64_t unique = mfs_session_current_unique();
	struct mfs_handle h = { .node = ino, .uid = fuse_req_ctx(req)->uid }, old;
	struct mfs_node *n;
	int error = 0;

	fi->fh = 0;
	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) == NULL) {
		error = ESTALE;
	} else if (!mfs_look_is_dir(n)) {
		error = ENOTDIR;
	} else if (n->kind == MFS_NODE_PAYLOAD) {
		h.exposure = n->of.exp->index + 1;
		if ((fi->fh = mfs_handles_repeated(t->handles, unique, ino, &old)) == 0 &&
			(fi->fh = mfs_handles_take(t->handles, unique, &h)) == 0)
			error = ENFILE;
	}
	(void)pthread_rwlock_unlock(&t->lock);
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else if (fuse_reply_open(req, fi) == -ENOENT && fi->fh != 0) /* interrupted: no RELEASE will come */
		(void)mfs_handles_release(t->handles, fi->fh, &old);
}

struct listing {
	fuse_req_t req;
	char *buf;
	size_t size, used;
	bool plus;
};

/* False when the buffer is full. */
static bool
add(struct listing *l, struct mfs_tree *t, const struct mfs_entry *e)
{
	char name[MFS_COMPONENT_MAX + 1];
	struct fuse_entry_param p = { .ino = e->node->id };
	size_t n;

	if (e->len > 0) { /* a component inside a manifest's name */
		memcpy(name, e->name, e->len);
		name[e->len] = '\0';
	} else {
		(void)snprintf(name, sizeof(name), "%s", e->name != NULL ? e->name : e->text);
	}
	mfs_look_stat(t, e->node, &p.attr);
	if (!l->plus) {
		n = fuse_add_direntry(l->req, l->buf + l->used, l->size - l->used, name, &p.attr, (off_t)e->off);
	} else {
		p.attr_timeout = mfs_look_attr_timeout(e->node);
		p.entry_timeout = mfs_look_entry_timeout(e->node);
		/* "." and "..", and what must be asked anew each time, go without attributes */
		if (e->off <= 2 || e->node->kind == MFS_NODE_STATUS)
			p.ino = 0;
		n = fuse_add_direntry_plus(l->req, l->buf + l->used, l->size - l->used, name, &p, (off_t)e->off);
	}
	if (n > l->size - l->used)
		return false;
	l->used += n;
	return true;
}

static void
list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct mfs_tree *t = mfs_req_tree(req);
	struct listing l = { .req = req, .buf = mfs_thread_buffer(), .size = size, .plus = plus };
	struct mfs_sha256 manifest;
	bool release = false, pinned;
	uint64_t at = (uint64_t)off;
	struct mfs_entry e;
	struct mfs_node *n;
	size_t model = 0;
	int error = 0;

	if (l.buf == NULL) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	if (l.size > MFS_BUF_BYTES)
		l.size = MFS_BUF_BYTES;
	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) != NULL) {
		release = n->kind == MFS_NODE_RELEASE_DIR;
		model = n->model;
	}
	(void)pthread_rwlock_unlock(&t->lock);
	pinned = release && mfs_pinned(t, model, fuse_req_ctx(req)->pid, &manifest);
	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) == NULL)
		error = ESTALE;
	else if (!mfs_look_is_dir(n))
		error = ENOTDIR;
	while (error == 0 && mfs_look_next(t, n, at, pinned ? &manifest : NULL, &e) && add(&l, t, &e))
		at = e.off;
	(void)pthread_rwlock_unlock(&t->lock);
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else
		(void)fuse_reply_buf(req, l.buf, l.used);
}

void
mfs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

void
mfs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}
