/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_walk.h - typed values out of a YAML tree, driven by tables of keys (inside fs/config*.c).
 *
 * A reader checks its node and stores at `dst`; with dst NULL it only checks the type.
 */
#ifndef MFS_CONFIG_WALK_H
#define MFS_CONFIG_WALK_H

#include "config_yaml.h"

struct mfs_walk {
	struct mfs_config *c;
	const struct mfs_config_snapshot *s;
	/* NULL, or asked for a fact that the snapshot lacks (it may add it). */
	enum mfs_code (*lookup)(struct mfs_walk *w, const char *name);
	void *user;
	struct mfs_err *err;
};

struct mfs_field;
typedef enum mfs_code mfs_read_fn(struct mfs_walk *w, const struct mfs_yaml *y, const char *key,
	const struct mfs_field *f, void *dst);

struct mfs_field {
	const char *key;
	mfs_read_fn *read;
	size_t offset;   /* of dst in the object */
	const void *arg; /* for the reader: choices, a table of fields */
};

/* Every key must be in the table (ends with key NULL); an unknown one names the nearest. */
enum mfs_code mfs_walk_mapping(struct mfs_walk *w, const struct mfs_yaml *y, const char *key,
	const struct mfs_field *fields, void *obj);
enum mfs_code mfs_walk_note(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const char *text);

/* The fact by name: its text, or NULL when it was not found. */
enum mfs_code mfs_walk_fact(struct mfs_walk *w, const char *name, const struct mfs_config_source **out);

/* Sources to c, which is zeroed and stays the caller's to free, also on failure (config_parse.c). */
enum mfs_code mfs_config_walk(struct mfs_walk *w);

/* The key of a child, "models.det"; buf holds MFS_KEY_MAX bytes. */
#define MFS_KEY_MAX 256
const char *mfs_walk_key(char buf[MFS_KEY_MAX], const char *parent, const char *child);

mfs_read_fn mfs_read_text;      /* char *: not empty */
mfs_read_fn mfs_read_path;      /* char *: absolute by the file's folder */
mfs_read_fn mfs_read_file_uri;  /* char *: "file:PATH", the path made absolute; the text is known to begin so */
mfs_read_fn mfs_read_paths;     /* char **: a list of paths, NULL-terminated */
mfs_read_fn mfs_read_texts;     /* char **: a list of texts, NULL-terminated */
mfs_read_fn mfs_read_command;   /* char **: absolute program, arguments, NULL-terminated */
mfs_read_fn mfs_read_bool;      /* bool */
mfs_read_fn mfs_read_unsigned;  /* unsigned; arg: const unsigned[2], lowest and highest */
mfs_read_fn mfs_read_release;   /* int64_t: 1 to 2^53-1 */
mfs_read_fn mfs_read_duration;  /* int64_t milliseconds: 10s, 15m, 1h, 0 */
mfs_read_fn mfs_read_size;      /* uint64_t bytes: 2GB, 512MiB */
mfs_read_fn mfs_read_rate;      /* uint64_t bytes per second: 10MB/s */
mfs_read_fn mfs_read_share;     /* uint64_t: 25% as 25, else bytes of 101 or more */
mfs_read_fn mfs_read_choice;    /* int: index into arg, a NULL-terminated const char *const[] */
mfs_read_fn mfs_read_fraction;  /* unsigned: 0 to 1 in millionths, at most 6 decimals */
mfs_read_fn mfs_read_sha256;    /* struct mfs_sha256 */
mfs_read_fn mfs_read_mapping;   /* a mapping with the table arg; dst is its object, NULL if inert */

/* config_models.c: `models` into w->c (dst); a user or group ("user", "group"): number, or a name as a fact. */
mfs_read_fn mfs_read_models;
enum mfs_code mfs_read_principal(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const char *kind,
	uint32_t *out);

/* config_repos.c, config_update.c: mappings and texts of the top level; dst is w->c. */
mfs_read_fn mfs_read_repository;
mfs_read_fn mfs_read_repositories;
mfs_read_fn mfs_read_telemetry;
mfs_read_fn mfs_read_update;

/* After all keys: sorts the repositories, gives each its root and each model its repository and channel. */
enum mfs_code mfs_config_join_repositories(struct mfs_walk *w, const struct mfs_yaml *repositories,
	const struct mfs_yaml *models);
void mfs_config_free_repositories(struct mfs_config *c);

#endif
