/* SPDX-License-Identifier: MIT */
/* Every way in which the C library opens, looks at and lists files, on the node and on what is around it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "uapi.h"

#ifdef __x86_64__
#define STAT_VERSION 1 /* of the functions that C libraries before 2.33 had */
#else
#define STAT_VERSION 0
#endif
#define FOLDER "/dev/accel"
#define CLASS "/sys/class/accel/accel0"
#define DEVICE "/sys/devices/platform/rknn/accel/accel0"
#define BY_NUMBER "/sys/dev/char/261:0"

#define CHECK_FD(call)                                                                                                 \
   do {                                                                                                                \
      int fd_ = (call);                                                                                                \
      CHECK(fd_ >= 0);                                                                                        \
      use_device(fd_);                                                                                                 \
      CHECK(close(fd_) == 0);                                                                                          \
   } while (0)

static void
check_opens(void)
{
   int dev = open("/dev", O_RDONLY | O_DIRECTORY), accel = openat(dev, "accel", O_RDONLY | O_DIRECTORY), volatile_flags = O_RDWR;
   int root = open64("/", O_PATH | O_DIRECTORY);

   CHECK(dev >= 0 && accel >= 0 && root >= 0);
   CHECK_FD(open(NODE, O_RDWR));
   CHECK_FD(open(NODE, volatile_flags | O_CLOEXEC));
   CHECK_FD(open64(NODE, O_RDWR | O_NONBLOCK));
   CHECK_FD(open64(NODE, O_RDWR | O_CREAT, 0600));
   CHECK_FD(openat(AT_FDCWD, NODE, O_RDWR));
   CHECK_FD(openat(dev, "accel/accel0", O_RDWR));
   CHECK_FD(openat64(accel, "accel0", O_RDWR));
   CHECK_FD(openat64(accel, "./accel0", O_RDWR));
   if (faccessat(root, "dev", F_OK, 0) == 0) /* qemu-user -L: / is another folder */
      CHECK_FD(openat(root, "dev/accel/accel0", O_RDWR));
   CHECK_FD(open("/dev//accel/./accel0", O_RDWR));
   CHECK_FD(open("/dev/accel/../accel/accel0", O_RDWR));
   CHECK_FD(open("/sys/../dev/accel/accel0", O_RDWR));
   CHECK_FD(open("/proc/self/root/dev/accel/accel0", O_RDWR));
   int (*plain_open)(const char *, int, ...) = dlsym(RTLD_DEFAULT, "open");
   int (*internal_open)(const char *, int, ...) = dlsym(RTLD_DEFAULT, "__open");
   CHECK_FD(plain_open(NODE, O_RDWR));
   CHECK_FD(internal_open(NODE, O_RDWR));
   CHECK_ERRNO(open(NODE "/", O_RDWR), ENOTDIR);
   CHECK_ERRNO(open(NODE, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
   CHECK_ERRNO(open(FOLDER "/accel1", O_RDWR), ENOENT);
   CHECK_ERRNO(open("/dev/accel0", O_RDWR), ENOENT);
   CHECK_ERRNO(openat(accel, "accel00", O_RDWR), ENOENT);
   int written = creat(NODE, 0600);
   CHECK(written >= 0);
   close(written);
   close(root);
   close(accel);
   close(dev);
}

static void
check_streams(void)
{
   char line[64] = "";
   FILE *node = fopen(NODE, "r+"), *number = fopen(CLASS "/dev", "re"), *event = freopen(BY_NUMBER "/uevent", "r", stdin);

   CHECK(node && number && event);
   use_device(fileno(node));
   CHECK(fclose(node) == 0);
   CHECK(fgets(line, sizeof(line), number) && strcmp(line, "261:0\n") == 0);
   fclose(number);
   CHECK(fgets(line, sizeof(line), event) && strcmp(line, "MAJOR=261\n") == 0);
   CHECK(!fopen(NODE, "x") && errno == EINVAL);
   number = fopen64(DEVICE "/dev", "r");
   CHECK(number);
   fclose(number);
}

static void
check_status(int result, const struct stat *status)
{
   CHECK(result == 0);
   CHECK(S_ISCHR(status->st_mode) && status->st_rdev == makedev(261, 0) && status->st_nlink == 1);
}

static void
check_stats(void)
{
   int fd = open(NODE, O_RDWR), dev = open("/dev", O_RDONLY);
   char link[40];
   struct stat status;
   struct stat64 large;
   struct statx extended;
   int (*old_stat)(int, const char *, struct stat *) = dlsym(RTLD_DEFAULT, "__xstat");
   int (*old_fstat)(int, int, struct stat *) = dlsym(RTLD_DEFAULT, "__fxstat");
   int (*old_fstatat)(int, int, const char *, struct stat *, int) = dlsym(RTLD_DEFAULT, "__fxstatat64");

   snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
   check_status(stat(NODE, &status), &status);
   check_status(lstat(NODE, &status), &status);
   check_status(fstat(fd, &status), &status);
   check_status(stat(link, &status), &status);
   CHECK(lstat(link, &status) == 0 && S_ISLNK(status.st_mode));
   check_status(fstatat(dev, "accel/accel0", &status, 0), &status);
   check_status(fstatat(fd, "", &status, AT_EMPTY_PATH), &status);
   CHECK(stat64(NODE, &large) == 0 && large.st_rdev == makedev(261, 0));
   CHECK(fstat64(fd, &large) == 0 && S_ISCHR(large.st_mode));
   CHECK(statx(AT_FDCWD, NODE, 0, STATX_BASIC_STATS, &extended) == 0 && extended.stx_rdev_major == 261);
   CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended) == 0 && extended.stx_rdev_major == 261);
   check_status(old_stat(STAT_VERSION, NODE, &status), &status);
   check_status(old_fstat(STAT_VERSION, fd, &status), &status);
   check_status(old_fstatat(STAT_VERSION, dev, "accel/accel0", &status, 0), &status);
   CHECK(stat(FOLDER, &status) == 0 && S_ISDIR(status.st_mode));
   CHECK(lstat(CLASS, &status) == 0 && S_ISLNK(status.st_mode));
   CHECK(stat(CLASS, &status) == 0 && S_ISDIR(status.st_mode));
   CHECK_ERRNO(stat(FOLDER "/accel1", &status), ENOENT);
   CHECK_ERRNO(stat(BY_NUMBER "/device/drm", &status), ENOENT); /* as on a board: libdrm's lists know no accel node */
   CHECK(access(NODE, R_OK | W_OK) == 0 && faccessat(dev, "accel/accel0", F_OK, 0) == 0 && eaccess(NODE, R_OK) == 0);
   CHECK(access(CLASS "/uevent", R_OK) == 0);
   CHECK_ERRNO(access(NODE, 8), EINVAL);
   close(dev);
   close(fd);
}

