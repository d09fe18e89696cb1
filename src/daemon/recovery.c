#include "daemon/recovery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "core/recover.h"
#include "daemon/daemon.h"
#include "daemon/processes.h"
#include "platform/clock.h"

/* ---- what the store remembers ------------------------------------------------------------------------------------ */

struct loading {
	struct daemon *daemon;
	struct err *err;
	int result;
};

static void on_batch(void *context, const struct store_batch *row)
{
	struct loading *loading = context;
	struct roster_batch batch = { .id = row->id, .created_ms = row->created_ms };
	struct core_event event = { .kind = CORE_ADD_BATCH, .batch = row->id };
	struct effects effects;
	bool is_new;

	if (loading->result < 0)
		return;
	loading->result = roster_decode_batch(row->spec, &batch, loading->err);
	if (loading->result < 0)
		return;
	batch.name = xstrdup(row->name);
	if (row->environment)
		batch.environment = roster_use_environment(&loading->daemon->roster, row->environment, &is_new);
	event.limit = batch.limit; /* more of it may run than a hardMaxConcurrent set since allows: that bounds new starts */
	if (core_step(loading->daemon->core, &event, loading->daemon->now_ns, &effects) < 0)
		NEVER("the store gives each batch once");
	roster_add_batch(&loading->daemon->roster, &batch);
}

static void on_pause(void *context, const struct store_pause *row)
{
	struct loading *loading = context;

	if (loading->result == 0)
		pauses_restore(loading->daemon, row);
}

static void on_task(void *context, const struct store_task *row)
{
	struct loading *loading = context;
	struct daemon *daemon = loading->daemon;
	struct roster_batch *batch = roster_find_batch(&daemon->roster, row->task.batch);
	CLEANUP_FREE struct core_dependency *dependencies = xcalloc(row->dependency_count, sizeof(*dependencies));
	struct core_event event = {
		.kind = CORE_RESTORE_TASK,
		.restore = &row->task,
		.dependencies = dependencies,
		.dependency_count = row->dependency_count,
	};
	struct roster_task *texts;
	struct effects effects;

	if (loading->result < 0)
		return;
	for (uint32_t i = 0; i < row->dependency_count; i++)
		dependencies[i] =
			(struct core_dependency){ .task = row->dependencies[i].task, .is_any = row->dependencies[i].is_any };
	if (!batch || core_step(daemon->core, &event, daemon->now_ns, &effects) < 0) {
		loading->result =
			err_say(loading->err, -EILSEQ, "the database is damaged: task %llu does not fit its batch %llu",
		                (unsigned long long)row->task.id, (unsigned long long)row->task.batch);
		return;
	}
	texts = roster_add(&daemon->roster, core_index(daemon->core, row->task.id), batch, xstrdup(row->name),
	                   xstrdup(row->spec));
	roster_set_detail(texts, row->detail);
	texts->result = row->result ? json_loads(row->result, 0, NULL) : NULL;
	texts->nonce = row->nonce;
}

/* A machine may come up with any wall clock: what waits or is kept for days is not to be over by that. */
#define AWAY_MAX_NS NS_PER_DAY

bool recovery_is_rebooted(const struct store_facts *facts, const uint8_t boot_id[16])
{
	return facts->core_last_ns > 0 && memcmp(facts->boot_id, boot_id, sizeof(facts->boot_id)) != 0;
}

/* Core time goes on: over a restart by the stored offset, over a reboot by the wall clock, if that went forward. */
static void continue_time(struct daemon *daemon, const struct store_facts *facts)
{
	int64_t away_ms = clock_wall_ms() - facts->core_last_ms;
	uint64_t away_ns = away_ms > 0 && away_ms < INT64_MAX / (int64_t)NS_PER_MS ? (uint64_t)away_ms * NS_PER_MS : 0;

	daemon->is_rebooted = recovery_is_rebooted(facts, daemon->boot_id);
	if (!daemon->is_rebooted)
		daemon->core_offset_ns = facts->core_offset_ns;
	else
		daemon->core_offset_ns =
			facts->core_last_ns + MIN(away_ns, AWAY_MAX_NS) - clock_monotonic_ns();
	daemon_take_time(daemon);
	daemon->now_ns = MAX(daemon->now_ns, facts->core_last_ns);
}

