/* openai.c: see openai.h. */
#include "serve/http/openai.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"

enum { CHOICES = 128, STOPS = 16, DEPTH = 16, COMPLETION_TOKENS = 16 /* as OpenAI's default */ };

typedef struct ServeRequest ServeRequest;

/* One of a request's completions. */
typedef struct ServeChoice {
    ServeRequest *q;
    EngineTask *t;
    AnswerStream *stream;
    char *echo; /* the prompt's text, or NULL */
    Text text;  /* so far, without a stop text */
    size_t sent;
    bool stopped; /* by a stop text */
} ServeChoice;

/* A request that is being answered: the decoder's threads write, the server's thread sends. */
struct ServeRequest {
    OpenAi *o;
    Engine *e;
    bool chat, streaming, usage;
    int n, left; /* choices; those that are not done */
    ServeChoice *choice;
    char *stop[STOPS];
    int nstop;
    char id[64];
    int64_t created, prompt_tokens;
    HttpStream stream;
    Text out;
    size_t sent;
    bool closed;  /* nobody reads any more */
    bool counted; /* in o->left */
};

/* Of all requests: what they do under it is short. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void request_free(ServeRequest *q) {
    for (int i = 0; i < q->n; i++) {
        ServeChoice *c = &q->choice[i];
        if (c->stream) answer_stream_free(&c->stream);
        engine_task_free(c->t);
        free(c->echo);
        free(c->text.s);
    }
    for (int i = 0; i < q->nstop; i++) free(q->stop[i]);
    free(q->choice);
    free(q->out.s);
    free(q);
}

/* --- JSON of what came out --------------------------------------------------------------------- */

/* Text that is JSON's whatever the bytes are. */
static json_t *json_text(const char *s, size_t n) {
    size_t len;
    AUTOFREE char *valid = utf8_repair(s, n, &len);
    return json_stringn(valid, len);
}

static json_t *token_text(const Loaded *m, int32_t id) {
    size_t n = 0;
    const char *bytes = tokenizer_token_bytes(m->tokenizer, id, &n);
    return json_text(bytes ? bytes : "", bytes ? n : 0);
}

static json_t *number_or_null(float v) { return isfinite(v) ? json_real((double)v) : json_null(); }

static int32_t token_at(const EngineTask *t, int64_t i) {
    return i < t->nids ? t->ids[i] : t->seq.tokens[i - t->nids];
}

/* The older form: parallel lists. */
static json_t *completion_logprobs(const Loaded *m, const EngineTask *t, int64_t from, int64_t to) {
    json_t *tokens = json_array(), *logps = json_array(), *tops = json_array(),
           *offsets = json_array();
    size_t offset = 0;
    for (int64_t i = from; i < to; i++) {
        json_t *text = token_text(m, token_at(t, i)), *top = json_object();
        for (int j = 0; j < t->top; j++) {
            json_t *name = token_text(m, t->top_id[i * t->top + j]);
            if (!json_object_get(top, json_string_value(name)))
                json_object_set_new(top, json_string_value(name),
                                    number_or_null(t->top_logp[i * t->top + j]));
            json_decref(name);
        }
        json_array_append_new(offsets, json_integer((json_int_t)offset));
        offset += json_string_length(text);
        json_array_append_new(tokens, text);
        json_array_append_new(logps, number_or_null(t->logp[i]));
        if (i == 0 || t->top <= 0) { /* the first token has none */
            json_decref(top);
            top = json_null();
        }
        json_array_append_new(tops, top);
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", logps,
                     "top_logprobs", tops, "text_offset", offsets);
}

static json_t *token_object(const Loaded *m, int32_t id, float logp) {
    size_t n = 0;
    const char *s = tokenizer_token_bytes(m->tokenizer, id, &n);
    json_t *bytes = json_array();
    for (size_t i = 0; s && i < n; i++)
        json_array_append_new(bytes, json_integer((unsigned char)s[i]));
    return json_pack("{s:o, s:o, s:o}", "token", token_text(m, id), "logprob", number_or_null(logp),
                     "bytes", bytes);
}

static json_t *chat_logprobs(const Loaded *m, const EngineTask *t, int64_t from, int64_t to) {
    json_t *content = json_array();
    for (int64_t i = from; i < to; i++) {
        json_t *one = token_object(m, token_at(t, i), t->logp[i]), *top = json_array();
        for (int j = 0; j < t->top; j++)
            json_array_append_new(
                top, token_object(m, t->top_id[i * t->top + j], t->top_logp[i * t->top + j]));
        json_object_set_new(one, "top_logprobs", top);
        json_array_append_new(content, one);
    }
    return json_pack("{s:o}", "content", content);
}

