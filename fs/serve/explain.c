/* SPDX-License-Identifier: Apache-2.0 */
/* explain.c - why a model runs what it runs, and why nothing else. */
#include "explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io.h"
#include "mfs_policy.h"
#include "serve.h"
#include "status_facts.h"

static void
repository_lines(FILE *f, const struct mfs_explained *x, size_t i)
{
	ssize_t repo = x->config->models[i].repo;
	struct mfs_engine_repo r = { 0 };
	char when[40], next[40];

	if (repo < 0) {
		fprintf(f, "repository: none; 'modelfs install' brings bundles\n");
		return;
	}
	if (x->engine != NULL)
		mfs_engine_repo_get(x->engine, (size_t)repo, &r);
	fprintf(f, "repository: %s, %s\n", x->config->repos[repo].name, MFS_ESC(x->config->repos[repo].origin.url));
	if (r.last_check == 0)
		fprintf(f, "  checked:  never yet");
	else
		fprintf(f, "  checked:  %s at %s%s%s", mfs_code_name(r.why), mfs_time_text(when, r.last_check, true),
			r.detail[0] != '\0' ? ": " : "", r.detail);
	if (r.last_success != r.last_check)
		fprintf(f, "\n  success:  %s", r.last_success == 0 ? "never yet" : mfs_time_text(when, r.last_success, true));
	if (x->updates == NULL)
		fprintf(f, "\n  next:     once modelfs is mounted\n");
	else
		fprintf(f, "\n  next:     %s\n", r.next_check == 0 ? "soon" : mfs_time_text(next, r.next_check, true));
}

static void
rollout_lines(FILE *f, const struct mfs_policy_reason *x)
{
	fprintf(f, "  rollout %s: %s\n", x->rollout->id, mfs_policy_why_text(x->why));
	for (char **line = x->lines; line != NULL && *line != NULL; line++)
		fprintf(f, "    %s\n", *line);
}

static void
policy_lines(FILE *f, const struct mfs_explained *e, size_t i)
{
	struct mfs_policy_explanation x = { 0 };
	struct mfs_refresh *refresh = e->refresh;
	struct mfs_policy_choice choice = { 0 };
	struct mfs_policy_device device = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_policy *p = NULL;
	char when[40], detail[256];
	enum mfs_code state;

	if (refresh == NULL || mfs_refresh_policy(refresh, i, &p, &err) != MFS_OK) {
		fprintf(f, "policy:     none in force%s%s\n", err.msg[0] != '\0' ? ": " : "", err.msg);
		return;
	}
	fprintf(f, "policy:     sequence %" PRId64 ", issued %s; %zu rollout%s, %zu revocation%s, min_release %" PRId64 "\n",
		p->sequence, mfs_time_text(when, p->issued, true), p->n_rollouts, p->n_rollouts == 1 ? "" : "s", p->n_revoked,
		p->n_revoked == 1 ? "" : "s", p->min_release);
	if ((state = mfs_refresh_policy_state(refresh, i, detail)) != MFS_OK)
		fprintf(f, "  not renewed: %s: %s; nothing new is activated\n", mfs_code_name(state), detail);
	mfs_refresh_device(e->config, i, &device);
	fprintf(f, "device:     %s, class %s, region %s, channel %s\n", MFS_ESC(device.id != NULL ? device.id : "(none)"),
		MFS_ESC(device.class != NULL ? device.class : "(none)"), MFS_ESC(device.region != NULL ? device.region : "(none)"),
		MFS_ESC(device.channel != NULL ? device.channel : "(none)"));
	if (mfs_policy_select(p, &device, mfs_refresh_now(refresh), &choice, &x, &err) == MFS_OK)
		fprintf(f, "offered:    %s (release %" PRId64 ", %s) by rollout %s, bucket %u of fraction %u, step %zu of %zu\n",
			choice.variant->entry.version, choice.variant->entry.release, choice.variant->entry.variant,
			choice.rollout->id, choice.bucket, choice.fraction, choice.step, choice.rollout->n_steps);
	else
		fprintf(f, "offered:    nothing: %s\n", err.msg);
	for (size_t k = 0; k < x.n_reasons; k++)
		rollout_lines(f, &x.reasons[k]);
	mfs_policy_explanation_clear(&x);
	mfs_policy_free(p);
}

