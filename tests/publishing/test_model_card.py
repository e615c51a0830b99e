"""Model cards say where a model comes from and how it was measured, and never show a note."""

import pytest
from huggingface_hub import ModelCard

from pipeline.script_flags import STAGE_A, STAGE_B, grouped
from publishing.model_card import _RECIPE, CardFacts, card_text, evaluation_of, file_hashes, write_model_card
from script_io.errors import InputError
from script_io.files import write_json

SECRET = "Patient Zorblax has a rash"
SETTINGS = {
    "arguments": {"learning_rate": 0.001, "lora_r": 16, "train_data_path": "/home/me/train.csv", "beta": None},
    "versions": {"torch": "2.13.0"},
    "commit": "abc123",
    "examples": {"train": 2000, "validation": 200},
    "data_sha256": {"train.csv": "f" * 64},
    "pair_judges": ["facts"],
}
EVALUATION = {
    **{"n": 400, "judge": "facts", "temperature": 0.0, "seed": 42, "judge_made_training_pairs": True},
    **{"hallucination_rate": 0.0225, "hallucination_rate_ci95": [0.0119, 0.0422], "hallucination_rate_n": 400},
    **{"claim_error_rate": 0.0021, "claim_error_rate_ci95": [0.0008, 0.0036], "claims": 4762},
    **{"coverage": None, "coverage_ci95": None, "coverage_n": 0},
    "second_judge": {"judge": "nli:x", "hallucination_rate": 0.1, "hallucination_rate_ci95": [0.07, 0.13], "n": 399},
    "worst": [{"clinical_note": SECRET}],
}


def facts(**changed):
    given = {"kind": "adapter", "name": "dpo", "base": "Qwen/Qwen3-0.6B", "prompt_format": "plain"}
    return CardFacts(**{**given, "settings": SETTINGS, "stage": "DPO (Stage B)", "evaluation": EVALUATION, **changed})


def test_a_card_names_base_data_recipe_rates_and_limits():
    text = card_text(facts())
    for line in (
        "| Base model | Qwen/Qwen3-0.6B |",
        "| Examples, train | 2,000 |",
        f"| SHA-256 of train.csv | {'f' * 64} |",
        "| `learning_rate` | 0.001 |",
        "| Commit of the suite | abc123 |",
        "| Summaries with a hallucination | 2.2% (1.2% to 4.2%) | 400 |",
        "| Wrong claims | 0.2% (0.1% to 0.4%) | 4762 |",
        "Judge: facts. Temperature 0.0, seed 42. This judge made the pairs",
        "By another judge, nli:x: 10.0% (7.0% to 13.0%) of 399",
        "Not for clinical use",
        "AutoPeftModelForCausalLM.from_pretrained",
    ):
        assert line in text, line
    for absent in (SECRET, "/home/me", "beta", "covered"):
        assert absent not in text, absent


def test_the_front_matter_is_read_by_the_hubs_library(tmp_path):
    write_model_card(tmp_path, facts())
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("Qwen/Qwen3-0.6B", "peft", "text-generation")
    write_model_card(tmp_path, facts(kind="gguf", base="/home/me/demo/base_model", settings={}, evaluation=None))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model is None
    assert "gguf" in card.data.tags
    assert "base_model (a local folder)" in card.text
    assert "Not measured" in card.text
    assert "/home/me" not in card.content


def test_the_evaluation_of_a_pipeline_run_is_found(tmp_path):
    model = tmp_path / "dpo" / "final_model"
    model.mkdir(parents=True)
    assert evaluation_of(model, None) is None
    write_json(tmp_path / "evaluation" / "dpo_greedy" / "evaluation_summary.json", EVALUATION)
    assert evaluation_of(model, None)["n"] == 400
    with pytest.raises(InputError, match=r"evaluation_summary\.json: no such file; name the --output_dir"):
        evaluation_of(model, tmp_path)


def test_files_of_the_same_name_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    paths = [tmp_path / "a" / "train.jsonl", tmp_path / "b" / "train.jsonl", tmp_path / "gone.jsonl"]
    assert file_hashes(paths) == {"a/train.jsonl": empty, "b/train.jsonl": empty}


def test_a_linked_file_is_named_as_it_was_given(tmp_path):
    (tmp_path / "blob").write_text("")
    (tmp_path / "train.jsonl").symlink_to(tmp_path / "blob")
    assert list(file_hashes([tmp_path / "train.jsonl"])) == ["train.jsonl"]


def test_the_recipe_of_a_card_has_every_flag_that_changes_the_model():
    both = grouped(STAGE_A) | grouped(STAGE_B)
    assert set(_RECIPE) <= both.keys()
    changing = {name for name, (group, _) in both.items() if group in ("LoRA", "Loss", "Optimisation")}
    how_it_runs = {"gradient_checkpointing", "shard_base", "skip_preflight", "ignore_memory_estimate"}
    assert changing - set(_RECIPE) == how_it_runs
    settings = {"arguments": {"nll_weight": 1.0, "use_dora": True, "use_rslora": False, "lora_modules_to_save": []}}
    text = card_text(facts(settings=settings))
    for line in ("| `nll_weight` | 1.0 |", "| `use_dora` | on |", "| `use_rslora` | off |"):
        assert line in text
    assert "lora_modules_to_save" not in text


def test_files_whose_folders_have_the_same_name_are_told_apart(tmp_path):
    paths = [tmp_path / round_ / "pairs" / "train.jsonl" for round_ in ("round_1", "round_2")]
    for path in (*paths, tmp_path / "val.jsonl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    found = file_hashes([*paths, paths[0], tmp_path / "val.jsonl"])
    assert list(found) == ["round_1/pairs/train.jsonl", "round_2/pairs/train.jsonl", "val.jsonl"]
    assert len(set(found.values())) == 3
