/* The way of a coordinator's call to shard 0 and back. */
#include "broker/coord_call.h"

#include <stdio.h>

#include "base/error.h"
#include "base/utf8.h"

enum { CREATED_WAIT_MS = 3000 };

static void release(struct request *request)
{
    struct coord_call *coord_call = CONTAINER_OF(request, struct coord_call, base);

    strbuf_free(&coord_call->sentence);
    strbuf_free(&coord_call->text);
    answer_gate_leave(&request->home->answer_gate, &coord_call->ticket);
}

static void run(struct answer_ticket *ticket)
{
    struct coord_call *coord_call = CONTAINER_OF(ticket, struct coord_call, ticket);

    if (net_call_is_abandoned(coord_call->base.call))
        request_free(&coord_call->base);
    else
        request_go_to_coordinator(&coord_call->base);
}

/* Large answers take turns. */
static int go(struct coord_call *coord_call)
{
    struct request *request = &coord_call->base;

    if (!coord_call->large) {
        request_go_to_coordinator(request);
        return 0;
    }
    coord_call->ticket.run = run;
    return answer_gate_enter(&request->home->answer_gate, net_call_conn_id(request->call),
                             &coord_call->ticket);
}

static void work(struct broker_shard *owner, struct request *request)
{
    struct coord_call *coord_call = CONTAINER_OF(request, struct coord_call, base);

    if (owner->node->coord)
        coord_call->ask(owner->node->coord, coord_call);
    else
        coord_call_return(coord_call, CLYMQ_ESHUTDOWN, "");
}

struct coord_call *coord_call_new(struct broker_shard *bs, struct net_call *call)
{
    struct coord_call *coord_call = (struct coord_call *)request_new(bs, call, sizeof(*coord_call));

    if (!coord_call)
        return NULL;
    coord_call->base.work = work;
    coord_call->base.release = release;
    return coord_call;
}

static int copy_name(char out[256], const struct bytes *name)
{
    if (!name)
        return 0;
    if (name_check(*name))
        return CLYMQ_ENAME;
    snprintf(out, 256, "%.*s", (int)name->len, name->ptr);
    return 0;
}

void coord_call_go(struct coord_call *coord_call, enum action action, struct coord_call_names names,
                   void (*ask)(struct coord *coord, struct coord_call *coord_call),
                   void (*finish)(struct request *))
{
    struct request *request = &coord_call->base;

    coord_call->ask = ask;
    request->finish = finish;
    request->error =
        authorize(&request->call->principal, action, names.topic ? *names.topic : bytes_of("", 0));
    if (!request->error)
        request->error = copy_name(coord_call->topic, names.topic);
    if (!request->error)
        request->error = copy_name(coord_call->partition, names.partition);
    if (!request->error && go(coord_call) == 0)
        return;
    if (!request->error)
        request->error = CLYMQ_ENOMEM;
    finish(request);
}

void coord_call_return(struct coord_call *coord_call, int error, const char *sentence)
{
    if (broker_is_dead(coord_call->base.home->node))
        return;
    coord_call->base.error = error;
    if (error && sentence && *sentence)
        strbuf_append_text(&coord_call->sentence, sentence);
    request_return(&coord_call->base);
}

void coord_call_on_done(void *ctx, int error, const char *sentence)
{
    coord_call_return(ctx, error, sentence);
}

static void on_served(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                      size_t count)
{
    coord_call_return(ctx, 0, "");
}

void coord_call_on_created(void *ctx, int error, const char *sentence)
{
    struct coord_call *created = ctx;
    struct coord *coord = created->base.owner->node->coord;

    if (error || !coord || broker_is_dead(created->base.home->node))
        coord_call_return(created, error, sentence);
    else
        coord_find_leaders(coord, created->topic, *created->partition ? created->partition : NULL,
                           CREATED_WAIT_MS, on_served, created);
}

void coord_call_on_text(void *ctx, int error, const char *sentence, struct bytes json)
{
    struct coord_call *coord_call = ctx;

    if (!error)
        strbuf_append(&coord_call->text, json.ptr, json.len);
    if (coord_call->text.failed) {
        error = CLYMQ_ENOMEM;
        strbuf_free(&coord_call->text);
    }
    coord_call_return(coord_call, error, sentence);
}

void coord_call_on_leader(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                          size_t count)
{
    struct coord_call *coord_call = ctx;

    if (!error && count == 0)
        error = CLYMQ_EPARTITION_UNKNOWN;
    else if (!error && locations[0].error) {
        error = locations[0].error;
        sentence = locations[0].sentence;
    }
    if (!error) {
        const struct coord_leader *leader = &locations[0].leader;

        snprintf(coord_call->address, sizeof(coord_call->address), "%s", leader->address);
        snprintf(coord_call->broker_name, sizeof(coord_call->broker_name), "%s", leader->broker_name);
    }
    coord_call_return(coord_call, error, sentence);
}

const char *coord_call_sentence(const struct coord_call *coord_call)
{
    if (!coord_call->base.error)
        return "";
    if (coord_call->sentence.failed || !coord_call->sentence.len)
        return error_sentence(coord_call->base.error);
    return coord_call->sentence.data;
}

static void on_sent(void *ctx)
{
    struct coord_call *coord_call = ctx;

    request_free(&coord_call->base);
}

void coord_call_answer_text(struct coord_call *coord_call, const void *response)
{
    struct request *request = &coord_call->base;
    struct strbuf *text = &coord_call->text;
    struct net_payload payload = {.release = on_sent, .ctx = coord_call};
    struct buf *buf;

    if (!text->len) {
        request_answer(request, response, NULL);
        request_free(request);
        return;
    }
    buf = buf_new(text->len);
    if (!buf) {
        request->error = CLYMQ_ENOMEM;
        coord_call_failed(coord_call);
        return;
    }
    memcpy(buf->data, text->data, text->len);
    buf->len = text->len;
    strbuf_free(text);
    answer_gate_made(&request->home->answer_gate, &coord_call->ticket, buf->len);
    payload.slice = (struct slice){buf->data, buf->len, buf};
    request_answer(request, response, &payload); /* on_sent frees it, perhaps at once */
}

bool coord_call_failed(struct coord_call *coord_call)
{
    if (!coord_call->base.error)
        return false;
    request_fail(&coord_call->base, "%s", coord_call_sentence(coord_call));
    request_free(&coord_call->base);
    return true;
}
