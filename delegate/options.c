/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NUMBER 2147483647
#define MAX_TIMEOUT_MS 86400000 /* a day */
#define MAX_CORES 8

enum number {
	DEVICE,
	SOC,
	CACHE_DIR,
	CACHE,
	COMPILER,
	LOG_LEVEL,
	ALLOW,
	DENY,
	MIN_PARTITION_NODES,
	ASSUME,
	PREFER,
	REGISTERS,
	CHAINS,
	FIRST_ROWS,
	CORES,
	PROFILE,
	MATCH,
	TIMEOUT_MS,
	FALLBACK,
	NUM_OPTIONS,
};

/* The environment has the same names in upper case behind CERMET_. */
static const struct {
	const char *key, *value;
} defaults[NUM_OPTIONS] = {
	[DEVICE] = {"device", "auto"},
	[SOC] = {"soc", "rk3588"},
	[CACHE_DIR] = {"cache_dir", ""},
	[CACHE] = {"cache", "on"},
	[COMPILER] = {"compiler", ""},
	[LOG_LEVEL] = {"log_level", "warning"},
	[ALLOW] = {"allow", ""},
	[DENY] = {"deny", ""},
	[MIN_PARTITION_NODES] = {"min_partition_nodes", "1"},
	[ASSUME] = {"assume", "on"},
	[PREFER] = {"prefer", "speed"},
	[REGISTERS] = {"registers", "all"},
	[CHAINS] = {"chains", "kernel"},
	[FIRST_ROWS] = {"first_rows", "proven"},
	[CORES] = {"cores", "1"},
	[PROFILE] = {"profile", "off"},
	[MATCH] = {"match", "tflite"},
	[TIMEOUT_MS] = {"timeout_ms", "10000"},
	[FALLBACK] = {"fallback", "none"},
};

_Static_assert(NUM_OPTIONS <= CERMET_COUNT(((struct cermet_options *)0)->texts), "room for all options");

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
static const struct choice matches[] = {{"tflite", 0}, {"exact", 1}, {NULL, 0}};
static const struct choice assumptions[] = {{"on", 0}, {"replayed", 1}, {"off", 2}, {NULL, 0}};
static const struct choice preferences[] = {{"speed", 0}, {"npu", 1}, {NULL, 0}};
static const struct choice extents[] = {{"all", 0}, {"changed", 1}, {NULL, 0}};
static const struct choice chainers[] = {{"kernel", false}, {"program", true}, {NULL, 0}};
static const struct choice beginnings[] = {{"proven", 0}, {"least", 1}, {NULL, 0}};
static const struct choice fallbacks[] = {{"none", false}, {"cpu", true}, {NULL, 0}};
static const struct choice switches[] = {
	{"on", true}, {"off", false}, {"true", true}, {"false", false}, {"1", true}, {"0", false}, {"yes", true},
	{"no", false}, {NULL, 0},
};
static const struct choice socs[] = {{"rk3588", 0}, {NULL, 0}};

static char *
lower(char *text)
{
	for (char *at = text; *at; at++)
		*at = (char)tolower((unsigned char)*at);
	return text;
}

/* Smallest number of insertions, deletions and changes that make one word the other; long words count as far apart. */
static size_t
edit_distance(const char *one, const char *other)
{
	size_t row[33], length = strlen(other);

	if (length > 32 || strlen(one) > 32)
		return 32;
	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; one[i - 1]; i++) {
		size_t diagonal = row[0]++;

		for (size_t j = 1; j <= length; j++) {
			size_t change = diagonal + (one[i - 1] != other[j - 1]);
			size_t shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];

			diagonal = row[j];
			row[j] = change < shorter + 1 ? change : shorter + 1;
		}
	}
	return row[length];
}

static bool
fail_unknown(const char *key, struct cermet_error *error)
{
	char names[256] = "";
	int nearest = 0;

	for (int i = 0; i < NUM_OPTIONS; i++) {
		size_t length = strlen(names);

		snprintf(names + length, sizeof(names) - length, "%s%s", i ? ", " : "", defaults[i].key);
		if (edit_distance(key, defaults[i].key) < edit_distance(key, defaults[nearest].key))
			nearest = i;
	}
	if (edit_distance(key, defaults[nearest].key) <= 2 + strlen(defaults[nearest].key) / 4)
		return cermet_fail(error, "option '%.40s' is unknown, did you mean %s? Known: %s", key, defaults[nearest].key,
		                   names);
	return cermet_fail(error, "option '%.40s' is unknown, known: %s", key, names);
}

