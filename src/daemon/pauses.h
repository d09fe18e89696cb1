/*
 * pauses.h - what is paused, since when, by whom and why: the words beside the core's pauses, kept in the store with them.
 */
#pragma once

#include <jansson.h>

#include "store/store.h"

struct daemon;

struct pause_note {
	uint64_t batch; /* 0 = everything */
	int64_t since_ms;
	bool suspends;
	char *who;    /* NULL = not known */
	char *reason; /* NULL = none */
	struct pause_note *next;
};

/* A pause as the store gives it at start: to the core, and into the list. */
void pauses_restore(struct daemon *daemon, const struct store_pause *row);

/* Begins a pause, or changes one that is there, which keeps its beginning and goes on suspending if it did. */
void pauses_begin(struct daemon *daemon, const struct store_pause *wanted);

/* Ends a pause; false when there is none. */
bool pauses_end(struct daemon *daemon, uint64_t batch);

/* Takes out the pause of a batch that is forgotten. */
void pauses_forget(struct daemon *daemon, uint64_t batch);

/* The pause of a batch, of everything with 0; NULL when there is none. */
const struct pause_note *pauses_find(const struct daemon *daemon, uint64_t batch);

/* Why a task of the batch waits or is suspended: the pause of everything before that of the batch. NULL = no pause. */
const struct pause_note *pauses_covering(const struct daemon *daemon, uint64_t batch);

/* As the interface shows it: a `pause`; a list of all, that of everything first. */
json_t *pauses_present(const struct daemon *daemon, const struct pause_note *note);
json_t *pauses_present_all(const struct daemon *daemon);

/* Adds "since TIME by WHO: REASON" in words. */
struct buf;
void pauses_add_words(struct buf *buf, const struct pause_note *note);

/* Frees the list. */
void pauses_done(struct daemon *daemon);
