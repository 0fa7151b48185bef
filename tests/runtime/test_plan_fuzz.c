/* SPDX-License-Identifier: MIT */
/* Plans that are damaged: refused, or taken and run inside their buffers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "fake_client.h"
#include "plan_builder.h"
#include "program.h"

#include <stdlib.h>

#define FUZZ_ROUNDS 20000

static int num_runs, num_refusals; /* of damaged plans */

static void
check_port(const struct cermet_plan_io *io, const struct cermet_plan_bo *bos, uint32_t num_bos)
{
	struct cermet_plan_io map = *io;

	CHECK(io->bo < num_bos && io->batch && io->height && io->width && io->channels && io->fold_y && io->fold_x);
	if (io->bo >= num_bos || !io->fold_y || !io->fold_x)
		return;
	map.height = (io->height - 1) / io->fold_y + 1;
	map.width = (io->width - 1) / io->fold_x + 1;
	map.channels = io->channels * io->fold_y * io->fold_x;
	map.fold_y = map.fold_x = 1;
	/* The last byte of the last atom. */
	CHECK(place_of(&map, map.batch - 1, map.height - 1, map.width - 1,
	               map.layout == CERMET_LAYOUT_ATOMS ? (map.channels - 1) | 15 : map.channels - 1) <
	      bos[io->bo].size_bytes);
}

/* What those who use a plan rely on, said a second time: mappings are larger than buffers, so not every access
 * beyond a buffer's end can be seen. */
static void
check_invariants(const struct cermet_plan_view *view)
{
	for (uint32_t i = 0; i < view->header->num_nodes; i++)
		CHECK(view->nodes[i].reason + strlen(view->strings + view->nodes[i].reason) < view->header->strings_bytes);
	for (uint32_t p = 0; p < view->header->num_partitions; p++) {
		const struct cermet_plan_partition *part = &view->partitions[p];
		const struct cermet_plan_bo *bos = CERMET_PLAN_TABLE(view, part->bos_offset, struct cermet_plan_bo);
		const struct cermet_plan_task *tasks = CERMET_PLAN_TABLE(view, part->tasks_offset, struct cermet_plan_task);

		CHECK(part->num_bos >= 1 && part->num_bos <= 32);
		for (uint32_t i = 0; i < part->num_bos; i++)
			CHECK(bos[i].size_bytes > 0 && bos[i].data_bytes <= bos[i].size_bytes &&
			      (bos[i].data_bytes == 0 || bos[i].data_offset + (uint64_t)bos[i].data_bytes <= view->num_bytes));
		for (uint32_t i = 0; i < part->num_tasks; i++)
			CHECK(tasks[i].bo < part->num_bos &&
			      tasks[i].offset_bytes + tasks[i].num_words * UINT64_C(8) <= bos[tasks[i].bo].size_bytes);
		for (uint32_t i = 0; i < part->num_inputs; i++)
			check_port(CERMET_PLAN_TABLE(view, part->inputs_offset, struct cermet_plan_io) + i, bos, part->num_bos);
		for (uint32_t i = 0; i < part->num_outputs; i++)
			check_port(CERMET_PLAN_TABLE(view, part->outputs_offset, struct cermet_plan_io) + i, bos, part->num_bos);
	}
}

/* Whatever a plan says, loading and running it stays inside its buffers: the sanitizer watches. */
static void
use_plan(const struct cermet_bytes *bytes, const struct cermet_device *device)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct cermet_plan_view view;
	struct cermet_program program;
	struct cermet_error error = {""};
	const void *inputs[8];
	void *outputs[8];

	if (!cermet_plan_open(bytes->data, bytes->size, &anything, &view, &error)) {
		CHECK(error.text[0]);
		num_refusals++;
		return;
	}
	check_invariants(&view);
	for (uint32_t p = 0; p < view.header->num_partitions; p++) {
		const struct cermet_plan_bo *bos = CERMET_PLAN_TABLE(&view, view.partitions[p].bos_offset, struct cermet_plan_bo);
		uint64_t size = 0;

		for (uint32_t i = 0; i < view.partitions[p].num_bos; i++)
			size += bos[i].size_bytes;
		if (size > 1 << 24 || !cermet_program_load(&program, device, &view, p, 1000000, &error))
			continue; /* valid, but it would take too long here */
		if (program.num_inputs <= 8 && program.num_outputs <= 8) {
			for (uint32_t i = 0; i < program.num_inputs; i++)
				inputs[i] = calloc(1, cermet_io_num_bytes(&program.inputs[i]));
			for (uint32_t i = 0; i < program.num_outputs; i++)
				outputs[i] = calloc(1, cermet_io_num_bytes(&program.outputs[i]));
			num_runs += cermet_program_run(&program, inputs, outputs, &error);
			for (uint32_t i = 0; i < program.num_inputs; i++)
				free((void *)(uintptr_t)inputs[i]);
			for (uint32_t i = 0; i < program.num_outputs; i++)
				free(outputs[i]);
		}
		cermet_program_unload(&program);
	}
}

