#include "daemon/worktree_search.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "daemon/daemon.h"
#include "daemon/worktrees.h"

/* ---- pages ---- */

/* The first repository of known tasks at `common_dir` or, with `is_behind`, behind it, in the order of their names. */
static const struct roster_batch *find_repository(const struct daemon *daemon, const char *common_dir, bool is_behind)
{
	const struct roster_batch *best = NULL;

	for (const struct roster_batch *batch = daemon->roster.first_batch; batch; batch = batch->next) {
		int order = batch->common_dir ? strcmp(batch->common_dir, common_dir) : -1;

		if (order < 0 || (order == 0 && is_behind) || (best && strcmp(best->common_dir, batch->common_dir) <= 0))
			continue;
		best = batch;
	}
	return best;
}

/* A cursor is AFTER, a line break, COMMON_DIR: go on behind AFTER in that repository. */
bool worktree_search_page(const struct daemon *daemon, const json_t *params, struct worktree_search *ret)
{
	const char *cursor = json_string_value(json_object_get(params, "cursor"));
	size_t length = cursor ? strcspn(cursor, "\n") : 0;
	const char *common_dir = cursor && cursor[length] ? cursor + length + 1 : "";
	const struct roster_batch *batch;

	if (json_is_true(json_object_get(params, "is_all"))) {
		batch = find_repository(daemon, common_dir, false);
		if (!batch)
			return false;
		if (strcmp(batch->common_dir, common_dir) != 0)
			length = 0; /* the one that it speaks of is not known any more */
		ret->common_dir = xstrdup(batch->common_dir);
		ret->place = json_pack("{s:s, s:s}", "common_dir", batch->common_dir, "top", batch->top);
	} else {
		ret->place = json_pack("{s:O}", "directory", json_object_get(params, "cwd"));
	}
	if (length > 0)
		json_object_set_new(ret->place, "after", json_stringn(cursor, length));
	return true;
}

char *worktree_search_cursor(const struct daemon *daemon, const char *common_dir, const char *after)
{
	const struct roster_batch *next = common_dir && !after ? find_repository(daemon, common_dir, true) : NULL;

	if (after)
		return xasprintf("%s\n%s", after, common_dir ? common_dir : "");
	return next ? xasprintf("\n%s", next->common_dir) : NULL;
}

/* ---- words ---- */

bool worktree_search_is_number(const char *word)
{
	return word[0] != '\0' && strspn(word, "0123456789") == strlen(word);
}

/* The worktrees of a task, of whatever attempt. False when it has no repository. */
static bool search_task(const struct daemon *daemon, struct worktree_search *ret)
{
	uint32_t index = roster_resolve(&daemon->roster, ret->word);
	const struct roster_batch *batch = index == TASK_NONE ? NULL : daemon->roster.tasks[index].batch;
	CLEANUP_FREE char *owner = NULL;

	if (!batch || !batch->common_dir)
		return false;
	owner = worktrees_owner(daemon, core_task_at(daemon->core, index));
	ret->place = json_pack("{s:s, s:s}", "common_dir", batch->common_dir, "top", batch->top);
	ret->select = json_pack("[{s:s, s:I}]", "owner", owner, "task", (json_int_t)daemon->roster.tasks[index].id);
	return true;
}

static bool search_directory(const json_t *params, struct worktree_search *ret)
{
	json_t *cwd = json_object_get(params, "cwd");
	uint64_t task;

	if (!json_is_string(cwd) || strchr(ret->word, '/'))
		return false;
	ret->place = json_pack("{s:O}", "directory", cwd);
	ret->select = json_pack("[{s:s}]", "directory", ret->word);
	/* Of a task that is not known here. */
	if (worktree_search_is_number(ret->word) && str_parse_u64(ret->word, INT64_MAX, &task) == 0)
		json_array_append_new(ret->select, json_pack("{s:I}", "number", (json_int_t)task));
	return true;
}

/* A worktree is two levels below its repository's top: there git is asked, since the worktree itself may be damaged. */
static bool search_path(struct worktree_search *ret)
{
	CLEANUP_FREE char *top = xstrdup(ret->word);

	for (int level = 0; level < 2; level++) {
		char *slash = strrchr(top, '/');

		if (slash)
			slash[slash == top] = '\0';
	}
	ret->place = json_pack("{s:s}", "directory", top);
	ret->select = json_pack("[{s:s}]", "path", ret->word);
	return true;
}

bool worktree_search_word(const struct daemon *daemon, const json_t *params, unsigned try, struct worktree_search *ret)
{
	bool is_task = worktree_search_is_number(ret->word) == (try == 0);

	if (ret->word[0] == '/')
		return try == 0 && search_path(ret);
	return is_task ? search_task(daemon, ret) : search_directory(params, ret);
}
