/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race_update - new versions appear in a repository of files while refresher and worker follow it, commands check,
 * update, pin, mark and explain, a scrub looks at every byte, and readers walk and read what is swapped under them:
 * every link leads to a whole version, every byte is that version's, the floor never falls, and the last version
 * becomes active. A plain main, since a ThreadSanitizer build does not start under Criterion.
 *
 * All of serve but the parts that need a kernel or keeper: requests come by fusewire, and fetch is a thread that
 * reads the repository's folder.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "device.h"
#include "fusewire.h"
#include "io.h"
#include "log.h"
#include "mfs_policy.h"
#include "mkrepo.h"
#include "mockfetch.h"
#include "serve.h"

#define RELEASES 10u
#define READERS  2u
#define ASKERS   3u
#define SIZE     150000u /* of the model's file: three chunks */
#define PATIENCE 60      /* seconds until the last release is active */

#define REQUIRE(condition)                                                                          \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			fprintf(stderr, "race_update: line %d: %s\n", __LINE__, #condition);         \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

static struct device d;
static struct mfs_serve serve;
static struct wire wire;
static struct mk_repo *repo;
static struct mfs_policy *policy;
static size_t release_role;
static int repo_fd;
static uint8_t content[RELEASES + 1][SIZE];
static _Atomic bool done, published; /* all of them */
static _Atomic unsigned long reads, answers;

/* ---- in place of session.c ------------------------------------------------------------------------------ */

bool
mfs_session_slow_begin(struct mfs_session *s, void (*fn)(void *arg), void *arg)
{
	(void)s, (void)fn, (void)arg;
	return true;
}

void
mfs_session_slow_end(struct mfs_session *s)
{
	(void)s;
}

void
mfs_session_epoch(struct mfs_session *s)
{
	(void)s;
}

int
mfs_session_park(struct mfs_session *s)
{
	(void)s;
	return 0;
}

void
mfs_session_answer(struct mfs_session *s, int place, void (*fn)(void *arg), void *arg)
{
	(void)s, (void)place;
	fn(arg);
}

/* ---- the repository: files in a folder -------------------------------------------------------------------- */

static void
file_put(const char *path, const void *bytes, size_t len)
{
	const char *name = strrchr(path, '/') + 1;
	mfs_autoclose int dir = -1;
	char folder[700];

	(void)snprintf(folder, sizeof(folder), "%.*s", (int)(name - path), path);
	REQUIRE(mfs_mkdirs(repo_fd, folder, 0755, NULL) == MFS_OK);
	dir = openat(repo_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(mfs_file_replace(dir, name, bytes, len, 0644, NULL) == MFS_OK);
}

/* In the order of an upload: timestamp last. */
static void
repo_write(void)
{
	static const char last[] = "metadata/timestamp.json";
	struct mfs_span timestamp;

	for (size_t i = 0; i < repo->n_files; i++)
		if (strcmp(repo->files[i].path, last) != 0)
			file_put(repo->files[i].path, repo->files[i].bytes, repo->files[i].len);
	REQUIRE(mk_repo_file(repo, last, &timestamp));
	file_put(last, timestamp.p, timestamp.len);
}

static void
blobs_put(const char *folder)
{
	int fd = openat(d.root_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);

	REQUIRE(dir != NULL);
	for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
		mfs_autofree uint8_t *bytes = NULL;
		struct mfs_sha256 hash;
		char path[128];
		size_t len;

		if (e->d_name[0] == '.')
			continue;
		REQUIRE(mfs_file_read(fd, e->d_name, 1u << 20, &bytes, &len, NULL) == MFS_OK);
		REQUIRE(mfs_sha256(MFS_SPAN(bytes, len), &hash, NULL) == MFS_OK);
		(void)snprintf(path, sizeof(path), "blobs/sha256/%.2s/%s/00000", MFS_HEX(&hash), MFS_HEX(&hash));
		file_put(path, bytes, len);
	}
	(void)closedir(dir);
}

