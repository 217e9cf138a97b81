/* outbox.h: the reply to a request that engines' threads write and the server's thread sends. Its tasks
 * add text as they come; a client that leaves before the last is done ends the others. */
#ifndef SERVE_HTTP_OUTBOX_H
#define SERVE_HTTP_OUTBOX_H

#include <pthread.h>

#include "serve/http/openai.h"

enum { OUTBOX_TASKS = 128 };

typedef struct Outbox {
    EngineTask *task[OUTBOX_TASKS]; /* [n] owned; added before outbox_send */
    int n, left;                    /* those that are not done */
    Text text;                      /* not sent before `sent` */
    size_t sent;
    bool gone; /* the client left before the end */
    /* Its own: */
    bool closed; /* nobody reads any more */
    pthread_mutex_t lock;
    HttpStream stream;
    OpenAi *o;
    void (*drop)(void *owner);
    void *owner;
} Outbox;

/* drop: frees the owner, whose last act on the box is outbox_free. */
void outbox_init(Outbox *b, OpenAi *o, void (*drop)(void *owner), void *owner);
void outbox_free(Outbox *b);

/* Gives the tasks to e and the box to the reply; or, if rc < 0 or e has no room (429), the reply says why
 * and the owner is dropped. */
void outbox_send(Outbox *b, Engine *e, int rc, const HttpRequest *h, HttpReply *r);

/* Between them a task's thread may write text and what the tasks share. `done`: the task is; then the box
 * may be gone afterwards. false: nobody waits for more. */
void outbox_lock(Outbox *b);
bool outbox_unlock(Outbox *b, bool done);

/* Adds before, j (taken over), after; under the lock. */
void outbox_json(Outbox *b, const char *before, json_t *j, const char *after);

#endif