static json_t *logprobs(const ServeChoice *c, int64_t from, int64_t to) {
    const Loaded *m = engine_model(c->q->e);
    if (c->t->top < 0) return json_null();
    return c->q->chat ? chat_logprobs(m, c->t, from, to) : completion_logprobs(m, c->t, from, to);
}

static const char *reason(const ServeChoice *c) {
    return c->stopped || c->t->seq.stopped ? "stop" : "length";
}

static json_t *head(const ServeRequest *q, const char *object) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "id", q->id, "object", object, "created",
                     (json_int_t)q->created, "model", engine_name(q->e), "system_fingerprint",
                     engine_model(q->e)->id ? engine_model(q->e)->id : "");
}

static json_t *usage_of(const ServeRequest *q) {
    int64_t tokens = 0;
    for (int i = 0; i < q->n; i++) tokens += q->choice[i].t->seq.n;
    return json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)q->prompt_tokens,
                     "completion_tokens", (json_int_t)tokens, "total_tokens",
                     (json_int_t)(q->prompt_tokens + tokens));
}

static void whole_reply(ServeRequest *q) {
    json_auto_t *all = head(q, q->chat ? "chat.completion" : "text_completion");
    json_t *choices = json_array();
    for (int i = 0; i < q->n; i++) {
        ServeChoice *c = &q->choice[i];
        json_t *text = json_text(c->text.s ? c->text.s : "", c->text.n);
        json_t *one =
            json_pack("{s:i, s:s, s:o}", "index", i, "finish_reason", reason(c), "logprobs",
                      logprobs(c, c->t->echo ? 0 : c->t->nids, c->t->nids + c->t->seq.n));
        if (q->chat)
            json_object_set_new(one, "message",
                                json_pack("{s:s, s:o}", "role", "assistant", "content", text));
        else
            json_object_set_new(one, "text", text);
        json_array_append_new(choices, one);
    }
    json_object_set_new(all, "choices", choices);
    json_object_set_new(all, "usage", usage_of(q));
    char *text = json_dumps(all, JSON_COMPACT);
    text_put(&q->out, "%s", text);
    free(text);
}

static void put_event(ServeRequest *q, json_t *event) {
    char *text = json_dumps(event, JSON_COMPACT);
    text_put(&q->out, "data: %s\n\n", text);
    free(text);
    json_decref(event);
}

/* A piece of a choice; finish: NULL or why it ends. */
static void put_piece(ServeChoice *c, const char *text, size_t n, int64_t from, int64_t to,
                      const char *finish) {
    ServeRequest *q = c->q;
    const int index = (int)(c - q->choice);
    json_t *event = head(q, q->chat ? "chat.completion.chunk" : "text_completion");
    json_t *one = json_pack("{s:i, s:s?, s:o}", "index", index, "finish_reason", finish, "logprobs",
                            to > from ? logprobs(c, from, to) : json_null());
    if (q->chat)
        json_object_set_new(one, "delta",
                            n ? json_pack("{s:o}", "content", json_text(text, n)) : json_object());
    else
        json_object_set_new(one, "text", json_text(text, n));
    json_object_set_new(event, "choices", json_pack("[o]", one));
    put_event(q, event);
}

/* --- while it comes ------------------------------------------------------------------------------ */

/* Appends a piece; true: a stop text came, which is cut off. */
static bool add_text(ServeChoice *c, const char *piece) {
    const ServeRequest *q = c->q;
    const size_t before = c->text.n;
    text_bytes(&c->text, piece, strlen(piece));
    for (int i = 0; i < q->nstop; i++) {
        const size_t len = strlen(q->stop[i]), from = before > len ? before - len : 0;
        const char *at = c->text.s ? strstr(c->text.s + from, q->stop[i]) : NULL;
        if (!at) continue;
        c->text.n = (size_t)(at - c->text.s);
        c->text.s[c->text.n] = '\0';
        c->stopped = true;
    }
    return c->stopped;
}

