/* events.c: TensorBoard's event files.
 *
 * A file is a row of TFRecords: length (u64), masked CRC32C of the length, data, masked CRC32C of
 * the data. The data is a protocol buffer `Event`, of which we write five fields by hand:
 *
 *   1 wall_time (double)
 *   2 step (int64)
 *   3 file_version (string): the first record's
 *   5 summary: repeated 1 value: 1 tag (string), with 2 simple_value (float), or
 *     8 tensor: 1 dtype = 7 (string), 2 shape (empty: a scalar), 8 string_val, and
 *     9 metadata { 1 plugin_data { 1 plugin_name = "text" } }
 *   7 session_log: 1 status = 1 (START). A reader then forgets what earlier files say of this step
 *     and later ones, so a resumed run begins another file and rewrites none.
 *
 * (tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.h.) */
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

/* Integers are little-endian in the file as in the memory of the machines we run on. */
static int write_event(Events *e, int64_t step, int field, const void *data, size_t n) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    const double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    Text *event = &e->value, *b = &e->record;
    event->n = b->n = 0;
    put_key(event, 1, FIXED64);
    text_bytes(event, &now, sizeof now);
    put_key(event, 2, VARINT);
    put_varint(event, (uint64_t)step);
    put_bytes(event, field, data, n);
    const uint64_t size = event->n;
    text_bytes(b, &size, sizeof size);
    text_bytes(b, &(uint32_t){masked_crc(&size, sizeof size)}, 4);
    text_bytes(b, event->s, event->n);
    text_bytes(b, &(uint32_t){masked_crc(event->s, event->n)}, 4);
    const bool good = fwrite(b->s, 1, b->n, e->f) == b->n && fflush(e->f) == 0;
    return good ? 0 : file_error(e->path, "write");
}

/* --- the file --------------------------------------------------------------------------------- */

/* The seconds in the name of the newest event file; 0: there is none. Readers take files in the
 * order of their names. */
static int newest_of(const char *dir, long long *newest) {
    char **names;
    int n;
    *newest = 0;
    TRY(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        long long at;
        if (sscanf(names[i], PREFIX "%lld.", &at) == 1 && at > *newest) *newest = at;
    }
    file_free_list(&names, n);
    return 0;
}

int events_open(Events **out, const char *dir, int64_t step) {
    long long newest, now = (long long)time(NULL);
    char host[256] = "host";
    *out = NULL;
    TRY(newest_of(dir, &newest));
    gethostname(host, sizeof host - 1);
    Events *e = xcalloc(1, sizeof *e);
    e->path = xasprintf("%s/" PREFIX "%010lld.%s", dir, now > newest ? now : newest + 1, host);
    e->f = fopen(e->path, "wb");
    int rc = e->f ? write_event(e, 0, 3, "brain.Event:2", strlen("brain.Event:2"))
                  : file_error(e->path, "open");
    if (rc == 0 && newest > 0) rc = write_event(e, step > 0 ? step + 1 : 0, 7, "\x08\x01", 2);
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
    const int rc = write_event(e, step, 5, e->summary.s, e->summary.n);
    e->summary.n = 0;
    return rc;
}
