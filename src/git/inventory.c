#include "git/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/str.h"
#include "git/steps.h"
#include "platform/fs.h"

enum { POINTER_BYTES_MAX = 8192, ROOTS_MAX = 64 };

/* One of git's admin directories, as far as it is about a worktree in some .parallel-worktrees/. */
struct admin {
	char *name;
	char *top;       /* that holds .parallel-worktrees/ */
	char *directory; /* in there */
	char *reason;    /* NULL = not locked */
	uint64_t task;   /* that the reason names, 0 = it is none of ours */
	uint32_t attempt;
	bool is_claimed; /* some record speaks of it */
};

struct search {
	struct inventory *inventory;
	struct admin *admins;
	size_t admin_count;
	unsigned root;                /* being looked at */
	const struct repository *own; /* stands for the one task that is of interest, NULL = all are */
	const char *owner;            /* of that task */
};

/* ---- admin directories ---- */

/* The file's first line, to be freed; NULL when there is no such file. */
static char *read_line(int directory, const char *path)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (fs_read_file(directory, path, &text, POINTER_BYTES_MAX) < 0)
		return NULL;
	return text.length > 0 ? xmemdup0(text.bytes, strcspn(text.bytes, "\n")) : xstrdup("");
}

/* "drover task N attempt N" and nothing else. */
static bool parse_reason(const char *reason, uint64_t *ret_task, uint32_t *ret_attempt)
{
	static const char before[] = "drover task ";
	static const char between[] = " attempt ";
	CLEANUP_FREE char *text = xstrdup(reason);
	uint64_t attempt;
	char *middle;

	if (!text || strncmp(text, before, strlen(before)) != 0)
		return false;
	middle = strstr(text, between);
	if (!middle)
		return false;
	*middle = '\0';
	if (str_parse_u64(text + strlen(before), INT64_MAX, ret_task) < 0 || *ret_task == 0 ||
	    str_parse_u64(middle + strlen(between), UINT32_MAX, &attempt) < 0 || attempt == 0)
		return false;
	*ret_attempt = (uint32_t)attempt;
	return true;
}

/* Takes "TOP/.parallel-worktrees/DIRECTORY/.git" apart; false when it is something else. */
static bool parse_target(const char *target, struct admin *ret)
{
	static const char between[] = "/" REPOSITORY_ROOT "/";
	static const char behind[] = "/.git";
	size_t length = strlen(target);
	const char *name;

	if (length <= strlen(behind) || strcmp(target + length - strlen(behind), behind) != 0)
		return false;
	length -= strlen(behind);
	name = memrchr(target, '/', length);
	if (!name || name[1] == '.' || (size_t)(name - target) < strlen(between) ||
	    memcmp(name + 1 - strlen(between), between, strlen(between)) != 0)
		return false;
	ret->top = xmemdup0(target, (size_t)(name + 1 - target) - strlen(between));
	ret->directory = xmemdup0(name + 1, length - (size_t)(name + 1 - target));
	return true;
}

static void add_admin(struct search *search, int worktrees, const char *name)
{
	CLEANUP_FREE char *pointer = xasprintf("%s/gitdir", name);
	CLEANUP_FREE char *locked = xasprintf("%s/locked", name);
	CLEANUP_FREE char *target = read_line(worktrees, pointer);
	struct admin admin = { 0 };

	if (!target || !parse_target(target, &admin))
		return;
	admin.name = xstrdup(name);
	admin.reason = read_line(worktrees, locked);
	parse_reason(admin.reason, &admin.task, &admin.attempt);
	if ((search->admin_count & (search->admin_count - 1)) == 0) /* grows at powers of two */
		search->admins = xrealloc(search->admins, MAX(search->admin_count * 2, (size_t)1) * sizeof(*search->admins));
	search->admins[search->admin_count++] = admin;
}

static void list_admins(struct search *search)
{
	int common = search->inventory->roots[0].common;
	int fd = fs_open_beneath(common, "worktrees", O_RDONLY | O_DIRECTORY, 0);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!listing)
		fd_close(&fd);
	while (listing && (entry = readdir(listing)))
		if (entry->d_name[0] != '.')
			add_admin(search, dirfd(listing), entry->d_name);
	if (listing)
		closedir(listing);
}

static void search_done(struct search *search)
{
	for (size_t i = 0; i < search->admin_count; i++) {
		free(search->admins[i].name);
		free(search->admins[i].top);
		free(search->admins[i].directory);
		free(search->admins[i].reason);
	}
	free(search->admins);
}

static bool is_ours(const struct admin *admin, const struct record *record)
{
	return admin->task == record->task && admin->attempt == record->attempt;
}

/* The admin directory for `directory` of this root, or NULL. */
static struct admin *find_admin(const struct search *search, const char *directory)
{
	const char *top = search->inventory->roots[search->root].top_path;

	for (size_t i = 0; i < search->admin_count; i++)
		if (strcmp(search->admins[i].directory, directory) == 0 && strcmp(search->admins[i].top, top) == 0)
			return &search->admins[i];
	return NULL;
}

