/* SPDX-License-Identifier: Apache-2.0 */
/* What commands ask of the two threads, and what they are told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mfs_config.h"
#include "remote.h"
#include "update_io.h"

/* ---- asking ---------------------------------------------------------------------------------------------- */

/* Hold lock. */
static bool
covers(const struct mfs_update *u, const struct mfs_ask *a, size_t i)
{
	return a->model == u->n_models || a->model == i;
}

/* Hold lock. Does an `update` wait for model i? There may be several. */
static bool
waited_for(const struct mfs_update *u, size_t i)
{
	for (size_t k = 0; k < MFS_UPDATE_ASKS; k++)
		if (u->asks[k].state != MFS_ASK_FREE && u->asks[k].update && covers(u, &u->asks[k], i))
			return true;
	return false;
}

/* Hold lock. The repositories that an ask is about. */
static bool
wants_repo(const struct mfs_update *u, const struct mfs_ask *a, size_t repo)
{
	for (size_t i = 0; i < u->n_models; i++)
		if (covers(u, a, i) && mfs_update_follows(u, i, repo))
			return true;
	return false;
}

/* Hold lock. */
static enum mfs_code
ask_begin(struct mfs_update *u, size_t slot, struct mfs_err *err)
{
	struct mfs_ask *a = &u->asks[slot];

	for (size_t r = 0; r < u->n_repos; r++)
		a->repos_left += wants_repo(u, a, r);
	if (a->repos_left == 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "no repository is configured%s%s: 'modelfs install' brings bundles",
			a->model < u->n_models ? " for model " : "",
			a->model < u->n_models ? u->args.run.config->models[a->model].id : "");
	if (a->via != NULL && a->repos_left > 1)
		return mfs_fail(err, MFS_CONFIG_INVALID, "the models follow %zu repositories: say which model is meant",
			a->repos_left);
	for (size_t r = 0; r < u->n_repos; r++) {
		struct mfs_update_repo *p = &u->repos[r];

		if (!wants_repo(u, a, r))
			continue;
		p->asked = p->waits[slot] = true;
		if (a->via != NULL) {
			mfs_via_unref(p->via);
			p->via = a->via;
			a->via->refs++;
		}
	}
	for (size_t i = 0; i < u->n_models; i++)
		if (a->update && covers(u, a, i))
			u->models[i].by_hand = true;
	return MFS_OK;
}

enum mfs_code
mfs_update_ask(struct mfs_update *u, size_t model, bool update, struct mfs_remote *remote, uint64_t *ticket,
	struct mfs_err *err)
{
	struct mfs_via *via = NULL;
	struct mfs_ask *a = NULL;
	enum mfs_code code;
	size_t slot;

	*ticket = 0;
	if (remote != NULL && (via = calloc(1, sizeof(*via))) == NULL) {
		mfs_remote_free(remote);
		return mfs_fail(err, MFS_NO_MEMORY, "update");
	}
	if (via != NULL)
		*via = (struct mfs_via){ .remote = remote, .refs = 1 };
	(void)pthread_mutex_lock(&u->lock);
	for (slot = 0; slot < MFS_UPDATE_ASKS && a == NULL; slot++)
		if (u->asks[slot].state == MFS_ASK_FREE)
			a = &u->asks[slot];
	if (a == NULL) {
		mfs_via_unref(via);
		code = mfs_fail(err, MFS_RATE_LIMITED, "too many checks and updates are waited for; try again later");
	} else {
		*a = (struct mfs_ask){ .state = MFS_ASK_CHECKING, .id = ++u->asked, .model = model, .update = update, .via = via,
			.swaps = u->swaps };
		if ((code = ask_begin(u, slot - 1, err)) != MFS_OK) {
			mfs_via_unref(via);
			*a = (struct mfs_ask){ 0 };
		} else {
			*ticket = a->id;
		}
	}
	(void)pthread_cond_broadcast(&u->changed);
	(void)pthread_mutex_unlock(&u->lock);
	return code;
}

