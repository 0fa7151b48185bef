/* SPDX-License-Identifier: MIT */
/*
 * The open nodes of this process and their buffers, with a copy of each buffer as it was last recorded. All functions
 * are called with the recorder's lock held.
 */
#ifndef CERMET_TRACE_FILES_H
#define CERMET_TRACE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cermet_trace.h"
#include "rocket_accel.h"

struct bo {
   uint32_t handle; /* 0: the slot is free */
   bool is_pending; /* a job that writes it was submitted, and nobody has waited for it since */
   uint64_t size_bytes; /* whole pages */
   uint64_t offset;
   uint64_t address; /* the NPU's */
   uint8_t *map;   /* NULL: not mapped */
   uint8_t *known; /* the contents that the trace has */
};

struct file {
   uint64_t number; /* 0: the slot is free */
   bool is_simulated;
   char name[128]; /* of the simulated device's socket */
   struct bo *bos;
   size_t num_bos;
};

/* The file behind an fd, found or recorded now; NULL when it is no rocket node. */
struct file *file_of_fd(int fd);

/* Whether an fd is that of a recorded file; needs no lock. */
bool file_is_known(int fd);

/* `copy` is another fd of what `fd` is. */
void file_was_duplicated(int fd, int copy);

/* The file of an fd that is about to be closed, when this is its last fd here; else the fd is forgotten. */
struct file *file_last_of_fd(int fd);

/* Its last fd is gone: forget it and its buffers. */
void file_forget(struct file *file);

/* Call `visit` for each open file, with one of its fds. */
void file_visit_all(void (*visit)(struct file *file, int fd));

/* In a child made by fork: the buffers are not mapped here. */
void file_all_inherited(void);

/* --- buffers ------------------------------------------------------------------------------------------------------ */

/* A buffer was made. */
void bo_add(struct file *file, int fd, const struct drm_rocket_create_bo *made);

struct bo *bo_find(const struct file *file, uint32_t handle);

/* Unmap, so that the recorder does not keep it alive. */
void bo_forget(struct bo *bo);

/* Write the pages that differ from the known contents. */
void bo_record(struct file *file, int fd, struct bo *bo, uint32_t side);

/* Whether a register program uses what the task before left in its core: features or weights in the CBUF, or look-up
 * tables, which do not outlive a job. By the recorded contents. */
bool program_needs_previous(const struct file *file, uint32_t address, uint32_t num_words);

/* How many words of a register program write registers of the DPU, table ports left out. By the recorded contents. */
uint32_t program_dpu_words(const struct file *file, uint32_t address, uint32_t num_words);

/* What ioctl() is without the recorder, on a node, real or simulated. */
int device_ioctl(int fd, unsigned long request, void *argument);

#endif
