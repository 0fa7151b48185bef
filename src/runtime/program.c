/* SPDX-License-Identifier: MIT */
/* Loading: buffers, contents, relocations, the arrays that SUBMIT takes. Running is in invoke.c. */
#include "program.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define VALUE_SHIFT 16 /* a program word is target << 48 | value << 16 | register */
#define VALUE_MASK 0xffffffffu
#define TRAILER_WORDS 4

static bool
create_bos(struct cermet_program *program, const struct cermet_plan_view *plan,
           const struct cermet_plan_partition *partition, struct cermet_error *error)
{
	const struct cermet_plan_bo *bo = CERMET_PLAN_TABLE(plan, partition->bos_offset, struct cermet_plan_bo);

	for (uint32_t i = 0; i < partition->num_bos; i++) {
		if (!cermet_bo_create(program->device, bo[i].size_bytes, &program->bos[i], error))
			return false;
		program->num_bos = i + 1;
		if (program->bos[i].dma_address + bo[i].size_bytes > UINT64_C(1) << 32)
			return cermet_fail(error, "device %s: buffer at 0x%llx, NPU addresses have 32 bits", program->device->name,
			                   (unsigned long long)program->bos[i].dma_address);
		if (bo[i].data_bytes == 0)
			continue;
		memcpy(program->bos[i].map, plan->bytes + bo[i].data_offset, bo[i].data_bytes);
		program->loaded_mask |= 1u << i;
	}
	return true;
}

static bool
relocate(struct cermet_program *program, const struct cermet_plan_view *plan,
         const struct cermet_plan_partition *partition, struct cermet_error *error)
{
	const struct cermet_plan_relocation *relocation =
		CERMET_PLAN_TABLE(plan, partition->relocations_offset, struct cermet_plan_relocation);

	for (uint32_t i = 0; i < partition->num_relocations; i++, relocation++) {
		uint8_t *place = (uint8_t *)program->bos[relocation->bo].map + relocation->offset_bytes;
		uint64_t word, value;

		memcpy(&word, place, sizeof(word));
		value = (word >> VALUE_SHIFT & VALUE_MASK) + program->bos[relocation->target_bo].dma_address +
		        relocation->addend_bytes;
		if (value > VALUE_MASK)
			return cermet_fail(error, "plan: relocation %u: address 0x%llx does not fit 32 bits", i,
			                   (unsigned long long)value);
		word = (word & ~((uint64_t)VALUE_MASK << VALUE_SHIFT)) | value << VALUE_SHIFT;
		memcpy(place, &word, sizeof(word));
		program->loaded_mask |= 1u << relocation->bo;
	}
	return true;
}

/* Handles of the BOs in a mask, appended at *next; returns how many. The BOs differ, so no handle occurs twice. */
static uint32_t
append_handles(const struct cermet_program *program, uint32_t mask, uint32_t **next)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < program->num_bos; i++)
		if (mask >> i & 1) {
			*(*next)++ = program->bos[i].handle;
			count++;
		}
	return count;
}

void
cermet_program_lead(struct cermet_program *program, const struct cermet_plan_task *task)
{
	const struct cermet_plan_task *next = task + 1;
	const uint64_t address = program->bos[next->bo].dma_address + next->offset_bytes;
	const uint64_t words[2] = {task->next_address + (address << VALUE_SHIFT), task->next_amount};
	uint8_t *bytes = program->bos[task->bo].map;

	memcpy(bytes + task->offset_bytes + (task->num_words - TRAILER_WORDS) * sizeof(uint64_t), words, sizeof(words));
	program->loaded_mask |= 1u << task->bo;
}

