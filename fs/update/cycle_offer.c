/* SPDX-License-Identifier: Apache-2.0 */
/* After a check: begin an attempt, go on with it, supersede it, or say why nothing happens. */
#include <stdio.h>
#include <string.h>

#include "cycle_io.h"
#include "log.h"
#include "refresh.h"

void
mfs_cycle_offer_clear(struct mfs_cycle_offer *o)
{
	mfs_manifest_free(o->m);
	mfs_signed_free(&o->bytes);
	*o = (struct mfs_cycle_offer){ 0 };
}

enum mfs_code
mfs_cycle_target(struct mfs_refresh *refresh, size_t i, struct mfs_remote *via, const _Atomic int *cancel,
	struct mfs_cycle_offer *out, struct mfs_err *err)
{
	struct mfs_refresh_via way = { .remote = via };
	struct mfs_refresh_target t = { 0 };
	enum mfs_code code = mfs_refresh_target(refresh, i, &way, cancel, &t, err);

	out->none = code == MFS_OK && t.want == MFS_REFRESH_NOTHING;
	out->rollback = t.want == MFS_REFRESH_ROLLBACK;
	out->v.manifest = t.version.manifest;
	memcpy(out->v.version, t.version.version, sizeof(out->v.version));
	memcpy(out->v.variant, t.version.variant, sizeof(out->v.variant));
	out->v.release = t.version.release;
	out->v.key_epoch = t.m != NULL ? t.m->key_epoch : t.version.key_epoch;
	memcpy(out->rollout, t.rollout, sizeof(out->rollout));
	memcpy(out->passed, t.passed, sizeof(out->passed));
	if (code == MFS_OK && !out->none) {
		out->bytes = t.bytes;
		out->m = t.m;
		t.bytes = (struct mfs_signed){ 0 };
		t.m = NULL;
	}
	mfs_refresh_target_clear(&t);
	return code;
}

/* Did policy or key trust turn against the very version that is on its way? */
static bool
refused_meanwhile(const struct mfs_at *at, struct mfs_err *why)
{
	const struct mfs_cycle_run *r = at->r;
	enum mfs_install how;
	struct mfs_version *v = NULL;
	enum mfs_code code = mfs_engine_version(r->engine, at->i, &at->a.v.manifest, &v, why);

	if (code == MFS_OK && !at->a.rollback)
		code = mfs_engine_eligible(r->engine, at->i, v->m, &how, why);
	mfs_version_unref(v);
	return code == MFS_REVOKED || code == MFS_POLICY_REJECTED || code == MFS_KEY_UNTRUSTED;
}

/* Nothing is offered any more: what was on its way stops. */
static void
abandon(struct mfs_at *at, bool *superseded, const char *why)
{
	struct mfs_err refusal = MFS_ERR_INIT;
	char detail[MFS_VERSION_MAX + 80];

	if (at->a.step == MFS_STEP_IDLE)
		return;
	*superseded = true;
	if (refused_meanwhile(at, &refusal)) {
		(void)mfs_at_refuse(at, &refusal, NULL); /* which writes the end of the attempt down */
		at->a = (struct mfs_cycle_attempt){ .v = at->a.v, .why = refusal.code };
		at->expect.step = MFS_STEP_IDLE;
		return;
	}
	(void)snprintf(detail, sizeof(detail), "%s is no longer brought: %s", at->a.v.version, why);
	mfs_engine_happened(at->r->engine, at->i, NULL, at->a.v.version, MFS_NOT_SELECTED, detail);
	at->a = (struct mfs_cycle_attempt){ 0 };
	(void)mfs_at_save(at);
	at->r->parts->drop(at->r->parts->user, at->i);
}

/*
 * The version that is offered cannot be taken: of a pin or hold only the status speaks; anything else is a
 * refusal. An attempt for another version ends all the same.
 */
static enum mfs_code
not_now(struct mfs_at *at, const struct mfs_cycle_version *v, bool *superseded, const struct mfs_err *why)
{
	const bool current = mfs_sha256_equal(&at->a.v.manifest, &v->manifest);

	*superseded = at->a.step != MFS_STEP_IDLE && (!current || mfs_is_refusal(why->code));
	if (mfs_is_refusal(why->code)) {
		struct mfs_sha256 zero = { { 0 } };

		if (at->a.step != MFS_STEP_IDLE) {
			at->a = (struct mfs_cycle_attempt){ 0 };
			(void)mfs_at_save(at);
		}
		at->a.v = *v;
		(void)mfs_at_refuse(at, why, &zero);
		return why->code;
	}
	if (current && at->a.step != MFS_STEP_IDLE) /* it waits where it is, and says so itself */
		return why->code;
	if (!current || at->a.why != why->code) {
		at->a = (struct mfs_cycle_attempt){ .v = *v, .since = at->now };
		mfs_at_why(at, why);
		(void)mfs_at_save(at);
	}
	return why->code;
}

