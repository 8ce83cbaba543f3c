/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml.h - a YAML file as a small tree that remembers lines and columns. One document; no
 * anchors, aliases or tags; duplicate keys are errors. Every message is "FILE:LINE:COLUMN: ...".
 */
#ifndef MFS_PUB_YAML_H
#define MFS_PUB_YAML_H

#include "mfs_verify.h"

enum mfs_yaml_kind { MFS_YAML_SCALAR, MFS_YAML_LIST, MFS_YAML_MAP };

struct mfs_yaml {
	enum mfs_yaml_kind kind;
	unsigned line, column; /* from 1 */
	char *text;            /* scalar; UTF-8 without NUL */
	bool plain;            /* scalar without quotes */
	struct mfs_yaml **items; /* list: n; map: 2 * n, key and value in turn, keys are scalars */
	size_t n;
};

struct mfs_yaml_file {
	char *path; /* for messages */
	struct mfs_yaml *root; /* NULL for an empty file */
};

/* errors CONFIG_INVALID (syntax, duplicate key, alias, too deep), LIMIT_EXCEEDED, IO, NO_MEMORY */
enum mfs_code mfs_yaml_load(const char *path, struct mfs_yaml_file *out, struct mfs_err *err);
enum mfs_code mfs_yaml_parse(const char *path, struct mfs_span in, struct mfs_yaml_file *out, struct mfs_err *err);
void mfs_yaml_free(struct mfs_yaml_file *f);
#define mfs_autoyaml MFS_CLEANUP(mfs_yaml_free)

/* CONFIG_INVALID with the node's place in front. */
enum mfs_code mfs_yaml_bad(const struct mfs_yaml_file *f, const struct mfs_yaml *node, struct mfs_err *err,
	const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * A node as JSON (for free-form fields): plain integers, true, false and null keep their type,
 * everything else is a string, decimals too: signed JSON has integers only.
 * errors CONFIG_INVALID (control character, integer beyond 2^53-1), NO_MEMORY
 */
enum mfs_code mfs_yaml_json(const struct mfs_yaml_file *f, const struct mfs_yaml *node, json_t **out,
	struct mfs_err *err);

#endif
