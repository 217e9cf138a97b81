/* rhetor-data: text into tokens, tokens into corpora, and a look at what is in a file of data. The
 * subcommands are in tools/data/. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/openmp.h"
#include "base/option.h"
#include "tools/data/data.h"

enum {
    OPT_VOCAB = 1000,
    OPT_MIN_FREQUENCY,
    OPT_TIE_BREAK,
    OPT_FROM,
    OPT_ENCODING,
    OPT_COUNT,
    OPT_SPECIAL,
    OPT_CHARS,
    OPT_FIELD,
    OPT_HELDOUT,
    OPT_HELDOUT_OUT,
    OPT_HELDOUT_TAIL,
    OPT_SPLIT,
    OPT_NO_EOT,
    OPT_IDS,
    OPT_SPECIALS,
    OPT_TEMPLATE,
    OPT_KIND,
    OPT_CONTEXT,
    OPT_FIELDS,
    OPT_SAMPLES,
    OPT_SKIP,
    OPT_ON_BAD,
    OPT_MAX_BAD,
    OPT_WEIGHT,
    OPT_DEDUP,
    OPT_GOLD,
    OPT_NOISE,
    OPT_GRAIN,
    OPT_SEED,
    OPT_TRAIN,
    OPT_SYNTH /* + the index of a size in synth_sizes */
};

/* --- values of options ------------------------------------------------------------------------ */

/* prompt=question */
static void set_field(struct argp_state *state, DatasetOptions *o, char *arg) {
    const struct {
        const char *name;
        const char **value;
    } fields[] = {
        {"prompt", &o->field_prompt},     {"completion", &o->field_completion},
        {"chosen", &o->field_chosen},     {"rejected", &o->field_rejected},
        {"messages", &o->field_messages},
    };
    char *equals = strchr(arg, '=');
    if (equals) {
        *equals = '\0';
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (strcmp(arg, fields[i].name) == 0) {
                *fields[i].value = equals + 1;
                return;
            }
        *equals = '=';
    }
    argp_error(state,
               "--fields is \"%s\"; expected NAME=FIELD with the name prompt, completion, "
               "chosen, rejected or messages",
               arg);
}

static int set_template(DatasetOptions *o, const char *arg) {
    if (*arg != '{') return template_by_name(arg, &o->tmpl);
    json_t *j;
    TRY(json_parse(&j, arg, strlen(arg), "--template", 1));
    int rc = template_from_json(j, &o->tmpl);
    json_decref(j);
    return rc;
}

static int kind_by_name(struct argp_state *state, const char *arg) {
    static const char *const names[] = {"demos", "ranked", "prompts", "texts"};
    for (int i = 0; i < 4; i++)
        if (strcmp(arg, names[i]) == 0) return i;
    argp_error(state, "--kind is \"%s\"; expected demos, ranked, prompts or texts", arg);
    return -1;
}

/* --- options, by subcommand ------------------------------------------------------------------- */

static const struct argp_option tokenizer_options[] = {
    {"out", 'o', "FILE", 0, "the tokenizer.json to write", 0},
    {"vocab", OPT_VOCAB, "N", 0, "number of ids: special tokens, 256 bytes, merges", 0},
    {"min-frequency", OPT_MIN_FREQUENCY, "N", 0, "merge only pairs that occur as often (2)", 0},
    {"tie-break", OPT_TIE_BREAK, "HOW", 0,
     "of equally frequent pairs merge the one that Hugging Face's trainer would (hf), or the last "
     "by its bytes (bytes) (hf)",
     0},
    {"from", OPT_FROM, "FILE", 0,
     "no training: write this tokenizer (vocab.json + merges.txt, .tiktoken) as a tokenizer.json",
     0},
    {"encoding", OPT_ENCODING, "NAME", 0,
     "of a .tiktoken file: gpt2, r50k, p50k, cl100k or o200k (told by its name or size)", 0},
    {"special", OPT_SPECIAL, "TOKEN", 0,
     "a special token after <|endoftext|>, which is always the first; may be repeated. With "
     "--chars "
     "there are only those given",
     0},
    {"chars", OPT_CHARS, 0, 0,
     "no merges: the characters (bytes) that occur, as nanoGPT's "
     "shakespeare_char has it",
     0},
    {"field", OPT_FIELD, "NAME", 0,
     "field of .json and .jsonl records to train on; may be repeated "
     "(text)",
     0},
    {"split", OPT_SPLIT, "TEXT", 0, "separator between the documents of a .txt file", 0},
    {0}};

