/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kfetch.h - starting modelfs-fetch with the origins it may reach. Used by keeper for the configured
 * repositories, and by 'modelfs update --from' for one other.
 */
#ifndef MFS_KFETCH_H
#define MFS_KFETCH_H

#include <sys/types.h>

#include "mfs_config.h"

struct mfs_fetch_args {
	const struct mfs_config *config;
	/*
	 * A folder, or an http(s):// or file:// URL: the only origin, repository 0. NULL: what is configured. One below the
	 * URL of a configured repository or mirror is reached as that is: CA file, pin, proxy, client certificate, token;
	 * on the same server outside of it without the last two.
	 */
	const char *from;
	const char *cacert; /* of `from`, instead of the configured or the system's; NULL */
	pid_t parent;       /* fetch dies with it: the calling process; 0: only with its socket */
	/* 0 or NULL: the default. For tests. */
	unsigned low_speed, low_speed_s;
	const char *bus, *power;
};

#define MFS_FETCH_LOW_SPEED   1000u /* bytes per second; a bandwidth limit below twice that lowers it */
#define MFS_FETCH_LOW_SPEED_S 30u

/* Can a fetch be started for `from`? errors CONFIG_INVALID: no such folder, no such file, a URL that is none */
enum mfs_code mfs_fetch_from_check(const struct mfs_fetch_args *a, struct mfs_err *err);

/*
 * Start one. A child opens folders, certificates and the token file (they may be slow, or not there)
 * and becomes modelfs-fetch: beside this program in a build tree, else in the folder for such
 * programs. What it cannot open ends it, with a line in the log.
 *
 * sock    the other end of its socket (SOCK_SEQPACKET, close-on-exec), for mfs_remote_adopt() or serve
 * pid     of the child, to be reaped
 * errors  IO, NO_MEMORY
 */
enum mfs_code mfs_fetch_spawn(const struct mfs_fetch_args *a, int *sock, pid_t *pid, struct mfs_err *err);

/*
 * uid and gid of fetch: of the user "modelfs-fetch" if there is one, else 61181; never serve's.
 * Asks the host's user database. errors CONFIG_INVALID
 */
enum mfs_code mfs_fetch_user(const struct mfs_config *c, uid_t *uid, gid_t *gid, struct mfs_err *err);

#endif
