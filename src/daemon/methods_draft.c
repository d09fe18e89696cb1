/*
 * methods_draft.c - batch.open, batch.environment, batch.add: a batch being filled. Nothing of it is known to the core.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "daemon/drafts.h"
#include "daemon/methods.h"
#include "daemon/worktree_wish.h"

enum { DRAFTS_PER_CLIENT = 8, DEFAULT_UMASK = 022 };

struct draft *draft_find(struct daemon *daemon, struct request *request, json_t *params)
{
	uint64_t id = (uint64_t)json_integer_value(json_object_get(params, "draft"));
	struct client *client = server_client(request);

	for (struct draft *draft = daemon->drafts; draft && client; draft = draft->next)
		if (draft->id == id && draft->client == server_client_id(client) && !draft->is_committing)
			return draft;
	server_fail(request, API_ERROR_NOT_FOUND, NULL, "batch.open gives the number",
	            "this connection has no open batch %llu", (unsigned long long)id);
	return NULL;
}

void draft_unlink(struct daemon *daemon, struct draft *draft)
{
	struct draft **at = &daemon->drafts;

	while (*at != draft)
		at = &(*at)->next;
	*at = draft->next;
	daemon->room.draft_tasks -= draft->count;
	daemon->room.draft_bytes -= draft->bytes;
}

void drafts_drop(struct daemon *daemon, uint64_t client)
{
	struct draft *next;

	for (struct draft *draft = daemon->drafts; draft; draft = next) {
		next = draft->next;
		if (draft->client != client || draft->is_committing) /* one that is being committed ends by itself */
			continue;
		draft_unlink(daemon, draft);
		draft_free(draft);
	}
}

void drafts_done(struct daemon *daemon)
{
	while (daemon->drafts) {
		struct draft *draft = daemon->drafts;

		draft_unlink(daemon, draft);
		draft_free(draft);
	}
}

static unsigned count_drafts(const struct daemon *daemon, uint64_t client)
{
	unsigned count = 0;

	for (const struct draft *draft = daemon->drafts; draft; draft = draft->next)
		count += draft->client == client;
	return count;
}

static int read_open_params(struct daemon *daemon, struct draft *draft, json_t *params, struct err *err)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	const char *cwd = json_string_value(json_object_get(params, "cwd"));
	const char *worktree = json_string_value(json_object_get(params, "worktree"));
	const json_t *mask = json_object_get(params, "umask");
	json_int_t limit = json_integer_value(json_object_get(params, "limit"));
	int wish = worktree ? worktree_wish_find(worktree) : WORKTREE_NONE;

	if (name && !str_is_task_name(name))
		return err_say(err, -EINVAL, "'%s' is no batch name: use 1 to 64 of A-Z a-z 0-9 . _ -, not only digits",
		               name);
	if (cwd[0] != '/' || strlen(cwd) >= PATH_MAX)
		return err_say(err, -EINVAL, "cwd is '%.200s': give an absolute path of less than %d bytes", cwd, PATH_MAX);
	if (json_integer_value(mask) < 0 || json_integer_value(mask) > 0777)
		return err_say(err, -EINVAL, "umask is %lld: give a number from 0 to 511 (0777)",
		               (long long)json_integer_value(mask));
	if (wish < 0)
		return err_say(err, -EINVAL, "'%s' is no worktree strategy: use none, auto or checkout", worktree);
	if (limit < 0 || limit > UINT32_MAX)
		return err_say(err, -EINVAL, "limit is %lld: give 1 or more", (long long)limit);
	draft->batch.name = xstrdup(name);
	draft->batch.cwd = xstrdup(cwd);
	draft->batch.limit = (uint32_t)limit;
	draft->batch.umask = json_is_integer(mask) ? (uint32_t)json_integer_value(mask) : DEFAULT_UMASK;
	draft->batch.keeps_worktrees = json_object_get(params, "cleanup_on_complete")
	                                       ? json_is_false(json_object_get(params, "cleanup_on_complete"))
	                                       : daemon->settings.keeps_worktrees;
	draft->worktree = (enum worktree_wish)wish;
	draft->base = xstrdup(json_string_value(json_object_get(params, "base")));
	return 0;
}

