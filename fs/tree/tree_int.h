/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree_int.h - shared by tree.c, tree_map.c, tree_start.c, tree_look.c, view.c and ops*.c alone.
 *
 * Locks, in this order. No request takes the first two; the others are never held across disk,
 * network, a reply, a render or a system call about a process.
 *   refresh_lock  one refresh at a time, across the engine's writes
 *   view_lock     one writer at a time: lists of versions and exposures, and the records in shm,
 *                 change under it (a serve's start reads manifests of kept versions under it)
 *   lock          rwlock: readers of nodes and views; a writer swaps a finished view in
 *   snaps, handles; pins: each in its own file
 */
#ifndef MFS_TREE_INT_H
#define MFS_TREE_INT_H

#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "handles.h"
#include "nodeid.h"
#include "pins.h"
#include "serve.h"
#include "shape.h"
#include "snap.h"

#define MFS_ATTR_FOREVER  3600.0 /* seconds: inside a version tree nothing changes under a node id */
#define MFS_ATTR_SHORT    1.0    /* seconds: names whose node id may change, folders that change */
#define MFS_HIDDEN_MS     (3600 * 1000) /* an exposure no longer shown answers as long as the kernel may remember it */

enum mfs_node_kind {
	/* fixed: made once, never freed */
	MFS_NODE_ROOT, MFS_NODE_DOT_ACTIVE, MFS_NODE_DOT_RELEASE, MFS_NODE_DOT_MODELFS,
	MFS_NODE_MODEL, MFS_NODE_ACTIVE, MFS_NODE_PREVIOUS, MFS_NODE_VERSIONS, MFS_NODE_MANIFESTS,
	MFS_NODE_STATUS,       /* every status file; `status` says which */
	MFS_NODE_ACTIVE_LINK,  /* .active/<id> */
	MFS_NODE_RELEASE_DIR,  /* .release/<id> */
	MFS_NODE_CANDIDATE,
	/* of a version, whatever its exposure */
	MFS_NODE_RELEASE_LINK, MFS_NODE_MANIFEST_JSON, MFS_NODE_MANIFEST_SIG,
	/* of an exposure: index is a file's, or a folder's with MFS_FOLDER set */
	MFS_NODE_PAYLOAD,
};

struct mfs_mver;
struct mfs_exp;

struct mfs_node {
	uint64_t id;
	struct mfs_node *next, *ino_next; /* chains of the map */
	union {
		struct mfs_mver *mver; /* RELEASE_LINK, MANIFEST_* */
		struct mfs_exp *exp;   /* PAYLOAD */
	} of;
	uint32_t ino;
	uint32_t index;
	uint16_t model;
	uint8_t kind, status;
};

/* A version of a model as the tree knows it; shared by its exposures. */
struct mfs_mver {
	struct mfs_mver *next; /* list of the model */
	_Atomic unsigned refs;
	size_t model;
	struct mfs_version *v;
	struct mfs_shape *shape;
	bool shown;            /* lock: an exposure of it is in the view */
	bool linked;           /* its nodes are in the map */
	uint32_t key;          /* folder offset of its names, 31 bits */
	struct mfs_node nodes[3];
};

struct mfs_exp {
	struct mfs_exp *next; /* list of the model */
	_Atomic unsigned refs;
	struct mfs_mver *mver;
	uint32_t index; /* in shm->exposures */
	uint64_t exposure;
	enum mfs_tier tier;
	uint32_t *resident; /* per file: index in shm->residents, UINT32_MAX without; NULL when paged */
	int64_t activated_ns; /* lock */
	bool shown, closed;   /* lock; closed: nothing opens it any more */
	bool checked;         /* lock: private to the health check's user */
	char alias[MFS_SHOWN_MAX + 1]; /* lock: what it is called instead of its version, "" mostly */
	int64_t hidden_ms;    /* lock: when it left the view, CLOCK_BOOTTIME */
	size_t n_nodes;
	struct mfs_node nodes[]; /* files, then folders */
};

struct mfs_view { /* what a model shows; replaced as a whole under lock */
	struct mfs_exp **shown; size_t n; /* sorted by mver->key */
	struct mfs_exp *active, *previous, *candidate; /* in shown, or NULL */
	uint64_t generation;
};

struct mfs_model {
	uint64_t swaps; /* of the view, under lock: a pin that was asked for before one of them is asked for again */
	struct mfs_view *view;
	struct mfs_mver *mvers; /* view_lock to change */
	struct mfs_exp *exps;   /* view_lock to change */
	bool started;           /* view_lock: exposures of an earlier serve were looked at */
	int64_t changed_ns;     /* lock: mtime of its folders */
	int64_t announced_ns;   /* lock: mtime of `generation` */
	char announced[256];    /* lock: the line of `generation` */
	bool unannounced;       /* lock: a predecessor swapped and died before it said so */
	_Atomic int64_t candidate_until; /* a predecessor's candidate that nobody asked for yet, CLOCK_BOOTTIME ms; 0 none */
};

struct mfs_tree {
	struct mfs_serve *s;
	struct mfs_shm *shm;
	const struct mfs_config *config;
	struct mfs_handles *handles;
	struct mfs_snaps *snaps;
	struct mfs_pins *pins;
	pthread_mutex_t refresh_lock, view_lock;
	pthread_rwlock_t lock;
	size_t n_models;
	struct mfs_model *models;
	struct mfs_node *fixed; size_t n_fixed;
	struct mfs_node **by_id, **by_ino; size_t buckets, n_nodes; /* lock; buckets is a power of two */
	pthread_mutex_t statfs_lock;
	struct statvfs statfs; /* statfs_lock */
	pthread_t housekeeper; bool housekeeping; /* statfs, sweep */
	pthread_mutex_t stop_lock; pthread_cond_t stop_cond; bool stop;
	_Atomic bool pending; /* some model is unannounced */
	_Atomic int64_t failure_event_ms; /* last event of a failed chunk */
	_Atomic uint64_t failures_muted;
};

/* ---- tree_map.c ------------------------------------------------------------------------------------ */

/* Names below a fixed folder, in the order of their offsets (3 + position). */
struct mfs_fixed {
	const char *name;
	enum mfs_node_kind kind;
	enum mfs_status_kind status;
};
extern const struct mfs_fixed mfs_fixed_root[], mfs_fixed_modelfs[], mfs_fixed_model[];
#define MFS_FIXED_ROOT    3u
#define MFS_FIXED_MODELFS 5u
#define MFS_FIXED_MODEL   9u
#define MFS_FIXED_PER_MODEL (MFS_FIXED_MODEL + 3u) /* the folder, its children, .active/, .release/ */

/* Fixed nodes by place; lock not needed. */
struct mfs_node *mfs_node_root(struct mfs_tree *t);
struct mfs_node *mfs_node_top(struct mfs_tree *t, size_t child);      /* .active, .release, .modelfs */
struct mfs_node *mfs_node_modelfs(struct mfs_tree *t, size_t child);
struct mfs_node *mfs_node_model(struct mfs_tree *t, size_t i);
struct mfs_node *mfs_node_model_child(struct mfs_tree *t, size_t i, size_t child);
struct mfs_node *mfs_node_active_link(struct mfs_tree *t, size_t i);
struct mfs_node *mfs_node_release_dir(struct mfs_tree *t, size_t i);

/* The node of an id, or NULL. Hold lock. */
struct mfs_node *mfs_node_find(struct mfs_tree *t, uint64_t id);

/*
 * Hold lock for writing. _reserve makes room for `more` nodes (on failure nothing changed), _insert
 * puts one in and gives it an inode number that is unique in the mount (false: its id is taken),
 * _remove takes one out if it is there.
 */
enum mfs_code mfs_map_reserve(struct mfs_tree *t, size_t more, struct mfs_err *err);
bool mfs_map_insert(struct mfs_tree *t, struct mfs_node *n);
void mfs_map_remove(struct mfs_tree *t, struct mfs_node *n);

/* ---- tree.c ------------------------------------------------------------------------------------ */

/* Put the fixed nodes into the map; free a model's views and records (no lock needed: nobody asks). */
enum mfs_code mfs_tree_link_fixed(struct mfs_tree *t, struct mfs_err *err);
void mfs_tree_model_free(struct mfs_model *m);

/* Free what nothing shows, holds or remembers. Takes both locks. */
void mfs_tree_sweep(struct mfs_tree *t, bool pressure);

/* Take the exposure at *p out of its list and the map. Hold both locks. */
void mfs_tree_unlink(struct mfs_tree *t, struct mfs_exp **p);

/* The sentence of `generation` becomes the published one. Takes lock. */
void mfs_tree_announce(struct mfs_tree *t, size_t i);

/* The sentence as announced last, and as the view has it now. Takes lock. */
void mfs_tree_sentences(struct mfs_tree *t, size_t i, char said[256], char now[256]);

/* mfs_tree_publish and _keep for a caller that holds view_lock. */
enum mfs_code mfs_tree_publish_locked(struct mfs_tree *t, size_t i, const struct mfs_exposed *versions, size_t n,
	uint64_t generation, struct mfs_err *err);
enum mfs_code mfs_tree_keep_locked(struct mfs_tree *t, size_t i, const struct mfs_exposed *version,
	struct mfs_err *err);

void mfs_mver_unref(struct mfs_mver *m);
void mfs_exp_unref(struct mfs_exp *e);
MFS_DEFINE_CLEANUP(exp, struct mfs_exp, mfs_exp_unref)

/* ---- tree_look.c: names and attributes; hold lock ------------------------------------------------ */

/* The child of a folder by name, or NULL. */
struct mfs_node *mfs_look_child(struct mfs_tree *t, struct mfs_node *dir, const char *name);

bool mfs_look_is_dir(const struct mfs_node *n);

/* A link or version that exists now; fixed folders and files always do. */
bool mfs_look_present(struct mfs_tree *t, const struct mfs_node *n);

/* Attributes; the size of a status file is that of its newest snapshot, see mfs_snap_size. */
void mfs_look_stat(struct mfs_tree *t, const struct mfs_node *n, struct stat *st);
double mfs_look_attr_timeout(const struct mfs_node *n);
double mfs_look_entry_timeout(const struct mfs_node *n);

/*
 * The next entry of a folder after offset `off`: name, node and its own offset; false at the end.
 * pinned: manifest that the caller is still loading in this model, or NULL.
 */
struct mfs_entry {
	const char *name; /* NULL when `text` holds it */
	size_t len;       /* of name when it is not terminated, else 0 */
	char text[MFS_SHOWN_MAX + 8];
	struct mfs_node *node;
	uint64_t off;
};
bool mfs_look_next(struct mfs_tree *t, struct mfs_node *dir, uint64_t off, const struct mfs_sha256 *pinned,
	struct mfs_entry *out);
struct mfs_node *mfs_look_parent(struct mfs_tree *t, const struct mfs_node *dir);

/* Target of a link into out; false when it is absent. pinned as above. */
bool mfs_look_target(struct mfs_tree *t, const struct mfs_node *link, const struct mfs_sha256 *pinned, char *out,
	size_t cap);

/* The name of a shown exposure below versions/. */
const char *mfs_look_name(const struct mfs_exp *e);

/* The shown exposure of a manifest in model i, or NULL. */
struct mfs_exp *mfs_look_shown(struct mfs_tree *t, size_t i, const struct mfs_sha256 *manifest);

/* ---- view_candidate.c: hold refresh_lock. The engine has no candidate (any more). ------------------- */
void mfs_view_candidate_forget(struct mfs_serve *s, size_t i);
/* Without it: candidates of a predecessor whose check must be over, and that nobody goes on with. */
void mfs_view_candidates_expire(struct mfs_serve *s);

/* ---- ops_dir.c, ops_file.c ------------------------------------------------------------------------ */

static inline struct mfs_tree *
mfs_req_tree(fuse_req_t req)
{
	return ((struct mfs_serve *)fuse_req_userdata(req))->tree;
}

/* A page-aligned buffer of the calling thread, at least MFS_BUF_BYTES long; NULL: no memory. */
#define MFS_BUF_BYTES ((1u << 20) + 8192u)
void *mfs_thread_buffer(void);

void mfs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mfs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void mfs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void mfs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi); /* files and folders */
void mfs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mfs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void mfs_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi);
void mfs_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

/* Attributes and timeouts of a node as an entry; takes lock. 0 or a positive errno. */
int mfs_fill_entry(struct mfs_tree *t, uint64_t id, struct fuse_entry_param *e);

/* Is this keeper's child on a `generation` file? */
bool mfs_may_touch(fuse_req_t req, fuse_ino_t ino);

/* The manifest that process `pid` is still loading in model i; false: none. Takes no tree lock. */
bool mfs_pinned(struct mfs_tree *t, size_t i, pid_t pid, struct mfs_sha256 *manifest);

#endif
