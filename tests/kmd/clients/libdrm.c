/* SPDX-License-Identifier: MIT */
/*
 * libdrm's functions on the node answer as they do on a board. Its lists of devices know no accel nodes there either:
 * they look for a folder `drm` beside the device, which nodes of /dev/accel have none of.
 */
#include <sys/stat.h>
#include <xf86drm.h>

#include "uapi.h"

static void
check_wrappers(int fd)
{
   drmVersionPtr version = drmGetVersion(fd);
   struct drm_rocket_create_bo create = {.size = PAGE};
   uint64_t value = 0;
   uint32_t handle;
   int exported = -1;

   CHECK(version && strcmp(version->name, "rocket") == 0 && strcmp(version->desc, "rocket DRM") == 0);
   drmFreeVersion(version);
   CHECK(drmGetCap(fd, DRM_CAP_PRIME, &value) == 0 && value == 3);
   CHECK(drmPrimeHandleToFD(fd, 1, DRM_CLOEXEC, &exported) != 0 && errno == ENOENT);
   CHECK(drmIoctl(fd, DRM_IOCTL_ROCKET_CREATE_BO, &create) == 0);
   CHECK(drmPrimeHandleToFD(fd, create.handle, DRM_CLOEXEC, &exported) == 0);
   CHECK(drmPrimeFDToHandle(fd, exported, &handle) == 0 && handle == create.handle);
   close(exported);
   CHECK(drmCloseBufferHandle(fd, create.handle) == 0);
   create.size = PAGE;
   CHECK(drmCommandWriteRead(fd, DRM_ROCKET_CREATE_BO, &create, sizeof(create)) == 0);
   CHECK(drmAvailable() == 0 || drmAvailable() == 1);
   CHECK(drmIsMaster(fd) == 0 || drmIsMaster(fd) == 1);
   char *id = drmGetBusid(fd);
   drmFreeBusid(id);
}

static void
check_lists(int fd)
{
   drmDevicePtr devices[64], device = NULL;
   struct stat status;
   int count = drmGetDevices2(0, devices, 64);

   for (int i = 0; i < count; i++)
      CHECK(devices[i]->bustype != DRM_BUS_PLATFORM || strcmp(devices[i]->businfo.platform->fullname, "rknn") != 0);
   if (count > 0)
      drmFreeDevices(devices, count);
   CHECK(fstat(fd, &status) == 0);
   CHECK(drmGetDevice2(fd, 0, &device) == -EINVAL && !device);
   CHECK(drmGetDeviceFromDevId(status.st_rdev, 0, &device) == -EINVAL && !device);
   CHECK(drmGetNodeTypeFromFd(fd) == -1);
   CHECK(!drmGetRenderDeviceNameFromFd(fd) && !drmGetPrimaryDeviceNameFromFd(fd));
   char *name = drmGetDeviceNameFromFd2(fd);
   CHECK(!name || strcmp(name, NODE) == 0);
   free(name);
   CHECK(drmOpenWithType("rocket", NULL, DRM_NODE_RENDER) < 0);
   CHECK(drmOpenRender(128) < 0 || access("/dev/dri/renderD128", F_OK) == 0);
}

int
main(void)
{
   int fd = open(NODE, O_RDWR | O_CLOEXEC);

   CHECK(fd >= 0);
   check_wrappers(fd);
   check_lists(fd);
   use_device(fd);
   return drmClose(fd) == 0 ? 0 : 1;
}
