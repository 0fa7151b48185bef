/* SPDX-License-Identifier: MIT */
/*
 * The part of TensorFlow Lite's C interface that an external delegate sees, declared anew: no TFLite header is needed
 * and no TFLite symbol is called, only function pointers in the context. Offsets are those of TFLite 2.14 and of
 * LiteRT 2.3 on LP64 machines, and are checked below. Members that appeared later than 2.14 are never read.
 */
#ifndef CERMET_TFLITE_ABI_H
#define CERMET_TFLITE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TFLITE_OK = 0, TFLITE_ERROR = 1 };
enum { TFLITE_UINT8 = 3, TFLITE_INT8 = 9 };
enum { TFLITE_ALLOCATION_CONSTANT = 1 };
enum { TFLITE_AFFINE_QUANTIZATION = 1 };
enum { TFLITE_ALLOW_DYNAMIC_TENSORS = 1, TFLITE_REQUIRE_PROPAGATED_SHAPES = 2 };
enum {
	TFLITE_ADD = 0,
	TFLITE_AVERAGE_POOL_2D = 1,
	TFLITE_CONV_2D = 3,
	TFLITE_DEPTHWISE_CONV_2D = 4,
	TFLITE_FULLY_CONNECTED = 9,
	TFLITE_MAX_POOL_2D = 17,
	TFLITE_MUL = 18,
	TFLITE_CUSTOM = 32,
	TFLITE_MEAN = 40,
	TFLITE_SUB = 41,
	TFLITE_SUM = 74,
	TFLITE_REDUCE_MAX = 82,
	TFLITE_REDUCE_MIN = 89,
	TFLITE_DIV = 42,
	TFLITE_DELEGATE = 51,
	TFLITE_TRANSPOSE_CONV = 67,
	TFLITE_LEAKY_RELU = 98,
	TFLITE_BATCH_MATMUL = 126,
	TFLITE_GELU = 150,
	TFLITE_CONCATENATION = 2,
	TFLITE_DEPTH_TO_SPACE = 5,
	TFLITE_RESIZE_BILINEAR = 23,
	TFLITE_SPACE_TO_DEPTH = 26,
	TFLITE_STRIDED_SLICE = 45,
	TFLITE_GATHER = 36,
	TFLITE_PACK = 83,
	TFLITE_UNPACK = 88,
	TFLITE_RESIZE_NEAREST_NEIGHBOR = 97,
	TFLITE_MIRROR_PAD = 100,
};

struct TfLiteContext;
struct TfLiteDelegate;
struct TfLiteNode;

struct TfLiteIntArray {
	int size;
	int data[];
};

struct TfLiteFloatArray {
	int size;
	float data[];
};

struct TfLiteAffineQuantization {
	struct TfLiteFloatArray *scale;
	struct TfLiteIntArray *zero_point;
	int32_t quantized_dimension;
};

struct TfLiteTensor {
	int type;
	void *data;
	struct TfLiteIntArray *dims;
	struct {
		float scale;
		int32_t zero_point;
	} params; /* legacy: zero for per-channel tensors */
	int allocation_type;
	size_t bytes;
	const void *allocation;
	const char *name;
	struct TfLiteDelegate *delegate;
	int buffer_handle;
	bool data_is_stale;
	bool is_variable;
	struct {
		int type;
		void *params;
	} quantization;
	void *sparsity;
	const struct TfLiteIntArray *dims_signature;
};

struct TfLiteNode {
	struct TfLiteIntArray *inputs;
	struct TfLiteIntArray *outputs;
	struct TfLiteIntArray *intermediates;
	struct TfLiteIntArray *temporaries;
	void *user_data;
	void *builtin_data;
	const void *custom_initial_data;
	int custom_initial_data_size;
	struct TfLiteDelegate *delegate;
	bool might_have_side_effect;
};

struct TfLiteRegistration {
	void *(*init)(struct TfLiteContext *context, const char *buffer, size_t length);
	void (*free)(struct TfLiteContext *context, void *user_data);
	int (*prepare)(struct TfLiteContext *context, struct TfLiteNode *node);
	int (*invoke)(struct TfLiteContext *context, struct TfLiteNode *node);
	const char *(*profiling_string)(const struct TfLiteContext *context, const struct TfLiteNode *node);
	int32_t builtin_code;
	const char *custom_name;
	int version;
	void *registration_external;
	void *async_kernel;
	uint64_t inplace_operator;
};

struct TfLiteDelegateParams {
	struct TfLiteDelegate *delegate;
	struct TfLiteIntArray *nodes_to_replace;
	struct TfLiteIntArray *input_tensors;
	struct TfLiteIntArray *output_tensors;
};

