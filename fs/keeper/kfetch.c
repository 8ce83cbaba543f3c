/* SPDX-License-Identifier: Apache-2.0 */
/* kfetch.c - starting modelfs-fetch: its origins, their files, its socket, and nothing else. */
#include "kfetch.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "wire.h"

#define FETCH_UID    61181u
#define FETCH_NOFILE 512u
#define FETCH_DATA   (160ull << 20) /* what no honest transfer comes near to */
#define FETCH_STACK  (512ull << 10) /* of the resolver's threads */

#ifndef MFS_LIBEXECDIR
#error "MFS_LIBEXECDIR is not set"
#endif

struct plan { /* in the child: what the origins need, in the order of the numbers from MFS_WIRE_FD_FIRST on */
	struct mfs_wire_origins *doc;
	size_t size;
	int *fds;
	size_t n, room;
};

enum mfs_code
mfs_fetch_user(const struct mfs_config *c, uid_t *uid, gid_t *gid, struct mfs_err *err)
{
	const struct passwd *pw = getpwnam("modelfs-fetch");
	uid_t serve;
	gid_t serve_gid;

	if (mfs_config_user(c, &serve, &serve_gid, err) != MFS_OK)
		return err->code;
	*uid = pw != NULL && pw->pw_uid != 0 ? pw->pw_uid : FETCH_UID;
	*gid = pw != NULL && pw->pw_uid != 0 ? pw->pw_gid : FETCH_UID;
	if (*uid == serve)
		*uid = *gid = serve + 1;
	return MFS_OK;
}

/* ---- files, in the child ------------------------------------------------------------------------ */

/* The number that fd will have in fetch; -1 for none. */
static int32_t
number_give(struct plan *p, int fd)
{
	if (fd < 0)
		return -1;
	if (p->n == p->room) {
		size_t room = p->room * 2 + 16;
		int *grown = realloc(p->fds, room * sizeof(*grown));

		if (grown == NULL)
			_exit(126);
		p->fds = grown;
		p->room = room;
	}
	p->fds[p->n] = fd;
	return MFS_WIRE_FD_FIRST + (int32_t)p->n++;
}

static enum mfs_code
file_give(struct plan *p, const char *path, int32_t *number, struct mfs_err *err)
{
	int fd;

	*number = -1;
	if (path == NULL)
		return MFS_OK;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "%s", MFS_ESC(path));
	*number = number_give(p, fd);
	return MFS_OK;
}

