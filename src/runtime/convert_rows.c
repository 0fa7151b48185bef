/* SPDX-License-Identifier: MIT */
/*
 * The loops of convert.c, compiled once for the baseline processor and, on x86-64, once with -mavx2.
 *
 * A row of pixels is a matrix of atoms, 16 bytes each: in the tensor its lines are pixels, in the BO surfaces. Both
 * directions transpose it, block by block. In a block they take strips of up to eight surfaces, and move four atoms of four
 * pixels at a time: cache lines are read and written whole, and few places are open at once. More than eight would drive
 * each other out of a first cache where surfaces lie a multiple of 4096 bytes apart (16x16 pixels).
 *
 * With channels % 16 != 0 the last atom of a pixel reaches into the pixels behind it. On the way in what is foreign is
 * masked. On the way out it is overwritten: the last surfaces of a pixel are stored first and the pixels in ascending
 * order. The last pixels of the tensor, behind which there is nothing to reach into, are moved one by one.
 */
#include "convert_rows.h"

#include "convert_atoms.h"
#include "plan.h"

#ifdef WIDE_MOVES
#define CONVERT_IN cermet_rows_in_avx2
#define CONVERT_OUT cermet_rows_out_avx2
#else
#define CONVERT_IN cermet_rows_in
#define CONVERT_OUT cermet_rows_out
#endif

#define BLOCK_BYTES 32768 /* of a tensor: strips may share cache lines, which are still in a cache then */
#define STRIP_SURFACES 8  /* whose atoms of a pixel are two cache lines */

/* Two pixels of `count` surfaces: 1, 2 or 4. */
INLINE void
move_pair(const struct move *move, const uint8_t *from, uint8_t *to, uint32_t count, bool is_last)
{
	if (count == 1)
		move_two(move, from, to, is_last);
	if (count == 4)
		move_four(move, from + 2 * move->from.surface_bytes, to + 2 * move->to.surface_bytes, is_last);
	if (count > 1)
		move_four(move, from, to, is_last && count == 2);
}

/* Four pixels. */
INLINE void
move_tile(const struct move *move, const uint8_t *from, uint8_t *to, uint32_t count, bool is_last)
{
	move_pair(move, from, to, count, is_last);
	move_pair(move, from + 2 * move->from.pixel_bytes, to + 2 * move->to.pixel_bytes, count, is_last);
}

/* Pixels of `count` surfaces: 1, 2, 4 or 8. The last of them is the tensor's last where is_last; what its atoms hold behind
 * the channels matters on the way in. */
INLINE void
move_surfaces(const struct move *move, const uint8_t *from, uint8_t *to, uint32_t num_pixels, uint32_t count, bool is_last)
{
	const struct pitch *f = &move->from, *t = &move->to;

	for (; num_pixels >= 4; num_pixels -= 4, from += 4 * f->pixel_bytes, to += 4 * t->pixel_bytes) {
		if (count == 8)
			move_tile(move, from + 4 * f->surface_bytes, to + 4 * t->surface_bytes, 4, is_last);
		move_tile(move, from, to, count < 4 ? count : 4, is_last && count < 8);
	}
	for (; num_pixels > 0; num_pixels--, from += f->pixel_bytes, to += t->pixel_bytes)
		for (uint32_t i = count; i > 0; i--)
			store(to + (i - 1) * t->surface_bytes,
			      changed(move, load(from + (i - 1) * f->surface_bytes), is_last && i == count));
}

/* Pixels of the `count` surfaces from `first` on. */
INLINE void
move_strip(const struct move *move, const uint8_t *from, uint8_t *to, uint32_t num_pixels, uint32_t first, uint32_t count)
{
	from += first * move->from.surface_bytes;
	to += first * move->to.surface_bytes;
	if (move->is_in && first + count == move->num_surfaces)
		move_surfaces(move, from, to, num_pixels, count, true);
	else
		move_surfaces(move, from, to, num_pixels, count, false);
}

/* All surfaces of pixels that are not the tensor's last. */
INLINE void
move_block(const struct move *move, const uint8_t *from, uint8_t *to, uint32_t num_pixels)
{
	uint32_t end = move->num_surfaces;

	if (end & 1)
		move_strip(move, from, to, num_pixels, end -= 1, 1);
	if (end & 2)
		move_strip(move, from, to, num_pixels, end -= 2, 2);
	if (end & 4)
		move_strip(move, from, to, num_pixels, end -= 4, 4);
	while (end > 0)
		move_strip(move, from, to, num_pixels, end -= STRIP_SURFACES, STRIP_SURFACES);
}

/* One pixel, without a byte of the tensor beyond its channels. */
INLINE void
move_pixel(const struct move *move, const uint8_t *from, uint8_t *to)
{
	const uint32_t left = (move->channels - 1) % ATOM_BYTES + 1;
	uint8_t bytes[ATOM_BYTES] = {0};

	for (uint32_t surface = 1; surface < move->num_surfaces; surface++) {
		store(to, changed(move, load(from), false));
		from += move->from.surface_bytes;
		to += move->to.surface_bytes;
	}
	memcpy(bytes, from, left);
	store(bytes, changed(move, load(bytes), move->is_in));
	memcpy(to, bytes, move->is_in ? ATOM_BYTES : left);
}

