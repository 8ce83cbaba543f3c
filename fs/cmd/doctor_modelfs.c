/* SPDX-License-Identifier: Apache-2.0 */
/* doctor_modelfs.c - this instance: user, folders, keys, rollback protection, socket, mount. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "device_key.h"
#include "doctor.h"
#include "kfetch.h"

#define FUSE_SUPER     0x65735546
#define STATE_LEAST    (UINT64_C(64) << 10) /* bytes: less than any change of the state takes */

static void
user(struct mfs_doctor *d, const struct mfs_config *c)
{
	struct mfs_err err = MFS_ERR_INIT;
	uid_t uid;
	gid_t gid;

	if (mfs_config_user(c, &uid, &gid, &err) != MFS_OK)
		mfs_doctor_say(d, MFS_BROKEN, "user", "create it, or correct 'user' in the configuration", "%s", err.msg);
	else if (getpwuid(uid) == NULL)
		mfs_doctor_say(d, MFS_WEAK, "user", "run 'useradd --system --no-create-home --shell /usr/sbin/nologin modelfs' before the first start",
			"serve runs as uid %u, which has no name: nothing else may ever get this number", (unsigned)uid);
	else
		mfs_doctor_say(d, MFS_FINE, "user", NULL, "serve runs as uid %u", (unsigned)uid);
}

void
mfs_doctor_fetch_user(struct mfs_doctor *d, const struct mfs_config *c, uid_t uid, bool named)
{
	static const char add[] = "run 'useradd --system --no-create-home --shell /usr/sbin/nologin modelfs-fetch'";

	if (named)
		mfs_doctor_say(d, MFS_FINE, "fetch user", NULL, "fetch runs as uid %u", (unsigned)uid);
	else if (c->update.conditions.unmetered)
		mfs_doctor_say(d, MFS_BROKEN, "fetch user", add, "fetch runs as uid %u, which has no name: the system bus does not talk "
			"to it, so whether the network is metered stays unknown, and with 'metered: false' nothing is ever downloaded",
			(unsigned)uid);
	else
		mfs_doctor_say(d, MFS_WEAK, "fetch user", add, "fetch runs as uid %u, which has no name: nothing else may ever get this "
			"number, and the condition 'metered' would never be met", (unsigned)uid);
}

static void
fetch_user(struct mfs_doctor *d, const struct mfs_config *c)
{
	uid_t uid;
	gid_t gid;

	if ((c->n_repos > 0 || c->telemetry.url != NULL) && d->root && mfs_fetch_user(c, &uid, &gid, NULL) == MFS_OK)
		mfs_doctor_fetch_user(d, c, uid, getpwuid(uid) != NULL);
}

/* What kind of filesystem holds a folder, or its nearest parent that exists. */
static bool
filesystem(const char *path, struct statfs *out)
{
	mfs_autofree char *p = strdup(path);
	char *slash;

	while (p != NULL && statfs(p, out) != 0) {
		if (errno != ENOENT || (slash = strrchr(p, '/')) == NULL)
			return false;
		if (slash == p)
			return statfs("/", out) == 0;
		*slash = '\0';
	}
	return p != NULL;
}

/* As mfs_setup_folders would find it; a missing folder is made when it is needed. */
static void
owner(struct mfs_doctor *d, const struct mfs_config *c, const char *what, const char *path)
{
	struct stat st;
	uid_t uid = geteuid();
	gid_t gid;

	if (stat(path, &st) != 0 || (uid == 0 && mfs_config_user(c, &uid, &gid, NULL) != MFS_OK))
		return;
	if (st.st_uid != uid && st.st_uid != 0)
		mfs_doctor_say(d, MFS_BROKEN, what, "give it to the user of serve with 'chown -R'",
			"%s belongs to uid %u, serve runs as %u", path, (unsigned)st.st_uid, (unsigned)uid);
	else if ((st.st_mode & 077) != 0)
		mfs_doctor_say(d, MFS_WEAK, what, "run 'chmod 0700' for it", "%s can be entered by others", path);
}

