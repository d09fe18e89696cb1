/* test_wire.c - the layout that the Python stand-in for the daemon relies on, and one message through a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "keeper/wire.h"

static void test_layout(void **state UNUSED)
{
	assert_int_equal(sizeof(struct wire_keeper), 40);
	assert_int_equal(offsetof(struct wire_keeper, token), 24);
	assert_int_equal(offsetof(struct wire_helper, strings), 16);
	assert_int_equal(offsetof(struct wire_start, payload), 80);
	assert_int_equal(offsetof(struct wire_shim, record), 8);
	assert_int_equal(offsetof(struct slot_record, output_gap_at), 168);
	assert_int_equal(WIRE_REFUSED, 14);
	assert_int_equal(sizeof(struct slot_record), 256);
}

static void test_message(void **state UNUSED)
{
	struct wire_shim message = { .kind = WIRE_ENDED, .slot = 4, .record = { .task = 77 } };
	struct wire_shim got;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(wire_receive(pair[1], &got, sizeof(got), NULL, 0), -EAGAIN);
	assert_int_equal(wire_send(pair[0], &message, sizeof(message), NULL, 0), 0);
	assert_int_equal(wire_receive(pair[1], &got, sizeof(got), NULL, 0), sizeof(got));
	assert_memory_equal(&message, &got, sizeof(got));
	fd_close(&pair[0]);
	assert_int_equal(wire_receive(pair[1], &got, sizeof(got), NULL, 0), 0);
	fd_close(&pair[1]);
}

/* The largest START that is not put into a memfd, as the daemon sends it. */
static void test_largest_inline_message(void **state UNUSED)
{
	static char message[sizeof(struct wire_start) + WIRE_INLINE_MAX];
	static char got[sizeof(message)];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	memset(message, 'x', sizeof(message));
	assert_int_equal(wire_send(pair[0], message, sizeof(message), NULL, 0), 0);
	assert_int_equal(wire_receive(pair[1], got, sizeof(got), NULL, 0), sizeof(got));
	assert_memory_equal(message, got, sizeof(got));
	fd_close(&pair[0]);
	fd_close(&pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_largest_inline_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
