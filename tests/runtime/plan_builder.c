/* SPDX-License-Identifier: MIT */
#include "plan_builder.h"

#include "fake_client.h"

#include <stdlib.h>
#include <string.h>

enum { CONSTANT, INPUT, OUTPUT, MIDDLE, NUM_BOS };

#define PROGRAM_BYTES (FAKE_PROGRAM_WORDS * 8)

const struct test_plan small_plan = {
	.build_id = "test", .soc = "rk3588", .num_nodes = 3, .num_on_cpu = 1, .input = 0, .output = 4,
	.height = 4, .width = 5, .channels = 20, .addend = 3,
};

static uint32_t
place(uint32_t *end, size_t size)
{
	uint32_t offset = *end;

	*end += (uint32_t)((size + 7) / 8 * 8);
	return offset;
}

static struct cermet_plan_io
port(const struct test_plan *plan, uint32_t tensor, uint32_t bo)
{
	return (struct cermet_plan_io){
		.tensor = tensor,
		.bo = bo,
		.layout = CERMET_LAYOUT_ATOMS,
		.batch = 1,
		.height = plan->height,
		.width = plan->width,
		.channels = plan->channels,
		.batch_stride_bytes = (plan->channels + 15) / 16 * plan->height * plan->width * 16,
		.line_stride_bytes = plan->width * 16,
		.surface_stride_bytes = plan->height * plan->width * 16,
		.fill = 7,
		.fold_y = 1,
		.fold_x = 1,
	};
}

static void
fill_partition(const struct test_plan *plan, struct cermet_plan_partition *partition, uint8_t *file)
{
	const struct cermet_plan_io input = port(plan, plan->input, INPUT), output = port(plan, plan->output, OUTPUT);
	const uint32_t data_bytes = input.batch_stride_bytes;
	const uint64_t program[FAKE_PROGRAM_WORDS] = {0, 0, (uint64_t)data_bytes << 16, (uint64_t)plan->addend << 16};
	struct cermet_plan_bo *bos = (void *)(file + partition->bos_offset);
	struct cermet_plan_relocation *relocations = (void *)(file + partition->relocations_offset);
	struct cermet_plan_task *tasks = (void *)(file + partition->tasks_offset);
	struct cermet_plan_job *jobs = (void *)(file + partition->jobs_offset);
	const uint32_t num_jobs = partition->num_jobs;

	bos[CONSTANT] = (struct cermet_plan_bo){CERMET_BO_CONSTANT, num_jobs * PROGRAM_BYTES, partition->debug_offset,
	                                        num_jobs * PROGRAM_BYTES};
	bos[INPUT] = (struct cermet_plan_bo){CERMET_BO_INPUT, data_bytes, 0, 0};
	bos[OUTPUT] = (struct cermet_plan_bo){CERMET_BO_OUTPUT, data_bytes, 0, 0};
	if (num_jobs > 1)
		bos[MIDDLE] = (struct cermet_plan_bo){CERMET_BO_ARENA, data_bytes, 0, 0};
	for (uint32_t i = 0; i < num_jobs; i++) {
		const uint32_t source = i == 0 ? INPUT : MIDDLE, target = i + 1 == num_jobs ? OUTPUT : MIDDLE;

		memcpy(file + partition->debug_offset + i * PROGRAM_BYTES, program, PROGRAM_BYTES);
		relocations[2 * i] = (struct cermet_plan_relocation){CONSTANT, i * PROGRAM_BYTES, source, 0};
		relocations[2 * i + 1] = (struct cermet_plan_relocation){CONSTANT, i * PROGRAM_BYTES + 8, target, 0};
		tasks[i] = (struct cermet_plan_task){CONSTANT, i * PROGRAM_BYTES, FAKE_PROGRAM_WORDS, 0, 0, 0};
		jobs[i] = (struct cermet_plan_job){i, 1, 1u << CONSTANT | 1u << source, 1u << target, target, 0};
	}
	partition->debug_offset = 0; /* was only a place for the program */
	*(struct cermet_plan_step *)(void *)(file + partition->steps_offset) = (struct cermet_plan_step){0, num_jobs, 0, 0};
	memcpy(file + partition->inputs_offset, &input, sizeof(input));
	memcpy(file + partition->outputs_offset, &output, sizeof(output));
}

