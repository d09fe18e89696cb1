/*
 * methods_submit.c - batch.commit: a draft becomes durable tasks, all of it in one turn and one transaction, or nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/mix.h"
#include "daemon/drafts.h"
#include "daemon/methods.h"

/* A commit under way. */
struct submission {
	struct request *request;
	struct draft *draft;
	char *key;
	uint64_t first;
	uint32_t *from; /* edges inside the draft: from waits for to */
	uint32_t *to;
	uint32_t edge_count;
	json_t *warnings;
};

static void submission_free(struct daemon *daemon, struct submission *submission)
{
	draft_unlink(daemon, submission->draft);
	draft_free(submission->draft);
	free(submission->key);
	free(submission->from);
	free(submission->to);
	json_decref(submission->warnings);
	free(submission);
}

static void give_up(struct daemon *daemon, struct submission *submission, enum api_error code, const struct err *err)
{
	server_fail(submission->request, code, NULL, NULL, "%s", err->text);
	submission_free(daemon, submission);
}

/* The task in the draft that a reference names, or UINT32_MAX. */
static uint32_t find_in_draft(const struct draft *draft, const char *text)
{
	const json_t *found = json_object_get(draft->names, text);

	return found ? (uint32_t)json_integer_value(found) : UINT32_MAX;
}

/* Checks that each reference names something, and collects those inside the draft as edges. */
static int resolve_references(struct daemon *daemon, struct submission *submission, struct err *err)
{
	struct draft *draft = submission->draft;
	struct core_totals totals;
	uint32_t total = 0;

	for (uint32_t i = 0; i < draft->count; i++)
		total += draft->tasks[i].reference_count;
	core_count(daemon->core, &totals);
	if (total > LIMIT_EDGES - totals.edges)
		return err_say(err, -ENOSPC, "%u dependencies are too many: %u are known, %d may be", total, totals.edges,
		               LIMIT_EDGES);
	if (draft->count > LIMIT_TASKS - totals.tasks)
		return err_say(err, -ENOSPC, "queue full: %u tasks are known, %d may be; wait, or run 'drover clean'",
		               totals.tasks, LIMIT_TASKS);
	submission->from = xcalloc(total, sizeof(*submission->from));
	submission->to = xcalloc(total, sizeof(*submission->to));
	for (uint32_t i = 0; i < draft->count; i++) {
		const struct draft_task *task = &draft->tasks[i];

		for (uint32_t k = 0; k < task->reference_count; k++) {
			uint32_t other = find_in_draft(draft, task->references[k].text);

			if (other != UINT32_MAX) {
				submission->from[submission->edge_count] = i;
				submission->to[submission->edge_count++] = other;
			} else if (roster_resolve(&daemon->roster, task->references[k].text) == TASK_NONE) {
				return err_say(err, -ENOENT,
				               "task '%s' is to run after '%s', which is neither in this batch nor known: "
				               "'drover ls --all' lists what is",
				               task->name ? task->name : "without a name", task->references[k].text);
			}
		}
	}
	return 0;
}

static int check_cycle(const struct submission *submission, struct err *err)
{
	const struct draft *draft = submission->draft;
	CLEANUP_FREE uint32_t *scratch = xcalloc(draft->count * 2 + submission->edge_count, sizeof(uint32_t));
	CLEANUP_FREE uint32_t *path = xcalloc(draft->count, sizeof(uint32_t));
	CLEANUP_BUF struct buf text = BUF_INIT;
	uint32_t length;

	if (submission->edge_count == 0)
		return 0;
	length = core_find_cycle(draft->count, submission->from, submission->to, submission->edge_count, scratch, path);
	if (length == 0)
		return 0;
	for (uint32_t i = 0; i <= length && i < 20; i++)
		buf_add_format(&text, "%s%s", i ? " -> " : "", draft->tasks[path[i % length]].name);
	return err_say(err, -EDEADLK, "the dependencies go in a circle: %s", text.bytes);
}

/*
 * Puts the draft's tasks into `order` so that each comes after those of the draft it waits for, and keeps the given order
 * otherwise. Without recursion: `stack` holds the path being walked. The edges are known to be free of cycles.
 */
