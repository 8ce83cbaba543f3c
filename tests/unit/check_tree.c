/* SPDX-License-Identifier: Apache-2.0 */
/* The mounted tree through FUSE requests: names, links, files, and what must never happen. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "handles.h"
#include "tree_int.h"
#include "treefix.h"

static struct fix f;
#define W (&f.wire)

static void
set_up(void)
{
	fix_open(&f);
}

static void
tear_down(void)
{
	fix_close(&f);
}

TestSuite(tree, .init = set_up, .fini = tear_down);

static void
show_two(void)
{
	fix_show(&f, 0, fix_version(2, "2.0.0", 20, "model.onnx=100000 data/w0=10 data/w1=20 data/deep/x=5 run=3*"),
		fix_version(1, "1.0.0", 10, "model.onnx=50000"));
}

static void
list_is(const char *path, const char *want)
{
	char got[4096];

	cr_assert_eq(wire_list(W, wire_walk(W, path), 4096, got, sizeof(got)), 0);
	cr_assert_str_eq(got, want, "%s lists %s", path, got);
	/* an entry at a time: offsets may be used to go on */
	cr_assert_eq(wire_list(W, wire_walk(W, path), 64, got, sizeof(got)), 0);
	cr_assert_str_eq(got, want, "%s lists %s in small steps", path, got);
}

static void
link_is(const char *path, const char *want)
{
	char got[512] = "";
	uint64_t node = wire_walk(W, path);

	cr_assert_neq(node, 0, "%s is absent", path);
	cr_assert_eq(wire_readlink(W, node, got, sizeof(got)), 0);
	cr_assert_str_eq(got, want);
}

Test(tree, lists_everything_the_interface_names)
{
	show_two();
	list_is("", ".active .release .modelfs det other ");
	list_is("det", "active previous versions manifests status status.json events generation ");
	list_is("other", "versions manifests status status.json events generation ");
	list_is(".active", "det ");
	list_is(".release", "det other ");
	list_is(".release/det", "20 ");
	list_is(".release/other", "");
	list_is(".modelfs", "status status.json metrics.prom version config ");
	list_is("det/versions/2.0.0", "data model.onnx run ");
	list_is("det/versions/2.0.0/data", "deep w0 w1 ");
	list_is("det/versions/2.0.0/data/deep", "x ");
	list_is("other/versions", "");
}

Test(tree, links_lead_where_they_say)
{
	show_two();
	link_is("det/active", "versions/2.0.0");
	link_is("det/previous", "versions/1.0.0");
	link_is(".active/det", "../det/active");
	link_is(".release/det/20", "../../det/versions/2.0.0");
	cr_assert_neq(wire_walk(W, "det/versions/2.0.0"), 0);
	cr_assert_neq(wire_walk(W, "det/versions/1.0.0"), 0);
	cr_assert_eq(wire_walk(W, ".release/det/10"), 0, "a release that is not active is linked");
}

Test(tree, an_absent_link_is_absent_and_never_dangles)
{
	struct fuse_entry_out e;
	char out[64];
	uint64_t active;

	show_two();
	active = wire_walk(W, "det/active");
	fix_show(&f, 0, NULL, fix_version(1, "1.0.0", 10, "model.onnx=50000")); /* withdrawn */
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det"), "active", &e), ENOENT);
	cr_assert_eq(wire_readlink(W, active, out, sizeof(out)), ENOENT);
	cr_assert_eq(wire_lookup(W, wire_walk(W, ".active"), "det", &e), ENOENT);
	cr_assert_eq(wire_lookup(W, wire_walk(W, ".release/det"), "20", &e), ENOENT);
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det"), "candidate", &e), ENOENT);
	list_is("det", "previous versions manifests status status.json events generation ");
	list_is(".active", "");
}

Test(tree, what_may_be_shown_no_longer_goes_also_when_what_comes_instead_cannot_be_shown)
{
	struct mfs_version *v1 = fix_version(1, "1.0.0", 10, "a=1"), *v2 = fix_version(2, "2.0.0", 20, "a=1");
	struct mfs_err err = MFS_ERR_INIT;
	struct fuse_entry_out e;

	fix_show(&f, 0, v1, NULL);
	f.exposures_code = MFS_NO_MEMORY;
	f.engine[0].versions[0] = (struct mfs_engine_version){ .v = v2, .active = true };
	f.engine[0].versions[1] = (struct mfs_engine_version){ .v = v1, .previous = true };
	f.engine[0].n = 2;
	cr_assert_eq(mfs_view_refresh(&f.serve, 0, &err), MFS_NO_MEMORY);
	link_is("det/active", "versions/1.0.0"); /* nobody loses a model that may be shown */
	list_is("det/versions", "1.0.0 ");
	f.engine[0].n = 1; /* and now it was revoked */
	cr_assert_eq(mfs_view_refresh(&f.serve, 0, &err), MFS_NO_MEMORY);
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det"), "active", &e), ENOENT);
	list_is("det/versions", "");
	f.exposures_code = MFS_OK;
	cr_assert_eq(mfs_view_refresh(&f.serve, 0, &err), MFS_OK);
	link_is("det/active", "versions/2.0.0");
	mfs_version_unref(v1);
}

