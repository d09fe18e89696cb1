/*
 * apply.h - brings a transaction into the database, in the store's thread.
 */
#pragma once

#include "store/database.h"
#include "store/txn.h"

/*
 * Applies and commits. Returns 0 when all of it is durable; -errno when not, as far as is known: the connection must then
 * write no more.
 */
int apply_txn(struct database *database, const struct store_txn *txn, struct err *err);