struct TfLiteContext {
	size_t tensors_size;
	int (*GetExecutionPlan)(struct TfLiteContext *context, struct TfLiteIntArray **plan);
	struct TfLiteTensor *tensors;
	void *impl_;
	void *ResizeTensor;
	void (*ReportError)(struct TfLiteContext *context, const char *format, ...)
		__attribute__((format(printf, 2, 3)));
	void *AddTensors;
	int (*GetNodeAndRegistration)(struct TfLiteContext *context, int node_index, struct TfLiteNode **node,
	                              struct TfLiteRegistration **registration);
	int (*ReplaceNodeSubsetsWithDelegateKernels)(struct TfLiteContext *context, struct TfLiteRegistration registration,
	                                             const struct TfLiteIntArray *nodes, struct TfLiteDelegate *delegate);
	int recommended_num_threads;
	void *GetExternalContext;
	void *SetExternalContext;
	bool allow_fp32_relax_to_fp16;
	void *profiler;
	void *AllocatePersistentBuffer;
	void *AllocateBufferForEval;
	void *RequestScratchBufferInArena;
	void *GetScratchBuffer;
	void *ResizeTensorExplicit;
	int (*PreviewDelegatePartitioning)(struct TfLiteContext *context, const struct TfLiteIntArray *nodes,
	                                   struct TfLiteDelegateParams **partitions, int *num_partitions);
	void *GetTensor;
	void *GetEvalTensor;
	void *GetModelMetadata;
	void *AcquireSubgraphContext;
	void *ReleaseSubgraphContext;
};

struct TfLiteDelegate {
	void *data_;
	int (*Prepare)(struct TfLiteContext *context, struct TfLiteDelegate *delegate);
	void *CopyFromBufferHandle;
	void *CopyToBufferHandle;
	void *FreeBufferHandle;
	int64_t flags;
	void *opaque_delegate_builder;
};

struct TfLiteConvParams {
	int padding, stride_width, stride_height, activation, dilation_width, dilation_height;
};

struct TfLiteDepthwiseConvParams {
	int padding, stride_width, stride_height, depth_multiplier, activation, dilation_width, dilation_height;
};

struct TfLitePoolParams {
	int padding, stride_width, stride_height, filter_width, filter_height, activation;
};

struct TfLiteFullyConnectedParams {
	int activation, weights_format;
	bool keep_num_dims;
};

struct TfLiteTransposeConvParams {
	int padding, stride_width, stride_height, activation;
};

struct TfLiteBatchMatMulParams {
	bool adj_x, adj_y;
};

struct TfLiteAddParams {
	int activation;
};

struct TfLiteSubParams {
	int activation;
};

struct TfLiteMulParams {
	int activation;
};

struct TfLiteDivParams {
	int activation;
};

struct TfLiteReducerParams {
	bool keep_dims;
};

struct TfLiteLeakyReluParams {
	float alpha;
};

struct TfLiteGeluParams {
	bool approximate;
};

struct TfLiteConcatenationParams {
	int axis, activation;
};

struct TfLiteUnpackParams {
	int num, axis;
};

struct TfLitePackParams {
	int values_count, axis;
};

struct TfLiteGatherParams {
	int axis, batch_dims;
};

struct TfLiteMirrorPaddingParams {
	int mode;
};

struct TfLiteStridedSliceParams {
	int begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask;
};

struct TfLiteBlockSizeParams { /* SpaceToDepthParams and DepthToSpaceParams */
	int block_size;
};

struct TfLiteResizeParams { /* ResizeBilinearParams and ResizeNearestNeighborParams */
	bool align_corners, half_pixel_centers;
};

