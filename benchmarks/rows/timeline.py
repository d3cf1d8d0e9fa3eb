"""A timeline of posts judged and answered: as the bot does it, and as its specification reads word for word.

Word for word, every post is asked two questions and every worthy one is answered, each by a `generate` of its own. Both
sides have the same prompts, the same model in the same number format, and the same posts to answer.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.row import BenchmarkError, Figure, Measured, Probe, Row, Settings, Side
from benchmarks.workload import POSTS

MODEL = "data/models/smollm2-135m-instruct"
ANSWER_TOKENS = 3  # room for "Yes." and "No."


def ours(settings: Settings, probe: Probe) -> Measured:
    """Log-odds of Yes over No for all posts at once, then all answers in one batch."""
    import torch

    from app.config import ModelConfig
    from app.policy.judge import Judge
    from app.policy.model import LanguageModel

    torch.set_num_threads(int(settings["threads"]))
    probe.imported()
    model = LanguageModel(ModelConfig(hf_repo_id=MODEL, device="cpu", batch_size=int(settings["posts"])))
    prompts, texts = builder(model.tokenizer), posts(settings)
    judge = Judge(model, prompts, "base")
    judge.judge(texts[:1])  # its calibration is made once in the life of a process
    begun = time.perf_counter()
    scores = judge.judge(texts)
    judged = time.perf_counter() - begun
    samples = model.sample(
        [prompt.token_ids for prompt in replies(prompts, texts, settings)],
        temperature=float(settings["temperature"]),
        max_new_tokens=int(settings["longest"]),
        seed=int(settings["seed"]),
    )
    took = time.perf_counter() - begun
    if len(scores) != len(texts):
        raise BenchmarkError(f"{len(scores)} of {len(texts)} posts were judged")
    return {
        "timeline": took,
        "judging": judged,
        "answering": took - judged,
        "tokens": float(sum(len(sample.token_ids) for sample in samples)),
    }


def one_by_one(settings: Settings, probe: Probe) -> Measured:
    """One `generate` per question and per reply."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from app.config import ModelConfig
    from app.policy.hardware import dtype_of
    from app.policy.wording import CRITERIA

    torch.set_num_threads(int(settings["threads"]))
    torch.manual_seed(int(settings["seed"]))
    probe.imported()
    tokenizer: Any = AutoTokenizer.from_pretrained(MODEL)
    dtype = dtype_of(ModelConfig(hf_repo_id=MODEL, device="cpu"), torch.device("cpu"))
    model: Any = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype)
    model.eval()
    prompts, texts = builder(tokenizer), posts(settings)

    def generate(token_ids: list[int], longest: int, **how: Any) -> int:
        tokens = torch.tensor([token_ids])
        out = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=longest, pad_token_id=tokenizer.eos_token_id,
            **how,
        )  # fmt: skip
        return int(out.shape[1]) - len(token_ids)

    with torch.inference_mode():
        generate(prompts.judgement(next(iter(CRITERIA)), texts[0]).token_ids, 1, do_sample=False)
        begun = time.perf_counter()
        for text in texts:
            for criterion in CRITERIA:
                generate(prompts.judgement(criterion, text).token_ids, ANSWER_TOKENS, do_sample=False)
        judged, tokens = time.perf_counter() - begun, 0
        for prompt in replies(prompts, texts, settings):
            tokens += generate(
                prompt.token_ids, int(settings["longest"]), do_sample=True, temperature=float(settings["temperature"]),
                top_k=0,
            )  # fmt: skip
        took = time.perf_counter() - begun
    return {"timeline": took, "judging": judged, "answering": took - judged, "tokens": float(tokens)}


def builder(tokenizer: Any) -> Any:
    from app.policy.prompts import PromptBuilder

    return PromptBuilder(tokenizer, 1024)


def posts(settings: Settings) -> list[str]:
    """As many posts as the settings say, no two alike."""
    return [f"{POSTS[i % len(POSTS)]}{POSTS[(3 * i + 1) % len(POSTS)]}No. {i}." for i in range(int(settings["posts"]))]


def replies(prompts: Any, texts: list[str], settings: Settings) -> list[Any]:
    from app.config import PersonaConfig
    from app.policy.prompts import Said, Target

    who = PersonaConfig(name="Explorer", description="A field reporter.", tone="curious", interests=["astronomy"])
    answered = texts[: int(settings["answered"])]
    return [prompts.reply(who, Target(Said(f"member{i}", text))) for i, text in enumerate(answered)]


ROW = Row(
    name="timeline",
    what="A timeline judged by two criteria and its worthy posts answered, from texts to texts; the model is loaded.",
    ours=Side(
        label="Explorer's judge and writer",
        measure=ours,
        settings=("All posts in one batch; what their prompts begin with is read once.",),
    ),
    baseline=Side(
        label="transformers' `generate`, one call per question and per reply",
        measure=one_by_one,
        settings=(
            f"Up to {ANSWER_TOKENS} tokens for a Yes or a No, greedily; replies sampled. Same prompts and format.",
        ),
    ),
    figures=(
        Figure("timeline", "timeline", "s", "baseline / ours", "at least", 12.0),
        Figure("judging alone", "judging", "s", "baseline / ours", "at least", None),
        Figure("answering alone", "answering", "s", "baseline / ours", "at least", None),
        Figure("tokens of the replies", "tokens", "tokens", "ours / baseline", "at least", None),
    ),
    settings={"posts": 50, "answered": 25, "longest": 60, "temperature": 0.7, "seed": 1},
    quick={"posts": 4, "answered": 2, "longest": 8},
    packages=("torch", "transformers"),
    bounds=(
        "Reading. Answering gains by sharing each step's weights among all rows; judging only reads, 100 prompts with "
        "8,000 tokens of their own, and on a processor that is arithmetic. Asking before the post instead of behind it "
        "would save a quarter of these tokens, and judges worse: an AUC of 0.67 to 0.91 in four wordings, against 0.95 "
        "(tests/policy/test_packaged.py). A GPU would lift it."
    ),
)
