/* own.c: a recipe for one's own data. See own.h.
 *
 * The text says how large a vocabulary, and how large a model at most, is worth its while; the time
 * and the measured speed, how large a model can be trained to about twenty tokens a parameter
 * (Hoffmann et al. 2022); what time SFT, the reward model and PPO leave goes to pretraining, until
 * the text was read so often that it teaches nothing new (Muennighoff et al. 2023: about 4 times;
 * more where there is little, as the checkpoint with the best held-out loss is kept). */
#include "plan/own.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "dist/comm.h"
#include "plan/forecast.h"
#include "plan/own_data.h"

enum {
    LITTLE_TEXT = 4000, /* bytes: less is refused */
    HELD_OUT = 200,     /* records of which some are held out */
    PPO_BATCH = 128,
    PPO_LEAST = 3,     /* iterations; fewer teach nothing */
    FILES_NAMED = 200, /* files of texts that a command names one by one */
    WARNINGS = 16
};

/* Sizes that are tried, from small to large. */
static const struct {
    int layers, heads, width;
    double lr;
} models[] = {{2, 2, 64, 3e-3},    {3, 3, 96, 3e-3},   {4, 4, 128, 2e-3}, {6, 6, 192, 2e-3},
              {6, 4, 256, 2e-3},   {8, 5, 320, 1e-3},  {8, 6, 384, 1e-3}, {10, 8, 512, 1e-3},
              {12, 10, 640, 6e-4}, {12, 12, 768, 6e-4}};
enum { MODELS = sizeof models / sizeof *models, FIRST_GUESS = 3 };

/* Vocabularies, and the bytes of English that a token of theirs stands for. */
static const struct {
    double up_to; /* bytes of text */
    int64_t size;
    double bytes;
} vocabularies[] = {
    {1e5, 512, 2.0}, {2e6, 1024, 2.6}, {4e7, 2048, 3.1}, {4e8, 4096, 3.5}, {HUGE_VAL, 8192, 3.9}};

/* The stages beside pretraining: share of the time that they may take, passes over their records. */
static const struct {
    const char *name;
    double share, epochs;
} later[] = {{"sft", 0.2, 3}, {"reward", 0.1, 2}, {"ppo", 0.25, 0}};
enum { SFT, REWARD, PPO, LATER };

typedef struct Own {
    OwnData data;
    const char *folder, *out;
    double minutes;
    int vocab, model;                /* indices */
    int64_t context, batch, windows; /* windows: of a step of pretraining */
    bool has[LATER];
    int64_t steps, later_steps[LATER];
    double tokens; /* of the text */
    double seconds, later_seconds[LATER], prepare;
    PlanMachine machine;
    char *warning[WARNINGS];
    int nwarning;
} Own;

static void warn(Own *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warn(Own *o, const char *fmt, ...) {
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) >= 0 && o->nwarning < WARNINGS) o->warning[o->nwarning++] = text;
    va_end(ap);
}

static const OwnGroup *group(const Own *o, int kind) { return &o->data.group[kind]; }
static double token_bytes(const Own *o) { return vocabularies[o->vocab].bytes; }
static bool held_out(const OwnGroup *g) { return g->n >= HELD_OUT; }

/* --- writing ---------------------------------------------------------------------------------- */

/* A word of the shell. */
static void put_shell(Text *t, const char *word) {
    text_put(t, "'");
    for (; *word; word++) text_put(t, *word == '\'' ? "'\\''" : "%c", *word);
    text_put(t, "'");
}

/* A text in YAML's double quotes; ${ is kept from being replaced. */
static void put_yaml(Text *t, const char *word) {
    text_put(t, "\"");
    for (; *word; word++) {
        if (*word == '$' && word[1] == '{') text_put(t, "$");
        text_put(t, strchr("\"\\", *word) ? "\\%c" : "%c", *word);
    }
    text_put(t, "\"");
}

