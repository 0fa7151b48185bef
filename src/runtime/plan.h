/* SPDX-License-Identifier: MIT */
/* Reading a plan (cermet_plan.h): everything is checked once here, so that those who use it need not. */
#ifndef CERMET_PLAN_READER_H
#define CERMET_PLAN_READER_H

#include "base.h"
#include "cermet_plan.h"

struct cermet_plan_view {
	const uint8_t *bytes;
	size_t num_bytes;
	const struct cermet_plan_header *header;
	const struct cermet_plan_node *nodes;
	const struct cermet_plan_partition *partitions;
	const char *strings;
};

/* What a plan must be for; a NULL member is not compared. */
struct cermet_plan_expectation {
	const uint8_t *key;
	const char *build_id;
	const char *soc;
};

/* Check the whole file; `bytes` must be 8-byte aligned and outlive the view. */
bool
cermet_plan_open(const void *bytes, size_t num_bytes, const struct cermet_plan_expectation *expected,
                 struct cermet_plan_view *view, struct cermet_error *error);

/* A partition's table; valid after cermet_plan_open, as long as the plan's bytes. */
#define CERMET_PLAN_TABLE(view, offset, type) ((const type *)(const void *)((view)->bytes + (offset)))

/* The checksum that belongs into a plan's header; num_bytes is a header's at least. */
struct cermet_plan_checksum {
	uint64_t sum, products;
};

struct cermet_plan_checksum
cermet_plan_checksum(const void *bytes, size_t num_bytes);

/* Bytes of a tensor that crosses the border, as TFLite holds it. */
size_t
cermet_io_num_bytes(const struct cermet_plan_io *io);

/* Surfaces of 16 channels of the atoms layout. */
uint32_t
cermet_io_num_surfaces(const struct cermet_plan_io *io);

/* The io of an input's feature map as the NPU sees it: of the blocks where it is folded, else the same. */
struct cermet_plan_io
cermet_io_of_map(const struct cermet_plan_io *io);

/* Offset in its BO of an output's last atom (packed: of the last row's last up to 16 bytes); *num_bytes gets its size. */
size_t
cermet_io_last_atom(const struct cermet_plan_io *io, size_t *num_bytes);

#endif
