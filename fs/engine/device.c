/* SPDX-License-Identifier: Apache-2.0 */
/* What this host says of itself to compatibility checks. */
#include <unistd.h>

#include "engine.h"

#if defined(__x86_64__)
#define PLATFORM "linux/amd64"
#elif defined(__aarch64__)
#define PLATFORM "linux/arm64"
#elif defined(__arm__)
#define PLATFORM "linux/arm"
#elif defined(__riscv) && __riscv_xlen == 64
#define PLATFORM "linux/riscv64"
#else
#define PLATFORM "linux/unknown"
#endif

void
mfs_device_describe(const struct mfs_config *c, size_t model, struct mfs_device *out)
{
	long page = sysconf(_SC_PAGESIZE), pages = sysconf(_SC_PHYS_PAGES);

	*out = (struct mfs_device){
		.platform = PLATFORM,
		.page_size = page > 0 ? (uint64_t)page : 4096,
		.labels = c->labels, .n_labels = c->n_labels,
		.apps = c->apps, .n_apps = c->n_apps,
		.runtimes = c->runtimes, .n_runtimes = c->n_runtimes,
	};
	out->memory = pages > 0 ? (uint64_t)pages * out->page_size : 0;
	if (model < c->n_models) {
		out->input_schema = c->models[model].input_schema;
		out->output_schema = c->models[model].output_schema;
		out->preprocess = c->models[model].preprocess;
	}
}
