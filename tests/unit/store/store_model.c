#include "store_model.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

struct model *model_new(uint64_t seed)
{
	struct model *model = xcalloc(1, sizeof(*model));

	model->seed = seed;
	model->random.state = mix64(seed);
	model->now_ms = 1700000000000;
	model->facts.first_seq = 1;
	model->facts.schema_version = 2;
	return model;
}

const char *model_text(uint32_t number)
{
	static char texts[4][20001];
	static unsigned turn;
	char *text = texts[turn++ % 4];
	size_t length = number % 97 == 0 ? 4000 + number % 16000 : number % 120;
	int start;

	if (number == 0)
		return NULL;
	start = snprintf(text, 20000, "{\"%u\": \"\xc3\xa4", number);
	for (size_t i = (size_t)start; i < length; i++)
		text[i] = (char)('a' + (number + i) % 26);
	text[MAX(length, (size_t)start)] = '\0';
	return text;
}

static uint32_t random_text(struct model *model)
{
	return random_chance(&model->random, 300) ? 0 : (uint32_t)random_below(&model->random, 1000000) + 1;
}

/* Numbers at the ends of their ranges and in between. */
static uint64_t random_number(struct model *model)
{
	static const uint64_t special[] = { 0, 1, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT32_MAX };

	if (random_chance(&model->random, 200))
		return special[random_below(&model->random, ARRAY_SIZE(special))];
	return random_next(&model->random) >> random_below(&model->random, 64);
}

static void change_state(struct model *model, struct model_task *it)
{
	struct random *random = &model->random;
	struct task *task = &it->task;

	task->state = (uint8_t)random_below(random, TASK_STATE_MAX);
	task->priority = (uint8_t)random_below(random, PRIORITY_MAX);
	task->phase = (uint8_t)random_below(random, PHASE_MAX);
	task->outcome = (uint8_t)random_below(random, TASK_STATE_MAX + 1);
	task->marks = (uint32_t)random_number(model);
	task->attempt = (uint32_t)random_number(model);
	task->retries_used = (uint32_t)random_number(model);
	task->lost_used = (uint32_t)random_number(model);
	task->slot = random_chance(random, 500) ? TASK_NONE : (uint32_t)random_below(random, 64);
	task->waits_for = (uint32_t)random_below(random, 5);
	task->cause = (struct cause){ .kind = (uint32_t)random_below(random, CAUSE_MAX), .value = random_number(model) };
	task->exit_code = (int32_t)random_number(model);
	task->exit_signal = (int32_t)random_below(random, 65);
	task->ready_ns = random_chance(random, 300) ? 7 : random_number(model);
	task->due_ns = random_number(model);
	task->started_ns = random_number(model);
	task->ran_ns = random_number(model);
	task->ended_ns = random_number(model);
	task->started_ms = (int64_t)random_number(model);
	task->ended_ms = (int64_t)random_number(model);
	task->usage.cpu_us = random_number(model);
	task->usage.memory_peak_bytes = random_number(model);
	task->usage.output_bytes = random_number(model);
	task->usage.output_dropped_bytes = random_number(model);
	task->usage.strays = (uint32_t)random_number(model);
	task->usage.is_known = random_chance(random, 500);
	it->nonce = random_number(model);
	it->detail = random_text(model);
	it->result = random_text(model);
}

/* The model's task as the store wants it; texts as in model_text(), dependencies given separately. */
static struct store_task to_store_task(const struct model_task *it)
{
	return (struct store_task){
		.task = it->task,
		.name = model_text(it->name),
		.spec = model_text(it->spec),
		.detail = model_text(it->detail),
		.result = model_text(it->result),
		.nonce = it->nonce,
		.dependencies = it->dependencies,
		.dependency_count = it->dependency_count,
	};
}

static struct model_task *random_task(struct model *model)
{
	for (int i = 0; model->facts.last_task > 0 && i < 20; i++) {
		struct model_task *it = &model->tasks[random_below(&model->random, model->facts.last_task)];

		if (it->is_there)
			return it;
	}
	return NULL;
}

