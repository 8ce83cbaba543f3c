/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io.h"

#define DRAW_EVERY_MS 200
#define LINES_FROM    (1ull << 30) /* bytes; less work is done before anyone wonders */

struct mfs_progress {
	pthread_mutex_t lock;
	const char *verb;
	uint64_t total;
	bool terminal;
	uint64_t done;      /* lock */
	int64_t start_ms;
	int64_t drawn_ms;   /* lock; terminal */
	unsigned quarters;  /* lock; no terminal: said so far */
};

const char *
mfs_size_text(char out[32], uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < sizeof(units) / sizeof(units[0])) {
		v /= 1024;
		u++;
	}
	(void)snprintf(out, 32, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
	return out;
}

struct mfs_progress *
mfs_progress_new(const char *verb, uint64_t total, int quiet)
{
	struct mfs_progress *p;

	const bool terminal = isatty(STDERR_FILENO) == 1;

	if (quiet || total == 0 || (!terminal && total < LINES_FROM) || (p = calloc(1, sizeof(*p))) == NULL)
		return NULL;
	if (pthread_mutex_init(&p->lock, NULL) != 0) {
		free(p);
		return NULL;
	}
	p->terminal = terminal;
	p->verb = verb;
	p->total = total;
	p->start_ms = p->drawn_ms = mfs_clock_mono_ms();
	return p;
}

/* Under the lock. */
static void
progress_draw(const struct mfs_progress *p, int64_t now)
{
	double share = (double)p->done / (double)p->total;
	double seconds = (double)(now - p->start_ms) / 1000;
	double rate = seconds > 0 ? (double)p->done / seconds : 0;
	char bar[21];

	if (share > 1)
		share = 1;
	for (int i = 0; i < 20; i++)
		bar[i] = share * 20 > i ? '=' : ' ';
	bar[20] = '\0';
	(void)fprintf(stderr, "\r%s [%s] %3.0f %%  %s/s", p->verb, bar, share * 100, MFS_SIZE((uint64_t)rate));
	if (rate > 0 && p->done < p->total) {
		uint64_t left = (uint64_t)((double)(p->total - p->done) / rate);

		(void)fprintf(stderr, "  %llu:%02llu left", (unsigned long long)(left / 60),
			(unsigned long long)(left % 60));
	}
	(void)fprintf(stderr, "\033[K");
	(void)fflush(stderr);
}

/* Under the lock: three lines in all. */
static void
progress_line(struct mfs_progress *p)
{
	unsigned quarters = (unsigned)((double)p->done / (double)p->total * 4);

	if (quarters <= p->quarters || quarters > 3)
		return;
	p->quarters = quarters;
	(void)fprintf(stderr, "%s: %u %% of %s\n", p->verb, quarters * 25, MFS_SIZE(p->total));
}

void
mfs_progress_add(struct mfs_progress *p, uint64_t done)
{
	int64_t now;

	if (p == NULL)
		return;
	now = mfs_clock_mono_ms();
	(void)pthread_mutex_lock(&p->lock);
	p->done += done;
	if (p->terminal && now - p->drawn_ms >= DRAW_EVERY_MS) {
		p->drawn_ms = now;
		progress_draw(p, now);
	} else if (!p->terminal) {
		progress_line(p);
	}
	(void)pthread_mutex_unlock(&p->lock);
}

void
mfs_progress_end(struct mfs_progress *p)
{
	if (p == NULL)
		return;
	if (p->terminal)
		(void)fprintf(stderr, "\r\033[K");
	(void)fflush(stderr);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}
