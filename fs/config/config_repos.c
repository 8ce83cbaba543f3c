/* SPDX-License-Identifier: Apache-2.0 */
/* config_repos.c - `repository`, `repositories` and `telemetry` of modelfs.yaml(5): origins of the network. */
#include <stdio.h>

#include "config_walk.h"

#define AT(type, member) offsetof(struct type, member)

#define URL_MAX 2048u

/* ---- URLs ----------------------------------------------------------------------------------------- */

const char *
mfs_config_url_wrong(const char *url, const char *const *schemes)
{
	const char *rest = NULL, *host_end;
	size_t len = strlen(url);
	bool file;

	if (len > URL_MAX)
		return "longer than 2048 bytes";
	for (size_t i = 0; i < len; i++)
		if (url[i] <= ' ' || url[i] > '~' || strchr("\"<>\\^`|", url[i]) != NULL)
			return "holds a character that a URL has to write as %XX";
	for (size_t i = 0; schemes[i] != NULL && rest == NULL; i++)
		if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
			rest = url + strlen(schemes[i]);
	if (rest == NULL)
		return "";
	if (strpbrk(rest, "?#") != NULL)
		return "must be without '?' and '#'";
	host_end = rest + strcspn(rest, "/");
	if (memchr(rest, '@', (size_t)(host_end - rest)) != NULL)
		return "must hold no user and password";
	file = strncmp(url, "file://", 7) == 0;
	if (file ? host_end != rest || rest[0] == '\0' : host_end == rest)
		return file ? "must be file:///FOLDER" : "names no host";
	if (strstr(rest, "/../") != NULL || (len >= 3 && strcmp(url + len - 3, "/..") == 0))
		return "must hold no '..'";
	return NULL;
}

static const char *const origin_schemes[] = { "https://", "file://", "http://", NULL };

static enum mfs_code
check_url(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const char *const *schemes)
{
	enum mfs_code code = mfs_read_text(w, y, key, NULL, NULL);
	char list[96]; /* all of the longest table */
	const char *wrong;
	size_t n = 0;

	if (code != MFS_OK)
		return code;
	if ((wrong = mfs_config_url_wrong(y->text, schemes)) == NULL)
		return MFS_OK;
	if (wrong[0] != '\0')
		return mfs_yaml_fail(y, key, w->err, "%s%s", wrong, /* telemetry and proxies have no token */
			schemes == origin_schemes && strstr(wrong, "password") != NULL ? "; use auth: {token_file: PATH}" : "");
	for (size_t i = 0; schemes[i] != NULL; i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i == 0 ? "" : schemes[i + 1] != NULL ? ", " : " or ", schemes[i]);
	return mfs_yaml_fail(y, key, w->err, "must start with %s", list);
}

