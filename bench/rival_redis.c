/* How fast Redis takes messages into Streams: XADD through hiredis, pipelined on each of several connections,
 * one thread for each. What bench/run sets beside ClyMQ.
 *
 * usage: rival_redis HOST PORT MESSAGES SIZE CONNECTIONS DEPTH STREAMS SERVER_PID
 *
 * A connection has up to DEPTH commands unanswered and writes to stream number c modulo STREAMS. Prints one
 * JSON object; SERVER_PID's processor time is that of the measured interval. */
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rival.h"

enum { SENDERS_MAX = 256, SIZE_MAX_BYTES = 1 << 20 };

struct sender {
    pthread_t thread;
    redisContext *redis;
    int stream;
    long messages, answered, failed;
    size_t depth;
};

static char payload[SIZE_MAX_BYTES];
static size_t payload_len;

static int take_reply(struct sender *sender)
{
    void *reply;

    if (redisGetReply(sender->redis, &reply) != REDIS_OK) {
        fprintf(stderr, "rival_redis: %s\n", sender->redis->errstr);
        return -1;
    }
    if (((redisReply *)reply)->type != REDIS_REPLY_STRING)
        sender->failed++;
    freeReplyObject(reply);
    sender->answered++;
    return 0;
}

/* Half of the depth is sent at once while the other half is unanswered, so that neither side ever waits for
 * the other with nothing to do. */
static void *send_all(void *arg)
{
    struct sender *sender = arg;
    char *command;
    size_t half = sender->depth / 2 ? sender->depth / 2 : 1;
    int len = redisFormatCommand(&command, "XADD s%d * v %b", sender->stream, payload, payload_len);

    if (len < 0)
        return NULL;
    for (long sent = 0; sender->answered < sender->messages;) {
        for (size_t i = 0; i < half && sent < sender->messages; i++, sent++)
            redisAppendFormattedCommand(sender->redis, command, (size_t)len);
        for (int done = 0; !done;) {
            if (redisBufferWrite(sender->redis, &done) != REDIS_OK) {
                fprintf(stderr, "rival_redis: %s\n", sender->redis->errstr);
                free(command);
                return NULL;
            }
        }
        long keep = sent < sender->messages ? (long)half : 0;
        while (sent - sender->answered > keep) {
            if (take_reply(sender)) {
                free(command);
                return NULL;
            }
        }
    }
    free(command);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct sender senders[SENDERS_MAX];
    long messages, answered = 0, failed = 0;
    int count, streams;
    double began, took, cpu;

    if (argc != 9) {
        fprintf(stderr, "usage: rival_redis HOST PORT MESSAGES SIZE CONNECTIONS DEPTH STREAMS SERVER_PID\n");
        return 2;
    }
    messages = atol(argv[3]);
    payload_len = strtoul(argv[4], NULL, 10);
    count = atoi(argv[5]);
    streams = atoi(argv[7]);
    if (messages < 1 || payload_len > SIZE_MAX_BYTES || count < 1 || count > SENDERS_MAX || streams < 1)
        return 2;
    for (size_t i = 0; i < payload_len; i++)
        payload[i] = (char)((i * 2654435761U >> 13) | 1);
    for (int i = 0; i < count; i++) {
        senders[i].redis = redisConnect(argv[1], atoi(argv[2]));
        if (!senders[i].redis || senders[i].redis->err) {
            fprintf(stderr, "rival_redis: cannot connect\n");
            return 1;
        }
        senders[i].stream = i % streams;
        senders[i].depth = strtoul(argv[6], NULL, 10);
        senders[i].messages = messages / count + (i < messages % count);
    }
    cpu = cpu_s(argv[8]);
    began = now_s();
    for (int i = 0; i < count; i++) {
        if (pthread_create(&senders[i].thread, NULL, send_all, &senders[i]))
            return 1;
    }
    for (int i = 0; i < count; i++)
        pthread_join(senders[i].thread, NULL);
    took = now_s() - began;
    cpu = cpu_s(argv[8]) - cpu;
    for (int i = 0; i < count; i++) {
        answered += senders[i].answered;
        failed += senders[i].failed;
        redisFree(senders[i].redis);
    }
    printf("{\"messages\":%ld,\"failed\":%ld,\"seconds\":%.3f,\"messages_per_s\":%.0f,\"mb_per_s\":%.2f,"
           "\"server_cpu_s\":%.2f}\n",
           answered, failed, took, (double)answered / took,
           (double)answered * (double)payload_len / 1e6 / took, cpu);
    return failed || answered != messages;
}
