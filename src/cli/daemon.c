/*
 * daemon.c - `drover daemon start`, `stop`, `restart`, `status`.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/terminal.h"
#include "client/connect.h"
#include "version.h"

enum { END_WAIT_MS = 60000 };

struct daemon_options {
	bool is_json;
	bool stops_tasks;
};

static const struct option_row json_rows[] = {
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct daemon_options, is_json), .meaning = "as JSON" },
};

static const struct option_row stop_rows[] = {
	{ 0, "stop-tasks", NULL, OPTION_FLAG, offsetof(struct daemon_options, stops_tasks),
	  .meaning = "cancel all tasks first" },
};

/* Connects without starting anything. 0 with *ret, or -errno with *error. */
static int open_present(struct client **ret, struct client_error *error)
{
	struct client_options options = { .name = "drover " DROVER_VERSION };

	return client_open(&options, ret, error);
}

/* True when the error says that no daemon runs. */
static bool is_absent(const struct client_error *error)
{
	return error->code < 0 && connect_is_absence(error->cause.code);
}

static int pid_of(const struct client *client)
{
	return (int)json_integer_value(json_object_get(client_hello(client), "pid"));
}

static int start(struct cli *cli)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	int status = cli_connect(cli, true, &client);

	if (status != 0)
		return status;
	buf_add_format(&cli->out, "the daemon %s (process %d, state in %s)\n",
	               client_has_started_daemon(client) ? "was started" : "runs already", pid_of(client),
	               client_state_dir(client));
	return CLI_OK;
}

/* Parses, refuses arguments, and calls the command's own function. */
static int handle(struct cli *cli, int argc, char **argv, int (*run)(struct cli *cli, const struct daemon_options *options))
{
	struct daemon_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status))
		status = rest.count > 0 ? cli_refuse(cli, "unexpected '%.80s'", rest.texts[0]) : run(cli, &options);
	cli_done(cli, &options, &rest);
	return status;
}

static int run_start(struct cli *cli, const struct daemon_options *options UNUSED)
{
	return start(cli);
}

static int handle_start(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, run_start);
}

const struct command command_daemon_start = {
	.name = "daemon start",
	.usage = "",
	.summary = "starts the daemon; other commands do so by themselves",
	.method = -1,
	.handle = handle_start,
};

/* Until the process is gone. While we are connected its number cannot be another's. */
static bool wait_for_end(int process_fd)
{
	struct pollfd wait = { .fd = process_fd, .events = POLLIN };

	return poll(&wait, 1, END_WAIT_MS) > 0;
}

/*
 * A daemon of another protocol cannot be asked to end, but told by SIGTERM, which leaves tasks running. Its process is known
 * from the socket, never from a file. 0 or an exit status.
 */
static int end_foreign(struct cli *cli)
{
	char state_dir[PATHS_MAX];
	struct err err = ERR_INIT;
	CLEANUP_FD int socket_fd = -1;
	CLEANUP_FD int process_fd = -1;
	struct ucred peer = { 0 };
	socklen_t length = sizeof(peer);
	struct pollfd hung_up = { .events = POLLRDHUP };

	if (paths_state_dir(state_dir, &err) < 0 || (socket_fd = connect_daemon(state_dir, &err)) < 0) {
		cli_tell(cli, "%s", err.text);
		return CLI_UNREACHABLE;
	}
	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0)
		process_fd = pidfd_open(peer.pid, 0);
	hung_up.fd = socket_fd;
	if (process_fd < 0 || poll(&hung_up, 1, 0) != 0 || pidfd_send_signal(process_fd, SIGTERM, NULL, 0) < 0) {
		cli_tell(cli, "the daemon's process could not be told to end");
		return CLI_UNREACHABLE;
	}
	if (wait_for_end(process_fd))
		return 0;
	cli_tell(cli, "the daemon (process %d) has not ended within a minute", (int)peer.pid);
	return CLI_UNREACHABLE;
}

/* Ends the daemon that `client` is connected to, and waits. 0 or an exit status. */
static int end(struct cli *cli, struct client *client, const struct daemon_options *options, bool is_restart)
{
	CLEANUP_FD int process_fd = pidfd_open(pid_of(client), 0);
	struct client_error error = { 0 };
	int pid = pid_of(client);
	json_t *result =
		client_call(client, API_DAEMON_STOP,
	                    json_pack("{s:b, s:b}", "stop_tasks", options->stops_tasks, "restart", is_restart), &error);

	/* It may be gone before its answer is read. */
	if (!result && error.code >= 0)
		return cli_fail(cli, &error);
	json_decref(result);
	if (process_fd < 0 || wait_for_end(process_fd))
		return 0;
	cli_tell(cli, "the daemon (process %d) has not ended within a minute", pid);
	return CLI_UNREACHABLE;
}

