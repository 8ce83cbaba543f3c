/* SPDX-License-Identifier: Apache-2.0 */
/* control_run.c - what the commands on the control socket do. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "control_io.h"
#include "explain.h"

/* ---- at once, from memory -------------------------------------------------------------------------- */

char *
mfs_control_status(struct mfs_control *c, const struct conn *k, size_t *len)
{
	bool one = k->model < c->s->config->n_models;
	enum mfs_status_kind kind = one ? (k->req.json ? MFS_STATUS_MODEL_JSON : MFS_STATUS_MODEL_TEXT)
					: (k->req.json ? MFS_STATUS_ALL_JSON : MFS_STATUS_ALL_TEXT);
	struct mfs_err err = MFS_ERR_INIT;
	mfs_autofree char *text = NULL;
	size_t n;
	json_t *body;

	if (mfs_status_render(c->s, kind, k->model, &text, &n, &err) != MFS_OK)
		return mfs_ctl_final_line(err.code, (int)mfs_code_exit(err.code), err.msg, NULL, len);
	/* The very bytes of the mounted file: one rendering for both. */
	body = json_pack("{s:o}", "text", json_stringn(text, n));
	if (body == NULL)
		return mfs_ctl_final_line(MFS_INTERNAL, MFS_EXIT_FAILED, "status: not UTF-8", NULL, len);
	return mfs_ctl_final_line(MFS_OK, MFS_EXIT_DONE, "", body, len);
}

/* Append {"format":..., "event": {...}} for each new line of the log. */
char *
mfs_control_events(struct mfs_control *c, struct conn *k, size_t *len)
{
	const char *model = k->model < c->s->config->n_models ? c->s->config->models[k->model].id : NULL;
	mfs_autofree char *text = NULL, *out = NULL;
	size_t n = 0, have = 0;
	char *line, *end;

	*len = 0;
	if (mfs_events_wait(c->s->events, k->after, 0) <= k->after ||
		mfs_events_render(c->s->events, model, MFS_SNAP_BYTES, &text, &n, NULL) != MFS_OK)
		return NULL;
	for (line = text; (end = memchr(line, '\n', n - (size_t)(line - text))) != NULL; line = end + 1) {
		json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);
		uint64_t seq = (uint64_t)json_integer_value(json_object_get(event, "seq"));
		mfs_autofree char *wrapped = NULL;
		size_t wrapped_len = 0;
		char *bigger;

		if (event == NULL || seq <= k->after) {
			json_decref(event);
			continue;
		}
		if ((wrapped = mfs_ctl_line("event", event, &wrapped_len)) == NULL ||
			(bigger = realloc(out, have + wrapped_len)) == NULL)
			break;
		out = bigger;
		memcpy(out + have, wrapped, wrapped_len);
		have += wrapped_len;
		k->after = seq;
	}
	*len = have;
	return mfs_steal(&out);
}

bool
mfs_control_reached(struct mfs_control *c, const struct conn *k, char version[MFS_VERSION_MAX + 1])
{
	struct mfs_engine_model m;

	version[0] = '\0';
	if (mfs_engine_model_get(c->s->engine, k->model, &m, NULL) != MFS_OK)
		return false;
	for (size_t i = 0; i < m.n; i++)
		if (m.versions[i].active)
			(void)snprintf(version, MFS_VERSION_MAX + 1, "%s", m.versions[i].v->m->version);
	mfs_engine_model_free(&m);
	return version[0] != '\0' && (k->req.version[0] == '\0' || strcmp(version, k->req.version) == 0);
}

/* ---- in a worker ------------------------------------------------------------------------------------ */

void
mfs_control_recount(struct mfs_control *c)
{
	uint64_t bytes;

	if (mfs_store_usage(c->s->store, &bytes, NULL) == MFS_OK)
		atomic_store(&c->store_bytes, bytes + 1);
}

