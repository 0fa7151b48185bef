/* SPDX-License-Identifier: MIT */
/* Compiled once for the baseline processor, four leaves at a time, and on x86-64 once with -mavx2, eight. */
#include "blake2sp_leaves.h"

#include "wide.h"

#include <string.h>

#ifdef WIDE_MOVES
#define STRIPE cermet_blake2sp_stripe_avx2
#define LANES 8
#define EACH_LANE(of) of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7)
#define HAS_BYTE_MOVES 1
#else
#define STRIPE cermet_blake2sp_stripe
#define LANES 4
#define EACH_LANE(of) of(0), of(1), of(2), of(3)
#ifdef __aarch64__
#define HAS_BYTE_MOVES 1
#endif
#endif

#define NUM_ROUNDS 10

/* A word of each lane. */
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(4 * LANES)));

/* RFC 7693 section 2.7: the order of message words. */
static const uint8_t sigma[NUM_ROUNDS][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
	{11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
	{9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
	{12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
	{6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

#define ROTATED(x, count) ((x) >> (count) | (x) << (32 - (count)))
#if defined(HAS_BYTE_MOVES) && __has_builtin(__builtin_shufflevector) /* one instruction, not found behind shifts */
#define BYTE_1(i) 4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * i
#define BYTE_2(i) 4 * i + 2, 4 * i + 3, 4 * i, 4 * i + 1
#define ROTATED_8(x) ((words)__builtin_shufflevector((bytes)(x), (bytes)(x), EACH_LANE(BYTE_1)))
#define ROTATED_16(x) ((words)__builtin_shufflevector((bytes)(x), (bytes)(x), EACH_LANE(BYTE_2)))
#else
#define ROTATED_8(x) ROTATED(x, 8)
#define ROTATED_16(x) ROTATED(x, 16)
#endif

/* RFC 7693 section 3.1: the mixing function G. */
INLINE void
mix(words v[16], int a, int b, int c, int d, const words *x, const words *y)
{
	v[a] += v[b] + *x;
	v[d] = ROTATED_16(v[d] ^ v[a]);
	v[c] += v[d];
	v[b] = ROTATED(v[b] ^ v[c], 12);
	v[a] += v[b] + *y;
	v[d] = ROTATED_8(v[d] ^ v[a]);
	v[c] += v[d];
	v[b] = ROTATED(v[b] ^ v[c], 7);
}

INLINE uint32_t
word_at(const uint8_t *from)
{
	uint32_t word;

	memcpy(&word, from, sizeof(word));
	return word;
}

INLINE words
load(const uint32_t *from)
{
	words loaded;

	memcpy(&loaded, from, sizeof(loaded));
	return loaded;
}

/* RFC 7693 section 3.2: the compression function F, of the leaves from `first`. */
INLINE void
compress(struct cermet_leaves *leaves, const uint8_t *stripe, int first)
{
	static const uint32_t initial[8] = CERMET_BLAKE2S_INITIAL;
	words v[16], m[16];

	for (int i = 0; i < 16; i++) {
#define WORD(lane) word_at(stripe + (first + lane) * CERMET_LEAF_BYTES + 4 * i)
		m[i] = (words){EACH_LANE(WORD)};
	}
	for (int i = 0; i < 8; i++) {
		v[i] = load(&leaves->state[i][first]);
		v[8 + i] = (words){0} + initial[i];
	}
	for (int i = 0; i < 4; i++)
		v[12 + i] ^= load(&leaves->block[i][first]);
#pragma GCC unroll 10
	for (int round = 0; round < NUM_ROUNDS; round++) {
		const uint8_t *s = sigma[round];

		mix(v, 0, 4, 8, 12, &m[s[0]], &m[s[1]]);
		mix(v, 1, 5, 9, 13, &m[s[2]], &m[s[3]]);
		mix(v, 2, 6, 10, 14, &m[s[4]], &m[s[5]]);
		mix(v, 3, 7, 11, 15, &m[s[6]], &m[s[7]]);
		mix(v, 0, 5, 10, 15, &m[s[8]], &m[s[9]]);
		mix(v, 1, 6, 11, 12, &m[s[10]], &m[s[11]]);
		mix(v, 2, 7, 8, 13, &m[s[12]], &m[s[13]]);
		mix(v, 3, 4, 9, 14, &m[s[14]], &m[s[15]]);
	}
	for (int i = 0; i < 8; i++) {
		words state = load(&leaves->state[i][first]) ^ v[i] ^ v[i + 8];

		memcpy(&leaves->state[i][first], &state, sizeof(state));
	}
}

void
STRIPE(struct cermet_leaves *leaves, const uint8_t *stripe)
{
	for (int first = 0; first < CERMET_LEAVES; first += LANES)
		compress(leaves, stripe, first);
}
