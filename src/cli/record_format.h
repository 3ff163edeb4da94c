/* How a consumed message is printed. */
#ifndef CLYMQ_CLI_RECORD_FORMAT_H
#define CLYMQ_CLI_RECORD_FORMAT_H

#include "cli/cli.h"

enum { FORMAT_VALUE, FORMAT_JSON, FORMAT_HEX, FORMAT_BASE64, FORMAT_NONE };
#define FORMAT_CHOICES "value|json|hex|base64|none"

struct record_format {
    int format;
    bool partition, offset, timestamp, key,
        headers; /* printed before the value, tabs between; JSON has them all */
};

/* Appends one line, newline included (nothing for FORMAT_NONE). */
void record_format(const struct record_format *format, const clymq_message *message, struct strbuf *out);

#endif
