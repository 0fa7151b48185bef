/* SPDX-License-Identifier: MIT */
/* Where the tables of a plan lie. */
#include "plan_checks.h"

bool
cermet_plan_table_is_inside(const struct cermet_plan_view *view, uint32_t offset, uint64_t count, size_t size,
                            const char *what, struct cermet_error *error)
{
	uint64_t num_bytes = count * size; /* both below 2**32 */

	if (num_bytes == 0)
		return true;
	if (offset % 8 == 0 && offset >= sizeof(struct cermet_plan_header) && offset <= view->num_bytes &&
	    num_bytes <= view->num_bytes - offset)
		return true;
	return cermet_fail(error, "plan: %s: %llu bytes at %u must lie in the file of %zu bytes, 8-byte aligned", what,
	                   (unsigned long long)num_bytes, offset, view->num_bytes);
}

/* Tables do not overlap, so all together fit the file: that bounds the time it takes to check one. */
bool
cermet_plan_tables_are_inside(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
                              uint64_t *num_table_bytes, struct cermet_error *error)
{
	const struct {
		const char *name;
		uint32_t offset, count;
		size_t size;
	} tables[] = {
		{"partition's nodes", partition->nodes_offset, partition->num_nodes, sizeof(uint32_t)},
		{"bos", partition->bos_offset, partition->num_bos, sizeof(struct cermet_plan_bo)},
		{"relocations", partition->relocations_offset, partition->num_relocations, sizeof(struct cermet_plan_relocation)},
		{"tasks", partition->tasks_offset, partition->num_tasks, sizeof(struct cermet_plan_task)},
		{"steps", partition->steps_offset, partition->num_steps, sizeof(struct cermet_plan_step)},
		{"jobs", partition->jobs_offset, partition->num_jobs, sizeof(struct cermet_plan_job)},
		{"inputs", partition->inputs_offset, partition->num_inputs, sizeof(struct cermet_plan_io)},
		{"outputs", partition->outputs_offset, partition->num_outputs, sizeof(struct cermet_plan_io)},
		{"debug section", partition->debug_offset, partition->debug_bytes, 1},
	};

	for (size_t i = 0; i < CERMET_COUNT(tables); i++) {
		if (!cermet_plan_table_is_inside(view, tables[i].offset, tables[i].count, tables[i].size, tables[i].name, error))
			return false;
		*num_table_bytes += tables[i].count * tables[i].size;
		if (*num_table_bytes > view->num_bytes)
			return cermet_fail(error, "plan: %s: tables overlap", tables[i].name);
	}
	return true;
}
