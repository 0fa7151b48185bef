/* SPDX-License-Identifier: MIT */
/* Tensors between NHWC and the NPU's layout, in both builds of the loops. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include "convert.h"
#include "convert_folded.h"
#include "convert_rows.h"
#include "plan_builder.h"

#include <stdlib.h>

/* Rows and surfaces with gaps of so many atoms, so that a write outside shows; without gaps rows may move together. */
static struct cermet_plan_io
odd_io(uint32_t layout, const uint32_t *size, uint32_t channels, uint8_t flip, uint32_t gap)
{
	struct cermet_plan_io io = {.layout = layout, .offset_bytes = 16, .batch = size[0], .height = size[1],
	                            .width = size[2], .channels = channels, .flip = flip, .fill = 0x5c,
	                            .fold_y = 1, .fold_x = 1};

	io.line_stride_bytes = layout == CERMET_LAYOUT_ATOMS ? (io.width + gap) * 16 : io.width * channels + 5 * gap;
	io.surface_stride_bytes = io.line_stride_bytes * io.height + 32 * gap;
	io.batch_stride_bytes = io.surface_stride_bytes * (layout == CERMET_LAYOUT_ATOMS ? (channels + 15) / 16 : 1);
	return io;
}

/* What the BO must hold after conversion in, given what it held before. */
static void
expected_bo(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo)
{
	for (uint32_t n = 0; n < io->batch; n++)
		for (uint32_t h = 0; h < io->height; h++)
			for (uint32_t w = 0; w < io->width; w++) {
				uint32_t end = io->layout == CERMET_LAYOUT_ATOMS ? (io->channels + 15) / 16 * 16 : io->channels;

				for (uint32_t c = 0; c < end; c++)
					bo[place_of(io, n, h, w, c)] =
						c < io->channels ? *tensor++ ^ io->flip : io->fill;
			}
}

struct conversions {
	void (*in)(const struct cermet_plan_io *io, const uint8_t *tensor, uint8_t *bo);
	void (*out)(const struct cermet_plan_io *io, const uint8_t *bo, uint8_t *tensor);
};

static void
check_conversion(const struct cermet_plan_io *io, const struct conversions *conversions)
{
	const size_t bo_bytes = 16 + (size_t)io->batch_stride_bytes * io->batch, num_bytes = cermet_io_num_bytes(io);
	/* Exactly as large as needed: the sanitizer sees any access beside them. */
	uint8_t *tensor = malloc(num_bytes), *back = malloc(num_bytes), *bo = malloc(bo_bytes), *wanted = malloc(bo_bytes);
	bool is_right;

	for (size_t i = 0; i < num_bytes; i++)
		tensor[i] = (uint8_t)random_below(256);
	memset(bo, 0xee, bo_bytes);
	memset(wanted, 0xee, bo_bytes);
	memset(back, 0, num_bytes);
	conversions->in(io, tensor, bo);
	expected_bo(io, tensor, wanted);
	is_right = memcmp(bo, wanted, bo_bytes) == 0;
	conversions->out(io, bo, back);
	is_right = is_right && memcmp(back, tensor, num_bytes) == 0;
	if (!is_right)
		printf("layout %u, %ux%ux%ux%u, flip %u:\n", io->layout, io->batch, io->height, io->width, io->channels, io->flip);
	CHECK(is_right);
	free(tensor);
	free(back);
	free(bo);
	free(wanted);
}

/* Both layouts and directions, with and without gaps and flips, in the build that this processor gets and the portable one. */
static void
check_conversions(const uint32_t *size, uint32_t channels)
{
	static const struct conversions conversions[] = {{cermet_convert_in, cermet_convert_out},
	                                                 {cermet_rows_in, cermet_rows_out}};

	for (uint32_t i = 0; i < 16; i++) {
		const struct cermet_plan_io io = odd_io(i & 1, size, channels, i & 2 ? 0x80 : 0, i >> 2 & 1);

		check_conversion(&io, &conversions[i >> 3 & 1]);
	}
}

static void
test_conversions_of_each_number_of_channels_and_columns(void)
{
	static const uint32_t images_and_rows[][2] = {{1, 1}, {2, 3}};

	for (uint32_t channels = 1; channels <= 70; channels++)
		for (uint32_t width = 1; width <= 9; width++)
			for (size_t i = 0; i < CERMET_COUNT(images_and_rows); i++)
				check_conversions((uint32_t[]){images_and_rows[i][0], images_and_rows[i][1], width}, channels);
}

