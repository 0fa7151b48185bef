/* SPDX-License-Identifier: MIT */
/* A delegate for one test: claims nothing, but writes down how the runtime would group the nodes of option "nodes". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tflite_abi.h"

struct preview {
	struct TfLiteDelegate delegate;
	struct TfLiteIntArray *nodes;
	FILE *out;
	bool is_done;
};

static int
prepare(struct TfLiteContext *context, struct TfLiteDelegate *delegate)
{
	struct preview *preview = (struct preview *)delegate;
	struct TfLiteDelegateParams *partitions = NULL;
	int num_partitions = 0;
	int status;

	if (preview->is_done) /* the other subgraphs have other nodes */
		return TFLITE_OK;
	preview->is_done = true;
	status = context->PreviewDelegatePartitioning(context, preview->nodes, &partitions, &num_partitions);

	for (int i = 0; status == TFLITE_OK && i < num_partitions; i++) {
		const struct TfLiteIntArray *nodes = partitions[i].nodes_to_replace;

		for (int k = 0; k < nodes->size; k++)
			fprintf(preview->out, "%d ", nodes->data[k]);
		fputs("\n", preview->out);
	}
	fflush(preview->out);
	return status;
}

__attribute__((visibility("default"))) struct TfLiteDelegate *
tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t num_options,
                              void (*report_error)(const char *))
{
	struct preview *preview = calloc(1, sizeof(*preview));

	(void)report_error;
	preview->nodes = calloc(1, sizeof(int) * 100001);
	preview->delegate.Prepare = prepare;
	preview->delegate.flags = TFLITE_ALLOW_DYNAMIC_TENSORS | TFLITE_REQUIRE_PROPAGATED_SHAPES;
	for (size_t i = 0; i < num_options; i++) {
		const char *at = values[i];
		char *end;

		if (strcmp(keys[i], "out") == 0)
			preview->out = fopen(at, "w");
		for (; strcmp(keys[i], "nodes") == 0 && *at; at = end + (*end == ','))
			preview->nodes->data[preview->nodes->size++] = (int)strtol(at, &end, 10);
	}
	return &preview->delegate;
}

__attribute__((visibility("default"))) void
tflite_plugin_destroy_delegate(struct TfLiteDelegate *delegate)
{
	struct preview *preview = (struct preview *)delegate;

	if (!preview)
		return;
	fclose(preview->out);
	free(preview->nodes);
	free(preview);
}
