/* SPDX-License-Identifier: MIT */
/*
 * The simulated device's client: what open, ioctl and mmap are for a real node. The fd is the connected socket
 * itself, so dup, fork, SCM_RIGHTS and close mean what they mean for a device file. Nothing here knows an ioctl's
 * struct: the driver process reads and writes the caller's memory.
 */
#ifndef CERMET_CLIENT_H
#define CERMET_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The shim exports these calls too; elsewhere they are linked in and hidden. */
#ifndef CERMET_CLIENT_API
#define CERMET_CLIENT_API
#endif

/* Open the simulated NPU of `soc` (NULL: rk3588), starting its driver process when none runs.
 * Returns an fd, or -1 with errno and, when message is not NULL, one line of what went wrong. flags: O_CLOEXEC, O_EXCL as open(2). */
CERMET_CLIENT_API int cermet_client_open(const char *soc, int flags, char *message, size_t message_bytes);

/* As ioctl(2). */
CERMET_CLIENT_API int cermet_client_ioctl(int fd, unsigned long request, void *argument);

/* As mmap(2) on the device. */
CERMET_CLIENT_API void *cermet_client_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);

/* How long the simulated NPU has had a task, of any program, on one core or several: nanoseconds since its driver process
 * began, from the first register that is written for a task to its end. 0, or -1 with errno. No real device can tell:
 * it is for measuring what is around the NPU. */
CERMET_CLIENT_API int cermet_client_busy(int fd, uint64_t *busy_ns);

/* Where the simulated device of `soc` listens: CERMET_SIM_SOCKET, else a place of this installation and user.
 * 0, or -1 with errno and one line in message. */
CERMET_CLIENT_API int cermet_client_socket_path(const char *soc, char *path, size_t path_bytes, char *message,
                                                size_t message_bytes);

/* Whether fd is a simulated device (also when it came by dup, fork or a socket). */
CERMET_CLIENT_API bool cermet_client_owns(int fd);

#endif