/* The folder of a file:// URL: percent-encoding undone. -1: it is not there (a stick that is not plugged in). */
static int
folder_open(const char *url)
{
	char path[1024], *to = path;
	const size_t n = mfs_wire_file_base(url);

	for (size_t i = strlen("file://"); i < n && to < path + sizeof(path) - 1; i++) {
		unsigned v;

		if (url[i] == '%' && i + 2 < n && sscanf(url + i + 1, "%2x", &v) == 1 && v != 0) {
			*to++ = (char)v;
			i += 2;
		} else {
			*to++ = url[i];
		}
	}
	*to = '\0';
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* ---- the document, in the child ----------------------------------------------------------------- */

static bool
text_fit(char *to, size_t cap, const char *from)
{
	return (size_t)snprintf(to, cap, "%s", from != NULL ? from : "") < cap;
}

/*
 * One origin. creds: whether the token and the client certificate of `o` may go there; TLS trust and
 * proxy always count.
 */
static enum mfs_code
origin_add(struct plan *p, uint32_t repo, int32_t mirror, const char *url, const struct mfs_config_origin *o, bool creds,
	struct mfs_err *err)
{
	struct mfs_wire_origin *w = &p->doc->origin[p->doc->n++];

	w->repo = repo;
	w->mirror = mirror;
	w->dir_fd = w->ca_fd = w->cert_fd = w->key_fd = w->token_fd = -1;
	if (!text_fit(w->url, sizeof(w->url), url) || !text_fit(w->proxy, sizeof(w->proxy), o->proxy))
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: too long", MFS_ESC(url));
	if (strncmp(url, "file:///", 8) == 0) {
		w->dir_fd = number_give(p, folder_open(url));
		return MFS_OK;
	}
	if (file_give(p, o->tls_ca, &w->ca_fd, err) != MFS_OK)
		return err->code;
	if (!creds)
		return MFS_OK;
	/* The pin is of the server itself, not of mirrors. */
	if (!text_fit(w->pin, sizeof(w->pin), o->tls_pin))
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: tls.pin: too long", MFS_ESC(url));
	if (file_give(p, o->tls_cert, &w->cert_fd, err) != MFS_OK || file_give(p, o->tls_key, &w->key_fd, err) != MFS_OK ||
		file_give(p, o->token_file, &w->token_fd, err) != MFS_OK)
		return err->code;
	return MFS_OK;
}

/* The same scheme, host and port, in the same words: anything else gets no credentials. */
static bool
same_host(const char *a, const char *b)
{
	const char *end = strstr(a, "://");
	size_t n;

	if (end == NULL)
		return false;
	end += 3;
	n = (size_t)(end - a) + strcspn(end, "/");
	return strncmp(a, b, n) == 0 && (b[n] == '/' || b[n] == '\0');
}

static enum mfs_code
configured_add(struct plan *p, const struct mfs_config *c, struct mfs_err *err)
{
	for (size_t i = 0; i < c->n_repos; i++) {
		const struct mfs_config_repository *r = &c->repos[i];

		if (origin_add(p, (uint32_t)i, -1, r->origin.url, &r->origin, true, err) != MFS_OK)
			return err->code;
		for (size_t k = 0; k < r->n_mirrors; k++)
			if (origin_add(p, (uint32_t)i, (int32_t)k, r->mirrors[k].url, &r->origin,
				    same_host(r->origin.url, r->mirrors[k].url), err) != MFS_OK)
				return err->code;
	}
	if (c->telemetry.url != NULL) {
		struct mfs_config_origin t = c->telemetry;
		const char *host = strstr(t.url, "://");
		char url[1024];

		/* A bare host is the base of an OTLP/HTTP endpoint. */
		const char *path = host == NULL || strchr(host + 3, '/') == NULL ? "/v1/logs" : "";

		if ((size_t)snprintf(url, sizeof(url), "%s%s", t.url, path) >= sizeof(url))
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s: too long", MFS_ESC(t.url));
		t.token_file = t.tls_cert = t.tls_key = NULL;
		return origin_add(p, MFS_WIRE_TELEMETRY, -1, url, &t, true, err);
	}
	return MFS_OK;
}

/* Is url the same as base, or below it? base has no trailing slash. */
static size_t
below(const char *url, const char *base)
{
	size_t n = strlen(base);

	return strncmp(url, base, n) == 0 && (url[n] == '/' || url[n] == '\0') ? n : 0;
}

/*
 * How a URL of the command line is reached: as the configured repository or mirror that it lies below. On the same
 * server, but elsewhere: TLS trust and proxy, and nothing that says who we are.
 */
static struct mfs_config_origin
origin_for(const struct mfs_config *c, const char *url)
{
	struct mfs_config_origin o = { 0 };
	size_t best = 0;

	for (size_t i = 0; i < c->n_repos; i++) {
		const struct mfs_config_repository *r = &c->repos[i];
		bool same = same_host(r->origin.url, url);
		size_t n = below(url, r->origin.url);

		for (size_t k = 0; k < r->n_mirrors; k++) {
			size_t m = below(url, r->mirrors[k].url);

			n = m > n ? m : n;
		}
		if (n > best || (best == 0 && same && o.url == NULL)) {
			best = n;
			o = r->origin;
			if (n == 0 || !same)
				o.token_file = o.tls_cert = o.tls_key = NULL;
			if (!same)
				o.tls_pin = NULL; /* of the server itself */
		}
	}
	return o;
}

static bool
is_url(const char *from)
{
	return strncmp(from, "https://", 8) == 0 || strncmp(from, "http://", 7) == 0 || strncmp(from, "file://", 7) == 0;
}

/* A folder on the command line becomes a URL: what is not plain in one is encoded. */
static enum mfs_code
from_add(struct plan *p, const struct mfs_fetch_args *a, struct mfs_err *err)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~";
	struct mfs_config_origin o = { 0 };
	mfs_autofree char *path = NULL;
	char url[1024] = "file://", given[1024];
	size_t n = strlen(url);

	if (is_url(a->from)) {
		n = strlen(a->from);
		while (n > 0 && a->from[n - 1] == '/')
			n--;
		if (n >= sizeof(given))
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s: too long", MFS_ESC(a->from));
		(void)snprintf(given, sizeof(given), "%.*s", (int)n, a->from);
		o = origin_for(a->config, given);
		if (a->cacert != NULL)
			o.tls_ca = (char *)(uintptr_t)a->cacert;
		return origin_add(p, 0, -1, given, &o, true, err);
	}
	path = realpath(a->from, NULL);
	if (path == NULL)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "%s", MFS_ESC(a->from));
	for (const char *s = path; *s != '\0'; s++) {
		if (n + 4 > sizeof(url))
			return mfs_fail(err, MFS_CONFIG_INVALID, "%s: too long", MFS_ESC(a->from));
		n += (size_t)sprintf(url + n, strchr(plain, *s) != NULL ? "%c" : "%%%02X", (unsigned char)*s);
	}
	return origin_add(p, 0, -1, url, &o, true, err);
}

