/*
 * keeper.c - the keeper's start and loop.
 *
 * It takes the keeper's lock, prepares the slot file and the cgroup, leaves the terminal, starts the daemon, and then only
 * answers: orders of the daemon, ends of children.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "platform/lock.h"
#include "platform/process.h"

enum {
	ATTACHED_PIDFD = WIRE_DAEMON_FD + 1,
	LOG_SIZE_MAX = 16 << 20,
	ATTACH_LOCK_TRIES = 50,
	ATTACH_LOCK_MS = 100,
	DISMISS_TURNS = 1000,
	DISMISS_MS = 500,
	DAEMON_END_MS = 2000,
};

static const char usage[] = "usage: drover-keeper --state DIR [--daemon PATH] [--detach]\n"
			    "Starts drover's daemon, again when it dies, and the shims that hold the tasks.\n"
			    "Run by drover itself.\n";

static int parse_options(struct keeper *keeper, int argc, char **argv)
{
	const char *program = NULL;

	for (int i = 1; i < argc; i++) {
		bool has_value = i + 1 < argc;

		if (strcmp(argv[i], "--detach") == 0)
			keeper->is_detached = true;
		else if (strcmp(argv[i], "--attach-daemon") == 0)
			keeper->is_attached = true;
		else if (strcmp(argv[i], "--state") == 0 && has_value && strlen(argv[i + 1]) < PATHS_MAX)
			snprintf(keeper->state_dir, PATHS_MAX, "%s", argv[++i]);
		else if (strcmp(argv[i], "--daemon") == 0 && has_value && strlen(argv[i + 1]) < PATHS_MAX)
			program = argv[++i];
		else
			return -EINVAL;
	}
	if (program && program[0] != '/')
		return -EINVAL;
	if (program)
		snprintf(keeper->guardian.program, PATHS_MAX, "%s", program);
	return keeper->state_dir[0] == '/' && !(keeper->is_detached && keeper->is_attached) ? 0 : -EINVAL;
}

/* The state directory with what is missing above it; only its owner may look inside. */
static int open_state(struct keeper *keeper, struct err *err)
{
	char path[PATHS_MAX];
	struct stat status;

	for (const char *slash = strchr(keeper->state_dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(slash - keeper->state_dir), keeper->state_dir);
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return err_set(err, -errno, "make the directory %s", path);
	}
	if (mkdir(keeper->state_dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "make the state directory %s", keeper->state_dir);
	keeper->state = open(keeper->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (keeper->state < 0 || fstat(keeper->state, &status) < 0)
		return err_set(err, -errno, "open the state directory %s", keeper->state_dir);
	if (status.st_uid != geteuid())
		return err_say(
			err, -EPERM,
			"the state directory %s belongs to user %u, not to you (%u): choose another by DROVER_STATE_DIR",
			keeper->state_dir, status.st_uid, geteuid());
	if (status.st_mode & 022)
		return err_say(err, -EPERM, "others may write to the state directory %s: chmod 700 it", keeper->state_dir);
	return 0;
}

/* A keeper that is attached may come before the old one's end has closed its lock. */
static int take_lock(struct keeper *keeper, struct err *err)
{
	int tries = keeper->is_attached ? ATTACH_LOCK_TRIES : 1;
	int r;

	do {
		r = lock_file_take(keeper->state, PATHS_KEEPER_LOCK, &keeper->lock, err);
		if (r == -EAGAIN && --tries > 0)
			poll(NULL, 0, ATTACH_LOCK_MS); /* no event tells of an unlock but a blocking call without end */
	} while (r == -EAGAIN && tries > 0);
	if (r == -EAGAIN)
		err_wrap(err, "a keeper of %s runs already", keeper->state_dir);
	return r;
}

/* Detached, the log of the daemon and ours takes the place of the terminal; an old one is set aside when it has grown. */
static int leave_terminal(struct keeper *keeper, struct err *err)
{
	struct stat status;

	keeper->log = STDERR_FILENO;
	keeper->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (keeper->null < 0)
		return err_set(err, -errno, "open /dev/null");
	dup2(keeper->null, STDIN_FILENO);
	if (!keeper->is_detached)
		return 0;
	if (fstatat(keeper->state, PATHS_DAEMON_LOG, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_size > LOG_SIZE_MAX)
		renameat(keeper->state, PATHS_DAEMON_LOG, keeper->state, PATHS_DAEMON_LOG ".1");
	keeper->log = openat(keeper->state, PATHS_DAEMON_LOG, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (keeper->log < 0)
		return err_set(err, -errno, "open %s/" PATHS_DAEMON_LOG, keeper->state_dir);
	if (chdir("/") < 0)
		return err_set(err, -errno, "leave the working directory");
	dup2(keeper->log, STDOUT_FILENO);
	dup2(keeper->log, STDERR_FILENO);
	log_init(LOG_INFO, true);
	return 0;
}

/* More descriptors for us, who hold three for each shim; what we start gets the limit that we were given. */
static void raise_open_files(struct keeper *keeper)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	keeper->open_files_max = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return; /* fewer shims then */
}

static int find_daemon(struct keeper *keeper, struct err *err)
{
	if (keeper->guardian.program[0] != '\0')
		return 0;
	return paths_program("drover-daemon", keeper->guardian.program, err);
}

static int set_up(struct keeper *keeper, struct err *err)
{
	sigset_t all;
	int r;

	sigfillset(&all);
	keeper->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (keeper->signals < 0)
		return err_set(err, -errno, "make a signal descriptor");
	r = spawn_init(&keeper->spawner);
	if (r < 0)
		return err_set(err, r, "reserve memory");
	r = record_open(keeper->state, PATHS_SLOTS, LIMIT_SLOTS, &keeper->slots, err);
	if (r == 0)
		r = find_daemon(keeper, err);
	if (r < 0)
		return r;
	raise_open_files(keeper);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* orphans of a shim that died must not depend on a pid 1 that reaps */
	shims_init(keeper);
	place_find(keeper);
	return 0;
}

/* Descriptors 3 and 4 are the daemon's socket and pidfd. */
static int attach(struct keeper *keeper, struct err *err)
{
	struct guardian *guardian = &keeper->guardian;
	struct stat status;

	if (fstat(WIRE_DAEMON_FD, &status) < 0 || !S_ISSOCK(status.st_mode) || process_signal(ATTACHED_PIDFD, 0) == -EBADF)
		return err_say(err, -EINVAL, "--attach-daemon: descriptors 3 and 4 are not a socket and a pidfd");
	guardian->is_foreign = true;
	guardian->socket = fcntl(WIRE_DAEMON_FD, F_DUPFD_CLOEXEC, 5);
	guardian->pidfd = fcntl(ATTACHED_PIDFD, F_DUPFD_CLOEXEC, 5);
	if (guardian->socket < 0 || guardian->pidfd < 0)
		return err_set(err, -errno, "take over the daemon's socket");
	guardian->pid = -1; /* not ours to wait for */
	guardian->start_at_ns = NEVER_NS;
	return 0;
}

static void reap_children(struct keeper *keeper)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | __WALL)) > 0) {
		if (WIFSTOPPED(status))
			shims_on_stop(keeper, pid);
		else if (pid == keeper->guardian.pid)
			guardian_on_exit(keeper, true, status);
		else
			shims_on_exit(keeper, pid); /* else a helper, or somebody's orphan */
	}
}

