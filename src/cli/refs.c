#include "cli/refs.h"

#include <string.h>

#include "base/str.h"
#include "cli/cli.h"

json_t *refs_string(const char *word)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (word[0] == '#')
		word++;
	str_add_visible(&shown, word, strlen(word));
	return json_string(shown.bytes ? shown.bytes : "");
}

json_t *refs_array(const struct option_list *words)
{
	json_t *array = json_array();

	for (size_t i = 0; i < words->count; i++)
		json_array_append_new(array, refs_string(words->texts[i]));
	return array;
}

json_t *refs_rest_array(const struct option_rest *words)
{
	json_t *array = json_array();

	for (size_t i = 0; i < words->count; i++)
		json_array_append_new(array, refs_string(words->texts[i]));
	return array;
}

size_t refs_tell_refused(struct cli *cli, const json_t *result)
{
	const json_t *refused = json_object_get(result, "refused");
	json_t *sentence;
	size_t i;

	json_array_foreach (refused, i, sentence)
		cli_tell(cli, "%s", json_string_value(sentence));
	return json_array_size(refused);
}
