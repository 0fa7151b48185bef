/* SPDX-License-Identifier: MIT */
/* The plan reader: what is wrong is refused, with a reason. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "fake_client.h"
#include "plan_builder.h"
#include "program.h"

#include <stdlib.h>

static bool
opens(const struct cermet_bytes *bytes, struct cermet_error *error)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct cermet_plan_view view;

	return cermet_plan_open(bytes->data, bytes->size, &anything, &view, error);
}

static void
test_plan_is_refused_with_a_reason(void)
{
	static const struct {
		size_t offset;
		uint32_t value;
		const char *text;
	} changes[] = {
		{offsetof(struct cermet_plan_header, magic), 1, "wrong magic 0x00000001"},
		{offsetof(struct cermet_plan_header, version), 1, "format version 1, must be 6"},
		{offsetof(struct cermet_plan_header, file_bytes), 8, "header says 8"},
		{offsetof(struct cermet_plan_header, num_nodes), 0x7fffffff, "must lie in the file"},
		{offsetof(struct cermet_plan_header, num_nodes), 1, "node 1 must be one of its own"},
		{offsetof(struct cermet_plan_header, num_partitions), 0, "partition 0 must be below 0"},
		{offsetof(struct cermet_plan_header, num_partitions), 4, "4 partitions of 3 nodes"},
		{offsetof(struct cermet_plan_header, strings_bytes), 0, "strings must begin and end with a NUL"},
		{offsetof(struct cermet_plan_header, nodes_offset), 156, "8-byte aligned"},
		{offsetof(struct cermet_plan_header, build_id), 0, "build_id: must be text"},
	};
	struct cermet_error error;

	for (size_t i = 0; i < CERMET_COUNT(changes); i++) {
		struct cermet_bytes plan = build_plan(&small_plan);

		memcpy(plan.data + changes[i].offset, &changes[i].value, 4);
		fix_checksum(&plan);
		CHECK(!opens(&plan, &error));
		CHECK_TEXT(error.text, changes[i].text);
		free(plan.data);
	}
}

/* A good plan with room behind it, so that only the check in question can refuse. */
static struct cermet_bytes
roomy_plan(void)
{
	struct cermet_bytes plan = build_plan(&small_plan);
	const size_t size = plan.size + 4096;

	plan.data = realloc(plan.data, size);
	memset(plan.data + plan.size, 0, size - plan.size);
	plan.size = size;
	((struct cermet_plan_header *)(void *)plan.data)->file_bytes = size;
	fix_checksum(&plan);
	return plan;
}

