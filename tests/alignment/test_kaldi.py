"""The packages load together in any order, and are refused in versions that would hang."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import pytest

from thaw.alignment import kaldi
from thaw.errors import UserError

MODULES = ("kaldi_hmm_gmm", "kaldifst", "kaldilm", "kaldi_native_fbank")
LOADING = "import faulthandler; faulthandler.dump_traceback_later(20, exit=True)\nimport {}\nprint('loaded')"
USING = """
import faulthandler; faulthandler.dump_traceback_later(20, exit=True)
import {}
fst = kaldifst.compile("0 1 2 1\\n1\\n")
t = kaldi_hmm_gmm.HmmTopology()
t.read("<Topology> <TopologyEntry> <ForPhones> 1 </ForPhones> <State> 0 <PdfClass> 0 <Transition> 0 0.5 "
       "<Transition> 1 0.5 </State> <State> 1 </State> </TopologyEntry> </Topology>")
classes = t.get_phone_to_num_pdf_classes()
tree = kaldi_hmm_gmm.monophone_context_dependency(phones=t.phones, phone2num_pdf_classes=classes)
tm = kaldi_hmm_gmm.TransitionModel(ctx_dep=tree, hmm_topo=t)
kaldi_hmm_gmm.add_self_loops(self_loop_scale=0.1, trans_model=tm, ifst=fst)
print('loaded')
"""


@pytest.mark.parametrize(
    "first", ["kaldifst, kaldi_hmm_gmm", "kaldi_hmm_gmm, kaldifst", "torch, kaldifst, kaldi_hmm_gmm"]
)
def test_one_package_takes_the_graphs_of_another_whatever_was_imported_first(first: str) -> None:
    done = subprocess.run([sys.executable, "-c", USING.format(first)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "loaded\n", done.stderr


def test_packages_load_in_any_order() -> None:
    orders = [order for order in permutations(MODULES) if order[0] in MODULES[1:3]][::3]
    for order in orders:
        code = LOADING.format(", ".join(order))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout == "loaded\n", (order, done.stderr)


def test_importing_the_room_loads_no_kaldi() -> None:
    code = (
        "import sys, pkgutil, importlib, thaw.alignment\n"
        "for each in pkgutil.iter_modules(thaw.alignment.__path__):\n"
        "    importlib.import_module(f'thaw.alignment.{each.name}')\n"
        f"print(sorted(set(sys.modules) & {set(MODULES)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_a_version_that_would_hang_is_refused_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaldi, "version", lambda name: "1.8.3" if name == "kaldifst" else kaldi.PINS[name])
    with pytest.raises(UserError, match=r"kaldifst 1\.8\.3 is installed, but alignments need 1\.7\.17"):
        kaldi._load.__wrapped__("kaldifst")
