/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c - folders, locks and libraries, for keeper, serve and the commands that work offline. */
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"
#include "events.h"
#include "io.h"
#include "keys.h"
#include "trusted.h"

static enum mfs_code
folder_open(const char *what, const char *path, bool create, mode_t mode, int *fd, struct stat *st,
	struct mfs_err *err)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 && errno == ENOENT && create) {
		if (mfs_mkdirs(AT_FDCWD, path, 0755, err) != MFS_OK)
			return mfs_err_context(err, "%s: ", what);
		dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir >= 0 && fchmod(dir, mode) != 0) {
			(void)mfs_fail_sys(err, MFS_IO, "%s: %s: cannot set its mode", what, MFS_ESC(path));
			(void)close(dir);
			return err->code;
		}
	}
	if (dir < 0) {
		const int why = errno;

		(void)mfs_fail_sys(err, MFS_IO, "%s: %s: cannot open the folder", what, MFS_ESC(path));
		return why == EACCES && geteuid() != 0 ? mfs_err_hint(err, "; run this as root")
			: why == ENOENT        ? mfs_err_hint(err, "; 'modelfs mount' or 'modelfs install' makes it")
						       : MFS_IO;
	}
	if (fstat(dir, st) != 0) {
		(void)mfs_fail_sys(err, MFS_IO, "%s: %s", what, MFS_ESC(path));
		(void)close(dir);
		return err->code;
	}
	*fd = dir;
	return MFS_OK;
}

/* state and store: owned by serve's uid and closed to everybody else. */
static enum mfs_code
private_open(const char *what, const char *path, bool create, const struct mfs_folders *f, int *fd,
	struct mfs_err *err)
{
	struct stat st = { 0 };

	if (folder_open(what, path, create, 0700, fd, &st, err) != MFS_OK)
		return err->code;
	if (geteuid() != 0 || st.st_uid == f->uid || !create)
		return MFS_OK;
	if (st.st_uid != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID,
			"%s: %s: belongs to uid %u, modelfs runs as %u; run 'chown -R %u %s' if it is meant to be used here",
			what, MFS_ESC(path), (unsigned)st.st_uid, (unsigned)f->uid, (unsigned)f->uid, MFS_ESC(path));
	if (fchown(*fd, f->uid, f->gid) != 0 || fchmod(*fd, 0700) != 0)
		return mfs_fail_sys(err, MFS_IO, "%s: %s: cannot give it to uid %u", what, MFS_ESC(path),
			(unsigned)f->uid);
	return MFS_OK;
}

enum mfs_code
mfs_setup_folders(const struct mfs_config *c, bool create, struct mfs_folders *out, struct mfs_err *err)
{
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_folders f = MFS_FOLDERS_INIT;
	struct mfs_err run_err = MFS_ERR_INIT;
	struct stat st;

	err = err != NULL ? err : &own;
	*out = (struct mfs_folders)MFS_FOLDERS_INIT;
	f.uid = geteuid();
	f.gid = getegid();
	if (f.uid == 0 && mfs_config_user(c, &f.uid, &f.gid, err) != MFS_OK)
		return err->code;
	if (private_open("state", c->state, create, &f, &f.state, err) != MFS_OK ||
		private_open("store", c->store, create, &f, &f.store, err) != MFS_OK)
		goto fail;
	if (folder_open("run", c->run, create, 0755, &f.run, &st, &run_err) != MFS_OK && create) {
		*err = run_err;
		goto fail;
	}
	if (create && mfs_state_key_create(f.state, err) != MFS_OK)
		goto fail;
	*out = f;
	return MFS_OK;
fail:
	mfs_folders_close(&f);
	return err->code;
}

void
mfs_folders_close(struct mfs_folders *f)
{
	mfs_cleanup_close(&f->state);
	mfs_cleanup_close(&f->store);
	mfs_cleanup_close(&f->run);
}

enum mfs_code
mfs_lock_take(int dirfd, const char *name, bool wait, int *fd, struct mfs_err *err)
{
	mfs_autoclose int lock = -1;
	struct stat dir, st;

	*fd = -1;
	/* The folder is serve's: a name in it may be anything. No link is followed, only our own file is given away. */
	lock = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock >= 0 && geteuid() == 0 && (fstat(dirfd, &dir) != 0 || fchown(lock, dir.st_uid, dir.st_gid) != 0))
		return mfs_fail_sys(err, MFS_IO, "%s: cannot set its owner", name);
	if (lock < 0 && errno == EEXIST)
		lock = openat(dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	/* A disk that failed and was mounted read-only at boot: what is installed is served all the same. */
	if (lock < 0 && errno == EROFS)
		lock = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (lock < 0 || fstat(lock, &st) != 0) {
		(void)mfs_fail_sys(err, MFS_IO, "%s: cannot open the lock", name);
		if (errno == ELOOP || errno == EISDIR || errno == ENXIO)
			(void)mfs_err_hint(err, "; it is not a regular file and holds nothing: remove it");
		else if ((errno == EACCES || errno == EPERM) && geteuid() != 0)
			(void)mfs_err_hint(err, "; run it as root");
		return MFS_IO;
	}
	if (!S_ISREG(st.st_mode))
		return mfs_fail(err, MFS_IO, "%s: the lock is not a regular file and holds nothing: remove it", name);
	while (flock(lock, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
		if (errno == EWOULDBLOCK)
			return mfs_fail(err, MFS_CONDITION_UNMET, "%s: held by another process", name);
		if (errno != EINTR)
			return mfs_fail_sys(err, MFS_IO, "%s: cannot lock", name);
	}
	*fd = mfs_steal_fd(&lock);
	return MFS_OK;
}

enum mfs_code
mfs_libraries_load(struct mfs_err *err)
{
	static const char *const digests[] = { "SHA256", "SHA512" };
	static const char *const ciphers[] = { "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-WRAP-PAD" };

	if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) != 1)
		return mfs_fail(err, MFS_INTERNAL, "OpenSSL does not start");
	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++)
		EVP_MD_free(EVP_MD_fetch(NULL, digests[i], NULL));
	for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++)
		EVP_CIPHER_free(EVP_CIPHER_fetch(NULL, ciphers[i], NULL));
	/* jansson seeds its hashes from /dev/urandom at the first object: inside it would be the time and the pid. */
	json_object_seed(0);
	if (RAND_status() != 1)
		return mfs_fail(err, MFS_INTERNAL, "OpenSSL has no random numbers");
	(void)mfs_secret_memory();
	mfs_events_boot();
	tzset();
	return MFS_OK;
}
