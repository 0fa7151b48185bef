/* SPDX-License-Identifier: MIT */
/* The runtime without TFLite and without a simulator: hash, key, plan reader, conversions, runs on the fake device. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cermet_build.h"
#include "check.h"
#include "convert.h"
#include "convert_folded.h"
#include "convert_rows.h"
#include "fake_client.h"
#include "locate.h"
#include "plan_builder.h"
#include "program.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FUZZ_ROUNDS 20000

static uint32_t random_state = 12345;

static uint32_t
random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % limit;
}

/* Digests of bytes i * 7 + 3 by the tree parameters of Python's hashlib.blake2s. */
static void
test_hash_of_any_length_and_split(void)
{
	static const struct {
		size_t length;
		const char *hex;
	} vectors[] = {
		{0, "dd0e891776933f43c7d032b08a917e25741f8aa9a12c12e1cac8801500f2ca4f"},
		{1, "456da349adc8eaa1ee5fd8397d9c181c21a8e9173ad90f22613fd34e1d576d44"},
		{64, "e375bba69fb1c84c7f202f06e71090695f81786b7413da0cd0126e15a0f80181"},
		{65, "11a6af420901450dd27b0babec0c484c4f7710330040136a17e79df6c54106ae"},
		{448, "63db7eb39bfcaa71b67166262a2509a16b77339de156e5a536f4a0e146a6b3a0"},
		{449, "50fee55950b67d74b9c5e0a33271229dd6440868bb8a01dd061fdbf9fb94f893"},
		{512, "201135254f94f0cf5307da6ae28daf819258fd08df8249684ffbbded6c23e0e5"},
		{513, "4524c7cfa3a7cde180691ba1a3c0d4b9fc20ced214f27e65f5c76dbb0ff44c91"},
		{960, "366e1f4c665d5d4ca9d2149fcdc613722ad5b0aa8a4dd30ad49d578398016e43"},
		{961, "3f929cd6158b9a17f52ffa91a0f05261fd6481fc52b0bc297fb539534b2266fa"},
		{1024, "c172db3b0b7e122c3e1a5071348ce3bf39dab1772d9d3c1744e722c1eb0aed84"},
		{1025, "3479ff3bda494d6fbdbd024d2ac68f71b140deb159e119e7a83b45eb59840f76"},
		{4000, "a1ce7a0e7d60709938710da293667624242c4e3e9a7b30dd3793df57a710e842"},
	};
	uint8_t bytes[4000], digest[CERMET_HASH_BYTES];
	char hex[CERMET_KEY_HEX_BYTES];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 3);
	for (size_t v = 0; v < CERMET_COUNT(vectors); v++) {
		for (size_t step = 1; step < 1300; step += 13) {
			struct cermet_blake2sp hash;

			cermet_blake2sp_start(&hash);
			for (size_t at = 0; at < vectors[v].length; at += step)
				cermet_blake2sp_add(&hash, bytes + at, vectors[v].length - at < step ? vectors[v].length - at : step);
			cermet_blake2sp_finish(&hash, digest);
			cermet_key_hex(digest, hex);
			CHECK(strcmp(hex, vectors[v].hex) == 0);
		}
	}
}

/* Keys by cermet.program.cache.cache_key. */
static void
test_key_equals_the_compilers(void)
{
	const struct cermet_compile_options defaults = {"tflite", "", "", "1", "on", "speed", "all", "kernel", "proven",
	                                                "1", ""};
	const struct cermet_compile_options others = {"exact", "ADD+CONV_2D", "12-15+MEAN", "3", "off", "npu", "changed",
	                                              "program", "least", "3", "0-5+7-9/6"};
	const struct cermet_piece pieces[] = {{"blob", 4}, {"", 0}, {" bytes", 6}};
	const struct cermet_pieces blob = {pieces, CERMET_COUNT(pieces)};
	uint8_t key[CERMET_HASH_BYTES];
	char hex[CERMET_KEY_HEX_BYTES];

	cermet_cache_key("rk3588", "0.1.0+abc", &defaults, &blob, key);
	cermet_key_hex(key, hex);
	CHECK(strcmp(hex, "f88b6872d2f12e5e5caf97652c6155690027451d91c2352bcc3fa2ef24c5dfd6") == 0);
	cermet_cache_key("rk3588", "0.1.0+abc", &others, &blob, key);
	cermet_key_hex(key, hex);
	CHECK(strcmp(hex, "7c0e0b8c22d65d621aff559bb50387b10442d4a9eac4e9d5256d1b72b79a0dea") == 0);
}