static void
policy_put(void)
{
	char *json;
	size_t len;

	policy->sequence++;
	policy->issued = repo->now;
	REQUIRE(mfs_policy_json(policy, &json, &len, NULL) == MFS_OK);
	mk_repo_target(repo, release_role + 1, "det/policy.json", json, len);
	free(json);
}

static struct mk_bundle
bundle_of(unsigned n, struct mk_file *file, char version[16])
{
	(void)snprintf(version, 16, "1.%u.0", n);
	*file = (struct mk_file){ "model.bin", SIZE, n };
	return (struct mk_bundle){ .version = version, .release = n, .files = file, .n_files = 1, .model_key = &d.model_key };
}

static void
publish(unsigned n)
{
	static const char *const parts[] = { "manifest.json", "signature.sig" };
	char version[16], path[64], name[96];
	struct mk_file file;
	struct mk_bundle b = bundle_of(n, &file, version);
	struct mfs_policy_entry e = { .release = n };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;

	repo->now = time(NULL);
	device_bundle(&d, &b, "published", &e.manifest);
	blobs_put("published/payload");
	blobs_put("published/chunks");
	for (size_t k = 0; k < 2; k++) {
		mfs_autofree uint8_t *bytes = NULL;
		size_t len;

		(void)snprintf(path, sizeof(path), "published/%s", parts[k]);
		(void)snprintf(name, sizeof(name), "det/%s/default/%s", version, parts[k]);
		REQUIRE(mfs_file_read(d.root_fd, path, 1 << 20, &bytes, &len, NULL) == MFS_OK);
		mk_repo_target(repo, release_role, name, bytes, len);
	}
	(void)snprintf(e.version, sizeof(e.version), "%s", version);
	(void)snprintf(e.variant, sizeof(e.variant), "default");
	REQUIRE(mfs_policy_rollout_add(policy, 0, version, version, &r, NULL) == MFS_OK);
	REQUIRE(mfs_policy_variant_add(r, &e, &v, NULL) == MFS_OK);
	REQUIRE(mfs_policy_step_add(r, MFS_FRACTION_ALL, 0, false, NULL) == MFS_OK);
	policy_put();
	mk_repo_commit(repo);
	repo_write();
	device_unbundle(&d, "published");
}

/* ---- fetch: a thread that reads these files ---------------------------------------------------------------- */

static void
path_of(const struct mfs_wire_get *g, char *out, size_t cap)
{
	struct mfs_sha256 hash;

	if (g->kind != MFS_WIRE_BLOB) {
		(void)snprintf(out, cap, "%s/%s", g->kind == MFS_WIRE_METADATA ? "metadata" : "targets", g->path);
		return;
	}
	memcpy(hash.b, g->hash, sizeof(hash.b));
	(void)snprintf(out, cap, "blobs/sha256/%.2s/%s/%05u", MFS_HEX(&hash), MFS_HEX(&hash), g->part);
}

static bool
fetch(struct mock *k, const union mfs_wire *m, int fd)
{
	const struct mfs_wire_get *g = &m->get;
	mfs_autofree uint8_t *bytes = NULL;
	uint64_t from, n;
	char path[MFS_WIRE_PATH + 16];
	size_t len = 0;

	if (m->head.type != MFS_W_GET) /* of a GET that is to be cancelled, the end came */
		return true;
	path_of(g, path, sizeof(path));
	if (mfs_file_read(repo_fd, path, 1u << 22, &bytes, &len, NULL) != MFS_OK) {
		mock_done(k, m->head.id, MFS_NET_HTTP, 404, 0);
		return true;
	}
	from = g->length > 0 ? g->from : 0;
	n = from >= len ? 0 : g->length > 0 && g->length < len - from ? g->length : len - from;
	mock_headers(k, m->head.id, g->length > 0 ? 206 : 200, from, n, len);
	for (uint64_t at = 0; at < n;) {
		ssize_t w = write(fd, bytes + from + at, (size_t)(n - at));

		if (w <= 0) { /* nobody wants it any more */
			n = at;
			break;
		}
		at += (uint64_t)w;
	}
	mock_done(k, m->head.id, MFS_OK, g->length > 0 ? 206 : 200, n);
	return true;
}

