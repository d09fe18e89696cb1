/*
 * repository_records.c - intents and records: the files behind record.h. See repository.h.
 */
#include "git/repository.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "platform/clock.h"
#include "platform/fs.h"

enum { NAME_ROOM = REPOSITORY_KEY_MAX + 24, RECORD_BYTES_MAX = 1 << 20, OLD_RECORD_MS = 7 * 24 * 3600 * 1000 };

#define CORRUPT ".corrupt"

static void intent_name(const struct record *record, char name[NAME_ROOM])
{
	char key[REPOSITORY_KEY_MAX];

	repository_format_key(record->owner, record->task, key);
	snprintf(name, NAME_ROOM, "%s-%" PRIu32 ".json", key, record->attempt);
}

static void record_name(const struct repository *repository, char name[NAME_ROOM])
{
	snprintf(name, NAME_ROOM, "%s.json", repository->key);
}

static int write_file(int directory, const char *name, const struct record *record, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int error;

	record_format(record, &text);
	error = fs_write_atomic(directory, name, text.bytes, text.length, 0644);
	return error < 0 ? err_set(err, error, "cannot write drover's record '%s'", name) : 0;
}

/* A file that makes no sense is kept for whoever wants to know, out of the way: it must not stop every later call. */
static int read_file(int directory, const char *name, struct record *ret, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char aside[NAME_ROOM + 16];
	struct err problem = ERR_INIT;
	int error = fs_read_file(directory, name, &text, RECORD_BYTES_MAX);

	if (error == -ENOENT)
		return error;
	if (error < 0 && error != -EINVAL && error != -EFBIG && error != -ELOOP)
		return err_set(err, error, "cannot read drover's record '%s'", name);
	if (error == 0 && record_parse(&text, ret, &problem) == 0)
		return 0;
	snprintf(aside, sizeof(aside), "%s" CORRUPT, name);
	(void)renameat(directory, name, directory, aside);
	return -ENOENT;
}

int repository_write_intent(struct repository *repository, const struct record *record, struct err *err)
{
	char name[NAME_ROOM];

	intent_name(record, name);
	return write_file(repository->intents, name, record, err);
}

int repository_drop_intent(struct repository *repository, const struct record *record, struct err *err)
{
	char name[NAME_ROOM];

	intent_name(record, name);
	if (unlinkat(repository->intents, name, 0) < 0 && errno != ENOENT)
		return err_set(err, -errno, "cannot remove drover's intent '%s'", name);
	return 0;
}

/*
 * Makes room for the record of `record`'s attempt under `name`. An earlier attempt's worktree that stays must not be
 * forgotten: its record gets the attempt's number. True when a later attempt's stands there and has to stay.
 */
static bool make_way(struct repository *repository, const struct record *record, const char *name)
{
	CLEANUP(record_done) struct record standing = { 0 };
	char aside[NAME_ROOM];

	if (read_file(repository->records, name, &standing, NULL) < 0 || standing.attempt == record->attempt)
		return false;
	intent_name(standing.attempt < record->attempt ? &standing : record, aside);
	if (standing.attempt > record->attempt) {
		(void)unlinkat(repository->records, aside, 0); /* of what the intent has removed */
		return true;
	}
	if (standing.verb != RECORD_REMOVE)
		(void)renameat(repository->records, name, repository->records, aside); /* else only a listing is poorer */
	return false;
}

int repository_finish_intent(struct repository *repository, const struct record *record, struct err *err)
{
	char name[NAME_ROOM];
	char key[REPOSITORY_KEY_MAX];
	char done[NAME_ROOM];

	intent_name(record, name);
	repository_format_key(record->owner, record->task, key);
	snprintf(done, sizeof(done), "%s.json", key);
	if (make_way(repository, record, done))
		return repository_drop_intent(repository, record, err);
	if (renameat(repository->intents, name, repository->records, done) < 0)
		return err_set(err, -errno, "cannot finish drover's intent '%s'", name);
	/* Both directories are in the rename's transaction: an intent that came back would undo what a task did since. */
	if (fsync(repository->records) < 0)
		return err_set(err, -errno, "cannot put drover's record '%s' on disk", done);
	return 0;
}

int repository_write_record(struct repository *repository, const struct record *record, struct err *err)
{
	char name[NAME_ROOM];

	record_name(repository, name);
	return write_file(repository->records, name, record, err);
}

int repository_read_record(struct repository *repository, struct record *ret, struct err *err)
{
	char name[NAME_ROOM];

	record_name(repository, name);
	return read_file(repository->records, name, ret, err);
}

int repository_read_intent(struct repository *repository, struct record *ret, struct err *err)
{
	char name[NAME_ROOM];

	snprintf(name, sizeof(name), "%s-%" PRIu32 ".json", repository->key, repository->attempt);
	return read_file(repository->intents, name, ret, err);
}

