/* SPDX-License-Identifier: MIT */
/*
 * A partition's life. The runtime keeps partitions when the application resizes its inputs, and asks only to prepare
 * them again: a program for the new shapes then takes the old one's place. What the runtimes do, step by step, is in
 * docs/resizing.md.
 */
#include "kernel.h"

#include "borders.h"
#include "program.h"

#include <stdlib.h>
#include <string.h>

struct kernel {
	struct cermet_session *session;
	struct cermet_graph graph;     /* the partition's nodes */
	struct cermet_program program; /* for the shapes in `borders`; zeroed when there is none */
	struct cermet_borders borders;
	struct cermet_error init_error; /* why init failed; empty when it did not */
};

static void
unload(struct kernel *kernel)
{
	cermet_program_unload(&kernel->program);
	cermet_borders_free(&kernel->borders);
}

/* A partition's program in place of the one before. */
static bool
load(struct kernel *kernel, const struct cermet_plan_file *plan, uint32_t partition,
     const struct cermet_capture *capture, struct cermet_error *error)
{
	const struct cermet_session *session = kernel->session;

	unload(kernel);
	if (cermet_program_load(&kernel->program, &session->device, &plan->view, partition, session->options->timeout_ns,
	                        error) &&
	    cermet_borders_fill(&kernel->borders, &kernel->program, capture, &kernel->graph, error))
		return true;
	unload(kernel);
	return false;
}

static bool
load_first(struct kernel *kernel, const struct TfLiteDelegateParams *params, struct cermet_error *error)
{
	struct cermet_session *session = kernel->session;
	int partition = cermet_session_find_partition(session, params->nodes_to_replace);

	if (partition < 0)
		return cermet_fail(error, "the runtime made a partition of %d nodes that the plan does not have",
		                   params->nodes_to_replace->size);
	return cermet_graph_extract(&session->graph, params, &kernel->graph, error) &&
	       load(kernel, &session->plan, (uint32_t)partition, &session->capture, error);
}

/* There is no portable way to fail here: the error is kept for prepare. */
static void *
kernel_init(struct TfLiteContext *context, const char *buffer, size_t length)
{
	const struct TfLiteDelegateParams *params = (const void *)buffer;
	struct cermet_applying *applying = params->delegate->data_;
	struct kernel *kernel = calloc(1, sizeof(*kernel));

	(void)context;
	(void)length;
	if (!kernel)
		return NULL; /* prepare takes NULL for "out of memory" */
	if (!applying->session) {
		cermet_fail(&kernel->init_error, "a kernel was initialised while the delegate was not being applied");
		return kernel;
	}
	kernel->session = applying->session;
	cermet_session_take(kernel->session);
	if (!load_first(kernel, params, &kernel->init_error) && kernel->init_error.text[0] == '\0')
		cermet_fail(&kernel->init_error, "partition cannot be loaded");
	return kernel;
}

static void
report_profile(const struct kernel *kernel)
{
	const struct cermet_times *times = &kernel->program.times;
	const double runs = (double)times->num_runs * 1e6;

	if (!kernel->session->options->profile || times->num_runs == 0)
		return;
	cermet_log(CERMET_LOG_ERROR, CERMET_LOG_ERROR, "partition %u: %llu runs, mean %.3f ms: inputs %.3f, NPU %.3f, "
	           "outputs %.3f", kernel->program.number, (unsigned long long)times->num_runs,
	           (double)(times->inputs_ns + times->device_ns + times->outputs_ns) / runs,
	           (double)times->inputs_ns / runs, (double)times->device_ns / runs, (double)times->outputs_ns / runs);
}

static void
kernel_free(struct TfLiteContext *context, void *user_data)
{
	struct kernel *kernel = user_data;

	(void)context;
	if (!kernel)
		return;
	if (kernel->session) {
		report_profile(kernel);
		unload(kernel);
		cermet_session_drop(kernel->session);
	}
	cermet_graph_free(&kernel->graph);
	free(kernel);
}

/* The whole graph must be one partition; else the reason of the first node that is not in it, and what helps. */
static bool
check_takes_all(const struct cermet_plan_view *plan, const struct cermet_graph *graph, struct cermet_error *error)
{
	for (uint32_t i = 0; i < plan->header->num_nodes; i++)
		if (plan->nodes[i].partition == CERMET_ON_CPU)
			return cermet_fail(error, "node %d cannot run on the NPU in this size: %s; TFLite takes no node back: keep it "
			                   "on the CPU with the option deny=%d, or make an interpreter for this size without the "
			                   "delegate", graph->nodes[i].index, plan->strings + plan->nodes[i].reason,
			                   graph->nodes[i].index);
	return plan->header->num_partitions == 1 ||
	       cermet_fail(error, "plan: has %u partitions, must have 1", plan->header->num_partitions);
}

