/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cermet_kmd.h"

#include <errno.h>
#include <sys/uio.h>

#define MAX_RANGES 64 /* of one system call */

static int32_t
result(ssize_t copied, uint64_t wanted)
{
   if (copied < 0)
      return errno;
   return (uint64_t)copied == wanted ? 0 : EFAULT;
}

int32_t
cermet_user_read(int32_t pid, uint8_t *to, uint64_t from, uint64_t num_bytes)
{
   const struct iovec here = {.iov_base = to, .iov_len = num_bytes};
   const struct iovec there = {.iov_base = (void *)(uintptr_t)from, .iov_len = num_bytes};

   return num_bytes ? result(process_vm_readv(pid, &here, 1, &there, 1, 0), num_bytes) : 0;
}

int32_t
cermet_user_write(int32_t pid, uint64_t to, const uint8_t *from, uint64_t num_bytes)
{
   const struct iovec here = {.iov_base = (void *)from, .iov_len = num_bytes};
   const struct iovec there = {.iov_base = (void *)(uintptr_t)to, .iov_len = num_bytes};

   return num_bytes ? result(process_vm_writev(pid, &here, 1, &there, 1, 0), num_bytes) : 0;
}

int32_t
cermet_user_read_elements(int32_t pid, uint8_t *to, uint64_t from, uint64_t count, uint64_t stride, uint64_t size,
                          uint64_t offset_mask)
{
   struct iovec there[MAX_RANGES];

   for (uint64_t first = 0; first < count; first += MAX_RANGES) {
      const uint64_t num_ranges = count - first < MAX_RANGES ? count - first : MAX_RANGES;
      const struct iovec here = {.iov_base = to + first * size, .iov_len = num_ranges * size};

      for (uint64_t i = 0; i < num_ranges; i++)
         there[i] = (struct iovec){.iov_base = (void *)(uintptr_t)(from + ((first + i) * stride & offset_mask)),
                                   .iov_len = size};

      const int32_t error = result(process_vm_readv(pid, &here, 1, there, num_ranges, 0), here.iov_len);
      if (error)
         return error;
   }
   return 0;
}
