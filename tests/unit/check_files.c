/* SPDX-License-Identifier: Apache-2.0 */
/* Open files of the mounted tree: both tiers, handles and snapshots across crashes, exhaustion. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include "treefix.h"

#define NOFLUSH     (1u << 5)
#define PASSTHROUGH (1u << 7)

static struct fix f;
#define W (&f.wire)

static void
set_up(void)
{
	fix_open(&f);
	fix_show(&f, 0, fix_version(2, "2.0.0", 20, "model.onnx=100000 empty=0 w=10 w2=70000"), NULL);
}

static void
tear_down(void)
{
	fix_close(&f);
}

TestSuite(files, .init = set_up, .fini = tear_down);

static uint64_t
open_ok(uint64_t node)
{
	struct fuse_open_out o;

	cr_assert_neq(node, 0);
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0);
	return o.fh;
}

static unsigned
handles_in_use(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < MFS_HANDLES; i++)
		n += atomic_load(&f.shm->handles[i].fh) != 0;
	return n;
}

static unsigned
snaps_in_use(void)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < MFS_SNAPS; i++)
		n += atomic_load(&f.shm->snaps[i].used) != 0;
	return n;
}

/* Stands for residency: a complete resident copy of the active version. */
static uint32_t
make_resident(void)
{
	struct mfs_version *v = f.engine[0].versions[0].v;
	struct mfs_err err = MFS_ERR_INIT;
	uint32_t x;

	cr_assert_eq(mfs_view_expose(&f.serve, 0, v, MFS_TIER_RESIDENT, &x, &err), MFS_OK);
	for (uint32_t k = 0, r = 5; k < v->m->n_files; k++) {
		if (!mfs_file_resident(&v->m->files[k]))
			continue;
		f.shm->residents[r].exposure = x + 1;
		f.shm->residents[r].file = k;
		f.shm->residents[r].backing_id = (int32_t)(100 + k);
		f.shm->residents[r].size = v->m->files[k].size;
		atomic_store(&f.shm->residents[r++].state, MFS_RESIDENT_READY);
	}
	cr_assert_eq(mfs_view_resident_ready(&f.serve, 0, x, &err), MFS_OK);
	return x;
}

static int32_t
backing_id(const struct fuse_open_out *o)
{
	int32_t id;

	memcpy(&id, (const uint8_t *)o + 12, sizeof(id));
	return id;
}

Test(files, paged_reads_are_right_and_cached)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/model.onnx");
	static uint8_t buf[1 << 20];
	struct fuse_open_out o;
	size_t got;

	cr_assert_eq(wire_open_file(W, node, O_RDONLY | O_DIRECT, &o), 0);
	cr_assert_eq(o.open_flags & (FOPEN_KEEP_CACHE | FOPEN_DIRECT_IO | NOFLUSH | PASSTHROUGH), FOPEN_KEEP_CACHE | NOFLUSH);
	cr_assert_neq(o.fh, 0);
	cr_assert_eq(wire_read(W, node, o.fh, 0, sizeof(buf), buf, &got), 0);
	cr_assert_eq(got, 100000);
	for (size_t k = 0; k < got; k++)
		cr_assert_eq(buf[k], fix_byte(2, 0, k));
	cr_assert_eq(wire_read(W, node, o.fh, 99990, 4096, buf, &got), 0);
	cr_assert_eq(got, 10);
	cr_assert_eq(wire_read(W, node, o.fh, 100000, 4096, buf, &got), 0);
	cr_assert_eq(got, 0);
	cr_assert_eq(wire_read(W, node, o.fh, (uint64_t)1 << 62, 4096, buf, &got), 0);
	cr_assert_eq(got, 0);
	cr_assert_eq(wire_read(W, node, o.fh, UINT64_MAX, 4096, buf, &got), EINVAL);
	cr_assert_eq(wire_release(W, node, o.fh), 0);
	cr_assert_eq(handles_in_use(), 0);
}

Test(files, a_failed_read_is_an_error_and_never_bytes)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/model.onnx");
	const enum mfs_code codes[] = { MFS_HASH_MISMATCH, MFS_DECRYPT_FAILED, MFS_IO, MFS_KEY_UNAVAILABLE, MFS_NO_MEMORY };
	uint8_t buf[64] = { 0 };
	size_t got;

	for (size_t k = 0; k < sizeof(codes) / sizeof(codes[0]); k++) {
		f.read_code = codes[k];
		cr_assert_eq(wire_read(W, node, open_ok(node), 0, sizeof(buf), buf, &got), EIO);
		cr_assert_eq(got, 0);
	}
}

