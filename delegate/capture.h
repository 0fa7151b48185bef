/* SPDX-License-Identifier: MIT */
/* A graph with its tensors as they are now, as a subgraph blob (cermet_blob.h). */
#ifndef CERMET_CAPTURE_H
#define CERMET_CAPTURE_H

#include "cache.h"
#include "cermet_blob.h"
#include "graph.h"

/* The constants stay where the runtime has them: use the blob while the model is there and its graph is not changed. */
struct cermet_capture {
	struct cermet_pieces blob;      /* the description first, then constants and the gaps between them */
	struct cermet_bytes description; /* all in front of the constants */
	uint32_t num_tensors;
	int *tensors; /* canonical number -> tensor index of the runtime */
};

/* Possible at any time when shapes are known. Free with cermet_capture_free, also after a failure. */
bool
cermet_capture(struct TfLiteContext *context, const struct cermet_graph *graph, struct cermet_capture *capture,
               struct cermet_error *error);

/* Harmless on a zeroed one. */
void
cermet_capture_free(struct cermet_capture *capture);

/* The tensor of a captured blob; number < num_tensors. */
const struct cermet_blob_tensor *
cermet_capture_tensor(const struct cermet_capture *capture, uint32_t number);

/* Its dimensions; *rank gets how many. */
const int32_t *
cermet_capture_dims(const struct cermet_capture *capture, uint32_t number, uint32_t *rank);

#endif
