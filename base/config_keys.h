/* config_keys.h: the table of all settings. No include guard: included with different macros.
 * KEY(field, "name", Kind, default, lowest, highest, "words", effect, "meaning")
 * ENUM(field, "name", "default", WORD(CONSTANT, "word") ..., effect, "meaning")
 *
 * Which stages know a setting: base/stages.h. Defaults of texts, lists and words are strings; "":
 * not set. A Path, or one of Paths, may begin with ~/. Effect: RESULT where another value gives
 * other weights, so that resuming names it and a pipeline makes the stage again; else SAME. */
#ifndef KEY
#define KEY(...)
#endif
#ifndef ENUM
#define ENUM(field, name, def, words, effect, help) \
    KEY(field, name, Enum, def, 0, 0, words, effect, help)
#endif

/* clang-format off */
/* --- the run ---------------------------------------------------------------------------------- */
KEY(run_dir, "run.dir", Path, "", 0, 0, "", SAME, "folder of this run: config, log, metrics, checkpoints; not set: runs/ and the stage's name (in a recipe it must be set)")
KEY(run_seed, "run.seed", I64, 1, 0, 4294967295.0, "", RESULT, "seed of everything random in the stage")
KEY(run_threads, "run.threads", I64, 0, 0, 4096, "", SAME, "OpenMP threads a rank; 0: OMP_NUM_THREADS, else the cores this rank may use")
KEY(run_deadline, "run.deadline", F64, 0, 0, 1e9, "", SAME, "seconds after which the run saves and leaves with 75; 0: never")
KEY(run_log_every, "run.log_every", I64, 10, 1, 1e9, "", SAME, "steps between two lines in the log")
KEY(run_tensorboard, "run.tensorboard", Bool, true, 0, 1, "", SAME, "also write the metrics and samples as TensorBoard event files")

/* --- parents ----------------------------------------------------------------------------------- */
KEY(from_tokenizer, "from.tokenizer", Path, "", 0, 0, "", RESULT, "tokenizer.json, or a folder with vocab.json and merges.txt")
KEY(from_model, "from.model", Path, "", 0, 0, "", RESULT, "parent: a run folder (its newest good checkpoint, the best where one was kept) or a checkpoint file. SFT: the pretrained model; reward and PPO: the SFT model")
KEY(from_reward, "from.reward", Path, "", 0, 0, "", RESULT, "the reward model: scores the samples and starts the critic")
KEY(from_ensemble, "from.ensemble", Paths, "", 0, 0, "", RESULT, "more reward models, which with from.reward form an ensemble: reward.ensemble")

