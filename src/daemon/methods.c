#include "daemon/methods.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "daemon/present.h"
#include "version.h"

/* An answer that waits for its commit. */
struct pending_reply {
	struct request *request;
	json_t *result;
};

static void on_durable(struct daemon *daemon, void *context, const struct err *failure)
{
	struct pending_reply *reply = context;

	if (failure && daemon->is_full) {
		json_decref(reply->result);
		server_fail(reply->request, API_ERROR_STORE_FAILED, NULL, NULL,
		            "this is done, but cannot be remembered before there is room: %s", failure->text);
	} else if (failure) {
		json_decref(reply->result);
		server_fail(reply->request, API_ERROR_STORE_FAILED, NULL, NULL,
		            "it is not known whether this was remembered: %s", failure->text);
	} else {
		server_reply(reply->request, reply->result);
	}
	free(reply);
}

void methods_reply_durable(struct daemon *daemon, struct request *request, json_t *result)
{
	struct pending_reply *reply = xcalloc(1, sizeof(*reply));

	ASSERT(result);
	*reply = (struct pending_reply){ .request = request, .result = result };
	turn_after_commit(daemon, on_durable, reply);
}

bool methods_refuse_writes(struct daemon *daemon, struct request *request)
{
	if (daemon->is_broken) {
		server_fail(request, API_ERROR_STORE_FAILED, NULL, NULL, "nothing new is accepted: %s", daemon->broken.text);
		return true;
	}
	if (daemon->is_stopping || daemon->is_draining) {
		server_fail(request, API_ERROR_STOPPING, NULL, "try again in a moment", "the daemon is stopping");
		return true;
	}
	return false;
}

static json_t *make_hello(void *context)
{
	struct daemon *daemon = context;

	return json_pack("{s:i, s:s, s:i, s:s}", "protocol", API_PROTOCOL, "version", DROVER_VERSION, "pid", (int)getpid(),
	                 "state_dir", daemon->state_dir);
}

static void method_status(void *context, struct request *request, json_t *params UNUSED)
{
	server_reply(request, present_status(context));
}

static void method_daemon_status(void *context, struct request *request, json_t *params UNUSED)
{
	server_reply(request, present_daemon(context));
}

static void cancel_all(struct daemon *daemon)
{
	for (uint32_t index = daemon->roster.first; index != TASK_NONE; index = daemon->roster.tasks[index].next) {
		const struct task *task = core_task_at(daemon->core, index);
		struct core_event event = {
			.kind = CORE_INPUT,
			.input = INPUT_CANCEL,
			.task = task->id,
			.attempt = task->attempt,
		};

		if (!task_state_is_final(task->state))
			daemon_feed(daemon, &event);
	}
}

static void stop_when_durable(struct daemon *daemon, void *context, const struct err *failure UNUSED)
{
	server_reply(context, json_object());
	daemon_stop(daemon, WIRE_EXIT_STOP);
}

static void restart_when_durable(struct daemon *daemon, void *context, const struct err *failure UNUSED)
{
	server_reply(context, json_object());
	daemon_stop(daemon, WIRE_EXIT_RESTART);
}

static void method_daemon_stop(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	struct core_event pause = { .kind = CORE_PAUSE, .value = true };

	if (json_is_true(json_object_get(params, "restart"))) {
		turn_after_commit(daemon, restart_when_durable, request);
		return;
	}
	if (!json_is_true(json_object_get(params, "stop_tasks"))) {
		turn_after_commit(daemon, stop_when_durable, request);
		return;
	}
	if (methods_refuse_writes(daemon, request))
		return;
	daemon->is_draining = true;
	daemon->stop_request = request;
	turn_step(daemon, &pause);
	cancel_all(daemon);
	methods_on_drained(daemon);
}

void methods_on_drained(struct daemon *daemon)
{
	struct core_totals totals;

	if (!daemon->is_draining || !daemon->stop_request)
		return;
	core_count(daemon->core, &totals);
	if (totals.active == 0)
		turn_after_commit(daemon, stop_when_durable, TAKE_PTR(daemon->stop_request));
}

