/* SPDX-License-Identifier: MIT */
/*
 * Listings. The folders that are ours are real ones elsewhere. The system's folders above them get the missing names
 * behind their own, and the node's file passes for a device.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

#define MAX_FOLDER 64 /* with its end; ours are shorter */
#define MAX_LISTINGS 32 /* open at once; of further ones the system's names are all there is */

_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one readdir serves both");

/* An open folder with something to add. A DIR is used by one thread at a time, so only claiming a place is a race. */
static struct listing {
   _Atomic(DIR *) stream;
   bool has_node; /* the folder of the device nodes */
   char folder[MAX_FOLDER]; /* empty: nothing to add */
   size_t next;
   struct dirent entry;
} listings[MAX_LISTINGS];
static atomic_int num_listings;

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* of readdir_r, not of its users */
EXPORT int readdir_r(DIR *stream, struct dirent *entry, struct dirent **result);
EXPORT int readdir64_r(DIR *stream, struct dirent64 *entry, struct dirent64 **result);

static struct listing *
find_listing(DIR *stream)
{
   if (atomic_load(&num_listings) == 0 || !stream)
      return NULL;
   for (size_t i = 0; i < MAX_LISTINGS; i++) {
      if (atomic_load(&listings[i].stream) == stream)
         return &listings[i];
   }
   return NULL;
}

static struct listing *
claim_listing(DIR *stream)
{
   for (size_t i = 0; i < MAX_LISTINGS; i++) {
      DIR *none = NULL;

      if (atomic_compare_exchange_strong(&listings[i].stream, &none, stream)) {
         atomic_fetch_add(&num_listings, 1);
         return &listings[i];
      }
   }
   return NULL;
}

static void
release_listing(DIR *stream)
{
   struct listing *listing = find_listing(stream);

   if (listing) {
      atomic_store(&listing->stream, NULL);
      atomic_fetch_sub(&num_listings, 1);
   }
}

/* Look where a folder just opened lies, however it was named. */
static DIR *
noted(DIR *stream)
{
   char path[PATH_MAX];
   int kept = errno;
   bool ours;

   release_listing(stream); /* of one at this address that was closed unseen */
   if (stream && shim_path_of_fd(dirfd(stream), path, sizeof(path), &ours)) {
      bool has_node = ours && strcmp(path, NODE_FOLDER) == 0, lacks_names = !ours && shim_lacks_names(path);
      struct listing *listing = has_node || lacks_names ? claim_listing(stream) : NULL;

      if (listing) {
         snprintf(listing->folder, sizeof(listing->folder), "%.*s", MAX_FOLDER - 1, lacks_names ? path : "");
         listing->has_node = has_node;
         listing->next = 0;
      }
   }
   errno = kept;
   return stream;
}

EXPORT DIR *
opendir(const char *path)
{
   char real[PATH_MAX];

   if (shim_target(AT_FDCWD, &path, real) == SHIM_NODE) {
      errno = ENOTDIR;
      return NULL;
   }
   return noted(REAL(opendir)(path));
}

EXPORT DIR *
fdopendir(int fd)
{
   return noted(REAL(fdopendir)(fd));
}

EXPORT int
closedir(DIR *stream)
{
   release_listing(stream);
   return REAL(closedir)(stream);
}

EXPORT void
rewinddir(DIR *stream)
{
   struct listing *listing = find_listing(stream);

   if (listing)
      listing->next = 0;
   REAL(rewinddir)(stream);
}

/* The entry that follows the system's last one, or NULL. */
static struct dirent *
next_added(struct listing *listing)
{
   int kept = errno; /* a folder's end is told from an error by it */
   const char *name = listing->folder[0] ? shim_added_name(listing->folder, listing->next) : NULL;

   errno = kept;
   if (!name)
      return NULL;
   listing->next++;
   memset(&listing->entry, 0, sizeof(listing->entry));
   listing->entry.d_ino = NODE_INODE + listing->next;
   listing->entry.d_reclen = sizeof(listing->entry);
   listing->entry.d_type = DT_UNKNOWN;
   snprintf(listing->entry.d_name, sizeof(listing->entry.d_name), "%s", name);
   return &listing->entry;
}

EXPORT struct dirent *
readdir(DIR *stream)
{
   struct listing *listing = find_listing(stream);
   struct dirent *entry = REAL(readdir)(stream);

   if (!listing)
      return entry;
   if (!entry)
      return next_added(listing);
   if (listing->has_node && strcmp(entry->d_name, NODE_NAME) == 0) {
      entry->d_type = DT_CHR;
      entry->d_ino = NODE_INODE;
   }
   return entry;
}

EXPORT struct dirent64 *
readdir64(DIR *stream)
{
   return (struct dirent64 *)readdir(stream);
}

EXPORT int
readdir_r(DIR *stream, struct dirent *entry, struct dirent **result)
{
   int kept = errno;

   errno = 0;
   struct dirent *next = readdir(stream);
   int error = next ? 0 : errno;
   if (next)
      memcpy(entry, next, offsetof(struct dirent, d_name) + strlen(next->d_name) + 1);
   *result = next ? entry : NULL;
   errno = kept;
   return error;
}

EXPORT int
readdir64_r(DIR *stream, struct dirent64 *entry, struct dirent64 **result)
{
   return readdir_r(stream, (struct dirent *)entry, (struct dirent **)result);
}