static void
state_key(struct mfs_doctor *d, const struct mfs_config *c)
{
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/key", c->state) < (int)sizeof(path) && stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		mfs_doctor_say(d, MFS_WEAK, "state key", "run 'chmod 0600' for it",
			"%s: who can read it can write a trusted state of his own", path);
}

/* Magic numbers have 32 bits; the field is signed, and as wide as the host's words. */
static uint32_t
fs_magic(const struct statfs *s)
{
	return (uint32_t)s->f_type;
}

static void
folders(struct mfs_doctor *d, const struct mfs_config *c)
{
	struct statfs s;
	uint64_t free_bytes, want;

	owner(d, c, "state", c->state);
	state_key(d, c);
	owner(d, c, "store", c->store);
	if (!filesystem(c->state, &s))
		mfs_doctor_say(d, MFS_BROKEN, "state", "make its parent folder reachable", "%s: %s", c->state, strerror(errno));
	else if (fs_magic(&s) == TMPFS_MAGIC || fs_magic(&s) == RAMFS_MAGIC)
		mfs_doctor_say(d, MFS_BROKEN, "state", "move 'state' to a disk that survives a restart",
			"%s lies in memory: with it goes what protects against old models at every restart", c->state);
	else if (fs_magic(&s) == OVERLAYFS_SUPER_MAGIC)
		mfs_doctor_say(d, MFS_WEAK, "state", "move 'state' to a disk of its own",
			"%s lies on an overlay, which is often thrown away: then protection against old models goes with it",
			c->state);
	else
		mfs_doctor_say(d, MFS_FINE, "state", NULL, "%s", c->state);
	if (filesystem(c->state, &s) && (uint64_t)s.f_bavail * (uint64_t)s.f_frsize < STATE_LEAST)
		mfs_doctor_say(d, MFS_BROKEN, "state", "make room on the disk that holds it", "%s: %llu KiB are free: nothing new is activated, "
			"and a revocation has the reserve alone", c->state,
			(unsigned long long)s.f_bavail * (unsigned long long)s.f_frsize >> 10);
	if (!filesystem(c->store, &s)) {
		mfs_doctor_say(d, MFS_BROKEN, "store", "make its parent folder reachable", "%s: %s", c->store, strerror(errno));
		return;
	}
	free_bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_frsize;
	want = c->min_free <= 100 ? (uint64_t)s.f_blocks * (uint64_t)s.f_frsize / 100 * c->min_free : c->min_free;
	if (fs_magic(&s) == OVERLAYFS_SUPER_MAGIC)
		mfs_doctor_say(d, MFS_WEAK, "store", "move 'store' to a disk of its own",
			"%s lies on an overlay: slower cold reads, and models that vanish with the container", c->store);
	else if (fs_magic(&s) == NFS_SUPER_MAGIC || fs_magic(&s) == FUSE_SUPER || fs_magic(&s) == SMB_SUPER_MAGIC)
		mfs_doctor_say(d, MFS_WEAK, "store", "move 'store' to a local disk",
			"%s lies on a network or FUSE filesystem: a read waits for it", c->store);
	else if (fs_magic(&s) == TMPFS_MAGIC || fs_magic(&s) == RAMFS_MAGIC)
		mfs_doctor_say(d, MFS_WEAK, "store", "move 'store' to a disk",
			"%s lies in memory: models must be installed again after every restart", c->store);
	else
		mfs_doctor_say(d, MFS_FINE, "store", NULL, "%s", c->store);
	if (free_bytes < want)
		mfs_doctor_say(d, MFS_WEAK, "space", "run 'modelfs gc', or free space", "%llu MiB are free, %llu MiB are to stay free: nothing can be installed",
			(unsigned long long)free_bytes >> 20, (unsigned long long)want >> 20);
	else
		mfs_doctor_say(d, MFS_FINE, "space", NULL, "%llu MiB for models", (unsigned long long)(free_bytes - want) >> 20);
}