Test(files, without_its_key_a_version_is_listed_but_not_opened)
{
	struct mfs_version *v = fix_version(3, "3.0.0", 30, "a=10");
	struct mfs_content **files = v->files;
	struct fuse_open_out o;
	uint8_t buf[16];
	uint64_t node;
	size_t got;

	v->files = NULL;
	v->key_code = MFS_KEY_UNAVAILABLE;
	fix_show(&f, 0, v, NULL);
	node = wire_walk(W, "det/versions/3.0.0/a");
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), EACCES);
	cr_assert_eq(wire_read(W, node, 0, 0, sizeof(buf), buf, &got), EIO);
	cr_assert_eq(handles_in_use(), 0);
	free(files[0]);
	free(files);
}

Test(files, work_that_another_thread_does_answers_once)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w"), fh = open_ok(node);
	struct fuse_read_in in = { .fh = fh, .size = 10 };
	struct wire_reply *r;

	f.defer = true;
	r = wire_request(W, FUSE_READ, node, &in, sizeof(in));
	cr_assert_eq(r->count, 0);
	f.deferred(f.deferred_arg);
	cr_assert_eq(r->count, 1);
	cr_assert_eq(r->error, 0);
	cr_assert_eq(r->len, 10);
	cr_assert_eq(r->data[3], fix_byte(2, 2, 3));
}

Test(files, a_repeated_open_finds_its_slot_and_a_repeated_release_does_nothing)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w"), other = wire_walk(W, "det/versions/2.0.0/model.onnx");
	uint64_t fh = open_ok(node), unique = wire_last_unique(), second;

	fix_restart(&f); /* killed after the handle was taken and before the reply was written */
	wire_unique(unique);
	cr_assert_eq(open_ok(node), fh);
	wire_unique(unique | 1ull << 63); /* sent again by the kernel; the session strips the mark */
	cr_assert_eq(open_ok(node), fh);
	cr_assert_eq(handles_in_use(), 1);
	wire_unique(unique); /* the number came round: another file, another handle */
	second = open_ok(other);
	cr_assert_neq(second, fh);
	cr_assert_eq(handles_in_use(), 2);
	cr_assert_eq(wire_release(W, node, fh), 0);
	cr_assert_eq(handles_in_use(), 1);
	cr_assert_eq(wire_release(W, node, fh), 0);
	cr_assert_eq(handles_in_use(), 1);
	fix_restart(&f);
	cr_assert_eq(wire_release(W, other, second), 0);
	cr_assert_eq(wire_release(W, other, second), 0);
	cr_assert_eq(handles_in_use(), 0);
}

Test(files, bogus_handles_free_nothing)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w"), fh = open_ok(node), sfh;
	uint64_t status = wire_walk(W, "det/status");
	char buf[64];
	size_t got;

	sfh = open_ok(status);
	const uint64_t bogus[] = { 0, 1, fh + 1, fh ^ 1ull << 40, MFS_HANDLES, UINT32_MAX, UINT64_MAX, fh & UINT32_MAX };
	for (size_t k = 0; k < sizeof(bogus) / sizeof(bogus[0]); k++) {
		if (bogus[k] == sfh)
			continue;
		cr_assert_eq(wire_release(W, node, bogus[k]), 0);
		cr_assert_eq(wire_release_dir(W, node, bogus[k]), 0);
		cr_assert_eq(wire_read(W, status, bogus[k], 0, sizeof(buf), buf, &got), EBADF);
	}
	cr_assert_eq(wire_read(W, status, fh, 0, sizeof(buf), buf, &got), EBADF, "a handle of another file");
	cr_assert_eq(handles_in_use(), 2);
}