static void sort_draft(const struct submission *submission, uint32_t *order)
{
	uint32_t count = submission->draft->count;
	CLEANUP_FREE uint32_t *first = xcalloc(count + 1, sizeof(uint32_t)); /* edges of i: first[i] … first[i + 1] */
	CLEANUP_FREE uint32_t *cursor = xcalloc(count, sizeof(uint32_t));
	CLEANUP_FREE uint32_t *stack = xcalloc(count + 1, sizeof(uint32_t));
	CLEANUP_FREE bool *is_placed = xcalloc(count, sizeof(bool));
	uint32_t placed = 0;

	for (uint32_t e = 0; e < submission->edge_count; e++)
		first[submission->from[e] + 1]++; /* edges were collected in the order of `from` */
	for (uint32_t i = 0; i < count; i++) {
		first[i + 1] += first[i];
		cursor[i] = first[i];
	}
	for (uint32_t root = 0; root < count; root++) {
		uint32_t depth = 0;

		if (!is_placed[root])
			stack[depth++] = root;
		while (depth > 0) {
			uint32_t task = stack[depth - 1];

			while (cursor[task] < first[task + 1] && is_placed[submission->to[cursor[task]]])
				cursor[task]++;
			if (cursor[task] < first[task + 1]) {
				stack[depth++] = submission->to[cursor[task]];
				continue;
			}
			is_placed[task] = true;
			order[placed++] = task;
			depth--;
		}
	}
	ASSERT(placed == count);
}

/* The environment as a file named by its content, so that batches from one shell share it. */
static void put_environment(struct daemon *daemon, struct draft *draft)
{
	uint64_t hash = mix64(draft->environment_length);
	CLEANUP_FREE char *name = NULL;
	bool is_new;

	for (size_t i = 0; i < draft->environment_length; i++)
		hash = (hash ^ (unsigned char)draft->environment[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
	name = xasprintf(PATHS_ENVIRONMENTS "/%016llx%08x", (unsigned long long)mix64(hash),
	                 crc32c(0, draft->environment ? draft->environment : "", draft->environment_length));
	draft->batch.environment = roster_use_environment(&daemon->roster, name, &is_new);
	if (is_new)
		store_txn_put_blob(turn_txn(daemon), name, draft->environment ? draft->environment : "",
		                   draft->environment_length);
}

static struct roster_batch *put_batch(struct daemon *daemon, struct submission *submission)
{
	struct draft *draft = submission->draft;
	struct core_event event = { .kind = CORE_ADD_BATCH };
	struct roster_batch *batch;
	CLEANUP_FREE char *spec = NULL;

	if (draft->batch.limit > daemon->settings.slots_hard_max) {
		json_array_append_new(submission->warnings,
		                      json_sprintf("-j %u is more than hardMaxConcurrent: %u run at once",
		                                   draft->batch.limit, daemon->settings.slots_hard_max));
		draft->batch.limit = daemon->settings.slots_hard_max;
	}
	if (pauses_find(daemon, 0))
		json_array_append_new(submission->warnings,
		                      json_string("everything is paused: nothing starts before 'drover unpause'"));
	put_environment(daemon, draft);
	draft->batch.id = ++daemon->last_batch;
	draft->batch.created_ms = daemon->now_ms;
	event.batch = draft->batch.id;
	event.limit = draft->batch.limit;
	if (turn_step(daemon, &event) < 0)
		NEVER("a new batch fits: there are as many places as for tasks");
	spec = roster_encode_batch(&draft->batch);
	batch = roster_add_batch(&daemon->roster, &draft->batch);
	store_txn_put_batch(turn_txn(daemon), &(struct store_batch){ .id = batch->id,
	                                                             .name = batch->name,
	                                                             .spec = spec,
	                                                             .environment = batch->environment->name,
	                                                             .created_ms = batch->created_ms });
	return batch;
}

static uint64_t resolve_id(struct daemon *daemon, const struct submission *submission, const char *text)
{
	uint32_t other = find_in_draft(submission->draft, text);

	if (other != UINT32_MAX)
		return submission->first + other;
	return core_task_at(daemon->core, roster_resolve(&daemon->roster, text))->id;
}

/* The part of a task that is set at submission. */
static struct task make_task(const struct daemon *daemon, const struct draft_task *draft, const struct roster_batch *batch,
                             uint64_t id)
{
	struct task task = {
		.id = id,
		.batch = batch->id,
		.timeout_ns = draft->timeout_ns,
		.grace_ns = draft->grace_ns,
		.backoff_ns = draft->backoff_ns,
		.retries_max = draft->retries_max,
		.flags = draft->flags,
		.created_ms = daemon->now_ms,
		.state = draft->is_held ? TASK_HELD : TASK_QUEUED,
		.priority = draft->priority,
	};

	if (draft->is_held)
		task.flags |= TASK_WAS_HELD;
	if (draft->worktree != WORKTREE_NONE && batch->top)
		task.flags |= TASK_WORKTREE;
	return task;
}

static void put_task(struct daemon *daemon, struct submission *submission, struct roster_batch *batch, uint32_t i)
{
	struct draft_task *draft = &submission->draft->tasks[i];
	CLEANUP_FREE struct core_dependency *dependencies = xcalloc(draft->reference_count, sizeof(*dependencies));
	CLEANUP_FREE struct store_dependency *rows = xcalloc(draft->reference_count, sizeof(*rows));
	struct task task = make_task(daemon, draft, batch, submission->first + i);
	struct core_event event = {
		.kind = CORE_ADD_TASK,
		.wall_ms = daemon->now_ms,
		.restore = &task,
		.dependencies = dependencies,
		.dependency_count = draft->reference_count,
	};
	const struct roster_task *texts;
	struct effects effects;
	struct store_task row;
	uint32_t index;

	for (uint32_t k = 0; k < draft->reference_count; k++) {
		dependencies[k].task = resolve_id(daemon, submission, draft->references[k].text);
		dependencies[k].is_any = draft->references[k].is_any;
		rows[k] = (struct store_dependency){ .task = dependencies[k].task, .is_any = dependencies[k].is_any };
	}
	if (core_step(daemon->core, &event, daemon->now_ns, &effects) < 0)
		NEVER("room, ids and dependencies were checked");
	index = core_index(daemon->core, task.id);
	texts = roster_add(&daemon->roster, index, batch, TAKE_PTR(draft->name), TAKE_PTR(draft->spec));
	row = (struct store_task){ .task = *core_task_at(daemon->core, index),
		                   .name = texts->name,
		                   .spec = texts->spec,
		                   .dependencies = rows,
		                   .dependency_count = draft->reference_count };
	store_txn_add_task(turn_txn(daemon), &row);
	turn_absorb(daemon, &effects);
}

static json_t *make_answer(const struct submission *submission, uint64_t batch, uint64_t seq)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:O}", "batch", (json_int_t)batch, "first", (json_int_t)submission->first,
	                 "count", (json_int_t)submission->draft->count, "seq", (json_int_t)seq, "warnings",
	                 submission->warnings);
}

