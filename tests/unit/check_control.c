/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket under peers that do everything wrong: serve answers the others all the same. */
#include <criterion/criterion.h>
#include <grp.h>
#include <pthread.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "client.h"
#include "device.h"
#include "serve.h"

static struct device d;
static struct mfs_serve serve;
static int listener;
static char run[300];

static void
set_up(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct mfs_err err = MFS_ERR_INIT;

	device_make(&d, "");
	device_open(&d);
	(void)snprintf(run, sizeof(run), "%s/run", d.root);
	cr_assert_eq(mkdir(run, 0755), 0);
	cr_assert_eq(chmod(d.root, 0755), 0);
	free(d.config->run);
	d.config->run = strdup(run);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_lt(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control", run), (int)sizeof(addr.sun_path));
	cr_assert_eq(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(chmod(addr.sun_path, 0666), 0);
	cr_assert_eq(listen(listener, 128), 0);
	serve = (struct mfs_serve){ .config = d.config, .keys = d.keys, .store = d.store, .cache = d.cache, .events = d.events,
		.engine = d.engine, .state_dirfd = d.state_fd };
	serve.shm = mmap(NULL, sizeof(*serve.shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(serve.shm, MAP_FAILED);
	serve.shm->rootless = geteuid() != 0;
	cr_assert_eq(mfs_control_start(&serve, listener, &serve.control, &err), MFS_OK, "%s", err.msg);
}

static void
tear_down(void)
{
	mfs_control_stop(serve.control);
	(void)munmap(serve.shm, sizeof(*serve.shm));
	(void)close(listener);
	device_close(&d);
	device_free(&d);
}

TestSuite(control, .init = set_up, .fini = tear_down, .timeout = 60);

static int
peer(void)
{
	struct mfs_err err = MFS_ERR_INIT;
	int fd;

	cr_assert_eq(mfs_client_connect(d.config, &fd, &err), MFS_OK, "%s", err.msg);
	return fd;
}

static void
ask(const struct mfs_ctl_request *r, struct mfs_ctl_reply *out)
{
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_client_ask(d.config, r, 20000, NULL, NULL, out, &err), MFS_OK, "%s", err.msg);
}

/* The proof that serve is well: a status is answered. */
static void
still_answers(void)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_STATUS, .timeout_ms = -1, .json = true };
	struct mfs_ctl_reply reply;
	json_t *status;

	ask(&r, &reply);
	cr_assert_eq(reply.code, MFS_OK, "%s", reply.detail);
	status = json_loads(json_string_value(json_object_get(reply.body, "text")), 0, NULL);
	cr_assert_eq(json_array_size(json_object_get(status, "models")), d.config->n_models);
	json_decref(status);
	json_decref(reply.body);
}

/* Everything the other end sends until it closes. */
static char *
rest(int fd)
{
	char *out = calloc(1, 1 << 20);
	size_t n = 0;
	ssize_t got;

	while (n < (1 << 20) - 1 && (got = recv(fd, out + n, (1 << 20) - 1 - n, 0)) > 0)
		n += (size_t)got;
	return out;
}

Test(control, a_malformed_frame_ends_the_peer_and_says_why)
{
	static const char *const bad[] = { "garbage\n", "\n", "{}\n", "[]\n", "{\"format\":\"modelfs-control/1\",\"command\":\"x\"}\n",
		"\xff\xff\xff\n", "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":\"..\"}\n" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = peer();
		char *text;

		cr_assert_eq(send(fd, bad[i], strlen(bad[i]), MSG_NOSIGNAL), (ssize_t)strlen(bad[i]));
		text = rest(fd);
		cr_assert_not_null(strstr(text, "\"outcome\":\"malformed\""), "%s -> %s", bad[i], text);
		free(text);
		(void)close(fd);
	}
	still_answers();
}

Test(control, a_line_without_end_is_cut_off_at_its_cap)
{
	int fd = peer();
	char *text, block[4096];

	memset(block, 'x', sizeof(block));
	for (size_t n = 0; n < 2 * MFS_CTL_REQUEST_MAX; n += sizeof(block))
		if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
			break;
	text = rest(fd);
	cr_assert_not_null(strstr(text, "\"outcome\":\"malformed\""), "%s", text);
	free(text);
	(void)close(fd);
	still_answers();
}

Test(control, a_peer_that_says_nothing_or_half_a_line_does_not_hold_up_others)
{
	int silent = peer(), half = peer();

	cr_assert_eq(send(half, "{\"format\":", 10, MSG_NOSIGNAL), 10);
	still_answers();
	(void)close(half);
	(void)close(silent);
	still_answers();
}

Test(control, more_connections_than_allowed_are_refused_politely)
{
	int fds[64];
	unsigned refused = 0;
	char *text;

	for (int i = 0; i < 64; i++)
		fds[i] = peer();
	for (int i = 63; i >= 40; i--) { /* the last to come: beyond 32 */
		text = rest(fds[i]);
		refused += strstr(text, "\"outcome\":\"rate_limited\"") != NULL;
		free(text);
	}
	cr_assert_eq(refused, 24);
	for (int i = 0; i < 64; i++)
		(void)close(fds[i]);
	still_answers();
}

Test(control, several_requests_on_one_connection_are_answered_in_order)
{
	static const char two[] = "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":\"det\"}\n"
				  "{\"format\":\"modelfs-control/1\",\"command\":\"unpin\",\"model\":\"det\"}\n"
				  "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":\"none\"}\n";
	const char *first, *second, *third;
	int fd = peer();
	char *text;

	cr_assert_eq(send(fd, two, strlen(two), MSG_NOSIGNAL), (ssize_t)strlen(two));
	cr_assert_eq(shutdown(fd, SHUT_WR), 0); /* as `nc -N` does: the answers come all the same */
	text = rest(fd);
	first = strstr(text, "\"text\":\"model:      det");
	second = strstr(text, "was not held");
	third = strstr(text, "no model 'none'");
	cr_assert(first != NULL && second != NULL && third != NULL && first < second && second < third, "%s", text);
	free(text);
	(void)close(fd);
}

/*
 * fn with the rights of another user, in a thread that gives up root's for itself alone, as the kernel lets it: a child
 * of fork() would have the locks of the threads that it does not have, which hangs under the address sanitizer.
 */
struct other {
	bool (*fn)(void);
	bool fine;
};

static void *
other_run(void *arg)
{
	const gid_t more[2] = { 4710, 4711 };
	struct other *o = arg;

	o->fine = syscall(SYS_setgroups, 2, more) == 0 && syscall(SYS_setresgid, 12345, 12345, 12345) == 0 &&
		syscall(SYS_setresuid, 12345, 12345, 12345) == 0 && o->fn();
	return NULL;
}

static void
expect_as_other(bool (*fn)(void))
{
	struct other o = { .fn = fn };
	pthread_t t;

	cr_assert_eq(pthread_create(&t, NULL, other_run, &o), 0);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert(o.fine);
}

static bool
refused_what_changes(void)
{
	bool fine = true;

	for (enum mfs_ctl_command c = 0; c < MFS_CTL_COMMANDS && fine; c++) {
		struct mfs_ctl_request r = { .command = c, .model = "det", .model_id = "det", .version = "1.0.0",
			.variant = "default", .release = 1, .key_epoch = 1, .manifest.b[0] = 1, .outcome = MFS_IO, .detail = "x" };
		struct mfs_ctl_reply reply;

		fine = mfs_client_ask(d.config, &r, 20000, NULL, NULL, &reply, NULL) == MFS_OK &&
			(reply.code == MFS_POLICY_REJECTED) == mfs_ctl_changes(c);
		json_decref(reply.body);
	}
	return fine;
}

Test(control, only_root_may_change_anything)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	expect_as_other(refused_what_changes);
}

