/* SPDX-License-Identifier: MIT */
/*
 * The limit of fds. A kernel takes none to answer an ioctl: an application that has none left must not notice that
 * the simulated device does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "client_internal.h"

#define MAX_ATTEMPTS 10000
#define SPARE_FDS 64 /* above the application's limit */

/* Held while the limit of fds is another than the application's. */
static atomic_flag limit_is_raised = ATOMIC_FLAG_INIT;

bool
client_raise_limit(struct rlimit *before)
{
   struct rlimit raised;

   for (int attempt = 0; atomic_flag_test_and_set(&limit_is_raised); attempt++) {
      if (attempt == MAX_ATTEMPTS) /* a signal handler's call in the midst of this thread's other one */
         return false;
      sched_yield();
   }
   if (getrlimit(RLIMIT_NOFILE, before) == 0 && before->rlim_cur < before->rlim_max) {
      raised = *before;
      raised.rlim_cur = before->rlim_max - before->rlim_cur > SPARE_FDS ? before->rlim_cur + SPARE_FDS : before->rlim_max;
      if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
         return true;
   }
   atomic_flag_clear(&limit_is_raised);
   return false;
}

void
client_restore_limit(const struct rlimit *before)
{
   int kept = errno;

   setrlimit(RLIMIT_NOFILE, before);
   errno = kept;
   atomic_flag_clear(&limit_is_raised);
}

void
client_forget_limit(void)
{
   atomic_flag_clear(&limit_is_raised);
}
