/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - modelfs-fetch: the hands of modelfs in the network. Sandbox first, then one loop. It is
 * started by keeper (or by 'modelfs update --from') with descriptors at fixed numbers (wire.h) and
 * ends when the socket does.
 */
#include "fetcher.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "sandbox.h"

#define FRAMES_AT_ONCE 32
#define CONNECTIONS    16L

/* ---- before the sandbox ------------------------------------------------------------------------- */

/*
 * What getaddrinfo(3) would load when it is first asked: after the sandbox nothing can be mapped
 * executable. The modules of "hosts:" in nsswitch.conf; a libc has "files" and "dns" built in.
 */
static void
resolver_load(void)
{
	mfs_autofclose FILE *f = fopen("/etc/nsswitch.conf", "re");
	char line[512];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *save = NULL, *at = line;

		while (isspace((unsigned char)*at))
			at++;
		if (strncmp(at, "hosts:", 6) != 0)
			continue;
		for (char *w = strtok_r(at + 6, " \t\n", &save); w != NULL; w = strtok_r(NULL, " \t\n", &save)) {
			char so[80];

			if (*w == '#')
				break;
			if (strspn(w, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(w) || strlen(w) > 40)
				continue; /* [NOTFOUND=return] */
			(void)snprintf(so, sizeof(so), "libnss_%s.so.2", w);
			(void)dlopen(so, RTLD_NOW | RTLD_LOCAL);
		}
	}
	(void)getservbyname("https", "tcp"); /* "services:", and the machinery itself */
}

