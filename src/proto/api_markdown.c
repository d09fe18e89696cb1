/*
 * api_markdown.c - docs/protocol.md, made from the definition file, the core's words and the limits.
 */
#include "proto/api.h"

#include <string.h>

#include "base/buf.h"
#include "base/units.h"

static const char introduction[] =
	"## Connection\n\n"
	"The daemon listens on a unix stream socket, `$XDG_RUNTIME_DIR/drover/daemon.sock` or `run/daemon.sock` in the\n"
	"state directory; the lock file `daemon.lock` in the state directory names the path, and clients go by it. Only\n"
	"the same user may connect.\n\n"
	"Messages are JSON-RPC 2.0 in UTF-8, one a line. drover is stricter than the standard:\n\n"
	"- every request has an id, an integer or a string of at most 128 bytes; notifications from clients are refused;\n"
	"- params are an object; a field that is not listed here is an error, so is a key given twice;\n"
	"- an optional field may be absent or null, which is the same;\n"
	"- arrays of requests (\"batches\" of JSON-RPC) are refused; requests may be sent without waiting for answers,\n"
	"  and answers come as they are ready, told apart by id.\n\n"
	"The first request is [`hello`](#hello). A client of another protocol number gets the error `wrong-protocol`,\n"
	"which names both numbers, and the connection ends.\n\n"
	"```\n"
	"→ {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\",\"params\":{\"protocol\":1,\"client\":\"example 1.0\"}}\n"
	"← {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocol\":1,\"version\":\"…\",\"pid\":4711,"
	"\"state_dir\":\"…\"}}\n"
	"→ {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"task.show\",\"params\":{\"task\":\"17\"}}\n"
	"← {\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32010,\"message\":\"…\",\"data\":{\"name\":\"not-found\","
	"\"hint\":null,\"details\":null}}}\n"
	"```\n\n"
	"An error's `message` is one sentence, its `data` an [`error_data`](#error_data). A message that could not be read\n"
	"is answered with id null. After `too-large`, `too-slow`, `too-many-clients` and `wrong-protocol` the connection\n"
	"ends.\n\n"
	"Events come as `{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":…}` with an [`event`](#event) after\n"
	"[`events.subscribe`](#eventssubscribe). Their numbers have no gaps in the daemon's whole stream; a client that\n"
	"lost its connection subscribes again with the last number it saw. Kinds are `task.` and one of the\n"
	"[states](#states).\n\n"
	"Times are RFC 3339 UTC, durations seconds, sizes bytes. What is not known is null, never a made-up zero.\n\n";

static void add_intro(struct buf *text);
static void add_limits(struct buf *text);
static void add_methods(struct buf *text);
static void add_objects(struct buf *text);
static void add_errors(struct buf *text);
static void add_words(struct buf *text);

char *api_markdown(void)
{
	struct buf text = BUF_INIT;

	add_intro(&text);
	add_limits(&text);
	add_methods(&text);
	add_objects(&text);
	add_errors(&text);
	add_words(&text);
	return buf_take(&text);
}

static void add_intro(struct buf *text)
{
	buf_add_text(text, "<!-- Made by `make docs` from src/proto/api.def. Do not edit. -->\n"
			   "# The interface of the daemon\n\n");
	buf_add_format(text, "This is protocol %d.\n\n", API_PROTOCOL);
	buf_add_text(text, introduction);
}

static void add_limits(struct buf *text)
{
	buf_add_text(text, "## Limits\n\n| what | most | beyond it |\n|---|---|---|\n");
	buf_add_format(text, "| bytes of a message, without the line's end | %d | `too-large`, the connection ends |\n",
		       LIMIT_MESSAGE);
	buf_add_format(text, "| levels of nesting | %d | `parse-error` |\n", LIMIT_JSON_DEPTH);
	buf_add_format(text, "| objects and lists in a message | %d | `parse-error` |\n", API_CONTAINERS_MAX);
	buf_add_format(text, "| connections | %d | `too-many-clients`, the connection ends |\n", LIMIT_CLIENTS);
	buf_add_format(text, "| bytes waiting for a client that does not read | %d | `too-slow`, the connection ends |\n",
		       LIMIT_CLIENT_QUEUE);
	buf_add_format(text, "| seconds from a line's begin to its end | %d | `invalid-request`, the connection ends |\n",
		       API_LINE_TIMEOUT_S);
	buf_add_format(text, "| tasks in a page of a listing | %d | shortened |\n\n", LIMIT_PAGE);
}

/* Text of the definition in a table's cell: what Markdown would take for its own is escaped. */
static void add_cell(struct buf *text, const char *cell)
{
	for (; *cell; cell++) {
		if (strchr("|<>*[]`\\", *cell))
			buf_add_byte(text, '\\');
		buf_add_byte(text, *cell);
	}
}

static void add_type(struct buf *text, const struct api_field_info *field)
{
	char type[128];

	if (field->of < 0) {
		buf_add_text(text, api_type_text(field, type, sizeof(type)));
		return;
	}
	buf_add_format(text, "%s[%s](#%s)", field->type == API_LIST ? "list of " : "", api_object_info(field->of)->name,
		       api_object_info(field->of)->name);
}