/* ---- who reads ------------------------------------------------------------------------------------------------ */

static void
read_version(uint64_t dir, unsigned release, unsigned seed)
{
	uint8_t buf[70000];
	struct fuse_entry_out e;
	struct fuse_open_out o;
	uint64_t off = seed * 7919u % SIZE;
	uint32_t n = off + sizeof(buf) < SIZE ? sizeof(buf) : (uint32_t)(SIZE - off);
	size_t got;
	int error;

	if (wire_lookup(&wire, dir, "model.bin", &e) != 0)
		return; /* collected meanwhile: the kernel walks again */
	if ((error = wire_open_file(&wire, e.nodeid, O_RDONLY, &o)) != 0) {
		REQUIRE(error == ESTALE);
		return;
	}
	REQUIRE(wire_read(&wire, e.nodeid, o.fh, off, n, buf, &got) == 0 && got == n);
	REQUIRE(memcmp(buf, content[release] + off, n) == 0);
	REQUIRE(wire_release(&wire, e.nodeid, o.fh) == 0);
	atomic_fetch_add(&reads, 1);
}

static void
read_status(const char *path)
{
	uint64_t node = wire_walk(&wire, path);
	struct fuse_open_out o;
	char text[4096];
	size_t got;

	REQUIRE(node != 0 && wire_open_file(&wire, node, O_RDONLY, &o) == 0);
	REQUIRE(wire_read(&wire, node, o.fh, 0, sizeof(text), text, &got) == 0 && got > 0);
	REQUIRE(wire_release(&wire, node, o.fh) == 0);
}

static void *
reader(void *arg)
{
	static const char *const texts[] = { "det/status", "det/status.json", "det/generation", "det/events",
		".modelfs/metrics.prom" };
	unsigned turn = (unsigned)(uintptr_t)arg;
	uint64_t active = wire_walk(&wire, "det/active");

	wire_pid((uint32_t)getpid());
	for (; !atomic_load(&done); turn++) {
		char target[128], path[160];
		uint64_t dir;

		REQUIRE(wire_readlink(&wire, active, target, sizeof(target)) == 0);
		REQUIRE(strncmp(target, "versions/1.", 11) == 0);
		(void)snprintf(path, sizeof(path), "det/%s", target);
		if ((dir = wire_walk(&wire, path)) != 0)
			read_version(dir, (unsigned)strtoul(target + 11, NULL, 10), turn);
		read_status(texts[turn % (sizeof(texts) / sizeof(texts[0]))]);
	}
	return NULL;
}

/* ---- who asks -------------------------------------------------------------------------------------------------- */

static int
ask(struct mfs_ctl_request r)
{
	struct mfs_ctl_reply reply;
	int code = -1;

	(void)snprintf(r.model, sizeof(r.model), "det");
	if (mfs_client_ask(d.config, &r, 30000, NULL, NULL, &reply, NULL) == MFS_OK) {
		atomic_fetch_add(&answers, 1);
		code = reply.exit_code;
	}
	json_decref(reply.body);
	return code;
}

/* Trusts what is active, and now and then does not, goes back, or stays. */
static void
operator(unsigned turn, struct mfs_ctl_request *r)
{
	const char *version = "active";

	r->command = MFS_CTL_MARK;
	switch (turn % 16) {
	case 1:
		r->command = MFS_CTL_PIN;
		version = "1.1.0";
		break;
	case 8:
		r->command = MFS_CTL_ROLLBACK;
		return;
	case 2:
	case 9:
		r->command = MFS_CTL_UNPIN;
		return;
	case 5:
	case 12:
		r->good = false;
		version = turn % 16 == 5 ? "1.4.0" : "1.7.0";
		break;
	default:
		break;
	}
	(void)snprintf(r->version, sizeof(r->version), "%s", version);
}