static void
check_link(const char *path, const char *expected)
{
   char text[PATH_MAX];
   ssize_t length = readlink(path, text, sizeof(text));

   CHECK(length == (ssize_t)strlen(expected) && memcmp(text, expected, (size_t)length) == 0);
   CHECK(readlinkat(AT_FDCWD, path, text, sizeof(text)) == length);
   CHECK(readlink(path, text, 3) == 3);
}

static void
check_resolved(const char *path, const char *expected)
{
   char room[PATH_MAX], *made = realpath(path, NULL), *canonical = canonicalize_file_name(path);

   CHECK(made && canonical && realpath(path, room) == room);
   CHECK(strcmp(made, expected) == 0 && strcmp(canonical, expected) == 0 && strcmp(room, expected) == 0);
   free(made);
   free(canonical);
}

static void
check_links(void)
{
   int fd = open(NODE, O_RDWR), folder = open(CLASS, O_RDONLY | O_DIRECTORY);
   char link[40], here[PATH_MAX];

   snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
   check_link(link, NODE);
   check_resolved(link, NODE);
   int again = open(link, O_RDWR);
   CHECK_FD(again);
   snprintf(link, sizeof(link), "/proc/%d/fd/%d", getpid(), fd);
   check_link(link, NODE);
   snprintf(link, sizeof(link), "/proc/self/fd/%d", folder);
   check_link(link, DEVICE);
   check_link(CLASS, "../../devices/platform/rknn/accel/accel0");
   check_link(DEVICE "/subsystem", "../../../../../class/accel");
   check_link(DEVICE "/device", "../../../rknn");
   check_resolved(NODE, NODE);
   check_resolved(CLASS, DEVICE);
   check_resolved(BY_NUMBER, DEVICE);
   check_resolved(BY_NUMBER "/device/subsystem", "/sys/bus/platform");
   check_resolved("/sys/bus/platform/devices/rknn", "/sys/devices/platform/rknn");
   CHECK_ERRNO(readlink(NODE, here, sizeof(here)), EINVAL);
   CHECK(chdir(CLASS) == 0 && getcwd(here, sizeof(here)) && strcmp(here, DEVICE) == 0);
   CHECK(access("uevent", R_OK) == 0 && access("../../uevent", R_OK) == 0);
   CHECK(chdir("/dev/accel") == 0);
   check_resolved("accel0", NODE);
   CHECK_FD(open("accel0", O_RDWR));
   CHECK(chdir("/") == 0);
   close(folder);
   close(fd);
}

