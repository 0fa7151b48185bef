/* SPDX-License-Identifier: MIT */
/*
 * Each frame is one write() to a file opened for appending: what has been written survives whatever happens to the
 * process, and processes do not write into each other's frames. Compressing is left to `cermet trace`, which does it
 * when the application is done with.
 */
#define _GNU_SOURCE
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOWEST_FD 500           /* out of the way of programs that count on low numbers */
#define DEFAULT_LIMIT (INT64_C(4) << 30)

static struct {
   bool is_ready, has_failed;
   int fd;
   dev_t device;
   ino_t inode;
   int64_t limit, size;
   uint32_t crc_tables[4][256];
   unsigned char *frame; /* header and payload as they are written */
   size_t room;
} writer = {.fd = -1};

uint64_t
trace_now_ns(void)
{
   struct timespec now;

   clock_gettime(CLOCK_MONOTONIC, &now);
   return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

bool
trace_writer_is_on(void)
{
   const char *path = getenv("CERMET_TRACE_FILE");

   return path && path[0] && !writer.has_failed;
}

bool
trace_is_full(void)
{
   return writer.limit > 0 && writer.size >= writer.limit;
}

static void
make_crc_tables(void)
{
   for (uint32_t i = 0; i < 256; i++) {
      uint32_t value = i;

      for (int bit = 0; bit < 8; bit++)
         value = value >> 1 ^ (value & 1 ? 0xEDB88320 : 0);
      writer.crc_tables[0][i] = value;
   }
   for (int table = 1; table < 4; table++)
      for (uint32_t i = 0; i < 256; i++) {
         const uint32_t before = writer.crc_tables[table - 1][i];

         writer.crc_tables[table][i] = before >> 8 ^ writer.crc_tables[0][before & 0xFF];
      }
}

/* Four bytes at a time: there are megabytes of them while an application waits. */
static uint32_t
crc32_of(const unsigned char *data, size_t bytes)
{
   uint32_t value = 0xFFFFFFFF;

   for (; bytes >= 4; data += 4, bytes -= 4) {
      value ^= data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
      value = writer.crc_tables[3][value & 0xFF] ^ writer.crc_tables[2][value >> 8 & 0xFF] ^
              writer.crc_tables[1][value >> 16 & 0xFF] ^ writer.crc_tables[0][value >> 24];
   }
   for (; bytes > 0; data++, bytes--)
      value = value >> 8 ^ writer.crc_tables[0][(value ^ *data) & 0xFF];
   return ~value;
}

/* Stop recording for good, with one line that says why. */
static bool
fail(const char *what)
{
   if (!writer.has_failed)
      fprintf(stderr, "cermet trace: %s: %s: %s; recording stops\n", getenv("CERMET_TRACE_FILE"), what,
              strerror(errno));
   writer.has_failed = true;
   return false;
}

static bool
open_file(void)
{
   struct stat status;
   int fd = (int)syscall(SYS_openat, AT_FDCWD, getenv("CERMET_TRACE_FILE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                         0644);

   if (fd < 0)
      return fail("cannot open");
   writer.fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOWEST_FD);
   if (writer.fd < 0)
      writer.fd = fd;
   else
      syscall(SYS_close, fd);
   if (syscall(SYS_fstat, writer.fd, &status) != 0)
      return fail("cannot look at it");
   writer.device = status.st_dev;
   writer.inode = status.st_ino;
   writer.size = status.st_size;
   return true;
}

/* Programs that close all their fds close ours, and the number may then be a file of theirs. */
static bool
still_has_file(void)
{
   struct stat status;

   return writer.fd >= 0 && syscall(SYS_fstat, writer.fd, &status) == 0 && status.st_dev == writer.device &&
          status.st_ino == writer.inode;
}

static void
get_ready(void)
{
   const char *limit = getenv("CERMET_TRACE_LIMIT");

   make_crc_tables();
   writer.limit = limit && limit[0] ? strtoll(limit, NULL, 10) : DEFAULT_LIMIT;
   writer.is_ready = true;
}

static bool
make_room(size_t bytes)
{
   if (bytes <= writer.room)
      return true;
   unsigned char *larger = realloc(writer.frame, bytes);
   if (!larger)
      return false;
   writer.frame = larger;
   writer.room = bytes;
   return true;
}

static bool
write_all(const unsigned char *data, size_t bytes)
{
   while (bytes > 0) {
      ssize_t written = write(writer.fd, data, bytes);

      if (written < 0 && errno == EINTR)
         continue;
      if (written <= 0)
         return fail("cannot write");
      data += written;
      bytes -= (size_t)written;
      writer.size += written;
   }
   return true;
}

/* Header and pieces, one behind the other, into writer.frame. */
static void
gather(struct trace_frame *header, const struct piece *pieces, size_t num_pieces)
{
   unsigned char *at = writer.frame + sizeof(*header);

   for (size_t i = 0; i < num_pieces; i++) {
      if (pieces[i].bytes)
         memcpy(at, pieces[i].data, pieces[i].bytes);
      at += pieces[i].bytes;
   }
   memcpy(writer.frame, header, sizeof(*header));
   header->crc = crc32_of(writer.frame, (size_t)(at - writer.frame));
   memcpy(writer.frame, header, sizeof(*header));
}

bool
trace_write(uint8_t kind, const struct piece *pieces, size_t num_pieces)
{
   struct trace_frame header = {.magic = TRACE_MAGIC, .version = TRACE_VERSION, .kind = kind,
                                .process = (uint32_t)getpid(), .time_ns = trace_now_ns()};
   size_t bytes = 0;

   if (!trace_writer_is_on())
      return false;
   if (!writer.is_ready)
      get_ready();
   if (!still_has_file() && !open_file())
      return false;
   for (size_t i = 0; i < num_pieces; i++)
      bytes += pieces[i].bytes;
   if (bytes > TRACE_MAX_FRAME_BYTES)
      return false;
   header.raw_bytes = header.stored_bytes = (uint32_t)bytes;
   if (!make_room(sizeof(header) + bytes)) {
      errno = ENOMEM;
      return fail("no memory for a frame");
   }
   gather(&header, pieces, num_pieces);
   return write_all(writer.frame, sizeof(header) + bytes);
}

void
trace_note(uint32_t level, const char *format, ...)
{
   const struct trace_note note = {.level = level};
   char text[1024];
   va_list rest;

   va_start(rest, format);
   vsnprintf(text, sizeof(text), format, rest);
   va_end(rest);
   trace_write(TRACE_NOTE, (struct piece[]){{&note, sizeof(note)}, {text, strlen(text)}}, 2);
}
