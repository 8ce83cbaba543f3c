/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search for a target: delegations in order of appearance, depth first, at most
 * MFS_TUF_VISITED_MAX roles, none twice. A role counts only for the delegator that leads to it now:
 * one that was verified with another delegator's keys is verified again with these.
 *
 * A role that two delegators name with different keys is therefore good for the one whose keys signed it, and ends every
 * search that comes through the other, whichever came first: the specification lets the first delegation that matches a
 * path decide who speaks for it (5.6.7), but each visit asks for the keys of the delegating role, and a
 * wrong signature ends the search (5.6.3 for targets: abort). To pass on to the next delegation instead would let who holds back or
 * damages a file choose another speaker; to go on with what the first one verified is the confusion of names that other
 * implementations had to repair. Without an order among delegators there is nothing that an attacker could win.
 */
#include "tuf_internal.h"

/* ---- roles that were verified in this run ----------------------------------------------------------- */

static void
delegated_free(struct mfs_tuf_delegated *d)
{
	for (size_t i = 0; i < d->n_via; i++)
		free(d->via[i]);
	free(d->via);
	free(d->name);
	free(d->file);
	mfs_tuf_doc_free(d->doc);
	free(d);
}

void
mfs_tuf_delegated_clear(struct mfs_tuf *t)
{
	for (struct mfs_tuf_delegated *d = t->delegated, *next; d != NULL; d = next) {
		next = d->next;
		delegated_free(d);
	}
	t->delegated = NULL;
	t->kept = 0;
}

/* Between two searches: what was not visited for longest goes until the rest is within its bound. It can be had again. */
static void
delegated_trim(struct mfs_tuf *t)
{
	while (t->kept > MFS_TUF_KEPT_MAX && t->delegated != NULL) {
		struct mfs_tuf_delegated **oldest = &t->delegated, *d;

		for (struct mfs_tuf_delegated **p = &t->delegated; *p != NULL; p = &(*p)->next)
			if ((*p)->used < (*oldest)->used)
				oldest = p;
		d = *oldest;
		*oldest = d->next;
		t->kept -= d->doc->len;
		delegated_free(d);
	}
}

static struct mfs_tuf_delegated *
delegated_find(const struct mfs_tuf *t, const char *name)
{
	struct mfs_tuf_delegated *d = t->delegated;

	while (d != NULL && strcmp(d->name, name) != 0)
		d = d->next;
	return d;
}

