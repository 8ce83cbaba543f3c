/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_yaml.h - YAML text to a tree that remembers file, line and column (inside fs/config*.c).
 *
 * A strict subset: one document, mappings with scalar keys, no duplicate keys, no anchors,
 * aliases, tags or control characters; depth, nodes and size are capped.
 */
#ifndef MFS_CONFIG_YAML_H
#define MFS_CONFIG_YAML_H

#include "mfs_config.h"

#define MFS_CONFIG_BYTES_MAX (1u << 20) /* of one file */
#define MFS_YAML_DEPTH_MAX   16u
#define MFS_YAML_NODES_MAX   100000u
#define MFS_YAML_KEYS_MAX    4096u /* of one mapping */

enum mfs_yaml_kind { MFS_YAML_SCALAR, MFS_YAML_SEQUENCE, MFS_YAML_MAPPING };

struct mfs_yaml {
	enum mfs_yaml_kind kind;
	const char *file;      /* borrowed from the source */
	unsigned line, column; /* from 1 */
	bool plain;            /* a scalar without quotes */
	char *text;            /* scalar: no NUL inside */
	struct mfs_yaml **kids; /* sequence: items; mapping: key, value, key, value... */
	size_t n, cap;
};

/* Nothing but white space and comments gives an empty mapping. errors CONFIG_INVALID, NO_MEMORY */
enum mfs_code mfs_yaml_compose(const char *file, const char *text, size_t len, struct mfs_yaml **out,
	struct mfs_err *err);
void mfs_yaml_free(struct mfs_yaml *y);
MFS_DEFINE_CLEANUP(yaml, struct mfs_yaml, mfs_yaml_free)

/*
 * Lay a later file over an earlier one: mappings are merged key by key, everything else is
 * replaced. Both are mappings; `over` is emptied.
 */
enum mfs_code mfs_yaml_merge(struct mfs_yaml *into, struct mfs_yaml *over, struct mfs_err *err);

bool mfs_yaml_is_null(const struct mfs_yaml *y); /* plain empty, ~ or null */

/* "FILE:LINE:COLUMN: key: ..."; key as mfs_walk_key made it (escaped), "" for none. */
enum mfs_code mfs_yaml_fail(const struct mfs_yaml *y, const char *key, struct mfs_err *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
