/*
 * pause.h - a pause in a line.
 */
#pragma once

#include <jansson.h>

struct buf;

/* Adds "everything, since TIME by WHO: REASON" and a newline, controls made visible. */
void pause_add_line(struct buf *out, const json_t *pause);
