/* SPDX-License-Identifier: Apache-2.0 */
/* origin.c - what may be reached, and with what. Credentials belong to their origin and go nowhere else. */
#include "fetcher.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "span.h"

#define PEM_MAX   (4u << 20)
#define TOKEN_MAX 8192u

/* ---- the document and its files ---------------------------------------------------------------- */

static enum mfs_code
blob_read(int fd, const char *what, struct curl_blob *b, struct mfs_err *err)
{
	uint8_t *p;
	size_t n;

	if (fd < 0)
		return MFS_OK;
	if (mfs_fd_read(fd, what, PEM_MAX, &p, &n, err) != MFS_OK)
		return err->code;
	*b = (struct curl_blob){ .data = p, .len = n, .flags = CURL_BLOB_NOCOPY };
	(void)close(fd);
	return MFS_OK;
}

static enum mfs_code
token_read(int fd, char **out, struct mfs_err *err)
{
	mfs_autofree uint8_t *p = NULL;
	size_t n, from = 0;
	char *line;

	if (fd < 0)
		return MFS_OK;
	if (mfs_fd_read(fd, "token file", TOKEN_MAX, &p, &n, err) != MFS_OK)
		return err->code;
	(void)close(fd);
	while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
		n--;
	while (from < n && p[from] == ' ')
		from++;
	for (size_t i = from; i < n; i++)
		if (p[i] <= 0x20 || p[i] > 0x7e)
			return mfs_fail(err, MFS_CONFIG_INVALID, "token file: not one line of printable ASCII");
	if (from == n)
		return mfs_fail(err, MFS_CONFIG_INVALID, "token file: empty");
	if (asprintf(&line, "Authorization: Bearer %.*s", (int)(n - from), (const char *)p + from) < 0)
		return mfs_fail(err, MFS_NO_MEMORY, "token");
	explicit_bzero(p, n);
	*out = line;
	return MFS_OK;
}

/* "scheme://host:port" of a URL, or NULL. */
static char *
base_of(const char *url)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL, *base = NULL;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_NO_USER) {
		if (asprintf(&base, "%s://%s:%s", scheme, host, port) < 0)
			base = NULL;
		for (char *c = base; c != NULL && *c != '\0'; c++)
			if (*c >= 'A' && *c <= 'Z')
				*c = (char)(*c + 'a' - 'A');
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(user);
	curl_url_cleanup(u);
	return base;
}

/* A template is no URL: braces away first. */
static char *
base_of_template(const char *url)
{
	mfs_autofree char *plain = strdup(url);

	for (char *c = plain; c != NULL && *c != '\0'; c++)
		if (*c == '{' || *c == '}')
			*c = '_';
	return plain != NULL ? base_of(plain) : NULL;
}

static enum mfs_code
origin_load(struct origin *o, const struct mfs_wire_origin *w, struct mfs_err *err)
{
	o->w = w;
	o->file = strncmp(w->url, "file:///", 8) == 0;
	if (o->file) {
		o->base = strdup("file");
		return o->base != NULL ? MFS_OK : mfs_fail(err, MFS_NO_MEMORY, "origin");
	}
	o->base = base_of_template(w->url);
	if (o->base == NULL || (strncmp(o->base, "http://", 7) != 0 && strncmp(o->base, "https://", 8) != 0))
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: not an http, https or file URL without a user", MFS_ESC(w->url));
	if (w->token_fd >= 0 && strncmp(o->base, "https://", 8) != 0)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: a token goes over https only", MFS_ESC(w->url));
	if (blob_read(w->ca_fd, "CA file", &o->ca, err) != MFS_OK ||
		blob_read(w->cert_fd, "client certificate", &o->cert, err) != MFS_OK ||
		blob_read(w->key_fd, "client key", &o->key, err) != MFS_OK || token_read(w->token_fd, &o->token, err) != MFS_OK)
		return err->code;
	return MFS_OK;
}

enum mfs_code
origins_load(struct origins *o, struct mfs_err *err)
{
	struct stat st;
	void *p;

	if (fstat(MFS_WIRE_FD_ORIGINS, &st) != 0 || st.st_size <= 0)
		return mfs_fail_sys(err, MFS_IO, "origins");
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, MFS_WIRE_FD_ORIGINS, 0);
	if (p == MAP_FAILED)
		return mfs_fail_sys(err, MFS_IO, "origins");
	if (mfs_wire_origins_check(p, (size_t)st.st_size, err) != MFS_OK)
		return err->code;
	o->doc = p;
	o->list = calloc(o->doc->n + 1, sizeof(*o->list));
	if (o->list == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "origins");
	for (uint32_t i = 0; i < o->doc->n; i++)
		if (origin_load(&o->list[i], &o->doc->origin[i], err) != MFS_OK)
			return err->code;
	return MFS_OK;
}

