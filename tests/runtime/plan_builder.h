/* SPDX-License-Identifier: MIT */
/* Plans for the fake device: one partition that adds a number to each byte of a tensor. */
#ifndef CERMET_PLAN_BUILDER_H
#define CERMET_PLAN_BUILDER_H

#include "cache.h"

struct test_plan {
	const uint8_t *key; /* NULL: zeros */
	const char *build_id;
	const char *soc;
	uint32_t num_nodes;  /* of the graph; all are taken but the last num_on_cpu */
	uint32_t num_on_cpu;
	uint32_t input, output; /* canonical tensor numbers */
	uint32_t height, width, channels;
	uint8_t addend;
	uint32_t num_jobs; /* 0 or 1: one; 2: from the input through an arena bo to the output */
};

/* Three nodes, the last on the CPU. */
extern const struct test_plan small_plan;

/* The file, in malloc'ed memory. */
struct cermet_bytes
build_plan(const struct test_plan *plan);

/* A file that lies in memory in one piece. */
#define WHOLE(data, size) (&(struct cermet_pieces){&(struct cermet_piece){data, size}, 1})

/* Make the checksum right again after the bytes were changed. */
void
fix_checksum(struct cermet_bytes *plan);

enum table { PARTITION, BO, RELOCATION, TASK, JOB, INPUT_PORT, OUTPUT_PORT };

/* The first row of one of a plan's tables. */
uint8_t *
table_of(const struct cermet_bytes *plan, enum table table);

/* The definition in cermet_plan.h, byte by byte. */
size_t
place_of(const struct cermet_plan_io *io, uint32_t n, uint32_t h, uint32_t w, uint32_t c);

#endif
