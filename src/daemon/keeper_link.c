#include "daemon/keeper_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "platform/clock.h"

enum { ATTACH_TIMEOUT_MS = 10000, RETRY_MS = 200, RETRY_MAX_MS = 30000 };

static void on_keeper(uv_poll_t *poll, int status, int events);

/* Its socket holds some hundred orders: what is asked for beyond them is asked for again when it has taken some. */
static void wait_for_room(struct daemon *daemon)
{
	struct keeper_link *link = &daemon->keeper;

	link->is_full = true;
	if (link->is_polled)
		uv_poll_start(&link->poll, UV_READABLE | UV_WRITABLE, on_keeper);
}

int keeper_ask_shim(struct daemon *daemon, uint32_t slot, bool takes_over)
{
	struct wire_keeper message = { .kind = WIRE_SPAWN_SHIM, .slot = slot, .is_taken_over = takes_over };
	int r;

	if (daemon->keeper.socket < 0)
		return -ENOTCONN;
	r = wire_send(daemon->keeper.socket, &message, sizeof(message), NULL, 0);
	if (r == -EAGAIN)
		wait_for_room(daemon);
	return r;
}

int keeper_run_helper(struct daemon *daemon, uint64_t token, const char *const *argv, const int fds[3])
{
	union {
		struct wire_helper head;
		char bytes[WIRE_HELPER_MAX];
	} message = { .head = { .kind = WIRE_RUN_HELPER, .token = token } };
	size_t length = sizeof(message.head);

	if (daemon->keeper.socket < 0)
		return -ENOTCONN;
	for (; *argv; argv++) {
		size_t size = strlen(*argv) + 1;

		if (length + size > sizeof(message))
			return -E2BIG;
		memcpy(message.bytes + length, *argv, size);
		length += size;
		message.head.argc++;
	}
	return wire_send(daemon->keeper.socket, &message, length, fds, 3);
}

static void ask_for_shims(struct daemon *daemon)
{
	struct wire_keeper message = { .kind = WIRE_ATTACH };
	int r = wire_send(daemon->keeper.socket, &message, sizeof(message), NULL, 0);

	if (r < 0)
		log_warning("the keeper takes no orders: %s", strerror(-r)); /* its end follows */
}

static void handle(struct daemon *daemon, const struct wire_keeper *message, int fds[2])
{
	switch (message->kind) {
	case WIRE_HELLO:
		daemon->keeper.pid = message->pid;
		daemon->keeper.protocol = message->protocol;
		ask_for_shims(daemon);
		break;
	case WIRE_ATTACHED:
		daemon->keeper.failures = 0;
		attempts_on_keeper_ready(daemon);
		jobs_on_keeper_ready(daemon);
		break;
	case WIRE_SHIM:
		attempts_on_shim(daemon, message, TAKE_FD(fds[0]), TAKE_FD(fds[1]));
		break;
	case WIRE_SHIM_GONE:
		attempts_on_shim_gone(daemon, message);
		break;
	case WIRE_HELPER:
		if (message->error < 0)
			jobs_on_helper_failed(daemon, message->token, message->error);
		break;
	default:
		break;
	}
}

/* Takes one message. Returns its kind, 0 when there is none, -errno when the keeper is gone. */
static int take_message(struct daemon *daemon)
{
	struct wire_keeper message;
	int fds[2] = { -1, -1 };
	ssize_t length = wire_receive(daemon->keeper.socket, &message, sizeof(message), fds, 2);

	if (length == -EAGAIN)
		return 0;
	if (length == 0)
		return -EPIPE;
	if (length < 0)
		return (int)length;
	if ((size_t)length == sizeof(message))
		handle(daemon, &message, fds);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	return (int)message.kind;
}

