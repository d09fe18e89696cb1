#include "cli/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/limits.h"

enum { BYTES_MAX = 512 << 20, EXPRESSION_MAX = 1000, COLUMNS_MAX = 100000 };

/* Regular expressions of the C library know no \t, and users of tables know nothing else. */
static void add_expression(struct buf *buf, const char *text)
{
	for (const char *at = text; *at; at++) {
		if (at[0] == '\\' && at[1] == 't') {
			buf_add_byte(buf, '\t');
			at++;
		} else if (at[0] == '\\' && at[1]) {
			buf_add(buf, at++, 2);
		} else {
			buf_add_byte(buf, *at);
		}
	}
}

static int compile(struct sources *sources, const char *text, struct err *err)
{
	CLEANUP_BUF struct buf expression = BUF_INIT;
	char reason[128];
	int code;

	if (*text == '\0' || strlen(text) > EXPRESSION_MAX)
		return err_say(err, -EINVAL, "--colsep: a separator has 1 to %d characters", EXPRESSION_MAX);
	add_expression(&expression, text);
	code = regcomp(&sources->separator, expression.bytes, REG_EXTENDED);
	if (code != 0) {
		regerror(code, &sources->separator, reason, sizeof(reason));
		return err_say(err, -EINVAL, "--colsep: '%.80s' is no regular expression: %s", text, reason);
	}
	sources->has_separator = true;
	if (regexec(&sources->separator, "", 0, NULL, 0) == 0)
		return err_say(err, -EINVAL, "--colsep: '%.80s' also matches nothing, which is between all letters", text);
	return 0;
}

int sources_init(struct sources *sources, const struct sources_options *options, struct err *err)
{
	*sources = (struct sources){
		.records_per_task = options->records_per_task,
		.links_all = options->links_all,
		.line_end = options->is_nul_separated ? '\0' : '\n',
	};
	return options->column_separator ? compile(sources, options->column_separator, err) : 0;
}

void sources_done(struct sources *sources)
{
	for (unsigned i = 0; i < sources->count; i++) {
		free(sources->items[i].values);
		free(sources->items[i].starts);
		buf_done(&sources->items[i].text);
	}
	if (sources->has_separator)
		regfree(&sources->separator);
	sources->has_separator = false;
	sources->count = 0;
}

struct source *sources_add(struct sources *sources, bool is_linked, struct err *err)
{
	struct source *source = &sources->items[sources->count];

	if (sources->count == SOURCES_MAX) {
		err_say(err, -E2BIG, "more than %d sources of values (::: and -a)", SOURCES_MAX);
		return NULL;
	}
	if (is_linked && sources->count == 0) {
		err_say(err, -EINVAL, "':::+' links a source to the one before it, and there is none: begin with ':::'");
		return NULL;
	}
	sources->count++;
	source->is_linked = is_linked;
	return source;
}

static void add_value(struct source *source, const char *value)
{
	if (source->count == source->capacity) {
		source->capacity = MAX(source->capacity * 2, (size_t)64);
		source->values = xrealloc(source->values, source->capacity * sizeof(*source->values));
	}
	source->values[source->count++] = value;
}

/* Cuts the row at its separators. */
static int add_columns(struct sources *sources, struct source *source, char *text, struct err *err)
{
	const char *begin = text;
	size_t first = source->count;
	regmatch_t match;

	if (source->row_count == source->starts_capacity) {
		source->starts_capacity = MAX(source->starts_capacity * 2, (size_t)64);
		source->starts = xrealloc(source->starts, source->starts_capacity * sizeof(*source->starts));
	}
	source->starts[source->row_count] = first;
	while (regexec(&sources->separator, text, 1, &match, text == begin ? 0 : REG_NOTBOL) == 0) {
		if (match.rm_eo == 0 || source->count - first == COLUMNS_MAX)
			return err_say(err, -EFBIG, "--colsep: more than %d columns in a row", COLUMNS_MAX);
		text[match.rm_so] = '\0';
		add_value(source, text);
		text += match.rm_eo;
	}
	add_value(source, text);
	return 0;
}

int sources_add_row(struct sources *sources, struct source *source, char *text, struct err *err)
{
	int code = 0;

	if (source->row_count == LIMIT_DRAFT_TASKS)
		return err_say(err, -EFBIG, "more than %d values", LIMIT_DRAFT_TASKS);
	if (sources->has_separator)
		code = add_columns(sources, source, text, err);
	else
		add_value(source, text);
	source->row_count++;
	return code;
}

