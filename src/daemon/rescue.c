#include "daemon/rescue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/paths.h"
#include "daemon/attempts.h"
#include "daemon/recovery.h"
#include "keeper/record.h"
#include "platform/clock.h"
#include "platform/fs.h"
#include "platform/lock.h"
#include "store/salvage.h"
#include "store/store.h"

#define WORK_DIR "restore.tmp" /* copies to read, and the new database while it is made */
#define QUARANTINE "damaged-"
#define REPORT "report.txt"

enum { FILES_MAX = 16, COPY_SIZE = 1 << 20, QUARANTINE_MAX = 64, NAME_TRIES = 100, QUARANTINES_READ = 4 };

struct rescue {
	const struct rescue_options *options;
	int state_fd;
	int lock_fd;
	int work_fd;
	uint64_t committed_seq;
	char quarantine[QUARANTINE_MAX];
	bool has_database;
	bool has_slots;
	uint32_t running;    /* tasks, by the database */
	bool is_interrupted; /* an earlier restore got as far as the quarantine */
	char *paths[FILES_MAX];
	char *names[FILES_MAX];
	struct salvage_file files[FILES_MAX];
	uint32_t file_count;
	struct salvage_attempt *attempts;
	uint32_t attempt_count;
	struct salvage_result result;
};

/* ---- the state directory ----------------------------------------------------------------------------------------- */

static int open_state(struct rescue *rescue, struct err *err)
{
	const char *state_dir = rescue->options->state_dir;
	struct stat status;
	int r;

	rescue->state_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rescue->state_fd < 0 || fstat(rescue->state_fd, &status) < 0)
		return err_set(err, -errno, "open the state directory %s", state_dir);
	if (status.st_uid != geteuid() || status.st_mode & 022)
		return err_say(err, -EPERM, "the state directory %s is not yours alone (user %u, mode %04o)", state_dir,
		               status.st_uid, status.st_mode & 07777);
	r = lock_file_take(rescue->state_fd, PATHS_DAEMON_LOCK, &rescue->lock_fd, err);
	if (r == -EAGAIN)
		return err_say(err, r, "a daemon uses the database in %s: 'drover daemon stop' ends it, running tasks go on",
		               state_dir);
	return r;
}