/* --- the model (the other stages inherit it) ----------------------------------------------------- */
ENUM(model_family, "model.family", "gpt2", WORD(MODEL_GPT2, "gpt2") WORD(MODEL_LLAMA, "llama") WORD(MODEL_QWEN2, "qwen2") WORD(MODEL_QWEN3, "qwen3") WORD(MODEL_GPT_NEOX, "gpt_neox") WORD(MODEL_OPT, "opt"), RESULT, "what the block is like: norm, mlp, positions, biases as the models of this family have them; the keys below whose default is `family`, or 0, set one of these by itself. llama is today's usual choice (SmolLM, Llama 3)")
KEY(model_layers, "model.layers", I64, 4, 1, 1000, "", RESULT, "transformer blocks")
KEY(model_heads, "model.heads", I64, 4, 1, 1000, "", RESULT, "attention heads; divides model.width unless model.head_size is given")
KEY(model_kv_heads, "model.kv_heads", I64, 0, 0, 1000, "", RESULT, "heads of keys and values, each seen by several heads (grouped-query attention); divides model.heads; 0: as many as these")
KEY(model_head_size, "model.head_size", I64, 0, 0, 65536, "", RESULT, "columns of a head; 0: model.width / model.heads")
KEY(model_width, "model.width", I64, 128, 8, 65536, "", RESULT, "width of the residual stream")
KEY(model_ffn, "model.ffn", I64, 0, 0, 1000000, "", RESULT, "width inside the mlp; 0: 4 widths, with swiglu 8/3 widths, rounded up to a multiple of 32")
KEY(model_context, "model.context", I64, 128, 8, 65536, "", RESULT, "longest sequence")
KEY(model_bias, "model.bias", Enum, "family", 0, 0, "family|true|false|qkv", RESULT, "biases in the linear layers and layer norms: all, none, or those of queries, keys and values alone")
KEY(model_norm, "model.norm", Enum, "family", 0, 0, "family|layer|rms", RESULT, "LayerNorm or RMSNorm")
KEY(model_norm_eps, "model.norm_eps", F64, 0, 0, 0.1, "", RESULT, "the norms' epsilon; 0: the family's")
KEY(model_mlp, "model.mlp", Enum, "family", 0, 0, "family|gelu_tanh|gelu_erf|relu|swiglu", RESULT, "the mlp's activation")
KEY(model_positions, "model.positions", Enum, "family", 0, 0, "family|learned|rope", RESULT, "positions: learned vectors, or rotation of queries and keys (RoPE)")
KEY(model_rope_theta, "model.rope_theta", F64, 0, 0, 1e12, "", RESULT, "base of RoPE's wave lengths; 0: the family's, or 10000")
KEY(model_rope_fraction, "model.rope_fraction", F64, 0, 0, 1, "", RESULT, "share of a head's columns that RoPE rotates; 0: the family's (gpt_neox 0.25), or 1")
KEY(model_qk_norm, "model.qk_norm", Enum, "family", 0, 0, "family|true|false", RESULT, "RMSNorm of each head's queries and keys")
KEY(model_residual, "model.residual", Enum, "family", 0, 0, "family|serial|parallel", RESULT, "attention and mlp one after the other, or both of the same input")
KEY(model_tied, "model.tied", Enum, "family", 0, 0, "family|true|false", RESULT, "logits from the embedding's matrix, or from one of their own")
ENUM(model_init, "model.init", "gpt2", WORD(INIT_GPT2, "gpt2") WORD(INIT_FAN_IN, "fan_in"), RESULT, "first weights. gpt2: normal, deviation 0.02. fan_in: 1/sqrt(inputs) for matrices, 0.2 for embeddings; narrow models (a width of 100 or so) learn to read with it, and hardly with 0.02")
ENUM(model_weights, "model.weights", "f32", WORD(WEIGHTS_F32, "f32") WORD(WEIGHTS_BF16, "bf16"), RESULT, "how weights that nobody trains are kept: the base under lora.rank, the reference, the reward model. bf16: half the memory, and the same bits where they are bfloat16 already, as those of published models are; others are rounded")
KEY(model_dropout, "model.dropout", F64, 0, 0, 0.9, "", RESULT, "residual and embedding dropout while training")

/* --- adapters ------------------------------------------------------------------------------------- */
KEY(lora_rank, "lora.rank", I64, 0, 0, 4096, "", RESULT, "train low-rank adapters of this rank (LoRA) and leave the parent's weights as they are: no gradients, moments or copies of these; 0: train all weights. About ten times the learning rate is right then")
KEY(lora_alpha, "lora.alpha", F64, 32, 1e-6, 1e6, "", RESULT, "adapters count alpha / rank times")
KEY(lora_targets, "lora.targets", Enum, "all", 0, 0, "all|attention|mlp", RESULT, "matrices that have an adapter")
KEY(lora_dropout, "lora.dropout", F64, 0, 0, 0.9, "", RESULT, "dropout of what goes into the adapters (SFT)")