static int run_stop(struct cli *cli, const struct daemon_options *options)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	struct client_error error = { 0 };
	int status;

	if (open_present(&client, &error) == 0)
		status = end(cli, client, options, false);
	else if (error.code == API_ERROR_PROTOCOL)
		status = end_foreign(cli);
	else if (is_absent(&error)) {
		buf_add_text(&cli->out, "no daemon runs\n");
		return CLI_OK;
	} else
		return cli_fail(cli, &error);
	if (status == 0)
		buf_add_format(&cli->out, "the daemon has ended%s\n", options->stops_tasks ? "" : "; running tasks go on");
	return status;
}

static int handle_stop(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, run_stop);
}

const struct command command_daemon_stop = {
	.name = "daemon stop",
	.usage = "[--stop-tasks]",
	.summary = "ends the daemon; running tasks go on and are found again by the next one",
	COMMAND_OPTIONS(stop_rows),
	.method = API_DAEMON_STOP,
	.handle = handle_stop,
};

static int run_restart(struct cli *cli, const struct daemon_options *options)
{
	struct client *client = NULL;
	struct client_error error = { 0 };
	int status = 0;

	if (open_present(&client, &error) == 0)
		status = end(cli, client, options, true);
	else if (error.code == API_ERROR_PROTOCOL)
		status = end_foreign(cli);
	else if (!is_absent(&error))
		status = cli_fail(cli, &error);
	client_close(client);
	return status == 0 ? start(cli) : status;
}

static int handle_restart(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, run_restart);
}

const struct command command_daemon_restart = {
	.name = "daemon restart",
	.usage = "",
	.summary = "starts the daemon anew, after an upgrade say; running tasks go on",
	.method = API_DAEMON_STOP,
	.handle = handle_restart,
};

/* What is known of a daemon that cannot be asked: from its lock file. */
static json_t *describe_unasked(bool is_running)
{
	json_t *value = cli_complete(api_method_info(API_DAEMON_STATUS)->result, NULL);
	struct connect_lock lock = { 0 };
	char state_dir[PATHS_MAX] = "";
	struct err err = ERR_INIT;

	if (paths_state_dir(state_dir, &err) < 0)
		err_ignore(&err, "whoever could not be asked for this reason has told it");
	json_object_set_new(value, "running", json_boolean(is_running));
	json_object_set_new(value, "state_dir", json_string(state_dir));
	if (!is_running || connect_read_lock(state_dir, &lock, &err) < 0)
		return value;
	json_object_set_new(value, "pid", json_integer(lock.pid));
	json_object_set_new(value, "version", json_string(lock.version));
	json_object_set_new(value, "socket", json_string(lock.socket));
	return value;
}

static void print_daemon(struct cli *cli, const json_t *value)
{
	static const char *const names[] = { "pid", "version", "protocol", "socket", "state_dir", "keeper_pid" };
	const json_t *uptime = json_object_get(value, "uptime_s");
	char text[UNITS_TEXT_MAX];

	if (!json_is_true(json_object_get(value, "running")))
		buf_add_text(&cli->out, "no daemon runs\n");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const json_t *field = json_object_get(value, names[i]);

		if (json_is_string(field)) {
			buf_add_format(&cli->out, "%-12s ", names[i]);
			terminal_add_cut(&cli->out, json_string_value(field), SIZE_MAX);
			buf_add_byte(&cli->out, '\n');
		} else if (json_is_integer(field))
			buf_add_format(&cli->out, "%-12s %lld\n", names[i], (long long)json_integer_value(field));
	}
	if (json_is_number(uptime))
		buf_add_format(&cli->out, "%-12s %s\n", "uptime",
		               units_format_duration((uint64_t)(json_number_value(uptime) * 1e9), text));
}

static int run_status(struct cli *cli, const struct daemon_options *options)
{
	CLEANUP(client_cleanup) struct client *client = NULL;
	struct client_error error = { 0 };
	struct err err = ERR_INIT;
	char state_dir[PATHS_MAX];
	int status = CLI_OK;
	json_t *value = NULL;

	if (open_present(&client, &error) == 0) {
		json_t *answer = cli_call(cli, client, API_DAEMON_STATUS, NULL, &status);

		value = answer ? cli_complete(api_method_info(API_DAEMON_STATUS)->result, answer) : NULL;
		json_decref(answer);
	} else if (paths_state_dir(state_dir, &err) < 0) {
		status = cli_fail(cli, &error);
	} else {
		value = describe_unasked(!is_absent(&error));
		status = is_absent(&error) ? CLI_UNREACHABLE : cli_fail(cli, &error);
	}
	if (value && options->is_json)
		cli_print_json(cli, value);
	else if (value)
		print_daemon(cli, value);
	json_decref(value);
	return status;
}

static int handle_status(struct cli *cli, int argc, char **argv)
{
	return handle(cli, argc, argv, run_status);
}

const struct command command_daemon_status = {
	.name = "daemon status",
	.usage = "[--json]",
	.summary = "tells about the daemon, without starting one: status 0 when it runs, 3 when not",
	COMMAND_OPTIONS(json_rows),
	.method = API_DAEMON_STATUS,
	.handle = handle_status,
};
