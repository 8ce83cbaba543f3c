/* SPDX-License-Identifier: Apache-2.0 */
/* An inventory against policies: what is counted, in which order it is listed, what is refused. */
#include "verify_help.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plan.h"

#define NOW 1800000000

static char path[64];

/* An inventory of its own, by name. */
static void
inventory(const char *text, size_t len)
{
	const int fd = memfd_create("inventory", 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, len), (ssize_t)len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
}

/* `fraction` of class jetson get 2.0.0, all get 1.0.0. */
static struct mfs_plan *
plan(int64_t fraction)
{
	struct mfs_policy_entry e = { .manifest = { { 2 } }, .version = "2.0.0", .variant = "default", .release = 2 };
	struct mfs_plan *p = calloc(1, sizeof(*p));
	struct mfs_policy_rollout *r;
	struct mfs_policy_variant *v;
	struct mfs_policy *policy;

	expect(MFS_OK, mfs_policy_new("det", &policy, err));
	policy->sequence = 3;
	expect(MFS_OK, mfs_policy_rollout_add(policy, 0, "new", "salt", &r, err));
	expect(MFS_OK, mfs_match_add(&r->match, "class", "jetson", err));
	expect(MFS_OK, mfs_policy_variant_add(r, &e, &v, err));
	expect(MFS_OK, mfs_policy_step_add(r, fraction, 0, false, err));
	e.manifest.b[0] = 1;
	strcpy(e.version, "1.0.0");
	e.release = 1;
	expect(MFS_OK, mfs_policy_rollout_add(policy, 1, "old", "salt", &r, err));
	expect(MFS_OK, mfs_policy_variant_add(r, &e, &v, err));
	expect(MFS_OK, mfs_match_add(&v->match, "site", "x", err));
	expect(MFS_OK, mfs_policy_step_add(r, 10000, 0, false, err));
	expect(MFS_OK, mfs_plan_add(p, NULL, policy, err));
	return p;
}

static enum mfs_code
run(struct mfs_plan *p, unsigned threads, FILE *list, struct mfs_err *err)
{
	struct mfs_inventory *v;
	enum mfs_code code = mfs_inventory_open(path, &v, err);

	if (code != MFS_OK)
		return code;
	code = mfs_plan_run(p, v, NOW, threads, list, err);
	mfs_inventory_free(v);
	return code;
}

#define LINE(text) text "\n"

Test(plan, a_small_inventory)
{
	static const char text[] = LINE("{\"id\":\"a\",\"class\":\"jetson\",\"labels\":{\"site\":\"y\"}}")
		LINE("") LINE("  ")
		LINE("{\"id\":\"b\",\"class\":\"pi\",\"labels\":{\"site\":\"x\"},\"device_key_id\":\"00\",\"more\":[1,{}]}")
		LINE("{ \"id\" : \"c\", \"class\" : null, \"apps\": {\"vision\":\"3.2.0\"} }\r")
		LINE("{\"id\":\"d\",\"models\":[\"seg\"]}")
		"{\"id\":\"a\",\"class\":\"jetson\",\"models\":[\"seg\",\"det\"]}";
	struct mfs_plan *p = plan(10000);
	char *list = NULL, *said = NULL;
	size_t n;
	FILE *f = open_memstream(&list, &n);

	inventory(text, strlen(text));
	expect(MFS_OK, run(p, 3, f, err));
	fclose(f);
	cr_assert_str_eq(list, "a\tdet\t2.0.0\tdefault\t2\tnew\t6377\nb\tdet\t1.0.0\tdefault\t1\told\t1516\n"
			       "c\tdet\t-\tno variant matches this device\na\tdet\t2.0.0\tdefault\t2\tnew\t6377\n");
	cr_assert_eq(p->devices, 5);
	cr_assert_eq(p->twice, 1);
	cr_assert_eq(p->models[0].devices, 4);
	cr_assert_eq(p->models[0].taken[0], 2);
	cr_assert_eq(p->models[0].taken[1], 1);
	cr_assert_eq(p->models[0].none[MFS_WHY_VARIANT], 1);
	f = open_memstream(&said, &n);
	mfs_plan_print(p, f);
	fclose(f);
	cr_assert_not_null(strstr(said, "det: policy 3, 4 devices\n"), "%s", said);
	cr_assert_not_null(strstr(said, "           2     50.00 %  2.0.0 (default), release 2: rollout new"), "%s", said);
	cr_assert_not_null(strstr(said, "           1     25.00 %  nothing: no variant matches this device"), "%s", said);
	free(list);
	free(said);
	mfs_plan_free(p);
}

