/* The public API by itself, with nobody to talk to: options, refusals, who may block where, and that
 * everything ends. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clymq.h"

static clymq_client *client_new(void)
{
    clymq_client *client;
    assert_int_equal(clymq_client_new("127.0.0.1:1", &client), 0); /* nobody listens there */
    assert_int_equal(clymq_client_set(client, "retry_backoff_ms", "10ms"), 0);
    assert_int_equal(clymq_client_set(client, "request_timeout_ms", "300"), 0);
    return client;
}

static void test_options(void **state)
{
    clymq_client *client = NULL;
    assert_int_equal(clymq_client_new("nonsense:x", &client), CLYMQ_EINVAL);
    assert_null(client);
    assert_non_null(strstr(clymq_last_error(), "HOST:PORT"));
    client = client_new();
    assert_int_equal(clymq_client_set(client, "no_such", "1"), CLYMQ_ENOENT);
    assert_int_equal(clymq_client_set(client, "request_timeout_ms", "soon"), CLYMQ_EINVAL);
    assert_int_equal(clymq_client_set(client, "log_level", "shout"), CLYMQ_EINVAL);
    clymq_producer *producer;
    assert_int_equal(clymq_producer_new(client, &producer), 0);
    assert_int_equal(clymq_producer_set(producer, "ack", "2"), CLYMQ_EINVAL);
    assert_int_equal(clymq_producer_set(producer, "max_in_flight", "6"), CLYMQ_EINVAL);
    assert_int_equal(clymq_producer_set(producer, "compression", "zip"), CLYMQ_EINVAL);
    assert_int_equal(clymq_producer_set(producer, "compression", "zstd"), 0);
    assert_int_equal(clymq_producer_set(producer, "batch_bytes", "1M"), 0);
    clymq_producer_free(producer);
    clymq_consumer *consumer;
    assert_int_equal(clymq_consumer_new(client, &consumer), 0);
    assert_int_equal(clymq_consumer_set(consumer, "fetch_wait_ms", "-1"), CLYMQ_EINVAL);
    const clymq_message *message;
    assert_int_equal(clymq_consume(consumer, 0, &message), CLYMQ_EINVAL);
    assert_false(clymq_consumer_at_end(consumer));
    clymq_consumer_free(consumer);
    clymq_client_free(client);
    clymq_client_free(NULL);
    clymq_producer_free(NULL);
    clymq_consumer_free(NULL);
}

static void test_errors(void **state)
{
    assert_string_equal(clymq_error_name(CLYMQ_ETOPIC_UNKNOWN), "ETOPIC_UNKNOWN");
    assert_non_null(strstr(clymq_strerror(CLYMQ_ETOPIC_UNKNOWN), "create it first"));
    assert_non_null(clymq_strerror(-12345));
    clymq_client *client = client_new();
    char *text = NULL;
    assert_int_equal(clymq_topic_list_json(client, NULL, &text), CLYMQ_EUNREACH);
    assert_null(text);
    assert_non_null(strstr(clymq_last_error(), "127.0.0.1:1"));
    assert_int_equal(clymq_topic_create(client, "a/b", NULL), CLYMQ_ENAME);
    assert_int_equal(clymq_topic_create(client, NULL, NULL), CLYMQ_ENAME);
    clymq_topic_options options = CLYMQ_TOPIC_OPTIONS_DEFAULT;
    options.ack_level = 3;
    assert_int_equal(clymq_topic_create(client, "t", &options), CLYMQ_EACK_LEVEL);
    assert_true(clymq_topic_delete(client, "t") < 0);
    int64_t offset = 7;
    assert_true(clymq_offset_find(client, "t", "0", CLYMQ_OFFSET_END, &offset) < 0);
    assert_int_equal(offset, 7);
    clymq_consumer *consumer;
    assert_int_equal(clymq_consumer_new(client, &consumer), 0);
    assert_true(clymq_consumer_assign(consumer, "t", "0", CLYMQ_OFFSET_END) < 0);
    assert_int_equal(clymq_consumer_assign(consumer, "t", "0", -5), CLYMQ_EINVAL);
    const clymq_message *message;
    assert_int_equal(clymq_consume(consumer, 10, &message), 0);
    assert_int_equal(clymq_consumer_set(consumer, "fetch_wait_ms", "1"), CLYMQ_EBUSY);
    assert_int_equal(clymq_client_set(client, "retry_backoff_ms", "1"), CLYMQ_EBUSY);
    clymq_consumer_free(consumer);
    clymq_client_free(client);
}

struct told {
    clymq_client *client;
    clymq_producer *producer;
    clymq_consumer *consumer;
    _Atomic int count, error, blocked, consumed;
};

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct told *told = ctx;
    told->error = error;
    /* Calls that block answer instead of blocking for ever; adding is allowed. */
    told->blocked = clymq_producer_flush(told->producer, 1000);
    const clymq_message *next;
    told->consumed = clymq_consume(told->consumer, 1, &next);
    assert_int_equal(clymq_consume(told->consumer, 0, &next), 0);
    assert_int_equal(clymq_consumer_follow(told->consumer, "t"), CLYMQ_EBUSY);
    assert_int_equal(clymq_topic_delete(told->client, "t"), CLYMQ_EBUSY);
    /* What would free does nothing. */
    clymq_producer_free(told->producer);
    clymq_consumer_free(told->consumer);
    clymq_client_free(told->client);
    assert_int_equal(message->value_len, 5);
    assert_memory_equal(message->value, "hello", 5);
    assert_ptr_equal(message->opaque, told);
    told->count++;
}

