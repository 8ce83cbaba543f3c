/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "progress.h"
#include "signer.h"

enum mfs_code
mfs_args_add(struct mfs_args *a, const char *arg, struct mfs_err *err)
{
	const char **v = reallocarray(a->v, a->n + 2, sizeof(*v));

	if (v == NULL)
		return mfs_fail(err, MFS_NO_MEMORY, "arguments");
	a->v = v;
	a->v[a->n++] = arg;
	a->v[a->n] = NULL;
	return MFS_OK;
}

void
mfs_args_free(struct mfs_args *a)
{
	free(a->v);
	*a = (struct mfs_args){ 0 };
}

enum mfs_code
mfs_model_key_file(const char *path, struct mfs_key *out, struct mfs_err *err)
{
	uint8_t *buf;
	size_t len;
	enum mfs_code code = mfs_file_read(AT_FDCWD, path, 4096, &buf, &len, err);

	if (code != MFS_OK)
		return code;
	code = mfs_model_key_parse(path, MFS_SPAN(buf, len), out, err);
	mfs_secret_free((char *)buf, len);
	return code;
}

int
mfs_usage(const char *name, const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "modelpub %s: ", name);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "; see 'modelpub %s --help'\n", name);
	return MFS_EXIT_USAGE;
}

int
mfs_report(const char *name, const char *what, const struct mfs_err *err)
{
	const size_t n = what != NULL ? strlen(MFS_ESC(what)) : 0;
	const char *hint = err->code == MFS_INSUFFICIENT_STORAGE ? "; make room there, then run it again" : "";

	/* Named already: not again. */
	if (what != NULL && (strncmp(err->msg, MFS_ESC(what), n) != 0 || err->msg[n] != ':'))
		(void)fprintf(stderr, "modelpub %s: %s: %s: %s%s\n", name, MFS_ESC(what), mfs_code_name(err->code), err->msg, hint);
	else
		(void)fprintf(stderr, "modelpub %s: %s: %s%s\n", name, mfs_code_name(err->code), err->msg, hint);
	return (int)mfs_code_exit(err->code);
}

bool
mfs_parse_int(const char *s, int64_t min, int64_t max, int64_t *out)
{
	long long v;
	char *end;

	if (s[0] < '0' || s[0] > '9')
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno != 0 || *end != '\0' || v < min || v > max)
		return false;
	*out = v;
	return true;
}

int
mfs_finish(const char *name)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return MFS_EXIT_DONE;
	(void)fprintf(stderr, "modelpub %s: io: standard output: cannot be written\n", name);
	return MFS_EXIT_FAILED;
}

void
mfs_print_summary(const struct mfs_manifest *m, const char *prefix, const char *suffix)
{
	(void)printf("%s%s %s (%s), release %lld: %zu file%s, %s, %s, manifest %s%s\n", prefix, m->model_id, m->version,
		m->variant, (long long)m->release, m->n_files, m->n_files == 1 ? "" : "s", MFS_SIZE(m->total_size),
		m->cipher == MFS_CIPHER_NONE ? "not encrypted" : mfs_cipher_name(m->cipher), MFS_HEX(&m->id), suffix);
}
