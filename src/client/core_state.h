/* What the parts of the core share: the core itself, links by address, topics as metadata describes them. All
 * of it belongs to the loop's thread. */
#ifndef CLYMQ_CLIENT_CORE_STATE_H
#define CLYMQ_CLIENT_CORE_STATE_H

#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"
#include "client/core.h"

struct core {
    struct io_loop *loop;
    struct core_config config;
    char **coordinators; /* "HOST:PORT" */
    size_t coordinator_count, coordinator_at;
    struct map *links;  /* "slot address" -> struct core_link */
    struct map *topics; /* name -> struct core_topic */
    struct list calls;  /* struct core_call */
    struct rng rng;
    unsigned next_slot;
    bool freeing;
};

/* How long to wait before the attempt after `attempts` failed ones (>= 1), with jitter. */
uint64_t core_backoff_ns(struct core *core, unsigned attempts);

/* ---- links (core_link.c) ---- */

/* One connection to a server for one user: calls on a connection are answered in order, so that who may wait
 * long (a pull) must not stand before others. Slot 0 is for coordinator and metadata calls. */
struct core_link {
    struct core *core;
    char *address;
    unsigned slot;
    struct net_link *net; /* NULL = not connected and not connecting */
};

/* count slots of the caller's own; the first one's number. */
unsigned core_slots_take(struct core *core, unsigned count);
/* Closes and forgets the links of these slots; outstanding calls get CLYMQ_ECANCELED from inside. */
void core_slots_drop(struct core *core, unsigned first, unsigned count);
struct core_link *core_link_get(struct core *core, const char *address,
                                unsigned slot); /* NULL: out of memory */
/* Connects if needed. As net_link_call; an error returned means that done is not called. */
int core_link_call(struct core_link *link, enum rpc_method_id method, const void *request,
                   const struct slice *payload, int64_t timeout_ms, net_answer_callback done, void *ctx);
/* The error number of an answer: the transport's, an exception's, or the one in the response. *ret_sentence
 * gets the sentence that came with it (a view; empty if none). */
int core_answer_error(enum rpc_method_id method, const struct net_answer *answer, struct bytes *ret_sentence);
/* Whether it means that the connection failed rather than that the server answered. */
bool core_error_is_transport(const struct net_answer *answer);
/* Whether it means that the answer is longer than this client takes (then CLYMQ_ETOOBIG): no matter how often
 * it is asked for, and the request was not too big. The sentence for it. */
bool core_error_is_own_limit(const struct net_answer *answer);
extern const char core_own_limit_sentence[];

/* ---- topics (core_topic.c) ---- */

struct core_partition {
    char *name;
    uint32_t number;
    char *leader; /* "HOST:PORT"; NULL = none now */
};

struct core_topic {
    struct core *core;
    char *name;
    struct core_partition *partitions; /* by growing number */
    size_t count;
    bool known;       /* partitions hold what some answer said */
    int error;        /* of the last finished attempt */
    unsigned unknown; /* answers in a row that said "unknown topic" */
    uint64_t version; /* attempts finished */
    uint64_t finished_ns;
    bool calling;
    struct core_call call;
    struct rpc_describe_topic_request request;
    struct io_timer timer;
    struct list watches;
};

/* Told after every finished attempt, good or bad. */
struct core_topic_watch {
    struct list link;
    void (*changed)(struct core_topic_watch *watch);
    void *ctx;
};

/* The entry of a topic, made if missing. Lives as long as the core. NULL: out of memory. */
struct core_topic *core_topic_get(struct core *core, const char *name);
/* Asks the coordinator for it, soon: not more often than the back-off allows. Harmless when under way. */
void core_topic_refresh(struct core_topic *topic);
void core_topic_watch_add(struct core_topic *topic, struct core_topic_watch *watch);
void core_topic_watch_remove(struct core_topic_watch *watch);
const struct core_partition *core_topic_find(const struct core_topic *topic, const char *partition);
/* The same for one that is looked for again and again: *place is where it was last, and tells where it is. */
const struct core_partition *core_topic_find_near(const struct core_topic *topic, const char *partition,
                                                  size_t *place);
void core_topic_free(struct core_topic *topic);

#endif