/* A subscription whose past is being read. */
struct replay {
	struct request *request;
	struct daemon *daemon;
	struct server_filter filter;
	uint64_t next;  /* sequence number to read on from */
	json_t *events; /* gathered so far */
	bool is_gap;
};

enum { REPLAY_STEP = 1000, REPLAY_MAX = 5000 };

static void finish_replay(struct replay *replay)
{
	struct client *client = server_client(replay->request);
	size_t i;
	json_t *event;

	server_reply(replay->request, json_pack("{s:I, s:b}", "seq", (json_int_t)replay->daemon->turn.published_seq,
	                                        "is_gap", replay->is_gap));
	if (client) {
		json_array_foreach (replay->events, i, event)
			server_send_event(client, event);
		server_subscribe(client, &replay->filter);
	}
	json_decref(replay->events);
	free(replay);
}

static void take_event(struct replay *replay, const struct store_event *event)
{
	enum task_state state = present_event_state(event->kind);

	if (event->seq > replay->daemon->turn.published_seq ||
	    (replay->filter.batch && event->batch != replay->filter.batch))
		return;
	if (replay->filter.is_final_only && (state == TASK_STATE_MAX || !task_state_is_final(state)))
		return;
	if (json_array_size(replay->events) < REPLAY_MAX)
		json_array_append_new(replay->events, present_event(replay->daemon, event, state));
	else
		replay->is_gap = true;
}

static void on_events(void *context, const struct store_event_list *list)
{
	struct replay *replay = context;

	for (uint32_t i = 0; i < list->count; i++) {
		replay->is_gap = replay->is_gap || list->events[i].seq > replay->next;
		take_event(replay, &list->events[i]);
		replay->next = list->events[i].seq + 1;
	}
	if (list->count > 0 && replay->next <= replay->daemon->turn.published_seq)
		store_read_events(replay->daemon->store, replay->next, REPLAY_STEP, on_events, replay);
	else
		finish_replay(replay);
}

static void method_events_subscribe(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	const char *batch = json_string_value(json_object_get(params, "batch"));
	const json_t *after = json_object_get(params, "after_seq");
	const struct roster_batch *found = batch ? roster_resolve_batch(&daemon->roster, batch) : NULL;
	struct replay *replay;

	if (batch && !found) {
		server_fail(request, API_ERROR_NOT_FOUND, NULL, NULL, "there is no batch '%s'", batch);
		return;
	}
	replay = xcalloc(1, sizeof(*replay));
	*replay = (struct replay){
		.request = request,
		.daemon = daemon,
		.events = json_array(),
		.filter = { .batch = found ? found->id : 0,
		            .is_final_only = json_is_true(json_object_get(params, "is_final_only")) },
	};
	if (!json_is_integer(after) || json_integer_value(after) < 0 ||
	    (uint64_t)json_integer_value(after) >= daemon->turn.published_seq) {
		finish_replay(replay);
		return;
	}
	replay->next = (uint64_t)json_integer_value(after) + 1;
	store_read_events(daemon->store, replay->next, REPLAY_STEP, on_events, replay);
}

static void on_disconnect(void *context, struct client *client)
{
	drafts_drop(context, server_client_id(client));
}

void methods_fill(struct daemon *daemon, struct server_options *options)
{
	methods_draft_fill(options->handlers);
	methods_submit_fill(options->handlers);
	methods_tasks_fill(options->handlers);
	options->handlers[API_EVENTS_SUBSCRIBE] = method_events_subscribe;
	options->handlers[API_STATUS] = method_status;
	options->handlers[API_DAEMON_STATUS] = method_daemon_status;
	options->handlers[API_DAEMON_STOP] = method_daemon_stop;
	options->context = daemon;
	options->make_hello = make_hello;
	options->on_disconnect = on_disconnect;
}
