"""DPO (Rafailov et al. 2023, arXiv 2305.18290) by TRL's trainer, on our stack of adapters and our policy.

The trainer is given the base with the adapters in it rather than the PEFT model around it, because it knows one adapter
alone: which take part is set from outside, `reference` and `policy` to train, `reference` alone for what the policy is
compared with. Examples come to it as token ids, never as texts, because a text could hold a special token. All of it is
under the tempered softmax, which is the policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.trainer.dpo_config import DPOConfig as TrainerConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from app.config import DPOConfig
from app.learning.experience import Metrics, Trained, TrainingError
from app.learning.samples import POLICY
from app.learning.scoring import acting_as, policy_stack, reference_stack
from app.learning.trainable import Trainable

Report = Callable[[int, int, Metrics], None]
# What the trainer logs of a step besides its loss; the rest says nothing of preferences.
LOGGED = (
    "rewards/accuracies",
    "rewards/chosen",
    "rewards/margins",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
)
# Two outputs behind a long prompt are as many tokens as one pass is to have (`forward.MAX_TOKENS`).
PAIRS_A_PASS = 1


@dataclass(frozen=True)
class Pair:
    """Token ids of one choice: a prompt, what was chosen, what was not; outputs with their end token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def train(
    trainable: Trainable,
    pairs: Sequence[Pair],
    config: DPOConfig,
    *,
    temperature: float,
    work: Path,
    seed: int,
    report: Report,
) -> Trained:
    """Move the policy adapter towards what was chosen, as seen from the reference.

    Args:
        work: a directory for what the trainer writes.
        report: called after every optimiser step with the step, the steps planned and its metrics.

    Raises:
        TrainingError: the loss is not finite.
    """
    model = trainable.model
    trainer = _Trainer(
        model, temperature, args=_arguments(config, work, seed, device=trainable.banned.device), pairs=pairs,
        tokenizer=trainable.tokenizer,
    )  # fmt: skip
    watch = _Watch(report)
    trainer.add_callback(watch)
    before = trainer.compare("before")
    began = time.monotonic()
    with acting_as(model, policy_stack(model), trainable=POLICY):
        trainer.train()
    seconds = time.monotonic() - began
    model.eval()
    facts = {"data/samples": float(len(pairs)), "dpo/seconds": seconds}
    return Trained(int(trainer.state.global_step), None, watch.last | before | trainer.compare("after") | facts)


class _Trainer(DPOTrainer):
    """TRL's trainer, told which adapters are the policy and which the reference."""

    def __init__(
        self, model: Any, temperature: float, *, args: TrainerConfig, pairs: Sequence[Pair], tokenizer: Any
    ) -> None:
        self._stacked, self._temperature = model, temperature
        rows = Dataset.from_list([vars(pair) for pair in pairs])
        super().__init__(model=model.get_base_model(), args=args, train_dataset=rows, processing_class=tokenizer)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # token ids already

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        # The first moment after the trainer has given the model a head of its own, at temperature 1.
        outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
        add_fused_lm_head(self._stacked.get_base_model(), temperature=self._temperature, outputs=outputs)
        with acting_as(self._stacked, reference_stack(self._stacked)):
            return super()._precompute_ref_logps(dataset, name, batch_size)

    def compare(self, when: str) -> Metrics:
        """How much likelier than to the reference what was chosen is to the policy, beside what was not.

        Returns:
            The mean margin over the pairs in nats, and the share of pairs whose margin is above 0.
        """
        margins = []
        rows: Any = self.train_dataset
        logprobs: Any = self.compute_ref_log_probs  # of whichever adapters are active, in spite of its name
        with acting_as(self._stacked, policy_stack(self._stacked)):
            for row in rows:
                batch = {name: tensor.to(self.accelerator.device) for name, tensor in self.data_collator([row]).items()}
                chosen, rejected = logprobs(self.model, batch)
                margins.append(float(chosen - rejected) - (row["ref_chosen_logps"] - row["ref_rejected_logps"]))
        found = torch.tensor(margins)
        return {
            f"dpo/margin_{when}": float(found.mean()),
            f"dpo/accuracy_{when}": float((found > 0).float().mean()),
        }


def _arguments(config: DPOConfig, work: Path, seed: int, *, device: torch.device) -> TrainerConfig:
    return TrainerConfig(
        output_dir=str(work),
        beta=config.beta,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=PAIRS_A_PASS,
        gradient_accumulation_steps=config.batch_size,
        max_grad_norm=1.0,
        precompute_ref_log_probs=True,
        max_length=None,  # nothing is cut: the prompt is what the answer was written to
        activation_checkpointing=device.type != "cpu",
        activation_checkpointing_kwargs={"use_reentrant": False},
        bf16=False,  # the base is in its own format, and PEFT keeps the adapter in float32
        use_cpu=device.type == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )


class _Watch(TrainerCallback):
    """Reports every step, and ends a run that has lost its way."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.last: Metrics = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002 - theirs
        if logs is None or "loss" not in logs:
            return
        numbers = {f"dpo/{name}": float(logs[name]) for name in ("loss", "grad_norm", *LOGGED) if name in logs}
        if not all(abs(value) < float("inf") for value in numbers.values()):
            raise TrainingError(f"step {state.global_step}: {numbers}")
        self.last = numbers
        self._report(int(state.global_step), int(state.max_steps), numbers)