/* --- data -------------------------------------------------------------------------------------- */
KEY(data_train, "data.train", Paths, "", 0, 0, "", RESULT, "training files. Pretraining: corpora (.h5); SFT: demonstrations; reward: rankings; PPO: prompts")
KEY(data_heldout, "data.heldout", Paths, "", 0, 0, "", RESULT, "held-out files of the same kind")
KEY(data_mix, "data.mix", Paths, "", 0, 0, "", RESULT, "pretraining corpora mixed in (SFT: data.mix_ratio; PPO: the ptx term)")
KEY(data_mix_ratio, "data.mix_ratio", F64, 0, 0, 0.9, "", RESULT, "share of the tokens of a step that are pretraining text")
KEY(data_template, "data.template", Enum, "parent", 0, 0, "plain|chatml|hh|alpaca|smollm2|qwen2|qwen2.5|qwen3|qwen3-direct|llama3|llama3.1|zephyr|gemma|llama2|roles|parent", RESULT, "chat template; it travels with the checkpoint. roles: the words of data.roles; parent: that of from.model (of one that rhetor-pretrain made plain)")
KEY(data_roles_system, "data.roles.system", Str, "", 0, 0, "", RESULT, "with template: roles, what stands before a message of the system; special tokens of the tokenizer are recognised")
KEY(data_roles_system_end, "data.roles.system_end", Str, "", 0, 0, "", RESULT, "... and after it")
KEY(data_roles_user, "data.roles.user", Str, "", 0, 0, "", RESULT, "what stands before a message of the user")
KEY(data_roles_user_end, "data.roles.user_end", Str, "", 0, 0, "", RESULT, "... and after it")
KEY(data_roles_assistant, "data.roles.assistant", Str, "", 0, 0, "", RESULT, "what stands before an answer; it belongs to the prompt, white space at its end to the answer")
KEY(data_roles_assistant_end, "data.roles.assistant_end", Str, "", 0, 0, "", RESULT, "what stands after an answer, before the end-of-text token")
ENUM(data_loss_on, "data.loss_on", "response", WORD(LOSS_ON_RESPONSE, "response") WORD(LOSS_ON_ALL, "all"), RESULT, "which tokens of an example are learned")
ENUM(data_on_long, "data.on_long", "drop", WORD(ON_LONG_DROP, "drop") WORD(ON_LONG_TRUNCATE_LEFT, "truncate_left") WORD(ON_LONG_STOP, "stop"), RESULT, "records longer than the context")
ENUM(data_on_bad, "data.on_bad", "stop", WORD(ON_BAD_STOP, "stop") WORD(ON_BAD_SKIP, "skip"), RESULT, "malformed records")
KEY(data_max_bad, "data.max_bad", I64, 100, 0, 1e12, "", RESULT, "with on_bad: skip, stop after so many")
KEY(data_max_records, "data.max_records", I64, 0, 0, 1e12, "", RESULT, "use only the first so many records of each file; 0: all")
KEY(data_field_prompt, "data.fields.prompt", Str, "prompt", 0, 0, "", RESULT, "name of the field with the prompt")
KEY(data_field_completion, "data.fields.completion", Str, "completion", 0, 0, "", RESULT, "name of the field with the completion")
KEY(data_field_chosen, "data.fields.chosen", Str, "chosen", 0, 0, "", RESULT, "name of the field with the better completion")
KEY(data_field_rejected, "data.fields.rejected", Str, "rejected", 0, 0, "", RESULT, "name of the field with the worse completion")
KEY(data_field_messages, "data.fields.messages", Str, "messages", 0, 0, "", RESULT, "name of the field with a list of messages")
KEY(data_reference, "data.reference", Paths, "", 0, 0, "", RESULT, "prompt and completion records whose mean reward becomes 0; not set: the demonstrations of the best rank in data.train")

