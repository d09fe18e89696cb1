#include "config/batch_graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"
#include "config/batch.h"

enum { NEAREST_NAMES_MAX = 4096 };

struct edge {
	unsigned to;
	const struct config_node *at; /* where the dependency is written */
};

struct vertex {
	const struct config_node *name; /* NULL = unnamed, so nothing depends on it */
	unsigned first;                 /* of its edges */
	unsigned edge_count;
	unsigned visited; /* edges followed so far */
	enum { VERTEX_NEW, VERTEX_OPEN, VERTEX_DONE } state;
};

struct graph {
	const struct config_file *file;
	struct err *err;
	struct vertex *vertices;
	unsigned vertex_count;
	unsigned *by_name; /* indices of named vertices, in order of their names */
	unsigned named_count;
	struct edge *edges;
	unsigned edge_count;
	unsigned edge_capacity;
	unsigned *path; /* open vertices, from the first */
};

static const struct config_node *name_of(const struct config_node *task)
{
	const struct config_node *name = config_node_find(task, "name");

	return name ? name : config_node_find(task, "id");
}

static int compare_names(const void *a, const void *b, void *context)
{
	const struct graph *graph = context;
	const struct config_node *left = graph->vertices[*(const unsigned *)a].name;
	const struct config_node *right = graph->vertices[*(const unsigned *)b].name;
	int order = strcmp(left->text, right->text);

	if (order != 0)
		return order;
	return left->line < right->line || (left->line == right->line && left->column < right->column) ? -1 : 1;
}

