/*
 * Start-up from the environment, fork, and the end of the process.
 *
 * The start-up runs as a constructor, before main and before __libc_start_main, or when
 * softepc_start is called; what happened before was served by libc. The end is registered before __libc_start_main registers the
 * destructors of libraries, so it runs after all of them: they may still use enclave memory.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch.h"

int __cxa_atexit(void (*function)(void *), void *argument, void *library);

atomic_bool enclave_open;
struct config config;

static bool forked;
static long closing_thread; /* 0 until the key is wiped */
static uint64_t mask_before_fork;

/* ---- messages ---- */

static void say_list(const char *format, va_list arguments)
{
    static const char prefix[] = "softepc: ";
    char line[1024];
    memcpy(line, prefix, sizeof prefix);
    size_t length = sizeof prefix - 1;
    const int wanted = vsnprintf(line + length, sizeof line - length - 1, format, arguments);
    if (wanted > 0)
        length += (size_t)wanted < sizeof line - length - 1 ? (size_t)wanted
                                                            : sizeof line - length - 2;
    line[length++] = '\n';
    RAW3(SYS_write, STDERR_FILENO, line, length);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, arguments);
    va_end(arguments);
}

void die(int exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, arguments);
    va_end(arguments);
    _exit(exit_code);
}

void fault_without_enclave(uintptr_t address)
{
    if (forked)
        die(SOFTEPC_EXIT_FORKED,
            "a child of fork() touched address %#lx of its parent's enclave; the enclave does not "
            "extend to children: start a new program instead (Python: the spawn start method)",
            (unsigned long)address);
    if (RAW3(SYS_gettid, 0, 0, 0) == closing_thread)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "address %#lx of the enclave was touched after the exit handlers had run and the key "
            "was wiped; nothing may use enclave memory that late",
            (unsigned long)address);
    for (;;) /* another thread, while the process ends */
        RAW4(SYS_ppoll, NULL, 0, NULL, NULL);
}

void *reserve_memory(size_t bytes, const char *purpose)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die(SOFTEPC_EXIT_UNSUPPORTED,
            "no address space of %zu bytes for %s (%s): lower SOFTEPC_REGION_BYTES, or raise the "
            "limit (ulimit -v)",
            bytes, purpose, strerror(errno));
    return memory;
}

/* ---- configuration ---- */

static uint64_t bytes_from(const char *name, uint64_t unset, uint64_t least, uint64_t most)
{
    const char *text = getenv(name);
    if (!text || !*text)
        return unset;
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < least || value > most)
        die(SOFTEPC_EXIT_CONFIG,
            "%s is '%s', expected a plain number of bytes from %llu to %llu, without a unit", name,
            text, (unsigned long long)least, (unsigned long long)most);
    return value;
}

static bool policy_from(const char *name, enum policy *policy)
{
    if (strcmp(name, "second-chance") == 0)
        *policy = POLICY_SECOND_CHANCE;
    else if (strcmp(name, "fifo") == 0)
        *policy = POLICY_FIFO;
    else
        return false;
    return true;
}

static void read_report_path(void)
{
    const char *path = getenv("SOFTEPC_REPORT");
    if (!path || !*path)
        return;
    char folder[sizeof config.report_path] = "";
    if (*path != '/' && !getcwd(folder, sizeof folder))
        die(SOFTEPC_EXIT_CONFIG, "SOFTEPC_REPORT is '%s', but the current folder has no name (%s): "
                                 "give an absolute path",
            path, strerror(errno));
    const int length = snprintf(config.report_path, sizeof config.report_path, "%s%s%s", folder,
                                *folder ? "/" : "", path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || length >= (int)sizeof config.report_path)
        die(SOFTEPC_EXIT_CONFIG,
            "SOFTEPC_REPORT is '%s', which cannot be written (%s): give the path of a file in a "
            "folder that exists",
            path, strerror(fd < 0 ? errno : ENAMETOOLONG));
    close(fd);
}

static void read_configuration(void)
{
    const uint64_t least_budget = SOFTEPC_MIN_BUDGET_PAGES * PAGE_BYTES;
    const char *policy = getenv("SOFTEPC_POLICY");

    config.region_pages = bytes_from("SOFTEPC_REGION_BYTES", UINT64_C(64) << 30, UINT64_C(1) << 20,
                                     REGION_MAX_BYTES) /
                          PAGE_BYTES;
    config.min_bytes = bytes_from("SOFTEPC_MIN_BYTES", 65536, PAGE_BYTES, REGION_MAX_BYTES);
    const uint64_t budget = bytes_from("SOFTEPC_BUDGET_BYTES", 0, 0, INT64_MAX);
    if (budget && budget < least_budget)
        die(SOFTEPC_EXIT_CONFIG,
            "SOFTEPC_BUDGET_BYTES is %llu, expected 0 (no limit) or at least %llu (64 pages)",
            (unsigned long long)budget, (unsigned long long)least_budget);
    config.budget_pages = budget / PAGE_BYTES;
    config.deferred = bytes_from("SOFTEPC_DEFER", 0, 0, 1);
    if (policy && *policy && !policy_from(policy, &config.policy))
        die(SOFTEPC_EXIT_CONFIG, "SOFTEPC_POLICY is '%s', expected second-chance or fifo", policy);
    read_report_path();
}

