/* SPDX-License-Identifier: Apache-2.0 */
/* Health commands and hooks as keeper runs them: whatever they do, keeper goes on and says how it ended. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "keeper.h"
#include "scratch.h"

#define ENDS 2 /* serves, one after the other */

static struct mfs_config *config;
static char folder[256];
static pid_t keeper;
static int serve_end[ENDS];
static struct mfs_klink *klink;
static struct mfs_jobs *jobs;
static _Atomic unsigned hooks_ended;

static bool spying;

/* The host's user database, which may be slow: what does a job's init hold meanwhile? One line for each question. */
struct passwd *
getpwuid(uid_t uid)
{
	static char text[4096];
	static struct passwd p;
	struct passwd *out = NULL;
	int open_fds = 0, fd;
	char line[300];

	for (fd = 3; spying && fd < 256; fd++)
		open_fds += fcntl(fd, F_GETFD) >= 0;
	if (spying && getpid() == 1) {
		(void)snprintf(line, sizeof(line), "%s/open", folder);
		fd = open(line, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		(void)dprintf(fd, "%d\n", open_fds);
		(void)close(fd);
	}
	(void)getpwuid_r(uid, &p, text, sizeof(text), &out);
	return out;
}

static void
on_stop(void *user, bool gone)
{
	(void)user, (void)gone;
}

static void
on_hook(void *user, size_t model, enum mfs_job_kind kind, const struct mfs_job_result *r)
{
	(void)user, (void)model, (void)kind, (void)r;
	atomic_fetch_add(&hooks_ended, 1);
}

/* keeper's loop, but for the mount: a serve after the other on the given sockets. */
static __attribute__((noreturn)) void
keeper_run(const int *socks)
{
	static struct mfs_keeper k;
	int at = 0;

	k.config = config;
	k.state = MFS_KEEPER_RUNNING;
	k.mount.path = folder;
	k.serve = (struct mfs_kserve){ .sock = socks[0], .ready = true };
	for (;;) {
		struct pollfd p = { .fd = k.serve.sock, .events = POLLIN };
		struct mfs_kmsg m;
		int fd, r = -1, status;
		pid_t pid;

		if (poll(&p, 1, 10) == 1)
			r = mfs_kmsg_recv(k.serve.sock, &m, &fd);
		if (r > 0 && !mfs_keeper_verb(&k, &m))
			_exit(9); /* malformed */
		if (r == 0 && ++at == ENDS)
			break;
		if (r == 0) {
			(void)close(k.serve.sock);
			k.serve.sock = socks[at];
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			(void)mfs_kjobs_reaped(&k, pid, status, mfs_clock_mono_ms());
		mfs_kjobs_tick(&k, mfs_clock_mono_ms());
	}
	mfs_kjobs_end(&k);
	_exit(0);
}

static void
serve_connect(int end)
{
	cr_assert_eq(mfs_klink_start(serve_end[end], on_stop, NULL, &klink, NULL), MFS_OK);
	cr_assert_eq(mfs_jobs_new(klink, config, &jobs, NULL), MFS_OK);
	mfs_jobs_on_hook(jobs, on_hook, NULL);
}

static void
serve_gone(void)
{
	mfs_jobs_free(jobs);
	mfs_klink_stop(klink);
	jobs = NULL;
	klink = NULL;
}

static size_t place; /* of the model "det" in the configuration: its commands' user is the 61100th and so many */

/* One model "det" with these keys, and as many before it as its place says. */
static void
start(const char *model)
{
	static const char head[] = "trust: {keys: [k.pem]}\nmount: /m\nstate: /s\nstore: /t\nmodels: {";
	struct mfs_config_snapshot *s;
	struct mfs_err err = MFS_ERR_INIT;
	char text[4096];
	int socks[ENDS], n = snprintf(text, sizeof(text), "%s", head);

	for (size_t i = 0; i < place; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "a%02zu: {}, ", i);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "det: %s}\n", model);
	if (geteuid() != 0)
		cr_skip_test("not root");
	(void)close(scratch_make(folder, "jobs"));
	cr_assert_eq(chmod(folder, 0777), 0);
	cr_assert_eq(mfs_config_text("/etc/modelfs/m.yaml", text, (size_t)n, &s, &err), MFS_OK);
	cr_assert_eq(mfs_config_parse(s, &config, &err), MFS_OK, "%s", err.msg);
	mfs_config_snapshot_free(s);
	for (int i = 0; i < ENDS; i++) {
		int pair[2];

		cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		socks[i] = pair[0];
		serve_end[i] = pair[1];
	}
	(void)fflush(NULL);
	if ((keeper = fork()) == 0) {
		for (int i = 0; i < ENDS; i++)
			(void)close(serve_end[i]);
		keeper_run(socks);
	}
	for (int i = 0; i < ENDS; i++)
		(void)close(socks[i]);
	serve_connect(0);
}

static void
end_keep(void)
{
	int status = 0;

	if (jobs != NULL)
		serve_gone();
	else
		(void)close(serve_end[0]);
	for (int i = 1; i < ENDS; i++)
		(void)close(serve_end[i]);
	cr_assert_eq(waitpid(keeper, &status, 0), keeper);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "keeper ended with %x", (unsigned)status);
}

