/* test_heap.c - the indexed heap against a plain search, over many random operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/heap.h"
#include "base/mix.h"

enum { CAPACITY = 50, OPERATIONS = 20000 };

struct fixture {
	struct heap heap;
	uint32_t items[CAPACITY];
	uint32_t positions[CAPACITY];
	uint64_t keys[CAPACITY];
	uint64_t model[CAPACITY]; /* key, UINT64_MAX = not in */
};

static void init(struct fixture *f)
{
	memset(f, 0xaa, sizeof(*f)); /* memory is not expected to be anything */
	f->heap = (struct heap){ .items = f->items, .positions = f->positions, .keys = f->keys, .capacity = CAPACITY };
	for (uint32_t i = 0; i < CAPACITY; i++) {
		heap_forget(&f->heap, i);
		f->model[i] = UINT64_MAX;
	}
}

static uint32_t model_first(const struct fixture *f)
{
	uint32_t best = HEAP_ABSENT;

	for (uint32_t i = 0; i < CAPACITY; i++)
		if (f->model[i] != UINT64_MAX && (best == HEAP_ABSENT || f->model[i] < f->model[best]))
			best = i;
	return best;
}

static void test_against_a_search(void **state UNUSED)
{
	struct random random = { .state = 1 };
	struct fixture f;

	init(&f);
	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint32_t index = (uint32_t)random_below(&random, CAPACITY);

		if (random_chance(&random, 600)) {
			f.model[index] = random_below(&random, 30); /* many ties */
			heap_put(&f.heap, index, f.model[index]);
		} else {
			f.model[index] = UINT64_MAX;
			heap_remove(&f.heap, index);
		}
		assert_int_equal(heap_first(&f.heap), model_first(&f));
		assert_int_equal(heap_contains(&f.heap, index), f.model[index] != UINT64_MAX);
	}
}

static void test_empties_in_order(void **state UNUSED)
{
	uint64_t last = 0;
	struct fixture f;

	init(&f);
	assert_int_equal(heap_first(&f.heap), HEAP_ABSENT);
	for (uint32_t i = 0; i < CAPACITY; i++)
		heap_put(&f.heap, i, mix64(i) % 1000);
	for (unsigned i = 0; i < CAPACITY; i++) {
		uint32_t first = heap_first(&f.heap);

		assert_true(f.keys[first] >= last);
		last = f.keys[first];
		heap_remove(&f.heap, first);
	}
	assert_int_equal(heap_first(&f.heap), HEAP_ABSENT);
}

static void test_ties_go_to_the_lower_index(void **state UNUSED)
{
	struct fixture f;

	init(&f);
	for (uint32_t i = CAPACITY; i > 0; i--)
		heap_put(&f.heap, i - 1, 7);
	for (uint32_t i = 0; i < CAPACITY; i++) {
		assert_int_equal(heap_first(&f.heap), i);
		heap_remove(&f.heap, i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_a_search),
		cmocka_unit_test(test_empties_in_order),
		cmocka_unit_test(test_ties_go_to_the_lower_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
