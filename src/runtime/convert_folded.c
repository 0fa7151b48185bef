/* SPDX-License-Identifier: MIT */
/*
 * Blocks of fold_y x fold_x pixels become pixels with as many times the channels (struct cermet_plan_io): each holds a
 * run of fold_x * channels bytes of each of fold_y rows.
 *
 * Byte i of an atom comes from byte i of a vector that begins as many bytes before its run as the run's first byte has
 * bytes before it in the atom: so an atom is the sum of one load, masked, of each run that it has a part of. Loads
 * never begin before the tensor, since what is before a run in its atom is a run of a row above; pixels whose loads would
 * end behind the tensor, and the block that the right edge cuts, are put together byte by byte.
 */
#include "convert_folded.h"

#include "atom.h"
#include "plan.h"

#ifdef WIDE_MOVES
#define FOLDED_IN cermet_folded_in_avx2
#else
#define FOLDED_IN cermet_folded_in
#endif

/* The part of a run that lies in an atom: where the load begins, from the block's first byte, and what to keep of it. */
struct part {
	size_t offset;
	atom mask;
};

/* What the atoms of one surface consist of, in a row of blocks. */
struct recipe {
	struct part parts[ATOM_BYTES]; /* a byte each, at least */
	uint32_t num_parts;
	atom flip;
	atom fill;
};

/* A row of blocks. */
struct row {
	const uint8_t *from; /* its first pixel in the tensor */
	size_t bytes_left;   /* from there to the tensor's end */
	uint32_t num_rows;   /* of the tensor, in this row of blocks: fewer than fold_y at the lower edge */
};

static struct recipe
recipe_of(const struct cermet_plan_io *io, uint32_t num_rows, uint32_t first_channel)
{
	const uint32_t run_bytes = io->fold_x * io->channels, end_channel = first_channel + ATOM_BYTES;
	struct recipe recipe;
	atom used = repeat(0);

	recipe.num_parts = 0;
	for (uint32_t y = 0; y < num_rows; y++) {
		const uint32_t start = y * run_bytes, end = start + run_bytes;
		const uint32_t from = start > first_channel ? start - first_channel : 0;
		const uint32_t to = end < end_channel ? end - first_channel : ATOM_BYTES;
		struct part *part = &recipe.parts[recipe.num_parts];

		if (start >= end_channel || end <= first_channel)
			continue;
		part->offset = (size_t)y * io->width * io->channels + first_channel - start;
		part->mask = first_bytes(to) & ~first_bytes(from);
		used |= part->mask;
		recipe.num_parts++;
	}
	recipe.flip = repeat(io->flip) & used;
	recipe.fill = repeat(io->fill) & ~used;
	return recipe;
}

/* Blocks of a row that are whole and whose loads end in the tensor. Later parts begin later. */
static uint32_t
num_whole_blocks(const struct cermet_plan_io *io, const struct row *row, const struct recipe *recipe)
{
	const size_t run_bytes = (size_t)io->fold_x * io->channels;
	const size_t end = recipe->num_parts > 0 ? recipe->parts[recipe->num_parts - 1].offset + ATOM_BYTES : 0;
	uint32_t count = io->width / io->fold_x;

	while (count > 0 && (count - 1) * run_bytes + end > row->bytes_left)
		count--;
	return count;
}

INLINE void
join(const uint8_t *from, size_t step, const struct recipe *recipe, uint32_t num_parts, uint32_t count, uint8_t *to)
{
	const atom flip = recipe->flip, fill = recipe->fill;
	struct part parts[ATOM_BYTES]; /* a copy, which the compiler knows that no store changes */

	memcpy(parts, recipe->parts, num_parts * sizeof(parts[0]));
	for (; count > 0; count--, from += step, to += ATOM_BYTES) {
		atom value = fill;

		for (uint32_t i = 0; i < num_parts; i++)
			value |= load(from + parts[i].offset) & parts[i].mask;
		store(to, value ^ flip);
	}
}

/* With the usual numbers of parts known to the compiler. */
static void
join_whole(const uint8_t *from, size_t step, const struct recipe *recipe, uint32_t count, uint8_t *to)
{
	switch (recipe->num_parts) {
	case 1:
		join(from, step, recipe, 1, count, to);
		break;
	case 2:
		join(from, step, recipe, 2, count, to);
		break;
	case 3:
		join(from, step, recipe, 3, count, to);
		break;
	default:
		join(from, step, recipe, recipe->num_parts, count, to);
	}
}

static void
join_bytewise(const struct cermet_plan_io *io, const struct row *row, uint32_t first_channel, uint32_t block, uint8_t *to)
{
	const uint32_t run_bytes = io->fold_x * io->channels;
	const size_t row_bytes = (size_t)io->width * io->channels, first = (size_t)block * run_bytes;

	for (uint32_t i = 0; i < ATOM_BYTES; i++) {
		const uint32_t y = (first_channel + i) / run_bytes;
		const size_t x = first + (first_channel + i) % run_bytes;

		to[i] = y < row->num_rows && x < row_bytes ? row->from[y * row_bytes + x] ^ io->flip : io->fill;
	}
}

/* One surface of one image, whose first row of blocks comes from `row`. */
static void
surface_in(const struct cermet_plan_io *io, const struct cermet_plan_io *map, struct row row, uint32_t first_channel,
           uint8_t *to)
{
	const size_t block_bytes = (size_t)io->fold_x * io->channels, row_bytes = (size_t)io->width * io->channels;
	struct recipe recipe = recipe_of(io, io->fold_y, first_channel);

	for (uint32_t rows_left = io->height; rows_left > 0; rows_left -= row.num_rows, to += io->line_stride_bytes) {
		uint32_t num_whole;

		row.num_rows = io->fold_y;
		if (rows_left < io->fold_y) {
			row.num_rows = rows_left;
			recipe = recipe_of(io, rows_left, first_channel);
		}
		/* To read rows in turn hides from a processor that one block of them follows the other. */
		if (row.bytes_left >= 2 * io->fold_y * row_bytes)
			fetch(row.from + io->fold_y * row_bytes, io->fold_y * row_bytes);
		num_whole = num_whole_blocks(io, &row, &recipe);
		join_whole(row.from, block_bytes, &recipe, num_whole, to);
		for (uint32_t block = num_whole; block < map->width; block++)
			join_bytewise(io, &row, first_channel, block, to + (size_t)block * ATOM_BYTES);
		row.from += row.num_rows * row_bytes;
		row.bytes_left -= row.num_rows * row_bytes;
	}
}

/* Surface by surface: what an atom of it consists of is found once. */
void
FOLDED_IN(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo)
{
	const struct cermet_plan_io map = cermet_io_of_map(io);
	const size_t image_bytes = (size_t)io->height * io->width * io->channels;
	struct row row = {.from = tensor, .bytes_left = cermet_io_num_bytes(io)};

	for (uint32_t image = 0; image < io->batch; image++, row.from += image_bytes, row.bytes_left -= image_bytes) {
		uint8_t *to = bo + io->offset_bytes + (size_t)image * io->batch_stride_bytes;

		for (uint32_t c = 0; c < map.channels; c += ATOM_BYTES, to += io->surface_stride_bytes)
			surface_in(io, &map, row, c, to);
	}
}
