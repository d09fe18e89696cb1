/*
 * pages.h - task.list page by page, with pages that fit into a message whatever the tasks' texts are.
 */
#pragma once

#include "cli/cli.h"

enum { PAGES_LIMIT = 500 };

/*
 * One page for the parameters of task.list (borrowed; limit is set here). When it would be too large for a message, *limit
 * becomes smaller. NULL when it failed, which was told; then *ret_status is the exit status.
 */
json_t *pages_fetch(struct cli *cli, struct client *client, json_t *params, unsigned *limit, int *ret_status);

/* All pages for `params` (stolen); each task is handed over, borrowed. 0 or an exit status. */
int pages_visit(struct cli *cli, struct client *client, json_t *params, void (*handle)(void *context, json_t *task),
                void *context);
