/* SPDX-License-Identifier: MIT */
/* The two symbols that TFLite looks for, and what happens when a delegate is applied to an interpreter. */
#include "kernel.h"
#include "summary.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_ROUNDS 3 /* of agreeing with the runtime on the partitions; the second settles it, see agree_on_groups */

struct cermet_delegate {
	struct TfLiteDelegate base; /* base.data_ points to `applying` */
	struct cermet_applying applying;
	struct cermet_options options;
	struct cermet_profile profile;
	pthread_mutex_t lock; /* one interpreter at a time */
	bool claims_nothing;  /* fallback=cpu, and there is no device */
	unsigned num_dumps;
};

static bool
dump_blob(struct cermet_delegate *delegate, const struct cermet_pieces *blob, struct cermet_error *error)
{
	const char *wish = getenv("CERMET_DUMP_BLOB");
	char path[PATH_MAX];

	if (!wish || !wish[0])
		return true;
	if (delegate->num_dumps++ == 0) /* the main graph; then PATH.1, PATH.2 for further ones */
		return cermet_write_file(wish, blob, error);
	snprintf(path, sizeof(path), "%s.%u", wish, delegate->num_dumps - 1);
	return cermet_write_file(path, blob, error);
}

static bool
find_plan(struct cermet_session *session, const char *groups, struct cermet_error *error)
{
	cermet_plan_file_free(&session->plan);
	return cermet_session_find_plan(session, &session->graph, &session->capture, groups, &session->plan, error);
}

/* The nodes that the plan takes, as the runtime numbers them; free it. */
static struct TfLiteIntArray *
taken_nodes(const struct cermet_session *session)
{
	struct TfLiteIntArray *nodes = cermet_int_array(cermet_num_taken(session));
	int count = 0;

	for (uint32_t i = 0; nodes && i < session->graph.num_nodes; i++)
		if (session->plan.view.nodes[i].partition != CERMET_ON_CPU)
			nodes->data[count++] = session->graph.nodes[i].index;
	return nodes;
}

/* Whether the runtime would form the plan's partitions. If not, *groups gets those that it would form; free it. */
static bool
runtime_agrees(struct TfLiteContext *context, const struct cermet_session *session, bool *agrees, char **groups,
               struct cermet_error *error)
{
	struct TfLiteIntArray *nodes = taken_nodes(session);
	struct TfLiteDelegateParams *partitions = NULL;
	int num_partitions = 0, status;

	*groups = NULL;
	if (!nodes)
		return cermet_fail(error, "out of memory");
	status = context->PreviewDelegatePartitioning(context, nodes, &partitions, &num_partitions);
	free(nodes);
	if (status != TFLITE_OK)
		return cermet_fail(error, "graph: the runtime cannot partition it (status %d)", status);
	*agrees = (int64_t)session->plan.view.header->num_partitions == num_partitions;
	for (int i = 0; *agrees && i < num_partitions; i++)
		*agrees = cermet_session_find_partition(session, partitions[i].nodes_to_replace) >= 0;
	if (*agrees)
		return true;
	*groups = cermet_graph_groups_text(&session->graph, partitions, num_partitions);
	return *groups || cermet_fail(error, "out of memory");
}

/* The runtime forms the partitions. The compiler foresees how; when it did not, it is told, and compiles again. */
static bool
agree_on_groups(struct TfLiteContext *context, struct cermet_session *session, struct cermet_error *error)
{
	for (int round = 0; round < MAX_ROUNDS && cermet_num_taken(session) > 0; round++) {
		bool agrees, is_found;
		char *groups;

		if (!runtime_agrees(context, session, &agrees, &groups, error))
			return false;
		if (agrees)
			return true;
		cermet_log(session->options->log_level, CERMET_LOG_DEBUG, "the runtime groups differently: %s", groups);
		is_found = find_plan(session, groups, error);
		free(groups);
		if (!is_found)
			return false;
	}
	return cermet_num_taken(session) == 0 ||
	       cermet_fail(error, "the compiler does not form the partitions that the runtime asks for");
}

/* Everything that may fail while nothing has been changed yet. */
static bool
make_ready(struct TfLiteContext *context, struct cermet_delegate *delegate, struct cermet_session *session,
           struct cermet_error *error)
{
	const struct cermet_options *options = &delegate->options;
	int64_t start_ns = cermet_now_ns(), plan_ns;

	/* How many cores there are to compile for, and whether the kernel chains, is the device's to say. */
	if ((options->cores > 1 || options->chains_itself) && !cermet_session_open_device(session, error))
		return false;
	if (!cermet_graph_read(context, &session->graph, error) ||
	    !cermet_capture(context, &session->graph, &session->capture, error) ||
	    !dump_blob(delegate, &session->capture.blob, error) ||
	    !find_plan(session, options->compile.groups, error) || !agree_on_groups(context, session, error))
		return false;
	plan_ns = cermet_now_ns() - start_ns;
	if (cermet_num_taken(session) > 0 && !cermet_session_open_device(session, error))
		return false;
	cermet_log_summary(session, plan_ns);
	return true;
}

