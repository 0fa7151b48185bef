/* SPDX-License-Identifier: MIT */
/*
 * Two passes over the graph: number_tensors gives tensors their canonical numbers, then the sections are filled in the
 * order that cermet_blob.h prescribes. The data section, nearly all of a model, is only listed: who wants the key or
 * writes the blob to a file reads it where it is.
 */
#include "capture.h"

#include "params.h"
#include "section.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_BYTES 16
#define NOT_NUMBERED (-1)

_Static_assert(sizeof(struct cermet_blob_header) == 80, "format");
_Static_assert(sizeof(struct cermet_blob_operation) == 40, "format");
_Static_assert(sizeof(struct cermet_blob_tensor) == 56, "format");

struct writer {
	const struct TfLiteContext *context;
	const struct cermet_graph *graph;
	struct cermet_capture *capture;
	int *numbers;        /* tensor index of the runtime -> canonical number or NOT_NUMBERED */
	bool *is_produced;   /* by canonical number */
	struct cermet_section operations, tensors, ints, strings;
	struct cermet_section pieces; /* struct cermet_piece[]: the description, then the data section */
	size_t data_bytes;
	uint32_t graph_inputs_start, num_graph_inputs, graph_outputs_start, num_graph_outputs;
};

static void
append_int(struct writer *writer, int32_t value)
{
	cermet_section_append(&writer->ints, &value, sizeof(value));
}

static uint32_t
num_ints(const struct writer *writer)
{
	return (uint32_t)(writer->ints.size / sizeof(int32_t));
}

/* Offset of a string in the strings section; the empty one is at 0. */
static uint32_t
append_string(struct writer *writer, const char *text)
{
	uint32_t offset = (uint32_t)writer->strings.size;

	if (!text || !text[0])
		return 0;
	cermet_section_append(&writer->strings, text, strlen(text) + 1);
	return offset;
}

static const struct TfLiteTensor *
tensor_of(const struct writer *writer, uint32_t number)
{
	return &writer->context->tensors[writer->capture->tensors[number]];
}

static bool
is_constant(const struct TfLiteTensor *tensor)
{
	return tensor->allocation_type == TFLITE_ALLOCATION_CONSTANT && tensor->data != NULL && tensor->bytes > 0;
}

/* First pass. */

static bool
number_tensor(struct writer *writer, int tensor, bool is_produced, struct cermet_error *error)
{
	struct cermet_capture *capture = writer->capture;

	if (tensor < 0 && !is_produced)
		return true; /* an optional input that is absent */
	if (tensor < 0 || (size_t)tensor >= writer->context->tensors_size)
		return cermet_fail(error, "graph: tensor %d must be one of %zu", tensor, writer->context->tensors_size);
	if (writer->numbers[tensor] == NOT_NUMBERED) {
		writer->numbers[tensor] = (int)capture->num_tensors;
		capture->tensors[capture->num_tensors++] = tensor;
	}
	if (is_produced)
		writer->is_produced[writer->numbers[tensor]] = true;
	return true;
}

static bool
number_tensors(struct writer *writer, struct cermet_error *error)
{
	for (uint32_t i = 0; i < writer->graph->num_nodes; i++) {
		const struct cermet_graph_node *node = &writer->graph->nodes[i];

		for (int k = 0; node->inputs && k < node->inputs->size; k++)
			if (!number_tensor(writer, node->inputs->data[k], false, error))
				return false;
		for (int k = 0; node->outputs && k < node->outputs->size; k++)
			if (!number_tensor(writer, node->outputs->data[k], true, error))
				return false;
	}
	return true;
}

/* Operations. */

static uint32_t
append_tensor_list(struct writer *writer, const struct TfLiteIntArray *list)
{
	uint32_t size = list && list->size > 0 ? (uint32_t)list->size : 0;

	for (uint32_t k = 0; k < size; k++)
		append_int(writer, list->data[k] < 0 ? (int32_t)CERMET_NO_TENSOR : writer->numbers[list->data[k]]);
	return size;
}

static void
write_operation(struct writer *writer, const struct cermet_graph_node *node)
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
write_quantisation(struct writer *writer, const struct TfLiteTensor *tensor, struct cermet_blob_tensor *to)
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
append_piece(struct writer *writer, const void *data, size_t size)
{
	const struct cermet_piece piece = {data, size};

	cermet_section_append(&writer->pieces, &piece, sizeof(piece));
}

static void
append_data(struct writer *writer, const void *data, size_t size)
{
	append_piece(writer, data, size);
	writer->data_bytes += size;
}

static void
write_constant(struct writer *writer, const struct TfLiteTensor *tensor, struct cermet_blob_tensor *to)
{
	static const uint8_t gap[ALIGNMENT_BYTES];

	append_data(writer, gap, -writer->data_bytes % ALIGNMENT_BYTES);
	to->flags |= CERMET_TENSOR_CONSTANT;
	to->data_offset = writer->data_bytes; /* join makes it an offset in the file */
	to->data_bytes = tensor->bytes;
	append_data(writer, tensor->data, tensor->bytes);
}

static void
write_tensor(struct writer *writer, const struct TfLiteTensor *tensor)
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
write_graph_ends(struct writer *writer)
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

/* The file. */