Test(files, a_full_table_is_enfile_and_recovers)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w"), dir = wire_walk(W, "det/versions/2.0.0");
	uint64_t status = wire_walk(W, "det/status"), last = 0;
	struct fuse_open_out o;

	for (uint32_t i = 0; i < MFS_HANDLES - 1; i++)
		last = open_ok(node);
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), ENFILE);
	cr_assert_eq(wire_open_dir(W, dir, &o), ENFILE);
	cr_assert_eq(wire_open_file(W, status, O_RDONLY, &o), ENFILE);
	cr_assert_eq(snaps_in_use(), 0);
	cr_assert_eq(wire_release(W, node, last), 0);
	cr_assert_eq(wire_open_file(W, status, O_RDONLY, &o), 0);
}

/* ---- status files ---------------------------------------------------------------------------------- */

static void
snapshot_is(uint64_t node, uint64_t fh, const char *want)
{
	char buf[256] = "";
	size_t got;

	cr_assert_eq(wire_read(W, node, fh, 0, sizeof(buf) - 1, buf, &got), 0);
	cr_assert_eq(got, strlen(want), "%s", buf);
	cr_assert_str_eq(buf, want);
}

Test(files, a_snapshot_stays_as_it_was_across_changes_and_crashes)
{
	uint64_t node = wire_walk(W, "det/status"), fh = open_ok(node), newer;
	struct fuse_attr_out a;
	char buf[8];
	size_t got;

	f.status = "something longer went wrong";
	snapshot_is(node, fh, "0 fine\n");
	cr_assert_eq(wire_getattr(W, node, &a), 0);
	cr_assert_eq(a.attr.size, 7);
	newer = open_ok(node);
	snapshot_is(node, newer, "0 something longer went wrong\n");
	cr_assert_eq(wire_getattr(W, node, &a), 0);
	cr_assert_eq(a.attr.size, 30, "not the size of the newest snapshot");
	fix_restart(&f);
	snapshot_is(node, fh, "0 fine\n");
	cr_assert_eq(wire_read(W, node, fh, 5, sizeof(buf), buf, &got), 0);
	cr_assert_eq(got, 2);
	cr_assert_eq(wire_read(W, node, fh, UINT32_MAX, sizeof(buf), buf, &got), 0);
	cr_assert_eq(got, 0);
	cr_assert_eq(snaps_in_use(), 2);
	cr_assert_eq(wire_release(W, node, fh), 0);
	cr_assert_eq(wire_release(W, node, newer), 0);
	cr_assert_eq(snaps_in_use(), 0);
	cr_assert_eq(handles_in_use(), 0);
}

Test(files, more_snapshots_than_slots_live_in_serve)
{
	uint64_t node = wire_walk(W, ".modelfs/status.json"), fh[MFS_SNAPS + 5];

	for (unsigned k = 0; k < MFS_SNAPS + 5; k++)
		fh[k] = open_ok(node);
	cr_assert_eq(snaps_in_use(), MFS_SNAPS);
	f.status = "changed";
	snapshot_is(node, fh[0], "5 fine\n");
	snapshot_is(node, fh[MFS_SNAPS + 4], "5 fine\n");
	fix_restart(&f);
	snapshot_is(node, fh[0], "5 fine\n");
	snapshot_is(node, fh[MFS_SNAPS + 4], "5 changed\n"); /* lost with serve: rendered again, once */
	f.status = "changed once more";
	snapshot_is(node, fh[MFS_SNAPS + 4], "5 changed\n");
	for (unsigned k = 0; k < MFS_SNAPS + 5; k++)
		cr_assert_eq(wire_release(W, node, fh[k]), 0);
	cr_assert_eq(snaps_in_use(), 0);
	cr_assert_eq(handles_in_use(), 0);
}

Test(files, a_snapshot_leaked_by_a_crash_is_found_again)
{
	atomic_store(&f.shm->snaps[3].used, 1); /* killed between the snapshot and its handle */
	fix_restart(&f);
	cr_assert_eq(snaps_in_use(), 0);
}

Test(files, status_files_are_direct_and_a_repeated_open_keeps_its_snapshot)
{
	uint64_t node = wire_walk(W, "det/events"), unique;
	struct fuse_open_out o, again;

	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0);
	unique = wire_last_unique();
	cr_assert_eq(o.open_flags & (FOPEN_DIRECT_IO | FOPEN_KEEP_CACHE | NOFLUSH), FOPEN_DIRECT_IO | NOFLUSH);
	f.status = "changed";
	fix_restart(&f);
	wire_unique(unique);
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &again), 0);
	cr_assert_eq(again.fh, o.fh);
	snapshot_is(node, o.fh, "2 fine\n");
	cr_assert_eq(snaps_in_use(), 1);
}

