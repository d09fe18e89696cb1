/*
 * deps.c - who waits for whom.
 *
 * Edges lie in a pool and in two lists each, one per end. Targets are always older than what waits for them, so no cycle can
 * come in; cycles within a submission are found before, by core_find_cycle(). No recursion: graphs come from outside.
 */
#include "core/internal.h"

bool deps_is_satisfied(const struct core *core, const struct edge *edge)
{
	enum task_state state;

	ASSERT(edge->to != NONE);
	state = core->tasks[edge->to].state;
	return edge->is_any ? task_state_is_final(state) : state == TASK_SUCCEEDED;
}

bool deps_is_failed(const struct core *core, const struct edge *edge)
{
	return task_state_is_final(core->tasks[edge->to].state) && !deps_is_satisfied(core, edge);
}

static void link_in(struct core *core, uint32_t at)
{
	struct edge *edge = &core->edges[at];
	struct node *target = &core->nodes[edge->to];

	edge->next_in = NONE;
	edge->previous_in = target->last_in;
	if (target->last_in == NONE)
		target->first_in = at;
	else
		core->edges[target->last_in].next_in = at;
	target->last_in = at;
}

static void unlink_in(struct core *core, uint32_t at)
{
	struct edge *edge = &core->edges[at];
	struct node *target = &core->nodes[edge->to];

	if (edge->previous_in == NONE)
		target->first_in = edge->next_in;
	else
		core->edges[edge->previous_in].next_in = edge->next_in;
	if (edge->next_in == NONE)
		target->last_in = edge->previous_in;
	else
		core->edges[edge->next_in].previous_in = edge->previous_in;
}

static void unlink_out(struct core *core, uint32_t at)
{
	struct edge *edge = &core->edges[at];

	if (edge->previous_out == NONE)
		core->nodes[edge->from].first_out = edge->next_out;
	else
		core->edges[edge->previous_out].next_out = edge->next_out;
	if (edge->next_out != NONE)
		core->edges[edge->next_out].previous_out = edge->previous_out;
}

static void drop_edge(struct core *core, uint32_t at)
{
	struct edge *edge = &core->edges[at];

	unlink_out(core, at);
	if (edge->to != NONE)
		unlink_in(core, at);
	edge->next_out = core->edge_pool.free;
	core->edge_pool.free = at;
	core->edge_pool.used--;
}

static uint32_t take_edge(struct core *core)
{
	uint32_t at = core->edge_pool.free;

	if (at == NONE)
		at = pool_take_fresh(&core->edge_pool);
	else
		core->edge_pool.free = core->edges[at].next_out;
	ASSERT(at != NONE);
	core->edge_pool.used++;
	return at;
}

void deps_add(struct core *core, uint32_t index, const struct core_dependency *dependencies, uint32_t count)
{
	uint32_t previous = NONE;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = take_edge(core);

		core->edges[at] = (struct edge){
			.target = dependencies[i].task, .is_any = dependencies[i].is_any, .from = index,
			.previous_out = previous,
			.next_out = NONE, .next_in = NONE, .previous_in = NONE,
			.to = table_find(&core->task_table, dependencies[i].task),
		};
		if (previous == NONE)
			core->nodes[index].first_out = at;
		else
			core->edges[previous].next_out = at;
		previous = at;
		if (core->edges[at].to != NONE)
			link_in(core, at);
	}
}

void deps_resolve(struct core *core, uint32_t index)
{
	uint32_t next;

	for (uint32_t at = core->nodes[index].first_out; at != NONE; at = next) {
		struct edge *edge = &core->edges[at];

		next = edge->next_out;
		if (edge->to != NONE)
			continue;
		edge->to = table_find(&core->task_table, edge->target);
		if (edge->to != NONE)
			link_in(core, at);
		else
			drop_edge(core, at); /* forgotten: then it had ended, and nothing unfinished depended on it */
	}
}

uint32_t deps_evaluate(struct core *core, uint32_t index)
{
	uint32_t waits_for = 0;
	uint32_t failed = NONE;

	for (uint32_t at = core->nodes[index].first_out; at != NONE; at = core->edges[at].next_out) {
		const struct edge *edge = &core->edges[at];

		if (deps_is_satisfied(core, edge))
			continue;
		waits_for++;
		if (failed == NONE && deps_is_failed(core, edge))
			failed = edge->to;
	}
	core->tasks[index].waits_for = waits_for;
	return failed;
}