Test(tree, a_swap_is_the_link_and_keeps_its_inode)
{
	uint64_t active, generation_before;
	char line[256];
	size_t got;

	show_two();
	active = wire_walk(W, "det/active");
	generation_before = f.engine[0].generation;
	fix_show(&f, 0, fix_version(3, "3.0.0", 30, "model.onnx=1"), fix_version(2, "2.0.0", 20, "model.onnx=100000"));
	cr_assert_eq(wire_walk(W, "det/active"), active);
	link_is("det/active", "versions/3.0.0");
	link_is("det/previous", "versions/2.0.0");
	cr_assert_gt(f.engine[0].generation, generation_before);
	got = mfs_tree_generation(f.serve.tree, 0, line, sizeof(line));
	cr_assert_eq(strncmp(line, "1 2.0.0 20 0202", 15), 0, "announced too early: %s", line);
	cr_assert_eq(mfs_view_announce(&f.serve, 0, MFS_OK, NULL), MFS_OK);
	got = mfs_tree_generation(f.serve.tree, 0, line, sizeof(line));
	cr_assert_eq(strncmp(line, "2 3.0.0 30 0303", 15), 0, "%s", line);
	cr_assert_eq(line[got - 1], '\n');
	cr_assert_eq(f.touched[0], 1);
	cr_assert_geq(f.epochs, 2);
}

Test(tree, attributes_tell_the_truth)
{
	struct fuse_attr_out a, b;
	struct fuse_entry_out e;

	show_two();
	cr_assert_eq(wire_getattr(W, wire_walk(W, "det/versions/2.0.0/model.onnx"), &a), 0);
	cr_assert_eq(a.attr.mode, S_IFREG | 0440);
	cr_assert_eq(a.attr.size, 100000);
	cr_assert_eq(a.attr.blocks, 196);
	cr_assert_eq(a.attr.blksize, 4096);
	cr_assert_eq(a.attr.mtime, 1700000000);
	cr_assert_eq(a.attr.uid, 11);
	cr_assert_eq(a.attr.gid, 22);
	cr_assert_eq(a.attr_valid, 3600);
	cr_assert_eq(wire_getattr(W, wire_walk(W, "det/versions/2.0.0/run"), &a), 0);
	cr_assert_eq(a.attr.mode, S_IFREG | 0550, "an executable may be run by who may read the folder");
	cr_assert_eq(wire_getattr(W, wire_walk(W, "det/versions/2.0.0"), &a), 0);
	cr_assert_eq(a.attr.mode, S_IFDIR | 0550);
	cr_assert_eq(a.attr.nlink, 3);
	cr_assert_eq(a.attr_valid, 1);
	cr_assert_eq(wire_getattr(W, wire_walk(W, "det/versions/1.0.0"), &b), 0);
	cr_assert(a.attr.ctime > b.attr.ctime || (a.attr.ctime == b.attr.ctime && a.attr.ctimensec > b.attr.ctimensec));
	cr_assert_eq(wire_getattr(W, FUSE_ROOT_ID, &a), 0);
	cr_assert_eq(a.attr.nlink, 2 + 3 + 2);
	cr_assert_eq(a.attr.ino, 1);
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det"), "active", &e), 0);
	cr_assert_eq(e.attr.mode, S_IFLNK | 0777);
	cr_assert_eq(e.attr_valid, 0);
	cr_assert_eq(e.attr_valid_nsec, 0);
	cr_assert_eq(e.attr.size, strlen("versions/2.0.0"));
	cr_assert_eq(e.generation, 0);
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det/versions"), "2.0.0", &e), 0);
	cr_assert_eq(e.entry_valid, 1);
	cr_assert_eq(wire_lookup(W, e.nodeid, "model.onnx", &e), 0);
	cr_assert_eq(e.entry_valid, 3600);
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det"), "status", &e), 0);
	cr_assert_eq(e.attr_valid, 0);
}

