/* Changes of topics: see admin.h. One at a time, each asked for until it has succeeded: as everything the
 * coordinator does can be asked for again, an unknown outcome only makes "exists already" and "unknown" fit
 * answers. */
#define LOG_MODULE "sim"
#include "sim/admin.h"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim/caller.h"
#include "sim/history.h"
#include "sim/machine.h"

/* After an unknown outcome the next try waits until nothing of the last one can be on its way any more. */
enum { TIMEOUT_MS = 10000, AGAIN_MS = 300, DOUBT_MS = 2500, JOBS_MAX = 16 };

enum job_kind {
    JOB_CREATE_TOPIC,
    JOB_CREATE_PART,
    JOB_DELETE_TOPIC,
    JOB_DELETE_PART,
    JOB_SET_STATE,
    JOB_LIST
};

struct job {
    enum job_kind kind;
    struct slot *slot; /* the (first) one that it makes or ends; NULL: a topic without partitions */
    const char *topic;
    int partitions, ack, replicas;
    const char *config;
};

struct admin {
    struct run *run;
    struct caller caller;
    struct io_timer timer;
    unsigned pause_ms;
    struct job jobs[JOBS_MAX]; /* to be done, in order */
    unsigned count, next;
    bool doubt; /* an earlier try of the job has an unknown outcome */
    bool begun, stopping, calling;
    struct slot *churned, *extra,
        *levels; /* a topic, a partition made and deleted; one whose level is changed */
};

static void on_timer(struct io_timer *timer);

static void wait(struct admin *admin, uint64_t delay_ns)
{
    admin->timer.fire = on_timer;
    io_timer_start(admin->run->loop, &admin->timer, delay_ns);
}

static struct job *add_job(struct admin *admin, enum job_kind kind, struct slot *slot)
{
    if (admin->next == admin->count)
        admin->next = admin->count = 0;
    struct job *job = &admin->jobs[admin->count++];

    *job = (struct job){.kind = kind, .slot = slot, .topic = slot ? slot->topic : "", .ack = -1};
    return job;
}

/* ---- outcomes ---- */

static void succeeded(struct admin *admin, const struct job *job)
{
    struct history *history = admin->run->history;

    switch (job->kind) {
    case JOB_CREATE_TOPIC:
        for (int i = 0; i < job->partitions; i++)
            history_track_made(history, job->slot + i); /* slots of one topic were added one after another */
        break;
    case JOB_CREATE_PART:
        history_track_made(history, job->slot);
        break;
    case JOB_DELETE_TOPIC:
    case JOB_DELETE_PART:
        admin->run->result->counts.topics++;
        break;
    case JOB_SET_STATE:
        admin->run->result->counts.sealed++;
        break;
    case JOB_LIST:
        break;
    }
    log_debug("admin: job %d of %s done", job->kind, job->topic);
    admin->next++;
    admin->doubt = false;
    wait(admin,
         admin->begun && admin->next == admin->count ? run_draw_ms(admin->run, 1, admin->pause_ms) : 0);
}

static bool is_creation(const struct job *job)
{
    return job->kind == JOB_CREATE_TOPIC || job->kind == JOB_CREATE_PART;
}

