/* SPDX-License-Identifier: Apache-2.0 */
#include "mfs_vectors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct mfs_vectors {
	json_t *root;
	json_t *list;     /* borrowed from root; NULL with a file */
	const char *file; /* borrowed from root; NULL with a list */
};

/* ---- the document --------------------------------------------------------------------------------- */

/* A decimal as a text, or an integer: JSON that is signed has no fractions. */
static bool
decimal(const json_t *v, double *out)
{
	const char *s = json_string_value(v), *p = s;

	if (json_is_integer(v)) {
		*out = (double)json_integer_value(v);
		return true;
	}
	if (s == NULL || strlen(s) > 64)
		return false;
	p += *p == '-';
	if (*p < '0' || *p > '9')
		return false;
	p += strspn(p, "0123456789");
	if (*p == '.') {
		size_t n = strspn(++p, "0123456789");

		if (n == 0)
			return false;
		p += n;
	}
	if (*p == 'e' || *p == 'E') {
		size_t n;

		p += p[1] == '+' || p[1] == '-' ? 2 : 1;
		if ((n = strspn(p, "0123456789")) == 0)
			return false;
		p += n;
	}
	if (*p != '\0')
		return false;
	*out = strtod(s, NULL);
	return *out - *out == 0; /* finite */
}

static bool
decimals_ok(const json_t *v)
{
	const json_t *item;
	double d;
	size_t i;

	if (!json_is_array(v))
		return decimal(v, &d);
	json_array_foreach(v, i, item) /* depth is bounded by the parser */
		if (!decimals_ok(item))
			return false;
	return true;
}

/* "equals": texts, integers, booleans, and lists of them. */
static bool
exact_ok(const json_t *v)
{
	const json_t *item;
	size_t i;

	if (!json_is_array(v))
		return json_is_string(v) || json_is_integer(v) || json_is_boolean(v);
	json_array_foreach(v, i, item)
		if (!exact_ok(item))
			return false;
	return true;
}

static enum mfs_code
bound_check(const char *at, const json_t *e, const char *key, bool signed_ok, struct mfs_err *err)
{
	const json_t *v = json_object_get(e, key);
	double d = 0;

	if (v == NULL || (decimal(v, &d) && (signed_ok || d >= 0)))
		return MFS_OK;
	return mfs_fail(err, MFS_MALFORMED, "%s.%s: want a %snumber, as a text when it is no integer, such as \"0.01\"", at, key,
		signed_ok ? "" : "positive ");
}

static enum mfs_code
expectation_check(const char *at, const json_t *e, struct mfs_err *err)
{
	bool value = json_object_get(e, "value") != NULL, equals = json_object_get(e, "equals") != NULL;
	bool range = json_object_get(e, "min") != NULL || json_object_get(e, "max") != NULL;
	enum mfs_code code;

	if (!json_is_object(e) || value + equals + range != 1)
		return mfs_fail(err, MFS_MALFORMED, "%s: want one of value, equals, or min and max", at);
	if (value && !decimals_ok(json_object_get(e, "value")))
		return mfs_fail(err, MFS_MALFORMED, "%s.value: want a number or a list of them, as texts when they are no integers", at);
	if (equals && !exact_ok(json_object_get(e, "equals")))
		return mfs_fail(err, MFS_MALFORMED, "%s.equals: want a text, an integer, true or false, or a list of them", at);
	if ((code = bound_check(at, e, "tolerance", false, err)) != MFS_OK ||
		(code = bound_check(at, e, "relative", false, err)) != MFS_OK ||
		(code = bound_check(at, e, "min", true, err)) != MFS_OK)
		return code;
	return bound_check(at, e, "max", true, err);
}

static enum mfs_code
vector_check(const char *what, const json_t *list, size_t i, struct mfs_err *err)
{
	const json_t *v = json_array_get(list, i), *e;
	json_t *outputs = json_object_get(v, "output");
	const char *name = json_string_value(json_object_get(v, "name")), *key;
	char at[400], out[80];

	(void)snprintf(at, sizeof(at), "%.200s: vectors[%zu]", what, i);
	if (name == NULL || name[0] == '\0' || strlen(name) > 128)
		return mfs_fail(err, MFS_MALFORMED, "%s.name: want a text of 1 to 128 bytes", at);
	for (size_t k = 0; k < i; k++)
		if (strcmp(json_string_value(json_object_get(json_array_get(list, k), "name")), name) == 0)
			return mfs_fail(err, MFS_MALFORMED, "%s.name: '%s' is the name of vectors[%zu] already", at, MFS_ESC(name), k);
	if (json_object_size(outputs) == 0)
		return mfs_fail(err, MFS_MALFORMED, "%s.output: want at least one named output", at);
	json_object_foreach(outputs, key, e) {
		enum mfs_code code;

		(void)snprintf(at, sizeof(at), "%.200s: vectors[%zu].output.%s", what, i, mfs_escape(out, sizeof(out), key, strlen(key)));
		if ((code = expectation_check(at, e, err)) != MFS_OK)
			return code;
	}
	return MFS_OK;
}

