/*
 * jobs.h - requests to the helper program drover-worktree, run by the keeper: JSON in, JSON out, no waiting.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "base/err.h"

struct daemon;
struct job;

/*
 * `result` is the helper's object, borrowed, NULL when it died without one. On failure *err is filled, else NULL: err->code
 * is the errno it named, -ECANCELED when it died; `code` is the error's name from the helper, "" when there is none.
 */
typedef void (*job_done)(struct daemon *daemon, void *context, json_t *result, const char *code, const struct err *err);

struct jobs {
	struct job *first;
	uv_timer_t retry;
	uint64_t last_token;
};

/* Before anything else here. */
void jobs_init(struct daemon *daemon);

/* Runs `verb` with the request (reference stolen). `done` is called exactly once, from the loop. */
void jobs_run(struct daemon *daemon, const char *verb, json_t *request, job_done done, void *context);

/* The keeper could not start the helper of this token, or there is a new keeper to start the waiting ones. */
void jobs_on_helper_failed(struct daemon *daemon, uint64_t token, int error);
void jobs_on_keeper_ready(struct daemon *daemon);

/* Forgets all jobs without calling anybody: at the end. */
void jobs_done_all(struct daemon *daemon);