int recovery_load(struct daemon *daemon, struct err *err)
{
	struct loading loading = { .daemon = daemon, .err = err };
	struct store_loader loader = { .context = &loading, .on_batch = on_batch, .on_pause = on_pause,
		                       .on_task = on_task };
	struct store_facts facts;
	int r = store_load(daemon->store, &loader, &facts, err);

	if (r == 0)
		r = loading.result;
	if (r < 0)
		return r;
	continue_time(daemon, &facts);
	daemon->last_task = facts.last_task;
	daemon->last_batch = facts.last_batch;
	daemon->last_seq = facts.last_seq;
	daemon->first_seq = facts.first_seq;
	daemon->turn.published_seq = facts.last_seq;
	daemon->turn.durable_task = facts.last_task;
	daemon->turn.durable_batch = facts.last_batch;
	return 0;
}

/* ---- what is there ----------------------------------------------------------------------------------------------- */

enum { LOOKS_MAX = 5 }; /* an attempt ends once, so the second look settles it */

/* News to be fed once the core has resumed. */
struct news {
	struct core_event *events;
	size_t count;
	size_t capacity;
};

static void add_news(struct news *news, const struct core_event *event)
{
	if (news->count == news->capacity) {
		news->capacity = MAX(2 * news->capacity, (size_t)16);
		news->events = xrealloc(news->events, news->capacity * sizeof(*news->events));
	}
	news->events[news->count++] = *event;
}

/* Reads a record and takes back an order that no shim took: whoever gets the lock knows that none will. */
static void look_at_slot(struct daemon *daemon, uint32_t slot, struct slot_record *record, struct recover_facts *facts)
{
	int r = record_lock(daemon->slots_fd, slot);

	facts->is_lock_held = r == -EAGAIN;
	facts->has_record = record_read(daemon->slots_fd, slot, record) == 0 && record->state != RECORD_FREE;
	facts->is_armed = r == 0 && facts->has_record && record->state == RECORD_ARMED;
	facts->has_end = facts->has_record && (record->state == RECORD_ENDED || record->state == RECORD_FAILED ||
	                                       record->state == RECORD_UNKNOWN);
	facts->is_same_boot = facts->has_record && memcmp(record->boot_id, daemon->boot_id, sizeof(daemon->boot_id)) == 0;
	facts->is_rebooted = daemon->is_rebooted;
	facts->is_populated = facts->has_record && facts->is_same_boot && !record->has_left_running &&
	                      processes_are_left(daemon, slot, record);
	if (facts->is_armed) {
		struct slot_record blank = { .state = RECORD_FREE };

		record_write(daemon->slots_fd, slot, &blank);
	}
	if (r == 0)
		record_unlock(daemon->slots_fd, slot);
}

static bool is_latest_attempt(struct daemon *daemon, uint32_t slot, const struct slot_record *record)
{
	const struct task *task = core_find(daemon->core, record->task);

	return task && task_state_is_active(task->state) && task->slot == slot && task->attempt == record->attempt &&
	       roster_task(&daemon->roster, core_index(daemon->core, task->id))->nonce == record->nonce;
}

static void tell_started(const struct slot_record *record, const struct task *task, struct news *news)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_STARTED,
		.task = task->id,
		.attempt = task->attempt,
		.exit_code = -1,
	};

	if (record->state == RECORD_STARTED && task->phase == PHASE_START)
		add_news(news, &event);
}

static void tell_lost(const struct recover_facts *facts, const struct task *task, struct news *news)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_ATTEMPT_LOST,
		.task = task->id,
		.attempt = task->attempt,
		.exit_code = -1,
		.cause = { .kind = facts->is_rebooted ? CAUSE_REBOOT : CAUSE_VANISHED },
	};

	add_news(news, &event);
}