Test(tree, an_inode_number_in_a_listing_is_that_of_stat)
{
	struct fuse_entry_out e;
	uint64_t ino, off = 2, next;
	uint64_t dir;
	char name[256];
	unsigned n = 0;

	show_two();
	dir = wire_walk(W, "det/versions/2.0.0");
	for (; wire_dirent(W, dir, off, name, &ino, &next); off = next, n++) {
		cr_assert_eq(wire_lookup(W, dir, name, &e), 0);
		cr_assert_eq(e.attr.ino, ino, "%s", name);
		cr_assert_leq(ino, UINT32_MAX);
	}
	cr_assert_eq(n, 3);
}

Test(tree, two_names_of_one_manifest_have_different_nodes)
{
	show_two();
	fix_show(&f, 1, fix_version(2, "2.0.0", 20, "model.onnx=100000"), NULL);
	cr_assert_neq(wire_walk(W, "det/versions/2.0.0"), wire_walk(W, "other/versions/2.0.0"));
	cr_assert_neq(wire_walk(W, "det/versions/2.0.0/model.onnx"), wire_walk(W, "other/versions/2.0.0/model.onnx"));
	cr_assert_neq(wire_walk(W, "det/manifests/2.0.0.json"), wire_walk(W, "other/manifests/2.0.0.json"));
}

Test(tree, one_variant_of_a_version_is_shown)
{
	fix_show(&f, 0, fix_version(2, "1.0.0", 20, "a=1"), fix_version(1, "1.0.0", 20, "b=1"));
	list_is("det/versions", "1.0.0 ");
	list_is("det/versions/1.0.0", "a ");
	list_is("det", "active versions manifests status status.json events generation ");
}

Test(tree, manifests_are_what_was_signed)
{
	char buf[64];
	struct fuse_open_out o;
	uint64_t node;
	size_t got;

	show_two();
	node = wire_walk(W, "det/manifests/2.0.0.json");
	cr_assert_neq(node, 0);
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0);
	cr_assert_eq(wire_read(W, node, o.fh, 0, 64, buf, &got), 0);
	cr_assert_eq(got, 12);
	cr_assert_eq(memcmp(buf, "{\"signed\":1}", 12), 0);
	node = wire_walk(W, "det/manifests/1.0.0.sig");
	cr_assert_eq(wire_read(W, node, 0, 1, 64, buf, &got), 0);
	cr_assert_eq(got, 2);
	cr_assert_eq(wire_walk(W, "det/manifests/1.0.0"), 0);
	cr_assert_eq(wire_walk(W, "det/manifests/.json"), 0);
}

Test(tree, offsets_stay_when_other_versions_come_and_go)
{
	char name[256], again[256];
	uint64_t ino, first, second, dir;

	show_two();
	dir = wire_walk(W, "det/versions");
	cr_assert(wire_dirent(W, dir, 2, name, &ino, &first));
	cr_assert(wire_dirent(W, dir, first, name, &ino, &second));
	/* the first of the two goes, a third comes: behind `first` still stands what stood there, or later */
	fix_show(&f, 0, fix_version(2, "2.0.0", 20, "model.onnx=100000"), fix_version(1, "1.0.0", 10, "model.onnx=50000"));
	cr_assert(wire_dirent(W, dir, first, again, &ino, &second));
	cr_assert_str_eq(again, name);
	cr_assert_not(wire_dirent(W, dir, second, again, &ino, &second));
	cr_assert_not(wire_dirent(W, dir, UINT64_MAX / 2, again, &ino, &second));
	cr_assert_not(wire_dirent(W, dir, UINT64_MAX, again, &ino, &second));
}

/* ---- changes ---------------------------------------------------------------------------------------- */

static int
mutate(uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	struct wire_reply *r = wire_request(W, opcode, node, body, len);

	cr_assert_eq(r->count, 1);
	return r->error;
}

