/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"

#define CONNECT_TIMEOUT_S 20L
#define STALL_TIMEOUT_S   30L /* below 1 byte a second for so long: given up */

struct mfs_source {
	char *where; /* without '/' at its end */
	int fd;      /* of a folder, else -1 */
	CURL *curl;
};

struct body {
	uint8_t *p;
	size_t len, room, cap;
	bool too_long;
};

enum mfs_code
mfs_source_open(const char *where, struct mfs_source **out, struct mfs_err *err)
{
	const bool url = strncmp(where, "http://", 7) == 0 || strncmp(where, "https://", 8) == 0;
	const char *path = strncmp(where, "file://", 7) == 0 ? where + 7 : where;
	MFS_CLEANUP(mfs_cleanup_source) struct mfs_source *s = calloc(1, sizeof(*s));

	*out = NULL;
	if (s == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(where));
	s->fd = -1;
	if ((s->where = strdup(path)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(where));
	for (size_t n = strlen(s->where); n > 1 && s->where[n - 1] == '/'; n--)
		s->where[n - 1] = '\0';
	if (!url && strstr(path, "://") != NULL)
		return mfs_fail(err, MFS_CONFIG_INVALID, "%s: want a folder, or a file, http or https URL", MFS_ESC(where));
	if (!url && (s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return mfs_fail_sys(err, MFS_IO, "%s", MFS_ESC(where));
	if (url && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (s->curl = curl_easy_init()) == NULL))
		return mfs_fail(err, MFS_INTERNAL, "libcurl does not start");
	*out = mfs_steal(&s);
	return MFS_OK;
}

void
mfs_source_free(struct mfs_source *s)
{
	if (s == NULL)
		return;
	curl_easy_cleanup(s->curl);
	mfs_cleanup_close(&s->fd);
	free(s->where);
	free(s);
}

int
mfs_source_dir(const struct mfs_source *s)
{
	return s->fd;
}

static size_t
body_add(char *p, size_t size, size_t n, void *arg)
{
	struct body *b = arg;

	n *= size;
	if (n > b->cap - b->len) {
		b->too_long = true;
		return 0;
	}
	if (n >= b->room - b->len) {
		size_t room = b->room * 2 > b->len + n + 1 ? b->room * 2 : b->len + n + 1;
		uint8_t *q = realloc(b->p, room);

		if (q == NULL)
			return 0;
		b->p = q;
		b->room = room;
	}
	memcpy(b->p + b->len, p, n);
	b->len += n;
	return n;
}

static enum mfs_code
curl_outcome(CURLcode rc)
{
	switch (rc) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return MFS_NET_RESOLVE;
	case CURLE_OPERATION_TIMEDOUT:
		return MFS_NET_TIMEOUT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
		return MFS_NET_TLS;
	default:
		return MFS_NET_HTTP;
	}
}

/* "Content-Range: bytes 0-0/3000002": the length of the whole. */
static size_t
total_take(char *line, size_t size, size_t n, void *arg)
{
	static const char name[] = "content-range:";
	const size_t len = size * n;
	const char *slash = memchr(line, '/', len);
	curl_off_t *total = arg, value = 0;

	if (len < sizeof(name) || strncasecmp(line, name, sizeof(name) - 1) != 0 || slash == NULL)
		return len;
	if (slash + 1 == line + len || slash[1] < '0' || slash[1] > '9')
		return len; /* "0-0/" and an asterisk: it does not know */
	for (slash++; slash < line + len && *slash >= '0' && *slash <= '9' && value < INT64_MAX / 16; slash++)
		value = value * 10 + (*slash - '0');
	*total = value;
	return len;
}

/* One request; *status is the answer's. b NULL: HEAD. range: of its first byte alone, and *length is that of the whole. */
static enum mfs_code
request(struct mfs_source *s, const char *path, struct body *b, bool range, long *status, curl_off_t *length,
	struct mfs_err *err)
{
	curl_off_t total = -1;
	mfs_autofree char *url = NULL;
	CURLcode rc;

	*status = 0;
	if (asprintf(&url, "%s/%s", s->where, path) < 0) {
		url = NULL;
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	}
	curl_easy_reset(s->curl); /* keeps the connection */
	if (curl_easy_setopt(s->curl, CURLOPT_URL, url) != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S) != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_LIMIT, 1L) != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_LOW_SPEED_TIME, STALL_TIMEOUT_S) != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_USERAGENT, "modelpub/" PACKAGE_VERSION) != CURLE_OK ||
		curl_easy_setopt(s->curl, CURLOPT_NOBODY, b == NULL ? 1L : 0L) != CURLE_OK)
		return mfs_fail(err, MFS_INTERNAL, "libcurl lacks an option");
	if (b != NULL) {
		(void)curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, body_add);
		(void)curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, b);
	}
	if (range) {
		(void)curl_easy_setopt(s->curl, CURLOPT_RANGE, "0-0");
		(void)curl_easy_setopt(s->curl, CURLOPT_HEADERFUNCTION, total_take);
		(void)curl_easy_setopt(s->curl, CURLOPT_HEADERDATA, &total);
	}
	rc = curl_easy_perform(s->curl);
	(void)curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, status);
	(void)curl_easy_getinfo(s->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, length);
	if (range && *status == 206) {
		*status = 200;
		*length = total;
	}
	if (range && *status == 200 && b->too_long) /* no ranges there: the head said how much it is */
		return MFS_OK;
	if (b != NULL && b->too_long)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%s: more than %zu bytes", MFS_ESC(url), b->cap);
	if (rc != CURLE_OK)
		return mfs_fail(err, curl_outcome(rc), "%s: %s", MFS_ESC(url), curl_easy_strerror(rc));
	if (*status != 200 && *status != 404 && *status != 403 && *status != 410 &&
		(b != NULL || (*status != 405 && *status != 501)))
		return mfs_fail(err, MFS_NET_HTTP, "%s: status %ld", MFS_ESC(url), *status);
	return MFS_OK;
}