static size_t
align(size_t offset)
{
	return (offset + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

static bool
join(struct writer *writer, struct cermet_error *error)
{
	const struct cermet_section *sections[] = {&writer->operations, &writer->tensors, &writer->ints, &writer->strings};
	size_t offsets[CERMET_COUNT(sections)], size = sizeof(struct cermet_blob_header);
	struct cermet_capture *capture = writer->capture;
	struct cermet_piece *pieces = (struct cermet_piece *)(void *)writer->pieces.data;
	struct cermet_blob_header header;
	struct cermet_blob_tensor *tensors;
	uint8_t *description;

	for (size_t i = 0; i < CERMET_COUNT(sections); i++) {
		if (sections[i]->is_short || writer->pieces.is_short)
			return cermet_fail(error, "graph: out of memory");
		offsets[i] = align(size);
		size = offsets[i] + sections[i]->size;
	}
	size = align(size);
	if (size > UINT32_MAX)
		return cermet_fail(error, "graph: %zu bytes of description, at most 4 GiB are possible", size);
	description = calloc(1, size);
	if (!description)
		return cermet_fail(error, "graph: out of memory");
	tensors = (struct cermet_blob_tensor *)(void *)writer->tensors.data;
	for (uint32_t i = 0; i < capture->num_tensors; i++)
		if (tensors[i].flags & CERMET_TENSOR_CONSTANT)
			tensors[i].data_offset += size;
	for (size_t i = 0; i < CERMET_COUNT(sections); i++)
		if (sections[i]->size > 0)
			memcpy(description + offsets[i], sections[i]->data, sections[i]->size);
	header = (struct cermet_blob_header){
		.magic = CERMET_BLOB_MAGIC,
		.version = CERMET_BLOB_VERSION,
		.file_bytes = size + writer->data_bytes,
		.num_operations = writer->graph->num_nodes,
		.operations_offset = (uint32_t)offsets[0],
		.num_tensors = capture->num_tensors,
		.tensors_offset = (uint32_t)offsets[1],
		.num_ints = num_ints(writer),
		.ints_offset = (uint32_t)offsets[2],
		.strings_bytes = (uint32_t)writer->strings.size,
		.strings_offset = (uint32_t)offsets[3],
		.num_graph_inputs = writer->num_graph_inputs,
		.graph_inputs_start = writer->graph_inputs_start,
		.num_graph_outputs = writer->num_graph_outputs,
		.graph_outputs_start = writer->graph_outputs_start,
		.data_offset = size,
		.data_bytes = writer->data_bytes,
	};
	memcpy(description, &header, sizeof(header));
	pieces[0] = (struct cermet_piece){description, size};
	capture->description = (struct cermet_bytes){description, size};
	capture->blob = (struct cermet_pieces){pieces, writer->pieces.size / sizeof(*pieces)};
	writer->pieces.data = NULL; /* the capture's now */
	return true;
}

static bool
allocate(struct writer *writer, struct cermet_error *error)
{
	struct cermet_capture *capture = writer->capture;
	const size_t num_tensors = writer->context->tensors_size;

	if (num_tensors > INT_MAX / 2)
		return cermet_fail(error, "graph: %zu tensors", num_tensors);
	capture->tensors = calloc(num_tensors + 1, sizeof(int));
	writer->numbers = calloc(num_tensors + 1, sizeof(int));
	writer->is_produced = calloc(num_tensors + 1, sizeof(bool));
	if (!capture->tensors || !writer->numbers || !writer->is_produced)
		return cermet_fail(error, "graph: out of memory");
	for (size_t i = 0; i < num_tensors; i++)
		writer->numbers[i] = NOT_NUMBERED;
	return true;
}

static bool
write_blob(struct writer *writer, struct cermet_error *error)
{
	cermet_section_append(&writer->strings, "", 1);
	append_piece(writer, NULL, 0); /* the description, see join */
	for (uint32_t i = 0; i < writer->graph->num_nodes; i++)
		write_operation(writer, &writer->graph->nodes[i]);
	for (uint32_t i = 0; i < writer->capture->num_tensors; i++)
		write_tensor(writer, tensor_of(writer, i));
	write_graph_ends(writer);
	return join(writer, error);
}

bool
cermet_capture(struct TfLiteContext *context, const struct cermet_graph *graph, struct cermet_capture *capture,
               struct cermet_error *error)
{
	struct writer writer = {.context = context, .graph = graph, .capture = capture};
	bool is_done;

	*capture = (struct cermet_capture){0};
	is_done = allocate(&writer, error) && number_tensors(&writer, error) && write_blob(&writer, error);
	free(writer.numbers);
	free(writer.is_produced);
	free(writer.operations.data);
	free(writer.tensors.data);
	free(writer.ints.data);
	free(writer.strings.data);
	free(writer.pieces.data);
	return is_done;
}

void
cermet_capture_free(struct cermet_capture *capture)
{
	free((void *)(uintptr_t)capture->blob.pieces);
	free(capture->description.data);
	free(capture->tensors);
	*capture = (struct cermet_capture){0};
}

const struct cermet_blob_tensor *
cermet_capture_tensor(const struct cermet_capture *capture, uint32_t number)
{
	const struct cermet_blob_header *header = (const void *)capture->description.data;

	return (const struct cermet_blob_tensor *)(const void *)(capture->description.data + header->tensors_offset) + number;
}

const int32_t *
cermet_capture_dims(const struct cermet_capture *capture, uint32_t number, uint32_t *rank)
{
	const struct cermet_blob_header *header = (const void *)capture->description.data;
	const struct cermet_blob_tensor *tensor = cermet_capture_tensor(capture, number);

	*rank = tensor->rank;
	return (const int32_t *)(const void *)(capture->description.data + header->ints_offset) + tensor->dims_start;
}
