/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lifetimes.c - how long what is signed counts. What `init` was given is kept in the targets role, so that it is signed
 * itself: whoever may write the folder cannot have metadata signed that never expires.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo_internal.h"

#define LIFETIMES_FIELD "x-modelfs-lifetimes" /* of targets: {"timestamp": seconds}; other TUF tools keep it and ignore it */
#define LIFETIME_MAX    (100LL * 365 * MFS_MD_DAY)

const struct mfs_lifetimes mfs_lifetimes_default = { { [MFS_LIFE_ROOT] = 365LL * MFS_MD_DAY,
	[MFS_LIFE_TARGETS] = 365LL * MFS_MD_DAY, [MFS_LIFE_RELEASE] = 365LL * MFS_MD_DAY, [MFS_LIFE_POLICY] = 30LL * MFS_MD_DAY,
	[MFS_LIFE_SNAPSHOT] = 7LL * MFS_MD_DAY, [MFS_LIFE_TIMESTAMP] = MFS_MD_DAY } };

static const char *const life_names[MFS_LIFE_N] = { [MFS_LIFE_ROOT] = "root", [MFS_LIFE_TARGETS] = "targets",
	[MFS_LIFE_RELEASE] = "release", [MFS_LIFE_POLICY] = "policy", [MFS_LIFE_SNAPSHOT] = "snapshot",
	[MFS_LIFE_TIMESTAMP] = "timestamp" };

enum mfs_life
mfs_life_of(const char *role)
{
	const size_t len = strcspn(role, ".");

	for (int i = 0; i < MFS_LIFE_N; i++)
		if (strlen(life_names[i]) == len && strncmp(role, life_names[i], len) == 0)
			return (enum mfs_life)i;
	return MFS_LIFE_RELEASE;
}

enum mfs_code
mfs_lifetimes_set(struct mfs_lifetimes *l, const char *arg, struct mfs_err *err)
{
	const char *equals = strchr(arg, '=');
	char *end;
	long long n, unit;

	for (int i = 0; equals != NULL && i < MFS_LIFE_N; i++) {
		if (strlen(life_names[i]) != (size_t)(equals - arg) || strncmp(arg, life_names[i], (size_t)(equals - arg)) != 0)
			continue;
		errno = 0;
		n = strtoll(equals + 1, &end, 10);
		unit = *end == 'd' ? MFS_MD_DAY : *end == 'h' ? 3600 : *end == 'm' ? 60 : 0;
		if (errno != 0 || equals[1] < '0' || equals[1] > '9' || unit == 0 || end[1] != '\0' || n < 1 ||
			n > LIFETIME_MAX / unit)
			break;
		l->s[i] = n * unit;
		return MFS_OK;
	}
	return mfs_fail(err, MFS_CONFIG_INVALID,
		"--expires %s: want root|targets|release|policy|snapshot|timestamp=TIME, for example timestamp=36h or policy=14d",
		MFS_ESC(arg));
}

enum mfs_code
mfs_lifetimes_recall(struct mfs_repo *r, struct mfs_err *err)
{
	const json_t *kept = json_object_get(mfs_md_signed(r->targets.doc), LIFETIMES_FIELD);

	if (kept != NULL && !json_is_object(kept))
		return mfs_fail(err, MFS_MALFORMED, "%s: targets: " LIFETIMES_FIELD ": not an object", MFS_ESC(r->path));
	for (int i = 0; kept != NULL && i < MFS_LIFE_N; i++) {
		const json_t *v = json_object_get(kept, life_names[i]);

		if (v == NULL)
			continue;
		if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > LIFETIME_MAX)
			return mfs_fail(err, MFS_MALFORMED, "%s: targets: " LIFETIMES_FIELD ".%s: not a number of seconds up to a hundred "
				"years", MFS_ESC(r->path), life_names[i]);
		r->life.s[i] = json_integer_value(v);
	}
	return MFS_OK;
}

void
mfs_lifetimes_given(struct mfs_repo *r, const struct mfs_lifetimes *given)
{
	for (int i = 0; i < MFS_LIFE_N; i++)
		if (given->s[i] != 0)
			r->life.s[i] = given->s[i];
}

enum mfs_code
mfs_lifetimes_keep(struct mfs_repo *r, const struct mfs_lifetimes *given, struct mfs_err *err)
{
	json_t *body, *kept;
	enum mfs_code code;
	bool any = false;

	for (int i = 0; i < MFS_LIFE_N; i++)
		any = any || given->s[i] != 0;
	if (!any)
		return MFS_OK;
	if ((code = mfs_repo_edit(r, "targets", &body, err)) != MFS_OK)
		return code;
	if ((kept = json_object_get(body, LIFETIMES_FIELD)) == NULL &&
		json_object_set_new(body, LIFETIMES_FIELD, kept = json_object()) != 0)
		return mfs_fail(err, MFS_NO_MEMORY, "targets");
	for (int i = 0; i < MFS_LIFE_N; i++)
		if (given->s[i] != 0 && json_object_set_new(kept, life_names[i], json_integer((json_int_t)given->s[i])) != 0)
			return mfs_fail(err, MFS_NO_MEMORY, "targets");
	return MFS_OK;
}