/* NUL inside a line could not be passed on to a command. */
static int split_rows(struct sources *sources, struct source *source, const char *name, struct err *err)
{
	char *at = source->text.bytes;
	char *end = at + source->text.length;

	if (sources->line_end != '\0' && at && memchr(at, '\0', source->text.length))
		return err_say(err, -EINVAL, "'%s' holds NUL bytes: give -0 when values end with them", name);
	while (at < end) {
		char *stop = memchr(at, sources->line_end, (size_t)(end - at));
		int code;

		if (!stop)
			stop = end;
		*stop = '\0';
		code = sources_add_row(sources, source, at, err);
		if (code < 0)
			return code;
		at = stop + 1;
	}
	return 0;
}

int sources_read(struct sources *sources, struct source *source, int fd, const char *name, struct err *err)
{
	int code = fd_read_all(fd, &source->text, BYTES_MAX);

	if (code == -EFBIG)
		return err_say(err, code, "'%s' has more than %d MiB of values", name, BYTES_MAX >> 20);
	if (code < 0)
		return err_set(err, code, "cannot read values from '%s'", name);
	return split_rows(sources, source, name, err);
}

/* Sources [first, *ret_end) go side by side; how many rows they have together. */
static uint64_t group_rows(const struct sources *sources, unsigned first, unsigned *ret_end)
{
	uint64_t rows = sources->items[first].row_count;
	unsigned end = first + 1;

	for (; end < sources->count && (sources->links_all || sources->items[end].is_linked); end++) {
		uint64_t other = sources->items[end].row_count;

		if (!sources->links_all)
			rows = MIN(rows, other);
		else
			rows = rows == 0 || other == 0 ? 0 : MAX(rows, other);
	}
	*ret_end = end;
	return rows;
}

int sources_count_tasks(struct sources *sources, struct err *err)
{
	unsigned end;

	sources->record_count = 1;
	for (unsigned first = 0; first < sources->count; first = end) {
		sources->record_count *= group_rows(sources, first, &end);
		if (sources->record_count > LIMIT_DRAFT_TASKS)
			return err_say(err, -EFBIG, "the values make more than %d tasks", LIMIT_DRAFT_TASKS);
	}
	sources->task_count = sources->record_count;
	if (sources->count > 0 && sources->records_per_task > 1)
		sources->task_count = (sources->record_count + sources->records_per_task - 1) / sources->records_per_task;
	return 0;
}

size_t sources_width(const struct sources *sources)
{
	return sources->has_separator || sources->records_per_task != 1 ? SIZE_MAX : sources->count;
}

static void add_row(const struct source *source, size_t row, struct source_values *values)
{
	size_t first = source->starts ? source->starts[row] : row;
	size_t end = !source->starts ? row + 1 : row + 1 < source->row_count ? source->starts[row + 1] : source->count;

	if (values->count + (end - first) > values->capacity) {
		values->capacity = MAX(values->capacity * 2, values->count + (end - first));
		values->texts = xrealloc(values->texts, values->capacity * sizeof(*values->texts));
	}
	for (size_t i = first; i < end; i++)
		values->texts[values->count++] = source->values[i];
}

static void add_record(const struct sources *sources, uint64_t record, struct source_values *values)
{
	uint64_t rest = sources->record_count;
	unsigned end;

	for (unsigned first = 0; first < sources->count; first = end) {
		uint64_t rows = group_rows(sources, first, &end);
		uint64_t row;

		rest /= rows;
		row = record / rest % rows;
		for (unsigned i = first; i < end; i++)
			add_row(&sources->items[i], row % sources->items[i].row_count, values);
	}
}

void sources_get(const struct sources *sources, uint64_t index, struct source_values *values)
{
	uint64_t first = index * sources->records_per_task;

	ASSERT(index < sources->task_count);
	values->count = 0;
	if (sources->count == 0)
		return;
	for (uint64_t i = first; i < first + sources->records_per_task && i < sources->record_count; i++)
		add_record(sources, i, values);
}

void source_values_done(struct source_values *values)
{
	free(values->texts);
	*values = (struct source_values){ 0 };
}
