/* rhetor-generate: text from a model: one prompt, a file of prompts with K completions each, or a
 * conversation. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/openmp.h"
#include "base/option.h"
#include "base/text.h"
#include "base/utf8.h"
#include "core/kernel.h"
#include "data/record_writer.h"
#include "data/texts.h"
#include "eval/prompts.h"
#include "serve/chat.h"
#include "train/run.h"

typedef struct Args {
    const char *model, *in, *out, *prompt, *field;
    int64_t n, max_new, max, seed, top_k;
    double temperature, top_p;
    bool raw, chat, bf16;
} Args;

static const Option options[] = {
    {"model", 'm', "PATH", "run folder or checkpoint", OPT_TEXT(model)},
    {"in", 0, "FILE", "prompts: JSON lines, one record each; other fields are kept", OPT_TEXT(in)},
    {"out", 0, "FILE",
     "completions, JSON lines: the record, \"completions\": [...] and \"stopped\": [...] (default: "
     "standard output)",
     OPT_TEXT(out)},
    {"n", 'n', "K", "completions a prompt (1)", OPT_WHOLE(n, 1, 0)},
    {"max-new", 0, "N",
     "longest completion in tokens (default: what the context leaves, at most 256)",
     OPT_WHOLE(max_new, 1, 0)},
    {"max-records", 0, "N", "use only the first N prompts", OPT_WHOLE(max, 0, 0)},
    {"temperature", 't', "T", "0 is greedy (1)", OPT_NUMBER(temperature, 0, 100)},
    {"top-k", 0, "K", "sample among the K likeliest tokens (0: all)", OPT_WHOLE(top_k, 0, 0)},
    {"top-p", 0, "P", "sample among the likeliest tokens of total probability P (1)",
     OPT_NUMBER(top_p, 1e-6, 1)},
    {"seed", 's', "N", "seed (1)", OPT_WHOLE(seed, 0, 0)},
    {"raw", 0, NULL, "continue the text as it is, without the chat template", OPT_FLAG(raw)},
    {"bf16", 0, NULL, "keep weights in bfloat16: half the memory, exact for published models",
     OPT_FLAG(bf16)},
    {"chat", 0, NULL, "a conversation; /help lists its commands", OPT_FLAG(chat)},
    {"field", 0, "NAME", "name of the field with the prompt (prompt)", OPT_TEXT(field)},
    {NULL, 0, "[PROMPT]", NULL, OPT_TEXT(prompt), .high = 1},
    {0}};

static DecodeOptions decode_options(const Args *a, const Loaded *m) {
    return (DecodeOptions){.temperature = a->temperature,
                           .top_k = a->top_k,
                           .top_p = a->top_p,
                           .max_new = a->max_new                  ? a->max_new
                                      : m->gpt->cfg.context < 256 ? m->gpt->cfg.context
                                                                  : 256,
                           .stop = m->stop,
                           .nstop = m->nstop,
                           .seed = (uint64_t)a->seed};
}

static int one_prompt(const Args *a, const Loaded *m) {
    IdList ids = {0};
    const Message msg = {"user", a->prompt};
    int rc = a->raw ? tokenizer_encode(m->tokenizer, a->prompt, strlen(a->prompt), false, &ids)
                    : template_prompt(m->tmpl, m->tokenizer, &msg, 1, &ids);
    DecodeOptions o = decode_options(a, m);
    for (int64_t k = 0; k < a->n && rc >= 0; k++) {
        o.step = (uint32_t)k;
        rc = chat_answer(m, &o, ids.v, ids.n, a->raw, stdout, NULL, NULL);
    }
    ids_free(&ids);
    return rc;
}

static int chat(const Args *a, const Loaded *m) {
    DecodeOptions o = decode_options(a, m);
    return chat_run(m, &o, stdin, stdout, isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
}

/* The record with its completions, and which of them came to their end. JSON holds valid UTF-8
 * only. */
static int write_record(RecordWriter *w, const Args *a, const Loaded *m, json_t *record,
                        const Response *r) {
    json_t *texts = json_array(), *stopped = json_array();
    int rc = 0;
    for (int64_t k = 0; k < a->n && rc >= 0; k++) {
        char *text, *valid;
        size_t len;
        rc = a->raw ? template_text(m->tokenizer, r[k].tokens, r[k].n, &text)
                    : template_decode(m->tmpl, m->tokenizer, r[k].tokens, r[k].n, &text);
        if (rc < 0) break;
        valid = utf8_repair(text, strlen(text), &len);
        json_array_append_new(texts, json_stringn(valid, len));
        json_array_append_new(stopped, json_boolean(r[k].stopped));
        free(text);
        free(valid);
    }
    json_object_set_new(record, "completions", texts);
    json_object_set_new(record, "stopped", stopped);
    if (rc >= 0) record_writer_put(w, record);
    return rc;
}

static int sample_records(RecordWriter *w, const Args *a, const Loaded *m, const PromptFile *p) {
    DecodeOptions o = decode_options(a, m);
    DecodeResult r = {0};
    double began = clock_seconds();
    int rc = prompts_sample(&r, m, p, a->n, &o);
    if (rc >= 0) {
        double s = clock_seconds() - began;
        log_info("%" PRId64 " completion%s, %" PRId64 " tokens, %.1f s, %.0f tokens/s (%" PRId64
                 " prompt%s too long)",
                 r.n, TEXT_S(r.n), r.tokens, s, (double)r.tokens / s, p->skipped,
                 TEXT_S(p->skipped));
    }
    for (int64_t i = 0; i < p->n && rc >= 0; i++)
        rc = write_record(w, a, m, p->record[i], &r.v[i * a->n]);
    decode_free(&r);
    return rc;
}

static int file_of_prompts(const Args *a, const Loaded *m) {
    PromptFile p;
    RecordWriter w; /* opened before the long work */
    TRY(prompts_load(&p, a->in, m, a->raw, m->gpt->cfg.context - 1, a->max, a->field));
    int rc = record_writer_open(&w, a->out);
    if (rc >= 0) rc = record_writer_close(&w, sample_records(&w, a, m, &p));
    prompts_free(&p);
    return rc;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {.n = 1, .temperature = 1, .top_p = 1, .seed = 1};
    option_parse(options, NULL,
                 "Text from a trained model.\v"
                 "rhetor-generate -m runs/demo/sft \"Who lives in Rome?\"\n"
                 "rhetor-generate -m runs/demo/sft --in prompts.jsonl --out samples.jsonl -n 6\n",
                 argc, argv, &a);
    if (!a.model) return option_end(error_set(ERR_USAGE, "which model? --model runs/NAME/sft"));
    if (!a.in && !a.prompt && !a.chat)
        return option_end(error_set(ERR_USAGE, "give a prompt, --in FILE or --chat"));
    core_init();
    Loaded m;
    int rc = load_model_half(&m, a.model, "--model", LOAD_LANGUAGE, a.bf16);
    if (rc >= 0) {
        rc = a.chat ? chat(&a, &m) : a.in ? file_of_prompts(&a, &m) : one_prompt(&a, &m);
        load_free(&m);
    }
    return option_end(rc);
}
