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

struct mfs_config_mirror { /* serves blobs only: metadata and targets come from the repository itself */
	char *url; /* with {hash} and {part} filled in; without {hash} a folder with the layout of the repository */
	bool only; /* a site cache: blobs are never asked of another origin that is not `only` */
};

/* Where fetch may connect to, and how. keeper opens the files; the URL holds no credentials, query or fragment. */
struct mfs_config_origin {
	char *url;        /* "https://...", "http://...", "file:///..."; without a trailing slash */
	char *token_file; /* absolute: bearer token, https only; NULL */
	char *tls_ca, *tls_cert, *tls_key; /* absolute PEM files, NULL; cert and key come together */
	char *tls_pin;    /* as curl writes it: "sha256//BASE64", several with ';' between; NULL */
	char *proxy;      /* "http://host:port", "socks5h://..."; NULL: none. The environment is never asked */
};

struct mfs_config_repository {
	char *name; /* of `repositories`; "default" for the short form. Same syntax as a model id */
	struct mfs_config_origin origin;
	char *root; /* absolute: the TUF root that is trusted at first (trust.root unless it has its own) */
	struct mfs_config_mirror *mirrors; size_t n_mirrors; /* in order of preference */
};

enum mfs_stale_mode { MFS_STALE_SERVE, MFS_STALE_STOP };
enum mfs_offline_mode { MFS_OFFLINE_SIGNED, MFS_OFFLINE_FRESH };

#define MFS_REPOSITORIES_MAX 64u
#define MFS_MIRRORS_MAX      16u

/* All that are given must hold for download, staging and activation; a check asks none of them. */
struct mfs_config_conditions {
	bool power_ac;        /* power: ac: only while on external power */
	unsigned battery_min; /* percent; a host without a battery passes. 0: any */
	bool unmetered;       /* metered: false: not over a connection that costs by volume */
	char **interfaces;    /* NULL-terminated names or prefixes with a final '*'; NULL: any */
	char *hold_file;      /* absolute: held while it exists; NULL */
};

struct mfs_config_update {
	int64_t interval_ms;     /* between checks, default 15 min, at least 1 s */
	int64_t max_interval_ms; /* cap of backoff and Retry-After, default 1 day, at least interval */
	int64_t probation_ms;    /* default 10 min; 0: commit at once */
	uint64_t bandwidth;      /* bytes per second, 0: no limit */
	uint64_t daily_bytes;    /* 0: no limit */
	bool has_window;
	unsigned window_from, window_to; /* minutes of the local day, never equal; from > to: over midnight */
	struct mfs_config_conditions conditions;
	int64_t expired_grace_ms; /* default 0: an expired timestamp or snapshot is refused at once */
	enum mfs_stale_mode stale;
	enum mfs_offline_mode offline_install;
};

/*
 * Users of health commands without a configured one: one of these each, by the place of the model in
 * the configuration, in the range that distributions leave to software (below systemd's dynamic users).
 */
#define MFS_HEALTH_UID_FIRST 61100u
#define MFS_HEALTH_UIDS      64u

enum mfs_health_network { MFS_NETWORK_NONE, MFS_NETWORK_LOOPBACK };

struct mfs_config_health { /* models.<id>.health; keeper runs the command by its own reading of it */
	char **command;      /* absolute program and arguments, NULL-terminated; NULL: only the built-in checks */
	int64_t timeout_ms;  /* of one run; default 60000 */
	int64_t interval_ms; /* between the runs of probation; default 60000 */
	enum mfs_health_network network;
	char **devices;      /* absolute, NULL-terminated; NULL: none */
	char *user;          /* as configured, NULL: the default */
	uid_t uid;           /* of the command and the hooks, and owner of a candidate; never 0 */
	uint64_t memory;     /* bytes; 0: half of the host's memory */
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
	char *repository; /* as configured, NULL: default */
	ssize_t repo;     /* index of repos; -1: none, installed by hand only */
	struct mfs_config_health health;
	char **on_change, **on_reject; /* absolute program and arguments, NULL-terminated; NULL: none */
	char *channel;    /* label "channel" of this model for the policy: its own, else device.channel, else NULL */
};

struct mfs_config {
	char *path; /* the main file, for messages */
	char *mount, *state, *store, *run; /* absolute; run: folder of control socket and pid */
	char **seed; size_t n_seed;
	char *counter; /* "file" */
	struct mfs_config_key *keys; size_t n_keys; /* may be none when there is a repository: its trust.json has some */
	unsigned threshold; /* of trust.keys, default 1 */
	char *trust_root;   /* absolute; root of the repositories that name none. NULL without */
	char *device_id;         /* default: 32 hex digits from the machine id; NULL without one */
	char *device_class, *device_region; /* NULL without */
	struct mfs_range *labels; size_t n_labels;     /* name, value in min */
	struct mfs_range *apps; size_t n_apps;         /* name, version in min */
	struct mfs_range *runtimes; size_t n_runtimes; /* name, version in min, "file:" already read */
	char *device_channel;    /* NULL without */
	char *device_key;        /* "file:/abs/path", or another URI of OpenSSL's store; default file:STATE/device-key */
	struct mfs_config_repository *repos; size_t n_repos; /* sorted by name, bytewise */
	struct mfs_config_update update; /* retain and min_free are beside it */
	struct mfs_config_origin telemetry; /* url NULL: off. Never a client certificate or a token */
	unsigned telemetry_sample; /* of a million events, default 1000000 */
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

/*
 * What is wrong with the URL of an origin, or NULL. It is printable ASCII that starts with one of the schemes
 * (NULL-terminated), has a host unless it is file:, and holds nothing that does not belong there: no credentials (the
 * configuration is shown to everybody), no query, no fragment, no "..". "": none of the schemes.
 */
const char *mfs_config_url_wrong(const char *url, const char *const *schemes);

/* Index of a repository by its name, or -1. */
ssize_t mfs_config_find_repo(const struct mfs_config *c, const char *name);

/* Effective configuration as YAML (`modelfs config show`, /models/.modelfs/config): no secrets. malloc'd. */
enum mfs_code mfs_config_show(const struct mfs_config *c, char **out, size_t *len, struct mfs_err *err);

/* uid and gid of serve by `user`; asks the host's user database, so before the sandbox. errors CONFIG_INVALID. */
enum mfs_code mfs_config_user(const struct mfs_config *c, uid_t *uid, gid_t *gid, struct mfs_err *err);

#endif
