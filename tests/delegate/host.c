/* SPDX-License-Identifier: MIT */
/*
 * A TFLite runtime in miniature: opens the delegate as an application does, shows it a small graph through TFLite's
 * structs, and checks what the delegate does. No TFLite library, no TFLite header.
 *
 *   host DELEGATE.so blob FILE      write the graph's blob: must be the same on every machine
 *   host DELEGATE.so                all tests; the delegate must have been linked with the fake device
 *   host DELEGATE.so sim            apply and invoke on device=sim with the real compiler
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cermet_build.h"
#include "check.h"
#include "plan_builder.h"
#include "tflite_abi.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INPUT, WEIGHTS, BIAS, MIDDLE, WEIGHTS_2, BIAS_2, OUTPUT, SHAPE, FLAT, NUM_TENSORS };
enum { CONV_1, CONV_2, RESHAPE, NUM_NODES };
enum { HEIGHT = 4, WIDTH = 5, CHANNELS = 20 };

#define MAX_KERNELS 4

struct int_array_4 {
	int size;
	int data[4];
};

/* An interpreter with one graph: CONV_2D, CONV_2D, RESHAPE. */
struct host {
	struct TfLiteContext context;
	struct TfLiteTensor tensors[NUM_TENSORS];
	struct TfLiteNode nodes[NUM_NODES];
	struct TfLiteRegistration registrations[NUM_NODES];
	struct TfLiteDelegateParams params[MAX_KERNELS];
	int num_params;
	bool splits; /* forms one partition per node */
	struct TfLiteRegistration kernel;
	struct TfLiteNode kernel_nodes[MAX_KERNELS];
	int num_kernels;
	struct TfLiteDelegate *delegate;
	char errors[2048];
	int8_t input[HEIGHT * WIDTH * CHANNELS], middle[HEIGHT * WIDTH * CHANNELS], output[HEIGHT * WIDTH * CHANNELS];
	int8_t flat[HEIGHT * WIDTH * CHANNELS];
};

typedef struct TfLiteDelegate *create_function(const char *const *, const char *const *, size_t, void (*)(const char *));
typedef void destroy_function(struct TfLiteDelegate *);

static create_function *create_delegate;
static destroy_function *destroy_delegate;
static char create_error[1024];
static char folder[FOLDER_BYTES], cache_dir[FILE_BYTES], blob_path[FILE_BYTES];

static struct TfLiteIntArray *
ints(int size, ...)
{
	struct TfLiteIntArray *array = calloc(1, sizeof(*array) + (size_t)size * sizeof(int));
	va_list values;

	array->size = size;
	va_start(values, size);
	for (int i = 0; i < size; i++)
		array->data[i] = va_arg(values, int);
	va_end(values);
	return array;
}

/* What the runtime does for the delegate. */

static int
get_execution_plan(struct TfLiteContext *context, struct TfLiteIntArray **plan)
{
	static struct int_array_4 nodes;

	(void)context;
	nodes = (struct int_array_4){NUM_NODES, {CONV_1, CONV_2, RESHAPE}};
	*plan = (struct TfLiteIntArray *)(void *)&nodes;
	return 0;
}

static int
get_node(struct TfLiteContext *context, int index, struct TfLiteNode **node, struct TfLiteRegistration **registration)
{
	struct host *host = context->impl_;

	*node = &host->nodes[index];
	*registration = &host->registrations[index];
	return 0;
}

static void
report_error(struct TfLiteContext *context, const char *format, ...)
{
	struct host *host = context->impl_;
	size_t length = strlen(host->errors);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(host->errors + length, sizeof(host->errors) - length, format, arguments);
	va_end(arguments);
}

static void
free_params(struct host *host)
{
	for (int i = 0; i < host->num_params; i++) {
		free(host->params[i].nodes_to_replace);
		free(host->params[i].input_tensors);
		free(host->params[i].output_tensors);
	}
	host->num_params = 0;
}

