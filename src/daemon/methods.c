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
	struct core_event drain = { .kind = CORE_DRAIN, .value = true };

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
	turn_step(daemon, &drain);
	cancel_all(daemon);
	methods_on_drained(daemon);
}

/* With a broken store no worktree is made or looked at any more: what waits for that is left to the next daemon. */
static bool is_drained(const struct daemon *daemon)
{
	struct core_totals totals;

	core_count(daemon->core, &totals);
	if (totals.active == 0 || !daemon->is_broken)
		return totals.active == 0;
	for (uint32_t index = daemon->roster.first; index != TASK_NONE; index = daemon->roster.tasks[index].next) {
		const struct task *task = core_task_at(daemon->core, index);

		if (task->phase == PHASE_START || task->phase == PHASE_PROCESS)
			return false;
	}
	return true;
}

void methods_on_drained(struct daemon *daemon)
{
	if (daemon->is_draining && daemon->stop_request && is_drained(daemon))
		turn_after_commit(daemon, stop_when_durable, TAKE_PTR(daemon->stop_request));
}

static void on_disconnect(void *context, struct client *client)
{
	struct daemon *daemon = context;

	daemon->has_read = true;
	drafts_drop(daemon, server_client_id(client));
	events_drop(client);
}

void methods_fill(struct daemon *daemon, struct server_options *options)
{
	methods_draft_fill(options->handlers);
	methods_submit_fill(options->handlers);
	methods_tasks_fill(options->handlers);
	methods_events_fill(options->handlers);
	methods_db_fill(options->handlers);
	methods_pause_fill(options->handlers);
	methods_worktrees_fill(options->handlers);
	options->handlers[API_STATUS] = method_status;
	options->handlers[API_DAEMON_STATUS] = method_daemon_status;
	options->handlers[API_DAEMON_STOP] = method_daemon_stop;
	options->context = daemon;
	options->make_hello = make_hello;
	options->on_disconnect = on_disconnect;
	options->on_room = events_on_room;
}