/* The files of texts, as words of a command: where there are many, the patterns of their folders. */
static void put_texts(Text *t, const OwnGroup *g) {
    char *last = xstrdup("");
    for (int i = 0; i < g->nfile; i++) {
        const char *name = file_basename(g->file[i]), *dot = strchr(name, '.');
        char *pattern = g->nfile > FILES_NAMED && dot
                            ? xasprintf("%.*s*%s", (int)(name - g->file[i]), g->file[i], dot)
                            : xstrdup(g->file[i]);
        if (strcmp(pattern, last) != 0) {
            text_put(t, " ");
            put_shell(t, pattern);
        }
        free(last);
        last = pattern;
    }
    free(last);
}

/* The settings data.train and data.heldout of records: the files themselves, or their parts. */
static void put_records(Text *t, const char *name, const OwnGroup *g) {
    static const char *const parts[] = {"", "_heldout"};
    for (int part = 0; part < 1 + held_out(g); part++) {
        text_put(t, "%s: [", part ? "  heldout" : "  train");
        for (int i = 0; i < g->nfile; i++) {
            text_put(t, i ? ", " : "");
            if (held_out(g))
                text_put(t, "\"${RUN}/%s_%d%s.jsonl\"", name, i, parts[part]);
            else
                put_yaml(t, g->file[i]);
        }
        text_put(t, "]\n");
    }
}

static void put_head(Text *t, const char *stage, const char *from) {
    text_put(t, "# Written by rhetor-size.\nrun: {dir: \"${RUN}/%s\", seed: \"${SEED:-1}\"}\n",
             stage);
    if (from)
        text_put(t, "from: {model: \"${RUN}/%s\"%s}\n", from,
                 strcmp(stage, "ppo") == 0 ? ", reward: \"${RUN}/reward\"" : "");
}

static char *pretrain_yaml(const Own *o) {
    Text t = {0};
    put_head(&t, "pretrain", NULL);
    text_put(&t,
             "model: {layers: %d, heads: %d, width: %d, context: %" PRId64 "}\n"
             "data: {train: \"${RUN}/train.h5\", heldout: \"${RUN}/heldout.h5\"}\n"
             "train: {steps: %" PRId64 ", batch: %" PRId64 ", micro_tokens: 4096}\n"
             "optim: {lr: %g, warmup: %" PRId64 ", decay: 0.1}\n"
             "eval: {every: %" PRId64 ", records: 64}\n"
             "save: {keep_best: true}\n",
             models[o->model].layers, models[o->model].heads, models[o->model].width, o->context,
             o->steps, o->windows, models[o->model].lr, o->steps < 1000 ? o->steps / 10 : 100,
             o->steps / 10 + 1);
    return text_take(&t);
}

static char *sft_yaml(const Own *o) {
    const OwnGroup *g = group(o, DATASET_DEMOS);
    Text t = {0};
    put_head(&t, "sft", "pretrain");
    text_put(&t, "data:\n");
    put_records(&t, "demos", g);
    text_put(&t,
             "  template: chatml\n  mix: \"${RUN}/train.h5\"\n  mix_ratio: 0.1\n"
             "  on_long: drop\n  on_bad: skip\n  max_bad: 1000000000\n"
             "train: {steps: %" PRId64 ", batch: %" PRId64 ", micro_tokens: 4096}\n"
             "optim: {lr: %g, warmup: %" PRId64 "}\n",
             o->later_steps[SFT], o->batch, models[o->model].lr / 2, o->later_steps[SFT] / 20);
    if (held_out(g))
        text_put(&t, "eval: {every: %" PRId64 ", records: 200}\nsave: {keep_best: true}\n",
                 o->later_steps[SFT] / 6 + 1);
    return text_take(&t);
}