static void
test_conversions_of_many_channels_and_pixels(void)
{
	static const uint32_t channels[] = {3, 16, 24, 64, 100, 127, 255, 512, 1001, 20000};
	static const uint32_t sizes[][3] = {{1, 1, 1}, {1, 1, 2}, {1, 3, 1}, {3, 1, 17}, {1, 40, 23}};

	for (size_t i = 0; i < CERMET_COUNT(channels); i++)
		for (size_t k = 0; k < CERMET_COUNT(sizes); k++)
			if (channels[i] < 20000 || k < 3)
				check_conversions(sizes[k], channels[i]);
}

/* A feature map of blocks: the runtime writes all of its atoms, whatever of them the tensor fills, and nothing else. */
static void
check_folded_conversion(const struct cermet_plan_io *io, bool is_portable)
{
	const uint32_t rows = (io->height + io->fold_y - 1u) / io->fold_y, columns = (io->width + io->fold_x - 1u) / io->fold_x;
	const uint32_t surfaces = ((uint32_t)io->fold_y * io->fold_x * io->channels + 15) / 16;
	const size_t bo_bytes = 16 + (size_t)io->batch_stride_bytes * io->batch, num_bytes = cermet_io_num_bytes(io);
	uint8_t *tensor = malloc(num_bytes), *bo = malloc(bo_bytes), *wanted = malloc(bo_bytes);
	size_t i = 0;

	memset(bo, 0xee, bo_bytes);
	memset(wanted, 0xee, bo_bytes);
	for (uint32_t n = 0; n < io->batch; n++)
		for (uint32_t surface = 0; surface < surfaces; surface++)
			for (uint32_t row = 0; row < rows; row++)
				memset(wanted + io->offset_bytes + (size_t)n * io->batch_stride_bytes +
				       (size_t)surface * io->surface_stride_bytes + (size_t)row * io->line_stride_bytes,
				       io->fill, (size_t)columns * 16);
	for (uint32_t n = 0; n < io->batch; n++)
		for (uint32_t h = 0; h < io->height; h++)
			for (uint32_t w = 0; w < io->width; w++)
				for (uint32_t c = 0; c < io->channels; c++, i++) {
					tensor[i] = (uint8_t)random_below(256);
					wanted[place_of(io, n, h, w, c)] = tensor[i] ^ io->flip;
				}
	(is_portable ? cermet_folded_in : cermet_convert_in)(io, tensor, bo);
	if (memcmp(bo, wanted, bo_bytes) != 0)
		printf("blocks of %ux%u, %ux%ux%ux%u, flip %u:\n", io->fold_y, io->fold_x, io->batch, io->height, io->width,
		       io->channels, io->flip);
	CHECK(memcmp(bo, wanted, bo_bytes) == 0);
	free(tensor);
	free(bo);
	free(wanted);
}

static void
test_blocks_of_pixels_become_channels(void)
{
	static const uint32_t channels[] = {1, 2, 3, 4, 5, 8, 15, 16, 17, 33};
	static const uint32_t sizes[][3] = {{1, 1, 1}, {1, 1, 9}, {1, 7, 1}, {2, 6, 8}, {3, 5, 7}, {1, 33, 40}, {1, 2, 300}};
	static const uint32_t folds[] = {1, 2, 3, 4, 7, 16, 49};

	for (uint32_t i = 0; i < CERMET_COUNT(channels) * CERMET_COUNT(sizes) * 49 * 2; i++) {
		const uint32_t fold_y = folds[i % 7], fold_x = folds[i / 7 % 7], *size = sizes[i / 98 % CERMET_COUNT(sizes)];
		const uint32_t rows = (size[1] - 1) / fold_y + 1, columns = (size[2] - 1) / fold_x + 1, gap = i / 49 % 2;
		const uint32_t depth = channels[i / 98 / CERMET_COUNT(sizes)];
		struct cermet_plan_io io = odd_io(CERMET_LAYOUT_ATOMS, (uint32_t[]){size[0], rows, columns},
		                                  fold_y * fold_x * depth, i / 98 % 2 ? 0x80 : 0, gap);

		io.height = size[1];
		io.width = size[2];
		io.channels = depth;
		io.fold_y = (uint8_t)fold_y;
		io.fold_x = (uint8_t)fold_x;
		for (uint32_t k = 0; fold_y * fold_x > 1 && k < 2; k++)
			check_folded_conversion(&io, k == 1);
	}
}

int
main(void)
{
	test_conversions_of_each_number_of_channels_and_columns();
	test_conversions_of_many_channels_and_pixels();
	test_blocks_of_pixels_become_channels();
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}
