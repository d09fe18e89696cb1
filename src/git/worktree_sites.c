#include "git/worktree_sites.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/str.h"
#include "git/removal.h"
#include "git/steps.h"
#include "git/survey.h"
#include "git/worktree.h"
#include "platform/clock.h"
#include "platform/fs.h"
#include "platform/occupants.h"

enum { PAGE_SITES = 400, PAGE_BYTES = 256 << 10, SITE_BYTES = 600, TARGETS_MAX = 1000 };

#define PAGE_NS NS_PER_SEC

static const char *text(const json_t *input, const char *key)
{
	return json_string_value(json_object_get(input, key));
}

static uint64_t number(const json_t *input, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(input, key));

	return value < 0 ? 0 : (uint64_t)value;
}

static bool truth(const json_t *input, const char *key)
{
	return json_is_true(json_object_get(input, key));
}

/* What a task can have put there may be any bytes. */
static json_t *string_or_null(const char *value)
{
	CLEANUP_BUF struct buf visible = BUF_INIT;

	if (!value)
		return json_null();
	if (!str_is_utf8(value, strlen(value))) {
		str_add_visible(&visible, value, strlen(value));
		value = visible.bytes;
	}
	return json_string(value);
}

static void set(json_t *object, const char *name, json_t *value)
{
	json_object_set_new(object, name, value);
}

static void set_number(json_t *object, const char *name, bool is_known, uint64_t value)
{
	set(object, name, is_known ? json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX)) : json_null());
}

/* ---- list ---- */

/* True when the list is absent or something in it means the site. */
static bool is_selected(const json_t *select, const struct site *site)
{
	size_t i;
	json_t *one;

	if (!json_is_array(select))
		return true;
	json_array_foreach (select, i, one) {
		const char *owner = text(one, "owner");
		const char *directory = text(one, "directory");
		const char *path = text(one, "path");

		if (directory && strcmp(directory, site->record.directory) == 0)
			return true;
		if (path && strcmp(path, site->path) == 0)
			return true;
		if (number(one, "number") == site->record.task && number(one, "number") > 0)
			return true;
		if (number(one, "task") == site->record.task && number(one, "task") > 0 &&
		    (!site->has_record || strcmp(owner ? owner : "", site->record.owner ? site->record.owner : "") == 0))
			return true;
	}
	return false;
}

static json_t *describe(const struct inventory *inventory, const struct site *site)
{
	const struct record *record = &site->record;
	json_t *object = json_object();

	set(object, "id", string_or_null(record->directory));
	set_number(object, "task", true, record->task);
	set_number(object, "attempt", true, record->attempt);
	set(object, "owner", string_or_null(record->owner));
	set(object, "has_record", json_boolean(site->has_record));
	set(object, "is_collected", json_boolean(record->verb == RECORD_KEEP));
	set(object, "path", string_or_null(site->path));
	set(object, "top", string_or_null(inventory->roots[site->root].top_path));
	set(object, "branch", string_or_null(record->branch));
	set(object, "base", string_or_null(record->commit));
	set(object, "condition", json_string(inventory_condition_name(site->condition)));
	set(object, "is_locked", json_boolean(site->lock_reason != NULL));
	set(object, "lock_reason", string_or_null(site->lock_reason));
	set_number(object, "created_ms", site->created_ms > 0, (uint64_t)site->created_ms);
	return object;
}

static void add_disk(const struct repository *repository, const struct site *site, json_t *object)
{
	CLEANUP_FD int fd = fs_open_beneath(repository->root, site->record.directory, O_RDONLY | O_DIRECTORY, 0);
	uint64_t bytes = 0;
	bool is_known = fd >= 0 && occupants_measure(fd, &bytes) == 0;

	set_number(object, "disk_bytes", is_known, bytes);
}

static void add_facts(const struct repository *repository, const struct survey_ground *ground, const struct site *site,
                      json_t *object)
{
	CLEANUP(survey_done) struct survey survey = { 0 };
	struct survey_place place = {
		.repository = repository,
		.ground = ground,
		.site = site,
		.directory = site->condition == SITE_OK ? site->record.directory : NULL,
	};
	struct err err = ERR_INIT;
	bool can_look = site->admin && (site->condition == SITE_OK || site->condition == SITE_MISSING);
	bool is_known = can_look && survey_take(&place, &survey, &err) == 0;
	bool has_files = is_known && site->condition == SITE_OK;

	set(object, "head", string_or_null(survey.head));
	set_number(object, "changed", is_known, survey.changed);
	set_number(object, "untracked", has_files, survey.untracked);
	set_number(object, "ignored", has_files, survey.ignored);
	set_number(object, "unmerged", survey.has_ahead, survey.ahead);
	set(object, "base_branch", survey.has_ahead ? string_or_null(ground->main_name) : json_null());
	set_number(object, "unpushed", survey.has_unpushed, survey.unpushed);
	set(object, "problem", string_or_null(can_look && !is_known ? err.text : survey.obstacle));
}