static char *reward_yaml(const Own *o) {
    Text t = {0};
    put_head(&t, "reward", "sft");
    text_put(&t, "data:\n");
    put_records(&t, "ranked", group(o, DATASET_RANKED));
    text_put(&t,
             "  on_long: truncate_left\n  on_bad: skip\n  max_bad: 1000000000\n"
             "train: {steps: %" PRId64 ", batch: %" PRId64 ", micro_tokens: 4096}\n"
             "optim: {lr: %g, warmup: %" PRId64 "}\n",
             o->later_steps[REWARD], o->batch, models[o->model].lr / 6,
             o->later_steps[REWARD] / 10);
    return text_take(&t);
}

static int64_t response(const Own *o) { return o->context / 4 < 64 ? o->context / 4 : 64; }

static char *ppo_yaml(const Own *o) {
    const bool own = group(o, DATASET_PROMPTS)->n > 0;
    Text t = {0};
    put_head(&t, "ppo", "sft");
    text_put(&t, "data:\n");
    put_records(&t, own ? "prompts" : "demos", group(o, own ? DATASET_PROMPTS : DATASET_DEMOS));
    text_put(&t,
             "  on_long: drop\n  on_bad: skip\n  max_bad: 1000000000\n"
             "train: {micro_tokens: 4096}\noptim: {lr: %g, warmup: 3}\n"
             "ppo:\n  {episodes: %" PRId64 ", batch: %d, minibatches: 4, epochs: 2, max_response: "
             "%" PRId64 ", beta: 0.05,\n   critic_lr: %g, ema: 0.9}\n",
             models[o->model].lr / 10, o->later_steps[PPO] * PPO_BATCH, PPO_BATCH, response(o),
             models[o->model].lr / 6);
    return text_take(&t);
}

static void put_split(Text *t, const char *name, const OwnGroup *g) {
    for (int i = 0; i < g->nfile && held_out(g); i++) {
        text_put(t,
                 "      rhetor-data split --heldout 0.05 --train \"${RUN}/%s_%d.jsonl\" "
                 "--heldout-out \"${RUN}/%s_%d_heldout.jsonl\" ",
                 name, i, name, i);
        put_shell(t, g->file[i]);
        text_put(t, "\n");
    }
}

static const char *last_stage(const Own *o) {
    return o->has[PPO] ? "ppo" : o->has[SFT] ? "sft" : "pretrain";
}

static char *pipeline_yaml(const Own *o) {
    const OwnGroup *texts = group(o, INSPECT_TEXTS);
    Text t = {0}, split = {0};
    text_put(&t,
             "# Written by rhetor-size for %g minutes on %" PRId64 " cores.\nsteps:\n"
             "  - name: tokenizer\n    run: |\n      rhetor-data tokenizer --vocab %" PRId64
             " --special '<|im_start|>' --special '<|im_end|>' --out \"${RUN}/tokenizer.json\"",
             o->minutes, o->machine.cores, vocabularies[o->vocab].size);
    put_texts(&t, texts);
    text_put(&t,
             "\n  - name: corpus\n    run: |\n      rhetor-data encode --tokenizer "
             "\"${RUN}/tokenizer.json\" --on-bad skip --max-bad 1000000000 --heldout %g "
             "--heldout-tail --out \"${RUN}/train.h5\" --heldout-out \"${RUN}/heldout.h5\"",
             texts->bytes < 1000000 ? 0.1 : 0.02);
    put_texts(&t, texts);
    text_put(&t, "\n");
    if (o->has[SFT]) put_split(&split, "demos", group(o, DATASET_DEMOS));
    if (o->has[REWARD]) put_split(&split, "ranked", group(o, DATASET_RANKED));
    if (o->has[PPO]) put_split(&split, "prompts", group(o, DATASET_PROMPTS));
    if (split.n) text_put(&t, "  - name: split\n    run: |\n%s", split.s);
    text_put(&t, "  - name: pretrain\n    stage: pretrain\n");
    for (int i = 0; i < LATER; i++)
        if (o->has[i]) text_put(&t, "  - name: %s\n    stage: %s\n", later[i].name, later[i].name);
    text_put(&t, "end: 'talk to it: rhetor-generate -m \"${RUN}/%s\" --chat'\n", last_stage(o));
    free(split.s);
    return text_take(&t);
}

