/*
 * reader.h - 'drover-daemon --reader': a daemon for a state directory that nobody can write to, a disk mounted read-only
 * say. It serves what was remembered last to the client that started it, from copies in a directory for temporary files,
 * refuses what would change anything, touches no task, and ends with its last connection.
 */
#pragma once

#include "base/err.h"

struct daemon;
struct store_options;

/*
 * Opens the state directory, copies the database into a directory of its own, and reads what the slot file says was
 * committed, all of it without writing; fills *ret for store_open(). 0 or -errno.
 */
int reader_open(struct daemon *daemon, struct store_options *ret, struct err *err);

/* After the load: removes the copies (they are open), and makes the core ready to be asked and to start nothing. */
void reader_settle(struct daemon *daemon);

/* Chooses daemon->socket_path, below the directory of the copies. */
void reader_name_socket(struct daemon *daemon);

/* Tells the client, on standard output, where to connect. */
void reader_tell_socket(const struct daemon *daemon);

/* Each READER_LOOK_MS: stops the daemon when its last connection has ended, or none has come. */
enum { READER_LOOK_MS = 200 };
void reader_look(struct daemon *daemon);

/* Removes what is left of the directory. */
void reader_done(struct daemon *daemon);
