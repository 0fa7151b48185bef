/* SPDX-License-Identifier: MIT */
/*
 * What the simulated driver does for each call of a client, in as few steps as there can be: a call mostly finds the
 * driver's process idle and its caches empty. Python reads this very file.
 */
#ifndef CERMET_KMD_H
#define CERMET_KMD_H

#include <stdint.h>

/* --- messages: the driver's end of cermet_protocol.h --- */

/* What came. From END on no fd is left open. */
enum {
   MESSAGE_GOOD,
   MESSAGE_END,      /* the client has closed its last fd */
   MESSAGE_SIZE,     /* not a struct client_request with up to CLIENT_MAX_INLINE bytes behind it */
   MESSAGE_MAGIC,    /* of another protocol */
   MESSAGE_VERSION,  /* of another version; the sender has been told EPROTONOSUPPORT */
   MESSAGE_NO_REPLY, /* without a socket for replies */
   MESSAGE_NO_SENDER /* from another pid namespace */
};

/* A call: the members of client_request, who sent it, and where the replies go. */
struct cermet_message {
   uint32_t kind;
   uint32_t flags;
   uint64_t request;
   uint64_t argument;
   uint32_t protection;
   int32_t pid;
   int32_t reply_end;
   uint32_t num_inline; /* bytes that came along; of a message that is not GOOD, all its bytes */
};

/* MESSAGE_*, or the negative errno of recvmsg(). inlined: CLIENT_MAX_INLINE bytes. */
int32_t cermet_message_receive(int32_t connection, struct cermet_message *message, uint8_t *inlined);

/*
 * Sends and closes. fd: goes along, or -1; it stays open here. If it cannot go, the caller gets ENOMEM. A caller that
 * is gone is no error.
 */
void cermet_message_done(int32_t reply_end, int32_t error, int32_t value, uint64_t fd_address, int32_t fd,
                         uint32_t fd_flags);

/* Whether the end is a Unix socket, on which nothing takes time; if so, the caller is told that the call waits. */
int32_t cermet_message_waiting(int32_t reply_end);

/* --- the memory of another process: 0 or an errno, EFAULT if not all bytes are there --- */

int32_t cermet_user_read(int32_t pid, uint8_t *to, uint64_t from, uint64_t num_bytes);
int32_t cermet_user_write(int32_t pid, uint64_t to, const uint8_t *from, uint64_t num_bytes);

/* The first `size` bytes of `count` elements of an array; element i lies at from + (i * stride & offset_mask). */
int32_t cermet_user_read_elements(int32_t pid, uint8_t *to, uint64_t from, uint64_t count, uint64_t stride,
                                  uint64_t size, uint64_t offset_mask);

#endif