static void *
asker(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	for (unsigned turn = me; !atomic_load(me == 0 ? &published : &done); turn++) {
		struct mfs_ctl_request r = { .timeout_ms = 20, .json = turn % 2 == 0, .good = true };

		switch (me) {
		case 0:
			operator(turn, &r);
			break;
		case 1:
			r.command = turn % 3 == 0 ? MFS_CTL_CHECK : MFS_CTL_UPDATE;
			break;
		default:
			mfs_scrub_kick(serve.scrub, turn % 3);
			r.command = turn % 5 == 0 ? MFS_CTL_EXPLAIN : turn % 5 == 1 ? MFS_CTL_EVENTS : turn % 5 == 2 ? MFS_CTL_GC :
				turn % 5 == 3 ? MFS_CTL_VERIFY : MFS_CTL_STATUS;
		}
		(void)ask(r);
		(void)usleep(me == 0 ? 60000 : 5000);
	}
	if (me == 0)
		(void)ask((struct mfs_ctl_request){ .command = MFS_CTL_UNPIN });
	return NULL;
}

/* ---- a serve ------------------------------------------------------------------------------------------------------ */

static int
listen_on(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char run[300];

	(void)snprintf(run, sizeof(run), "%s/run", d.root);
	free(d.config->run);
	REQUIRE((d.config->run = strdup(run)) != NULL && mkdir(run, 0755) == 0);
	REQUIRE(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control", run) < (int)sizeof(addr.sun_path));
	REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 && listen(fd, 128) == 0);
	return fd;
}

static void
device_start(void)
{
	struct mk_file file;
	char version[16];
	struct mk_bundle b;
	struct mfs_span root;
	struct mfs_key_fds fds;

	repo = mk_repo_new(time(NULL));
	release_role = mk_repo_model(repo, "det");
	REQUIRE(mfs_policy_new("det", &policy, NULL) == MFS_OK);
	policy_put();
	repo->roles[MK_ROOT].changed = true;
	mk_repo_commit(repo);
	device_make(&d, "repositories: {default: {url: \"file:///r\", root: root.json}}\ndevice: {id: dev-1}\n");
	d.config->update.interval_ms = d.config->update.max_interval_ms = d.config->update.probation_ms = 1000;
	repo_fd = scratch_folder(d.root_fd, "repo");
	repo_write();
	REQUIRE(mk_repo_file(repo, "metadata/1.root.json", &root));
	scratch_write(d.root_fd, "root.json", root.p, root.len);
	mfs_keys_free(d.keys);
	REQUIRE(mfs_key_fds_open(d.config, d.state_fd, &fds, NULL) == MFS_OK &&
		mfs_keys_load(d.config, &fds, &d.keys, NULL) == MFS_OK);
	mfs_key_fds_close(d.config, &fds);
	device_open(&d);
	b = bundle_of(1, &file, version);
	device_install(&d, &b, NULL);
}

