#include "store/txn.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* First byte of each of txn->answers: whether keys_add() took it, so that only then it is taken out again, or never may. */
enum { ANSWER_UNPUBLISHED, ANSWER_PUBLISHED, ANSWER_FORGOTTEN };

struct store_txn *store_txn_new(void)
{
	struct store_txn *txn = xcalloc(1, sizeof(*txn));

	txn->drop_keys_before_ms = INT64_MIN;
	return txn;
}

void store_txn_free(struct store_txn *txn)
{
	if (!txn)
		return;
	buf_done(&txn->drops);
	buf_done(&txn->operations);
	buf_done(&txn->blobs);
	buf_done(&txn->answers);
	free(txn);
}

bool store_txn_is_empty(const struct store_txn *txn)
{
	return txn->operations.length == 0 && txn->blobs.length == 0 && txn->drop_keys_before_ms == INT64_MIN;
}

/* Adds an operation whose bytes are given. */
static void add_operation(struct buf *buf, enum operation_kind kind, uint64_t id, const void *bytes, size_t size)
{
	struct operation operation = { .kind = (uint8_t)kind, .id = id, .size = size };

	buf_add(buf, &operation, sizeof(operation));
	buf_add(buf, bytes, size);
}

/* Adds an operation with an encoded row. */
static void add_row(struct store_txn *txn, enum operation_kind kind, enum row_kind row_kind, uint64_t id, const void *row)
{
	struct operation operation = { .kind = (uint8_t)kind, .row = (uint8_t)row_kind, .id = id };
	size_t start = txn->operations.length;

	buf_add(&txn->operations, &operation, sizeof(operation));
	operation.crc = rows_encode(row_kind, row, &txn->operations);
	operation.size = txn->operations.length - start - sizeof(operation);
	memcpy(txn->operations.bytes + start, &operation, sizeof(operation));
}

bool txn_next(const struct buf *buf, size_t *at, struct operation *ret, const char **ret_bytes)
{
	if (*at == buf->length)
		return false;
	ASSERT(buf->length - *at >= sizeof(*ret));
	memcpy(ret, buf->bytes + *at, sizeof(*ret));
	*ret_bytes = buf->bytes + *at + sizeof(*ret);
	ASSERT(buf->length - *at - sizeof(*ret) >= ret->size);
	*at += sizeof(*ret) + ret->size;
	return true;
}

void store_txn_put_batch(struct store_txn *txn, const struct store_batch *batch)
{
	ASSERT(batch->id > 0 && batch->id <= INT64_MAX);
	add_row(txn, OPERATION_INSERT, ROW_BATCH, batch->id, batch);
}

static char *format_dependencies(const struct store_task *task)
{
	struct buf text = BUF_INIT;

	for (uint32_t i = 0; i < task->dependency_count; i++)
		buf_add_format(&text, "%s%llu%s", i > 0 ? " " : "", (unsigned long long)task->dependencies[i].task,
		               task->dependencies[i].is_any ? "?" : "");
	return task->dependency_count > 0 ? buf_take(&text) : NULL;
}

void store_txn_add_task(struct store_txn *txn, const struct store_task *task)
{
	CLEANUP_FREE char *dependencies = format_dependencies(task);
	struct row_task row = { .task = *task, .dependencies = dependencies };

	ASSERT(task->task.id > 0 && task->task.id <= INT64_MAX);
	add_row(txn, OPERATION_INSERT, ROW_TASK, task->task.id, &row);
	add_row(txn, OPERATION_INSERT, ROW_TASK_STATE, task->task.id, &row);
}

void store_txn_put_task(struct store_txn *txn, const struct store_task *task)
{
	struct row_task row = { .task = *task };

	add_row(txn, OPERATION_UPDATE_STATE, ROW_TASK_STATE, task->task.id, &row);
}

void store_txn_forget_task(struct store_txn *txn, uint64_t id)
{
	add_operation(&txn->operations, OPERATION_FORGET_TASK, id, NULL, 0);
}

void store_txn_forget_batch(struct store_txn *txn, uint64_t id)
{
	add_operation(&txn->operations, OPERATION_FORGET_BATCH, id, NULL, 0);
}

void store_txn_put_pause(struct store_txn *txn, const struct store_pause *pause)
{
	store_txn_forget_pause(txn, pause->batch);
	add_row(txn, OPERATION_INSERT, ROW_PAUSE, pause->batch, pause);
}

void store_txn_forget_pause(struct store_txn *txn, uint64_t batch)
{
	add_operation(&txn->operations, OPERATION_FORGET_PAUSE, batch, NULL, 0);
}

void store_txn_append_event(struct store_txn *txn, const struct store_event *event)
{
	ASSERT(event->seq > 0 && event->kind);
	ASSERT(txn->last_event == 0 || event->seq == txn->last_event + 1);
	if (txn->first_event == 0)
		txn->first_event = event->seq;
	txn->last_event = event->seq;
	add_row(txn, OPERATION_INSERT, ROW_EVENT, event->seq, event);
}

