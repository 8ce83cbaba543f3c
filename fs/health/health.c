/* SPDX-License-Identifier: Apache-2.0 */
/* The whole check of a version: formats, command, test vectors; and what of it is whose fault. */
#include "health.h"

#include <stdio.h>
#include <time.h>

#include "events.h"
#include "log.h"
#include "mfs_vectors.h"
#include "serve.h"

#define EXIT_LATER  75 /* EX_TEMPFAIL: try again, nobody's fault */
#define BUSY_TRIES  50 /* another check of this model is ending */
#define BUSY_MS     100
#define SAID_MAX    2000 /* bytes of output in an event, escaped */

struct check {
	struct mfs_serve *s;
	size_t i;
	struct mfs_version *v;
	enum mfs_job_reason reason;
	const _Atomic int *cancel;
	struct mfs_vectors *vectors; /* NULL: none */
	const char *vectors_file;    /* borrowed from the manifest; NULL: they are in the manifest */
	char vectors_name[MFS_JOB_VECTORS_MAX + 1];
	char shown[MFS_SHOWN_MAX + 1]; /* its name below versions/ */
};

/* ---- test vectors --------------------------------------------------------------------------------- */

/* A whole payload file into memory; it is small or refused. */
static enum mfs_code
file_read(struct mfs_version *v, size_t file, uint8_t **out, struct mfs_err *err)
{
	const struct mfs_file *f = &v->m->files[file];
	mfs_autofree uint8_t *buf = NULL;
	size_t at = 0, got;
	enum mfs_code code;

	if (f->size > MFS_VECTORS_BYTES_MAX)
		return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "%s: test vectors of %llu bytes; limit %u", MFS_ESC(f->name),
			(unsigned long long)f->size, MFS_VECTORS_BYTES_MAX);
	if ((buf = malloc((size_t)f->size + 1)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(f->name));
	for (; at < f->size; at += got)
		if ((code = mfs_content_read(v->files[file], buf + at, (size_t)f->size - at, at, &got, err)) != MFS_OK || got == 0)
			return code != MFS_OK ? code : mfs_fail(err, MFS_IO, "%s: ends early", MFS_ESC(f->name));
	*out = mfs_steal(&buf);
	return MFS_OK;
}

/* What is signed and wrong is the version's own fault. */
static enum mfs_code
blame(enum mfs_code code, struct mfs_err *err)
{
	if (code != MFS_MALFORMED && code != MFS_LIMIT_EXCEEDED)
		return code;
	err->code = MFS_HEALTH_CHECK_FAILED;
	return MFS_HEALTH_CHECK_FAILED;
}

static enum mfs_code
vectors_load(struct check *c, struct mfs_err *err)
{
	const struct mfs_manifest *m = c->v->m;
	mfs_autofree uint8_t *text = NULL;
	enum mfs_code code;
	ssize_t file;

	if (m->health_json == NULL)
		return MFS_OK;
	code = mfs_vectors_parse("manifest.json: health", MFS_SPAN(m->health_json, strlen(m->health_json)), &c->vectors, err);
	if (code != MFS_OK || mfs_vectors_file(c->vectors) == NULL)
		return blame(code, err);
	if (strlen(mfs_vectors_file(c->vectors)) > MFS_JOB_VECTORS_MAX)
		return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "manifest.json: health.file: a name of more than %u bytes",
			MFS_JOB_VECTORS_MAX);
	(void)snprintf(c->vectors_name, sizeof(c->vectors_name), "%s", mfs_vectors_file(c->vectors));
	mfs_vectors_free(c->vectors);
	c->vectors = NULL;
	c->vectors_file = c->vectors_name;
	if ((file = mfs_manifest_find(m, c->vectors_name)) < 0)
		return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "manifest.json: health.file: '%s' is no file of this bundle",
			MFS_ESC(c->vectors_name));
	if ((code = file_read(c->v, (size_t)file, &text, err)) != MFS_OK)
		return code;
	code = mfs_vectors_parse(MFS_ESC(c->vectors_name), MFS_SPAN(text, (size_t)m->files[file].size), &c->vectors, err);
	if (code == MFS_OK && mfs_vectors_file(c->vectors) != NULL)
		code = mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "%s: names another file instead of holding vectors",
			MFS_ESC(c->vectors_name));
	return blame(code, err);
}

