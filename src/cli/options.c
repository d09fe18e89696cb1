#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"
#include "base/units.h"

enum { ROWS_MAX = 64, HELP_COLUMN = 30 };

struct parser {
	const struct option_set *set;
	int argc;
	char **argv;
	int at;
	void *values;
	struct option_rest *rest;
	bool is_help;
	struct err *err;
};

static void *place_of(const struct parser *parser, const struct option_row *row)
{
	return (char *)parser->values + row->offset;
}

static void list_add(struct option_list *list, const char *text)
{
	list->texts = xrealloc(list->texts, (list->count + 1) * sizeof(*list->texts));
	list->texts[list->count++] = text;
}

/* Splits at commas. The parts are cut out of the argument itself: argv is the process's own. */
static void list_add_names(struct option_list *list, char *text)
{
	for (char *comma; (comma = strchr(text, ',')) != NULL; text = comma + 1) {
		*comma = '\0';
		if (*text != '\0')
			list_add(list, text);
	}
	if (*text != '\0')
		list_add(list, text);
}

static int set_number(const struct parser *parser, const struct option_row *row, const char *text)
{
	struct option_number number = { .is_set = true };
	struct err why = ERR_INIT;

	if (row->kind == OPTION_COUNT && str_parse_u64(text, row->limit, &number.value) < 0)
		return err_say(parser->err, -EINVAL, "--%s: '%.80s' is not a number from 0 to %llu", row->name, text,
		               (unsigned long long)row->limit);
	if (row->kind == OPTION_DURATION && strcmp(text, "0") != 0 && units_parse_duration(text, &number.value, &why) < 0)
		return err_say(parser->err, -EINVAL, "--%s: %s", row->name, why.text);
	*(struct option_number *)place_of(parser, row) = number;
	return 0;
}

const char *options_next_choice(const char **at, size_t *ret_length)
{
	const char *start = *at;

	*ret_length = start ? strcspn(start, "|") : 0;
	*at = start ? start + *ret_length + (start[*ret_length] == '|') : NULL;
	return *ret_length > 0 ? start : NULL;
}

static bool is_choice(const char *choices, const char *text, size_t text_length)
{
	size_t length;

	for (const char *at = choices, *word; (word = options_next_choice(&at, &length)) != NULL;)
		if (length == text_length && strncmp(word, text, length) == 0)
			return true;
	return false;
}

/* "--worktree: 'x' is not none, auto or checkout" */
static int check_choice(const struct parser *parser, const struct option_row *row, const char *text, size_t text_length)
{
	CLEANUP_BUF struct buf known = BUF_INIT;
	size_t length;

	if (!row->choices || is_choice(row->choices, text, text_length))
		return 0;
	for (const char *at = row->choices, *word; (word = options_next_choice(&at, &length)) != NULL;)
		buf_add_format(&known, "%s%.*s", known.length == 0 ? "" : *at != '\0' ? ", " : " or ", (int)length, word);
	return err_say(parser->err, -EINVAL, "--%s: '%.*s' is not %s", row->name, (int)MIN(text_length, (size_t)40), text,
	               known.bytes);
}

/* Each of the comma-separated names. */
static int check_choices(const struct parser *parser, const struct option_row *row, const char *text)
{
	size_t length;
	int code = 0;

	for (; *text != '\0' && code == 0; text += length + (text[length] == ',')) {
		length = strcspn(text, ",");
		if (length > 0)
			code = check_choice(parser, row, text, length);
	}
	return code;
}

static int set_value(const struct parser *parser, const struct option_row *row, char *text)
{
	int code = 0;

	if (row->kind == OPTION_TEXT)
		code = check_choice(parser, row, text, strlen(text));
	else if (row->kind == OPTION_NAMES)
		code = check_choices(parser, row, text);
	if (code < 0)
		return code;
	switch (row->kind) {
	case OPTION_FLAG:
		*(bool *)place_of(parser, row) = true;
		return 0;
	case OPTION_TEXT:
		*(const char **)place_of(parser, row) = text;
		return 0;
	case OPTION_LIST:
		list_add(place_of(parser, row), text);
		return 0;
	case OPTION_NAMES:
		list_add_names(place_of(parser, row), text);
		return 0;
	case OPTION_COUNT:
	case OPTION_DURATION:
		return set_number(parser, row, text);
	}
	NEVER("every kind of option is handled");
}

static int fail_unknown_option(const struct parser *parser, const char *name, size_t length)
{
	const char *names[ROWS_MAX + 1];
	char given[80];
	const char *nearest;
	size_t count = 0;

	for (; count < parser->set->count; count++)
		names[count] = parser->set->rows[count].name;
	names[count++] = "help";
	snprintf(given, sizeof(given), "%.*s", (int)MIN(length, sizeof(given) - 1), name);
	nearest = str_nearest(given, names, count);
	return err_say(parser->err, -EINVAL, "unknown option --%s%s%s%s", given, nearest ? "; did you mean --" : "",
	               nearest ? nearest : "", nearest ? "?" : "");
}