static void
test_messages_are_printable_utf8(void)
{
	char good[] = "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x80", bad[] = "a\xff\xc3(\xed\xa0\x80\nz\xc3";

	cermet_make_printable(good);
	CHECK(strcmp(good, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\x80") == 0);
	cermet_make_printable(bad);
	CHECK(strcmp(bad, "a\?\?(\?\?\?\?z\?") == 0);
}

/* The definition in cermet_plan.h, byte by byte. */
static size_t
place_of(const struct cermet_plan_io *io, uint32_t n, uint32_t h, uint32_t w, uint32_t c)
{
	size_t row = io->offset_bytes + (size_t)n * io->batch_stride_bytes + (size_t)(h / io->fold_y) * io->line_stride_bytes;

	if (io->layout == CERMET_LAYOUT_PACKED)
		return row + (size_t)w * io->channels + c;
	c += (h % io->fold_y * io->fold_x + w % io->fold_x) * io->channels;
	return row + (size_t)(c / 16) * io->surface_stride_bytes + w / io->fold_x * 16 + c % 16;
}

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

static const struct test_plan small = {
	.build_id = "test", .soc = "rk3588", .num_nodes = 3, .num_on_cpu = 1, .input = 0, .output = 4,
	.height = 4, .width = 5, .channels = 20, .addend = 3,
};

static bool
opens(const struct cermet_bytes *bytes, struct cermet_error *error)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct cermet_plan_view view;

	return cermet_plan_open(bytes->data, bytes->size, &anything, &view, error);
}

static void
test_plan_is_refused_with_a_reason(void)
{
	static const struct {
		size_t offset;
		uint32_t value;
		const char *text;
	} changes[] = {
		{offsetof(struct cermet_plan_header, magic), 1, "wrong magic 0x00000001"},
		{offsetof(struct cermet_plan_header, version), 1, "format version 1, must be 6"},
		{offsetof(struct cermet_plan_header, file_bytes), 8, "header says 8"},
		{offsetof(struct cermet_plan_header, num_nodes), 0x7fffffff, "must lie in the file"},
		{offsetof(struct cermet_plan_header, num_nodes), 1, "node 1 must be one of its own"},
		{offsetof(struct cermet_plan_header, num_partitions), 0, "partition 0 must be below 0"},
		{offsetof(struct cermet_plan_header, num_partitions), 4, "4 partitions of 3 nodes"},
		{offsetof(struct cermet_plan_header, strings_bytes), 0, "strings must begin and end with a NUL"},
		{offsetof(struct cermet_plan_header, nodes_offset), 156, "8-byte aligned"},
		{offsetof(struct cermet_plan_header, build_id), 0, "build_id: must be text"},
	};
	struct cermet_error error;

	for (size_t i = 0; i < CERMET_COUNT(changes); i++) {
		struct cermet_bytes plan = build_plan(&small);

		memcpy(plan.data + changes[i].offset, &changes[i].value, 4);
		fix_checksum(&plan);
		CHECK(!opens(&plan, &error));
		CHECK_TEXT(error.text, changes[i].text);
		free(plan.data);
	}
}

/* A good plan with room behind it, so that only the check in question can refuse. */
static struct cermet_bytes
roomy_plan(void)
{
	struct cermet_bytes plan = build_plan(&small);
	const size_t size = plan.size + 4096;

	plan.data = realloc(plan.data, size);
	memset(plan.data + plan.size, 0, size - plan.size);
	plan.size = size;
	((struct cermet_plan_header *)(void *)plan.data)->file_bytes = size;
	fix_checksum(&plan);
	return plan;
}

enum table { PARTITION, BO, RELOCATION, TASK, JOB, INPUT_PORT, OUTPUT_PORT };

static uint8_t *
table_of(const struct cermet_bytes *plan, enum table table)
{
	const struct cermet_plan_header *header = (const void *)plan->data;
	const struct cermet_plan_partition *partition = (const void *)(plan->data + header->partitions_offset);
	const uint32_t offsets[] = {header->partitions_offset, partition->bos_offset, partition->relocations_offset,
	                            partition->tasks_offset, partition->jobs_offset, partition->inputs_offset,
	                            partition->outputs_offset};

	return plan->data + offsets[table];
}

static void
test_each_limit_of_a_partition(void)
{
	static const struct {
		enum table table;
		size_t offset;
		uint32_t value;
		const char *text;
	} changes[] = {
		{PARTITION, offsetof(struct cermet_plan_partition, num_bos), 33, "33 bos, must be 1..32"},
		{PARTITION, offsetof(struct cermet_plan_partition, num_nodes), 1, "partitions list 1 nodes, the node table 2"},
		{PARTITION, offsetof(struct cermet_plan_partition, num_outputs), 0, "1 jobs, 1 tasks, 0 outputs"},
		{BO, offsetof(struct cermet_plan_bo, role), 4, "bo 0: role 4 must be 0..3"},
		{BO, offsetof(struct cermet_plan_bo, size_bytes), 0, "bo 0: 0 bytes must be 1..2147479552"},
		{BO, offsetof(struct cermet_plan_bo, size_bytes), 0x7ffff001, "bo 0: 2147479553 bytes must be"},
		{BO, offsetof(struct cermet_plan_bo, data_bytes), 33, "bo 0: 33 bytes of contents must be 0..32"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, bo), 3, "relocation 0: word at 0 of bo 3"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, offset_bytes), 4, "must be 8-byte aligned"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, offset_bytes), 32, "inside the bos"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, target_bo), 3, "to 0 of bo 3"},
		{RELOCATION, offsetof(struct cermet_plan_relocation, addend_bytes), 640, "to 640 of bo 1"},
		{TASK, offsetof(struct cermet_plan_task, bo), 3, "task 0: 4 words at 0 of bo 3"},
		{TASK, offsetof(struct cermet_plan_task, offset_bytes), 8, "16-byte aligned"},
		{TASK, offsetof(struct cermet_plan_task, num_words), 3, "task 0: 3 words"},
		{TASK, offsetof(struct cermet_plan_task, num_words), 5, "inside the bo"},
		{JOB, offsetof(struct cermet_plan_job, num_tasks), 2, "job 0: tasks 0 + 2 must be among the 1"},
		{JOB, offsetof(struct cermet_plan_job, first_task), 0xffffffff, "tasks 4294967295 + 1"},
		{JOB, offsetof(struct cermet_plan_job, in_bo_mask), 4, "masks 0x4 and 0x4 must be disjoint"},
		{JOB, offsetof(struct cermet_plan_job, in_bo_mask), 8, "name bos below 3"},
		{JOB, offsetof(struct cermet_plan_job, out_bo_mask), 0, "at least one that is written"},
		{JOB, offsetof(struct cermet_plan_job, witness_bo), 1, "job 0: witness at 0 of bo 1 must be an atom of a bo"},
		{JOB, offsetof(struct cermet_plan_job, witness_bo), 33, "witness at 0 of bo 33"},
		{JOB, offsetof(struct cermet_plan_job, witness_offset_bytes), 8, "witness at 8 of bo 2"},
		{JOB, offsetof(struct cermet_plan_job, witness_offset_bytes), 640, "witness at 640 of bo 2"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, bo), 3, "tensor 4: bo 3 must be below 3"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, layout), 2, "tensor 4: layout 2 must be 0..1"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, channels), 0, "must be at least 1"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, batch), 0xffffffff, "together below 2 GiB"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, offset_bytes), 16, "ends beyond the 640 bytes of bo 2"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, line_stride_bytes), 0xffffffff, "ends beyond"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, surface_stride_bytes), 321, "ends beyond"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01010001, "flip 1 must be 0 or 128"},
		{OUTPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01020080, "tensor 4: folded by 2x1, must be 1..1"},
		{INPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x32010000, "tensor 0: folded by 1x50, must be 1..49"},
		{INPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01000000, "folded by 0x1"},
		{INPUT_PORT, offsetof(struct cermet_plan_io, flip), 0x01070000, "ends beyond the 640 bytes of bo 1"},
	};
	struct cermet_error error;

	for (size_t i = 0; i < CERMET_COUNT(changes); i++) {
		struct cermet_bytes plan = roomy_plan();

		CHECK(opens(&plan, &error));
		memcpy(table_of(&plan, changes[i].table) + changes[i].offset, &changes[i].value, 4);
		fix_checksum(&plan);
		CHECK(!opens(&plan, &error));
		CHECK_TEXT(error.text, changes[i].text);
		free(plan.data);
	}
}