/* Make the partition anew, alone: tensors behind it do not have their new shapes yet. When that is impossible the old
 * program stays, for the case that the application goes back to its shapes. */
static bool
reload(struct TfLiteContext *context, struct kernel *kernel, struct cermet_error *error)
{
	const struct cermet_session *session = kernel->session;
	const int64_t start_ns = cermet_now_ns();
	struct cermet_capture capture = {0};
	struct cermet_plan_file plan = {0};
	bool is_done;

	is_done = cermet_capture(context, &kernel->graph, &capture, error) &&
	          cermet_session_find_whole_plan(session, &kernel->graph, &capture, &plan, error) &&
	          check_takes_all(&plan.view, &kernel->graph, error) && load(kernel, &plan, 0, &capture, error);
	if (is_done)
		cermet_log(session->options->log_level, CERMET_LOG_INFO, "inputs resized: a partition of %u nodes, plan %s in "
		           "%lld ms", kernel->graph.num_nodes, plan.is_from_cache ? "from cache" : "compiled",
		           (long long)((cermet_now_ns() - start_ns) / 1000000));
	cermet_plan_file_free(&plan);
	cermet_capture_free(&capture);
	return is_done;
}

static bool
is_loaded(const struct kernel *kernel)
{
	return kernel->program.device != NULL;
}

static bool
prepare(struct TfLiteContext *context, struct kernel *kernel, struct cermet_error *error)
{
	if (kernel->init_error.text[0]) {
		*error = kernel->init_error;
		return false;
	}
	if (is_loaded(kernel) && cermet_borders_are_unchanged(&kernel->borders, context))
		return true;
	return reload(context, kernel, error);
}

static bool
run(struct kernel *kernel, struct cermet_error *error)
{
	struct cermet_program *program = &kernel->program;
	const struct cermet_times before = program->times;
	const int64_t start_ns = cermet_now_ns();
	const bool is_done =
		cermet_program_run(program, kernel->borders.input_data, kernel->borders.output_data, error);

	cermet_profile_add(kernel->session->profile, program->number, start_ns, &before, &program->times);
	return is_done;
}

static bool
invoke(const struct TfLiteContext *context, struct kernel *kernel, struct cermet_error *error)
{
	if (!is_loaded(kernel))
		return cermet_fail(error, "there is no program for the sizes that the inputs have now");
	return cermet_borders_collect_data(&kernel->borders, context, error) && run(kernel, error);
}

static int
report(struct TfLiteContext *context, const struct cermet_error *error)
{
	context->ReportError(context, "cermet: %s\n", error->text);
	return TFLITE_ERROR;
}

/* A partition's number means little to an application: what it computes does. */
static int
report_partition(struct TfLiteContext *context, const struct kernel *kernel, const struct cermet_error *error)
{
	const int output = kernel->graph.num_outputs > 0 ? kernel->graph.outputs[0] : -1;
	const char *name = output >= 0 ? context->tensors[output].name : NULL;

	context->ReportError(context, "cermet: %s (the partition that computes '%.80s')\n", error->text, name ? name : "");
	return TFLITE_ERROR;
}

static int
kernel_prepare(struct TfLiteContext *context, struct TfLiteNode *node)
{
	struct kernel *kernel = node->user_data;
	struct cermet_error error;
	bool is_done;

	if (!kernel || !kernel->session) {
		cermet_fail(&error, "%s", kernel ? kernel->init_error.text : "out of memory");
		return report(context, &error);
	}
	pthread_mutex_lock(&kernel->session->lock);
	is_done = prepare(context, kernel, &error);
	pthread_mutex_unlock(&kernel->session->lock);
	return is_done ? TFLITE_OK : report_partition(context, kernel, &error);
}

static int
kernel_invoke(struct TfLiteContext *context, struct TfLiteNode *node)
{
	struct kernel *kernel = node->user_data;
	struct cermet_error error;
	bool is_done;

	if (!kernel || kernel->init_error.text[0]) {
		cermet_fail(&error, "%s", kernel ? kernel->init_error.text : "out of memory");
		return report(context, &error);
	}
	pthread_mutex_lock(&kernel->session->lock);
	is_done = invoke(context, kernel, &error);
	pthread_mutex_unlock(&kernel->session->lock);
	return is_done ? TFLITE_OK : report_partition(context, kernel, &error);
}

struct TfLiteRegistration
cermet_kernel_registration(void)
{
	struct TfLiteRegistration registration;

	memset(&registration, 0, sizeof(registration)); /* padding too: it is passed by value */
	registration.init = kernel_init;
	registration.free = kernel_free;
	registration.prepare = kernel_prepare;
	registration.invoke = kernel_invoke;
	registration.custom_name = "Cermet";
	registration.version = 1;
	return registration;
}
