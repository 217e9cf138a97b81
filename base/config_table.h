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
    int stages;
    const char *help;
} ConfigKey;

/* A default of one stage that differs from the key's. */
typedef struct StageDefault {
    int stage;
    const char *key, *value; /* the value as it is written in a recipe */
} StageDefault;

extern const ConfigKey config_keys[];
extern const int config_nkeys;
extern const StageDefault config_stage_defaults[];
extern const int config_nstage_defaults;

#define CONFIG_AT(type, c, key) ((type *)((char *)(c) + (key)->offset))
#define CONFIG_IN(type, c, key) ((const type *)((const char *)(c) + (key)->offset))

/* The key of that name, NULL if there is none. */
const ConfigKey *config_key(const char *name);
/* The stage's own default, NULL where it has the key's. */
const char *config_stage_default(const ConfigKey *k, int stage);
/* "pretrain, sft" */
char *config_stages(int stages);
/* The i-th word of "a|b|c", malloc'd; NULL behind the last. */
char *config_choice(const char *choices, int i);
/* "a, b, c" or "from 0 to 10"; "" where everything is allowed. malloc'd */
char *config_range(const ConfigKey *key);
/* The value as YAML that reads back to the same value; malloc'd. */
char *config_value(const Config *c, const ConfigKey *key);
/* The shortest decimal that reads back to x; malloc'd. */
char *config_number(double x);

#endif
