/*
 * paths.h - where drover's files are, by the environment. Names only; nothing is made or opened here.
 */
#pragma once

#include "base/err.h"

enum {
	PATHS_MAX = 4096,
	PATHS_STATE_MAX = 450, /* of the state directory: SQLite takes 512 bytes with the names of its files */
};

/*
 * The state directory, absolute: $DROVER_STATE_DIR, else $XDG_STATE_HOME/drover, else $HOME/.local/state/drover. A relative
 * value of the XDG variable is ignored, as its specification demands. 0, -ENOENT without a home, -ENAMETOOLONG over
 * PATHS_STATE_MAX.
 */
int paths_state_dir(char path[PATHS_MAX], struct err *err);

/*
 * Where a daemon with this state directory listens: $XDG_RUNTIME_DIR/drover/daemon.sock when the state directory is not
 * chosen by $DROVER_STATE_DIR and the runtime directory exists, is the user's own and cannot be written by others, else
 * <state_dir>/run/daemon.sock.
 * Only a starting daemon asks this; clients read the path from the lock file, since cron and sudo lack the variable.
 */
int paths_socket(const char *state_dir, char path[PATHS_MAX], struct err *err);

/* The user's configuration file: $XDG_CONFIG_HOME/drover/config.yaml, else $HOME/.config/drover/config.yaml. */
int paths_config(char path[PATHS_MAX], struct err *err);

/*
 * A program of ours: $DROVER_LIBEXEC_DIR/NAME, else NAME beside the running executable (a build tree), else
 * ../libexec/drover/NAME from there. 0 or -ENOENT.
 */
int paths_program(const char *name, char path[PATHS_MAX], struct err *err);

/* Names inside the state directory. */
#define PATHS_DATABASE "drover.db"
#define PATHS_SNAPSHOTS "snapshots"
#define PATHS_SLOTS "slots"
#define PATHS_LOGS "logs"
#define PATHS_ENVIRONMENTS "env"
#define PATHS_DAEMON_LOCK "daemon.lock"
#define PATHS_KEEPER_LOCK "keeper.lock"
#define PATHS_DAEMON_LOG "daemon.log"
