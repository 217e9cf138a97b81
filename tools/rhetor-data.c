/* rhetor-data: text into tokens, tokens into corpora, and a look at what is in a file of data. The
 * subcommands are in tools/data/. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/openmp.h"
#include "base/option.h"
#include "tools/data/data.h"

/* --- values of options ------------------------------------------------------------------------ */

/* prompt=question */
static int set_field(void *args, const Option *option, char *arg) {
    DatasetOptions *o = &((Args *)args)->records;
    const size_t n = strcspn(arg, "=");
    for (int i = 0; arg[n] && i < RECORD_FIELDS; i++)
        if (strlen(dataset_field_names[i]) == n && strncmp(arg, dataset_field_names[i], n) == 0) {
            o->field[i] = arg + n + 1;
            return 0;
        }
    return error_set(ERR_USAGE,
                     "--fields is \"%s\"; expected NAME=FIELD with the name prompt, completion, "
                     "chosen, rejected or messages",
                     arg);
}

static int set_template(void *args, const Option *option, char *arg) {
    DatasetOptions *o = &((Args *)args)->records;
    if (*arg != '{') return template_by_name(arg, &o->tmpl);
    json_auto_t *j = NULL;
    TRY(json_parse(&j, arg, strlen(arg), "--template", 1));
    return template_from_json(j, &o->tmpl);
}

static int skip_bad(void *args, const Option *option, char *arg) {
    DatasetOptions *o = &((Args *)args)->records;
    o->on_bad = ON_BAD_SKIP;
    o->max_bad = INT64_MAX;
    return 0;
}

/* A file or a pattern, "*.txt" in quotes, which we expand. After an error the first message is
 * kept. */
static int add_files(void *args, const Option *option, char *arg) {
    Args *a = args;
    AUTOFREE char **found = NULL;
    const char *name = arg;
    int n;
    if (a->files_rc < 0) return 0;
    if ((a->files_rc = file_glob(&name, 1, &found, &n)) < 0) return 0;
    size_t all = (size_t)(a->nfile + n);
    a->file = xrealloc(a->file, all * sizeof *a->file);
    a->file_weight = xrealloc(a->file_weight, all * sizeof *a->file_weight);
    for (int i = 0; i < n; i++) {
        a->file_weight[a->nfile] = a->weight;
        a->file[a->nfile++] = found[i];
    }
    return 0;
}

/* --- options, by subcommand ------------------------------------------------------------------- */

#define TOKENIZER                                                                           \
    {                                                                                       \
        "tokenizer", 't', "FILE",                                                           \
            "tokenizer.json, a .tiktoken file, or a folder with vocab.json and merges.txt", \
            OPT_TEXT(tokenizer)                                                             \
    }
#define OUT \
    { "out", 'o', "FILE", "where to write (standard output)", OPT_TEXT(out) }
#define FIELDS                                                                           \
    {                                                                                    \
        "fields", 0, "NAME=FIELD", "data.fields, e.g. prompt=question; may be repeated", \
            OPT_CALL(set_field)                                                          \
    }
#define GOLD                                                                                     \
    {                                                                                            \
        "gold", 0, NULL, "by the gold reward of the embedded world (needed: there is no other)", \
            OPT_FLAG(gold)                                                                       \
    }
#define FILES(most) \
    { NULL, 0, "FILE...", NULL, OPT_CALL(add_files), .high = most }
#define IN \
    { NULL, 0, "IN.jsonl", NULL, OPT_CALL(add_files), .low = 1, .high = 1 }

