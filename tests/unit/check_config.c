/* SPDX-License-Identifier: Apache-2.0 */
/* check_config.c - the configuration: refused with line and column, its defaults, its files. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mfs_config.h"
#include "configfix.h"

#define FILE_NAME "/etc/modelfs/m.yaml"
#define KEYS      "trust: {keys: [k.pem]}\n"

static struct mfs_config *
parse(const char *text)
{
	struct mfs_config_snapshot *s = NULL;
	struct mfs_config *c = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_config_text(FILE_NAME, text, strlen(text), &s, &err), MFS_OK);
	cr_assert_eq(mfs_config_parse(s, &c, &err), MFS_OK, "%s", err.msg);
	mfs_config_snapshot_free(s);
	return c;
}

/* ---- refusals: file, line, column, key, what ---------------------------------------------------- */

struct refusal {
	char text[160];
	char message[160]; /* the beginning, after the file's name */
};

ParameterizedTestParameters(config, a_wrong_configuration_is_refused_with_line_and_column)
{
	static struct refusal r[] = {
		{ "mout: /m\n", "1:1: mout: unknown key; did you mean 'mount'?" },
		{ "zzz: 1\n", "1:1: zzz: unknown key; known here: mount, state" },
		{ KEYS "models:\n  det: {serve: fast}\n", "3:16: models.det.serve: must be one of: auto, resident, paged" },
		{ KEYS "models:\n  det:\n    srve: auto\n", "4:5: models.det.srve: unknown key; did you mean 'serve'?" },
		{ "mount: /m\nmount: /n\n", "2:1: mount: given twice, first in line 1" },
		{ KEYS "models: {det: {}, det: {}}\n", "2:19: det: given twice, first in line 2" },
		{ KEYS "models:\n  det: {}\n  Det: {}\n", "4:3: models.Det: differs from 'det' only in case" },
		{ KEYS "models: {../x: {}}\n", "2:10: models.../x: not a model id" },
		{ KEYS "models: [det]\n", "2:9: models: must be a mapping" },
		{ "mount: [a]\n", "1:8: mount: must be one value, not a list" },
		{ "mount:\nstate: /s\n", "1:7: mount: has no value" },
		{ "a: &x b\n", "1:4: anchors" },
		{ "a: *x\n", "1:4: aliases" },
		{ "a: !!int 3\n", "1:4: tags" },
		{ "---\nmount: /m\n---\nmount: /n\n", "3:1: a second document" },
		{ "mount: /m\xff\n", "1:10: not valid YAML" },
		{ "mount: [\n", "2:1: not valid YAML" },
		{ "mount: \"a\\x07b\"\n", "1:8: control character" },
		{ "mount: \"a\\0b\"\n", "1:8: control character" },
		{ "- a\n", "1:1: not a mapping" },
		{ "? [a]\n: b\n", "1:3: a key must be a name" },
		{ "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "1:17: nested too deeply" },
		{ "mount: /m\n", "1:1: trust.keys: is missing" },
		{ "trust: {keys: []}\n", "1:15: trust.keys: must be a list of 1 to 64" },
		{ "trust: {keys: [{epoch: 2}]}\n", "1:16: trust.keys.1: has no 'file'" },
		{ "trust: {keys: [{file: a, epoch: 0}]}\n", "1:33: trust.keys.1.epoch: must be a whole number from 1" },
		{ "trust: {keys: [a], threshold: 2}\n", "1:8: trust.threshold: is 2, but there is only 1 key" },
		{ KEYS "memory_budget: 101%\n", "2:16: memory_budget: must be a share" },
		{ KEYS "memory_budget: 99999999999999999999GB\n", "2:16: memory_budget: must be a share" },
		{ KEYS "memory_budget: 9223372036854775808B\n", "2:16: memory_budget: must be a share" },
		{ KEYS "update: {bandwidth: 10MB}\n", "2:21: update.bandwidth: must be a rate" },
		{ KEYS "update: {interval: 15}\n", "2:20: update.interval: must be a time with a unit" },
		{ KEYS "update: {window: \"1:00-5:00\"}\n", "2:18: update.window: must be a time of day" },
		{ KEYS "update: {conditions: {metered: no}}\n", "2:32: update.conditions.metered: must be true or false" },
		{ KEYS "update: {min_free: 5%}\nmin_free: 5%\n", "3:11: min_free: also given as update.min_free" },
		{ KEYS "xattrs: \"true\"\n", "2:9: xattrs: must be true or false" },
		{ KEYS "read_ahead_kb: 1e3\n", "2:16: read_ahead_kb: must be a whole number from 4 to 16384" },
		{ KEYS "counter: tpm:0x01500010\n", "2:10: counter: this version has no TPM counter" },
		{ KEYS "telemetry: {sample: 1.1}\n", "2:21: telemetry.sample: must be a number from 0 to 1" },
		{ KEYS "telemetry: {sample: 0.1234567}\n", "2:21: telemetry.sample: must be a number from 0 to 1" },
		{ KEYS "telemetry: {sample: 0.1}\n", "2:12: telemetry: has no 'url'" },
		{ KEYS "telemetry: {url: \"file:///x\"}\n", "2:18: telemetry.url: must start with https:// or http://" },
		{ KEYS "update: {window: \"01:00-05:60\"}\n", "2:18: update.window: must be a time of day" },
		{ KEYS "update: {window: \"24:00-05:00\"}\n", "2:18: update.window: must be a time of day" },
		{ KEYS "update: {window: \" 1:00-05:00\"}\n", "2:18: update.window: must be a time of day" },
		{ KEYS "update: {window: \"+1:00--5:00\"}\n", "2:18: update.window: must be a time of day" },
		{ KEYS "update: {window: \"01:00-05:00 \"}\n", "2:18: update.window: must be a time of day" },
		{ KEYS "update: {window: \"05:00-05:00\"}\n", "2:18: update.window: is empty" },
		{ KEYS "update: {interval: 999ms}\n", "2:9: update.interval: is less than 1s" },
		{ KEYS "update: {interval: 1h, max_interval: 1m}\n", "2:38: update.max_interval: is less than update.interval" },
		{ KEYS "update: {conditions: {interfaces: [a/b]}}\n", "2:36: update.conditions.interfaces: not the name" },
		{ KEYS "update: {conditions: {interfaces: [\"a*b\"]}}\n", "2:36: update.conditions.interfaces: not the name" },
		{ KEYS "update: {conditions: {battery_min: 101}}\n", "2:36: update.conditions.battery_min: must be a whole" },
		{ KEYS "repository: \"https://a\"\n", "2:13: trust.root: is missing" },
		{ KEYS "repositories: {a: {url: \"https://a\"}}\n", "2:15: trust.root: is missing" },
		{ KEYS "repository: a\n", "2:13: repository: must start with https://, file:// or http://" },
		{ KEYS "repository: \"ftp://a\"\n", "2:13: repository: must start with https://, file:// or http://" },
		{ KEYS "repository: \"https://u:p@a/r\"\n", "2:13: repository: must hold no user and password; use auth: {token_file: PATH}" },
		{ KEYS "telemetry: {url: \"https://u:p@a/r\"}\n", "2:18: telemetry.url: must hold no user and password" },
		{ KEYS "repository: \"https://a/r?t=1\"\n", "2:13: repository: must be without '?' and '#'" },
		{ KEYS "repository: \"https://a/../r\"\n", "2:13: repository: must hold no '..'" },
		{ KEYS "repository: \"https:///r\"\n", "2:13: repository: names no host" },
		{ KEYS "repository: \"file://host/r\"\n", "2:13: repository: must be file:///FOLDER" },
		{ KEYS "repository: \"https://a/{hash}\"\n", "2:13: repository: must hold no braces" },
		{ KEYS "repository: \"https://a/b c\"\n", "2:13: repository: holds a character" },
		{ KEYS "repository: \"file:///a\"\nrepositories: {default: {url: \"file:///b\"}}\n", "3:16: repositories.default: also given" },
		{ KEYS "repositories: {default: {url: \"file:///b\"}}\nrepository: \"file:///a\"\n", "3:13: repository: also given" },
		{ KEYS "repositories: {../a: {url: \"file:///b\"}}\n", "2:16: repositories.../a: not a name" },
		{ KEYS "repositories: {a: {root: r}}\n", "2:19: repositories.a: has no 'url'" },
		{ KEYS "repositories: {a: {url: \"http://a\", auth: {token_file: t}}}\n", "2:19: repositories.a: auth needs a URL of https" },
		{ KEYS "repositories: {a: {url: \"http://a\", tls: {ca: t}}}\n", "2:19: repositories.a: tls needs a URL of https" },
		{ KEYS "repositories: {a: {url: \"https://a\", tls: {cert: t}}}\n", "2:19: repositories.a: tls.cert and tls.key come" },
		{ KEYS "repositories: {a: {url: \"https://a\", tls: {pin: \"sha256//AA==\"}}}\n", "2:49: repositories.a.tls.pin: must be \"sha256//\"" },
		{ KEYS "repositories: {a: {url: \"https://a\", mirrors: [\"https://b/{part}\"]}}\n", "2:48: repositories.a.mirrors.1: has {part} but no {hash}" },
		{ KEYS "repositories: {a: {url: \"https://a\", mirrors: [\"https://b/{ha}\"]}}\n", "2:48: repositories.a.mirrors.1: only {hash} and {part}" },
		{ KEYS "repositories: {a: {url: \"https://a\", mirrors: [{only: true}]}}\n", "2:48: repositories.a.mirrors.1: has no 'url'" },
		{ KEYS "repositories: {a: {url: \"https://a\", root: r}}\nmodels: {det: {repository: b}}\n", "3:15: models.det: repository 'b' is not in" },
		{ KEYS "repositories: {a: {url: \"file:///a\", root: r}, b: {url: \"file:///b\", root: r}}\nmodels: {det: {}}\n", "3:15: models.det: has no 'repository'" },
		{ KEYS "models: {det: {model_key: mk.bin}}\n", "2:27: models.det.model_key: must be \"file:PATH\"" },
		{ KEYS "models: {det: {model_key: \"credential:../x\"}}\n", "2:27: models.det.model_key: not the name" },
		{ KEYS "device: {key: dk.pem}\n", "2:15: device.key: must be \"file:PATH\" or another URI" },
		{ KEYS "device: {key: \"pkcs11:object=d?pin-value=1234\"}\n", "2:15: device.key: holds a PIN" },
		{ KEYS "models: {det: {mode: 0644}}\n", "2:22: models.det.mode: must be who may read" },
		{ KEYS "models: {det: {group: no such group}}\n", "2:23: models.det.group: no group" },
		{ KEYS "models: {det: {group: 4294967295}}\n", "2:23: models.det.group: not the number" },
		{ KEYS "models: {det: {health: {user: 0}}}\n", "2:31: models.det.health.user: must not be root" },
		{ KEYS "models: {det: {health: {timeout: 0}}}\n", "2:34: models.det.health.timeout: must be from" },
		{ KEYS "models: {det: {health: {timeout: 2d}}}\n", "2:34: models.det.health.timeout: must be from" },
		{ KEYS "models: {det: {health: {memory: 1MiB}}}\n", "2:33: models.det.health.memory: must be at least" },
		{ KEYS "models: {det: {health: {network: host}}}\n", "2:34: models.det.health.network: must be one of" },
		{ KEYS "models: {det: {on_change: true}}\n", "2:27: models.det.on_change: must be a list" },
		{ KEYS "models: {det: {health: {command: [check]}}}\n", "2:34: models.det.health.command: must start with an absolute" },
		{ KEYS "models: {det: {on_change: reload}}\n", "2:27: models.det.on_change: must be a list" },
		{ KEYS "models: {det: {input_schema_sha256: ABC}}\n", "2:37: models.det.input_schema_sha256: must be a SHA-256" },
		{ KEYS "device: {apps: {vision: three}}\n", "2:25: device.apps.vision: must be a version" },
		{ KEYS "mount: /m\nstate: /m/state\n", "3:8: state: lies below the mount" },
		{ KEYS "state: /s/st\nstore: /s\n", "2:8: state: lies in the store" },
		{ KEYS "seed: [/var/lib/modelfs/store/x]\n", "2:7: seed: /var/lib/modelfs/store/x overlaps" },
		{ "\"a\\x1b\": 1\n", "1:1: control character" },
	};

	return cr_make_param_array(struct refusal, r, sizeof(r) / sizeof(r[0]));
}

ParameterizedTest(struct refusal *r, config, a_wrong_configuration_is_refused_with_line_and_column)
{
	struct mfs_config_snapshot *s = NULL;
	struct mfs_config *c = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	char want[256];

	cr_assert_eq(mfs_config_text(FILE_NAME, r->text, strlen(r->text), &s, &err), MFS_OK);
	cr_assert_eq(mfs_config_parse(s, &c, &err), MFS_CONFIG_INVALID, "accepted: %s", r->text);
	cr_assert_null(c);
	(void)snprintf(want, sizeof(want), FILE_NAME ":%s", r->message);
	cr_assert_eq(strncmp(err.msg, want, strlen(want)), 0, "\n got %s\nwant %s", err.msg, want);
	mfs_config_snapshot_free(s);
}

Test(config, a_token_is_named_only_where_it_can_be_given)
{
	static const char text[] = KEYS "telemetry: {url: \"https://u:p@a/r\"}\n";
	struct mfs_config_snapshot *s = NULL;
	struct mfs_config *c = NULL;
	struct mfs_err err = MFS_ERR_INIT;

	cr_assert_eq(mfs_config_text(FILE_NAME, text, strlen(text), &s, &err), MFS_OK);
	cr_assert_eq(mfs_config_parse(s, &c, &err), MFS_CONFIG_INVALID);
	cr_assert_null(strstr(err.msg, "token_file"), "%s", err.msg);
	mfs_config_snapshot_free(s);
}

/* ---- acceptance -------------------------------------------------------------------------------------- */

Test(config, defaults)
{
	struct mfs_config *c = parse(KEYS "models: {b: , a: {serve: paged}}\n");

	cr_assert_str_eq(c->mount, "/models");
	cr_assert_str_eq(c->state, "/var/lib/modelfs/state");
	cr_assert_str_eq(c->store, "/var/lib/modelfs/store");
	cr_assert_str_eq(c->run, "/run/modelfs/6a8b7b31de813bcc", "%s", c->run);
	cr_assert_str_eq(c->counter, "file");
	cr_assert_eq(c->n_keys, 1);
	cr_assert_str_eq(c->keys[0].file, "/etc/modelfs/k.pem");
	cr_assert_eq(c->keys[0].epoch, 1);
	cr_assert_null(c->keys[0].models);
	cr_assert_eq(c->threshold, 1);
	cr_assert_eq(c->retain, 2);
	cr_assert_eq(c->memory_budget, 25);
	cr_assert_eq(c->min_free, 5);
	cr_assert_eq(c->read_ahead_kb, 1024);
	cr_assert(!c->sandbox_optional && !c->xattrs && !c->exec);
	cr_assert_eq(c->n_models, 2);
	cr_assert_str_eq(c->models[0].id, "a", "sorted by id");
	cr_assert_str_eq(c->models[0].model_id, "a");
	cr_assert_eq(c->models[0].serve, MFS_SERVE_PAGED);
	cr_assert_eq(c->models[1].serve, MFS_SERVE_AUTO);
	cr_assert_eq(c->models[1].pin, MFS_PIN_PROCESS);
	cr_assert_eq(c->models[1].pin_window_ms, 10000);
	cr_assert_eq(c->models[1].file_mode, 0444);
	cr_assert_eq(c->models[1].dir_mode, 0555);
	cr_assert_eq(mfs_config_find(c, "b"), 1);
	cr_assert_eq(mfs_config_find(c, "c"), -1);
	cr_assert_eq(c->n_notes, 0);
	mfs_config_free(c);
}

static const char everything[] =
	"mount: m\n"
	"state: ./s\n"
	"store: /t/\n"
	"run: /run/x\n"
	"seed: [seeds/a, /b]\n"
	"counter: file\n"
	"repository: \"https://models.example/r\"\n"
	"repositories: {site: {url: \"https://a\", root: r.json, proxy: \"http://p:3128\",\n"
	"  mirrors: [\"https://b/{hash}/{part}\", {url: \"file:///c/\", only: true}],\n"
	"  auth: {token_file: t}, tls: {ca: ca.pem, cert: c.pem, key: k.pem, pin: \"sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"}}}\n"
	"trust: {root: root.json, threshold: 2, keys: [release.pub.pem, {file: next.pub.pem, epoch: 2, models: [det]}]}\n"
	"device: {id: dev-1, class: orin, region: eu, labels: {site: x}, channel: stable, apps: {vision: 3.2.0}, runtimes: {ort: 1.16.3}, key: \"handle:0x81000001\"}\n"
	"update: {interval: 15m, max_interval: 6h, retain: 3, probation: 10m, bandwidth: 10MB/s, daily_bytes: 2GB, window: \"01:00-05:00\",\n"
	"  conditions: {power: ac, battery_min: 40, metered: false, interfaces: [eth0, \"wlan*\"], hold_file: hold},\n"
	"  min_free: 2GiB, expired_grace: 2d, stale: stop, offline_install: fresh}\n"
	"memory_budget: 512MiB\n"
	"telemetry: {url: \"https://t\", sample: 0.1}\n"
	"user: serve\nsandbox: optional\nxattrs: true\nexec: true\nselinux_context: \"system_u:object_r:x_t:s0\"\n"
	"read_ahead_kb: 2048\ncontrol_group: 27\n"
	"models:\n"
	"  det: {serve: resident, model_key: \"file:mk.bin\", group: 44, owner: 33, pin: cgroup, pin_window: 500ms, model_id: base,\n"
	"        min_release: 7, min_key_epoch: 2, health: {command: [/bin/true], timeout: 30s, network: none, devices: []},\n"
	"        on_change: [/bin/true, x], on_reject: [/bin/true], repository: site, channel: beta}\n"
	"  seg: {model_key: \"credential:mk\", mode: 0400}\n";

