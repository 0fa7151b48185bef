/* SPDX-License-Identifier: MIT */
/* Frames into the trace file. All functions but trace_writer_is_on() are called with the recorder's lock held. */
#ifndef CERMET_TRACE_WRITER_H
#define CERMET_TRACE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cermet_trace.h"

struct piece {
   const void *data;
   size_t bytes;
};

/* Whether CERMET_TRACE_FILE names a file and writing to it has not failed. */
bool trace_writer_is_on(void);

/* Append one frame whose payload is the pieces, at most TRACE_MAX_FRAME_BYTES together. False: it was not written. */
bool trace_write(uint8_t kind, const struct piece *pieces, size_t num_pieces);

/* Whether the file has reached CERMET_TRACE_LIMIT bytes: then only calls are written, no pages. */
bool trace_is_full(void);

/* A NOTE. */
void trace_note(uint32_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint64_t trace_now_ns(void);

#endif
