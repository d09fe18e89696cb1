/* Commands and values: what is run for each task. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "cli/input.h"

enum { WORDS_MAX = 16 };

/* A descriptor to read the text from; "" for /dev/null. */
static int make_stdin(const char *text)
{
	int ends[2];

	if (!text)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(fd_write_all(ends[1], text, strlen(text)), 0);
	fd_close(&ends[1]);
	return ends[0];
}

struct read_input {
	char *text;
	char *words[WORDS_MAX];
	struct option_list files;
	struct input input;
	struct err err;
	int code;
};

/* Words with '|' between; standard input's text or NULL; -a files with '|' between or NULL. */
static void read_words(struct read_input *read, const char *words, const char *stdin_text, const char *file)
{
	CLEANUP_FD int fd = make_stdin(stdin_text);
	struct input_request request = { .words = read->words, .files = &read->files, .stdin_fd = fd,
		                          .sources = { .records_per_task = 1 } };

	*read = (struct read_input){ .text = xstrdup(words) };
	if (file) {
		read->files.texts = xcalloc(1, sizeof(char *));
		read->files.texts[read->files.count++] = file;
	}
	for (char *at = read->text; at && *at;) {
		char *bar = strchr(at, '|');

		read->words[request.word_count++] = at;
		if (bar)
			*bar++ = '\0';
		at = bar;
	}
	read->code = input_read(&request, &read->input, &read->err);
}

static void done(struct read_input *read)
{
	input_done(&read->input);
	free(read->files.texts);
	free(read->text);
}

/* What all tasks run: words as [a][b], text for a shell as <text>, a line each. */
static char *show(const struct read_input *read)
{
	struct source_values list = { 0 };
	struct input_command command = { 0 };
	struct buf buf = BUF_INIT;

	for (uint64_t i = 0; i < read->input.sources.task_count; i++) {
		struct template_values values = input_values(&read->input, i, &list);
		const char *at;

		input_command(&read->input, &values, &command);
		at = command.bytes.bytes ? command.bytes.bytes : "";
		for (size_t word = 0; word < command.word_count; word++, at += strlen(at) + 1)
			buf_add_format(&buf, "[%s]", at);
		if (command.word_count == 0)
			buf_add_format(&buf, "<%s>", at);
		buf_add_byte(&buf, '\n');
	}
	buf_done(&command.bytes);
	source_values_done(&list);
	return buf_take(&buf);
}

static const struct row {
	const char *words;
	const char *stdin_text;
	const char *file;
	const char *expected;
} rows[] = {
	/* one task */
	{ "echo|a b|*", NULL, NULL, "[echo][a b][*]\n" },
	{ "echo a | b", NULL, NULL, "[echo a ][ b]\n" },
	{ "echo $HOME", NULL, NULL, "<echo $HOME>\n" },
	{ "true", NULL, NULL, "[true]\n" },
	{ "true", "x\ny\n", NULL, "[true]\n" },
	{ "echo|{}", NULL, NULL, "[echo][{}]\n" },
	{ "echo {}", NULL, NULL, "<echo {}>\n" },
	/* values */
	{ "echo|:::|a|b c", NULL, NULL, "[echo][a]\n[echo][b c]\n" },
	{ "echo|x{}y|:::|a|b", NULL, NULL, "[echo][xay]\n[echo][xby]\n" },
	{ "echo x|:::|a|it's", NULL, NULL, "<echo x a>\n<echo x 'it'\\''s'>\n" },
	{ "echo {} {#}|:::|a b|c", NULL, NULL, "<echo 'a b' 1>\n<echo c 2>\n" },
	{ "echo|{#}|:::|a|b", NULL, NULL, "[echo][1]\n[echo][2]\n" },
	{ "echo|:::|a|b|:::|1|2", NULL, NULL, "[echo][a][1]\n[echo][a][2]\n[echo][b][1]\n[echo][b][2]\n" },
	{ "echo|{}|-|{2}{1}|:::|a|:::|1|2", NULL, NULL, "[echo][a][1][-][1a]\n[echo][a][2][-][2a]\n" },
	{ "echo|:::", NULL, NULL, "" },
	{ "echo|{1}-{2}|:::|a|b|:::+|1|2|3|:::|X", NULL, NULL, "[echo][a-1]\n[echo][b-2]\n" },
	{ "echo|{-1}{2.}|:::|a.b|:::|c.d", NULL, NULL, "[echo][c.dc]\n" },
	{ "echo {%}|:::|{%}", NULL, NULL, "<echo {%1}>\n" },
	/* without a command the values are commands */
	{ ":::|true|echo a b", NULL, NULL, "[true]\n<echo a b>\n" },
	/* standard input: only for a placeholder, or when asked for */
	{ "echo|{}", "a b\nc\n", NULL, "[echo][a b]\n[echo][c]\n" },
	{ "echo {}", "a b\nlast", NULL, "<echo 'a b'>\n<echo last>\n" },
	{ "echo|{}|:::|v", "a\n", NULL, "[echo][v]\n" },
	{ "echo", "a\n\nb\n", "-", "[echo][a]\n[echo][]\n[echo][b]\n" },
	{ "echo|{}", "", NULL, "" },
};

