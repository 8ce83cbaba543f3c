/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_request.c - what a request begins: an answer at once, a job for a worker, or a check or update,
 * which no worker waits for: it is looked at.
 */
#include "control_io.h"

#include <string.h>

#include "download.h"
#include "io.h"

/* What rests or waits after earlier faults is tried now: somebody asks for it. */
static void
hurry(struct mfs_serve *s, size_t model)
{
	for (size_t i = 0; s->updates != NULL && i < s->config->n_models; i++)
		if ((i == model || model >= s->config->n_models) && s->config->models[i].repo >= 0)
			mfs_download_awake(mfs_updates_download(s->updates, (size_t)s->config->models[i].repo));
	mfs_scrub_hurry(s->scrub, model);
}

static void
update_begin(struct mfs_control *c, struct conn *k)
{
	struct mfs_update *u = mfs_updates_threads(c->s->updates);
	struct mfs_err err = MFS_ERR_INIT;
	struct mfs_remote *via = NULL;

	if (u == NULL)
		(void)mfs_fail(&err, MFS_CONFIG_INVALID, "updates are not to be had here");
	else if (k->req.from && k->passed < 0)
		(void)mfs_fail(&err, MFS_MALFORMED, "request: from: no descriptor came with it");
	else if (k->req.from)
		(void)mfs_remote_adopt(mfs_steal_fd(&k->passed), &via, &err);
	if (via != NULL)
		mfs_remote_bandwidth(via, c->s->config->update.bandwidth);
	hurry(c->s, k->model);
	if (err.code == MFS_OK)
		(void)mfs_update_ask(u, k->model, k->req.command == MFS_CTL_UPDATE, via, &k->ticket, &err);
	if (err.code != MFS_OK) {
		k->ticket = 0;
		mfs_conn_refuse(k, &err);
		return;
	}
	k->updates = u;
	k->state = CONN_UPDATING;
	k->deadline = 0;
	k->said = mfs_clock_mono_ms();
	k->progress = 0;
}

void
mfs_conn_update_tick(struct mfs_control *c, struct conn *k, int64_t now)
{
	struct mfs_update_answer a;
	uint64_t mark;
	size_t len = 0;
	char *line;

	mfs_update_poll(k->updates, k->ticket, &a);
	if (a.final) {
		mfs_update_forget(k->updates, k->ticket);
		k->ticket = 0;
		mfs_conn_finish(k, a.exit_code == MFS_EXIT_NOTHING ? MFS_OK : a.code, a.exit_code, a.detail, NULL);
		return;
	}
	mark = a.done + ((uint64_t)a.step << 56) + a.model;
	if (mark == k->progress && now - k->said < CONTROL_ALIVE_MS)
		return;
	k->progress = mark;
	k->said = now;
	line = mfs_ctl_update_line(a.done, a.total, a.rate, a.model < c->s->config->n_models ? mfs_step_name(a.step) : "check",
		a.model < c->s->config->n_models ? c->s->config->models[a.model].id : NULL, &len);
	mfs_conn_send(k, line, len);
}

static void
request_run(struct mfs_control *c, struct conn *k)
{
	char *line;
	size_t len = 0;

	switch (k->req.command) {
	case MFS_CTL_STATUS:
		line = mfs_control_status(c, k, &len);
		k->state = CONN_READING;
		k->deadline = mfs_clock_mono_ms() + CONTROL_REQUEST_MS;
		mfs_conn_send(k, line, len);
		break;
	case MFS_CTL_EVENTS:
		k->after = k->req.after;
		k->state = CONN_FOLLOWING;
		k->deadline = 0;
		if ((line = mfs_control_events(c, k, &len)) != NULL)
			mfs_conn_send(k, line, len);
		if (!k->req.follow && k->state == CONN_FOLLOWING)
			mfs_conn_finish(k, MFS_OK, MFS_EXIT_DONE, "", NULL);
		break;
	case MFS_CTL_WAIT:
		k->state = CONN_WAITING;
		k->deadline = 0;
		k->wait_until = k->req.timeout_ms < 0 ? -1 : mfs_clock_mono_ms() + k->req.timeout_ms;
		break;
	case MFS_CTL_CHECK:
	case MFS_CTL_UPDATE:
		update_begin(c, k);
		break;
	default:
		mfs_control_job(c, k);
	}
	mfs_cleanup_close(&k->passed);
}

void
mfs_conn_request(struct mfs_control *c, struct conn *k, const char *line, size_t len)
{
	const struct mfs_config *conf = c->s->config;
	struct mfs_err err = MFS_ERR_INIT;
	ssize_t i;

	if (mfs_ctl_request_parse((struct mfs_span){ (const uint8_t *)line, len }, &k->req, &err) != MFS_OK) {
		mfs_conn_refuse(k, &err);
		k->closing = true;
		return;
	}
	if (mfs_ctl_changes(k->req.command) && !k->may_change) {
		(void)mfs_fail(&err, MFS_POLICY_REJECTED, "only root%s%s may do this",
			conf->control_group != NULL ? " and group " : "", conf->control_group != NULL ? conf->control_group : "");
		mfs_conn_refuse(k, &err);
		return;
	}
	k->model = conf->n_models;
	if (k->req.model[0] != '\0') {
		if ((i = mfs_config_find(conf, k->req.model)) < 0) {
			(void)mfs_fail(&err, MFS_CONFIG_INVALID, "no model '%s' in the configuration that is served",
				k->req.model);
			mfs_conn_refuse(k, &err);
			return;
		}
		k->model = (size_t)i;
	}
	request_run(c, k);
}
