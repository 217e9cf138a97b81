/* completions.c: POST /v1/chat/completions and /v1/completions, as openai.h has them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/json.h"
#include "serve/http/outbox.h"

enum { STOPS = 16, COMPLETION_TOKENS = 16 /* as OpenAI's default */ };

typedef struct ServeRequest ServeRequest;

/* One of a request's completions. */
typedef struct ServeChoice {
    ServeRequest *q;
    EngineTask *t; /* the outbox's */
    AnswerStream *stream;
    Text text;     /* so far, without a stop text */
    size_t echoed; /* bytes of it that are the prompt's: no stop text is looked for there */
    size_t sent;
    bool stopped; /* by a stop text */
} ServeChoice;

struct ServeRequest {
    Outbox box; /* its tasks are the choices' */
    Engine *e;
    bool chat, streaming, usage;
    ServeChoice choice[OUTBOX_TASKS];
    char *stop[STOPS];
    int nstop;
    char id[64];
    int64_t created, prompt_tokens;
};

static void request_free(void *request) {
    ServeRequest *q = request;
    for (int i = 0; i < OUTBOX_TASKS; i++) {
        ServeChoice *c = &q->choice[i];
        if (c->stream) answer_stream_free(&c->stream);
        free(c->text.s);
    }
    for (int i = 0; i < q->nstop; i++) free(q->stop[i]);
    outbox_free(&q->box);
    free(q);
}

/* --- JSON of what came out --------------------------------------------------------------------- */

static json_t *token_text(const Loaded *m, int32_t id) {
    size_t n = 0;
    const char *bytes = tokenizer_token_bytes(m->tokenizer, id, &n);
    return openai_text(bytes ? bytes : "", bytes ? n : 0);
}

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
                                    openai_real(t->top_logp[i * t->top + j]));
            json_decref(name);
        }
        json_array_append_new(offsets, json_integer((json_int_t)offset));
        offset += json_string_length(text);
        json_array_append_new(tokens, text);
        json_array_append_new(logps, openai_real(t->logp[i]));
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
    return json_pack("{s:o, s:o, s:o}", "token", token_text(m, id), "logprob", openai_real(logp),
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
    for (int i = 0; i < q->box.n; i++) tokens += q->box.task[i]->seq.n;
    return json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)q->prompt_tokens,
                     "completion_tokens", (json_int_t)tokens, "total_tokens",
                     (json_int_t)(q->prompt_tokens + tokens));
}