/* The same version failed to decrypt with the same key: neither changed, so it is not fetched again. */
static bool
undecryptable(const struct mfs_at *at, const struct mfs_cycle_version *v)
{
	const struct mfs_cycle_refusal *f = &at->up.refusal;
	struct mfs_sha256 key;

	if (f->why != MFS_DECRYPT_FAILED || !mfs_sha256_equal(&f->v.manifest, &v->manifest))
		return false;
	mfs_engine_model_key(at->r->engine, at->i, &key);
	return mfs_sha256_equal(&f->key, &key);
}

static bool
is_shown(const struct mfs_at *at, const struct mfs_sha256 *id)
{
	struct mfs_engine_model m;
	bool shown;

	if (mfs_engine_model_get(at->r->engine, at->i, &m, NULL) != MFS_OK)
		return true; /* without memory nothing is begun */
	shown = m.n > 0 && m.versions[0].active && mfs_sha256_equal(&m.versions[0].v->m->id, id) &&
		m.versions[0].v->key_code != MFS_KEY_UNAVAILABLE;
	mfs_engine_model_free(&m);
	return shown;
}

/* The active version is not shown or cannot be opened, because of what this host has lost of it: what was signed, in both places, blobs, or the wrap of its key. */
static bool
is_lost(const struct mfs_at *at, const struct mfs_sha256 *id)
{
	struct mfs_version *v = NULL;
	bool end, lost;

	lost = mfs_kept_lost(mfs_engine_version(at->r->engine, at->i, id, &v, NULL));
	mfs_version_unref(v);
	if (lost || at->r->parts->mended)
		return lost;
	(void)mfs_engine_lost(at->r->engine, at->i, 0, false, &end, &v, NULL);
	lost = v != NULL;
	mfs_version_unref(v);
	return lost;
}

static enum mfs_code
begin(struct mfs_at *at, const struct mfs_cycle_offer *o, bool again, bool by_hand, struct mfs_err *err)
{
	char detail[MFS_VERSION_MAX + MFS_VARIANT_MAX + 80];

	if (mfs_engine_room(at->r->engine, at->i, err) != MFS_OK ||
		mfs_engine_keep_signed(at->r->engine, at->i, &o->v.manifest, &o->bytes, err) != MFS_OK) {
		/* A full disk, mostly: the next check tries again. */
		if (!mfs_sha256_equal(&at->a.v.manifest, &o->v.manifest) || at->a.why != err->code) {
			mfs_engine_happened(at->r->engine, at->i, NULL, o->v.version, err->code, err->msg);
			at->a = (struct mfs_cycle_attempt){ .v = o->v, .why = err->code, .detail = err->msg, .since = at->now };
			(void)mfs_at_save(at);
		}
		return err->code;
	}
	at->a = (struct mfs_cycle_attempt){ .v = o->v, .by_hand = by_hand, .rollback = o->rollback };
	if (mfs_at_enter(at, MFS_STEP_DOWNLOAD) != 0)
		return mfs_fail(err, MFS_IO, "the trusted state cannot be written: no update begins");
	if (again)
		(void)snprintf(detail, sizeof(detail), "%s is active: what was lost of it here is fetched again", o->v.version);
	else
		(void)snprintf(detail, sizeof(detail), "%s is offered%s%s: its update begins", o->v.version,
			o->rollback ? " instead of a revoked version" : o->rollout[0] != '\0' ? " by rollout " : "",
			o->rollback ? "" : o->rollout);
	mfs_engine_happened(at->r->engine, at->i, NULL, o->v.version, MFS_OK, detail);
	return MFS_OK;
}

/* The bytes of an attempt that goes on are at hand again: in the place of what was lost or changed on disk. */
static enum mfs_code
keep_again(struct mfs_at *at, const struct mfs_cycle_offer *o, struct mfs_err *err)
{
	struct mfs_engine *e = at->r->engine;
	struct mfs_version *v = NULL;
	enum mfs_code code = mfs_engine_version(e, at->i, &o->v.manifest, &v, NULL);

	mfs_version_unref(v);
	return mfs_kept_lost(code) ? mfs_engine_keep_signed(e, at->i, &o->v.manifest, &o->bytes, err) : MFS_OK;
}

