/* SPDX-License-Identifier: MIT */
/* One run of the compiler: started, followed to its end or its deadline, its last words handed on. */
#ifndef CERMET_COMPILER_PROCESS_H
#define CERMET_COMPILER_PROCESS_H

#include "base.h"

/* Run the file arguments[0]. True when it ends with 0: what it said on stderr is logged then, else its last line is the
 * error. After timeout_ns it is killed with all that it has started. */
bool
cermet_run_compiler(char *const *arguments, int64_t timeout_ns, enum cermet_log_level log_level,
                    struct cermet_error *error);

#endif
