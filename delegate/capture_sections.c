/* SPDX-License-Identifier: MIT */
/* What the sections of a blob hold, in the order that cermet_blob.h prescribes. */
#include "capture_sections.h"

#include "params.h"

#include <string.h>

static void
append_int(struct cermet_blob_writer *writer, int32_t value)
{
	cermet_section_append(&writer->ints, &value, sizeof(value));
}

static uint32_t
num_ints(const struct cermet_blob_writer *writer)
{
	return (uint32_t)(writer->ints.size / sizeof(int32_t));
}

/* Offset of a string in the strings section; the empty one is at 0. */
static uint32_t
append_string(struct cermet_blob_writer *writer, const char *text)
{
	uint32_t offset = (uint32_t)writer->strings.size;

	if (!text || !text[0])
		return 0;
	cermet_section_append(&writer->strings, text, strlen(text) + 1);
	return offset;
}

static const struct TfLiteTensor *
tensor_of(const struct cermet_blob_writer *writer, uint32_t number)
{
	return &writer->context->tensors[writer->capture->tensors[number]];
}

static bool
is_constant(const struct TfLiteTensor *tensor)
{
	return tensor->allocation_type == TFLITE_ALLOCATION_CONSTANT && tensor->data != NULL && tensor->bytes > 0;
}

/* Operations. */

static uint32_t
append_tensor_list(struct cermet_blob_writer *writer, const struct TfLiteIntArray *list)
{
	uint32_t size = list && list->size > 0 ? (uint32_t)list->size : 0;

	for (uint32_t k = 0; k < size; k++)
		append_int(writer, list->data[k] < 0 ? (int32_t)CERMET_NO_TENSOR : writer->numbers[list->data[k]]);
	return size;
}

static void
write_operation(struct cermet_blob_writer *writer, const struct cermet_graph_node *node)
{
	const bool has_name = node->builtin_code == TFLITE_CUSTOM || node->builtin_code == TFLITE_DELEGATE;
	struct cermet_blob_operation operation = {
		.builtin_code = node->builtin_code,
		.version = node->version,
		.custom_name = append_string(writer, has_name ? node->custom_name : NULL),
	};
	int32_t params[CERMET_MAX_PARAMS];

	operation.inputs_start = num_ints(writer);
	operation.num_inputs = append_tensor_list(writer, node->inputs);
	operation.outputs_start = num_ints(writer);
	operation.num_outputs = append_tensor_list(writer, node->outputs);
	operation.params_start = num_ints(writer);
	operation.num_params = cermet_read_params(node->builtin_code, node->builtin_data, params);
	cermet_section_append(&writer->ints, params, operation.num_params * sizeof(*params));
	cermet_section_append(&writer->operations, &operation, sizeof(operation));
}

/* Tensors. */

static bool
has_unknown_dimension(const struct TfLiteTensor *tensor)
{
	for (int i = 0; tensor->dims_signature && i < tensor->dims_signature->size; i++)
		if (tensor->dims_signature->data[i] == -1)
			return true;
	return false;
}

static bool
all_equal(const struct TfLiteIntArray *values)
{
	for (int i = 1; i < values->size; i++)
		if (values->data[i] != values->data[0])
			return false;
	return true;
}

static void
write_quantisation(struct cermet_blob_writer *writer, const struct TfLiteTensor *tensor, struct cermet_blob_tensor *to)
{
	const struct TfLiteAffineQuantization *affine = tensor->quantization.params;
	const bool is_affine = tensor->quantization.type == TFLITE_AFFINE_QUANTIZATION && affine && affine->scale &&
	                       affine->zero_point;

	to->scales_start = num_ints(writer);
	if (is_affine && affine->scale->size > 0) {
		to->num_scales = (uint32_t)affine->scale->size;
		cermet_section_append(&writer->ints, affine->scale->data, to->num_scales * sizeof(float));
	}
	to->zero_points_start = num_ints(writer);
	if (to->num_scales > 0 && affine->zero_point->size > 0) {
		to->num_zero_points = all_equal(affine->zero_point) ? 1 : (uint32_t)affine->zero_point->size;
		cermet_section_append(&writer->ints, affine->zero_point->data, to->num_zero_points * sizeof(int32_t));
	}
	if (to->num_scales > 1)
		to->quantised_dimension = affine->quantized_dimension;
}

static void
append_piece(struct cermet_blob_writer *writer, const void *data, size_t size)
{
	const struct cermet_piece piece = {data, size};

	cermet_section_append(&writer->pieces, &piece, sizeof(piece));
}

static void
append_data(struct cermet_blob_writer *writer, const void *data, size_t size)
{
	append_piece(writer, data, size);
	writer->data_bytes += size;
}

static void
write_constant(struct cermet_blob_writer *writer, const struct TfLiteTensor *tensor, struct cermet_blob_tensor *to)
{
	static const uint8_t gap[CERMET_BLOB_ALIGNMENT_BYTES];

	append_data(writer, gap, -writer->data_bytes % CERMET_BLOB_ALIGNMENT_BYTES);
	to->flags |= CERMET_TENSOR_CONSTANT;
	to->data_offset = writer->data_bytes; /* join makes it an offset in the file */
	to->data_bytes = tensor->bytes;
	append_data(writer, tensor->data, tensor->bytes);
}

static void
write_tensor(struct cermet_blob_writer *writer, const struct TfLiteTensor *tensor)
{
	struct cermet_blob_tensor to = {
		.type = tensor->type,
		.flags = (tensor->is_variable ? CERMET_TENSOR_VARIABLE : 0) |
		         (has_unknown_dimension(tensor) ? CERMET_TENSOR_DYNAMIC : 0),
		.name = append_string(writer, tensor->name),
		.rank = tensor->dims && tensor->dims->size > 0 ? (uint32_t)tensor->dims->size : 0,
		.dims_start = num_ints(writer),
	};

	if (to.rank > 0)
		cermet_section_append(&writer->ints, tensor->dims->data, to.rank * sizeof(int32_t));
	write_quantisation(writer, tensor, &to);
	if (is_constant(tensor))
		write_constant(writer, tensor, &to);
	cermet_section_append(&writer->tensors, &to, sizeof(to));
}

/* What the graph takes and gives. */

static void
write_graph_ends(struct cermet_blob_writer *writer)
{
	writer->graph_inputs_start = num_ints(writer);
	for (uint32_t i = 0; i < writer->capture->num_tensors; i++)
		if (!writer->is_produced[i] && !is_constant(tensor_of(writer, i)))
			append_int(writer, (int32_t)i);
	writer->num_graph_inputs = num_ints(writer) - writer->graph_inputs_start;
	writer->graph_outputs_start = num_ints(writer);
	for (uint32_t i = 0; i < writer->capture->num_tensors; i++)
		if (writer->is_produced[i] && cermet_graph_hands_out(writer->graph, writer->capture->tensors[i]))
			append_int(writer, (int32_t)i);
	writer->num_graph_outputs = num_ints(writer) - writer->graph_outputs_start;
}

void
cermet_write_sections(struct cermet_blob_writer *writer)
{
	cermet_section_append(&writer->strings, "", 1);
	append_piece(writer, NULL, 0); /* the description */
	for (uint32_t i = 0; i < writer->graph->num_nodes; i++)
		write_operation(writer, &writer->graph->nodes[i]);
	for (uint32_t i = 0; i < writer->capture->num_tensors; i++)
		write_tensor(writer, tensor_of(writer, i));
	write_graph_ends(writer);
}
