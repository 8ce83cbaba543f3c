/* SPDX-License-Identifier: Apache-2.0 */
/* modelpub inspect: what a bundle says of itself. Shows, never vouches. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "gate.h"
#include "progress.h"

static const char help_text[] =
	"usage: modelpub inspect [--json] BUNDLE\n"
	"\n"
	"Show a bundle's manifest. Nothing is verified: use 'modelpub verify' for that.\n"
	"\n"
	"  --json    for programs: {\"verified\":false,\"manifest_sha256\":...,\"signatures\":[...],\"manifest\":{...}}\n"
	"  --help    this text\n";

enum { OPT_JSON = MFS_OPT_OTHER };

static const struct option options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, MFS_OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

MFS_DEFINE_CLEANUP(json, json_t, json_decref)

static const char *
sig_key(const struct mfs_manifest *m, const struct mfs_bundle_sig *s, char out[65])
{
	return s->key_id[0] != '\0' ? s->key_id : mfs_sha256_hex(out, &m->key_ids[0]);
}

static enum mfs_code
show_json(const struct mfs_manifest *m, const struct mfs_bundle_docs *docs, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_json) json_t *root = json_object();
	json_t *sigs = json_array(), *manifest;
	mfs_autofree char *text = NULL;
	char hex[65];
	int bad;

	bad = json_object_set_new(root, "verified", json_false());
	bad |= json_object_set_new(root, "manifest_sha256", json_string(MFS_HEX(&m->id)));
	bad |= json_object_set_new(root, "signatures", sigs);
	for (size_t i = 0; i < docs->n_sigs && bad == 0; i++)
		bad = json_array_append_new(sigs, json_string(sig_key(m, &docs->sigs[i], hex)));
	if (bad != 0 ||
		mfs_json_parse_canonical("manifest.json", MFS_SPAN(docs->manifest, docs->manifest_len),
			MFS_MANIFEST_BYTES_MAX, &manifest, err) != MFS_OK ||
		json_object_set_new(root, "manifest", manifest) != 0 ||
		(text = json_dumps(root, JSON_INDENT(2))) == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "manifest");
	(void)puts(text);
	return MFS_OK;
}

static void
show_strings(const char *title, char *const *list)
{
	if (list == NULL)
		return;
	(void)printf("%-14s", title);
	for (size_t i = 0; list[i] != NULL; i++)
		(void)printf("%s %s", i > 0 ? "," : "", MFS_ESC(list[i]));
	(void)printf("\n");
}

static void
show_ranges(const char *title, const struct mfs_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)printf("%-14s %s%s%s%s%s\n", i == 0 ? title : "", MFS_ESC(r[i].name), r[i].min != NULL ? " from " : "",
			r[i].min != NULL ? MFS_ESC(r[i].min) : "", r[i].max != NULL ? " to " : "",
			r[i].max != NULL ? MFS_ESC(r[i].max) : "");
}

static void
show_compat(const struct mfs_compat *c)
{
	const struct mfs_sha256 *const schemas[] = { &c->input_schema, &c->output_schema, &c->preprocess };
	static const char *const titles[] = { "input schema", "output schema", "preprocess" };

	show_strings("platforms", c->platforms);
	for (size_t i = 0; i < c->n_labels; i++) {
		char title[160];

		(void)snprintf(title, sizeof(title), "label %s", MFS_ESC(c->labels[i].name));
		show_strings(title, c->labels[i].values);
	}
	show_ranges("apps", c->apps, c->n_apps);
	show_ranges("runtimes", c->runtimes, c->n_runtimes);
	if (c->memory != 0)
		(void)printf("%-14s %s\n", "memory", MFS_SIZE(c->memory));
	if (c->page_size != 0)
		(void)printf("%-14s %s\n", "page size", MFS_SIZE(c->page_size));
	for (size_t i = 0; i < c->n_depends; i++) {
		const struct mfs_depend *d = &c->depends[i];

		(void)printf("%-14s %s", "depends", MFS_ESC(d->model_id));
		if (d->min_release != -1)
			(void)printf(" from release %lld", (long long)d->min_release);
		if (d->max_release != -1)
			(void)printf(" to release %lld", (long long)d->max_release);
		(void)printf("\n");
	}
	for (size_t i = 0; i < 3; i++)
		if (!mfs_sha256_is_zero(schemas[i]))
			(void)printf("%-14s %s\n", titles[i], MFS_HEX(schemas[i]));
}

/* Signed text is still somebody's text: escaped, all of it. */
static void
put_escaped(const char *text)
{
	const size_t cap = 4 * strlen(text) + 8;
	mfs_autofree char *out = malloc(cap);

	(void)fputs(out != NULL ? mfs_escape(out, cap, text, strlen(text)) : "(no memory)", stdout);
}

