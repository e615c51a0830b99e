"""Masks, collation, and what the two checkers say of bad files, line by line."""

import json

import pytest
import torch
from tiny_models import build_tiny_model, build_tokenizer
from torch.utils.data import DataLoader
from training_helpers import write_phase1, write_triplets

import dpo_dataset
import sft_dataset
from dpo_dataset import DPODataset
from script_io.errors import InputError
from sft_dataset import SFTDataset, collate, create_sft_dataloaders


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer("llama")


def test_sft_items_supervise_the_summary_and_its_end_alone(tmp_path, tokenizer):
    dataset = SFTDataset(write_phase1(tmp_path / "a.csv", 4), tokenizer)
    batch = collate([dataset[i] for i in range(4)])
    longest = max(dataset.tokens(i) for i in range(4))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (4, longest)
    for row in range(4):
        prompt, completion = dataset.examples[row]
        labels = batch["labels"][row]
        assert labels[: len(prompt)].eq(-100).all()
        assert labels[len(prompt) : len(prompt) + len(completion)].tolist() == completion
        assert labels[len(prompt) + len(completion) :].eq(-100).all()
        assert completion[-1] == tokenizer.eos_token_id
        assert batch["attention_mask"][row].sum() == len(prompt) + len(completion)


def test_the_loaders_suit_transformers_trainer(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    base = build_tiny_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    train, val = create_sft_dataloaders(
        write_phase1(tmp_path / "a.csv", 10), write_phase1(tmp_path / "b.csv", 3, seed=1), tokenizer
    )
    batch = next(iter(train))
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert len(batch["input_ids"]) == 8
    assert len(list(val)) == 1
    model = AutoModelForCausalLM.from_pretrained(base)
    arguments = TrainingArguments(str(tmp_path / "out"), max_steps=2, use_cpu=True, report_to=[], disable_tqdm=True)
    result = Trainer(model, arguments, train_dataset=train.dataset).train()
    assert result.global_step == 2
    assert result.training_loss > 0


def test_only_factual_rows_are_trained_on(tmp_path, tokenizer):
    path = write_phase1(tmp_path / "a.csv", 3)
    with path.open("a", newline="") as handle:
        handle.write("e1,A note.,Chest pain. [Evidence: S1; Conf: 0.90],factual_with_evidence,\r\n")
        handle.write("h1,A note.,Knee pain.,hallucinated,condition\r\n")
    assert SFTDataset(path, tokenizer).ids == ["r0", "r1", "r2", "e1"]


def test_a_label_in_other_letters_is_refused_and_not_dropped(tmp_path, tokenizer):
    path = write_phase1(tmp_path / "a.csv", 3)
    path.write_text(path.read_text().replace(",factual,", ",Factual,", 1))
    with pytest.raises(InputError, match=r"a\.csv, line 2: label 'Factual' is not known; write factual; run python"):
        SFTDataset(path, tokenizer)


def test_dpo_takes_chat_messages_and_refuses_pairs_of_equal_tokens(tmp_path):
    chat = build_tokenizer("qwen2")
    rows = [
        {
            "prompt": [{"role": "user", "content": "Hi"}],
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    triplet = DPODataset(path, chat, prompt_format="chat").triplets[0]
    assert chat.decode(triplet.chosen) == "Yes.<|im_end|>"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "b "}))
    with pytest.raises(InputError, match="line 1: chosen and rejected have the same tokens"):
        DPODataset(path, chat)


