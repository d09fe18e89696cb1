#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/limits.h"

enum { INPUT_BYTES_MAX = 512 << 20 };

static int add_value(struct input_source *source, const char *value, struct err *err)
{
	if (source->count == LIMIT_DRAFT_TASKS)
		return err_say(err, -EFBIG, "more than %d values", LIMIT_DRAFT_TASKS);
	if (source->count == source->capacity) {
		source->capacity = MAX(source->capacity * 2, (uint64_t)64);
		source->values = xrealloc(source->values, source->capacity * sizeof(*source->values));
	}
	source->values[source->count++] = value;
	return 0;
}

static struct input_source *next_source(struct input *input, struct err *err)
{
	if (input->source_count == INPUT_SOURCES_MAX) {
		err_say(err, -E2BIG, "more than %d sources of values (::: and -a)", INPUT_SOURCES_MAX);
		return NULL;
	}
	return &input->sources[input->source_count++];
}

/* Cuts the text into values. NUL inside a line could not be passed on to a command. */
static int split_values(struct input_source *source, char separator, const char *name, struct err *err)
{
	char *at = source->text.bytes;
	char *end = at + source->text.length;

	if (separator != '\0' && at && memchr(at, '\0', source->text.length))
		return err_say(err, -EINVAL, "'%s' holds NUL bytes: give -0 when values end with them", name);
	while (at < end) {
		char *stop = memchr(at, separator, (size_t)(end - at));
		int code;

		if (!stop)
			stop = end;
		*stop = '\0';
		code = add_value(source, at, err);
		if (code < 0)
			return code;
		at = stop + 1;
	}
	return 0;
}

static int read_source(struct input *input, int fd, const char *name, bool is_nul_separated, struct err *err)
{
	struct input_source *source = next_source(input, err);
	int code;

	if (!source)
		return -E2BIG;
	code = fd_read_all(fd, &source->text, INPUT_BYTES_MAX);
	if (code == -EFBIG)
		return err_say(err, code, "'%s' has more than %d MiB of values", name, INPUT_BYTES_MAX >> 20);
	if (code < 0)
		return err_set(err, code, "cannot read values from '%s'", name);
	return split_values(source, is_nul_separated ? '\0' : '\n', name, err);
}

static int read_files(struct input *input, const struct input_request *request, struct err *err)
{
	for (size_t i = 0; i < request->files->count; i++) {
		const char *name = request->files->texts[i];
		bool is_stdin = strcmp(name, "-") == 0;
		CLEANUP_FD int file = is_stdin ? -1 : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		int code;

		if (!is_stdin && file < 0)
			return err_set(err, -errno, "cannot open '%s', from which values were to be read", name);
		code = read_source(input, is_stdin ? request->stdin_fd : file, is_stdin ? "standard input" : name,
		                   request->is_nul_separated, err);
		if (code < 0)
			return code;
	}
	return 0;
}

/* The words up to the first ":::" are the command; each ":::" begins a source. */
static int split_words(struct input *input, const struct input_request *request, struct err *err)
{
	struct input_source *source = NULL;

	input->words = request->words;
	for (size_t i = 0; i < request->word_count; i++) {
		const char *word = request->words[i];

		if (strcmp(word, ":::") == 0) {
			source = next_source(input, err);
			if (!source)
				return -E2BIG;
		} else if (strcmp(word, "::::") == 0 || strcmp(word, ":::+") == 0 || strcmp(word, "::::+") == 0) {
			return err_say(err, -EINVAL, "'%s' is not supported: give values after ':::' or a file with -a FILE",
			               word);
		} else if (source) {
			int code = add_value(source, word, err);

			if (code < 0)
				return code;
		} else {
			input->word_count++;
		}
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

static int count_tasks(struct input *input, struct err *err)
{
	input->task_count = 1;
	for (unsigned i = 0; i < input->source_count; i++) {
		input->task_count *= input->sources[i].count;
		if (input->task_count > LIMIT_DRAFT_TASKS)
			return err_say(err, -EFBIG, "the values make more than %d tasks", LIMIT_DRAFT_TASKS);
	}
	for (size_t i = 0; i < input->word_count && input->source_count > 0; i++) {
		int code = template_check(input->words[i], input->source_count, err);

		if (code < 0)
			return code;
	}
	return 0;
}

int input_read(const struct input_request *request, struct input *ret, struct err *err)
{
	int code;

	*ret = (struct input){ 0 };
	code = read_files(ret, request, err);
	if (code == 0)
		code = split_words(ret, request, err);
	if (code < 0)
		return code;
	look_at_command(ret);
	if (ret->source_count == 0 && ret->has_template && is_pipe_or_file(request->stdin_fd))
		code = read_source(ret, request->stdin_fd, "standard input", request->is_nul_separated, err);
	if (code < 0)
		return code;
	if (ret->word_count == 0 && ret->source_count == 0)
		return err_say(err, -EINVAL, "no command was given");
	return count_tasks(ret, err);
}

void input_done(struct input *input)
{
	for (unsigned i = 0; i < input->source_count; i++) {
		free(input->sources[i].values);
		buf_done(&input->sources[i].text);
	}
	input->source_count = 0;
}

void input_values(const struct input *input, uint64_t index, const char *texts[INPUT_SOURCES_MAX],
                  struct template_values *ret)
{
	ASSERT(index < input->task_count);
	*ret = (struct template_values){ .texts = texts, .count = input->source_count, .number = index + 1 };
	for (unsigned i = input->source_count; i-- > 0;) {
		texts[i] = input->sources[i].values[index % input->sources[i].count];
		index /= input->sources[i].count;
	}
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
		if (values->count == 0) {
			add_word(command, input->words[i]);
		} else if (strcmp(input->words[i], "{}") == 0) {
			for (unsigned value = 0; value < values->count; value++)
				add_word(command, values->texts[value]);
		} else {
			template_expand(&command->bytes, input->words[i], values, false);
			buf_add_byte(&command->bytes, '\0');
			command->word_count++;
		}
	}
	for (unsigned value = 0; value < values->count && !input->has_template; value++)
		add_word(command, values->texts[value]);
}

/* Without a command the value is one: text for a shell when it has a blank, like a command typed as one word. */
static void use_value(const struct template_values *values, struct input_command *command)
{
	if (values->count == 1 && !strpbrk(values->texts[0], " \t\n") && values->texts[0][0] != '\0') {
		add_word(command, values->texts[0]);
		return;
	}
	for (unsigned i = 0; i < values->count; i++)
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
	if (values->count == 0)
		buf_add_text(&command->bytes, input->words[0]);
	else
		template_expand(&command->bytes, input->words[0], values, true);
	for (unsigned i = 0; i < values->count && !input->has_template; i++) {
		buf_add_byte(&command->bytes, ' ');
		template_add_quoted(&command->bytes, values->texts[i]);
	}
}

void input_add_label(struct buf *buf, const struct template_values *values)
{
	for (unsigned i = 0; i < values->count; i++)
		buf_add_format(buf, "%s%s", i > 0 ? " " : "", values->texts[i]);
}
