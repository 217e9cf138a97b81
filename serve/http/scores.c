/* scores.c: POST /v1/score, as openai.h has it. */
#include <stdlib.h>

#include "base/error.h"
#include "base/json.h"
#include "serve/http/outbox.h"

/* One task a completion; the reply comes with the last. */
typedef struct ScoreRequest {
    Outbox box;
    Engine *e;
} ScoreRequest;

static void score_free(void *request) {
    ScoreRequest *s = request;
    outbox_free(&s->box);
    free(s);
}

static void score_done(EngineTask *t) {
    ScoreRequest *s = t->ctx;
    outbox_lock(&s->box);
    if (s->box.left == 1) {
        json_t *data = json_array();
        for (int i = 0; i < s->box.n; i++)
            json_array_append_new(data, json_pack("{s:i, s:s, s:o}", "index", i, "object", "score",
                                                  "score", openai_real(s->box.task[i]->reward)));
        outbox_json(&s->box, "",
                    json_pack("{s:s, s:s, s:o}", "object", "list", "model", engine_name(s->e),
                              "data", data),
                    "");
    }
    outbox_unlock(&s->box, true);
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
        : messages ? openai_chat_ids(m, messages, &ids)
        : prompt   ? template_prompt(m->tmpl, m->tokenizer, &one, 1, &ids)
                   : error_set(ERR_DATA, "\"prompt\" must be a text, or \"messages\" a list");
    if (rc >= 0) rc = template_completion(m->tmpl, m->tokenizer, completion, &ids);
    if (rc >= 0) rc = engine_task(&s->box.task[s->box.n], s->e, &ids, &none, -1, false);
    ids_free(&ids);
    if (rc < 0) return rc;
    s->box.task[s->box.n]->done = score_done;
    s->box.task[s->box.n++]->ctx = s;
    return 0;
}

static int read_scores(ScoreRequest *s, OpenAi *o, const json_t *body) {
    const json_t *list = json_object_get(body, "completions");
    s->e = openai_engine(o, body, true);
    if (!s->e) return ERR_DATA;
    if (!json_is_array(list))
        return score_task(s, body, json_string_value(json_object_get(body, "completion")));
    if (json_array_size(list) == 0 || json_array_size(list) > OUTBOX_TASKS)
        return error_set(ERR_DATA, "\"completions\" must have 1 to %d texts", OUTBOX_TASKS);
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(score_task(s, body, json_string_value(json_array_get(list, i))));
    return 0;
}

void scores_reply(OpenAi *o, const HttpRequest *h, HttpReply *r) {
    json_auto_t *body = openai_body(o, h, r);
    if (!body) return;
    ScoreRequest *s = xcalloc(1, sizeof *s);
    outbox_init(&s->box, o, score_free, s);
    const int rc = read_scores(s, o, body);
    r->type = "application/json";
    outbox_send(&s->box, s->e, rc, h, r);
}
