/* How fast NATS JetStream takes messages: asynchronous publishing through the NATS C client, with file
 * storage, on each of several connections, one thread for each. What bench/run sets beside ClyMQ.
 *
 * usage: rival_nats URL MESSAGES SIZE CONNECTIONS DEPTH STREAMS SERVER_PID
 *
 * A connection has up to DEPTH messages unacknowledged and publishes to stream number c modulo STREAMS; the
 * streams are made at first and deleted at the end. Prints one JSON object; SERVER_PID's processor time is
 * that of the measured interval. */
#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rival.h"

enum { SENDERS_MAX = 256, SIZE_MAX_BYTES = 1 << 20, COMPLETE_MS = 120000 };

struct sender {
    pthread_t thread;
    natsConnection *connection;
    jsCtx *stream;
    char subject[32];
    long messages;
    natsStatus status;
};

static char payload[SIZE_MAX_BYTES];
static int payload_len;
static _Atomic long failed;

static void on_failed(jsCtx *stream, jsPubAckErr *error, void *closure)
{
    (void)stream;
    (void)closure;
    if (atomic_fetch_add(&failed, 1) == 0)
        fprintf(stderr, "rival_nats: %s\n", error->ErrText ? error->ErrText : natsStatus_GetText(error->Err));
}

static void *send_all(void *arg)
{
    struct sender *sender = arg;
    jsPubOptions options;

    for (long i = 0; i < sender->messages && sender->status == NATS_OK; i++)
        sender->status = js_PublishAsync(sender->stream, sender->subject, payload, payload_len, NULL);
    jsPubOptions_Init(&options);
    options.MaxWait = COMPLETE_MS;
    if (sender->status == NATS_OK)
        sender->status = js_PublishAsyncComplete(sender->stream, &options);
    return NULL;
}

static natsStatus open_sender(struct sender *sender, const char *url, long depth, int stream)
{
    jsOptions options;
    natsStatus status = natsConnection_ConnectTo(&sender->connection, url);

    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = depth;
    options.PublishAsync.StallWait = COMPLETE_MS;
    options.PublishAsync.ErrHandler = on_failed;
    if (status == NATS_OK)
        status = natsConnection_JetStream(&sender->stream, sender->connection, &options);
    snprintf(sender->subject, sizeof(sender->subject), "bench.%d", stream);
    return status;
}

static natsStatus make_stream(const struct sender *sender, int number)
{
    jsStreamConfig config;
    char name[32], subject[32];
    const char *subjects[1] = {subject};
    jsErrCode code;

    jsStreamConfig_Init(&config);
    snprintf(name, sizeof(name), "bench%d", number);
    snprintf(subject, sizeof(subject), "bench.%d", number);
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    return js_AddStream(NULL, sender->stream, &config, NULL, &code);
}

static void delete_stream(const struct sender *sender, int number)
{
    char name[32];

    snprintf(name, sizeof(name), "bench%d", number);
    (void)js_DeleteStream(sender->stream, name, NULL, NULL);
}

int main(int argc, char **argv)
{
    static struct sender senders[SENDERS_MAX];
    long messages, depth;
    int count, streams;
    double began, took, cpu;
    natsStatus status = NATS_OK;

    if (argc != 8) {
        fprintf(stderr, "usage: rival_nats URL MESSAGES SIZE CONNECTIONS DEPTH STREAMS SERVER_PID\n");
        return 2;
    }
    messages = atol(argv[2]);
    payload_len = atoi(argv[3]);
    count = atoi(argv[4]);
    depth = atol(argv[5]);
    streams = atoi(argv[6]);
    if (messages < 1 || payload_len < 0 || payload_len > SIZE_MAX_BYTES || count < 1 || count > SENDERS_MAX ||
        depth < 1 || streams < 1)
        return 2;
    for (int i = 0; i < payload_len; i++)
        payload[i] = (char)((uint32_t)i * 2654435761U >> 13);
    for (int i = 0; i < count && status == NATS_OK; i++) {
        status = open_sender(&senders[i], argv[1], depth, i % streams);
        senders[i].messages = messages / count + (i < messages % count);
    }
    for (int i = 0; i < streams && status == NATS_OK; i++)
        status = make_stream(&senders[0], i);
    if (status != NATS_OK) {
        fprintf(stderr, "rival_nats: %s\n", nats_GetLastError(NULL));
        return 1;
    }
    cpu = cpu_s(argv[7]);
    began = now_s();
    for (int i = 0; i < count; i++) {
        if (pthread_create(&senders[i].thread, NULL, send_all, &senders[i]))
            return 1;
    }
    for (int i = 0; i < count; i++) {
        pthread_join(senders[i].thread, NULL);
        if (senders[i].status != NATS_OK) {
            fprintf(stderr, "rival_nats: %s\n", natsStatus_GetText(senders[i].status));
            failed++;
        }
    }
    took = now_s() - began;
    cpu = cpu_s(argv[7]) - cpu;
    for (int i = 0; i < streams; i++)
        delete_stream(&senders[0], i);
    for (int i = 0; i < count; i++) {
        jsCtx_Destroy(senders[i].stream);
        natsConnection_Destroy(senders[i].connection);
    }
    printf("{\"messages\":%ld,\"failed\":%ld,\"seconds\":%.3f,\"messages_per_s\":%.0f,\"mb_per_s\":%.2f,"
           "\"server_cpu_s\":%.2f}\n",
           messages, (long)failed, took, (double)messages / took, (double)messages * payload_len / 1e6 / took,
           cpu);
    return failed != 0;
}
