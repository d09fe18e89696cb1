/*
 * blob.h - files beside the database that a transaction makes or removes: environments, which belong in no backup.
 */
#pragma once

#include "store/txn.h"

/*
 * Makes the blobs of a transaction, durable when it returns: the name appears only with its full contents. A blob whose name
 * is there already is kept as it is. 0 or -errno.
 */
int blob_make_all(int state_fd, const char *state_dir, const struct store_txn *txn, struct err *err);

/* Removes the blobs that a committed transaction drops. One that cannot be removed is garbage, not an error. */
void blob_drop_all(int state_fd, const struct store_txn *txn);
