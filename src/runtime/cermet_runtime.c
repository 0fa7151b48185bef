/* SPDX-License-Identifier: MIT */
/* The exported face of the runtime: handles, and errors kept per thread. */
#include "cermet_runtime.h"

#include "program.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct cermet_runtime_device {
	struct cermet_device device;
};

struct cermet_runtime_program {
	struct cermet_program program;
};

static _Thread_local struct cermet_error last_error;

EXPORT const char *
cermet_runtime_last_error(void)
{
	return last_error.text;
}

EXPORT struct cermet_runtime_device *
cermet_runtime_open(const char *device, const char *soc)
{
	struct cermet_runtime_device *opened = calloc(1, sizeof(*opened));

	if (!opened) {
		cermet_fail(&last_error, "out of memory");
		return NULL;
	}
	if (cermet_device_open(&opened->device, device, soc, &last_error))
		return opened;
	free(opened);
	return NULL;
}

EXPORT void
cermet_runtime_close(struct cermet_runtime_device *device)
{
	if (!device)
		return;
	cermet_device_close(&device->device);
	free(device);
}

EXPORT const char *
cermet_runtime_device_name(const struct cermet_runtime_device *device)
{
	return device->device.name;
}

EXPORT int64_t
cermet_runtime_busy_ns(const struct cermet_runtime_device *device)
{
	return cermet_device_busy_ns(&device->device, &last_error);
}

/* A checked plan in memory of our own: the caller's may be unaligned. */
static uint8_t *
copy_plan(const void *plan, size_t plan_bytes, struct cermet_plan_view *view)
{
	static const struct cermet_plan_expectation anything;
	uint8_t *copy = malloc(plan_bytes ? plan_bytes : 1);

	if (!copy) {
		cermet_fail(&last_error, "out of memory");
		return NULL;
	}
	memcpy(copy, plan, plan_bytes);
	if (cermet_plan_open(copy, plan_bytes, &anything, view, &last_error))
		return copy;
	free(copy);
	return NULL;
}

EXPORT int
cermet_runtime_check_plan(const void *plan, size_t plan_bytes)
{
	struct cermet_plan_view view;
	uint8_t *copy = copy_plan(plan, plan_bytes, &view);
	int num_partitions;

	if (!copy)
		return -1;
	num_partitions = (int)view.header->num_partitions;
	free(copy);
	return num_partitions;
}

static bool
load(struct cermet_runtime_program *program, const struct cermet_runtime_device *device,
     const struct cermet_plan_view *view, uint32_t partition, uint32_t timeout_ms)
{
	if (partition >= view->header->num_partitions)
		return cermet_fail(&last_error, "partition %u: the plan has %u", partition, view->header->num_partitions);
	return cermet_program_load(&program->program, &device->device, view, partition, timeout_ms * INT64_C(1000000),
	                           &last_error);
}

EXPORT struct cermet_runtime_program *
cermet_runtime_load(struct cermet_runtime_device *device, const void *plan, size_t plan_bytes, uint32_t partition,
                    uint32_t timeout_ms)
{
	struct cermet_runtime_program *program = calloc(1, sizeof(*program));
	struct cermet_plan_view view;
	uint8_t *copy;

	if (!program) {
		cermet_fail(&last_error, "out of memory");
		return NULL;
	}
	copy = copy_plan(plan, plan_bytes, &view);
	if (copy && load(program, device, &view, partition, timeout_ms)) {
		free(copy);
		return program;
	}
	free(copy);
	free(program);
	return NULL;
}

EXPORT void
cermet_runtime_unload(struct cermet_runtime_program *program)
{
	if (!program)
		return;
	cermet_program_unload(&program->program);
	free(program);
}

EXPORT int
cermet_runtime_num_inputs(const struct cermet_runtime_program *program)
{
	return (int)program->program.num_inputs;
}

EXPORT int
cermet_runtime_num_outputs(const struct cermet_runtime_program *program)
{
	return (int)program->program.num_outputs;
}

static int
describe(const struct cermet_plan_io *ios, uint32_t num_ios, uint32_t index, uint32_t numbers[6])
{
	if (index >= num_ios) {
		cermet_fail(&last_error, "tensor %u of %u", index, num_ios);
		return -1;
	}
	numbers[0] = ios[index].tensor;
	numbers[1] = ios[index].batch;
	numbers[2] = ios[index].height;
	numbers[3] = ios[index].width;
	numbers[4] = ios[index].channels;
	numbers[5] = ios[index].flip != 0;
	return 0;
}

EXPORT int
cermet_runtime_input(const struct cermet_runtime_program *program, uint32_t index, uint32_t numbers[6])
{
	return describe(program->program.inputs, program->program.num_inputs, index, numbers);
}

EXPORT int
cermet_runtime_output(const struct cermet_runtime_program *program, uint32_t index, uint32_t numbers[6])
{
	return describe(program->program.outputs, program->program.num_outputs, index, numbers);
}

EXPORT int
cermet_runtime_run(struct cermet_runtime_program *program, const void *const *inputs, void *const *outputs)
{
	return cermet_program_run(&program->program, inputs, outputs, &last_error) ? 0 : -1;
}
