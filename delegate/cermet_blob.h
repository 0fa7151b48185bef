/* SPDX-License-Identifier: MIT */
/*
 * The subgraph blob: one TFLite graph as the delegate sees it, whole, for the compiler. Little endian, no padding
 * that is not named. Written by delegate/capture*.c and by cermet.frontend.tflite_file, byte for byte alike for the
 * same model (so that both give the same cache key); read by cermet.frontend.blob, which parses this header.
 *
 * Canonical form: operations in execution order. Tensors numbered by first use, walking the operations (inputs, then
 * outputs, of each in turn); tensors that no operation touches are left out. graph_inputs/graph_outputs are canonical
 * tensor numbers in ascending order: tensors that no operation produces and that are not constant (variables too);
 * produced tensors that the graph hands to the application. Sections follow the header in this order: operations, tensors,
 * ints, strings, data, each at the next multiple of 16 bytes also when it is empty, gaps zero; the file ends with the data
 * section: file_bytes = data_offset + data_bytes. Arrays named *_start index the section of 32-bit values `ints` (floats are
 * stored by their bits); the start of an empty array is where it would have stood. Order in `ints`, without sharing:
 * inputs, outputs, params of each operation; dims, scales, zero_points of each tensor; graph_inputs; graph_outputs.
 * Strings live in `strings`, NUL-terminated, without sharing: one NUL, so that offset 0 is the empty string, then the
 * custom_name of each operation, then the name of each tensor; empty ones take no room and have offset 0, names end at
 * their first NUL. custom_name is empty unless builtin_code is 32 (CUSTOM) or 51 (DELEGATE).
 * Constants lie in the order of the tensors, without sharing, each at the next multiple of 16 bytes from data_offset, gaps
 * zero; data_bytes ends with the last byte of the last one. A constant has at least one byte of contents in the model file
 * (allocation kTfLiteMmapRo). Its contents are stored raw, whatever its type.
 * Quantisation: affine only (others: num_scales 0), scales as the model says, zero points one only when all are equal
 * (runtimes differ in that). Outputs of CUSTOM operations that no operation reads have rank 0 and are not DYNAMIC (only the
 * runtime knows their shape, and nobody here needs it). An operation whose options are absent from the model has params 0.
 */
#ifndef CERMET_BLOB_H
#define CERMET_BLOB_H

#include <stdint.h>

#define CERMET_BLOB_MAGIC 0x424d5243 /* "CRMB" */
#define CERMET_BLOB_VERSION 1

#define CERMET_TENSOR_CONSTANT 1 /* data_offset and data_bytes name its contents */
#define CERMET_TENSOR_VARIABLE 2 /* keeps its value between invocations */
#define CERMET_TENSOR_DYNAMIC 4  /* dims_signature has a -1: the application may resize it; dims are its size now */

#define CERMET_NO_TENSOR 0xffffffff /* optional input that is absent, in an operation's tensor list */

struct cermet_blob_header {
	uint32_t magic;
	uint32_t version;
	uint64_t file_bytes;
	uint32_t num_operations;
	uint32_t operations_offset; /* struct cermet_blob_operation[num_operations] */
	uint32_t num_tensors;
	uint32_t tensors_offset; /* struct cermet_blob_tensor[num_tensors] */
	uint32_t num_ints;
	uint32_t ints_offset; /* int32_t[num_ints] */
	uint32_t strings_bytes;
	uint32_t strings_offset;
	uint32_t num_graph_inputs;
	uint32_t graph_inputs_start;
	uint32_t num_graph_outputs;
	uint32_t graph_outputs_start;
	uint64_t data_offset; /* constants, each aligned to 16 bytes */
	uint64_t data_bytes;
};

struct cermet_blob_operation {
	int32_t builtin_code; /* TFLite's BuiltinOperator number */
	int32_t version;
	uint32_t custom_name; /* string offset */
	uint32_t num_inputs;
	uint32_t inputs_start; /* canonical tensor numbers or CERMET_NO_TENSOR */
	uint32_t num_outputs;
	uint32_t outputs_start;
	uint32_t num_params;
	uint32_t params_start; /* meaning per builtin_code: the table below */
	uint32_t reserved;
};

/*
 * Parameters, all int32 (floats by their bits), padding and activation with TFLite's C numbers (padding 1 SAME, 2 VALID; activation 0 none,
 * 1 RELU, 2 RELU_N1_TO_1, 3 RELU6, 4 TANH, 5 SIGN_BIT):
 *   CONV_2D (3)            padding, stride_w, stride_h, activation, dilation_w, dilation_h
 *   DEPTHWISE_CONV_2D (4)  padding, stride_w, stride_h, depth_multiplier, activation, dilation_w, dilation_h
 *   AVERAGE_POOL_2D (1), MAX_POOL_2D (17)  padding, stride_w, stride_h, filter_w, filter_h, activation
 *   FULLY_CONNECTED (9)    activation, weights_format, keep_num_dims
 *   TRANSPOSE_CONV (67)    padding, stride_w, stride_h, activation
 *   BATCH_MATMUL (126)     adj_x, adj_y
 *   MEAN (40), SUM (74), REDUCE_MAX (82), REDUCE_MIN (89)  keep_dims
 *   ADD (0), MUL (18), SUB (41), DIV (42)  activation
 *   LEAKY_RELU (98)        alpha (float)
 *   GELU (150)             approximate
 *   CONCATENATION (2)      axis, activation
 *   UNPACK (88), PACK (83) axis
 *   GATHER (36)            axis, batch_dims
 *   MIRROR_PAD (100)       mode (1 REFLECT, 2 SYMMETRIC)
 *   STRIDED_SLICE (45)     begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask
 *   SPACE_TO_DEPTH (26), DEPTH_TO_SPACE (5)  block_size
 *   RESIZE_BILINEAR (23), RESIZE_NEAREST_NEIGHBOR (97)  align_corners, half_pixel_centers
 * every other operation: none (its shapes say enough, or it stays on the CPU).
 */

struct cermet_blob_tensor {
	int32_t type; /* TfLiteType number */
	uint32_t flags;
	uint32_t name; /* string offset */
	uint32_t rank;
	uint32_t dims_start;
	uint32_t num_scales; /* 0: not quantised; 1: per tensor; else per channel */
	uint32_t scales_start; /* float bits */
	uint32_t num_zero_points; /* 0, 1 or num_scales */
	uint32_t zero_points_start;
	int32_t quantised_dimension; /* 0 when num_scales < 2 */
	uint64_t data_offset; /* from the start of the file; 0 when not constant */
	uint64_t data_bytes;
};

#endif
