#include "cli/submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/units.h"
#include "cli/environment.h"
#include "config/batch.h"

/* A batch as it grows. */
struct builder {
	struct cli *cli;
	const struct submit_options *options;
	struct drover_config config; /* the repository's */
	char directory[PATHS_MAX];
	struct buf common; /* ",…" of every task's specification */
	struct submission *submission;
	struct submit_result *result;
	struct joblog_done done; /* --resume */
};

static void add_member(struct buf *buf, const char *name, const char *text)
{
	buf_add_format(buf, ",\"%s\":", name);
	submission_add_string(buf, text, false);
}

static void add_list(struct buf *buf, const char *name, const struct option_list *list)
{
	if (list->count == 0)
		return;
	buf_add_format(buf, ",\"%s\":[", name);
	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			buf_add_byte(buf, ',');
		submission_add_string(buf, list->texts[i], false);
	}
	buf_add_byte(buf, ']');
}

static void add_seconds(struct buf *buf, const char *name, const struct option_number *number)
{
	if (number->is_set)
		buf_add_format(buf, ",\"%s\":%.9g", name, (double)number->value / (double)NS_PER_SEC);
}

static void add_flag(struct buf *buf, const char *name, bool is_set)
{
	if (is_set)
		buf_add_format(buf, ",\"%s\":true", name);
}

static int check_text(const char *option, const char *text, struct err *err)
{
	if (text && !str_is_utf8(text, strlen(text)))
		return err_say(err, -EINVAL, "--%s: the value is not valid UTF-8 text", option);
	return 0;
}

int submit_add_task_options(const struct submit_options *options, struct buf *spec, struct err *err)
{
	const char *input = options->stdin_file;
	char path[PATHS_MAX];
	int code = 0;

	if (input && strcmp(input, "-") == 0) {
		code = environment_input_path(path, err);
		input = path;
	}
	if (code == 0)
		code = check_text("stdin", input, err);
	for (size_t i = 0; i < options->after.count && code == 0; i++)
		code = check_text("after", options->after.texts[i], err);
	for (size_t i = 0; i < options->after_any.count && code == 0; i++)
		code = check_text("after-any", options->after_any.texts[i], err);
	if (code < 0)
		return code;
	if (options->priority)
		add_member(spec, "priority", options->priority);
	if (input)
		add_member(spec, "stdin", input);
	add_list(spec, "after", &options->after);
	add_list(spec, "after_any", &options->after_any);
	add_seconds(spec, "timeout_s", &options->timeout);
	add_seconds(spec, "grace_s", &options->grace);
	if (options->retries.is_set)
		buf_add_format(spec, ",\"retries\":%llu", (unsigned long long)options->retries.value);
	add_seconds(spec, "retry_delay_s", &options->retry_delay);
	add_flag(spec, "is_idempotent", options->is_idempotent);
	add_flag(spec, "leave_running", options->leaves_running);
	add_flag(spec, "split_output", options->splits_output);
	add_flag(spec, "is_held", options->is_held);
	return 0;
}

/* -j: the number, clamped by the repository's hard limit, or what the file or the repository says. 0 = auto. */
static int find_limit(const struct builder *builder, uint64_t from_file, uint64_t *ret, struct err *err)
{
	const struct config_value *hard = &builder->config.hard_max_concurrent;
	const struct config_value *usual = &builder->config.max_parallel;
	const char *jobs = builder->options->jobs;
	uint64_t limit = from_file;

	if (jobs && strcmp(jobs, "auto") == 0)
		limit = 0;
	else if (jobs && (str_parse_u64(jobs, LIMIT_SLOTS, &limit) < 0 || limit == 0))
		return err_say(err, -EINVAL, "-j: '%.40s' is not a number from 1 to %d, or auto", jobs, LIMIT_SLOTS);
	if (limit == 0 && usual->origin == CONFIG_FROM_REPOSITORY)
		limit = usual->value;
	if (limit > hard->value && hard->origin == CONFIG_FROM_REPOSITORY) {
		cli_tell(builder->cli,
		         "at most %llu at once instead of %llu: limits.hardMaxConcurrent of the repository's %s",
		         (unsigned long long)hard->value, (unsigned long long)limit, CONFIG_REPOSITORY_FILE);
		limit = hard->value;
	}
	*ret = limit;
	return 0;
}

static int set_text(json_t *params, const char *member, const char *option, const char *text, struct err *err)
{
	int code = check_text(option, text, err);

	if (code == 0 && text)
		json_object_set_new(params, member, json_string(text));
	return code;
}

