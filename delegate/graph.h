/* SPDX-License-Identifier: MIT */
/*
 * The nodes that TFLite shows a delegate, remembered. The runtime shows them in Prepare only; inputs, outputs and
 * parameters stay where they are as long as the interpreter lives, so that the graph can be captured again when the
 * application has resized its inputs. Tensors are always asked for anew.
 */
#ifndef CERMET_GRAPH_H
#define CERMET_GRAPH_H

#include "base.h"
#include "tflite_abi.h"

struct cermet_graph_node {
	int index; /* the runtime's */
	int32_t builtin_code; /* TFLITE_DELEGATE for another delegate's kernel, whatever it calls itself */
	int version;
	const char *custom_name;
	const struct TfLiteIntArray *inputs, *outputs;
	const void *builtin_data;
};

struct cermet_graph {
	uint32_t num_nodes;
	struct cermet_graph_node *nodes; /* in execution order */
	uint32_t num_outputs;
	int *outputs; /* the runtime's tensor numbers: handed to the application, or read by nodes outside */
};

/* The whole execution plan. Only to be called in a delegate's Prepare. Free also after a failure. */
bool
cermet_graph_read(struct TfLiteContext *context, struct cermet_graph *graph, struct cermet_error *error);

/* The part of a graph that a partition has. Free also after a failure. */
bool
cermet_graph_extract(const struct cermet_graph *whole, const struct TfLiteDelegateParams *partition,
                     struct cermet_graph *part, struct cermet_error *error);

/* Harmless on a zeroed one. */
void
cermet_graph_free(struct cermet_graph *graph);

/* Whether a node of the graph reads the tensor, and whether it leaves the graph. */
bool
cermet_graph_reads(const struct cermet_graph *graph, int tensor);
bool
cermet_graph_hands_out(const struct cermet_graph *graph, int tensor);

/* The runtime's partitions in the spelling of cermet_plan.h; NULL when memory is short. Free it. */
char *
cermet_graph_groups_text(const struct cermet_graph *graph, const struct TfLiteDelegateParams *partitions,
                         int num_partitions);

/* Whether an array, which may be missing, holds a value. */
bool
cermet_contains(const struct TfLiteIntArray *array, int value);

/* Own integer array of `size`, all 0; TFLite's would need its symbols. NULL when memory is short. */
struct TfLiteIntArray *
cermet_int_array(uint32_t size);

#endif