static void
say(struct job *j, int exit_code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void
say(struct job *j, int exit_code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(j->detail, sizeof(j->detail), fmt, ap);
	va_end(ap);
	j->exit_code = exit_code;
}

static enum mfs_code
run_decide(struct mfs_serve *s, struct job *j)
{
	char now[MFS_VERSION_MAX + 1] = "";
	struct mfs_manifest m = { .id = j->req.manifest, .model_id = j->req.model_id, .variant = j->req.variant,
		.version = j->req.version, .release = j->req.release, .key_epoch = j->req.key_epoch };
	enum mfs_install how;

	if (s->updates == NULL && s->config->n_repos > 0)
		return mfs_fail(&j->err, MFS_INTERNAL, "control: serve is not whole yet");
	if (mfs_engine_decide(s->engine, j->model, &m, &how, now, &j->err) != MFS_OK ||
		(how == MFS_INSTALL_NEW && s->updates != NULL &&
			mfs_refresh_install_check(mfs_updates_refresh(s->updates), j->model, &m.id, &j->err) != MFS_OK))
		return j->err.code;
	j->body = json_pack("{s:b, s:s}", "same", how == MFS_INSTALL_SAME, "active", now);
	say(j, MFS_EXIT_DONE, "%s", "");
	return MFS_OK;
}

static enum mfs_code
run_note(struct mfs_serve *s, struct job *j)
{
	bool one = j->model < s->config->n_models;

	if (one) {
		mfs_engine_refused(s->engine, j->model, j->req.version[0] != '\0' ? j->req.version : NULL, j->req.outcome,
			j->req.detail);
		if (mfs_code_class(j->req.outcome) == MFS_CLASS_TRUST || mfs_code_class(j->req.outcome) == MFS_CLASS_POLICY)
			mfs_updates_rejected(s, j->model, j->req.version, j->req.release, j->req.outcome);
	} else
		mfs_event(s->events, &(struct mfs_event){ .code = j->req.outcome, .source = "install",
			.detail = j->req.detail });
	say(j, MFS_EXIT_DONE, "%s", "");
	return MFS_OK;
}

/* Asked for again, for whoever asks only this: what is active may be installed again, to repair it. */
static enum mfs_code
fresh_check(struct mfs_serve *s, size_t i, const struct mfs_sha256 *id, struct mfs_err *err)
{
	struct mfs_engine_model m;
	bool active;

	if (mfs_engine_model_get(s->engine, i, &m, err) != MFS_OK)
		return err->code;
	active = m.n > 0 && m.versions[0].active && mfs_sha256_equal(&m.versions[0].v->m->id, id);
	mfs_engine_model_free(&m);
	return active ? MFS_OK : mfs_refresh_install_check(mfs_updates_refresh(s->updates), i, id, err);
}

static enum mfs_code
run_activate(struct worker *w, struct mfs_serve *s, struct job *j)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	const char *id = s->config->models[j->model].id;
	struct mfs_engine_update up;
	char watched[64] = "";
	bool same = false;

	if (s->updates == NULL)
		return mfs_fail(&j->err, MFS_INTERNAL, "control: serve is not whole yet");
	if (fresh_check(s, j->model, &j->req.manifest, &j->err) != MFS_OK ||
		mfs_cycle_install(mfs_updates_run(s->updates), j->model, &j->req.manifest, &w->cancel, &same, from, to,
		    &j->err) != MFS_OK ||
		mfs_updates_changed(s, j->model, false, MFS_OK, &j->err) != MFS_OK)
		return j->err.code;
	mfs_update_kick(mfs_updates_threads(s->updates), j->model, false);
	mfs_engine_update_get(s->engine, j->model, &up);
	if (!mfs_sha256_is_zero(&up.observation.v.manifest))
		(void)snprintf(watched, sizeof(watched), ", under observation for %" PRId64 " s",
			up.observation.total - up.observation.seconds);
	if (same)
		say(j, MFS_EXIT_NOTHING, "%s %s is active already: nothing to do", id, to);
	else if (from[0] != '\0' && strcmp(from, to) != 0)
		say(j, MFS_EXIT_DONE, "%s %s is active (was %s)%s", id, to, from, watched);
	else
		say(j, MFS_EXIT_DONE, "%s %s is active%s", id, to, watched);
	return MFS_OK;
}