/* Folder of the file that path leads to in the end. */
static int
folder_of(const char *path)
{
	mfs_autofree char *real = realpath(path, NULL);
	char *slash = real != NULL ? strrchr(real, '/') : NULL;

	if (slash == NULL || slash == real)
		return -1;
	*slash = '\0';
	return open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static enum mfs_code
sandbox_enter(const struct origins *o, struct mfs_sandbox_report *report, struct mfs_err *err)
{
	static const char *const folders[] = { "/etc", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
		"/usr/lib/ssl", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/sys/devices" };
	const size_t n = sizeof(folders) / sizeof(folders[0]);
	struct mfs_sandbox_dir *dirs = calloc(n + 2 + o->doc->n, sizeof(*dirs));
	struct mfs_sandbox box = { .profile = MFS_SANDBOX_FETCH, .dirs = dirs, .optional = o->doc->optional != 0,
		.parent = o->doc->parent, .uid = o->doc->uid, .gid = o->doc->gid };
	size_t own;
	enum mfs_code code;

	if (dirs == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "sandbox");
	for (size_t i = 0; i < n; i++)
		dirs[box.n_dirs++].fd = open(folders[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
	dirs[box.n_dirs++].fd = folder_of("/etc/resolv.conf");
	dirs[box.n_dirs++].fd = open(o->doc->power, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own = box.n_dirs;
	for (uint32_t i = 0; i < o->doc->n; i++)
		dirs[box.n_dirs++].fd = o->doc->origin[i].dir_fd;
	for (size_t i = 0; i < box.n_dirs;) { /* those that are not there */
		if (dirs[i].fd >= 0) {
			i++;
		} else {
			memmove(&dirs[i], &dirs[i + 1], (box.n_dirs - i - 1) * sizeof(*dirs));
			box.n_dirs--;
			own -= i < own;
		}
	}
	code = mfs_sandbox_apply(&box, report, err);
	for (size_t i = 0; i < own; i++)
		(void)close(dirs[i].fd);
	free(dirs);
	return code;
}

/* ---- the loop ----------------------------------------------------------------------------------- */

void
fetcher_send(struct fetcher *f, union mfs_wire *m, enum mfs_wire_type type, uint64_t id)
{
	if (mfs_wire_send(f->sock, m, type, id, -1) != 0)
		_exit(errno == EPIPE || errno == ECONNRESET ? 0 : 1);
}

static void
frame_take(struct fetcher *f, const union mfs_wire *m, int fd)
{
	union mfs_wire reply = { 0 };

	switch (m->head.type) {
	case MFS_W_GET:
		transfer_get(f, &m->get, fd);
		break;
	case MFS_W_POST:
		transfer_post(f, &m->post, fd);
		break;
	case MFS_W_CANCEL:
		transfer_cancel(f, m->head.id);
		break;
	case MFS_W_CONDITIONS:
		facts_find(f->origins.doc, &reply.facts);
		fetcher_send(f, &reply, MFS_W_FACTS, m->head.id);
		break;
	default:
		fetcher_send(f, &reply, MFS_W_PONG, m->head.id);
		break;
	}
}

static void
frames_read(struct fetcher *f)
{
	for (int i = 0; i < FRAMES_AT_ONCE; i++) {
		struct mfs_err err = MFS_ERR_INIT;
		struct pollfd p = { .fd = f->sock, .events = POLLIN };
		union mfs_wire m;
		int fd, r;

		if (poll(&p, 1, 0) <= 0)
			return;
		r = mfs_wire_recv(f->sock, false, &m, &fd, &err);
		if (r == 0)
			_exit(0); /* serve is gone, or needs no fetch any more */
		if (r < 0) {
			mfs_log_err("serve", &err);
			_exit(1);
		}
		frame_take(f, &m, fd);
	}
}

static void
fetcher_run(struct fetcher *f)
{
	for (;;) {
		struct curl_waitfd wait[1 + MFS_WIRE_REQUESTS] = { { .fd = f->sock, .events = CURL_WAIT_POLLIN } };
		unsigned n = 1;
		int running, left, ms;
		CURLMsg *msg;

		ms = transfer_tick(f, mfs_clock_mono_ms());
		/* A blocked pipe: room for more, or its reader closed it. */
		for (const struct transfer *t = f->list; t != NULL && n <= MFS_WIRE_REQUESTS; t = t->next)
			if (t->full)
				wait[n++] = (struct curl_waitfd){ .fd = t->pipe, .events = CURL_WAIT_POLLOUT };
		if (curl_multi_poll(f->multi, wait, n, ms, NULL) != CURLM_OK || curl_multi_perform(f->multi, &running) != CURLM_OK)
			_exit(1);
		while ((msg = curl_multi_info_read(f->multi, &left)) != NULL)
			if (msg->msg == CURLMSG_DONE)
				transfer_curl_done(f, msg->easy_handle, msg->data.result);
		frames_read(f);
	}
}

static enum mfs_code
fetcher_start(struct fetcher *f, struct mfs_err *err)
{
	struct mfs_sandbox_report report = { 0 };
	union mfs_wire hello = { 0 };

	if (origins_load(&f->origins, err) != MFS_OK)
		return err->code;
	resolver_load();
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return mfs_fail(err, MFS_INTERNAL, "libcurl does not start");
	if (sandbox_enter(&f->origins, &report, err) != MFS_OK)
		return err->code;
	f->multi = curl_multi_init();
	/*
	 * HTTP/2, but one stream to a connection at a time: libcurl goes on receiving for a stream that is
	 * paused as long as another one of its connection is not, into memory (8 streams: 70 MiB).
	 */
	if (f->multi == NULL || curl_multi_setopt(f->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS) != CURLM_OK ||
		curl_multi_setopt(f->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING) != CURLM_OK)
		return mfs_fail(err, MFS_NO_MEMORY, "libcurl");
	f->bucket = (struct bucket){ .rate = f->origins.doc->bandwidth, .at_ms = mfs_clock_mono_ms() };
	hello.hello.origins = f->origins.doc->n;
	hello.hello.weakened = (report.uid ? 0u : MFS_WIRE_NO_UID) | (report.landlock ? 0u : MFS_WIRE_NO_LANDLOCK) |
		(report.seccomp ? 0u : MFS_WIRE_NO_SECCOMP) | (report.no_new_privs ? 0u : MFS_WIRE_NO_NEW_PRIVS);
	fetcher_send(f, &hello, MFS_W_HELLO, 0);
	return MFS_OK;
}

int
main(void)
{
	static struct fetcher fetcher = { .sock = MFS_WIRE_FD_SOCK };
	struct mfs_err err = MFS_ERR_INIT;
	int type = 0;
	socklen_t len = sizeof(type);

	(void)prctl(PR_SET_NAME, "modelfs-fetch", 0, 0, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	mfs_log_open("modelfs[fetch]", MFS_LOG_INFO);
	if (getsockopt(MFS_WIRE_FD_SOCK, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_SEQPACKET) {
		fprintf(stderr, "modelfs-fetch: started by 'modelfs mount'\n");
		return MFS_EXIT_USAGE;
	}
	(void)fcntl(MFS_WIRE_FD_SOCK, F_SETFD, FD_CLOEXEC);
	response_fetcher_set(&fetcher);
	if (fetcher_start(&fetcher, &err) != MFS_OK) {
		mfs_log_err("start", &err);
		return 1;
	}
	fetcher_run(&fetcher);
}
