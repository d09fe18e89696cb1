/*
 * methods_db.c - db.check and db.backup: both are done in the store's thread and answered when they are over.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "daemon/methods.h"

struct pending {
	struct daemon *daemon;
	struct request *request;
};

static struct pending *make_pending(struct daemon *daemon, struct request *request)
{
	struct pending *pending = xcalloc(1, sizeof(*pending));

	*pending = (struct pending){ .daemon = daemon, .request = request };
	return pending;
}

static void on_checked(void *context, const struct err *failure, const char *text)
{
	struct pending *pending = context;

	server_reply(pending->request,
	             json_pack("{s:b, s:s}", "ok", failure == NULL, "message", failure ? failure->text : text));
	free(pending);
}

static void method_db_check(void *context, struct request *request, json_t *params UNUSED)
{
	struct daemon *daemon = context;

	store_check(daemon->store, on_checked, make_pending(daemon, request));
}

static void on_taken(void *context, const struct err *failure, const char *text)
{
	struct pending *pending = context;

	if (failure)
		server_fail(pending->request, API_ERROR_STORE_FAILED, NULL, NULL, "%s", failure->text);
	else
		server_reply(pending->request,
		             json_pack("{s:o}", "path",
		                       json_sprintf("%s/" PATHS_SNAPSHOTS "/%s", pending->daemon->state_dir, text)));
	free(pending);
}

static void method_db_backup(void *context, struct request *request, json_t *params UNUSED)
{
	struct daemon *daemon = context;

	if (!methods_refuse_writes(daemon, request))
		store_take_snapshot(daemon->store, on_taken, make_pending(daemon, request));
}

void methods_db_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_DB_CHECK] = method_db_check;
	handlers[API_DB_BACKUP] = method_db_backup;
}
