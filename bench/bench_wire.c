/* How fast the codecs are, on one core: nanoseconds per push call, records and bytes per second of batches.
 * Each figure is the best of several runs of a fixed amount of work.
 *
 *   build/release/bin/bench_wire [substring of the names to run] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "wire/batch.h"
#include "wire/compress.h"
#include "wire/rpc.h"

enum { RUNS = 7 };

static const char *filter = "";
static uint8_t message[100], text[1 << 20];
static uint64_t sink; /* keeps results alive */

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void check(int error)
{
    if (error) {
        fprintf(stderr, "failed: %s\n", error_sentence(error));
        abort();
    }
}

/* Runs work(count) RUNS times; the least time of one of the count in nanoseconds. */
static double best_ns(void (*work)(int count), int count)
{
    double best = 1e18;
    for (int i = 0; i < RUNS; i++) {
        double start = now_s();
        work(count);
        double ns = (now_s() - start) * 1e9 / count;
        best = ns < best ? ns : best;
    }
    return best;
}

static void report(const char *name, void (*work)(int count), int count, double per_work, const char *unit)
{
    if (!strstr(name, filter))
        return;
    double ns = best_ns(work, count);
    if (per_work > 0)
        printf("%-44s %10.2f %s\n", name, per_work / ns, unit);
    else
        printf("%-44s %10.1f ns\n", name, ns);
}

/* ---- a push call of 100 bytes ---- */

static struct thrift_form form;
static struct bytes call;

static struct rpc_push_request push_request(void)
{
    return (struct rpc_push_request){.producer = BYTES_LITERAL("producer-1"),
                                     .topic = BYTES_LITERAL("orders"),
                                     .partition = BYTES_LITERAL("xian"),
                                     .message = bytes_of(message, sizeof(message)),
                                     .ack = -1,
                                     .command_index = 123456};
}

static void encode_push(int count)
{
    struct rpc_push_request request = push_request();
    for (int i = 0; i < count; i++) {
        struct thrift_encoded encoded;
        check(thrift_encode(&form, THRIFT_CALL, BYTES_LITERAL("push"), i, 1,
                            rpc_methods[RPC_METHOD_PUSH].request, &request, &encoded));
        sink += encoded.head_len;
        buf_unref(encoded.buf);
    }
}

static void find_push(int count)
{
    struct thrift_scan scan;
    for (int i = 0; i < count; i++) {
        struct thrift_extent extent;
        size_t need;
        thrift_scan_reset(&scan);
        check(thrift_find_message(&scan, call, 1 << 20, &extent, &need));
        sink += extent.size;
    }
}

static void decode_push(int count)
{
    for (int i = 0; i < count; i++) {
        struct thrift_message head;
        struct rpc_push_request request;
        check(thrift_read_message(form.protocol, call, &head));
        const struct rpc_method *method = rpc_find_method(RPC_BROKER, head.method);
        check(thrift_decode(form.protocol, head.args, 1, method->request, &request));
        sink += request.message.len;
    }
}

static void answer_push(int count)
{
    struct rpc_push_response response = {.ret = true};
    for (int i = 0; i < count; i++) {
        struct thrift_encoded encoded;
        check(thrift_encode(&form, THRIFT_REPLY, BYTES_LITERAL("push"), i, 0,
                            rpc_methods[RPC_METHOD_PUSH].response, &response, &encoded));
        sink += encoded.head_len;
        buf_unref(encoded.buf);
    }
}

static void run_push(const char *protocol_name)
{
    struct rpc_push_request request = push_request();
    struct thrift_encoded encoded;
    char name[100];
    check(thrift_encode(&form, THRIFT_CALL, BYTES_LITERAL("push"), 1, 1, rpc_methods[RPC_METHOD_PUSH].request,
                        &request, &encoded));
    call = bytes_of(encoded.buf->data, encoded.buf->len);
    static const struct {
        const char *name;
        void (*work)(int count);
    } parts[] = {{"encode", encode_push},
                 {"find the end of", find_push},
                 {"decode", decode_push},
                 {"answer", answer_push}};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%s a push, %s", parts[i].name, protocol_name);
        report(name, parts[i].work, 200000, 0, "");
    }
    buf_unref(encoded.buf);
}

