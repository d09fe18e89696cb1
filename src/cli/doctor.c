/*
 * doctor.c - `drover doctor`: what this machine gives, which rung of each ladder is in use, what is wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/paths.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/terminal.h"
#include "version.h"

enum { KERNEL_MAJOR = 5, KERNEL_MINOR = 10 };

struct doctor_options {
	bool is_json;
};

static const struct option_row doctor_rows[] = {
	{ 0, "json", NULL, OPTION_FLAG, offsetof(struct doctor_options, is_json), .meaning = "as JSON" },
};

enum verdict { GOOD, LESS_GOOD, BAD };

struct doctor {
	struct cli *cli;
	json_t *rows;
	bool is_bad;
};

static void add_row(struct doctor *doctor, enum verdict verdict, const char *name, const char *value, const char *note)
{
	static const char *const words[] = { "ok", "notice", "problem" };

	json_array_append_new(doctor->rows, json_pack("{s:s, s:s, s:s, s:s?}", "name", name, "state", words[verdict],
	                                              "value", value, "note", note && *note ? note : NULL));
	doctor->is_bad = doctor->is_bad || verdict == BAD;
}

/* The number that a release such as "6.1.0-13-amd64" has at `at`, and what follows its dot. */
static uint64_t release_part(const char **at)
{
	char digits[8] = "";
	size_t length = strspn(*at, "0123456789");
	uint64_t value = 0;

	snprintf(digits, sizeof(digits), "%.*s", (int)MIN(length, sizeof(digits) - 1), *at);
	if (str_parse_u64(digits, UINT32_MAX, &value) < 0)
		value = 0;
	*at += length;
	*at += **at == '.';
	return value;
}

static void check_kernel(struct doctor *doctor)
{
	struct utsname names;
	const char *at = names.release;
	uint64_t major, minor;
	bool is_new_enough;

	if (uname(&names) < 0) {
		add_row(doctor, BAD, "kernel", "unknown", "uname tells nothing");
		return;
	}
	major = release_part(&at);
	minor = release_part(&at);
	is_new_enough = major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);
	add_row(doctor, is_new_enough ? GOOD : BAD, "kernel", names.release,
	        is_new_enough ? NULL : "Linux 5.10 or newer is needed");
}

/* Nobody else may write there, or read outputs and environments. */
static void check_state_dir(struct doctor *doctor)
{
	char path[PATHS_MAX];
	char note[128] = "";
	struct err err = ERR_INIT;
	struct stat status;
	enum verdict verdict = GOOD;

	if (paths_state_dir(path, &err) < 0) {
		add_row(doctor, BAD, "state directory", "none", err.text);
		return;
	}
	if (stat(path, &status) < 0) {
		verdict = errno == ENOENT ? LESS_GOOD : BAD;
		snprintf(note, sizeof(note),
		         errno == ENOENT ? "not there yet; the daemon makes it" : "cannot be looked at: %s",
		         strerror(errno));
	} else if (!S_ISDIR(status.st_mode)) {
		verdict = BAD;
		snprintf(note, sizeof(note), "is no directory");
	} else if (status.st_uid != geteuid()) {
		verdict = BAD;
		snprintf(note, sizeof(note), "belongs to user %u, not to you", (unsigned)status.st_uid);
	} else if (status.st_mode & 077) {
		verdict = BAD;
		snprintf(note, sizeof(note), "has mode %03o: others can get in; 'chmod 700' it",
		         (unsigned)status.st_mode & 0777);
	}
	add_row(doctor, verdict, "state directory", path, note);
}

static void check_capabilities(struct doctor *doctor, const json_t *status)
{
	json_t *capability;
	size_t i;

	json_array_foreach (json_object_get(status, "capabilities"), i, capability)
		add_row(doctor, json_is_true(json_object_get(capability, "is_best")) ? GOOD : LESS_GOOD,
		        json_string_value(json_object_get(capability, "name")),
		        json_string_value(json_object_get(capability, "rung")),
		        json_string_value(json_object_get(capability, "note")));
}

