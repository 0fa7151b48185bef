/* SPDX-License-Identifier: MIT */
#include "plan.h"

#include <string.h>

#define ATOM_BYTES 16
#define TRAILER_WORDS 4
#define MAX_TASK_WORDS 131072 /* PC.REGISTER_AMOUNTS holds 16 bits of word pairs; more would wrap silently */
#define MAX_BO_BYTES 0x7ffff000u

_Static_assert(sizeof(struct cermet_plan_header) == 136, "format");
_Static_assert(sizeof(struct cermet_plan_node) == 8, "format");
_Static_assert(sizeof(struct cermet_plan_partition) == 72, "format");
_Static_assert(sizeof(struct cermet_plan_bo) == 16, "format");
_Static_assert(sizeof(struct cermet_plan_relocation) == 16, "format");
_Static_assert(sizeof(struct cermet_plan_task) == 32, "format");
_Static_assert(sizeof(struct cermet_plan_step) == 16, "format");
_Static_assert(sizeof(struct cermet_plan_job) == 24, "format");
_Static_assert(sizeof(struct cermet_plan_io) == 48, "format");

struct words {
	struct cermet_plan_checksum checksum;
	uint64_t place;       /* of the word before, times CERMET_PLAN_STEP */
	uint64_t other_place; /* and times CERMET_PLAN_OTHER_STEP */
};

static void
add_word(struct words *words, uint64_t word)
{
	words->checksum.sum += word;
	words->place += CERMET_PLAN_STEP;
	words->other_place += CERMET_PLAN_OTHER_STEP;
	word += words->place ^ words->other_place;
	words->checksum.products += (word & UINT32_MAX) * (word >> 32);
}

/* The last word is filled up with zeros. */
static void
add_words(struct words *words, const uint8_t *bytes, size_t num_bytes)
{
	uint64_t word;

	for (; num_bytes >= sizeof(word); bytes += sizeof(word), num_bytes -= sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		add_word(words, word);
	}
	if (num_bytes == 0)
		return;
	word = 0;
	memcpy(&word, bytes, num_bytes);
	add_word(words, word);
}

struct cermet_plan_checksum
cermet_plan_checksum(const void *bytes, size_t num_bytes)
{
	struct cermet_plan_header header;
	struct words words = {{0, 0}, 0, 0};

	memcpy(&header, bytes, sizeof(header));
	header.checksum_sum = header.checksum_products = 0;
	add_words(&words, (const uint8_t *)&header, sizeof(header));
	add_words(&words, (const uint8_t *)bytes + sizeof(header), num_bytes - sizeof(header));
	return words.checksum;
}

size_t
cermet_io_num_bytes(const struct cermet_plan_io *io)
{
	return (size_t)io->batch * io->height * io->width * io->channels;
}

uint32_t
cermet_io_num_surfaces(const struct cermet_plan_io *io)
{
	return (io->channels - 1) / ATOM_BYTES + 1;
}

struct cermet_plan_io
cermet_io_of_map(const struct cermet_plan_io *io)
{
	struct cermet_plan_io map = *io;

	map.height = (io->height - 1) / io->fold_y + 1;
	map.width = (io->width - 1) / io->fold_x + 1;
	map.channels = io->channels * io->fold_y * io->fold_x;
	map.fold_y = map.fold_x = 1;
	return map;
}

size_t
cermet_io_last_atom(const struct cermet_plan_io *io, size_t *num_bytes)
{
	size_t row = io->offset_bytes + (size_t)(io->batch - 1) * io->batch_stride_bytes +
	             (size_t)(io->height - 1) * io->line_stride_bytes;
	size_t row_bytes = (size_t)io->width * io->channels;

	*num_bytes = ATOM_BYTES;
	if (io->layout == CERMET_LAYOUT_ATOMS)
		return row + (size_t)(cermet_io_num_surfaces(io) - 1) * io->surface_stride_bytes +
		       (size_t)(io->width - 1) * ATOM_BYTES;
	if (row_bytes < ATOM_BYTES)
		*num_bytes = row_bytes;
	return row + row_bytes - *num_bytes;
}

/* Whether count * size bytes at offset lie in the file, behind the header, 8-byte aligned. Nothing lies anywhere. */
static bool
table_is_inside(const struct cermet_plan_view *view, uint32_t offset, uint64_t count, size_t size,
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

	if (!table_is_inside(view, header->strings_offset, header->strings_bytes, 1, "strings", error))
		return false;
	if (header->strings_bytes == 0 || view->strings[0] != '\0' || view->strings[header->strings_bytes - 1] != '\0')
		return cermet_fail(error, "plan: strings must begin and end with a NUL");
	return true;
}

