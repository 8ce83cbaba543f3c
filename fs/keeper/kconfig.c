/* SPDX-License-Identifier: Apache-2.0 */
/* kconfig.c - keeper's own reading of the configuration, and what it opens for serve by it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "keeper.h"
#include "log.h"

#define LOCK_WAIT_MS 2000

struct reading { /* everything that follows from the files */
	struct mfs_config_snapshot *snapshot;
	struct mfs_config *config;
	struct mfs_key_fds keys;
	int fd, *seeds;
	bool has_keys;
};

static void
reading_free(struct reading *r)
{
	if (r->has_keys)
		mfs_key_fds_close(r->config, &r->keys);
	for (size_t i = 0; r->seeds != NULL && i < r->config->n_seed; i++)
		mfs_cleanup_close(&r->seeds[i]);
	free(r->seeds);
	mfs_cleanup_close(&r->fd);
	mfs_config_free(r->config);
	mfs_config_snapshot_free(r->snapshot);
	*r = (struct reading){ .fd = -1 };
}

/* MOUNTPOINT of the command line is one more source, the last: it overrides `mount`. */
static enum mfs_code
mountpoint_append(struct mfs_config_snapshot *s, const char *path, struct mfs_err *err)
{
	struct mfs_config_source *grown;
	char quoted[2 * 4096 + 32], *p = quoted;
	mfs_autofree char *name = strdup("/command line"), *text = NULL;

	p += sprintf(p, "mount: \"");
	for (const char *c = path; *c != '\0' && p < quoted + sizeof(quoted) - 8; c++) {
		if (*c == '"' || *c == '\\')
			*p++ = '\\';
		*p++ = *c;
	}
	memcpy(p, "\"\n", 3);
	text = strdup(quoted);
	grown = name != NULL && text != NULL ? realloc(s->sources, (s->n + 1) * sizeof(*grown)) : NULL;
	if (grown == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration");
	grown[s->n] = (struct mfs_config_source){ .path = mfs_steal(&name), .text = mfs_steal(&text), .len = strlen(quoted) };
	s->sources = grown;
	s->n++;
	return MFS_OK;
}

static enum mfs_code
reading_parse(struct mfs_keeper *k, struct reading *r, struct mfs_err *err)
{
	mfs_autofree char *path = NULL;

	if (mfs_config_read(k->config_path, &r->snapshot, err) != MFS_OK)
		return err->code;
	if (k->mount_arg != NULL && (mfs_mount_path(k->mount_arg, &path, err) != MFS_OK ||
		mountpoint_append(r->snapshot, path, err) != MFS_OK))
		return err->code;
	return mfs_config_parse(r->snapshot, &r->config, err);
}

static enum mfs_code
reading_open(struct mfs_keeper *k, struct reading *r, struct mfs_err *err)
{
	struct mfs_config *c = r->config;

	if (c->n_models > MFS_SHM_MODELS)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: %zu models, limit %u", MFS_ESC(c->path), c->n_models,
			MFS_SHM_MODELS);
	r->fd = memfd_create("modelfs-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->fd < 0)
		return mfs_fail_sys(err, MFS_IO, "configuration");
	if (mfs_config_snapshot_write(r->snapshot, r->fd, err) != MFS_OK)
		return err->code;
	(void)fcntl(r->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	for (size_t i = 0; i < c->n_repos; i++)
		if (access(c->repos[i].root, R_OK) != 0)
			mfs_log(MFS_LOG_WARN, "repository %s: root %s: %s: only one that is in the state already can be used",
				c->repos[i].name, MFS_ESC(c->repos[i].root), strerror(errno));
	if (mfs_key_fds_open(c, k->folders.state, &r->keys, err) != MFS_OK)
		return err->code;
	r->has_keys = true;
	r->seeds = calloc(c->n_seed + 1, sizeof(*r->seeds));
	if (r->seeds == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "configuration");
	for (size_t i = 0; i < c->n_seed; i++) {
		r->seeds[i] = open(c->seed[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r->seeds[i] < 0)
			mfs_log(MFS_LOG_WARN, "seed: %s: %s; not used", MFS_ESC(c->seed[i]), strerror(errno));
	}
	return MFS_OK;
}

static void
reading_install(struct mfs_keeper *k, struct reading *r)
{
	struct reading old = { k->snapshot, k->config, k->keys, k->config_fd, k->seeds, k->config != NULL };
	bool *touch = calloc(r->config->n_models + 1, sizeof(*touch));

	if (old.config != NULL)
		reading_free(&old);
	k->snapshot = r->snapshot;
	k->config = r->config;
	k->keys = r->keys;
	k->config_fd = r->fd;
	k->seeds = r->seeds;
	free(k->touch);
	k->touch = touch;
}

/* A keeper that was just killed may still be on its way out with the lock: it gets a moment. A live one keeps it. */
static enum mfs_code
lock_take(struct mfs_keeper *k, struct mfs_err *err)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	const int64_t end = mfs_clock_mono_ms() + LOCK_WAIT_MS;
	enum mfs_code code;

	while ((code = mfs_lock_take(k->folders.state, MFS_STATE_LOCK, false, &k->lock_fd, err)) == MFS_CONDITION_UNMET &&
		mfs_clock_mono_ms() < end)
		(void)nanosleep(&pause, NULL);
	return code;
}

enum mfs_code
mfs_keeper_configure(struct mfs_keeper *k, struct mfs_err *err)
{
	struct reading r = { .fd = -1 };

	k->config = NULL;
	if (reading_parse(k, &r, err) != MFS_OK || mfs_setup_folders(r.config, true, &k->folders, err) != MFS_OK ||
		lock_take(k, err) != MFS_OK ||
		reading_open(k, &r, err) != MFS_OK) {
		reading_free(&r);
		return err->code;
	}
	reading_install(k, &r);
	return MFS_OK;
}

void
mfs_keeper_note(struct mfs_keeper *k, bool links)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (mfs_running_note(k->folders.run, k->config->run, links ? &k->names : NULL, k->snapshot, &err) != MFS_OK)
		mfs_log_err("with broken files this mount will not be found", &err);
}

static enum mfs_code
same_place(const struct mfs_config *a, const struct mfs_config *b, struct mfs_err *err)
{
	const struct {
		const char *key, *from, *to;
	} fixed[] = {
		{ "mount", a->mount, b->mount }, { "state", a->state, b->state }, { "store", a->store, b->store },
		{ "run", a->run, b->run }, { "counter", a->counter, b->counter },
	};

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (strcmp(fixed[i].from, fixed[i].to) != 0)
			return mfs_fail(err, MFS_CONFIG_INVALID,
				"%s: %s: was %s; this change takes effect only after 'modelfs unmount' and 'modelfs mount'",
				MFS_ESC(b->path), fixed[i].key, MFS_ESC(fixed[i].from));
	return MFS_OK;
}

/* What belongs to the superblock, or to the kernel's memory of it: a new serve under the same mount cannot change it. */
static int64_t
later(const struct mfs_config *a, const struct mfs_config *b)
{
	const char *from = a->selinux_context != NULL ? a->selinux_context : "";
	const char *to = b->selinux_context != NULL ? b->selinux_context : "";

	return (a->memory_budget != b->memory_budget ? MFS_LATER_BUDGET : 0) |
		(a->read_ahead_kb != b->read_ahead_kb ? MFS_LATER_READ_AHEAD : 0) |
		(a->xattrs != b->xattrs ? MFS_LATER_XATTRS : 0) | (a->exec != b->exec ? MFS_LATER_EXEC : 0) |
		(strcmp(from, to) != 0 ? MFS_LATER_SELINUX : 0);
}

/* shm->models and pins go by index: it must mean the same models. */
static bool
same_models(const struct mfs_config *a, const struct mfs_config *b)
{
	if (a->n_models != b->n_models)
		return false;
	for (size_t i = 0; i < a->n_models; i++)
		if (strcmp(a->models[i].id, b->models[i].id) != 0)
			return false;
	return true;
}

enum mfs_code
mfs_keeper_reload(struct mfs_keeper *k, struct mfs_err *err)
{
	struct reading r = { .fd = -1 };

	if (reading_parse(k, &r, err) != MFS_OK || same_place(k->config, r.config, err) != MFS_OK ||
		reading_open(k, &r, err) != MFS_OK) {
		reading_free(&r);
		return err->code;
	}
	k->later = later(k->config, r.config);
	if (!same_models(k->config, r.config)) {
		k->models_changed = true;
		mfs_kjobs_end(k); /* they go by index */
	}
	reading_install(k, &r);
	mfs_keeper_note(k, false);
	return MFS_OK;
}
