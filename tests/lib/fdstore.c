/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdstore.c - plays systemd for a test: runs COMMAND with NOTIFY_SOCKET, keeps the descriptors it
 * stores (FDSTORE, FDNAME, FDSTOREREMOVE), and starts it again with them when SIGKILL ended it.
 *
 *	fdstore SOCKET COMMAND [ARGUMENT]...
 *
 * SIGTERM is passed on. Ends with the exit status of the command.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STORE_MAX 16
#define HIGH      100 /* above every number that is given away */

static struct {
	char name[64];
	int fd;
} store[STORE_MAX];
static size_t n_store;
static volatile sig_atomic_t child;

static void
on_term(int sig)
{
	if (child > 0)
		(void)kill((pid_t)child, sig);
}

static void
command_start(char **argv)
{
	pid_t pid = fork();

	if (pid == 0) {
		char names[1200] = "", text[16];

		for (size_t i = 0; i < n_store; i++)
			if (dup2(store[i].fd, HIGH + (int)i) < 0)
				_exit(126);
		for (size_t i = 0; i < n_store; i++) {
			if (dup2(HIGH + (int)i, 3 + (int)i) < 0)
				_exit(126);
			(void)strcat(strcat(names, i > 0 ? ":" : ""), store[i].name);
		}
		for (int fd = 3 + (int)n_store; fd < HIGH + STORE_MAX; fd++)
			(void)close(fd);
		(void)snprintf(text, sizeof(text), "%zu", n_store);
		(void)setenv("LISTEN_FDS", text, 1);
		(void)snprintf(text, sizeof(text), "%d", (int)getpid());
		(void)setenv("LISTEN_PID", text, 1);
		(void)setenv("LISTEN_FDNAMES", names, 1);
		(void)execvp(argv[0], argv);
		_exit(127);
	}
	child = pid;
}

static void
store_change(const char *text, int fd)
{
	const char *name = strstr(text, "FDNAME=");
	char key[64] = "";

	if (name == NULL || sscanf(name, "FDNAME=%63[^\n]", key) != 1)
		return;
	for (size_t i = 0; i < n_store; i++)
		if (strcmp(store[i].name, key) == 0) { /* removed, or replaced by the same */
			(void)close(store[i].fd);
			store[i] = store[--n_store];
			break;
		}
	if (strstr(text, "FDSTORE=1") == NULL || fd < 0 || n_store == STORE_MAX)
		return;
	(void)strcpy(store[n_store].name, key);
	store[n_store++].fd = fcntl(fd, F_DUPFD_CLOEXEC, HIGH + STORE_MAX);
}

static void
datagram_read(int sock)
{
	char text[2048], control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fd = -1;

	if (n < 0)
		return;
	text[n] = '\0';
	if (c != NULL && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	store_change(text, fd);
	if (fd >= 0)
		(void)close(fd);
}

int
main(int argc, char **argv)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status;

	if (argc < 3 || strlen(argv[1]) >= sizeof(a.sun_path))
		return 64;
	(void)strcpy(a.sun_path, argv[1]);
	if (sock < 0 || bind(sock, (struct sockaddr *)&a, sizeof(a)) != 0 || setenv("NOTIFY_SOCKET", argv[1], 1) != 0) {
		perror(argv[1]);
		return 1;
	}
	(void)signal(SIGTERM, on_term);
	command_start(argv + 2);
	for (;;) {
		struct pollfd p = { .fd = sock, .events = POLLIN };

		if (poll(&p, 1, 20) == 1) {
			datagram_read(sock);
			continue; /* everything it said before it ended counts */
		}
		if (waitpid((pid_t)child, &status, WNOHANG) != (pid_t)child)
			continue;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			command_start(argv + 2);
		else
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
}