/* Children are not in the enclave: our entry of LD_PRELOAD goes, those of others stay. */
static void clean_environment(void)
{
    static const char *const ours[] = {"SOFTEPC_BUDGET_BYTES", "SOFTEPC_POLICY",
                                       "SOFTEPC_MIN_BYTES", "SOFTEPC_REGION_BYTES",
                                       "SOFTEPC_REPORT", "SOFTEPC_DEFER"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        unsetenv(ours[i]);

    const char *preload = getenv("LD_PRELOAD");
    if (!preload)
        return;
    char *rest = strdup(preload), *kept = calloc(1, strlen(preload) + 2), *position = NULL;
    for (char *entry = strtok_r(rest, ": ", &position); entry;
         entry = strtok_r(NULL, ": ", &position)) {
        const char *name = strrchr(entry, '/');
        if (strncmp(name ? name + 1 : entry, "libsoftepc.so", strlen("libsoftepc.so")) == 0)
            continue;
        strcat(strcat(kept, *kept ? ":" : ""), entry);
    }
    if (*kept)
        setenv("LD_PRELOAD", kept, 1);
    else
        unsetenv("LD_PRELOAD");
    free(rest);
    free(kept);
}

SOFTEPC_API int softepc_set_policy(const char *name)
{
    enum policy policy;
    if (!name || !policy_from(name, &policy)) {
        errno = EINVAL;
        return -1;
    }
    const uint64_t saved = enclave_enter();
    config.policy = policy;
    enclave_leave(saved);
    return 0;
}

/* ---- fork ---- */

static void before_fork(void)
{
    mask_before_fork = enclave_enter();
}

static void after_fork_in_parent(void)
{
    enclave_leave(mask_before_fork);
}

static void after_fork_in_child(void)
{
    if (enclave_open) {
        memory_abandon_after_fork();
        enclave_open = false;
        forked = true;
    }
    enclave_leave(mask_before_fork);
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
            VALUE(syscalls_pinned), VALUE(syscalls_bounced),
            config.policy == POLICY_FIFO ? "fifo" : "second-chance");
#undef FIELD
#undef VALUE
    if (fclose(file) != 0)
        say("the report could not be written to %s (%s)", config.report_path, strerror(errno));
}

static void stop(void *unused)
{
    (void)unused;
    if (!enclave_open)
        return;
    fflush(NULL); /* a stream's buffer may lie in the enclave */
    if (*config.report_path)
        write_report();
    const uint64_t saved = enclave_enter();
    closing_thread = RAW3(SYS_gettid, 0, 0, 0);
    enclave_open = false;
    seal_wipe();
    enclave_leave(saved);
}

static void on_inherited_filter(int signal)
{
    (void)signal;
    die(SOFTEPC_EXIT_UNSUPPORTED,
        "this process was started from inside of an enclave, whose filter for system calls it "
        "inherited; an enclave cannot hold another: start both from outside");
}

static void refuse_nesting(void)
{
    const struct sigaction stopped = {.sa_handler = on_inherited_filter};
    struct sigaction before;
    sigaction(SIGSYS, &stopped, &before);
    RAW3(SYS_msync, REGION_BASE, 0, 0); /* does nothing, but an enclave's filter stops it */
    sigaction(SIGSYS, &before, NULL);
}

/* ---- the start ---- */

static void open_enclave(void)
{
    refuse_nesting();
    seal_start();
    pager_start();
    region_start();
    signals_start();
    filter_start();
    enclave_open = true;
}

__attribute__((constructor)) static void start(void)
{
    read_configuration();
    if (__cxa_atexit(stop, NULL, NULL) ||
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child))
        die(SOFTEPC_EXIT_UNSUPPORTED, "libc has no memory for an exit handler");
    if (!config.deferred)
        open_enclave();
    clean_environment();
}

SOFTEPC_API int softepc_start(void)
{
    if (!config.deferred || enclave_open || forked || closing_thread) {
        errno = EALREADY;
        return -1;
    }
    open_enclave();
    return 0;
}
