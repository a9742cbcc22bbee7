// The messages of a protocol: writing them, and recognizing received ones.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { OTHER, PING, GREETING, ANSWER, REFUSAL, DELIVERY };

struct dialect {
    const char *name, *path;
    bool binary, greeted; // `greeted`: the server speaks first, before the handshake.
    const char *pong;
    // Each writes a message and returns its size. The handshake is call 1.
    size_t (*handshake)(char *out);
    size_t (*call)(char *out, uint64_t id, const char *payload);
    size_t (*subscribe)(char *out, uint64_t id, const char *channel);
    size_t (*publish)(char *out, uint64_t id, const char *channel, const char *payload);
    // The kind of a message, and the number of the call that it answers.
    enum kind (*read)(const uint8_t *message, size_t size, uint64_t *id);
};

// Return the dialect of a name, or NULL: "json", "json-add" (calls of "add"),
// "min-bin" (all SocketCluster 2) or "socketio".
const struct dialect *dialect_named(const char *name);
