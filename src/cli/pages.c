#include "cli/pages.h"

json_t *pages_fetch(struct cli *cli, struct client *client, json_t *params, unsigned *limit, int *ret_status)
{
	struct client_error error = { 0 };
	json_t *page;

	for (;;) {
		json_object_set_new(params, "limit", json_integer(*limit));
		page = client_call(client, API_TASK_LIST, json_incref(params), &error);
		if (page || error.code != API_ERROR_TOO_LARGE || *limit == 1)
			break;
		*limit = MAX(*limit / 8, 1U);
	}
	if (!page)
		*ret_status = cli_fail(cli, &error);
	return page;
}

int pages_visit(struct cli *cli, struct client *client, json_t *params, void (*handle)(void *context, json_t *task),
                void *context)
{
	unsigned limit = PAGES_LIMIT;
	json_int_t cursor = 0;
	int status = 0;

	do {
		json_t *page, *task;
		size_t i;

		if (cursor > 0)
			json_object_set_new(params, "cursor", json_integer(cursor));
		page = pages_fetch(cli, client, params, &limit, &status);
		json_array_foreach (json_object_get(page, "tasks"), i, task)
			handle(context, task);
		cursor = json_integer_value(json_object_get(page, "cursor"));
		json_decref(page);
	} while (cursor > 0 && status == 0);
	json_decref(params);
	return status;
}
