/* SPDX-License-Identifier: Apache-2.0 */
/* FUSE requests on files: payloads of both tiers, manifests, status snapshots. */
#include "log.h"
#include "tree_int.h"

/* struct fuse_open_out of the kernel; older headers call backing_id padding. */
struct open_out {
	uint64_t fh;
	uint32_t flags;
	int32_t backing_id;
};
#define OUT_NOFLUSH     (1u << 5) /* FOPEN_NOFLUSH, Linux 5.16 */
#define OUT_PASSTHROUGH (1u << 7) /* FOPEN_PASSTHROUGH, Linux 6.9 */

struct opening { /* what an OPEN found out under the lock */
	enum { OPEN_STATUS, OPEN_MANIFEST, OPEN_PAGED, OPEN_RESIDENT } how;
	enum mfs_status_kind kind;
	size_t model;
	uint64_t fh;
	int32_t backing_id;
	bool repeated;
	uid_t uid; /* who asks */
	struct mfs_sha256 manifest;
	size_t n_files, file;
};

/* ---- open ------------------------------------------------------------------------------------------------ */

static bool
resident_ready(const struct mfs_tree *t, const struct mfs_exp *e, uint32_t file, int32_t *backing_id)
{
	const struct mfs_shm_resident *r;

	if (e->resident[file] == UINT32_MAX)
		return false;
	r = &t->shm->residents[e->resident[file]];
	if (atomic_load(&r->state) != MFS_RESIDENT_READY || r->exposure != e->index + 1 || r->file != file ||
		r->backing_id <= 0)
		return false;
	*backing_id = r->backing_id;
	return true;
}

/*
 * Hold the tree's lock: the handle is taken under it, so whoever closes an exposure under the write
 * lock sees either the handle or an exposure that nothing opens any more.
 */
static int
open_payload(struct mfs_tree *t, const struct mfs_node *n, uint64_t unique, struct opening *o)
{
	const struct mfs_exp *e = n->of.exp;
	const struct mfs_version *v = e->mver->v;
	struct mfs_handle h = { .node = n->id, .exposure = e->index + 1, .uid = o->uid }, old;

	o->how = OPEN_PAGED;
	o->model = e->mver->model;
	o->manifest = v->m->id;
	o->n_files = v->m->n_files;
	o->file = n->index;
	o->fh = mfs_handles_repeated(t->handles, unique, n->id, &old);
	o->repeated = o->fh != 0;
	if (e->closed || !e->mver->shown) /* collected, withdrawn, revoked: the kernel looks up again */
		return ESTALE;
	if (v->files == NULL || v->key_code != MFS_OK)
		return v->key_code != MFS_OK ? mfs_code_errno(v->key_code) : EIO;
	if (e->tier == MFS_TIER_RESIDENT && mfs_file_resident(&v->m->files[n->index])) {
		if (!resident_ready(t, e, n->index, &o->backing_id))
			return ESTALE;
		o->how = OPEN_RESIDENT;
	}
	if (o->fh == 0 && (o->fh = mfs_handles_take(t->handles, unique, &h)) == 0)
		return ENFILE;
	return 0;
}

static int
open_node(struct mfs_tree *t, fuse_ino_t ino, uint64_t unique, struct opening *o)
{
	struct mfs_node *n;
	int error = 0;

	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) == NULL) {
		error = ESTALE;
	} else if (mfs_look_is_dir(n)) {
		error = EISDIR;
	} else if (n->kind == MFS_NODE_STATUS) {
		o->how = OPEN_STATUS;
		o->kind = (enum mfs_status_kind)n->status;
		o->model = n->model;
	} else if (n->kind == MFS_NODE_MANIFEST_JSON || n->kind == MFS_NODE_MANIFEST_SIG) {
		o->how = OPEN_MANIFEST;
		error = n->of.mver->shown ? 0 : ESTALE;
	} else if (n->kind == MFS_NODE_PAYLOAD) {
		error = open_payload(t, n, unique, o);
	} else {
		error = ELOOP; /* a link */
	}
	(void)pthread_rwlock_unlock(&t->lock);
	return error;
}

