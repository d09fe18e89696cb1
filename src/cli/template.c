#include "cli/template.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum transform { WHOLE, NO_EXTENSION, BASE_NAME, DIRECTORY, BASE_NO_EXTENSION, NUMBER, SLOT };

struct placeholder {
	enum transform transform;
	int position;  /* of the value, from 1; from the end when negative; 0 = all */
	size_t length; /* of the placeholder, braces included */
};

enum { POSITION_MAX = 100000 };

/* The placeholder at `at`, which is a brace. */
static bool parse(const char *at, struct placeholder *ret)
{
	static const struct {
		const char *text;
		enum transform transform;
	} forms[] = {
		{ "}", WHOLE },       { ".}", NO_EXTENSION },       { "/}", BASE_NAME },
		{ "//}", DIRECTORY }, { "/.}", BASE_NO_EXTENSION }, { "#}", NUMBER },
		{ "%}", SLOT },
	};
	bool is_from_end = at[1] == '-';
	size_t digits = is_from_end ? 2 : 1;
	size_t i = digits;
	int position = 0;

	while (at[i] >= '0' && at[i] <= '9' && position < POSITION_MAX)
		position = position * 10 + (at[i++] - '0');
	if ((i > digits || is_from_end) && position == 0)
		return false;
	for (size_t form = 0; form < ARRAY_SIZE(forms); form++) {
		size_t length = strlen(forms[form].text);

		if (strncmp(at + i, forms[form].text, length) != 0)
			continue;
		if (position > 0 && forms[form].transform >= NUMBER)
			return false;
		*ret = (struct placeholder){
			.transform = forms[form].transform,
			.position = is_from_end ? -position : position,
			.length = i + length,
		};
		return true;
	}
	return false;
}

/* The next placeholder from `text` on, or NULL. */
static const char *find(const char *text, struct placeholder *ret)
{
	for (const char *at = strchr(text, '{'); at; at = strchr(at + 1, '{'))
		if (parse(at, ret))
			return at;
	return NULL;
}

bool template_has_placeholder(const char *text)
{
	struct placeholder found;

	return find(text, &found) != NULL;
}

bool template_has_slot(const char *text)
{
	struct placeholder found;

	for (const char *at = text; (at = find(at, &found)) != NULL; at += found.length)
		if (found.transform == SLOT)
			return true;
	return false;
}

int template_check(const char *text, size_t count, struct err *err)
{
	struct placeholder found;

	for (const char *at = text; (at = find(at, &found)) != NULL; at += found.length)
		if ((size_t)abs(found.position) > count)
			return err_say(err, -EINVAL, "%.*s stands for a value of source %d, but there %s %zu",
			               (int)found.length, at, abs(found.position), count == 1 ? "is" : "are", count);
	return 0;
}

static size_t without_slashes(const char *text, size_t length)
{
	while (length > 1 && text[length - 1] == '/')
		length--;
	return length;
}

/* As dirname(1): slashes at the end do not count. */
static void cut_directory(const char *value, const char **ret_start, size_t *ret_length)
{
	size_t length = without_slashes(value, strlen(value));

	while (length > 0 && value[length - 1] != '/')
		length--;
	*ret_start = length > 0 ? value : ".";
	*ret_length = length > 0 ? without_slashes(value, length) : 1;
}

/* The part of a value that a transform leaves. */
static void cut(const char *value, enum transform transform, const char **ret_start, size_t *ret_length)
{
	const char *slash = strrchr(value, '/');
	const char *base = slash ? slash + 1 : value;
	const char *dot = strrchr(base, '.');
	const char *end = value + strlen(value);

	if (transform == DIRECTORY) {
		cut_directory(value, ret_start, ret_length);
		return;
	}
	*ret_start = transform == BASE_NAME || transform == BASE_NO_EXTENSION ? base : value;
	if ((transform == NO_EXTENSION || transform == BASE_NO_EXTENSION) && dot)
		end = dot;
	*ret_length = (size_t)(end - *ret_start);
}

static bool is_safe(const char *text, size_t length)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,";

	return length > 0 && strspn(text, safe) >= length;
}

static void add_quoted(struct buf *buf, const char *text, size_t length)
{
	if (is_safe(text, length)) {
		buf_add(buf, text, length);
		return;
	}
	buf_add_byte(buf, '\'');
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\'')
			buf_add_text(buf, "'\\''");
		else
			buf_add_byte(buf, text[i]);
	}
	buf_add_byte(buf, '\'');
}

void template_add_quoted(struct buf *buf, const char *value)
{
	add_quoted(buf, value, strlen(value));
}

/* The values that a placeholder stands for: [*ret_first, *ret_end). */
static void find_values(const struct placeholder *placeholder, size_t count, size_t *ret_first, size_t *ret_end)
{
	size_t distance = (size_t)abs(placeholder->position);

	*ret_first = 0;
	*ret_end = count;
	if (placeholder->position == 0)
		return;
	if (distance > count)
		*ret_end = 0;
	else
		*ret_first = placeholder->position > 0 ? distance - 1 : count - distance;
	*ret_end = MIN(*ret_end, *ret_first + 1);
}

static void add_values(struct buf *buf, const struct placeholder *placeholder, const struct template_values *values,
                       bool is_quoted)
{
	size_t first, end;

	if (placeholder->transform == NUMBER) {
		buf_add_format(buf, "%llu", (unsigned long long)values->number);
		return;
	}
	if (placeholder->transform == SLOT) {
		buf_add_text(buf, values->slot);
		return;
	}
	find_values(placeholder, values->count, &first, &end);
	for (size_t i = first; i < end; i++) {
		const char *start;
		size_t length;

		if (i > first)
			buf_add_byte(buf, ' ');
		cut(values->texts[i], placeholder->transform, &start, &length);
		if (is_quoted)
			add_quoted(buf, start, length);
		else
			buf_add(buf, start, length);
	}
}

void template_expand(struct buf *buf, const char *text, const struct template_values *values, bool is_quoted)
{
	struct placeholder found;

	for (const char *at; (at = find(text, &found)) != NULL; text = at + found.length) {
		buf_add(buf, text, (size_t)(at - text));
		add_values(buf, &found, values, is_quoted);
	}
	buf_add_text(buf, text);
}
