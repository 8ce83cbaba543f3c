/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dltool - one download without a mount: the blobs of a bundle's manifest come from repository 0 of a configuration,
 * through modelfs-fetch, into a store.
 *
 *	dltool CONFIG STORE BUNDLE [have=BUNDLE] [batch=BYTES] [budget=BYTES] [slow=BYTES,S] [patience=S] [backoff=MS]
 *	       [min_free=BYTES] [repair=FILE,CHUNK] [kill=MS]
 *
 * kill: SIGKILL to fetch every so many milliseconds, six times: each time it starts after a longer pause, and patience
 * has an end. Prints one line: outcome, fetched, wasted, reused, resumed, retry_after_s, milliseconds, milliseconds of CPU and
 * KiB of memory at their most of both processes (here + fetch; the last fetch if there were several), text. Exit 0 with
 * OK, else 1; 64 misuse.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "download_io.h"
#include "io.h"
#include "kfetch.h"
#include "log.h"

static _Atomic pid_t fetch_pid;
static _Atomic uint64_t budget;
static _Atomic int ended;
static _Atomic long fetch_kib;
static unsigned kill_ms;

/* "VmHWM:" of a process in KiB: the most it had. */
static long
memory_most(pid_t pid)
{
	char path[64], line[256];
	mfs_autofclose FILE *f = NULL;
	long kib = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	return kib;
}

