/*
 * MQTT 3.1.1 load generator at QoS 1: one thread, epoll, Linux. It measures when a PUBACK comes, nothing else.
 *
 *   mqttload --port N [--publishers 50] [--bytes 200] [--seconds 10] [--warm 2] [--window 20 | --rate MSGS_PER_S]
 *            [--messages N] [--subscribers N] [--stalled N] [--ack-log FILE] [--run-id TEXT] [--base N]
 *
 * Two modes. Closed loop (--window): each publisher keeps that many messages in flight: it finds the highest rate.
 * Open loop (--rate): messages go out on a schedule, whatever comes back, and latency counts from the SCHEDULED time, so that a stall of the
 * broker shows in every message that had to wait for it (no coordinated omission).
 *
 * A payload is a thin-edge measurement, {"id":N,"time":…,"temperature":…}, of exactly --bytes bytes. With --ack-log the id of every acknowledged
 * message is written, 8 bytes little-endian, as soon as its PUBACK was read, so that the file is right also when the broker is killed.
 * Prints one JSON object. Exit: 0 finished, 2 could not connect or wrong use, 3 the broker went away.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_IDS = 65536, CLIENTS_MAX = 1024, IN_BYTES = 1 << 18, PAYLOAD_MAX = 60000, EVENTS = 256 };
/* MQTT 3.1.1 §2.2.1: packet types in the high nibble of the first byte. */
enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9, PINGRESP = 13 };

struct client {
  int fd, waits_for_write, subscribed, stalled;
  uint8_t *in, *out;
  size_t in_len, out_len, out_cap;
  uint16_t packet_id;
  long sent, acked;
  uint64_t *due_ns; /* by packet id */
  uint64_t *id;     /* by packet id */
};

static struct options {
  int port, publishers, bytes, window, subscribers, stalled;
  double seconds, warm, rate;
  long messages;
  uint64_t base;
  const char *ack_log, *run_id;
} opt = {.publishers = 50, .bytes = 200, .window = 20, .seconds = 10, .warm = 2, .run_id = "load"};

static struct client clients[CLIENTS_MAX];
static int epoll_fd, broker_gone, measuring;
static uint64_t next_id, *latency_ns;
static long latencies, latencies_max = 8000000, sent, acked, delivered;
static FILE *ack_log;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "mqttload: %s: %s\n", what, errno ? strerror(errno) : "failed");
  exit(2);
}

static void *need(void *memory) {
  if (!memory) die("memory");
  return memory;
}

static void append(struct client *c, const void *bytes, size_t n) {
  if (c->out_len + n > c->out_cap) {
    c->out_cap = (c->out_len + n) * 2;
    c->out = need(realloc(c->out, c->out_cap));
  }
  memcpy(c->out + c->out_len, bytes, n);
  c->out_len += n;
}

static void watch(struct client *c, int op, uint32_t events) {
  struct epoll_event e = {.events = events, .data.ptr = c};
  if (epoll_ctl(epoll_fd, op, c->fd, &e)) die("epoll_ctl");
}

/* Sends what waits; asks for EPOLLOUT only while the socket is full. */
static void flush(struct client *c) {
  size_t done = 0;
  while (done < c->out_len) {
    ssize_t n = send(c->fd, c->out + done, c->out_len - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      broker_gone = 1;
      return;
    }
    done += (size_t)n;
  }
  memmove(c->out, c->out + done, c->out_len - done);
  c->out_len -= done;
  int wait = c->out_len > 0;
  if (wait != c->waits_for_write) watch(c, EPOLL_CTL_MOD, EPOLLIN | (wait ? EPOLLOUT : 0u));
  c->waits_for_write = wait;
}

/* MQTT 3.1.1 §2.2.3: seven bits a byte, the highest says that more follow. */
static size_t put_length(uint8_t *at, size_t n) {
  size_t i = 0;
  do {
    at[i] = (uint8_t)(n % 128);
    n /= 128;
    if (n) at[i] |= 128;
    i++;
  } while (n);
  return i;
}