struct page {
	const json_t *input;
	const struct inventory *inventory;
	struct survey_ground ground;
	uint64_t start_ns;
	size_t bytes;
	json_t *sites;
};

static bool is_full(const struct page *page)
{
	size_t count = json_array_size(page->sites);
	size_t limit = number(page->input, "limit") > 0 ? number(page->input, "limit") : PAGE_SITES;

	return count > 0 && (count >= MIN(limit, (size_t)PAGE_SITES) || page->bytes > PAGE_BYTES ||
	                     clock_monotonic_ns() - page->start_ns > PAGE_NS);
}

static void add_site(struct page *page, const struct site *site)
{
	const struct repository *repository = &page->inventory->roots[site->root];
	json_t *object = describe(page->inventory, site);

	if (truth(page->input, "has_facts"))
		add_facts(repository, &page->ground, site, object);
	if (truth(page->input, "has_disk") && site->condition == SITE_OK)
		add_disk(repository, site, object);
	page->bytes += SITE_BYTES + 2 * strlen(site->path) + (site->lock_reason ? strlen(site->lock_reason) : 0);
	json_array_append_new(page->sites, object);
}

/* Returns the cursor for the page after, NULL when all are in. */
static char *fill_page(struct page *page)
{
	const char *after = text(page->input, "after");
	char cursor[INVENTORY_CURSOR_MAX];
	char *last = NULL;

	for (size_t i = 0; i < page->inventory->count; i++) {
		const struct site *site = &page->inventory->sites[i];

		inventory_format_cursor(site, cursor);
		if ((after && strcmp(cursor, after) <= 0) || !is_selected(json_object_get(page->input, "select"), site))
			continue;
		if (is_full(page))
			return last;
		add_site(page, site);
		free(last);
		last = xstrdup(cursor);
	}
	free(last);
	return NULL;
}