Test(config, every_key_of_the_interface_is_accepted)
{
	struct mfs_config *c = parse(everything);
	const struct mfs_config_model *det = &c->models[0], *seg = &c->models[1];

	cr_assert_str_eq(c->mount, "/etc/modelfs/m");
	cr_assert_str_eq(c->state, "/etc/modelfs/s");
	cr_assert_str_eq(c->store, "/t");
	cr_assert_eq(c->n_seed, 2);
	cr_assert_str_eq(c->seed[0], "/etc/modelfs/seeds/a");
	cr_assert_eq(c->threshold, 2);
	cr_assert_eq(c->keys[1].epoch, 2);
	cr_assert_str_eq(c->keys[1].models[0], "det");
	cr_assert_null(c->keys[1].models[1]);
	cr_assert_eq(c->keys[1].line, 11);
	cr_assert_str_eq(c->device_id, "dev-1");
	cr_assert_str_eq(c->device_key, "handle:0x81000001");
	cr_assert_str_eq(c->labels[0].name, "site");
	cr_assert_str_eq(c->labels[0].min, "x");
	cr_assert_str_eq(c->apps[0].min, "3.2.0");
	cr_assert_str_eq(c->runtimes[0].min, "1.16.3");
	cr_assert_eq(c->retain, 3);
	cr_assert_eq(c->min_free, 2ull << 30);
	cr_assert_eq(c->memory_budget, 512ull << 20);
	cr_assert_str_eq(c->user, "serve");
	cr_assert(c->sandbox_optional && c->xattrs && c->exec);
	cr_assert_eq(c->read_ahead_kb, 2048);
	cr_assert_eq(det->serve, MFS_SERVE_RESIDENT);
	cr_assert_str_eq(det->model_key, "file:/etc/modelfs/mk.bin");
	cr_assert_str_eq(det->model_id, "base");
	cr_assert_eq(det->uid, 33);
	cr_assert_eq(det->gid, 44);
	cr_assert_eq(det->file_mode, 0440, "a group and a key");
	cr_assert_eq(det->dir_mode, 0550);
	cr_assert_eq(det->pin, MFS_PIN_CGROUP);
	cr_assert_eq(det->pin_window_ms, 500);
	cr_assert_eq(det->minimum.min_release, 7);
	cr_assert_eq(det->minimum.min_key_epoch, 2);
	cr_assert_str_eq(det->repository, "site");
	cr_assert_eq(det->repo, 1);
	cr_assert_str_eq(det->channel, "beta");
	cr_assert_eq(seg->repo, 0, "the default one");
	cr_assert_str_eq(seg->channel, "stable", "of the device");
	cr_assert_str_eq(det->health.command[0], "/bin/true");
	cr_assert_null(det->health.command[1]);
	cr_assert_eq(det->health.timeout_ms, 30000);
	cr_assert_eq(det->health.interval_ms, 60000);
	cr_assert_eq(det->health.network, MFS_NETWORK_NONE);
	cr_assert_null(det->health.devices[0]);
	cr_assert_eq(det->health.uid, MFS_HEALTH_UID_FIRST);
	cr_assert_eq(det->health.memory, 0);
	cr_assert_str_eq(det->on_change[1], "x");
	cr_assert_null(det->on_change[2]);
	cr_assert_str_eq(det->on_reject[0], "/bin/true");
	cr_assert_null(seg->health.command);
	cr_assert_null(seg->on_change);
	cr_assert_eq(seg->health.uid, MFS_HEALTH_UID_FIRST + 1, "models do not share a user");
	cr_assert_str_eq(seg->model_key, "credential:mk");
	cr_assert_eq(seg->file_mode, 0400);
	cr_assert_eq(seg->dir_mode, 0500);
	mfs_config_free(c);
}

