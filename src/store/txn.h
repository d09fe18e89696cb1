/*
 * txn.h - a transaction as bytes: the caller's thread fills it, the store's thread applies it (apply.h).
 *
 * One growing buffer of operations, each a header and its encoded row, and one of blobs. Nothing in it points to memory of
 * the caller.
 */
#pragma once

#include "base/buf.h"
#include "store/keys.h"
#include "store/rows.h"

enum operation_kind {
	OPERATION_INSERT,       /* a row of kind `row` */
	OPERATION_UPDATE_STATE, /* of the task `id`: a task_state row */
	OPERATION_FORGET_TASK,  /* id */
	OPERATION_FORGET_BATCH, /* id */
	OPERATION_FORGET_PAUSE, /* id: of the batch; there need be none */
	OPERATION_DROP_EVENTS,  /* below seq `id` */
	OPERATION_DROP_ANSWER,  /* the bytes are the key, NUL included */
	OPERATION_SET_CLOCK,    /* the bytes are a struct store_facts of which the clock part counts */
	OPERATION_PUT_BLOB,     /* id: length of the name with its NUL, which is followed by the contents */
	OPERATION_DROP_BLOB,    /* the bytes are the name, NUL included */
};

struct operation {
	uint8_t kind; /* enum operation_kind */
	uint8_t row;  /* enum row_kind */
	uint16_t unused;
	uint32_t crc;  /* of the row */
	uint64_t id;   /* of the task, the batch or the event; see above */
	uint64_t size; /* of the bytes behind this header */
};

struct store_txn {
	struct buf drops;      /* DROP_ANSWER operations for old keys; they come first */
	struct buf operations; /* in the order of the calls */
	struct buf blobs;      /* PUT_BLOB, DROP_BLOB */
	struct buf answers;    /* keys that are put: for each a mark, at_ms, key NUL, answer NUL */
	uint64_t first_event;  /* 0 = none */
	uint64_t last_event;
	int64_t drop_keys_before_ms; /* INT64_MIN = none */
};

/* Steps through a buffer of operations: sets *ret and *ret_bytes and moves *at on; false at the end. */
bool txn_next(const struct buf *buf, size_t *at, struct operation *ret, const char **ret_bytes);

/* Has the answer to a key removed, be it from before or put by this transaction until now; a later put counts again. */
void txn_forget_key(struct store_txn *txn, const char *key);

/* Makes what is in the transaction findable in `keys`, and the drops of old keys into operations. At the hand-over. */
void txn_publish_keys(struct store_txn *txn, struct keys *keys);

/* Adds all of `more`, which comes after what is there. Both were published. */
void txn_append(struct store_txn *txn, const struct store_txn *more);

/* Takes the keys of a transaction that failed out again. */
void txn_retract_keys(const struct store_txn *txn, struct keys *keys);