static const uint32_t nasty[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8,
                                 0x7ffff000, 0x10000, 152, 131072};

static void
damage(struct cermet_bytes *plan)
{
	for (uint32_t k = 1 + random_below(3); k > 0; k--) {
		uint32_t offset = random_below((uint32_t)plan->size);
		uint32_t value = nasty[random_below(CERMET_COUNT(nasty))];

		switch (random_below(4)) {
		case 0:
			plan->data[offset] ^= (uint8_t)(1u << random_below(8));
			break;
		case 1:
			plan->data[offset] = (uint8_t)random_below(256);
			break;
		default: /* a whole member */
			memcpy(plan->data + offset / 4 * 4, &value, 4);
		}
	}
}

/* Inputs in blocks, of shapes that mostly do not fit their buffer. */
static void
test_plans_with_blocks_never_crash(void)
{
	struct cermet_device device;
	struct cermet_error error;

	num_runs = num_refusals = 0;
	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	for (int round = 0; round < FUZZ_ROUNDS; round++) {
		struct cermet_bytes plan = build_plan(&small_plan);
		struct cermet_plan_io *io = (void *)table_of(&plan, INPUT_PORT);

		io->batch = 1 + random_below(2);
		io->height = 1 + random_below(20);
		io->width = 1 + random_below(20);
		io->channels = 1 + random_below(round % 8 == 0 ? UINT32_MAX : 8);
		io->fold_y = (uint8_t)random_below(round % 4 == 0 ? 51 : 9);
		io->fold_x = (uint8_t)random_below(round % 4 == 0 ? 51 : 9);
		io->surface_stride_bytes = random_below(20) * 16;
		io->line_stride_bytes = random_below(10) * 16;
		fix_checksum(&plan);
		use_plan(&plan, &device);
		free(plan.data);
	}
	cermet_device_close(&device);
	CHECK(num_runs > FUZZ_ROUNDS / 20 && num_refusals > FUZZ_ROUNDS / 20);
}

/* Checksum and length made right again, so that the checks behind them are reached. */
static void
test_damaged_plans_never_crash(void)
{
	struct cermet_device device;
	struct cermet_error error;

	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	for (int round = 0; round < FUZZ_ROUNDS; round++) {
		struct cermet_bytes plan = build_plan(&small_plan);

		if (round % 8 == 0)
			plan.size = random_below((uint32_t)plan.size) / 4 * 4;
		if (plan.size > 0 && round % 64 == 1)
			for (size_t i = 0; i < plan.size; i++)
				plan.data[i] = (uint8_t)random_below(256);
		if (plan.size > 0)
			damage(&plan);
		if (plan.size >= sizeof(struct cermet_plan_header) && round % 3 != 0) {
			struct cermet_plan_header *header = (void *)plan.data;

			header->magic = CERMET_PLAN_MAGIC;
			header->version = CERMET_PLAN_VERSION;
			header->file_bytes = plan.size;
		}
		fix_checksum(&plan);
		plan.data = realloc(plan.data, plan.size ? plan.size : 1); /* so that the sanitizer knows the end */
		use_plan(&plan, &device);
		free(plan.data);
	}
	cermet_device_close(&device);
	CHECK(fake_num_bos() == 0);
	CHECK(num_runs > FUZZ_ROUNDS / 100 && num_refusals > FUZZ_ROUNDS / 10); /* both happen, or this tests nothing */
	printf("damaged plans: %d ran, %d refused\n", num_runs, num_refusals);
}

int
main(void)
{
	test_damaged_plans_never_crash();
	test_plans_with_blocks_never_crash();
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}