Test(config, repositories_updates_and_telemetry_are_read)
{
	struct mfs_config *c = parse(everything);
	const struct mfs_config_repository *site = &c->repos[1];
	const struct mfs_config_update *u = &c->update;

	cr_assert_eq(c->n_repos, 2);
	cr_assert_str_eq(c->repos[0].name, "default");
	cr_assert_str_eq(c->repos[0].origin.url, "https://models.example/r");
	cr_assert_str_eq(c->repos[0].root, "/etc/modelfs/root.json", "trust.root");
	cr_assert_eq(c->repos[0].n_mirrors, 0);
	cr_assert_str_eq(site->name, "site");
	cr_assert_str_eq(site->origin.url, "https://a");
	cr_assert_str_eq(site->root, "/etc/modelfs/r.json");
	cr_assert_eq(site->n_mirrors, 2);
	cr_assert_str_eq(site->mirrors[0].url, "https://b/{hash}/{part}");
	cr_assert(!site->mirrors[0].only && site->mirrors[1].only);
	cr_assert_str_eq(site->mirrors[1].url, "file:///c", "without the final slash");
	cr_assert_str_eq(site->origin.token_file, "/etc/modelfs/t");
	cr_assert_str_eq(site->origin.tls_ca, "/etc/modelfs/ca.pem");
	cr_assert_str_eq(site->origin.tls_cert, "/etc/modelfs/c.pem");
	cr_assert_str_eq(site->origin.tls_key, "/etc/modelfs/k.pem");
	cr_assert_str_eq(site->origin.proxy, "http://p:3128");
	cr_assert_eq(u->interval_ms, 900000);
	cr_assert_eq(u->max_interval_ms, 6 * 3600000);
	cr_assert_eq(u->probation_ms, 600000);
	cr_assert_eq(u->bandwidth, 10000000);
	cr_assert_eq(u->daily_bytes, 2000000000);
	cr_assert(u->has_window && u->window_from == 60 && u->window_to == 300);
	cr_assert(u->conditions.power_ac && u->conditions.unmetered);
	cr_assert_eq(u->conditions.battery_min, 40);
	cr_assert_str_eq(u->conditions.interfaces[1], "wlan*");
	cr_assert_null(u->conditions.interfaces[2]);
	cr_assert_str_eq(u->conditions.hold_file, "/etc/modelfs/hold");
	cr_assert_eq(u->expired_grace_ms, 172800000);
	cr_assert_eq(u->stale, MFS_STALE_STOP);
	cr_assert_eq(u->offline_install, MFS_OFFLINE_FRESH);
	cr_assert_str_eq(c->telemetry.url, "https://t");
	cr_assert_eq(c->telemetry_sample, 100000);
	mfs_config_free(c);
}

