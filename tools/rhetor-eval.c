/* rhetor-eval: how good is a model? loss, logprobs, reward, rank, win, compare,
 * pick. Each subcommand has its own --help, and is in tools/eval/. */
#include <argp.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/openmp.h"
#include "base/option.h"
#include "core/blas.h"
#include "tools/eval/eval.h"

enum {
    OPT_REWARD = 1000,
    OPT_PROMPTS,
    OPT_BASE,
    OPT_JSON,
    OPT_EXPECT,
    OPT_EXPECT_SE,
    OPT_HELDOUT,
    OPT_MAX,
    OPT_MAX_NEW,
    OPT_BEST_OF,
    OPT_SEED,
    OPT_SAMPLES,
    OPT_TEMPERATURE,
    OPT_NO_STOP_SCORE,
    OPT_GOLD,
    OPT_EXPECT_ACCURACY,
    OPT_OUT
};

#define MODEL_OPTION \
    { "model", 'm', "PATH", 0, "run folder or checkpoint", 0 }
#define NO_STOP_OPTION                                                           \
    {                                                                            \
        "no-stop-score", OPT_NO_STOP_SCORE, "X", 0,                              \
            "reward of an answer that was cut off, as ppo.no_stop_score (-1)", 0 \
    }
#define MAX_OPTION \
    { "max-records", OPT_MAX, "N", 0, "use only the first N records", 0 }
static const struct argp_option model_options[] = {MODEL_OPTION, MAX_OPTION, {0}};
static const struct argp_option loss_options[] = {
    MODEL_OPTION,
    {"max-records", OPT_MAX, "N", 0,
     "measure only N windows of the context's length, spread evenly", 0},
    {0}};
static const struct argp_option rank_options[] = {
    MODEL_OPTION,
    {"expect-accuracy", OPT_EXPECT_ACCURACY, "X", 0, "fail (exit 70) below this accuracy", 0},
    MAX_OPTION,
    {0}};
static const struct argp_option win_options[] = {
    {"gold", OPT_GOLD, 0, 0, "judge by the gold program of the embedded world", 0},
    {"reward", OPT_REWARD, "PATH", 0, "judge by this reward model", 0},
    NO_STOP_OPTION,
    MAX_OPTION,
    {0}};
static const struct argp_option compare_options[] = {
    {"model", 'm', "NAME=PATH", 0, "a model; give one for each row", 0},
    {"base", OPT_BASE, "NAME", 0, "the model that differences, win rates and KL refer to (sft)", 0},
    {"reward", OPT_REWARD, "PATH", 0, "reward model", 0},
    {"prompts", OPT_PROMPTS, "FILE", 0,
     "held-out prompts; with \"gold\" they are scored by the gold program", 0},
    {"heldout", OPT_HELDOUT, "CORPUS", 0, "held-out corpus for the language-model loss", 0},
    {"best-of", OPT_BEST_OF, "N", 0,
     "a row for the best of N samples of the base by the reward model", 0},
    {"max-new", OPT_MAX_NEW, "N", 0, "longest answer in tokens (64)", 0},
    {"temperature", OPT_TEMPERATURE, "T", 0, "(1)", 0},
    NO_STOP_OPTION,
    {"seed", OPT_SEED, "N", 0, "(1)", 0},
    {"samples", OPT_SAMPLES, "N", 0, "show the answers to N prompts (4)", 0},
    {"json", OPT_JSON, "FILE", 0, "also write the table as JSON", 0},
    {"expect", OPT_EXPECT, "A>B>C", 0,
     "fail (exit 70) unless each model's score is above the next one's", 0},
    {"expect-se", OPT_EXPECT_SE, "X", 0, "... by more than X paired standard errors (5)", 0},
    MAX_OPTION,
    {0}};

static const struct argp_option pick_options[] = {
    {"model", 'm', "RUN", 0, "run folder of rhetor-sft", 0},
    {"reward", OPT_REWARD, "PATH", 0, "reward model", 0},
    {"prompts", OPT_PROMPTS, "FILE", 0, "held-out prompts, not those of the final evaluation", 0},
    {"out", OPT_OUT, "DIR", 0,
     "folder that will hold the picked checkpoint, for from.model and --model, and picked.json "
     "(without: only the table)",
     0},
    {"max-new", OPT_MAX_NEW, "N", 0, "longest answer in tokens (64)", 0},
    {"temperature", OPT_TEMPERATURE, "T", 0, "(1)", 0},
    NO_STOP_OPTION,
    {"seed", OPT_SEED, "N", 0, "(1)", 0},
    MAX_OPTION,
    {0}};