struct origin *
origin_find(const struct origins *o, uint32_t repo, int32_t mirror)
{
	for (uint32_t i = 0; i < o->doc->n; i++)
		if (o->list[i].w->repo == repo && o->list[i].w->mirror == mirror)
			return &o->list[i];
	return NULL;
}

/* ---- URLs --------------------------------------------------------------------------------------- */

/* The path of a request in the layout of a repository; false: too long. */
static bool
path_of(const struct mfs_wire_get *g, const char *hash, char *out, size_t cap)
{
	int n;

	switch (g->kind) {
	case MFS_WIRE_METADATA:
		n = snprintf(out, cap, "metadata/%s", g->path);
		break;
	case MFS_WIRE_TARGET:
		n = snprintf(out, cap, "targets/%s", g->path);
		break;
	case MFS_WIRE_GRANT:
		n = snprintf(out, cap, "grants/%s", g->path);
		break;
	default:
		n = snprintf(out, cap, "blobs/sha256/%.2s/%s/%05u", hash, hash, g->part);
		break;
	}
	return n > 0 && (size_t)n < cap;
}

/* Decode %XX in place: what mfs_wire_path_ok let through, below a folder of file://. */
static void
percent_decode(char *s)
{
	char *to = s;

	for (; *s != '\0'; s++) {
		unsigned v;

		if (s[0] == '%' && sscanf(s + 1, "%2x", &v) == 1) {
			*to++ = (char)v;
			s += 2;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* Replace {hash}, {part} and {path}. malloc'd, or NULL. */
static char *
template_fill(const char *t, const char *hash, const char *part, const char *path)
{
	const struct {
		const char *name, *value;
	} fields[] = { { "{hash}", hash }, { "{part}", part }, { "{path}", path } };
	char *out = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	if (f == NULL)
		return NULL;
	while (*t != '\0') {
		size_t i = 0;

		while (i < 3 && strncmp(t, fields[i].name, 6) != 0)
			i++;
		if (i < 3) {
			(void)fputs(fields[i].value, f);
			t += 6;
		} else {
			(void)fputc(*t++, f);
		}
	}
	if (fclose(f) != 0) {
		free(out);
		return NULL;
	}
	return out;
}

char *
origin_url(const struct origin *o, const struct mfs_wire_get *g)
{
	char hash[2 * sizeof(g->hash) + 1], part[16], path[MFS_WIRE_PATH + 32];
	const bool template = strstr(o->w->url, "{hash}") != NULL || strstr(o->w->url, "{path}") != NULL;
	const char *base = o->w->url;
	size_t len;
	char *url = NULL;

	mfs_hex_encode(hash, g->hash, sizeof(g->hash));
	(void)snprintf(part, sizeof(part), "%05u", g->part);
	if (!path_of(g, hash, path, sizeof(path)) || (template && g->kind != MFS_WIRE_BLOB))
		return NULL;
	if (o->file)
		base += mfs_wire_file_base(o->w->url);
	len = strlen(base);
	while (len > 0 && base[len - 1] == '/')
		len--;
	if (template)
		url = template_fill(base, hash, part, path);
	else if (o->file)
		url = strdup(path);
	else if (asprintf(&url, "%.*s/%s", (int)len, base, path) < 0)
		url = NULL;
	if (url != NULL && o->file)
		percent_decode(url);
	return url;
}

struct origin *
origin_redirect(const struct origins *o, const struct origin *from, const char *url, enum mfs_code *code)
{
	mfs_autofree char *base = base_of(url);
	struct origin *to = NULL;

	*code = MFS_NET_PROTOCOL;
	if (base == NULL)
		return NULL;
	if (strncmp(from->base, "https://", 8) == 0 && strncmp(base, "https://", 8) != 0)
		return NULL;
	*code = MFS_NET_PORTAL;
	for (uint32_t i = 0; i < o->doc->n; i++)
		if (o->list[i].w->repo == from->w->repo && strcmp(o->list[i].base, base) == 0 &&
			(to == NULL || &o->list[i] == from))
			to = &o->list[i];
	return to;
}
