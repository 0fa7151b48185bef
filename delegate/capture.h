/* SPDX-License-Identifier: MIT */
/* The graph that TFLite shows a delegate, as a subgraph blob (cermet_blob.h). */
#ifndef CERMET_CAPTURE_H
#define CERMET_CAPTURE_H

#include "base.h"
#include "cache.h"
#include "cermet_blob.h"
#include "tflite_abi.h"

/* Nothing in it points into the runtime: its plan and arrays do not outlive Prepare. */
struct cermet_capture {
	struct cermet_bytes blob;
	uint32_t num_nodes;
	int *nodes; /* position in the execution order, as the blob counts -> node index of the runtime */
	uint32_t num_tensors;
	int *tensors; /* canonical number -> tensor index of the runtime */
	bool has_exact_outputs; /* false: tensors between partitions of the runtime count as outputs of the graph */
};

/* Only to be called in a delegate's Prepare. Free with cermet_capture_free, also after a failure. */
bool
cermet_capture(struct TfLiteContext *context, struct cermet_capture *capture, struct cermet_error *error);

/* Harmless on a zeroed one. */
void
cermet_capture_free(struct cermet_capture *capture);

/* The tensor of a captured blob; number < num_tensors. */
const struct cermet_blob_tensor *
cermet_capture_tensor(const struct cermet_capture *capture, uint32_t number);

/* Its dimensions; *rank gets how many. */
const int32_t *
cermet_capture_dims(const struct cermet_capture *capture, uint32_t number, uint32_t *rank);

/* Own integer array of `size`, all 0; TFLite's would need its symbols. NULL when memory is short. */
struct TfLiteIntArray *
cermet_int_array(uint32_t size);

#endif