static void judge(struct admin *admin, const struct job *job, int error, const char *text)
{
    bool exists = is_creation(job) && error == CLYMQ_EEXIST;
    bool gone = (job->kind == JOB_DELETE_TOPIC && error == CLYMQ_ETOPIC_UNKNOWN) ||
                (job->kind == JOB_DELETE_PART && error == CLYMQ_EPARTITION_UNKNOWN);

    /* A damaged block cannot be sealed. */
    bool hopeless = job->kind == JOB_SET_STATE && history_may_fail(job->slot->current);

    if (!error || hopeless || ((exists || gone) && admin->doubt)) {
        succeeded(admin, job);
        return;
    }
    log_debug("admin: job %d of %s: %s %s", job->kind, job->topic, error_name(error), text);
    if (exists || gone)
        run_violation(admin->run, "I1", "the administrator, %s %s%s%s, was told that it %s",
                      exists ? "making" : "deleting", job->topic, job->kind == JOB_CREATE_PART ? "/" : "",
                      job->kind == JOB_CREATE_PART ? job->slot->partition : "",
                      exists ? "exists already, and it had been deleted"
                             : "is unknown, and it had been made");
    admin->doubt = true;
    wait(admin, run_draw_ms(admin->run, DOUBT_MS, 2 * DOUBT_MS));
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct admin *admin = ctx;
    const struct job *job = &admin->jobs[admin->next];
    int error = 0;

    admin->calling = false;
    if (caller_judge(answer) != CALLER_ANSWERED) {
        judge(admin, job, CLYMQ_EUNCERTAIN, caller_text(answer));
        return;
    }
    switch (job->kind) {
    case JOB_CREATE_TOPIC:
        error = ((const struct rpc_create_topic_response *)answer->response)->ret ? 0 : CLYMQ_EEXIST;
        break;
    case JOB_CREATE_PART:
        error = ((const struct rpc_create_part_response *)answer->response)->ret ? 0 : CLYMQ_EEXIST;
        break;
    case JOB_DELETE_TOPIC:
        error = ((const struct rpc_delete_topic_response *)answer->response)->error;
        break;
    case JOB_DELETE_PART:
        error = ((const struct rpc_delete_part_response *)answer->response)->error;
        break;
    case JOB_SET_STATE:
        error = ((const struct rpc_set_partition_state_response *)answer->response)->ret ? 0 : CLYMQ_EINVAL;
        break;
    case JOB_LIST:
        error = ((const struct rpc_list_topics_response *)answer->response)->error;
        break;
    }
    judge(admin, job, error, "");
}

/* ---- asking ---- */

static int ask_create_topic(struct admin *admin, const struct job *job)
{
    const struct thrift_struct *type = rpc_methods[RPC_METHOD_CREATE_TOPIC].request;
    struct rpc_create_topic_request request = {
        .topic = bytes_of_text(job->topic),
        .partitions = job->partitions,
        .ack = (int8_t)job->ack,
        .config = bytes_of_text(job->config ? job->config : ""),
    };

    rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, partitions));
    rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, ack));
    if (job->config)
        rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, config));
    return caller_call(&admin->caller, RPC_METHOD_CREATE_TOPIC, &request, NULL, TIMEOUT_MS, on_answer, admin);
}

static int ask(struct admin *admin, const struct job *job)
{
    struct bytes topic = bytes_of_text(job->topic);
    struct bytes partition = bytes_of_text(job->slot ? job->slot->partition : "");

    switch (job->kind) {
    case JOB_CREATE_TOPIC:
        return ask_create_topic(admin, job);
    case JOB_CREATE_PART: {
        struct rpc_create_part_request request = {.topic = topic, .partition = partition};
        return caller_call(&admin->caller, RPC_METHOD_CREATE_PART, &request, NULL, TIMEOUT_MS, on_answer,
                           admin);
    }
    case JOB_DELETE_TOPIC: {
        struct rpc_delete_topic_request request = {.topic = topic};
        return caller_call(&admin->caller, RPC_METHOD_DELETE_TOPIC, &request, NULL, TIMEOUT_MS, on_answer,
                           admin);
    }
    case JOB_DELETE_PART: {
        struct rpc_delete_part_request request = {.topic = topic, .partition = partition};
        return caller_call(&admin->caller, RPC_METHOD_DELETE_PART, &request, NULL, TIMEOUT_MS, on_answer,
                           admin);
    }
    case JOB_SET_STATE: {
        struct rpc_set_partition_state_request request = {.topic = topic,
                                                          .partition = partition,
                                                          .option = (int8_t)job->ack,
                                                          .dupnum = (int8_t)job->replicas};
        return caller_call(&admin->caller, RPC_METHOD_SET_PARTITION_STATE, &request, NULL, TIMEOUT_MS,
                           on_answer, admin);
    }
    case JOB_LIST: {
        struct rpc_list_topics_request request = {.prefix = bytes_of_text("")};
        return caller_call(&admin->caller, RPC_METHOD_LIST_TOPICS, &request, NULL, TIMEOUT_MS, on_answer,
                           admin);
    }
    }
    return CLYMQ_EINVAL;
}

