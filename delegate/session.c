/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <stdlib.h>

struct cermet_session *
cermet_session_new(const struct cermet_options *options, struct cermet_profile *profile)
{
	struct cermet_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->num_references = 1;
	session->device.fd = -1;
	session->cores[0] = '1';
	session->options = options;
	session->profile = profile;
	pthread_mutex_init(&session->lock, NULL);
	return session;
}

void
cermet_session_take(struct cermet_session *session)
{
	pthread_mutex_lock(&session->lock);
	session->num_references++;
	pthread_mutex_unlock(&session->lock);
}

void
cermet_session_drop(struct cermet_session *session)
{
	unsigned left;

	pthread_mutex_lock(&session->lock);
	left = --session->num_references;
	pthread_mutex_unlock(&session->lock);
	if (left > 0)
		return;
	cermet_session_forget_graph(session);
	cermet_device_close(&session->device);
	pthread_mutex_destroy(&session->lock);
	free(session);
}

void
cermet_session_forget_graph(struct cermet_session *session)
{
	cermet_plan_file_free(&session->plan);
	cermet_capture_free(&session->capture);
	cermet_graph_free(&session->graph);
}

bool
cermet_session_open_device(struct cermet_session *session, struct cermet_error *error)
{
	const struct cermet_options *options = session->options;
	uint32_t cores = options->cores;

	if (session->device.fd >= 0)
		return true;
	if (!cermet_device_open(&session->device, options->device, options->soc, error))
		return false;
	if (!cermet_has_queues(&session->device) && cores > 1)
		cermet_log(options->log_level, CERMET_LOG_WARNING, "option cores=%u: with this kernel interface an interpreter "
		           "uses one core at a time; open one interpreter per core", cores);
	if (!cermet_has_queues(&session->device))
		cores = 1;
	else if (cores > session->device.num_cores)
		cores = session->device.num_cores;
	session->cores[0] = (char)('0' + cores);
	return true;
}

static bool
find_plan(const struct cermet_session *session, const struct cermet_graph *graph, const struct cermet_capture *capture,
          struct cermet_compile_options compile, struct cermet_plan_file *plan, struct cermet_error *error)
{
	const struct cermet_options *options = session->options;
	const struct cermet_cache cache = {
		.mode = options->cache,
		.directory = options->cache_dir,
		.compiler = {options->compiler, options->soc, options->log_level, options->compiler_timeout_ns},
	};

	compile.cores = session->cores;
	if (session->device.fd >= 0 && cermet_has_queues(&session->device))
		compile.chains = "kernel"; /* which does it itself, and knows when a chain ends */
	if (!cermet_find_plan(&cache, &compile, &capture->blob, plan, error))
		return false;
	if (plan->view.header->num_nodes != graph->num_nodes)
		return cermet_fail(error, "plan: is for %u nodes, the graph has %u", plan->view.header->num_nodes,
		                   graph->num_nodes);
	return true;
}

bool
cermet_session_find_plan(const struct cermet_session *session, const struct cermet_graph *graph,
                         const struct cermet_capture *capture, const char *groups, struct cermet_plan_file *plan,
                         struct cermet_error *error)
{
	struct cermet_compile_options compile = session->options->compile;

	compile.groups = groups;
	return find_plan(session, graph, capture, compile, plan, error);
}

static bool
takes_all(const struct cermet_plan_view *plan)
{
	for (uint32_t i = 0; i < plan->header->num_nodes; i++)
		if (plan->nodes[i].partition == CERMET_ON_CPU)
			return false;
	return true;
}

bool
cermet_session_find_whole_plan(const struct cermet_session *session, const struct cermet_graph *graph,
                               const struct cermet_capture *capture, struct cermet_plan_file *plan,
                               struct cermet_error *error)
{
	struct cermet_compile_options compile = session->options->compile;

	if (!find_plan(session, graph, capture, compile, plan, error))
		return false;
	if (takes_all(&plan->view))
		return true;
	cermet_plan_file_free(plan);
	compile.allow = compile.deny = "";
	compile.min_partition_nodes = "1";
	compile.prefer = "npu";
	return find_plan(session, graph, capture, compile, plan, error);
}

int
cermet_session_find_partition(const struct cermet_session *session, const struct TfLiteIntArray *nodes)
{
	const struct cermet_plan_view *plan = &session->plan.view;

	for (uint32_t p = 0; p < plan->header->num_partitions; p++) {
		const struct cermet_plan_partition *partition = &plan->partitions[p];
		const uint32_t *members = CERMET_PLAN_TABLE(plan, partition->nodes_offset, uint32_t);
		uint32_t num_found = 0;

		if ((int64_t)partition->num_nodes != nodes->size)
			continue;
		while (num_found < partition->num_nodes && cermet_contains(nodes, session->graph.nodes[members[num_found]].index))
			num_found++;
		if (num_found == partition->num_nodes)
			return (int)p;
	}
	return -1;
}
