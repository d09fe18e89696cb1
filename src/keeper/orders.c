/*
 * orders.c - what the daemon asks of its keeper, and the answers.
 *
 * While answers wait for the daemon to read, no further order is taken: so they never grow beyond their place.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

enum { ORDERS_AT_ONCE = 64, HELPER_WORDS_MAX = 4096 };

void orders_answer(struct keeper *keeper, const struct wire_keeper *message)
{
	if (keeper->answer_count == 0 && wire_send(keeper->guardian.socket, message, sizeof(*message), NULL, 0) != -EAGAIN)
		return; /* sent, or there is nobody to tell */
	ASSERT(keeper->answer_count < KEEPER_ANSWERS_MAX);
	keeper->answers[keeper->answer_count++] = *message;
}

bool orders_flush(struct keeper *keeper)
{
	uint32_t sent = 0;

	while (sent < keeper->answer_count &&
	       wire_send(keeper->guardian.socket, &keeper->answers[sent], sizeof(keeper->answers[sent]), NULL, 0) != -EAGAIN)
		sent++;
	keeper->answer_count -= sent;
	memmove(keeper->answers, keeper->answers + sent, keeper->answer_count * sizeof(keeper->answers[0]));
	return keeper->answer_count == 0;
}

static const char *find_variable(char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; *environment; environment++)
		if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
			return *environment;
	return NULL;
}

static void build_environment(const struct keeper *keeper, char *ret[8])
{
	static const char *const names[] = { "PATH", "HOME", "XDG_CONFIG_HOME" };
	size_t used = 0;

	ret[used++] = (char *)(uintptr_t)"LANG=C.UTF-8";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *setting = find_variable(keeper->environment, names[i]);

		if (setting)
			ret[used++] = (char *)(uintptr_t)setting;
	}
	ret[used] = NULL;
}

/* Splits the strings behind the head. 0 or -EINVAL. */
static int split_words(const struct wire_helper *order, size_t length, char **words)
{
	char *at = (char *)(uintptr_t)order->strings;
	const char *end = (const char *)order + length;

	if (order->argc == 0 || order->argc >= HELPER_WORDS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < order->argc; i++) {
		char *nul = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;

		if (!nul)
			return -EINVAL;
		words[i] = at;
		at = nul + 1;
	}
	words[order->argc] = NULL;
	return at == end ? 0 : -EINVAL;
}

static int run_helper(struct keeper *keeper, const struct wire_helper *order, size_t length, const int fds[3],
                      pid_t *ret_pid)
{
	char *words[HELPER_WORDS_MAX + 2];
	char *environment[8];
	struct spawned spawned;
	struct spawn spawn = {
		.argv = words + 1, .envp = environment, .fds = fds, .fd_count = 3, .cgroup_fd = -1,
		.open_files_max = keeper->open_files_max,
	};
	int r;

	build_environment(keeper, environment);
	spawn.search_path = find_variable(environment, "PATH");
	spawn.search_path = spawn.search_path ? spawn.search_path + 5 : "/usr/bin:/bin";
	r = split_words(order, length, words + 1);
	if (r == 0 && (fds[0] < 0 || fds[1] < 0 || fds[2] < 0))
		r = -EBADF;
	if (r == 0)
		r = spawn_process(&keeper->spawner, &spawn, &spawned);
	if (r == 0)
		*ret_pid = spawned.pid;
	return r;
}

static void take_keeper_order(struct keeper *keeper, const struct wire_keeper *order)
{
	struct wire_keeper answer = { .kind = WIRE_SHIM, .slot = order->slot };

	switch (order->kind) {
	case WIRE_SPAWN_SHIM:
		answer.error = shims_spawn(keeper, order->slot, order->is_taken_over != 0);
		if (answer.error < 0)
			orders_answer(keeper, &answer);
		break;
	case WIRE_ATTACH:
		shims_tell_all(keeper);
		break;
	case WIRE_STOP:
		keeper->guardian.wish = GUARDIAN_STOP;
		break;
	case WIRE_RESTART:
		keeper->guardian.wish = GUARDIAN_RESTART;
		break;
	default:
		log_warning("the daemon ordered what this keeper does not know (kind %u)", order->kind);
		break;
	}
}

/* One message; 1 when one was taken, 0 when there is none, -errno at the end. */
static int take_one(struct keeper *keeper)
{
	union {
		struct wire_keeper keeper;
		struct wire_helper helper;
		char bytes[WIRE_HELPER_MAX];
	} order;
	struct wire_keeper answer = { .kind = WIRE_HELPER };
	int fds[3];
	ssize_t length = wire_receive(keeper->guardian.socket, &order, sizeof(order), fds, 3);

	if (length == -EAGAIN)
		return 0;
	if (length == -EMSGSIZE)
		return 1;
	if (length <= 0)
		return length == 0 ? -EPIPE : (int)length;
	if (length >= (ssize_t)sizeof(order.helper) && order.helper.kind == WIRE_RUN_HELPER) {
		answer.token = order.helper.token;
		answer.error = run_helper(keeper, &order.helper, (size_t)length, fds, &answer.pid);
		orders_answer(keeper, &answer);
	} else if (length == (ssize_t)sizeof(order.keeper)) {
		take_keeper_order(keeper, &order.keeper);
	}
	for (int i = 0; i < 3; i++)
		fd_close(&fds[i]);
	return 1;
}

bool orders_take(struct keeper *keeper)
{
	int r = 1;

	for (int i = 0; i < ORDERS_AT_ONCE && r > 0 && keeper->answer_count == 0; i++)
		r = take_one(keeper);
	return r >= 0;
}

void orders_take_last_words(struct keeper *keeper)
{
	char bytes[WIRE_HELPER_MAX];
	struct wire_keeper order;
	ssize_t length;

	if (keeper->guardian.socket < 0)
		return;
	while ((length = wire_receive(keeper->guardian.socket, bytes, sizeof(bytes), NULL, 0)) > 0 || length == -EMSGSIZE) {
		if (length != (ssize_t)sizeof(order))
			continue;
		memcpy(&order, bytes, sizeof(order));
		if (order.kind == WIRE_STOP || order.kind == WIRE_RESTART)
			take_keeper_order(keeper, &order);
	}
}
