#include "daemon/turn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "daemon/broken.h"
#include "daemon/daemon.h"
#include "daemon/history.h"
#include "daemon/full.h"
#include "daemon/present.h"
#include "platform/random.h"

/* Makes room for one more item of an array that doubles. */
static void *grow(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
	if (count < *capacity)
		return items;
	*capacity = MAX(2 * *capacity, 64u);
	return xrealloc(items, *capacity * size);
}

struct store_txn *turn_txn(struct daemon *daemon)
{
	struct generation *next = &daemon->turn.next;

	if (!next->txn)
		next->txn = store_txn_new();
	return next->txn;
}

void turn_mark_dirty(struct daemon *daemon, uint32_t index)
{
	struct generation *next = &daemon->turn.next;
	struct roster_task *task = roster_task(&daemon->roster, index);

	if (task->is_dirty)
		return;
	task->is_dirty = true;
	next->dirty = grow(next->dirty, next->dirty_count, &next->dirty_capacity, sizeof(*next->dirty));
	next->dirty[next->dirty_count++] = index;
}

void turn_drop_dirty(struct daemon *daemon, uint32_t index)
{
	struct generation *next = &daemon->turn.next;

	for (uint32_t i = 0; i < next->dirty_count; i++) {
		if (next->dirty[i] == index) {
			next->dirty[i] = next->dirty[--next->dirty_count];
			return;
		}
	}
}

void turn_after_commit(struct daemon *daemon, turn_waiter call, void *context)
{
	struct generation *next = &daemon->turn.next;

	next->waiters = grow(next->waiters, next->waiter_count, &next->waiter_capacity, sizeof(*next->waiters));
	next->waiters[next->waiter_count++] = (struct turn_waiting){ .call = call, .context = context };
}

/* The next line of the event log, and the event for who listens: *event gets number and time. */
static void log_event(struct daemon *daemon, struct turn_event *event, const char *data)
{
	struct generation *next = &daemon->turn.next;

	event->seq = ++daemon->last_seq;
	event->at_ms = daemon->now_ms;
	store_txn_append_event(turn_txn(daemon), &(struct store_event){ .seq = event->seq,
	                                                                .at_ms = event->at_ms,
	                                                                .task = event->task,
	                                                                .batch = event->batch,
	                                                                .kind = event->kind,
	                                                                .data = data });
	next->last_seq = event->seq;
	next->events = grow(next->events, next->event_count, &next->event_capacity, sizeof(*next->events));
	next->events[next->event_count++] = *event;
}

static void log_change(struct daemon *daemon, const struct effect *effect)
{
	const struct task *now = core_task_at(daemon->core, effect->index);
	const struct task *ended = daemon->turn.ended;
	const struct task *task = ended && ended->id == now->id && ended->attempt == effect->attempt ? ended : now;
	bool has_ended = task_state_is_final(effect->to) || (effect->to == TASK_QUEUED && effect->from != TASK_STATE_MAX);
	CLEANUP_BUF struct buf data = BUF_INIT;
	struct turn_event event = {
		.task = task->id,
		.batch = task->batch,
		.attempt = effect->attempt,
		.exit_code = has_ended ? task->exit_code : -1,
		.exit_signal = has_ended ? task->exit_signal : 0,
		.cause = has_ended ? (uint8_t)task->cause.kind : CAUSE_NONE,
		.state = effect->to,
		.kind = present_event_kind(effect->to),
	};

	present_add_event_data(&data, &event);
	log_event(daemon, &event, data.bytes);
}

void turn_log(struct daemon *daemon, const char *kind, uint64_t batch)
{
	struct turn_event event = { .batch = batch, .exit_code = -1, .state = TASK_STATE_MAX, .kind = kind };

	log_event(daemon, &event, NULL);
}

/* An attempt that is to start gets a number by which its record is known from any other's. */
static void give_nonce(struct daemon *daemon, const struct effect *effect)
{
	struct roster_task *texts = roster_task(&daemon->roster, effect->index);

	if (attempts_is_bound(daemon, core_task_at(daemon->core, effect->index)))
		return; /* found running at start: its record has the number it was started with */
	texts->nonce = random_u64();
	turn_mark_dirty(daemon, effect->index);
}