/* ---- the command -------------------------------------------------------------------------------------- */

/* The last line that says something: what people see first. */
static void
last_line(const struct mfs_job_result *r, char out[200])
{
	size_t end = r->output_len, start;

	while (end > 0 && (r->output[end - 1] == '\n' || r->output[end - 1] == '\r'))
		end--;
	for (start = end; start > 0 && r->output[start - 1] != '\n'; start--)
		;
	out[0] = '\0';
	if (end > start)
		(void)mfs_escape(out, 200, r->output + start, end - start);
}

static enum mfs_code
verdict(struct check *c, const struct mfs_job_result *r, struct mfs_err *err)
{
	const char *id = c->s->config->models[c->i].id;
	char said[200];
	enum mfs_code code = MFS_HEALTH_CHECK_FAILED;

	last_line(r, said);
	switch (r->end) {
	case MFS_JOB_EXITED:
		if (r->status == 0 && c->vectors == NULL)
			return MFS_OK;
		if (r->status == 0) {
			code = mfs_vectors_check(c->vectors, MFS_SPAN(r->output, r->output_len), err);
			if (code == MFS_HEALTH_CHECK_FAILED && r->truncated)
				(void)mfs_err_hint(err, "; more than %u bytes were printed, the rest was not kept", MFS_JOB_OUTPUT_MAX);
			return code;
		}
		if (r->status == EXIT_LATER)
			code = MFS_CONDITION_UNMET;
		break;
	case MFS_JOB_SIGNALED:
	case MFS_JOB_TIMED_OUT:
		break;
	case MFS_JOB_NO_MEMORY:
		code = MFS_NO_MEMORY;
		break;
	case MFS_JOB_STOPPED:
		code = MFS_CONDITION_UNMET;
		break;
	default:
		code = MFS_CONFIG_INVALID;
	}
	return mfs_fail(err, code, "%s %s: health command: %s%s%s", id, c->v->m->version, r->detail, said[0] != '\0' ? ": " : "", said);
}

/* What a command prints stays readable afterwards. */
static void
event(struct check *c, const struct mfs_job_result *r, enum mfs_code code)
{
	char detail[SAID_MAX + 300], said[SAID_MAX];
	size_t len = r->output_len;

	if (c->reason == MFS_REASON_PROBATION && code == MFS_OK)
		return; /* every minute the same */
	while (len > 0 && r->output[len - 1] == '\n')
		len--;
	(void)mfs_escape(said, sizeof(said), r->output != NULL ? r->output : "", len);
	(void)snprintf(detail, sizeof(detail), "health command: %s%s%s", r->detail, said[0] != '\0' ? ": " : "", said);
	mfs_event(c->s->events, &(struct mfs_event){ .model = c->s->config->models[c->i].id, .version = c->v->m->version,
		.code = code, .source = "health", .detail = detail });
}

static enum mfs_code
run(struct check *c, const struct mfs_job_request *q, struct mfs_job_result *r, struct mfs_err *err)
{
	const struct timespec pause = { .tv_nsec = BUSY_MS * 1000000L };
	enum mfs_code code = MFS_CONDITION_UNMET;

	for (int i = 0; i < BUSY_TRIES && code == MFS_CONDITION_UNMET; i++) {
		if (i > 0)
			(void)nanosleep(&pause, NULL);
		if (c->cancel != NULL && atomic_load(c->cancel) != 0 && i > 0)
			break;
		code = mfs_job_run(c->s->jobs, q, c->cancel, r, err);
	}
	return code;
}

