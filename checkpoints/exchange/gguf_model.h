/* gguf_model.h: models as llama.cpp keeps them: one GGUF file with weights, description, tokenizer
 * and chat template. Not collective. docs/FORMATS.md has what is understood and what is written. */
#ifndef CHECKPOINTS_EXCHANGE_GGUF_MODEL_H
#define CHECKPOINTS_EXCHANGE_GGUF_MODEL_H

#include "checkpoints/exchange/gguf.h"

/* The model in the file becomes the checkpoint `out`, a parent like any other. tokenizer: NULL: the
 * file's. tmpl: name of the chat template; NULL: the one that the file's own text is. ERR_DATA with
 * the place for what is malformed, incomplete, or of an architecture that Rhetor does not have. */
int gguf_import(const char *path, const char *out, const char *tokenizer, const char *tmpl);

/* The language model at `path` (a run folder or a checkpoint) goes to a new file, its matrices as
 * `type`, all else as F32. ERR_USAGE: the file is there; ERR_DATA: GGUF has no word for the model. */
int gguf_export(const char *path, const char *file, GgufType type);

#endif
