/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers walk, list, open and read while views are published, exposures are retired and loads
 * waited for. A plain main: ThreadSanitizer does not start under Criterion. Ends with 0 when every
 * link led somewhere and every byte was that of the version it was opened in.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "treefix.h"

#define READERS 4
#define SWAPS   300

static struct fix f;
static _Atomic bool done;
static _Atomic unsigned long walks, bytes;

static void
fail(const char *what)
{
	fprintf(stderr, "race_tree: %s\n", what);
	exit(1);
}

static void
read_file(uint64_t dir, const char *name, uint8_t id, size_t file)
{
	struct fuse_entry_out e;
	struct fuse_open_out o;
	uint8_t buf[64];
	size_t got;
	int error;

	if (wire_lookup(&f.wire, dir, name, &e) != 0)
		return; /* collected meanwhile: the kernel walks again */
	if ((error = wire_open_file(&f.wire, e.nodeid, O_RDONLY, &o)) != 0) {
		if (error != ESTALE)
			fail("an open failed");
		return;
	}
	if (wire_read(&f.wire, e.nodeid, o.fh, 3, sizeof(buf), buf, &got) != 0 || got != sizeof(buf))
		fail("what is open could not be read");
	for (size_t k = 0; k < got; k++)
		if (buf[k] != fix_byte(id, file, 3 + k))
			fail("bytes of another version");
	atomic_fetch_add(&bytes, got);
	if (wire_release(&f.wire, e.nodeid, o.fh) != 0)
		fail("a release failed");
}

static void *
reader(void *arg)
{
	static const char *const files[] = { "status", "generation", "events" };
	uint64_t det = wire_walk(&f.wire, "det"), active = wire_walk(&f.wire, "det/active");
	unsigned n = (unsigned)(uintptr_t)arg;

	wire_pid(n % 2 ? (uint32_t)getpid() : 4711);
	while (!atomic_load(&done)) {
		char target[64], names[4096], path[80];
		struct fuse_open_out o;
		uint64_t dir, node;

		if (wire_readlink(&f.wire, active, target, sizeof(target)) != 0)
			fail("no active version");
		(void)snprintf(path, sizeof(path), "det/%s", target);
		if ((dir = wire_walk(&f.wire, path)) != 0) {
			uint8_t id = (uint8_t)strtoul(target + strlen("versions/"), NULL, 10);

			read_file(dir, "a", id, 0);
			read_file(dir, "b", id, 1);
			(void)wire_list(&f.wire, dir, 4096, names, sizeof(names));
		}
		(void)wire_list(&f.wire, det, 512, names, sizeof(names));
		if (strstr(names, "active") == NULL)
			fail("the folder lost its link");
		node = wire_walk(&f.wire, n % 3 ? "det/status" : "det/generation");
		if (wire_open_file(&f.wire, node, O_RDONLY, &o) != 0 || wire_release(&f.wire, node, o.fh) != 0)
			fail(files[n % 3]);
		atomic_fetch_add(&walks, 1);
	}
	return NULL;
}

static struct mfs_version *
version(unsigned k)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "%u.0.0", k % 200 + 1);
	return fix_version((uint8_t)(k % 200 + 1), name, k + 1, "a=100 b=100 sub/c=1");
}

static void *
sweeper(void *arg)
{
	struct mfs_version *v = version(0);

	(void)arg;
	while (!atomic_load(&done)) {
		uint32_t x;

		/* what residency does when a fill fails */
		if (mfs_view_expose(&f.serve, 0, v, MFS_TIER_RESIDENT, &x, NULL) != MFS_OK ||
			!mfs_view_retire(&f.serve, x))
			fail("an exposure that nobody saw is held");
		mfs_view_forget(&f.serve, x);
		(void)mfs_view_busy(&f.serve, &v->m->id);
		mfs_tree_unpin(f.serve.tree, 0);
		mfs_tree_wait_loads(f.serve.tree, 0);
		(void)usleep(100);
	}
	mfs_version_unref(v);
	return NULL;
}

int
main(void)
{
	pthread_t threads[READERS + 1];
	struct mfs_version *last, *next;

	fix_open(&f);
	last = version(0);
	fix_show(&f, 0, mfs_version_ref(last), NULL);
	for (uintptr_t k = 0; k < READERS; k++)
		if (pthread_create(&threads[k], NULL, reader, (void *)k) != 0)
			fail("threads");
	if (pthread_create(&threads[READERS], NULL, sweeper, NULL) != 0)
		fail("threads");
	for (unsigned k = 1; k < SWAPS; k++) {
		next = version(k);
		fix_show(&f, 0, mfs_version_ref(next), last);
		last = next;
		if (mfs_view_announce(&f.serve, 0, MFS_OK, NULL) != MFS_OK)
			fail("announce");
		(void)usleep(500);
	}
	atomic_store(&done, true);
	for (unsigned k = 0; k <= READERS; k++)
		(void)pthread_join(threads[k], NULL);
	if (atomic_load(&walks) == 0 || atomic_load(&bytes) == 0)
		fail("the readers did nothing");
	for (uint32_t i = 0; i < MFS_HANDLES; i++)
		if (atomic_load(&f.shm->handles[i].fh) != 0)
			fail("a handle was left");
	mfs_version_unref(last);
	fix_close(&f);
	printf("race_tree: %lu walks, %lu bytes, %d swaps\n", atomic_load(&walks), atomic_load(&bytes), SWAPS);
	return 0;
}
