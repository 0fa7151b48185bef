/* SPDX-License-Identifier: MIT */
/*
 * When asked for (CERMET_RAW_CALLS=1): programs that enter the kernel by themselves, as Rust's rustix does. The kernel
 * turns each call that is not made by the C library's code into SIGSYS (syscall user dispatch, Linux 5.11, x86-64),
 * and the handler answers it as syscall() would.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "client_internal.h"
#include "shim.h"

#undef syscall
long syscall(long number, ...); /* the shim's own */

#if defined(__x86_64__) && defined(PR_SET_SYSCALL_USER_DISPATCH)

#define SYSCALL_BYTES 2 /* of the instruction */
#define USER_DISPATCH 2 /* SYS_USER_DISPATCH of linux/signal.h */

struct start {
   void *(*function)(void *);
   void *argument;
};

static struct range {
   uintptr_t first, bytes;
} library_code; /* of the C library: its calls are replaced already and go on unhindered */
static bool is_active;
/* initial-exec: musl has none of the linker's functions that the other models call. */
static __thread volatile char selector __attribute__((tls_model("initial-exec"))) = SYSCALL_DISPATCH_FILTER_ALLOW;

static int
find_library_code(struct dl_phdr_info *object, size_t bytes, void *wanted)
{
   (void)bytes;
   for (int i = 0; i < object->dlpi_phnum; i++) {
      const ElfW(Phdr) *part = &object->dlpi_phdr[i];
      uintptr_t first = object->dlpi_addr + part->p_vaddr;

      if (part->p_type == PT_LOAD && (part->p_flags & PF_X) && (uintptr_t)wanted - first < part->p_memsz) {
         library_code = (struct range){first, part->p_memsz};
         return 1;
      }
   }
   return 0;
}

static void
watch_this_thread(void)
{
   selector = SYSCALL_DISPATCH_FILTER_BLOCK;
   if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, library_code.first, library_code.bytes, &selector) != 0)
      selector = SYSCALL_DISPATCH_FILTER_ALLOW;
}

/* Calls that mean the caller's own stack or signal mask: they cannot be made from within a handler. */
static bool
needs_own_frame(long number)
{
   return number == SYS_rt_sigreturn || number == SYS_rt_sigprocmask || number == SYS_clone || number == SYS_clone3 ||
          number == SYS_fork || number == SYS_vfork;
}

static void
answer_call(int number, siginfo_t *info, void *context)
{
   greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
   long call = registers[REG_RAX];
   int kept = errno;

   (void)number;
   if (info->si_code != USER_DISPATCH)
      return;
   if (needs_own_frame(call)) { /* this thread goes on without the shim's help */
      selector = SYSCALL_DISPATCH_FILTER_ALLOW;
      registers[REG_RIP] -= SYSCALL_BYTES;
      return;
   }
   bool takes_handler = call == SYS_rt_sigaction && registers[REG_RDI] == SIGSYS; /* a runtime that wants all signals */
   long result = takes_handler ? 0 : syscall(call, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                                             registers[REG_R10], registers[REG_R8], registers[REG_R9]);
   registers[REG_RAX] = result == -1 ? -errno : result;
   errno = kept;
}

static void *
start_watched(void *argument)
{
   struct start start = *(struct start *)argument;

   free(argument);
   watch_this_thread();
   return start.function(start.argument);
}

EXPORT int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
   struct start *start = is_active ? malloc(sizeof(*start)) : NULL;

   if (!start)
      return REAL(pthread_create)(thread, attributes, function, argument);
   *start = (struct start){function, argument};
   int error = REAL(pthread_create)(thread, attributes, start_watched, start);
   if (error)
      free(start);
   return error;
}

__attribute__((constructor)) static void
watch_raw_calls(void)
{
   const char *wish = getenv("CERMET_RAW_CALLS");
   struct sigaction action = {.sa_sigaction = answer_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
   void *any_function = dlsym(RTLD_NEXT, "getpid");

   if (!wish || strcmp(wish, "1") != 0)
      return;
   if (!any_function || !dl_iterate_phdr(find_library_code, any_function) || sigaction(SIGSYS, &action, NULL) != 0)
      return;
   watch_this_thread();
   is_active = selector == SYSCALL_DISPATCH_FILTER_BLOCK;
   if (is_active)
      client_at_fork(watch_this_thread);
   else
      fprintf(stderr, "cermet: CERMET_RAW_CALLS: this kernel has no syscall user dispatch\n");
}

#else

__attribute__((constructor)) static void
say_that_there_is_none(void)
{
   const char *wish = getenv("CERMET_RAW_CALLS");

   if (wish && strcmp(wish, "1") == 0)
      fprintf(stderr, "cermet: CERMET_RAW_CALLS: only on x86-64, not under an emulator\n");
}

#endif