static void
test_plan_for_something_else_is_refused(void)
{
	uint8_t key[CERMET_HASH_BYTES] = {1};
	const struct cermet_plan_expectation expected[] = {{key, NULL, NULL}, {NULL, "other", NULL}, {NULL, NULL, "rk3576"}};
	static const char *const texts[] = {"its key differs", "made by compiler test, must be other",
	                                    "made for rk3588, must be rk3576"};
	struct cermet_bytes plan = build_plan(&small);
	struct cermet_plan_view view;
	struct cermet_error error;

	CHECK(opens(&plan, &error));
	for (size_t i = 0; i < CERMET_COUNT(expected); i++) {
		CHECK(!cermet_plan_open(plan.data, plan.size, &expected[i], &view, &error));
		CHECK_TEXT(error.text, texts[i]);
	}
	plan.data[plan.size - 1] ^= 1;
	CHECK(!opens(&plan, &error));
	CHECK_TEXT(error.text, "checksum differs");
	free(plan.data);
}

static int num_runs, num_refusals; /* of damaged plans */

static void
check_port(const struct cermet_plan_io *io, const struct cermet_plan_bo *bos, uint32_t num_bos)
{
	struct cermet_plan_io map = *io;

	CHECK(io->bo < num_bos && io->batch && io->height && io->width && io->channels && io->fold_y && io->fold_x);
	if (io->bo >= num_bos || !io->fold_y || !io->fold_x)
		return;
	map.height = (io->height - 1) / io->fold_y + 1;
	map.width = (io->width - 1) / io->fold_x + 1;
	map.channels = io->channels * io->fold_y * io->fold_x;
	map.fold_y = map.fold_x = 1;
	/* The last byte of the last atom. */
	CHECK(place_of(&map, map.batch - 1, map.height - 1, map.width - 1,
	               map.layout == CERMET_LAYOUT_ATOMS ? (map.channels - 1) | 15 : map.channels - 1) <
	      bos[io->bo].size_bytes);
}

/* What those who use a plan rely on, said a second time: mappings are larger than buffers, so not every access
 * beyond a buffer's end can be seen. */
static void
check_invariants(const struct cermet_plan_view *view)
{
	for (uint32_t i = 0; i < view->header->num_nodes; i++)
		CHECK(view->nodes[i].reason + strlen(view->strings + view->nodes[i].reason) < view->header->strings_bytes);
	for (uint32_t p = 0; p < view->header->num_partitions; p++) {
		const struct cermet_plan_partition *part = &view->partitions[p];
		const struct cermet_plan_bo *bos = CERMET_PLAN_TABLE(view, part->bos_offset, struct cermet_plan_bo);
		const struct cermet_plan_task *tasks = CERMET_PLAN_TABLE(view, part->tasks_offset, struct cermet_plan_task);

		CHECK(part->num_bos >= 1 && part->num_bos <= 32);
		for (uint32_t i = 0; i < part->num_bos; i++)
			CHECK(bos[i].size_bytes > 0 && bos[i].data_bytes <= bos[i].size_bytes &&
			      (bos[i].data_bytes == 0 || bos[i].data_offset + (uint64_t)bos[i].data_bytes <= view->num_bytes));
		for (uint32_t i = 0; i < part->num_tasks; i++)
			CHECK(tasks[i].bo < part->num_bos &&
			      tasks[i].offset_bytes + tasks[i].num_words * UINT64_C(8) <= bos[tasks[i].bo].size_bytes);
		for (uint32_t i = 0; i < part->num_inputs; i++)
			check_port(CERMET_PLAN_TABLE(view, part->inputs_offset, struct cermet_plan_io) + i, bos, part->num_bos);
		for (uint32_t i = 0; i < part->num_outputs; i++)
			check_port(CERMET_PLAN_TABLE(view, part->outputs_offset, struct cermet_plan_io) + i, bos, part->num_bos);
	}
}

