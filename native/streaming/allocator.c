/*
 * The allocator that ONNX Runtime uses in this process, for sessions with session.use_env_allocators.
 *
 * Addresses come from three places: where streaming_place puts them, the arena, and malloc. The arena
 * hands out the lowest addresses that are free, so that the same few pages are used in every
 * inference. Its blocks are described outside of it, in a list sorted by address.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "onnxruntime_api.h"
#include "streaming.h"

#define ALIGNMENT 64u
#define LEARNED_MAX 65536u
#define RANGES_MAX 8192u

struct block {
    uint8_t *start;
    size_t bytes;
    struct block *next;
};

struct learned {
    void *address;
    uint64_t bytes;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct {
    uint8_t *memory;
    size_t bytes;
    struct block *first; /* in use, by address */
    uint64_t most, outside;
} arena;

static enum { RUNNING, LEARNING, PLACING } mode;
static struct learned learned[LEARNED_MAX];
static size_t learned_count;

static struct {
    void *const *addresses;
    const uint64_t *sizes;
    size_t count, next;
    bool wrong;
} placing;

/* Memory that was placed is not the allocator's to free. */
static struct {
    uint8_t *start, *end;
} placed[RANGES_MAX];
static size_t placed_count;

static size_t rounded(size_t bytes)
{
    return bytes > SIZE_MAX - ALIGNMENT ? SIZE_MAX : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void *outside(size_t bytes)
{
    void *address = NULL;
    return posix_memalign(&address, ALIGNMENT, bytes) ? NULL : address;
}

static void *in_arena(size_t bytes)
{
    struct block **link = &arena.first;
    uint8_t *start = arena.memory;
    if (!arena.memory || bytes > arena.bytes)
        return NULL;
    for (; *link; link = &(*link)->next) {
        if ((size_t)((*link)->start - start) >= bytes)
            break;
        start = (*link)->start + (*link)->bytes;
    }
    if ((size_t)(arena.memory + arena.bytes - start) < bytes)
        return NULL;
    struct block *made = malloc(sizeof *made);
    if (!made)
        return NULL;
    *made = (struct block){start, bytes, *link};
    *link = made;
    const uint64_t used = (uint64_t)(start + bytes - arena.memory);
    if (used > arena.most)
        arena.most = used;
    return start;
}

static bool freed_in_arena(uint8_t *address)
{
    if (!arena.memory || address < arena.memory || address >= arena.memory + arena.bytes)
        return false;
    for (struct block **link = &arena.first; *link; link = &(*link)->next)
        if ((*link)->start == address) {
            struct block *gone = *link;
            *link = gone->next;
            free(gone);
            return true;
        }
    abort(); /* freed twice: the runtime is broken */
}

static bool was_placed(uint8_t *address)
{
    for (size_t i = 0; i < placed_count; i++)
        if (address >= placed[i].start && address < placed[i].end)
            return true;
    return false;
}

static void *learn(size_t bytes)
{
    void *address = outside(bytes);
    if (learned_count < LEARNED_MAX)
        learned[learned_count] = (struct learned){address, bytes};
    learned_count++;
    return address;
}

static void *place(size_t bytes)
{
    const size_t number = placing.next++;
    void *address = NULL;
    if (number < placing.count)
        address = placing.addresses[number];
    /* What was freed while learning has no size there, and no address. */
    if (number >= placing.count || (address && placing.sizes[number] != bytes) ||
        (address && placed_count == RANGES_MAX)) {
        placing.wrong = true;
        return outside(bytes);
    }
    if (!address)
        return outside(bytes);
    placed[placed_count].start = address;
    placed[placed_count++].end = (uint8_t *)address + rounded(bytes);
    return address;
}

static void *ORT_CALL allocate(struct OrtAllocator *self, size_t bytes)
{
    (void)self;
    void *address = NULL;
    if (!bytes || rounded(bytes) == SIZE_MAX)
        return NULL;
    pthread_mutex_lock(&mutex);
    if (mode == LEARNING) {
        address = learn(bytes);
    } else if (mode == PLACING) {
        address = place(bytes);
    } else {
        address = in_arena(rounded(bytes));
        if (!address && (address = outside(bytes)))
            arena.outside += bytes;
    }
    pthread_mutex_unlock(&mutex);
    return address;
}

static void ORT_CALL release(struct OrtAllocator *self, void *address)
{
    (void)self;
    if (!address)
        return;
    pthread_mutex_lock(&mutex);
    if (mode == LEARNING)
        for (size_t i = learned_count < LEARNED_MAX ? learned_count : LEARNED_MAX; i-- > 0;)
            if (learned[i].address == address) {
                learned[i].address = NULL;
                break;
            }
    const bool kept = freed_in_arena(address) || was_placed(address);
    pthread_mutex_unlock(&mutex);
    if (!kept)
        free(address);
}

static OrtMemoryInfo *memory_info;

static const OrtMemoryInfo *ORT_CALL info(const struct OrtAllocator *self)
{
    (void)self;
    return memory_info;
}

static struct OrtAllocator allocator = {
    .version = ORT_VERSION_OF_RESERVE, .alloc = allocate, .free = release, .info = info, .reserve = allocate};

/* The runtime calls this when the library is registered with the options of a session. */
STREAMING_API OrtStatus *ORT_CALL RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);

