/* SPDX-License-Identifier: MIT */
/*
 * Conversions between TFLite's NHWC bytes and the NPU's atoms, next to memcpy of the same bytes on this machine.
 * Prints one line per shape: height width channels, then GB/s of memcpy, in and out with the tensor in the caches, and
 * of the three again with a tensor in memory, where a DMA has just put it. Built and run by convert.py.
 */
#include "convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPEATS 7
#define BYTES_PER_TIMING (64u << 20)
#define BEYOND_CACHES (64u << 20) /* bytes of tensors, and at least as many of BOs */

static const uint32_t shapes[][3] = {
	{224, 224, 3}, {112, 112, 16}, {112, 112, 32}, {56, 56, 24}, {56, 56, 64}, {28, 28, 192},
	{14, 14, 512}, {7, 7, 1024}, {1, 1, 1001}, {112, 112, 96}, {80, 80, 255}, {513, 513, 21},
};

/* Pairs of a tensor and a BO that the actions take in turn. */
struct timing {
	const struct cermet_plan_io *io;
	uint8_t *tensors;
	uint8_t *bos;
	size_t num_bytes; /* of a tensor */
	size_t tensor_stride;
	size_t bo_stride;
	size_t num_pairs;
};

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static void
copy(const struct timing *t, uint8_t *tensor, uint8_t *bo)
{
	memcpy(bo, tensor, t->num_bytes);
	__asm__ volatile("" ::: "memory");
}

static void
convert_in(const struct timing *t, uint8_t *tensor, uint8_t *bo)
{
	cermet_convert_in(t->io, tensor, bo);
}

static void
convert_out(const struct timing *t, uint8_t *tensor, uint8_t *bo)
{
	cermet_convert_out(t->io, bo, tensor);
}

/* GB/s of tensor bytes, of the best repeat. */
static double
speed(const struct timing *t, void (*action)(const struct timing *, uint8_t *, uint8_t *))
{
	const size_t count = BYTES_PER_TIMING / t->num_bytes + 1;
	double best = 1e9;

	for (int repeat = 0; repeat < REPEATS; repeat++) {
		double start = now(), duration;

		for (size_t i = 0; i < count; i++)
			action(t, t->tensors + i % t->num_pairs * t->tensor_stride, t->bos + i % t->num_pairs * t->bo_stride);
		duration = now() - start;
		if (duration < best)
			best = duration;
	}
	return (double)count * t->num_bytes / best * 1e-9;
}

static void
print_speeds(const struct timing *t)
{
	printf(" %.3f %.3f %.3f", speed(t, copy), speed(t, convert_in), speed(t, convert_out));
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const uint32_t height = shapes[i][0], width = shapes[i][1], channels = shapes[i][2];
		const uint32_t surface = height * width * 16, num_surfaces = (channels + 15) / 16;
		const struct cermet_plan_io io = {
			.layout = CERMET_LAYOUT_ATOMS, .batch = 1, .height = height, .width = width, .channels = channels,
			.batch_stride_bytes = surface * num_surfaces, .line_stride_bytes = width * 16,
			.surface_stride_bytes = surface, .flip = 0x80,
		};
		struct timing t = {.io = &io, .num_bytes = (size_t)height * width * channels, .num_pairs = 1};

		t.tensor_stride = (t.num_bytes + 63) & ~(size_t)63;
		t.bo_stride = ((size_t)surface * num_surfaces + 63) & ~(size_t)63;
		const size_t num_pairs = BEYOND_CACHES / t.tensor_stride + 1;
		t.tensors = aligned_alloc(64, num_pairs * t.tensor_stride);
		t.bos = aligned_alloc(64, num_pairs * t.bo_stride);
		if (t.tensors == NULL || t.bos == NULL)
			return 1;
		memset(t.tensors, 1, num_pairs * t.tensor_stride);
		memset(t.bos, 2, num_pairs * t.bo_stride);
		printf("%u %u %u", height, width, channels);
		print_speeds(&t);
		t.num_pairs = num_pairs;
		print_speeds(&t);
		printf("\n");
		fflush(stdout);
		free(t.tensors);
		free(t.bos);
	}
	return 0;
}
