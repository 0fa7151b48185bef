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

void
cermet_list_compile_options(const struct cermet_compile_options *options,
                            struct cermet_compile_option list[CERMET_NUM_COMPILE_OPTIONS])
{
	const struct cermet_compile_option all[] = {
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

	_Static_assert(CERMET_COUNT(all) == CERMET_NUM_COMPILE_OPTIONS, "all are listed");
	_Static_assert(sizeof(*options) == CERMET_COUNT(all) * sizeof(char *), "and there are no others");
	memcpy(list, all, sizeof(all));
}

/* Fill `texts` with "name=value" in malloc'ed memory, count them; fewer than there are when memory is short. */
static size_t
option_texts(const struct cermet_compile_options *options, char *texts[CERMET_NUM_COMPILE_OPTIONS])
{
	struct cermet_compile_option list[CERMET_NUM_COMPILE_OPTIONS];
	size_t count = 0;

	cermet_list_compile_options(options, list);
	while (count < CERMET_COUNT(list) && asprintf(&texts[count], "%s=%s", list[count].name, list[count].value) >= 0)
		count++;
	return count;
}

static bool
run_with_files(const struct cermet_compiler *compiler, const struct cermet_compile_options *options,
               const char *key_hex, const char *command, const char *blob_path, const char *plan_path,
               struct cermet_error *error)
{
	const char *const first[] = {command, "plan", "--blob", blob_path, "--out", plan_path, "--key", key_hex, "--soc",
	                             compiler->soc};
	const char *arguments[CERMET_COUNT(first) + 2 * CERMET_NUM_COMPILE_OPTIONS + 1] = {0}; /* NULL is the last */
	size_t num_arguments = CERMET_COUNT(first);
	char *texts[CERMET_NUM_COMPILE_OPTIONS];
	size_t num_texts = option_texts(options, texts);
	bool is_done = false;

	memcpy(arguments, first, sizeof(first));
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
	    !cermet_make_folder(folder, sizeof(folder), error))
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
