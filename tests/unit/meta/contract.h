/* The contract of meta/meta.h as tests, run over every backend. A backend's test program gives a driver and
 * calls contract_run. */
#ifndef CLYMQ_TESTS_META_CONTRACT_H
#define CLYMQ_TESTS_META_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "meta/meta.h"

struct meta_driver {
    const char *name;
    bool many_sessions; /* two sessions may be open at once */
    /* A fresh, empty store. */
    void (*setup)(struct meta_driver *driver);
    void (*teardown)(struct meta_driver *driver);
    /* A new session on the store. */
    struct meta *(*open)(struct meta_driver *driver);
    /* Runs the loop until *until is true; fails the test when that does not happen. */
    void (*run)(struct meta_driver *driver, const bool *until);
};

/* Runs every test of the contract. The number of failures. */
int contract_run(struct meta_driver *driver);

/* Its random part (contract_random.c), called by contract_run. */
void contract_random(struct meta_driver *driver);

/* ---- helpers that wait for the answer ---- */

struct answer {
    bool done;
    int error, failed_op;
    int64_t version;
    bool ephemeral;
    char value[256];
    char children[1024]; /* names, comma-separated */
    size_t child_count;
};
struct answer contract_transact(struct meta_driver *driver, struct meta *meta, const struct meta_op *ops,
                                size_t count);
struct answer contract_get(struct meta_driver *driver, struct meta *meta, const char *path, bool watch);
struct answer contract_list(struct meta_driver *driver, struct meta *meta, const char *path, bool watch);
void contract_collect(void *ctx, const struct meta_result *result); /* a meta_callback; ctx: struct answer */

static inline struct meta_op op_create(const char *path, const char *value)
{
    return (struct meta_op){.kind = META_CREATE, .path = path, .value = bytes_of_text(value)};
}
static inline struct meta_op op_set(const char *path, const char *value, int64_t version)
{
    return (struct meta_op){
        .kind = META_SET, .path = path, .value = bytes_of_text(value), .version = version};
}
static inline struct meta_op op_delete(const char *path, int64_t version)
{
    return (struct meta_op){.kind = META_DELETE, .path = path, .version = version};
}
static inline struct meta_op op_check(const char *path, int64_t version)
{
    return (struct meta_op){.kind = META_CHECK, .path = path, .version = version};
}

#endif
