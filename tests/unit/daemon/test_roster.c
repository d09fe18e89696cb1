/*
 * test_roster.c - the texts beside the core: order by id, references by id, name and batch/name, forgetting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "daemon/roster.h"

struct fixture {
	void *memory;
	struct core *core;
	struct roster roster;
};

static int set_up(void **state)
{
	struct core_limits limits = { .tasks_max = 8192, .edges_max = 64, .slots_max = 4 };
	struct core_config config = { .slots = 1, .slots_hard_max = 4, .backoff_max_ns = 1, .seed = 1 };
	struct fixture *fixture = xcalloc(1, sizeof(*fixture));
	struct effects effects;

	fixture->memory = aligned_alloc(64, (core_size(&limits) + 63) / 64 * 64);
	memset(fixture->memory, 0, core_size(&limits));
	fixture->core = core_init(fixture->memory, &limits, &config);
	core_resume(fixture->core, 1, &effects);
	assert_int_equal(roster_init(&fixture->roster, fixture->core, NULL), 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	roster_done(&fixture->roster);
	free(fixture->memory);
	free(fixture);
	return 0;
}

static struct roster_batch *add_batch(struct fixture *fixture, uint64_t id, const char *name)
{
	struct core_event event = { .kind = CORE_ADD_BATCH, .batch = id };
	struct roster_batch batch = { .id = id, .name = xstrdup(name), .cwd = xstrdup("/") };
	struct effects effects;

	assert_int_equal(core_step(fixture->core, &event, 1, &effects), 0);
	return roster_add_batch(&fixture->roster, &batch);
}

static uint32_t add_task(struct fixture *fixture, struct roster_batch *batch, uint64_t id, const char *name)
{
	struct task task = { .id = id, .batch = batch->id, .state = TASK_HELD };
	struct core_event event = { .kind = CORE_ADD_TASK, .restore = &task };
	struct effects effects;
	uint32_t index;

	assert_int_equal(core_step(fixture->core, &event, 1, &effects), 0);
	index = core_index(fixture->core, id);
	roster_add(&fixture->roster, index, batch, xstrdup(name), xstrdup("{}"));
	return index;
}

static void ids_are_listed_ascending_however_they_come(void **state)
{
	struct fixture *fixture = *state;
	struct roster_batch *batch = add_batch(fixture, 1, NULL);
	static const uint64_t ids[] = { 5, 2, 9, 1, 7 };
	uint64_t last = 0;
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		add_task(fixture, batch, ids[i], NULL);
	roster_forget(&fixture->roster, core_index(fixture->core, 5));
	for (uint32_t at = fixture->roster.first; at != TASK_NONE; at = fixture->roster.tasks[at].next) {
		assert_true(fixture->roster.tasks[at].id > last);
		last = fixture->roster.tasks[at].id;
		count++;
	}
	assert_int_equal(count, 4);
	assert_int_equal(last, 9);
	assert_int_equal(batch->task_count, 4);
}

static void a_name_means_the_latest_task_of_it(void **state)
{
	struct fixture *fixture = *state;
	struct roster_batch *first = add_batch(fixture, 1, "alpha");
	struct roster_batch *second = add_batch(fixture, 2, "beta");
	uint32_t old = add_task(fixture, first, 1, "lint");
	uint32_t new = add_task(fixture, second, 2, "lint");

	assert_int_equal(roster_resolve(&fixture->roster, "lint"), new);
	assert_int_equal(roster_resolve(&fixture->roster, "alpha/lint"), old);
	assert_int_equal(roster_resolve(&fixture->roster, "2/lint"), new);
	assert_int_equal(roster_resolve(&fixture->roster, "1"), old);
	assert_int_equal(roster_resolve(&fixture->roster, "gamma/lint"), TASK_NONE);
	assert_int_equal(roster_resolve(&fixture->roster, "3"), TASK_NONE);
	assert_int_equal(roster_resolve(&fixture->roster, ""), TASK_NONE);
}

/* A name that comes again means the latest batch; when that is forgotten, the one before it. */
static void the_latest_of_a_name_is_meant(void **state)
{
	struct fixture *fixture = *state;
	struct roster_batch *batches[5];
	char other[16];

	batches[3] = add_batch(fixture, 30, "nightly"); /* ids may come in any order */
	batches[0] = add_batch(fixture, 10, "nightly");
	batches[4] = add_batch(fixture, 40, "nightly");
	batches[2] = add_batch(fixture, 20, "nightly");
	for (uint64_t id = 100; id < 5000; id++) { /* more than there are buckets */
		snprintf(other, sizeof(other), "b%llu", (unsigned long long)id);
		add_batch(fixture, id, other);
	}
	assert_ptr_equal(roster_resolve_batch(&fixture->roster, "nightly"), batches[4]);
	roster_forget_batch(&fixture->roster, batches[4]);
	assert_ptr_equal(roster_resolve_batch(&fixture->roster, "nightly"), batches[3]);
	roster_forget_batch(&fixture->roster, batches[0]);
	roster_forget_batch(&fixture->roster, batches[3]);
	assert_ptr_equal(roster_resolve_batch(&fixture->roster, "nightly"), batches[2]);
	roster_forget_batch(&fixture->roster, batches[2]);
	assert_null(roster_resolve_batch(&fixture->roster, "nightly"));
	assert_int_equal(roster_resolve_batch(&fixture->roster, "b4999")->id, 4999);
	assert_null(roster_resolve_batch(&fixture->roster, "b5000"));
}

static void a_batch_survives_its_encoding(void **state UNUSED)
{
	struct roster_batch batch = {
		.cwd = xstrdup("/a b/\"c\""),
		.top = xstrdup("/r"),
		.common_dir = xstrdup("/r/.git"),
		.prefix = xstrdup("sub"),
		.commit = xstrdup("0123"),
		.umask = 027,
		.limit = 3,
		.keeps_worktrees = true,
	};
	CLEANUP_FREE char *text = roster_encode_batch(&batch);
	struct roster_batch back = { 0 };

	assert_int_equal(roster_decode_batch(text, &back, NULL), 0);
	assert_string_equal(back.cwd, batch.cwd);
	assert_string_equal(back.prefix, "sub");
	assert_string_equal(back.commit, "0123");
	assert_int_equal(back.umask, 027);
	assert_int_equal(back.limit, 3);
	assert_true(back.keeps_worktrees);
	assert_true(roster_decode_batch("{\"cwd\": 1}", &back, NULL) < 0);
	for (struct roster_batch *each = &batch; each; each = each == &batch ? &back : NULL) {
		free(each->cwd);
		free(each->top);
		free(each->common_dir);
		free(each->prefix);
		free(each->commit);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ids_are_listed_ascending_however_they_come, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_name_means_the_latest_task_of_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_latest_of_a_name_is_meant, set_up, tear_down),
		cmocka_unit_test(a_batch_survives_its_encoding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
