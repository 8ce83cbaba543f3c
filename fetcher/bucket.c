/* SPDX-License-Identifier: Apache-2.0 */
/* bucket.c - a token bucket of a quarter of a second. */
#include "fetcher.h"

void
bucket_fill(struct bucket *b, int64_t now_ms)
{
	const int64_t most = (int64_t)(b->rate / 4 + 1);
	int64_t passed = now_ms - b->at_ms;

	if (b->rate == 0)
		return;
	if (passed > 1000)
		passed = 1000;
	if (passed <= 0)
		return;
	b->at_ms = now_ms;
	b->tokens += (int64_t)(b->rate / 1000) * passed + (int64_t)(b->rate % 1000) * passed / 1000;
	if (b->tokens > most)
		b->tokens = most;
}

bool
bucket_take(struct bucket *b, size_t n)
{
	if (b->rate == 0)
		return true;
	if (b->tokens <= 0)
		return false;
	b->tokens -= (int64_t)n;
	return true;
}

int64_t
bucket_wait_ms(const struct bucket *b)
{
	if (b->rate == 0 || b->tokens > 0)
		return 0;
	return -b->tokens * 1000 / (int64_t)b->rate + 1;
}
