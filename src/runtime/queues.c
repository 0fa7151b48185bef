/* SPDX-License-Identifier: MIT */
#include "queues.h"

#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool
cermet_queues_are_possible(const struct cermet_device *device, const struct cermet_plan_view *plan,
                           const struct cermet_plan_partition *partition)
{
	const struct cermet_plan_step *step = CERMET_PLAN_TABLE(plan, partition->steps_offset, struct cermet_plan_step);

	if (!cermet_has_queues(device))
		return false;
	for (uint32_t i = 0; i < partition->num_steps; i++)
		if (step[i].lane >= device->num_cores)
			return false;
	return partition->num_steps > 0;
}

static bool
call(const struct cermet_program *program, const char *name, unsigned long request, void *argument,
     struct cermet_error *error)
{
	if (cermet_device_call(program->device, request, argument) == 0)
		return true;
	return cermet_fail(error, "device %s: %s: %s", program->device->name, name, cermet_device_reason(program->device));
}

/* The buffers where the file itself sees them: addresses in programs hold for both interfaces. */
static bool
make_address_space(struct cermet_program *program, struct cermet_error *error)
{
	struct drm_rocket_vm_create create = {0};

	if (!call(program, "VM_CREATE", DRM_IOCTL_ROCKET_VM_CREATE, &create, error))
		return false;
	program->queues.vm = create.vm;
	for (uint32_t i = 0; i < program->num_bos; i++) {
		struct drm_rocket_vm_bind bind = {
			.vm = create.vm, .handle = program->bos[i].handle, .address = program->bos[i].dma_address,
		};

		if (!call(program, "VM_BIND", DRM_IOCTL_ROCKET_VM_BIND, &bind, error))
			return false;
	}
	return true;
}

static uint32_t
used_lanes(const struct cermet_plan_step *steps, uint32_t num_steps)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < num_steps; i++)
		mask |= 1u << steps[i].lane;
	return mask;
}

/* One lane may run on any core; of several each has its own. A step may do the work of all jobs of the plan, each of
 * which would have the kernel's default timeout for itself. */
static bool
make_queues(struct cermet_program *program, const struct cermet_plan_step *steps, struct cermet_error *error)
{
	const struct cermet_device *device = program->device;
	const uint32_t lanes = used_lanes(steps, program->queues.num_jobs);
	uint64_t timeout_ns = cermet_get_param(device, DRM_ROCKET_PARAM_DEFAULT_TIMEOUT_NS) * program->num_jobs;
	const uint64_t most_ns = cermet_get_param(device, DRM_ROCKET_PARAM_MAX_TIMEOUT_NS);

	if (timeout_ns > most_ns)
		timeout_ns = most_ns;
	for (uint32_t lane = 0; lane < CERMET_MAX_LANES; lane++) {
		struct drm_rocket_queue_create create = {
			.vm = program->queues.vm,
			.core_mask = lanes == 1 ? (UINT32_C(1) << device->num_cores) - 1 : UINT32_C(1) << lane,
			.timeout_ns = timeout_ns,
		};

		if (!(lanes >> lane & 1))
			continue;
		if (!call(program, "QUEUE_CREATE", DRM_IOCTL_ROCKET_QUEUE_CREATE, &create, error))
			return false;
		program->queues.queues[lane] = create.queue;
		for (int turn = 0; turn < 2; turn++) {
			struct drm_syncobj_create object = {0};

			if (!call(program, "SYNCOBJ_CREATE", DRM_IOCTL_SYNCOBJ_CREATE, &object, error))
				return false;
			program->queues.objects[turn][lane] = object.handle;
		}
	}
	return true;
}

/* The tasks of a step, as few as chains allow; returns how many. */
static uint32_t
fill_tasks(struct cermet_program *program, const struct cermet_plan_task *task, uint32_t num_tasks,
           struct drm_rocket_queue_task *to)
{
	const uint64_t most = program->device->features & DRM_ROCKET_FEATURE_CHAINS ?
		cermet_get_param(program->device, DRM_ROCKET_PARAM_MAX_PROGRAMS) : 1;
	uint32_t count = 0;

