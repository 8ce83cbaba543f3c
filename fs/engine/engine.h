/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what is installed and active: state, store and decisions, without FUSE.
 *
 * serve runs one engine for the mount; an offline command runs one under state/lock. Changes are
 * serialised by the engine's lock; observers are called with it held and must be quick.
 * mfs_engine_model_get never waits for a change or for the disk. Every change and refusal is
 * also an event (source "install", "control", "mount", "gc", "recover"). Threads any.
 */
#ifndef MFS_ENGINE_H
#define MFS_ENGINE_H

#include "events.h"
#include "held.h"
#include "mfs_policy.h"
#include "trusted.h"
#include "version.h"

struct mfs_engine_args {
	const struct mfs_config *config; /* must outlive the engine, as all below */
	const struct mfs_keys *keys;
	struct mfs_store *store;
	struct mfs_cache *cache; /* NULL: versions are not opened for reading (offline commands) */
	struct mfs_events *events;
	int state_dirfd;
	struct mfs_held *held; /* keeper's memory for state that cannot be written; NULL: it ends with this process */
	unsigned flags; /* enum mfs_trusted_flags */
};

struct mfs_engine_version {
	struct mfs_version *v; /* referenced */
	bool active, previous;
	bool candidate; /* being checked; of no other use when neither active nor retained: then it is the last one */
	bool retained;
	int64_t activated_ns; /* ctime of its folders */
};

/* How an update of a model stands, as the cycle document has it; texts are cut. */
struct mfs_engine_update {
	enum mfs_step step;  /* IDLE, DOWNLOAD ... ACTIVATE: of the attempt; `why` then is its last failure */
	struct mfs_cycle_version v;
	int64_t since, deadline, not_before;
	unsigned starts, failures;
	enum mfs_code why; char detail[256];
	uint64_t free_bytes;
	bool by_hand, rollback;
	struct mfs_cycle_observation observation; /* of the active version when it is not committed; else zero */
	struct mfs_cycle_refusal refusal;         /* detail is NULL here */
	char refusal_detail[256];
	enum mfs_code offer; char offer_detail[256]; /* why the last check brings nothing newer; OK: there is nothing to say */
	char pin[MFS_VERSION_MAX + 1];
};

/* A version that is kept but cannot be shown, so that nobody can go back to it; version empty: none. */
struct mfs_engine_gone {
	char version[MFS_VERSION_MAX + 1];
	bool previous;                       /* a rollback would go to it; of several the one that is said */
	enum mfs_code why; char detail[256]; /* mfs_kept_lost(): lost here; else refused */
};

struct mfs_engine_model { /* a copy: release with mfs_engine_model_free() */
	struct mfs_engine_version *versions; size_t n; /* active first, then retained, newest first, then the candidate */
	uint64_t generation;
	bool held;
	int64_t active_since;
	enum mfs_code last_outcome; int64_t last_outcome_time; char last_detail[256];
	int64_t floor_epoch, floor_release;
	enum mfs_code absent; /* why there is no active version though the anchor names one; OK otherwise */
	char absent_detail[256];
	struct mfs_engine_gone gone;
	struct mfs_engine_update update;
};

struct mfs_engine;

/*
 * Load the trusted state and every active and retained version (signatures and key trust are
 * checked anew). A model whose active version does not verify has none (reason kept), never an older one.
 */
enum mfs_code mfs_engine_open(const struct mfs_engine_args *args, struct mfs_engine **out, struct mfs_err *err);
void mfs_engine_close(struct mfs_engine *e);

/* `fn` is called with the engine's lock held, after model `i` changed (activation, rollback, withdraw, gc). */
typedef void mfs_engine_changed_fn(void *user, size_t i, const struct mfs_engine_model *m);
void mfs_engine_observe(struct mfs_engine *e, mfs_engine_changed_fn *fn, void *user);

enum mfs_code mfs_engine_model_get(struct mfs_engine *e, size_t i, struct mfs_engine_model *out, struct mfs_err *err);
void mfs_engine_model_free(struct mfs_engine_model *m);

