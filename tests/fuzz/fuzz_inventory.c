/* SPDX-License-Identifier: Apache-2.0 */
/* A line of an inventory, against another reader of JSON: they agree on what JSON is, and on the id. */
#include <jansson.h>

#include "inventory.h"
#include "jsonline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
copy(const uint8_t *data, size_t size)
{
	char *p = malloc(size > 0 ? size : 1); /* exact, for the sanitizers */

	if (p == NULL)
		abort();
	if (size > 0)
		memcpy(p, data, size);
	return p;
}

/* jansson refuses numbers beyond its types and goes much deeper; both are no matter of what JSON is. */
static bool
only_limits(const json_error_t *e)
{
	return json_error_code(e) == json_error_numeric_overflow || json_error_code(e) == json_error_stack_overflow;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mfs_inventory_device d;
	char *line = copy(data, size), *again = copy(data, size);
	struct mfs_jsonline j;
	json_error_t e;
	json_t *v = json_loadb((const char *)data, size, JSON_DECODE_ANY, &e);
	bool ok;

	mfs_jsonline_init(&j, again, size);
	ok = mfs_jsonline_skip(&j) && mfs_jsonline_end(&j);
	if (ok != (j.bad == NULL) || (ok && v == NULL && !only_limits(&e)))
		abort();
	/* (To jansson a byte of zero behind a value is its end.) */
	if (!ok && v != NULL && strcmp(j.bad, "nested too deep") != 0 && memchr(data, 0, size) == NULL)
		abort();
	if (mfs_inventory_device(line, size, &d, NULL) == MFS_OK) {
		const char *id = json_string_value(json_object_get(v, "id"));

		if (!ok || (v != NULL && (id == NULL || strcmp(id, d.facts.id) != 0)))
			abort();
		for (size_t i = 0; i < d.facts.n_labels; i++)
			if (v != NULL && json_object_get(json_object_get(v, "labels"), d.labels[i].name) == NULL)
				abort();
	}
	json_decref(v);
	free(line);
	free(again);
	return 0;
}