/* A batch file may give worktrees to some of its tasks. */
static int check_base(const struct submit_options *options, const struct batch_file *file, struct err *err)
{
	bool has_none = options->worktree ? strcmp(options->worktree, "none") == 0 : !file;

	if (options->base && has_none)
		return err_say(err, -EINVAL,
		               "--base: only worktrees start from a revision, and there are none: give -w too");
	return 0;
}

/* The interface carries text. */
static int check_directory(const char *path, struct err *err)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (str_is_utf8(path, strlen(path)))
		return 0;
	str_add_visible(&shown, path, strlen(path));
	return err_say(
		err, -EINVAL,
		"the name of the directory '%s' is not valid UTF-8, and tasks can run only where it is: rename it, or "
		"give --cwd=DIR",
		shown.bytes);
}

/* The parameters of batch.open. `file` is NULL without a batch file. */
static json_t *make_open_params(const struct builder *builder, const struct batch_file *file, struct err *err)
{
	const struct submit_options *options = builder->options;
	const struct config_value *cleanup = &builder->config.cleanup_on_complete;
	const char *name = options->batch ? options->batch : file ? file->name : NULL;
	const char *worktree = options->worktree ? options->worktree : file ? file->worktree : NULL;
	const char *base = options->base ? options->base : file ? file->base : NULL;
	json_t *params = json_pack("{s:i}", "umask", (int)environment_mask());
	uint64_t limit = 0;
	int code = check_base(options, file, err);

	if (code == 0)
		code = check_directory(builder->directory, err);
	if (code == 0)
		code = set_text(params, "cwd", "cwd", builder->directory, err);
	if (code == 0)
		code = set_text(params, "name", "batch", name, err);
	if (code == 0)
		code = set_text(params, "worktree", "worktree", worktree, err);
	if (code == 0)
		code = set_text(params, "base", "base", base, err);
	if (code == 0)
		code = find_limit(builder, file ? file->limit : 0, &limit, err);
	if (limit > 0)
		json_object_set_new(params, "limit", json_integer((json_int_t)limit));
	if (cleanup->origin == CONFIG_FROM_REPOSITORY)
		json_object_set_new(params, "cleanup_on_complete", json_boolean(cleanup->value != 0));
	if (code == 0)
		return params;
	json_decref(params);
	return NULL;
}

/* The repository's time limit, for tasks that name none. */
static uint64_t default_timeout_ns(const struct builder *builder)
{
	const struct config_value *timeout = &builder->config.default_timeout_ns;

	return timeout->origin == CONFIG_FROM_REPOSITORY ? timeout->value : 0;
}

/* What the repository asks for and does not get yet is said, rather than passed over. */
static void tell_planned(const struct builder *builder)
{
	CLEANUP_BUF struct buf names = BUF_INIT;

	for (unsigned n = 0; n < CONFIG_PLANNED_MAX; n++)
		if (builder->config.planned & 1u << n && config_planned_name(n))
			buf_add_format(&names, "%s%s", names.length > 0 ? ", " : "", config_planned_name(n));
	if (names.length > 0)
		cli_tell(builder->cli, "not heeded yet by this version, in the repository's %s: %s", CONFIG_REPOSITORY_FILE,
		         names.bytes);
}

/* Tasks may wait for the ones that write their input, and a worktree has files of its own: then only a start can tell. */
static int check_input(const struct builder *builder, struct err *err)
{
	const struct submit_options *options = builder->options;
	const char *input = options->stdin_file;
	bool has_worktree = options->worktree && strcmp(options->worktree, "none") != 0;

	if (!input || strcmp(input, "-") == 0 || options->after.count > 0 || options->after_any.count > 0)
		return 0;
	if (has_worktree && input[0] != '/')
		return 0;
	return environment_check_input(builder->directory, input, err);
}

