/* SPDX-License-Identifier: Apache-2.0 */
/* anchor_help.h - versions and what a device remembers of them, for tests of decisions. */
#ifndef ANCHOR_HELP_H
#define ANCHOR_HELP_H

#include "verify_help.h"

struct vers {
	struct mfs_manifest m;
	char model_id[8], version[16], variant[16];
};

/* A manifest whose identity is its first byte. */
static inline const struct mfs_manifest *
vers(struct vers *v, uint8_t id, const char *version, int64_t epoch, int64_t release)
{
	*v = (struct vers){ .m = { .id = { { id } }, .key_epoch = epoch, .release = release } };
	strcpy(v->model_id, "det");
	strcpy(v->version, version);
	strcpy(v->variant, "default");
	v->m.model_id = v->model_id;
	v->m.version = v->version;
	v->m.variant = v->variant;
	return &v->m;
}

/* What a test has put together in a model of the anchor. */
static inline void
done(struct mfs_anchor_model *st)
{
	free(st->retained);
	free(st->known);
	free(st->bad);
	free(st->revoked);
}

#endif