void
mfs_vectors_free(struct mfs_vectors *v)
{
	if (v == NULL)
		return;
	json_decref(v->root);
	free(v);
}

enum mfs_code
mfs_vectors_parse(const char *what, struct mfs_span in, struct mfs_vectors **out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_vectors) struct mfs_vectors *v = calloc(1, sizeof(*v));
	json_t *list, *file;
	enum mfs_code code;

	*out = NULL;
	if (v == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "%s", what);
	if ((code = mfs_json_parse(what, in, MFS_VECTORS_BYTES_MAX, &v->root, err)) != MFS_OK)
		return code;
	list = json_object_get(v->root, "vectors");
	file = json_object_get(v->root, "file");
	if ((list == NULL) == (file == NULL))
		return mfs_fail(err, MFS_MALFORMED, "%s: want either vectors or file", what);
	if (file != NULL && (!json_is_string(file) || !mfs_file_name_ok(json_string_value(file), json_string_length(file))))
		return mfs_fail(err, MFS_MALFORMED, "%s: file: not the name of a file of the bundle", what);
	if (list != NULL && (!json_is_array(list) || json_array_size(list) == 0 || json_array_size(list) > MFS_VECTORS_MAX))
		return mfs_fail(err, MFS_MALFORMED, "%s: vectors: want a list of 1 to %u", what, MFS_VECTORS_MAX);
	for (size_t i = 0; i < json_array_size(list); i++)
		if ((code = vector_check(what, list, i, err)) != MFS_OK)
			return code;
	v->list = list;
	v->file = json_string_value(file);
	*out = mfs_steal(&v);
	return MFS_OK;
}

const char *
mfs_vectors_file(const struct mfs_vectors *v)
{
	return v->file;
}

size_t
mfs_vectors_count(const struct mfs_vectors *v)
{
	return json_array_size(v->list);
}

/* ---- what was printed -------------------------------------------------------------------------------- */

/* jansson recurses: a line that nests deeper than we ever ask for is not given to it. */
static bool
shallow(struct mfs_span line)
{
	unsigned depth = 0;

	for (size_t i = 0; i < line.len; i++) { /* brackets within texts count too: that only refuses more */
		depth += line.p[i] == '[' || line.p[i] == '{';
		depth -= depth > 0 && (line.p[i] == ']' || line.p[i] == '}');
		if (depth > MFS_VECTORS_DEPTH)
			return false;
	}
	return true;
}

static json_t *
line_parse(struct mfs_span line)
{
	size_t at = 0;
	json_t *v;

	while (at < line.len && (line.p[at] == ' ' || line.p[at] == '\t'))
		at++;
	if (at == line.len || line.p[at] != '{' || !shallow(line))
		return NULL;
	v = json_loadb((const char *)line.p, line.len, JSON_REJECT_DUPLICATES, NULL);
	if (v == NULL || !json_is_string(json_object_get(v, "name")) || !json_is_object(json_object_get(v, "output"))) {
		json_decref(v);
		return NULL;
	}
	return v;
}

struct compare {
	const char *vector, *output;
	double tolerance, relative, min, max;
	bool has_min, has_max;
	struct mfs_err *err;
};

static enum mfs_code
differs(const struct compare *c, double found, const char *than, double wanted)
{
	return mfs_fail(c->err, MFS_HEALTH_CHECK_FAILED, "test vector '%s': output '%s': %.9g, expected %s%.9g",
		MFS_ESC(c->vector), MFS_ESC(c->output), found, than, wanted);
}

static enum mfs_code
shape_differs(const struct compare *c)
{
	return mfs_fail(c->err, MFS_HEALTH_CHECK_FAILED, "test vector '%s': output '%s' has another shape or type than expected",
		MFS_ESC(c->vector), MFS_ESC(c->output));
}

