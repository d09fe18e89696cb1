#include "daemon/roster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/crc32c.h"
#include "base/limits.h"
#include "base/str.h"

/* Address space that costs nothing until it is used. */
static void *reserve(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

enum { BATCH_PLACES = 2 * LIMIT_TASKS };

int roster_init(struct roster *roster, const struct core *core, struct err *err)
{
	*roster = (struct roster){ .core = core, .first = TASK_NONE, .last = TASK_NONE };
	roster->tasks = reserve(LIMIT_TASKS * sizeof(*roster->tasks));
	roster->batches = reserve(LIMIT_TASKS * sizeof(*roster->batches));
	roster->free_batches = reserve(LIMIT_TASKS * sizeof(*roster->free_batches));
	roster->batch_table.entries = reserve(BATCH_PLACES * sizeof(struct table_entry));
	roster->batch_table.capacity = BATCH_PLACES;
	if (!roster->tasks || !roster->batches || !roster->free_batches || !roster->batch_table.entries)
		return err_say(err, -ENOMEM, "there is no address space for the task list: lift the limit (ulimit -v)");
	return 0;
}

void roster_done(struct roster *roster)
{
	while (roster->first != TASK_NONE)
		roster_forget(roster, roster->first);
	while (roster->first_batch)
		roster_forget_batch(roster, roster->first_batch);
	roster_drop_environments(roster, NULL, NULL);
	munmap(roster->tasks, LIMIT_TASKS * sizeof(*roster->tasks));
	munmap(roster->batches, LIMIT_TASKS * sizeof(*roster->batches));
	munmap(roster->free_batches, LIMIT_TASKS * sizeof(*roster->free_batches));
	munmap(roster->batch_table.entries, BATCH_PLACES * sizeof(struct table_entry));
	*roster = (struct roster){ 0 };
}

struct roster_task *roster_task(const struct roster *roster, uint32_t index)
{
	ASSERT(index < LIMIT_TASKS);
	ASSERT(roster->tasks[index].id != 0);
	return &roster->tasks[index];
}

/* Links `index` behind the last task with a lower id. */
static void link_by_id(struct roster *roster, uint32_t index)
{
	struct roster_task *task = &roster->tasks[index];
	uint32_t before = roster->last;

	while (before != TASK_NONE && roster->tasks[before].id > task->id)
		before = roster->tasks[before].previous;
	task->previous = before;
	task->next = before == TASK_NONE ? roster->first : roster->tasks[before].next;
	if (task->next == TASK_NONE)
		roster->last = index;
	else
		roster->tasks[task->next].previous = index;
	if (before == TASK_NONE)
		roster->first = index;
	else
		roster->tasks[before].next = index;
}

struct roster_task *roster_add(struct roster *roster, uint32_t index, struct roster_batch *batch, char *name, char *spec)
{
	struct roster_task *task = &roster->tasks[index];

	ASSERT(index < LIMIT_TASKS);
	ASSERT(task->id == 0);
	*task = (struct roster_task){
		.id = core_task_at(roster->core, index)->id,
		.batch = batch,
		.name = name,
		.spec = spec,
	};
	batch->task_count++;
	roster->text_bytes += strlen(spec);
	link_by_id(roster, index);
	return task;
}

void roster_forget(struct roster *roster, uint32_t index)
{
	struct roster_task *task = roster_task(roster, index);

	if (task->previous == TASK_NONE)
		roster->first = task->next;
	else
		roster->tasks[task->previous].next = task->next;
	if (task->next == TASK_NONE)
		roster->last = task->previous;
	else
		roster->tasks[task->next].previous = task->previous;
	ASSERT(task->batch->task_count > 0);
	task->batch->task_count--;
	roster->text_bytes -= strlen(task->spec);
	free(task->name);
	free(task->spec);
	free(task->detail);
	json_decref(task->result);
	*task = (struct roster_task){ 0 };
}

void roster_set_detail(struct roster_task *task, const char *detail)
{
	char *copy = xstrdup(detail);

	free(task->detail);
	task->detail = copy;
}

/* Where the batches whose names hash as this one does begin. */
static uint32_t bucket_of(const char *name)
{
	return crc32c(0, name, strlen(name)) % ROSTER_NAME_BUCKETS;
}

/* Ids ascend, at start too, so the first of a name is the latest. */
static void enter_name(struct roster *roster, struct roster_batch *batch)
{
	struct roster_batch **bucket = batch->name ? &roster->names[bucket_of(batch->name)] : NULL;

	if (!bucket)
		return;
	while (*bucket && (*bucket)->id > batch->id)
		bucket = &(*bucket)->next_of_name;
	batch->next_of_name = *bucket;
	*bucket = batch;
}

static void remove_name(struct roster *roster, const struct roster_batch *batch)
{
	struct roster_batch **at = batch->name ? &roster->names[bucket_of(batch->name)] : NULL;

	while (at && *at != batch)
		at = &(*at)->next_of_name;
	if (at)
		*at = batch->next_of_name;
}

struct roster_batch *roster_add_batch(struct roster *roster, struct roster_batch *batch)
{
	struct roster_batch *copy = xcalloc(1, sizeof(*copy));

	*copy = *batch;
	*batch = (struct roster_batch){ 0 };
	copy->index =
		roster->free_batch_count > 0 ? roster->free_batches[--roster->free_batch_count] : roster->fresh_batch++;
	ASSERT(copy->index < LIMIT_TASKS); /* each has a task, or will in this turn */
	roster->batches[copy->index] = copy;
	table_add(&roster->batch_table, copy->id, copy->index);
	copy->next = NULL;
	copy->previous = roster->last_batch;
	if (roster->last_batch)
		roster->last_batch->next = copy;
	else
		roster->first_batch = copy;
	roster->last_batch = copy;
	enter_name(roster, copy);
	return copy;
}

void roster_forget_batch(struct roster *roster, struct roster_batch *batch)
{
	ASSERT(batch->task_count == 0);
	if (batch->environment)
		batch->environment->users--;
	table_remove(&roster->batch_table, batch->id);
	remove_name(roster, batch);
	roster->batches[batch->index] = NULL;
	roster->free_batches[roster->free_batch_count++] = batch->index;
	if (batch->previous)
		batch->previous->next = batch->next;
	else
		roster->first_batch = batch->next;
	if (batch->next)
		batch->next->previous = batch->previous;
	else
		roster->last_batch = batch->previous;
	free(batch->name);
	free(batch->cwd);
	free(batch->top);
	free(batch->common_dir);
	free(batch->prefix);
	free(batch->commit);
	free(batch);
}

struct roster_batch *roster_find_batch(const struct roster *roster, uint64_t id)
{
	uint32_t index = table_find(&roster->batch_table, id);

	return index == TABLE_ABSENT ? NULL : roster->batches[index];
}

struct roster_batch *roster_resolve_batch(const struct roster *roster, const char *text)
{
	uint64_t id;

	if (str_parse_u64(text, UINT64_MAX, &id) == 0)
		return roster_find_batch(roster, id);
	for (struct roster_batch *batch = roster->names[bucket_of(text)]; batch; batch = batch->next_of_name)
		if (strcmp(batch->name, text) == 0)
			return batch;
	return NULL;
}

uint32_t roster_resolve(const struct roster *roster, const char *text)
{
	const char *slash = strchr(text, '/');
	struct roster_batch *batch = NULL;
	uint64_t id;

	if (str_parse_u64(text, UINT64_MAX, &id) == 0)
		return core_index(roster->core, id);
	if (slash) {
		CLEANUP_FREE char *batch_text = xmemdup0(text, (size_t)(slash - text));

		batch = roster_resolve_batch(roster, batch_text);
		if (!batch)
			return TASK_NONE;
		text = slash + 1;
	}
	for (uint32_t index = roster->last; index != TASK_NONE; index = roster->tasks[index].previous) {
		const struct roster_task *task = &roster->tasks[index];

		if (task->name && (!batch || task->batch == batch) && strcmp(task->name, text) == 0)
			return index;
	}
	return TASK_NONE;
}

char *roster_encode_batch(const struct roster_batch *batch)
{
	json_t *spec =
		json_pack("{s:s, s:i, s:I, s:b, s:s*, s:s*, s:s*, s:s*}", "cwd", batch->cwd, "umask", (int)batch->umask,
	                  "limit", (json_int_t)batch->limit, "keeps_worktrees", batch->keeps_worktrees, "top", batch->top,
	                  "common_dir", batch->common_dir, "prefix", batch->prefix, "commit", batch->commit);
	char *text;

	ASSERT(spec);
	text = json_dumps(spec, JSON_COMPACT);
	json_decref(spec);
	ASSERT(text);
	return text;
}

int roster_decode_batch(const char *spec, struct roster_batch *ret, struct err *err)
{
	const char *cwd, *top = NULL, *common_dir = NULL, *prefix = NULL, *commit = NULL;
	json_error_t where;
	json_t *root = json_loads(spec, 0, &where);
	int umask_bits, keeps_worktrees;
	json_int_t limit;

	if (!root || json_unpack(root, "{s:s, s:i, s:I, s:b, s?s, s?s, s?s, s?s}", "cwd", &cwd, "umask", &umask_bits,
	                         "limit", &limit, "keeps_worktrees", &keeps_worktrees, "top", &top, "common_dir",
	                         &common_dir, "prefix", &prefix, "commit", &commit) < 0) {
		json_decref(root);
		return err_say(err, -EILSEQ, "the stored description of a batch cannot be read: %s", where.text);
	}
	ret->cwd = xstrdup(cwd);
	ret->top = xstrdup(top);
	ret->common_dir = xstrdup(common_dir);
	ret->prefix = xstrdup(prefix);
	ret->commit = xstrdup(commit);
	ret->umask = (uint32_t)umask_bits;
	ret->limit = (uint32_t)limit;
	ret->keeps_worktrees = keeps_worktrees;
	json_decref(root);
	return 0;
}

struct roster_environment *roster_use_environment(struct roster *roster, const char *name, bool *ret_is_new)
{
	struct roster_environment *environment = roster->environments;

	while (environment && strcmp(environment->name, name) != 0)
		environment = environment->next;
	*ret_is_new = !environment;
	if (!environment) {
		environment = xcalloc(1, sizeof(*environment));
		*environment = (struct roster_environment){ .name = xstrdup(name), .next = roster->environments };
		roster->environments = environment;
	}
	environment->users++;
	return environment;
}

bool roster_has_environment(const struct roster *roster, const char *name)
{
	for (const struct roster_environment *at = roster->environments; at; at = at->next)
		if (strcmp(at->name, name) == 0)
			return at->users > 0;
	return false;
}

void roster_drop_environments(struct roster *roster, void (*drop)(void *context, const char *name), void *context)
{
	struct roster_environment **at = &roster->environments;

	while (*at) {
		struct roster_environment *environment = *at;

		if (environment->users > 0) {
			at = &environment->next;
			continue;
		}
		if (drop)
			drop(context, environment->name);
		*at = environment->next;
		free(environment->name);
		free(environment);
	}
}