Test(plan, what_does_not_fit_is_not_counted_as_taken)
{
	static char vision[] = "vision", v4[] = "4.0.0", site[] = "site", x[] = "x", gpu[] = "gpu";
	static char *sites[] = { x, NULL }, *platforms[] = { gpu, NULL };
	static struct mfs_label label = { site, sites };
	static struct mfs_range app = { vision, v4, NULL };
	static const char text[] = LINE("{\"id\":\"a\",\"class\":\"jetson\",\"labels\":{\"site\":\"x\"},\"apps\":{\"vision\":\"4.0.0\"}}")
		LINE("{\"id\":\"b\",\"class\":\"jetson\",\"labels\":{\"site\":\"x\"},\"apps\":{\"vision\":\"3.9.0\"}}")
		LINE("{\"id\":\"c\",\"class\":\"jetson\",\"labels\":{\"site\":\"x\"},\"apps\":{\"vision\":\"4.0.0\"},\"platform\":\"other\"}");
	struct mfs_plan *p = plan(10000);
	struct mfs_manifest m = { .key_epoch = 1, .release = 2, .compat = { .labels = &label, .n_labels = 1, .apps = &app,
		.n_apps = 1, .memory = 1u << 30, .platforms = platforms } };

	p->models[0].manifests[0] = &m;
	inventory(text, strlen(text));
	expect(MFS_OK, run(p, 2, NULL, err));
	cr_assert_eq(p->models[0].taken[0], 1); /* platform and memory of a are not known: they may fit */
	cr_assert_eq(p->models[0].refused[0], 2);
	p->models[0].policy->min_key_epoch = 2;
	expect(MFS_OK, run(p, 2, NULL, err));
	cr_assert_eq(p->models[0].taken[0], 1);
	cr_assert_eq(p->models[0].refused[0], 5);
	p->models[0].manifests[0] = NULL;
	mfs_plan_free(p);
}

Test(plan, a_model_may_have_a_channel_of_its_own)
{
	static const char text[] = LINE("{\"id\":\"a\",\"class\":\"jetson\",\"channel\":\"stable\",\"channels\":{\"det\":\"beta\"}}")
		LINE("{\"id\":\"b\",\"class\":\"jetson\",\"channel\":\"stable\",\"channels\":{\"seg\":\"beta\"}}")
		LINE("{\"id\":\"c\",\"class\":\"jetson\",\"channel\":\"beta\"}");
	struct mfs_plan *p = plan(10000);

	expect(MFS_OK, mfs_match_add(&p->models[0].policy->rollouts[0].match, "channel", "beta", err));
	inventory(text, strlen(text));
	expect(MFS_OK, run(p, 1, NULL, err));
	cr_assert_eq(p->models[0].taken[0], 2);
	cr_assert_eq(p->models[0].none[MFS_WHY_VARIANT], 1);
	mfs_plan_free(p);
}

static void
refused(const char *text, const char *says)
{
	for (unsigned threads = 1; threads <= 3; threads += 2) {
		struct mfs_plan *p = plan(10000);

		inventory(text, strlen(text));
		expect_says(MFS_MALFORMED, says, run(p, threads, NULL, err));
		mfs_plan_free(p);
	}
}

Test(plan, a_bad_line_is_named)
{
	refused("{\"id\":\"a\"}\n\n{\"id\":\"b\"\n{\"id\":\"c\"}\n", "line 3: byte");
	refused("{\"id\":\"a\"}\n{}\n", "line 2: id: wanted");
	refused("{\"id\":\"\"}\n", "line 1: id: wanted");
	refused("{\"id\":7}\n", "line 1: id: not a string");
	refused("[{\"id\":\"a\"}]\n", "line 1: not a JSON object");
	refused("{\"id\":\"a\",\"id\":\"b\"}\n", "line 1: id: twice");
	refused("{\"id\":\"a\",\"labels\":{\"x\":\"1\",\"x\":\"2\"}}\n", "line 1: labels.x: twice");
	refused("{\"id\":\"a\",\"memory\":1.5}\n", "line 1: byte 20: not JSON: an integer");
	refused("{\"id\":\"a\\u0000\"}\n", "line 1: byte 9: not JSON: not an escape");
	refused("{\"id\":\"\xc0\xaf\"}\n", "line 1: byte 8: not JSON: not UTF-8");
	refused("{\"id\":\"a\",\"x\":[1,]}\n", "not JSON: not a value");
	refused("{\"id\":\"a\",}\n", "not JSON: a string is wanted");
	refused("{\"id\":\"a\",\"class\":[]}\n", "line 1: class: not a string");
	refused("{\"id\":\"a\",\"labels\":[]}\n", "line 1: labels: not an object");
	refused("{\"id\":\"a\",\"labels\":{\"x\":1}}\n", "line 1: labels.x: not a string");
	refused("{\"id\":\"a\",\"memory\":-1}\n", "line 1: memory: not a number");
	refused("{\"id\":\"a\",\"models\":\"det\"}\n", "line 1: models: not a list");
	refused("{\"id\":\"a\"} {\"id\":\"b\"}\n", "line 1: byte");
}