static int write_file(const char *folder, const char *name, char *text) {
    AUTOFREE char *path = file_join(folder, name);
    int rc = file_write_durable(path, text, strlen(text));
    free(text);
    return rc;
}

/* pipeline.yaml comes last: it says that all is there. */
static int write_recipe(const Own *o, const char *folder) {
    char *(*const stage[LATER])(const Own *) = {sft_yaml, reward_yaml, ppo_yaml};
    static const char *const names[LATER] = {"sft.yaml", "reward.yaml", "ppo.yaml"};
    TRY(file_make_dirs(folder));
    TRY(write_file(folder, "pretrain.yaml", pretrain_yaml(o)));
    for (int i = 0; i < LATER; i++)
        if (o->has[i]) TRY(write_file(folder, names[i], stage[i](o)));
    return write_file(folder, "pipeline.yaml", pipeline_yaml(o));
}

/* --- time ------------------------------------------------------------------------------------- */

/* Tokens of a sequence, and what else of a stage's work depends on the data. */
static void fill_work(const Own *o, PlanStage *s) {
    static const char *const names[] = {"sft", "reward", "ppo"};
    const OwnGroup *demos = group(o, DATASET_DEMOS), *ranked = group(o, DATASET_RANKED);
    const double frame = 12, most = (double)o->context, bytes = token_bytes(o);
    PlanWork *w = &s->work;
    if (strcmp(s->name, names[SFT]) == 0) {
        w->length = fmin(most, frame + (double)demos->bytes / (double)demos->n / bytes);
        w->response = fmin(w->length, (double)demos->answer_bytes / (double)demos->answers / bytes);
    } else if (strcmp(s->name, names[REWARD]) == 0) {
        w->sequences = (double)ranked->answers / (double)ranked->n;
        w->length = fmin(most, frame + (double)ranked->bytes / (double)ranked->n / bytes);
    } else if (strcmp(s->name, names[PPO]) == 0) {
        const OwnGroup *p = group(o, DATASET_PROMPTS);
        if (p->n == 0) p = demos;
        w->response = (double)response(o);
        w->length =
            fmin(most, frame + (double)p->prompt_bytes / (double)p->n / bytes + w->response);
    }
}

/* Seconds of a step of each stage of the recipe as it is now; measures for about `seconds`. */
static int time_steps(Own *o, double seconds, double step[1 + LATER]) {
    char *folder = xasprintf("%s/rhetor-size.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(folder)) {
        int rc = file_error(folder, "create");
        free(folder);
        return rc;
    }
    const PlanGiven given = {.vocab = vocabularies[o->vocab].size};
    PlanStages s = {0};
    int rc = write_recipe(o, folder);
    if (rc >= 0) rc = stages_load(&s, folder, NULL, 0, &given);
    for (int i = 0; rc >= 0 && i < s.n; i++) fill_work(o, &s.v[i]);
    free(o->machine.origin);
    o->machine = (PlanMachine){.cores = comm_cores()};
    if (rc >= 0) rc = machine_measure(&o->machine, &s, seconds);
    for (int i = 0, k = 0; rc >= 0 && i < s.n; i++) {
        const PlanLayout l = {.ranks = 1, .per_node = 1, .threads = o->machine.rates[0].threads};
        PlanTime t;
        plan_time(&s.v[i].work, &l, &o->machine.rates[0], &o->machine.net, &t);
        for (k = 0; k < LATER && strcmp(later[k].name, s.v[i].name) != 0; k++) {
        }
        step[k < LATER ? 1 + k : 0] = t.step;
    }
    stages_free(&s);
    char **names;
    int n;
    if (file_list(folder, &names, &n) >= 0) {
        for (int i = 0; i < n; i++) {
            char *path = file_join(folder, names[i]);
            unlink(path);
            free(path);
        }
        file_free_list(&names, n);
    }
    rmdir(folder);
    free(folder);
    return rc;
}

