#include "store/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/paths.h"

enum { PAGES_PER_STEP = 256 };

static const char unfinished[] = "unfinished";

static int open_directory(int state_fd, bool may_make)
{
	if (may_make && mkdirat(state_fd, PATHS_SNAPSHOTS, 0700) == 0 && fsync(state_fd) < 0)
		return -errno;
	return openat(state_fd, PATHS_SNAPSHOTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The path of the unfinished one, beside the database's. */
static int format_path(const struct database *database, char path[PATHS_MAX])
{
	size_t length = strlen(database->path) - strlen(PATHS_DATABASE);
	int written = snprintf(path, PATHS_MAX, "%.*s" PATHS_SNAPSHOTS "/%s", (int)length, database->path, unfinished);

	return written < PATHS_MAX ? 0 : -ENAMETOOLONG;
}

int snapshot_begin(struct snapshot *snapshot, const struct database *database, int state_fd, struct err *err)
{
	static const char pragmas[] = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE";
	CLEANUP_FD int directory_fd = open_directory(state_fd, true);
	CLEANUP_FD int fd = -1;
	char path[PATHS_MAX];

	if (directory_fd < 0 || (unlinkat(directory_fd, unfinished, 0) < 0 && errno != ENOENT) ||
	    (fd = openat(directory_fd, unfinished, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
		return err_set(err, -errno, "cannot make a file in the directory '" PATHS_SNAPSHOTS "'");
	if (format_path(database, path) < 0)
		return err_say(err, -ENAMETOOLONG, "the path of the state directory is too long for a snapshot");
	if (sqlite3_open_v2(path, &snapshot->target, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
	                    NULL) == SQLITE_OK &&
	    sqlite3_exec(snapshot->target, pragmas, NULL, NULL, NULL) == SQLITE_OK)
		snapshot->backup = sqlite3_backup_init(snapshot->target, "main", database->handle, "main");
	if (snapshot->backup)
		return 0;
	err_say(err, -EIO, "cannot begin a snapshot: %s", sqlite3_errmsg(snapshot->target));
	snapshot_abort(snapshot, state_fd);
	return -EIO;
}

int snapshot_step(struct snapshot *snapshot, struct err *err)
{
	int code = sqlite3_backup_step(snapshot->backup, PAGES_PER_STEP);

	if (code == SQLITE_DONE)
		return 0;
	if (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED)
		return 1;
	return err_say(err, (code & 0xff) == SQLITE_FULL ? -ENOSPC : -EIO, "cannot take a snapshot: %s",
	               sqlite3_errstr(code));
}

/* Closes both ends; 0 when everything was copied. */
static int close_target(struct snapshot *snapshot)
{
	int code = snapshot->backup ? sqlite3_backup_finish(snapshot->backup) : SQLITE_OK;

	sqlite3_close(snapshot->target);
	*snapshot = (struct snapshot){ 0 };
	return code == SQLITE_OK ? 0 : -EIO;
}

void snapshot_abort(struct snapshot *snapshot, int state_fd)
{
	CLEANUP_FD int directory_fd = -1;

	if (!snapshot_is_open(snapshot))
		return;
	close_target(snapshot);
	directory_fd = open_directory(state_fd, false);
	if (directory_fd >= 0)
		unlinkat(directory_fd, unfinished, 0);
}

uint64_t snapshot_read_name(const char *name)
{
	char *end;
	uint64_t seq;

	if (strspn(name, "0123456789") != 20)
		return 0;
	seq = strtoull(name, &end, 10);
	return strcmp(end, ".db") == 0 ? seq : 0;
}

/* The sequence numbers of at most `max` snapshots, the latest first; returns how many there are. */
static uint32_t list(int directory_fd, uint64_t *seqs, uint32_t max)
{
	int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	uint32_t count = 0;

	while (directory && (entry = readdir(directory))) {
		uint64_t seq = snapshot_read_name(entry->d_name);
		uint32_t place = count;

		if (seq == 0 || count == max)
			continue;
		for (; place > 0 && seqs[place - 1] < seq; place--)
			seqs[place] = seqs[place - 1];
		seqs[place] = seq;
		count++;
	}
	if (directory)
		closedir(directory);
	return count;
}

static void format_name(uint64_t seq, char name[SNAPSHOT_NAME_MAX])
{
	snprintf(name, SNAPSHOT_NAME_MAX, "%020llu.db", (unsigned long long)seq);
}

static void remove_old(int directory_fd)
{
	uint64_t seqs[64];
	uint32_t count = list(directory_fd, seqs, ARRAY_SIZE(seqs));
	char name[SNAPSHOT_NAME_MAX];

	for (uint32_t i = SNAPSHOT_KEEP; i < count; i++) {
		format_name(seqs[i], name);
		unlinkat(directory_fd, name, 0); /* the next one tries again */
	}
}

int snapshot_finish(struct snapshot *snapshot, const struct database *database, int state_fd, char name[SNAPSHOT_NAME_MAX],
                    struct err *err)
{
	CLEANUP_FD int directory_fd = open_directory(state_fd, false);
	CLEANUP_FD int fd = -1;
	int result = close_target(snapshot);

	if (result < 0)
		return err_say(err, result, "cannot take a snapshot: its file cannot be written");
	format_name(database->meta.last_seq, name);
	fd = openat(directory_fd, unfinished, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0 || renameat(directory_fd, unfinished, directory_fd, name) < 0 || fsync(directory_fd) < 0)
		return err_set(err, -errno, "cannot write the snapshot " PATHS_SNAPSHOTS "/%s", name);
	remove_old(directory_fd);
	return 0;
}

uint64_t snapshot_latest(int state_fd, int64_t *ret_ms)
{
	CLEANUP_FD int directory_fd = open_directory(state_fd, false);
	char name[SNAPSHOT_NAME_MAX];
	struct stat status;
	uint64_t seqs[64];

	if (directory_fd < 0 || list(directory_fd, seqs, ARRAY_SIZE(seqs)) == 0)
		return 0;
	format_name(seqs[0], name);
	if (ret_ms && fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
		*ret_ms = (int64_t)status.st_mtim.tv_sec * 1000;
	return seqs[0];
}