Test(config, updates_and_repositories_have_defaults)
{
	struct mfs_config *c = parse("repositories: {only: {url: \"file:///srv/r\"}}\ntrust: {root: r.json}\nmodels: {det: }\n");

	cr_assert_eq(c->n_keys, 0, "the repository's trust.json has the keys");
	cr_assert_eq(c->models[0].repo, 0, "the only one");
	cr_assert_null(c->models[0].channel);
	cr_assert_eq(c->update.interval_ms, 900000);
	cr_assert_eq(c->update.max_interval_ms, 86400000);
	cr_assert_eq(c->update.probation_ms, 600000);
	cr_assert(!c->update.has_window && !c->update.conditions.power_ac && !c->update.conditions.unmetered);
	cr_assert_eq(c->update.expired_grace_ms, 0);
	cr_assert_eq(c->update.stale, MFS_STALE_SERVE);
	cr_assert_eq(c->update.offline_install, MFS_OFFLINE_SIGNED);
	cr_assert_null(c->telemetry.url);
	cr_assert_str_eq(c->device_key, "file:/var/lib/modelfs/state/device-key");
	mfs_config_free(c);
	c = parse(KEYS "state: /s\ndevice: {key: \"file:dk.pem\"}\nmodels: {det: }\n");
	cr_assert_str_eq(c->device_key, "file:/etc/modelfs/dk.pem");
	cr_assert_eq(c->models[0].repo, -1);
	mfs_config_free(c);
	c = parse(KEYS "update: {interval: 2d}\n");
	cr_assert_eq(c->update.max_interval_ms, 2 * 86400000, "never below the interval");
	mfs_config_free(c);
}

