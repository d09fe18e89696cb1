/*
 * fake_daemon.h - a process that listens where a daemon would and plays a script, so that clients meet every misfortune.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/buf.h"

struct fake {
	char state_dir[64]; /* fresh; removed at the end */
	pid_t pid;
};

/* What the script works with, in the fake's own process. A failure ends it with a status that fake_end() sees. */
struct fake_side {
	int listener;
	int connection; /* −1 = none */
	FILE *input;
};

/* Makes the state directory. */
void fake_init(struct fake *fake);

/* Starts a process that runs `script` with a listening socket that the lock file names. */
void fake_start(struct fake *fake, void (*script)(struct fake_side *side));

/* Waits for the script's end, which must be a good one, and removes the directory. */
void fake_end(struct fake *fake);

/* For scripts: the next connection (the one before is closed), with its hello answered. */
void fake_accept(struct fake_side *side);

/* The next request; its method must be `method`. A new reference. */
json_t *fake_expect(struct fake_side *side, const char *method);

/*
 * Answers a request with JSON text of a result, to which what the definition requires besides is added, or of an error;
 * drops the request.
 */
void fake_answer(struct fake_side *side, json_t *request, const char *result);
void fake_refuse(struct fake_side *side, json_t *request, const char *error);

/* Sends an event of this number and kind. */
void fake_event(struct fake_side *side, int seq, const char *kind);

/* Sends a line as it is. */
void fake_say(struct fake_side *side, const char *line);

/* Ends the connection; with `is_gone` the listener too, for a moment in which nobody answers. */
void fake_hang_up(struct fake_side *side);

/* Writes the file NAME in the state directory. */
void fake_write(const struct fake *fake, const char *name, const char *text, unsigned mode);
