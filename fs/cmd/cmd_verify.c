/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_verify.c - `modelfs verify [ID]`: every stored byte against what was signed. */
#include <inttypes.h>
#include <stdio.h>

#include "cmd_common.h"

#define VERIFY_IDLE_MS 600000 /* other checks may be waiting before this one */

static struct mfs_progress progress = { .what = "verify" }; /* one command in this process */

static bool
progress_line(void *user, const json_t *body)
{
	const json_t *p = json_object_get(body, "progress");

	(void)user;
	if (p != NULL)
		mfs_progress_show(&progress, (uint64_t)json_integer_value(json_object_get(p, "done")),
			(uint64_t)json_integer_value(json_object_get(p, "total")));
	return true;
}

static int
verify_offline(struct mfs_offline *o, const struct mfs_config *c, size_t model)
{
	size_t first = model < c->n_models ? model : 0, last = model < c->n_models ? model + 1 : c->n_models, versions = 0;
	struct mfs_err err = MFS_ERR_INIT;
	_Atomic int cancel = 0;
	_Atomic uint64_t done = 0;
	uint64_t total = 0;

	for (size_t i = first; i < last; i++) {
		struct mfs_engine_model m;

		if (mfs_engine_model_get(o->engine, i, &m, &err) != MFS_OK)
			return mfs_cmd_fail("verify", &err);
		for (size_t v = 0; v < m.n; v++)
			total += m.versions[v].v->m->total_size;
		versions += m.n;
		mfs_engine_model_free(&m);
	}
	for (size_t i = first; i < last; i++)
		if (mfs_engine_verify(o->engine, i, &cancel, &done, &err) != MFS_OK) {
			(void)mfs_err_context(&err, "%s: ", c->models[i].id);
			return mfs_cmd_fail("verify", &err);
		}
	printf("%zu version%s, %" PRIu64 " bytes: all as signed\n", versions, versions == 1 ? "" : "s", total);
	return versions == 0 ? MFS_EXIT_NOTHING : MFS_EXIT_DONE;
}

int
mfs_cmd_verify(int argc, char **argv)
{
	struct mfs_ctl_request r = { .command = MFS_CTL_VERIFY, .timeout_ms = -1 };
	struct mfs_args args;
	int code;

	if (!mfs_args_parse(argc, argv, 0, 0, 1, &args, &code))
		return code;
	if (args.n_pos == 1)
		(void)snprintf(r.model, sizeof(r.model), "%s", args.pos[0]);
	code = mfs_cmd_change("verify", &args, &r, VERIFY_IDLE_MS, progress_line, verify_offline);
	mfs_progress_end(&progress);
	return code;
}
