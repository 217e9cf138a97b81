/* rhetor-ckpt: checkpoints for people. show: what is in one; verify: is it whole; diff: what two
 * have in common; import, export: models of Hugging Face's in and out. A path is a checkpoint file
 * or a run folder (show, diff, export: its best checkpoint where one was kept, else its newest good
 * one; verify: all of them). */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "base/option.h"
#include "base/text.h"
#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange/gguf_model.h"
#include "checkpoints/exchange/hf.h"
#include "checkpoints/exchange/merge.h"
#include "checkpoints/exchange/peft.h"
#include "checkpoints/manifest.h"
#include "core/kernel.h"
#include "model/arch.h"

enum { EXIT_DIFFERENT = 1 };

typedef struct Args {
    OptionList path;
    const char *only, *tokenizer, *template, *base;
    int format, type;
    bool arrays, config;
} Args;

#define PATHS(value, least, most) \
    { NULL, 0, value, NULL, OPT_LIST(path), .low = least, .high = most }
static const Option show_options[] = {
    {"arrays", 0, NULL, "also list all arrays with their shapes", OPT_FLAG(arrays)},
    {"config", 0, NULL, "also print the resolved configuration", OPT_FLAG(config)},
    PATHS("PATH", 1, 1),
    {0}};
static const Option verify_options[] = {PATHS("PATH...", 1, 0), {0}};
static const Option diff_options[] = {
    {"only", 0, "GROUP,...", "compare only these arrays, e.g. params,optimizer", OPT_TEXT(only)},
    PATHS("A B", 2, 2),
    {0}};
static const Option import_options[] = {
    {"tokenizer", 0, "PATH",
     "tokenizer.json, or a folder with one or with vocab.json and merges.txt (the model's folder)",
     OPT_TEXT(tokenizer)},
    {"template", 0, "NAME",
     "chat template (the one that the model's own text is, or it was exported with, or plain)",
     OPT_TEXT(template)},
    {"base", 0, "PATH",
     "what the adapters in a folder of Peft's are on, a run folder or checkpoint", OPT_TEXT(base)},
    PATHS("DIR|FILE.gguf OUT.h5", 2, 2),
    {0}};
static const Option export_options[] = {
    {"format", 0, "FORMAT",
     "hf: Hugging Face's folder; gguf: one file, as llama.cpp reads it; peft: adapters alone "
     "(lora.rank), a folder of Peft's",
     OPT_WORD(format, "hf|gguf|peft")},
    {"type", 0, "TYPE", "of a GGUF file's matrices: f32, f16, bf16 or q8_0",
     OPT_WORD(type, "f32|f16|bf16|q8_0")},
    PATHS("PATH DIR|FILE.gguf", 2, 2),
    {0}};
static const Option merge_options[] = {PATHS("PATH OUT.h5", 2, 2), {0}};

/* --- the arrays of a checkpoint --------------------------------------------------------------- */
typedef struct Array {
    char *name;
    H5Type type;
    int ndim;
    int64_t shape[H5_MAX_DIM], n; /* n: elements */
    char *shown;                  /* the shape */
} Array;

typedef struct ArrayList {
    Array *v; /* sorted by name */
    int n;
} ArrayList;

/* The texts (meta, config, tokenizer) lie beside the groups; arrays lie in them. */
static int add_array(void *ctx, const char *name, H5Type type, int ndim, const int64_t *shape) {
    ArrayList *l = ctx;
    if (!strchr(name, '/')) return 0;
    l->v = xrealloc(l->v, (size_t)(l->n + 1) * sizeof *l->v);
    Array *a = &l->v[l->n++];
    *a = (Array){.name = xstrdup(name),
                 .type = type,
                 .ndim = ndim,
                 .n = 1,
                 .shown = text_shape(ndim, shape)};
    for (int i = 0; i < ndim; i++) a->n *= a->shape[i] = shape[i];
    return 0;
}

static void free_arrays(ArrayList *l) {
    for (int i = 0; i < l->n; i++) free(l->v[i].name), free(l->v[i].shown);
    free(l->v);
    *l = (ArrayList){0};
}