static enum mfs_code
run_rollback(struct mfs_serve *s, struct job *j)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	const char *id = s->config->models[j->model].id;

	if (mfs_engine_rollback(s->engine, j->model, from, to, &j->err) != MFS_OK ||
		mfs_updates_changed(s, j->model, true, MFS_OK, &j->err) != MFS_OK)
		return j->err.code;
	say(j, MFS_EXIT_DONE, "%s %s is active (was %s); held until 'modelfs unpin %s'", id, to, from, id);
	return MFS_OK;
}

static enum mfs_code
run_unpin(struct mfs_serve *s, struct job *j)
{
	const char *id = s->config->models[j->model].id;
	bool was_held = false;

	if (mfs_engine_unpin(s->engine, j->model, &was_held, &j->err) != MFS_OK)
		return j->err.code;
	mfs_update_kick(mfs_updates_threads(s->updates), j->model, was_held);
	if (was_held)
		say(j, MFS_EXIT_DONE, "%s is no longer held", id);
	else
		say(j, MFS_EXIT_NOTHING, "%s was not held: nothing to do", id);
	return MFS_OK;
}

/* What `mark` and `pin` did to what is shown. */
static enum mfs_code
moved_show(struct mfs_serve *s, struct job *j, bool moved, bool at_once, enum mfs_code outcome)
{
	enum mfs_code code = MFS_OK;

	if (moved)
		code = mfs_updates_changed(s, j->model, at_once, outcome, &j->err);
	mfs_update_kick(mfs_updates_threads(s->updates), j->model, true);
	return code;
}

static enum mfs_code
run_mark(struct mfs_serve *s, struct job *j)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	const char *id = s->config->models[j->model].id, *version = j->req.version;
	bool moved = false;

	if (mfs_engine_mark(s->engine, j->model, version, j->req.good, &moved, from, to, &j->err) != MFS_OK ||
		moved_show(s, j, moved, true, MFS_ROLLBACK_TRIGGERED) != MFS_OK)
		return j->err.code;
	if (moved && to[0] != '\0')
		say(j, MFS_EXIT_DONE, "%s %s is marked bad; %s is active", id, from, to);
	else if (moved)
		say(j, MFS_EXIT_DONE, "%s %s is marked bad; nothing else is kept here: nothing is served", id, from);
	else
		say(j, MFS_EXIT_DONE, "%s %s is marked %s", id, version, j->req.good ? "good" : "bad: it will not become active");
	return MFS_OK;
}

static enum mfs_code
run_pin(struct mfs_serve *s, struct job *j)
{
	char from[MFS_VERSION_MAX + 1] = "", to[MFS_VERSION_MAX + 1] = "";
	const char *id = s->config->models[j->model].id, *version = j->req.version;
	bool moved = false;

	if (mfs_engine_pin(s->engine, j->model, version, &moved, from, to, &j->err) != MFS_OK ||
		moved_show(s, j, moved, false, MFS_OK) != MFS_OK)
		return j->err.code;
	if (moved)
		say(j, MFS_EXIT_DONE, "%s %s is active (was %s), pinned until 'modelfs unpin %s'", id, to, from, id);
	else if (strcmp(from, version) == 0)
		say(j, MFS_EXIT_DONE, "%s stays at %s until 'modelfs unpin %s'", id, version, id);
	else
		say(j, MFS_EXIT_DONE, "%s is pinned to %s, which is not here: it comes when it is offered; until then %s%s stays",
			id, version, from[0] != '\0' ? "" : "what is active", from);
	return MFS_OK;
}

static enum mfs_code
run_explain(struct worker *w, struct mfs_serve *s, struct job *j)
{
	mfs_autofree char *text = NULL;
	size_t len;

	if (mfs_explain(s, j->model, &w->cancel, &text, &len, &j->err) != MFS_OK)
		return j->err.code;
	if ((j->body = json_pack("{s:o}", "text", json_stringn(text, len))) == NULL)
		return mfs_fail(&j->err, MFS_INTERNAL, "explain: not UTF-8");
	say(j, MFS_EXIT_DONE, "%s", "");
	return MFS_OK;
}

