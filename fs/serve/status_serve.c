/* SPDX-License-Identifier: Apache-2.0 */
/* status_serve.c - the facts of a running serve: memory only, no disk, no network. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "serve.h"
#include "status.h"
#include "status_facts.h"

static void
host_gather(struct mfs_serve *s, struct mfs_facts_host *h)
{
	struct mfs_shm *shm = s->shm;
	uint64_t repair_failures; /* events say more of them */
	unsigned weak;

	*h = (struct mfs_facts_host){
		.config = s->config, .protection = mfs_engine_protection(s->engine), .kind = s->config->counter,
		.mounted = true, .mounted_at = shm->mounted_at, .now = mfs_clock_wall(), .serve_pid = (int)getpid(),
		.keeper_pid = (int)getppid(), .restarts = atomic_load(&shm->serve_restarts),
		.taken_over = atomic_load(&shm->taken_over), .chunk_failures = atomic_load(&shm->chunk_failures),
		.passthrough = shm->passthrough != 0, .noswap = shm->noswap != 0, .resend = shm->kernel_resend != 0,
		.rootless = shm->rootless != 0, .read_ahead_kb = shm->read_ahead_kb, .sandbox = s->sandbox,
	};
	mfs_engine_state_facts(s->engine, &h->state);
	mfs_telemetry_counts(s->telemetry, &h->telemetry);
	h->has_telemetry = s->telemetry != NULL;
	if (s->remote != NULL && (h->has_fetch_sandbox = mfs_remote_weakened(s->remote, &weak)))
		h->fetch_sandbox = (struct mfs_sandbox_report){ .uid = (weak & MFS_WIRE_NO_UID) == 0,
			.landlock = (weak & MFS_WIRE_NO_LANDLOCK) == 0, .seccomp = (weak & MFS_WIRE_NO_SECCOMP) == 0,
			.no_new_privs = (weak & MFS_WIRE_NO_NEW_PRIVS) == 0 };
	mfs_repairs_counts(s->repairs, &h->chunk_repairs, &repair_failures);
	for (size_t i = 0; i < MFS_RESIDENTS; i++)
		if (atomic_load(&shm->residents[i].state) != MFS_RESIDENT_FREE)
			h->resident_bytes += shm->residents[i].size;
	h->has_store_bytes = s->control != NULL && mfs_control_store_bytes(s->control, &h->store_bytes);
}

static enum mfs_code
model_gather(struct mfs_serve *s, size_t i, struct mfs_facts_model *out, struct mfs_err *err)
{
	const struct mfs_engine_version *a;
	struct mfs_refresh *refresh;

	*out = (struct mfs_facts_model){ .conf = &s->config->models[i] };
	if (mfs_engine_model_get(s->engine, i, &out->m, err) != MFS_OK)
		return err->code;
	if ((a = mfs_facts_active(out)) != NULL && s->tree != NULL)
		out->tier = mfs_tree_tier(s->tree, i, &a->v->m->id);
	if (s->residency != NULL) {
		mfs_residency_facts(s->residency, i, &out->residency);
		out->has_residency = true;
	}
	if (s->updates != NULL) {
		mfs_update_facts(mfs_updates_threads(s->updates), i, &out->updates);
		out->has_updates = true;
	}
	mfs_update_recalled(&out->updates, &out->m.update);
	if (out->conf->repo >= 0)
		mfs_engine_repo_get(s->engine, (size_t)out->conf->repo, &out->repo);
	refresh = mfs_updates_refresh(s->updates);
	out->expired = mfs_facts_expired(&out->repo, refresh != NULL ? mfs_refresh_now(refresh) : mfs_clock_wall());
	return MFS_OK;
}