/* Whatever a plan says, loading and running it stays inside its buffers: the sanitizer watches. */
static void
use_plan(const struct cermet_bytes *bytes, const struct cermet_device *device)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct cermet_plan_view view;
	struct cermet_program program;
	struct cermet_error error = {""};
	const void *inputs[8];
	void *outputs[8];

	if (!cermet_plan_open(bytes->data, bytes->size, &anything, &view, &error)) {
		CHECK(error.text[0]);
		num_refusals++;
		return;
	}
	check_invariants(&view);
	for (uint32_t p = 0; p < view.header->num_partitions; p++) {
		const struct cermet_plan_bo *bos = CERMET_PLAN_TABLE(&view, view.partitions[p].bos_offset, struct cermet_plan_bo);
		uint64_t size = 0;

		for (uint32_t i = 0; i < view.partitions[p].num_bos; i++)
			size += bos[i].size_bytes;
		if (size > 1 << 24 || !cermet_program_load(&program, device, &view, p, 1000000, &error))
			continue; /* valid, but it would take too long here */
		if (program.num_inputs <= 8 && program.num_outputs <= 8) {
			for (uint32_t i = 0; i < program.num_inputs; i++)
				inputs[i] = calloc(1, cermet_io_num_bytes(&program.inputs[i]));
			for (uint32_t i = 0; i < program.num_outputs; i++)
				outputs[i] = calloc(1, cermet_io_num_bytes(&program.outputs[i]));
			num_runs += cermet_program_run(&program, inputs, outputs, &error);
			for (uint32_t i = 0; i < program.num_inputs; i++)
				free((void *)(uintptr_t)inputs[i]);
			for (uint32_t i = 0; i < program.num_outputs; i++)
				free(outputs[i]);
		}
		cermet_program_unload(&program);
	}
}

static const uint32_t nasty[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8,
                                 0x7ffff000, 0x10000, 152, 131072};

static void
damage(struct cermet_bytes *plan)
{
	for (uint32_t k = 1 + random_below(3); k > 0; k--) {
		uint32_t offset = random_below((uint32_t)plan->size);
		uint32_t value = nasty[random_below(CERMET_COUNT(nasty))];

		switch (random_below(4)) {
		case 0:
			plan->data[offset] ^= (uint8_t)(1u << random_below(8));
			break;
		case 1:
			plan->data[offset] = (uint8_t)random_below(256);
			break;
		default: /* a whole member */
			memcpy(plan->data + offset / 4 * 4, &value, 4);
		}
	}
}

/* Inputs in blocks, of shapes that mostly do not fit their buffer. */
static void
test_plans_with_blocks_never_crash(void)
{
	struct cermet_device device;
	struct cermet_error error;

	num_runs = num_refusals = 0;
	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	for (int round = 0; round < FUZZ_ROUNDS; round++) {
		struct cermet_bytes plan = build_plan(&small);
		struct cermet_plan_io *io = (void *)table_of(&plan, INPUT_PORT);

		io->batch = 1 + random_below(2);
		io->height = 1 + random_below(20);
		io->width = 1 + random_below(20);
		io->channels = 1 + random_below(round % 8 == 0 ? UINT32_MAX : 8);
		io->fold_y = (uint8_t)random_below(round % 4 == 0 ? 51 : 9);
		io->fold_x = (uint8_t)random_below(round % 4 == 0 ? 51 : 9);
		io->surface_stride_bytes = random_below(20) * 16;
		io->line_stride_bytes = random_below(10) * 16;
		fix_checksum(&plan);
		use_plan(&plan, &device);
		free(plan.data);
	}
	cermet_device_close(&device);
	CHECK(num_runs > FUZZ_ROUNDS / 20 && num_refusals > FUZZ_ROUNDS / 20);
}

/* Checksum and length made right again, so that the checks behind them are reached. */
static void
test_damaged_plans_never_crash(void)
{
	struct cermet_device device;
	struct cermet_error error;

	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	for (int round = 0; round < FUZZ_ROUNDS; round++) {
		struct cermet_bytes plan = build_plan(&small);

		if (round % 8 == 0)
			plan.size = random_below((uint32_t)plan.size) / 4 * 4;
		if (plan.size > 0 && round % 64 == 1)
			for (size_t i = 0; i < plan.size; i++)
				plan.data[i] = (uint8_t)random_below(256);
		if (plan.size > 0)
			damage(&plan);
		if (plan.size >= sizeof(struct cermet_plan_header) && round % 3 != 0) {
			struct cermet_plan_header *header = (void *)plan.data;

			header->magic = CERMET_PLAN_MAGIC;
			header->version = CERMET_PLAN_VERSION;
			header->file_bytes = plan.size;
		}
		fix_checksum(&plan);
		plan.data = realloc(plan.data, plan.size ? plan.size : 1); /* so that the sanitizer knows the end */
		use_plan(&plan, &device);
		free(plan.data);
	}
	cermet_device_close(&device);
	CHECK(fake_num_bos() == 0);
	CHECK(num_runs > FUZZ_ROUNDS / 100 && num_refusals > FUZZ_ROUNDS / 10); /* both happen, or this tests nothing */
	printf("damaged plans: %d ran, %d refused\n", num_runs, num_refusals);
}