static void
end(void)
{
	end_keep();
	mfs_config_free(config);
	scratch_remove(folder);
}

/* A health command as shell text; more of the mapping in `more`. */
static void
start_health(const char *script, const char *more)
{
	char model[3000];

	(void)snprintf(model, sizeof(model), "{health: {command: [/bin/sh, -c, '%s']%s}}", script, more);
	start(model);
}

static struct mfs_job_request
request(const char *version)
{
	return (struct mfs_job_request){ .model = place, .kind = MFS_JOB_HEALTH, .reason = MFS_REASON_CANDIDATE, .outcome = MFS_OK,
		.version = version, .release = 15, .previous = "1.4.0" };
}

static struct mfs_job_result
run(void)
{
	struct mfs_job_request q = request("1.5.0");
	struct mfs_job_result r;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_job_run(jobs, &q, NULL, &r, &err), MFS_OK, "%s", err.msg);
	return r;
}

static void
ends_as(const char *script, const char *more, enum mfs_job_end how, int status)
{
	struct mfs_job_result r;

	start_health(script, more);
	r = run();
	cr_assert_eq(r.end, how, "%s: %s: %s", script, r.detail, r.output);
	cr_assert_eq(r.status, status, "%s: %s", script, r.detail);
	mfs_job_result_free(&r);
	end();
}

static bool
running(const char *needle)
{
	DIR *d = opendir("/proc");
	bool found = false;

	for (struct dirent *e; d != NULL && !found && (e = readdir(d)) != NULL;) {
		char path[300], text[512];
		ssize_t n;
		int fd;

		(void)snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			continue;
		n = read(fd, text, sizeof(text));
		(void)close(fd);
		/* an argument of its own: the shell that started it has it inside a longer one */
		found = n > 0 && memmem(text, (size_t)n, needle, strlen(needle) + 1) != NULL && strncmp(text, "sleep", 5) == 0;
	}
	(void)closedir(d);
	return found;
}

/* ---- how it ends -------------------------------------------------------------------------------------- */

Test(jobs, every_exit_is_told)
{
	ends_as("exit 0", "", MFS_JOB_EXITED, 0);
	ends_as("exit 75", "", MFS_JOB_EXITED, 75);
	ends_as("exit 3", "", MFS_JOB_EXITED, 3);
	ends_as("kill -SEGV $$", "", MFS_JOB_SIGNALED, SIGSEGV);
	ends_as("kill -KILL $$", "", MFS_JOB_SIGNALED, SIGKILL);
	ends_as("kill -KILL 1; kill -KILL -1; exit 4", "", MFS_JOB_EXITED, 4); /* its init cannot be killed by it */
}

Test(jobs, what_cannot_be_started_is_not_the_models_fault)
{
	struct mfs_job_result r;

	start("{health: {command: [/does/not/exist]}}");
	r = run();
	cr_assert_eq(r.end, MFS_JOB_NOT_STARTED, "%s", r.detail);
	cr_assert_not_null(strstr(r.detail, "/does/not/exist"), "%s", r.detail);
	mfs_job_result_free(&r);
	end();
	ends_as("exit 0", ", devices: [/dev/does-not-exist]", MFS_JOB_NOT_STARTED, 0);
	ends_as("exit 0", ", devices: [/etc/passwd]", MFS_JOB_NOT_STARTED, 0);
	ends_as("exit 0", ", devices: [/dev/mem]", MFS_JOB_NOT_STARTED, 0);
	ends_as("exit 0", ", devices: [/dev/null]", MFS_JOB_EXITED, 0);
	ends_as("exit 0", ", user: 61180", MFS_JOB_NOT_STARTED, 0); /* serve's */
}

