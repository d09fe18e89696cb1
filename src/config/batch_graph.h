/*
 * batch_graph.h - the tasks of a batch file as a graph: are names unique, do dependencies exist, is there a circle.
 */
#pragma once

#include "config/tree.h"

/*
 * Checks the list `tasks`, whose entries are well-formed task maps. Dependencies by id (all digits) or batch/name are the
 * daemon's to check. 0, or -EINVAL with the place and, for a circle, its path "a -> b -> a".
 */
int batch_graph_check(const struct config_file *file, const struct config_node *tasks, struct err *err);
