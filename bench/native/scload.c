// scload: a load generator for SocketCluster and Socket.IO servers; one thread, loopback only.
//
//   scload MODE --port P [--publisher-port P] --pid PID [--pid PID...]
//          [--dialect json|json-add|min-bin|socketio] [--sockets N] [--in-flight W] [--seconds S]
//          [--warm-up S] [--payload BYTES] [--channels K] [--subscribers M] [--published C]
//          [--deflate] [--lockstep] [--stay]
//
//   rpc       N sockets, each with W calls of "echo" (or "add") in flight; an operation is a call
//   publish   N subscribers of one channel, one publisher with W calls in flight; an operation is
//             a delivery. With --lockstep the next publish waits for all deliveries of the last.
//   channels  N sockets, of which M subscribe to K channels of their own each; one publisher goes
//             through the first C channels, else all, with W calls in flight; an operation is a
//             publish
//   connect   opens N sockets, W at a time; an operation is a connection with its handshake. With
//             --stay they stay open until the program is ended, after the result.
//   idle      opens N sockets and answers pings for S seconds
//   close     opens N sockets that subscribe to one channel, then closes all at once; an operation
//             is a close
//
// Prints one line of JSON: the number of operations, the CPU microseconds of the processes PID per
// operation, their memory, and percentiles of the time until an answer.
#define _GNU_SOURCE
#include "connection.h"
#include "dialect.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PAYLOAD = 4 << 20, OPENED_AT_ONCE = 64, STRIDE = 7919, MAX_PROCESSES = 32 };
static const double PATIENCE = 60; // Time limit for each step of the server, in seconds.

static struct {
    const char *mode;
    const struct dialect *dialect;
    int sockets, in_flight, payload, channels, subscribers, published;
    int pids[MAX_PROCESSES], processes;
    double seconds, warm_up;
    bool lockstep, stay;
} run = {.sockets = 50, .in_flight = 1, .payload = 100, .channels = 1, .subscribers = -1,
         .seconds = 3, .warm_up = 1};

static bool calls, publishes, spread; // The properties of the mode.
static char *payload, *scratch;
static uint64_t ready, answers, deliveries, publishes_sent, awaited;
static bool measuring;
static double *latencies;
static size_t latency_count, latency_capacity;

// Sending

static const char *channel_name(uint64_t number)
{
    static char name[32];
    snprintf(name, sizeof name, "bench-%lu", number);
    return name;
}

static void send_message(struct connection *connection, size_t size)
{
    connection_send(connection, run.dialect->binary, scratch, size);
}

static void send_operation(struct connection *connection)
{
    uint64_t id = ++connection->last_id;
    connection->sent_at[id % run.in_flight] = now();
    if (calls) {
        send_message(connection, run.dialect->call(scratch, id, payload));
        return;
    }
    const char *name = channel_name(spread ? publishes_sent * STRIDE % run.published : 0);
    publishes_sent++;
    send_message(connection, run.dialect->publish(scratch, id, name, payload));
}

static void subscribe(struct connection *connection)
{
    connection->state = SUBSCRIBING;
    connection->unanswered = connection->channels;
    for (int i = 0; i < connection->channels; i++) {
        const char *name = channel_name(connection->first_channel + i);
        send_message(connection, run.dialect->subscribe(scratch, ++connection->last_id, name));
    }
}

// Receiving

static void become_ready(struct connection *connection)
{
    connection->state = READY;
    ready++;
}

static void note_latency(double seconds)
{
    if (latency_count == latency_capacity) {
        latency_capacity = latency_capacity ? latency_capacity * 2 : 1 << 20;
        latencies = realloc(latencies, latency_capacity * sizeof *latencies);
    }
    latencies[latency_count++] = seconds;
}

static void take_answer(struct connection *connection, uint64_t id)
{
    if (connection->state == HANDSHAKING && connection->channels)
        subscribe(connection);
    else if (connection->state == HANDSHAKING)
        become_ready(connection);
    else if (connection->state == SUBSCRIBING && --connection->unanswered == 0)
        become_ready(connection);
    else if (connection->state == READY) {
        answers++;
        if (measuring)
            note_latency(now() - connection->sent_at[id % run.in_flight]);
        if (!run.lockstep)
            send_operation(connection);
    }
}

static void shake_hands(struct connection *connection)
{
    connection->last_id = 1;
    send_message(connection, run.dialect->handshake(scratch));
}

static void upgraded(struct connection *connection)
{
    if (!run.dialect->greeted)
        shake_hands(connection);
}

static void take_message(struct connection *connection, const uint8_t *message, size_t size)
{
    uint64_t id = 0;
    switch (run.dialect->read(message, size, &id)) {
    case PING:
        connection_send(connection, false, run.dialect->pong, strlen(run.dialect->pong));
        break;
    case GREETING:
        shake_hands(connection);
        break;
    case ANSWER:
        take_answer(connection, id);
        break;
    case DELIVERY:
        deliveries++;
        break;
    case REFUSAL:
        fail("The server answered with an error: %.*s", (int)(size < 300 ? size : 300), message);
    case OTHER:
        break;
    }
}

