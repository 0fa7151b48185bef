/* SPDX-License-Identifier: MIT */
#include "options.h"

#include "option_words.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NUMBER 2147483647
#define MAX_TIMEOUT_MS 86400000 /* a day */
#define MAX_CORES 8

/* Names and what they stand for; a table ends with NULL. */
struct choice {
	const char *name;
	int value;
};

static const struct choice cache_modes[] = {
	{"on", CERMET_CACHE_ON}, {"off", CERMET_CACHE_OFF}, {"readonly", CERMET_CACHE_READONLY},
	{"required", CERMET_CACHE_REQUIRED}, {NULL, 0},
};
static const struct choice log_levels[] = {
	{"error", CERMET_LOG_ERROR}, {"warning", CERMET_LOG_WARNING}, {"info", CERMET_LOG_INFO},
	{"debug", CERMET_LOG_DEBUG}, {NULL, 0},
};
static const struct choice fallbacks[] = {{"none", false}, {"cpu", true}, {NULL, 0}};
static const struct choice switches[] = {
	{"on", true}, {"off", false}, {"true", true}, {"false", false}, {"1", true}, {"0", false}, {"yes", true},
	{"no", false}, {NULL, 0},
};
static const struct choice socs[] = {{"rk3588", 0}, {NULL, 0}};
static const struct choice matches[] = {{"tflite", 0}, {"exact", 1}, {NULL, 0}};
static const struct choice assumptions[] = {{"on", 0}, {"replayed", 1}, {"off", 2}, {NULL, 0}};
static const struct choice preferences[] = {{"speed", 0}, {"npu", 1}, {NULL, 0}};
static const struct choice extents[] = {{"all", 0}, {"changed", 1}, {NULL, 0}};
static const struct choice chainers[] = {{"kernel", false}, {"program", true}, {NULL, 0}};
static const struct choice beginnings[] = {{"proven", 0}, {"least", 1}, {NULL, 0}};

/* Options that are handed on as texts; what they stand for is not asked here. */
static const struct {
	enum cermet_option option;
	const struct choice *choices;
} spelt[] = {
	{CERMET_OPTION_SOC, socs},
	{CERMET_OPTION_MATCH, matches},
	{CERMET_OPTION_ASSUME, assumptions},
	{CERMET_OPTION_PREFER, preferences},
	{CERMET_OPTION_REGISTERS, extents},
	{CERMET_OPTION_FIRST_ROWS, beginnings},
};

static char *
lower(char *text)
{
	for (char *at = text; *at; at++)
		*at = (char)tolower((unsigned char)*at);
	return text;
}

/* Upper or lower case; "True" is what Python makes of True. */
static bool
choose(struct cermet_options *options, enum cermet_option option, const struct choice *choices, int *value,
       struct cermet_error *error)
{
	char names[128] = "";
	const char *text = lower(options->texts[option]);

	for (int i = 0; choices[i].name; i++) {
		size_t length = strlen(names);

		if (strcmp(text, choices[i].name) == 0) {
			*value = choices[i].value;
			return true;
		}
		snprintf(names + length, sizeof(names) - length, "%s%s", i ? ", " : "", choices[i].name);
	}
	return cermet_fail(error, "option %s: '%.80s' must be one of %s", cermet_option_key(option), text, names);
}

static bool
count(struct cermet_options *options, enum cermet_option option, long most, long *value, struct cermet_error *error)
{
	const char *text = options->texts[option];
	size_t digits = strspn(text, "0123456789");

	*value = digits > 0 && digits < 12 ? strtol(text, NULL, 10) : 0;
	if (text[digits] == '\0' && *value >= 1 && *value <= most)
		return true;
	return cermet_fail(error, "option %s: '%.80s' must be a whole number, 1..%ld", cermet_option_key(option), text, most);
}

static bool
check_device(const struct cermet_options *options, struct cermet_error *error)
{
	const char *device = options->texts[CERMET_OPTION_DEVICE];

	if (strcmp(device, "auto") == 0 || strcmp(device, "sim") == 0 || strncmp(device, "/dev/", 5) == 0)
		return true;
	return cermet_fail(error, "option device: '%.80s' must be auto, sim or a path under /dev/", device);
}

/* Allow and deny: their one spelling. */
static bool
normalise(struct cermet_options *options, enum cermet_option option, struct cermet_error *error)
{
	return cermet_normalise_words(cermet_option_key(option), &options->texts[option], error);
}

/* Without leading zeros. */
static bool
normalise_min_partition_nodes(struct cermet_options *options, struct cermet_error *error)
{
	char text[24];
	long nodes;

	if (!count(options, CERMET_OPTION_MIN_PARTITION_NODES, MAX_NUMBER, &nodes, error))
		return false;
	snprintf(text, sizeof(text), "%ld", nodes);
	return cermet_option_set(options->texts, CERMET_OPTION_MIN_PARTITION_NODES, text, error);
}

