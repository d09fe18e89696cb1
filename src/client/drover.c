#include "drover.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "client/client.h"
#include "client/stopwatch.h"
#include "version.h"

struct drover {
	struct client *client;
	int error_number;
};

/* The sentence and, when there is room, the hint. */
static void copy_error(const struct client_error *error, char *text)
{
	if (!text)
		return;
	if (error->hint[0] != '\0')
		snprintf(text, DROVER_ERROR_MAX, "%.500s (%.500s)", error->text, error->hint);
	else
		snprintf(text, DROVER_ERROR_MAX, "%s", error->text);
}

struct drover *drover_connect(const char *state_dir, unsigned flags, char error[DROVER_ERROR_MAX])
{
	struct client_options options = {
		.name = "libdrover " DROVER_VERSION,
		.state_dir = state_dir,
		.may_start = (flags & DROVER_START) != 0,
	};
	struct client_error why = { 0 };
	struct client *client;
	struct drover *drover;

	if (client_open(&options, &client, &why) < 0) {
		copy_error(&why, error);
		return NULL;
	}
	drover = xcalloc(1, sizeof(*drover));
	drover->client = client;
	return drover;
}

static json_t *call(struct drover *drover, const char *method_name, const char *params_text, struct client_error *why)
{
	int method = api_find_method(method_name);
	struct err err = ERR_INIT;
	json_t *params;

	if (method < 0) {
		client_refuse(why, API_ERROR_METHOD_NOT_FOUND, "there is no method '%s'", method_name);
		return NULL;
	}
	params = params_text ? api_parse(params_text, strlen(params_text), &err) : json_object();
	if (!params) {
		client_refuse(why, API_ERROR_PARSE, "the parameters are not valid: %s", err.text);
		return NULL;
	}
	if (method == API_EVENTS_SUBSCRIBE)
		return client_subscribe(drover->client, params, why);
	return client_call(drover->client, (enum api_method)method, params, why);
}

char *drover_call(struct drover *drover, const char *method, const char *params, char error[DROVER_ERROR_MAX])
{
	struct client_error why = { 0 };
	json_t *result = call(drover, method, params, &why);
	char *text;

	if (!result) {
		drover->error_number = why.code < 0 ? -1 : api_error_info((enum api_error)why.code)->number;
		copy_error(&why, error);
		return NULL;
	}
	drover->error_number = 0;
	text = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(result);
	return text;
}

int drover_error_number(const struct drover *drover)
{
	return drover->error_number;
}

/* Comes back after a loss. An event in *event when some were missed. */
static int come_back(struct drover *drover, char **event, char *error)
{
	struct client_error why = { 0 };
	bool is_gap;

	if (client_resume_wait(drover->client, &is_gap, &why) < 0) {
		copy_error(&why, error);
		return DROVER_LOST;
	}
	if (!is_gap)
		return DROVER_TIMEOUT;
	*event = xstrdup("{\"kind\":\"gap\"}");
	return DROVER_EVENT;
}

int drover_next_event(struct drover *drover, int timeout_ms, char **event, char error[DROVER_ERROR_MAX])
{
	CLEANUP(stopwatch_done) struct stopwatch watch = STOPWATCH_INIT;

	stopwatch_start(&watch);
	for (;;) {
		struct client_error why = { 0 };
		int spent_ms = (int)(stopwatch_ns(&watch) / NS_PER_MS);
		json_t *taken = NULL;
		int code = client_take_event(drover->client, &taken, &why);
		struct pollfd poll_fd = { .fd = client_fd(drover->client), .events = POLLIN };

		if (code > 0) {
			*event = json_dumps(taken, JSON_COMPACT);
			json_decref(taken);
			return DROVER_EVENT;
		}
		if (code < 0 && why.code < 0 && !client_is_lost(&why)) {
			copy_error(&why, error);
			return DROVER_LOST;
		}
		if (code < 0) {
			code = come_back(drover, event, error);
			if (code != DROVER_TIMEOUT)
				return code;
			continue;
		}
		if (timeout_ms >= 0 && spent_ms >= timeout_ms)
			return DROVER_TIMEOUT;
		if (poll(&poll_fd, 1, timeout_ms < 0 ? -1 : timeout_ms - spent_ms) < 0 && errno != EINTR)
			return DROVER_LOST;
	}
}

void drover_close(struct drover *drover)
{
	if (!drover)
		return;
	client_close(drover->client);
	free(drover);
}