/* True when another root of this repository has the record's worktree. */
static bool is_elsewhere(const struct search *search, const struct record *record)
{
	const char *top = search->inventory->roots[search->root].top_path;

	for (size_t i = 0; i < search->admin_count; i++)
		if (is_ours(&search->admins[i], record) && strcmp(search->admins[i].top, top) != 0 &&
		    strcmp(search->admins[i].directory, record->directory) == 0)
			return true;
	return false;
}

/* ---- sites ---- */

/* The branch that the admin directory's HEAD names, to be freed; NULL when it names none. */
static char *read_branch(const struct repository *repository, const char *admin)
{
	static const char before[] = "ref: refs/heads/";
	CLEANUP_FREE char *path = xasprintf("worktrees/%s/HEAD", admin);
	CLEANUP_FREE char *head = read_line(repository->common, path);

	return head && strncmp(head, before, strlen(before)) == 0 ? xstrdup(head + strlen(before)) : NULL;
}

static int64_t read_birth(const struct repository *repository, const char *admin)
{
	CLEANUP_FREE char *path = xasprintf("worktrees/%s/commondir", admin);
	struct stat st;

	/* Written once, when the worktree was made. */
	return fstatat(repository->common, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : (int64_t)st.st_mtim.tv_sec * 1000;
}

/*
 * True when the admin directory is the record's: git has it locked for us; or for nobody (drover takes the lock off what has
 * vanished, and the user may have), and it still is on our branch; or for a reason of the user's, and on our branch.
 */
static bool is_records(const struct repository *repository, const struct admin *admin, const struct record *record)
{
	CLEANUP_FREE char *branch = NULL;

	if (admin->task > 0)
		return is_ours(admin, record);
	branch = read_branch(repository, admin->name);
	return branch && strcmp(branch, record->branch) == 0;
}

static struct site *add_site(struct search *search, struct record *record)
{
	struct inventory *inventory = search->inventory;
	const struct repository *repository = &inventory->roots[search->root];
	struct site *site;

	if ((inventory->count & (inventory->count - 1)) == 0)
		inventory->sites =
			xrealloc(inventory->sites, MAX(inventory->count * 2, (size_t)1) * sizeof(*inventory->sites));
	site = &inventory->sites[inventory->count++];
	*site = (struct site){
		.record = *record,
		.root = search->root,
		.path = xasprintf("%s/%s", repository->root_path, record->directory),
	};
	*record = (struct record){ 0 };
	return site;
}

static void take_admin(struct search *search, struct site *site, struct admin *admin)
{
	site->admin = xstrdup(admin->name);
	site->lock_reason = xstrdup(admin->reason);
	site->is_locked_by_us = admin->task > 0;
	site->created_ms = read_birth(&search->inventory->roots[search->root], admin->name);
	admin->is_claimed = true;
}

static void look_at(struct search *search, struct site *site)
{
	struct repository *repository = &search->inventory->roots[search->root];
	const char *directory = site->record.directory;
	CLEANUP_FREE char *standing = repository->root < 0 ? NULL : repository_find_admin(repository, directory);
	struct admin *admin = find_admin(search, directory);
	bool is_there = repository->root >= 0 && faccessat(repository->root, directory, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	bool is_own = admin && repository_is_admin_of(repository, admin->name, directory) &&
	              is_records(repository, admin, &site->record);
	/* That is listed by itself. Anything else may still be this one, which its user unlocked and switched. */
	bool is_another_of_ours = standing && admin && admin->task > 0 && !is_own;

	if (is_own)
		take_admin(search, site, admin);
	if (standing && is_own && strcmp(standing, admin->name) == 0)
		site->condition = SITE_OK;
	else
		site->condition = is_there && !is_another_of_ours ? SITE_REPLACED : SITE_MISSING;
}

static void see_record(void *context, struct record *record)
{
	struct search *search = context;
	struct site *site;

	if (record->verb == RECORD_REMOVE || is_elsewhere(search, record))
		return;
	/* What no root has is said to be missing from the first. */
	if (search->root > 0 && !find_admin(search, record->directory))
		return;
	site = add_site(search, record);
	site->has_record = true;
	look_at(search, site);
}

static bool is_same_attempt(const struct record *a, const struct record *b)
{
	const char *owner_a = a->owner ? a->owner : "";
	const char *owner_b = b->owner ? b->owner : "";

	return a->task == b->task && a->attempt == b->attempt && strcmp(owner_a, owner_b) == 0;
}

/* An intent makes its worktree unfinished; one without a record is listed once something of it is there. */
static void see_intent(void *context, struct record *intent)
{
	struct search *search = context;
	struct inventory *inventory = search->inventory;
	struct site *site = NULL;

	for (size_t i = 0; i < inventory->count && !site; i++)
		if (is_same_attempt(&inventory->sites[i].record, intent))
			site = &inventory->sites[i];
	if (!site) {
		if (is_elsewhere(search, intent) || !find_admin(search, intent->directory))
			return;
		site = add_site(search, intent);
		site->has_record = true;
		look_at(search, site);
	}
	site->condition = SITE_UNFINISHED;
}

/* What git keeps locked for us in this root and no record speaks of. */
static void add_unrecorded(struct search *search)
{
	const struct repository *repository = &search->inventory->roots[search->root];

	for (size_t i = 0; i < search->admin_count; i++) {
		struct admin *admin = &search->admins[i];
		struct record record = { .verb = RECORD_PREPARE, .task = admin->task, .attempt = admin->attempt };
		struct site *site;

		if (admin->task == 0 || admin->is_claimed || strcmp(admin->top, repository->top_path) != 0)
			continue;
		record.directory = xstrdup(admin->directory);
		record.branch = read_branch(repository, admin->name);
		site = add_site(search, &record);
		look_at(search, site);
	}
}

/* ---- all of it ---- */

/* The roots: the given one, and those that git's files name for worktrees of ours. */
static void open_roots(struct search *search)
{
	struct inventory *inventory = search->inventory;

	for (size_t i = 0; i < search->admin_count && inventory->root_count < ROOTS_MAX; i++) {
		const struct admin *admin = &search->admins[i];
		struct repository more;
		bool is_known = admin->task == 0;

		for (unsigned k = 0; k < inventory->root_count && !is_known; k++)
			is_known = strcmp(inventory->roots[k].top_path, admin->top) == 0;
		if (is_known || repository_look(inventory->roots[0].common_path, admin->top, &more, NULL) < 0)
			continue;
		if (search->own)
			repository_set_task(&more, search->owner, search->own->task, search->own->attempt);
		if (strcmp(more.top_path, admin->top) == 0)
			inventory->roots[inventory->root_count++] = more;
		else
			repository_done(&more);
	}
}

static int compare_sites(const void *a, const void *b)
{
	char first[INVENTORY_CURSOR_MAX];
	char second[INVENTORY_CURSOR_MAX];

	inventory_format_cursor(a, first);
	inventory_format_cursor(b, second);
	return strcmp(first, second);
}

static int take(struct search *search, struct err *err)
{
	struct inventory *inventory = search->inventory;
	int error = 0;

	list_admins(search);
	open_roots(search);
	for (search->root = 0; error == 0 && search->root < inventory->root_count; search->root++) {
		struct repository *repository = &inventory->roots[search->root];

		error = repository_see_records(repository, false, see_record, search, err);
		if (error == 0)
			error = repository_see_records(repository, true, see_intent, search, err);
		if (error == 0)
			add_unrecorded(search);
	}
	if (error == 0 && inventory->count > 0)
		qsort(inventory->sites, inventory->count, sizeof(*inventory->sites), compare_sites);
	return error;
}

static int take_for(const char *common_dir, const char *top, struct search *search, struct inventory *ret, struct err *err)
{
	struct inventory inventory = { .roots = xcalloc(ROOTS_MAX, sizeof(*inventory.roots)) };
	int error = repository_look(common_dir, top, &inventory.roots[0], err);

	search->inventory = &inventory;
	if (error == 0) {
		inventory.root_count = 1;
		if (search->own)
			repository_set_task(&inventory.roots[0], search->owner, search->own->task, search->own->attempt);
		error = take(search, err);
	}
	search_done(search);
	if (error < 0) {
		inventory_done(&inventory);
		return error;
	}
	*ret = inventory;
	return 0;
}

int inventory_take(const char *common_dir, const char *top, struct inventory *ret, struct err *err)
{
	struct search search = { 0 };

	return take_for(common_dir, top, &search, ret, err);
}

int inventory_take_own(const struct repository *repository, const char *owner, struct inventory *ret, struct err *err)
{
	struct search search = { .own = repository, .owner = owner };

	return take_for(repository->common_path, repository->top_path, &search, ret, err);
}

void inventory_done(struct inventory *inventory)
{
	for (size_t i = 0; i < inventory->count; i++) {
		record_done(&inventory->sites[i].record);
		free(inventory->sites[i].path);
		free(inventory->sites[i].admin);
		free(inventory->sites[i].lock_reason);
	}
	for (unsigned i = 0; i < inventory->root_count; i++)
		repository_done(&inventory->roots[i]);
	free(inventory->sites);
	free(inventory->roots);
	*inventory = (struct inventory){ 0 };
}

const char *inventory_condition_name(enum site_condition condition)
{
	static const char *const names[SITE_CONDITION_MAX] = { "ok", "missing", "replaced", "unfinished" };

	ASSERT(condition < SITE_CONDITION_MAX);
	return names[condition];
}

void inventory_format_cursor(const struct site *site, char ret[INVENTORY_CURSOR_MAX])
{
	snprintf(ret, INVENTORY_CURSOR_MAX, "%020" PRIu64 ".%010" PRIu32 ".%s", site->record.task, site->record.attempt,
	         site->record.directory);
}
