/*
 * drover.h - the drover client in C: a connection to the user's daemon, calls as JSON text, events.
 *
 * Methods, their parameters, results and errors are in docs/protocol.md. Typical use:
 *
 *     char error[DROVER_ERROR_MAX];
 *     struct drover *drover = drover_connect(NULL, DROVER_START, error);
 *     char *status = drover ? drover_call(drover, "status", "{}", error) : NULL;
 *
 *     free(status);
 *     drover_close(drover);
 *
 * A daemon that does not answer is given up after 30 seconds, or as many as DROVER_PATIENCE in the environment says. Texts
 * are UTF-8. A handle may be used by one thread at a time. Functions block; no signals are used, none are ignored
 * (writes to a lost daemon never raise SIGPIPE). Link with -ldrover; Linux only.
 */
#ifndef DROVER_H
#define DROVER_H

#ifdef __cplusplus
extern "C" {
#endif

/* A connection. */
struct drover;

/* Size of the buffers for error sentences, NUL included. */
#define DROVER_ERROR_MAX 1024

/* Flag of drover_connect(): start the daemon when none answers (never done inside a task). */
#define DROVER_START 1u

/* What drover_next_event() returns. */
#define DROVER_EVENT 1
#define DROVER_TIMEOUT 0
#define DROVER_LOST (-1)

/*
 * Connects to the daemon of a state directory; NULL means the user's own ($DROVER_STATE_DIR, $XDG_STATE_HOME/drover,
 * ~/.local/state/drover). Returns NULL and a sentence in `error` when that fails. `error` may be NULL here and below.
 */
struct drover *drover_connect(const char *state_dir, unsigned flags, char error[DROVER_ERROR_MAX]);

/*
 * One call: the method's name and its parameters as the text of a JSON object (NULL = none). Returns the result as JSON
 * text, to be freed with free(), or NULL with a sentence in `error` and the error's number from docs/protocol.md in
 * drover_error_number(). Calls that only read are tried again when the daemon starts anew meanwhile.
 */
char *drover_call(struct drover *drover, const char *method, const char *params, char error[DROVER_ERROR_MAX]);

/* Number of the last call's error, 0 when it succeeded, −1 when the daemon could not be reached. */
int drover_error_number(const struct drover *drover);

/*
 * The next event of what was subscribed to with events.subscribe, as JSON text in *event, to be freed with free(). Waits at
 * most `timeout_ms` (−1 = for ever). DROVER_EVENT, DROVER_TIMEOUT, or DROVER_LOST when the daemon is gone and has not come
 * back within 30 s. When it comes back sooner the subscription is renewed without a gap, or the event {"kind": "gap"} says
 * that some events were missed: list the tasks then.
 */
int drover_next_event(struct drover *drover, int timeout_ms, char **event, char error[DROVER_ERROR_MAX]);

/* Ends the connection; tasks go on. NULL is fine. */
void drover_close(struct drover *drover);

#ifdef __cplusplus
}
#endif

#endif
