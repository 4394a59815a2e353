/*
 * readv, sendmsg and the like reach memory through pointers inside structures, which a seccomp
 * filter cannot see: these functions replace libc's. If a pointer of the call lies in the region,
 * the call is made on copies outside of the enclave; otherwise libc's own function is called. A
 * program that makes these calls without libc gets EFAULT. Runs in the calling thread; only the
 * counter takes the lock.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "address.h"
#include "arch.h"
#include "bounce.h"
#include "clock.h"
#include "enclave.h"

/* Memory outside of the enclave for one call, handed out from its start. */
struct outside {
    char *memory;
    size_t bytes, used;
};

static void *carve(struct outside *outside, size_t bytes)
{
    char *at = outside->memory + outside->used;
    outside->used += (bytes + 15) & ~(size_t)15;
    return at;
}

/* `inside`, or a copy of it if it lies in the region. */
static void *moved_out(struct outside *outside, void *inside, size_t bytes, bool with_content)
{
    if (!in_region((uintptr_t)inside))
        return inside;
    void *copy = carve(outside, bytes);
    if (with_content)
        memcpy(copy, inside, bytes);
    return copy;
}

static void moved_back(void *inside, const void *outside, size_t bytes)
{
    if (inside != outside)
        memcpy(inside, outside, bytes);
}

static bool vector_in_region(const struct iovec *vector, size_t count)
{
    bool any = in_region((uintptr_t)vector);
    for (size_t i = 0; i < count && !any; i++)
        any = in_region((uintptr_t)vector[i].iov_base);
    return any;
}

/* Bytes that carve takes for a vector and all of its buffers. */
static size_t vector_bytes(const struct iovec *vector, size_t count)
{
    size_t bytes = count * sizeof *vector + 16;
    for (size_t i = 0; i < count; i++)
        if (in_region((uintptr_t)vector[i].iov_base))
            bytes += vector[i].iov_len + 16;
    return bytes;
}

static struct iovec *vector_out(struct outside *outside, const struct iovec *vector, size_t count,
                                bool with_content)
{
    struct iovec *copy = carve(outside, count * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        copy[i].iov_len = vector[i].iov_len;
        copy[i].iov_base =
            moved_out(outside, vector[i].iov_base, vector[i].iov_len, with_content);
    }
    return copy;
}

static void vector_back(const struct iovec *vector, const struct iovec *copy, size_t count,
                        size_t received)
{
    for (size_t i = 0; i < count && received; i++) {
        const size_t part = received < vector[i].iov_len ? received : vector[i].iov_len;
        moved_back(vector[i].iov_base, copy[i].iov_base, part);
        received -= part;
    }
}

static ssize_t libc_result(long result)
{
    if (result >= 0)
        return result;
    errno = (int)-result;
    return -1;
}

static ssize_t bounced_vector(long number, bool sending, int fd, const struct iovec *vector,
                              int count, off_t offset, int flags)
{
    struct outside outside = {.bytes = vector_bytes(vector, (size_t)count)};
    outside.memory = bounce_take(outside.bytes);
    if (!outside.memory)
        return libc_result(-ENOMEM);
    const struct iovec *copy = vector_out(&outside, vector, (size_t)count, sending);
    const long result = RAW6(number, fd, copy, count, offset, 0, flags);
    if (!sending && result > 0)
        vector_back(vector, copy, (size_t)count, (size_t)result);
    bounce_release(outside.memory, outside.bytes);
    bounce_count();
    return libc_result(result);
}

/* A count out of range is left to libc, which refuses it. */
static bool vector_is_ours(const struct iovec *vector, int count)
{
    return enclave_open && count > 0 && count <= IOV_MAX &&
           vector_in_region(vector, (size_t)count);
}

#define NEXT(function)                                             \
    static __typeof__(&function) next;                             \
    if (!next)                                                     \
        *(void **)&next = dlsym(RTLD_NEXT, #function)

SOFTEPC_API ssize_t readv(int fd, const struct iovec *vector, int count)
{
    NEXT(readv);
    return vector_is_ours(vector, count)
               ? bounced_vector(SYS_readv, false, fd, vector, count, 0, 0)
               : next(fd, vector, count);
}

SOFTEPC_API ssize_t writev(int fd, const struct iovec *vector, int count)
{
    NEXT(writev);
    return vector_is_ours(vector, count)
               ? bounced_vector(SYS_writev, true, fd, vector, count, 0, 0)
               : next(fd, vector, count);
}

SOFTEPC_API ssize_t preadv(int fd, const struct iovec *vector, int count, off_t offset)
{
    NEXT(preadv);
    return vector_is_ours(vector, count)
               ? bounced_vector(SYS_preadv, false, fd, vector, count, offset, 0)
               : next(fd, vector, count, offset);
}

SOFTEPC_API ssize_t pwritev(int fd, const struct iovec *vector, int count, off_t offset)
{
    NEXT(pwritev);
    return vector_is_ours(vector, count)
               ? bounced_vector(SYS_pwritev, true, fd, vector, count, offset, 0)
               : next(fd, vector, count, offset);
}

SOFTEPC_API ssize_t preadv2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    NEXT(preadv2);
    return vector_is_ours(vector, count)
               ? bounced_vector(SYS_preadv2, false, fd, vector, count, offset, flags)
               : next(fd, vector, count, offset, flags);
}

