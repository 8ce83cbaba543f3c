/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What serve and fetch say to each other, and what keeper tells fetch. Input: u8 (0: a frame from
 * serve, 1: from fetch, 2: origins, 3: a path), then the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
text_check(const char *s, size_t cap)
{
	if (memchr(s, '\0', cap) == NULL)
		abort();
	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s > 0x7e)
			abort();
}

/* What users of an accepted frame rely on. */
static void
frame_check(const union mfs_wire *m, size_t n)
{
	if (m->head.size != n || m->head.version != MFS_WIRE_VERSION)
		abort();
	switch (m->head.type) {
	case MFS_W_GET:
		text_check(m->get.etag, sizeof(m->get.etag));
		text_check(m->get.path, sizeof(m->get.path));
		if (m->get.cap == 0 || m->get.length > m->get.cap || m->get.from + m->get.length < m->get.from ||
			(m->get.kind != MFS_WIRE_BLOB && !mfs_wire_path_ok(m->get.path)))
			abort();
		break;
	case MFS_W_HEADERS:
		text_check(m->headers.etag, sizeof(m->headers.etag));
		if (m->headers.http == 206 && m->headers.from + m->headers.length > m->headers.total)
			abort();
		break;
	case MFS_W_DONE:
		text_check(m->done.text, sizeof(m->done.text));
		break;
	case MFS_W_FACTS:
		if (m->facts.n_nets > MFS_WIRE_NETS)
			abort();
		for (uint32_t i = 0; i < m->facts.n_nets; i++)
			text_check(m->facts.nets[i], sizeof(m->facts.nets[i]));
		break;
	default:
		break;
	}
}

/* A path that is fine leads nowhere up, decoded too. */
static void
path_check(const uint8_t *data, size_t size)
{
	char *path = strndup((const char *)data, size);

	if (path == NULL)
		return;
	if (mfs_wire_path_ok(path) && (path[0] == '/' || path[0] == '\0' || strstr(path, "//") != NULL ||
			strncmp(path, "../", 3) == 0 || strstr(path, "/../") != NULL || strchr(path, '?') != NULL ||
			strchr(path, '#') != NULL || strstr(path, "%00") != NULL || strstr(path, "%2f") != NULL ||
			strstr(path, "%2F") != NULL))
		abort();
	free(path);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	union mfs_wire m;
	void *copy;

	if (size == 0)
		return 0;
	switch (data[0] % 4) {
	case 2: /* aligned, and exactly as long: a byte too far is seen */
		copy = malloc(size);
		if (copy == NULL)
			return 0;
		memcpy(copy, data + 1, size - 1);
		(void)mfs_wire_origins_check(copy, size - 1, NULL);
		free(copy);
		break;
	case 3:
		path_check(data + 1, size - 1);
		break;
	default:
		if (mfs_wire_parse(data + 1, size - 1, data[0] % 4 == 1, &m, NULL) == MFS_OK)
			frame_check(&m, size - 1);
		break;
	}
	return 0;
}
