/* SPDX-License-Identifier: MIT */
/*
 * An atom is 16 bytes: one vector register on every machine that we support, through GCC's vector extension. Most atoms
 * are moved by one unaligned load and one store. With channels % 16 != 0 such a move touches up to 15 bytes of the
 * tensor that belong to the next pixels, so the last pixels of the tensor are moved bytewise.
 */
#include "convert.h"

#include "plan.h"

#include <string.h>

#define ATOM_BYTES 16

typedef uint8_t atom __attribute__((vector_size(ATOM_BYTES)));

static inline atom
load(const uint8_t *from)
{
	atom value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static inline void
store(uint8_t *to, atom value)
{
	memcpy(to, &value, sizeof(value));
}

static inline atom
repeat(uint8_t byte)
{
	return (atom){0} + byte;
}

/* 0xff in the first `count` bytes. */
static inline atom
first_bytes(uint32_t count)
{
	static const atom numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

	return (atom)(numbers < repeat(count));
}

/* Pixels of a row of `width` whose 16 bytes from `channel` on end inside the tensor; bytes_left counts from the row's
 * start to the tensor's end. */
static uint32_t
num_whole_loads(uint32_t width, uint32_t channels, uint32_t channel, size_t bytes_left)
{
	size_t count;

	if (bytes_left < (size_t)channel + ATOM_BYTES)
		return 0;
	count = (bytes_left - channel - ATOM_BYTES) / channels + 1;
	return count < width ? (uint32_t)count : width;
}

/* One row of one surface whose atoms are full. */
static inline void
full_row_in(const uint8_t *from, uint8_t *to, uint32_t width, size_t channels, atom flip)
{
	for (uint32_t x = 0; x < width; x++)
		store(to + x * (size_t)ATOM_BYTES, load(from + x * channels) ^ flip);
}

static inline void
full_row_out(const uint8_t *from, uint8_t *to, uint32_t width, size_t channels, atom flip)
{
	for (uint32_t x = 0; x < width; x++)
		store(to + x * channels, load(from + x * (size_t)ATOM_BYTES) ^ flip);
}

/* One row of the last surface, `used` channels per atom, the rest gets `fill`. */
static void
partial_row_in(const uint8_t *from, uint8_t *to, uint32_t width, size_t channels, uint32_t used,
               uint32_t num_whole, const struct cermet_plan_io *io)
{
	const atom mask = first_bytes(used), flip = repeat(io->flip) & mask, fill = repeat(io->fill) & ~mask;
	uint32_t x = 0;

	for (; x < num_whole; x++)
		store(to + x * (size_t)ATOM_BYTES, ((load(from + x * channels) & mask) ^ flip) | fill);
	for (; x < width; x++) {
		uint8_t bytes[ATOM_BYTES] = {0};

		memcpy(bytes, from + x * channels, used);
		store(to + x * (size_t)ATOM_BYTES, (load(bytes) ^ flip) | fill);
	}
}

/* One row of the last surface. Whole stores spill into the pixels behind, which must be written later. */
static void
partial_row_out(const uint8_t *from, uint8_t *to, uint32_t width, size_t channels, uint32_t used,
                uint32_t num_whole, atom flip)
{
	uint32_t x = 0;

	for (; x < num_whole; x++)
		store(to + x * channels, load(from + x * (size_t)ATOM_BYTES) ^ flip);
	for (; x < width; x++) {
		uint8_t bytes[ATOM_BYTES];

		store(bytes, load(from + x * (size_t)ATOM_BYTES) ^ flip);
		memcpy(to + x * channels, bytes, used);
	}
}

static void
packed_row(const uint8_t *from, uint8_t *to, size_t num_bytes, uint8_t flip)
{
	if (flip == 0) {
		memcpy(to, from, num_bytes);
		return;
	}
	for (size_t i = 0; i < num_bytes; i++)
		to[i] = from[i] ^ flip;
}

static size_t
row_offset(const struct cermet_plan_io *io, uint32_t image, uint32_t row)
{
	return io->offset_bytes + (size_t)image * io->batch_stride_bytes + (size_t)row * io->line_stride_bytes;
}

/* One row of all surfaces. */
static void
row_in(const struct cermet_plan_io *io, const uint8_t *from, size_t bytes_left, uint8_t *to)
{
	const uint32_t used = io->channels % ATOM_BYTES, num_full = io->channels / ATOM_BYTES;
	const atom flip = repeat(io->flip);

	for (uint32_t s = 0; s < num_full; s++)
		full_row_in(from + s * ATOM_BYTES, to + (size_t)s * io->surface_stride_bytes, io->width, io->channels, flip);
	if (used > 0)
		partial_row_in(from + num_full * ATOM_BYTES, to + (size_t)num_full * io->surface_stride_bytes, io->width,
		               io->channels, used,
		               num_whole_loads(io->width, io->channels, num_full * ATOM_BYTES, bytes_left), io);
}

/* The last surface goes first: what its stores spill is the beginning of the next pixel, in this row (written by the
 * full surfaces below) or the next. */
static void
row_out(const struct cermet_plan_io *io, const uint8_t *from, uint8_t *to, size_t bytes_left)
{
	const uint32_t used = io->channels % ATOM_BYTES, num_full = io->channels / ATOM_BYTES;
	const atom flip = repeat(io->flip);

	if (used > 0)
		partial_row_out(from + (size_t)num_full * io->surface_stride_bytes, to + num_full * ATOM_BYTES, io->width,
		                io->channels, used,
		                num_whole_loads(io->width, io->channels, num_full * ATOM_BYTES, bytes_left), flip);
	for (uint32_t s = 0; s < num_full; s++)
		full_row_out(from + (size_t)s * io->surface_stride_bytes, to + s * ATOM_BYTES, io->width, io->channels, flip);
}

void
cermet_convert_in(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo)
{
	const size_t row_bytes = (size_t)io->width * io->channels;
	size_t bytes_left = cermet_io_num_bytes(io);

	for (uint32_t image = 0; image < io->batch; image++) {
		for (uint32_t row = 0; row < io->height; row++) {
			uint8_t *to = bo + row_offset(io, image, row);

			if (io->layout == CERMET_LAYOUT_PACKED)
				packed_row(tensor, to, row_bytes, io->flip);
			else
				row_in(io, tensor, bytes_left, to);
			tensor += row_bytes;
			bytes_left -= row_bytes;
		}
	}
}

void
cermet_convert_out(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor)
{
	const size_t row_bytes = (size_t)io->width * io->channels;
	size_t bytes_left = cermet_io_num_bytes(io);

	for (uint32_t image = 0; image < io->batch; image++) {
		for (uint32_t row = 0; row < io->height; row++) {
			const uint8_t *from = bo + row_offset(io, image, row);

			if (io->layout == CERMET_LAYOUT_PACKED)
				packed_row(from, tensor, row_bytes, io->flip);
			else
				row_out(io, from, tensor, bytes_left);
			tensor += row_bytes;
			bytes_left -= row_bytes;
		}
	}
}