static const char *last_slash(const char *name) {
    const char *slash = strrchr(name, '/');
    return slash ? slash : name + strlen(name);
}

static bool in_group(const char *name, const char *group, size_t len) {
    return strncmp(name, group, len) == 0 && (name[len] == '/' || name[len] == '\0');
}

/* Is the array in one of the groups "a,b/c"? NULL: all are. */
static bool is_selected(const char *name, const char *groups) {
    if (!groups) return true;
    for (const char *g = groups; *g;) {
        size_t len = strcspn(g, ",");
        if (in_group(name, g, len)) return true;
        g += len + (g[len] == ',');
    }
    return false;
}

/* --- show ------------------------------------------------------------------------------------- */
__attribute__((format(printf, 2, 3))) static void print_line(const char *name, const char *fmt,
                                                             ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("  %-12s", name);
    vprintf(fmt, ap);
    va_end(ap);
}

/* "a 12, b 0.5" of an object of small values; '-' when it is empty or missing. */
static void print_object(const char *name, const json_t *object) {
    print_line(name, "%s", "");
    const char *key, *comma = "";
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, key, v) {
        AUTOFREE char *text = json_is_string(v)
                                  ? xstrdup(json_string_value(v))
                                  : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        printf("%s%s %s", comma, key, text);
        comma = ", ";
    }
    printf(*comma ? "\n" : "-\n");
}

static const char *word(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "-";
}

/* "params 13 arrays with 139264 numbers"; arrays are sorted, so those of a group stand together. */
static void print_groups(const ArrayList *l) {
    for (int i = 0; i < l->n;) {
        const char *group = l->v[i].name;
        const size_t len = (size_t)(last_slash(group) - group);
        int64_t numbers = 0;
        int first = i;
        for (; i < l->n && in_group(l->v[i].name, group, len) &&
               last_slash(l->v[i].name) == l->v[i].name + len;
             i++)
            numbers += l->v[i].n;
        print_line(first ? "" : "arrays", "%.*s: %d with %" PRId64 " numbers\n", (int)len, group,
                   i - first, numbers);
    }
}

static int cmd_show(const Args *a) {
    Ckpt *k;
    ArrayList l = {0};
    AUTOFREE char *model = NULL, *roles = NULL;
    TRY(ckpt_open(&k, a->path.v[0], NULL));
    const json_t *meta = ckpt_meta(k);
    int rc = ckpt_each(k, "", add_array, &l);
    if (rc < 0) goto done;
    GptConfig cfg;
    TRY_GOTO(done, arch_from_json(&cfg, json_object_get(meta, "model")));
    size_t tokenizer;
    ckpt_tokenizer(k, &tokenizer);
    printf("%s\n", ckpt_path(k));
    print_line("stage", "%s, step %" PRId64 "\n", ckpt_stage(k), ckpt_step(k));
    model = arch_text(&cfg);
    print_line("model", "%s\n", model);
    print_line("parameters", "%" PRId64 "; the model for later stages is \"%s\"\n",
               arch_count(&cfg), word(meta, "use"));
    const json_t *template = json_object_get(meta, "template");
    if (json_is_object(template)) roles = json_dumps(template, JSON_COMPACT);
    print_line("template", "%s; ", roles ? roles : word(meta, "template"));
    printf(tokenizer ? "tokenizer of %zu bytes\n" : "no tokenizer\n", tokenizer);
    print_line("id", "%s\n", ckpt_id(k));
    print_object("parents", json_object_get(meta, "parents"));
    print_object("data", json_object_get(meta, "data"));
    int64_t ranks, threads;
    ckpt_layout(k, &ranks, &threads);
    print_line("written by", "%s, kernel %s, ranks: %" PRId64 ", threads: %" PRId64 "\n",
               word(meta, "program"), word(meta, "kernel"), ranks, threads);
    print_object("counters", json_object_get(meta, "counters"));
    print_groups(&l);
    if (a->arrays)
        for (int i = 0; i < l.n; i++)
            printf("%s %s %s\n", l.v[i].name, h5_type_word(l.v[i].type), l.v[i].shown);
    if (a->config) printf("\n%s", ckpt_config(k));
done:
    free_arrays(&l);
    ckpt_close(&k);
    return rc;
}

