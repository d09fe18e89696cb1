#include "keeper/stops.h"

#include <signal.h>

#include "base/fd.h"

/* 't' is stopped by a debugger: one within the attempt is stopped as well, any other knows what it does. */
static bool is_standing(char state)
{
	return state == 'T' || state == 't';
}

static bool is_known(const struct stops *stops, const struct process_row *row)
{
	for (uint32_t i = stops->count; i > 0; i--)
		if (stops->items[i - 1].pid == row->pid && stops->items[i - 1].start_ticks == row->start_ticks)
			return true;
	return false;
}

/*
 * As good as stopped, once it was sent the signal. 'D': in the kernel, and stopped when it comes out; a parent in vfork(2)
 * is so until its child goes on. 'Z': its first thread has ended, and the others show nowhere here.
 */
static bool is_halted(const struct stops *stops, const struct process_row *row)
{
	return (row->state == 'D' || row->state == 'Z') && is_known(stops, row);
}

/* Noted first: stopped and not noted would be for ever. */
static void stop(struct stops *stops, const struct process_row *row)
{
	if (!is_known(stops, row)) {
		if (stops->count == PROCESS_TABLE_MAX)
			return;
		stops->items[stops->count++] = (struct stop){ .pid = row->pid, .start_ticks = row->start_ticks };
	}
	process_signal_row(row, SIGSTOP);
}

bool stops_extend(struct stops *stops, struct process_table *table, pid_t root, pid_t session)
{
	const struct process_row *row;
	bool has_moved = false;
	uint32_t at = 0;

	process_look_at_tree(table, root, session);
	while ((row = process_next_member(table, &at)) != NULL) {
		if (is_standing(row->state))
			continue;
		has_moved = has_moved || !is_halted(stops, row);
		stop(stops, row);
	}
	return !has_moved;
}

void stops_undo(struct stops *stops)
{
	while (stops->count > 0) {
		const struct stop *last = &stops->items[--stops->count];
		CLEANUP_FD int fd = process_open_started(last->pid, last->start_ticks);

		if (fd >= 0)
			process_signal(fd, SIGCONT);
	}
}