/* --- the loop ----------------------------------------------------------------------------------- */
KEY(train_steps, "train.steps", I64, 0, 0, 1e12, "", RESULT, "optimizer steps; 0: as many as train.epochs needs")
KEY(train_epochs, "train.epochs", F64, 1, 0.001, 1e6, "", RESULT, "passes over the data where train.steps is 0")
KEY(train_batch, "train.batch", I64, 32, 1, 1e9, "", RESULT, "global batch of a step. Pretraining: windows of model.context tokens; SFT: examples; reward: prompts")
KEY(train_micro_tokens, "train.micro_tokens", I64, 8192, 1, 1e9, "", SAME, "packed tokens of a micro-batch, one forward and backward pass on a rank (gradient accumulation makes the batch of several): memory against speed, no change of the result")
KEY(train_recompute, "train.recompute", Bool, false, 0, 1, "", SAME, "activation checkpointing: keep only the layers' inputs and recompute each layer in the backward pass: about a third of the activations, a forward pass more, the same bits")
KEY(train_overfit, "train.overfit", I64, 0, 0, 1e9, "", RESULT, "train on the first so many batches only (--overfit N); 0: off")
KEY(eval_every, "eval.every", I64, 0, 0, 1e12, "", RESULT, "steps between evaluations on held-out data; 0: at the end only")
KEY(eval_records, "eval.records", I64, 0, 0, 1e12, "", RESULT, "held-out records (pretraining: windows) an evaluation uses; 0: all")
KEY(eval_prompts, "eval.prompts", Path, "", 0, 0, "", SAME, "held-out prompts of the embedded world: at each evaluation the policy answers them, and gold score, KL, length, the reward model's score and what the answers do go into the metrics (gold/...)")
KEY(save_every, "save.every", I64, 0, 0, 1e12, "", SAME, "steps between checkpoints; 0: only by save.every_seconds and at the end")
KEY(save_every_seconds, "save.every_seconds", F64, 600, 0, 1e9, "", SAME, "a checkpoint also where the last one is so old; 0: never")
KEY(save_every_epoch, "save.every_epoch", Bool, false, 0, 1, "", RESULT, "keep the checkpoint of every epoch")
KEY(save_keep_last, "save.keep_last", I64, 2, 1, 1e9, "", SAME, "newest checkpoints kept")
KEY(save_keep_best, "save.keep_best", Bool, false, 0, 1, "", RESULT, "also keep the checkpoint with the best held-out result")
ENUM(save_compression, "save.compression", "zstd", WORD(COMPRESS_ZSTD, "zstd") WORD(COMPRESS_NONE, "none"), SAME, "chunks of checkpoints")

/* --- the optimizer -------------------------------------------------------------------------------- */
ENUM(optim_name, "optim.name", "adamw", WORD(OPTIM_ADAMW, "adamw") WORD(OPTIM_MUON, "muon"), RESULT, "what makes updates of gradients. muon: orthogonalised momentum for the matrices of the layers, AdamW for embeddings, head, norms and biases; learning rate and decay mean the same (docs/MATH.md); 4 bytes a parameter less")
KEY(optim_lr, "optim.lr", F64, 3e-4, 0, 10, "", RESULT, "peak learning rate (PPO: the policy's). The defaults of SFT, reward and PPO are InstructGPT's for 1.3 billion parameters; smaller models bear more, as the recipes in configs/ show")
ENUM(optim_schedule, "optim.schedule", "cosine", WORD(SCHEDULE_CONSTANT, "constant") WORD(SCHEDULE_LINEAR, "linear") WORD(SCHEDULE_COSINE, "cosine"), RESULT, "course of the learning rate after the warm-up")
KEY(optim_lr_end, "optim.lr_end", F64, 0.1, 0, 1, "", RESULT, "learning rate at the end as a share of the peak (linear, cosine)")
KEY(optim_warmup, "optim.warmup", I64, 0, 0, 1e12, "", RESULT, "warm-up steps (PPO: iterations)")
KEY(optim_warmup_from, "optim.warmup_from", F64, 0, 0, 1, "", RESULT, "where the warm-up begins, as a share of the peak")
KEY(optim_beta1, "optim.beta1", F64, 0.9, 0, 0.999999, "", RESULT, "Adam: decay of the first moment")
KEY(optim_beta2, "optim.beta2", F64, 0.95, 0, 0.999999, "", RESULT, "Adam: decay of the second moment")
KEY(optim_eps, "optim.eps", F64, 1e-8, 0, 1, "", RESULT, "Adam: epsilon")
KEY(optim_momentum, "optim.momentum", F64, 0.95, 0, 0.999999, "", RESULT, "Muon: decay of the momentum (Nesterov's)")
KEY(optim_decay, "optim.decay", F64, 0, 0, 10, "", RESULT, "decoupled weight decay, matrices only")
KEY(optim_clip, "optim.clip", F64, 1, 0, 1e9, "", RESULT, "largest global gradient norm; 0: no clipping")
KEY(optim_max_skips, "optim.max_skips", I64, 3, 0, 1e9, "", RESULT, "steps in a row whose gradient is not finite that are skipped before the run ends with 70")
KEY(optim_skip_zscore, "optim.skip_zscore", F64, 0, 0, 1e6, "", RESULT, "skip an update whose loss or gradient norm lies so many standard deviations above the mean of the last 128 (PPO: gradient norm); 6 is usual; 0: none")

