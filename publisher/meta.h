/* SPDX-License-Identifier: Apache-2.0 */
/* meta.h - meta.yaml: what a publisher says about a model beside its files. modelpub(1), META FILE. */
#ifndef MFS_PUB_META_H
#define MFS_PUB_META_H

#include "yaml.h"

struct mfs_meta_file { /* one entry of "files" */
	char *name;
	unsigned line, column;
	bool has_media;
	enum mfs_media media;
	bool executable; /* false unless said */
};

struct mfs_meta {
	json_t *fields; /* manifest fields: compat, preprocess, quantization, health; an object */
	struct mfs_meta_file *files;
	size_t n_files;
};

/*
 * Types and keys are checked here, with line and column; the values' ranges by the manifest's
 * own parser, which sees the finished document.
 *
 * path    NULL for no file: out is an empty set
 * out     zeroed on failure; release with mfs_meta_free()
 * errors  CONFIG_INVALID, LIMIT_EXCEEDED, IO, NO_MEMORY
 */
enum mfs_code mfs_meta_load(const char *path, struct mfs_meta *out, struct mfs_err *err);
enum mfs_code mfs_meta_parse(const char *path, struct mfs_span in, struct mfs_meta *out, struct mfs_err *err);
void mfs_meta_free(struct mfs_meta *m);
#define mfs_autometa MFS_CLEANUP(mfs_meta_free)

/* What a file is, by its extension, else by its first bytes. */
enum mfs_media mfs_media_guess(const char *name, struct mfs_span head);
/*
 * Can a file of this kind begin like this? Devices condemn a version whose files do not parse as what they are said to be.
 *
 * head  the first 16 bytes, or all of a smaller file
 * size  of the file, in bytes
 */
bool mfs_media_fits(enum mfs_media media, struct mfs_span head, uint64_t size);

#endif
