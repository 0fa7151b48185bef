/* SPDX-License-Identifier: MIT */
/* Where the cermet command is: it compiles models and is the simulated device's driver. */
#ifndef CERMET_COMMAND_H
#define CERMET_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Path of the cermet command. `wish`, when neither NULL nor empty, else CERMET_COMMAND, names one program, without
 * arguments: a path, or a name that is looked up in PATH. Without either: bin/cermet in a folder above this library (a virtual
 * environment, /usr), when it belongs to root or to this library's owner, else the first in PATH. `source` says in
 * the message where the wish came from. False, with one line, when there is none.
 */
bool cermet_command_find(const char *wish, const char *source, char *path, size_t path_bytes, char *message,
                         size_t message_bytes);

#endif