/* --- several ranks -------------------------------------------------------------------------------- */
KEY(dist_hang_seconds, "dist.hang_seconds", F64, 600, 0, 1e9, "", SAME, "without a sign of life for so long the run ends with 70 and says where it stands; a micro-batch, a sampled token is one. Three times as long while it loads models, computes or saves, six times while it waits for other ranks; 0: never")
KEY(dist_check_every, "dist.check_every", I64, 100, 0, 1e12, "", SAME, "steps between comparisons of the ranks' copies of parameters and moments, which also come before each save; copies that differ end the run with 70; 0: never")

/* --- the ranks ------------------------------------------------------------------------------------ */
KEY(dist_reproducible, "dist.reproducible", Bool, true, 0, 1, "", RESULT, "bit-identical weights and samples on any number of ranks up to dist.virtual_ranks, whatever train.micro_tokens and the threads. Costs log2(virtual ranks of a rank) gradients of memory. false: each rank adds up its own share")
ENUM(dist_shard, "dist.shard", "none", WORD(SHARD_NONE, "none") WORD(SHARD_OPTIMIZER, "optimizer") WORD(SHARD_GRADIENTS, "gradients"), SAME, "what the ranks divide among themselves, instead of each keeping all of it. optimizer: the moments, 8 of the 16 bytes a parameter; the same bits, no more messages. gradients: also the gradients, 4 bytes, but for those of the embedding and two layers; more messages with several micro-batches, and the sums depend on the layout (dist.reproducible: false)")
KEY(dist_virtual_ranks, "dist.virtual_ranks", Enum, "4", 0, 0, "1|2|4|8|16|32|64|128|256|512|1024", RESULT, "the shares of the global batch whose sums are added in a fixed tree (dist.reproducible). With more ranks than that each rank is one, and the result is that of as many virtual ranks")

/* --- PPO -------------------------------------------------------------------------------------------- */
KEY(ppo_episodes, "ppo.episodes", I64, 8192, 1, 1e12, "", RESULT, "episodes in all")
KEY(ppo_batch, "ppo.batch", I64, 512, 1, 1e9, "", RESULT, "episodes of an iteration, all ranks together")
KEY(ppo_minibatches, "ppo.minibatches", I64, 8, 1, 1e9, "", RESULT, "minibatches of an iteration: optimizer steps an inner epoch")
KEY(ppo_epochs, "ppo.epochs", I64, 1, 1, 1000, "", RESULT, "inner epochs over an iteration's episodes")
KEY(ppo_max_response, "ppo.max_response", I64, 64, 1, 1e6, "", RESULT, "longest response in tokens")
KEY(ppo_temperature, "ppo.temperature", F64, 1, 0.01, 100, "", RESULT, "divides the logits in sampling and in all log-probabilities")
KEY(ppo_stop, "ppo.stop", Str, "", 0, 0, "", RESULT, "text of the stop token; not set: any of the model's own")
KEY(ppo_no_stop_score, "ppo.no_stop_score", F64, -1, -1e9, 1e9, "", RESULT, "score of a response without the stop token")
KEY(ppo_clip, "ppo.clip", F64, 0.2, 0.001, 100, "", RESULT, "clipping of the probability ratio")
KEY(ppo_clip_value, "ppo.clip_value", F64, 0.2, 0, 1e9, "", RESULT, "clipping of the value around the old one; 0: none")
KEY(ppo_gamma, "ppo.gamma", F64, 1, 0, 1, "", RESULT, "discount")
KEY(ppo_lambda, "ppo.lambda", F64, 0.95, 0, 1, "", RESULT, "GAE's lambda")
KEY(ppo_beta, "ppo.beta", F64, 0.02, 0, 1e6, "", RESULT, "weight of the KL penalty (adaptive: its start)")
ENUM(ppo_kl, "ppo.kl", "fixed", WORD(KL_FIXED, "fixed") WORD(KL_ADAPTIVE, "adaptive"), RESULT, "KL controller")
KEY(ppo_kl_target, "ppo.kl_target", F64, 6, 1e-6, 1e6, "", RESULT, "adaptive: KL an episode, nats")
KEY(ppo_kl_horizon, "ppo.kl_horizon", F64, 10000, 1, 1e12, "", RESULT, "adaptive: episodes")
KEY(ppo_whiten, "ppo.whiten", Bool, true, 0, 1, "", RESULT, "whiten advantages over the global batch")
KEY(ppo_critic_lr, "ppo.critic_lr", F64, 0, 0, 10, "", RESULT, "the critic's learning rate; 0: optim.lr")
ENUM(ppo_critic, "ppo.critic", "reward", WORD(CRITIC_REWARD, "reward") WORD(CRITIC_RANDOM, "random"), RESULT, "what the critic begins as. reward: the reward model; random: a model of its shape with random weights, a baseline that learns more slowly")
KEY(ppo_ema, "ppo.ema", F64, 0.992, 0, 0.999999, "", RESULT, "decay of the moving average of the policy, one step an optimizer step; the average is what is evaluated and saved as the model; 0: none")
KEY(ppo_replay, "ppo.replay", Path, "", 0, 0, "", RESULT, "folder of another run's rollouts to train on instead of sampling (tests, debugging)")
KEY(ppo_save_rollouts, "ppo.save_rollouts", Bool, false, 0, 1, "", RESULT, "write the episodes of every iteration to rollouts/")
KEY(ptx_coef, "ptx.coef", F64, 0, 0, 1e6, "", RESULT, "weight of the pretraining term (PPO-ptx), per token mean; 0: off")
KEY(ptx_ratio, "ptx.ratio", F64, 1, 0, 1e6, "", RESULT, "pretraining windows for each episode")

