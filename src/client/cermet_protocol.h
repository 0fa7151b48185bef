/* SPDX-License-Identifier: MIT */
/*
 * The messages between a client of the simulated device and its driver process. Both run on one machine, so numbers
 * are in its byte order. The Python side reads this very file.
 */
#ifndef CERMET_PROTOCOL_H
#define CERMET_PROTOCOL_H

#include <stdint.h>

#define CLIENT_MAGIC 0x544d5243
#define CLIENT_VERSION 2

#define CLIENT_MAX_INLINE 256

#define CLIENT_OPEN 1
#define CLIENT_IOCTL 2
#define CLIENT_MMAP 3
#define CLIENT_BUSY 4

#define CLIENT_REPLY_DONE 1
#define CLIENT_REPLY_WAITING 2

/*
 * In every version a request begins with magic and version, and a reply is struct client_reply: a driver answers
 * another version with EPROTONOSUPPORT.
 *
 * Sent on the device fd, with one end of a socket pair for the replies. Behind it may follow the bytes of an ioctl's
 * argument, up to CLIENT_MAX_INLINE, as they are at that moment: the driver need not read them from the caller then.
 */
struct client_request {
   uint32_t magic;
   uint32_t version;
   uint32_t kind;
   uint32_t flags;      /* OPEN: of open(2); MMAP: of mmap(2) */
   uint64_t request;    /* IOCTL: number; MMAP: length */
   uint64_t argument;   /* IOCTL: address in the caller; MMAP: offset; BUSY: where a uint64_t of nanoseconds is stored */
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

#endif