OrtStatus *ORT_CALL RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base)
{
    (void)options;
    static bool registered;
    if (registered)
        return NULL;
    const OrtFunction *api = base->get_api(ORT_VERSION_OF_RESERVE);
    OrtEnv *environment = NULL;
    OrtStatus *status;
    if (!api)
        return NULL; /* an older runtime: sessions then do not find the allocator, and say so */
    status = ((ort_create_env *)api[ORT_CREATE_ENV])(ORT_LOGGING_ERROR, "sectum", &environment);
    if (!status)
        status = ((ort_create_cpu_memory_info *)api[ORT_CREATE_CPU_MEMORY_INFO])(
            ORT_DEVICE_ALLOCATOR, ORT_DEFAULT_MEMORY, &memory_info);
    if (!status)
        status = ((ort_register_allocator *)api[ORT_REGISTER_ALLOCATOR])(environment, &allocator);
    registered = !status;
    return status;
}

void *streaming_take(size_t bytes)
{
    return allocate(NULL, bytes);
}

void streaming_give_back(void *address)
{
    release(NULL, address);
}

int streaming_arena(size_t bytes)
{
    if (arena.memory)
        return bytes <= arena.bytes ? 0 : -1;
    void *memory = NULL;
    if (!bytes || posix_memalign(&memory, 4096, rounded(bytes)))
        return -1;
    pthread_mutex_lock(&mutex);
    arena.bytes = rounded(bytes);
    arena.memory = memory;
    pthread_mutex_unlock(&mutex);
    return 0;
}

void streaming_arena_use(uint64_t *most, uint64_t *beside)
{
    pthread_mutex_lock(&mutex);
    *most = arena.most;
    *beside = arena.outside;
    arena.most = 0;
    for (const struct block *block = arena.first; block; block = block->next)
        arena.most = (uint64_t)(block->start + block->bytes - arena.memory);
    pthread_mutex_unlock(&mutex);
}

void streaming_learn(void)
{
    pthread_mutex_lock(&mutex);
    learned_count = 0;
    mode = LEARNING;
    pthread_mutex_unlock(&mutex);
}

size_t streaming_learned(uint64_t *sizes, size_t capacity)
{
    pthread_mutex_lock(&mutex);
    const size_t count = learned_count;
    for (size_t i = 0; i < count && i < capacity && i < LEARNED_MAX; i++)
        sizes[i] = learned[i].address ? learned[i].bytes : 0;
    mode = RUNNING;
    pthread_mutex_unlock(&mutex);
    return count > LEARNED_MAX ? SIZE_MAX : count;
}

void streaming_place(void *const *addresses, const uint64_t *sizes, size_t count)
{
    pthread_mutex_lock(&mutex);
    placing.addresses = addresses;
    placing.sizes = sizes;
    placing.count = count;
    placing.next = 0;
    placing.wrong = false;
    mode = PLACING;
    pthread_mutex_unlock(&mutex);
}

int streaming_placed(void)
{
    pthread_mutex_lock(&mutex);
    const bool good = !placing.wrong && placing.next == placing.count;
    placing.addresses = NULL;
    mode = RUNNING;
    pthread_mutex_unlock(&mutex);
    return good ? 0 : -1;
}
