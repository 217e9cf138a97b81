/* http.c: see http.h. */
#include "serve/http/http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"

struct Http {
    struct MHD_Daemon *daemon;
    HttpHandler *handler;
    void *ctx;
    HttpOptions o;
    bool loopback;
};

/* A request whose body is still coming. */
typedef struct HttpBody {
    Text text;
    bool too_long;
} HttpBody;

#define CSP_STRICT                                                                                \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src " \
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/* --- replies ---------------------------------------------------------------------------------- */

void http_json(HttpReply *r, int status, json_t *j) {
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    r->status = status;
    r->type = "application/json";
    r->body.n = 0;
    text_bytes(&r->body, text, strlen(text));
    free(text);
}

void http_error(HttpReply *r, int status, const char *fmt, ...) {
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    const char *type = status == 429 || status == 503 ? "overloaded"
                       : status >= 500                ? "server_error"
                                                      : "invalid_request_error";
    json_t *text = json_string(message);
    http_json(r, status,
              json_pack("{s:{s:o, s:s, s:i}}", "error", "message",
                        text ? text : json_string("error"), "type", type, "code", status));
}

static long stream_read(void *ctx, uint64_t at, char *to, size_t n) {
    HttpStream *s = ctx;
    const long got = s->read(s->ctx, to, n);
    if (got > 0) return got;
    if (got < 0) return MHD_CONTENT_READER_END_OF_STREAM;
    MHD_suspend_connection(s->connection); /* a wake in between is not lost: it undoes this */
    return 0;
}

static void stream_done(void *ctx) {
    HttpStream *s = ctx;
    s->done(s->ctx);
}

void http_wake(HttpStream *s) { MHD_resume_connection(s->connection); }

