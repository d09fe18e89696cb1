#include "crash_script.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int open_and_load(const char *directory, struct store **ret)
{
	static const struct store_loader no_loader;
	struct store_facts facts;
	int result = model_open(directory, 0, ret, NULL);

	return result < 0 ? result : store_load(*ret, &no_loader, &facts, NULL);
}

struct script_result script_run(const char *directory, uint32_t steps,
                                void (*on_acknowledged)(void *context, uint64_t seq), void *context)
{
	struct model *model = model_new(SCRIPT_SEED);
	struct script_result result = { 0 };
	struct store *store = NULL;

	result.error = open_and_load(directory, &store);
	for (uint32_t i = 0; result.error == 0 && i < steps; i++) {
		struct store_txn *txn = store_txn_new();

		model_step(model, txn);
		result.attempted_seq = model->facts.last_seq;
		result.error = model_commit(store, txn, NULL);
		if (result.error < 0)
			break;
		result.acknowledged_seq = model->facts.last_seq;
		if (on_acknowledged)
			on_acknowledged(context, model->facts.last_seq);
	}
	if (result.error == -ENOSPC && result.attempted_seq > result.acknowledged_seq) {
		/* It waits for room, is not there yet, and not given up. */
		ASSERT(store_is_busy(store));
		store_retry(store, NULL);
		ASSERT(model_finish(store, NULL) == -ENOSPC);
	} else if (result.attempted_seq > result.acknowledged_seq) {
		struct store_txn *txn = store_txn_new();

		/* Closed for writing means closed: nothing else gets in. */
		store_txn_drop_events(txn, INT64_MAX);
		ASSERT(model_commit(store, txn, NULL) < 0);
	}
	result.state = store ? store_state(store, NULL) : 0;
	store_close(store);
	free(model);
	return result;
}

int script_steps_at(uint64_t seq)
{
	struct model *model = model_at(SCRIPT_SEED, seq);
	int steps = model ? (int)model->steps : -1;

	free(model);
	return steps;
}

/* Last sequence number of the database, by a load of its own. */
static int find_last_seq(const char *directory, uint64_t acknowledged_seq, uint64_t *ret, struct err *err)
{
	static const struct store_loader no_loader;
	struct store *store = NULL;
	struct store_facts facts = { 0 };
	int result = model_open(directory, acknowledged_seq, &store, err);

	if (result == 0)
		result = store_load(store, &no_loader, &facts, err);
	store_close(store);
	*ret = facts.last_seq;
	return result;
}

int script_judge(const char *directory, uint64_t acknowledged_seq, uint64_t attempted_seq, char *why)
{
	struct err err = ERR_INIT;
	struct store *store = NULL;
	struct model *model;
	char difference[256] = "";
	bool is_equal = false;
	uint64_t last_seq;
	int steps;

	if (find_last_seq(directory, acknowledged_seq, &last_seq, &err) < 0) {
		snprintf(why, 512, "it does not open: %.400s", err.text);
		return -1;
	}
	model = model_at(SCRIPT_SEED, last_seq);
	steps = model ? (int)model->steps : -1;
	if (!model || last_seq > attempted_seq) {
		snprintf(why, 512, "it ends at event %llu, in the middle of a step or after the last",
		         (unsigned long long)last_seq);
		free(model);
		return -1;
	}
	if (model_open(directory, acknowledged_seq, &store, &err) < 0 || model_load(model, store, &is_equal, difference,
	                                                                            &err) < 0)
		snprintf(why, 512, "it does not open a second time: %.400s", err.text);
	else if (!is_equal)
		snprintf(why, 512, "after %d steps: %s", steps, difference);
	store_close(store);
	free(model);
	return is_equal ? steps : -1;
}
