"""Two processes whose shares of a batch are of one language each: the gradient is that of one process.

torch's DistributedDataParallel averages over all processes, and so halves what a head gets that only one of two heard.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.training.aligned import STATES, align
from tests.training.conftest import sentences, write_split
from tests.training.test_frames import frames_recipe
from thaw.config.run import RunRecipe
from thaw.files import read_jsonl, write_jsonl
from thaw.training.begin import Job, begin
from thaw.training.central import Central
from thaw.training.distributed import World

Gradients = dict[str, Tensor]


def make_job(folder: Path) -> Job:
    """Two languages, 6 utterances each."""
    manifests = []
    for lang in ("aa", "bb"):
        path = write_split(folder, lang, sentences(lang, 6))
        write_jsonl(path, [{**row, "lang": lang} for row in read_jsonl(path)])
        manifests.append(path)
    alignments = [align(path, states=STATES + place) for place, path in enumerate(manifests)]
    plain = {**frames_recipe(), "heads": {"aa": "", "bb": ""}, "alignments": ["one", "two"], "corpora": ["a", "b"]}
    recipe = RunRecipe.model_validate(plain)
    return Job(recipe, manifests, manifests, {}, folder / "state", alignments=alignments * 2, device="cpu")


def gradients_of(job: Job, world: World) -> Gradients:
    learner = begin(job, world, print).learner
    assert isinstance(learner, Central)
    batch = taking_turns(learner)
    heard = learner.accumulate(batch)
    learner.whole_gradient(learner.weight(batch), heard.weight)
    pairs = zip(learner.optimizer.names, learner.optimizer.parameters, strict=True)
    return {name: p.grad.clone() for name, p in pairs if p.grad is not None}


def taking_turns(learner: Central) -> list[int]:
    """A batch whose even places are of one language, its odd ones of the other."""
    by_lang = [[i for i, u in enumerate(learner.examples.utterances) if u.lang == lang][:4] for lang in ("aa", "bb")]
    return [index for pair in zip(*by_lang, strict=True) for index in pair]


def averaged(job: Job, world: World) -> Gradients:
    """The same by DistributedDataParallel, each process with its own language."""
    learner = begin(job, world, print).learner
    assert isinstance(learner, Central)
    model = DistributedDataParallel(learner.model, find_unused_parameters=True)
    lang = ("aa", "bb")[world.rank]
    batch = learner.examples.batch(world.share(taking_turns(learner)))
    logits, _ = model(batch.x, batch.lengths, lang=lang)
    rows = [row[:length] for row, length in zip(logits, batch.lengths.tolist(), strict=True)]
    total = learner.weight(taking_turns(learner))
    loss = torch.nn.functional.cross_entropy(torch.cat(rows), batch.targets.long(), reduction="sum") / total
    loss.backward()
    return {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}


def process(rank: int, folder: Path, job: Job) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    world = World(rank, 2)
    torch.save((gradients_of(job, world), averaged(job, world)), folder / f"gradients-{rank}")
    world.leave()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gradients, list[tuple[Gradients, Gradients]]]:
    folder = tmp_path_factory.mktemp("two")
    job = make_job(folder)
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=process, args=(rank, folder, job)) for rank in range(2)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(100)
        assert one.exitcode == 0
    return gradients_of(job, World()), [torch.load(folder / f"gradients-{rank}") for rank in range(2)]


def test_each_process_gets_the_gradient_of_one(found: tuple[Gradients, list[tuple[Gradients, Gradients]]]) -> None:
    alone, both = found
    assert {name.split(".")[1] for name in alone} >= {
        "hidden_1",
        "hidden_3_aa",
        "hidden_3_bb",
        "output_aa",
        "output_bb",
    }
    for gradients, _ in both:
        assert gradients.keys() == alone.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, alone[name], rtol=1e-6, atol=1e-6 * float(alone[name].abs().max()))


def test_an_average_over_processes_would_halve_it(found: tuple[Gradients, list[tuple[Gradients, Gradients]]]) -> None:
    alone, both = found
    for _, gradients in both:
        for name in ("layers.output_aa.weight", "layers.hidden_3_bb.weight", "layers.hidden_1.weight"):
            torch.testing.assert_close(gradients[name] * 2, alone[name], rtol=1e-4, atol=1e-7)
