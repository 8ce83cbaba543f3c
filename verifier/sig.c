/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of a manifest: verified over the received bytes, before anything parses them. */
#include "internal.h"

/* ---- the key ids of bytes that nobody has verified yet ----------------------------------------- */

struct walk {
	const uint8_t *p, *end;
};

/* Past the string that starts at w->p (its opening quote). */
static bool
walk_string(struct walk *w)
{
	for (w->p++; w->p < w->end; w->p++) {
		if (*w->p == '\\')
			w->p++;
		else if (*w->p == '"') {
			w->p++;
			return true;
		}
	}
	return false;
}

/* ["64 hex digits","64 hex digits"] */
static size_t
walk_ids(struct walk *w, struct mfs_sha256 ids[MFS_KEY_IDS_MAX])
{
	size_t n = 0;

	if (w->p == w->end || *w->p++ != '[')
		return 0;
	while (n < MFS_KEY_IDS_MAX && w->end - w->p >= 67 && w->p[0] == '"' && w->p[65] == '"' &&
		mfs_hex_decode(ids[n].b, MFS_SHA256_LEN, (const char *)w->p + 1, 64)) {
		const uint8_t next = w->p[66];

		n++;
		w->p += 67;
		if (next == ']')
			return n;
		if (next != ',')
			return 0;
	}
	return 0;
}

/*
 * The key_ids of canonical JSON, found without a parser: only to choose keys, and compared with
 * the parsed ones after a signature has verified. 0 when there are none.
 */
static size_t
key_ids_find(struct mfs_span in, struct mfs_sha256 ids[MFS_KEY_IDS_MAX])
{
	static const char key[] = "\"key_ids\":";
	struct walk w = { in.p, in.p + in.len };
	unsigned depth = 0;

	while (w.p < w.end) {
		const uint8_t c = *w.p;

		if (c == '"') {
			if (depth == 1 && (size_t)(w.end - w.p) > sizeof(key) - 1 && memcmp(w.p, key, sizeof(key) - 1) == 0) {
				w.p += sizeof(key) - 1;
				return walk_ids(&w, ids);
			}
			if (!walk_string(&w))
				return 0;
			continue;
		}
		if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
		w.p++;
	}
	return 0;
}

/* ---- one signature --------------------------------------------------------------------------------- */

static enum mfs_code
signature_check(const struct mfs_trust_key *k, struct mfs_span signed_bytes, struct mfs_span sig, bool *good,
	struct mfs_err *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	const EVP_MD *md = k->type == MFS_KEY_P256 ? EVP_sha256() : NULL;
	int rc = -1;

	*good = false;
	if (ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, md, NULL, k->pkey) == 1)
		rc = EVP_DigestVerify(ctx, sig.p, sig.len, signed_bytes.p, signed_bytes.len) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	if (rc < 0)
		return mfs_fail(err, MFS_INTERNAL, "signature check of key %s did not start", MFS_HEX(&k->id));
	*good = rc == 1;
	return MFS_OK;
}

struct verdict {
	uint64_t verified;          /* bit i: key i of the trust list has signed */
	struct mfs_sha256 stranger; /* a signer that is not in the trust list */
};

static const struct mfs_trust_key *
trust_find(const struct mfs_trust *t, const struct mfs_sha256 *id, size_t *at)
{
	for (*at = 0; *at < t->n; (*at)++)
		if (mfs_sha256_equal(&t->keys[*at].id, id))
			return &t->keys[*at];
	return NULL;
}

static bool
id_listed(const struct mfs_sha256 *ids, size_t n, const struct mfs_sha256 *id)
{
	for (size_t i = 0; i < n; i++)
		if (mfs_sha256_equal(&ids[i], id))
			return true;
	return false;
}

static enum mfs_code
signatures_check(struct mfs_span manifest, const struct mfs_signature *sigs, size_t n_sigs, const struct mfs_trust *trust,
	const struct mfs_sha256 *ids, size_t n_ids, struct verdict *v, struct mfs_err *err)
{
	for (size_t i = 0; i < n_sigs; i++) {
		const bool unnamed = mfs_sha256_is_zero(&sigs[i].key_id);
		const struct mfs_sha256 *id = unnamed ? &ids[0] : &sigs[i].key_id;
		const struct mfs_trust_key *k;
		enum mfs_code code;
		bool good;
		size_t at;

		if (sigs[i].bytes.len > MFS_SIGNATURE_BYTES_MAX)
			return mfs_fail(err, MFS_LIMIT_EXCEEDED, "signature by key %s: %zu bytes, limit %u", MFS_HEX(id),
				sigs[i].bytes.len, MFS_SIGNATURE_BYTES_MAX);
		if (!id_listed(ids, n_ids, id))
			continue; /* not one of the keys that the manifest is signed for */
		if ((k = trust_find(trust, id, &at)) == NULL) {
			v->stranger = *id;
			continue;
		}
		if ((code = signature_check(k, manifest, sigs[i].bytes, &good, err)) != MFS_OK)
			return code;
		if (!good)
			return mfs_fail(err, MFS_SIGNATURE_INVALID,
				"manifest.json: the signature by key %s is wrong: the manifest or the signature was changed, "
				"fetch the bundle again",
				MFS_HEX(id));
		v->verified |= UINT64_C(1) << at;
	}
	return MFS_OK;
}

