#include "cli/template.h"

#include <errno.h>
#include <string.h>

enum transform { WHOLE, NO_EXTENSION, BASE_NAME, DIRECTORY, BASE_NO_EXTENSION, NUMBER, SLOT };

struct placeholder {
	enum transform transform;
	unsigned source; /* 0 = all */
	size_t length;   /* of the placeholder, braces included */
};

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
	size_t i = 1;
	unsigned source = 0;

	while (at[i] >= '0' && at[i] <= '9' && source < 1000)
		source = source * 10 + (unsigned)(at[i++] - '0');
	if (i > 1 && source == 0)
		return false;
	for (size_t form = 0; form < ARRAY_SIZE(forms); form++) {
		size_t length = strlen(forms[form].text);

		if (strncmp(at + i, forms[form].text, length) != 0)
			continue;
		if (source > 0 && forms[form].transform >= NUMBER)
			return false;
		*ret = (struct placeholder){ .transform = forms[form].transform, .source = source, .length = i + length };
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

int template_check(const char *text, unsigned sources, struct err *err)
{
	struct placeholder found;

	for (const char *at = text; (at = find(at, &found)) != NULL; at += found.length) {
		if (found.transform == SLOT)
			return err_say(
				err, -EINVAL,
				"{%%} (the slot's number) is not known before a task starts: use {#}, the task's number");
		if (found.source > sources)
			return err_say(err, -EINVAL, "%.*s stands for a value of source %u, but there %s %u",
			               (int)found.length, at, found.source, sources == 1 ? "is" : "are", sources);
	}
	return 0;
}

/* The part of a value that a transform leaves. */
static void cut(const char *value, enum transform transform, const char **ret_start, size_t *ret_length)
{
	const char *slash = strrchr(value, '/');
	const char *base = slash ? slash + 1 : value;
	const char *dot = strrchr(base, '.');
	const char *end = value + strlen(value);

	*ret_start = transform == BASE_NAME || transform == BASE_NO_EXTENSION ? base : value;
	if (transform == DIRECTORY) {
		*ret_start = slash ? value : ".";
		*ret_length = slash ? MAX((size_t)(slash - value), (size_t)1) : 1;
		return;
	}
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

static void add_values(struct buf *buf, const struct placeholder *placeholder, const struct template_values *values,
                       bool is_quoted)
{
	unsigned first = placeholder->source > 0 ? placeholder->source - 1 : 0;
	unsigned end = placeholder->source > 0 ? placeholder->source : values->count;

	if (placeholder->transform == NUMBER) {
		buf_add_format(buf, "%llu", (unsigned long long)values->number);
		return;
	}
	for (unsigned i = first; i < end && i < values->count; i++) {
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
