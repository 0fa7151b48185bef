/* SPDX-License-Identifier: MIT */
/* What the client's files share: the messages to the driver process (src/cermet/kmd/protocol.py reads this file). */
#ifndef CERMET_CLIENT_INTERNAL_H
#define CERMET_CLIENT_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#define CLIENT_MAGIC 0x544d5243
#define CLIENT_VERSION 1

#define CLIENT_OPEN 1
#define CLIENT_IOCTL 2
#define CLIENT_MMAP 3

#define CLIENT_REPLY_DONE 1
#define CLIENT_REPLY_WAITING 2

/* Sent on the device fd, with one end of a socket pair for the replies. */
struct client_request {
   uint32_t magic;
   uint32_t version;
   uint32_t kind;
   uint32_t flags;      /* OPEN: of open(2); MMAP: of mmap(2) */
   uint64_t request;    /* IOCTL: number; MMAP: length */
   uint64_t argument;   /* IOCTL: address in the caller; MMAP: offset */
   uint32_t protection; /* MMAP */
   uint32_t reserved;
};

/* WAITING says that a signal may interrupt the call from now on; DONE ends it. */
struct client_reply {
   uint32_t magic;
   uint32_t kind;
   int32_t error;       /* errno, 0: success */
   int32_t value;       /* what the call returns on success */
   uint64_t fd_address; /* where the number of the fd that comes along is stored; 0: the fd is for the client itself */
   uint32_t num_fds;    /* 0 or 1 */
   uint32_t fd_flags;   /* O_CLOEXEC or 0 */
};

#define CLIENT_PATH_BYTES 108 /* of sockaddr_un */
#define CLIENT_MARK "cermet/"  /* how the abstract name of every device fd begins, after its zero byte */

/* Where the simulated device of `soc` listens. 0, or -1 with errno and one line in message. */
int client_socket_path(const char *soc, char *path, size_t path_bytes, char *message, size_t message_bytes);

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
