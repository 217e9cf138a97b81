/* dataset.h: records of the user's files -> token sequences: demonstrations (SFT), ranked completions
 * (reward model), prompts (PPO, sampling).
 *
 * Records (JSON lines or a JSON array; .gz, .zst): {"messages":[{"role","content"}]};
 * {"prompt","completion"}; Alpaca {"instruction","input","output"}; {"question","answer"};
 * {"prompt","chosen","rejected"} (strings or message lists; also with the prompt only implicit in
 * chosen and rejected, as the common prefix, hh-rlhf's "\n\nHuman: ... \n\nAssistant: ..."
 * dialogues included); K-way {"prompt","completions":[...],"ranks":[...]} (1 is best; ties allowed)
 * or "scores" (higher is better); {"prompt"}; {"prompt","completion","label": true or false};
 * other names through data.fields. "prompt" may be a string or a list of messages; "stopped": false
 * beside an answer says that it was cut off.
 * docs/FORMATS.md lists all shapes with their variants (ShareGPT's "conversations", "responses"
 * with a score in each, message parts). */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "base/config.h"
#include "data/template.h"

typedef enum DatasetKind {
    DATASET_DEMOS,
    DATASET_RANKED,
    DATASET_PROMPTS,
    DATASET_LABELLED /* answers that are good (rank 1) or not (2), at least one a prompt */
} DatasetKind;

/* A token sequence; prompt tokens first. */
typedef struct Sequence {
    const int32_t *tokens; /* [n] */
    const uint8_t *learn;  /* [n] 1: a token of an assistant turn; NULL for prompts */
    int64_t n, prompt;     /* prompt: tokens before the (last) completion */
} Sequence;

/* Owned by the Dataset. Item i has sequences first[i] .. first[i+1]-1: one (demonstrations,
 * prompts) or its K completions (ranked). */
typedef struct Dataset {
    DatasetKind kind;
    int64_t n;      /* items */
    int64_t *first; /* [n+1] */
    Sequence *seq;  /* [first[n]] */
    int32_t *rank;  /* [first[n]] 1 is best, equal is a tie; NULL without answers to compare */
    int64_t *line;  /* [n] where the item came from */
    int32_t *file;  /* [n] index into files */
    int64_t tokens, too_long, truncated, bad; /* counts */
    int64_t pairs;                            /* of answers of unequal rank */
    int64_t empty, equal, returns; /* records that have an empty answer, equal answers of unequal
                                      rank, a carriage return; each is warned about */
    uint64_t hash;                 /* of all sequences and ranks, for the lineage */
    void *priv;
} Dataset;

/* Fields that may have other names: data.fields. */
typedef enum RecordField {
    FIELD_PROMPT,
    FIELD_COMPLETION,
    FIELD_CHOSEN,
    FIELD_REJECTED,
    FIELD_MESSAGES,
    RECORD_FIELDS
} RecordField;
extern const char *const dataset_field_names[RECORD_FIELDS];

typedef struct DatasetOptions {
    const Tokenizer *tokenizer;
    bool bytes; /* it only stands for none: messages count bytes */
    Template tmpl;
    int64_t context;     /* longest sequence */
    int64_t max_prompt;  /* prompts: longest prompt (context - max_response); 0: context - 1 */
    int on_long, on_bad; /* ON_LONG_*, ON_BAD_* */
    int64_t max_bad, max_records;
    const char *field[RECORD_FIELDS]; /* what a file calls them; NULL, "": as we do */
} DatasetOptions;

/* What the file calls the field. */
const char *dataset_field(const DatasetOptions *o, RecordField f);

/* Fills the options from the data.* keys of a config. */
void dataset_options(DatasetOptions *o, const Config *c, const Tokenizer *t, Template tmpl,
                     int64_t context);

/* Loads all records of all files. Errors: ERR_IO (missing file), ERR_DATA "file:line: ..." with
 * what is missing or wrong; with on_bad skip they are counted and the first few logged. No usable
 * record at all: ERR_DATA, and so are rankings without any pair. A group whose completions all tie
 * is kept (it has no pairs). Warns of records that teach nothing or the wrong thing. Not
 * collective. */
int dataset_load(Dataset *out, DatasetKind kind, const StrList *files, const DatasetOptions *o);
/* Of rankings the best answer of each, as demonstrations. Borrows from d. */
void dataset_best(Dataset *out, const Dataset *d);
/* Of rankings each pair of answers that do not tie, as a ranking of its own, the better one first.
 * Borrows from d. */
void dataset_pairs(Dataset *out, const Dataset *d);
void dataset_free(Dataset *d);

#endif