static void take_signals(struct keeper *keeper)
{
	struct signalfd_siginfo info;

	while (read(keeper->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			guardian_stop(keeper);
	}
	reap_children(keeper);
}

/* The daemon closed its socket: after STOP, in order to have another keeper; else it is dying. */
static void on_socket_end(struct keeper *keeper)
{
	fd_close(&keeper->guardian.socket);
	if (keeper->guardian.wish == GUARDIAN_STOP) {
		keeper->must_exit = true;
		keeper->exit_status = 0;
	}
}

static void run(struct keeper *keeper)
{
	struct guardian *guardian = &keeper->guardian;

	while (!keeper->must_exit) {
		int timeout_ms = guardian_run(keeper); /* first: it may make the socket that is waited at */
		bool is_flushed = orders_flush(keeper) && shims_flush(keeper);
		struct pollfd items[3] = {
			{ .fd = keeper->signals, .events = POLLIN },
			{ .fd = guardian->socket, .events = is_flushed ? POLLIN : POLLOUT },
			{ .fd = guardian->is_foreign ? guardian->pidfd : -1, .events = POLLIN },
		};

		if (poll(items, ARRAY_SIZE(items), timeout_ms) < 0)
			continue;
		if (items[1].revents & ~POLLOUT && !orders_take(keeper))
			on_socket_end(keeper);
		if (items[0].revents)
			take_signals(keeper);
		if (items[2].revents)
			guardian_on_exit(keeper, false, 0);
	}
}

/* Idle shims leave when their channel ends; those with an attempt stay. */
static void dismiss_shims(struct keeper *keeper)
{
	struct pollfd item = { .fd = keeper->signals, .events = POLLIN };

	for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
		struct keeper_shim *shim = &keeper->shims[slot];

		fd_close(&shim->channel);
		if (shim->pid != 0 && record_is_locked(keeper->slots, slot))
			keeper->shim_count--;
	}
	for (int turns = 0; keeper->shim_count > 0 && turns < DISMISS_TURNS && poll(&item, 1, DISMISS_MS) > 0; turns++) {
		struct signalfd_siginfo info;

		if (read(keeper->signals, &info, sizeof(info)) < 0)
			break;
		while (keeper->shim_count > 0 && waitpid(-1, NULL, WNOHANG | __WALL) > 0)
			keeper->shim_count--;
	}
}

