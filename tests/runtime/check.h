/* SPDX-License-Identifier: MIT */
/* What C tests need to check facts and to count failures; irregular numbers, the same in each run. */
#ifndef CERMET_CHECK_H
#define CERMET_CHECK_H

#include "files.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER_BYTES 256 /* room for the path of a folder of the test's own */
#define FILE_BYTES (FOLDER_BYTES + 32) /* and of a file in it */

static int num_failures;

#define CHECK(fact) \
	do { \
		if (!(fact)) { \
			printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #fact); \
			num_failures++; \
		} \
	} while (0)

/* The text holds the part. */
#define CHECK_TEXT(text, part) \
	do { \
		if (!strstr((text), (part))) { \
			printf("%s:%d: '%s' is not in '%s'\n", __FILE__, __LINE__, (part), (text)); \
			num_failures++; \
		} \
	} while (0)

/* A program's whole run, in a folder of its own that is removed behind it: what main() returns. */
static inline int
run_in_folder(char folder[FOLDER_BYTES], void (*run_tests)(void))
{
	char command[FILE_BYTES];
	struct cermet_error error;

	if (!cermet_make_folder(folder, FOLDER_BYTES, &error)) {
		printf("%s\n", error.text);
		return 2;
	}
	snprintf(command, sizeof(command), "rm -r '%s'", folder);
	run_tests();
	CHECK(system(command) == 0);
	printf("%d failures\n", num_failures);
	return num_failures != 0;
}

static uint32_t random_state = 12345;

static inline uint32_t
random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % limit;
}

#endif