	for (uint32_t i = 0; i < num_tasks; i++) {
		if (i > 0 && task[i - 1].next_address != 0 && to[count - 1].num_programs < most) {
			cermet_program_lead(program, &task[i - 1]);
			to[count - 1].num_programs++;
			continue;
		}
		to[count++] = (struct drm_rocket_queue_task){
			.regcmd = (uint32_t)program->bos[task[i].bo].dma_address + task[i].offset_bytes,
			.regcmd_count = task[i].num_words,
			.num_programs = 1,
		};
	}
	return count;
}

/* What a step waits for, all of the stage before but its own lane's, and what it signals; returns how many. */
static uint32_t
fill_syncs(const struct cermet_queues *queues, const struct cermet_plan_step *steps, uint32_t number,
           struct drm_rocket_sync *to)
{
	const struct cermet_plan_step *step = &steps[number];
	uint32_t count = 0;

	for (uint32_t i = 0; i < number; i++)
		if (steps[i].stage + 1 == step->stage && steps[i].lane != step->lane)
			to[count++] = (struct drm_rocket_sync){.handle = queues->objects[steps[i].stage % 2][steps[i].lane]};
	to[count++] = (struct drm_rocket_sync){
		.handle = queues->objects[step->stage % 2][step->lane], .flags = DRM_ROCKET_SYNC_SIGNAL,
	};
	return count;
}

static void
fill_jobs(struct cermet_program *program, const struct cermet_plan_view *plan,
          const struct cermet_plan_partition *partition)
{
	const struct cermet_plan_task *tasks = CERMET_PLAN_TABLE(plan, partition->tasks_offset, struct cermet_plan_task);
	const struct cermet_plan_step *steps = CERMET_PLAN_TABLE(plan, partition->steps_offset, struct cermet_plan_step);
	struct cermet_queues *queues = &program->queues;
	struct drm_rocket_sync *syncs = queues->syncs;

	for (uint32_t i = 0; i < queues->num_jobs; i++) {
		struct drm_rocket_queue_task *first = &queues->tasks[steps[i].first_task];

		queues->jobs[i] = (struct drm_rocket_queue_job){
			.tasks = (uintptr_t)first,
			.task_count = fill_tasks(program, &tasks[steps[i].first_task], steps[i].num_tasks, first),
			.task_struct_size = sizeof(*first),
			.syncs = (uintptr_t)syncs,
			.sync_count = fill_syncs(queues, steps, i, syncs),
			.sync_struct_size = sizeof(*syncs),
			.queue = queues->queues[steps[i].lane],
		};
		syncs += queues->jobs[i].sync_count;
		if (steps[i].stage == steps[queues->num_jobs - 1].stage)
			queues->last[queues->num_last++] = queues->objects[steps[i].stage % 2][steps[i].lane];
	}
}

bool
cermet_queues_load(struct cermet_program *program, const struct cermet_plan_view *plan,
                   const struct cermet_plan_partition *partition, struct cermet_error *error)
{
	const struct cermet_plan_step *steps = CERMET_PLAN_TABLE(plan, partition->steps_offset, struct cermet_plan_step);
	struct cermet_queues *queues = &program->queues;

	queues->num_jobs = partition->num_steps;
	queues->jobs = calloc(partition->num_steps, sizeof(*queues->jobs));
	queues->tasks = calloc(partition->num_tasks, sizeof(*queues->tasks));
	queues->syncs = calloc((size_t)partition->num_steps * CERMET_MAX_LANES, sizeof(*queues->syncs));
	if (!queues->jobs || !queues->tasks || !queues->syncs)
		return cermet_fail(error, "out of memory");
	if (!make_address_space(program, error) || !make_queues(program, steps, error))
		return false;
	fill_jobs(program, plan, partition);
	return true;
}