/* ---- tiers, exposures ---------------------------------------------------------------------------------- */

Test(files, a_resident_copy_is_exposed_under_new_nodes_with_passthrough)
{
	uint64_t paged = wire_walk(W, "det/versions/2.0.0/model.onnx"), held = open_ok(paged), node, node_small;
	uint64_t paged_dir = wire_walk(W, "det/versions/2.0.0");
	uint32_t paged_x = (uint32_t)f.shm->handles[1].exposure - 1, x;
	struct fuse_open_out o;
	uint8_t buf[16];
	size_t got;

	x = make_resident();
	node = wire_walk(W, "det/versions/2.0.0/model.onnx");
	cr_assert_neq(node, paged, "one inode in two tiers");
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0);
	cr_assert_eq(o.open_flags, PASSTHROUGH | NOFLUSH, "no KEEP_CACHE with passthrough");
	cr_assert_eq(backing_id(&o), 100);
	cr_assert_eq(mfs_tree_handles(f.serve.tree, x), 1);
	cr_assert_eq(mfs_tree_tier(f.serve.tree, 0, &f.engine[0].versions[0].v->m->id), MFS_TIER_RESIDENT);
	node_small = wire_walk(W, "det/versions/2.0.0/w");
	cr_assert_eq(wire_open_file(W, node_small, O_RDONLY, &o), 0);
	cr_assert_eq(o.open_flags, FOPEN_KEEP_CACHE | NOFLUSH, "small files stay paged");
	cr_assert_eq(wire_open_file(W, wire_walk(W, "det/versions/2.0.0/w2"), O_RDONLY, &o), 0);
	cr_assert_eq(backing_id(&o), 103);
	/* what was open stays where it was, also by name within its folder */
	cr_assert_eq(wire_read(W, paged, held, 0, sizeof(buf), buf, &got), 0);
	cr_assert_eq(got, sizeof(buf));
	cr_assert_eq(wire_open_file(W, paged, O_RDONLY, &o), 0);
	cr_assert_eq(o.open_flags & PASSTHROUGH, 0);
	cr_assert_neq(paged_dir, wire_walk(W, "det/versions/2.0.0"));
	cr_assert_eq(mfs_tree_handles(f.serve.tree, paged_x), 2);
	fix_restart(&f);
	cr_assert_eq(wire_walk(W, "det/versions/2.0.0/model.onnx"), node, "a restart changed the nodes");
	cr_assert_eq(wire_read(W, paged, held, 5, 1, buf, &got), 0);
	cr_assert_eq(buf[0], fix_byte(2, 0, 5));
}

Test(files, what_is_held_or_shown_is_not_retired)
{
	uint32_t x = make_resident();
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w2"), fh = open_ok(node);
	struct mfs_version *v = mfs_version_ref(f.engine[0].versions[0].v);
	struct fuse_open_out o;
	struct fuse_attr_out a;

	cr_assert_not(mfs_view_retire(&f.serve, x), "it is shown");
	mfs_view_forget(&f.serve, x);
	cr_assert_eq(wire_getattr(W, node, &a), 0, "what is shown was forgotten");
	fix_show(&f, 0, fix_version(3, "3.0.0", 30, "a=10"), v);
	cr_assert_not(mfs_view_retire(&f.serve, x), "a handle holds it");
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0, "an old folder's names go on");
	cr_assert_eq(wire_release(W, node, o.fh), 0);
	cr_assert_eq(wire_release(W, node, fh), 0);
	cr_assert(mfs_view_retire(&f.serve, x));
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), ESTALE, "opened after its files may be dropped");
	mfs_view_forget(&f.serve, x);
	cr_assert_eq(wire_getattr(W, node, &a), ESTALE);
	cr_assert_eq(atomic_load(&f.shm->exposures[x].state), MFS_EXPOSURE_FREE);
	/* the version itself is still there, paged */
	cr_assert_eq(wire_open_file(W, wire_walk(W, "det/versions/2.0.0/w2"), O_RDONLY, &o), 0);
	cr_assert_eq(o.open_flags & PASSTHROUGH, 0);
}

