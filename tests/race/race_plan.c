/* SPDX-License-Identifier: Apache-2.0 */
/* A plan on many threads: blocks are handed out, lists come back in order. For ThreadSanitizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plan.h"

#define FLEET 60000

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "race_plan: %s\n", what);
	exit(1);
}

static void
inventory(char path[64])
{
	const int fd = memfd_create("inventory", 0);
	FILE *f = fdopen(fd, "w");

	must(f != NULL, "inventory");
	for (int i = 0; i < FLEET; i++)
		(void)fprintf(f, "{\"id\":\"device-%d\",\"labels\":{\"site\":\"s%d\",\"pad\":\"%060d\"}}\n", i, i % 10, i);
	must(fflush(f) == 0, "inventory");
	(void)snprintf(path, 64, "/proc/self/fd/%d", fd);
}

static struct mfs_policy *
policy(void)
{
	const struct mfs_policy_entry e = { .manifest = { { 1 } }, .version = "1.0.0", .variant = "default", .release = 1 };
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;
	struct mfs_policy *p;

	must(mfs_policy_new("det", &p, NULL) == MFS_OK && mfs_policy_rollout_add(p, 0, "r", "salt", &r, NULL) == MFS_OK &&
			mfs_policy_variant_add(r, &e, &v, NULL) == MFS_OK &&
			mfs_policy_step_add(r, 5000, 0, false, NULL) == MFS_OK, "policy");
	p->sequence = 1;
	return p;
}

int
main(void)
{
	struct mfs_plan *p = calloc(1, sizeof(*p));
	struct mfs_inventory *v;
	char path[64], *list = NULL;
	unsigned expected = 0;
	size_t n;
	FILE *f = open_memstream(&list, &n);

	must(p != NULL && f != NULL, "memory");
	inventory(path);
	must(mfs_plan_add(p, NULL, policy(), NULL) == MFS_OK, "plan");
	must(mfs_inventory_open(path, &v, NULL) == MFS_OK, "inventory");
	must(mfs_plan_run(p, v, 1, 8, f, NULL) == MFS_OK, "run");
	must(fclose(f) == 0, "list");
	must(p->devices == FLEET && p->models[0].devices == FLEET, "devices lost");
	for (char *s = list; *s != '\0'; s = strchr(s, '\n') + 1, expected++) {
		char want[32];
		const int len = snprintf(want, sizeof(want), "device-%u\t", expected);

		must(strncmp(s, want, (size_t)len) == 0, "list out of order");
	}
	must(expected == FLEET, "lines lost");
	mfs_inventory_free(v);
	mfs_plan_free(p);
	free(list);
	return 0;
}
