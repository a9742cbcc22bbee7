// WebSocket client connections over one epoll set: non-blocking, masked, buffered.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state { CONNECTING, UPGRADING, HANDSHAKING, SUBSCRIBING, READY, CLOSED };

struct connection {
    int fd;
    enum state state;
    bool publishes;         // The publisher, not a subscriber.
    int channels;           // The number of channels that it subscribes to,
    uint64_t first_channel; // and the number of the first.
    int unanswered;         // Subscriptions that are not acknowledged yet.
    uint64_t last_id;
    double *sent_at;        // When call `id` was sent, at id modulo the calls in flight.
    uint8_t *input, *output; // An incomplete frame; bytes that the kernel has not accepted yet.
    size_t input_size, output_size, output_capacity, output_sent;
};

struct endpoint {
    int port, publisher_port;
    const char *path;
    bool deflate;           // Offer permessage-deflate, without context takeover.
};

// Called with each message, as one complete, unmasked frame.
typedef void message_handler(struct connection *, const uint8_t *message, size_t size);
// Called when the upgrade has been accepted.
typedef void upgrade_handler(struct connection *);

extern uint64_t connections_lost, bytes_received;

void loop_start(const struct endpoint *, message_handler *, upgrade_handler *);
// Handle events until `deadline`, or until `done` returns true.
void loop_run(double deadline, bool (*done)(void));
void connection_open(struct connection *);
void connection_send(struct connection *, bool binary, const void *message, size_t size);
void connection_send_close(struct connection *);
void connection_flush(struct connection *);
double now(void);
_Noreturn void fail(const char *format, ...);
