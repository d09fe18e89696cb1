/* test_table.c - the id table against a plain list, with collisions, wrap-around and removals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mix.h"
#include "base/table.h"

enum { CAPACITY = 64, IDS = 48, OPERATIONS = 50000 };

static void test_against_a_list(void **state UNUSED)
{
	struct table_entry entries[CAPACITY] = { 0 };
	struct table table = { .entries = entries, .capacity = CAPACITY };
	uint32_t model[IDS + 1];
	struct random random = { .state = 2 };
	uint32_t count = 0;

	for (unsigned i = 0; i <= IDS; i++)
		model[i] = TABLE_ABSENT;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint64_t id = 1 + random_below(&random, IDS);

		if (model[id] != TABLE_ABSENT) {
			table_remove(&table, id);
			model[id] = TABLE_ABSENT;
			count--;
		} else if (count < CAPACITY / 2) {
			model[id] = i;
			table_add(&table, id, i);
			count++;
		}
		assert_int_equal(table.count, count);
		if (i % 16 == 0)
			for (uint64_t other = 1; other <= IDS; other++)
				assert_int_equal(table_find(&table, other), model[other]);
	}
}

static void test_nothing_is_left_behind(void **state UNUSED)
{
	struct table_entry entries[CAPACITY] = { 0 };
	struct table table = { .entries = entries, .capacity = CAPACITY };

	for (uint64_t id = 1; id <= CAPACITY / 2; id++)
		table_add(&table, id * 1000003, (uint32_t)id);
	for (uint64_t id = 1; id <= CAPACITY / 2; id++)
		table_remove(&table, id * 1000003);
	for (unsigned i = 0; i < CAPACITY; i++)
		assert_int_equal(entries[i].id, 0); /* no tombstones */
}

static void test_no_id_is_zero(void **state UNUSED)
{
	struct table_entry entries[CAPACITY] = { 0 };
	struct table table = { .entries = entries, .capacity = CAPACITY };

	assert_int_equal(table_find(&table, 0), TABLE_ABSENT);
	table_add(&table, UINT64_MAX, 5);
	assert_int_equal(table_find(&table, UINT64_MAX), 5);
	assert_int_equal(table_find(&table, 0), TABLE_ABSENT);
}

enum { LARGE = 1 << 20, PAGE = 4096, ENTRIES_PER_PAGE = PAGE / sizeof(struct table_entry) };

static struct table make_large(void)
{
	struct table table = { .entries = calloc(LARGE, sizeof(struct table_entry)), .capacity = LARGE };

	assert_non_null(table.entries);
	return table;
}

/* What a table of a million places costs is what is in it: else each submission of a quiet day would touch another page. */
static void test_neighbours_share_pages(void **state UNUSED)
{
	struct table table = make_large();
	uint32_t touched = 0;

	for (uint64_t id = 1; id <= 100000; id++)
		table_add(&table, id, (uint32_t)id);
	for (uint32_t page = 0; page < LARGE / ENTRIES_PER_PAGE; page++) {
		bool is_touched = false;

		for (uint32_t i = 0; i < ENTRIES_PER_PAGE; i++)
			is_touched = is_touched || table.entries[page * ENTRIES_PER_PAGE + i].id != 0;
		touched += is_touched;
	}
	assert_in_range(touched, 100000 / ENTRIES_PER_PAGE, 2 * 100000 / ENTRIES_PER_PAGE);
	for (uint64_t id = 1; id <= 100000; id++)
		assert_int_equal(table_find(&table, id), id);
	free(table.entries);
}

/* Half full with ids of one residue: each run of entries has room for one of them, and they still find theirs. */
static void test_sparse_ids(void **state UNUSED)
{
	struct table table = make_large();

	for (uint32_t i = 1; i <= LARGE / 2; i++)
		table_add(&table, (uint64_t)i * ENTRIES_PER_PAGE, i);
	for (uint32_t i = 1; i <= LARGE / 2; i += 2)
		table_remove(&table, (uint64_t)i * ENTRIES_PER_PAGE);
	for (uint32_t i = 1; i <= LARGE / 2; i++)
		assert_int_equal(table_find(&table, (uint64_t)i * ENTRIES_PER_PAGE), i % 2 ? TABLE_ABSENT : i);
	free(table.entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_a_list), cmocka_unit_test(test_nothing_is_left_behind),
		cmocka_unit_test(test_no_id_is_zero),  cmocka_unit_test(test_neighbours_share_pages),
		cmocka_unit_test(test_sparse_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