/* Whoever writes it says what this host trusts, and what runs on it. */
static void
configuration_files(struct mfs_doctor *d, const struct mfs_config_snapshot *s)
{
	struct stat st;

	for (size_t i = 0; s != NULL && i < s->n; i++)
		if (!s->sources[i].fact && stat(s->sources[i].path, &st) == 0 &&
			((st.st_mode & 022) != 0 || (st.st_uid != 0 && st.st_uid != geteuid())))
			mfs_doctor_say(d, MFS_WEAK, "configuration", "run 'chown root FILE; chmod 0644 FILE'",
				"%s can be changed by others than root, and with it what this host trusts and runs", s->sources[i].path);
}

static void
keys(struct mfs_doctor *d, struct mfs_cmd_env *env)
{
	const struct mfs_config *c = env->config;
	struct mfs_err err = MFS_ERR_INIT;
	bool fine = true;

	for (size_t i = 0; i < c->n_keys; i++) {
		struct stat st;

		if (stat(c->keys[i].file, &st) == 0 && ((st.st_mode & 022) != 0 || st.st_uid != 0)) {
			fine = false;
			mfs_doctor_say(d, MFS_WEAK, "trust key", "run 'chown root FILE; chmod 0644 FILE'",
				"%s can be replaced by others than root, and with it what this host trusts", c->keys[i].file);
		}
	}
	if (!d->root)
		return;
	if (mfs_key_fds_open(c, -1, &env->keys, &err) != MFS_OK) {
		mfs_doctor_say(d, MFS_BROKEN, "trust keys", "put the file there, or correct trust.keys", "%s", err.msg);
		return;
	}
	env->has_keys = true;
	for (size_t i = 0; i < c->n_models; i++) {
		struct stat st;

		if (env->keys.reason[i] != NULL) {
			fine = false;
			mfs_doctor_say(d, MFS_BROKEN, "model key", "provide it with mode 0600, then 'modelfs keys retrust'", "%s: %s",
				c->models[i].id, env->keys.reason[i]);
		} else if (env->keys.model[i] >= 0 && fstat(env->keys.model[i], &st) == 0 && (st.st_mode & 077) != 0) {
			fine = false;
			mfs_doctor_say(d, MFS_WEAK, "model key", "run 'chmod 0600 FILE'",
				"%s: the file of its model key can be read by others than root", c->models[i].id);
		}
	}
	if (fine)
		mfs_doctor_say(d, MFS_FINE, "keys", NULL, "%zu trust keys, and every model key that is configured", c->n_keys);
}

static void
device_key(struct mfs_doctor *d, const struct mfs_config *c)
{
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_device_key key;

	if (!d->root)
		return;
	if (mfs_device_key_load(c->device_key, &key, &err) == MFS_OK)
		mfs_doctor_say(d, MFS_FINE, "device key", NULL, "%s, %s", key.type, MFS_HEX(&key.id));
	else if (err.sys_errno == ENOENT)
		mfs_doctor_say(d, MFS_FINE, "device key", NULL, "not made yet; 'modelfs device' makes it");
	else
		mfs_doctor_say(d, MFS_WEAK, "device key", "correct device.key, or what it names", "%s: no grant can be addressed to "
			"this host", err.msg);
}

static bool
status_bool(const struct mfs_doctor *d, const char *group, const char *name)
{
	const json_t *o = group != NULL ? json_object_get(d->status, group) : d->status;

	return json_is_true(json_object_get(o, name));
}

static void
sandbox(struct mfs_doctor *d, const char *what, const char *group, const char *who)
{
	static const char *const parts[] = { "uid", "no_new_privs", "seccomp", "landlock" };
	char missing[64] = "";

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (!status_bool(d, group, parts[i]))
			(void)snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s", parts[i]);
	if (missing[0] == '\0')
		mfs_doctor_say(d, MFS_FINE, what, NULL, "uid, no_new_privs, seccomp, landlock");
	else
		mfs_doctor_say(d, MFS_WEAK, what, "mount as root, without 'sandbox: optional', on Linux 5.19 or newer with Landlock",
			"%s is confined less than it should be: without%s", who, missing);
}

