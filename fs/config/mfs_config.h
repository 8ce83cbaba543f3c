/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mfs_config.h - the configuration (modelfs.yaml(5)): trusted, still strict.
 *
 * A snapshot is the text of every file that took part, read once by keeper (or by a command)
 * and handed to serve in a memfd, so that serve starts from the same bytes after a crash even
 * if the files were edited since. Parsing is pure: snapshot in, struct out.
 */
#ifndef MFS_CONFIG_H
#define MFS_CONFIG_H

#include "mfs_verify.h"

/*
 * A file of the configuration, or a fact that it refers to, looked up when it was read because
 * serve cannot: "file:/run/ort-version" (its first line), "group:NAME" and "user:NAME" (the
 * number), "machine-id". A fact that was not found has len 0.
 */
struct mfs_config_source {
	char *path; /* absolute: errors and relative paths refer to it; of a fact: its name */
	char *text;
	size_t len;
	bool fact;
};

struct mfs_config_snapshot {
	struct mfs_config_source *sources; /* in order of reading: later ones override */
	size_t n;
};

enum mfs_serve_mode { MFS_SERVE_AUTO, MFS_SERVE_RESIDENT, MFS_SERVE_PAGED };
enum mfs_pin_mode { MFS_PIN_PROCESS, MFS_PIN_CGROUP, MFS_PIN_OFF };

struct mfs_config_key { /* one entry of trust.keys; a bare path means epoch 1, every model */
	char *file; /* absolute */
	int64_t epoch;
	char **models; /* NULL-terminated, or NULL: every model */
	char *source; unsigned line, column; /* where it is configured, for messages */
};

struct mfs_config_model {
	char *id;       /* local name: the folder in the mount */
	char *model_id; /* of the manifests; the id unless configured */
	enum mfs_serve_mode serve;
	char *model_key; /* "file:/abs/mk.bin", "credential:NAME"; NULL: not encrypted */
	uid_t uid;       /* owner in the tree, default 0 */
	gid_t gid;       /* group in the tree, default 0 */
	bool has_group, has_mode;
	mode_t file_mode, dir_mode; /* 0440/0550 with a group and a model key, else 0444/0555 */
	enum mfs_pin_mode pin;
	int64_t pin_window_ms; /* default 10000 */
	struct mfs_minimum minimum;
	struct mfs_sha256 input_schema, output_schema, preprocess; /* zero: any */
};

struct mfs_config {
	char *path; /* the main file, for messages */
	char *mount, *state, *store, *run; /* absolute; run: folder of control socket and pid */
	char **seed; size_t n_seed;
	char *counter; /* "file" */
	struct mfs_config_key *keys; size_t n_keys;
	unsigned threshold; /* of trust.keys, default 1 */
	char *device_id;         /* default: 32 hex digits from the machine id; NULL without one */
	char *device_class, *device_region; /* NULL without */
	struct mfs_range *labels; size_t n_labels;     /* name, value in min */
	struct mfs_range *apps; size_t n_apps;         /* name, version in min */
	struct mfs_range *runtimes; size_t n_runtimes; /* name, version in min, "file:" already read */
	unsigned retain;         /* previous versions kept, default 2 */
	uint64_t memory_budget;  /* bytes if >= 101, else percent; default 25 (percent) */
	uint64_t min_free;       /* bytes of the store's filesystem to leave, or percent if <= 100; default 5 % */
	char *user;              /* of serve: name or number; NULL: "modelfs" if it exists, else 61180 */
	bool sandbox_optional, xattrs, exec;
	char *selinux_context;   /* NULL without */
	unsigned read_ahead_kb;  /* default 1024 */
	char *control_group;     /* may send commands beside root; NULL */
	gid_t control_gid;       /* its number; only with control_group */
	struct mfs_config_model *models; size_t n_models; /* sorted by id, bytewise */
	char **notes; size_t n_notes; /* "FILE:LINE:COLUMN: key: ..." for `config check`: accepted, but without effect here */
};

/*
 * Read the files: `path`, or with NULL the search path /usr/lib/modelfs, /etc/modelfs,
 * /run/modelfs: modelfs.yaml and modelfs.d/ *.yaml (a file of the same name in a later folder
 * replaces the earlier one). errors CONFIG_INVALID (absent, unreadable, larger than 1 MiB).
 */
enum mfs_code mfs_config_read(const char *path, struct mfs_config_snapshot **out, struct mfs_err *err);

/* A snapshot of one text, without facts (tests, `config check -`). path must be absolute. */
enum mfs_code mfs_config_text(const char *path, const char *text, size_t len, struct mfs_config_snapshot **out,
	struct mfs_err *err);
void mfs_config_snapshot_free(struct mfs_config_snapshot *s);
MFS_DEFINE_CLEANUP(snapshot, struct mfs_config_snapshot, mfs_config_snapshot_free)

/* To and from one descriptor (memfd); what keeper hands to serve. */
enum mfs_code mfs_config_snapshot_write(const struct mfs_config_snapshot *s, int fd, struct mfs_err *err);
enum mfs_code mfs_config_snapshot_load(int fd, struct mfs_config_snapshot **out, struct mfs_err *err);

/* Parse. errors CONFIG_INVALID: "FILE:LINE:COLUMN: key: what is wrong; what to write". Threads any. */
enum mfs_code mfs_config_parse(const struct mfs_config_snapshot *s, struct mfs_config **out, struct mfs_err *err);
void mfs_config_free(struct mfs_config *c);
MFS_DEFINE_CLEANUP(config, struct mfs_config, mfs_config_free)

/* Index of a model by its local id, or -1. */
ssize_t mfs_config_find(const struct mfs_config *c, const char *id);

/* Effective configuration as YAML (`modelfs config show`, /models/.modelfs/config): no secrets. malloc'd. */
enum mfs_code mfs_config_show(const struct mfs_config *c, char **out, size_t *len, struct mfs_err *err);

/* uid and gid of serve by `user`; asks the host's user database, so before the sandbox. errors CONFIG_INVALID. */
enum mfs_code mfs_config_user(const struct mfs_config *c, uid_t *uid, gid_t *gid, struct mfs_err *err);

#endif
