/* A batch as a producer may send it: validated, read, and what was read built again and compared. Length,
 * magic and checksum are made right first, or few inputs would get past them; a few are left as they are
 * (first byte odd). */
#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "fuzz.h"
#include "wire/batch.h"
#include "wire/byte_order.h"

enum { MAX = 1 << 20, MAX_RECORDS = 1 << 16 };
/* zstd's window of 8 MiB, lz4's block of 4 MiB, and what they hold beside. */
enum { CODECS_OWN = 13 << 20 };

static bool equal(struct bytes a, struct bytes b)
{
    return bytes_equal(a, b) && !a.ptr == !b.ptr;
}

/* Reads all; returns the records' count, or -1 when one is malformed. */
static int read_all(struct batch_reader *reader, struct batch_builder *builder)
{
    struct batch_record record;
    int count = 0, error;
    while ((error = batch_reader_next(reader, &record)) == 0) {
        struct batch_header_input headers[16];
        struct batch_record_header header;
        int header_count = 0, of_header;
        count++;
        FUZZ_CHECK(record.offset - reader->header.base_offset <= reader->header.last_offset_delta);
        while ((of_header = batch_header_next(&record, &header)) == 0)
            if (header_count < 16)
                headers[header_count++] = (struct batch_header_input){header.key, header.value};
        if (of_header == CLYMQ_EBATCH)
            return -1;
        FUZZ_CHECK(batch_builder_add(builder, record.timestamp_ms, record.key, record.value, headers,
                                     header_count) == 0);
    }
    return error == CLYMQ_ENOENT ? count : -1;
}

static void compare(struct bytes original, struct buf *built)
{
    struct batch_reader left, right;
    struct batch_record a, b;
    FUZZ_CHECK(batch_reader_begin(&left, original, MAX_RECORDS) == 0);
    FUZZ_CHECK(batch_reader_begin(&right, bytes_of(built->data, built->len), MAX) == 0);
    while (batch_reader_next(&left, &a) == 0) {
        FUZZ_CHECK(batch_reader_next(&right, &b) == 0);
        FUZZ_CHECK(equal(a.key, b.key) && equal(a.value, b.value) && a.timestamp_ms == b.timestamp_ms);
    }
    FUZZ_CHECK(batch_reader_next(&right, &b) == CLYMQ_ENOENT);
    batch_reader_end(&left);
    batch_reader_end(&right);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct bytes batch = fuzz_copy(data + 1, size - 1);
    if (!(data[0] & 1) && batch.len >= BATCH_HEADER_SIZE) {
        uint8_t *at = (uint8_t *)(uintptr_t)batch.ptr;
        store_be32(at + 8, (uint32_t)batch.len - BATCH_LENGTH_END);
        at[16] = BATCH_MAGIC;
        store_be32(at + 17, crc32c(0, at + 21, batch.len - 21));
    }
    struct batch_header header;
    struct batch_reader reader;
    fuzz_begin();
    int validated = batch_validate(batch, MAX, MAX_RECORDS, &header);
    int begun = batch_reader_begin(&reader, batch, MAX_RECORDS);
    fuzz_check_memory(CODECS_OWN + 4 * MAX_RECORDS + 25 * batch.len);
    FUZZ_CHECK(validated != CLYMQ_ENOMEM && validated != CLYMQ_EAGAIN);
    FUZZ_CHECK(validated != 0 || begun == 0);
    if (begun == 0) {
        struct batch_builder builder;
        FUZZ_CHECK(batch_builder_init(&builder, 0) == 0);
        int count = read_all(&reader, &builder);
        batch_reader_end(&reader);
        if (validated == 0)
            FUZZ_CHECK(count == header.record_count);
        struct buf *built;
        if (count > 0 && validated == 0) {
            FUZZ_CHECK(batch_builder_finish(&builder, BATCH_NONE, 0, &built) == 0);
            FUZZ_CHECK(batch_validate(bytes_of(built->data, built->len), MAX, MAX, &header) == 0);
            compare(batch, built);
            buf_unref(built);
        } else {
            batch_builder_free(&builder);
        }
    }
    fuzz_check_time(batch.len);
    fuzz_free(batch);
    return 0;
}