/* One partition, or one per node. The graph is a chain, so a partition's ends are its first and last node's. */
static void
partition(struct host *host, const struct TfLiteIntArray *nodes)
{
	free_params(host);
	for (int first = 0; first < nodes->size; first += host->splits ? 1 : nodes->size) {
		int count = host->splits ? 1 : nodes->size;
		struct TfLiteDelegateParams *to = &host->params[host->num_params++];

		to->nodes_to_replace = calloc(1, sizeof(int) * (size_t)(count + 1));
		to->nodes_to_replace->size = count;
		memcpy(to->nodes_to_replace->data, nodes->data + first, sizeof(int) * (size_t)count);
		to->input_tensors = ints(3, host->nodes[nodes->data[first]].inputs->data[0], WEIGHTS, BIAS);
		to->output_tensors = ints(1, host->nodes[nodes->data[first + count - 1]].outputs->data[0]);
	}
}

static int
preview(struct TfLiteContext *context, const struct TfLiteIntArray *nodes, struct TfLiteDelegateParams **params,
        int *num_params)
{
	struct host *host = context->impl_;

	partition(host, nodes);
	*params = host->params;
	*num_params = host->num_params;
	return 0;
}

static int
replace(struct TfLiteContext *context, struct TfLiteRegistration registration, const struct TfLiteIntArray *nodes,
        struct TfLiteDelegate *delegate)
{
	struct host *host = context->impl_;

	partition(host, nodes);
	host->kernel = registration;
	for (int i = 0; i < host->num_params; i++) {
		host->params[i].delegate = delegate;
		host->kernel_nodes[i] = (struct TfLiteNode){.builtin_data = &host->params[i], .delegate = delegate};
		host->kernel_nodes[i].user_data = registration.init(context, (const char *)&host->params[i], 0);
		host->num_kernels++;
	}
	return 0;
}

/* The graph. */

static void
set_tensor(struct TfLiteTensor *tensor, const char *name, int type, struct TfLiteIntArray *dims, size_t bytes,
           int num_scales, int axis)
{
	struct TfLiteAffineQuantization *affine = calloc(1, sizeof(*affine));

	*tensor = (struct TfLiteTensor){.type = type, .dims = dims, .bytes = bytes, .name = name, .allocation_type = 2};
	affine->scale = calloc(1, sizeof(int) * (size_t)(num_scales + 1));
	affine->zero_point = calloc(1, sizeof(int) * (size_t)(num_scales + 1));
	affine->scale->size = affine->zero_point->size = num_scales;
	for (int i = 0; i < num_scales; i++)
		affine->scale->data[i] = 0.5f + (float)i;
	affine->quantized_dimension = axis;
	tensor->quantization.type = num_scales > 0 ? TFLITE_AFFINE_QUANTIZATION : 0;
	tensor->quantization.params = affine;
}

static void
set_constant(struct TfLiteTensor *tensor)
{
	/* One byte off any alignment, as in a mapped model. */
	uint8_t *data = calloc(1, tensor->bytes + 1);

	for (size_t i = 0; i < tensor->bytes; i++)
		data[i + 1] = (uint8_t)(i * 5 + 1);
	tensor->data = data + 1;
	tensor->allocation_type = TFLITE_ALLOCATION_CONSTANT;
}

static void
set_node(struct host *host, int node, int code, int input, int weights, int bias, int output)
{
	static struct TfLiteConvParams conv = {1, 1, 1, 0, 1, 1};

	host->nodes[node].inputs = bias < 0 ? ints(2, input, weights) : ints(3, input, weights, bias);
	host->nodes[node].outputs = ints(1, output);
	host->nodes[node].builtin_data = code == TFLITE_CONV_2D ? &conv : NULL;
	host->registrations[node].builtin_code = code;
	host->registrations[node].version = 1;
}

