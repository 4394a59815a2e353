/* The configuration, read from the environment. */
#ifndef SOFTEPC_CONFIG_H
#define SOFTEPC_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum policy { POLICY_SECOND_CHANCE, POLICY_FIFO };

struct config {
    uint64_t budget_pages; /* 0: no limit; changed later by softepc_set_budget, under the lock */
    uint64_t region_pages;
    size_t min_bytes;
    enum policy policy; /* changed later by softepc_set_policy, under the lock */
    bool deferred;      /* the enclave opens when softepc_start is called */
    char report_path[4096]; /* absolute; empty: no report */
};

extern struct config config;

/* Both are called once, by the first thread, before main. The first dies with SOFTEPC_EXIT_CONFIG
 * if a value is bad. */
void config_read(void);
/* Children are not in the enclave: removes the pager's variables and its entry of LD_PRELOAD. */
void config_clear_environment(void);

/* False if no policy has this name. */
bool policy_from_name(const char *name, enum policy *policy);
const char *policy_name(enum policy policy);

#endif
