/* SPDX-License-Identifier: MIT */
/* The options as texts: what they are called, what they are when nobody sets them, and who sets them. */
#ifndef CERMET_OPTION_TEXTS_H
#define CERMET_OPTION_TEXTS_H

#include "base.h"

enum cermet_option {
	CERMET_OPTION_DEVICE,
	CERMET_OPTION_SOC,
	CERMET_OPTION_CACHE_DIR,
	CERMET_OPTION_CACHE,
	CERMET_OPTION_COMPILER,
	CERMET_OPTION_LOG_LEVEL,
	CERMET_OPTION_ALLOW,
	CERMET_OPTION_DENY,
	CERMET_OPTION_MIN_PARTITION_NODES,
	CERMET_OPTION_ASSUME,
	CERMET_OPTION_PREFER,
	CERMET_OPTION_REGISTERS,
	CERMET_OPTION_CHAINS,
	CERMET_OPTION_FIRST_ROWS,
	CERMET_OPTION_CORES,
	CERMET_OPTION_PROFILE,
	CERMET_OPTION_MATCH,
	CERMET_OPTION_TIMEOUT_MS,
	CERMET_OPTION_FALLBACK,
	CERMET_NUM_OPTIONS,
};

/* Its name, for messages. */
const char *
cermet_option_key(enum cermet_option option);

/* Give an option another text. */
bool
cermet_option_set(char **texts, enum cermet_option option, const char *value, struct cermet_error *error);

/* All options: the defaults, over them the environment, over it the application's pairs. Free also after a failure. */
bool
cermet_option_texts(char *texts[CERMET_NUM_OPTIONS], const char *const *keys, const char *const *values,
                    size_t num_options, struct cermet_error *error);

#endif
