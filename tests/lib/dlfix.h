/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlfix.h - a repository's blobs in memory, served by sources that can be made to misbehave, one fault per request:
 * what downloads are tested against without a network. Aborts when a fixture cannot be made.
 */
#ifndef DLFIX_H
#define DLFIX_H

#include <stdatomic.h>

#include "download.h"

#define DL_SOURCES 4u
#define DL_FAULTS  16u
#define DL_EVERY   UINT64_MAX

enum dl_kind {
	DL_CORRUPT,   /* one byte is flipped, `after` bytes into the answer */
	DL_TRUNCATE,  /* the connection ends after `after` bytes */
	DL_STATUS,    /* an answer with status `http` and no body */
	DL_NO_RANGE,  /* 200 with all of the part, unless it may be read over */
	DL_SHORT,     /* says that all is well, after `after` bytes */
	DL_TIMEOUT,   /* nothing comes any more, after `after` bytes */
	DL_HANG,      /* until it is cancelled */
	DL_PORTAL,    /* a login page */
	DL_ENDLESS,   /* more than was asked for: cut off by the remote */
};

struct dl_fault {
	unsigned source;
	uint64_t nth;   /* request to that source, from 0; DL_EVERY */
	bool onwards;   /* and all after it */
	enum dl_kind kind;
	uint64_t after; /* bytes */
	unsigned http;
	int64_t retry_after_s;
};

struct dl_blob {
	struct mfs_sha256 hash;
	uint8_t *bytes;
	size_t len;
};

struct dl_repo {
	struct dl_blob *blobs;
	size_t n;
	struct dl_fault faults[DL_FAULTS];
	size_t n_faults;
	size_t piece; /* bytes given to the sink at a time; 0: 50,000 */
	_Atomic uint64_t requests[DL_SOURCES], sent[DL_SOURCES]; /* body bytes */
	_Atomic uint64_t hit; /* faults that happened */
	_Atomic uint64_t pause_us; /* before each piece */
	void (*each)(void *user, uint64_t sent); /* called before each piece, with all bytes sent so far */
	void *user;
};

void dl_repo_add(struct dl_repo *r, const void *bytes, size_t len);
/* Every payload and table of a bundle folder. */
void dl_repo_bundle(struct dl_repo *r, int bundle_fd, const struct mfs_manifest *m);
void dl_repo_clear(struct dl_repo *r); /* blobs and faults */
void dl_fault_add(struct dl_repo *r, struct dl_fault f);
uint64_t dl_sent(struct dl_repo *r);

/* user is the struct dl_repo. */
enum mfs_code dl_get(void *user, const struct mfs_download_get *q, struct mfs_download_got *got, struct mfs_err *err);

/* Manifest of a bundle folder: parsed, not verified. */
struct mfs_manifest *dl_manifest(int bundle_fd);

#endif
