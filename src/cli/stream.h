/*
 * stream.h - the live output of one task, from the logs of its attempts.
 */
#pragma once

#include "cli/output.h"

struct stream {
	struct output out;
	struct output error;
	struct logfile out_file;
	struct logfile error_file;
	char *path;    /* of the attempt's log, NULL = not known yet */
	bool is_split; /* standard error has a log of its own */
};

/* Begins; nothing is open yet. `is_raw`: a terminal gets the bytes as they are. */
void stream_init(struct stream *stream, struct cli *cli, bool is_raw, bool is_split);

/* Tells which log it is now; the old one is read to its end first. A relative path lies in the state directory. */
void stream_set_path(struct stream *stream, const char *state_dir, const char *path);

/* Passes on what is there. True when there was something. */
bool stream_copy(struct stream *stream);

/* Passes on the rest and frees what is held. */
void stream_done(struct stream *stream);
