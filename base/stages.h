/* stages.h: the table of stages, in a pipeline's order. No include guard: included with different
 * macros. STAGE(NAME, "name", "what it does", "headline", settings)
 * The program is rhetor-NAME; its file is NAME.c in train/ or rlhf/. headline: the metric by which a
 * run is judged. settings: those of base/config_keys.h that the stage knows, by name ("data.mix") or
 * by section ("ppo."); "-" before one leaves it out again, "=" behind it gives another default.
 * from.* are the stage's parents, data.* what it reads. */
#ifndef STAGE
#define STAGE(...)
#endif

/* Every stage; the ones that start from a model and read records. */
#define COMMON                                                                                   \
    "run. data.train data.heldout train.micro_tokens train.recompute eval. -eval.prompts save. " \
    "-save.every_epoch optim. dist. "
#define RECORDS                                                                             \
    "from.model data.on_long data.on_bad data.max_bad data.max_records data.fields.prompt " \
    "data.fields.completion "

STAGE(PRETRAIN, "pretrain", "a language model from text", "eval/loss",
      COMMON "from.tokenizer from.model model. -model.weights train.")
STAGE(SFT, "sft", "supervised fine-tuning on demonstrations", "eval/loss",
      COMMON RECORDS "model.dropout model.weights lora. data.mix data.mix_ratio data.template "
                     "data.roles. data.loss_on "
                     "data.fields.messages train. save.every_epoch optim.lr=9.65e-6")
STAGE(REWARD, "reward", "a reward model from ranked completions", "eval/accuracy",
      COMMON RECORDS "data.fields.chosen data.fields.rejected data.reference lora. -lora.dropout "
                     "model.weights train. train.batch=64 reward.pairs reward.layers optim.lr=9e-6")
STAGE(DPO, "dpo", "a policy from preferences, without a reward model", "eval/rewards/accuracies",
      COMMON RECORDS "data.fields.chosen data.fields.rejected lora. -lora.dropout "
                     "model.weights train. train.batch=64 dpo. "
                     "optim.lr=1e-6 optim.warmup=150")
STAGE(PPO, "ppo", "reinforcement learning from the reward model", "eval/score",
      COMMON RECORDS "from.reward from.ensemble lora. -lora.dropout model.weights eval.prompts "
                     "data.mix data.fields.messages "
                     "ppo. reward. "
                     "-reward.pairs -reward.layers ptx. "
                     "optim.lr=9e-6 optim.schedule=constant optim.warmup=10 "
                     "optim.warmup_from=0.1 optim.eps=1e-5")
STAGE(GRPO, "grpo", "reinforcement learning from groups of samples, without a critic", "eval/score",
      COMMON RECORDS
      "from.reward from.ensemble lora. -lora.dropout model.weights data.mix data.fields.messages "
      "ppo. -ppo.clip_value -ppo.gamma "
      "-ppo.lambda -ppo.kl -ppo.kl_target -ppo.kl_horizon -ppo.whiten "
      "-ppo.critic_lr -ppo.critic grpo. reward. -reward.pairs -reward.layers ptx. ppo.beta=0.04 "
      "optim.lr=1e-6 "
      "optim.schedule=constant optim.eps=1e-5")
/* Defaults of their own: Ouyang 2022, App. C; epsilon: Ziegler 2019; DPO: Rafailov 2023, App. B;
 * GRPO: Shao 2024. */

#undef STAGE
#undef COMMON
#undef RECORDS
