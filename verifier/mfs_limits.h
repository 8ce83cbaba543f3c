/* SPDX-License-Identifier: Apache-2.0 */
/* mfs_limits.h - every cap on untrusted input: value, unit, reason. See modelfs-bundle(5), LIMITS. */
#ifndef MFS_LIMITS_H
#define MFS_LIMITS_H

#define MFS_MANIFEST_BYTES_MAX  (16u << 20) /* bytes; 65,536 files at some 250 bytes each */
#define MFS_FILES_MAX           65536u      /* files of one manifest */
#define MFS_SIGNATURE_BYTES_MAX 1024u       /* bytes; Ed25519 64, ECDSA P-256 at most 72 */
#define MFS_JSON_DEPTH_MAX      16u         /* levels; stops stack exhaustion */
#define MFS_JSON_INT_MAX        9007199254740991LL /* 2^53-1: exact in every JSON library */
#define MFS_BUILD_TIME_MAX      9223372035LL /* seconds since the epoch (the year 2262): its nanoseconds fit 63 bits */
#define MFS_ID_MAX              127u        /* bytes of a model_id */
#define MFS_VARIANT_MAX         64u         /* bytes */
#define MFS_VERSION_MAX         64u         /* bytes */
#define MFS_NAME_MAX            1024u       /* bytes of a file name with its folders */
#define MFS_COMPONENT_MAX       255u        /* bytes of one component: NAME_MAX of Linux */
#define MFS_COMPONENTS_MAX      16u         /* components of a file name */
#define MFS_KEY_IDS_MAX         8u          /* signatures of one manifest */
#define MFS_WRAPS_MAX           64u         /* wrapped content keys in one manifest */
#define MFS_CHUNK_MIN           (64u << 10) /* bytes; page size of the largest supported machine */
#define MFS_CHUNK_MAX           (1u << 20)  /* bytes; one FUSE read */
#define MFS_CHUNK_DEFAULT       (128u << 10)
#define MFS_CHUNK_LARGE         (512u << 10) /* default above MFS_CHUNK_LARGE_FROM */
#define MFS_CHUNK_LARGE_FROM    (16ull << 30)
#define MFS_FILE_SIZE_MAX       (1ull << 46) /* bytes; 64 TiB: its table of 1 MiB chunks is 3 GiB */
#define MFS_TABLE_HEADER        32u
#define MFS_TABLE_ENTRY         48u
#define MFS_TAG_LEN             16u
#define MFS_TRUST_KEYS_MAX      64u          /* keys of one trust list */
#define MFS_COMPAT_ENTRIES_MAX  64u         /* entries of each list in compat */
#define MFS_DELTA_BASES_MAX     64u         /* bases that deltas exist for */
#define MFS_SIGNATURES_MAX      64u         /* signature files of one bundle that are looked at */
#define MFS_KNOWN_MAX           256u        /* (version, variant) pairs that the anchor remembers per model */
#define MFS_RETAINED_MAX        64u         /* retained versions per model */
#define MFS_BAD_MAX             1024u       /* condemned manifests per model; the oldest is forgotten */
#define MFS_REVOKED_MAX         4096u       /* revoked manifests per model */
#define MFS_POLICY_BYTES_MAX    (1u << 20)  /* bytes of policy.json */
#define MFS_POLICY_TEXT_MAX     255u        /* bytes of a salt, a reason, a label, a value */
#define MFS_ROLLOUTS_MAX        256u        /* rollouts of one policy */
#define MFS_ROLLOUT_VARIANTS_MAX 64u        /* variants of one rollout */
#define MFS_STEPS_MAX           64u         /* steps of one rollout */
#define MFS_MATCH_KEYS_MAX      64u         /* keys of one match */
#define MFS_MATCH_VALUES_MAX    65536u      /* values of one key: device ids, one by one */
#define MFS_TRUSTLIST_BYTES_MAX (1u << 20)  /* bytes of trust.json: 64 keys with 127 models each */
#define MFS_TRUST_MODELS_MAX    4096u       /* models of one key in trust.json */
#define MFS_SPKI_MAX            91u         /* bytes of SubjectPublicKeyInfo: P-256 91, Ed25519 44 */
#define MFS_REPOS_MAX           64u         /* repositories of one anchor */
#define MFS_MODELS_MAX          4096u       /* models of one anchor */
#define MFS_STATE_BYTES_MAX     (64u << 20)  /* bytes of one state document: 1,000 models */

#define MFS_TUF_ROOT_MAX        (512u << 10) /* bytes of root.json */
#define MFS_TUF_TIMESTAMP_MAX   (16u << 10)  /* bytes of timestamp.json */
#define MFS_TUF_SNAPSHOT_MAX    (2u << 20)   /* bytes of snapshot.json: some 20,000 roles with version alone */
#define MFS_TUF_TARGETS_MAX     (5u << 20)   /* bytes of targets.json and of every delegated role */
#define MFS_TUF_ROOT_STEPS_MAX  256u         /* new roots in one run; the next run goes on */
#define MFS_TUF_VISITED_MAX     32u          /* roles visited for one target path */
#define MFS_TUF_SEARCH_MAX      (32u << 20)  /* bytes of these roles: hostile ones could all be of the largest size */
#define MFS_TUF_KEPT_MAX        (16u << 20)  /* bytes of delegated roles that a run keeps for its next search: some 1,000 models */
#define MFS_TUF_KEYS_MAX        64u          /* key ids of one role; each costs a signature check at most */
#define MFS_TUF_SIGNATURES_MAX  256u         /* entries in `signatures`; only one per key of the role is looked at */
#define MFS_TUF_SIGNATURE_MAX   1024u        /* bytes of one signature: RSA of 8192 bits */
#define MFS_TUF_RSA_BITS_MAX    8192         /* a larger key makes each check slow */
#define MFS_TUF_RSA_BITS_MIN    2048
#define MFS_TUF_FILE_MAX        255u         /* bytes of a metadata file name: NAME_MAX of Linux */
#define MFS_TUF_PATH_MAX        2048u        /* bytes of a target path: manifest names fit three times */
#define MFS_TUF_GRACE_MAX       (3650LL * 86400) /* seconds of expired_grace: ten years */

#endif
