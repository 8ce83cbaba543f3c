/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mfs_vectors.h - test vectors of a version: the manifest's `health`, or a payload file that it names.
 *
 *	{"vectors": [{"name": "zeros", "input": ..., "output": {"score": {"value": "0.93", "tolerance": "0.01"}}}]}
 *	{"file": "health/vectors.json"}
 *
 * The health command reads them, and prints one line per vector, {"name": "zeros", "output": {"score": 0.9312}};
 * what it printed is compared here. Pure. modelfs-bundle(5), HEALTH.
 */
#ifndef MFS_VECTORS_H
#define MFS_VECTORS_H

#include "mfs_verify.h"

#define MFS_VECTORS_BYTES_MAX (1u << 20) /* of the document */
#define MFS_VECTORS_MAX       1024u
#define MFS_VECTORS_DEPTH     16u        /* of an output line */

struct mfs_vectors; /* immutable */

/*
 * what    name of the document for messages
 * in      untrusted bytes: a JSON object; need not be canonical
 * out     NULL on failure
 * errors  LIMIT_EXCEEDED, MALFORMED (names the field: "vectors[3].output.score.tolerance"), NO_MEMORY
 * threads any
 */
enum mfs_code mfs_vectors_parse(const char *what, struct mfs_span in, struct mfs_vectors **out, struct mfs_err *err);
void mfs_vectors_free(struct mfs_vectors *v);
MFS_DEFINE_CLEANUP(vectors, struct mfs_vectors, mfs_vectors_free)

/* The payload file that holds them, or NULL: they are in this document. Borrowed. */
const char *mfs_vectors_file(const struct mfs_vectors *v);
size_t mfs_vectors_count(const struct mfs_vectors *v);

/*
 * Compare what a health command printed. Lines that are no JSON object, or name no vector, are its own
 * affair; each vector must have exactly one line, with every expected output in its range.
 *
 * output  untrusted bytes, any length
 * errors  HEALTH_CHECK_FAILED (vector, output, wanted, found), NO_MEMORY
 */
enum mfs_code mfs_vectors_check(const struct mfs_vectors *v, struct mfs_span output, struct mfs_err *err);

#endif