Test(tree, every_change_is_refused)
{
	struct { struct fuse_mkdir_in in; char name[8]; } mkdir_req = { .name = "new" };
	struct { struct fuse_mknod_in in; char name[8]; } mknod_req = { .name = "new" };
	struct { struct fuse_create_in in; char name[8]; } create_req = { .name = "new" };
	struct { struct fuse_rename_in in; char names[24]; } rename_req = { .names = "status\0other" };
	struct { struct fuse_rename2_in in; char names[24]; } rename2_req = { .names = "status\0other" };
	struct { struct fuse_link_in in; char name[8]; } link_req = { .name = "new" };
	struct { struct fuse_write_in in; char data[8]; } write_req = { .in = { .size = 1 } };
	struct { struct fuse_setxattr_in in; char rest[24]; } setxattr_req = { .in = { .size = 1 }, .rest = "user.x\0v" };
	struct fuse_setattr_in setattr_req = { .valid = FATTR_MODE, .mode = 0777 };
	struct fuse_setattr_in times_req = { .valid = FATTR_ATIME | FATTR_MTIME };
	struct fuse_setattr_in trunc_req = { .valid = FATTR_SIZE };
	struct fuse_fallocate_in fallocate_req = { .length = 1 };
	struct fuse_copy_file_range_in copy_req = { .len = 1 };
	struct fuse_open_out o;
	uint64_t file, dir;

	show_two();
	dir = wire_walk(W, "det");
	file = wire_walk(W, "det/versions/2.0.0/model.onnx");
	link_req.in.oldnodeid = file;
	rename_req.in.newdir = rename2_req.in.newdir = dir;
	copy_req.nodeid_out = file;
	cr_assert_eq(mutate(FUSE_MKDIR, dir, &mkdir_req, sizeof(mkdir_req)), EROFS);
	cr_assert_eq(mutate(FUSE_MKNOD, dir, &mknod_req, sizeof(mknod_req)), EROFS);
	cr_assert_eq(mutate(FUSE_CREATE, dir, &create_req, sizeof(create_req)), EROFS);
	cr_assert_eq(mutate(FUSE_UNLINK, dir, "status", 7), EROFS);
	cr_assert_eq(mutate(FUSE_RMDIR, dir, "versions", 9), EROFS);
	cr_assert_eq(mutate(FUSE_RENAME, dir, &rename_req, sizeof(rename_req)), EROFS);
	cr_assert_eq(mutate(FUSE_RENAME2, dir, &rename2_req, sizeof(rename2_req)), EROFS);
	cr_assert_eq(mutate(FUSE_LINK, dir, &link_req, sizeof(link_req)), EROFS);
	cr_assert_eq(mutate(FUSE_SYMLINK, dir, "new\0target", 11), EROFS);
	cr_assert_eq(mutate(FUSE_WRITE, file, &write_req, sizeof(write_req)), EROFS);
	cr_assert_eq(mutate(FUSE_SETATTR, file, &setattr_req, sizeof(setattr_req)), EROFS);
	cr_assert_eq(mutate(FUSE_SETATTR, file, &times_req, sizeof(times_req)), EROFS);
	cr_assert_eq(mutate(FUSE_SETATTR, file, &trunc_req, sizeof(trunc_req)), EROFS);
	cr_assert_eq(mutate(FUSE_SETXATTR, file, &setxattr_req, sizeof(setxattr_req)), EROFS);
	cr_assert_eq(mutate(FUSE_REMOVEXATTR, file, "user.x", 7), EROFS);
	cr_assert_eq(mutate(FUSE_FALLOCATE, file, &fallocate_req, sizeof(fallocate_req)), EROFS);
	cr_assert_eq(mutate(FUSE_COPY_FILE_RANGE, file, &copy_req, sizeof(copy_req)), EROFS);
	cr_assert_eq(wire_open_file(W, file, O_RDWR, &o), EROFS);
	cr_assert_eq(wire_open_file(W, file, O_WRONLY, &o), EROFS);
	cr_assert_eq(wire_open_file(W, file, O_RDONLY | O_TRUNC, &o), EROFS);
}

Test(tree, the_toucher_alone_may_write_generation)
{
	struct { struct fuse_write_in in; char data[8]; } one = { .in = { .size = 1 }, .data = "x" };
	struct { struct fuse_write_in in; char data[8]; } two = { .in = { .size = 2 }, .data = "xx" };
	struct fuse_setattr_in times = { .valid = FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW };
	struct fuse_setattr_in mode = { .valid = FATTR_MODE, .mode = 0777 };
	char before[64], after[64];
	struct fuse_open_out o;
	uint64_t node, status;
	size_t got, got2;

	show_two();
	node = wire_walk(W, "det/generation");
	status = wire_walk(W, "det/status");
	cr_assert_eq(wire_open_file(W, node, O_WRONLY, &o), EROFS, "pid 0 as toucher lets anybody in");
	atomic_store(&f.shm->toucher, 999);
	cr_assert_eq(wire_open_file(W, node, O_WRONLY, &o), EROFS);
	cr_assert_eq(mutate(FUSE_WRITE, node, &one, sizeof(one.in) + 1), EROFS);
	cr_assert_eq(mutate(FUSE_SETATTR, node, &times, sizeof(times)), EROFS);
	cr_assert_eq(wire_read(W, node, 0, 0, 64, before, &got), EBADF);
	wire_pid(999);
	cr_assert_eq(wire_open_file(W, node, O_WRONLY, &o), 0);
	cr_assert(o.open_flags & FOPEN_DIRECT_IO);
	cr_assert_eq(wire_read(W, node, o.fh, 0, 64, before, &got), 0);
	cr_assert_eq(mutate(FUSE_WRITE, node, &one, sizeof(one.in) + 1), 0);
	cr_assert_eq(mutate(FUSE_WRITE, node, &two, sizeof(two.in) + 2), EROFS);
	cr_assert_eq(mutate(FUSE_SETATTR, node, &times, sizeof(times)), 0);
	cr_assert_eq(mutate(FUSE_SETATTR, node, &mode, sizeof(mode)), EROFS);
	cr_assert_eq(mutate(FUSE_WRITE, status, &one, sizeof(one.in) + 1), EROFS);
	cr_assert_eq(wire_open_file(W, status, O_WRONLY, &o), EROFS);
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0);
	cr_assert_eq(wire_read(W, node, o.fh, 0, 64, after, &got2), 0);
	cr_assert_eq(got, got2);
	cr_assert_eq(memcmp(before, after, got), 0, "a touch changed the line");
}