/* Milliseconds of CPU that a process has used so far, user and system; 0 itself. */
static long
cpu_ms(pid_t pid)
{
	struct timespec t = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum mfs_code
start(void *user, int *sock, struct mfs_err *err)
{
	pid_t pid = 0;
	enum mfs_code code = mfs_fetch_spawn(user, sock, &pid, err);

	fetch_pid = pid;
	return code;
}

static void *
watcher(void *arg)
{
	int64_t next = mfs_clock_mono_ms() + kill_ms;
	unsigned kills = kill_ms > 0 ? 6 : 0;
	pid_t gone;

	(void)arg;
	while (atomic_load(&ended) == 0) {
		(void)usleep(50000);
		while ((gone = waitpid(-1, NULL, WNOHANG)) > 0)
			if (gone == fetch_pid)
				fetch_pid = 0; /* its number may be another's now */
		if (fetch_pid > 0 && memory_most(fetch_pid) > fetch_kib)
			fetch_kib = memory_most(fetch_pid);
		if (kills > 0 && fetch_pid > 0 && mfs_clock_mono_ms() >= next && kill(fetch_pid, SIGKILL) == 0) {
			kills--;
			next = mfs_clock_mono_ms() + kill_ms;
		}
	}
	return NULL;
}

static uint64_t
budget_take(void *user, uint64_t want)
{
	uint64_t have = atomic_load(&budget), give;

	(void)user;
	do {
		give = want < have ? want : have;
	} while (!atomic_compare_exchange_weak(&budget, &have, have - give));
	return give;
}

static void
budget_give(void *user, uint64_t unused)
{
	(void)user;
	(void)atomic_fetch_add(&budget, unused);
}

static struct mfs_manifest *
manifest_of(const char *bundle)
{
	mfs_autoclose int fd = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mfs_autofree uint8_t *bytes = NULL;
	struct mfs_manifest *m = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	size_t len;

	if (fd < 0 || mfs_file_read(fd, "manifest.json", MFS_MANIFEST_BYTES_MAX, &bytes, &len, &err) != MFS_OK ||
		mfs_manifest_parse(MFS_SPAN(bytes, len), &m, &err) != MFS_OK) {
		fprintf(stderr, "dltool: %s: %s\n", bundle, err.msg);
		exit(64);
	}
	return m;
}

struct options {
	struct mfs_download_args args;
	struct mfs_fetch_args fetch;
	struct mfs_manifest *have;
	int64_t patience_ms, backoff_ms;
	bool repair;
	size_t file;
	uint64_t chunk;
};

static bool
option_take(struct options *o, const char *s)
{
	unsigned long long a = 0, b = 0;

	if (strncmp(s, "have=", 5) == 0)
		o->have = manifest_of(s + 5);
	else if (sscanf(s, "batch=%llu", &a) == 1)
		o->args.batch = a;
	else if (sscanf(s, "min_free=%llu", &a) == 1)
		o->args.min_free = a;
	else if (sscanf(s, "budget=%llu", &a) == 1) {
		budget = a;
		o->args.budget_take = budget_take;
		o->args.budget_give = budget_give;
	} else if (sscanf(s, "slow=%llu,%llu", &a, &b) == 2) {
		o->fetch.low_speed = (unsigned)a;
		o->fetch.low_speed_s = (unsigned)b;
	} else if (sscanf(s, "patience=%llu", &a) == 1)
		o->patience_ms = (int64_t)a * 1000;
	else if (sscanf(s, "backoff=%llu", &a) == 1)
		o->backoff_ms = (int64_t)a;
	else if (sscanf(s, "kill=%llu", &a) == 1)
		kill_ms = (unsigned)a;
	else if (sscanf(s, "repair=%llu,%llu", &a, &b) == 2) {
		o->repair = true;
		o->file = (size_t)a;
		o->chunk = b;
	} else
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cleanup_snapshot) struct mfs_config_snapshot *snapshot = NULL;
	MFS_CLEANUP(mfs_cleanup_config) struct mfs_config *config = NULL;
	MFS_CLEANUP(mfs_cleanup_store) struct mfs_store *store = NULL;
	MFS_CLEANUP(mfs_cleanup_download) struct mfs_download *d = NULL;
	struct mfs_download_result res = { 0 };
	struct mfs_download_version v = { .id = "det" };
	struct options o = { .patience_ms = MFS_DL_PATIENCE_MS, .backoff_ms = MFS_DL_BACKOFF_MS };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_manifest *m;
	struct mfs_wire_facts facts;
	mfs_autoclose int dir = -1;
	int64_t begun;
	long cpu;
	pthread_t t;
	enum mfs_code code;

	if (argc < 4)
		return 64;
	mfs_log_open("dltool", MFS_LOG_INFO);
	for (int i = 4; i < argc; i++)
		if (!option_take(&o, argv[i])) {
			fprintf(stderr, "dltool: %s: not an option\n", argv[i]);
			return 64;
		}
	m = manifest_of(argv[3]);
	if (mfs_config_read(argv[1], &snapshot, &err) != MFS_OK || mfs_config_parse(snapshot, &config, &err) != MFS_OK ||
		(dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
		mfs_store_open(dir, NULL, 0, &store, &err) != MFS_OK || config->n_repos == 0) {
		fprintf(stderr, "dltool: %s\n", err.msg);
		return 64;
	}
	o.fetch.config = config;
	o.args.store = store;
	o.args.repository = &config->repos[0];
	if (mfs_remote_new(start, &o.fetch, &o.args.remote, &err) != MFS_OK || mfs_download_new(&o.args, &d, &err) != MFS_OK ||
		pthread_create(&t, NULL, watcher, NULL) != 0) {
		fprintf(stderr, "dltool: %s\n", err.msg);
		return 1;
	}
	d->patience_ms = o.patience_ms;
	d->backoff_ms = o.backoff_ms;
	v.m = m;
	v.have = (const struct mfs_manifest *const *)&o.have;
	v.n_have = o.have != NULL;
	/* As in serve: fetch was asked for the conditions before anything is downloaded, so it runs. */
	(void)mfs_remote_conditions(o.args.remote, NULL, &facts, NULL);
	begun = mfs_clock_mono_ms();
	cpu = cpu_ms(0);
	code = o.repair ? mfs_download_repair(d, m, o.file, o.chunk, 1, NULL, NULL, &err) : mfs_download_version(d, &v, &res, &err);
	begun = mfs_clock_mono_ms() - begun;
	cpu = cpu_ms(0) - cpu;
	atomic_store(&ended, 1);
	(void)pthread_join(t, NULL);
	printf("%s fetched=%llu wasted=%llu reused=%llu resumed=%llu retry=%lld ms=%lld cpu=%ld+%ld kib=%ld+%ld %s\n", mfs_code_name(code),
		(unsigned long long)res.fetched, (unsigned long long)res.wasted, (unsigned long long)res.reused,
		(unsigned long long)res.resumed, (long long)res.retry_after_s, (long long)begun, cpu,
		fetch_pid > 0 ? cpu_ms(fetch_pid) : 0, memory_most(getpid()), (long)fetch_kib, err.msg);
	mfs_remote_free(o.args.remote);
	mfs_manifest_free(m);
	mfs_manifest_free(o.have);
	return code == MFS_OK ? 0 : 1;
}
