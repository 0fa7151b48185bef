// SPDX-License-Identifier: MIT
// The C++ library's own ways to files and folders.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "rocket_accel.h"

namespace fs = std::filesystem;

int
main()
{
   std::string number;
   std::ifstream("/sys/class/accel/accel0/dev") >> number;
   if (number != "261:0" || !fs::is_character_file("/dev/accel/accel0") || !fs::exists("/sys/dev/char/261:0/device"))
      return 1;
   if (fs::canonical("/sys/class/accel/accel0") != "/sys/devices/platform/rknn/accel/accel0")
      return 2;
   if (fs::read_symlink("/sys/class/accel/accel0/device") != "../../../rknn")
      return 3;
   for (const auto &entry : fs::recursive_directory_iterator("/dev/accel")) {
      int fd = open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
      char name[16] = {};
      drm_version version = {};
      version.name = name;
      version.name_len = sizeof(name) - 1;
      if (!entry.is_character_file() || fd < 0 || ioctl(fd, DRM_IOCTL_VERSION, &version) != 0)
         return 4;
      std::cout << entry.path().string() << " " << name << "\n";
      close(fd);
   }
   return 0;
}