static enum mfs_code
run_gc(struct mfs_serve *s, struct job *j)
{
	uint64_t freed = 0;
	size_t removed = 0;

	if (mfs_engine_gc(s->engine, mfs_view_busy, s, &freed, &removed, &j->err) != MFS_OK)
		return j->err.code;
	for (size_t i = 0; i < s->config->n_models; i++)
		if (mfs_view_refresh(s, i, &j->err) != MFS_OK)
			return j->err.code;
	say(j, removed == 0 ? MFS_EXIT_NOTHING : MFS_EXIT_DONE, "%zu removed, %" PRIu64 " bytes freed", removed, freed);
	return MFS_OK;
}

static enum mfs_code
run_verify(struct worker *w, struct mfs_serve *s, struct job *j)
{
	size_t first = j->model < s->config->n_models ? j->model : 0;
	size_t last = j->model < s->config->n_models ? j->model + 1 : s->config->n_models, versions = 0;
	uint64_t total = 0;

	atomic_store(&w->done, 0);
	for (size_t i = first; i < last; i++) {
		struct mfs_engine_model m;

		if (mfs_engine_model_get(s->engine, i, &m, &j->err) != MFS_OK)
			return j->err.code;
		for (size_t v = 0; v < m.n; v++)
			total += m.versions[v].v->m->total_size;
		versions += m.n;
		mfs_engine_model_free(&m);
	}
	atomic_store(&w->total, total);
	for (size_t i = first; i < last; i++)
		if (mfs_engine_verify(s->engine, i, &w->cancel, &w->done, &j->err) != MFS_OK)
			return mfs_err_context(&j->err, "%s: ", s->config->models[i].id);
	say(j, versions == 0 ? MFS_EXIT_NOTHING : MFS_EXIT_DONE, "%zu version%s, %" PRIu64 " bytes: all as signed",
		versions, versions == 1 ? "" : "s", total);
	return MFS_OK;
}

static enum mfs_code
run_reload(struct mfs_serve *s, struct job *j)
{
	int64_t later = 0;
	char text[96];

	if (mfs_klink_call(s->klink, MFS_K_RELOAD, 0, 0, NULL, &later, &j->err) != MFS_OK)
		return j->err.code;
	if (later == 0)
		say(j, MFS_EXIT_DONE, "configuration and keys are loaded anew");
	else
		say(j, MFS_EXIT_DONE, "configuration and keys are loaded anew; the new %s takes effect only after 'modelfs unmount' "
			"and 'modelfs mount'", mfs_reload_later_text(later, text));
	return MFS_OK;
}

void
mfs_control_run(struct worker *w, struct job *j)
{
	struct mfs_serve *s = w->c->s;
	enum mfs_code code;

	switch (j->req.command) {
	case MFS_CTL_DECIDE: code = run_decide(s, j); break;
	case MFS_CTL_ACTIVATE: code = run_activate(w, s, j); break;
	case MFS_CTL_ROLLBACK: code = run_rollback(s, j); break;
	case MFS_CTL_UNPIN: code = run_unpin(s, j); break;
	case MFS_CTL_GC: code = run_gc(s, j); break;
	case MFS_CTL_VERIFY: code = run_verify(w, s, j); break;
	case MFS_CTL_RELOAD: code = run_reload(s, j); break;
	case MFS_CTL_NOTE: code = run_note(s, j); break;
	case MFS_CTL_MARK: code = run_mark(s, j); break;
	case MFS_CTL_PIN: code = run_pin(s, j); break;
	case MFS_CTL_EXPLAIN: code = run_explain(w, s, j); break;
	default: code = mfs_fail(&j->err, MFS_INTERNAL, "control: not a command for a worker");
	}
	if (code != MFS_OK) {
		/* "nothing to go back to" is no refusal */
		j->exit_code = code == MFS_NOT_SELECTED ? MFS_EXIT_NOTHING : (int)mfs_code_exit(code);
		(void)snprintf(j->detail, sizeof(j->detail), "%s", j->err.msg);
	}
	if (j->req.command == MFS_CTL_ACTIVATE || j->req.command == MFS_CTL_GC)
		mfs_control_recount(w->c);
}