void turn_absorb(struct daemon *daemon, const struct effects *effects)
{
	struct generation *next = &daemon->turn.next;

	for (uint32_t i = 0; i < effects->count; i++) {
		const struct effect *effect = &effects->items[i];

		if (effect->kind == EFFECT_CHANGED) {
			turn_mark_dirty(daemon, effect->index);
			log_change(daemon, effect);
			if (task_state_is_final((enum task_state)effect->to))
				room_note_end(daemon);
			continue;
		}
		if (effect->kind == EFFECT_START)
			give_nonce(daemon, effect);
		next->effects = grow(next->effects, next->effect_count, &next->effect_capacity, sizeof(*next->effects));
		next->effects[next->effect_count++] = *effect;
	}
}

int turn_step(struct daemon *daemon, const struct core_event *event)
{
	struct core_event stamped = *event;
	struct effects effects;
	struct task before, ended;
	uint32_t index = event->kind == CORE_INPUT ? core_index(daemon->core, event->task) : TASK_NONE;
	int r;

	if (index != TASK_NONE)
		before = *core_task_at(daemon->core, index);
	stamped.wall_ms = daemon->now_ms;
	r = core_step(daemon->core, &stamped, daemon->now_ns, &effects);
	if (r < 0)
		return r;
	if (index != TASK_NONE) {
		turn_mark_dirty(daemon, index); /* even without a change of state: phase, usage, wishes */
		if (history_note(daemon, index, &before, event, &ended))
			daemon->turn.ended = &ended;
	}
	turn_absorb(daemon, &effects);
	daemon->turn.ended = NULL;
	return 0;
}

static void put_dirty_rows(struct daemon *daemon, struct generation *generation)
{
	for (uint32_t i = 0; i < generation->dirty_count; i++) {
		uint32_t index = generation->dirty[i];
		struct roster_task *texts = roster_task(&daemon->roster, index);
		CLEANUP_FREE char *result = texts->result ? json_dumps(texts->result, JSON_COMPACT) : NULL;
		struct store_task row = {
			.task = *core_task_at(daemon->core, index),
			.detail = texts->detail,
			.result = result,
			.nonce = texts->nonce,
		};

		texts->is_dirty = false;
		store_txn_put_task(generation->txn, &row);
	}
	generation->dirty_count = 0;
}

void turn_clear_generation(struct generation *generation)
{
	generation->effect_count = 0;
	generation->waiter_count = 0;
	generation->event_count = 0;
	generation->txn = NULL;
}

static void publish(struct daemon *daemon, struct generation *done)
{
	for (uint32_t i = 0; i < done->event_count; i++) {
		const struct turn_event *event = &done->events[i];
		bool is_final = event->state < TASK_STATE_MAX && task_state_is_final(event->state);
		json_t *json;

		daemon->turn.published_seq = event->seq;
		if (!server_has_subscriber(daemon->server, event->batch, is_final))
			continue;
		json = present_turn_event(daemon, event);
		server_publish(daemon->server, json, event->batch, is_final);
		json_decref(json);
	}
}

static void perform_durable(struct daemon *daemon)
{
	struct generation *done = &daemon->turn.in_flight;

	daemon->turn.durable_task = done->last_task;
	daemon->turn.durable_batch = done->last_batch;
	if (done->last_seq > 0) {
		if (record_write_committed(daemon->slots_fd, done->last_seq) < 0)
			log_warning("the slot file cannot be written: a database that loses its WAL would not be noticed");
	}
	if (done->effect_count > 0)
		FAILPOINT("claimed");
	for (uint32_t i = 0; i < done->effect_count; i++)
		perform_effect(daemon, &done->effects[i]);
	if (done->waiter_count > 0)
		FAILPOINT("committed_not_acked");
	for (uint32_t i = 0; i < done->waiter_count; i++)
		done->waiters[i].call(daemon, done->waiters[i].context, NULL);
	if (done->event_count > 0)
		FAILPOINT("committed_not_notified");
	publish(daemon, done);
	turn_clear_generation(done);
}

