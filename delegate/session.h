/* SPDX-License-Identifier: MIT */
/* One interpreter on one delegate: its plan while the delegate is applied, its open device as long as kernels live. */
#ifndef CERMET_SESSION_H
#define CERMET_SESSION_H

#include "capture.h"
#include "device.h"
#include "options.h"
#include "profile.h"

#include <pthread.h>

struct cermet_session {
	unsigned num_references; /* guarded by lock: the delegate's while it is applied, one per kernel */
	pthread_mutex_t lock;    /* also: one run at a time */
	struct cermet_device device;
	const struct cermet_options *options; /* the delegate's, which outlives its interpreters; the profile likewise */
	struct cermet_profile *profile;
	char cores[2]; /* the compile option: "1", or more where the kernel has queues */

	/* Only while the delegate is applied: */
	struct cermet_graph graph;
	struct cermet_capture capture;
	struct cermet_plan_file plan;
};

/* A session without device and plan; one reference. NULL when memory is short. */
struct cermet_session *
cermet_session_new(const struct cermet_options *options, struct cermet_profile *profile);

void
cermet_session_take(struct cermet_session *session);

/* The last one closes the device and frees. */
void
cermet_session_drop(struct cermet_session *session);

/* Harmless when it is open. */
bool
cermet_session_open_device(struct cermet_session *session, struct cermet_error *error);

/* The plan of a captured graph, from the cache or compiled; groups as in cermet_plan.h. */
bool
cermet_session_find_plan(const struct cermet_session *session, const struct cermet_graph *graph,
                         const struct cermet_capture *capture, const char *groups, struct cermet_plan_file *plan,
                         struct cermet_error *error);

/* The plan of a partition whose nodes the runtime will not give back to the CPU. The options have chosen them already:
 * those that would choose anew, by numbers of the whole graph or by what pays off, do not count a second time. */
bool
cermet_session_find_whole_plan(const struct cermet_session *session, const struct cermet_graph *graph,
                               const struct cermet_capture *capture, struct cermet_plan_file *plan,
                               struct cermet_error *error);

/* Free the plan and the captured graph: all kernels have what they need. */
void
cermet_session_forget_graph(struct cermet_session *session);

/* The plan's partition that consists of exactly these nodes (runtime's indices); -1 when there is none. */
int
cermet_session_find_partition(const struct cermet_session *session, const struct TfLiteIntArray *nodes);

#endif
