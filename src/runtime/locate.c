/* SPDX-License-Identifier: MIT */
#include "locate.h"

#include "command.h"

#include <stdio.h>
#include <stdlib.h>

/* Whether snprintf's result went into `size` bytes, whole. */
static bool
fitted(int length, size_t size)
{
	return length >= 0 && (size_t)length < size;
}

bool
cermet_locate_command(const char *wish, char *path, size_t path_bytes, struct cermet_error *error)
{
	const char *given = getenv("CERMET_COMMAND");
	char reason[sizeof(error->text)];

	if (cermet_command_find(wish, "option compiler", path, path_bytes, reason, sizeof(reason)))
		return true;
	if ((wish && wish[0]) || (given && given[0]))
		return cermet_fail(error, "%s", reason);
	return cermet_fail(error, "%s, which compiles the model: install the cermet package, or name it with option "
	                   "compiler=PATH", reason);
}

bool
cermet_default_cache_dir(char *path, size_t path_bytes)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (cache && cache[0] == '/')
		return fitted(snprintf(path, path_bytes, "%s/cermet", cache), path_bytes);
	if (home && home[0] == '/')
		return fitted(snprintf(path, path_bytes, "%s/.cache/cermet", home), path_bytes);
	return false;
}
