#include "daemon/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "daemon/daemon.h"
#include "platform/clock.h"

enum { READER_LOOKS_MAX = 50 }; /* before the first connection */

static const char *const copied[] = { PATHS_DATABASE, PATHS_DATABASE "-wal" };

static int make_directory(struct daemon *daemon, struct err *err)
{
	const char *parent = getenv("TMPDIR");
	char real[PATHS_MAX];

	if (!parent || parent[0] != '/' || !realpath(parent, real))
		snprintf(real, sizeof(real), "/tmp");
	snprintf(daemon->reader_dir, sizeof(daemon->reader_dir), "%.*s/drover-reader-XXXXXX", PATHS_MAX - 32, real);
	if (!mkdtemp(daemon->reader_dir)) {
		daemon->reader_dir[0] = '\0';
		return err_set(err, -errno, "%s is read-only, and no directory for a copy can be made in %s",
		               daemon->state_dir, real);
	}
	daemon->reader_fd = open(daemon->reader_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return daemon->reader_fd < 0 ? err_set(err, -errno, "open %s", daemon->reader_dir) : 0;
}

static int copy_file(struct daemon *daemon, const char *name)
{
	CLEANUP_FD int from = openat(daemon->state_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	CLEANUP_FD int to = -1;
	CLEANUP_FREE char *block = NULL;
	enum { BLOCK_SIZE = 1 << 20 };
	ssize_t length;
	int r = 0;

	if (from < 0)
		return errno == ENOENT ? 0 : -errno;
	to = openat(daemon->reader_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	block = xcalloc(1, BLOCK_SIZE);
	while (r == 0 && (length = read(from, block, BLOCK_SIZE)) != 0)
		r = length < 0 ? -errno : fd_write_all(to, block, (size_t)length);
	return r;
}

int reader_open(struct daemon *daemon, struct store_options *ret, struct err *err)
{
	struct stat status;
	int r;

	daemon->state_fd = open(daemon->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (daemon->state_fd < 0 || fstat(daemon->state_fd, &status) < 0)
		return err_set(err, -errno, "open the state directory %s", daemon->state_dir);
	if (status.st_uid != geteuid() || status.st_mode & 022)
		return err_say(err, -EPERM, "the state directory %s is not yours alone (user %u, mode %04o)",
		               daemon->state_dir, status.st_uid, status.st_mode & 07777);
	r = clock_boot_id(daemon->boot_id);
	if (r == 0)
		r = make_directory(daemon, err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(copied); i++)
		r = copy_file(daemon, copied[i]);
	if (r < 0)
		return err_set(err, r, "%s is read-only, and its database cannot be copied to %s", daemon->state_dir,
		               daemon->reader_dir);
	*ret = (struct store_options){ .state_fd = daemon->reader_fd, .state_dir = daemon->reader_dir };
	daemon->slots_fd = openat(daemon->state_fd, PATHS_SLOTS, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (daemon->slots_fd >= 0 && record_read_committed(daemon->slots_fd, &ret->committed_seq) < 0)
		ret->committed_seq = 0;
	return 0;
}

static void remove_copies(struct daemon *daemon)
{
	for (size_t i = 0; i < ARRAY_SIZE(copied); i++)
		unlinkat(daemon->reader_fd, copied[i], 0);
}

void reader_settle(struct daemon *daemon)
{
	struct core_event drain = { .kind = CORE_DRAIN, .value = true };
	struct effects effects;

	remove_copies(daemon);
	daemon->is_broken = true;
	err_say(&daemon->broken, -EROFS,
	        "the state directory %s cannot be written: what is shown is what was remembered "
	        "last, and tasks that run are not looked at; make it writable, or set DROVER_STATE_DIR to another",
	        daemon->state_dir);
	if (core_step(daemon->core, &drain, daemon->now_ns, &effects) < 0)
		NEVER("a core that restores takes it");
	core_resume(daemon->core, daemon->now_ns, &effects); /* what it orders is for the next daemon that may write */
}

void reader_name_socket(struct daemon *daemon)
{
	int length = snprintf(daemon->socket_path, sizeof(daemon->socket_path), "%s/daemon.sock", daemon->reader_dir);

	ASSERT(length > 0 && length < PATHS_MAX);
}

void reader_tell_socket(const struct daemon *daemon)
{
	printf("%s\n", daemon->socket_path);
	fflush(stdout);
}

void reader_look(struct daemon *daemon)
{
	if (server_client_count(daemon->server) == 0 && (daemon->has_read || ++daemon->reader_looks > READER_LOOKS_MAX))
		daemon_stop(daemon, WIRE_EXIT_STOP);
}

void reader_done(struct daemon *daemon)
{
	if (daemon->reader_dir[0] == '\0')
		return;
	remove_copies(daemon);
	if (rmdir(daemon->reader_dir) < 0)
		daemon->reader_dir[0] = '\0';
	fd_close(&daemon->reader_fd);
}
