/* http.h: a small HTTP server on libmicrohttpd: limits, headers that keep browsers safe, replies
 * at once or bit by bit.
 *
 * Handlers run in the server's one thread, so what they share needs no locks among them; a reply
 * that takes long is a stream that another thread feeds. */
#ifndef SERVE_HTTP_HTTP_H
#define SERVE_HTTP_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

typedef struct HttpOptions {
    const char *listen; /* numeric address; NULL: 127.0.0.1 */
    const char *host;   /* name by which clients may call it besides the loopback's; NULL: none */
    int port;           /* 0: one that is free */
    size_t body_max;    /* bytes of a request's body; more is 413 */
    int connections;    /* at a time; 0: 256 */
    int timeout_s;      /* of a silent connection; 0: 60 */
} HttpOptions;

typedef struct HttpRequest {
    const char *method, *path; /* without the query */
    const char *body;          /* NUL after its last byte */
    size_t size;
    void *connection; /* of the library */
} HttpRequest;

/* What comes bit by bit. read: up to n bytes into `to`; 0: nothing yet (http_wake says when), -1:
 * the end. Both are called by the server's thread; `done` also when the client has left. */
typedef struct HttpStream {
    long (*read)(void *ctx, char *to, size_t n);
    void (*done)(void *ctx);
    void *ctx;
    void *connection; /* set by the server: for http_wake */
} HttpStream;

typedef struct HttpReply {
    int status;       /* 200 */
    const char *type; /* "application/json" */
    Text body;        /* ours: freed after it is sent */
    const char *page; /* or bytes that live on */
    size_t page_size;
    char *cookie, *location; /* malloc'd, or NULL */
    int retry_after;         /* seconds; 0: no header */
    HttpStream *stream;      /* or this, then *stream must live until done */
    const char *csp;         /* NULL: nothing from elsewhere, no inline scripts */
} HttpReply;

typedef void HttpHandler(void *ctx, const HttpRequest *q, HttpReply *r);

typedef struct Http Http;
/* Listens and answers in a thread of its own until http_close. ERR_CONFIG (address), ERR_IO. */
int http_open(Http **out, const HttpOptions *o, HttpHandler *handler, void *ctx);
void http_close(Http **h);
int http_port(const Http *h);
/* Accepts nothing new; connections that are there go on. */
void http_quiesce(Http *h);

const char *http_header(const HttpRequest *q, const char *name); /* NULL: none */
const char *http_query(const HttpRequest *q, const char *name);
const char *http_cookie(const HttpRequest *q, const char *name);

/* From any thread: the stream may have more. Not after done: who wakes from another thread holds a
 * lock that done takes. */
void http_wake(HttpStream *s);

/* Has the client closed its side? Before done only, as http_wake. */
bool http_left(const HttpStream *s);

/* The reply is this JSON (taken over); an error in the form of OpenAI's and ours:
 * {"error": {"message", "type"}}. */
void http_json(HttpReply *r, int status, json_t *j);
void http_error(HttpReply *r, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The body as a JSON object, at most `depth` brackets deep; NULL after the reply says what is
 * wrong with it (415 where its type is not JSON). */
json_t *http_body(const HttpRequest *q, HttpReply *r, int depth);

/* Did a page of ours, or no page at all, make this request? (Browsers send Origin with what another
 * site's page made.) */
bool http_same_origin(const HttpRequest *q);

/* 128 bits of the kernel's random numbers in 32 hexadecimal digits. */
int http_token(char out[33]);
/* In a time that does not tell where they differ. */
bool http_equal(const char *a, const char *b);

#endif
