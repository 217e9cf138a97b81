/* option.h: a program's command line is a table, from which its parsing, --help and messages
 * follow.
 *
 *     typedef struct Args { const char *out; int64_t n; OptionList file; } Args;
 *     static const Option options[] = {
 *         {"out", 'o', "FILE", "where to write (standard output)", OPT_TEXT(out)},
 *         {"count", 'n', "N", "how many (1)", OPT_WHOLE(n, 1, 0)},
 *         {NULL, 0, "FILE...", NULL, OPT_LIST(file), .low = 1},
 *         {0}};
 *
 * The OPT_ words name members of the program's own type Args and check their types. What is not as
 * expected ends the program with a line that says so and the exit code of usage. */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct OptionList {
    const char **v; /* malloc'd */
    int n;
} OptionList;

typedef struct Option Option;
/* Does what the option says. The message of an error is shown as one of usage. */
typedef int OptionSet(void *args, const Option *o, char *arg);

struct Option {
    const char *name;  /* without its dashes. NULL: the arguments that are no options, from `low` to
                          `high` of them (0: any number); or, where value is NULL too, a heading */
    char letter;       /* 0: none */
    const char *value; /* as --help shows it; NULL: the option takes none */
    const char *help;
    enum {
        OPTION_FLAG,
        OPTION_TEXT,
        OPTION_WHOLE,
        OPTION_NUMBER,
        OPTION_WORD,
        OPTION_LIST,
        OPTION_CALL
    } kind;
    size_t at; /* of the member in Args */
    double low, high;
    const char *words;
    OptionSet *set;
};

#define OPTION_AT(field, good) (offsetof(Args, field) + 0 * sizeof(char[(good) ? 1 : -1]))
#define OPTION_TYPED(T, field) \
    OPTION_AT(field, __builtin_types_compatible_p(T, __typeof__(((Args *)0)->field)))

#define OPT_FLAG(field) .kind = OPTION_FLAG, .at = OPTION_TYPED(bool, field)
#define OPT_TEXT(field) .kind = OPTION_TEXT, .at = OPTION_TYPED(const char *, field)
#define OPT_LIST(field) .kind = OPTION_LIST, .at = OPTION_TYPED(OptionList, field) /* given often */
/* A whole number from low to high (0: no limit); a number, any where both limits are 0. */
#define OPT_WHOLE(field, from, to) \
    .kind = OPTION_WHOLE, .at = OPTION_TYPED(int64_t, field), .low = from, .high = to
#define OPT_NUMBER(field, from, to) \
    .kind = OPTION_NUMBER, .at = OPTION_TYPED(double, field), .low = from, .high = to
/* One of "a|b|c": its index, in an int or an enum. */
#define OPT_WORD(field, choices)                                                            \
    .kind = OPTION_WORD, .at = OPTION_AT(field, sizeof(((Args *)0)->field) == sizeof(int)), \
    .words = choices
#define OPT_CALL(function) .kind = OPTION_CALL, .set = function

/* Reads the command line; `usage` (NULL: what the table says) and `what` are for --help, which ends
 * the program. From here on output that cannot be written ends it with 74. */
void option_parse(const Option *options, const char *usage, const char *what, int argc, char **argv,
                  void *args);

/* A program of several commands: the first member of its table's rows. */
typedef struct OptionCommand {
    const char *name, *what;
    const Option *options;
    const char *usage; /* NULL: what the options say */
} OptionCommand;

/* Which of n commands argv[1] names, its options read; rows are `stride` bytes long. */
int option_command(const OptionCommand *first, int n, size_t stride, int argc, char **argv,
                   void *args);

/* Prints the error, if it is one; the exit status: 0 or more as it is. */
int option_end(int rc);

/* For the stages, which print a --help of their own (train/run_main.c). A whole number from
 * `lowest` to `highest`. `name` without its dashes. */
int64_t option_whole_to(struct argp_state *state, const char *name, const char *arg, int64_t lowest,
                        int64_t highest);
double option_number(struct argp_state *state, const char *name, const char *arg, double lowest,
                     double highest);
/* Appends to a list that grows; the caller frees it, option_free with its texts. */
void option_add(const char ***list, int *n, const char *text);
void option_free(OptionList *l);

#endif
