/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FUSE requests to exactly one reply each: names, attributes, links, and the refusal of every
 * change. Nothing here waits: no disk, no network, no lock held across either.
 */
#include "tree_int.h"

/* ---- the thread's buffer ------------------------------------------------------------------------------- */

static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;
static bool buffer_ok;

static void
buffer_init(void)
{
	buffer_ok = pthread_key_create(&buffer_key, free) == 0;
}

void *
mfs_thread_buffer(void)
{
	void *p;

	(void)pthread_once(&buffer_once, buffer_init);
	if (!buffer_ok)
		return NULL;
	if ((p = pthread_getspecific(buffer_key)) != NULL)
		return p;
	if (posix_memalign(&p, 4096, MFS_BUF_BYTES) != 0)
		return NULL;
	if (pthread_setspecific(buffer_key, p) != 0) {
		free(p);
		return NULL;
	}
	return p;
}

/* ---- lookup and attributes ------------------------------------------------------------------------------- */

/* What must be asked after the lock was given back. */
struct later {
	bool status;
	enum mfs_status_kind kind;
	size_t model;
};

static struct later
later_of(const struct mfs_node *n)
{
	return (struct later){ n->kind == MFS_NODE_STATUS, (enum mfs_status_kind)n->status, n->model };
}

static void
finish_stat(struct mfs_tree *t, const struct later *l, struct stat *st)
{
	int64_t mtime_ns;
	uint64_t size;

	if (!l->status || l->kind == MFS_STATUS_MODEL_GENERATION)
		return;
	size = mfs_snap_size(t->snaps, l->kind, l->model, &mtime_ns);
	st->st_size = (off_t)size;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
	st->st_mtim = (struct timespec){ .tv_sec = (time_t)(mtime_ns / 1000000000),
		.tv_nsec = (long)(mtime_ns % 1000000000) };
	st->st_ctim = st->st_atim = st->st_mtim;
}

static void
fill_locked(struct mfs_tree *t, const struct mfs_node *n, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .ino = n->id, .attr_timeout = mfs_look_attr_timeout(n),
		.entry_timeout = mfs_look_entry_timeout(n) };
	mfs_look_stat(t, n, &e->attr);
}

int
mfs_fill_entry(struct mfs_tree *t, uint64_t id, struct fuse_entry_param *e)
{
	struct mfs_node *n;
	struct later later = { .status = false };

	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, id)) != NULL) {
		fill_locked(t, n, e);
		later = later_of(n);
	}
	(void)pthread_rwlock_unlock(&t->lock);
	if (n == NULL)
		return ESTALE;
	finish_stat(t, &later, &e->attr);
	return 0;
}

static void
op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mfs_tree *t = mfs_req_tree(req);
	struct later later = { .status = false };
	struct fuse_entry_param e;
	struct mfs_node *dir, *n;
	int error = 0;

	(void)pthread_rwlock_rdlock(&t->lock);
	if (strlen(name) > MFS_COMPONENT_MAX) { /* the kernel takes more; statfs says 255 */
		error = ENAMETOOLONG;
	} else if ((dir = mfs_node_find(t, parent)) == NULL) {
		error = ESTALE;
	} else if (!mfs_look_is_dir(dir)) {
		error = ENOTDIR;
	} else if ((n = mfs_look_child(t, dir, name)) == NULL) {
		error = ENOENT; /* an error reply is not cached, unlike an entry of node 0 */
	} else {
		fill_locked(t, n, &e);
		later = later_of(n);
	}
	(void)pthread_rwlock_unlock(&t->lock);
	if (error != 0) {
		(void)fuse_reply_err(req, error);
		return;
	}
	finish_stat(t, &later, &e.attr);
	(void)fuse_reply_entry(req, &e);
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	int error = mfs_fill_entry(mfs_req_tree(req), ino, &e);

	(void)fi;
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else
		(void)fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* ---- links ------------------------------------------------------------------------------------------------- */

bool
mfs_pinned(struct mfs_tree *t, size_t i, pid_t pid, struct mfs_sha256 *manifest)
{
	return i < t->n_models && pid > 0 && mfs_pins_young(t->pins, i) && mfs_pins_held(t->pins, i, pid, manifest);
}

