/* SPDX-License-Identifier: MIT */
/* Recording single ioctls. All functions are called with the recorder's lock held. */
#ifndef CERMET_TRACE_CALLS_H
#define CERMET_TRACE_CALLS_H

#include "files.h"

/* An ioctl on a file, with copies of what the caller passed. */
struct call {
   struct file *file;
   int fd;
   unsigned long request;
   void *argument;
   struct trace_call record;
   uint8_t *before;   /* record.argument_bytes of them; NULL: unreadable or none */
   uint8_t *jobs;     /* trace_jobs and what is behind them */
   size_t jobs_bytes;
};

/* Copy the argument and, of a SUBMIT, the jobs. */
void call_begin(struct call *call, struct file *file, int fd, unsigned long request, void *argument);

/* Make the call and take the times. errno is what it left. */
int call_run(struct call *call);

/* Write the frame; frees the copies. */
void call_end(struct call *call);

/* PREP_BO by the recorder: 0 or an errno. */
int call_prep(struct file *file, int fd, uint32_t handle, int64_t timeout_ns);

/* Copy `bytes` from the caller's memory, wherever that may point; false: not readable. */
bool call_read_memory(uint64_t address, void *to, size_t bytes);

#endif
