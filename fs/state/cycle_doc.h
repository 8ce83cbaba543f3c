/* SPDX-License-Identifier: Apache-2.0 */
/* cycle_doc.h - shared by cycle.c and cycle_update.c only: fields of the cycle document. */
#ifndef MFS_CYCLE_DOC_H
#define MFS_CYCLE_DOC_H

#include <jansson.h>

#include "trusted.h"

#define MFS_CYCLE_REPOS_MAX 256u

/* Read a field and remove it from o; errors name `where` and the field. */
enum mfs_code mfs_cycle_take_int(json_t *o, const char *where, const char *key, int64_t min, int64_t *out,
	struct mfs_err *err);
enum mfs_code mfs_cycle_take_counter(json_t *o, const char *where, const char *key, uint64_t *out, struct mfs_err *err);
/* What is left in o, as text; NULL when nothing is. And back: an object, NULL only without memory. */
enum mfs_code mfs_cycle_take_rest(json_t *o, char **out, struct mfs_err *err);
json_t *mfs_cycle_rest_json(const char *extra);

/* Fields of minor version 1; all may be absent. _put returns nonzero without memory. */
enum mfs_code mfs_cycle_take_update(json_t *o, const char *where, struct mfs_cycle_model *m, struct mfs_err *err);
enum mfs_code mfs_cycle_take_host(json_t *root, struct mfs_cycle *c, struct mfs_err *err);
int mfs_cycle_put_update(json_t *o, const struct mfs_cycle_model *m);
int mfs_cycle_put_host(json_t *root, const struct mfs_cycle *c);

#endif
