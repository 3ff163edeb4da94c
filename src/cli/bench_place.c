/* Where a topic's partitions are served, for the measurements that talk to a server without libclymq. */
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "cli/bench_place.h"

enum { FIRST_PAUSE_US = 5000, LAST_PAUSE_US = 500000 };

void bench_places_free(struct bench_places *places)
{
    for (size_t i = 0; i < places->count; i++)
        mem_free(places->names[i]);
    mem_free(places->names);
    mem_free(places->address);
    *places = (struct bench_places){0};
}

/* CLYMQ_EAGAIN where a partition has no leader yet; CLYMQ_EUNSUPPORTED where there are several. */
static int read_partition(const json_t *partition, size_t at, struct bench_places *places)
{
    const char *name = json_string_value(json_object_get(partition, "name"));
    const char *address = json_string_value(json_object_get(json_object_get(partition, "leader"), "address"));
    if (!name)
        return CLYMQ_EPROTO;
    if (!address)
        return CLYMQ_EAGAIN;
    places->names[at] = mem_strdup(name);
    if (!places->address)
        places->address = mem_strdup(address);
    if (!places->names[at] || !places->address)
        return CLYMQ_ENOMEM;
    return strcmp(places->address, address) == 0 ? 0 : CLYMQ_EUNSUPPORTED;
}

static int read_places(const char *text, struct bench_places *places)
{
    json_t *root = json_loads(text, 0, NULL);
    const json_t *array = json_object_get(root, "partitions");
    int error = json_is_array(array) ? 0 : CLYMQ_EPROTO;
    places->count = json_array_size(array);
    places->names = mem_calloc(places->count + 1, sizeof(*places->names));
    if (!places->names)
        error = CLYMQ_ENOMEM;
    for (size_t i = 0; !error && i < places->count; i++)
        error = read_partition(json_array_get(array, i), i, places);
    json_decref(root);
    return error;
}

int bench_places_find(clymq_client *client, const char *topic, int64_t timeout_ms,
                      struct bench_places *ret_places)
{
    int64_t ends_us = cli_now_us() + timeout_ms * 1000, pause_us = FIRST_PAUSE_US;
    for (;; pause_us *= 2) {
        struct bench_places places = {0};
        char *text;
        if (clymq_topic_describe_json(client, topic, &text) != 0)
            return cli_failed();
        int error = read_places(text, &places);
        clymq_string_free(text);
        if (!error && places.count > 0) {
            *ret_places = places;
            return 0;
        }
        bench_places_free(&places);
        if (error != CLYMQ_EAGAIN || cli_now_us() > ends_us || cli_interrupted()) {
            cli_complain("topic %s: %s", topic,
                         error == CLYMQ_EUNSUPPORTED ? "led by several brokers; this measurement takes one"
                         : error                     ? error_sentence(error)
                                                     : "it has no partition");
            return CLI_FAILED;
        }
        /* The answer names every partition: to ask for it often would slow down their making. */
        bench_sleep_until(cli_now_us() + (pause_us < LAST_PAUSE_US ? pause_us : LAST_PAUSE_US));
    }
}
