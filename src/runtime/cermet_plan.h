/* SPDX-License-Identifier: MIT */
/*
 * The plan: what the compiler answers for one subgraph blob, and the content of one cache entry. Little endian.
 * Written and read by cermet.program.plan_writer and plan_reader (plan_layout.py parses this header), read by
 * src/runtime/plan*.c.
 * A reader trusts nothing: every offset, count and index is checked against the file before use.
 * All *_offset are bytes from the start of the file, 8-byte aligned; strings are NUL-terminated inside the strings section,
 * whose first byte is NUL (offset 0 is the empty string).
 *
 * The checksum finds damage, not intent: who can write an entry can write its checksum. It is two numbers of 64 bits, modulo
 * 2**64, over the file's 64-bit words w[0], w[1], .. (filled up with zeros, those of the checksum itself taken as zero):
 * the sum of w[i], which finds every change inside one word, and the sum of the products of the two halves of w[i] + q[i],
 * in which each place counts differently: q[i] is (i + 1) * CERMET_PLAN_STEP XOR (i + 1) * CERMET_PLAN_OTHER_STEP. One
 * step alone would let changes in regular patterns cancel where a file repeats itself: with the same bit of four equal words
 * up, down, down and up, or two blocks of the same words in another order swapped.
 *
 * The cache key is BLAKE2sp-256 (no key, no salt) over these bytes, in this order:
 *   "cermet-key-2" NUL  soc NUL  build_id NUL  options NUL  blob
 * where blob is the whole file of cermet_blob.h and options is exactly
 *   match=M;allow=WORDS;deny=WORDS;min_partition_nodes=N;assume=A;prefer=P;registers=R;chains=H;first_rows=F;cores=C;
 *   groups=GROUPS
 * without a line break. The default is named first:
 *   M       tflite, exact
 *   WORDS   empty, or operation names in upper case, operation numbers N and ranges N-N (without leading zeros, at most 7
 *           digits), each word once, sorted by bytes, joined by '+' (a user may separate words by '+' or ',')
 *   N       1 and more, decimal without leading zeros
 *   A       on, replayed, off
 *   P       speed, npu
 *   R       all, changed
 *   H       kernel, program
 *   F       proven, least
 *   C       1 to 8
 *   GROUPS  empty, or the groups joined by '/', each group its operation numbers in ascending order with every run of two
 *           or more consecutive ones as FIRST-LAST, joined by '+': operations 0,1,2,3,4,5,7,8,9 and 6 as two groups are
 *           "0-5+7-9/6"
 * A cache entry is the plan as file DIR/KEY.plan, KEY in 64 lower-case hexadecimal digits, mode 0600. DIR belongs to the
 * user and nobody else may write to it; the default is $XDG_CACHE_HOME/cermet when that is an absolute path, else
 * $HOME/.cache/cermet. Writers write DIR/.KEY.PID.tmp, fsync it and rename it. The bytes of soc are the SoC's canonical
 * name (rk3588).
 */
#ifndef CERMET_PLAN_H
#define CERMET_PLAN_H

#include <stdint.h>

#define CERMET_PLAN_MAGIC 0x504d5243 /* "CRMP" */
#define CERMET_PLAN_VERSION 6
#define CERMET_PLAN_STEP 0x9e3779b97f4a7c15 /* odd, its bits irregular */
#define CERMET_PLAN_OTHER_STEP 0xbf58476d1ce4e5b9 /* also */
#define CERMET_ON_CPU 0xffffffff

#define CERMET_MAX_BOS 32
#define CERMET_MAX_LANES 8
#define CERMET_MAX_FOLD 49 /* the largest stride: 7 over blocks of 7 */

/* What a BO is for. */
#define CERMET_BO_CONSTANT 0 /* programs, weights, operands: written once, read by the NPU */
#define CERMET_BO_ARENA 1    /* activations inside the partition */
#define CERMET_BO_INPUT 2
#define CERMET_BO_OUTPUT 3

/* How a tensor lies in its BO. */
#define CERMET_LAYOUT_ATOMS 0  /* NC1HWC2, atoms of 16 channels; see cermet_plan_io */
#define CERMET_LAYOUT_PACKED 1 /* NHWC bytes, rows line_stride_bytes apart */

struct cermet_plan_header {
	uint32_t magic;
	uint32_t version;
	uint64_t file_bytes;
	uint64_t checksum_sum; /* see above */
	uint64_t checksum_products;
	uint8_t key[32];      /* the cache key that the compiler was asked for, see cermet.program.cache */
	char build_id[32];    /* version of the compiler that wrote it, NUL-padded, at most 31 characters */
	char soc[16];         /* NUL-padded */
	uint32_t num_nodes;
	uint32_t nodes_offset; /* struct cermet_plan_node[num_nodes], in the blob's order of operations */
	uint32_t num_partitions;
	uint32_t partitions_offset; /* struct cermet_plan_partition[num_partitions] */
	uint32_t strings_offset;
	uint32_t strings_bytes;
};

struct cermet_plan_node {
	uint32_t partition; /* or CERMET_ON_CPU */
	uint32_t reason;    /* offset into strings: why it stays on the CPU, "rule: words"; 0 when it does not */
};

