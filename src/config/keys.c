#include "config/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "base/units.h"

enum { KEYS_MAX = 64 };

const struct config_key *config_key_find(const struct config_key *keys, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

int config_fail_unknown(const struct config_file *file, const struct config_node *key_node, const struct config_key *keys,
                        size_t count, struct err *err)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;
	const char *names[KEYS_MAX];
	const char *nearest;

	ASSERT(count <= KEYS_MAX);
	for (size_t i = 0; i < count; i++)
		names[i] = keys[i].name;
	nearest = str_nearest(key_node->text, names, count);
	str_add_visible(&shown, key_node->text, strnlen(key_node->text, 80));
	if (strcmp(key_node->text, "<<") == 0)
		return config_fail(file, key_node, -EINVAL, err, "merge keys (<<) are not supported: use 'defaults'");
	if (nearest)
		return config_fail(file, key_node, -EINVAL, err, "unknown key '%s'; did you mean '%s'?",
		                   shown.bytes ? shown.bytes : "", nearest);
	buf_clear(&shown);
	for (size_t i = 0; i < count; i++)
		buf_add_format(&shown, "%s%s", i > 0 ? " " : "", names[i]);
	return config_fail(file, key_node, -EINVAL, err, "unknown key '%.80s'; known are: %s", key_node->text,
	                   shown.bytes ? shown.bytes : "");
}

static int fail_value(const struct config_file *file, const struct config_node *node, const char *name, const char *wanted,
                      struct err *err)
{
	CLEANUP_BUF struct buf shown = BUF_INIT;

	if (node->kind != CONFIG_SCALAR || config_node_is_null(node))
		return config_fail(file, node, -EINVAL, err, "%s: give %s, not %s", name, wanted,
		                   config_node_describe(node));
	str_add_visible(&shown, node->text, strnlen(node->text, 80));
	return config_fail(file, node, -EINVAL, err, "%s: '%s' is not %s", name, shown.bytes ? shown.bytes : "", wanted);
}

static int need_scalar(const struct config_file *file, const struct config_node *node, const char *name, const char *wanted,
                       struct err *err)
{
	if (node->kind != CONFIG_SCALAR || config_node_is_null(node))
		return fail_value(file, node, name, wanted, err);
	return 0;
}

int config_convert_texts(const struct config_file *file, const struct config_node *node, const char *name, json_t **ret,
                         struct err *err)
{
	json_t *list = json_array();
	const struct config_node *entry = node;

	if (node->kind == CONFIG_LIST)
		entry = node->first;
	for (; entry; entry = node->kind == CONFIG_LIST ? entry->next : NULL) {
		int code = need_scalar(file, entry, name, "text", err);

		if (code < 0) {
			json_decref(list);
			return code;
		}
		json_array_append_new(list, json_string(entry->text));
	}
	*ret = list;
	return 0;
}

static int convert_word(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                        json_t **ret, struct err *err)
{
	const char *at = key->words;
	char wanted[128];

	snprintf(wanted, sizeof(wanted), "one of %s", key->words);
	if (node->kind == CONFIG_SCALAR && node->text[0] != '\0' && !strpbrk(node->text, " ")) {
		size_t length = strlen(node->text);

		while ((at = strstr(at, node->text)) != NULL) {
			if ((at == key->words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) {
				*ret = json_string(node->text);
				return 0;
			}
			at += length;
		}
	}
	return fail_value(file, node, key->name, wanted, err);
}

/* true and false stand for auto and none, so that the question "isolated or not" has its plain answer. */
static int convert_worktree(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                            json_t **ret, struct err *err)
{
	static const struct config_key words = { .name = "worktree", .words = "none auto checkout" };

	if (node->kind == CONFIG_SCALAR && node->is_plain && strcmp(node->text, "true") == 0)
		*ret = json_string("auto");
	else if (node->kind == CONFIG_SCALAR && node->is_plain && strcmp(node->text, "false") == 0)
		*ret = json_string("none");
	else if (node->kind == CONFIG_SCALAR)
		return convert_word(file, node, &words, ret, err);
	else
		return fail_value(file, node, key->name, "none, auto, checkout, true or false", err);
	return 0;
}

static int convert_boolean(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                           json_t **ret, struct err *err)
{
	bool is_true = node->kind == CONFIG_SCALAR && node->is_plain && strcmp(node->text, "true") == 0;
	bool is_false = node->kind == CONFIG_SCALAR && node->is_plain && strcmp(node->text, "false") == 0;

	if (!is_true && !is_false)
		return fail_value(file, node, key->name, "true or false", err);
	*ret = json_boolean(is_true);
	return 0;
}

static int convert_count(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                         json_t **ret, struct err *err)
{
	uint64_t lowest = key->type == CONFIG_KEY_LIMIT ? 1 : 0;
	uint64_t value = 0;
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "a number from %d to %llu%s", (int)lowest, (unsigned long long)key->limit,
	         lowest ? ", or auto" : "");
	if (lowest && node->kind == CONFIG_SCALAR && strcmp(node->text, "auto") == 0) {
		*ret = json_integer(0);
		return 0;
	}
	if (node->kind != CONFIG_SCALAR || str_parse_u64(node->text, key->limit, &value) < 0 || value < lowest)
		return fail_value(file, node, key->name, wanted, err);
	*ret = json_integer((json_int_t)value);
	return 0;
}

