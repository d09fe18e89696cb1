/*
 * recording.h - what `run` writes down of each task at its end: --joblog's line, --results' files.
 *
 * Below the results directory lie stdout, stderr and seq of each task, in folders named by source and value as GNU
 * parallel does it: DIR/1/VALUE/2/VALUE/stdout; for a batch file in DIR/NAME or DIR/ID.
 */
#pragma once

#include "cli/submit.h"

/*
 * A task of the batch, by its place in it, has ended; `log_path` is absolute, or NULL when it has no log. Tells the first
 * time that something cannot be written.
 */
void recording_add(struct cli *cli, struct submit_result *batch, uint64_t index, const json_t *event, const char *log_path);

/* Adds a value as the name of a folder: / and \ with a \ before, as are the names . and .. and the empty one. */
void recording_add_folder(struct buf *path, const char *value);
