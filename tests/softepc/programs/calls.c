/* System calls on buffers that were just evicted, from one byte to more than the budget. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static unsigned char *inside, *expected; /* in the enclave; outside, what should be there */
static size_t room;

static void prepare(size_t bytes, unsigned seed)
{
    uint64_t random = seed + 1;
    for (size_t i = 0; i < bytes; i++)
        expected[i] = (unsigned char)(random_next(&random) >> 32);
    memcpy(inside, expected, bytes);
    evict_all();
}

static void blank(size_t bytes)
{
    memset(inside, 0xEE, bytes + 1);
    evict_all();
}

static void arrived(size_t bytes)
{
    CHECK(memcmp(inside, expected, bytes) == 0);
    CHECK(bytes >= room || inside[bytes] == 0xEE);
}

static void files(size_t bytes)
{
    FILE *file = tmpfile();
    CHECK(file);
    const int fd = fileno(file);

    prepare(bytes, 1);
    CHECK(write(fd, inside, bytes) == (ssize_t)bytes);
    blank(bytes);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && read(fd, inside, bytes + 100) == (ssize_t)bytes);
    arrived(bytes);

    prepare(bytes, 2);
    CHECK(pwrite(fd, inside, bytes, 5) == (ssize_t)bytes);
    blank(bytes);
    CHECK(pread(fd, inside, bytes, 5) == (ssize_t)bytes);
    arrived(bytes);

    prepare(bytes, 3);
    rewind(file);
    CHECK(fwrite(inside, 1, bytes, file) == bytes && fflush(file) == 0);
    blank(bytes);
    rewind(file);
    CHECK(fread(inside, 1, bytes, file) == bytes);
    arrived(bytes);

    unsigned char apart[3] = {1, 2, 3};
    prepare(bytes, 4);
    const size_t third = bytes / 3;
    const struct iovec out[] = {{apart, 3}, {inside, third}, {inside + third, bytes - third}};
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && writev(fd, out, 3) == (ssize_t)bytes + 3);
    blank(bytes);
    struct iovec in[] = {{apart, 3}, {inside, bytes / 2}, {inside + bytes / 2, bytes - bytes / 2}};
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && readv(fd, in, 3) == (ssize_t)bytes + 3);
    arrived(bytes);
    CHECK(pwritev(fd, out, 3, 10) == (ssize_t)bytes + 3);
    blank(bytes);
    CHECK(preadv(fd, in, 3, 10) == (ssize_t)bytes + 3);
    arrived(bytes);
    CHECK(pread(fd, inside, 0, 0) == 0);
    CHECK(read(-1, inside, bytes) == -1 && errno == EBADF);
    fclose(file);
}

struct transfer {
    int fd;
    size_t bytes;
};

static void *send_all(void *argument)
{
    const struct transfer *transfer = argument;
    for (size_t done = 0; done < transfer->bytes;) {
        const ssize_t sent = send(transfer->fd, expected + done, transfer->bytes - done, 0);
        CHECK(sent > 0);
        done += (size_t)sent;
    }
    return NULL;
}

static void *receive_all(void *argument)
{
    const struct transfer *transfer = argument;
    unsigned char *got = outside_memory(transfer->bytes);
    for (size_t done = 0; done < transfer->bytes;) {
        const ssize_t received = recv(transfer->fd, got + done, transfer->bytes - done, 0);
        CHECK(received > 0);
        done += (size_t)received;
    }
    CHECK(memcmp(got, expected, transfer->bytes) == 0);
    munmap(got, transfer->bytes);
    return NULL;
}

static void sockets(size_t bytes)
{
    int pair[2];
    pthread_t peer;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    struct transfer transfer = {pair[1], bytes};

    prepare(bytes, 5);
    blank(bytes);
    CHECK(pthread_create(&peer, NULL, send_all, &transfer) == 0);
    CHECK(recv(pair[0], inside, bytes, MSG_WAITALL) == (ssize_t)bytes);
    CHECK(pthread_join(peer, NULL) == 0);
    arrived(bytes);

    prepare(bytes, 6);
    CHECK(pthread_create(&peer, NULL, receive_all, &transfer) == 0);
    CHECK(send(pair[0], inside, bytes, 0) == (ssize_t)bytes);
    CHECK(pthread_join(peer, NULL) == 0);

    prepare(bytes, 7);
    blank(bytes);
    CHECK(pthread_create(&peer, NULL, send_all, &transfer) == 0);
    struct iovec part = {inside, bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    CHECK(recvmsg(pair[0], &message, MSG_WAITALL) == (ssize_t)bytes);
    CHECK(pthread_join(peer, NULL) == 0);
    arrived(bytes);

    prepare(bytes, 8);
    CHECK(pthread_create(&peer, NULL, receive_all, &transfer) == 0);
    CHECK(sendmsg(pair[0], &message, 0) == (ssize_t)bytes);
    CHECK(pthread_join(peer, NULL) == 0);
    close(pair[0]);
    close(pair[1]);
}

static void datagrams(void)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    prepare(9000, 9);
    struct iovec parts[2] = {{inside, 4000}, {inside + 4000, 5000}};
    struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = &parts[0], .msg_iovlen = 1}},
                                  {.msg_hdr = {.msg_iov = &parts[1], .msg_iovlen = 1}}};
    CHECK(sendmmsg(pair[0], messages, 2, 0) == 2 && messages[1].msg_len == 5000);
    blank(9000);
    CHECK(recvmmsg(pair[1], messages, 2, MSG_WAITFORONE, NULL) == 2);
    CHECK(messages[0].msg_len == 4000 && messages[1].msg_len == 5000);
    arrived(9000);
    CHECK(recvmmsg(pair[1], messages, 2, MSG_DONTWAIT, NULL) == -1 && errno == EAGAIN);
    CHECK(send(pair[0], expected, 100, 0) == 100);
    blank(9000); /* a datagram that is longer than the buffer */
    CHECK(recv(pair[1], inside, 10, MSG_TRUNC) == 100);
    arrived(10);
    close(pair[0]);
    close(pair[1]);
}

struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    unsigned turn;
};

static void *take_turns(void *argument)
{
    struct meeting *meeting = argument;
    CHECK(pthread_mutex_lock(&meeting->mutex) == 0);
    for (unsigned i = 0; i < 200; i++) {
        while (meeting->turn % 2 == 0)
            CHECK(pthread_cond_wait(&meeting->condition, &meeting->mutex) == 0);
        meeting->turn++;
        CHECK(pthread_cond_broadcast(&meeting->condition) == 0);
    }
    CHECK(pthread_mutex_unlock(&meeting->mutex) == 0);
    return NULL;
}

static void futexes(void)
{
    struct meeting *meeting = (struct meeting *)(inside + 3 * SOFTEPC_PAGE_BYTES);
    pthread_t other;
    CHECK(pthread_mutex_init(&meeting->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&meeting->condition, NULL) == 0);
    meeting->turn = 0;
    CHECK(pthread_create(&other, NULL, take_turns, meeting) == 0);
    for (unsigned i = 0; i < 200; i++) {
        if (i % 10 == 0)
            evict_all();
        CHECK(pthread_mutex_lock(&meeting->mutex) == 0);
        while (meeting->turn % 2 == 1)
            CHECK(pthread_cond_wait(&meeting->condition, &meeting->mutex) == 0);
        meeting->turn++;
        CHECK(pthread_cond_broadcast(&meeting->condition) == 0);
        CHECK(pthread_mutex_unlock(&meeting->mutex) == 0);
    }
    CHECK(pthread_join(other, NULL) == 0 && meeting->turn == 400);
    pthread_cond_destroy(&meeting->condition);
}

static void structures(void)
{
    struct stat *status = (struct stat *)inside, plain;
    evict_all();
    CHECK(stat("/proc/self/exe", status) == 0 && stat("/proc/self/exe", &plain) == 0);
    CHECK(status->st_size == plain.st_size);

    char *path = (char *)inside + 2 * SOFTEPC_PAGE_BYTES - 5; /* across a page's end */
    strcpy(path, "/dev/null");
    evict_all();
    const int fd = open(path, O_RDWR);
    CHECK(fd >= 0 && close(fd) == 0);

    int pipes[2];
    CHECK(pipe(pipes) == 0 && write(pipes[1], "x", 1) == 1);
    struct pollfd *polled = (struct pollfd *)inside;
    *polled = (struct pollfd){.fd = pipes[0], .events = POLLIN};
    evict_all();
    CHECK(poll(polled, 1, 1000) == 1 && polled->revents == POLLIN);
    const int epoll = epoll_create1(0);
    struct epoll_event *event = (struct epoll_event *)inside;
    *event = (struct epoll_event){.events = EPOLLIN, .data.u64 = 42};
    evict_all();
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], event) == 0);
    event->data.u64 = 0;
    evict_all();
    CHECK(epoll_wait(epoll, event, 16, 1000) == 1 && event->data.u64 == 42);

    blank(2000000);
    CHECK(syscall(SYS_getrandom, inside, 2000000, 0) == 2000000);
    unsigned zeros = 0;
    for (size_t i = 0; i < 2000000; i++)
        zeros += inside[i] == 0;
    CHECK(zeros > 6000 && zeros < 10000 && inside[2000000] == 0xEE);

    struct timespec *wait = (struct timespec *)inside;
    *wait = (struct timespec){0, 1000};
    evict_all();
    CHECK(nanosleep(wait, NULL) == 0);

    CHECK(madvise(inside, 1 << 20, MADV_HUGEPAGE) == 0);
    CHECK(mprotect(inside, 4096, PROT_READ | PROT_EXEC) == -1 && errno == EACCES);
    CHECK(munmap(inside, 4096) == -1 && errno == EINVAL);
    memset(inside, 5, 4 * SOFTEPC_PAGE_BYTES);
    CHECK(madvise(inside + 4096, 2 * 4096, MADV_DONTNEED) == 0);
    CHECK(inside[4095] == 5 && inside[4096] == 0);
    CHECK(inside[3 * 4096 - 1] == 0 && inside[3 * 4096] == 5);
}

static volatile sig_atomic_t interrupted;

static void on_alarm(int signal)
{
    (void)signal;
    interrupted = 1;
    inside[0]++; /* a handler may use enclave memory, whatever it interrupted */
}

static void interruption(void)
{
    int pipes[2];
    const struct sigaction action = {.sa_handler = on_alarm};
    CHECK(pipe(pipes) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
    evict_all();
    ualarm(20000, 0);
    CHECK(read(pipes[0], inside + 4096, 100) == -1 && errno == EINTR && interrupted);
}

int main(void)
{
    struct softepc_counters counters;
    softepc_counters(&counters);
    room = 4 * counters.budget_bytes + (4 << 20);
    inside = malloc(room + 1);
    expected = outside_memory(room + 1);
    const size_t sizes[] = {1,    7,     1024,   1025, 4095, 4096,
                            4097, 65536, 300001, 2 * counters.budget_bytes + 123};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        files(sizes[i]);
        sockets(sizes[i]);
    }
    datagrams();
    futexes();
    structures();
    interruption();
    softepc_counters(&counters);
    CHECK(counters.syscalls_bounced > 0 && counters.syscalls_pinned > 0);
    CHECK(counters.peak_resident_bytes <= counters.budget_bytes);
    return 0;
}