/* --- choosing --------------------------------------------------------------------------------- */
static double parameters(const Own *o, int model) {
    const double d = models[model].width;
    return 12 * models[model].layers * d * d +
           d * (double)(vocabularies[o->vocab].size + o->context);
}

/* Nine in ten of the sequences fit. */
static int64_t context_for(Own *o) {
    int64_t n = o->tokens < 1e5 ? 128 : 256;
    for (int k = DATASET_DEMOS; k <= DATASET_RANKED; k++) {
        const double need = (double)own_data_quantile(&o->data.group[k], 0.9) / token_bytes(o) + 16;
        while (group(o, k)->n > 0 && n < 512 && (double)n < need) n += 64;
    }
    return n;
}

static double pretraining_seconds(const Own *o) {
    double share = 1;
    for (int i = 0; i < LATER; i++) share -= o->has[i] ? later[i].share : 0;
    return share * fmax(60 * o->minutes - o->prepare, 6 * o->minutes);
}

static void choose_model(Own *o) {
    const double rate = o->machine.rates[0].train, C = rate * pretraining_seconds(o);
    const double most = fmin(sqrt(C / 120), o->tokens);
    o->model = 0;
    while (o->model + 1 < MODELS && parameters(o, o->model + 1) <= most) o->model++;
}

static int64_t later_items(const Own *o, int i) {
    return group(o, i == SFT ? DATASET_DEMOS : DATASET_RANKED)->n;
}

static void choose_steps(Own *o, const double step[1 + LATER]) {
    double left = fmax(60 * o->minutes - o->prepare, 6 * o->minutes);
    const double budget = left;
    for (int i = 0; i < LATER; i++) {
        if (!o->has[i]) continue;
        double n = later[i].share * budget / step[1 + i];
        if (i == PPO)
            n = fmin(n, 60);
        else
            n = fmin(n, ceil(later[i].epochs * (double)later_items(o, i) / (double)o->batch));
        o->later_steps[i] = n < 1 ? 1 : (int64_t)n;
        if (i == PPO && o->later_steps[i] < PPO_LEAST) {
            o->has[PPO] = false;
            warn(o,
                 "PPO is left out: %.0f of its iterations, of %.0f s each, fit into its part of "
                 "the time; more --minutes",
                 floor(n), step[1 + i]);
            continue;
        }
        o->later_seconds[i] = (double)o->later_steps[i] * step[1 + i];
        left -= o->later_seconds[i];
    }
    const double passes = o->tokens < 1e6 ? 20 : o->tokens < 5e6 ? 10 : 4;
    const double a_step = (double)(o->windows * o->context);
    const double n = fmin(left / step[0], ceil(passes * o->tokens / a_step));
    o->steps = n < 20 ? 20 : (int64_t)n;
    o->seconds = (double)o->steps * step[0];
}

static int choose(Own *o) {
    const OwnGroup *texts = group(o, INSPECT_TEXTS);
    double step[1 + LATER] = {0};
    if (texts->bytes < LITTLE_TEXT)
        return error_set(ERR_DATA,
                         "%s: %" PRId64 " bytes of text; expected at least %d, and "
                         "millions for sentences",
                         o->folder, texts->bytes, LITTLE_TEXT);
    while ((double)texts->bytes > vocabularies[o->vocab].up_to) o->vocab++;
    o->tokens = (double)texts->bytes / token_bytes(o) * (texts->bytes < 1000000 ? 0.9 : 0.98);
    o->context = context_for(o);
    o->windows = (o->tokens < 1e5 ? 1024 : 4096) / o->context;
    if (o->windows < 4) o->windows = 4;
    o->has[SFT] = group(o, DATASET_DEMOS)->n > 0;
    o->has[REWARD] = o->has[SFT] && group(o, DATASET_RANKED)->n > 0;
    o->has[PPO] = o->has[REWARD];
    o->batch = group(o, DATASET_DEMOS)->n > 5000 ? 32 : 16;
    o->prepare = 5 + (double)texts->bytes / 4e6;
    o->steps = 1000;
    for (int i = 0; i < LATER; i++) o->later_steps[i] = 100;
    o->model = FIRST_GUESS;
    TRY(time_steps(o, 0.5, step));
    choose_model(o);
    TRY(time_steps(o, 1, step));
    choose_steps(o, step);
    return 0;
}