static int
count_in(const char *folder, const char *name)
{
   DIR *stream = opendir(folder);
   struct dirent *entry;
   int count = 0;

   CHECK(stream);
   while ((errno = 0, entry = readdir(stream)) != NULL)
      count += strcmp(entry->d_name, name) == 0;
   CHECK(errno == 0);
   rewinddir(stream);
   while ((entry = readdir(stream)) != NULL)
      count += 100 * (strcmp(entry->d_name, name) == 0);
   CHECK(closedir(stream) == 0);
   return count;
}

static int
is_device_name(const struct dirent *entry)
{
   return strstr(entry->d_name, "accel") != NULL;
}

static void
check_lists(void)
{
   struct dirent **names, *entry;
   glob_t found = {0};

   CHECK(count_in("/dev", "accel") == 101 && count_in("/sys/class", "accel") == 101);
   CHECK(count_in("/sys/dev/char", "261:0") == 101 && count_in("/sys/devices/platform", "rknn") == 101);
   CHECK(count_in("/sys/bus/platform/devices", "rknn") == 101 && count_in(FOLDER, "accel0") == 101);
   CHECK(count_in("/dev", "null") == 101 && count_in("/", "accel") == 0);
   CHECK(scandir(FOLDER, &names, is_device_name, alphasort) == 1 && strcmp(names[0]->d_name, "accel0") == 0);
   CHECK(names[0]->d_type == DT_CHR);
   free(names[0]);
   free(names);
   CHECK(scandir("/sys/class", &names, is_device_name, alphasort) == 1 && strcmp(names[0]->d_name, "accel") == 0);
   free(names[0]);
   free(names);
   CHECK_ERRNO(scandir("/no/such/accel", &names, NULL, NULL), ENOENT);
   CHECK(glob("/dev/accel/accel*", 0, NULL, &found) == 0 && found.gl_pathc == 1 && strcmp(found.gl_pathv[0], NODE) == 0);
   globfree(&found);
   CHECK(glob("/sys/c*/acc*/accel?/dev", 0, NULL, &found) == 0 && found.gl_pathc == 1);
   globfree(&found);
   CHECK(glob("/dev/acc*/card*", 0, NULL, &found) == GLOB_NOMATCH);
   int folder = openat(AT_FDCWD, FOLDER, O_RDONLY | O_DIRECTORY);
   DIR *stream = fdopendir(folder);
   CHECK(stream && dirfd(stream) == folder);
   while ((entry = readdir(stream)) != NULL && strcmp(entry->d_name, "accel0") != 0)
      ;
   CHECK(entry && entry->d_type == DT_CHR);
   closedir(stream);
   CHECK(!opendir(NODE) && errno == ENOTDIR);
}

static void
check_rest(void)
{
   struct statfs status;
   int watcher = inotify_init1(IN_CLOEXEC);

   CHECK(inotify_add_watch(watcher, FOLDER, IN_CREATE) >= 0 && inotify_add_watch(watcher, "/dev", IN_CREATE) >= 0);
   close(watcher);
   CHECK(statfs(CLASS, &status) == 0 && status.f_type == 0x62656572);
   CHECK(statfs(NODE, &status) == 0);
}

int
main(void)
{
   check_opens();
   check_streams();
   check_stats();
   check_links();
   check_lists();
   check_rest();
   return 0;
}