/* ---- node ids ------------------------------------------------------------------------------------------ */

static const char *const walked[] = { "det", "det/active", "det/versions", "det/versions/2.0.0",
	"det/versions/2.0.0/model.onnx", "det/versions/2.0.0/data/deep/x", "det/versions/1.0.0/model.onnx",
	"det/manifests/1.0.0.json", "det/manifests/1.0.0.sig", "det/status", ".modelfs/config", ".active/det",
	".release/det/20" };
#define WALKED (sizeof(walked) / sizeof(walked[0]))

Test(tree, every_serve_has_the_same_node_ids)
{
	struct fuse_attr_out a[WALKED], b;
	uint64_t ids[WALKED];

	show_two();
	for (size_t k = 0; k < WALKED; k++) {
		ids[k] = wire_walk(W, walked[k]);
		cr_assert_neq(ids[k], 0, "%s", walked[k]);
		cr_assert_eq(wire_getattr(W, ids[k], &a[k]), 0);
		for (size_t j = 0; j < k; j++) {
			cr_assert_neq(ids[j], ids[k]);
			cr_assert_neq(a[j].attr.ino, a[k].attr.ino);
		}
	}
	fix_restart(&f);
	for (size_t k = 0; k < WALKED; k++) {
		cr_assert_eq(wire_walk(W, walked[k]), ids[k], "%s", walked[k]);
		cr_assert_eq(wire_getattr(W, ids[k], &b), 0);
		cr_assert_eq(b.attr.ino, a[k].attr.ino, "%s", walked[k]);
	}
}

Test(tree, a_node_id_is_never_used_again)
{
	uint64_t seen[64];
	size_t n = 0;

	/* shown, collected, installed again: the same bytes under a new exposure */
	for (unsigned round = 0; round < 8; round++) {
		uint64_t id;

		fix_show(&f, 0, fix_version(2, "2.0.0", 20, "a=10"), NULL);
		id = wire_walk(W, "det/versions/2.0.0/a");
		for (size_t k = 0; k < n; k++)
			cr_assert_neq(seen[k], id);
		seen[n++] = id;
		fix_show(&f, 0, NULL, NULL);
		if (round == 4)
			fix_restart(&f);
	}
}

Test(tree, unknown_nodes_are_stale)
{
	const uint64_t ids[] = { 0, 2, 12345, UINT64_MAX, UINT64_MAX - 1 };
	struct fuse_read_in in = { .size = 4096 };
	struct fuse_entry_out e;
	struct fuse_attr_out a;
	struct fuse_open_out o;
	char buf[64];
	size_t got;

	show_two();
	for (size_t k = 0; k < sizeof(ids) / sizeof(ids[0]); k++) {
		cr_assert_eq(wire_lookup(W, ids[k], "det", &e), ESTALE);
		cr_assert_eq(wire_getattr(W, ids[k], &a), ESTALE);
		cr_assert_eq(wire_readlink(W, ids[k], buf, sizeof(buf)), ESTALE);
		cr_assert_eq(wire_open_file(W, ids[k], O_RDONLY, &o), ESTALE);
		cr_assert_eq(wire_open_dir(W, ids[k], &o), ESTALE);
		cr_assert_eq(wire_read(W, ids[k], 0, 0, 10, buf, &got), ESTALE);
		cr_assert_eq(wire_request(W, FUSE_READDIR, ids[k], &in, sizeof(in))->error, ESTALE);
		cr_assert_eq(wire_release(W, ids[k], 0), 0);
		cr_assert_eq(wire_release(W, ids[k], UINT64_MAX), 0);
	}
	cr_assert_eq(wire_lookup(W, wire_walk(W, "det/versions/2.0.0/model.onnx"), "x", &e), ENOTDIR);
	cr_assert_eq(wire_open_file(W, wire_walk(W, "det"), O_RDONLY, &o), EISDIR);
	cr_assert_eq(wire_open_dir(W, wire_walk(W, "det/status"), &o), ENOTDIR);
	cr_assert_eq(wire_readlink(W, wire_walk(W, "det/status"), buf, sizeof(buf)), EINVAL);
}

