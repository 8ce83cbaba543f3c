/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remoteget - the whole way of a request without a mount: modelfs-fetch is started with the origins of
 * a configuration, as keeper does, and asked through serve's end.
 *
 *	remoteget CONFIG|--from=WHERE [OPTION]... REQUEST...
 *
 *	REQUEST  meta:PATH target:PATH grant:PATH blob:HASH/PART post:TEXT facts pid sleep:MS
 *	         one after the other; before its own colon: any of these, to be kept for what follows
 *	OPTION   repo=N mirror=N range=FROM,LENGTH cap=N discard=N deadline=MS etag=E out=FILE slow=BYTES,S
 *	         threads=N (each sends the requests) bus=PATH power=PATH kill=MS (SIGKILL to fetch after MS)
 *
 * Prints one line per request: outcome, status, bytes, from, total, etag, text. Exit 0 unless it is misused.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "kfetch.h"
#include "log.h"
#include "remote.h"
#include "span.h"

struct run {
	struct mfs_fetch_args args;
	struct mfs_remote *remote;
	struct mfs_remote_request q;
	char *out;
	int kill_ms;
	unsigned threads;
	char **requests;
};

static pid_t fetch_pid;

static enum mfs_code
start(void *user, int *sock, struct mfs_err *err)
{
	if (fetch_pid > 0)
		(void)waitpid(fetch_pid, NULL, WNOHANG);
	return mfs_fetch_spawn(user, sock, &fetch_pid, err);
}

struct counted {
	uint64_t n, sum;
	int fd;
};

static enum mfs_code
sink(void *user, const void *p, size_t n, struct mfs_err *err)
{
	struct counted *c = user;

	c->n += n;
	if (c->fd >= 0 && mfs_write_full(c->fd, p, n) != 0)
		return mfs_fail_sys(err, MFS_IO, "output");
	return MFS_OK;
}

static void *
killer(void *arg)
{
	const struct run *r = arg;
	const struct timespec ts = { r->kill_ms / 1000, (long)(r->kill_ms % 1000) * 1000000 };

	(void)nanosleep(&ts, NULL);
	(void)kill(fetch_pid, SIGKILL);
	return NULL;
}

static void
facts_print(struct run *r)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_wire_facts f;

	if (mfs_remote_conditions(r->remote, NULL, &f, &err) != MFS_OK) {
		printf("%s %s\n", mfs_code_name(err.code), err.msg);
		return;
	}
	printf("ok on_ac=%d battery=%d metered=%u nets=", f.on_ac, f.battery, f.metered);
	for (uint32_t i = 0; i < f.n_nets; i++)
		printf("%s%s", i > 0 ? "," : "", f.nets[i]);
	printf("\n");
}

static bool
request_parse(struct mfs_remote_request *q, const char *s)
{
	const struct {
		const char *name;
		enum mfs_remote_kind kind;
	} kinds[] = { { "meta:", MFS_REMOTE_METADATA }, { "target:", MFS_REMOTE_TARGET }, { "grant:", MFS_REMOTE_GRANT } };

	for (size_t i = 0; i < 3; i++)
		if (strncmp(s, kinds[i].name, strlen(kinds[i].name)) == 0) {
			q->kind = kinds[i].kind;
			q->path = s + strlen(kinds[i].name);
			return true;
		}
	if (strncmp(s, "blob:", 5) != 0 || strlen(s) < 5 + 65 || !mfs_hex_decode(q->hash.b, 32, s + 5, 64))
		return false;
	q->kind = MFS_REMOTE_BLOB;
	q->path = NULL;
	q->part = (uint32_t)atoi(s + 5 + 65);
	return true;
}

