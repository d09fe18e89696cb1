#include "cli/complete.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/terminal.h"

enum { PATIENCE_S = 1, MEANING_WIDTH = 60 };

struct completion {
	struct cli *cli;
	const struct command *command;
	char **words; /* those of the command line, `count` of them; the last one is to be completed */
	int count;
	const char *before; /* of the last word: stays as it is ("--state=", "held,") … */
	size_t before_length;
	const char *text; /* … and this is what candidates begin with */
	bool has_equals;  /* the shell keeps "--name=" itself */
};

/* A candidate, if it fits. */
static void offer(struct completion *completion, const char *value, size_t length, const char *meaning)
{
	struct buf *out = &completion->cli->out;
	size_t typed = strlen(completion->text);

	if (length < typed || strncmp(value, completion->text, typed) != 0)
		return;
	if (!completion->has_equals)
		buf_add(out, completion->before, completion->before_length);
	buf_add(out, value, length);
	if (meaning && *meaning) {
		buf_add_byte(out, '\t');
		terminal_add_cut(out, meaning, MEANING_WIDTH);
	}
	buf_add_byte(out, '\n');
}

static void offer_choices(struct completion *completion, const char *choices)
{
	size_t length;

	for (const char *at = choices, *word; (word = options_next_choice(&at, &length)) != NULL;)
		offer(completion, word, length, NULL);
}

static const char *text_of(const json_t *task, const char *member)
{
	const char *text = json_string_value(json_object_get(task, member));

	return text ? text : "";
}

/* By its name; by its id where it has none or a number was begun; by batch and name where a slash was typed. */
static void offer_task(struct completion *completion, const json_t *task)
{
	CLEANUP_BUF struct buf word = BUF_INIT;
	CLEANUP_BUF struct buf meaning = BUF_INIT;
	const char *name = text_of(task, "name");
	const char *batch = text_of(task, "batch_name");
	long long id = (long long)json_integer_value(json_object_get(task, "id"));
	bool wants_number = completion->text[0] >= '0' && completion->text[0] <= '9';

	buf_add_format(&meaning, "#%lld %s %s", id, text_of(task, "state"), text_of(task, "label"));
	if (name[0] != '\0')
		offer(completion, name, strlen(name), meaning.bytes);
	if (name[0] != '\0' && batch[0] != '\0' && strchr(completion->text, '/')) {
		buf_add_format(&word, "%s/%s", batch, name);
		offer(completion, word.bytes, word.length, meaning.bytes);
	}
	if (name[0] != '\0' && !wants_number)
		return;
	buf_clear(&word);
	buf_add_format(&word, "%lld", id);
	offer(completion, word.bytes, word.length, meaning.bytes);
}

/* Each once, in the order of their ids. */
static void offer_batches(struct completion *completion, const json_t *tasks)
{
	json_t *seen = json_object();
	json_t *task;
	size_t i;

	json_array_foreach (tasks, i, task) {
		const char *name = text_of(task, "batch_name");
		CLEANUP_FREE char *id = xasprintf("%lld", (long long)json_integer_value(json_object_get(task, "batch")));
		const char *word =
			name[0] != '\0' && !(completion->text[0] >= '0' && completion->text[0] <= '9') ? name : id;

		if (!json_object_get(seen, word))
			offer(completion, word, strlen(word), word == name ? id : NULL);
		json_object_set_new(seen, word, json_true());
	}
	json_decref(seen);
}

/* Whoever presses Tab does not wait: then there are no candidates. */
static void on_alarm(int number UNUSED)
{
	_exit(0);
}

/* A page from the daemon that runs, if one does; NULL when there is none. Steals `params`. */
static json_t *fetch(enum api_method method, json_t *params)
{
	struct client_options options = { .name = "drover completion" };
	CLEANUP(client_cleanup) struct client *client = NULL;
	struct client_error error = { 0 };
	json_t *page;

	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	alarm(PATIENCE_S);
	if (client_open(&options, &client, &error) < 0) {
		json_decref(params);
		return NULL;
	}
	page = client_call(client, method, params, &error);
	alarm(0);
	return page;
}

/* "states" as choices, NULL = all. */
static json_t *fetch_tasks(const char *states)
{
	json_t *params = json_object();
	json_t *list = json_array();
	size_t length;

	for (const char *at = states, *word; (word = options_next_choice(&at, &length)) != NULL;)
		json_array_append_new(list, json_stringn(word, length));
	if (json_array_size(list) > 0)
		json_object_set(params, "states", list);
	json_decref(list);
	return fetch(API_TASK_LIST, params);
}