static void
show_blob(const char *title, const char *json)
{
	if (json == NULL)
		return;
	(void)printf("%-14s ", title);
	put_escaped(json);
	(void)printf("\n");
}

static void
show_files(const struct mfs_manifest *m)
{
	(void)printf("files          %zu, %s\n", m->n_files, MFS_SIZE(m->total_size));
	for (size_t i = 0; i < m->n_files; i++) {
		const struct mfs_file *f = &m->files[i];

		(void)printf("  %s  %12llu  %-11s  ", MFS_HEX(&f->sha256), (unsigned long long)f->size,
			mfs_media_name(f->media));
		put_escaped(f->name);
		(void)printf("%s\n", f->executable ? " (executable)" : "");
	}
}

static void
show_text(const struct mfs_manifest *m, const struct mfs_bundle_docs *docs)
{
	const time_t built = (time_t)m->build_time;
	char when[32] = "?", hex[65];
	struct tm tm;

	if (gmtime_r(&built, &tm) != NULL)
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)printf("NOT VERIFIED: this is what the bundle says of itself; 'modelpub verify' checks it\n");
	(void)printf("model          %s %s (%s), release %lld\n", m->model_id, m->version, m->variant,
		(long long)m->release);
	(void)printf("manifest       %s\nbuilt          %s\nkey epoch      %lld\n", MFS_HEX(&m->id), when,
		(long long)m->key_epoch);
	for (size_t i = 0; i < m->n_key_ids; i++)
		(void)printf("%-14s %s\n", i == 0 ? "signers" : "", MFS_HEX(&m->key_ids[i]));
	if (docs->n_sigs == 0)
		(void)printf("signatures     none\n");
	for (size_t i = 0; i < docs->n_sigs; i++)
		(void)printf("%-14s by %s\n", i == 0 ? "signatures" : "", sig_key(m, &docs->sigs[i], hex));
	if (m->cipher == MFS_CIPHER_NONE) {
		(void)printf("encryption     none\n");
	} else {
		(void)printf("encryption     %s\ncontent key    %s\n", mfs_cipher_name(m->cipher), MFS_HEX(&m->content_key_id));
		for (size_t i = 0; i < m->n_wraps; i++)
			(void)printf("%-14s %s\n", i == 0 ? "model keys" : "", MFS_HEX(&m->wraps[i].model_key_id));
	}
	show_compat(&m->compat);
	show_blob("preprocess", m->preprocess_json);
	show_blob("quantization", m->quantization_json);
	show_blob("health", m->health_json);
	for (size_t i = 0; i < m->n_delta_bases; i++)
		(void)printf("%-14s %s\n", i == 0 ? "delta bases" : "", MFS_HEX(&m->delta_bases[i]));
	show_files(m);
}

int
mfs_cmd_inspect(int argc, char **argv)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	mfs_autobundledocs struct mfs_bundle_docs docs = { 0 };
	struct mfs_err err = MFS_ERR_INIT;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case OPT_JSON:
			json = true;
			break;
		case MFS_OPT_HELP:
			(void)fputs(help_text, stdout);
			return mfs_finish("inspect");
		default:
			return MFS_EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return mfs_usage("inspect", "want exactly one BUNDLE");
	if (mfs_gate_read(argv[optind], &docs, &m, &err) != MFS_OK)
		return mfs_report("inspect", argv[optind], &err);
	if (!json)
		show_text(m, &docs);
	else if (show_json(m, &docs, &err) != MFS_OK)
		return mfs_report("inspect", argv[optind], &err);
	return mfs_finish("inspect");
}