static void
test_each_limit_of_a_partition(void)
{
	static const struct {
		enum table table;
		size_t offset;
		uint32_t value;
		const char *text;
	} changes[] = {
		{PARTITION, offsetof(struct cermet_plan_partition, num_bos), 33, "33 bos, must be 1..32"},
		{PARTITION, offsetof(struct cermet_plan_partition, num_nodes), 1, "partitions list 1 nodes, the node table 2"},
		{PARTITION, offsetof(struct cermet_plan_partition, num_outputs), 0, "1 jobs, 1 tasks, 0 outputs"},
		{BO, offsetof(struct cermet_plan_bo, role), 4, "bo 0: role 4 must be 0..3"},
		{BO, offsetof(struct cermet_plan_bo, size_bytes), 0, "bo 0: 0 bytes must be 1..2147479552"},
		{BO, offsetof(struct cermet_plan_bo, size_bytes), 0x7ffff001, "bo 0: 2147479553 bytes must be"},
		{BO, offsetof(struct cermet_plan_bo, data_bytes), 33, "bo 0: 33 bytes of contents must be 0..32"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, bo), 3, "relocation 0: word at 0 of bo 3"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, offset_bytes), 4, "must be 8-byte aligned"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, offset_bytes), 32, "inside the bos"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, target_bo), 3, "to 0 of bo 3"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, addend_bytes), 640, "to 640 of bo 1"},
		{TASK, offsetof(struct cermet_plan_task, bo), 3, "task 0: 4 words at 0 of bo 3"},
		{TASK, offsetof(struct cermet_plan_task, offset_bytes), 8, "16-byte aligned"},
		{TASK, offsetof(struct cermet_plan_task, num_words), 3, "task 0: 3 words"},
		{TASK, offsetof(struct cermet_plan_task, num_words), 5, "inside the bo"},
		{JOB, offsetof(struct cermet_plan_job, num_tasks), 2, "job 0: tasks 0 + 2 must be among the 1"},
		{JOB, offsetof(struct cermet_plan_job, first_task), 0xffffffff, "tasks 4294967295 + 1"},
		{JOB, offsetof(struct cermet_plan_job, in_bo_mask), 4, "masks 0x4 and 0x4 must be disjoint"},
		{JOB, offsetof(struct cermet_plan_job, in_bo_mask), 8, "name bos below 3"},
		{JOB, offsetof(struct cermet_plan_job, out_bo_mask), 0, "at least one that is written"},
		{JOB, offsetof(struct cermet_plan_job, witness_bo), 1, "job 0: witness at 0 of bo 1 must be an atom of a bo"},
		{JOB, offsetof(struct cermet_plan_job, witness_bo), 33, "witness at 0 of bo 33"},
		{JOB, offsetof(struct cermet_plan_job, witness_offset_bytes), 8, "witness at 8 of bo 2"},
		{JOB, offsetof(struct cermet_plan_job, witness_offset_bytes), 640, "witness at 640 of bo 2"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, bo), 3, "tensor 4: bo 3 must be below 3"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, layout), 2, "tensor 4: layout 2 must be 0..1"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, channels), 0, "must be at least 1"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, batch), 0xffffffff, "together below 2 GiB"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, offset_bytes), 16, "ends beyond the 640 bytes of bo 2"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, line_stride_bytes), 0xffffffff, "ends beyond"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, surface_stride_bytes), 321, "ends beyond"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01010001, "flip 1 must be 0 or 128"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01020080, "tensor 4: folded by 2x1, must be 1..1"},
		{INPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x32010000, "tensor 0: folded by 1x50, must be 1..49"},
		{INPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01000000, "folded by 0x1"},
		{INPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01070000, "ends beyond the 640 bytes of bo 1"},
	};
	struct cermet_error error;

	for (size_t i = 0; i < CERMET_COUNT(changes); i++) {
		struct cermet_bytes plan = roomy_plan();

		CHECK(opens(&plan, &error));
		memcpy(table_of(&plan, changes[i].table) + changes[i].offset, &changes[i].value, 4);
		fix_checksum(&plan);
		CHECK(!opens(&plan, &error));
		CHECK_TEXT(error.text, changes[i].text);
		free(plan.data);
	}
}

static void
test_plan_for_something_else_is_refused(void)
{
	uint8_t key[CERMET_HASH_BYTES] = {1};
	const struct cermet_plan_expectation expected[] = {{key, NULL, NULL}, {NULL, "other", NULL}, {NULL, NULL, "rk3576"}};
	static const char *const texts[] = {"its key differs", "made by compiler test, must be other",
	                                    "made for rk3588, must be rk3576"};
	struct cermet_bytes plan = build_plan(&small_plan);
	struct cermet_plan_view view;
	struct cermet_error error;

	CHECK(opens(&plan, &error));
	for (size_t i = 0; i < CERMET_COUNT(expected); i++) {
		CHECK(!cermet_plan_open(plan.data, plan.size, &expected[i], &view, &error));
		CHECK_TEXT(error.text, texts[i]);
	}
	plan.data[plan.size - 1] ^= 1;
	CHECK(!opens(&plan, &error));
	CHECK_TEXT(error.text, "checksum differs");
	free(plan.data);
}

int
main(void)
{
	test_plan_is_refused_with_a_reason();
	test_each_limit_of_a_partition();
	test_plan_for_something_else_is_refused();
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}
