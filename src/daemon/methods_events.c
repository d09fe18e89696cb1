/*
 * methods_events.c - events.subscribe, events.list: the event log, live and past.
 *
 * The past is read from the store a piece at a time and a piece is sent only when the client has read most of the one
 * before, so that a subscription from number 1 needs no more memory than one from now on, however slow its reader.
 *
 * Invariant: a connection has a replay (its server_stream()) or a live subscription or none, never both. A replay ends in
 * the turn in which everything published has been read, so that nothing is left out or sent twice.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "daemon/methods.h"
#include "daemon/present.h"

enum { REPLAY_STEP = 500, PAGE_BYTES = LIMIT_MESSAGE / 2 };

/* A subscription whose past is being sent. */
struct replay {
	struct daemon *daemon;
	struct client *client; /* NULL = gone, or subscribed anew: to be freed when the read has ended */
	struct server_filter filter;
	uint64_t next; /* sequence number to read on from */
	bool is_reading;
};

/* A page of events.list. */
struct page {
	struct daemon *daemon;
	struct request *request;
	struct server_filter filter;
	uint64_t after;
};

static bool is_taken(const struct server_filter *filter, const struct store_event *event)
{
	enum task_state state = present_event_state(event->kind);

	if (filter->batch && event->batch != filter->batch)
		return false;
	return !filter->is_final_only || (state < TASK_STATE_MAX && task_state_is_final(state));
}

/* Adds missing_from and missing_to when events after `after` are no longer kept; true then. */
static bool add_gap(const struct daemon *daemon, uint64_t after, json_t *result)
{
	if (after + 1 >= daemon->first_seq)
		return false;
	json_object_set_new(result, "missing_from", json_integer((json_int_t)after + 1));
	json_object_set_new(result, "missing_to", json_integer((json_int_t)daemon->first_seq - 1));
	return true;
}

static void read_more(struct replay *replay);

static void finish_replay(struct replay *replay)
{
	server_set_stream(replay->client, NULL);
	server_subscribe(replay->client, &replay->filter);
	free(replay);
}

static void on_replay_read(void *context, const struct store_event_list *list)
{
	struct replay *replay = context;

	replay->is_reading = false;
	if (!replay->client) {
		free(replay);
		return;
	}
	if (list->count > 0 && list->events[0].seq > replay->next) {
		server_end_slow(replay->client);
		return; /* events_drop() frees it */
	}
	for (uint32_t i = 0; i < list->count && server_has_room(replay->client); i++) {
		const struct store_event *event = &list->events[i];
		json_t *shown;

		if (event->seq > replay->daemon->turn.published_seq)
			break; /* it will be published */
		replay->next = event->seq + 1;
		if (!is_taken(&replay->filter, event))
			continue;
		shown = present_event(replay->daemon, event, present_event_state(event->kind));
		server_send_event(replay->client, shown);
		json_decref(shown);
	}
	if (replay->next > replay->daemon->turn.published_seq || (list->count == 0 && list->status == 0)) {
		finish_replay(replay);
	} else if (server_has_room(replay->client) && list->status < 0) {
		log_error("the event log cannot be read from %llu on", (unsigned long long)replay->next);
		server_end_unreadable(replay->client, replay->next); /* events_drop() frees the replay */
	} else if (server_has_room(replay->client)) {
		read_more(replay);
	}
}

static void read_more(struct replay *replay)
{
	replay->is_reading = true;
	store_read_events(replay->daemon->store, replay->next, REPLAY_STEP, on_replay_read, replay);
}

void events_on_room(void *context UNUSED, struct client *client)
{
	struct replay *replay = server_stream(client);

	if (!replay->is_reading)
		read_more(replay);
}

void events_drop(struct client *client)
{
	struct replay *replay = server_stream(client);

	if (!replay)
		return;
	server_set_stream(client, NULL);
	replay->client = NULL;
	if (!replay->is_reading)
		free(replay);
}

