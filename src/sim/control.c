/* The table of control runs. */
#include "sim/control.h"

#include <stddef.h>
#include <string.h>

const struct control controls[] = {
    {.name = "ignore-sync",
     .sentence = "the disk answers every sync and makes nothing durable",
     .ignore_sync = true},
    {.name = "ignore-mark",
     .sentence = "recovery takes damage below the durable-end mark for a torn tail and cuts it away",
     .store = {.ignore_mark = true},
     .flips_logs = true},
    {.name = "retry-sync",
     .sentence = "a failed sync is tried again and its success believed",
     .store = {.retry_failed_sync = true},
     .fails_syncs = true},
    {.name = "forget-producers",
     .sentence = "the producer table is not recovered",
     .partition = {.forget_producers = true}},
    {.name = "ignore-watermark",
     .sentence = "pulls read up to the log's end",
     .partition = {.ignore_watermark = true}},
    {.name = NULL},
};

const struct control *control_find(const char *name)
{
    for (const struct control *control = controls; control->name; control++)
        if (strcmp(control->name, name) == 0)
            return control;
    return NULL;
}