SOFTEPC_API ssize_t pwritev2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
    NEXT(pwritev2);
    return vector_is_ours(vector, count)
               ? bounced_vector(SYS_pwritev2, true, fd, vector, count, offset, flags)
               : next(fd, vector, count, offset, flags);
}

/* off_t has 64 bits on x86-64: the names for large files are the same functions. */
SOFTEPC_API ssize_t preadv64(int, const struct iovec *, int, off64_t)
    __attribute__((alias("preadv")));
SOFTEPC_API ssize_t pwritev64(int, const struct iovec *, int, off64_t)
    __attribute__((alias("pwritev")));
SOFTEPC_API ssize_t preadv64v2(int, const struct iovec *, int, off64_t, int)
    __attribute__((alias("preadv2")));
SOFTEPC_API ssize_t pwritev64v2(int, const struct iovec *, int, off64_t, int)
    __attribute__((alias("pwritev2")));

/* ---- messages ---- */

static bool message_is_ours(const struct msghdr *message)
{
    return enclave_open && message->msg_iovlen <= IOV_MAX &&
           (in_region((uintptr_t)message) || in_region((uintptr_t)message->msg_name) ||
            in_region((uintptr_t)message->msg_control) ||
            vector_in_region(message->msg_iov, message->msg_iovlen));
}

static ssize_t bounced_message(bool sending, int fd, struct msghdr *message, int flags)
{
    const struct msghdr before = *message;
    struct outside outside = {.bytes = vector_bytes(before.msg_iov, before.msg_iovlen) +
                                       before.msg_namelen + before.msg_controllen + 32};
    outside.memory = bounce_take(outside.bytes);
    if (!outside.memory)
        return libc_result(-ENOMEM);

    struct msghdr copy = before;
    copy.msg_iov = vector_out(&outside, before.msg_iov, before.msg_iovlen, sending);
    copy.msg_name = moved_out(&outside, before.msg_name, before.msg_namelen, sending);
    copy.msg_control = moved_out(&outside, before.msg_control, before.msg_controllen, sending);
    const long result = RAW3(sending ? SYS_sendmsg : SYS_recvmsg, fd, &copy, flags);

    if (!sending && result >= 0) {
        vector_back(before.msg_iov, copy.msg_iov, before.msg_iovlen, (size_t)result);
        moved_back(before.msg_name, copy.msg_name,
                   copy.msg_namelen < before.msg_namelen ? copy.msg_namelen : before.msg_namelen);
        moved_back(before.msg_control, copy.msg_control, copy.msg_controllen);
        message->msg_namelen = copy.msg_namelen;
        message->msg_controllen = copy.msg_controllen;
        message->msg_flags = copy.msg_flags;
    }
    bounce_release(outside.memory, outside.bytes);
    bounce_count();
    return libc_result(result);
}

SOFTEPC_API ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(sendmsg);
    return message_is_ours(message) ? bounced_message(true, fd, (struct msghdr *)message, flags)
                                    : next(fd, message, flags);
}

SOFTEPC_API ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    NEXT(recvmsg);
    return message_is_ours(message) ? bounced_message(false, fd, message, flags)
                                    : next(fd, message, flags);
}

static bool messages_are_ours(const struct mmsghdr *messages, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (message_is_ours(&messages[i].msg_hdr))
            return true;
    return false;
}

/* Sends one message after the other, as the kernel does, until one fails. */
SOFTEPC_API int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    NEXT(sendmmsg);
    if (!messages_are_ours(messages, count))
        return next(fd, messages, count, flags);
    unsigned done = 0;
    for (; done < count; done++) {
        const ssize_t sent = sendmsg(fd, &messages[done].msg_hdr, flags);
        if (sent < 0)
            break;
        messages[done].msg_len = (unsigned)sent;
    }
    return done ? (int)done : -1;
}

SOFTEPC_API int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                         struct timespec *timeout)
{
    NEXT(recvmmsg);
    if (!messages_are_ours(messages, count))
        return next(fd, messages, count, flags, timeout);
    const uint64_t start_ns = clock_ns();
    const uint64_t limit_ns =
        timeout ? (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec : UINT64_MAX;
    unsigned done = 0;
    while (done < count) {
        const ssize_t received =
            recvmsg(fd, &messages[done].msg_hdr, flags & ~MSG_WAITFORONE);
        if (received < 0)
            break;
        messages[done++].msg_len = (unsigned)received;
        if (flags & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (clock_ns() - start_ns >= limit_ns)
            break;
    }
    return done ? (int)done : -1;
}
