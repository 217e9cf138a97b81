/* fuzz_http.c: requests to rhetor-serve and rhetor-label, over a socket. The first byte of an input says
 * which call its rest is the body of (a letter, see `calls`); after '~' the rest is the request as it
 * stands. No input may be answered with 500, none without an answer. */
#include "tests/fuzz/fuzz.h"

#if __has_include(<microhttpd.h>) && __has_include(<sqlite3.h>)
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>

#include <cmocka.h> /* for random_gpt.h */

#define OK(call) CHECK((call) >= 0, "%s", error_message())
#include "tests/train/lab.h"

#include "serve/http/chat_service.h"
#include "serve/http/label_service.h"

enum { WAIT_S = 10, SERVE = 0, LABEL = 1, REPLY = 1 << 16 };

static const struct {
    int server;
    const char *line;
} calls[] = {{SERVE, "POST /v1/completions"}, {SERVE, "POST /v1/chat/completions"},
             {SERVE, "POST /v1/score"},       {SERVE, "POST /tokenize"},
             {SERVE, "POST /detokenize"},     {SERVE, "POST /api/vote"},
             {SERVE, "POST /api/enter"},      {LABEL, "POST /api/answer"},
             {LABEL, "POST /api/draft"},      {LABEL, "POST /api/skip"},
             {LABEL, "POST /api/undo"},       {LABEL, "GET /api/task"},
             {LABEL, "GET /api/report"},      {SERVE, "GET /api/arena"}};
enum { CALLS = sizeof calls / sizeof *calls };

static Engine *engine[2];
static ChatService service = {.api = {.engine = engine}};
static Http *http[2];
static Label *db;
static char token[33];

/* A random model as a checkpoint (a file and its manifest), made by the first child; its engine. */
static void open_engine(const char *name, bool reward) {
    char *file = xasprintf("%s/%s.h5", fuzz.folder, name);
    if (!file_exists(file)) {
        char *dir = file_join(fuzz.folder, "run");
        const char *const special[] = {"<|endoftext|>"};
        const TrainOptions o = {LAB_VOCAB, 1, special, 1, TIE_BREAK_HF, false};
        Gpt *g = lab_model(reward, 1);
        Tokenizer *t;
        OK(tokenizer_train(&t, NULL, NULL, &o));
        lab_save(dir, reward ? STAGE_REWARD : STAGE_SFT, g, t, TEMPLATE_HH, NULL);
        char *move = xasprintf("cd '%s' && for f in run/checkpoints/step_*; do mv \"$f\" "
                               "\"%s.${f##*.}\"; done && rm -r run",
                               fuzz.folder, name);
        CHECK(system(move) == 0, "%s", move);
        free(move);
        gpt_close(&g);
        tokenizer_close(&t);
        free(dir);
    }
    const EngineOptions o = {.slots = 4, .queue = 8, .deadline_s = 2};
    OK(engine_open(&engine[service.api.n++], name, file, &o));
    free(file);
}

static void open_labels(void) {
    static const char *const names[] = {"labels.db", "labels.db-wal", "labels.db-shm"};
    for (int i = 2; i >= 0; i--) {
        char *path = file_join(fuzz.folder, names[i]);
        unlink(path);
        if (i == 0) OK(label_open(&db, path, &(LabelSettings){NULL, 1, 1, 3, 4}));
        free(path);
    }
    OK(label_token(db, "ann", true, token));
    for (int i = 0; i < 40; i++) {
        json_t *prompt = json_sprintf("Question %d", i), *record = json_object();
        json_t *two = json_pack("[s,s,s]", "one", "two", "two"),
               *ranks = json_pack("[i,i,i]", 1, 2, 2);
        OK(label_add(db, i % 4 ? "rank" : "write", prompt, i % 4 ? two : json_null(), record,
                     i % 4 == 1 ? ranks : NULL, i));
        json_decref(prompt), json_decref(record), json_decref(two), json_decref(ranks);
    }
}

static void open_servers(void) {
    const HttpOptions o = {.body_max = 1 << 17};
    core_init();
    open_engine("sft", false);
    open_engine("rm", true);
    open_labels();
    service.visitors.l = db;
    OK(http_open(&http[SERVE], &o, chat_service, &service));
    OK(http_open(&http[LABEL], &o, label_service, db));
}

/* Sends, reads to the end; the status, 0 without one. */
static int talk(int server, const char *text, size_t n, bool whole) {
    static char reply[REPLY];
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)http_port(http[server])),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    /* the rest of a broken request is waited for until the connection's timeout */
    const struct timeval wait = {.tv_sec = whole ? WAIT_S : 0, .tv_usec = 5000};
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    int status = 0;
    ssize_t got, have = 0;
    CHECK(s >= 0 && connect(s, (const struct sockaddr *)&to, sizeof to) == 0, "connect");
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    (void)!send(s, text, n, MSG_NOSIGNAL);
    if (!whole) shutdown(s, SHUT_WR);
    while ((got = recv(s, reply + have, REPLY - 1 - (size_t)have, 0)) > 0)
        have = have < REPLY / 2 ? have + got : have;
    CHECK(got == 0 || errno == ECONNRESET || !whole, "no end of the reply to %.*s", (int)n, text);
    reply[have] = '\0';
    if (sscanf(reply, "HTTP/%*s %d", &status) != 1) status = 0;
    CHECK(status != 500, "%.200s\nis the answer to %.*s", reply, (int)n, text);
    close(s);
    return status;
}

static void one(const uint8_t *data, size_t len) {
    if (!http[0]) open_servers();
    if (len < 1) return;
    if (*data == '~') {
        talk(data[len - 1] % 2, (const char *)data + 1, len - 1, false);
        return;
    }
    const int call = *data % 'a' % CALLS;
    Text t = {0};
    text_put(&t,
             "%s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             "Authorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n",
             calls[call].line, token, len - 1);
    text_bytes(&t, (const char *)data + 1, len - 1);
    CHECK(talk(calls[call].server, t.s, t.n, true) > 0, "no answer to %s", t.s);
    free(t.s);
}

FUZZ_MAIN(one, "\"prompt\"", "\"messages\"", "\"role\"", "\"content\"", "\"user\"", "\"n\":9",
          "\"stream\":true,", "\"stop\":", "\"logprobs\":5,", "\"top_logprobs\":5,",
          "\"echo\":true,", "\"max_tokens\":0,", "\"temperature\":0,", "\"top_p\":0.5,",
          "\"top_k\":3,", "\"seed\":1,", "\"model\":\"sft\",", "\"model\":\"rm\",",
          "\"completions\":[", "\"completion\":", "\"tokens\":[", "\"assignment\":1,", "\"body\":{",
          "\"rank\":[1,2,2],", "\"quality\":[1,2,3],", "\"flags\":[[],[],[]],",
          "\"id\":", "\"seconds\":", "null", "1e999", "-1", "\\u0000", "\\ud800", "[", "{", "\"",
          "]", "}", "\r\n",
          "Cookie: ", "Host: ", "Content-Length: ", "Transfer-Encoding: chunked\r\n", "HTTP/1.1",
          "%00", "?token=")
#else
int main(void) {
    puts("libmicrohttpd or SQLite is not here");
    return 77;
}
#endif
