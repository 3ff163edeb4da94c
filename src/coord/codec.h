/* The JSON of the metadata nodes: docs/metadata.md. Writing appends to a strbuf (failed is set when memory is
 * out); reading checks every field and its range and answers CLYMQ_ECORRUPT (CLYMQ_EFORMAT for a newer
 * format), CLYMQ_ENOMEM. Unknown fields are ignored, so that a newer version may add some. Pure. */
#ifndef CLYMQ_COORD_CODEC_H
#define CLYMQ_COORD_CODEC_H

#include "coord/registry.h"

enum { CODEC_FORMAT = 1, CODEC_CONFIG_BYTES_MAX = 64 << 10 };

void codec_write_cluster(struct strbuf *out, struct uuid id);
int codec_read_cluster(struct bytes json, struct uuid *ret_id);

void codec_write_epoch(struct strbuf *out, int64_t epoch);
int codec_read_epoch(struct bytes json, int64_t *ret_epoch);

void codec_write_coordinator(struct strbuf *out, const char *name, const char *address, int64_t epoch);

void codec_write_broker(struct strbuf *out, const struct coord_broker *broker);
/* Sets address, rack and disk id of broker. */
int codec_read_broker(struct bytes json, struct registry_broker *broker);

void codec_write_topic(struct strbuf *out, struct uuid id, enum registry_state state, uint32_t next_number,
                       const struct coord_topic_config *config);
struct codec_topic {
    struct uuid id;
    enum registry_state state;
    uint32_t next_number;
    struct coord_topic_config config;
};
int codec_read_topic(struct bytes json, struct codec_topic *ret_topic);

struct codec_partition {
    uint32_t number;
    enum registry_state state;
    int ack; /* or COORD_ACK_UNSET */
    uint32_t replicas;
};
void codec_write_partition(struct strbuf *out, const struct codec_partition *partition);
int codec_read_partition(struct bytes json, struct codec_partition *ret_partition);

/* leader: the first leader's id. The node's name is the block's seq. */
void codec_write_block(struct strbuf *out, const struct coord_block *block, const char *leader);
/* Everything but seq, version, brokers; leader goes to *ret_leader, freed with mem_free. */
int codec_read_block(struct bytes json, struct coord_block *ret_block, char **ret_leader);

void codec_write_copy(struct strbuf *out, struct uuid disk_id);

/* A topic's options. An empty text and {} mean: none set. CLYMQ_EINVAL with a sentence in why. */
int codec_read_config(struct bytes json, struct coord_topic_config *ret_config, struct strbuf *why);
/* The same of a change: what the object does not name is CODEC_OPTION_KEPT. */
#define CODEC_OPTION_KEPT (INT64_MIN + 1)
int codec_read_config_change(struct bytes json, struct coord_topic_config *ret_change, struct strbuf *why);
void codec_apply_config_change(const struct coord_topic_config *change, struct coord_topic_config *config);
void codec_write_config(struct strbuf *out, const struct coord_topic_config *config);

/* Text as a JSON string, quotes included; invalid UTF-8 becomes U+FFFD. */
void codec_write_string(struct strbuf *out, const char *text);

#endif
