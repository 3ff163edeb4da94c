/* Sends the lines of standard input to a topic: cc produce.c $(pkg-config --cflags --libs clymq)
 * Usage: produce TOPIC [HOST:PORT of the coordinator] */
#include <clymq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long failed; /* written on the client's thread, read after the flush */

static void delivered(void *ctx, int error, const clymq_message *message)
{
    if (error) {
        failed++;
        fprintf(stderr, "not delivered: %s\n", clymq_strerror(error));
    }
}

int main(int argc, char **argv)
{
    clymq_client *client;
    clymq_producer *producer;
    if (argc < 2 || clymq_client_new(argc > 2 ? argv[2] : NULL, &client) != 0) {
        fprintf(stderr, "usage: produce TOPIC [HOST:PORT]\n");
        return 2;
    }
    if (clymq_producer_new(client, &producer) != 0 ||
        clymq_producer_set(producer, "compression", "lz4") != 0 ||
        clymq_producer_on_delivery(producer, delivered, NULL) != 0) {
        fprintf(stderr, "%s\n", clymq_last_error());
        return 1;
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, stdin)) >= 0) {
        len -= len > 0 && line[len - 1] == '\n';
        clymq_message message = {.topic = argv[1], .value = line, .value_len = (size_t)len};
        int error;
        while ((error = clymq_produce(producer, &message)) == CLYMQ_EQUEUE_FULL)
            clymq_producer_wait(producer, 1000);
        if (error) {
            fprintf(stderr, "%s\n", clymq_last_error());
            failed++;
        }
    }
    free(line);
    clymq_producer_flush(producer, -1);
    clymq_producer_free(producer);
    clymq_client_free(client);
    return failed ? 1 : 0;
}