/* What may be sent: not the end that may begin a stop text. */
static size_t sure(const ServeChoice *c) {
    size_t held = 0;
    for (int i = 0; i < c->q->nstop && !c->stopped; i++) {
        size_t n = strlen(c->q->stop[i]) - 1;
        if (n > c->text.n) n = c->text.n;
        while (n > held && memcmp(c->text.s + c->text.n - n, c->q->stop[i], n) != 0) n--;
        held = n > held ? n : held;
    }
    return c->text.n - held;
}

static void wake(ServeRequest *q) {
    if (!q->closed) http_wake(&q->stream);
}

/* The client is gone before the end: its other completions end, too. */
static void give_up(ServeRequest *q) {
    if (!q->counted) atomic_fetch_add(&q->o->left, 1);
    q->counted = true;
    for (int i = 0; i < q->n; i++) atomic_store(&q->choice[i].t->cancelled, true);
}

static int on_token(EngineTask *t, int32_t token) {
    ServeChoice *c = t->ctx;
    ServeRequest *q = c->q;
    pthread_mutex_lock(&lock);
    bool end = add_text(c, answer_stream_add(c->stream, token));
    if (q->streaming && !q->closed) {
        const size_t to = sure(c);
        const int64_t at = t->nids + t->seq.n - 1;
        if (to > c->sent || t->top >= 0) {
            put_piece(c, c->text.s ? c->text.s + c->sent : "", to > c->sent ? to - c->sent : 0, at,
                      at + 1, NULL);
            c->sent = to > c->sent ? to : c->sent;
            wake(q);
        }
    }
    if (!q->closed && http_left(&q->stream)) give_up(q);
    end = end || q->closed || q->counted;
    pthread_mutex_unlock(&lock);
    return end;
}

static void last_events(ServeRequest *q) {
    if (q->usage) {
        json_t *event = head(q, q->chat ? "chat.completion.chunk" : "text_completion");
        json_object_set_new(event, "choices", json_array());
        json_object_set_new(event, "usage", usage_of(q));
        put_event(q, event);
    }
    text_put(&q->out, "data: [DONE]\n\n");
}

static void on_done(EngineTask *t) {
    ServeChoice *c = t->ctx;
    ServeRequest *q = c->q;
    pthread_mutex_lock(&lock);
    if (!c->stopped) add_text(c, answer_stream_end(c->stream));
    if (q->streaming)
        put_piece(c, c->text.s ? c->text.s + c->sent : "", c->text.n - c->sent, 0, 0, reason(c));
    if (--q->left == 0) {
        if (q->streaming)
            last_events(q);
        else
            whole_reply(q);
    }
    const bool gone = q->closed && q->left == 0;
    wake(q);
    pthread_mutex_unlock(&lock);
    if (gone) request_free(q);
}

static long read_out(void *ctx, char *to, size_t n) {
    ServeRequest *q = ctx;
    pthread_mutex_lock(&lock);
    long got = q->left == 0 ? -1 : 0;
    if (q->out.n > q->sent) {
        got = (long)(q->out.n - q->sent < n ? q->out.n - q->sent : n);
        memcpy(to, q->out.s + q->sent, (size_t)got);
        q->sent += (size_t)got;
        if (q->sent == q->out.n) q->sent = q->out.n = 0;
    }
    pthread_mutex_unlock(&lock);
    return got;
}

static void reader_left(void *ctx) {
    ServeRequest *q = ctx;
    pthread_mutex_lock(&lock);
    q->closed = true;
    const bool gone = q->left == 0;
    if (!gone) give_up(q);
    pthread_mutex_unlock(&lock);
    if (gone) request_free(q);
}

/* --- what is asked ------------------------------------------------------------------------------ */

static Engine *find_engine(const OpenAi *o, const json_t *body, bool reward) {
    const json_t *model = json_object_get(body, "model");
    for (int i = 0; i < o->n; i++) {
        if (json_is_string(model) ? strcmp(json_string_value(model), engine_name(o->engine[i])) == 0
                                  : engine_is_reward(o->engine[i]) == reward) {
            if (engine_is_reward(o->engine[i]) == reward) return o->engine[i];
            error_set(ERR_DATA, "\"model\": %s is %s reward model", json_string_value(model),
                      reward ? "no" : "a");
            return NULL;
        }
    }
    error_set(ERR_DATA, "\"model\": there is no %s; GET /v1/models lists them",
              json_is_string(model) ? json_string_value(model)
              : reward              ? "reward model"
                                    : "language model");
    return NULL;
}

