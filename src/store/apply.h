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

/*
 * Inserts one row within a transaction that the caller began, and counts it in database->meta: for what is not made by a
 * struct store_txn. `id` is the row's (of an answer 0). 0 or -errno.
 */
int apply_insert(struct database *database, enum row_kind kind, uint64_t id, const void *row, struct err *err);

/* Writes database->meta, last in such a transaction. 0 or -errno. */
int apply_meta(struct database *database, struct err *err);
