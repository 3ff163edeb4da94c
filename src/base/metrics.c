/* The registry of metrics and their text format ("Prometheus exposition format 0.0.4"): see metrics.h.
 *
 * Series are kept in families (one name, one type, one help text), because the format wants all series of a
 * name together; families and series print in the order of their registration. */
#include "base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

/* The metric comes first, and memory is aligned by hand, so that no two metrics share a cache line. */
struct series {
    struct metric metric;
    struct list in_family;
    char *labels;          /* NULL: none */
    int64_t (*read)(void); /* NULL: the metric holds the value */
    void *memory;          /* what to free */
};

struct family {
    struct list in_registry;
    struct list series;
    const char *name, *help;
    enum metric_type type;
};

struct metrics {
    pthread_mutex_t lock;
    struct list families;
    struct map *by_name;   /* family name -> family */
    struct map *by_series; /* name{labels} -> series */
};

struct metrics *metrics_new(void)
{
    struct metrics *metrics = mem_zalloc(sizeof(*metrics));
    if (!metrics)
        return NULL;
    metrics->by_name = map_new();
    metrics->by_series = map_new();
    if (!metrics->by_name || !metrics->by_series) {
        map_free(metrics->by_name);
        map_free(metrics->by_series);
        mem_free(metrics);
        return NULL;
    }
    pthread_mutex_init(&metrics->lock, NULL);
    list_init(&metrics->families);
    return metrics;
}

static void series_free(struct series *series)
{
    mem_free((void *)(uintptr_t)series->metric.buckets);
    mem_free(series->labels);
    mem_free(series->memory);
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    LIST_FOR_EACH_SAFE(family_item, &metrics->families) {
        struct family *family = CONTAINER_OF(family_item, struct family, in_registry);
        LIST_FOR_EACH_SAFE(series_item, &family->series)
            series_free(CONTAINER_OF(series_item, struct series, in_family));
        mem_free(family);
    }
    map_free(metrics->by_name);
    map_free(metrics->by_series);
    pthread_mutex_destroy(&metrics->lock);
    mem_free(metrics);
}

static struct series *series_new(enum metric_type type, const char *labels)
{
    const size_t line = _Alignof(struct series);
    char *memory = mem_zalloc(sizeof(struct series) + line);
    if (!memory)
        return NULL;
    struct series *series = (struct series *)(memory + (line - (uintptr_t)memory % line) % line);
    series->memory = memory;
    if (labels && labels[0] && !(series->labels = mem_strdup(labels)))
        goto failed;
    if (type == METRIC_HISTOGRAM && !(series->metric.buckets = mem_calloc(METRIC_BUCKETS, sizeof(uint64_t))))
        goto failed;
    return series;
failed:
    series_free(series);
    return NULL;
}

/* The family of name, made if it is new; NULL without memory. */
static struct family *family_get(struct metrics *metrics, enum metric_type type, const char *name,
                                 const char *help)
{
    struct family *family = map_get(metrics->by_name, bytes_of_text(name));
    if (family) {
        assert(family->type == type);
        return family;
    }
    family = mem_zalloc(sizeof(*family));
    if (!family)
        return NULL;
    family->name = name;
    family->help = help;
    family->type = type;
    list_init(&family->series);
    if (map_put(metrics->by_name, bytes_of_text(name), family)) {
        mem_free(family);
        return NULL;
    }
    list_push_back(&metrics->families, &family->in_registry);
    return family;
}

static struct series *register_locked(struct metrics *metrics, enum metric_type type, const char *name,
                                      const char *labels, const char *help)
{
    struct strbuf id = {0};
    strbuf_printf(&id, "%s{%s}", name, labels ? labels : "");
    struct series *series = NULL;
    if (id.failed)
        goto out;
    struct bytes key = bytes_of(id.data, id.len);
    series = map_get(metrics->by_series, key);
    if (series)
        goto out;
    struct family *family = family_get(metrics, type, name, help);
    if (!family || !(series = series_new(type, labels)))
        goto out;
    if (map_put(metrics->by_series, key, series)) {
        series_free(series);
        series = NULL;
        goto out;
    }
    list_push_back(&family->series, &series->in_family);
out:
    strbuf_free(&id);
    return series;
}

struct metric *metrics_register(struct metrics *metrics, enum metric_type type, const char *name,
                                const char *labels, const char *help)
{
    pthread_mutex_lock(&metrics->lock);
    struct series *series = register_locked(metrics, type, name, labels, help);
    pthread_mutex_unlock(&metrics->lock);
    return series ? &series->metric : NULL;
}