static enum mfs_code
compare_values(const struct compare *c, const json_t *want, const json_t *got)
{
	double w = 0, g, d, allowed;
	enum mfs_code code = MFS_OK;

	if (json_is_array(want)) {
		if (!json_is_array(got) || json_array_size(got) != json_array_size(want))
			return shape_differs(c);
		for (size_t i = 0; code == MFS_OK && i < json_array_size(want); i++)
			code = compare_values(c, json_array_get(want, i), json_array_get(got, i));
		return code;
	}
	if (!json_is_number(got) || !decimal(want, &w))
		return shape_differs(c);
	g = json_number_value(got);
	d = g > w ? g - w : w - g;
	allowed = c->tolerance + c->relative * (w < 0 ? -w : w);
	return d <= allowed ? MFS_OK : differs(c, g, "", w);
}

static enum mfs_code
compare_range(const struct compare *c, const json_t *got)
{
	enum mfs_code code = MFS_OK;
	double g;

	if (json_is_array(got)) {
		if (json_array_size(got) == 0)
			return shape_differs(c);
		for (size_t i = 0; code == MFS_OK && i < json_array_size(got); i++)
			code = compare_range(c, json_array_get(got, i));
		return code;
	}
	if (!json_is_number(got))
		return shape_differs(c);
	g = json_number_value(got);
	if (c->has_min && !(g >= c->min))
		return differs(c, g, "at least ", c->min);
	if (c->has_max && !(g <= c->max))
		return differs(c, g, "at most ", c->max);
	return MFS_OK;
}

static enum mfs_code
compare_output(const char *vector, const char *output, const json_t *e, const json_t *got, struct mfs_err *err)
{
	struct compare c = { .vector = vector, .output = output, .err = err };

	if (got == NULL)
		return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "test vector '%s': no output '%s' was printed", MFS_ESC(vector),
			MFS_ESC(output));
	(void)decimal(json_object_get(e, "tolerance"), &c.tolerance);
	(void)decimal(json_object_get(e, "relative"), &c.relative);
	c.has_min = decimal(json_object_get(e, "min"), &c.min);
	c.has_max = decimal(json_object_get(e, "max"), &c.max);
	if (json_object_get(e, "value") != NULL)
		return compare_values(&c, json_object_get(e, "value"), got);
	if (c.has_min || c.has_max)
		return compare_range(&c, got);
	if (json_equal(json_object_get(e, "equals"), got))
		return MFS_OK;
	return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "test vector '%s': output '%s' is not what is expected", MFS_ESC(vector),
		MFS_ESC(output));
}

static enum mfs_code
compare_vector(json_t *vector, const json_t *line, struct mfs_err *err)
{
	const char *name = json_string_value(json_object_get(vector, "name")), *output;
	const json_t *e;
	enum mfs_code code = MFS_OK;

	json_object_foreach(json_object_get(vector, "output"), output, e)
		if (code == MFS_OK)
			code = compare_output(name, output, e, json_object_get(json_object_get(line, "output"), output), err);
	return code;
}

static enum mfs_code
take_line(const struct mfs_vectors *v, struct mfs_span line, bool *seen, struct mfs_err *err)
{
	mfs_autojson json_t *printed = line_parse(line);
	const char *name = json_string_value(json_object_get(printed, "name"));

	for (size_t i = 0; name != NULL && i < json_array_size(v->list); i++) {
		json_t *vector = json_array_get(v->list, i);

		if (strcmp(json_string_value(json_object_get(vector, "name")), name) != 0)
			continue;
		if (seen[i])
			return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "test vector '%s' was printed twice", MFS_ESC(name));
		seen[i] = true;
		return compare_vector(vector, printed, err);
	}
	return MFS_OK;
}

enum mfs_code
mfs_vectors_check(const struct mfs_vectors *v, struct mfs_span output, struct mfs_err *err)
{
	bool seen[MFS_VECTORS_MAX] = { false };
	enum mfs_code code;

	while (output.len > 0) {
		const uint8_t *nl = memchr(output.p, '\n', output.len);
		struct mfs_span line = { output.p, nl != NULL ? (size_t)(nl - output.p) : output.len };

		if ((code = take_line(v, line, seen, err)) != MFS_OK)
			return code;
		line.len += nl != NULL;
		output = MFS_SPAN(output.p + line.len, output.len - line.len);
	}
	for (size_t i = 0; i < json_array_size(v->list); i++)
		if (!seen[i])
			return mfs_fail(err, MFS_HEALTH_CHECK_FAILED, "test vector '%s': the health command printed no line for it",
				MFS_ESC(json_string_value(json_object_get(json_array_get(v->list, i), "name"))));
	return MFS_OK;
}