static void connect_client(struct client *c, const char *client_id) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket");
  if (c->stalled) { /* a small window makes a subscriber that reads nothing stall soon */
    int small = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  }
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  /* CONNECT (§3.1): protocol level 4, clean session, no keep-alive, client id. */
  uint8_t packet[80] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0}, reply[4];
  size_t id_len = strlen(client_id);
  packet[1] = (uint8_t)(12 + id_len);
  packet[13] = (uint8_t)id_len;
  memcpy(packet + 14, client_id, id_len);
  if (send(c->fd, packet, 14 + id_len, MSG_NOSIGNAL) < 0) die("CONNECT");
  errno = 0;
  if (recv(c->fd, reply, 4, MSG_WAITALL) != 4 || reply[0] >> 4 != CONNACK || reply[3] != 0) die("CONNACK");
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  c->in = need(malloc(IN_BYTES));
  c->due_ns = need(calloc(PACKET_IDS, sizeof *c->due_ns));
  c->id = need(calloc(PACKET_IDS, sizeof *c->id));
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

/* What an environment node sends, as thin-edge JSON of exactly `bytes` bytes: further channels while they fit, then white space. */
static void put_measurement(char *at, size_t bytes, uint64_t id) {
  unsigned n = (unsigned)id;
  char *end = at + bytes;
  char *p = at + sprintf(at, "{\"id\":%llu,\"time\":\"2026-11-22T08:%02u:%02u.%03uZ\",\"temperature\":%.2f,\"humidity\":%.2f", (unsigned long long)id, n / 60000 % 60,
                         n / 1000 % 60, n % 1000, 20 + n * 7919 % 1000 / 100.0, 40 + n * 104729 % 3000 / 100.0);
  for (unsigned channel = 0; end - p > 24; channel++) p += sprintf(p, ",\"channel_%u\":%.2f", channel, (n + channel * 131) % 1000 / 10.0);
  memset(p, ' ', (size_t)(end - p));
  end[-1] = '}';
}

static void publish(int index, uint64_t due_ns) {
  static uint8_t packet[PAYLOAD_MAX + 128];
  struct client *c = &clients[index];
  char topic[64];
  size_t topic_len = (size_t)snprintf(topic, sizeof topic, "te/device/%s-%d///m/environment", opt.run_id, index);
  size_t body = (size_t)opt.bytes, o = 1;
  packet[0] = 0x32; /* PUBLISH, QoS 1 */
  o += put_length(packet + 1, 2 + topic_len + 2 + body);
  packet[o++] = (uint8_t)(topic_len >> 8);
  packet[o++] = (uint8_t)topic_len;
  memcpy(packet + o, topic, topic_len);
  o += topic_len;
  if (++c->packet_id == 0) c->packet_id = 1;
  packet[o++] = (uint8_t)(c->packet_id >> 8);
  packet[o++] = (uint8_t)c->packet_id;
  uint64_t id = next_id++;
  put_measurement((char *)packet + o, body, id);
  append(c, packet, o + body);
  c->due_ns[c->packet_id] = due_ns;
  c->id[c->packet_id] = id;
  c->sent++;
  sent++;
}

static void on_packet(struct client *c, const uint8_t *packet, const uint8_t *body) {
  switch (packet[0] >> 4) {
    case PUBACK: {
      uint16_t packet_id = (uint16_t)(body[0] << 8 | body[1]);
      uint64_t due = c->due_ns[packet_id];
      if (due == 0) return; /* acknowledged twice */
      c->due_ns[packet_id] = 0;
      c->acked++;
      acked++;
      if (ack_log) fwrite(&c->id[packet_id], 8, 1, ack_log);
      if (measuring && latencies < latencies_max) latency_ns[latencies++] = now_ns() - due;
      break;
    }
    case PUBLISH: {
      delivered++;
      if ((packet[0] >> 1 & 3) == 0) break;
      const uint8_t *id = body + 2 + (body[0] << 8 | body[1]);
      uint8_t puback[4] = {PUBACK << 4, 2, id[0], id[1]};
      append(c, puback, 4);
      break;
    }
    case SUBACK:
      c->subscribed = 1;
      break;
    default:
      break;
  }
}

