/* bench consume --method pullBatch: every partition, or range of one, is read by calls that follow each
 * other; a connection has some of them under way at once. One epoll loop. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/bench_consume.h"
#include "cli/bench_place.h"
#include "cli/bench_pull_stream.h"
#include "cli/pump.h"

enum { INPUT_BYTES = 256 << 10 };

struct range {
    size_t partition;
    int64_t next, end; /* offsets */
    int64_t asked_us;
};

/* The ranges of a connection stand in a ring: first those that are asked for, in the order of the calls. */
struct reader {
    int fd;
    struct range *ranges;
    size_t head, count, asked, cap;
    bool came; /* something in the answer under way */
    struct pull_stream stream;
};

struct run {
    const struct bench_consume_values *values;
    const char *topic;
    struct bench_places places;
    struct range *ranges;
    size_t range_count;
    struct reader *readers;
    size_t open; /* readers with a connection */
    int epoll;
    int64_t now_us;
    struct bench_result *result;
    uint8_t *input;
};

static int complain(const char *sentence)
{
    cli_complain("%s", sentence);
    return CLI_FAILED;
}

/* ---- what to read ---- */

static int find_ends(const struct run *run, clymq_client *client, const struct cli_place *place,
                     size_t partition, int64_t *ret_begin, int64_t *ret_end)
{
    const char *name = run->places.names[partition];
    bool is_offset = !place->by_time && place->at >= 0;
    *ret_begin = place->at;
    if (!is_offset && clymq_offset_find(client, run->topic, name, place->at, ret_begin) != 0)
        return cli_failed();
    if (clymq_offset_find(client, run->topic, name, CLYMQ_OFFSET_END, ret_end) != 0)
        return cli_failed();
    return 0;
}

/* Cuts every partition into as many ranges as keep all connections busy. */
static int make_ranges(struct run *run, clymq_client *client, const struct cli_place *place)
{
    size_t wanted = (size_t)(run->values->connections * run->values->depth);
    size_t each = (wanted + run->places.count - 1) / run->places.count;
    run->ranges = mem_calloc(run->places.count * each, sizeof(*run->ranges));
    if (!run->ranges)
        return complain(error_sentence(CLYMQ_ENOMEM));
    for (size_t partition = 0; partition < run->places.count; partition++) {
        int64_t begin, end;
        int code = find_ends(run, client, place, partition, &begin, &end);
        if (code)
            return code;
        int64_t step = (end - begin + (int64_t)each - 1) / (int64_t)each;
        for (; begin < end; begin += step)
            run->ranges[run->range_count++] = (struct range){
                .partition = partition, .next = begin, .end = begin + step < end ? begin + step : end};
    }
    return 0;
}

static int open_readers(struct run *run)
{
    size_t connections = (size_t)run->values->connections;
    run->readers = mem_calloc(connections, sizeof(*run->readers));
    run->input = mem_alloc(INPUT_BYTES);
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!run->readers || !run->input || run->epoll < 0)
        return complain(error_sentence(CLYMQ_ENOMEM));
    for (size_t i = 0; i < connections; i++) {
        struct reader *reader = &run->readers[i];
        reader->fd = pump_connect(run->places.address, (unsigned)i);
        if (reader->fd < 0)
            return CLI_FAILED;
        run->open++;
        reader->cap = (run->range_count + connections - 1) / connections + 1;
        reader->ranges = mem_calloc(reader->cap, sizeof(*reader->ranges));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = reader};
        if (!reader->ranges || epoll_ctl(run->epoll, EPOLL_CTL_ADD, reader->fd, &event))
            return complain(error_sentence(CLYMQ_ENOMEM));
        for (size_t at = i; at < run->range_count; at += connections)
            reader->ranges[reader->count++] = run->ranges[at];
    }
    return 0;
}

/* ---- reading ---- */

static struct range *range_at(const struct reader *reader, size_t i)
{
    return &reader->ranges[(reader->head + i) % reader->cap];
}

