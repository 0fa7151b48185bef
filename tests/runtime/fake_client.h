/* SPDX-License-Identifier: MIT */
/*
 * A device that lives in the test's own process, behind the simulated device's client interface. It checks calls as the
 * kernel does and understands one kind of program: words whose values are source address, target address, number of
 * bytes, and what to add to each byte.
 */
#ifndef CERMET_FAKE_CLIENT_H
#define CERMET_FAKE_CLIENT_H

#define FAKE_PROGRAM_WORDS 4

/* Environment variable CERMET_FAKE: what goes wrong. Unset or empty: nothing.
 *   drop      jobs are dropped silently, as the kernel does with bad ones
 *   drop-first  so is the first of each SUBMIT
 *   timeout   the first wait after a SUBMIT ends with ETIMEDOUT; the job completes behind it
 *   eintr     every call is interrupted once
 *   no-bo     the second CREATE_BO fails with ENOMEM
 *   no-open   the device cannot be opened
 */
#define FAKE_VARIABLE "CERMET_FAKE"

/* Buffers that exist now, in all files. */
int
fake_num_bos(void);

/* SUBMIT calls so far. */
int
fake_num_submits(void);

#endif