/* "21.3 kB", "1.75 million tokens" */
static const char *amount(double n, const char *thousand, const char *million, char out[48]) {
    snprintf(out, 48, "%.3g %s", n < 1e6 ? n / 1e3 : n / 1e6, n < 1e6 ? thousand : million);
    return out;
}

/* --- what is too little ----------------------------------------------------------------------- */
static void judge_records(Own *o, int kind, const char *what) {
    OwnGroup *g = &o->data.group[kind];
    if (g->bad > 0)
        warn(o,
             "%" PRId64 " of %" PRId64 " %s are malformed and left out (rhetor-data inspect says "
             "why)",
             g->bad, g->n + g->bad, what);
    if (g->empty > 0)
        warn(o, "%" PRId64 " %s have an empty answer: it teaches to say nothing", g->empty, what);
    int64_t fit = 0;
    while (fit < g->n && (double)g->length[fit] / token_bytes(o) + 16 <= (double)o->context) fit++;
    if (g->n > 0 && kind != DATASET_PROMPTS && g->n - fit > g->n / 20)
        warn(o,
             "%" PRId64 " of %" PRId64 " %s are longer than the context of %" PRId64 " tokens and "
             "are %s",
             g->n - fit, g->n, what, o->context, kind == DATASET_RANKED ? "cut" : "left out");
}

static void judge(Own *o) {
    char a[48], b[48];
    const OwnGroup *texts = group(o, INSPECT_TEXTS), *demos = group(o, DATASET_DEMOS),
                   *ranked = group(o, DATASET_RANKED);
    const char *learns = texts->bytes < 200000    ? "letters and frequent words, no sentences"
                         : texts->bytes < 2000000 ? "words and short phrases, hardly a sentence"
                                                  : "phrases and sentences, little sense";
    if (texts->bytes < 10000000)
        warn(o, "%s of text are about %s: the model will learn %s; 10 MB and more are a beginning",
             amount((double)texts->bytes, "kB", "MB", a),
             amount(o->tokens, "thousand tokens", "million tokens", b), learns);
    if (o->has[SFT] && demos->n < 1000)
        warn(o,
             "%" PRId64 " demonstration%s: SFT will learn their form, not their content; some "
             "thousands are usual",
             demos->n, demos->n == 1 ? "" : "s");
    if (o->has[REWARD] && ranked->n < 1000)
        warn(o,
             "%" PRId64 " ranking%s: the reward model will hardly judge better than chance; some "
             "thousands are usual",
             ranked->n, ranked->n == 1 ? "" : "s");
    if (o->has[SFT]) judge_records(o, DATASET_DEMOS, "demonstrations");
    if (o->has[REWARD]) judge_records(o, DATASET_RANKED, "rankings");
    if (o->has[PPO]) judge_records(o, DATASET_PROMPTS, "prompts");
    const double seen = (double)(o->steps * o->windows * o->context);
    if (seen < 5 * parameters(o, o->model) && seen < 3 * o->tokens)
        warn(o,
             "there is time for %.2g tokens, and %.2g would suit this model: more --minutes make "
             "it better",
             seen, 20 * parameters(o, o->model));
}

/* --- the report ------------------------------------------------------------------------------- */
static void put_time(double s) {
    if (s < 100)
        printf("%6.0f s\n", s);
    else
        printf("%6.0f min\n", s / 60);
}

