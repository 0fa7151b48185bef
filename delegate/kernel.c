/* SPDX-License-Identifier: MIT */
#include "kernel.h"

#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RANK 8

/* A tensor at the partition's border, as it was when the model was compiled. */
struct border_tensor {
	int index; /* the runtime's */
	uint32_t rank;
	int32_t dims[MAX_RANK];
	size_t num_bytes;
};

struct kernel {
	struct cermet_session *session;
	struct cermet_program program;
	struct border_tensor *inputs, *outputs;
	const void **input_data; /* filled anew in each invoke */
	void **output_data;
	struct cermet_error error; /* why init failed; empty when it did not */
};

static bool
contains(const struct TfLiteIntArray *array, int value)
{
	for (int i = 0; array && i < array->size; i++)
		if (array->data[i] == value)
			return true;
	return false;
}

/* Compare a plan's tensor with the captured graph, then note it. */
static bool
fill_border_tensor(const struct cermet_session *session, const struct cermet_plan_io *io, struct border_tensor *to,
                   struct cermet_error *error)
{
	const struct cermet_capture *capture = &session->capture;
	const struct cermet_blob_tensor *tensor;
	const int32_t *dims;
	uint64_t num_elements = 1;

	if (io->tensor >= capture->num_tensors)
		return cermet_fail(error, "plan: tensor %u, the graph has %u", io->tensor, capture->num_tensors);
	tensor = cermet_capture_tensor(capture, io->tensor);
	dims = cermet_capture_dims(capture, io->tensor, &to->rank);
	if ((tensor->type != TFLITE_UINT8 && tensor->type != TFLITE_INT8) || to->rank > MAX_RANK)
		return cermet_fail(error, "plan: tensor %u: has type %d and %u dimensions, must be 8-bit with at most %d",
		                   io->tensor, tensor->type, to->rank, MAX_RANK);
	for (uint32_t i = 0; i < to->rank; i++) {
		to->dims[i] = dims[i];
		num_elements *= dims[i] > 0 && num_elements <= INT32_MAX ? (uint32_t)dims[i] : 0;
	}
	to->index = capture->tensors[io->tensor];
	to->num_bytes = cermet_io_num_bytes(io);
	if (num_elements != to->num_bytes)
		return cermet_fail(error, "plan: tensor %u: %zu elements, the graph's has %llu", io->tensor, to->num_bytes,
		                   (unsigned long long)num_elements);
	return true;
}

/* The runtime must have memory for what we read and write, and must get all that it expects. */
static bool
check_borders(const struct kernel *kernel, const struct TfLiteDelegateParams *params, struct cermet_error *error)
{
	for (uint32_t i = 0; i < kernel->program.num_inputs; i++)
		if (!contains(params->input_tensors, kernel->inputs[i].index))
			return cermet_fail(error, "plan: tensor %d is no input of the partition", kernel->inputs[i].index);
	for (uint32_t i = 0; i < kernel->program.num_outputs; i++)
		if (!contains(params->output_tensors, kernel->outputs[i].index))
			return cermet_fail(error, "plan: tensor %d is no output of the partition", kernel->outputs[i].index);
	for (int k = 0; params->output_tensors && k < params->output_tensors->size; k++) {
		uint32_t i = 0;

		while (i < kernel->program.num_outputs && kernel->outputs[i].index != params->output_tensors->data[k])
			i++;
		if (i == kernel->program.num_outputs)
			return cermet_fail(error, "plan: tensor %d, an output of the partition, is not computed",
			                   params->output_tensors->data[k]);
	}
	return true;
}