Test(plan, a_line_longer_than_a_block_is_refused)
{
	const size_t n = MFS_INVENTORY_BLOCK + 100;
	char *text = malloc(n);
	struct mfs_plan *p = plan(10000);

	memset(text, ' ', n);
	inventory(text, n);
	expect_says(MFS_LIMIT_EXCEEDED, "line 1: longer", run(p, 2, NULL, err));
	strcpy(path, "/nonexistent/inventory");
	expect(MFS_IO, run(p, 2, NULL, err));
	mfs_plan_free(p);
	free(text);
}

#define FLEET 100000

/* Some 8 MiB: lines that cross the ends of blocks, and several threads. */
static void
fleet(void)
{
	char *text = malloc(FLEET * 128), *p = text;

	for (int i = 0; i < FLEET; i++)
		p += sprintf(p, "{\"id\":\"device-%d\",\"class\":\"jetson\",\"labels\":{\"site\":\"x\",\"pad\":\"%.*s\"}}\n", i, i % 40,
			"........................................");
	inventory(text, (size_t)(p - text));
	free(text);
}

Test(plan, a_cohort_has_the_size_of_its_fraction_and_is_the_same_on_any_number_of_threads)
{
	const double mean = FLEET * 0.1, variance = mean * 0.9;
	uint64_t first = 0;
	char *lists[2] = { NULL, NULL };

	fleet();
	for (unsigned i = 0; i < 2; i++) {
		struct mfs_plan *p = plan(1000);
		double n;
		size_t len;
		FILE *f = open_memstream(&lists[i], &len);

		expect(MFS_OK, run(p, i == 0 ? 1 : 4, f, err));
		fclose(f);
		n = (double)p->models[0].taken[0];
		cr_assert((n - mean) * (n - mean) <= 25 * variance, "%.0f of %d", n, FLEET);
		cr_assert_eq(p->models[0].taken[0] + p->models[0].taken[1], FLEET);
		cr_assert_eq(p->twice, 0);
		cr_assert(i == 0 || first == p->models[0].taken[0]);
		first = p->models[0].taken[0];
		mfs_plan_free(p);
	}
	cr_assert_str_eq(lists[0], lists[1]);
	cr_assert_eq(strncmp(lists[0], "device-0\tdet\t", 13), 0);
	free(lists[0]);
	free(lists[1]);
}

Test(plan, whoever_is_in_a_step_stays_in_the_next)
{
	char *before = NULL, *after = NULL, *b, *a, *sb, *sa;
	struct mfs_plan *p = plan(500), *q = plan(2000);
	size_t n, in = 0;
	FILE *f;

	fleet();
	f = open_memstream(&before, &n);
	expect(MFS_OK, run(p, 2, f, err));
	fclose(f);
	f = open_memstream(&after, &n);
	expect(MFS_OK, run(q, 2, f, err));
	fclose(f);
	b = strtok_r(before, "\n", &sb);
	a = strtok_r(after, "\n", &sa);
	for (; b != NULL && a != NULL; b = strtok_r(NULL, "\n", &sb), a = strtok_r(NULL, "\n", &sa)) {
		if (strstr(b, "\t2.0.0\t") == NULL)
			continue;
		cr_assert_not_null(strstr(a, "\t2.0.0\t"), "%s, then %s", b, a);
		in++;
	}
	cr_assert(a == NULL && b == NULL);
	cr_assert_eq(in, p->models[0].taken[0]);
	cr_assert_gt(q->models[0].taken[0], 3 * in);
	free(before);
	free(after);
	mfs_plan_free(p);
	mfs_plan_free(q);
}