static int
replace_nodes(struct TfLiteContext *context, struct cermet_delegate *delegate, struct cermet_session *session)
{
	struct TfLiteIntArray *nodes = taken_nodes(session);
	int status;

	if (!nodes) {
		context->ReportError(context, "cermet: out of memory\n");
		return TFLITE_ERROR;
	}
	delegate->applying.session = session;
	status = context->ReplaceNodeSubsetsWithDelegateKernels(context, cermet_kernel_registration(), nodes,
	                                                        &delegate->base);
	delegate->applying.session = NULL;
	free(nodes);
	return status;
}

static int
apply(struct TfLiteContext *context, struct cermet_delegate *delegate, struct cermet_session *session)
{
	struct cermet_error error;

	if (make_ready(context, delegate, session, &error))
		return cermet_num_taken(session) > 0 ? replace_nodes(context, delegate, session) : TFLITE_OK;
	if (!delegate->options.falls_back_to_cpu) {
		context->ReportError(context, "cermet: %s\n", error.text);
		return TFLITE_ERROR;
	}
	cermet_log(CERMET_LOG_ERROR, CERMET_LOG_ERROR, "%s; all nodes stay on the CPU (fallback=cpu)", error.text);
	return TFLITE_OK;
}

static int
prepare(struct TfLiteContext *context, struct TfLiteDelegate *base)
{
	struct cermet_delegate *delegate = (struct cermet_delegate *)base;
	struct cermet_session *session;
	int status;

	if (delegate->claims_nothing)
		return TFLITE_OK;
	session = cermet_session_new(&delegate->options, &delegate->profile);
	if (!session) {
		context->ReportError(context, "cermet: out of memory\n");
		return TFLITE_ERROR;
	}
	pthread_mutex_lock(&delegate->lock);
	status = apply(context, delegate, session);
	pthread_mutex_unlock(&delegate->lock);
	cermet_session_forget_graph(session);
	cermet_session_drop(session);
	return status;
}

/* Whether there is an NPU, while there still is a good way to say that there is none. The simulated one is started
 * when a model needs it. */
static bool
check_device(struct cermet_delegate *delegate, struct cermet_error *error)
{
	const struct cermet_options *options = &delegate->options;
	struct cermet_device device;

	if (strcmp(options->device, "sim") == 0)
		return true;
	if (cermet_device_open(&device, options->device, options->soc, error)) {
		cermet_device_close(&device);
		return true;
	}
	if (!options->falls_back_to_cpu)
		return false;
	cermet_log(CERMET_LOG_ERROR, CERMET_LOG_ERROR, "%s; all nodes stay on the CPU (fallback=cpu)", error->text);
	delegate->claims_nothing = true;
	return true;
}

static void
destroy(struct cermet_delegate *delegate)
{
	pthread_mutex_destroy(&delegate->lock);
	cermet_profile_close(&delegate->profile);
	cermet_options_free(&delegate->options);
	free(delegate);
}

static struct cermet_delegate *
create(const char *const *keys, const char *const *values, size_t num_options, struct cermet_error *error)
{
	struct cermet_delegate *delegate = calloc(1, sizeof(*delegate));

	if (!delegate) {
		cermet_fail(error, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&delegate->lock, NULL);
	cermet_profile_init(&delegate->profile);
	if (!cermet_options_parse(&delegate->options, keys, values, num_options, error) || !check_device(delegate, error) ||
	    !cermet_profile_open(&delegate->profile, delegate->options.profile_path, error)) {
		destroy(delegate);
		return NULL;
	}
	delegate->base = (struct TfLiteDelegate){
		.data_ = &delegate->applying,
		.Prepare = prepare,
		.flags = TFLITE_ALLOW_DYNAMIC_TENSORS | TFLITE_REQUIRE_PROPAGATED_SHAPES,
	};
	return delegate;
}

/* report_error may only be called in here; C++ hosts pass NULL and tend to crash on the NULL that we return, so
 * stderr gets the reason too. */
EXPORT struct TfLiteDelegate *
tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t num_options,
                              void (*report_error)(const char *))
{
	char message[sizeof(((struct cermet_error *)0)->text) + 16];
	struct cermet_error error = {""};
	struct cermet_delegate *delegate = create(keys, values, num_options, &error);

	if (delegate)
		return &delegate->base;
	cermet_log(CERMET_LOG_ERROR, CERMET_LOG_ERROR, "%s", error.text);
	snprintf(message, sizeof(message), "cermet: %s", error.text);
	cermet_make_printable(message);
	if (report_error)
		report_error(message);
	return NULL;
}

EXPORT void
tflite_plugin_destroy_delegate(struct TfLiteDelegate *delegate)
{
	if (delegate)
		destroy((struct cermet_delegate *)delegate);
}
