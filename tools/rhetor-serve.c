/* rhetor-serve: checkpoints behind the OpenAI HTTP interface, with a page to chat and compare. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/openmp.h"
#include "base/option.h"
#include "base/utf8.h"
#include "core/kernel.h"
#include "serve/http/chat_service.h"

enum { MODELS = 16 };

typedef struct Args {
    OptionList model;
    const char *listen, *host, *labels, *key_file;
    int64_t port, slots, queue, body;
    double deadline, drain;
    bool bf16;
} Args;

static const Option options[] = {
    {"model", 'm', "[NAME=]PATH",
     "run folder or checkpoint, a language or a reward model; may be repeated, the first is the "
     "default",
     OPT_LIST(model)},
    {"listen", 0, "ADDRESS", "anything but the loopback needs --key-file or --labels (127.0.0.1)",
     OPT_TEXT(listen)},
    {"port", 'p', "N", "(8711)", OPT_WHOLE(port, 0, 65535)},
    {"host", 0, "NAME", "name by which clients call it, behind a proxy", OPT_TEXT(host)},
    {"key-file", 0, "FILE", "a file with the key that clients must know", OPT_TEXT(key_file)},
    {"labels", 0, "DB",
     "labelling database: its labellers' tokens are the keys, comparisons on the page go into it",
     OPT_TEXT(labels)},
    {"bf16", 0, NULL, "keep weights in bfloat16: half the memory, exact for published models",
     OPT_FLAG(bf16)},
    {"slots", 0, "N", "sequences decoded at once (chosen for the machine)",
     OPT_WHOLE(slots, 0, 4096)},
    {"queue", 0, "N", "completions that may wait; then 429 (256)", OPT_WHOLE(queue, 1, 1e6)},
    {"timeout", 0, "S", "longest time of a completion in seconds (300)",
     OPT_NUMBER(deadline, 0.001, 1e6)},
    {"drain", 0, "S", "after SIGTERM, time for what was begun (30)", OPT_NUMBER(drain, 0, 1e6)},
    {"max-body", 0, "N", "bytes of a request (1048576)", OPT_WHOLE(body, 1, 1e9)},
    {0}};

/* NAME=PATH, or a path whose last part is the name. */
static int open_engines(ChatService *s, const Args *a) {
    const EngineOptions o = {a->slots, a->queue, a->deadline, a->bf16};
    for (int i = 0; i < a->model.n; i++) {
        const char *text = a->model.v[i], *eq = strchr(text, '=');
        AUTOFREE char *path = xstrdup(eq ? eq + 1 : text);
        while (strlen(path) > 1 && path[strlen(path) - 1] == '/') path[strlen(path) - 1] = '\0';
        AUTOFREE char *name =
            eq ? strndup(text, (size_t)(eq - text)) : xstrdup(file_basename(path));
        if (!*name || strpbrk(name, "\"\\\n{}") || utf8_valid(name, strlen(name)) != strlen(name))
            return error_set(ERR_USAGE, "--model %s: a name without quotes, braces, line ends",
                             text);
        for (int j = 0; j < i; j++)
            if (strcmp(engine_name(s->api.engine[j]), name) == 0)
                return error_set(ERR_USAGE, "two models are called %s; --model OTHER=%s", name,
                                 path);
        TRY(engine_open(&s->api.engine[i], name, path, &o));
        const Loaded *m = engine_model(s->api.engine[i]);
        log_info("%s: %s, step %lld, context %lld%s", name, m->path, (long long)m->step,
                 (long long)m->cfg.context, m->cfg.scalar_head ? ", a reward model" : "");
        s->api.n++;
    }
    return 0;
}

static int read_key(char **key, const char *path) {
    size_t n;
    TRY(file_read(path, key, &n));
    (*key)[strcspn(*key, "\r\n")] = '\0';
    if (strlen(*key) < 16)
        return error_set(ERR_CONFIG,
                         "%s: the key has %zu characters, expected 16 or more; \"openssl rand "
                         "-hex 16\" makes one",
                         path, strlen(*key));
    return 0;
}

static int run(ChatService *s, const Args *a, char **key) {
    const bool loopback =
        !a->listen || strncmp(a->listen, "127.", 4) == 0 || strcmp(a->listen, "::1") == 0;
    Http *h;
    sigset_t stop;
    int signal_number;
    if (!loopback && !a->labels && !a->key_file)
        return error_set(ERR_USAGE, "--listen %s lets others in: give --key-file or --labels too",
                         a->listen);
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, NULL); /* for all threads to come */
    signal(SIGPIPE, SIG_IGN);
    if (a->key_file) TRY(read_key(key, a->key_file));
    s->visitors.key = *key;
    if (a->labels) TRY(label_open(&s->visitors.l, a->labels, NULL));
    TRY(open_engines(s, a));
    const HttpOptions o = {.listen = a->listen,
                           .host = a->host,
                           .port = (int)a->port,
                           .body_max = (size_t)a->body,
                           .connections = 1024};
    TRY(http_open(&h, &o, chat_service, s));
    log_info("serving: http://%s:%d/ and its /v1 (Ctrl-C ends)",
             a->listen ? a->listen : "127.0.0.1", http_port(h));
    sigwait(&stop, &signal_number);
    http_quiesce(h);
    log_info("finishing what was begun, %g s at most", a->drain);
    for (int i = 0; i < s->api.n; i++) engine_drain(s->api.engine[i], a->drain);
    http_close(&h); /* no handler runs any more */
    return 0;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {.port = 8711, .queue = 256, .deadline = 300, .drain = 30, .body = 1 << 20};
    option_parse(
        options, NULL,
        "Serves checkpoints: the OpenAI HTTP interface, and a page to chat and compare.\v"
        "rhetor-serve -m sft=runs/demo/sft -m ppo=runs/demo/ppo\n"
        "curl http://127.0.0.1:8711/v1/completions -H 'Content-Type: application/json' \\\n"
        "    -d '{\"prompt\": \"Where does Ana live?\", \"seed\": 1}'\n",
        argc, argv, &a);
    if (a.model.n == 0)
        return option_end(error_set(ERR_USAGE, "which model? --model runs/NAME/ppo"));
    if (a.model.n > MODELS) return option_end(error_set(ERR_USAGE, "at most %d models", MODELS));
    core_init();
    Engine *engine[MODELS] = {0};
    ChatService s = {.api = {.engine = engine}};
    AUTOFREE char *key = NULL;
    int rc = run(&s, &a, &key);
    for (int i = 0; i < s.api.n; i++) engine_close(&engine[i]);
    label_close(&s.visitors.l);
    free(a.model.v);
    return option_end(rc);
}