Test(config, facts_that_cannot_be_had_are_named)
{
	struct mfs_config *c = parse(KEYS "device: {runtimes: {ort: \"file:/nowhere/at/all\"}}\n");
	static const char *const want[] = { "device.runtimes.ort: " };

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		bool found = false;

		for (size_t j = 0; j < c->n_notes; j++)
			found = found || strstr(c->notes[j], want[i]) != NULL;
		cr_assert(found, "no note about %s", want[i]);
	}
	for (size_t j = 0; j < c->n_notes; j++) {
		cr_assert_eq(strncmp(c->notes[j], FILE_NAME ":", strlen(FILE_NAME) + 1), 0);
		cr_assert_null(strstr(c->notes[j], "serve:"), "%s", c->notes[j]);
	}
	mfs_config_free(c);
}

Test(config, what_is_shown_parses_to_itself)
{
	struct mfs_config *c = parse(everything), *d;
	char *first = NULL, *second = NULL;
	size_t n, m;

	cr_assert_eq(mfs_config_show(c, &first, &n, NULL), MFS_OK);
	cr_assert_eq(strlen(first), n);
	d = parse(first);
	cr_assert_eq(d->n_notes, 0, "only what has an effect is shown: %s", d->n_notes > 0 ? d->notes[0] : "");
	cr_assert_eq(mfs_config_show(d, &second, &m, NULL), MFS_OK);
	cr_assert_str_eq(first, second);
	free(first);
	free(second);
	mfs_config_free(c);
	mfs_config_free(d);
}