static int parse_long(struct parser *parser, char *argument)
{
	char *name = argument + 2;
	char *equals = strchr(name, '=');
	size_t length = equals ? (size_t)(equals - name) : strlen(name);
	const struct option_row *row = NULL;
	char *value = equals ? equals + 1 : NULL;

	if (strcmp(name, "help") == 0) {
		parser->is_help = true;
		return 0;
	}
	for (size_t i = 0; i < parser->set->count && !row; i++)
		if (strlen(parser->set->rows[i].name) == length && strncmp(parser->set->rows[i].name, name, length) == 0)
			row = &parser->set->rows[i];
	if (!row)
		return fail_unknown_option(parser, name, length);
	if (row->kind == OPTION_FLAG && value)
		return err_say(parser->err, -EINVAL, "--%s takes no value", row->name);
	if (row->fallback && !value) {
		*(const char **)place_of(parser, row) = row->fallback;
		return 0;
	}
	if (row->kind != OPTION_FLAG && !value) {
		if (parser->at == parser->argc)
			return err_say(parser->err, -EINVAL, "--%s needs a value: --%s=%s", row->name, row->name,
			               row->value);
		value = parser->argv[parser->at++];
	}
	return set_value(parser, row, value);
}

/* A bundle of letters; the first that takes a value takes the rest of the argument, or the next one. */
static int parse_short(struct parser *parser, char *argument)
{
	for (char *letter = argument + 1; *letter != '\0'; letter++) {
		const struct option_row *row = NULL;
		char *value = letter + 1;
		int code;

		for (size_t i = 0; i < parser->set->count && !row; i++)
			if (parser->set->rows[i].letter == *letter)
				row = &parser->set->rows[i];
		if (!row && *letter == 'h') {
			parser->is_help = true;
			return 0;
		}
		if (!row)
			return err_say(parser->err, -EINVAL, "unknown option -%c", *letter);
		if (row->fallback && (*value == '=' || is_choice(row->choices, value, strlen(value))))
			return set_value(parser, row, value + (*value == '='));
		if (row->fallback) {
			*(const char **)place_of(parser, row) = row->fallback;
			continue;
		}
		if (row->kind == OPTION_FLAG) {
			set_value(parser, row, NULL);
			continue;
		}
		if (*value == '\0' && parser->at == parser->argc)
			return err_say(parser->err, -EINVAL, "-%c needs a value: -%c %s", *letter, *letter, row->value);
		code = set_value(parser, row, *value != '\0' ? value : parser->argv[parser->at++]);
		return code;
	}
	return 0;
}

static void take_rest(struct parser *parser)
{
	while (parser->at < parser->argc)
		parser->rest->texts[parser->rest->count++] = parser->argv[parser->at++];
}

int options_parse(const struct option_set *set, int argc, char **argv, void *values, struct option_rest *rest,
                  bool *ret_help, struct err *err)
{
	struct parser parser = { .set = set, .argc = argc, .argv = argv, .values = values, .rest = rest, .err = err };
	int code = 0;

	ASSERT(set->count <= ROWS_MAX);
	rest->texts = xcalloc((size_t)argc + 1, sizeof(*rest->texts));
	rest->count = 0;
	while (parser.at < argc && code == 0 && !parser.is_help) {
		char *argument = argv[parser.at++];

		if (strcmp(argument, "--") == 0)
			take_rest(&parser);
		else if (strncmp(argument, "--", 2) == 0)
			code = parse_long(&parser, argument);
		else if (argument[0] == '-' && argument[1] != '\0')
			code = parse_short(&parser, argument);
		else {
			rest->texts[rest->count++] = argument;
			if (set->stops_at_first)
				take_rest(&parser);
		}
	}
	*ret_help = parser.is_help;
	return code;
}

void options_done(const struct option_set *set, void *values)
{
	for (size_t i = 0; i < set->count; i++) {
		struct option_list *list = (struct option_list *)((char *)values + set->rows[i].offset);

		if (set->rows[i].kind != OPTION_LIST && set->rows[i].kind != OPTION_NAMES)
			continue;
		free(list->texts);
		*list = (struct option_list){ 0 };
	}
}

static void add_row_help(const struct option_row *row, struct buf *buf)
{
	size_t start = buf->length;

	if (row->letter)
		buf_add_format(buf, "  -%c, --%s", row->letter, row->name);
	else
		buf_add_format(buf, "      --%s", row->name);
	if (row->value && row->fallback)
		buf_add_format(buf, "[=%s]", row->value);
	else if (row->value)
		buf_add_format(buf, "=%s", row->value);
	if (buf->length - start >= HELP_COLUMN)
		buf_add_format(buf, "\n%*s", HELP_COLUMN, "");
	else
		buf_add_format(buf, "%*s", (int)(HELP_COLUMN - (buf->length - start)), "");
	buf_add_format(buf, "%s\n", row->meaning);
}

void options_add_help(const struct option_set *set, struct buf *buf)
{
	static const struct option_row help = { .letter = 'h', .name = "help", .meaning = "this text" };

	for (size_t i = 0; i < set->count; i++)
		add_row_help(&set->rows[i], buf);
	add_row_help(&help, buf);
}