Test(jobs, environment_user_and_descriptors)
{
	static const char *const want[] = { "MODELFS_MODEL=det\n", "MODELFS_VERSION=1.5.0\n", "MODELFS_RELEASE=15\n",
		"/det/versions/1.5.0\n", "/det/versions/1.4.0\n", "MODELFS_REASON=candidate\n", "MODELFS_OUTCOME=ok\n",
		"/det/manifests/1.5.0.json\n", "uid=61100 gid=61100 groups=61100\n", "fds 0 1 2 3 \n", "stdin 0\n", "cwd /\n",
		"nnp NoNewPrivs:\t1\n" };
	struct mfs_job_result r;

	(void)setenv("MODELFS_SECRET", "1", 1);
	start_health("env; id; echo \"fds $(ls /proc/self/fd | tr \"\\n\" \" \")\"; " /* ls has one more */
		"echo stdin $(wc -c); echo cwd $PWD; echo \"nnp $(grep NoNew /proc/self/status)\"", "");
	r = run();
	cr_assert_eq(r.end, MFS_JOB_EXITED, "%s", r.detail);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		cr_assert_not_null(strstr(r.output, want[i]), "no %s in: %s", want[i], r.output);
	cr_assert_null(strstr(r.output, "MODELFS_SECRET"), "%s", r.output);
	mfs_job_result_free(&r);
	end();
}

/* ---- what it may not do --------------------------------------------------------------------------------- */

static char *
lines(const char *name)
{
	char path[300];
	uint8_t *out = NULL;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	(void)mfs_file_read(AT_FDCWD, path, 65536, &out, &n, NULL);
	return (char *)out;
}

/* Output, cgroup, keeper: not the socket to serve, nor /dev/fuse, which stands for whatever keeper has open. */
Test(jobs, who_asks_for_a_user_holds_nothing_of_keepers)
{
	struct mfs_job_result r;
	char *got;

	spying = true;
	start_health("exit 0", "");
	r = run();
	mfs_job_result_free(&r);
	got = lines("open");
	cr_assert_str_eq(got, "3\n", "%s", got);
	free(got);
	end();
}

Test(jobs, a_command_that_hangs_is_killed_with_its_children)
{
	char script[300], needle[64], limit[32];
	bool started = false;

	(void)snprintf(needle, sizeof(needle), "7%d.25", (int)getpid());
	(void)snprintf(script, sizeof(script), "trap \"\" TERM INT HUP; setsid sleep %s & sleep %s & echo started; sleep %s", needle,
		needle, needle);
	/* Where much else runs, the first limit may be over before the command has begun. */
	for (int ms = 700; ms < 60000 && !started; ms *= 4) {
		struct mfs_job_result r;

		(void)snprintf(limit, sizeof(limit), ", timeout: %dms", ms);
		start_health(script, limit);
		r = run();
		cr_assert_eq(r.end, MFS_JOB_TIMED_OUT, "%s", r.detail);
		started = strcmp(r.output, "started\n") == 0;
		for (int i = 0; i < 1500 && running(needle); i++)
			(void)usleep(20000);
		cr_assert_not(running(needle), "a child outlives its check");
		mfs_job_result_free(&r);
		end();
	}
	cr_assert(started);
}

Test(jobs, children_left_behind_go_with_the_command)
{
	char script[300], needle[64];
	struct mfs_job_result r;

	(void)snprintf(needle, sizeof(needle), "8%d.25", (int)getpid());
	(void)snprintf(script, sizeof(script), "setsid sleep %s & exit 0", needle);
	start_health(script, "");
	r = run();
	cr_assert_eq(r.end, MFS_JOB_EXITED, "%s", r.detail);
	for (int i = 0; i < 1500 && running(needle); i++)
		(void)usleep(20000);
	cr_assert_not(running(needle), "a child outlives its check");
	mfs_job_result_free(&r);
	end();
}

/* Its user has that many processes, whoever runs them: not the one of other tests, or of this one in another build. */
Test(jobs, a_command_that_forks_without_end_is_bounded, .timeout = 300)
{
	place = 20 + (size_t)getpid() % 40;
	ends_as("f() { f | f & }; f; exit 5", ", timeout: 200s", MFS_JOB_EXITED, 5);
}

