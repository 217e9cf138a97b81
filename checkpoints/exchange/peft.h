/* peft.h: adapters (model/lora.h) as Hugging Face's Peft keeps them: a folder with
 * adapter_config.json and adapter_model.safetensors. Not collective. */
#ifndef CHECKPOINTS_EXCHANGE_PEFT_H
#define CHECKPOINTS_EXCHANGE_PEFT_H

#include <stdbool.h>

/* Is it a folder with an adapter_config.json? */
bool peft_is_folder(const char *dir);

/* The adapters in the folder, on the language model at `base` (a run folder or a checkpoint, which
 * must stay), become the checkpoint `out`. Ours share their A among queries, keys and values, and
 * gate and up: where Peft's do not, they become adapters of two or three times the rank that
 * compute the same. ERR_DATA names what is malformed, of another model, or not plain LoRA. */
int peft_import(const char *dir, const char *base, const char *out);

/* The adapters at `path` go to the folder, new or empty. ERR_USAGE: there are none, or those of a
 * reward model. */
int peft_export(const char *path, const char *dir);

#endif
