/* SPDX-License-Identifier: MIT */
/* Loops are compiled for the baseline processor and, on x86-64, once more with -mavx2 and WIDE_MOVES: which to take. */
#ifndef CERMET_WIDE_H
#define CERMET_WIDE_H

#include <stdbool.h>

#ifdef __x86_64__
#define HAS_AVX2 __builtin_cpu_supports("avx2")
#else
#define HAS_AVX2 false
#endif

/* Into the loop that calls it, where what is constant there decides. */
#define INLINE static inline __attribute__((always_inline))

#endif
