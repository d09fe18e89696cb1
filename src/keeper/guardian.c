/*
 * guardian.c - keeps the daemon running: starts it, learns its end, starts it again with growing pauses.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "platform/clock.h"
#include "platform/process.h"
#include "platform/socketpass.h"

#define PAUSE_MIN_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (30 * NS_PER_SEC)
#define LONG_LIFE_NS (60 * NS_PER_SEC) /* after this a failure is a first one again */
#define SHORT_LIFE_NS NS_PER_SEC

static int clone_daemon(struct keeper *keeper, int socket, struct spawned *ret)
{
	char fd_text[16];
	const char *words[] = { NULL, keeper->guardian.program, "--keeper-fd", fd_text, "--state", keeper->state_dir, NULL };
	const int fds[WIRE_DAEMON_FD + 1] = { keeper->null, keeper->log, keeper->log, socket };
	struct spawn spawn = {
		.argv = (char **)(uintptr_t)(words + 1), .envp = keeper->environment, .fds = fds,
		.fd_count = ARRAY_SIZE(fds), .cgroup_fd = -1,
		.open_files_max = keeper->open_files_max, .wants_pidfd = true,
	};

	snprintf(fd_text, sizeof(fd_text), "%d", WIRE_DAEMON_FD);
	return spawn_process(&keeper->spawner, &spawn, ret);
}

void guardian_hello(struct keeper *keeper)
{
	struct wire_keeper message = { .kind = WIRE_HELLO, .protocol = WIRE_PROTOCOL, .pid = (int32_t)getpid() };

	shims_forget_news(keeper);
	keeper->answer_count = 0;
	orders_answer(keeper, &message);
}

int guardian_start(struct keeper *keeper, struct err *err)
{
	struct guardian *guardian = &keeper->guardian;
	CLEANUP_FD int theirs = -1;
	struct spawned spawned;
	int pair[2];
	int r = socketpass_pair(pair);

	ASSERT(guardian->pid == 0);
	if (r < 0)
		return err_set(err, r, "make a socket for the daemon");
	fd_close(&guardian->socket);
	guardian->socket = pair[0];
	theirs = pair[1];
	r = clone_daemon(keeper, theirs, &spawned);
	if (r < 0) {
		fd_close(&guardian->socket);
		return err_set(err, r, "start the daemon %s", guardian->program);
	}
	guardian->pid = spawned.pid;
	guardian->pidfd = spawned.pidfd;
	guardian->is_foreign = false;
	guardian->has_run = true;
	guardian->wish = GUARDIAN_WATCH;
	guardian->started_ns = clock_monotonic_ns();
	guardian->start_at_ns = NEVER_NS;
	guardian_hello(keeper);
	return 0;
}

static void start_later(struct guardian *guardian, bool is_wanted)
{
	uint64_t now_ns = clock_monotonic_ns();
	uint64_t life_ns = now_ns - guardian->started_ns;
	uint64_t pause_ns;

	if (life_ns >= LONG_LIFE_NS || (is_wanted && life_ns >= SHORT_LIFE_NS))
		guardian->failures = 0;
	pause_ns = PAUSE_MIN_NS << MIN(guardian->failures, 16u);
	guardian->failures++;
	if (is_wanted && life_ns >= SHORT_LIFE_NS)
		pause_ns = 0; /* a daemon that asks for this over and over must not spin */
	guardian->start_at_ns = now_ns + MIN(pause_ns, PAUSE_MAX_NS);
}

static void leave(struct keeper *keeper, int exit_status)
{
	keeper->must_exit = true;
	keeper->exit_status = exit_status;
}

static void log_end(const struct guardian *guardian, bool has_status, int wait_status)
{
	if (!has_status)
		log_warning("the daemon that started this keeper is gone");
	else if (WIFSIGNALED(wait_status))
		log_warning("the daemon (pid %d) was ended by signal %d", (int)guardian->pid, WTERMSIG(wait_status));
	else
		log_info("the daemon (pid %d) exited with %d", (int)guardian->pid, WEXITSTATUS(wait_status));
}

void guardian_on_exit(struct keeper *keeper, bool has_status, int wait_status)
{
	struct guardian *guardian = &keeper->guardian;
	int code = has_status && WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
	enum guardian_wish wish;

	orders_take_last_words(keeper);
	wish = guardian->wish;
	log_end(guardian, has_status, wait_status);
	guardian->pid = 0;
	guardian->is_foreign = false;
	fd_close(&guardian->pidfd);
	fd_close(&guardian->socket);
	shims_forget_news(keeper);
	keeper->answer_count = 0;
	if (wish == GUARDIAN_STOP || code == WIRE_EXIT_STOP)
		leave(keeper, 0);
	else if (code == WIRE_EXIT_USAGE || code == WIRE_EXIT_LOCKED)
		leave(keeper, code);
	else
		start_later(guardian, wish == GUARDIAN_RESTART || code == WIRE_EXIT_RESTART);
}

int guardian_run(struct keeper *keeper)
{
	struct guardian *guardian = &keeper->guardian;
	uint64_t now_ns = clock_monotonic_ns();
	struct err err = ERR_INIT;

	if (guardian->start_at_ns == NEVER_NS)
		return -1;
	if (now_ns >= guardian->start_at_ns) {
		guardian->started_ns = now_ns;
		if (guardian_start(keeper, &err) == 0)
			return -1;
		log_error("%s; trying again", err.text);
		start_later(guardian, false);
	}
	return (int)((guardian->start_at_ns - MIN(now_ns, guardian->start_at_ns)) / NS_PER_MS) + 1;
}

void guardian_stop(struct keeper *keeper)
{
	struct guardian *guardian = &keeper->guardian;

	guardian->wish = GUARDIAN_STOP;
	if (guardian->pid == 0 || process_signal(guardian->pidfd, SIGTERM) < 0)
		leave(keeper, 0);
}
