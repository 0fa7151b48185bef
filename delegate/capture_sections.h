/* SPDX-License-Identifier: MIT */
/*
 * A blob while it is made. The data section, nearly all of a model, is only listed: who wants the key or writes the blob
 * to a file reads it where it is.
 */
#ifndef CERMET_CAPTURE_SECTIONS_H
#define CERMET_CAPTURE_SECTIONS_H

#include "capture.h"
#include "section.h"

#define CERMET_BLOB_ALIGNMENT_BYTES 16
#define CERMET_NOT_NUMBERED (-1)

struct cermet_blob_writer {
	const struct TfLiteContext *context;
	const struct cermet_graph *graph;
	struct cermet_capture *capture;
	int *numbers;      /* tensor index of the runtime -> canonical number, CERMET_NOT_NUMBERED */
	bool *is_produced; /* by canonical number */
	struct cermet_section operations, tensors, ints, strings;
	struct cermet_section pieces; /* struct cermet_piece[]: the description, then the data section */
	size_t data_bytes;
	uint32_t graph_inputs_start, num_graph_inputs, graph_outputs_start, num_graph_outputs;
};

/* Fill the sections; tensors have their numbers. Memory that runs out shows in the sections. */
void
cermet_write_sections(struct cermet_blob_writer *writer);

#endif
