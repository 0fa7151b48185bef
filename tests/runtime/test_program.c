/* SPDX-License-Identifier: MIT */
/* Loading and running a partition on the fake device, and what goes wrong with devices. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "fake_client.h"
#include "plan_builder.h"
#include "program.h"

#include <stdlib.h>
#include <unistd.h>

/* A loaded small plan, its tensors, and what must come out. */
struct rig {
	struct cermet_device device;
	struct cermet_program program;
	int8_t input[400], output[400], wanted[400];
	const void *inputs[1];
	void *outputs[1];
};

static struct rig *
new_rig(int64_t timeout_ns)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct rig *rig = calloc(1, sizeof(*rig));
	struct cermet_bytes plan = build_plan(&small_plan);
	struct cermet_plan_view view;
	struct cermet_error error;

	CHECK(cermet_plan_open(plan.data, plan.size, &anything, &view, &error));
	CHECK(cermet_device_open(&rig->device, "sim", "rk3588", &error));
	CHECK(cermet_program_load(&rig->program, &rig->device, &view, 0, timeout_ns, &error));
	free(plan.data);
	for (int i = 0; i < 400; i++) {
		rig->input[i] = (int8_t)random_below(256);
		rig->wanted[i] = (int8_t)(rig->input[i] + 3);
	}
	rig->inputs[0] = rig->input;
	rig->outputs[0] = rig->output;
	return rig;
}

static bool
run(struct rig *rig, struct cermet_error *error)
{
	memset(rig->output, 0, sizeof(rig->output));
	return cermet_program_run(&rig->program, rig->inputs, rig->outputs, error) &&
	       memcmp(rig->output, rig->wanted, sizeof(rig->output)) == 0;
}

static void
free_rig(struct rig *rig)
{
	cermet_program_unload(&rig->program);
	cermet_device_close(&rig->device);
	free(rig);
	CHECK(fake_num_bos() == 0);
}

static void
test_run_gives_the_programs_result_with_one_submit(void)
{
	struct rig *rig = new_rig(1000000000);
	struct cermet_error error;
	int before = fake_num_submits();

	for (int i = 0; i < 100; i++)
		CHECK(run(rig, &error));
	CHECK(fake_num_submits() - before == 100);
	CHECK(rig->program.times.num_runs == 100);
	free_rig(rig);
}

static void
test_dropped_job_is_an_error_and_the_next_run_works(void)
{
	struct rig *rig = new_rig(1000000000);
	struct cermet_error error;

	CHECK(run(rig, &error)); /* the right result lies in the output from now on */
	setenv(FAKE_VARIABLE, "drop", 1);
	CHECK(!run(rig, &error));
	CHECK_TEXT(error.text, "partition 0 on sim: job did not complete (timeout or dropped) after ");
	CHECK_TEXT(error.text, "ms: job 1 of 1");
	unsetenv(FAKE_VARIABLE);
	CHECK(run(rig, &error));
	free_rig(rig);
}

/* The second job reads what the first left there in the run before, and writes all outputs. */
static void
test_dropped_first_job_of_two_is_an_error_and_the_next_run_works(void)
{
	static const struct test_plan two = {.build_id = "test", .soc = "rk3588", .num_nodes = 2, .num_jobs = 2, .width = 4,
	                                     .height = 2, .channels = 16, .addend = 3};
	static const struct cermet_plan_expectation anything;
	struct cermet_bytes plan = build_plan(&two);
	uint8_t input[4 * 2 * 16] = {1}, output[sizeof(input)] = {0};
	const void *inputs[] = {input};
	void *outputs[] = {output};
	struct cermet_plan_view view;
	struct cermet_program program;
	struct cermet_device device;
	struct cermet_error error;

	CHECK(cermet_plan_open(plan.data, plan.size, &anything, &view, &error));
	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	CHECK(cermet_program_load(&program, &device, &view, 0, 1000000000, &error));
	CHECK(cermet_program_run(&program, inputs, outputs, &error) && output[0] == 7);
	setenv(FAKE_VARIABLE, "drop-first", 1);
	CHECK(!cermet_program_run(&program, inputs, outputs, &error));
	CHECK_TEXT(error.text, "partition 0 on sim: job did not complete (timeout or dropped) after ");
	CHECK_TEXT(error.text, "ms: job 1 of 2");
	unsetenv(FAKE_VARIABLE);
	input[0] = 2;
	CHECK(cermet_program_run(&program, inputs, outputs, &error) && output[0] == 8);
	cermet_program_unload(&program);
	cermet_device_close(&device);
	free(plan.data);
	CHECK(fake_num_bos() == 0);
}

static void
test_deadline_is_an_error_and_the_next_run_works(void)
{
	struct rig *rig = new_rig(50000000);
	struct cermet_error error;

	setenv(FAKE_VARIABLE, "timeout", 1);
	CHECK(!run(rig, &error));
	CHECK_TEXT(error.text, "partition 0 on sim: not done after 50 ms (option timeout_ms)");
	CHECK(rig->program.is_running);
	unsetenv(FAKE_VARIABLE);
	CHECK(run(rig, &error));
	CHECK(!rig->program.is_running);
	free_rig(rig);
}

static void
test_interrupted_calls_are_repeated(void)
{
	struct cermet_error error;
	struct rig *rig;

	setenv(FAKE_VARIABLE, "eintr", 1);
	rig = new_rig(1000000000);
	CHECK(run(rig, &error));
	free_rig(rig);
	unsetenv(FAKE_VARIABLE);
}

static void
test_failed_load_leaves_nothing_behind(void)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct cermet_bytes plan = build_plan(&small_plan);
	struct cermet_device device;
	struct cermet_program program;
	struct cermet_plan_view view;
	struct cermet_error error;

	setenv(FAKE_VARIABLE, "no-bo", 1);
	CHECK(cermet_plan_open(plan.data, plan.size, &anything, &view, &error));
	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	CHECK(!cermet_program_load(&program, &device, &view, 0, 1000000, &error));
	CHECK_TEXT(error.text, "device sim: no buffer of");
	CHECK(fake_num_bos() == 0);
	unsetenv(FAKE_VARIABLE);
	cermet_device_close(&device);
	free(plan.data);
}

static void
test_devices_that_are_none(void)
{
	static const char *const names[][2] = {
		{"/dev/accel/accel99", "device /dev/accel/accel99: No such file or directory"},
		{"/dev/null", "device /dev/null: is no accel node"},
	};
	struct cermet_device device;
	struct cermet_error error;

	for (size_t i = 0; i < CERMET_COUNT(names); i++) {
		CHECK(!cermet_device_open(&device, names[i][0], "rk3588", &error));
		CHECK_TEXT(error.text, names[i][1]);
	}
	if (access("/dev/accel", F_OK) != 0) {
		CHECK(!cermet_device_open(&device, "auto", "rk3588", &error));
		CHECK_TEXT(error.text, "no NPU found");
		CHECK_TEXT(error.text, "pass device=sim");
	}
}

int
main(void)
{
	test_run_gives_the_programs_result_with_one_submit();
	test_dropped_job_is_an_error_and_the_next_run_works();
	test_dropped_first_job_of_two_is_an_error_and_the_next_run_works();
	test_deadline_is_an_error_and_the_next_run_works();
	test_interrupted_calls_are_repeated();
	test_failed_load_leaves_nothing_behind();
	test_devices_that_are_none();
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}