/* Also where the configuration names its user, who may have other processes. */
Test(jobs, a_configured_user_is_bounded_too, .timeout = 300)
{
	char more[64];

	(void)snprintf(more, sizeof(more), ", user: %d, timeout: 200s", 62000 + (int)getpid() % 1000); /* nobody else's here */
	ends_as("i=0; while [ $i -lt 1500 ]; do sleep 250 & i=$((i + 1)); done 2>/dev/null; exit 5", more, MFS_JOB_EXITED,
		2); /* the shell cannot fork */
	ends_as("i=0; while [ $i -lt 300 ]; do sleep 250 & i=$((i + 1)); done; exit 5", more, MFS_JOB_EXITED, 5);
}

Test(jobs, a_command_that_prints_without_end_keeps_its_head)
{
	char limit[32];
	bool much = false;

	/* As above: it may need longer to print as much as is kept. */
	for (int ms = 500; ms < 60000 && !much; ms *= 4) {
		struct mfs_job_result r;

		(void)snprintf(limit, sizeof(limit), ", timeout: %dms", ms);
		start_health("echo head; exec yes 0123456789", limit);
		r = run();
		cr_assert_eq(r.end, MFS_JOB_TIMED_OUT, "%s", r.detail);
		much = r.truncated;
		cr_assert(!much || (r.output_len == MFS_JOB_OUTPUT_MAX && strncmp(r.output, "head\n0123", 9) == 0));
		mfs_job_result_free(&r);
		end();
	}
	cr_assert(much);
}

Test(jobs, memory_is_limited)
{
	struct mfs_job_result r;

	start_health("x=$(head -c 300000000 /dev/zero | tr \"\\\\000\" x); echo ${#x}", ", memory: 64MiB, timeout: 20s");
	r = run();
	cr_assert(r.end == MFS_JOB_NO_MEMORY || (r.end == MFS_JOB_EXITED && r.status != 0) || r.end == MFS_JOB_SIGNALED,
		"%s: %s", r.detail, r.output);
	cr_assert_null(strstr(r.output, "300000000"));
	mfs_job_result_free(&r);
	end();
}

/* What a connect to a closed port of the host itself says. */
static void
network_says(const char *more, const char *want)
{
	struct mfs_job_result r;
	char model[600];

	(void)snprintf(model, sizeof(model), "{health: {command: [/bin/bash, -c, 'cat /proc/net/dev | tail -n +3 | cut -d: -f1; "
		"LC_ALL=C; exec 3<>/dev/tcp/127.0.0.1/9']%s}}", more);
	start(model);
	r = run();
	cr_assert_not_null(strstr(r.output, want), "%s", r.output);
	cr_assert_eq(strncmp(r.output, "    lo\n", 7), 0, "other interfaces than lo: %s", r.output);
	mfs_job_result_free(&r);
	end();
}

Test(jobs, the_network_is_empty_or_loopback)
{
	network_says("", "unreachable");
	network_says(", network: loopback", "refused");
}

/* ---- hooks --------------------------------------------------------------------------------------------------- */

Test(jobs, hooks_run_one_at_a_time_and_the_newest_wins)
{
	struct mfs_job_request q = request("1.0.0");
	char script[2000], base[256], *got;

	(void)close(scratch_make(base, "hooks"));
	cr_assert_eq(chmod(base, 0777), 0);
	(void)snprintf(script, sizeof(script), "{on_change: [/bin/sh, -c, 'mkdir %s/running || echo twice >>%s/log; "
		"echo $MODELFS_REASON $MODELFS_VERSION >>%s/log; sleep 0.4; rmdir %s/running']}", base, base, base, base);
	start(script);
	q.kind = MFS_JOB_ON_CHANGE;
	q.reason = MFS_REASON_SWAP;
	for (int i = 0; i < 6; i++) {
		char version[16];

		(void)snprintf(version, sizeof(version), "1.%d.0", i);
		q.version = version;
		mfs_job_hook(jobs, &q);
	}
	q.version = "1.5.0";
	q.kind = MFS_JOB_ON_REJECT; /* not configured: nothing happens */
	mfs_job_hook(jobs, &q);
	for (int i = 0; i < 500 && atomic_load(&hooks_ended) < 2; i++)
		(void)usleep(10000);
	scratch_remove(folder);
	(void)snprintf(folder, sizeof(folder), "%s", base);
	got = lines("log");
	cr_assert_str_eq(got, "swap 1.0.0\nswap 1.5.0\n", "%s", got);
	free(got);
	end();
}

/* ---- serve dies, serve lies ---------------------------------------------------------------------------------- */

static void *
run_and_die(void *arg)
{
	struct mfs_job_request q = request("1.5.0");
	struct mfs_job_result r;

	*(enum mfs_code *)arg = mfs_job_run(jobs, &q, NULL, &r, NULL);
	return NULL;
}

