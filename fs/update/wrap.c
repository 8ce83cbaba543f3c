/* SPDX-License-Identifier: Apache-2.0 */
#include "wrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define DEADLINE_MS 30000u
#define FORBIDDEN   403u /* what object stores say of what is not there */

struct asking {
	const struct mfs_wrap_ask *a;
	struct mfs_sha256 model_key;
	unsigned answered, bad; /* sources that have none, or one that does not open */
	struct mfs_err fault;   /* of the last that did not answer */
	int64_t retry_after_s;
};

/* Bytes of a source: into the store if they are what is wanted. */
static enum mfs_code
take(struct asking *q, const uint8_t *bytes, size_t len, const char *from, struct mfs_err *err)
{
	const struct mfs_wrap_ask *a = q->a;
	struct mfs_key key = { { 0 } };
	struct mfs_err why = MFS_ERR_INIT;
	enum mfs_code code = mfs_keys_content_grant(a->keys, a->model, a->m, MFS_SPAN(bytes, len), &key, &why);

	mfs_key_wipe(&key);
	if (code == MFS_OK)
		return mfs_store_wrap_put(a->store, &q->model_key, &a->m->content_key_id, bytes, err);
	q->bad++;
	mfs_log(MFS_LOG_WARN, "%s: wrapped key of %s %s: from %s: %s", a->config->models[a->model].id, a->m->model_id,
		a->m->version, from, why.msg);
	return MFS_KEY_UNAVAILABLE;
}

/* KEY_UNAVAILABLE: ask the next one. */
static enum mfs_code
source_ask(struct asking *q, size_t repo, int mirror, const char *from, struct mfs_err *err)
{
	char path[MFS_WRAP_PATH];
	struct mfs_remote_request rq = { .repo = repo, .mirror = mirror, .kind = MFS_REMOTE_GRANT, .path = path,
		.cap = MFS_WRAP_LEN, .deadline_ms = DEADLINE_MS, .cancel = q->a->cancel };
	struct mfs_remote_result res = { 0 };
	struct mfs_err why = MFS_ERR_INIT;
	mfs_autofree uint8_t *bytes = NULL;
	size_t len = 0;
	enum mfs_code code;

	mfs_wrap_path(path, &q->model_key, &q->a->m->content_key_id);
	code = mfs_remote_read(q->a->remote, &rq, &bytes, &len, &res, &why);
	if ((code == MFS_OK && res.not_found) || (code == MFS_NET_HTTP && res.http == FORBIDDEN)) {
		q->answered++;
		return MFS_KEY_UNAVAILABLE;
	}
	if (code == MFS_OK || code == MFS_LIMIT_EXCEEDED) { /* a page that says "not found" with 200, and the like */
		q->answered++;
		return take(q, bytes, code == MFS_OK ? len : 0, from, err);
	}
	if (mfs_code_class(code) != MFS_CLASS_NETWORK) {
		if (err != NULL)
			*err = why;
		return code;
	}
	q->fault = why;
	if (res.retry_after_s > q->retry_after_s)
		q->retry_after_s = res.retry_after_s;
	return MFS_KEY_UNAVAILABLE;
}

static enum mfs_code
sources_ask(struct asking *q, struct mfs_err *err)
{
	const struct mfs_wrap_ask *a = q->a;
	const size_t repo = (size_t)a->config->models[a->model].repo;
	const struct mfs_config_repository *c = &a->config->repos[repo];
	enum mfs_code code = MFS_KEY_UNAVAILABLE;

	if (a->via)
		return source_ask(q, 0, -1, "where the update came from", err);
	for (size_t i = 0; i < c->n_mirrors && code == MFS_KEY_UNAVAILABLE; i++)
		if (strchr(c->mirrors[i].url, '{') == NULL) /* a template has blobs only */
			code = source_ask(q, repo, (int)i, MFS_ESC(c->mirrors[i].url), err);
	/* `only` is about blobs: like metadata this is small, and a cache may not have it. */
	return code == MFS_KEY_UNAVAILABLE ? source_ask(q, repo, -1, MFS_ESC(c->origin.url), err) : code;
}

enum mfs_code
mfs_wrap_fetch(const struct mfs_wrap_ask *a, int64_t *retry_after_s, struct mfs_err *err)
{
	struct asking q = { .a = a, .fault = MFS_ERR_INIT };
	struct mfs_key key = { { 0 } };
	enum mfs_code code;

	*retry_after_s = 0;
	mfs_keys_model_id(a->keys, a->model, &q.model_key);
	/* Its words say which key is wanted; and it may be here by now. */
	code = mfs_keys_content(a->keys, a->model, a->m, &key, err);
	mfs_key_wipe(&key);
	if (code != MFS_KEY_UNAVAILABLE || mfs_sha256_is_zero(&q.model_key))
		return code;
	if (a->config->models[a->model].repo < 0)
		return code;
	if ((code = sources_ask(&q, err)) == MFS_OK || code != MFS_KEY_UNAVAILABLE)
		return code;
	*retry_after_s = q.retry_after_s;
	if (q.answered == 0 && q.fault.code != MFS_OK) {
		if (err != NULL)
			*err = q.fault;
		return mfs_err_context(err, "wrapped key of %s %s: ", a->m->model_id, a->m->version);
	}
	if (q.bad > 0)
		return mfs_err_hint(err, "; %u that came from the repository %s not open", q.bad, q.bad == 1 ? "does" : "do");
	return code;
}
