/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mounthelper.c - `mount -t modelfs` and fstab lines: mount(8) calls
 *
 *	mount.modelfs SOURCE MOUNTPOINT [-sfnvN] [-t TYPE] [-o OPTIONS]
 *
 * SOURCE is a configuration file, or "modelfs" or "none" for the default one. What cannot be
 * honoured is an error, but for -s and options that mean the same with and without them.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "cmd.h"

/* Handled by mount(8) or systemd, or what the mount is anyway. */
static const char *const accepted[] = { "defaults", "auto", "noauto", "user", "nouser", "owner", "_netdev", "nofail", "ro",
	"nosuid", "nodev", "noexec", "noatime", "relatime", "async", "allow_other", "default_permissions" };

static bool
option_known(const char *o)
{
	if (strncmp(o, "x-", 2) == 0 || strncmp(o, "X-", 2) == 0 || strncmp(o, "comment=", 8) == 0)
		return true;
	for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++)
		if (strcmp(o, accepted[i]) == 0)
			return true;
	return false;
}

static int
options_check(const char *list, bool sloppy)
{
	mfs_autofree char *copy = strdup(list);
	char *save = NULL;

	if (copy == NULL)
		return MFS_EXIT_FAILED;
	for (char *o = strtok_r(copy, ",", &save); o != NULL; o = strtok_r(NULL, ",", &save)) {
		if (option_known(o) || sloppy)
			continue;
		fprintf(stderr, "mount.modelfs: option '%s' has no meaning here: the mount is always read-only, and the rest is "
				"set in modelfs.yaml(5)\n", MFS_ESC(o));
		return MFS_EXIT_USAGE;
	}
	return MFS_EXIT_DONE;
}

int
mfs_mount_helper(int argc, char **argv)
{
	const char *options = "";
	bool sloppy = false, fake = false;
	char *args[5] = { (char[]){ "mount" } }, *config = (char[]){ "-c" };
	int n = 1, o;

	while ((o = getopt(argc, argv, "sfnvNt:o:")) != -1) {
		if (o == 's')
			sloppy = true;
		else if (o == 'f')
			fake = true;
		else if (o == 'o')
			options = optarg;
		else if (o == '?')
			return MFS_EXIT_USAGE;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: mount.modelfs CONFIGURATION|modelfs MOUNTPOINT [-o OPTIONS]\n");
		return MFS_EXIT_USAGE;
	}
	if ((o = options_check(options, sloppy)) != MFS_EXIT_DONE || fake)
		return o;
	if (strcmp(argv[optind], "modelfs") != 0 && strcmp(argv[optind], "none") != 0) {
		args[n++] = config;
		args[n++] = argv[optind];
	}
	args[n++] = argv[optind + 1];
	return mfs_cmd_mount(n, args);
}
