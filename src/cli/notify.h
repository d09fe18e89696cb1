/*
 * notify.h - tells somebody who has turned to other things that a long batch has ended.
 *
 * On a terminal: a bell, and a desktop notice where the terminal shows such. Besides, the command of the user's own
 * configuration (`notify`), never one of a repository's, run as it stands and without a shell.
 */
#pragma once

#include "cli/cli.h"
#include "cli/results.h"

/* Values of --notify: "auto" (NULL too) is for what took longer than notifyAfter. */
#define NOTIFY_CHOICES "auto|always|never"

/* All has ended as in `tally`, after `spent_ns`; `batch` 0 = several or unknown. What goes wrong is told, and no failure. */
void notify_end(struct cli *cli, const char *when, const struct tally *tally, uint64_t batch, uint64_t spent_ns);
