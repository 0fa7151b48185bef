/* SPDX-License-Identifier: MIT */
/* Tensors that cross the border: their sizes, where they lie in their BO, whether a plan's are sane. */
#include "plan_checks.h"

#define ATOM_BYTES 16

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

bool
cermet_plan_check_ios(const struct cermet_plan_partition *partition, const struct cermet_plan_bo *bos,
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
