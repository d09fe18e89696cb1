#include "config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/paths.h"
#include "base/str.h"
#include "config/keys.h"

enum setting_id {
#define SETTING(symbol, field, section, key, type, limit, initial, repository, meaning) SETTING_##symbol,
#include "config/config.def"
	SETTING_MAX
};

enum planned_effect { EFFECT_PROMISED, EFFECT_SHOWN };

enum repository_rule { REPOSITORY_LOWER, REPOSITORY_NEVER };

enum {
	TYPE_COUNT = CONFIG_KEY_COUNT,
	TYPE_LIMIT = CONFIG_KEY_LIMIT,
	TYPE_BOOLEAN = CONFIG_KEY_BOOLEAN,
	TYPE_DURATION = CONFIG_KEY_SOURCE_DURATION,
	TYPE_SIZE = CONFIG_KEY_SIZE,
	TYPE_WORD = CONFIG_KEY_WORD,
};

struct setting {
	const char *section;
	struct config_key key;
	uint64_t initial;
	size_t offset; /* in struct drover_config */
	enum repository_rule rule;
};

static const struct setting settings[SETTING_MAX] = {
#define SETTING(symbol, field, section_, key_, type_, limit_, initial_, repository_, meaning)                               \
	[SETTING_##symbol] = { .section = section_,                                                                         \
		               .key = { .name = key_, .type = (enum config_key_type)TYPE_##type_, .limit = limit_ },        \
		               .initial = initial_,                                                                         \
		               .offset = offsetof(struct drover_config, field),                                             \
		               .rule = REPOSITORY_##repository_ },
#include "config/config.def"
};

static const struct planned {
	const char *section;
	struct config_key key;
	enum planned_effect effect;
} planned[] = {
#define PLANNED(section_, key_, type_, limit_, words_, effect_)                                                             \
	{ .section = section_,                                                                                              \
	  .key = { .name = key_, .type = (enum config_key_type)TYPE_##type_, .limit = limit_, .words = words_ },            \
	  .effect = EFFECT_##effect_ },
#include "config/config.def"
};

_Static_assert(ARRAY_SIZE(planned) <= CONFIG_PLANNED_MAX, "each planned key has a bit");

static const char notify_key[] = "notify";

struct loader {
	const struct config_file *file;
	struct drover_config config;
	json_t *notify; /* NULL = not given */
	enum config_origin origin;
	struct err *err;
};

static struct config_value *value_of(struct drover_config *config, const struct setting *setting)
{
	return (struct config_value *)((char *)config + setting->offset);
}

void config_init(struct drover_config *config)
{
	*config = (struct drover_config){ 0 };
	for (int id = 0; id < SETTING_MAX; id++)
		*value_of(config, &settings[id]) = (struct config_value){ .value = settings[id].initial };
}

/* Where 0 means "without bound", every other value is tighter. */
static bool is_tighter(const struct setting *setting, uint64_t value, uint64_t than)
{
	bool is_zero_endless = setting->key.type == CONFIG_KEY_LIMIT || setting->key.type == CONFIG_KEY_SOURCE_DURATION;

	if (is_zero_endless && value == 0)
		return false;
	return (is_zero_endless && than == 0) || value < than;
}

static int apply(struct loader *loader, const struct setting *setting, const struct config_node *entry)
{
	struct config_value *value = value_of(&loader->config, setting);
	json_t *json;
	uint64_t number;
	int code;

	if (loader->origin == CONFIG_FROM_REPOSITORY && setting->rule == REPOSITORY_NEVER)
		return config_fail(loader->file, entry->key, -EINVAL, loader->err,
		                   "'%s' is not for a repository to set; it belongs in your own config.yaml",
		                   setting->key.name);
	code = config_convert(loader->file, entry, &setting->key, &json, loader->err);
	if (code < 0)
		return code;
	number = json_is_boolean(json) ? (uint64_t)json_is_true(json) : (uint64_t)json_integer_value(json);
	json_decref(json);
	if (loader->origin == CONFIG_FROM_REPOSITORY && !is_tighter(setting, number, value->value))
		return 0;
	*value = (struct config_value){ .value = number, .origin = loader->origin, .line = entry->line };
	return 0;
}

static const struct setting *find_setting(const char *section, const char *key)
{
	for (int id = 0; id < SETTING_MAX; id++)
		if (strcmp(settings[id].section, section) == 0 && strcmp(settings[id].key.name, key) == 0)
			return &settings[id];
	return NULL;
}

static bool is_section(const char *name)
{
	for (int id = 0; id < SETTING_MAX; id++)
		if (name[0] != '\0' && strcmp(settings[id].section, name) == 0)
			return true;
	return false;
}

/* The names that may stand in a section, sections included at the top: what is suggested for an unknown one. */
static int fail_unknown(const struct loader *loader, const char *section, const struct config_node *key_node)
{
	struct config_key names[SETTING_MAX * 2 + ARRAY_SIZE(planned) + 1] = { 0 };
	size_t count = 0;

	if (section[0] == '\0')
		names[count++].name = notify_key;

	for (int id = 0; id < SETTING_MAX; id++) {
		if (strcmp(settings[id].section, section) == 0)
			names[count++].name = settings[id].key.name;
		else if (section[0] == '\0' && !config_key_find(names, count, settings[id].section))
			names[count++].name = settings[id].section;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(planned); n++)
		if (strcmp(planned[n].section, section) == 0)
			names[count++].name = planned[n].key.name;
	return config_fail_unknown(loader->file, key_node, names, count, loader->err);
}

/* A key of which only the value is checked. -ENOENT when there is none of the name. */
static int note_planned(struct loader *loader, const char *section, const struct config_node *entry)
{
	for (unsigned n = 0; n < ARRAY_SIZE(planned); n++) {
		json_t *json;
		int code;

		if (strcmp(planned[n].section, section) != 0 || strcmp(planned[n].key.name, entry->key->text) != 0)
			continue;
		code = config_convert(loader->file, entry, &planned[n].key, &json, loader->err);
		if (code < 0)
			return code;
		json_decref(json);
		loader->config.planned |= 1u << n;
		return 0;
	}
	return -ENOENT;
}

const char *config_planned_name(unsigned n)
{
	ASSERT(n < CONFIG_PLANNED_MAX);
	return n < ARRAY_SIZE(planned) && planned[n].effect == EFFECT_PROMISED ? planned[n].key.name : NULL;
}

/* A command of a stranger's repository would be run with the user's rights. */
static int take_notify(struct loader *loader, const struct config_node *entry)
{
	json_t *words;
	int code;

	if (loader->origin == CONFIG_FROM_REPOSITORY)
		return config_fail(loader->file, entry->key, -EINVAL, loader->err,
		                   "'%s' is not for a repository to set; it belongs in your own config.yaml", notify_key);
	code = config_convert_texts(loader->file, entry, notify_key, &words, loader->err);
	if (code < 0)
		return code;
	if (entry->kind == CONFIG_SCALAR && strpbrk(entry->text, " \t")) {
		json_decref(words);
		return config_fail(loader->file, entry, -EINVAL, loader->err,
		                   "%s: it is run without a shell, so give a list: [notify-send, drover]", notify_key);
	}
	json_decref(loader->notify);
	loader->notify = words;
	return 0;
}

static int load_section(struct loader *loader, const char *section, const struct config_node *map)
{
	if (map->kind != CONFIG_MAP)
		return config_fail(loader->file, map, -EINVAL, loader->err, "%s%sgive a map of keys, not %s", section,
		                   section[0] ? ": " : "", config_node_describe(map));
	for (const struct config_node *entry = map->first; entry; entry = entry->next) {
		const struct setting *setting = find_setting(section, entry->key->text);
		int code = 0;

		if (setting)
			code = apply(loader, setting, entry);
		else if (section[0] == '\0' && strcmp(entry->key->text, notify_key) == 0)
			code = take_notify(loader, entry);
		else if (section[0] != '\0' || !is_section(entry->key->text))
			code = note_planned(loader, section, entry);
		if (code == -ENOENT)
			code = fail_unknown(loader, section, entry->key);
		if (code < 0)
			return code;
	}
	return 0;
}

static int load_root(struct loader *loader)
{
	const struct config_node *root = config_file_root(loader->file);
	int code;

	if (!root || config_node_is_null(root))
		return 0;
	code = load_section(loader, "", root);
	if (code < 0)
		return code;
	for (const struct config_node *entry = root->first; entry && code == 0; entry = entry->next)
		if (is_section(entry->key->text) && !config_node_is_null(entry))
			code = load_section(loader, entry->key->text, entry);
	return code;
}

/* `config` is the state before and, when all went well, after; *notify (may be NULL) then is a new reference, or NULL. */
static int load_file(const char *path, enum config_origin origin, struct drover_config *config, json_t **notify,
                     struct err *err)
{
	CLEANUP(config_file_cleanup) struct config_file *file = NULL;
	struct loader loader = { .config = *config, .origin = origin, .err = err };
	struct err why = ERR_INIT;
	int code = config_file_read(path, CONFIG_FILE_MAX, &file, &why);

	if (code == -ENOENT || code == -ENOTDIR)
		return 0;
	if (code < 0)
		return err_say(err, code, "%s", why.text);
	loader.file = file;
	code = load_root(&loader);
	if (code == 0)
		*config = loader.config;
	if (code == 0 && notify)
		*notify = TAKE_PTR(loader.notify);
	json_decref(loader.notify);
	return code;
}

int config_load_notify(const char *path, struct drover_config *ret, json_t **ret_notify, struct err *err)
{
	json_t *notify = NULL;
	struct drover_config config;
	char found[PATHS_MAX];
	int code = 0;

	config_init(&config);
	if (!path) {
		struct err why = ERR_INIT;

		code = paths_config(found, &why);
		if (code == -ENOENT)
			err_ignore(&why, "without a home there is no user's file");
		else if (code < 0)
			return err_say(err, code, "%s", why.text);
		path = code == 0 ? found : NULL;
	}
	code = path ? load_file(path, CONFIG_FROM_USER, &config, &notify, err) : 0;
	if (code < 0)
		return code;
	*ret = config;
	*ret_notify = notify;
	return 0;
}

int config_load_user(const char *path, struct drover_config *ret, struct err *err)
{
	json_t *notify = NULL;
	int code = config_load_notify(path, ret, &notify, err);

	json_decref(notify);
	return code;
}

int config_load_repository(const char *directory, struct drover_config *config, struct err *err)
{
	char path[PATHS_MAX];
	int length = snprintf(path, sizeof(path), "%s/%s", directory, CONFIG_REPOSITORY_FILE);

	if (length < 0 || (size_t)length >= sizeof(path))
		return err_say(err, -ENAMETOOLONG, "the path %s/%s is too long", directory, CONFIG_REPOSITORY_FILE);
	return load_file(path, CONFIG_FROM_REPOSITORY, config, NULL, err);
}

const char *config_origin_name(enum config_origin origin)
{
	static const char *const names[CONFIG_ORIGIN_MAX] = { "default", "user", "repository" };

	ASSERT(origin < CONFIG_ORIGIN_MAX);
	return names[origin];
}