static void add_fields(struct buf *text, const struct api_object_info *object)
{
	buf_add_text(text, "| field | type | | meaning |\n|---|---|---|---|\n");
	for (unsigned i = 0; i < object->field_count; i++) {
		const struct api_field_info *field = &object->fields[i];

		buf_add_format(text, "| `%s` | ", field->name);
		add_type(text, field);
		buf_add_text(text, field->is_required ? " | required | " : " | | ");
		add_cell(text, field->meaning);
		buf_add_text(text, " |\n");
	}
	buf_add_byte(text, '\n');
}

/* An object used by one method only is described there; all others have a section of their own. */
static bool has_section(int object)
{
	unsigned uses = 0;

	if (object == API_OBJECT_EMPTY)
		return false;
	for (int i = 0; i < API_METHOD_MAX; i++)
		uses += (api_method_info(i)->params == object) + (api_method_info(i)->result == object);
	if (uses != 1)
		return true;
	for (int i = 0; i < API_OBJECT_MAX; i++)
		for (unsigned j = 0; j < api_object_info(i)->field_count; j++)
			if (api_object_info(i)->fields[j].of == object)
				return true;
	return false;
}

static void add_part(struct buf *text, const char *part, int object)
{
	const struct api_object_info *info = api_object_info(object);

	buf_add_format(text, "**%s**: ", part);
	if (has_section(object)) {
		buf_add_format(text, "[%s](#%s), %s\n\n", info->name, info->name, info->meaning);
		return;
	}
	buf_add_format(text, "%s\n\n", info->meaning);
	if (info->field_count > 0)
		add_fields(text, info);
}

static void add_methods(struct buf *text)
{
	buf_add_text(text, "## Methods\n\n");
	for (int i = 0; i < API_METHOD_MAX; i++) {
		const struct api_method_info *method = api_method_info(i);

		buf_add_format(text, "### %s\n\n", method->name);
		add_cell(text, method->meaning);
		buf_add_text(text, method->is_writing ? ". Changes something.\n\n" : ".\n\n");
		add_part(text, "params", method->params);
		add_part(text, "result", method->result);
	}
}

static void add_objects(struct buf *text)
{
	buf_add_text(text, "## Objects\n\n");
	for (int i = 0; i < API_OBJECT_MAX; i++) {
		if (!has_section(i))
			continue;
		buf_add_format(text, "### %s\n\n", api_object_info(i)->name);
		add_cell(text, api_object_info(i)->meaning);
		buf_add_text(text, "\n\n");
		add_fields(text, api_object_info(i));
	}
}

static void add_errors(struct buf *text)
{
	buf_add_text(text, "## Errors\n\n`exit` is the status of a command line client that ends by it.\n\n"
			   "| code | name | exit | meaning |\n|---|---|---|---|\n");
	for (int i = 0; i < API_ERROR_MAX; i++) {
		const struct api_error_info *error = api_error_info(i);

		buf_add_format(text, "| %d | `%s` | %d | ", error->number, error->name, error->exit_status);
		add_cell(text, error->meaning);
		buf_add_text(text, " |\n");
	}
	buf_add_byte(text, '\n');
}

static void add_row(struct buf *text, const char *name, const char *kind, const char *meaning)
{
	buf_add_format(text, "| `%s` | ", name);
	if (kind)
		buf_add_format(text, "%s | ", kind);
	add_cell(text, meaning);
	buf_add_text(text, " |\n");
}

/* Which inputs lead from where to where; edges of one pair of states stand on one arrow. */
static void add_edges(struct buf *text)
{
	static const struct {
		const char *from;
		const char *input;
		const char *to;
	} edges[] = {
#define EDGE(from, input, to) { #from, #input, #to },
#include "core/task.def"
	};

	buf_add_text(text, "\nHow they follow each other, as in `core/task.def`:\n\n```mermaid\nstateDiagram-v2\n");
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++)
		if (strcmp(edges[i].from, edges[i].to) != 0)
			buf_add_format(text, "    %s --> %s: %s\n", edges[i].from, edges[i].to, edges[i].input);
	buf_add_text(text, "```\n");
}

static void add_words(struct buf *text)
{
	buf_add_text(text, "## States\n\n| state | kind | meaning |\n|---|---|---|\n");
#define WAITING "waiting"
#define ACTIVE "active"
#define FINAL "final"
#define STATE(symbol, name, kind, meaning) add_row(text, name, kind, meaning);
#include "core/task.def"
#undef WAITING
#undef ACTIVE
#undef FINAL
	add_edges(text);
	buf_add_text(text, "\n## Wait reasons\n\n| reason | meaning |\n|---|---|\n");
#define REASON(symbol, name, meaning) add_row(text, name, NULL, meaning);
#include "core/words.def"
	buf_add_text(text, "\n## Causes\n\nA final state's `cause` is a sentence; these are its kinds.\n\n"
			   "| cause | meaning |\n|---|---|\n");
#define CAUSE(symbol, name, meaning) add_row(text, name, NULL, meaning);
#include "core/words.def"
	buf_add_text(text, "\n## Priorities\n\nAfter so many seconds a task is ahead of every P0 that comes.\n\n"
			   "| priority | seconds |\n|---|---|\n");
#define PRIORITY(symbol, name, ageing) buf_add_format(text, "| `%s` | %d |\n", name, ageing);
#include "core/words.def"
}