/* Waits for one message of this kind, handling those before it. 0 or -errno. */
static int wait_for(struct daemon *daemon, int kind, struct err *err)
{
	uint64_t deadline = clock_monotonic_ns() + ATTACH_TIMEOUT_MS * NS_PER_MS;

	for (;;) {
		struct pollfd item = { .fd = daemon->keeper.socket, .events = POLLIN };
		uint64_t now = clock_monotonic_ns();
		int r = take_message(daemon);

		if (r == kind)
			return 0;
		if (r < 0)
			return err_set(err, r, "the keeper went away during the start");
		if (now >= deadline)
			return err_say(err, -ETIMEDOUT, "the keeper did not answer within %d s", ATTACH_TIMEOUT_MS / 1000);
		if (r == 0 && poll(&item, 1, (int)((deadline - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
			return err_set(err, -errno, "wait for the keeper");
	}
}

static void watch_keeper(struct daemon *daemon)
{
	struct keeper_link *link = &daemon->keeper;

	if (uv_poll_init(daemon->loop, &link->poll, link->socket) < 0 ||
	    uv_poll_start(&link->poll, UV_READABLE | (link->is_full ? UV_WRITABLE : 0), on_keeper) < 0)
		NEVER("the keeper's socket can be polled");
	link->poll.data = daemon;
	link->is_polled = true;
}

static void on_keeper_exit(uv_process_t *process, int64_t exit_status, int term_signal)
{
	struct daemon *daemon = process->data;

	log_warning("the keeper that this daemon started ended (status %d, signal %d)", (int)exit_status, term_signal);
	daemon->keeper.has_process = false;
	uv_close((uv_handle_t *)process, NULL);
}

/* Starts a keeper that watches this daemon: descriptor 3 is its socket, 4 the daemon's pidfd. */
static int spawn_keeper(struct daemon *daemon, struct err *err)
{
	struct keeper_link *link = &daemon->keeper;
	CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	CLEANUP_FD int theirs = -1;
	char program[PATHS_MAX];
	char state_option[] = "--state";
	char attach_option[] = "--attach-daemon";
	char *argv[] = { program, state_option, daemon->state_dir, attach_option, NULL };
	uv_stdio_container_t stdio[5];
	uv_process_options_t options;
	int pair[2];
	int r = paths_program("drover-keeper", program, err);

	if (r < 0)
		return r;
	if (pidfd < 0)
		return err_set(err, -errno, "make a descriptor of this daemon for a keeper");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "make a socket for a keeper");
	link->socket = pair[0];
	theirs = pair[1];
	fd_set_nonblocking(link->socket, true);
	stdio[0].flags = UV_IGNORE;
	stdio[1] = (uv_stdio_container_t){ .flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO };
	stdio[2] = (uv_stdio_container_t){ .flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO };
	stdio[3] = (uv_stdio_container_t){ .flags = UV_INHERIT_FD, .data.fd = theirs };
	stdio[4] = (uv_stdio_container_t){ .flags = UV_INHERIT_FD, .data.fd = pidfd };
	options = (uv_process_options_t){ .exit_cb = on_keeper_exit,
		                          .file = program,
		                          .args = argv,
		                          .stdio = stdio,
		                          .stdio_count = 5,
		                          .flags = UV_PROCESS_DETACHED };
	link->process.data = daemon;
	r = uv_spawn(daemon->loop, &link->process, &options);
	if (r < 0) {
		fd_close(&link->socket);
		uv_close((uv_handle_t *)&link->process, NULL);
		return err_set(err, r, "start a keeper (%s)", program);
	}
	link->has_process = true;
	return 0;
}

static void try_again(uv_timer_t *timer);

static void start_keeper(struct daemon *daemon)
{
	struct keeper_link *link = &daemon->keeper;
	struct err err = ERR_INIT;
	unsigned shift = MIN(link->failures, 8u);

	if (link->has_process) { /* its exit has not been reaped yet */
		uv_timer_start(&link->retry, try_again, RETRY_MS, 0);
		return;
	}
	link->failures++; /* until it says that it is there */
	if (spawn_keeper(daemon, &err) == 0) {
		watch_keeper(daemon);
		return;
	}
	log_error("%s; trying again", err.text);
	uv_timer_start(&link->retry, try_again, MIN((unsigned)RETRY_MS << shift, (unsigned)RETRY_MAX_MS), 0);
}

static void try_again(uv_timer_t *timer)
{
	start_keeper(timer->data);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct daemon *daemon = handle->data;
	unsigned shift = MIN(daemon->keeper.failures, 8u);

	if (daemon->keeper.failures == 0)
		start_keeper(daemon);
	else
		uv_timer_start(&daemon->keeper.retry, try_again, MIN((unsigned)RETRY_MS << shift, (unsigned)RETRY_MAX_MS),
		               0);
}

static void on_room(struct daemon *daemon)
{
	daemon->keeper.is_full = false;
	uv_poll_start(&daemon->keeper.poll, UV_READABLE, on_keeper);
	attempts_on_keeper_ready(daemon);
}

static void on_keeper(uv_poll_t *poll, int status, int events)
{
	struct daemon *daemon = poll->data;
	int r;

	do
		r = status < 0 ? status : take_message(daemon);
	while (r > 0);
	if (r == 0 && events & UV_WRITABLE)
		on_room(daemon);
	if (r == 0 || daemon->is_stopping)
		return;
	log_warning("the keeper (pid %d) is gone; running tasks go on", daemon->keeper.pid);
	uv_poll_stop(poll);
	daemon->keeper.is_polled = daemon->keeper.is_full = false;
	fd_close(&daemon->keeper.socket);
	attempts_on_keeper_lost(daemon);
	uv_close((uv_handle_t *)poll, on_poll_closed); /* the handle is used again: only after it is closed */
}

int keeper_link_open(struct daemon *daemon, int socket, struct err *err)
{
	struct keeper_link *link = &daemon->keeper;
	int r;

	*link = (struct keeper_link){ .socket = socket };
	uv_timer_init(daemon->loop, &link->retry);
	link->retry.data = daemon;
	if (socket < 0) {
		r = spawn_keeper(daemon, err);
		if (r < 0)
			return r;
	}
	fd_set_nonblocking(link->socket, true);
	r = wait_for(daemon, WIRE_HELLO, err);
	if (r == 0 && link->protocol != WIRE_PROTOCOL)
		return err_say(err, -EPROTO,
		               "the keeper (pid %d) speaks protocol %u and this daemon %d: run 'drover daemon stop' "
		               "with the older drover, or end the keeper; running tasks go on",
		               link->pid, link->protocol, WIRE_PROTOCOL);
	if (r == 0)
		r = wait_for(daemon, WIRE_ATTACHED, err);
	if (r == 0)
		watch_keeper(daemon);
	return r;
}

void keeper_link_close(struct daemon *daemon, int exit_status)
{
	struct keeper_link *link = &daemon->keeper;
	struct wire_keeper message = { .kind = exit_status == WIRE_EXIT_RESTART ? WIRE_RESTART : WIRE_STOP };

	/* Its own child it knows by the exit status; a keeper that this daemon started is no parent and must be told. */
	if (link->socket >= 0 && wire_send(link->socket, &message, sizeof(message), NULL, 0) < 0)
		log_warning("the keeper could not be told that the daemon stops");
	uv_close((uv_handle_t *)&link->retry, NULL);
	if (link->is_polled) {
		uv_poll_stop(&link->poll);
		uv_close((uv_handle_t *)&link->poll, NULL);
	}
	fd_close(&link->socket);
}
