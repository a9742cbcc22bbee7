// WebSocket client connections over one epoll set: non-blocking, masked, buffered.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state { CONNECTING, UPGRADING, HANDSHAKING, SUBSCRIBING, READY, CLOSED };

struct connection {
    int fd;
    enum state state;
    bool publishes;         // The one that publishes, not a subscriber.
    int channels;           // It subscribes to this many,
    uint64_t first_channel; // from this number on.
    int unanswered;         // Subscriptions not yet acknowledged.
    uint64_t last_id;
    double *sent_at;        // When call `id` was sent, at id modulo the calls in flight.
    uint8_t *input, *output; // A frame that is incomplete; what the kernel has not yet taken.
    size_t input_size, output_size, output_capacity, output_sent;
};

struct endpoint {
    int port, publisher_port;
    const char *path;
    bool deflate;           // Offer permessage-deflate, without context takeover.
};

// Called with each message: its frame is whole, unmasked and of one piece.
typedef void message_handler(struct connection *, const uint8_t *message, size_t size);
// Called once the upgrade was accepted.
typedef void upgrade_handler(struct connection *);

extern uint64_t connections_lost, bytes_received;

void loop_start(const struct endpoint *, message_handler *, upgrade_handler *);
// Handle what happens until `deadline`, or until `done` says so.
void loop_run(double deadline, bool (*done)(void));
void connection_open(struct connection *);
void connection_send(struct connection *, bool binary, const void *message, size_t size);
void connection_send_close(struct connection *);
void connection_flush(struct connection *);
double now(void);
_Noreturn void fail(const char *format, ...);
