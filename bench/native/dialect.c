#define _GNU_SOURCE
#include "dialect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starts(const uint8_t *message, size_t size, const char *with)
{
    size_t length = strlen(with);
    return size >= length && !memcmp(message, with, length);
}

// Parse a number that ends before the end of the message.
static uint64_t number_at(const uint8_t *text)
{
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + *text - '0';
    return value;
}

// SocketCluster protocol 2, JSON

static size_t json_handshake(char *out)
{
    return sprintf(out, "{\"event\":\"#handshake\",\"data\":{\"authToken\":null},\"cid\":1}");
}

static size_t json_call(char *out, uint64_t id, const char *payload)
{
    return sprintf(out, "{\"event\":\"echo\",\"data\":\"%s\",\"cid\":%lu}", payload, id);
}

static size_t json_add(char *out, uint64_t id, const char *payload)
{
    (void)payload;
    return sprintf(out, "{\"event\":\"add\",\"data\":{\"a\":1,\"b\":%lu},\"cid\":%lu}", id, id);
}

static size_t json_subscribe(char *out, uint64_t id, const char *channel)
{
    return sprintf(out, "{\"event\":\"#subscribe\",\"data\":{\"channel\":\"%s\"},\"cid\":%lu}",
                   channel, id);
}

static size_t json_publish(char *out, uint64_t id, const char *channel, const char *payload)
{
    return sprintf(out,
                   "{\"event\":\"#publish\",\"data\":{\"channel\":\"%s\",\"data\":\"%s\"},"
                   "\"cid\":%lu}",
                   channel, payload, id);
}

static enum kind json_read(const uint8_t *message, size_t size, uint64_t *id)
{
    if (size == 0)
        return PING;
    if (message[0] != '{' || starts(message, size, "{\"event\":\"#publish\""))
        return DELIVERY; // A message that is not JSON is compressed.
    const uint8_t *rid = memmem(message, size, "\"rid\":", 6);
    if (!rid)
        return OTHER;
    *id = number_at(rid + 6);
    return memmem(message, size < 64 ? size : 64, "\"error\"", 7) ? REFUSAL : ANSWER;
}

// SocketCluster protocol 2, min-bin: {"e": [event, data, cid]}, {"p": [channel, data, cid]} and
// {"r": [rid, error, data]} in MessagePack

enum { MAP_1 = 0x81, STRING_1 = 0xa1, ARRAY_3 = 0x93, NIL = 0xc0 };

static char *put_string(char *out, const char *text)
{
    size_t size = strlen(text);
    if (size < 32) {
        *out++ = 0xa0 | size;
    } else {
        *out++ = 0xdb;
        for (int shift = 24; shift >= 0; shift -= 8)
            *out++ = size >> shift & 255;
    }
    memcpy(out, text, size);
    return out + size;
}

static char *put_start(char *out, char key)
{
    *out++ = MAP_1;
    *out++ = STRING_1;
    *out++ = key;
    *out++ = ARRAY_3;
    return out;
}

static size_t put_id(char *start, char *out, uint64_t id)
{
    *out++ = 0xcf;
    for (int shift = 56; shift >= 0; shift -= 8)
        *out++ = id >> shift & 255;
    return out - start;
}

static char *put_map_1(char *out, const char *key)
{
    *out++ = MAP_1;
    return put_string(out, key);
}

static size_t min_bin_handshake(char *out)
{
    char *end = put_map_1(put_string(put_start(out, 'e'), "#handshake"), "authToken");
    *end++ = NIL;
    return put_id(out, end, 1);
}

static size_t min_bin_call(char *out, uint64_t id, const char *payload)
{
    return put_id(out, put_string(put_string(put_start(out, 'e'), "echo"), payload), id);
}

static size_t min_bin_subscribe(char *out, uint64_t id, const char *channel)
{
    char *end = put_map_1(put_string(put_start(out, 'e'), "#subscribe"), "channel");
    return put_id(out, put_string(end, channel), id);
}

static size_t min_bin_publish(char *out, uint64_t id, const char *channel, const char *payload)
{
    return put_id(out, put_string(put_string(put_start(out, 'p'), channel), payload), id);
}

static enum kind min_bin_read(const uint8_t *message, size_t size, uint64_t *id)
{
    if (size == 0)
        return PING;
    if (size < 6 || message[0] != MAP_1 || message[1] != STRING_1)
        return OTHER;
    if (message[2] == 'p')
        return DELIVERY;
    if (message[2] != 'r')
        return OTHER;
    const uint8_t *number = message + 4; // After the head of the array.
    size_t bytes = *number < 0x80 ? 0 : 1 << (*number - 0xcc);
    *id = bytes ? 0 : *number;
    for (size_t i = 1; i <= bytes; i++)
        *id = *id << 8 | number[i];
    return number[bytes + 1] == NIL ? ANSWER : REFUSAL;
}

// Socket.IO 5 over Engine.IO 4

static size_t socketio_handshake(char *out)
{
    return sprintf(out, "40");
}

static size_t socketio_call(char *out, uint64_t id, const char *payload)
{
    return sprintf(out, "42%lu[\"echo\",\"%s\"]", id, payload);
}

static size_t socketio_subscribe(char *out, uint64_t id, const char *channel)
{
    return sprintf(out, "42%lu[\"subscribe\",\"%s\"]", id, channel);
}

static size_t socketio_publish(char *out, uint64_t id, const char *channel, const char *payload)
{
    return sprintf(out, "42%lu[\"publish\",\"%s\",\"%s\"]", id, channel, payload);
}

static enum kind socketio_read(const uint8_t *message, size_t size, uint64_t *id)
{
    if (starts(message, size, "42["))
        return DELIVERY;
    if (starts(message, size, "43")) {
        *id = number_at(message + 2);
        return ANSWER;
    }
    if (starts(message, size, "40{")) {
        *id = 1;
        return ANSWER;
    }
    if (starts(message, size, "0{"))
        return GREETING;
    if (starts(message, size, "2"))
        return PING;
    return starts(message, size, "44") ? REFUSAL : OTHER;
}

static const struct dialect DIALECTS[] = {
    {"json", "/socketcluster/", false, false, "", json_handshake, json_call, json_subscribe,
     json_publish, json_read},
    {"json-add", "/socketcluster/", false, false, "", json_handshake, json_add, json_subscribe,
     json_publish, json_read},
    {"min-bin", "/socketcluster/", true, false, "", min_bin_handshake, min_bin_call,
     min_bin_subscribe, min_bin_publish, min_bin_read},
    {"socketio", "/socket.io/?EIO=4&transport=websocket", false, true, "3", socketio_handshake,
     socketio_call, socketio_subscribe, socketio_publish, socketio_read},
};

const struct dialect *dialect_named(const char *name)
{
    for (size_t i = 0; i < sizeof DIALECTS / sizeof *DIALECTS; i++)
        if (!strcmp(DIALECTS[i].name, name))
            return &DIALECTS[i];
    return NULL;
}