static enum mfs_code
command(struct check *c, const char *previous, struct mfs_err *err)
{
	struct mfs_job_request q = { .model = c->i, .kind = MFS_JOB_HEALTH, .reason = c->reason, .version = c->shown,
		.release = c->v->m->release, .previous = previous, .vectors = c->vectors_file };
	struct mfs_failures failures = { .manifest = c->v->m->id };
	struct mfs_job_result r;
	enum mfs_code code;

	mfs_failures_begin(c->s->cache, &failures);
	code = run(c, &q, &r, err);
	mfs_failures_end(c->s->cache, &failures);
	if (code != MFS_OK)
		return code;
	code = verdict(c, &r, err);
	/* It may have failed because a chunk did: that is repaired, and the check repeated. */
	if (code == MFS_HEALTH_CHECK_FAILED && failures.n > 0)
		code = mfs_fail(err, MFS_IO, "%s %s: the health command failed (%s), and so did %llu reads of its stored chunks meanwhile",
			c->s->config->models[c->i].id, c->v->m->version, r.detail, (unsigned long long)failures.n);
	event(c, &r, code);
	mfs_job_result_free(&r);
	return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

/* How the version stands now; previous receives what was active before it, "" for none. */
static enum mfs_code
standing(struct check *c, bool *active, char previous[MFS_VERSION_MAX + 1], struct mfs_err *err)
{
	struct mfs_engine_model m;
	enum mfs_code code;

	*active = false;
	previous[0] = '\0';
	if ((code = mfs_engine_model_get(c->s->engine, c->i, &m, err)) != MFS_OK)
		return code;
	for (size_t k = 0; k < m.n; k++)
		*active |= m.versions[k].active && mfs_sha256_equal(&m.versions[k].v->m->id, &c->v->m->id);
	for (size_t k = 0; k < m.n; k++)
		if (*active ? m.versions[k].previous : m.versions[k].active)
			(void)snprintf(previous, MFS_VERSION_MAX + 1, "%s", m.versions[k].v->m->version);
	mfs_engine_model_free(&m);
	return MFS_OK;
}

/* In the turn of this check. */
static enum mfs_code
command_turn(struct check *c, struct mfs_err *err)
{
	char previous[MFS_VERSION_MAX + 1];
	struct mfs_err ignored = MFS_ERR_INIT;
	enum mfs_code code;
	bool active;

	(void)snprintf(c->shown, sizeof(c->shown), "%s", c->v->m->version);
	if ((code = standing(c, &active, previous, err)) != MFS_OK ||
		(!active && (code = mfs_view_candidate_set(c->s, c->i, &c->v->m->id, c->shown, err)) != MFS_OK))
		return code;
	code = command(c, previous[0] != '\0' ? previous : NULL, err);
	if (!active && mfs_view_candidate_clear(c->s, c->i, &ignored) != MFS_OK)
		mfs_log_err(c->s->config->models[c->i].id, &ignored);
	return code;
}

static enum mfs_code
command_shown(struct check *c, struct mfs_err *err)
{
	/* A probation has its next look soon, and the thread that asks for it brings revocations too. */
	const bool patient = c->reason != MFS_REASON_PROBATION;
	enum mfs_code code = mfs_job_turn(c->s->jobs, c->i, patient, c->cancel, err);

	if (code != MFS_OK)
		return code;
	code = command_turn(c, err);
	mfs_job_turn_end(c->s->jobs, c->i);
	return code;
}

enum mfs_code
mfs_health_check(struct mfs_serve *s, size_t i, struct mfs_version *v, enum mfs_job_reason reason,
	const _Atomic int *cancel, struct mfs_err *err)
{
	struct check c = { .s = s, .i = i, .v = v, .reason = reason, .cancel = cancel };
	struct mfs_err own = MFS_ERR_INIT;
	enum mfs_code code = MFS_OK;

	/* Stored bytes do not change between the runs of a probation: mfs_content verifies them as ever. */
	if (reason != MFS_REASON_PROBATION)
		code = mfs_health_builtin(v, cancel, &own);
	if (code == MFS_OK && (code = vectors_load(&c, &own)) == MFS_OK && s->config->models[i].health.command != NULL)
		code = command_shown(&c, &own);
	else if (code == MFS_OK && c.vectors != NULL)
		mfs_log(MFS_LOG_NOTICE, "%s %s: has %zu test vectors, and no health.command is configured to run them",
			s->config->models[i].id, v->m->version, mfs_vectors_count(c.vectors));
	mfs_vectors_free(c.vectors);
	if (code != MFS_OK && err != NULL)
		*err = own;
	return code;
}