/* Ends and living attempts, by their records. A slot file that is gone or damaged tells of none. */
static void read_slots(struct rescue *rescue)
{
	struct err err = ERR_INIT;
	CLEANUP_FD int fd = -1;
	struct stat status;

	if (fstatat(rescue->state_fd, PATHS_SLOTS, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (record_open(rescue->state_fd, PATHS_SLOTS, LIMIT_SLOTS, &fd, &err) < 0 ||
	    record_read_committed(fd, &rescue->committed_seq) < 0) {
		buf_add_format(&rescue->result.report, "the slot file tells nothing: %s\n", err.text);
		return;
	}
	rescue->has_slots = rescue->committed_seq > 0; /* else it was made after the one that was used */
	rescue->attempts = xcalloc(LIMIT_SLOTS, sizeof(*rescue->attempts));
	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		struct slot_record record;

		if (record_read(fd, slot, &record) < 0 || record.state == RECORD_FREE || record.task == 0)
			continue;
		rescue->attempts[rescue->attempt_count++] = (struct salvage_attempt){
			.task = record.task, .nonce = record.nonce, .attempt = record.attempt, .slot = slot
		};
	}
}

static void count_running(void *context, const struct store_task *task)
{
	struct rescue *rescue = context;

	rescue->running += task->task.phase == PHASE_PROCESS;
}

/* What a start would say of it. 0 when all is well; the daemon's own way, so it sets up what a start would. */
static int try_start(struct rescue *rescue, struct store_facts *ret_facts, struct err *err)
{
	struct store_loader loader = { .context = rescue, .on_task = count_running };
	struct store_options options = {
		.state_fd = rescue->state_fd,
		.state_dir = rescue->options->state_dir,
		.committed_seq = rescue->committed_seq,
	};
	uint8_t boot_id[16];
	struct store *store;
	int r = clock_boot_id(boot_id);

	if (r < 0)
		return err_set(err, r, "read the machine's boot id");
	r = store_open(&options, &store, err);
	if (r < 0)
		return r;
	r = store_load(store, &loader, ret_facts, err);
	store_close(store);
	if (r == 0 && !rescue->has_slots && rescue->running > 0 && !recovery_is_rebooted(ret_facts, boot_id))
		return err_say(err, -EILSEQ, RESCUE_SLOTS_LOST, rescue->options->state_dir, rescue->running);
	return r;
}

/* ---- copies to read ---------------------------------------------------------------------------------------------- */

static int copy_bytes(int from, int to)
{
	CLEANUP_FREE char *block = xcalloc(1, COPY_SIZE);
	ssize_t length;
	int r = 0;

	while (r == 0 && (length = read(from, block, COPY_SIZE)) != 0)
		r = length < 0 ? -errno : fd_write_all(to, block, (size_t)length);
	return r;
}

/* A file as `target` in the work directory. -ENOENT, without a sentence, when there is none. */
static int copy_file(struct rescue *rescue, int directory_fd, const char *name, const char *target, struct err *err)
{
	CLEANUP_FD int from = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	CLEANUP_FD int to = -1;
	int r;

	if (from < 0)
		return errno == ENOENT ? -ENOENT : err_set(err, -errno, "cannot read %s", name);
	to = openat(rescue->work_fd, target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = to < 0 ? -errno : copy_bytes(from, to);
	return r < 0 ? err_set(err, r, "cannot copy %s to %s/" WORK_DIR, name, rescue->options->state_dir) : 0;
}

/* A database and its log as the next source. 0, also when there is none, or -errno. */
static int add_source(struct rescue *rescue, int directory_fd, const char *name, const char *shown, struct err *err)
{
	CLEANUP_FREE char *log_name = xasprintf("%s-wal", name);
	char target[16], log_target[24], real[PATHS_MAX];
	uint32_t i = rescue->file_count;
	int r;

	if (i == FILES_MAX)
		return 0;
	snprintf(target, sizeof(target), "%u.db", i);
	snprintf(log_target, sizeof(log_target), "%u.db-wal", i);
	r = copy_file(rescue, directory_fd, name, target, err);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = copy_file(rescue, directory_fd, log_name, log_target, err);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!realpath(rescue->options->state_dir, real))
		return err_set(err, -errno, "cannot find %s", rescue->options->state_dir);
	rescue->paths[i] = xasprintf("%s/" WORK_DIR "/%s", real, target);
	rescue->names[i] = xstrdup(shown);
	rescue->files[i] = (struct salvage_file){ .path = rescue->paths[i], .name = rescue->names[i] };
	rescue->file_count++;
	return 0;
}

/* The quarantine of an interrupted restore: there the database lies under its second name, with its log. */
static void find_interrupted(struct rescue *rescue)
{
	int fd = openat(rescue->state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
	struct stat database, other;
	struct dirent *entry;

	rescue->has_database = fstatat(rescue->state_fd, PATHS_DATABASE, &database, AT_SYMLINK_NOFOLLOW) == 0;
	while (directory && rescue->has_database && (entry = readdir(directory))) {
		char path[QUARANTINE_MAX + sizeof(PATHS_DATABASE) + 1];

		if (strncmp(entry->d_name, QUARANTINE, strlen(QUARANTINE)) != 0 || strlen(entry->d_name) >= QUARANTINE_MAX)
			continue;
		snprintf(path, sizeof(path), "%.*s/" PATHS_DATABASE, QUARANTINE_MAX - 1, entry->d_name);
		if (fstatat(rescue->state_fd, path, &other, AT_SYMLINK_NOFOLLOW) < 0 || other.st_ino != database.st_ino ||
		    other.st_dev != database.st_dev)
			continue;
		rescue->is_interrupted = true;
		snprintf(rescue->quarantine, sizeof(rescue->quarantine), "%.*s", QUARANTINE_MAX - 1, entry->d_name);
	}
	if (directory)
		closedir(directory);
}

static int add_snapshots(struct rescue *rescue, struct err *err)
{
	int fd = openat(rescue->state_fd, PATHS_SNAPSHOTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent **entries = NULL;
	int count, r = 0;

	if (fd < 0)
		return 0;
	count = scandirat(rescue->state_fd, PATHS_SNAPSHOTS, &entries, NULL, alphasort);
	for (int i = count; i-- > 0;) { /* the latest first */
		CLEANUP_FREE char *shown = xasprintf(PATHS_SNAPSHOTS "/%s", entries[i]->d_name);
		size_t length = strlen(entries[i]->d_name);

		if (r == 0 && length > 3 && strcmp(entries[i]->d_name + length - 3, ".db") == 0)
			r = add_source(rescue, fd, entries[i]->d_name, shown, err);
		free(entries[i]);
	}
	free(entries);
	fd_close(&fd);
	return r;
}

/* What earlier restores set aside. */
static int add_quarantines(struct rescue *rescue, struct err *err)
{
	struct dirent **entries = NULL;
	int count = scandirat(rescue->state_fd, ".", &entries, NULL, alphasort);
	uint32_t left = QUARANTINES_READ;
	int r = 0;

	for (int i = count; i-- > 0;) { /* the latest first */
		const char *name = entries[i]->d_name;

		if (r == 0 && left > 0 && strncmp(name, QUARANTINE, strlen(QUARANTINE)) == 0 &&
		    strcmp(name, rescue->quarantine) != 0) {
			CLEANUP_FREE char *shown = xasprintf("%s/" PATHS_DATABASE, name);
			CLEANUP_FD int fd = openat(rescue->state_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			left--;
			r = fd < 0 ? 0 : add_source(rescue, fd, PATHS_DATABASE, shown, err);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int copy_sources(struct rescue *rescue, struct err *err)
{
	const char *from = rescue->options->from;
	CLEANUP_FD int directory_fd = -1;
	int r = fs_remove_tree(rescue->state_fd, WORK_DIR, err);

	if (r < 0)
		return r;
	rescue->work_fd = fs_make_directory(rescue->state_fd, WORK_DIR, 0700);
	if (rescue->work_fd < 0)
		return err_set(err, rescue->work_fd, "cannot make %s/" WORK_DIR, rescue->options->state_dir);
	find_interrupted(rescue);
	if (rescue->is_interrupted)
		directory_fd = openat(rescue->state_fd, rescue->quarantine, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = add_source(rescue, rescue->is_interrupted ? directory_fd : rescue->state_fd, PATHS_DATABASE, PATHS_DATABASE,
	               err);
	if (rescue->file_count > 0)
		rescue->files[0].is_live = true;
	if (r == 0 && from)
		r = add_source(rescue, AT_FDCWD, from, from, err);
	if (r == 0)
		r = add_snapshots(rescue, err);
	if (r == 0)
		r = add_quarantines(rescue, err);
	if (r == 0 && rescue->file_count == 0)
		r = err_say(err, -ENODATA, "there is nothing to restore from in %s: no database and no snapshot",
		            rescue->options->state_dir);
	return r;
}

/* ---- the new one ------------------------------------------------------------------------------------------------- */

static int build(struct rescue *rescue, struct err *err)
{
	CLEANUP_FD int fd = openat(rescue->work_fd, "new.db", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CLEANUP_FREE char *path = NULL;
	char real[PATHS_MAX];
	struct buf before = rescue->result.report;
	struct salvage_options options = {
		.files = rescue->files,
		.file_count = rescue->file_count,
		.attempts = rescue->attempts,
		.attempt_count = rescue->attempt_count,
		.is_slot_file_lost = !rescue->has_slots,
		.committed_seq = rescue->committed_seq,
		.now_ms = clock_wall_ms(),
	};
	int r;

	if (fd < 0 || !realpath(rescue->options->state_dir, real))
		return err_set(err, -errno, "cannot make %s/" WORK_DIR "/new.db", rescue->options->state_dir);
	path = xasprintf("%s/" WORK_DIR "/new.db", real);
	options.new_path = path;
	fd_close(&fd); /* SQLite's locks would go with it later */
	r = salvage_build(&options, &rescue->result, err);
	buf_add(&before, rescue->result.report.bytes ? rescue->result.report.bytes : "", rescue->result.report.length);
	buf_done(&rescue->result.report);
	rescue->result.report = before;
	if (r < 0)
		return r;
	fd = openat(rescue->work_fd, "new.db", O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fsync(fd) == 0 ? 0 : err_set(err, -errno, "cannot write %s", path);
}

/* The first line says it all; status and log repeat it. */
static void add_summary(struct rescue *rescue, const char *why)
{
	const struct salvage_result *result = &rescue->result;
	struct buf text = BUF_INIT;

	buf_add_format(&text,
	               "the database was restored: %llu tasks, %llu of them as they were, %llu by the event log or the "
	               "slot file, %llu held, %llu lost; %llu tasks are gone",
	               (unsigned long long)result->tasks, (unsigned long long)result->kept, (unsigned long long)result->told,
	               (unsigned long long)result->held, (unsigned long long)result->ended,
	               (unsigned long long)result->gone);
	if (result->is_end_unknown)
		buf_add_text(&text, ", and whatever happened in later events");
	else if (result->unknown > 0)
		buf_add_format(&text, ", and what happened in up to %llu events", (unsigned long long)result->unknown);
	buf_add_format(&text, "\nwhy: %s\n%s", why, result->report.bytes ? result->report.bytes : "");
	buf_done(&rescue->result.report);
	rescue->result.report = text;
}

static int name_quarantine(struct rescue *rescue, struct err *err)
{
	time_t seconds = (time_t)(clock_wall_ms() / 1000);
	char date[32];
	struct tm parts;

	if (rescue->is_interrupted)
		return 0;
	if (!gmtime_r(&seconds, &parts) || strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &parts) == 0)
		return err_say(err, -EOVERFLOW, "the clock shows no date that can be written");
	for (unsigned number = 1; number <= NAME_TRIES; number++) {
		snprintf(rescue->quarantine, sizeof(rescue->quarantine), number == 1 ? QUARANTINE "%s" : QUARANTINE "%s-%u",
		         date, number);
		if (mkdirat(rescue->state_fd, rescue->quarantine, 0700) == 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	return err_set(err, -errno, "cannot make %s/%s", rescue->options->state_dir, rescue->quarantine);
}

static int move_log(struct rescue *rescue, int quarantine_fd, const char *name)
{
	if (renameat(rescue->state_fd, name, quarantine_fd, name) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

/*
 * The old one gets its second name first and loses the first one last, when the new one takes its place: whoever interrupts
 * this leaves either the old database to be found by both names, or the new one. Its log goes before, since it would be
 * played into the new one.
 */
static int swap(struct rescue *rescue, struct err *err)
{
	static const char *const companions[] = { PATHS_DATABASE "-wal", PATHS_DATABASE "-shm", PATHS_DATABASE "-journal" };
	const struct buf *report = &rescue->result.report;
	CLEANUP_FD int quarantine_fd = -1;
	int r = name_quarantine(rescue, err);

	if (r < 0)
		return r;
	quarantine_fd = openat(rescue->state_fd, rescue->quarantine, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (quarantine_fd < 0)
		return err_set(err, -errno, "cannot open %s", rescue->quarantine);
	r = fs_write_atomic(quarantine_fd, REPORT, report->bytes, report->length, 0600);
	if (r == 0 && rescue->has_database && !rescue->is_interrupted &&
	    linkat(rescue->state_fd, PATHS_DATABASE, quarantine_fd, PATHS_DATABASE, 0) < 0)
		r = -errno;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(companions); i++)
		r = move_log(rescue, quarantine_fd, companions[i]);
	FAILPOINT("restore_swapping");
	if (r == 0 &&
	    (fsync(quarantine_fd) < 0 || renameat(rescue->work_fd, "new.db", rescue->state_fd, PATHS_DATABASE) < 0))
		r = -errno;
	if (r < 0)
		unlinkat(quarantine_fd, REPORT, 0); /* it says that it was restored */
	else if (fsync(rescue->state_fd) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r, "cannot put the new database into its place in %s", rescue->options->state_dir) : 0;
}

static int restore(struct rescue *rescue, struct err *err)
{
	struct store_facts facts;
	struct err why = ERR_INIT;
	int r = copy_sources(rescue, err);

	if (r < 0)
		return r;
	r = rescue->has_database ? try_start(rescue, &facts, &why) : err_say(&why, -ENOENT, "the database is missing");
	if (r == 0) {
		printf("the database is whole: there is nothing to restore\n");
		return 0;
	}
	if (r != -EILSEQ && r != -ENOENT && !rescue->is_interrupted)
		return err_say(err, r, "%s", why.text);
	r = build(rescue, err);
	if (r == 0) {
		add_summary(rescue, why.text);
		r = swap(rescue, err);
		if (r < 0)
			return r;
	}
	fwrite(rescue->result.report.bytes, 1, rescue->result.report.length, stdout);
	if (r == 0)
		printf("the old database and this report are in %s/%s\n", rescue->options->state_dir, rescue->quarantine);
	return r;
}

static int check(struct rescue *rescue, struct err *err)
{
	struct store_facts facts;
	struct stat status;
	int r;

	if (fstatat(rescue->state_fd, PATHS_DATABASE, &status, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT &&
	    rescue->committed_seq == 0)
		return err_say(err, -ENOENT, "there is no database in %s", rescue->options->state_dir);
	r = try_start(rescue, &facts, err);
	if (r == 0)
		printf("the database is whole: events %llu to %llu\n", (unsigned long long)facts.first_seq,
		       (unsigned long long)facts.last_seq);
	return r;
}

int rescue_run(const struct rescue_options *options, struct err *err)
{
	static const struct {
		const char *verb;
		int (*run)(struct rescue *rescue, struct err *err);
	} verbs[] = { { "check", check }, { "restore", restore } };
	struct rescue rescue = { .options = options, .state_fd = -1, .lock_fd = -1, .work_fd = -1 };
	struct err ignored = ERR_INIT;
	int r = open_state(&rescue, err);

	if (r == 0) {
		read_slots(&rescue);
		r = err_say(err, -EINVAL, "--db wants check or restore");
		for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
			if (strcmp(options->verb, verbs[i].verb) == 0)
				r = verbs[i].run(&rescue, err);
		if (rescue.work_fd >= 0 && fs_remove_tree(rescue.state_fd, WORK_DIR, &ignored) < 0)
			err_ignore(&ignored, "the next restore removes it");
	}
	for (uint32_t i = 0; i < rescue.file_count; i++) {
		free(rescue.paths[i]);
		free(rescue.names[i]);
	}
	free(rescue.attempts);
	buf_done(&rescue.result.report);
	fd_close(&rescue.work_fd);
	fd_close(&rescue.lock_fd);
	fd_close(&rescue.state_fd);
	return r;
}

/* ---- what the daemon says of it ----------------------------------------------------------------------------------- */

char *rescue_find_notice(int state_fd, const char *state_dir)
{
	struct dirent **entries = NULL;
	int count = scandirat(state_fd, ".", &entries, NULL, alphasort);
	char *notice = NULL;

	for (int i = count; i-- > 0;) {
		CLEANUP_FREE char *path = xasprintf("%s/" REPORT, entries[i]->d_name);
		CLEANUP_BUF struct buf text = BUF_INIT;

		if (!notice && strncmp(entries[i]->d_name, QUARANTINE, strlen(QUARANTINE)) == 0 &&
		    fs_read_file(state_fd, path, &text, 64 << 20) == 0 && text.length > 0)
			notice = xasprintf("%.*s: see %s/%s, and move that directory away when you have",
			                   (int)strcspn(text.bytes, "\n"), text.bytes, state_dir, path);
		free(entries[i]);
	}
	free(entries);
	return notice;
}
