/* SPDX-License-Identifier: MIT */
/* What the tables of a partition say. */
#include "plan_checks.h"

#define WITNESS_BYTES 16 /* an atom */
#define TRAILER_WORDS 4
#define MAX_TASK_WORDS 131072 /* PC.REGISTER_AMOUNTS holds 16 bits of word pairs; more would wrap silently */
#define MAX_BO_BYTES 0x7ffff000u

/* A partition's list names its own nodes, each once. That none is missing: check_num_members. */
static bool
check_membership(const struct cermet_plan_view *view, uint32_t number, struct cermet_error *error)
{
	const struct cermet_plan_partition *partition = &view->partitions[number];
	const uint32_t *nodes = CERMET_PLAN_TABLE(view, partition->nodes_offset, uint32_t);

	if (partition->num_nodes == 0)
		return cermet_fail(error, "plan: partition %u: has no nodes", number);
	for (uint32_t i = 0; i < partition->num_nodes; i++)
		if (nodes[i] >= view->header->num_nodes || view->nodes[nodes[i]].partition != number ||
		    (i > 0 && nodes[i] <= nodes[i - 1]))
			return cermet_fail(error, "plan: partition %u: node %u must be one of its own, in ascending order", number,
			                   nodes[i]);
	return true;
}

static bool
check_bos(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
          const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	for (uint32_t i = 0; i < partition->num_bos; i++) {
		const struct cermet_plan_bo *bo = &bos[i];

		if (bo->role > CERMET_BO_OUTPUT)
			return cermet_fail(error, "plan: bo %u: role %u must be 0..%d", i, bo->role, CERMET_BO_OUTPUT);
		if (bo->size_bytes < 1 || bo->size_bytes > MAX_BO_BYTES)
			return cermet_fail(error, "plan: bo %u: %u bytes must be 1..%u", i, bo->size_bytes, MAX_BO_BYTES);
		if (bo->data_bytes > bo->size_bytes)
			return cermet_fail(error, "plan: bo %u: %u bytes of contents must be 0..%u", i, bo->data_bytes,
			                   bo->size_bytes);
		if (!cermet_plan_table_is_inside(view, bo->data_offset, bo->data_bytes, 1, "bo's contents", error))
			return false;
	}
	return true;
}

static bool
check_relocations(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
                  const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	const struct cermet_plan_relocation *relocation =
		CERMET_PLAN_TABLE(view, partition->relocations_offset, struct cermet_plan_relocation);

	for (uint32_t i = 0; i < partition->num_relocations; i++, relocation++) {
		if (relocation->bo < partition->num_bos && relocation->target_bo < partition->num_bos &&
		    relocation->offset_bytes % 8 == 0 &&
		    (uint64_t)relocation->offset_bytes + 8 <= bos[relocation->bo].size_bytes &&
		    relocation->addend_bytes < bos[relocation->target_bo].size_bytes)
			continue;
		return cermet_fail(error, "plan: relocation %u: word at %u of bo %u to %u of bo %u must be 8-byte aligned and "
		                   "inside the bos", i, relocation->offset_bytes, relocation->bo, relocation->addend_bytes,
		                   relocation->target_bo);
	}
	return true;
}

static bool
check_tasks(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
            const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	const struct cermet_plan_task *task = CERMET_PLAN_TABLE(view, partition->tasks_offset, struct cermet_plan_task);

	for (uint32_t i = 0; i < partition->num_tasks; i++, task++) {
		if (task->bo < partition->num_bos && task->offset_bytes % 16 == 0 && task->reserved == 0 &&
		    task->num_words >= TRAILER_WORDS && task->num_words <= MAX_TASK_WORDS &&
		    task->offset_bytes + task->num_words * UINT64_C(8) <= bos[task->bo].size_bytes)
			continue;
		return cermet_fail(error, "plan: task %u: %u words at %u of bo %u must be %d..%d words, inside the bo, "
		                   "16-byte aligned", i, task->num_words, task->offset_bytes, task->bo, TRAILER_WORDS,
		                   MAX_TASK_WORDS);
	}
	return true;
}