static bool
set(struct cermet_options *options, int number, const char *value, struct cermet_error *error)
{
	free(options->texts[number]);
	options->texts[number] = strdup(value);
	return options->texts[number] || cermet_fail(error, "option %s: out of memory", defaults[number].key);
}

static bool
set_by_key(struct cermet_options *options, const char *key, const char *value, struct cermet_error *error)
{
	if (!key || !value)
		return cermet_fail(error, "option without a %s", key ? "value" : "name");
	for (int i = 0; i < NUM_OPTIONS; i++)
		if (strcmp(key, defaults[i].key) == 0) /* "None" is Python's None: not given */
			return strcmp(value, "None") == 0 || set(options, i, value, error);
	return fail_unknown(key, error);
}

static bool
set_from_environment(struct cermet_options *options, struct cermet_error *error)
{
	for (int i = 0; i < NUM_OPTIONS; i++) {
		char name[64];
		const char *value;

		snprintf(name, sizeof(name), "CERMET_%s", defaults[i].key);
		for (char *at = name; *at; at++)
			*at = (char)toupper((unsigned char)*at);
		value = getenv(name);
		if (!set(options, i, value && value[0] ? value : defaults[i].value, error))
			return false;
	}
	return true;
}

/* Upper or lower case; "True" is what Python makes of True. */
static bool
choose(struct cermet_options *options, int number, const struct choice *choices, int *value, struct cermet_error *error)
{
	char names[128] = "";
	const char *text = lower(options->texts[number]);

	for (int i = 0; choices[i].name; i++) {
		size_t length = strlen(names);

		if (strcmp(text, choices[i].name) == 0) {
			*value = choices[i].value;
			return true;
		}
		snprintf(names + length, sizeof(names) - length, "%s%s", i ? ", " : "", choices[i].name);
	}
	return cermet_fail(error, "option %s: '%.80s' must be one of %s", defaults[number].key, text, names);
}

static bool
count(struct cermet_options *options, int number, long most, long *value, struct cermet_error *error)
{
	const char *text = options->texts[number];
	size_t digits = strspn(text, "0123456789");

	*value = digits > 0 && digits < 12 ? strtol(text, NULL, 10) : 0;
	if (text[digits] == '\0' && *value >= 1 && *value <= most)
		return true;
	return cermet_fail(error, "option %s: '%.80s' must be a whole number, 1..%ld", defaults[number].key, text, most);
}

