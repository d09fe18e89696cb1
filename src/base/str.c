#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"

enum { NEAREST_WORD_MAX = 64 };

/* Length of the valid sequence at `at`, 0 when it is not valid. */
static size_t utf8_length(const unsigned char *at, size_t left)
{
	unsigned char first = at[0];
	size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;

	if (length == 0 || length > left)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) || (first == 0xf0 && at[1] < 0x90) ||
	    (first == 0xf4 && at[1] > 0x8f))
		return 0;
	return length;
}

bool str_is_utf8(const void *bytes, size_t length)
{
	const unsigned char *at = bytes;

	while (length > 0) {
		size_t step = utf8_length(at, length);

		if (step == 0)
			return false;
		at += step;
		length -= step;
	}
	return true;
}

/* Optimal string alignment distance (Damerau 1964, restricted): insert, delete, replace, swap neighbours. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][NEAREST_WORD_MAX + 1];
	unsigned *before = rows[0], *previous = rows[1], *current = rows[2];
	size_t a_length = strlen(a), b_length = strlen(b);

	if (a_length > NEAREST_WORD_MAX || b_length > NEAREST_WORD_MAX)
		return UINT32_MAX;
	for (size_t j = 0; j <= b_length; j++)
		previous[j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned *spare = before;

		current[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			unsigned replace = previous[j - 1] + (a[i - 1] != b[j - 1]);

			current[j] = MIN(MIN(previous[j], current[j - 1]) + 1, replace);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				current[j] = MIN(current[j], before[j - 2] + 1);
		}
		before = previous;
		previous = current;
		current = spare;
	}
	return previous[b_length];
}

const char *str_nearest(const char *word, const char *const *candidates, size_t count)
{
	const char *best = NULL;
	unsigned best_distance = (unsigned)(strlen(word) + 2) / 3 + 1;

	for (size_t i = 0; i < count; i++) {
		unsigned d = distance(word, candidates[i]);

		if (d < best_distance) {
			best_distance = d;
			best = candidates[i];
		}
	}
	return best;
}

/* Characters that have no picture but an effect, beyond the C0 controls. */
static const struct {
	unsigned first;
	unsigned last;
} hostile_characters[] = {
	{ 0x7f, 0x9f },       /* DEL, C1 controls */
	{ 0x61c, 0x61c },     /* direction of writing */
	{ 0x200e, 0x200f },
	{ 0x2028, 0x202e },   /* line and paragraph ends, direction */
	{ 0x2066, 0x206f },   /* direction, shaping */
	{ 0xfff9, 0xfffb },   /* annotations */
	{ 0xe0000, 0xe007f }, /* invisible tags */
};

static unsigned decode(const unsigned char *at, size_t length)
{
	unsigned value = length == 1 ? at[0] : at[0] & (0x7fu >> length);

	for (size_t i = 1; i < length; i++)
		value = value << 6 | (at[i] & 0x3f);
	return value;
}

size_t str_hostile_length(const void *text, size_t left)
{
	const unsigned char *at = text;
	size_t length;
	unsigned value;

	if (at[0] >= 0x20 && at[0] < 0x7f)
		return 0;
	length = utf8_length(at, left);
	if (length <= 1)
		return 1; /* what is left of one byte: C0, DEL, no UTF-8 */
	value = decode(at, length);
	for (size_t i = 0; i < ARRAY_SIZE(hostile_characters); i++)
		if (value >= hostile_characters[i].first && value <= hostile_characters[i].last)
			return length;
	return 0;
}

void str_blank_hostile(char *text, size_t length)
{
	for (size_t i = 0; i < length;) {
		size_t hostile = str_hostile_length(text + i, length - i);

		memset(text + i, '?', hostile);
		i += hostile ? hostile : utf8_length((const unsigned char *)text + i, length - i);
	}
}

void str_add_visible(struct buf *buf, const void *text, size_t length)
{
	const unsigned char *at = text;

	while (length > 0) {
		size_t step = str_hostile_length(at, length);

		if (step > 0) {
			for (size_t i = 0; i < step; i++)
				buf_add_format(buf, "\\x%02x", at[i]);
		} else {
			step = utf8_length(at, length);
			buf_add(buf, at, step);
		}
		at += step;
		length -= step;
	}
}

void str_trim_utf8(char *text)
{
	size_t length = strlen(text);
	size_t start = length;

	while (start > 0 && length - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
		start--;
	if (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0xc0 &&
	    utf8_length((unsigned char *)text + start - 1, length - start + 1) == 0)
		text[start - 1] = '\0';
}

bool str_is_task_name(const char *name)
{
	size_t length = strlen(name);
	bool only_digits = true;

	if (length < 1 || length > 64 || name[0] == '-' || name[0] == '.')
		return false;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c >= 0x80 || (!isalnum(c) && c != '.' && c != '_' && c != '-'))
			return false;
		only_digits = only_digits && isdigit(c);
	}
	return !only_digits;
}

int str_parse_u64(const char *text, uint64_t limit, uint64_t *ret)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text != '\0'; text++) {
		uint64_t digit;

		if (*text < '0' || *text > '9')
			return -EINVAL;
		digit = (uint64_t)(*text - '0');
		if (value > (limit - digit) / 10 || digit > limit)
			return -ERANGE;
		value = value * 10 + digit;
	}
	*ret = value;
	return 0;
}