/*
 * May this verified manifest become the active version of model i? Asked before its bytes are
 * copied; mfs_engine_activate decides again. Only the fields of a struct mfs_vref, the model_id,
 * the manifest's hash (id) and compat.depends are looked at. `now` receives the active version ("" without one).
 *
 * errors  as mfs_decide_install; HELD when a rollback or pin holds the model
 */
enum mfs_code mfs_engine_decide(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how,
	char now[MFS_VERSION_MAX + 1], struct mfs_err *err);

/*
 * Make an installed version (blobs and manifest in the store) the active one of model i:
 * decide, load, check that every blob stands in the store, write anchor and cycle, observe.
 * `from`, `to`  receive version strings (MFS_VERSION_MAX + 1)
 * returns OK; NOT_SELECTED is never returned; *same true when it was already active
 */
enum mfs_code mfs_engine_activate(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, bool *same,
	char *from, char *to, struct mfs_err *err);

/*
 * An installation for model i failed before activation was asked for: an event and the model's
 * last outcome. version may be NULL.
 */
void mfs_engine_refused(struct mfs_engine *e, size_t i, const char *version, enum mfs_code code, const char *detail);

/*
 * Back to `previous`; holds the model until _unpin: while it is held, activation of another version
 * is refused (HELD). errors NOT_SELECTED (nothing to go back to), IO (its blobs are gone), as above
 */
enum mfs_code mfs_engine_rollback(struct mfs_engine *e, size_t i, char *from, char *to, struct mfs_err *err);
enum mfs_code mfs_engine_unpin(struct mfs_engine *e, size_t i, bool *was_held, struct mfs_err *err);

/* A text as state documents take it: printable ASCII of a text, malloc'd; NULL for NULL, or without memory. */
char *mfs_engine_text(const char *text);

/* ---- policy, key trust, freshness (engine_policy.c) ------------------------------------------------ */

/*
 * Change trusted state: fn gets a copy of the anchor, with the engine's lock held, and sets *write if it
 * changed it; then that is committed. _read shows the present one. _cycle_update: fn changes the cycle
 * document, true: save it.
 *
 * errors  what fn returned, those of mfs_trusted_commit and mfs_trusted_cycle_save
 */
enum mfs_code mfs_engine_anchor_update(struct mfs_engine *e,
	enum mfs_code (*fn)(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err), void *user,
	struct mfs_err *err);
void mfs_engine_anchor_read(struct mfs_engine *e, void (*fn)(void *user, const struct mfs_anchor *a), void *user);
enum mfs_code mfs_engine_cycle_update(struct mfs_engine *e, bool (*fn)(void *user, struct mfs_cycle *c), void *user,
	struct mfs_err *err);

/*
 * The kill switch: do to model i what the policy of the anchor demands of its active version, whatever pins
 * or holds it (they end with the version): nothing, go to a version that is kept here, or show none. Asked
 * after each change of the policy; mfs_engine_open asks it for every model. A withdrawn version stays
 * named in the anchor and is shown again if the revocation is lifted.
 *
 * changed  another version is shown now, or none: to be brought into the tree at once
 * fetch    NULL, or receives the rollback_to that is wanted and not here (manifest zero: none)
 * errors   REVOKED (it was to go back, nothing here is fit, and it is withdrawn instead), IO, NO_MEMORY
 */
enum mfs_code mfs_engine_enforce(struct mfs_engine *e, size_t i, bool *changed, struct mfs_policy_entry *fetch,
	struct mfs_err *err);

/*
 * Once more where the last try of _enforce failed for this host's own reasons: its state could not be written, or no
 * memory. Else nothing. To be asked from time to time; as _enforce otherwise.
 */
enum mfs_code mfs_engine_enforce_again(struct mfs_engine *e, size_t i, bool *changed, struct mfs_err *err);

/*
 * Make a version that a revocation's rollback_to names the active one; it may lie below the floor
 * (mfs_decide_rollback_to), and the floor stays. Its blobs and manifest stand in the store.
 * errors  as mfs_engine_activate, ROLLBACK_ATTEMPT when no revocation leads to it
 */
