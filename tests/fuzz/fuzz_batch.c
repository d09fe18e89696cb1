/*
 * fuzz_batch.c - bytes as a batch file, YAML or JSON by the first byte.
 *
 * Checked: a refusal has a sentence; what is taken is a list of tasks, the same at a second reading.
 */
#include <string.h>

#include "config/batch.h"
#include "fuzz.h"

/*
 * libfyaml 0.7 does not free the list of pieces of a scalar that has many (fy_atom_format_text), and its frames cannot be
 * unwound. The client that reads a batch file ends soon after.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml\n";
}

static int read_batch(const char *name, const uint8_t *data, size_t size, struct batch_file *ret, struct err *err)
{
	CLEANUP(config_file_cleanup) struct config_file *file = NULL;
	int code = config_file_parse(name, (const char *)data, size, &file, err);

	return code < 0 ? code : batch_file_convert(file, ret, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *name = size > 0 && data[0] == 'J' ? "f.json" : "f.yaml";
	struct err first = ERR_INIT, second = ERR_INIT;
	struct batch_file batch = { 0 }, again = { 0 };
	int code;

	if (size == 0)
		return 0;
	code = read_batch(name, data + 1, size - 1, &batch, &first);
	ASSERT(code == read_batch(name, data + 1, size - 1, &again, &second));
	ASSERT(strcmp(first.text, second.text) == 0);
	ASSERT((code < 0) == (strlen(first.text) > 0));
	if (code == 0) {
		ASSERT(json_is_array(batch.tasks) && json_equal(batch.tasks, again.tasks));
		batch_file_done(&batch);
		batch_file_done(&again);
	}
	return 0;
}
