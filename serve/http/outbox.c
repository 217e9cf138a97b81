/* outbox.c: see outbox.h. */
#include "serve/http/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void outbox_init(Outbox *b, OpenAi *o, void (*drop)(void *owner), void *owner) {
    b->o = o;
    b->drop = drop;
    b->owner = owner;
    pthread_mutex_init(&b->lock, NULL);
}

void outbox_free(Outbox *b) {
    for (int i = 0; i < b->n; i++) engine_task_free(b->task[i]);
    free(b->text.s);
    pthread_mutex_destroy(&b->lock);
}

/* The client is gone before the end: its other tasks end, too. */
static void give_up(Outbox *b) {
    if (!b->gone) atomic_fetch_add(&b->o->left, 1);
    b->gone = true;
    for (int i = 0; i < b->n; i++) atomic_store(&b->task[i]->cancelled, true);
}

void outbox_lock(Outbox *b) { pthread_mutex_lock(&b->lock); }

bool outbox_unlock(Outbox *b, bool done) {
    b->left -= done;
    if (!b->closed && b->left > 0 && http_left(&b->stream)) give_up(b);
    if (!b->closed && (b->left == 0 || b->text.n > b->sent)) http_wake(&b->stream);
    const bool drop = b->closed && b->left == 0, more = !b->gone;
    pthread_mutex_unlock(&b->lock);
    if (drop) b->drop(b->owner);
    return more;
}

void outbox_json(Outbox *b, const char *before, json_t *j, const char *after) {
    AUTOFREE char *text = json_dumps(j, JSON_COMPACT);
    text_put(&b->text, "%s%s%s", before, text, after);
    json_decref(j);
}

/* --- the server's thread --------------------------------------------------------------------------- */

static long read_out(void *ctx, char *to, size_t n) {
    Outbox *b = ctx;
    outbox_lock(b);
    long got = b->left == 0 ? -1 : 0;
    if (b->text.n > b->sent) {
        got = (long)(b->text.n - b->sent < n ? b->text.n - b->sent : n);
        memcpy(to, b->text.s + b->sent, (size_t)got);
        b->sent += (size_t)got;
        if (b->sent == b->text.n) b->sent = b->text.n = 0;
    }
    pthread_mutex_unlock(&b->lock);
    return got;
}

static void reader_left(void *ctx) {
    Outbox *b = ctx;
    outbox_lock(b);
    b->closed = true;
    const bool drop = b->left == 0;
    if (!drop) give_up(b);
    pthread_mutex_unlock(&b->lock);
    if (drop) b->drop(b->owner);
}

void outbox_send(Outbox *b, Engine *e, int rc, const HttpRequest *h, HttpReply *r) {
    b->stream = (HttpStream){read_out, reader_left, b, h->connection};
    b->left = b->n;
    if (rc >= 0 && engine_submit(e, b->task, b->n)) {
        r->stream = &b->stream;
        return;
    }
    if (rc < 0)
        openai_refuse(r, rc);
    else {
        http_error(r, 429, "too much is waiting already; try again");
        r->retry_after = 1;
    }
    b->drop(b->owner);
}