static const Option tokenizer_options[] = {
    {"out", 'o', "FILE", "the tokenizer.json to write", OPT_TEXT(out)},
    {"vocab", 0, "N", "number of ids: special tokens, 256 bytes, merges", OPT_WHOLE(vocab, 257, 0)},
    {"min-frequency", 0, "N", "merge only pairs that occur as often (2)",
     OPT_WHOLE(min_frequency, 1, 0)},
    {"tie-break", 0, "HOW",
     "of equally frequent pairs merge the one that Hugging Face's trainer would (hf), or the last "
     "by its bytes (bytes) (hf)",
     OPT_WORD(tie_break, "hf|bytes")},
    {"from", 0, "FILE",
     "no training: write this tokenizer (vocab.json + merges.txt, .tiktoken) as a tokenizer.json",
     OPT_TEXT(from)},
    {"encoding", 0, "NAME",
     "of a .tiktoken file: gpt2, r50k, p50k, cl100k or o200k (recognised by its name or size)",
     OPT_TEXT(encoding)},
    {"special", 0, "TOKEN",
     "a special token after <|endoftext|>, which is always the first; may be repeated. With "
     "--chars there are only those given",
     OPT_LIST(special)},
    {"chars", 0, NULL,
     "no merges: the characters (bytes) that occur, as nanoGPT's shakespeare_char has it",
     OPT_FLAG(chars)},
    {"field", 0, "NAME", "field of .json and .jsonl records to train on; may be repeated (text)",
     OPT_LIST(field)},
    {"split", 0, "TEXT", "separator between the documents of a .txt file", OPT_TEXT(split)},
    FILES(0),
    {0}};

static const Option encode_options[] = {
    TOKENIZER,
    {"out", 'o', "FILE", "the corpus to write", OPT_TEXT(out)},
    {"heldout", 0, "SHARE",
     "hold out so large a share of the documents, chosen by a hash of their text",
     OPT_NUMBER(heldout, 0, 1)},
    {"heldout-out", 0, "FILE", "the corpus of what is held out", OPT_TEXT(heldout_out)},
    {"heldout-tail", 0, NULL, "hold out the end of each file instead", OPT_FLAG(heldout_tail)},
    {"split", 0, "TEXT",
     "separator between the documents of a .txt file; without it the file is one document",
     OPT_TEXT(split)},
    {"weight", 0, "W",
     "how often each document of the files after it goes in: 2 is twice, 0.5 half of them, chosen "
     "by a hash of their text (1)",
     OPT_NUMBER(weight, 0, 1000)},
    {"dedup", 0, NULL, "of equal documents take only the first", OPT_FLAG(dedup)},
    {"on-bad", 0, "stop|skip", "malformed records, text that is no UTF-8 (stop)",
     OPT_WORD(records.on_bad, "stop|skip")},
    {"max-bad", 0, "N", "with --on-bad skip, stop after so many (100)",
     OPT_WHOLE(records.max_bad, 0, 0)},
    {"no-eot", 0, NULL, "no end-of-text token after each document", OPT_FLAG(no_eot)},
    {"field", 0, "NAME", "field of .json and .jsonl records (text)", OPT_LIST(field)},
    {"ids", 0, NULL,
     "print {\"ids\":[...]} for each {\"text\"} line of the file instead of writing a corpus",
     OPT_FLAG(ids)},
    {"count", 0, NULL,
     "print {\"bytes\", \"tokens\", \"seconds\", \"cpu_seconds\"} of text files instead, in "
     "constant memory",
     OPT_FLAG(count)},
    {"specials", 0, NULL, "with --ids: special tokens in the text are special", OPT_FLAG(specials)},
    FILES(0),
    {0}};

static const Option decode_options[] = {TOKENIZER, OUT, IN, {0}};

static const Option inspect_options[] = {
    {"tokenizer", 't', "FILE", "for records and texts; without it lengths are in bytes",
     OPT_TEXT(tokenizer)},
    {"kind", 0, "KIND",
     "demos, ranked, prompts, labelled or texts (recognised by the first record)",
     OPT_WORD(kind, "demos|ranked|prompts|labelled|texts")},
    {"template", 0, "NAME",
     "chat template: plain, chatml, hh, alpaca (plain), or roles as JSON: '{\"user\": \"Q: \", "
     "...}'",
     OPT_CALL(set_template)},
    {"context", 0, "N", "count what is longer as too long (no limit)",
     OPT_WHOLE(records.context, 2, 0)},
    FIELDS,
    {"skip-bad", 0, NULL, "count malformed records instead of stopping at the first",
     OPT_CALL(skip_bad)},
    {"samples", 0, "N", "records or documents to show (3)", OPT_WHOLE(samples, 0, 0)},
    FILES(0),
    {0}};

