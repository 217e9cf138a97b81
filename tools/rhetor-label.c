/* rhetor-label: people rank answers and write demonstrations, in a browser or a terminal; what they
 * said becomes records that rhetor-sft, rhetor-reward and rhetor-dpo read. The subcommands are in
 * tools/label/. */
#include <stdlib.h>
#include <string.h>

#include "base/option.h"
#include "serve/http/label_report.h"
#include "tools/label/commands.h"

/* DB, then the others. */
static int take_db(void *args, const Option *o, char *arg) {
    Args *a = args;
    if (!a->db)
        a->db = arg;
    else
        option_add(&a->file.v, &a->file.n, arg);
    return 0;
}
#define DB(value, most) \
    { NULL, 0, value, NULL, OPT_CALL(take_db), .low = 1, .high = most }

static const Option serve_options[] = {
    {"listen", 0, "ADDRESS",
     "where to listen; anything but the loopback is for a network that you trust: put TLS before "
     "it "
     "(127.0.0.1)",
     OPT_TEXT(listen)},
    {"port", 'p', "N", "(8710)", OPT_WHOLE(port, 0, 65535)},
    {"host", 0, "NAME", "name by which browsers call it, behind a proxy", OPT_TEXT(host)},
    DB("DB", 1),
    {0}};

static const Option import_options[] = {
    {"gold", 0, NULL, "records with known \"ranks\", for quality control", OPT_FLAG(gold)},
    {"reward", 0, "MODEL",
     "give out first what this reward model, or several that are given, are least sure of",
     OPT_LIST(reward)},
    {"form", 0, "FILE", "what is asked, as YAML (InstructGPT's)", OPT_TEXT(form)},
    {"overlap", 0, "M", "labellers an item (1)", OPT_WHOLE(overlap, 1, 1000)},
    {"gold-every", 0, "N", "every N-th task is one of quality control; 0: none (10)",
     OPT_WHOLE(gold_every, 0, 1e6)},
    {"repeat-every", 0, "N", "every N-th task is one that the labeller did before; 0: none (20)",
     OPT_WHOLE(repeat_every, 0, 1e6)},
    {"seed", 0, "N", "of the blind orders (1)", OPT_WHOLE(seed, 0, 0)},
    DB("DB FILE...", 0),
    {0}};

static const Option token_options[] = {
    {"admin", 0, NULL, "may read the report", OPT_FLAG(admin)}, DB("DB NAME", 2), {0}};

static const Option export_options[] = {
    {"out", 'o', "FILE", "where to write (standard output)", OPT_TEXT(out)},
    {"who", 0, "all|consensus|NAME",
     "a record for each answer, one for each item with the mean of the rankings, or one labeller's "
     "(all)",
     OPT_TEXT(who)},
    {"demos", 0, NULL, "the demonstrations that were written, not the rankings", OPT_FLAG(demos)},
    {"complete", 0, NULL,
     "write nothing and leave with 75 while an item lacks answers (for recipes)",
     OPT_FLAG(complete)},
    DB("DB", 1),
    {0}};

static const Option report_options[] = {
    {"json", 0, NULL, "as JSON", OPT_FLAG(json)}, DB("DB", 1), {0}};
static const Option terminal_options[] = {DB("DB NAME", 2), {0}};

static int token(Args *a) {
    Label *l;
    char text[33];
    if (a->file.n != 1) return error_set(ERR_USAGE, "whose token? rhetor-label token DB NAME");
    TRY(label_open(&l, a->db, NULL));
    const int rc = label_token(l, a->file.v[0], a->admin, text);
    label_close(&l);
    if (rc >= 0) printf("%s\n", text);
    return rc;
}

static int report(Args *a) {
    Label *l;
    json_auto_t *r = NULL;
    TRY(label_open(&l, a->db, NULL));
    const int rc = label_report(l, &r);
    label_close(&l);
    if (rc < 0) return rc;
    if (a->json) {
        json_dumpf(r, stdout, JSON_INDENT(2));
        printf("\n");
    } else
        label_report_text(r, stdout);
    return 0;
}

static const struct {
    OptionCommand command;
    int (*run)(Args *);
} commands[] = {
    {{"import",
      "Puts samples of rhetor-generate (\"prompt\", \"completions\"), or prompts to write answers "
      "for, into a labelling database; makes it if it is not there. What is there already stays.",
      import_options, NULL},
     label_import},
    {{"token", "Makes a labeller's token, with which they enter; an older one becomes void.",
      token_options, NULL},
     token},
    {{"serve", "Serves the labelling pages until SIGINT or SIGTERM.", serve_options, NULL},
     label_serve},
    {{"terminal", "The same tasks in a terminal.", terminal_options, NULL}, label_terminal},
    {{"export",
      "Writes what labellers said as JSON lines for rhetor-reward, rhetor-dpo, rhetor-sft.",
      export_options, NULL},
     label_export},
    {{"report", "Progress, agreement with intervals, each labeller's speed and biases.",
      report_options, NULL},
     report},
};

int main(int argc, char **argv) {
    Args a = {.port = 8710,
              .overlap = -1,
              .gold_every = -1,
              .repeat_every = -1,
              .seed = -1,
              .who = "all"};
    const int c = option_command(&commands[0].command, sizeof commands / sizeof *commands,
                                 sizeof *commands, argc, argv, &a);
    const int rc = commands[c].run(&a);
    free(a.file.v);
    free(a.reward.v);
    return option_end(rc);
}