void
mfs_update_answered(struct mfs_update *u, size_t repo, enum mfs_code code, const char *detail)
{
	struct mfs_update_repo *p = &u->repos[repo];

	(void)pthread_mutex_lock(&u->lock);
	for (size_t k = 0; k < MFS_UPDATE_ASKS; k++) {
		struct mfs_ask *a = &u->asks[k];

		if (!p->answers[k] || a->state != MFS_ASK_CHECKING)
			continue;
		if (a->code == MFS_OK && code != MFS_OK) {
			a->code = code;
			(void)snprintf(a->detail, sizeof(a->detail), "%s", detail);
		}
		if (--a->repos_left == 0)
			a->state = a->update ? MFS_ASK_UPDATING : MFS_ASK_DONE;
	}
	memset(p->answers, 0, sizeof(p->answers));
	(void)pthread_mutex_unlock(&u->lock);
}

/*
 * Hold lock. The command ends, and with it the fetch that it lent: what was begun goes on by the configured way. A
 * download that is at it now is stopped, and begins again where it is.
 */
static void
via_end(struct mfs_update *u, const struct mfs_via *via)
{
	for (size_t r = 0; r < u->n_repos; r++)
		if (u->repos[r].via == via) {
			mfs_via_unref(u->repos[r].via);
			u->repos[r].via = NULL;
		}
	for (size_t i = 0; i < u->n_models; i++) {
		struct mfs_update_model *m = &u->models[i];
		struct mfs_engine_update up;

		if (m->via != via)
			continue;
		mfs_via_unref(m->via);
		m->via = NULL;
		mfs_engine_update_get(u->args.run.engine, i, &up);
		if (u->working == i && up.step == MFS_STEP_DOWNLOAD)
			atomic_store(&m->cancel, 1);
	}
}

void
mfs_update_forget(struct mfs_update *u, uint64_t ticket)
{
	(void)pthread_mutex_lock(&u->lock);
	for (size_t k = 0; k < MFS_UPDATE_ASKS; k++) {
		struct mfs_ask *a = &u->asks[k];

		if (a->state == MFS_ASK_FREE || a->id != ticket)
			continue;
		for (size_t r = 0; r < u->n_repos; r++)
			u->repos[r].waits[k] = u->repos[r].answers[k] = false;
		if (a->via != NULL)
			via_end(u, a->via);
		mfs_via_unref(a->via);
		*a = (struct mfs_ask){ 0 };
	}
	/* Another command may wait for the same model. */
	for (size_t i = 0; i < u->n_models; i++)
		u->models[i].by_hand = waited_for(u, i);
	(void)pthread_mutex_unlock(&u->lock);
}

/* ---- answering ----------------------------------------------------------------------------------------------- */

struct tally {
	struct mfs_update_answer *out;
	bool did;             /* something became active, or is offered */
	enum mfs_code worst;  /* of what did not; OK without */
};

static void
tally_say(struct tally *t, const char *id, const char *text)
{
	size_t n = strlen(t->out->detail);
	char model[MFS_ID_MAX + 10];

	(void)snprintf(model, sizeof(model), "model %s: ", id);
	if (strncmp(text, model, strlen(model)) == 0) /* said once */
		text += strlen(model);
	(void)snprintf(t->out->detail + n, sizeof(t->out->detail) - n, "%s%s: %s", n > 0 ? "; " : "", id, text);
}

/* Which of two failures does a caller have to know of? What may not be repeated, then what may. */
static int
weight(enum mfs_code code)
{
	switch (mfs_code_exit(code)) {
	case MFS_EXIT_REFUSED: return 4;
	case MFS_EXIT_NO_SPACE: return 3;
	case MFS_EXIT_RETRY: return 2;
	default: return code == MFS_OK ? 0 : 1;
	}
}

static void
tally_code(struct tally *t, enum mfs_code code)
{
	if (weight(code) > weight(t->worst))
		t->worst = code;
}

static void
model_active(const struct mfs_update *u, size_t i, char version[MFS_VERSION_MAX + 1])
{
	struct mfs_engine_model m;

	(void)snprintf(version, MFS_VERSION_MAX + 1, "none");
	if (mfs_engine_model_get(u->args.run.engine, i, &m, NULL) != MFS_OK)
		return;
	if (m.n > 0 && m.versions[0].active)
		(void)snprintf(version, MFS_VERSION_MAX + 1, "%s", m.versions[0].v->m->version);
	mfs_engine_model_free(&m);
}

