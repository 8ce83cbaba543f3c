/* SPDX-License-Identifier: Apache-2.0 */
/* kverbs.c - what serve may ask of keeper: fixed verbs, indexes checked, nothing else believed. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "keeper.h"
#include "kfetch.h"
#include "log.h"

#define TOUCH_MS 5000
#define FETCH_MS 100 /* between two starts: a serve gone mad must not keep keeper forking */

static void
reply(struct mfs_keeper *k, const struct mfs_kmsg *m, const struct mfs_err *err, int64_t value, int fd)
{
	struct mfs_kmsg r = { .verb = MFS_K_REPLY, .seq = m->seq, .slot = m->slot, .value = value,
		.result = (uint32_t)err->code };

	if (err->code != MFS_OK)
		(void)snprintf(r.text, sizeof(r.text), "%s", err->msg);
	/* One that does not read its replies misses its pings too. */
	if (mfs_kmsg_send(k->serve.sock, &r, fd) != 0)
		mfs_log(MFS_LOG_WARN, "a reply to serve was lost: %s", strerror(errno));
}

static void
verb_resident(struct mfs_keeper *k, const struct mfs_kmsg *m)
{
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int fd = -1;
	int32_t id = 0;

	switch (m->verb) {
	case MFS_K_RESIDENT_CREATE:
		(void)mfs_kresident_create(&k->resident, m->slot, m->size, &fd, &err);
		break;
	case MFS_K_RESIDENT_COMPLETE:
		if (mfs_kresident_complete(&k->resident, k->mount.dev, m->slot, &id, &err) == MFS_OK)
			k->shm->residents[m->slot].backing_id = id;
		break;
	default:
		(void)mfs_kresident_drop(&k->resident, k->mount.dev, m->slot, &err);
		break;
	}
	if (err.code != MFS_OK)
		mfs_log_err("resident", &err);
	reply(k, m, &err, id, fd);
}

/* One fetch at a time: the one before has nobody to work for any more. */
static void
verb_fetch(struct mfs_keeper *k, const struct mfs_kmsg *m)
{
	const struct mfs_fetch_args args = { .config = k->config, .parent = getpid() };
	const int64_t now = mfs_clock_mono_ms();
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autoclose int sock = -1;

	if (k->fetch_started != 0 && now - k->fetch_started < FETCH_MS) {
		(void)mfs_fail(&err, MFS_CONDITION_UNMET, "a fetch was started a moment ago");
	} else {
		if (k->fetch > 0)
			(void)kill(k->fetch, SIGKILL);
		k->fetch = 0;
		k->fetch_started = now;
		if (mfs_fetch_spawn(&args, &sock, &k->fetch, &err) != MFS_OK)
			k->fetch = 0;
	}
	if (err.code != MFS_OK)
		mfs_log_err("fetch", &err);
	reply(k, m, &err, 0, sock);
}

/* serve may be compromised: nothing of its text reaches a terminal or systemd but printable ASCII. */
static void
text_copy(char *out, size_t cap, const char *in)
{
	size_t i = 0;

	for (; in[i] != '\0' && i + 1 < cap; i++)
		out[i] = in[i] >= 0x20 && in[i] < 0x7f ? in[i] : '?';
	out[i] = '\0';
}

bool
mfs_keeper_verb(struct mfs_keeper *k, const struct mfs_kmsg *m)
{
	struct mfs_err err = MFS_ERR_INIT;
	char text[sizeof(m->text)];
	const char *hold;
	uint32_t job;

	switch (m->verb) {
	case MFS_K_HELLO:
		return true;
	case MFS_K_READY:
		mfs_keeper_ready(k);
		return true;
	case MFS_K_PONG:
		k->serve.last_pong = mfs_clock_mono_ms();
		return true;
	case MFS_K_TOUCH:
		if (k->serve.stop_sent)
			return true; /* it counts models of the configuration before */
		if (m->model >= k->config->n_models)
			return false;
		if (k->touch != NULL)
			k->touch[m->model] = true;
		return true;
	case MFS_K_STATUS:
		text_copy(text, sizeof(text), m->text);
		mfs_notify("STATUS=%s", text);
		return true;
	case MFS_K_FAILED:
		k->failed = (struct mfs_err){ .code = (enum mfs_code)m->result };
		text_copy(k->failed.msg, sizeof(k->failed.msg), m->text);
		if (k->failed.code == MFS_OK)
			k->failed.code = MFS_INTERNAL;
		return true;
	case MFS_K_RESIDENT_CREATE:
	case MFS_K_RESIDENT_COMPLETE:
	case MFS_K_RESIDENT_DROP:
		verb_resident(k, m);
		return true;
	case MFS_K_FETCH:
		verb_fetch(k, m);
		return true;
	case MFS_K_RELOAD:
		mfs_keeper_reload_start(k, &err);
		reply(k, m, &err, err.code == MFS_OK ? k->later : 0, -1);
		return true;
	case MFS_K_UNMOUNT:
		reply(k, m, &err, 0, -1);
		mfs_keeper_end(k, "asked by a command");
		return true;
	case MFS_K_JOB:
		if (!mfs_kjobs_ask(k, m, &job, &err))
			return false;
		if (m->seq != 0)
			reply(k, m, &err, job, -1);
		else if (err.code != MFS_OK)
			mfs_log_err("hook", &err);
		return true;
	case MFS_K_JOB_STOP:
		return mfs_kjobs_stop(k, m);
	case MFS_K_HOLD:
		/* A file that cannot be looked at may be there: held. */
		hold = k->config->update.conditions.hold_file;
		reply(k, m, &err, hold != NULL && (faccessat(AT_FDCWD, hold, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
			(errno != ENOENT && errno != ENOTDIR)), -1);
		return true;
	default:
		return false; /* a verb of the other direction */
	}
}

/* ---- the byte that makes inotify fire --------------------------------------------------------- */

/* In the child: through the private clone, never the public mount. */
static int
touch_run(struct mfs_keeper *k, const char *id)
{
	char path[MFS_ID_MAX + 16];
	int fd;

	atomic_store(&k->shm->toucher, (uint32_t)getpid());
	(void)snprintf(path, sizeof(path), "%s/generation", id);
	fd = openat(k->mount.private_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "x", 1) != 1 || futimens(fd, NULL) != 0)
		return 1;
	return close(fd) == 0 ? 0 : 1; /* MODIFY, ATTRIB, CLOSE_WRITE */
}

void
mfs_keeper_touch_next(struct mfs_keeper *k, int64_t now)
{
	if (k->toucher != 0) {
		if (now < k->touch_by)
			return;
		(void)kill(k->toucher, SIGKILL);
		k->toucher = 0; /* reaped whenever it can die */
		atomic_store(&k->shm->toucher, 0);
	}
	if (k->state != MFS_KEEPER_RUNNING || k->mount.private_fd < 0 || k->touch == NULL || !k->serve.ready)
		return;
	for (size_t i = 0; i < k->config->n_models; i++) {
		if (!k->touch[i])
			continue;
		k->touch[i] = false;
		k->toucher = mfs_keeper_fork(k);
		if (k->toucher == 0)
			_exit(touch_run(k, k->config->models[i].id));
		if (k->toucher < 0)
			k->toucher = 0;
		k->touch_by = now + TOUCH_MS;
		return;
	}
}

void
mfs_keeper_touch_done(struct mfs_keeper *k)
{
	k->toucher = 0;
	atomic_store(&k->shm->toucher, 0);
}
