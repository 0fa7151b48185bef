/* SPDX-License-Identifier: MIT */
/* BLAKE2b with 32 bytes of output and no key (RFC 7693). */
#ifndef CERMET_BLAKE2B_H
#define CERMET_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

#define CERMET_HASH_BYTES 32

struct cermet_blake2b {
	uint64_t state[8];
	uint64_t num_bytes; /* hashed so far; models stay below 2**64 bytes */
	size_t num_buffered;
	uint8_t buffer[128];
};

void
cermet_blake2b_start(struct cermet_blake2b *hash, size_t digest_bytes);

void
cermet_blake2b_add(struct cermet_blake2b *hash, const void *data, size_t num_bytes);

/* Writes the first digest_bytes (at most 64) of the result. */
void
cermet_blake2b_finish(struct cermet_blake2b *hash, uint8_t *digest, size_t digest_bytes);

#endif
