/*
 * full.h - the daemon while a commit finds no room on the disk: the commit stays in flight and is tried again until there
 * is; meanwhile what runs is kept and may end, nothing new is begun or accepted. Ends are in their slot records, so a daemon
 * that dies in this time loses nothing.
 */
#pragma once

#include "base/err.h"

struct daemon;
struct generation;

/* The commit of `in_flight` was rolled back for want of room, as *err says. Sees to it that it is tried again. */
void full_enter(struct daemon *daemon, const struct err *err);

/* The commit has gone through, or failed for another reason. */
void full_leave(struct daemon *daemon);

/*
 * Does what of a generation must not wait for room: what ends or spares a running task is performed, answers fail. The rest
 * stays as it is, to be committed later.
 */
void full_relieve(struct daemon *daemon, struct generation *generation);
