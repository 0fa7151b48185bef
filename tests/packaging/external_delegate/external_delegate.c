/* SPDX-License-Identifier: MIT */
/* Stands in for TFLite: loads the library and passes the options on as TFLite does, without a report_error. */
#include "external_delegate.h"

#include <dlfcn.h>
#include <stddef.h>

typedef TfLiteDelegate *create_function(const char *const *keys, const char *const *values, size_t num_options,
                                        void (*report_error)(const char *));
typedef void destroy_function(TfLiteDelegate *delegate);

static void *library;

static int
insert(TfLiteExternalDelegateOptions *options, const char *key, const char *value)
{
   if (options->count == MAX_OPTIONS)
      return 1;
   options->keys[options->count] = key;
   options->values[options->count++] = value;
   return 0;
}

TfLiteExternalDelegateOptions
TfLiteExternalDelegateOptionsDefault(const char *lib_path)
{
   return (TfLiteExternalDelegateOptions){.lib_path = lib_path, .insert = insert};
}

TfLiteDelegate *
TfLiteExternalDelegateCreate(const TfLiteExternalDelegateOptions *options)
{
   library = dlopen(options->lib_path, RTLD_LAZY | RTLD_LOCAL);
   create_function *create = library ? (create_function *)dlsym(library, "tflite_plugin_create_delegate") : NULL;

   return create ? create(options->keys, options->values, (size_t)options->count, NULL) : NULL;
}

void
TfLiteExternalDelegateDelete(TfLiteDelegate *delegate)
{
   ((destroy_function *)dlsym(library, "tflite_plugin_destroy_delegate"))(delegate);
}