static int number(const json_t *body, const char *name, double low, double high, double *to) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return 0;
    if (!json_is_number(v) || json_number_value(v) < low || json_number_value(v) > high)
        return error_set(ERR_DATA, "\"%s\" must be a number from %g to %g", name, low, high);
    *to = json_number_value(v);
    return 1;
}

static int whole(const json_t *body, const char *name, int64_t low, int64_t high, int64_t *to) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return 0;
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high)
        return error_set(ERR_DATA, "\"%s\" must be a whole number from %" PRId64 " to %" PRId64,
                         name, low, high);
    *to = json_integer_value(v);
    return 1;
}

static int truth(const json_t *body, const char *name, bool *to) {
    const json_t *v = json_object_get(body, name);
    if (!v || json_is_null(v)) return 0;
    if (!json_is_boolean(v)) return error_set(ERR_DATA, "\"%s\" must be true or false", name);
    *to = json_is_true(v);
    return 1;
}

/* What would change the answer and is not there. */
static int refuse_others(const json_t *body) {
    static const char *const zero[] = {"presence_penalty", "frequency_penalty"};
    static const char *const none[] = {"logit_bias", "tools",   "functions",
                                       "suffix",     "best_of", "response_format"};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        if (json_number_value(json_object_get(body, zero[i])) != 0)
            return error_set(ERR_DATA, "\"%s\" other than 0 is not supported", zero[i]);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        const json_t *v = json_object_get(body, none[i]);
        const bool empty = !v || json_is_null(v) ||
                           (json_is_object(v) && json_object_size(v) == 0) ||
                           (json_is_array(v) && json_array_size(v) == 0) ||
                           (json_is_integer(v) && json_integer_value(v) == 1);
        const char *type = json_string_value(json_object_get(v, "type"));
        if (!empty && !(type && strcmp(type, "text") == 0))
            return error_set(ERR_DATA, "\"%s\" is not supported", none[i]);
    }
    return 0;
}

static int read_stops(ServeRequest *q, const json_t *stop) {
    const size_t n = json_is_array(stop) ? json_array_size(stop) : json_is_string(stop);
    if (stop && !json_is_null(stop) && !json_is_string(stop) && !json_is_array(stop))
        return error_set(ERR_DATA, "\"stop\" must be a text or a list of texts");
    if (n > STOPS) return error_set(ERR_DATA, "\"stop\" has more than %d texts", STOPS);
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_is_array(stop) ? json_array_get(stop, i) : stop);
        if (!s) return error_set(ERR_DATA, "\"stop\" must be a text or a list of texts");
        if (*s) q->stop[q->nstop++] = xstrdup(s);
    }
    return 0;
}

static int chat_ids(const Loaded *m, const json_t *messages, IdList *ids) {
    const size_t n = json_array_size(messages);
    if (n == 0) return error_set(ERR_DATA, "\"messages\" must be a list with a message at least");
    AUTOFREE Message *msg = xcalloc(n, sizeof *msg);
    Text texts = {0}; /* contents in parts are put together here; it does not move while in use */
    size_t i, j, room = 0;
    json_t *one, *part;
    json_array_foreach(messages, i, one)
        json_array_foreach(json_object_get(one, "content"), j, part) room +=
        json_string_length(json_object_get(part, "text")) + 1;
    text_room(&texts, room + n + 1);
    int rc = 0;
    json_array_foreach(messages, i, one) {
        const json_t *content = json_object_get(one, "content");
        const char *role = json_string_value(json_object_get(one, "role"));
        if (!role || (strcmp(role, "system") != 0 && strcmp(role, "developer") != 0 &&
                      strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)) {
            rc = error_set(ERR_DATA, "message %zu: \"role\" must be system, user or assistant",
                           i + 1);
            break;
        }
        msg[i] =
            (Message){strcmp(role, "developer") == 0 ? "system" : role, json_string_value(content)};
        if (json_is_array(content)) {
            msg[i].content = texts.s + texts.n;
            json_array_foreach(content, j, part) {
                const char *text = json_string_value(json_object_get(part, "text"));
                if (text) text_bytes(&texts, text, strlen(text));
            }
            text_bytes(&texts, "", 1);
        }
        if (!msg[i].content) {
            rc = error_set(ERR_DATA, "message %zu: \"content\" must be a text", i + 1);
            break;
        }
    }
    if (rc >= 0) rc = template_prompt(m->tmpl, m->tokenizer, msg, (int)n, ids);
    free(texts.s);
    return rc;
}

