/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cermet_kmd.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cermet_protocol.h"

#define LEADING_BYTES (2 * sizeof(uint32_t))
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

/* What comes along with a message: who sent it, as the kernel says, and an fd for the replies. */
struct attached {
   int32_t pid;   /* 0: not known */
   int reply_end; /* -1: none */
};

/* Closes all fds but the first: in the padding, or without credentials, there is room for more. */
static void
take_fds(struct cmsghdr *part, struct attached *attached)
{
   const size_t num_fds = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

   for (size_t i = 0; i < num_fds; i++) {
      int fd;

      memcpy(&fd, CMSG_DATA(part) + i * sizeof(fd), sizeof(fd));
      if (attached->reply_end < 0)
         attached->reply_end = fd;
      else
         close(fd);
   }
}

static struct attached
read_attached(struct msghdr *header)
{
   struct attached attached = {.reply_end = -1};

   for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
      if (part->cmsg_level != SOL_SOCKET)
         continue;
      if (part->cmsg_type == SCM_CREDENTIALS && part->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
         struct ucred sender;
         memcpy(&sender, CMSG_DATA(part), sizeof(sender));
         attached.pid = sender.pid;
      } else if (part->cmsg_type == SCM_RIGHTS) {
         take_fds(part, &attached);
      }
   }
   return attached;
}

/* Magic and version lead the messages of every version, whatever their size. */
static int32_t
judge(const struct client_request *request, size_t num_bytes, const struct attached *attached)
{
   if (num_bytes >= LEADING_BYTES && request->magic != CLIENT_MAGIC)
      return MESSAGE_MAGIC;
   if (num_bytes >= LEADING_BYTES && request->version != CLIENT_VERSION)
      return MESSAGE_VERSION;
   if (num_bytes < sizeof(*request) || num_bytes > sizeof(*request) + CLIENT_MAX_INLINE)
      return MESSAGE_SIZE;
   if (attached->reply_end < 0)
      return MESSAGE_NO_REPLY;
   return attached->pid > 0 ? MESSAGE_GOOD : MESSAGE_NO_SENDER;
}

static void
refuse(int32_t verdict, int reply_end)
{
   if (reply_end < 0)
      return;
   if (verdict == MESSAGE_VERSION)
      cermet_message_done(reply_end, EPROTONOSUPPORT, 0, 0, -1, 0);
   else
      close(reply_end);
}

int32_t
cermet_message_receive(int32_t connection, struct cermet_message *message, uint8_t *inlined)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))]; /* the kernel closes what has no room */
   } control;
   struct client_request request = {0};
   char beyond; /* a message that is too long shows */
   struct iovec parts[] = {{.iov_base = &request, .iov_len = sizeof(request)},
                           {.iov_base = inlined, .iov_len = CLIENT_MAX_INLINE},
                           {.iov_base = &beyond, .iov_len = sizeof(beyond)}};
   struct msghdr header = {
      .msg_iov = parts, .msg_iovlen = 3, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
   ssize_t received;

   do
      received = recvmsg(connection, &header, MSG_CMSG_CLOEXEC);
   while (received < 0 && errno == EINTR);
   if (received < 0)
      return -errno;
   if (received == 0 && header.msg_controllen == 0)
      return MESSAGE_END; /* even an empty message comes with its sender's credentials */

   const struct attached attached = read_attached(&header);
   const int32_t verdict = judge(&request, (size_t)received, &attached);
   const size_t num_before = verdict == MESSAGE_GOOD ? sizeof(request) : 0;
   if (verdict != MESSAGE_GOOD)
      refuse(verdict, attached.reply_end);
   *message = (struct cermet_message){
      .kind = request.kind, .flags = request.flags, .request = request.request, .argument = request.argument,
      .protection = request.protection, .pid = attached.pid, .reply_end = attached.reply_end,
      .num_inline = (uint32_t)((size_t)received - num_before)};
   return verdict;
}

static bool
send_reply(int reply_end, const struct client_reply *reply, int fd)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(int))];
   } control = {0};
   struct iovec data = {.iov_base = (void *)reply, .iov_len = sizeof(*reply)};
   struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

   if (fd >= 0) {
      message.msg_control = control.bytes;
      message.msg_controllen = sizeof(control.bytes);
      struct cmsghdr *header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int));
      memcpy(CMSG_DATA(header), &fd, sizeof(int));
   }
   /* Not write(): the end is a stranger's, and only a socket that never blocks is acceptable. */
   return sendmsg(reply_end, &message, SEND_FLAGS) >= 0;
}

void
cermet_message_done(int32_t reply_end, int32_t error, int32_t value, uint64_t fd_address, int32_t fd,
                    uint32_t fd_flags)
{
   struct client_reply reply = {
      .magic = CLIENT_MAGIC, .kind = CLIENT_REPLY_DONE, .error = error, .value = value, .fd_address = fd_address,
      .num_fds = fd >= 0, .fd_flags = fd_flags};

   if (!send_reply(reply_end, &reply, fd) && fd >= 0) { /* too many fds on their way at once, or no memory for it */
      reply = (struct client_reply){.magic = CLIENT_MAGIC, .kind = CLIENT_REPLY_DONE, .error = ENOMEM};
      send_reply(reply_end, &reply, -1);
   }
   close(reply_end);
}

int32_t
cermet_message_waiting(int32_t reply_end)
{
   const struct client_reply reply = {.magic = CLIENT_MAGIC, .kind = CLIENT_REPLY_WAITING};
   int domain = 0;
   socklen_t num_bytes = sizeof(domain);

   if (getsockopt(reply_end, SOL_SOCKET, SO_DOMAIN, &domain, &num_bytes) != 0 || domain != AF_UNIX)
      return false;
   send_reply(reply_end, &reply, -1);
   return true;
}