Test(files, a_resident_file_that_is_gone_is_stale_and_never_another)
{
	uint32_t x = make_resident();
	uint64_t node = wire_walk(W, "det/versions/2.0.0/model.onnx");
	struct fuse_open_out o;

	(void)x;
	f.shm->residents[5].exposure = 77; /* the slot was given to another version */
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), ESTALE);
	f.shm->residents[5].exposure = x + 1;
	f.shm->residents[5].file = 3;
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), ESTALE);
	f.shm->residents[5].file = 0;
	f.shm->residents[5].backing_id = 0;
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), ESTALE);
	f.shm->residents[5].backing_id = 100;
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), 0);
}

Test(files, a_collected_version_stays_readable_where_it_is_open_and_opens_no_more)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w"), fh = open_ok(node);
	struct mfs_sha256 id = f.engine[0].versions[0].v->m->id;
	struct fuse_open_out o;
	struct fuse_attr_out a;
	uint8_t buf[16];
	size_t got;

	cr_assert(mfs_view_busy(&f.serve, &id));
	fix_show(&f, 0, fix_version(3, "3.0.0", 30, "a=10"), NULL);
	cr_assert_eq(wire_walk(W, "det/versions/2.0.0"), 0);
	cr_assert(mfs_view_busy(&f.serve, &id));
	cr_assert_eq(wire_open_file(W, node, O_RDONLY, &o), ESTALE);
	cr_assert_eq(wire_getattr(W, node, &a), 0);
	cr_assert_eq(wire_read(W, node, fh, 0, sizeof(buf), buf, &got), 0);
	cr_assert_eq(got, 10);
	cr_assert_eq(wire_release(W, node, fh), 0);
	cr_assert_not(mfs_view_busy(&f.serve, &id));
	fix_show(&f, 0, fix_version(4, "4.0.0", 40, "a=10"), NULL); /* sweeps */
	cr_assert_eq(wire_getattr(W, node, &a), ESTALE);
	cr_assert_eq(wire_read(W, node, fh, 0, sizeof(buf), buf, &got), ESTALE);
}

Test(files, a_version_collected_before_the_crash_is_loaded_again_for_its_handles)
{
	uint64_t node, fh;
	uint8_t buf[16];
	size_t got;

	fix_show(&f, 0, fix_version(0x77, "0.7.0", 7, "a=10 b=10"), NULL);
	node = wire_walk(W, "det/versions/0.7.0/a");
	fh = open_ok(node);
	fix_show(&f, 0, fix_version(3, "3.0.0", 30, "a=10"), NULL);
	fix_restart(&f);
	cr_assert_eq(wire_walk(W, "det/versions/0.7.0"), 0);
	cr_assert_eq(wire_read(W, node, fh, 0, sizeof(buf), buf, &got), 0);
	cr_assert_eq(got, 10);
	cr_assert_eq(buf[1], fix_byte(0x77, 0, 1));
	cr_assert_eq(wire_release(W, node, fh), 0);
}

Test(files, an_open_folder_holds_its_version)
{
	uint64_t dir = wire_walk(W, "det/versions/2.0.0");
	struct mfs_sha256 id = f.engine[0].versions[0].v->m->id;
	struct fuse_open_out o;
	char names[256];

	cr_assert_eq(wire_open_dir(W, dir, &o), 0);
	fix_show(&f, 0, NULL, NULL);
	cr_assert(mfs_view_busy(&f.serve, &id));
	cr_assert_eq(wire_list(W, dir, 4096, names, sizeof(names)), 0);
	cr_assert_str_eq(names, "empty model.onnx w w2 ");
	cr_assert_eq(wire_release_dir(W, dir, o.fh), 0);
	cr_assert_not(mfs_view_busy(&f.serve, &id));
}

Test(files, exposure_records_do_not_leak)
{
	unsigned live = 0;

	for (unsigned k = 0; k < 3 * MFS_EXPOSURES; k++) {
		fix_show(&f, 0, fix_version((uint8_t)(3 + k % 2), k % 2 ? "3.0.0" : "4.0.0", 30, "a=10"), NULL);
		if (k % 1000 == 999)
			fix_restart(&f);
	}
	for (uint32_t x = 0; x < MFS_EXPOSURES; x++)
		live += atomic_load(&f.shm->exposures[x].state) != MFS_EXPOSURE_FREE;
	cr_assert_leq(live, 2);
}