static void step_add_batch(struct model *model, struct store_txn *txn)
{
	struct model_batch *it = &model->batches[model->facts.last_batch];
	char environment[32];
	struct store_batch batch;

	if (model->facts.last_batch == MODEL_BATCHES)
		return;
	it->name = random_text(model);
	it->spec = random_text(model);
	it->created_ms = model->now_ms;
	it->has_environment = random_chance(&model->random, 100);
	it->is_there = true;
	batch = (struct store_batch){ .id = ++model->facts.last_batch, .name = model_text(it->name),
	                             .spec = model_text(it->spec),
		                      .created_ms = it->created_ms };
	snprintf(environment, sizeof(environment), "env/%llu", (unsigned long long)batch.id);
	batch.environment = it->has_environment ? environment : NULL;
	if (txn && it->has_environment)
		store_txn_put_blob(txn, environment, "A=1\0B=2", 8);
	if (txn)
		store_txn_put_batch(txn, &batch);
}

static void step_add_task(struct model *model, struct store_txn *txn)
{
	struct model_task *it = &model->tasks[model->facts.last_task];
	uint64_t batch = model->facts.last_batch;

	while (batch > 0 && !model->batches[batch - 1].is_there)
		batch--;
	if (batch == 0 || model->facts.last_task == MODEL_TASKS)
		return;
	for (int i = 0; i < MODEL_DEPENDENCIES; i++) {
		const struct model_task *other = random_chance(&model->random, 200) ? random_task(model) : NULL;

		if (other)
			it->dependencies[it->dependency_count++] =
				(struct store_dependency){ other->task.id, random_chance(&model->random, 500) };
	}
	it->task.id = ++model->facts.last_task;
	it->task.batch = batch;
	it->task.timeout_ns = random_number(model);
	it->task.grace_ns = random_number(model);
	it->task.backoff_ns = random_number(model);
	it->task.retries_max = (uint32_t)random_number(model);
	it->task.flags = (uint32_t)random_below(&model->random, 16);
	it->task.created_ms = model->now_ms;
	it->name = random_text(model);
	it->spec = random_text(model);
	it->is_there = true;
	change_state(model, it);
	if (txn) {
		struct store_task task = to_store_task(it);

		store_txn_add_task(txn, &task);
	}
}

static void step_put_task(struct model *model, struct store_txn *txn)
{
	struct model_task *it = random_task(model);

	if (!it)
		return;
	change_state(model, it);
	if (txn) {
		struct store_task task = to_store_task(it);

		store_txn_put_task(txn, &task);
	}
}

static void forget_in_dependencies(struct model *model, uint64_t id)
{
	for (uint64_t i = 0; i < model->facts.last_task; i++) {
		struct model_task *it = &model->tasks[i];
		uint32_t kept = 0;

		for (uint32_t j = 0; j < it->dependency_count; j++)
			if (it->dependencies[j].task != id)
				it->dependencies[kept++] = it->dependencies[j];
		it->dependency_count = kept;
	}
}

static void step_forget_task(struct model *model, struct store_txn *txn)
{
	struct model_task *it = random_task(model);

	if (!it)
		return;
	it->is_there = false;
	forget_in_dependencies(model, it->task.id);
	if (txn)
		store_txn_forget_task(txn, it->task.id);
}

static void step_put_pause(struct model *model, struct store_txn *txn)
{
	uint64_t batch = random_below(&model->random, model->facts.last_batch + 1);
	struct model_pause *it = &model->pauses[batch];
	struct store_pause pause;

	if (batch > 0 && !model->batches[batch - 1].is_there)
		return;
	*it = (struct model_pause){
		.since_ms = model->now_ms,
		.who = random_text(model),
		.reason = random_text(model),
		.suspends = random_chance(&model->random, 500),
		.is_there = true,
	};
	pause = (struct store_pause){ .batch = batch, .since_ms = it->since_ms, .suspends = it->suspends,
		                      .who = model_text(it->who), .reason = model_text(it->reason) };
	if (txn)
		store_txn_put_pause(txn, &pause);
}

static void forget_pause(struct model *model, struct store_txn *txn, uint64_t batch)
{
	model->pauses[batch].is_there = false;
	if (txn)
		store_txn_forget_pause(txn, batch);
}

static void step_forget_pause(struct model *model, struct store_txn *txn)
{
	forget_pause(model, txn, random_below(&model->random, model->facts.last_batch + 1));
}