Test(tree, statfs_and_xattrs)
{
	struct { struct fuse_getxattr_in in; char name[64]; } get = { .in = { .size = 128 }, .name = "user.modelfs.version" };
	struct fuse_getxattr_in list = { .size = 1024 };
	struct fuse_getxattr_in small = { .size = 3 };
	struct wire_reply *r;
	uint64_t file;

	show_two();
	file = wire_walk(W, "det/versions/2.0.0/model.onnx");
	r = wire_request(W, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0);
	cr_assert_eq(r->error, 0);
	cr_assert_eq(((struct fuse_statfs_out *)(void *)r->data)->st.namelen, 255);
	cr_assert_eq(((struct fuse_statfs_out *)(void *)r->data)->st.files, 0);
	cr_assert_eq(wire_request(W, FUSE_GETXATTR, file, &get, sizeof(get))->error, ENOSYS);
	cr_assert_eq(wire_request(W, FUSE_LISTXATTR, file, &list, sizeof(list))->error, ENOSYS);
	f.config.xattrs = true;
	r = wire_request(W, FUSE_GETXATTR, file, &get, sizeof(get));
	cr_assert_eq(r->error, 0);
	cr_assert_eq(r->len, 5);
	cr_assert_eq(memcmp(r->data, "2.0.0", 5), 0);
	strcpy(get.name, "user.modelfs.tier");
	r = wire_request(W, FUSE_GETXATTR, file, &get, sizeof(get));
	cr_assert_eq(memcmp(r->data, "paged", 5), 0);
	strcpy(get.name, "security.capability");
	cr_assert_eq(wire_request(W, FUSE_GETXATTR, file, &get, sizeof(get))->error, ENODATA);
	r = wire_request(W, FUSE_LISTXATTR, file, &list, sizeof(list));
	cr_assert_eq(r->error, 0);
	cr_assert_str_eq((char *)r->data, "user.modelfs.version");
	cr_assert_eq(wire_request(W, FUSE_LISTXATTR, file, &small, sizeof(small))->error, ERANGE);
}

/* One user who opens without end leaves room for others; root may take what is left. */
Test(tree, one_user_cannot_take_all_handles)
{
	struct mfs_shm *shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct mfs_handle greedy = { .node = 9, .uid = 1000 }, other = { .node = 9, .uid = 1001 }, root = { .node = 9 }, out;
	struct mfs_handles *h;
	uint64_t unique = 2, last = 0, fh;
	unsigned n = 0;

	cr_assert_neq(shm, MAP_FAILED);
	cr_assert_eq(mfs_handles_new(shm, &h, NULL), MFS_OK);
	for (; (fh = mfs_handles_take(h, unique, &greedy)) != 0; unique += 2, n++)
		last = fh;
	cr_assert(n > MFS_HANDLES / 3 && n < MFS_HANDLES * 2 / 3, "%u of %u", n, MFS_HANDLES);
	cr_assert_neq(mfs_handles_take(h, unique += 2, &other), 0);
	mfs_handles_free(h);
	cr_assert_eq(mfs_handles_new(shm, &h, NULL), MFS_OK); /* a successor counts the same */
	cr_assert_eq(mfs_handles_take(h, unique += 2, &greedy), 0);
	cr_assert_neq(mfs_handles_take(h, unique += 2, &other), 0);
	while (mfs_handles_take(h, unique += 2, &root) != 0)
		n++;
	cr_assert_eq(n + 2, MFS_HANDLES - 1, "root takes the last one");
	cr_assert_eq(mfs_handles_take(h, unique += 2, &other), 0);
	cr_assert(mfs_handles_release(h, last, &out));
	cr_assert_eq(out.uid, 1000);
	cr_assert_neq(mfs_handles_take(h, unique += 2, &root), 0);
	mfs_handles_free(h);
	(void)munmap(shm, sizeof(*shm));
}

/* ---- the candidate ---------------------------------------------------------------------------------- */

static char name[MFS_SHOWN_MAX + 1];

static struct mfs_version *
stage(uint8_t id, const char *version, int64_t release)
{
	struct mfs_version *v = fix_version(id, version, release, "model.onnx=100000 data/w0=10 run=3*");

	mfs_version_unref(f.engine[0].staged);
	f.engine[0].staged = v;
	return v;
}

