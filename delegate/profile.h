/* SPDX-License-Identifier: MIT */
/* The parts of every invocation as trace events in a file (option profile=PATH), which ui.perfetto.dev opens. */
#ifndef CERMET_PROFILE_H
#define CERMET_PROFILE_H

#include "program.h"

#include <pthread.h>
#include <stdio.h>

struct cermet_profile {
	pthread_mutex_t lock;
	FILE *file; /* NULL: nothing is written */
	bool has_events;
};

void
cermet_profile_init(struct cermet_profile *profile);

/* Begin the file anew. A path of NULL opens nothing. */
bool
cermet_profile_open(struct cermet_profile *profile, const char *path, struct cermet_error *error);

/* One run of a partition: what `after` counts and `before` did not. start_ns: CLOCK_MONOTONIC. */
void
cermet_profile_add(struct cermet_profile *profile, uint32_t partition, int64_t start_ns,
                   const struct cermet_times *before, const struct cermet_times *after);

/* End the file and close it. */
void
cermet_profile_close(struct cermet_profile *profile);

#endif