/* Tasks for the kernel: without steps none to which another one leads; returns how many. */
static uint32_t
fill_tasks(struct cermet_program *program, const struct cermet_plan_partition *partition,
           const struct cermet_plan_task *task, uint32_t num_tasks, struct drm_rocket_task *to)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < num_tasks; i++) {
		if (i > 0 && partition->num_steps == 0 && task[i - 1].next_address != 0) {
			cermet_program_lead(program, &task[i - 1]);
			continue;
		}
		to[count++] = (struct drm_rocket_task){
			.regcmd = (uint32_t)program->bos[task[i].bo].dma_address + task[i].offset_bytes,
			.regcmd_count = task[i].num_words,
		};
	}
	return count;
}

static void
fill_jobs(struct cermet_program *program, const struct cermet_plan_view *plan,
          const struct cermet_plan_partition *partition)
{
	const struct cermet_plan_task *task = CERMET_PLAN_TABLE(plan, partition->tasks_offset, struct cermet_plan_task);
	const struct cermet_plan_job *job = CERMET_PLAN_TABLE(plan, partition->jobs_offset, struct cermet_plan_job);
	uint32_t *next = program->handles;

	for (uint32_t i = 0; i < partition->num_jobs; i++) {
		struct drm_rocket_job *to = &program->jobs[i];
		struct drm_rocket_task *first = &program->tasks[job[i].first_task];

		*to = (struct drm_rocket_job){
			.tasks = (uintptr_t)first,
			.task_count = fill_tasks(program, partition, &task[job[i].first_task], job[i].num_tasks, first),
			.task_struct_size = sizeof(struct drm_rocket_task),
			.in_bo_handles = (uintptr_t)next,
		};
		to->in_bo_handle_count = append_handles(program, job[i].in_bo_mask, &next);
		to->out_bo_handles = (uintptr_t)next;
		to->out_bo_handle_count = append_handles(program, job[i].out_bo_mask, &next);
		program->wait_mask |= job[i].out_bo_mask;
	}
	program->num_jobs = partition->num_jobs;
}

/*
 * What to sync around a run. BOs with a canary are flushed too: a dirty line of it must not be written back over the
 * NPU's result. Waiting for the BOs that are read is enough: jobs of one file end in order.
 */
static bool
choose_syncs(struct cermet_program *program, struct cermet_error *error)
{
	uint32_t outputs = 0;

	program->finish_mask = 0;
	for (uint32_t i = 0; i < program->num_inputs; i++)
		program->finish_mask |= 1u << program->inputs[i].bo;
	for (uint32_t i = 0; i < program->num_outputs; i++)
		outputs |= 1u << program->outputs[i].bo;
	if ((outputs & ~program->wait_mask) != 0)
		return cermet_fail(error, "plan: partition %u: an output lies in a bo that no job writes", program->number);
	if ((outputs & program->finish_mask) != 0)
		return cermet_fail(error, "plan: partition %u: a bo holds inputs and outputs", program->number);
	for (uint32_t i = 0; i < program->num_jobs; i++)
		outputs |= 1u << program->canaries[i].bo;
	program->wait_mask = outputs;
	program->finish_mask |= outputs;
	return true;
}

static void
fill_canaries(struct cermet_program *program, const struct cermet_plan_view *plan,
              const struct cermet_plan_partition *partition)
{
	const struct cermet_plan_job *job = CERMET_PLAN_TABLE(plan, partition->jobs_offset, struct cermet_plan_job);
	struct cermet_canary *canary = program->canaries;

	for (uint32_t i = 0; i < partition->num_jobs; i++)
		*canary++ = (struct cermet_canary){
			.bo = job[i].witness_bo,
			.offset_bytes = job[i].witness_offset_bytes,
			.num_bytes = CERMET_CANARY_BYTES,
			.is_of_chain = program->jobs[i].task_count < job[i].num_tasks,
		};
	for (uint32_t i = 0; i < program->num_outputs; i++, canary++) {
		canary->bo = program->outputs[i].bo;
		canary->offset_bytes = cermet_io_last_atom(&program->outputs[i], &canary->num_bytes);
	}
}

static void *
copy_of(const void *from, size_t count, size_t size)
{
	void *copy = calloc(count ? count : 1, size);

	if (copy && count)
		memcpy(copy, from, count * size);
	return copy;
}