/* What else than the conditions of the configuration holds a step back; OK: nothing. text: 512 bytes. */
static enum mfs_code
gate_why(const struct mfs_explained *x, size_t i, enum mfs_step gate, char *text)
{
	enum mfs_code why = MFS_OK;
	struct mfs_engine_model m;
	enum mfs_step step;

	text[0] = '\0';
	if (x->engine == NULL || mfs_engine_model_get(x->engine, i, &m, NULL) != MFS_OK)
		return MFS_OK;
	step = m.update.step == MFS_STEP_VERIFY || m.update.step == MFS_STEP_HEALTH ? MFS_STEP_STAGE : m.update.step;
	if (m.held) {
		why = MFS_HELD;
		(void)snprintf(text, 512, "by a rollback, until 'modelfs unpin %s'", x->config->models[i].id);
	} else if (step == gate && m.update.why != MFS_OK) {
		why = m.update.why;
		(void)snprintf(text, 512, "%s", m.update.detail);
	} else if (step == MFS_STEP_IDLE && x->updates != NULL && x->updates->offered && x->updates->offer == MFS_PINNED) {
		why = MFS_PINNED;
		(void)snprintf(text, 512, "%s", x->updates->offer_detail);
	}
	mfs_engine_model_free(&m);
	return why;
}

static void
condition_lines(FILE *f, const struct mfs_explained *x, size_t i)
{
	static const struct { enum mfs_step step; const char *name; } gates[] = {
		{ MFS_STEP_DOWNLOAD, "download" }, { MFS_STEP_STAGE, "staging" }, { MFS_STEP_ACTIVATE, "activation" },
	};
	const struct mfs_cycle_facts *facts = x->host;
	struct mfs_config known = *x->config;

	/* Who could tell runs only with a mount: the rest is compared all the same. */
	if (x->updates == NULL && mfs_conditions_ask(&known)) {
		fprintf(f, "power and network: not asked for while nothing is mounted\n");
		known.update.conditions = (struct mfs_config_conditions){ .hold_file = known.update.conditions.hold_file };
	}
	for (size_t k = 0; k < sizeof(gates) / sizeof(gates[0]); k++) {
		struct mfs_err err = MFS_ERR_INIT;
		char text[512];
		enum mfs_code why;

		if (mfs_conditions_check(&known, facts, gates[k].step, &err) != MFS_OK)
			fprintf(f, "%s waits: %s: %s\n", gates[k].name, mfs_code_name(err.code), err.msg);
		else if ((why = gate_why(x, i, gates[k].step, text)) != MFS_OK)
			fprintf(f, "%s waits: %s: %s\n", gates[k].name, mfs_code_name(why), text);
		else
			fprintf(f, "%s may go on: every condition is met\n", gates[k].name);
	}
	if (facts->budget_left != UINT64_MAX)
		fprintf(f, "bytes left today: %" PRIu64 "\n", facts->budget_left);
}

static void
model_lines(FILE *f, const struct mfs_explained *x, size_t i)
{
	const char *id = x->config->models[i].id;
	struct mfs_engine_model m;
	const struct mfs_engine_update *u = &m.update;
	struct mfs_update_facts found = x->updates != NULL ? *x->updates : (struct mfs_update_facts){ 0 };
	char when[40];

	if (x->engine == NULL) {
		fprintf(f, "active:     nothing: nothing was ever installed here\n");
		return;
	}
	if (mfs_engine_model_get(x->engine, i, &m, NULL) != MFS_OK)
		return;
	mfs_update_recalled(&found, u);
	if (m.n > 0 && m.versions[0].active)
		fprintf(f, "active:     %s (release %" PRId64 ")\n", m.versions[0].v->m->version, m.versions[0].v->m->release);
	else
		fprintf(f, "active:     nothing%s%s\n", m.absent != MFS_OK ? ": " : "", m.absent_detail);
	fprintf(f, "floor:      release %" PRId64 ", key epoch %" PRId64 "\n", m.floor_release, m.floor_epoch);
	if (!mfs_sha256_is_zero(&u->observation.v.manifest))
		fprintf(f, "observed:   %s, %" PRId64 " of %" PRId64 " s, %u good checks\n", u->observation.v.version,
			u->observation.seconds, u->observation.total, u->observation.checks);
	if (m.held)
		fprintf(f, "held:       by a rollback, until 'modelfs unpin %s'\n", id);
	if (u->pin[0] != '\0')
		fprintf(f, "pinned:     to %s, until 'modelfs unpin %s'\n", u->pin, id);
	if (u->step != MFS_STEP_IDLE)
		fprintf(f, "update:     %s: %s since %s%s%s%s%s\n", u->v.version, mfs_step_name(u->step),
			mfs_time_text(when, u->since, true), u->why != MFS_OK ? ", waits: " : "",
			u->why != MFS_OK ? mfs_code_name(u->why) : "", u->why != MFS_OK ? ": " : "", u->detail);
	else if (found.offered && found.offer != MFS_OK && x->config->models[i].repo >= 0)
		fprintf(f, "update:     %s%s%s\n", mfs_code_name(found.offer), found.offer_detail[0] != '\0' ? ": " : "",
			found.offer_detail);
	else if (u->why != MFS_OK && u->v.version[0] != '\0')
		fprintf(f, "update:     %s was not taken: %s: %s\n", u->v.version, mfs_code_name(u->why), u->detail);
	if (!mfs_sha256_is_zero(&u->refusal.v.manifest))
		fprintf(f, "refused:    %s at %s: %s: %s\n", u->refusal.v.version, mfs_time_text(when, u->refusal.time, true),
			mfs_code_name(u->refusal.why), u->refusal_detail);
	mfs_engine_model_free(&m);
}

