/* SPDX-License-Identifier: MIT */
/*
 * Conversions between TFLite's NHWC bytes and the NPU's atoms on this machine, next to two copies that bound them: memcpy
 * of the same bytes, and "lines", which reads and writes in the order of the conversion but leaves the bytes in place.
 * Prints one line per shape: its name, then GB/s of the tensor's bytes in the order of `actions`, with one
 * tensor in the caches, and again with tensors in memory, where a DMA has just put them. Built and run by convert.py.
 */
#include "convert.h"
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPEATS 99
#define BYTES_PER_TIMING (2u << 20) /* so short that a busy machine, too, leaves some timings undisturbed */
#define BEYOND_CACHES (64u << 20) /* bytes of tensors, and at least as many of BOs */
#define LINE 64 /* bytes of a cache line: four atoms */
#define STRIP_SURFACES 8

/* 'a': atoms, 'v': a single pixel's, 'p': packed pixels, 'b': atoms of blocks of 2x2 pixels. */
static const struct {
	uint32_t height, width, channels;
	char layout;
} shapes[] = {
	{224, 224, 3, 'p'}, {224, 224, 3, 'b'}, {224, 224, 3, 'a'}, {112, 112, 16, 'a'}, {112, 112, 32, 'a'}, {56, 56, 24, 'a'},
	{56, 56, 64, 'a'}, {28, 28, 192, 'a'}, {14, 14, 512, 'a'}, {16, 16, 512, 'a'}, {7, 7, 1024, 'a'}, {1, 1, 1001, 'v'},
	{112, 112, 96, 'a'}, {80, 80, 255, 'a'}, {513, 513, 21, 'a'},
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
	size_t next;
};

/* Of this thread: times at which others run do not count. */
static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static void
copy(const struct timing *t, uint8_t *tensor, uint8_t *bo)
{
	memcpy(bo, tensor, t->num_bytes);
	__asm__ volatile("" ::: "memory");
}

/*
 * Whole cache lines in the conversion's order: four pixels of each surface are a line here, and a line of the tensor there.
 */
static void
copy_lines(const struct timing *t, uint8_t *tensor, uint8_t *bo, bool is_in)
{
	const struct cermet_plan_io *io = t->io;
	const uint32_t num_surfaces = cermet_io_num_surfaces(io), num_pixels = io->height * io->width & ~3u;

	for (uint32_t strip = 0; strip < num_surfaces; strip += STRIP_SURFACES) {
		const uint32_t num_lines = num_surfaces - strip < STRIP_SURFACES ? num_surfaces - strip : STRIP_SURFACES;

		for (uint32_t pixel = 0; pixel < num_pixels; pixel += 4)
			for (uint32_t i = 0; i < num_lines; i++) {
				uint8_t *there = tensor + (size_t)(pixel + i % 4) * io->channels + (strip + i / 4 * 4) * 16;
				uint8_t *here = bo + (size_t)(strip + i) * io->surface_stride_bytes + pixel * 16;

				memcpy(is_in ? here : there, is_in ? there : here, LINE);
			}
	}
}

static void
lines_in(const struct timing *t, uint8_t *tensor, uint8_t *bo)
{
	copy_lines(t, tensor, bo, true);
}

static void
lines_out(const struct timing *t, uint8_t *tensor, uint8_t *bo)
{
	copy_lines(t, tensor, bo, false);
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

/* With the layouts that have it. */
static const struct {
	void (*run)(const struct timing *, uint8_t *, uint8_t *);
	const char *layouts;
} actions[] = {{copy, "apbv"}, {convert_in, "apbv"}, {lines_in, "a"}, {convert_out, "apv"}, {lines_out, "a"}};

#define NUM_ACTIONS (sizeof(actions) / sizeof(actions[0]))

/* Seconds for one tensor; the pairs go on where the timing before left off. */
static double
duration(struct timing *t, void (*action)(const struct timing *, uint8_t *, uint8_t *))
{
	const size_t count = BYTES_PER_TIMING / t->num_bytes + 1;
	const double start = now();

	for (size_t i = 0; i < count; i++) {
		action(t, t->tensors + t->next * t->tensor_stride, t->bos + t->next * t->bo_stride);
		t->next = (t->next + 1) % t->num_pairs;
	}
	return (now() - start) / count;
}

static int
compare(const void *one, const void *other)
{
	const double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

/* Of the median timing, 0 for what the layout does not have. The actions take turns, so that what else runs on the
 * machine meets all of them. */
static void
print_speeds(struct timing *t, char layout)
{
	double seconds[NUM_ACTIONS][REPEATS];

	for (int repeat = 0; repeat < REPEATS; repeat++)
		for (size_t i = 0; i < NUM_ACTIONS; i++)
			seconds[i][repeat] = strchr(actions[i].layouts, layout) ? duration(t, actions[i].run) : INFINITY;
	for (size_t i = 0; i < NUM_ACTIONS; i++) {
		qsort(seconds[i], REPEATS, sizeof(double), compare);
		printf(" %.3f", t->num_bytes / seconds[i][REPEATS / 2] * 1e-9);
	}
}

static struct cermet_plan_io
io_of(uint32_t height, uint32_t width, uint32_t channels, char layout)
{
	const uint32_t fold = layout == 'b' ? 2 : 1, depth = channels * fold * fold;
	struct cermet_plan_io io = {.batch = 1, .height = height, .width = width, .channels = channels, .flip = 0x80,
	                            .fold_y = (uint8_t)fold, .fold_x = (uint8_t)fold};

	io.layout = layout == 'p' ? CERMET_LAYOUT_PACKED : CERMET_LAYOUT_ATOMS;
	io.line_stride_bytes = width / fold * (layout == 'p' ? channels : 16);
	io.surface_stride_bytes = io.line_stride_bytes * (height / fold);
	io.batch_stride_bytes = io.surface_stride_bytes * (layout == 'p' ? 1 : (depth + 15) / 16);
	return io;
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct cermet_plan_io io = io_of(shapes[i].height, shapes[i].width, shapes[i].channels, shapes[i].layout);
		const size_t num_bytes = cermet_io_num_bytes(&io), tensor_stride = (num_bytes + LINE - 1) / LINE * LINE;
		const size_t bo_stride = (io.batch_stride_bytes + LINE - 1) / LINE * LINE;
		const size_t num_pairs = BEYOND_CACHES / tensor_stride + 1;
		struct timing t = {.io = &io, .num_bytes = num_bytes, .tensor_stride = tensor_stride, .bo_stride = bo_stride,
		                   .num_pairs = 1};

		t.tensors = aligned_alloc(LINE, num_pairs * tensor_stride + LINE);
		t.bos = aligned_alloc(LINE, num_pairs * bo_stride + LINE);
		if (t.tensors == NULL || t.bos == NULL)
			return 1;
		memset(t.tensors, 1, num_pairs * tensor_stride + LINE);
		memset(t.bos, 2, num_pairs * bo_stride + LINE);
		printf("%ux%ux%u%c", io.height, io.width, io.channels, shapes[i].layout);
		print_speeds(&t, shapes[i].layout);
		t.num_pairs = num_pairs;
		t.next = 0;
		print_speeds(&t, shapes[i].layout);
		printf("\n");
		fflush(stdout);
		free(t.tensors);
		free(t.bos);
	}
	return 0;
}