static struct host *
new_host(void)
{
	const int count = HEIGHT * WIDTH * CHANNELS;
	struct host *host = calloc(1, sizeof(*host));
	struct TfLiteTensor *tensors = host->tensors;

	host->context = (struct TfLiteContext){
		.tensors_size = NUM_TENSORS, .tensors = tensors, .impl_ = host, .GetExecutionPlan = get_execution_plan,
		.GetNodeAndRegistration = get_node, .ReportError = report_error, .PreviewDelegatePartitioning = preview,
		.ReplaceNodeSubsetsWithDelegateKernels = replace,
	};
	set_tensor(&tensors[INPUT], "input", TFLITE_INT8, ints(4, 1, HEIGHT, WIDTH, CHANNELS), count, 1, 0);
	set_tensor(&tensors[MIDDLE], "middle", TFLITE_INT8, ints(4, 1, HEIGHT, WIDTH, CHANNELS), count, 1, 0);
	set_tensor(&tensors[OUTPUT], "output", TFLITE_INT8, ints(4, 1, HEIGHT, WIDTH, CHANNELS), count, 1, 0);
	set_tensor(&tensors[FLAT], "flat", TFLITE_INT8, ints(2, 1, count), count, 1, 0);
	for (int i = WEIGHTS; i <= WEIGHTS_2; i += WEIGHTS_2 - WEIGHTS) {
		set_tensor(&tensors[i], "weights", TFLITE_INT8, ints(4, CHANNELS, 1, 1, CHANNELS), CHANNELS * CHANNELS, CHANNELS, 0);
		set_tensor(&tensors[i + 1], "bias", 2, ints(1, CHANNELS), CHANNELS * 4, CHANNELS, 0);
		set_constant(&tensors[i]);
		set_constant(&tensors[i + 1]);
	}
	set_tensor(&tensors[SHAPE], "shape", 2, ints(1, 2), 8, 0, 0);
	set_constant(&tensors[SHAPE]);
	set_node(host, CONV_1, TFLITE_CONV_2D, INPUT, WEIGHTS, BIAS, MIDDLE);
	set_node(host, CONV_2, TFLITE_CONV_2D, MIDDLE, WEIGHTS_2, BIAS_2, OUTPUT);
	set_node(host, RESHAPE, 22, OUTPUT, SHAPE, -1, FLAT);
	tensors[INPUT].data = host->input;
	tensors[MIDDLE].data = host->middle;
	tensors[OUTPUT].data = host->output;
	tensors[FLAT].data = host->flat;
	for (int i = 0; i < count; i++)
		host->input[i] = (int8_t)(i * 3);
	return host;
}

static void
free_host(struct host *host)
{
	for (int i = 0; i < host->num_kernels; i++)
		host->kernel.free(&host->context, host->kernel_nodes[i].user_data);
	free_params(host);
	for (int i = 0; i < NUM_TENSORS; i++) {
		struct TfLiteAffineQuantization *affine = host->tensors[i].quantization.params;

		free(host->tensors[i].dims);
		free(affine->scale);
		free(affine->zero_point);
		free(affine);
		if (host->tensors[i].allocation_type == TFLITE_ALLOCATION_CONSTANT)
			free((uint8_t *)host->tensors[i].data - 1);
	}
	for (int i = 0; i < NUM_NODES; i++) {
		free(host->nodes[i].inputs);
		free(host->nodes[i].outputs);
	}
	free(host);
}

/* As an application calls. */

static void
note_create_error(const char *text)
{
	snprintf(create_error, sizeof(create_error), "%s", text);
}

/* One option, or none; on the fake device and with the test's cache, unless the option says otherwise. */
static struct TfLiteDelegate *
create(const char *key, const char *value)
{
	const char *keys[] = {"device", "cache_dir", "cache", "log_level", key};
	const char *values[] = {"sim", cache_dir, "required", "error", value};

	create_error[0] = '\0';
	return create_delegate(keys, values, key ? 5 : 4, note_create_error);
}

static int
prepare_kernels(struct host *host)
{
	int status = 0;

	for (int i = 0; i < host->num_kernels && status == 0; i++)
		status = host->kernel.prepare(&host->context, &host->kernel_nodes[i]);
	return status;
}

static int
invoke_kernels(struct host *host)
{
	int status = 0;

	host->errors[0] = '\0';
	for (int i = 0; i < host->num_kernels && status == 0; i++)
		status = host->kernel.invoke(&host->context, &host->kernel_nodes[i]);
	return status;
}

static bool
result_is(const struct host *host, int difference)
{
	for (int i = 0; i < HEIGHT * WIDTH * CHANNELS; i++)
		if (host->output[i] != (int8_t)(host->input[i] + difference))
			return false;
	return true;
}