/* --- verify ----------------------------------------------------------------------------------- */
/* One line for the checkpoint; counts the bad ones. */
static void verify_one(const char *path, int *bad) {
    AUTOFREE char *report = NULL;
    int rc = ckpt_verify(path, &report);
    printf("%s%s\n", rc < 0 ? "BAD  " : "ok   ", report);
    if (rc < 0) ++*bad;
}

/* Every committed checkpoint of a run or checkpoints folder, from the oldest. */
static int verify_folder(const char *path, int *bad) {
    AUTOFREE char *dir = manifest_folder(path);
    AUTOFREE Committed *v = NULL;
    int n;
    TRY(manifest_list(dir, &v, &n));
    for (int i = n; i-- > 0;) {
        AUTOFREE char *file = manifest_name(dir, v[i].step, v[i].aside, CKPT_FILE);
        verify_one(file, bad);
    }
    if (n > 0) return 0;
    return error_set(ERR_DATA, "%s: holds no checkpoint (step_*.h5 with its .json)", dir);
}

static int cmd_verify(const Args *a) {
    int bad = 0;
    for (int i = 0; i < a->path.n; i++)
        if (file_is_dir(a->path.v[i]))
            TRY(verify_folder(a->path.v[i], &bad));
        else
            verify_one(a->path.v[i], &bad);
    return bad ? error_set(ERR_DATA, "%d damaged: a run takes the next older one by itself", bad)
               : 0;
}

/* --- diff ------------------------------------------------------------------------------------- */
typedef struct Diff {
    Ckpt *k[2];
    const char *only;
    int arrays, different; /* compared; of those not identical, the missing ones included */
    int unlike;            /* of those without numbers to compare: in one file only, other shapes */
    int64_t numbers;
    double largest;
} Diff;

/* How many of n elements differ, and of floats by how much. */
static int64_t count_different(H5Type type, const char *x, const char *y, int64_t n,
                               double *largest) {
    const size_t size = h5_type_size(type);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++, x += size, y += size) {
        if (memcmp(x, y, size) == 0) continue;
        count++;
        if (type != H5_F32) continue;
        const double d =
            fabs((double)*(const float *)(const void *)x - (double)*(const float *)(const void *)y);
        if (!(d <= *largest)) *largest = d; /* NaN counts as large */
    }
    return count;
}

static int compare_array(Diff *d, const Array *a, const Array *b) {
    bool same = a->type == b->type && a->ndim == b->ndim;
    for (int i = 0; same && i < a->ndim; i++) same = a->shape[i] == b->shape[i];
    d->arrays++;
    if (!same) {
        printf("%s: %s %s in A, %s %s in B\n", a->name, h5_type_word(a->type), a->shown,
               h5_type_word(b->type), b->shown);
        d->different++;
        d->unlike++;
        return 0;
    }
    const size_t bytes = (size_t)a->n * h5_type_size(a->type);
    AUTOFREE void *x = xmalloc(bytes + 1), *y = xmalloc(bytes + 1);
    double largest = 0;
    CkptArray in = {.name = a->name, .type = a->type, .ndim = a->ndim, .data = x};
    memcpy(in.shape, a->shape, sizeof in.shape);
    int rc = ckpt_load(d->k[0], &in, 1, NULL);
    in.data = y;
    if (rc >= 0) rc = ckpt_load(d->k[1], &in, 1, NULL);
    if (rc >= 0) {
        const int64_t count = count_different(a->type, x, y, a->n, &largest);
        d->numbers += a->n;
        if (count > 0) {
            printf("%s: %" PRId64 " of %" PRId64 " differ, by at most %.3g\n", a->name, count, a->n,
                   largest);
            d->different++;
            if (!(largest <= d->largest)) d->largest = largest;
        }
    }
    return rc < 0 ? rc : 0;
}

