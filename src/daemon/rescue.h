/*
 * rescue.h - 'drover-daemon --db VERB': what is done to a database that no daemon serves, in place of serving it.
 *
 * check    looks at everything a start looks at and tells; changes nothing.
 * restore  when something is wrong: builds a new database of what can be read (store/salvage.h), puts the old one and the
 *          report of what was lost into a directory "damaged-DATE" in the state directory, and the new one in its place. No
 *          file is deleted. Running tasks go on and are found by the next daemon. May be interrupted and run again.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

/* Without the slot file nobody knows which processes are whose; wants the state directory and the number of tasks. */
#define RESCUE_SLOTS_LOST                                                                                                   \
	"%s/slots is missing, and with it what is known of %u tasks that may run still: put it back; or end their "         \
	"processes and run 'drover db restore', which calls these tasks lost and runs none of them again"

struct rescue_options {
	const char *state_dir; /* absolute */
	const char *verb;
	const char *from; /* restore: another database to take rows from, or NULL */
};

/* Does it, with words on standard output. 0, or -errno with the sentence. */
int rescue_run(const struct rescue_options *options, struct err *err);

/*
 * The sentence about the latest restore whose directory is still there, for status and log; empty when there is none. To be
 * freed.
 */
char *rescue_find_notice(int state_fd, const char *state_dir);