enum mfs_code
mfs_fetch_from_check(const struct mfs_fetch_args *a, struct mfs_err *err)
{
	static const char *const schemes[] = { "https://", "http://", "file://", NULL };
	const char *wrong;
	struct stat st;

	if (a->cacert != NULL && strncmp(a->from, "https://", 8) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--cacert: %s is no https URL", MFS_ESC(a->from));
	if (a->cacert != NULL && access(a->cacert, R_OK) != 0)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "--cacert %s", MFS_ESC(a->cacert));
	if (is_url(a->from))
		return (wrong = mfs_config_url_wrong(a->from, schemes)) == NULL ? MFS_OK :
			mfs_fail(err, MFS_CONFIG_INVALID, "--from %s: %s", MFS_ESC(a->from), wrong);
	if (strstr(a->from, "://") != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "--from %s: must be a folder, https://, http:// or file://", MFS_ESC(a->from));
	if (stat(a->from, &st) != 0)
		return mfs_fail_sys(err, MFS_CONFIG_INVALID, "--from %s", MFS_ESC(a->from));
	return S_ISDIR(st.st_mode) ? MFS_OK : mfs_fail(err, MFS_CONFIG_INVALID, "--from %s: not a folder", MFS_ESC(a->from));
}

static enum mfs_code
plan_make(const struct mfs_fetch_args *a, struct plan *p, struct mfs_err *err)
{
	const struct mfs_config *c = a->config;
	size_t n = 2;
	struct mfs_wire_origins *doc;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	uint64_t slow;

	for (size_t i = 0; a->from == NULL && i < c->n_repos; i++)
		n += 1 + c->repos[i].n_mirrors;
	doc = p->doc = calloc(1, sizeof(*doc) + n * sizeof(doc->origin[0]));
	if (doc == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "fetch: origins");
	if (geteuid() == 0 && mfs_fetch_user(c, &uid, &gid, err) != MFS_OK)
		return err->code;
	doc->magic = MFS_WIRE_ORIGINS_MAGIC;
	doc->version = MFS_WIRE_VERSION;
	doc->uid = uid;
	doc->gid = gid;
	doc->optional = c->sandbox_optional;
	doc->parent = a->parent;
	doc->bandwidth = c->update.bandwidth;
	slow = a->low_speed != 0 ? a->low_speed : MFS_FETCH_LOW_SPEED;
	if (doc->bandwidth != 0 && doc->bandwidth / 2 < slow)
		slow = doc->bandwidth / 2 + 1;
	doc->low_speed = (uint32_t)slow;
	doc->low_speed_s = a->low_speed_s != 0 ? a->low_speed_s : MFS_FETCH_LOW_SPEED_S;
	if (!text_fit(doc->bus, sizeof(doc->bus), a->bus != NULL ? a->bus : "/run/dbus/system_bus_socket") ||
		!text_fit(doc->power, sizeof(doc->power), a->power != NULL ? a->power : "/sys/class/power_supply"))
		return mfs_fail(err, MFS_INTERNAL, "fetch: a path is too long");
	if ((a->from != NULL ? from_add(p, a, err) : configured_add(p, c, err)) != MFS_OK)
		return err->code;
	p->size = sizeof(*doc) + doc->n * sizeof(doc->origin[0]);
	return MFS_OK;
}

/* ---- becoming modelfs-fetch --------------------------------------------------------------------- */