enum mfs_code mfs_engine_rollback_to(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, char *from, char *to,
	struct mfs_err *err);

/*
 * The k-th version of model i (0 the active one, then those that are retained) when nothing stands in its way but
 * bytes that the store lacks, or the wrap of its content key for this host's model key (key_code then says so); NULL
 * when that is not its trouble. Release it. _restored: they are there again; shows and opens them, or goes where a revocation wanted to go and could not. As _enforce otherwise
 *
 * quick  of what is shown, do not read again what was signed (and bring its two copies up to each other): nobody
 *        waits for the lock meanwhile
 * end    there is no such version, nor any after it
 */
enum mfs_code mfs_engine_lost(struct mfs_engine *e, size_t i, size_t k, bool quick, bool *end, struct mfs_version **out,
	struct mfs_err *err);
enum mfs_code mfs_engine_restored(struct mfs_engine *e, size_t i, bool *changed, struct mfs_err *err);
/*
 * Loading a version failed so: what was kept of it, and verified then, is lost or was changed on disk. Says nothing
 * about the version: it is had again.
 */
bool mfs_kept_lost(enum mfs_code code);

/*
 * The k-th version as the anchor names it, also when what was signed of it is lost; false: there is none. _signed_restore:
 * the same bytes were had again (they hash to id, and their signatures were verified): kept twice, as long as the anchor
 * names it. errors CONDITION_UNMET (it does not any more), IO, INSUFFICIENT_STORAGE
 */
bool mfs_engine_kept(struct mfs_engine *e, size_t i, size_t k, struct mfs_vref *out);
enum mfs_code mfs_engine_signed_restore(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, const struct mfs_signed *s,
	struct mfs_err *err);

/* The trust list of model i changed (mfs_keys_trust_set): verify what is shown by it. As _enforce otherwise. */
enum mfs_code mfs_engine_recheck(struct mfs_engine *e, size_t i, bool *changed, struct mfs_err *err);

/*
 * The trust lists of the anchor into args->keys, beside a serve that holds the state and may be writing it:
 * for a child that verifies a bundle before serve is asked. config, keys and state_dirfd are used.
 * errors  as mfs_trusted_open; the configuration's own keys count all the same
 */
enum mfs_code mfs_engine_trust_peek(const struct mfs_engine_args *args, struct mfs_err *err);

/* Show nothing of model i for this reason until it is called with MFS_OK (`stale: stop`). Not durable. */
enum mfs_code mfs_engine_stop(struct mfs_engine *e, size_t i, enum mfs_code code, const char *detail, bool *changed,
	struct mfs_err *err);

/* ---- when the state cannot be written (engine_full.c) ---------------------------------------------- */

/*
 * fn as in mfs_engine_anchor_update, for a change that only forbids more: written if that is possible, with the
 * reserve if need be, else in force from memory, which is an event, and written later (mfs_engine_written, and any
 * other change). The next serve finds it in args->held; a restart of the host finds the anchor of the disk.
 * errors what fn returned
 */
enum mfs_code mfs_engine_anchor_hold(struct mfs_engine *e,
	enum mfs_code (*fn)(void *user, struct mfs_anchor *a, bool *write, struct mfs_err *err), void *user,
	struct mfs_err *err);

/* Something that was verified about model i could not be written: _check and mfs_engine_room() say so until it is MFS_OK. */
void mfs_engine_unwritten(struct mfs_engine *e, size_t i, const struct mfs_err *why);
enum mfs_code mfs_engine_unwritten_check(struct mfs_engine *e, size_t i, struct mfs_err *err);

/*
 * May anything new become active for model i, as far as the state's disk goes? MFS_OK when everything in force is
 * written, the reserve is whole, and there is room beside it; asked before an update begins and right before activation.
 * errors  INSUFFICIENT_STORAGE, IO, ...: as what could not be written
 */
enum mfs_code mfs_engine_room(struct mfs_engine *e, size_t i, struct mfs_err *err);

/* Did this engine find something in args->held that the disk did not have? Then its repositories are asked at once. */
bool mfs_engine_took_over(struct mfs_engine *e);