/* Fills in the filter; false when the request was answered with an error. */
static bool read_filter(struct daemon *daemon, struct request *request, const json_t *params, struct server_filter *ret)
{
	const char *batch = json_string_value(json_object_get(params, "batch"));
	const struct roster_batch *found = batch ? roster_resolve_batch(&daemon->roster, batch) : NULL;

	if (batch && !found) {
		server_fail(request, API_ERROR_NOT_FOUND, NULL, NULL, "there is no batch '%s'", batch);
		return false;
	}
	*ret = (struct server_filter){ .batch = found ? found->id : 0,
		                       .is_final_only = json_is_true(json_object_get(params, "is_final_only")) };
	return true;
}

static void method_events_subscribe(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	const json_t *after = json_object_get(params, "after_seq");
	uint64_t latest = daemon->turn.published_seq;
	uint64_t from = json_is_integer(after) ? (uint64_t)MAX(json_integer_value(after), (json_int_t)0) : latest;
	struct client *client = server_client(request);
	json_t *result = json_pack("{s:I}", "seq", (json_int_t)latest);
	struct server_filter filter;
	struct replay *replay;

	if (!read_filter(daemon, request, params, &filter)) {
		json_decref(result);
		return;
	}
	json_object_set_new(result, "is_gap", json_boolean(add_gap(daemon, from, result)));
	server_reply(request, result);
	if (!client)
		return;
	events_drop(client);
	server_unsubscribe(client);
	if (from >= latest) {
		server_subscribe(client, &filter);
		return;
	}
	replay = xcalloc(1, sizeof(*replay));
	*replay = (struct replay){
		.daemon = daemon, .client = client, .filter = filter, .next = MAX(from + 1, daemon->first_seq)
	};
	server_set_stream(client, replay);
	read_more(replay);
}

static void on_page_read(void *context, const struct store_event_list *list)
{
	struct page *page = context;
	struct daemon *daemon = page->daemon;
	uint64_t latest = daemon->turn.published_seq;
	json_t *result = json_pack("{s:[], s:I}", "events", "seq", (json_int_t)latest);
	uint64_t next = page->after;
	size_t bytes = 0;

	for (uint32_t i = 0; i < list->count && bytes < PAGE_BYTES && list->events[i].seq <= latest; i++) {
		const struct store_event *event = &list->events[i];
		json_t *shown;

		next = event->seq;
		if (!is_taken(&page->filter, event))
			continue;
		shown = present_event(daemon, event, present_event_state(event->kind));
		bytes += json_dumpb(shown, NULL, 0, JSON_COMPACT);
		json_array_append_new(json_object_get(result, "events"), shown);
	}
	if (list->status < 0) {
		json_decref(result);
		server_fail(page->request, API_ERROR_STORE_FAILED, NULL,
		            "'drover daemon restart' looks at the database anew", "the event log cannot be read after %llu",
		            (unsigned long long)next);
	} else {
		add_gap(daemon, page->after, result);
		json_object_set_new(result, "next", json_integer((json_int_t)(list->count > 0 ? next : MAX(next, latest))));
		server_reply(page->request, result);
	}
	free(page);
}

static void method_events_list(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	json_int_t after = json_integer_value(json_object_get(params, "after_seq"));
	json_int_t limit = json_integer_value(json_object_get(params, "limit"));
	struct server_filter filter;
	struct page *page;

	if (!read_filter(daemon, request, params, &filter))
		return;
	if (limit <= 0 || limit > LIMIT_PAGE)
		limit = LIMIT_PAGE;
	page = xcalloc(1, sizeof(*page));
	*page = (struct page){
		.daemon = daemon, .request = request, .filter = filter, .after = (uint64_t)MAX(after, (json_int_t)0)
	};
	store_read_events(daemon->store, MAX(page->after + 1, daemon->first_seq), (uint32_t)limit, on_page_read, page);
}

void methods_events_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_EVENTS_SUBSCRIBE] = method_events_subscribe;
	handlers[API_EVENTS_LIST] = method_events_list;
}