/* A submission that waits for its commit. */
struct committing {
	struct request *request;
	json_t *answer;
	char *key;
	uint64_t first;
	uint32_t count;
};

static void withdraw_task(struct daemon *daemon, uint64_t id)
{
	struct core_event event = { .kind = CORE_INPUT, .input = INPUT_CANCEL, .task = id, .exit_code = -1 };
	const struct task *task = core_find(daemon->core, id);

	if (!task)
		return;
	event.attempt = task->attempt;
	daemon_feed(daemon, &event);
	if (!task_state_is_active(task->state))
		return;
	event.input = task->phase == PHASE_WORKTREE ? INPUT_PREPARE_FAILED : INPUT_START_REFUSED;
	event.cause.kind = CAUSE_CANCELLED;
	daemon_feed(daemon, &event); /* what would have begun it is among the effects that were not performed */
}

/*
 * The disk had no room for it, and the client is told that it is refused: so nothing of it may ever run or be listed, though
 * the commit that adds it is tried again. What takes it away goes into the next one.
 */
static void withdraw(struct daemon *daemon, const struct committing *it)
{
	uint32_t left = it->count;
	uint32_t before;

	for (uint32_t i = 0; i < it->count; i++)
		withdraw_task(daemon, it->first + i);
	do { /* those on which others of it depend go after them */
		before = left;
		left = 0;
		for (uint32_t i = 0; i < it->count; i++) {
			uint32_t index = core_index(daemon->core, it->first + i);

			left += index != TASK_NONE && retention_forget(daemon, index) < 0;
		}
	} while (left > 0 && left < before);
	if (left > 0)
		log_warning("%u tasks of a refused submission stay as cancelled: others wait for them", left);
	if (it->key)
		store_forget_key(daemon->store, turn_txn(daemon), it->key);
	if (it->key)
		json_object_del(daemon->fresh_keys, it->key);
}