/* --- GRPO, RLOO: without a critic (rhetor-grpo) ------------------------------------------------------- */
KEY(grpo_samples, "grpo.samples", I64, 8, 2, 1e6, "", RESULT, "responses to a prompt, which are compared with each other; divides ppo.batch, the responses of an iteration")
ENUM(grpo_baseline, "grpo.baseline", "group", WORD(BASELINE_GROUP, "group") WORD(BASELINE_LOO, "loo"), RESULT, "what a response's reward is compared with. group: the mean of its prompt's responses (GRPO); loo: of the other ones (RLOO)")
ENUM(grpo_scale, "grpo.scale", "std", WORD(SCALE_STD, "std") WORD(SCALE_NONE, "none"), RESULT, "std: advantages are divided by the standard deviation of the group's rewards (GRPO); none: not (RLOO, Dr. GRPO)")
ENUM(grpo_aggregate, "grpo.aggregate", "sequence", WORD(AGGREGATE_TOKEN, "token") WORD(AGGREGATE_SEQUENCE, "sequence") WORD(AGGREGATE_CONSTANT, "constant"), RESULT, "the loss of a minibatch. sequence: mean over responses of the mean over their tokens (GRPO); token: mean over all tokens (DAPO); constant: sum over tokens by responses times ppo.max_response (Dr. GRPO, RLOO)")
KEY(grpo_clip_high, "grpo.clip_high", F64, 0, 0, 100, "", RESULT, "clipping of the probability ratio above 1, where ppo.clip is below (DAPO: 0.28); 0: ppo.clip")
ENUM(grpo_ratio, "grpo.ratio", "token", WORD(RATIO_TOKEN, "token") WORD(RATIO_SEQUENCE, "sequence"), RESULT, "importance ratio of each token, or one of the whole response, by the mean of its tokens (GSPO; ppo.clip is then some 3e-4)")
ENUM(grpo_kl, "grpo.kl", "loss", WORD(KL_IN_LOSS, "loss") WORD(KL_IN_REWARD, "reward"), RESULT, "where ppo.beta times the KL to the reference goes. loss: k3 of each token (GRPO); reward: the response's sum of log-ratios is taken from its reward (RLOO). With ppo.beta: 0 there is no reference")
KEY(grpo_resample, "grpo.resample", I64, 0, 0, 1000, "", RESULT, "dynamic sampling (DAPO): groups whose scores are all equal are left out in any case; so many times more prompts are sampled in an iteration until ppo.batch responses are left; 0: never")

