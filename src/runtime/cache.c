/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cache.h"

#include "cermet_build.h"
#include "locate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void
add_text(struct cermet_blake2sp *hash, const char *text)
{
	cermet_blake2sp_add(hash, text, strlen(text));
}

void
cermet_cache_key(const char *soc, const char *build_id, const struct cermet_compile_options *options,
                 const struct cermet_pieces *blob, uint8_t key[CERMET_HASH_BYTES])
{
	const char *const parts[] = {"cermet-key-2", soc, build_id};
	struct cermet_compile_option list[CERMET_NUM_COMPILE_OPTIONS];
	struct cermet_blake2sp hash;

	cermet_list_compile_options(options, list);
	cermet_blake2sp_start(&hash);
	for (size_t i = 0; i < CERMET_COUNT(parts); i++)
		cermet_blake2sp_add(&hash, parts[i], strlen(parts[i]) + 1); /* the NUL ends the part */
	for (size_t i = 0; i < CERMET_COUNT(list); i++) {
		add_text(&hash, i == 0 ? "" : ";");
		add_text(&hash, list[i].name);
		add_text(&hash, "=");
		add_text(&hash, list[i].value);
	}
	cermet_blake2sp_add(&hash, "", 1);
	for (size_t i = 0; i < blob->count; i++)
		cermet_blake2sp_add(&hash, blob->pieces[i].data, blob->pieces[i].size);
	cermet_blake2sp_finish(&hash, key);
}

void
cermet_key_hex(const uint8_t key[CERMET_HASH_BYTES], char hex[CERMET_KEY_HEX_BYTES])
{
	for (int i = 0; i < CERMET_HASH_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
}

void
cermet_plan_file_free(struct cermet_plan_file *plan)
{
	cermet_file_free(&plan->bytes);
	*plan = (struct cermet_plan_file){0};
}

/* Make the directory and those above it, as `mkdir -p` does, for this user only. */
static void
make_directories(const char *directory)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s", directory) >= (int)sizeof(path))
		return;
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	mkdir(path, 0700);
}

/* Only this user or root may have put files there: a plan is a program for a DMA engine. */
static bool
directory_is_private(const char *directory, struct cermet_error *error)
{
	struct stat status;

	if (stat(directory, &status) != 0)
		return cermet_fail(error, "cache directory %s: %s", directory, strerror(errno));
	if (!S_ISDIR(status.st_mode))
		return cermet_fail(error, "cache directory %s: is no directory", directory);
	if (status.st_uid != geteuid() && status.st_uid != 0)
		return cermet_fail(error, "cache directory %s: belongs to user %u, must belong to %u or root", directory,
		                   (unsigned)status.st_uid, (unsigned)geteuid());
	if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return cermet_fail(error, "cache directory %s: mode %04o lets others write, must be 0700 or 0755", directory,
		                   (unsigned)status.st_mode & 0777);
	return true;
}

/* The directory to use; false, with the reason, when there is none that can be trusted. */
static bool
choose_directory(const struct cermet_cache *cache, char directory[PATH_MAX], struct cermet_error *error)
{
	if (!cache->directory) {
		if (!cermet_default_cache_dir(directory, PATH_MAX))
			return cermet_fail(error, "no cache directory: HOME is not set; give option cache_dir");
	} else if (snprintf(directory, PATH_MAX, "%s", cache->directory) >= PATH_MAX) {
		return cermet_fail(error, "option cache_dir: longer than %d bytes", PATH_MAX - 1);
	}
	if (cache->mode == CERMET_CACHE_ON)
		make_directories(directory);
	return directory_is_private(directory, error);
}

static bool
check_plan(struct cermet_plan_file *plan, const char *soc, const uint8_t *key, struct cermet_error *error)
{
	const struct cermet_plan_expectation expected = {.key = key, .build_id = CERMET_BUILD_ID, .soc = soc};

	return cermet_plan_open(plan->bytes.data, plan->bytes.size, &expected, &plan->view, error);
}

/* A hit; else false, with a reason unless the entry just is not there. */
static bool
load_entry(const char *path, const char *soc, const uint8_t *key, struct cermet_plan_file *plan,
           struct cermet_error *error)
{
	if (!cermet_read_file(path, &plan->bytes, error))
		return false;
	if (check_plan(plan, soc, key, error)) {
		plan->is_from_cache = true;
		return true;
	}
	cermet_plan_file_free(plan);
	return false;
}