static void
state_room(struct mfs_doctor *d, const struct mfs_config *c)
{
	const json_t *state = json_object_get(d->status, "state");
	const char *unwritten = json_string_value(json_object_get(state, "unwritten"));

	if (unwritten != NULL)
		mfs_doctor_say(d, MFS_BROKEN, "state", "make room on the disk that holds it", "a revocation acts from memory alone: an "
			"unmount or a restart of this host forgets it until the next check: %s", unwritten);
	if (status_bool(d, "state", "full"))
		mfs_doctor_say(d, MFS_BROKEN, "state", "make room on the disk that holds it", "%s is full: %lld of the %lld KiB kept in "
			"reserve are left: revocations act, nothing new is activated", c->state,
			(long long)json_integer_value(json_object_get(state, "reserve")) >> 10,
			(long long)json_integer_value(json_object_get(state, "reserve_wanted")) >> 10);
	else if (json_integer_value(json_object_get(state, "reserve")) > 0)
		mfs_doctor_say(d, MFS_FINE, "state", NULL, "%lld KiB in reserve for revocations",
			(long long)json_integer_value(json_object_get(state, "reserve")) >> 10);
}

static void
telemetry(struct mfs_doctor *d)
{
	const json_t *t = json_object_get(d->status, "telemetry"), *last = json_object_get(t, "last");
	const char *since = json_string_value(json_object_get(t, "failing_since")), *why = json_string_value(json_object_get(last,
		"detail"));
	const long long queued = (long long)json_integer_value(json_object_get(t, "queued"));

	if (!json_is_object(t))
		return; /* off */
	if (since != NULL)
		mfs_doctor_say(d, MFS_WEAK, "telemetry", "make the collector reachable, or correct telemetry.url; updates do not wait for it",
			"nothing is delivered since %s, and %lld records wait%s%s", since, queued, why != NULL ? ": " : "",
			why != NULL ? why : "");
	else
		mfs_doctor_say(d, MFS_FINE, "telemetry", NULL, "%lld records delivered, %lld wait", (long long)json_integer_value(
			json_object_get(t, "sent")), queued);
}

static const char *
printed(const json_t *text)
{
	return json_string_value(text) != NULL ? json_string_value(text) : "";
}

/* Versions that no key of this host opens: what is active, and what waits for one. */
static void
content_keys(struct mfs_doctor *d)
{
	static const char *const todo = "have its publisher run 'modelpub grant' for this host's key, or configure a key it is "
					"wrapped for; 'modelfs explain' names them";
	const json_t *m;
	size_t i;

	json_array_foreach(json_object_get(d->status, "models"), i, m) {
		const json_t *active = json_object_get(m, "active");
		const json_t *next = json_object_get(json_object_get(m, "cycle"), "next");
		const json_t *why = json_object_get(next, "why");
		const char *id = json_string_value(json_object_get(m, "id"));
		const char *unreadable = json_string_value(json_object_get(active, "unreadable"));
		const char *outcome = json_string_value(json_object_get(why, "outcome"));

		if (unreadable != NULL)
			mfs_doctor_say(d, MFS_BROKEN, "content key", todo, "%s: %s: %s", MFS_ESC(id), MFS_ESC(unreadable),
				printed(json_object_get(active, "unreadable_why")));
		if (outcome != NULL && strcmp(outcome, mfs_code_name(MFS_KEY_UNAVAILABLE)) == 0)
			mfs_doctor_say(d, MFS_WEAK, "content key", todo, "%s: its next version waits: %s", MFS_ESC(id),
				printed(json_object_get(why, "detail")));
	}
}