static int ids_of_list(const json_t *list, IdList *ids) {
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return error_set(ERR_DATA, "a prompt of tokens must hold whole numbers only");
        ids_push(ids, (int32_t)json_integer_value(v));
    }
    return 0;
}

static int prompt_ids(const Loaded *m, const json_t *prompt, IdList *ids) {
    if (json_is_array(prompt)) return ids_of_list(prompt, ids);
    if (!json_is_string(prompt)) return error_set(ERR_DATA, "\"prompt\" must be a text or tokens");
    return tokenizer_encode(m->tokenizer, json_string_value(prompt), json_string_length(prompt),
                            false, ids);
}

/* How many prompts, and prompt i of them (borrowed). */
static int prompt_count(const json_t *prompt) {
    const json_t *first = json_array_get(prompt, 0);
    return json_is_array(prompt) && !json_is_integer(first) ? (int)json_array_size(prompt) : 1;
}
static const json_t *prompt_at(const json_t *prompt, int i) {
    return json_is_array(prompt) && !json_is_integer(json_array_get(prompt, 0))
               ? json_array_get(prompt, (size_t)i)
               : prompt;
}

typedef struct OpenAiAsked {
    DecodeOptions o;
    int64_t n;
    int top;
    bool echo;
} OpenAiAsked;

static int read_options(OpenAiAsked *a, ServeRequest *q, const json_t *body, int64_t context) {
    int64_t seed = 0, top = 0;
    bool wanted = false;
    char random[33];
    const json_t *lp = json_object_get(body, "logprobs");
    *a = (OpenAiAsked){
        .o = {.temperature = 1, .top_p = 1, .max_new = q->chat ? context : COMPLETION_TOKENS},
        .n = 1,
        .top = -1};
    TRY(refuse_others(body));
    TRY(number(body, "temperature", 0, 100, &a->o.temperature));
    TRY(number(body, "top_p", 1e-9, 1, &a->o.top_p));
    TRY(whole(body, "top_k", 0, INT32_MAX, &a->o.top_k));
    TRY(whole(body, "n", 1, CHOICES, &a->n));
    TRY(whole(body, "max_tokens", q->chat ? 1 : 0, INT32_MAX, &a->o.max_new));
    TRY(whole(body, "max_completion_tokens", 1, INT32_MAX, &a->o.max_new));
    const int seeded = whole(body, "seed", INT64_MIN, INT64_MAX, &seed);
    TRY(seeded);
    TRY(http_token(random));
    a->o.seed = seeded ? (uint64_t)seed : strtoull(random + 16, NULL, 16);
    TRY(truth(body, "stream", &q->streaming));
    TRY(truth(json_object_get(body, "stream_options"), "include_usage", &q->usage));
    TRY(truth(body, "echo", &a->echo));
    if (q->chat) {
        TRY(truth(body, "logprobs", &wanted));
        TRY(whole(body, "top_logprobs", 0, ENGINE_TOP, &top));
        a->top = wanted ? (int)top : -1;
    } else if (lp && !json_is_null(lp) && !json_is_false(lp)) {
        TRY(whole(body, "logprobs", 0, ENGINE_TOP, &top));
        a->top = (int)top;
    }
    if (a->echo && q->streaming)
        return error_set(ERR_DATA, "\"echo\" with \"stream\" is not supported");
    if (a->o.max_new == 0 && !a->echo)
        return error_set(ERR_DATA, "\"max_tokens\" 0 needs \"echo\"");
    snprintf(q->id, sizeof q->id, "%s-%.24s", q->chat ? "chatcmpl" : "cmpl", random);
    return read_stops(q, json_object_get(body, "stop"));
}

