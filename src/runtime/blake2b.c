/* SPDX-License-Identifier: MIT */
#include "blake2b.h"

#include <string.h>

#define BLOCK_BYTES 128
#define NUM_ROUNDS 12

/* RFC 7693 section 2.6: the initialisation vector. */
static const uint64_t initial[8] = {
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

/* RFC 7693 section 2.7: the order of message words; rounds 10 and 11 repeat 0 and 1. */
static const uint8_t sigma[NUM_ROUNDS][16] = {
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
	{11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
	{9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
	{12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
	{6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
	{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

static inline uint64_t
rotate_right(uint64_t value, unsigned count)
{
	return value >> count | value << (64 - count);
}

/* RFC 7693 section 3.1: the mixing function G. */
static inline __attribute__((always_inline)) void
mix(uint64_t v[16], int a, int b, int c, int d, uint64_t x, uint64_t y)
{
	v[a] += v[b] + x;
	v[d] = rotate_right(v[d] ^ v[a], 32);
	v[c] += v[d];
	v[b] = rotate_right(v[b] ^ v[c], 24);
	v[a] += v[b] + y;
	v[d] = rotate_right(v[d] ^ v[a], 16);
	v[c] += v[d];
	v[b] = rotate_right(v[b] ^ v[c], 63);
}

/* RFC 7693 section 3.2: the compression function F. */
static void
compress(struct cermet_blake2b *hash, const uint8_t *block, uint64_t last_mask)
{
	uint64_t v[16], m[16];

	memcpy(m, block, sizeof(m));
	memcpy(v, hash->state, sizeof(hash->state));
	memcpy(v + 8, initial, sizeof(initial));
	v[12] ^= hash->num_bytes;
	v[14] ^= last_mask;
	for (int round = 0; round < NUM_ROUNDS; round++) {
		const uint8_t *s = sigma[round];

		mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]]);
		mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]]);
		mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]]);
		mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]]);
		mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]]);
		mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]]);
		mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]]);
		mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]]);
	}
	for (int i = 0; i < 8; i++)
		hash->state[i] ^= v[i] ^ v[i + 8];
}

void
cermet_blake2b_start(struct cermet_blake2b *hash, size_t digest_bytes)
{
	memset(hash, 0, sizeof(*hash));
	memcpy(hash->state, initial, sizeof(initial));
	hash->state[0] ^= 0x01010000 ^ digest_bytes;
}

void
cermet_blake2b_add(struct cermet_blake2b *hash, const void *data, size_t num_bytes)
{
	const uint8_t *at = data;

	while (num_bytes > 0) {
		size_t room = BLOCK_BYTES - hash->num_buffered;
		size_t count = num_bytes < room ? num_bytes : room;

		if (room == 0) { /* full, and not the last block as more follows */
			hash->num_bytes += BLOCK_BYTES;
			compress(hash, hash->buffer, 0);
			hash->num_buffered = 0;
			for (; num_bytes > BLOCK_BYTES; at += BLOCK_BYTES, num_bytes -= BLOCK_BYTES) {
				hash->num_bytes += BLOCK_BYTES;
				compress(hash, at, 0);
			}
			continue;
		}
		memcpy(hash->buffer + hash->num_buffered, at, count);
		hash->num_buffered += count;
		at += count;
		num_bytes -= count;
	}
}

void
cermet_blake2b_finish(struct cermet_blake2b *hash, uint8_t *digest, size_t digest_bytes)
{
	hash->num_bytes += hash->num_buffered;
	memset(hash->buffer + hash->num_buffered, 0, BLOCK_BYTES - hash->num_buffered);
	compress(hash, hash->buffer, UINT64_MAX);
	memcpy(digest, hash->state, digest_bytes);
}