static bool
read_blob(struct cermet_bytes *blob)
{
	struct cermet_error error;

	return cermet_read_file(blob_path, blob, &error);
}

/* Put a plan for the graph into the cache: what `cermet compile` would do. */
static void
fill_cache(const struct cermet_bytes *blob, const char *groups, uint32_t num_on_cpu, uint32_t output)
{
	const struct cermet_compile_options options = {"tflite", "", "", "1", "on", "speed", "all", "kernel",
	                                               "proven", "1", groups};
	uint8_t key[CERMET_HASH_BYTES];
	char hex[CERMET_KEY_HEX_BYTES], path[FILE_BYTES + CERMET_KEY_HEX_BYTES + 8];
	struct cermet_bytes plan;
	struct cermet_error error;

	cermet_cache_key("rk3588", CERMET_BUILD_ID, &options, WHOLE(blob->data, blob->size), key);
	plan = build_plan(&(struct test_plan){key, CERMET_BUILD_ID, "rk3588", NUM_NODES, num_on_cpu, 0, output, HEIGHT,
	                                      WIDTH, CHANNELS, 9, 1});
	cermet_key_hex(key, hex);
	snprintf(path, sizeof(path), "%s/%s.plan", cache_dir, hex);
	CHECK(cermet_write_file(path, WHOLE(plan.data, plan.size), &error));
	free(plan.data);
}

/* Tests. */

static void
test_create_names_what_is_wrong(void)
{
	static const char *const cases[][3] = {
		{"devise", "sim", "cermet: option 'devise' is unknown, did you mean device? Known: device, soc, cache_dir, cache, "
		                  "compiler, log_level, allow, deny, min_partition_nodes, assume, prefer, registers, chains, first_rows, cores, "
		                  "profile, match, timeout_ms, fallback"},
		{"", "x", "option '' is unknown"},
		{"colour", "red", "option 'colour' is unknown"},
		{"device", "foo", "option device: 'foo' must be auto, sim or a path under /dev/"},
		{"device", "/dev/accel/accel77", "device /dev/accel/accel77: No such file or directory"},
		{"device", "/dev/zero", "device /dev/zero: is no accel node"},
		{"soc", "rk9999", "option soc: 'rk9999' must be one of rk3588"},
		{"cache", "maybe", "option cache: 'maybe' must be one of on, off, readonly, required"},
		{"log_level", "loud", "option log_level: 'loud' must be one of error, warning, info, debug"},
		{"match", "nearly", "option match: 'nearly' must be one of tflite, exact"},
		{"profile", "2", "option profile: '2' must be one of on, off, true, false, 1, 0, yes, no"},
		{"profile", "/nonexistent/trace.json", "option profile: /nonexistent/trace.json: No such file or directory"},
		{"fallback", "gpu", "option fallback: 'gpu' must be one of none, cpu"},
		{"registers", "few", "option registers: 'few' must be one of all, changed"},
		{"chains", "both", "option chains: 'both' must be one of kernel, program"},
		{"first_rows", "some", "option first_rows: 'some' must be one of proven, least"},
		{"cores", "9", "option cores: '9' must be a whole number, 1..8"},
		{"min_partition_nodes", "-1", "option min_partition_nodes: '-1' must be a whole number, 1.."},
		{"timeout_ms", "1e3", "option timeout_ms: '1e3' must be a whole number, 1..86400000"},
		{"timeout_ms", "99999999999999999999", "must be a whole number"},
		{"deny", "CONV_2D;rm", "option deny: 'CONV_2D;RM' must be operation names like CONV_2D or numbers like 12-15, "
		                       "joined by +"},
		{"deny", "5-4", "option deny: '5-4' must be operation names"},
		{"deny", "07", "option deny: '07' must be operation names"},
		{"deny", "-", "option deny: '-' must be operation names"},
		{"deny", "1-2-3", "option deny: '1-2-3' must be operation names"},
		{"deny", "12345678", "option deny: '12345678' must be operation names"},
		{"allow", "ADD+4X", "option allow: '4X' must be operation names"},
		{"assume", "maybe", "option assume: 'maybe' must be one of on, replayed, off"},
		{"prefer", "gpu", "option prefer: 'gpu' must be one of speed, npu"},
		{"allow", "caf\xe9", "option allow: 'CAF?' must be operation names"},
	};

	for (size_t i = 0; i < CERMET_COUNT(cases); i++) {
		CHECK(create(cases[i][0], cases[i][1]) == NULL);
		CHECK_TEXT(create_error, cases[i][2]);
	}
	destroy_delegate(NULL);
}