static void test_undelivered(void **state)
{
    clymq_client *client = client_new();
    clymq_producer *producer;
    struct told told = {.client = client};
    assert_int_equal(clymq_producer_new(client, &producer), 0);
    told.producer = producer;
    assert_int_equal(clymq_consumer_new(client, &told.consumer), 0);
    assert_int_equal(clymq_consumer_follow(told.consumer, "t"), 0);
    assert_int_equal(clymq_producer_set(producer, "delivery_timeout_ms", "200"), 0);
    assert_int_equal(clymq_producer_on_delivery(producer, on_delivery, &told), 0);
    clymq_message message = {.topic = "t", .value = "hello", .value_len = 5, .opaque = &told};
    for (int i = 0; i < 10; i++)
        assert_int_equal(clymq_produce(producer, &message), 0);
    assert_int_equal(clymq_producer_set(producer, "ack", "1"), CLYMQ_EBUSY);
    assert_int_equal(clymq_producer_flush(producer, 10), CLYMQ_ETIMEDOUT);
    assert_int_equal(clymq_producer_flush(producer, -1), 0);
    assert_int_equal(told.count, 10);
    assert_int_equal(told.blocked, CLYMQ_EBUSY);
    assert_int_equal(told.consumed, CLYMQ_EBUSY);
    assert_true(told.error < 0);
    assert_int_not_equal(told.error, CLYMQ_ETIMEDOUT); /* never sent, so not uncertain */
    int64_t offset = 7;
    assert_true(clymq_produce_sync(producer, &message, &offset) < 0);
    assert_int_equal(offset, 7);
    assert_int_equal(told.count, 11);
    message.topic = "..";
    assert_int_equal(clymq_produce(producer, &message), CLYMQ_ENAME);
    assert_int_equal(clymq_produce_sync(producer, &message, NULL), CLYMQ_ENAME);
    message.topic = "t";
    /* The end tells what is left. */
    assert_int_equal(clymq_produce(producer, &message), 0);
    clymq_producer_free(producer);
    assert_int_equal(told.count, 12);
    assert_int_equal(told.error, CLYMQ_ECANCELED);
    clymq_consumer_free(told.consumer);
    clymq_client_free(client);
}

struct retries {
    clymq_producer *producer;
    int told, refused;
};

static void send_again(void *ctx, int error, const clymq_message *message)
{
    struct retries *retries = ctx;
    retries->told++;
    if (clymq_produce(retries->producer, message) != CLYMQ_ESHUTDOWN)
        return;
    retries->refused++;
    assert_non_null(strstr(clymq_last_error(), "being freed"));
}

/* A callback that sends again what failed does not keep a producer from ending. */
static void test_free_refuses(void **state)
{
    clymq_client *client = client_new();
    struct retries retries = {0};
    assert_int_equal(clymq_producer_new(client, &retries.producer), 0);
    assert_int_equal(clymq_producer_on_delivery(retries.producer, send_again, &retries), 0);
    clymq_message message = {.topic = "t", .value = "hello", .value_len = 5};
    for (int i = 0; i < 10; i++)
        assert_int_equal(clymq_produce(retries.producer, &message), 0);
    clymq_producer_free(retries.producer);
    assert_int_equal(retries.told, 10);
    assert_int_equal(retries.refused, 10);
    clymq_client_free(client);
}

struct writer {
    clymq_producer *producer;
    int accepted, full;
};

static void *write_many(void *ctx)
{
    struct writer *writer = ctx;
    char value[100] = {0};
    clymq_message message = {.topic = "t", .value = value, .value_len = sizeof(value)};
    for (int i = 0; i < 2000; i++) {
        int error = clymq_produce(writer->producer, &message);
        if (error == CLYMQ_EQUEUE_FULL) {
            writer->full++;
            clymq_producer_wait(writer->producer, 1);
        } else if (error == 0) {
            writer->accepted++;
        }
    }
    return NULL;
}

static void count_delivery(void *ctx, int error, const clymq_message *message)
{
    atomic_fetch_add((_Atomic int *)ctx, 1);
}

/* Several threads, a small buffer, and nobody who takes anything. */
static void test_threads(void **state)
{
    clymq_client *client = client_new();
    clymq_producer *producer;
    _Atomic int told = 0;
    assert_int_equal(clymq_producer_new(client, &producer), 0);
    assert_int_equal(clymq_producer_set(producer, "delivery_timeout_ms", "100"), 0);
    assert_int_equal(clymq_producer_set(producer, "buffer_bytes", "50000"), 0);
    assert_int_equal(clymq_producer_on_delivery(producer, count_delivery, &told), 0);
    struct writer writers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        writers[i] = (struct writer){.producer = producer};
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    int accepted = 0, full = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        accepted += writers[i].accepted;
        full += writers[i].full;
    }
    assert_true(accepted > 0 && full > 0);
    assert_int_equal(clymq_producer_flush(producer, -1), 0);
    assert_int_equal(told, accepted);
    assert_int_equal(clymq_producer_wait(producer, 0), 0);
    clymq_producer_free(producer);
    clymq_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_options), cmocka_unit_test(test_errors),
                                       cmocka_unit_test(test_undelivered),
                                       cmocka_unit_test(test_free_refuses), cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