static unsigned count_entries(int directory, const char *path)
{
	int fd = directory < 0 ? -1 : fs_open_beneath(directory, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	unsigned count = 0;

	if (!listing)
		fd_close(&fd);
	while (listing && (entry = readdir(listing)))
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	if (listing)
		closedir(listing);
	return count;
}

static int list(const json_t *input, const struct inventory *inventory, json_t **ret, struct err *err)
{
	CLEANUP(survey_ground_done) struct survey_ground ground = { 0 };
	struct page page = { .input = input, .inventory = inventory, .start_ns = clock_monotonic_ns() };
	CLEANUP_FREE char *cursor = NULL;
	unsigned trash = 0;

	if (truth(input, "has_facts") && inventory->count > 0) {
		int error = survey_take_ground(&inventory->roots[0], &ground, err);

		if (error < 0)
			return error;
	}
	page.ground = ground; /* lent */
	page.sites = json_array();
	cursor = fill_page(&page);
	for (unsigned i = 0; i < inventory->root_count; i++)
		trash += count_entries(inventory->roots[i].root, REPOSITORY_TRASH);
	*ret = json_object();
	set(*ret, "common_dir", string_or_null(inventory->roots[0].common_path));
	set(*ret, "top", string_or_null(inventory->roots[0].top_path));
	set(*ret, "worktrees", page.sites);
	set(*ret, "cursor", string_or_null(cursor));
	set_number(*ret, "trash", true, trash);
	return 0;
}

int worktree_list_sites(const json_t *input, json_t **ret, struct err *err)
{
	CLEANUP(worktree_inspection_done) struct worktree_inspection found = { 0 };
	CLEANUP(inventory_done) struct inventory inventory = { 0 };
	const char *common_dir = text(input, "common_dir");
	const char *top = text(input, "top");
	int error = 0;

	if (text(input, "directory")) {
		error = worktree_inspect(text(input, "directory"), NULL, &found, err);
		common_dir = found.common_dir;
		top = found.top;
	} else if (!common_dir || !top) {
		error = err_say(err, -EBADMSG, "list needs common_dir and top, or a directory");
	}
	if (error == 0)
		error = inventory_take(common_dir, top, &inventory, err);
	return error == 0 ? list(input, &inventory, ret, err) : error;
}

/* ---- remove ---- */

static json_t *report_to_json(const struct removal_report *report)
{
	json_t *object = json_object();

	set(object, "outcome", json_string(removal_outcome_name(report->outcome)));
	set(object, "reason", string_or_null(report->reason));
	set(object, "text", string_or_null(report->text));
	set(object, "hint", string_or_null(report->hint));
	set(object, "path", string_or_null(report->path));
	set(object, "branch", string_or_null(report->branch));
	set(object, "salvage", string_or_null(report->salvage));
	set(object, "is_branch_gone", json_boolean(report->is_branch_gone));
	set_number(object, "changed", true, report->changed);
	set_number(object, "untracked", true, report->untracked);
	set_number(object, "ignored", true, report->ignored);
	return object;
}

static int remove_one(const json_t *input, const struct inventory *inventory, const json_t *target, json_t **ret,
                      struct err *err)
{
	struct removal_wish wish = {
		.owner = text(target, "owner"),
		.task = number(target, "task"),
		.attempt = (uint32_t)MIN(number(target, "attempt"), (uint64_t)UINT32_MAX),
		.directory = text(target, "directory"),
		.is_over = truth(target, "is_over"),
		.is_abandoned = truth(input, "is_abandoned"),
		.salvages = truth(input, "salvages"),
		.drops_ignored = truth(input, "drops_ignored"),
		.drops_branch = truth(input, "drops_branch"),
		.is_dry_run = truth(input, "is_dry_run"),
	};
	struct removal_report report = { 0 };
	int error;

	if (wish.task == 0 || wish.attempt == 0 || !wish.directory)
		return err_say(err, -EBADMSG, "a target needs task, attempt and directory");
	error = removal_run(inventory, &wish, &report, err);
	if (error == 0)
		*ret = report_to_json(&report);
	removal_report_done(&report);
	return error;
}

/* Finishes or undoes what killed helpers left, before the inventory is believed. */
static int settle_all(struct inventory *inventory, struct err *err)
{
	for (unsigned i = 0; i < inventory->root_count; i++) {
		struct repository *repository = &inventory->roots[i];
		int error;

		if (repository->lock < 0 || repository->intents < 0 || repository->root < 0)
			continue;
		error = repository_lock(repository, err);
		if (error == 0)
			error = steps_recover(repository, err);
		repository_unlock(repository);
		if (error < 0)
			return error;
		repository_forget_old(repository);
	}
	return 0;
}

static int remove_all(const json_t *input, struct inventory *inventory, json_t *results, struct err *err)
{
	const json_t *targets = json_object_get(input, "targets");
	uint64_t timeout_ns = number(input, "lock_timeout_ms") * NS_PER_MS;
	int error = 0;
	json_t *target;
	size_t i;

	for (unsigned root = 0; timeout_ns > 0 && root < inventory->root_count; root++)
		inventory->roots[root].lock_timeout_ns = timeout_ns;
	if (!truth(input, "is_dry_run"))
		error = settle_all(inventory, err);
	json_array_foreach (targets, i, target) {
		json_t *result = NULL;

		if (error == 0)
			error = remove_one(input, inventory, target, &result, err);
		if (error == 0)
			json_array_append_new(results, result);
	}
	return error;
}

int worktree_remove_sites(const json_t *input, json_t **ret, struct err *err)
{
	CLEANUP(inventory_done) struct inventory inventory = { 0 };
	json_t *results;
	int error;

	if (!text(input, "common_dir") || !text(input, "top") ||
	    json_array_size(json_object_get(input, "targets")) > TARGETS_MAX)
		return err_say(err, -EBADMSG, "remove needs common_dir and top, and at most %d targets", TARGETS_MAX);
	error = inventory_take(text(input, "common_dir"), text(input, "top"), &inventory, err);
	if (error < 0)
		return error;
	results = json_array();
	error = remove_all(input, &inventory, results, err);
	if (error == 0)
		*ret = json_pack("{s:O}", "results", results);
	json_decref(results);
	return error;
}

static void empty_trash(const char *common_dir, const char *top)
{
	struct repository repository;
	struct err err = ERR_INIT;

	if (!common_dir || !top || repository_look(common_dir, top, &repository, NULL) < 0)
		return;
	if (repository.lock >= 0 && repository_empty_trash(&repository, &err) < 0)
		fprintf(stderr, "drover-worktree: the trash of '%s' is not empty: %s\n", repository.top_path, err.text);
	repository_done(&repository);
}

void worktree_remove_after(const json_t *input)
{
	const char *common_dir = text(input, "common_dir");
	const char *last = text(input, "top");
	const json_t *target;
	size_t i;

	if (truth(input, "is_dry_run"))
		return;
	empty_trash(common_dir, last);
	json_array_foreach (json_object_get(input, "targets"), i, target) {
		const char *top = text(target, "top");

		if (top && last && strcmp(top, last) != 0)
			empty_trash(common_dir, top);
		last = top ? top : last;
	}
}