static const Option rank_options[] = {
    {"gold", 0, NULL, "by the gold reward of the embedded world", OPT_FLAG(gold)},
    {"by", 0, "FIELD", "by the numbers beside the completions: scores, or scores.NAME",
     OPT_TEXT(by)},
    {"reward", 0, "MODEL", "by a reward model: run folder or checkpoint", OPT_TEXT(reward)},
    {"program", 0, "COMMAND",
     "by a program of yours, which gets {\"prompt\", \"completion\", \"record\"} a line and "
     "answers "
     "with a number a line",
     OPT_TEXT(program)},
    OUT,
    {"grain", 0, "X", "grades of the rater's scale lie at this distance; equal ones tie (0: exact)",
     OPT_NUMBER(grain, 0, 1e6)},
    {"noise", 0, "SD", "standard deviation of a noise on the scores before they are ranked (0)",
     OPT_NUMBER(noise, 0, 1e6)},
    {"raters", 0, "FILE",
     "raters with weights, noise and biases of their own, a JSON record each (docs/WORLD.md); each "
     "prompt is ranked by one of them",
     OPT_TEXT(raters)},
    {"rater", 0, "NAME", "only this one of them", OPT_TEXT(rater)},
    {"seed", 0, "N", "of the noise (1)", OPT_WHOLE(seed, 0, 0)},
    IN,
    {0}};

static const Option best_options[] = {
    OUT,
    {"by", 0, "FIELD",
     "the numbers beside the completions, or scores.NAME, as rhetor-eval best-of --out has them "
     "(scores)",
     OPT_TEXT(by)},
    {"min", 0, "X", "take none below (all are taken)", OPT_NUMBER(least, 0, 0)},
    FILES(0),
    {0}};

static const Option score_options[] = {
    GOLD,
    {"field", 0, "NAME", "field with the text or texts (completion, completions)", OPT_LIST(field)},
    IN,
    {0}};

static const Option examples_options[] = {{0}};

static const Option policies_options[] = {IN, {0}};

static const Option split_options[] = {
    {"heldout", 0, "SHARE", "share of the records to hold out", OPT_NUMBER(heldout, 0, 1)},
    {"train", 0, "FILE", "where the others go", OPT_TEXT(train_out)},
    {"heldout-out", 0, "FILE", "where the held-out ones go", OPT_TEXT(heldout_out)},
    FIELDS,
    IN,
    {0}};

static const Option synth_options[] = {
    {"out", 'o', "DIR", "folder for the files", OPT_TEXT(out)},
    {"seed", 0, "N", "seed (1)", OPT_WHOLE(seed, 0, 0)},
    {"primer", 0, "N", "documents of sentences that begin anew, to pretrain on first; 0: no file",
     OPT_WHOLE(synth.primer, 0, 0)},
    {"documents", 0, "N", "documents to pretrain on", OPT_WHOLE(synth.documents, 0, 0)},
    {"documents-heldout", 0, "N", "held-out documents", OPT_WHOLE(synth.documents_heldout, 0, 0)},
    {"sft", 0, "N", "demonstrations", OPT_WHOLE(synth.sft, 0, 0)},
    {"sft-heldout", 0, "N", "held-out demonstrations", OPT_WHOLE(synth.sft_heldout, 0, 0)},
    {"compare", 0, "N", "prompts for comparisons", OPT_WHOLE(synth.compare, 0, 0)},
    {"compare-heldout", 0, "N", "held-out prompts for comparisons",
     OPT_WHOLE(synth.compare_heldout, 0, 0)},
    {"ppo", 0, "N", "prompts for PPO", OPT_WHOLE(synth.ppo, 0, 0)},
    {"eval", 0, "N", "prompts for evaluation", OPT_WHOLE(synth.eval, 0, 0)},
    {0}};

