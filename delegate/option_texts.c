/* SPDX-License-Identifier: MIT */
#include "option_texts.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The environment has the same names in upper case behind CERMET_. */
static const struct {
	const char *key, *value;
} defaults[CERMET_NUM_OPTIONS] = {
	[CERMET_OPTION_DEVICE] = {"device", "auto"},
	[CERMET_OPTION_SOC] = {"soc", "rk3588"},
	[CERMET_OPTION_CACHE_DIR] = {"cache_dir", ""},
	[CERMET_OPTION_CACHE] = {"cache", "on"},
	[CERMET_OPTION_COMPILER] = {"compiler", ""},
	[CERMET_OPTION_LOG_LEVEL] = {"log_level", "warning"},
	[CERMET_OPTION_ALLOW] = {"allow", ""},
	[CERMET_OPTION_DENY] = {"deny", ""},
	[CERMET_OPTION_MIN_PARTITION_NODES] = {"min_partition_nodes", "1"},
	[CERMET_OPTION_ASSUME] = {"assume", "on"},
	[CERMET_OPTION_PREFER] = {"prefer", "speed"},
	[CERMET_OPTION_REGISTERS] = {"registers", "all"},
	[CERMET_OPTION_CHAINS] = {"chains", "kernel"},
	[CERMET_OPTION_FIRST_ROWS] = {"first_rows", "proven"},
	[CERMET_OPTION_CORES] = {"cores", "1"},
	[CERMET_OPTION_PROFILE] = {"profile", "off"},
	[CERMET_OPTION_MATCH] = {"match", "tflite"},
	[CERMET_OPTION_TIMEOUT_MS] = {"timeout_ms", "10000"},
	[CERMET_OPTION_FALLBACK] = {"fallback", "none"},
};

const char *
cermet_option_key(enum cermet_option option)
{
	return defaults[option].key;
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

	for (int i = 0; i < CERMET_NUM_OPTIONS; i++) {
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

bool
cermet_option_set(char **texts, enum cermet_option option, const char *value, struct cermet_error *error)
{
	free(texts[option]);
	texts[option] = strdup(value);
	return texts[option] || cermet_fail(error, "option %s: out of memory", defaults[option].key);
}

static bool
set_by_key(char **texts, const char *key, const char *value, struct cermet_error *error)
{
	if (!key || !value)
		return cermet_fail(error, "option without a %s", key ? "value" : "name");
	for (int i = 0; i < CERMET_NUM_OPTIONS; i++)
		if (strcmp(key, defaults[i].key) == 0) /* "None" is Python's None: not given */
			return strcmp(value, "None") == 0 || cermet_option_set(texts, i, value, error);
	return fail_unknown(key, error);
}

static bool
set_from_environment(char **texts, struct cermet_error *error)
{
	for (int i = 0; i < CERMET_NUM_OPTIONS; i++) {
		char name[64];
		const char *value;

		snprintf(name, sizeof(name), "CERMET_%s", defaults[i].key);
		for (char *at = name; *at; at++)
			*at = (char)toupper((unsigned char)*at);
		value = getenv(name);
		if (!cermet_option_set(texts, i, value && value[0] ? value : defaults[i].value, error))
			return false;
	}
	return true;
}

bool
cermet_option_texts(char *texts[CERMET_NUM_OPTIONS], const char *const *keys, const char *const *values,
                    size_t num_options, struct cermet_error *error)
{
	if (!set_from_environment(texts, error))
		return false;
	for (size_t i = 0; i < num_options; i++)
		if (!set_by_key(texts, keys[i], values[i], error))
			return false;
	return true;
}