bool http_left(const HttpStream *s) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(s->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    return i && recv(i->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static enum MHD_Result send_reply(struct MHD_Connection *c, HttpReply *r) {
    struct MHD_Response *m;
    if (r->stream) {
        r->stream->connection = c;
        m = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 8192, stream_read, r->stream,
                                              stream_done);
    } else if (r->page) {
        m = MHD_create_response_from_buffer(r->page_size, (void *)(uintptr_t)r->page,
                                            MHD_RESPMEM_PERSISTENT);
    } else {
        const size_t n = r->body.n;
        m = MHD_create_response_from_buffer(n, text_take(&r->body), MHD_RESPMEM_MUST_FREE);
    }
    if (!m) return MHD_NO;
    MHD_add_response_header(m, "Content-Type", r->type);
    MHD_add_response_header(m, "Content-Security-Policy", r->csp ? r->csp : CSP_STRICT);
    MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(m, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(m, "Cross-Origin-Resource-Policy", "same-origin");
    MHD_add_response_header(m, "Cache-Control", r->page ? "no-cache" : "no-store");
    if (r->cookie) MHD_add_response_header(m, "Set-Cookie", r->cookie);
    if (r->location) MHD_add_response_header(m, "Location", r->location);
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", r->retry_after);
    if (r->retry_after) MHD_add_response_header(m, "Retry-After", seconds);
    const enum MHD_Result ok = MHD_queue_response(c, (unsigned)r->status, m);
    MHD_destroy_response(m);
    free(r->cookie);
    free(r->location);
    free(r->body.s);
    return ok;
}

/* --- requests --------------------------------------------------------------------------------- */

const char *http_header(const HttpRequest *q, const char *name) {
    return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

const char *http_query(const HttpRequest *q, const char *name) {
    return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_cookie(const HttpRequest *q, const char *name) {
    return MHD_lookup_connection_value(q->connection, MHD_COOKIE_KIND, name);
}

/* Deep nesting costs a parser stack; what stands in strings does not count. */
static int depth_of(const char *s, size_t n) {
    int depth = 0, deepest = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        if (string) {
            if (s[i] == '\\') i++;
            string = s[i] != '"';
        } else if (s[i] == '"') {
            string = true;
        } else if (s[i] == '[' || s[i] == '{') {
            if (++depth > deepest) deepest = depth;
        } else if (s[i] == ']' || s[i] == '}') {
            depth--;
        }
    }
    return deepest;
}

json_t *http_body(const HttpRequest *q, HttpReply *r, int depth) {
    const char *type = http_header(q, "Content-Type");
    json_t *j = NULL;
    json_error_t e;
    if (!type || strncasecmp(type, "application/json", 16) != 0)
        http_error(r, 415, "the body must be JSON (Content-Type: application/json)");
    else if (depth_of(q->body, q->size) > depth)
        http_error(r, 400, "the body is nested more than %d deep", depth);
    else if (!(j = json_loadb(q->body, q->size, JSON_REJECT_DUPLICATES, &e)))
        http_error(r, 400, "the body is no JSON: line %d, column %d: %s", e.line, e.column, e.text);
    else if (!json_is_object(j))
        http_error(r, 400, "the body is %s, expected an object", json_kind(j));
    else
        return j;
    json_decref(j);
    return NULL;
}

bool http_same_origin(const HttpRequest *q) {
    const char *origin = http_header(q, "Origin"), *host = http_header(q, "Host");
    const char *site = http_header(q, "Sec-Fetch-Site");
    if (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0) return false;
    if (!origin) return true;
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

/* Is `host` (with or without port) this name? */
static bool names(const char *host, const char *name) {
    const size_t n = strlen(name);
    return strncasecmp(host, name, n) == 0 && (host[n] == '\0' || host[n] == ':');
}

/* A name that resolves to us but is not ours: another site's page tries to reach this machine (DNS
 * rebinding). */
static bool host_is_ours(const Http *h, const HttpRequest *q) {
    const char *host = http_header(q, "Host");
    if (!h->loopback && !h->o.host) return true;
    return host &&
           (names(host, "localhost") || names(host, "127.0.0.1") || names(host, "[::1]") ||
            (h->o.host && names(host, h->o.host)) || (!h->loopback && names(host, h->o.listen)));
}

static enum MHD_Result answer(void *ctx, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state) {
    Http *h = ctx;
    HttpBody *b = *state;
    if (!b) {
        *state = xcalloc(1, sizeof *b);
        return MHD_YES;
    }
    if (*size) {
        if (b->text.n + *size > h->o.body_max)
            b->too_long = true;
        else
            text_bytes(&b->text, data, *size);
        *size = 0;
        return MHD_YES;
    }
    const HttpRequest q = {method, url, b->text.s ? b->text.s : "", b->text.n, c};
    HttpReply r = {.status = 200, .type = "text/plain; charset=utf-8"};
    if (!host_is_ours(h, &q))
        http_error(&r, 421, "this server is not called so; --host NAME allows a name");
    else if (b->too_long)
        http_error(&r, 413, "the body has more than %zu bytes", h->o.body_max);
    else
        h->handler(h->ctx, &q, &r);
    return send_reply(c, &r);
}

static void ended(void *ctx, struct MHD_Connection *c, void **state,
                  enum MHD_RequestTerminationCode why) {
    HttpBody *b = *state;
    if (!b) return;
    free(b->text.s);
    free(b);
    *state = NULL;
}

/* --- the server ------------------------------------------------------------------------------- */

int http_open(Http **out, const HttpOptions *o, HttpHandler *handler, void *ctx) {
    *out = NULL;
    const char *address = o->listen ? o->listen : "127.0.0.1";
    char port[16];
    snprintf(port, sizeof port, "%d", o->port);
    struct addrinfo want = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(address, port, &want, &found) != 0)
        return error_set(ERR_CONFIG,
                         "--listen %s is no address; expected one like 127.0.0.1, 0.0.0.0 or ::1",
                         address);
    Http *h = xcalloc(1, sizeof *h);
    *h = (Http){.handler = handler, .ctx = ctx, .o = *o};
    h->o.listen = address;
    h->loopback = found->ai_family == AF_INET6
                      ? IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr)
                      : strncmp(address, "127.", 4) == 0;
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
            (found->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0),
        (uint16_t)o->port, NULL, NULL, answer, h, MHD_OPTION_SOCK_ADDR, found->ai_addr,
        MHD_OPTION_NOTIFY_COMPLETED, ended, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(o->connections ? o->connections : 256), MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(o->timeout_s ? o->timeout_s : 60), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)(64 << 10), MHD_OPTION_END);
    freeaddrinfo(found);
    if (!h->daemon) {
        free(h);
        return error_set(ERR_IO, "cannot listen on %s, port %d: is the port taken? --port N",
                         address, o->port);
    }
    *out = h;
    return 0;
}

void http_close(Http **h) {
    if (!*h) return;
    MHD_stop_daemon((*h)->daemon);
    free(*h);
    *h = NULL;
}

int http_port(const Http *h) {
    return MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

void http_quiesce(Http *h) {
    const MHD_socket s = MHD_quiesce_daemon(h->daemon);
    if (s != MHD_INVALID_SOCKET) close(s);
}

/* --- tokens ----------------------------------------------------------------------------------- */

int http_token(char out[33]) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return error_set(ERR_IO, "the kernel gives no random numbers");
    for (int i = 0; i < 16; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

bool http_equal(const char *a, const char *b) {
    const size_t n = strlen(a), m = strlen(b);
    unsigned char differ = n != m;
    for (size_t i = 0; i < n && m; i++) differ |= (unsigned char)(a[i] ^ b[i < m ? i : m - 1]);
    return !differ;
}
