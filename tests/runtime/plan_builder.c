/* SPDX-License-Identifier: MIT */
#include "plan_builder.h"

#include "fake_client.h"

#include <stdlib.h>
#include <string.h>

enum { CONSTANT, INPUT, OUTPUT, NUM_BOS };

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
	const struct cermet_plan_task task = {CONSTANT, 0, FAKE_PROGRAM_WORDS, 0};
	const struct cermet_plan_job job = {0, 1, 1u << CONSTANT | 1u << INPUT, 1u << OUTPUT};

	bos[CONSTANT] = (struct cermet_plan_bo){CERMET_BO_CONSTANT, sizeof(program), partition->debug_offset, sizeof(program)};
	bos[INPUT] = (struct cermet_plan_bo){CERMET_BO_INPUT, data_bytes, 0, 0};
	bos[OUTPUT] = (struct cermet_plan_bo){CERMET_BO_OUTPUT, data_bytes, 0, 0};
	memcpy(file + partition->debug_offset, program, sizeof(program));
	partition->debug_offset = 0; /* was only a place for the program */
	relocations[0] = (struct cermet_plan_relocation){CONSTANT, 0, INPUT, 0};
	relocations[1] = (struct cermet_plan_relocation){CONSTANT, 8, OUTPUT, 0};
	memcpy(file + partition->tasks_offset, &task, sizeof(task));
	memcpy(file + partition->jobs_offset, &job, sizeof(job));
	memcpy(file + partition->inputs_offset, &input, sizeof(input));
	memcpy(file + partition->outputs_offset, &output, sizeof(output));
}

struct cermet_bytes
build_plan(const struct test_plan *plan)
{
	static const char strings[] = "\0test: stays on the CPU";
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
		.num_bos = NUM_BOS, .bos_offset = place(&end, NUM_BOS * sizeof(struct cermet_plan_bo)),
		.num_relocations = 2, .relocations_offset = place(&end, 2 * sizeof(struct cermet_plan_relocation)),
		.num_tasks = 1, .tasks_offset = place(&end, sizeof(struct cermet_plan_task)),
		.num_jobs = 1, .jobs_offset = place(&end, sizeof(struct cermet_plan_job)),
		.num_inputs = 1, .inputs_offset = place(&end, sizeof(struct cermet_plan_io)),
		.num_outputs = 1, .outputs_offset = place(&end, sizeof(struct cermet_plan_io)),
		.debug_offset = place(&end, FAKE_PROGRAM_WORDS * sizeof(uint64_t)),
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

	if (plan->size >= sizeof(*header))
		cermet_plan_checksum(plan->data, plan->size, header->checksum);
}