static bool
fill_borders(struct kernel *kernel, const struct TfLiteDelegateParams *params, struct cermet_error *error)
{
	const struct cermet_program *program = &kernel->program;

	kernel->inputs = calloc(program->num_inputs + 1, sizeof(*kernel->inputs));
	kernel->outputs = calloc(program->num_outputs + 1, sizeof(*kernel->outputs));
	kernel->input_data = calloc(program->num_inputs + 1, sizeof(*kernel->input_data));
	kernel->output_data = calloc(program->num_outputs + 1, sizeof(*kernel->output_data));
	if (!kernel->inputs || !kernel->outputs || !kernel->input_data || !kernel->output_data)
		return cermet_fail(error, "partition %u: out of memory", program->number);
	for (uint32_t i = 0; i < program->num_inputs; i++)
		if (!fill_border_tensor(kernel->session, &program->inputs[i], &kernel->inputs[i], error))
			return false;
	for (uint32_t i = 0; i < program->num_outputs; i++)
		if (!fill_border_tensor(kernel->session, &program->outputs[i], &kernel->outputs[i], error))
			return false;
	return check_borders(kernel, params, error);
}

static bool
load(struct kernel *kernel, const struct TfLiteDelegateParams *params, struct cermet_error *error)
{
	struct cermet_session *session = kernel->session;
	int partition = cermet_session_find_partition(session, params->nodes_to_replace);

	if (partition < 0)
		return cermet_fail(error, "the runtime made a partition of %d nodes that the plan does not have",
		                   params->nodes_to_replace->size);
	return cermet_program_load(&kernel->program, &session->device, &session->plan.view, (uint32_t)partition,
	                           session->timeout_ns, error) &&
	       fill_borders(kernel, params, error);
}

/* There is no portable way to fail here: the error is kept for prepare. */
static void *
kernel_init(struct TfLiteContext *context, const char *buffer, size_t length)
{
	const struct TfLiteDelegateParams *params = (const void *)buffer;
	struct cermet_applying *applying = params->delegate->data_;
	struct kernel *kernel = calloc(1, sizeof(*kernel));

	(void)context;
	(void)length;
	if (!kernel)
		return NULL; /* prepare takes NULL for "out of memory" */
	if (!applying->session) {
		cermet_fail(&kernel->error, "a kernel was initialised while the delegate was not being applied");
		return kernel;
	}
	kernel->session = applying->session;
	cermet_session_take(kernel->session);
	if (!load(kernel, params, &kernel->error) && kernel->error.text[0] == '\0')
		cermet_fail(&kernel->error, "partition cannot be loaded");
	return kernel;
}

static void
report_profile(const struct kernel *kernel)
{
	const struct cermet_times *times = &kernel->program.times;
	const double runs = (double)times->num_runs * 1e6;

	if (!kernel->session->profile || times->num_runs == 0)
		return;
	cermet_log(CERMET_LOG_ERROR, CERMET_LOG_ERROR, "partition %u: %llu runs, mean %.3f ms: inputs %.3f, NPU %.3f, "
	           "outputs %.3f", kernel->program.number, (unsigned long long)times->num_runs,
	           (double)(times->inputs_ns + times->device_ns + times->outputs_ns) / runs,
	           (double)times->inputs_ns / runs, (double)times->device_ns / runs, (double)times->outputs_ns / runs);
}

static void
kernel_free(struct TfLiteContext *context, void *user_data)
{
	struct kernel *kernel = user_data;

	(void)context;
	if (!kernel)
		return;
	if (kernel->session) {
		report_profile(kernel);
		cermet_program_unload(&kernel->program);
		cermet_session_drop(kernel->session);
	}
	free(kernel->inputs);
	free(kernel->outputs);
	free(kernel->input_data);
	free(kernel->output_data);
	free(kernel);
}

/* "1x224x224x3" */
static void
print_shape(char *text, size_t size, const int32_t *dims, uint32_t rank)
{
	int length = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < rank && length >= 0 && (size_t)length < size; i++)
		length += snprintf(text + length, size - (size_t)length, "%s%d", i ? "x" : "", dims[i]);
}

/* The partition was compiled for the shapes that the model file has. */
static bool
shape_is_unchanged(const struct TfLiteContext *context, const struct border_tensor *border, struct cermet_error *error)
{
	const struct TfLiteTensor *tensor = &context->tensors[border->index];
	const uint32_t rank = tensor->dims && tensor->dims->size > 0 ? (uint32_t)tensor->dims->size : 0;
	char was[80], is[80];

	if (rank == border->rank && (rank == 0 || memcmp(tensor->dims->data, border->dims, rank * sizeof(int32_t)) == 0))
		return true;
	print_shape(was, sizeof(was), border->dims, border->rank);
	print_shape(is, sizeof(is), rank ? tensor->dims->data : NULL, rank);
	return cermet_fail(error, "tensor '%.80s' has shape %s, the model was compiled for %s: resize_tensor_input on a "
	                   "delegated input is not supported yet", tensor->name ? tensor->name : "", is, was);
}

