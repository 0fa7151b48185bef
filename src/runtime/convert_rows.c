/* SPDX-License-Identifier: MIT */
/*
 * The loops of convert.c, compiled once for the baseline processor and, on x86-64, once with -mavx2.
 *
 * An atom is 16 bytes: one vector register on every machine that we support, through GCC's vector extension. Atoms move
 * two at a time, since stores are what limits: two pixels of a surface on the way in, two surfaces of a pixel on the way
 * out. With channels % 16 != 0 a move touches up to 15 bytes of the tensor that belong to the next pixels, so the
 * last pixels of the tensor are moved bytewise, and on the way out what is spilled is written again later.
 */
#include "convert_rows.h"

#include "plan.h"

#include <string.h>

#ifdef WIDE_MOVES
#include <immintrin.h>
#define CONVERT_IN cermet_rows_in_avx2
#define CONVERT_OUT cermet_rows_out_avx2
#else
#define CONVERT_IN cermet_rows_in
#define CONVERT_OUT cermet_rows_out
#endif

#define ATOM_BYTES 16
#define BLOCK_BYTES 16384 /* of a tensor, moved surface by surface: with its atoms in a first cache of 32 KiB */
#define INLINE static inline __attribute__((always_inline))

typedef uint8_t atom __attribute__((vector_size(ATOM_BYTES)));

INLINE atom
load(const uint8_t *from)
{
	atom value;

	memcpy(&value, from, sizeof(value));
	return value;
}

INLINE void
store(uint8_t *to, atom value)
{
	memcpy(to, &value, sizeof(value));
}

INLINE atom
repeat(uint8_t byte)
{
	return (atom){0} + byte;
}

/* 0xff in the first `count` bytes. */
INLINE atom
first_bytes(uint32_t count)
{
	static const atom numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

	return (atom)(numbers < repeat(count));
}

/* Pixels of a row of `width` whose num_bytes from `channel` on end inside the tensor; bytes_left counts from the row's
 * start to the tensor's end. */
static uint32_t
num_whole_moves(uint32_t width, uint32_t channels, uint32_t channel, uint32_t num_bytes, size_t bytes_left)
{
	size_t count;

	if (bytes_left < (size_t)channel + num_bytes)
		return 0;
	count = (bytes_left - channel - num_bytes) / channels + 1;
	return count < width ? (uint32_t)count : width;
}

/* What becomes of a byte on its way in: the mask's bits flipped, the rest filled. */
struct change {
	atom mask;
	atom flip;
	atom fill;
};

INLINE atom
changed(atom value, const struct change *change)
{
	return ((value & change->mask) ^ change->flip) | change->fill;
}

/* Two atoms from anywhere, changed, to 32 bytes in a row. */
INLINE void
move_two(const uint8_t *first, const uint8_t *second, uint8_t *to, const struct change *change)
{
#ifdef WIDE_MOVES
	const __m256i value = _mm256_set_m128i((__m128i)load(second), (__m128i)load(first));
	const __m256i mask = _mm256_broadcastsi128_si256((__m128i)change->mask);
	const __m256i flip = _mm256_broadcastsi128_si256((__m128i)change->flip);
	const __m256i fill = _mm256_broadcastsi128_si256((__m128i)change->fill);

	_mm256_storeu_si256((__m256i *)to, ((value & mask) ^ flip) | fill);
#else
	store(to, changed(load(first), change));
	store(to + ATOM_BYTES, changed(load(second), change));
#endif
}

/* Pixels of one surface that follow each other, `used` channels per atom, the rest gets `fill`. */
INLINE void
surface_in(const uint8_t *from, uint8_t *to, const struct cermet_plan_io *io, uint32_t used, uint32_t num_pixels,
           uint32_t num_whole)
{
	const atom mask = first_bytes(used);
	const struct change change = {mask, repeat(io->flip) & mask, repeat(io->fill) & ~mask};
	const size_t channels = io->channels;
	uint32_t left = num_whole;

	for (; left >= 2; left -= 2, from += 2 * channels, to += 2 * ATOM_BYTES)
		move_two(from, from + channels, to, &change);
	for (; left > 0; left--, from += channels, to += ATOM_BYTES)
		store(to, changed(load(from), &change));
	for (left = num_pixels - num_whole; left > 0; left--, from += channels, to += ATOM_BYTES) {
		uint8_t bytes[ATOM_BYTES] = {0};

		memcpy(bytes, from, used);
		store(to, changed(load(bytes), &change));
	}
}

/* Pixels of one or two surfaces, `used` channels per pixel of them together. */
INLINE void
surfaces_out(const uint8_t *from, uint8_t *to, const struct cermet_plan_io *io, uint32_t used, uint32_t num_pixels,
             uint32_t num_whole)
{
	const uint8_t *second = used > ATOM_BYTES ? from + io->surface_stride_bytes : from;
	const struct change change = {first_bytes(ATOM_BYTES), repeat(io->flip), repeat(0)};
	const size_t channels = io->channels;
	uint32_t left = num_whole;

	if (used > ATOM_BYTES)
		for (; left > 0; left--, from += ATOM_BYTES, second += ATOM_BYTES, to += channels)
			move_two(from, second, to, &change);
	for (; left > 0; left--, from += ATOM_BYTES, second += ATOM_BYTES, to += channels)
		store(to, changed(load(from), &change));
	for (left = num_pixels - num_whole; left > 0; left--, from += ATOM_BYTES, second += ATOM_BYTES, to += channels) {
		uint8_t bytes[2 * ATOM_BYTES];

		move_two(from, second, bytes, &change);
		memcpy(to, bytes, used);
	}
}

