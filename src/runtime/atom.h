/* SPDX-License-Identifier: MIT */
/* An atom is 16 bytes: one vector register on every machine that we support, through GCC's vector extension. */
#ifndef CERMET_ATOM_H
#define CERMET_ATOM_H

#include "wide.h"

#include <stdint.h>
#include <string.h>

#define ATOM_BYTES 16
#define LINE_BYTES 64 /* of a cache, at least */

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

/* Asks for bytes that will be read. */
INLINE void
fetch(const uint8_t *from, size_t num_bytes)
{
	for (size_t i = 0; i < num_bytes; i += LINE_BYTES)
		__builtin_prefetch(from + i);
}

#endif
