/* SPDX-License-Identifier: MIT */
/* The compiler as a child process: a crash, a memory spike or another Python version never touches the application. */
#ifndef CERMET_COMPILER_H
#define CERMET_COMPILER_H

#include "files.h"

/* Compile options that are part of the key, in the spelling of cermet_plan.h. */
struct cermet_compile_options {
	const char *match;
	const char *allow;
	const char *deny;
	const char *min_partition_nodes;
	const char *assume;
	const char *prefer;
	const char *registers;
	const char *chains;
	const char *first_rows;
	const char *cores;
	const char *groups;
};

#define CERMET_NUM_COMPILE_OPTIONS 11

struct cermet_compile_option {
	const char *name, *value;
};

/* All of them, in the order in which they go into the key. */
void
cermet_list_compile_options(const struct cermet_compile_options *options,
                            struct cermet_compile_option list[CERMET_NUM_COMPILE_OPTIONS]);

struct cermet_compiler {
	const char *command; /* NULL: look for it (locate.h) */
	const char *soc;
	enum cermet_log_level log_level;
	int64_t timeout_ns;
};

/* Run the compiler on a blob and hand back the plan's bytes, unchecked. Leaves no files behind. */
bool
cermet_compile(const struct cermet_compiler *compiler, const struct cermet_compile_options *options, const char *key_hex,
               const struct cermet_pieces *blob, struct cermet_bytes *plan, struct cermet_error *error);

#endif
