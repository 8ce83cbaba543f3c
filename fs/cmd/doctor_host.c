/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_host.c - the machine: kernel, confinement, memory, swap, core dumps, clock. */
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"
#include "io.h"

#define MEMLOCK_WANTED (64u << 20) /* bytes: cache and keys of serve */
#define CLOCK_EARLIEST 1735689600  /* 2025-01-01: no host with this program is older */

/* The first line of a small file of /proc or /sys; "" when it cannot be read. */
static const char *
first_line(const char *path, char *out, size_t cap)
{
	mfs_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, cap - 1) : -1;

	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return out;
}

void
mfs_doctor_kernel(struct mfs_doctor *d, const char *release)
{
	static const struct { unsigned version; enum mfs_finding level; const char *costs; } steps[] = {
		{ 5 << 8 | 10, MFS_BROKEN, "older than 5.10: modelfs does not run" },
		{ 5 << 8 | 12, MFS_WEAK, "older than 5.12: no inotify events on `generation`" },
		{ 5 << 8 | 16, MFS_WEAK, "older than 5.16: every first close asks serve" },
		{ 6 << 8 | 4, MFS_WEAK, "older than 6.4: no tmpfs that is never swapped, so paged tier only" },
		{ 6 << 8 | 9, MFS_WEAK, "older than 6.9: no passthrough, so paged tier only" },
	};
	char *dot = NULL, *end = NULL;
	unsigned long major = strtoul(release, &dot, 10), minor = *dot == '.' ? strtoul(dot + 1, &end, 10) : 0;
	unsigned version;

	if (dot == release || end == NULL || end == dot + 1 || major > 1000) {
		mfs_doctor_say(d, MFS_WEAK, "kernel", "look at 'uname -r'", "version '%s' is not understood", release);
		return;
	}
	version = (unsigned)(major << 8 | (minor > 255 ? 255 : minor));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (version < steps[i].version) {
			mfs_doctor_say(d, steps[i].level, "kernel", "run Linux 6.9 or newer", "%s is %s", release,
				steps[i].costs);
			return;
		}
	if (version < (6 << 8 | 16))
		mfs_doctor_say(d, MFS_FINE, "kernel", NULL,
			"%s; below 6.16 a name that was withdrawn may be listed for a second", release);
	else
		mfs_doctor_say(d, MFS_FINE, "kernel", NULL, "%s", release);
}

static void
fuse_device(struct mfs_doctor *d)
{
	mfs_autoclose int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		mfs_doctor_say(d, MFS_FINE, "/dev/fuse", NULL, "can be opened");
	else if (errno == EACCES && !d->root)
		mfs_doctor_say(d, MFS_WEAK, "/dev/fuse", "run doctor as root", "cannot be opened by this user");
	else
		mfs_doctor_say(d, MFS_BROKEN, "/dev/fuse", "run 'modprobe fuse'; in a container, pass the device in",
			"cannot be opened (%s), nothing can be mounted", strerror(errno));
}

static void
noswap(struct mfs_doctor *d)
{
	mfs_autoclose int fs = -1;

	if (!d->root)
		return;
	if ((fs = fsopen("tmpfs", FSOPEN_CLOEXEC)) < 0)
		mfs_doctor_say(d, MFS_WEAK, "tmpfs", "run with CAP_SYS_ADMIN", "cannot be made (%s), so paged tier only",
			strerror(errno));
	else if (fsconfig(fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0) != 0)
		mfs_doctor_say(d, MFS_WEAK, "tmpfs", "run Linux 6.4 or newer",
			"knows no 'noswap', so decrypted models could reach swap: paged tier only");
	else
		mfs_doctor_say(d, MFS_FINE, "tmpfs", NULL, "can be made without swap");
}

