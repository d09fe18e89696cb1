#include "config/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

enum { BLOCK_NODES = 256, SHOWN_LINE_MAX = 100 };

struct block {
	struct block *next;
	unsigned used;
	struct config_node nodes[BLOCK_NODES];
};

struct text {
	struct text *next;
	char bytes[];
};

struct anchor {
	struct anchor *next;
	struct config_node *node;
	bool is_open; /* the node's end has not been read yet */
	char *name;
};

struct config_file {
	char *name;
	char *bytes;
	size_t length;
	struct block *blocks;
	struct text *texts;
	struct anchor *anchors; /* latest first */
	unsigned anchor_count;
	struct config_node *root;
};

/* Where the reader stands: the lists and maps not yet ended. */
struct level {
	struct config_node *node;
	struct config_node *last;
	struct config_node *key; /* of a map: a key that waits for its value */
	struct anchor *anchor;   /* of the node, or NULL */
};

struct reader {
	struct config_file *file;
	struct fy_parser *parser;
	struct fy_diag *diag; /* keeps what the parser complains about */
	struct err *err;
	struct level levels[CONFIG_DEPTH_MAX];
	unsigned depth;
	bool has_document;
};

static struct config_node *node_new(struct config_file *file, enum config_kind kind, const struct fy_mark *mark)
{
	struct config_node *node;

	if (!file->blocks || file->blocks->used == BLOCK_NODES) {
		struct block *block = xcalloc(1, sizeof(*block));

		block->next = file->blocks;
		file->blocks = block;
	}
	node = &file->blocks->nodes[file->blocks->used++];
	node->kind = kind;
	node->line = mark && mark->line >= 0 ? (unsigned)mark->line + 1 : 1;
	node->column = mark && mark->column >= 0 ? (unsigned)mark->column + 1 : 1;
	node->weight = 1;
	return node;
}

static const char *text_new(struct config_file *file, const char *bytes, size_t length)
{
	struct text *text = xcalloc(1, sizeof(*text) + length + 1);

	if (length > 0)
		memcpy(text->bytes, bytes, length);
	text->next = file->texts;
	file->texts = text;
	return text->bytes;
}

/* The text of line `line`, control characters made visible, cut to a window around `column`; the caret's place in *caret. */
static void add_line(struct buf *buf, const struct config_file *file, unsigned line, unsigned column, unsigned *caret)
{
	const char *at = file->bytes;
	const char *end = file->bytes + file->length;
	const char *line_end;
	unsigned skipped = 0, shown = 0;

	for (unsigned i = 1; i < line && at < end; i++) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		at = newline ? newline + 1 : end;
	}
	line_end = memchr(at, '\n', (size_t)(end - at));
	if (!line_end)
		line_end = end;
	while (at < line_end && skipped + SHOWN_LINE_MAX / 2 < column && column > SHOWN_LINE_MAX) {
		at++;
		while (at < line_end && ((unsigned char)*at & 0xc0) == 0x80)
			at++;
		skipped++;
	}
	*caret = column > skipped ? column - skipped : 1;
	while (at < line_end && shown++ < SHOWN_LINE_MAX) {
		size_t length = 1;

		while (at + length < line_end && ((unsigned char)at[length] & 0xc0) == 0x80)
			length++;
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			buf_add_byte(buf, ' ');
		else
			buf_add(buf, at, length);
		at += length;
	}
}

/* Cuts the sentence so that the line and the caret still fit. */
static int fail_at(const struct config_file *file, unsigned line, unsigned column, int code, struct err *err,
                   const char *sentence)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	unsigned caret;

	add_line(&shown, file, line, column, &caret);
	return err_say(err, code, "%.200s:%u:%u: %.400s\n    %.300s\n    %*s", file->name, line, column, sentence,
	               shown.bytes ? shown.bytes : "", (int)MIN(caret, (unsigned)SHOWN_LINE_MAX + 1), "^");
}

int config_fail(const struct config_file *file, const struct config_node *at, int code, struct err *err, const char *format,
                ...)
{
	char sentence[512];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	return fail_at(file, at ? at->line : 1, at ? at->column : 1, code, err, sentence);
}

