/* SPDX-License-Identifier: Apache-2.0 */
/* tuf_repo.h - one repository and one device per test: TestSuite(name, .init = tuf_start, .fini = tuf_stop). */
#ifndef TUF_REPO_H
#define TUF_REPO_H

#include "tuf_help.h"

/* What a device that has nothing but the root asks for. */
#define TUF_FIRST "2.root.json timestamp.json 1.snapshot.json 1.targets.json"

static struct trepo *r;

static void
tuf_start(void)
{
	r = repo_new();
}

static void
tuf_stop(void)
{
	repo_free(r);
}

static inline void
version_is(const char *name, int64_t want)
{
	cr_assert_eq(stored_version(r, name), want, "%s %lld, not %lld", name, (long long)stored_version(r, name), (long long)want);
}

/* What the device keeps must be these versions; 0: nothing of this role. */
static inline void
versions(int64_t root, int64_t timestamp, int64_t snapshot, int64_t targets)
{
	version_is("root.json", root);
	version_is("timestamp.json", timestamp);
	version_is("snapshot.json", snapshot);
	version_is("targets.json", targets);
}

#endif
