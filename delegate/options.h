/* SPDX-License-Identifier: MIT */
/*
 * The delegate's options: key=value pairs of the application, CERMET_<KEY> of the environment, defaults. By environment
 * only: CERMET_COMMAND (the cermet command, src/client/command.h), CERMET_COMPILER_TIMEOUT (seconds, 120),
 * CERMET_DUMP_BLOB (a path: the captured graph is written there, further graphs to PATH.1, PATH.2, ...).
 */
#ifndef CERMET_OPTIONS_H
#define CERMET_OPTIONS_H

#include "base.h"
#include "cache.h"
#include "option_texts.h"

struct cermet_options {
	char *texts[CERMET_NUM_OPTIONS]; /* as given or defaulted; own memory, never NULL */

	/* Parsed: */
	const char *device;
	const char *soc;
	const char *cache_dir; /* NULL: default */
	const char *compiler;  /* NULL: look for it */
	enum cermet_cache_mode cache;
	enum cermet_log_level log_level;
	struct cermet_compile_options compile; /* groups: "" */
	bool chains_itself; /* option chains=program */
	uint32_t cores;
	bool profile;             /* mean times on stderr when a partition is given up */
	const char *profile_path; /* NULL: no trace */
	bool falls_back_to_cpu;
	int64_t timeout_ns;
	int64_t compiler_timeout_ns;
};

/* Unknown keys and wrong values fail with one line that names what is allowed. Free also after a failure. */
bool
cermet_options_parse(struct cermet_options *options, const char *const *keys, const char *const *values,
                     size_t num_options, struct cermet_error *error);

void
cermet_options_free(struct cermet_options *options);

#endif
