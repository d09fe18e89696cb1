#include "keeper/members.h"

#include <signal.h>
#include <unistd.h>

enum {
	NO_PID = -1,
	SETTLE_PASSES = 16, /* at once, for what forks meanwhile */
};

/*
 * What can be found of another shim's attempt without a cgroup. The number of the session is not given out again while a
 * process is in it; so if a process has that number, it must be the leader that we know, or the session is a stranger's.
 */
static bool has_session(const struct members *members)
{
	struct process_stat stat;

	return members->session != 0 &&
	       (process_read_stat(members->session, &stat) < 0 || stat.start_ticks == members->session_start);
}

static unsigned signal_session(struct members *members, int signal_number)
{
	return has_session(members) ? process_signal_tree(members->table, NO_PID, members->session, signal_number) : 0;
}

/* All that can be found without a cgroup. Signal 0 only counts. */
static unsigned signal_tree(struct members *members, int signal_number)
{
	if (members->session != 0)
		return signal_session(members, signal_number);
	if (!members->has_children && members->leader == 0)
		return 0;
	return process_signal_tree(members->table, getpid(), 0, signal_number);
}

bool members_are_left(struct members *members)
{
	if (members->has_children)
		return true;
	if (members->cgroup)
		return cgroup_is_populated(members->cgroup) > 0;
	return signal_session(members, 0) > 0;
}

static void ask(struct members *members, int signal_number)
{
	if (members->leader != 0 && members->leader_pidfd >= 0)
		process_signal_group(members->leader_pidfd, members->leader, signal_number);
	else if (members->leader != 0)
		kill(-members->leader, signal_number); /* our child, not yet waited for: the number is its */
	else if (members->cgroup)
		cgroup_signal(members->cgroup, signal_number);
	else
		signal_tree(members, signal_number);
}

void members_terminate(struct members *members)
{
	ASSERT(!members->is_frozen);
	ask(members, SIGTERM);
	ask(members, SIGCONT);
}

unsigned members_kill(struct members *members)
{
	unsigned count = 0;

	members->is_frozen = false; /* SIGKILL ends frozen and stopped ones too */
	if (members->cgroup && cgroup_is_populated(members->cgroup) > 0) {
		count = cgroup_count(members->cgroup);
		if (cgroup_kill(members->cgroup) == 0)
			return count;
	}
	return MAX(count, signal_tree(members, SIGKILL));
}

void members_settle(struct members *members)
{
	pid_t root = members->session != 0 ? NO_PID : getpid();
	pid_t session = has_session(members) ? members->session : 0;

	if (root == NO_PID && session == 0)
		members->is_settled = true; /* nothing is known to stop */
	for (int pass = 0; !members->is_settled && pass < SETTLE_PASSES; pass++) {
		bool is_still = stops_extend(members->stops, members->table, root, session);

		members->is_settled = is_still && members->was_still;
		members->was_still = is_still;
	}
}

void members_freeze(struct members *members, bool frozen)
{
	bool is_done = members->cgroup && cgroup_freeze(members->cgroup, frozen) == 0;

	members->is_frozen = frozen;
	members->is_settled = is_done || !frozen;
	members->was_still = false;
	if (frozen) {
		members_settle(members);
		return;
	}
	if (!is_done && members->has_unknown_stops)
		signal_tree(members, SIGCONT);
	members->has_unknown_stops = false;
	stops_undo(members->stops);
}
