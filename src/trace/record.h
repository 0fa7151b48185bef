/* SPDX-License-Identifier: MIT */
/* What is recorded around each call. All functions but the last two are called with the recorder's lock held. */
#ifndef CERMET_TRACE_RECORD_H
#define CERMET_TRACE_RECORD_H

#include "files.h"

/* Make the application's ioctl on a recorded file, and record it. errno is what it left. */
int record_call(struct file *file, int fd, unsigned long request, void *argument);

/* Wait for what nobody has waited for, a second at most, and record the results. */
void record_rest(struct file *file, int fd);

/* Take the recorder's lock; let go of it, as around a call that waits. */
void recorder_enter(void);
void recorder_leave(void);

#endif
