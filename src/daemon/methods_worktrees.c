/*
 * methods_worktrees.c - worktree.list, worktree.remove, worktree.prune: through the helper, which looks and proves; what the
 * helper cannot know, which tasks live, is known here.
 *
 * A call is a row of helper jobs, one after another: for list one page of one repository; for prune a page and then the
 * removal of what is in it; for remove the same for each word. Few calls run at once, the others wait their turn: each of
 * these jobs is a process that reads whole trees.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/units.h"
#include "daemon/methods.h"
#include "daemon/worktree_search.h"
#include "daemon/worktrees.h"

enum { CALLS_AT_ONCE = 4, PRUNE_PAGE = 20, LOCK_TIMEOUT_MS = 10000, TRIES_MAX = 2 };

struct worktree_call {
	struct daemon *daemon;
	struct request *request;
	enum api_method method;
	json_t *params;
	struct worktree_call *next;
	bool is_running;
	json_t *results; /* worktrees or removals so far */
	json_t *problems;
	char *common_dir; /* of the page at hand, as its tasks have it; NULL unless is_all */
	char *cursor;     /* NULL = this is the last page */
	json_t *kept;     /* of the page at hand: sites that the helper is to remove, in its order */
	size_t word;      /* remove: which one */
	unsigned try;     /* remove: which meaning of the word */
};

static void advance(struct worktree_call *call);

