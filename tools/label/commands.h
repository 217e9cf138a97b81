/* commands.h: what the parts of rhetor-label share. */
#ifndef TOOLS_LABEL_COMMANDS_H
#define TOOLS_LABEL_COMMANDS_H

#include <stdio.h>

#include "base/error.h"
#include "base/option.h"
#include "serve/http/label.h"

typedef struct Args {
    const char *db, *name, *out, *who, *listen, *host, *form;
    OptionList file, reward;
    int64_t port, overlap, gold_every, repeat_every, seed;
    bool admin, gold, json, demos, complete;
} Args;

/* The subcommands. */
int label_serve(Args *a);
int label_import(Args *a);
int label_export(Args *a);
int label_terminal(Args *a);

#endif