/* --- rewards (PPO, GRPO) ------------------------------------------------------------------------------ */
KEY(reward_model, "reward.model", F64, 1, -1e6, 1e6, "", RESULT, "weight of the reward model's score (from.reward). A score is the sum of what the following find, times their weights; a response without the stop token scores ppo.no_stop_score")
ENUM(reward_ensemble, "reward.ensemble", "mean", WORD(ENSEMBLE_MEAN, "mean") WORD(ENSEMBLE_WORST, "worst") WORD(ENSEMBLE_UNCERTAINTY, "uncertainty") WORD(ENSEMBLE_FIRST, "first"), RESULT, "with from.ensemble, what the models' scores of a response are together (Coste 2023). worst: the smallest; uncertainty: the mean minus reward.spread times the variance; first: from.reward alone, the others are asked only by eval.prompts (gold/others), as a test of it")
KEY(reward_spread, "reward.spread", F64, 0.5, 0, 1e6, "", RESULT, "with reward.ensemble: uncertainty, the weight of the variance between the models")
KEY(reward_gold, "reward.gold", F64, 0, -1e6, 1e6, "", RESULT, "weight of the embedded world's gold reward; records need \"gold\"")
KEY(reward_program, "reward.program", F64, 0, -1e6, 1e6, "", RESULT, "weight of what reward.command says")
KEY(reward_command, "reward.command", Str, "", 0, 0, "", RESULT, "a command of the shell, trusted, run by rank 0 with your rights: it reads a line {\"prompt\", \"completion\", \"record\"} a response, in any number, and writes a number each, without holding it back for more. Started once; again when it dies or is late")
KEY(reward_seconds, "reward.seconds", F64, 60, 0.01, 1e6, "", SAME, "what reward.command may take for the responses of an iteration")
KEY(reward_number, "reward.number", F64, 0, -1e6, 1e6, "", RESULT, "weight of: 1 where the last number of the response is the last one of the record's answer (GSM8K), else 0")
KEY(reward_text, "reward.text", F64, 0, -1e6, 1e6, "", RESULT, "weight of: 1 where the response is the record's answer, white space around them aside")
KEY(reward_answer, "reward.answer", Str, "answer", 0, 0, "", RESULT, "the field of the record that holds the answer")
KEY(reward_match, "reward.match", F64, 0, -1e6, 1e6, "", RESULT, "weight of: 1 where reward.pattern matches somewhere in the response")
KEY(reward_pattern, "reward.pattern", Str, "", 0, 0, "", RESULT, "regular expression (Oniguruma's syntax, as tokenizers have it)")
KEY(reward_length, "reward.length", F64, 0, -1e6, 1e6, "", RESULT, "weight of the response's tokens by ppo.max_response; below 0: shorter ones are better")

/* --- the reward model (rhetor-reward) ---------------------------------------------------------------- */
ENUM(reward_pairs, "reward.pairs", "kway", WORD(PAIRS_KWAY, "kway") WORD(PAIRS_SHUFFLED, "shuffled"), RESULT, "kway: all pairs of a prompt's answers are one item of a batch (Ouyang 2022); shuffled: each pair is an item of its own, a baseline that overfits and costs more; train.batch counts items")
KEY(reward_layers, "reward.layers", I64, 0, 0, 1e6, "", RESULT, "blocks of the parent that the reward model takes, the first ones; 0: all. Fewer make a smaller reward model than the policy")