static void
request_run(struct run *r, const char *s)
{
	struct mfs_remote_request q = r->q;
	struct counted c = { .fd = -1 };
	struct mfs_remote_result res = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	enum mfs_code code;

	if (strcmp(s, "facts") == 0) {
		facts_print(r);
	} else if (strcmp(s, "pid") == 0) {
		printf("%d\n", (int)fetch_pid);
		(void)fflush(stdout);
	} else if (strncmp(s, "sleep:", 6) == 0) {
		(void)usleep((useconds_t)atoi(s + 6) * 1000);
	} else {
		if (strncmp(s, "post:", 5) == 0) {
			code = mfs_remote_post(r->remote, s + 5, strlen(s + 5), q.deadline_ms, NULL, &res, &err);
		} else if (request_parse(&q, s)) {
			if (r->out != NULL)
				c.fd = open(r->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
			q.sink = sink;
			q.user = &c;
			code = mfs_remote_get(r->remote, &q, &res, &err);
			if (c.fd >= 0)
				(void)close(c.fd);
		} else {
			fprintf(stderr, "remoteget: %s: not a request\n", s);
			exit(64);
		}
		printf("%s http=%u bytes=%llu received=%llu from=%llu total=%lld%s%s retry=%lld etag=%s %s\n",
			mfs_code_name(code), res.http, (unsigned long long)c.n, (unsigned long long)res.received,
			(unsigned long long)res.from, (long long)res.total, res.not_found ? " not_found" : "",
			res.not_modified ? " not_modified" : "", (long long)res.retry_after_s, res.etag, err.msg);
		(void)fflush(stdout);
	}
}

static void *
requests_run(void *arg)
{
	struct run *r = arg;

	for (char **s = r->requests; *s != NULL; s++)
		request_run(r, *s);
	return NULL;
}

static bool
option_take(struct run *r, const char *s)
{
	unsigned long long a = 0, b = 0;
	const char *v = strchr(s, '=');

	if (v == NULL)
		return false;
	v++;
	if (sscanf(s, "repo=%llu", &a) == 1)
		r->q.repo = a;
	else if (strncmp(s, "mirror=", 7) == 0)
		r->q.mirror = atoi(v);
	else if (sscanf(s, "range=%llu,%llu", &a, &b) == 2)
		r->q.from = a, r->q.length = b;
	else if (sscanf(s, "cap=%llu", &a) == 1)
		r->q.cap = a;
	else if (sscanf(s, "discard=%llu", &a) == 1)
		r->q.discard = a;
	else if (sscanf(s, "deadline=%llu", &a) == 1)
		r->q.deadline_ms = (unsigned)a;
	else if (strncmp(s, "etag=", 5) == 0)
		r->q.etag = v;
	else if (strncmp(s, "out=", 4) == 0)
		r->out = (char *)(uintptr_t)v;
	else if (sscanf(s, "slow=%llu,%llu", &a, &b) == 2)
		r->args.low_speed = (unsigned)a, r->args.low_speed_s = (unsigned)b;
	else if (sscanf(s, "threads=%llu", &a) == 1)
		r->threads = (unsigned)a;
	else if (strncmp(s, "bus=", 4) == 0)
		r->args.bus = v;
	else if (strncmp(s, "power=", 6) == 0)
		r->args.power = v;
	else if (strncmp(s, "kill=", 5) == 0)
		r->kill_ms = atoi(v);
	else
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cleanup_snapshot) struct mfs_config_snapshot *snapshot = NULL;
	MFS_CLEANUP(mfs_cleanup_config) struct mfs_config *config = NULL;
	struct run r = { .q = { .mirror = -1, .cap = 1ull << 40 }, .threads = 1 };
	struct mfs_err err = MFS_ERR_INIT;
	pthread_t t[64], k;
	int i = 2;

	if (argc < 3)
		return 64;
	mfs_log_open("remoteget", MFS_LOG_INFO);
	if (strncmp(argv[1], "--from=", 7) == 0) {
		static const char text[] = "mount: /m\nstate: /s\nstore: /t\nrun: /r\ntrust: {keys: [/k.pem]}\nmodels: {det: {}}\n";

		r.args.from = argv[1] + 7;
		(void)mfs_config_text("/remoteget", text, sizeof(text) - 1, &snapshot, &err);
	} else {
		(void)mfs_config_read(argv[1], &snapshot, &err);
	}
	if (snapshot == NULL || mfs_config_parse(snapshot, &config, &err) != MFS_OK) {
		fprintf(stderr, "remoteget: %s\n", err.msg);
		return 1;
	}
	r.args.config = config;
	for (; i < argc && option_take(&r, argv[i]); i++)
		;
	r.requests = argv + i;
	if (r.threads > 64 || mfs_remote_new(start, &r.args, &r.remote, &err) != MFS_OK)
		return 64;
	if (r.kill_ms > 0 && pthread_create(&k, NULL, killer, &r) != 0)
		return 1;
	for (unsigned n = 0; n < r.threads; n++)
		if (pthread_create(&t[n], NULL, requests_run, &r) != 0)
			return 1;
	for (unsigned n = 0; n < r.threads; n++)
		(void)pthread_join(t[n], NULL);
	mfs_remote_free(r.remote);
	if (r.kill_ms > 0)
		(void)pthread_join(k, NULL);
	return 0;
}
