/* rhetor-eval: how good is a model? loss, logprobs, reward, rank, win, compare, seeds,
 * judge, pick, probe. Each subcommand has its own --help, and is in tools/eval/. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/openmp.h"
#include "base/option.h"
#include "core/kernel.h"
#include "tools/eval/eval.h"

static int add_model(void *args, const Option *o, char *arg) {
    Args *a = args;
    char *eq = strchr(arg, '=');
    if (!eq) return error_set(ERR_USAGE, "--model is \"%s\"; expected NAME=PATH", arg);
    if (a->o.n == MAX_LIST) return error_set(ERR_USAGE, "at most %d models", MAX_LIST);
    *eq = '\0';
    a->name[a->o.n] = arg;
    a->path[a->o.n++] = eq + 1;
    return 0;
}

static int add_policy(void *args, const Option *o, char *arg) {
    Args *a = args;
    char *eq = strchr(arg, '=');
    if (!eq) return error_set(ERR_USAGE, "--policy is \"%s\"; expected NAME=POLICY", arg);
    if (a->o.npolicy == MAX_LIST) return error_set(ERR_USAGE, "at most %d policies", MAX_LIST);
    *eq = '\0';
    a->policy_name[a->o.npolicy] = arg;
    a->policy[a->o.npolicy++] = eq + 1;
    return 0;
}

#define MODEL \
    { "model", 'm', "PATH", "run folder or checkpoint", OPT_TEXT(model) }
#define REWARD \
    { "reward", 0, "PATH", "reward model", OPT_TEXT(o.reward) }
#define MAX \
    { "max-records", 0, "N", "use only the first N records", OPT_WHOLE(o.max_prompts, 0, 0) }
#define SEED \
    { "seed", 0, "N", "(1)", OPT_WHOLE(o.seed, 0, 0) }
#define SAMPLING                                                                 \
    {"max-new", 0, "N", "longest answer in tokens (64, or half of the context)", \
     OPT_WHOLE(o.max_new, 1, 0)},                                                \
    {                                                                            \
        "temperature", 0, "T", "(1)", OPT_NUMBER(o.temperature, 0, 0)            \
    }
#define NO_STOP                                                                \
    {                                                                          \
        "no-stop-score", 0, "X",                                               \
            "reward of an answer that was cut off, as ppo.no_stop_score (-1)", \
            OPT_NUMBER(o.no_stop_score, 0, 0)                                  \
    }
#define FILES(value, least, most) \
    { NULL, 0, value, NULL, OPT_LIST(file), .low = least, .high = most }

static const Option loss_options[] = {
    MODEL,
    {"max-records", 0, "N", "measure only N windows of the context's length, spread evenly",
     OPT_WHOLE(o.max_prompts, 0, 0)},
    FILES("FILE...", 1, 0),
    {0}};
static const Option logprobs_options[] = {MODEL, MAX, FILES("[FILE.jsonl]", 0, 1), {0}};
static const Option reward_options[] = {MODEL, MAX, FILES("FILE.jsonl", 1, 0), {0}};
static const Option rank_options[] = {MODEL,
                                      {"expect-accuracy", 0, "X",
                                       "fail (exit 70) below this accuracy",
                                       OPT_NUMBER(expect_accuracy, 0, 0)},
                                      MAX,
                                      FILES("FILE.jsonl", 1, 0),
                                      {0}};
static const Option win_options[] = {
    {"gold", 0, NULL, "judge by the gold program of the embedded world", OPT_FLAG(gold)},
    {"reward", 0, "PATH", "judge by this reward model", OPT_TEXT(o.reward)},
    NO_STOP,
    MAX,
    FILES("A.jsonl B.jsonl", 0, 0),
    {0}};
static const Option compare_options[] = {
    {"model", 'm', "NAME=PATH", "a model; give one for each row", OPT_CALL(add_model)},
    {"base", 0, "NAME", "the model that differences, win rates and KL refer to (sft)",
     OPT_TEXT(o.base)},
    {"raw", 0, "NAME",
     "this model goes on from the prompt without a template, up to the first full stop: one that "
     "was "
     "only pretrained",
     OPT_TEXT(o.raw)},
    {"policy", 0, "NAME=POLICY",
     "a row for answers without understanding, such as \"best that reads no facts\" (rhetor-data "
     "policies lists them)",
     OPT_CALL(add_policy)},
    REWARD,
    {"prompts", 0, "FILE", "held-out prompts; with \"gold\" they are scored by the gold program",
     OPT_TEXT(o.prompts)},
    {"heldout", 0, "CORPUS", "held-out corpus for the language-model loss", OPT_LIST(o.heldout)},
    {"best-of", 0, "N", "a row for the best of N samples of the base by the reward model",
     OPT_WHOLE(o.best_of, 0, 0)},
    SAMPLING,
    NO_STOP,
    SEED,
    {"samples", 0, "N", "show the answers to N prompts (4)", OPT_WHOLE(o.samples, 0, 0)},
    {"json", 0, "FILE", "also write the table as JSON", OPT_TEXT(json)},
    {"expect", 0, "A>B>C",
     "fail (exit 70) unless each score is above the next one's. Also of a group, by so many paired "
     "standard errors, and of the share of an act: \"ppo>sft on answerable by 3 se\", \"falsely "
     "abstained: ppo<sft+0.02 by 0 se\". May be given often",
     OPT_LIST(expect)},
    {"expect-se", 0, "X", "by how many where it does not say (5)", OPT_NUMBER(expect_se, 0, 0)},
    MAX,
    {0}};
static const Option seeds_options[] = {FILES("TABLE.json...", 1, 0), {0}};
static const Option judge_options[] = {
    {"train", 0, "FILE", "labelled texts, {\"text\", \"label\": 0 or 1}", OPT_TEXT(train)},
    {"shuffle", 0, NULL, "the control: learn from the labels of other texts", OPT_FLAG(shuffle)},
    SEED,
    FILES("FILE.jsonl...", 1, 0),
    {0}};
static const Option pick_options[] = {
    {"model", 'm', "RUN", "run folder of rhetor-sft", OPT_TEXT(model)},
    REWARD,
    {"prompts", 0, "FILE", "held-out prompts, not those of the final evaluation",
     OPT_TEXT(o.prompts)},
    {"out", 0, "DIR",
     "folder that will hold the picked checkpoint, for from.model and --model, and picked.json "
     "(without: only the table)",
     OPT_TEXT(out)},
    SAMPLING,
    NO_STOP,
    SEED,
    MAX,
    {0}};

static const Option probe_options[] = {
    MODEL,
    {"probes", 0, "N", "of each kind (240)", OPT_WHOLE(probes, 1, 1000000)},
    SEED,
    {"json", 0, "FILE", "also write the table as JSON", OPT_TEXT(json)},
    {"expect", 0, "X", "fail (exit 70) where a kind's accuracy is below X",
     OPT_NUMBER(expect_accuracy, 0, 1)},
    {0}};

json_t *eval_decimals(double v, int n) {
    return isfinite(v) ? json_real(round(v * pow(10, n)) / pow(10, n)) : json_null();
}

void eval_print(json_t *j) {
    json_dumpf(j, stdout, JSON_REAL_PRECISION(15));
    putchar('\n');
    json_decref(j);
}

static const Option best_options[] = {
    {"model", 'm', "NAME=PATH", "a reward model; give one or several", OPT_CALL(add_model)},
    NO_STOP,
    {"json", 0, "FILE", "also write the tables as JSON", OPT_TEXT(json)},
    {"out", 0, "FILE", "also write the records with their gold and reward models' scores",
     OPT_TEXT(out)},
    MAX,
    FILES("SAMPLES.jsonl", 1, 1),
    {0}};

static const struct {
    OptionCommand command;
    int (*run)(const Args *);
    bool model; /* needed */
} commands[] = {
    {{"loss",
      "Nats a token and bits a byte on corpora (.h5), texts (a document a file) or .jsonl "
      "({\"text\"}: a document each), also .gz and .zst.",
      loss_options, NULL},
     eval_loss,
     true},
    {{"logprobs",
      "For each {\"text\"} or {\"tokens\":[...]} line (file or standard input): "
      "{\"tokens\":[...],\"logprobs\":[...]}; logprobs[i] is that of tokens[i+1] given the ones "
      "before.",
      logprobs_options, NULL},
     eval_logprobs,
     true},
    {{"reward", "A reward model's score of each {\"prompt\",\"completion\"} line.", reward_options,
      NULL},
     eval_reward,
     true},
    {{"rank", "Accuracy, margin and calibration of a reward model on rankings.", rank_options,
      NULL},
     eval_rank,
     true},
    {{"win",
      "How often A's sample beats B's for the same prompt (ties half); files as rhetor-generate "
      "--out writes them.",
      win_options, NULL},
     eval_win,
     false},
    {{"compare", "A table of models that answer the same held-out prompts.", compare_options, NULL},
     eval_compare,
     false},
    {{"seeds",
      "The tables that compare --json wrote for several seeds, side by side as Markdown, with "
      "intervals over the seeds.",
      seeds_options, NULL},
     eval_seeds,
     false},
    {{"judge",
      "What share of texts ({\"text\"} or {\"completions\"} records) a naive Bayes classifier on "
      "words "
      "and pairs of words, learned from --train, takes for positive, and how varied they are. Of "
      "labelled texts its accuracy.",
      judge_options, NULL},
     eval_judge,
     false},
    {{"pick",
      "Which checkpoint of an SFT run PPO starts from: the latest that the reward model scores "
      "within one standard error of the best.",
      pick_options, NULL},
     eval_pick,
     true},
    {{"probe",
      "Can a model of the embedded world read? It looks facts up, tells whose they are, copies, "
      "adds "
      "and subtracts, in the form of the documents it was pretrained on.",
      probe_options, NULL},
     eval_probe,
     true},
    {{"best-of",
      "Best of n for many n, by several reward models, from the samples that rhetor-generate --n K "
      "kept: means over all subsets of n, so without bias.",
      best_options, NULL},
     eval_best,
     false},
};

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {.o = {.base = "sft",
                    .temperature = 1,
                    .no_stop_score = -1,
                    .seed = 1,
                    .samples = 4,
                    .micro_tokens = MICRO_TOKENS},
              .expect_se = 5,
              .probes = 240};
    a.o.name = a.name;
    a.o.path = a.path;
    a.o.policy_name = a.policy_name;
    a.o.policy = a.policy;
    const int c = option_command(&commands[0].command, sizeof commands / sizeof *commands,
                                 sizeof *commands, argc, argv, &a);
    core_init();
    if (commands[c].model && !a.model)
        return option_end(error_set(ERR_USAGE, "which model? --model runs/NAME/STAGE"));
    return option_end(commands[c].run(&a));
}