Test(files, a_record_that_was_being_filled_in_is_freed_by_the_next_serve)
{
	atomic_store(&f.shm->exposures[100].state, MFS_EXPOSURE_CLAIMED);
	fix_restart(&f);
	cr_assert_eq(atomic_load(&f.shm->exposures[100].state), MFS_EXPOSURE_FREE);
}

Test(files, records_of_models_that_are_configured_no_more_are_freed)
{
	atomic_store(&f.shm->exposures[200].state, MFS_EXPOSURE_LIVE);
	strcpy(f.shm->exposures[200].model, "gone");
	atomic_store(&f.shm->exposures[201].state, MFS_EXPOSURE_LIVE);
	strcpy(f.shm->exposures[201].model, "gone");
	f.shm->exposures[201].tier = MFS_TIER_RESIDENT;
	fix_restart(&f);
	cr_assert_eq(atomic_load(&f.shm->exposures[200].state), MFS_EXPOSURE_FREE);
	cr_assert_eq(atomic_load(&f.shm->exposures[201].state), MFS_EXPOSURE_LIVE, "residency has its files");
}

Test(files, a_full_disk_at_start_takes_no_model_away)
{
	uint64_t first, second;

	f.exposures_code = MFS_INSUFFICIENT_STORAGE;
	fix_show(&f, 0, fix_version(3, "3.0.0", 30, "a=10"), NULL);
	first = wire_walk(W, "det/versions/3.0.0/a");
	(void)open_ok(first);
	fix_restart(&f);
	cr_assert_eq(wire_walk(W, "det/versions/3.0.0/a"), first);
	fix_show(&f, 0, NULL, NULL);
	fix_show(&f, 0, fix_version(4, "4.0.0", 40, "a=10"), NULL);
	fix_show(&f, 0, fix_version(3, "3.0.0", 30, "a=10"), NULL);
	second = wire_walk(W, "det/versions/3.0.0/a");
	cr_assert_neq(second, 0);
	f.exposures_code = MFS_INTERNAL; /* but a counter that cannot be trusted is a refusal */
	cr_assert_neq(mfs_view_expose(&f.serve, 0, f.engine[0].versions[0].v, MFS_TIER_PAGED, &(uint32_t){ 0 }, NULL), MFS_OK);
}

Test(files, failed_chunks_are_counted_and_told_of_once)
{
	struct mfs_version *v = f.engine[0].versions[0].v;
	struct mfs_err err = MFS_ERR_INIT;

	(void)mfs_fail(&err, MFS_HASH_MISMATCH, "blob abc: chunk 3");
	cr_assert_not_null(f.failed);
	for (unsigned k = 0; k < 50; k++)
		f.failed(f.failed_user, v->files[0], 3, &err);
	cr_assert_eq(atomic_load(&f.shm->chunk_failures), 50);
	cr_assert_eq(f.events, 1, "a bad disk must not fill the log");
	cr_assert_str_eq(f.event_model, "det");
	cr_assert_not_null(strstr(f.event_detail, "model.onnx"), "%s", f.event_detail);
	cr_assert_not_null(strstr(f.event_detail, "chunk 3"));
}

Test(files, seeking_data_and_holes)
{
	uint64_t node = wire_walk(W, "det/versions/2.0.0/w");
	struct fuse_lseek_in in = { .offset = 3, .whence = SEEK_DATA };
	struct wire_reply *r;
	uint64_t at;

	r = wire_request(W, FUSE_LSEEK, node, &in, sizeof(in));
	memcpy(&at, r->data, 8);
	cr_assert_eq(r->error, 0);
	cr_assert_eq(at, 3);
	in.whence = SEEK_HOLE;
	r = wire_request(W, FUSE_LSEEK, node, &in, sizeof(in));
	memcpy(&at, r->data, 8);
	cr_assert_eq(at, 10);
	in.offset = 10;
	cr_assert_eq(wire_request(W, FUSE_LSEEK, node, &in, sizeof(in))->error, ENXIO);
	in.offset = UINT64_MAX;
	cr_assert_eq(wire_request(W, FUSE_LSEEK, node, &in, sizeof(in))->error, ENXIO);
	in.whence = SEEK_END;
	cr_assert_eq(wire_request(W, FUSE_LSEEK, node, &in, sizeof(in))->error, EINVAL);
}
