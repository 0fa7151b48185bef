/* SPDX-License-Identifier: MIT */
#include "summary.h"

#include <string.h>

uint32_t
cermet_num_taken(const struct cermet_session *session)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < session->plan.view.header->num_nodes; i++)
		count += session->plan.view.nodes[i].partition != CERMET_ON_CPU;
	return count;
}

/* Bytes of "rule: " at the start of a reason. */
static size_t
rule_length(const char *reason)
{
	const char *end = strchr(reason, ':');

	return end ? (size_t)(end - reason) : strlen(reason);
}

/* How many nodes stay on the CPU for the rule that keeps most of them there; *reason gets the first one's words. */
static uint32_t
commonest_reason(const struct cermet_plan_view *plan, const char **reason)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < plan->header->num_nodes; i++) {
		const char *one = plan->strings + plan->nodes[i].reason;
		const size_t length = rule_length(one);
		uint32_t count = 0;

		for (uint32_t k = i; k < plan->header->num_nodes; k++) {
			const char *other = plan->strings + plan->nodes[k].reason;

			count += rule_length(other) == length && memcmp(one, other, length) == 0;
		}
		if (count > most) {
			most = count;
			*reason = one;
		}
	}
	return most;
}

static void
log_nothing_taken(const struct cermet_session *session)
{
	const struct cermet_plan_view *plan = &session->plan.view;
	const char *reason = "";
	const uint32_t count = commonest_reason(plan, &reason);
	const struct cermet_blob_header *blob = (const void *)session->capture.description.data;
	/* A graph without inputs sets variables, before the main one runs: nobody expects it on the NPU. */
	const enum cermet_log_level level = blob->num_graph_inputs > 0 ? CERMET_LOG_WARNING : CERMET_LOG_INFO;

	if (count > 0)
		cermet_log(session->options->log_level, level, "0 of %u nodes on the NPU (%s), %u of them because "
		           "of %s; log_level=info names all reasons", plan->header->num_nodes, session->options->soc, count,
		           reason);
	else
		cermet_log(session->options->log_level, CERMET_LOG_INFO, "a graph without nodes");
}

void
cermet_log_summary(const struct cermet_session *session, int64_t plan_ns)
{
	const struct cermet_plan_view *plan = &session->plan.view;
	const uint32_t count = cermet_num_taken(session);

	for (uint32_t i = 0; i < plan->header->num_nodes; i++)
		if (plan->nodes[i].partition == CERMET_ON_CPU)
			cermet_log(session->options->log_level, CERMET_LOG_INFO, "node %u on the CPU: %s", i,
			           plan->strings + plan->nodes[i].reason);
	/* Wanted by default although nothing is wrong: the only proof that the NPU is used. */
	if (count == 0)
		log_nothing_taken(session);
	else
		cermet_log(session->options->log_level, CERMET_LOG_WARNING, "%u of %u nodes on the NPU (%s, %s) in %u partition%s, "
		           "plan %s in %lld ms", count, plan->header->num_nodes, session->options->soc, session->device.name,
		           plan->header->num_partitions, plan->header->num_partitions == 1 ? "" : "s",
		           session->plan.is_from_cache ? "from cache" : "compiled", (long long)(plan_ns / 1000000));
}
