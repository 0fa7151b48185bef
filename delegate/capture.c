/* SPDX-License-Identifier: MIT */
/*
 * Two passes over the graph: number_tensors gives tensors their canonical numbers, then the sections are filled
 * (capture_sections.c). What is in front of the constants becomes one description.
 */
#include "capture.h"

#include "capture_sections.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct cermet_blob_header) == 80, "format");
_Static_assert(sizeof(struct cermet_blob_operation) == 40, "format");
_Static_assert(sizeof(struct cermet_blob_tensor) == 56, "format");

/* First pass. */

static bool
number_tensor(struct cermet_blob_writer *writer, int tensor, bool is_produced, struct cermet_error *error)
{
	struct cermet_capture *capture = writer->capture;

	if (tensor < 0 && !is_produced)
		return true; /* an optional input that is absent */
	if (tensor < 0 || (size_t)tensor >= writer->context->tensors_size)
		return cermet_fail(error, "graph: tensor %d must be one of %zu", tensor, writer->context->tensors_size);
	if (writer->numbers[tensor] == CERMET_NOT_NUMBERED) {
		writer->numbers[tensor] = (int)capture->num_tensors;
		capture->tensors[capture->num_tensors++] = tensor;
	}
	if (is_produced)
		writer->is_produced[writer->numbers[tensor]] = true;
	return true;
}

static bool
number_tensors(struct cermet_blob_writer *writer, struct cermet_error *error)
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

/* The file. */

static size_t
align(size_t offset)
{
	return offset + -offset % CERMET_BLOB_ALIGNMENT_BYTES;
}

/* What the sections are, but for where they are. */
static struct cermet_blob_header
header_of(const struct cermet_blob_writer *writer)
{
	return (struct cermet_blob_header){
		.magic = CERMET_BLOB_MAGIC,
		.version = CERMET_BLOB_VERSION,
		.num_operations = writer->graph->num_nodes,
		.num_tensors = writer->capture->num_tensors,
		.num_ints = (uint32_t)(writer->ints.size / sizeof(int32_t)),
		.strings_bytes = (uint32_t)writer->strings.size,
		.num_graph_inputs = writer->num_graph_inputs,
		.graph_inputs_start = writer->graph_inputs_start,
		.num_graph_outputs = writer->num_graph_outputs,
		.graph_outputs_start = writer->graph_outputs_start,
		.data_bytes = writer->data_bytes,
	};
}

/* Make the description, put it in front of the data section's pieces, hand both to the capture. */
static bool
join(struct cermet_blob_writer *writer, struct cermet_error *error)
{
	struct cermet_blob_header header = header_of(writer);
	struct cermet_capture *capture = writer->capture;
	struct cermet_piece *pieces = (struct cermet_piece *)(void *)writer->pieces.data;
	struct cermet_blob_tensor *tensors = (struct cermet_blob_tensor *)(void *)writer->tensors.data;
	const struct {
		const struct cermet_section *section;
		uint32_t *offset;
	} places[] = {
		{&writer->operations, &header.operations_offset},
		{&writer->tensors, &header.tensors_offset},
		{&writer->ints, &header.ints_offset},
		{&writer->strings, &header.strings_offset},
	};
	size_t size = sizeof(header);
	uint8_t *description;

	for (size_t i = 0; i < CERMET_COUNT(places); i++) {
		*places[i].offset = (uint32_t)align(size);
		size = align(size) + places[i].section->size;
	}
	size = align(size);
	if (size > UINT32_MAX)
		return cermet_fail(error, "graph: %zu bytes of description, at most 4 GiB are possible", size);
	description = calloc(1, size);
	if (!description)
		return cermet_fail(error, "graph: out of memory");
	header.data_offset = size;
	header.file_bytes = size + writer->data_bytes;
	for (uint32_t i = 0; i < capture->num_tensors; i++)
		if (tensors[i].flags & CERMET_TENSOR_CONSTANT)
			tensors[i].data_offset += size;
	memcpy(description, &header, sizeof(header));
	for (size_t i = 0; i < CERMET_COUNT(places); i++)
		if (places[i].section->size > 0)
			memcpy(description + *places[i].offset, places[i].section->data, places[i].section->size);
	pieces[0] = (struct cermet_piece){description, size};
	capture->description = (struct cermet_bytes){description, size};
	capture->blob = (struct cermet_pieces){pieces, writer->pieces.size / sizeof(*pieces)};
	writer->pieces.data = NULL; /* the capture's now */
	return true;
}

static bool
is_short(const struct cermet_blob_writer *writer)
{
	return writer->operations.is_short || writer->tensors.is_short || writer->ints.is_short ||
	       writer->strings.is_short || writer->pieces.is_short;
}

static bool
allocate(struct cermet_blob_writer *writer, struct cermet_error *error)
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
		writer->numbers[i] = CERMET_NOT_NUMBERED;
	return true;
}

static bool
write_blob(struct cermet_blob_writer *writer, struct cermet_error *error)
{
	cermet_write_sections(writer);
	return is_short(writer) ? cermet_fail(error, "graph: out of memory") : join(writer, error);
}

bool
cermet_capture(struct TfLiteContext *context, const struct cermet_graph *graph, struct cermet_capture *capture,
               struct cermet_error *error)
{
	struct cermet_blob_writer writer = {.context = context, .graph = graph, .capture = capture};
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
