/* SPDX-License-Identifier: MIT */
#include "option_words.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
split_words(const char *key, char *text, char **words, size_t *num_words, struct cermet_error *error)
{
	char *rest = NULL;

	*num_words = 0;
	for (char *word = strtok_r(text, "+, \t\n", &rest); word; word = strtok_r(NULL, "+, \t\n", &rest)) {
		for (char *letter = word; *letter; letter++)
			*letter = (char)toupper((unsigned char)*letter);
		if (!is_name(word) && !is_range(word))
			return cermet_fail(error, "option %s: '%.80s' must be operation names like CONV_2D or numbers like 12-15, "
			                   "joined by +", key, word);
		words[(*num_words)++] = word;
	}
	return true;
}

bool
cermet_normalise_words(const char *key, char **text, struct cermet_error *error)
{
	size_t num_words, size = strlen(*text) + 1;
	char *joined = calloc(1, size), *at = joined;
	char **words = calloc(size / 2 + 1, sizeof(*words)); /* a word and what separates it are two bytes at least */

	if (!joined || !words || !split_words(key, *text, words, &num_words, error)) {
		if (!joined || !words)
			cermet_fail(error, "option %s: out of memory", key);
		free(joined);
		free(words);
		return false;
	}
	qsort(words, num_words, sizeof(*words), compare_words);
	for (size_t i = 0; i < num_words; i++)
		if (i == 0 || strcmp(words[i], words[i - 1]) != 0)
			at += snprintf(at, size - (size_t)(at - joined), "%s%s", at == joined ? "" : "+", words[i]);
	free(words);
	free(*text);
	*text = joined;
	return true;
}
