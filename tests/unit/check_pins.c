/* SPDX-License-Identifier: Apache-2.0 */
/* `active` stays on V for a process that is loading V, with real processes asking. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tree_int.h"
#include "treefix.h"

static struct fix f;
#define W (&f.wire)

static _Atomic int64_t now_ms = 1000000;
static struct mfs_config_model model = { .pin_window_ms = 10000 };
static struct mfs_config config = { .models = &model, .n_models = 1 };
static const struct mfs_sha256 V1 = { { 1 } }, V2 = { { 2 } }, V3 = { { 3 } };

static struct mfs_shm_pins shm_pins;

static int64_t
test_clock(void)
{
	return atomic_load(&now_ms);
}

static struct mfs_pins *
pins(void)
{
	struct mfs_pins *p;

	cr_assert_eq(mfs_pins_new(&config, &shm_pins, test_clock, &p, NULL), MFS_OK);
	return p;
}

/* A process that lives until it is told otherwise; threads: its second thread's id goes to *tid. */
static pid_t
child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	cr_assert_gt(pid, 0);
	return pid;
}

static void
end(pid_t pid)
{
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

static bool
is_held(struct mfs_pins *p, pid_t pid, const struct mfs_sha256 *want)
{
	struct mfs_sha256 got;

	return mfs_pins_held(p, 0, pid, &got) && mfs_sha256_equal(&got, want);
}

Test(pins, a_process_that_is_loading_is_pinned_and_no_other)
{
	struct mfs_pins *p = pins();
	pid_t loader = child(), other = child();

	cr_assert_neq(mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0), 0);
	cr_assert_not(is_held(p, loader, &V1), "no swap yet");
	mfs_pins_swapped(p, 0, &V1);
	cr_assert(is_held(p, loader, &V1));
	cr_assert(mfs_pins_loading(p, 0, &V1));
	cr_assert_not(is_held(p, other, &V1), "looks alone never pin");
	cr_assert_not(is_held(p, 0, &V1), "pid 0 is never pinned");
	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0); /* the same file again is not the next */
	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 1);
	cr_assert(is_held(p, loader, &V1));
	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 2);
	cr_assert_not(is_held(p, loader, &V1), "everything is open");
	cr_assert_not(mfs_pins_loading(p, 0, &V1));
	end(loader);
	end(other);
	mfs_pins_free(p);
}

Test(pins, a_thread_speaks_for_its_process)
{
	struct mfs_process leader, thread;

	cr_assert(mfs_process_of(getpid(), false, &leader));
	cr_assert_eq(leader.tgid, getpid());
	/* in this test program itself: any of its threads */
	cr_assert(mfs_process_of((pid_t)gettid(), false, &thread));
	cr_assert(mfs_process_equal(&leader, &thread));
}

struct identified {
	bool ok;
	struct mfs_process p;
};

static void *
identify(void *arg)
{
	struct identified *i = arg;

	i->ok = gettid() != getpid() && mfs_process_of((pid_t)gettid(), false, &i->p);
	return NULL;
}

Test(pins, a_second_thread_has_the_identity_of_its_process)
{
	struct mfs_process leader;
	struct identified i = { .ok = false };
	pthread_t t;

	cr_assert(mfs_process_of(getpid(), false, &leader));
	cr_assert_eq(pthread_create(&t, NULL, identify, &i), 0);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert(i.ok);
	cr_assert(mfs_process_equal(&leader, &i.p));
	cr_assert(mfs_process_alive(&leader));
}

Test(pins, a_dead_process_has_no_identity_and_its_number_is_another)
{
	struct mfs_process was, now;
	pid_t pid = child();

	cr_assert(mfs_process_of(pid, false, &was));
	cr_assert(mfs_process_alive(&was));
	cr_assert_eq(kill(pid, SIGKILL), 0);
	while (mfs_process_alive(&was)) /* ended though not yet reaped */
		;
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert_not(mfs_process_alive(&was));
	cr_assert_not(mfs_process_of(pid, false, &now));
	was.id++; /* the number given to another process */
	was.tgid = getpid();
	cr_assert_not(mfs_process_alive(&was));
}

