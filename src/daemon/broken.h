/*
 * broken.h - the daemon after its store was closed for writing: what runs is kept and may end, nothing new is begun, and
 * what was not remembered is not shown as if it had been.
 */
#pragma once

#include "base/err.h"

struct daemon;
struct generation;

/*
 * The commit of `in_flight` has failed with *err. Fails the answers of both generations, takes out of core and roster the
 * tasks and batches that only they know, and lets the core start nothing more.
 */
void broken_enter(struct daemon *daemon, const struct err *err);

/* Instead of a commit, from then on: what ends or spares a running task is done, answers fail, the rest is dropped. */
void broken_perform(struct daemon *daemon, struct generation *generation);
