/* The text of the config file, from whatever its name turns out to be: a file, a pipe as a shell's <(command)
 * makes it, a device. Bounded in length, and in time where nothing comes. */
#ifndef CLYMQ_SERVER_CONFIG_FILE_H
#define CLYMQ_SERVER_CONFIG_FILE_H

#include "base/buf.h"

/* Appends the text to text. 0; CLYMQ_EINVAL with a sentence in error that names path; CLYMQ_ENOMEM. A pipe
 * that gives nothing is an error, since an empty text would mean the defaults: nobody writes to it, or it was
 * read before. */
int config_file_read(const char *path, struct strbuf *text, struct strbuf *error);

#endif
