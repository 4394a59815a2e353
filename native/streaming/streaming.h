/*
 * libstreaming: the allocator of ONNX Runtime in a process that runs a network stage by stage.
 *
 * It decides where the weights of each stage lie, so that they can be opened there before every use,
 * in the form that the runtime's kernels want. And it lets all stages share one memory of activations.
 *
 * ONNX Runtime loads the library as one of custom operators, of which it has none: this is how the
 * library gets the runtime's C API. The process calls the functions below through ctypes.
 */
#ifndef STREAMING_H
#define STREAMING_H

#include <stddef.h>
#include <stdint.h>

#define STREAMING_API __attribute__((visibility("default")))

/* The runtime makes the memory of a session's weights in the same order each time that it creates
 * the session. So it is created twice: the first time to learn which allocations stay, the second
 * time with these placed where the weights are to be opened later.
 * One thread creates sessions; any thread may allocate. */

/* Gives activations a memory of their own of so many bytes, which all sessions share. Allocations
 * that do not fit there, and all before this call, are made by malloc. 0, also where there is one
 * already that is large enough; else -1. */
STREAMING_API int streaming_arena(size_t bytes);
/* The most bytes of the arena, from its start, that were in use since the last call, and bytes of
 * activations that did not fit so far. */
STREAMING_API void streaming_arena_use(uint64_t *most, uint64_t *outside);

/* Memory as the runtime gets it: from the arena where there is room. NULL if there is none at all. */
STREAMING_API void *streaming_take(size_t bytes);
STREAMING_API void streaming_give_back(void *address);

/* Learns the allocations from now on. */
STREAMING_API void streaming_learn(void);
/* Ends learning. Writes the size of each allocation that was not freed meanwhile, and 0 for each
 * that was. Returns the number of allocations; SIZE_MAX if they were too many to learn. */
STREAMING_API size_t streaming_learned(uint64_t *sizes, size_t capacity);

/* Places the allocations from now on: number i at addresses[i], or by malloc where that is NULL.
 * They must have the sizes that were learned. */
STREAMING_API void streaming_place(void *const *addresses, const uint64_t *sizes, size_t count);
/* Ends placing. 0, or -1 if the allocations were others than those that were learned. */
STREAMING_API int streaming_placed(void);

/* Widens groups of int8 codes, 128 rows of 16, with 16 scales each, to floats. */
STREAMING_API void streaming_widen(const float *scales, const int8_t *codes, float *values, size_t groups);

#endif