void turn_on_commit(struct daemon *daemon)
{
	struct err err = ERR_INIT;
	int r = store_is_busy(daemon->store) ? store_finish(daemon->store, &err) : -EAGAIN;

	if (r == -EAGAIN)
		return; /* only reads have ended */
	if (r < 0 && store_is_busy(daemon->store)) {
		full_enter(daemon, &err);
		return;
	}
	full_leave(daemon);
	if (r == 0) {
		perform_durable(daemon);
		return;
	}
	broken_enter(daemon, &err);
}

/* What was gathered goes in flight; what was in flight is done and its memory gathers next. */
static void swap_generations(struct turn *turn)
{
	struct generation done = turn->in_flight;

	turn->in_flight = turn->next;
	turn->next = done;
	turn->next.last_seq = 0;
}

static bool is_gathered(const struct generation *next)
{
	return next->txn || next->dirty_count > 0 || next->effect_count > 0 || next->waiter_count > 0;
}

/* Completes the transaction of what was gathered. */
static void seal(struct daemon *daemon, struct generation *next)
{
	struct store_facts facts = {
		.last_task = daemon->last_task,
		.last_batch = daemon->last_batch,
		.last_seq = daemon->last_seq,
		.core_offset_ns = daemon->core_offset_ns,
		.core_last_ns = daemon->now_ns,
		.core_last_ms = daemon->now_ms,
	};

	turn_txn(daemon);
	put_dirty_rows(daemon, next);
	next->last_task = daemon->last_task;
	next->last_batch = daemon->last_batch;
	memcpy(facts.boot_id, daemon->boot_id, sizeof(facts.boot_id));
	store_txn_put_clock(next->txn, &facts);
}

void turn_end(struct daemon *daemon)
{
	struct turn *turn = &daemon->turn;

	if (daemon->is_broken) {
		swap_generations(turn);
		broken_perform(daemon, &turn->in_flight);
		return;
	}
	if (daemon->is_full)
		full_relieve(daemon, &turn->next);
	if (store_is_busy(daemon->store) || !is_gathered(&turn->next))
		return;
	FAILPOINT("decided_not_committed");
	seal(daemon, &turn->next);
	swap_generations(turn);
	store_commit(daemon->store, turn->in_flight.txn);
	json_object_clear(daemon->fresh_keys); /* the store knows them from now on */
	FAILPOINT("committing");
}

/* Moves what was decided; answers, all given by now, and rows are not among it. */
static void append_generation(struct generation *to, struct generation *from)
{
	ASSERT(from->waiter_count == 0 && from->dirty_count == 0);
	for (uint32_t i = 0; i < from->effect_count; i++) {
		to->effects = grow(to->effects, to->effect_count, &to->effect_capacity, sizeof(*to->effects));
		to->effects[to->effect_count++] = from->effects[i];
	}
	for (uint32_t i = 0; i < from->event_count; i++) {
		to->events = grow(to->events, to->event_count, &to->event_capacity, sizeof(*to->events));
		to->events[to->event_count++] = from->events[i];
	}
	to->last_seq = MAX(to->last_seq, from->last_seq);
	to->last_task = from->last_task;
	to->last_batch = from->last_batch;
	turn_clear_generation(from);
	from->last_seq = 0;
}

void turn_retry(struct daemon *daemon)
{
	struct turn *turn = &daemon->turn;
	struct store_txn *more = NULL;

	full_relieve(daemon, &turn->next);
	if (is_gathered(&turn->next)) {
		seal(daemon, &turn->next);
		more = turn->next.txn; /* the store's from now on */
		append_generation(&turn->in_flight, &turn->next);
		json_object_clear(daemon->fresh_keys);
	}
	store_retry(daemon->store, more);
}

bool turn_is_idle(const struct daemon *daemon)
{
	return !store_is_busy(daemon->store) && !is_gathered(&daemon->turn.next);
}

static void generation_done(struct generation *generation)
{
	turn_clear_generation(generation);
	free(generation->effects);
	free(generation->waiters);
	free(generation->events);
	free(generation->dirty);
}

void turn_done(struct daemon *daemon)
{
	if (daemon->turn.next.txn)
		store_txn_free(TAKE_PTR(daemon->turn.next.txn));
	generation_done(&daemon->turn.next);
	generation_done(&daemon->turn.in_flight);
}
