"""The jump start's training, with a tiny random model: what is learnt from, what comes of it, going on after a kill."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.sft_trainer import SFTTrainer

from app.config import PersonaConfig, SFTConfig, VibeBotConfig
from app.context import BotContext
from app.data.files import Appender, FileEntry
from app.data.records import Record, encode
from app.learning import sfttrainer
from app.learning.conversations import Conversations, held_out, said, split_of, topic_of
from app.learning.fluency import distance, overlap, perplexity, style
from app.learning.sft import SFTOutcome, run_sft
from app.learning.sfttrainer import Job
from app.loading import ConfigError
from app.policy import checkpoints, registry
from app.policy.model import LanguageModel
from dbs.models import TrainingRun
from dbs.session import Database
from dbs.states import CheckpointKind, RunKind, RunState

BEGINNING = datetime(2026, 1, 5, 8, tzinfo=UTC)
PERSONA = PersonaConfig(name="Explorer", description="A test.", tone="plain", interests=["astronomy"])


def records(count: int = 60, authors: int = 6) -> list[Record]:
    found = []
    for i in range(count):
        reply = {"in_reply_to_post_id": "1", "parent_text": f"Who counts herons at {i}?", "parent_handle": "ada"}
        found.append(
            Record(
                post_id=str(1000 + i),
                author_id=str(i % authors),
                text=f"The council counted {i} trams near the bridge this morning.",
                created_at=(BEGINNING + timedelta(hours=i)).isoformat(),
                **(reply if i % 3 == 0 else {}),
            )
        )
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("sft") / "tiny")


@pytest.fixture
def training(config: VibeBotConfig, base: Path, tmp_path: Path) -> VibeBotConfig:
    model = config.model.model_copy(
        update={
            "hf_repo_id": str(base),
            "checkpoint_dir": str(tmp_path / "checkpoints"),
            "device": "cpu",
            "dtype": "float32",
        }
    )
    sft = SFTConfig(max_length=1024, batch_size=2, learning_rate=2e-2, epochs=2.0, held_out_share=0.2)
    return config.model_copy(update={"model": model, "sft": sft})


def written(place: Path, posts: Sequence[Record]) -> list[FileEntry]:
    with Appender(place, [], 100_000) as appender:
        for record in posts:
            appender.append(encode(record))
        return appender.sync()


def run(config: VibeBotConfig, database: Database, posts: Sequence[Record], **options: Any) -> SFTOutcome:
    BotContext(config, db=database).enrol()
    place = Path(config.data_dir) / "set"
    return run_sft(config, database, place, written(place, posts), **options)


def test_a_conversation_has_the_persona_the_post_answered_and_learns_the_answer_alone(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    conversations = Conversations(tokenizer, PERSONA, 1024)
    record = Record(
        "1", "7", "@ada Three of them <|im_end|> https://t.co/x by noon\nor so", None, None, "5", "ada", "How many?"
    )
    example = conversations.example(record)
    assert example is not None
    prompt = tokenizer.decode(example.prompt_ids)
    assert "You are Explorer" in prompt
    assert "@ada posted" in prompt
    assert "How many?" in prompt
    assert prompt.endswith("<|im_start|>assistant\n")
    assert example.answer == "Three of them <|im_end|> by noon or so"
    assert example.answer_ids.count(tokenizer.eos_token_id) == 1, "a stranger's words never become the end token"
    assert example.answer_ids[-1] == tokenizer.eos_token_id
    row = sfttrainer._row(example)
    assert sum(row["completion_mask"]) == len(example.answer_ids)
    assert len(row["input_ids"]) == len(row["completion_mask"])


def test_a_reply_without_what_it_answers_is_not_learnt(base: Path) -> None:
    conversations = Conversations(AutoTokenizer.from_pretrained(base), PERSONA, 1024)
    orphan = Record("1", "7", "@ada Three of them by noon", None, None, "5", "ada", None)
    short = Record("2", "7", "@ada yes https://t.co/x")
    assert list(conversations.examples([orphan, short])) == []
    assert said("@ada @tom look  here https://t.co/x\nnow") == "look here now"
    own = Record("3", "7", "The council counted trams")
    assert topic_of(own) in {"council", "counted", "trams"}
    assert topic_of(own) == topic_of(own)


def test_authors_and_the_newest_are_held_out_and_never_trained_on(base: Path) -> None:
    posts = records()
    split = split_of(lambda: posts, 0.2)
    assert len(split.authors) == 2
    training = list(split.training(lambda: posts))
    assert split.records == len(training)
    assert not {record.author_id for record in training} & split.authors
    newest = [record for record in posts if str(record.created_at) > str(split.newer_than)]
    assert len(newest) == 12
    assert not {record.post_id for record in newest} & {record.post_id for record in training}
    conversations = Conversations(AutoTokenizer.from_pretrained(base), PERSONA, 1024)
    found = held_out(lambda: posts, split, conversations, most=5)
    assert {kind: len(examples) for kind, examples in found.items()} == {"author": 5, "time": 5}
    assert split_of(lambda: [Record("1", "a", "x"), Record("2", "a", "y")], 0.5).newer_than is None


def test_packed_conversations_do_not_see_each_other(training: VibeBotConfig, base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    posts = records(6)
    conversations = Conversations(tokenizer, PERSONA, 1024)
    examples = list(conversations.examples(posts))
    split = split_of(lambda: [], 0.2)
    job = Job(training, base, lambda: posts, PERSONA, tmp_path / "work")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    alone = math.log(perplexity(model, examples, tokenizer.eos_token_id))
    rows = sfttrainer.stream(lambda: posts, split, conversations, forever=False)
    trainer = sfttrainer.trainer_of(job, model, tokenizer, 1, rows)
    total, tokens, packed = 0.0, 0, 0
    trainer.model.eval()
    for batch in trainer.get_train_dataloader():
        answers = int((batch["labels"] != -100).sum())
        with torch.no_grad():
            total += float(trainer.compute_loss(trainer.model, dict(batch))) * answers
        tokens += answers
        packed += 1
    assert packed < len(examples), "several conversations to a row"
    assert tokens == sum(len(example.answer_ids) for example in examples), "the loss is on the answers alone"
    assert total / tokens == pytest.approx(alone, rel=1e-4), "each row's conversations are as if they stood alone"


def test_the_loss_is_trls_and_so_is_its_gradient(training: VibeBotConfig, base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    posts = records(6)
    conversations = Conversations(tokenizer, PERSONA, 1024)
    job = Job(training, base, lambda: posts, PERSONA, tmp_path / "work")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = sfttrainer.stream(lambda: posts, split_of(lambda: [], 0.2), conversations, forever=False)
    trainer = sfttrainer.trainer_of(job, model, tokenizer, 1, rows)
    trainer.model.train()
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    batch = next(iter(trainer.get_train_dataloader()))
    found = []
    for loss_of in (sfttrainer.AnswersTrainer.compute_loss, SFTTrainer.compute_loss):
        for counted in (None, torch.tensor(1000)):
            trainer.model.zero_grad()
            torch.manual_seed(0)
            loss = loss_of(trainer, trainer.model, dict(batch), num_items_in_batch=counted)
            loss.backward()
            grads = [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]
            found.append((loss.item(), torch.cat(grads)))
    ours, theirs = found[:2], found[2:]
    for (loss, gradient), (expected, expected_gradient) in zip(ours, theirs, strict=True):
        assert loss == pytest.approx(expected, rel=1e-5)
        assert float(expected_gradient.abs().max()) > 0
        assert torch.allclose(gradient, expected_gradient, atol=1e-6, rtol=1e-3)


def test_the_adapter_becomes_the_reference_and_the_first_current_checkpoint(
    training: VibeBotConfig, database: Database
) -> None:
    seen: list[tuple[int, int]] = []
    outcome = run(training, database, records(), progress=lambda step, steps, _: seen.append((step, steps)))
    assert outcome.state is RunState.SUCCEEDED
    assert [step for step, _ in seen] == list(range(seen[-1][1] + 1))
    metrics = outcome.metrics
    for kind in ("author", "time"):
        assert metrics[f"perplexity_held_out_{kind}_after"] < 0.85 * metrics[f"perplexity_held_out_{kind}_before"]
        assert metrics[f"perplexity_held_out_{kind}_change"] < -0.15
    assert metrics["perplexity_general_before"] > 0
    assert metrics["style_characters_community"] == pytest.approx(62, abs=6)
    assert metrics["style_distance_before"] > 0
    assert 0 <= metrics["overlap_runs"] <= 1
    with database.transaction() as session:
        current, reference = registry.current(session, "explorer"), registry.reference(session, "explorer")
        row = session.get_one(TrainingRun, outcome.run_id)
    assert current is not None
    assert reference is not None
    assert current.checkpoint_id == reference.checkpoint_id == outcome.checkpoint_id
    assert current.kind == CheckpointKind.SFT
    assert (row.kind, row.state, row.checkpoint_id) == (RunKind.SFT, RunState.SUCCEEDED, outcome.checkpoint_id)
    stack = registry.stack(training.model.checkpoint_dir, current)
    assert [name for name, _ in stack] == ["reference"]
    checkpoints.verify(stack[0][1], current.base_hash, "explorer")
    model = LanguageModel(training.model)
    plain = model.score([[5, 6, 7]], [[8, 9]], 1.0)
    model.use([path for _, path in stack])
    assert model.score([[5, 6, 7]], [[8, 9]], 1.0) != plain
    again = run(training, database, records())
    assert again.state == "skipped"
    assert "already" in str(again.reason)


def killed_at(config: VibeBotConfig, url: str, posts: Sequence[Record], step: int) -> None:
    def kill(now: int, *_: object) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    run(config, Database(url), posts, progress=kill)


def test_a_killed_run_goes_on_where_it_was(
    training: VibeBotConfig, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = records()
    whole = run_of(training, database, posts)
    process = multiprocessing.get_context("spawn").Process(target=killed_at, args=(training, database_url, posts, 4))
    with_fresh_rows(database)
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    monkeypatch.setattr("app.leases.clock.wall_now", lambda: datetime.now(UTC) + timedelta(minutes=10))
    steps: list[int] = []
    outcome = run(training, database, posts, progress=lambda step, *_: steps.append(step))
    assert outcome.state is RunState.SUCCEEDED
    assert steps[:2] in ([0, 4], [0, 3]), "it measures again, and then goes on behind the last step that was saved"
    assert outcome.metrics["perplexity_held_out_author_after"] == pytest.approx(whole, rel=1e-3)
    with database.transaction() as session:
        states = [row.state for row in session.query(TrainingRun).order_by(TrainingRun.started_at)]
    assert states == [RunState.FAILED, RunState.SUCCEEDED]


def run_of(config: VibeBotConfig, database: Database, posts: Sequence[Record]) -> float:
    return run(config, database, posts).metrics["perplexity_held_out_author_after"]


def with_fresh_rows(database: Database) -> None:
    from dbs.models import Checkpoint

    with database.transaction() as session:
        session.query(TrainingRun).delete()
        session.query(Checkpoint).filter(Checkpoint.kind == CheckpointKind.SFT).delete()


def test_nothing_to_train_on_is_said_and_the_run_is_failed(training: VibeBotConfig, database: Database) -> None:
    with pytest.raises(ConfigError, match="none of the first is a conversation"):
        run(training, database, [Record("1", "a", "yes"), Record("2", "b", "no")])
    with database.transaction() as session:
        assert [row.state for row in session.query(TrainingRun)] == [RunState.FAILED]


def test_time_ends_a_run_and_what_it_learnt_stays(training: VibeBotConfig, database: Database) -> None:
    short = training.model_copy(update={"sft": training.sft.model_copy(update={"max_minutes": 1e-6})})
    outcome = run(short, database, records())
    assert outcome.state is RunState.SUCCEEDED
    assert "after 1 of" in str(outcome.reason)
    assert outcome.checkpoint_id is not None


def test_style_and_overlap_tell_texts_apart() -> None:
    theirs = style(["Short #one!", "Is it?"])
    ours = style(["A long and winding sentence without any mark in it at all"])
    assert theirs["hashtags"] == theirs["questions"] == 0.5
    assert distance(theirs, theirs) == 0
    assert distance(ours, theirs) > 1
    found = overlap(["one two three four five six", "seven eight nine ten eleven"], ["zero one two three four five"])
    assert found == {"runs": pytest.approx(1 / 3), "copies": 0.0}
    assert overlap(["Same text here"], ["same text here"])["copies"] == 1.0