Test(pins, a_load_ends_with_its_window_and_60_s_after_the_swap)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();
	uint64_t owner = mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0);

	mfs_pins_swapped(p, 0, &V1);
	atomic_fetch_add(&now_ms, 9999);
	cr_assert(is_held(p, loader, &V1));
	mfs_pins_closed(p, owner); /* a close prolongs */
	atomic_fetch_add(&now_ms, 9999);
	cr_assert(is_held(p, loader, &V1));
	atomic_fetch_add(&now_ms, 1);
	cr_assert_not(is_held(p, loader, &V1));
	mfs_pins_closed(p, owner); /* and never begins a load */
	cr_assert_not(is_held(p, loader, &V1));
	for (unsigned k = 0; k < 5; k++) {
		mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0);
		atomic_fetch_add(&now_ms, 9000);
	}
	cr_assert_not(is_held(p, loader, &V1), "60 s after the swap it is over");
	cr_assert_not(mfs_pins_young(p, 0));
	end(loader);
	mfs_pins_free(p);
}

Test(pins, one_file_and_off_never_pin)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();

	cr_assert_eq(mfs_pins_opened(p, 0, loader, 0, &V1, 1, 0), 0);
	cr_assert_eq(mfs_pins_opened(p, 0, loader, 0, &V1, 3, 3), 0, "a file that does not exist");
	cr_assert_eq(mfs_pins_opened(p, 0, 0, 0, &V1, 3, 0), 0);
	model.pin = MFS_PIN_OFF;
	cr_assert_eq(mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0), 0);
	mfs_pins_swapped(p, 0, &V1);
	cr_assert_not(is_held(p, loader, &V1));
	end(loader);
	mfs_pins_free(p);
}

Test(pins, a_cgroup_shares_its_pin)
{
	struct mfs_pins *p = pins();
	pid_t loader = child(), helper = child();

	model.pin = MFS_PIN_CGROUP;
	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0);
	mfs_pins_swapped(p, 0, &V1);
	cr_assert(is_held(p, helper, &V1));
	end(loader);
	end(helper);
	mfs_pins_free(p);
}

Test(pins, unpin_ends_every_load_at_once)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();

	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0);
	mfs_pins_swapped(p, 0, &V1);
	mfs_pins_end(p, 0);
	cr_assert_not(is_held(p, loader, &V1));
	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 1); /* goes on by an old path: not pinned again */
	cr_assert_not(is_held(p, loader, &V1));
	mfs_pins_wait(p, 0);
	end(loader);
	mfs_pins_free(p);
}

Test(pins, two_swaps_in_a_row_keep_each_loader_where_it_is)
{
	struct mfs_pins *p = pins();
	pid_t first = child(), second = child();

	mfs_pins_opened(p, 0, first, 0, &V1, 3, 0);
	mfs_pins_swapped(p, 0, &V1);
	mfs_pins_opened(p, 0, second, 0, &V2, 3, 0);
	mfs_pins_swapped(p, 0, &V2);
	cr_assert(is_held(p, first, &V1));
	cr_assert(is_held(p, second, &V2));
	cr_assert_not(mfs_pins_loading(p, 0, &V3));
	end(first);
	end(second);
	mfs_pins_free(p);
}

Test(pins, a_full_table_pins_no_more_and_forgets_nobody)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();
	struct mfs_sha256 other = { { 9 } };

	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0);
	for (unsigned k = 0; k < 3000; k++) {
		memcpy(other.b + 1, &k, sizeof(k));
		mfs_pins_opened(p, 0, getpid(), 0, &other, 3, 0);
	}
	mfs_pins_swapped(p, 0, &V1);
	cr_assert(is_held(p, loader, &V1));
	atomic_fetch_add(&now_ms, 10000); /* ended loads make room */
	cr_assert_neq(mfs_pins_opened(p, 0, loader, 0, &V1, 3, 1), 0);
	end(loader);
	mfs_pins_free(p);
}

Test(pins, many_short_loads_leave_room_for_the_next)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();
	struct mfs_sha256 other = { { 9 } };

	for (unsigned k = 0; k < 3000; k++) { /* all within one window: each has opened both files */
		memcpy(other.b + 1, &k, sizeof(k));
		cr_assert_neq(mfs_pins_opened(p, 0, getpid(), 7, &other, 2, 0), 0, "load %u", k);
		cr_assert_neq(mfs_pins_opened(p, 0, getpid(), 7, &other, 2, 1), 0);
	}
	cr_assert_neq(mfs_pins_opened(p, 0, loader, 7, &V1, 3, 0), 0);
	mfs_pins_swapped(p, 0, &V1);
	cr_assert(is_held(p, loader, &V1));
	end(loader);
	mfs_pins_free(p);
}

