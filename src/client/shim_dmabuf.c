/* SPDX-License-Identifier: MIT */
/* What is asked of an exported BO: its fd is shared memory here, which the system does not know as a dma-buf. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <linux/dma-buf.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim.h"

#define BO_LINK "/memfd:cermet-bo" /* of the fds that the driver makes */

static bool
is_exported_bo(int fd)
{
   char path[PATH_MAX];
   bool ours;

   return shim_path_of_fd(fd, path, sizeof(path), &ours) && strncmp(path, BO_LINK, strlen(BO_LINK)) == 0;
}

/* Begin or end of an access by the CPU: nothing to do, memory is coherent. A kernel also waits for the BO's fences. */
static int
check_sync(const struct dma_buf_sync *sync)
{
   if ((uintptr_t)sync < 4096)
      return shim_fail(EFAULT);
   if ((sync->flags & ~DMA_BUF_SYNC_VALID_FLAGS_MASK) || !(sync->flags & DMA_BUF_SYNC_RW))
      return shim_fail(EINVAL);
   return 0;
}

int
shim_dmabuf_ioctl(int fd, unsigned long request, void *argument)
{
   int system_error = errno;

   if (_IOC_TYPE(request) != DMA_BUF_BASE || !is_exported_bo(fd))
      return shim_fail(system_error);
   switch ((unsigned int)request) {
   case DMA_BUF_IOCTL_SYNC:
      return check_sync(argument);
   case (unsigned int)DMA_BUF_SET_NAME_A:
   case (unsigned int)DMA_BUF_SET_NAME_B:
      return 0;
   default:
      return shim_fail(ENOTTY);
   }
}