void
mfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct mfs_tree *t = mfs_req_tree(req);
	uint64_t unique = mfs_session_current_unique();
	struct opening o = { .uid = fuse_req_ctx(req)->uid };
	struct mfs_handle old;
	int error, sent;

	if (((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & (O_TRUNC | O_CREAT)) != 0) &&
		!mfs_may_touch(req, ino)) {
		(void)fuse_reply_err(req, EROFS);
		return;
	}
	if ((error = open_node(t, ino, unique, &o)) == 0 && o.how == OPEN_STATUS) {
		o.repeated = mfs_handles_repeated(t->handles, unique, ino, &old) != 0;
		o.fh = mfs_snap_open(t->snaps, unique, ino, o.uid, o.kind, o.model, &error);
	}
	if (error != 0) {
		(void)fuse_reply_err(req, error);
		return;
	}
	/* Also of a repeated one: the serve before may have died before it noted who loads. */
	if (o.how == OPEN_PAGED || o.how == OPEN_RESIDENT)
		mfs_handles_own(t->handles, o.fh,
			mfs_pins_opened(t->pins, o.model, fuse_req_ctx(req)->pid, o.uid, &o.manifest, o.n_files,
				o.file));
	fi->fh = o.fh;
	if (o.how == OPEN_RESIDENT) {
		/* As a whole struct: libfuse before 3.17 has no field for the backing id. */
		struct open_out out = { .fh = o.fh, .flags = OUT_PASSTHROUGH | OUT_NOFLUSH, .backing_id = o.backing_id };

		sent = fuse_reply_buf(req, (const char *)&out, sizeof(out));
	} else {
		fi->direct_io = o.how == OPEN_STATUS;
		fi->keep_cache = o.how != OPEN_STATUS;
		fi->noflush = 1;
		sent = fuse_reply_open(req, fi);
	}
	/* Interrupted: no RELEASE will come. A repeated OPEN may have been answered by a dead serve: then one will. */
	if (sent == -ENOENT && o.fh != 0 && !o.repeated)
		(void)mfs_snap_release(t->snaps, o.fh, o.how == OPEN_STATUS, o.kind, o.model, &old);
}

void
mfs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct mfs_tree *t = mfs_req_tree(req);
	enum mfs_status_kind kind = MFS_STATUS_VERSION;
	struct mfs_handle h;
	struct mfs_node *n;
	bool status = false;
	size_t model = 0;

	(void)ino;
	if (mfs_handles_get(t->handles, fi->fh, &h)) {
		(void)pthread_rwlock_rdlock(&t->lock);
		if ((n = mfs_node_find(t, h.node)) != NULL && n->kind == MFS_NODE_STATUS) {
			status = true;
			kind = (enum mfs_status_kind)n->status;
			model = n->model;
		}
		(void)pthread_rwlock_unlock(&t->lock);
		if (mfs_snap_release(t->snaps, fi->fh, status, kind, model, &h))
			mfs_pins_closed(t->pins, h.owner);
	}
	(void)fuse_reply_err(req, 0);
}

/* ---- read -------------------------------------------------------------------------------------------------- */

struct paged { /* a read that may have to wait for a thread */
	struct mfs_tree *t;
	fuse_req_t req;
	struct mfs_exp *exp; /* a reference */
	uint32_t file;
	size_t size;
	uint64_t off;
	struct mfs_repair_read read; /* when its bytes do not verify */
};

static void
exp_get(void *exp)
{
	struct mfs_exp *e = exp;

	(void)atomic_fetch_add(&e->refs, 1);
}

static void
exp_put(void *exp)
{
	mfs_exp_unref(exp);
}

/* Disk and decryption: only between slow_begin and slow_end. */
static void
read_paged(void *arg)
{
	struct paged *p = arg;
	struct mfs_content *c = p->exp->mver->v->files[p->file];
	const struct mfs_hold hold = { p->exp, exp_get, exp_put };
	struct mfs_err err = MFS_ERR_INIT;
	void *buf = mfs_thread_buffer();
	struct mfs_stretch s;

	/* Never a byte that did not verify; the cache reported the chunk. */
	if (buf == NULL || mfs_content_stream(c, &hold, buf, p->size, p->off, &s, &err) != MFS_OK) {
		if (buf != NULL && mfs_repair_park(p->t->s->repairs, &p->read, &err))
			return; /* p is in its hands until read_parked() */
		(void)fuse_reply_err(p->req, EIO);
	} else {
		(void)fuse_reply_buf(p->req, (const char *)s.data, s.len);
		mfs_stretch_done(c, &s);
	}
	mfs_exp_unref(p->exp);
	free(p);
}

static void
read_parked(struct mfs_repair_read *w, bool replied)
{
	struct paged *p = (void *)((char *)w - offsetof(struct paged, read));

	if (replied) {
		mfs_exp_unref(p->exp);
		free(p);
	} else {
		read_paged(p);
	}
}