/* The end of a serve: once more as _written; over, that of the mount: what is lost with it is said in the log. */
void mfs_engine_last_write(struct mfs_engine *e, bool over);

/* Write what is in force from memory alone, and fill the reserve; true: nothing is left to do, and there is room. After each check, and by time. */
bool mfs_engine_written(struct mfs_engine *e);

/* The reserve of state/reserve (reserve.h): serve makes it, who finds one fills it. _reserve: for what refresh writes. */
bool mfs_engine_reserve_fill(struct mfs_engine *e, bool create);
struct mfs_reserve;
struct mfs_reserve *mfs_engine_reserve(struct mfs_engine *e);

struct mfs_engine_state { /* for status; from memory */
	bool kept, full;        /* a reserve is kept; its disk is full */
	uint64_t reserve, want; /* bytes of it now, and when it is whole */
	char unwritten[256];    /* why what is in force is not on the disk; empty: it is */
};
void mfs_engine_state_facts(struct mfs_engine *e, struct mfs_engine_state *out);

/* ---- updates (engine_update.c) ------------------------------------------------------------------- */

/*
 * As mfs_engine_activate, for the cycle.
 *
 * observe_s  > 0: the floor is not raised; the version is under observation for so many seconds, until
 *            _commit or _condemn. 0: committed at once
 * by_hand    an installation: events have source "install", else "cycle"
 */
enum mfs_code mfs_engine_activate_observed(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, bool by_hand,
	int64_t observe_s, bool *same, char *from, char *to, struct mfs_err *err);

/*
 * What stands between a manifest and its activation besides its bytes: pin, hold, and what
 * mfs_engine_decide says, compatibility with this host first. It need not be in the store.
 *
 * errors  PINNED, HELD, INCOMPATIBLE_*, as mfs_decide_install
 */
enum mfs_code mfs_engine_eligible(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, enum mfs_install *how,
	struct mfs_err *err);

/* Is this manifest older than the active version, which may stay (mfs_policy_behind)? active: that version. */
bool mfs_engine_behind(struct mfs_engine *e, size_t i, const struct mfs_manifest *m, char active[MFS_VERSION_MAX + 1]);

/*
 * Keep what was signed in state and store, so that an attempt of model i goes on after a restart without its
 * repository. No collection takes it, nor what it names, until an attempt for it is written and over.
 */
enum mfs_code mfs_engine_keep_signed(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id,
	const struct mfs_signed *s, struct mfs_err *err);
/* The version as it lies there: signature and key trust are checked anew. Blobs need not be there. */
enum mfs_code mfs_engine_version(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_version **out,
	struct mfs_err *err);
/*
 * Verify and stage: signature, trust, compatibility, key; every blob stands in the store; the first chunk of
 * every file opens. errors as those; KEY_UNAVAILABLE, DECRYPT_FAILED, IO, HASH_MISMATCH (a stored byte)
 */
enum mfs_code mfs_engine_stage(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err);

/*
 * What the last check found for model i, for status after a restart. Written with the next change of the cycle document:
 * whoever checks writes it at the end. code OK: there is nothing to say.
 */
void mfs_engine_offer(struct mfs_engine *e, size_t i, enum mfs_code code, const char *detail);

/* The id of model i's key; zero without one. */
void mfs_engine_model_key(const struct mfs_engine *e, size_t i, struct mfs_sha256 *out);

/* The update of model i as persisted; waits for nothing. */
void mfs_engine_update_get(struct mfs_engine *e, size_t i, struct mfs_engine_update *out);

/*
 * The record of an attempt, durable when it returns; a NULL detail is none. Failing, nothing changed.
 *
 * expect  what the record must be about and where it must stand; another attempt superseded it, or it was ended
 *         meanwhile: CONDITION_UNMET. NULL: any
 *
 * _observation goes on with the one that is under way: CONDITION_UNMET when another version is observed by now, or none.
 * Of zero manifest: there is none any more.
 *
 * _refuse remembers a refusal, ends the attempt for that version, and makes it an event and the last
 * outcome unless this very refusal is remembered already (then *known is true).
 */