Test(pins, one_user_cannot_take_all_of_it)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();
	struct mfs_sha256 other = { { 9 } };

	for (unsigned k = 0; k < 3000; k++) {
		memcpy(other.b + 1, &k, sizeof(k));
		mfs_pins_opened(p, 0, getpid(), 1000, &other, 3, 0);
	}
	cr_assert_neq(mfs_pins_opened(p, 0, loader, 1001, &V1, 3, 0), 0);
	mfs_pins_swapped(p, 0, &V1);
	cr_assert(is_held(p, loader, &V1));
	end(loader);
	mfs_pins_free(p);
}

Test(pins, a_loader_stays_where_it_is_when_serve_dies)
{
	struct mfs_pins *p = pins(), *next;
	pid_t loader = child(), done = child();
	uint64_t owner = mfs_pins_opened(p, 0, loader, 7, &V1, 3, 0);

	mfs_pins_opened(p, 0, done, 7, &V1, 2, 0);
	mfs_pins_opened(p, 0, done, 7, &V1, 2, 1);
	mfs_pins_swapped(p, 0, &V1);
	shm_pins.loads[5] = (struct mfs_shm_load){ .last_ms = 1, .model = 77 }; /* of nothing that is configured */
	next = pins(); /* the one before was killed: nothing was handed over but the memory */
	cr_assert(is_held(next, loader, &V1));
	cr_assert_not(is_held(next, done, &V1));
	cr_assert(mfs_pins_loading(next, 0, &V1));
	atomic_fetch_add(&now_ms, 9999);
	mfs_pins_closed(next, owner);
	atomic_fetch_add(&now_ms, 9999);
	cr_assert(is_held(next, loader, &V1), "a close that came after the crash prolongs");
	mfs_pins_opened(next, 0, loader, 7, &V1, 3, 1);
	mfs_pins_opened(next, 0, loader, 7, &V1, 3, 2);
	cr_assert_not(is_held(next, loader, &V1));
	end(loader);
	end(done);
	mfs_pins_free(p);
	mfs_pins_free(next);
}

static void *
wait_for_loads(void *arg)
{
	mfs_pins_wait(arg, 0);
	return NULL;
}

Test(pins, waiting_ends_when_the_last_loader_dies)
{
	struct mfs_pins *p = pins();
	pid_t loader = child();
	pthread_t t;

	mfs_pins_opened(p, 0, loader, 0, &V1, 3, 0);
	mfs_pins_swapped(p, 0, &V1);
	cr_assert_eq(pthread_create(&t, NULL, wait_for_loads, p), 0);
	cr_assert_eq(pthread_tryjoin_np(t, NULL), EBUSY);
	end(loader); /* the clock stands still: only its death ends the load */
	cr_assert_eq(pthread_join(t, NULL), 0);
	mfs_pins_free(p);
}

/* ---- through the tree -------------------------------------------------------------------------------- */

static void
link_is(const char *path, const char *want)
{
	char got[512] = "";

	cr_assert_eq(wire_readlink(W, wire_walk(W, path), got, sizeof(got)), 0);
	cr_assert_str_eq(got, want);
}

static void
open_ok(const char *path)
{
	struct fuse_open_out o;

	cr_assert_eq(wire_open_file(W, wire_walk(W, path), O_RDONLY, &o), 0, "%s", path);
}

Test(pins, active_answers_by_who_asks)
{
	struct mfs_version *v1 = fix_version(1, "1.0.0", 10, "a=1 b=1 c=1"), *v2 = fix_version(2, "2.0.0", 20, "a=1 b=1 c=1");
	pid_t loader = child(), other = child();
	char names[64];

	fix_open(&f);
	fix_show(&f, 0, mfs_version_ref(v1), NULL);
	wire_pid((uint32_t)loader);
	open_ok("det/versions/1.0.0/a");
	wire_pid((uint32_t)other);
	cr_assert_neq(wire_walk(W, "det/versions/1.0.0/a"), 0);
	fix_show(&f, 0, mfs_version_ref(v2), v1);
	link_is("det/active", "versions/2.0.0");
	cr_assert_eq(wire_list(W, wire_walk(W, ".release/det"), 4096, names, sizeof(names)), 0);
	cr_assert_str_eq(names, "20 ");
	wire_pid((uint32_t)loader);
	link_is("det/active", "versions/1.0.0");
	link_is(".release/det/10", "../../det/versions/1.0.0");
	cr_assert_eq(wire_list(W, wire_walk(W, ".release/det"), 4096, names, sizeof(names)), 0);
	cr_assert_str_eq(names, "10 ");
	wire_pid(0);
	link_is("det/active", "versions/2.0.0");
	wire_pid((uint32_t)loader);
	open_ok("det/versions/1.0.0/b");
	link_is("det/active", "versions/1.0.0");
	open_ok("det/versions/1.0.0/c");
	link_is("det/active", "versions/2.0.0");
	cr_assert_eq(wire_walk(W, ".release/det/10"), 0);
	mfs_tree_wait_loads(f.serve.tree, 0);
	end(loader);
	end(other);
	fix_close(&f);
	mfs_version_unref(v2);
}