/* When each role of each repository expires, as far as it is known. */
static void
metrics_expiry(FILE *f, struct mfs_serve *s)
{
	static const char *const roles[MFS_ROLES] = { "root", "timestamp", "snapshot", "targets" };
	struct mfs_refresh *r = mfs_updates_refresh(s->updates);

	if (r == NULL || s->config->n_repos == 0)
		return;
	fputs("# HELP modelfs_metadata_expiry_timestamp_seconds When signed metadata expires.\n"
	      "# TYPE modelfs_metadata_expiry_timestamp_seconds gauge\n", f);
	for (size_t i = 0; i < s->config->n_repos; i++) {
		struct mfs_refresh_status st;

		mfs_refresh_status(r, i, &st);
		for (int k = 0; k < MFS_ROLES; k++)
			if (st.roles[k].expires != 0)
				fprintf(f, "modelfs_metadata_expiry_timestamp_seconds{repository=\"%s\",role=\"%s\"} %" PRId64 "\n",
					s->config->repos[i].name, roles[k], st.roles[k].expires);
	}
}

static enum mfs_code
metrics_render(struct mfs_serve *s, const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n,
	char **out, size_t *len, struct mfs_err *err)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);

	if (f == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "metrics: no memory");
	mfs_metrics_models(f, m, n);
	mfs_metrics_updates(f, h, m, n);
	metrics_expiry(f, s);
	mfs_metrics_outcomes(f, s->events);
	mfs_metrics_host(f, h);
	if (fclose(f) != 0) {
		free(text);
		return mfs_fail(err, MFS_NO_MEMORY, "metrics: no memory");
	}
	*out = text;
	return MFS_OK;
}

static enum mfs_code
facts_render(struct mfs_serve *s, enum mfs_status_kind kind, size_t model, char **out, size_t *len, struct mfs_err *err)
{
	bool one = kind == MFS_STATUS_MODEL_TEXT || kind == MFS_STATUS_MODEL_JSON;
	bool json = kind == MFS_STATUS_MODEL_JSON || kind == MFS_STATUS_ALL_JSON;
	size_t first = one ? model : 0, last = one ? model + 1 : s->config->n_models, n = 0;
	mfs_autofree struct mfs_facts_model *m = calloc(last - first + 1, sizeof(*m));
	struct mfs_facts_host h;
	enum mfs_code code = MFS_OK;

	if (m == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "status: no memory");
	host_gather(s, &h);
	for (size_t i = first; i < last && code == MFS_OK; i++) {
		code = model_gather(s, i, &m[n], err);
		n += code == MFS_OK;
	}
	if (code == MFS_OK && kind == MFS_STATUS_METRICS)
		code = metrics_render(s, &h, m, n, out, len, err);
	else if (code == MFS_OK)
		code = mfs_facts_document(&h, m, n, one, json, MFS_SNAP_BYTES, out, len, err);
	for (size_t i = 0; i < n; i++)
		mfs_engine_model_free(&m[i].m);
	return code;
}

static enum mfs_code
line_copy(const char *line, size_t n, char **out, size_t *len, struct mfs_err *err)
{
	if ((*out = malloc(n + 1)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "status: no memory");
	memcpy(*out, line, n);
	(*out)[n] = '\0';
	*len = n;
	return MFS_OK;
}

enum mfs_code
mfs_status_render(struct mfs_serve *s, enum mfs_status_kind kind, size_t model, char **out, size_t *len,
	struct mfs_err *err)
{
	char line[512];

	*out = NULL;
	*len = 0;
	switch (kind) {
	case MFS_STATUS_MODEL_EVENTS:
		return mfs_events_render(s->events, s->config->models[model].id, MFS_SNAP_BYTES, out, len, err);
	case MFS_STATUS_MODEL_GENERATION:
		return line_copy(line, mfs_tree_generation(s->tree, model, line, sizeof(line)), out, len, err);
	case MFS_STATUS_VERSION:
		return line_copy("modelfs " PACKAGE_VERSION "\n", sizeof("modelfs " PACKAGE_VERSION "\n") - 1, out, len, err);
	case MFS_STATUS_CONFIG:
		return mfs_config_show(s->config, out, len, err);
	default:
		return facts_render(s, kind, model, out, len, err);
	}
}