static void parse(struct client *c) {
  size_t at = 0;
  for (;;) {
    size_t length = 0, i = 1, have = c->in_len - at;
    int shift = 0;
    if (have < 2) break;
    for (;; i++, shift += 7) {
      if (i >= have) goto incomplete;
      length |= (size_t)(c->in[at + i] & 127) << shift;
      if (!(c->in[at + i] & 128)) break;
    }
    i++;
    if (have < i + length) break;
    on_packet(c, c->in + at, c->in + at + i);
    at += i + length;
  }
incomplete:
  memmove(c->in, c->in + at, c->in_len - at);
  c->in_len -= at;
}

static void receive(int timeout_ms) {
  struct epoll_event events[EVENTS];
  int n = epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
  for (int i = 0; i < n; i++) {
    struct client *c = events[i].data.ptr;
    ssize_t got = recv(c->fd, c->in + c->in_len, IN_BYTES - c->in_len, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
      if (!c->stalled) broker_gone = 1; /* a stalled subscriber is thrown out: that is the point */
      else epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
      continue;
    }
    if (got > 0) {
      c->in_len += (size_t)got;
      parse(c);
    }
    if (c->out_len) flush(c);
  }
  if (ack_log && n > 0) fflush(ack_log);
}

static void connect_all(void) {
  char id[48];
  for (int i = 0; i < opt.publishers; i++) {
    snprintf(id, sizeof id, "%s-%d-%d", opt.run_id, getpid(), i);
    connect_client(&clients[i], id);
  }
  for (int i = 0; i < opt.subscribers + opt.stalled; i++) {
    struct client *c = &clients[opt.publishers + i];
    c->stalled = i >= opt.subscribers;
    snprintf(id, sizeof id, "%s-%d-s%d", opt.run_id, getpid(), i);
    connect_client(c, id);
    static const uint8_t subscribe[] = {0x82, 9, 0, 1, 0, 4, 't', 'e', '/', '#', 1};
    append(c, subscribe, sizeof subscribe);
    flush(c);
    while (!c->subscribed && !broker_gone) receive(100);
    if (c->stalled) watch(c, EPOLL_CTL_MOD, 0); /* from now on nobody reads here; EPOLLHUP still comes */
  }
}