/* Mode and owner of a node; may the kernel keep them? */
static void
attr_is(const char *path, mode_t mode, uint32_t uid, bool kept)
{
	struct fuse_attr_out a;

	cr_assert_eq(wire_getattr(W, wire_walk(W, path), &a), 0, "%s", path);
	cr_assert_eq(a.attr.mode, mode, "%s has mode %o", path, a.attr.mode);
	cr_assert_eq(a.attr.uid, uid, "%s belongs to %u", path, a.attr.uid);
	cr_assert_eq(a.attr_valid > 0 || a.attr_valid_nsec > 0, kept, "%s", path);
}

static void
candidate_is_private(void)
{
	link_is("det/candidate", "versions/3.0.0");
	attr_is("det/versions/3.0.0", S_IFDIR | 0500, 501, false);
	attr_is("det/versions/3.0.0/data", S_IFDIR | 0500, 501, false);
	attr_is("det/versions/3.0.0/model.onnx", S_IFREG | 0400, 501, false);
	attr_is("det/versions/3.0.0/run", S_IFREG | 0500, 501, false);
	attr_is("det/versions/2.0.0/model.onnx", S_IFREG | 0440, 11, true);
}

Test(tree, a_candidate_is_its_users_alone_until_it_is_active)
{
	struct mfs_version *v;
	uint64_t folder, file;

	show_two();
	v = stage(3, "3.0.0", 30);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	list_is("det", "active previous versions manifests status status.json events generation candidate ");
	candidate_is_private();
	link_is("det/active", "versions/2.0.0");
	cr_assert_eq(wire_walk(W, ".release/det/30"), 0);
	folder = wire_walk(W, "det/versions/3.0.0");
	file = wire_walk(W, "det/versions/3.0.0/model.onnx");

	f.engine[0].candidate = false; /* as mfs_engine_activate does */
	fix_show(&f, 0, mfs_version_ref(v), fix_version(2, "2.0.0", 20, "model.onnx=100000"));
	cr_assert_eq(wire_walk(W, "det/candidate"), 0);
	cr_assert_eq(wire_walk(W, "det/versions/3.0.0"), folder, "what was tested is what is served");
	cr_assert_eq(wire_walk(W, "det/versions/3.0.0/model.onnx"), file);
	attr_is("det/versions/3.0.0", S_IFDIR | 0550, 11, true);
	attr_is("det/versions/3.0.0/data", S_IFDIR | 0550, 11, true);
	attr_is("det/versions/3.0.0/model.onnx", S_IFREG | 0440, 11, true);
	cr_assert_eq(f.shm->models[0].candidate_at, 0, "an active version is no candidate of the next serve");
}

Test(tree, a_candidate_survives_a_crash_and_goes_with_clear)
{
	struct mfs_version *v;
	uint64_t file;

	show_two();
	v = stage(3, "3.0.0", 30);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	file = wire_walk(W, "det/versions/3.0.0/model.onnx");
	fix_restart(&f);
	candidate_is_private();
	mfs_view_candidates_expire(&f.serve);
	cr_assert_eq(wire_walk(W, "det/versions/3.0.0/model.onnx"), file);
	cr_assert_eq(mfs_view_candidate_clear(&f.serve, 0, NULL), MFS_OK);
	cr_assert_eq(wire_walk(W, "det/candidate"), 0);
	cr_assert_eq(wire_walk(W, "det/versions/3.0.0"), 0);
	fix_restart(&f);
	cr_assert_eq(wire_walk(W, "det/candidate"), 0);
}

Test(tree, a_candidate_that_nobody_goes_on_with_after_a_crash_expires)
{
	struct mfs_version *v;

	show_two();
	v = stage(3, "3.0.0", 30);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	f.models[0].health.timeout_ms = -3600000; /* long over */
	mfs_view_candidates_expire(&f.serve);
	candidate_is_private(); /* of this serve: its check ends it */
	fix_restart(&f);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	mfs_view_candidates_expire(&f.serve);
	candidate_is_private(); /* asked for again */
	fix_restart(&f);
	mfs_view_candidates_expire(&f.serve);
	cr_assert_eq(wire_walk(W, "det/candidate"), 0);
	cr_assert_eq(wire_walk(W, "det/versions/3.0.0"), 0);
	cr_assert_eq(f.shm->models[0].candidate_at, 0);
}

Test(tree, a_retained_candidate_stays_open_to_all)
{
	struct mfs_version *v;

	show_two();
	v = fix_version(1, "1.0.0", 10, "model.onnx=50000");
	f.engine[0].staged = v;
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	link_is("det/candidate", "versions/1.0.0");
	attr_is("det/versions/1.0.0/model.onnx", S_IFREG | 0440, 11, true);
}

