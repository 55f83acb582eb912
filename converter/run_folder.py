"""A run folder: the argument of every command. Standard library only.

RUN/artifact.json    what this is: spec, detector, model name, where the data came from, what was measured
RUN/float.pt         trained float checkpoint            RUN/qat.pt       after quantization-aware training
RUN/model.onnx       ONNX with Q/DQ nodes                RUN/vectors.npz  PCM, features, fake-quant outputs per layer
RUN/network.py       the file of a network of one's own, as it was when trained; no command runs it from here
RUN/firmware/        what `converter convert` generates  RUN/build/       firmware images built from it
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from converter.checked import (
    Anything,
    Fields,
    Items,
    Maybe,
    Named,
    Real,
    Rule,
    Text,
    Whole,
    check,
    json_in,
    rule_of,
    shown,
)
from converter.files import finish_set, write_atomic
from converter.spec import DetectorSpec, KwsSpec, SpecError

NETWORK_FILE = "network.py"


@dataclass(frozen=True)
class OwnNetwork:
    """Where a network of one's own came from: the file's name, the class in it, the SHA-256 of the file."""

    file: str
    name: str
    sha256: str


_VALIDATED: dict[str, Rule] = {"validation_accuracy": Real(0, 1), "validation_loss": Real(), "validation_n": Whole()}
_RULE = Fields(
    {
        "spec": Named(Anything()),
        "spec_id": Text(),
        "detector": Named(Anything()),
        "model": Text(100),
        "data": Text(),
        "seed": Whole(),
        "results": Fields(
            {},
            {
                "parameters": Whole(),
                "train": Fields({**_VALIDATED, "settings": Named(Anything())}),  # which the trainer checks
                "qat": Fields(_VALIDATED),
                "prune": Fields({**_VALIDATED, "kind": Text(), "parameters": Whole(), "nonzero": Whole()}),
                "evaluation": Fields({"engines": Named(Named(Fields({"accuracy": Real(0, 100), "n": Whole()})))}),
                "operating_point": Fields(
                    {
                        **{"hours": Real(), "left_out": Items(Fields({"source": Text(), "hours": Real()}))},
                        **{"validation_words": Whole(), "miss_rate_at": Named(Real(0, 1))},
                    }
                ),
            },
        ),
    },
    {"network": Maybe(rule_of(OwnNetwork))},
)


class ArtifactError(ValueError):
    """A run folder that cannot be used; the message says where, which rule, what came and how to mend it."""


@dataclass(frozen=True)
class ModelArtifact:
    """The facts of a run folder. `data` is "synthetic" or a description of the recordings; results are JSON values."""

    path: Path
    spec: KwsSpec
    detector: DetectorSpec
    model: str
    data: str
    seed: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    network: OwnNetwork | None = None

    @property
    def is_smoke_test(self) -> bool:
        """True when trained on synthetic speech: its scores are printed as a smoke test, never as an accuracy."""
        return self.data == "synthetic"

    @property
    def float_checkpoint(self) -> Path:
        """Weights before quantization."""
        return self.path / "float.pt"

    @property
    def qat_checkpoint(self) -> Path:
        """Weights behind quantization-aware training."""
        return self.path / "qat.pt"

    @property
    def onnx(self) -> Path:
        """The QDQ model."""
        return self.path / "model.onnx"

    @property
    def vectors(self) -> Path:
        """Inputs with the outputs that training computed."""
        return self.path / "vectors.npz"

    @property
    def firmware(self) -> Path:
        """The generated C."""
        return self.path / "firmware"

    def with_results(self, **results: Any) -> ModelArtifact:
        """A copy with these results added or replaced; not saved."""
        return replace(self, results={**self.results, **results})

    def to_bytes(self) -> bytes:
        """What artifact.json holds."""
        raw = {
            "spec": asdict(self.spec),
            "spec_id": self.spec.spec_id,
            "detector": asdict(self.detector),
            "model": self.model,
            "data": self.data,
            "seed": self.seed,
            "results": self.results,
        }
        if self.network is not None:
            raw["network"] = asdict(self.network)
        return (json.dumps(raw, indent=1, sort_keys=True) + "\n").encode()

    def save(self) -> ModelArtifact:
        """Writes artifact.json, and returns the artifact; raises WriteError."""
        write_atomic(self.path / "artifact.json", self.to_bytes())
        return self

    @staticmethod
    def load(path: Path | str, older_detector: bool = False) -> ModelArtifact:
        """Read RUN/artifact.json; raises ArtifactError when it is missing, damaged or of another spec.

        older_detector: one of the kind before evidence is no error, the untuned detector stands in for it.
        """
        folder = Path(path)
        file = folder / "artifact.json"
        try:
            finish_set(folder)
        except OSError as error:
            raise ArtifactError(
                f"{folder}: what a killed command wrote cannot be put in place ({error.strerror}); mend the rights"
            ) from None
        if not file.is_file():
            raise ArtifactError(
                f"{folder}: no artifact.json, so this is no run folder; make one with `python -m trainer train`"
            )
        try:
            raw = json_in(file)
            check("", raw, _RULE)
            spec = KwsSpec.from_json(raw["spec"])
            detector = _detector(file, raw["detector"], spec, older_detector)
            facts = {key: raw[key] for key in ("model", "data", "seed", "results")}
            network = OwnNetwork(**raw["network"]) if raw.get("network") else None
            found = ModelArtifact(path=folder, spec=spec, detector=detector, network=network, **facts)
        except ArtifactError:
            raise
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be read ({error.strerror}); mend its rights or restore it") from None
        except ValueError as error:
            raise ArtifactError(f"{file}: damaged ({error}); train again or restore it") from None
        if raw["spec_id"] != spec.spec_id:
            raise ArtifactError(
                f"{file}: spec_id is {raw['spec_id'][:40]}, its spec hashes to {spec.spec_id}; it was edited by hand"
            )
        return found


def _detector(file: Path, raw: dict[str, Any], spec: KwsSpec, older: bool) -> DetectorSpec:
    if "threshold" in raw:
        if older:
            return DetectorSpec.untuned(len(spec.words))
        raise ArtifactError(
            f"{file}: its detector is of an older kind (threshold {shown(raw['threshold'])} of a mean score); choose "
            f"one anew with `python -m trainer qat {file.parent}`"
        )
    detector = DetectorSpec.from_json(raw)
    if len(detector.thresholds) != len(spec.words):
        raise SpecError(f"DetectorSpec: {len(detector.thresholds)} thresholds for {len(spec.words)} words")
    return detector
