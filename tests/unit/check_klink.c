/* SPDX-License-Identifier: Apache-2.0 */
/* check_klink.c - frames between keeper and serve: malformed ones end the peer, good ones arrive. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "../lib/fdsock.h"
#include "klink.h"

static void
pair_make(int pair[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static struct mfs_kmsg
frame(uint16_t verb)
{
	return (struct mfs_kmsg){ .version = MFS_KLINK_VERSION, .verb = verb };
}

Test(klink, frame_and_descriptor_arrive)
{
	struct mfs_kmsg m = frame(MFS_K_RESIDENT_CREATE), got;
	int pair[2], fd;

	pair_make(pair);
	m.slot = 7;
	m.size = 1ull << 40;
	(void)strcpy(m.text, "text");
	cr_assert_eq(mfs_kmsg_send(pair[0], &m, STDOUT_FILENO), 0);
	cr_assert_eq(mfs_kmsg_recv(pair[1], &got, &fd), 1);
	cr_assert(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	cr_assert(got.verb == MFS_K_RESIDENT_CREATE && got.slot == 7 && got.size == 1ull << 40);
	cr_assert_str_eq(got.text, "text");
	close(fd);
	close(pair[0]);
	cr_assert_eq(mfs_kmsg_recv(pair[1], &got, &fd), 0);
	close(pair[1]);
}

Test(klink, wrong_size_is_malformed)
{
	char buf[sizeof(struct mfs_kmsg) + 1] = { 0 };
	const size_t sizes[] = { 1, 8, sizeof(struct mfs_kmsg) - 1, sizeof(struct mfs_kmsg) + 1 };
	struct mfs_kmsg m = frame(MFS_K_READY), got;
	int pair[2], fd;

	pair_make(pair);
	memcpy(buf, &m, sizeof(m));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		raw_send(pair[0], buf, sizes[i], NULL, 0);
		cr_expect(mfs_kmsg_recv(pair[1], &got, &fd) == -1 && errno == EPROTO && fd == -1, "%zu bytes", sizes[i]);
	}
}

Test(klink, wrong_version_verb_or_text_is_malformed)
{
	struct mfs_kmsg bad[4], got;
	int pair[2], fd;

	pair_make(pair);
	bad[0] = frame(MFS_K_READY);
	bad[0].version = MFS_KLINK_VERSION + 1;
	bad[1] = frame(0);
	bad[2] = frame(999);
	bad[3] = frame(MFS_K_STATUS);
	memset(bad[3].text, 'x', sizeof(bad[3].text));
	for (size_t i = 0; i < 4; i++) {
		raw_send(pair[0], &bad[i], sizeof(bad[i]), NULL, 0);
		cr_expect(mfs_kmsg_recv(pair[1], &got, &fd) == -1 && errno == EPROTO, "frame %zu", i);
	}
}

Test(klink, surplus_descriptors_are_closed)
{
	struct mfs_kmsg m = frame(MFS_K_REPLY), got;
	int pair[2], fd, three[3] = { 0, 1, 2 }, eight[8] = { 0, 1, 2, 0, 1, 2, 0, 1 };
	unsigned before;

	pair_make(pair);
	before = descriptors_open();
	raw_send(pair[0], &m, sizeof(m), three, 3);
	cr_expect(mfs_kmsg_recv(pair[1], &got, &fd) == -1 && errno == EPROTO && fd == -1);
	raw_send(pair[0], &m, sizeof(m), eight, 8); /* more than the receiver has room for */
	cr_expect(mfs_kmsg_recv(pair[1], &got, &fd) == -1 && errno == EPROTO && fd == -1);
	raw_send(pair[0], &m, 5, three, 1); /* a descriptor with a malformed frame */
	cr_expect(mfs_kmsg_recv(pair[1], &got, &fd) == -1 && errno == EPROTO && fd == -1);
	cr_assert_eq(descriptors_open(), before);
}

/* ---- serve's end ------------------------------------------------------------------------------ */

struct stops {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int asked, gone;
};