/* What the running serve says of itself. */
void
mfs_doctor_served(struct mfs_doctor *d, const struct mfs_config *c)
{
	json_int_t ahead = json_integer_value(json_object_get(d->status, "read_ahead_kb"));
	json_int_t failures = json_integer_value(json_object_get(d->status, "chunk_failures"));
	json_int_t restarts = json_integer_value(json_object_get(d->status, "restarts"));

	if (ahead == (json_int_t)c->read_ahead_kb)
		mfs_doctor_say(d, MFS_FINE, "read ahead", NULL, "%lld KiB", (long long)ahead);
	else
		mfs_doctor_say(d, MFS_WEAK, "read ahead", "mount as root, with /sys writable",
			"is %lld KiB instead of %u: cold sequential reads are slower", (long long)ahead, c->read_ahead_kb);
	if (status_bool(d, NULL, "passthrough"))
		mfs_doctor_say(d, MFS_FINE, "passthrough", NULL, "in use: resident models are read at the speed of memory");
	else
		mfs_doctor_say(d, MFS_WEAK, "passthrough", "run Linux 6.9 or newer with CONFIG_FUSE_PASSTHROUGH, as root",
			"not available: paged tier only");
	state_room(d, c);
	telemetry(d);
	content_keys(d);
	sandbox(d, "sandbox", "sandbox", "serve, which reads what others made,");
	/* Unknown until something was fetched. */
	if (json_is_object(json_object_get(d->status, "fetch_sandbox")))
		sandbox(d, "fetch sandbox", "fetch_sandbox", "fetch, which talks to the network,");
	if (failures != 0)
		mfs_doctor_say(d, MFS_BROKEN, "store", "run 'modelfs verify', then install the version again",
			"%lld chunks did not verify and were refused", (long long)failures);
	if (restarts != 0)
		mfs_doctor_say(d, MFS_WEAK, "serve", "look at the log of modelfs", "died and was started anew %lld time%s since it was mounted",
			(long long)restarts, restarts == 1 ? "" : "s");
}

static void
socket_and_mount(struct mfs_doctor *d, const struct mfs_config *c)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_STATUS, .json = true, .timeout_ms = -1 };
	struct mfs_ctl_reply reply = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autodir DIR *dir = NULL;
	const struct dirent *e;
	bool empty = true;

	if (mfs_client_ask(c, &r, 10000, NULL, NULL, &reply, &err) == MFS_OK) {
		const json_t *text = json_object_get(reply.body, "text");

		d->mounted = true;
		d->status = json_loadb(json_string_value(text) != NULL ? json_string_value(text) : "", json_string_length(text),
			0, NULL);
		json_decref(reply.body);
		mfs_doctor_say(d, MFS_FINE, "control socket", NULL, "%s/control answers", c->run);
		if (d->status != NULL)
			mfs_doctor_served(d, c);
		return;
	}
	if (err.code != MFS_CONDITION_UNMET || err.sys_errno == 0) {
		mfs_doctor_say(d, MFS_BROKEN, "control socket", "look at the log of modelfs; 'modelfs unmount' and mount again",
			"%s", err.msg);
		return;
	}
	mfs_doctor_say(d, MFS_FINE, "control socket", NULL, "nothing is mounted");
	if ((dir = opendir(c->mount)) == NULL) {
		mfs_doctor_say(d, errno == ENOENT ? MFS_WEAK : MFS_BROKEN, "mountpoint",
			errno == ENOENT ? "run 'mkdir -p' for it, if mount may not" : "run 'umount -l' for it", "%s: %s", c->mount, strerror(errno));
		return;
	}
	while ((e = readdir(dir)) != NULL)
		empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
	if (empty)
		mfs_doctor_say(d, MFS_FINE, "mountpoint", NULL, "%s", c->mount);
	else
		mfs_doctor_say(d, MFS_WEAK, "mountpoint", "move the files elsewhere",
			"%s is not empty: without the mount, programs would find unverified files there", c->mount);
}

static void
protection(struct mfs_doctor *d, const struct mfs_config *c)
{
	if (strncmp(c->counter, "tpm:", 4) == 0)
		mfs_doctor_say(d, MFS_FINE, "rollback protection", NULL, "TPM counter %s", c->counter + 4);
	else
		mfs_doctor_say(d, MFS_WEAK, "rollback protection", "nothing on a host without a TPM; keep the disk out of foreign hands",
			"file counter: old signed models are refused, a copy of the whole disk put back is not noticed");
}

void
mfs_doctor_instance(struct mfs_doctor *d, struct mfs_cmd_env *env)
{
	user(d, env->config);
	fetch_user(d, env->config);
	configuration_files(d, env->snapshot);
	folders(d, env->config);
	keys(d, env);
	device_key(d, env->config);
	protection(d, env->config);
	socket_and_mount(d, env->config);
}
