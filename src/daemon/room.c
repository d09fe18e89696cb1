#include "daemon/room.h"

#include <errno.h>

#include "daemon/daemon.h"
#include "daemon/drafts.h"

#define WINDOW_NS NS_PER_MIN

enum { RETRY_UNKNOWN_S = 60, RETRY_MAX_S = 3600 };

/* Moves on to the window that `now_ns` is in. */
static void turn_window(struct room *room, uint64_t now_ns)
{
	uint64_t age_ns = now_ns - room->window_ns;

	if (age_ns < WINDOW_NS)
		return;
	room->ended_before = age_ns < 2 * WINDOW_NS ? room->ended : 0;
	room->ended = 0;
	room->window_ns = age_ns < 2 * WINDOW_NS ? room->window_ns + WINDOW_NS : now_ns;
}

void room_note_end(struct daemon *daemon)
{
	turn_window(&daemon->room, daemon->now_ns);
	daemon->room.ended++;
}

/* Seconds until `missing` more tasks have ended, if it goes on as in the last minutes. */
static unsigned forecast_s(struct daemon *daemon, uint64_t missing)
{
	struct room *room = &daemon->room;
	uint64_t ended, span_s, wait_s;

	turn_window(room, daemon->now_ns);
	ended = (uint64_t)room->ended + room->ended_before;
	if (ended == 0)
		return RETRY_UNKNOWN_S;
	span_s = (daemon->now_ns - room->window_ns + (room->ended_before > 0 ? WINDOW_NS : 0)) / NS_PER_SEC + 1;
	wait_s = (missing * span_s + ended - 1) / ended;
	return (unsigned)MIN(MAX(wait_s, UINT64_C(1)), (uint64_t)RETRY_MAX_S);
}

static void refuse(struct daemon *daemon, struct request *request, uint64_t missing, const char *hint, const char *what)
{
	unsigned wait_s = forecast_s(daemon, missing);
	json_t *details = json_pack("{s:i}", "retry_after_s", (int)wait_s);

	server_fail(request, API_ERROR_QUEUE_FULL, details, hint, "queue full, retry after %u s: %s", wait_s, what);
}

static uint64_t count_unfinished(const struct core_totals *totals)
{
	uint64_t count = 0;

	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		if (!task_state_is_final((enum task_state)state))
			count += totals->by_state[state];
	return count;
}

bool room_is_left(struct daemon *daemon, struct request *request, const struct draft *draft, size_t tasks)
{
	uint64_t limit = daemon->settings.queued_max;
	uint64_t bytes = daemon->roster.text_bytes + daemon->room.draft_bytes;
	struct core_totals totals;
	struct err err = ERR_INIT;
	uint64_t known, unfinished;

	core_count(daemon->core, &totals);
	known = (uint64_t)totals.tasks + daemon->room.draft_tasks + tasks;
	unfinished = count_unfinished(&totals) + daemon->room.draft_tasks + tasks;
	if (draft->count + tasks > limit) {
		server_fail(request, API_ERROR_TOO_LARGE, NULL,
		            "submit it in parts, or raise limits.maxQueued in config.yaml",
		            "a batch of more than %llu tasks is never taken: that is how many may be unfinished at once",
		            (unsigned long long)limit);
		return false;
	}
	if (unfinished > limit) {
		err_say(&err, -ENOSPC, "%llu tasks are unfinished, %zu more are asked for, and limits.maxQueued is %llu",
		        (unsigned long long)(unfinished - tasks), tasks, (unsigned long long)limit);
		refuse(daemon, request, unfinished - limit,
		       "wait until some have ended, or raise limits.maxQueued in config.yaml", err.text);
		return false;
	}
	if (known > LIMIT_TASKS) {
		err_say(&err, -ENOSPC, "%llu tasks are known, finished ones included, and at most %d may be",
		        (unsigned long long)(known - tasks), LIMIT_TASKS);
		refuse(daemon, request, known - LIMIT_TASKS, "'drover clean' forgets finished ones", err.text);
		return false;
	}
	if (bytes >= LIMIT_QUEUE_BYTES) {
		err_say(&err, -ENOSPC, "what the tasks are to run takes %llu bytes to describe, and at most %d may be kept",
		        (unsigned long long)bytes, LIMIT_QUEUE_BYTES);
		refuse(daemon, request, 1, "put long texts into files; 'drover clean' forgets finished tasks", err.text);
		return false;
	}
	return true;
}
