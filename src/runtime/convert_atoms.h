/* SPDX-License-Identifier: MIT */
/*
 * What convert_rows.c is made of: one, two or four atoms on their way from or to the NPU's layout. With WIDE_MOVES a
 * register holds two.
 */
#ifndef CERMET_CONVERT_ATOMS_H
#define CERMET_CONVERT_ATOMS_H

#include "atom.h"
#include "base.h"

#ifdef WIDE_MOVES
#include <immintrin.h>
#endif

/* How far the atoms of neighbouring pixels and surfaces lie apart. */
struct pitch {
	size_t pixel_bytes;
	size_t surface_bytes;
};

/* One direction of one tensor. */
struct move {
	bool is_in;
	uint32_t channels;
	uint32_t num_surfaces;
	struct pitch from;
	struct pitch to;
	atom flip;
	atom mask; /* on the way in, the channels in atoms of the last surface */
	atom fill; /* and what the others get */
};

INLINE atom
changed(const struct move *move, atom value, bool is_last)
{
	value ^= move->flip;
	if (is_last)
		value = (value & move->mask) | move->fill;
	return value;
}

/* Four atoms are two rows of two; these are the distances of the rows. */
INLINE size_t
from_stride(const struct move *move)
{
	return move->is_in ? move->from.pixel_bytes : move->from.surface_bytes;
}

INLINE size_t
to_stride(const struct move *move)
{
	return move->is_in ? move->to.surface_bytes : move->to.pixel_bytes;
}

/* move_two: two pixels of a surface. move_four: of two surfaces. The (second) surface may be the last. */
#ifdef WIDE_MOVES
INLINE __m256i
twice(atom value)
{
	return _mm256_broadcastsi128_si256((__m128i)value);
}

INLINE __m256i
changed_two(const struct move *move, __m256i value, bool is_last)
{
	value ^= twice(move->flip);
	if (is_last)
		value = (value & twice(move->mask)) | twice(move->fill);
	return value;
}

INLINE void
move_two(const struct move *move, const uint8_t *from, uint8_t *to, bool is_last)
{
	const __m128i first = (__m128i)load(from), second = (__m128i)load(from + move->from.pixel_bytes);
	const __m256i value = changed_two(move, _mm256_set_m128i(second, first), is_last);

	if (move->is_in) {
		_mm256_storeu_si256((__m256i *)to, value);
	} else {
		_mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(value));
		_mm_storeu_si128((__m128i *)(to + move->to.pixel_bytes), _mm256_extracti128_si256(value, 1));
	}
}

INLINE void
move_four(const struct move *move, const uint8_t *from, uint8_t *to, bool is_last)
{
	const __m256i first = _mm256_loadu_si256((const __m256i *)from);
	const __m256i second = _mm256_loadu_si256((const __m256i *)(from + from_stride(move)));
	const __m256i low = _mm256_permute2x128_si256(first, second, 0x20);
	const __m256i high = _mm256_permute2x128_si256(first, second, 0x31);

	_mm256_storeu_si256((__m256i *)to, changed_two(move, low, false));
	_mm256_storeu_si256((__m256i *)(to + to_stride(move)), changed_two(move, high, is_last));
}
#else
INLINE void
move_two(const struct move *move, const uint8_t *from, uint8_t *to, bool is_last)
{
	const atom first = load(from), second = load(from + move->from.pixel_bytes);

	store(to, changed(move, first, is_last));
	store(to + move->to.pixel_bytes, changed(move, second, is_last));
}

INLINE void
move_four(const struct move *move, const uint8_t *from, uint8_t *to, bool is_last)
{
	const uint8_t *second_from = from + from_stride(move);
	uint8_t *second_to = to + to_stride(move);
	const atom a = load(from), b = load(from + ATOM_BYTES);
	const atom c = load(second_from), d = load(second_from + ATOM_BYTES);

	store(to, changed(move, a, false));
	store(to + ATOM_BYTES, changed(move, c, false));
	store(second_to, changed(move, b, is_last));
	store(second_to + ATOM_BYTES, changed(move, d, is_last));
}
#endif

#endif