static void check_problems(struct doctor *doctor, struct client *client)
{
	struct client_error error = { 0 };
	json_t *status = client_call(client, API_STATUS, NULL, &error);
	const json_t *problems = json_object_get(status, "problems");
	json_t *problem;
	size_t i;

	if (!status)
		add_row(doctor, BAD, "status", "unknown", error.text);
	json_array_foreach (problems, i, problem)
		add_row(doctor, BAD, "problem", json_string_value(problem), NULL);
	if (status && json_array_size(problems) == 0)
		add_row(doctor, GOOD, "problems", "none", NULL);
	json_decref(status);
}

static void check_daemon(struct doctor *doctor)
{
	struct client_options options = { .name = "drover " DROVER_VERSION, .may_start = true };
	CLEANUP(client_cleanup) struct client *client = NULL;
	struct client_error error = { 0 };
	const char *version;
	json_t *status;
	char value[128];

	if (client_open(&options, &client, &error) < 0) {
		add_row(doctor, BAD, "daemon", "not reachable", error.text);
		check_state_dir(doctor);
		return;
	}
	check_state_dir(doctor);
	status = client_call(client, API_DAEMON_STATUS, NULL, &error);
	if (!status) {
		add_row(doctor, BAD, "daemon", "does not answer", error.text);
		return;
	}
	version = json_string_value(json_object_get(status, "version"));
	snprintf(value, sizeof(value), "%s, process %lld", version ? version : "?",
	         (long long)json_integer_value(json_object_get(status, "pid")));
	if (version && strcmp(version, DROVER_VERSION) != 0)
		add_row(doctor, LESS_GOOD, "daemon", value,
		        "is of another version than this program: 'drover daemon restart'");
	else
		add_row(doctor, GOOD, "daemon", value, NULL);
	check_capabilities(doctor, status);
	json_decref(status);
	check_problems(doctor, client);
}

static void print_rows(struct doctor *doctor)
{
	struct cli *cli = doctor->cli;
	json_t *row;
	size_t i;

	json_array_foreach (doctor->rows, i, row) {
		const char *state = json_string_value(json_object_get(row, "state"));
		const char *note = json_string_value(json_object_get(row, "note"));
		const char *colour = !cli->has_out_colour            ? ""
		                     : strcmp(state, "ok") == 0      ? "\033[32m"
		                     : strcmp(state, "problem") == 0 ? "\033[31m"
		                                                     : "\033[33m";

		buf_add_format(&cli->out, "%s%-8s%s %-20s ", colour, state, *colour ? "\033[0m" : "",
		               json_string_value(json_object_get(row, "name")));
		terminal_add_cut(&cli->out, json_string_value(json_object_get(row, "value")), SIZE_MAX);
		buf_add_byte(&cli->out, '\n');
		if (!note)
			continue;
		buf_add_format(&cli->out, "%-30s", "");
		terminal_add_cut(&cli->out, note, SIZE_MAX);
		buf_add_byte(&cli->out, '\n');
	}
	buf_add_format(&cli->out, "\n%s\n", doctor->is_bad ? "there are problems" : "all is well");
}

static int handle_doctor(struct cli *cli, int argc, char **argv)
{
	struct doctor_options options = { 0 };
	struct option_rest rest = { 0 };
	int status = CLI_OK;

	if (cli_parse(cli, argc, argv, &options, &rest, &status)) {
		struct doctor doctor = { .cli = cli, .rows = json_array() };

		add_row(&doctor, GOOD, "drover", DROVER_VERSION, NULL);
		check_kernel(&doctor);
		check_daemon(&doctor);
		if (options.is_json) {
			json_t *value = json_pack("{s:b, s:O}", "ok", !doctor.is_bad, "rows", doctor.rows);

			cli_print_json(cli, value);
			json_decref(value);
		} else {
			print_rows(&doctor);
		}
		json_decref(doctor.rows);
		status = doctor.is_bad ? CLI_FAILED : CLI_OK;
	}
	cli_done(cli, &options, &rest);
	return status;
}

const struct command command_doctor = {
	.name = "doctor",
	.usage = "[--json]",
	.summary = "tells what this machine gives, what of it is in use, and what is wrong",
	COMMAND_OPTIONS(doctor_rows),
	.method = -1,
	.handle = handle_doctor,
};