/* ---- files ----------------------------------------------------------------------------------------------- */

Test(config, a_relative_file_makes_absolute_paths_and_a_snapshot_keeps_what_was_read)
{
	struct mfs_config_snapshot *s = NULL, *loaded = NULL;
	struct mfs_config *c = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	char dir[256], want[300];
	int fd;

	enter_folder(dir);
	write_text("version", "1.16.3+build\nmore\n", 0644);
	write_text("m.yaml", KEYS "mount: mnt\ndevice: {runtimes: {ort: \"file:version\", tf: \"file:none\"}}\n"
		"models: {det: {group: root, owner: root}}\n", 0644);
	cr_assert_eq(mfs_config_read("./m.yaml", &s, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(unlink("m.yaml"), 0);
	cr_assert_eq(unlink("version"), 0);
	cr_assert_geq(fd = memfd_create("snapshot", MFD_CLOEXEC), 0);
	cr_assert_eq(mfs_config_snapshot_write(s, fd, &err), MFS_OK);
	cr_assert_eq(mfs_config_snapshot_load(fd, &loaded, &err), MFS_OK, "%s", err.msg);
	cr_assert_eq(mfs_config_parse(loaded, &c, &err), MFS_OK, "%s", err.msg);
	(void)snprintf(want, sizeof(want), "%s/mnt", dir);
	cr_assert_str_eq(c->mount, want);
	(void)snprintf(want, sizeof(want), "%s/m.yaml", dir);
	cr_assert_str_eq(c->path, want);
	cr_assert_eq(c->n_runtimes, 1, "a version that cannot be read is not known");
	cr_assert_str_eq(c->runtimes[0].min, "1.16.3");
	cr_assert_eq(c->n_notes, 1);
	cr_assert_eq(c->models[0].gid, 0);
	for (off_t cut = 1; cut < 60; cut += 7) { /* a snapshot that is not whole is none */
		struct mfs_config_snapshot *part = NULL;
		struct stat st;

		cr_assert_eq(fstat(fd, &st), 0);
		cr_assert_eq(ftruncate(fd, st.st_size - cut), 0);
		cr_assert_eq(mfs_config_snapshot_load(fd, &part, NULL), MFS_INTERNAL);
		cr_assert_null(part);
	}
	(void)close(fd);
	mfs_config_free(c);
	mfs_config_snapshot_free(s);
	mfs_config_snapshot_free(loaded);
	leave_folder(dir);
}

Test(config, files_that_cannot_be_read_are_named)
{
	struct mfs_config_snapshot *s = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	char dir[256], big[64];
	int fd;

	enter_folder(dir);
	cr_assert_eq(mfs_config_read("none.yaml", &s, &err), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(err.msg, "none.yaml: No such file"), "%s", err.msg);
	cr_assert_eq(mfs_config_read(dir, &s, &err), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(err.msg, "not a regular file"), "%s", err.msg);
	cr_assert_eq(mkfifo("pipe", 0600), 0);
	cr_assert_eq(mfs_config_read("pipe", &s, &err), MFS_CONFIG_INVALID, "and does not hang");
	(void)snprintf(big, sizeof(big), "big");
	cr_assert_geq(fd = open(big, O_WRONLY | O_CREAT, 0600), 0);
	cr_assert_eq(ftruncate(fd, (1 << 20) + 1), 0);
	(void)close(fd);
	cr_assert_eq(mfs_config_read(big, &s, &err), MFS_CONFIG_INVALID);
	cr_assert_not_null(strstr(err.msg, "limit 1048576"), "%s", err.msg);
	leave_folder(dir);
}

Test(config, a_later_file_is_laid_over_an_earlier_one)
{
	struct mfs_config_snapshot *a = NULL, *b = NULL;
	struct mfs_config_source both[2];
	struct mfs_config_snapshot s = { both, 2 };
	struct mfs_config *c = NULL;
	struct mfs_err err = MFS_ERR_INIT;
	const char *first = KEYS "mount: /a\nmodels: {det: {serve: paged, pin: off}, seg: {}}\n";
	const char *second = "mount: b\nmodels: {det: {serve: resident}}\n";

	cr_assert_eq(mfs_config_text("/one/m.yaml", first, strlen(first), &a, NULL), MFS_OK);
	cr_assert_eq(mfs_config_text("/two/n.yaml", second, strlen(second), &b, NULL), MFS_OK);
	both[0] = a->sources[0];
	both[1] = b->sources[0];
	cr_assert_eq(mfs_config_parse(&s, &c, &err), MFS_OK, "%s", err.msg);
	cr_assert_str_eq(c->mount, "/two/b", "relative to the file that names it");
	cr_assert_str_eq(c->keys[0].file, "/one/k.pem");
	cr_assert_eq(c->n_models, 2);
	cr_assert_eq(c->models[0].serve, MFS_SERVE_RESIDENT);
	cr_assert_eq(c->models[0].pin, MFS_PIN_OFF, "what the later file does not name stays");
	mfs_config_free(c);
	both[1].text[0] = '{';
	cr_assert_eq(mfs_config_parse(&s, &c, &err), MFS_CONFIG_INVALID);
	cr_assert_eq(strncmp(err.msg, "/two/n.yaml:", 12), 0, "%s", err.msg);
	mfs_config_snapshot_free(a);
	mfs_config_snapshot_free(b);
}
