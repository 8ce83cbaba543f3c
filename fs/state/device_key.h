/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_key.h - the key pair that grants for this host are addressed to (device.key).
 *
 * Only its public half leaves this file: the commands show it, a publisher wraps model keys for it. A file of the
 * host, or any URI that OpenSSL's store opens (a TPM handle, a PKCS#11 token), whose private half never comes here.
 */
#ifndef MFS_DEVICE_KEY_H
#define MFS_DEVICE_KEY_H

#include "mfs_config.h"

#define MFS_DEVICE_SPKI_MAX 91u /* P-256 91 bytes, X25519 44 */

struct mfs_device_key {
	struct mfs_sha256 id; /* of spki: the device_key_id of inventories and grants */
	const char *type;     /* "P-256" or "X25519" */
	uint8_t spki[MFS_DEVICE_SPKI_MAX]; /* SubjectPublicKeyInfo, DER */
	size_t spki_len;
};

/*
 * The public half of a key.
 *
 * uri     "file:/abs/path" (PEM or DER, a private key that only root or we own and nobody else may write), or another
 *         URI of OpenSSL's store; a pass phrase is never asked for
 * errors  KEY_UNAVAILABLE (ENOENT in sys_errno: no such file; without a right to read it, no provider for the URI),
 *         CONFIG_INVALID (others may replace it, no private key, neither P-256 nor X25519), NO_MEMORY
 * threads any, before a sandbox
 * source  modelfs.yaml(5), DEVICE
 */
enum mfs_code mfs_device_key_load(const char *uri, struct mfs_device_key *out, struct mfs_err *err);

/*
 * Make a new P-256 key (what TPMs and tokens have too) where there is none, mode 0600, durable. One that stands there
 * is never replaced, whatever it is.
 *
 * uri     "file:/abs/path"; its folder must be there
 * made    true: it is new
 * errors  IO (ENOENT in sys_errno: no folder), CONFIG_INVALID (no file URI), INTERNAL, NO_MEMORY
 * threads any, before a sandbox
 */
enum mfs_code mfs_device_key_create(const char *uri, bool *made, struct mfs_err *err);

#endif
