#define _GNU_SOURCE
#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, READ_SIZE = 1 << 20, SOCKETS_PER_ADDRESS = 20000,
       FIRST_SOURCE = 0x7f010001 }; // 127.1.0.1
enum { OPCODE_TEXT = 1, OPCODE_BINARY = 2, OPCODE_CLOSE = 8, OPCODE_PING = 9 };

static int poll_set;
static struct endpoint target;
static message_handler *on_message;
static upgrade_handler *on_upgrade;
static uint8_t *read_buffer; // Shared: a connection keeps only an incomplete frame.
static size_t read_capacity;
uint64_t connections_lost, bytes_received;

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void watch(struct connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {events, {.ptr = connection}};
    epoll_ctl(poll_set, operation, connection->fd, &event);
}

void loop_start(const struct endpoint *endpoint, message_handler *message, upgrade_handler *upgrade)
{
    target = *endpoint;
    on_message = message;
    on_upgrade = upgrade;
    poll_set = epoll_create1(0);
    read_capacity = 4 * READ_SIZE;
    read_buffer = malloc(read_capacity);
}

// Each source address has some 28,000 ports. No other program uses these addresses, and closing with
// a reset leaves no ports in TIME_WAIT.
void connection_open(struct connection *connection)
{
    static int opened;
    int one = 1;
    struct linger reset = {1, 0};
    struct sockaddr_in source = {.sin_family = AF_INET}, server = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(FIRST_SOURCE + opened++ / SOCKETS_PER_ADDRESS);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons(connection->publishes ? target.publisher_port : target.port);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(connection->fd, (void *)&source, sizeof source) < 0)
        fail("bind: %s", strerror(errno));
    if (connect(connection->fd, (void *)&server, sizeof server) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    connection->state = CONNECTING;
    watch(connection, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void put(struct connection *connection, const void *data, size_t size)
{
    if (connection->output_size + size > connection->output_capacity) {
        connection->output_capacity = (connection->output_size + size) * 2;
        connection->output = realloc(connection->output, connection->output_capacity);
    }
    memcpy(connection->output + connection->output_size, data, size);
    connection->output_size += size;
}

static void put_frame(struct connection *connection, int opcode, const void *message, size_t size)
{
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t head[14] = {0x80 | opcode};
    size_t head_size = 2;
    if (size < 126) {
        head[1] = 0x80 | size;
    } else if (size < 65536) {
        head[1] = 0x80 | 126;
        head[head_size++] = size >> 8;
        head[head_size++] = size & 255;
    } else {
        head[1] = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            head[head_size++] = size >> shift & 255;
    }
    memcpy(head + head_size, mask, 4);
    put(connection, head, head_size + 4);
    size_t start = connection->output_size;
    put(connection, message, size);
    for (size_t i = 0; i < size; i++)
        connection->output[start + i] ^= mask[i & 3];
}

void connection_send(struct connection *connection, bool binary, const void *message, size_t size)
{
    put_frame(connection, binary ? OPCODE_BINARY : OPCODE_TEXT, message, size);
}

void connection_send_close(struct connection *connection)
{
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 255};
    put_frame(connection, OPCODE_CLOSE, normal, sizeof normal);
}

static void lose(struct connection *connection)
{
    if (connection->state == CLOSED)
        return;
    connection->state = CLOSED;
    connections_lost++;
    epoll_ctl(poll_set, EPOLL_CTL_DEL, connection->fd, NULL);
    close(connection->fd);
}

void connection_flush(struct connection *connection)
{
    while (connection->output_sent < connection->output_size) {
        ssize_t sent = send(connection->fd, connection->output + connection->output_sent,
                            connection->output_size - connection->output_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (sent < 0) {
            lose(connection);
            return;
        }
        connection->output_sent += sent;
    }
    connection->output_size = connection->output_sent = 0;
}

static void request_upgrade(struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        fail("connect: %s", strerror(error));
    char request[1024];
    int length = snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        target.path, target.port,
        target.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                         "server_no_context_takeover; client_no_context_takeover\r\n"
                       : "");
    put(connection, request, length);
    connection->state = UPGRADING;
    watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    connection_flush(connection);
}

// Return the length of the response's head, or 0 while it is incomplete.
static size_t take_upgrade(struct connection *connection, const uint8_t *data, size_t size)
{
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (memcmp(data, "HTTP/1.1 101", 12))
        fail("The upgrade was refused: %.*s", (int)(size < 200 ? size : 200), data);
    if (target.deflate && !memmem(data, end - data, "permessage-deflate", 18))
        fail("permessage-deflate was not accepted");
    connection->state = HANDSHAKING;
    on_upgrade(connection);
    return end + 4 - data;
}

// Handle the complete frames and return their length; an incomplete frame stays.
static size_t take_frames(struct connection *connection, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    while (size - taken >= 2 && connection->state != CLOSED) {
        const uint8_t *frame = data + taken;
        size_t length = frame[1] & 127, head = 2;
        if (length >= 126) {
            head = length == 126 ? 4 : 10;
            if (size - taken < head)
                break;
            length = 0;
            for (size_t i = 2; i < head; i++)
                length = length << 8 | frame[i];
        }
        if (size - taken < head + length)
            break;
        int opcode = frame[0] & 15;
        if (opcode == OPCODE_CLOSE)
            lose(connection);
        else if (opcode != OPCODE_PING)
            on_message(connection, frame + head, length);
        taken += head + length;
    }
    return taken;
}

static void receive(struct connection *connection)
{
    if (connection->input_size + READ_SIZE > read_capacity) {
        read_capacity = connection->input_size + 2 * READ_SIZE;
        read_buffer = realloc(read_buffer, read_capacity);
    }
    memcpy(read_buffer, connection->input, connection->input_size);
    size_t size = connection->input_size;
    ssize_t received = recv(connection->fd, read_buffer + size, read_capacity - size, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        lose(connection);
        return;
    }
    bytes_received += received;
    size += received;
    size_t taken = 0;
    if (connection->state == UPGRADING)
        taken = take_upgrade(connection, read_buffer, size);
    if (connection->state > UPGRADING)
        taken += take_frames(connection, read_buffer + taken, size - taken);
    if (connection->state == CLOSED)
        return;
    if (size - taken != connection->input_size)
        connection->input = realloc(connection->input, size - taken + 1);
    connection->input_size = size - taken;
    memcpy(connection->input, read_buffer + taken, connection->input_size);
    connection_flush(connection);
}

void loop_run(double deadline, bool (*done)(void))
{
    struct epoll_event events[EVENTS];
    while (now() < deadline && !(done && done())) {
        int count = epoll_wait(poll_set, events, EVENTS, 50);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->state == CLOSED)
                continue;
            if (events[i].events & EPOLLOUT) {
                if (connection->state == CONNECTING) {
                    request_upgrade(connection);
                    continue;
                }
                watch(connection, EPOLL_CTL_MOD, EPOLLIN);
                connection_flush(connection);
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(connection);
        }
    }
}
