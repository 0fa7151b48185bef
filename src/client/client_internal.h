/* SPDX-License-Identifier: MIT */
/* What the client's files share. */
#ifndef CERMET_CLIENT_INTERNAL_H
#define CERMET_CLIENT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cermet_protocol.h"

#define CLIENT_PATH_BYTES 108 /* of sockaddr_un */
#define CLIENT_MARK "cermet/"  /* how the abstract name of every device fd begins, after its zero byte */

#define CLIENT_NO_DEADLINE INT64_C(-1)

/* One call of the driver, no cancellation point. 0 or an errno; *fd is a fd that came with the reply, the caller's to
 * close, or -1. ETIMEDOUT after deadline_ms, a time of client_now_ms(). */
int client_call(int device, const struct client_request *request, int64_t deadline_ms, struct client_reply *reply,
                int *fd);

/* Raise the limit of fds for a moment; *before is what client_restore_limit() needs. False: it stays as it is. */
struct rlimit;
bool client_raise_limit(struct rlimit *before);
void client_restore_limit(const struct rlimit *before);

/* pthread_atfork() for the child. */
void client_at_fork(void (*in_child)(void));

/* In a forked child: whoever had raised the limit is not in it. */
void client_forget_limit(void);

/* The private folder of sockets, logs and sysfs files, made when missing. 0, or -1 with errno and a line. */
int client_runtime_folder(char *path, size_t path_bytes, char *message, size_t message_bytes);

/* A fresh connection to the driver that listens on path. The fd, or -1 with errno. */
int client_connect(const char *path);

/* Start the driver of `soc` on the socket `path` and wait until it listens. 0, or -1 with errno and a line. */
int client_start_driver(const char *soc, const char *path, int64_t deadline_ms, char *message, size_t message_bytes);

/* CLOCK_MONOTONIC in milliseconds. */
int64_t client_now_ms(void);

/* Write one line into message when there is one. */
void client_say(char *message, size_t message_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
