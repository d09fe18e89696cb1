/*
 * environment.h - what a task inherits from the client: variables, directory, mask, the repository's settings.
 */
#pragma once

#include "base/paths.h"
#include "cli/options.h"
#include "config/config.h"

/*
 * The settings for a batch, ended by NULL: the process's own without GIT_* and what belongs to an enclosing task, or with
 * `is_clean` only the few that every program expects; `given` (NAME=VALUE, or NAME for the present value) over them. To be
 * freed with free(). NULL with a sentence when a given one is malformed.
 */
const char **environment_settings(const struct option_list *given, bool is_clean, struct err *err);

/* The absolute directory of `given` (NULL = the present one), which must exist. 0 or -errno. */
int environment_directory(const char *given, char path[PATHS_MAX], struct err *err);

/*
 * The path of the file that standard input is: a regular one of which nothing has been read, or /dev/null. A pipe or
 * terminal cannot be handed to tasks, which may run long after this program: -EINVAL with a sentence. 0 or -errno.
 */
int environment_input_path(char path[PATHS_MAX], struct err *err);

/*
 * Whether `given`, taken from `directory` when it is relative, can be opened as a task's standard input; a pipe is not
 * opened for it. 0 or -errno with a sentence.
 */
int environment_check_input(const char *directory, const char *given, struct err *err);

/* The process's file mode creation mask. */
unsigned environment_mask(void);

/* Tightens `config` by .parallel.yaml in the top directory of the repository that `directory` is in, if any. 0 or -errno. */
int environment_repository_config(const char *directory, struct drover_config *config, struct err *err);