static void step_forget_batch(struct model *model, struct store_txn *txn)
{
	uint64_t id = model->facts.last_batch > 0 ? random_below(&model->random, model->facts.last_batch) + 1 : 0;
	char environment[32];

	if (id == 0 || !model->batches[id - 1].is_there)
		return;
	for (uint64_t i = 0; i < model->facts.last_task; i++)
		if (model->tasks[i].is_there && model->tasks[i].task.batch == id)
			return;
	model->batches[id - 1].is_there = false;
	forget_pause(model, txn, id);
	snprintf(environment, sizeof(environment), "env/%llu", (unsigned long long)id);
	if (txn && model->batches[id - 1].has_environment)
		store_txn_drop_blob(txn, environment);
	if (txn)
		store_txn_forget_batch(txn, id);
}

static void step_append_event(struct model *model, struct store_txn *txn)
{
	struct model_event *it = &model->events[model->facts.last_seq];
	struct store_event event;

	ASSERT(model->facts.last_seq < MODEL_EVENTS);
	*it = (struct model_event){
		.at_ms = model->now_ms,
		.task = random_number(model),
		.batch = random_number(model),
		.data = random_text(model),
	};
	event = (struct store_event){ .seq = ++model->facts.last_seq, .at_ms = it->at_ms, .task = it->task,
	                             .batch = it->batch,
		                      .kind = "task.running", .data = model_text(it->data) };
	if (txn)
		store_txn_append_event(txn, &event);
}

static void step_drop_events(struct model *model, struct store_txn *txn)
{
	uint64_t held = model->facts.last_seq + 1 - model->facts.first_seq;

	model->facts.first_seq += random_below(&model->random, held + 1);
	if (txn)
		store_txn_drop_events(txn, model->facts.first_seq);
}

static void step_put_key(struct model *model, struct store_txn *txn)
{
	struct model_key *it = &model->keys[model->key_count];
	char key[32];

	if (model->key_count == MODEL_KEYS)
		return;
	*it = (struct model_key){ model->now_ms, (uint32_t)random_below(&model->random, 100000) + 1, true };
	snprintf(key, sizeof(key), "key-%u", model->key_count++);
	if (txn)
		store_txn_put_key(txn, key, it->at_ms, model_text(it->answer));
}

static void step_drop_keys(struct model *model, struct store_txn *txn)
{
	int64_t before_ms = model->now_ms - (int64_t)random_below(&model->random, 200);

	for (uint32_t i = 0; i < model->key_count; i++)
		if (model->keys[i].at_ms < before_ms)
			model->keys[i].is_there = false;
	if (txn)
		store_txn_drop_keys(txn, before_ms);
}

static void step_put_clock(struct model *model, struct store_txn *txn)
{
	model->facts.core_offset_ns = random_number(model);
	model->facts.core_last_ns = random_number(model);
	model->facts.core_last_ms = (int64_t)random_number(model);
	for (size_t i = 0; i < sizeof(model->facts.boot_id); i++)
		model->facts.boot_id[i] = (uint8_t)random_next(&model->random);
	if (txn)
		store_txn_put_clock(txn, &model->facts);
}

void model_step(struct model *model, struct store_txn *txn)
{
	static void (*const actions[])(struct model *, struct store_txn *) = {
		step_add_batch,    step_add_task,     step_add_task,  step_put_task,  step_put_task,  step_put_task,
		step_forget_task,  step_forget_batch, step_put_key,   step_put_clock, step_append_event,
	};
	uint64_t count = 1 + random_below(&model->random, 6);

	model->now_ms += (int64_t)random_below(&model->random, 20);
	for (uint64_t i = 0; i < count; i++)
		actions[random_below(&model->random, ARRAY_SIZE(actions))](model, txn);
	if (random_chance(&model->random, 100))
		step_put_pause(model, txn);
	if (random_chance(&model->random, 50))
		step_forget_pause(model, txn);
	if (random_chance(&model->random, 50))
		step_drop_keys(model, txn);
	if (random_chance(&model->random, 20))
		step_drop_events(model, txn);
	step_append_event(model, txn);
	model->steps++;
}

struct model *model_at(uint64_t seed, uint64_t last_seq)
{
	struct model *model = model_new(seed);

	while (model->facts.last_seq < last_seq)
		model_step(model, NULL);
	if (model->facts.last_seq == last_seq)
		return model;
	free(model);
	return NULL;
}