static int make_choice(ServeRequest *q, ServeChoice *c, const OpenAiAsked *a, const json_t *body,
                       const json_t *prompt, int64_t sample) {
    const Loaded *m = engine_model(q->e);
    IdList ids = {0};
    size_t len;
    c->q = q;
    int rc = q->chat ? chat_ids(m, json_object_get(body, "messages"), &ids)
                     : prompt_ids(m, prompt, &ids);
    if (rc >= 0 && a->echo) {
        rc = tokenizer_decode(m->tokenizer, ids.v, ids.n, false, &c->echo, &len);
        if (rc >= 0) text_bytes(&c->text, c->echo, len);
    }
    if (rc >= 0 && sample == 0) q->prompt_tokens += ids.n;
    if (rc >= 0) rc = engine_task(&c->t, q->e, &ids, &a->o, a->top, a->echo && a->top >= 0);
    ids_free(&ids);
    if (rc < 0) return rc;
    c->t->id = (uint64_t)sample;
    c->t->seq.id = (uint64_t)sample;
    c->t->token = on_token;
    c->t->done = on_done;
    c->t->ctx = c;
    c->stream = answer_stream(m->tmpl, m->tokenizer, !q->chat);
    return 0;
}

static int read_request(ServeRequest *q, const json_t *body) {
    const json_t *prompt = json_object_get(body, "prompt");
    OpenAiAsked a;
    q->e = find_engine(q->o, body, false);
    if (!q->e) return ERR_DATA;
    TRY(read_options(&a, q, body, engine_model(q->e)->gpt->cfg.context));
    const int prompts = q->chat ? 1 : prompt_count(prompt);
    if (prompts < 1 || prompts * a.n > CHOICES)
        return error_set(ERR_DATA,
                         "%d prompts with \"n\" %" PRId64 ": 1 to %d completions are allowed",
                         prompts, a.n, CHOICES);
    q->choice = xcalloc((size_t)(prompts * a.n), sizeof *q->choice);
    for (int p = 0; p < prompts; p++)
        for (int64_t k = 0; k < a.n; k++)
            TRY(make_choice(q, &q->choice[q->n++], &a, body, prompt_at(prompt, p), k));
    return 0;
}

static void bad_request(HttpReply *r, int rc) {
    http_error(r, rc == ERR_DATA || rc == ERR_CONFIG ? 400 : 500, "%s", error_message());
}

static void complete(OpenAi *o, const HttpRequest *h, HttpReply *r, bool chat) {
    json_auto_t *body = http_body(h, r, DEPTH);
    if (!body) return;
    atomic_fetch_add(&o->requests, 1);
    ServeRequest *q = xcalloc(1, sizeof *q);
    *q = (ServeRequest){.o = o, .chat = chat, .created = (int64_t)time(NULL)};
    q->stream = (HttpStream){read_out, reader_left, q, h->connection};
    const int rc = read_request(q, body);
    if (rc < 0) {
        request_free(q);
        bad_request(r, rc);
        return;
    }
    EngineTask *tasks[CHOICES];
    for (int i = 0; i < q->n; i++) tasks[i] = q->choice[i].t;
    q->left = q->n;
    if (q->streaming && chat)
        for (int i = 0; i < q->n; i++) {
            json_t *event = head(q, "chat.completion.chunk");
            json_object_set_new(event, "choices",
                                json_pack("[{s:i, s:{s:s, s:s}, s:n, s:n}]", "index", i, "delta",
                                          "role", "assistant", "content", "", "finish_reason",
                                          "logprobs"));
            put_event(q, event);
        }
    r->type = q->streaming ? "text/event-stream" : "application/json";
    r->stream = &q->stream;
    if (!engine_submit(q->e, tasks, q->n)) {
        r->stream = NULL;
        request_free(q);
        http_error(r, 429, "too much is waiting already; try again");
        r->retry_after = 1;
    }
}

/* --- the others ---------------------------------------------------------------------------------- */