static void
op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct mfs_tree *t = mfs_req_tree(req);
	char target[2 * MFS_ID_MAX + MFS_VERSION_MAX];
	struct mfs_sha256 manifest;
	struct mfs_node *n;
	bool pinned = false, active = false;
	uint64_t swaps = 0;
	size_t model = 0;
	int error = 0;

	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) != NULL) {
		active = n->kind == MFS_NODE_ACTIVE;
		model = n->model;
		swaps = active ? t->models[model].swaps : 0;
	}
	while (active) {
		(void)pthread_rwlock_unlock(&t->lock);
		pinned = mfs_pinned(t, model, fuse_req_ctx(req)->pid, &manifest); /* system calls: no lock held */
		(void)pthread_rwlock_rdlock(&t->lock);
		/* Swapped between the question and the answer: it was not known yet what this process is loading. */
		if (t->models[model].swaps == swaps)
			break;
		swaps = t->models[model].swaps;
	}
	if ((n = mfs_node_find(t, ino)) == NULL)
		error = ESTALE;
	else if (!mfs_look_target(t, n, pinned ? &manifest : NULL, target, sizeof(target)))
		error = mfs_look_present(t, n) ? EINVAL : ENOENT;
	(void)pthread_rwlock_unlock(&t->lock);
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else
		(void)fuse_reply_readlink(req, target);
}

/* ---- statfs, xattrs -------------------------------------------------------------------------------------------- */

static void
op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct mfs_tree *t = mfs_req_tree(req);
	struct statvfs st;

	(void)ino;
	(void)pthread_mutex_lock(&t->statfs_lock);
	st = t->statfs;
	(void)pthread_mutex_unlock(&t->statfs_lock);
	if (st.f_bsize == 0)
		st.f_bsize = 4096;
	if (st.f_frsize == 0)
		st.f_frsize = st.f_bsize;
	st.f_files = st.f_ffree = st.f_favail = 0;
	st.f_namemax = 255;
	(void)fuse_reply_statfs(req, &st);
}

#define XATTR_PREFIX "user.modelfs."
static const char *const xattr_names[] = { "version", "release", "sha256", "key_id", "tier" };
#define XATTRS (sizeof(xattr_names) / sizeof(xattr_names[0]))

static size_t
xattr_value(const struct mfs_node *n, size_t which, char *out, size_t cap)
{
	const struct mfs_exp *e = n->of.exp;
	const struct mfs_version *v = e->mver->v;
	int len;

	switch (which) {
	case 0:
		len = snprintf(out, cap, "%s", v->m->version);
		break;
	case 1:
		len = snprintf(out, cap, "%lld", (long long)v->m->release);
		break;
	case 2: /* of a folder: the version's identity */
		len = snprintf(out, cap, "%s",
			MFS_HEX(n->index & MFS_FOLDER ? &v->m->id : &v->m->files[n->index].sha256));
		break;
	case 3:
		len = snprintf(out, cap, "%s", MFS_HEX(&v->key_id));
		break;
	default:
		len = snprintf(out, cap, "%s", e->tier == MFS_TIER_RESIDENT ? "resident" : "paged");
		break;
	}
	return len < 0 ? 0 : (size_t)len;
}

/* The value or the list was made: answer the size asked for, or its length for size 0. */
static void
reply_xattr(fuse_req_t req, const char *value, size_t len, size_t size)
{
	if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (len > size)
		(void)fuse_reply_err(req, ERANGE);
	else
		(void)fuse_reply_buf(req, value, len);
}

static void
op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct mfs_tree *t = mfs_req_tree(req);
	size_t which = XATTRS, len = 0;
	struct mfs_node *n;
	char value[128];
	int error = 0;

	if (!t->config->xattrs) { /* the kernel does not ask again: ls -l asks three an entry */
		(void)fuse_reply_err(req, ENOSYS);
		return;
	}
	if (strncmp(name, XATTR_PREFIX, sizeof(XATTR_PREFIX) - 1) == 0)
		for (which = 0; which < XATTRS; which++)
			if (strcmp(name + sizeof(XATTR_PREFIX) - 1, xattr_names[which]) == 0)
				break;
	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) == NULL)
		error = ESTALE;
	else if (which == XATTRS || n->kind != MFS_NODE_PAYLOAD)
		error = ENODATA;
	else
		len = xattr_value(n, which, value, sizeof(value));
	(void)pthread_rwlock_unlock(&t->lock);
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else
		reply_xattr(req, value, len, size);
}

