/* SPDX-License-Identifier: MIT */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct TfLiteIntArray *
cermet_int_array(uint32_t size)
{
	struct TfLiteIntArray *array = calloc(1, sizeof(*array) + (size_t)size * sizeof(int));

	if (array)
		array->size = (int)size;
	return array;
}

bool
cermet_contains(const struct TfLiteIntArray *array, int value)
{
	for (int i = 0; array && i < array->size; i++)
		if (array->data[i] == value)
			return true;
	return false;
}

static bool
read_node(struct TfLiteContext *context, int index, struct cermet_graph_node *to, struct cermet_error *error)
{
	struct TfLiteRegistration *registration = NULL;
	struct TfLiteNode *node = NULL;

	if (context->GetNodeAndRegistration(context, index, &node, &registration) != TFLITE_OK || !node || !registration)
		return cermet_fail(error, "graph: the runtime does not show node %d", index);
	*to = (struct cermet_graph_node){
		.index = index,
		.builtin_code = node->delegate ? TFLITE_DELEGATE : registration->builtin_code,
		.version = registration->version,
		.custom_name = registration->custom_name,
		.inputs = node->inputs,
		.outputs = node->outputs,
		.builtin_data = node->builtin_data,
	};
	return true;
}

/* The runtime overwrites its array at the next call, so the indices are copied at once. */
static bool
read_nodes(struct TfLiteContext *context, struct cermet_graph *graph, struct cermet_error *error)
{
	struct TfLiteIntArray *plan = NULL;

	if (context->GetExecutionPlan(context, &plan) != TFLITE_OK || !plan || plan->size < 0)
		return cermet_fail(error, "graph: the runtime does not tell its execution plan");
	graph->num_nodes = (uint32_t)plan->size;
	graph->nodes = calloc(graph->num_nodes + 1, sizeof(*graph->nodes));
	if (!graph->nodes)
		return cermet_fail(error, "graph: out of memory");
	for (uint32_t i = 0; i < graph->num_nodes; i++)
		graph->nodes[i].index = plan->data[i];
	for (uint32_t i = 0; i < graph->num_nodes; i++)
		if (!read_node(context, graph->nodes[i].index, &graph->nodes[i], error))
			return false;
	return true;
}

static bool
add_outputs(struct cermet_graph *graph, const struct TfLiteIntArray *tensors, struct cermet_error *error)
{
	const uint32_t count = tensors && tensors->size > 0 ? (uint32_t)tensors->size : 0;
	int *outputs = realloc(graph->outputs, ((size_t)graph->num_outputs + count + 1) * sizeof(*outputs));

	if (!outputs)
		return cermet_fail(error, "graph: out of memory");
	graph->outputs = outputs;
	if (count > 0)
		memcpy(outputs + graph->num_outputs, tensors->data, count * sizeof(*outputs));
	graph->num_outputs += count;
	return true;
}

/*
 * The runtime does not tell a delegate the graph's outputs, but a partition's: tensors that others read or that the
 * application gets. Asked about all nodes it usually answers with one partition, whose outputs are the graph's. With
 * more of them, a tensor that goes from one to another counts as an output too: nothing gets lost by that.
 */
static bool
find_outputs(struct TfLiteContext *context, struct cermet_graph *graph, struct cermet_error *error)
{
	struct TfLiteIntArray *all = cermet_int_array(graph->num_nodes);
	struct TfLiteDelegateParams *partitions = NULL;
	int num_partitions = 0, status;

	if (!all)
		return cermet_fail(error, "graph: out of memory");
	for (uint32_t i = 0; i < graph->num_nodes; i++)
		all->data[i] = graph->nodes[i].index;
	status = context->PreviewDelegatePartitioning(context, all, &partitions, &num_partitions);
	free(all);
	if (status != TFLITE_OK)
		return cermet_fail(error, "graph: the runtime cannot partition it (status %d)", status);
	for (int i = 0; i < num_partitions; i++)
		if (!add_outputs(graph, partitions[i].output_tensors, error))
			return false;
	return true;
}

bool
cermet_graph_read(struct TfLiteContext *context, struct cermet_graph *graph, struct cermet_error *error)
{
	*graph = (struct cermet_graph){0};
	return read_nodes(context, graph, error) && find_outputs(context, graph, error);
}

bool
cermet_graph_extract(const struct cermet_graph *whole, const struct TfLiteDelegateParams *partition,
                     struct cermet_graph *part, struct cermet_error *error)
{
	*part = (struct cermet_graph){0};
	part->nodes = calloc(whole->num_nodes + 1, sizeof(*part->nodes));
	if (!part->nodes)
		return cermet_fail(error, "graph: out of memory");
	for (uint32_t i = 0; i < whole->num_nodes; i++)
		if (cermet_contains(partition->nodes_to_replace, whole->nodes[i].index))
			part->nodes[part->num_nodes++] = whole->nodes[i];
	return add_outputs(part, partition->output_tensors, error);
}

void
cermet_graph_free(struct cermet_graph *graph)
{
	free(graph->nodes);
	free(graph->outputs);
	*graph = (struct cermet_graph){0};
}

bool
cermet_graph_reads(const struct cermet_graph *graph, int tensor)
{
	for (uint32_t i = 0; i < graph->num_nodes; i++)
		if (cermet_contains(graph->nodes[i].inputs, tensor))
			return true;
	return false;
}

bool
cermet_graph_hands_out(const struct cermet_graph *graph, int tensor)
{
	for (uint32_t i = 0; i < graph->num_outputs; i++)
		if (graph->outputs[i] == tensor)
			return true;
	return false;
}

/* Append to a text that was made long enough. */
static char *
append_run(char *at, uint32_t first, uint32_t last, bool is_first_of_group)
{
	at += sprintf(at, "%s%u", is_first_of_group ? "" : "+", first);
	return last > first ? at + sprintf(at, "-%u", last) : at;
}

/* One group of cermet_plan.h's `groups`: positions of the nodes in execution order, runs joined. */
static char *
append_group(char *at, const struct cermet_graph *graph, const bool *is_member)
{
	bool is_first = true;

	for (uint32_t i = 0; i < graph->num_nodes; i++) {
		uint32_t last = i;

		if (!is_member[i])
			continue;
		while (last + 1 < graph->num_nodes && is_member[last + 1])
			last++;
		at = append_run(at, i, last, is_first);
		is_first = false;
		i = last;
	}
	return at;
}

char *
cermet_graph_groups_text(const struct cermet_graph *graph, const struct TfLiteDelegateParams *partitions,
                         int num_partitions)
{
	/* A node takes at most a separator and ten digits. */
	char *text = calloc(graph->num_nodes + 1, 12), *at = text;
	bool *is_member = calloc(graph->num_nodes + 1, sizeof(*is_member));

	for (int p = 0; text && is_member && p < num_partitions; p++) {
		memset(is_member, 0, graph->num_nodes * sizeof(*is_member));
		for (uint32_t i = 0; i < graph->num_nodes; i++)
			is_member[i] = cermet_contains(partitions[p].nodes_to_replace, graph->nodes[i].index);
		if (p > 0)
			*at++ = '/';
		at = append_group(at, graph, is_member);
	}
	if (!is_member) {
		free(text);
		text = NULL;
	}
	free(is_member);
	return text;
}
