/* The error table's lookups: see error.h. */
#include "base/error.h"

#include <errno.h>
#include <stddef.h>

struct error_row {
    const char *name;
    const char *sentence;
    bool retriable;
};

static const struct error_row rows[] = {[0] = {"OK", "success", false},
#define X(name, number, retriable, sentence) [number] = {"E" #name, sentence, retriable},
                                        ERROR_TABLE(X)
#undef X
};

static const struct error_row *error_row(int error)
{
    static const struct error_row unknown = {"E?", "unknown error", false};
    if (error > 0 || -(long)error >= (long)(sizeof(rows) / sizeof(rows[0])) || !rows[-error].name)
        return &unknown;
    return &rows[-error];
}

const char *error_sentence(int error)
{
    return error_row(error)->sentence;
}

const char *error_name(int error)
{
    return error_row(error)->name;
}

bool error_retriable(int error)
{
    return error_row(error)->retriable;
}

const char *error_file_sentence(int error)
{
    return error == CLYMQ_EDENIED
               ? "this user may not do that there, or it is mounted read-only: check owner, mode and mount"
               : error_sentence(error);
}

int error_from_errno(int errno_value)
{
    switch (errno_value) {
    case ENOMEM:
        return CLYMQ_ENOMEM;
    case EINVAL:
        return CLYMQ_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return CLYMQ_ENOSPC;
    case ENOENT:
    case ENOTDIR:
        return CLYMQ_ENOENT;
    case EEXIST:
    case ENOTEMPTY:
        return CLYMQ_EEXIST;
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
        return CLYMQ_EBUSY;
    case EAGAIN:
    case EINTR:
    case EINPROGRESS:
        return CLYMQ_EAGAIN;
    case ETIMEDOUT:
        return CLYMQ_ETIMEDOUT;
    case ECANCELED:
        return CLYMQ_ECANCELED;
    case EACCES:
    case EPERM:
    case EROFS:
        return CLYMQ_EDENIED;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return CLYMQ_ELIMIT;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
        return CLYMQ_ECLOSED;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case ENONET:
    case ENOPROTOOPT: /* as a network tells it: no such protocol there */
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: /* a system without IPv6 */
        return CLYMQ_EUNREACH;
    case ENOSYS:
    case EOPNOTSUPP:
        return CLYMQ_EUNSUPPORTED;
    default:
        return CLYMQ_EIO;
    }
}