static int ask(struct run *run, struct reader *reader)
{
    struct range *range = range_at(reader, reader->asked);
    struct rpc_pull_batch_request request = {.topic = bytes_of_text(run->topic),
                                             .partition = bytes_of_text(run->places.names[range->partition]),
                                             .offset = range->next,
                                             .max_bytes = (int32_t)run->values->fetch_bytes};
    struct pump_call call;
    if (pump_call_encode(RPC_METHOD_PULL_BATCH, &request, bytes_of(NULL, 0), &call))
        return complain(error_sentence(CLYMQ_ENOMEM));
    /* A few hundred bytes at a time, and few of them: they always fit. */
    ssize_t sent = send(reader->fd, call.parts[0].iov_base, call.size, MSG_NOSIGNAL);
    bool whole = sent == (ssize_t)call.size;
    pump_call_free(&call);
    if (!whole)
        return complain("a connection broke");
    range->asked_us = run->now_us;
    reader->asked++;
    return 0;
}

static int ask_more(struct run *run, struct reader *reader)
{
    size_t depth = (size_t)run->values->depth;
    int code = 0;
    while (!code && reader->asked < reader->count && reader->asked < depth)
        code = ask(run, reader);
    return code;
}

static int on_answered(struct run *run, struct reader *reader)
{
    struct range range = *range_at(reader, 0);
    bool came = reader->came;
    reader->came = false;
    latency_add(&run->result->latency, run->now_us - range.asked_us);
    reader->head = (reader->head + 1) % reader->cap;
    reader->count--;
    reader->asked--;
    if (!came)
        return complain("the server gave nothing where it holds something");
    if (range.next < range.end)
        *range_at(reader, reader->count++) = range;
    return ask_more(run, reader);
}

static void on_batch(struct run *run, struct reader *reader, const struct batch_header *header)
{
    struct range *range = range_at(reader, 0);
    reader->came = true;
    /* The first may begin before what was asked for, the last go beyond it: counted with the other range. */
    if (header->base_offset >= range->next && header->base_offset < range->end) {
        run->result->messages += (uint64_t)header->record_count;
        run->result->bytes += header->size;
    }
    if (batch_last_offset(header) >= range->next)
        range->next = batch_last_offset(header) + 1;
}

static int read_some(struct run *run, struct reader *reader)
{
    ssize_t got = recv(reader->fd, run->input, INPUT_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return complain(got ? strerror(errno) : "the server closed a connection");
    struct bytes data = bytes_of(run->input, (size_t)got);
    struct batch_header header;
    int event;
    while ((event = pull_stream_next(&reader->stream, &data, &header)) > PULL_MORE) {
        if (reader->asked == 0)
            return complain("an answer to no call");
        if (event == PULL_BATCH) {
            on_batch(run, reader, &header);
            continue;
        }
        int code = on_answered(run, reader);
        if (code)
            return code;
    }
    return event < 0 ? complain(reader->stream.sentence) : 0;
}

static bool is_over(const struct run *run)
{
    uint64_t messages = (uint64_t)run->values->messages;
    if (cli_interrupted() || (messages && run->result->messages >= messages))
        return true;
    for (size_t i = 0; i < run->open; i++) {
        if (run->readers[i].count > 0)
            return false;
    }
    return true;
}

static int read_all(struct run *run)
{
    int code = 0;
    struct epoll_event events[64];
    run->now_us = cli_now_us();
    for (size_t i = 0; i < run->open && !code; i++)
        code = ask_more(run, &run->readers[i]);
    while (!code && !is_over(run)) {
        int count = epoll_wait(run->epoll, events, 64, (int)run->values->base.common.timeout);
        run->now_us = cli_now_us();
        if (count == 0)
            return complain("no answer came within the time that --timeout sets");
        for (int i = 0; i < count && !code; i++)
            code = read_some(run, events[i].data.ptr);
    }
    return code;
}

static void dispose(struct run *run)
{
    for (size_t i = 0; i < run->open; i++) {
        close(run->readers[i].fd);
        mem_free(run->readers[i].ranges);
    }
    if (run->epoll >= 0)
        close(run->epoll);
    mem_free(run->readers);
    mem_free(run->ranges);
    mem_free(run->input);
    bench_places_free(&run->places);
}

int bench_consume_by_calls(const struct bench_consume_values *values, const char *topic, clymq_client *client,
                           const struct cli_place *place, struct bench_result *result)
{
    struct run run = {.values = values, .topic = topic, .epoll = -1, .result = result};
    int code = bench_places_find(client, topic, values->base.common.timeout, &run.places);
    if (!code)
        code = make_ranges(&run, client, place);
    if (!code)
        code = open_readers(&run);
    if (!code) {
        bench_begin(result, &values->base);
        code = read_all(&run);
        bench_end(result, &values->base);
    }
    dispose(&run);
    return code;
}