static const struct argp_option encode_options[] = {
    {"tokenizer", 't', "FILE", 0,
     "tokenizer.json, a .tiktoken file, or a folder with vocab.json and merges.txt", 0},
    {"out", 'o', "FILE", 0, "the corpus to write", 0},
    {"heldout", OPT_HELDOUT, "SHARE", 0,
     "hold out so large a share of the documents, chosen by a "
     "hash of their text",
     0},
    {"heldout-out", OPT_HELDOUT_OUT, "FILE", 0, "the corpus of what is held out", 0},
    {"heldout-tail", OPT_HELDOUT_TAIL, 0, 0, "hold out the end of each file instead", 0},
    {"split", OPT_SPLIT, "TEXT", 0,
     "separator between the documents of a .txt file; without it the "
     "file is one document",
     0},
    {"weight", OPT_WEIGHT, "W", 0,
     "how often each document of the files after it goes in: 2 is twice, 0.5 half of them, chosen "
     "by a hash of their text (1)",
     0},
    {"dedup", OPT_DEDUP, 0, 0, "of equal documents take only the first", 0},
    {"on-bad", OPT_ON_BAD, "stop|skip", 0, "malformed records, text that is no UTF-8 (stop)", 0},
    {"max-bad", OPT_MAX_BAD, "N", 0, "with --on-bad skip, stop after so many (100)", 0},
    {"no-eot", OPT_NO_EOT, 0, 0, "no end-of-text token after each document", 0},
    {"field", OPT_FIELD, "NAME", 0, "field of .json and .jsonl records (text)", 0},
    {"ids", OPT_IDS, 0, 0,
     "print {\"ids\":[...]} for each {\"text\"} line of the file (\"-\": "
     "standard input) instead of writing a corpus",
     0},
    {"count", OPT_COUNT, 0, 0,
     "print {\"bytes\", \"tokens\", \"seconds\", \"cpu_seconds\"} of text files instead, in "
     "constant "
     "memory",
     0},
    {"specials", OPT_SPECIALS, 0, 0, "with --ids: special tokens in the text are special", 0},
    {0}};

static const struct argp_option decode_options[] = {
    {"tokenizer", 't', "FILE", 0,
     "tokenizer.json, a .tiktoken file, or a folder with vocab.json and merges.txt", 0},
    {"out", 'o', "FILE", 0, "where to write (standard output)", 0},
    {0}};

static const struct argp_option inspect_options[] = {
    {"tokenizer", 't', "FILE", 0, "for records and texts; without it lengths are in bytes", 0},
    {"kind", OPT_KIND, "KIND", 0, "demos, ranked, prompts or texts (told by the first record)", 0},
    {"template", OPT_TEMPLATE, "NAME", 0,
     "chat template: plain, chatml, hh, alpaca (plain), or roles as JSON: '{\"user\": \"Q: \", "
     "...}'",
     0},
    {"context", OPT_CONTEXT, "N", 0, "count what is longer as too long (no limit)", 0},
    {"fields", OPT_FIELDS, "NAME=FIELD", 0, "data.fields, e.g. prompt=question; may be repeated",
     0},
    {"skip-bad", OPT_SKIP, 0, 0, "count malformed records instead of stopping at the first", 0},
    {"samples", OPT_SAMPLES, "N", 0, "records or documents to show (3)", 0},
    {0}};

static const struct argp_option rank_options[] = {
    {"gold", OPT_GOLD, 0, 0, "by the gold reward of the embedded world (needed: there is no other)",
     0},
    {"out", 'o', "FILE", 0, "where to write (standard output)", 0},
    {"grain", OPT_GRAIN, "X", 0,
     "grades of the rater's scale lie so far apart; equal ones tie (0: exact)", 0},
    {"noise", OPT_NOISE, "SD", 0,
     "standard deviation of a noise on the scores before they are "
     "ranked (0)",
     0},
    {"seed", OPT_SEED, "N", 0, "of the noise (1)", 0},
    {0}};

static const struct argp_option score_options[] = {
    {"gold", OPT_GOLD, 0, 0, "by the gold reward of the embedded world (needed: there is no other)",
     0},
    {"field", OPT_FIELD, "NAME", 0, "field with the text or texts (completion, completions)", 0},
    {0}};

static const struct argp_option split_options[] = {
    {"heldout", OPT_HELDOUT, "SHARE", 0, "share of the records to hold out", 0},
    {"train", OPT_TRAIN, "FILE", 0, "where the others go", 0},
    {"heldout-out", OPT_HELDOUT_OUT, "FILE", 0, "where the held-out ones go", 0},
    {"fields", OPT_FIELDS, "NAME=FIELD", 0, "data.fields, e.g. prompt=question; may be repeated",
     0},
    {0}};

