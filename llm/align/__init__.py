"""Teaching a model what people prefer: reward models, PPO, DPO, GRPO."""