/* What the library found wrong, in its words. */
static int fail_by_library(struct reader *reader)
{
	void *position = NULL;
	const struct fy_diag_error *error;

	if (errno == ENOMEM)
		alloc_fail(); /* the library tells it apart in no other way, and a good file would be called bad */
	error = fy_diag_errors_iterate(reader->diag, &position);
	if (!error || !error->msg)
		return config_fail(reader->file, NULL, -EINVAL, reader->err, "this is no YAML");
	return fail_at(reader->file, error->line > 0 ? (unsigned)error->line : 1,
	               error->column > 0 ? (unsigned)error->column : 1, -EINVAL, reader->err, error->msg);
}

/* Remembers what an anchor stands for; *ret_anchor is NULL without one. */
static int add_anchor(struct reader *reader, struct fy_token *token, struct config_node *node, struct anchor **ret_anchor)
{
	struct anchor *anchor;
	const char *name;
	size_t length;

	*ret_anchor = NULL;
	if (!token)
		return 0;
	if (reader->file->anchor_count++ == CONFIG_ANCHORS_MAX)
		return config_fail(reader->file, node, -EFBIG, reader->err, "more than %d anchors", CONFIG_ANCHORS_MAX);
	name = fy_token_get_text(token, &length);
	anchor = xcalloc(1, sizeof(*anchor));
	anchor->name = xmemdup0(name ? name : "", name ? length : 0);
	anchor->node = node;
	anchor->is_open = node->kind != CONFIG_SCALAR;
	anchor->next = reader->file->anchors;
	reader->file->anchors = anchor;
	*ret_anchor = anchor;
	return 0;
}

/* Puts a node into the list or map that is being read, or makes it a key of it. */
static int place_node(struct reader *reader, struct config_node *node)
{
	struct level *level = reader->depth > 0 ? &reader->levels[reader->depth - 1] : NULL;

	if (!level) {
		reader->file->root = node;
		return 0;
	}
	if (level->node->kind == CONFIG_MAP && !level->key) {
		if (node->kind != CONFIG_SCALAR)
			return config_fail(reader->file, node, -EINVAL, reader->err, "a key must be text, not %s",
			                   config_node_describe(node));
		if (level->node->count == CONFIG_KEYS_MAX)
			return config_fail(reader->file, node, -EFBIG, reader->err, "more than %d keys in one map",
			                   CONFIG_KEYS_MAX);
		if (config_node_find(level->node, node->text))
			return config_fail(reader->file, node, -EINVAL, reader->err, "the key '%s' is given twice",
			                   node->text);
		level->key = node;
		return 0;
	}
	node->key = TAKE_PTR(level->key);
	if (level->last)
		level->last->next = node;
	else
		level->node->first = node;
	level->last = node;
	level->node->count++;
	return 0;
}

/* Adds what a finished node expands to, to the one it is in. */
static int add_weight(struct reader *reader, const struct config_node *node)
{
	struct config_node *parent;

	if (reader->depth == 0)
		return 0;
	parent = reader->levels[reader->depth - 1].node;
	parent->weight += node->weight;
	if (parent->weight > CONFIG_NODES_MAX)
		return config_fail(reader->file, node, -EFBIG, reader->err, "this makes more than %d entries%s",
		                   CONFIG_NODES_MAX, node->weight > 1 ? ", because aliases repeat what they stand for" : "");
	return 0;
}

/* A value that is not there stands where its key does. */
static void place_empty(const struct reader *reader, struct config_node *node, struct fy_event *event)
{
	const struct config_node *key = reader->depth > 0 ? reader->levels[reader->depth - 1].key : NULL;

	if (key && !fy_event_start_mark(event)) {
		node->line = key->line;
		node->column = key->column;
	}
}

static int read_scalar(struct reader *reader, struct fy_event *event)
{
	size_t length = 0;
	const char *text = fy_token_get_text(event->scalar.value, &length);
	enum fy_scalar_style style = fy_token_scalar_style(event->scalar.value);
	struct config_node *node = node_new(reader->file, CONFIG_SCALAR, fy_event_start_mark(event));
	struct anchor *anchor;
	int code;

	if (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED)
		node->column -= node->column > 1; /* the mark is behind the quote */
	place_empty(reader, node, event);
	if (text && memchr(text, '\0', length))
		return config_fail(reader->file, node, -EINVAL, reader->err, "the text holds a NUL character");
	node->is_plain = style == FYSS_PLAIN;
	node->text = text_new(reader->file, text, text ? length : 0);
	code = add_anchor(reader, event->scalar.anchor, node, &anchor);
	if (code == 0)
		code = place_node(reader, node);
	return code < 0 ? code : add_weight(reader, node);
}

