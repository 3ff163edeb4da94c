/* The pump: one epoll loop over connections that send prepared calls and count answers. See pump.h. */
#include "cli/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/address.h"
#include "wire/byte_order.h"

enum {
    INPUT_BYTES = 64 << 10,
    PARTS_AT_ONCE = 192,         /* in one writev */
    PORTS_PER_ADDRESS = 20000,   /* connections from one source address */
    ANSWER_BYTES_MAX = 16 << 20, /* of what is kept of a failed answer */
};

/* ---- calls ---- */

int pump_call_encode(enum rpc_method_id method, const void *request, struct bytes payload,
                     struct pump_call *ret_call)
{
    static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};
    const struct rpc_method *described = &rpc_methods[method];
    struct thrift_encoded encoded;
    int error =
        thrift_encode(&framed, THRIFT_CALL, described->name, 1, 1, described->request, request, &encoded);
    if (error)
        return error;
    struct pump_call call = {.owner = encoded.buf};
    call.parts[call.part_count++] = (struct iovec){encoded.buf->data, encoded.head_len};
    if (payload.len)
        call.parts[call.part_count++] = (struct iovec){(void *)payload.ptr, payload.len};
    if (encoded.tail_len)
        call.parts[call.part_count++] =
            (struct iovec){encoded.buf->data + encoded.head_len, encoded.tail_len};
    for (int i = 0; i < call.part_count; i++)
        call.size += call.parts[i].iov_len;
    *ret_call = call;
    return 0;
}

void pump_call_free(struct pump_call *call)
{
    buf_unref(call->owner);
    *call = (struct pump_call){0};
}

/* ---- connections ---- */

static void bind_to(int fd, unsigned source, const struct sockaddr *to)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)to;
    if (source == 0 || to->sa_family != AF_INET || ntohl(v4->sin_addr.s_addr) >> 24 != 127)
        return;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001 + source)};
    (void)!bind(fd, (struct sockaddr *)&from, sizeof(from));
}

