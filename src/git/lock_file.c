#include "git/lock_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"
#include "base/units.h"
#include "platform/clock.h"
#include "platform/holder.h"

int lock_file_say(const char *path, const struct stat *file, pid_t holder, struct err *err)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	char age[UNITS_TEXT_MAX];
	char who[64] = "and no process was seen to hold it";
	int64_t age_ms = clock_wall_ms() - (int64_t)file->st_mtim.tv_sec * 1000;

	str_add_visible(&shown, path, strlen(path));
	units_format_duration((uint64_t)MAX(age_ms, (int64_t)0) * NS_PER_MS, age);
	if (holder > 0)
		snprintf(who, sizeof(who), "and process %d may hold it", (int)holder);
	return err_say(err, -EBUSY,
	               "git's lock file '%s' is in the way: it is %s old, %s; if no git is at work there, delete it and try "
	               "again",
	               shown.bytes, age, who);
}

int lock_file_explain(const char *said, struct err *err)
{
	static const char before[] = "Unable to create '";
	static const char *const nowhere[] = { NULL };
	const char *begin = strstr(said, before);
	const char *end = begin ? strstr(begin, "': File exists") : NULL;
	CLEANUP_FREE char *path = NULL;
	struct stat st;

	if (!end)
		return 0;
	begin += strlen(before);
	path = xmemdup0(begin, (size_t)(end - begin));
	if (lstat(path, &st) < 0)
		return err_say(err, -EBUSY, "git's lock file '%s' was in the way; it has gone since", path);
	return lock_file_say(path, &st, holder_find("/proc", &st, nowhere), err);
}
