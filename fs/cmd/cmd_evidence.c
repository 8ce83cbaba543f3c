/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_evidence.c - `modelfs evidence -o FILE`: what an incident needs, in one tar: signed metadata, policies,
 * manifests and signatures as received, events, status, trusted state, the effective configuration. No keys and no
 * model bytes: secrets are not opened, and the configuration is the one that `config show` prints.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd_common.h"
#include "io.h"

#define FILE_MAX_BYTES (64u << 20)
#define BLOCK          512u

struct tar {
	int fd;
	unsigned files, left_out;
	struct mfs_err err;
	struct file_id { dev_t dev; ino_t ino; } *keys; /* the files of configured keys, wherever they lie */
	size_t n_keys;
};

static void
key_note(struct tar *t, const char *uri)
{
	struct stat st;

	if (uri != NULL && strncmp(uri, "file:", 5) == 0 && stat(uri + 5, &st) == 0)
		t->keys[t->n_keys++] = (struct file_id){ st.st_dev, st.st_ino };
}

static bool
keys_note(struct tar *t, const struct mfs_config *c)
{
	if ((t->keys = calloc(c->n_models + 1, sizeof(*t->keys))) == NULL)
		return false;
	key_note(t, c->device_key);
	for (size_t i = 0; i < c->n_models; i++)
		key_note(t, c->models[i].model_key);
	return true;
}

/* POSIX.1-1988 ustar; names of at most 100 bytes with a prefix of at most 155. */
static bool
header_fill(char h[BLOCK], const char *name, size_t len)
{
	size_t n = strlen(name), cut = 0;
	unsigned sum = 0;

	memset(h, 0, BLOCK);
	if (n > 100) {
		for (size_t i = n - 101; i < n && i <= 155; i++)
			if (name[i] == '/') {
				cut = i;
				break;
			}
		if (cut == 0)
			return false;
		memcpy(h + 345, name, cut);
		memcpy(h, name + cut + 1, n - cut - 1);
	} else {
		memcpy(h, name, n);
	}
	(void)snprintf(h + 100, 8, "%07o", 0600u);
	(void)snprintf(h + 108, 8, "%07o", 0u);
	(void)snprintf(h + 116, 8, "%07o", 0u);
	(void)snprintf(h + 124, 12, "%011llo", (unsigned long long)len);
	(void)snprintf(h + 136, 12, "%011llo", (unsigned long long)mfs_clock_wall());
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar", 6);
	memcpy(h + 263, "00", 2);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	(void)snprintf(h + 148, 8, "%06o", sum);
	h[155] = ' ';
	return true;
}

static void
tar_add(struct tar *t, const char *name, const void *bytes, size_t len)
{
	static const char zero[BLOCK];
	char h[BLOCK];

	if (t->err.code != MFS_OK)
		return;
	if (!header_fill(h, name, len)) {
		t->left_out++;
		return;
	}
	if (mfs_write_full(t->fd, h, sizeof(h)) != 0 || mfs_write_full(t->fd, bytes, len) != 0 ||
		mfs_write_full(t->fd, zero, (BLOCK - len % BLOCK) % BLOCK) != 0)
		(void)mfs_fail_sys(&t->err, MFS_IO, "cannot write");
	t->files++;
}

static bool
is_secret(const struct tar *t, const char *name, const struct stat *st)
{
	for (size_t i = 0; i < t->n_keys; i++)
		if (t->keys[i].dev == st->st_dev && t->keys[i].ino == st->st_ino)
			return true;
	return strcmp(name, "key") == 0 || strcmp(name, "device-key") == 0 || strcmp(name, "lock") == 0 ||
		strcmp(name, "install.lock") == 0;
}

/* Every regular file below a folder; links are not followed, keys not opened. */
static void
folder_add(struct tar *t, int dirfd, const char *prefix, unsigned depth)
{
	DIR *dir = fdopendir(dirfd);

	if (dir == NULL) {
		(void)close(dirfd);
		return;
	}
	for (struct dirent *e; (e = readdir(dir)) != NULL && t->err.code == MFS_OK;) {
		mfs_autofree uint8_t *bytes = NULL;
		char name[512];
		struct stat st;
		size_t len;
		int n, fd;

		n = snprintf(name, sizeof(name), "%s/%s", prefix, e->d_name);
		if (e->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof(name) ||
			fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || is_secret(t, e->d_name, &st))
			continue;
		if (S_ISDIR(st.st_mode) && depth < 4 &&
			(fd = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) >= 0)
			folder_add(t, fd, name, depth + 1);
		else if (S_ISREG(st.st_mode) && mfs_file_read(dirfd, e->d_name, FILE_MAX_BYTES, &bytes, &len, NULL) == MFS_OK)
			tar_add(t, name, bytes, len);
		else if (!S_ISDIR(st.st_mode))
			t->left_out++;
	}
	(void)closedir(dir);
}