/* Without trailing slashes, so that "/metadata/..." can follow. */
static enum mfs_code
keep_url(struct mfs_walk *w, const struct mfs_yaml *y, char **out)
{
	size_t n = strlen(y->text);

	while (n > 0 && y->text[n - 1] == '/')
		n--;
	free(*out);
	if ((*out = strndup(y->text, n)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	return MFS_OK;
}

static enum mfs_code
check_braces(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, bool template)
{
	bool hash = false, part = false;

	for (const char *p = y->text; *p != '\0'; p++) {
		if (*p != '{' && *p != '}')
			continue;
		if (template && strncmp(p, "{hash}", 6) == 0) {
			hash = true;
			p += 5;
		} else if (template && strncmp(p, "{part}", 6) == 0) {
			part = true;
			p += 5;
		} else {
			return mfs_yaml_fail(y, key, w->err, template ? "only {hash} and {part} are filled in" :
				"must hold no braces");
		}
	}
	if (part && !hash)
		return mfs_yaml_fail(y, key, w->err, "has {part} but no {hash}");
	return MFS_OK;
}

static const char *const web_schemes[] = { "https://", "http://", NULL };
static const char *const proxy_schemes[] = { "http://", "https://", "socks5h://", "socks5://", NULL };

static enum mfs_code
read_url(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code;

	if ((code = check_url(w, y, key, f->arg)) != MFS_OK || (code = check_braces(w, y, key, false)) != MFS_OK)
		return code;
	return keep_url(w, y, dst);
}

static enum mfs_code
read_pin(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	enum mfs_code code = mfs_read_text(w, y, key, f, NULL);
	const char *p = y->text;

	if (code != MFS_OK)
		return code;
	for (;;) {
		if (strncmp(p, "sha256//", 8) != 0 || strspn(p + 8, base64) != 43 || p[51] != '=' ||
			(p[52] != '\0' && p[52] != ';'))
			return mfs_yaml_fail(y, key, w->err,
				"must be \"sha256//\" and the base64 of the SHA-256 of the server's public key; several with ';' between");
		if (p[52] == '\0')
			return mfs_read_text(w, y, key, f, dst);
		p += 53;
	}
}

/* ---- one repository -------------------------------------------------------------------------------- */

static const struct mfs_field auth_fields[] = {
	{ "token_file", mfs_read_path, AT(mfs_config_origin, token_file), NULL },
	{ NULL, NULL, 0, NULL },
};

static const struct mfs_field tls_fields[] = {
	{ "ca", mfs_read_path, AT(mfs_config_origin, tls_ca), NULL },
	{ "cert", mfs_read_path, AT(mfs_config_origin, tls_cert), NULL },
	{ "key", mfs_read_path, AT(mfs_config_origin, tls_key), NULL },
	{ "pin", read_pin, AT(mfs_config_origin, tls_pin), NULL },
	{ NULL, NULL, 0, NULL },
};

static enum mfs_code
read_mirror_url(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code;

	(void)f;
	if ((code = check_url(w, y, key, origin_schemes)) != MFS_OK || (code = check_braces(w, y, key, true)) != MFS_OK)
		return code;
	return keep_url(w, y, dst);
}

static const struct mfs_field mirror_fields[] = {
	{ "url", read_mirror_url, AT(mfs_config_mirror, url), NULL },
	{ "only", mfs_read_bool, AT(mfs_config_mirror, only), NULL },
	{ NULL, NULL, 0, NULL },
};

static enum mfs_code
read_mirrors(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	struct mfs_config_repository *r = dst;

	if (y->kind != MFS_YAML_SEQUENCE || y->n == 0 || y->n > MFS_MIRRORS_MAX)
		return mfs_yaml_fail(y, key, w->err, "must be a list of 1 to %u URLs", MFS_MIRRORS_MAX);
	if ((r->mirrors = calloc(y->n, sizeof(*r->mirrors))) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	for (size_t i = 0; i < y->n; i++) {
		struct mfs_config_mirror *m = &r->mirrors[r->n_mirrors++];
		const struct mfs_yaml *e = y->kids[i];
		char buf[MFS_KEY_MAX], index[24];
		enum mfs_code code;

		(void)snprintf(index, sizeof(index), "%zu", i + 1);
		(void)mfs_walk_key(buf, key, index);
		code = e->kind == MFS_YAML_MAPPING ? mfs_walk_mapping(w, e, buf, mirror_fields, m) :
			read_mirror_url(w, e, buf, f, &m->url);
		if (code == MFS_OK && m->url == NULL)
			code = mfs_yaml_fail(e, buf, w->err, "has no 'url'");
		if (code != MFS_OK)
			return code;
	}
	return MFS_OK;
}

static const struct mfs_field repository_fields[] = {
	{ "url", read_url, AT(mfs_config_repository, origin.url), origin_schemes },
	{ "root", mfs_read_path, AT(mfs_config_repository, root), NULL },
	{ "mirrors", read_mirrors, 0, NULL },
	{ "auth", mfs_read_mapping, AT(mfs_config_repository, origin), auth_fields },
	{ "tls", mfs_read_mapping, AT(mfs_config_repository, origin), tls_fields },
	{ "proxy", read_url, AT(mfs_config_repository, origin.proxy), proxy_schemes },
	{ NULL, NULL, 0, NULL },
};

static enum mfs_code
check_origin(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_config_origin *o)
{
	bool https = strncmp(o->url, "https://", 8) == 0;

	if ((o->tls_cert == NULL) != (o->tls_key == NULL))
		return mfs_yaml_fail(y, key, w->err, "tls.cert and tls.key come together");
	if (!https && (o->tls_ca != NULL || o->tls_cert != NULL || o->tls_pin != NULL))
		return mfs_yaml_fail(y, key, w->err, "tls needs a URL of https");
	if (!https && o->token_file != NULL)
		return mfs_yaml_fail(y, key, w->err, "auth needs a URL of https: a token must not travel in the clear");
	if (strncmp(o->url, "file://", 7) == 0 && o->proxy != NULL)
		return mfs_yaml_fail(y, key, w->err, "a folder has no proxy; remove it");
	return MFS_OK;
}

static struct mfs_config_repository *
add_repository(struct mfs_walk *w, const char *name)
{
	struct mfs_config *c = w->c;
	struct mfs_config_repository *grown = reallocarray(c->repos, c->n_repos + 1, sizeof(*grown));

	if (grown == NULL)
		return NULL;
	c->repos = grown;
	grown[c->n_repos] = (struct mfs_config_repository){ .name = strdup(name) };
	return grown[c->n_repos].name != NULL ? &grown[c->n_repos++] : NULL;
}

enum mfs_code
mfs_read_repository(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	const struct mfs_field url = { "url", read_url, 0, origin_schemes };
	struct mfs_config_repository *r;

	(void)f;
	(void)dst;
	if (mfs_config_find_repo(w->c, "default") >= 0)
		return mfs_yaml_fail(y, key, w->err, "also given as repositories.default; remove one");
	if ((r = add_repository(w, "default")) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	return read_url(w, y, key, &url, &r->origin.url);
}

enum mfs_code
mfs_read_repositories(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	(void)f;
	(void)dst;
	if (y->kind != MFS_YAML_MAPPING || y->n / 2 > MFS_REPOSITORIES_MAX)
		return mfs_yaml_fail(y, key, w->err, "must be a mapping of at most %u names, such as {default: {url: ...}}",
			MFS_REPOSITORIES_MAX);
	for (size_t i = 0; i + 1 < y->n; i += 2) {
		const struct mfs_yaml *name = y->kids[i];
		struct mfs_config_repository *r;
		char buf[MFS_KEY_MAX];
		enum mfs_code code;

		(void)mfs_walk_key(buf, key, name->text);
		if (!mfs_model_id_ok(name->text, strlen(name->text)) || strlen(name->text) > 64)
			return mfs_yaml_fail(name, buf, w->err, "not a name ([A-Za-z0-9][A-Za-z0-9._-]*, at most 64 bytes)");
		if (mfs_config_find_repo(w->c, name->text) >= 0)
			return mfs_yaml_fail(name, buf, w->err, "also given as 'repository'; remove one");
		if ((r = add_repository(w, name->text)) == NULL)
			return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
		if ((code = mfs_walk_mapping(w, y->kids[i + 1], buf, repository_fields, r)) != MFS_OK)
			return code;
		if (r->origin.url == NULL)
			return mfs_yaml_fail(y->kids[i + 1], buf, w->err, "has no 'url'");
		if ((code = check_origin(w, y->kids[i + 1], buf, &r->origin)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

/* ---- telemetry -------------------------------------------------------------------------------------- */

static const struct mfs_field telemetry_tls_fields[] = {
	{ "ca", mfs_read_path, AT(mfs_config_origin, tls_ca), NULL },
	{ "pin", read_pin, AT(mfs_config_origin, tls_pin), NULL },
	{ NULL, NULL, 0, NULL },
};

static const struct mfs_field telemetry_fields[] = {
	{ "url", read_url, AT(mfs_config, telemetry.url), web_schemes },
	{ "sample", mfs_read_fraction, AT(mfs_config, telemetry_sample), NULL },
	{ "tls", mfs_read_mapping, AT(mfs_config, telemetry), telemetry_tls_fields },
	{ "proxy", read_url, AT(mfs_config, telemetry.proxy), proxy_schemes },
	{ NULL, NULL, 0, NULL },
};

enum mfs_code
mfs_read_telemetry(struct mfs_walk *w, const struct mfs_yaml *y, const char *key, const struct mfs_field *f, void *dst)
{
	enum mfs_code code;

	(void)f;
	if ((code = mfs_walk_mapping(w, y, key, telemetry_fields, dst)) != MFS_OK)
		return code;
	if (w->c->telemetry.url == NULL)
		return mfs_yaml_fail(y, key, w->err, "has no 'url'");
	return check_origin(w, y, key, &w->c->telemetry);
}

/* ---- across keys -------------------------------------------------------------------------------------- */

static int
compare_repositories(const void *a, const void *b)
{
	return strcmp(((const struct mfs_config_repository *)a)->name, ((const struct mfs_config_repository *)b)->name);
}

static enum mfs_code
set_text(struct mfs_walk *w, char **field, const char *value)
{
	if (*field == NULL && value != NULL && (*field = strdup(value)) == NULL)
		return mfs_fail(w->err, MFS_NO_MEMORY, "configuration: no memory");
	return MFS_OK;
}

static enum mfs_code
join_model(struct mfs_walk *w, const struct mfs_yaml *models, struct mfs_config_model *m)
{
	const struct mfs_yaml *y = models;
	struct mfs_config *c = w->c;
	char buf[MFS_KEY_MAX];
	enum mfs_code code;

	for (size_t i = 0; i + 1 < models->n; i += 2)
		if (strcmp(models->kids[i]->text, m->id) == 0)
			y = models->kids[i + 1];
	(void)mfs_walk_key(buf, "models", m->id);
	if ((code = set_text(w, &m->channel, c->device_channel)) != MFS_OK)
		return code;
	m->repo = mfs_config_find_repo(c, m->repository != NULL ? m->repository : "default");
	if (m->repo < 0 && m->repository != NULL)
		return mfs_yaml_fail(y, buf, w->err, "repository '%s' is not in 'repositories'", MFS_ESC(m->repository));
	if (m->repo < 0 && c->n_repos == 1)
		m->repo = 0;
	if (m->repo < 0 && c->n_repos > 1)
		return mfs_yaml_fail(y, buf, w->err, "has no 'repository', and none of the %zu is called default", c->n_repos);
	return MFS_OK;
}

enum mfs_code
mfs_config_join_repositories(struct mfs_walk *w, const struct mfs_yaml *repositories, const struct mfs_yaml *models)
{
	struct mfs_config *c = w->c;
	enum mfs_code code;

	if (c->n_repos > 1)
		qsort(c->repos, c->n_repos, sizeof(*c->repos), compare_repositories);
	for (size_t i = 0; i < c->n_repos; i++) {
		if ((code = set_text(w, &c->repos[i].root, c->trust_root)) != MFS_OK)
			return code;
		if (c->repos[i].root == NULL)
			return mfs_yaml_fail(repositories, "trust.root", w->err,
				"is missing: without its root.json nothing of repository '%s' can be trusted", c->repos[i].name);
	}
	for (size_t i = 0; i < c->n_models; i++)
		if ((code = join_model(w, models, &c->models[i])) != MFS_OK)
			return code;
	return MFS_OK;
}

ssize_t
mfs_config_find_repo(const struct mfs_config *c, const char *name)
{
	for (size_t i = 0; i < c->n_repos; i++)
		if (strcmp(c->repos[i].name, name) == 0)
			return (ssize_t)i;
	return -1;
}

static void
free_origin(struct mfs_config_origin *o)
{
	free(o->url);
	free(o->token_file);
	free(o->tls_ca);
	free(o->tls_cert);
	free(o->tls_key);
	free(o->tls_pin);
	free(o->proxy);
}

void
mfs_config_free_repositories(struct mfs_config *c)
{
	for (size_t i = 0; i < c->n_repos; i++) {
		struct mfs_config_repository *r = &c->repos[i];

		free(r->name);
		free_origin(&r->origin);
		free(r->root);
		for (size_t j = 0; j < r->n_mirrors; j++)
			free(r->mirrors[j].url);
		free(r->mirrors);
	}
	free(c->repos);
	free_origin(&c->telemetry);
	free(c->trust_root);
	free(c->device_channel);
	for (size_t i = 0; c->update.conditions.interfaces != NULL && c->update.conditions.interfaces[i] != NULL; i++)
		free(c->update.conditions.interfaces[i]);
	free(c->update.conditions.interfaces);
	free(c->update.conditions.hold_file);
}