static enum mfs_code
via_add(struct mfs_tuf_delegated *d, const char *delegator, struct mfs_err *err)
{
	char **via = realloc(d->via, (d->n_via + 1) * sizeof(*via));

	if (via == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "delegations");
	d->via = via;
	if ((via[d->n_via] = strdup(delegator)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "delegations");
	d->n_via++;
	return MFS_OK;
}

static bool
via_has(const struct mfs_tuf_delegated *d, const char *delegator)
{
	for (size_t i = 0; i < d->n_via; i++)
		if (strcmp(d->via[i], delegator) == 0)
			return true;
	return false;
}

/* Takes *doc on success. */
static enum mfs_code
delegated_add(struct mfs_tuf *t, const struct mfs_tuf_visit *v, struct mfs_tuf_doc **doc, bool changed,
	struct mfs_tuf_delegated **out, struct mfs_err *err)
{
	struct mfs_tuf_delegated *d = calloc(1, sizeof(*d)), **end = &t->delegated;
	char file[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;

	if (d == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "delegations");
	if ((code = mfs_tuf_file_name(v->name, 0, file, err)) != MFS_OK ||
		(code = mfs_strdup(v->name, &d->name, err)) != MFS_OK || (code = mfs_strdup(file, &d->file, err)) != MFS_OK ||
		(code = via_add(d, v->delegator_name, err)) != MFS_OK) {
		delegated_free(d);
		return code;
	}
	d->doc = mfs_steal(doc);
	d->changed = changed;
	while (*end != NULL)
		end = &(*end)->next;
	*end = d;
	t->kept += d->doc->len;
	*out = d;
	return MFS_OK;
}

/* ---- one search ------------------------------------------------------------------------------------------- */

static void
visit_clear(struct mfs_tuf_visit *v)
{
	free(v->name);
	free(v->delegator_name);
	*v = (struct mfs_tuf_visit){ .name = NULL };
}

void
mfs_tuf_search_clear(struct mfs_tuf *t)
{
	struct mfs_tuf_search *s = &t->search;

	for (size_t i = 0; i < s->n_stack; i++)
		visit_clear(&s->stack[i]);
	for (size_t i = 0; i < s->n_visited; i++)
		free(s->visited[i]);
	free(s->stack);
	free(s->path);
	free(s->target_name);
	free(s->target_role);
	*s = (struct mfs_tuf_search){ .path = NULL };
}

static bool
visited(const struct mfs_tuf_search *s, const char *name)
{
	for (size_t i = 0; i < s->n_visited; i++)
		if (strcmp(s->visited[i], name) == 0)
			return true;
	return false;
}

/* The role names the path: the search is over. */
static enum mfs_code
found(struct mfs_tuf *t, const char *role, const struct mfs_tuf_fileinfo *f, struct mfs_err *err)
{
	struct mfs_tuf_search *s = &t->search;
	char hash[129] = "";
	enum mfs_code code;

	if (f->has_sha256)
		mfs_hex_encode(hash, f->sha256.b, sizeof(f->sha256.b));
	else
		mfs_hex_encode(hash, f->sha512, sizeof(f->sha512));
	if ((code = mfs_strdup(role, &s->target_role, err)) != MFS_OK ||
		(code = mfs_tuf_target_name(s->path, t->role[MFS_TUF_ROOT]->consistent ? hash : NULL, &s->target_name, err)) !=
			MFS_OK)
		return code;
	s->target = (struct mfs_tuf_target){ .path = s->path, .name = s->target_name, .role = s->target_role,
		.length = (uint64_t)f->length, .has_sha256 = f->has_sha256, .has_sha512 = f->has_sha512, .sha256 = f->sha256 };
	memcpy(s->target.sha512, f->sha512, sizeof(f->sha512));
	s->found = s->done = true;
	return MFS_OK;
}

static enum mfs_code
push(struct mfs_tuf_search *s, const struct mfs_tuf_doc *delegator, const char *delegator_name, const char *name,
	const struct mfs_tuf_signers *signers, struct mfs_err *err)
{
	struct mfs_tuf_visit *v;
	enum mfs_code code;

	if (s->n_stack == MFS_TUF_STACK_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "'%s': too many delegations", MFS_ESC(s->path));
	v = &s->stack[s->n_stack++];
	*v = (struct mfs_tuf_visit){ .delegator = delegator, .signers = *signers };
	if ((code = mfs_strdup(name, &v->name, err)) != MFS_OK)
		return code;
	return mfs_strdup(delegator_name, &v->delegator_name, err);
}

/* The delegations of d that cover the path, so that the first of them is visited next. */
static enum mfs_code
push_children(struct mfs_tuf_search *s, const struct mfs_tuf_doc *d, const char *name, struct mfs_err *err)
{
	/* Of twice the roles that may be visited, half at most have been: the others end the search anyway. */
	const struct mfs_tuf_delegation *child[2 * MFS_TUF_VISITED_MAX + 1];
	mfs_autofree char *bin = NULL;
	enum mfs_code code;
	size_t n = 0;

	if (d->succinct) {
		while (s->n_stack > 0)
			visit_clear(&s->stack[--s->n_stack]);
		if ((code = mfs_tuf_bin_name(d, &s->hash, &bin, err)) != MFS_OK)
			return code;
		return push(s, d, name, bin, &d->bin_signers, err);
	}
	for (size_t i = 0; i < d->n_delegations && n < sizeof(child) / sizeof(child[0]); i++) {
		const struct mfs_tuf_delegation *c = &d->delegations[i];

		if (!mfs_tuf_delegation_covers(c, s->path, &s->hash))
			continue;
		child[n++] = c;
		if (c->terminating) {
			while (s->n_stack > 0)
				visit_clear(&s->stack[--s->n_stack]);
			break;
		}
	}
	while (n-- > 0)
		if ((code = push(s, d, name, child[n]->name, &child[n]->signers, err)) != MFS_OK)
			return code;
	return MFS_OK;
}

/* A verified role is visited: it names the path, or its delegations come next. */
static enum mfs_code
visit(struct mfs_tuf *t, const struct mfs_tuf_doc *d, const char *name, struct mfs_err *err)
{
	struct mfs_tuf_fileinfo f;

	return mfs_tuf_target(d, t->search.path, &f) ? found(t, name, &f, err) : push_children(&t->search, d, name, err);
}

enum mfs_code
mfs_tuf_find(struct mfs_tuf *t, const char *path, struct mfs_err *err)
{
	struct mfs_tuf_search *s = &t->search;
	enum mfs_code code;

	if (t->state != MFS_TUF_READY)
		return mfs_fail(err, MFS_INTERNAL, "TUF: a search before the refresh is complete");
	mfs_tuf_search_clear(t);
	delegated_trim(t);
	t->searches++;
	if (path[0] == '\0' || path[0] == '/' || strlen(path) > MFS_TUF_PATH_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, "'%s': no target path: empty, from '/', or longer than %u bytes",
			MFS_ESC(path), MFS_TUF_PATH_MAX);
	if ((code = mfs_sha256(MFS_SPAN(path, strlen(path)), &s->hash, err)) == MFS_OK &&
		(code = mfs_strdup(path, &s->path, err)) == MFS_OK) {
		if ((s->stack = calloc(MFS_TUF_STACK_MAX, sizeof(*s->stack))) == NULL)
			code = mfs_fail(err, MFS_NO_MEMORY, "delegations");
		else
			code = visit(t, t->role[MFS_TUF_TARGETS], "targets", err);
	}
	if (code != MFS_OK)
		mfs_tuf_search_clear(t);
	return code;
}

/* ---- a role of a delegation ---------------------------------------------------------------------------------- */

/* What the snapshot says of a delegated role. */
static enum mfs_code
listed(const struct mfs_tuf *t, const struct mfs_tuf_visit *v, struct mfs_tuf_fileinfo *f, struct mfs_err *err)
{
	mfs_autofree char *file = malloc(strlen(v->name) + sizeof(".json"));

	*f = (struct mfs_tuf_fileinfo){ 0 };
	if (file == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "delegations");
	(void)snprintf(file, strlen(v->name) + sizeof(".json"), "%s.json", v->name);
	if (!mfs_tuf_meta(t->role[MFS_TUF_SNAPSHOT], file, f))
		return mfs_fail(err, MFS_HASH_MISMATCH, "role '%s': delegated to by '%s', but the snapshot does not name it",
			MFS_ESC(v->name), MFS_ESC(v->delegator_name));
	return MFS_OK;
}

/* Bytes, stored or fetched, as the role that v wants. */
static enum mfs_code
role_check(const struct mfs_tuf *t, const struct mfs_tuf_visit *v, struct mfs_span bytes, struct mfs_tuf_doc **out,
	struct mfs_err *err)
{
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	struct mfs_tuf_fileinfo f;
	enum mfs_code code;
	char what[192];

	(void)snprintf(what, sizeof(what), "role '%s'", MFS_ESC(v->name));
	if ((code = listed(t, v, &f, err)) != MFS_OK || (code = mfs_tuf_fileinfo_check(&f, what, bytes, err)) != MFS_OK ||
		(code = mfs_tuf_doc_parse(what, MFS_TUF_TARGETS, bytes, &d, err)) != MFS_OK ||
		(code = mfs_tuf_doc_verify(d, what, &v->signers, err)) != MFS_OK)
		return code;
	if (d->version != f.version)
		return mfs_fail(err, d->version < f.version ? MFS_ROLLBACK_ATTEMPT : MFS_HASH_MISMATCH,
			"%s: version %lld, but the snapshot names %lld", what, (long long)d->version, (long long)f.version);
	if ((code = mfs_tuf_fresh(t, d, what, 0, err)) != MFS_OK)
		return code;
	*out = mfs_steal(&d);
	return MFS_OK;
}

/* The role that v wants, from this run or from what is stored; *out NULL: it has to be fetched. */
static enum mfs_code
role_have(struct mfs_tuf *t, const struct mfs_tuf_visit *v, struct mfs_tuf_delegated **out, struct mfs_err *err)
{
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	mfs_autofree uint8_t *bytes = NULL;
	char file[MFS_TUF_FILE_MAX + 1];
	enum mfs_code code;
	size_t len = 0;

	if ((*out = delegated_find(t, v->name)) != NULL) {
		if (via_has(*out, v->delegator_name))
			return MFS_OK;
		if ((code = mfs_tuf_doc_verify((*out)->doc, "a role with two delegators", &v->signers, err)) != MFS_OK) {
			(void)mfs_err_context(err, "role '%s' as '%s' delegates it: ", MFS_ESC(v->name), MFS_ESC(v->delegator_name));
			return code;
		}
		return via_add(*out, v->delegator_name, err);
	}
	if ((code = mfs_tuf_file_name(v->name, 0, file, err)) != MFS_OK)
		return code;
	if (!mfs_tuf_local_take(t, file, &bytes, &len))
		return MFS_OK;
	if ((code = role_check(t, v, MFS_SPAN(bytes, len), &d, err)) != MFS_OK)
		return code == MFS_NO_MEMORY ? code : MFS_OK;
	return delegated_add(t, v, &d, false, out, err);
}

/* The last one of the stack has been verified: visit it. */
static enum mfs_code
descend(struct mfs_tuf *t, struct mfs_tuf_delegated *d, struct mfs_err *err)
{
	struct mfs_tuf_search *s = &t->search;
	enum mfs_code code;

	d->used = t->searches;
	s->bytes += d->doc->len;
	if (s->bytes > MFS_TUF_SEARCH_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "'%s': not found in %u bytes of roles", MFS_ESC(s->path),
			MFS_TUF_SEARCH_MAX);
	if ((code = mfs_strdup(d->name, &s->visited[s->n_visited], err)) != MFS_OK)
		return code;
	s->n_visited++;
	visit_clear(&s->stack[--s->n_stack]);
	s->waiting = false;
	return visit(t, d->doc, d->name, err);
}

static enum mfs_code
step(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err)
{
	struct mfs_tuf_search *s = &t->search;
	struct mfs_tuf_delegated *have = NULL;
	struct mfs_tuf_fileinfo f;
	struct mfs_tuf_visit *v;
	enum mfs_code code;

	if (s->n_stack == 0) {
		s->done = true;
		return MFS_OK;
	}
	v = &s->stack[s->n_stack - 1];
	if (visited(s, v->name)) {
		visit_clear(v);
		s->n_stack--;
		return MFS_OK;
	}
	if (s->n_visited == MFS_TUF_VISITED_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "'%s': not found in the %u roles that may be visited", MFS_ESC(s->path),
			MFS_TUF_VISITED_MAX);
	if (!s->waiting && ((code = role_have(t, v, &have, err)) != MFS_OK || have != NULL))
		return code != MFS_OK ? code : descend(t, have, err);
	if ((code = listed(t, v, &f, err)) != MFS_OK || (code = mfs_tuf_want_name(t, v->name, f.version, err)) != MFS_OK)
		return code;
	s->waiting = true;
	*want = (struct mfs_tuf_want){ .name = t->want, .role = v->name, .cap = MFS_TUF_TARGETS_MAX };
	if (f.has_length && f.length < (int64_t)want->cap)
		want->cap = (size_t)f.length;
	return MFS_OK;
}

enum mfs_code
mfs_tuf_search_next(struct mfs_tuf *t, struct mfs_tuf_want *want, struct mfs_err *err)
{
	struct mfs_tuf_search *s = &t->search;
	enum mfs_code code;

	while (s->path != NULL && !s->done && want->name == NULL)
		if ((code = step(t, want, err)) != MFS_OK) {
			*want = (struct mfs_tuf_want){ .name = NULL };
			mfs_tuf_search_clear(t);
			return code;
		}
	return MFS_OK;
}

static enum mfs_code
feed(struct mfs_tuf *t, enum mfs_tuf_answer answer, struct mfs_span bytes, struct mfs_err *err)
{
	const struct mfs_tuf_visit *v = &t->search.stack[t->search.n_stack - 1];
	mfs_autotufdoc struct mfs_tuf_doc *d = NULL;
	struct mfs_tuf_delegated *have = NULL;
	enum mfs_code code;

	if (answer != MFS_TUF_BYTES)
		return mfs_fail(err, MFS_NET_HTTP, "%s: not in the repository", MFS_ESC(t->want));
	if ((code = role_check(t, v, bytes, &d, err)) != MFS_OK ||
		(code = delegated_add(t, v, &d, true, &have, err)) != MFS_OK)
		return code;
	return descend(t, have, err);
}

enum mfs_code
mfs_tuf_search_feed(struct mfs_tuf *t, enum mfs_tuf_answer answer, struct mfs_span bytes, struct mfs_err *err)
{
	enum mfs_code code;

	if (t->search.path == NULL || !t->search.waiting)
		return mfs_fail(err, MFS_INTERNAL, "TUF: an answer that nobody asked for");
	if ((code = feed(t, answer, bytes, err)) != MFS_OK)
		mfs_tuf_search_clear(t);
	return code;
}

bool
mfs_tuf_found(const struct mfs_tuf *t, struct mfs_tuf_target *out)
{
	if (!t->search.done || !t->search.found)
		return false;
	*out = t->search.target;
	return true;
}

enum mfs_code
mfs_tuf_target_check(const struct mfs_tuf_target *target, struct mfs_span bytes, struct mfs_err *err)
{
	struct mfs_tuf_fileinfo f = { .has_length = true, .length = (int64_t)target->length,
		.has_sha256 = target->has_sha256, .has_sha512 = target->has_sha512, .sha256 = target->sha256 };
	char what[160];

	if (!f.has_sha256 && !f.has_sha512)
		return mfs_fail(err, MFS_INTERNAL, "a target without a hash");
	memcpy(f.sha512, target->sha512, sizeof(f.sha512));
	return mfs_tuf_fileinfo_check(&f, mfs_escape(what, sizeof(what), target->path, strlen(target->path)), bytes, err);
}

/* ---- how far is a file signed? ------------------------------------------------------------------------------- */

static enum mfs_code
signers_of(const struct mfs_tuf_doc *d, const char *role, struct mfs_tuf_signers *out, enum mfs_tuf_type *type,
	struct mfs_err *err)
{
	const size_t prefix = d->bin_prefix != NULL ? strlen(d->bin_prefix) : 0;

	*type = MFS_TUF_TARGETS;
	for (enum mfs_tuf_type i = MFS_TUF_ROOT; d->type == MFS_TUF_ROOT && i <= MFS_TUF_TARGETS; i++)
		if (strcmp(role, mfs_tuf_type_name(i)) == 0) {
			*type = i;
			*out = mfs_tuf_root_signers(d, i);
			return MFS_OK;
		}
	for (size_t i = 0; i < d->n_delegations; i++)
		if (strcmp(role, d->delegations[i].name) == 0) {
			*out = d->delegations[i].signers;
			return MFS_OK;
		}
	if (d->succinct && prefix > 0 && strncmp(role, d->bin_prefix, prefix) == 0 && role[prefix] == '-' &&
		strlen(role + prefix + 1) == (d->bin_bits + 3) / 4 &&
		strspn(role + prefix + 1, "0123456789abcdef") == (d->bin_bits + 3) / 4) {
		*out = d->bin_signers;
		return MFS_OK;
	}
	return mfs_fail(err, MFS_KEY_UNTRUSTED, "%s: no role '%s' in it", mfs_tuf_type_name(d->type), MFS_ESC(role));
}

static enum mfs_code
delegator_type(struct mfs_span bytes, enum mfs_tuf_type *type, struct mfs_err *err)
{
	mfs_autojson json_t *v = NULL;
	const char *name;
	enum mfs_code code;

	if ((code = mfs_json_parse_any_text("delegator", bytes, MFS_TUF_TARGETS_MAX, &v, err)) != MFS_OK)
		return code;
	name = json_string_value(json_object_get(json_object_get(v, "signed"), "_type"));
	if (name == NULL || (strcmp(name, "root") != 0 && strcmp(name, "targets") != 0))
		return mfs_fail(err, MFS_MALFORMED, "delegator: signed._type: neither root nor targets");
	*type = name[0] == 'r' ? MFS_TUF_ROOT : MFS_TUF_TARGETS;
	return MFS_OK;
}

enum mfs_code
mfs_tuf_count(struct mfs_span delegator, const char *role, struct mfs_span metadata, unsigned *valid,
	unsigned *threshold, struct mfs_err *err)
{
	mfs_autotufdoc struct mfs_tuf_doc *by = NULL, *d = NULL;
	mfs_autofree char *body = NULL;
	struct mfs_tuf_signers s;
	enum mfs_tuf_type type = MFS_TUF_ROOT;
	enum mfs_code code;
	size_t len;

	*valid = *threshold = 0;
	if ((code = delegator_type(delegator, &type, err)) != MFS_OK ||
		(code = mfs_tuf_doc_parse("delegator", type, delegator, &by, err)) != MFS_OK)
		return code;
	if ((code = signers_of(by, role, &s, &type, err)) != MFS_OK ||
		(code = mfs_tuf_doc_parse("metadata", type, metadata, &d, err)) != MFS_OK ||
		(code = mfs_tuf_encode(d->body, &body, &len, err)) != MFS_OK)
		return code;
	*threshold = s.threshold;
	return mfs_tuf_signers_count(&s, json_object_get(d->json, "signatures"), MFS_SPAN(body, len), valid, err);
}
