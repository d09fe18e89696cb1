#include "cli/events.h"

#include <errno.h>
#include <poll.h>

#include "cli/refs.h"
#include "cli/results.h"

enum {
	RESUME_PAUSE_MS = 50,
	RESUME_ATTEMPTS = CLIENT_RESUME_S * 1000 / RESUME_PAUSE_MS,
	RESUME_LONG_PAUSE_MS = 1000, /* of who never gives up */
	TELL_AFTER = 40,
	SUBSCRIBE_ATTEMPTS = 5, /* the first time; what ends one daemon would end the next one too */
};

int events_subscribe(struct events *events, const struct events_filter *filter, bool *ret_is_gap)
{
	struct client_error error = { 0 };
	json_t *params = json_object();
	json_t *result;

	if (filter->batch)
		json_object_set_new(params, "batch", refs_string(filter->batch));
	if (filter->is_final_only)
		json_object_set_new(params, "is_final_only", json_true());
	if (filter->after_seq >= 0)
		json_object_set_new(params, "after_seq", json_integer(filter->after_seq));
	result = client_subscribe(events->client, json_incref(params), &error);
	for (int i = 1; i < SUBSCRIBE_ATTEMPTS && !result && client_is_lost(&error); i++) {
		bool is_gap;

		if (client_resume_wait(events->client, &is_gap, &error) < 0)
			break;
		result = client_subscribe(events->client, json_incref(params), &error);
	}
	json_decref(params);
	if (!result)
		return cli_fail(events->cli, &error);
	*ret_is_gap = json_is_true(json_object_get(result, "is_gap")) || client_gap(events->client).is_new_log;
	json_decref(result);
	return 0;
}

/* One attempt to come back, after a pause. */
static enum event_outcome come_back(struct events *events)
{
	struct pollfd other = { .fd = events->other_fd, .events = POLLIN };
	struct client_error error = { 0 };
	bool is_gap;
	int code;

	if (events->failures > 0 &&
	    poll(&other, 1, events->failures < RESUME_ATTEMPTS ? RESUME_PAUSE_MS : RESUME_LONG_PAUSE_MS) > 0)
		return EVENTS_NONE;
	code = client_resume(events->client, &is_gap, &error);
	if (code == 0) {
		if (events->failures >= TELL_AFTER)
			cli_tell(events->cli, "the daemon is back");
		events->failures = 0;
		events->is_lost = false;
		return is_gap ? EVENTS_GAP : EVENTS_NONE;
	}
	if (++events->failures == TELL_AFTER)
		cli_tell(events->cli, "the daemon is gone; waiting for it to come back (tasks go on meanwhile)");
	if (code == -EAGAIN && (events->is_endless || events->failures < RESUME_ATTEMPTS))
		return EVENTS_NONE;
	cli_tell(events->cli, "the daemon did not come back; tasks go on, 'drover wait' and 'drover ls' tell how they end");
	events->exit_status = cli_fail(events->cli, &error);
	return EVENTS_LOST;
}

/* What came was no event of our protocol, or the log cannot be read: whoever sent it would send it again. */
static bool is_of_no_use(const struct client_error *error)
{
	return error->code == API_ERROR_STORE_FAILED || (error->code < 0 && !client_is_lost(error));
}

enum event_outcome events_next(struct events *events, int timeout_ms, json_t **ret_event)
{
	struct client_error error = { 0 };
	struct pollfd waits[2];
	int code;

	if (events->is_lost)
		return come_back(events);
	code = client_take_event(events->client, ret_event, &error);
	if (code > 0)
		return EVENTS_NEW;
	if (code < 0 && is_of_no_use(&error)) {
		events->exit_status = cli_fail(events->cli, &error);
		return EVENTS_LOST;
	}
	if (code < 0) {
		events->is_lost = true;
		return come_back(events);
	}
	waits[0] = (struct pollfd){ .fd = client_fd(events->client), .events = POLLIN };
	waits[1] = (struct pollfd){ .fd = events->other_fd, .events = POLLIN };
	cli_flush(events->cli);
	if (poll(waits, 2, timeout_ms) <= 0 || waits[0].revents == 0)
		return EVENTS_NONE;
	code = client_take_event(events->client, ret_event, &error);
	if (code > 0)
		return EVENTS_NEW;
	if (code < 0 && is_of_no_use(&error)) {
		events->exit_status = cli_fail(events->cli, &error);
		return EVENTS_LOST;
	}
	if (code < 0)
		events->is_lost = true;
	return EVENTS_NONE;
}

bool events_is_final(const char *state)
{
	struct tally tally = { 0 };

	return tally_add(&tally, state);
}