static int connect_to(const struct addrinfo *to, unsigned source)
{
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return -1;
    bind_to(fd, source, to->ai_addr);
    if (connect(fd, to->ai_addr, to->ai_addrlen)) {
        int failed = errno;
        close(fd);
        errno = failed;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

int pump_connect(const char *address, unsigned source)
{
    char host[256], port[8];
    uint16_t number;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    if (io_address_split(address, host, sizeof(host), &number)) {
        cli_complain("%s is no HOST:PORT", address);
        return -1;
    }
    snprintf(port, sizeof(port), "%u", number);
    int eai = getaddrinfo(host, port, &hints, &list), fd = -1;
    if (eai) {
        cli_complain("%s: %s", address, gai_strerror(eai));
        return -1;
    }
    for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
        fd = connect_to(at, source / PORTS_PER_ADDRESS);
    if (fd < 0)
        cli_complain("%s: %s", address, strerror(errno));
    freeaddrinfo(list);
    return fd;
}

/* ---- the run ---- */

struct pump_conn {
    int fd;
    uint32_t watched;
    size_t call, call_at;              /* to be written next, and how much of it is */
    uint64_t begun, written, answered; /* calls; begun: their time is noted and they shall go out */
    int64_t *due_us;                   /* of the unanswered ones, by number modulo depth */
    uint8_t *partial;                  /* an answer that has not come whole; owned */
    size_t partial_len, partial_cap;
};

struct pump {
    const struct pump_config *config;
    struct bench_result *result;
    struct schedule schedule;
    struct pump_conn *conns;
    int64_t *due_us; /* depth of each connection's */
    int epoll, timer;
    uint64_t begun, answered; /* calls of all connections */
    int64_t ends_us;
    unsigned turn;    /* the connection that is first to get what is due */
    int64_t now_us;   /* of this round */
    int64_t heard_us; /* when the last answer came, or the first call went out that one is waited for */
    size_t good_len;  /* an answer that succeeded: others like it need no decoding */
    uint8_t good[256];
    uint8_t input[INPUT_BYTES];
};

static bool may_begin(const struct pump *pump)
{
    const struct pump_config *config = pump->config;
    return !(config->total && pump->begun == config->total) &&
           !(pump->ends_us && pump->now_us >= pump->ends_us) && !cli_interrupted();
}

static int broke(const struct pump *pump, const char *what)
{
    cli_complain("a connection broke after %llu of %llu calls were answered: %s",
                 (unsigned long long)pump->answered, (unsigned long long)pump->begun, what);
    return CLI_FAILED;
}

/* ---- sending ---- */

static void advance(const struct pump *pump, const struct pump_conn *conn, size_t *call)
{
    *call += pump->config->connections;
    if (*call >= pump->config->call_count)
        *call = (size_t)(conn - pump->conns) % pump->config->call_count;
}

/* Notes the times of the calls that are due and for which the connection has room, at most `limit`. */
static void begin_calls(struct pump *pump, struct pump_conn *conn, uint64_t due, uint64_t limit)
{
    unsigned depth = pump->config->depth;
    while (limit-- && conn->begun - conn->answered < depth && pump->begun < due && may_begin(pump)) {
        if (pump->begun == pump->answered)
            pump->heard_us = pump->now_us;
        conn->due_us[conn->begun % depth] = schedule_due_us(&pump->schedule, pump->begun, pump->now_us);
        conn->begun++;
        pump->begun++;
    }
}

static int collect_parts(const struct pump *pump, const struct pump_conn *conn, struct iovec *parts)
{
    size_t call = conn->call, skip = conn->call_at;
    int count = 0;
    for (uint64_t left = conn->begun - conn->written; left && count + 3 <= PARTS_AT_ONCE; left--) {
        const struct pump_call *at = &pump->config->calls[call];
        for (int i = 0; i < at->part_count; i++) {
            size_t len = at->parts[i].iov_len, skipped = skip < len ? skip : len;
            skip -= skipped;
            if (skipped < len)
                parts[count++] = (struct iovec){(uint8_t *)at->parts[i].iov_base + skipped, len - skipped};
        }
        advance(pump, conn, &call);
    }
    return count;
}

static void note_written(const struct pump *pump, struct pump_conn *conn, size_t len)
{
    while (len > 0) {
        size_t left = pump->config->calls[conn->call].size - conn->call_at;
        if (len < left) {
            conn->call_at += len;
            return;
        }
        len -= left;
        conn->call_at = 0;
        conn->written++;
        advance(pump, conn, &conn->call);
    }
}

static int watch(const struct pump *pump, struct pump_conn *conn, uint32_t events)
{
    if (events == conn->watched)
        return 0;
    struct epoll_event event = {.events = events, .data.ptr = conn};
    conn->watched = events;
    return epoll_ctl(pump->epoll, EPOLL_CTL_MOD, conn->fd, &event) ? broke(pump, strerror(errno)) : 0;
}

static int write_calls(const struct pump *pump, struct pump_conn *conn)
{
    struct iovec parts[PARTS_AT_ONCE];
    while (conn->written < conn->begun) {
        ssize_t wrote = writev(conn->fd, parts, collect_parts(pump, conn, parts));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0 && errno == EAGAIN)
            return watch(pump, conn, EPOLLIN | EPOLLOUT);
        if (wrote < 0)
            return broke(pump, strerror(errno));
        note_written(pump, conn, (size_t)wrote);
    }
    return watch(pump, conn, EPOLLIN);
}

/* ---- answers ---- */

static void note_failure(struct pump *pump, struct bytes sentence)
{
    struct bench_result *result = pump->result;
    if (result->failed++ == 0)
        snprintf(result->first_error, sizeof(result->first_error), "%.*s",
                 (int)(sentence.len < 200 ? sentence.len : 200),
                 sentence.len ? (const char *)sentence.ptr : "");
}

/* Whether it succeeded; where not, *ret_sentence is the server's. Answers of other methods count as good
 * whatever they say: being answered is what is measured. */
static int read_answer(const struct pump *pump, struct bytes body, bool *ret_good, struct bytes *ret_sentence)
{
    enum rpc_method_id method = pump->config->method;
    union {
        struct rpc_push_response push;
        struct rpc_push_batch_response push_batch;
    } response;
    struct thrift_message message;
    int error = thrift_read_message(THRIFT_BINARY, body, &message);
    if (error)
        return error;
    *ret_good = true;
    if (method != RPC_METHOD_PUSH && method != RPC_METHOD_PUSH_BATCH)
        return 0;
    if (message.kind == THRIFT_EXCEPTION) {
        struct thrift_exception_fields exception;
        *ret_good = false;
        error = thrift_decode_exception(THRIFT_BINARY, message.args, &exception);
        *ret_sentence = exception.text;
        return error;
    }
    error = thrift_decode(THRIFT_BINARY, message.args, 0, rpc_methods[method].response, &response);
    if (error)
        return error;
    bool is_push = method == RPC_METHOD_PUSH;
    *ret_good = is_push ? response.push.ret : response.push_batch.error == 0;
    *ret_sentence = is_push ? response.push.err : response.push_batch.err;
    return 0;
}

static int take_answer(struct pump *pump, struct pump_conn *conn, struct bytes body)
{
    if (conn->answered == conn->begun)
        return broke(pump, "an answer to no call");
    if (body.len != pump->good_len || memcmp(body.ptr, pump->good, body.len) != 0) {
        bool good;
        struct bytes sentence = {0};
        if (read_answer(pump, body, &good, &sentence))
            return broke(pump, "an answer cannot be read");
        if (!good) {
            note_failure(pump, sentence);
        } else if (body.len <= sizeof(pump->good)) {
            memcpy(pump->good, body.ptr, body.len);
            pump->good_len = body.len;
        }
    }
    latency_add(&pump->result->latency, pump->now_us - conn->due_us[conn->answered % pump->config->depth]);
    conn->answered++;
    pump->answered++;
    return 0;
}

/* Takes the whole answers that data begins with; *ret_taken: their bytes. */
static int take_answers(struct pump *pump, struct pump_conn *conn, const uint8_t *data, size_t len,
                        size_t *ret_taken)
{
    size_t taken = 0;
    while (len - taken >= 4) {
        size_t size = load_be32(data + taken);
        if (size > ANSWER_BYTES_MAX)
            return broke(pump, "an answer is not framed");
        if (len - taken - 4 < size)
            break;
        int code = take_answer(pump, conn, bytes_of(data + taken + 4, size));
        if (code)
            return code;
        taken += 4 + size;
    }
    *ret_taken = taken;
    return 0;
}

/* Keeps what is not whole yet in front of what comes next. */
static int keep_partial(struct pump *pump, struct pump_conn *conn, const uint8_t *data, size_t len)
{
    if (conn->partial_cap < conn->partial_len + len) {
        size_t cap = (conn->partial_len + len) * 2;
        uint8_t *grown = mem_realloc(conn->partial, cap);
        if (!grown)
            return broke(pump, error_sentence(CLYMQ_ENOMEM));
        conn->partial = grown;
        conn->partial_cap = cap;
    }
    if (len > 0)
        memcpy(conn->partial + conn->partial_len, data, len);
    conn->partial_len += len;
    return 0;
}

static int take_input(struct pump *pump, struct pump_conn *conn, size_t len)
{
    size_t taken;
    int code;
    if (conn->partial_len == 0) {
        code = take_answers(pump, conn, pump->input, len, &taken);
        return code ? code : keep_partial(pump, conn, pump->input + taken, len - taken);
    }
    code = keep_partial(pump, conn, pump->input, len);
    if (!code)
        code = take_answers(pump, conn, conn->partial, conn->partial_len, &taken);
    if (code)
        return code;
    conn->partial_len -= taken;
    memmove(conn->partial, conn->partial + taken, conn->partial_len);
    return 0;
}

static int read_answers(struct pump *pump, struct pump_conn *conn)
{
    ssize_t got = read(conn->fd, pump->input, sizeof(pump->input));
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (got <= 0)
        return broke(pump, got ? strerror(errno) : "the server closed it");
    pump->heard_us = pump->now_us;
    return take_input(pump, conn, (size_t)got);
}

/* ---- the loop ---- */

/* Gives the calls that are due to the connections in turn, one each, as long as there is room. */
static int begin_due(struct pump *pump)
{
    const struct pump_config *config = pump->config;
    uint64_t due = schedule_due_count(&pump->schedule, pump->now_us), before;
    do {
        before = pump->begun;
        for (unsigned i = 0; i < config->connections && pump->begun < due; i++) {
            struct pump_conn *conn = &pump->conns[pump->turn];
            pump->turn = (pump->turn + 1) % config->connections;
            begin_calls(pump, conn, due, 1);
        }
    } while (pump->begun < due && pump->begun > before);
    for (unsigned i = 0; i < config->connections; i++) {
        int code = write_calls(pump, &pump->conns[i]);
        if (code)
            return code;
    }
    return 0;
}

static int arm(const struct pump *pump)
{
    int64_t due_us = schedule_due_us(&pump->schedule, pump->begun, pump->now_us);
    /* What is due already waits for room, so for an answer. */
    if (due_us <= pump->now_us || !may_begin(pump))
        due_us = 0;
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(due_us / 1000000), .tv_nsec = (long)(due_us % 1000000) * 1000}};
    return timerfd_settime(pump->timer, TFD_TIMER_ABSTIME, &at, NULL) ? broke(pump, strerror(errno)) : 0;
}

