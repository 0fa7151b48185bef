/* SPDX-License-Identifier: MIT */
/* A child that shares its parent's memory closes the device; the parent goes on with it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rocket_accel.h"

int
main(void)
{
   struct drm_rocket_create_bo create = {.size = 4096};
   int fd = open("/dev/accel/accel0", O_RDWR), status = -1;

   if (fd < 0 || ioctl(fd, DRM_IOCTL_ROCKET_CREATE_BO, &create) != 0)
      return 1;
   pid_t child = vfork();
   if (child == 0) {
      close(fd);
      dup2(0, fd);
      _exit(0);
   }
   if (waitpid(child, &status, 0) != child || status != 0)
      return 2;
   struct drm_rocket_fini_bo fini = {.handle = create.handle};
   return ioctl(fd, DRM_IOCTL_ROCKET_FINI_BO, &fini) == 0 ? 0 : 3;
}
