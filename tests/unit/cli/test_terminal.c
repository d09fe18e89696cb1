/* Foreign text for terminals: what passes, what is shown, what is cut; and tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "cli/grid.h"
#include "cli/terminal.h"

static const struct row {
	const char *bytes;
	size_t length;
	bool keeps_returns;
	const char *expected;
} rows[] = {
#define ROW(bytes, keeps, expected)                                                                                         \
	{                                                                                                                   \
		bytes, sizeof(bytes) - 1, keeps, expected                                                                   \
	}
	ROW("plain\ttext\n", false, "plain\ttext\n"),
	ROW("\033[31mred\033[0m \033[1;38;5;9mx\033[m", false,
	    "\033[31mred\033[0m \033[1;38;5;9mx\033[m\033[0m"), /* set back at the end */
	ROW("a\u202eb\u2066", false, "a\\xe2\\x80\\xaeb\\xe2\\x81\\xa6"),
	ROW("x\xe2\x80", false, "x\\xe2\\x80"),
	ROW("\033[2J\033[Hx", false, "\\x1b[2J\\x1b[Hx"),
	ROW("\033]52;c;eHl6\007x", false, "\\x1b]52;c;eHl6\\x07x"),
	ROW("\033]0;title\033\\", false, "\\x1b]0;title\\x1b\\"),
	ROW("a\bb\177\0c", false, "a\\x08b\\x7f\\x00c"),
	ROW("ä€😀", false, "ä€😀"),
	ROW("\xc2\x9b"
	    "2J",
	    false, "\\xc2\\x9b2J"),
	ROW("\xff\xc3(", false, "\\xff\\xc3("),
	ROW("\xed\xa0\x80", false, "\\xed\\xa0\\x80"),
	ROW("1%\r2%\r\n3", false, "1%\n2%\r\n3"),
	ROW("1%\r2%\r\n3", true, "1%\r2%\r\n3"),
	ROW("end\r", false, "end\n"),
	ROW("cut \033[3", false, "cut \\x1b[3"),
	ROW("\033[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1mx", false, "\\x1b[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1mx"),
};

/* In pieces of every length, the result is the same. */
static void test_filter(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t piece = 1; piece <= rows[i].length; piece++) {
			struct terminal_filter filter = { .keeps_returns = rows[i].keeps_returns };
			CLEANUP_BUF struct buf out = BUF_INIT;

			for (size_t at = 0; at < rows[i].length; at += piece)
				terminal_filter_add(&filter, &out, rows[i].bytes + at, MIN(piece, rows[i].length - at));
			terminal_filter_end(&filter, &out);
			if (strcmp(out.bytes, rows[i].expected) != 0)
				fail_msg("row %zu in pieces of %zu: %s", i, piece, out.bytes);
		}
	}
}

static void test_width_and_cutting(void **state)
{
	CLEANUP_BUF struct buf buf = BUF_INIT;

	(void)state;
	assert_int_equal(terminal_text_width("abc"), 3);
	assert_int_equal(terminal_text_width("äöü"), 3);
	assert_int_equal(terminal_text_width("日本"), 4);
	assert_int_equal(terminal_text_width("e\xcc\x81"), 1);
	terminal_add_cut(&buf, "abcdef", 6);
	assert_string_equal(buf.bytes, "abcdef");
	buf_clear(&buf);
	terminal_add_cut(&buf, "abcdef", 5);
	assert_string_equal(buf.bytes, "abcd…");
	buf_clear(&buf);
	terminal_add_cut(&buf, "日本語", 4);
	assert_string_equal(buf.bytes, "日…");
	buf_clear(&buf);
	terminal_add_cut(&buf, "a\033[2Jb", 80);
	assert_string_equal(buf.bytes, "a\\x1b[2Jb");
	buf_clear(&buf);
	terminal_add_cut(&buf, "abc", 0);
	assert_int_equal(buf.length, 0);
}

static void fill(struct grid *grid)
{
	grid_add(grid, "1");
	grid_add(grid, "failed");
	grid_add(grid, "a long command line");
	grid_add(grid, "100");
	grid_add(grid, "");
	grid_add_format(grid, "%s\n", "x");
}

static void test_grid(void **state)
{
	static const struct grid_column columns[] = {
		{ .title = "ID", .is_right = true },
		{ .title = "STATE", .is_state = true },
		{ .title = "COMMAND", .is_flexible = true },
	};
	struct grid grid = { .columns = columns, .column_count = ARRAY_SIZE(columns) };
	CLEANUP_BUF struct buf buf = BUF_INIT;

	(void)state;
	fill(&grid);
	grid_finish(&grid, &buf, 0, false);
	assert_string_equal(buf.bytes, " ID  STATE   COMMAND\n  1  failed  a long command line\n100  -       x\\x0a\n");
	buf_clear(&buf);
	fill(&grid);
	grid_finish(&grid, &buf, 25, true);
	assert_string_equal(buf.bytes,
	                    " ID  STATE   COMMAND\n  1  \033[31mfailed\033[0m  a long comm…\n100  -       x\\x0a\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_width_and_cutting),
		cmocka_unit_test(test_grid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
