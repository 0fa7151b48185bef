/* SPDX-License-Identifier: MIT */
/* Which paths the shim answers for. */
#ifndef CERMET_SHIM_DEVICES_H
#define CERMET_SHIM_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

#define NODE_PATH "/dev/accel/accel0"
#define NODE_FOLDER "/dev/accel"
#define NODE_NAME "accel0"
#define NODE_INODE 261
#define ACCEL_MAJOR 261
#define ACCEL_MINOR 0

enum shim_path {
   SHIM_OTHER,  /* not ours: the system's */
   SHIM_NODE,   /* the device node itself */
   SHIM_FILE,   /* a folder of devices or a sysfs file: a real file elsewhere */
};

/* What a path given to a call with a folder fd (AT_FDCWD too) is; SHIM_FILE fills `real` with where the file is. */
enum shim_path shim_classify(int folder_fd, const char *path, char *real, size_t real_bytes);

/* The folder that stands for / in our files, made when missing; "": it could not be made. */
const char *tree_root(void);

/* The path that a program must see for one that lies in our files: shortens it in place. Whether it was such a one. */
bool tree_hide(char *path);

/* Whether one of our symbolic links is in it: then ".." behind it leads elsewhere than to the name before. */
bool tree_goes_through_link(const char *path);

bool path_is_below(const char *path, const char *folder);

/* The path of an open file or folder as the program must see it, *ours: whether it lies in our files. False: unknown. */
bool shim_path_of_fd(int fd, char *path, size_t bytes, bool *ours);

/* Whether listings of the system's folder of that name get names from us. */
bool shim_lacks_names(const char *folder);

/* The index-th of those names; NULL after the last. */
const char *shim_added_name(const char *folder, size_t index);

#endif
