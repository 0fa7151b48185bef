/* SPDX-License-Identifier: MIT */
/* Finding the cermet command and the user's cache directory. */
#ifndef CERMET_LOCATE_H
#define CERMET_LOCATE_H

#include "base.h"

/* Path of the cermet command, see cermet_command_find(): `wish` is option compiler's value or NULL. */
bool
cermet_locate_command(const char *wish, char *path, size_t path_bytes, struct cermet_error *error);

/* $XDG_CACHE_HOME/cermet when that is an absolute path, else $HOME/.cache/cermet. False when neither is set. */
bool
cermet_default_cache_dir(char *path, size_t path_bytes);

#endif
