/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "log.h"

static struct mfs_err must_err;
#define ERR (&must_err)
#define MUST(call)                                                                                  \
	do {                                                                                        \
		if ((call) != MFS_OK) {                                                             \
			fprintf(stderr, "fixture: %s: %s\n", #call, must_err.msg);                  \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

static void
config_make(struct device *d, const char *more)
{
	char text[2048], path[300];
	int n = snprintf(text, sizeof(text),
		"mount: %s/mnt\nstate: %s/state\nstore: %s/store\ntrust: {keys: [release.pub.pem]}\n"
		"models:\n  det: {model_key: \"file:mk.bin\"}\n  seg: {}\nupdate: {min_free: 0%%}\n%s",
		d->root, d->root, d->root, more);

	scratch_write(d->root_fd, "modelfs.yaml", text, (size_t)n);
	(void)snprintf(path, sizeof(path), "%s/modelfs.yaml", d->root);
	MUST(mfs_config_read(path, &d->snapshot, ERR));
	MUST(mfs_config_parse(d->snapshot, &d->config, ERR));
}

void
device_make(struct device *d, const char *more)
{
	struct mfs_key_fds fds;

	mfs_log_open("check", (enum mfs_level)0);
	*d = (struct device){ 0 };
	d->root_fd = scratch_make(d->root, "modelfs-device");
	d->state_fd = scratch_folder(d->root_fd, "state");
	d->store_fd = scratch_folder(d->root_fd, "store");
	d->signer = mk_signer_new();
	for (unsigned i = 0; i < MFS_KEY_LEN; i++)
		d->model_key.b[i] = (uint8_t)(3 * i + 1);
	scratch_write(d->root_fd, "release.pub.pem", mk_signer_pem(d->signer), strlen(mk_signer_pem(d->signer)));
	scratch_write(d->root_fd, "mk.bin", d->model_key.b, MFS_KEY_LEN);
	config_make(d, more);
	MUST(mfs_state_key_create(d->state_fd, ERR));
	MUST(mfs_key_fds_open(d->config, d->state_fd, &fds, ERR));
	MUST(mfs_keys_load(d->config, &fds, &d->keys, ERR));
	mfs_key_fds_close(d->config, &fds);
	MUST(mfs_store_open(d->store_fd, NULL, 0, &d->store, ERR));
	MUST(mfs_cache_new(8u << 20, -1, &d->cache, ERR));
	MUST(mfs_events_open(d->state_fd, false, &d->events, ERR));
}

void
device_free(struct device *d)
{
	device_close(d);
	mfs_events_close(d->events);
	mfs_cache_free(d->cache);
	mfs_store_close(d->store);
	mfs_keys_free(d->keys);
	mfs_config_free(d->config);
	mfs_config_snapshot_free(d->snapshot);
	mk_signer_free(d->signer);
	(void)close(d->state_fd);
	(void)close(d->store_fd);
	(void)close(d->root_fd);
	scratch_remove(d->root);
}

void
device_bundle(struct device *d, const struct mk_bundle *b, const char *name, struct mfs_sha256 *id)
{
	mk_bundle(d->signer, b, d->root_fd, name, id);
}

void
device_unbundle(struct device *d, const char *name)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s", d->root, name);
	scratch_remove(path);
}

enum mfs_code
device_copy(struct device *d, const char *name, struct mfs_sha256 *id, struct mfs_err *err)
{
	struct mfs_install_args args = { .config = d->config, .keys = d->keys, .store = d->store, .bundle_name = name,
		.model = -1, .decide = d->decide, .user = d };
	enum mfs_code code;
	int lock;

	MUST(mfs_store_lock(d->store, &lock, ERR));
	args.bundle_fd = openat(d->root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	code = mfs_install_bundle(&args, id, err);
	(void)close(args.bundle_fd);
	(void)close(lock);
	return code;
}

static struct mfs_engine_args
args_of(struct device *d, unsigned flags)
{
	return (struct mfs_engine_args){ .config = d->config, .keys = d->keys, .store = d->store, .cache = d->cache,
		.events = d->events, .state_dirfd = d->state_fd, .held = d->held,
		.flags = flags };
}

enum mfs_code
device_try_open(struct device *d, unsigned flags, struct mfs_err *err)
{
	struct mfs_engine_args args = args_of(d, flags);

	return mfs_engine_open(&args, &d->engine, err);
}

void
device_open(struct device *d)
{
	MUST(device_try_open(d, 0, ERR));
}

void
device_close(struct device *d)
{
	mfs_engine_close(d->engine);
	d->engine = NULL;
}

enum mfs_code
device_recover(struct device *d, struct mfs_err *err)
{
	struct mfs_engine_args args = args_of(d, 0);

	return mfs_engine_recover(&args, err);
}

enum mfs_code
device_activate(struct device *d, const struct mfs_sha256 *id, struct mfs_err *err)
{
	bool same;

	return mfs_engine_activate(d->engine, 0, id, &same, NULL, NULL, err);
}

void
device_install(struct device *d, const struct mk_bundle *b, struct mfs_sha256 *id)
{
	bool open = d->engine != NULL;
	struct mfs_sha256 own;

	device_bundle(d, b, "installed", NULL);
	MUST(device_copy(d, "installed", &own, ERR));
	device_unbundle(d, "installed");
	if (!open)
		device_open(d);
	MUST(device_activate(d, &own, ERR));
	if (!open)
		device_close(d);
	if (id != NULL)
		*id = own;
}

/* Count blobs; the path of the i-th into out when it is not NULL. */
static unsigned
blobs_walk(struct device *d, unsigned i, char *out, size_t cap)
{
	unsigned n = 0;

	for (unsigned byte = 0; byte < 256; byte++) {
		char folder[32];
		DIR *dir;
		int fd;

		(void)snprintf(folder, sizeof(folder), "blobs/sha256/%02x", byte);
		fd = openat(d->store_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || (dir = fdopendir(fd)) == NULL)
			continue;
		for (struct dirent *e; (e = readdir(dir)) != NULL;) {
			if (e->d_name[0] == '.')
				continue;
			if (n++ == i && out != NULL)
				(void)snprintf(out, cap, "%s/%s", folder, e->d_name);
		}
		(void)closedir(dir);
	}
	return n;
}

unsigned
device_blobs(struct device *d)
{
	return blobs_walk(d, 0, NULL, 0);
}

void
device_blob_path(struct device *d, unsigned i, char *out, size_t cap)
{
	(void)blobs_walk(d, i, out, cap);
}

uint64_t
device_blob_size(struct device *d, const char *path)
{
	struct stat st;

	return fstatat(d->store_fd, path, &st, 0) == 0 ? (uint64_t)st.st_size : 0;
}

bool
device_small_store(struct device *d, const char *options)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/store", d->root);
	if (mount("none", path, "tmpfs", 0, options) != 0)
		return false;
	mfs_store_close(d->store);
	(void)close(d->store_fd);
	d->store_fd = openat(d->root_fd, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(mfs_store_open(d->store_fd, NULL, 0, &d->store, ERR));
	return true;
}

void
device_small_store_end(struct device *d)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/store", d->root);
	mfs_store_close(d->store);
	(void)close(d->store_fd);
	(void)umount(path);
	d->store_fd = openat(d->root_fd, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(mfs_store_open(d->store_fd, NULL, 0, &d->store, ERR));
}

static void
state_again(struct device *d)
{
	mfs_events_close(d->events);
	(void)close(d->state_fd);
	d->state_fd = openat(d->root_fd, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MUST(mfs_events_open(d->state_fd, false, &d->events, ERR));
}

bool
device_small_state(struct device *d, const char *options)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/state", d->root);
	if (mount("none", path, "tmpfs", 0, options) != 0)
		return false;
	state_again(d);
	return true;
}

void
device_small_state_end(struct device *d)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/state", d->root);
	(void)umount2(path, MNT_DETACH);
	state_again(d);
}