static int convert_duration(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                            json_t **ret, struct err *err)
{
	bool is_source = key->type == CONFIG_KEY_SOURCE_DURATION;
	struct err why = ERR_INIT;
	uint64_t number = 0;
	int code;

	if (is_source && config_node_is_null(node)) {
		*ret = json_integer(0);
		return 0;
	}
	code = need_scalar(file, node, key->name, "a duration like 30s or 1h30m", err);
	if (code < 0)
		return code;
	if (str_parse_u64(node->text, NEVER_NS / NS_PER_MS / 2, &number) == 0 && (number == 0 || is_source))
		number *= NS_PER_MS;
	else if (units_parse_duration(node->text, &number, &why) < 0)
		return config_fail(file, node, -EINVAL, err, "%s: %s", key->name, why.text);
	*ret = is_source ? json_integer((json_int_t)number) : json_real((double)number / (double)NS_PER_SEC);
	return 0;
}

static int convert_size(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                        json_t **ret, struct err *err)
{
	struct err why = ERR_INIT;
	uint64_t bytes = 0;
	int code = need_scalar(file, node, key->name, "a size like 512K or 16M", err);

	if (code < 0)
		return code;
	if (units_parse_size(node->text, &bytes, &why) < 0)
		return config_fail(file, node, -EINVAL, err, "%s: %s", key->name, why.text);
	if (bytes > 0 && node->text[strspn(node->text, "0123456789.")] == '\0')
		return config_fail(file, node, -EINVAL, err, "%s: the size '%.40s' has no unit: write %.40sB or %.40sM",
		                   key->name, node->text, node->text, node->text);
	*ret = json_integer((json_int_t)bytes);
	return 0;
}

static int convert_settings(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                            json_t **ret, struct err *err)
{
	CLEANUP_BUF struct buf setting = BUF_INIT;
	json_t *list;

	if (node->kind != CONFIG_MAP)
		return fail_value(file, node, key->name, "a map of NAME: VALUE", err);
	list = json_array();
	for (const struct config_node *entry = node->first; entry; entry = entry->next) {
		int code = need_scalar(file, entry, entry->key->text, "text", err);

		if (code == 0 && (entry->key->text[0] == '\0' || strchr(entry->key->text, '=')))
			code = config_fail(file, entry->key, -EINVAL, err, "%s: '%.80s' is no name of a variable", key->name,
			                   entry->key->text);
		if (code < 0) {
			json_decref(list);
			return code;
		}
		buf_clear(&setting);
		buf_add_format(&setting, "%s=%s", entry->key->text, entry->text);
		json_array_append_new(list, json_stringn(setting.bytes, setting.length));
	}
	*ret = list;
	return 0;
}

int config_convert(const struct config_file *file, const struct config_node *node, const struct config_key *key,
                   json_t **ret, struct err *err)
{
	int code;

	switch (key->type) {
	case CONFIG_KEY_TEXT:
		code = need_scalar(file, node, key->name, "text", err);
		break;
	case CONFIG_KEY_NAME:
		code = node->kind == CONFIG_SCALAR && str_is_task_name(node->text)
		               ? 0
		               : fail_value(file, node, key->name, "a name: " STR_TASK_NAME_RULE, err);
		break;
	case CONFIG_KEY_TEXTS:
		return config_convert_texts(file, node, key->name, ret, err);
	case CONFIG_KEY_WORD:
		return convert_word(file, node, key, ret, err);
	case CONFIG_KEY_WORKTREE:
		return convert_worktree(file, node, key, ret, err);
	case CONFIG_KEY_BOOLEAN:
		return convert_boolean(file, node, key, ret, err);
	case CONFIG_KEY_COUNT:
	case CONFIG_KEY_LIMIT:
		return convert_count(file, node, key, ret, err);
	case CONFIG_KEY_SECONDS:
	case CONFIG_KEY_SOURCE_DURATION:
		return convert_duration(file, node, key, ret, err);
	case CONFIG_KEY_SIZE:
		return convert_size(file, node, key, ret, err);
	case CONFIG_KEY_SETTINGS:
		return convert_settings(file, node, key, ret, err);
	default:
		NEVER("keys of this type are converted elsewhere");
	}
	if (code == 0)
		*ret = json_string(node->text);
	return code;
}

static bool is_same_setting(const char *a, const char *b)
{
	size_t length = strcspn(a, "=");

	return strncmp(a, b, length + 1) == 0;
}

json_t *config_merge_settings(const json_t *below, json_t *above)
{
	json_t *merged = json_array();
	json_t *setting, *newer;
	size_t i, j;

	json_array_foreach (below, i, setting) {
		bool is_replaced = false;

		json_array_foreach (above, j, newer)
			is_replaced = is_replaced || is_same_setting(json_string_value(setting), json_string_value(newer));
		if (!is_replaced)
			json_array_append(merged, setting);
	}
	json_array_extend(merged, above);
	json_decref(above);
	return merged;
}