static void offer_tasks(struct completion *completion, enum option_values values, const char *states)
{
	json_t *page = fetch_tasks(states);
	const json_t *tasks = json_object_get(page, "tasks");
	json_t *task;
	size_t i;

	if (values == OPTION_VALUES_BATCH)
		offer_batches(completion, tasks);
	else
		json_array_foreach (tasks, i, task)
			offer_task(completion, task);
	json_decref(page);
}

/* By their tasks; where nothing knows the task, by the path, unless a shell would read something else into it. */
static void offer_worktrees(struct completion *completion)
{
	json_t *page = fetch(API_WORKTREE_LIST, json_pack("{s:b}", "is_all", true));
	json_t *worktree;
	size_t i;

	json_array_foreach (json_object_get(page, "worktrees"), i, worktree) {
		const char *path = text_of(worktree, "path");
		bool is_known = text_of(worktree, "state")[0] != '\0' && completion->text[0] != '/';

		json_object_set(worktree, "id", json_object_get(worktree, "task"));
		json_object_set(worktree, "label", json_object_get(worktree, "path"));
		if (is_known)
			offer_task(completion, worktree);
		else if (!strpbrk(path, " \t\n\\'\"$`;&|<>()*?[]#~!{}"))
			offer(completion, path, strlen(path), text_of(worktree, "state"));
	}
	json_decref(page);
}

/* The word at `place` of command names, for those of which the words before are as typed. */
static void offer_commands(struct completion *completion, int first, int place)
{
	for (size_t i = 0; cli_commands[i]; i++) {
		const char *name = cli_commands[i]->name;
		const char *space = strchr(name, ' ');
		size_t length = space ? (size_t)(space - name) : strlen(name);
		const char *group = place > first ? completion->words[first] : NULL;

		if (!group && i > 0 && space && strncmp(cli_commands[i - 1]->name, name, length + 1) == 0)
			continue; /* a group is named once */
		if (!group)
			offer(completion, name, length, space ? "…" : cli_commands[i]->summary);
		else if (space && strlen(group) == length && strncmp(name, group, length) == 0)
			offer(completion, space + 1, strlen(space + 1), cli_commands[i]->summary);
	}
}

static void offer_values(struct completion *completion, enum option_values values, const char *states)
{
	struct buf *out = &completion->cli->out;

	switch (values) {
	case OPTION_VALUES_FILE:
		buf_add_text(out, ":files\n");
		break;
	case OPTION_VALUES_DIRECTORY:
		buf_add_text(out, ":directories\n");
		break;
	case OPTION_VALUES_COMMAND:
		buf_add_format(out, ":command %d\n", completion->count - 1);
		break;
	case OPTION_VALUES_TASK:
	case OPTION_VALUES_BATCH:
		offer_tasks(completion, values, states);
		break;
	case OPTION_VALUES_WORKTREE:
		offer_worktrees(completion);
		break;
	case OPTION_VALUES_CHOICES:
		offer_choices(completion, states);
		break;
	case OPTION_VALUES_DROVER:
		offer_commands(completion, 2, completion->count - 1);
		break;
	case OPTION_VALUES_ANY:
	case OPTION_VALUES_MAX:
		break;
	}
}

/* The value of an option; of a list the part behind the last comma. */
static void offer_option_value(struct completion *completion, const struct option_row *row)
{
	const char *comma = row->kind == OPTION_NAMES ? strrchr(completion->text, ',') : NULL;

	if (comma) {
		/* "--name=" stands right before the text; bash keeps it, and wants the rest back. */
		if (completion->before_length == 0 || completion->has_equals)
			completion->before = completion->text;
		completion->before_length = (size_t)(comma + 1 - completion->before);
		completion->has_equals = false;
		completion->text = comma + 1;
	}
	if (row->choices)
		offer_choices(completion, row->choices);
	else
		offer_values(completion, row->values, NULL);
}

static void offer_option(struct completion *completion, const struct option_row *row)
{
	CLEANUP_BUF struct buf word = BUF_INIT;

	buf_add_format(&word, "--%s", row->name);
	offer(completion, word.bytes, word.length, row->meaning);
	if (row->fallback) {
		buf_add_byte(&word, '=');
		offer(completion, word.bytes, word.length, row->meaning);
	}
	if (row->letter == 0 || completion->text[1] == '-')
		return;
	buf_clear(&word);
	buf_add_format(&word, "-%c", row->letter);
	offer(completion, word.bytes, word.length, row->meaning);
}

static const struct option_row *find_row(const struct command *command, const char *name, size_t length)
{
	for (size_t i = 0; i < command->option_count; i++)
		if (strlen(command->options[i].name) == length && strncmp(command->options[i].name, name, length) == 0)
			return &command->options[i];
	return NULL;
}