/* --- DPO and its relatives (rhetor-dpo) ------------------------------------------------------------- */
ENUM(dpo_loss, "dpo.loss", "sigmoid", WORD(DPO_SIGMOID, "sigmoid") WORD(DPO_IPO, "ipo") WORD(DPO_SIMPO, "simpo") WORD(DPO_ORPO, "orpo") WORD(DPO_KTO, "kto") WORD(DPO_HINGE, "hinge"), RESULT, "what is learned from preferences. sigmoid: DPO; simpo and orpo need no reference; kto learns from single answers (records with \"label\")")
KEY(dpo_beta, "dpo.beta", F64, 0.1, 1e-9, 1e9, "", RESULT, "how close to the reference the policy stays: factor of the log-ratio. SimPO: of the mean log-probability, 2 is usual; ORPO: weight of the odds ratio")
KEY(dpo_smoothing, "dpo.smoothing", F64, 0, 0, 0.5, "", RESULT, "share of the labels that are taken to be wrong (sigmoid, simpo)")
ENUM(dpo_length, "dpo.length", "method", WORD(LENGTH_METHOD, "method") WORD(LENGTH_SUM, "sum") WORD(LENGTH_MEAN, "mean"), RESULT, "log-probabilities of an answer: their sum, or their mean over its tokens. method: mean for ipo, simpo and orpo, as these were run (equation 17 of IPO as printed is sum), sum for the others")
KEY(dpo_margin, "dpo.margin", F64, 0.5, 0, 1e6, "", RESULT, "simpo: the margin gamma by which the better answer's reward shall be larger")
KEY(dpo_sft, "dpo.sft", F64, 0, 0, 1e6, "", RESULT, "weight of the mean -log p of the better answer's tokens, added to any loss (orpo has it with weight 1 besides)")
KEY(dpo_desirable, "dpo.desirable", F64, 1, 0, 1e6, "", RESULT, "kto: weight of desirable answers")
KEY(dpo_undesirable, "dpo.undesirable", F64, 1, 0, 1e6, "", RESULT, "kto: weight of undesirable answers")

/* --- cluster.yaml of a recipe: its jobs (rhetor-submit) ------------------------------------------------- */
KEY(cluster_scheduler, "cluster.scheduler", Str, "auto", 0, 0, "", SAME, "the queue: slurm, pbs, lsf; auto: the one whose program to submit (sbatch, qsub, bsub) is in PATH")
ENUM(cluster_launcher, "cluster.launcher", "auto", WORD(LAUNCHER_AUTO, "auto") WORD(LAUNCHER_SRUN, "srun") WORD(LAUNCHER_MPIRUN, "mpirun"), SAME, "what starts the ranks; auto: srun under Slurm, else mpirun")
ENUM(cluster_mpi, "cluster.mpi", "openmpi", WORD(MPI_OPEN, "openmpi") WORD(MPI_MPICH, "mpich") WORD(MPI_INTEL, "intel") WORD(MPI_CRAY, "cray"), SAME, "the MPI that Rhetor was built with, whose launcher's options the jobs take: srun --mpi=pmix, pmi2 (mpich, intel) or cray_shasta; mpirun of Open MPI or Hydra (mpich, cray: mpiexec; intel: mpirun)")
KEY(cluster_nodes, "cluster.nodes", I64, 1, 1, 1e6, "", SAME, "nodes of a stage; the recipe's commands take one")
KEY(cluster_ranks_per_node, "cluster.ranks_per_node", I64, 1, 1, 4096, "", SAME, "ranks of a stage on each node")
KEY(cluster_threads, "cluster.threads", I64, 1, 1, 4096, "", SAME, "cores and OpenMP threads of a rank; a command gets those of all ranks of a node")
KEY(cluster_time, "cluster.time", Str, "", 0, 0, "", SAME, "time limit of a job: minutes, H:MM:SS or D-H:MM:SS; not set: the queue's")
KEY(cluster_partition, "cluster.partition", Str, "", 0, 0, "", SAME, "partition (Slurm) or queue (PBS, LSF)")
KEY(cluster_account, "cluster.account", Str, "", 0, 0, "", SAME, "account (Slurm, PBS) or project (LSF)")
KEY(cluster_options, "cluster.options", List, "", 0, 0, "", SAME, "further options of sbatch, qsub or bsub, each a directive of its own: [--constraint=avx512, --mem=0]")
KEY(cluster_prologue, "cluster.prologue", Str, "", 0, 0, "", SAME, "shell lines before the launcher, such as module load openmpi; the shell's own ${NAME} is written $${NAME}")
KEY(cluster_lead, "cluster.lead", I64, 240, 10, 1e6, "", SAME, "seconds before the end of cluster.time at which a stage is asked to save and leave: a step and a save, and 60 more, by which Slurm may come early or late")
KEY(cluster_stalls, "cluster.stalls", I64, 3, 1, 1000, "", SAME, "a job that is put back so often without a step of progress fails")
KEY(cluster_steps, "cluster.steps", List, "", 0, 0, "", SAME, "settings of single steps: [\"pretrain:nodes=4\", \"pretrain:time=24:00:00\"]")
/* clang-format on */

#undef KEY
#undef ENUM
#undef WORD