/* Hold lock. The attempt of an `update`: is anything still to be done for model i now? */
static bool
model_busy(struct mfs_update *u, size_t i, const struct mfs_engine_update *up)
{
	const struct mfs_update_model *m = &u->models[i];

	if (up->step == MFS_STEP_IDLE)
		return u->working == i;
	/* It waits for a condition or pauses after a failure: the command is told so. */
	return u->working == i || m->due_ms <= u->args.boot_ms(u->args.user) || up->why == MFS_OK;
}

/* Hold lock. One model's part of the final answer. */
static void
model_final(struct mfs_update *u, const struct mfs_ask *a, size_t i, struct tally *t)
{
	const char *id = u->args.run.config->models[i].id;
	const struct mfs_update_model *m = &u->models[i];
	char text[400], version[MFS_VERSION_MAX + 1];
	struct mfs_engine_update up;
	/* Of one model the outcome is said by who prints the answer. */
	const bool several = a->model == u->n_models && u->n_models > 1;
	bool nothing;

	mfs_engine_update_get(u->args.run.engine, i, &up);
	if (a->update && m->swaps > a->swaps) {
		model_active(u, i, version);
		if (mfs_sha256_is_zero(&up.observation.v.manifest))
			(void)snprintf(text, sizeof(text), "%s is active", version);
		else
			(void)snprintf(text, sizeof(text), "%s is active, under observation for %lld s", version,
				(long long)(up.observation.total - up.observation.seconds));
		t->did = true;
		tally_say(t, id, text);
		return;
	}
	if (!a->update && m->offer == MFS_OK && m->offered) {
		/* The worker may be done with it already. */
		(void)snprintf(text, sizeof(text), "%s is offered%s%s%s", m->offer_version, up.step != MFS_STEP_IDLE ? " (" : "",
			up.step != MFS_STEP_IDLE ? mfs_step_name(up.step) : "", up.step != MFS_STEP_IDLE ? ")" : "");
		t->did = true;
		tally_say(t, id, text);
		return;
	}
	if (up.step != MFS_STEP_IDLE) {
		(void)snprintf(text, sizeof(text), "%s: %s waits: %s%s%.256s", up.v.version, mfs_step_name(up.step),
			several ? mfs_code_name(up.why) : "", several ? ": " : "", up.detail);
		tally_code(t, up.why);
		tally_say(t, id, text);
		return;
	}
	if (m->offered && m->offer != MFS_OK) {
		if (m->offer != MFS_NOT_SELECTED)
			tally_code(t, m->offer);
		(void)snprintf(text, sizeof(text), "%s%s%.256s", m->offer != MFS_NOT_SELECTED && several ? mfs_code_name(m->offer) : "",
			m->offer != MFS_NOT_SELECTED && several ? ": " : "", m->offer_detail);
		/* Of many models only those with something to say: one that has nothing at all is asked about. */
		model_active(u, i, version);
		nothing = strcmp(version, "none") == 0;
		if (m->offer != MFS_NOT_SELECTED || a->model < u->n_models || nothing)
			tally_say(t, id, text);
		return;
	}
	if (up.why != MFS_OK) { /* it was begun and ended without becoming active */
		(void)snprintf(text, sizeof(text), "%s%s%s: %.256s", up.v.version, several ? ": " : "",
			several ? mfs_code_name(up.why) : "", up.detail);
		tally_code(t, up.why);
		tally_say(t, id, text);
	}
}

/* Hold lock. */
static void
ask_final(struct mfs_update *u, const struct mfs_ask *a, struct mfs_update_answer *out)
{
	struct tally t = { .out = out };

	for (size_t i = 0; i < u->n_models; i++)
		if (covers(u, a, i) && u->args.run.config->models[i].repo >= 0 &&
			(a->code == MFS_OK || u->models[i].swaps > a->swaps))
			model_final(u, a, i, &t);
	if (a->code != MFS_OK) {
		tally_code(&t, a->code);
		if (out->detail[0] == '\0')
			(void)snprintf(out->detail, sizeof(out->detail), "%s", a->detail);
	}
	out->final = true;
	out->code = t.worst != MFS_OK ? t.worst : t.did ? MFS_OK : MFS_NOT_SELECTED;
	out->exit_code = t.worst != MFS_OK ? (int)mfs_code_exit(t.worst) : t.did ? MFS_EXIT_DONE : MFS_EXIT_NOTHING;
	if (out->detail[0] == '\0')
		(void)snprintf(out->detail, sizeof(out->detail), "nothing newer is offered: nothing to do");
}

