/* events.c: TensorBoard's event files.
 *
 * A file is a row of TFRecords: length (u64), masked CRC32C of the length, data, masked CRC32C of
 * the data. The data is a protocol buffer `Event`, of which we write four fields by hand: 1
 * wall_time (double)   2 step (int64)   3 file_version (string, first record only) 5 summary:
 * repeated 1 value: 1 tag (string), 2 simple_value (float) or 8 tensor: 1 dtype = 7 (string), 2
 * shape (empty: a scalar), 8 string_val, with 9 metadata { 1 plugin_data { 1 plugin_name = "text" }
 * } (tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.h.) */
#include "train/events.h"

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "events.out.tfevents."

struct Events {
    FILE *f;
    char *path;
    Text summary;       /* of the step */
    Text value, record; /* what is being put together; kept, so that a step allocates nothing */
};

/* --- protocol buffers ------------------------------------------------------------------------- */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 }; /* wire types */

static void put_varint(Text *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) text_bytes(b, &(unsigned char){(unsigned char)(v | 0x80)}, 1);
    text_bytes(b, &(unsigned char){(unsigned char)v}, 1);
}

static void put_key(Text *b, int field, int type) { put_varint(b, (uint64_t)(field << 3 | type)); }

static void put_bytes(Text *b, int field, const void *data, size_t n) {
    put_key(b, field, BYTES);
    put_varint(b, n);
    text_bytes(b, data, n);
}

static void put_message(Text *b, int field, Text *message) {
    put_bytes(b, field, message->s, message->n);
    free(message->s);
    *message = (Text){0};
}

/* --- records ---------------------------------------------------------------------------------- */

static uint32_t masked_crc(const void *data, size_t n) {
    static uint32_t table[256];
    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0); /* Castagnoli */
            table[i] = c;
        }
    uint32_t c = ~0u;
    for (const unsigned char *p = data, *end = p + n; p < end; p++)
        c = table[(c ^ *p) & 0xFF] ^ c >> 8;
    c = ~c;
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

enum { HEADER = 12, FOOTER = 4 };

/* Integers are little-endian in the file as in the memory of the machines we run on. */
static void put_record(Text *b, const Text *data) {
    uint64_t n = data->n;
    uint32_t crc_n = masked_crc(&n, sizeof n), crc_data = masked_crc(data->s, data->n);
    text_bytes(b, &n, sizeof n);
    text_bytes(b, &crc_n, sizeof crc_n);
    text_bytes(b, data->s, data->n);
    text_bytes(b, &crc_data, sizeof crc_data);
}

/* Size of the record at the beginning of p; 0 where there is no whole one. */
static size_t record_size(const unsigned char *p, size_t left) {
    uint64_t n;
    uint32_t crc;
    if (left < HEADER + FOOTER) return 0;
    memcpy(&n, p, sizeof n);
    memcpy(&crc, p + sizeof n, sizeof crc);
    if (crc != masked_crc(p, sizeof n) || n > left - HEADER - FOOTER) return 0;
    memcpy(&crc, p + HEADER + n, sizeof crc);
    return crc == masked_crc(p + HEADER, n) ? HEADER + n + FOOTER : 0;
}

/* Our records have wall_time and step in front. */
static int64_t record_step(const unsigned char *record, size_t size) {
    enum { AT = HEADER + 9 };
    uint64_t step = 0;
    if (size <= AT + FOOTER || record[AT] != (2 << 3 | VARINT)) return 0;
    for (size_t i = AT + 1, shift = 0; i < size - FOOTER && shift < 64; i++, shift += 7) {
        step |= (uint64_t)(record[i] & 0x7F) << shift;
        if (record[i] < 0x80) break;
    }
    return (int64_t)step;
}

/* `event` is scratch. */
static void put_event(Text *b, Text *event, int64_t step, int field, const void *data, size_t n) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    event->n = 0;
    put_key(event, 1, FIXED64);
    text_bytes(event, &now, sizeof now);
    put_key(event, 2, VARINT);
    put_varint(event, (uint64_t)step);
    put_bytes(event, field, data, n);
    put_record(b, event);
}

/* --- the file --------------------------------------------------------------------------------- */

/* Names begin with the time, so the newest is the last one; it begins with all that its forerunner
 * held, which is therefore not needed any more. */
