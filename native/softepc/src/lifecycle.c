/*
 * Start-up, fork, and the end of the process.
 *
 * The start-up runs as a constructor, before main and before __libc_start_main; a deferred enclave
 * opens when softepc_start is called. libc serves all allocations made before that. The exit
 * handler is registered before __libc_start_main registers the destructors of libraries, so it runs
 * after all of them: they may still use enclave memory.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "arch.h"
#include "config.h"
#include "enclave.h"
#include "filter.h"
#include "layout.h"
#include "lock.h"
#include "memory.h"
#include "message.h"
#include "pager.h"
#include "region.h"
#include "seal.h"
#include "signals.h"

int __cxa_atexit(void (*function)(void *), void *argument, void *library);

/* ---- fork: the forking thread holds the lock, so that the child gets a consistent state ---- */

static uint64_t mask_before_fork;

static void before_fork(void)
{
    mask_before_fork = lock_enter();
}

static void after_fork_in_parent(void)
{
    lock_leave(mask_before_fork);
}

static void after_fork_in_child(void)
{
    if (enclave_open) {
        memory_abandon_after_fork();
        enclave_set_forked();
    }
    lock_leave(mask_before_fork);
}

/* ---- the end ---- */

static void write_report(void)
{
    struct softepc_counters c;
    softepc_counters(&c);
    FILE *file = fopen(config.report_path, "we");
    if (!file) {
        say("the report could not be written to %s (%s)", config.report_path, strerror(errno));
        return;
    }
#define FIELD(name) "\"" #name "\": %llu"
#define VALUE(name) (unsigned long long)c.name
    fprintf(file,
            "{" FIELD(faults) ", " FIELD(zero_fills) ", " FIELD(loads) ", " FIELD(minor_faults)
            ", " FIELD(evictions) ", " FIELD(sealed_bytes) ", " FIELD(handler_ns)
            ", " FIELD(resident_bytes) ", " FIELD(peak_resident_bytes) ", " FIELD(live_bytes)
            ", " FIELD(budget_bytes) ", " FIELD(syscalls_pinned) ", " FIELD(syscalls_bounced)
            ", \"policy\": \"%s\"}\n",
            VALUE(faults), VALUE(zero_fills), VALUE(loads), VALUE(minor_faults), VALUE(evictions),
            VALUE(sealed_bytes), VALUE(handler_ns), VALUE(resident_bytes),
            VALUE(peak_resident_bytes), VALUE(live_bytes), VALUE(budget_bytes),
            VALUE(syscalls_pinned), VALUE(syscalls_bounced), policy_name(config.policy));
#undef FIELD
#undef VALUE
    if (fclose(file) != 0)
        say("the report could not be written to %s (%s)", config.report_path, strerror(errno));
}

/* The last exit handler. Other threads may still run: the lock keeps them out of the pager. */
static void stop(void *unused)
{
    (void)unused;
    if (!enclave_open)
        return;
    fflush(NULL); /* a stream's buffer may lie in the enclave */
    if (*config.report_path)
        write_report();
    const uint64_t saved = lock_enter();
    enclave_set_closed();
    seal_wipe();
    lock_leave(saved);
}

/* ---- the start: in the first thread, or in the one that calls softepc_start ---- */

static void on_inherited_filter(int signal)
{
    (void)signal;
    die(SOFTEPC_EXIT_UNSUPPORTED,
        "this process was started from inside an enclave and inherited that enclave's system-call "
        "filter; an enclave cannot hold another: start both from outside");
}

static void refuse_nesting(void)
{
    const struct sigaction stopped = {.sa_handler = on_inherited_filter};
    struct sigaction before;
    sigaction(SIGSYS, &stopped, &before);
    RAW3(SYS_msync, REGION_BASE, 0, 0); /* does nothing, but an enclave's filter stops it */
    sigaction(SIGSYS, &before, NULL);
}

static void open_enclave(void)
{
    refuse_nesting();
    seal_start();
    pager_start();
    region_start();
    signals_start();
    filter_start();
    enclave_set_open();
}

__attribute__((constructor)) static void start(void)
{
    config_read();
    if (__cxa_atexit(stop, NULL, NULL) ||
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child))
        die(SOFTEPC_EXIT_UNSUPPORTED, "libc has no memory for an exit handler");
    if (!config.deferred)
        open_enclave();
    config_clear_environment();
}

SOFTEPC_API int softepc_start(void)
{
    if (!config.deferred || !enclave_is_unused()) {
        errno = EALREADY;
        return -1;
    }
    open_enclave();
    return 0;
}