enum mfs_code
mfs_source_get(struct mfs_source *s, const char *path, size_t cap, uint8_t **out, size_t *len, bool *found,
	struct mfs_err *err)
{
	struct body b = { .cap = cap };
	enum mfs_code code;
	curl_off_t length;
	long status;

	*out = NULL;
	*len = 0;
	*found = false;
	if (s->curl == NULL) {
		code = mfs_file_read(s->fd, path, cap, out, len, err);
		*found = code == MFS_OK;
		if (code == MFS_IO && err != NULL && err->sys_errno == ENOENT)
			return MFS_OK;
		return code == MFS_OK ? MFS_OK : mfs_err_context(err, "%s/", MFS_ESC(s->where));
	}
	if ((b.p = malloc(4096)) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", MFS_ESC(path));
	b.room = 4096;
	if ((code = request(s, path, &b, false, &status, &length, err)) != MFS_OK || status != 200) {
		free(b.p);
		return code;
	}
	b.p[b.len] = 0;
	*out = b.p;
	*len = b.len;
	*found = true;
	return MFS_OK;
}

enum mfs_code
mfs_source_length(struct mfs_source *s, const char *path, int64_t *length, struct mfs_err *err)
{
	curl_off_t n = -1;
	enum mfs_code code;
	struct stat st;
	long status;

	*length = -1;
	if (s->curl == NULL) {
		if (fstatat(s->fd, path, &st, 0) == 0)
			*length = S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
		else if (errno != ENOENT && errno != ENOTDIR)
			return mfs_fail_sys(err, MFS_IO, "%s/%s", MFS_ESC(s->where), MFS_ESC(path));
		return MFS_OK;
	}
	if ((code = request(s, path, NULL, false, &status, &n, err)) == MFS_OK && status != 200 && status != 404) {
		uint8_t byte[2];
		struct body b = { .p = byte, .room = sizeof(byte), .cap = 1 };

		/* Who may read a file may not always ask for its head: devices do not. */
		n = -1;
		code = request(s, path, &b, true, &status, &n, err);
	}
	if (code != MFS_OK || status != 200)
		return code;
	if (n < 0)
		return mfs_fail(err, MFS_NET_HTTP, "%s/%s: the server does not say its length", MFS_ESC(s->where), MFS_ESC(path));
	*length = (int64_t)n;
	return MFS_OK;
}
