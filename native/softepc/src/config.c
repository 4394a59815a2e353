/* Reads the configuration from the environment; softepc.h documents the variables. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layout.h"
#include "message.h"

struct config config;

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

static const char *const policy_names[] = {
    [POLICY_SECOND_CHANCE] = "second-chance",
    [POLICY_FIFO] = "fifo",
};

bool policy_from_name(const char *name, enum policy *policy)
{
    for (unsigned i = 0; i < sizeof policy_names / sizeof policy_names[0]; i++)
        if (strcmp(name, policy_names[i]) == 0) {
            *policy = (enum policy)i;
            return true;
        }
    return false;
}

const char *policy_name(enum policy policy)
{
    return policy_names[policy];
}

static void read_report_path(void)
{
    const char *path = getenv("SOFTEPC_REPORT");
    if (!path || !*path)
        return;
    char folder[sizeof config.report_path] = "";
    if (*path != '/' && !getcwd(folder, sizeof folder))
        die(SOFTEPC_EXIT_CONFIG,
            "SOFTEPC_REPORT is '%s', a relative path, but the current folder cannot be found (%s): "
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

void config_read(void)
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
    if (policy && *policy && !policy_from_name(policy, &config.policy))
        die(SOFTEPC_EXIT_CONFIG, "SOFTEPC_POLICY is '%s', expected second-chance or fifo", policy);
    read_report_path();
}

/* Removes this library from LD_PRELOAD and keeps the other entries. */
static void remove_own_preload(void)
{
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

void config_clear_environment(void)
{
    static const char *const ours[] = {"SOFTEPC_BUDGET_BYTES", "SOFTEPC_POLICY",
                                       "SOFTEPC_MIN_BYTES", "SOFTEPC_REGION_BYTES",
                                       "SOFTEPC_REPORT", "SOFTEPC_DEFER"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        unsetenv(ours[i]);
    remove_own_preload();
}
