/* SPDX-License-Identifier: MIT */
/*
 * BLAKE2sp with 32 bytes of output and no key: the tree mode of BLAKE2s whose eight leaves take turns at blocks of 64
 * bytes, so that a processor hashes several blocks at once. RFC 7693 describes BLAKE2s, blake2.net's paper the tree.
 */
#ifndef CERMET_BLAKE2SP_H
#define CERMET_BLAKE2SP_H

#include "blake2sp_leaves.h"

#include <stddef.h>

#define CERMET_HASH_BYTES 32

struct cermet_blake2sp {
	struct cermet_leaves leaves;
	uint64_t num_bytes; /* that each leaf has hashed */
	size_t num_buffered;
	uint8_t buffer[2 * CERMET_STRIPE_BYTES];
};

void
cermet_blake2sp_start(struct cermet_blake2sp *hash);

void
cermet_blake2sp_add(struct cermet_blake2sp *hash, const void *data, size_t num_bytes);

void
cermet_blake2sp_finish(struct cermet_blake2sp *hash, uint8_t digest[CERMET_HASH_BYTES]);

#endif