/* Everything before the tasks: settings, environment, the open batch. 0 or an exit status. */
static int begin(struct builder *builder, const struct batch_file *file)
{
	const struct submit_options *options = builder->options;
	CLEANUP_FREE const char **settings = NULL;
	struct err err = ERR_INIT;
	json_t *params;
	int code;

	config_init(&builder->config);
	code = environment_directory(options->cwd, builder->directory, &err);
	if (code == 0)
		code = environment_repository_config(builder->directory, &builder->config, &err);
	if (code == 0 && !options->is_quiet)
		tell_planned(builder);
	if (code == 0)
		code = submit_add_task_options(options, &builder->common, &err);
	if (code == 0)
		code = check_input(builder, &err);
	if (code == 0) {
		settings = environment_settings(&options->environment, options->has_clean_environment, &err);
		code = settings ? 0 : err.code;
	}
	if (code < 0)
		return cli_refuse(builder->cli, "%s", err.text);
	if (default_timeout_ns(builder) > 0 && !options->timeout.is_set && !file)
		buf_add_format(&builder->common, ",\"timeout_s\":%.9g",
		               (double)default_timeout_ns(builder) / (double)NS_PER_SEC);
	params = make_open_params(builder, file, &err);
	if (!params)
		return cli_refuse(builder->cli, "%s", err.text);
	builder->submission = submission_new(params, &err);
	if (!builder->submission) {
		cli_tell(builder->cli, "%s", err.text);
		return CLI_FAILED;
	}
	submission_add_environment(builder->submission, settings);
	return 0;
}

/* ,"name":… by the template of --name. */
static int add_name(const struct builder *builder, const struct template_values *values, struct buf *spec)
{
	const char *template = builder->options->name;
	CLEANUP_BUF struct buf name = BUF_INIT;

	if (values->count > 0)
		template_expand(&name, template, values, false);
	else
		buf_add_text(&name, template);
	if (!str_is_task_name(name.bytes ? name.bytes : ""))
		return cli_refuse(builder->cli, "--name: '%.80s' is no name: " STR_TASK_NAME_RULE,
		                  name.bytes ? name.bytes : "");
	add_member(spec, "name", name.bytes);
	return 0;
}

static void add_command(const struct input_command *command, struct buf *spec)
{
	const char *at = command->bytes.bytes ? command->bytes.bytes : "";
	bool is_latin1 = !str_is_utf8(at, command->bytes.length);

	buf_add_text(spec, command->word_count > 0 ? "{\"command\":[" : "{\"shell\":");
	for (size_t i = 0; i < command->word_count; i++, at += strlen(at) + 1) {
		if (i > 0)
			buf_add_byte(spec, ',');
		submission_add_string(spec, at, is_latin1);
	}
	if (command->word_count > 0)
		buf_add_byte(spec, ']');
	else
		submission_add_string(spec, at, false || is_latin1);
	if (is_latin1)
		buf_add_text(spec, ",\"is_latin1\":true");
}

static void add_label(const struct template_values *values, struct buf *spec)
{
	CLEANUP_BUF struct buf label = BUF_INIT;
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (values->count == 0)
		return;
	input_add_label(&label, values);
	str_add_visible(&shown, label.bytes ? label.bytes : "", MIN(label.length, (size_t)1000));
	buf_add_text(spec, ",\"label\":");
	submission_add_string(spec, shown.bytes ? shown.bytes : "", false);
}

/* Tasks that the joblog has are left out; the others keep their numbers. */
static bool is_left_out(struct builder *builder, uint64_t index)
{
	struct submit_result *result = builder->result;

	if (builder->done.word_count == 0)
		return false;
	if (joblog_is_done(&builder->done, index + 1))
		return true;
	if (!result->numbers)
		result->numbers = xcalloc(result->input.sources.task_count, sizeof(*result->numbers));
	result->numbers[submission_count(builder->submission)] = index + 1;
	return false;
}

static void print_command(struct cli *cli, const struct input_command *command)
{
	input_add_command_text(command, &cli->out);
	buf_add_byte(&cli->out, '\n');
}

static int add_input_tasks(struct builder *builder, const struct input *input)
{
	CLEANUP(source_values_done) struct source_values list = { 0 };
	struct input_command command = { 0 };
	CLEANUP_BUF struct buf spec = BUF_INIT;
	int status = 0;

	for (uint64_t i = 0; i < input->sources.task_count && status == 0; i++) {
		struct template_values values = input_values(input, i, &list);
		struct client_error error = { 0 };

		if (is_left_out(builder, i))
			continue;
		input_command(input, &values, &command);
		if (builder->options->is_dry_run) {
			print_command(builder->cli, &command);
			continue;
		}
		buf_clear(&spec);
		add_command(&command, &spec);
		add_label(&values, &spec);
		if (input->has_slot)
			add_member(&spec, "slot_text", input->slot_text);
		buf_add(&spec, builder->common.bytes, builder->common.length);
		if (builder->options->name)
			status = add_name(builder, &values, &spec);
		buf_add_byte(&spec, '}');
		if (status == 0 && submission_add_task(builder->submission, spec.bytes, spec.length, &error) < 0)
			status = cli_fail(builder->cli, &error);
	}
	buf_done(&command.bytes);
	return status;
}