def test_the_phase1_checker_names_every_bad_line(tmp_path, capsys):
    path = tmp_path / "train_set_processed.csv"
    path.write_text(
        "id,clinical_note,model_summary,label,hallucination_type\n"
        "a,Note one.,Sum.,factual,\n"
        "b,,Sum.,factual,\n"
        "c,Note two.,Sum.,true,\n"
        "d,Note one.,Sum.,factual,\n"
        "a,Note three.,Sum.,hallucinated,dose\n"
    )
    (tmp_path / "test_set_processed.csv").write_text("clinical_note,model_summary,label\nNote three.,Other.,factual\n")
    assert sft_dataset.main(sft_dataset.parse_args([str(path)])) == 2
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == [
        f"{path}, line 3: empty clinical_note; fill in or delete the row",
        f"{path}, line 4: label 'true' is not known; use one of factual, factual_with_evidence, hallucinated",
        f"{path}, line 5: the same note and summary as on line 2; delete one",
        f"{path}, line 6: line 2 has the id a too; rename one",
        f"{path}, line 6: the note is also in test_set_processed.csv; keep it in one split",
    ]


def test_the_dpo_checker_names_every_bad_line(tmp_path, capsys):
    build_tiny_model(tmp_path / "base")
    path = tmp_path / "train_dpo.jsonl"
    rows = [
        {"prompt": "P1", "chosen": "A dose of 5 mg.", "rejected": "A dose of 50 mg, daily, for ever."},
        {"prompt": "P2", "chosen": "Same.", "rejected": "Same."},
        {"prompt": "P3", "chosen": " ", "rejected": "B"},
        {"prompt": "P4", "chosen": "Same.", "rejected": "Same. "},
        {"prompt": "P1", "chosen": "A dose of 5 mg.", "rejected": "A dose of 50 mg, daily, for ever."},
        {"prompt": [{"role": "user"}], "chosen": "A", "rejected": "B"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "val_dpo.jsonl").write_text(json.dumps({"prompt": "P2", "chosen": "A", "rejected": "B"}))
    assert dpo_dataset.main(dpo_dataset.parse_args([str(path), "--tokenizer", str(tmp_path / "base")])) == 2
    printed = capsys.readouterr().out
    for expected in (
        "line 2: chosen and rejected are the same text",
        "line 3: empty chosen",
        "line 4: chosen and rejected have the same tokens",
        "line 5: the same triplet as on line 1",
        "line 6: prompt: message 1 has no content as text",
        "all lines: rejected are",
        "line 2: the prompt is also in val_dpo.jsonl",
    ):
        assert expected in printed, expected


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("val_dpo.jsonl", "train_dpo.jsonl"),
        ("train_set_processed.jsonl", "validation_set_processed.jsonl"),  # what prepare_phase1_data.py writes
        ("validation_set_processed.jsonl", "train_set_processed.jsonl"),
    ],
)
def test_the_dpo_checker_finds_a_prompt_of_the_other_split(tmp_path, capsys, name, other):
    build_tiny_model(tmp_path / "base")
    for each in (name, other, "test_set_processed.jsonl"):
        (tmp_path / each).write_text(json.dumps({"prompt": "P1", "chosen": "A dose.", "rejected": "A drug."}))
    words = [str(tmp_path / name), "--tokenizer", str(tmp_path / "base")]
    assert dpo_dataset.main(dpo_dataset.parse_args(words)) == 2
    assert f"line 1: the prompt is also in {other}; keep it in one split" in capsys.readouterr().out


def test_clean_files_are_called_clean(tmp_path, capsys):
    build_tiny_model(tmp_path / "base")
    path = write_triplets(tmp_path / "t.jsonl", 5)
    assert dpo_dataset.main(dpo_dataset.parse_args([str(path), "--tokenizer", str(tmp_path / "base")])) == 0
    assert "No problem found." in capsys.readouterr().out


def test_shuffling_follows_the_seed(tmp_path, tokenizer):
    path = write_phase1(tmp_path / "a.csv", 20)

    def first_batch(seed: int) -> torch.Tensor:
        loader: DataLoader = create_sft_dataloaders(path, path, tokenizer, seed=seed)[0]
        return next(iter(loader))["input_ids"]

    assert torch.equal(first_batch(1), first_batch(1))
    assert not torch.equal(first_batch(1), first_batch(2))
