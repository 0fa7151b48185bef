/* SPDX-License-Identifier: MIT */
/*
 * The bytes go to the leaves in stripes, a block for each. A leaf must know its last block, so a stripe is compressed
 * when every leaf has a byte behind it; up to two stripes are left for the end.
 */
#include "blake2sp.h"

#include "wide.h"

#include <string.h>

#ifndef __x86_64__
#define cermet_blake2sp_stripe_avx2 cermet_blake2sp_stripe
#endif

#define MOST_LEFT (CERMET_STRIPE_BYTES + CERMET_STRIPE_BYTES - CERMET_LEAF_BYTES)
/* RFC 7693 section 2.8 with the tree's parameters: digest 32 bytes, no key, fanout 8, depth 2, inner digests 32 bytes. */
#define TREE 0x02080020u
#define INNER_BYTES 0x20000000u

enum { BYTES_LOW, BYTES_HIGH, IS_LAST, IS_LAST_LEAF };

static void
compress(struct cermet_leaves *leaves, const uint8_t *stripe)
{
	(HAS_AVX2 ? cermet_blake2sp_stripe_avx2 : cermet_blake2sp_stripe)(leaves, stripe);
}

/* Nodes 0 to 7 of a depth: the leaves are at 0, the root is node 0 at 1. */
static void
start(struct cermet_leaves *leaves, uint32_t depth)
{
	static const uint32_t initial[8] = CERMET_BLAKE2S_INITIAL;

	for (int i = 0; i < 8; i++)
		for (uint32_t leaf = 0; leaf < CERMET_LEAVES; leaf++)
			leaves->state[i][leaf] = initial[i];
	for (uint32_t leaf = 0; leaf < CERMET_LEAVES; leaf++) {
		leaves->state[0][leaf] ^= TREE;
		leaves->state[2][leaf] ^= leaf;
		leaves->state[3][leaf] ^= depth << 16 | INNER_BYTES;
	}
	memset(leaves->block, 0, sizeof(leaves->block));
}

static void
set_num_bytes(struct cermet_leaves *leaves, int leaf, uint64_t num_bytes)
{
	leaves->block[BYTES_LOW][leaf] = (uint32_t)num_bytes;
	leaves->block[BYTES_HIGH][leaf] = (uint32_t)(num_bytes >> 32);
}

void
cermet_blake2sp_start(struct cermet_blake2sp *hash)
{
	start(&hash->leaves, 0);
	hash->num_bytes = 0;
	hash->num_buffered = 0;
}

/* A stripe of whole blocks, none its leaf's last. */
static void
add_stripe(struct cermet_blake2sp *hash, const uint8_t *stripe)
{
	hash->num_bytes += CERMET_LEAF_BYTES;
	for (int leaf = 0; leaf < CERMET_LEAVES; leaf++)
		set_num_bytes(&hash->leaves, leaf, hash->num_bytes);
	compress(&hash->leaves, stripe);
}

void
cermet_blake2sp_add(struct cermet_blake2sp *hash, const void *data, size_t num_bytes)
{
	const uint8_t *at = data;

	while (hash->num_buffered + num_bytes > MOST_LEFT) {
		size_t count = CERMET_STRIPE_BYTES - hash->num_buffered;

		if (hash->num_buffered == 0) { /* straight from the data */
			add_stripe(hash, at);
		} else if (hash->num_buffered < CERMET_STRIPE_BYTES) {
			memcpy(hash->buffer + hash->num_buffered, at, count);
			add_stripe(hash, hash->buffer);
			hash->num_buffered = 0;
		} else {
			add_stripe(hash, hash->buffer);
			hash->num_buffered -= CERMET_STRIPE_BYTES;
			memmove(hash->buffer, hash->buffer + CERMET_STRIPE_BYTES, hash->num_buffered);
			continue;
		}
		at += count;
		num_bytes -= count;
	}
	memcpy(hash->buffer + hash->num_buffered, at, num_bytes);
	hash->num_buffered += num_bytes;
}

/* Compress a stripe of which only the chosen leaves have a block. */
static void
compress_some(struct cermet_leaves *leaves, const uint8_t *stripe, const uint8_t is_chosen[CERMET_LEAVES])
{
	const struct cermet_leaves before = *leaves;

	compress(leaves, stripe);
	for (int i = 0; i < 8; i++)
		for (int leaf = 0; leaf < CERMET_LEAVES; leaf++)
			if (!is_chosen[leaf])
				leaves->state[i][leaf] = before.state[i][leaf];
}

/* One of the two stripes that may be left: a leaf's block of it is its last when the leaf has none in the second. */
static void
finish_stripe(struct cermet_blake2sp *hash, size_t offset)
{
	uint8_t is_chosen[CERMET_LEAVES];

	for (int leaf = 0; leaf < CERMET_LEAVES; leaf++) {
		const size_t start = offset + (size_t)leaf * CERMET_LEAF_BYTES;
		const size_t left = hash->num_buffered > start ? hash->num_buffered - start : 0;
		const bool is_last = left <= CERMET_STRIPE_BYTES;

		is_chosen[leaf] = offset == 0 || left > 0;
		set_num_bytes(&hash->leaves, leaf, hash->num_bytes + (left < CERMET_LEAF_BYTES ? left : CERMET_LEAF_BYTES));
		hash->leaves.block[IS_LAST][leaf] = is_last ? UINT32_MAX : 0;
		hash->leaves.block[IS_LAST_LEAF][leaf] = is_last && leaf == CERMET_LEAVES - 1 ? UINT32_MAX : 0;
	}
	hash->num_bytes += CERMET_LEAF_BYTES;
	compress_some(&hash->leaves, hash->buffer + offset, is_chosen);
}

/* The root is the first of eight leaves, whose others do not matter: it hashes the leaves' digests. */
static void
finish_root(const struct cermet_leaves *leaves, uint8_t digest[CERMET_HASH_BYTES])
{
	const int num_blocks = CERMET_LEAVES * CERMET_HASH_BYTES / CERMET_LEAF_BYTES;
	uint8_t stripe[CERMET_STRIPE_BYTES] = {0};
	struct cermet_leaves root;

	start(&root, 1);
	for (int block = 0; block < num_blocks; block++) {
		for (int word = 0; word < 16; word++)
			memcpy(stripe + 4 * word, &leaves->state[word % 8][2 * block + word / 8], 4);
		set_num_bytes(&root, 0, (uint64_t)(block + 1) * CERMET_LEAF_BYTES);
		root.block[IS_LAST][0] = root.block[IS_LAST_LEAF][0] = block + 1 == num_blocks ? UINT32_MAX : 0;
		compress(&root, stripe);
	}
	for (int word = 0; word < 8; word++)
		memcpy(digest + 4 * word, &root.state[word][0], 4);
}

void
cermet_blake2sp_finish(struct cermet_blake2sp *hash, uint8_t digest[CERMET_HASH_BYTES])
{
	memset(hash->buffer + hash->num_buffered, 0, sizeof(hash->buffer) - hash->num_buffered);
	finish_stripe(hash, 0);
	if (hash->num_buffered > CERMET_STRIPE_BYTES)
		finish_stripe(hash, CERMET_STRIPE_BYTES);
	finish_root(&hash->leaves, digest);
}