struct comparison {
	const struct model *model;
	char *why; /* "" while all is equal */
	uint64_t tasks, batches, pauses, events;
	uint64_t ready_ns, id; /* of the task before */
};

#define DIFFERS(comparison, ...)                                                                                            \
	do {                                                                                                                \
		if ((comparison)->why[0] == '\0')                                                                           \
			snprintf((comparison)->why, 256, __VA_ARGS__);                                                      \
	} while (0)

static bool is_text(const char *text, uint32_t number)
{
	const char *wanted = model_text(number);

	return text && wanted ? strcmp(text, wanted) == 0 : text == wanted;
}

static void compare_batch(void *context, const struct store_batch *batch)
{
	struct comparison *comparison = context;
	const struct model_batch *it = &comparison->model->batches[batch->id - 1];

	comparison->batches++;
	if (batch->id > comparison->model->facts.last_batch || !it->is_there)
		DIFFERS(comparison, "batch %llu is not in the model", (unsigned long long)batch->id);
	else if (!is_text(batch->name, it->name) || !is_text(batch->spec, it->spec) || batch->created_ms != it->created_ms ||
	         (batch->environment != NULL) != it->has_environment)
		DIFFERS(comparison, "batch %llu differs", (unsigned long long)batch->id);
}

static void compare_pause(void *context, const struct store_pause *pause)
{
	struct comparison *comparison = context;
	const struct model_pause *it = &comparison->model->pauses[pause->batch];

	comparison->pauses++;
	if (pause->batch > comparison->model->facts.last_batch || !it->is_there)
		DIFFERS(comparison, "the pause of batch %llu is not in the model", (unsigned long long)pause->batch);
	else if (!is_text(pause->who, it->who) || !is_text(pause->reason, it->reason) || pause->since_ms != it->since_ms ||
	         pause->suspends != it->suspends)
		DIFFERS(comparison, "the pause of batch %llu differs", (unsigned long long)pause->batch);
}

static bool is_same_task(const struct store_task *task, const struct model_task *it)
{
	/* Both were zeroed before their members were set, so the bytes in between are zero too. */
	return memcmp(&task->task, &it->task, sizeof(it->task)) == 0 && task->nonce == it->nonce && is_text(task->name,
	                                                                                                    it->name) &&
	       is_text(task->spec, it->spec) && is_text(task->detail, it->detail) && is_text(task->result, it->result);
}

static void compare_task(void *context, const struct store_task *task)
{
	struct comparison *comparison = context;
	const struct model_task *it = &comparison->model->tasks[task->task.id - 1];
	bool is_in_order = task->task.ready_ns > comparison->ready_ns ||
	                   (task->task.ready_ns == comparison->ready_ns && task->task.id > comparison->id);

	comparison->tasks++;
	comparison->ready_ns = task->task.ready_ns;
	comparison->id = task->task.id;
	if (!is_in_order)
		DIFFERS(comparison, "task %llu comes out of order", (unsigned long long)task->task.id);
	if (task->task.id > comparison->model->facts.last_task || !it->is_there) {
		DIFFERS(comparison, "task %llu is not in the model", (unsigned long long)task->task.id);
		return;
	}
	if (!is_same_task(task, it) || task->dependency_count != it->dependency_count)
		DIFFERS(comparison, "task %llu differs", (unsigned long long)task->task.id);
	for (uint32_t i = 0; i < MIN(task->dependency_count, it->dependency_count); i++)
		if (task->dependencies[i].task != it->dependencies[i].task ||
		    task->dependencies[i].is_any != it->dependencies[i].is_any)
			DIFFERS(comparison, "a dependency of task %llu differs", (unsigned long long)task->task.id);
}

static void compare_events(void *context, const struct store_event_list *list)
{
	struct comparison *comparison = context;

	if (list->status < 0)
		DIFFERS(comparison, "reading events failed with %d", list->status);
	for (uint32_t i = 0; i < list->count; i++) {
		const struct store_event *event = &list->events[i];
		const struct model_event *it = &comparison->model->events[event->seq - 1];

		if (event->seq != comparison->model->facts.first_seq + i || event->at_ms != it->at_ms ||
		    event->task != it->task ||
		    event->batch != it->batch || !is_text(event->data, it->data) || strcmp(event->kind, "task.running") != 0)
			DIFFERS(comparison, "event %llu differs", (unsigned long long)event->seq);
	}
	comparison->events = list->count;
}

