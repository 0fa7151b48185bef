/* SPDX-License-Identifier: MIT */
/*
 * A trace file: what processes asked of rocket nodes and what lay in their buffers. Explained in docs/trace-format.md.
 * A file is nothing but frames, appended by any number of processes.
 * Little endian. The Python side reads this very file.
 */
#ifndef CERMET_TRACE_H
#define CERMET_TRACE_H

#include <stdint.h>

#define TRACE_MAGIC 0x52544D43 /* "CMTR" */
#define TRACE_VERSION 1

/* What must follow a frame's header in the file is `stored_bytes` bytes: the payload, as it is or in zlib's format. */
struct trace_frame {
   uint32_t magic;
   uint16_t version;
   uint8_t kind;
   uint8_t is_compressed;
   uint32_t stored_bytes;
   uint32_t raw_bytes; /* of the payload */
   uint32_t process;   /* pid */
   uint32_t crc;       /* CRC-32 of the header with this field 0, and of the stored bytes */
   uint64_t time_ns;   /* CLOCK_MONOTONIC */
};

#define TRACE_MAX_FRAME_BYTES 0x1000000 /* no payload is longer */

/* --- payloads by kind --------------------------------------------------------------------------------------------- */

#define TRACE_PROCESS 1 /* struct trace_process: this process uses a node for the first time, or was forked */
#define TRACE_FILE 2    /* struct trace_file: an open node, before its first call */
#define TRACE_CALL 3    /* struct trace_call, what is behind it: one ioctl */
#define TRACE_PAGES 4   /* struct trace_pages, runs, their pages: how a buffer's bytes differ from what was known */
#define TRACE_CHECK 5   /* struct trace_check: the device has finished a buffer, and TRACE_PAGES have been written */
#define TRACE_CLOSE 6   /* struct trace_close: this process has no fd of the file any more */
#define TRACE_NOTE 7    /* struct trace_note and UTF-8 text */
#define TRACE_END 8     /* nothing: this process ends in good order */
#define TRACE_REPEAT 9  /* struct trace_pages, struct trace_repeat: the runs and pages of an earlier PAGES frame */

/* Where and by what: no host name, no user, no command line. Texts end with a zero byte. */
struct trace_process {
   uint64_t realtime_ns;
   uint32_t parent; /* pid of the process that this one was forked from, 0: none that is recorded */
   uint32_t reserved;
   char program[64];    /* the executable's file name, without folders */
   char system[128];    /* kernel, release, machine */
   char board[192];     /* the device tree's model and compatible strings, blanks between them */
   char recorder[64];   /* version and build of this library */
};

/* An open file description: fds made by dup or fork are the same file. */
struct trace_file {
   uint64_t file;
   int32_t fd;
   uint32_t is_simulated;
   int32_t version_major;
   int32_t version_minor;
   int32_t version_patchlevel;
   uint32_t reserved;
   char driver[32];
   char path[64];
};

/* Behind it: the argument before the call, the argument after it (argument_bytes each), then num_jobs jobs. */
struct trace_call {
   uint64_t file;
   uint64_t start_ns;
   uint64_t end_ns;
   int32_t fd;
   uint32_t thread;
   uint32_t request; /* the ioctl's number */
   int32_t result;
   int32_t error; /* errno, 0: none */
   uint32_t argument_bytes;
   uint32_t flags;
   uint32_t num_jobs; /* of a SUBMIT */
};

#define TRACE_CALL_BY_RECORDER 1 /* the recorder made this call, not the application */
#define TRACE_CALL_UNREADABLE 2  /* the argument or the jobs lie where the caller cannot read */
#define TRACE_CALL_SPLIT 4       /* one job of a SUBMIT that the application made of several */

/* Behind it: num_tasks times two uint32 (regcmd, regcmd_count), then the handles read, then the handles written. */
struct trace_job {
   uint32_t num_tasks;
   uint32_t num_in;
   uint32_t num_out;
   uint32_t is_unreadable; /* the counts are then 0 */
};

#define TRACE_PAGE_BYTES 4096
#define TRACE_BY_CPU 0    /* the application wrote these bytes */
#define TRACE_BY_DEVICE 1 /* the device did */

/* Behind it: num_runs runs, then their pages one after another. A buffer is all zero when it is made. */
struct trace_pages {
   uint64_t file;
   uint64_t bo_bytes;
   uint32_t handle;
   uint32_t side;
   uint32_t num_runs;
   uint32_t num_pages;
};

struct trace_run {
   uint32_t first_page;
   uint32_t num_pages;
};

/* Only in files that have been compressed. */
struct trace_repeat {
   uint64_t offset; /* of the PAGES frame in this file */
};

struct trace_check {
   uint64_t file;
   uint32_t handle;
   uint32_t reserved;
};

struct trace_close {
   uint64_t file;
};

#define TRACE_NOTE_WARNING 1 /* the recorder could not do something */
#define TRACE_NOTE_TEXT 2    /* for people */
#define TRACE_NOTE_PROBE 3   /* a result of `cermet probe`, JSON */
#define TRACE_NOTE_LABEL 4   /* what the following jobs of this process are */

struct trace_note {
   uint32_t level;
   uint32_t reserved;
};

#endif