/* The row of an option whose value is the next word; NULL for any other word. */
static const struct option_row *waits_for_value(const struct command *command, const char *word)
{
	const struct option_row *row = NULL;

	if (word[0] != '-' || word[1] == '\0')
		return NULL;
	if (word[1] == '-') {
		row = strchr(word, '=') ? NULL : find_row(command, word + 2, strlen(word + 2));
		return row && row->kind != OPTION_FLAG && !row->fallback ? row : NULL;
	}
	for (const char *letter = word + 1; *letter; letter++)
		for (size_t i = 0; i < command->option_count; i++)
			if (command->options[i].letter == *letter && command->options[i].kind != OPTION_FLAG &&
			    !command->options[i].fallback)
				return letter[1] == '\0' ? &command->options[i] : NULL;
	return NULL;
}

/* "--name=part": the row of the name, with `completion` set to the part. */
static const struct option_row *split_option(struct completion *completion, bool is_bash)
{
	const char *word = completion->text;
	const char *equals = strchr(word, '=');
	const struct option_row *row;

	if (strncmp(word, "--", 2) != 0 || !equals)
		return NULL;
	row = find_row(completion->command, word + 2, (size_t)(equals - word - 2));
	completion->before = word;
	completion->before_length = (size_t)(equals + 1 - word);
	completion->has_equals = is_bash;
	completion->text = equals + 1;
	return row;
}

/* What follows the command's own words. */
static void complete_arguments(struct completion *completion, int at, bool is_bash)
{
	const struct command *command = completion->command;
	const struct option_row *waiting = NULL;
	bool is_over = false; /* "--" was there */
	int last = completion->count - 1;

	for (; at < last; at++) {
		const char *word = completion->words[at];

		if (waiting) {
			waiting = NULL;
		} else if (!is_over && strcmp(word, "--") == 0) {
			is_over = true;
		} else if (!is_over && word[0] == '-' && word[1] != '\0') {
			waiting = waits_for_value(command, word);
		} else if (command->runs_commands) {
			break;
		}
	}
	if (at < last || (is_over && command->runs_commands)) {
		for (int i = at; i < last; i++)
			if (strcmp(completion->words[i], ":::") == 0)
				at = -1; /* values may be anything; files often are */
		if (at < 0)
			buf_add_text(&completion->cli->out, ":files\n");
		else
			buf_add_format(&completion->cli->out, ":command %d\n", at);
		return;
	}
	if (waiting) {
		offer_option_value(completion, waiting);
	} else if (!is_over && completion->text[0] == '-') {
		const struct option_row *row = split_option(completion, is_bash);

		if (row && row->kind != OPTION_FLAG)
			offer_option_value(completion, row);
		for (size_t i = 0; !completion->before_length && i < command->option_count; i++)
			offer_option(completion, &command->options[i]);
		if (!completion->before_length)
			offer(completion, "--help", strlen("--help"), "tells how it is used");
	} else {
		offer_values(completion, command->arguments, command->argument_choices);
	}
}

/* bash takes "--name=value" for three words: joins them in place, returns how many there are then. */
static int join_equals(char **words, int count)
{
	int kept = 0;

	for (int i = 0; i < count; i++) {
		bool is_value = kept > 0 && strncmp(words[kept - 1], "--", 2) == 0 && !strchr(words[kept - 1], '=');

		if (i > 0 && strcmp(words[i], "=") == 0 && is_value) {
			/* The words live as long as the process. */
			words[kept - 1] = xasprintf("%s=%s", words[kept - 1], i + 1 < count ? words[i + 1] : "");
			i++;
		} else {
			words[kept++] = words[i];
		}
	}
	return kept;
}

int complete_words(struct cli *cli, int argc, char **argv)
{
	bool is_bash = argc > 0 && strcmp(argv[0], "bash") == 0;
	struct completion completion = { .cli = cli, .words = argv + 1, .count = argc - 1, .before = "" };
	int words = 0;

	if (completion.count < 2)
		return CLI_OK;
	if (is_bash)
		completion.count = join_equals(completion.words, completion.count);
	completion.text = completion.words[completion.count - 1];
	completion.command = cli_find_command(completion.count - 2, completion.words + 1, &words);
	if (completion.command) {
		complete_arguments(&completion, 1 + words, is_bash);
		return CLI_OK;
	}
	if (completion.count <= 3)
		offer_commands(&completion, 1, completion.count - 1);
	if (completion.count == 2 && completion.text[0] == '-') {
		offer(&completion, "--help", strlen("--help"), "lists the commands");
		offer(&completion, "--version", strlen("--version"), "tells the version");
	}
	return CLI_OK;
}