static bool
check_jobs(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
           const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	const struct cermet_plan_job *job = CERMET_PLAN_TABLE(view, partition->jobs_offset, struct cermet_plan_job);
	const uint64_t num_tasks = partition->num_tasks;

	for (uint32_t i = 0; i < partition->num_jobs; i++, job++) {
		if (job->num_tasks < 1 || job->first_task + (uint64_t)job->num_tasks > num_tasks)
			return cermet_fail(error, "plan: job %u: tasks %u + %u must be among the %llu there are", i,
			                   job->first_task, job->num_tasks, (unsigned long long)num_tasks);
		if (((uint64_t)(job->in_bo_mask | job->out_bo_mask) >> partition->num_bos) != 0 || job->out_bo_mask == 0 ||
		    (job->in_bo_mask & job->out_bo_mask) != 0)
			return cermet_fail(error, "plan: job %u: masks 0x%x and 0x%x must be disjoint, name bos below %u and at "
			                   "least one that is written", i, job->in_bo_mask, job->out_bo_mask, partition->num_bos);
		if (job->witness_bo >= partition->num_bos || !(job->out_bo_mask >> job->witness_bo & 1) ||
		    job->witness_offset_bytes % WITNESS_BYTES != 0 ||
		    job->witness_offset_bytes + (uint64_t)WITNESS_BYTES > bos[job->witness_bo].size_bytes)
			return cermet_fail(error, "plan: job %u: witness at %u of bo %u must be an atom of a bo that it writes", i,
			                   job->witness_offset_bytes, job->witness_bo);
	}
	return true;
}

/* All tasks in order; stages without gaps, in each of them one step for each lane, in ascending order. */
static bool
check_steps(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition, struct cermet_error *error)
{
	const struct cermet_plan_step *step = CERMET_PLAN_TABLE(view, partition->steps_offset, struct cermet_plan_step);
	uint64_t first = 0;

	for (uint32_t i = 0; i < partition->num_steps; i++, step++) {
		const bool is_first = i == 0 && step->stage == 0;
		const bool is_beside = i > 0 && step->stage == step[-1].stage && step->lane > step[-1].lane;
		const bool is_behind = i > 0 && step->stage == step[-1].stage + UINT64_C(1);

		if (step->first_task != first || step->num_tasks < 1 || step->lane >= CERMET_MAX_LANES ||
		    !(is_first || is_beside || is_behind))
			return cermet_fail(error, "plan: step %u: tasks %u + %u, lane %u, stage %u must follow task %llu and the step "
			                   "before", i, step->first_task, step->num_tasks, step->lane, step->stage,
			                   (unsigned long long)first);
		first += step->num_tasks;
	}
	if (partition->num_steps > 0 && first != partition->num_tasks)
		return cermet_fail(error, "plan: steps have %llu of %u tasks", (unsigned long long)first, partition->num_tasks);
	return true;
}

bool
cermet_plan_check_partition(const struct cermet_plan_view *view, uint32_t number, uint64_t *num_table_bytes,
                            struct cermet_error *error)
{
	const struct cermet_plan_partition *partition = &view->partitions[number];
	const struct cermet_plan_bo *bos = CERMET_PLAN_TABLE(view, partition->bos_offset, struct cermet_plan_bo);
	const struct cermet_plan_io *inputs = CERMET_PLAN_TABLE(view, partition->inputs_offset, struct cermet_plan_io);
	const struct cermet_plan_io *outputs = CERMET_PLAN_TABLE(view, partition->outputs_offset, struct cermet_plan_io);

	if (!cermet_plan_tables_are_inside(view, partition, num_table_bytes, error))
		return false;
	if (partition->num_bos < 1 || partition->num_bos > CERMET_MAX_BOS)
		return cermet_fail(error, "plan: partition %u: %u bos, must be 1..%d", number, partition->num_bos, CERMET_MAX_BOS);
	if (partition->num_jobs < 1 || partition->num_tasks < 1 || partition->num_outputs < 1)
		return cermet_fail(error, "plan: partition %u: %u jobs, %u tasks, %u outputs, must be at least one of each",
		                   number, partition->num_jobs, partition->num_tasks, partition->num_outputs);
	return check_membership(view, number, error) && check_bos(view, partition, bos, error) &&
	       check_relocations(view, partition, bos, error) && check_tasks(view, partition, bos, error) &&
	       check_jobs(view, partition, bos, error) && check_steps(view, partition, error) &&
	       cermet_plan_check_ios(partition, bos, inputs, partition->num_inputs, true, error) &&
	       cermet_plan_check_ios(partition, bos, outputs, partition->num_outputs, false, error);
}
