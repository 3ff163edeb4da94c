/* Errors: one table for the whole project.
 *
 * Every function that can fail returns 0 (or a count) on success and one of these negative numbers on
 * failure. The numbers of CLYMQ_E… are public (include/clymq.h), travel in answers of the RPC methods that
 * carry an error number, and so never change meaning; new ones are added at the end. Each has a sentence that
 * tells the reader what to do. Output parameters named ret_… are untouched on failure. Thread-safe: the table
 * is constant. */
#ifndef CLYMQ_BASE_ERROR_H
#define CLYMQ_BASE_ERROR_H

#include <stdbool.h>

/* X(name, number, retriable, sentence) — retriable: the same call may succeed later without being changed. */
#define ERROR_TABLE(X)                                                                                       \
    X(NOMEM, 1, true, "out of memory: lower the load or raise the memory limits")                            \
    X(INVAL, 2, false, "invalid argument")                                                                   \
    X(IO, 3, false, "input/output error: check the disk and the kernel log")                                 \
    X(NOSPC, 4, true, "the disk is full: free space or add a disk; work resumes by itself")                  \
    X(NOENT, 5, false, "not found")                                                                          \
    X(EXIST, 6, false, "already exists")                                                                     \
    X(BUSY, 7, true, "in use by another process or operation: wait or stop the other one")                   \
    X(AGAIN, 8, true, "not ready yet: try again")                                                            \
    X(TIMEDOUT, 9, true, "timed out: the outcome is unknown; try again or check the server")                 \
    X(CANCELED, 10, false, "canceled")                                                                       \
    X(DENIED, 11, false, "permission denied: check the principal and the access rules")                      \
    X(LIMIT, 12, true, "a limit is reached: lower the load or raise the option that names it")               \
    X(TOOBIG, 13, false, "too big: send less at once or raise the size limit on the server")                 \
    X(CORRUPT, 14, false, "damaged data: run clymq fsck on the data folder")                                 \
    X(FORMAT, 15, false, "the format is newer than this program: upgrade it")                                \
    X(PROTO, 16, false, "malformed message: client and server do not speak the same protocol")               \
    X(CLOSED, 17, true, "the connection was closed by the other side")                                       \
    X(UNREACH, 18, true, "cannot connect: check the address and that the server runs")                       \
    X(SHUTDOWN, 19, true, "shutting down: try again after the restart")                                      \
    X(UNSUPPORTED, 20, false, "not supported")                                                               \
    X(TOPIC_UNKNOWN, 21, false, "unknown topic: create it first (clymq topic create)")                       \
    X(PARTITION_UNKNOWN, 22, false, "unknown partition: create it first (clymq partition create)")           \
    X(NAME, 23, false,                                                                                       \
      "invalid name: use 1 to 249 bytes of UTF-8 without '/', control characters, and not '.' or '..'")      \
    X(ACK_LEVEL, 24, false, "invalid ack level: use -1, 0 or 1; -1 needs a partition of level -1")           \
    X(OFFSET_RANGE, 25, false, "offset out of range: it was deleted by retention or never written")          \
    X(SEQUENCE, 26, false, "out-of-order sequence: an earlier batch of this producer is missing")            \
    X(FENCED, 27, false, "fenced: a newer epoch of this producer or leader exists")                          \
    X(NOT_LEADER, 28, true, "this broker does not lead the partition: ask the coordinator again")            \
    X(LOG_FAILED, 29, false,                                                                                 \
      "the partition's log failed on disk and takes no more writes: check the disk, then restart the "       \
      "broker")                                                                                              \
    X(BATCH, 30, false, "invalid record batch: checksum, length or count is wrong")                          \
    X(VERSION, 31, true, "changed by somebody else meanwhile: read it again")                                \
    X(SESSION, 32, true, "the metadata session was lost")                                                    \
    X(PARTITION_REMOVED, 33, true, "the partition moved: ask the coordinator again")                         \
    X(LOCKED, 34, false, "the data folder is in use by another process: stop it or use another folder")      \
    X(QUEUE_FULL, 35, true, "the producer's memory is full: wait for deliveries or raise its buffer size")   \
    X(COMPRESSION, 36, false, "unknown or damaged compression")                                              \
    X(UNCERTAIN, 37, false, "the outcome is unknown: the message may or may not have been stored")

enum clymq_error_number {
#define X(name, number, retriable, sentence) CLYMQ_E##name = -(number),
    ERROR_TABLE(X)
#undef X
};

/* The sentence for a number of the table (0: "success"); never NULL; constant. */
const char *error_sentence(int error);
/* The name, such as "ENOSPC" for CLYMQ_ENOSPC; "OK" for 0; "E?" for a number outside the table. */
const char *error_name(int error);
/* Whether the same call may succeed later. false for 0 and for numbers outside the table. */
bool error_retriable(int error);
/* The table's number for a value of errno (CLYMQ_EIO where none fits). errno_value > 0. */
int error_from_errno(int errno_value);
/* The sentence for an error of a local file or folder: whose table's one speaks of servers says instead what
 * to look at on this machine. */
const char *error_file_sentence(int error);

#endif