Test(pins, withdrawal_breaks_a_pin)
{
	struct mfs_version *v1 = fix_version(1, "1.0.0", 10, "a=1 b=1"), *v2 = fix_version(2, "2.0.0", 20, "a=1 b=1");
	pid_t loader = child();
	char out[64];

	fix_open(&f);
	fix_show(&f, 0, mfs_version_ref(v1), NULL);
	wire_pid((uint32_t)loader);
	open_ok("det/versions/1.0.0/a");
	fix_show(&f, 0, mfs_version_ref(v2), mfs_version_ref(v1));
	link_is("det/active", "versions/1.0.0");
	mfs_tree_unpin(f.serve.tree, 0);
	link_is("det/active", "versions/2.0.0");
	open_ok("det/versions/1.0.0/a");
	link_is("det/active", "versions/2.0.0");
	fix_show(&f, 0, mfs_version_ref(v1), mfs_version_ref(v2)); /* back, and forth again: v1 is being loaded */
	fix_show(&f, 0, mfs_version_ref(v2), mfs_version_ref(v1));
	link_is("det/active", "versions/1.0.0");
	fix_show(&f, 0, v2, NULL); /* v1 is revoked: nothing leads there, pinned or not */
	link_is("det/active", "versions/2.0.0");
	fix_show(&f, 0, NULL, NULL);
	cr_assert_eq(wire_readlink(W, mfs_node_model_child(f.serve.tree, 0, 0)->id, out, sizeof(out)), ENOENT);
	end(loader);
	fix_close(&f);
	mfs_version_unref(v1);
}

/* The anchor names v2, and serve dies before it shows it: for a loader and for watchers it is a swap all the same. */
Test(pins, a_swap_that_serve_died_in_is_a_swap)
{
	struct mfs_version *v1 = fix_version(1, "1.0.0", 10, "a=1 b=1"), *v2 = fix_version(2, "2.0.0", 20, "a=1 b=1");
	pid_t loader = child(), other = child();
	char line[256];

	fix_open(&f);
	fix_show(&f, 0, v1, NULL);
	mfs_tree_announce(f.serve.tree, 0);
	wire_pid((uint32_t)loader);
	open_ok("det/versions/1.0.0/a");
	f.engine[0].versions[1] = f.engine[0].versions[0];
	f.engine[0].versions[1].active = false;
	f.engine[0].versions[1].previous = true;
	f.engine[0].versions[0] = (struct mfs_engine_version){ .v = v2, .active = true };
	f.engine[0].n = 2;
	f.engine[0].generation++;
	fix_restart(&f);
	wire_pid((uint32_t)other);
	link_is("det/active", "versions/2.0.0");
	wire_pid((uint32_t)loader);
	link_is("det/active", "versions/1.0.0");
	(void)mfs_tree_generation(f.serve.tree, 0, line, sizeof(line));
	cr_assert_neq(strstr(line, " 1.0.0 "), NULL, "not yet announced: %s", line);
	cr_assert_eq(f.touched[0], 0);
	fix_restart(&f); /* and once more: nothing is forgotten by a second death */
	wire_pid((uint32_t)loader);
	link_is("det/active", "versions/1.0.0");
	open_ok("det/versions/1.0.0/b");
	link_is("det/active", "versions/2.0.0");
	while (mfs_tree_generation(f.serve.tree, 0, line, sizeof(line)), strstr(line, " 2.0.0 ") == NULL)
		(void)usleep(1000);
	while (__atomic_load_n(&f.touched[0], __ATOMIC_SEQ_CST) == 0)
		(void)usleep(1000);
	end(loader);
	end(other);
	fix_close(&f);
}