/* What the command line says of every task goes over what the file says. */
static json_t *make_overrides(const struct builder *builder)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	json_t *overrides;

	buf_add_text(&text, "{");
	if (builder->common.length > 0)
		buf_add(&text, builder->common.bytes + 1, builder->common.length - 1);
	buf_add_text(&text, "}");
	overrides = json_loads(text.bytes, 0, NULL);
	ASSERT(overrides);
	return overrides;
}

static void add_spec_text(const json_t *task, struct buf *text)
{
	const char *shell = json_string_value(json_object_get(task, "shell"));
	json_t *word;
	size_t i;

	if (shell)
		buf_add_text(text, shell);
	json_array_foreach (json_object_get(task, "command"), i, word) {
		if (i > 0)
			buf_add_byte(text, ' ');
		template_add_quoted(text, json_string_value(word));
	}
}

static void print_file_task(struct cli *cli, const json_t *task)
{
	const char *name = json_string_value(json_object_get(task, "name"));

	if (name)
		buf_add_format(&cli->out, "%s: ", name);
	add_spec_text(task, &cli->out);
	buf_add_byte(&cli->out, '\n');
}

static void keep_command(struct submit_result *result, size_t index, size_t count, const json_t *task)
{
	struct buf text = BUF_INIT;

	if (!result->commands)
		result->commands = xcalloc(count, sizeof(*result->commands));
	add_spec_text(task, &text);
	result->commands[index] = buf_take(&text);
}

static int add_file_tasks(struct builder *builder, const struct batch_file *file)
{
	json_t *overrides = make_overrides(builder);
	double timeout_s = (double)default_timeout_ns(builder) / (double)NS_PER_SEC;
	json_t *task;
	size_t i;
	int status = 0;

	json_array_foreach (file->tasks, i, task) {
		struct client_error error = { 0 };
		char *text;

		json_object_update(task, overrides);
		if (timeout_s > 0 && !json_object_get(task, "timeout_s"))
			json_object_set_new(task, "timeout_s", json_real(timeout_s));
		if (json_is_true(json_object_get(task, "split_output")))
			builder->result->splits_output = true;
		if (builder->options->is_dry_run) {
			print_file_task(builder->cli, task);
			continue;
		}
		if (builder->options->joblog)
			keep_command(builder->result, i, json_array_size(file->tasks), task);
		text = json_dumps(task, JSON_COMPACT);
		ASSERT(text);
		if (submission_add_task(builder->submission, text, strlen(text), &error) < 0)
			status = cli_fail(builder->cli, &error);
		free(text);
		if (status != 0)
			break;
	}
	json_decref(overrides);
	return status;
}

/* Options that make no sense beside -f. */
static const char *find_clash(const struct submit_options *options, const struct option_rest *rest)
{
	if (rest->count > 0)
		return "a command";
	if (options->values_files.count > 0)
		return "-a";
	if (options->name)
		return "--name";
	if (options->stdin_file)
		return "--stdin";
	if (options->is_resumed || options->is_resumed_failed)
		return "--resume";
	return options->after.count > 0 || options->after_any.count > 0 ? "--after" : NULL;
}

static int build_from_file(struct builder *builder, const struct option_rest *rest)
{
	const char *clash = find_clash(builder->options, rest);
	struct batch_file file;
	struct err err = ERR_INIT;
	int status;

	if (clash)
		return cli_refuse(builder->cli, "%s cannot be given together with -f: the file says what to run", clash);
	if (batch_file_read(builder->options->file, &file, &err) < 0) {
		cli_tell(builder->cli, "%s", err.text);
		return CLI_USAGE;
	}
	builder->result->is_file = true;
	status = begin(builder, &file);
	if (status == 0)
		status = add_file_tasks(builder, &file);
	batch_file_done(&file);
	return status;
}

/* Whoever forgets the values in a script, where standard input is /dev/null, would not see why. */
static void tell_unfilled(struct cli *cli, const struct input *input)
{
	for (size_t i = 0; i < input->word_count && input->sources.count == 0; i++) {
		if (!template_has_placeholder(input->words[i]))
			continue;
		cli_tell(cli, "'%.80s' stands for itself: there are no values (give ':::' or -a)", input->words[i]);
		return;
	}
}