static void
test_create_takes_every_spelling(void)
{
	static const char *const cases[][2] = {
		{"profile", "True"}, {"profile", "1"}, {"profile", "yes"}, {"profile", "ON"}, {"profile", "False"},
		{"cache_dir", "None"}, {"allow", "conv_2d, ADD"}, {"allow", ""}, {"deny", "mean+MEAN"}, {"cores", "3"},
		{"timeout_ms", "007"}, {"match", "EXACT"},
	};

	for (size_t i = 0; i < CERMET_COUNT(cases); i++) {
		struct TfLiteDelegate *delegate = create(cases[i][0], cases[i][1]);

		CHECK(delegate != NULL && delegate->flags == 3);
		destroy_delegate(delegate);
	}
}

static void
test_environment_gives_way_to_options(void)
{
	struct TfLiteDelegate *delegate;

	setenv("CERMET_MATCH", "bogus", 1);
	CHECK(create(NULL, NULL) == NULL);
	CHECK_TEXT(create_error, "option match: 'bogus'");
	delegate = create("match", "exact");
	CHECK(delegate != NULL);
	destroy_delegate(delegate);
	unsetenv("CERMET_MATCH");
	setenv("CERMET_COMPILER_TIMEOUT", "soon", 1);
	CHECK(create(NULL, NULL) == NULL);
	CHECK_TEXT(create_error, "CERMET_COMPILER_TIMEOUT: 'soon' must be seconds");
	unsetenv("CERMET_COMPILER_TIMEOUT");
}

static void
test_without_report_error_and_options(void)
{
	/* As a C++ host calls, with no device that could be found by chance. */
	setenv("CERMET_DEVICE", "/dev/accel/accel77", 1);
	CHECK(create_delegate(NULL, NULL, 0, NULL) == NULL);
	setenv("CERMET_DEVICE", "sim", 1);
	destroy_delegate(create_delegate(NULL, NULL, 0, NULL));
	unsetenv("CERMET_DEVICE");
}

static void
test_missing_device_can_fall_back(void)
{
	const char *keys[] = {"device", "fallback"}, *values[] = {"/dev/accel/accel77", "cpu"};
	struct TfLiteDelegate *delegate = create_delegate(keys, values, 2, note_create_error);
	struct host *host = new_host();

	CHECK(delegate != NULL);
	CHECK(delegate->Prepare(&host->context, delegate) == 0 && host->num_kernels == 0);
	free_host(host);
	destroy_delegate(delegate);
}

/* Applies a delegate that has no plan: an error, and the blob is written. */
static void
write_blob(const char *path)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *host = new_host();

	setenv("CERMET_DUMP_BLOB", path, 1);
	CHECK(delegate->Prepare(&host->context, delegate) == 1);
	CHECK_TEXT(host->errors, "cermet: option cache=required: ");
	unsetenv("CERMET_DUMP_BLOB");
	free_host(host);
	destroy_delegate(delegate);
}

static struct host *
applied(struct TfLiteDelegate *delegate)
{
	struct host *host = new_host();

	host->delegate = delegate;
	CHECK(delegate->Prepare(&host->context, delegate) == 0);
	CHECK(prepare_kernels(host) == 0 && prepare_kernels(host) == 0);
	if (host->errors[0])
		printf("%s", host->errors);
	return host;
}

