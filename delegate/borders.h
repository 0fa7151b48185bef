/* SPDX-License-Identifier: MIT */
/* The tensors that go into and come out of a partition. */
#ifndef CERMET_BORDERS_H
#define CERMET_BORDERS_H

#include "capture.h"
#include "program.h"

#define CERMET_MAX_RANK 8

/* A tensor as it was when the partition was compiled. */
struct cermet_border_tensor {
	int index; /* the runtime's */
	uint32_t rank;
	int32_t dims[CERMET_MAX_RANK];
	size_t num_bytes;
};

struct cermet_borders {
	uint32_t num_inputs, num_outputs;
	struct cermet_border_tensor *inputs, *outputs;
	const void **input_data; /* filled anew in each invoke */
	void **output_data;
};

/* Of a program that was made for a captured graph; the partition's nodes are `part`. Free also after a failure. */
bool
cermet_borders_fill(struct cermet_borders *borders, const struct cermet_program *program,
                    const struct cermet_capture *capture, const struct cermet_graph *part, struct cermet_error *error);

/* Harmless on zeroed ones. */
void
cermet_borders_free(struct cermet_borders *borders);

/* Whether all tensors still have the shapes that they were filled with. */
bool
cermet_borders_are_unchanged(const struct cermet_borders *borders, const struct TfLiteContext *context);

/* Look up where the tensors are: addresses change from one invoke to the next. */
bool
cermet_borders_collect_data(struct cermet_borders *borders, const struct TfLiteContext *context,
                            struct cermet_error *error);

#endif
