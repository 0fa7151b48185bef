/* SPDX-License-Identifier: MIT */
/* One partition of a plan on one device: its buffers, its jobs, ready to run again and again. */
#ifndef CERMET_PROGRAM_H
#define CERMET_PROGRAM_H

#include "device.h"
#include "plan.h"
#include "queues.h"

#define CERMET_CANARY_BYTES 16

/* Bytes that the NPU overwrites when a job completes. */
struct cermet_canary {
	uint32_t bo;
	size_t offset_bytes;
	size_t num_bytes; /* at most CERMET_CANARY_BYTES */
	bool is_of_chain; /* of a job whose programs lead to each other, the kernel does not */
};

struct cermet_times {
	uint64_t num_runs;
	int64_t inputs_ns; /* conversion and FINI_BO */
	int64_t device_ns; /* SUBMIT to the last PREP_BO */
	int64_t outputs_ns;
};

struct cermet_program {
	const struct cermet_device *device;
	uint32_t number; /* of the partition, for messages */
	uint32_t num_bos;
	struct cermet_bo bos[CERMET_MAX_BOS];
	uint32_t num_inputs;
	struct cermet_plan_io *inputs; /* own copies: the plan may be freed after loading */
	uint32_t num_outputs;
	struct cermet_plan_io *outputs;
	uint32_t num_jobs;
	struct drm_rocket_job *jobs; /* point into tasks and handles */
	struct drm_rocket_task *tasks;
	uint32_t *handles;
	struct cermet_queues queues; /* instead of jobs, tasks and canaries, where the kernel has them */
	uint32_t loaded_mask; /* BOs that the CPU has written while loading */
	uint32_t finish_mask; /* BOs that the CPU writes before each run */
	uint32_t wait_mask;   /* BOs that the CPU reads after each run */
	uint8_t canary[CERMET_CANARY_BYTES];
	struct cermet_canary *canaries; /* one per job, then one per output */
	int64_t timeout_ns;
	bool is_running; /* jobs were queued that nobody has seen end */
	struct cermet_times times;
};

/* Create and fill the buffers of a partition. The device must stay open until cermet_program_unload. */
bool
cermet_program_load(struct cermet_program *program, const struct cermet_device *device,
                    const struct cermet_plan_view *plan, uint32_t number, int64_t timeout_ns,
                    struct cermet_error *error);

/* Make the NPU go on from a task's program to that of the task behind it. */
void
cermet_program_lead(struct cermet_program *program, const struct cermet_plan_task *task);

/* Waits for a job that still runs. Harmless on a zeroed program. */
void
cermet_program_unload(struct cermet_program *program);

/*
 * Run once: inputs[i] and outputs[i] are the tensors of program->inputs[i] and program->outputs[i], each
 * cermet_io_num_bytes() long. Not to be called by two threads at once. After a failure the next run may succeed.
 */
bool
cermet_program_run(struct cermet_program *program, const void *const *inputs, void *const *outputs,
                   struct cermet_error *error);

#endif