static bool
check_nodes(const struct cermet_plan_view *view, struct cermet_error *error)
{
	const struct cermet_plan_header *header = view->header;

	if (!table_is_inside(view, header->nodes_offset, header->num_nodes, sizeof(*view->nodes), "nodes", error))
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

/* A partition's list names its own nodes, each once. That none is missing: check_num_members. */
static bool
check_membership(const struct cermet_plan_view *view, uint32_t number, struct cermet_error *error)
{
	const struct cermet_plan_partition *partition = &view->partitions[number];
	const uint32_t *nodes = CERMET_PLAN_TABLE(view, partition->nodes_offset, uint32_t);

	if (partition->num_nodes == 0)
		return cermet_fail(error, "plan: partition %u: has no nodes", number);
	for (uint32_t i = 0; i < partition->num_nodes; i++)
		if (nodes[i] >= view->header->num_nodes || view->nodes[nodes[i]].partition != number ||
		    (i > 0 && nodes[i] <= nodes[i - 1]))
			return cermet_fail(error, "plan: partition %u: node %u must be one of its own, in ascending order", number,
			                   nodes[i]);
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

static bool
check_bos(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
          const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	for (uint32_t i = 0; i < partition->num_bos; i++) {
		const struct cermet_plan_bo *bo = &bos[i];

		if (bo->role > CERMET_BO_OUTPUT)
			return cermet_fail(error, "plan: bo %u: role %u must be 0..%d", i, bo->role, CERMET_BO_OUTPUT);
		if (bo->size_bytes < 1 || bo->size_bytes > MAX_BO_BYTES)
			return cermet_fail(error, "plan: bo %u: %u bytes must be 1..%u", i, bo->size_bytes, MAX_BO_BYTES);
		if (bo->data_bytes > bo->size_bytes)
			return cermet_fail(error, "plan: bo %u: %u bytes of contents must be 0..%u", i, bo->data_bytes,
			                   bo->size_bytes);
		if (!table_is_inside(view, bo->data_offset, bo->data_bytes, 1, "bo's contents", error))
			return false;
	}
	return true;
}

static bool
check_relocations(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
                  const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	const struct cermet_plan_relocation *relocation =
		CERMET_PLAN_TABLE(view, partition->relocations_offset, struct cermet_plan_relocation);

	for (uint32_t i = 0; i < partition->num_relocations; i++, relocation++) {
		if (relocation->bo < partition->num_bos && relocation->target_bo < partition->num_bos &&
		    relocation->offset_bytes % 8 == 0 &&
		    (uint64_t)relocation->offset_bytes + 8 <= bos[relocation->bo].size_bytes &&
		    relocation->addend_bytes < bos[relocation->target_bo].size_bytes)
			continue;
		return cermet_fail(error, "plan: relocation %u: word at %u of bo %u to %u of bo %u must be 8-byte aligned and "
		                   "inside the bos", i, relocation->offset_bytes, relocation->bo, relocation->addend_bytes,
		                   relocation->target_bo);
	}
	return true;
}

static bool
check_tasks(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
            const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	const struct cermet_plan_task *task = CERMET_PLAN_TABLE(view, partition->tasks_offset, struct cermet_plan_task);

	for (uint32_t i = 0; i < partition->num_tasks; i++, task++) {
		if (task->bo < partition->num_bos && task->offset_bytes % 16 == 0 && task->reserved == 0 &&
		    task->num_words >= TRAILER_WORDS && task->num_words <= MAX_TASK_WORDS &&
		    task->offset_bytes + task->num_words * UINT64_C(8) <= bos[task->bo].size_bytes)
			continue;
		return cermet_fail(error, "plan: task %u: %u words at %u of bo %u must be %d..%d words, inside the bo, "
		                   "16-byte aligned", i, task->num_words, task->offset_bytes, task->bo, TRAILER_WORDS,
		                   MAX_TASK_WORDS);
	}
	return true;
}

static bool
check_jobs(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
           const struct cermet_plan_bo *bos, struct cermet_error *error)
{
	const struct cermet_plan_job *job = CERMET_PLAN_TABLE(view, partition->jobs_offset, struct cermet_plan_job);
	const uint64_t num_tasks = partition->num_tasks;

	for (uint32_t i = 0; i < partition->num_jobs; i++, job++) {
		if (job->num_tasks < 1 || job->first_task + (uint64_t)job->num_tasks > num_tasks)
			return cermet_fail(error, "plan: job %u: tasks %u + %u must be among the %llu there are", i,
			                   job->first_task, job->num_tasks, (unsigned long long)num_tasks);
		if (((uint64_t)(job->in_bo_mask | job->out_bo_mask) >> partition->num_bos) != 0 || job->out_bo_mask == 0 ||
		    (job->in_bo_mask & job->out_bo_mask) != 0)
			return cermet_fail(error, "plan: job %u: masks 0x%x and 0x%x must be disjoint, name bos below %u and at "
			                   "least one that is written", i, job->in_bo_mask, job->out_bo_mask, partition->num_bos);
		if (job->witness_bo >= partition->num_bos || !(job->out_bo_mask >> job->witness_bo & 1) ||
		    job->witness_offset_bytes % ATOM_BYTES != 0 ||
		    job->witness_offset_bytes + UINT64_C(16) > bos[job->witness_bo].size_bytes)
			return cermet_fail(error, "plan: job %u: witness at %u of bo %u must be an atom of a bo that it writes", i,
			                   job->witness_offset_bytes, job->witness_bo);
	}
	return true;
}

/* All tasks in order; stages without gaps, in each of them one step for each lane, in ascending order. */
static bool
check_steps(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition, struct cermet_error *error)
{
	const struct cermet_plan_step *step = CERMET_PLAN_TABLE(view, partition->steps_offset, struct cermet_plan_step);
	uint64_t first = 0;

	for (uint32_t i = 0; i < partition->num_steps; i++, step++) {
		const bool is_first = i == 0 && step->stage == 0;
		const bool is_beside = i > 0 && step->stage == step[-1].stage && step->lane > step[-1].lane;
		const bool is_behind = i > 0 && step->stage == step[-1].stage + UINT64_C(1);

		if (step->first_task != first || step->num_tasks < 1 || step->lane >= CERMET_MAX_LANES ||
		    !(is_first || is_beside || is_behind))
			return cermet_fail(error, "plan: step %u: tasks %u + %u, lane %u, stage %u must follow task %llu and the step "
			                   "before", i, step->first_task, step->num_tasks, step->lane, step->stage,
			                   (unsigned long long)first);
		first += step->num_tasks;
	}
	if (partition->num_steps > 0 && first != partition->num_tasks)
		return cermet_fail(error, "plan: steps have %llu of %u tasks", (unsigned long long)first, partition->num_tasks);
	return true;
}

/* The last byte that the runtime touches lies in the BO. Terms are below 2**63 each, so compare them one by one. */
static bool
io_fits(const struct cermet_plan_io *io, uint64_t bo_bytes)
{
	uint64_t row_bytes = io->layout == CERMET_LAYOUT_ATOMS ? io->width * UINT64_C(16) : (uint64_t)io->width * io->channels;
	const uint64_t terms[] = {
		io->offset_bytes,
		(io->batch - UINT64_C(1)) * io->batch_stride_bytes,
		(io->height - UINT64_C(1)) * io->line_stride_bytes,
		io->layout == CERMET_LAYOUT_ATOMS ? (io->channels - UINT64_C(1)) / 16 * io->surface_stride_bytes : 0,
		row_bytes,
	};
	uint64_t sum = 0;

	for (size_t i = 0; i < CERMET_COUNT(terms); i++) {
		if (terms[i] > bo_bytes)
			return false;
		sum += terms[i];
	}
	return sum <= bo_bytes;
}

/* Each product without overflow; a tensor of TFLite's stays below 2 GiB here, and so do the blocks made of it. */
static bool
sizes_are_sane(const uint32_t *sizes, size_t num_sizes)
{
	uint64_t product = 1;

	for (size_t i = 0; i < num_sizes; i++) {
		if (sizes[i] < 1 || sizes[i] > INT32_MAX)
			return false;
		product *= sizes[i];
		if (product > INT32_MAX)
			return false;
	}
	return true;
}

/* The folds have been checked. */
static bool
io_size_is_sane(const struct cermet_plan_io *io)
{
	const uint32_t tensor[] = {io->batch, io->height, io->width, io->channels};
	const uint32_t map[] = {io->batch, (io->height - 1) / io->fold_y + 1, (io->width - 1) / io->fold_x + 1,
	                        io->fold_y, io->fold_x, io->channels};

	return sizes_are_sane(tensor, CERMET_COUNT(tensor)) && sizes_are_sane(map, CERMET_COUNT(map));
}

static bool
check_folds(const struct cermet_plan_io *io, bool is_input, struct cermet_error *error)
{
	const int most = is_input && io->layout == CERMET_LAYOUT_ATOMS ? CERMET_MAX_FOLD : 1;

	if (io->fold_y >= 1 && io->fold_y <= most && io->fold_x >= 1 && io->fold_x <= most)
		return true;
	return cermet_fail(error, "plan: tensor %u: folded by %ux%u, must be 1..%d", io->tensor, io->fold_y, io->fold_x, most);
}

static bool
check_ios(const struct cermet_plan_partition *partition, const struct cermet_plan_bo *bos,
          const struct cermet_plan_io *ios, uint32_t num_ios, bool is_input, struct cermet_error *error)
{
	for (uint32_t i = 0; i < num_ios; i++) {
		const struct cermet_plan_io *io = &ios[i];
		struct cermet_plan_io map;

		if (io->bo >= partition->num_bos)
			return cermet_fail(error, "plan: tensor %u: bo %u must be below %u", io->tensor, io->bo, partition->num_bos);
		if (io->layout > CERMET_LAYOUT_PACKED)
			return cermet_fail(error, "plan: tensor %u: layout %u must be 0..%d", io->tensor, io->layout,
			                   CERMET_LAYOUT_PACKED);
		if (!check_folds(io, is_input, error))
			return false;
		if (!io_size_is_sane(io))
			return cermet_fail(error, "plan: tensor %u: sizes %u,%u,%u,%u must be at least 1, together below 2 GiB",
			                   io->tensor, io->batch, io->height, io->width, io->channels);
		if (io->flip != 0 && io->flip != 0x80)
			return cermet_fail(error, "plan: tensor %u: flip %u must be 0 or 128", io->tensor, io->flip);
		map = cermet_io_of_map(io);
		if (!io_fits(&map, bos[io->bo].size_bytes))
			return cermet_fail(error, "plan: tensor %u: ends beyond the %u bytes of bo %u", io->tensor,
			                   bos[io->bo].size_bytes, io->bo);
	}
	return true;
}

/* Tables do not overlap, so all together fit the file: that bounds the time it takes to check one. */
static bool
tables_are_inside(const struct cermet_plan_view *view, const struct cermet_plan_partition *partition,
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
		if (!table_is_inside(view, tables[i].offset, tables[i].count, tables[i].size, tables[i].name, error))
			return false;
		*num_table_bytes += tables[i].count * tables[i].size;
		if (*num_table_bytes > view->num_bytes)
			return cermet_fail(error, "plan: %s: tables overlap", tables[i].name);
	}
	return true;
}

static bool
check_partition(const struct cermet_plan_view *view, uint32_t number, uint64_t *num_table_bytes,
                struct cermet_error *error)
{
	const struct cermet_plan_partition *partition = &view->partitions[number];
	const struct cermet_plan_bo *bos = CERMET_PLAN_TABLE(view, partition->bos_offset, struct cermet_plan_bo);

	if (!tables_are_inside(view, partition, num_table_bytes, error))
		return false;
	if (partition->num_bos < 1 || partition->num_bos > CERMET_MAX_BOS)
		return cermet_fail(error, "plan: partition %u: %u bos, must be 1..%d", number, partition->num_bos, CERMET_MAX_BOS);
	if (partition->num_jobs < 1 || partition->num_tasks < 1 || partition->num_outputs < 1)
		return cermet_fail(error, "plan: partition %u: %u jobs, %u tasks, %u outputs, must be at least one of each",
		                   number, partition->num_jobs, partition->num_tasks, partition->num_outputs);
	return check_membership(view, number, error) && check_bos(view, partition, bos, error) &&
	       check_relocations(view, partition, bos, error) && check_tasks(view, partition, bos, error) &&
	       check_jobs(view, partition, bos, error) && check_steps(view, partition, error) &&
	       check_ios(partition, bos, CERMET_PLAN_TABLE(view, partition->inputs_offset, struct cermet_plan_io),
	                 partition->num_inputs, true, error) &&
	       check_ios(partition, bos, CERMET_PLAN_TABLE(view, partition->outputs_offset, struct cermet_plan_io),
	                 partition->num_outputs, false, error);
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
	    !table_is_inside(view, view->header->partitions_offset, view->header->num_partitions,
	                     sizeof(*view->partitions), "partitions", error))
		return false;
	if (view->header->num_partitions > view->header->num_nodes)
		return cermet_fail(error, "plan: %u partitions of %u nodes", view->header->num_partitions,
		                   view->header->num_nodes);
	if (!check_nodes(view, error))
		return false;
	for (uint32_t i = 0; i < view->header->num_partitions; i++)
		if (!check_partition(view, i, &num_table_bytes, error))
			return false;
	return check_num_members(view, error);
}