/* What is offered is what is active: all there is, or is something newer for others? */
static enum mfs_code
up_to_date(struct mfs_at *at, const struct mfs_cycle_offer *o, struct mfs_cycle_news *news, struct mfs_err *err)
{
	abandon(at, &news->superseded, "what is offered is active");
	news->current = o->passed[0] == '\0';
	if (news->current)
		return mfs_fail(err, MFS_NOT_SELECTED, "%s is active: nothing newer is offered", o->v.version);
	return mfs_fail(err, MFS_NOT_SELECTED, "%s is what this host is offered; %s", o->v.version, o->passed);
}

static enum mfs_code
offered(struct mfs_at *at, const struct mfs_cycle_offer *o, bool by_hand, struct mfs_cycle_news *news, struct mfs_err *err)
{
	bool *superseded = &news->superseded;
	bool current = mfs_sha256_equal(&at->a.v.manifest, &o->v.manifest);
	enum mfs_install how = MFS_INSTALL_NEW;
	char active[MFS_VERSION_MAX + 1];
	bool again;

	/* A fraction was lowered, or an older rollout comes first now: that stops, it moves no device back. */
	if (!o->rollback && mfs_engine_behind(at->r->engine, at->i, o->m, active)) {
		abandon(at, superseded, "an older version is offered now");
		return mfs_fail(err, MFS_NOT_SELECTED, "%s is active, and %s, which is offered, is older: only a revocation goes back",
			active, o->v.version);
	}
	if (!o->rollback && mfs_engine_eligible(at->r->engine, at->i, o->m, &how, err) != MFS_OK)
		return not_now(at, &o->v, superseded, err);
	again = how == MFS_INSTALL_SAME && !is_shown(at, &o->v.manifest) &&
		((current && at->a.step != MFS_STEP_IDLE) || is_lost(at, &o->v.manifest));
	if (how == MFS_INSTALL_SAME && !again)
		return up_to_date(at, o, news, err);
	if (undecryptable(at, &o->v))
		return mfs_fail(err, MFS_DECRYPT_FAILED, "%s was refused: %s", o->v.version, at->up.refusal_detail);
	if (current && at->a.step != MFS_STEP_IDLE) {
		if (keep_again(at, o, err) != MFS_OK)
			return err->code;
		if (by_hand && (at->a.not_before != 0 || !at->a.by_hand)) { /* somebody waits for it */
			at->a.not_before = 0;
			at->a.by_hand = true;
			(void)mfs_at_save(at);
		}
		return MFS_OK;
	}
	/* It was given up: by itself only after the longest pause. */
	if (current && !by_hand && mfs_time_clamp(at->a.not_before, at->now, at->r->config->update.max_interval_ms / 1000) >
		at->now)
		return mfs_fail(err, at->a.why, "%s: %s", o->v.version, at->a.detail != NULL ? at->a.detail : "given up");
	if (at->a.step != MFS_STEP_IDLE)
		abandon(at, superseded, "another version is offered now");
	return begin(at, o, again, by_hand, err);
}

enum mfs_code
mfs_cycle_offer(const struct mfs_cycle_run *r, size_t i, struct mfs_remote *via, bool by_hand,
	const _Atomic int *cancel, struct mfs_cycle_news *news, struct mfs_err *err)
{
	bool *superseded = &news->superseded;
	struct mfs_err own = MFS_ERR_INIT;
	struct mfs_cycle_offer o = { 0 };
	struct mfs_at at;
	enum mfs_code code;

	err = err != NULL ? err : &own;
	*news = (struct mfs_cycle_news){ 0 };
	code = r->parts->target(r->parts->user, i, via, cancel, &o, err);
	mfs_at_read(r, i, &at); /* after the network: the worker went on meanwhile */
	if (code == MFS_OK && o.none) {
		code = up_to_date(&at, &o, news, err);
	} else if (code == MFS_OK) {
		code = offered(&at, &o, by_hand, news, err);
	} else if (code == MFS_NOT_SELECTED) {
		abandon(&at, superseded, "it is not offered to this device any more");
	} else if (!mfs_sha256_is_zero(&o.v.manifest) && mfs_is_refusal(code)) {
		/* Bytes that matched their signed hash are wrong themselves: the manifest is condemned. */
		*superseded = at.a.step != MFS_STEP_IDLE && !mfs_sha256_equal(&at.a.v.manifest, &o.v.manifest);
		if (*superseded)
			abandon(&at, superseded, "another version is offered now");
		at.a.v = o.v;
		if (code == MFS_SIGNATURE_INVALID || code == MFS_MALFORMED)
			(void)mfs_at_condemn(&at, err);
		else
			(void)mfs_at_refuse(&at, err, NULL);
	}
	mfs_cycle_offer_clear(&o);
	return code;
}