static bool
parse_compile_options(struct cermet_options *options, struct cermet_error *error)
{
	if (!normalise(options, CERMET_OPTION_ALLOW, error) || !normalise(options, CERMET_OPTION_DENY, error) ||
	    !normalise_min_partition_nodes(options, error))
		return false;
	options->compile = (struct cermet_compile_options){
		.match = options->texts[CERMET_OPTION_MATCH],
		.allow = options->texts[CERMET_OPTION_ALLOW],
		.deny = options->texts[CERMET_OPTION_DENY],
		.min_partition_nodes = options->texts[CERMET_OPTION_MIN_PARTITION_NODES],
		.assume = options->texts[CERMET_OPTION_ASSUME],
		.prefer = options->texts[CERMET_OPTION_PREFER],
		.registers = options->texts[CERMET_OPTION_REGISTERS],
		.chains = options->texts[CERMET_OPTION_CHAINS],
		.first_rows = options->texts[CERMET_OPTION_FIRST_ROWS],
		.cores = "1", /* the session knows better */
		.groups = "",
	};
	return true;
}

/* A switch, or a path, which has a slash. */
static bool
parse_profile(struct cermet_options *options, struct cermet_error *error)
{
	int is_on = false;

	if (strchr(options->texts[CERMET_OPTION_PROFILE], '/')) {
		options->profile_path = options->texts[CERMET_OPTION_PROFILE];
		return true;
	}
	if (!choose(options, CERMET_OPTION_PROFILE, switches, &is_on, error))
		return false;
	options->profile = is_on;
	return true;
}

static bool
parse_choices(struct cermet_options *options, struct cermet_error *error)
{
	int cache, level, fallback, chains, ignored;
	long cores, timeout_ms;

	for (size_t i = 0; i < CERMET_COUNT(spelt); i++)
		if (!choose(options, spelt[i].option, spelt[i].choices, &ignored, error))
			return false;
	if (!choose(options, CERMET_OPTION_CACHE, cache_modes, &cache, error) ||
	    !choose(options, CERMET_OPTION_LOG_LEVEL, log_levels, &level, error) ||
	    !choose(options, CERMET_OPTION_FALLBACK, fallbacks, &fallback, error) ||
	    !choose(options, CERMET_OPTION_CHAINS, chainers, &chains, error) || !parse_profile(options, error) ||
	    !count(options, CERMET_OPTION_CORES, MAX_CORES, &cores, error) ||
	    !count(options, CERMET_OPTION_TIMEOUT_MS, MAX_TIMEOUT_MS, &timeout_ms, error))
		return false;
	options->cache = (enum cermet_cache_mode)cache;
	options->log_level = (enum cermet_log_level)level;
	options->falls_back_to_cpu = fallback;
	options->chains_itself = chains;
	options->cores = (uint32_t)cores;
	options->timeout_ns = timeout_ms * INT64_C(1000000);
	return true;
}

/* By environment only. */
static bool
parse_compiler_timeout(struct cermet_options *options, struct cermet_error *error)
{
	const char *timeout = getenv("CERMET_COMPILER_TIMEOUT");
	char *end = NULL;
	long seconds = timeout && timeout[0] ? strtol(timeout, &end, 10) : 120;

	if ((end && *end) || seconds < 1 || seconds > 86400)
		return cermet_fail(error, "CERMET_COMPILER_TIMEOUT: '%.80s' must be seconds, 1..86400", timeout);
	options->compiler_timeout_ns = seconds * INT64_C(1000000000);
	return true;
}

bool
cermet_options_parse(struct cermet_options *options, const char *const *keys, const char *const *values,
                     size_t num_options, struct cermet_error *error)
{
	*options = (struct cermet_options){0};
	if (!cermet_option_texts(options->texts, keys, values, num_options, error) || !check_device(options, error) ||
	    !parse_choices(options, error) || !parse_compile_options(options, error) ||
	    !parse_compiler_timeout(options, error))
		return false;
	options->device = options->texts[CERMET_OPTION_DEVICE];
	options->soc = options->texts[CERMET_OPTION_SOC];
	options->cache_dir = options->texts[CERMET_OPTION_CACHE_DIR][0] ? options->texts[CERMET_OPTION_CACHE_DIR] : NULL;
	options->compiler = options->texts[CERMET_OPTION_COMPILER][0] ? options->texts[CERMET_OPTION_COMPILER] : NULL;
	return true;
}

void
cermet_options_free(struct cermet_options *options)
{
	for (size_t i = 0; i < CERMET_COUNT(options->texts); i++)
		free(options->texts[i]);
	*options = (struct cermet_options){0};
}
