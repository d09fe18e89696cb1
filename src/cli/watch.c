#include "cli/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/units.h"
#include "cli/events.h"
#include "cli/notify.h"
#include "cli/pages.h"
#include "cli/recording.h"
#include "cli/results.h"
#include "cli/stream.h"
#include "client/stopwatch.h"

enum {
	FEW_TASKS = 200, /* more are not told one by one unless asked for */
	STREAM_PAUSE_MIN_MS = 5,
	STREAM_PAUSE_MAX_MS = 100,
	DRAW_MS = 100,
};

struct watch {
	struct cli *cli;
	struct client *client;
	struct submit_result *batch;
	const struct watch_options *options;
	struct events events;
	struct progress progress;
	struct tally tally;
	struct stopwatch stopwatch;
	bool *has_ended;   /* by index */
	json_t **finals;   /* by index; NULL unless the table or the order needs them */
	uint64_t printed;  /* keeps_order: outputs of tasks before this are out */
	bool is_streaming; /* one task, live */
	struct stream stream;
	int stream_pause_ms;
	json_t *single_end; /* the final event of the one task */
	int signal_fd;
	unsigned interrupts;
	bool has_left; /* interrupted for good */
};

static const char *text_of(const json_t *event, const char *member)
{
	return json_string_value(json_object_get(event, member));
}

/* Name, or the values that the task was made from. */
static void add_title(const struct watch *watch, uint64_t index, const json_t *event, struct buf *title)
{
	CLEANUP(source_values_done) struct source_values list = { 0 };
	const char *name = text_of(event, "name");
	struct template_values values;

	if (name) {
		buf_add_text(title, name);
	} else if (!watch->batch->is_file && watch->batch->input.sources.count > 0) {
		values = input_values(&watch->batch->input, submit_number(watch->batch, index) - 1, &list);
		input_add_label(title, &values);
	}
}

static void print_log(struct watch *watch, struct output *output, const char *path)
{
	CLEANUP(logfile_close) struct logfile file = LOGFILE_INIT;

	int code = logfile_open(path, &file);

	if (code == 0)
		code = output_copy(output, &file);
	output_end(output);
	/* A task that could not be started has none. */
	if (code < 0 && code != -ENOENT)
		cli_tell(watch->cli, "cannot read the log '%s': %s", path, strerror(-code));
}

/* Where the log is, NULL when there is none. */
static char *find_log(const struct watch *watch, const json_t *event)
{
	const char *given = text_of(event, "log_path");

	if (!given)
		return NULL;
	return given[0] == '/' ? xstrdup(given) : xasprintf("%s/%s", client_state_dir(watch->client), given);
}

/* The output of a task that has ended. */
static void print_output(struct watch *watch, uint64_t index, const json_t *event)
{
	CLEANUP_BUF struct buf title = BUF_INIT;
	CLEANUP_FREE char *path = find_log(watch, event);
	const json_t *bytes = json_object_get(event, "output_bytes");
	struct output out = { .cli = watch->cli, .is_raw = watch->options->is_raw };
	struct output error = { .cli = watch->cli, .is_raw = watch->options->is_raw, .is_error = true };

	if (watch->is_streaming || watch->options->is_json || !path)
		return;
	if (json_is_integer(bytes) && json_integer_value(bytes) == 0)
		return; /* most trivial jobs: not even a file to open */
	if (watch->options->is_tagged) {
		add_title(watch, index, event, &title);
		if (title.length == 0)
			buf_add_format(&title, "#%llu", (unsigned long long)(watch->batch->first + index));
		out.tag = error.tag = title.bytes;
	}
	progress_erase(&watch->progress);
	print_log(watch, &out, path);
	if (watch->batch->splits_output) {
		CLEANUP_FREE char *error_path = xasprintf("%s.err", path);

		if (access(error_path, F_OK) == 0)
			print_log(watch, &error, error_path);
	}
}

/* Outputs whose turn has come. */
static void print_in_order(struct watch *watch)
{
	while (watch->printed < watch->batch->count && watch->has_ended[watch->printed]) {
		print_output(watch, watch->printed, watch->finals[watch->printed]);
		watch->printed++;
	}
}

