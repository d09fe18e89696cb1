/*
 * load.h - reads everything back at the start and proves on the way that it is what was written.
 */
#pragma once

#include "store/database.h"
#include "store/keys.h"

/*
 * Calls the loader with each batch and task and fills *keys. Checked: every row's checksum, the counts and the sum in table
 * meta, the events' sequence, that tasks and batches fit together, SQLite's own structures. Events, answers and structures
 * come before the first call. 0, -EILSEQ with a sentence that names table and row, or -errno.
 */
int load_all(struct database *database, const struct store_loader *loader, struct keys *keys, struct err *err);