static int handle_event(struct pump *pump, const struct epoll_event *event)
{
    struct pump_conn *conn = event->data.ptr;
    int code = 0;
    if (!conn) {
        uint64_t count;
        (void)!read(pump->timer, &count, sizeof(count));
        return 0;
    }
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        code = read_answers(pump, conn);
    if (code || pump->config->rate)
        return code;
    begin_calls(pump, conn, UINT64_MAX, UINT64_MAX);
    return write_calls(pump, conn);
}

static int loop(struct pump *pump)
{
    const struct pump_config *config = pump->config;
    struct epoll_event events[256];
    int code = begin_due(pump);
    while (!code && (pump->answered < pump->begun || may_begin(pump))) {
        if (config->rate && (code = arm(pump)))
            return code;
        int count = epoll_wait(pump->epoll, events, 256, 100);
        if (count < 0 && errno != EINTR)
            return broke(pump, strerror(errno));
        pump->now_us = cli_now_us();
        for (int i = 0; i < count && !code; i++)
            code = handle_event(pump, &events[i]);
        if (!code && config->rate)
            code = begin_due(pump);
        if (!code && pump->answered < pump->begun && pump->now_us - pump->heard_us > config->timeout_us)
            code = broke(pump, "no answer came within the time that --timeout sets");
    }
    return code;
}