static void
read_manifest(fuse_req_t req, struct mfs_mver *m, bool sig, size_t size, uint64_t off)
{
	const struct mfs_signed *s = &m->v->signed_bytes;
	const uint8_t *p = sig ? s->sig : s->manifest;
	size_t len = sig ? s->sig_len : s->manifest_len;

	if (off >= len)
		(void)fuse_reply_buf(req, NULL, 0);
	else
		(void)fuse_reply_buf(req, (const char *)p + off, size < len - off ? size : len - (size_t)off);
	mfs_mver_unref(m);
}

static void
read_status(fuse_req_t req, struct mfs_tree *t, const struct mfs_node *n, size_t size, uint64_t off, uint64_t fh)
{
	void *buf = mfs_thread_buffer();
	size_t got = 0;
	int error;

	if (buf == NULL) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	/* n is a fixed node: it outlives the lock */
	error = mfs_snap_read(t->snaps, fh, n->id, (enum mfs_status_kind)n->status, n->model, buf, size, off, &got);
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else
		(void)fuse_reply_buf(req, buf, got);
}

static void
start_paged(fuse_req_t req, struct mfs_tree *t, struct mfs_exp *e, uint32_t file, size_t size, uint64_t off)
{
	struct paged *p = malloc(sizeof(*p));

	if (p == NULL || e->mver->v->files == NULL) {
		free(p);
		mfs_exp_unref(e);
		(void)fuse_reply_err(req, EIO);
		return;
	}
	*p = (struct paged){ .t = t, .req = req, .exp = e, .file = file, .size = size, .off = off };
	p->read = (struct mfs_repair_read){ .req = req, .model = e->mver->model, .v = e->mver->v, .file = file, .off = off,
		.len = size, .fn = read_parked };
	if (mfs_session_slow_begin(t->s->session, read_paged, p)) {
		read_paged(p);
		mfs_session_slow_end(t->s->session);
	}
}

void
mfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct mfs_tree *t = mfs_req_tree(req);
	struct mfs_exp *e = NULL;
	struct mfs_mver *m = NULL;
	struct mfs_node *n;
	uint32_t file = 0;
	bool sig = false, status = false;
	int error = 0;

	if (size > MFS_BUF_BYTES)
		size = MFS_BUF_BYTES;
	(void)pthread_rwlock_rdlock(&t->lock);
	if ((n = mfs_node_find(t, ino)) == NULL) {
		error = ESTALE;
	} else if (mfs_look_is_dir(n)) {
		error = EISDIR;
	} else if (off < 0) {
		error = EINVAL;
	} else if (n->kind == MFS_NODE_STATUS) {
		status = true;
	} else if (n->kind == MFS_NODE_MANIFEST_JSON || n->kind == MFS_NODE_MANIFEST_SIG) {
		m = n->of.mver;
		sig = n->kind == MFS_NODE_MANIFEST_SIG;
		(void)atomic_fetch_add(&m->refs, 1);
	} else if (n->kind == MFS_NODE_PAYLOAD) {
		e = n->of.exp;
		file = n->index;
		(void)atomic_fetch_add(&e->refs, 1);
	} else {
		error = EINVAL;
	}
	(void)pthread_rwlock_unlock(&t->lock);
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else if (status)
		read_status(req, t, n, size, (uint64_t)off, fi->fh);
	else if (m != NULL)
		read_manifest(req, m, sig, size, (uint64_t)off);
	else if (e != NULL)
		start_paged(req, t, e, file, size, (uint64_t)off);
}

/* ---- write, seek --------------------------------------------------------------------------------------------- */

void
mfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)buf, (void)off, (void)fi;
	if (size == 1 && mfs_may_touch(req, ino))
		(void)fuse_reply_write(req, size); /* for inotify alone: the byte goes nowhere */
	else
		(void)fuse_reply_err(req, EROFS);
}

/* No file has holes: data up to its end, one hole behind it. */
void
mfs_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	int error = mfs_fill_entry(mfs_req_tree(req), ino, &e);

	(void)fi;
	if (error == 0 && !S_ISREG(e.attr.st_mode))
		error = EINVAL;
	if (error == 0 && whence != SEEK_DATA && whence != SEEK_HOLE)
		error = EINVAL;
	if (error == 0 && (off < 0 || off >= e.attr.st_size))
		error = ENXIO;
	if (error != 0)
		(void)fuse_reply_err(req, error);
	else
		(void)fuse_reply_lseek(req, whence == SEEK_DATA ? off : e.attr.st_size);
}
