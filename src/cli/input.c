#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static int read_file(struct input *input, const struct input_request *request, const char *name, bool is_linked,
                     struct err *err)
{
	bool is_stdin = strcmp(name, "-") == 0;
	CLEANUP_FD int file = is_stdin ? -1 : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct source *source;

	if (!is_stdin && file < 0)
		return err_set(err, -errno, "cannot open '%s', from which values were to be read", name);
	source = sources_add(&input->sources, is_linked, err);
	if (!source)
		return err->code;
	return sources_read(&input->sources, source, is_stdin ? request->stdin_fd : file, is_stdin ? "standard input" : name,
	                    err);
}

static int read_files(struct input *input, const struct input_request *request, struct err *err)
{
	for (size_t i = 0; i < request->files->count; i++) {
		int code = read_file(input, request, request->files->texts[i], false, err);

		if (code < 0)
			return code;
	}
	return 0;
}

static const struct separator {
	const char *word;
	bool is_file;
	bool is_linked;
} separators[] = {
	{ ":::", false, false },
	{ ":::+", false, true },
	{ "::::", true, false },
	{ "::::+", true, true },
};

static const struct separator *find_separator(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(separators); i++)
		if (strcmp(word, separators[i].word) == 0)
			return &separators[i];
	return NULL;
}

/* The words up to the first separator are the command; ::: begins a source, each word after :::: is one. */
static int split_words(struct input *input, const struct input_request *request, struct err *err)
{
	const struct separator *separator = NULL;
	struct source *source = NULL;

	input->words = request->words;
	for (size_t i = 0; i < request->word_count; i++) {
		const struct separator *found = find_separator(request->words[i]);
		int code = 0;

		if (found && !found->is_file) {
			source = sources_add(&input->sources, found->is_linked, err);
			code = source ? 0 : err->code;
		} else if (!found && !separator) {
			input->word_count++;
		} else if (!found && separator->is_file) {
			code = read_file(input, request, request->words[i], separator->is_linked, err);
		} else if (!found) {
			code = sources_add_row(&input->sources, source, request->words[i], err);
		}
		if (code < 0)
			return code;
		separator = found ? found : separator;
	}
	return 0;
}

static bool is_pipe_or_file(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode));
}

/* A single word with a blank in it is text for a shell. */
static void look_at_command(struct input *input)
{
	input->is_shell = input->word_count == 1 && strpbrk(input->words[0], " \t\n") != NULL;
	for (size_t i = 0; i < input->word_count; i++)
		input->has_template = input->has_template || template_has_placeholder(input->words[i]);
}

/* A text for {%} that nothing else holds: the daemon replaces each one it finds. */
static void choose_slot_text(struct input *input)
{
	const struct sources *sources = &input->sources;
	bool is_taken = true;

	for (unsigned tries = 0; is_taken; tries++) {
		if (tries == 0)
			snprintf(input->slot_text, sizeof(input->slot_text), "{%%}");
		else
			snprintf(input->slot_text, sizeof(input->slot_text), "{%%%u}", tries);
		is_taken = false;
		for (unsigned i = 0; i < sources->count; i++)
			for (size_t value = 0; value < sources->items[i].count && !is_taken; value++)
				is_taken = strstr(sources->items[i].values[value], input->slot_text) != NULL;
		for (size_t i = 0; i < input->word_count && tries > 0 && !is_taken; i++)
			is_taken = strstr(input->words[i], input->slot_text) != NULL;
	}
}

static int check(struct input *input, struct err *err)
{
	if (input->sources.count == 0)
		return 0;
	for (size_t i = 0; i < input->word_count; i++) {
		int code = template_check(input->words[i], sources_width(&input->sources), err);

		if (code < 0)
			return code;
		input->has_slot = input->has_slot || template_has_slot(input->words[i]);
	}
	if (input->has_slot)
		choose_slot_text(input);
	return 0;
}

