/*
 * refs.h - how tasks are named on the command line: id, #id, name, BATCH/NAME.
 */
#pragma once

#include <jansson.h>

#include "cli/options.h"

/* A word as the interface takes it, a new string: without the '#', bytes that are no UTF-8 made visible. */
json_t *refs_string(const char *word);

/* Words as a list of strings. */
json_t *refs_array(const struct option_list *words);
json_t *refs_rest_array(const struct option_rest *words);

/* One-sentence refusals of an answer, told. Returns how many there were. */
struct cli;
size_t refs_tell_refused(struct cli *cli, const json_t *result);