/* A loaded small plan, its tensors, and what must come out. */
struct rig {
	struct cermet_device device;
	struct cermet_program program;
	int8_t input[400], output[400], wanted[400];
	const void *inputs[1];
	void *outputs[1];
};

static struct rig *
new_rig(int64_t timeout_ns)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct rig *rig = calloc(1, sizeof(*rig));
	struct cermet_bytes plan = build_plan(&small);
	struct cermet_plan_view view;
	struct cermet_error error;

	CHECK(cermet_plan_open(plan.data, plan.size, &anything, &view, &error));
	CHECK(cermet_device_open(&rig->device, "sim", "rk3588", &error));
	CHECK(cermet_program_load(&rig->program, &rig->device, &view, 0, timeout_ns, &error));
	free(plan.data);
	for (int i = 0; i < 400; i++) {
		rig->input[i] = (int8_t)random_below(256);
		rig->wanted[i] = (int8_t)(rig->input[i] + 3);
	}
	rig->inputs[0] = rig->input;
	rig->outputs[0] = rig->output;
	return rig;
}

static bool
run(struct rig *rig, struct cermet_error *error)
{
	memset(rig->output, 0, sizeof(rig->output));
	return cermet_program_run(&rig->program, rig->inputs, rig->outputs, error) &&
	       memcmp(rig->output, rig->wanted, sizeof(rig->output)) == 0;
}

static void
free_rig(struct rig *rig)
{
	cermet_program_unload(&rig->program);
	cermet_device_close(&rig->device);
	free(rig);
	CHECK(fake_num_bos() == 0);
}

static void
test_run_gives_the_programs_result_with_one_submit(void)
{
	struct rig *rig = new_rig(1000000000);
	struct cermet_error error;
	int before = fake_num_submits();

	for (int i = 0; i < 100; i++)
		CHECK(run(rig, &error));
	CHECK(fake_num_submits() - before == 100);
	CHECK(rig->program.times.num_runs == 100);
	free_rig(rig);
}

static void
test_dropped_job_is_an_error_and_the_next_run_works(void)
{
	struct rig *rig = new_rig(1000000000);
	struct cermet_error error;

	CHECK(run(rig, &error)); /* the right result lies in the output from now on */
	setenv(FAKE_VARIABLE, "drop", 1);
	CHECK(!run(rig, &error));
	CHECK_TEXT(error.text, "partition 0 on sim: job did not complete (timeout or dropped) after ");
	CHECK_TEXT(error.text, "ms: job 1 of 1");
	unsetenv(FAKE_VARIABLE);
	CHECK(run(rig, &error));
	free_rig(rig);
}

/* The second job reads what the first left there in the run before, and writes all outputs. */
static void
test_dropped_first_job_of_two_is_an_error_and_the_next_run_works(void)
{
	static const struct test_plan two = {.build_id = "test", .soc = "rk3588", .num_nodes = 2, .num_jobs = 2, .width = 4,
	                                     .height = 2, .channels = 16, .addend = 3};
	static const struct cermet_plan_expectation anything;
	struct cermet_bytes plan = build_plan(&two);
	uint8_t input[4 * 2 * 16] = {1}, output[sizeof(input)] = {0};
	const void *inputs[] = {input};
	void *outputs[] = {output};
	struct cermet_plan_view view;
	struct cermet_program program;
	struct cermet_device device;
	struct cermet_error error;

	CHECK(cermet_plan_open(plan.data, plan.size, &anything, &view, &error));
	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	CHECK(cermet_program_load(&program, &device, &view, 0, 1000000000, &error));
	CHECK(cermet_program_run(&program, inputs, outputs, &error) && output[0] == 7);
	setenv(FAKE_VARIABLE, "drop-first", 1);
	CHECK(!cermet_program_run(&program, inputs, outputs, &error));
	CHECK_TEXT(error.text, "partition 0 on sim: job did not complete (timeout or dropped) after ");
	CHECK_TEXT(error.text, "ms: job 1 of 2");
	unsetenv(FAKE_VARIABLE);
	input[0] = 2;
	CHECK(cermet_program_run(&program, inputs, outputs, &error) && output[0] == 8);
	cermet_program_unload(&program);
	cermet_device_close(&device);
	free(plan.data);
	CHECK(fake_num_bos() == 0);
}

static void
test_deadline_is_an_error_and_the_next_run_works(void)
{
	struct rig *rig = new_rig(50000000);
	struct cermet_error error;

	setenv(FAKE_VARIABLE, "timeout", 1);
	CHECK(!run(rig, &error));
	CHECK_TEXT(error.text, "partition 0 on sim: not done after 50 ms (option timeout_ms)");
	CHECK(rig->program.is_running);
	unsetenv(FAKE_VARIABLE);
	CHECK(run(rig, &error));
	CHECK(!rig->program.is_running);
	free_rig(rig);
}

static void
test_interrupted_calls_are_repeated(void)
{
	struct cermet_error error;
	struct rig *rig;

	setenv(FAKE_VARIABLE, "eintr", 1);
	rig = new_rig(1000000000);
	CHECK(run(rig, &error));
	free_rig(rig);
	unsetenv(FAKE_VARIABLE);
}