static void only_in(Diff *d, const char *name, const char *which) {
    if (!is_selected(name, d->only)) return;
    printf("%s: only in %s\n", name, which);
    d->arrays++;
    d->different++;
    d->unlike++;
}

/* Both lists are sorted: a merge. */
static int compare_arrays(Diff *d) {
    ArrayList l[2] = {{0}, {0}};
    int rc = 0;
    for (int i = 0; i < 2; i++) TRY_GOTO(done, ckpt_each(d->k[i], "", add_array, &l[i]));
    for (int i = 0, j = 0; i < l[0].n || j < l[1].n;) {
        int order = i == l[0].n ? 1 : j == l[1].n ? -1 : strcmp(l[0].v[i].name, l[1].v[j].name);
        if (order < 0)
            only_in(d, l[0].v[i++].name, "A");
        else if (order > 0)
            only_in(d, l[1].v[j++].name, "B");
        else {
            if (is_selected(l[0].v[i].name, d->only))
                TRY_GOTO(done, compare_array(d, &l[0].v[i], &l[1].v[j]));
            i++, j++;
        }
    }
done:
    free_arrays(&l[0]);
    free_arrays(&l[1]);
    return rc < 0 ? rc : 0;
}

/* "what.key: a -> b" for what differs between two JSON values. */
static void compare_json(const char *name, const json_t *a, const json_t *b) {
    if (json_equal(a, b) || (!a && !b)) return;
    const json_t *some = a ? a : b;
    if (json_is_object(some)) {
        json_auto_t *keys = json_object();
        if (a) json_object_update(keys, (json_t *)(uintptr_t)a);
        if (b) json_object_update(keys, (json_t *)(uintptr_t)b);
        const char *key;
        json_t *v;
        json_object_foreach(keys, key, v) {
            AUTOFREE char *inner = xasprintf("%s%s%s", name, *name ? "." : "", key);
            compare_json(inner, json_object_get(a, key), json_object_get(b, key));
        }
        return;
    }
    AUTOFREE char *x = a ? json_dumps(a, JSON_ENCODE_ANY) : NULL,
                  *y = b ? json_dumps(b, JSON_ENCODE_ANY) : NULL;
    printf("%s: %s -> %s\n", name, x ? x : "-", y ? y : "-");
}

static void compare_texts(const Diff *d) {
    size_t n[2];
    const char *t[2];
    for (int i = 0; i < 2; i++) t[i] = ckpt_tokenizer(d->k[i], &n[i]);
    if (n[0] != n[1] || memcmp(t[0], t[1], n[0]) != 0) printf("the tokenizers differ\n");
    AUTOFREE char *settings = config_diff(config_stage_named(ckpt_stage(d->k[0])),
                                          ckpt_config(d->k[0]), ckpt_config(d->k[1]));
    if (*settings) printf("%s\n", settings);
}

static int cmd_diff(const Args *a) {
    Diff d = {.only = a->only};
    int rc = 0;
    for (int i = 0; i < 2; i++) TRY_GOTO(done, ckpt_open(&d.k[i], a->path.v[i], NULL));
    printf("A: %s (%s, step %" PRId64 ")\nB: %s (%s, step %" PRId64 ")\n", ckpt_path(d.k[0]),
           ckpt_stage(d.k[0]), ckpt_step(d.k[0]), ckpt_path(d.k[1]), ckpt_stage(d.k[1]),
           ckpt_step(d.k[1]));
    compare_texts(&d);
    compare_json("", ckpt_meta(d.k[0]), ckpt_meta(d.k[1]));
    TRY_GOTO(done, compare_arrays(&d));
    const char *differ = d.different == 1 ? "differs" : "differ";
    if (d.arrays == 0)
        rc = error_set(ERR_USAGE, "no array is in %s; rhetor-ckpt show --arrays lists them",
                       a->only ? a->only : "either file");
    else if (d.different == 0)
        printf("all %d arrays are bit-identical (%" PRId64 " numbers)\n", d.arrays, d.numbers);
    else if (d.different == d.unlike)
        printf("%d of %d arrays %s, all in name or shape\n", d.different, d.arrays, differ);
    else
        printf("%d of %d arrays %s, by at most %.3g, %d of them in name or shape\n", d.different,
               d.arrays, differ, d.largest, d.unlike);
    if (rc == 0 && d.different) rc = EXIT_DIFFERENT;
done:
    ckpt_close(&d.k[0]);
    ckpt_close(&d.k[1]);
    return rc;
}

