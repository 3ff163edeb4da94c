/* Prints the messages of one partition from its beginning, and follows it: cc consume.c $(pkg-config --cflags
 * --libs clymq) Usage: consume TOPIC PARTITION [HOST:PORT of the coordinator] */
#include <clymq.h>
#include <inttypes.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    clymq_client *client;
    clymq_consumer *consumer;
    if (argc < 3 || clymq_client_new(argc > 3 ? argv[3] : NULL, &client) != 0) {
        fprintf(stderr, "usage: consume TOPIC PARTITION [HOST:PORT]\n");
        return 2;
    }
    if (clymq_consumer_new(client, &consumer) != 0 ||
        clymq_consumer_assign(consumer, argv[1], argv[2], CLYMQ_OFFSET_BEGINNING) != 0) {
        fprintf(stderr, "%s\n", clymq_last_error());
        return 1;
    }
    for (;;) {
        const clymq_message *message;
        int got = clymq_consume(consumer, 1000, &message);
        if (got < 0) {
            fprintf(stderr, "%s\n", clymq_last_error());
            break;
        }
        if (got == 0) {
            fflush(stdout);
            continue;
        }
        printf("%" PRId64 "\t%.*s\n", message->offset, (int)message->value_len, (const char *)message->value);
    }
    clymq_consumer_free(consumer);
    clymq_client_free(client);
    return 1;
}