static void draw_jobs(struct admin *admin)
{
    struct rng *rng = &admin->run->rng;
    struct job *job;

    switch (rng_below(rng, 8)) {
    case 0:
    case 1:
        add_job(admin, JOB_DELETE_TOPIC, admin->churned);
        job = add_job(admin, JOB_CREATE_TOPIC, admin->churned);
        job->partitions = 1;
        break;
    case 2:
    case 3:
        add_job(admin, JOB_DELETE_PART, admin->extra);
        add_job(admin, JOB_CREATE_PART, admin->extra);
        break;
    case 4:
        add_job(admin, JOB_LIST, NULL);
        break;
    default:
        job = add_job(admin, JOB_SET_STATE, admin->levels);
        job->ack = (int)rng_between(rng, -1, 1);
        job->replicas = (int)rng_between(rng, 0, 3);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct admin *admin = CONTAINER_OF(timer, struct admin, timer);

    if (admin->next == admin->count) {
        if (!admin->begun || admin->stopping)
            return;
        draw_jobs(admin);
    }
    const struct job *job = &admin->jobs[admin->next];
    if (job->kind == JOB_DELETE_TOPIC || job->kind == JOB_DELETE_PART)
        history_track_ending(admin->run->history, job->slot);
    int error = ask(admin, job);
    admin->calling = !error;
    if (error)
        wait(admin, run_draw_ms(admin->run, 1, AGAIN_MS));
}

/* ---- life ---- */

static void add_slots(struct admin *admin)
{
    struct history *history = admin->run->history;
    unsigned orders = 1 + (unsigned)rng_below(&admin->run->rng, 3);
    struct slot *slot, *first = NULL;
    struct job *job;

    for (unsigned i = 0; i < orders; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%u", i);
        slot = history_add_slot(history, "orders", name);
        slot->steady = true;
        first = first ? first : slot;
    }
    job = add_job(admin, JOB_CREATE_TOPIC, first);
    job->partitions = (int)orders;

    admin->extra = history_add_slot(history, "orders", "extra");
    add_job(admin, JOB_CREATE_PART, admin->extra);

    admin->levels = history_add_slot(history, "北京", "xian");
    admin->levels->steady = admin->levels->levels = true;
    add_job(admin, JOB_CREATE_TOPIC, admin->levels);
    add_job(admin, JOB_CREATE_PART, admin->levels);

    slot = history_add_slot(history, "short", "0");
    slot->steady = slot->retained = true;
    job = add_job(admin, JOB_CREATE_TOPIC, slot);
    job->partitions = 1;
    slot->retention_bytes = 65536;
    job->config = "{\"retention_bytes\":65536}";

    admin->churned = history_add_slot(history, "churn", "0");
    job = add_job(admin, JOB_CREATE_TOPIC, admin->churned);
    job->partitions = 1;
}

struct admin *admin_new(struct run *run)
{
    struct admin *admin = run_alloc(sizeof(*admin));

    admin->run = run;
    admin->caller = (struct caller){.run = run, .address = MACHINE_COORDINATOR_ADDRESS};
    add_slots(admin);
    wait(admin, 0);
    return admin;
}

bool admin_is_ready(const struct admin *admin)
{
    return admin->begun || admin->next == admin->count;
}

void admin_begin(struct admin *admin, unsigned pause_ms)
{
    admin->begun = true;
    admin->pause_ms = pause_ms;
    wait(admin, run_draw_ms(admin->run, 0, pause_ms));
}

void admin_stop(struct admin *admin)
{
    admin->stopping = true;
}

bool admin_is_idle(const struct admin *admin)
{
    return admin->next == admin->count;
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    caller_close(&admin->caller);
    io_timer_stop(admin->run->loop, &admin->timer);
    mem_free(admin);
}
