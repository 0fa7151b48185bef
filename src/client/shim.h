/* SPDX-License-Identifier: MIT */
/* What the shim's files share: each replaces the calls of one kind in the program that it is preloaded into. */
#ifndef CERMET_SHIM_H
#define CERMET_SHIM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "devices.h"
#include "preload.h"

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one set of functions serves both on 64-bit systems only");

/* -1 with errno. */
int shim_fail(int error);

/* open(2) on the node: an fd, or -1 with errno and a line on stderr when there is no device. */
int shim_open_node(int flags);

/* ioctl(2) on an exported BO, which the system has refused with errno: so it does for whatever else. */
int shim_dmabuf_ioctl(int fd, unsigned long request, void *argument);

/* What a call with this path is about, and what to call the system with: for SHIM_FILE the path is replaced by
 * `real`, PATH_MAX bytes. Links through /proc/self/fd to a device fd are the node as well. */
enum shim_path shim_target(int folder, const char **path, char *real);

/* The device fd that /proc/self/fd/N, /proc/PID/fd/N of this process or /dev/fd/N names, or -1. */
int shim_fd_of_link(const char *path);

#endif
