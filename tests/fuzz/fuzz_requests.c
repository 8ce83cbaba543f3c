/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of FUSE requests against the tree, hostile ones among them. Each record of the input:
 * opcode, node (an index into known nodes, or 0xff: eight bytes follow), length, that many bytes
 * as the body (a handle of 0xee.. is replaced by the last one given out). Opcodes 200 and up swap
 * versions, restart serve, or change who asks. Every request gets exactly one reply.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "treefix.h"

static struct fix f;

static const char *const paths[] = { "", "det", "det/active", "det/previous", "det/versions", "det/manifests",
	"det/status", "det/generation", ".active", ".active/det", ".release", ".release/det", ".modelfs",
	".modelfs/config", "det/versions/1.0.0", "det/versions/2.0.0", "det/versions/1.0.0/a",
	"det/versions/2.0.0/sub", "det/versions/2.0.0/sub/b", "det/manifests/1.0.0.json" };
#define PATHS (sizeof(paths) / sizeof(paths[0]))

static void
start(void)
{
	fix_open(&f);
	f.config.xattrs = true;
	fix_show(&f, 0, fix_version(2, "2.0.0", 2, "a=70000 sub/b=10 sub/c=5*"), fix_version(1, "1.0.0", 1, "a=100 z=0"));
}

static void
swap(uint8_t how)
{
	struct mfs_version *one = fix_version(1, "1.0.0", 1, "a=100 z=0");
	struct mfs_version *two = fix_version(2, "2.0.0", 2, "a=70000 sub/b=10 sub/c=5*");

	fix_show(&f, 0, how % 3 == 2 ? NULL : mfs_version_ref(how % 2 ? one : two),
		how % 5 == 4 ? NULL : mfs_version_ref(how % 2 ? two : one));
	mfs_version_unref(one);
	mfs_version_unref(two);
}

static bool
has_reply(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET;
}

static void
request(uint32_t opcode, uint64_t node, uint8_t *body, size_t len, uint64_t *last_fh)
{
	static const uint8_t mark[8] = { 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee };
	struct wire_reply *r;

	for (size_t k = 0; k + 8 <= len; k += 8)
		if (memcmp(body + k, mark, 8) == 0)
			memcpy(body + k, last_fh, 8);
	if (opcode == FUSE_INIT || opcode == FUSE_DESTROY || opcode == FUSE_INTERRUPT || opcode == FUSE_NOTIFY_REPLY)
		return; /* libfuse's own affairs: no operation of ours sees them */
	r = wire_request(&f.wire, opcode, node, body, len);
	if (r->count > 1 || (has_reply(opcode) && r->count != 1)) {
		fprintf(stderr, "opcode %u on node %#llx: %u replies\n", opcode, (unsigned long long)node, r->count);
		abort();
	}
	if ((opcode == FUSE_OPEN || opcode == FUSE_OPENDIR) && r->error == 0)
		memcpy(last_fh, r->data, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t body[256] = { 0 };
	uint64_t last_fh = 0, node;

	if (f.shm == NULL)
		start();
	wire_pid(4711);
	while (size >= 3) {
		uint8_t opcode = data[0], which = data[1];
		size_t len = data[2];

		data += 3;
		size -= 3;
		if (which == 0xff && size >= 8) {
			memcpy(&node, data, 8);
			data += 8;
			size -= 8;
		} else {
			node = wire_walk(&f.wire, paths[which % PATHS]);
		}
		if (len > size)
			len = size;
		memcpy(body, data, len);
		data += len;
		size -= len;
		if (opcode == 200)
			swap(which);
		else if (opcode == 201)
			fix_restart(&f);
		else if (opcode == 202)
			wire_pid(which % 2 ? (uint32_t)getpid() : 0);
		else if (opcode == 203)
			atomic_store(&f.shm->toucher, which % 2 ? (uint32_t)getpid() : 0);
		else
			request(opcode, node, body, len, &last_fh);
	}
	for (uint32_t i = 1; i < MFS_HANDLES; i++)
		if (atomic_load(&f.shm->handles[i].fh) != 0 &&
			wire_release(&f.wire, FUSE_ROOT_ID, atomic_load(&f.shm->handles[i].fh)) != 0)
			abort();
	for (uint32_t i = 0; i < MFS_SNAPS; i++)
		if (atomic_load(&f.shm->snaps[i].used) != 0)
			abort(); /* a snapshot that no handle names */
	mfs_tree_unpin(f.serve.tree, 0);
	return 0;
}