static void
test_failed_load_leaves_nothing_behind(void)
{
	const struct cermet_plan_expectation anything = {NULL, NULL, NULL};
	struct cermet_bytes plan = build_plan(&small);
	struct cermet_device device;
	struct cermet_program program;
	struct cermet_plan_view view;
	struct cermet_error error;

	setenv(FAKE_VARIABLE, "no-bo", 1);
	CHECK(cermet_plan_open(plan.data, plan.size, &anything, &view, &error));
	CHECK(cermet_device_open(&device, "sim", "rk3588", &error));
	CHECK(!cermet_program_load(&program, &device, &view, 0, 1000000, &error));
	CHECK_TEXT(error.text, "device sim: no buffer of");
	CHECK(fake_num_bos() == 0);
	unsetenv(FAKE_VARIABLE);
	cermet_device_close(&device);
	free(plan.data);
}

static void
test_devices_that_are_none(void)
{
	static const char *const names[][2] = {
		{"/dev/accel/accel99", "device /dev/accel/accel99: No such file or directory"},
		{"/dev/null", "device /dev/null: is no accel node"},
	};
	struct cermet_device device;
	struct cermet_error error;

	for (size_t i = 0; i < CERMET_COUNT(names); i++) {
		CHECK(!cermet_device_open(&device, names[i][0], "rk3588", &error));
		CHECK_TEXT(error.text, names[i][1]);
	}
	if (access("/dev/accel", F_OK) != 0) {
		CHECK(!cermet_device_open(&device, "auto", "rk3588", &error));
		CHECK_TEXT(error.text, "no NPU found");
		CHECK_TEXT(error.text, "pass device=sim");
	}
}

/* Files, cache and compiler: a folder of the test's own, and compilers that are shell scripts. */

static char folder[FOLDER_BYTES];

/* Small files and such as lie in huge pages, written in pieces. */
static void
test_files_are_read_as_written(void)
{
	static const size_t sizes[] = {0, 1, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, (6 << 20) + 5};
	const size_t most = sizes[CERMET_COUNT(sizes) - 1];
	uint8_t *data = malloc(most);
	char path[FILE_BYTES];
	struct cermet_bytes bytes;
	struct cermet_error error;

	snprintf(path, sizeof(path), "%s/contents", folder);
	for (size_t i = 0; i < most; i++)
		data[i] = (uint8_t)random_below(256);
	for (size_t i = 0; i < CERMET_COUNT(sizes); i++) {
		const size_t half = sizes[i] / 2;
		const struct cermet_piece pieces[] = {{data, half}, {data, 0}, {data + half, sizes[i] - half}};

		CHECK(cermet_write_file(path, &(struct cermet_pieces){pieces, CERMET_COUNT(pieces)}, &error));
		CHECK(cermet_read_file(path, &bytes, &error));
		CHECK(bytes.size == sizes[i] && memcmp(bytes.data, data, sizes[i]) == 0);
		cermet_file_free(&bytes);
		CHECK(bytes.data == NULL && bytes.size == 0);
	}
	cermet_file_free(&bytes);
	unlink(path);
	free(data);
}

static void
write_script(const char *path, const char *body)
{
	FILE *file = fopen(path, "w");

	fprintf(file, "#!/bin/sh\n%s\n", body);
	fclose(file);
	chmod(path, 0700);
}

static int
num_files(const char *path)
{
	DIR *directory = opendir(path);
	int count = 0;

	while (directory && readdir(directory))
		count++;
	if (directory)
		closedir(directory);
	return count - 2;
}

static const struct cermet_compile_options default_options = {"tflite", "", "", "1", "on", "speed", "all",
                                                              "kernel", "proven", "1", ""};
static const struct cermet_piece blob_piece = {"any blob will do", 17};
static const struct cermet_pieces blob = {&blob_piece, 1};

/* A compiler that answers with a good plan for `blob`, and counts its calls in a file. */
static void
make_good_compiler(const char *script, const char *build_id)
{
	char path[FILE_BYTES], body[6 * FILE_BYTES];
	uint8_t key[CERMET_HASH_BYTES];
	struct test_plan wanted = small;
	struct cermet_bytes plan;
	struct cermet_error error;

	cermet_cache_key("rk3588", build_id, &default_options, &blob, key);
	wanted.key = key;
	wanted.build_id = build_id;
	plan = build_plan(&wanted);
	snprintf(path, sizeof(path), "%s/good.plan", folder);
	CHECK(cermet_write_file(path, WHOLE(plan.data, plan.size), &error));
	free(plan.data);
	snprintf(body, sizeof(body), "echo x >> %s/calls\n[ \"$1\" = plan ] && [ \"$2\" = --blob ] && cp %s \"$5\"\n"
	         "echo \"$@\" > %s/arguments; env > %s/environment; ls /proc/self/fd > %s/fds", folder, path, folder, folder,
	         folder);
	write_script(script, body);
}

static int
num_calls(void)
{
	char path[FILE_BYTES];
	struct stat status;

	snprintf(path, sizeof(path), "%s/calls", folder);
	return stat(path, &status) == 0 ? (int)status.st_size / 2 : 0;
}

static bool
find(const struct cermet_cache *cache, bool *is_from_cache, struct cermet_error *error)
{
	struct cermet_plan_file plan;
	bool is_found = cermet_find_plan(cache, &default_options, &blob, &plan, error);

	*is_from_cache = is_found && plan.is_from_cache;
	if (is_found)
		CHECK(plan.view.header->num_nodes == 3);
	cermet_plan_file_free(&plan);
	return is_found;
}