static void add_model(Args *a, char *arg, struct argp_state *state) {
    a->model = arg;
    char *eq = strchr(arg, '=');
    if (!eq) return;
    if (a->nmodel == MAX_LIST) argp_error(state, "at most %d models", MAX_LIST);
    *eq = '\0';
    a->name[a->nmodel] = arg;
    a->path[a->nmodel++] = eq + 1;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    switch (key) {
    case 'm': add_model(a, arg, state); break;
    case OPT_REWARD: a->reward = arg; break;
    case OPT_PROMPTS: a->prompts = arg; break;
    case OPT_BASE: a->base = arg; break;
    case OPT_JSON: a->json = arg; break;
    case OPT_EXPECT: a->expect = arg; break;
    case OPT_EXPECT_SE:
        a->expect_se = option_number(state, "expect-se", arg, -DBL_MAX, DBL_MAX);
        break;
    case OPT_HELDOUT: option_push(state, "heldout", a->heldout, &a->nheldout, MAX_LIST, arg); break;
    case OPT_MAX: a->max = option_whole(state, "max-records", arg, 0); break;
    case OPT_MAX_NEW: a->max_new = option_whole(state, "max-new", arg, 0); break;
    case OPT_BEST_OF: a->best_of = option_whole(state, "best-of", arg, 0); break;
    case OPT_SEED: a->seed = option_whole(state, "seed", arg, 0); break;
    case OPT_SAMPLES: a->samples = option_whole(state, "samples", arg, 0); break;
    case OPT_TEMPERATURE:
        a->temperature = option_number(state, "temperature", arg, -DBL_MAX, DBL_MAX);
        break;
    case OPT_OUT: a->out = arg; break;
    case OPT_NO_STOP_SCORE:
        a->no_stop_score = option_number(state, "no-stop-score", arg, -DBL_MAX, DBL_MAX);
        break;
    case OPT_GOLD: a->gold = true; break;
    case OPT_EXPECT_ACCURACY:
        a->expect_accuracy = option_number(state, "expect-accuracy", arg, -DBL_MAX, DBL_MAX);
        break;
    case ARGP_KEY_ARG:
        if (a->nfile == MAX_LIST) argp_error(state, "at most %d files", MAX_LIST);
        a->file[a->nfile++] = arg;
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

json_t *decimals(double v, int n) {
    return isfinite(v) ? json_real(round(v * pow(10, n)) / pow(10, n)) : json_null();
}

void print_result(json_t *j) {
    json_dumpf(j, stdout, JSON_REAL_PRECISION(15));
    putchar('\n');
    json_decref(j);
}

static const struct {
    const char *name;
    int (*run)(const Args *);
    bool model, file; /* needed */
    struct argp argp;
} commands[] = {
    {"loss",
     cmd_loss,
     true,
     true,
     {loss_options, parse, "FILE...",
      "Nats a token and bits a byte on corpora (.h5), texts (a document a file) or .jsonl "
      "({\"text\"}: a document each), also .gz and .zst.",
      0, 0, 0}},
    {"logprobs",
     cmd_logprobs,
     true,
     false,
     {model_options, parse, "[FILE.jsonl]",
      "For each {\"text\"} or {\"tokens\":[...]} line (file or standard input): "
      "{\"tokens\":[...],\"logprobs\":[...]}; "
      "logprobs[i] is that of tokens[i+1] given the ones before.",
      0, 0, 0}},
    {"reward",
     cmd_reward,
     true,
     true,
     {model_options, parse, "FILE.jsonl",
      "A reward model's score of each {\"prompt\",\"completion\"} line.", 0, 0, 0}},
    {"rank",
     cmd_rank,
     true,
     true,
     {rank_options, parse, "FILE.jsonl",
      "Accuracy, margin and calibration of a reward model on rankings.", 0, 0, 0}},
    {"win",
     cmd_win,
     false,
     true,
     {win_options, parse, "A.jsonl B.jsonl",
      "How often A's sample beats B's for the same prompt (ties half); files as rhetor-generate "
      "--out writes them.",
      0, 0, 0}},
    {"compare",
     cmd_compare,
     false,
     false,
     {compare_options, parse, NULL, "A table of models that answer the same held-out prompts.", 0,
      0, 0}},
    {"pick",
     cmd_pick,
     true,
     false,
     {pick_options, parse, NULL,
      "Which checkpoint of an SFT run PPO starts from: the latest that the reward model scores "
      "within one standard error of the best.",
      0, 0, 0}},
};
enum { NCOMMAND = sizeof commands / sizeof *commands };

static int usage(FILE *f) {
    fprintf(f, "Usage: rhetor-eval COMMAND [options]; each command has --help\n");
    for (int i = 0; i < NCOMMAND; i++)
        fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].argp.doc);
    return f == stdout ? 0 : error_exit_code(ERR_USAGE);
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    if (argc < 2) return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) return usage(stdout);
    if (strcmp(argv[1], "--version") == 0) return puts("rhetor-eval " RHETOR_VERSION) < 0;
    for (int i = 0; i < NCOMMAND; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        Args a = {.base = "sft",
                  .max_new = 64,
                  .temperature = 1,
                  .no_stop_score = -1,
                  .seed = 1,
                  .samples = 4,
                  .expect_se = 5};
        char name[64];
        snprintf(name, sizeof name, "rhetor-eval %s", commands[i].name);
        argv[1] = name;
        argp_err_exit_status = error_exit_code(ERR_USAGE);
        argp_parse(&commands[i].argp, argc - 1, argv + 1, 0, NULL, &a);
        core_init();
        int rc = 0;
        if (commands[i].model && !a.model)
            rc = error_set(ERR_USAGE, "which model? --model runs/NAME/STAGE");
        else if (commands[i].file && a.nfile == 0)
            rc = error_set(ERR_USAGE, "which file? see %s --help", name);
        else
            rc = commands[i].run(&a);
        if (rc < 0) fprintf(stderr, "%s: %s\n", name, error_message());
        return error_exit_code(rc);
    }
    fprintf(stderr, "rhetor-eval: no command \"%s\"\n", argv[1]);
    return usage(stderr);
}
