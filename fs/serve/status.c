/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - documents from facts, and the facts of a system that is not mounted. */
#include <string.h>

#include "io.h"
#include "shm.h"
#include "status.h"
#include "status_facts.h"

static enum mfs_code
text_document(const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n, bool one, char **out,
	size_t *len, struct mfs_err *err)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);

	if (f == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "status: no memory");
	if (one)
		mfs_text_model(f, h, m);
	else
		mfs_text_all(f, h, m, n);
	if (fclose(f) != 0) {
		free(text);
		return mfs_fail(err, MFS_NO_MEMORY, "status: no memory");
	}
	*out = text;
	return MFS_OK;
}

static json_t *
json_all(const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n, bool versions)
{
	json_t *o = mfs_json_host(h), *a = json_array();

	for (size_t i = 0; i < n && a != NULL; i++)
		if (json_array_append_new(a, mfs_json_model(h, &m[i], versions)) != 0) {
			json_decref(a);
			a = NULL;
		}
	if (o == NULL || a == NULL || json_object_set(o, "models", a) != 0) {
		json_decref(o);
		o = NULL;
	}
	json_decref(a);
	return o;
}

/* One model: its own fields beside those of the host. */
static json_t *
json_one(const struct mfs_facts_host *h, const struct mfs_facts_model *m)
{
	json_t *o = mfs_json_model(h, m, true), *host = mfs_json_host(h);

	if (o != NULL && (host == NULL || json_object_update_missing(o, host) != 0)) {
		json_decref(o);
		o = NULL;
	}
	json_decref(host);
	return o;
}

static char *
json_text(json_t *o, size_t flags)
{
	char *s = o != NULL ? json_dumps(o, flags) : NULL;

	json_decref(o);
	return s;
}

static enum mfs_code
json_document(const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n, bool one, size_t cap,
	char **out, size_t *len, struct mfs_err *err)
{
	char *s = json_text(one ? json_one(h, m) : json_all(h, m, n, true), JSON_INDENT(1)), *line;

	if (s != NULL && strlen(s) >= cap) {
		free(s);
		s = json_text(one ? json_one(h, m) : json_all(h, m, n, false), JSON_COMPACT);
	}
	if (s == NULL || (line = realloc(s, strlen(s) + 2)) == NULL) {
		free(s);
		return mfs_fail(err, MFS_NO_MEMORY, "status: no memory");
	}
	*len = strlen(line) + 1;
	line[*len - 1] = '\n';
	line[*len] = '\0';
	*out = line;
	return MFS_OK;
}

enum mfs_code
mfs_facts_document(const struct mfs_facts_host *h, const struct mfs_facts_model *m, size_t n, bool one, bool json,
	size_t cap, char **out, size_t *len, struct mfs_err *err)
{
	return json ? json_document(h, m, n, one, cap, out, len, err) : text_document(h, m, n, one, out, len, err);
}

enum mfs_code
mfs_status_render_offline(const struct mfs_config *c, struct mfs_engine *e, int64_t now, enum mfs_status_kind kind,
	size_t model, char **out, size_t *len, struct mfs_err *err)
{
	struct mfs_facts_host h = { .config = c, .kind = c->counter, .now = mfs_clock_wall() };
	mfs_autofree struct mfs_facts_model *m = calloc(c->n_models + 1, sizeof(*m));
	bool one = kind == MFS_STATUS_MODEL_TEXT || kind == MFS_STATUS_MODEL_JSON;
	bool json = kind == MFS_STATUS_MODEL_JSON || kind == MFS_STATUS_ALL_JSON;
	size_t n = 0, first = one ? model : 0, last = one ? model + 1 : c->n_models;
	enum mfs_code code = MFS_OK;

	*out = NULL;
	*len = 0;
	if (m == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "status: no memory");
	h.protection = e != NULL ? mfs_engine_protection(e) : NULL;
	for (size_t i = first; i < last && code == MFS_OK; i++) {
		m[n].conf = &c->models[i];
		if (e != NULL)
			code = mfs_engine_model_get(e, i, &m[n].m, err);
		mfs_update_recalled(&m[n].updates, &m[n].m.update);
		if (e != NULL && m[n].conf->repo >= 0)
			mfs_engine_repo_get(e, (size_t)m[n].conf->repo, &m[n].repo);
		m[n].expired = mfs_facts_expired(&m[n].repo, now);
		n += code == MFS_OK;
	}
	if (code == MFS_OK)
		code = mfs_facts_document(&h, m, n, one, json, MFS_SNAP_BYTES, out, len, err);
	for (size_t i = 0; i < n; i++)
		mfs_engine_model_free(&m[i].m);
	return code;
}