static int build_from_words(struct builder *builder, const struct option_rest *rest)
{
	const struct option_number *per_task = &builder->options->records_per_task;
	struct input *input = &builder->result->input;
	struct input_request request = {
		.words = rest->texts,
		.word_count = rest->count,
		.files = &builder->options->values_files,
		.sources = {
			.column_separator = builder->options->column_separator,
			.records_per_task = per_task->is_set ? per_task->value : 1,
			.links_all = builder->options->links_all,
			.is_nul_separated = builder->options->is_nul_separated,
		},
		.stdin_fd = STDIN_FILENO,
	};
	struct err err = ERR_INIT;
	int status;

	if (input_read(&request, input, &err) < 0)
		return cli_refuse(builder->cli, "%s", err.text);
	builder->result->is_single = input->sources.count == 0;
	if (!builder->options->is_quiet && !isatty(STDIN_FILENO))
		tell_unfilled(builder->cli, input);
	if (builder->options->name && input->sources.task_count > 1 && !template_has_placeholder(builder->options->name))
		return cli_refuse(builder->cli, "--name: one name for %llu tasks; use a template such as '%.40s-{#}'",
		                  (unsigned long long)input->sources.task_count, builder->options->name);
	if (builder->options->is_resumed || builder->options->is_resumed_failed) {
		if (!builder->options->joblog)
			return cli_refuse(builder->cli, "--resume: give the job log that tells what is done, --joblog=FILE");
		if (joblog_read(builder->options->joblog, builder->options->is_resumed_failed, &builder->done, &err) < 0)
			return cli_refuse(builder->cli, "%s", err.text);
		builder->result->is_resumed = true;
	}
	status = begin(builder, NULL);
	return status != 0 ? status : add_input_tasks(builder, input);
}

/* What can be refused is refused before anything is queued. 0 or an exit status. */
static int open_records(struct builder *builder)
{
	const struct submit_options *options = builder->options;
	struct err err = ERR_INIT;

	builder->result->results = options->results;
	if (options->results && mkdir(options->results, 0777) < 0 && errno != EEXIST)
		return cli_refuse(builder->cli, "--results: cannot make '%s': %s", options->results, strerror(errno));
	if (options->joblog && joblog_open(options->joblog, builder->done.bytes, &builder->result->joblog, &err) < 0)
		return cli_refuse(builder->cli, "%s", err.text);
	return 0;
}

static int send(struct builder *builder, struct client **ret_client)
{
	struct client_error error = { 0 };
	json_t *answer, *warning;
	size_t i;
	int status = cli_connect(builder->cli, true, ret_client);

	if (status != 0)
		return status;
	answer = submission_send(builder->submission, *ret_client, &error);
	if (!answer)
		return cli_fail(builder->cli, &error);
	builder->result->batch = (uint64_t)json_integer_value(json_object_get(answer, "batch"));
	builder->result->first = (uint64_t)json_integer_value(json_object_get(answer, "first"));
	builder->result->count = (uint64_t)json_integer_value(json_object_get(answer, "count"));
	builder->result->seq = json_integer_value(json_object_get(answer, "seq"));
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		cli_tell(builder->cli, "%s", json_string_value(warning));
	json_decref(answer);
	return 0;
}

int submit_batch(struct cli *cli, const struct submit_options *options, const struct option_rest *rest,
                 struct submit_result *ret, struct client **ret_client)
{
	struct builder builder = { .cli = cli, .options = options, .result = ret };
	int status;

	*ret = (struct submit_result){ .splits_output = options->splits_output, .joblog = JOBLOG_INIT };
	status = options->file ? build_from_file(&builder, rest) : build_from_words(&builder, rest);
	if (status == 0 && submission_count(builder.submission) > 0)
		status = open_records(&builder);
	if (status == 0 && submission_count(builder.submission) > 0)
		status = send(&builder, ret_client);
	submission_free(builder.submission);
	joblog_done_free(&builder.done);
	buf_done(&builder.common);
	return status;
}

void submit_done(struct submit_result *result)
{
	for (uint64_t i = 0; result->commands && i < result->count; i++)
		free(result->commands[i]);
	free(result->commands);
	free(result->numbers);
	joblog_close(&result->joblog);
	input_done(&result->input);
}

uint64_t submit_number(const struct submit_result *result, uint64_t index)
{
	return result->numbers ? result->numbers[index] : index + 1;
}

void submit_add_command_text(const struct submit_result *result, uint64_t index, struct buf *text)
{
	CLEANUP(source_values_done) struct source_values list = { 0 };
	struct input_command command = { 0 };
	struct template_values values;

	if (result->is_file) {
		buf_add_text(text, result->commands[index]);
		return;
	}
	values = input_values(&result->input, submit_number(result, index) - 1, &list);
	input_command(&result->input, &values, &command);
	input_add_command_text(&command, text);
	buf_done(&command.bytes);
}