static struct cermet_cache
test_cache(const char *script, const char *directory, enum cermet_cache_mode mode)
{
	return (struct cermet_cache){mode, directory, {script, "rk3588", CERMET_LOG_ERROR, INT64_C(20000000000)}};
}

static void
entry_path(const char *directory, const char *build_id, char *path, size_t size)
{
	uint8_t key[CERMET_HASH_BYTES];
	char hex[CERMET_KEY_HEX_BYTES];

	cermet_cache_key("rk3588", build_id, &default_options, &blob, key);
	cermet_key_hex(key, hex);
	snprintf(path, size, "%s/%s.plan", directory, hex);
}

static void
test_cache_modes(const char *build_id)
{
	char script[FILE_BYTES], directory[FILE_BYTES], entry[FILE_BYTES + CERMET_KEY_HEX_BYTES + 8];
	struct cermet_cache cache;
	struct cermet_error error;
	bool hit;

	snprintf(script, sizeof(script), "%s/compiler", folder);
	snprintf(directory, sizeof(directory), "%s/deep/cache", folder);
	make_good_compiler(script, build_id);
	entry_path(directory, build_id, entry, sizeof(entry));

	cache = test_cache(script, directory, CERMET_CACHE_REQUIRED);
	CHECK(!find(&cache, &hit, &error));
	CHECK_TEXT(error.text, "option cache=required: cache directory");
	cache.mode = CERMET_CACHE_READONLY;
	CHECK(find(&cache, &hit, &error) && !hit && access(directory, F_OK) != 0);
	cache.mode = CERMET_CACHE_OFF;
	CHECK(find(&cache, &hit, &error) && !hit && access(directory, F_OK) != 0);
	CHECK(num_calls() == 2);
	cache.mode = CERMET_CACHE_ON;
	CHECK(find(&cache, &hit, &error) && !hit && access(entry, R_OK) == 0);
	CHECK(num_files(directory) == 1);
	CHECK(find(&cache, &hit, &error) && hit);
	cache.mode = CERMET_CACHE_READONLY;
	CHECK(find(&cache, &hit, &error) && hit);
	cache.mode = CERMET_CACHE_REQUIRED;
	CHECK(find(&cache, &hit, &error) && hit);
	CHECK(num_calls() == 3);
	unlink(entry);
	CHECK(!find(&cache, &hit, &error));
	CHECK_TEXT(error.text, "is missing; make it with `cermet compile`, for this device with cores=1 and chains=kernel");
}

/* Bit flips, cuts and garbage: recompiled and overwritten, never used. */
static void
test_damaged_entries_are_compiled_again(const char *build_id)
{
	char script[FILE_BYTES], directory[FILE_BYTES], entry[FILE_BYTES + CERMET_KEY_HEX_BYTES + 8];
	struct cermet_cache cache;
	struct cermet_error error;
	bool hit;

	snprintf(script, sizeof(script), "%s/compiler", folder);
	snprintf(directory, sizeof(directory), "%s/deep/cache", folder);
	entry_path(directory, build_id, entry, sizeof(entry));
	cache = test_cache(script, directory, CERMET_CACHE_ON);
	CHECK(find(&cache, &hit, &error));
	for (int round = 0; round < 12; round++) {
		struct cermet_bytes bytes;
		size_t size;

		CHECK(find(&cache, &hit, &error) && hit);
		CHECK(cermet_read_file(entry, &bytes, &error));
		bytes.data[random_below((uint32_t)bytes.size)] ^= (uint8_t)(1u << random_below(8));
		size = round % 3 ? bytes.size : random_below((uint32_t)bytes.size);
		CHECK(cermet_write_file(entry, WHOLE(bytes.data, size), &error));
		cermet_file_free(&bytes);
		CHECK(find(&cache, &hit, &error) && !hit);
	}
	cache.mode = CERMET_CACHE_REQUIRED;
	CHECK(truncate(entry, 100) == 0);
	CHECK(!find(&cache, &hit, &error));
	CHECK_TEXT(error.text, "is unusable: plan: 100 bytes, a header has");
	CHECK(num_files(directory) == 1);
}

static void
test_directory_of_others_is_not_used(void)
{
	char script[FILE_BYTES], directory[FILE_BYTES];
	struct cermet_cache cache;
	struct cermet_error error;
	bool hit;

	snprintf(script, sizeof(script), "%s/compiler", folder);
	snprintf(directory, sizeof(directory), "%s/deep/cache", folder);
	chmod(directory, 0777);
	cache = test_cache(script, directory, CERMET_CACHE_REQUIRED);
	CHECK(!find(&cache, &hit, &error));
	CHECK_TEXT(error.text, "mode 0777 lets others write, must be 0700 or 0755");
	cache.mode = CERMET_CACHE_ON;
	CHECK(find(&cache, &hit, &error) && !hit);
	chmod(directory, 0700);
}

static bool
file_holds(const char *name, const char *text)
{
	char path[FILE_BYTES];
	struct cermet_bytes bytes;
	struct cermet_error error;
	bool is_there;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (!cermet_read_file(path, &bytes, &error))
		return false;
	is_there = memmem(bytes.data, bytes.size, text, strlen(text)) != NULL;
	cermet_file_free(&bytes);
	return is_there;
}