#define CERMET_AT(type, member, offset) \
	_Static_assert(offsetof(struct TfLite##type, member) == (offset), #type "." #member)
#define CERMET_SIZE(type, size) _Static_assert(sizeof(struct TfLite##type) == (size), #type)

CERMET_AT(Context, tensors_size, 0);
CERMET_AT(Context, GetExecutionPlan, 8);
CERMET_AT(Context, tensors, 16);
CERMET_AT(Context, impl_, 24);
CERMET_AT(Context, ResizeTensor, 32);
CERMET_AT(Context, ReportError, 40);
CERMET_AT(Context, AddTensors, 48);
CERMET_AT(Context, GetNodeAndRegistration, 56);
CERMET_AT(Context, ReplaceNodeSubsetsWithDelegateKernels, 64);
CERMET_AT(Context, recommended_num_threads, 72);
CERMET_AT(Context, GetExternalContext, 80);
CERMET_AT(Context, SetExternalContext, 88);
CERMET_AT(Context, allow_fp32_relax_to_fp16, 96);
CERMET_AT(Context, profiler, 104);
CERMET_AT(Context, AllocatePersistentBuffer, 112);
CERMET_AT(Context, AllocateBufferForEval, 120);
CERMET_AT(Context, RequestScratchBufferInArena, 128);
CERMET_AT(Context, GetScratchBuffer, 136);
CERMET_AT(Context, ResizeTensorExplicit, 144);
CERMET_AT(Context, PreviewDelegatePartitioning, 152);
CERMET_AT(Context, GetTensor, 160);
CERMET_AT(Context, GetEvalTensor, 168);
CERMET_AT(Context, GetModelMetadata, 176);
CERMET_AT(Context, AcquireSubgraphContext, 184);
CERMET_AT(Context, ReleaseSubgraphContext, 192);
CERMET_SIZE(Context, 200);

CERMET_AT(Tensor, type, 0);
CERMET_AT(Tensor, data, 8);
CERMET_AT(Tensor, dims, 16);
CERMET_AT(Tensor, params, 24);
CERMET_AT(Tensor, allocation_type, 32);
CERMET_AT(Tensor, bytes, 40);
CERMET_AT(Tensor, allocation, 48);
CERMET_AT(Tensor, name, 56);
CERMET_AT(Tensor, delegate, 64);
CERMET_AT(Tensor, buffer_handle, 72);
CERMET_AT(Tensor, data_is_stale, 76);
CERMET_AT(Tensor, is_variable, 77);
CERMET_AT(Tensor, quantization, 80);
CERMET_AT(Tensor, quantization.params, 88);
CERMET_AT(Tensor, sparsity, 96);
CERMET_AT(Tensor, dims_signature, 104);
CERMET_SIZE(Tensor, 112);

CERMET_AT(Node, inputs, 0);
CERMET_AT(Node, outputs, 8);
CERMET_AT(Node, intermediates, 16);
CERMET_AT(Node, temporaries, 24);
CERMET_AT(Node, user_data, 32);
CERMET_AT(Node, builtin_data, 40);
CERMET_AT(Node, custom_initial_data, 48);
CERMET_AT(Node, custom_initial_data_size, 56);
CERMET_AT(Node, delegate, 64);
CERMET_AT(Node, might_have_side_effect, 72);
CERMET_SIZE(Node, 80);

CERMET_AT(Registration, init, 0);
CERMET_AT(Registration, free, 8);
CERMET_AT(Registration, prepare, 16);
CERMET_AT(Registration, invoke, 24);
CERMET_AT(Registration, profiling_string, 32);
CERMET_AT(Registration, builtin_code, 40);
CERMET_AT(Registration, custom_name, 48);
CERMET_AT(Registration, version, 56);
CERMET_AT(Registration, registration_external, 64);
CERMET_AT(Registration, async_kernel, 72);
CERMET_AT(Registration, inplace_operator, 80);
CERMET_SIZE(Registration, 88);

CERMET_AT(Delegate, data_, 0);
CERMET_AT(Delegate, Prepare, 8);
CERMET_AT(Delegate, CopyFromBufferHandle, 16);
CERMET_AT(Delegate, CopyToBufferHandle, 24);
CERMET_AT(Delegate, FreeBufferHandle, 32);
CERMET_AT(Delegate, flags, 40);
CERMET_AT(Delegate, opaque_delegate_builder, 48);
CERMET_SIZE(Delegate, 56);

CERMET_AT(DelegateParams, delegate, 0);
CERMET_AT(DelegateParams, nodes_to_replace, 8);
CERMET_AT(DelegateParams, input_tensors, 16);
CERMET_AT(DelegateParams, output_tensors, 24);
CERMET_SIZE(DelegateParams, 32);

CERMET_AT(IntArray, data, 4);
CERMET_AT(FloatArray, data, 4);
CERMET_AT(AffineQuantization, scale, 0);
CERMET_AT(AffineQuantization, zero_point, 8);
CERMET_AT(AffineQuantization, quantized_dimension, 16);
CERMET_SIZE(AffineQuantization, 24);

CERMET_AT(ConvParams, activation, 12);
CERMET_AT(ConvParams, dilation_height, 20);
CERMET_SIZE(ConvParams, 24);
CERMET_AT(DepthwiseConvParams, activation, 16);
CERMET_AT(DepthwiseConvParams, dilation_height, 24);
CERMET_SIZE(DepthwiseConvParams, 28);
CERMET_AT(PoolParams, filter_height, 16);
CERMET_AT(PoolParams, activation, 20);
CERMET_AT(FullyConnectedParams, weights_format, 4);
CERMET_AT(FullyConnectedParams, keep_num_dims, 8);
CERMET_AT(TransposeConvParams, activation, 12);
CERMET_AT(BatchMatMulParams, adj_y, 1);
CERMET_AT(ConcatenationParams, activation, 4);
CERMET_AT(UnpackParams, axis, 4);
CERMET_AT(PackParams, axis, 4);
CERMET_AT(GatherParams, batch_dims, 4);
CERMET_AT(StridedSliceParams, shrink_axis_mask, 16);
CERMET_AT(ResizeParams, half_pixel_centers, 1);

#undef CERMET_AT
#undef CERMET_SIZE

#endif