/* --- import, export --------------------------------------------------------------------------- */
static int cmd_import(const Args *a) {
    const bool adapters = peft_is_folder(a->path.v[0]);
    if (adapters != (a->base != NULL))
        return error_set(ERR_USAGE,
                         adapters ? "import: %s holds adapters: --base PATH says of which model"
                                  : "import: --base is for a folder with adapter_config.json, "
                                    "which %s is not",
                         a->path.v[0]);
    const bool folder = !file_exists(a->path.v[0]) || file_is_dir(a->path.v[0]);
    if (adapters)
        TRY(peft_import(a->path.v[0], a->base, a->path.v[1]));
    else
        TRY((folder ? hf_import : gguf_import)(a->path.v[0], a->path.v[1], a->tokenizer,
                                               a->template));
    printf("%s: from.model=%s, or -m %s\n", a->path.v[1], a->path.v[1], a->path.v[1]);
    return 0;
}

static int cmd_export(const Args *a) {
    static const GgufType types[] = {GGUF_F32, GGUF_F16, GGUF_BF16, GGUF_Q8_0};
    if (a->format != 1 && a->type > 0)
        return error_set(ERR_USAGE, "--type is for --format gguf; a folder has f32");
    core_init(); /* adapters are merged */
    if (a->format == 2)
        TRY(peft_export(a->path.v[0], a->path.v[1]));
    else if (a->format == 0)
        TRY(hf_export(a->path.v[0], a->path.v[1]));
    else
        TRY(gguf_export(a->path.v[0], a->path.v[1], types[a->type]));
    printf("%s: written\n", a->path.v[1]);
    return 0;
}

static int cmd_merge(const Args *a) {
    core_init(); /* the bits of those who load the adapters */
    TRY(merge_adapters(a->path.v[0], a->path.v[1]));
    printf("%s: written\n", a->path.v[1]);
    return 0;
}

/* --- main ------------------------------------------------------------------------------------- */
static const struct {
    OptionCommand command;
    int (*run)(const Args *); /* negative: an error; else the exit status */
} commands[] = {
    {{"show", "What a checkpoint holds and where it came from.", show_options, NULL}, cmd_show},
    {{"verify",
      "Compares every byte with the manifest and every array with its hash; a line each. "
      "Exit status 65 when one is damaged.",
      verify_options, NULL},
     cmd_verify},
    {{"diff",
      "Which arrays, settings and counters differ. Exit status 0 when all arrays are "
      "bit-identical, 1 when some are not.",
      diff_options, NULL},
     cmd_diff},
    {{"import",
      "A model of Hugging Face's (a folder with config.json, model.safetensors, tokenizer) or of "
      "llama.cpp's (a GGUF file), or adapters of Peft's (--base), become a checkpoint.",
      import_options, NULL},
     cmd_import},
    {{"export",
      "A checkpoint becomes a folder that transformers loads, or a GGUF file that llama.cpp loads.",
      export_options, NULL},
     cmd_export},
    {{"merge",
      "A checkpoint of adapters (lora.rank) becomes one of all weights, with the adapters merged "
      "into those of its base.",
      merge_options, NULL},
     cmd_merge},
};

int main(int argc, char **argv) {
    Args a = {0};
    const int c = option_command(&commands[0].command, sizeof commands / sizeof *commands,
                                 sizeof *commands, argc, argv, &a);
    const int rc = commands[c].run(&a);
    fflush(stdout); /* what was found comes before the error */
    return option_end(rc);
}
