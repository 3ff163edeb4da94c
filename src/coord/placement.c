/* Where a new block goes, and the nodes of blocks and partitions as transactions.
 *
 * Until blocks are replicated each lives on one broker. Which one: the live broker whose hash together with
 * the partition is greatest (rendezvous hashing; Thaler and Ravishankar, "Using name-based mappings to
 * increase hit rates", 1998), so that the choice depends on nothing but who is there. */
#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

/* Finaliser of splitmix64 (Steele, Lea, Flood, 2014): spreads a checksum over 64 bits. */
static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

struct registry_broker *placement_choose(const struct registry *registry, const struct uuid *topic_id,
                                         uint32_t number)
{
    struct registry_broker *best = NULL;
    uint64_t best_score = 0;
    for (uint16_t i = 0; i < registry->broker_count; i++) {
        struct registry_broker *broker = registry->brokers[i];
        if (!broker->live)
            continue;
        uint64_t key = crc32c(0, topic_id->byte, sizeof(topic_id->byte));
        key = key << 32 | number;
        uint64_t score = mix(mix(key) ^ crc32c(0, broker->id, strlen(broker->id)));
        if (!best || score > best_score) {
            best = broker;
            best_score = score;
        }
    }
    return best;
}

int placement_new_block(struct coord *coord, const struct uuid *topic_id, uint32_t number, uint32_t seq,
                        int ack, struct coord_block *ret_block)
{
    const struct registry_broker *broker = placement_choose(&coord->registry, topic_id, number);
    if (!broker)
        return CLYMQ_EAGAIN;
    *ret_block = (struct coord_block){
        .id = coord_new_id(coord),
        .seq = seq,
        .state = COORD_BLOCK_CREATING,
        .ack = (int8_t)ack,
        .broker_count = 1,
        .leader = broker->index,
        .brokers = {broker->index},
        .start = -1,
        .end = -1,
    };
    return 0;
}

static const char *leader_id(const struct coord *coord, const struct coord_block *block)
{
    return coord->registry.brokers[block->leader]->id;
}

void txn_create_block(const struct coord *coord, struct txn *txn, const struct registry_partition *partition,
                      const struct coord_block *block)
{
    struct strbuf value = {0};
    codec_write_block(&value, block, leader_id(coord, block));
    txn_create(txn, path_block(coord, partition, block->seq), &value);
    for (uint8_t i = 0; i < block->broker_count; i++) {
        const struct registry_broker *broker = coord->registry.brokers[block->brokers[i]];
        value = (struct strbuf){0};
        codec_write_copy(&value, broker->disk_id);
        txn_create(txn, path_copy(coord, partition, block->seq, broker->id), &value);
    }
}

void txn_set_block(const struct coord *coord, struct txn *txn, const struct registry_partition *partition,
                   const struct coord_block *block)
{
    struct strbuf value = {0};
    codec_write_block(&value, block, leader_id(coord, block));
    txn_set(txn, path_block(coord, partition, block->seq), &value, block->version);
}

void txn_create_partition(const struct coord *coord, struct txn *txn,
                          const struct registry_partition *partition)
{
    struct strbuf value = {0};
    codec_write_partition(&value, &(struct codec_partition){.number = partition->number,
                                                            .state = STATE_READY,
                                                            .ack = partition->ack,
                                                            .replicas = partition->replicas});
    txn_create(txn, path_partition(coord, partition), &value);
    value = (struct strbuf){0};
    txn_create(txn, path_blocks(coord, partition), &value);
    for (uint32_t i = 0; i < partition->block_count; i++)
        txn_create_block(coord, txn, partition, &partition->blocks[i]);
}
