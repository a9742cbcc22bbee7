// limit: a bare C server with just enough of SocketCluster 2 to show what the kernel allows.
//
//   limit PORT [coalesce]    one send per message, or (coalesce) one per socket and loop turn
//
// It answers "#handshake", "#subscribe", "#publish" and calls (with their own data). It checks
// nothing, has no timers, and trusts its client, scload, even in the order of JSON keys.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 1024, CHANNELS = 1 << 20, MAX_MESSAGE = 4 << 20, INPUT = 16384 };

struct client {
    int fd;
    bool upgraded, dirty, waiting; // `waiting`: until the kernel accepts more.
    uint8_t *input, *output;
    size_t input_size, input_capacity, output_size, output_sent, output_capacity;
};

struct channel {
    struct client **subscribers;
    int count, capacity;
};

static const char ACCEPTED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static struct channel channels[CHANNELS];
static struct client **dirty;
static size_t dirty_count, dirty_capacity;
static bool coalesce;
static int poll_set;
static char text[MAX_MESSAGE];

static void watch(struct client *client, int operation, uint32_t events)
{
    struct epoll_event event = {events, {.ptr = client}};
    epoll_ctl(poll_set, operation, client->fd, &event);
}

static void flush(struct client *client)
{
    ssize_t sent = send(client->fd, client->output + client->output_sent,
                        client->output_size - client->output_sent, MSG_NOSIGNAL);
    if (sent > 0)
        client->output_sent += sent;
    bool waiting = client->output_sent < client->output_size;
    if (!waiting)
        client->output_size = client->output_sent = 0;
    if (waiting != client->waiting) {
        client->waiting = waiting;
        watch(client, EPOLL_CTL_MOD, waiting ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

static void put(struct client *client, const void *data, size_t size)
{
    if (client->output_size + size > client->output_capacity) {
        client->output_capacity = (client->output_size + size) * 2;
        client->output = realloc(client->output, client->output_capacity);
    }
    memcpy(client->output + client->output_size, data, size);
    client->output_size += size;
    if (client->dirty)
        return;
    client->dirty = true;
    if (dirty_count == dirty_capacity) {
        dirty_capacity = dirty_capacity ? dirty_capacity * 2 : 1024;
        dirty = realloc(dirty, dirty_capacity * sizeof *dirty);
    }
    dirty[dirty_count++] = client;
}

static size_t frame_head(uint8_t *head, size_t size)
{
    head[0] = 0x81;
    if (size < 126) {
        head[1] = size;
        return 2;
    }
    int bytes = size < 65536 ? 2 : 8;
    head[1] = bytes == 2 ? 126 : 127;
    for (int i = 0; i < bytes; i++)
        head[2 + i] = size >> 8 * (bytes - 1 - i) & 255;
    return 2 + bytes;
}

static void put_message(struct client *client, const char *message, size_t size)
{
    uint8_t head[10];
    put(client, head, frame_head(head, size));
    put(client, message, size);
    if (!coalesce)
        flush(client);
}

static struct channel *channel_in(const char *message, size_t size)
{
    const char *name = memmem(message, size < 80 ? size : 80, "\"bench-", 7);
    return &channels[name ? strtoul(name + 7, NULL, 10) % CHANNELS : 0];
}

static void subscribe(struct client *client, struct channel *channel)
{
    if (channel->count == channel->capacity) {
        channel->capacity = channel->capacity ? channel->capacity * 2 : 1;
        channel->subscribers =
            realloc(channel->subscribers, channel->capacity * sizeof *channel->subscribers);
    }
    channel->subscribers[channel->count++] = client;
}

static void publish(const struct channel *channel, const char *data, size_t size)
{
    static uint8_t frame[MAX_MESSAGE];
    int length = sprintf(text, "{\"event\":\"#publish\",%.*s}", (int)size, data);
    size_t head = frame_head(frame, length);
    memcpy(frame + head, text, length);
    for (int i = 0; i < channel->count; i++) {
        put(channel->subscribers[i], frame, head + length);
        if (!coalesce)
            flush(channel->subscribers[i]);
    }
}

static void handle(struct client *client, const char *message, size_t size)
{
    size_t front = size < 40 ? size : 40;
    const char *call = memmem(message, size, "\"cid\":", 6);
    const char *data = memmem(message, size, "\"data\":", 7);
    unsigned long id = call ? strtoul(call + 6, NULL, 10) : 0;
    size_t data_size = call && data ? call - data - 1 : 0;
    int length;
    if (memmem(message, front, "#handshake", 10)) {
        length = sprintf(text, "{\"rid\":%lu,\"data\":{\"id\":\"x\",\"pingTimeout\":20000,"
                               "\"isAuthenticated\":false}}", id);
    } else if (memmem(message, front, "#subscribe", 10)) {
        subscribe(client, channel_in(message, size));
        length = sprintf(text, "{\"rid\":%lu}", id);
    } else if (memmem(message, front, "#publish", 8)) {
        publish(channel_in(message, size), data, data_size);
        length = sprintf(text, "{\"rid\":%lu}", id);
    } else {
        length = sprintf(text, "{\"rid\":%lu,%.*s}", id, (int)data_size, data);
    }
    put_message(client, text, length);
}

static size_t take_frames(struct client *client, uint8_t *data, size_t size)
{
    size_t taken = 0;
    while (size - taken >= 6) {
        uint8_t *frame = data + taken;
        size_t length = frame[1] & 127, head = 2;
        if (length >= 126) {
            head = length == 126 ? 4 : 10;
            if (size - taken < head)
                break;
            length = 0;
            for (size_t i = 2; i < head; i++)
                length = length << 8 | frame[i];
        }
        if (size - taken < head + 4 + length)
            break;
        uint8_t *mask = frame + head, *message = mask + 4;
        for (size_t i = 0; i < length; i++)
            message[i] ^= mask[i & 3];
        if ((frame[0] & 15) == 1 && length)
            handle(client, (char *)message, length);
        taken += head + 4 + length;
    }
    return taken;
}

// The socket stays in its channels, because the server is stopped when its clients leave.
static void leave(struct client *client)
{
    epoll_ctl(poll_set, EPOLL_CTL_DEL, client->fd, NULL);
    close(client->fd);
}

static void receive(struct client *client)
{
    if (client->input_capacity - client->input_size < INPUT / 2) {
        client->input_capacity = client->input_capacity ? client->input_capacity * 2 : INPUT;
        client->input = realloc(client->input, client->input_capacity);
    }
    ssize_t received = recv(client->fd, client->input + client->input_size,
                            client->input_capacity - client->input_size, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        leave(client);
        return;
    }
    client->input_size += received;
    size_t taken = 0;
    if (!client->upgraded) {
        uint8_t *end = memmem(client->input, client->input_size, "\r\n\r\n", 4);
        if (!end)
            return;
        taken = end + 4 - client->input;
        client->upgraded = true;
        put(client, ACCEPTED, sizeof ACCEPTED - 1);
    }
    taken += take_frames(client, client->input + taken, client->input_size - taken);
    client->input_size -= taken;
    memmove(client->input, client->input + taken, client->input_size);
}

static void accept_client(int listener)
{
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct client *client = calloc(1, sizeof *client);
    client->fd = fd;
    watch(client, EPOLL_CTL_ADD, EPOLLIN);
}

int main(int count, char **arguments)
{
    if (count < 2) {
        fprintf(stderr, "usage: limit PORT [coalesce]\n");
        return 2;
    }
    coalesce = count > 2;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons(atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        return 1;
    }
    poll_set = epoll_create1(0);
    struct epoll_event events[EVENTS] = {{EPOLLIN, {.ptr = NULL}}};
    epoll_ctl(poll_set, EPOLL_CTL_ADD, listener, events);
    for (;;) {
        int ready = epoll_wait(poll_set, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (!client)
                accept_client(listener);
            else if (events[i].events & ~EPOLLOUT)
                receive(client);
            else
                flush(client);
        }
        for (size_t i = 0; i < dirty_count; i++) {
            dirty[i]->dirty = false;
            flush(dirty[i]);
        }
        dirty_count = 0;
    }
}
