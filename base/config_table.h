/* config_table.h: base/config_keys.h as a table, for config.c and config_text.c. */
#ifndef BASE_CONFIG_TABLE_H
#define BASE_CONFIG_TABLE_H

#include "base/config.h"

#include <stddef.h>

typedef enum ConfigKind {
    KIND_I64,
    KIND_F64,
    KIND_Bool,
    KIND_Str,
    KIND_List,
    KIND_Path,
    KIND_Paths,
    KIND_Enum
} ConfigKind;

typedef struct ConfigKey {
    const char *name;
    ConfigKind kind;
    size_t offset;    /* in Config */
    double number;    /* default of I64, F64, Bool */
    const char *text; /* default of Str, List, Enum */
    double lo, hi;
    const char *choices; /* "a|b|c" */
    bool result;         /* another value, other weights */
    const char *help;
} ConfigKey;

extern const ConfigKey config_keys[];
extern const int config_nkeys;

#define CONFIG_AT(type, c, key) ((type *)((char *)(c) + (key)->offset))
#define CONFIG_IN(type, c, key) ((const type *)((const char *)(c) + (key)->offset))

/* The key of that name, NULL if there is none. */
const ConfigKey *config_key(const char *name);
/* "pretrain, sft": that know the key; NULL: all. malloc'd */
char *config_stages(const ConfigKey *k);
bool config_knows(int stage, const ConfigKey *k);
/* The stage's own default, malloc'd; NULL where it has the key's. */
char *config_stage_default(int stage, const ConfigKey *k);
/* The i-th word of "a|b|c", malloc'd; NULL behind the last. */
char *config_choice(const char *choices, int i);
/* "a, b, c" or "from 0 to 10"; "" where everything is allowed. malloc'd */
char *config_range(const ConfigKey *key);
/* The value as YAML that reads back to the same value; malloc'd. */
char *config_value(const Config *c, const ConfigKey *key);
/* The shortest decimal that reads back to x; malloc'd. */
char *config_number(double x);

#endif
