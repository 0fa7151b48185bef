/* SPDX-License-Identifier: MIT */
/* Finding the cermet command and the user's cache directory. */
#ifndef CERMET_LOCATE_H
#define CERMET_LOCATE_H

#include "base.h"

/*
 * Path of the cermet command: `wish` when not NULL; else CERMET_COMMAND; else bin/cermet in a folder above this library
 * (a virtual environment, /usr), when it belongs to root or to this library's owner; else the first in PATH.
 */
bool
cermet_locate_command(const char *wish, char *path, size_t path_bytes, struct cermet_error *error);

/* $XDG_CACHE_HOME/cermet when that is an absolute path, else $HOME/.cache/cermet. False when neither is set. */
bool
cermet_default_cache_dir(char *path, size_t path_bytes);

#endif