/* Sends what is due. In open loop the schedule starts at `start`, message k is due at k / rate. */
static void feed(uint64_t start, long *scheduled) {
  if (opt.rate > 0) {
    long due = (long)((double)(now_ns() - start) * 1e-9 * opt.rate);
    for (; *scheduled < due && sent < opt.messages; ++*scheduled) {
      struct client *c = &clients[*scheduled % opt.publishers];
      if (c->sent - c->acked >= PACKET_IDS - 1) break; /* packet ids are used up: what is late stays due */
      publish((int)(*scheduled % opt.publishers), start + (uint64_t)((double)*scheduled / opt.rate * 1e9));
    }
  } else {
    for (int i = 0; i < opt.publishers; i++)
      while (clients[i].sent - clients[i].acked < opt.window && sent < opt.messages) publish(i, now_ns());
  }
  for (int i = 0; i < opt.publishers; i++)
    if (clients[i].out_len && !clients[i].waits_for_write) flush(&clients[i]);
}

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double quantile_ms(double q) {
  return latencies ? (double)latency_ns[(long)((double)(latencies - 1) * q)] / 1e6 : 0;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void read_options(int argc, char **argv) {
  static const struct option names[] = {
    {"port", 1, 0, 'p'}, {"publishers", 1, 0, 'n'}, {"bytes", 1, 0, 'b'}, {"seconds", 1, 0, 's'}, {"warm", 1, 0, 'w'}, {"window", 1, 0, 'i'},
    {"rate", 1, 0, 'r'}, {"messages", 1, 0, 'm'}, {"subscribers", 1, 0, 'u'}, {"stalled", 1, 0, 't'}, {"ack-log", 1, 0, 'a'}, {"run-id", 1, 0, 'd'},
    {"base", 1, 0, 'B'}, {0, 0, 0, 0}};
  int o;
  opt.messages = INT64_MAX;
  while ((o = getopt_long(argc, argv, "", names, NULL)) != -1) switch (o) {
    case 'p': opt.port = atoi(optarg); break;
    case 'n': opt.publishers = atoi(optarg); break;
    case 'b': opt.bytes = atoi(optarg); break;
    case 's': opt.seconds = atof(optarg); break;
    case 'w': opt.warm = atof(optarg); break;
    case 'i': opt.window = atoi(optarg); break;
    case 'r': opt.rate = atof(optarg); break;
    case 'm': opt.messages = atol(optarg); break;
    case 'u': opt.subscribers = atoi(optarg); break;
    case 't': opt.stalled = atoi(optarg); break;
    case 'a': opt.ack_log = optarg; break;
    case 'd': opt.run_id = optarg; break;
    case 'B': opt.base = strtoull(optarg, NULL, 10); break;
    default: exit(2);
  }
  if (opt.port <= 0 || opt.publishers < 1 || opt.publishers + opt.subscribers + opt.stalled > CLIENTS_MAX || opt.bytes < 128 || opt.bytes > PAYLOAD_MAX ||
      opt.window < 1 || opt.window > 60000 || strlen(opt.run_id) > 16) {
    fprintf(stderr, "mqttload: --port is needed; 1..%d clients, 128..%d bytes, run id of at most 16 characters\n", CLIENTS_MAX, PAYLOAD_MAX);
    exit(2);
  }
}

int main(int argc, char **argv) {
  read_options(argc, argv);
  next_id = opt.base;
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  latency_ns = need(malloc((size_t)latencies_max * sizeof *latency_ns));
  if (opt.ack_log && !(ack_log = fopen(opt.ack_log, "wb"))) die(opt.ack_log);
  connect_all();

  uint64_t start = now_ns(), warm_end = start + (uint64_t)(opt.warm * 1e9), end = warm_end + (uint64_t)(opt.seconds * 1e9), measured_from = start;
  long acked_before = 0, sent_before = 0, scheduled = 0;
  double cpu_before = 0;
  while (!broker_gone) {
    uint64_t t = now_ns();
    if (!measuring && t >= warm_end) {
      measuring = 1;
      measured_from = t;
      acked_before = acked;
      sent_before = sent;
      cpu_before = cpu_seconds();
    }
    if (t >= end || (sent >= opt.messages && acked >= sent)) break;
    feed(start, &scheduled);
    receive(opt.rate > 0 ? 0 : 1);
    if (opt.rate > 0) nanosleep(&(struct timespec){0, 100000}, NULL);
  }
  uint64_t stop = now_ns();
  long acked_measured = acked - acked_before, sent_measured = sent - sent_before;
  double seconds = (double)(stop - measured_from) / 1e9, cpu = cpu_seconds() - cpu_before;
  /* What is under way may still be acknowledged: the log must hold it. */
  for (uint64_t from = now_ns(); !broker_gone && acked < sent && now_ns() - from < 5000000000u;) receive(20);
  if (ack_log) fclose(ack_log);
  qsort(latency_ns, (size_t)latencies, sizeof *latency_ns, by_value);
  printf("{\"ackedPerSecond\":%.1f,\"sentPerSecond\":%.1f,\"seconds\":%.3f,\"sent\":%ld,\"acked\":%ld,\"delivered\":%ld,\"p50Ms\":%.3f,\"p99Ms\":%.3f,"
         "\"p999Ms\":%.3f,\"maxMs\":%.3f,\"generatorCpu\":%.3f,\"brokerGone\":%s}\n",
         (double)acked_measured / seconds, (double)sent_measured / seconds, seconds, sent, acked, delivered, quantile_ms(.5), quantile_ms(.99),
         quantile_ms(.999), quantile_ms(1), cpu / seconds, broker_gone ? "true" : "false");
  return broker_gone ? 3 : 0;
}
