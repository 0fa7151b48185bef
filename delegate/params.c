/* SPDX-License-Identifier: MIT */
#include "params.h"

#include "base.h"
#include "tflite_abi.h"

#include <string.h>

uint32_t
cermet_read_params(int builtin_code, const void *data, int32_t params[CERMET_MAX_PARAMS])
{
	static const int nothing[16];
	const void *source = data ? data : nothing;

	switch (builtin_code) {
	case TFLITE_CONV_2D: {
		const struct TfLiteConvParams *p = source;
		const int32_t values[] = {p->padding, p->stride_width, p->stride_height, p->activation, p->dilation_width,
		                          p->dilation_height};

		memcpy(params, values, sizeof(values));
		return CERMET_COUNT(values);
	}
	case TFLITE_DEPTHWISE_CONV_2D: {
		const struct TfLiteDepthwiseConvParams *p = source;
		const int32_t values[] = {p->padding, p->stride_width, p->stride_height, p->depth_multiplier, p->activation,
		                          p->dilation_width, p->dilation_height};

		memcpy(params, values, sizeof(values));
		return CERMET_COUNT(values);
	}
	case TFLITE_AVERAGE_POOL_2D:
	case TFLITE_MAX_POOL_2D: {
		const struct TfLitePoolParams *p = source;
		const int32_t values[] = {p->padding, p->stride_width, p->stride_height, p->filter_width, p->filter_height,
		                          p->activation};

		memcpy(params, values, sizeof(values));
		return CERMET_COUNT(values);
	}
	case TFLITE_FULLY_CONNECTED: {
		const struct TfLiteFullyConnectedParams *p = source;

		params[0] = p->activation;
		params[1] = p->weights_format;
		params[2] = p->keep_num_dims;
		return 3;
	}
	case TFLITE_TRANSPOSE_CONV: {
		const struct TfLiteTransposeConvParams *p = source;
		const int32_t values[] = {p->padding, p->stride_width, p->stride_height, p->activation};

		memcpy(params, values, sizeof(values));
		return CERMET_COUNT(values);
	}
	case TFLITE_BATCH_MATMUL:
		params[0] = ((const struct TfLiteBatchMatMulParams *)source)->adj_x;
		params[1] = ((const struct TfLiteBatchMatMulParams *)source)->adj_y;
		return 2;
	case TFLITE_ADD:
		params[0] = ((const struct TfLiteAddParams *)source)->activation;
		return 1;
	case TFLITE_SUB:
		params[0] = ((const struct TfLiteSubParams *)source)->activation;
		return 1;
	case TFLITE_MUL:
		params[0] = ((const struct TfLiteMulParams *)source)->activation;
		return 1;
	case TFLITE_DIV:
		params[0] = ((const struct TfLiteDivParams *)source)->activation;
		return 1;
	case TFLITE_LEAKY_RELU:
		memcpy(&params[0], &((const struct TfLiteLeakyReluParams *)source)->alpha, sizeof(params[0]));
		return 1;
	case TFLITE_GELU:
		params[0] = ((const struct TfLiteGeluParams *)source)->approximate;
		return 1;
	case TFLITE_MEAN:
	case TFLITE_SUM:
	case TFLITE_REDUCE_MAX:
	case TFLITE_REDUCE_MIN:
		params[0] = ((const struct TfLiteReducerParams *)source)->keep_dims;
		return 1;
	case TFLITE_CONCATENATION: {
		const struct TfLiteConcatenationParams *p = source;

		params[0] = p->axis;
		params[1] = p->activation;
		return 2;
	}
	case TFLITE_UNPACK:
		params[0] = ((const struct TfLiteUnpackParams *)source)->axis;
		return 1;
	case TFLITE_PACK:
		params[0] = ((const struct TfLitePackParams *)source)->axis;
		return 1;
	case TFLITE_GATHER: {
		const struct TfLiteGatherParams *p = source;

		params[0] = p->axis;
		params[1] = p->batch_dims;
		return 2;
	}
	case TFLITE_MIRROR_PAD:
		params[0] = ((const struct TfLiteMirrorPaddingParams *)source)->mode;
		return 1;
	case TFLITE_STRIDED_SLICE: {
		const struct TfLiteStridedSliceParams *p = source;
		const int32_t values[] = {p->begin_mask, p->end_mask, p->ellipsis_mask, p->new_axis_mask, p->shrink_axis_mask};

		memcpy(params, values, sizeof(values));
		return CERMET_COUNT(values);
	}
	case TFLITE_SPACE_TO_DEPTH:
	case TFLITE_DEPTH_TO_SPACE:
		params[0] = ((const struct TfLiteBlockSizeParams *)source)->block_size;
		return 1;
	case TFLITE_RESIZE_BILINEAR:
	case TFLITE_RESIZE_NEAREST_NEIGHBOR: {
		const struct TfLiteResizeParams *p = source;

		params[0] = p->align_corners;
		params[1] = p->half_pixel_centers;
		return 2;
	}
	default:
		return 0;
	}
}