/* Which key opens it, and which could. */
static void
key_lines(FILE *f, const struct mfs_explained *x, size_t i, const struct mfs_version *v)
{
	const struct mfs_manifest *m = v->m;
	struct mfs_sha256 key;

	fprintf(f, "key:        %s: %s\n", mfs_code_name(v->key_code), v->key_why != NULL ? v->key_why : "no content key");
	mfs_engine_model_key(x->engine, i, &key);
	if (mfs_sha256_is_zero(&key))
		fprintf(f, "  model key:  none here; see 'modelfs keys show'\n");
	else
		fprintf(f, "  model key:  %s, of this host\n", MFS_HEX(&key));
	for (size_t k = 0; k < m->n_wraps; k++)
		fprintf(f, "  wrapped:    %s, in the manifest of %s\n", MFS_HEX(&m->wraps[k].model_key_id), m->version);
	if (!mfs_sha256_is_zero(&key) && v->key_code == MFS_KEY_UNAVAILABLE)
		fprintf(f, "  wanted:     grants/%s/%s.kwp of its %s; 'modelpub grant' makes it\n", MFS_HEX(&key),
			MFS_HEX(&m->content_key_id), x->config->models[i].repo < 0 ? "bundle" : "repository, or of a bundle");
}

/* The active version, and the one that is on its way, if there is no key for them. */
static void
keys_explain(FILE *f, const struct mfs_explained *x, size_t i)
{
	struct mfs_engine_model m;
	struct mfs_version *v = NULL;

	if (x->engine == NULL || mfs_engine_model_get(x->engine, i, &m, NULL) != MFS_OK)
		return;
	if (m.n > 0 && m.versions[0].active && m.versions[0].v->key_code != MFS_OK)
		key_lines(f, x, i, m.versions[0].v);
	if (m.update.step != MFS_STEP_IDLE && m.update.why == MFS_KEY_UNAVAILABLE &&
		mfs_engine_version(x->engine, i, &m.update.v.manifest, &v, NULL) == MFS_OK && v->key_code != MFS_OK)
		key_lines(f, x, i, v);
	mfs_version_unref(v);
	mfs_engine_model_free(&m);
}

enum mfs_code
mfs_explain_render(const struct mfs_explained *x, size_t i, char **out, size_t *len, struct mfs_err *err)
{
	FILE *f;

	*out = NULL;
	if ((f = open_memstream(out, len)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "explain: no memory");
	fprintf(f, "model:      %s (%s)\n", x->config->models[i].id, x->config->models[i].model_id);
	model_lines(f, x, i);
	keys_explain(f, x, i);
	repository_lines(f, x, i);
	policy_lines(f, x, i);
	condition_lines(f, x, i);
	if (fclose(f) != 0) {
		free(*out);
		*out = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "explain: no memory");
	}
	return MFS_OK;
}

enum mfs_code
mfs_explain(struct mfs_serve *s, size_t i, const _Atomic int *cancel, char **out, size_t *len, struct mfs_err *err)
{
	struct mfs_cycle_facts host = { .budget_left = UINT64_MAX };
	struct mfs_update_facts updates;
	struct mfs_explained x = { .config = s->config, .engine = s->engine, .host = &host, .updates = &updates };
	const struct mfs_cycle_run *run;

	*out = NULL;
	if (s->updates == NULL)
		return mfs_fail(err, MFS_INTERNAL, "explain: no updates here");
	run = mfs_updates_run(s->updates);
	run->parts->facts(run->parts->user, cancel, &host);
	mfs_update_facts(mfs_updates_threads(s->updates), i, &updates);
	x.refresh = mfs_updates_refresh(s->updates);
	return mfs_explain_render(&x, i, out, len, err);
}