/* Those of the next num_pixels whose last atom would reach beyond the tensor, when num_behind come after them. */
INLINE uint32_t
num_last_pixels(uint32_t channels, uint32_t num_pixels, size_t num_behind)
{
	const uint32_t num_filler_bytes = -channels % ATOM_BYTES;
	const uint32_t num_last = (num_filler_bytes + channels - 1) / channels; /* of the tensor, below 16 */
	const uint32_t num_here = num_behind < num_last ? num_last - (uint32_t)num_behind : 0;

	return num_here < num_pixels ? num_here : num_pixels;
}

/* A row: num_pixels that follow each other in both memories, and num_behind more in the tensor. */
INLINE void
move_row(const struct move *move, const uint8_t *from, uint8_t *to, uint32_t num_pixels, size_t num_behind)
{
	const uint32_t num_last = num_last_pixels(move->channels, num_pixels, num_behind);
	const uint32_t fitting = BLOCK_BYTES / move->channels & ~3u, step = fitting > 0 ? fitting : 4;

	for (uint32_t left = num_pixels - num_last, count; left > 0; left -= count) {
		count = left < step ? left : step;
		move_block(move, from, to, count);
		from += count * move->from.pixel_bytes;
		to += count * move->to.pixel_bytes;
	}
	for (uint32_t i = 0; i < num_last; i++)
		move_pixel(move, from + i * move->from.pixel_bytes, to + i * move->to.pixel_bytes);
}

static void
flip_bytes(const uint8_t *restrict from, uint8_t *restrict to, size_t num_bytes, uint8_t flip)
{
	for (size_t i = 0; i < num_bytes; i++)
		to[i] = from[i] ^ flip;
}

/* A row whose bytes lie in the BO as in the tensor. */
INLINE void
copy_row(const struct cermet_plan_io *io, const uint8_t *from, uint8_t *to, size_t num_bytes, bool is_in)
{
	if (io->flip == 0)
		memcpy(to, from, num_bytes);
	else
		flip_bytes(from, to, num_bytes, io->flip);
	if (is_in && io->layout == CERMET_LAYOUT_ATOMS)
		memset(to + num_bytes, io->fill, -num_bytes % ATOM_BYTES);
}

/* Rows follow each other in the BO as they do in the tensor. */
static bool
rows_are_dense(const struct cermet_plan_io *io)
{
	const uint32_t pixel_bytes = io->layout == CERMET_LAYOUT_PACKED ? io->channels : ATOM_BYTES;

	return io->height == 1 || io->line_stride_bytes == (uint64_t)io->width * pixel_bytes;
}

/* Packed, atoms of 16 channels, or surfaces of a single pixel. */
static bool
row_is_the_same(const struct cermet_plan_io *io, uint32_t num_pixels)
{
	return io->layout == CERMET_LAYOUT_PACKED || io->channels == ATOM_BYTES ||
	       (num_pixels == 1 && io->surface_stride_bytes == ATOM_BYTES);
}

INLINE struct move
move_of(const struct cermet_plan_io *io, bool is_in)
{
	const struct pitch tensor = {io->channels, ATOM_BYTES}, atoms = {ATOM_BYTES, io->surface_stride_bytes};
	const atom mask = first_bytes((io->channels - 1) % ATOM_BYTES + 1);

	return (struct move){is_in, io->channels, cermet_io_num_surfaces(io), is_in ? tensor : atoms,
	                     is_in ? atoms : tensor, repeat(io->flip), mask, repeat(io->fill) & ~mask};
}

/* All of a tensor, from it to the BO or from there to it. */
INLINE void
convert(const struct cermet_plan_io *io, const uint8_t *from, uint8_t *to, bool is_in)
{
	const struct move move = move_of(io, is_in);
	const bool is_one_row = rows_are_dense(io);
	const uint32_t num_rows = is_one_row ? 1 : io->height, num_pixels = is_one_row ? io->height * io->width : io->width;
	size_t tensor_at = 0, num_behind = (size_t)io->batch * io->height * io->width;
	const size_t row_bytes = (size_t)num_pixels * io->channels;

	for (uint32_t image = 0; image < io->batch; image++) {
		for (uint32_t row = 0; row < num_rows; row++, tensor_at += row_bytes) {
			const size_t bo_at = io->offset_bytes + (size_t)image * io->batch_stride_bytes +
			                     (size_t)row * io->line_stride_bytes;
			const uint8_t *row_from = from + (is_in ? tensor_at : bo_at);
			uint8_t *row_to = to + (is_in ? bo_at : tensor_at);

			num_behind -= num_pixels;
			if (row_is_the_same(io, num_pixels))
				copy_row(io, row_from, row_to, row_bytes, is_in);
			else
				move_row(&move, row_from, row_to, num_pixels, num_behind);
		}
	}
}

void
CONVERT_IN(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo)
{
	convert(io, tensor, bo, true);
}

void
CONVERT_OUT(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor)
{
	convert(io, bo, tensor, false);
}
