/* SPDX-License-Identifier: MIT */
#include "borders.h"

#include <stdlib.h>
#include <string.h>

/* Compare a plan's tensor with the captured graph, then note it. */
static bool
fill_tensor(const struct cermet_capture *capture, const struct cermet_plan_io *io, struct cermet_border_tensor *to,
            struct cermet_error *error)
{
	const struct cermet_blob_tensor *tensor;
	const int32_t *dims;
	uint64_t num_elements = 1;

	if (io->tensor >= capture->num_tensors)
		return cermet_fail(error, "plan: tensor %u, the graph has %u", io->tensor, capture->num_tensors);
	tensor = cermet_capture_tensor(capture, io->tensor);
	dims = cermet_capture_dims(capture, io->tensor, &to->rank);
	if ((tensor->type != TFLITE_UINT8 && tensor->type != TFLITE_INT8) || to->rank > CERMET_MAX_RANK)
		return cermet_fail(error, "plan: tensor %u: has type %d and %u dimensions, must be 8-bit with at most %d",
		                   io->tensor, tensor->type, to->rank, CERMET_MAX_RANK);
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

static bool
is_computed(const struct cermet_borders *borders, int tensor)
{
	for (uint32_t i = 0; i < borders->num_outputs; i++)
		if (borders->outputs[i].index == tensor)
			return true;
	return false;
}

/* The runtime must have memory for what we read and write, and must get all that it expects. */
static bool
check(const struct cermet_borders *borders, const struct cermet_graph *part, struct cermet_error *error)
{
	for (uint32_t i = 0; i < borders->num_inputs; i++)
		if (!cermet_graph_reads(part, borders->inputs[i].index))
			return cermet_fail(error, "plan: tensor %d is no input of the partition", borders->inputs[i].index);
	for (uint32_t i = 0; i < borders->num_outputs; i++)
		if (!cermet_graph_hands_out(part, borders->outputs[i].index))
			return cermet_fail(error, "plan: tensor %d is no output of the partition", borders->outputs[i].index);
	for (uint32_t i = 0; i < part->num_outputs; i++)
		if (!is_computed(borders, part->outputs[i]))
			return cermet_fail(error, "plan: tensor %d, an output of the partition, is not computed",
			                   part->outputs[i]);
	return true;
}

bool
cermet_borders_fill(struct cermet_borders *borders, const struct cermet_program *program,
                    const struct cermet_capture *capture, const struct cermet_graph *part, struct cermet_error *error)
{
	*borders = (struct cermet_borders){
		.inputs = calloc(program->num_inputs + 1, sizeof(*borders->inputs)),
		.outputs = calloc(program->num_outputs + 1, sizeof(*borders->outputs)),
		.input_data = calloc(program->num_inputs + 1, sizeof(*borders->input_data)),
		.output_data = calloc(program->num_outputs + 1, sizeof(*borders->output_data)),
	};
	if (!borders->inputs || !borders->outputs || !borders->input_data || !borders->output_data)
		return cermet_fail(error, "partition %u: out of memory", program->number);
	for (; borders->num_inputs < program->num_inputs; borders->num_inputs++)
		if (!fill_tensor(capture, &program->inputs[borders->num_inputs], &borders->inputs[borders->num_inputs], error))
			return false;
	for (; borders->num_outputs < program->num_outputs; borders->num_outputs++)
		if (!fill_tensor(capture, &program->outputs[borders->num_outputs], &borders->outputs[borders->num_outputs],
		                 error))
			return false;
	return check(borders, part, error);
}

void
cermet_borders_free(struct cermet_borders *borders)
{
	free(borders->inputs);
	free(borders->outputs);
	free(borders->input_data);
	free(borders->output_data);
	*borders = (struct cermet_borders){0};
}

static bool
is_unchanged(const struct TfLiteContext *context, const struct cermet_border_tensor *border)
{
	const struct TfLiteIntArray *dims = context->tensors[border->index].dims;
	const uint32_t rank = dims && dims->size > 0 ? (uint32_t)dims->size : 0;

	return rank == border->rank && (rank == 0 || memcmp(dims->data, border->dims, rank * sizeof(int32_t)) == 0);
}

bool
cermet_borders_are_unchanged(const struct cermet_borders *borders, const struct TfLiteContext *context)
{
	for (uint32_t i = 0; i < borders->num_inputs; i++)
		if (!is_unchanged(context, &borders->inputs[i]))
			return false;
	for (uint32_t i = 0; i < borders->num_outputs; i++)
		if (!is_unchanged(context, &borders->outputs[i]))
			return false;
	return true;
}

static void *
data_of(const struct TfLiteContext *context, const struct cermet_border_tensor *border, struct cermet_error *error)
{
	const struct TfLiteTensor *tensor = &context->tensors[border->index];

	if (tensor->data && tensor->bytes == border->num_bytes)
		return tensor->data;
	cermet_fail(error, "tensor '%.80s' has %zu bytes of memory, must be %zu", tensor->name ? tensor->name : "",
	            tensor->data ? tensor->bytes : 0, border->num_bytes);
	return NULL;
}

bool
cermet_borders_collect_data(struct cermet_borders *borders, const struct TfLiteContext *context,
                            struct cermet_error *error)
{
	for (uint32_t i = 0; i < borders->num_inputs; i++)
		if (!(borders->input_data[i] = data_of(context, &borders->inputs[i], error)))
			return false;
	for (uint32_t i = 0; i < borders->num_outputs; i++)
		if (!(borders->output_data[i] = data_of(context, &borders->outputs[i], error)))
			return false;
	return true;
}
