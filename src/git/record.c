/*
 * record.c - see record.h.
 */
#include "git/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "git/names.h"

static const char *const verbs[RECORD_VERB_MAX] = { "prepare", "remove", "keep" };

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *record_result_to_json(const struct worktree_result *result)
{
	json_t *object = json_object();

	json_object_set_new(object, "path", text_or_null(result->path));
	json_object_set_new(object, "branch", text_or_null(result->branch));
	json_object_set_new(object, "commit", text_or_null(result->commit));
	json_object_set_new(object, "changed_files", json_integer((json_int_t)result->changed_files));
	json_object_set_new(object, "insertions", json_integer((json_int_t)result->insertions));
	json_object_set_new(object, "deletions", json_integer((json_int_t)result->deletions));
	json_object_set_new(object, "is_removed", json_boolean(result->is_removed));
	json_object_set_new(object, "is_missing", json_boolean(result->is_missing));
	json_object_set_new(object, "salvage", text_or_null(result->salvage));
	json_object_set_new(object, "note", text_or_null(result->note));
	return object;
}

void record_format(const struct record *record, struct buf *buf)
{
	json_t *object = json_object();
	char *text;

	json_object_set_new(object, "verb", json_string(verbs[record->verb]));
	json_object_set_new(object, "task", json_integer((json_int_t)record->task));
	json_object_set_new(object, "attempt", json_integer(record->attempt));
	json_object_set_new(object, "owner", text_or_null(record->owner));
	json_object_set_new(object, "directory", text_or_null(record->directory));
	json_object_set_new(object, "branch", text_or_null(record->branch));
	json_object_set_new(object, "commit", text_or_null(record->commit));
	json_object_set_new(object, "admin", text_or_null(record->admin));
	json_object_set_new(object, "trash", text_or_null(record->trash));
	json_object_set_new(object, "is_new_branch", json_boolean(record->is_new_branch));
	json_object_set_new(object, "is_again", json_boolean(record->is_again));
	json_object_set_new(object, "is_asked", json_boolean(record->is_asked));
	json_object_set_new(object, "doomed", text_or_null(record->doomed));
	if (record->verb == RECORD_REMOVE)
		json_object_set_new(object, "result", record_result_to_json(&record->result));
	text = json_dumps(object, JSON_INDENT(1));
	ASSERT(text);
	buf_add_text(buf, text);
	buf_add_byte(buf, '\n');
	free(text);
	json_decref(object);
}

static char *copy_text(const json_t *object, const char *key)
{
	return xstrdup(json_string_value(json_object_get(object, key)));
}

static uint64_t number(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value < 0 ? 0 : (uint64_t)value;
}

static void parse_result(const json_t *object, struct worktree_result *ret)
{
	ret->path = copy_text(object, "path");
	ret->branch = copy_text(object, "branch");
	ret->commit = copy_text(object, "commit");
	ret->salvage = copy_text(object, "salvage");
	ret->note = copy_text(object, "note");
	ret->changed_files = number(object, "changed_files");
	ret->insertions = number(object, "insertions");
	ret->deletions = number(object, "deletions");
	ret->is_removed = json_is_true(json_object_get(object, "is_removed"));
	ret->is_missing = json_is_true(json_object_get(object, "is_missing"));
}

static int parse_verb(const json_t *object, enum record_verb *ret)
{
	const char *verb = json_string_value(json_object_get(object, "verb"));

	for (int i = 0; verb && i < RECORD_VERB_MAX; i++)
		if (strcmp(verb, verbs[i]) == 0) {
			*ret = (enum record_verb)i;
			return 0;
		}
	return -EBADMSG;
}

/* A name of one directory entry, and not of one that means something else. */
static bool is_entry_name(const char *name)
{
	return name && *name && name[0] != '.' && !strchr(name, '/') && strlen(name) < 250;
}

static bool is_sound(const struct record *record)
{
	return record->task > 0 && record->attempt > 0 && is_entry_name(record->directory) &&
	       names_is_branch(record->branch) && names_is_hash(record->commit) &&
	       (!record->admin || is_entry_name(record->admin)) && (!record->trash || is_entry_name(record->trash)) &&
	       (record->verb != RECORD_REMOVE || record->trash) && (!record->doomed || names_is_hash(record->doomed));
}

int record_parse(const struct buf *text, struct record *ret, struct err *err)
{
	json_error_t problem;
	json_t *object = json_loadb(text->bytes ? text->bytes : "", text->length, JSON_REJECT_DUPLICATES, &problem);
	struct record record = { 0 };
	int error;

	if (!object)
		return err_say(err, -EBADMSG, "not JSON: %s", problem.text);
	error = parse_verb(object, &record.verb);
	record.task = number(object, "task");
	record.attempt = (uint32_t)MIN(number(object, "attempt"), (uint64_t)UINT32_MAX);
	record.owner = copy_text(object, "owner");
	record.directory = copy_text(object, "directory");
	record.branch = copy_text(object, "branch");
	record.commit = copy_text(object, "commit");
	record.admin = copy_text(object, "admin");
	record.trash = copy_text(object, "trash");
	record.is_new_branch = json_is_true(json_object_get(object, "is_new_branch"));
	record.is_again = json_is_true(json_object_get(object, "is_again"));
	record.is_asked = json_is_true(json_object_get(object, "is_asked"));
	record.doomed = copy_text(object, "doomed");
	if (json_object_get(object, "result"))
		parse_result(json_object_get(object, "result"), &record.result);
	json_decref(object);
	if (error < 0 || !is_sound(&record)) {
		record_done(&record);
		return err_say(err, -EBADMSG, "not a record of drover's");
	}
	*ret = record;
	return 0;
}

void record_done(struct record *record)
{
	free(record->owner);
	free(record->directory);
	free(record->branch);
	free(record->commit);
	free(record->admin);
	free(record->trash);
	free(record->doomed);
	worktree_result_done(&record->result);
	*record = (struct record){ 0 };
}
