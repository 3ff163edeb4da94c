/* HTTP for operators: GET /metrics (Prometheus' text format) and GET /health (JSON; status 200 while all is
 * well, 503 otherwise).
 *
 * It has a thread of its own; metrics and the health callback are read there. Answers are short; requests are
 * bounded in size, number and time. */
#ifndef CLYMQ_ADMIN_ADMIN_H
#define CLYMQ_ADMIN_ADMIN_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/metrics.h"

struct admin;

struct admin_config {
    const char *address; /* HOST:PORT; port 0 = any */
    struct metrics *metrics;
    /* Appends a JSON object; false: not well. Called on the admin thread. */
    bool (*health)(void *ctx, struct strbuf *json);
    void *ctx;
};

/* CLYMQ_EBUSY: the port is taken; CLYMQ_EUNREACH: this machine has no such address; CLYMQ_EDENIED: the port
 * is not for this user; CLYMQ_EINVAL: a bad address or unknown name. */
int admin_start(const struct admin_config *config, struct admin **ret_admin);
/* Where it really listens, "HOST:PORT". */
const char *admin_address(const struct admin *admin);
/* NULL is allowed. */
void admin_stop(struct admin *admin);

#endif