static bool
unpin_does_nothing(void)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_UNPIN, .timeout_ms = -1, .model = "det" };
	struct mfs_ctl_reply reply;
	bool fine = mfs_client_ask(d.config, &r, 20000, NULL, NULL, &reply, NULL) == MFS_OK;

	if (fine)
		json_decref(reply.body);
	return fine && reply.code == MFS_OK && reply.exit_code == 2;
}

Test(control, the_control_group_may_change_things)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	d.config->control_group = strdup("operators");
	d.config->control_gid = 4711;
	expect_as_other(unpin_does_nothing);
}

Test(control, nobody_without_rights_can_use_up_all_connections)
{
	pid_t pid;
	int status, ready[2], go[2];
	char c;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(pipe(ready), 0);
	cr_assert_eq(pipe(go), 0);
	if ((pid = fork()) == 0) {
		int fds[40];

		(void)close(go[1]);
		if (setgid(12345) != 0 || setuid(12345) != 0)
			_exit(1);
		for (int i = 0; i < 40; i++)
			if (mfs_client_connect(d.config, &fds[i], NULL) != MFS_OK)
				_exit(2);
		(void)!write(ready[1], "x", 1);
		(void)!read(go[0], &c, 1);
		_exit(0);
	}
	(void)close(go[0]);
	cr_assert_eq(read(ready[0], &c, 1), 1);
	still_answers(); /* root is answered while they are held */
	(void)close(go[1]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	(void)close(ready[0]);
	(void)close(ready[1]);
}

Test(control, wait_ends_with_the_version_or_with_its_time)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_WAIT, .timeout_ms = 0, .model = "det", .version = "1.0.0" };
	struct mk_bundle b = { .version = "1.0.0", .model_key = &d.model_key };
	struct mfs_ctl_reply reply;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_sha256 id;
	char *line;
	size_t len;
	int fd;

	ask(&r, &reply);
	cr_assert_eq(reply.code, MFS_CONDITION_UNMET);
	cr_assert_eq(reply.exit_code, 4);
	json_decref(reply.body);
	/* asked first, activated then */
	fd = peer();
	r.timeout_ms = 20000;
	cr_assert_eq(mfs_ctl_request_line(&r, &line, &len, &err), MFS_OK);
	cr_assert_eq(send(fd, line, len, MSG_NOSIGNAL), (ssize_t)len);
	free(line);
	device_bundle(&d, &b, "b", &id);
	cr_assert_eq(device_copy(&d, "b", &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(device_activate(&d, &id, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	line = rest(fd);
	cr_assert_not_null(strstr(line, "det 1.0.0 is active"), "%s", line);
	free(line);
	(void)close(fd);
}

Test(control, decide_answers_for_what_would_be_copied_and_refuses_an_older_release)
{
	struct mk_bundle b = { .version = "2.0.0", .release = 5, .model_key = &d.model_key };
	struct mfs_ctl_request r = { .command = MFS_CTL_DECIDE, .timeout_ms = -1, .model = "det", .model_id = "det",
		.version = "1.0.0", .variant = "default", .release = 4, .key_epoch = 1, .manifest = { { 9 } } };
	struct mfs_ctl_reply reply;
	struct mfs_sha256 id;

	device_install(&d, &b, &id);
	ask(&r, &reply);
	cr_assert_eq(reply.code, MFS_ROLLBACK_ATTEMPT, "%s", reply.detail);
	cr_assert_eq(reply.exit_code, 3);
	json_decref(reply.body);
	r.release = 6;
	(void)snprintf(r.version, sizeof(r.version), "2.1.0");
	ask(&r, &reply);
	cr_assert_eq(reply.code, MFS_OK, "%s", reply.detail);
	cr_assert(json_is_false(json_object_get(reply.body, "same")));
	cr_assert_str_eq(json_string_value(json_object_get(reply.body, "active")), "2.0.0");
	json_decref(reply.body);
}

Test(control, a_refused_bundle_shows_in_events_and_status)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_NOTE, .timeout_ms = -1, .model = "det", .version = "3.0.0",
		.outcome = MFS_HASH_MISMATCH, .detail = "b: payload/x: chunk 3" };
	struct mfs_ctl_reply reply;
	char *text;
	int fd;

	ask(&r, &reply);
	cr_assert_eq(reply.code, MFS_OK, "%s", reply.detail);
	json_decref(reply.body);
	fd = peer();
	text = (char *)(uintptr_t)"{\"format\":\"modelfs-control/1\",\"command\":\"events\",\"model\":\"det\"}\n"
				  "{\"format\":\"modelfs-control/1\",\"command\":\"status\",\"model\":\"det\"}\n";
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	text = rest(fd);
	cr_assert_not_null(strstr(text, "\"event\":{"), "%s", text);
	cr_assert_not_null(strstr(text, "\"outcome\":\"hash_mismatch\""), "%s", text);
	cr_assert_not_null(strstr(text, "last:       hash_mismatch"), "%s", text);
	free(text);
	(void)close(fd);
}

Test(control, who_follows_events_gets_them_and_a_stop_answers_everybody)
{
	static const char follow[] = "{\"format\":\"modelfs-control/1\",\"command\":\"events\",\"follow\":true}\n";
	int fd = peer();
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char *text;

	cr_assert_eq(send(fd, follow, strlen(follow), MSG_NOSIGNAL), (ssize_t)strlen(follow));
	mfs_event(d.events, &(struct mfs_event){ .model = "det", .code = MFS_IO, .source = "read", .detail = "by test" });
	cr_assert_eq(poll(&p, 1, 20000), 1);
	mfs_control_stop(serve.control);
	serve.control = NULL;
	text = rest(fd);
	cr_assert_not_null(strstr(text, "by test"), "%s", text);
	cr_assert_not_null(strstr(text, "stopping or restarting"), "%s", text);
	free(text);
	(void)close(fd);
}

/* In a child of that user: fn's exit code, or 100. The process goes on until `over` is closed. */
static pid_t
as_user(uid_t uid, int (*fn)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		if (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
			_exit(100);
		_exit(fn());
	}
	cr_assert_gt(pid, 0);
	return pid;
}

static int
exit_code(pid_t pid)
{
	int status = -1;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
status_outcome(void)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_STATUS, .timeout_ms = -1 };
	struct mfs_ctl_reply reply;

	if (mfs_client_ask(d.config, &r, 20000, NULL, NULL, &reply, NULL) != MFS_OK)
		return 102;
	json_decref(reply.body);
	return (int)reply.code;
}