static void on_committed(struct daemon *daemon, void *context, const struct err *failure)
{
	struct committing *it = context;

	if (!failure) {
		server_reply(it->request, it->answer);
	} else {
		json_decref(it->answer);
		if (daemon->is_full)
			withdraw(daemon, it);
		server_fail(it->request, API_ERROR_STORE_FAILED, NULL, NULL, "%s%s",
		            daemon->is_full ? "" : "it is not known whether this was remembered: ", failure->text);
	}
	free(it->key);
	free(it);
}

/* From here on nothing can fail but the disk. */
static void put_all(struct daemon *daemon, struct submission *submission)
{
	struct draft *draft = submission->draft;
	CLEANUP_FREE uint32_t *order = xcalloc(draft->count, sizeof(uint32_t));
	CLEANUP_FREE char *kept = NULL;
	uint64_t seq = daemon->last_seq;
	struct roster_batch *batch = put_batch(daemon, submission);
	struct committing *committing = xcalloc(1, sizeof(*committing));
	json_t *answer;

	submission->first = daemon->last_task + 1;
	daemon->last_task += draft->count;
	sort_draft(submission, order);
	for (uint32_t i = 0; i < draft->count; i++)
		put_task(daemon, submission, batch, order[i]);
	answer = make_answer(submission, batch->id, seq);
	if (submission->key) {
		kept = json_dumps(answer, JSON_COMPACT);
		store_txn_put_key(turn_txn(daemon), submission->key, daemon->now_ms, kept);
		json_object_set(daemon->fresh_keys, submission->key, answer);
		store_txn_drop_keys(turn_txn(daemon), daemon->now_ms - (int64_t)(LIMIT_KEEP_KEYS_NS / NS_PER_MS));
	}
	*committing = (struct committing){ .request = submission->request,
		                           .answer = answer,
		                           .key = xstrdup(submission->key),
		                           .first = submission->first,
		                           .count = draft->count };
	turn_after_commit(daemon, on_committed, committing);
	submission_free(daemon, submission);
}

/* When what is answered was handed over before, the end of that commit is the end of this one. */
static void answer_again(struct daemon *daemon, struct request *request, json_t *answer)
{
	struct committing *committing;

	if ((uint64_t)json_integer_value(json_object_get(answer, "batch")) <= daemon->turn.durable_batch) {
		server_reply(request, answer);
		return;
	}
	committing = xcalloc(1, sizeof(*committing));
	*committing = (struct committing){ .request = request, .answer = answer };
	turn_after_commit(daemon, on_committed, committing);
}

/* An earlier commit with this key has made the batch: its answer again. */
static bool answer_by_key(struct daemon *daemon, struct submission *submission)
{
	CLEANUP_FREE char *kept = submission->key ? store_find_key(daemon->store, submission->key) : NULL;
	json_t *answer = submission->key ? json_incref(json_object_get(daemon->fresh_keys, submission->key)) : NULL;

	if (!answer && kept)
		answer = json_loads(kept, 0, NULL);
	if (!answer)
		return false;
	answer_again(daemon, submission->request, answer);
	submission_free(daemon, submission);
	return true;
}

/* What the draft will take on the disk, about. */
static uint64_t count_bytes(const struct draft *draft)
{
	uint64_t bytes = draft->environment_length;

	for (uint32_t i = 0; i < draft->count; i++)
		bytes += strlen(draft->tasks[i].spec);
	return bytes;
}

/* A name may come again when all of the batch that has it is over. */
static int check_batch_name(struct daemon *daemon, const struct draft *draft, struct err *err)
{
	const struct roster_batch *other =
		draft->batch.name ? roster_resolve_batch(&daemon->roster, draft->batch.name) : NULL;
	uint32_t by_state[TASK_STATE_MAX];

	if (!other || core_count_batch(daemon->core, other->id, by_state) < 0)
		return 0;
	for (unsigned state = 0; state < TASK_STATE_MAX; state++)
		if (by_state[state] > 0 && !task_state_is_final(state))
			return err_say(err, -EEXIST,
			               "batch '%s' is not over: wait for it, cancel it, or choose another name",
			               draft->batch.name);
	return 0;
}