static bool
prepare(const struct TfLiteContext *context, const struct kernel *kernel, struct cermet_error *error)
{
	if (kernel->error.text[0]) {
		*error = kernel->error;
		return false;
	}
	for (uint32_t i = 0; i < kernel->program.num_inputs; i++)
		if (!shape_is_unchanged(context, &kernel->inputs[i], error))
			return false;
	for (uint32_t i = 0; i < kernel->program.num_outputs; i++)
		if (!shape_is_unchanged(context, &kernel->outputs[i], error))
			return false;
	return true;
}

static bool
collect_data(const struct TfLiteContext *context, const struct border_tensor *borders, uint32_t num_borders,
             const void **data, struct cermet_error *error)
{
	for (uint32_t i = 0; i < num_borders; i++) {
		const struct TfLiteTensor *tensor = &context->tensors[borders[i].index];

		if (!tensor->data || tensor->bytes != borders[i].num_bytes)
			return cermet_fail(error, "tensor '%.80s' has %zu bytes of memory, must be %zu",
			                   tensor->name ? tensor->name : "", tensor->data ? tensor->bytes : 0,
			                   borders[i].num_bytes);
		data[i] = tensor->data;
	}
	return true;
}

/* Addresses change from one invoke to the next, so they are read anew. */
static bool
invoke(const struct TfLiteContext *context, struct kernel *kernel, struct cermet_error *error)
{
	struct cermet_program *program = &kernel->program;

	return collect_data(context, kernel->inputs, program->num_inputs, kernel->input_data, error) &&
	       collect_data(context, kernel->outputs, program->num_outputs, (const void **)kernel->output_data, error) &&
	       cermet_program_run(program, kernel->input_data, kernel->output_data, error);
}

static int
report(struct TfLiteContext *context, const struct cermet_error *error)
{
	context->ReportError(context, "cermet: %s\n", error->text);
	return TFLITE_ERROR;
}

/* A partition's number means little to an application: what it computes does. */
static int
report_run(struct TfLiteContext *context, const struct kernel *kernel, const struct cermet_error *error)
{
	const char *name = context->tensors[kernel->outputs[0].index].name;

	context->ReportError(context, "cermet: %s (the partition that computes '%.80s')\n", error->text, name ? name : "");
	return TFLITE_ERROR;
}

static int
kernel_prepare(struct TfLiteContext *context, struct TfLiteNode *node)
{
	const struct kernel *kernel = node->user_data;
	struct cermet_error error;

	if (kernel && prepare(context, kernel, &error))
		return TFLITE_OK;
	if (!kernel)
		cermet_fail(&error, "out of memory");
	return report(context, &error);
}

static int
kernel_invoke(struct TfLiteContext *context, struct TfLiteNode *node)
{
	struct kernel *kernel = node->user_data;
	struct cermet_error error;
	bool is_done;

	if (!kernel || kernel->error.text[0]) {
		cermet_fail(&error, "%s", kernel ? kernel->error.text : "out of memory");
		return report(context, &error);
	}
	pthread_mutex_lock(&kernel->session->lock);
	is_done = invoke(context, kernel, &error);
	pthread_mutex_unlock(&kernel->session->lock);
	return is_done ? TFLITE_OK : report_run(context, kernel, &error);
}

struct TfLiteRegistration
cermet_kernel_registration(void)
{
	struct TfLiteRegistration registration;

	memset(&registration, 0, sizeof(registration)); /* padding too: it is passed by value */
	registration.init = kernel_init;
	registration.free = kernel_free;
	registration.prepare = kernel_prepare;
	registration.invoke = kernel_invoke;
	registration.custom_name = "Cermet";
	registration.version = 1;
	return registration;
}