/* Index of the vertex with a name, or −1. */
static int find_vertex(const struct graph *graph, const char *name)
{
	unsigned low = 0, high = graph->named_count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		int order = strcmp(graph->vertices[graph->by_name[middle]].name->text, name);

		if (order == 0)
			return (int)graph->by_name[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

static int index_names(struct graph *graph, const struct config_node *tasks)
{
	unsigned index = 0;

	for (const struct config_node *task = tasks->first; task; task = task->next, index++) {
		graph->vertices[index].name = name_of(task);
		if (graph->vertices[index].name)
			graph->by_name[graph->named_count++] = index;
	}
	qsort_r(graph->by_name, graph->named_count, sizeof(*graph->by_name), compare_names, graph);
	for (unsigned i = 1; i < graph->named_count; i++) {
		const struct config_node *before = graph->vertices[graph->by_name[i - 1]].name;
		const struct config_node *name = graph->vertices[graph->by_name[i]].name;

		if (strcmp(before->text, name->text) == 0)
			return config_fail(graph->file, name, -EINVAL, graph->err,
			                   "the name '%s' is given twice; the first is in line %u", name->text,
			                   before->line);
	}
	return 0;
}

static int fail_missing(struct graph *graph, const struct config_node *at)
{
	CLEANUP_FREE const char **names = xcalloc(NEAREST_NAMES_MAX, sizeof(*names));
	CLEANUP_BUF struct buf shown = BUF_INIT;
	size_t count = MIN(graph->named_count, (unsigned)NEAREST_NAMES_MAX);
	const char *nearest;

	for (size_t i = 0; i < count; i++)
		names[i] = graph->vertices[graph->by_name[i]].name->text;
	nearest = str_nearest(at->text, names, count);
	str_add_visible(&shown, at->text, strnlen(at->text, 80));
	return config_fail(graph->file, at, -EINVAL, graph->err, "no task of this file is named '%s'%s%s%s",
	                   shown.bytes ? shown.bytes : "", nearest ? "; did you mean '" : "", nearest ? nearest : "",
	                   nearest ? "'?" : "");
}

static int add_edge(struct graph *graph, struct vertex *from, const struct config_node *at)
{
	int to;

	if (strchr(at->text, '/') || (at->text[0] != '\0' && at->text[strspn(at->text, "0123456789")] == '\0'))
		return 0;
	to = find_vertex(graph, at->text);
	if (to < 0)
		return fail_missing(graph, at);
	if (graph->edge_count == graph->edge_capacity) {
		graph->edge_capacity = MAX(graph->edge_capacity * 2, 64u);
		graph->edges = xrealloc(graph->edges, graph->edge_capacity * sizeof(*graph->edges));
	}
	graph->edges[graph->edge_count++] = (struct edge){ .to = (unsigned)to, .at = at };
	from->edge_count++;
	return 0;
}

static int add_edges(struct graph *graph, struct vertex *vertex, const struct config_node *value)
{
	int code = 0;

	if (!value)
		return 0;
	if (value->kind == CONFIG_SCALAR)
		return add_edge(graph, vertex, value);
	for (const struct config_node *entry = value->first; entry && code == 0; entry = entry->next)
		code = add_edge(graph, vertex, entry);
	return code;
}

static int read_edges(struct graph *graph, const struct config_node *tasks)
{
	unsigned index = 0;
	int code = 0;

	for (const struct config_node *task = tasks->first; task && code == 0; task = task->next, index++) {
		struct vertex *vertex = &graph->vertices[index];

		vertex->first = graph->edge_count;
		code = add_edges(graph, vertex, config_node_find(task, "after"));
		if (code == 0)
			code = add_edges(graph, vertex, config_node_find(task, "afterAny"));
	}
	return code;
}

/* The open vertices from `start` on are the circle, which `edge` closes. */
static int fail_circle(struct graph *graph, unsigned depth, const struct edge *edge)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	unsigned start = depth;

	while (graph->path[start - 1] != edge->to)
		start--;
	for (unsigned i = start - 1; i < depth && text.length < BATCH_PATH_MAX; i++)
		buf_add_format(&text, "%s -> ", graph->vertices[graph->path[i]].name->text);
	if (text.length >= BATCH_PATH_MAX)
		buf_add_text(&text, "... -> ");
	buf_add_text(&text, graph->vertices[edge->to].name->text);
	return config_fail(graph->file, edge->at, -EINVAL, graph->err, "the tasks wait for each other in a circle: %s",
	                   text.bytes);
}

/* Depth first from `root`, without recursion: each step follows one edge or leaves one vertex. */
static int search_from(struct graph *graph, unsigned root)
{
	unsigned depth = 0;

	graph->path[depth++] = root;
	graph->vertices[root].state = VERTEX_OPEN;
	while (depth > 0) {
		struct vertex *vertex = &graph->vertices[graph->path[depth - 1]];
		const struct edge *edge;

		if (vertex->visited == vertex->edge_count) {
			vertex->state = VERTEX_DONE;
			depth--;
			continue;
		}
		edge = &graph->edges[vertex->first + vertex->visited++];
		if (graph->vertices[edge->to].state == VERTEX_OPEN)
			return fail_circle(graph, depth, edge);
		if (graph->vertices[edge->to].state == VERTEX_NEW) {
			graph->vertices[edge->to].state = VERTEX_OPEN;
			graph->path[depth++] = edge->to;
		}
	}
	return 0;
}

int batch_graph_check(const struct config_file *file, const struct config_node *tasks, struct err *err)
{
	struct graph graph = { .file = file, .err = err, .vertex_count = tasks->count };
	int code;

	graph.vertices = xcalloc(tasks->count, sizeof(*graph.vertices));
	graph.by_name = xcalloc(tasks->count, sizeof(*graph.by_name));
	graph.path = xcalloc(tasks->count, sizeof(*graph.path));
	code = index_names(&graph, tasks);
	if (code == 0)
		code = read_edges(&graph, tasks);
	for (unsigned i = 0; i < graph.vertex_count && code == 0; i++)
		if (graph.vertices[i].state == VERTEX_NEW)
			code = search_from(&graph, i);
	free(graph.vertices);
	free(graph.by_name);
	free(graph.path);
	free(graph.edges);
	return code;
}