/* Standard input supplies values to a command with a placeholder when nothing else does. */
static int read_stdin(struct input *input, const struct input_request *request, struct err *err)
{
	struct source *source;

	if (input->sources.count > 0 || !input->has_template || !is_pipe_or_file(request->stdin_fd))
		return 0;
	source = sources_add(&input->sources, false, err);
	return source ? sources_read(&input->sources, source, request->stdin_fd, "standard input", err) : err->code;
}

int input_read(const struct input_request *request, struct input *ret, struct err *err)
{
	int code;

	*ret = (struct input){ 0 };
	code = sources_init(&ret->sources, &request->sources, err);
	if (code == 0)
		code = read_files(ret, request, err);
	if (code == 0)
		code = split_words(ret, request, err);
	if (code < 0)
		return code;
	look_at_command(ret);
	code = read_stdin(ret, request, err);
	if (code < 0)
		return code;
	if (ret->word_count == 0 && ret->sources.count == 0)
		return err_say(err, -EINVAL, "no command was given");
	code = sources_count_tasks(&ret->sources, err);
	return code < 0 ? code : check(ret, err);
}

void input_done(struct input *input)
{
	sources_done(&input->sources);
}

struct template_values input_values(const struct input *input, uint64_t index, struct source_values *values)
{
	sources_get(&input->sources, index, values);
	return (struct template_values){
		.texts = values->texts, .count = values->count, .number = index + 1, .slot = input->slot_text
	};
}

static void add_word(struct input_command *command, const char *word)
{
	buf_add(&command->bytes, word, strlen(word) + 1);
	command->word_count++;
}

/* A word that is just {} becomes as many words as there are values. */
static void expand_words(const struct input *input, const struct template_values *values, struct input_command *command)
{
	for (size_t i = 0; i < input->word_count; i++) {
		if (input->sources.count == 0) {
			add_word(command, input->words[i]);
		} else if (strcmp(input->words[i], "{}") == 0) {
			for (size_t value = 0; value < values->count; value++)
				add_word(command, values->texts[value]);
		} else {
			template_expand(&command->bytes, input->words[i], values, false);
			buf_add_byte(&command->bytes, '\0');
			command->word_count++;
		}
	}
	for (size_t value = 0; value < values->count && !input->has_template; value++)
		add_word(command, values->texts[value]);
}

/* Without a command the value is one: text for a shell when it has a blank, like a command typed as one word. */
static void use_value(const struct template_values *values, struct input_command *command)
{
	if (values->count == 1 && !strpbrk(values->texts[0], " \t\n") && values->texts[0][0] != '\0') {
		add_word(command, values->texts[0]);
		return;
	}
	for (size_t i = 0; i < values->count; i++)
		buf_add_format(&command->bytes, "%s%s", i > 0 ? " " : "", values->texts[i]);
}

void input_command(const struct input *input, const struct template_values *values, struct input_command *command)
{
	buf_clear(&command->bytes);
	command->word_count = 0;
	if (input->word_count == 0) {
		use_value(values, command);
		return;
	}
	if (!input->is_shell) {
		expand_words(input, values, command);
		return;
	}
	if (input->sources.count == 0)
		buf_add_text(&command->bytes, input->words[0]);
	else
		template_expand(&command->bytes, input->words[0], values, true);
	for (size_t i = 0; i < values->count && !input->has_template; i++) {
		buf_add_byte(&command->bytes, ' ');
		template_add_quoted(&command->bytes, values->texts[i]);
	}
}

void input_add_label(struct buf *buf, const struct template_values *values)
{
	for (size_t i = 0; i < values->count; i++)
		buf_add_format(buf, "%s%s", i > 0 ? " " : "", values->texts[i]);
}

void input_add_command_text(const struct input_command *command, struct buf *text)
{
	const char *at = command->bytes.bytes ? command->bytes.bytes : "";

	if (command->word_count == 0) {
		buf_add(text, at, command->bytes.length);
		return;
	}
	for (size_t i = 0; i < command->word_count; i++, at += strlen(at) + 1) {
		if (i > 0)
			buf_add_byte(text, ' ');
		template_add_quoted(text, at);
	}
}
