/* hf.h: models as Hugging Face's transformers keep them: a folder with config.json,
 * model.safetensors and tokenizer.json. Not collective. docs/FORMATS.md has what is understood and
 * what is written. */
#ifndef CHECKPOINTS_EXCHANGE_HF_H
#define CHECKPOINTS_EXCHANGE_HF_H

/* The language model in the folder becomes the checkpoint `out` (NAME.h5 and NAME.json), a parent
 * like any other. tokenizer: NULL: the folder's; without any the checkpoint can only be exported.
 * tmpl: name of the chat template; NULL: the one that an export of ours names, else plain.
 * ERR_DATA with the file for what is malformed, incomplete or of another architecture. */
int hf_import(const char *dir, const char *out, const char *tokenizer, const char *tmpl);

/* The model at `path` (a run folder or a checkpoint) goes to the folder, new or empty: a language
 * model as GPT2LMHeadModel, a reward model as GPT2ForSequenceClassification. ERR_USAGE if the
 * folder holds something. */
int hf_export(const char *path, const char *dir);

#endif