static void test_what_is_run(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct read_input read;
		char *shown;

		read_words(&read, rows[i].words, rows[i].stdin_text, rows[i].file);
		if (read.code < 0)
			fail_msg("%s: %s", rows[i].words, read.err.text);
		shown = show(&read);
		if (strcmp(shown, rows[i].expected) != 0)
			fail_msg("%s became\n%snot\n%s", rows[i].words, shown, rows[i].expected);
		free(shown);
		done(&read);
	}
}

static const struct fault {
	const char *words;
	const char *file;
	const char *says;
} faults[] = {
	{ "", NULL, "no command was given" },
	{ "echo|{2}|:::|a", NULL, "{2} stands for a value of source 2, but there is 1" },
	{ "echo|{-2}|:::|a", NULL, "{-2} stands for a value of source 2, but there is 1" },
	{ "echo|::::|/nowhere/f", NULL, "cannot open '/nowhere/f'" },
	{ "echo|:::+|a", NULL, "begin with ':::'" },
	{ "echo", "/nowhere/values", "cannot open '/nowhere/values'" },
	{ "echo", "/", "cannot read values from '/'" },
};

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		struct read_input read;

		read_words(&read, faults[i].words, NULL, faults[i].file);
		if (read.code >= 0 || !strstr(read.err.text, faults[i].says))
			fail_msg("%s: %s", faults[i].words, read.err.text);
		done(&read);
	}
}

static void test_values_that_end_with_nul(void **state)
{
	static const char bytes[] = "a\nb\0c";
	struct option_list files = { 0 };
	const char *dash = "-";
	char echo[] = "echo";
	char *words[] = { echo };
	struct input_request request = { .words = words,
		                         .word_count = 1,
		                         .files = &files,
		                         .sources = { .records_per_task = 1, .is_nul_separated = true } };
	struct input input;
	struct err err = ERR_INIT;
	int ends[2];

	(void)state;
	files.texts = &dash;
	files.count = 1;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		assert_int_equal(fd_write_all(ends[1], bytes, sizeof(bytes)), 0);
		fd_close(&ends[1]);
		request.stdin_fd = ends[0];
		if (i == 0) {
			assert_int_equal(input_read(&request, &input, &err), 0);
			assert_int_equal(input.sources.task_count, 2);
			assert_string_equal(input.sources.items[0].values[0], "a\nb");
		} else {
			request.sources.is_nul_separated = false;
			assert_int_equal(input_read(&request, &input, &err), -EINVAL);
			assert_non_null(strstr(err.text, "-0"));
		}
		input_done(&input);
		fd_close(&ends[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_run),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_values_that_end_with_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