void deps_reopen(struct core *core, uint32_t index)
{
	for (uint32_t at = core->nodes[index].first_in; at != NONE; at = core->edges[at].next_in) {
		struct task *waiting = &core->tasks[core->edges[at].from];

		if (waiting->state == TASK_HELD || waiting->state == TASK_BLOCKED)
			waiting->waits_for++;
	}
}

bool deps_is_needed(const struct core *core, uint32_t index)
{
	for (uint32_t at = core->nodes[index].first_in; at != NONE; at = core->edges[at].next_in)
		if (!task_state_is_final(core->tasks[core->edges[at].from].state))
			return true;
	return false;
}

void deps_drop(struct core *core, uint32_t index)
{
	while (core->nodes[index].first_out != NONE)
		drop_edge(core, core->nodes[index].first_out);
	while (core->nodes[index].first_in != NONE)
		drop_edge(core, core->nodes[index].first_in);
}

uint32_t core_dependencies(const struct core *core, uint64_t id, struct core_dependency *ret, uint32_t max)
{
	uint32_t index = table_find(&core->task_table, id);
	uint32_t count = 0;

	if (index == TABLE_ABSENT)
		return 0;
	for (uint32_t at = core->nodes[index].first_out; at != NONE; at = core->edges[at].next_out) {
		if (count < max)
			ret[count] = (struct core_dependency){ .task = core->edges[at].target,
				.is_any = core->edges[at].is_any };
		count++;
	}
	return count;
}

/* ---- cycles within a submission ---------------------------------------------------------------------------------- */

enum { UNVISITED = UINT32_MAX, DONE = UINT32_MAX - 1 };

/* The edges in one array ordered by `from`: those of i are targets[start[i]] up to where those of i + 1 start. */
struct graph {
	uint32_t count;
	uint32_t edge_count;
	uint32_t *start;
	uint32_t *cursor; /* next edge to follow, UNVISITED or DONE */
	uint32_t *targets;
};

static void build_graph(struct graph *graph, const uint32_t *from, const uint32_t *to)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < graph->count; i++)
		graph->cursor[i] = 0;
	for (uint32_t e = 0; e < graph->edge_count; e++) {
		ASSERT(from[e] < graph->count && to[e] < graph->count);
		graph->cursor[from[e]]++;
	}
	for (uint32_t i = 0; i < graph->count; i++) {
		graph->start[i] = sum;
		sum += graph->cursor[i];
		graph->cursor[i] = graph->start[i];
	}
	for (uint32_t e = 0; e < graph->edge_count; e++)
		graph->targets[graph->cursor[from[e]]++] = to[e];
	for (uint32_t i = 0; i < graph->count; i++)
		graph->cursor[i] = UNVISITED;
}

static uint32_t end_of(const struct graph *graph, uint32_t i)
{
	return i + 1 < graph->count ? graph->start[i + 1] : graph->edge_count;
}

/* Moves the part of the stack that begins with `first` to its beginning; returns its length. */
static uint32_t cut_path(uint32_t *path, uint32_t depth, uint32_t first)
{
	uint32_t skip = 0;

	while (path[skip] != first)
		skip++;
	for (uint32_t i = skip; i < depth; i++)
		path[i - skip] = path[i];
	return depth - skip;
}

/* Depth first from one task, the stack in `path`. Returns the length of the cycle met, 0 when there is none. */
static uint32_t search(struct graph *graph, uint32_t root, uint32_t *path)
{
	uint32_t depth = 0;

	path[depth++] = root;
	graph->cursor[root] = graph->start[root];
	while (depth > 0) {
		uint32_t top = path[depth - 1];
		uint32_t target;

		if (graph->cursor[top] == end_of(graph, top)) {
			graph->cursor[top] = DONE;
			depth--;
			continue;
		}
		target = graph->targets[graph->cursor[top]++];
		if (graph->cursor[target] == DONE)
			continue;
		if (graph->cursor[target] != UNVISITED)
			return cut_path(path, depth, target);
		graph->cursor[target] = graph->start[target];
		path[depth++] = target;
	}
	return 0;
}

uint32_t core_find_cycle(uint32_t count, const uint32_t *from, const uint32_t *to, uint32_t edge_count, uint32_t *scratch,
                         uint32_t *ret_path)
{
	struct graph graph = {
		.count = count, .edge_count = edge_count, .start = scratch, .cursor = scratch + count,
		.targets = scratch + 2 * (size_t)count,
	};

	build_graph(&graph, from, to);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t length = graph.cursor[i] == UNVISITED ? search(&graph, i, ret_path) : 0;

		if (length > 0)
			return length;
	}
	return 0;
}