void store_txn_drop_events(struct store_txn *txn, uint64_t below_seq)
{
	add_operation(&txn->operations, OPERATION_DROP_EVENTS, below_seq, NULL, 0);
}

void store_txn_put_key(struct store_txn *txn, const char *key, int64_t at_ms, const char *answer)
{
	struct row_answer row = { .key = key, .at_ms = at_ms, .answer = answer };

	add_row(txn, OPERATION_INSERT, ROW_ANSWER, 0, &row);
	buf_add_byte(&txn->answers, ANSWER_UNPUBLISHED);
	buf_add(&txn->answers, &at_ms, sizeof(at_ms));
	buf_add(&txn->answers, key, strlen(key) + 1);
	buf_add(&txn->answers, answer, strlen(answer) + 1);
}

void store_txn_drop_keys(struct store_txn *txn, int64_t before_ms)
{
	txn->drop_keys_before_ms = MAX(txn->drop_keys_before_ms, before_ms);
}

/* "name" or "directory/name", neither of them "." or ".."; the daemon makes these names, so others are a bug. */
static bool is_blob_name(const char *name)
{
	const char *slash = strchr(name, '/');
	const char *base = slash ? slash + 1 : name;

	return *base && *name != '/' && *name != '.' && *base != '.' && !strchr(base, '/') && strlen(name) < 128;
}

void store_txn_put_blob(struct store_txn *txn, const char *name, const void *bytes, size_t length)
{
	size_t name_size = strlen(name) + 1;
	struct operation operation = { .kind = OPERATION_PUT_BLOB, .id = name_size, .size = name_size + length };

	ASSERT(is_blob_name(name));
	buf_add(&txn->blobs, &operation, sizeof(operation));
	buf_add(&txn->blobs, name, name_size);
	buf_add(&txn->blobs, bytes, length);
}

void store_txn_drop_blob(struct store_txn *txn, const char *name)
{
	ASSERT(is_blob_name(name));
	add_operation(&txn->blobs, OPERATION_DROP_BLOB, 0, name, strlen(name) + 1);
}

void store_txn_put_clock(struct store_txn *txn, const struct store_facts *facts)
{
	add_operation(&txn->operations, OPERATION_SET_CLOCK, 0, facts, sizeof(*facts));
}

static void add_drop(void *context, const char *key)
{
	struct store_txn *txn = context;

	add_operation(&txn->drops, OPERATION_DROP_ANSWER, 0, key, strlen(key) + 1);
}

/* Steps through txn->answers; false at the end. *ret_mark is the first byte of the answer. */
static bool next_answer(const struct store_txn *txn, size_t *at, char **ret_mark, struct row_answer *ret)
{
	char *bytes;

	if (*at == txn->answers.length)
		return false;
	bytes = txn->answers.bytes + *at;
	*ret_mark = bytes++;
	memcpy(&ret->at_ms, bytes, sizeof(ret->at_ms));
	ret->key = bytes + sizeof(ret->at_ms);
	ret->answer = ret->key + strlen(ret->key) + 1;
	*at = (size_t)(ret->answer + strlen(ret->answer) + 1 - txn->answers.bytes);
	return true;
}

void txn_forget_key(struct store_txn *txn, const char *key)
{
	struct row_answer answer;
	char *mark;
	size_t at = 0;

	while (next_answer(txn, &at, &mark, &answer))
		if (strcmp(answer.key, key) == 0)
			*mark = ANSWER_FORGOTTEN;
	add_operation(&txn->operations, OPERATION_DROP_ANSWER, 0, key, strlen(key) + 1);
}

void txn_publish_keys(struct store_txn *txn, struct keys *keys)
{
	struct row_answer answer;
	char *mark;
	size_t at = 0;

	keys_remove_older(keys, txn->drop_keys_before_ms, add_drop, txn);
	while (next_answer(txn, &at, &mark, &answer))
		if (*mark != ANSWER_FORGOTTEN && keys_add(keys, answer.key, answer.at_ms, answer.answer))
			*mark = ANSWER_PUBLISHED;
}

void txn_append(struct store_txn *txn, const struct store_txn *more)
{
	buf_add(&txn->drops, more->drops.bytes, more->drops.length);
	buf_add(&txn->operations, more->operations.bytes, more->operations.length);
	buf_add(&txn->blobs, more->blobs.bytes, more->blobs.length);
	buf_add(&txn->answers, more->answers.bytes, more->answers.length);
	if (more->first_event == 0)
		return;
	ASSERT(txn->last_event == 0 || more->first_event == txn->last_event + 1);
	txn->first_event = txn->first_event == 0 ? more->first_event : txn->first_event;
	txn->last_event = more->last_event;
}

void txn_retract_keys(const struct store_txn *txn, struct keys *keys)
{
	struct row_answer answer;
	char *mark;
	size_t at = 0;

	while (next_answer(txn, &at, &mark, &answer))
		if (*mark == ANSWER_PUBLISHED)
			keys_remove(keys, answer.key);
}
