/* SPDX-License-Identifier: Apache-2.0 */
/* The anchor as memory: copies of it, and what the text of one model depends on. */
#include "internal.h"

#include "memo.h"

/* false: no memory; what *to is then may be freed with the copy. */
static bool
list_copy(const void *from, size_t n, size_t size, void *to)
{
	void **out = to;

	*out = NULL;
	if (n == 0)
		return true;
	if ((*out = calloc(n, size)) == NULL)
		return false;
	memcpy(*out, from, n * size);
	return true;
}

static bool
text_copy(const char *from, char **to)
{
	*to = NULL;
	return from == NULL || (*to = strdup(from)) != NULL;
}

static bool
model_copy(const struct mfs_anchor_model *from, struct mfs_anchor_model *to)
{
	bool ok;

	*to = *from;
	/* Each pointer becomes the copy's own, on failure too: none may be freed twice. */
	ok = list_copy(from->retained, from->n_retained, sizeof(*from->retained), &to->retained);
	ok = list_copy(from->known, from->n_known, sizeof(*from->known), &to->known) && ok;
	ok = list_copy(from->bad, from->n_bad, sizeof(*from->bad), &to->bad) && ok;
	ok = list_copy(from->revoked, from->n_revoked, sizeof(*from->revoked), &to->revoked) && ok;
	ok = text_copy(from->policy_extra_json, &to->policy_extra_json) && ok;
	/* As a reader does: what was joined by hand may hold a minimum that was never counted. */
	mfs_anchor_high_raise(to, to->min_key_epoch, to->min_release);
	return text_copy(from->extra_json, &to->extra_json) && ok;
}

static bool
repo_copy(const struct mfs_anchor_repo *from, struct mfs_anchor_repo *to)
{
	bool ok;

	*to = *from;
	ok = text_copy(from->trust_json, &to->trust_json);
	return text_copy(from->extra_json, &to->extra_json) && ok;
}

static bool
anchor_copy(const struct mfs_anchor *from, struct mfs_anchor *to)
{
	to->minor = from->minor;
	if (!text_copy(from->extra_json, &to->extra_json) ||
		(from->n_models > 0 && (to->models = calloc(from->n_models, sizeof(*to->models))) == NULL) ||
		(from->n_repos > 0 && (to->repos = calloc(from->n_repos, sizeof(*to->repos))) == NULL))
		return false;
	while (to->n_models < from->n_models)
		if (to->n_models++, !model_copy(&from->models[to->n_models - 1], &to->models[to->n_models - 1]))
			return false;
	while (to->n_repos < from->n_repos)
		if (to->n_repos++, !repo_copy(&from->repos[to->n_repos - 1], &to->repos[to->n_repos - 1]))
			return false;
	return true;
}

enum mfs_code
mfs_anchor_copy(const struct mfs_anchor *a, struct mfs_anchor **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_anchor) struct mfs_anchor *to = calloc(1, sizeof(*to));

	*out = NULL;
	if (to == NULL || !anchor_copy(a, to))
		return mfs_fail(err, MFS_NO_MEMORY, "anchor: %zu models", a->n_models);
	*out = mfs_steal(&to);
	return MFS_OK;
}

static void
list_add(struct mfs_memo *memo, const void *p, size_t n, size_t size)
{
	if (n > 0)
		mfs_memo_add(memo, p, n * size);
}

void
mfs_anchor_model_memo(const struct mfs_anchor_model *m, struct mfs_memo *memo)
{
	struct mfs_anchor_model plain = *m;

	/* The numbers of items are in it; padding at worst makes a text anew. */
	plain.retained = plain.known = NULL;
	plain.bad = NULL;
	plain.revoked = NULL;
	plain.policy_extra_json = plain.extra_json = NULL;
	mfs_memo_add(memo, &plain, sizeof(plain));
	list_add(memo, m->retained, m->n_retained, sizeof(*m->retained));
	list_add(memo, m->known, m->n_known, sizeof(*m->known));
	list_add(memo, m->bad, m->n_bad, sizeof(*m->bad));
	list_add(memo, m->revoked, m->n_revoked, sizeof(*m->revoked));
	mfs_memo_add_string(memo, m->policy_extra_json);
	mfs_memo_add_string(memo, m->extra_json);
}
