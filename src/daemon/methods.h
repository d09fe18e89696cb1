/*
 * methods.h - what each method of proto/api.def does. One file per family; methods.c holds the table.
 */
#pragma once

#include "daemon/daemon.h"

/* Handlers, context and hooks for server_open(). */
void methods_fill(struct daemon *daemon, struct server_options *options);

/* Enter the handlers of one family into the table. */
void methods_draft_fill(server_handler handlers[API_METHOD_MAX]);
void methods_submit_fill(server_handler handlers[API_METHOD_MAX]);
void methods_tasks_fill(server_handler handlers[API_METHOD_MAX]);
void methods_events_fill(server_handler handlers[API_METHOD_MAX]);
void methods_db_fill(server_handler handlers[API_METHOD_MAX]);
void methods_pause_fill(server_handler handlers[API_METHOD_MAX]);
void methods_worktrees_fill(server_handler handlers[API_METHOD_MAX]);

/* Answers store-failed or stopping and returns true when nothing new may be accepted. */
bool methods_refuse_writes(struct daemon *daemon, struct request *request);

/* Answers with `result` (reference stolen) once all that was decided so far is durable. */
void methods_reply_durable(struct daemon *daemon, struct request *request, json_t *result);

/* Drops the calls about worktrees that are under way: at the end. */
void methods_worktrees_done(struct daemon *daemon);

/* Drops the drafts of a connection; all of them at the end. */
void drafts_drop(struct daemon *daemon, uint64_t client);
void drafts_done(struct daemon *daemon);

/* Ends the replay of a connection that is gone. */
void events_drop(struct client *client);

/* Goes on with a connection's replay now that it has read some of it: server_options.on_room. */
void events_on_room(void *context, struct client *client);

/* Wakes what waits for drained tasks: called when the last active one has ended. */
void methods_on_drained(struct daemon *daemon);

/* Forgets a finished task and its log; the batch too when it was the last. 0, or -EBUSY when another task waits for it. */
int retention_forget(struct daemon *daemon, uint32_t index);

/*
 * Forgets what is older or more than the settings keep; a bounded number of tasks a call. True when there is more to do.
 */
bool retention_run(struct daemon *daemon);

/* At start: removes environment blobs that no batch uses; a crash between a forgetting and its files leaves them. */
void retention_sweep_environments(struct daemon *daemon);
