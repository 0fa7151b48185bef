/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "compiler.h"

#include "compiler_process.h"
#include "locate.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ARGUMENTS 38
#define NUM_COMPILE_OPTIONS 11

/* "name=value" in malloc'ed memory. */
static char *
option_text(const char *name, const char *value)
{
	char *text = NULL;

	return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

/* Fill `texts` with the --option values, count them; fewer than there are when memory is short. */
static size_t
option_texts(const struct cermet_compile_options *options, char *texts[NUM_COMPILE_OPTIONS])
{
	const char *const pairs[NUM_COMPILE_OPTIONS][2] = {
		{"match", options->match},
		{"allow", options->allow},
		{"deny", options->deny},
		{"min_partition_nodes", options->min_partition_nodes},
		{"assume", options->assume},
		{"prefer", options->prefer},
		{"registers", options->registers},
		{"chains", options->chains},
		{"first_rows", options->first_rows},
		{"cores", options->cores},
		{"groups", options->groups},
	};
	size_t count = 0;

	while (count < NUM_COMPILE_OPTIONS && (texts[count] = option_text(pairs[count][0], pairs[count][1])) != NULL)
		count++;
	return count;
}

static bool
run_with_files(const struct cermet_compiler *compiler, const struct cermet_compile_options *options,
               const char *key_hex, const char *command, const char *blob_path, const char *plan_path,
               struct cermet_error *error)
{
	const char *arguments[MAX_ARGUMENTS] = {command, "plan", "--blob", blob_path, "--out", plan_path,
	                                        "--key", key_hex, "--soc", compiler->soc};
	size_t num_arguments = 10;
	char *texts[NUM_COMPILE_OPTIONS];
	size_t num_texts = option_texts(options, texts);
	bool is_done = false;

	for (size_t i = 0; i < num_texts; i++) {
		arguments[num_arguments++] = "--option";
		arguments[num_arguments++] = texts[i];
	}
	if (num_texts == CERMET_COUNT(texts))
		is_done = cermet_run_compiler((char *const *)(uintptr_t)arguments, compiler->timeout_ns,
		                              compiler->log_level, error);
	else
		cermet_fail(error, "compiler: out of memory");
	for (size_t i = 0; i < num_texts; i++)
		free(texts[i]);
	return is_done;
}

/* A folder that only this user can enter. */
static bool
make_private_folder(char *folder, size_t size, struct cermet_error *error)
{
	const char *parent = getenv("TMPDIR");
	int length = snprintf(folder, size, "%s/cermet-XXXXXX", parent && parent[0] == '/' ? parent : "/tmp");

	if (length < 0 || (size_t)length >= size || !mkdtemp(folder))
		return cermet_fail(error, "compiler: no temporary folder %s: %s", folder, strerror(errno));
	return true;
}

/* With everything in it: a killed compiler leaves files whose names we do not know. */
static void
remove_folder(const char *path)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;

	while (folder && (entry = readdir(folder)) != NULL)
		unlinkat(dirfd(folder), entry->d_name, 0);
	if (folder)
		closedir(folder);
	rmdir(path);
}

bool
cermet_compile(const struct cermet_compiler *compiler, const struct cermet_compile_options *options, const char *key_hex,
               const struct cermet_pieces *blob, struct cermet_bytes *plan, struct cermet_error *error)
{
	char command[PATH_MAX], folder[PATH_MAX - 16], blob_path[PATH_MAX], plan_path[PATH_MAX];
	bool is_done;

	if (!cermet_locate_command(compiler->command, command, sizeof(command), error) ||
	    !make_private_folder(folder, sizeof(folder), error))
		return false;
	snprintf(blob_path, sizeof(blob_path), "%s/blob", folder);
	snprintf(plan_path, sizeof(plan_path), "%s/plan", folder);
	is_done = cermet_write_file(blob_path, blob, error) &&
	          run_with_files(compiler, options, key_hex, command, blob_path, plan_path, error) &&
	          cermet_read_file(plan_path, plan, error);
	if (!is_done && error->text[0] == '\0')
		cermet_fail(error, "compiler %s: wrote no plan", command);
	remove_folder(folder);
	return is_done;
}