static void
serve_start(struct mock *mock, int listener)
{
	struct mfs_err err = MFS_ERR_INIT;

	serve = (struct mfs_serve){ .config = d.config, .keys = d.keys, .store = d.store, .cache = d.cache, .events = d.events,
		.engine = d.engine, .state_dirfd = d.state_fd };
	serve.shm = mmap(NULL, sizeof(*serve.shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(serve.shm != MAP_FAILED);
	serve.shm->rootless = geteuid() != 0;
	REQUIRE(mfs_tree_new(&serve, &serve.tree, &err) == MFS_OK);
	REQUIRE(mfs_view_refresh(&serve, 0, &err) == MFS_OK && mfs_view_refresh(&serve, 1, &err) == MFS_OK);
	REQUIRE(mfs_remote_new(mock_start, mock, &serve.remote, &err) == MFS_OK);
	REQUIRE(mfs_updates_new(&serve, &serve.updates, &err) == MFS_OK);
	REQUIRE(mfs_repairs_new(&serve, &serve.repairs, &err) == MFS_OK);
	REQUIRE(mfs_scrub_new(&serve, &serve.scrub, &err) == MFS_OK && mfs_scrub_start(serve.scrub, &err) == MFS_OK);
	REQUIRE(mfs_control_start(&serve, listener, &serve.control, &err) == MFS_OK);
	wire_open(&wire, &mfs_tree_ops, &serve);
	REQUIRE(mfs_updates_start(serve.updates, &err) == MFS_OK);
}

/* The active release; *floor is checked not to fall. */
static unsigned
active_release(int64_t *floor)
{
	struct mfs_engine_model m;
	unsigned release = 0;

	REQUIRE(mfs_engine_model_get(d.engine, 0, &m, NULL) == MFS_OK);
	REQUIRE(m.n > 0 && m.versions[0].active);
	release = (unsigned)m.versions[0].v->m->release;
	REQUIRE(m.floor_release >= *floor);
	*floor = m.floor_release;
	mfs_engine_model_free(&m);
	return release;
}

static uint64_t
swaps(void)
{
	struct mfs_engine_model m;
	uint64_t generation;

	REQUIRE(mfs_engine_model_get(d.engine, 0, &m, NULL) == MFS_OK);
	generation = m.generation;
	mfs_engine_model_free(&m);
	return generation;
}

/* What it says of itself, and the end. */
static _Noreturn void
stuck(void)
{
	char *text;
	size_t len;

	if (mfs_status_render(&serve, MFS_STATUS_MODEL_TEXT, 0, &text, &len, NULL) == MFS_OK)
		fprintf(stderr, "%s", text);
	if (mfs_events_render(d.events, "det", 65536, &text, &len, NULL) == MFS_OK)
		fprintf(stderr, "%s", text);
	fprintf(stderr, "race_update: the last release does not become active\n");
	abort();
}

int
main(void)
{
	static struct mock mock = { .on = fetch };
	pthread_t threads[READERS + ASKERS];
	uint64_t swapped;
	time_t until;
	int64_t floor = 0;
	int listener;

	for (unsigned n = 1; n <= RELEASES; n++)
		mk_fill(content[n], SIZE, n);
	device_start();
	mfs_log_open("race", (enum mfs_level)0);
	listener = listen_on();
	serve_start(&mock, listener);
	for (uintptr_t k = 0; k < READERS + ASKERS; k++)
		REQUIRE(pthread_create(&threads[k], NULL, k < READERS ? reader : asker, (void *)(k < READERS ? k : k - READERS)) == 0);
	for (unsigned n = 2; n <= RELEASES; n++) {
		publish(n);
		for (int k = 0; k < 5; k++) {
			(void)active_release(&floor);
			(void)usleep(80000);
		}
	}
	atomic_store(&published, true);
	until = time(NULL) + PATIENCE;
	while (active_release(&floor) != RELEASES) {
		if (time(NULL) >= until)
			stuck();
		(void)usleep(50000);
	}
	atomic_store(&done, true);
	for (unsigned k = 0; k < READERS + ASKERS; k++)
		REQUIRE(pthread_join(threads[k], NULL) == 0);
	REQUIRE(atomic_load(&reads) > RELEASES && atomic_load(&answers) > RELEASES && swaps() > 3);
	swapped = swaps();
	(void)shutdown(listener, SHUT_RDWR);
	mfs_scrub_stop(serve.scrub);
	mfs_repairs_stop(serve.repairs);
	mfs_updates_stop(serve.updates);
	mfs_control_stop(serve.control);
	(void)close(listener);
	wire_close(&wire);
	mfs_tree_free(serve.tree);
	mfs_remote_free(serve.remote);
	mock_join(&mock);
	(void)munmap(serve.shm, sizeof(*serve.shm));
	(void)close(repo_fd);
	mfs_policy_free(policy);
	mk_repo_free(repo);
	device_free(&d);
	printf("race_update: %lu reads, %lu answers, %llu swaps, floor %lld\n", atomic_load(&reads), atomic_load(&answers),
		(unsigned long long)swapped, (long long)floor);
	return 0;
}