static void
confinement(struct mfs_doctor *d)
{
	unsigned action = SECCOMP_RET_KILL_PROCESS;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi >= 2)
		mfs_doctor_say(d, MFS_FINE, "Landlock", NULL, "ABI %ld", abi);
	else if (abi == 1)
		mfs_doctor_say(d, MFS_WEAK, "Landlock", "run Linux 5.19 or newer",
			"ABI 1 forbids the renames that the store needs, so serve runs without it");
	else
		mfs_doctor_say(d, MFS_WEAK, "Landlock", "enable CONFIG_SECURITY_LANDLOCK and add landlock to the lsm= list",
			"not in this kernel: serve is confined by its uid and seccomp alone");
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0)
		mfs_doctor_say(d, MFS_FINE, "seccomp", NULL, "available");
	else
		mfs_doctor_say(d, MFS_BROKEN, "seccomp",
			"enable CONFIG_SECCOMP_FILTER, or set 'sandbox: optional' and accept it",
			"not available (%s), serve refuses to start", strerror(errno));
}

static void
swap_and_hibernation(struct mfs_doctor *d)
{
	char line[512], disk[128], state[128];
	mfs_autofclose FILE *f = fopen("/proc/swaps", "re");
	bool swap = false;

	/* zram is compressed memory, not a disk */
	for (int n = 0; f != NULL && fgets(line, sizeof(line), f) != NULL; n++)
		swap = swap || (n > 0 && strncmp(line, "/dev/zram", 9) != 0);
	(void)first_line("/sys/power/state", state, sizeof(state));
	(void)first_line("/sys/power/disk", disk, sizeof(disk));
	if (swap && strstr(state, "disk") != NULL && strstr(disk, "[disabled]") == NULL)
		mfs_doctor_say(d, MFS_WEAK, "hibernation", "boot with 'nohibernate', or encrypt the swap",
			"is possible: it writes decrypted models and keys to disk");
	else
		mfs_doctor_say(d, MFS_FINE, "hibernation", NULL, "is not possible here");
	if (swap)
		mfs_doctor_say(d, MFS_WEAK, "swap", "encrypt it, or run 'swapoff -a'",
			"is on disk: keys and resident models are kept out of it, the memory of runtimes is not");
	else
		mfs_doctor_say(d, MFS_FINE, "swap", NULL, "none on disk");
}

static void
core_dumps(struct mfs_doctor *d)
{
	char pattern[256];

	(void)first_line("/proc/sys/kernel/core_pattern", pattern, sizeof(pattern));
	if (pattern[0] == '\0' || strcmp(pattern, "|/bin/false") == 0)
		mfs_doctor_say(d, MFS_FINE, "core dumps", NULL, "are not written");
	else
		mfs_doctor_say(d, MFS_WEAK, "core dumps", "set kernel.core_pattern to '|/bin/false', or LimitCORE=0 for the runtime",
			"go to '%s': modelfs makes none, a runtime that crashes may leave decrypted weights on disk", pattern);
}

static void
memory(struct mfs_doctor *d)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_MEMLOCK, &r) != 0)
		return;
	if (r.rlim_max == RLIM_INFINITY || r.rlim_max >= MEMLOCK_WANTED)
		mfs_doctor_say(d, MFS_FINE, "locked memory", NULL, "enough may be locked");
	else if (d->root)
		mfs_doctor_say(d, MFS_FINE, "locked memory", NULL, "limit %llu KiB here; root raises it for serve",
			(unsigned long long)r.rlim_max / 1024);
	else
		mfs_doctor_say(d, MFS_WEAK, "locked memory", "raise RLIMIT_MEMLOCK (LimitMEMLOCK=64M in a unit)",
			"limit %llu KiB: without root, keys and decrypted chunks could reach swap",
			(unsigned long long)r.rlim_max / 1024);
}

static void
clock_set(struct mfs_doctor *d)
{
	if (mfs_clock_wall() < CLOCK_EARLIEST)
		mfs_doctor_say(d, MFS_WEAK, "clock", "set it (NTP, an RTC battery)",
			"is not set: times in status and events are wrong, and nothing can be judged by its age");
	else
		mfs_doctor_say(d, MFS_FINE, "clock", NULL, "is set");
}

void
mfs_doctor_host(struct mfs_doctor *d)
{
	fuse_device(d);
	noswap(d);
	confinement(d);
	swap_and_hibernation(d);
	core_dumps(d);
	memory(d);
	clock_set(d);
}
