/* SPDX-License-Identifier: Apache-2.0 */
/*
 * md.h - TUF metadata as its author sees it: envelopes, keys, signatures, times.
 *
 * A document is a jansson object {"signatures": [...], "signed": {...}}. What signatures are over
 * is the canonical form of mfs_tuf.h. Source: modelfs-repository(5), METADATA.
 */
#ifndef MFS_PUB_MD_H
#define MFS_PUB_MD_H

#include <jansson.h>

#include "mfs_tuf.h"
#include "signer.h"

MFS_DEFINE_CLEANUP(json, json_t, json_decref)
#define mfs_autojson MFS_CLEANUP(mfs_cleanup_json)

#define MFS_MD_SPEC     "1.0.31"
#define MFS_MD_TIME_LEN 21 /* "2026-11-21T03:04:05Z" and a NUL */
#define MFS_MD_DAY      86400

/*
 * Parse an envelope. Only its shape is checked (objects, _type, version, expires): whether it is
 * signed is mfs_tuf_count()'s to say.
 *
 * what    name for messages
 * out     release with json_decref(); NULL on failure
 * errors  LIMIT_EXCEEDED, MALFORMED (line and column), NO_MEMORY
 */
enum mfs_code mfs_md_parse(const char *what, struct mfs_span in, size_t cap, json_t **out, struct mfs_err *err);

/* {"signatures": [], "signed": {_type, expires, spec_version, version: 0}}; NULL without memory. */
json_t *mfs_md_new(const char *type);

json_t *mfs_md_signed(const json_t *doc);       /* borrowed */
int64_t mfs_md_version(const json_t *doc);
int64_t mfs_md_expires(const json_t *doc);      /* seconds since the epoch; 0 when it is no time */

/* Version, expiry (seconds since the epoch), and no signatures any more. LIMIT_EXCEEDED (2^53-1 is reached), NO_MEMORY */
enum mfs_code mfs_md_stamp(json_t *doc, int64_t version, int64_t expires, struct mfs_err *err);

/* The bytes that go on disk, malloc'd, NUL after *len. */
enum mfs_code mfs_md_bytes(const json_t *doc, uint8_t **out, size_t *len, struct mfs_err *err);

/*
 * A public key as metadata has it, and its id: 64 hex digits of the SHA-256 over its canonical form.
 *
 * out     release with json_decref(); may be NULL when only the id is wanted
 */
enum mfs_code mfs_md_key(const struct mfs_signer *s, json_t **out, char id[65], struct mfs_err *err);

/* Add a signature, in the place of one by the same key. errors those of mfs_signer_sign() */
enum mfs_code mfs_md_sign(json_t *doc, const struct mfs_signer *s, struct mfs_err *err);

/* out = "2026-11-21T03:04:05Z"; returns out. */
const char *mfs_md_time(char out[MFS_MD_TIME_LEN], int64_t t);
#define MFS_TIME(t) mfs_md_time((char[MFS_MD_TIME_LEN]){ 0 }, (t))
/* Exactly that form; false for anything else. */
bool mfs_md_time_parse(const char *s, int64_t *out);

#endif