static int add_to_epoll(const struct pump *pump, int fd, void *ptr)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ptr};
    return epoll_ctl(pump->epoll, EPOLL_CTL_ADD, fd, &event) ? broke(pump, strerror(errno)) : 0;
}

static int prepare(struct pump *pump)
{
    const struct pump_config *config = pump->config;
    pump->conns = mem_calloc(config->connections, sizeof(*pump->conns));
    pump->due_us = mem_calloc((size_t)config->connections * config->depth, sizeof(*pump->due_us));
    pump->epoll = epoll_create1(EPOLL_CLOEXEC);
    pump->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!pump->conns || !pump->due_us)
        return broke(pump, error_sentence(CLYMQ_ENOMEM));
    if (pump->epoll < 0 || pump->timer < 0)
        return broke(pump, strerror(errno));
    int code = add_to_epoll(pump, pump->timer, NULL);
    for (unsigned i = 0; i < config->connections && !code; i++) {
        struct pump_conn *conn = &pump->conns[i];
        *conn = (struct pump_conn){.fd = config->fds[i], .watched = EPOLLIN};
        conn->call = i % config->call_count;
        conn->due_us = pump->due_us + (size_t)i * config->depth;
        if (fcntl(conn->fd, F_SETFL, O_NONBLOCK))
            return broke(pump, strerror(errno));
        code = add_to_epoll(pump, conn->fd, conn);
    }
    return code;
}

static void dispose(struct pump *pump)
{
    for (unsigned i = 0; pump->conns && i < pump->config->connections; i++)
        mem_free(pump->conns[i].partial);
    mem_free(pump->conns);
    mem_free(pump->due_us);
    if (pump->epoll >= 0)
        close(pump->epoll);
    if (pump->timer >= 0)
        close(pump->timer);
    mem_free(pump);
}

int pump_run(const struct pump_config *config, struct bench_result *result)
{
    struct pump *pump = mem_zalloc(sizeof(*pump));
    if (!pump) {
        cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
        return CLI_FAILED;
    }
    pump->config = config;
    pump->result = result;
    pump->epoll = pump->timer = -1;
    int code = prepare(pump);
    pump->now_us = pump->heard_us = cli_now_us();
    pump->schedule =
        (struct schedule){.start_us = pump->now_us, .rate = config->rate, .each = config->per_call};
    pump->ends_us = config->duration_us ? pump->now_us + config->duration_us : 0;
    if (!code)
        code = loop(pump);
    result->messages += pump->answered - result->failed;
    dispose(pump);
    return code;
}