static const struct argp_option synth_options[] = {
    {"out", 'o', "DIR", 0, "folder for the files", 0},
    {"seed", OPT_SEED, "N", 0, "seed (1)", 0},
    {"documents", OPT_SYNTH + 0, "N", 0, "documents to pretrain on", 0},
    {"documents-heldout", OPT_SYNTH + 1, "N", 0, "held-out documents", 0},
    {"sft", OPT_SYNTH + 2, "N", 0, "demonstrations", 0},
    {"sft-heldout", OPT_SYNTH + 3, "N", 0, "held-out demonstrations", 0},
    {"compare", OPT_SYNTH + 4, "N", 0, "prompts for comparisons", 0},
    {"compare-heldout", OPT_SYNTH + 5, "N", 0, "held-out prompts for comparisons", 0},
    {"ppo", OPT_SYNTH + 6, "N", 0, "prompts for PPO", 0},
    {"eval", OPT_SYNTH + 7, "N", 0, "prompts for evaluation", 0},
    {0}};

/* A file or a pattern, "*.txt" in quotes, which we expand. */
static int add_files(Args *a, const char *name) {
    char **found;
    int n;
    TRY(file_glob(&name, 1, &found, &n));
    size_t all = (size_t)(a->nfile + n);
    a->file = xrealloc(a->file, all * sizeof *a->file);
    a->file_weight = xrealloc(a->file_weight, all * sizeof *a->file_weight);
    for (int i = 0; i < n; i++) {
        a->file_weight[a->nfile] = a->weight;
        a->file[a->nfile++] = found[i];
    }
    free(found);
    return 0;
}