int metrics_register_read(struct metrics *metrics, enum metric_type type, const char *name, const char *help,
                          int64_t (*read)(void))
{
    pthread_mutex_lock(&metrics->lock);
    struct series *series = register_locked(metrics, type, name, NULL, help);
    if (series)
        series->read = read;
    pthread_mutex_unlock(&metrics->lock);
    return series ? 0 : CLYMQ_ENOMEM;
}

void metric_observe(struct metric *histogram, uint64_t value)
{
    unsigned bucket = value ? 64u - (unsigned)__builtin_clzll(value) : 0;
    if (bucket >= METRIC_BUCKETS)
        bucket = METRIC_BUCKETS - 1;
    atomic_fetch_add_explicit(&histogram->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->value, (int64_t)value, memory_order_relaxed);
}

static uint64_t bucket_count(const struct metric *histogram, unsigned bucket)
{
    return atomic_load_explicit(&histogram->buckets[bucket], memory_order_relaxed);
}

/* The greatest value that bucket counts. */
static uint64_t bucket_bound(unsigned bucket)
{
    return bucket == METRIC_BUCKETS - 1 ? UINT64_MAX : ((uint64_t)1 << bucket) - 1;
}

/* A backslash and a newline are escaped in help texts. */
static void append_escaped(struct strbuf *text, struct bytes raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        char c = (char)raw.ptr[i];
        if (c == '\n')
            strbuf_append(text, "\\n", 2);
        else if (c == '\\')
            strbuf_append(text, "\\\\", 2);
        else
            strbuf_append(text, &c, 1);
    }
}

/* One line; extra is a label of the line's own, such as le="3", or NULL. */
static void print_line(struct strbuf *text, const struct family *family, const char *suffix,
                       const struct series *series, const char *extra)
{
    strbuf_printf(text, "%s%s", family->name, suffix);
    if (series->labels || extra)
        strbuf_printf(text, "{%s%s%s}", series->labels ? series->labels : "",
                      series->labels && extra ? "," : "", extra ? extra : "");
    strbuf_append(text, " ", 1);
}

static void print_histogram(struct strbuf *text, const struct family *family, const struct series *series)
{
    uint64_t counts[METRIC_BUCKETS], total = 0;
    unsigned highest = 0;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        counts[i] = bucket_count(&series->metric, i);
        if (counts[i])
            highest = i;
    }
    /* Only as many buckets as ever held something: the set only grows. */
    for (unsigned i = 0; i <= highest && i < METRIC_BUCKETS - 1; i++) {
        char bound[40];
        snprintf(bound, sizeof(bound), "le=\"%" PRIu64 "\"", bucket_bound(i));
        total += counts[i];
        print_line(text, family, "_bucket", series, bound);
        strbuf_printf(text, "%" PRIu64 "\n", total);
    }
    total += highest == METRIC_BUCKETS - 1 ? counts[highest] : 0;
    print_line(text, family, "_bucket", series, "le=\"+Inf\"");
    strbuf_printf(text, "%" PRIu64 "\n", total);
    print_line(text, family, "_sum", series, NULL);
    strbuf_printf(text, "%" PRId64 "\n", metric_value(&series->metric));
    print_line(text, family, "_count", series, NULL);
    strbuf_printf(text, "%" PRIu64 "\n", total);
}

void metrics_print(struct metrics *metrics, struct strbuf *text)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    pthread_mutex_lock(&metrics->lock);
    LIST_FOR_EACH(family_item, &metrics->families) {
        const struct family *family = CONTAINER_OF(family_item, struct family, in_registry);
        if (list_empty(&family->series))
            continue; /* its only series found no memory */
        strbuf_printf(text, "# HELP %s ", family->name);
        append_escaped(text, bytes_of_text(family->help));
        strbuf_printf(text, "\n# TYPE %s %s\n", family->name, types[family->type]);
        LIST_FOR_EACH(series_item, &family->series) {
            const struct series *series = CONTAINER_OF(series_item, struct series, in_family);
            if (family->type == METRIC_HISTOGRAM) {
                print_histogram(text, family, series);
                continue;
            }
            print_line(text, family, "", series, NULL);
            strbuf_printf(text, "%" PRId64 "\n",
                          series->read ? series->read() : metric_value(&series->metric));
        }
    }
    pthread_mutex_unlock(&metrics->lock);
}