static void
on_stop(void *user, bool gone)
{
	struct stops *s = user;

	pthread_mutex_lock(&s->lock);
	if (gone)
		s->gone++;
	else
		s->asked++;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static void
stops_wait(struct stops *s, const int *counter)
{
	pthread_mutex_lock(&s->lock);
	while (*counter == 0)
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

#define STOPS { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 }

static struct mfs_klink *
link_make(int pair[2], struct stops *s)
{
	struct mfs_klink *k;
	struct mfs_kmsg m;
	int fd;

	pair_make(pair);
	cr_assert_eq(mfs_klink_start(pair[1], on_stop, s, &k, NULL), MFS_OK);
	cr_assert(mfs_kmsg_recv(pair[0], &m, &fd) == 1 && m.verb == MFS_K_HELLO);
	return k;
}

Test(klink, ping_is_answered, .timeout = 20)
{
	struct stops s = STOPS;
	struct mfs_kmsg m = frame(MFS_K_PING);
	struct mfs_klink *k;
	int pair[2], fd;

	k = link_make(pair, &s);
	m.seq = 42;
	cr_assert_eq(mfs_kmsg_send(pair[0], &m, -1), 0);
	cr_assert(mfs_kmsg_recv(pair[0], &m, &fd) == 1 && m.verb == MFS_K_PONG && m.seq == 42);
	mfs_klink_stop(k);
	close(pair[0]);
}

static void *
keeper_replies(void *arg) /* answers one call, with a wrong reply first */
{
	int sock = *(int *)arg, fd;
	struct mfs_kmsg m, wrong;

	if (mfs_kmsg_recv(sock, &m, &fd) != 1)
		return NULL;
	wrong = m;
	wrong.verb = m.verb = MFS_K_REPLY;
	wrong.seq += 1000;
	(void)mfs_kmsg_send(sock, &wrong, STDOUT_FILENO);
	m.value = 5;
	m.result = m.slot == 9 ? MFS_INSUFFICIENT_STORAGE : MFS_OK;
	(void)strcpy(m.text, "no room");
	(void)mfs_kmsg_send(sock, &m, m.slot == 9 ? -1 : STDOUT_FILENO);
	return NULL;
}

Test(klink, call_gets_its_own_reply, .timeout = 20)
{
	struct stops s = STOPS;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_klink *k;
	int pair[2], fd = -1;
	int64_t value = 0;
	pthread_t t;

	k = link_make(pair, &s);
	pthread_create(&t, NULL, keeper_replies, &pair[0]);
	cr_assert_eq(mfs_klink_call(k, MFS_K_RESIDENT_CREATE, 1, 4096, &fd, &value, &err), MFS_OK);
	cr_assert(fd >= 0 && value == 5);
	close(fd);
	pthread_join(t, NULL);
	pthread_create(&t, NULL, keeper_replies, &pair[0]);
	cr_assert_eq(mfs_klink_call(k, MFS_K_RESIDENT_CREATE, 9, 4096, &fd, &value, &err), MFS_INSUFFICIENT_STORAGE);
	cr_assert(fd == -1 && strcmp(err.msg, "no room") == 0);
	pthread_join(t, NULL);
	mfs_klink_stop(k);
	close(pair[0]);
}

Test(klink, stop_is_told, .timeout = 20)
{
	struct stops s = STOPS;
	struct mfs_kmsg m = frame(MFS_K_STOP);
	struct mfs_klink *k;
	int pair[2];

	k = link_make(pair, &s);
	cr_assert_eq(mfs_kmsg_send(pair[0], &m, -1), 0);
	stops_wait(&s, &s.asked);
	cr_assert_eq(s.gone, 0);
	mfs_klink_stop(k);
	close(pair[0]);
}

static void *
keeper_dies(void *arg)
{
	struct mfs_kmsg m;
	int fd;

	(void)mfs_kmsg_recv(*(int *)arg, &m, &fd);
	close(*(int *)arg);
	return NULL;
}

Test(klink, dead_keeper_fails_calls_and_ends_serve, .timeout = 20)
{
	struct stops s = STOPS;
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_klink *k;
	pthread_t t;
	int pair[2];

	k = link_make(pair, &s);
	pthread_create(&t, NULL, keeper_dies, &pair[0]);
	cr_assert_eq(mfs_klink_call(k, MFS_K_RELOAD, 0, 0, NULL, NULL, &err), MFS_IO);
	stops_wait(&s, &s.gone);
	pthread_join(t, NULL);
	mfs_klink_stop(k);
}

Test(klink, verb_of_the_other_direction_ends_serve, .timeout = 20)
{
	struct stops s = STOPS;
	struct mfs_kmsg m = frame(MFS_K_READY);
	struct mfs_klink *k;
	int pair[2];

	k = link_make(pair, &s);
	cr_assert_eq(mfs_kmsg_send(pair[0], &m, -1), 0);
	stops_wait(&s, &s.gone);
	mfs_klink_stop(k);
	close(pair[0]);
}
