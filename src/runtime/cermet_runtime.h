/* SPDX-License-Identifier: MIT */
/*
 * libcermet_runtime.so: run the partitions of a plan (cermet_plan.h) on a device. For programs that are no TFLite
 * application; cermet.runtime binds it to Python and reads this header, so there is one declaration per statement.
 * Functions that return a pointer return NULL on failure, the others -1; the reason, one line, is in
 * cermet_runtime_last_error(). Handles may be used by one thread at a time.
 */
#ifndef CERMET_RUNTIME_H
#define CERMET_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

struct cermet_runtime_device;
struct cermet_runtime_program;

/* The reason of this thread's last failure; valid until its next one. */
const char *cermet_runtime_last_error(void);

/* device: "auto", "sim" or a path like "/dev/accel/accel0"; soc: the NPU to simulate, "rk3588". */
struct cermet_runtime_device *cermet_runtime_open(const char *device, const char *soc);

/* Its programs must have been unloaded. NULL is harmless. */
void cermet_runtime_close(struct cermet_runtime_device *device);

/* Name of the device that was opened: "sim" or its path. */
const char *cermet_runtime_device_name(const struct cermet_runtime_device *device);

/* How long the simulated NPU has been executing tasks, of any program, since its driver process began: nanoseconds. -1 on a real device. */
int64_t cermet_runtime_busy_ns(const struct cermet_runtime_device *device);

/* Check a plan, whole; returns its number of partitions. */
int cermet_runtime_check_plan(const void *plan, size_t plan_bytes);

/* Load one partition of a plan; the plan's bytes are not needed afterwards. timeout_ms: of one run. */
struct cermet_runtime_program *cermet_runtime_load(struct cermet_runtime_device *device, const void *plan, size_t plan_bytes, uint32_t partition, uint32_t timeout_ms);

/* Waits for what still runs. NULL is harmless. */
void cermet_runtime_unload(struct cermet_runtime_program *program);

int cermet_runtime_num_inputs(const struct cermet_runtime_program *program);

int cermet_runtime_num_outputs(const struct cermet_runtime_program *program);

/* numbers: tensor, batch, height, width, channels, and 1 when the tensor is uint8 (0: int8). */
int cermet_runtime_input(const struct cermet_runtime_program *program, uint32_t index, uint32_t numbers[6]);

int cermet_runtime_output(const struct cermet_runtime_program *program, uint32_t index, uint32_t numbers[6]);

/* inputs[i], outputs[i]: batch * height * width * channels bytes each, NHWC. */
int cermet_runtime_run(struct cermet_runtime_program *program, const void *const *inputs, void *const *outputs);

#endif
