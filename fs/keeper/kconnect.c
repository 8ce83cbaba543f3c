/* SPDX-License-Identifier: Apache-2.0 */
/* kconnect.c - what a connection consists of, made in the order in which it is needed. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "held.h"
#include "io.h"
#include "keeper.h"
#include "log.h"

static enum mfs_code
shared_create(struct mfs_keeper *k, struct mfs_err *err)
{
	k->shm_fd = memfd_create("modelfs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (k->shm_fd < 0 || ftruncate(k->shm_fd, sizeof(struct mfs_shm)) != 0)
		return mfs_fail_sys(err, MFS_IO, "shared memory");
	/* serve maps it writable: it must not be able to take the pages from under keeper. */
	(void)fcntl(k->shm_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	k->shm = mmap(NULL, sizeof(struct mfs_shm), PROT_READ | PROT_WRITE, MAP_SHARED, k->shm_fd, 0);
	if (k->shm == MAP_FAILED) {
		k->shm = NULL;
		return mfs_fail_sys(err, MFS_IO, "shared memory");
	}
	k->shm->magic = MFS_SHM_MAGIC;
	k->shm->layout = MFS_SHM_LAYOUT;
	k->shm->total = sizeof(struct mfs_shm);
	return MFS_OK;
}

/* Unless there is one: what acts from memory alone outlives connections too. Without it a crash of serve forgets that. */
static void
held_create(struct mfs_keeper *k)
{
	struct mfs_err err = MFS_ERR_INIT;

	if (k->held_fd < 0 && mfs_held_make(&k->held_fd, &err) != MFS_OK)
		mfs_log_err("keeper", &err);
}

void
mfs_keeper_disconnect(struct mfs_keeper *k)
{
	mfs_kmount_close(&k->mount);
	mfs_cleanup_close(&k->mount.target_fd);
	free(mfs_steal(&k->mount.path));
	mfs_kresident_close(&k->resident);
	if (k->shm != NULL)
		(void)munmap(k->shm, sizeof(*k->shm));
	k->shm = NULL;
	mfs_cleanup_close(&k->shm_fd);
}

enum mfs_code
mfs_keeper_connect(struct mfs_keeper *k, struct mfs_err *err)
{
	bool made = k->mount.made_folder;

	mfs_keeper_disconnect(k);
	if (mfs_kadopt(k, err)) {
		held_create(k);
		return MFS_OK;
	}
	held_create(k);
	if (shared_create(k, err) != MFS_OK || mfs_kmount_target(&k->mount, k->config->mount, err) != MFS_OK ||
		mfs_kresident_open(&k->resident, mfs_kresident_budget(k->config), err) != MFS_OK ||
		mfs_kmount_create(&k->mount, k->config, k->shm, k->resident.dir >= 0, k->resend, err) != MFS_OK)
		return err->code;
	k->mount.made_folder |= made;
	k->shm->tmpfs_size = k->resident.size;
	return MFS_OK;
}
