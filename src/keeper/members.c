#include "keeper/members.h"

#include <signal.h>
#include <unistd.h>

enum { NO_PID = -1 };

/*
 * What can be found of another shim's attempt without a cgroup. The number of the session is not given out again while a
 * process is in it; so if a process has that number, it must be the leader that we know, or the session is a stranger's.
 */
static unsigned signal_session(struct members *members, int signal_number)
{
	struct process_stat stat;

	if (members->session == 0)
		return 0;
	if (process_read_stat(members->session, &stat) == 0 && stat.start_ticks != members->session_start)
		return 0;
	return process_signal_tree(members->table, NO_PID, members->session, signal_number);
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

void members_terminate(struct members *members)
{
	if (members->is_frozen)
		members_freeze(members, false);
	if (members->leader != 0 && members->leader_pidfd >= 0)
		process_signal_group(members->leader_pidfd, members->leader, SIGTERM);
	else if (members->leader != 0)
		kill(-members->leader, SIGTERM); /* our child, not yet waited for: the number is its */
	else if (members->cgroup)
		cgroup_signal(members->cgroup, SIGTERM);
	else
		signal_tree(members, SIGTERM);
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

void members_freeze(struct members *members, bool frozen)
{
	members->is_frozen = frozen;
	if (members->cgroup && cgroup_freeze(members->cgroup, frozen) == 0)
		return;
	signal_tree(members, frozen ? SIGSTOP : SIGCONT);
}
