/*
 * worktree_main.c - drover-worktree: one verb, one JSON object in, one out. See worktree.h.
 *
 * Exit status: 0 done, 1 the object has an "error", 2 it was not called as the daemon calls it.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/units.h"
#include "git/record.h"
#include "git/worktree.h"
#include "git/worktree_sites.h"

enum { INPUT_BYTES_MAX = 8 << 20, EXIT_ERROR = 1, EXIT_USAGE = 2 };

typedef int verb_function(const json_t *input, json_t **ret, struct err *err);

/* The string under the key, NULL when it is absent or null. */
static const char *text(const json_t *input, const char *key)
{
	return json_string_value(json_object_get(input, key));
}

static uint64_t number(const json_t *input, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(input, key));

	return value < 0 ? 0 : (uint64_t)value;
}

static bool truth(const json_t *input, const char *key)
{
	return json_is_true(json_object_get(input, key));
}

static int inspect(const json_t *input, json_t **ret, struct err *err)
{
	struct worktree_inspection inspection = { 0 };
	int error;

	if (!text(input, "directory"))
		return err_say(err, -EBADMSG, "inspect needs a directory");
	error = worktree_inspect(text(input, "directory"), text(input, "base"), &inspection, err);
	if (error < 0)
		return error;
	*ret = json_object();
	json_object_set_new(*ret, "top", json_string(inspection.top));
	json_object_set_new(*ret, "common_dir", json_string(inspection.common_dir));
	json_object_set_new(*ret, "prefix", json_string(inspection.prefix));
	json_object_set_new(*ret, "commit", json_string(inspection.commit));
	worktree_inspection_done(&inspection);
	return 0;
}

static int read_request(const json_t *input, struct worktree_request *ret, struct err *err)
{
	*ret = (struct worktree_request){
		.task = number(input, "task"),
		.attempt = (uint32_t)MIN(number(input, "attempt"), (uint64_t)INT32_MAX),
		.owner = text(input, "owner"),
		.name = text(input, "name"),
		.top = text(input, "top"),
		.common_dir = text(input, "common_dir"),
		.commit = text(input, "commit"),
		.lock_timeout_ns = number(input, "lock_timeout_ms") * NS_PER_MS,
		.path = text(input, "path"),
		.branch = text(input, "branch"),
		.message = text(input, "message"),
		.has_succeeded = truth(input, "has_succeeded"),
		.is_again = truth(input, "is_again"),
		.keep = truth(input, "keep"),
	};
	if (!ret->top || !ret->common_dir || !ret->commit)
		return err_say(err, -EBADMSG, "a request needs top, common_dir and commit");
	return 0;
}

static int prepare(const json_t *input, json_t **ret, struct err *err)
{
	struct worktree_request request;
	struct worktree_result result = { 0 };
	int error = read_request(input, &request, err);

	if (error == 0)
		error = worktree_prepare(&request, &result, err);
	if (error < 0)
		return error;
	*ret = json_pack("{s:s, s:s}", "path", result.path, "branch", result.branch);
	worktree_result_done(&result);
	return 0;
}

static int collect(const json_t *input, json_t **ret, struct err *err)
{
	struct worktree_request request;
	struct worktree_result result = { 0 };
	int error = read_request(input, &request, err);

	if (error == 0)
		error = worktree_collect(&request, &result, err);
	if (error == 0 || error == -ESTALE)
		*ret = record_result_to_json(&result);
	worktree_result_done(&result);
	return error;
}

static int version(const json_t *input UNUSED, json_t **ret, struct err *err)
{
	char *found = NULL;
	int error = worktree_git_version(&found, err);

	if (error == 0)
		*ret = json_pack("{s:s}", "version", found);
	free(found);
	return error;
}

static void clean_up(const json_t *input);

struct verb {
	const char *name;
	verb_function *function;
	void (*after)(const json_t *input); /* what can take long and nobody waits for; NULL = nothing */
};

static const struct verb verbs[] = {
	{ "inspect", inspect, NULL },
	{ "prepare", prepare, clean_up },
	{ "collect", collect, clean_up },
	{ "list", worktree_list_sites, NULL },
	{ "remove", worktree_remove_sites, worktree_remove_after },
	{ "version", version, NULL },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static int read_input(json_t **ret, struct err *err)
{
	CLEANUP_BUF struct buf input = BUF_INIT;
	json_error_t problem;
	int error = fd_read_all(STDIN_FILENO, &input, INPUT_BYTES_MAX);

	if (error < 0)
		return err_set(err, error, "cannot read the request");
	*ret = json_loadb(input.bytes ? input.bytes : "", input.length, JSON_REJECT_DUPLICATES, &problem);
	if (json_is_object(*ret))
		return 0;
	json_decref(*ret);
	*ret = NULL;
	return err_say(err, -EBADMSG, "the request is not a JSON object");
}

static void add_error(json_t *output, int error, const struct err *err)
{
	json_t *object = json_object();
	json_t *message = json_string(err->text);

	json_object_set_new(object, "code", json_string(worktree_error_word(error)));
	json_object_set_new(object, "errno", json_integer(-error));
	/* A path in the sentence may be no UTF-8. */
	json_object_set_new(object, "message", message ? message : json_string("(the reason is not UTF-8)"));
	json_object_set_new(output, "error", object);
}

/* Writes the answer and ends it, so that its reader need not wait for what we still do. */
static int print(const json_t *output)
{
	char *printed = json_dumps(output, JSON_COMPACT);
	int answer = STDOUT_FILENO;
	int error = printed ? fd_write_all(answer, printed, strlen(printed)) : -EIO;

	free(printed);
	if (error == 0)
		error = fd_write_all(answer, "\n", 1);
	fd_close(&answer);
	return error;
}

/* After the answer. What cannot be deleted is told in the daemon's log. */
static void clean_up(const json_t *input)
{
	struct worktree_request request;
	struct err err = ERR_INIT;

	if (read_request(input, &request, &err) == 0 && worktree_empty_trash(&request, &err) < 0)
		fprintf(stderr, "drover-worktree: the trash of '%s' is not empty: %s\n", request.top, err.text);
}

int main(int argc, char **argv)
{
	const struct verb *verb = find_verb(argc == 2 ? argv[1] : NULL);
	struct err err = ERR_INIT;
	json_t *input = NULL;
	json_t *output = NULL;
	int error;

	json_set_alloc_funcs(xmalloc, free);
	if (!verb) {
		fprintf(stderr, "usage: drover-worktree inspect|prepare|collect|list|remove|version < REQUEST.json\n"
		                "The daemon calls this program; 'drover --help' tells what is for you.\n");
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN); /* a git that does not read its input is told from its exit status */
	error = read_input(&input, &err);
	if (error == 0)
		error = verb->function(input, &output, &err);
	if (!output)
		output = json_object();
	if (error < 0)
		add_error(output, error, &err);
	if (print(output) < 0)
		error = -EIO;
	if (verb->after && input)
		verb->after(input);
	json_decref(input);
	json_decref(output);
	return error < 0 ? EXIT_ERROR : 0;
}