static void
test_invoke_gives_the_programs_result(void)
{
	struct TfLiteDelegate *delegate = create("profile", "on");
	struct host *host = applied(delegate);

	CHECK(host->num_kernels == 1 && host->params[0].nodes_to_replace->size == 2);
	CHECK(strcmp(host->kernel.custom_name, "Cermet") == 0 && host->kernel.async_kernel == NULL);
	for (int i = 0; i < 10; i++) {
		host->input[i] = (int8_t)-i;
		CHECK(invoke_kernels(host) == 0 && result_is(host, 9));
	}
	free_host(host);
	destroy_delegate(delegate);
}

static void
test_two_interpreters_on_one_delegate(void)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *one = applied(delegate), *other = applied(delegate);

	other->input[5] = 77;
	CHECK(invoke_kernels(one) == 0 && invoke_kernels(other) == 0 && result_is(one, 9) && result_is(other, 9));
	free_host(one);
	CHECK(invoke_kernels(other) == 0 && result_is(other, 9));
	free_host(other);
	destroy_delegate(delegate);
}

static void
test_failed_job_is_reported_and_the_next_works(void)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *host = applied(delegate);

	setenv("CERMET_FAKE", "drop", 1);
	CHECK(invoke_kernels(host) == 1);
	CHECK_TEXT(host->errors, "cermet: partition 0 on sim: job did not complete (timeout or dropped) after ");
	CHECK_TEXT(host->errors, "(the partition that computes 'output')");
	unsetenv("CERMET_FAKE");
	CHECK(invoke_kernels(host) == 0 && result_is(host, 9));
	host->tensors[INPUT].data = NULL;
	CHECK(invoke_kernels(host) == 1);
	CHECK_TEXT(host->errors, "tensor 'input' has 0 bytes of memory, must be 400");
	free_host(host);
	destroy_delegate(delegate);
}

static void
test_resized_input_needs_another_plan(void)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *host = applied(delegate);

	host->tensors[INPUT].dims->data[0] = 2;
	CHECK(prepare_kernels(host) == 1);
	CHECK_TEXT(host->errors, "cermet: option cache=required: ");
	CHECK_TEXT(host->errors, "(the partition that computes 'output')");
	host->tensors[INPUT].dims->data[0] = 1;
	CHECK(prepare_kernels(host) == 0 && invoke_kernels(host) == 0 && result_is(host, 9));
	free_host(host);
	destroy_delegate(delegate);
}

/* The runtime forms one partition per node; the plan for the groups that it asks for is not in the cache. */
static void
test_other_groups_are_asked_for(void)
{
	struct TfLiteDelegate *delegate = create("log_level", "debug");
	struct host *host = new_host();

	host->splits = true;
	CHECK(delegate->Prepare(&host->context, delegate) == 1);
	CHECK_TEXT(host->errors, "cermet: option cache=required: ");
	free_host(host);
	destroy_delegate(delegate);
}

static void
test_device_that_does_not_open(void)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *host = new_host();

	setenv("CERMET_FAKE", "no-open", 1);
	CHECK(delegate->Prepare(&host->context, delegate) == 1 && host->num_kernels == 0);
	CHECK_TEXT(host->errors, "cermet: device sim: the fake device is asked not to open");
	unsetenv("CERMET_FAKE");
	free_host(host);
	destroy_delegate(delegate);
}

/* No way to fail in init: the error comes in prepare, and invoke repeats it. */
static void
test_failed_init_is_reported_by_prepare(void)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *host = new_host();

	setenv("CERMET_FAKE", "no-bo", 1);
	CHECK(delegate->Prepare(&host->context, delegate) == 0 && host->num_kernels == 1);
	unsetenv("CERMET_FAKE");
	CHECK(prepare_kernels(host) == 1);
	CHECK_TEXT(host->errors, "cermet: device sim: no buffer of ");
	CHECK(invoke_kernels(host) == 1);
	free_host(host);
	destroy_delegate(delegate);
}

static void
test_graph_that_is_nonsense_is_refused(void)
{
	struct TfLiteDelegate *delegate = create(NULL, NULL);
	struct host *host = new_host();

	host->nodes[CONV_1].inputs->data[1] = 1000;
	CHECK(delegate->Prepare(&host->context, delegate) == 1);
	CHECK_TEXT(host->errors, "cermet: graph: tensor 1000 must be one of 9");
	free_host(host);
	destroy_delegate(delegate);
}