/* ---- tasks ---- */

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static bool truth(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* Index of the task that a site was made for, TASK_NONE when this daemon does not know it. */
static uint32_t find_task(const struct daemon *daemon, const json_t *site)
{
	uint32_t index = core_index(daemon->core, (uint64_t)json_integer_value(json_object_get(site, "task")));
	const char *owner = text(site, "owner");
	CLEANUP_FREE char *wanted = NULL;

	if (index == TASK_NONE)
		return TASK_NONE;
	if (!owner) { /* its record is lost: then the path has to agree */
		const char *path = text(daemon->roster.tasks[index].result, "path");

		return path && text(site, "path") && strcmp(path, text(site, "path")) == 0 ? index : TASK_NONE;
	}
	wanted = worktrees_owner(daemon, core_task_at(daemon->core, index));
	return strcmp(wanted, owner) == 0 ? index : TASK_NONE;
}

/* Copies the fields of an object that the definition has. */
static json_t *copy_fields(enum api_object object, const json_t *from)
{
	const struct api_object_info *info = api_object_info(object);
	json_t *copy = json_object();

	for (unsigned i = 0; i < info->field_count; i++) {
		json_t *value = json_object_get(from, info->fields[i].name);

		json_object_set_new(copy, info->fields[i].name, value ? json_incref(value) : json_null());
	}
	return copy;
}

static void add_task(const struct daemon *daemon, uint32_t index, json_t *object, bool has_state)
{
	if (index == TASK_NONE)
		return;
	if (daemon->roster.tasks[index].name)
		json_object_set_new(object, "name", json_string(daemon->roster.tasks[index].name));
	if (has_state)
		json_object_set_new(object, "state", json_string(task_state_name(core_task_at(daemon->core, index)->state)));
}

static json_t *present_site(const struct daemon *daemon, const json_t *site)
{
	json_t *object = copy_fields(API_OBJECT_WORKTREE, site);
	json_int_t created_ms = json_integer_value(json_object_get(site, "created_ms"));
	char created[UNITS_TEXT_MAX];

	add_task(daemon, find_task(daemon, site), object, true);
	json_object_set(object, "repository", json_object_get(site, "top"));
	if (created_ms > 0) {
		json_object_set_new(object, "created_at", json_string(units_format_time(created_ms, created)));
		json_object_set_new(object, "age_s", json_real((double)MAX(daemon->now_ms - created_ms, 0) / 1000));
	}
	return object;
}

/* ---- calls ---- */

static void free_call(struct worktree_call *call)
{
	json_decref(call->params);
	json_decref(call->results);
	json_decref(call->problems);
	json_decref(call->kept);
	free(call->common_dir);
	free(call->cursor);
	free(call);
}

void methods_worktrees_done(struct daemon *daemon)
{
	while (daemon->worktree_calls.first) {
		struct worktree_call *call = daemon->worktree_calls.first;

		daemon->worktree_calls.first = call->next;
		server_fail(call->request, API_ERROR_STOPPING, NULL, "what was begun goes on; look again in a moment",
		            "the daemon is stopping");
		free_call(call);
	}
}

/* The first call that waits, when it may begin; else NULL. */
static struct worktree_call *next_waiting(const struct daemon *daemon)
{
	struct worktree_call *found = NULL;
	unsigned running = 0;

	for (struct worktree_call *call = daemon->worktree_calls.first; call; call = call->next) {
		running += call->is_running;
		if (!call->is_running && !found)
			found = call;
	}
	return running < CALLS_AT_ONCE ? found : NULL;
}

/* A call can end while it begins; that does not begin the next from inside. */
static void begin_waiting(struct daemon *daemon)
{
	struct worktree_call *call;

	if (daemon->worktree_calls.is_starting)
		return;
	daemon->worktree_calls.is_starting = true;
	while ((call = next_waiting(daemon))) {
		call->is_running = true;
		advance(call);
	}
	daemon->worktree_calls.is_starting = false;
}

/* Takes the call out and gives its turn to the next. */
static void end(struct worktree_call *call)
{
	struct daemon *daemon = call->daemon;
	struct worktree_call **at = &daemon->worktree_calls.first;

	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	free_call(call);
	begin_waiting(daemon);
}

static void fail(struct worktree_call *call, enum api_error code, const char *hint, const char *sentence)
{
	server_fail(call->request, code, NULL, hint, "%s", sentence);
	end(call);
}

static void reply(struct worktree_call *call)
{
	bool is_list = call->method == API_WORKTREE_LIST;
	json_t *answer = json_pack("{s:O, s:O, s:s?}", is_list ? "worktrees" : "results", call->results, "problems",
	                           call->problems, "cursor", call->cursor);

	if (is_list)
		server_reply(call->request, answer);
	else
		methods_reply_durable(call->daemon, call->request, answer);
	end(call);
}

static void add_problem(struct worktree_call *call, const char *sentence)
{
	json_array_append_new(call->problems, json_string(sentence));
}

/* ---- jobs ---- */

static void on_listed(struct daemon *daemon, void *context, json_t *result, const char *code, const struct err *err);

static void ask_for_list(struct worktree_call *call, struct worktree_search *search)
{
	bool is_list = call->method == API_WORKTREE_LIST;
	json_t *request = search->place;

	free(call->common_dir);
	call->common_dir = search->common_dir;
	if (search->select)
		json_object_set_new(request, "select", search->select);
	json_object_set_new(request, "has_facts", json_boolean(is_list));
	json_object_set_new(request, "has_disk", json_boolean(is_list));
	if (call->method == API_WORKTREE_PRUNE)
		json_object_set_new(request, "limit", json_integer(PRUNE_PAGE));
	jobs_run(call->daemon, "list", request, on_listed, call);
}

/* The next job of the call, or its answer. */
static void advance(struct worktree_call *call)
{
	const json_t *words = json_object_get(call->params, "worktrees");
	struct worktree_search search = { 0 };
	bool is_found = false;

	if (call->method != API_WORKTREE_REMOVE) {
		if (worktree_search_page(call->daemon, call->params, &search))
			ask_for_list(call, &search);
		else
			reply(call);
		return;
	}
	while (call->word < json_array_size(words)) {
		search.word = json_string_value(json_array_get(words, call->word));
		while (call->try < TRIES_MAX && !worktree_search_word(call->daemon, call->params, call->try, &search))
			call->try++;
		is_found = call->try < TRIES_MAX;
		if (is_found)
			break;
		json_array_append_new(call->problems,
		                      json_sprintf("there is no worktree '%s' of drover's: 'drover worktree ls' lists them",
		                                   search.word));
		call->word++;
		call->try = 0;
	}
	if (is_found)
		ask_for_list(call, &search);
	else
		reply(call);
}

/* ---- what may be removed ---- */

static json_t *new_removal(struct daemon *daemon, const json_t *site)
{
	json_t *removal = copy_fields(API_OBJECT_WORKTREE_REMOVAL, site);

	add_task(daemon, find_task(daemon, site), removal, false);
	json_object_set_new(removal, "is_branch_gone", json_false());
	return removal;
}

static void keep(struct worktree_call *call, const json_t *site, const char *reason, const char *hint, json_t *sentence)
{
	json_t *removal = new_removal(call->daemon, site);

	json_object_set_new(removal, "outcome", json_string("kept"));
	json_object_set_new(removal, "reason", json_string(reason));
	json_object_set_new(removal, "text", sentence);
	json_object_set_new(removal, "hint", json_string(hint));
	json_array_append_new(call->results, removal);
}

/* True when the helper may look whether it can be removed; else why not is in the results. */
static bool may_go(struct worktree_call *call, json_t *site)
{
	uint32_t index = find_task(call->daemon, site);
	const struct task *task = index == TASK_NONE ? NULL : core_task_at(call->daemon->core, index);
	const char *owner = text(site, "owner");

	if (task && !task_state_is_final(task->state)) {
		keep(call, site, "live", "wait for it, or cancel it",
		     json_sprintf("task %llu is %s", (unsigned long long)task->id, task_state_name(task->state)));
		return false;
	}
	if (call->method == API_WORKTREE_PRUNE && !task && owner && !worktrees_is_own(call->daemon, owner)) {
		keep(call, site, "foreign", "'drover worktree rm' with its path removes it all the same",
		     json_string("it was made for another state directory of drover"));
		return false;
	}
	json_object_set_new(site, "is_over", json_boolean(task != NULL));
	return true;
}

/*
 * What the task's row says of a worktree that is gone. The user may have retried the task before the helper told so: then
 * the path is the next attempt's, which gets the same.
 */
static void forget_path(struct daemon *daemon, const json_t *site, const json_t *result)
{
	uint32_t index = find_task(daemon, site);
	struct roster_task *texts;
	const struct task *task;
	const char *known;

	if (index == TASK_NONE)
		return;
	task = core_task_at(daemon->core, index);
	texts = roster_task(&daemon->roster, index);
	known = text(texts->result, "path");
	if (task_state_is_final(task->state) && json_integer_value(json_object_get(site, "attempt")) == task->attempt &&
	    known && text(site, "path") && strcmp(known, text(site, "path")) == 0)
		json_object_del(texts->result, "path");
	if (texts->result && text(result, "salvage"))
		json_object_set(texts->result, "salvage", json_object_get(result, "salvage"));
	turn_mark_dirty(daemon, index);
}

static void take_result(struct worktree_call *call, const json_t *site, json_t *result)
{
	json_t *removal = new_removal(call->daemon, site);
	const char *outcome = text(result, "outcome");
	const char *name;
	json_t *value;

	json_object_foreach (result, name, value)
		if (!json_is_null(value))
			json_object_set(removal, name, value);
	json_array_append_new(call->results, removal);
	if (strcmp(outcome, "removed") == 0 || strcmp(outcome, "gone") == 0)
		forget_path(call->daemon, site, result);
}

/* On to the next word, or the end of this page. */
static void go_on(struct worktree_call *call)
{
	json_decref(call->kept);
	call->kept = NULL;
	if (call->method != API_WORKTREE_REMOVE) {
		reply(call);
		return;
	}
	call->word++;
	call->try = 0;
	advance(call);
}

static void on_removed(struct daemon *daemon UNUSED, void *context, json_t *result, const char *code UNUSED,
                       const struct err *err)
{
	struct worktree_call *call = context;
	json_t *results = json_object_get(result, "results");
	json_t *site;
	size_t i;

	if (err)
		add_problem(call, err->text);
	json_array_foreach (call->kept, i, site)
		if (json_array_get(results, i))
			take_result(call, site, json_array_get(results, i));
	go_on(call);
}

static void ask_for_removal(struct worktree_call *call, const json_t *listed)
{
	static const struct {
		const char *param;
		const char *wish;
	} wishes[] = {
		{ "salvage", "salvages" },      { "drop_ignored", "drops_ignored" }, { "delete_branch", "drops_branch" },
		{ "is_dry_run", "is_dry_run" }, { "is_abandoned", "is_abandoned" },
	};
	json_t *request =
		json_pack("{s:O, s:O, s:O, s:i}", "common_dir", json_object_get(listed, "common_dir"), "top",
	                  json_object_get(listed, "top"), "targets", call->kept, "lock_timeout_ms", LOCK_TIMEOUT_MS);

	for (size_t i = 0; i < ARRAY_SIZE(wishes); i++)
		json_object_set_new(request, wishes[i].wish, json_boolean(truth(call->params, wishes[i].param)));
	jobs_run(call->daemon, "remove", request, on_removed, call);
}

static void take_sites(struct worktree_call *call, json_t *listed)
{
	json_t *site;
	size_t i;

	call->kept = json_array();
	json_array_foreach (json_object_get(listed, "worktrees"), i, site) {
		json_object_set(site, "directory", json_object_get(site, "id"));
		if (call->method == API_WORKTREE_LIST)
			json_array_append_new(call->results, present_site(call->daemon, site));
		else if (may_go(call, site))
			json_array_append(call->kept, site);
	}
}

/* Of one repository among all the others are told; alone it is the answer. */
static void on_list_failed(struct worktree_call *call, const char *code, const struct err *err)
{
	if (call->method == API_WORKTREE_REMOVE) {
		call->try++; /* the word may mean something else */
		if (code[0] == '\0')
			add_problem(call, err->text);
		advance(call);
		return;
	}
	if (!truth(call->params, "is_all")) {
		fail(call, code[0] ? API_ERROR_NOT_A_REPOSITORY : API_ERROR_INTERNAL, NULL, err->text);
		return;
	}
	call->cursor = worktree_search_cursor(call->daemon, call->common_dir, NULL);
	if (strcmp(code, "not-a-repository") != 0) /* one that was deleted is no problem */
		add_problem(call, err->text);
	reply(call);
}

/* What the word was found to mean. True to go on with it; else the call went on without. */
static bool is_meant(struct worktree_call *call, const json_t *sites)
{
	const char *word = json_string_value(json_array_get(json_object_get(call->params, "worktrees"), call->word));

	if (json_array_size(sites) == 0) {
		call->try++;
		advance(call);
		return false;
	}
	/* Of a known task all attempts are meant; a bare number of unknown ones may be of several databases. */
	if (call->try == 0 || !worktree_search_is_number(word) || json_array_size(sites) == 1)
		return true;
	json_array_append_new(call->problems, json_sprintf("'%s' could mean several worktrees: give an ID or a path of "
	                                                   "'drover worktree ls'",
	                                                   word));
	go_on(call);
	return false;
}

static void on_listed(struct daemon *daemon UNUSED, void *context, json_t *result, const char *code, const struct err *err)
{
	struct worktree_call *call = context;

	if (err) {
		on_list_failed(call, code, err);
		return;
	}
	if (call->method == API_WORKTREE_REMOVE && !is_meant(call, json_object_get(result, "worktrees")))
		return;
	take_sites(call, result);
	if (call->method != API_WORKTREE_REMOVE)
		call->cursor = worktree_search_cursor(call->daemon, call->common_dir, text(result, "cursor"));
	if (call->method == API_WORKTREE_LIST)
		reply(call);
	else if (json_array_size(call->kept) > 0 || call->method == API_WORKTREE_PRUNE)
		ask_for_removal(call, result);
	else
		go_on(call);
}

/* ---- methods ---- */

static void start(struct daemon *daemon, struct request *request, enum api_method method, json_t *params)
{
	struct worktree_call *call = xcalloc(1, sizeof(*call));
	struct worktree_call **at = &daemon->worktree_calls.first;

	*call = (struct worktree_call){
		.daemon = daemon,
		.request = request,
		.method = method,
		.params = json_incref(params),
		.results = json_array(),
		.problems = json_array(),
	};
	while (*at)
		at = &(*at)->next;
	*at = call;
	begin_waiting(daemon);
}

static bool is_absolute(const json_t *params)
{
	const char *cwd = text(params, "cwd");

	return cwd && cwd[0] == '/';
}

/* Either cwd or is_all. False when the request was answered with an error. */
static bool check_scope(struct request *request, const json_t *params)
{
	if (is_absolute(params) != truth(params, "is_all"))
		return true;
	server_fail(request, API_ERROR_INVALID_PARAMS, NULL, NULL, "give cwd, an absolute path, or is_all");
	return false;
}

static void method_list(void *context, struct request *request, json_t *params)
{
	if (check_scope(request, params))
		start(context, request, API_WORKTREE_LIST, params);
}

static void method_remove(void *context, struct request *request, json_t *params)
{
	if (methods_refuse_writes(context, request))
		return;
	if (json_array_size(json_object_get(params, "worktrees")) == 0 || (text(params, "cwd") && !is_absolute(params)))
		server_fail(request, API_ERROR_INVALID_PARAMS, NULL, NULL, "give worktrees, and cwd as an absolute path");
	else
		start(context, request, API_WORKTREE_REMOVE, params);
}

static void method_prune(void *context, struct request *request, json_t *params)
{
	if (!methods_refuse_writes(context, request) && check_scope(request, params))
		start(context, request, API_WORKTREE_PRUNE, params);
}

void methods_worktrees_fill(server_handler handlers[API_METHOD_MAX])
{
	handlers[API_WORKTREE_LIST] = method_list;
	handlers[API_WORKTREE_REMOVE] = method_remove;
	handlers[API_WORKTREE_PRUNE] = method_prune;
}
