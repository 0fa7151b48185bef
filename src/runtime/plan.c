/* SPDX-License-Identifier: MIT */
/* The file as a whole: header, strings, nodes, and that partitions and nodes name each other. */
#include "plan.h"

#include "plan_checks.h"

#include <string.h>

_Static_assert(sizeof(struct cermet_plan_header) == 136, "format");
_Static_assert(sizeof(struct cermet_plan_node) == 8, "format");
_Static_assert(sizeof(struct cermet_plan_partition) == 72, "format");
_Static_assert(sizeof(struct cermet_plan_bo) == 16, "format");
_Static_assert(sizeof(struct cermet_plan_relocation) == 16, "format");
_Static_assert(sizeof(struct cermet_plan_task) == 32, "format");
_Static_assert(sizeof(struct cermet_plan_step) == 16, "format");
_Static_assert(sizeof(struct cermet_plan_job) == 24, "format");
_Static_assert(sizeof(struct cermet_plan_io) == 48, "format");

/* A NUL-padded member that holds at least one character and one NUL. */
static bool
text_is_terminated(const char *text, size_t size, const char *what, struct cermet_error *error)
{
	if (text[0] != '\0' && memchr(text, '\0', size) != NULL)
		return true;
	return cermet_fail(error, "plan: %s: must be text, NUL-padded", what);
}

static bool
check_expectation(const struct cermet_plan_header *header, const struct cermet_plan_expectation *expected,
                  struct cermet_error *error)
{
	if (expected->build_id && strcmp(header->build_id, expected->build_id) != 0)
		return cermet_fail(error, "plan: made by compiler %s, must be %s", header->build_id, expected->build_id);
	if (expected->soc && strcmp(header->soc, expected->soc) != 0)
		return cermet_fail(error, "plan: made for %s, must be %s", header->soc, expected->soc);
	if (expected->key && memcmp(header->key, expected->key, sizeof(header->key)) != 0)
		return cermet_fail(error, "plan: belongs to another model or other options: its key differs");
	return true;
}

static bool
check_header(const struct cermet_plan_view *view, struct cermet_error *error)
{
	const struct cermet_plan_header *header = view->header;
	struct cermet_plan_checksum checksum;

	if (view->num_bytes < sizeof(*header))
		return cermet_fail(error, "plan: %zu bytes, a header has %zu", view->num_bytes, sizeof(*header));
	if (header->magic != CERMET_PLAN_MAGIC)
		return cermet_fail(error, "plan: not a plan file: wrong magic 0x%08x", header->magic);
	if (header->version != CERMET_PLAN_VERSION)
		return cermet_fail(error, "plan: format version %u, must be %d", header->version, CERMET_PLAN_VERSION);
	if (header->file_bytes != view->num_bytes)
		return cermet_fail(error, "plan: %zu bytes, header says %llu", view->num_bytes,
		                   (unsigned long long)header->file_bytes);
	checksum = cermet_plan_checksum(view->bytes, view->num_bytes);
	if (checksum.sum != header->checksum_sum || checksum.products != header->checksum_products)
		return cermet_fail(error, "plan: checksum differs: the file is damaged");
	return text_is_terminated(header->build_id, sizeof(header->build_id), "build_id", error) &&
	       text_is_terminated(header->soc, sizeof(header->soc), "soc", error);
}

static bool
check_strings(const struct cermet_plan_view *view, struct cermet_error *error)
{
	const struct cermet_plan_header *header = view->header;

	if (!cermet_plan_table_is_inside(view, header->strings_offset, header->strings_bytes, 1, "strings", error))
		return false;
	if (header->strings_bytes == 0 || view->strings[0] != '\0' || view->strings[header->strings_bytes - 1] != '\0')
		return cermet_fail(error, "plan: strings must begin and end with a NUL");
	return true;
}

static bool
check_nodes(const struct cermet_plan_view *view, struct cermet_error *error)
{
	const struct cermet_plan_header *header = view->header;

	if (!cermet_plan_table_is_inside(view, header->nodes_offset, header->num_nodes, sizeof(*view->nodes), "nodes",
	                                 error))
		return false;
	for (uint32_t i = 0; i < header->num_nodes; i++) {
		const struct cermet_plan_node *node = &view->nodes[i];

		if (node->reason >= header->strings_bytes)
			return cermet_fail(error, "plan: node %u: reason at %u must lie in the strings", i, node->reason);
		if (node->partition != CERMET_ON_CPU && node->partition >= header->num_partitions)
			return cermet_fail(error, "plan: node %u: partition %u must be below %u", i, node->partition,
			                   header->num_partitions);
	}
	return true;
}

/* The partitions list as many nodes as the node table gives them. */
static bool
check_num_members(const struct cermet_plan_view *view, struct cermet_error *error)
{
	uint64_t listed = 0, given = 0;

	for (uint32_t i = 0; i < view->header->num_partitions; i++)
		listed += view->partitions[i].num_nodes;
	for (uint32_t i = 0; i < view->header->num_nodes; i++)
		given += view->nodes[i].partition != CERMET_ON_CPU;
	if (listed != given)
		return cermet_fail(error, "plan: partitions list %llu nodes, the node table %llu", (unsigned long long)listed,
		                   (unsigned long long)given);
	return true;
}

bool
cermet_plan_open(const void *bytes, size_t num_bytes, const struct cermet_plan_expectation *expected,
                 struct cermet_plan_view *view, struct cermet_error *error)
{
	uint64_t num_table_bytes = 0;

	*view = (struct cermet_plan_view){.bytes = bytes, .num_bytes = num_bytes, .header = bytes};
	if (!check_header(view, error) || !check_expectation(view->header, expected, error))
		return false;
	view->nodes = CERMET_PLAN_TABLE(view, view->header->nodes_offset, struct cermet_plan_node);
	view->partitions = CERMET_PLAN_TABLE(view, view->header->partitions_offset, struct cermet_plan_partition);
	view->strings = CERMET_PLAN_TABLE(view, view->header->strings_offset, char);
	if (!check_strings(view, error) ||
	    !cermet_plan_table_is_inside(view, view->header->partitions_offset, view->header->num_partitions,
	                                 sizeof(*view->partitions), "partitions", error))
		return false;
	if (view->header->num_partitions > view->header->num_nodes)
		return cermet_fail(error, "plan: %u partitions of %u nodes", view->header->num_partitions,
		                   view->header->num_nodes);
	if (!check_nodes(view, error))
		return false;
	for (uint32_t i = 0; i < view->header->num_partitions; i++)
		if (!cermet_plan_check_partition(view, i, &num_table_bytes, error))
			return false;
	return check_num_members(view, error);
}
