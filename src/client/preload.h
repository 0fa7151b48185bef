/* SPDX-License-Identifier: MIT */
/* What libraries for LD_PRELOAD share: they replace functions of the C library, and call the replaced ones. */
#ifndef CERMET_PRELOAD_H
#define CERMET_PRELOAD_H

#include <dlfcn.h>

#define EXPORT __attribute__((visibility("default")))

/* The function that this one replaces; NULL where the C library has none of that name. */
#define REAL(name)                                                                                                     \
   ({                                                                                                                  \
      static __typeof__(&name) found;                                                                                  \
      if (!found)                                                                                                      \
         found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                           \
      found;                                                                                                           \
   })

#endif
