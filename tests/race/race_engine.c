/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads on one engine: views, exposures, changes, collection and events at once. A plain main,
 * since a ThreadSanitizer build does not start under Criterion. Ends with 0 when every view was
 * whole and no exposure was given twice.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

#define ROUNDS 40
#define TAKERS 2

static struct device d;
static struct mfs_sha256 versions[2];
static _Atomic int stop;
static uint64_t taken[TAKERS][4096];
static size_t n_taken[TAKERS];

#define REQUIRE(condition)                                                                          \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			fprintf(stderr, "race_engine: %s\n", #condition);                           \
			abort();                                                                    \
		}                                                                                   \
	} while (0)

static void *
viewer(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		struct mfs_err err = MFS_ERR_INIT;
		struct mfs_engine_model m;

		REQUIRE(mfs_engine_model_get(d.engine, 0, &m, &err) == MFS_OK);
		REQUIRE(m.n >= 1 && m.versions[0].active);
		for (size_t i = 0; i < m.n; i++)
			REQUIRE(strcmp(m.versions[i].v->m->model_id, "det") == 0);
		mfs_engine_model_free(&m);
	}
	return NULL;
}

static void *
taker(void *arg)
{
	size_t k = *(size_t *)arg;

	while (!atomic_load(&stop) && n_taken[k] < 4096) {
		struct mfs_err err = MFS_ERR_INIT;

		REQUIRE(mfs_engine_exposures(d.engine, 0, 1, &taken[k][n_taken[k]], &err) == MFS_OK);
		n_taken[k]++;
	}
	return NULL;
}

static void *
collector(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		struct mfs_err err = MFS_ERR_INIT;
		uint64_t freed;
		size_t removed, len;
		char *text;

		REQUIRE(mfs_engine_gc(d.engine, NULL, NULL, &freed, &removed, &err) == MFS_OK);
		REQUIRE(mfs_engine_verify(d.engine, 0, NULL, NULL, &err) == MFS_OK);
		REQUIRE(mfs_events_render(d.events, "det", 65536, &text, &len, &err) == MFS_OK);
		free(text);
		(void)mfs_events_wait(d.events, 0, 1);
	}
	return NULL;
}

static void
changed(void *user, size_t i, const struct mfs_engine_model *m)
{
	(void)i;
	*(uint64_t *)user = m->generation;
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int
main(void)
{
	static const struct mk_file files[2] = { { "model.bin", 70000, 1 }, { "model.bin", 70000, 2 } };
	static uint64_t all[TAKERS * 4096];
	pthread_t threads[2 + TAKERS];
	size_t index[TAKERS], n = 0;
	uint64_t generation = 0;

	device_make(&d, "");
	device_open(&d);
	mfs_engine_observe(d.engine, changed, &generation);
	for (int i = 0; i < 2; i++)
		device_install(&d, &(struct mk_bundle){ .version = i == 0 ? "1.0.0" : "2.0.0", .release = i + 1,
			.files = &files[i], .n_files = 1 }, &versions[i]);
	REQUIRE(pthread_create(&threads[0], NULL, viewer, NULL) == 0);
	REQUIRE(pthread_create(&threads[1], NULL, collector, NULL) == 0);
	for (size_t k = 0; k < TAKERS; k++) {
		index[k] = k;
		REQUIRE(pthread_create(&threads[2 + k], NULL, taker, &index[k]) == 0);
	}
	for (int i = 0; i < ROUNDS; i++) {
		struct mfs_err err = MFS_ERR_INIT;
		bool held;

		REQUIRE(mfs_engine_rollback(d.engine, 0, NULL, NULL, &err) == MFS_OK);
		REQUIRE(mfs_engine_unpin(d.engine, 0, &held, &err) == MFS_OK && held);
		REQUIRE(device_activate(&d, &versions[1], &err) == MFS_OK);
	}
	REQUIRE(generation == 2 + 2 * ROUNDS);
	atomic_store(&stop, 1);
	for (size_t k = 0; k < 2 + TAKERS; k++)
		(void)pthread_join(threads[k], NULL);
	for (size_t k = 0; k < TAKERS; k++)
		for (size_t i = 0; i < n_taken[k]; i++)
			all[n++] = taken[k][i];
	qsort(all, n, sizeof(all[0]), compare);
	for (size_t i = 1; i < n; i++)
		REQUIRE(all[i] != all[i - 1]);
	REQUIRE(n > 0);
	device_free(&d);
	printf("race_engine: %zu exposures, %d rounds\n", n, ROUNDS);
	return 0;
}