// The CPU time and memory of the server's processes

static double cpu_seconds(void)
{
    double seconds = 0;
    for (int i = 0; i < run.processes; i++) {
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(run.pids[i], &clock) || clock_gettime(clock, &time))
            fail("There is no process %d", run.pids[i]);
        seconds += time.tv_sec + time.tv_nsec * 1e-9;
    }
    return seconds;
}

static FILE *open_process(int pid, const char *name, const char *mode)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, mode);
    if (!file)
        fail("There is no process %d", pid);
    return file;
}

static double memory_kb(const char *field)
{
    char line[256];
    double sum = 0;
    for (int i = 0; i < run.processes; i++) {
        long value = 0;
        FILE *file = open_process(run.pids[i], "status", "r");
        while (fgets(line, sizeof line, file))
            if (!strncmp(line, field, strlen(field)))
                sscanf(line + strlen(field), ": %ld", &value);
        fclose(file);
        sum += value;
    }
    return sum;
}

static void forget_peak_memory(void)
{
    for (int i = 0; i < run.processes; i++) {
        FILE *file = open_process(run.pids[i], "clear_refs", "w");
        if (fputs("5", file) < 0 || fclose(file))
            fail("The peak memory of process %d cannot be reset", run.pids[i]);
    }
}

// Modes

static bool all_ready(void)
{
    return ready >= awaited || connections_lost;
}

static bool all_lost(void)
{
    return connections_lost >= awaited;
}

static bool all_delivered(void)
{
    return deliveries >= awaited && answers >= publishes_sent;
}

static void open_all(struct connection *connections, int count)
{
    int at_once = strcmp(run.mode, "connect") ? OPENED_AT_ONCE : run.in_flight;
    for (int start = 0; start < count; start += at_once) {
        int end = start + at_once < count ? start + at_once : count;
        for (int i = start; i < end; i++)
            connection_open(&connections[i]);
        awaited = end;
        loop_run(now() + PATIENCE, all_ready);
        if (ready < awaited)
            fail("Only %lu of %lu sockets got ready", ready, awaited);
    }
}

