/* What somebody else's program does with the installed library: creates a topic, sends messages, reads them
 * back. usage: roundtrip HOST:PORT TOPIC; the last line says "N messages there and back". */
#include <clymq.h>
#include <stdio.h>
#include <string.h>

enum { COUNT = 1000 };

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, clymq_last_error());
    return 1;
}

static int produce(clymq_client *client, const char *topic)
{
    clymq_producer *producer;
    if (clymq_producer_new(client, &producer) != 0)
        return fail("producer");
    for (int i = 0; i < COUNT; i++) {
        char value[32];
        clymq_message message = {0};
        message.topic = topic;
        message.value = value;
        message.value_len = (size_t)snprintf(value, sizeof(value), "message %d", i);
        if (clymq_produce(producer, &message) != 0)
            return fail("produce");
    }
    if (clymq_producer_flush(producer, 60000) != 0)
        return fail("flush");
    clymq_producer_free(producer);
    return 0;
}

static int consume(clymq_client *client, const char *topic)
{
    clymq_consumer *consumer;
    if (clymq_consumer_new(client, &consumer) != 0 ||
        clymq_consumer_assign(consumer, topic, "0", CLYMQ_OFFSET_BEGINNING) != 0)
        return fail("consumer");
    for (int i = 0; i < COUNT; i++) {
        const clymq_message *message;
        char value[32];
        int got = clymq_consume(consumer, 60000, &message);
        if (got <= 0)
            return fail("consume");
        snprintf(value, sizeof(value), "message %d", i);
        if (message->value_len != strlen(value) || memcmp(message->value, value, strlen(value)) != 0) {
            fprintf(stderr, "message %d is another\n", i);
            return 1;
        }
    }
    clymq_consumer_free(consumer);
    return 0;
}

int main(int argc, char **argv)
{
    clymq_client *client;
    clymq_topic_options options = CLYMQ_TOPIC_OPTIONS_DEFAULT;
    if (argc != 3)
        return 2;
    if (clymq_client_new(argv[1], &client) != 0)
        return fail("client");
    if (clymq_topic_create(client, argv[2], &options) != 0)
        return fail("topic");
    if (produce(client, argv[2]) || consume(client, argv[2]))
        return 1;
    clymq_client_free(client);
    printf("%d messages there and back\n", COUNT);
    return 0;
}
