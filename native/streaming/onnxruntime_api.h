/*
 * The few declarations of ONNX Runtime's C API that the allocator needs. The runtime's wheel for
 * Python has no headers. The API is a table of functions to which new versions only append, so the
 * numbers below stay what they are.
 */
#ifndef ONNXRUNTIME_API_H
#define ONNXRUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_CALL

#define ORT_VERSION_OF_RESERVE 18u /* the first version whose allocators have `reserve` */

enum {
    ORT_CREATE_ENV = 3,
    ORT_CREATE_CPU_MEMORY_INFO = 69,
    ORT_REGISTER_ALLOCATOR = 176,
};
enum { ORT_LOGGING_ERROR = 3 };
enum { ORT_DEVICE_ALLOCATOR = 0 };
enum { ORT_DEFAULT_MEMORY = 0 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef void (*OrtFunction)(void);

typedef struct OrtApiBase {
    const OrtFunction *(ORT_CALL *get_api)(uint32_t version);
    const char *(ORT_CALL *get_version_string)(void);
} OrtApiBase;

struct OrtAllocator {
    uint32_t version;
    void *(ORT_CALL *alloc)(struct OrtAllocator *, size_t bytes);
    void (ORT_CALL *free)(struct OrtAllocator *, void *address);
    const OrtMemoryInfo *(ORT_CALL *info)(const struct OrtAllocator *);
    void *(ORT_CALL *reserve)(struct OrtAllocator *, size_t bytes); /* while a session is created */
};

typedef OrtStatus *ORT_CALL ort_create_env(int logging_level, const char *log_id, OrtEnv **out);
typedef OrtStatus *ORT_CALL ort_create_cpu_memory_info(int allocator_type, int memory_type, OrtMemoryInfo **out);
typedef OrtStatus *ORT_CALL ort_register_allocator(OrtEnv *, struct OrtAllocator *);

#endif