static int check_submission(struct daemon *daemon, struct submission *submission, struct err *err)
{
	int r = submission->draft->count > 0
	                ? check_batch_name(daemon, submission->draft, err)
	                : err_say(err, -EINVAL, "the batch has no tasks: add some before committing it");

	if (r == 0)
		r = resolve_references(daemon, submission, err);
	if (r == 0)
		r = check_cycle(submission, err);
	return r;
}

/* The checks against what is known now, then the commit, in one turn: nothing comes between. */
static void commit(struct daemon *daemon, struct submission *submission)
{
	struct err err = ERR_INIT;
	int r;

	if (answer_by_key(daemon, submission))
		return;
	if (daemon->is_broken) {
		give_up(daemon, submission, API_ERROR_STORE_FAILED, &daemon->broken);
		return;
	}
	r = check_submission(daemon, submission, &err);
	if (r < 0)
		give_up(daemon, submission, draft_error(r), &err);
	else if (daemon->is_full)
		give_up(daemon, submission, API_ERROR_STORE_FAILED, &daemon->full);
	else if (store_check_space(daemon->store, count_bytes(submission->draft), &err) < 0)
		give_up(daemon, submission, API_ERROR_STORE_FAILED, &err);
	else
		put_all(daemon, submission);
}

static enum api_error repository_error(const char *code)
{
	return code[0] == '\0' || strcmp(code, "bad-revision") == 0 ? API_ERROR_INVALID_PARAMS : API_ERROR_NOT_A_REPOSITORY;
}

/* True when all that want a worktree would also do without. */
static bool is_only_auto(const struct draft *draft)
{
	for (uint32_t i = 0; i < draft->count; i++)
		if (draft->tasks[i].worktree == WORKTREE_CHECKOUT)
			return false;
	return draft->worktree != WORKTREE_CHECKOUT;
}

static void on_inspected(struct daemon *daemon, void *context, json_t *result, const char *code, const struct err *err)
{
	struct submission *submission = context;
	struct draft *draft = submission->draft;

	if (err && !(is_only_auto(draft) && strcmp(code, "not-a-repository") == 0)) {
		give_up(daemon, submission, repository_error(code), err);
		return;
	}
	if (!err) {
		draft->batch.top = xstrdup(json_string_value(json_object_get(result, "top")));
		draft->batch.common_dir = xstrdup(json_string_value(json_object_get(result, "common_dir")));
		draft->batch.prefix = xstrdup(json_string_value(json_object_get(result, "prefix")));
		draft->batch.commit = xstrdup(json_string_value(json_object_get(result, "commit")));
	}
	commit(daemon, submission);
}

static bool wants_worktree(const struct draft *draft)
{
	for (uint32_t i = 0; i < draft->count; i++)
		if (draft->tasks[i].worktree != WORKTREE_NONE)
			return true;
	return false;
}

static void method_batch_commit(void *context, struct request *request, json_t *params)
{
	struct daemon *daemon = context;
	struct draft *draft = draft_find(daemon, request, params);
	const char *key = json_string_value(json_object_get(params, "key"));
	struct submission *submission;

	FAILPOINT("submit_parsed");
	if (!draft || methods_refuse_writes(daemon, request))
		return;
	if (key && strlen(key) > 128) {
		server_fail(request, API_ERROR_TOO_LARGE, NULL, NULL, "the key is longer than 128 bytes");
		return;
	}
	submission = xcalloc(1, sizeof(*submission));
	*submission =
		(struct submission){ .request = request, .draft = draft, .key = xstrdup(key), .warnings = json_array() };
	draft->is_committing = true;
	if (wants_worktree(draft))
		jobs_run(daemon, "inspect", json_pack("{s:s, s:s?}", "directory", draft->batch.cwd, "base", draft->base),
		         on_inspected, submission);
	else
		commit(daemon, submission);
}

void methods_submit_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_BATCH_COMMIT] = method_batch_commit;
}