static void wait_for(struct store *store)
{
	struct pollfd poll_fd = { .fd = store_fd(store), .events = POLLIN };

	ASSERT(poll(&poll_fd, 1, 30000) == 1);
}

static bool is_same_facts(const struct store_facts *a, const struct store_facts *b)
{
	return a->last_task == b->last_task && a->last_batch == b->last_batch && a->last_seq == b->last_seq &&
	       a->first_seq == b->first_seq && a->core_offset_ns == b->core_offset_ns &&
	       a->core_last_ns == b->core_last_ns &&
	       a->core_last_ms == b->core_last_ms && memcmp(a->boot_id, b->boot_id, sizeof(a->boot_id)) == 0 &&
	       a->schema_version == b->schema_version;
}

static void compare_rest(struct comparison *comparison, struct store *store, const struct store_facts *facts)
{
	const struct model *model = comparison->model;
	uint64_t tasks = 0, batches = 0, pauses = 0;

	for (uint64_t i = 0; i < model->facts.last_task; i++)
		tasks += model->tasks[i].is_there;
	for (uint64_t i = 0; i < model->facts.last_batch; i++)
		batches += model->batches[i].is_there;
	for (uint64_t i = 0; i <= model->facts.last_batch; i++)
		pauses += model->pauses[i].is_there;
	if (pauses != comparison->pauses)
		DIFFERS(comparison, "%llu of %llu pauses came", (unsigned long long)comparison->pauses,
		        (unsigned long long)pauses);
	if (!is_same_facts(facts, &model->facts))
		DIFFERS(comparison, "the facts differ");
	if (tasks != comparison->tasks || batches != comparison->batches)
		DIFFERS(comparison, "%llu of %llu tasks, %llu of %llu batches came", (unsigned long long)comparison->tasks,
		        (unsigned long long)tasks, (unsigned long long)comparison->batches, (unsigned long long)batches);
	for (uint32_t i = 0; i < model->key_count; i++) {
		CLEANUP_FREE char *answer = NULL;
		char key[32];

		snprintf(key, sizeof(key), "key-%u", i);
		answer = store_find_key(store, key);
		if (!is_text(answer, model->keys[i].is_there ? model->keys[i].answer : 0))
			DIFFERS(comparison, "the answer to %s differs", key);
	}
	store_read_events(store, 0, UINT32_MAX, compare_events, comparison);
	wait_for(store);
	store_finish_reads(store);
	if (comparison->events != model->facts.last_seq + 1 - model->facts.first_seq)
		DIFFERS(comparison, "%llu events came", (unsigned long long)comparison->events);
}

int model_load(const struct model *model, struct store *store, bool *ret_is_equal, char *why, struct err *err)
{
	struct comparison comparison = { .model = model, .why = why };
	struct store_loader loader = { .context = &comparison, .on_batch = compare_batch, .on_pause = compare_pause,
		                       .on_task = compare_task };
	struct store_facts facts;
	int result;

	why[0] = '\0';
	result = store_load(store, &loader, &facts, err);
	if (result == 0)
		compare_rest(&comparison, store, &facts);
	*ret_is_equal = why[0] == '\0';
	return result;
}

int model_commit(struct store *store, struct store_txn *txn, struct err *err)
{
	store_commit(store, txn);
	return model_finish(store, err);
}

int model_finish(struct store *store, struct err *err)
{
	wait_for(store);
	return store_finish(store, err);
}

char *model_make_directory(void)
{
	const char *base = getenv("TMPDIR");
	char *path = xasprintf("%s/drover-store-XXXXXX", base ? base : "/tmp");

	ASSERT(mkdtemp(path));
	return path;
}

static int remove_one(const char *path, const struct stat *status UNUSED, int type UNUSED, struct FTW *walk UNUSED)
{
	return remove(path);
}

void model_remove_directory(char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(path);
}

int model_open(const char *directory, uint64_t committed_seq, struct store **ret, struct err *err)
{
	CLEANUP_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct store_options options = { .state_fd = fd, .state_dir = directory, .committed_seq = committed_seq };

	return store_open(&options, ret, err);
}