int data_need(const void *value, const char *option) {
    return value ? 0 : error_set(ERR_USAGE, "%s is needed; see --help", option);
}

int data_need_files(const Args *a, int most) {
    if (a->nfile == 0) return error_set(ERR_USAGE, "no file given; see --help");
    if (a->nfile <= most) return 0;
    return error_set(ERR_USAGE, "%d files given, one is expected: what is \"%s\"? see --help",
                     a->nfile, a->file[1]);
}

#define STDIN "A file named - is standard input."

static const struct {
    OptionCommand command;
    int (*run)(Args *);
} commands[] = {
    {{"tokenizer",
      "Trains a byte-level BPE tokenizer on .txt, .jsonl and .json files (also .gz, .zst). " STDIN,
      tokenizer_options,
      "--vocab N --out tokenizer.json FILE...\n--from FILE --out tokenizer.json"},
     data_tokenizer},
    {{"encode", "Encodes text files into a corpus to pretrain on; with --ids prints ids. " STDIN,
      encode_options,
      "--tokenizer FILE --out corpus.h5 FILE...\n--ids --tokenizer FILE IN.jsonl\n--count "
      "--tokenizer FILE FILE..."},
     data_encode},
    {{"decode", "Prints {\"text\"} for each {\"ids\"} line. " STDIN, decode_options,
      "--tokenizer FILE IN.jsonl"},
     data_decode},
    {{"inspect",
      "Shows what is in corpora and files of records: counts, lengths, samples with what is "
      "learned. Corpora are verified. " STDIN,
      inspect_options, NULL},
     data_inspect},
    {{"split", "Divides a file of records by a hash of their prompts. " STDIN, split_options,
      "--heldout SHARE --train FILE --heldout-out FILE IN"},
     data_split},
    {{"synth", "Writes the data of the embedded world: documents, demonstrations, prompts.",
      synth_options, "--out DIR"},
     data_synth},
    {{"rank", "Ranks the completions that rhetor-generate --n K wrote. " STDIN, rank_options,
      "--gold IN.jsonl"},
     data_rank},
    {{"best",
      "Rejection sampling: of each record's completions the one with the largest number, as a "
      "demonstration for rhetor-sft; of several files one after the other. " STDIN,
      best_options, "[--by FIELD] [--min X] FILE..."},
     data_best},
    {{"score", "Prints the mean gold reward of completions, by family. " STDIN, score_options,
      "--gold IN.jsonl"},
     data_score},
    {{"examples",
      "Examples of the embedded world's prompts and demonstrations, as docs/WORLD.md has them.",
      examples_options, NULL},
     data_examples},
    {{"policies",
      "What answers without understanding score by the gold reward: constants, copies, claims at "
      "random, spoilt ideals, the best that reads no facts. IN: eval_prompts.jsonl of "
      "synth. " STDIN,
      policies_options, "IN.jsonl"},
     data_policies},
};

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    Args a = {.min_frequency = 2,
              .samples = 3,
              .seed = 1,
              .least = -HUGE_VAL,
              .kind = -1,
              .weight = 1,
              .synth = synth_defaults(),
              .records = {.context = INT32_MAX, .max_bad = 100}};
    const int c = option_command(&commands[0].command, sizeof commands / sizeof *commands,
                                 sizeof *commands, argc, argv, &a);
    int rc = a.files_rc;
    if (rc >= 0 && a.heldout == 1) rc = error_set(ERR_USAGE, "--heldout 1: nothing would be left");
    if (rc >= 0 && a.split && !*a.split) rc = error_set(ERR_USAGE, "--split is empty");
    if (rc >= 0) rc = commands[c].run(&a);
    for (int i = 0; i < a.nfile; i++) free((char *)(uintptr_t)a.file[i]);
    free(a.file);
    free(a.file_weight);
    free(a.field.v);
    free(a.special.v);
    return option_end(rc);
}
