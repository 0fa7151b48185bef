/* SPDX-License-Identifier: MIT */
/*
 * Running a partition's steps where the kernel has queues (kernel-uapi/proposals/queues): all lanes in one address space, one
 * call for a run, programs that find to the next one by themselves, errors of jobs instead of canaries.
 */
#ifndef CERMET_QUEUES_H
#define CERMET_QUEUES_H

#include "device.h"
#include "plan.h"

struct cermet_program;

struct cermet_queues {
	uint32_t num_jobs; /* one per step; 0: not in use */
	struct drm_rocket_queue_job *jobs;
	struct drm_rocket_queue_task *tasks;
	struct drm_rocket_sync *syncs;
	uint32_t vm;
	uint32_t queues[CERMET_MAX_LANES];   /* 0: the lane has no step */
	uint32_t objects[2][CERMET_MAX_LANES]; /* what the step of a lane signals, by turns from stage to stage */
	uint32_t last[CERMET_MAX_LANES];     /* those of the last stage */
	uint32_t num_last;
};

/* Whether the device has what the partition's steps need. */
bool
cermet_queues_are_possible(const struct cermet_device *device, const struct cermet_plan_view *plan,
                           const struct cermet_plan_partition *partition);

/* Make the objects of a program whose buffers are there, and write into its programs how they follow each other. */
bool
cermet_queues_load(struct cermet_program *program, const struct cermet_plan_view *plan,
                   const struct cermet_plan_partition *partition, struct cermet_error *error);

/* Harmless on zeroed ones. Nothing may be running. */
void
cermet_queues_unload(struct cermet_program *program);

bool
cermet_queues_submit(struct cermet_program *program, struct cermet_error *error);

/* Until the jobs are over; says which one failed and why. is_running says afterwards whether some may still run. */
bool
cermet_queues_wait(struct cermet_program *program, int64_t deadline_ns, struct cermet_error *error);

#endif