static void print_data(const Own *o) {
    static const char *const names[] = {"demonstrations", "rankings", "prompts", "labelled",
                                        "texts"};
    static const int order[] = {INSPECT_TEXTS, DATASET_DEMOS, DATASET_RANKED, DATASET_PROMPTS,
                                DATASET_LABELLED};
    char text[48];
    printf("in %s:\n", o->folder);
    for (int i = 0; i < OWN_KINDS; i++) {
        const OwnGroup *g = group(o, order[i]);
        if (order[i] == DATASET_LABELLED && g->n == 0) continue; /* rarely there */
        printf("  %-15s", names[order[i]]);
        if (g->n == 0)
            printf("none\n");
        else
            printf("%" PRId64 " in %d file%s, %s\n", g->n, g->nfile, g->nfile == 1 ? "" : "s",
                   amount((double)g->bytes, "kB", "MB", text));
    }
    for (int i = 0; i < o->data.nleft && i < 5; i++) printf("  left out: %s\n", o->data.left[i]);
    if (o->data.nleft > 5) printf("  and %d files more\n", o->data.nleft - 5);
}

static void print_choice(const Own *o) {
    const double seen = (double)(o->steps * o->windows * o->context);
    double total = o->prepare + o->seconds;
    printf("for %g minute%s on %" PRId64 " core%s, %.3g GFLOP/s:\n", o->minutes, TEXT_S(o->minutes),
           o->machine.cores, o->machine.cores == 1 ? "" : "s", o->machine.rates[0].train / 1e9);
    printf("  %-15s%" PRId64 " ids\n", "tokenizer", vocabularies[o->vocab].size);
    printf("  %-15s%d layers, %d heads, width %d, context %" PRId64 ": %.2g million parameters\n",
           "model", models[o->model].layers, models[o->model].heads, models[o->model].width,
           o->context, parameters(o, o->model) / 1e6);
    printf("  %-15s%-44s", "files", "tokenizer, corpus, splitting");
    put_time(o->prepare);
    char *text = xasprintf("%" PRId64 " steps of %" PRId64 " windows, the text %.2g times",
                           o->steps, o->windows, seen / o->tokens);
    printf("  %-15s%-44s", "pretrain", text);
    put_time(o->seconds);
    free(text);
    for (int i = 0; i < LATER; i++) {
        if (!o->has[i]) continue;
        total += o->later_seconds[i];
        text =
            i == PPO
                ? xasprintf("%" PRId64 " iterations of %d episodes", o->later_steps[i], PPO_BATCH)
                : xasprintf("%" PRId64 " steps of %" PRId64 ", the records %.2g times",
                            o->later_steps[i], o->batch,
                            (double)(o->later_steps[i] * o->batch) / (double)later_items(o, i));
        printf("  %-15s%-44s", later[i].name, text);
        put_time(o->later_seconds[i]);
        free(text);
    }
    printf("  %-15s%-44s", "in all", "");
    put_time(total);
    if (!o->has[SFT])
        printf(
            "  left out: sft, reward, ppo: there are no demonstrations, so it continues texts and "
            "does not answer\n");
    else if (!o->has[REWARD])
        printf("  left out: reward, ppo: there are no rankings\n");
    else if (o->has[PPO] && group(o, DATASET_PROMPTS)->n == 0)
        printf("  PPO takes the prompts of the demonstrations, as there are no others\n");
    for (int i = 0; i < o->nwarning; i++) printf("  warning: %s\n", o->warning[i]);
    fflush(stdout);
}

int own_recipe(const char *data, const char *out, double minutes) {
    Own o = {.folder = data, .out = out, .minutes = minutes};
    int rc = own_data_read(&o.data, data);
    if (rc != ERR_CONFIG) print_data(&o);
    fflush(stdout);
    if (rc >= 0) rc = choose(&o);
    if (rc >= 0) {
        judge(&o);
        print_choice(&o);
        if (out) rc = write_recipe(&o, out);
    }
    for (int i = 0; i < o.nwarning; i++) free(o.warning[i]);
    free(o.machine.origin);
    own_data_free(&o.data);
    return rc < 0 ? rc : 0;
}
