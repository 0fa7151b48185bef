/* SPDX-License-Identifier: MIT */
/* The part of tensorflow/lite/delegates/external/external_delegate.h that the README's example uses, declared anew. */
#ifndef EXTERNAL_DELEGATE_H
#define EXTERNAL_DELEGATE_H

#ifdef __cplusplus
extern "C" {
#endif

enum { MAX_OPTIONS = 256 };

typedef struct TfLiteDelegate TfLiteDelegate;

typedef struct TfLiteExternalDelegateOptions {
   const char *lib_path;
   int count;
   const char *keys[MAX_OPTIONS];
   const char *values[MAX_OPTIONS];
   int (*insert)(struct TfLiteExternalDelegateOptions *options, const char *key, const char *value);
} TfLiteExternalDelegateOptions;

TfLiteExternalDelegateOptions TfLiteExternalDelegateOptionsDefault(const char *lib_path);
TfLiteDelegate *TfLiteExternalDelegateCreate(const TfLiteExternalDelegateOptions *options);
void TfLiteExternalDelegateDelete(TfLiteDelegate *delegate);

#ifdef __cplusplus
}
#endif

#endif