static char *next_name(const char *newest) {
    long long now = (long long)time(NULL), then = newest ? atoll(newest + strlen(PREFIX)) : 0;
    char host[256] = "host";
    gethostname(host, sizeof host - 1);
    return xasprintf(PREFIX "%010lld.%s", now > then ? now : then + 1, host);
}

static void keep_steps(Text *b, const char *data, size_t len, int64_t step) {
    const unsigned char *p = (const unsigned char *)data;
    for (size_t at = 0, size; (size = record_size(p + at, len - at)) > 0; at += size) {
        if (record_step(p + at, size) > step) break;
        text_bytes(b, p + at, size);
    }
}

static int open_in(Events *e, const char *dir, char **names, int n, int64_t step) {
    const char *newest = n > 0 ? names[n - 1] : NULL;
    char *name = next_name(newest), *data = NULL;
    Text b = {0};
    size_t len;
    int rc = 0;
    e->path = file_join(dir, name);
    free(name);
    if (newest) {
        char *path = file_join(dir, newest);
        rc = file_read(path, &data, &len);
        free(path);
        if (rc == 0) keep_steps(&b, data, len, step);
        free(data);
    }
    if (b.n == 0) put_event(&b, &e->value, 0, 3, "brain.Event:2", strlen("brain.Event:2"));
    if (rc == 0) rc = file_write_durable(e->path, b.s, b.n);
    free(b.s);
    for (int i = 0; i < n && rc == 0; i++) {
        char *path = file_join(dir, names[i]);
        rc = file_remove(path);
        free(path);
    }
    if (rc == 0 && !(e->f = fopen(e->path, "ab"))) rc = file_error(e->path, "open");
    return rc;
}

int events_open(Events **out, const char *dir, int64_t step) {
    char **names;
    int n, ours = 0;
    *out = NULL;
    TRY(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) { /* ours to the front, in their order */
        char *name = names[i];
        if (strncmp(name, PREFIX, strlen(PREFIX)) != 0) continue;
        if (strstr(name, ".tmp.")) { /* of a process that was killed in file_write_durable */
            char *path = file_join(dir, name);
            file_remove(path);
            free(path);
            continue;
        }
        names[i] = names[ours];
        names[ours++] = name;
    }
    Events *e = xcalloc(1, sizeof *e);
    int rc = open_in(e, dir, names, ours, step);
    file_free_list(&names, n);
    if (rc < 0) events_close(&e);
    *out = e;
    return rc;
}

void events_close(Events **ep) {
    Events *e = *ep;
    if (!e) return;
    if (e->f) fclose(e->f);
    free(e->path);
    free(e->summary.s);
    free(e->value.s);
    free(e->record.s);
    free(e);
    *ep = NULL;
}

/* --- values ----------------------------------------------------------------------------------- */

void events_scalar(Events *e, const char *tag, double value) {
    float v = (float)value;
    Text *b = &e->value;
    b->n = 0;
    put_bytes(b, 1, tag, strlen(tag));
    put_key(b, 2, FIXED32);
    text_bytes(b, &v, sizeof v);
    put_bytes(&e->summary, 1, b->s, b->n);
}

void events_text(Events *e, const char *tag, const char *text, size_t len) {
    /* It is shown as Markdown, in which indented lines stay as they are. */
    Text shown = {0}, value = {0}, tensor = {0}, shape = {0}, metadata = {0}, plugin = {0};
    for (const char *end = text + len, *line = text; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *next = newline ? newline + 1 : end;
        text_bytes(&shown, "    ", 4);
        text_bytes(&shown, line, (size_t)(next - line));
        line = next;
    }
    put_bytes(&value, 1, tag, strlen(tag));
    put_key(&tensor, 1, VARINT);
    put_varint(&tensor, 7); /* DT_STRING */
    put_message(&tensor, 2, &shape);
    put_message(&tensor, 8, &shown);
    put_message(&value, 8, &tensor);
    put_bytes(&plugin, 1, "text", 4);
    put_message(&metadata, 1, &plugin);
    put_message(&value, 9, &metadata);
    put_message(&e->summary, 1, &value);
}

int events_flush(Events *e, int64_t step) {
    if (e->summary.n == 0) return 0;
    Text *b = &e->record;
    b->n = 0;
    put_event(b, &e->value, step, 5, e->summary.s, e->summary.n);
    e->summary.n = 0;
    bool good = fwrite(b->s, 1, b->n, e->f) == b->n && fflush(e->f) == 0;
    return good ? 0 : file_error(e->path, "write");
}