static int full[2], over[2];

/* Connections that follow the events and never read, many more than one user gets. */
static int
hold_many(void)
{
	static const char follow[] = "{\"format\":\"" MFS_CTL_FORMAT "\",\"command\":\"events\",\"follow\":true}\n";
	char c;

	for (int i = 0; i < 40; i++)
		(void)send(peer(), follow, sizeof(follow) - 1, MSG_NOSIGNAL);
	if (status_outcome() != MFS_RATE_LIMITED)
		return 103;
	(void)close(over[1]);
	return write(full[1], "x", 1) == 1 && read(over[0], &c, 1) == 0 ? 0 : 104;
}

Test(control, one_user_does_not_keep_another_out)
{
	pid_t holder;
	char c;

	if (geteuid() != 0)
		cr_skip_test("not root");
	cr_assert_eq(pipe(full), 0);
	cr_assert_eq(pipe(over), 0);
	holder = as_user(61001, hold_many);
	(void)close(full[1]);
	cr_assert_eq(read(full[0], &c, 1), 1, "the first user: %d", exit_code(holder));
	cr_assert_neq(exit_code(as_user(61001, status_outcome)), MFS_OK);
	cr_assert_eq(exit_code(as_user(61002, status_outcome)), MFS_OK);
	still_answers();
	(void)close(over[1]);
	cr_assert_eq(exit_code(holder), 0);
}

/* Many requests in one go: all are answered, one after the other, and others get theirs in between. */
Test(control, requests_in_a_row_are_all_answered)
{
	static const char line[] = "{\"format\":\"" MFS_CTL_FORMAT "\",\"command\":\"status\"}\n";
	char text[200 * (sizeof(line) - 1)], got[16384];
	unsigned answers = 0;
	int fd = peer();
	ssize_t n;

	for (unsigned i = 0; i < 200; i++)
		memcpy(text + i * (sizeof(line) - 1), line, sizeof(line) - 1);
	cr_assert_eq(send(fd, text, sizeof(text), MSG_NOSIGNAL), (ssize_t)sizeof(text));
	still_answers();
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	while ((n = recv(fd, got, sizeof(got), 0)) > 0)
		for (ssize_t i = 0; i < n; i++)
			answers += got[i] == '\n';
	cr_assert_eq(answers, 200);
	(void)close(fd);
}
