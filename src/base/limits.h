/*
 * limits.h - every limit in one place. What a client or a task can make grow has its bound here.
 */
#pragma once

#include "base/units.h"

enum {
	LIMIT_TASKS = 1 << 20,           /* tasks known at once, finished ones included */
	LIMIT_EDGES = 4 << 20,           /* dependencies between them */
	LIMIT_SLOTS = 4096,              /* attempts running at once, whatever the configuration says */
	LIMIT_HARD_MAX_CONCURRENT = 50,  /* COMPAT E5: default of hardMaxConcurrent */
	LIMIT_RETRIES = 1000,            /* of one task */
	LIMIT_LOST_RETRIES = 3,          /* times an idempotent task is run again after it was lost */
	LIMIT_CLIENTS = 64,
	LIMIT_MESSAGE = 1 << 20,         /* bytes of one JSON-RPC message */
	LIMIT_JSON_DEPTH = 64,
	LIMIT_CLIENT_QUEUE = 4 << 20,    /* bytes waiting for a client that does not read */
	LIMIT_ENVIRONMENT = 4 << 20,     /* bytes of one batch's environment */
	LIMIT_SPEC = 4 << 20,            /* bytes of one task's specification, arguments included */
	LIMIT_DRAFT_TASKS = LIMIT_TASKS, /* tasks of a batch not yet committed */
	LIMIT_QUEUE_BYTES = 1 << 30,     /* descriptions of all tasks, in open batches too: 1 KiB for each of LIMIT_TASKS */
	LIMIT_PAGE = 1000,               /* tasks in one page of a listing */
	LIMIT_BATCH_FILE = 16 << 20,     /* bytes of a batch file */
	LIMIT_NAME = 64,
};

#define LIMIT_KEEP_FINISHED_TASKS 10000
#define LIMIT_KEEP_FINISHED_NS (30 * NS_PER_DAY)
#define LIMIT_KEEP_EVENTS 200000
#define LIMIT_KEEP_EVENTS_MAX 10000000
#define LIMIT_KEEP_KEYS_NS (24 * NS_PER_HOUR)
#define LIMIT_LOG_HEAD (1 * MIB)
#define LIMIT_LOG_TAIL (16 * MIB)

_Static_assert((LIMIT_TASKS & (LIMIT_TASKS - 1)) == 0, "tables want a power of two");
_Static_assert(LIMIT_HARD_MAX_CONCURRENT <= LIMIT_SLOTS, "each running attempt has a slot");
_Static_assert(LIMIT_CLIENT_QUEUE >= 2 * LIMIT_MESSAGE, "a client can always take one message and its answer");
