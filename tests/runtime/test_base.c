/* SPDX-License-Identifier: MIT */
/* What the rest of the runtime stands on: hash, key, lines of text, files. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cache.h"
#include "check.h"
#include "plan_builder.h"

#include <stdlib.h>
#include <unistd.h>

static char folder[FOLDER_BYTES];

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
run_tests(void)
{
	test_hash_of_any_length_and_split();
	test_key_equals_the_compilers();
	test_messages_are_printable_utf8();
	test_files_are_read_as_written();
}

int
main(void)
{
	return run_in_folder(folder, run_tests);
}