static void claim_since(int directory, const char *name, struct repository_claim *ret)
{
	struct stat st;

	*ret = (struct repository_claim){ .since_ms = INT64_MAX, .until_ms = clock_wall_ms() };
	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		ret->since_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

void repository_claim_intent(const struct repository *repository, const struct record *intent, struct repository_claim *ret)
{
	char name[NAME_ROOM];

	intent_name(intent, name);
	claim_since(repository->intents, name, ret);
}

void repository_claim_record(const struct repository *repository, struct repository_claim *ret)
{
	char name[NAME_ROOM];
	struct record record = { 0 };

	record_name(repository, name);
	claim_since(repository->records, name, ret);
	if (read_file(repository->records, name, &record, NULL) < 0 || record.verb != RECORD_PREPARE ||
	    record.attempt != repository->attempt)
		ret->since_ms = INT64_MAX;
	record_done(&record);
}

int repository_read_attempt(struct repository *repository, struct record *ret, struct err *err)
{
	struct record latest = { 0 };
	char name[NAME_ROOM];
	int error = repository_read_record(repository, &latest, err);

	if (error == 0 && latest.attempt == repository->attempt) {
		*ret = latest;
		return 0;
	}
	record_done(&latest);
	if (error < 0 && error != -ENOENT)
		return error;
	snprintf(name, sizeof(name), "%s-%" PRIu32 ".json", repository->key, repository->attempt);
	return read_file(repository->records, name, ret, err);
}

static bool ends_with(const char *name, const char *end)
{
	size_t length = strlen(name);
	size_t end_length = strlen(end);

	return length > end_length && strcmp(name + length - end_length, end) == 0;
}

/* A stream over the directory with a descriptor of its own, so that its position is its own too. NULL with errno. */
static DIR *open_listing(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);

	if (!listing)
		fd_close(&fd);
	return listing;
}

static int visit_intent(struct repository *repository, const char *name, repository_visit *visit, void *context,
                        struct err *err)
{
	struct record intent = { 0 };
	struct record settled = { 0 };
	int error = read_file(repository->intents, name, &intent, err);

	if (error < 0)
		return error == -ENOENT ? 0 : error;
	if (repository_try_lock_other(repository, &intent)) {
		/* Read before the lock was ours, it may be of a helper that has finished since: its worktree is in use. */
		error = read_file(repository->intents, name, &settled, err);
		if (error == 0)
			error = visit(repository, &settled, context, err);
		else if (error == -ENOENT)
			error = 0;
		repository_unlock_other(repository, &intent);
	}
	record_done(&settled);
	record_done(&intent);
	return error;
}

int repository_visit_intents(struct repository *repository, repository_visit *visit, void *context, struct err *err)
{
	DIR *listing = open_listing(repository->intents);
	const struct dirent *entry;
	int error = 0;

	if (!listing)
		return err_set(err, -errno, "cannot list '%s/drover/intents'", repository->common_path);
	while (error == 0 && (entry = readdir(listing))) {
		if (ends_with(entry->d_name, ".json"))
			error = visit_intent(repository, entry->d_name, visit, context, err);
		else if (ends_with(entry->d_name, ".json.new"))
			(void)unlinkat(repository->intents, entry->d_name, 0); /* they are written under our lock */
	}
	closedir(listing);
	return error;
}

int repository_list_intended(struct repository *repository, struct names_taken *directories, struct names_taken *branches,
                             struct err *err)
{
	DIR *listing = open_listing(repository->intents);
	const struct dirent *entry;

	if (!listing)
		return err_set(err, -errno, "cannot list '%s/drover/intents'", repository->common_path);
	while ((entry = readdir(listing))) {
		struct record intent = { 0 };
		const char *branch;

		if (!ends_with(entry->d_name, ".json") || read_file(repository->intents, entry->d_name, &intent, NULL) < 0)
			continue;
		branch = intent.branch + strlen(NAMES_BRANCH_PREFIX);
		if (intent.attempt != repository->attempt || !repository_is_own(repository, &intent)) {
			names_taken_add(directories, intent.directory, strlen(intent.directory));
			names_taken_add(branches, branch, strlen(branch));
		}
		record_done(&intent);
	}
	closedir(listing);
	return 0;
}

int repository_see_records(struct repository *repository, bool is_intent, repository_see *see, void *context,
                           struct err *err)
{
	int directory = is_intent ? repository->intents : repository->records;
	DIR *listing = directory < 0 ? NULL : open_listing(directory);
	size_t prefix = repository->task > 0 ? strlen(repository->key) : 0;
	const struct dirent *entry;

	if (directory < 0)
		return 0;
	if (!listing)
		return err_set(err, -errno, "cannot list drover's records in '%s/drover'", repository->common_path);
	while ((entry = readdir(listing))) {
		struct record record = { 0 };

		if (strncmp(entry->d_name, repository->key, prefix) != 0 || !ends_with(entry->d_name, ".json") ||
		    read_file(directory, entry->d_name, &record, NULL) < 0)
			continue;
		see(context, &record);
		record_done(&record);
	}
	closedir(listing);
	return 0;
}

void repository_forget_old(struct repository *repository)
{
	DIR *listing = open_listing(repository->records);
	const struct dirent *entry;
	struct stat st;

	while (listing && (entry = readdir(listing))) {
		struct record record = { 0 };

		if (fstatat(repository->records, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
		    clock_wall_ms() - (int64_t)st.st_mtim.tv_sec * 1000 < OLD_RECORD_MS)
			continue;
		if (ends_with(entry->d_name, ".new") ||
		    (ends_with(entry->d_name, ".json") &&
		     read_file(repository->records, entry->d_name, &record, NULL) == 0 && record.verb == RECORD_REMOVE))
			(void)unlinkat(repository->records, entry->d_name, 0);
		record_done(&record);
	}
	if (listing)
		closedir(listing);
}