static void whole_reply(ServeRequest *q) {
    json_t *all = head(q, q->chat ? "chat.completion" : "text_completion");
    json_t *choices = json_array();
    for (int i = 0; i < q->box.n; i++) {
        ServeChoice *c = &q->choice[i];
        json_t *text = openai_text(c->text.s ? c->text.s : "", c->text.n);
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
    outbox_json(&q->box, "", all, "");
}

static void put_event(ServeRequest *q, json_t *event) {
    outbox_json(&q->box, "data: ", event, "\n\n");
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
        json_object_set_new(
            one, "delta", n ? json_pack("{s:o}", "content", openai_text(text, n)) : json_object());
    else
        json_object_set_new(one, "text", openai_text(text, n));
    json_object_set_new(event, "choices", json_pack("[o]", one));
    put_event(q, event);
}

/* --- while it comes ------------------------------------------------------------------------------ */

/* Appends a piece; true: a stop text came, which is cut off. */
static bool add_text(ServeChoice *c, const char *piece) {
    const ServeRequest *q = c->q;
    const size_t before = c->text.n;
    text_bytes(&c->text, piece, strlen(piece));
    const char *first = NULL;
    for (int i = 0; i < q->nstop && c->text.s; i++) {
        const size_t len = strlen(q->stop[i]);
        const size_t from = before > c->echoed + len ? before - len : c->echoed;
        const char *at = strstr(c->text.s + from, q->stop[i]);
        if (at && (!first || at < first)) first = at;
    }
    if (first) {
        c->text.n = (size_t)(first - c->text.s);
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

static int on_token(EngineTask *t, int32_t token) {
    ServeChoice *c = t->ctx;
    ServeRequest *q = c->q;
    outbox_lock(&q->box);
    const bool end = add_text(c, answer_stream_add(c->stream, token));
    const size_t to = sure(c), n = to > c->sent ? to - c->sent : 0;
    const int64_t at = t->nids + t->seq.n - 1;
    if (q->streaming && (n || t->top >= 0)) {
        put_piece(c, n ? c->text.s + c->sent : "", n, at, at + 1, NULL);
        c->sent += n;
    }
    return !outbox_unlock(&q->box, false) || end;
}

static void last_events(ServeRequest *q) {
    if (q->usage) {
        json_t *event = head(q, q->chat ? "chat.completion.chunk" : "text_completion");
        json_object_set_new(event, "choices", json_array());
        json_object_set_new(event, "usage", usage_of(q));
        put_event(q, event);
    }
    text_put(&q->box.text, "data: [DONE]\n\n");
}

static void on_done(EngineTask *t) {
    ServeChoice *c = t->ctx;
    ServeRequest *q = c->q;
    outbox_lock(&q->box);
    if (!c->stopped) add_text(c, answer_stream_end(c->stream));
    if (q->streaming)
        put_piece(c, c->text.s ? c->text.s + c->sent : "", c->text.n - c->sent, 0, 0, reason(c));
    if (q->box.left == 1) (q->streaming ? last_events : whole_reply)(q);
    outbox_unlock(&q->box, true);
}

/* --- what is asked ------------------------------------------------------------------------------ */

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
    static const char *const zero[] = {"presence_penalty", "frequency_penalty", "min_p",
                                       "min_tokens"};
    static const char *const none[] = {
        "logit_bias", "tools",           "functions",          "suffix",
        "best_of",    "response_format", "repetition_penalty", "stop_token_ids"};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
        if (json_number_value(json_object_get(body, zero[i])) != 0)
            return error_set(ERR_DATA, "\"%s\" other than 0 is not supported", zero[i]);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        const json_t *v = json_object_get(body, none[i]);
        const bool empty =
            !v || json_is_null(v) || (json_is_object(v) && json_object_size(v) == 0) ||
            (json_is_array(v) && json_array_size(v) == 0) || json_number_value(v) == 1;
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
    TRY(whole(body, "n", 1, OUTBOX_TASKS, &a->n));
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
    AUTOFREE char *echo = NULL;
    size_t len;
    c->q = q;
    int rc = q->chat ? openai_chat_ids(m, json_object_get(body, "messages"), &ids)
                     : openai_prompt_ids(m, prompt, &ids);
    if (rc >= 0 && a->echo) {
        rc = tokenizer_decode(m->tokenizer, ids.v, ids.n, false, &echo, &len);
        if (rc >= 0) text_bytes(&c->text, echo, c->echoed = len);
    }
    if (rc >= 0 && sample == 0) q->prompt_tokens += ids.n;
    if (rc >= 0) rc = engine_task(&c->t, q->e, &ids, &a->o, a->top, a->echo && a->top >= 0);
    ids_free(&ids);
    if (rc < 0) return rc;
    q->box.task[q->box.n++] = c->t;
    c->t->id = (uint64_t)sample;
    c->t->seq.id = (uint64_t)sample;
    c->t->token = on_token;
    c->t->done = on_done;
    c->t->ctx = c;
    c->stream = answer_stream(m->tmpl, m->tokenizer, !q->chat);
    return 0;
}

static int read_request(ServeRequest *q, const OpenAi *o, const json_t *body) {
    const json_t *prompt = json_object_get(body, "prompt");
    OpenAiAsked a;
    q->e = openai_engine(o, body, false);
    if (!q->e) return ERR_DATA;
    TRY(read_options(&a, q, body, engine_model(q->e)->gpt->cfg.context));
    const int prompts = q->chat ? 1 : prompt_count(prompt);
    if (prompts < 1 || prompts * a.n > OUTBOX_TASKS)
        return error_set(ERR_DATA,
                         "%d prompts with \"n\" %" PRId64 ": 1 to %d completions are allowed",
                         prompts, a.n, OUTBOX_TASKS);
    for (int p = 0; p < prompts; p++)
        for (int64_t k = 0; k < a.n; k++)
            TRY(make_choice(q, &q->choice[q->box.n], &a, body, prompt_at(prompt, p), k));
    return 0;
}

static void complete(OpenAi *o, const HttpRequest *h, HttpReply *r, bool chat) {
    json_auto_t *body = openai_body(o, h, r);
    if (!body) return;
    ServeRequest *q = xcalloc(1, sizeof *q);
    q->chat = chat;
    q->created = (int64_t)time(NULL);
    outbox_init(&q->box, o, request_free, q);
    const int rc = read_request(q, o, body);
    for (int i = 0; i < q->box.n && q->streaming && chat && rc >= 0; i++) {
        json_t *event = head(q, "chat.completion.chunk");
        json_object_set_new(event, "choices",
                            json_pack("[{s:i, s:{s:s, s:s}, s:n, s:n}]", "index", i, "delta",
                                      "role", "assistant", "content", "", "finish_reason",
                                      "logprobs"));
        put_event(q, event);
    }
    r->type = q->streaming ? "text/event-stream" : "application/json";
    outbox_send(&q->box, q->e, rc, h, r);
}

void completions_chat(OpenAi *o, const HttpRequest *h, HttpReply *r) { complete(o, h, r, true); }
void completions_text(OpenAi *o, const HttpRequest *h, HttpReply *r) { complete(o, h, r, false); }
