/* SPDX-License-Identifier: Apache-2.0 */
#include "verify_help.h"

static char any_name[] = "onnxruntime", other_name[] = "llama", low[] = "1.2.0", high[] = "2.0.0", site[] = "site",
	x[] = "x", y[] = "y", amd64[] = "linux/amd64", arm64[] = "linux/arm64";

Test(compat, platform)
{
	char *platforms[] = { amd64, arm64, NULL };
	struct mfs_manifest m = { .compat.platforms = platforms };
	struct mfs_device d = { .platform = "linux/arm64" };

	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	d.platform = "linux/arm";
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "compat.platforms: 'linux/amd64' or others wanted, this host is 'linux/arm'",
		mfs_compat_check(&m, &d, err));
	d.platform = NULL;
	expect(MFS_INCOMPATIBLE_RUNTIME, mfs_compat_check(&m, &d, err));
	m.compat.platforms = NULL;
	expect(MFS_OK, mfs_compat_check(&m, &d, err));
}

Test(compat, memory_and_page_size)
{
	struct mfs_manifest m = { .compat = { .memory = 1000, .page_size = 16384 } };
	struct mfs_device d = { .memory = 1000, .page_size = 16384 };

	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	d.memory = 999;
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "compat.memory: 1000 bytes wanted, this host has 999",
		mfs_compat_check(&m, &d, err));
	d.memory = 1000;
	d.page_size = 65536;
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "compat.page_size", mfs_compat_check(&m, &d, err));
	d.page_size = 4096;
	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	d.page_size = 0; /* unknown is not small */
	expect(MFS_INCOMPATIBLE_RUNTIME, mfs_compat_check(&m, &d, err));
}

Test(compat, labels)
{
	char *values[] = { x, y, NULL };
	struct mfs_label label = { site, values };
	struct mfs_range have = { .name = site, .min = y };
	struct mfs_manifest m = { .compat = { .labels = &label, .n_labels = 1 } };
	struct mfs_device d = { .labels = &have, .n_labels = 1 };

	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	have.min = low;
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "compat.labels.site", mfs_compat_check(&m, &d, err));
	d.n_labels = 0;
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "no 'site'", mfs_compat_check(&m, &d, err));
}

Test(compat, one_runtime_suffices_and_every_app_counts)
{
	struct mfs_range want[] = { { any_name, low, high }, { other_name, NULL, NULL } };
	char v[16] = "1.1.9";
	struct mfs_range have = { any_name, v, NULL };
	struct mfs_manifest m = { .compat = { .runtimes = want, .n_runtimes = 2 } };
	struct mfs_device d = { .runtimes = &have, .n_runtimes = 1 };

	expect_says(MFS_INCOMPATIBLE_RUNTIME, "'onnxruntime' from 1.2.0 to 2.0.0 wanted, this host has 1.1.9",
		mfs_compat_check(&m, &d, err));
	strcpy(v, "1.2.0");
	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	strcpy(v, "2.0.1");
	expect(MFS_INCOMPATIBLE_RUNTIME, mfs_compat_check(&m, &d, err));
	strcpy(v, "1.2.0-rc1");
	expect(MFS_INCOMPATIBLE_RUNTIME, mfs_compat_check(&m, &d, err));
	strcpy(v, "1.5"); /* cannot be compared: no */
	expect(MFS_INCOMPATIBLE_RUNTIME, mfs_compat_check(&m, &d, err));
	have.name = other_name;
	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	m.compat = (struct mfs_compat){ .apps = want, .n_apps = 2 };
	d = (struct mfs_device){ .apps = &have, .n_apps = 1 };
	expect_says(MFS_INCOMPATIBLE_RUNTIME, "compat.apps: 'onnxruntime'", mfs_compat_check(&m, &d, err));
}

Test(compat, schemas)
{
	struct mfs_manifest m = { .compat.input_schema = { { 1 } } };
	struct mfs_device d = { 0 };

	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	d.input_schema.b[0] = 1;
	expect(MFS_OK, mfs_compat_check(&m, &d, err));
	d.input_schema.b[1] = 1;
	expect_says(MFS_INCOMPATIBLE_SCHEMA, "compat.input_schema_sha256", mfs_compat_check(&m, &d, err));
	d.input_schema = m.compat.input_schema;
	d.output_schema.b[0] = 1;
	expect_says(MFS_INCOMPATIBLE_SCHEMA, "the model has none", mfs_compat_check(&m, &d, err));
	d.output_schema.b[0] = 0;
	d.preprocess.b[0] = 1;
	expect(MFS_INCOMPATIBLE_SCHEMA, mfs_compat_check(&m, &d, err));
}