static void
test_compiler_gets_what_it_needs_and_nothing_else(void)
{
	char script[FILE_BYTES];
	struct cermet_cache cache;
	struct cermet_error error;
	bool hit;
	int leaked = dup(0);

	snprintf(script, sizeof(script), "%s/compiler", folder);
	cache = test_cache(script, NULL, CERMET_CACHE_OFF);
	setenv("LD_PRELOAD", "", 1);
	setenv("CERMET_TEST_KEPT", "yes", 1);
	CHECK(find(&cache, &hit, &error));
	CHECK(file_holds("arguments", "--soc rk3588 --option match=tflite --option allow= --option deny= "
	                              "--option min_partition_nodes=1 --option assume=on --option prefer=speed "
	                              "--option registers=all --option chains=kernel --option first_rows=proven "
	                              "--option cores=1 --option groups=\n"));
	CHECK(!file_holds("environment", "LD_PRELOAD"));
	CHECK(file_holds("environment", "CERMET_TEST_KEPT=yes"));
	CHECK(file_holds("fds", "2\n") && !file_holds("fds", "5\n")); /* 3 or 4: ls reads the folder */
	unsetenv("LD_PRELOAD");
	close(leaked);
}

static void
test_compiler_failures_become_one_line(void)
{
	static const char *const cases[][2] = {
		{"echo first >&2; echo 'cermet: model: is too odd' >&2; exit 1", "compiler: model: is too odd"},
		{"exit 3", "compiler: failed without a message"},
		{"kill -9 $$", "killed by signal 9"},
		{"exit 0", "wrote no plan"},
		{"echo nonsense > \"$5\"", "the compiler's answer cannot be used: plan: 9 bytes"},
		{"yes 'a long message' 2>/dev/null | head -c 300000 >&2; echo end >&2; exit 1", "compiler: end"},
		{"sleep 60 & exit 1", "compiler: failed without a message"},
	};
	char script[FILE_BYTES], path[256];
	struct cermet_cache cache;
	struct cermet_error error;
	bool hit;

	snprintf(script, sizeof(script), "%s/broken", folder);
	cache = test_cache(script, NULL, CERMET_CACHE_OFF);
	for (size_t i = 0; i < CERMET_COUNT(cases); i++) {
		write_script(script, cases[i][0]);
		CHECK(!find(&cache, &hit, &error));
		CHECK_TEXT(error.text, cases[i][1]);
	}
	cache.compiler.command = "/nowhere/cermet";
	CHECK(!find(&cache, &hit, &error));
	CHECK_TEXT(error.text, "option compiler: '/nowhere/cermet' must be a program");
	setenv("CERMET_COMMAND", "/bin/sh -c", 1);
	CHECK(!cermet_locate_command(NULL, path, sizeof(path), &error));
	CHECK_TEXT(error.text, "CERMET_COMMAND: '/bin/sh -c' must be a program that can be executed, a path or a name in PATH");
	setenv("CERMET_COMMAND", "sh", 1);
	CHECK(cermet_locate_command(NULL, path, sizeof(path), &error) && path[0] == '/');
	unsetenv("CERMET_COMMAND");
}

static void
test_compiler_that_hangs_is_killed(void)
{
	char script[FILE_BYTES];
	struct cermet_cache cache;
	struct cermet_error error;
	int64_t start_ns = cermet_now_ns();
	bool hit;

	snprintf(script, sizeof(script), "%s/broken", folder);
	write_script(script, "echo half > \"$5.tmp\"; sleep 60");
	cache = test_cache(script, NULL, CERMET_CACHE_OFF);
	cache.compiler.timeout_ns = 1000000000;
	CHECK(!find(&cache, &hit, &error));
	CHECK_TEXT(error.text, "not done after 1 s (CERMET_COMPILER_TIMEOUT), killed");
	CHECK(cermet_now_ns() - start_ns < INT64_C(10000000000));
}

static void
test_cache_and_compiler(const char *build_id)
{
	char temporary[FILE_BYTES];

	snprintf(temporary, sizeof(temporary), "%s/tmp", folder);
	mkdir(temporary, 0700);
	setenv("TMPDIR", temporary, 1);
	test_cache_modes(build_id);
	test_damaged_entries_are_compiled_again(build_id);
	test_directory_of_others_is_not_used();
	test_compiler_gets_what_it_needs_and_nothing_else();
	test_compiler_failures_become_one_line();
	test_compiler_that_hangs_is_killed();
	CHECK(num_files(temporary) == 0);
}

int
main(void)
{
	char command[FILE_BYTES];
	struct cermet_error error;

	if (!cermet_make_folder(folder, sizeof(folder), &error)) {
		printf("%s\n", error.text);
		return 2;
	}
	snprintf(command, sizeof(command), "rm -r '%s'", folder);
	test_hash_of_any_length_and_split();
	test_key_equals_the_compilers();
	test_messages_are_printable_utf8();
	test_files_are_read_as_written();
	test_conversions_of_each_number_of_channels_and_columns();
	test_conversions_of_many_channels_and_pixels();
	test_blocks_of_pixels_become_channels();
	test_plan_is_refused_with_a_reason();
	test_each_limit_of_a_partition();
	test_plan_for_something_else_is_refused();
	test_damaged_plans_never_crash();
	test_plans_with_blocks_never_crash();
	test_run_gives_the_programs_result_with_one_submit();
	test_dropped_job_is_an_error_and_the_next_run_works();
	test_dropped_first_job_of_two_is_an_error_and_the_next_run_works();
	test_deadline_is_an_error_and_the_next_run_works();
	test_interrupted_calls_are_repeated();
	test_failed_load_leaves_nothing_behind();
	test_devices_that_are_none();
	test_cache_and_compiler(CERMET_BUILD_ID);
	CHECK(system(command) == 0);
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}