static void publish_in_lockstep(struct connection *publisher, double until)
{
    while (now() < until && !connections_lost) {
        awaited = deliveries + run.sockets;
        send_operation(publisher);
        connection_flush(publisher);
        loop_run(now() + PATIENCE, all_delivered);
        if (!all_delivered())
            fail("Only some of the deliveries came");
    }
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double percentile_ms(double part)
{
    return latency_count ? latencies[(size_t)(latency_count * part)] * 1e3 : 0;
}

static void measure_operations(struct connection *connections, int count)
{
    struct connection *first = calls ? connections : &connections[count - 1];
    double memory = memory_kb("VmRSS");
    forget_peak_memory();
    for (struct connection *each = first; each < connections + count && !run.lockstep; each++) {
        for (int i = 0; i < run.in_flight; i++)
            send_operation(each);
        connection_flush(each);
    }
    if (run.lockstep)
        publish_in_lockstep(first, now() + run.warm_up);
    else
        loop_run(now() + run.warm_up, NULL);

    uint64_t *counted = publishes && !spread ? &deliveries : &answers, before = *counted;
    double cpu = cpu_seconds(), start = now();
    measuring = true;
    if (run.lockstep)
        publish_in_lockstep(first, start + run.seconds);
    else
        loop_run(start + run.seconds, NULL);
    double seconds = now() - start, used = cpu_seconds() - cpu, operations = *counted - before;
    if (connections_lost || operations == 0)
        fail("%lu sockets were lost, %.0f operations done", connections_lost, operations);
    qsort(latencies, latency_count, sizeof *latencies, by_value);
    printf(",\"operations\":%.0f,\"ops_per_s\":%.0f,\"cpu_us\":%.4f,\"cpu_share\":%.3f",
           operations, operations / seconds, used * 1e6 / operations, used / seconds);
    printf(",\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"p999_ms\":%.4f,\"peak_kb\":%.0f",
           percentile_ms(0.5), percentile_ms(0.99), percentile_ms(0.999),
           memory_kb("VmHWM") - memory);
}

static void measure_idling(void)
{
    loop_run(now() + run.warm_up, NULL);
    double cpu = cpu_seconds(), start = now();
    loop_run(start + run.seconds, NULL);
    if (connections_lost)
        fail("%lu sockets were lost", connections_lost);
    printf(",\"cpu_share\":%.4f", (cpu_seconds() - cpu) / (now() - start));
}

static void measure_closing(struct connection *connections, int count)
{
    double cpu = cpu_seconds(), start = now();
    for (int i = 0; i < count; i++) {
        connection_send_close(&connections[i]);
        connection_flush(&connections[i]);
    }
    awaited = count;
    loop_run(now() + PATIENCE, all_lost);
    if (!all_lost())
        fail("Only %lu of %lu sockets were closed", connections_lost, awaited);
    double seconds = now() - start;
    loop_run(now() + run.warm_up, NULL); // While the server cleans up.
    printf(",\"cpu_us\":%.3f,\"seconds\":%.3f", (cpu_seconds() - cpu) * 1e6 / count, seconds);
}

static struct connection *make_connections(int count)
{
    struct connection *connections = calloc(count, sizeof *connections);
    bool subscribing = publishes || !strcmp(run.mode, "close");
    for (int i = 0; i < count; i++) {
        connections[i].publishes = publishes && i == run.sockets;
        if (subscribing && i < run.subscribers)
            connections[i].channels = run.channels;
        connections[i].first_channel = spread ? (uint64_t)i * run.channels : 0;
        if (calls || connections[i].publishes)
            connections[i].sent_at = calloc(run.in_flight, sizeof(double));
    }
    return connections;
}

static void read_arguments(int count, char **arguments, struct endpoint *endpoint)
{
    enum { PORT, PID, DIALECT, SOCKETS, IN_FLIGHT, SECONDS, WARM_UP, PAYLOAD, CHANNELS,
           SUBSCRIBERS, PUBLISHED, DEFLATE, LOCKSTEP, STAY, PUBLISHER_PORT };
    static const struct option options[] = {
        {"port", 1, 0, PORT}, {"pid", 1, 0, PID}, {"dialect", 1, 0, DIALECT},
        {"sockets", 1, 0, SOCKETS}, {"in-flight", 1, 0, IN_FLIGHT}, {"seconds", 1, 0, SECONDS},
        {"warm-up", 1, 0, WARM_UP}, {"payload", 1, 0, PAYLOAD}, {"channels", 1, 0, CHANNELS},
        {"subscribers", 1, 0, SUBSCRIBERS}, {"published", 1, 0, PUBLISHED},
        {"deflate", 0, 0, DEFLATE}, {"lockstep", 0, 0, LOCKSTEP}, {"stay", 0, 0, STAY},
        {"publisher-port", 1, 0, PUBLISHER_PORT}, {0},
    };
    run.dialect = dialect_named("json");
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        switch (option) {
        case PORT: endpoint->port = atoi(optarg); break;
        case PUBLISHER_PORT: endpoint->publisher_port = atoi(optarg); break;
        case PID:
            if (run.processes == MAX_PROCESSES)
                fail("At most %d processes can be measured", MAX_PROCESSES);
            run.pids[run.processes++] = atoi(optarg);
            break;
        case DIALECT: run.dialect = dialect_named(optarg); break;
        case SOCKETS: run.sockets = atoi(optarg); break;
        case IN_FLIGHT: run.in_flight = atoi(optarg); break;
        case SECONDS: run.seconds = atof(optarg); break;
        case WARM_UP: run.warm_up = atof(optarg); break;
        case PAYLOAD: run.payload = atoi(optarg); break;
        case CHANNELS: run.channels = atoi(optarg); break;
        case SUBSCRIBERS: run.subscribers = atoi(optarg); break;
        case PUBLISHED: run.published = atoi(optarg); break;
        case DEFLATE: endpoint->deflate = true; break;
        case LOCKSTEP: run.lockstep = true; break;
        case STAY: run.stay = true; break;
        default: exit(2);
        }
    }
    if (optind != count - 1 || !run.dialect || !endpoint->port || !run.processes ||
        run.sockets < 1 || run.in_flight < 1 || run.channels < 1 || run.payload < 0 ||
        run.payload > MAX_PAYLOAD)
        fail("usage: see the top of scload.c");
    run.mode = arguments[optind];
    endpoint->path = run.dialect->path;
    if (!endpoint->publisher_port)
        endpoint->publisher_port = endpoint->port;
    if (run.subscribers < 0)
        run.subscribers = run.sockets;
    if (!run.published)
        run.published = run.subscribers * run.channels;
}

int main(int count, char **arguments)
{
    struct endpoint endpoint = {0};
    read_arguments(count, arguments, &endpoint);
    calls = !strcmp(run.mode, "rpc");
    spread = !strcmp(run.mode, "channels");
    publishes = spread || !strcmp(run.mode, "publish");
    payload = calloc(1, run.payload + 1);
    memset(payload, 'x', run.payload);
    scratch = malloc(run.payload + 1024);
    loop_start(&endpoint, take_message, upgraded);

    int total = run.sockets + publishes;
    struct connection *connections = make_connections(total);
    double memory = memory_kb("VmRSS"), cpu = cpu_seconds(), start = now();
    open_all(connections, total);
    printf("{\"mode\":\"%s\",\"sockets\":%d,\"connect_per_s\":%.0f,\"connect_us\":%.2f",
           run.mode, total, total / (now() - start), (cpu_seconds() - cpu) * 1e6 / total);
    printf(",\"kb_per_socket\":%.3f", (memory_kb("VmRSS") - memory) / total);
    if (calls || publishes)
        measure_operations(connections, total);
    else if (!strcmp(run.mode, "idle"))
        measure_idling();
    else if (!strcmp(run.mode, "close"))
        measure_closing(connections, total);
    else if (strcmp(run.mode, "connect"))
        fail("There is no mode %s", run.mode);
    printf("}\n");
    fflush(stdout);
    while (run.stay)
        loop_run(now() + PATIENCE, NULL);
    return 0;
}
