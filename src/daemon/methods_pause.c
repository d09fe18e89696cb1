/*
 * methods_pause.c - pause, unpause.
 */
#include <string.h>

#include "base/buf.h"
#include "daemon/methods.h"
#include "daemon/pauses.h"

enum { WORDS_MAX = 1000 };

/* Id of the batch named, 0 for everything. False when the request was answered with an error. */
static bool read_batch(struct daemon *daemon, struct request *request, json_t *params, uint64_t *ret)
{
	const char *text = json_string_value(json_object_get(params, "batch"));
	const struct roster_batch *batch = text ? roster_resolve_batch(&daemon->roster, text) : NULL;

	if (text && !batch) {
		server_fail(request, API_ERROR_NOT_FOUND, NULL, NULL, "there is no batch '%s'", text);
		return false;
	}
	*ret = batch ? batch->id : 0;
	return true;
}

static uint32_t count_suspended(const struct daemon *daemon)
{
	struct core_totals totals;

	core_count(daemon->core, &totals);
	return totals.by_state[TASK_SUSPENDED];
}

static void method_pause(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	struct store_pause wanted = {
		.since_ms = daemon->now_ms,
		.suspends = json_is_true(json_object_get(params, "is_suspending")),
		.who = json_string_value(json_object_get(params, "who")),
		.reason = json_string_value(json_object_get(params, "reason")),
	};
	uint32_t before = count_suspended(daemon);

	if (methods_refuse_writes(daemon, request) || !read_batch(daemon, request, params, &wanted.batch))
		return;
	if ((wanted.who && strlen(wanted.who) > WORDS_MAX) || (wanted.reason && strlen(wanted.reason) > WORDS_MAX)) {
		server_fail(request, API_ERROR_TOO_LARGE, NULL, NULL, "the reason is longer than %d bytes", WORDS_MAX);
		return;
	}
	pauses_begin(daemon, &wanted);
	methods_reply_durable(daemon, request,
	                      json_pack("{s:o, s:I}", "pause", pauses_present(daemon, pauses_find(daemon, wanted.batch)),
	                                "count", (json_int_t)(count_suspended(daemon) - before)));
}

/* Ends one pause and adds it to the list of those that were ended. */
static void end(struct daemon *daemon, uint64_t batch, json_t *ended)
{
	const struct pause_note *note = pauses_find(daemon, batch);

	if (note)
		json_array_append_new(ended, pauses_present(daemon, note));
	pauses_end(daemon, batch);
}

static void method_unpause(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	uint32_t before = count_suspended(daemon);
	json_t *ended;
	uint64_t batch;

	if (methods_refuse_writes(daemon, request) || !read_batch(daemon, request, params, &batch))
		return;
	ended = json_array();
	end(daemon, batch, ended);
	while (json_is_true(json_object_get(params, "is_all")) && daemon->pauses)
		end(daemon, daemon->pauses->batch, ended);
	methods_reply_durable(daemon, request,
	                      json_pack("{s:o, s:o, s:I}", "ended", ended, "pauses", pauses_present_all(daemon), "count",
	                                (json_int_t)(before - count_suspended(daemon))));
}

void methods_pause_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_PAUSE] = method_pause;
	handlers[API_UNPAUSE] = method_unpause;
}