static int read_alias(struct reader *reader, struct fy_event *event)
{
	struct config_node *node = node_new(reader->file, CONFIG_SCALAR, fy_event_start_mark(event));
	size_t length = 0;
	const char *name = fy_token_get_text(event->alias.anchor, &length);
	const struct anchor *anchor = reader->file->anchors;
	int code;

	node->column -= node->column > 1; /* the mark is behind the asterisk */
	while (anchor && (strlen(anchor->name) != length || memcmp(anchor->name, name, length) != 0))
		anchor = anchor->next;
	if (!anchor)
		return config_fail(reader->file, node, -EINVAL, reader->err, "the alias *%.*s has no anchor &%.*s before it",
		                   (int)MIN(length, (size_t)64), name, (int)MIN(length, (size_t)64), name);
	if (anchor->is_open)
		return config_fail(reader->file, node, -EINVAL, reader->err,
		                   "the alias *%s stands inside what it stands for", anchor->name);
	node->kind = anchor->node->kind;
	node->is_plain = anchor->node->is_plain;
	node->count = anchor->node->count;
	node->weight = anchor->node->weight;
	node->text = anchor->node->text;
	node->first = anchor->node->first;
	code = place_node(reader, node);
	return code < 0 ? code : add_weight(reader, node);
}

static int read_start(struct reader *reader, struct fy_event *event, enum config_kind kind)
{
	struct config_node *node = node_new(reader->file, kind, fy_event_start_mark(event));
	struct fy_token *token = kind == CONFIG_MAP ? event->mapping_start.anchor : event->sequence_start.anchor;
	struct anchor *anchor = NULL;
	int code = place_node(reader, node);

	if (code == 0)
		code = add_anchor(reader, token, node, &anchor);
	if (code < 0)
		return code;
	if (reader->depth == CONFIG_DEPTH_MAX)
		return config_fail(reader->file, node, -EFBIG, reader->err, "nested deeper than %d levels",
		                   CONFIG_DEPTH_MAX);
	reader->levels[reader->depth++] = (struct level){ .node = node, .anchor = anchor };
	return 0;
}

static int read_end(struct reader *reader)
{
	struct level *level;

	ASSERT(reader->depth > 0);
	level = &reader->levels[--reader->depth];
	if (level->anchor)
		level->anchor->is_open = false;
	return add_weight(reader, level->node);
}

static int read_document_start(struct reader *reader, struct fy_event *event)
{
	struct config_node at = { .line = 1, .column = 1 };
	const struct fy_mark *mark = fy_event_start_mark(event);

	if (mark) {
		at.line = (unsigned)mark->line + 1;
		at.column = (unsigned)mark->column + 1;
	}
	if (reader->has_document)
		return config_fail(reader->file, &at, -EINVAL, reader->err,
		                   "a second document begins here; one is expected");
	reader->has_document = true;
	return 0;
}

static int read_event(struct reader *reader, struct fy_event *event)
{
	switch (event->type) {
	case FYET_DOCUMENT_START:
		return read_document_start(reader, event);
	case FYET_SCALAR:
		return read_scalar(reader, event);
	case FYET_ALIAS:
		return read_alias(reader, event);
	case FYET_MAPPING_START:
		return read_start(reader, event, CONFIG_MAP);
	case FYET_SEQUENCE_START:
		return read_start(reader, event, CONFIG_LIST);
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		return read_end(reader);
	default:
		return 0;
	}
}

static int read_events(struct reader *reader)
{
	for (;;) {
		struct fy_event *event = fy_parser_parse(reader->parser);
		bool is_end = event && event->type == FYET_STREAM_END;
		int code;

		if (!event)
			return fail_by_library(reader);
		code = read_event(reader, event);
		fy_parser_event_free(reader->parser, event);
		if (code < 0 || is_end)
			return code;
	}
}

/* NUL and what is no UTF-8 are refused before the parser sees them. */
static int check_bytes(const struct config_file *file, struct err *err)
{
	unsigned line = 1;
	const char *at = file->bytes;
	const char *end = file->bytes + file->length;

	if (str_is_utf8(file->bytes, file->length) && !memchr(file->bytes, '\0', file->length))
		return 0;
	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t length = (size_t)((newline ? newline : end) - at);

		if (!str_is_utf8(at, length) || memchr(at, '\0', length))
			break;
		line++;
		at += length + 1;
	}
	return err_say(err, -EINVAL, "%s:%u:1: this line is not valid UTF-8 text", file->name, line);
}

