/* SPDX-License-Identifier: MIT */
/* Cache and compiler: a folder of the test's own, and compilers that are shell scripts. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cermet_build.h"
#include "check.h"
#include "locate.h"
#include "plan_builder.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[FOLDER_BYTES];

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
	struct test_plan wanted = small_plan;
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
run_tests(void)
{
	char temporary[FILE_BYTES];

	snprintf(temporary, sizeof(temporary), "%s/tmp", folder);
	mkdir(temporary, 0700);
	setenv("TMPDIR", temporary, 1);
	test_cache_modes(CERMET_BUILD_ID);
	test_damaged_entries_are_compiled_again(CERMET_BUILD_ID);
	test_directory_of_others_is_not_used();
	test_compiler_gets_what_it_needs_and_nothing_else();
	test_compiler_failures_become_one_line();
	test_compiler_that_hangs_is_killed();
	CHECK(num_files(temporary) == 0);
}

int
main(void)
{
	return run_in_folder(folder, run_tests);
}