void
mfs_update_poll(struct mfs_update *u, uint64_t ticket, struct mfs_update_answer *out)
{
	struct mfs_ask *a = NULL;
	bool busy = false;

	*out = (struct mfs_update_answer){ .model = u->n_models };
	(void)pthread_mutex_lock(&u->lock);
	for (size_t k = 0; k < MFS_UPDATE_ASKS && a == NULL; k++)
		if (u->asks[k].state != MFS_ASK_FREE && u->asks[k].id == ticket)
			a = &u->asks[k];
	if (a == NULL) {
		out->final = true;
		out->code = MFS_INTERNAL;
		out->exit_code = MFS_EXIT_FAILED;
		(void)snprintf(out->detail, sizeof(out->detail), "this command is not known any more");
	}
	for (size_t i = 0; a != NULL && a->state == MFS_ASK_UPDATING && i < u->n_models; i++) {
		struct mfs_engine_update up;

		if (!covers(u, a, i) || u->args.run.config->models[i].repo < 0)
			continue;
		mfs_engine_update_get(u->args.run.engine, i, &up);
		if (!model_busy(u, i, &up))
			continue;
		busy = true;
		if (out->model == u->n_models || u->working == i) {
			out->model = i;
			out->step = up.step;
			out->done = atomic_load(&u->models[i].done);
			out->total = atomic_load(&u->models[i].total);
			out->rate = atomic_load(&u->models[i].rate);
		}
	}
	if (a != NULL && a->state == MFS_ASK_UPDATING && !busy)
		a->state = MFS_ASK_DONE;
	if (a != NULL && a->state == MFS_ASK_DONE)
		ask_final(u, a, out);
	(void)pthread_mutex_unlock(&u->lock);
}

/* ---- for status ------------------------------------------------------------------------------------------------ */

void
mfs_update_facts(struct mfs_update *u, size_t i, struct mfs_update_facts *out)
{
	const struct mfs_update_model *m;
	int64_t wait;

	*out = (struct mfs_update_facts){ 0 };
	if (u == NULL || i >= u->n_models)
		return;
	m = &u->models[i];
	(void)pthread_mutex_lock(&u->lock);
	out->working = u->working == i;
	out->done = atomic_load(&m->done);
	out->total = atomic_load(&m->total);
	out->rate = atomic_load(&m->rate);
	wait = m->due_ms - u->args.boot_ms(u->args.user);
	out->wait_s = m->active && wait > 0 ? (wait + 999) / 1000 : 0;
	out->offered = m->offered;
	out->offer = m->offer;
	out->current = m->current;
	memcpy(out->offer_detail, m->offer_detail, sizeof(out->offer_detail));
	(void)pthread_mutex_unlock(&u->lock);
}

void
mfs_update_recalled(struct mfs_update_facts *f, const struct mfs_engine_update *u)
{
	if (f->offered || u->offer == MFS_OK)
		return;
	f->offered = true;
	f->current = false;
	f->offer = u->offer;
	(void)snprintf(f->offer_detail, sizeof(f->offer_detail), "%s", u->offer_detail);
}

void
mfs_update_progress(struct mfs_update *u, size_t i, uint64_t done, uint64_t total, uint64_t rate)
{
	if (i >= u->n_models)
		return;
	atomic_store(&u->models[i].done, done);
	atomic_store(&u->models[i].total, total);
	atomic_store(&u->models[i].rate, rate);
}

void
mfs_update_swapped(struct mfs_update *u, size_t i)
{
	(void)pthread_mutex_lock(&u->lock);
	if (i < u->n_models)
		u->models[i].swaps = ++u->swaps;
	(void)pthread_mutex_unlock(&u->lock);
}
