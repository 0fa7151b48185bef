/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cermet_messages.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cermet_protocol.h"

#define MAX_FDS 4 /* of one message, to close what a stranger sends */
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

/* What comes along with a message: who sent it, as the kernel says, and fds. */
struct attached {
   int32_t pid; /* 0: not known */
   int fds[MAX_FDS];
   size_t num_fds;
};

static void
read_attached(struct msghdr *header, struct attached *attached)
{
   for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
      const size_t num_bytes = part->cmsg_len - CMSG_LEN(0);

      if (part->cmsg_level != SOL_SOCKET)
         continue;
      if (part->cmsg_type == SCM_CREDENTIALS && num_bytes >= sizeof(struct ucred)) {
         struct ucred sender;
         memcpy(&sender, CMSG_DATA(part), sizeof(sender));
         attached->pid = sender.pid;
      } else if (part->cmsg_type == SCM_RIGHTS) {
         for (size_t i = 0; i < num_bytes / sizeof(int) && attached->num_fds < MAX_FDS; i++)
            memcpy(&attached->fds[attached->num_fds++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      }
   }
}

static int32_t
judge(const struct client_request *request, size_t num_bytes, const struct attached *attached)
{
   if (num_bytes < sizeof(*request) || num_bytes > sizeof(*request) + CLIENT_MAX_INLINE)
      return MESSAGE_SIZE;
   if (request->magic != CLIENT_MAGIC || request->version != CLIENT_VERSION)
      return MESSAGE_MAGIC;
   if (attached->num_fds == 0)
      return MESSAGE_NO_REPLY;
   return attached->pid > 0 ? MESSAGE_GOOD : MESSAGE_NO_SENDER;
}

int32_t
cermet_message_receive(int32_t connection, struct cermet_message *message, uint8_t *inlined)
{
   union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(MAX_FDS * sizeof(int))];
   } control;
   struct client_request request = {0};
   struct attached attached = {0};
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
   read_attached(&header, &attached);
   if (received == 0 && attached.pid == 0 && attached.num_fds == 0)
      return MESSAGE_END; /* even an empty message comes with its sender's credentials */

   const int32_t verdict = judge(&request, (size_t)received, &attached);
   for (size_t i = verdict == MESSAGE_GOOD ? 1 : 0; i < attached.num_fds; i++)
      close(attached.fds[i]);
   *message = (struct cermet_message){
      .kind = request.kind, .flags = request.flags, .request = request.request, .argument = request.argument,
      .protection = request.protection, .pid = attached.pid, .reply_end = attached.fds[0],
      .num_inline = verdict == MESSAGE_GOOD ? (uint32_t)((size_t)received - sizeof(request)) : 0};
   if (verdict == MESSAGE_SIZE)
      message->num_inline = (uint32_t)received;
   return verdict;
}

static void
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
   sendmsg(reply_end, &message, SEND_FLAGS);
}

void
cermet_message_done(int32_t reply_end, int32_t error, int32_t value, uint64_t fd_address, int32_t fd,
                    uint32_t fd_flags)
{
   const struct client_reply reply = {
      .magic = CLIENT_MAGIC, .kind = CLIENT_REPLY_DONE, .error = error, .value = value, .fd_address = fd_address,
      .num_fds = fd >= 0, .fd_flags = fd_flags};

   send_reply(reply_end, &reply, fd);
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