/* One group of nodes that the runtime replaces by one NPU program. */
struct cermet_plan_partition {
	uint32_t num_nodes;
	uint32_t nodes_offset; /* uint32_t[]: node numbers, ascending */
	uint32_t num_bos;
	uint32_t bos_offset; /* struct cermet_plan_bo[] */
	uint32_t num_relocations;
	uint32_t relocations_offset; /* struct cermet_plan_relocation[] */
	uint32_t num_tasks;
	uint32_t tasks_offset; /* struct cermet_plan_task[] */
	uint32_t num_jobs;
	uint32_t jobs_offset; /* struct cermet_plan_job[]: all go into one SUBMIT */
	uint32_t num_inputs;
	uint32_t inputs_offset; /* struct cermet_plan_io[] */
	uint32_t num_outputs;
	uint32_t outputs_offset; /* struct cermet_plan_io[] */
	uint32_t debug_offset;   /* JSON: layer names, MACs per task; may be absent (0, 0) */
	uint32_t debug_bytes;
	uint32_t num_steps;
	/* struct cermet_plan_step[]: instead of the jobs, where the kernel has queues. None: the tasks of a job lead to each
	 * other on any kernel, and the kernel is given only those that no other one leads to. */
	uint32_t steps_offset;
};

struct cermet_plan_bo {
	uint32_t role;
	uint32_t size_bytes; /* 1..0x7ffff000 */
	uint32_t data_offset; /* initial contents of the first data_bytes; the rest is zero */
	uint32_t data_bytes;
};

/* Add the NPU address of `target_bo` plus `addend_bytes` into bits 47:16 of the program word at `offset_bytes` of `bo`. */
struct cermet_plan_relocation {
	uint32_t bo;
	uint32_t offset_bytes; /* multiple of 8 */
	uint32_t target_bo;
	uint32_t addend_bytes;
};

struct cermet_plan_task {
	uint32_t bo;
	uint32_t offset_bytes; /* multiple of 16 */
	uint32_t num_words;    /* 64-bit words, trailer included */
	uint32_t reserved;
	/*
	 * What words num_words - 4 and num_words - 3 become to make the NPU go on with the next task by itself; the NPU
	 * address of that task is added to bits 47:16 of the first. 0: it must not, or nothing comes behind it in its step
	 * or job.
	 */
	uint64_t next_address;
	uint64_t next_amount;
};

/*
 * For kernels with queues (kernel-uapi/proposals/queues). Steps together are all tasks in order. Steps of a stage, at most
 * one for each lane, in ascending order, run at the same time, each lane on a core of its own, and wait for all of the
 * stage before. Stages are numbered from 0 without gaps.
 */
struct cermet_plan_step {
	uint32_t first_task;
	uint32_t num_tasks;
	uint32_t lane; /* below CERMET_MAX_LANES */
	uint32_t stage;
};

/*
 * Tasks first_task .. first_task + num_tasks - 1 as one job. No BO is in both masks (the kernel would drop the job).
 * The witness is the last atom, 16 bytes, that the job's last task writes. No other task of the partition writes
 * there, so that a job's completion, which the kernel does not report, can be seen when all jobs are over.
 */
struct cermet_plan_job {
	uint32_t first_task;
	uint32_t num_tasks;
	uint32_t in_bo_mask; /* bit i: BO i */
	uint32_t out_bo_mask;
	uint32_t witness_bo; /* one of out_bo_mask */
	uint32_t witness_offset_bytes; /* multiple of 16 */
};

/*
 * One tensor that crosses the partition's border. TFLite holds num_elements = batch*height*width*channels bytes, NHWC.
 * ATOMS: element (n,h,w,c) is the byte at offset_bytes + n*batch_stride_bytes + (c/16)*surface_stride_bytes
 * + h*line_stride_bytes + w*16 + c%16. PACKED: offset_bytes + n*batch_stride_bytes + h*line_stride_bytes + w*channels + c.
 * An input in ATOMS may be folded, fold_y or fold_x above 1: its feature map has ceil(height/fold_y) rows of
 * ceil(width/fold_x) pixels of fold_y*fold_x*channels channels, a block of the tensor's pixels each. Element (n,h,w,c) is
 * the byte where the rule above puts (n, h/fold_y, w/fold_x, (h%fold_y*fold_x + w%fold_x)*channels + c).
 * On the way in and out each byte is XORed with `flip` (0x80 turns uint8 into the NPU's signed domain, else 0).
 * On the way in, filler channels of the last atom, and what blocks have beyond the tensor's last row and column, get
 * the byte `fill` (not flipped).
 */
struct cermet_plan_io {
	uint32_t tensor; /* canonical tensor number of the blob */
	uint32_t bo;
	uint32_t layout;
	uint32_t offset_bytes;
	uint32_t batch;
	uint32_t height;
	uint32_t width;
	uint32_t channels;
	uint32_t batch_stride_bytes;
	uint32_t line_stride_bytes;
	uint32_t surface_stride_bytes;
	uint8_t flip;
	uint8_t fill;
	uint8_t fold_y; /* 1..CERMET_MAX_FOLD; 1 where nothing is folded */
	uint8_t fold_x;
};

#endif