struct mfs_engine_expect {
	struct mfs_sha256 manifest;
	enum mfs_step step;
};
enum mfs_code mfs_engine_attempt(struct mfs_engine *e, size_t i, const struct mfs_cycle_attempt *a,
	const struct mfs_engine_expect *expect, struct mfs_err *err);
enum mfs_code mfs_engine_refuse(struct mfs_engine *e, size_t i, const struct mfs_cycle_refusal *r, bool *known,
	struct mfs_err *err);
enum mfs_code mfs_engine_observation(struct mfs_engine *e, size_t i, const struct mfs_cycle_observation *o,
	struct mfs_err *err);
/* An event of the cycle and the model's last outcome; not durable by itself. */
void mfs_engine_happened(struct mfs_engine *e, size_t i, const char *from, const char *to, enum mfs_code code,
	const char *detail);

/* The probation is over: raise the floor, trim what is retained. errors NOT_SELECTED (another one is active) */
enum mfs_code mfs_engine_commit(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err);

/*
 * Condemn versions of model i: by a verdict, or by hand (`mark bad`). If the active one is among them the
 * model goes back to `previous` at once, without a hold; *moved says so. With nothing to go back to it
 * shows nothing (`to` is empty then). `from`, `to` as in _activate.
 */
enum mfs_code mfs_engine_condemn(struct mfs_engine *e, size_t i, const struct mfs_sha256 *ids, size_t n,
	enum mfs_code why, const char *detail, bool by_hand, bool *moved, char *from, char *to, struct mfs_err *err);

/*
 * The verdict of a check on v, which is or was under observation; as _condemn otherwise.
 * errors  CONDITION_UNMET: it was committed meanwhile (`mark good`): the operator's word holds, nothing changed
 */
enum mfs_code mfs_engine_condemn_observed(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, enum mfs_code why,
	const char *detail, bool *moved, char *from, char *to, struct mfs_err *err);

/*
 * `mark good|bad ID VERSION|active`: every manifest of that version known here (the active variant first).
 * Good lifts condemnations and commits the active version if it was observed.
 *
 * errors  NOT_SELECTED (no such version is known here; good: nothing to lift or commit)
 */
enum mfs_code mfs_engine_mark(struct mfs_engine *e, size_t i, const char *version, bool good, bool *moved, char *from,
	char *to, struct mfs_err *err);

/*
 * `pin ID VERSION`: nothing else becomes active until _unpin. A retained version becomes active at once
 * (*moved); one that is not here comes with the next update that offers it. errors as mfs_engine_rollback
 */
enum mfs_code mfs_engine_pin(struct mfs_engine *e, size_t i, const char *version, bool *moved, char *from, char *to,
	struct mfs_err *err);

/*
 * A repository as its last checks left it; a copy, no disk. _set is durable when it returns; it leaves
 * timestamp_version as it is, which belongs to refresh.
 */
struct mfs_engine_repo {
	int64_t timestamp_version, last_check, last_success, next_check;
	int64_t fresh_until; /* by the metadata as stored, and `expired_grace`: then nothing new is activated; 0 unknown. Not to be set */
	unsigned failures;
	enum mfs_code why; char detail[256];
};
void mfs_engine_repo_get(struct mfs_engine *e, size_t repo, struct mfs_engine_repo *out);
enum mfs_code mfs_engine_repo_set(struct mfs_engine *e, size_t repo, const struct mfs_engine_repo *r, struct mfs_err *err);

/*
 * The daily byte budget of all models: how many of `want` bytes may be received now, counted as used; and
 * give back what was not. More than was granted is never possible, whatever dies; at most 64 MiB of
 * a day's budget are lost then. 0 also when the state cannot be written. day: days since the epoch; the one before
 * the last known one is that one; an earlier one is today, with what was used (a clock was ahead).
 */
uint64_t mfs_engine_budget_take(struct mfs_engine *e, int64_t day, uint64_t want);
void mfs_engine_budget_give(struct mfs_engine *e, uint64_t unused);
uint64_t mfs_engine_budget_left(struct mfs_engine *e, int64_t day); /* UINT64_MAX without a budget */

