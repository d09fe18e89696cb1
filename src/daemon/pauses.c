#include "daemon/pauses.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/units.h"
#include "daemon/daemon.h"

static struct pause_note *find(const struct daemon *daemon, uint64_t batch)
{
	struct pause_note *note = daemon->pauses;

	while (note && note->batch != batch)
		note = note->next;
	return note;
}

static void free_note(struct pause_note *note)
{
	free(note->who);
	free(note->reason);
	free(note);
}

/* Tells the core. What follows (suspended tasks, starts) becomes durable with the row. */
static void step(struct daemon *daemon, const struct pause_note *note, bool value)
{
	struct core_event event = {
		.kind = note->batch == 0 ? CORE_PAUSE : CORE_PAUSE_BATCH,
		.batch = note->batch,
		.value = value,
		.suspends = note->suspends,
	};

	if (turn_step(daemon, &event) < 0)
		NEVER("the batch of a pause is known as long as the pause is");
}

/* The entry of a batch, made when it is new, with these words. */
static struct pause_note *put(struct daemon *daemon, const struct store_pause *row)
{
	struct pause_note *note = find(daemon, row->batch);

	if (!note) {
		note = xcalloc(1, sizeof(*note));
		*note = (struct pause_note){ .batch = row->batch, .since_ms = row->since_ms, .next = daemon->pauses };
		daemon->pauses = note;
	}
	note->suspends = note->suspends || row->suspends;
	free(note->who);
	free(note->reason);
	note->who = xstrdup(row->who);
	note->reason = xstrdup(row->reason);
	return note;
}

static void take_out(struct daemon *daemon, struct pause_note *note)
{
	struct pause_note **at = &daemon->pauses;

	while (*at != note)
		at = &(*at)->next;
	*at = note->next;
}

void pauses_restore(struct daemon *daemon, const struct store_pause *row)
{
	const struct pause_note *note = put(daemon, row);
	struct core_event event = {
		.kind = note->batch == 0 ? CORE_PAUSE : CORE_PAUSE_BATCH,
		.batch = note->batch,
		.value = true,
		.suspends = note->suspends,
	};
	struct effects effects;

	if (core_step(daemon->core, &event, daemon->now_ns, &effects) < 0)
		NEVER("the store gives no pause without its batch");
}

void pauses_begin(struct daemon *daemon, const struct store_pause *wanted)
{
	const struct pause_note *note = put(daemon, wanted);
	struct store_pause row = {
		.batch = note->batch,
		.since_ms = note->since_ms,
		.suspends = note->suspends,
		.who = note->who,
		.reason = note->reason,
	};

	store_txn_put_pause(turn_txn(daemon), &row);
	turn_log(daemon, "paused", note->batch);
	step(daemon, note, true);
}

bool pauses_end(struct daemon *daemon, uint64_t batch)
{
	struct pause_note *note = find(daemon, batch);

	if (!note)
		return false;
	take_out(daemon, note);
	store_txn_forget_pause(turn_txn(daemon), batch);
	turn_log(daemon, "unpaused", batch);
	step(daemon, note, false);
	free_note(note);
	return true;
}

void pauses_forget(struct daemon *daemon, uint64_t batch)
{
	struct pause_note *note = find(daemon, batch);

	if (!note)
		return;
	take_out(daemon, note);
	store_txn_forget_pause(turn_txn(daemon), batch);
	free_note(note);
}

const struct pause_note *pauses_find(const struct daemon *daemon, uint64_t batch)
{
	return find(daemon, batch);
}

const struct pause_note *pauses_covering(const struct daemon *daemon, uint64_t batch)
{
	const struct pause_note *note = find(daemon, 0);

	return note ? note : find(daemon, batch);
}

json_t *pauses_present(const struct daemon *daemon, const struct pause_note *note)
{
	const struct roster_batch *batch = note->batch ? roster_find_batch(&daemon->roster, note->batch) : NULL;
	char since[UNITS_TEXT_MAX];

	return json_pack("{s:o, s:s?, s:s, s:s?, s:s?, s:b}", "batch",
	                 note->batch ? json_integer((json_int_t)note->batch) : json_null(), "batch_name",
	                 batch ? batch->name : NULL, "since", units_format_time(note->since_ms, since), "who", note->who,
	                 "reason", note->reason, "is_suspending", note->suspends);
}

json_t *pauses_present_all(const struct daemon *daemon)
{
	json_t *list = json_array();

	for (const struct pause_note *note = daemon->pauses; note; note = note->next)
		json_array_insert_new(list, note->batch == 0 ? 0 : json_array_size(list), pauses_present(daemon, note));
	return list;
}

void pauses_add_words(struct buf *buf, const struct pause_note *note)
{
	char since[UNITS_TEXT_MAX];

	buf_add_format(buf, "since %s", units_format_time(note->since_ms, since));
	if (note->who)
		buf_add_format(buf, " by %s", note->who);
	if (note->reason)
		buf_add_format(buf, ": %s", note->reason);
}

void pauses_done(struct daemon *daemon)
{
	while (daemon->pauses) {
		struct pause_note *note = daemon->pauses;

		daemon->pauses = note->next;
		free_note(note);
	}
}
