/* SPDX-License-Identifier: Apache-2.0 */
/* facts.c - power supply and battery from sysfs, interfaces from the kernel. */
#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "fetcher.h"

/* First line of a small file below dir/name, "" if there is none. */
static void
attribute(int dir, const char *name, const char *file, char *out, size_t cap)
{
	char path[300];
	mfs_autoclose int fd = -1;
	ssize_t n = -1;

	(void)snprintf(path, sizeof(path), "%s/%s", name, file);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, out, cap - 1);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

static void
supply_add(int dir, const char *name, struct mfs_wire_facts *f, bool *mains, bool *discharging)
{
	char type[32], scope[32], value[32];

	attribute(dir, name, "type", type, sizeof(type));
	attribute(dir, name, "scope", scope, sizeof(scope));
	if (strcmp(scope, "Device") == 0)
		return; /* the battery of a mouse */
	if (strcmp(type, "Battery") == 0) {
		int percent;

		attribute(dir, name, "present", value, sizeof(value));
		if (strcmp(value, "0") == 0)
			return;
		attribute(dir, name, "status", value, sizeof(value));
		*discharging |= strcmp(value, "Discharging") == 0;
		attribute(dir, name, "capacity", value, sizeof(value));
		if (sscanf(value, "%3d", &percent) == 1 && percent >= 0 && percent <= 100 &&
			(f->battery < 0 || percent < f->battery))
			f->battery = percent;
	} else if (strcmp(type, "Mains") == 0 || strncmp(type, "USB", 3) == 0) {
		attribute(dir, name, "online", value, sizeof(value));
		*mains |= value[0] == '1' || value[0] == '2';
	}
}

static void
power_find(const char *folder, struct mfs_wire_facts *f)
{
	bool mains = false, discharging = false, any = false;
	mfs_autodir DIR *d = opendir(folder);

	f->battery = -1;
	f->on_ac = 1; /* no power supplies are known: a machine that is plugged in */
	if (d == NULL)
		return;
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.') {
			any = true;
			supply_add(dirfd(d), e->d_name, f, &mains, &discharging);
		}
	if (any && (discharging || f->battery >= 0))
		f->on_ac = mains ? 1 : discharging ? 0 : -1;
}

static void
nets_find(struct mfs_wire_facts *f)
{
	struct ifaddrs *list = NULL;

	if (getifaddrs(&list) != 0)
		return;
	for (const struct ifaddrs *a = list; a != NULL && f->n_nets < MFS_WIRE_NETS; a = a->ifa_next) {
		bool known = (a->ifa_flags & (IFF_UP | IFF_RUNNING)) != (IFF_UP | IFF_RUNNING) ||
			(a->ifa_flags & IFF_LOOPBACK) != 0 || strlen(a->ifa_name) >= sizeof(f->nets[0]) || a->ifa_name[0] == '\0';

		for (uint32_t i = 0; i < f->n_nets && !known; i++)
			known = strcmp(f->nets[i], a->ifa_name) == 0;
		for (const char *c = a->ifa_name; !known && *c != '\0'; c++)
			known = *c <= 0x20 || *c > 0x7e; /* not a name to pass on */
		if (!known)
			memcpy(f->nets[f->n_nets++], a->ifa_name, strlen(a->ifa_name));
	}
	freeifaddrs(list);
}

void
facts_find(const struct mfs_wire_origins *doc, struct mfs_wire_facts *out)
{
	power_find(doc->power, out);
	nets_find(out);
	out->metered = (uint32_t)dbus_metered(doc->bus);
}
