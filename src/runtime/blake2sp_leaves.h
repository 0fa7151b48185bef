/* SPDX-License-Identifier: MIT */
/* What blake2sp.c chooses from: eight leaves at once, for the baseline processor and for x86-64 with AVX2. */
#ifndef CERMET_BLAKE2SP_LEAVES_H
#define CERMET_BLAKE2SP_LEAVES_H

#include <stdint.h>

#define CERMET_LEAVES 8
#define CERMET_LEAF_BYTES 64 /* a block */
#define CERMET_STRIPE_BYTES (CERMET_LEAVES * CERMET_LEAF_BYTES)

/* RFC 7693 section 2.6: the initialisation vector of BLAKE2s. */
#define CERMET_BLAKE2S_INITIAL \
	{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

struct cermet_leaves {
	uint32_t state[8][CERMET_LEAVES]; /* word by word */
	/* Of the block that comes: how many bytes of its leaf are hashed with it, low and high word; whether it is its
	 * leaf's last; whether it is the last of the last leaf. All ones for yes. */
	uint32_t block[4][CERMET_LEAVES];
};

/* Compress a block of each leaf, one behind the other. */
void
cermet_blake2sp_stripe(struct cermet_leaves *leaves, const uint8_t *stripe);

void
cermet_blake2sp_stripe_avx2(struct cermet_leaves *leaves, const uint8_t *stripe);

#endif