/*
 * It said that it ends, and closed its socket; its lock goes with its last breath. Whoever starts the next one as soon as we
 * are gone must not find it held. Should it stay, we do not.
 */
static void wait_for_daemon(const struct keeper *keeper)
{
	struct pollfd item = { .fd = keeper->guardian.pidfd, .events = POLLIN };

	if (item.fd >= 0)
		poll(&item, 1, DAEMON_END_MS);
}

/* What the process that the user started says about the keeper that it left behind. */
struct start_report {
	int32_t status; /* exit status */
	char text[ERR_TEXT_MAX];
};

/* The first process: waits until the keeper works, or says why it does not. */
static NORETURN void wait_for_report(int fd)
{
	struct start_report report = { .status = 1, .text = "the keeper died while starting" };

	if (read(fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
		log_error("%s", report.text);
	else if (report.status != 0)
		log_error("%s", report.text);
	_exit(report.status);
}

/* Goes on in a new session without a terminal. *ret_report is where to tell how the start went. */
static int detach(int *ret_report, struct err *err)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, -errno, "make a pipe");
	pid = fork();
	if (pid < 0)
		return err_set(err, -errno, "start the keeper in the background");
	if (pid > 0) {
		fd_close(&ends[1]);
		wait_for_report(ends[0]);
	}
	fd_close(&ends[0]);
	*ret_report = ends[1];
	setsid();
	return 0;
}

static void send_report(int fd, int status, const struct err *err)
{
	struct start_report report = { .status = status };

	snprintf(report.text, sizeof(report.text), "%s", err->text);
	if (status != 0 && (fd < 0 || fd_write_all(fd, &report, sizeof(report)) < 0))
		log_error("%s", err->text);
	else if (fd >= 0 && fd_write_all(fd, &report, sizeof(report)) < 0)
		log_info("whoever started this keeper did not wait");
}

static int start(struct keeper *keeper, struct err *err)
{
	int r = open_state(keeper, err);

	if (r == 0)
		r = take_lock(keeper, err);
	if (r == 0)
		r = leave_terminal(keeper, err);
	if (r == 0)
		r = set_up(keeper, err);
	if (r < 0)
		return r;
	if (keeper->is_attached) {
		r = attach(keeper, err);
		if (r == 0)
			guardian_hello(keeper);
		return r;
	}
	return guardian_start(keeper, err);
}

/* The standard streams must be open, or descriptors of ours would be taken for them. */
static void open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	fd_close(&fd);
}

int keeper_main(int argc, char **argv)
{
	static struct keeper keeper = { .state = -1,
		                        .lock = -1,
		                        .slots = -1,
		                        .signals = -1,
		                        .null = -1,
		                        .log = -1,
		                        .cgroup_base = -1,
		                        .guardian = { .pidfd = -1, .socket = -1 } };
	struct err err = ERR_INIT;
	int report = -1;
	int r;

	open_standard_streams();
	log_init(LOG_INFO, false);
	if (parse_options(&keeper, argc, argv) < 0) {
		fputs(usage, stderr);
		return WIRE_EXIT_USAGE;
	}
	keeper.environment = environ;
	spawn_reset_signals();
	r = keeper.is_detached ? detach(&report, &err) : 0;
	if (r == 0)
		r = start(&keeper, &err);
	keeper.exit_status = r == 0 ? 0 : r == -EAGAIN ? WIRE_EXIT_LOCKED : 1;
	send_report(report, keeper.exit_status, &err);
	fd_close(&report);
	if (r < 0)
		return keeper.exit_status;
	log_info("keeper %d of %s", (int)getpid(), keeper.state_dir);
	run(&keeper);
	dismiss_shims(&keeper);
	wait_for_daemon(&keeper);
	place_leave(&keeper);
	return keeper.exit_status;
}