static void handle_end(struct watch *watch, uint64_t index, json_t *event)
{
	CLEANUP_FREE char *path = find_log(watch, event);

	watch->has_ended[index] = true;
	tally_add(&watch->tally, text_of(event, "state"));
	recording_add(watch->cli, watch->batch, index, event, path);
	if (watch->finals)
		watch->finals[index] = json_incref(event);
	if (watch->batch->count == 1)
		watch->single_end = json_incref(event);
	if (watch->options->is_json)
		cli_print_json_line(watch->cli, event);
	if (watch->options->keeps_order)
		print_in_order(watch);
	else
		print_output(watch, index, event);
}

static void handle_event(struct watch *watch, json_t *event)
{
	CLEANUP_BUF struct buf title = BUF_INIT;
	json_int_t id = json_integer_value(json_object_get(event, "task"));
	uint64_t index = (uint64_t)id - watch->batch->first;
	const char *state = text_of(event, "state");
	const char *path = text_of(event, "log_path");

	if (!state || id < (json_int_t)watch->batch->first || index >= watch->batch->count || watch->has_ended[index])
		return;
	if (watch->progress.mode != PROGRESS_NONE)
		add_title(watch, index, event, &title);
	if (watch->is_streaming && path)
		stream_set_path(&watch->stream, client_state_dir(watch->client), path);
	progress_event(&watch->progress, event, title.bytes ? title.bytes : "", stopwatch_ns(&watch->stopwatch));
	if (events_is_final(state))
		handle_end(watch, index, event);
}

static json_t *batch_params(const struct watch *watch)
{
	CLEANUP_FREE char *batch = xasprintf("%llu", (unsigned long long)watch->batch->batch);

	return json_pack("{s:s}", "batch", batch);
}

/* A listed task is taken as if it were its latest event. */
static void handle_listed(void *context, json_t *task)
{
	json_object_set(task, "task", json_object_get(task, "id"));
	handle_event(context, task);
}

/* After a gap in the events: how all tasks of the batch are now. 0 or an exit status. */
static int list_tasks(struct watch *watch)
{
	json_t *params = batch_params(watch);

	json_object_set_new(params, "is_all", json_true());
	return pages_visit(watch->cli, watch->client, params, handle_listed, watch);
}

static void ask_of_all(struct watch *watch, enum api_method method)
{
	json_t *params = batch_params(watch);
	int status;

	json_object_set_new(params, "reason", json_string("interrupted"));
	json_decref(cli_call(watch->cli, watch->client, method, params, &status));
}

static void handle_interrupt(struct watch *watch)
{
	watch->interrupts++;
	watch->progress.is_interrupted = true;
	progress_erase(&watch->progress);
	if (watch->events.is_lost || watch->interrupts > 2) {
		cli_tell(watch->cli, "left; the tasks are in the daemon's hands ('drover ls')");
		watch->has_left = true;
	} else if (watch->interrupts == 1) {
		ask_of_all(watch, API_TASK_HALT); /* first, so that it is true when it is said */
		cli_tell(watch->cli, "nothing more is started; Ctrl-C again cancels what is running");
	} else {
		cli_tell(watch->cli, "cancelling; Ctrl-C again leaves at once");
		ask_of_all(watch, API_TASK_CANCEL);
	}
}

