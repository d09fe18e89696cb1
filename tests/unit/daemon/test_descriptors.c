/*
 * test_descriptors.c - how the limit of open files is divided.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limits.h"
#include "daemon/descriptors.h"

/* The limit has to do for all at once: the daemon's own, two for each attempt, one for each client. */
static void parts_fit_into_the_limit(void **state)
{
	uint32_t slots = 0, clients = 0;

	(void)state;
	for (uint64_t limit = 0; limit < 20000; limit++) {
		struct descriptors plan = { 0 };

		if (!descriptors_plan(limit, &plan)) {
			assert_true(limit < 32);
			continue;
		}
		assert_true(plan.slots_max >= 1 && plan.clients_max >= 4);
		assert_true(plan.slots_max <= LIMIT_SLOTS && plan.clients_max <= LIMIT_CLIENTS);
		assert_true(26 + 2 * (uint64_t)plan.slots_max + plan.clients_max <= limit);
		assert_true(22 + 3 * (uint64_t)plan.slots_max <= limit); /* the keeper's */
		assert_true(plan.slots_max >= slots && plan.clients_max >= clients); /* more never gives less */
		slots = plan.slots_max;
		clients = plan.clients_max;
	}
	assert_int_equal(slots, LIMIT_SLOTS);
	assert_int_equal(clients, LIMIT_CLIENTS);
}

static void usual_limits_suffice(void **state)
{
	struct descriptors plan;

	(void)state;
	assert_true(descriptors_plan(1024, &plan));
	assert_true(plan.slots_max >= LIMIT_HARD_MAX_CONCURRENT);
	assert_int_equal(plan.clients_max, LIMIT_CLIENTS);
	assert_true(descriptors_plan(UINT64_MAX, &plan)); /* RLIM_INFINITY */
	assert_int_equal(plan.slots_max, LIMIT_SLOTS);
	assert_true(descriptors_plan(32, &plan));
	assert_int_equal(plan.slots_max, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_fit_into_the_limit),
		cmocka_unit_test(usual_limits_suffice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