/*
 * The candidate of model i: a version whose manifest stands in state or store and whose blobs stand in
 * the store, about to be health-checked. It is loaded, checked as mfs_engine_activate does (signature,
 * key trust, compatibility, content key, blobs), takes part in the model's view as `candidate`, and
 * gc keeps it. Nothing is written: a restart forgets it. Another one replaces it; activating it, or
 * _clear, ends it. Observers are told. Callers go through mfs_view_candidate_set (tree.h).
 *
 * errors  as mfs_engine_activate, without the decision (that is the caller's)
 */
enum mfs_code mfs_engine_candidate_set(struct mfs_engine *e, size_t i, const struct mfs_sha256 *id, struct mfs_err *err);
enum mfs_code mfs_engine_candidate_clear(struct mfs_engine *e, size_t i, struct mfs_err *err);

/*
 * Remove versions beyond `retain` and blobs nobody names. busy() says whether the kernel still
 * holds a version (kept then); NULL: nothing is held.
 */
enum mfs_code mfs_engine_gc(struct mfs_engine *e, bool (*busy)(void *user, const struct mfs_sha256 *id), void *user,
	uint64_t *freed, size_t *removed, struct mfs_err *err);

/* Verify every stored byte of model i (all its versions). Long; the lock is not held while it reads. */
enum mfs_code mfs_engine_verify(struct mfs_engine *e, size_t i, _Atomic int *cancel, _Atomic uint64_t *done,
	struct mfs_err *err);

/*
 * `n` fresh exposure numbers of model i, durable before they are returned (the first of n
 * consecutive ones).
 */
enum mfs_code mfs_engine_exposures(struct mfs_engine *e, size_t i, unsigned n, uint64_t *first, struct mfs_err *err);

const char *mfs_engine_protection(struct mfs_engine *e); /* valid as long as the engine; takes no lock */

/*
 * `modelfs recover`: replace lost, damaged or replayed state. Offline, as root, under state/lock.
 * The new floor of each configured model is the highest of the readable copies of the anchor
 * (whatever their generation) and of all manifests in state and store whose signatures verify
 * now; that highest manifest is active if its blobs stand in the store, else nothing is. What was
 * found is an event. args->cache is not used. A readable state keeps its minima, revocations and
 * bad versions. The file counter is set above every generation seen.
 */
enum mfs_code mfs_engine_recover(const struct mfs_engine_args *args, struct mfs_err *err);

/* ---- installation of a bundle into a store (install.c); no engine needed --------------------- */

/*
 * Copy and verify a bundle into the store: manifest and signatures first, then every payload and
 * table byte as it is copied; tags too when the content key is at hand (a wrong model key is found
 * here). Decides nothing about activation. Call with install.lock held.
 *
 * bundle_fd  the bundle's folder (RESOLVE_BENEATH, no links, regular files only)
 * model      in: index or -1 to find it by the manifest's model_id; out: the index
 * decide     called after the manifest verified and before any byte is copied; may refuse
 * progress   may be NULL
 * errors     every trust outcome with file and offset, INSUFFICIENT_STORAGE, KEY_UNAVAILABLE,
 *            NOT_SELECTED (model not configured)
 */
struct mfs_install_args {
	const struct mfs_config *config;
	const struct mfs_keys *keys;
	struct mfs_store *store;
	int bundle_fd;
	const char *bundle_name; /* for messages */
	ssize_t model;
	enum mfs_code (*decide)(void *user, size_t model, const struct mfs_manifest *m, struct mfs_err *err);
	void (*progress)(void *user, uint64_t done, uint64_t total);
	void *user;
};
enum mfs_code mfs_install_bundle(struct mfs_install_args *args, struct mfs_sha256 *id, struct mfs_err *err);

/* The host as mfs_compat_check wants it: platform, memory, page size, configured labels and versions. */
void mfs_device_describe(const struct mfs_config *c, size_t model, struct mfs_device *out);

#endif
