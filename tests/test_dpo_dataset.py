"""Several DPO files as one dataset: their order, ids and reports. What one file must be is in test_datasets.py."""

import json

import pytest
from tiny_models import build_tokenizer
from training_helpers import write_triplets

import dpo_dataset
from dpo_dataset import DPODataset
from language_model.prompt_format import build_prompt
from script_io.errors import InputError


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer("llama")


def test_files_stand_one_behind_the_other_and_a_shared_id_names_its_file(tmp_path, tokenizer, capsys):
    first, second = write_triplets(tmp_path / "a.jsonl", 3), write_triplets(tmp_path / "b.jsonl", 5, seed=1)
    both = DPODataset([first, second], tokenizer)
    assert (both.paths, both.sizes, len(both)) == ([str(first), str(second)], [3, 5], 8)
    assert [both.file_of(index) for index in range(8)] == [0, 0, 0, 1, 1, 1, 1, 1]
    alone = [DPODataset(path, tokenizer).triplets for path in (first, second)]
    assert [triplet.prompt for triplet in both.triplets] == [triplet.prompt for part in alone for triplet in part]
    assert [triplet.id for triplet in both.triplets] == [
        *(f"t{number} of {first}" for number in range(3)),
        *(f"t{number} of {second}" for number in range(3)),
        "t3",
        "t4",
    ]
    assert [triplet.id for triplet in alone[0]] == ["t0", "t1", "t2"]
    printed = capsys.readouterr().out
    assert f"Loaded 3 DPO triplets from {first}\n" in printed
    assert f"Loaded 5 DPO triplets from {second}\n" in printed


def test_what_is_left_out_is_counted_for_each_file(tmp_path, tokenizer):
    paths = [write_triplets(tmp_path / f"{name}.jsonl", 20, seed) for seed, name in enumerate("ab")]
    lines = [path.read_text().splitlines() for path in paths]
    long = json.loads(lines[1][4])
    lines[1][4] = json.dumps(long | {"chosen": "very " * 600})
    paths[1].write_text("\n".join(lines[1]))
    both = DPODataset(paths, tokenizer)
    assert both.sizes == [20, 19]
    assert both.file_of(20) == both.file_of(38) == 1
    report = both.report.as_dict()
    assert (report["total"], report["dropped_ids"]) == (40, [f"t4 of {paths[1]}"])
    assert report["longest_tokens"] > 600
    assert DPODataset(paths[1], tokenizer).report.as_dict()["dropped_ids"] == ["t4"]


def test_the_note_of_a_prompt_of_another_form_is_shortened(tmp_path, tokenizer):
    note = "Denies fever. " * 200
    row = {"prompt": f"Summarise in one line.\n{note.strip()}\nAnswer:", "chosen": "No fever.", "rejected": "Fever."}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row | {"clinical_note": note}))
    dataset = DPODataset(path, tokenizer, max_length=100, overflow="shorten_note")
    assert dataset.report.shortened_ids == ["line-1"]
    assert dataset.tokens(0) - len(dataset.triplets[0].rejected) <= 100
    prompt = tokenizer.decode(dataset.triplets[0].prompt, skip_special_tokens=True)
    assert prompt.startswith("Summarise in one line.\nDenies fever.")
    assert prompt.endswith("Denies fever.\nAnswer:")
    assert " [...] " in prompt
    path.write_text(json.dumps(row))  # without the key nothing tells the note from the instructions
    with pytest.raises(InputError, match="1 of 1 examples are over --max_length 100"):
        DPODataset(path, tokenizer, max_length=100, overflow="shorten_note")


@pytest.mark.parametrize("note", [["No fever."], "Another note."])
def test_a_clinical_note_that_is_not_in_the_prompt_is_refused(tmp_path, tokenizer, note):
    row = {"prompt": build_prompt("No fever."), "chosen": "No fever.", "rejected": "Fever.", "clinical_note": note}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: clinical_note is not .*; run python dpo_dataset\.py"):
        DPODataset(tmp_path / "a.jsonl", tokenizer)


def test_a_bad_line_names_the_file_it_is_in(tmp_path, tokenizer):
    good, bad = write_triplets(tmp_path / "a.jsonl", 3), write_triplets(tmp_path / "b.jsonl", 3)
    bad.write_text(bad.read_text() + json.dumps({"prompt": "p", "chosen": " ", "rejected": "b"}))
    with pytest.raises(InputError, match=r"b\.jsonl, line 4: empty chosen"):
        DPODataset([good, bad], tokenizer)


@pytest.mark.parametrize("loss_on", ["completion", "rejected_differences"])
def test_a_span_outside_its_text_names_the_file_and_the_line(tmp_path, tokenizer, loss_on, capsys):
    path = write_triplets(tmp_path / "a.jsonl", 2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["rejected_spans"] = [[0, len(rows[1]["rejected"]) + 1]]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: rejected_spans has .*, which is no span of rejected"):
        DPODataset(path, tokenizer, loss_on=loss_on)
    assert dpo_dataset.main(dpo_dataset.parse_args([str(path)])) == 2
    assert "a.jsonl, line 2: rejected_spans has" in capsys.readouterr().out


def test_the_counted_tokens_are_read_with_the_triplets_and_announced(tmp_path, tokenizer, capsys):
    path = write_triplets(tmp_path / "a.jsonl", 2)
    rows = [json.loads(line) | {"rejected_spans": [[0, 3]]} for line in path.read_text().splitlines()]
    path.write_text("\n".join(map(json.dumps, rows)))
    for triplet in DPODataset(path, tokenizer, loss_on="rejected_differences").triplets:
        chosen, rejected = triplet.counted
        assert chosen == [True] * len(triplet.chosen)
        assert tokenizer.decode(triplet.rejected[: sum(rejected)]) == " Age"
    assert "The preference term counts 100% of the tokens of chosen and" in capsys.readouterr().out
    assert [triplet.counted for triplet in DPODataset(path, tokenizer).triplets] == [None, None]
    assert "The preference term" not in capsys.readouterr().out
