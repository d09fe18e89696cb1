/*
 * ending.c - what a slot record tells of an attempt that is over: needs nothing of the daemon.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "daemon/attempts.h"

bool attempts_is_machines_fault(const struct slot_record *record)
{
	static const int errors[] = { EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSPC, EDQUOT };
	bool is_it = record->start_stage == STAGE_CLONE || record->start_stage == STAGE_CGROUP;

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		is_it = is_it || record->start_errno == errors[i];
	return is_it;
}

bool attempts_read_end(const struct slot_record *record, struct core_event *ret_event)
{
	struct core_event event = { .kind = CORE_INPUT, .task = record->task, .attempt = record->attempt, .exit_code = -1 };

	event.usage = (struct usage){
		.cpu_us = record->user_us + record->system_us,
		.memory_peak_bytes = record->memory_peak_bytes,
		.output_bytes = record->output_bytes[0] + record->output_bytes[1],
		.output_dropped_bytes = record->output_dropped[0] + record->output_dropped[1],
		.strays = record->strays,
		.is_known = true,
	};
	if (record->state == RECORD_ENDED) {
		event.input = INPUT_EXITED;
		if (WIFEXITED(record->wait_status))
			event.exit_code = WEXITSTATUS(record->wait_status);
		else
			event.exit_signal = WTERMSIG(record->wait_status);
		if (record->is_oom_killed && event.exit_signal == SIGKILL)
			event.cause.kind = CAUSE_OUT_OF_MEMORY;
	} else if (record->state == RECORD_FAILED) {
		event.input = attempts_is_machines_fault(record) ? INPUT_START_REFUSED : INPUT_START_FAILED;
		event.cause = (struct cause){ .kind = CAUSE_START_FAILED, .value = (uint64_t)record->start_errno };
		event.usage.is_known = false;
	} else if (record->state == RECORD_UNKNOWN) {
		event.input = INPUT_ATTEMPT_LOST;
		event.cause.kind = CAUSE_SHIM_LOST;
	} else {
		return false;
	}
	*ret_event = event;
	return true;
}