static void method_batch_open(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	struct client *client = server_client(request);
	struct err err = ERR_INIT;
	struct draft *draft;

	if (methods_refuse_writes(daemon, request))
		return;
	if (!client || count_drafts(daemon, server_client_id(client)) >= DRAFTS_PER_CLIENT) {
		server_fail(request, API_ERROR_TOO_LARGE, NULL, "commit one first", "%d batches are open on this connection",
		            DRAFTS_PER_CLIENT);
		return;
	}
	draft = xcalloc(1, sizeof(*draft));
	draft->names = json_object();
	if (read_open_params(daemon, draft, params, &err) < 0) {
		draft_free(draft);
		server_fail(request, API_ERROR_INVALID_PARAMS, NULL, NULL, "%s", err.text);
		return;
	}
	draft->id = ++daemon->last_draft;
	draft->client = server_client_id(client);
	draft->next = daemon->drafts;
	daemon->drafts = draft;
	server_reply(request, json_pack("{s:I, s:n}", "draft", (json_int_t)draft->id, "base"));
}

/* Adds one setting to the blob; U+00XX stand for bytes when is_latin1. */
static void add_setting(struct draft *draft, const char *setting, bool is_latin1)
{
	size_t room = strlen(setting) + 1;

	if (draft->environment_length + room > draft->environment_capacity) {
		draft->environment_capacity = MAX(2 * draft->environment_capacity, draft->environment_length + room);
		draft->environment = xrealloc(draft->environment, draft->environment_capacity);
	}
	for (const unsigned char *at = (const unsigned char *)setting; *at; at++) {
		unsigned char byte = *at;

		if (is_latin1 && (byte & 0xe0) == 0xc0 && at[1])
			byte = (unsigned char)((byte & 0x03) << 6 | (*++at & 0x3f));
		draft->environment[draft->environment_length++] = (char)byte;
	}
	draft->environment[draft->environment_length++] = '\0';
}

static void method_batch_environment(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	struct draft *draft = draft_find(daemon, request, params);
	bool is_latin1 = json_is_true(json_object_get(params, "is_latin1"));
	size_t index;
	json_t *setting;

	if (!draft || !room_is_left(daemon, request, draft, 0))
		return;
	json_array_foreach (json_object_get(params, "environment"), index, setting) {
		const char *text = json_string_value(setting);

		if (!strchr(text, '=') || text[0] == '=') {
			server_fail(request, API_ERROR_INVALID_PARAMS, NULL, NULL,
			            "'%.100s' is no environment setting: write NAME=VALUE", text);
			return;
		}
		if (strncmp(text, "GIT_", 4) == 0) /* a hook's GIT_DIR would point every task at the hook's repository */
			continue;
		if (draft->environment_length + strlen(text) + 1 > LIMIT_ENVIRONMENT) {
			server_fail(request, API_ERROR_TOO_LARGE, NULL, "use --clean-env",
			            "the environment is over %d bytes", LIMIT_ENVIRONMENT);
			return;
		}
		add_setting(draft, text, is_latin1);
		draft_count_bytes(daemon, draft, strlen(text) + 1);
	}
	server_reply(request, json_object());
}

enum api_error draft_error(int code)
{
	switch (code) {
	case -EEXIST:
	case -EDEADLK:
		return API_ERROR_CONFLICT;
	case -ENOSPC:
		return API_ERROR_QUEUE_FULL;
	case -ENOENT:
		return API_ERROR_NOT_FOUND;
	default:
		return API_ERROR_INVALID_PARAMS;
	}
}

/* All of the message's tasks, or none: a client that goes on after an error knows what is in its batch. */
static void method_batch_add(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	struct draft *draft = draft_find(daemon, request, params);
	const json_t *tasks = json_object_get(params, "tasks");
	uint32_t before = draft ? draft->count : 0;
	struct err err = ERR_INIT;
	size_t index;
	json_t *spec;

	if (!draft || !room_is_left(daemon, request, draft, json_array_size(tasks)))
		return;
	json_array_foreach (tasks, index, spec) {
		int r = draft_add(daemon, draft, spec, &err);

		if (r == 0)
			continue;
		draft_truncate(daemon, draft, before);
		server_fail(request, draft_error(r), NULL, NULL, "task %zu: %s", index + 1, err.text);
		return;
	}
	server_reply(request, json_pack("{s:I}", "count", (json_int_t)draft->count));
}

void methods_draft_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_BATCH_OPEN] = method_batch_open;
	handlers[API_BATCH_ENVIRONMENT] = method_batch_environment;
	handlers[API_BATCH_ADD] = method_batch_add;
}