void
cermet_queues_unload(struct cermet_program *program)
{
	struct cermet_queues *queues = &program->queues;
	struct drm_rocket_vm_destroy vm = {.vm = queues->vm};

	for (uint32_t lane = 0; lane < CERMET_MAX_LANES; lane++) {
		struct drm_rocket_queue_destroy queue = {.queue = queues->queues[lane]};

		if (queue.queue)
			cermet_device_call(program->device, DRM_IOCTL_ROCKET_QUEUE_DESTROY, &queue);
		for (int turn = 0; turn < 2; turn++) {
			struct drm_syncobj_destroy object = {.handle = queues->objects[turn][lane]};

			if (object.handle)
				cermet_device_call(program->device, DRM_IOCTL_SYNCOBJ_DESTROY, &object);
		}
	}
	if (vm.vm)
		cermet_device_call(program->device, DRM_IOCTL_ROCKET_VM_DESTROY, &vm);
	free(queues->jobs);
	free(queues->tasks);
	free(queues->syncs);
	*queues = (struct cermet_queues){0};
}

bool
cermet_queues_submit(struct cermet_program *program, struct cermet_error *error)
{
	struct drm_rocket_queue_submit submit = {
		.jobs = (uintptr_t)program->queues.jobs,
		.job_count = program->queues.num_jobs,
		.job_struct_size = sizeof(*program->queues.jobs),
	};

	if (!call(program, "QUEUE_SUBMIT", DRM_IOCTL_ROCKET_QUEUE_SUBMIT, &submit, error))
		return false;
	program->is_running = true;
	return true;
}

/* The first job that failed by itself, else the first that did not run because of another; false when all are good. */
static bool
find_failed(const struct cermet_program *program, struct drm_rocket_job_status *found, uint32_t *number)
{
	bool is_found = false;

	for (uint32_t i = 0; i < program->queues.num_jobs; i++) {
		struct drm_rocket_job_status status = {
			.queue = program->queues.jobs[i].queue, .seqno = program->queues.jobs[i].seqno,
		};

		if (cermet_device_call(program->device, DRM_IOCTL_ROCKET_JOB_STATUS, &status) != 0)
			status.error = (uint32_t)errno;
		if (status.error == 0 || (is_found && (status.error == ECANCELED || found->error != ECANCELED)))
			continue;
		*found = status;
		*number = i;
		is_found = true;
	}
	return is_found;
}

/* The last job of every queue has failed when any of its jobs has: jobs of a call depend on those before them. */
static bool
is_good(const struct cermet_program *program)
{
	for (uint32_t lane = 0; lane < CERMET_MAX_LANES; lane++) {
		struct drm_rocket_job_status status = {.queue = program->queues.queues[lane]};

		if (status.queue && (cermet_device_call(program->device, DRM_IOCTL_ROCKET_JOB_STATUS, &status) != 0 ||
		                     status.error != 0 || status.state != DRM_ROCKET_JOB_DONE))
			return false;
	}
	return true;
}

bool
cermet_queues_wait(struct cermet_program *program, int64_t deadline_ns, struct cermet_error *error)
{
	struct drm_rocket_job_status failed = {0};
	uint32_t number = 0;
	struct drm_syncobj_wait wait = {
		.handles = (uintptr_t)program->queues.last,
		.count_handles = program->queues.num_last,
		.timeout_nsec = deadline_ns,
		.flags = DRM_SYNCOBJ_WAIT_ALL,
	};

	if (cermet_device_call(program->device, DRM_IOCTL_SYNCOBJ_WAIT, &wait) != 0) {
		if (errno == ETIME)
			return cermet_fail(error, "partition %u on %s: not done after %lld ms (option timeout_ms)", program->number,
			                   program->device->name, (long long)(program->timeout_ns / 1000000));
		return cermet_fail(error, "device %s: SYNCOBJ_WAIT: %s", program->device->name,
		                   cermet_device_reason(program->device));
	}
	program->is_running = false;
	if (is_good(program) || !find_failed(program, &failed, &number))
		return true;
	return cermet_fail(error, "partition %u on %s: job %u of %u failed: %s, %u of its tasks were done", program->number,
	                   program->device->name, number + 1, program->queues.num_jobs, strerror((int)failed.error),
	                   failed.tasks_done);
}
