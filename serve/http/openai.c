/* openai.c: see openai.h. */
#include "serve/http/openai.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/utf8.h"

enum { DEPTH = 16 };

/* --- what the calls share -------------------------------------------------------------------------- */

json_t *openai_body(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    atomic_fetch_add(&o->requests, 1);
    return http_body(h, r, DEPTH);
}

void openai_refuse(HttpReply *r, int rc) {
    http_error(r, rc == ERR_DATA || rc == ERR_CONFIG ? 400 : 500, "%s", error_message());
}

json_t *openai_text(const char *s, size_t n) {
    size_t len;
    AUTOFREE char *valid = utf8_repair(s, n, &len);
    return json_stringn(valid, len);
}

json_t *openai_real(float v) { return isfinite(v) ? json_real((double)v) : json_null(); }

Engine *openai_engine(const OpenAi *o, const json_t *body, bool reward) {
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

int openai_chat_ids(const Loaded *m, const json_t *messages, IdList *ids) {
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
                if (text)
                    text_bytes(&texts, text, strlen(text));
                else
                    rc =
                        error_set(ERR_DATA, "message %zu: a part of \"content\" is no text", i + 1);
            }
            text_bytes(&texts, "", 1);
        }
        if (rc < 0) break;
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
    if (!json_is_array(list)) return error_set(ERR_DATA, "\"tokens\" must be a list");
    json_array_foreach(list, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return error_set(ERR_DATA, "a prompt of tokens must hold whole numbers only");
        ids_push(ids, (int32_t)json_integer_value(v));
    }
    return 0;
}

int openai_prompt_ids(const Loaded *m, const json_t *prompt, IdList *ids) {
    if (json_is_array(prompt)) return ids_of_list(prompt, ids);
    if (!json_is_string(prompt)) return error_set(ERR_DATA, "\"prompt\" must be a text or tokens");
    return tokenizer_encode(m->tokenizer, json_string_value(prompt), json_string_length(prompt),
                            false, ids);
}

/* --- small calls ---------------------------------------------------------------------------------- */

static void list_models(OpenAi *o, const HttpRequest *h, HttpReply *r) {
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
    const Engine *e = openai_engine(o, body, false);
    if (!e && json_object_get(body, "model")) e = openai_engine(o, body, true);
    return e ? engine_model(e) : NULL;
}

static void tokenize(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    json_auto_t *body = openai_body(o, h, r);
    if (!body) return;
    const Loaded *m = any_model(o, body);
    const json_t *messages = json_object_get(body, "messages");
    IdList ids = {0};
    const int rc = !m         ? ERR_DATA
                   : messages ? openai_chat_ids(m, messages, &ids)
                              : openai_prompt_ids(m, json_object_get(body, "prompt"), &ids);
    if (rc < 0)
        openai_refuse(r, rc);
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
    json_auto_t *body = openai_body(o, h, r);
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
        openai_refuse(r, rc);
    else
        http_json(r, 200, json_pack("{s:o}", "prompt", openai_text(text, n)));
    ids_free(&ids);
}

static void metrics(OpenAi *o, const HttpRequest *h, HttpReply *r) {
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

static void health(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    http_json(r, 200, json_pack("{s:s}", "status", "ok"));
}

bool openai_reply(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    static const struct {
        const char *method, *path;
        void (*reply)(OpenAi *o, const HttpRequest *h, HttpReply *r);
    } paths[] = {{"POST", "/v1/chat/completions", completions_chat},
                 {"POST", "/v1/completions", completions_text},
                 {"POST", "/v1/score", scores_reply},
                 {"POST", "/tokenize", tokenize},
                 {"POST", "/detokenize", detokenize},
                 {"GET", "/v1/models", list_models},
                 {"GET", "/health", health},
                 {"GET", "/metrics", metrics}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (strcmp(h->path, paths[i].path) != 0) continue;
        if (strcmp(h->method, paths[i].method) == 0)
            paths[i].reply(o, h, r);
        else
            http_error(r, 405, "%s is a %s", h->path, paths[i].method);
        return true;
    }
    return false;
}
