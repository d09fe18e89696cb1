/*
 * recovery.h - start is recovery: what the store remembers is held against slot records, locks and cgroups, and the
 * differences go through the core as ordinary events. A clean start and one after kill -9 take the same path.
 */
#pragma once

#include "base/err.h"

struct daemon;
struct store_facts;

/* True when the machine was started again since the last commit: nothing that ran then is left. */
bool recovery_is_rebooted(const struct store_facts *facts, const uint8_t boot_id[16]);

/* Loads batches and tasks from the store into core and roster, and sets core time going on from there. 0 or -errno. */
int recovery_load(struct daemon *daemon, struct err *err);

/* Looks at all slots (the keeper has told its shims), adopts, settles, orders again. The loop may run afterwards. */
void recovery_run(struct daemon *daemon);