static void list_models(OpenAi *o, HttpReply *r) {
    json_t *data = json_array();
    for (int i = 0; i < o->n; i++) {
        const Loaded *m = engine_model(o->engine[i]);
        json_array_append_new(data, json_pack("{s:s, s:s, s:i, s:s, s:I, s:s, s:b, s:s}", "id",
                                              engine_name(o->engine[i]), "object", "model",
                                              "created", 0, "owned_by", "rhetor", "max_model_len",
                                              (json_int_t)m->cfg.context, "checkpoint",
                                              m->id ? m->id : "", "reward", m->cfg.scalar_head,
                                              "template", template_name(m->tmpl)));
    }
    http_json(r, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

static const Loaded *any_model(OpenAi *o, const json_t *body) {
    const Engine *e = find_engine(o, body, false);
    if (!e && json_object_get(body, "model")) e = find_engine(o, body, true);
    return e ? engine_model(e) : NULL;
}

static void tokenize(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    json_auto_t *body = http_body(h, r, DEPTH);
    if (!body) return;
    const Loaded *m = any_model(o, body);
    const json_t *messages = json_object_get(body, "messages");
    IdList ids = {0};
    const int rc = !m         ? ERR_DATA
                   : messages ? chat_ids(m, messages, &ids)
                              : prompt_ids(m, json_object_get(body, "prompt"), &ids);
    if (rc < 0)
        bad_request(r, rc);
    else {
        json_t *list = json_array();
        for (int64_t i = 0; i < ids.n; i++) json_array_append_new(list, json_integer(ids.v[i]));
        http_json(r, 200,
                  json_pack("{s:o, s:I, s:I}", "tokens", list, "count", (json_int_t)ids.n,
                            "max_model_len", (json_int_t)m->cfg.context));
    }
    ids_free(&ids);
}

static void detokenize(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    json_auto_t *body = http_body(h, r, DEPTH);
    if (!body) return;
    const Loaded *m = any_model(o, body);
    IdList ids = {0};
    AUTOFREE char *text = NULL;
    size_t n = 0;
    int rc = m ? ids_of_list(json_object_get(body, "tokens"), &ids) : ERR_DATA;
    for (int64_t i = 0; i < ids.n && rc >= 0; i++)
        if (ids.v[i] >= m->cfg.vocab)
            rc = error_set(ERR_DATA, "token %d is none of the model's", ids.v[i]);
    if (rc >= 0) rc = tokenizer_decode(m->tokenizer, ids.v, ids.n, false, &text, &n);
    if (rc < 0)
        bad_request(r, rc);
    else
        http_json(r, 200, json_pack("{s:o}", "prompt", json_text(text, n)));
    ids_free(&ids);
}

/* Scores of a reward model: one task a completion; the reply comes with the last. */
typedef struct ScoreRequest {
    int n, left;
    EngineTask *t[CHOICES];
    HttpStream stream;
    Text out;
    size_t sent;
    bool closed;
    Engine *e;
} ScoreRequest;

static void score_free(ScoreRequest *s) {
    for (int i = 0; i < s->n; i++) engine_task_free(s->t[i]);
    free(s->out.s);
    free(s);
}

static void score_done(EngineTask *t) {
    ScoreRequest *s = t->ctx;
    pthread_mutex_lock(&lock);
    if (--s->left == 0) {
        json_t *data = json_array();
        for (int i = 0; i < s->n; i++)
            json_array_append_new(data, json_pack("{s:i, s:s, s:o}", "index", i, "object", "score",
                                                  "score", number_or_null(s->t[i]->reward)));
        json_auto_t *all = json_pack("{s:s, s:s, s:o}", "object", "list", "model",
                                     engine_name(s->e), "data", data);
        char *text = json_dumps(all, JSON_COMPACT);
        text_put(&s->out, "%s", text);
        free(text);
    }
    const bool gone = s->closed && s->left == 0;
    if (!s->closed) http_wake(&s->stream);
    pthread_mutex_unlock(&lock);
    if (gone) score_free(s);
}

static long score_read(void *ctx, char *to, size_t n) {
    ScoreRequest *s = ctx;
    pthread_mutex_lock(&lock);
    long got = s->left ? 0 : -1;
    if (s->out.n > s->sent) {
        got = (long)(s->out.n - s->sent < n ? s->out.n - s->sent : n);
        memcpy(to, s->out.s + s->sent, (size_t)got);
        s->sent += (size_t)got;
    }
    pthread_mutex_unlock(&lock);
    return got;
}

static void score_left(void *ctx) {
    ScoreRequest *s = ctx;
    pthread_mutex_lock(&lock);
    s->closed = true;
    const bool gone = s->left == 0;
    pthread_mutex_unlock(&lock);
    if (gone) score_free(s);
}

static int score_task(ScoreRequest *s, const json_t *body, const char *completion) {
    const Loaded *m = engine_model(s->e);
    const DecodeOptions none = {.top_p = 1};
    const json_t *messages = json_object_get(body, "messages");
    const char *prompt = json_string_value(json_object_get(body, "prompt"));
    const Message one = {"user", prompt};
    IdList ids = {0};
    int rc =
        !completion
            ? error_set(ERR_DATA, "\"completion\" must be a text, \"completions\" a list of texts")
        : messages ? chat_ids(m, messages, &ids)
        : prompt   ? template_prompt(m->tmpl, m->tokenizer, &one, 1, &ids)
                   : error_set(ERR_DATA, "\"prompt\" must be a text, or \"messages\" a list");
    if (rc >= 0) rc = template_completion(m->tmpl, m->tokenizer, completion, &ids);
    if (rc >= 0) rc = engine_task(&s->t[s->n], s->e, &ids, &none, -1, false);
    ids_free(&ids);
    if (rc < 0) return rc;
    s->t[s->n]->done = score_done;
    s->t[s->n++]->ctx = s;
    return 0;
}

static int read_scores(ScoreRequest *s, OpenAi *o, const json_t *body) {
    const json_t *list = json_object_get(body, "completions");
    s->e = find_engine(o, body, true);
    if (!s->e) return ERR_DATA;
    if (!json_is_array(list))
        return score_task(s, body, json_string_value(json_object_get(body, "completion")));
    if (json_array_size(list) == 0 || json_array_size(list) > CHOICES)
        return error_set(ERR_DATA, "\"completions\" must have 1 to %d texts", CHOICES);
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(score_task(s, body, json_string_value(json_array_get(list, i))));
    return 0;
}

static void score(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    json_auto_t *body = http_body(h, r, DEPTH);
    if (!body) return;
    ScoreRequest *s = xcalloc(1, sizeof *s);
    s->stream = (HttpStream){score_read, score_left, s, h->connection};
    const int rc = read_scores(s, o, body);
    if (rc < 0) {
        score_free(s);
        bad_request(r, rc);
        return;
    }
    s->left = s->n;
    r->type = "application/json";
    r->stream = &s->stream;
    if (!engine_submit(s->e, s->t, s->n)) {
        r->stream = NULL;
        score_free(s);
        http_error(r, 429, "too much is waiting already; try again");
        r->retry_after = 1;
    }
}

static void metrics(OpenAi *o, HttpReply *r) {
    r->type = "text/plain; version=0.0.4; charset=utf-8";
    text_put(&r->body,
             "# TYPE rhetor_requests_total counter\nrhetor_requests_total %lld\n"
             "# TYPE rhetor_clients_left_total counter\nrhetor_clients_left_total %lld\n",
             atomic_load(&o->requests), atomic_load(&o->left));
    static const char *const names[] = {"completions_total counter",
                                        "completions_done_total counter",
                                        "completions_refused_total counter",
                                        "prompt_tokens_total counter",
                                        "tokens_total counter",
                                        "first_token_seconds_sum counter",
                                        "waiting gauge",
                                        "active gauge"};
    for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
        text_put(&r->body, "# TYPE rhetor_%s\n", names[j]);
        for (int i = 0; i < o->n; i++) {
            EngineCounts *c = engine_counts(o->engine[i]);
            atomic_llong *const count[] = {&c->submitted,     &c->done,   &c->refused,
                                           &c->prompt_tokens, &c->tokens, &c->first_token_us,
                                           &c->waiting,       &c->active};
            const double unit = count[j] == &c->first_token_us ? 1e-6 : 1;
            text_put(&r->body, "rhetor_%.*s{model=\"%s\"} %.17g\n", (int)strcspn(names[j], " "),
                     names[j], engine_name(o->engine[i]), unit * (double)atomic_load(count[j]));
        }
    }
}

bool openai_reply(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    static const struct {
        const char *method, *path;
    } paths[] = {{"POST", "/v1/chat/completions"},
                 {"POST", "/v1/completions"},
                 {"POST", "/v1/score"},
                 {"POST", "/tokenize"},
                 {"POST", "/detokenize"},
                 {"GET", "/v1/models"},
                 {"GET", "/health"},
                 {"GET", "/metrics"}};
    const int n = sizeof paths / sizeof *paths;
    int i = 0;
    while (i < n && strcmp(h->path, paths[i].path) != 0) i++;
    if (i == n) return false;
    if (strcmp(h->method, paths[i].method) != 0)
        http_error(r, 405, "%s is a %s", h->path, paths[i].method);
    else if (i < 2)
        complete(o, h, r, i == 0);
    else if (i == 2)
        score(o, h, r);
    else if (i == 3)
        tokenize(o, h, r);
    else if (i == 4)
        detokenize(o, h, r);
    else if (i == 5)
        list_models(o, r);
    else if (i == 6)
        http_json(r, 200, json_pack("{s:s}", "status", "ok"));
    else
        metrics(o, r);
    return true;
}