static bool is_json_name(const char *name)
{
	size_t length = strlen(name);

	return length > 5 && strcmp(name + length - 5, ".json") == 0;
}

static int run_parser(struct reader *reader, struct fy_parse_cfg *settings)
{
	struct fy_diag_cfg diag_settings;
	int code;

	errno = 0;
	fy_diag_cfg_default(&diag_settings);
	diag_settings.fp = NULL;
	reader->diag = fy_diag_create(&diag_settings);
	ASSERT(reader->diag);
	fy_diag_set_collect_errors(reader->diag, true);
	settings->diag = reader->diag;
	reader->parser = fy_parser_create(settings);
	ASSERT(reader->parser);
	if (fy_parser_set_string(reader->parser, reader->file->bytes, reader->file->length) == 0)
		code = read_events(reader);
	else
		code = err_say(reader->err, -EINVAL, "%s: cannot be read as YAML", reader->file->name);
	fy_parser_destroy(reader->parser);
	fy_diag_destroy(reader->diag);
	return code;
}

int config_file_parse(const char *name, const char *bytes, size_t length, struct config_file **ret, struct err *err)
{
	struct fy_parse_cfg settings = { .flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 };
	struct config_file *file = xcalloc(1, sizeof(*file));
	struct reader reader = { .file = file, .err = err };
	int code;

	file->name = xstrdup(name);
	file->bytes = xmemdup0(bytes, length);
	file->length = length;
	if (is_json_name(name))
		settings.flags |= FYPCF_JSON_FORCE;
	code = check_bytes(file, err);
	if (code == 0)
		code = run_parser(&reader, &settings);
	if (code < 0) {
		config_file_free(file);
		return code;
	}
	*ret = file;
	return 0;
}

/* A device or directory as a file of settings would block or flood: only files and pipes. */
static int open_input(const char *path, struct err *err)
{
	CLEANUP_FD int fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
	                                           : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;

	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s'", path);
	if (fstat(fd, &status) < 0)
		return err_set(err, -errno, "cannot look at '%s'", path);
	if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode))
		return err_say(err, -EINVAL, "'%s' is no regular file", path);
	if (strcmp(path, "-") != 0)
		fd_set_nonblocking(fd, false);
	return TAKE_FD(fd);
}

int config_file_read(const char *path, size_t limit, struct config_file **ret, struct err *err)
{
	CLEANUP_BUF struct buf bytes = BUF_INIT;
	CLEANUP_FD int fd = open_input(path, err);
	int code;

	if (fd < 0)
		return fd;
	code = fd_read_all(fd, &bytes, limit);
	if (code == -EFBIG)
		return err_say(err, code, "'%s' is larger than %zu bytes", path, limit);
	if (code < 0)
		return err_set(err, code, "cannot read '%s'", path);
	return config_file_parse(strcmp(path, "-") == 0 ? "<stdin>" : path, bytes.bytes ? bytes.bytes : "", bytes.length,
	                         ret, err);
}

void config_file_free(struct config_file *file)
{
	if (!file)
		return;
	while (file->blocks) {
		struct block *block = file->blocks;

		file->blocks = block->next;
		free(block);
	}
	while (file->texts) {
		struct text *text = file->texts;

		file->texts = text->next;
		free(text);
	}
	while (file->anchors) {
		struct anchor *anchor = file->anchors;

		file->anchors = anchor->next;
		free(anchor->name);
		free(anchor);
	}
	free(file->name);
	free(file->bytes);
	free(file);
}

void config_file_cleanup(struct config_file **file)
{
	config_file_free(*file);
}

const struct config_node *config_file_root(const struct config_file *file)
{
	return file->root;
}

const struct config_node *config_node_find(const struct config_node *map, const char *key)
{
	for (const struct config_node *entry = map->first; entry; entry = entry->next)
		if (entry->key && strcmp(entry->key->text, key) == 0)
			return entry;
	return NULL;
}

bool config_node_is_null(const struct config_node *node)
{
	return node->kind == CONFIG_SCALAR && node->is_plain &&
	       (node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
}

const char *config_node_describe(const struct config_node *node)
{
	if (node->kind == CONFIG_LIST)
		return "a list";
	if (node->kind == CONFIG_MAP)
		return "a map";
	return config_node_is_null(node) ? "nothing" : "text";
}