static void
op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct mfs_tree *t = mfs_req_tree(req);
	char list[XATTRS * 32];
	struct mfs_node *n;
	size_t len = 0;

	if (!t->config->xattrs) {
		(void)fuse_reply_err(req, ENOSYS);
		return;
	}
	(void)pthread_rwlock_rdlock(&t->lock);
	n = mfs_node_find(t, ino);
	for (size_t k = 0; n != NULL && n->kind == MFS_NODE_PAYLOAD && k < XATTRS; k++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, XATTR_PREFIX "%s", xattr_names[k]) + 1;
	(void)pthread_rwlock_unlock(&t->lock);
	if (n == NULL)
		(void)fuse_reply_err(req, ESTALE);
	else
		reply_xattr(req, list, len, size);
}

/* ---- every change is refused ------------------------------------------------------------------------------------- */

/* keeper's child alone may touch `generation`, so that inotify fires. Nothing of the tree changes. */
static bool
is_toucher(fuse_req_t req, struct mfs_tree *t, fuse_ino_t ino)
{
	uint32_t toucher = atomic_load(&t->shm->toucher);
	struct mfs_node *n;
	bool generation;

	if (toucher == 0 || (uint32_t)fuse_req_ctx(req)->pid != toucher)
		return false;
	(void)pthread_rwlock_rdlock(&t->lock);
	n = mfs_node_find(t, ino);
	generation = n != NULL && n->kind == MFS_NODE_STATUS && n->status == MFS_STATUS_MODEL_GENERATION;
	(void)pthread_rwlock_unlock(&t->lock);
	return generation;
}

bool
mfs_may_touch(fuse_req_t req, fuse_ino_t ino)
{
	return is_toucher(req, mfs_req_tree(req), ino);
}

static void
op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
		FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME;

	(void)attr;
	if ((to_set & ~times) == 0 && mfs_may_touch(req, ino))
		op_getattr(req, ino, fi);
	else
		(void)fuse_reply_err(req, EROFS);
}

static void
op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)parent, (void)name, (void)mode, (void)rdev;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)parent, (void)name, (void)mode;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_remove(fuse_req_t req, fuse_ino_t parent, const char *name) /* unlink, rmdir */
{
	(void)parent, (void)name;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link, (void)parent, (void)name;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
	unsigned flags)
{
	(void)parent, (void)name, (void)newparent, (void)newname, (void)flags;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	(void)ino, (void)newparent, (void)newname;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	(void)parent, (void)name, (void)mode, (void)fi;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	(void)ino, (void)name, (void)value, (void)size, (void)flags;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino, (void)name;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	(void)ino, (void)mode, (void)off, (void)len, (void)fi;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out,
	off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	(void)in, (void)off_in, (void)fi_in, (void)out, (void)off_out, (void)fi_out, (void)len, (void)flags;
	(void)fuse_reply_err(req, EROFS);
}

static void
op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino, (void)datasync, (void)fi;
	(void)fuse_reply_err(req, 0); /* nothing was written */
}

/*
 * Not here, on purpose: forget (node ids are functions, nothing is counted), access (the kernel
 * checks with default_permissions), flush (ENOSYS: below Linux 5.16 NOFLUSH is unknown), init.
 */
const struct fuse_lowlevel_ops mfs_tree_ops = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_remove,
	.rmdir = op_remove,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = mfs_op_open,
	.read = mfs_op_read,
	.write = mfs_op_write,
	.release = mfs_op_release,
	.fsync = op_fsync,
	.opendir = mfs_op_opendir,
	.readdir = mfs_op_readdir,
	.readdirplus = mfs_op_readdirplus,
	.releasedir = mfs_op_release,
	.fsyncdir = op_fsync,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.create = op_create,
	.fallocate = op_fallocate,
	.lseek = mfs_op_lseek,
	.copy_file_range = op_copy_file_range,
};