INLINE void
copy(const uint8_t *from, uint8_t *to, size_t num_bytes, uint8_t flip)
{
	if (flip == 0) {
		memcpy(to, from, num_bytes);
		return;
	}
	for (size_t i = 0; i < num_bytes; i++)
		to[i] = from[i] ^ flip;
}

/* Atoms lie as the tensor does: 16 channels, or a single pixel whose surfaces follow each other. */
INLINE bool
lies_the_same(const struct cermet_plan_io *io)
{
	return io->channels == ATOM_BYTES ||
	       (io->width == 1 && io->height == 1 && io->surface_stride_bytes == ATOM_BYTES);
}

/* All surfaces of pixels that follow each other. */
INLINE void
pixels_in(const struct cermet_plan_io *io, const uint8_t *from, size_t bytes_left, uint32_t num_pixels, uint8_t *to)
{
	const uint32_t channels = io->channels;
	const size_t num_bytes = (size_t)num_pixels * channels;

	if (io->layout == CERMET_LAYOUT_PACKED || lies_the_same(io)) {
		copy(from, to, num_bytes, io->flip);
		if (io->layout == CERMET_LAYOUT_ATOMS)
			memset(to + num_bytes, io->fill, -num_bytes % ATOM_BYTES);
		return;
	}
	for (uint32_t c = 0; c < channels; c += ATOM_BYTES, to += io->surface_stride_bytes)
		surface_in(from + c, to, io, channels - c < ATOM_BYTES ? channels - c : ATOM_BYTES, num_pixels,
		           num_whole_moves(num_pixels, channels, c, ATOM_BYTES, bytes_left));
}

/* The last surfaces go first: what their stores spill is the beginning of the next pixel, in this call (written by the
 * surfaces before them) or the next. */
INLINE void
pixels_out(const struct cermet_plan_io *io, const uint8_t *from, size_t bytes_left, uint32_t num_pixels, uint8_t *to)
{
	const uint32_t channels = io->channels;

	if (io->layout == CERMET_LAYOUT_PACKED || lies_the_same(io)) {
		copy(from, to, (size_t)num_pixels * channels, io->flip);
		return;
	}
	for (uint32_t end = channels; end > 0;) {
		const uint32_t first = (end - 1) / (2 * ATOM_BYTES) * (2 * ATOM_BYTES), used = end - first;
		const uint32_t moved = used > ATOM_BYTES ? 2 * ATOM_BYTES : ATOM_BYTES;

		surfaces_out(from + (size_t)(first / ATOM_BYTES) * io->surface_stride_bytes, to + first, io, used, num_pixels,
		             num_whole_moves(num_pixels, channels, first, moved, bytes_left));
		end = first;
	}
}

/* Rows that are moved at once: one, or where rows follow each other what stays in the first cache. */
INLINE uint32_t
rows_at_once(const struct cermet_plan_io *io)
{
	const size_t row_bytes = (size_t)io->width * io->channels;
	const size_t stored = io->layout == CERMET_LAYOUT_PACKED ? row_bytes : (size_t)io->width * ATOM_BYTES;

	if (io->line_stride_bytes != stored || row_bytes > BLOCK_BYTES)
		return 1;
	return (uint32_t)(BLOCK_BYTES / row_bytes);
}

static size_t
row_offset(const struct cermet_plan_io *io, uint32_t image, uint32_t row)
{
	return io->offset_bytes + (size_t)image * io->batch_stride_bytes + (size_t)row * io->line_stride_bytes;
}

void
CONVERT_IN(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo)
{
	const uint32_t step = rows_at_once(io);
	size_t bytes_left = cermet_io_num_bytes(io);

	for (uint32_t image = 0; image < io->batch; image++) {
		for (uint32_t row = 0; row < io->height; row += step) {
			const uint32_t num_rows = io->height - row < step ? io->height - row : step;
			const uint32_t num_pixels = num_rows * io->width;
			const size_t num_bytes = (size_t)num_pixels * io->channels;

			pixels_in(io, tensor, bytes_left, num_pixels, bo + row_offset(io, image, row));
			tensor += num_bytes;
			bytes_left -= num_bytes;
		}
	}
}

void
CONVERT_OUT(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor)
{
	const uint32_t step = rows_at_once(io);
	size_t bytes_left = cermet_io_num_bytes(io);

	for (uint32_t image = 0; image < io->batch; image++) {
		for (uint32_t row = 0; row < io->height; row += step) {
			const uint32_t num_rows = io->height - row < step ? io->height - row : step;
			const uint32_t num_pixels = num_rows * io->width;
			const size_t num_bytes = (size_t)num_pixels * io->channels;

			pixels_out(io, bo + row_offset(io, image, row), bytes_left, num_pixels, tensor);
			tensor += num_bytes;
			bytes_left -= num_bytes;
		}
	}
}
