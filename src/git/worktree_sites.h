/*
 * worktree_sites.h - the verbs of drover-worktree for `drover worktree`: what drover made in a repository, and removing it.
 *
 * list: {"common_dir", "top"} or {"directory"}, "after": cursor or null, "select": null or a list of {"owner", "task"},
 * {"number": a task's, whoever's}, {"directory"} or {"path"}, any of which a worktree must fit, "has_facts", "has_disk",
 * "limit": worktrees in a page or null} → {"common_dir", "top", "worktrees": [site], "cursor": for the next page or null,
 * "trash": what is waiting to be deleted} A site is {"id": name of its directory, "task", "attempt", "owner", "has_record",
 * "is_collected", "path", "top", "branch", "base", "condition", "is_locked", "lock_reason", "created_ms"} and, with
 * has_facts, {"head", "changed", "untracked", "ignored", "unmerged", "base_branch", "unpushed", "disk_bytes", "problem"};
 * what is not known is null. A page ends by number, bytes or time, so that nobody waits for more than one worktree longer
 * than a second.
 *
 * remove: {"common_dir", "top", "targets": [{"owner", "task", "attempt", "directory", "top", "is_over"}], "salvages",
 * "drops_ignored", "drops_branch", "is_dry_run", "is_abandoned", "lock_timeout_ms"} → {"results": [{"outcome", "reason",
 * "text", "hint", "path", "branch", "salvage", "is_branch_gone", "changed", "untracked", "ignored"}], one for each target,
 * in their order}. See removal.h. Killed helpers' work is settled first, also without targets; not in a dry run.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"

/* Verb list. Makes nothing. 0 or -errno. */
int worktree_list_sites(const json_t *input, json_t **ret, struct err *err);

/* Verb remove. 0 or -errno; that single worktrees were kept is no error. */
int worktree_remove_sites(const json_t *input, json_t **ret, struct err *err);

/* What remove leaves for after its answer: deletes the trash. */
void worktree_remove_after(const json_t *input);
