/*
 * SIGBUS (a page is not mapped) and SIGSYS (a system call was stopped) belong to the pager. The
 * program may install its own handlers: they are stored, and called for signals that the pager did
 * not cause. No thread may block these two: a fault while SIGBUS is blocked ends the process.
 *
 * Both handlers run in the thread that caused the signal, on its current stack. SIGBUS blocks all
 * other signals, because its handler takes the lock. SIGSYS blocks none, because a stopped call may
 * wait long and copies memory that may fault.
 */
#include "signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include "address.h"
#include "arch.h"
#include "clock.h"
#include "enclave.h"
#include "filter.h"
#include "lock.h"
#include "message.h"
#include "pager.h"
#include "syscalls.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code; glibc does not name it */
#endif

typedef int sigaction_function(int, const struct sigaction *, struct sigaction *);
typedef int mask_function(int, const sigset_t *, sigset_t *);

static struct sigaction chained[2]; /* the program's handlers of SIGBUS and SIGSYS */
static volatile bool handlers_installed;

static struct sigaction *chained_for(int signal)
{
    if (!handlers_installed)
        return NULL;
    return signal == SIGBUS ? &chained[0] : signal == SIGSYS ? &chained[1] : NULL;
}

static void *next_function(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static int real_sigaction(int signal, const struct sigaction *new, struct sigaction *old)
{
    static sigaction_function *real;
    if (!real)
        real = (sigaction_function *)next_function("sigaction");
    return real(signal, new, old);
}

/* Handles a signal that the pager did not cause as the program asked for. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
    struct sigaction *action = chained_for(signal), now = *action;
    const bool sent = info->si_code <= 0; /* by kill or raise, not by a fault */

    if (now.sa_handler == SIG_IGN && sent)
        return;
    if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) {
        const struct sigaction fatal = {.sa_handler = SIG_DFL};
        const long process = RAW3(SYS_getpid, 0, 0, 0), thread = RAW3(SYS_gettid, 0, 0, 0);
        real_sigaction(signal, &fatal, NULL);
        RAW3(SYS_tgkill, process, thread, signal); /* taken when this handler returns */
        return;
    }
    uint64_t mask, extra, own = UINT64_C(1) << (signal - 1);
    memcpy(&mask, &((ucontext_t *)context)->uc_sigmask, sizeof mask);
    memcpy(&extra, &now.sa_mask, sizeof extra);
    mask |= extra & ~(UINT64_C(1) << (SIGBUS - 1) | UINT64_C(1) << (SIGSYS - 1));
    if (!(now.sa_flags & SA_NODEFER))
        mask |= own;
    if (now.sa_flags & SA_RESETHAND)
        *action = (struct sigaction){.sa_handler = SIG_DFL};
    RAW4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
    if (now.sa_flags & SA_SIGINFO)
        now.sa_sigaction(signal, info, context);
    else
        now.sa_handler(signal);
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    const uintptr_t address = (uintptr_t)info->si_addr;
    const int saved_errno = errno;

    if (info->si_code == BUS_ADRERR && in_region(address)) {
        const uint64_t start_ns = clock_ns();
        lock_take();
        if (!enclave_open) {
            lock_release();
            enclave_refuse(address);
        }
        const bool served = pager_touch(page_of(address));
        counters.handler_ns += clock_ns() - start_ns;
        lock_release();
        errno = saved_errno;
        if (served)
            return;
        say("address %#lx is in the enclave (page %u) but in no live allocation: the program used "
            "memory after freeing it, or overran a buffer",
            (unsigned long)address, page_of(address));
    }
    pass_on(signal, info, context);
    errno = saved_errno;
}

static void on_sigsys(int signal, siginfo_t *info, void *context)
{
    const int saved_errno = errno;
    if (info->si_code == SYS_SECCOMP && info->si_errno == FILTER_MARK) {
        long arguments[6];
        arch_stopped_arguments(context, arguments);
        arch_set_result(context, syscall_serve(info->si_syscall, arguments));
    } else {
        pass_on(signal, info, context);
    }
    errno = saved_errno;
}

void signals_start(void)
{
    struct sigaction bus = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction sys = {.sa_sigaction = on_sigsys,
                            .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
    sigfillset(&bus.sa_mask);
    sigemptyset(&sys.sa_mask);
    if (real_sigaction(SIGBUS, &bus, &chained[0]) || real_sigaction(SIGSYS, &sys, &chained[1]))
        die(SOFTEPC_EXIT_UNSUPPORTED, "sigaction refused a handler (%s): allow it in the sandbox",
            strerror(errno));
    handlers_installed = true;

    sigset_t ours; /* a parent may have left them blocked */
    sigemptyset(&ours);
    sigaddset(&ours, SIGBUS);
    sigaddset(&ours, SIGSYS);
    sigprocmask(SIG_UNBLOCK, &ours, NULL);
}

/* ---- functions of libc that the program calls ---- */

static void spare_ours(sigset_t *set)
{
    sigdelset(set, SIGBUS);
    sigdelset(set, SIGSYS);
}

SOFTEPC_API int sigaction(int signal, const struct sigaction *new, struct sigaction *old)
{
    struct sigaction *kept = chained_for(signal);
    if (kept) {
        const struct sigaction before = *kept;
        if (new)
            *kept = *new;
        if (old)
            *old = before;
        return 0;
    }
    if (!new)
        return real_sigaction(signal, NULL, old);
    struct sigaction changed = *new;
    spare_ours(&changed.sa_mask);
    return real_sigaction(signal, &changed, old);
}

SOFTEPC_API __sighandler_t signal(int number, __sighandler_t handler)
{
    static __sighandler_t (*real)(int, __sighandler_t);
    struct sigaction *kept = chained_for(number);
    if (kept) {
        const __sighandler_t before = kept->sa_handler;
        *kept = (struct sigaction){.sa_handler = handler, .sa_flags = SA_RESTART};
        return before;
    }
    if (!real)
        real = (__sighandler_t(*)(int, __sighandler_t))next_function("signal");
    return real(number, handler);
}

static int mask_sparing_ours(mask_function *real, int how, const sigset_t *set, sigset_t *old)
{
    if (!set || how == SIG_UNBLOCK)
        return real(how, set, old);
    sigset_t changed = *set;
    spare_ours(&changed);
    return real(how, &changed, old);
}

SOFTEPC_API int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    static mask_function *real;
    if (!real)
        real = (mask_function *)next_function("sigprocmask");
    return mask_sparing_ours(real, how, set, old);
}

SOFTEPC_API int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    static mask_function *real;
    if (!real)
        real = (mask_function *)next_function("pthread_sigmask");
    return mask_sparing_ours(real, how, set, old);
}
