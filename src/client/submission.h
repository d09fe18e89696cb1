/*
 * submission.h - a batch on its way to the daemon: collected here, sent in messages below the limit, committed under an
 * idempotency key. When the connection is lost before the answer, all of it is sent again with the same key, so that it is
 * queued exactly once.
 */
#pragma once

#include "base/buf.h"
#include "client/client.h"

struct submission;

/* Begins one; steals `open_params` (those of batch.open). Its key is random. NULL with *err when there is no randomness. */
struct submission *submission_new(json_t *open_params, struct err *err);

/* Frees it; NULL is fine. */
void submission_free(struct submission *submission);

/* Adds settings NAME=VALUE of an environment, ended by NULL; GIT_* is left out (a hook's GIT_DIR misleads every git below
 * it). */
void submission_add_environment(struct submission *submission, const char *const *settings);

/* Adds one task; `spec` is JSON text of a task_spec. 0, or -EMSGSIZE with *error when it is too large for a message. */
int submission_add_task(struct submission *submission, const char *spec, size_t length, struct client_error *error);

/* Number of tasks added. */
uint64_t submission_count(const struct submission *submission);

/* Sends it. The answer of batch.commit, a new reference, or NULL with *error and nothing queued (or, after a loss for good,
 * queued or not: the error says so). */
json_t *submission_send(struct submission *submission, struct client *client, struct client_error *error);

/*
 * Adds a JSON string to `buf`. Bytes that are no UTF-8 need *is_latin1: then each byte becomes the character of its number.
 */
void submission_add_string(struct buf *buf, const char *text, bool is_latin1);