Test(jobs, a_check_goes_on_when_serve_dies_and_the_next_one_gets_its_result)
{
	struct mfs_kmsg m = { .verb = MFS_K_JOB, .slot = MFS_JOB_HEALTH, .value = 15, .text = "1.5.0\n1.4.0\n\n" }, reply;
	struct mfs_job_result r;

	start_health("sleep 0.5; echo once $$", ", timeout: 10s");
	cr_assert_eq(mfs_klink_ask(klink, &m, &reply, NULL), MFS_OK);
	serve_gone();
	serve_connect(1);
	r = run();
	cr_assert_eq(r.end, MFS_JOB_EXITED, "%s", r.detail);
	cr_assert_eq(reply.value, 1, "the first job");
	cr_assert_eq(mfs_klink_ask(klink, &m, &reply, NULL), MFS_OK);
	cr_assert_eq(reply.value, 2, "it had not been started twice before");
	mfs_job_result_free(&r);
	end();
}

Test(jobs, a_check_is_cancelled)
{
	_Atomic int cancel = 1;
	struct mfs_job_request q = request("1.5.0");
	struct mfs_job_result r;
	struct mfs_err err = MFS_ERR_INIT;

	start_health("sleep 60", "");
	cr_assert_eq(mfs_job_run(jobs, &q, &cancel, &r, &err), MFS_CONDITION_UNMET, "%s", err.msg);
	end();
}

Test(jobs, only_one_check_of_a_model)
{
	struct mfs_job_request other = request("1.6.0");
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_job_result r;
	enum mfs_code first = MFS_OK;
	pthread_t t;

	start_health("sleep 60", "");
	cr_assert_eq(pthread_create(&t, NULL, run_and_die, &first), 0);
	(void)usleep(200000);
	cr_assert_eq(mfs_job_run(jobs, &other, NULL, &r, &err), MFS_CONDITION_UNMET);
	cr_assert_not_null(strstr(err.msg, "another check"), "%s", err.msg);
	(void)kill(keeper, SIGKILL); /* and what it ran goes with it */
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert_eq(first, MFS_IO);
	mfs_jobs_free(jobs);
	mfs_klink_stop(klink);
	cr_assert_eq(waitpid(keeper, NULL, 0), keeper);
	mfs_config_free(config);
	scratch_remove(folder);
}

static _Atomic bool hook_is_told, hook_is_noted;

static void
slow_hook(void *user, size_t model, enum mfs_job_kind kind, const struct mfs_job_result *r)
{
	(void)user, (void)model, (void)kind, (void)r;
	atomic_store(&hook_is_told, true);
	while (!atomic_load(&hook_is_noted))
		(void)usleep(1000);
}

Test(jobs, the_end_of_a_hook_that_takes_long_to_be_written_down_holds_up_nothing_else, .timeout = 120)
{
	const struct mfs_job_request hook = { .kind = MFS_JOB_ON_CHANGE, .reason = MFS_REASON_SWAP, .version = "1.5.0", .release = 15 };
	struct mfs_job_request q = request("1.5.0");
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_job_result r;
	enum mfs_code code;

	start("{health: {command: [/bin/true]}, on_change: [/bin/false]}");
	mfs_jobs_on_hook(jobs, slow_hook, NULL);
	mfs_job_hook(jobs, &hook);
	while (!atomic_load(&hook_is_told))
		(void)usleep(1000);
	code = mfs_job_run(jobs, &q, NULL, &r, &err); /* by the same link, as keeper's pings */
	atomic_store(&hook_is_noted, true);
	cr_assert_eq(code, MFS_OK, "%s", err.msg);
	cr_assert_eq(r.end, MFS_JOB_EXITED, "%s", r.detail);
	mfs_job_result_free(&r);
	end();
}

/* A keeper in whose socket the end of a check that was cancelled stands before its answer to the next question. */
static void *
keeper_late(void *arg)
{
	const int sock = *(int *)arg;
	struct mfs_kmsg m, old = { .verb = MFS_K_JOB_DONE, .seq = 7, .result = MFS_JOB_EXITED, .value = 1, .text = "exit 1" },
		own = { .verb = MFS_K_JOB_DONE, .seq = 8, .result = MFS_JOB_EXITED, .text = "exit 0" }, reply = { .verb = MFS_K_REPLY, .value = 8 };
	int fd;

	while (mfs_kmsg_recv(sock, &m, &fd) > 0 && m.verb != MFS_K_JOB)
		;
	reply.seq = m.seq;
	(void)mfs_kmsg_send(sock, &old, -1);
	(void)usleep(20000);
	(void)mfs_kmsg_send(sock, &reply, -1);
	(void)mfs_kmsg_send(sock, &old, -1);
	(void)mfs_kmsg_send(sock, &own, -1);
	while (mfs_kmsg_recv(sock, &m, &fd) > 0)
		;
	return NULL;
}