/* Enough distinct keys, whatever they are for? */
static enum mfs_code
threshold_check(const struct verdict *v, unsigned threshold, struct mfs_err *err)
{
	const unsigned n = (unsigned)__builtin_popcountll(v->verified);

	if (n >= threshold)
		return MFS_OK;
	if (!mfs_sha256_is_zero(&v->stranger))
		return mfs_fail(err, MFS_KEY_UNTRUSTED,
			"manifest.json: %u of %u trusted signatures; signed by key %s, which is not in the trust list: add it there "
			"only if the publisher says that it is his", n, threshold, MFS_HEX(&v->stranger));
	return mfs_fail(err, n == 0 ? MFS_SIGNATURE_INVALID : MFS_KEY_UNTRUSTED,
		"manifest.json: %u of %u trusted signatures by distinct keys; more of these keys have to sign it", n, threshold);
}

/* Epoch and scope are the trust list's word, never the manifest's alone. */
static enum mfs_code
scope_check(const struct mfs_trust *trust, const struct verdict *v, unsigned threshold, const struct mfs_manifest *m,
	struct mfs_sha256 *first, struct mfs_err *err)
{
	unsigned n = 0;
	size_t foreign = 0;

	for (size_t i = 0; i < trust->n; i++) {
		const struct mfs_trust_key *k = &trust->keys[i];

		if ((v->verified >> i & 1) == 0)
			continue;
		if (k->epoch != m->key_epoch || !mfs_trust_key_covers(k, m->model_id)) {
			foreign = i;
			continue;
		}
		if (n++ == 0 && first != NULL)
			*first = k->id;
	}
	if (n >= threshold)
		return MFS_OK;
	if (trust->keys[foreign].epoch != m->key_epoch)
		return mfs_fail(err, MFS_KEY_UNTRUSTED,
			"manifest.json: key_epoch: %lld, but the trust list gives key %s epoch %lld", (long long)m->key_epoch,
			MFS_HEX(&trust->keys[foreign].id), (long long)trust->keys[foreign].epoch);
	return mfs_fail(err, MFS_KEY_UNTRUSTED, "manifest.json: model_id: the trust list does not let key %s sign for '%s'",
		MFS_HEX(&trust->keys[foreign].id), m->model_id);
}

enum mfs_code
mfs_bundle_verify(struct mfs_span manifest, const struct mfs_signature *sigs, size_t n_sigs, const struct mfs_trust *trust,
	unsigned threshold, struct mfs_manifest **out, struct mfs_sha256 *key_id_out, struct mfs_err *err)
{
	MFS_CLEANUP(mfs_cleanup_manifest) struct mfs_manifest *m = NULL;
	struct mfs_sha256 ids[MFS_KEY_IDS_MAX], first = { { 0 } };
	struct verdict v = { 0 };
	enum mfs_code code;
	size_t n_ids;

	*out = NULL;
	if (manifest.len > MFS_MANIFEST_BYTES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "manifest.json: %zu bytes, limit %u", manifest.len,
			MFS_MANIFEST_BYTES_MAX);
	if (n_sigs > MFS_SIGNATURES_MAX)
		return mfs_fail(err, MFS_LIMIT_EXCEEDED, "%zu signatures, limit %u", n_sigs, MFS_SIGNATURES_MAX);
	if (n_sigs == 0)
		return mfs_fail(err, MFS_SIGNATURE_INVALID, "signature.sig: missing: the bundle is not signed; fetch it again, or have its "
			"publisher sign it");
	if (threshold < 1 || threshold > MFS_TRUST_KEYS_MAX)
		return mfs_fail(err, MFS_CONFIG_INVALID, "trust: threshold %u is not within 1 to %u", threshold,
			MFS_TRUST_KEYS_MAX);
	if ((n_ids = key_ids_find(manifest, ids)) == 0)
		return mfs_fail(err, MFS_MALFORMED,
			"manifest.json: key_ids: no list of 1 to %d key ids is found: is this a modelfs manifest?", MFS_KEY_IDS_MAX);
	if ((code = signatures_check(manifest, sigs, n_sigs, trust, ids, n_ids, &v, err)) != MFS_OK ||
		(code = threshold_check(&v, threshold, err)) != MFS_OK)
		return code;
	if ((code = mfs_manifest_parse(manifest, &m, err)) != MFS_OK) {
		if ((code == MFS_MALFORMED || code == MFS_LIMIT_EXCEEDED) && strstr(err->msg, "upgrade modelfs") == NULL)
			(void)mfs_err_hint(err, "; it was signed like this: its publisher has to make a new version");
		return code;
	}
	if (m->n_key_ids != n_ids || memcmp(m->key_ids, ids, n_ids * sizeof(ids[0])) != 0)
		return mfs_fail(err, MFS_MALFORMED, "manifest.json: key_ids: ambiguous");
	if ((code = scope_check(trust, &v, threshold, m, &first, err)) != MFS_OK)
		return code;
	if (key_id_out != NULL)
		*key_id_out = first;
	*out = mfs_steal(&m);
	return MFS_OK;
}
