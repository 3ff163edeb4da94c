/* The admin port, asked over a plain socket. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/admin.h"
#include "base/error.h"

static bool well = true;

static bool health(void *ctx, struct strbuf *json)
{
    strbuf_append_text(json, "{\"status\":\"?\"}");
    return well;
}

static void ask(const struct admin *admin, const char *request, char *out, size_t cap)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    size_t used = 0;
    ssize_t got;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_port = htons((uint16_t)atoi(strrchr(admin_address(admin), ':') + 1));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    while (used < cap - 1 && (got = read(fd, out + used, cap - 1 - used)) > 0)
        used += (size_t)got;
    out[used] = 0;
    close(fd);
}

static void expect(const struct admin *admin, const char *path, const char *status, const char *part)
{
    char request[200], answer[65536];

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    ask(admin, request, answer, sizeof(answer));
    if (strncmp(answer + 9, status, 3) != 0 || !strstr(answer, part))
        fail_msg("%s: %s", path, answer);
}

static void test_pages(void **state)
{
    struct metrics *metrics = metrics_new();
    struct admin_config config = {.address = "127.0.0.1:0", .metrics = metrics, .health = health};
    struct admin *admin, *second;
    char answer[4096];

    metric_add(metrics_register(metrics, METRIC_COUNTER, "clymq_test_total", NULL, "A test's counter"), 7);
    assert_int_equal(admin_start(&config, &admin), 0);
    expect(admin, "/metrics", "200", "clymq_test_total 7");
    expect(admin, "/health", "200", "status");
    well = false;
    expect(admin, "/health", "503", "status");
    well = true;
    expect(admin, "/", "200", "/metrics");
    expect(admin, "/nothing", "404", "not found");
    ask(admin, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        answer, sizeof(answer));
    assert_non_null(strstr(answer, " 405 "));
    ask(admin, "nonsense\r\n\r\n", answer, sizeof(answer));
    config.address = admin_address(admin);
    assert_int_equal(admin_start(&config, &second), CLYMQ_EBUSY);
    admin_stop(admin);
    metrics_free(metrics);
}

static void test_bad_addresses(void **state)
{
    struct admin_config config = {.health = health};
    struct admin *admin;

    config.address = "nowhere";
    assert_int_equal(admin_start(&config, &admin), CLYMQ_EINVAL);
    config.address = "no.such.host.invalid:1";
    assert_int_equal(admin_start(&config, &admin), CLYMQ_EINVAL);
    admin_stop(NULL);
}

/* ":PORT" is all addresses, as for the other ports: v6 too where there is v6, and v4. */
static void test_all_addresses(void **state)
{
    struct metrics *metrics = metrics_new();
    struct admin_config config = {.address = ":0", .metrics = metrics, .health = health};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct admin *admin;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);

    assert_int_equal(admin_start(&config, &admin), 0);
    expect(admin, "/health", "200", "status");
    if (fd >= 0 && bind(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0) {
        v6.sin6_port = htons((uint16_t)atoi(strrchr(admin_address(admin), ':') + 1));
        assert_int_equal(connect(fd, (struct sockaddr *)&v6, sizeof(v6)), 0);
    } else {
        print_message("no [::1] on this machine\n");
    }
    if (fd >= 0)
        close(fd);
    admin_stop(admin);
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages), cmocka_unit_test(test_bad_addresses),
                                       cmocka_unit_test(test_all_addresses)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
