/* status.c - status values, their texts, and the message of the last failure on this thread. */
#include <stdarg.h>
#include <stdio.h>

#include "core.h"

static _Thread_local char message[512];

static const char *const texts[] = {
#define PL__X(name, text, exception) text,
    PL_STATUS_LIST(PL__X)
#undef PL__X
};

const char *pl_status_text(pl_status status)
{
    if ((unsigned)status >= sizeof texts / sizeof *texts) return "unknown status";
    return texts[status];
}

const char *pl_error_message(void) { return message; }

pl_status pl__fail(pl_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return status;
}
