/* SPDX-License-Identifier: MIT */
/* What the clients here share: they know nothing but the UABI header. Prints the line that fails. */
#ifndef KMD_CLIENTS_UAPI_H
#define KMD_CLIENTS_UAPI_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rocket_accel.h"

#define NODE "/dev/accel/accel0"
#define PAGE 4096u
#define OP_COPY 2
#define OP_FILL 1

#define CHECK(condition)                                                                                               \
   do {                                                                                                                \
      if (!(condition)) {                                                                                              \
         fprintf(stderr, "%s:%d: %s: errno %d (%s)\n", __FILE__, __LINE__, #condition, errno, strerror(errno));        \
         exit(1);                                                                                                      \
      }                                                                                                                \
   } while (0)

#define CHECK_ERRNO(call, expected) CHECK((call) == -1 && errno == (expected))

struct buffer {
   struct drm_rocket_create_bo bo;
   uint8_t *memory;
};

static inline int64_t
after_ms(int64_t milliseconds)
{
   struct timespec now;

   clock_gettime(CLOCK_MONOTONIC, &now);
   return now.tv_sec * 1000000000LL + now.tv_nsec + milliseconds * 1000000LL;
}

static inline struct buffer
make_buffer(int fd, uint32_t bytes)
{
   struct buffer buffer = {.bo = {.size = bytes}};

   CHECK(ioctl(fd, DRM_IOCTL_ROCKET_CREATE_BO, &buffer.bo) == 0);
   buffer.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)buffer.bo.offset);
   CHECK(buffer.memory != MAP_FAILED);
   return buffer;
}

static inline void
drop_buffer(int fd, struct buffer *buffer, uint32_t bytes)
{
   struct drm_gem_close close_it = {.handle = buffer->bo.handle};

   CHECK(munmap(buffer->memory, bytes) == 0);
   CHECK(ioctl(fd, DRM_IOCTL_GEM_CLOSE, &close_it) == 0);
}

static inline void
wait_for(int fd, uint32_t handle)
{
   struct drm_rocket_prep_bo prep = {.handle = handle, .timeout_ns = after_ms(10000)};

   CHECK(ioctl(fd, DRM_IOCTL_ROCKET_PREP_BO, &prep) == 0);
}

static inline void
copy_on_npu(int fd, struct buffer *program, struct buffer *source, struct buffer *target, uint32_t bytes)
{
   const uint64_t words[] = {OP_COPY, source->bo.dma_address, target->bo.dma_address, bytes};
   struct drm_rocket_fini_bo program_written = {.handle = program->bo.handle}, source_written = {.handle = source->bo.handle};
   struct drm_rocket_task task = {.regcmd = (uint32_t)program->bo.dma_address, .regcmd_count = 4};
   uint32_t reads[] = {program->bo.handle, source->bo.handle}, writes[] = {target->bo.handle};
   struct drm_rocket_job job = {
      .tasks = (uintptr_t)&task, .task_count = 1, .task_struct_size = sizeof(task),
      .in_bo_handles = (uintptr_t)reads, .in_bo_handle_count = 2,
      .out_bo_handles = (uintptr_t)writes, .out_bo_handle_count = 1};
   struct drm_rocket_submit submit = {.jobs = (uintptr_t)&job, .job_count = 1, .job_struct_size = sizeof(job)};

   memcpy(program->memory, words, sizeof(words));
   CHECK(ioctl(fd, DRM_IOCTL_ROCKET_FINI_BO, &program_written) == 0);
   CHECK(ioctl(fd, DRM_IOCTL_ROCKET_FINI_BO, &source_written) == 0);
   CHECK(ioctl(fd, DRM_IOCTL_ROCKET_SUBMIT, &submit) == 0);
   wait_for(fd, target->bo.handle);
}

/* Once around the NPU: what any client does with an fd of the device. */
static inline void
use_device(int fd)
{
   struct buffer program = make_buffer(fd, PAGE), source = make_buffer(fd, PAGE), target = make_buffer(fd, PAGE);
   char name[16] = "";
   struct drm_version version = {.name = name, .name_len = 15};

   CHECK(ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "rocket") == 0);
   memset(source.memory, 0x5a, PAGE);
   copy_on_npu(fd, &program, &source, &target, PAGE);
   CHECK(memcmp(source.memory, target.memory, PAGE) == 0);
   drop_buffer(fd, &program, PAGE);
   drop_buffer(fd, &source, PAGE);
   drop_buffer(fd, &target, PAGE);
}

#endif