/* ---- batches ---- */

enum { RECORDS = 600 }; /* of 100 bytes: about 64 KiB */
static struct buf *batch;
static enum batch_compression codec;

static struct buf *build(void)
{
    struct batch_builder builder;
    struct buf *built;
    check(batch_builder_init(&builder, RECORDS * 120));
    for (int i = 0; i < RECORDS; i++)
        check(batch_builder_add(&builder, 1700000000000 + i / 10, bytes_of(message, 8),
                                bytes_of(text + i * 100, sizeof(message)), NULL, 0));
    check(batch_builder_finish(&builder, codec, 0, &built));
    return built;
}

static void crc(int count)
{
    for (int i = 0; i < count; i++)
        sink += crc32c(0, text, 65536);
}

static void check_batch(int count)
{
    struct batch_header header;
    for (int i = 0; i < count; i++) {
        check(batch_check(bytes_of(batch->data, batch->len), 1 << 20, &header));
        sink += header.crc;
    }
}

static void validate(int count)
{
    struct batch_header header;
    for (int i = 0; i < count; i++) {
        check(batch_validate(bytes_of(batch->data, batch->len), 1 << 20, 1 << 20, &header));
        sink += header.crc;
    }
}

static void read_batch(int count)
{
    for (int i = 0; i < count; i++) {
        struct batch_reader reader;
        struct batch_record record;
        check(batch_reader_begin(&reader, bytes_of(batch->data, batch->len), 1 << 20));
        while (batch_reader_next(&reader, &record) == 0)
            sink += record.value.len;
        batch_reader_end(&reader);
    }
}

static void build_batch(int count)
{
    for (int i = 0; i < count; i++) {
        struct buf *built = build();
        sink += built->len;
        buf_unref(built);
    }
}

static void run_batches(void)
{
    char name[100];
    report("crc32c of 64 KiB", crc, 2000, 65536, "GB/s");
    for (int i = BATCH_NONE; i <= BATCH_ZSTD; i++) {
        codec = (enum batch_compression)i;
        batch = build();
        int count = codec == BATCH_NONE ? 2000 : 200;
        const char *with = batch_compression_name(codec);
        if (codec == BATCH_NONE)
            report("check a batch of 64 KiB", check_batch, count, (double)batch->len, "GB/s");
        snprintf(name, sizeof(name), "validate records, %s (%.1f : 1)", with,
                 RECORDS * 115.0 / (double)batch->len);
        report(name, validate, count, RECORDS * 1e3, "M records/s");
        snprintf(name, sizeof(name), "read records, %s", with);
        report(name, read_batch, count, RECORDS * 1e3, "M records/s");
        snprintf(name, sizeof(name), "build records, %s", with);
        report(name, build_batch, count, RECORDS * 1e3, "M records/s");
        buf_unref(batch);
    }
}

/* Words of a small vocabulary: compresses about as prose does. */
static void make_text(void)
{
    static const char *const words[] = {"order",  "customer", "shipped", "the",   "a",       "price",
                                        "of",     "delayed",  "north",   "truck", "42",      "1999",
                                        "refund", "and",      "store",   "xian",  "beijing", "error"};
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t at = 0; at < sizeof(text);) {
        const char *word = words[rng_below(&rng, sizeof(words) / sizeof(words[0]))];
        for (; *word && at < sizeof(text); word++)
            text[at++] = (uint8_t)*word;
        if (at < sizeof(text))
            text[at++] = rng_chance(&rng, 1, 6) ? (uint8_t)rng_between(&rng, 33, 126) : ' ';
    }
    memcpy(message, text, sizeof(message));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        filter = argv[1];
    make_text();
    form = (struct thrift_form){THRIFT_BINARY, THRIFT_UNFRAMED, 0};
    run_push("binary");
    form.protocol = THRIFT_COMPACT;
    run_push("compact");
    run_batches();
    return sink == 0; /* never */
}
