/* SPDX-License-Identifier: MIT */
/*
 * One run. The kernel reports neither a dropped nor a timed-out job: PREP_BO returns 0 for both. So before each run
 * canaries are written where each job leaves its witness (cermet_plan.h) and into the last atom of every output; a job
 * that ran to its end has overwritten them.
 */
#include "program.h"

#include "convert.h"

#include <string.h>

/* A shorter canary (only a packed output of a few bytes has one) may equal a result by chance: ask again before
 * believing that nothing was written. */
#define NUM_TRIES 3

static uint8_t *
bo_bytes(const struct cermet_program *program, uint32_t bo)
{
	return program->bos[bo].map;
}

static uint32_t
num_canaries(const struct cermet_program *program)
{
	return program->num_jobs + program->num_outputs;
}

static void
write_canaries(const struct cermet_program *program, uint8_t flip)
{
	for (uint32_t i = 0; i < num_canaries(program); i++) {
		const struct cermet_canary *canary = &program->canaries[i];

		for (size_t k = 0; k < canary->num_bytes; k++)
			bo_bytes(program, canary->bo)[canary->offset_bytes + k] = program->canary[k] ^ flip;
	}
}

/* The first canary that nobody touched; NULL when all were overwritten. */
static const struct cermet_canary *
find_canary(const struct cermet_program *program, uint8_t flip)
{
	for (uint32_t i = 0; i < num_canaries(program); i++) {
		const struct cermet_canary *canary = &program->canaries[i];
		const uint8_t *bytes = bo_bytes(program, canary->bo) + canary->offset_bytes;
		size_t k = 0;

		while (k < canary->num_bytes && bytes[k] == (uint8_t)(program->canary[k] ^ flip))
			k++;
		if (k == canary->num_bytes)
			return canary;
	}
	return NULL;
}

/* The text for a canary that was found. */
static bool
fail_incomplete(const struct cermet_program *program, const struct cermet_canary *canary, int64_t start_ns,
                struct cermet_error *error)
{
	const uint32_t number = (uint32_t)(canary - program->canaries);
	const long long passed_ms = (cermet_now_ns() - start_ns) / 1000000;
	const char *const hint = canary->is_of_chain ?
		"; option chains=program needs an NPU on which cermet probe Q-X12 says runs, try chains=kernel" : "";

	if (number < program->num_jobs)
		return cermet_fail(error, "partition %u on %s: job did not complete (timeout or dropped) after %lld ms: job %u "
		                   "of %u%s", program->number, program->device->name, passed_ms, number + 1, program->num_jobs,
		                   hint);
	return cermet_fail(error, "partition %u on %s: job did not complete (timeout or dropped) after %lld ms: "
	                   "tensor %u was not written", program->number, program->device->name, passed_ms,
	                   program->outputs[number - program->num_jobs].tensor);
}

static bool
finish_cpu(const struct cermet_program *program, struct cermet_error *error)
{
	for (uint32_t i = 0; i < program->num_bos; i++)
		if ((program->finish_mask >> i & 1) && !cermet_bo_finish_cpu(program->device, &program->bos[i], error))
			return false;
	return true;
}

/* Wait for all outputs; is_running says afterwards whether jobs may still write. */
static bool
wait_for_outputs(struct cermet_program *program, int64_t start_ns, struct cermet_error *error)
{
	const int64_t deadline_ns = start_ns + program->timeout_ns;

	for (uint32_t i = 0; i < program->num_bos; i++) {
		enum cermet_wait result;

		if (!(program->wait_mask >> i & 1))
			continue;
		result = cermet_bo_wait(program->device, &program->bos[i], deadline_ns, error);
		if (result == CERMET_WAIT_TIMEOUT)
			return cermet_fail(error, "partition %u on %s: not done after %lld ms (option timeout_ms)", program->number,
			                   program->device->name, (long long)(program->timeout_ns / 1000000));
		if (result == CERMET_WAIT_FAILED)
			return false;
	}
	program->is_running = false;
	return true;
}

/* Jobs of an earlier run that ran out of time: an error of theirs is none of this run. */
static bool
wait_for_earlier(struct cermet_program *program, int64_t start_ns, struct cermet_error *error)
{
	if (!program->is_running)
		return true;
	if (program->queues.num_jobs == 0)
		return wait_for_outputs(program, start_ns, error);
	return cermet_queues_wait(program, start_ns + program->timeout_ns, error) || !program->is_running;
}

/* The kernel says what became of the jobs. */
static bool
run_queues(struct cermet_program *program, struct cermet_error *error)
{
	const int64_t start_ns = cermet_now_ns();

	return finish_cpu(program, error) && cermet_queues_submit(program, error) &&
	       cermet_queues_wait(program, start_ns + program->timeout_ns, error) &&
	       wait_for_outputs(program, start_ns, error);
}

static bool
run_jobs(struct cermet_program *program, struct cermet_error *error)
{
	int64_t start_ns = cermet_now_ns();

	if (!cermet_device_submit(program->device, program->jobs, program->num_jobs, error))
		return false;
	program->is_running = true;
	return wait_for_outputs(program, start_ns, error);
}

/* Run the jobs until no canary is left; see NUM_TRIES. */
static bool
run_until_written(struct cermet_program *program, struct cermet_error *error)
{
	const int64_t start_ns = cermet_now_ns();
	const struct cermet_canary *canary = NULL;

	for (int try = 0; try < NUM_TRIES; try++) {
		const uint8_t flip = (uint8_t)(0x55 * try);

		write_canaries(program, flip);
		if (!finish_cpu(program, error) || !run_jobs(program, error))
			return false;
		canary = find_canary(program, flip);
		if (!canary)
			return true;
		if (canary->num_bytes == CERMET_CANARY_BYTES)
			break;
	}
	return fail_incomplete(program, canary, start_ns, error);
}

bool
cermet_program_run(struct cermet_program *program, const void *const *inputs, void *const *outputs,
                   struct cermet_error *error)
{
	int64_t start_ns = cermet_now_ns(), submit_ns, done_ns;

	/* An earlier run ran out of time: its jobs may still read what is about to be written. */
	if (!wait_for_earlier(program, start_ns, error))
		return false;
	for (uint32_t i = 0; i < program->num_inputs; i++)
		cermet_convert_in(&program->inputs[i], inputs[i], bo_bytes(program, program->inputs[i].bo));
	submit_ns = cermet_now_ns();
	if (program->queues.num_jobs > 0 ? !run_queues(program, error) : !run_until_written(program, error))
		return false;
	done_ns = cermet_now_ns();
	for (uint32_t i = 0; i < program->num_outputs; i++)
		cermet_convert_out(&program->outputs[i], bo_bytes(program, program->outputs[i].bo), outputs[i]);
	program->times.num_runs++;
	program->times.inputs_ns += submit_ns - start_ns;
	program->times.device_ns += done_ns - submit_ns;
	program->times.outputs_ns += cermet_now_ns() - done_ns;
	return true;
}
