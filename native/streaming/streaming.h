/*
 * libstreaming: what an enclave needs to run a network whose weights lie sealed outside.
 *
 * allocator.c is the allocator of ONNX Runtime in this process. It decides where weights lie and which
 * memory activations share. sealed.c seals blocks of weights and opens them.
 *
 * ONNX Runtime loads the library as one of custom operators, of which it has none: this is how the
 * library gets the runtime's C API. The process calls the functions below through ctypes.
 */
#ifndef STREAMING_H
#define STREAMING_H

#include <stddef.h>
#include <stdint.h>

#define STREAMING_API __attribute__((visibility("default")))

/* -- The allocator. -------------------------------------------------------------------------------
 * The runtime makes the memory of a session's weights in the same order each time that it creates
 * the session. So it is created twice: the first time to learn which allocations stay, the second
 * time with these placed where the weights are to be opened later.
 * One thread creates sessions; any thread may allocate. */

/* Gives activations a memory of their own of so many bytes, which all sessions share. Allocations
 * that do not fit there, and all before this call, are made by malloc. 0, or -1: no memory, or
 * there is one already. */
STREAMING_API int streaming_arena(size_t bytes);
/* The most bytes of the arena, from its start, that were ever in use, and bytes of activations that
 * did not fit and are allocated now. */
STREAMING_API void streaming_arena_use(uint64_t *most, uint64_t *outside);

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

/* -- Sealed blocks. -------------------------------------------------------------------------------
 * A block is AES-128-GCM ciphertext, followed by its tag of 16 bytes. The key is drawn when the
 * sealer is made and never leaves it. The nonce of a block is the number of blocks that were sealed
 * before, so none is used twice. Its associated data are the stage, the position in the stage and
 * the number of bytes. */

#define STREAMING_BLOCK_BYTES (1u << 20)
#define STREAMING_TAG_BYTES 16u

struct sealer;

/* NULL if libcrypto or random bytes are missing; streaming_why says what. */
STREAMING_API struct sealer *streaming_sealer(void);
STREAMING_API const char *streaming_why(void);
STREAMING_API void streaming_wipe(struct sealer *sealer);

/* Bytes that so many bytes take when they are sealed. */
STREAMING_API size_t streaming_sealed_bytes(size_t bytes);
/* Seals a stage's bytes into untrusted memory. Returns the nonce of its first block, or UINT64_MAX. */
STREAMING_API uint64_t streaming_seal(struct sealer *sealer, uint32_t stage, const uint8_t *plain,
                                      size_t bytes, uint8_t *sealed);
/* Opens them into memory of the enclave. Every byte outside is read once, before it is checked, so
 * nobody can change it between the check and the use. 0, or the number of the block (from 1) that
 * was not sealed here for this place. One thread at a time opens. */
STREAMING_API long streaming_open(struct sealer *sealer, uint32_t stage, uint64_t first_nonce,
                                  const uint8_t *sealed, size_t bytes, uint8_t *plain);

#endif