Test(tree, a_candidate_beside_another_variant_has_a_name_of_its_own)
{
	struct mfs_version *v;
	uint64_t active, folder;

	show_two();
	active = wire_walk(W, "det/versions/2.0.0");
	v = stage(3, "2.0.0", 20);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	cr_assert_str_eq(name, "2.0.0+default");
	link_is("det/candidate", "versions/2.0.0+default");
	link_is("det/active", "versions/2.0.0");
	cr_assert_eq(wire_walk(W, "det/versions/2.0.0"), active);
	folder = wire_walk(W, "det/versions/2.0.0+default");
	cr_assert_neq(folder, 0);
	attr_is("det/versions/2.0.0+default/run", S_IFREG | 0500, 501, false);
	attr_is("det/versions/2.0.0/run", S_IFREG | 0550, 11, true);
	cr_assert_neq(wire_walk(W, "det/manifests/2.0.0+default.json"), wire_walk(W, "det/manifests/2.0.0.json"));

	f.engine[0].candidate = false;
	fix_show(&f, 0, mfs_version_ref(v), fix_version(2, "2.0.0", 20, "model.onnx=100000"));
	link_is("det/active", "versions/2.0.0");
	cr_assert_eq(wire_walk(W, "det/versions/2.0.0"), folder, "what was tested is what is served");
	cr_assert_eq(wire_walk(W, "det/versions/2.0.0+default"), 0);
}

Test(tree, a_candidate_that_cannot_be_shown_is_refused)
{
	struct mfs_version *v;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 unknown = { { 9 } };

	show_two();
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &unknown, name, &err), MFS_IO);
	cr_assert_eq(f.shm->models[0].candidate_at, 0);

	v = stage(4, "4.0.0", 40);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 0, &v->m->id, name, NULL), MFS_OK);
	f.models[1].health.uid = 501; /* the same user could look into det's candidate */
	f.engine[1].staged = fix_version(5, "5.0.0", 50, "model.onnx=1");
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 1, &f.engine[1].staged->m->id, name, &err), MFS_CONDITION_UNMET);
	cr_assert_not_null(strstr(err.msg, "candidate of det"), "%s", err.msg);
	cr_assert_eq(mfs_view_candidate_clear(&f.serve, 0, NULL), MFS_OK);
	cr_assert_eq(mfs_view_candidate_set(&f.serve, 1, &f.engine[1].staged->m->id, name, NULL), MFS_OK);
}

/* ---- hooks --------------------------------------------------------------------------------------------- */

static void
announce_calls(unsigned hooks, enum mfs_job_reason reason, const char *version, int64_t release, const char *previous)
{
	cr_assert_eq(mfs_view_announce(&f.serve, 0, MFS_OK, NULL), MFS_OK);
	cr_assert_eq(f.hooks, hooks, "%u hooks", f.hooks);
	cr_assert_eq(f.hook.kind, MFS_JOB_ON_CHANGE);
	cr_assert_eq(f.hook.reason, reason, "reason %u", f.hook.reason);
	cr_assert_str_eq(f.hook_version, version);
	cr_assert_eq(f.hook.release, release);
	cr_assert_str_eq(f.hook_previous, previous);
}

Test(tree, on_change_is_called_for_what_became_active)
{
	fix_show(&f, 0, fix_version(1, "1.0.0", 10, "model.onnx=50000"), NULL);
	cr_assert_eq(mfs_view_announce(&f.serve, 0, MFS_OK, NULL), MFS_OK);
	cr_assert_eq(f.hooks, 0, "the first view of a mount is no change");
	fix_show(&f, 0, fix_version(2, "2.0.0", 20, "model.onnx=100000"), fix_version(1, "1.0.0", 10, "model.onnx=50000"));
	announce_calls(1, MFS_REASON_SWAP, "2.0.0", 20, "1.0.0");
	announce_calls(1, MFS_REASON_SWAP, "2.0.0", 20, "1.0.0"); /* once */
	fix_show(&f, 0, fix_version(1, "1.0.0", 10, "model.onnx=50000"), fix_version(2, "2.0.0", 20, "model.onnx=100000"));
	announce_calls(2, MFS_REASON_ROLLBACK, "1.0.0", 10, "2.0.0");
	fix_show(&f, 0, NULL, fix_version(2, "2.0.0", 20, "model.onnx=100000"));
	fix_restart(&f); /* killed after the swap and before it was said */
	announce_calls(3, MFS_REASON_WITHDRAW, "-", 0, "-");
	fix_show(&f, 0, fix_version(2, "2.0.0", 20, "model.onnx=100000"), NULL);
	announce_calls(4, MFS_REASON_SWAP, "2.0.0", 20, "-");
}