Test(jobs, the_end_of_another_check_is_not_taken_for_this_one)
{
	struct mfs_job_result r;
	pthread_t t;
	int pair[2];

	start_health("sleep 60", ""); /* for its configuration */
	end_keep();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(pthread_create(&t, NULL, keeper_late, &pair[0]), 0);
	serve_end[0] = pair[1];
	serve_connect(0);
	r = run();
	cr_assert_eq(r.end, MFS_JOB_EXITED);
	cr_assert_eq(r.status, 0, "judged by another version's command: %s", r.detail);
	mfs_job_result_free(&r);
	serve_gone();
	cr_assert_eq(pthread_join(t, NULL), 0);
	(void)close(pair[0]);
	mfs_config_free(config);
	scratch_remove(folder);
}

static void *
turn_wait(void *arg)
{
	*(enum mfs_code *)arg = mfs_job_turn(jobs, 0, true, NULL, NULL);
	return NULL;
}

Test(jobs, checks_of_a_model_take_turns)
{
	_Atomic int cancel = 1;
	enum mfs_code code = MFS_INTERNAL;
	pthread_t t;

	start_health("exit 0", "");
	cr_assert_eq(mfs_job_turn(jobs, 0, true, NULL, NULL), MFS_OK);
	cr_assert_eq(mfs_job_turn(jobs, 0, false, NULL, NULL), MFS_CONDITION_UNMET);
	cr_assert_eq(mfs_job_turn(jobs, 0, true, &cancel, NULL), MFS_CONDITION_UNMET);
	cr_assert_eq(mfs_job_turn(jobs, 0, false, NULL, NULL), MFS_CONDITION_UNMET, "whoever gave up took nothing away");
	cr_assert_eq(pthread_create(&t, NULL, turn_wait, &code), 0);
	(void)usleep(50000);
	mfs_job_turn_end(jobs, 0);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert_eq(code, MFS_OK);
	cr_assert_eq(mfs_job_turn(jobs, 0, false, NULL, NULL), MFS_CONDITION_UNMET);
	mfs_job_turn_end(jobs, 0);
	cr_assert_eq(mfs_job_turn(jobs, 0, false, NULL, NULL), MFS_OK);
	end();
}

static void
ends_keeper(const struct mfs_kmsg *m)
{
	int status;

	start_health("exit 0", "");
	cr_assert_eq(mfs_klink_tell(klink, m, NULL), MFS_OK);
	cr_assert_eq(waitpid(keeper, &status, 0), keeper);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 9, "taken: '%s'", m->text);
	serve_gone();
	(void)close(serve_end[1]);
	mfs_config_free(config);
	scratch_remove(folder);
}

Test(jobs, a_lying_serve_is_refused)
{
	static const char *const texts[] = { "", "1.5.0", "1.5.0\n", "1.5.0\n1.4.0\n", "\n\n\n", "1.5.0\n\n\nx", "../../etc\n\n\n",
		"1.5.0/x\n\n\n", "1.5.0\n..\n\n", "1.5.0\n\n../../../etc/shadow\n", "1.5.0\n\n/etc/shadow\n", "1.5.0\n\na\x01\n",
		"1.5.0+\n\n\n", "1.5.0+a/b\n\n\n", "1.5.0+a+b\n\n\n", "$(id)\n\n\n" };
	struct mfs_kmsg m = { .verb = MFS_K_JOB, .value = 1 };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		(void)snprintf(m.text, sizeof(m.text), "%s", texts[i]);
		ends_keeper(&m);
	}
	(void)snprintf(m.text, sizeof(m.text), "1.5.0\n\n\n");
	m.model = 1;
	ends_keeper(&m);
	m.model = 0;
	m.slot = MFS_JOB_KINDS;
	ends_keeper(&m);
	m.slot = 0;
	m.size = MFS_REASONS;
	ends_keeper(&m);
	m.size = 0;
	m.value = -1;
	ends_keeper(&m);
}
