/*
 * present_daemon.c - the answer of daemon.status: the process, and which rung of each ladder it stands on.
 */
#include <unistd.h>

#include "base/alloc.h"
#include "daemon/daemon.h"
#include "daemon/present.h"
#include "platform/cgroup.h"
#include "version.h"

static bool has_cgroup_base(const struct daemon *daemon)
{
	char path[RECORD_CGROUP_BASE_MAX];

	for (uint32_t base = 1; base <= RECORD_CGROUP_BASES; base++)
		if (record_cgroup_base(daemon->slots_fd, base, path) == 0 && path[0] != '\0')
			return true;
	return false;
}

static json_t *capability(const char *name, bool is_best, const char *best, const char *other, const char *note)
{
	return json_pack("{s:s, s:s, s:b, s:s?}", "name", name, "rung", is_best ? best : other, "is_best", is_best, "note",
	                 is_best ? NULL : note);
}

static json_t *present_capabilities(const struct daemon *daemon)
{
	CLEANUP_FREE char *database = xasprintf("%s %s", store_backend(), store_version());
	bool has_cgroup = has_cgroup_base(daemon);
	json_t *list = json_array();

	json_array_append_new(list, capability("process trees", has_cgroup, "cgroup v2: killed and frozen as one",
	                                       "subreaper and sweep (best effort)",
	                                       "no cgroup v2 directory could be made below the daemon's own: start it in a "
	                                       "delegated one, as a systemd user service has; suspending stops the "
	                                       "processes of a task one by one, which they can see"));
	json_array_append_new(list, capability("keeper", daemon->keeper.socket >= 0, "runs", "gone",
	                                       "nothing can be started until it is back; daemon.log tells why"));
	json_array_append_new(list, capability("database", !daemon->is_broken, database, "closed for writing",
	                                       daemon->broken.text));
	json_array_append_new(list, capability("git", daemon->git_version != NULL, daemon->git_version, "not usable",
	                                       "worktrees need git 2.38 or newer"));
	return list;
}

json_t *present_daemon(struct daemon *daemon)
{
	double uptime_s = (double)((daemon->now_ns - daemon->started_ns) / NS_PER_MS) / 1000.0;

	return json_pack("{s:b, s:i, s:s, s:i, s:s, s:s, s:f, s:o, s:o}", "running", 1, "pid", (int)getpid(), "version",
	                 DROVER_VERSION, "protocol", API_PROTOCOL, "socket", daemon->socket_path, "state_dir",
	                 daemon->state_dir, "uptime_s", uptime_s, "keeper_pid",
	                 daemon->keeper.socket >= 0 ? json_integer(daemon->keeper.pid) : json_null(), "capabilities",
	                 present_capabilities(daemon));
}