/* What serve says of itself, of all models. */
static void
asked_add(struct tar *t, const struct mfs_config *c, const char *name, bool json)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_STATUS, .timeout_ms = -1, .json = json };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_ctl_reply reply;
	const char *text;

	if (mfs_client_ask(c, &r, 10000, NULL, NULL, &reply, &err) != MFS_OK) {
		tar_add(t, name, err.msg, strlen(err.msg));
		return;
	}
	text = json_string_value(json_object_get(reply.body, "text"));
	if (text != NULL)
		tar_add(t, name, text, strlen(text));
	json_decref(reply.body);
}

static void
explained_add(struct tar *t, const struct mfs_config *c, size_t i)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_EXPLAIN, .timeout_ms = -1 };
	char name[MFS_ID_MAX + 32];
	struct mfs_ctl_reply reply;
	const char *text;

	(void)snprintf(r.model, sizeof(r.model), "%s", c->models[i].id);
	(void)snprintf(name, sizeof(name), "explain/%s", c->models[i].id);
	if (mfs_client_ask(c, &r, 10000, NULL, NULL, &reply, NULL) != MFS_OK)
		return;
	if ((text = json_string_value(json_object_get(reply.body, "text"))) != NULL)
		tar_add(t, name, text, strlen(text));
	json_decref(reply.body);
}

static void
all_add(struct tar *t, struct mfs_cmd_env *env)
{
	mfs_autofree char *config = NULL;
	char about[256];
	size_t len;
	int fd;

	(void)snprintf(about, sizeof(about), "modelfs %s evidence, taken at %lld seconds since the epoch\n", PACKAGE_VERSION,
		(long long)mfs_clock_wall());
	tar_add(t, "README", about, strlen(about));
	if (mfs_config_show(env->config, &config, &len, NULL) == MFS_OK)
		tar_add(t, "config.yaml", config, len);
	asked_add(t, env->config, "status", false);
	asked_add(t, env->config, "status.json", true);
	for (size_t i = 0; i < env->config->n_models && i < 64; i++)
		explained_add(t, env->config, i);
	if ((fd = fcntl(env->folders.state, F_DUPFD_CLOEXEC, 3)) >= 0)
		folder_add(t, fd, "state", 0);
	if ((fd = openat(env->folders.store, "manifests", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) >= 0)
		folder_add(t, fd, "store/manifests", 1);
}

int
mfs_cmd_evidence(int argc, char **argv)
{
	static const char end[2 * BLOCK];
	MFS_CLEANUP(mfs_cmd_env_close) struct mfs_cmd_env env = MFS_CMD_ENV_INIT;
	struct tar t = { .fd = -1 };
	struct mfs_args args;
	int code;

	if (!mfs_args_parse(argc, argv, MFS_ARG_OUTPUT, 0, 0, &args, &code))
		return code;
	if (args.output == NULL) {
		fprintf(stderr, "modelfs: evidence: -o FILE is missing\n");
		return mfs_cmd_usage(NULL);
	}
	if (mfs_cmd_env_ask(&env, "evidence", args.config, &t.err) != MFS_OK ||
		mfs_setup_folders(env.config, false, &env.folders, &t.err) != MFS_OK)
		return mfs_cmd_fail("evidence", &t.err);
	/* Never over something that stands there. */
	if ((t.fd = open(args.output, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0) {
		(void)mfs_fail_sys(&t.err, MFS_IO, "%s", MFS_ESC(args.output));
		return mfs_cmd_fail("evidence", &t.err);
	}
	if (keys_note(&t, env.config))
		all_add(&t, &env);
	else
		(void)mfs_fail(&t.err, MFS_NO_MEMORY, "no memory");
	free(t.keys);
	if (t.err.code == MFS_OK && (mfs_write_full(t.fd, end, sizeof(end)) != 0 || fsync(t.fd) != 0))
		(void)mfs_fail_sys(&t.err, MFS_IO, "cannot write");
	(void)close(t.fd);
	if (t.err.code != MFS_OK) {
		(void)unlink(args.output);
		(void)mfs_err_context(&t.err, "%s: ", MFS_ESC(args.output));
		return mfs_cmd_fail("evidence", &t.err);
	}
	printf("%s: %u files%s; no keys, no model bytes\n", MFS_ESC(args.output), t.files,
		t.left_out > 0 ? ", some could not be read" : "");
	return MFS_EXIT_DONE;
}
