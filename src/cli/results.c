#include "cli/results.h"

#include <math.h>
#include <string.h>

#include "base/units.h"
#include "cli/grid.h"

/* The final states, with where they are counted. */
static const struct {
	const char *state;
	size_t offset;
	const char *words;
} finals_table[] = {
	{ "succeeded", offsetof(struct tally, succeeded), "succeeded" },
	{ "failed", offsetof(struct tally, failed), "failed" },
	{ "cancelled", offsetof(struct tally, cancelled), "cancelled" },
	{ "timed_out", offsetof(struct tally, timed_out), "timed out" },
	{ "lost", offsetof(struct tally, lost), "lost" },
	{ "skipped", offsetof(struct tally, skipped), "skipped" },
};

static uint64_t count_of(const struct tally *tally, size_t i)
{
	return *(const uint64_t *)((const char *)tally + finals_table[i].offset);
}

bool tally_add(struct tally *tally, const char *state)
{
	for (size_t i = 0; i < ARRAY_SIZE(finals_table); i++) {
		if (strcmp(finals_table[i].state, state) != 0)
			continue;
		++*(uint64_t *)((char *)tally + finals_table[i].offset);
		return true;
	}
	return false;
}

uint64_t tally_ended(const struct tally *tally)
{
	uint64_t ended = 0;

	for (size_t i = 0; i < ARRAY_SIZE(finals_table); i++)
		ended += count_of(tally, i);
	return ended;
}

void tally_format(const struct tally *tally, uint64_t duration_ns, struct buf *buf)
{
	char text[UNITS_TEXT_MAX];
	uint64_t open = tally->total - MIN(tally->total, tally_ended(tally));
	const char *separator = ": ";

	buf_add_format(buf, "%llu task%s", (unsigned long long)tally->total, tally->total == 1 ? "" : "s");
	for (size_t i = 0; i < ARRAY_SIZE(finals_table); i++) {
		if (count_of(tally, i) == 0)
			continue;
		buf_add_format(buf, "%s%llu %s", separator, (unsigned long long)count_of(tally, i), finals_table[i].words);
		separator = ", ";
	}
	if (open > 0)
		buf_add_format(buf, "%s%llu not finished", separator, (unsigned long long)open);
	buf_add_format(buf, " in %s", units_format_duration(duration_ns, text));
}

json_t *tally_json(const struct tally *tally, uint64_t batch, uint64_t duration_ns)
{
	json_t *value = json_pack("{s:o, s:I}", "batch", batch > 0 ? json_integer((json_int_t)batch) : json_null(), "tasks",
	                          (json_int_t)tally->total);

	for (size_t i = 0; i < ARRAY_SIZE(finals_table); i++)
		json_object_set_new(value, finals_table[i].state, json_integer((json_int_t)count_of(tally, i)));
	json_object_set_new(value, "duration_s", json_real(round((double)duration_ns / 1e6) / 1e3));
	return value;
}

uint64_t results_ns(const json_t *seconds)
{
	double value = json_number_value(seconds);

	return value > 0 && value < 9e9 ? (uint64_t)(value * (double)NS_PER_SEC) : 0;
}

static void add_row(struct grid *grid, const json_t *event)
{
	const json_t *duration = json_object_get(event, "duration_s");
	const json_t *peak = json_object_get(event, "peak_memory_bytes");
	const json_t *files = json_object_get(event, "changed_files");
	const char *name = json_string_value(json_object_get(event, "name"));
	const char *branch = json_string_value(json_object_get(event, "branch"));
	char text[UNITS_TEXT_MAX];

	if (name)
		grid_add(grid, name);
	else
		grid_add_format(grid, "#%lld", (long long)json_integer_value(json_object_get(event, "task")));
	grid_add(grid, json_string_value(json_object_get(event, "state")));
	grid_add(grid, json_is_number(duration) ? units_format_duration(results_ns(duration), text) : "");
	grid_add(grid, json_is_integer(peak) ? units_format_size((uint64_t)json_integer_value(peak), text) : "");
	if (json_is_integer(files))
		grid_add_format(grid, "%lld", (long long)json_integer_value(files));
	else
		grid_add(grid, "");
	grid_add(grid, branch);
}

void results_add_table(struct buf *buf, json_t *const *finals, uint64_t count, unsigned width, bool has_colour)
{
	static const struct grid_column columns[] = {
		{ .title = "TASK", .is_flexible = true },       { .title = "STATE", .is_state = true },
		{ .title = "TIME", .is_right = true },          { .title = "PEAK MEMORY", .is_right = true },
		{ .title = "CHANGED FILES", .is_right = true }, { .title = "BRANCH" },
	};
	struct grid grid = { .columns = columns, .column_count = ARRAY_SIZE(columns) };

	for (uint64_t i = 0; i < count; i++)
		if (finals[i])
			add_row(&grid, finals[i]);
	grid_finish(&grid, buf, width, has_colour);
}