/* Write beside the entry, sync, rename: a reader sees nothing or all of it. */
static bool
store_entry(const char *directory, const char *hex, const char *path, const struct cermet_bytes *bytes,
            struct cermet_error *error)
{
	static pthread_mutex_t one_writer = PTHREAD_MUTEX_INITIALIZER; /* the name is the process's */
	char temporary[PATH_MAX];
	const struct cermet_piece whole = {bytes->data, bytes->size};
	bool is_stored;
	int fd;

	if (snprintf(temporary, sizeof(temporary), "%s/.%s.%d.tmp", directory, hex, (int)getpid()) >= PATH_MAX)
		return cermet_fail(error, "cache directory %s: path is too long", directory);
	pthread_mutex_lock(&one_writer);
	unlink(temporary);
	is_stored = cermet_write_file(temporary, &(struct cermet_pieces){&whole, 1}, error);
	fd = is_stored ? open(temporary, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	if (is_stored && rename(temporary, path) != 0)
		is_stored = cermet_fail(error, "cache entry %s: %s", path, strerror(errno));
	if (!is_stored)
		unlink(temporary);
	pthread_mutex_unlock(&one_writer);
	return is_stored;
}

static bool
compile(const struct cermet_cache *cache, const struct cermet_compile_options *options,
        const struct cermet_pieces *blob, const uint8_t *key, const char *hex, struct cermet_plan_file *plan,
        struct cermet_error *error)
{
	struct cermet_error reason;

	if (!cermet_compile(&cache->compiler, options, hex, blob, &plan->bytes, error))
		return false;
	if (check_plan(plan, cache->compiler.soc, key, &reason))
		return true;
	cermet_plan_file_free(plan);
	return cermet_fail(error, "the compiler's answer cannot be used: %s", reason.text);
}

/* The kernel decides about some options, so a plan made with those that the user wished may not be the one for it. */
static bool
fail_required(const char *path, const struct cermet_compile_options *options, const struct cermet_error *reason,
              struct cermet_error *error)
{
	if (!path)
		return cermet_fail(error, "option cache=required: %s", reason->text);
	if (reason->text[0])
		return cermet_fail(error, "option cache=required: %s is unusable: %s", path, reason->text);
	return cermet_fail(error, "option cache=required: %s is missing; make it with `cermet compile`, for this device with "
	                   "cores=%s and chains=%s", path, options->cores, options->chains);
}

bool
cermet_find_plan(const struct cermet_cache *cache, const struct cermet_compile_options *options,
                 const struct cermet_pieces *blob, struct cermet_plan_file *plan, struct cermet_error *error)
{
	const enum cermet_log_level level = cache->compiler.log_level;
	uint8_t key[CERMET_HASH_BYTES];
	char hex[CERMET_KEY_HEX_BYTES], directory[PATH_MAX] = "", path[PATH_MAX + 80];
	struct cermet_error reason = {""};
	bool has_directory;

	*plan = (struct cermet_plan_file){0};
	cermet_cache_key(cache->compiler.soc, CERMET_BUILD_ID, options, blob, key);
	cermet_key_hex(key, hex);
	if (cache->mode == CERMET_CACHE_OFF)
		return compile(cache, options, blob, key, hex, plan, error);
	has_directory = choose_directory(cache, directory, &reason);
	snprintf(path, sizeof(path), "%s/%s.plan", directory, hex);
	if (has_directory && load_entry(path, cache->compiler.soc, key, plan, &reason))
		return true;
	if (cache->mode == CERMET_CACHE_REQUIRED)
		return fail_required(has_directory ? path : NULL, options, &reason, error);
	if (reason.text[0] && (has_directory || cache->mode == CERMET_CACHE_ON))
		cermet_log(level, CERMET_LOG_WARNING, "%s; compiling again%s", reason.text, has_directory ? "" : ", not cached");
	if (!compile(cache, options, blob, key, hex, plan, error))
		return false;
	if (cache->mode == CERMET_CACHE_ON && has_directory &&
	    !store_entry(directory, hex, path, &plan->bytes, &reason))
		cermet_log(level, CERMET_LOG_WARNING, "%s", reason.text);
	return true;
}