static void
limits_set(void)
{
	const struct rlimit files = { FETCH_NOFILE, FETCH_NOFILE }, stack = { FETCH_STACK, FETCH_STACK };

	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)setrlimit(RLIMIT_STACK, &stack);
#ifndef MFS_SANITIZERS
	const struct rlimit data = { FETCH_DATA, FETCH_DATA };

	(void)setrlimit(RLIMIT_DATA, &data);
#endif
}

/* Beside this program in a build tree, else where it is installed. */
static void
program_path(char *out, size_t cap)
{
	ssize_t n = readlink("/proc/self/exe", out, cap - sizeof("/modelfs-fetch"));
	char *slash;

	out[n > 0 ? n : 0] = '\0';
	slash = strrchr(out, '/');
	if (slash != NULL) {
		memcpy(slash, "/modelfs-fetch", sizeof("/modelfs-fetch"));
		if (access(out, X_OK) == 0)
			return;
	}
	(void)snprintf(out, cap, "%s/modelfs-fetch", MFS_LIBEXECDIR);
}

static int
document_write(const struct plan *p)
{
	int fd = memfd_create("modelfs-origins", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || mfs_write_full(fd, p->doc, p->size) != 0)
		return -1;
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

/* In the child: never returns. */
static __attribute__((noreturn)) void
fetch_exec(const struct mfs_fetch_args *a, int sock)
{
	char path[4096], *argv[] = { (char[]){ "modelfs-fetch" }, NULL };
	char *env[8] = { (char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, (char[]){ "LANG=C" } };
	struct mfs_err err = MFS_ERR_INIT;
	struct plan p = { 0 };
	int base, doc;

#ifdef MFS_SANITIZERS
	static const char *const kept[] = { "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS" };
	size_t e = 2;

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (getenv(kept[i]) != NULL && asprintf(&env[e], "%s=%s", kept[i], getenv(kept[i])) > 0)
			e++;
#endif
	/* Opening may take its time: nothing of the parent's, /dev/fuse above all, stays open meanwhile. */
	if (sock > MFS_WIRE_FD_SOCK)
		(void)syscall(SYS_close_range, MFS_WIRE_FD_SOCK, (unsigned)sock - 1, 0);
	(void)syscall(SYS_close_range, (unsigned)sock + 1, ~0u, 0);
	program_path(path, sizeof(path));
	if (plan_make(a, &p, &err) != MFS_OK || (doc = document_write(&p)) < 0) {
		if (err.code == MFS_OK)
			(void)mfs_fail_sys(&err, MFS_IO, "origins");
		mfs_log_err("fetch", &err);
		_exit(125);
	}
	/* First out of the way of the numbers they are to have, then there. */
	base = MFS_WIRE_FD_FIRST + (int)p.n;
	sock = fcntl(sock, F_DUPFD_CLOEXEC, base);
	doc = fcntl(doc, F_DUPFD_CLOEXEC, base);
	for (size_t i = 0; i < p.n; i++)
		if ((p.fds[i] = fcntl(p.fds[i], F_DUPFD_CLOEXEC, base)) < 0)
			_exit(126);
	if (dup2(sock, MFS_WIRE_FD_SOCK) < 0 || dup2(doc, MFS_WIRE_FD_ORIGINS) < 0)
		_exit(126);
	for (size_t i = 0; i < p.n; i++)
		if (dup2(p.fds[i], MFS_WIRE_FD_FIRST + (int)i) < 0)
			_exit(126);
	limits_set(); /* what is left open beyond the numbers is close-on-exec */
	(void)execve(path, argv, env);
	(void)mfs_fail_sys(&err, MFS_IO, "%s", MFS_ESC(path));
	mfs_log_err("fetch", &err);
	_exit(127);
}

enum mfs_code
mfs_fetch_spawn(const struct mfs_fetch_args *a, int *sock, pid_t *pid, struct mfs_err *err)
{
	int pair[2];

	*sock = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return mfs_fail_sys(err, MFS_IO, "fetch: socket pair");
	*pid = fork();
	if (*pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		fetch_exec(a, pair[1]);
	}
	(void)close(pair[1]);
	if (*pid < 0) {
		(void)close(pair[0]);
		return mfs_fail_sys(err, MFS_IO, "fetch: fork");
	}
	*sock = pair[0];
	return MFS_OK;
}