static void read_signals(struct watch *watch)
{
	struct signalfd_siginfo info;

	while (watch->signal_fd >= 0 && read(watch->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		handle_interrupt(watch);
}

/* Ctrl-C comes by a descriptor from now on, unless it was ignored (nohup, a script's background). */
static void catch_interrupts(struct watch *watch)
{
	struct sigaction action;
	sigset_t set;

	watch->signal_fd = -1;
	if (sigaction(SIGINT, NULL, &action) < 0 || action.sa_handler == SIG_IGN)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		watch->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* How long to wait at most, −1 = until something happens. */
static int next_pause_ms(struct watch *watch)
{
	if (watch->is_streaming) {
		if (stream_copy(&watch->stream))
			watch->stream_pause_ms = STREAM_PAUSE_MIN_MS;
		else
			watch->stream_pause_ms = MIN(watch->stream_pause_ms * 2, STREAM_PAUSE_MAX_MS);
		return watch->stream_pause_ms;
	}
	return watch->progress.mode == PROGRESS_BAR ? DRAW_MS : -1;
}

/* Until all have ended. 0 or an exit status. */
static int follow(struct watch *watch)
{
	while (tally_ended(&watch->tally) < watch->batch->count && !watch->has_left) {
		json_t *event = NULL;

		switch (events_next(&watch->events, next_pause_ms(watch), &event)) {
		case EVENTS_NEW:
			handle_event(watch, event);
			json_decref(event);
			break;
		case EVENTS_GAP:
			if (list_tasks(watch) != 0)
				return CLI_UNREACHABLE;
			break;
		case EVENTS_LOST:
			return watch->events.exit_status;
		case EVENTS_NONE:
			break;
		}
		read_signals(watch);
		if (watch->progress.mode == PROGRESS_BAR)
			progress_draw(&watch->progress, stopwatch_ns(&watch->stopwatch), false);
	}
	return 0;
}

/* The task does not need a reader: whoever left it may believe that it has ended. */
static void tell_reader_left(void *context)
{
	struct watch *watch = context;
	CLEANUP_FREE char *id = xasprintf("%llu", (unsigned long long)watch->batch->first);
	struct client_error error = { 0 };
	json_t *task = client_call(watch->client, API_TASK_SHOW, json_pack("{s:s}", "task", id), &error);
	const char *state = json_string_value(json_object_get(json_object_get(task, "task"), "state"));

	if (!state || !events_is_final(state))
		cli_tell(watch->cli, "#%s goes on; 'drover cancel %s' ends it", id, id);
	json_decref(task);
}

static enum progress_mode choose_mode(const struct watch *watch)
{
	enum progress_mode mode = watch->options->progress;

	/* One task that streams is its own progress. */
	if (watch->is_streaming && mode != PROGRESS_JSON)
		return PROGRESS_NONE;
	if (mode == PROGRESS_BAR && !watch->cli->is_error_terminal)
		return PROGRESS_PLAIN;
	if (mode == PROGRESS_FAILURES && watch->batch->count <= FEW_TASKS)
		return PROGRESS_PLAIN;
	return mode;
}

static void init(struct watch *watch)
{
	bool needs_finals = watch->options->keeps_order || watch->batch->is_file;

	watch->is_streaming = watch->batch->count == 1 && !watch->options->is_json && !watch->options->is_tagged;
	watch->progress =
		(struct progress){ .cli = watch->cli, .tally = &watch->tally, .tells_ends = watch->batch->is_file };
	watch->progress.mode = choose_mode(watch);
	watch->tally.total = watch->batch->count;
	watch->has_ended = xcalloc(watch->batch->count, sizeof(*watch->has_ended));
	watch->finals = needs_finals ? xcalloc(watch->batch->count, sizeof(json_t *)) : NULL;
	watch->stream_pause_ms = STREAM_PAUSE_MIN_MS;
	if (watch->is_streaming) {
		stream_init(&watch->stream, watch->cli, watch->options->is_raw, watch->batch->splits_output);
		watch->cli->on_reader_left = tell_reader_left;
		watch->cli->reader_context = watch;
	}
	if (stopwatch_start(&watch->stopwatch) < 0)
		cli_tell(watch->cli, "times are not shown: no timer could be made");
	catch_interrupts(watch);
	watch->events = (struct events){ .cli = watch->cli, .client = watch->client, .other_fd = watch->signal_fd };
}

static int subscribe(struct watch *watch)
{
	CLEANUP_FREE char *batch = xasprintf("%llu", (unsigned long long)watch->batch->batch);
	struct events_filter filter = {
		.batch = batch,
		.after_seq = watch->batch->seq,
		.is_final_only = !watch->is_streaming &&
		                 (watch->progress.mode == PROGRESS_NONE || watch->progress.mode == PROGRESS_FAILURES),
	};
	bool is_gap;
	int status = events_subscribe(&watch->events, &filter, &is_gap);

	if (status == 0 && is_gap)
		status = list_tasks(watch);
	return status;
}

/* A task that ended otherwise than by its own exit status: say how. */
static void tell_single_end(struct watch *watch)
{
	const char *state = watch->single_end ? text_of(watch->single_end, "state") : NULL;
	const char *cause = watch->single_end ? text_of(watch->single_end, "cause") : NULL;
	bool is_plain_exit = state && strcmp(state, "failed") == 0 &&
	                     json_integer_value(json_object_get(watch->single_end, "exit_code")) > 0;

	if (!state || strcmp(state, "succeeded") == 0 || is_plain_exit || !watch->is_streaming || watch->options->is_quiet)
		return;
	cli_tell(watch->cli, "#%llu %s%s%s", (unsigned long long)watch->batch->first, state, cause ? ": " : "",
	         cause ? cause : "");
}

static void print_closing(struct watch *watch)
{
	uint64_t spent_ns = stopwatch_ns(&watch->stopwatch);
	CLEANUP_BUF struct buf text = BUF_INIT;

	progress_erase(&watch->progress);
	if (watch->options->is_json) {
		json_t *summary = tally_json(&watch->tally, watch->batch->batch, spent_ns);

		cli_print_json_line(watch->cli, summary);
		json_decref(summary);
		return;
	}
	tell_single_end(watch);
	if (watch->options->is_quiet || (watch->is_streaming && !watch->batch->is_file) ||
	    watch->progress.mode == PROGRESS_JSON)
		return;
	if (watch->batch->is_file)
		results_add_table(&text, watch->finals, watch->batch->count, terminal_width(STDERR_FILENO),
		                  watch->cli->has_error_colour);
	tally_format(&watch->tally, spent_ns, &text);
	buf_add_byte(&text, '\n');
	cli_flush(watch->cli);
	if (fd_write_all(STDERR_FILENO, text.bytes, text.length) < 0)
		watch->cli->has_write_failed = true;
}

/* The status of one plain command is ours; else all or not all. */
static int exit_status(const struct watch *watch)
{
	const char *state = watch->single_end ? text_of(watch->single_end, "state") : NULL;
	const char *signal_name = watch->single_end ? text_of(watch->single_end, "signal") : NULL;
	const char *start_error = watch->single_end ? text_of(watch->single_end, "start_error") : NULL;
	const json_t *code = json_object_get(watch->single_end, "exit_code");

	if (watch->interrupts > 0)
		return CLI_INTERRUPTED;
	if (watch->tally.succeeded == watch->batch->count)
		return CLI_OK;
	if (!watch->batch->is_single || !state || strcmp(state, "failed") != 0)
		return CLI_FAILED;
	if (start_error)
		return strcmp(start_error, "ENOENT") == 0 ? CLI_NO_PROGRAM : CLI_NOT_STARTED;
	if (json_is_integer(code) && json_integer_value(code) > 0 && json_integer_value(code) < 256)
		return (int)json_integer_value(code);
	if (signal_name && cli_signal_number(signal_name) > 0)
		return 128 + cli_signal_number(signal_name);
	return CLI_FAILED;
}

int watch_batch(struct cli *cli, struct client *client, struct submit_result *submitted, const struct watch_options *options)
{
	struct watch watch = {
		.cli = cli, .client = client, .batch = submitted, .options = options, .stopwatch = STOPWATCH_INIT
	};
	int status;

	init(&watch);
	status = subscribe(&watch);
	if (status == 0)
		status = follow(&watch);
	cli->on_reader_left = NULL;
	if (watch.is_streaming)
		stream_done(&watch.stream);
	if (status == 0) {
		print_closing(&watch);
		if (watch.interrupts == 0)
			notify_end(cli, options->notify, &watch.tally, submitted->batch, stopwatch_ns(&watch.stopwatch));
		status = exit_status(&watch);
	}
	progress_done(&watch.progress);
	for (uint64_t i = 0; watch.finals && i < submitted->count; i++)
		json_decref(watch.finals[i]);
	free(watch.finals);
	free(watch.has_ended);
	json_decref(watch.single_end);
	stopwatch_done(&watch.stopwatch);
	fd_close(&watch.signal_fd);
	return status;
}