static int64_t *synth_size(SynthOptions *o, int i) {
    int64_t *const sizes[] = {&o->documents, &o->documents_heldout, &o->sft, &o->sft_heldout,
                              &o->compare,   &o->compare_heldout,   &o->ppo, &o->eval};
    return sizes[i];
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    Args *a = state->input;
    if (key >= OPT_SYNTH && key < OPT_SYNTH + 8) {
        *synth_size(&a->synth, key - OPT_SYNTH) =
            option_whole(state, synth_options[key - OPT_SYNTH + 2].name, arg, 0);
        return 0;
    }
    switch (key) {
    case 'o': a->out = arg; break;
    case 't': a->tokenizer = arg; break;
    case OPT_VOCAB: a->vocab = option_whole(state, "vocab", arg, 257); break;
    case OPT_MIN_FREQUENCY: a->min_frequency = option_whole(state, "min-frequency", arg, 1); break;
    case OPT_TIE_BREAK:
        if (strcmp(arg, "hf") != 0 && strcmp(arg, "bytes") != 0)
            argp_error(state, "--tie-break is \"%s\"; expected hf or bytes", arg);
        a->tie_break = strcmp(arg, "hf") == 0 ? TIE_BREAK_HF : TIE_BREAK_BYTES;
        break;
    case OPT_FROM: a->from = arg; break;
    case OPT_ENCODING: a->encoding = arg; break;
    case OPT_COUNT: a->count = true; break;
    case OPT_SPECIAL: option_push(state, "special", a->special, &a->nspecial, MAX_LIST, arg); break;
    case OPT_CHARS: a->chars = true; break;
    case OPT_FIELD: option_push(state, "field", a->field, &a->nfield, MAX_LIST, arg); break;
    case OPT_FIELDS: set_field(state, &a->records, arg); break;
    case OPT_SPLIT:
        if (!*arg) argp_error(state, "--split is empty");
        a->split = arg;
        break;
    case OPT_HELDOUT:
        a->heldout = option_number(state, "heldout", arg, 0, 1);
        if (a->heldout == 1) argp_error(state, "--heldout 1: nothing would be left");
        break;
    case OPT_HELDOUT_OUT: a->heldout_out = arg; break;
    case OPT_HELDOUT_TAIL: a->heldout_tail = true; break;
    case OPT_TRAIN: a->train_out = arg; break;
    case OPT_NO_EOT: a->no_eot = true; break;
    case OPT_IDS: a->ids = true; break;
    case OPT_SPECIALS: a->specials = true; break;
    case OPT_KIND: a->kind = kind_by_name(state, arg); break;
    case OPT_TEMPLATE:
        if (set_template(&a->records, arg) < 0) argp_error(state, "%s", error_message());
        break;
    case OPT_CONTEXT: a->records.context = option_whole(state, "context", arg, 2); break;
    case OPT_SKIP:
        a->records.on_bad = ON_BAD_SKIP;
        a->records.max_bad = INT64_MAX;
        break;
    case OPT_ON_BAD:
        if (strcmp(arg, "stop") != 0 && strcmp(arg, "skip") != 0)
            argp_error(state, "--on-bad is \"%s\"; expected stop or skip", arg);
        a->records.on_bad = strcmp(arg, "skip") == 0 ? ON_BAD_SKIP : ON_BAD_STOP;
        break;
    case OPT_MAX_BAD: a->records.max_bad = option_whole(state, "max-bad", arg, 0); break;
    case OPT_WEIGHT: a->weight = option_number(state, "weight", arg, 0, 1000); break;
    case OPT_DEDUP: a->dedup = true; break;
    case OPT_SAMPLES: a->samples = option_whole(state, "samples", arg, 0); break;
    case OPT_GOLD: a->gold = true; break;
    case OPT_GRAIN: a->grain = option_number(state, "grain", arg, 0, 1e6); break;
    case OPT_NOISE: a->noise = option_number(state, "noise", arg, 0, 1e6); break;
    case OPT_SEED: a->seed = option_whole(state, "seed", arg, 0); break;
    case ARGP_KEY_ARG: /* after an error the first message is kept */
        if (a->files_rc >= 0) a->files_rc = add_files(a, arg);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int need(const void *value, const char *option) {
    return value ? 0 : error_set(ERR_USAGE, "%s is needed; see --help", option);
}

int need_files(const Args *a, int most) {
    if (a->nfile == 0) return error_set(ERR_USAGE, "no file given; see --help");
    if (a->nfile <= most) return 0;
    return error_set(ERR_USAGE, "%d files given, one is expected: what is \"%s\"? see --help",
                     a->nfile, a->file[1]);
}

static const struct Command {
    const char *name;
    int (*run)(Args *);
    const struct argp_option *options;
    const char *args, *what;
} commands[] = {
    {"tokenizer", run_tokenizer, tokenizer_options,
     "--vocab N --out tokenizer.json FILE...\n--from FILE --out tokenizer.json",
     "Trains a byte-level BPE tokenizer on .txt, .jsonl and .json files (also .gz, .zst)."},
    {"encode", run_encode, encode_options,
     "--tokenizer FILE --out corpus.h5 FILE...\n--ids --tokenizer FILE IN.jsonl\n--count "
     "--tokenizer "
     "FILE FILE...",
     "Encodes text files into a corpus to pretrain on; with --ids prints ids."},
    {"decode", run_decode, decode_options, "--tokenizer FILE IN.jsonl",
     "Prints {\"text\"} for each {\"ids\"} line (\"-\": standard input)."},
    {"inspect", run_inspect, inspect_options, "FILE...",
     "Shows what is in corpora and files of records: counts, lengths, samples with what is "
     "learned. "
     "Corpora are verified."},
    {"split", run_split, split_options, "--heldout SHARE --train FILE --heldout-out FILE IN",
     "Divides a file of records by a hash of their prompts."},
    {"synth", run_synth, synth_options, "--out DIR",
     "Writes the data of the embedded world: documents, demonstrations, prompts."},
    {"rank", run_rank, rank_options, "--gold IN.jsonl",
     "Ranks the completions that rhetor-generate --n K wrote."},
    {"score", run_score, score_options, "--gold IN.jsonl",
     "Prints the mean gold reward of completions, by family."},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_commands(FILE *out) {
    fprintf(out, "Usage: rhetor-data COMMAND [OPTION...] FILE...\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(out, "\nrhetor-data COMMAND --help says more.\n");
}

static int run_command(const struct Command *c, int argc, char **argv) {
    Args a = {.min_frequency = 2,
              .samples = 3,
              .seed = 1,
              .kind = -1,
              .weight = 1,
              .synth = synth_defaults(),
              .records = {.context = INT32_MAX, .max_bad = 100}};
    const struct argp argp = {c->options, parse, c->args, c->what, NULL, NULL, NULL};
    char *name = xasprintf("rhetor-data %s", c->name);
    argv[0] = name;
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &a);
    int rc = a.files_rc < 0 ? a.files_rc : c->run(&a);
    if (rc >= 0 && (fflush(stdout) != 0 || ferror(stdout)))
        rc = error_set(ERR_IO, "standard output: write: %s", strerror(errno));
    if (rc < 0) fprintf(stderr, "%s: %s\n", name, error_message());
    for (int i = 0; i < a.nfile; i++) free((char *)(uintptr_t)a.file[i]);
    free(a.file);
    free(a.file_weight);
    free(name);
    return error_exit_code(rc);
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    argp_program_version = "rhetor-data " RHETOR_VERSION;
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    if (argc < 2) {
        print_commands(stderr);
        return error_exit_code(ERR_USAGE);
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_commands(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts(argp_program_version);
        return 0;
    }
    fprintf(stderr, "rhetor-data: no command \"%s\"; there are", argv[1]);
    for (int i = 0; i < COMMANDS; i++) fprintf(stderr, "%s %s", i ? "," : "", commands[i].name);
    fprintf(stderr, "\n");
    return error_exit_code(ERR_USAGE);
}