static void tell_not_started(const struct task *task, struct news *news)
{
	struct core_event event = {
		.kind = CORE_INPUT,
		.input = INPUT_START_REFUSED,
		.task = task->id,
		.attempt = task->attempt,
		.exit_code = -1,
	};

	add_news(news, &event);
}

static void tell_end(const struct slot_record *record, struct news *news)
{
	struct core_event event;

	if (attempts_read_end(record, &event))
		add_news(news, &event);
}

static void kill_strays(struct daemon *daemon, uint32_t slot, const struct slot_record *record)
{
	log_warning("slot %u: ending what is left of task %llu attempt %u, which is over", slot,
	            (unsigned long long)record->task, record->attempt);
	processes_kill(daemon, slot, record);
}

/* Does what the table says about the attempt of an active task. 0, or -ESRCH when it changed meanwhile. */
static int settle(struct daemon *daemon, const struct task *task, const struct slot_record *record,
                  const struct recover_facts *facts, struct news *news)
{
	enum recover_action action = recover_classify(facts);

	log_debug("task %llu attempt %u: %s", (unsigned long long)task->id, task->attempt, recover_action_name(action));
	switch (action) {
	case RECOVER_ADOPT:
		if (attempts_adopt(daemon, task, record) < 0)
			return -ESRCH;
		tell_started(record, task, news);
		break;
	case RECOVER_ADOPT_WITHOUT_SHIM:
		attempts_take_over(daemon, task, record);
		tell_started(record, task, news);
		break;
	case RECOVER_KILL_AND_RECORD_END:
		processes_kill(daemon, task->slot, record);
		tell_end(record, news);
		break;
	case RECOVER_RECORD_END:
		tell_end(record, news);
		break;
	case RECOVER_LOST:
		tell_lost(facts, task, news);
		break;
	case RECOVER_NOT_STARTED:
		tell_not_started(task, news);
		break;
	case RECOVER_KILL_STRAYS:
		kill_strays(daemon, task->slot, record);
		break;
	default:
		break; /* the core orders it again when it resumes */
	}
	return 0;
}

static void settle_task(struct daemon *daemon, const struct task *task, struct news *news)
{
	for (unsigned look = 0; look < LOOKS_MAX; look++) {
		struct recover_facts facts = { 0 };
		struct slot_record record = { 0 };

		look_at_slot(daemon, task->slot, &record, &facts);
		facts.has_record = facts.has_record && is_latest_attempt(daemon, task->slot, &record);
		facts.has_task = true;
		facts.state = task->state;
		facts.phase = task->phase;
		if (settle(daemon, task, &record, &facts, news) == 0)
			return;
	}
	log_warning("task %llu: its shim comes and goes; it is looked at again when it ends", (unsigned long long)task->id);
}

void recovery_run(struct daemon *daemon)
{
	struct news news = { 0 };
	struct effects effects;
	CLEANUP_FREE bool *is_seen = xcalloc(LIMIT_SLOTS, sizeof(bool));

	for (uint32_t index = daemon->roster.first; index != TASK_NONE; index = daemon->roster.tasks[index].next) {
		const struct task *task = core_task_at(daemon->core, index);

		if (!task_state_is_active(task->state))
			continue;
		ASSERT(task->slot < LIMIT_SLOTS);
		is_seen[task->slot] = true;
		settle_task(daemon, task, &news);
	}
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		struct recover_facts facts = { 0 };
		struct slot_record record = { 0 };

		if (is_seen[slot])
			continue;
		look_at_slot(daemon, slot, &record, &facts);
		if (recover_classify(&facts) == RECOVER_KILL_STRAYS)
			kill_strays(daemon, slot, &record);
	}
	FAILPOINT("recovery_classified");
	core_resume(daemon->core, daemon->now_ns, &effects);
	turn_absorb(daemon, &effects);
	for (size_t i = 0; i < news.count; i++)
		daemon_feed(daemon, &news.events[i]);
	free(news.events);
	FAILPOINT("recovery_fed");
	core_check(daemon->core);
}