static int
compare_words(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

/* An operation number, or FIRST-LAST; without leading zeros. */
static bool
is_range(const char *word)
{
	const char *dash = strchr(word, '-'), *last = dash ? dash + 1 : word;
	size_t first_digits = strspn(word, "0123456789"), last_digits = strspn(last, "0123456789");
	bool is_number = word[first_digits] == (dash ? '-' : '\0') && last[last_digits] == '\0';
	bool is_short = first_digits >= 1 && first_digits <= 7 && last_digits >= 1 && last_digits <= 7;
	bool is_plain = (word[0] != '0' || first_digits == 1) && (last[0] != '0' || last_digits == 1);

	return is_number && is_short && is_plain && strtol(word, NULL, 10) <= strtol(last, NULL, 10);
}

static bool
is_name(const char *word)
{
	return strchr("0123456789", word[0]) == NULL &&
	       strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(word);
}

/* The words of a text that has room for as many, in upper case; false with a reason for one that is neither. */
static bool
split_words(int number, char *text, char **words, size_t *num_words, struct cermet_error *error)
{
	char *rest = NULL;

	*num_words = 0;
	for (char *word = strtok_r(text, "+, \t\n", &rest); word; word = strtok_r(NULL, "+, \t\n", &rest)) {
		for (char *letter = word; *letter; letter++)
			*letter = (char)toupper((unsigned char)*letter);
		if (!is_name(word) && !is_range(word))
			return cermet_fail(error, "option %s: '%.80s' must be operation names like CONV_2D or numbers like 12-15, "
			                   "joined by +", defaults[number].key, word);
		words[(*num_words)++] = word;
	}
	return true;
}

/* "conv_2d, 7-9" to the one spelling that goes into the key: upper case, sorted, each once, joined by '+'. */
static bool
normalise_words(struct cermet_options *options, int number, struct cermet_error *error)
{
	char *text = options->texts[number];
	size_t num_words, size = strlen(text) + 1;
	char *joined = calloc(1, size), *at = joined;
	char **words = calloc(size / 2 + 1, sizeof(*words)); /* a word and what separates it are two bytes at least */

	if (!joined || !words || !split_words(number, text, words, &num_words, error)) {
		if (!joined || !words)
			cermet_fail(error, "option %s: out of memory", defaults[number].key);
		free(joined);
		free(words);
		return false;
	}
	qsort(words, num_words, sizeof(*words), compare_words);
	for (size_t i = 0; i < num_words; i++)
		if (i == 0 || strcmp(words[i], words[i - 1]) != 0)
			at += snprintf(at, size - (size_t)(at - joined), "%s%s", at == joined ? "" : "+", words[i]);
	free(words);
	free(text);
	options->texts[number] = joined;
	return true;
}

static bool
check_device(const struct cermet_options *options, struct cermet_error *error)
{
	const char *device = options->texts[DEVICE];

	if (strcmp(device, "auto") == 0 || strcmp(device, "sim") == 0 || strncmp(device, "/dev/", 5) == 0)
		return true;
	return cermet_fail(error, "option device: '%.80s' must be auto, sim or a path under /dev/", device);
}

static bool
parse_compile_options(struct cermet_options *options, struct cermet_error *error)
{
	static char texts[1]; /* the empty groups */
	int ignored, chains;
	long nodes;

	if (!choose(options, MATCH, matches, &ignored, error) || !normalise_words(options, ALLOW, error) ||
	    !normalise_words(options, DENY, error) || !choose(options, ASSUME, assumptions, &ignored, error) ||
	    !choose(options, PREFER, preferences, &ignored, error) ||
	    !choose(options, REGISTERS, extents, &ignored, error) ||
	    !choose(options, CHAINS, chainers, &chains, error) ||
	    !choose(options, FIRST_ROWS, beginnings, &ignored, error) ||
	    !count(options, MIN_PARTITION_NODES, MAX_NUMBER, &nodes, error))
		return false;
	free(options->texts[MIN_PARTITION_NODES]);
	options->texts[MIN_PARTITION_NODES] = calloc(1, 12);
	if (!options->texts[MIN_PARTITION_NODES])
		return cermet_fail(error, "option min_partition_nodes: out of memory");
	snprintf(options->texts[MIN_PARTITION_NODES], 12, "%ld", nodes); /* without leading zeros */
	options->compile = (struct cermet_compile_options){
		.match = options->texts[MATCH],
		.allow = options->texts[ALLOW],
		.deny = options->texts[DENY],
		.min_partition_nodes = options->texts[MIN_PARTITION_NODES],
		.assume = options->texts[ASSUME],
		.prefer = options->texts[PREFER],
		.registers = options->texts[REGISTERS],
		.chains = options->texts[CHAINS],
		.first_rows = options->texts[FIRST_ROWS],
		.cores = "1", /* the session knows better */
		.groups = texts,
	};
	options->chains_itself = chains;
	return true;
}

/* A switch, or a path, which has a slash. */
static bool
parse_profile(struct cermet_options *options, struct cermet_error *error)
{
	int is_on = false;

	if (strchr(options->texts[PROFILE], '/')) {
		options->profile_path = options->texts[PROFILE];
		return true;
	}
	if (!choose(options, PROFILE, switches, &is_on, error))
		return false;
	options->profile = is_on;
	return true;
}

static bool
parse_choices(struct cermet_options *options, struct cermet_error *error)
{
	int cache, level, fallback, ignored;
	long cores, timeout_ms;

	if (!choose(options, CACHE, cache_modes, &cache, error) || !choose(options, LOG_LEVEL, log_levels, &level, error) ||
	    !parse_profile(options, error) || !choose(options, FALLBACK, fallbacks, &fallback, error) ||
	    !choose(options, SOC, socs, &ignored, error) || !count(options, CORES, MAX_CORES, &cores, error) ||
	    !count(options, TIMEOUT_MS, MAX_TIMEOUT_MS, &timeout_ms, error))
		return false;
	options->cache = (enum cermet_cache_mode)cache;
	options->log_level = (enum cermet_log_level)level;
	options->falls_back_to_cpu = fallback;
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
	if (!set_from_environment(options, error))
		return false;
	for (size_t i = 0; i < num_options; i++)
		if (!set_by_key(options, keys[i], values[i], error))
			return false;
	if (!check_device(options, error) || !parse_choices(options, error) || !parse_compile_options(options, error) ||
	    !parse_compiler_timeout(options, error))
		return false;
	options->device = options->texts[DEVICE];
	options->soc = options->texts[SOC];
	options->cache_dir = options->texts[CACHE_DIR][0] ? options->texts[CACHE_DIR] : NULL;
	options->compiler = options->texts[COMPILER][0] ? options->texts[COMPILER] : NULL;
	return true;
}

void
cermet_options_free(struct cermet_options *options)
{
	for (size_t i = 0; i < CERMET_COUNT(options->texts); i++)
		free(options->texts[i]);
	*options = (struct cermet_options){0};
}