struct cermet_bytes
build_plan(const struct test_plan *plan)
{
	static const char strings[] = "\0test: stays on the CPU";
	const uint32_t num_jobs = plan->num_jobs ? plan->num_jobs : 1, num_bos = num_jobs > 1 ? NUM_BOS : MIDDLE;
	const uint32_t num_taken = plan->num_nodes - plan->num_on_cpu;
	uint32_t end = sizeof(struct cermet_plan_header);
	struct cermet_plan_header header = {
		.magic = CERMET_PLAN_MAGIC,
		.version = CERMET_PLAN_VERSION,
		.num_nodes = plan->num_nodes,
		.nodes_offset = place(&end, plan->num_nodes * sizeof(struct cermet_plan_node)),
		.num_partitions = num_taken ? 1 : 0,
		.partitions_offset = place(&end, sizeof(struct cermet_plan_partition)),
		.strings_offset = place(&end, sizeof(strings)),
		.strings_bytes = sizeof(strings),
	};
	struct cermet_plan_partition partition = {
		.num_nodes = num_taken, .nodes_offset = place(&end, num_taken * sizeof(uint32_t)),
		.num_bos = num_bos, .bos_offset = place(&end, num_bos * sizeof(struct cermet_plan_bo)),
		.num_relocations = 2 * num_jobs,
		.relocations_offset = place(&end, 2 * num_jobs * sizeof(struct cermet_plan_relocation)),
		.num_tasks = num_jobs, .tasks_offset = place(&end, num_jobs * sizeof(struct cermet_plan_task)),
		.num_jobs = num_jobs, .jobs_offset = place(&end, num_jobs * sizeof(struct cermet_plan_job)),
		.num_steps = 1, .steps_offset = place(&end, sizeof(struct cermet_plan_step)),
		.num_inputs = 1, .inputs_offset = place(&end, sizeof(struct cermet_plan_io)),
		.num_outputs = 1, .outputs_offset = place(&end, sizeof(struct cermet_plan_io)),
		.debug_offset = place(&end, num_jobs * PROGRAM_BYTES),
	};
	struct cermet_bytes bytes = {calloc(1, end), end};
	struct cermet_plan_node *nodes = (void *)(bytes.data + header.nodes_offset);
	uint32_t *members = (void *)(bytes.data + partition.nodes_offset);

	header.file_bytes = end;
	if (plan->key)
		memcpy(header.key, plan->key, sizeof(header.key));
	strncpy(header.build_id, plan->build_id, sizeof(header.build_id) - 1);
	strncpy(header.soc, plan->soc, sizeof(header.soc) - 1);
	memcpy(bytes.data + header.strings_offset, strings, sizeof(strings));
	for (uint32_t i = 0; i < plan->num_nodes; i++)
		nodes[i] = i < num_taken ? (struct cermet_plan_node){0, 0} : (struct cermet_plan_node){CERMET_ON_CPU, 1};
	for (uint32_t i = 0; i < num_taken; i++)
		members[i] = i;
	fill_partition(plan, &partition, bytes.data);
	memcpy(bytes.data + header.partitions_offset, &partition, sizeof(partition));
	memcpy(bytes.data, &header, sizeof(header));
	fix_checksum(&bytes);
	return bytes;
}

void
fix_checksum(struct cermet_bytes *plan)
{
	struct cermet_plan_header *header = (void *)plan->data;
	struct cermet_plan_checksum checksum;

	if (plan->size < sizeof(*header))
		return;
	checksum = cermet_plan_checksum(plan->data, plan->size);
	header->checksum_sum = checksum.sum;
	header->checksum_products = checksum.products;
}

uint8_t *
table_of(const struct cermet_bytes *plan, enum table table)
{
	const struct cermet_plan_header *header = (const void *)plan->data;
	const struct cermet_plan_partition *partition = (const void *)(plan->data + header->partitions_offset);
	const uint32_t offsets[] = {header->partitions_offset, partition->bos_offset, partition->relocations_offset,
	                            partition->tasks_offset, partition->jobs_offset, partition->inputs_offset,
	                            partition->outputs_offset};

	return plan->data + offsets[table];
}

size_t
place_of(const struct cermet_plan_io *io, uint32_t n, uint32_t h, uint32_t w, uint32_t c)
{
	size_t row = io->offset_bytes + (size_t)n * io->batch_stride_bytes + (size_t)(h / io->fold_y) * io->line_stride_bytes;

	if (io->layout == CERMET_LAYOUT_PACKED)
		return row + (size_t)w * io->channels + c;
	c += (h % io->fold_y * io->fold_x + w % io->fold_x) * io->channels;
	return row + (size_t)(c / 16) * io->surface_stride_bytes + w / io->fold_x * 16 + c % 16;
}