/* A plan whose tensors are not those of the graph. */
static void
test_plan_of_other_tensors_is_refused(const struct cermet_bytes *blob)
{
	static const uint32_t outputs[] = {99, 2, 1}; /* none such, a bias, weights */
	static const char *const texts[] = {"plan: tensor 99, the graph has 9", "has type 2 and 1 dimensions",
	                                    "is no output of the partition"};

	for (size_t i = 0; i < CERMET_COUNT(outputs); i++) {
		struct TfLiteDelegate *delegate = create(NULL, NULL);
		struct host *host = new_host();

		fill_cache(blob, "", 1, outputs[i]);
		CHECK(delegate->Prepare(&host->context, delegate) == 0);
		CHECK(prepare_kernels(host) == 1);
		CHECK_TEXT(host->errors, texts[i]);
		free_host(host);
		destroy_delegate(delegate);
	}
	fill_cache(blob, "", 1, 6);
}

static int
run_tests(void)
{
	struct cermet_bytes blob;
	char command[FILE_BYTES];

	test_create_names_what_is_wrong();
	test_create_takes_every_spelling();
	test_environment_gives_way_to_options();
	test_without_report_error_and_options();
	test_missing_device_can_fall_back();
	write_blob(blob_path);
	CHECK(read_blob(&blob));
	fill_cache(&blob, "", 1, 6);
	test_invoke_gives_the_programs_result();
	test_two_interpreters_on_one_delegate();
	test_failed_job_is_reported_and_the_next_works();
	test_resized_input_needs_another_plan();
	test_other_groups_are_asked_for();
	test_device_that_does_not_open();
	test_failed_init_is_reported_by_prepare();
	test_graph_that_is_nonsense_is_refused();
	test_plan_of_other_tensors_is_refused(&blob);
	cermet_file_free(&blob);
	snprintf(command, sizeof(command), "rm -r '%s'", folder);
	CHECK(system(command) == 0);
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}

/* The real thing: whatever the compiler makes of the graph, it runs twice with the same result. */
static int
run_on_simulator(void)
{
	const char *keys[] = {"device", "cache"}, *values[] = {"sim", "off"};
	struct TfLiteDelegate *delegate = create_delegate(keys, values, 2, note_create_error);
	struct host *host = delegate ? applied(delegate) : NULL;
	int8_t first[HEIGHT * WIDTH * CHANNELS];

	CHECK(host && host->num_kernels == 1);
	if (num_failures)
		return 1;
	memset(host->flat, 1, sizeof(host->flat));
	CHECK(invoke_kernels(host) == 0);
	memcpy(first, host->flat, sizeof(first));
	memset(host->flat, 2, sizeof(host->flat));
	CHECK(invoke_kernels(host) == 0 && memcmp(first, host->flat, sizeof(first)) == 0);
	printf("%s%d failures\n", host->errors, num_failures);
	free_host(host);
	destroy_delegate(delegate);
	return num_failures != 0;
}

int
main(int argc, char **argv)
{
	void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	struct cermet_error error;

	if (!library) {
		printf("host DELEGATE.so [blob FILE | sim]: %s\n", argc > 1 ? dlerror() : "no delegate given");
		return 2;
	}
	*(void **)&create_delegate = dlsym(library, "tflite_plugin_create_delegate");
	*(void **)&destroy_delegate = dlsym(library, "tflite_plugin_destroy_delegate");
	if (!create_delegate || !destroy_delegate)
		return 2;
	if (!cermet_make_folder(folder, sizeof(folder), &error)) {
		printf("%s\n", error.text);
		return 2;
	}
	snprintf(cache_dir, sizeof(cache_dir), "%s/cache", folder);
	snprintf(blob_path, sizeof(blob_path), "%s/blob", folder);
	mkdir(cache_dir, 0700);
	if (argc > 3 && strcmp(argv[2], "blob") == 0) {
		write_blob(argv[3]);
		return num_failures != 0;
	}
	return argc > 2 && strcmp(argv[2], "sim") == 0 ? run_on_simulator() : run_tests();
}