static bool
allocate_arrays(struct cermet_program *program, const struct cermet_plan_view *plan,
                const struct cermet_plan_partition *partition, struct cermet_error *error)
{
	program->inputs = copy_of(plan->bytes + partition->inputs_offset, partition->num_inputs, sizeof(*program->inputs));
	program->outputs = copy_of(plan->bytes + partition->outputs_offset, partition->num_outputs,
	                           sizeof(*program->outputs));
	program->jobs = calloc(partition->num_jobs, sizeof(*program->jobs));
	program->tasks = calloc(partition->num_tasks, sizeof(*program->tasks));
	program->handles = calloc((size_t)partition->num_jobs * partition->num_bos, sizeof(*program->handles));
	program->canaries = calloc((size_t)partition->num_jobs + partition->num_outputs, sizeof(*program->canaries));
	if (!program->inputs || !program->outputs || !program->jobs || !program->tasks || !program->handles ||
	    !program->canaries)
		return cermet_fail(error, "partition %u: out of memory", program->number);
	program->num_inputs = partition->num_inputs;
	program->num_outputs = partition->num_outputs;
	return true;
}

/* The others are zeros, for the NPU too: the kernel makes them so. */
static bool
finish_loaded(const struct cermet_program *program, struct cermet_error *error)
{
	for (uint32_t i = 0; i < program->num_bos; i++)
		if (program->loaded_mask >> i & 1 && !cermet_bo_finish_cpu(program->device, &program->bos[i], error))
			return false;
	return true;
}

/* A pattern that no one can foresee: a result that happens to equal it is as likely as 2**-128. */
static void
choose_canary(uint8_t canary[CERMET_CANARY_BYTES])
{
	if (getrandom(canary, CERMET_CANARY_BYTES, GRND_NONBLOCK) == CERMET_CANARY_BYTES)
		return;
	/* Only before the kernel's random pool is ready: any irregular pattern will do. */
	for (int i = 0; i < CERMET_CANARY_BYTES; i++)
		canary[i] = (uint8_t)(cermet_now_ns() >> (i % 4) ^ i * 151);
}

bool
cermet_program_load(struct cermet_program *program, const struct cermet_device *device,
                    const struct cermet_plan_view *plan, uint32_t number, int64_t timeout_ns,
                    struct cermet_error *error)
{
	const struct cermet_plan_partition *partition = &plan->partitions[number];

	*program = (struct cermet_program){.device = device, .number = number, .timeout_ns = timeout_ns};
	choose_canary(program->canary);
	if (!allocate_arrays(program, plan, partition, error) || !create_bos(program, plan, partition, error) ||
	    !relocate(program, plan, partition, error))
		goto fail;
	fill_jobs(program, plan, partition);
	fill_canaries(program, plan, partition);
	if (!choose_syncs(program, error))
		goto fail;
	if (cermet_queues_are_possible(device, plan, partition) && !cermet_queues_load(program, plan, partition, error))
		goto fail;
	if (!finish_loaded(program, error))
		goto fail;
	return true;
fail:
	cermet_program_unload(program);
	return false;
}

void
cermet_program_unload(struct cermet_program *program)
{
	struct cermet_error ignored;

	if (program->queues.num_jobs > 0 && program->is_running)
		cermet_queues_wait(program, cermet_now_ns() + program->timeout_ns, &ignored);
	cermet_queues_unload(program);
	for (uint32_t i = 0; program->is_running && i < program->num_bos; i++)
		if (program->wait_mask >> i & 1)
			cermet_bo_wait(program->device, &program->bos[i], cermet_now_ns() + program->timeout_ns, &ignored);
	for (uint32_t i = 0; i < program->num_bos; i++)
		cermet_bo_destroy(program->device, &program->bos[i]);
	free(program->inputs);
	free(program->outputs);
	free(program->jobs);
	free(program->tasks);
	free(program->handles);
	free(program->canaries);
	*program = (struct cermet_program){0};
}
